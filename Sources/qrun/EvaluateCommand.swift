import ArgumentParser
import Container
import IR
import Operators
import Runtime
import Synchronization
import ToolKit

/// `qrun evaluate`: accuracy of classifiers side by side.
struct EvaluateCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate", abstract: "Measures the accuracy of classifiers.",
    discussion: "Of equal scores the lowest class wins. The first output holds the scores.")

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
    let classes = try LabelFile(path: labels, list: list).classes
    var results: [Evaluation] = []
    var graphs: [Graph] = []
    for path in containers {
      do throws(Diagnostic) {
        let graph = try session.phase("read") { () throws(Diagnostic) in
          try ContainerReader.read(path: path, registry: .standard).graph
        }
        graphs.append(graph)
        let best = try bestClasses(graph, list, keep: ranks.max() ?? 1, labels: classes, session)
        results.append(
          Evaluation(
            path, graph, best: best, labels: classes, ranks: ranks, first: results.first?.firsts))
      } catch {
        throw error.inFile(path)
      }
    }
    session.printer.report(engine.optionsWithoutEffect(graphs))
    if json {
      try session.printResult(EvaluationDocument(total: classes.count, containers: results))
    } else {
      try session.printResult(Evaluation.table(results, total: classes.count, ranks: ranks))
    }
    return .done
  }

  /// The best classes of every sample, best first.
  private func bestClasses(
    _ graph: Graph, _ list: InputList, keep: Int, labels: [Int], _ session: ToolSession
  ) throws(Diagnostic) -> [[Int]] {
    guard let output = graph.outputs.first else {
      throw Diagnostic("no-output", "the graph has no output")
    }
    let type = graph[output].type.logical
    guard type.shape.count(where: { $0 != 1 }) <= 1 else {
      throw Diagnostic(
        "scores-shape", "the output \(type) is no list of scores: more than one axis is not 1",
        at: Diagnostic.Location(tensor: graph[output].name),
        hint: "evaluate takes classifiers with one sample a batch")
    }
    if let wrong = labels.first(where: { $0 >= type.count }) {
      throw Diagnostic(
        "label-range", "class \(wrong) of \(self.labels) is outside the \(type.count) scores",
        at: Diagnostic.Location(tensor: graph[output].name))
    }
    let source = try SampleSource(list, inputs: SampleInput.inputs(of: graph))
    let plan = try session.phase("prepare") { () throws(Diagnostic) in
      try engine.prepare(graph)
    }
    let progress = session.progress("evaluating", total: source.count)
    defer { progress.finish() }
    let best = Mutex([[Int]](repeating: [], count: source.count))
    try session.phase("run") { () throws(Diagnostic) in
      _ = try runSamples(
        count: source.count, jobs: engine.workers(plan, work: source.count),
        makeState: { (_) throws(Diagnostic) in try plan.makeWorker() },
        body: { (worker: inout any PlanWorker, sample: Int) throws(Diagnostic) in
          let values = try worker.run(try source.load(sample))
          let scores = values.first.map { Constant(type: type, bytes: $0).floats() } ?? []
          let order = rankedClasses(scores, keep: keep)
          best.withLock { $0[sample] = order }
          progress.advance()
        })
    }
    return best.withLock { $0 }
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

  var container: String
  var top: [TopK]
  var parameter_bytes: Int
  /// Samples whose best class is that of the first container.
  var agreement: Int
  /// Best class of every sample; -1 where there is none.
  var firsts: [Int]

  private enum CodingKeys: String, CodingKey { case container, top, parameter_bytes, agreement }

  init(
    _ path: String, _ graph: Graph, best: [[Int]], labels: [Int], ranks: [Int], first: [Int]?
  ) {
    container = path
    top = ranks.map { k in
      TopK(k: k, correct: zip(best, labels).count { $0.prefix(k).contains($1) })
    }
    parameter_bytes = parameterBytes(graph)
    let firsts = best.map { $0.first ?? -1 }
    self.firsts = firsts
    agreement = zip(firsts, first ?? firsts).count { $0 == $1 }
  }

  /// All results in one table.
  static func table(_ results: [Evaluation], total: Int, ranks: [Int]) -> String {
    var table = TextTable(
      ["container"] + ranks.map { "top-\($0)" } + ["parameter bytes", "agrees with first"],
      alignment: [.left] + [TextTable.Alignment](repeating: .right, count: ranks.count + 2))
    for result in results {
      table.add(
        [result.container] + result.top.map { share($0.correct, of: total) } + [
          grouped(result.parameter_bytes), share(result.agreement, of: total),
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
