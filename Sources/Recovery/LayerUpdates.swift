import IR

/// What the algorithms decided about a layer.
public struct LayerUpdate: Sendable, Hashable {
  /// Name of the operator.
  public var node: String
  /// Name of its weight and what it holds now, on the grids of `encoding`; nil where it was left alone.
  public var weight: WeightUpdate?
  /// Values of its bias; nil where they were left alone.
  public var bias: [Float]?

  /// A weight on its grids.
  public struct WeightUpdate: Sendable, Hashable {
    public var name: String
    public var values: [Float]
    public var encoding: Encoding

    /// Makes the record; `values` are dense in the order of the stored weight.
    public init(name: String, values: [Float], encoding: Encoding) {
      self.name = name
      self.values = values
      self.encoding = encoding
    }
  }

  /// Makes the record.
  public init(node: String, weight: WeightUpdate? = nil, bias: [Float]? = nil) {
    self.node = node
    self.weight = weight
    self.bias = bias
  }
}
