import IR

/// What one layer means for the outputs.
public struct LayerSensitivity: Sendable, Hashable {
  /// Signal to noise of the outputs in dB with this layer alone quantized.
  public var aloneSQNR: Double
  /// Signal to noise of the outputs in dB with all layers quantized but this one.
  public var withoutSQNR: Double
  /// Share of the noise of all layers quantized alone.
  public var share: Double
}

/// Quantizes one layer at a time, and leaves one layer float at a time.
enum Sensitivity {
  /// Runs of all samples that a measurement takes.
  static func runs(_ annotated: Graph) -> Int { 2 * quantizedLayers(annotated).count }

  /// The sensitivity of every layer by the names of its activations in the container.
  static func measure(
    reference: Graph, container: Graph, match: GraphMatch, samples: MeasurementSamples
  ) throws(Diagnostic) -> [String: LayerSensitivity] {
    let quantized = container.annotatedFloat()
    let float = floatTwin(of: quantized, container: container, match: match, reference: reference)
    let layers = quantizedLayers(quantized)
    let noise = try OutputNoise(reference: reference, variant: quantized)
    let all = Set(layers.flatMap { $0.activations + $0.parameters })
    let bare = float.withoutEncodings(of: all)
    let ratios = try noise.ratios(of: 2 * layers.count, samples: samples) { index in
      let layer = layers[index / 2]
      return index % 2 == 0
        ? bare.taking(layer, from: quantized) : quantized.taking(layer, from: bare)
    }
    let alone = stride(from: 0, to: ratios.count, by: 2).map { ratios[$0] }
    let total = alone.reduce(0, +)
    var result: [String: LayerSensitivity] = [:]
    for (place, layer) in layers.enumerated() {
      let found = LayerSensitivity(
        aloneSQNR: decibels(noiseRatio: alone[place]), withoutSQNR: decibels(noiseRatio: ratios[2 * place + 1]),
        share: total > 0 ? alone[place] / total : 0)
      for id in layer.activations { result[quantized[id].name] = found }
    }
    return result
  }

  /// Layers of which a tensor has an encoding.
  static func quantizedLayers(_ annotated: Graph) -> [Layer] {
    annotated.layers().filter { layer in
      (layer.activations + layer.parameters).contains { annotated[$0].encoding != nil }
    }
  }

  /// The container's graph with the reference's constants, scaled as equalization scaled them.
  private static func floatTwin(
    of annotated: Graph, container: Graph, match: GraphMatch, reference: Graph
  ) -> Graph {
    var result = annotated
    let users = container.constantUsers()
    var places: [String: TensorID] = [:]
    for (index, tensor) in annotated.tensors.enumerated() { places[tensor.name] = TensorID(index) }
    for pair in match.parameters {
      guard let id = places[container[pair.container].name], annotated[id].constant != nil else { continue }
      let shape = annotated[id].type.shape
      let scaling = ParameterScaling(of: pair.container, in: container, users: users[pair.container] ?? [])
      result[id].constant = Constant(
        scaling.applied(reference.realValues(of: pair.reference), shape: shape), shape: shape)
    }
    return result
  }
}

extension Graph {
  /// A copy whose tensors of a layer are those of another graph with the same tensors.
  func taking(_ layer: Layer, from other: Graph) -> Graph {
    var result = self
    for id in layer.activations + layer.parameters { result[id] = other[id] }
    return result
  }
}
