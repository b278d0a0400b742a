import ArgumentParser
import Container
import IR
import Measurement
import Operators
import Runtime
import ToolKit

/// `qrun evaluate`: accuracy of classifiers side by side.
struct EvaluateCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate", abstract: "Measures the accuracy of classifiers.",
    discussion: """
      Of equal scores the lowest class wins. The first output holds the scores; their signal-to-noise ratio (before \
      a Softmax at the end) is against those of the first container.
      """)

  @Argument(help: "The containers; the first is what the others are compared with.")
  var containers: [String]
  @Option(
    name: [.customShort("l"), .customLong("input_list")],
    help: ArgumentHelp("List of samples.", valueName: "list.txt"))
  var inputList: String
  @Option(
    help: ArgumentHelp("The right classes: one index a line, or file and index.", valueName: "file"))
  var labels: String
  @Option(
    name: .customLong("top_k"),
    help: ArgumentHelp("How many best classes count.", valueName: "1,5"))
  var topK = "1,5"
  @Flag(help: "Print the result as JSON.")
  var json = false
  @OptionGroup var engine: RunOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    let parts = topK.split(separator: ",", omittingEmptySubsequences: false)
    if !parts.allSatisfy({ (Int($0) ?? 0) >= 1 }) {
      throw ValidationError("--top_k takes numbers from 1 on, not '\(topK)'")
    }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let ranks = topK.split(separator: ",").compactMap { Int($0) }
    let list = try InputList(path: inputList)
    session.printer.report(list.idleOutputLines)
    let classes = try LabelFile(path: labels, list: list).classes
    var classifiers: [Classifier] = []
    for path in containers {
      do throws(Diagnostic) {
        let graph = try session.phase("read") { () throws(Diagnostic) in
          try ContainerReader.read(path: path, registry: .standard).graph
        }
        let source = try SampleSource(list, inputs: SampleInput.inputs(of: graph))
        let made = try session.phase("prepare") { () throws(Diagnostic) in
          try Classifier(path: path, graph: graph, source: source, engine: engine)
        }
        try made.check(classes, labels: labels, like: classifiers.first)
        classifiers.append(made)
      } catch {
        throw error.inFile(path)
      }
    }
    session.printer.report(engine.optionsWithoutEffect(classifiers.map(\.graph)))
    session.printer.report(classifiers.compactMap { engine.backend.note($0.plan) })
    let results = try session.phase("run") { () throws(Diagnostic) in
      try evaluate(classifiers, classes, ranks, session)
    }
    if json {
      try session.printResult(EvaluationDocument(total: classes.count, containers: results))
    } else {
      try session.printResult(Evaluation.table(results, total: classes.count, ranks: ranks))
    }
    return .done
  }

  /// Runs every sample through all containers, so that what is compared with the first is there and nothing
  /// is kept.
  private func evaluate(
    _ classifiers: [Classifier], _ classes: [Int], _ ranks: [Int], _ session: ToolSession
  ) throws(Diagnostic) -> [Evaluation] {
    let progress = session.progress("evaluating", total: classes.count * classifiers.count, unit: "runs")
    defer { progress.finish() }
    let arena = classifiers.reduce(0) { $0 + $1.plan.arenaBytes }
    let states = try runSamples(
      count: classes.count,
      jobs: Jobs.resolve(requested: engine.jobs.jobs, arenaBytes: arena, work: classes.count),
      makeState: { (_) throws(Diagnostic) -> EvaluationState in try EvaluationState(classifiers, ranks) },
      body: { (state: inout EvaluationState, sample: Int) throws(Diagnostic) in
        try state.run(classifiers, sample, label: classes[sample], ranks, progress)
      })
    return classifiers.indices.map { place in
      var counts = Evaluation.Counts(ranks: ranks)
      for state in states { counts.merge(state.counts[place]) }
      return Evaluation(classifiers[place], counts, ranks: ranks, isFirst: place == 0)
    }
  }
}

/// A container ready to classify.
struct Classifier: Sendable {
  let path: String
  let graph: Graph
  let source: SampleSource
  let plan: any Plan
  /// Type of the scores, and what equalization multiplied them by.
  let type: TensorType
  let scales: [Float]?

  /// Prepares a container; throws where the first output is no list of scores.
  init(path: String, graph given: Graph, source: SampleSource, engine: RunOptions) throws(Diagnostic) {
    guard let output = given.outputs.first, let logits = given.scoreOutputs().first else {
      throw Diagnostic("no-output", "the graph has no output")
    }
    // The answer is the output's; its noise is measured before a Softmax.
    var graph = given
    graph.outputs = [output, logits]
    (self.path, self.graph, self.source) = (path, given, source)
    plan = try engine.prepare(graph)
    type = graph[output].type.logical
    scales = graph.channelScales[graph[logits].name]
    guard type.shape.count(where: { $0 != 1 }) <= 1 else {
      throw Diagnostic(
        "scores-shape", "the output \(type) is no list of scores: more than one axis is not 1",
        at: Diagnostic.Location(tensor: graph[output].name),
        hint: "evaluate takes classifiers with one sample a batch")
    }
  }

