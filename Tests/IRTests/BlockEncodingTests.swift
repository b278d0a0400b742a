import IR
import Operators
import Testing

/// A small generator with a seed, so that failures repeat.
private struct Random: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// The index of an element's grid, from its coordinates.
private func gridIndex(_ encoding: Encoding, _ element: Int, _ shape: [Int]) -> Int {
  guard let axis = encoding.axis else { return 0 }
  var coordinates = [Int](repeating: 0, count: shape.count)
  var rest = element
  for position in shape.indices.reversed() {
    coordinates[position] = rest % shape[position]
    rest /= shape[position]
  }
  guard let blocks = encoding.blocks else { return coordinates[axis] }
  return coordinates[axis] * blocks.count(length: shape[blocks.axis])
    + coordinates[blocks.axis] / blocks.size
}

private func randomEncoding(_ shape: [Int], _ random: inout Random) -> Encoding {
  let symmetric = Bool.random(using: &random)
  let bitwidth = [2, 3, 4, 8, 16, 24].randomElement(using: &random) ?? 8
  let steps = (1 << bitwidth) - 1
  var encoding = Encoding(
    bitwidth: bitwidth, symmetric: symmetric, channels: [],
    codeMin: Int.random(in: 0...1, using: &random))
  var count = 1
  if !shape.isEmpty, Int.random(in: 0..<5, using: &random) > 0 {
    let axis = Int.random(in: shape.indices, using: &random)
    encoding.axis = axis
    count = shape[axis]
    if let other = shape.indices.filter({ $0 != axis }).randomElement(using: &random),
      Int.random(in: 0..<4, using: &random) > 0
    {
      let size = Int.random(in: 1...shape[other], using: &random)
      encoding.blocks = EncodingBlocks(axis: other, size: size)
      count *= encoding.blocksPerChannel(shape: shape)
    }
  }
  encoding.channels = (0..<count).map { _ in
    ScaleOffset(
      scale: Float.random(in: 0.01...2, using: &random),
      offset: Int32(symmetric ? -(1 << (bitwidth - 1)) : -Int.random(in: 0...steps, using: &random)))
  }
  return encoding
}

@Suite struct BlockEncodings {
  @Test(arguments: 0..<300)
  func everyElementUsesItsOwnGrid(seed: UInt64) throws {
    var random = Random(state: seed)
    let shape = (0..<Int.random(in: 0...4, using: &random)).map { _ in
      Int.random(in: 1...7, using: &random)
    }
    let encoding = randomEncoding(shape, &random)
    #expect(encoding.problem(shape: shape) == nil)
    let count = shape.reduce(1, *)
    let odd: [Float] = [.nan, .infinity, -.infinity, 0, -0.0, 1e30, -1e30]
    let values = (0..<count).map { (element: Int) -> Float in
      let grid = encoding.channels[gridIndex(encoding, element, shape)]
      switch Int.random(in: 0..<8, using: &random) {
      case 0: return odd.randomElement(using: &random) ?? 0
      case 1: return grid.scale * (Float(Int.random(in: -9...9, using: &random)) + 0.5)
      default: return Float.random(in: -40...40, using: &random)
      }
    }
    let codes = values.enumerated().map { element, value in
      encoding.channels[gridIndex(encoding, element, shape)]
        .quantize(value, codeMin: encoding.codeMin, codeMax: encoding.codeMax)
    }
    let expected = codes.enumerated().map { element, code in
      encoding.channels[gridIndex(encoding, element, shape)].dequantize(code)
    }
    var simulated = values
    values.withUnsafeBufferPointer { source in
      simulated.withUnsafeMutableBufferPointer { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        encoding.simulate(from, into: to, shape: shape)
      }
    }
    #expect(simulated.map(\.bitPattern) == expected.map(\.bitPattern))
    let bytes = encoding.quantized(values, shape: shape)
    let stored = Constant(type: TensorType(encoding.storage, shape), bytes: bytes)
    #expect(stored.integers() == codes.map { $0 + encoding.storageShift })
    let back = encoding.dequantized(stored.integers() ?? [], shape: shape)
    #expect(back.map(\.bitPattern) == expected.map(\.bitPattern))
    #expect(encoding.dequantized(stored).map(\.bitPattern) == expected.map(\.bitPattern))
  }

