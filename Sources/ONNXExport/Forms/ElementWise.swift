import IR
import Operators

extension ExportSession {
  /// A node of one ONNX operator that works element by element on all operands, which broadcast.
  func emitElementWise(
    _ opType: String, _ node: Node, _ attributes: [(String, ONNXAttribute)] = [], since: Int = 1
  ) throws(Diagnostic) {
    let layout = sharedLayout(node)
    let inputs = try elementWiseInputs(node, layout)
    try emit(opType, inputs, attributes, for: node, layouts: [layout], since: since)
  }

  /// Names of all operands in a layout.
  func elementWiseInputs(_ node: Node, _ layout: [Int]) throws(Diagnostic) -> [String] {
    var names: [String] = []
    for slot in node.inputs.indices {
      names.append(try broadcastName(try operand(node, slot), layout))
    }
    return names
  }

  /// The name of an ONNX operator, or the error that there is none.
  func onnxName(_ typeName: String, _ table: [String: String]) throws(Diagnostic) -> String {
    guard let name = table[typeName] else {
      throw Diagnostic("onnx-no-form", "\(typeName) cannot be written as ONNX")
    }
    return name
  }
}

/// ONNX's names of the functions of one operand.
private let unaryNames = [
  "ElementWiseExp": "Exp", "ElementWiseLog": "Log", "ElementWiseNeg": "Neg",
  "ElementWiseAbs": "Abs", "ElementWiseSquareRoot": "Sqrt", "ElementWiseReciprocal": "Reciprocal",
  "ElementWiseFloor": "Floor", "ElementWiseCeil": "Ceil", "ElementWiseRound": "Round",
  "ElementWiseSin": "Sin", "ElementWiseCos": "Cos", "Sigmoid": "Sigmoid", "Tanh": "Tanh",
  "ElementWiseErf": "Erf", "ElementWiseSign": "Sign", "ElementWiseTan": "Tan",
  "ElementWiseAsin": "Asin", "ElementWiseAcos": "Acos", "ElementWiseAtan": "Atan",
  "ElementWiseSinh": "Sinh", "ElementWiseCosh": "Cosh", "ElementWiseAsinh": "Asinh",
  "ElementWiseAcosh": "Acosh", "ElementWiseAtanh": "Atanh", "ElementWiseSoftplus": "Softplus",
  "ElementWiseSoftsign": "Softsign", "Mish": "Mish", "BitwiseNot": "BitwiseNot",
]

extension ElementWiseUnary: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    if typeName == "ElementWiseRsqrt" {
      let layout = session.sharedLayout(node)
      let inputs = try session.elementWiseInputs(node, layout)
      let root = session.scratch("Sqrt", inputs, for: node, "root")
      return try session.emit("Reciprocal", [root], for: node, layouts: [layout])
    }
    let name = try session.onnxName(typeName, unaryNames)
    try session.emitElementWise(name, node, since: ["Mish", "BitwiseNot"].contains(name) ? 18 : 13)
  }
}

/// ONNX's names of the functions of two operands.
private let binaryNames = [
  "ElementWiseAdd": "Add", "ElementWiseSubtract": "Sub", "ElementWiseMultiply": "Mul",
  "ElementWiseDivide": "Div", "ElementWiseMaximum": "Max", "ElementWiseMinimum": "Min",
  "ElementWisePower": "Pow",
]

extension ElementWiseBinary: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    switch typeName {
    case "BitShiftLeft", "BitShiftRight":
      let direction = typeName == "BitShiftLeft" ? "LEFT" : "RIGHT"
      try session.emitElementWise("BitShift", node, [("direction", .string(direction))])
    case "BitwiseAnd", "BitwiseOr", "BitwiseXor": try session.emitElementWise(typeName, node, since: 18)
    case "ElementWiseFmod": try session.emitElementWise("Mod", node, [("fmod", .int(1))], since: 13)
    case "ElementWiseMod":
      if session.type(try session.operand(node, 0)).element.isInteger {
        return try session.emitElementWise("Mod", node, since: 13)
      }
      try exportFloatModulus(node, session)
    default:
      try session.emitElementWise(try session.onnxName(typeName, binaryNames), node, since: 14)
    }
  }

  /// ONNX has only C's remainder for floats: where its sign is not the divisor's, the divisor is added.
  private func exportFloatModulus(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let layout = session.sharedLayout(node)
    let inputs = try session.elementWiseInputs(node, layout)
    let zero = try session.scalar(0, .float32, node.name + "_zero")
    let rest = session.scratch("Mod", inputs, [("fmod", .int(1))], for: node, "rest", since: 13)
    let isNegative = session.scratch("Less", [rest, zero], for: node, "negative")
    let divisorIsNegative = session.scratch("Less", [inputs[1], zero], for: node, "divisor_negative")
    let differs = session.scratch("Xor", [isNegative, divisorIsNegative], for: node, "differs")
    let isZero = session.scratch("Equal", [rest, zero], for: node, "whole")
    let isNotZero = session.scratch("Not", [isZero], for: node, "broken")
    let moves = session.scratch("And", [differs, isNotZero], for: node, "moves")
    let moved = session.scratch("Add", [rest, inputs[1]], for: node, "moved")
    try session.emit("Where", [moves, moved, rest], for: node, layouts: [layout])
  }
}

/// ONNX's names of comparisons.
private let comparisonNames = [
  "ElementWiseEqual": "Equal", "ElementWiseLess": "Less", "ElementWiseLessEqual": "LessOrEqual",
  "ElementWiseGreater": "Greater", "ElementWiseGreaterEqual": "GreaterOrEqual",
]

extension Comparison: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise(try session.onnxName(typeName, comparisonNames), node, since: 16)
  }
}

/// ONNX's names of logical operators.
private let logicalNames = ["ElementWiseAnd": "And", "ElementWiseOr": "Or", "ElementWiseXor": "Xor"]

extension Logical: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise(try session.onnxName(typeName, logicalNames), node)
  }
}

extension ElementWiseNot: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise("Not", node)
  }
}

extension ElementWiseSelect: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise("Where", node, since: 16)
  }
}

extension Predicate: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let names = ["ElementWiseIsNaN": "IsNaN"]
    try session.emitElementWise(try session.onnxName(typeName, names), node, since: 13)
  }
}

extension Cast: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise("Cast", node, [("to", .int(Int(to.onnxCode)))], since: 13)
  }
}

/// In the quantized form the encoding of the output does the work.
extension Border: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let source = try session.operand(node, 0)
    try session.alias(node, of: source, layout: session.layout(of: source))
  }
}
