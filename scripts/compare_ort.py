#!/usr/bin/env python3
"""Compares the float outputs of `qrun execute` with ONNX Runtime's.

    scripts/compare_ort.py MODEL.onnx INPUT_LIST OUTPUT_DIR [--tolerance 1e-4]

OUTPUT_DIR holds Result_K/NAME.raw (float32; `:` and `/` in names became `_`),
K counting the samples of the list from 0. Printed for each output: the largest
absolute difference over all samples, in units of the output's largest magnitude
over all samples; and whether the outputs of the first two samples differ (equal
ones would mean that the input has no effect). Exit code 0 when every output is
within the tolerance and differs, 1 otherwise, 64 for wrong usage.

Symbolic dimensions are 1 unless --dim NAME=VALUE says otherwise.
"""

import argparse
import pathlib
import re
import sys

import numpy as np
import onnxruntime


class Failure(Exception):
    """What the user is told; no traceback."""


def file_name(tensor):
    return tensor.replace(":", "_").replace("/", "_")


def samples(path):
    """The list's samples: each a list of (name or None, file)."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line[0] in "#%":
            continue
        sample = []
        for part in re.split(r"(?<!\\)\s+", line.strip()):
            name, separator, file = part.replace("\\ ", " ").rpartition(":=")
            # Relative to the current folder, then to the list's own.
            place = pathlib.Path(file)
            if not place.is_absolute() and not place.exists():
                place = path.parent / file
            if not place.exists():
                raise Failure(f"{path}:{number}: {file} not found")
            sample.append((name if separator else None, place))
        found.append(sample)
    if not found:
        raise Failure(f"{path}: no samples")
    return found


def load(path, shape, dtype):
    if path.suffix == ".npy":
        return np.load(path).reshape(shape).astype(dtype)
    # Raw files are float32, integer inputs in their own type.
    stored = np.dtype(dtype) if np.issubdtype(dtype, np.integer) else np.dtype("<f4")
    values = np.fromfile(path, stored)
    if values.size != np.prod(shape, dtype=np.int64):
        raise Failure(f"{path}: {values.size} values, the input {shape} needs {np.prod(shape)}")
    return values.reshape(shape).astype(dtype)


DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(bool)": np.bool_,
}


def compare(arguments):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(arguments.model), options, providers=["CPUExecutionProvider"]
    )
    symbols = dict(arguments.dim)
    inputs = {
        i.name: (
            [d if isinstance(d, int) else int(symbols.get(d, 1)) for d in i.shape],
            DTYPES[i.type],
        )
        for i in session.get_inputs()
    }
    names = [o.name for o in session.get_outputs()]
    largest = dict.fromkeys(names, 0.0)
    difference = dict.fromkeys(names, 0.0)
    first, differs = {}, dict.fromkeys(names)

    listed = samples(arguments.input_list)
    for k, sample in enumerate(listed):
        if len(sample) == 1 and sample[0][0] is None and len(inputs) == 1:
            sample = [(next(iter(inputs)), sample[0][1])]
        feed = {}
        for name, path in sample:
            if name not in inputs:
                raise Failure(f"sample {k}: the model has no input {name or '(unnamed)'}; it has {', '.join(inputs)}")
            feed[name] = load(path, *inputs[name])
        expected = session.run(names, feed)
        for name, reference in zip(names, expected):
            path = arguments.output_dir / f"Result_{k}" / f"{file_name(name)}.raw"
            if not path.exists():
                raise Failure(f"{path} not found")
            actual = np.fromfile(path, "<f4").astype(np.float64)
            reference = reference.astype(np.float64).ravel()
            if actual.size != reference.size:
                raise Failure(f"{path}: {actual.size} values, ONNX Runtime gives {reference.size}")
            if k == 0:
                first[name] = actual
            elif k == 1:
                differs[name] = not np.array_equal(actual, first[name], equal_nan=True)
            largest[name] = max(largest[name], float(np.abs(reference).max(initial=0)))
            # Values that are not finite must be the same ones.
            same = (actual == reference) | (np.isnan(actual) & np.isnan(reference))
            with np.errstate(invalid="ignore"):
                gap = np.where(same, 0, np.abs(actual - reference))
            gap = np.where(np.isnan(gap), np.inf, gap)
            difference[name] = max(difference[name], float(gap.max(initial=0)))

    good = True
    width = max(len(n) for n in names)
    print(f"{arguments.model.name}: {len(listed)} samples, tolerance {arguments.tolerance:g}")
    for name in names:
        relative = difference[name] / largest[name] if largest[name] else difference[name]
        within = relative <= arguments.tolerance
        verdict = {None: "one sample only", True: "samples differ", False: "SAMPLES DO NOT DIFFER"}
        print(
            f"  {name:{width}}  largest {largest[name]:.6g}  difference {difference[name]:.3g}"
            f"  relative {relative:.3g}  {'ok' if within else 'TOO FAR'}  {verdict[differs[name]]}"
        )
        good = good and within and differs[name] is not False
    return good


def main():
    def symbol(text):
        name, separator, value = text.partition("=")
        if not separator or not value.isdigit():
            raise argparse.ArgumentTypeError("NAME=VALUE")
        return name, int(value)

    class Parser(argparse.ArgumentParser):
        def error(self, message):
            self.print_usage(sys.stderr)
            self.exit(64, f"{self.prog}: error: {message}\n")

    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("input_list", type=pathlib.Path)
    parser.add_argument("output_dir", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--dim", type=symbol, action="append", default=[], metavar="NAME=VALUE")
    try:
        return 0 if compare(parser.parse_args()) else 1
    except (Failure, OSError) as problem:
        print(f"compare_ort.py: error: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
