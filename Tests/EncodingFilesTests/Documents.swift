import EncodingFiles
import IR
import Testing

/// The examples of the layouts: one tensor x (uint8 asymmetric), one weight w (int8, two channels), floats,
/// blocks. Source: AIMET's specification pages and files of aimet-onnx 2.42.0, with numbers of our own.
enum Document {
  static let v04 = """
    {"version": "0.4.0",
     "activation_encodings": {"x": [{"bitwidth": 8, "is_symmetric": "False", "min": -1.0, "max": 1.55, "scale": 0.01, "offset": -100.0}]},
     "param_encodings": {"w": [{"bitwidth": 8, "is_symmetric": "True", "min": -1.28, "max": 1.27, "scale": 0.01, "offset": -128.0},
                               {"bitwidth": 8, "is_symmetric": "True", "min": -2.56, "max": 2.54, "scale": 0.02, "offset": -128.0}]}}
    """
  static let v05 = """
    {"version": "0.5.0",
     "activation_encodings": {"x": [{"dtype": "int", "bitwidth": 8, "is_symmetric": "False", "min": -1.0, "max": 1.55, "scale": 0.01, "offset": -100.0}],
                              "h": [{"dtype": "float", "bitwidth": 16}]},
     "param_encodings": {"w": [{"dtype": "float", "bitwidth": 16}]}}
    """
  static let v061 = """
    {"version": "0.6.1", "producer": {"package": "aimet-onnx", "version": "2.42.0"},
     "quantizer_args": {"activation_bitwidth": 8, "param_bitwidth": 8, "dtype": "int", "is_symmetric": true, "per_channel_quantization": true, "quant_scheme": "min_max"},
     "activation_encodings": {"x": [{"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": -1.0, "max": 1.55, "offset": -100.0, "scale": 0.01}]},
     "param_encodings": {"w": [{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "min": -1.28, "max": 1.27, "offset": -128.0, "scale": 0.01},
                               {"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "min": -2.56, "max": 2.54, "offset": -128.0, "scale": 0.02}]}}
    """
  static let v1 = """
    {"version": "1.0.0",
     "activation_encodings": [{"name": "x", "dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": false, "scale": [0.01], "offset": [-100.0]},
                              {"name": "h", "dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR"}],
     "param_encodings": [{"name": "w", "dtype": "INT", "bw": 8, "enc_type": "PER_CHANNEL", "is_sym": true, "scale": [0.01, 0.02], "offset": [-128.0, -128.0]},
                         {"name": "v", "dtype": "INT", "bw": 4, "enc_type": "PER_BLOCK", "is_sym": true, "block_size": 2, "scale": [0.1, 0.2, 0.3, 0.4], "offset": [-8.0, -8.0, -8.0, -8.0]},
                         {"name": "u", "dtype": "INT", "bw": 8, "compressed_bw": 4, "enc_type": "LPBQ", "is_sym": true, "block_size": 2,
                          "scale": [0.0125, 0.025], "per_block_int_scale": [16, 8, 16, 12], "offset": [-128, -128]}]}
    """
  static let v2 = """
    {"version": "2.0.0", "producer": {"package": "aimet-onnx", "version": "2.42.0"},
     "encodings": [{"name": "x", "output_dtype": "uint8", "y_scale": 0.01, "y_zero_point": 100},
                   {"name": "w", "output_dtype": "int8", "y_scale": [0.01, 0.02], "axis": 0},
                   {"name": "b", "output_dtype": "int32", "y_scale": [0.0001, 0.0002], "axis": 0},
                   {"name": "v", "output_dtype": "int4", "y_scale": [[0.1, 0.2], [0.3, 0.4]], "axis": 1, "block_size": 2},
                   {"name": "u", "output_dtype": "int4", "per_channel_float_scale": [[0.0125], [0.025]], "per_block_int_scale": [[16, 8], [16, 12]], "axis": 1, "block_size": 2}]}
    """
  static let all = [v04, v05, v061, v1, v2]

  /// A 0.6.1 file with one activation x made of these members.
  static func keyed(_ members: String, param: String = "") -> String {
    #"{"version": "0.6.1", "activation_encodings": {"x": [{\#(members)}]}, "param_encodings": {\#(param)}}"#
  }

  /// A 1.0.0 file with one activation x with these members.
  static func listed(_ members: String) -> String {
    #"{"version": "1.0.0", "activation_encodings": [{"name": "x", \#(members)}], "param_encodings": []}"#
  }

  /// A 2.0.0 file with one entry x with these members.
  static func onnx(_ members: String) -> String {
    #"{"version": "2.0.0", "encodings": [{"name": "x", \#(members)}]}"#
  }
}

func read(_ text: String) throws(Diagnostic) -> EncodingFile { try EncodingFile(decoding: Array(text.utf8)) }

/// The only entry of a file.
func entry(_ text: String) throws -> EncodingEntry {
  let file = try read(text)
  return try #require(file.entries.count == 1 ? file.entries[0] : nil)
}

extension EncodingFile {
  func find(_ name: String) throws -> EncodingEntry {
    try #require(entries.first { $0.name == name })
  }
}
