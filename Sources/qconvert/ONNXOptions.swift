import ArgumentParser
import IR
import ONNXModel
import Runtime
import ToolKit

/// Looking at the model itself.
struct ONNXOptions: ParsableArguments {
  @Flag(name: .customLong("onnx_summary"), help: "Print inputs, outputs and operators of the model.")
  var summary = false
  @Flag(
    name: .customLong("onnx_validate_models"),
    help: "Run the model as imported and after the passes, and compare the outputs.")
  var validates = false
  @Flag(
    name: .customLong("onnx_skip_simplification"),
    help: "Accepted: constants are folded in any case, which changes no result.")
  var skipsSimplification = false

  /// Notes about what is accepted without effect.
  var notes: [Diagnostic] {
    guard skipsSimplification else { return [] }
    return [
      Diagnostic(
        "option-without-effect", "--onnx_skip_simplification changes nothing: the passes keep every result",
        hint: "--list_passes names them", severity: .note)
    ]
  }

  /// The text of `--onnx_summary`.
  static func text(_ model: ImportedModel) -> String {
    var table = TextTable(["border", "name", "type"])
    for id in model.graph.inputs { table.add(["input", model.graph[id].name, model.graph[id].type.description]) }
    for id in model.graph.outputs { table.add(["output", model.graph[id].name, model.graph[id].type.description]) }
    var counts = TextTable(["operator", "nodes"], alignment: [.left, .right])
    for (name, count) in model.operators.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
      counts.add([name, "\(count)"])
    }
    let total = model.operators.values.reduce(0, +)
    return "operator set \(model.opset), \(counted(total, "node"))\n\n\(table.text)\n\(counts.text)"
  }

  /// Largest share of the largest magnitude by which outputs may differ.
  private static let tolerance = 1e-3

  /// Runs both graphs on inputs of ones and on random ones (of a fixed seed) and prints by how much the outputs differ;
  /// throws `models-differ` where that is more than rounding.
  static func compare(_ source: Graph, _ result: Graph, _ session: ToolSession) throws(Diagnostic) {
    let plans = [
      try ReferenceBackend().prepare(source, options: PlanOptions(simulate: false)),
      try OneDNNBackend().prepare(result, options: PlanOptions(simulate: false)),
    ]
    let names = source.outputs.map { source[$0].name }
    var worst = [Double](repeating: 0, count: names.count)
    for isRandom in [false, true] {
      var state: UInt64 = 1
      let inputs = source.inputs.map { filled(source[$0].type, isRandom, &state) }
      var order: [Bytes] = []
      for id in result.inputs {
        guard let slot = source.inputs.firstIndex(where: { source[$0].name == result[id].name }) else { continue }
        order.append(inputs[slot])
      }
      let before = try plans[0].makeWorker().run(inputs)
      let after = try plans[1].makeWorker().run(order)
      for (slot, id) in source.outputs.enumerated() where slot < after.count {
        worst[slot] = max(worst[slot], difference(before[slot], after[slot], source[id].type))
      }
    }
    var table = TextTable(["output", "largest difference"], alignment: [.left, .right])
    for (name, value) in zip(names, worst) { table.add([name, "\(Float(value))"]) }
    try session.printSummary("the model as imported and after the passes, relative to the largest value\n" + table.text)
    let bad = zip(names, worst).filter { !($0.1 <= tolerance) }
    if let first = bad.first {
      throw Diagnostic(
        "models-differ",
        "\(counted(bad.count, "output")) of the model and of what the passes make of it differ, "
          + "the first by \(Float(first.1)) of its largest value", at: .init(tensor: first.0),
        hint: "--dump_ir_after shows the graph between the passes", kind: .internal)
    }
  }

  private static func filled(_ type: TensorType, _ isRandom: Bool, _ state: inout UInt64) -> Bytes {
    let type = type.logical
    guard type.element == .float32 else {
      // Ones are indices, sizes and truth values that most models take.
      guard type.element != .bool, type.element.isInteger else { return Bytes(count: type.byteCount) { _ in } }
      let width = type.element.byteWidth
      return Bytes(count: type.byteCount) { target in
        for index in stride(from: 0, to: target.count, by: width) { target[index] = 1 }
      }
    }
    return Bytes(
      (0..<type.count).map { _ -> Float in
        guard isRandom else { return 1 }
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Float(state >> 40) / Float(1 << 23) - 1
      })
  }

  /// The largest difference relative to the largest magnitude; infinite where one is NaN and the other is not.
  private static func difference(_ a: Bytes, _ b: Bytes, _ type: TensorType) -> Double {
    guard type.logical.element == .float32 else {
      return a.array(of: UInt8.self) == b.array(of: UInt8.self) ? 0 : .infinity
    }
    let (x, y) = (a.array(of: Float.self), b.array(of: Float.self))
    var (gap, largest) = (0.0, 0.0)
    for (one, other) in zip(x, y) where one != other && !(one.isNaN && other.isNaN) {
      gap = max(gap, one.isFinite && other.isFinite ? Double(abs(one - other)) : .infinity)
    }
    for value in x where value.isFinite { largest = max(largest, Double(abs(value))) }
    return gap == 0 ? 0 : gap / max(largest, 1e-30)
  }
}
