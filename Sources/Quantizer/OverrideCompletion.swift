import EncodingFiles
import IR

extension MissingEncodings {
  /// What a version means by leaving a tensor out: floats have no entry in 2.0.0.
  public static func meant(by generation: EncodingGeneration) -> MissingEncodings {
    generation == .onnx ? .float : .calibrate
  }
}

extension EncodingCoverage {
  /// Names of tensors whose encoding was calibrated, or that are still open, in the order of the graph:
  /// neither given, nor following from what is, nor float by choice. What lies inside fused pairs follows
  /// its activation and is left out.
  public static func gaps(of graph: Graph) -> [String] {
    let inner = graph.fusedIntermediates()
    var carriers = Set(graph.inputs)
    let following = graph.weightsOfFloatOperators
    for node in graph.nodes {
      for (slot, id) in node.outputs.enumerated() where node.op.quantization.output(slot) != .unquantized {
        carriers.insert(id)
      }
      for (slot, id) in node.inputs.enumerated() where node.op.quantization.input(slot) != .unquantized {
        if let id { carriers.insert(id) }
      }
    }
    return graph.tensors.enumerated().filter { index, tensor in
      let id = TensorID(index)
      guard carriers.contains(id), inner[id] == nil, !following.contains(id),
        tensor.type.logical.element == .float32
      else { return false }
      return tensor.encoding == nil ? tensor.state == .open : tensor.encodingSource == .calibrated
    }.map(\.element.name)
  }
}

/// A graph with overrides: all decided, or what is left.
public enum OverrideCompletion: Sendable {
  /// Every tensor is given, follows from what is given, or stays float: fixed point can be made of it.
  case complete(QuantizationResult, materialized: Graph)
  /// The tensors that calibration has to give encodings.
  case open([String])
}

/// Completes a graph whose overrides decide everything: encodings spread over data-invariant operators,
/// fixed ranges, computed 32-bit biases. No weight is calibrated, though it could be without samples.
public func completeOverrides(
  _ graph: Graph, options: QuantizerOptions = QuantizerOptions()
) throws(Diagnostic) -> OverrideCompletion {
  let result: QuantizationResult
  do throws(Diagnostic) {
    result = try assignEncodings(graph, statistics: nil, options: options)
  } catch {
    guard error.all.allSatisfy({ $0.code == "missing-range" }) else { throw error }
    let missing = Set(error.all.compactMap(\.location.tensor))
    let gaps = EncodingCoverage.gaps(of: graph)
    // What only follows from others is no gap.
    return .open(
      gaps.filter { name in
        missing.contains(name)
          || graph.tensor(named: name).map { graph[$0].constant != nil && graph[$0].bitwidth != 32 } == true
      })
  }
  let gaps = EncodingCoverage.gaps(of: result.graph)
  guard gaps.isEmpty else { return .open(gaps) }
  do throws(Diagnostic) {
    return .complete(result, materialized: try result.materialized())
  } catch {
    // A float tensor that an integer operator reads: only samples tell the range at that border.
    guard error.all.allSatisfy({ $0.code == "missing-border" }) else { throw error }
    return .open(error.all.compactMap(\.location.tensor))
  }
}

extension Graph {
  /// The graph without encodings, widths and choices of float from overrides and from the source
  /// (`--ignore_quantization_overrides`).
  public func withoutGivenEncodings() -> Graph {
    var result = self
    result.integerNodes = []
    for index in result.tensors.indices {
      result.tensors[index].encoding = nil
      result.tensors[index].encodingSource = nil
      result.tensors[index].state = .open
      result.tensors[index].bitwidth = nil
      result.tensors[index].isUnfused = false
    }
    return result
  }
}
