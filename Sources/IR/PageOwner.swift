#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// An owner of bytes whose memory can be given back and is filled again by the system where it is read:
/// a file mapped read-only, never memory of the program's own.
public protocol PageOwner: AnyObject {
  /// Gives the memory of the whole pages in a range back to the system. The bytes stay readable.
  func discardPages(_ range: UnsafeRawBufferPointer)
}

extension PageOwner {
  /// Asks the system, by `madvise`.
  public func discardPages(_ range: UnsafeRawBufferPointer) {
    guard let base = range.baseAddress else { return }
    let page = UInt(sysconf(Int32(_SC_PAGESIZE)))
    let start = (UInt(bitPattern: base) + page - 1) / page * page
    let end = (UInt(bitPattern: base) + UInt(range.count)) / page * page
    guard start < end, let first = UnsafeMutableRawPointer(bitPattern: start) else { return }
    madvise(first, Int(end - start), MADV_DONTNEED)
  }
}
