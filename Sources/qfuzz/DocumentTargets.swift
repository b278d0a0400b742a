import ArgumentParser
import EncodingFiles
import IR
import ONNXModel
import Operators
import Passes
import QuantizeTool
import Quantizer
import ToolKit

/// Encodings files, runtime configurations, statistics and YAML, applied to a graph.
struct DocumentTarget: FuzzTarget {
  static let name = "documents"
  let seeds: [Seed]
  private let path: String
  private let graph: Graph?

  init(fixtures: String, scratch: String) {
    path = "\(scratch)/case"
    seeds = Files.below("\(fixtures)/fuzz", [".encodings", ".quantsim", ".stats", ".yaml"]).map {
      Seed(name: $0, kind: Files.kind(of: $0), bytes: Files.read($0))
    }
    graph = ONNXTarget.converted("\(fixtures)/digits/digits.onnx")?.graph
  }

  func mutated(_ seed: Seed, other: Seed, _ random: inout Random) -> [UInt8] {
    TextMutator.mutate(seed.bytes, other: other.bytes, &random)
  }

  func run(_ bytes: [UInt8], kind: String) throws(Diagnostic) {
    if !["encodings", "quantsim", "stats"].contains(kind) { try Files.write(bytes, to: path + ".yaml") }
    do throws(Diagnostic) {
      switch kind {
      case "encodings": try overrides(bytes)
      case "quantsim": try quantsim(bytes)
      case "stats": try statistics(bytes)
      default: try configuration()
      }
    } catch {
      check(error, kind)
    }
  }

  private func overrides(_ bytes: [UInt8]) throws(Diagnostic) {
    let file = try EncodingFile(decoding: bytes)
    do throws(Diagnostic) {
      let text = try file.encoded()
      let again = try EncodingFile(decoding: text)
      if again.entries.count != file.entries.count { fatalError("entries lost in writing") }
    } catch {
      check(error, "write encodings")
    }
    guard let graph else { return }
    for policy in [OverridePolicy.strict, .warn] {
      for unfuse in [false, true] {
        do throws(Diagnostic) {
          let (result, _) = try applyOverrides(graph, file, policy: policy, unfuse: unfuse)
          _ = try completeOverrides(result)
        } catch {
          check(error, "overrides")
        }
      }
    }
  }

  private func quantsim(_ bytes: [UInt8]) throws(Diagnostic) {
    let config = try QuantsimConfig(decoding: bytes)
    guard let graph else { return }
    let plan = try QuantsimPlan(graph, config, options: QuantizerOptions())
    _ = try completeOverrides(plan.graph, options: plan.options)
  }

  private func statistics(_ bytes: [UInt8]) throws(Diagnostic) {
    let statistics = try Statistics(decoding: bytes)
    _ = try statistics.encoded()
    guard let graph else { return }
    _ = try assignEncodings(graph, statistics: statistics, options: QuantizerOptions())
  }

  private func configuration() throws(Diagnostic) {
    var map = try ConfigurationMap(file: path + ".yaml")
    try walk(&map, depth: 0)
    guard let options = try? QuantizeOptions.parse(["--config", path + ".yaml", "--input_list", path]) else { return }
    let session = ToolSession(program: "qfuzz", options: CommonOptions())
    _ = try options.quantizerOptions(session, besideIO: true)
  }

  /// Reads every key in every way.
  private func walk(_ map: inout ConfigurationMap, depth: Int) throws(Diagnostic) {
    for key in map.keys {
      var copies = [ConfigurationMap](repeating: map, count: 7)
      _ = try? copies[0].int(key)
      _ = try? copies[1].double(key)
      _ = try? copies[2].strings(key)
      _ = try? copies[3].doubles(key)
      _ = try? copies[4].bool(key)
      if var inner = try? copies[5].map(key), depth < 20 { try walk(&inner, depth: depth + 1) }
      for var inner in (try? copies[6].maps(key)) ?? [] where depth < 20 { try walk(&inner, depth: depth + 1) }
    }
    try map.finish(known: [])
  }
}

/// Lists of samples and the files they name.
struct InputTarget: FuzzTarget {
  static let name = "inputs"
  let seeds: [Seed]
  private let scratch: String
  private let inputs: [SampleInput]

  init(fixtures: String, scratch: String) throws(Diagnostic) {
    self.scratch = scratch
    var seeds = Files.below("\(fixtures)/fuzz", [".list", ".npy", ".raw"]).map {
      Seed(name: $0, kind: Files.kind(of: $0), bytes: Files.read($0))
    }
    for (name, type) in InputTarget.types {
      let bytes = Bytes(count: type.byteCount) { $0.copyBytes(from: (0..<type.byteCount).map { UInt8($0 % 63) }) }
      if let file = NpyFile.encoded(type, bytes) {
        seeds.append(Seed(name: name, kind: "npy", bytes: file.array(of: UInt8.self)))
        try Files.write(file.array(of: UInt8.self), to: "\(scratch)/\(name).npy")
      }
      seeds.append(Seed(name: name, kind: "raw", bytes: bytes.array(of: UInt8.self)))
      try Files.write(bytes.array(of: UInt8.self), to: "\(scratch)/\(name).raw")
    }
    self.seeds = seeds
    inputs = InputTarget.types.map { SampleInput(name: $0.0, type: $0.1, aliases: ["\($0.0):0"]) }
  }

  /// Inputs of a graph: names and types.
  private static let types: [(String, TensorType)] = [
    ("image", TensorType(.float32, [1, 3, 4])), ("ids", TensorType(.int64, [2])), ("half", TensorType(.float16, [5])),
    ("flag", TensorType(.bool, [])),
  ]

  func mutated(_ seed: Seed, other: Seed, _ random: inout Random) -> [UInt8] {
    if seed.kind == "list" { return TextMutator.mutate(seed.bytes, other: other.bytes, &random) }
    if seed.kind == "npy", random.one(in: 2) {
      return Array(seed.bytes.prefix(10)) + TextMutator.mutate(Array(seed.bytes.dropFirst(10)), other: [], &random)
    }
    var bytes = seed.bytes
    for _ in 0...random.below(4) { ByteMutator.mutate(&bytes, &random, other: other.bytes) }
    return bytes
  }

  func run(_ bytes: [UInt8], kind: String) throws(Diagnostic) {
    let list = "\(scratch)/case.list"
    if kind == "list" {
      try Files.write(bytes, to: list)
    } else {
      try Files.write(bytes, to: "\(scratch)/case.\(kind)")
      let rest = InputTarget.types.dropFirst().map { "\($0.0):=\($0.0).npy" }.joined(separator: " ")
      try Files.write(Array("image:=case.\(kind) \(rest)\n".utf8), to: list)
      if kind == "npy" { _ = try? NpyFile(path: "\(scratch)/case.npy") }
    }
    do throws(Diagnostic) {
      let source = try SampleSource(try InputList(path: list), inputs: inputs)
      for sample in 0..<source.count { _ = try source.load(sample) }
    } catch {
      check(error, kind)
    }
  }
}
