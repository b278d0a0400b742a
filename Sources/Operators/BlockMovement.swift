import IR

/// Whether channels are split first into blocks (DCR: depth, column, row) or into depths (CRD).
public enum BlockMode: String, Sendable {
  case depthFirst = "DCR"
  case columnFirst = "CRD"
}

/// Which way ``BlockMovement`` goes.
public protocol BlockMovementKind: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// Whether channels become pixels; otherwise pixels become channels.
  static var makesPixels: Bool { get }
}

/// Moves blocks of pixels of images [N, H, W, C] into channels or back.
/// Source: QNN operator definitions DepthToSpace, SpaceToDepth.
public struct BlockMovement<Kind: BlockMovementKind>: Operator {
  public static var typeName: String { Kind.typeName }
  /// Height and width of a block.
  public var blockSize: [Int]
  public var mode: BlockMode

  /// Makes the operator.
  public init(blockSize: [Int], mode: BlockMode = .depthFirst) {
    self.blockSize = blockSize
    self.mode = mode
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    blockSize = try attributes.ints("block_size")
    let word = try attributes.string("mode", default: "DCR")
    guard let known = BlockMode(rawValue: word) else {
      throw Diagnostic("bad-parameter", "\(Self.typeName) has no mode \(word)")
    }
    mode = known
  }
  public var attributes: [Attribute] {
    [Attribute("block_size", .ints(blockSize)), Attribute("mode", .string(mode.rawValue))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(
      x.rank == 4 && blockSize.count == 2 && blockSize.allSatisfy { (1..<(1 << 15)).contains($0) },
      "blocks of \(blockSize) do not fit \(x)")
    let (height, width) = (blockSize[0], blockSize[1])
    let area = height * width
    let shape: [Int]
    if Kind.makesPixels {
      try check(x.shape[3] % area == 0, "blocks of \(blockSize) do not fit \(x)")
      shape = [x.shape[0], x.shape[1] &* height, x.shape[2] &* width, x.shape[3] / area]
    } else {
      try check(
        x.shape[1] % height == 0 && x.shape[2] % width == 0, "blocks of \(blockSize) do not fit \(x)")
      shape = [x.shape[0], x.shape[1] / height, x.shape[2] / width, x.shape[3] &* area]
    }
    return [TensorType(x.element, shape)]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let walk = walk(small: Kind.makesPixels ? x.type.shape : outputs[0].type.shape)
    transposeBytes(
      x.bytes, shape: walk.shape, permutation: walk.permutation, width: x.type.element.byteWidth,
      into: outputs[0].bytes)
  }

  /// The operator as a permutation: the input's axes taken apart and their new order. `small` is the shape
  /// of the side with fewer pixels.
  public func walk(small: [Int]) -> (shape: [Int], permutation: [Int]) {
    let (n, h, w) = (small[0], small[1], small[2])
    let (bh, bw) = (blockSize[0], blockSize[1])
    let depth = small[3] / (bh * bw)
    return switch (Kind.makesPixels, mode) {
    case (true, .depthFirst): ([n, h, w, bh, bw, depth], [0, 1, 3, 2, 4, 5])
    case (true, .columnFirst): ([n, h, w, depth, bh, bw], [0, 1, 4, 2, 5, 3])
    case (false, .depthFirst): ([n, h, bh, w, bw, depth], [0, 1, 3, 2, 4, 5])
    case (false, .columnFirst): ([n, h, bh, w, bw, depth], [0, 1, 3, 5, 2, 4])
    }
  }
}

/// Channels become pixels.
public enum DepthToSpaceKind: BlockMovementKind {
  public static let typeName = "DepthToSpace"
  public static let makesPixels = true
}
/// Pixels become channels.
public enum SpaceToDepthKind: BlockMovementKind {
  public static let typeName = "SpaceToDepth"
  public static let makesPixels = false
}

public typealias DepthToSpace = BlockMovement<DepthToSpaceKind>
public typealias SpaceToDepth = BlockMovement<SpaceToDepthKind>

/// Takes the elements of an axis by turns from its `groups` equal parts.
/// Source: QNN operator definition ChannelShuffle.
public struct ChannelShuffle: Operator {
  public static let typeName = "ChannelShuffle"
  public var axis: Int
  public var groups: Int

  /// Makes the operator over a non-negative axis.
  public init(axis: Int, groups: Int) {
    self.axis = axis
    self.groups = groups
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
    groups = try attributes.int("num_groups")
  }
  public var attributes: [Attribute] {
    [Attribute("axis", .int(axis)), Attribute("num_groups", .int(groups))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(
      x.shape.indices.contains(axis) && groups > 0 && x.shape[axis] % groups == 0,
      "\(groups) groups do not fit axis \(axis) of \(x)")
    return [x]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    permutation.indices.contains(axis) ? ChannelShuffle(axis: permutation[axis], groups: groups) : nil
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let shape = x.type.shape
    transposeBytes(
      x.bytes,
      shape: [
        shape[..<axis].reduce(1, *), groups, shape[axis] / groups, shape[(axis + 1)...].reduce(1, *),
      ], permutation: [0, 2, 1, 3], width: x.type.element.byteWidth, into: outputs[0].bytes)
  }
}
