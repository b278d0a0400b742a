import IR

/// An input of the graph as samples feed it.
public struct SampleInput: Sendable, Hashable {
  /// Name in the graph.
  public var name: String
  /// Logical type in the container's layout.
  public var type: TensorType
  /// Other names it goes by.
  public var aliases: Set<String>
  /// How the tensor is stored, where files hold it so; nil where files hold logical values.
  public var native: NativeTensor?

  /// An input called `name`.
  public init(
    name: String, type: TensorType, aliases: Set<String> = [], native: NativeTensor? = nil
  ) {
    self.name = name
    self.type = type
    self.aliases = aliases
    self.native = native
  }

  /// The inputs of a graph, in order. `native`: files hold fixed-point codes and float16 as the graph
  /// stores them.
  public static func inputs(of graph: Graph, native: Bool = false) -> [SampleInput] {
    graph.inputs.map { id in
      let tensor = graph[id]
      let aliases = graph.aliases.filter { $0.value == tensor.name }.keys
      return SampleInput(
        name: tensor.name, type: tensor.type.logical, aliases: Set(aliases),
        native: native ? NativeTensor(tensor) : nil)
    }
  }

  /// Type of the elements in a file: floats of any width are `float32` there, unless files are native.
  var fileType: TensorType {
    if let native { return native.fileType }
    return TensorType(type.element.isFloat ? .float32 : type.element, type.shape)
  }
}

/// The samples of a list, every file found and its size checked before the first is loaded.
public struct SampleSource: Sendable {
  private struct File: Sendable {
    var path: String
    var offset: Int
  }

  /// The list the samples come from.
  public let list: InputList
  private let inputs: [SampleInput]
  /// A file for each input in the order of the graph, a row a sample.
  private let files: [[File]]

  /// Resolves and checks every file of the list; all errors at once.
  public init(_ list: InputList, inputs: [SampleInput]) throws(Diagnostic) {
    self.list = list
    self.inputs = inputs
    var errors: [Diagnostic] = []
    var rows: [[File]] = []
    var byName: [String: Int] = [:]
    for (index, input) in inputs.enumerated() {
      for alias in input.aliases { byName[alias] = index }
    }
    for (index, input) in inputs.enumerated() { byName[input.name] = index }
    for sample in list.samples {
      do throws(Diagnostic) {
        rows.append(try SampleSource.row(sample, list: list.file, inputs: inputs, byName: byName))
      } catch {
        errors.append(error)
      }
    }
    if let error = Diagnostic.combining(errors) { throw error }
    files = rows
  }

  /// Number of samples.
  public var count: Int { files.count }

  /// All files, each once, in order of first use.
  public var paths: [String] {
    var known = Set<String>()
    return files.joined().map(\.path).filter { known.insert($0).inserted }
  }

  /// Name of a sample for messages: its number from 1 and the line of the list.
  public func name(of sample: Int) -> String {
    "\(sample + 1) (\(list.file):\(list.samples[sample].line))"
  }

  /// Path of the file that feeds an input of a sample.
  public func path(sample: Int, input: Int) -> String { files[sample][input].path }

  /// The inputs of a sample in the order of the graph, dense, in their logical element types.
  public func load(_ sample: Int) throws(Diagnostic) -> [Bytes] {
    var result: [Bytes] = []
    for (input, file) in zip(inputs, files[sample]) {
      let bytes = try FileReading.bytes(
        of: file.path, from: file.offset, count: input.fileType.byteCount)
      if let native = input.native {
        result.append(native.logical(bytes))
      } else {
        result.append(SampleSource.converted(bytes, to: input.type.element))
      }
    }
    return result
  }

