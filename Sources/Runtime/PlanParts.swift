import CKernels
import IR
import Operators

/// Where a tensor lies while a plan runs.
enum Location: Sendable, Hashable {
  /// A buffer of the arena.
  case buffer(Int)
  /// A constant of the plan.
  case constant(Int)
  /// The caller's bytes of a graph input.
  case input(Int)
}

/// A tensor at its place.
struct Operand: Sendable {
  var location: Location
  /// Logical type.
  var type: TensorType
}

/// The numbers that a tensor can hold in the simulation.
enum ValueGrid: Sendable, Hashable {
  /// Those of an encoding.
  case encoding(Encoding)
  /// Half precision: kernels compute in `float32`, results are rounded.
  case half

  /// Moves the elements of a dense tensor to the nearest numbers of the grid.
  func apply(
    _ source: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>, shape: [Int]
  ) {
    switch self {
    case .encoding(let encoding): encoding.simulate(source, into: target, shape: shape)
    case .half: Half.round(source, into: target, count: shape.reduce(1, *))
    }
  }

  /// The same in place.
  func applyInPlace(_ values: UnsafeMutablePointer<Float>, shape: [Int]) {
    if let plain {
      qk_simulate(values, shape.reduce(1, *), plain.scale, plain.lowest, plain.highest)
      return
    }
    switch self {
    case .encoding(let encoding): encoding.simulateInPlace(values, shape: shape)
    case .half: Half.round(values, into: values, count: shape.reduce(1, *))
    }
  }
}

/// A grid to apply to a tensor in its place.
struct Simulation: Sendable {
  var operand: Operand
  var grid: ValueGrid
}

/// A tensor to show to the caller.
struct Tap: Sendable {
  var tensor: TensorID
  var operand: Operand
}

/// One step: a kernel (none where memory is shared only), then encodings, then taps.
struct PlannedStep: Sendable {
  var kernel: (any Kernel)?
  var inputs: [Operand?]
  var outputs: [Operand]
  var simulations: [Simulation]
  var taps: [Tap]
  var report: StepReport
}
