import IR
import Operators

extension ONNXTranslation {
  /// Attention spelled out, and writing into a cache.
  static let attentions = [
    ONNXTranslation("Attention", attention), ONNXTranslation("TensorScatter", tensorScatter),
  ]

  /// Softmax(Q K' scale, softcapped, masked) V over heads; results: Y, the present keys and values, and what
  /// `qk_matmul_output_mode` asks for: 0 the products, 1 behind the soft cap, 2 masked, 3 the softmax (the
  /// numbers of onnx 1.23, which corrected those of 1.21).
  @Sendable private static func attention(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    context.ignore("softmax_precision")
    let mode = try context.int("qk_matmul_output_mode") ?? 0
    let isCausal = try context.flag("is_causal")
    let cap = try context.float("softcap") ?? 0
    let givenScale = try context.float("scale")
    let rank = try context.input(0).rank
    let (query, keys, values) = try heads(context)
    var (k, v) = (keys, values)
    var past = 0
    if let pastKey = context.optional(4), let pastValue = context.optional(5) {
      past = pastKey.rank == 4 ? pastKey.shape[2] : 0
      k = try context.emit(Concat(axis: 2), [pastKey, k], suffix: "keys")
      v = try context.emit(Concat(axis: 2), [pastValue, v], suffix: "values")
    }
    let present = (k, v)
    let count = query.shape[1]
    k = try repeated(context, k, count, "keys")
    v = try repeated(context, v, count, "values")
    let scale = givenScale ?? 1 / Float(query.shape[3]).squareRoot()
    let factor = try context.scalar(scale, like: query.type, suffix: "scale")
    let scaled = try context.emit(ElementWiseMultiply(), [query, factor], suffix: "scaled")
    let products = try context.emit(MatMul(transposeIn1: true), [scaled, k], suffix: "products")
    var scores = products
    if cap > 0 {
      let limit = try context.scalar(cap, like: scores.type, suffix: "cap")
      scores = try context.emit(ElementWiseDivide(), [scores, limit], suffix: "ratio")
      scores = try context.emit(Tanh(), [scores], suffix: "tanh")
      scores = try context.emit(ElementWiseMultiply(), [scores, limit], suffix: "capped")
    }
    let capped = scores
    for mask in try masks(context, scores, past: past, isCausal: isCausal) {
      scores = try context.emit(ElementWiseAdd(), [scores, mask], suffix: "masked")
    }
    let weights = try context.emit(Softmax(axis: 3), [scores], suffix: "softmax")
    let stages = [products, capped, scores, weights]
    guard stages.indices.contains(mode) else { throw context.invalid("qk_matmul_output_mode is \(mode)") }
    var y = try context.emit(MatMul(), [weights, v], suffix: rank == 3 ? "heads" : "")
    if rank == 3 {
      y = try context.transpose(y, [0, 2, 1, 3], suffix: "joined")
      y = try context.reshape(y, [y.shape[0], y.shape[1], y.shape[2] * y.shape[3]], suffix: "")
    }
    return [y, present.0, present.1, stages[mode]]
  }

  /// Query, keys and values as [batch, heads, positions, features].
  private static func heads(
    _ context: NodeContext
  ) throws(Diagnostic) -> (Value, Value, Value) {
    let counts = [try context.int("q_num_heads"), try context.int("kv_num_heads")]
    var parts: [Value] = []
    for (index, name) in ["query", "key", "value"].enumerated() {
      let x = try context.input(index, ranks: 3...4)
      guard x.rank == 3 else {
        parts.append(x)
        continue
      }
      guard let count = counts[min(index, 1)], count > 0, x.shape[2] % count == 0 else {
        throw context.invalid("the number of heads is missing or does not fit \(x.type)")
      }
      let split = try context.reshape(
        x, [x.shape[0], x.shape[1], count, x.shape[2] / count], suffix: "\(name).split")
      parts.append(try context.transpose(split, [0, 2, 1, 3], suffix: "\(name).heads"))
    }
    return (parts[0], parts[1], parts[2])
  }

  /// Each head as often as needed for `count` of them.
  private static func repeated(
    _ context: NodeContext, _ value: Value, _ count: Int, _ name: String
  ) throws(Diagnostic) -> Value {
    let (batch, own, positions, width) =
      (value.shape[0], value.shape[1], value.shape[2], value.shape[3])
    if own == count { return value }
    guard own > 0, count % own == 0 else {
      throw context.invalid("\(count) heads of the query for \(own) of the keys")
    }
    let apart = try context.reshape(value, [batch, own, 1, positions, width], suffix: "\(name).apart")
    let wide = try context.emit(
      Expand(shape: [batch, own, count / own, positions, width]), [apart], suffix: "\(name).wide")
    return try context.reshape(wide, [batch, count, positions, width], suffix: "\(name).repeated")
  }

