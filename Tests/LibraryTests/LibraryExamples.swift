import Calibration
import Foundation
import IR
import Testing

/// The examples of docs/library.md, run. What stands between `// example` and `// end` is what the
/// page shows; ``LibraryPage`` compares the two.
@Suite("Examples of docs/library.md") struct LibraryExamples {
  @Test func analyzers() throws {
    // example analyzers
    var analyzer = SqnrEncodingAnalyzer(numBins: 2048, gamma: 3)
    analyzer.update([-1.0, -0.2, 0.1, 0.4, 2.5])
    analyzer.update([-0.8, 0.3, 0.9])
    let range = analyzer.compute(numSteps: 255, symmetric: false)[0]
    print(range.minimum, range.maximum, range.scale(numSteps: 255))
    analyzer.reset()
    // end
    #expect(range.minimum <= 0 && range.maximum > 2 && range.maximum < 2.6)
    #expect(analyzer.compute(numSteps: 255, symmetric: false).isEmpty)
  }

  @Test func channels() throws {
    // example channels
    var analyzer = MinMaxEncodingAnalyzer(shape: [2, 1])
    analyzer.update([1, 2, 3, -4, 0, 4], dimensions: [2, 3])
    let ranges = analyzer.compute(numSteps: 255, symmetric: true)
    print(ranges.map(\.maximum))  // one range for each of the two rows
    // end
    #expect(ranges.count == 2)
    #expect(abs(ranges[0].maximum - 3) < 1e-6)
    #expect(abs(ranges[1].minimum + 4 * 128 / 127) < 0.04)
  }

  @Test func percentile() throws {
    // example percentile
    var analyzer = PercentileEncodingAnalyzer(percentile: 99)
    analyzer.update((0..<1000).map { Float($0) / 100 } + [1000])
    let range = analyzer.compute(numSteps: 255, symmetric: false)[0]
    print(range.maximum)  // the one outlier is clipped
    // end
    #expect(range.maximum < 20)
  }

  @Test func observers() throws {
    // example observers
    var observer = HistogramObserver([0.1, 0.5, -0.3])
    observer.merge(HistogramObserver([2.0, 0.4]))
    let calibrator = Calibrator(method: .sqnr, schema: .asymmetric, bitwidth: 8)
    let encoding = try calibrator.encoding(of: observer)
    print(encoding.channels[0].scale, encoding.channels[0].offset)
    // end
    #expect(encoding.minimum() <= -0.29 && encoding.maximum() >= 1.9)
  }

  @Test func quantizing() throws {
    // example quantizing
    let encoding = RangeToEncoding.encoding(min: -1.8, max: 0.5, bitwidth: 8, schema: .asymmetric)
    let codes = encoding.codes(of: [-1.8, -1.0, 0, 0.5], shape: [4])
    let values = encoding.values(of: codes, shape: [4])
    print(codes)  // [0, 89, 200, 255]
    print(values)  // -1.8039, -1.0012, 0, 0.4961
    // end
    #expect(codes == [0, 89, 200, 255])
    for (value, expected) in zip(values, [Float(-1.8039), -1.0012, 0, 0.4961]) {
      #expect(abs(value - expected) < 1e-4)
    }
  }

  @Test func weights() throws {
    // example weights
    let weights: [Float] = [0.5, -0.25, 8, -4]  // two rows
    let calibrator = Calibrator(method: .mse, schema: .symmetric, bitwidth: 4)
    let encoding = try calibrator.encoding(of: weights, shape: [2, 2], axis: 0)
    print(encoding.channels.map(\.scale))  // a scale a row
    // end
    #expect(encoding.channels.count == 2)
    #expect(encoding.channels[1].scale > encoding.channels[0].scale)
  }
}

/// That docs/library.md shows what is run.
@Suite struct LibraryPage {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  @Test func showsTheExamplesThatRun() throws {
    let source = try String(contentsOf: URL(fileURLWithPath: #filePath), encoding: .utf8)
    let page = try String(contentsOf: Self.root.appending(path: "docs/library.md"), encoding: .utf8)
    var examples: [String: String] = [:]
    var current: (name: String, lines: [String])?
    for line in source.split(separator: "\n", omittingEmptySubsequences: false) {
      let text = line.drop { $0 == " " }
      if text.hasPrefix("// example ") {
        current = (String(text.dropFirst(11)), [])
      } else if text == "// end", let (name, lines) = current {
        examples[name] = lines.joined(separator: "\n")
        current = nil
      } else if current != nil {
        current?.lines.append(String(line.dropFirst(4)))
      }
    }
    #expect(examples.count == 6)
    for (name, text) in examples {
      #expect(page.contains("```swift\n\(text)\n```"), "example \(name) differs from the page")
    }
  }
}
