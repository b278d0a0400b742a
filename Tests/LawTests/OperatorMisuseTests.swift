import IR
import Operators
import Runtime
import Testing

/// Wrong operands and parameters: an operator refuses them by a ``Diagnostic`` or gives a graph that
/// runs, on both backends alike; it never ends the program.
@Suite struct OperatorMisuse {
  /// Largest result that is computed, in elements.
  private let limit = 1 << 16

  @Test(arguments: operatorSamples)
  func operandsOfOtherTypes(_ sample: OperatorSample) throws {
    for index in sample.inputs.indices {
      for type in changed(sample.inputs[index]) {
        var inputs = sample.inputs
        inputs[index] = type
        try attempt(sample.with(sample.op, inputs))
      }
    }
  }

  @Test(arguments: operatorSamples)
  func absentOperands(_ sample: OperatorSample) throws {
    for index in sample.inputs.indices {
      var inputs: [TensorType?] = sample.inputs
      inputs[index] = nil
      _ = try outcome { () throws(Diagnostic) in try sample.op.infer(inputs) }
      try attempt(sample.with(sample.op, Array(sample.inputs[..<index])))
    }
    try attempt(sample.with(sample.op, sample.inputs + sample.inputs))
  }

  /// Every axis that the inputs share at once, too, so that the types still fit each other.
  @Test(arguments: operatorSamples)
  func emptyTensors(_ sample: OperatorSample) throws {
    for axis in 0..<(sample.inputs.map(\.rank).max() ?? 0) {
      for fromEnd in [false, true] {
        let inputs = sample.inputs.map { type in
          var type = type
          let place = fromEnd ? type.rank - 1 - axis : axis
          if type.shape.indices.contains(place) { type.shape[place] = 0 }
          return type
        }
        try attempt(sample.with(sample.op, inputs))
      }
    }
  }

  @Test(arguments: operatorSamples)
  func parametersOutOfRange(_ sample: OperatorSample) throws {
    for (index, attribute) in sample.op.attributes.enumerated() {
      for value in changed(attribute.value) {
        var list = sample.op.attributes
        list[index].value = value
        let made = try outcome { () throws(Diagnostic) in
          try OperatorRegistry.standard.make(sample.op.typeName, list)
        }
        if let made { try attempt(sample.with(made, sample.inputs)) }
      }
    }
  }

  /// A result, or nil where there was a diagnostic.
  private func outcome<Result>(_ body: () throws(Diagnostic) -> Result) throws -> Result? {
    do throws(Diagnostic) {
      return try body()
    } catch {
      #expect(!error.message.isEmpty)
      return nil
    }
  }

  /// Infers and, where that works and the tensors are small, runs on both backends.
  private func attempt(_ sample: OperatorSample) throws {
    guard let types = try outcome({ () throws(Diagnostic) in try sample.op.infer(sample.inputs) })
    else { return }
    let counts = (types + sample.inputs).map { $0.checkedCount() }
    guard counts.allSatisfy({ ($0 ?? .max) <= limit }),
      let graph = try outcome({ () throws(Diagnostic) in try sample.graph(seed: 1) })
    else { return }
    #expect(graph.verify() == [])
    let inputs = sample.values(graph, seed: 2)
    let backends: [any Backend] = [ReferenceBackend(), OneDNNBackend()]
    let results: [[Bytes]?] = try backends.map { backend in
      try outcome { () throws(Diagnostic) in
        try backend.prepare(graph, options: PlanOptions()).makeWorker().run(inputs)
      }
    }
    #expect(results[0]?.map(\.count) == results[1]?.map(\.count))
  }

  private func changed(_ type: TensorType) -> [TensorType] {
    var result = [
      TensorType(type.element, []), TensorType(type.element, [1] + type.shape),
      TensorType(type.element, type.shape + [1]), TensorType(type.element, Array(type.shape.dropLast())),
    ]
    for axis in type.shape.indices {
      for size in [0, 1, type.shape[axis] + 1] {
        var other = type
        other.shape[axis] = size
        result.append(other)
      }
    }
    for element in [DataType.float32, .int64, .int32, .uint8, .bool] where element != type.element {
      result.append(TensorType(element, type.shape))
    }
    return result
  }

  private func changed(_ value: AttributeValue) -> [AttributeValue] {
    let numbers = [-1, 0, 1, 2, 9, 1 << 20, 1 << 40, .max, .min]
    switch value {
    case .bool(let flag): return [.bool(!flag), .int(7), .string("yes")]
    case .int: return numbers.map { .int($0) } + [.float(1), .ints([])]
    case .float: return [.float(.nan), .float(.infinity), .float(0), .float(-1), .float(.greatestFiniteMagnitude)]
    case .string: return [.string(""), .string("nonsense"), .int(1)]
    case .floats: return [.floats([]), .floats([.nan])]
    case .ints(let list):
      var result: [AttributeValue] = [
        .ints([]), .ints(Array(list.dropLast())), .ints(list + [0]), .ints(list.reversed()),
      ]
      for index in list.indices {
        for number in numbers {
          var other = list
          other[index] = number
          result.append(.ints(other))
        }
      }
      return result
    }
  }
}

extension OperatorSample {
  /// The same values with another operator and other types.
  func with(_ op: any Operator, _ inputs: [TensorType]) -> OperatorSample {
    OperatorSample(
      op, inputs, integerLimit: integerLimit, positive: positive, bounded: bounded, offset: offset)
  }
}
