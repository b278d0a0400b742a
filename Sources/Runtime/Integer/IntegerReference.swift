import IR
import Operators

// The plain evaluation of every integer operation: what defines the bits. Readable before fast.

extension IntegerAccumulation {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let totals = totals(x, as: Int32.self)
    for (index, total) in totals.enumerated() { y[index] = code(total, channel: index % channels) }
  }

  /// The code of a total.
  func code(_ total: Int32, channel: Int) -> UInt8 {
    let code = grid.code(steps: steps(Float(total), channel), in: clamp.range)
    return bounds.map { min(code, $0[channel]) } ?? code
  }

  /// A total in steps of the output, activated.
  func steps(_ total: Float, _ channel: Int) -> Float { activated(total * scales[channel], channel) }

  private func activated(_ y: Float, _ channel: Int) -> Float {
    switch curve {
    case .none: y
    case .slopes(let slopes): y < 0 ? slopes[channel] * y : y
    case .hardSwish: y * min(max(y / 6 + 0.5, 0), 1) / grid.scale
    }
  }

  /// Exact sums of weight times distance from the zero point, and bias, in output order.
  func totals<Code: FixedWidthInteger, Total: FixedWidthInteger & SignedInteger>(
    _ x: UnsafePointer<Code>, as type: Total.Type
  ) -> [Total] {
    let pixels = output[..<4].reduce(1, *)
    var totals: [Total] = []
    for _ in 0..<pixels { totals += bias.map { Total($0) } }
    switch form {
    case .product:
      for row in 0..<pixels { add(x + row * input[4], weightRow: 0, group: 1, to: &totals, row) }
    case .convolution(let window, let group):
      forEachTap(
        input, output, window, start: { _ in },
        tap: { position, pixel, tap in
          add(x + pixel * input[4], weightRow: tap, group: group, to: &totals, position)
        })
    case .transposed(let window, let group):
      forEachTap(
        output, input, window, start: { _ in },
        tap: { pixel, position, tap in
          add(x + pixel * input[4], weightRow: tap, group: group, to: &totals, position)
        })
    }
    return totals
  }

  /// Adds one input pixel by the weights of a tap to an output pixel.
  private func add<Code: FixedWidthInteger, Total: FixedWidthInteger & SignedInteger>(
    _ pixel: UnsafePointer<Code>, weightRow tap: Int, group: Int, to totals: inout [Total], _ position: Int
  ) {
    let (inner, outer) = (input[4] / group, channels / group)
    weights.withUnsafeBufferPointer { weights in
      totals.withUnsafeMutableBufferPointer { totals in
        for g in 0..<group {
          for c in 0..<inner {
            let distance = Total(pixel[g * inner + c]) - Total(inputZero)
            let row = (tap * inner + c) * channels + g * outer
            let target = position * channels + g * outer
            for m in 0..<outer { totals[target + m] &+= distance &* Total(weights[row + m]) }
          }
        }
      }
    }
  }
}

extension IntegerLookup {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    for index in 0..<outputs[0].type.count { y[index] = table[Int(x[index])] }
  }
}

extension IntegerArithmetic {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    if grid.isWide {
      evaluate(UInt16.self, inputs, outputs)
    } else {
      evaluate(UInt8.self, inputs, outputs)
    }
  }

  private func evaluate<Code: FixedWidthInteger & BitwiseCopyable>(
    _ type: Code.Type, _ inputs: [TensorView?], _ outputs: [MutableTensorView]
  ) {
    guard let a = inputs[0]?.elements(as: type), let b = inputs[1]?.elements(as: type) else { return }
    let y = outputs[0].elements(as: type)
    let (aSteps, bSteps) = (broadcastStrides(aShape, to: shape), broadcastStrides(bShape, to: shape))
    let strides = denseStrides(shape)
    for index in 0..<outputs[0].type.count {
      var (left, right) = (0, 0)
      for axis in shape.indices {
        let place = index / strides[axis] % shape[axis]
        left += place * aSteps[axis]
        right += place * bSteps[axis]
      }
      let p = Int(a[left]) - aZero
      let q = Int(b[right]) - bZero
      let steps =
        switch kind {
        case .sum: Float(p) * aScale + Float(q) * bScale
        case .maximum: max(Float(p) * aScale, Float(q) * bScale)
        case .minimum: min(Float(p) * aScale, Float(q) * bScale)
        case .product: Float(p * q) * aScale
        case .quotient: Float(p) / Float(q) * aScale
        }
      y[index] = Code(grid.wholeCode(steps: steps, in: clamp.range))
    }
  }
}

