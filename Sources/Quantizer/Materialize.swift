import IR
import Operators

/// The last pass: turns annotations into stored types. Weights become codes, activations and the
/// border get fixed-point types, float tensors of 16 bits become float16, and where neighbours differ
/// one Convert, Quantize or Dequantize is inserted, shared by all consumers (see
/// ``insertingBorders(_:borders:dataInvariantOpsRequantize:keepsWeightsQuantized:)``). Integer and boolean tensors stay as
/// they are.
///
/// `borders` tells the encodings by which fixed-point operators read tensors that stay float;
/// `keepsWeightsQuantized` lets float operators read fixed-point weights, `packs4BitWeights` stores
/// 4-bit constants two a byte.
/// Throws `open-tensor` while a float tensor has neither an encoding nor the state float, and what
/// inserting borders throws.
public func materialize(
  _ graph: Graph, borders: [TensorID: Encoding] = [:], dataInvariantOpsRequantize: Bool = false,
  keepsWeightsQuantized: Bool = false, packs4BitWeights: Bool = false
) throws(Diagnostic) -> Graph {
  guard !graph.isMaterialized else { return graph }
  var result = try insertingBorders(
    graph, borders: borders, dataInvariantOpsRequantize: dataInvariantOpsRequantize,
    keepsWeightsQuantized: keepsWeightsQuantized)
  let open = result.tensors.filter {
    $0.type.element.isFloat && $0.state == .open && $0.encoding == nil
  }
  if let failure = Diagnostic.combining(
    open.map {
      Diagnostic(
        "open-tensor", "it has no encoding and is not float by choice", at: .init(tensor: $0.name))
    })
  {
    throw failure
  }
  for index in result.tensors.indices where result.tensors[index].type.element == .float32 {
    guard let encoding = result.tensors[index].encoding else {
      if result.tensors[index].floatBitwidth == 16 { result.tensors[index].storeAsHalf() }
      continue
    }
    let type = result.tensors[index].type
    if let problem = encoding.problem(shape: type.shape) {
      throw Diagnostic("bad-encoding", problem, at: .init(tensor: result.tensors[index].name))
    }
    let constant = result.tensors[index].constant
    let packed = packs4BitWeights && constant != nil ? encoding.packedStorage : nil
    let fixed = TensorType(packed ?? encoding.storage, type.shape)
    if let constant {
      let codes = encoding.quantized(constant)
      result.tensors[index].constant = Constant(type: fixed, bytes: codes)
    }
    result.tensors[index].type = fixed
  }
  result.isMaterialized = true
  try result.checkMaterialized()
  return result
}

extension Tensor {
  /// Makes a float tensor float16, its value too.
  mutating func storeAsHalf() {
    type = TensorType(.float16, type.shape)
    constant = constant?.halved()
  }
}

extension Graph {
  /// Throws where what a pass made is not valid: a bug.
  func checkMaterialized() throws(Diagnostic) {
    if var failure = Diagnostic.combining(verify()) {
      failure.kind = .internal
      throw failure
    }
  }
}
