import IR
import Operators

extension Graph {
  /// The tensors whose noise stands for that of the outputs: the outputs, but for a Softmax at the end what
  /// it reads. Probabilities near 0 and 1 hide noise that other samples will show.
  public func scoreOutputs() -> [TensorID] {
    let producers = producers()
    return outputs.map { output in
      var id = output
      while let node = producers[id.index].map({ self[$0] }), let first = node.inputs.first, let input = first {
        if node.op is Softmax || node.op is LogSoftmax { return input }
        guard node.op is Convert || node.op is Dequantize || node.op is Quantize else { break }
        id = input
      }
      return output
    }
  }

  /// A copy whose outputs are ``scoreOutputs()``.
  public func withScoresAsOutputs() -> Graph {
    var result = self
    result.outputs = scoreOutputs()
    return result
  }
}
