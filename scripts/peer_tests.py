#!/usr/bin/env python3
"""Runs the programs against their peers, ONNX Runtime, Netron and Make, on the repository's fixtures.

    .venv/bin/python scripts/peer_tests.py --bin .build/release [--only WORD]

A line for each check, then `N passed, M failed, K skipped`. Exit code 1 where a
check fails or none was made. --only WORD makes the groups whose name has WORD.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime

from checking import (
    ROOT, Checks, Failure, Programs, Skip, agrees_with_onnx_runtime, expect, first_error, listed, write_list)
from compare_ort import file_name
import compare_qdq
import export_checks
import make_encoder
import network_checks

DIGITS = ROOT / "Fixtures/digits"
QAT = ROOT / "Fixtures/qat"
MINIMAL = ROOT / "Fixtures/minimal"
BACKENDS = ("onednn", "reference")

# Minimal cases that the programs do not do yet, and why: a ratchet, one of them
# that passes is a failure until its line is removed.
NOT_YET = {}

# Broken models that qconvert accepts, and why; they have to give what ONNX Runtime gives.
ACCEPTED = {"unordered": "the order is made good, as by ONNX Runtime"}


class Bench:
    """What the groups of checks share."""

    def __init__(self, programs, folder):
        self.programs, self.folder = programs, folder
        # Notes without the folders that differ from run to run.
        self.checks = Checks(shorten=(f"{folder}/", f"{ROOT}/"))
        self.pool = concurrent.futures.ThreadPoolExecutor(2)

    def new_folder(self, name):
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

    def side_by_side(self, jobs):
        """Runs (name, check, arguments...) in the pool, reports in their order."""
        running = [(name, self.pool.submit(self.checks.outcome, *job)) for name, *job in jobs]
        for name, future in running:
            self.checks.report(name, *future.result())


# ---------------------------------------------------------------------- digits


def digits_container(bench):
    """The digits network as float container, made once."""
    path = bench.folder / "digits.dlc"
    if not path.exists():
        bench.programs("qconvert", "--input_network", DIGITS / "digits.onnx", "--output_path", path)
    return path


def quantize_digits(bench, output, *options, samples=None):
    """The digits network, quantized; with the calibration list unless told otherwise."""
    source = ["--input_list", samples or DIGITS / "calibration.txt"] if samples is not False else []
    target = ["--output_dlc", output] if output else []
    return bench.programs(
        "qquantize", "--input_dlc", digits_container(bench), *source, *target,
        "--use_per_channel_quantization", "--bias_bitwidth", "32", *options)


def quantized_digits(bench):
    path = bench.folder / "digits_int8.dlc"
    if not path.exists():
        quantize_digits(bench, path)
    return path


def check_digits(bench):
    def agrees(backend):
        folder = bench.folder / f"digits-{backend}"
        samples = write_list(bench.folder / "first20.txt", listed(DIGITS / "test.txt")[:20])
        bench.programs(
            "qrun", "execute", digits_container(bench), "--input_list", samples,
            "--output_dir", folder, "--backend", backend)
        return agrees_with_onnx_runtime(DIGITS / "digits.onnx", samples, folder)

    for backend in BACKENDS:
        bench.checks.run(f"digits, ONNX Runtime and {backend}", agrees, backend)


def check_rescaled(bench):
    """Digits with channels rescaled by up to 1,000: int8 per tensor collapses, and cle brings it back."""
    folder = bench.new_folder("rescaled")

    def correct(model, *options):
        bench.programs("qconvert", "-i", model, "-o", folder / "d.dlc")
        bench.programs(
            "qquantize", "-i", folder / "d.dlc", "-l", DIGITS / "calibration.txt", "-o", folder / "q.dlc",
            "--bias_bitwidth", "32", *options)
        done = bench.programs(
            "qrun", "evaluate", folder / "q.dlc", "--input_list", DIGITS / "test.txt", "--labels",
            DIGITS / "test_labels.txt", "--json")
        return json.loads(done.stdout)["containers"][0]["top"][0]["correct"]

    def comes_back():
        model = folder / "rescaled.onnx"
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts/rescale_channels.py"), str(DIGITS / "digits.onnx"), str(model)],
            capture_output=True, text=True)
        expect(done.returncode == 0, done.stderr.strip()[-300:])
        before, collapsed = correct(DIGITS / "digits.onnx"), correct(model)
        after = correct(model, "--apply_algorithms", "cle")
        note = f"{before} of 400 in int8, rescaled {collapsed}, with cle {after}"
        expect(collapsed < 200 and after >= before - 2, note)
        return note

    bench.checks.run("digits, channels rescaled", comes_back)


# --------------------------------------------------------------------- encoder


def check_encoder(bench):
    """A transformer encoder with a mask of -3.4e38, its operators spelled out or whole."""
    def agrees(opset, backend):
        folder = bench.folder / f"encoder-{opset}"
        results = bench.new_folder(f"encoder-{opset}/{backend}")
        bench.programs(
            "qrun", "execute", folder / "encoder.dlc", "--input_list", folder / "list.txt",
            "--output_dir", results, "--backend", backend)
        return agrees_with_onnx_runtime(folder / "encoder.onnx", folder / "list.txt", results)

    def converts(opset):
        model = make_encoder.write(bench.folder / f"encoder-{opset}", opset, samples=4)
        bench.programs("qconvert", "--input_network", model, "--output_path", model.with_suffix(".dlc"))
        info = json.loads(bench.programs("qinspect", "info", model.with_suffix(".dlc"), "--json").stdout)
        kinds = [operator["type"] for operator in info["operators"]]
        counts = {kind: kinds.count(kind) for kind in ("LayerNorm", "Gelu", "Softmax", "MatMul")}
        expect(counts == {"LayerNorm": 5, "Gelu": 2, "Softmax": 2, "MatMul": 16}, str(counts))
        return f"{len(kinds)} operators"

    def stays_close(title, least, *options):
        """The least cosine of the output with float's over samples that calibration did not see."""
        folder = bench.folder / "encoder-quantized"
        model = make_encoder.write(folder, 13, samples=24)
        lines = (folder / "list.txt").read_text().splitlines()
        expect(len(lines) == 24, f"{len(lines)} samples in the list")
        (folder / "calibration.txt").write_text("".join(f"{line}\n" for line in lines[:16]))
        (folder / "test.txt").write_text("".join(f"{line}\n" for line in lines[16:]))
        container, quantized = folder / "encoder.dlc", folder / f"{title}.dlc"
        bench.programs("qconvert", "--input_network", model, "--output_path", container)
        bench.programs(
            "qquantize", "--input_dlc", container, "--input_list", folder / "calibration.txt",
            "--output_dlc", quantized, "--use_per_row_quantization", "--bias_bitwidth", "32", *options)
        outputs = []
        for path in (container, quantized):
            results = bench.new_folder(f"encoder-quantized/{title}-{path.stem}")
            bench.programs(
                "qrun", "execute", path, "--input_list", folder / "test.txt", "--output_dir", results)
            outputs.append([
                np.fromfile(file, np.float32).astype(float)
                for file in sorted(results.glob("Result_*/last_hidden_state.raw"))])
        expect(len(outputs[0]) == len(outputs[1]) == 8, "not every sample has an output")
        cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(*outputs)]
        expect(min(cosines) >= least, f"{min(cosines):.5f}, wanted {least}")
        return f"cosine at least {min(cosines):.5f}, wanted {least}"

    bench.checks.run("encoder, W8A8 per row against float", stays_close, "w8a8", 0.95)
    bench.checks.run(
        "encoder, W8A16 per row against float", stays_close, "w8a16", 0.999, "--act_bitwidth", "16")
    for opset in (13, 17, 20):
        if bench.checks.run(f"encoder, opset {opset}: convert", converts, opset):
            for backend in BACKENDS:
                bench.checks.run(f"encoder, opset {opset}, ONNX Runtime and {backend}", agrees, opset, backend)


