import IR
import Operators

/// Turns QuantizeLinear and DequantizeLinear of the source into encodings of the tensors around them.
///
/// A pair on a tensor that everybody reads through it becomes the tensor's encoding and vanishes; the
/// tensor keeps its name, the others become aliases. Where somebody reads the tensor as it is, or by
/// another grid, the pair becomes a Convert, so that the graph computes what the source wrote. A lone
/// QuantizeLinear (codes that leave the graph) and a lone DequantizeLinear (codes that enter it) stay,
/// with the encoding on their float side. Between an operator and its activation such a tensor is marked
/// unfused.
public struct AbsorbQuantization: Pass {
  public let name = "absorb-quantization"
  public let summary = "turns quantize-dequantize pairs of the source into encodings"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var absorber = Absorber(graph)
    absorber.run()
    return absorber.finish()
  }
}

/// One walk over the tensors in the order in which they are made.
private struct Absorber {
  private var graph: Graph
  private var readers: [[Int]]
  private var isOutput: [Bool]
  private var isInput: [Bool]
  private var dropped = Set<Int>()
  /// Tensors that are gone, and what stands for each.
  private var replaced: [(name: String, by: TensorID)] = []

  init(_ graph: Graph) {
    self.graph = graph
    readers = graph.consumers().map { $0.map(\.index) }
    isOutput = graph.tensors.map { _ in false }
    isInput = isOutput
    for id in graph.outputs { isOutput[id.index] = true }
    for id in graph.inputs { isInput[id.index] = true }
  }

  mutating func run() {
    for id in graph.inputs { visit(id) }
    for index in graph.tensors.indices where graph.tensors[index].constant != nil {
      visit(TensorID(index))
    }
    for index in graph.nodes.indices where !dropped.contains(index) {
      if let op = graph.nodes[index].op as? DequantizeLinear {
        let output = graph.nodes[index].outputs[0]
        if graph[output].state == .open, op.grid.encoding.bitwidth <= 16 {
          annotate(output, op.grid.encoding)
        }
      }
      for output in graph.nodes[index].outputs { visit(output) }
    }
    clearWideOperands()
    markUnfused()
  }

  /// Deals with the QuantizeLinear nodes that read a tensor.
  private mutating func visit(_ id: TensorID) {
    let quantizers = readers[id.index].filter { graph.nodes[$0].op is QuantizeLinear }
    guard let first = quantizers.first, let grid = (graph.nodes[first].op as? QuantizeLinear)?.grid
    else { return }
    let isAlone =
      quantizers.count == readers[id.index].count && !isOutput[id.index]
      && graph[id].state == .open
      && quantizers.allSatisfy { (graph.nodes[$0].op as? QuantizeLinear)?.grid == grid }
    if isAlone { annotate(id, grid.encoding) }
    var converted: [Encoding: TensorID] = [:]
    let replacements = replaced.count
    for quantizer in quantizers {
      guard let own = (graph.nodes[quantizer].op as? QuantizeLinear)?.grid else { continue }
      let codes = graph.nodes[quantizer].outputs[0]
      let stands = graph[id].state == .given && graph[id].encoding == own.encoding
      for reader in readers[codes.index] where isPartner(reader, own) && !dropped.contains(reader) {
        let output = graph.nodes[reader].outputs[0]
        if stands, !isOutput[output.index] {
          drop(reader)
          replace(output, by: id)
        } else if stands, takeOver(id, output) {
          drop(reader)
        } else if let known = converted[own.encoding], !isOutput[output.index] {
          drop(reader)
          replace(output, by: known)
        } else {
          readers[codes.index].removeAll { $0 == reader }
          readers[id.index].append(reader)
          graph.nodes[reader].op = Convert()
          graph.nodes[reader].inputs = [id]
          annotate(output, own.encoding)
          converted[own.encoding] = output
        }
      }
      if readers[codes.index].isEmpty, !isOutput[codes.index] {
        replaced.append((graph[codes].name, converted[own.encoding] ?? id))
        drop(quantizer)
      }
    }
    // What read a pair's result may quantize it again.
    if replaced.count > replacements { visit(id) }
  }

