import IR

/// Makes the declared shapes of a model's inputs static with what the options say.
struct InputShapes {
  private(set) var symbols: [String: Int]
  private let options: ONNXImporter.Options
  /// What cannot be resolved.
  private(set) var errors: [Diagnostic] = []
  /// Inputs with sizes that nothing tells.
  private var openInputs: [ONNXValueInfo] = []
  /// What is worth a word.
  private(set) var notes: [Diagnostic] = []

  /// Takes the sizes of symbols from the options and from the shapes given for whole inputs.
  init(_ inputs: [ONNXValueInfo], _ options: ONNXImporter.Options) {
    self.options = options
    symbols = options.symbols
    for (symbol, size) in options.symbols.sorted(by: { $0.key < $1.key }) {
      if !(0...TensorDecoder.sizeLimit).contains(size) {
        errors.append(
          Diagnostic("onnx-bad-size", "size \(size) of symbol \(symbol) is not valid", kind: .usage)
        )
      } else if !inputs.contains(where: { $0.shape?.contains(.symbol(symbol)) ?? false }) {
        notes.append(
          Diagnostic(
            "onnx-unused-symbol", "no input has a dimension \(symbol)", severity: .warning))
      }
    }
    for name in options.inputShapes.keys.sorted() {
      guard let input = inputs.first(where: { $0.name == name }) else {
        let names = inputs.map(\.name).joined(separator: ", ")
        errors.append(
          Diagnostic(
            "onnx-unknown-input", "the model has no input \(name)",
            hint: "its inputs are: \(names)",
            kind: .usage))
        continue
      }
      let given = options.inputShapes[name] ?? []
      guard given.allSatisfy({ (0...TensorDecoder.sizeLimit).contains($0) }), given.count <= 8
      else {
        errors.append(
          Diagnostic("onnx-bad-size", "shape \(given) of \(name) is not valid", kind: .usage))
        continue
      }
      guard let shape = input.shape else { continue }
      guard shape.count == given.count else {
        errors.append(
          Diagnostic(
            "onnx-input-rank",
            "input \(name) has rank \(shape.count), the given shape \(given) has "
              + "rank \(given.count)", kind: .usage))
        continue
      }
      for (dimension, size) in zip(shape, given) {
        if case .symbol(let symbol) = dimension, symbols[symbol] == nil { symbols[symbol] = size }
      }
    }
  }

  /// The static shape of an input, nil (and an error) where a size stays open.
  mutating func resolve(_ input: ONNXValueInfo) -> [Int]? {
    if let given = options.inputShapes[input.name] {
      return given.count <= 8 && given.allSatisfy({ (0...TensorDecoder.sizeLimit).contains($0) })
        ? given : nil
    }
    guard let declared = input.shape else {
      errors.append(
        Diagnostic(
          "onnx-open-shape", "input \(input.name) has no shape",
          at: Diagnostic.Location(tensor: input.name),
          hint: "give it: -d \(input.name) 1,3,224,224 (say)"))
      return nil
    }
    var shape: [Int] = []
    var open: [String] = []
    for dimension in declared {
      switch dimension {
      case .fixed(let size) where size <= Int64(TensorDecoder.sizeLimit): shape.append(Int(size))
      case .fixed(let size):
        errors.append(
          Diagnostic(
            "onnx-too-large", "size \(size) is too large",
            at: Diagnostic.Location(tensor: input.name)))
        return nil
      case .symbol(let symbol):
        if let size = symbols[symbol] {
          shape.append(size)
        } else {
          open.append(symbol)
        }
      case .unknown: open.append("?")
      }
    }
    guard !open.isEmpty else { return shape }
    openInputs.append(input)
    return nil
  }

  /// One error for all inputs whose sizes are open, with the options that give them; call after the last
  /// ``resolve(_:)``.
  mutating func finish() {
    guard let first = openInputs.first else { return }
    var readers: [String: [String]] = [:]
    var (names, shapes): ([String], [String]) = ([], [])
    for input in openInputs {
      let declared = input.shape ?? []
      let text = declared.map { dimension in
        switch dimension {
        case .fixed(let size): "\(size)"
        case .symbol(let symbol): symbols[symbol].map(String.init) ?? symbol
        case .unknown: "?"
        }
      }
      shapes.append("\(input.name) [\(text.joined(separator: ", "))]")
      for case .symbol(let symbol) in declared where symbols[symbol] == nil {
        if readers[symbol] == nil { names.append(symbol) }
        if readers[symbol]?.last != input.name { readers[symbol, default: []].append(input.name) }
      }
    }
    var options = names.map { "--onnx_define_symbol \($0) 1" }
    var whole: [String] = []
    for input in openInputs {
      let sizes = (input.shape ?? []).map { dimension in
        if case .fixed(let size) = dimension { return "\(size)" }
        if case .symbol(let symbol) = dimension { return symbols[symbol].map(String.init) ?? "1" }
        return "1"
      }
      whole.append("-d \(input.name) \(sizes.joined(separator: ","))")
      if input.shape?.contains(.unknown) ?? false, let last = whole.last { options.append(last) }
    }
    let list = names.map { "\($0) (\((readers[$0] ?? []).joined(separator: ", ")))" }
    let symbolText = list.isEmpty ? "" : "; symbols: \(list.joined(separator: ", "))"
    errors.append(
      Diagnostic(
        "onnx-open-shape", "sizes of inputs are open: \(shapes.joined(separator: ", "))\(symbolText)",
        at: Diagnostic.Location(tensor: first.name),
        hint: "give them, with your sizes: \(options.joined(separator: " "))"
          + (names.isEmpty ? "" : ", or \(whole.joined(separator: " "))")))
  }
}
