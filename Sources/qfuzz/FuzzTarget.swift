import Glibc
import IR

/// A starting point of mutations: bytes and, as the extension of a file name, what kind they are.
struct Seed {
  var name: String
  var kind: String
  var bytes: [UInt8]
}

/// Something that reads bytes from outside. Whatever the bytes are, ``run(_:kind:)`` must return: with
/// diagnostics of any kind but `internal`, in bounded time and memory, and leave no memory behind.
protocol FuzzTarget {
  /// Name on the command line.
  static var name: String { get }
  /// Reads the corpus below `fixtures`; files are made in the folder `scratch`.
  init(fixtures: String, scratch: String) throws(Diagnostic)
  /// Where mutations start, in an order that depends on the corpus only.
  var seeds: [Seed] { get }
  /// A changed seed; `other` is another one, of any kind.
  func mutated(_ seed: Seed, other: Seed, _ random: inout Random) -> [UInt8]
  /// Reads the bytes by everything there is for them; throws where the scratch folder cannot be written.
  func run(_ bytes: [UInt8], kind: String) throws(Diagnostic)
}

extension FuzzTarget {
  /// Case `number` of the run with a seed: the corpus itself first, then mutations of it.
  func makeCase(seed: UInt64, number: Int) -> Seed {
    if number < seeds.count { return seeds[number] }
    var random = Random(seed: seed, number: number)
    let start = seeds[random.below(seeds.count)]
    let other = seeds[random.below(seeds.count)]
    return Seed(name: start.name, kind: start.kind, bytes: mutated(start, other: other, &random))
  }
}

/// Small helpers about files, without Foundation.
enum Files {
  /// Files below a folder whose names end in one of the extensions, sorted.
  static func below(_ folder: String, _ extensions: [String]) -> [String] {
    guard let handle = opendir(folder) else { return [] }
    defer { closedir(handle) }
    var found: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name.hasPrefix(".") { continue }
      let path = "\(folder)/\(name)"
      if extensions.contains(where: { name.hasSuffix($0) }) {
        found.append(path)
      } else if entry.pointee.d_type == UInt8(DT_DIR) {
        found += below(path, extensions)
      }
    }
    return found.sorted()
  }

  /// The bytes of a file; none where it cannot be read.
  static func read(_ path: String) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return [] }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return [] }
    let size = Int(status.st_size)
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      while count < size {
        let part = Glibc.read(descriptor, buffer.baseAddress.map { $0 + count }, size - count)
        if part <= 0 { break }
        count += part
      }
    }
  }

  /// Makes a file of bytes.
  static func write(_ bytes: [UInt8], to path: String) throws(Diagnostic) {
    func failure() -> Diagnostic {
      Diagnostic(
        "output-failed", "cannot be written: \(String(cString: strerror(errno)))", at: .init(file: path),
        hint: "--out names the folder of what is found", kind: .output)
    }
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw failure() }
    defer { close(descriptor) }
    var done = 0
    while done < bytes.count {
      let part = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done) }
      if part < 0, errno == EINTR { continue }
      guard part > 0 else { throw failure() }
      done += part
    }
  }

  /// The extension of a file name: what stands behind its last dot.
  static func kind(of path: String) -> String { path.split(separator: ".").last.map(String.init) ?? "" }
}

/// Ends the case as found: input must not lead to an error of the kind `internal`.
func check(_ error: Diagnostic, _ what: String) {
  if let fault = error.all.first(where: { $0.kind == .internal }) { fatalError("\(what): \(fault)") }
}
