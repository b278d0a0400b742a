#!/usr/bin/env python3
"""Times the algorithms that win back accuracy, beside a fixed workload of ONNX Runtime: whole processes, in turn.

    scripts/bench_recovery.py [--rounds N] [--models DIR] [--bin DIR]

200 calibration photographs, mobilenet_v1_025. The workload that times are divided by: ONNX Runtime runs the
float network 5,000 times on one thread. Printed are medians (least to most) of wall time, of peak memory,
and the ratio of the medians to the workload's. Needs what scripts/bench_calibration.py needs.
"""

import argparse
import pathlib
import statistics
import sys

from bench_calibration import NETWORK, OUT, ROOT, timed

WORKLOAD = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
source = session.get_inputs()[0]
value = numpy.fromfile(sys.argv[2], numpy.float32).reshape(source.shape)
for _ in range(5000):
    session.run(None, {source.name: value})
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=pathlib.Path, default=ROOT.parent / "shared/models", metavar="DIR")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build/release", metavar="DIR")
    arguments = parser.parse_args()
    container, samples = OUT / f"{NETWORK}.dlc", OUT / NETWORK / "calibration.txt"
    if not container.exists() or not samples.exists():
        raise SystemExit("error: no networks or raw inputs\nhint: run scripts/model-figures.sh first")
    config = OUT / "bench_adaround.yaml"
    config.write_text("adaround: {default_num_iterations: 200}\n")

    def ours(*options):
        return [
            arguments.bin / "qquantize", "--input_dlc", container, "--input_list", samples, "--output_dlc",
            OUT / "bench.dlc", "--bias_bitwidth", "32", "--quiet", *options]

    channel, four = "--use_per_channel_quantization", ("--weights_bitwidth", "4")
    photograph = samples.read_text().split("\n", 1)[0]
    rows = {
        "W8A8 per tensor, cle": ours("--apply_algorithms", "cle"),
        "W8A8 per channel, bias_correction": ours(channel, "--apply_algorithms", "bias_correction"),
        "W4A8 per channel, gptq": ours(channel, *four, "--apply_algorithms", "gptq"),
        "W8A8 per channel, cle gptq bias_correction, activations by mse": ours(
            channel, "--act_quantizer_calibration", "mse", "--apply_algorithms", "cle", "gptq", "bias_correction"),
        "W4A8 per channel, adaround, 200 steps a layer": ours(
            channel, *four, "--apply_algorithms", "adaround", "--config", config),
        "ONNX Runtime, the workload": [
            sys.executable, "-c", WORKLOAD, arguments.models.resolve() / f"{NETWORK}.onnx", photograph],
    }
    seconds, memory = {name: [] for name in rows}, {name: [] for name in rows}
    for _ in range(arguments.rounds):
        for name, command in rows.items():
            elapsed, peak = timed(command)
            seconds[name].append(elapsed)
            memory[name].append(peak)
    base = statistics.median(seconds["ONNX Runtime, the workload"])
    print(f"| {arguments.rounds} rounds | seconds | to the workload | peak MB |\n| --- | --- | --- | --- |")
    for name in rows:
        middle = statistics.median(seconds[name])
        spread = f"{min(seconds[name]):.1f} to {max(seconds[name]):.1f}"
        print(f"| {name} | {middle:.1f} ({spread}) | {middle / base:.3f} | {statistics.median(memory[name]):.0f} |")


if __name__ == "__main__":
    main()
