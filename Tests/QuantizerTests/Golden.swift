@testable import Calibration
import Foundation
import Testing

/// AIMET's numbers for small tensors, where they lie beside the package: read when tests run, no part
/// of the repository.
struct Golden {
  struct Record: Decodable {
    var tensor: String
    var engine: String
    var scheme: String
    var bitwidth: Int
    var mode: String
    var symmetric: Bool
    var strict: Bool
    var unsigned: Bool
    var perChannelAxis: Int?
    var min: OneOrMore
    var max: OneOrMore
    var delta: OneOrMore
    var offset: OneOrMore

    enum CodingKeys: String, CodingKey {
      case tensor, engine, scheme, bitwidth, mode, symmetric, strict, unsigned, min, max, delta, offset
      case perChannelAxis = "per_channel_axis"
    }
  }

  /// A number or a list of them.
  struct OneOrMore: Decodable {
    var values: [Double]
    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      do {
        values = [try container.decode(Double.self)]
      } catch DecodingError.typeMismatch {
        values = try container.decode([Double].self)
      }
    }
  }

  /// The package's own folder: this file stands three levels below it.
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../../shared/models/golden").standardizedFileURL

  static let isPresent: Bool = {
    let found = FileManager.default.fileExists(
      atPath: folder.appendingPathComponent("encodings.json").path)
    if !found { print("golden: 5 tests skipped, ../shared/models/golden is absent") }
    return found
  }()

  static let shared = Result { try Golden() }

  let records: [Record]
  let tensors: [String: (shape: [Int], values: [Float])]

  private init() throws {
    records = try JSONDecoder().decode(
      [Record].self, from: Data(contentsOf: Self.folder.appendingPathComponent("encodings.json")))
    var tensors: [String: (shape: [Int], values: [Float])] = [:]
    for name in Set(records.map(\.tensor)) {
      tensors[name] = try Self.load(Self.folder.appendingPathComponent("\(name).npy"))
    }
    self.tensors = tensors
  }

  /// A little-endian float32 array in C order.
  private static func load(_ url: URL) throws -> ([Int], [Float]) {
    let bytes = [UInt8](try Data(contentsOf: url))
    let length = Int(bytes[8]) + Int(bytes[9]) << 8
    let header = String(decoding: bytes[10..<(10 + length)], as: UTF8.self)
    try #require(bytes[6] == 1 && header.contains("'<f4'") && header.contains("False"))
    let start = try #require(header.lastIndex(of: "("))
    let end = try #require(header.lastIndex(of: ")"))
    let shape = header[header.index(after: start)..<end].split { !$0.isNumber }.compactMap { Int($0) }
    let values = bytes[(10 + length)...].withUnsafeBytes { raw in
      (0..<(raw.count / 4)).map { raw.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
    return (shape, values)
  }

  /// Records of a tensor as a whole or per channel.
  func find(
    engine: String? = nil, scheme: String? = nil, axis: Int?? = nil
  ) -> [Record] {
    records.filter { record in
      (engine == nil || record.engine == engine) && (scheme == nil || record.scheme == scheme)
        && (axis == nil || record.perChannelAxis == axis)
    }
  }

  /// Squared error on the data, gamma times where a code would lie outside the grid; Double.
  static func cost(
    _ values: [Float], scale: Double, offset: Int, codes: ClosedRange<Int>, gamma: Double = 3
  ) -> Double {
    values.reduce(0) { sum, value in
      let code = (Double(value) / scale).rounded(.toNearestOrEven) - Double(offset)
      let clamped = Swift.min(Swift.max(code, Double(codes.lowerBound)), Double(codes.upperBound))
      let error = Double(value) - (clamped + Double(offset)) * scale
      return sum + error * error * (clamped == code ? 1 : gamma)
    }
  }
}
