import IR

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Reading whole files and asking about them, with errors as diagnostics.
public enum FileReading {
  /// Size of a regular file in bytes; an error where it does not exist or is something else.
  public static func size(of path: String) throws(Diagnostic) -> Int {
    var status = stat()
    guard stat(path, &status) == 0 else { throw failure("open the file", path: path, error: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw Diagnostic(
        "not-a-file", "this is not a regular file", at: Diagnostic.Location(file: path))
    }
    return Int(status.st_size)
  }

  /// `count` bytes from `offset` on, by default all there are; an error where there are fewer.
  public static func bytes(
    of path: String, from offset: Int = 0, count wanted: Int? = nil
  ) throws(Diagnostic) -> Bytes {
    let size = try size(of: path)
    let count = wanted ?? max(size - offset, 0)
    guard offset >= 0, count >= 0, count <= size - offset else {
      throw Diagnostic(
        "file-truncated", "the file ends early: \(size) bytes, \(offset) and \(count) more are needed",
        at: Diagnostic.Location(file: path))
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("open the file", path: path, error: errno) }
    defer { close(descriptor) }
    return try Bytes(count: count) { target throws(Diagnostic) in
      var done = 0
      while done < count {
        let part = pread(
          descriptor, target.baseAddress.map { $0 + done }, count - done, off_t(offset + done))
        if part < 0, errno == EINTR { continue }
        guard part >= 0 else { throw failure("read the file", path: path, error: errno) }
        guard part > 0 else {
          throw Diagnostic(
            "file-truncated", "the file became shorter while it was read",
            at: Diagnostic.Location(file: path))
        }
        done += part
      }
    }
  }

  /// SHA-256 over the bytes of several files, one after the other, in hexadecimal digits.
  public static func sha256(of paths: [String]) throws(Diagnostic) -> String {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { buffer.deallocate() }
    var hasher = SHA256()
    for path in paths {
      _ = try size(of: path)
      let descriptor = open(path, O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else { throw failure("open the file", path: path, error: errno) }
      defer { close(descriptor) }
      while true {
        let part = read(descriptor, buffer.baseAddress, buffer.count)
        if part < 0, errno == EINTR { continue }
        guard part >= 0 else { throw failure("read the file", path: path, error: errno) }
        if part == 0 { break }
        hasher.update(UnsafeRawBufferPointer(rebasing: buffer[..<part]))
      }
    }
    return SHA256.hex(hasher.finalize())
  }

  /// The whole file as text; an error where it is not UTF-8. A byte order mark is left out.
  /// A pipe (`/dev/stdin`, the shell's `<(...)`) is read to its end.
  public static func text(of path: String) throws(Diagnostic) -> String {
    let bytes = try isPipe(path) ? pipe(path) : bytes(of: path)
    guard let text = String(validating: bytes.buffer, as: UTF8.self) else {
      throw Diagnostic(
        "not-text", "this is not UTF-8 text", at: Diagnostic.Location(file: path),
        hint: "a list names one sample a line; binary files are named in it")
    }
    return text.hasPrefix("\u{FEFF}") ? String(text.dropFirst()) : text
  }

  /// Most bytes that are read from a pipe.
  private static let pipeLimit = 256 << 20

  private static func isPipe(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
  }

  private static func pipe(_ path: String) throws(Diagnostic) -> Bytes {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("open the file", path: path, error: errno) }
    defer { close(descriptor) }
    var content: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let part = piece.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      if part < 0, errno == EINTR { continue }
      guard part >= 0 else { throw failure("read the file", path: path, error: errno) }
      if part == 0 { return Bytes(content) }
      content += piece[..<part]
      guard content.count <= pipeLimit else {
        throw Diagnostic(
          "file-too-large", "the pipe does not end within \(pipeLimit) bytes", at: Diagnostic.Location(file: path))
      }
    }
  }

  /// Whether both paths lead to one existing file.
  public static func areSame(_ first: String, _ second: String) -> Bool {
    var one = stat()
    var other = stat()
    guard stat(first, &one) == 0, stat(second, &other) == 0 else { return false }
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino
  }

  /// Whether something exists at `path`.
  public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// Whether a path is that of a folder; links are followed.
  public static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// The folder a path lies in: `.` for a plain name.
  public static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The path without its folder.
  public static func name(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return path }
    return String(path[path.index(after: slash)...])
  }

  /// The path without the extension of its last part; a leading dot makes no extension.
  public static func withoutExtension(_ path: String) -> String {
    let name = name(of: path)
    guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return path }
    return String(path.dropLast(name.distance(from: dot, to: name.endIndex)))
  }

  static func failure(_ action: String, path: String, error: Int32) -> Diagnostic {
    Diagnostic(
      "file-unreadable", "cannot \(action): \(systemReason(error))",
      at: Diagnostic.Location(file: path))
  }
}

/// The system's words for an error number.
func systemReason(_ error: Int32) -> String {
  guard let text = strerror(error) else { return "error \(error)" }
  return String(cString: text)
}
