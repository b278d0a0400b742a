import Runtime
import ToolKit

/// What `qrun bench` measured.
struct BenchDocument: JSONDocument {
  struct Latency: Encodable {
    var min: Double
    var median: Double
    var max: Double
  }

  struct Step: Encodable {
    var node: String
    var operator_name: String
    var fused: [String]
    var kernel: String
    var refusals: [String]
    var is_dequantized: Bool
    var macs: Int
    var milliseconds: Double

    init(_ report: StepReport, milliseconds: Double) {
      node = report.node
      operator_name = report.operatorName
      fused = report.fused
      kernel = report.kernel
      refusals = report.refusals
      is_dequantized = report.isDequantized
      macs = report.macs
      self.milliseconds = milliseconds
    }
  }

  let version = 1
  var container: String
  var backend: String
  var runs: Int
  var latency_ms: Latency
  var jobs: Int
  var samples_per_second: Double
  var arena_bytes: Int
  var constant_bytes: Int
  var steps: [Step]

  /// From sorted latencies in milliseconds.
  init(
    container: String, backend: String, runs: Int, latencies: [Double], jobs: Int, rate: Double,
    arenaBytes: Int, constantBytes: Int, steps: [Step]
  ) {
    self.container = container
    self.backend = backend
    self.runs = runs
    let middle = latencies.count / 2
    let median =
      latencies.count % 2 == 1
      ? latencies[middle] : (latencies[max(middle - 1, 0)] + latencies[middle]) / 2
    latency_ms = Latency(
      min: latencies.first ?? 0, median: median, max: latencies.last ?? 0)
    self.jobs = jobs
    samples_per_second = rate
    arena_bytes = arenaBytes
    constant_bytes = constantBytes
    self.steps = steps
  }

  /// The result for people; `explain` adds the reasons behind every kernel.
  func text(explain: Bool) -> String {
    let total = steps.reduce(0) { $0 + $1.milliseconds }
    var table = TextTable(
      ["step", "operator", "kernel", "ms", "%", "GMAC/s"],
      alignment: [.left, .left, .left, .right, .right, .right])
    for step in steps {
      let speed = step.milliseconds > 0 ? Double(step.macs) / step.milliseconds / 1e6 : 0
      let others = step.fused.filter { $0 != step.node }
      table.add([
        ([step.node] + others).joined(separator: " + "), step.operator_name,
        step.is_dequantized ? "dequantized: \(step.kernel)" : step.kernel,
        fixed(step.milliseconds, digits: 4),
        fixed(total > 0 ? 100 * step.milliseconds / total : 0, digits: 1),
        step.macs > 0 ? fixed(speed, digits: 2) : "",
      ])
      if explain {
        for reason in step.refusals { table.add(["  not taken: \(reason)"]) }
      }
    }
    return """
      container   \(container)
      backend     \(backend)
      latency     min \(fixed(latency_ms.min, digits: 3)) ms, median \
      \(fixed(latency_ms.median, digits: 3)) ms, max \(fixed(latency_ms.max, digits: 3)) ms \
      (\(runs) runs, one thread)
      throughput  \(fixed(samples_per_second, digits: 1)) samples/s (\(jobs) \
      \(jobs == 1 ? "worker" : "workers"))
      memory      \(byteText(arena_bytes)) a worker, \(byteText(constant_bytes)) shared

      \(table.text)
      """
  }
}
