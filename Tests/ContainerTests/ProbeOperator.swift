import IR

/// An operator that takes any parameters; its result has the type of its first operand.
struct Probe: Operator {
  static let typeName = "Probe"
  var flag = true
  var count = 3
  var ratio: Float = -0.0
  var mode = "edge\u{0}größer"
  var wide = 1 << 40
  var padAmount = [1, 2, 3, 4]
  var negative = [-1, 5]
  var long = [1 << 40, -7]
  var empty: [Int] = []
  var floats: [Float] = [0.1, -.infinity]

  var attributes: [Attribute] {
    [
      Attribute("flag", .bool(flag)), Attribute("count", .int(count)),
      Attribute("ratio", .float(ratio)), Attribute("mode", .string(mode)),
      Attribute("wide", .int(wide)), Attribute("pad_amount", .ints(padAmount)),
      Attribute("negative", .ints(negative)), Attribute("long", .ints(long)),
      Attribute("empty", .ints(empty)), Attribute("floats", .floats(floats)),
    ]
  }

  init() {}

  init(attributes reader: inout AttributeReader) throws(Diagnostic) {
    flag = try reader.bool("flag")
    count = try reader.int("count")
    ratio = try reader.float("ratio")
    mode = try reader.string("mode")
    wide = try reader.int("wide")
    padAmount = try reader.ints("pad_amount")
    negative = try reader.ints("negative")
    long = try reader.ints("long")
    empty = try reader.ints("empty")
    floats = try reader.floats("floats")
  }

  func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    guard let first = inputs.first, let first else {
      throw Diagnostic("probe", "the first operand is missing")
    }
    return [first]
  }

  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {}
}

let probes = OperatorRegistry([Probe.self])
