import IR

/// Tensor data in files beside the model; each is mapped once.
struct ExternalData {
  private let folder: String
  private var mapped: [String: MappedFile] = [:]
  /// Paths that were read, in order of first use.
  private(set) var files: [String] = []

  /// Data of the model at `modelPath`.
  init(modelPath: String) {
    if let slash = modelPath.lastIndex(of: "/") {
      let start = modelPath[..<slash]
      folder = start.isEmpty ? "/" : String(start)
    } else {
      folder = "."
    }
  }

  /// The bytes that an entry points at; they must be `expected` many and inside the model's folder.
  mutating func bytes(
    _ entries: [String: String], expected: Int, location: Diagnostic.Location
  ) throws(Diagnostic) -> Bytes {
    guard let name = entries["location"], !name.isEmpty else {
      throw Diagnostic(
        "onnx-external-data", "external data without a location", at: location,
        hint: "save the model again with its data")
    }
    func number(_ key: String) throws(Diagnostic) -> Int? {
      guard let text = entries[key], !text.isEmpty else { return nil }
      guard let value = Int(text), value >= 0 else {
        throw Diagnostic(
          "onnx-external-data", "\(key) \(text) of external data is not a size", at: location)
      }
      return value
    }
    let offset = try number("offset") ?? 0
    let length = try number("length") ?? expected
    guard length == expected else {
      throw Diagnostic(
        "onnx-external-data",
        "external data in \(name) has \(length) bytes, the tensor needs \(expected)", at: location)
    }
    if expected == 0 { return Bytes([UInt8]()) }
    let file = try open(name, location: location)
    guard let found = file.bytes(offset: offset, length: length) else {
      throw Diagnostic(
        "onnx-external-data",
        "external data in \(name) ends at byte \(file.count), before offset \(offset) and "
          + "length \(length)",
        at: location, hint: "the data file is cut short or belongs to another model")
    }
    return found
  }

  private mutating func open(
    _ name: String, location: Diagnostic.Location
  ) throws(Diagnostic) -> MappedFile {
    if let known = mapped[name] { return known }
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    let outside = Diagnostic(
      "onnx-external-path", "external data \(name) lies outside the model's folder", at: location,
      hint: "copy the data file into the model's folder and save the model again")
    guard !name.hasPrefix("/"), !parts.contains("..") else { throw outside }
    let path = "\(folder)/\(name)"
    guard let resolved = MappedFile.resolved(path), let root = MappedFile.resolved(folder) else {
      throw Diagnostic(
        "onnx-external-missing", "external data \(name) cannot be found", at: location,
        hint: "keep the data file in the model's folder, under its name")
    }
    guard resolved.hasPrefix(root == "/" ? "/" : root + "/") else { throw outside }
    let file: MappedFile
    do throws(Diagnostic) {
      file = try MappedFile(path: resolved)
    } catch {
      var copy = error
      copy.location = location
      copy.message = "external data \(name): \(error.message)"
      throw copy
    }
    mapped[name] = file
    files.append(path)
    return file
  }
}
