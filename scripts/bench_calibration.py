#!/usr/bin/env python3
"""Times calibration against itself and against ONNX Runtime's: whole processes, in turn.

    scripts/bench.sh [--rounds N] [--models DIR] [--bin DIR]

Every row is a command; the commands of a round run one after the other, so that a loaded machine slows
all of them. Printed are medians (least to most) of wall time and of peak memory, and ratios of medians.
Needs the networks of ../shared/models; model-figures.sh makes their raw inputs.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

# Nothing large is imported: on Linux a process counts the memory of the one that started it as its own.
ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "out/models"
NETWORK = "mobilenet_v1_025"


def timed(command):
    """Seconds and peak megabytes of a process."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"error: {command[0]} ended with {process.returncode}: {message.strip()[-300:]}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def repeated(count):
    """A list of `count` samples, the calibration photographs over and over."""
    files = (OUT / NETWORK / "calibration.txt").read_text().split("\n")[:-1]
    path = OUT / NETWORK / f"bench_{count}.txt"
    path.write_text("".join(f"{files[k % len(files)]}\n" for k in range(count)))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", type=pathlib.Path, default=ROOT.parent / "shared/models", metavar="DIR")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build/release", metavar="DIR")
    arguments = parser.parse_args()
    model = arguments.models.resolve() / f"{NETWORK}.onnx"
    if not model.exists() or not (OUT / NETWORK / "calibration.txt").exists():
        raise SystemExit("error: no networks or raw inputs\nhint: run scripts/model-figures.sh first")
    container = OUT / f"{NETWORK}.dlc"
    subprocess.run(
        [arguments.bin / "qconvert", "--input_network", model, "--output_path", container, "--quiet"], check=True)
    # What ONNX Runtime advises before quantizing (BatchNorm is folded there); not timed.
    prepared = OUT / "bench_prepared.onnx"
    subprocess.run(
        [sys.executable, "-m", "onnxruntime.quantization.preprocess", "--input", model, "--output", prepared,
         "--skip_symbolic_shape", "True"],
        check=True, stderr=subprocess.DEVNULL)
    lists = {count: repeated(count) for count in (20, 100, 200, 2000)}

    def ours(count, *options):
        return [
            arguments.bin / "qquantize", "--input_dlc", container, "--input_list", lists[count],
            "--output_dlc", OUT / "bench.dlc", "--use_per_channel_quantization", "--bias_bitwidth", "32", "--quiet",
            *options]

    def theirs(count, method):
        return [
            sys.executable, ROOT / "scripts/ort_quantize.py", prepared, lists[count], OUT / "bench.onnx", "--method", method]

    method = "--act_quantizer_calibration"
    rows = {
        "qquantize min-max, 200": ours(200),
        "qquantize sqnr activations, 200": ours(200, method, "sqnr"),
        "qquantize percentile, 100": ours(100, method, "percentile"),
        "ONNX Runtime percentile, 100": theirs(100, "Percentile"),
        "qquantize entropy, 100": ours(100, method, "entropy"),
        "ONNX Runtime entropy, 100": theirs(100, "Entropy"),
        "qquantize sqnr, 20": ours(20, method, "sqnr"),
        "qquantize sqnr, 2000": ours(2000, method, "sqnr"),
    }
    results = {name: [] for name in rows}
    for _ in range(arguments.rounds):
        for name, command in rows.items():
            results[name].append(timed(command))

    def median(name, figure):
        return statistics.median(result[figure] for result in results[name])

    print(f"{arguments.rounds} rounds, medians (least to most)")
    print("| command, samples | seconds | peak MB |\n| --- | --- | --- |")
    for name, runs in results.items():
        cells = []
        for figure, digits in ((0, 2), (1, 0)):
            values = [run[figure] for run in runs]
            cells.append(f"{median(name, figure):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})")
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    print("\n| ratio | time | memory |\n| --- | --- | --- |")
    for one, other in (
        ("qquantize sqnr activations, 200", "qquantize min-max, 200"),
        ("ONNX Runtime percentile, 100", "qquantize percentile, 100"),
        ("ONNX Runtime entropy, 100", "qquantize entropy, 100"),
        ("qquantize sqnr, 2000", "qquantize sqnr, 20"),
    ):
        shares = [f"{median(one, figure) / median(other, figure):.2f}" for figure in (0, 1)]
        print(f"| {one} / {other} | {shares[0]} | {shares[1]} |")


if __name__ == "__main__":
    main()