  @Test func runsCoverTheTensorInOrder() {
    let encoding = Encoding(
      bitwidth: 4, symmetric: true, axis: 0, blocks: EncodingBlocks(axis: 1, size: 2),
      channels: [ScaleOffset](repeating: ScaleOffset(scale: 1, offset: -8), count: 6))
    var runs: [[Int]] = []
    encoding.forEachChannelRun(shape: [2, 5, 1]) { runs.append([$0, $1, $2]) }
    #expect(runs == [[0, 0, 2], [1, 2, 2], [2, 4, 1], [3, 5, 2], [4, 7, 2], [5, 9, 1]])
    runs = []
    encoding.forEachChannelRun(shape: [0, 5]) { runs.append([$0, $1, $2]) }
    #expect(runs == [])
  }

  @Test func lowPowerScalesAreProducts() {
    let scales = LowPowerScales(
      channelScales: [0.0125, 0.025], factors: [16, 8, 16, 12], decompressedBitwidth: 8)
    let encoding = Encoding(bitwidth: 4, axis: 0, blockAxis: 1, blockSize: 2, lowPower: scales)
    #expect(encoding.problem(shape: [2, 4]) == nil)
    let expected: [Float] = [0.2, 0.1, 0.4, 0.3]
    #expect(zip(encoding.channels, expected).allSatisfy { abs($0.scale - $1) < 1e-6 })
    #expect(encoding.channels.allSatisfy { $0.offset == -8 })
    #expect(encoding.granularity == .lowPowerBlocks)
    #expect(encoding.largestScale(channel: 1, of: 2) == encoding.channels[2].scale)
  }

  @Test func problems() {
    let sound = Encoding(
      bitwidth: 4, axis: 0, blockAxis: 1, blockSize: 2,
      lowPower: LowPowerScales(
        channelScales: [0.5, 0.25], factors: [16, 8, 3, 1], decompressedBitwidth: 8))
    #expect(sound.problem(shape: [2, 4]) == nil)
    func check(_ message: String, _ change: (inout Encoding) -> Void) {
      var encoding = sound
      change(&encoding)
      #expect(encoding.problem(shape: [2, 4]) == message)
    }
    check("block axis 2 is outside the shape") { $0.blocks?.axis = 2 }
    check("axis 0 is both channel axis and block axis") { $0.blocks?.axis = 0 }
    check("blocks of 0 elements on an axis of 4") { $0.blocks?.size = 0 }
    check("blocks of 5 elements on an axis of 4") { $0.blocks?.size = 5 }
    check("4 block encodings for 2 channels of 4 blocks") { $0.blocks?.size = 1 }
    check("blocks without a channel axis") { $0.axis = nil }
    check("1 channel scales for 2 channels") { $0.blocks?.lowPower?.channelScales = [1] }
    check("3 factors for 4 blocks") { $0.blocks?.lowPower?.factors = [1, 2, 3] }
    check("factor 17 is outside 1 to 16") { $0.blocks?.lowPower?.factors[3] = 17 }
    check("factor 0 is outside 1 to 16") { $0.blocks?.lowPower?.factors[0] = 0 }
    check("scale nan is not positive and finite") { $0.blocks?.lowPower?.channelScales[1] = .nan }
    check("4 bits cannot be decompressed to 4") { $0.blocks?.lowPower?.decompressedBitwidth = 4 }
    check("low-power blocks that are not symmetric") { $0.symmetric = false }
    check("the scales of the blocks are not those of the channels times the factors") {
      $0.channels[2].scale = 1
    }
  }

  @Test func textRoundTrips() throws {
    let text = """
      graph "g" {
        input %x: float32[1, 4]
        const %w: float32[2, 4] <bw 4; symmetric; axis 0; block 1 3; grid 0.5 -8 0.25 -8 1e-05 -8 2.0 -8; from override> !given = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        const %v: float32[4, 2] <bw 4; symmetric; codes 1 15; axis 0; block 1 2; expanded 8; scale 0.5 0.25 1.0 2.0; factor 16 1 7 3; from source> !given = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        %y: float32[1, 2] = FullyConnected(%x, %w) "fc"
        %z: float32[1, 4] = FullyConnected(%y, %v) "last"
        output %z
      }

      """
    let graph = try Graph(text: text, registry: .standard)
    #expect(graph.verify().map(\.message) == [])
    #expect(graph.text() == text)
  }

  @Test(arguments: [
    "block 1", "block 1 x", "expanded 8; scale 1; factor 1", "block 1 2; expanded 8; factor 1 2",
    "block 1 2; expanded 8; scale 1 2; factor 1 2 3",
  ])
  func brokenBlocksAreDiagnostics(part: String) {
    #expect(throws: Diagnostic.self) {
      try Graph(text: "graph \"g\" { input %x: float32[2, 4] <bw 4; axis 0; \(part)> }", registry: .standard)
    }
  }
}
