import IR
import Operators
import Quantizer
import Runtime
import Testing

/// A constant that one operator reads as data and another as its weight: an embedding that the last
/// layer reads too.
@Suite struct TiedWeightTests {
  private let rows: [Float] = [0.5, -1, 0.25, 2, 0.125, -1.5, -0.03, 0.02, 0.01, 1, 1, -1]

  private func network(axis: Int = 0, product: Bool = false) throws -> Graph {
    let last =
      product
      ? "%y: float32[2, 4] = MatMul(%g, %table) {transpose_in0: false, transpose_in1: true} \"last\""
      : "%y: float32[2, 4] = FullyConnected(%g, %table) \"last\""
    return try graph(
      """
      graph "tied" {
        input %x: float32[2, 3]
        const %table: float32[4, 3] = [\(rows.map { "\($0)" }.joined(separator: ", "))]
        const %i: int64[2] = [1, 2]
        %e: float32[2, 3] = Gather(%table, %i) {axis: 0} "embed"
        %g: float32[2, 3] = ElementWiseAdd(%x, %e) "add"
        \(last)
        output %y
      }
      """)
  }

  private func run(_ backend: any Backend, _ graph: Graph) throws -> [Float] {
    let worker = try backend.prepare(graph, options: PlanOptions()).makeWorker()
    return try worker.run([Bytes([Float]([0.5, -0.25, 0.75, -1, 0.125, 1]))], tap: nil).flatMap {
      $0.array(of: Float.self)
    }
  }

  @Test(arguments: [(8, false), (8, true), (16, false), (16, true)], [false, true])
  func theWeightKeepsItsEncoding(_ kind: (bits: Int, perRow: Bool), _ product: Bool) throws {
    let network = try network(product: product)
    let result = try annotated(
      network, ["x": (-1, 1), "e": (-1.5, 2), "g": (-2.5, 3), "y": (-6, 8)]
    ) {
      $0.actBitwidth = kind.bits
      $0.perRow = kind.perRow
    }
    let table = try result.graph.find("table")
    #expect(table.encoding?.bitwidth == 8)
    #expect(table.encoding?.axis == (kind.perRow ? 0 : nil))
    let fixed = try result.materialized()
    #expect(fixed.verify() == [])
    // One grid serves both uses: the values are stored once, what is gathered has the weight's grid.
    #expect(fixed.tensors.count { $0.constant?.type.count == 12 } == (kind.perRow ? 2 : 1))
    let twice = result.notes.filter { $0.code == "weight-stored-twice" }
    #expect(twice.map(\.location.tensor) == (kind.perRow ? ["table"] : []))
    if !kind.perRow {
      #expect(try fixed.find("e").encoding == table.encoding)
      #expect(fixed.nodes.contains { $0.op.typeName == "Convert" } == (kind.bits == 16))
    }
    let expected = try run(ReferenceBackend(), network)
    for backend in [ReferenceBackend(), OneDNNBackend()] as [any Backend] {
      for (a, b) in zip(try run(backend, fixed), expected) {
        #expect(abs(a - b) < 0.12, "\(kind) \(a) \(b)\n\(fixed.text(inlineLimit: 16))")
      }
    }
  }

  /// What is decided about the data, or about the weight's width, leaves two tensors.
  @Test(arguments: ["given", "float", "width", "narrow"])
  func otherDecisionsKeepTwo(kind: String) throws {
    var network = try network()
    let e = try #require(network.tensor(named: "e"))
    switch kind {
    case "given":
      network[e].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.02, offset: -128)])
      (network[e].encodingSource, network[e].state) = (.override, .given)
    case "float": network[e].state = .float
    case "width": network[e].bitwidth = 16
    default: break
    }
    let result = try annotated(network, ["x": (-1, 1), "e": (-1.5, 2), "g": (-2.5, 3), "y": (-6, 8)]) {
      if kind == "narrow" { $0.weightsBitwidth = 4 }
    }
    let fixed = try result.materialized()
    #expect(fixed.verify() == [])
    #expect(fixed.tensors.count { $0.constant?.type.count == 12 } == (kind == "float" ? 1 : 2))
    if kind != "float" { #expect(result.notes.contains { $0.code == "weight-stored-twice" }) }
    if kind == "given" { #expect(try fixed.find("e").encoding == network[e].encoding) }
  }

  /// A weight with a given encoding shares it with the data.
  @Test func givenWeightsAreShared() throws {
    var network = try network()
    let table = try #require(network.tensor(named: "table"))
    network[table].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.02, offset: -100)])
    (network[table].encodingSource, network[table].state) = (.override, .given)
    let result = try annotated(network, ["x": (-1, 1), "g": (-2.5, 3), "y": (-6, 8)])
    #expect(try result.graph.find("e").encoding == network[table].encoding)
    #expect(try result.graph.find("e").encodingSource == .spread)
    #expect(try result.materialized().tensors.count { $0.constant?.type.count == 12 } == 1)
  }
}