  /// Float files in the type of the input.
  private static func converted(_ bytes: Bytes, to element: DataType) -> Bytes {
    switch element {
    case .float64: Bytes(bytes.array(of: Float.self).map { Double($0) })
    case .float16: Bytes(bytes.array(of: Float.self).map { halfBits($0) })
    case .bfloat16:
      Bytes(bytes.array(of: Float.self).map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) })
    default: bytes
    }
  }

  private static func row(
    _ sample: InputList.Sample, list: String, inputs: [SampleInput], byName: [String: Int]
  ) throws(Diagnostic) -> [File] {
    let location = Diagnostic.Location(file: list, line: sample.line)
    let known = inputs.map(\.name).joined(separator: ", ")
    var errors: [Diagnostic] = []
    var row = [File?](repeating: nil, count: inputs.count)
    for entry in sample.entries {
      guard let index = entry.input.map({ byName[$0] }) ?? (inputs.count == 1 ? 0 : nil) else {
        let message =
          entry.input.map { "the model has no input \($0)" }
          ?? "the path does not say which input it is for"
        errors.append(
          Diagnostic("list-input", message, at: location, hint: "the inputs are: \(known)"))
        continue
      }
      if row[index] != nil {
        errors.append(
          Diagnostic("list-input", "input \(inputs[index].name) is given twice", at: location))
        continue
      }
      let path = resolved(entry.path, list: list)
      row[index] = File(path: path, offset: 0)
      do throws(Diagnostic) {
        row[index] = File(path: path, offset: try dataOffset(of: path, for: inputs[index]))
      } catch {
        var error = error
        error.message = "line \(sample.line) of \(list): \(error.message)"
        error.location.tensor = inputs[index].name
        errors.append(error)
      }
    }
    if errors.isEmpty, let missing = row.firstIndex(where: { $0 == nil }) {
      errors.append(
        Diagnostic(
          "list-input", "input \(inputs[missing].name) is missing", at: location,
          hint: "the inputs are: \(known)"))
    }
    if let error = Diagnostic.combining(errors) { throw error }
    return row.compactMap { $0 }
  }

  /// A relative path is taken from the current folder, then from the list's.
  private static func resolved(_ path: String, list: String) -> String {
    if path.hasPrefix("/") || FileReading.exists(path) { return path }
    let folder = FileReading.folder(of: list)
    let beside = folder == "/" ? "/\(path)" : "\(folder)/\(path)"
    return folder != "." && FileReading.exists(beside) ? beside : path
  }

  /// Checks a file against an input and gives the byte where its elements start.
  private static func dataOffset(
    of path: String, for input: SampleInput
  ) throws(Diagnostic) -> Int {
    let size = try FileReading.size(of: path)
    let type = input.fileType
    if path.hasSuffix(".npy") { return try arrayOffset(of: path, size: size, type: type) }
    guard size == type.byteCount else {
      throw Diagnostic(
        "sample-size", "the file has \(size) bytes, \(type) needs \(type.byteCount)",
        at: Diagnostic.Location(file: path), hint: sizeHint(size, type))
    }
    return 0
  }

  private static func arrayOffset(
    of path: String, size: Int, type: TensorType
  ) throws(Diagnostic) -> Int {
    let header = try NpyFile(path: path)
    let location = Diagnostic.Location(file: path)
    guard let element = header.element, element == type.element else {
      throw Diagnostic(
        "npy-type", "the array is of type \(header.descr), the input of \(type.element.rawValue)",
        at: location, hint: "convert it with astype to \(type.element.rawValue)")
    }
    guard header.shape == type.shape else {
      throw Diagnostic(
        "npy-shape", "the array has shape \(header.shape), the input \(type.shape)", at: location,
        hint: header.shape.sorted() == type.shape.sorted()
          ? "the axes are in another order: transpose it to the container's layout" : nil)
    }
    guard !header.fortranOrder || type.rank < 2 else {
      throw Diagnostic(
        "npy-order", "the array is in Fortran order", at: location,
        hint: "save numpy.ascontiguousarray of it")
    }
    guard size == header.dataOffset + type.byteCount else {
      throw Diagnostic(
        "sample-size",
        "the file has \(size) bytes, \(type) with its header needs "
          + "\(header.dataOffset + type.byteCount)", at: location)
    }
    return header.dataOffset
  }

  /// What a wrong size looks like.
  private static func sizeHint(_ size: Int, _ type: TensorType) -> String? {
    var guesses: [String] = []
    let count = type.count
    let batch = type.shape.first ?? 1
    if size == 0 { return "the file is empty" }
    if type.element == .float32 {
      if size == count * 8 { guesses.append("looks like float64") }
      if size == count * 2 { guesses.append("looks like float16") }
      if size == count { guesses.append("looks like uint8") }
    }
    if type.rank > 1, batch > 1, size == type.byteCount / batch {
      guesses.append("looks like one sample where the input has a batch of \(batch)")
    }
    if size > type.byteCount, type.byteCount > 0, size % type.byteCount == 0 {
      guesses.append("looks like \(size / type.byteCount) samples in one file")
    }
    return guesses.isEmpty ? nil : guesses.joined(separator: ", or ")
  }
}
