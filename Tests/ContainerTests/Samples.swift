import Foundation
import IR

@testable import Container

/// A folder of its own, removed with the value.
final class Scratch {
  let folder: String
  init() throws {
    folder = NSTemporaryDirectory() + "/container-\(UInt64.random(in: .min ... .max))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: folder) }
  func path(_ name: String = "model.dlc") -> String { "\(folder)/\(name)" }
  var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] }
  func bytes(_ name: String = "model.dlc") throws -> [UInt8] {
    try Array(Data(contentsOf: URL(fileURLWithPath: path(name))))
  }
  func store(_ bytes: [UInt8], as name: String = "model.dlc") throws {
    try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
  }
}

/// A graph with one node, a float weight and nothing else.
func tinyGraph() -> Graph {
  var graph = Graph(name: "tiny")
  let x = graph.add(Tensor(name: "x", type: TensorType(.float32, [2])))
  let w = graph.add(
    Tensor(name: "w", type: TensorType(.float32, [2]), constant: Constant([Float]([1, 2]), shape: [2])))
  let y = graph.add(Tensor(name: "y", type: TensorType(.float32, [2])))
  graph.nodes = [Node(name: "n", op: Probe(), inputs: [x, w], outputs: [y])]
  graph.inputs = [x]
  graph.outputs = [y]
  return graph
}

/// A graph with every form of tensor, encoding and record.
func richGraph() -> Graph {
  var graph = Graph(name: "rich/größer")
  func grid(_ scale: Float, _ offset: Int32) -> ScaleOffset {
    ScaleOffset(scale: scale, offset: offset)
  }
  let b = graph.add(Tensor(name: "b", type: TensorType(.float32, [1, 3])))
  let a = graph.add(Tensor(name: "a", type: TensorType(.float32, [])))
  graph.inputs = [a, b]
  var outputs: [TensorID] = []
  func constant(_ name: String, _ type: TensorType, _ bytes: [UInt8], _ encoding: Encoding? = nil) {
    var tensor = Tensor(
      name: name, type: type, constant: Constant(type: type, bytes: Bytes(bytes)))
    tensor.encoding = encoding
    tensor.state = encoding == nil ? .float : .given
    tensor.bitwidth = encoding == nil ? 16 : nil
    tensor.isUnfused = encoding != nil
    tensor.encodingSource = encoding == nil ? nil : .calibrated
    let id = graph.add(tensor)
    let out = graph.add(Tensor(name: name + ".out", type: type.logical))
    graph.nodes.append(Node(name: "n." + name, op: Probe(), inputs: [id, nil, a], outputs: [out]))
    outputs.append(out)
  }
  constant("bytes", TensorType(.int8, [3]), [0xFF, 0, 1])
  constant("none", TensorType(.int64, [0]), [])
  constant(
    "eight", TensorType(.ufixed8, [2, 2]), [1, 2, 3, 4],
    Encoding(bitwidth: 8, channels: [grid(0.1, -3)]))
  constant(
    "restricted", TensorType(.sfixed8, [2]), [0x81, 0x7F],
    Encoding(bitwidth: 8, symmetric: true, channels: [grid(0.1, -128)], codeMin: 1))
  constant(
    "channels", TensorType(.sfixed8, [2, 3]), [1, 2, 3, 4, 5, 6],
    Encoding(
      bitwidth: 4, symmetric: true, axis: 1,
      channels: [grid(0.5, -8), grid(0.25, -8), grid(1e-20, -8)]))
  constant(
    "packed", TensorType(.sfixed4, [3, 2]), [0xF8, 7, 0, 1, 2, 0xFF],
    Encoding(bitwidth: 4, symmetric: true, axis: 1, channels: [grid(0.5, -8), grid(0.25, -8)]))
  constant(
    "odd", TensorType(.ufixed4, [3]), [15, 0, 9],
    Encoding(bitwidth: 4, channels: [grid(0.5, -2)]))
  constant(
    "bias", TensorType(.sfixed32, [1]), [1, 2, 3, 4],
    Encoding(bitwidth: 32, symmetric: true, channels: [grid(1e-4, .min)]))
  var weight = Tensor(name: "w", type: TensorType(.float32, [3, 2]))
  weight.constant = Constant([Float]([1, 2, 3, 4, 5, 6]), shape: [2, 3]).permuted([1, 0])
  weight.encoding = Encoding(bitwidth: 8, channels: [grid(0.5, -7)])
  weight.encodingSource = .override
  weight.state = .given
  weight.sourceOrder = [1, 0]
  let w = graph.add(weight)
  let last = graph.add(Tensor(name: "last", type: TensorType(.float32, [3, 2])))
  graph.nodes.append(Node(name: "", op: Probe(), inputs: [w, b], outputs: [last]))
  graph.outputs = [last, w, b] + outputs
  graph.aliases = ["old": "last"]
  graph.folded = ["bn.mean": "folded into \"c\""]
  graph.batchNorms = ["last": BatchNormStatistics(beta: [0.1, -.infinity], gamma: [1, .nan])]
  graph.integerNodes = ["n.none"]
  graph.isMaterialized = true
  return graph
}

/// Everything a reader gives of a graph, as text to compare; floats by their bits.
func fingerprint(_ graph: Graph) -> [String] {
  var lines = [
    "\(graph.name) \(graph.inputs) \(graph.outputs) \(graph.isMaterialized) "
      + "\(graph.integerNodes.sorted())"
  ]
  for tensor in graph.tensors {
    let value = tensor.constant.map {
      Array($0.materialized().array(of: UInt8.self).prefix($0.type.byteCount))
    }
    lines.append(
      "\(tensor.name) \(tensor.type) \(tensor.state) \(String(describing: tensor.bitwidth)) \(tensor.isUnfused) "
        + "\(String(describing: tensor.sourceOrder)) "
        + "\(String(describing: tensor.encodingSource)) "
        + "\(String(describing: tensor.encoding)) \(String(describing: value))")
  }
  for node in graph.nodes {
    lines.append(
      "\(node.name) \(node.op.typeName) \(node.op.attributes) \(node.inputs) \(node.outputs)")
  }
  lines.append("\(graph.aliases.sorted { $0.key < $1.key }) \(graph.folded.sorted { $0.key < $1.key })")
  for (name, record) in graph.batchNorms.sorted(by: { $0.key < $1.key }) {
    lines.append("\(name) \(record.beta.map(\.bitPattern)) \(record.gamma.map(\.bitPattern))")
  }
  return lines
}

/// The diagnostic that `body` throws, nil where it throws none.
func diagnostic(_ body: () throws(Diagnostic) -> Void) -> Diagnostic? {
  do throws(Diagnostic) {
    try body()
    return nil
  } catch {
    return error
  }
}
