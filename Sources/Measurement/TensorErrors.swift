import IR

/// How far a tensor is from its reference, over all samples.
public struct TensorErrors: Sendable, Hashable {
  /// Elements compared.
  public var count: Int
  /// Elements left out because they are masks: not finite on one side, 1e30 and above, or far below
  /// the grid of a tensor that only a Softmax reads.
  public var skipped: Int
  /// Mean squared error.
  public var mse: Double
  /// Signal to quantization noise in dB: 10 log10(sum x^2 / sum (x - y)^2); infinite without any error.
  public var sqnr: Double
  /// Cosine of the angle between both; NaN where one is zero everywhere.
  public var cosine: Double
  /// Largest absolute error.
  public var largest: Double
  /// Noise to signal, the inverse of ``sqnr`` as a ratio; 0 without any error.
  public var noiseRatio: Double
}

/// The sums behind ``TensorErrors``: a monoid, the same for every order of the samples.
struct ErrorSums: Sendable {
  private var count = 0
  private var skipped = 0
  private var signal = ExactSum()
  private var noise = ExactSum()
  private var product = ExactSum()
  private var power = ExactSum()
  private var largest = 0.0

  /// Nothing compared yet.
  init() {}

  /// Adds the elements of one sample; those whose reference is below `floor` are masks.
  mutating func add(
    reference: UnsafePointer<Float>, other: UnsafePointer<Float>, count elements: Int, floor: Double = -.infinity
  ) {
    let sums = SampleSums(reference, other, elements, floor: floor)
    count += sums.count
    skipped += elements - sums.count
    signal.add(sums.signal)
    noise.add(sums.noise)
    product.add(sums.product)
    power.add(sums.power)
    largest = max(largest, sums.largest)
  }

  /// Adds the elements of one sample.
  mutating func add(reference: [Float], other: [Float]) {
    precondition(reference.count == other.count, "both have as many elements")
    reference.withUnsafeBufferPointer { left in
      other.withUnsafeBufferPointer { right in
        guard let first = left.baseAddress, let second = right.baseAddress else { return }
        add(reference: first, other: second, count: left.count)
      }
    }
  }

  /// Adds what others compared.
  mutating func merge(_ other: ErrorSums) {
    count += other.count
    skipped += other.skipped
    signal.merge(other.signal)
    noise.merge(other.noise)
    product.merge(other.product)
    power.merge(other.power)
    largest = max(largest, other.largest)
  }

  /// The measures; nil where nothing was compared.
  var errors: TensorErrors? {
    guard count > 0 else { return nil }
    let (signal, noise) = (signal.value, noise.value)
    let ratio = noise == 0 ? 0 : noise / signal
    return TensorErrors(
      count: count, skipped: skipped, mse: noise / Double(count), sqnr: decibels(noiseRatio: ratio),
      cosine: product.value / (signal * power.value).squareRoot(), largest: largest, noiseRatio: ratio)
  }
}

/// Sums over the elements of one sample, in Double, in a fixed order.
private struct SampleSums {
  var count = 0
  var signal = 0.0
  var noise = 0.0
  var product = 0.0
  var power = 0.0
  var largest = 0.0

  /// What is at least this large is a mask, not a value.
  private static let mask = 1e30

  init(
    _ reference: UnsafePointer<Float>, _ other: UnsafePointer<Float>, _ elements: Int, floor: Double
  ) {
    typealias Lanes = SIMD4<Double>
    var (signals, noises, products, powers) = (Lanes(), Lanes(), Lanes(), Lanes())
    var most = Lanes()
    let whole = elements & ~3
    var index = 0
    while index < whole {
      let x = Lanes(
        Double(reference[index]), Double(reference[index &+ 1]), Double(reference[index &+ 2]),
        Double(reference[index &+ 3]))
      let y = Lanes(
        Double(other[index]), Double(other[index &+ 1]), Double(other[index &+ 2]),
        Double(other[index &+ 3]))
      let difference = x - y
      signals += x * x
      noises += difference * difference
      products += x * y
      powers += y * y
      let size = difference.replacing(with: -difference, where: difference .< 0)
      most.replace(with: size, where: size .> most)
      index &+= 4
    }
    signal = signals.sum()
    noise = noises.sum()
    product = products.sum()
    power = powers.sum()
    largest = most.max()
    count = whole
    for rest in whole..<elements { add(Double(reference[rest]), Double(other[rest])) }
    let limit = Self.mask * Self.mask
    guard floor > -.infinity || !(signal < limit && power < limit && noise < limit) else { return }
    self = SampleSums()
    for index in 0..<elements {
      let (x, y) = (Double(reference[index]), Double(other[index]))
      if x.isFinite, y.isFinite, abs(x) < Self.mask, abs(y) < Self.mask, x >= floor { add(x, y) }
    }
  }

  private init() {}

  private mutating func add(_ x: Double, _ y: Double) {
    let difference = x - y
    signal += x * x
    noise += difference * difference
    product += x * y
    power += y * y
    largest = max(largest, abs(difference))
    count += 1
  }
}

/// How far scores are from those of a reference, over samples that come one by one in any order.
public struct OutputErrors: Sendable {
  private var sums = ErrorSums()

  /// Nothing compared yet.
  public init() {}

  /// Adds a sample; both lists have one length.
  public mutating func add(reference: [Float], other: [Float]) { sums.add(reference: reference, other: other) }

  /// Adds what others compared.
  public mutating func merge(_ other: OutputErrors) { sums.merge(other.sums) }

  /// The measures; nil where nothing was compared.
  public var errors: TensorErrors? { sums.errors }
}
