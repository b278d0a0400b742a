import IR

/// The steps of a ``Recurrence`` over the samples of a batch; who runs them gives the products with the
/// weights.
public struct RecurrentPasses<Cell: RecurrentCell> {
  /// Puts into the buffer the products of the input at (step, sample) with the weights of all gates.
  public typealias Projection = (Int, Int, UnsafeMutableBufferPointer<Float>) -> Void
  /// Puts into the buffer the products of a state with the recurrent weights from a gate on, as many rows
  /// as the buffer has.
  public typealias Product = (UnsafePointer<Float>, Int, UnsafeMutableBufferPointer<Float>) -> Void

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
  public func run(_ pass: Int, input: Projection, recurrent: Product) {
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
          advance(gates, pass, sums, products, h, c, scratch, recurrent)
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

  private func cut(_ x: Float) -> Float { op.clip > 0 ? min(max(x, -op.clip), op.clip) : x }

  private func advance(
    _ gates: [Gate], _ pass: Int, _ sums: UnsafeMutableBufferPointer<Float>,
    _ products: UnsafeMutableBufferPointer<Float>, _ h: UnsafeMutablePointer<Float>,
    _ c: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutablePointer<Float>, _ recurrent: Product
  ) {
    let hidden = op.hiddenSize
    let rows = Cell.gates * hidden
    let inputBias = bias.map { UnsafeBufferPointer(rebasing: $0[2 * pass * rows..<(2 * pass + 1) * rows]) }
    let hiddenBias = bias.map {
      UnsafeBufferPointer(rebasing: $0[(2 * pass + 1) * rows..<(2 * pass + 2) * rows])
    }
    func total(_ row: Int) -> Float {
      sums[row] + products[row] + (inputBias?[row] ?? 0) + (hiddenBias?[row] ?? 0)
    }
    if Cell.gates == 3 {
      let two = UnsafeMutableBufferPointer(rebasing: products[..<(2 * hidden)])
      let one = UnsafeMutableBufferPointer(rebasing: products[(2 * hidden)...])
      recurrent(h, 0, two)
      for index in 0..<hidden {
        scratch[hidden + index] = gates[0](cut(total(hidden + index)))
        scratch[index] = op.linearBeforeReset ? h[index] : scratch[hidden + index] * h[index]
      }
      recurrent(scratch, 2, one)
      for index in 0..<hidden {
        let (row, reset) = (2 * hidden + index, scratch[hidden + index])
        let old = products[row] + (hiddenBias?[row] ?? 0)
        let sum = sums[row] + (inputBias?[row] ?? 0) + (op.linearBeforeReset ? reset * old : old)
        let update = gates[0](cut(total(index)))
        h[index] = (1 - update) * gates[1](cut(sum)) + update * h[index]
      }
      return
    }
    recurrent(h, 0, products)
    guard Cell.hasCell else {
      for index in 0..<hidden { h[index] = gates[0](cut(total(index))) }
      return
    }
    let peeps = peepholes.map {
      UnsafeBufferPointer(rebasing: $0[3 * pass * hidden..<3 * (pass + 1) * hidden])
    }
    for index in 0..<hidden {
      let old = c[index]
      let i = gates[0](cut(total(index) + (peeps?[index] ?? 0) * old))
      let f =
        op.inputForget
        ? 1 - i : gates[0](cut(total(2 * hidden + index) + (peeps?[2 * hidden + index] ?? 0) * old))
      c[index] = f * old + i * gates[1](cut(total(3 * hidden + index)))
      let o = gates[0](cut(total(hidden + index) + (peeps?[hidden + index] ?? 0) * c[index]))
      h[index] = o * gates[2](c[index])
    }
  }
}
