import IR
import Operators
import Quantizer
import Runtime
import Testing

/// The backends differ in the order of their sums only: a quantized product of the same operands is at most one code
/// off, where a sum lies on the edge between two.
@Suite struct BackendAgreementTests {
  @Test(arguments: [(1, 7, 5), (3, 64, 9), (17, 360, 24), (5, 1145, 33)], [false, true])
  func productsAreWithinACode(_ size: (rows: Int, inner: Int, columns: Int), _ isData: Bool) throws {
    var random = SplitMix(state: UInt64(size.inner))
    func values(_ count: Int) -> [Float] { (0..<count).map { _ in Float.random(in: -1...3, using: &random) } }
    let weights = values(size.inner * size.columns)
    var network = try graph(
      """
      graph "m" {
        input %x: float32[\(size.rows), \(size.inner)]
        \(isData ? "input" : "const") %w: float32[\(size.inner), \(size.columns)]\
      \(isData ? "" : " = [\(weights.map { "\($0)" }.joined(separator: ", "))]")
        %y: float32[\(size.rows), \(size.columns)] = MatMul(%x, %w) {transpose_in0: false, transpose_in1: false} "m"
        output %y
      }
      """)
    let x = values(size.rows * size.inner)
    var inputs = [Bytes(x)]
    if isData { inputs.append(Bytes(weights)) }
    let sample = inputs
    let statistics = try observe(
      network, backend: ReferenceBackend(), sampleCount: 1, load: { _ throws(Diagnostic) in sample }, jobs: 1)
    network = try assignEncodings(network, statistics: statistics, options: QuantizerOptions()).materialized()
    let step = try #require(network.find("y").encoding?.channels[0].scale)
    let outputs = try [ReferenceBackend(), OneDNNBackend()].map { (backend: any Backend) in
      try backend.prepare(network, options: PlanOptions()).makeWorker().run(inputs)[0].array(of: Float.self)
    }
    let gaps = zip(outputs[0], outputs[1]).map { abs(($0 - $1) / step).rounded() }
    #expect(gaps.allSatisfy { $0 <= 1 })
    #expect(gaps.count(where: { $0 > 0 }) <= max(1, gaps.count / 100))
    #expect(Set(outputs[0]).count > 4)
  }
}
