import CKernels
import IR
import Operators

/// Elements of four bytes in another order: Transpose, ChannelShuffle, DepthToSpace, SpaceToDepth and
/// StridedSlice are all walks through the input by constant steps.
struct PermuteKernel: ElementKernel {
  /// Sizes of the output's axes and the step of each in the input, in elements; axes that stay
  /// neighbours are one.
  let sizes: [Int]
  let steps: [Int]
  /// First element in the input.
  var start = 0

  var name: String { "native permute" }

  func run(_ from: UnsafePointer<UInt32>, _ to: UnsafeMutablePointer<UInt32>) {
    qk_permute(from + start, to, sizes.count, sizes, steps)
  }

  /// The walk that permutes a dense tensor.
  init(shape: [Int], permutation: [Int]) {
    let (shape, permutation) = simplifiedPermutation(shape: shape, permutation: permutation)
    let strides = denseStrides(shape)
    self.init(sizes: permutation.map { shape[$0] }, steps: permutation.map { strides[$0] }, start: 0)
  }

  /// A walk over axes of any sizes; those of size 1 are left out.
  init(sizes: [Int], steps: [Int], start: Int) {
    var (merged, mergedSteps): ([Int], [Int]) = ([], [])
    for (size, step) in zip(sizes, steps) where size != 1 {
      if let last = merged.indices.last, mergedSteps[last] == step &* size {
        merged[last] *= size
        mergedSteps[last] = step
      } else {
        merged.append(size)
        mergedSteps.append(step)
      }
    }
    self.sizes = merged.isEmpty ? [1] : merged
    self.steps = merged.isEmpty ? [1] : mergedSteps
    self.start = start
  }
}

/// A permutation with axes of size 1 left out and axes that stay neighbours merged: (shape, perm).
func simplifiedPermutation(shape: [Int], permutation: [Int]) -> (shape: [Int], permutation: [Int]) {
  var groups: [[Int]] = []  // input axes in the output's order
  for axis in permutation where shape[axis] != 1 {
    let follows = groups.last?.last.map { previous in
      previous < axis && shape[(previous + 1)..<axis].allSatisfy { $0 == 1 }
    }
    if follows == true { groups[groups.count - 1].append(axis) } else { groups.append([axis]) }
  }
  let order = groups.indices.sorted { groups[$0][0] < groups[$1][0] }
  let sizes = order.map { group in groups[group].map { shape[$0] }.reduce(1, *) }
  return (sizes, inversePermutation(order))
}

/// Maker of these kernels.
func makePermuteKernel(_ request: KernelRequest) -> KernelOffer {
  guard let x = request.input(0) else { return .unrelated }
  let kernel: PermuteKernel
  switch request.op {
  case let op as Transpose: kernel = PermuteKernel(shape: x.shape, permutation: op.perm)
  case let op as ChannelShuffle:
    let split = [
      x.shape[..<op.axis].reduce(1, *), op.groups, x.shape[op.axis] / op.groups,
      x.shape[(op.axis + 1)...].reduce(1, *),
    ]
    kernel = PermuteKernel(shape: split, permutation: [0, 2, 1, 3])
  case let op as DepthToSpace:
    let walk = op.walk(small: x.shape)
    kernel = PermuteKernel(shape: walk.shape, permutation: walk.permutation)
  case let op as SpaceToDepth:
    let walk = op.walk(small: request.outputs[0].shape)
    kernel = PermuteKernel(shape: walk.shape, permutation: walk.permutation)
  case let op as StridedSlice:
    let strides = denseStrides(x.shape)
    // Where the size is 1 the step may be any number.
    kernel = PermuteKernel(
      sizes: request.outputs[0].shape, steps: zip(op.step, strides).map { $0 &* $1 },
      start: zip(op.begin, strides).map(*).reduce(0, +))
  default: return .unrelated
  }
  if let refusal = request.wordRefusal { return refusal }
  return kernel.sizes.count <= 16 ? .kernel(kernel) : .refused("native: more than 16 axes")
}

// MARK: Joining and splitting

/// Joins tensors of four-byte elements.
struct ConcatKernel: Kernel {
  let outer: Int
  /// Elements that each input adds to a row of the result.
  let rows: [Int]
  var name: String { "native concat" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let y = outputs[0].elements(as: UInt32.self).baseAddress else { return }
    let width = rows.reduce(0, +)
    var start = 0
    for (input, row) in zip(inputs, rows) {
      guard row > 0, let x = input?.elements(as: UInt32.self).baseAddress else { continue }
      qk_copy_rows(x, row, y + start, width, outer, row)
      start += row
    }
  }
}

/// Maker of joining kernels.
func makeConcatKernel(_ request: KernelRequest) -> KernelOffer {
  guard let op = request.op as? Concat else { return .unrelated }
  if let refusal = request.wordRefusal { return refusal }
  let shape = request.outputs[0].shape
  let inner = shape[(op.axis + 1)...].reduce(1, *)
  let rows = request.inputs.map { ($0?.shape[op.axis] ?? 0) * inner }
  return .kernel(ConcatKernel(outer: shape[..<op.axis].reduce(1, *), rows: rows))
}

/// Splits a tensor of four-byte elements.
struct SplitKernel: Kernel {
  let outer: Int
  /// Elements that each output takes of a row.
  let rows: [Int]
  var name: String { "native split" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = inputs[0]?.elements(as: UInt32.self).baseAddress else { return }
    let width = rows.reduce(0, +)
    var start = 0
    for (output, row) in zip(outputs, rows) {
      guard row > 0, let y = output.elements(as: UInt32.self).baseAddress else { continue }
      qk_copy_rows(x + start, width, y, row, outer, row)
      start += row
    }
  }
}

/// Maker of splitting kernels.
func makeSplitKernel(_ request: KernelRequest) -> KernelOffer {
  guard let op = request.op as? Split, let x = request.input(0) else { return .unrelated }
  if let refusal = request.wordRefusal { return refusal }
  let inner = x.shape[(op.axis + 1)...].reduce(1, *)
  return .kernel(
    SplitKernel(
      outer: x.shape[..<op.axis].reduce(1, *), rows: request.outputs.map { $0.shape[op.axis] * inner }))
}
