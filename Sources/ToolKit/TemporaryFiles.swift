import FoundationEssentials
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The outputs under way, so that a signal leaves nothing half-written behind.
///
/// Every temporary file is called `.<target>.<process>.<random>.part` and lies beside its target:
/// whoever writes by this rule, this module or another, is cleaned up after once the target has been
/// announced.
public enum TemporaryFiles {
  private static let targets = Mutex<Set<String>>([])

  /// Notes that an output, file or folder, will appear at `path`.
  public static func announce(_ path: String) {
    targets.withLock { targets in
      targets.insert(path)
      guard let real = realpath(path, nil) else { return }
      targets.insert(String(cString: real))
      free(real)
    }
  }

  /// A new name for a temporary file beside `path`.
  static func name(beside path: String) -> String {
    let random = String(UInt64.random(in: .min ... .max), radix: 36)
    return folderPrefix(path) + prefix(path) + "\(random).part"
  }

  /// Removes the temporary files of all announced outputs.
  public static func removeAll() { removeAll { _ in true } }

  /// Removes the temporary files of those announced outputs that `isChosen` takes.
  static func removeAll(where isChosen: (String) -> Bool) {
    for target in targets.withLock({ $0 }) where isChosen(target) {
      let folder = FileReading.folder(of: target)
      guard let listing = opendir(folder) else { continue }
      defer { closedir(listing) }
      let prefix = prefix(target)
      while let entry = readdir(listing) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { field in
          field.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name.hasPrefix(prefix), name.hasSuffix(".part") || name.hasSuffix(".gone") {
          remove(folderPrefix(target) + name)
        }
      }
    }
  }

  /// Removes a file, or a folder that other threads may still be filling.
  static func remove(_ path: String) {
    if unlink(path) == 0 { return }
    // Out of the writers' reach first: what they create by the old path from now on fails at once.
    let gone = path + ".gone"
    guard rename(path, gone) == 0 else { return }
    for _ in 0..<100 where FileReading.exists(gone) {
      try? FileManager.default.removeItem(atPath: gone)
    }
  }

  private static func prefix(_ path: String) -> String {
    ".\(FileReading.name(of: path).prefix(64)).\(getpid())."
  }

  private static func folderPrefix(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "" }
    return String(path[...slash])
  }
}
