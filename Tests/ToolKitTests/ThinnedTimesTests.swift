import Testing

@testable import ToolKit

@Suite struct ThinnedTimesTests {
  @Test(arguments: [0, 1, 15, 16, 17, 1000, 100_000])
  func boundedAndEven(count: Int) {
    var times = ThinnedTimes(limit: 16)
    for number in 0..<count { times.add(Double(number)) }
    let kept = times.times.sorted()
    #expect(times.count == count && kept.count == min(count, kept.count) && kept.count <= 18)
    #expect(kept.first == (count > 0 ? 0 : nil) && kept.last == (count > 0 ? Double(count - 1) : nil))
    #expect(count < 16 ? kept.count == count : kept.count >= 8)
    // Evenly spread: the middle one is about half the last.
    if count > 100 { #expect(abs(kept[kept.count / 2] / Double(count) - 0.5) < 0.2) }
  }
}
