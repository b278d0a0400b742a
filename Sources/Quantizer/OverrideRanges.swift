import EncodingFiles
import IR

extension OverrideApplication {
  /// Share of a weight's energy that may be cut off before it is told, in the manner of calibration that clips
  /// (at 4 bits by `mse` some percent).
  private static let mostCut = 0.1
  /// Share of a grid that a weight uses at least.
  private static let leastUsed = 1.0 / 16

  /// A warning where weights do not fit the ranges that the file gives them: it is of other weights then,
  /// before another training, equalization, or a factor that was folded into them.
  func weightsOffRange() -> Diagnostic? {
    var found: [(id: TensorID, reason: String)] = []
    for (id, index) in decided.sorted(by: { $0.key.index < $1.key.index }) {
      guard isWeight(id), graph[id].state == .given,
        let encoding = graph[id].encoding, let constant = graph[id].constant,
        file.entries.indices.contains(index)
      else { continue }
      if let reason = misfit(constant.floats(), encoding, graph[id].type.shape) { found.append((id, reason)) }
    }
    guard let first = found.first, let index = decided[first.id] else { return nil }
    let many = found.count == 1 ? "a weight does" : "\(found.count) weights do"
    let which = found.count == 1 ? "" : ", the first"
    return finding(
      "override-range",
      "\(many) not fit the range that the encodings file gives\(which): \(first.reason)",
      file.entries[index], tensor: first.id,
      hint: "was the file written for these weights? training, scaled channels and folded factors change ranges",
      severity: .warning)
  }

  private func isWeight(_ id: TensorID) -> Bool {
    (parameters[id] ?? []).contains { if case .weight = $0.role { true } else { false } }
  }

  /// What is wrong with a grid for some values, nil where it fits.
  private func misfit(_ values: [Float], _ encoding: Encoding, _ shape: [Int]) -> String? {
    var (total, cut, used) = (0.0, 0.0, 0.0)
    encoding.forEachChannelRun(shape: shape) { channel, start, count in
      let (low, high) = (encoding.minimum(channel: channel), encoding.maximum(channel: channel))
      let extent = max(-low, high)
      for index in start..<min(start + count, values.count) {
        let value = Double(values[index])
        let outside = value - min(max(value, low), high)
        total += value * value
        cut += outside * outside
        if extent > 0 { used = max(used, abs(value) / extent) }
      }
    }
    guard total > 0, total.isFinite else { return nil }
    if cut > Self.mostCut * total {
      return "clipping takes \(Int((100 * cut / total).rounded())) % of its energy"
    }
    return used < Self.leastUsed ? "it uses less than a sixteenth of the grid" : nil
  }
}
