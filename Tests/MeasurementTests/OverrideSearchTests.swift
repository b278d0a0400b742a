import EncodingFiles
import IR
import Operators
import Quantizer
import Testing

@testable import Measurement

@Suite("Searching overrides")
struct OverrideSearchTests {
  /// One weight whose channels differ a hundredfold spoils everything at one grid a tensor.
  private func search(
    target: Double?, jobs: Int = 1, means: Bool = false, bits: Int = 4
  ) throws -> (OverrideSuggestion, Graph) {
    let float = try convolutions(seed: 3, spread: 40)
    let set = samples(float, count: 12, jobs: jobs)
    var search = OverrideSearch(target: target)
    search.ignoresMeans = means
    let found = try search.run(float, reference: float, samples: set) { (graph) throws(Diagnostic) in
      do {
        return try quantized(graph, samples(float, count: 12)) { $0.weightsBitwidth = bits }
      } catch let error as Diagnostic {
        throw error
      } catch {
        throw Diagnostic("test", "\(error)")
      }
    }
    return (found, float)
  }

  @Test(arguments: [false, true]) func theWorstLayersComeFirst(means: Bool) throws {
    let (all, _) = try search(target: 200, means: means)
    #expect(!all.reachesTarget)
    #expect(all.raised.count == all.layerCount)
    #expect(all.raised.map(\.share).sorted(by: >) == all.raised.map(\.share))
    let (some, _) = try search(target: (all.before + all.after) / 2, means: means)
    #expect(some.reachesTarget && some.after > some.before)
    #expect((1..<all.raised.count).contains(some.raised.count))
    // One layer fewer does not do: the set is the smallest of its order.
    let fewer = some.tried.filter { $0.layers < some.raised.count }
    #expect(fewer.allSatisfy { $0.sqnr < (all.before + all.after) / 2 })
    let (same, _) = try search(target: (all.before + all.after) / 2, jobs: 3, means: means)
    #expect(same.raised == some.raised && same.after == some.after)
  }

  @Test func nothingIsRaisedWithoutNeed() throws {
    let (found, _) = try search(target: -20)
    #expect(found.raised.isEmpty && found.after == found.before && found.reachesTarget)
  }

  /// Without a target a third of the layers with weights at most.
  @Test func aThirdWithoutTarget() throws {
    let (found, _) = try search(target: nil)
    #expect(found.raised.count == 1 && found.after >= found.before)
  }

  /// What is written is what was tried: read back and applied it gives the same widths.
  @Test func entriesAreAppliedAsTheyAre() throws {
    let (found, float) = try search(target: 200)
    let file = EncodingFile(generation: .keyed, entries: found.entries(floatBitwidth: 32))
    let read = try EncodingFile(decoding: try file.encoded())
    let (graph, _) = try applyOverrides(float, read)
    for tensor in found.raised.flatMap(\.tensors) {
      let id = try #require(graph.tensor(named: tensor.name))
      #expect(graph[id].bitwidth == tensor.bitwidth)
    }
    #expect(found.raised.flatMap(\.tensors).contains { $0.name == "w2" && $0.bitwidth == 8 })
  }

  /// Weights of 16 bits need results of 16 bits.
  @Test func widthsFitTogether() throws {
    let (found, _) = try search(target: 200, bits: 8)
    for layer in found.raised where layer.tensors.contains(where: { $0.isParameter && $0.bitwidth == 16 }) {
      #expect(layer.tensors.contains { !$0.isParameter && $0.bitwidth == 16 })
    }
    #expect(found.raised.contains { $0.tensors.contains { $0.isParameter } })
  }

  /// The first samples by content, whatever the order of the list.
  @Test func subsetsKnowNoOrder() throws {
    let float = try convolutions()
    let set = samples(float, count: 20)
    var reversed = set
    reversed.load = { (index) throws(Diagnostic) in try set.load(19 - index) }
    let (a, b) = (try set.canonicalSubset(most: 6), try reversed.canonicalSubset(most: 6))
    #expect(a.count == 6 && b.count == 6)
    for index in 0..<6 {
      #expect(try a.load(index)[0].array(of: Float.self) == b.load(index)[0].array(of: Float.self))
    }
    #expect(try set.canonicalSubset(most: 20).count == 20)
  }

  /// Biases that take out the mean error of a layer: on its own inputs none is left.
  @Test func meansAreMatched() throws {
    let float = try convolutions(seed: 8)
    let set = samples(float)
    let base = try quantized(float, set) { $0.weightsBitwidth = 4 }.graph
    let bare = base.withFloatConstants(of: float)
    let layers = base.layers().compactMap { RaisableLayer($0, base) }
    let matched = try OverrideSearch().meanMatched(bare, base, layers, set)
    #expect(matched.keys.sorted() == ["conv1", "conv2"])
    for (layer, name, weight, bias) in [("conv1", "c1", "w1", "b1"), ("conv2", "c2", "w2", "b2")] {
      var variant = bare
      let (weightID, biasID) = (
        try #require(bare.tensor(named: weight)), try #require(bare.tensor(named: bias))
      )
      variant[weightID] = base[weightID]
      variant[biasID].constant = try #require(matched[layer]?[biasID])
      let exact = try values(bare, name, set, simulate: true)
      let quantized = try values(variant, name, set, simulate: true)
      let channels = try #require(variant[biasID].constant).type.count
      var sums = [Double](repeating: 0, count: channels)
      for index in exact.indices { sums[index % channels] += Double(exact[index]) - Double(quantized[index]) }
      for sum in sums { #expect(abs(sum) / Double(exact.count) < 1e-6) }
    }
  }
}
