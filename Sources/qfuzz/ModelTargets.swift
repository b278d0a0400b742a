import Container
import IR
import ONNXModel
import Operators
import Passes

/// ONNX models, through all passes into a container.
struct ONNXTarget: FuzzTarget {
  static let name = "onnx"
  let seeds: [Seed]
  private let path: String
  private let checks: GraphChecks

  init(fixtures: String, scratch: String) {
    seeds = ["minimal", "digits", "qat", "fuzz"].flatMap { Files.below("\(fixtures)/\($0)", [".onnx"]) }.map {
      Seed(name: $0, kind: "onnx", bytes: Files.read($0))
    }
    path = "\(scratch)/case.onnx"
    checks = GraphChecks(scratch: scratch)
  }

  func mutated(_ seed: Seed, other: Seed, _ random: inout Random) -> [UInt8] {
    WireMutator.mutate(seed.bytes, other: other.bytes, &random)
  }

  /// The container's content that a model becomes; nil where it is refused.
  static func converted(_ path: String) -> ContainerFile? {
    do throws(Diagnostic) {
      let imported = try ONNXImporter.load(path: path)
      return ContainerFile(graph: try Pipeline.standard.run(imported.graph))
    } catch {
      check(error, "convert")
      return nil
    }
  }

  func run(_ bytes: [UInt8], kind: String) throws(Diagnostic) {
    try Files.write(bytes, to: path)
    if let file = ONNXTarget.converted(path) { try checks.check(file) }
  }
}

/// Containers, through verifier, inspection and a run.
struct ContainerTarget: FuzzTarget {
  static let name = "container"
  let seeds: [Seed]
  private let members: [[(name: String, content: [UInt8])]]
  private let path: String
  private let checks: GraphChecks

  init(fixtures: String, scratch: String) {
    path = "\(scratch)/case.dlc"
    checks = GraphChecks(scratch: scratch)
    var seeds: [Seed] = []
    var members: [[(name: String, content: [UInt8])]] = []
    func add(_ name: String, _ file: String) {
      let bytes = Files.read(file)
      guard let parts = ArchiveMutator.members(of: bytes, path: file) else { return }
      seeds.append(Seed(name: name, kind: "dlc", bytes: bytes))
      members.append(parts)
    }
    for stored in Files.below("\(fixtures)/fuzz", [".dlc"]) { add(stored, stored) }
    // One model in three keeps the start short.
    let models = ["minimal", "digits", "qat"].flatMap { Files.below("\(fixtures)/\($0)", [".onnx"]) }
    for (index, model) in models.enumerated() where index % 3 == 0 {
      guard let file = ONNXTarget.converted(model) else { continue }
      let made = "\(scratch)/seed.dlc"
      do throws(Diagnostic) {
        try ContainerWriter.write(file, to: made)
        add(model, made)
      } catch {
        check(error, "write")
      }
    }
    ContainerSeeds(fixtures: fixtures).make(at: "\(scratch)/seed.dlc") { add($0, "\(scratch)/seed.dlc") }
    self.seeds = seeds
    self.members = members
  }

  func mutated(_ seed: Seed, other: Seed, _ random: inout Random) -> [UInt8] {
    func parts(_ seed: Seed) -> [(name: String, content: [UInt8])] {
      seeds.firstIndex { $0.name == seed.name }.map { members[$0] } ?? []
    }
    return ArchiveMutator.mutate(parts(seed), other: parts(other), &random)
  }

  func run(_ bytes: [UInt8], kind: String) throws(Diagnostic) {
    try Files.write(bytes, to: path)
    _ = ContainerReader.verify(path: path, registry: .standard).map { check($0, "verify") }
    do throws(Diagnostic) {
      _ = try ContainerReader.openInfo(path: path, registry: .standard)
    } catch {
      check(error, "info")
    }
    let file: ContainerFile
    do throws(Diagnostic) {
      file = try ContainerReader.read(path: path, registry: .standard, checkParameters: true)
    } catch {
      check(error, "read")
      return
    }
    try checks.check(file)
  }
}
