import Glibc
import IR

/// A function of a gate. Source: ONNX operators RNN, GRU, LSTM.
public enum GateFunction: String, Sendable {
  case relu, tanh, sigmoid, affine, leakyrelu, thresholdedrelu, scaledtanh, hardsigmoid, elu, softsign,
    softplus

  /// Parameters where none are given.
  public var defaults: (alpha: Float, beta: Float) {
    switch self {
    case .affine: (1, 0)
    case .leakyrelu: (0.01, 0)
    case .hardsigmoid: (0.2, 0.5)
    case .thresholdedrelu, .scaledtanh, .elu: (1, 1)
    default: (0, 0)
    }
  }

  /// The value for one number.
  @inline(__always)
  public func apply(_ x: Float, _ alpha: Float, _ beta: Float) -> Float {
    switch self {
    case .relu: max(x, 0)
    case .tanh: tanhf(x)
    case .sigmoid: 1 / (1 + expf(-x))
    case .affine: alpha * x + beta
    case .leakyrelu: x < 0 ? alpha * x : x
    case .thresholdedrelu: x > alpha ? x : 0
    case .scaledtanh: alpha * tanhf(beta * x)
    case .hardsigmoid: min(max(alpha * x + beta, 0), 1)
    case .elu: x < 0 ? alpha * expm1f(x) : x
    case .softsign: x / (1 + abs(x))
    case .softplus: max(x, 0) + log1pf(expf(-abs(x)))
    }
  }
}

/// A gate's function with its parameters.
public struct Gate: Sendable, Hashable {
  public var function: GateFunction
  public var alpha: Float
  public var beta: Float

  /// Makes a gate; parameters that are not given have the function's defaults.
  public init(_ function: GateFunction, alpha: Float? = nil, beta: Float? = nil) {
    self.function = function
    self.alpha = alpha ?? function.defaults.alpha
    self.beta = beta ?? function.defaults.beta
  }

  /// The value for one number.
  @inline(__always)
  public func callAsFunction(_ x: Float) -> Float { function.apply(x, alpha, beta) }
}

/// What happens in one step of a ``Recurrence``.
public protocol RecurrentCell: Sendable {
  /// QNN's operator name, ours where QNN has none.
  static var typeName: String { get }
  /// Products with weights in each step.
  static var gates: Int { get }
  /// Functions for each direction.
  static var functions: [GateFunction] { get }
  /// Whether there is a cell state beside the hidden one.
  static var hasCell: Bool { get }
}

/// The hidden state alone: f.
public enum RnnCell: RecurrentCell {
  public static let typeName = "Rnn"
  public static let gates = 1
  public static let functions = [GateFunction.tanh]
  public static let hasCell = false
}
/// Update, reset and hidden gate, in this order.
public enum GruCell: RecurrentCell {
  public static let typeName = "Gru"
  public static let gates = 3
  public static let functions = [GateFunction.sigmoid, .tanh]
  public static let hasCell = false
}
/// Input, output, forget and cell gate, in this order.
public enum LstmCell: RecurrentCell {
  public static let typeName = "Lstm"
  public static let gates = 4
  public static let functions = [GateFunction.sigmoid, .tanh, .tanh]
  public static let hasCell = true
}

/// The direction in which a ``Recurrence`` reads.
public enum RecurrentDirection: String, Sendable {
  case forward, reverse, bidirectional

  /// Number of passes.
  public var count: Int { self == .bidirectional ? 2 : 1 }
}

/// A recurrent layer over a whole sequence. Inputs: x [T, N, I]; weights [D, G * H, I]; recurrent weights
/// [D, G * H, H]; optional: bias [D, 2 * G * H], lengths [N], first hidden state [D, N, H], and of an Lstm
/// first cell state [D, N, H] and peepholes [D, 3 * H]. Outputs: all states [T, D, N, H], the last one
/// [D, N, H], and of an Lstm the last cell [D, N, H]. Source: ONNX operators RNN, GRU, LSTM (order of gates
/// too); QNN's Lstm and Gru have one direction and the gates' weights apart.
public struct Recurrence<Cell: RecurrentCell>: Operator {
  public static var typeName: String { Cell.typeName }
  public var hiddenSize: Int
  public var direction: RecurrentDirection
  /// The functions of each direction.
  public var gates: [Gate]
  /// Products are cut to [-clip, clip]; 0: they are not.
  public var clip: Float
  /// Gru: whether the reset gate acts behind the product with the recurrent weights.
  public var linearBeforeReset: Bool
  /// Lstm: whether the forget gate is one less the input gate.
  public var inputForget: Bool

