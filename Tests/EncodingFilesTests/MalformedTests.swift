import EncodingFiles
import Foundation
import IR
import Testing

@Suite("Malformed encodings files") struct MalformedTests {
  struct Example: CustomTestStringConvertible {
    var text: String
    var code: String
    var path: String?
    var testDescription: String { "\(code) \(path ?? "")" }
    init(_ text: String, _ code: String = "encodings-format", at path: String?) {
      (self.text, self.code, self.path) = (text, code, path)
    }
  }

  private static let int8 = #""bitwidth": 8, "dtype": "int""#
  private static let x = "activation_encodings.x[0]"
  private static let a = "activation_encodings[0]"
  private static let e = "encodings[0]"
  private static let int1 = #""dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": false"#

  static let keyed = [
    Example(Document.keyed(#"\#(int8), "is_symmetric": "maybe", "scale": 1, "offset": 0"#), at: "\(x).is_symmetric"),
    Example(Document.keyed(#"\#(int8), "scale": 1, "offset": 0"#), at: x),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": 1"#), at: x),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "offset": 1"#), at: "\(x).offset"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "min": 1"#), at: x),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "min": 2, "max": 1"#), at: "\(x).min"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "min": -1e300, "max": 1e300"#), at: "\(x).min"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": -1, "offset": 0"#), at: "\(x).scale"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": 0, "offset": 0"#), at: "\(x).scale"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": 1e-60, "offset": 0"#), at: "\(x).scale"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": 1e60, "offset": 0"#), at: "\(x).scale"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": 1, "offset": -256"#), at: "\(x).offset"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": 1, "offset": -1e300"#), at: "\(x).offset"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": 1, "offset": -1.5"#), at: "\(x).offset"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": false, "scale": 1, "offset": 5"#), at: "\(x).offset"),
    Example(Document.keyed(#"\#(int8), "is_symmetric": true, "scale": 1, "offset": -100"#), at: "\(x).offset"),
    Example(Document.keyed(#""bitwidth": 1, "dtype": "int""#), at: "\(x).bitwidth"),
    Example(Document.keyed(#""bitwidth": 33, "dtype": "int""#), at: "\(x).bitwidth"),
    Example(Document.keyed(#""bitwidth": 8.5, "dtype": "int""#), at: "\(x).bitwidth"),
    Example(Document.keyed(#""bitwidth": 8, "dtype": "real""#), at: "\(x).dtype"),
    Example(Document.keyed(#""bitwidth": 8"#), at: x),
    Example(Document.keyed(#""dtype": "int""#), at: x),
    Example(Document.keyed(#""bitwidth": 8, "dtype": "float""#), "encodings-unsupported", at: "\(x).bitwidth"),
    Example(Document.keyed(#""bitwidth": 24, "dtype": "float""#), at: "\(x).bitwidth"),
    Example(Document.keyed(#""bitwidth": 8, "dtype": "float8""#), "encodings-unsupported", at: "\(x).dtype"),
    Example(Document.keyed(#""bitwidth": 16, "dtype": "float", "scale": 1"#), at: "\(x).scale"),
    Example(Document.keyed(#"\#(int8), "bw": 8"#), at: "\(x).bw"),
    Example(Document.keyed(#"\#(int8), "a.b c": 8"#), at: #"\#(x)["a.b c"]"#),
    Example(Document.keyed(#"\#(int8), "bitwidth": 4"#), "json-duplicate-key", at: "\(x).bitwidth"),
    Example(Document.keyed(int8 + "}, {" + int8), at: "activation_encodings.x"),
    Example(
      Document.keyed(int8 + #", "is_symmetric": true, "scale": 1, "offset": -128}, {"# + int8),
      at: "activation_encodings.x[1]"),
    Example(Document.keyed(int8, param: #""x": [{\#(int8)}]"#), "encodings-duplicate", at: "param_encodings.x"),
    Example(Document.keyed(int8, param: #""y": []"#), at: "param_encodings.y"),
    Example(Document.keyed(int8, param: #""y": {}"#), at: "param_encodings.y"),
    Example(Document.keyed(int8, param: #""y": [1]"#), at: "param_encodings.y[0]"),
    Example(Document.keyed(int8, param: #""": [{\#(int8)}]"#), at: #"param_encodings[""]"#),
    Example(#"{"version": "0.6.1", "activation_encodings": {}}"#, at: nil),
    Example(#"{"version": "0.6.1", "param_encodings": {}}"#, at: nil),
    Example(#"{"version": "0.6.1", "activation_encodings": [], "param_encodings": {}}"#, at: "activation_encodings"),
    Example(
      #"{"version": "0.6.1", "activation_encodings": {}, "param_encodings": {}, "encodings": []}"#, at: "encodings"),
  ]

  static let listed = [
    Example(Document.listed(#"\#(int1), "scale": [], "offset": []"#), at: "\(a).scale"),
    Example(Document.listed(#"\#(int1), "scale": [1, 2], "offset": [0]"#), at: "\(a).offset"),
    Example(Document.listed(#"\#(int1), "scale": [1, 2], "offset": [0, 0]"#), at: "\(a).scale"),
    Example(Document.listed(#"\#(int1), "scale": 1, "offset": [0]"#), at: "\(a).scale"),
    Example(Document.listed(#"\#(int1), "scale": ["1"], "offset": [0]"#), at: "\(a).scale[0]"),
    Example(Document.listed(#"\#(int1), "scale": [-1], "offset": [0]"#), at: "\(a).scale[0]"),
    Example(Document.listed(#"\#(int1), "scale": [1], "offset": [3]"#), at: "\(a).offset[0]"),
    Example(
      Document.listed(#"\#(int1), "scale": [1], "offset": [-0.5]"#), "encodings-unsupported", at: "\(a).offset[0]"),
    Example(
      Document.listed(#"\#(int1), "scale": [1], "offset": [0], "zero_point_shift": [0.5]"#), "encodings-unsupported",
      at: "\(a).zero_point_shift"),
    Example(Document.listed(#"\#(int1), "scale": [1]"#), at: a),
    Example(Document.listed(#"\#(int1), "scale": [1], "offset": [0], "block_size": 2"#), at: "\(a).block_size"),
    Example(Document.listed(#"\#(int1), "scale": [1], "offset": [0], "compressed_bw": 2"#), at: "\(a).compressed_bw"),
    Example(Document.listed(#"\#(int1), "axis": 0"#), at: "\(a).axis"),
    Example(Document.listed(#""dtype": "INT", "bw": 8, "scale": [1], "offset": [0]"#), at: a),
    Example(
      Document.listed(#""dtype": "INT", "bw": 8, "enc_type": "VECTOR", "is_sym": false, "scale": [1], "offset": [0]"#),
      at: "\(a).enc_type"),
    Example(Document.listed(#""dtype": "INT", "bw": 8, "enc_type": "PER_CHANNEL""#), at: a),
    Example(
      Document.listed(
        #""dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": true, "scale": [1], "offset": [-3]"#),
      at: "\(a).offset[0]"),
    Example(
      Document.listed(#""dtype": "FLOAT", "bw": 8, "enc_type": "PER_TENSOR""#), "encodings-unsupported", at: "\(a).bw"),
    Example(Document.listed(#""dtype": "FLOAT", "bw": 16, "enc_type": "PER_CHANNEL""#), at: "\(a).enc_type"),
    Example(Document.listed(#""dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR", "scale": [1]"#), at: "\(a).scale"),
    Example(
      Document.listed(
        #""dtype": "INT", "bw": 4, "enc_type": "PER_BLOCK", "is_sym": true, "scale": [1], "offset": [-8]"#), at: a),
    Example(
      Document.listed(
        #""dtype": "INT", "bw": 4, "enc_type": "PER_BLOCK", "is_sym": true, "scale": [1], "offset": [-8], "block_size": 0"#
      ), at: "\(a).block_size"),
    Example(lowPower(#""compressed_bw": 8, "per_block_int_scale": [1]"#), at: "\(a).compressed_bw"),
    Example(lowPower(#""compressed_bw": 4, "per_block_int_scale": [17]"#), at: "\(a).per_block_int_scale"),
    Example(lowPower(#""compressed_bw": 4, "per_block_int_scale": [0]"#), at: "\(a).per_block_int_scale"),
    Example(lowPower(#""compressed_bw": 4, "per_block_int_scale": [1.5]"#), at: "\(a).per_block_int_scale[0]"),
    Example(lowPower(#""compressed_bw": 4, "per_block_int_scale": []"#), at: "\(a).per_block_int_scale"),
    Example(lowPower(#""compressed_bw": 4"#), at: a),
    Example(#"{"version": "1.0.0", "activation_encodings": [{}], "param_encodings": []}"#, at: a),
    Example(#"{"version": "1.0.0", "activation_encodings": {}, "param_encodings": []}"#, at: "activation_encodings"),
    Example(
      #"{"version": "1.0.0", "activation_encodings": [{"name": "x", "dtype": "INT", "bw": 8}, {"name": "x", "dtype": "INT", "bw": 8}], "param_encodings": []}"#,
      "encodings-duplicate", at: "activation_encodings[1]"),
    Example(
      #"{"version": "1.0.0", "activation_encodings": [{"name": "x", "dtype": "INT", "bw": 8}], "param_encodings": [{"name": "x", "dtype": "INT", "bw": 8}]}"#,
      "encodings-duplicate", at: "param_encodings[0]"),
  ]

  private static func lowPower(_ rest: String) -> String {
    Document.listed(
      #""dtype": "INT", "bw": 8, "enc_type": "LPBQ", "is_sym": true, "block_size": 2, "scale": [1], "offset": [-128], \#(rest)"#
    )
  }

  static let onnx = [
    Example(Document.onnx(#""output_dtype": "uint9""#), at: "\(e).output_dtype"),
    Example(Document.onnx(#""output_dtype": "int""#), at: "\(e).output_dtype"),
    Example(Document.onnx(#""output_dtype": 8"#), at: "\(e).output_dtype"),
    Example(Document.onnx(#""y_scale": 1"#), at: e),
    Example(
      Document.onnx(#""output_dtype": "float8e4m3fn", "y_scale": 1"#), "encodings-unsupported", at: "\(e).output_dtype"),
    Example(Document.onnx(#""output_dtype": "bfloat16""#), "encodings-unsupported", at: "\(e).output_dtype"),
    Example(Document.onnx(#""output_dtype": "float16", "y_scale": 1"#), at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "int8", "bw": 8"#), at: "\(e).bw"),
    Example(Document.onnx(#""output_dtype": "int8", "scale": 8"#), at: "\(e).scale"),
    Example(Document.onnx(#""output_dtype": "int8", "y_zero_point": 0"#), at: "\(e).y_zero_point"),
    Example(Document.onnx(#""output_dtype": "int8", "axis": 0"#), at: "\(e).axis"),
    Example(Document.onnx(#""output_dtype": "int8", "y_scale": 1, "axis": 0"#), at: "\(e).axis"),
    Example(Document.onnx(#""output_dtype": "int8", "y_scale": [1]"#), at: e),
    Example(Document.onnx(#""output_dtype": "int8", "y_scale": [[1]], "axis": 0"#), at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "int8", "y_scale": []"#), at: "\(e).y_scale"),
    Example(
      Document.onnx(#""output_dtype": "int8", "y_scale": [[1], [1, 2]], "axis": 0, "block_size": 2"#),
      at: "\(e).y_scale[1]"),
    Example(Document.onnx(#""output_dtype": "int8", "y_scale": [[1]], "axis": 2, "block_size": 2"#), at: "\(e).axis"),
    Example(
      Document.onnx(#""output_dtype": "int8", "y_scale": [[1]], "axis": 0, "block_size": -2"#), at: "\(e).block_size"),
    Example(Document.onnx(#""output_dtype": "int8", "y_scale": 1, "y_zero_point": [0]"#), at: "\(e).y_zero_point"),
    Example(Document.onnx(#""output_dtype": "int8", "y_scale": 1, "y_zero_point": 128"#), at: "\(e).y_zero_point"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": 1, "y_zero_point": -1"#), at: "\(e).y_zero_point"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": 1, "y_zero_point": 0.5"#), at: "\(e).y_zero_point"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": -1"#), at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": "1""#), at: "\(e).y_scale"),
    Example(
      Document.onnx(
        #""output_dtype": "uint4", "per_block_int_scale": [[1]], "per_channel_float_scale": [[1]], "axis": 1, "block_size": 2"#
      ), at: "\(e).output_dtype"),
    Example(
      Document.onnx(
        #""output_dtype": "int4", "per_block_int_scale": [[1]], "y_scale": [[1]], "axis": 1, "block_size": 2"#),
      at: "\(e).y_scale"),
    Example(
      Document.onnx(
        #""output_dtype": "int4", "per_block_int_scale": [[1, 2]], "per_channel_float_scale": [[1, 1]], "axis": 1, "block_size": 2"#
      ), at: "\(e).per_channel_float_scale"),
    Example(#"{"version": "2.0.0"}"#, at: nil),
    Example(#"{"version": "2.0.0", "encodings": [], "param_encodings": []}"#, at: "param_encodings"),
    Example(#"{"version": "2.0.0", "encodings": [{"output_dtype": "int8"}]}"#, at: e),
    Example(#"{"version": "2.0.0", "encodings": [{"name": "", "output_dtype": "int8"}]}"#, at: e),
    Example(
      #"{"version": "2.0.0", "encodings": [{"name": "x", "output_dtype": "int8"}, {"name": "x", "output_dtype": "int8"}]}"#,
      "encodings-duplicate", at: "encodings[1]"),
  ]

  static let documents = [
    Example("", "json-syntax", at: nil),
    Example("[]", at: nil),
    Example("null", at: nil),
    Example("{} x", "json-syntax", at: nil),
    Example(#"{"version": "3.0.0"}"#, "encodings-version", at: "version"),
    Example(#"{"version": "0.6"}"#, "encodings-version", at: "version"),
    Example(#"{"version": 1}"#, at: "version"),
    Example(#"{"version": "2.0.0", "version": "2.0.0"}"#, "json-duplicate-key", at: "version"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": NaN"#), "json-syntax", at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": -Infinity"#), "json-syntax", at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": 1e999"#), "json-syntax", at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": 01"#), "json-syntax", at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": 1."#), "json-syntax", at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": .5"#), "json-syntax", at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": 0x1"#), "json-syntax", at: e),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": "\ud800""#), "json-syntax", at: "\(e).y_scale"),
    Example(Document.onnx(#""output_dtype": "uint8", "y_scale": "\x""#), "json-syntax", at: "\(e).y_scale"),
    Example("{\"version\": \"a\nb\"}", "json-syntax", at: "version"),
    Example(#"{"version": "2.0.0",}"#, "json-syntax", at: nil),
  ]

  @Test("code, path and tensor", arguments: keyed + listed + onnx + documents)
  func examples(_ example: Example) throws {
    let error = try #require(throws: Diagnostic.self) { try read(example.text) }
    #expect(error.code == example.code && error.location.path == example.path, "\(error)")
    #expect(error.severity == .error && error.kind == .input)
    if example.path?.contains("[0].") == true, !error.code.hasPrefix("json") { #expect(error.location.tensor == "x") }
  }

  /// Every field of every entry in turn: of another kind, then left out.
  @Test("each field wrong, each field missing", arguments: Document.all)
  func eachField(_ text: String) throws {
    let root = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let optional: Set = ["y_zero_point", "version", "producer", "quantizer_args"]
    var count = 0
    func visit(_ value: Any, _ path: String, _ rebuild: (Any?) -> Any) throws {
      func check(_ changed: Any, at place: String) throws {
        let bytes = [UInt8](try JSONSerialization.data(withJSONObject: changed))
        count += 1
        do throws(Diagnostic) {
          _ = try EncodingFile(decoding: bytes)
          Issue.record("\(place) is taken")
        } catch {
          let found = error.location.path ?? ""
          #expect(found.hasPrefix(place), "\(place): \(error)")
        }
      }
      if let object = value as? [String: Any] {
        for key in object.keys.sorted() where !["producer", "quantizer_args"].contains(key) {
          let place = path.isEmpty ? key : "\(path).\(key)"
          func with(_ replacement: Any?) -> Any {
            var copy = object
            copy[key] = replacement
            return rebuild(copy)
          }
          try check(with(["a": 1]), at: place)
          // Names of tensors and what stands alone may be left out.
          let isTensor = path.hasSuffix("_encodings")
          let isAlone = key == "is_symmetric" && text.contains("0.4.0")
          let isEncType = key == "enc_type" && (object["dtype"] as? String) == "FLOAT"
          if !optional.contains(key), !isTensor, !isAlone, !isEncType { try check(with(nil), at: path) }
          if !path.isEmpty, !isTensor {
            var copy = object
            copy["zzz"] = 1
            try check(rebuild(copy), at: "\(path).zzz")
          }
          if let inner = object[key], inner is [String: Any] || inner is [Any] {
            try visit(inner, place, { with($0) })
          }
        }
      } else if let list = value as? [Any] {
        for index in list.indices {
          func with(_ replacement: Any?) -> Any {
            var copy = list
            if let replacement { copy[index] = replacement } else { copy.remove(at: index) }
            return rebuild(copy)
          }
          try check(with(["a": 1]), at: list[index] is [String: Any] ? "\(path)[\(index)]" : path)
          if list[index] is [String: Any] { try visit(list[index], "\(path)[\(index)]", { with($0) }) }
        }
      }
    }
    try visit(root, "", { $0 ?? [:] })
    #expect(count > 15)
  }

  @Test("cut at every byte", arguments: Document.all)
  func truncation(_ text: String) {
    let bytes = Array(text.utf8)
    for count in 0..<bytes.count {
      #expect(throws: Diagnostic.self) { try EncodingFile(decoding: Array(bytes[..<count])) }
    }
  }

  @Test("every byte replaced: an error or a reading, never a crash", arguments: Document.all)
  func damage(_ text: String) {
    let bytes = Array(text.utf8)
    for index in bytes.indices {
      for replacement: UInt8 in [0, 0x22, 0x2D, 0x39, 0x5B, 0x7B, 0xFF] {
        var copy = bytes
        copy[index] = replacement
        _ = try? EncodingFile(decoding: copy)
      }
    }
  }

  @Test("nesting without end does not overflow the stack", arguments: ["[", #"{"a":"#])
  func nesting(_ opening: String) throws {
    let text = #"{"version": "2.0.0", "encodings": "# + String(repeating: opening, count: 1_000_000)
    let error = try #require(throws: Diagnostic.self) { try read(text) }
    #expect(error.code == "json-syntax" && error.message.contains("nested too deeply"))
  }

  @Test("all errors are told at once, up to twenty") func collected() throws {
    let many = (0..<30).map { #"{"name": "t\#($0)", "output_dtype": "int9"}"# }.joined(separator: ",")
    let error = try #require(throws: Diagnostic.self) { try read(#"{"version": "2.0.0", "encodings": [\#(many)]}"#) }
    #expect(error.all.count == 20 && error.all[19].location.tensor == "t19")
  }
}