  /// What is added to the scores: 0 where a position counts, -inf where not.
  private static func masks(
    _ context: NodeContext, _ scores: Value, past: Int, isCausal: Bool
  ) throws(Diagnostic) -> [Value] {
    let (rows, columns) = (scores.shape[2], scores.shape[3])
    var result: [Value] = []
    let nothing = try context.scalar(0, like: scores.type, suffix: "nothing")
    let never = try context.scalar(-.infinity, like: scores.type, suffix: "never")
    if var mask = context.optional(3) {
      let missing = columns - (mask.shape.last ?? columns)
      if missing > 0 {
        var amount = [Int](repeating: 0, count: 2 * mask.rank)
        amount[amount.count - 1] = missing
        let filler: Float = mask.type.element == .bool ? 0 : -.infinity
        mask = try context.emit(Pad(padAmount: amount, value: filler), [mask], suffix: "mask.wide")
      }
      if mask.type.element == .bool {
        mask = try context.emit(ElementWiseSelect(), [mask, nothing, never], suffix: "mask")
      }
      result.append(mask)
    }
    if isCausal {
      guard rows * columns <= 1 << 26 else { throw context.unsupported("a mask of that size") }
      let bias = (0..<rows * columns).map { place -> Float in
        past + place / columns < place % columns ? -.infinity : 0
      }
      result.append(context.constant(Constant(bias, shape: [rows, columns]), suffix: "causal"))
    }
    if let lengths = context.optional(6) {
      let numbers = try context.cast(lengths, to: .int64, suffix: "lengths")
      let limits = try context.reshape(numbers, [numbers.type.count, 1, 1, 1], suffix: "limits")
      let places = context.constant(
        Constant((0..<columns).map { Int64($0) }, shape: [columns]), suffix: "places")
      let counts = try context.emit(ElementWiseLess(), [places, limits], suffix: "counts")
      result.append(
        try context.emit(ElementWiseSelect(), [counts, nothing, never], suffix: "padding"))
    }
    return result
  }

  /// Writes the update into the cache from an index of each sample on, round the end where circular.
  @Sendable private static func tensorScatter(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let (cache, update) = (try context.input(0, ranks: 2...8), try context.input(1))
    let axis = try context.axis(try context.int("axis") ?? -2, rank: cache.rank)
    let isCircular = try context.string("mode") ?? "linear" == "circular"
    guard axis > 0, update.rank == cache.rank,
      cache.shape.indices.allSatisfy({ $0 == axis || cache.shape[$0] == update.shape[$0] })
    else { throw context.invalid("\(update.type) does not fit \(cache.type) along axis \(axis)") }
    let (batch, count, length) = (cache.shape[0], update.shape[axis], cache.shape[axis])
    // [batch, positions, ...]: the pair (sample, position) names what is replaced.
    let order = [0, axis] + cache.shape.indices.filter { $0 != 0 && $0 != axis }
    let data = try context.transpose(cache, order, suffix: "cache.moved")
    let rows = try context.transpose(update, order, suffix: "update.moved")
    let steps = context.constant(
      Constant((0..<count).map { Int64($0) }, shape: [1, count]), suffix: "steps")
    var places = try context.emit(Expand(shape: [batch, count]), [steps], suffix: "places")
    if let first = context.optional(2) {
      let numbers = try context.cast(first, to: .int64, suffix: "first")
      let starts = try context.reshape(numbers, [batch, 1], suffix: "starts")
      places = try context.emit(ElementWiseAdd(), [places, starts], suffix: "moved")
    }
    if isCircular {
      let size = context.constant(Constant([Int64(length)], shape: [1]), suffix: "length")
      places = try context.emit(ElementWiseMod(), [places, size], suffix: "around")
    }
    let samples = context.constant(
      Constant((0..<batch * count).map { Int64($0 / max(count, 1)) }, shape: [batch, count, 1]),
      suffix: "samples")
    let pairs = try context.emit(
      Concat(axis: 2), [samples, try context.reshape(places, [batch, count, 1], suffix: "column")],
      suffix: "pairs")
    let written = try context.emit(ScatterNd(), [data, pairs, rows], suffix: "written")
    return [try context.transpose(written, inversePermutation(order), suffix: "")]
  }
}
