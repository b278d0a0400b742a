#!/usr/bin/env python3
"""Prints what the algorithms that win back accuracy reach on trained networks, beside ONNX Runtime.

    scripts/recovery_figures.py [--check] [--only NAME ...] [--models DIR] [--bin DIR]

DIR (default: ../shared/models) holds the networks and their data; calibration
and test samples are different ones. With --check the exit code is 1 where a
threshold is missed.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import version_converter

from checking import ROOT, Checks, Programs, expect, listed, write_list
from model_figures import LLAMA, MNIST, MOBILENET, OUT, Networks, prepare

ULTRAFACE = "ultraface_rfb_320"

BASE = ("--bias_bitwidth", "32")
CHANNEL = (*BASE, "--use_per_channel_quantization")
FOUR = (*CHANNEL, "--weights_bitwidth", "4", "--param_quantizer_calibration", "mse")

# What README recommends where weights and activations have 8 bits.
BY_MSE = ("--act_quantizer_calibration", "mse")
RECIPE = (*BY_MSE, "--apply_algorithms", "cle", "gptq", "bias_correction")

# Title, options, configuration, least correct of 800. MIXED: depthwise, first and last layers in 8 bits; SUGGESTED:
# what --suggest_overrides says.
MIXED, SUGGESTED = "MIXED", "SUGGESTED"
MOBILENET_ROWS = [
    ("W8A8 per tensor", BASE, "", None),
    ("the same, cle bias_correction", (*BASE, "--apply_algorithms", "cle", "bias_correction"), "", 440),
    ("the same, cle.objective range", (*BASE, "--apply_algorithms", "cle", "bias_correction"),
     "cle: {objective: range}", 435),
    ("W8A8 per channel", CHANNEL, "", None),
    ("the same, bias_correction", (*CHANNEL, "--apply_algorithms", "bias_correction"), "", 445),
    ("the same, cle bias_correction", (*CHANNEL, "--apply_algorithms", "cle", "bias_correction"), "", 448),
    ("the same, activations by mse, cle gptq bias_correction", (*CHANNEL, *RECIPE), "", 448),
    ("W4A8 per channel", FOUR, "", None),
    ("the same, gptq bias_correction", (*FOUR, "--apply_algorithms", "gptq", "bias_correction"), "", 350),
    ("the same, depthwise, first and last in 8 bits",
     (*FOUR, "--apply_algorithms", "gptq", "bias_correction", "-q", MIXED), "", 390),
    ("W4A8 per channel, activations by mse, cle gptq bias_correction", (*FOUR, *RECIPE), "", 350),
    ("the same with what --suggest_overrides raises", (*FOUR, *RECIPE, "-q", SUGGESTED), "", 430),
    ("W4A8 per channel, adaround, 2,000 iterations", (*FOUR, "--apply_algorithms", "adaround", "bias_correction"),
     "adaround: {default_num_iterations: 2000}", 350),
]


def quantized(networks, name, folder, number, options, configuration):
    """A container made with a row's options, and the seconds that took."""
    path = folder / f"{name}_{number}.dlc"
    options = list(options)
    if MIXED in options:
        options[options.index(MIXED)] = mixed(networks, name, folder)
    if SUGGESTED in options:
        options[options.index(SUGGESTED)] = folder / "suggested.json"
        networks.quantize(
            name, path, "--input_list", networks.list(name, "calibration"), *options[:-2],
            "--suggest_overrides", folder / "suggested.json")
    if configuration:
        (folder / "config.yaml").write_text(configuration + "\n")
        options += ["--config", folder / "config.yaml"]
    done = networks.quantize(name, path, "--input_list", networks.list(name, "calibration"), *options)
    return path, done.seconds


def mixed(networks, name, folder):
    """Overrides that give depthwise, first and last layers weights of 8 bits."""
    document = json.loads(networks.programs("qinspect", "info", OUT / f"{name}.dlc", "--json").stdout)
    layers = [one for one in document["operators"] if "Conv" in one["type"]]
    chosen = [one for one in layers if one["type"].startswith("DepthWise")] + [layers[0], layers[-1]]
    path = folder / "mixed.json"
    path.write_text(json.dumps({
        "version": "0.6.1", "activation_encodings": {},
        "param_encodings": {one["inputs"][1]: [{"bitwidth": 8, "dtype": "int"}] for one in chosen}}))
    return path


def outputs(networks, container, name, folder, tensors, samples):
    """Every output of every sample as one array, by tensor."""
    results = folder / "results"
    networks.programs(
        "qrun", "execute", container, "--input_list", samples, "--output_dir", results, "--set_output_tensors",
        ",".join(tensors))
    found = {}
    for tensor in tensors:
        files = [results / f"Result_{index}" / f"{tensor}.raw" for index in range(len(listed(samples)))]
        found[tensor] = numpy.stack([numpy.fromfile(file, numpy.float32) for file in files])
    subprocess.run(["rm", "-rf", str(results)], check=True)
    return found


