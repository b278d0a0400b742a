import Foundation
import IR
import ONNXModel
import Testing

@Suite struct ImportTests {
  @Test func fixturesAreThere() {
    #expect(Fixtures.cases.count > 100)
  }

  @Test(arguments: Fixtures.cases)
  func agreesWithONNXRuntime(_ test: Fixtures.Case) throws {
    let expectedInputs = try test.inputs.map(Fixtures.array)
    var options = ONNXImporter.Options()
    for input in test.inputs { options.inputShapes[input.name] = input.shape }
    let model = try ONNXImporter.load(path: Fixtures.path(test.model), options: options)
    let graph = model.graph
    #expect(graph.verify().isEmpty)
    #expect(graph.inputs.map { graph[$0].name } == test.inputs.map(\.name))
    #expect(graph.outputs.map { graph[$0].name } == test.outputs.map(\.name))
    let results = try interpret(graph, expectedInputs.map { $0.materialized() })
    for (result, description) in zip(results, test.outputs) {
      let expected = try Fixtures.array(description)
      #expect(result.type == expected.type)
      #expect(relativeError(result, expected) < 1e-5, "\(description.name)")
    }
  }
}

/// What an import has to complain about, nil where it succeeds.
private func problem(
  _ path: String, _ options: ONNXImporter.Options = ONNXImporter.Options()
) -> Diagnostic? {
  do throws(Diagnostic) {
    _ = try ONNXImporter.load(path: path, options: options)
    return nil
  } catch {
    return error
  }
}

@Suite struct BrokenModelTests {
  @Test(arguments: Fixtures.broken)
  func brokenModelIsRefused(_ test: Fixtures.Broken) throws {
    guard let error = problem(Fixtures.path(test.model)) else {
      #expect(test.name == "unordered", "accepted: \(test.problem)")
      return
    }
    #expect(test.name != "unordered")
    #expect(error.all.allSatisfy { $0.severity == .error && $0.kind == .input })
    #expect(error.location.file != nil && !error.message.isEmpty)
    if test.name == "unknown_operators" { #expect(error.all.count == 3) }
  }

  @Test func missingAndEmptyFilesAreRefused() throws {
    let folder = try TemporaryFolder()
    for name in ["none.onnx", "empty.onnx", "text.onnx", "."] {
      let path = folder.path + "/" + name
      if name == "empty.onnx" { try folder.write([], name) }
      if name == "text.onnx" { try folder.write(Array("just some text\n".utf8), name) }
      #expect(problem(path) != nil, "\(name)")
    }
  }

  @Test func openSizesNameTheOption() throws {
    let path = Fixtures.path("dynamic_batch/model.onnx")
    let error = problem(path)
    #expect(error?.code == "onnx-open-shape")
    #expect(error?.hint?.contains("--onnx_define_symbol ") == true)
    #expect(error?.all.count == 1)
    #expect(error?.hint?.contains("-d x 1,") == true)
    var options = ONNXImporter.Options(inputShapes: ["y": [1]])
    #expect(problem(path, options) != nil)
    options.inputShapes = ["x": [1, 2]]
    #expect(problem(path, options) != nil)
  }

  @Test func whatIsBeforeAnUnreadableNodeConverts() throws {
    let path = Fixtures.path("broken/if_computed/model.onnx")
    #expect(problem(path)?.hint?.hasSuffix("--out_tensor_node c") == true)
    for name in ["c", "Greater_1"] {
      let graph = try ONNXImporter.load(path: path, options: .init(outputs: [name])).graph
      #expect(graph.outputs.map { graph[$0].name } == ["c"])
      #expect(graph.nodes.map(\.op.typeName) == ["ReduceSum", "ElementWiseGreater"])
    }
    #expect(problem(path, .init(outputs: ["unheard"])) != nil)
  }

  /// Every prefix of a model and every single changed byte: an error or a graph, never a crash.
  @Test(arguments: ["conv_all", "external_data", "shape_folding", "local_function", "gemm_all"])
  func damagedModelDoesNotCrash(_ name: String) throws {
    let folder = try TemporaryFolder()
    let source = URL(fileURLWithPath: Fixtures.path("\(name)/model.onnx"))
    let bytes = try [UInt8](Data(contentsOf: source))
    for length in 0..<bytes.count {
      try folder.write(Array(bytes[..<length]), "model.onnx")
      _ = try? ONNXImporter.load(path: folder.path + "/model.onnx")
    }
    for position in bytes.indices {
      for change: UInt8 in [0x01, 0x80, 0xFF, 0x08] {
        var copy = bytes
        copy[position] ^= change
        try folder.write(copy, "model.onnx")
        if let model = try? ONNXImporter.load(path: folder.path + "/model.onnx") {
          #expect(model.graph.verify().isEmpty)
        }
      }
    }
  }

  @Test func deepNestingIsRefused() throws {
    let folder = try TemporaryFolder()
    // An input whose type is a sequence of sequences of ..., 2000 deep.
    var inner: [UInt8] = []
    func field(_ number: UInt8, _ body: [UInt8]) -> [UInt8] {
      var result = [number << 3 | 2]
      var length = body.count
      while length > 127 {
        result.append(UInt8(length & 127) | 128)
        length >>= 7
      }
      return result + [UInt8(length)] + body
    }
    for _ in 0..<2000 { inner = field(4, field(1, inner)) }
    let model = field(7, field(11, field(2, inner)))
    try folder.write(model, "model.onnx")
    #expect(problem(folder.path + "/model.onnx")?.code == "onnx-damaged")
  }

  /// "All of them" is written as the largest integer, which no Float holds.
  @Test func mostBoxesAreAllBoxes() throws {
    let graph = try ONNXImporter.load(path: Fixtures.path("../fuzz/found/most-boxes-2-63.onnx")).graph
    let gather = try #require(graph.nodes.last { $0.op.typeName == "Gather" })
    let rows = try #require(gather.inputs[1].flatMap { graph[$0].constant })
    // The better of two alike, then the one that overlaps none.
    #expect(rows.integers() == [1, 2])
  }

  @Test func linkOutOfTheFolderIsRefused() throws {
    let folder = try TemporaryFolder()
    let source = Fixtures.path("external_data")
    for name in try FileManager.default.contentsOfDirectory(atPath: source) {
      var isFolder: ObjCBool = false
      let path = source + "/" + name
      guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder),
        !isFolder.boolValue
      else { continue }
      if name.hasSuffix(".onnx") {
        try FileManager.default.copyItem(atPath: path, toPath: folder.path + "/" + name)
      } else {
        try FileManager.default.createSymbolicLink(
          atPath: folder.path + "/" + name, withDestinationPath: path)
      }
    }
    #expect(problem(folder.path + "/model.onnx")?.code == "onnx-external-path")
  }
}
