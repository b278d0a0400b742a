import Testing

@testable import IR

/// Constants in pieces, and what the pieces cost.
@Suite("constants in pieces") struct BlockwiseTests {
  /// Owned memory that notes what it is asked to give back.
  private final class Recorder: PageOwner {
    var discarded: [Range<Int>] = []
    private let memory: UnsafeMutableRawPointer
    private let count: Int

    init(count: Int) {
      self.count = count
      memory = .allocate(byteCount: count, alignment: 64)
      for index in 0..<count {
        memory.storeBytes(of: UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8), toByteOffset: index, as: UInt8.self)
      }
    }

    deinit { memory.deallocate() }

    func discardPages(_ range: UnsafeRawBufferPointer) {
      guard let base = range.baseAddress else { return }
      let first = base - UnsafeRawPointer(memory)
      discarded.append(first..<first + range.count)
    }

    var bytes: Bytes { Bytes(owner: self, base: UnsafeRawPointer(memory), count: count) }
  }

  private func collected(_ constant: Constant, of size: Int) -> (bytes: [UInt8], largest: Int) {
    var (bytes, largest) = ([UInt8](), 0)
    constant.forEachBlock(of: size) {
      bytes += $0
      largest = max(largest, $0.count)
    }
    return (bytes, largest)
  }

  @Test("pieces together are the whole", arguments: [DataType.uint8, .float16, .float32, .int64])
  func whole(_ element: DataType) {
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 3, 1], [1, 0, 2, 3], [2, 3, 1, 0], [0, 3, 1, 2]]
    for shape in [[3, 5, 7, 2], [1, 17, 1, 33], [20, 1, 3, 40], [64, 3, 1, 1]] {
      let type = TensorType(element, shape)
      let constant = Constant(type: type, bytes: Recorder(count: type.byteCount).bytes)
      for order in orders {
        let moved = constant.permuted(order)
        let dense = moved.materialized().array(of: UInt8.self)
        for size in [64, 200, 1 << 20] {
          #expect(collected(moved, of: size).bytes == dense, "\(shape) \(order) \(size)")
        }
      }
    }
  }

  @Test("floats in pieces are the floats", arguments: [DataType.float32, .float16, .int8])
  func floats(_ element: DataType) {
    let shape = [7, 300, 251]
    let count = shape.reduce(1, *)
    let bytes = Bytes((0..<count * element.byteWidth).map { UInt8(truncatingIfNeeded: $0 % 251 % 64) })
    let constant = Constant(type: TensorType(element, shape), bytes: bytes)
    for moved in [constant, constant.permuted([2, 0, 1])] {
      let dense = Constant(type: moved.type, bytes: moved.materialized())
      var pieces: [Float] = []
      moved.forEachFloats { pieces += $0 }
      #expect(pieces.count == count && moved.floats() == pieces)
      for index in stride(from: 0, to: count, by: 997) {
        let one = dense.stored.window(from: index * element.byteWidth, count: element.byteWidth)
        let value = one.map { Constant(type: TensorType(element, [1]), bytes: $0).floats() }
        #expect(value == [pieces[index]])
      }
    }
  }

  @Test("element by element, a permutation puts each in its place") func places() {
    let shape = [4, 18, 35]
    let values = (0..<4 * 18 * 35).map { Float($0) }
    let moved = Constant(values, shape: shape).permuted([2, 0, 1])
    let result = moved.floats()
    for a in 0..<4 {
      for b in 0..<18 {
        for c in 0..<35 { #expect(result[(c * 4 + a) * 18 + b] == values[(a * 18 + b) * 35 + c]) }
      }
    }
  }

  @Test("a reshape between permutations gives the same as copying") func reshapes() {
    let values = (0..<2 * 6 * 35).map { Float($0) }
    func dense(_ constant: Constant) -> Constant {
      Constant(type: constant.type, bytes: constant.materialized())
    }
    let image = Constant(values, shape: [2, 6, 5, 7]).permuted([0, 2, 3, 1])
    for (shape, order) in [
      ([2, 210], [1, 0]), ([2, 35, 6], [2, 1, 0]), ([70, 6], [1, 0]), ([2, 7, 30], [2, 0, 1]),
    ] {
      let lazy = image.reshaped(shape).permuted(order)
      #expect(lazy.floats() == dense(dense(image).reshaped(shape)).permuted(order).floats(), "\(shape)")
    }
    // Back again: axes that were merged are taken apart.
    #expect(image.permuted([0, 3, 1, 2]).pending == nil)
    #expect(image.reshaped([2, 35, 6]).permuted([0, 2, 1]).pending == nil)
    #expect(image.reshaped([70, 6]).permuted([1, 0]).stored.base == image.stored.base)
    // 3 is no factor of an axis of 10 behind one of 7: this is copied.
    let odd = Constant(values, shape: [42, 10]).permuted([1, 0]).reshaped([15, 28])
    #expect(odd.permuted([1, 0]).floats() == dense(odd).permuted([1, 0]).floats())
    #expect(image.reshaped([2, 210]).stored.base == image.stored.base)
  }

  @Test("memory does not grow with the constant") func memory() {
    let type = TensorType(.float32, [64, 32, 48])
    for order in [[0, 1, 2], [0, 2, 1], [2, 1, 0]] {
      let recorder = Recorder(count: type.byteCount)
      let constant = Constant(type: type, bytes: recorder.bytes).permuted(order)
      let size = 4096
      #expect(collected(constant, of: size).largest <= 16 * size)
      let covered = recorder.discarded.reduce(into: Set<Int>()) { $0.formUnion($1) }
      #expect(covered.count == type.byteCount)
    }
  }

  @Test("places of elements, found in pieces") func searching() {
    var values = [Float](repeating: 1, count: 300_000)
    #expect(Constant(values, shape: [300_000]).firstNaN == nil)
    values[250_001] = .nan
    let constant = Constant(values, shape: [3, 100_000])
    #expect(constant.firstNaN == 250_001)
    #expect(constant.permuted([1, 0]).firstNaN == 50_001 * 3 + 2)
    let codes = Constant(type: TensorType(.int8, [300_000]), bytes: Bytes([Int8](repeating: 3, count: 299_999) + [-7]))
    #expect(codes.firstInteger { $0 < 0 } == 299_999)
    #expect(codes.firstInteger { $0 > 3 } == nil)
  }

  @Test("the hash is the same with and without the processor's instructions") func hashing() {
    let bytes = (0..<64 * 9).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    var (one, other) = ([UInt32](0..<8), [UInt32](0..<8))
    bytes.withUnsafeBytes {
      compressBlocks($0, into: &one)
      compressPortably($0, into: &other)
    }
    #expect(one == other)
  }
}