  /// Throws where a label is no class, or where the first container has other classes.
  func check(_ classes: [Int], labels: String, like first: Classifier?) throws(Diagnostic) {
    let name = graph.outputs.first.map { graph[$0].name }
    if let wrong = classes.first(where: { $0 >= type.count }) {
      throw Diagnostic(
        "label-range", "class \(wrong) of \(labels) is outside the \(type.count) scores",
        at: Diagnostic.Location(tensor: name))
    }
    if let first, first.type.count != type.count {
      throw Diagnostic(
        "scores-shape", "there are \(type.count) scores, \(first.path) has \(first.type.count)",
        at: Diagnostic.Location(tensor: name), hint: "containers side by side must have the same classes")
    }
  }

  /// The scores of a sample, and the same before a Softmax.
  func scores(
    _ sample: Int, on worker: any PlanWorker
  ) throws(Diagnostic) -> (scores: [Float], logits: [Float]) {
    let outputs = try worker.run(try source.load(sample))
    let scores = Constant(type: type, bytes: outputs[0]).floats()
    var logits = Constant(type: type, bytes: outputs[1]).floats()
    if let scales, !scales.isEmpty {
      for index in logits.indices { logits[index] /= scales[index % scales.count] }
    }
    return (scores, logits)
  }
}

/// Executors and counts of one thread, a row a container.
private struct EvaluationState {
  private let workers: [any PlanWorker]
  var counts: [Evaluation.Counts]

  init(_ classifiers: [Classifier], _ ranks: [Int]) throws(Diagnostic) {
    var workers: [any PlanWorker] = []
    for classifier in classifiers { workers.append(try classifier.plan.makeWorker()) }
    self.workers = workers
    counts = classifiers.map { _ in Evaluation.Counts(ranks: ranks) }
  }

  mutating func run(
    _ classifiers: [Classifier], _ sample: Int, label: Int, _ ranks: [Int], _ progress: Progress
  ) throws(Diagnostic) {
    var first: (logits: [Float], best: Int?) = ([], nil)
    for (place, classifier) in classifiers.enumerated() {
      let (scores, logits): ([Float], [Float])
      do throws(Diagnostic) {
        (scores, logits) = try classifier.scores(sample, on: workers[place])
      } catch {
        throw error.inFile(classifier.path)
      }
      let order = rankedClasses(scores, keep: ranks.max() ?? 1)
      if place == 0 { first = (logits, order.first) }
      for (row, k) in ranks.enumerated() where order.prefix(k).contains(label) {
        counts[place].correct[row] += 1
      }
      if order.first == first.best { counts[place].agreement += 1 }
      counts[place].errors.add(reference: first.logits, other: logits)
      progress.advance()
    }
  }
}

/// Indices of the highest scores, highest first; of equal scores the lowest index, NaN never.
func rankedClasses(_ scores: [Float], keep: Int) -> [Int] {
  var best: [Int] = []
  for (index, score) in scores.enumerated() where !score.isNaN {
    if best.count == keep, let last = best.last, scores[last] >= score { continue }
    let place = best.firstIndex { scores[$0] < score } ?? best.count
    best.insert(index, at: place)
    if best.count > keep { best.removeLast() }
  }
  return best
}

/// The result of one container.
struct Evaluation: Encodable {
  struct TopK: Encodable {
    var k: Int
    var correct: Int
  }

  /// What is counted while samples run; the same for every order of them.
  struct Counts {
    /// Right answers for each k.
    var correct: [Int]
    var agreement = 0
    var errors = OutputErrors()

    init(ranks: [Int]) { correct = ranks.map { _ in 0 } }

    mutating func merge(_ other: Counts) {
      for row in correct.indices { correct[row] += other.correct[row] }
      agreement += other.agreement
      errors.merge(other.errors)
    }
  }

  var container: String
  var top: [TopK]
  var parameter_bytes: Int
  /// Samples whose best class is that of the first container.
  var agreement: Int
  /// Signal to noise of the scores in dB, those of the first container being the signal; nil for it.
  var sqnr_db: Double?

  init(_ classifier: Classifier, _ counts: Counts, ranks: [Int], isFirst: Bool) {
    container = classifier.path
    top = zip(ranks, counts.correct).map { TopK(k: $0, correct: $1) }
    parameter_bytes = parameterBytes(classifier.graph)
    agreement = counts.agreement
    sqnr_db = isFirst ? nil : counts.errors.errors?.sqnr
  }

  /// All results in one table.
  static func table(_ results: [Evaluation], total: Int, ranks: [Int]) -> String {
    var table = TextTable(
      ["container"] + ranks.map { "top-\($0)" } + ["parameter bytes", "agrees with first", "scores dB"],
      alignment: [.left] + [TextTable.Alignment](repeating: .right, count: ranks.count + 3))
    for result in results {
      table.add(
        [result.container] + result.top.map { share($0.correct, of: total) } + [
          grouped(result.parameter_bytes), share(result.agreement, of: total),
          result.sqnr_db.map { $0 == .infinity ? "exact" : fixed($0, digits: 2) } ?? "",
        ])
    }
    return table.text
  }

  private static func share(_ part: Int, of total: Int) -> String {
    "\(part)/\(total) (\(fixed(100 * Double(part) / Double(max(total, 1)), digits: 2)) %)"
  }
}

/// Results of all containers as JSON.
struct EvaluationDocument: JSONDocument {
  let version = 1
  var total: Int
  var containers: [Evaluation]
}
