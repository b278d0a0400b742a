// swift-tools-version: 6.0
import PackageDescription

let arguments: Target.Dependency = .product(
  name: "ArgumentParser", package: "swift-argument-parser")

// Layers: a target imports only what stands above it (docs/architecture.md).
let package = Package(
  name: "qtools",
  products: [
    .executable(name: "qconvert", targets: ["qconvert"]),
    .executable(name: "qquantize", targets: ["qquantize"]),
    .executable(name: "qinspect", targets: ["qinspect"]),
    .executable(name: "qrun", targets: ["qrun"]),
    .library(name: "Calibration", targets: ["Calibration", "IR"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // C walls.
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(
      name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
    .target(name: "COnnxProto", dependencies: ["CProtobufC"]),
    .target(
      name: "CDLCSchema",
      cxxSettings: [
        .headerSearchPath("generated"), .define("FLATBUFFERS_MAX_ALIGNMENT", to: "64"),
      ]),
    .target(
      name: "COneDNN", linkerSettings: [.linkedLibrary("dnnl"), .linkedLibrary("gomp")]),
    .target(name: "CKernels"),
    .target(name: "CIntegers"),
    .target(name: "CDigest"),
    .systemLibrary(name: "CSystem"),

    // Layers.
    .target(name: "IR", dependencies: ["CDigest"]),
    .target(name: "Operators", dependencies: ["IR"]),
    .target(name: "Passes", dependencies: ["IR", "Operators"]),
    .target(name: "ONNXModel", dependencies: ["IR", "Operators", "COnnxProto"]),
    .target(name: "ONNXExport", dependencies: ["IR", "Operators", "COnnxProto"]),
    .target(name: "Container", dependencies: ["IR", "CDLCSchema", "CZlib", "CSystem"]),
    .target(name: "Runtime", dependencies: ["IR", "Operators", "COneDNN", "CIntegers", "CKernels"]),
    .target(name: "EncodingFiles", dependencies: ["IR"]),
    .target(name: "Calibration", dependencies: ["IR"]),
    .target(
      name: "Quantizer", dependencies: ["IR", "Operators", "Runtime", "Calibration", "EncodingFiles"]),
    .target(
      name: "Measurement",
      dependencies: ["IR", "Operators", "Runtime", "Calibration", "Quantizer", "EncodingFiles"]),
    .target(
      name: "Recovery", dependencies: ["IR", "Operators", "Runtime", "Calibration", "Quantizer"]),
    .target(name: "Inspection", dependencies: ["IR"]),
    .target(name: "ToolKit", dependencies: ["IR", arguments, .product(name: "Yams", package: "Yams")]),
    .target(
      name: "EncodingTool", dependencies: ["ToolKit", "IR", "EncodingFiles", "Quantizer", arguments]),
    .target(
      name: "QuantizeTool",
      dependencies: [
        "ToolKit", "EncodingTool", "EncodingFiles", "IR", "Operators", "Runtime", "Calibration", "Quantizer",
        "Measurement", "Recovery", "Container", arguments,
      ]),

    // Programs.
    .executableTarget(
      name: "qconvert",
      dependencies: [
        "ToolKit", "EncodingTool", "QuantizeTool", "IR", "Operators", "ONNXModel", "Passes", "Quantizer",
        "Container", "Runtime", arguments,
      ]),
    .executableTarget(
      name: "qquantize",
      dependencies: [
        "ToolKit", "QuantizeTool", "IR", "Operators", "Container", arguments,
      ]),
    .executableTarget(
      name: "qinspect",
      dependencies: [
        "ToolKit", "IR", "Operators", "Inspection", "ONNXExport", "EncodingFiles", "Quantizer",
        "Container", arguments,
      ]),
    .executableTarget(
      name: "qrun",
      dependencies: [
        "ToolKit", "IR", "Operators", "ONNXModel", "Passes", "Runtime", "Calibration", "Quantizer", "Measurement",
        "Container", arguments,
      ]),

    // For development: no product of the package.
    .executableTarget(
      name: "qfuzz",
      dependencies: [
        "CSystem", "CZlib", "ToolKit", "QuantizeTool", "IR", "Operators", "ONNXModel", "Passes", "EncodingFiles",
        "Quantizer", "Inspection", "Runtime", "Container", arguments,
      ]),
    .executableTarget(
      name: "qcases",
      dependencies: [
        "ToolKit", "IR", "Operators", "ONNXModel", "Passes", "Quantizer", "Runtime", "Container",
      ]),

    .testTarget(name: "IRTests", dependencies: ["IR", "Operators"]),
    .testTarget(
      name: "PassesTests", dependencies: ["IR", "Operators", "Passes", "Runtime"],
      exclude: ["Cases"]),
    .testTarget(
      name: "LawTests",
      dependencies: ["IR", "Operators", "ONNXModel", "ONNXExport", "Runtime", "Container"]),
    .testTarget(name: "ONNXModelTests", dependencies: ["IR", "Operators", "ONNXModel"]),
    .testTarget(name: "ContainerTests", dependencies: ["IR", "Container"]),
    .testTarget(name: "RuntimeTests", dependencies: ["IR", "Operators", "Runtime"]),
    .testTarget(
      name: "QuantizerTests",
      dependencies: [
        "IR", "Operators", "Runtime", "Calibration", "Quantizer", "EncodingFiles", "Passes", "ONNXModel",
      ]),
    .testTarget(
      name: "RecoveryTests", dependencies: ["IR", "Operators", "Runtime", "Calibration", "Quantizer", "Recovery"]),
    .testTarget(
      name: "MeasurementTests",
      dependencies: ["IR", "Operators", "Runtime", "Calibration", "Quantizer", "EncodingFiles", "Measurement"]),
    .testTarget(name: "LibraryTests", dependencies: ["IR", "Calibration"]),
    .testTarget(
      name: "EncodingFilesTests", dependencies: ["IR", "EncodingFiles"], exclude: ["AIMET"]),
    .testTarget(name: "InspectionTests", dependencies: ["IR", "Operators", "Inspection"]),
    .testTarget(name: "ToolKitTests", dependencies: ["IR", "ToolKit"]),
    .testTarget(name: "FuzzTests", dependencies: ["IR", "qfuzz"]),
    .testTarget(
      name: "ToolTests", dependencies: ["qconvert", "qquantize", "qinspect", "qrun"]),
  ],
  swiftLanguageModes: [.v6],
  cxxLanguageStandard: .cxx17
)
