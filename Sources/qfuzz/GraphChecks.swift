import Container
import IR
import Inspection
import Operators
import Runtime

/// What every graph that was accepted must stand: text, inspection, a container and back, a run.
struct GraphChecks {
  private let scratch: String
  private var written: String { "\(scratch)/written.dlc" }

  init(scratch: String) { self.scratch = scratch }

  /// Does everything with a graph; throws where the scratch folder cannot be written.
  func check(_ file: ContainerFile) throws(Diagnostic) {
    let graph = file.graph
    inspect(graph)
    try store(file)
    run(graph)
  }

  private func inspect(_ graph: Graph) {
    for weight in WeightSummary.weights(of: graph) { _ = WeightSummary(graph, weight.tensor, axis: weight.axis) }
    for rule in EncodingRule.builtIn { _ = rule.violations(in: graph) }
    for node in graph.nodes {
      _ = node.op.macs(
        node.inputs.map { $0.map { graph[$0].type.logical } }, node.outputs.map { graph[$0].type.logical })
    }
  }

  /// Written and read again it must be the same.
  private func store(_ file: ContainerFile) throws(Diagnostic) {
    do throws(Diagnostic) {
      try ContainerWriter.write(file, to: written)
    } catch {
      if error.kind == .output { throw error }
      qfuzz.check(error, "write")
      return
    }
    do throws(Diagnostic) {
      let again = try ContainerReader.read(path: written, registry: .standard, checkParameters: true)
      let (one, other) = (file.graph.text(), again.graph.text())
      if one != other {
        let lines = zip(one.split(separator: "\n"), other.split(separator: "\n")).first { $0 != $1 }
        fatalError("not the same after writing: \(lines.map { "\($0) | \($1)" } ?? "lengths differ")")
      }
      let findings = ContainerReader.verify(path: written, registry: .standard)
      if let finding = findings.first, !["container-nan", "container-code-range"].contains(finding.code) {
        fatalError("verify of what was written: \(finding)")
      }
      let summary = try ContainerReader.openInfo(path: written, registry: .standard)
      if summary.graph.nodes.count != file.graph.nodes.count { fatalError("openInfo sees other nodes") }
    } catch {
      fatalError("what was written cannot be read: \(error)")
    }
  }

  /// Runs small graphs on all backends; where they run in integers both have the same bits.
  private func run(_ graph: Graph) {
    var elements = 0
    for tensor in graph.tensors {
      elements += tensor.type.count
      if elements > 100_000 { return }
    }
    var macs = 0
    for node in graph.nodes {
      let types = node.inputs.map { $0.map { graph[$0].type.logical } }
      macs += min(node.op.macs(types, node.outputs.map { graph[$0].type.logical }), 1 << 40)
      if macs > 1 << 22 { return }
    }
    let inputs = graph.inputs.map { id in
      let type = graph[id].type.logical
      return Bytes(count: type.byteCount) { target in
        if type.element == .float32 {
          for (index, offset) in stride(from: 0, to: target.count, by: 4).enumerated() {
            target.storeBytes(of: Float(index % 17) * 0.25 - 2, toByteOffset: offset, as: Float.self)
          }
        }
      }
    }
    for backend in [ReferenceBackend(), OneDNNBackend()] as [any Backend] { _ = results(graph, backend, inputs) }
    guard graph.tensors.contains(where: { $0.encoding != nil }) else { return }
    let (plain, fast) = (
      results(graph, IntegerReferenceBackend(), inputs), results(graph, IntegerBackend(), inputs)
    )
    guard let plain, let fast, fast.isInteger else { return }
    if plain.outputs != fast.outputs { fatalError("integers differ from their reference") }
  }

  /// The bytes of all outputs, and whether everything ran in integers; nil where the graph is refused.
  private func results(
    _ graph: Graph, _ backend: any Backend, _ inputs: [Bytes]
  ) -> (outputs: [[UInt8]], isInteger: Bool)? {
    do throws(Diagnostic) {
      let plan = try backend.prepare(graph, options: PlanOptions())
      let outputs = try plan.makeWorker().run(inputs).map { $0.array(of: UInt8.self) }
      let isInteger = plan.steps.allSatisfy { step in
        ["int8", "pad", "quantize", "dequantize", "plain"].contains { step.kernel.hasPrefix($0) }
      }
      return (outputs, isInteger)
    } catch {
      qfuzz.check(error, backend.name)
      return nil
    }
  }
}
