import IR

/// Writes containers.
public enum ContainerWriter {
  /// Writes `file` to `path`, which may be the file the graph's constants are mapped from.
  ///
  /// The same content gives the same bytes. The file appears under its name when it is whole; on an
  /// error nothing is left and an existing file stays as it was. Memory does not grow with the
  /// weights. Throws where the graph breaks a rule of the IR or has types the format lacks, and with
  /// kind `output` where the file cannot be written. `finish` may change the annotations when the
  /// weights are written: with what is only known by then.
  public static func write(
    _ file: ContainerFile, to path: String,
    finish: (inout ContainerAnnotations) throws(Diagnostic) -> Void = { _ in }
  ) throws(Diagnostic) {
    try write(file, to: path, inlineLimit: ParameterLayout.inlineLimit, finish: finish)
  }

  /// `inlineLimit`: static bytes beyond which tensors go to `model.params.bin`;
  /// `capacity`: bytes the device takes. Both for tests and fuzzing.
  package static func write(
    _ file: ContainerFile, to path: String, inlineLimit: Int, capacity: UInt64 = .max,
    finish: (inout ContainerAnnotations) throws(Diagnostic) -> Void = { _ in }
  ) throws(Diagnostic) {
    if var broken = Diagnostic.combining(file.graph.verify()) {
      broken.kind = .internal
      throw broken
    }
    do throws(Diagnostic) {
      let model = try ModelEncoder(file.graph)
      let external = model.staticBytes > inlineLimit
      let layout = try ParameterLayout(
        graph: file.graph.name, tensors: model.tensors.map(\.item),
        nodes: model.nodes.map { $0.map(\.item) }, external: external,
        externalStart: model.external.bytes.count)
      let output = try AtomicFile(path: path, capacity: capacity)
      let archive = ZipWriter(output)
      let header = PayloadHeader.bytes(minor: layout.externalSize > 0 || external ? 1 : 0)
      try archive.add(MemberName.metadata, Bytes(MetadataText.write(file.metadata)))
      try archive.add(
        MemberName.model, size: UInt64(header.count + model.payload.count), alignment: .payload
      ) { sink throws(Diagnostic) in
        try sink.write(header)
        try sink.write(model.payload)
      }
      try writeParameters(
        model, layout: layout, header: header, external: external, graph: file.graph, to: archive)
      var annotations = file.annotations
      try finish(&annotations)
      var sidecar = Sidecar(graph: file.graph, annotations: annotations)
      sidecar.lists = model.lists
      try archive.add(MemberName.sidecar, Bytes(try sidecar.encoded()))
      for member in file.foreignMembers where !MemberName.all.contains(member.name) {
        try archive.add(member.name, member.bytes)
      }
      try archive.finish()
      try output.commit()
    } catch {
      throw error.inFile(path)
    }
  }

  private static func writeParameters(
    _ model: ModelEncoder, layout: ParameterLayout, header: [UInt8], external: Bool, graph: Graph,
    to archive: ZipWriter
  ) throws(Diagnostic) {
    let parameters = model.tensors + model.nodes.joined()
    try archive.add(
      MemberName.parameters, size: UInt64(header.count + layout.size), alignment: .payload
    ) { sink throws(Diagnostic) in
      try sink.write(header)
      try sink.write(layout.head)
      if external { return }
      for (index, parameter) in parameters.enumerated() {
        // Positions are those of the first byte; its length stands four bytes in front.
        try sink.pad(to: UInt64(header.count + layout.positions[index] - 4))
        try sink.write(layout.lengthPrefix(index))
        try stream(parameter, of: graph, to: &sink)
      }
    }
    guard layout.externalSize > 0 || external else { return }
    try archive.add(MemberName.bin, size: UInt64(layout.externalSize), alignment: .data) {
      sink throws(Diagnostic) in
      try sink.write(model.external.bytes)
      if !external { return }
      for (index, parameter) in parameters.enumerated() {
        try sink.pad(to: UInt64(layout.positions[index]))
        try stream(parameter, of: graph, to: &sink)
      }
    }
  }

  private static func stream(
    _ parameter: ModelEncoder.Parameter, of graph: Graph, to sink: inout ZipWriter.Sink
  ) throws(Diagnostic) {
    switch parameter.content {
    case .bytes(let bytes): try sink.write(bytes)
    case .tensor(let id):
      let tensor = graph[id]
      guard let constant = tensor.constant else {
        throw ContainerFailure.bug("a static tensor has no value", tensor: tensor.name)
      }
      let start = sink.count
      if tensor.type.element.isPacked {
        let bytes = constant.materialized()
        try sink.write(NibblePacking(shape: tensor.type.shape, axis: tensor.encoding?.axis).pack(bytes))
      } else {
        try constant.forEachBlock { (block) throws(Diagnostic) in try sink.write(block) }
      }
      guard sink.count - start == UInt64(parameter.item.count) else {
        throw ContainerFailure.bug("a constant has a wrong number of bytes", tensor: tensor.name)
      }
    }
  }
}
