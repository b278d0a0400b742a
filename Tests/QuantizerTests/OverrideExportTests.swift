import EncodingFiles
import Foundation
import IR
import ONNXModel
import Operators
import Passes
import Quantizer
import Testing

/// Encodings files that AIMET wrote, where they lie beside the package: read when tests run, no part of
/// the repository.
private enum Exports {
  static let models = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../../shared/models").standardizedFileURL
  static let folder = models.appendingPathComponent("aimet-exports")

  static let isPresent: Bool = {
    let found = FileManager.default.fileExists(atPath: folder.path)
    if !found { print("exports of AIMET: 3 tests skipped, ../shared/models/aimet-exports is absent") }
    return found
  }()

  static func graph(_ path: String) throws -> Graph {
    let model = try ONNXImporter.load(path: models.appendingPathComponent(path).path, options: .init())
    return try Pipeline.standard.run(model.graph)
  }

  static func file(_ name: String) throws -> EncodingFile {
    try EncodingFile(decoding: [UInt8](Data(contentsOf: folder.appendingPathComponent("\(name).encodings"))))
  }

  /// Names of exports with the versions there are of each, without block-wise ones.
  static func list(_ sub: String) throws -> [String: [String]] {
    let path = folder.appendingPathComponent(sub).path
    var result: [String: [String]] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: path).sorted() {
      guard name.hasSuffix(".encodings"), let dot = name.range(of: ".v") else { continue }
      let version = String(name[dot.upperBound...].dropLast(".encodings".count))
      result[sub + name[..<dot.lowerBound], default: []].append(version)
    }
    return result
  }
}

@Suite(.enabled(if: Exports.isPresent)) struct OverrideExportTests {
  /// The graph with a file, every name of it known.
  private func applied(_ graph: Graph, _ name: String) throws -> (graph: Graph, report: OverrideReport) {
    let (result, report) = try applyOverrides(graph, try Exports.file(name))
    for entry in report.names {
      switch entry.outcome {
      case .matched, .alias, .withoutEffect: continue
      case .pattern, .wrongSection, .unmatched: Issue.record("\(name): \(entry.name) \(entry.outcome)")
      }
    }
    return (result, report)
  }

  /// Tensors that every version names have the same grids and states.
  private func compare(_ results: [(version: String, graph: Graph, report: OverrideReport)]) throws {
    let first = results[0]
    for other in results.dropFirst() {
      var compared = 0
      for index in first.graph.tensors.indices {
        let (a, b) = (first.graph.tensors[index], other.graph.tensors[index])
        guard a.encodingSource == .override else { continue }
        compared += 1
        #expect(a.state == b.state, "\(other.version) \(a.name)")
        if other.version.hasSuffix("signed") {
          #expect(a.encoding?.channels == b.encoding?.channels, "\(other.version) \(a.name)")
        } else {
          #expect(a.encoding == b.encoding, "\(other.version) \(a.name)")
        }
      }
      #expect(compared > 4)
    }
  }

  @Test func ultraface() throws {
    let network = try Exports.graph("ultraface_rfb_320.onnx")
    for (name, versions) in try Exports.list("").sorted(by: { $0.key < $1.key }) {
      try compare(
        try versions.map { version in
          let made = try applied(network, "\(name).v\(version)")
          return (version, made.graph, made.report)
        })
    }
  }

  /// Where the names of 2.0.0 go: 95 activations, 69 parameters, 35 biases of folded BatchNorms and 22
  /// results of data movement, of which the 18 depthwise convolutions' are inside fused pairs to us.
  @Test func namesOfTheWholeFile() throws {
    let network = try Exports.graph("ultraface_rfb_320.onnx")
    let old = try applied(network, "rfb320_w8a8_perchannel.v1.0.0")
    let new = try applied(network, "rfb320_w8a8_perchannel.v2.0.0")
    #expect(old.report.names.count == 164 && new.report.names.count == 221)
    let extra = Set(new.report.names.map(\.name)).subtracting(old.report.names.map(\.name))
    #expect(extra.count == 57)
    for report in [old.report, new.report] {
      let inner = report.names.filter {
        if case .withoutEffect(let reason) = $0.outcome { reason.contains("fused pair") } else { false }
      }
      #expect(inner.count == 18)
    }
  }

  @Test func tiny() throws {
    let network = try Exports.graph("aimet-exports/tiny/tiny.onnx")
    for (name, versions) in try Exports.list("tiny/").sorted(by: { $0.key < $1.key }) {
      guard !name.contains("blockwise"), !name.contains("lpbq") else { continue }
      try compare(
        try versions.map { version in
          let made = try applied(network, "\(name).v\(version)")
          return (version, made.graph, made.report)
        })
    }
  }

  /// Grids of blocks: the files that keep them say the same.
  @Test(arguments: ["tiny_blockwise_int4", "tiny_lpbq_int4"]) func tinyBlocks(_ name: String) throws {
    let network = try Exports.graph("aimet-exports/tiny/tiny.onnx")
    let versions = ["1.0.0", "2.0.0", "2.0.0.signed"]
    let results = try versions.map { version in
      let made = try applied(network, "tiny/\(name).v\(version)")
      return (version: version, graph: made.graph, report: made.report)
    }
    try compare(results)
    for result in results {
      let blocks = result.graph.tensors.compactMap { tensor in
        tensor.encoding.flatMap { $0.blocks == nil ? nil : $0.problem(shape: tensor.type.shape) ?? "" }
      }
      #expect(!blocks.isEmpty && blocks.allSatisfy { $0 == "" }, "\(result.version)")
    }
  }

  /// 0.6.1 has no place for the form of the blocks: their grids read as those of too many channels.
  @Test func tinyBlocksOfTheOldForm() throws {
    let network = try Exports.graph("aimet-exports/tiny/tiny.onnx")
    let error = #expect(throws: Diagnostic.self) {
      try applied(network, "tiny/tiny_blockwise_int4.v0.6.1")
    }
    #expect(error.map { "\($0)".contains("encodings are given, but 1 or") } == true, "\(String(describing: error))")
  }
}
