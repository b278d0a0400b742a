import Foundation
import IR
import Testing

@testable import ToolKit

@Suite struct StagedFolderTests {
  /// Runs that began before the folder was there end in it one after the other; nothing hidden stays.
  @Test func severalRunsIntoOneFolder() throws {
    let scratch = try ScratchFolder()
    let target = "\(scratch.path)/results"
    do {
      let folders = try (0..<3).map { _ in try StagedFolder(target: target) }
      for (number, folder) in folders.enumerated() {
        try folder.write(Bytes([UInt8(number)]), folder: "Result_0", name: "y.raw")
        try folder.write(Bytes([UInt8(number)]), folder: "Own_\(number)", name: "y.raw")
      }
      for folder in folders { try folder.commit() }
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: target).sorted()
    #expect(names == ["Own_0", "Own_1", "Own_2", "Result_0"])
    #expect(FileManager.default.contents(atPath: "\(target)/Result_0/y.raw") == Data([2]))
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path) == ["results"])
  }
}