  private func isPartner(_ node: Int, _ grid: CodeGrid) -> Bool {
    (graph.nodes[node].op as? DequantizeLinear)?.grid == grid
  }

  private mutating func annotate(_ id: TensorID, _ encoding: Encoding) {
    graph[id].encoding = encoding
    graph[id].encodingSource = .source
    graph[id].state = .given
  }

  /// Takes a node out of the graph.
  private mutating func drop(_ node: Int) {
    dropped.insert(node)
    for case let input? in graph.nodes[node].inputs {
      readers[input.index].removeAll { $0 == node }
    }
  }

  private mutating func replace(_ old: TensorID, by new: TensorID) {
    for reader in readers[old.index] {
      graph.nodes[reader].inputs = graph.nodes[reader].inputs.map { $0 == old ? new : $0 }
    }
    readers[new.index] += readers[old.index]
    readers[old.index] = []
    replaced.append((graph[old].name, new))
  }

  /// Makes a tensor the output of the graph that `output` was, under its name; false where the tensor has
  /// a name at the border itself.
  private mutating func takeOver(_ id: TensorID, _ output: TensorID) -> Bool {
    guard !isInput[id.index], !isOutput[id.index], graph[id].constant == nil else { return false }
    let name = graph[output].name
    let old = graph[id].name
    graph[output].name = old
    graph[id].name = name
    if let statistics = graph.batchNorms.removeValue(forKey: old) {
      graph.batchNorms[name] = statistics
    }
    graph.outputs = graph.outputs.map { $0 == output ? id : $0 }
    isOutput[output.index] = false
    isOutput[id.index] = true
    for reader in readers[output.index] {
      graph.nodes[reader].inputs = graph.nodes[reader].inputs.map { $0 == output ? id : $0 }
    }
    readers[id.index] += readers[output.index]
    readers[output.index] = []
    replaced.append((old, id))
    return true
  }

  /// 32-bit codes are a bias's; constants that serve another purpose keep only their values.
  private mutating func clearWideOperands() {
    for (index, node) in graph.nodes.enumerated() where !dropped.contains(index) {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, let encoding = graph[id].encoding, encoding.bitwidth == 32,
          graph[id].encodingSource == .source, node.op.quantization.input(slot) != .bias
        else { continue }
        graph[id].clearAnnotations()
      }
    }
  }

  /// Marks tensors with an encoding of their own between an operator and its activation.
  private mutating func markUnfused() {
    var rest = graph
    rest.nodes = graph.nodes.enumerated().filter { !dropped.contains($0.offset) }.map(\.element)
    for (inner, reader) in rest.fusedIntermediates() where graph[inner].state == .given {
      let outer = rest[reader].outputs[0]
      let isClamp = rest[reader].op.quantization.fusion == .clamp
      if !isClamp || graph[outer].encoding != graph[inner].encoding {
        graph[inner].isUnfused = true
      }
    }
  }

  consuming func finish() -> Graph {
    var result = graph
    result.nodes = graph.nodes.enumerated().filter { !dropped.contains($0.offset) }.map(\.element)
    let names = replaced.map { ($0.name, graph[$0.by].name) }
    result = result.compacted()
    let live = Set(result.tensors.map(\.name))
    var targets: [String: String] = [:]
    for (old, new) in names { targets[old] = new }
    func final(_ name: String) -> String {
      var name = name
      var steps = 0
      while !live.contains(name), let next = targets[name], steps < names.count {
        name = next
        steps += 1
      }
      return name
    }
    for (alias, target) in result.aliases where !live.contains(target) {
      result.aliases[alias] = final(target)
    }
    for (old, _) in names {
      let base = RestoreNames.sourceName(old)
      let target = final(old)
      if !live.contains(base), live.contains(target), RestoreNames.sourceName(target) != base {
        result.aliases[base] = target
      }
    }
    return result
  }
}
