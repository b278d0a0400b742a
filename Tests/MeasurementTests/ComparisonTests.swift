import IR
import Quantizer
import Runtime
import Testing

@testable import Measurement

@Suite("Comparing a container with its reference")
struct ComparisonTests {
  private func measure(
    _ reference: Graph, _ container: Graph, jobs: Int = 1, _ change: (inout ComparisonOptions) -> Void = { _ in }
  ) throws -> GraphComparison {
    var options = ComparisonOptions()
    options.recordedOptions = ["bias_bitwidth": "32"]
    change(&options)
    return try GraphComparison.measure(
      reference: reference, container: container, options: options, samples: samples(container, jobs: jobs))
  }

  /// Every view against a run by hand.
  @Test(arguments: [1, 2, 3] as [UInt64]) func viewsFollowTheirDefinitions(seed: UInt64) throws {
    let float = try convolutions(seed: seed)
    let set = samples(float)
    let result = try quantized(float, set)
    let fixed = try result.materialized()
    let found = try measure(float, fixed)
    #expect(found.tensors.map(\.name) == ["x", "r1", "c2", "y"])
    #expect(found.match.insideFusedPairs == ["c1"])
    #expect(found.views == [.isolation, .atOnce, .layerByLayer])
    for name in ["x", "r1", "c2", "y"] {
      let reference = try values(float, name, set, simulate: false)
      let atOnce = naiveSQNR(reference, try values(fixed, name, set, simulate: true))
      #expect(abs(try found.errors(name, .atOnce).sqnr - atOnce) < 1e-6)
      let id = try #require(fixed.tensor(named: name))
      let encoding = try #require(fixed[id].encoding)
      var alone = reference
      encoding.simulate(reference, into: &alone, count: alone.count)
      #expect(abs(try found.errors(name, .isolation).sqnr - naiveSQNR(reference, alone)) < 1e-6)
    }
    #expect(try found.row("y").isOutput)
    let outputs = try #require(found.outputSQNR(.atOnce))
    #expect(abs(outputs - (try found.errors("y", .atOnce).sqnr)) < 1e-9)
  }

  /// A container that was calibrated in order is what the third view makes of one that was not.
  @Test func layerByLayerIsSequentialCalibration() throws {
    let float = try convolutions(seed: 9)
    let set = samples(float)
    var options = QuantizerOptions()
    options.biasBitwidth = 32
    options.actBitwidth = 8
    options.weightsBitwidth = 4
    let statistics = try observe(
      float, backend: set.backend, sampleCount: set.count, load: set.load, jobs: 1)
    let once = try assignEncodings(float, statistics: statistics, options: options).materialized()
    let ordered = try observeSequentially(
      float, float: statistics, options: options, backend: set.backend, sampleCount: set.count, load: set.load,
      jobs: 1)
    let sequential = try assignEncodings(float, statistics: ordered, options: options).materialized()
    let found = try measure(float, once)
    for name in ["r1", "c2", "y"] {
      let reference = try values(float, name, set, simulate: false)
      let expected = naiveSQNR(reference, try values(sequential, name, set, simulate: true))
      let measured = try found.errors(name, .layerByLayer).sqnr
      #expect(abs(measured - expected) < 0.05, "\(name)")
    }
    #expect(try found.row("y").errors[.layerByLayer] != found.row("y").errors[.atOnce])
  }

