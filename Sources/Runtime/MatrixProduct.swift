import COneDNN
import IR

/// A dense row-major matrix of floats in somebody's memory.
public struct MatrixView {
  public let base: UnsafePointer<Float>
  /// Length of a stored row, in elements.
  public let stride: Int
  /// Whether its transpose is meant.
  public let isTransposed: Bool

  /// A view on rows of `stride` elements.
  public init(_ base: UnsafePointer<Float>, stride: Int, transposed: Bool = false) {
    self.base = base
    self.stride = stride
    isTransposed = transposed
  }
}

/// target[m, n] = a[m, k] * b[k, n], added to what target holds where `accumulates`; on the calling
/// thread alone. `targetStride` is the length of target's rows. The same bits on machines with the same
/// instruction set and oneDNN version. Throws an internal error where oneDNN refuses.
public func multiply(
  _ a: MatrixView, _ b: MatrixView, rows m: Int, columns n: Int, depth k: Int,
  into target: UnsafeMutablePointer<Float>, targetStride: Int, accumulates: Bool = false
) throws(Diagnostic) {
  guard m > 0, n > 0, k > 0 else { return }
  let status = qdnn_product(
    a.isTransposed ? 1 : 0, b.isTransposed ? 1 : 0, m, n, k, a.base, a.stride, b.base, b.stride,
    accumulates ? 1 : 0, target, targetStride)
  guard status == 0 else {
    throw Diagnostic("onednn", "matrix product \(m) x \(n) x \(k) failed: \(status)", kind: .internal)
  }
}
