import FoundationEssentials

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// How many workers run side by side.
public enum Jobs {
  /// What was asked for, or all cores; fewer where the workers' arenas together would pass half of
  /// the memory. Never less than one, never more than there is work.
  public static func resolve(
    requested: Int?, arenaBytes: Int, work: Int = .max, cores: Int = availableCores(),
    memory: Int = availableMemory()
  ) -> Int {
    let wanted = requested ?? min(cores, max(1, memory / 2 / max(arenaBytes, 1)))
    return max(1, min(wanted, work))
  }

  /// Cores this process may run on.
  public static func availableCores() -> Int {
    max(1, ProcessInfo.processInfo.activeProcessorCount)
  }

  /// Bytes of memory of this machine, or of the control group that the process runs in.
  public static func availableMemory() -> Int {
    let physical = Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))
    guard let file = fopen("/sys/fs/cgroup/memory.max", "r") else { return physical }
    defer { fclose(file) }
    var limit = 0
    let found = withUnsafeMutablePointer(to: &limit) { target in
      withVaList([target]) { vfscanf(file, "%ld", $0) }
    }
    return found == 1 && limit > 0 ? min(limit, physical) : physical
  }
}
