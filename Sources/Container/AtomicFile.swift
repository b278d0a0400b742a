import IR

#if canImport(Glibc)
  internal import CSystem
  import Glibc
#else
  import Darwin
#endif

/// A file that appears under its name only when it is whole.
///
/// It is written as a file without a name in the target's folder (so that nothing is left however
/// the program ends) and linked and renamed by ``commit()``; on file systems without such files, as
/// a hidden one beside the target that `deinit` removes. Writing is sequential through a buffer; what
/// was written can be patched.
final class AtomicFile {
  private let path: String
  private let folder: String
  private var descriptor: Int32
  /// Name of the temporary file while there is one.
  private var temporary: String?
  private let buffer: UnsafeMutableRawBufferPointer
  private var filled = 0
  /// Bytes written so far, those in the buffer included.
  private(set) var position: UInt64 = 0
  /// Bytes that the system has, and those of them that the device was asked to begin with.
  private var written: Int64 = 0
  private var begun: Int64 = 0
  private static let batch: Int64 = 32 << 20
  /// Bytes the device may still take; for tests of full disks.
  private var capacity: UInt64
  /// Small enough to stay in the processor's cache: writing from pages that were not yet mapped, or in large
  /// pieces, is several times slower.
  private static let bufferSize = 128 << 10

  /// Starts a file that will replace or become `path`. `capacity` limits what can be written.
  init(path target: String, capacity: UInt64 = .max) throws(Diagnostic) {
    self.capacity = capacity
    path = AtomicFile.resolved(target)
    if let slash = path.lastIndex(of: "/") {
      folder = slash == path.startIndex ? "/" : String(path[..<slash])
    } else {
      folder = "."
    }
    var status = stat()
    let exists = stat(path, &status) == 0
    if exists, status.st_mode & S_IFMT != S_IFREG {
      throw Diagnostic(
        "output-failed", "the output is no regular file", at: Diagnostic.Location(file: target),
        hint: "name a file in an existing folder", kind: .output)
    }
    descriptor = -1
    #if os(Linux)
      // Naming the file later goes through /proc.
      if access("/proc/self/fd", X_OK) == 0 {
        descriptor = open(folder, O_TMPFILE_FLAG | O_RDWR | O_CLOEXEC, 0o666)
      }
    #endif
    if descriptor < 0 {
      let name = AtomicFile.temporaryName(for: path)
      descriptor = open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0o666)
      guard descriptor >= 0 else {
        throw ContainerFailure.output("create the output", path: target, error: errno)
      }
      temporary = name
    }
    if exists { _ = fchmod(descriptor, status.st_mode & 0o777) }
    buffer = .allocate(byteCount: AtomicFile.bufferSize, alignment: 64)
  }

  deinit {
    buffer.deallocate()
    if descriptor >= 0 { close(descriptor) }
    if let temporary { unlink(temporary) }
  }

  /// Appends bytes.
  func write(_ bytes: UnsafeRawBufferPointer) throws(Diagnostic) {
    position += UInt64(bytes.count)
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(buffer.count - filled))
      UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]).copyMemory(from: piece)
      filled += piece.count
      rest = rest.dropFirst(piece.count)
      if filled == buffer.count { try flush() }
    }
  }

  /// Appends bytes.
  func write(_ bytes: [UInt8]) throws(Diagnostic) {
    try Bytes(bytes).withBuffer { buffer throws(Diagnostic) in try write(buffer) }
  }

  /// Replaces bytes that were written before at `offset`.
  func patch(_ bytes: [UInt8], at offset: UInt64) throws(Diagnostic) {
    try flush()
    var done = 0
    while done < bytes.count {
      let written = bytes.withUnsafeBytes { source in
        pwrite(
          descriptor, source.baseAddress.map { $0 + done }, bytes.count - done,
          off_t(offset) + off_t(done))
      }
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw failure("write the output") }
      done += written
    }
  }

  /// Flushes everything to the device and gives the file its name. Nothing can be written after.
  func commit() throws(Diagnostic) {
    try flush()
    guard fsync(descriptor) == 0 else { throw failure("flush the output") }
    if temporary == nil {
      let name = AtomicFile.temporaryName(for: path)
      guard linkat(AT_FDCWD, "/proc/self/fd/\(descriptor)", AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0
      else { throw failure("name the output") }
      temporary = name
    }
    if let temporary {
      guard rename(temporary, path) == 0 else { throw failure("rename the output") }
    }
    temporary = nil
    close(descriptor)
    descriptor = -1
    let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if directory >= 0 {
      _ = fsync(directory)
      close(directory)
    }
  }

  private func flush() throws(Diagnostic) {
    let pending = UnsafeRawBufferPointer(rebasing: buffer[..<filled])
    filled = 0
    try writeThrough(pending)
  }

  private func writeThrough(_ bytes: UnsafeRawBufferPointer) throws(Diagnostic) {
    var rest = bytes[...]
    while !rest.isEmpty {
      guard capacity > 0 else {
        throw ContainerFailure.output("write the output", path: path, error: ENOSPC)
      }
      let length = min(rest.count, 1 << 30, Int(clamping: capacity))
      let count = Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, length)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw failure("write the output") }
      capacity -= UInt64(count)
      written += Int64(count)
      rest = rest.dropFirst(count)
    }
    startWriting()
  }

  /// Has the device begin with what is there, so that it works while the rest is made.
  private func startWriting() {
    #if os(Linux)
      guard written >= begun + AtomicFile.batch else { return }
      qtools_start_writing(descriptor, begun, written - begun)
      begun = written
    #endif
  }

  private func failure(_ action: String) -> Diagnostic {
    ContainerFailure.output(action, path: path, error: errno)
  }

  /// The file that a chain of symbolic links ends at, so that renaming keeps the links.
  private static func resolved(_ path: String) -> String {
    guard let real = realpath(path, nil) else { return path }
    defer { free(real) }
    return String(cString: real)
  }

  private static func temporaryName(for path: String) -> String {
    let random = UInt64.random(in: .min ... .max)
    let slash = path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex
    let unique = "\(getpid()).\(String(random, radix: 36))"
    return "\(path[..<slash]).\(path[slash...].prefix(64)).\(unique).part"
  }
}

#if os(Linux)
  /// `O_TMPFILE`, a macro that Swift does not import (the same on x86-64 and arm64 but for the bit of
  /// `O_DIRECTORY`, which it includes).
  private let O_TMPFILE_FLAG: Int32 = 0o20000000 | O_DIRECTORY
#endif
