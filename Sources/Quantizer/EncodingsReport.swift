import IR

/// The encodings of a graph by layer, as plain data (`qinspect encodings --by layer`).
public struct EncodingsReport: Sendable, Hashable {
  /// One operand of a layer.
  public struct Row: Sendable, Hashable {
    /// `Input[0]`, `Param[weight]`, `Param[bias]`, `Output[0]`.
    public var operand: String
    /// Name of the tensor.
    public var tensor: String
    /// Bits of the encoding; of the element type where there is none.
    public var bitwidth: Int
    /// Whether the tensor carries an encoding; the numbers below mean nothing where it does not.
    public var isPresent: Bool
    /// Whether the grid is symmetric about zero.
    public var isSymmetric: Bool
    /// Number of grids of an encoding per channel, nil per tensor.
    public var channels: Int?
    /// Real value of the lowest code; the least of all channels.
    public var min: Double
    /// Real value of the highest code; the largest of all channels.
    public var max: Double
    /// Step between codes; the largest of all channels.
    public var delta: Double
    /// Offset, of the first channel.
    public var offset: Int
    /// Where the encoding came from.
    public var source: EncodingSource?
  }

  /// One node and its operands.
  public struct Layer: Sendable, Hashable {
    /// Name of the node.
    public var name: String
    /// QNN's name of its operator.
    public var type: String
    public var rows: [Row]
  }

  /// Layers in the order of the graph.
  public var layers: [Layer]

  /// The report of a graph, annotated or materialised.
  public init(_ graph: Graph) {
    layers = graph.nodes.map { node in
      var rows: [Row] = []
      for (slot, id) in node.inputs.enumerated() {
        guard let id else { continue }
        var label = "Input[\(slot)]"
        if graph[id].constant != nil {
          switch node.op.quantization.input(slot) {
          case .weight: label = "Param[weight]"
          case .bias: label = "Param[bias]"
          case .activation, .unquantized: break
          }
        }
        rows.append(Row(label, graph[id]))
      }
      for (slot, id) in node.outputs.enumerated() {
        rows.append(Row("Output[\(slot)]", graph[id]))
      }
      return Layer(name: node.name, type: node.op.typeName, rows: rows)
    }
  }
}

extension EncodingsReport.Row {
  /// The row of one operand.
  fileprivate init(_ operand: String, _ tensor: Tensor) {
    self.operand = operand
    self.tensor = tensor.name
    source = tensor.encodingSource
    guard let encoding = tensor.encoding, !encoding.channels.isEmpty else {
      bitwidth = tensor.type.element.bits
      isPresent = false
      isSymmetric = false
      (min, max, delta, offset) = (0, 0, 0, 0)
      return
    }
    bitwidth = encoding.bitwidth
    isPresent = true
    isSymmetric = encoding.symmetric
    channels = encoding.axis == nil ? nil : encoding.channels.count
    min = encoding.channels.indices.lazy.map { encoding.minimum(channel: $0) }.min() ?? 0
    max = encoding.channels.indices.lazy.map { encoding.maximum(channel: $0) }.max() ?? 0
    delta = Double(encoding.channels.lazy.map(\.scale).max() ?? 0)
    offset = encoding.shownOffset()
  }
}
