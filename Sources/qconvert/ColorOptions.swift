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
      "Colours of an input as it is fed, and as the model takes it (default: bgr): rgb, bgr, rgba, argb32, nv12, nv21.",
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
  /// A plane of luma, then one of chroma.
  private static let planar = ["nv12", "nv21"]

  static var names: [String] { (Array(channels.keys) + plain + planar).sorted() }

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

  /// Names of the inputs whose layout in the model decides what is done.
  var inputs: Set<String> { Set((ColorOptions.choices(words) ?? []).map(\.name)) }

  /// Puts the choice of channels, or the conversion of planes, behind each input. `layouts` are those of the model's inputs where they are not the
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
      let isPlanar = Self.planar.contains(choice.fed)
      guard let from = isPlanar ? "" : Self.channels[choice.fed], let to = Self.channels[choice.taken], to.count == 3
      else {
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
      if isPlanar {
        do throws(Diagnostic) {
          try Self.convertPlanes(choice, of: id, layout: layout, &graph)
        } catch {
          errors.append(error)
        }
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
  /// Lets an input be planes of luma and chroma, [N, 3 H W / 2], and converts them to the model's image.
  private static func convertPlanes(
    _ choice: Choice, of id: TensorID, layout: String, _ graph: inout Graph
  ) throws(Diagnostic) {
    let (name, type) = (graph[id].name, graph[id].type)
    guard let axes = TensorLayout.permutation(from: layout, to: "NHWC"), type.element == .float32 else {
      throw Diagnostic(
        "color-encoding", "\(type) in layout \(layout) is no float32 image that \(choice.fed) can become",
        at: .init(tensor: name), kind: .usage)
    }
    let image = axes.map { type.shape[$0] }
    let size = Array(image[1...2])
    guard size.allSatisfy({ $0 > 0 && $0 % 2 == 0 && $0 < 1 << 15 }) else {
      throw Diagnostic(
        "color-encoding", "an image of \(size[0]) x \(size[1]) cannot be \(choice.fed): sizes must be even",
        at: .init(tensor: name), kind: .usage)
    }
    let isReversed = choice.taken == "bgr"
    let inner = graph.add(Tensor(name: graph.uniqueName("\(name)_colors"), type: type))
    let outputs = graph.outputs
    graph.replaceUses(of: id, with: inner)
    graph.outputs = outputs
    graph[id].type.shape = [image[0], size[0] * size[1] / 2 * 3]
    var nodes: [Node] = []
    let isTurned = axes != Array(axes.indices)
    let pixels =
      isTurned
      ? graph.add(
        Tensor(name: graph.uniqueName("\(name)_pixels"), type: TensorType(.float32, image))) : inner
    let op: any Operator =
      choice.fed == "nv12"
      ? Nv12ToRgb(size: size, isReversed: isReversed) : Nv21ToRgb(size: size, isReversed: isReversed)
    nodes.append(Node(name: graph[pixels].name, op: op, inputs: [id], outputs: [pixels]))
    if isTurned {
      nodes.append(
        Node(
          name: graph[inner].name, op: Transpose(perm: inversePermutation(axes)), inputs: [pixels], outputs: [inner]))
    }
    graph.nodes.insert(contentsOf: nodes, at: 0)
  }
}
