import Runtime
import ToolKit

/// What `qrun bench` measured.
struct BenchDocument: JSONDocument {
  struct Latency: Encodable {
    var min: Double
    var median: Double
    var max: Double

    /// From sorted times, at least one.
    init(_ times: [Double]) {
      let middle = times.count / 2
      min = times[0]
      median = times.count % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2
      max = times[times.count - 1]
    }

    var text: String {
      "min \(fixed(min, digits: 3)) ms, median \(fixed(median, digits: 3)) ms, max \(fixed(max, digits: 3)) ms"
    }
  }

  struct Step: Encodable {
    var node: String
    var operator_name: String
    var fused: [String]
    var kernel: String
    var refusals: [String]
    var is_dequantized: Bool
    var macs: Int
    var milliseconds: Double?

    init(_ report: StepReport) {
      node = report.node
      operator_name = report.operatorName
      fused = report.fused
      kernel = report.kernel
      refusals = report.refusals
      is_dequantized = report.isDequantized
      macs = report.macs
    }
  }

  let version = 1
  var container: String
  var backend: String
  var runs: Int
  /// Time of a run on one thread by the clock; as all that follows, nil where it was not asked for.
  var latency_ms: Latency?
  /// Time of a run that the thread computed.
  var latency_cpu_ms: Latency?
  var jobs: Int?
  var samples_per_second: Double?
  var arena_bytes: Int
  var constant_bytes: Int
  var steps: [Step]

  /// What is known before anything is measured.
  init(container: String, backend: String, runs: Int, plan: any Plan) {
    self.container = container
    self.backend = backend
    self.runs = runs
    arena_bytes = plan.arenaBytes
    constant_bytes = plan.constantBytes
    steps = plan.steps.map { Step($0) }
  }

  /// Gives every step its time.
  mutating func setProfile(_ milliseconds: [Double]) {
    for index in steps.indices { steps[index].milliseconds = milliseconds[index] }
  }

  /// The result for people; `explain` adds the reasons behind every kernel.
  func text(explain: Bool) -> String {
    var lines = ["container   \(container)", "backend     \(backend)"]
    if let latency_ms { lines.append("latency     \(latency_ms.text) (\(runs) runs, one thread)") }
    if let latency_cpu_ms { lines.append("  computed  \(latency_cpu_ms.text)") }
    if let samples_per_second, let jobs {
      lines.append(
        "throughput  \(fixed(samples_per_second, digits: 1)) samples/s (\(jobs) \(jobs == 1 ? "worker" : "workers"))")
    }
    lines.append("memory      \(byteText(arena_bytes)) a worker, \(byteText(constant_bytes)) shared")
    if steps.contains(where: { $0.milliseconds != nil }) { lines += ["", operatorTable.text] }
    if !steps.isEmpty { lines += ["", stepTable.text] }
    if explain, steps.contains(where: { !$0.refusals.isEmpty }) { lines += ["", reasonTable.text] }
    return lines.joined(separator: "\n")
  }

  /// The time of each kind of operator, longest first.
  private var operatorTable: TextTable {
    var sums: [String: (count: Int, milliseconds: Double)] = [:]
    for step in steps {
      let name = step.kernel == "reference" ? "\(step.operator_name), reference" : step.operator_name
      sums[name, default: (0, 0)].count += 1
      sums[name, default: (0, 0)].milliseconds += step.milliseconds ?? 0
    }
    let total = sums.values.reduce(0) { $0 + $1.milliseconds }
    var table = TextTable(["operator", "steps", "ms", "%"], alignment: [.left, .right, .right, .right])
    for (name, sum) in sums.sorted(by: { ($1.value.milliseconds, $0.key) < ($0.value.milliseconds, $1.key) }) {
      table.add([name, "\(sum.count)", fixed(sum.milliseconds, digits: 4), percent(sum.milliseconds, total)])
    }
    return table
  }

  private var stepTable: TextTable {
    let total = steps.reduce(0) { $0 + ($1.milliseconds ?? 0) }
    var table = TextTable(
      ["step", "operator", "kernel", "ms", "%", "GMAC/s"],
      alignment: [.left, .left, .left, .right, .right, .right])
    for step in steps {
      let time = step.milliseconds ?? 0
      let others = step.fused.filter { $0 != step.node }
      table.add([
        ([step.node] + others).joined(separator: " + "), step.operator_name,
        step.is_dequantized ? "dequantized: \(step.kernel)" : step.kernel,
        step.milliseconds.map { fixed($0, digits: 4) } ?? "", step.milliseconds == nil ? "" : percent(time, total),
        step.macs > 0 && time > 0 ? fixed(Double(step.macs) / time / 1e6, digits: 2) : "",
      ])
    }
    return table
  }

  /// Why a kernel that comes earlier, or a fusion, was not taken.
  private var reasonTable: TextTable {
    var table = TextTable(["step", "not taken"])
    for step in steps {
      for reason in step.refusals { table.add([step.node, reason]) }
    }
    return table
  }

  private func percent(_ part: Double, _ whole: Double) -> String {
    fixed(whole > 0 ? 100 * part / whole : 0, digits: 1)
  }
}
