import IR
import Operators

extension ONNXTranslation {
  /// RNN, GRU, LSTM and ReverseSequence.
  static let recurrences = [
    recurrence("RNN", RnnCell.self), recurrence("GRU", GruCell.self),
    recurrence("LSTM", LstmCell.self), ONNXTranslation("ReverseSequence", reverseSequence),
    ONNXTranslation("com.microsoft.DynamicQuantizeLSTM", quantizedLstm),
  ]

  private static func recurrence<Cell: RecurrentCell>(
    _ name: String, _ cell: Cell.Type
  ) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      context.ignore("output_sequence")
      let word = try context.string("direction") ?? "forward"
      guard let direction = RecurrentDirection(rawValue: word.lowercased()) else {
        throw context.invalid("direction is \(word)")
      }
      let isBatchFirst = try context.flag("layout")
      let weights = try context.input(1, ranks: 3...3)
      let recurrent = try context.input(2, ranks: 3...3)
      let hidden = try context.int("hidden_size") ?? recurrent.shape[2]
      let op = Recurrence<Cell>(
        hiddenSize: hidden, direction: direction, gates: try gates(context, cell, direction.count),
        clip: try context.float("clip") ?? 0,
        linearBeforeReset: Cell.gates == 3 ? try context.flag("linear_before_reset") : false,
        inputForget: Cell.hasCell ? try context.flag("input_forget") : false)
      var operands: [Value?] = context.inputs
      while operands.last.map({ $0 == nil }) ?? false { operands.removeLast() }
      operands[0] = try context.input(0, ranks: 3...3)
      operands[1] = weights
      operands[2] = recurrent
      if isBatchFirst {
        for index in [0, 5, 6] where index < operands.count {
          guard let value = operands[index] else { continue }
          operands[index] = try context.transpose(value, [1, 0, 2], suffix: "steps\(index)")
        }
      }
      if operands.count > 4, let lengths = operands[4] {
        operands[4] = try context.cast(lengths, to: .int32, suffix: "lengths")
      }
      let output = context.node.outputs.first { !$0.isEmpty } ?? context.name
      let names = ["states", "last", "cell"].prefix(Cell.hasCell ? 3 : 2).map { "\(output).\($0)" }
      var results = try context.builder.emit(op, operands, node: context.name, tensors: names)
      if isBatchFirst {
        results[0] = try context.transpose(results[0], [2, 0, 1, 3], suffix: "batch")
        for index in results.indices.dropFirst() {
          results[index] = try context.transpose(results[index], [1, 0, 2], suffix: "batch\(index)")
        }
      }
      return results
    }
  }

  /// The functions of all directions with their parameters, which are given for those that have some.
  private static func gates<Cell: RecurrentCell>(
    _ context: NodeContext, _ cell: Cell.Type, _ directions: Int
  ) throws(Diagnostic) -> [Gate] {
    var names = [String]()
    if case .strings(let list)? = context.any("activations") { names = list }
    var functions: [GateFunction] = []
    for name in names {
      guard let function = GateFunction(rawValue: name.lowercased()) else {
        throw context.unsupported("the activation \(name)")
      }
      functions.append(function)
    }
    if functions.isEmpty { functions = (0..<directions).flatMap { _ in Cell.functions } }
    guard functions.count == directions * Cell.functions.count else {
      throw context.invalid("\(functions.count) activations")
    }
    var alphas = try floats(context, "activation_alpha")
    var betas = try floats(context, "activation_beta")
    return functions.map { function in
      var gate = Gate(function)
      switch function {
      case .affine, .scaledtanh, .hardsigmoid:
        if !alphas.isEmpty { gate.alpha = alphas.removeFirst() }
        if !betas.isEmpty { gate.beta = betas.removeFirst() }
      case .leakyrelu, .thresholdedrelu, .elu:
        if !alphas.isEmpty { gate.alpha = alphas.removeFirst() }
      default: break
      }
      return gate
    }
  }

  private static func floats(_ context: NodeContext, _ name: String) throws(Diagnostic) -> [Float] {
    switch context.any(name) {
    case nil: return []
    case .floats(let list): return list
    case .ints(let list) where list.isEmpty: return []
    default: throw context.invalid("attribute \(name) must be a list of numbers")
    }
  }

  /// An LSTM whose weights are stored in codes, each direction's with inputs in front. ONNX Runtime gives input
  /// and state a grid in each step; here they stay float.
  @Sendable private static func quantizedLstm(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    var operands: [Value?] = (0..<8).map { context.optional($0) }
    for (index, scale) in [(1, 8), (2, 10)] {
      let codes = try context.input(index, ranks: 3...3)
      let weights = try context.directionalWeights(codes, try context.input(scale), context.optional(scale + 1))
      operands[index] = try context.transpose(weights, [0, 2, 1], suffix: "rows\(index)")
    }
    context.inputs = operands
    return try recurrence("LSTM", LstmCell.self).translate(context)
  }

  @Sendable private static func reverseSequence(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 2...8)
    let op = ReverseSequence(
      batchAxis: try context.axis(try context.int("batch_axis") ?? 1, rank: x.rank),
      timeAxis: try context.axis(try context.int("time_axis") ?? 0, rank: x.rank))
    return [try context.emit(op, [x, try context.input(1)])]
  }
}

extension NodeContext {
  /// Weights [D, I, rows] of codes with a scale and a zero point for all, each direction, or each row of each
  /// direction.
  fileprivate func directionalWeights(
    _ codes: Value, _ scale: Value, _ zero: Value?
  ) throws(Diagnostic) -> Value {
    let (directions, rows) = (codes.shape[0], codes.shape[2])
    guard let numbers = codes.constant?.integers(), let scales = scale.constant?.floats(),
      zero == nil || zero?.constant != nil
    else { throw unsupported("weights that are computed from an input") }
    let zeros = zero?.constant?.integers() ?? scales.map { _ in 0 }
    guard [1, directions, directions * rows].contains(scales.count), zeros.count == scales.count else {
      throw invalid("\(scales.count) scales and \(zeros.count) zero points do not fit \(codes.type)")
    }
    if scales.count == 1 || scales.count == directions || directions == 1 {
      let axis = scales.count == 1 ? nil : (scales.count == directions ? 0 : 2)
      return try dequantize(codes, try makeGrid(scales, zeros, codes.type.element, axis: axis))
    }
    // No encoding has a grid for each row of each direction: the numbers alone stay.
    _ = try makeGrid(scales, zeros, codes.type.element, axis: 0)
    let inner = codes.shape[1] * rows
    let values = numbers.enumerated().map { index, number in
      let place = index / inner * rows + index % rows
      return Float(number - zeros[place]) * scales[place]
    }
    return constant(Constant(values, shape: codes.shape), suffix: "weights")
  }
}
