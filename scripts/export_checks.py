#!/usr/bin/env python3
"""Checks what `qinspect export` writes against ONNX Runtime.

    scripts/export_checks.py --bin .build/release CONTAINER.dlc INPUT_LIST [--samples N] [--float FLOAT.dlc]

For a quantized container: onnx.checker passes; every quantized tensor, computed by ONNX Runtime from our
values of the quantized tensors before it, is within one step of ours; end to end, our outputs are no
further from ONNX Runtime's without optimizations than ONNX Runtime's with all of them are. For a float
container: the export gives the container's outputs within 1e-5 of the largest. Also a module for
peer_tests.py. Exit code 0 where everything holds, 1 otherwise.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

import compare_ort
from checking import Failure, Programs, expect
from compare_ort import file_name


def session(model, optimize):
    """A session of ONNX Runtime on one thread, with all optimizations or none."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    source = model if isinstance(model, (str, pathlib.Path)) else model.SerializeToString()
    return onnxruntime.InferenceSession(
        str(source) if isinstance(source, pathlib.Path) else source, options,
        providers=["CPUExecutionProvider"])


def checked(path):
    """The model, having passed onnx.checker."""
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(str(path))


def export(programs, container, path, *options):
    """Exports a container; gives what the program told about it."""
    return json.loads(programs("qinspect", "export", container, "--onnx", path, "--json", *options).stdout)


def feeds(runtime, input_list, count):
    """Inputs of the first samples, as ONNX Runtime takes them."""
    result = []
    for sample in compare_ort.samples(pathlib.Path(input_list))[:count]:
        named = dict(sample)
        feed = {}
        for value in runtime.get_inputs():
            file = named.get(value.name, named.get(None))
            expect(file is not None, f"no file for input {value.name}")
            kind = compare_ort_types()[value.type]
            feed[value.name] = compare_ort.load(pathlib.Path(file), value.shape, kind)
        result.append(feed)
    return result


def compare_ort_types():
    return {
        "tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
        "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8,
        "tensor(int16)": np.int16, "tensor(uint16)": np.uint16,
    }


def our_outputs(programs, container, input_list, folder, *options):
    programs(
        "qrun", "execute", container, "--input_list", input_list, "--output_dir", folder, *options)


def ours(folder, index, name, shape):
    return np.fromfile(folder / f"Result_{index}" / f"{file_name(name)}.raw", np.float32).reshape(shape)


def first_lines(input_list, count, path):
    """A list of the first samples only, with absolute names."""
    lines = []
    for sample in compare_ort.samples(pathlib.Path(input_list))[:count]:
        parts = []
        for name, file in sample:
            escaped = str(pathlib.Path(file).resolve()).replace(" ", "\\ ")
            parts.append(f"{name}:={escaped}" if name else escaped)
        lines.append(" ".join(parts))
    path.write_text("".join(line + "\n" for line in lines))
    return path


def float_export(programs, container, input_list, folder, samples=4, tolerance=1e-5):
    """The float export gives the float container's outputs; a note."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "float.onnx"
    export(programs, container, path)
    checked(path)
    short = first_lines(input_list, samples, folder / "float.txt")
    info = json.loads(programs("qinspect", "info", container, "--json").stdout)
    annotated = any(tensor.get("encoding") for tensor in info["tensors"])
    our_outputs(programs, container, short, folder / "float", *(["--float"] if annotated else []))
    runtime = session(path, optimize=False)
    worst = 0.0
    for index, feed in enumerate(feeds(runtime, short, samples)):
        for value, result in zip(runtime.get_outputs(), runtime.run(None, feed)):
            if result.dtype != np.float32:
                continue
            expected = ours(folder / "float", index, value.name, result.shape)
            finite = np.isfinite(expected)
            expect((finite == np.isfinite(result)).all(), f"{value.name}: not finite in other places")
            if finite.any():
                scale = max(np.abs(expected[finite]).max(), 1e-6)
                worst = max(worst, float(np.abs(expected - result)[finite].max() / scale))
    expect(worst <= tolerance, f"float export differs by {worst:.2g} of the largest")
    return f"float {worst:.1g}"


def cut_at_grids(model):
    """The model with every quantized activation an input (NAME__given) for those who read it and an
    output as it is made; scales of these tensors."""
    graph = model.graph
    constants = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    codes = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "QuantizeLinear"}
    steps = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in codes and constants[node.input[1]].ndim == 0:
            steps[node.output[0]] = float(constants[node.input[1]])
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in list(graph.value_info) + list(graph.output) + list(graph.input)}
    inputs = {value.name for value in graph.input}
    sources = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] not in shapes:
            shapes[node.output[0]] = shapes.get(sources.get(node.input[0]))
    given = {name for name in steps if shapes.get(name) is not None}
    for node in graph.node:
        for slot, name in enumerate(node.input):
            if name in given:
                node.input[slot] = name + "__given"
    for name in given:
        kind = onnx.helper.make_tensor_value_info(name + "__given", onnx.TensorProto.FLOAT, shapes[name])
        graph.input.append(kind)
        if name not in {value.name for value in graph.output}:
            graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shapes[name]))
    return model, steps, given, shapes, inputs


def nodes_within_a_step(programs, container, input_list, folder, samples=2):
    """Every node of the QDQ export, fed our quantized inputs, gives ours within a step; a note."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "qdq.onnx"
    told = export(programs, container, path, "--qdq")
    checked(path)
    short = first_lines(input_list, samples, folder / "nodes.txt")
    our_outputs(programs, container, short, folder / "nodes", "--debug")
    # ONNX Runtime keeps the shapes of all values.
    inferred = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    model, steps, given, shapes, _ = cut_at_grids(inferred)
    places = {entry["name"]: entry for entry in told["values"] if entry.get("layout") is not None}
    for entry in told["values"]:
        # An input's value after its grid has another name than the input.
        places.setdefault(entry["name"] + "_dequantized", entry)
    runtime = session(model, optimize=False)

    def value(index, name):
        entry = places[name]
        layout = entry["layout"]
        shape = [0] * len(layout)
        for axis, source in enumerate(layout):
            shape[source] = shapes[name][axis]
        return ours(folder / "nodes", index, entry["tensor"], shape).transpose(layout)

    worst, off, total = (0.0, ""), 0, 0
    plain = [v for v in runtime.get_inputs() if not v.name.endswith("__given")]
    for index, sample in enumerate(compare_ort.samples(short)):
        named = dict(sample)
        feed = {name + "__given": value(index, name) for name in given}
        for item in plain:
            kind = compare_ort_types()[item.type]
            feed[item.name] = compare_ort.load(
                pathlib.Path(named.get(item.name, named.get(None))), item.shape, kind)
        names = [v.name for v in runtime.get_outputs()]
        for name, result in zip(names, runtime.run(None, feed)):
            if name not in given:
                continue
            codes = [np.rint(x.astype(np.float64) / steps[name]) for x in (result, value(index, name))]
            distance = np.abs(codes[0] - codes[1])
            off += int((distance > 0).sum())
            total += distance.size
            largest = float(distance.max(initial=0))
            if largest > worst[0]:
                worst = (largest, name)
    expect(worst[0] <= 1, f"{worst[1]} differs by {worst[0]:.3g} steps")
    return f"{len(given)} tensors, {off} of {total} codes off by one"


