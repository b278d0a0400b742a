import IR

/// The steps of a ``Recurrence`` over the samples of a batch; who runs them gives the products with the
/// weights.
public struct RecurrentPasses<Cell: RecurrentCell> {
  /// Puts into the buffer the products of the input at (step, sample) with the weights of all gates.
  public typealias Projection = (Int, Int, UnsafeMutableBufferPointer<Float>) -> Void
  /// Puts into the buffer the products of a state with the recurrent weights from a gate on, as many rows
  /// as the buffer has.
  public typealias Product = (UnsafePointer<Float>, Int, UnsafeMutableBufferPointer<Float>) -> Void
  /// Applies a gate's function to so many numbers in place.
  public typealias Activation = (Gate, UnsafeMutablePointer<Float>, Int) -> Void

  private let op: Recurrence<Cell>
  private let steps: Int
  private let batch: Int
  private let bias: UnsafeBufferPointer<Float>?
  private let lengths: UnsafeBufferPointer<Int32>?
  private let firstHidden: UnsafeBufferPointer<Float>?
  private let firstCell: UnsafeBufferPointer<Float>?
  private let peepholes: UnsafeBufferPointer<Float>?
  private let all: UnsafeMutableBufferPointer<Float>
  private let lastHidden: UnsafeMutableBufferPointer<Float>
  private let lastCell: UnsafeMutableBufferPointer<Float>?

  /// Takes the operands and outputs of the operator.
  public init(
    _ op: Recurrence<Cell>, steps: Int, batch: Int, _ inputs: [TensorView?],
    _ outputs: [MutableTensorView]
  ) {
    func floats(_ index: Int) -> UnsafeBufferPointer<Float>? {
      (index < inputs.count ? inputs[index] : nil)?.elements(as: Float.self)
    }
    self.op = op
    self.steps = steps
    self.batch = batch
    bias = floats(3)
    lengths = (inputs.count > 4 ? inputs[4] : nil)?.elements(as: Int32.self)
    firstHidden = floats(5)
    firstCell = floats(6)
    peepholes = floats(7)
    all = outputs[0].elements(as: Float.self)
    lastHidden = outputs[1].elements(as: Float.self)
    lastCell = Cell.hasCell ? outputs[2].elements(as: Float.self) : nil
  }

