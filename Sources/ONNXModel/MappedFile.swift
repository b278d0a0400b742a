import Glibc
import IR

/// A file mapped read-only for as long as anything refers to it.
final class MappedFile: PageOwner, @unchecked Sendable {
  // Never written after init, and the pages are read-only.
  /// First byte.
  let base: UnsafeRawPointer
  /// Number of bytes, not 0.
  let count: Int

  /// Maps a regular, non-empty file.
  init(path: String) throws(Diagnostic) {
    let location = Diagnostic.Location(file: path)
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw Diagnostic(
        "cannot-open", "cannot be opened: \(MappedFile.reason(errno))", at: location,
        hint: "check the path and its permissions")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw Diagnostic("not-a-file", "is not a regular file", at: location)
    }
    guard status.st_size > 0, let size = Int(exactly: status.st_size) else {
      throw Diagnostic("empty-file", "the file is empty", at: location)
    }
    guard let mapped = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0),
      mapped != MAP_FAILED
    else {
      throw Diagnostic(
        "cannot-map", "cannot be mapped: \(MappedFile.reason(errno))", at: location)
    }
    base = UnsafeRawPointer(mapped)
    count = size
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: base), count) }

  /// The bytes `offset..<offset + length`, in place; nil where they leave the file.
  func bytes(offset: Int, length: Int) -> Bytes? {
    guard offset >= 0, length >= 0, offset <= count, length <= count - offset else { return nil }
    return Bytes(owner: self, base: base + offset, count: length)
  }

  /// The system's words for an error number.
  static func reason(_ code: Int32) -> String { String(cString: strerror(code)) }

  /// The path without links and dots, nil where it does not exist.
  static func resolved(_ path: String) -> String? {
    guard let pointer = realpath(path, nil) else { return nil }
    defer { free(pointer) }
    return String(cString: pointer)
  }
}