  /// Scaling channels changes nothing that is seen, but for the grids.
  @Test func channelScalesAreDividedOut() throws {
    let float = try convolutions(seed: 4)
    var scaled = float
    let scales: [Float] = [2, 0.5, 8, 0.25]
    scaled.channelScales = ["r1": scales]
    func scale(_ name: String, _ factor: (Int) -> Float) throws {
      let id = try #require(scaled.tensor(named: name))
      let constant = try #require(scaled[id].constant)
      scaled[id].constant = Constant(
        constant.floats().enumerated().map { $0.element * factor($0.offset) }, shape: constant.type.shape)
    }
    try scale("w1") { scales[$0 % 4] }
    try scale("b1") { scales[$0] }
    try scale("w2") { 1 / scales[$0 / 5] }
    let found = try measure(float, scaled)
    for row in found.tensors { #expect(try found.errors(row.name, .atOnce).sqnr > 120, "\(row.name)") }
    for row in found.parameters {
      #expect(row.errors?.sqnr == .infinity, "\(row.name)")
      #expect(row.isScaled == ["w1", "b1", "w2"].contains(row.name))
    }
    let fixed = try quantized(scaled, samples(scaled)).materialized()
    let result = try measure(float, fixed) { $0.sensitivity = true }
    #expect(try result.errors("r1", .isolation).sqnr > 25)
    #expect((try result.row("r1").sensitivity?.aloneSQNR ?? 0) > 20)
  }

  /// What absorption moved into the next bias is no error, behind scaled channels too.
  @Test func absorbedBiasesAreMovedBack() throws {
    var float = try convolutions(seed: 9)
    func edit(_ graph: inout Graph, _ name: String, _ change: (Int, Float) -> Float) throws {
      let id = try #require(graph.tensor(named: name))
      let constant = try #require(graph[id].constant)
      graph[id].constant = Constant(
        constant.floats().enumerated().map { change($0.offset, $0.element) }, shape: constant.type.shape)
    }
    // So high that Relu cuts nothing, after absorption neither.
    try edit(&float, "b1") { $1 + 20 + Float($0) }
    var moved = float
    let (scales, shifts): ([Float], [Float]) = ([2, 0.5, 4, 0.25], [24, 5, 30, 0])
    try edit(&moved, "w1") { $1 * scales[$0 % 4] }
    try edit(&moved, "b1") { $1 * scales[$0] - shifts[$0] }
    try edit(&moved, "w2") { $1 / scales[$0 / 5] }
    let weights = try #require(moved.tensor(named: "w2").flatMap { moved[$0].constant }).floats()
    let added = (0..<5).map { o in (0..<4).reduce(Float(0)) { $0 + weights[$1 * 5 + o] * shifts[$1] } }
    try edit(&moved, "b2") { $1 + added[$0] }
    moved.channelScales = ["r1": scales]
    moved.channelShifts = ["r1": shifts, "b1": shifts, "b2": added.map { -$0 }]
    let found = try measure(float, moved)
    for row in found.tensors { #expect(try found.errors(row.name, .atOnce).sqnr > 90, "\(row.name)") }
    for row in found.parameters { #expect((row.errors?.sqnr ?? 0) > 90, "\(row.name)") }
    let fixed = try quantized(moved, samples(moved)).materialized()
    let result = try measure(float, fixed) { $0.sensitivity = true }
    for view in ComparisonView.allCases { #expect(try result.errors("r1", view).sqnr > 35, "\(view)") }
    #expect((try result.row("r1").sensitivity?.aloneSQNR ?? 0) > 20)
    var forgotten = fixed
    forgotten.channelShifts = [:]
    #expect(try measure(float, forgotten).errors("r1", .atOnce).sqnr < 10)
  }

  /// Channels that the container does not compute count as lost, unless they are constant in the reference.
  @Test(arguments: [true, false]) func removedChannels(isConstant: Bool) throws {
    var float = try convolutions(seed: 6)
    func edit(_ graph: inout Graph, _ name: String, _ change: (Int, Float) -> Float) throws {
      let id = try #require(graph.tensor(named: name))
      let constant = try #require(graph[id].constant)
      graph[id].constant = Constant(
        constant.floats().enumerated().map { change($0.offset, $0.element) }, shape: constant.type.shape)
    }
    if isConstant { try edit(&float, "w1") { $0 % 4 == 2 ? 0 : $1 } }
    try edit(&float, "b1") { $0 == 2 ? 0.75 : $1 }
    var removed = float
    try edit(&removed, "w1") { $0 % 4 == 2 ? 0 : $1 }
    try edit(&removed, "b1") { $0 == 2 ? 0 : $1 }
    let found = try measure(float, removed) { $0.views = [.atOnce] }
    let noise = try found.errors("r1", .atOnce).sqnr
    #expect(found.removedChannels == (isConstant ? ["r1": [2]] : [:]))
    #expect(found.notes.count == (isConstant ? 1 : 0))
    #expect(isConstant ? noise == .infinity : noise < 30)
    // Alone, on a grid that does not reach the constant, neither.
    try edit(&float, "b1") { $0 == 2 ? 400 : $1 }
    let fixed = try quantized(removed, samples(removed)).materialized()
    let alone = try measure(float, fixed) { $0.views = [.isolation] }.errors("r1", .isolation).sqnr
    #expect(isConstant ? alone > 35 : alone < 10, "\(alone)")
  }

  @Test func namesThatDifferAreReported() throws {
    let float = try convolutions()
    var other = float
    for (name, new) in [("r1", "renamed"), ("c2", "folded")] {
      let id = try #require(other.tensor(named: name))
      other[id].name = new
    }
    other.aliases["c2"] = "folded"
    let found = try measure(float, other) { $0.views = [.atOnce] }
    #expect(found.match.onlyInReference == ["r1"] && found.match.onlyInContainer == ["renamed"])
    #expect(found.tensors.map(\.name) == ["x", "c2", "y"])
    let codes = found.match.diagnostics.map(\.code)
    #expect(codes == ["not-compared", "not-compared"])
    #expect(found.match.diagnostics[0].message.contains("r1"))
  }

  @Test func shapesThatDifferAreReported() throws {
    let float = try convolutions()
    let other = try graph(
      """
      graph "c" {
        input %x: float32[1, 4, 4, 3]
        %r1: float32[1, 16, 3] = Reshape(%x) {shape: [1, 16, 3]} "r"
        %y: float32[1, 16, 3] = Relu(%r1) "y"
        output %y
      }
      """)
    let found = try measure(float, other) { $0.views = [.atOnce] }
    #expect(found.match.otherShapes.count == 2)
    #expect(found.tensors.map(\.name) == ["x"])
  }

  @Test func strangersAreRefused() throws {
    let other = try graph(
      "graph \"o\" {\n  input %q: float32[2]\n  %z: float32[2] = Relu(%q) \"z\"\n  output %z\n}")
    let float = try convolutions()
    #expect(throws: Diagnostic.self) { try measure(float, other) }
    var renamed = float
    renamed[renamed.inputs[0]].name = "elsewhere"
    #expect { try measure(renamed, float) } throws: { ($0 as? Diagnostic)?.code == "reference-input" }
    let fixed = try quantized(float, samples(float)).materialized()
    #expect { try measure(fixed, fixed) } throws: { ($0 as? Diagnostic)?.code == "reference-quantized" }
  }

  /// The same numbers, histograms too, for any number of jobs and any order of the samples.
  @Test func noOrderShows() throws {
    let float = try convolutions(seed: 2)
    let fixed = try quantized(float, samples(float)).materialized()
    var options = ComparisonOptions()
    options.histograms = true
    options.sensitivity = true
    func run(jobs: Int, reversed: Bool) throws -> GraphComparison {
      var set = samples(float, count: 9, jobs: jobs)
      let load = set.load
      if reversed { set.load = { (index) throws(Diagnostic) in try load(8 - index) } }
      return try GraphComparison.measure(reference: float, container: fixed, options: options, samples: set)
    }
    let first = try run(jobs: 1, reversed: false)
    for other in [try run(jobs: 3, reversed: false), try run(jobs: 2, reversed: true)] {
      for (a, b) in zip(first.tensors, other.tensors) {
        #expect(a.errors == b.errors && a.sensitivity == b.sensitivity && a.before == b.before && a.after == b.after)
      }
      let pages = [first, other].map { ComparisonPage.text($0, container: "a", reference: "b") }
      #expect(pages[0] == pages[1])
    }
  }

  /// One layer alone makes all the noise where it is the only one; without it nothing is left.
  @Test func sensitivityOfASingleLayer() throws {
    let float = try graph(
      """
      graph "one" {
        input %x: float32[1, 4]
        const %w: float32[3, 4] = [1, -0.3, 0.2, 0.7, 0.1, -0.9, 0.33, 0.5, 0.25, 0.8, -0.6, 0.4]
        %y: float32[1, 3] = FullyConnected(%x, %w) "fc"
        output %y
      }
      """)
    var fixed = try quantized(float, samples(float)).graph
    for index in fixed.tensors.indices where fixed.tensors[index].name == "x" {
      fixed.tensors[index].encoding = nil
      fixed.tensors[index].state = .float
    }
    let found = try measure(float, fixed) {
      $0.sensitivity = true
      $0.views = [.atOnce]
    }
    let row = try found.row("y")
    let sensitivity = try #require(row.sensitivity)
    #expect(sensitivity.share == 1 && sensitivity.withoutSQNR == .infinity)
    #expect(abs(sensitivity.aloneSQNR - (try found.errors("y", .atOnce).sqnr)) < 1e-9)
    #expect(try found.row("x").sensitivity == nil)
  }

  /// Positions that a mask takes out of a Softmax are not compared.
  @Test func maskedPositionsAreLeftOut() throws {
    let float = try graph(
      """
      graph "m" {
        input %x: float32[1, 4]
        const %mask: float32[1, 4] = [0, -1000, 0, -1000]
        %s: float32[1, 4] = ElementWiseAdd(%x, %mask) "add"
        %p: float32[1, 4] = Softmax(%s) {axis: 1, beta: 1.0} "p"
        output %p
      }
      """)
    let fixed = try quantized(float, samples(float)).materialized()
    let errors = try measure(float, fixed).errors("s", .atOnce)
    #expect(errors.count == 14 && errors.skipped == 14)
    #expect(errors.largest < 1)
  }

  /// Noise before a Softmax counts, not that of the probabilities.
  @Test func scoresStandBeforeTheSoftmax() throws {
    let float = try graph(
      """
      graph "s" {
        input %x: float32[1, 4]
        %r: float32[1, 4] = Relu(%x) "r"
        %p: float32[1, 4] = Softmax(%r) {axis: 1, beta: 1.0} "p"
        output %p
      }
      """)
    let found = try measure(float, try quantized(float, samples(float)).materialized())
    #expect(try found.row("r").isOutput)
    #expect(try !found.row("p").isOutput)
  }
}
