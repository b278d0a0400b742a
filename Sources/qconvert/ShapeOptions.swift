import ArgumentParser
import IR
import ONNXModel
import ToolKit

/// What the model leaves open about its inputs.
struct ShapeOptions: ParsableArguments {
  @Option(
    name: [
      .customShort("s"), .customLong("source_model_input_shape"), .customShort("d"),
      .customLong("input_dim"),
    ],
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Shape of an input, 1,3,224,224 say; repeatable.", valueName: "name dims"))
  var inputShape: [String] = []
  @Option(
    name: .customLong("onnx_define_symbol"), parsing: .upToNextOption,
    help: ArgumentHelp("Size of a symbolic dimension; repeatable.", valueName: "name value"))
  var symbol: [String] = []
  @Option(
    name: .customLong("onnx_override_batch"),
    help: ArgumentHelp("First dimension of every input.", valueName: "n"))
  var batch: Int?

  func validate() throws {
    if let batch, batch < 1 {
      throw ValidationError("--onnx_override_batch must be at least 1, not \(batch)")
    }
    _ = try pairs(inputShape, "--source_model_input_shape", "name and dimensions") { text in
      text.split(separator: ",", omittingEmptySubsequences: false).reduce(into: [Int]?([])) {
        sizes, part in
        guard let size = Int(part), size >= 0 else { return sizes = nil }
        sizes?.append(size)
      }
    }
    _ = try pairs(symbol, "--onnx_define_symbol", "name and value", ShapeOptions.size)
  }

  /// Imports a model with these shapes, up to `outputs` if there are some. Another batch size is set on the
  /// shapes that the model has without it, so that its other sizes need not be given.
  func load(_ path: String, outputs: [String]) throws(Diagnostic) -> ImportedModel {
    var options = ONNXImporter.Options(
      inputShapes: shapeTable, symbols: symbolTable, outputs: outputs)
    let model = try ONNXImporter.load(path: path, options: options)
    guard let batch else { return model }
    for id in model.graph.inputs {
      let input = model.graph[id]
      guard options.inputShapes[input.name] == nil, input.type.rank > 0 else { continue }
      options.inputShapes[input.name] = [batch] + input.type.shape.dropFirst()
    }
    return try ONNXImporter.load(path: path, options: options)
  }

  /// What is recorded in the container.
  var effective: [String: String] {
    let shapes = shapeTable.sorted { $0.key < $1.key }
      .map { "\($0.key)=\($0.value.map(String.init).joined(separator: ","))" }
    let symbols = symbolTable.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    return [
      "source_model_input_shape": EffectiveOptions.list(shapes),
      "onnx_define_symbol": EffectiveOptions.list(symbols),
      "onnx_override_batch": batch.map(String.init) ?? EffectiveOptions.none,
    ]
  }

  private var shapeTable: [String: [Int]] {
    var table: [String: [Int]] = [:]
    for index in stride(from: 0, to: inputShape.count - 1, by: 2) {
      table[inputShape[index]] = inputShape[index + 1].split(separator: ",").compactMap { Int($0) }
    }
    return table
  }

  private var symbolTable: [String: Int] {
    var table: [String: Int] = [:]
    for index in stride(from: 0, to: symbol.count - 1, by: 2) {
      table[symbol[index]] = ShapeOptions.size(symbol[index + 1])
    }
    return table
  }

  private static func size(_ text: String) -> Int? { Int(text).flatMap { $0 >= 0 ? $0 : nil } }

  /// Checks a list of names and values that alternate; each name once.
  private func pairs<Value>(
    _ words: [String], _ option: String, _ form: String, _ parse: (String) -> Value?
  ) throws -> Int {
    guard words.count.isMultiple(of: 2) else {
      throw ValidationError("\(option) takes \(form), not '\(words.joined(separator: " "))'")
    }
    var names = Set<String>()
    for index in stride(from: 0, to: words.count, by: 2) {
      guard names.insert(words[index]).inserted else {
        throw ValidationError("\(option) is given twice for \(words[index])")
      }
      guard parse(words[index + 1]) != nil else {
        throw ValidationError(
          "\(option) takes \(form), not '\(words[index]) \(words[index + 1])'")
      }
    }
    return words.count / 2
  }
}
