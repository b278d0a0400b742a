import Container
import IR
import Inspection
import ToolKit

/// `qinspect info -m`: the memory that each operator needs, every activation in memory of its own for as
/// long as something still reads it.
struct MemoryDocument: Encodable {
  struct Row: Encodable {
    var name: String
    /// Bytes of parameters that no operator before it reads.
    var parameter_bytes: Int
    var output_bytes: Int
    /// Bytes of activations that exist while it runs, its own inputs and outputs among them.
    var live_bytes: Int
  }

  var operators: [Row]
  var parameter_bytes: Int
  /// The largest of `live_bytes`, and the first operator that has it.
  var peak_bytes: Int
  var peak_operator: String?

  init(_ graph: Graph, statics: [TensorID]) {
    let isStatic = Set(statics)
    var lastUse = [Int](repeating: -1, count: graph.tensors.count)
    for (index, node) in graph.nodes.enumerated() {
      for case let id? in node.inputs + node.outputs.map(Optional.some) { lastUse[id.index] = index }
    }
    for id in graph.outputs { lastUse[id.index] = graph.nodes.count }
    var endings = [[TensorID]](repeating: [], count: graph.nodes.count + 1)
    var live = 0
    func begin(_ id: TensorID) {
      guard !isStatic.contains(id), lastUse[id.index] >= 0 else { return }
      live = sum(live, graph[id].type.byteCount)
      endings[lastUse[id.index]].append(id)
    }
    for id in graph.inputs { begin(id) }
    var seen = Set<TensorID>()
    operators = []
    for (index, node) in graph.nodes.enumerated() {
      for id in node.outputs { begin(id) }
      let parameters = node.inputs.compactMap { $0 }.filter { isStatic.contains($0) && seen.insert($0).inserted }
      operators.append(
        Row(
          name: node.name, parameter_bytes: parameters.reduce(0) { sum($0, graph[$1].storedByteCount) },
          output_bytes: node.outputs.reduce(0) { sum($0, graph[$1].type.byteCount) }, live_bytes: live))
      for id in endings[index] { live -= min(live, graph[id].type.byteCount) }
    }
    parameter_bytes = statics.reduce(0) { sum($0, graph[$1].storedByteCount) }
    let peak = operators.enumerated().max { ($0.element.live_bytes, $1.offset) < ($1.element.live_bytes, $0.offset) }
    peak_bytes = peak?.element.live_bytes ?? 0
    peak_operator = peak?.element.name
  }

  var text: String {
    var table = TextTable(
      ["operator", "parameters", "outputs", "live activations"], alignment: [.left, .right, .right, .right])
    for row in operators {
      table.add([row.name, byteText(row.parameter_bytes), byteText(row.output_bytes), byteText(row.live_bytes)])
    }
    return """
      \(table.text)

      memory           \(byteText(sum(parameter_bytes, peak_bytes))): parameters \(byteText(parameter_bytes)), \
      activations \(byteText(peak_bytes))\(peak_operator.map { " at \($0)" } ?? "")
      """
  }
}

/// Sizes come from outside: a sum that does not fit is the largest number.
private func sum(_ a: Int, _ b: Int) -> Int {
  let (result, overflow) = a.addingReportingOverflow(b)
  return overflow ? .max : result
}

/// `qinspect info -d`: every grid of the encodings that have one a channel or a block.
func axisEncodingTable(_ graph: Graph) -> TextTable {
  var table = TextTable(
    ["tensor", "axis", "channel", "bw", "scale", "offset", "min", "max"],
    alignment: [.left, .right, .right, .right, .right, .right, .right, .right])
  for tensor in graph.tensors {
    guard let encoding = tensor.encoding, let axis = encoding.axis else { continue }
    let blocks = encoding.blocks == nil ? 1 : max(encoding.blocksPerChannel(shape: tensor.type.shape), 1)
    for (index, grid) in encoding.channels.enumerated() {
      table.add([
        tensor.name, "\(axis)", encoding.blocks == nil ? "\(index)" : "\(index / blocks), block \(index % blocks)",
        "\(encoding.bitwidth)", "\(grid.scale)", "\(encoding.shownOffset(channel: index))",
        fixed(encoding.minimum(channel: index), digits: 6), fixed(encoding.maximum(channel: index), digits: 6),
      ])
    }
  }
  return table
}

/// Names and what they became as a table.
func traceTable(_ entries: [NameTrace.Entry]) -> TextTable {
  var table = TextTable(["name", "kind", "became", "because"])
  for entry in entries { table.add([entry.name, entry.kind.rawValue, entry.target ?? "-", entry.note]) }
  return table
}
