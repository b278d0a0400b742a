import Container
import IR
import Quantizer
import Runtime

/// Containers of kinds that converting alone does not make: quantized, with a grid a block, recurrent, in several
/// precisions, with weights in a member of their own.
struct ContainerSeeds {
  let fixtures: String

  /// Writes each kind to `path` and hands it on with its name; a kind whose model is not there is left out.
  func make(at path: String, _ body: (_ name: String) -> Void) {
    for (name, model, change) in kinds {
      do throws(Diagnostic) {
        guard let graph = ONNXTarget.converted("\(fixtures)/\(model)")?.graph else { continue }
        try ContainerWriter.write(try change(graph), to: path)
        body(name)
      } catch {
        check(error, name)
      }
    }
    do throws(Diagnostic) {
      guard let file = ONNXTarget.converted("\(fixtures)/digits/digits.onnx") else { return }
      for (name, wanted) in [("external", file), ("external quantized", try quantized(file.graph))] {
        try ContainerWriter.write(wanted, to: path, inlineLimit: 0)
        body(name)
      }
    } catch {
      check(error, "external")
    }
  }

  private typealias Change = (Graph) throws(Diagnostic) -> ContainerFile

  private var kinds: [(name: String, model: String, change: Change)] {
    let digits = "digits/digits.onnx"
    return [
      ("quantized", digits, { (graph) throws(Diagnostic) in try quantized(graph) }),
      (
        "packed", digits,
        { (graph) throws(Diagnostic) in
          try quantized(graph) {
            ($0.weightsBitwidth, $0.perChannel, $0.perRow, $0.packs4BitWeights) = (4, true, true, true)
            $0.biasBitwidth = 32
          }
        }
      ),
      (
        "mixed", digits,
        { (graph) throws(Diagnostic) in
          var mixed = graph
          for name in ["clip3_output", "bn3_output", "conv3_pointwise.weight"] {
            if let id = graph.tensor(named: name) { mixed[id].bitwidth = 16 }
          }
          return try quantized(mixed) {
            ($0.keepFloat, $0.floatBitwidth) = (["conv4_depthwise", "clip4", "softmax"], 16)
          }
        }
      ),
      ("blocks", digits, { (graph) throws(Diagnostic) in try quantized(blocked(graph)) { $0.biasBitwidth = 32 } }),
      (
        "half", digits,
        { (graph) throws(Diagnostic) in ContainerFile(graph: try convertedToHalf(graph, floatBitwidth: 16).graph) }
      ),
      ("recurrent", "minimal/lstm_all/model.onnx", { (graph) throws(Diagnostic) in ContainerFile(graph: graph) }),
      ("recurrent quantized", "minimal/lstm_plain/model.onnx", { (graph) throws(Diagnostic) in try quantized(graph) }),
    ]
  }

  /// A graph quantized by two made-up samples.
  private func quantized(
    _ graph: Graph, _ change: (inout QuantizerOptions) -> Void = { _ in }
  ) throws(Diagnostic) -> ContainerFile {
    var options = QuantizerOptions()
    change(&options)
    let types = graph.inputs.map { graph[$0].type.logical }
    let statistics = try observe(
      graph, backend: ReferenceBackend(), sampleCount: 2,
      load: { (sample) throws(Diagnostic) in
        types.map { type in
          type.element == .float32
            ? Bytes((0..<type.count).map { Float(($0 * 7 + sample * 3) % 11) / 11 })
            : Bytes(count: type.byteCount) { _ in }
        }
      }, jobs: 1)
    return ContainerFile(graph: try assignEncodings(graph, statistics: statistics, options: options).materialized())
  }

  /// The digits network with a grid a block in two of its weights, of one as low-power factors.
  private func blocked(_ graph: Graph) -> Graph {
    var result = graph
    if let id = graph.tensor(named: "conv5_pointwise.weight") {
      let grids = (0..<64 * 4).map { ScaleOffset(scale: 0.05 + Float($0 % 5) / 100, offset: -8) }
      result[id].encoding = Encoding(
        bitwidth: 4, symmetric: true, axis: 3, blocks: EncodingBlocks(axis: 2, size: 8), channels: grids)
    }
    if let id = graph.tensor(named: "classifier.weight") {
      let scales = LowPowerScales(
        channelScales: (0..<10).map { 0.01 + Float($0) / 1000 }, factors: (0..<40).map { 1 + $0 % 16 },
        decompressedBitwidth: 8)
      result[id].encoding = Encoding(bitwidth: 4, axis: 0, blockAxis: 1, blockSize: 16, lowPower: scales)
    }
    for index in result.tensors.indices where result.tensors[index].encoding != nil {
      (result.tensors[index].state, result.tensors[index].encodingSource) = (.given, .override)
    }
    return result
  }
}
