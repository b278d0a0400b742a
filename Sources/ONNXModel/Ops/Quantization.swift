import IR
import Operators

extension ONNXTranslation {
  /// QuantizeLinear and DequantizeLinear (ONNX's, and ONNX Runtime's own for types that ONNX lacked), and
  /// DynamicQuantizeLinear.
  static let quantizations = [
    ONNXTranslation("QuantizeLinear", quantize),
    ONNXTranslation("DequantizeLinear", choosesElement: true, dequantize),
    ONNXTranslation("com.microsoft.QuantizeLinear", quantize),
    ONNXTranslation("com.microsoft.DequantizeLinear", choosesElement: true, dequantize),
    ONNXTranslation("DynamicQuantizeLinear", dynamicQuantize),
  ]

  @Sendable private static func quantize(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    var x = try context.input(0)
    let scale = try context.input(1)
    let zero = context.optional(2)
    context.ignore("saturate")
    if let precision = try context.elementType("precision"), precision != .float32 {
      throw context.unsupported("precision \(precision.rawValue)")
    }
    let named = try context.elementType("output_dtype")
    if let named, let zero, zero.type.element != named {
      throw context.invalid(
        "output_dtype is \(named.rawValue), the zero point \(zero.type.element.rawValue)")
    }
    let element = zero?.type.element ?? named ?? .uint8
    if x.type.element.isInteger || (x.constant != nil && x.type.element != .float32) {
      x = try context.cast(x, to: .float32, suffix: "float")
    }
    let layout = try GridLayout(context, shape: x.shape, scale: scale, zero: zero)
    return [try context.quantize(x, scale, zero, to: element, layout)]
  }

  @Sendable private static func dequantize(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let q = try context.input(0)
    let scale = try context.input(1)
    let zero = context.optional(2)
    let named = try context.elementType("output_dtype")
    if let zero, zero.type.element != q.type.element {
      throw context.invalid("the codes are \(q.type), the zero point \(zero.type)")
    }
    let layout = try GridLayout(context, shape: q.shape, scale: scale, zero: zero)
    var result = try context.dequantize(q, scale, zero, layout)
    let element = named ?? scale.sourceElement
    guard element.isFloat else { throw context.unsupported("a result of \(element.rawValue)") }
    result.narrow = element == .float32 ? nil : element
    return [result]
  }

  /// The range of the operand, zero inside, becomes scale and zero point at run time; made of operators
  /// on float32, as ONNX spells it out.
  @Sendable private static func dynamicQuantize(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let axes = Array(0..<x.rank)
    let nothing = context.constant(Constant([Float(0)], shape: []), suffix: "zero")
    let steps = context.constant(Constant([Float(255)], shape: []), suffix: "steps")
    let least = try context.emit(
      ReduceMin(axes: axes, keepDims: false), [x], suffix: "least")
    let most = try context.emit(
      ReduceMax(axes: axes, keepDims: false), [x], suffix: "most")
    let low = try context.emit(ElementWiseMinimum(), [least, nothing], suffix: "low")
    let high = try context.emit(ElementWiseMaximum(), [most, nothing], suffix: "high")
    let range = try context.emit(ElementWiseSubtract(), [high, low], suffix: "range")
    let scale = try context.emit(ElementWiseDivide(), [range, steps], suffix: "scale")
    let lowest = try context.emit(ElementWiseDivide(), [low, scale], suffix: "lowest")
    let exact = try context.emit(ElementWiseSubtract(), [nothing, lowest], suffix: "exact")
    let clamped = try context.emit(
      ReluMinMax(minValue: 0, maxValue: 255), [exact], suffix: "clamped")
    let rounded = try context.emit(ElementWiseRound(), [clamped], suffix: "rounded")
    let zero = try context.emit(Cast(to: .uint8), [rounded], suffix: "zero_point")
    let codes = try context.quantize(
      x, scale, zero, to: .uint8, GridLayout(axis: nil, blockSize: nil))
    return [codes, scale, zero]
  }
}

