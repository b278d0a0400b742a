import IR

/// The lines of `dlc.metadata`. The copyright comes last, so that its further lines, where Netron
/// stops reading, hide nothing.
enum MetadataText {
  static func write(_ metadata: ContainerMetadata) -> [UInt8] {
    let text = """
      model-version=\(folded(metadata.modelVersion))
      converter-command=\(folded(metadata.converterCommand))
      converter-version=\(folded(metadata.converterVersion))
      model-copyright=\(metadata.modelCopyright)

      """
    return Array(text.utf8)
  }

  /// Line breaks become spaces.
  private static func folded(_ value: String) -> String {
    String(value.map { $0.isNewline ? " " : $0 })
  }

  /// Reads the lines; a key given twice counts the last time, unknown keys are ignored.
  static func read(_ content: Bytes) throws(Diagnostic) -> ContainerMetadata {
    guard let text = content.withBuffer({ String(validating: $0, as: UTF8.self) }) else {
      throw ContainerFailure.input(
        "metadata", "the text is not UTF-8", member: MemberName.metadata, byte: 0)
    }
    var metadata = ContainerMetadata()
    var rest = Substring(text)
    while let end = rest.utf8.firstIndex(of: UInt8(ascii: "=")) {
      let key = rest[..<end]
      if key.utf8.contains(UInt8(ascii: "\n")) { break }
      rest = rest[rest.utf8.index(after: end)...]
      let lineEnd = rest.utf8.firstIndex(of: UInt8(ascii: "\n")) ?? rest.endIndex
      let value = String(rest[..<lineEnd])
      switch key {
      case "model-version": metadata.modelVersion = value
      case "converter-command": metadata.converterCommand = value
      case "converter-version": metadata.converterVersion = value
      case "model-copyright":
        var all = rest
        if all.utf8.last == UInt8(ascii: "\n") {
          all = all[..<all.utf8.index(before: all.endIndex)]
        }
        metadata.modelCopyright = String(all)
        return metadata
      default: break
      }
      if lineEnd == rest.endIndex { break }
      rest = rest[rest.utf8.index(after: lineEnd)...]
    }
    return metadata
  }
}