# ------------------------------------------------------- networks in fixed point


def check_qat(bench):
    """Networks that come with encodings: ONNX Runtime's quantizer, PyTorch's fake quantization."""
    def made():
        done = subprocess.run(
            [sys.executable, str(QAT / "make_qdq.py"), str(DIGITS / "digits.onnx"), str(DIGITS / "calibration.txt"),
             str(folder), "--limit", "32"], capture_output=True, text=True)
        expect(done.returncode == 0, done.stderr.strip().splitlines()[-1] if done.stderr else "no message")

    def agrees(model, samples, backend):
        found = compare_qdq.compare(bench.programs, model, samples, backend, bench.new_folder(f"qat/{model.stem}/{backend}"))
        sources = set(found["sources"]) - {"open"}
        expect(sources and sources <= {"source", "spread"}, f"sources {found['sources']}")
        # A step of a 16-bit grid is what sums in another order differ by, and weighs more behind Softmax.
        limit = 16 if "16" in model.stem else 1
        expect(found["steps"] <= limit + 0.001, f"{found['steps']:.2f} steps")
        return f"{found['steps']:.2f} steps, equal {found['equal']:.4f}, {found['sources']}"

    def keeps():
        """Gaps are filled by calibration, what the source gave stays bit for bit."""
        work = bench.new_folder("qat/gaps")
        model = onnx.load(folder / "qdq_u8s8_channel.onnx")
        # The first pair of the graph behind the input goes: its tensor is open then.
        pairs = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0].endswith("_QuantizeLinear_Output")]
        gap = pairs[1]
        opened = next(node for node in model.graph.node if gap.input[0] in node.output)
        for node in model.graph.node:
            for slot, name in enumerate(node.input):
                if name == gap.output[0]:
                    node.input[slot] = opened.input[0]
        model.graph.node.remove(gap)
        model.graph.node.remove(opened)
        onnx.save(model, work / "gap.onnx")
        bench.programs("qconvert", "-i", work / "gap.onnx", "-o", work / "gap.dlc")
        bench.programs(
            "qquantize", "-i", work / "gap.dlc", "-l", DIGITS / "calibration.txt", "-o", work / "full.dlc",
            "--bias_bitwidth", "32")
        before, after = (encodings(bench, work / name) for name in ("gap.dlc", "full.dlc"))
        given = {name: entry for name, entry in before.items() if entry.get("source") == "source"}
        expect(len(given) > 10, f"{len(given)} encodings from the source")
        for name, entry in given.items():
            expect(after.get(name) == entry, f"{name} was {entry}, is {after.get(name)}")
        new = [name for name, entry in after.items() if entry.get("source") == "calibrated"]
        expect(opened.input[0] in new, f"{opened.input[0]} was not calibrated, but {new}")
        return f"{len(given)} kept, {len(new)} calibrated"

    folder = bench.folder / "qat"
    if bench.checks.run("QDQ models by ONNX Runtime's quantizer", made):
        samples = write_list(folder / "list.txt", listed(DIGITS / "test.txt")[:50])
        models = sorted(path for path in folder.glob("*.onnx") if path.stem.startswith("q"))
        bench.side_by_side([
            (f"{model.stem}, ONNX Runtime and {backend}", agrees, model, samples, backend)
            for model in models for backend in BACKENDS])
        bench.checks.run("encodings of the source, gaps calibrated", keeps)
    if not (QAT / "torch_qat.onnx").exists():
        return
    torch_folder = bench.new_folder("torch")
    inputs = np.load(QAT / "input.npy")
    for index, values in enumerate(inputs):
        values.tofile(torch_folder / f"{index}.raw")
    listed_inputs = write_list(torch_folder / "list.txt", [torch_folder / f"{i}.raw" for i in range(len(inputs))])
    for backend in BACKENDS:
        bench.checks.run(
            f"PyTorch's fake quantization, ONNX Runtime and {backend}", agrees, QAT / "torch_qat.onnx", listed_inputs,
            backend)


