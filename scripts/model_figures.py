#!/usr/bin/env python3
"""Prints what the programs reach on trained networks: agreement with ONNX Runtime, accuracy, time.

    scripts/model-figures.sh [--check] [--models DIR] [--bin DIR]

DIR (default: ../shared/models) holds the networks, their data and prepare.py,
which makes raw inputs of them; those are kept in out/models for the next time.
With --check the exit code is 1 where a threshold is missed.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import time

from checking import ROOT, Checks, Programs, agrees_with_onnx_runtime, expect, listed, write_list

OUT = ROOT / "out/models"
SAMPLES = 20  # Inputs for the agreement with ONNX Runtime.

# Inputs to prepare: everything where accuracy is measured, else a few.
LIMITS = {"mobilenet_v1_025": None, "mnist": None, "ultraface_rfb_320": None, "mobilenet_v1_025_nhwc": SAMPLES,
          "tiny_llama_105": None}

MOBILENET, MNIST, LLAMA = "mobilenet_v1_025", "mnist", "tiny_llama_105"

# Row, network, options (None: the float container), at least, exactly.
CALIBRATED = ("--bias_bitwidth", "32")
PER_CHANNEL = (*CALIBRATED, "--use_per_channel_quantization")
ROWS = [
    ("float", MOBILENET, None, None, 455),
    ("W8A8 per channel", MOBILENET, PER_CHANNEL, 428, None),
    ("W8A16 per channel", MOBILENET, (*PER_CHANNEL, "--act_bitwidth", "16"), 428, None),
    ("W16A16 per channel", MOBILENET,
     (*PER_CHANNEL, "--weights_bitwidth", "16", "--act_bitwidth", "16"), 452, None),
    ("W16A16 per tensor", MOBILENET,
     (*CALIBRATED, "--weights_bitwidth", "16", "--act_bitwidth", "16"), None, None),
    ("W8A8 per tensor", MOBILENET, CALIBRATED, None, None),
    ("W8A8 per channel, weights by mse", MOBILENET,
     (*PER_CHANNEL, "--param_quantizer_calibration", "mse"), None, None),
    ("W8A8 per channel, all by sqnr", MOBILENET,
     (*PER_CHANNEL, "--act_quantizer_calibration", "sqnr", "--act_quantizer_schema", "unsignedsymmetric",
      "--param_quantizer_calibration", "sqnr"), 434, None),
    ("float", MNIST, None, None, None),
    ("W8A8 per tensor", MNIST, CALIBRATED, 1988, None),
    ("W8A8 per channel", MNIST, PER_CHANNEL, None, None),
]


def is_prepared(folder, limit):
    """Whether the lists are there and every file they name."""
    lists = [folder / "calibration.txt", folder / "test.txt"]
    if not all(path.exists() for path in [*lists, folder / "test_labels.txt"]):
        return False
    count = len(listed(lists[1]))
    if (limit is None) == (count <= SAMPLES):
        return False
    return all(pathlib.Path(file).exists() for path in lists for file in listed(path))


def prepare(models):
    """Raw inputs in out/models, made where they are absent."""
    for name, limit in LIMITS.items():
        if is_prepared(OUT / name, limit):
            continue
        command = [sys.executable, str(models / "prepare.py"), str(OUT), "--model", name]
        if limit:
            command += ["--limit", str(limit)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: prepare.py: {done.stderr.strip()[-300:]}")


class Networks:
    """The networks as containers, with their lists."""

    def __init__(self, programs, models):
        self.programs, self.models = programs, models

    def list(self, name, split, count=None):
        """The list of a split, or of `count` of its samples spread over it."""
        files = listed(OUT / name / f"{split}.txt")
        count = min(count or len(files), len(files))
        chosen = [files[k * (len(files) - 1) // max(count - 1, 1)] for k in range(count)]
        return write_list(OUT / name / f"{split}_{count}.txt", chosen)

    def labels(self, name):
        """Class indices, one a line."""
        lines = (OUT / name / "test_labels.txt").read_text().splitlines()
        path = OUT / name / "classes.txt"
        path.write_text("".join(f"{line.split()[0]}\n" for line in lines if line.strip()))
        return path

    def container(self, name):
        path = OUT / f"{name}.dlc"
        self.programs("qconvert", "--input_network", self.models / f"{name}.onnx", "--output_path", path)
        return path

    def quantize(self, name, output, *options):
        target = ("--output_dlc", output) if output else ()
        return self.programs("qquantize", "--input_dlc", OUT / f"{name}.dlc", *target, *options)


def agreement(networks, name, backend):
    results = OUT / name / f"results_{backend}"
    samples = networks.list(name, "test", SAMPLES)
    start = time.perf_counter()
    networks.programs(
        "qrun", "execute", OUT / f"{name}.dlc", "--input_list", samples, "--output_dir", results,
        "--backend", backend)
    seconds = time.perf_counter() - start
    note = agrees_with_onnx_runtime(networks.models / f"{name}.onnx", samples, results)
    return f"{note} ({seconds:.1f} s)"


PER_ROW = (*CALIBRATED, "--use_per_row_quantization")
BY_MSE = ("--param_quantizer_calibration", "mse")

# As ROWS: the next character of 4,082.
LANGUAGE_ROWS = [
    ("float", None, None, 3115),
    ("W8A8", CALIBRATED, 3084, None),
    ("W8A8 per row", PER_ROW, 3084, None),
    ("W8A8 per row, all by mse", (*PER_ROW, *BY_MSE, "--act_quantizer_calibration", "mse"), 3084, None),
    ("W8A16 per row", (*PER_ROW, "--act_bitwidth", "16"), 3095, None),
    ("W8A16 per row, weights by mse", (*PER_ROW, *BY_MSE, "--act_bitwidth", "16"), 3095, None),
]


def language_table(networks, checks):
    """The same for the language model, scored by score.py of the models' folder."""
    lines = ["| network | encodings | next character | wanted |", "| --- | --- | --- | --- |"]
    verdicts = []
    for title, options, least, exact in LANGUAGE_ROWS:
        path = OUT / f"{LLAMA}.dlc"
        name = title.lower().replace(",", "").replace(" ", "_")
        if options is not None:
            path = OUT / f"{LLAMA}_{name}.dlc"
            networks.quantize(LLAMA, path, "--input_list", networks.list(LLAMA, "calibration"), *options)
        results = OUT / LLAMA / f"results_{name}"
        samples = networks.list(LLAMA, "test")
        networks.programs("qrun", "execute", path, "--input_list", samples, "--output_dir", results)
        outputs = [results / f"Result_{index}" / "logits.raw" for index in range(len(listed(samples)))]
        write_list(OUT / LLAMA / "outputs.txt", outputs)
        done = subprocess.run(
            [sys.executable, str(networks.models / "score.py"), LLAMA, str(OUT / LLAMA / "test_labels.txt"),
             str(OUT / LLAMA / "outputs.txt")], capture_output=True, text=True)
        expect(done.returncode == 0, f"score.py: {done.stderr.strip()[-300:]}")
        correct, total = (int(number) for number in done.stdout.split("top-1 ")[1].split()[0].split("/"))
        wanted = f"{exact}" if exact is not None else f"at least {least}"
        lines.append(f"| {LLAMA} | {title} | {correct}/{total} ({100 * correct / total:.2f} %) | {wanted} |")
        good = correct == exact if exact is not None else correct >= least
        verdicts.append((f"{LLAMA} {title}", good, f"{correct}/{total}, wanted {wanted}"))
    print()
    print("\n".join(lines))
    print()
    for name, good, note in verdicts:
        checks.report(name, "pass" if good else "FAIL", note)


