import IR

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A whole file mapped read-only into memory; unmapped when the last reference is gone.
///
/// `@unchecked Sendable` because the mapping never changes. A file that another program shortens
/// while it is mapped ends this program with SIGBUS, as with every mapping.
public final class MappedFile: PageOwner, @unchecked Sendable {
  /// The path the file was opened with.
  public let path: String
  private let base: UnsafeMutableRawPointer?
  /// Size of the file in bytes.
  public let count: Int

  /// Maps the file at `path`. Throws where it does not exist, cannot be read or is no regular file.
  public init(path: String) throws(Diagnostic) {
    func failed(_ message: String, hint: String? = nil) -> Diagnostic {
      Diagnostic("file-unreadable", message, at: Diagnostic.Location(file: path), hint: hint)
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw failed("cannot open the file: \(ContainerFailure.reason(errno))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw failed("cannot read the file's size: \(ContainerFailure.reason(errno))")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw failed("this is not a regular file", hint: "save it to a file first")
    }
    self.path = path
    count = Int(status.st_size)
    if count == 0 {
      base = nil
      return
    }
    guard let mapped = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0),
      mapped != UnsafeMutableRawPointer(bitPattern: -1)
    else { throw failed("cannot map the file: \(ContainerFailure.reason(errno))") }
    base = mapped
  }

  deinit {
    if let base { munmap(base, count) }
  }

  /// The whole file; valid while this object lives.
  var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// A window into the file that keeps the mapping alive; nil where it does not lie inside.
  public func bytes(at offset: Int, count length: Int) -> Bytes? {
    guard offset >= 0, length >= 0, length <= count, offset <= count - length else { return nil }
    guard let base else { return Bytes([UInt8]()) }
    return Bytes(owner: self, base: UnsafeRawPointer(base) + offset, count: length)
  }
}