/// What has a scale of its own: the tensor, each index of an axis, or each block along one.
struct GridLayout {
  var axis: Int?
  var blockSize: Int?

  /// A layout that is known.
  init(axis: Int?, blockSize: Int?) {
    self.axis = axis
    self.blockSize = blockSize
  }

  /// The layout that the sizes of scale and zero point tell, with the attributes axis and block_size.
  init(
    _ context: NodeContext, shape: [Int], scale: Value, zero: Value?
  ) throws(Diagnostic) {
    let given = try context.int("axis") ?? 1
    let size = try context.int("block_size") ?? 0
    guard scale.type.element.isFloat else {
      throw context.invalid("the scale is \(scale.type)")
    }
    if let zero, zero.shape != scale.shape, zero.type.count != 1 || scale.type.count != 1 {
      throw context.invalid("the scale is \(scale.type), the zero point \(zero.type)")
    }
    guard size >= 0 else { throw context.invalid("block_size is \(size)") }
    if size > 0 {
      let axis = try context.axis(given, rank: shape.count)
      var blocks = shape
      blocks[axis] = size <= shape[axis] ? (shape[axis] + size - 1) / size : 1
      guard scale.shape == blocks, size <= max(shape[axis], 1) else {
        throw context.invalid(
          "the scale is \(scale.type); blocks of \(size) along axis \(axis) of \(shape) need \(blocks)")
      }
      (self.axis, blockSize) = (axis, size)
      return
    }
    blockSize = nil
    guard scale.rank <= 1 else {
      throw context.invalid("the scale is \(scale.type), not a number or a list")
    }
    guard scale.type.count != 1 else {
      axis = nil
      return
    }
    let axis = try context.axis(given, rank: shape.count)
    guard scale.shape == [shape[axis]] else {
      throw context.invalid("the scale is \(scale.type), axis \(axis) of \(shape) has \(shape[axis])")
    }
    self.axis = axis
  }
}

extension NodeContext {
  /// An attribute that holds a TensorProto.DataType; nil where it is absent or 0.
  func elementType(_ name: String) throws(Diagnostic) -> DataType? {
    guard let code = try int(name), code != 0 else { return nil }
    guard let small = Int32(exactly: code), let element = TensorDecoder.element(small) else {
      throw unsupported(
        "\(name) \(Int32(exactly: code).map(TensorDecoder.typeName) ?? "\(code)")")
    }
    return element
  }

  /// The grid that constant scales and zero points make; nil where they are computed at run time, or
  /// where there are blocks.
  func grid(
    _ scale: Value, _ zero: Value?, _ element: DataType, _ layout: GridLayout
  ) throws(Diagnostic) -> CodeGrid? {
    guard let scales = scale.constant, layout.blockSize == nil else { return nil }
    if let zero, zero.constant == nil { return nil }
    return try makeGrid(scales.floats(), zero?.constant?.integers(), element, axis: layout.axis)
  }

  /// A grid of this node; what is wrong with its numbers is an error of the model.
  func makeGrid(
    _ scales: [Float], _ zeros: [Int]?, _ element: DataType, axis: Int?
  ) throws(Diagnostic) -> CodeGrid {
    do {
      return try CodeGrid(
        element: element, scales: scales,
        zeroPoints: zeros ?? [Int](repeating: 0, count: scales.count), axis: axis)
    } catch {
      throw Diagnostic(
        "onnx-bad-grid", "\(node.opType): \(error.message)", at: Diagnostic.Location(node: name),
        hint: error.hint)
    }
  }

