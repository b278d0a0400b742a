import CKernels
import COneDNN
import IR
import Operators

/// A recurrent layer with constant weights: all inputs are multiplied at once by oneDNN, the states step by
/// step by weights whose rows are turned into columns.
struct RecurrenceKernel<Cell: RecurrentCell>: Kernel {
  let op: Recurrence<Cell>
  /// The product with the input's weights, a direction each.
  let projections: [OneDNNPrimitive]
  /// [directions, hidden, gates * hidden].
  let recurrent: [Float]
  let steps: Int
  let batch: Int

  var name: String { "native recurrence, \(projections.first.map { "oneDNN \($0.implementation)" } ?? "")" }
  var consumedInputs: Set<Int> { [1, 2] }
  var usesOneDNN: Bool { true }
  var scratchpadBytes: Int { projections.map(\.scratchpadBytes).max() ?? 0 }
  var constantBytes: Int { recurrent.count * 4 + projections.map(\.constantBytes).reduce(0, +) }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let worker = context.oneDNN, let x = inputs[0]?.elements(as: Float.self).baseAddress else {
      throw Diagnostic("onednn", "an operand has no memory", kind: .internal)
    }
    let passes = RecurrentPasses(op, steps: steps, batch: batch, inputs, outputs)
    let rows = Cell.gates * op.hiddenSize
    let products = UnsafeMutablePointer<Float>.allocate(capacity: max(steps * batch * rows, 1))
    defer { products.deallocate() }
    for (pass, projection) in projections.enumerated() {
      try worker.execute(projection, x, nil, products)
      recurrent.withUnsafeBufferPointer { recurrent in
        guard let base = recurrent.baseAddress else { return }
        let weights = base + pass * op.hiddenSize * rows
        passes.run(pass) { step, sample, sums in
          guard let target = sums.baseAddress else { return }
          target.update(from: products + (step * batch + sample) * rows, count: rows)
        } recurrent: { state, gate, sums in
          guard let target = sums.baseAddress else { return }
          qk_vector_matrix(
            state, op.hiddenSize, weights + gate * op.hiddenSize, rows, target, sums.count)
        } activate: { gate, values, count in
          VectorFunctions.apply(gate, values, count)
        }
      }
    }
  }
}

extension OneDNN {
  /// Recurrent layers.
  static func recurrence(_ request: KernelRequest) -> KernelOffer {
    switch request.op {
    case let op as Lstm: recurrence(op, request)
    case let op as Gru: recurrence(op, request)
    case let op as Rnn: recurrence(op, request)
    default: .unrelated
    }
  }

  private static func recurrence<Cell: RecurrentCell>(
    _ op: Recurrence<Cell>, _ request: KernelRequest
  ) -> KernelOffer {
    guard request.postOperations.isEmpty, let x = request.input(0), x.count > 0,
      request.outputs.allSatisfy({ $0.count > 0 })
    else { return .refused("oneDNN: an operand is empty") }
    guard let weights = request.constant(1), let states = request.constant(2) else {
      return .refused("oneDNN: weights are computed")
    }
    let (rows, hidden, features) = (Cell.gates * op.hiddenSize, op.hiddenSize, x.shape[2])
    let count = op.direction.count
    do throws(Diagnostic) {
      var projections: [OneDNNPrimitive] = []
      for pass in 0..<count {
        projections.append(
          try OneDNNPrimitive { error, capacity in
            withFloats(weights, nil) { weights, _ in
              qdnn_matmul_create(
                1, 1, x.shape[0] * x.shape[1], features, rows, UInt32(qdnn_matmul_transpose_b),
                weights.map { $0 + pass * rows * features }, nil, nil, 0, error, capacity)
            }
          })
      }
      let plain = states.array(of: Float.self)
      var turned = [Float](repeating: 0, count: plain.count)
      for pass in 0..<count {
        for row in 0..<rows {
          for index in 0..<hidden {
            turned[(pass * hidden + index) * rows + row] = plain[(pass * rows + row) * hidden + index]
          }
        }
      }
      return .kernel(
        RecurrenceKernel(
          op: op, projections: projections, recurrent: turned, steps: x.shape[0], batch: x.shape[1]))
    } catch {
      return .refused("oneDNN: \(error.message)")
    }
  }
}
