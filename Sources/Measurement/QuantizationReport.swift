import Calibration
import IR
import Quantizer

/// A titled table of a report.
public struct ReportSection: Sendable, Hashable {
  public var title: String
  public var header: [String]
  public var rows: [[String]]

  /// A section; rows have a cell for each heading.
  public init(title: String, header: [String], rows: [[String]]) {
    self.title = title
    self.header = header
    self.rows = rows
  }
}

extension ReportSection {
  /// A section of what passes and algorithms have to say, a row a finding.
  public init(title: String, findings: [Diagnostic]) {
    self.init(
      title: title, header: ["kind", "where", "what", "hint"],
      rows: findings.map { [$0.code, $0.location.description, $0.message, $0.hint ?? ""] })
  }
}

/// What quantizing decided about every tensor (`--report`).
public struct QuantizationReport: Sendable {
  /// What a tensor is to the operators.
  public enum Role: String, Sendable, Hashable { case input, activation, weight, bias, constant }

  /// One tensor.
  public struct Row: Sendable {
    public var name: String
    public var role: Role
    /// The operator that makes it or reads it first.
    public var layer: String
    public var operatorName: String
    /// QNN's or ONNX's name of the element type, as the graph has it.
    public var shape: [Int]
    /// The grid; nil where the tensor stays float.
    public var grid: GridSummary?
    /// Range of the observed values, of a constant's own values.
    public var observed: ClosedRange<Double>?
    /// Signal to quantization noise in dB of the tensor alone: exact for constants, estimated from the
    /// histogram for activations; nil where nothing is known.
    public var sqnr: Double?
    /// What was observed of an activation.
    public var histogram: HistogramObserver?
    /// Ranges of a weight's channels, as the source has them and as quantized.
    public var rangesBefore: [ClosedRange<Float>] = []
    public var rangesAfter: [ClosedRange<Float>] = []
  }

  /// Float tensors in order of the graph: inputs, then what each operator reads and makes.
  public var rows: [Row]
  /// What algorithms have to tell.
  public var sections: [ReportSection]

  /// The report of an annotated graph; `source` is the float graph before anything was changed.
  public init(
    _ graph: Graph, source: Graph, statistics: Statistics?, sections: [ReportSection] = []
  ) {
    self.sections = sections
    rows = []
    var seen = Set<TensorID>()
    var observed: [String: TensorStatistics] = [:]
    for tensor in statistics?.tensors ?? [] { observed[tensor.name] = tensor }
    var parameters: [String: ParameterComparison] = [:]
    let simulated = graph.simulatingConstants()
    if let match = try? GraphMatch(reference: source, container: simulated) {
      let removed = graph.removedChannels()
      for found in ParameterComparison.all(match, reference: source, container: simulated, removed: removed) {
        parameters[found.name] = found
      }
    }
    let hidden = Set(graph.fusedIntermediates().keys)
    func add(_ id: TensorID, _ role: Role, _ layer: String, _ type: String) {
      let tensor = graph[id]
      guard tensor.type.element.logical == .float32, !hidden.contains(id), seen.insert(id).inserted else { return }
      var row = Row(
        name: tensor.name, role: role, layer: layer, operatorName: type, shape: tensor.type.shape,
        grid: GridSummary(tensor))
      if let constant = tensor.constant {
        let values = constant.floats().filter(\.isFinite)
        if let low = values.min(), let high = values.max() { row.observed = Double(low)...Double(high) }
        let found = parameters[tensor.name]
        row.sqnr = row.grid == nil ? nil : found?.errors?.sqnr
        row.rangesBefore = found?.rangesBefore ?? []
        row.rangesAfter = found?.rangesAfter ?? []
      } else if let seen = observed[tensor.name] {
        row.histogram = seen.histogram
        if seen.observer.hasRange {
          row.observed = Double(seen.observer.minimum)...Double(seen.observer.maximum)
        }
        row.sqnr = tensor.encoding.flatMap { seen.histogram?.estimatedSQNR($0) }
      }
      rows.append(row)
    }
    for input in graph.inputs { add(input, .input, graph[input].name, "Input") }
    for node in graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, graph[id].constant != nil else { continue }
        let role: Role =
          switch node.op.quantization.input(slot) {
          case .weight: .weight
          case .bias: .bias
          case .activation, .unquantized: .constant
          }
        add(id, role, node.name, node.op.typeName)
      }
      for output in node.outputs { add(output, .activation, node.name, node.op.typeName) }
    }
  }

  /// Headings of ``cells(of:)``.
  public static let header = [
    "tensor", "role", "layer", "operator", "source", "bitwidth", "symmetric", "grids", "min", "max", "scale",
    "offset", "observed_min", "observed_max", "sqnr_db",
  ]

  /// The cells of a row as a table for programs has them: all digits, empty where there is nothing.
  public static func cells(of row: Row) -> [String] {
    func text(_ value: Double?) -> String { value.map { "\($0)" } ?? "" }
    let grid = row.grid
    return [
      row.name, row.role.rawValue, row.layer, row.operatorName, grid?.source?.rawValue ?? (grid == nil ? "float" : ""),
      grid.map { "\($0.bitwidth)" } ?? "", grid.map { "\($0.isSymmetric)" } ?? "", grid.map { "\($0.count)" } ?? "",
      text(grid?.minimum), text(grid?.maximum), grid.map { "\(Float($0.scale))" } ?? "",
      grid.map { "\($0.offset)" } ?? "", text(row.observed?.lowerBound), text(row.observed?.upperBound),
      text(row.sqnr),
    ]
  }
}

extension Graph {
  /// A copy whose float constants have the values of their grids.
  fileprivate func simulatingConstants() -> Graph {
    var result = self
    for index in result.tensors.indices where result.tensors[index].type.element == .float32 {
      guard let constant = result.tensors[index].constant, let encoding = result.tensors[index].encoding else {
        continue
      }
      let values = constant.floats()
      var simulated = values
      values.withUnsafeBufferPointer { source in
        simulated.withUnsafeMutableBufferPointer { target in
          guard let from = source.baseAddress, let to = target.baseAddress else { return }
          encoding.simulate(from, into: to, shape: constant.type.shape)
        }
      }
      result.tensors[index].constant = Constant(simulated, shape: constant.type.shape)
    }
    return result
  }
}