  /// Codes of a float value.
  func quantize(
    _ x: Value, _ scale: Value, _ zero: Value?, to element: DataType, _ layout: GridLayout
  ) throws(Diagnostic) -> Value {
    guard let bits = CodeGrid.bits(element), bits < 32 else {
      throw unsupported("codes of \(element.rawValue)")
    }
    if let grid = try grid(scale, zero, element, layout) { return try quantize(x, grid) }
    if let constant = scale.constant { try checkScales(constant) }
    let ratio = try emit(
      ElementWiseDivide(), [x, try spread(scale, layout, x.shape, "scale")], suffix: "ratio")
    var codes = try emit(ElementWiseRound(), [ratio], suffix: "rounded")
    if let zero {
      codes = try emit(
        ElementWiseAdd(), [codes, try spread(zero, layout, x.shape, "zero_point")],
        suffix: "shifted")
    }
    let half = Float(1 << (bits - 1))
    let isSigned = CodeGrid.isSigned(element)
    codes = try emit(
      ReluMinMax(minValue: isSigned ? -half : 0, maxValue: isSigned ? half - 1 : 2 * half - 1),
      [codes], suffix: "clamped")
    return try emit(Cast(to: element), [codes])
  }

  /// Codes of a float value by a fixed grid; a constant's at once, whatever its size.
  func quantize(_ x: Value, _ grid: CodeGrid) throws(Diagnostic) -> Value {
    let op = QuantizeLinear(grid)
    var codes: Value
    if let constant = x.constant {
      codes = self.constant(try builder.compute(op, constant), suffix: "codes")
      if x.isNamedBySource { codes.origin = x.name }
    } else {
      codes = try emit(op, [x])
    }
    codes.codes = grid
    return codes
  }

  /// Real values of codes.
  func dequantize(
    _ q: Value, _ scale: Value, _ zero: Value?, _ layout: GridLayout
  ) throws(Diagnostic) -> Value {
    guard CodeGrid.bits(q.type.element) != nil else {
      throw unsupported("codes of \(q.type.element.rawValue)")
    }
    let usesZero = q.type.element != .int32 || zero?.constant?.integers()?.contains { $0 != 0 } ?? false
    let zero = usesZero ? zero : nil
    if q.type.element != .int32 || zero == nil,
      let grid = try grid(scale, zero, q.type.element, layout)
    {
      return try dequantize(q, grid)
    }
    if let constant = scale.constant { try checkScales(constant) }
    if layout.blockSize != nil, q.constant != nil, scale.constant != nil,
      zero == nil || zero?.constant != nil
    {
      return try dequantizeBlocks(q, scale, zero, layout)
    }
    var values = try emit(Cast(to: .float32), [q], suffix: "number")
    if let zero {
      values = try emit(
        ElementWiseSubtract(), [values, try spread(zero, layout, q.shape, "zero_point")],
        suffix: "shifted")
    }
    return try emit(
      ElementWiseMultiply(), [values, try spread(scale, layout, q.shape, "scale")])
  }

  /// Real values of codes by a fixed grid; a constant's at once, with the grid as their encoding.
  func dequantize(
    _ q: Value, _ grid: CodeGrid, suffix: String = ""
  ) throws(Diagnostic) -> Value {
    guard let constant = q.constant else {
      return try emit(DequantizeLinear(grid), [q], suffix: suffix)
    }
    let made = try builder.compute(DequantizeLinear(grid), constant)
    if made.floats().contains(where: { !$0.isFinite }) {
      throw Diagnostic(
        "onnx-bad-grid", "\(node.opType): codes times their scale overflow float32",
        at: Diagnostic.Location(node: name))
    }
    return real(made, of: q, encoding: grid.encoding)
  }

  /// The constant that codes stand for, under the name of the float constant that they were made of, as
  /// far as that is known.
  private func real(_ made: Constant, of q: Value, encoding: Encoding) -> Value {
    let wanted = q.origin ?? (q.isNamedBySource ? CodeMovers.constantName(q.name, builder) : nil)
    let known = wanted.flatMap { builder.claim($0) ? $0 : nil }
    var value = builder.constant(
      made, named: known ?? "\(name).value", isSource: known != nil, encoding: encoding)
    value.order = q.order
    if q.isNamedBySource { builder.note(q.name, standsFor: value) }
    return value
  }