def optimized_outputs(runtime, feed, plain):
    """What ONNX Runtime gives with all optimizations; `plain` where it fails at a thing of its own: it makes
    QLinearConv of a Conv whose 8-bit weights have blocks, and then refuses their scales (1.31.1)."""
    try:
        return runtime.run(None, feed)
    except Exception as problem:
        if "filter scale shape invalid" not in str(problem):
            raise
        return plain


def end_to_end(programs, container, input_list, folder, samples=20):
    """Ours is no further from ONNX Runtime unoptimized than ONNX Runtime optimized is; a note.

    ONNX Runtime has no kernels for 16 bits: there both of its results are the same, and a share of
    1e-6 of the outputs' energy (60 dB) is allowed for sums in another order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "qdq.onnx"
    export(programs, container, path, "--qdq")
    short = first_lines(input_list, samples, folder / "whole.txt")
    our_outputs(programs, container, short, folder / "whole")
    plain, fast = session(path, optimize=False), session(path, optimize=True)
    ours_off = theirs_off = energy = 0.0
    ours_most = theirs_most = 0.0
    for index, feed in enumerate(feeds(plain, short, samples)):
        expected = plain.run(None, feed)
        outputs = zip(plain.get_outputs(), expected, optimized_outputs(fast, feed, expected))
        for value, reference, optimized in outputs:
            if reference.dtype != np.float32:
                continue
            got = ours(folder / "whole", index, value.name, reference.shape)
            energy += float(np.square(reference, dtype=np.float64).sum())
            ours_off += float(np.square(got - reference, dtype=np.float64).sum())
            theirs_off += float(np.square(optimized - reference, dtype=np.float64).sum())
            ours_most = max(ours_most, float(np.abs(got - reference).max(initial=0)))
            theirs_most = max(theirs_most, float(np.abs(optimized - reference).max(initial=0)))
    note = f"RMS off ours {ours_off ** 0.5:.3g}, optimized {theirs_off ** 0.5:.3g}; most {ours_most:.3g}, {theirs_most:.3g}"
    expect(ours_off <= max(theirs_off, 1e-6 * energy if theirs_off == 0 else 0), note)
    return note


def quantized_export(programs, container, input_list, folder, samples=2, whole=20):
    """All checks of a quantized container; a note."""
    notes = [nodes_within_a_step(programs, container, input_list, folder, samples)]
    notes.append(end_to_end(programs, container, input_list, folder, whole))
    return "; ".join(notes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("container", type=pathlib.Path)
    parser.add_argument("input_list", type=pathlib.Path)
    parser.add_argument("--bin", default=".build/release")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--float", type=pathlib.Path, help="a float container, exported and compared too")
    arguments = parser.parse_args()
    programs = Programs(arguments.bin)
    checks = [(nodes_within_a_step, arguments.container, 2), (end_to_end, arguments.container, arguments.samples)]
    if arguments.float:
        checks.insert(0, (float_export, arguments.float, 4))
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for check, container, samples in checks:
            try:
                note = check(programs, container, arguments.input_list, pathlib.Path(folder), samples)
                print(f"pass  {check.__name__}: {note}", flush=True)
            except (Failure, compare_ort.Failure) as problem:
                print(f"FAIL  {check.__name__}: {problem}", flush=True)
                good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