def decibels(value, reference):
    noise = float(((value.astype(float) - reference) ** 2).sum())
    return math.inf if noise == 0 else 10 * math.log10(float((reference.astype(float) ** 2).sum()) / noise)


def mobilenet(networks, checks, folder):
    samples, labels = networks.list(MOBILENET, "test"), networks.labels(MOBILENET)
    truth = numpy.array([int(line) for line in labels.read_text().split()])
    logits = "conv_preds"
    document = json.loads(networks.programs("qinspect", "info", OUT / f"{MOBILENET}.dlc", "--json").stdout)
    softmax = next(one for one in document["operators"] if one["type"] == "Softmax")
    logits = softmax["inputs"][0]
    reference = outputs(networks, OUT / f"{MOBILENET}.dlc", MOBILENET, folder, [logits], samples)[logits]
    top = reference.argmax(1)
    lines = [f"| {MOBILENET} | top-1 | agreement | SQNR of logits | qquantize | wanted |",
             "| --- | --- | --- | --- | --- | --- |",
             f"| float | {(top == truth).sum()}/{len(truth)} | | | | |"]
    for number, (title, options, configuration, least) in enumerate(MOBILENET_ROWS):
        path, seconds = quantized(networks, MOBILENET, folder, number, options, configuration)
        found = outputs(networks, path, MOBILENET, folder, [logits], samples)[logits]
        # cle leaves the last layer's outputs as they are.
        best = found.argmax(1)
        correct, same = int((best == truth).sum()), int((best == top).sum())
        wanted = "" if least is None else f"at least {least}"
        lines.append(
            f"| {title} | {correct}/{len(truth)} ({100 * correct / len(truth):.2f} %) | {same}/{len(truth)} "
            f"| {decibels(found, reference):.1f} dB | {seconds:.1f} s | {wanted} |")
        if least is not None:
            checks.report(f"{MOBILENET} {title}", "pass" if correct >= least else "FAIL", f"{correct}, {wanted}")
    return lines


def mnist(networks, checks, folder):
    rows = [("W8A8 per tensor", BASE),
            ("the same, cle bias_correction", (*BASE, "--apply_algorithms", "cle", "bias_correction")),
            ("W8A8 per channel, activations by mse, cle gptq bias_correction", (*CHANNEL, *RECIPE))]
    containers = [OUT / f"{MNIST}.dlc"]
    for number, (_, options) in enumerate(rows):
        containers.append(quantized(networks, MNIST, folder, number, options, "")[0])
    done = networks.programs(
        "qrun", "evaluate", *containers, "--input_list", networks.list(MNIST, "test"), "--labels",
        networks.labels(MNIST), "--json")
    document = json.loads(done.stdout)
    lines = [f"| {MNIST} | top-1 |", "| --- | --- |"]
    counts = [entry["top"][0]["correct"] for entry in document["containers"]]
    for title, count in zip(["float"] + [title for title, _ in rows], counts):
        lines.append(f"| {title} | {count}/{document['total']} |")
    checks.report(f"{MNIST}: the algorithms lose nothing", "pass" if min(counts[2:]) >= 1988 else "FAIL",
                  f"{counts[2:]}, at least 1988 (ONNX Runtime)")
    return lines


def language(networks, checks, folder):
    row = (*BASE, "--use_per_row_quantization")
    rows = [("W8A8 per row", row, 3084), ("the same, bias_correction", (*row, "--apply_algorithms", "bias_correction"), 3084),
            ("the same, activations by mse, gptq bias_correction",
             (*row, *BY_MSE, "--apply_algorithms", "gptq", "bias_correction"), 3084)]
    lines = [f"| {LLAMA} | next character |", "| --- | --- |"]
    samples = networks.list(LLAMA, "test")
    for number, (title, options, least) in enumerate(rows):
        path, _ = quantized(networks, LLAMA, folder, number, options, "")
        results = folder / "results"
        networks.programs("qrun", "execute", path, "--input_list", samples, "--output_dir", results)
        files = [results / f"Result_{index}" / "logits.raw" for index in range(len(listed(samples)))]
        write_list(folder / "outputs.txt", files)
        done = subprocess.run(
            [sys.executable, str(networks.models / "score.py"), LLAMA, str(OUT / LLAMA / "test_labels.txt"),
             str(folder / "outputs.txt")], capture_output=True, text=True)
        expect(done.returncode == 0, f"score.py: {done.stderr.strip()[-300:]}")
        subprocess.run(["rm", "-rf", str(results)], check=True)
        correct, total = (int(number) for number in done.stdout.split("top-1 ")[1].split()[0].split("/"))
        lines.append(f"| {title} | {correct}/{total} |")
        checks.report(f"{LLAMA} {title}", "pass" if correct >= least else "FAIL", f"{correct}, at least {least}")
    return lines


