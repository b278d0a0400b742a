import Foundation
import IR
import Testing

/// The minimal models with inputs and ONNX Runtime's outputs.
enum Fixtures {
  struct Cases: Decodable {
    var cases: [Case]
    var broken: [Broken]
  }

  struct Broken: Decodable, Sendable, CustomTestStringConvertible {
    var name: String
    var model: String
    var problem: String
    var testDescription: String { name }
  }

  struct Case: Decodable, Sendable, CustomTestStringConvertible {
    var name: String
    var model: String
    var inputs: [Array]
    var outputs: [Array]
    var symbols: [String: Int]?
    var testDescription: String { name }
  }

  struct Array: Decodable, Sendable {
    var name: String
    var file: String
    var type: String
    var shape: [Int]
  }

  static let folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures/minimal")

  static let all: Cases? = {
    guard let data = try? Data(contentsOf: folder.appendingPathComponent("cases.json")) else {
      return nil
    }
    return try? JSONDecoder().decode(Cases.self, from: data)
  }()
  static let cases = all?.cases ?? []
  static let broken = all?.broken ?? []

  static func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  /// The array in a .npy file, C order, little-endian.
  static func array(_ description: Array) throws -> Constant {
    try npy(path(description.file), type: description.type, shape: description.shape)
  }

  static func npy(_ path: String, type: String, shape: [Int]) throws -> Constant {
    let data = try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
    guard data.count > 12, let element = DataType(rawValue: type) else {
      throw Diagnostic("test-npy", "\(path) is not an array of \(type)")
    }
    let start =
      data[6] == 1
      ? 10 + Int(data[8]) + Int(data[9]) << 8
      : 12 + Int(data[8]) + Int(data[9]) << 8 + Int(data[10]) << 16
    let tensor = TensorType(element, shape)
    guard data.count - start == tensor.byteCount else {
      throw Diagnostic("test-npy", "\(path) has \(data.count - start) bytes for \(tensor)")
    }
    return Constant(type: tensor, bytes: Bytes(Swift.Array(data[start...])))
  }
}

/// A folder that goes away with the value.
final class TemporaryFolder {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(
      "onnx-import-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ bytes: [UInt8], _ name: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
  }
}

/// Largest difference relative to the largest magnitude of `expected`; equal values count as 0.
func relativeError(_ actual: Constant, _ expected: Constant) -> Float {
  if actual.type != expected.type { return .infinity }
  let (left, right) = (actual.floats(), expected.floats())
  var scale: Float = 1e-6
  for value in right where value.isFinite { scale = max(scale, abs(value)) }
  var worst: Float = 0
  for (a, b) in zip(left, right) where !(a == b || (a.isNaN && b.isNaN)) {
    let difference = abs(a - b) / scale
    worst = difference.isNaN ? .infinity : max(worst, difference)
  }
  return worst
}
