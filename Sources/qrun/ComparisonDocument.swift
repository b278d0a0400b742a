import Calibration
import Measurement
import ToolKit

/// What `qrun compare` measured.
struct ComparisonDocument: JSONDocument {
  struct Errors: Encodable {
    var count: Int
    var skipped: Int
    var mse: Double
    var sqnr_db: Double
    var cosine: Double
    var largest_error: Double

    init(_ errors: TensorErrors) {
      count = errors.count
      skipped = errors.skipped
      mse = errors.mse
      sqnr_db = errors.sqnr
      cosine = errors.cosine
      largest_error = errors.largest
    }
  }

  struct Grid: Encodable {
    var bitwidth: Int
    var symmetric: Bool
    var grids: Int
    var min: Double
    var max: Double
    var scale: Float
    var offset: Int
    var source: String?

    init(_ grid: GridSummary) {
      bitwidth = grid.bitwidth
      symmetric = grid.isSymmetric
      grids = grid.count
      min = grid.minimum
      max = grid.maximum
      scale = Float(grid.scale)
      offset = grid.offset
      source = grid.source?.rawValue
    }
  }

  /// Counts of equal bins from `first_edge` on.
  struct Distribution: Encodable {
    var first_edge: Double
    var bin_width: Double
    var counts: [UInt64]
    var min: Float
    var max: Float

    /// At most 64 bins.
    init?(_ histogram: HistogramObserver?) {
      guard let seen = histogram?.coarsened(bins: 64), seen.extrema.hasRange else { return nil }
      first_edge = seen.edge(0)
      bin_width = seen.binWidth
      counts = seen.counts
      min = seen.extrema.minimum
      max = seen.extrema.maximum
    }
  }

  struct Sensitivity: Encodable {
    var alone_sqnr_db: Double
    var without_sqnr_db: Double
    var share: Double
  }

  struct Tensor: Encodable {
    var name: String
    var layer: String
    var operators: String
    var output: Bool
    var grid: Grid?
    var isolation: Errors?
    var at_once: Errors?
    var layer_by_layer: Errors?
    var weight_sqnr_db: Double?
    var added_noise: Double?
    var sensitivity: Sensitivity?
    var damage: Double
    var before: Distribution?
    var after: Distribution?

    init(_ row: TensorComparison) {
      name = row.name
      layer = row.layer
      operators = row.operatorName
      output = row.isOutput
      grid = row.grid.map(Grid.init)
      isolation = row.errors[.isolation].map(Errors.init)
      at_once = row.errors[.atOnce].map(Errors.init)
      layer_by_layer = row.errors[.layerByLayer].map(Errors.init)
      weight_sqnr_db = row.weightSQNR
      added_noise = row.addedNoise
      sensitivity = row.sensitivity.map {
        Sensitivity(alone_sqnr_db: $0.aloneSQNR, without_sqnr_db: $0.withoutSQNR, share: $0.share)
      }
      damage = row.damage
      before = Distribution(row.before)
      after = Distribution(row.after)
    }
  }

  struct Parameter: Encodable {
    var name: String
    var layer: String
    var equalized: Bool
    var grid: Grid?
    var errors: Errors?
    var channels_before: [[Float]]
    var channels_after: [[Float]]

    init(_ row: ParameterComparison) {
      name = row.name
      layer = row.layer
      equalized = row.isScaled
      grid = row.grid.map(Grid.init)
      errors = row.errors.map(Errors.init)
      channels_before = row.rangesBefore.map { [$0.lowerBound, $0.upperBound] }
      channels_after = row.rangesAfter.map { [$0.lowerBound, $0.upperBound] }
    }
  }

  struct Unmatched: Encodable {
    var only_in_reference: [String]
    var only_in_container: [String]
    var other_shapes: [String]
    var inside_fused_pairs: [String]
  }

  let version = 1
  var container: String
  var reference: String?
  var samples: Int
  var views: [String]
  var outputs_sqnr_db: [String: Double]
  var damage: String
  /// By damage, most first.
  var tensors: [Tensor]
  var parameters: [Parameter]
  var not_compared: Unmatched

  init(_ result: GraphComparison, container: String, reference: String?) {
    self.container = container
    self.reference = reference
    samples = result.sampleCount
    views = result.views.map(\.rawValue)
    outputs_sqnr_db = [:]
    for view in result.views { outputs_sqnr_db[view.rawValue] = result.outputSQNR(view) }
    damage = result.damageMeaning
    tensors = result.byDamage.map(Tensor.init)
    parameters = result.parameters.map(Parameter.init)
    not_compared = Unmatched(
      only_in_reference: result.match.onlyInReference, only_in_container: result.match.onlyInContainer,
      other_shapes: result.match.otherShapes, inside_fused_pairs: result.match.insideFusedPairs)
  }

  /// All measures in lines: activations by damage, then constants.
  static func csv(_ result: GraphComparison) -> String {
    func text(_ value: Double?) -> String { value.map { "\($0)" } ?? "" }
    func cells(_ errors: TensorErrors?) -> [String] {
      [text(errors?.mse), text(errors?.sqnr), text(errors?.cosine), text(errors?.largest)]
    }
    func cells(_ grid: GridSummary?) -> [String] {
      guard let grid else { return ["", "", "", "", ""] }
      return ["\(grid.bitwidth)", text(grid.minimum), text(grid.maximum), "\(Float(grid.scale))", "\(grid.offset)"]
    }
    let views = ComparisonView.allCases
    let measures = ["mse", "sqnr_db", "cosine", "largest_error"]
    var table = TextTable(
      ["tensor", "kind", "layer", "operators", "bitwidth", "min", "max", "scale", "offset"]
        + views.flatMap { view in measures.map { "\(view.rawValue)_\($0)" } }
        + ["weight_sqnr_db", "added_noise", "alone_sqnr_db", "without_sqnr_db", "share"])
    for row in result.byDamage {
      table.add(
        [row.name, row.isOutput ? "output" : "activation", row.layer, row.operatorName] + cells(row.grid)
          + views.flatMap { cells(row.errors[$0]) } + [text(row.weightSQNR), text(row.addedNoise)]
          + [text(row.sensitivity?.aloneSQNR), text(row.sensitivity?.withoutSQNR), text(row.sensitivity?.share)])
    }
    for row in result.parameters {
      table.add(
        [row.name, "parameter", row.layer, ""] + cells(row.grid) + cells(row.errors)
          + [String](repeating: "", count: 2 * measures.count + 5))
    }
    return table.csv
  }
}
