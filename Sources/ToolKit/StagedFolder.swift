import FoundationEssentials
import IR

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A folder of results that appears when it is whole: files are written into a hidden folder, which
/// ``commit()`` moves to its place. Files already in the target stay unless one of the same name comes.
public final class StagedFolder: Sendable {
  private let target: String
  private let staging: String
  private let replacesNothing: Bool

  /// Starts results that will appear in the folder `target`.
  public init(target: String) throws(Diagnostic) {
    var trimmed = target
    while trimmed.count > 1, trimmed.last == "/" { trimmed.removeLast() }
    self.target = trimmed
    replacesNothing = !FileReading.exists(trimmed)
    let place = replacesNothing ? trimmed : "\(trimmed)/results"
    if replacesNothing { try AtomicFile.makeFolder(FileReading.folder(of: trimmed)) }
    TemporaryFiles.announce(place)
    staging = TemporaryFiles.name(beside: place)
    try StagedFolder.make(staging, for: trimmed)
  }

  deinit { TemporaryFiles.remove(staging) }

  /// Writes a file into the subfolder `folder`. From any thread.
  public func write(_ bytes: Bytes, folder: String, name: String) throws(Diagnostic) {
    let place = "\(staging)/\(folder)"
    if !FileReading.exists(place) { try StagedFolder.make(place, for: "\(target)/\(folder)") }
    let shown = "\(target)/\(folder)/\(name)"
    let descriptor = open("\(place)/\(name)", O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw AtomicFile.failure("create the output", shown, errno) }
    defer { close(descriptor) }
    try AtomicFile.put(bytes.buffer, descriptor, shown)
  }

  /// Moves everything to its place.
  public func commit() throws(Diagnostic) {
    if replacesNothing {
      if rename(staging, target) == 0 { return }
      // Another process made the folder meanwhile: the results go into it.
      guard [ENOTEMPTY, EEXIST].contains(errno) else {
        throw AtomicFile.failure("rename the output", target, errno)
      }
    }
    let children = (try? FileManager.default.contentsOfDirectory(atPath: staging)) ?? []
    for child in children {
      let place = "\(target)/\(child)"
      // Others may put their own there between the two.
      var attempt = 0
      while rename("\(staging)/\(child)", place) != 0 {
        let reason = errno
        attempt += 1
        guard attempt < 100, [ENOTEMPTY, EEXIST, ENOTDIR, EISDIR].contains(reason) else {
          throw AtomicFile.failure("rename the output", place, reason)
        }
        TemporaryFiles.remove(place)
      }
    }
    rmdir(staging)
  }

  private static func make(_ path: String, for target: String) throws(Diagnostic) {
    if mkdir(path, 0o777) == 0 || errno == EEXIST { return }
    throw AtomicFile.failure("make the folder", target, errno)
  }
}