  /// Makes the operator.
  public init(
    hiddenSize: Int, direction: RecurrentDirection = .forward, gates: [Gate]? = nil, clip: Float = 0,
    linearBeforeReset: Bool = false, inputForget: Bool = false
  ) {
    self.hiddenSize = hiddenSize
    self.direction = direction
    let standard = Cell.functions.map { Gate($0) }
    self.gates = gates ?? (direction.count == 2 ? standard + standard : standard)
    self.clip = clip
    self.linearBeforeReset = linearBeforeReset
    self.inputForget = inputForget
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    hiddenSize = try attributes.int("hidden_size")
    let word = try attributes.string("direction", default: "forward")
    guard let known = RecurrentDirection(rawValue: word) else {
      throw Diagnostic("bad-parameter", "\(Self.typeName) has no direction \(word)")
    }
    direction = known
    let names = try attributes.string("activations").split(separator: " ")
    let functions = names.compactMap { GateFunction(rawValue: String($0)) }
    let alphas = try attributes.floats("activation_alpha")
    let betas = try attributes.floats("activation_beta")
    guard functions.count == names.count, alphas.count == names.count, betas.count == names.count else {
      throw Diagnostic("bad-parameter", "activations of \(Self.typeName) are not valid")
    }
    gates = functions.indices.map { Gate(functions[$0], alpha: alphas[$0], beta: betas[$0]) }
    clip = try attributes.float("clip", default: 0)
    linearBeforeReset = try attributes.bool("linear_before_reset", default: false)
    inputForget = try attributes.bool("input_forget", default: false)
  }

  public var attributes: [Attribute] {
    [
      Attribute("hidden_size", .int(hiddenSize)), Attribute("direction", .string(direction.rawValue)),
      Attribute("activations", .string(gates.map(\.function.rawValue).joined(separator: " "))),
      Attribute("activation_alpha", .floats(gates.map(\.alpha))),
      Attribute("activation_beta", .floats(gates.map(\.beta))), Attribute("clip", .float(clip)),
      Attribute("linear_before_reset", .bool(linearBeforeReset)),
      Attribute("input_forget", .bool(inputForget)),
    ]
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "x")
    let (w, r) = (try required(inputs, 1, "weights"), try required(inputs, 2, "recurrent weights"))
    let (count, hidden) = (direction.count, hiddenSize)
    try check((1..<(1 << 24)).contains(hidden), "hidden size \(hidden) is not valid")
    try check(gates.count == count * Cell.functions.count, "activations do not fit the directions")
    try check(clip >= 0, "clip \(clip) is negative")
    try check(x.rank == 3, "\(Self.typeName) needs rank 3, has \(x)")
    let (steps, batch) = (x.shape[0], x.shape[1])
    let rows = Cell.gates * hidden
    let states = [count, batch, hidden]
    let expected: [[Int]?] = [
      x.shape, [count, rows, x.shape[2]], [count, rows, hidden], [count, 2 * rows], nil, states,
      states, [count, 3 * hidden],
    ]
    try check(inputs.count <= (Cell.hasCell ? 8 : 6), "\(Self.typeName) has too many operands")
    for (index, type) in inputs.enumerated() {
      guard let type else { continue }
      if let shape = expected[index] {
        try requireFloat(type, Self.typeName)
        try check(type.shape == shape, "operand \(index) is \(type), must be \(shape)")
      } else {
        try check(
          type.element == .int32 && type.shape == [batch], "lengths are \(type), not int32[\(batch)]")
      }
    }
    _ = (w, r)
    let last = TensorType(.float32, states)
    return [TensorType(.float32, [steps] + states), last] + (Cell.hasCell ? [last] : [])
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int {
    guard let x = inputs[0], let w = inputs[1], let r = inputs[2] else { return 0 }
    return x.shape[0] * x.shape[1] * (w.count + r.count)
  }

  /// A bias is added to two products of different grids, so it has none.
  public var quantization: QuantizationRule {
    QuantizationRule(inputs: [
      .activation, .weight(channelAxis: 1, perRow: true), .weight(channelAxis: 1, perRow: true),
      .unquantized, .unquantized, .activation, .activation, .unquantized,
    ])
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let (w, r) = (try required(inputs, 1), try required(inputs, 2))
    let (steps, batch, features) = (x.type.shape[0], x.type.shape[1], x.type.shape[2])
    let rows = Cell.gates * hiddenSize
    let (xe, we) = (x.elements(as: Float.self), w.elements(as: Float.self))
    let re = r.elements(as: Float.self)
    let passes = RecurrentPasses(self, steps: steps, batch: batch, inputs, outputs)
    for pass in 0..<direction.count {
      passes.run(pass) { step, sample, sums in
        for row in 0..<rows {
          var sum = 0.0
          for index in 0..<features {
            sum +=
              Double(xe[(step * batch + sample) * features + index])
              * Double(we[(pass * rows + row) * features + index])
          }
          sums[row] = Float(sum)
        }
      } recurrent: { state, gate, sums in
        for row in 0..<sums.count {
          var sum = 0.0
          let start = (pass * rows + gate * hiddenSize + row) * hiddenSize
          for index in 0..<hiddenSize { sum += Double(state[index]) * Double(re[start + index]) }
          sums[row] = Float(sum)
        }
      }
    }
  }
}

public typealias Rnn = Recurrence<RnnCell>
public typealias Gru = Recurrence<GruCell>
public typealias Lstm = Recurrence<LstmCell>
