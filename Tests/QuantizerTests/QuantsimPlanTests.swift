import Calibration
import EncodingFiles
import IR
import Operators
import Quantizer
import Testing

@Suite("What a runtime configuration does") struct QuantsimPlanTests {
  private func plan(
    _ text: String = convolutions, defaults: String = "", params: String = "", types: String = "",
    supergroups: String = #"{"op_list": ["Conv", "Relu"]}"#, input: String = #""is_input_quantized": "True""#,
    _ change: (inout QuantizerOptions) -> Void = { _ in }
  ) throws -> QuantsimPlan {
    let config = """
      {"defaults": {"ops": {"is_output_quantized": "True"}, "params": {"is_quantized": "True", "is_symmetric": "True"}\(defaults)},
       "params": {"bias": {"is_quantized": "False"}\(params)}, "op_type": {\(types)}, "supergroups": [\(supergroups)],
       "model_input": {\(input)}, "model_output": {}}
      """
    var options = QuantizerOptions()
    change(&options)
    return try QuantsimPlan(
      try graph(text), try QuantsimConfig(decoding: Array(config.utf8)), options: options)
  }

  private func done(_ plan: QuantsimPlan) throws -> Graph {
    try assignEncodings(plan.graph, statistics: statistics(plan.graph, [:]), options: plan.options).graph
  }

  @Test func defaults() throws {
    let plan = try plan()
    #expect(plan.notes.isEmpty && plan.options.paramSchema == .symmetric && !plan.options.perChannel)
    let result = try done(plan)
    #expect(try result.find("w").encoding?.symmetric == true && result.find("w").encoding?.axis == nil)
    #expect(try result.find("x").encoding?.symmetric == false)
    #expect(try result.find("b").encoding?.bitwidth == 32)
  }

  @Test func unknownTypesAreTold() throws {
    let plan = try plan(
      types: #""Conv": {}, "Gather": {}, "Gem": {}, "Frobnicate": {}"#, supergroups: #"{"op_list": ["Conv", "Rellu"]}"#)
    let told = plan.notes.filter { $0.code == "quantsim-unknown-type" }
    #expect(told.map(\.location.path) == ["op_type.Frobnicate", "op_type.Gem", "supergroups[0]"])
    #expect(told.allSatisfy { $0.severity == .warning })
    #expect(told[1].hint?.contains("Gemm") == true && told[2].hint?.contains("Relu") == true)
  }

  @Test func granularityAndSymmetryByType() throws {
    let result = try done(
      plan(types: #""Conv": {"per_channel_quantization": "True"}, "Relu": {"is_symmetric": "True"}"#))
    #expect(try result.find("w").encoding?.axis == 3 && result.find("w2").encoding != nil)
    #expect(try result.find("r").encoding?.symmetric == true && result.find("y").encoding?.symmetric == false)
    let weights = try done(plan(types: #""Conv": {"params": {"weight": {"is_symmetric": "False"}}}"#))
    #expect(try weights.find("w").encoding?.symmetric == false)
  }

  @Test func strictAndUnsigned() throws {
    let result = try done(
      plan(
        defaults: #", "strict_symmetric": "True", "unsigned_symmetric": "True""#,
        types: #""Relu": {"is_symmetric": "True"}"#))
    #expect(try result.find("w").encoding?.codeMin == 1)
    #expect(try result.find("r").encoding?.symmetric == false && result.find("r").encoding?.channels[0].offset == 0)
  }

  @Test func notQuantized() throws {
    let relu = try plan(types: #""Relu": {"is_output_quantized": "False"}"#)
    #expect(try relu.graph.find("r").state == .float && relu.graph.find("y").state == .open)
    let conv = try plan(types: #""Conv": {"params": {"weight": {"is_quantized": "False"}}}"#)
    for name in ["w", "b", "r", "w2", "y"] { #expect(try conv.graph.find(name).state == .float) }
    #expect(try plan(input: "").graph.find("x").state == .float)
  }

  @Test func fixedRanges() throws {
    let result = try done(plan(types: #""Relu": {"encoding_constraints": {"min": 0, "max": 6}}"#))
    let r = try result.find("r")
    #expect(r.encodingSource == .fixed)
    #expect(r.encoding == RangeToEncoding.encoding(min: 0, max: 6, bitwidth: 8, schema: .asymmetric))
    #expect(try result.find("c").encoding == r.encoding)
  }

  @Test func overridesWin() throws {
    let (overriddenGraph, _) = try overridden(try graph(convolutions), [given("r"), given("x")])
    let config = try QuantsimConfig(
      decoding: Array(
        """
        {"defaults": {"ops": {}, "params": {}}, "params": {}, "op_type": {"Relu": {"encoding_constraints": {"min": 0, "max": 6}}},
         "supergroups": [], "model_input": {}, "model_output": {}}
        """.utf8))
    let plan = try QuantsimPlan(overriddenGraph, config, options: QuantizerOptions())
    for name in ["r", "x"] {
      #expect(try plan.graph.find(name).encoding == overriddenGraph.find(name).encoding)
      #expect(try plan.graph.find(name).encodingSource == .override)
    }
    #expect(try plan.graph.find("y").state == .float)
  }

  @Test func kernels() throws {
    let kernels =
      #", "supported_kernels": [{"activation": {"bitwidth": 16, "dtype": "int"}, "param": {"bitwidth": 8, "dtype": "int"}}]"#
    let error = try #require(throws: Diagnostic.self) { try plan(defaults: kernels) }
    #expect(error.code == "quantsim-kernel" && error.location.path == "defaults.supported_kernels")
    #expect(error.message.contains("int8 with weights of int8") && error.message.contains("int16 with int8"))
    #expect(try plan(defaults: kernels) { $0.actBitwidth = 16 }.notes.isEmpty)
  }

  @Test func supergroups() throws {
    #expect(
      try plan(supergroups: #"{"op_list": ["Conv", "Relu"]}, {"op_list": ["Relu", "Conv"]}"#).notes.map(\.location.path)
        == ["supergroups[1]"])
    let none = try plan(supergroups: "")
    #expect(none.notes.map(\.code) == ["quantsim-note"] && none.notes[0].message.hasPrefix("1 fused pairs"))
  }
}
