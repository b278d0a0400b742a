import ArgumentParser
import Container
import IR
import Operators
import Runtime
import ToolKit

/// `qrun bench`: latency, throughput and where the time goes.
struct BenchCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measures latency, throughput and the time of every operator.")

  @OptionGroup var container: ContainerArgument
  @Option(
    name: [.customShort("l"), .customLong("input_list")],
    help: ArgumentHelp("Samples to run (default: made-up values).", valueName: "list.txt"))
  var inputList: String?
  @Option(help: ArgumentHelp("Measured runs.", valueName: "n"))
  var runs = 100
  @Flag(help: "Tell of every step which kernel was chosen and why not another.")
  var explain = false
  @Flag(help: "Print the result as JSON.")
  var json = false
  @OptionGroup var engine: RunOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if runs < 1 { throw ValidationError("--runs must be at least 1, not \(runs)") }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let graph = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: container.path, registry: .standard).graph
    }
    session.printer.report(engine.optionsWithoutEffect([graph]))
    let samples = try loadSamples(graph)
    let plan = try session.phase("prepare") { () throws(Diagnostic) in
      try engine.prepare(graph)
    }
    session.printer.report([engine.backend.note(plan)].compactMap { $0 })
    let latencies = try session.phase("latency") { () throws(Diagnostic) in
      try latency(plan, samples)
    }
    let steps = try session.phase("profile") { () throws(Diagnostic) in
      try profile(plan, samples)
    }
    let jobs = engine.workers(plan)
    let rate = try session.phase("throughput") { () throws(Diagnostic) in
      try throughput(plan, samples, jobs: jobs)
    }
    let result = BenchDocument(
      container: container.path, backend: engine.chosen.description, runs: runs,
      latencies: latencies, jobs: jobs, rate: rate, arenaBytes: plan.arenaBytes,
      constantBytes: plan.constantBytes,
      steps: zip(plan.steps, steps).map { BenchDocument.Step($0, milliseconds: $1) })
    if json {
      try session.printResult(result)
    } else {
      try session.printResult(result.text(explain: explain))
    }
    return .done
  }

  /// The first samples of the list, or one made-up sample.
  private func loadSamples(_ graph: Graph) throws(Diagnostic) -> [[Bytes]] {
    if let inputList {
      let source = try SampleSource(
        try InputList(path: inputList), inputs: SampleInput.inputs(of: graph))
      var samples: [[Bytes]] = []
      for index in 0..<min(source.count, 16) { samples.append(try source.load(index)) }
      return samples
    }
    return [
      graph.inputs.map { id in
        let type = graph[id].type.logical
        guard type.element == .float32 else { return Bytes(count: type.byteCount) { _ in } }
        // A slow wave: neither constant nor denormal anywhere.
        return Bytes((0..<type.count).map { Float($0 % 251) / 251 })
      }
    ]
  }

  /// Milliseconds of every run on one thread, after a few that do not count.
  private func latency(_ plan: any Plan, _ samples: [[Bytes]]) throws(Diagnostic) -> [Double] {
    let worker = try plan.makeWorker()
    for round in 0..<min(10, runs) { _ = try worker.run(samples[round % samples.count]) }
    var times: [Double] = []
    for round in 0..<runs {
      let start = ContinuousClock.now
      _ = try worker.run(samples[round % samples.count])
      times.append(seconds(ContinuousClock.now - start) * 1000)
    }
    return times.sorted()
  }

  /// Milliseconds a run spends in each step.
  private func profile(_ plan: any Plan, _ samples: [[Bytes]]) throws(Diagnostic) -> [Double] {
    let worker = try plan.makeWorker()
    let rounds = min(runs, 50)
    _ = try worker.run(samples[0])
    worker.measuresSteps = true
    for round in 0..<rounds { _ = try worker.run(samples[round % samples.count]) }
    return worker.stepNanoseconds.map { Double($0) / 1e6 / Double(rounds) }
  }

  /// Samples a second with all workers busy.
  private func throughput(
    _ plan: any Plan, _ samples: [[Bytes]], jobs: Int
  ) throws(Diagnostic) -> Double {
    let count = max(runs, jobs) * jobs
    let start = ContinuousClock.now
    _ = try runSamples(
      count: count, jobs: jobs,
      makeState: { (_) throws(Diagnostic) in try plan.makeWorker() },
      body: { (worker: inout any PlanWorker, sample: Int) throws(Diagnostic) in
        _ = try worker.run(samples[sample % samples.count])
      })
    return Double(count) / seconds(ContinuousClock.now - start)
  }
}