  /// Real values of constant codes with a grid for each block, the grids as their encoding.
  private func dequantizeBlocks(
    _ q: Value, _ scale: Value, _ zero: Value?, _ layout: GridLayout
  ) throws(Diagnostic) -> Value {
    guard let axis = layout.axis, let size = layout.blockSize, let codes = q.constant?.integers(),
      let scales = scale.constant?.floats()
    else { throw unsupported("blocks of this form") }
    // One list of grids: checks the numbers and brings them into the IR's form.
    let grids = try makeGrid(scales, zero?.constant?.integers(), q.type.element, axis: 0).encoding
    let shift = CodeGrid.isSigned(q.type.element) ? 1 << (grids.bitwidth - 1) : 0
    let (length, count) = (q.shape[axis], scale.shape[axis])
    let inner = q.shape[(axis + 1)...].reduce(1, *)
    let values = codes.indices.map { index in
      let place = (index / (inner * length) * count + index / inner % length / size) * inner + index % inner
      return grids.channels[place].dequantize(codes[index] + shift)
    }
    if values.contains(where: { !$0.isFinite }) {
      throw Diagnostic(
        "onnx-bad-grid", "\(node.opType): codes times their scale overflow float32",
        at: Diagnostic.Location(node: name))
    }
    let others = q.shape.indices.filter { $0 != axis }
    let ordered = others.filter { q.shape[$0] != 1 } + others.filter { q.shape[$0] == 1 }
    for channel in ordered {
      guard let channels = Self.blocks(grids.channels, shape: scale.shape, channel: channel, axis: axis)
      else { continue }
      let encoding = Encoding(
        bitwidth: grids.bitwidth, symmetric: grids.symmetric, axis: channel,
        blocks: EncodingBlocks(axis: axis, size: size), channels: channels)
      guard encoding.problem(shape: q.shape) == nil else { continue }
      return real(Constant(values, shape: q.shape), of: q, encoding: encoding)
    }
    throw unsupported(
      "blocks of \(size) along axis \(axis) of \(q.type) whose scales differ along more than one other axis",
      hint: "export the model with a scale for each tensor, channel, or block of a channel")
  }

  /// Grids of `shape` in the order [channel][block]; nil where they differ along a third axis.
  private static func blocks(
    _ grids: [ScaleOffset], shape: [Int], channel: Int, axis: Int
  ) -> [ScaleOffset]? {
    let strides = shape.indices.map { shape[($0 + 1)...].reduce(1, *) }
    let count = shape[axis]
    var found = [ScaleOffset?](repeating: nil, count: shape[channel] * count)
    for (index, grid) in grids.enumerated() {
      let place = index / strides[channel] % shape[channel] * count + index / strides[axis] % count
      if let other = found[place], other != grid { return nil }
      found[place] = grid
    }
    return found.compactMap { $0 }
  }

  private func checkScales(_ scale: Constant) throws(Diagnostic) {
    for number in scale.floats() where !(number.isFinite && number > 0) {
      throw Diagnostic(
        "onnx-bad-grid", "\(node.opType): scale \(number) is not positive and finite",
        at: Diagnostic.Location(node: name))
    }
  }

  /// Scale or zero point as float32, in a shape that broadcasts to `shape`.
  private func spread(
    _ value: Value, _ layout: GridLayout, _ shape: [Int], _ what: String
  ) throws(Diagnostic) -> Value {
    var value = try cast(value, to: .float32, suffix: "\(what).float")
    guard let axis = layout.axis else { return try reshape(value, [], suffix: what) }
    var sizes = [Int](repeating: 1, count: shape.count)
    guard let block = layout.blockSize else {
      sizes[axis] = shape[axis]
      return try reshape(value, sizes, suffix: what)
    }
    let blocks = value.shape
    let each = Array(blocks[...axis]) + [1] + Array(blocks[(axis + 1)...])
    value = try reshape(value, each, suffix: "\(what).blocks")
    var full = each
    full[axis + 1] = block
    value = try emit(Expand(shape: full), [value], suffix: "\(what).spread")
    var merged = blocks
    merged[axis] *= block
    value = try reshape(value, merged, suffix: what)
    guard merged != shape else { return value }
    return try emit(
      StridedSlice(
        begin: [Int](repeating: 0, count: shape.count), size: shape,
        step: [Int](repeating: 1, count: shape.count)), [value], suffix: "\(what).cut")
  }
}
