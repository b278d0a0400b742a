#!/usr/bin/env python3
"""Compares quantized ONNX models, converted and run by our programs, with ONNX Runtime without optimizations.

    .venv/bin/python scripts/compare_qdq.py --bin .build/release --input_list LIST MODEL.onnx ... [--labels FILE]
        [--backend onednn|reference] [--limit N]

A line for each model: whether qconvert gave a quantized container, the largest difference of the outputs in
steps of their grid (the scale of the DequantizeLinear that makes them; codes count as steps), the share of
elements that are equal, and, with --labels, the correct answers of both.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from checking import Programs
from compare_ort import file_name


def steps(model):
    """The step of each output's grid; None where nothing tells it."""
    graph = model.graph
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    makers = {name: node for node in graph.node for name in node.output}
    result = {}
    for output in graph.output:
        maker = makers.get(output.name)
        result[output.name] = None
        if maker is not None and maker.op_type == "DequantizeLinear" and maker.input[1] in constants:
            result[output.name] = float(constants[maker.input[1]].reshape(-1)[0])
        elif output.type.tensor_type.elem_type not in (1, 10, 11, 16):
            result[output.name] = 1.0
    return result


def reference(path, files):
    """ONNX Runtime's outputs by name, a list each; integer inputs are read as such."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    names = [output.name for output in session.get_outputs()]
    results = {name: [] for name in names}
    for file in files:
        feed = {entry.name: np.fromfile(file, np.float32).reshape(entry.shape)}
        for name, value in zip(names, session.run(names, feed)):
            results[name].append(value)
    return results


def compare(programs, path, listed, backend, folder):
    """What there is to say about one model, as a dictionary."""
    files = [line.strip() for line in pathlib.Path(listed).read_text().splitlines() if line.strip()]
    files = [pathlib.Path(listed).parent / file for file in files]
    container = folder / f"{path.stem}.dlc"
    programs("qconvert", "-i", path, "-o", container, "--quiet")
    results = folder / f"{path.stem}.{backend}"
    programs(
        "qrun", "execute", container, "--input_list", listed, "--output_dir", results, "--output_format", "npy",
        "--backend", backend, "--quiet")
    info = json.loads(programs("qinspect", "encodings", container, "--format", "json").stdout)
    grids = steps(onnx.load(path))
    found = {"model": path.stem, "sources": {}, "steps": 0.0, "equal": 1.0, "ours": [], "theirs": []}
    for entry in info["tensors"]:
        source = (entry.get("encoding") or {}).get("source") or "open"
        found["sources"][source] = found["sources"].get(source, 0) + 1
    for name, expected in reference(path, files).items():
        for index, value in enumerate(expected):
            got = np.load(results / f"Result_{index}" / f"{file_name(name)}.npy").reshape(value.shape)
            gap = np.abs(got.astype(np.float64) - value.astype(np.float64))
            step = grids[name] or float(np.abs(value).max() or 1) * 2 ** -8
            found["steps"] = max(found["steps"], float(gap.max(initial=0) / step))
            found["equal"] = min(found["equal"], float((gap < step / 2).mean()))
            if value.ndim == 2:
                found["ours"].append(int(got.argmax()))
                found["theirs"].append(int(value.argmax()))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--bin", default=".build/release")
    parser.add_argument("--input_list", required=True, type=pathlib.Path)
    parser.add_argument("--labels", type=pathlib.Path)
    parser.add_argument("--backend", default="onednn")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    programs = Programs(options.bin)
    good = True
    with tempfile.TemporaryDirectory(prefix="qtools-qdq-") as name:
        folder = pathlib.Path(name)
        listed = options.input_list
        if options.limit:
            lines = [line for line in listed.read_text().splitlines() if line.strip()][:options.limit]
            listed = folder / "list.txt"
            listed.write_text("".join(f"{(options.input_list.parent / line).resolve()}\n" for line in lines))
        labels = [int(line.split()[-1]) for line in options.labels.read_text().splitlines()] if options.labels else []
        for path in options.models:
            found = compare(programs, path, listed, options.backend, folder)
            text = f"{found['model']:24} {found['steps']:.2f} steps, equal {found['equal']:.4f}, {found['sources']}"
            if labels:
                ours, theirs = (sum(a == b for a, b in zip(found[k], labels)) for k in ("ours", "theirs"))
                text += f", correct {ours}, ONNX Runtime {theirs}, agree on " + str(
                    sum(a == b for a, b in zip(found["ours"], found["theirs"])))
            print(text, flush=True)
            good = good and found["steps"] <= 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
