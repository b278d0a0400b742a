import IR

/// Reads containers. Nothing in a file is trusted; every failure names the member and, where there
/// is one, the byte.
public enum ContainerReader {
  /// Largest contents that are read, in bytes.
  static let modelLimit = 1 << 30
  static let parametersLimit = Int(Int32.max)
  static let metadataLimit = 16 << 20
  /// Members that are not ours have their checksum compared up to this size.
  static let smallMember = 64 << 20

  /// Reads the whole container. Constants are views into the mapped file and not touched, unless
  /// `checkParameters` asks for the checksum of `model.params`.
  public static func read(
    path: String, registry: OperatorRegistry, checkParameters: Bool = false
  ) throws(Diagnostic) -> ContainerFile {
    do throws(Diagnostic) {
      let archive = try OpenArchive(path: path)
      let decoder = try ModelDecoder(payload: archive.modelPayload())
      let index = try archive.parameterIndex(graph: decoder.graphName, verify: checkParameters)
      let graph = try archive.graph(decoder, registry: registry, source: .index(index)).graph
      if let broken = Diagnostic.combining(graph.verify()) { throw broken }
      return ContainerFile(
        graph: graph, metadata: archive.metadata,
        annotations: archive.sidecar?.annotations ?? ContainerAnnotations(),
        foreignMembers: try archive.foreignMembers())
    } catch {
      throw error.inFile(path)
    }
  }

  /// Reads everything but the weights: of `model.params` only the directory entry is looked at
  /// (its structure too where `qtools.json` is missing, as in other programs' files).
  public static func openInfo(path: String, registry: OperatorRegistry) throws(Diagnostic)
    -> ContainerSummary
  {
    do throws(Diagnostic) {
      let archive = try OpenArchive(path: path)
      let decoder = try ModelDecoder(payload: archive.modelPayload())
      let lists = try archive.sidecar?.listValues() ?? [:]
      if decoder.needsParameters(beyond: lists) {
        let index = try archive.parameterIndex(graph: decoder.graphName, verify: false)
        let full = try archive.graph(decoder, registry: registry, source: .index(index)).graph
        return archive.summary(of: full)
      }
      let result = try archive.graph(decoder, registry: registry, source: .lists(lists))
      return ContainerSummary(
        graph: result.graph, staticTensors: result.staticTensors, metadata: archive.metadata,
        annotations: archive.sidecar?.annotations ?? ContainerAnnotations(),
        members: archive.members)
    } catch {
      throw error.inFile(path)
    }
  }

  /// The archive's directory, in its order.
  public static func members(path: String) throws(Diagnostic) -> [ContainerMember] {
    do throws(Diagnostic) {
      return try ZipReader(MappedFile(path: path)).entries.map(ContainerMember.init)
    } catch {
      throw error.inFile(path)
    }
  }
}

extension ContainerMember {
  init(_ entry: ZipEntry) {
    self.init(
      name: entry.name, size: entry.size, storedSize: entry.storedSize,
      dataOffset: entry.dataOffset, isKnown: MemberName.all.contains(entry.name))
  }
}

/// An archive whose directory, metadata and `qtools.json` have been read.
struct OpenArchive {
  let zip: ZipReader
  let metadata: ContainerMetadata
  let sidecar: Sidecar?

  init(path: String) throws(Diagnostic) {
    zip = try ZipReader(MappedFile(path: path))
    if let entry = zip.entry(named: MemberName.metadata) {
      metadata = try MetadataText.read(
        zip.content(of: entry, limit: ContainerReader.metadataLimit))
    } else {
      metadata = ContainerMetadata()
    }
    if let entry = zip.entry(named: MemberName.sidecar) {
      sidecar = try Sidecar(decoding: zip.content(of: entry, limit: Sidecar.limit))
    } else {
      sidecar = nil
    }
  }

  var members: [ContainerMember] { zip.entries.map(ContainerMember.init) }

