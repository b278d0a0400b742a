import ArgumentParser
import Container
import Glibc
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
  @Option(
    help: ArgumentHelp(
      "What to measure, by commas: latency, profile, throughput (default: all).", valueName: "parts"))
  var measure: String?
  @Flag(help: "Tell of every step which kernel was chosen and why not another.")
  var explain = false
  @Flag(help: "Print the result as JSON.")
  var json = false
  @OptionGroup var engine: RunOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if !(1...BenchCommand.mostRuns).contains(runs) {
      throw ValidationError("--runs must be 1 to \(BenchCommand.mostRuns), not \(runs)")
    }
    _ = try parts()
  }

  /// Every run keeps its time.
  private static let mostRuns = 10_000_000

  private enum Part: String, CaseIterable { case latency, profile, throughput }

  /// The parts that `--measure` asks for.
  private func parts() throws -> Set<Part> {
    guard let measure else { return Set(Part.allCases) }
    var result = Set<Part>()
    for name in measure.split(separator: ",", omittingEmptySubsequences: false) {
      guard let part = Part(rawValue: String(name)) else {
        let known = Part.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("--measure knows \(known), not '\(name)'")
      }
      result.insert(part)
    }
    return result
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let graph = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: container.path, registry: .standard).graph
    }
    session.printer.report(engine.optionsWithoutEffect([graph]))
    let samples = try loadSamples(graph, session)
    let plan = try session.phase("prepare") { () throws(Diagnostic) in
      try engine.prepare(graph)
    }
    session.printer.report([engine.backend.note(plan)].compactMap { $0 })
    let parts = (try? parts()) ?? []
    var result = BenchDocument(
      container: container.path, backend: engine.chosen.description, runs: runs, plan: plan)
    if parts.contains(.latency) {
      let times = try session.phase("latency") { () throws(Diagnostic) in try latency(plan, samples) }
      result.latency_ms = BenchDocument.Latency(times.wall)
      result.latency_cpu_ms = BenchDocument.Latency(times.processor)
    }
    if parts.contains(.profile) {
      let times = try session.phase("profile") { () throws(Diagnostic) in try profile(plan, samples) }
      result.setProfile(times)
    }
    if parts.contains(.throughput) {
      let jobs = engine.workers(plan)
      result.jobs = jobs
      result.samples_per_second = try session.phase("throughput") { () throws(Diagnostic) in
        try throughput(plan, samples, jobs: jobs)
      }
    }
    if json {
      try session.printResult(result)
    } else {
      try session.printResult(result.text(explain: explain))
    }
    return .done
  }

  /// The first samples of the list, or one made-up sample.
  private func loadSamples(_ graph: Graph, _ session: ToolSession) throws(Diagnostic) -> [[Bytes]] {
    if let inputList {
      let list = try InputList(path: inputList)
      session.printer.report(list.idleOutputLines)
      let source = try SampleSource(list, inputs: SampleInput.inputs(of: graph))
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

  /// Milliseconds of every run on one thread, sorted, after a few that do not count: by the clock, and
  /// of the processor, which other work on the machine does not lengthen as much.
  private func latency(
    _ plan: any Plan, _ samples: [[Bytes]]
  ) throws(Diagnostic) -> (wall: [Double], processor: [Double]) {
    let worker = try plan.makeWorker()
    for round in 0..<min(10, runs) { _ = try worker.run(samples[round % samples.count]) }
    var (wall, processor): ([Double], [Double]) = ([], [])
    for round in 0..<runs {
      let (start, used) = (ContinuousClock.now, processorMilliseconds())
      _ = try worker.run(samples[round % samples.count])
      processor.append(processorMilliseconds() - used)
      wall.append(seconds(ContinuousClock.now - start) * 1000)
    }
    return (wall.sorted(), processor.sorted())
  }

  /// Milliseconds that this thread has computed.
  private func processorMilliseconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) * 1e3 + Double(time.tv_nsec) / 1e6
  }

  /// Milliseconds that each step takes, the median of some runs.
  private func profile(_ plan: any Plan, _ samples: [[Bytes]]) throws(Diagnostic) -> [Double] {
    let worker = try plan.makeWorker()
    for round in 0..<min(10, runs) { _ = try worker.run(samples[round % samples.count]) }
    worker.measuresSteps = true
    var rounds = plan.steps.map { _ in [UInt64]() }
    var before = worker.stepNanoseconds
    for round in 0..<min(runs, 50) {
      _ = try worker.run(samples[round % samples.count])
      let after = worker.stepNanoseconds
      for step in rounds.indices { rounds[step].append(after[step] - before[step]) }
      before = after
    }
    return rounds.map { times in Double(times.sorted()[times.count / 2]) / 1e6 }
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
