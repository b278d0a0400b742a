import COneDNN
import IR

/// oneDNN as a namespace; its C interface is known to these two files (this and the kernels) only.
enum OneDNN {
  static var version: String { String(cString: qdnn_version()) }
  /// The instruction set in effect, `avx512_core` say.
  static var instructionSet: String { String(cString: qdnn_instruction_set()) }

  /// Calls `make` with room for an error text and turns NULL into a `Diagnostic`.
  static func checked(
    _ make: (UnsafeMutablePointer<CChar>, Int) -> OpaquePointer?
  ) throws(Diagnostic) -> OpaquePointer {
    var text = ""
    let made = withUnsafeTemporaryAllocation(of: CChar.self, capacity: errorCapacity) { buffer in
      guard let base = buffer.baseAddress else { return OpaquePointer?.none }
      base.initialize(repeating: 0, count: errorCapacity)
      let result = make(base, errorCapacity)
      if result == nil { text = String(cString: base) }
      return result
    }
    guard let made else { throw Diagnostic("onednn", text) }
    return made
  }

  /// Bytes for an error text.
  static let errorCapacity = 256
}

/// Owns a primitive. `@unchecked Sendable` because primitives never change once made and oneDNN runs
/// one on several threads at a time.
final class OneDNNPrimitive: @unchecked Sendable {
  let handle: OpaquePointer

  /// Makes a primitive from what a creating function of the C layer returns.
  init(
    _ make: (UnsafeMutablePointer<CChar>, Int) -> OpaquePointer?
  ) throws(Diagnostic) {
    handle = try OneDNN.checked(make)
  }

  deinit { qdnn_primitive_destroy(handle) }

  var implementation: String { String(cString: qdnn_primitive_implementation(handle)) }
  var scratchpadBytes: Int { qdnn_primitive_scratchpad_bytes(handle) }
  var constantBytes: Int { qdnn_primitive_constant_bytes(handle) }
}

/// Owns stream and scratchpad of one thread.
final class OneDNNWorker {
  private let handle: OpaquePointer
  private let errorText: UnsafeMutablePointer<CChar>

  /// Makes a worker with a scratchpad of that size.
  init(scratchpadBytes: Int) throws(Diagnostic) {
    handle = try OneDNN.checked { qdnn_worker_create(scratchpadBytes, $0, $1) }
    errorText = .allocate(capacity: OneDNN.errorCapacity)
    errorText.initialize(repeating: 0, count: OneDNN.errorCapacity)
  }

  deinit {
    qdnn_worker_destroy(handle)
    errorText.deallocate()
  }

  /// Executes a primitive on dense floats.
  func execute(
    _ primitive: OneDNNPrimitive, _ source: UnsafePointer<Float>,
    _ second: UnsafePointer<Float>? = nil, _ target: UnsafeMutablePointer<Float>
  ) throws(Diagnostic) {
    let status = qdnn_execute(
      primitive.handle, handle, source, second, target, errorText, OneDNN.errorCapacity)
    if status != 0 { throw Diagnostic("onednn", String(cString: errorText), kind: .internal) }
  }

  /// Executes an integer primitive: bytes to bytes or to 32-bit sums.
  func execute(
    _ primitive: OneDNNPrimitive, bytes source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer
  ) throws(Diagnostic) {
    let status = qdnn_execute_any(
      primitive.handle, handle, source, nil, target, errorText, OneDNN.errorCapacity)
    if status != 0 { throw Diagnostic("onednn", String(cString: errorText), kind: .internal) }
  }
}

extension qdnn_post_op {
  /// A post-operation without constants.
  init(function: qdnn_function, alpha: Float, beta: Float) {
    self.init(function: function, alpha: alpha, beta: beta, values: nil, value_count: 0)
  }
}
