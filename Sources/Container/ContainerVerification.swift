import IR

extension ContainerReader {
  /// All that is wrong with a container: what ``read(path:registry:checkParameters:)`` refuses (then
  /// nothing else can be said), checksums of every member, constants whose codes are outside their
  /// encoding or whose floats are NaN, and lists of `qtools.json` that differ from `model.params`.
  /// Empty for a sound file.
  public static func verify(path: String, registry: OperatorRegistry) -> [Diagnostic] {
    var found: [Diagnostic] = []
    do throws(Diagnostic) {
      let zip = try ZipReader(MappedFile(path: path))
      for entry in zip.entries {
        do throws(Diagnostic) {
          _ = try zip.content(of: entry, limit: entry.isDeflated ? parametersLimit : .max)
        } catch {
          found.append(error)
        }
      }
      let file = try read(path: path, registry: registry)
      for tensor in file.graph.tensors {
        if let problem = problem(of: tensor) { found.append(problem) }
      }
      found += try listDifferences(path: path, registry: registry, graph: file.graph)
    } catch {
      // A damaged member is reported once.
      if !found.contains(where: { $0.code == error.code && $0.location.member == error.location.member }) {
        found += error.all
      }
    }
    return found.map { $0.inFile(path) }
  }

  private static func problem(of tensor: Tensor) -> Diagnostic? {
    guard let constant = tensor.constant else { return nil }
    func finding(_ code: String, _ message: String) -> Diagnostic {
      ContainerFailure.input(
        code, message, member: MemberName.parameters, tensor: tensor.name)
    }
    if let encoding = tensor.encoding, tensor.type.element.isFixedPoint {
      let shift = encoding.storageShift
      let lowest = encoding.codeMin + shift
      let highest = encoding.codeMax + shift
      if lowest > highest || !constant.hasCodes(only: lowest...highest),
        let index = constant.firstInteger(where: { $0 < lowest || $0 > highest })
      {
        return finding(
          "code-range", "element \(index) has a code outside \(lowest) to \(highest)")
      }
    } else if tensor.type.element.isFloat {
      if let index = constant.firstNaN {
        return finding("nan", "element \(index) is not a number")
      }
    }
    return nil
  }

  private static func listDifferences(path: String, registry: OperatorRegistry, graph: Graph)
    throws(Diagnostic) -> [Diagnostic]
  {
    let quick = try openInfo(path: path, registry: registry)
    var found: [Diagnostic] = []
    for (one, other) in zip(quick.graph.nodes, graph.nodes) where !one.op.isWrittenAlike(other.op) {
      found.append(
        Sidecar.damaged("parameters differ from model.params", path: "lists").inNode(other.name))
    }
    return found
  }
}

extension Constant {
  /// Whether all codes are certainly inside a range; false says nothing.
  fileprivate func hasCodes(only range: ClosedRange<Int>) -> Bool {
    switch type.element {
    case .sfixed8, .sfixed4: isInside(Int8.self, range)
    case .ufixed8, .ufixed4: isInside(UInt8.self, range)
    case .sfixed16: isInside(Int16.self, range)
    case .ufixed16: isInside(UInt16.self, range)
    case .sfixed32: isInside(Int32.self, range)
    default: false
    }
  }

  private func isInside<Code: FixedWidthInteger & BitwiseCopyable>(
    _ code: Code.Type, _ range: ClosedRange<Int>
  ) -> Bool {
    if range.lowerBound <= Int(Code.min), range.upperBound >= Int(Code.max) { return true }
    var (least, most) = (Code.max, Code.min)
    forEachBlock { block in
      guard let base = block.baseAddress else { return }
      for index in 0..<block.count / MemoryLayout<Code>.size {
        let value = base.loadUnaligned(fromByteOffset: index &* MemoryLayout<Code>.size, as: Code.self)
        least = min(least, value)
        most = max(most, value)
      }
    }
    return least > most || (Int(least) >= range.lowerBound && Int(most) <= range.upperBound)
  }
}

extension Operator {
  /// Whether both have the same parameters, NaN being equal to NaN.
  fileprivate func isWrittenAlike(_ other: any Operator) -> Bool {
    typeName == other.typeName && attributes.map(\.name) == other.attributes.map(\.name)
      && String(describing: attributes.map(\.value)) == String(describing: other.attributes.map(\.value))
  }
}