  private func required(_ name: String) throws(Diagnostic) -> ZipEntry {
    guard let entry = zip.entry(named: name) else {
      throw ContainerFailure.input(
        "missing-member", "the archive has no member \(name)", member: name,
        hint: "this is no container of qtools, or an incomplete one")
    }
    return entry
  }

  /// A member's FlatBuffer, behind its checked header.
  private func payload(_ entry: ZipEntry, identifier: String, limit: Int, verify: Bool)
    throws(Diagnostic) -> Bytes
  {
    let content = try zip.content(of: entry, limit: limit, verify: verify)
    _ = try content.withBuffer { buffer throws(Diagnostic) in
      try PayloadHeader.check(buffer, identifier: identifier, member: entry.name)
    }
    guard
      let payload = content.window(
        from: PayloadHeader.size, count: content.count - PayloadHeader.size)
    else { throw ContainerFailure.truncated("a payload", byte: entry.dataOffset) }
    return payload
  }

  /// The NETD payload, aligned to 8 in memory.
  func modelPayload() throws(Diagnostic) -> Bytes {
    let entry = try required(MemberName.model)
    return try payload(
      entry, identifier: "NETD", limit: ContainerReader.modelLimit, verify: true
    ).aligned(to: 8)
  }

  /// The structure of `model.params`; `verify` compares checksums.
  func parameterIndex(graph: String, verify: Bool) throws(Diagnostic) -> ParameterIndex {
    let entry = try required(MemberName.parameters)
    let payload = try payload(
      entry, identifier: "NETP", limit: ContainerReader.parametersLimit, verify: verify)
    return try ParameterIndex(payload: payload, bin: bin(verify: verify), graph: graph)
  }

  /// The content of `model.params.bin`, where there is one.
  private func bin(verify: Bool) throws(Diagnostic) -> Bytes? {
    guard let entry = zip.entry(named: MemberName.bin) else { return nil }
    return try zip.content(of: entry, limit: .max, verify: verify)
  }

  /// The graph with everything `qtools.json` says of it; without that file, states follow from the
  /// encodings.
  func graph(_ decoder: ModelDecoder, registry: OperatorRegistry, source: ModelDecoder.Source)
    throws(Diagnostic) -> ModelDecoder.Result
  {
    let small = (zip.entry(named: MemberName.bin)?.size ?? 0) <= ContainerReader.smallMember
    let bin = decoder.needsBin ? try bin(verify: small) : nil
    var result = try decoder.decode(
      registry: registry, sidecar: sidecar, source: source, bin: bin)
    if let sidecar {
      try sidecar.apply(to: &result.graph)
      return result
    }
    result.graph.isMaterialized = result.graph.tensors.contains { $0.type.element.isFixedPoint }
    if result.graph.isMaterialized {
      for index in result.graph.tensors.indices where result.graph.tensors[index].encoding == nil {
        result.graph.tensors[index].state = .float
      }
    }
    return result
  }

  /// A summary made from a graph with constants.
  func summary(of full: Graph) -> ContainerSummary {
    var graph = full
    var statics: [TensorID] = []
    for index in graph.tensors.indices where graph.tensors[index].constant != nil {
      graph.tensors[index].constant = nil
      statics.append(TensorID(index))
    }
    return ContainerSummary(
      graph: graph, staticTensors: statics, metadata: metadata,
      annotations: sidecar?.annotations ?? ContainerAnnotations(), members: members)
  }

  /// The members that are not ours.
  func foreignMembers() throws(Diagnostic) -> [ForeignMember] {
    var members: [ForeignMember] = []
    for entry in zip.entries where !MemberName.all.contains(entry.name) {
      let content = try zip.content(
        of: entry, limit: entry.isDeflated ? ContainerReader.modelLimit : .max,
        verify: entry.size <= ContainerReader.smallMember)
      members.append(ForeignMember(name: entry.name, bytes: content))
    }
    return members
  }
}