extension IntegerMaximumPool {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let channels = output[4]
    y.update(repeating: 0, count: outputs[0].type.count)
    forEachTap(
      input, output, window, start: { _ in },
      tap: { position, pixel, _ in
        for c in 0..<channels {
          y[position * channels + c] = max(y[position * channels + c], x[pixel * channels + c])
        }
      })
    for index in 0..<outputs[0].type.count { y[index] = table[Int(y[index])] }
  }
}

extension IntegerAveragePool {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let channels = output[4]
    var sums = [Int32](repeating: 0, count: outputs[0].type.count)
    forEachTap(
      input, output, window, start: { _ in },
      tap: { position, pixel, _ in
        for c in 0..<channels {
          sums[position * channels + c] += Int32(x[pixel * channels + c]) - Int32(inputZero)
        }
      })
    for index in sums.indices {
      let factor = factors[index / channels % factors.count]
      y[index] = grid.code(steps: Float(sums[index]) * factor, in: grid.range)
    }
  }
}

extension IntegerReduction {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    for o in 0..<outer {
      for i in 0..<inner {
        var sum: Int32 = 0
        for r in 0..<reduced {
          sum += Int32(x[(o * reduced + r) * inner + i]) - Int32(inputZero)
        }
        y[o * inner + i] = grid.code(steps: Float(sum) * factor, in: grid.range)
      }
    }
  }
}

extension IntegerExtreme {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    for o in 0..<outer {
      for i in 0..<inner {
        var best = x[o * reduced * inner + i]
        for r in 0..<reduced {
          let code = x[(o * reduced + r) * inner + i]
          best = isLargest ? max(best, code) : min(best, code)
        }
        y[o * inner + i] = table[Int(best)]
      }
    }
  }
}

extension IntegerSoftmax {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    for o in 0..<outer {
      for i in 0..<inner {
        let start = o * size * inner + i
        var (top, sum): (UInt8, Int) = (0, 0)
        for s in 0..<size { top = max(top, x[start + s * inner]) }
        for s in 0..<size { sum += Int(table[Int(top - x[start + s * inner])]) }
        let factor = Float(1 / (Double(sum) * Double(grid.scale)))
        for s in 0..<size {
          let share = Float(table[Int(top - x[start + s * inner])]) * factor
          y[start + s * inner] = grid.code(steps: share, in: grid.range)
        }
      }
    }
  }
}

extension IntegerLogSoftmax {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    for o in 0..<outer {
      for i in 0..<inner {
        let line = (0..<size).map { (o * size + $0) * inner + i }
        let top = line.map { x[$0] }.max() ?? 0
        let shift = shift(line.reduce(0) { $0 + Int(table[Int(top - x[$1])]) })
        for place in line { y[place] = code(Int(top - x[place]), shift) }
      }
    }
  }
}

extension IntegerNormalization {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    for start in stride(from: 0, to: outputs[0].type.count, by: size) {
      var (sum, squares) = (0, 0)
      for index in start..<(start + size) {
        let distance = Int(x[index]) - inputZero
        sum += distance
        squares += distance * distance
      }
      let (factor, shift) = line(sum: sum, squares: squares)
      for index in 0..<size {
        let normal = Float(Int(x[start + index]) - inputZero) * factor - shift
        y[start + index] = grid.code(steps: normal * gamma[index] + beta[index], in: grid.range)
      }
    }
  }
}

extension IntegerAffine {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    for index in 0..<outputs[0].type.count {
      let channel = index % gamma.count
      let steps = Float(Int(x[index]) - inputZero) * gamma[channel] + beta[channel]
      y[index] = grid.code(steps: steps, in: clamp.range)
    }
  }
}

extension IntegerProduct {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let a = bytes(inputs[0]), let b = bytes(inputs[1]), let y = bytes(outputs[0]) else { return }
    for (batch, starts) in batches.enumerated() {
      for row in 0..<rows {
        for column in 0..<columns {
          var total: Int32 = 0
          for k in 0..<depth {
            let right = isTurned ? column * depth + k : k * columns + column
            total +=
              (Int32(a[starts.a + row * depth + k]) - Int32(aZero)) * (Int32(b[starts.b + right]) - Int32(bZero))
          }
          y[(batch * rows + row) * columns + column] = grid.code(steps: Float(total) * scale, in: clamp.range)
        }
      }
    }
  }
}

extension IntegerMovement {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    var moved = inputs
    var copies: [Bytes] = []
    for (index, input) in inputs.enumerated() {
      guard let table = tables[index], let input, let from = bytes(input) else { continue }
      let copy = Bytes(count: input.type.count) { target in
        for place in 0..<target.count { target[place] = table[Int(from[place])] }
      }
      copies.append(copy)
      moved[index] = TensorView(type: input.type, bytes: copy.buffer)
    }
    try withExtendedLifetime(copies) { () throws(Diagnostic) in try move(moved, outputs) }
  }
}
