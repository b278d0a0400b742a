import IR
import Quantizer
import ToolKit

/// What would be quantized, told without running anything.
enum Placement {
  /// Bytes of all constants.
  static func parameterBytes(_ graph: Graph) -> Int {
    graph.tensors.lazy.filter { $0.constant != nil }.reduce(0) { $0 + $1.storedByteCount }
  }

  /// Every float tensor with its role, what is decided about it, and counts.
  static func table(_ graph: Graph, _ options: QuantizerOptions) -> String {
    let observed = Set(ObservationSet(graph).tensors)
    let roles = parameterRoles(graph)
    var table = TextTable(["tensor", "type", "encoding"])
    var counts: [String: Int] = [:]
    for (index, tensor) in graph.tensors.enumerated() where tensor.type.element.isFloat {
      let id = TensorID(index)
      let plan: String
      switch tensor.state {
      case .float: plan = "float by choice"
      case .given: plan = "given (\(tensor.encodingSource?.rawValue ?? "unknown source"))"
      case .open where observed.contains(id): plan = "calibrated, \(tensor.bitwidth ?? options.actBitwidth) bit"
      case .open where tensor.constant == nil: plan = "from its neighbours"
      case .open:
        switch roles[id] {
        case .weight: plan = "weight, \(tensor.bitwidth ?? options.weightsBitwidth) bit"
        case .bias: plan = "bias, \(tensor.bitwidth ?? options.biasBitwidth) bit"
        case .unquantized: plan = "float by its operator"
        case .activation, nil: plan = "constant"
        }
      }
      counts[plan, default: 0] += 1
      table.add([tensor.name, tensor.type.description, plan])
    }
    let totals = counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
    return table.text + "\n" + totals.joined(separator: "; ") + "\n"
  }

  private static func parameterRoles(_ graph: Graph) -> [TensorID: QuantizationRule.Input] {
    var roles: [TensorID: QuantizationRule.Input] = [:]
    for node in graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        if let id, graph[id].constant != nil { roles[id] = node.op.quantization.input(slot) }
      }
    }
    return roles
  }
}
