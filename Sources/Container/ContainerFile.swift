import IR

/// The text of `dlc.metadata`, which Netron shows.
public struct ContainerMetadata: Sendable, Hashable {
  /// The user's version of the model.
  public var modelVersion: String
  /// `qtools` and the options that change the result.
  public var converterCommand: String
  /// Version of the program that wrote the file.
  public var converterVersion: String
  /// Copyright or licence text; the only value that may have several lines.
  public var modelCopyright: String

  /// Makes metadata; everything may be empty.
  public init(
    modelVersion: String = "", converterCommand: String = "", converterVersion: String = "",
    modelCopyright: String = ""
  ) {
    self.modelVersion = modelVersion
    self.converterCommand = converterCommand
    self.converterVersion = converterVersion
    self.modelCopyright = modelCopyright
  }
}

/// What `qtools.json` records beyond what the graph holds.
public struct ContainerAnnotations: Sendable, Hashable {
  /// Options that changed the result, by name.
  public var options: [String: String]
  /// Hash of the source model.
  public var modelHash: String?
  /// Sum of the calibration samples' hashes.
  public var calibrationHash: String?
  /// Number of calibration samples.
  public var calibrationCount: Int?

  /// Makes annotations; by default there are none.
  public init(
    options: [String: String] = [:], modelHash: String? = nil, calibrationHash: String? = nil,
    calibrationCount: Int? = nil
  ) {
    self.options = options
    self.modelHash = modelHash
    self.calibrationHash = calibrationHash
    self.calibrationCount = calibrationCount
  }
}

/// A member of the archive that is not ours and is passed on untouched.
public struct ForeignMember: Sendable {
  /// Name in the archive.
  public var name: String
  /// Content, inflated.
  public var bytes: Bytes

  /// Makes a member from its content.
  public init(name: String, bytes: Bytes) {
    self.name = name
    self.bytes = bytes
  }
}

/// Everything a container holds.
public struct ContainerFile: Sendable {
  public var graph: Graph
  public var metadata: ContainerMetadata
  public var annotations: ContainerAnnotations
  /// Members that are not ours, in archive order.
  public var foreignMembers: [ForeignMember]

  /// Makes the content of a container.
  public init(
    graph: Graph, metadata: ContainerMetadata = ContainerMetadata(),
    annotations: ContainerAnnotations = ContainerAnnotations(),
    foreignMembers: [ForeignMember] = []
  ) {
    self.graph = graph
    self.metadata = metadata
    self.annotations = annotations
    self.foreignMembers = foreignMembers
  }
}

/// A line of the archive's directory.
public struct ContainerMember: Sendable, Hashable {
  public let name: String
  /// Bytes of the content.
  public let size: Int
  /// Bytes in the file; less than ``size`` for deflated members.
  public let storedSize: Int
  /// First byte of the data in the file.
  public let dataOffset: Int
  /// Whether it is one of the members this format defines.
  public let isKnown: Bool
}

/// What can be told about a container without reading its weights.
public struct ContainerSummary: Sendable {
  /// The graph; its static tensors have no constants (see ``staticTensors``), so it cannot be
  /// verified or run.
  public let graph: Graph
  /// Tensors whose values are in `model.params`.
  public let staticTensors: [TensorID]
  public let metadata: ContainerMetadata
  public let annotations: ContainerAnnotations
  public let members: [ContainerMember]
}

/// Names of the members this format defines.
enum MemberName {
  static let metadata = "dlc.metadata"
  static let model = "model"
  static let parameters = "model.params"
  static let bin = "model.params.bin"
  static let sidecar = "qtools.json"
  /// In the order they are written.
  static let all = [metadata, model, parameters, bin, sidecar]
}
