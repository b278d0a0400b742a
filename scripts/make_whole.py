"""Makes Fixtures/whole: networks that the tests take through all programs, with ONNX Runtime's outputs.

    .venv/bin/python scripts/make_whole.py
"""
import pathlib

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent.parent / "Fixtures" / "whole"
random = numpy.random.default_rng(5)


def normal(*shape, scale=1.0):
    return (random.standard_normal(shape) * scale).astype(numpy.float32)


def save(name, nodes, inputs, output, constants, samples):
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    values = [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs]
    graph = helper.make_graph(
        nodes, name, values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    lines = []
    for number, sample in enumerate(samples):
        for key, value in sample.items():
            value.tofile(folder / f"{key}{number}.raw")
        lines.append(" ".join(f"{key}:={key}{number}.raw" for key in sample))
        session.run(None, sample)[0].tofile(folder / f"y{number}.expected")
    (folder / "list.txt").write_text("\n".join(lines) + "\n")


def max_roi_pool():
    boxes = numpy.array([[0, 0, 0, 15, 15], [0, 3, 2, 10, 13], [0, 8, 8, 30, 30]], numpy.float32)
    samples = [{"x": normal(1, 3, 8, 8), "boxes": boxes + numpy.float32([0, n, n, 0, 0])} for n in range(4)]
    save(
        "max_roi_pool",
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("MaxRoiPool", ["r", "boxes"], ["p"], pooled_shape=[2, 3], spatial_scale=0.5),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
        ], [("x", [1, 3, 8, 8]), ("boxes", [3, 5])], [3, 5],
        {"w": normal(4, 3, 3, 3, scale=0.3), "b": normal(4, scale=0.2), "v": normal(5, 24, scale=0.2)}, samples)


def shared_weights():
    """Convolutions of two groups, in integers too large to be read where they lie, and products, in pairs that share
    their weights; a convolution of windows of 51 bytes behind them."""
    samples = [{"x": normal(1, 64, 6, 8)} for _ in range(4)]
    save(
        "shared_weights",
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2),
            helper.make_node("Relu", ["c0"], ["r0"]),
            helper.make_node("Conv", ["r0", "w", "b"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "thin"], ["c2"], kernel_shape=[1, 1]),
            helper.make_node("Conv", ["c2", "wide"], ["c3"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("GlobalAveragePool", ["c3"], ["g"]),
            helper.make_node("Flatten", ["g"], ["f"]),
            helper.make_node("Gemm", ["f", "v"], ["h"], transB=1),
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("Gemm", ["t", "v"], ["y"], transB=1),
        ], [("x", [1, 64, 6, 8])], [1, 32],
        {
            "w": normal(64, 32, 3, 3, scale=0.08), "b": normal(64, scale=0.2), "thin": normal(17, 64, 1, 1, scale=0.2),
            "wide": normal(32, 17, 3, 3, scale=0.1), "v": normal(32, 32, scale=0.4),
        }, samples)


if __name__ == "__main__":
    max_roi_pool()
    shared_weights()
