import ArgumentParser
import IR
import Operators
import ToolKit

/// Order of the colours in images that are fed to the network.
struct ColorOptions: ParsableArguments {
  @Option(
    name: [.customShort("e"), .customLong("desired_input_color_encoding"), .customLong("input_color_encoding")],
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Colours of an input as it is fed (rgb, bgr, rgba, argb32), and as the model takes it (default: bgr); repeatable.",
      valueName: "name in [out]"))
  var words: [String] = []

  /// What is said of one input.
  struct Choice: Hashable {
    var name: String
    var fed: String
    var taken: String
  }

  /// Channels of an encoding in their order, by letter; `a` is left out. argb32 as little-endian machines have it.
  private static let channels = ["rgb": "rgb", "bgr": "bgr", "rgba": "rgba", "argb32": "bgra"]
  /// What leaves an input as it is.
  private static let plain = ["time_series", "other"]
  private static let unsupported = ["nv12", "nv21"]

  static var names: [String] { (Array(channels.keys) + plain + unsupported).sorted() }

  /// The choices that the words make; nil where they do not.
  static func choices(_ words: [String]) -> [Choice]? {
    var result: [Choice] = []
    var rest = words[...]
    while let name = rest.popFirst() {
      guard let fed = rest.popFirst(), names.contains(fed) else { return nil }
      var taken = "bgr"
      if let next = rest.first, names.contains(next) {
        taken = next
        rest = rest.dropFirst()
      }
      result.append(Choice(name: name, fed: fed, taken: taken))
    }
    return result
  }

  func validate() throws {
    guard let choices = ColorOptions.choices(words) else {
      throw ValidationError(
        "--desired_input_color_encoding takes a name and one or two of \(ColorOptions.names.joined(separator: ", ")), "
          + "not '\(words.joined(separator: " "))'")
    }
    if Set(choices.map(\.name)).count < choices.count {
      throw ValidationError("--desired_input_color_encoding names an input twice")
    }
  }

  /// What is recorded in the container.
  var effective: [String: String] {
    let list = (ColorOptions.choices(words) ?? []).map { "\($0.name)=\($0.fed):\($0.taken)" }
    return ["desired_input_color_encoding": EffectiveOptions.list(list.sorted())]
  }

  /// Puts the choice of channels behind each input. `layouts` are those of the model's inputs where they are not the
  /// usual ones.
  func apply(to graph: inout Graph, layouts: [String: String], _ session: ToolSession) throws(Diagnostic) {
    var errors: [Diagnostic] = []
    for choice in ColorOptions.choices(words) ?? [] {
      guard let id = graph.inputs.first(where: { graph[$0].name == choice.name }) else {
        let near = TensorSelection.nearest(to: choice.name, in: graph.inputs.map { graph[$0].name })
        errors.append(
          Diagnostic(
            "unknown-tensor", "the model has no input \(choice.name)",
            hint: "the nearest names are: \(near.joined(separator: ", "))", kind: .usage))
        continue
      }
      if Self.plain.contains(choice.fed) || choice.fed == choice.taken {
        session.printer.report(
          Diagnostic(
            "option-without-effect",
            "--desired_input_color_encoding \(choice.fed) leaves input \(choice.name) as it is",
            severity: .warning))
        continue
      }
      let type = graph[id].type
      let layout = layouts[choice.name] ?? TensorLayout.modelLayout(rank: type.rank)
      guard let from = Self.channels[choice.fed], let to = Self.channels[choice.taken], to.count == 3 else {
        errors.append(
          Diagnostic(
            "color-encoding", "\(choice.fed) cannot become \(choice.taken)", at: .init(tensor: choice.name),
            hint: "convert such images to rgb before they are fed", kind: .usage))
        continue
      }
      guard let axis = Array(layout).firstIndex(of: "C"), type.rank == 4, type.shape[axis] == 3 else {
        errors.append(
          Diagnostic(
            "color-encoding", "\(type) is no image of three channels in layout \(layout)",
            at: .init(tensor: choice.name), hint: "say what the model's is by --source_model_input_layout", kind: .usage
          ))
        continue
      }
      let places = to.compactMap { letter in Array(from).firstIndex(of: letter).map { Int64($0) } }
      Self.choose(places, of: id, axis: axis, count: from.count, &graph)
    }
    if let failure = Diagnostic.combining(errors) { throw failure }
  }

  /// Lets an input have `count` channels, of which the model takes those at `places`.
  private static func choose(_ places: [Int64], of id: TensorID, axis: Int, count: Int, _ graph: inout Graph) {
    let name = graph[id].name
    let inner = graph.add(Tensor(name: graph.uniqueName("\(name)_colors"), type: graph[id].type))
    let order = Constant(places, shape: [places.count])
    let index = graph.add(
      Tensor(name: graph.uniqueName("\(name)_channels"), type: order.type, constant: order))
    let outputs = graph.outputs
    graph.replaceUses(of: id, with: inner)
    graph.outputs = outputs
    graph[id].type.shape[axis] = count
    graph.nodes.insert(
      Node(name: graph[inner].name, op: Gather(axis: axis), inputs: [id, index], outputs: [inner]), at: 0)
  }
}