def encodings(bench, container):
    """The encodings that qinspect shows, by tensor."""
    document = json.loads(bench.programs("qinspect", "encodings", container, "--format", "json").stdout)
    return {entry["name"]: entry["encoding"] for entry in document["tensors"] if entry.get("encoding")}


# --------------------------------------------------------------- minimal models


def symbolic_shapes(model, case):
    """Options for inputs whose dimensions the model leaves open."""
    graph = onnx.load(str(model), load_external_data=False).graph
    open_inputs = {
        value.name for value in graph.input
        if any(not d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)}
    options = []
    for entry in case["inputs"]:
        if entry["name"] in open_inputs:
            options += ["--source_model_input_shape", entry["name"], ",".join(map(str, entry["shape"]))]
    return options


def close_to(expected, actual, name):
    """The largest difference in units of the largest magnitude."""
    expect(tuple(actual.shape) == tuple(expected.shape), f"{name} has shape {actual.shape}, not {expected.shape}")
    if expected.dtype.kind in "iub":
        # Integers come as float32 unless native output is asked for.
        expect(np.array_equal(expected.astype(np.float64), actual.astype(np.float64)), f"{name} differs")
        return 0.0
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(expected)
    expect(np.array_equal(expected[~finite], actual[~finite], equal_nan=True), f"{name}: other values that are not finite")
    gap = np.abs(expected[finite] - actual[finite]).max(initial=0)
    scale = np.abs(expected[finite]).max(initial=0) or 1
    expect(gap <= 1e-4 * scale, f"{name}: relative difference {gap / scale:.3g}")
    return gap / scale


def check_case(bench, case):
    name = case["name"]
    try:
        note = run_case(bench, case)
    except Failure as problem:
        if name in NOT_YET:
            raise Skip(f"{NOT_YET[name]} ({problem})") from None
        raise
    expect(name not in NOT_YET, "passes although NOT_YET lists it: remove its line")
    return note


def is_native(case):
    """Whether a case's files hold floats of another width than 32 bits."""
    return any(entry["type"] in ("float16", "float64") for entry in case["inputs"] + case["outputs"])


def run_case(bench, case):
    folder = bench.new_folder(f"minimal/{case['name']}")
    model, container = MINIMAL / case["model"], folder / "model.dlc"
    bench.programs(
        "qconvert", "--input_network", model, "--output_path", container, *symbolic_shapes(model, case))
    samples = folder / "list.txt"
    pairs = (f"{i['name']}:={MINIMAL / i['file']}".replace(" ", "\\ ") for i in case["inputs"])
    samples.write_text(" ".join(pairs) + "\n")
    worst = 0.0
    native = ["--use_native_input_files", "--use_native_output_files"] if is_native(case) else []
    for backend in BACKENDS:
        bench.programs(
            "qrun", "execute", container, "--input_list", samples, "--output_dir", folder / backend,
            "--backend", backend, "--output_format", "npy", *native)
        for entry in case["outputs"]:
            result = folder / backend / "Result_0" / f"{file_name(entry['name'])}.npy"
            expect(result.exists(), f"{backend} wrote no {result.name}")
            difference = close_to(np.load(MINIMAL / entry["file"]), np.load(result), f"{backend}: {entry['name']}")
            worst = max(worst, difference)
    return f"{worst:.1e}"


def refusal(bench, model, folder, name="model.dlc"):
    """qconvert refuses a model: exit code 1, a message, nothing written. The message's first line."""
    folder.mkdir(parents=True, exist_ok=True)
    done = bench.programs.any("qconvert", "--input_network", model, "--output_path", folder / name)
    message = first_error(done.stderr)
    expect(done.returncode >= 0, f"ended by signal {-done.returncode}")
    left = os.listdir(folder)
    if done.returncode != 0:
        expect(not left, f"left {', '.join(left)}")
    expect(done.returncode == 1, f"exit code {done.returncode}, not 1: {message}")
    expect("error:" in done.stderr, f"no 'error:' in: {done.stderr.strip()[:200]}")
    return done.stderr


