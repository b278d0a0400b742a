import Foundation
import IR
import ONNXExport
import ONNXModel
import Operators
import Runtime
import Testing

/// Operators that are not exported; everything else of the registry is.
private let withoutForm: Set<String> = []

@Suite("Export to ONNX")
struct ExportLaws {
  @Test("operators without an ONNX form are those listed")
  func formsAreComplete() throws {
    let missing = OperatorRegistry.standard.names.filter { name in
      guard let type = OperatorRegistry.standard.type(named: name) else { return true }
      return !ONNXExporter.hasForm(type)
    }
    #expect(Set(missing) == withoutForm)
  }

  /// Integers at the end of their range pass through a Float.
  @Test(arguments: [(Float(0x1p63), Int64.max), (-0x1p63, .min), (-3, -3)])
  func paddingIntegers(value: Float, stored: Int64) throws {
    var graph = Graph(name: "g")
    let x = graph.add(Tensor(name: "x", type: TensorType(.int64, [2])))
    let y = graph.add(Tensor(name: "y", type: TensorType(.int64, [4])))
    (graph.inputs, graph.outputs) = ([x], [y])
    graph.nodes = [Node(name: "pad", op: Pad(padAmount: [1, 1], value: value), inputs: [x], outputs: [y])]
    let model = try ONNXExporter.export(graph, as: .float).bytes()
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).onnx")
    defer { try? FileManager.default.removeItem(at: path) }
    try Data(model.buffer).write(to: path)
    let imported = try ONNXImporter.load(path: path.path).graph
    let inputs = [Bytes([Int64(1), 2])]
    #expect(try run(imported, inputs)[0].array(of: Int64.self) == [stored, 1, 2, stored])
  }

  /// A float16 input takes float values as qrun does: rounded.
  @Test func halfInputsAreRounded() throws {
    var graph = Graph(name: "g")
    let type = TensorType(.float16, [3])
    let x = graph.add(Tensor(name: "x", type: type))
    let one = Constant([Float(1)], shape: [1])
    let k = graph.add(Tensor(name: "k", type: one.type, constant: one))
    let y = graph.add(Tensor(name: "y", type: type))
    (graph.inputs, graph.outputs) = ([x], [y])
    graph.nodes = [Node(name: "sub", op: ElementWiseSubtract(), inputs: [x, k], outputs: [y])]
    let model = try ONNXExporter.export(graph, as: .float).bytes()
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).onnx")
    defer { try? FileManager.default.removeItem(at: path) }
    try Data(model.buffer).write(to: path)
    let imported = try ONNXImporter.load(path: path.path).graph
    #expect(imported.inputs.map { imported[$0].name } == ["x"])
    let inputs = [Bytes([Float(1.0004), 2.0007, 3.0011])]
    let found = try run(imported, inputs)[0].array(of: Float.self)
    #expect(found == [0, 1, 2.0019531])
    #expect(try run(graph, inputs)[0].array(of: Float.self) == found)
  }

  @Test("import(export(graph)) evaluates equally", arguments: operatorSamples)
  func importGivesTheSameFunction(_ sample: OperatorSample) throws {
    guard !withoutForm.contains(sample.op.typeName) else { return }
    let graph = try sample.graph(seed: 11)
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent("a.onnx")
    let bytes = try ONNXExporter.export(graph, as: .float).bytes()
    try Data(bytes.buffer).write(to: path)
    let imported = try ONNXImporter.load(path: path.path).graph
    #expect(imported.inputs.map { imported[$0].name } == graph.inputs.map { graph[$0].name })
    #expect(imported.outputs.map { imported[$0].name } == graph.outputs.map { graph[$0].name })
    #expect(imported.outputs.map { imported[$0].type } == graph.outputs.map { graph[$0].type })
    let inputs = sample.values(graph, seed: 12)
    let expected = try run(graph, inputs)
    let got = try run(imported, inputs)
    for (index, (a, b)) in zip(expected, got).enumerated() {
      guard graph[graph.outputs[index]].type.element == .float32 else {
        #expect(a.array(of: UInt8.self) == b.array(of: UInt8.self))
        continue
      }
      let (x, y) = (a.array(of: Float.self), b.array(of: Float.self))
      try #require(x.count == y.count)
      let largest = x.map { abs($0) }.max() ?? 0
      let difference = zip(x, y).map { abs($0 - $1) }.max() ?? 0
      #expect(difference <= 1e-5 * max(largest, 1e-3))
    }
  }

  private func run(_ graph: Graph, _ inputs: [Bytes]) throws -> [Bytes] {
    try ReferenceBackend().prepare(graph, options: PlanOptions()).makeWorker().run(inputs, tap: nil)
  }
}