  /// Runs one direction, number `pass`.
  public func run(
    _ pass: Int, input: Projection, recurrent: Product,
    activate: Activation = { gate, values, count in
      for index in 0..<count { values[index] = gate(values[index]) }
    }
  ) {
    let hidden = op.hiddenSize
    let rows = Cell.gates * hidden
    let isReverse = op.direction == .reverse || pass == 1
    let count = Cell.functions.count
    let gates = Array(op.gates[pass * count..<(pass + 1) * count])
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * rows + 4 * hidden) { memory in
      guard let base = memory.baseAddress else { return }
      let sums = UnsafeMutableBufferPointer(start: base, count: rows)
      let products = UnsafeMutableBufferPointer(start: base + rows, count: rows)
      let (h, c) = (base + 2 * rows, base + 2 * rows + hidden)
      let scratch = base + 2 * rows + 2 * hidden
      for sample in 0..<batch {
        let state = (pass * batch + sample) * hidden
        for index in 0..<hidden {
          h[index] = firstHidden?[state + index] ?? 0
          c[index] = firstCell?[state + index] ?? 0
        }
        let length = min(max(lengths.map { Int($0[sample]) } ?? steps, 0), steps)
        for step in 0..<steps {
          let place = ((step * op.direction.count + pass) * batch + sample) * hidden
          if step >= length { for index in 0..<hidden { all[place + index] = 0 } }
        }
        for number in 0..<length {
          let step = isReverse ? length - 1 - number : number
          input(step, sample, sums)
          advance(gates, pass, sums, products, h, c, scratch, recurrent, activate)
          let place = ((step * op.direction.count + pass) * batch + sample) * hidden
          for index in 0..<hidden { all[place + index] = h[index] }
        }
        for index in 0..<hidden {
          lastHidden[state + index] = h[index]
          lastCell?[state + index] = c[index]
        }
      }
    }
  }

  private func cut(_ values: UnsafeMutablePointer<Float>, _ count: Int) {
    guard op.clip > 0 else { return }
    for index in 0..<count { values[index] = min(max(values[index], -op.clip), op.clip) }
  }

  /// One step: `sums` holds the products of the input.
  private func advance(
    _ gates: [Gate], _ pass: Int, _ sums: UnsafeMutableBufferPointer<Float>,
    _ products: UnsafeMutableBufferPointer<Float>, _ h: UnsafeMutablePointer<Float>,
    _ c: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutablePointer<Float>, _ recurrent: Product,
    _ activate: Activation
  ) {
    guard let x = sums.baseAddress, let r = products.baseAddress else { return }
    let hidden = op.hiddenSize
    let rows = Cell.gates * hidden
    if let bias, let base = bias.baseAddress {
      let own = base + 2 * pass * rows
      for row in 0..<rows { x[row] += own[row] }
    }
    let hiddenBias = bias?.baseAddress.map { $0 + (2 * pass + 1) * rows }
    if Cell.gates == 3 {
      return advanceGru(gates, x, products, r, hiddenBias, h, scratch, recurrent, activate)
    }
    recurrent(h, 0, products)
    for row in 0..<rows { x[row] += r[row] }
    if let hiddenBias { for row in 0..<rows { x[row] += hiddenBias[row] } }
    guard Cell.hasCell else {
      cut(x, hidden)
      activate(gates[0], x, hidden)
      h.update(from: x, count: hidden)
      return
    }
    let (i, o, f, g) = (x, x + hidden, x + 2 * hidden, x + 3 * hidden)
    let peeps = peepholes?.baseAddress.map { $0 + 3 * pass * hidden }
    if let peeps {
      for index in 0..<hidden {
        i[index] += peeps[index] * c[index]
        f[index] += peeps[2 * hidden + index] * c[index]
      }
    }
    cut(i, hidden)
    cut(f, 2 * hidden)
    activate(gates[0], i, hidden)
    if op.inputForget {
      for index in 0..<hidden { f[index] = 1 - i[index] }
    } else {
      activate(gates[0], f, hidden)
    }
    activate(gates[1], g, hidden)
    for index in 0..<hidden { c[index] = f[index] * c[index] + i[index] * g[index] }
    if let peeps { for index in 0..<hidden { o[index] += peeps[hidden + index] * c[index] } }
    cut(o, hidden)
    activate(gates[0], o, hidden)
    h.update(from: c, count: hidden)
    activate(gates[2], h, hidden)
    for index in 0..<hidden { h[index] *= o[index] }
  }

  private func advanceGru(
    _ gates: [Gate], _ x: UnsafeMutablePointer<Float>, _ products: UnsafeMutableBufferPointer<Float>,
    _ r: UnsafeMutablePointer<Float>, _ bias: UnsafePointer<Float>?, _ h: UnsafeMutablePointer<Float>,
    _ scratch: UnsafeMutablePointer<Float>, _ recurrent: Product, _ activate: Activation
  ) {
    let hidden = op.hiddenSize
    recurrent(h, 0, UnsafeMutableBufferPointer(rebasing: products[..<(2 * hidden)]))
    for row in 0..<2 * hidden { x[row] += r[row] }
    if let bias { for row in 0..<2 * hidden { x[row] += bias[row] } }
    cut(x, 2 * hidden)
    activate(gates[0], x, 2 * hidden)
    let (update, reset, g, old) = (x, x + hidden, x + 2 * hidden, r + 2 * hidden)
    for index in 0..<hidden {
      scratch[index] = op.linearBeforeReset ? h[index] : reset[index] * h[index]
    }
    recurrent(scratch, 2, UnsafeMutableBufferPointer(rebasing: products[(2 * hidden)...]))
    if let bias { for index in 0..<hidden { old[index] += bias[2 * hidden + index] } }
    if op.linearBeforeReset { for index in 0..<hidden { old[index] *= reset[index] } }
    for index in 0..<hidden { g[index] += old[index] }
    cut(g, hidden)
    activate(gates[1], g, hidden)
    for index in 0..<hidden { h[index] = (1 - update[index]) * g[index] + update[index] * h[index] }
  }
}