def accepted(bench, model, folder):
    """The largest difference to ONNX Runtime of a model with one input and random data."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    source, = session.get_inputs()
    values = np.random.default_rng(6).standard_normal(source.shape).astype("<f4")
    values.tofile(folder / "x.raw")
    samples = write_list(folder / "list.txt", [folder / "x.raw"])
    bench.programs("qconvert", "--input_network", model, "--output_path", folder / "model.dlc")
    bench.programs(
        "qrun", "execute", folder / "model.dlc", "--input_list", samples, "--output_dir", folder / "results",
        "--output_format", "npy")
    worst = 0.0
    for output, expected in zip(session.get_outputs(), session.run(None, {source.name: values})):
        actual = np.load(folder / "results/Result_0" / f"{file_name(output.name)}.npy")
        worst = max(worst, close_to(expected, actual, output.name))
    return f"{worst:.1e}"


def check_broken(bench, case):
    name = case["name"]
    if name in ACCEPTED:
        return f"{ACCEPTED[name]}: {accepted(bench, MINIMAL / case['model'], bench.new_folder(f'broken/{name}'))}"
    message = refusal(bench, MINIMAL / case["model"], bench.folder / "broken" / name)
    if name == "unknown_operators":
        graph = onnx.load(str(MINIMAL / case["model"])).graph
        silent = {n.op_type for n in graph.node if n.domain or not onnx.defs.has(n.op_type)} - {
            word for word in {n.op_type for n in graph.node} if word in message}
        expect(not silent, f"does not name {', '.join(sorted(silent))}")
    return first_error(message)


def check_minimal(bench):
    index = json.loads((MINIMAL / "cases.json").read_text())
    unknown = set(NOT_YET) - {case["name"] for case in index["cases"]}
    if unknown:
        bench.checks.report("NOT_YET", "FAIL", f"no such case: {', '.join(sorted(unknown))}")
    bench.side_by_side((f"minimal {case['name']}", check_case, bench, case) for case in index["cases"])
    bench.side_by_side((f"broken {case['name']}", check_broken, bench, case) for case in index["broken"])


def check_damaged(bench):
    """Files that are no ONNX models, or only a part of one."""
    whole = (DIGITS / "digits.onnx").read_bytes()
    source = bench.new_folder("damaged")
    noise = random.Random(6).randbytes(4096)
    text = b"This is a text file, not a network.\n" * 10
    files = {"empty file": b"", "random bytes": noise, "text file": text}

    def refused(name, data):
        model = source / f"{name.replace(' ', '_')}.onnx"
        model.write_bytes(data)
        return first_error(refusal(bench, model, bench.folder / "refused" / model.stem))

    def truncated(place):
        refused(f"truncated {place}", whole[: len(whole) * place // 100])

    def all_places():
        list(bench.pool.map(truncated, range(100)))
        return "100 places"

    for name, data in files.items():
        bench.checks.run(name, refused, name, data)
    bench.checks.run("truncated model", all_places)


# --------------------------------------------------------------------- Netron


# Names of our types in Netron; the others are the same.
NETRON_TYPES = {"bool": "boolean"} | {
    f"{ours}fixed{bits}": f"{theirs}int{bits}"
    for ours, theirs in (("u", "qu"), ("s", "q")) for bits in (4, 8, 16, 32)}
BITS = {"boolean": 8}


def bits_of(netron_type):
    return BITS.get(netron_type) or int("".join(c for c in netron_type if c.isdigit()))


def same(what, ours, theirs):
    expect(ours == theirs, f"{what}: qinspect {str(ours)[:200]}, Netron {str(theirs)[:200]}")


def compare_encodings(name, ours, record):
    if ours is None:
        same(f"{name}, encoding", [], record["channels"])
        expect(record["kind"] == 0x7FFFFFFF, f"{name}: kind {record['kind']} without an encoding")
        return 0
    if "block_size" in ours:
        # Netron's schema has no place for the grids of blocks: the kind tells of them.
        same(f"{name}, kind", 5 if "block_factor" in ours else 4, record["kind"])
        return 1
    channels = record["channels"]
    same(f"{name}, axis", ours.get("axis"), record["axis"])
    same(f"{name}, kind", ours.get("axis") is not None, record["kind"] in (1, 3))
    same(f"{name}, channels", len(ours["scale"]), len(channels))
    same(f"{name}, bitwidth", {ours["bitwidth"]}, {c["bitwidth"] for c in channels})
    single = lambda values: [float(np.float32(v)) for v in values]
    same(f"{name}, scale", single(ours["scale"]), single(c["scale"] for c in channels))
    same(f"{name}, stored offset", ours["stored_offset"], [c["offset"] for c in channels])
    same(f"{name}, min", single(ours["min"]), single(c["min"] for c in channels))
    same(f"{name}, max", single(ours["max"]), single(c["max"] for c in channels))
    return 1


def compare_with_netron(bench, container, quantized):
    node = shutil.which("node")
    netron = next((ROOT / ".venv/lib").glob("python3*/site-packages/netron/view.js"), None)
    expect(node and netron, "Node.js or Netron is missing: run scripts/setup.sh")
    done = subprocess.run(
        [node, str(ROOT / "scripts/netron_read.mjs"), str(netron.parent), str(container)],
        capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, f"Netron: {done.stderr.strip()[-300:]}")
    theirs = json.loads(done.stdout)
    ours = json.loads(bench.programs("qinspect", "info", container, "--json").stdout)
    text = bench.programs("qinspect", "text", container, "--inline", 0).stdout
    hashes = dict(re.findall(r"^ *const %(\S+): .* = #([0-9a-f]+)", text, re.MULTILINE))
    expect(theirs["format"].startswith("DLC"), f"Netron takes it for {theirs['format']}")

    # Nodes, in order. Netron's graph inputs are nodes of type Input, ours are not nodes.
    nodes = [n for n in theirs["nodes"] if n["type"] != "Input"]
    key = lambda n: (n["name"], n["type"], [i for i in n["inputs"] if i], n["outputs"])
    same("number of nodes", len(ours["operators"]), len(nodes))
    for mine, other in zip(ours["operators"], nodes):
        same("node", key(mine), key(other))
    expect(nodes, "no nodes")
    by_location = lambda *places: sorted(n for n, r in theirs["records"].items() if r["location"] in places)
    same("inputs", sorted(ours["inputs"]), by_location(0, 2))
    same("outputs", sorted(ours["outputs"]), by_location(1, 2))

    # Tensors, their bytes and encodings.
    mine = {t["name"]: t for t in ours["tensors"]}
    same("names of tensors", sorted(mine), sorted(theirs["records"]))
    initializers = encodings = 0
    for name, tensor in mine.items():
        record, seen = theirs["records"][name], theirs["tensors"].get(name)
        static = tensor["role"] == "static"
        same(f"{name}, static", static, record["location"] == 4)
        expect(seen or not static, f"no node shows the initializer {name}")
        encodings += compare_encodings(name, tensor.get("encoding"), record)
        if not seen:
            continue
        netron_type = NETRON_TYPES.get(tensor["type"], tensor["type"])
        same(f"{name}, type", netron_type, seen["type"])
        same(f"{name}, shape", tensor["shape"], seen["shape"])
        same(f"{name}, initializer", static, seen["initializer"] is not None)
        if static:
            initializers += 1
            size = int(np.prod(tensor["shape"], dtype=np.int64)) * bits_of(netron_type) // 8
            same(f"{name}, bytes", size, seen["initializer"]["bytes"])
            same(f"{name}, hash of its bytes", hashes.get(name), seen["initializer"]["fnv1a"])
    total = sum(t["initializer"]["bytes"] for t in theirs["tensors"].values() if t["initializer"])
    same("bytes of all initializers", ours["totals"]["parameter_bytes"], total)
    expect(initializers > 0, "no initializers")
    expect((encodings > 0) == quantized, f"{encodings} encodings")
    return f"{len(nodes)} nodes, {len(mine)} tensors, {initializers} initializers, {encodings} encodings"


def check_netron(bench):
    bench.checks.run("Netron, float digits", lambda: compare_with_netron(bench, digits_container(bench), False))
    bench.checks.run("Netron, quantized digits", lambda: compare_with_netron(bench, quantized_digits(bench), True))

    def wide():
        container = bench.folder / "digits_w8a16.dlc"
        quantize_digits(bench, container, "--act_bitwidth", "16")
        return compare_with_netron(bench, container, True)

    bench.checks.run("Netron, digits W8A16", wide)
    for low_power in (False, True):
        bench.checks.run(
            f"Netron, digits with {'low-power ' if low_power else ''}blocks",
            lambda: compare_with_netron(bench, blocked_digits(bench, low_power), True))


def blocked_digits(bench, low_power):
    """The digits network with 4-bit weights in blocks of 16 inputs in its last layers."""
    stem = "digits_lpbq" if low_power else "digits_blocks"
    params = []
    for name, channels, inputs in (("conv5_pointwise.weight", 64, 32), ("classifier.weight", 10, 64)):
        blocks = channels * inputs // 16
        entry = {"name": name, "dtype": "INT", "is_sym": True, "block_size": 16}
        if low_power:
            entry |= {"enc_type": "LPBQ", "bw": 8, "compressed_bw": 4, "scale": [0.02] * channels,
                      "offset": [-128] * channels, "per_block_int_scale": [i % 16 + 1 for i in range(blocks)]}
        else:
            entry |= {"enc_type": "PER_BLOCK", "bw": 4, "scale": [0.1 + i / 4096 for i in range(blocks)],
                      "offset": [-8] * blocks}
        params.append(entry)
    encodings = bench.folder / f"{stem}.encodings"
    encodings.write_text(json.dumps(
        {"version": "1.0.0", "activation_encodings": [], "param_encodings": params}))
    (source, container) = (bench.folder / f"{stem}_float.dlc", bench.folder / f"{stem}.dlc")
    bench.programs(
        "qconvert", "--input_network", DIGITS / "digits.onnx", "--output_path", source,
        "--quantization_overrides", encodings)
    bench.programs(
        "qquantize", "--input_dlc", source, "--output_dlc", container, "--input_list", DIGITS / "calibration.txt")
    return container


# ---------------------------------------------------------------- determinism


def check_determinism(bench):
    folder = bench.new_folder("determinism")
    files = listed(DIGITS / "calibration.txt")
    shuffled = files[:]
    random.Random(6).shuffle(shuffled)

    def identical(one, other):
        expect(one.read_bytes() == other.read_bytes(), f"{one.name} and {other.name} differ")
        return f"{other.stat().st_size} bytes"

    def variant(name, *options, samples=None):
        path = folder / f"{name}.dlc"
        quantize_digits(bench, path, *options, samples=samples)
        return identical(quantized_digits(bench), path)

    def other_samples():
        path = folder / "other_samples.dlc"
        quantize_digits(bench, path, samples=write_list(folder / "first.txt", files[:10]))
        expect(path.read_bytes() != quantized_digits(bench).read_bytes(), "other samples give the same bytes")

    def merged():
        for half, part in (("a", shuffled[:37]), ("b", shuffled[37:])):
            samples = write_list(folder / f"half_{half}.txt", part)
            quantize_digits(bench, None, "--save_stats", folder / f"half_{half}.json", samples=samples)
        first = variant("merged", "--load_stats", folder / "half_a.json", folder / "half_b.json", samples=False)
        variant("merged_other_way", "--load_stats", folder / "half_b.json", folder / "half_a.json", samples=False)
        return first

    def other_widths():
        whole = folder / "all.json"
        quantize_digits(bench, None, "--save_stats", whole)
        notes = []
        for weights, activations in ((8, 16), (16, 16)):
            widths = ("--weights_bitwidth", weights, "--act_bitwidth", activations)
            fresh, again = (folder / f"{kind}_w{weights}a{activations}.dlc" for kind in ("fresh", "stats"))
            first = quantize_digits(bench, fresh, *widths)
            second = quantize_digits(bench, again, *widths, "--load_stats", whole, samples=False)
            identical(fresh, again)
            notes.append(f"W{weights}A{activations} {second.seconds:.3f} s after {first.seconds:.3f} s with samples")
        return ", ".join(notes)

    def foreign():
        other = folder / "other.dlc"
        bench.programs(
            "qconvert", "--input_network", MINIMAL / "conv_default/model.onnx", "--output_path", other)
        stats = folder / "all.json"
        done = bench.programs.any(
            "qquantize", "--input_dlc", other, "--load_stats", stats, "--output_dlc", folder / "no.dlc")
        expect(done.returncode == 1 and not (folder / "no.dlc").exists(), f"exit code {done.returncode}")
        return first_error(done.stderr)

    runs = bench.checks.run
    runs("same bytes, second run", variant, "again")
    runs("other bytes, other samples", other_samples)
    runs("same bytes, --jobs 1", variant, "jobs1", "--jobs", 1)
    runs("same bytes, --jobs 2", variant, "jobs2", "--jobs", 2)
    shuffled_list = write_list(folder / "shuffled.txt", shuffled)
    runs("same bytes, shuffled list", lambda: variant("shuffled", samples=shuffled_list))
    runs("same bytes, two merged halves", merged)
    runs("same bytes, saved statistics with other bitwidths", other_widths)
    runs("statistics of another graph", foreign)


# -------------------------------------------------------------------- Makefile


def check_make(bench):
    folder = bench.new_folder("make")
    data = folder / "digits"
    shutil.copytree(DIGITS, data)
    if not shutil.which("make"):
        bench.checks.report("Makefile", "skip", "make is not installed")
        return

    def make():
        done = subprocess.run(
            ["make", "-f", str(ROOT / "examples/make/Makefile"), f"QTOOLS_BIN={bench.programs.folder}",
             f"DIGITS={data}", f"OUT={folder / 'build'}"],
            capture_output=True, text=True, cwd=folder, timeout=120)
        expect(done.returncode == 0, f"make ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        lines = done.stdout.splitlines()
        return [name for name in ("qconvert", "qquantize") if any(f"/{name} --" in line for line in lines)]

    def runs(*expected):
        found = make()
        expect(found == list(expected), f"ran {' and '.join(found) or 'nothing'}")

    def sample_touched():
        os.utime(data / "calibration" / "007.raw")
        runs("qquantize")
        runs()

    def model_touched():
        os.utime(data / "digits.onnx")
        runs("qconvert", "qquantize")
        runs()

    def sample_deleted():
        files = (data / "calibration.txt").read_text().splitlines(keepends=True)
        (data / "calibration.txt").write_text("".join(files[:-1]))
        (data / files[-1].strip()).unlink()
        runs("qquantize")
        runs()

    bench.checks.run("make: first run", runs, "qconvert", "qquantize")
    bench.checks.run("make: second run does nothing", runs)
    bench.checks.run("make: one sample touched", sample_touched)
    bench.checks.run("make: model touched", model_touched)
    bench.checks.run("make: one sample deleted", sample_deleted)


# ------------------------------------------------------------------ exit codes


def check_exit_codes(bench):
    folder = bench.new_folder("exit")
    programs, container = bench.programs, digits_container(bench)
    calibration = DIGITS / "calibration.txt"
    plain_file = folder / "plain"
    plain_file.write_text("a file where a folder should be\n")

    def code(expected, name, *arguments, says="error:"):
        before = sorted(folder.rglob("*"))
        done = programs.any(name, *arguments)
        message = first_error(done.stderr)
        expect(done.returncode == expected, f"exit code {done.returncode}, not {expected}: {message}")
        expect(says in done.stderr, f"does not say '{says}': {message}")
        left = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path not in before]
        expect(not left, f"left {', '.join(left[:5])}")
        return message

    def sample(name, values):
        values.tofile(folder / name)
        return write_list(folder / f"{name}.txt", [folder / name])

    short = sample("short.raw", np.zeros(63, "<f4"))
    double = sample("double.raw", np.zeros(64, "<f8"))
    not_a_number = sample("nan.raw", np.where(np.arange(64) == 9, np.nan, 0.5).astype("<f4"))
    absent = write_list(folder / "absent.txt", [*listed(calibration)[:3], folder / "absent.raw"])
    out, run = folder / "out.dlc", ("qrun", "execute", container, "--output_dir", folder / "results")
    quantize = ("qquantize", "--input_dlc", container, "--output_dlc", out, "--input_list")
    convert = ("qconvert", "--input_network", DIGITS / "digits.onnx", "--output_path")
    jobs = [
        ("qconvert: unknown option", 64, *convert, out, "--no-such-option"),
        ("qquantize: unknown option", 64, *quantize, calibration, "--no-such-option"),
        ("qinspect: unknown option", 64, "qinspect", "info", container, "--no-such-option"),
        ("qrun: unknown option", 64, *run, "--input_list", calibration, "--no-such-option"),
        ("qquantize: option of a later part", 64, *quantize, calibration, "--algorithms", "autoquant"),
        ("qquantize: no samples and no statistics", 64, "qquantize", "--input_dlc", container),
        ("qconvert: missing model", 1, "qconvert", "--input_network", folder / "no.onnx", "--output_path", out),
        ("qquantize: missing container", 1, "qquantize", "--input_dlc", folder / "no.dlc", "--input_list", calibration, "--output_dlc", out),
        ("qquantize: missing list", 1, *quantize, folder / "no.txt"),
        ("qinspect: missing container", 1, "qinspect", "info", folder / "no.dlc"),
        ("qrun: missing container", 1, "qrun", "execute", folder / "no.dlc", "--input_list", calibration, "--output_dir", folder / "results"),
        ("qquantize: missing sample", 1, *quantize, absent),
        ("qquantize: sample of a wrong size", 1, *quantize, short),
        ("qquantize: sample of float64", 1, *quantize, double),
        ("qquantize: NaN in a sample", 1, *quantize, not_a_number),
        ("qrun: missing sample", 1, *run, "--input_list", absent),
        ("qrun: sample of a wrong size", 1, *run, "--input_list", short),
        ("qinspect: a file that is no container", 1, "qinspect", "info", plain_file),
        ("qconvert: output below a file", 73, *convert, plain_file / "out.dlc"),
        ("qconvert: output in a folder that is not there", 73, *convert, folder / "none" / "out.dlc"),
        ("qquantize: output below a file", 73, *quantize[:3], "--output_dlc", plain_file / "out.dlc", "--input_list", calibration),
        ("qrun: results below a file", 73, *run[:3], "--output_dir", plain_file / "results", "--input_list", calibration),
    ]
    says = {"qquantize: sample of float64": "looks like float64", "qquantize: missing sample": "absent.raw"}
    for name, *arguments in jobs:
        unknown = "'--no-such-option'" if "unknown option" in name else "error:"
        bench.checks.run(name, lambda: code(*arguments, says=says.get(name, unknown)))

    def interrupted(number, name, *arguments):
        area = folder / f"signal-{name}-{number.name}"
        area.mkdir()
        many = write_list(folder / "many.txt", listed(calibration) * 1000)
        child = programs.start(
            name, *arguments, "--input_list", many, "--backend", "reference", "--jobs", 1, cwd=area)
        # Midway: all samples are checked first, then run for some seconds. Results show the moment,
        # qquantize shows nothing outside.
        start = time.perf_counter()
        while not next(area.rglob("Result_*"), None) and time.perf_counter() - start < 2 and child.poll() is None:
            time.sleep(0.02)
        time.sleep(0.2)
        if child.poll() is not None:
            child.communicate()
            raise Skip(f"ended with {child.returncode} before the signal")
        child.send_signal(number)
        start = time.perf_counter()
        child.communicate(timeout=60)
        left = os.listdir(area)
        status = child.returncode if child.returncode >= 0 else f"signal {-child.returncode}"
        expect(status == 128 + number, f"ended with {status}, not {128 + number}")
        expect(not left, f"left {', '.join(left[:5])}")
        return f"exit code {status} after {time.perf_counter() - start:.2f} s, nothing left"

    for number in (signal.SIGINT, signal.SIGTERM):
        bench.checks.run(
            f"qquantize: {number.name} midway", interrupted, number,
            "qquantize", "--input_dlc", container, "--output_dlc", "out.dlc")
        bench.checks.run(
            f"qrun execute: {number.name} midway", interrupted, number,
            "qrun", "execute", container, "--output_dir", "results")


# --------------------------------------------------------------------- exports


def blocks_of_digits(bench, low_power):
    """Options that give weights of digits block-wise encodings; the last block of one is shorter."""
    kind = "low-power" if low_power else "plain"
    folder = bench.new_folder(f"blocks-{kind}")
    export_checks.export(bench.programs, digits_container(bench), folder / "float.onnx")
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(folder / "float.onnx").graph.initializer}
    entries = []
    for name, size in (("conv3_pointwise.weight", 8), ("conv5_pointwise.weight", 12), ("classifier.weight", 16)):
        weight = weights[name]
        parts = np.array_split(weight, range(size, weight.shape[1], size), axis=1)
        scales = np.stack([np.abs(p.reshape(len(p), -1)).max(1) / 7 for p in parts], 1)
        entry = {
            "name": name, "dtype": "INT", "bw": 4, "enc_type": "PER_BLOCK", "is_sym": True, "block_size": size,
            "scale": [float(x) for x in scales.flat], "offset": [-8] * scales.size}
        if low_power:
            steps = scales.max(1) / 16
            factors = np.clip(np.rint(scales / steps[:, None]), 1, 16).astype(int)
            entry |= {
                "bw": 8, "compressed_bw": 4, "enc_type": "LPBQ", "scale": [float(x) for x in steps],
                "offset": [-128] * len(steps), "per_block_int_scale": factors.flatten().tolist()}
        entries.append(entry)
    path = folder / "blocks.encodings"
    path.write_text(json.dumps({"version": "1.0.0", "activation_encodings": [], "param_encodings": entries}))
    return ["--quantization_overrides", path]


def narrow_export(bench, container, samples, has_blocks):
    """Weights of 4 bits as ONNX has them, every node within a step, outputs as ONNX Runtime's."""
    folder = bench.new_folder(f"export/{container.stem}")
    notes = [export_checks.nodes_within_a_step(bench.programs, container, samples, folder, 20)]
    model = onnx.load(folder / "qdq.onnx")
    expect(model.opset_import[0].version == 21, f"operator set {model.opset_import[0].version}, not 21")
    constants = {value.name: value for value in model.graph.initializer}
    rows = blocks = narrow = 0
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        codes, scales = (constants[name] for name in node.input[:2])
        attributes = {a.name: a.i for a in node.attribute}
        narrow += codes.data_type == onnx.TensorProto.INT4
        if codes.data_type == onnx.TensorProto.INT4:
            expect(len(codes.raw_data) == (int(np.prod(codes.dims)) + 1) // 2, f"{codes.name} is not packed")
        if "block_size" in attributes:
            blocks += 1
            wanted = list(codes.dims)
            wanted[attributes["axis"]] = -(-wanted[attributes["axis"]] // attributes["block_size"])
            expect(list(scales.dims) == wanted, f"{scales.name} has the shape {list(scales.dims)}")
        elif "axis" in attributes and len(codes.dims) > 1:
            rows += 1
    expect(narrow == 6, f"{narrow} weights of 4 bits, not 6")
    expect((rows, blocks) == ((3, 3) if has_blocks else (6, 0)), f"{rows} per row or channel, {blocks} in blocks")
    notes.append(export_checks.float_export(bench.programs, container, samples, folder / "float"))
    return "; ".join(notes)


def check_exports(bench):
    """What qinspect export writes, in ONNX Runtime: digits and all minimal models."""
    list_of_digits = DIGITS / "test.txt"
    float_digits, digits = digits_container(bench), quantized_digits(bench)
    wide = bench.folder / "digits_w8a16.dlc"
    quantize_digits(bench, wide, "--act_bitwidth", "16")
    bench.checks.run(
        "export digits, float", export_checks.float_export, bench.programs, float_digits, list_of_digits,
        bench.new_folder("export/digits"))
    for name, container in (("W8A8", digits), ("W8A16", wide)):
        bench.checks.run(
            f"export digits, {name} as QDQ", export_checks.quantized_export, bench.programs, container,
            list_of_digits, bench.new_folder(f"export/{name}"), 20, 400)

    for name, options in (
            ("4-bit weights", []), ("packed 4-bit weights", ["--pack_4_bit_weights"]),
            ("blocks", blocks_of_digits(bench, False)), ("low-power blocks", blocks_of_digits(bench, True))):
        narrow = bench.folder / f"digits {name}.dlc"
        quantize_digits(bench, narrow, "--weights_bitwidth", "4", "--use_per_row_quantization", *options)
        bench.checks.run(
            f"export digits, {name}", narrow_export, bench, narrow, list_of_digits, "blocks" in name)

    # Between two codes interpolation ends on ties, which rounding in another order turns over; a float16
    # island behind an input has the name that the export gives to the input's own value.
    float_only = {"resize13_corners", "upsample9", "cast_half"}

    def exports(case):
        folder = bench.new_folder(f"export/{case['name']}")
        container, samples = folder / "model.dlc", folder / "list.txt"
        model = MINIMAL / case["model"]
        bench.programs(
            "qconvert", "--input_network", model, "--output_path", container, *symbolic_shapes(model, case))
        pairs = (f"{i['name']}:={MINIMAL / i['file']}".replace(" ", "\\ ") for i in case["inputs"])
        samples.write_text(" ".join(pairs) + "\n")
        notes = [export_checks.float_export(bench.programs, container, samples, folder / "float")]
        if case["name"] in float_only:
            return notes[0]
        quantized = folder / "quantized.dlc"
        done = bench.programs.any(
            "qquantize", "--input_dlc", container, "--input_list", samples, "--output_dlc", quantized,
            "--bias_bitwidth", "32", "--use_per_channel_quantization")
        if done.returncode != 0:
            return f"{notes[0]}; not quantized: {first_error(done.stderr)}"
        notes.append(export_checks.quantized_export(bench.programs, quantized, samples, folder / "qdq"))
        return "; ".join(notes)

    index = json.loads((MINIMAL / "cases.json").read_text())
    cases = (case for case in index["cases"] if not is_native(case))
    bench.side_by_side((f"export {case['name']}", exports, case) for case in cases)


# ------------------------------------------------------------------------ main

GROUPS = {
    "digits": check_digits,
    "rescaled": check_rescaled,
    "encoder": check_encoder,
    "networks": network_checks.check_networks,
    "qat": check_qat,
    "minimal": check_minimal,
    "export": check_exports,
    "damaged": check_damaged,
    "netron": check_netron,
    "determinism": check_determinism,
    "make": check_make,
    "exit": check_exit_codes,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default=ROOT / ".build/release", help="folder of the programs")
    parser.add_argument("--only", default="", metavar="WORD", help="groups whose name has this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qtools-peers-") as folder:
        bench = Bench(Programs(arguments.bin), pathlib.Path(folder))
        for name, group in GROUPS.items():
            if arguments.only not in name:
                continue
            try:
                group(bench)
            except Exception as problem:
                bench.checks.report(name, "FAIL", f"{type(problem).__name__}: {problem}")
        bench.pool.shutdown()
        return bench.checks.close()


if __name__ == "__main__":
    sys.exit(main())
