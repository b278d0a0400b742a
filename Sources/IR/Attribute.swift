/// Value of one operator parameter, in the forms that text and container can hold.
public enum AttributeValue: Sendable, Hashable {
  case bool(Bool)
  case int(Int)
  case float(Float)
  case string(String)
  case ints([Int])
  case floats([Float])
}

/// A named operator parameter, with the name QNN gives it where QNN has it.
public struct Attribute: Sendable, Hashable {
  public var name: String
  public var value: AttributeValue

  /// Makes a parameter.
  public init(_ name: String, _ value: AttributeValue) {
    self.name = name
    self.value = value
  }
}

/// Reads an operator's parameters by name and notices those that nobody read.
public struct AttributeReader {
  /// QNN name of the operator, for messages.
  public let operatorName: String
  private var left: [String: AttributeValue]

  /// A reader over the parameters of one node.
  public init(operatorName: String, _ attributes: [Attribute]) throws(Diagnostic) {
    self.operatorName = operatorName
    left = [:]
    for attribute in attributes {
      if left.updateValue(attribute.value, forKey: attribute.name) != nil {
        throw Diagnostic(
          "duplicate-parameter", "parameter \(attribute.name) of \(operatorName) is given twice")
      }
    }
  }

  private mutating func take(_ name: String) -> AttributeValue? {
    left.removeValue(forKey: name)
  }

  private func mismatch(_ name: String, _ expected: String) -> Diagnostic {
    Diagnostic("bad-parameter", "parameter \(name) of \(operatorName) must be \(expected)")
  }

  /// A number without fraction; `fallback` where it is absent, an error where there is none.
  public mutating func int(_ name: String, default fallback: Int? = nil) throws(Diagnostic) -> Int {
    switch take(name) {
    case .int(let value): return value
    case .bool(let value): return value ? 1 : 0
    case nil: if let fallback { return fallback }
    default: break
    }
    throw mismatch(name, "an integer")
  }

  /// A truth value.
  public mutating func bool(_ name: String, default fallback: Bool? = nil) throws(Diagnostic) -> Bool {
    switch take(name) {
    case .bool(let value): return value
    case .int(let value): return value != 0
    case nil: if let fallback { return fallback }
    default: break
    }
    throw mismatch(name, "true or false")
  }

  /// A real number.
  public mutating func float(_ name: String, default fallback: Float? = nil) throws(Diagnostic) -> Float {
    switch take(name) {
    case .float(let value): return value
    case .int(let value): return Float(value)
    case nil: if let fallback { return fallback }
    default: break
    }
    throw mismatch(name, "a number")
  }

  /// A word.
  public mutating func string(_ name: String, default fallback: String? = nil) throws(Diagnostic) -> String {
    switch take(name) {
    case .string(let value): return value
    case nil: if let fallback { return fallback }
    default: break
    }
    throw mismatch(name, "text")
  }

  /// A list of whole numbers.
  public mutating func ints(_ name: String, default fallback: [Int]? = nil) throws(Diagnostic) -> [Int] {
    switch take(name) {
    case .ints(let value): return value
    case .floats(let value) where value.isEmpty: return []
    case nil: if let fallback { return fallback }
    default: break
    }
    throw mismatch(name, "a list of integers")
  }

  /// A list of real numbers.
  public mutating func floats(_ name: String, default fallback: [Float]? = nil) throws(Diagnostic) -> [Float] {
    switch take(name) {
    case .floats(let value): return value
    case .ints(let value): return value.map { Float($0) }
    case nil: if let fallback { return fallback }
    default: break
    }
    throw mismatch(name, "a list of numbers")
  }

  /// Throws where parameters are left that nobody asked for.
  public func finish() throws(Diagnostic) {
    if let name = left.keys.sorted().first {
      throw Diagnostic("unknown-parameter", "\(operatorName) has no parameter \(name)")
    }
  }
}