def accuracy_table(networks, checks):
    """Quantizes and evaluates every row; prints the table and makes its checks."""
    lines = ["| network | encodings | top-1 | top-5 | parameter bytes | qquantize | wanted |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    verdicts = []
    for network in (MOBILENET, MNIST):
        rows = [row for row in ROWS if row[1] == network]
        containers, seconds = [], []
        for title, _, options, *_ in rows:
            if options is None:
                containers.append(OUT / f"{network}.dlc")
                seconds.append("")
                continue
            path = OUT / f"{network}_{title.lower().replace(' ', '_')}.dlc"
            done = networks.quantize(
                network, path, "--input_list", networks.list(network, "calibration"), *options)
            containers.append(path)
            seconds.append(f"{done.seconds:.1f} s")
        start = time.perf_counter()
        done = networks.programs(
            "qrun", "evaluate", *containers, "--input_list", networks.list(network, "test"),
            "--labels", networks.labels(network), "--top_k", "1,5", "--json")
        elapsed = time.perf_counter() - start
        document = json.loads(done.stdout)
        total = document["total"]
        expect(len(document["containers"]) == len(rows), "qrun evaluate left a container out")
        for (title, _, _, least, exact), result, cost in zip(rows, document["containers"], seconds):
            top = {entry["k"]: entry["correct"] for entry in result["top"]}
            wanted = f"{exact}" if exact is not None else f"at least {least}" if least is not None else ""
            share = lambda k: f"{top[k]}/{total} ({100 * top[k] / total:.2f} %)"
            lines.append(
                f"| {network} | {title} | {share(1)} | {share(5)} | {result['parameter_bytes']} | {cost} | {wanted} |")
            if wanted:
                good = top[1] == exact if exact is not None else top[1] >= least
                verdicts.append((f"{network} {title}", good, f"{top[1]}/{total}, wanted {wanted}"))
        verdicts.append((f"{network}: {len(rows)} containers x {total} samples in {elapsed:.1f} s", None, ""))
    print()
    print("\n".join(lines))
    print()
    for name, good, note in verdicts:
        if good is None:
            print(name)
        else:
            checks.report(name, "pass" if good else "FAIL", note)


def saved_statistics(networks):
    """A second run with other bitwidths against one that runs the samples."""
    stats, samples = OUT / "mobilenet_stats.json", networks.list(MOBILENET, "calibration")
    first = networks.quantize(
        MOBILENET, OUT / "stats_w8a8.dlc", *PER_CHANNEL, "--input_list", samples, "--save_stats", stats)
    wider = (*PER_CHANNEL, "--act_bitwidth", "16")
    full = networks.quantize(MOBILENET, OUT / "stats_full.dlc", *wider, "--input_list", samples)
    second = networks.quantize(MOBILENET, OUT / "stats_again.dlc", *wider, "--load_stats", stats)
    expect(same_bytes("stats_full", "stats_again"), "other bytes than the run with samples")
    return (
        f"W8A8 with 200 photographs {first.seconds:.2f} s; W8A16 with them {full.seconds:.2f} s, "
        f"from statistics {second.seconds:.2f} s ({full.seconds / second.seconds:.0f} times faster), same bytes")


def same_bytes(one, other):
    return (OUT / f"{one}.dlc").read_bytes() == (OUT / f"{other}.dlc").read_bytes()


def determinism(networks):
    """The same container for every number of jobs, order and split of the samples."""
    samples = networks.list(MOBILENET, "calibration", 20)
    files = listed(samples)
    random.Random(6).shuffle(files)
    shuffled = write_list(OUT / MOBILENET / "shuffled.txt", files)
    halves = []
    for name, part in (("a", files[:7]), ("b", files[7:])):
        part_list = write_list(OUT / MOBILENET / f"half_{name}.txt", part)
        halves.append(OUT / f"half_{name}.json")
        networks.quantize(MOBILENET, None, "--input_list", part_list, "--save_stats", halves[-1])
    runs = {
        "jobs_1": ("--input_list", samples, "--jobs", "1"),
        "jobs_2": ("--input_list", samples, "--jobs", "2"),
        "shuffled": ("--input_list", shuffled),
        "halves": ("--load_stats", *halves),
    }
    for name, options in runs.items():
        networks.quantize(MOBILENET, OUT / f"same_{name}.dlc", *PER_CHANNEL, *options)
    others = [name for name in runs if not same_bytes("same_jobs_1", f"same_{name}")]
    expect(not others, f"other bytes: {', '.join(others)}")
    return "20 photographs: --jobs 1, --jobs 2, shuffled list, two merged halves"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit code 1 where a threshold is missed")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT.parent / "shared/models", metavar="DIR")
    parser.add_argument("--bin", default=ROOT / ".build/release", metavar="DIR", help="folder of the programs")
    arguments = parser.parse_args()
    models = arguments.models.resolve()
    if not (models / "prepare.py").exists():
        raise SystemExit(f"error: no networks in {arguments.models}\nhint: name their folder by --models")
    start = time.perf_counter()
    networks, checks = Networks(Programs(arguments.bin), models), Checks()
    prepare(models)

    for name in LIMITS:
        if not checks.run(f"{name}: convert", lambda: f"{networks.container(name).stat().st_size} bytes"):
            continue
        for backend in ("onednn", "reference"):
            checks.run(f"{name}, ONNX Runtime and {backend}", agreement, networks, name, backend)
    verdict, note = checks.outcome(accuracy_table, networks, checks)
    if verdict != "pass":
        checks.report("accuracy", "FAIL", note)
    verdict, note = checks.outcome(language_table, networks, checks)
    if verdict != "pass":
        checks.report(f"{LLAMA} accuracy", "FAIL", note)
    checks.run("saved statistics with other bitwidths", saved_statistics, networks)
    checks.run("same bytes", determinism, networks)

    print(f"{time.perf_counter() - start:.0f} s")
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if arguments.check and (checks.failed or not checks.passed) else 0


if __name__ == "__main__":
    sys.exit(main())
