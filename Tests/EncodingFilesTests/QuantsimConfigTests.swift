import EncodingFiles
import Foundation
import IR
import Testing

@Suite("AIMET's runtime configuration") struct QuantsimConfigTests {
  static let text = """
    {"defaults": {"ops": {"is_output_quantized": "True"}, "params": {"is_quantized": "True", "is_symmetric": "True"},
                  "strict_symmetric": "False", "per_channel_quantization": "False", "hw_version": "V73",
                  "supported_kernels": [{"activation": {"bitwidth": 8, "dtype": "int"}, "param": {"bitwidth": 8, "dtype": "int"}}]},
     "params": {"bias": {"is_quantized": "False"}},
     "op_type": {"Conv": {"per_channel_quantization": "True", "params": {"weight": {"is_symmetric": "False"}}},
                 "Softmax": {"encoding_constraints": {"min": 0.0, "max": 1.0}},
                 "Cast": {"is_output_quantized": "False"}},
     "supergroups": [{"op_list": ["Conv", "Relu"]}], "supergroup_pass_list": ["MatmulAdd"],
     "model_input": {"is_input_quantized": "True"}, "model_output": {}}
    """

  @Test func reading() throws {
    let config = try QuantsimConfig(decoding: Array(Self.text.utf8))
    #expect(config.defaults.isOutputQuantized == true && config.defaults.isSymmetric == nil)
    #expect(config.quantizesInputs && !config.quantizesOutputs && config.hardware == "V73")
    #expect(config.operators["Conv"]?.isPerChannel == true && config.defaults.isPerChannel == false)
    #expect(config.operators["Softmax"]?.maximum == 1 && config.supergroups == [["Conv", "Relu"]])
    #expect(config.defaults.kernels?.first?.parameter?.bitwidth == 8)
  }

  @Test("the more specific wins") func precedence() throws {
    let config = try QuantsimConfig(decoding: Array(Self.text.utf8))
    #expect(config.parameter("weight", of: "Gemm") == .init(isQuantized: true, isSymmetric: true))
    #expect(config.parameter("weight", of: "Conv") == .init(isQuantized: true, isSymmetric: false))
    #expect(config.parameter("bias", of: "Conv") == .init(isQuantized: false, isSymmetric: true))
  }

  /// A part of the text, what takes its place, and the path of the error.
  static let wrong: [(String, String, String)] = [
    (#""hw_version": "V73""#, #""hw": "V73""#, "defaults.hw"),
    (#""is_output_quantized": "True""#, #""is_output_quantized": "False""#, "defaults.ops.is_output_quantized"),
    (#""is_output_quantized": "True""#, #""is_output_quantized": true"#, "defaults.ops.is_output_quantized"),
    (#""is_output_quantized": "True""#, #""is_input_quantized": "True""#, "defaults.ops.is_input_quantized"),
    (#""strict_symmetric": "False""#, #""strict_symmetric": "false""#, "defaults.strict_symmetric"),
    (#""bitwidth": 8"#, #""bitwidth": 12"#, "defaults.supported_kernels[0].activation.bitwidth"),
    (#""dtype": "int""#, #""dtype": "float""#, "defaults.supported_kernels[0].activation.bitwidth"),
    (#""dtype": "int""#, #""type": "int""#, "defaults.supported_kernels[0].activation.type"),
    (#""is_quantized": "False""#, #""is_quantised": "False""#, "params.bias.is_quantised"),
    (
      #""encoding_constraints": {"min": 0.0, "max": 1.0}"#, #""encoding_constraints": {"max": 1.0}"#,
      "op_type.Softmax.encoding_constraints"
    ),
    (#"{"min": 0.0"#, #"{"min": 2.0"#, "op_type.Softmax.encoding_constraints.min"),
    (#""Cast": {"#, #""Cast": {"is_input_quantized": "False", "#, "op_type.Cast.is_input_quantized"),
    (#"["Conv", "Relu"]"#, #"["Conv"]"#, "supergroups[0].op_list"),
    (#"["Conv", "Relu"]"#, #"["Conv", 1]"#, "supergroups[0].op_list[1]"),
    (#"["MatmulAdd"]"#, #"["MatmulSub"]"#, "supergroup_pass_list[0]"),
    (#""model_input": {"#, #""model_input": {"x": 1, "#, "model_input.x"),
    (#""model_output": {}"#, #""model_output": {"is_output_quantized": "False"}"#, "model_output.is_output_quantized"),
    (#""op_type": {"#, #""more": {}, "op_type": {"#, "more"),
  ]

  @Test("errors with the JSON path", arguments: wrong.indices) func malformed(_ index: Int) throws {
    let (part, other, path) = Self.wrong[index]
    let range = try #require(Self.text.range(of: part))
    let text = Self.text.replacingCharacters(in: range, with: other)
    let error = try #require(throws: Diagnostic.self) { try QuantsimConfig(decoding: Array(text.utf8)) }
    #expect(error.code == "quantsim-format" && error.location.path == path, "\(error)")
  }

  @Test(
    "the six parts are required",
    arguments: ["defaults", "params", "op_type", "supergroups", "model_input", "model_output"])
  func required(_ key: String) throws {
    var root = try #require(
      try JSONSerialization.jsonObject(with: Data(Self.text.utf8)) as? [String: Any])
    root[key] = nil
    let text = String(decoding: try JSONSerialization.data(withJSONObject: root), as: UTF8.self)
    let error = try #require(throws: Diagnostic.self) { try QuantsimConfig(decoding: Array(text.utf8)) }
    #expect(error.message.contains("\"\(key)\" is missing"))
  }
}
