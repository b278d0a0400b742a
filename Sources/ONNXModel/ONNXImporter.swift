import IR

/// What an ONNX file became, with what there is to say about it.
public struct ImportedModel: Sendable {
  /// The network; layout-sensitive operators stand between Transposes.
  public var graph: Graph
  /// Files that were read: the model, then its external data in order of first use.
  public var files: [String]
  /// Warnings and notes.
  public var diagnostics: [Diagnostic]
  /// Version of the standard operator set.
  public var opset: Int
  /// How often each operator type occurs in the file's graph.
  public var operators: [String: Int] = [:]
}

/// Reads ONNX models.
public enum ONNXImporter {
  /// What the model leaves open.
  public struct Options: Sendable {
    /// Full shapes of inputs, by name; they replace what the model says.
    public var inputShapes: [String: [Int]]
    /// Sizes of symbolic dimensions, by symbol.
    public var symbols: [String: Int]
    /// Tensors (or nodes) to end at; nothing behind them is read. Where one is not the source's name, all is.
    public var outputs: [String]

    /// Options; empty by default.
    public init(inputShapes: [String: [Int]] = [:], symbols: [String: Int] = [:], outputs: [String] = []) {
      self.inputShapes = inputShapes
      self.symbols = symbols
      self.outputs = outputs
    }
  }

  /// Reads the model at `path`. The file stays mapped as long as the graph refers to its bytes.
  /// Throws every error of the model at once, the first with the others as related ones.
  public static func load(
    path: String, options: Options = Options()
  ) throws(Diagnostic) -> ImportedModel {
    let file = try MappedFile(path: path)
    do throws(Diagnostic) {
      let model = try ModelParser.parse(file)
      let decoder = TensorDecoder(file: file, modelPath: path)
      let session = try ImportSession(model: model, decoder: decoder, options: options)
      try session.run()
      var result = try session.finish()
      result.files.insert(path, at: 0)
      for node in model.graph.nodes { result.operators[node.opType, default: 0] += 1 }
      return result
    } catch {
      throw error.inFile(path)
    }
  }
}
