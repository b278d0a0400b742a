/// An immutable, reference counted run of bytes: owned memory or a window into a mapped file.
///
/// `@unchecked Sendable` because the bytes never change once a value of this type exists and the
/// owner keeps them alive.
public struct Bytes: @unchecked Sendable {
  private let owner: AnyObject?
  /// First byte; may be unaligned when the bytes lie in a mapped file.
  public let base: UnsafeRawPointer
  /// Number of bytes.
  public let count: Int

  /// Wraps `count` bytes at `base` that stay valid and unchanged as long as `owner` lives.
  public init(owner: AnyObject, base: UnsafeRawPointer, count: Int) {
    self.owner = owner
    self.base = base
    self.count = count
  }

  private final class Allocation {
    let base: UnsafeMutableRawPointer
    init(_ base: UnsafeMutableRawPointer) { self.base = base }
    deinit { base.deallocate() }
  }

  /// Allocates `count` zeroed bytes aligned to 64 and lets `fill` write them.
  public init<Failure: Error>(
    count: Int, fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    let base = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 64)
    let allocation = Allocation(base)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: max(count, 1))
    try fill(UnsafeMutableRawBufferPointer(start: base, count: count))
    self.init(owner: allocation, base: UnsafeRawPointer(base), count: count)
  }

  /// Copies the elements of an array.
  public init<Element: BitwiseCopyable>(_ elements: [Element]) {
    let size = elements.count * MemoryLayout<Element>.stride
    self.init(count: size) { target in
      elements.withUnsafeBytes { target.copyMemory(from: $0) }
    }
  }

  /// The bytes `start..<start + length`, in place; nil where they are not inside.
  public func window(from start: Int, count length: Int) -> Bytes? {
    guard start >= 0, length >= 0, length <= count, start <= count - length else { return nil }
    return Bytes(owner: owner, base: base + start, count: length)
  }

  /// Gives the memory of bytes that lie in a mapped file back to the system; they are read from the file
  /// where they are used again. Does nothing for bytes in owned memory.
  public func discardPages() {
    (owner as? any PageOwner)?.discardPages(buffer)
  }

  /// As ``discardPages()``, for a part that lies inside.
  public func discardPages(from start: Int, count length: Int) {
    window(from: start, count: length)?.discardPages()
  }

  /// Whether the bytes lie in a file mapped read-only, so that ``discardPages()`` has an effect.
  public var isMapped: Bool { owner is any PageOwner }

  private init(owner: AnyObject?, base: UnsafeRawPointer, count: Int) {
    self.owner = owner
    self.base = base
    self.count = count
  }

  /// The bytes as a buffer; valid while this value lives.
  public var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Whether the first byte is aligned for `Element`.
  public func isAligned<Element>(for type: Element.Type) -> Bool {
    Int(bitPattern: base) % MemoryLayout<Element>.alignment == 0
  }

  /// A copy of the bytes as elements; unaligned sources are fine, surplus bytes are left out.
  public func array<Element: BitwiseCopyable>(of type: Element.Type) -> [Element] {
    let length = count / MemoryLayout<Element>.stride
    return [Element](unsafeUninitializedCapacity: length) { target, initialized in
      if length > 0 {
        UnsafeMutableRawBufferPointer(target).copyMemory(
          from: UnsafeRawBufferPointer(start: base, count: length * MemoryLayout<Element>.stride))
      }
      initialized = length
    }
  }

  /// These bytes, or a copy of them where they are not aligned to `alignment`.
  public func aligned(to alignment: Int) -> Bytes {
    if Int(bitPattern: base) % alignment == 0 { return self }
    return Bytes(count: count) { $0.copyMemory(from: buffer) }
  }
}
