import IR

/// Typed access to the members of one object; every failure names its place.
struct JSONFields {
  let path: JSONPath
  /// The tensor that the object speaks of, for messages.
  var tensor: String?
  private let members: [String: JSONValue]
  let keys: [String]

  init(_ value: JSONValue, _ path: JSONPath, tensor: String? = nil) throws(Diagnostic) {
    self.path = path
    self.tensor = tensor
    guard case .object(let list) = value else {
      throw Self.failure("an object is expected, not \(value.kind)", path, tensor)
    }
    members = Dictionary(list.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    keys = list.map(\.key)
  }

  static func failure(
    _ message: String, _ path: JSONPath, _ tensor: String?, code: String = "encodings-format"
  ) -> Diagnostic {
    var location = path.location
    location.tensor = tensor
    return Diagnostic(code, message, at: location)
  }

  /// An error about member `key`, or about the whole object.
  func failure(_ message: String, _ key: String? = nil, code: String = "encodings-format") -> Diagnostic {
    Self.failure(message, key.map(path.member) ?? path, tensor, code: code)
  }

  func has(_ key: String) -> Bool { members[key] != nil }

  /// Throws where a key is not among the known ones.
  func check(known: [String]) throws(Diagnostic) {
    for key in keys where !known.contains(key) {
      throw failure(
        "the key \(key.debugDescription) is unknown here; known are \(known.sorted().joined(separator: ", "))",
        key)
    }
  }

  func require(_ key: String) throws(Diagnostic) -> JSONValue {
    guard let value = members[key] else { throw failure("the key \(key.debugDescription) is missing") }
    return value
  }

  func string(_ key: String) throws(Diagnostic) -> String {
    let value = try require(key)
    guard case .string(let text) = value else {
      throw failure("text is expected, not \(value.kind)", key)
    }
    return text
  }

  /// A truth value, as boolean or as text in any case.
  func bool(_ key: String) throws(Diagnostic) -> Bool {
    let value = try require(key)
    switch value {
    case .bool(let truth): return truth
    case .string(let text) where text.lowercased() == "true": return true
    case .string(let text) where text.lowercased() == "false": return false
    default: throw failure("true or false is expected, not \(value.kind)", key)
    }
  }

  func double(_ key: String) throws(Diagnostic) -> Double {
    let value = try require(key)
    guard case .number(let number) = value else {
      throw failure("a number is expected, not \(value.kind)", key)
    }
    return number
  }

  func int(_ key: String) throws(Diagnostic) -> Int {
    try Self.whole(.number(try double(key)), path.member(key), tensor)
  }

  func array(_ key: String) throws(Diagnostic) -> [JSONValue] {
    let value = try require(key)
    guard case .array(let list) = value else {
      throw failure("a list is expected, not \(value.kind)", key)
    }
    return list
  }

  /// A list of numbers.
  func doubles(_ key: String) throws(Diagnostic) -> [Double] {
    var result: [Double] = []
    for (index, value) in try array(key).enumerated() {
      guard case .number(let number) = value else {
        throw Self.failure(
          "a number is expected, not \(value.kind)", path.member(key).element(index), tensor)
      }
      result.append(number)
    }
    return result
  }

  /// A number or a nested list of numbers in which all lists of a level have the same length; its
  /// shape is empty for a single number.
  func nested(_ key: String) throws(Diagnostic) -> (shape: [Int], values: [Double]) {
    var values: [Double] = []
    let shape = try collect(try require(key), path.member(key), into: &values)
    return (shape, values)
  }

  private func collect(
    _ value: JSONValue, _ place: JSONPath, into values: inout [Double]
  ) throws(Diagnostic) -> [Int] {
    switch value {
    case .number(let number):
      values.append(number)
      return []
    case .array(let list):
      guard !list.isEmpty else { throw Self.failure("the list is empty", place, tensor) }
      var inner: [Int]?
      for (index, item) in list.enumerated() {
        let shape = try collect(item, place.element(index), into: &values)
        if let inner, inner != shape {
          throw Self.failure(
            "the lists differ in length or depth", place.element(index), tensor)
        }
        inner = shape
      }
      return [list.count] + (inner ?? [])
    default:
      throw Self.failure("a number or list is expected, not \(value.kind)", place, tensor)
    }
  }

  /// The whole number that a JSON number holds.
  static func whole(_ value: JSONValue, _ path: JSONPath, _ tensor: String?) throws(Diagnostic) -> Int {
    guard case .number(let number) = value, let whole = Int(exactly: number) else {
      throw failure("a whole number is expected, not \(value.kind)", path, tensor)
    }
    return whole
  }
}
