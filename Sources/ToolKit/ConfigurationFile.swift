import IR
import Yams

/// A map of a YAML configuration file, read key by key. Every problem names file, line and path; a key
/// that nothing reads is an error.
public struct ConfigurationMap {
  /// Path of the map in its file, `calibration.act` say; empty at the top.
  public let path: String
  private let file: String
  private var entries: [(key: String, node: Yams.Node)]

  /// Reads the map at the top of a file; an empty file is an empty map.
  public init(file: String) throws(Diagnostic) {
    let text = try FileReading.text(of: file)
    let root: Yams.Node?
    do {
      root = try Yams.compose(yaml: text)
    } catch {
      throw Diagnostic("config-syntax", "this is not YAML: \(error)", at: .init(file: file))
    }
    guard let root, root != Yams.Node("", Tag(.null)) else {
      self.init(path: "", file: file)
      return
    }
    try self.init(root, path: "", file: file)
  }

  private init(path: String, file: String) {
    self.path = path
    self.file = file
    entries = []
  }

  private init(_ node: Yams.Node, path: String, file: String) throws(Diagnostic) {
    self.init(path: path, file: file)
    guard case .mapping(let mapping) = node else {
      throw problem("must be a map of keys and values", node, path)
    }
    for (key, value) in mapping {
      guard case .scalar(let scalar) = key else { throw problem("a key must be a word", key, path) }
      entries.append((scalar.string, value))
    }
  }

  /// The keys that were not read yet, in the order of the file.
  public var keys: [String] { entries.map(\.key) }

  /// The map under a key; nil where the key is absent.
  public mutating func map(_ key: String) throws(Diagnostic) -> ConfigurationMap? {
    guard let node = take(key) else { return nil }
    return try ConfigurationMap(node, path: path(key), file: file)
  }

  /// The maps of the list under a key; nil where the key is absent.
  public mutating func maps(_ key: String) throws(Diagnostic) -> [ConfigurationMap]? {
    guard let node = take(key) else { return nil }
    guard case .sequence(let items) = node else { throw problem("must be a list", node, path(key)) }
    var result: [ConfigurationMap] = []
    for (index, item) in items.enumerated() {
      result.append(try ConfigurationMap(item, path: "\(path(key))[\(index)]", file: file))
    }
    return result
  }

  /// The texts of the list under a key, or the one text; nil where the key is absent or nothing stands behind it.
  public mutating func strings(_ key: String) throws(Diagnostic) -> [String]? {
    guard let node = take(key), !Self.isEmpty(node) else { return nil }
    if case .scalar(let scalar) = node { return [scalar.string] }
    guard case .sequence(let items) = node else { throw problem("must be a list of names", node, path(key)) }
    var result: [String] = []
    for item in items {
      guard case .scalar(let scalar) = item else { throw problem("must be a list of names", item, path(key)) }
      result.append(scalar.string)
    }
    return result
  }

  /// Leaves a key to another reader of the file.
  public mutating func skip(_ key: String) { _ = take(key) }

  /// Leaves out the keys behind which nothing stands: of templates, not of what they ask for.
  public mutating func dropEmpty() { entries.removeAll { Self.isEmpty($0.node) } }

  private static func isEmpty(_ node: Yams.Node) -> Bool {
    guard case .scalar(let scalar) = node else { return false }
    return scalar.style == .plain && ["", "~", "null"].contains(scalar.string)
  }

  /// The whole number under a key.
  public mutating func int(_ key: String) throws(Diagnostic) -> Int? {
    try value(key, "a whole number") { Int($0) }
  }

  /// The finite number under a key.
  public mutating func double(_ key: String) throws(Diagnostic) -> Double? {
    try value(key, "a number") { text in Double(text).flatMap { $0.isFinite ? $0 : nil } }
  }

  /// The truth value under a key.
  public mutating func bool(_ key: String) throws(Diagnostic) -> Bool? {
    try value(key, "true or false") { ["true": true, "false": false][$0.lowercased()] }
  }

  /// The text under a key.
  public mutating func string(_ key: String) throws(Diagnostic) -> String? {
    try value(key, "a text") { $0 }
  }

  /// The list of finite numbers under a key.
  public mutating func doubles(_ key: String) throws(Diagnostic) -> [Double]? {
    guard let node = take(key) else { return nil }
    guard case .sequence(let list) = node else { throw problem("must be a list of numbers", node, path(key)) }
    var values: [Double] = []
    for item in list {
      guard case .scalar(let scalar) = item, let value = Double(scalar.string), value.isFinite else {
        throw problem("must be a list of numbers", item, path(key))
      }
      values.append(value)
    }
    return values
  }

  /// Throws where keys were not read; `known` are those that could have been, for the hint.
  public func finish(known: [String]) throws(Diagnostic) {
    let found = entries.map { entry in
      var failure = problem("is no key of this file", entry.node, path(entry.key))
      failure.hint = "keys here are " + known.sorted().joined(separator: ", ")
      return failure
    }
    if let failure = Diagnostic.combining(found) { throw failure }
  }

  /// An error about the values of the map.
  public func failure(_ message: String) -> Diagnostic {
    Diagnostic("config-value", message, at: .init(file: file, path: path.isEmpty ? nil : path))
  }

  private func path(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  private mutating func take(_ key: String) -> Yams.Node? {
    guard let index = entries.firstIndex(where: { $0.key == key }) else { return nil }
    return entries.remove(at: index).node
  }

  private mutating func value<Value>(
    _ key: String, _ kind: String, _ convert: (String) -> Value?
  ) throws(Diagnostic) -> Value? {
    guard let node = take(key) else { return nil }
    guard case .scalar(let scalar) = node, let value = convert(scalar.string) else {
      throw problem("must be \(kind)", node, path(key))
    }
    return value
  }

  private func problem(_ message: String, _ node: Yams.Node, _ path: String) -> Diagnostic {
    Diagnostic(
      "config-value", "\(path.isEmpty ? "the file" : path) \(message)",
      at: .init(file: file, line: node.mark?.line, path: path.isEmpty ? nil : path))
  }
}
