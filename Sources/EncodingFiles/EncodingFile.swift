import IR

/// The layouts of encodings files that AIMET has had.
/// Source: AIMET's encoding specification pages and aimet-onnx 2.42.0's writer, loader and validator.
public enum EncodingGeneration: String, Sendable, Hashable, CaseIterable {
  /// 0.4 to 0.6.1: two objects by tensor name, a list of objects a tensor.
  case keyed = "0.6.1"
  /// 1.0.0: two lists of objects with a name.
  case listed = "1.0.0"
  /// 2.0.0 and 2.1.0: one list in the terms of ONNX's QuantizeLinear.
  case onnx = "2.0.0"
}

/// What one file says of one tensor, in one form for all generations.
public struct EncodingEntry: Sendable, Hashable {
  /// The part of the file it stands in.
  public enum Section: String, Sendable, Hashable {
    case activation, param
    /// 2.0.0 has one list for both.
    case any
  }

  /// Integer or floating point.
  public enum Kind: String, Sendable, Hashable { case int, float }

  /// What has a grid of its own.
  public enum Granularity: Sendable, Hashable {
    case perTensor
    case perChannel
    /// ``grids`` are in the order [channel][block].
    case perBlock
    /// Low-power blockwise: a scale a channel, an integer factor a block; ``grids`` hold the products.
    case lowPowerBlocks(LowPowerBlocks)
  }

  /// The parts of a low-power blockwise encoding.
  public struct LowPowerBlocks: Sendable, Hashable {
    /// Scale of each channel.
    public var channelScales: [Float]
    /// Factor of each block, in the order [channel][block].
    public var factors: [Int]
    /// Width of the codes after the factors are multiplied in.
    public var decompressedBitwidth: Int

    /// Makes the record.
    public init(channelScales: [Float], factors: [Int], decompressedBitwidth: Int) {
      self.channelScales = channelScales
      self.factors = factors
      self.decompressedBitwidth = decompressedBitwidth
    }
  }

  /// Name of the tensor, or a pattern.
  public var name: String
  public var section: Section
  public var kind: Kind
  /// Bits of a stored code; of a float.
  public var bitwidth: Int
  public var granularity: Granularity
  /// Grids on the unsigned codes; empty where only the precision is given, and for floats.
  public var grids: [ScaleOffset]
  /// Whether all grids are symmetric about zero.
  public var symmetric: Bool
  /// Whether the lowest code of the symmetric grids is not in use.
  public var strict: Bool
  /// Channel axis of the source's tensor (block axis where there are blocks), where the file tells.
  public var axis: Int?
  /// Elements a block.
  public var blockSize: Int?
  /// Shape in which the file nests the scales of blocks, where it tells.
  public var blockShape: [Int]?
  /// Where it stands in the file, as JSON path.
  public var path: String

  /// Whether the file gives an integer width and leaves the range to calibration.
  public var isPrecisionOnly: Bool { kind == .int && grids.isEmpty }

  /// Whether both give a tensor the same, whatever they call it.
  public func isEquivalent(to other: EncodingEntry) -> Bool {
    kind == other.kind && bitwidth == other.bitwidth && granularity == other.granularity
      && grids == other.grids && symmetric == other.symmetric && strict == other.strict
  }

  /// Makes an entry; without grids it gives a precision only.
  public init(
    name: String, section: Section, kind: Kind = .int, bitwidth: Int,
    granularity: Granularity = .perTensor, grids: [ScaleOffset] = [], symmetric: Bool = false,
    strict: Bool = false, axis: Int? = nil, blockSize: Int? = nil, blockShape: [Int]? = nil,
    path: String = ""
  ) {
    self.name = name
    self.section = section
    self.kind = kind
    self.bitwidth = bitwidth
    self.granularity = granularity
    self.grids = grids
    self.symmetric = symmetric
    self.strict = strict
    self.axis = axis
    self.blockSize = blockSize
    self.blockShape = blockShape
    self.path = path
  }
}

/// The content of an encodings file.
public struct EncodingFile: Sendable, Hashable {
  /// Which layout it has (or is to have).
  public var generation: EncodingGeneration
  /// The version it names, `0.4.0` where it names none.
  public var version: String
  /// In the order of the file.
  public var entries: [EncodingEntry]
  /// Warnings and notes about the content.
  public var notes: [Diagnostic]

  /// Makes a file's content.
  public init(
    generation: EncodingGeneration, version: String? = nil, entries: [EncodingEntry],
    notes: [Diagnostic] = []
  ) {
    self.generation = generation
    self.version = version ?? generation.rawValue
    self.entries = entries
    self.notes = notes
  }
}