def ultraface(networks, checks, folder):
    """SQNR of scores and boxes and F1 against the float network, beside ONNX Runtime's calibrators."""
    samples = networks.list(ULTRAFACE, "test")
    tensors = ["scores", "boxes"]
    reference = outputs(networks, OUT / f"{ULTRAFACE}.dlc", ULTRAFACE, folder, tensors, samples)
    lines = [f"| {ULTRAFACE} | SQNR of scores | of boxes | F1 |", "| --- | --- | --- | --- |"]

    def add(title, found):
        quality = [decibels(found[tensor], reference[tensor]) for tensor in tensors]
        lists = {}
        for tensor in tensors:
            files = []
            for index, values in enumerate(found[tensor]):
                files.append(folder / f"{tensor}_{index}.raw")
                values.tofile(files[-1])
            lists[tensor] = write_list(folder / f"{tensor}.txt", files)
        done = subprocess.run(
            [sys.executable, str(networks.models / "score.py"), ULTRAFACE, str(OUT / ULTRAFACE / "test_labels.txt"),
             str(lists["scores"]), "--boxes", str(lists["boxes"])], capture_output=True, text=True)
        expect(done.returncode == 0, f"score.py: {done.stderr.strip()[-300:]}")
        score = float(done.stdout.split("F1 ")[1].split()[0].strip(",;"))
        lines.append(f"| {title} | {quality[0]:.1f} dB | {quality[1]:.1f} dB | {score:.4f} |")
        return quality, score

    mine = []
    for number, (title, options) in enumerate([
            ("W8A8 per channel", CHANNEL), ("the same, bias_correction", (*CHANNEL, "--apply_algorithms", "bias_correction")),
            ("the same, activations by mse, cle gptq bias_correction", (*CHANNEL, *RECIPE))]):
        path, _ = quantized(networks, ULTRAFACE, folder, number, options, "")
        mine.append(add(title, outputs(networks, path, ULTRAFACE, folder, tensors, samples)))
    theirs = []
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    model = folder / "model.onnx"
    onnx.save(version_converter.convert_version(onnx.load(networks.models / f"{ULTRAFACE}.onnx"), 13), model)
    for method in ("MinMax", "Percentile", "Entropy"):
        target = folder / f"{method}.onnx"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(ROOT / "scripts/ort_quantize.py"), str(model),
             str(networks.list(ULTRAFACE, "calibration")), str(target), "--method", method],
            capture_output=True, text=True)
        expect(done.returncode == 0, f"ort_quantize.py: {done.stderr.strip()[-300:]}")
        session = onnxruntime.InferenceSession(str(target), quiet)
        source = session.get_inputs()[0]
        values = [session.run(tensors, {source.name: numpy.fromfile(file, numpy.float32).reshape(source.shape)})
                  for file in listed(samples)]
        theirs.append(add(f"ONNX Runtime per channel, {method}",
                          {tensor: numpy.stack([value[place].ravel() for value in values])
                           for place, tensor in enumerate(tensors)}))
    best = [max(quality[place] for quality, _ in theirs) for place in (0, 1)]
    quality, score = mine[-1]
    note = f"{quality[0]:.1f} and {quality[1]:.1f} dB, ONNX Runtime's best {best[0]:.1f} and {best[1]:.1f}"
    checks.report(f"{ULTRAFACE}: 1 dB above ONNX Runtime", "pass" if all(
        mine_ >= theirs_ + 1 for mine_, theirs_ in zip(quality, best)) else "FAIL", note)
    checks.report(f"{ULTRAFACE}: F1", "pass" if score >= 0.98 else "FAIL", f"{score:.4f}, at least 0.98")
    return lines


PARTS = {MOBILENET: mobilenet, MNIST: mnist, LLAMA: language, ULTRAFACE: ultraface}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit code 1 where a threshold is missed")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS), metavar="NAME")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT.parent / "shared/models", metavar="DIR")
    parser.add_argument("--bin", default=ROOT / ".build/release", metavar="DIR", help="folder of the programs")
    arguments = parser.parse_args()
    models = arguments.models.resolve()
    if not (models / "prepare.py").exists():
        raise SystemExit(f"error: no networks in {arguments.models}\nhint: name their folder by --models")
    networks, checks = Networks(Programs(arguments.bin), models), Checks()
    prepare(models)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            networks.container(name)
            verdict, result = checks.outcome(PARTS[name], networks, checks, pathlib.Path(folder))
            if verdict == "pass":
                tables.append(result)
            else:
                checks.report(name, "FAIL", result)
    for table in tables:
        print()
        print("\n".join(table))
    print()
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if arguments.check and (checks.failed or not checks.passed) else 0


if __name__ == "__main__":
    sys.exit(main())
