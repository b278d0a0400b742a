import IR

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Writes small outputs (text, JSON, arrays) so that they appear whole or not at all.
public enum AtomicFile {
  /// Writes `bytes` beside `path`, flushes them to the device and renames the file to `path`.
  public static func write(_ bytes: UnsafeRawBufferPointer, to path: String) throws(Diagnostic) {
    try write(to: path) { (descriptor) throws(Diagnostic) in try put(bytes, descriptor, path) }
  }

  /// Writes runs of bytes, each at its offset (ascending), with zeros between them.
  public static func write(
    parts: [(offset: Int, bytes: Bytes)], to path: String
  ) throws(Diagnostic) {
    try write(to: path) { (descriptor) throws(Diagnostic) in
      var position = 0
      for part in parts {
        let gap = Bytes([UInt8](repeating: 0, count: max(part.offset - position, 0)))
        for run in [gap, part.bytes] {
          try put(run.buffer, descriptor, path)
          withExtendedLifetime(run) {}
        }
        position = part.offset + part.bytes.count
      }
    }
  }

  private static func write(
    to path: String, _ fill: (Int32) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    let target = resolved(path)
    var status = stat()
    let exists = stat(target, &status) == 0
    if exists, status.st_mode & S_IFMT == S_IFCHR || status.st_mode & S_IFMT == S_IFIFO {
      return try writeDirectly(to: target, fill)
    }
    if exists, status.st_mode & S_IFMT != S_IFREG {
      throw Diagnostic(
        "output-failed", "the output is no regular file", at: Diagnostic.Location(file: path),
        kind: .output)
    }
    TemporaryFiles.announce(target)
    let temporary = TemporaryFiles.name(beside: target)
    let descriptor = open(temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw failure("create the output", path, errno) }
    do throws(Diagnostic) {
      defer { close(descriptor) }
      if exists { _ = fchmod(descriptor, status.st_mode & 0o777) }
      try fill(descriptor)
      if fsync(descriptor) != 0 { throw failure("flush the output", path, errno) }
    } catch {
      unlink(temporary)
      throw error
    }
    guard rename(temporary, target) == 0 else {
      let reason = errno
      unlink(temporary)
      throw failure("rename the output", path, reason)
    }
  }

  /// Writes bytes.
  public static func write(_ bytes: Bytes, to path: String) throws(Diagnostic) {
    try write(bytes.buffer, to: path)
  }

  /// Writes text as UTF-8.
  public static func write(_ text: String, to path: String) throws(Diagnostic) {
    try write(Bytes(Array(text.utf8)), to: path)
  }

  /// Makes a folder and those above it that are missing.
  public static func makeFolder(_ path: String) throws(Diagnostic) {
    if path.isEmpty || mkdir(path, 0o777) == 0 { return }
    var reason = errno
    if reason == ENOENT {
      let above = FileReading.folder(of: path)
      if above != path, above != "." {
        try makeFolder(above)
        if mkdir(path, 0o777) == 0 { return }
        reason = errno
      }
    }
    var status = stat()
    if reason == EEXIST, stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { return }
    throw failure("make the folder", path, reason)
  }

  private static func writeDirectly(
    to path: String, _ fill: (Int32) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("open the output", path, errno) }
    defer { close(descriptor) }
    try fill(descriptor)
  }

  static func put(
    _ bytes: UnsafeRawBufferPointer, _ descriptor: Int32, _ path: String
  ) throws(Diagnostic) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let part = UnsafeRawBufferPointer(rebasing: rest)
      let written = systemWrite(descriptor, part.baseAddress, min(part.count, 1 << 30))
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw failure("write the output", path, errno) }
      rest = rest.dropFirst(written)
    }
  }

  static func failure(_ action: String, _ path: String, _ error: Int32) -> Diagnostic {
    Diagnostic(
      "output-failed", "cannot \(action): \(systemReason(error))",
      at: Diagnostic.Location(file: path),
      hint: error == ENOSPC ? "free some space or choose another folder" : nil, kind: .output)
  }

  /// The file that a chain of symbolic links ends at, so that renaming keeps the links.
  private static func resolved(_ path: String) -> String {
    guard let real = realpath(path, nil) else { return path }
    defer { free(real) }
    return String(cString: real)
  }
}

private func systemWrite(_ descriptor: Int32, _ base: UnsafeRawPointer?, _ count: Int) -> Int {
  write(descriptor, base, count)
}
