import IR
import Testing

/// Encodings follow the axes of their tensor.
@Suite struct EncodingLayoutTests {
  private func encoding(_ count: Int, axis: Int) -> Encoding {
    Encoding(
      bitwidth: 8, symmetric: true, axis: axis,
      channels: (0..<count).map { ScaleOffset(scale: Float($0 + 1) / 8, offset: -128) })
  }

  @Test func aPermutationMovesTheChannelAxis() {
    #expect(encoding(4, axis: 0).permuted([2, 3, 1, 0]).axis == 3)
    #expect(encoding(4, axis: 2).permuted([2, 0, 1]).axis == 0)
  }

  /// Shapes before and after, the axis before, and after (nil: no axis can hold the channels).
  @Test(
    arguments: [
      ([4, 3, 3, 3], [4, 27], 0, 0), ([4, 27], [4, 3, 3, 3], 0, 0), ([27, 4], [3, 9, 4], 1, 2),
      ([2, 3], [1, 2, 1, 3], 1, 3), ([1, 3, 1, 1], [3], 1, 0), ([2, 3], [6], 0, 0), ([2, 3], [6], 1, 0),
      ([2, 6], [2, 3, 2], 1, nil), ([4, 6], [2, 2, 6], 0, nil), ([2, 3, 4], [24], 1, 0),
    ] as [([Int], [Int], Int, Int?)])
  func aReshapeKeepsTheGridOfEveryElement(
    _ old: [Int], _ new: [Int], _ axis: Int, _ expected: Int?
  ) throws {
    let before = encoding(old[axis], axis: axis)
    let after = before.reshaped(from: old, to: new)
    #expect(after?.axis == expected)
    guard let after else { return }
    #expect(after.problem(shape: new) == nil)
    let values = (0..<old.reduce(1, *)).map { Float($0 % 13) / 9 - 0.5 }
    var (a, b) = (values, values)
    before.simulate(values, into: &a, shape: old)
    after.simulate(values, into: &b, shape: new)
    #expect(a == b)
  }

  @Test func anEncodingThatCannotFollowIsDropped() throws {
    var tensor = Tensor(
      name: "w", type: TensorType(.float32, [4, 6]),
      constant: Constant([Float](repeating: 1, count: 24), shape: [4, 6]))
    tensor.encoding = encoding(4, axis: 0)
    tensor.encodingSource = .source
    tensor.state = .given
    let moved = try #require(tensor.reshaped([2, 2, 6], named: "v"))
    #expect(moved.encoding == nil && moved.encodingSource == nil && moved.state == .open)
    #expect(moved.constant?.type.shape == [2, 2, 6])
    let kept = try #require(tensor.permuted([1, 0], named: "v"))
    #expect(kept.encoding?.axis == 1 && kept.state == .given)
  }
}
