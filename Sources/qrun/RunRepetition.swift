import ArgumentParser
import IR
import Runtime
import ToolKit

/// What `qrun execute` tells of its times.
enum ProfilingLevel: String, ExpressibleByArgument, CaseIterable, Sendable { case basic, detailed }

/// How often samples run, and what is told of it. Results are written by the first run of each sample only:
/// the others give the same.
struct RepetitionOptions: ParsableArguments {
  @Option(
    name: .customLong("num_inferences"),
    help: ArgumentHelp(
      "Runs in all: the list again and again, or its first samples only (default: every sample once).",
      valueName: "n"))
  var inferences: Int?
  @Option(
    help: ArgumentHelp("Run the list again and again for this time, once at least.", valueName: "seconds"))
  var duration: Double?
  @Option(
    name: .customLong("profiling_level"),
    help: "Print the times of the runs, and with detailed those of every operator.")
  var profiling: ProfilingLevel?

  func validate() throws {
    if inferences != nil, duration != nil {
      throw ValidationError("--num_inferences and --duration exclude each other")
    }
    if let inferences, !(1...1_000_000_000).contains(inferences) {
      throw ValidationError("--num_inferences must be 1 to 1000000000, not \(inferences)")
    }
    if let duration, !(duration > 0 && duration <= 1e6) {
      throw ValidationError("--duration must be more than 0 and at most 1000000 seconds, not \(duration)")
    }
  }

  /// Most runs of a list of `count` samples.
  func runs(of count: Int) -> Int { inferences ?? (duration == nil ? count : .max) }

  /// What `--dry_run` adds about the runs of a list of `count` samples.
  func preview(of count: Int) -> String {
    if let duration { return ", runs for \(fixed(duration, digits: 1)) s" }
    guard let inferences, inferences != count else { return "" }
    return ", \(counted(inferences, "run"))"
      + (inferences < count ? ": results of the first \(counted(inferences, "sample"))" : "")
  }
}

/// A worker that notes the time of every run; confined to one thread.
struct TimedWorker {
  private let worker: any PlanWorker
  private let isTimed: Bool
  private(set) var runs = 0
  private var milliseconds = ThinnedTimes()

  /// A worker of a plan that measures what a level asks for.
  init(_ plan: any Plan, _ level: ProfilingLevel?) throws(Diagnostic) {
    worker = try plan.makeWorker()
    worker.measuresSteps = level == .detailed
    isTimed = level != nil
  }

  /// Runs the graph once.
  mutating func run(
    _ inputs: [Bytes], tap: ((TensorID, TensorView) throws(Diagnostic) -> Void)?
  ) throws(Diagnostic) -> [Bytes] {
    runs += 1
    guard isTimed else { return try worker.run(inputs, tap: tap) }
    let start = ContinuousClock.now
    let values = try worker.run(inputs, tap: tap)
    milliseconds.add(seconds(ContinuousClock.now - start) * 1000)
    return values
  }

  /// The times of all workers as text.
  static func profile(
    _ workers: [TimedWorker], _ plan: any Plan, _ level: ProfilingLevel, container: String, backend: String,
    seconds: Double
  ) -> String {
    let times = workers.flatMap(\.milliseconds.times).sorted()
    let runs = workers.reduce(0) { $0 + $1.runs }
    var document = BenchDocument(container: container, backend: backend, runs: runs, plan: plan)
    if !times.isEmpty { document.latency_ms = BenchDocument.Latency(times) }
    document.jobs = workers.count
    document.samples_per_second = Double(runs) / max(seconds, 1e-9)
    if level == .detailed {
      var sums = plan.steps.map { _ in 0.0 }
      for worker in workers {
        for (step, time) in worker.worker.stepNanoseconds.enumerated() { sums[step] += Double(time) / 1e6 }
      }
      document.setProfile(sums.map { $0 / Double(max(runs, 1)) })
    } else {
      document.steps = []
    }
    return document.text(explain: false)
  }
}
