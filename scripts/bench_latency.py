#!/usr/bin/env python3
"""Times the runtime and qconvert against ONNX Runtime, in paired rounds.

    scripts/bench.sh [latency] [throughput] [simulation] [conversion] [--rounds N] [--only NAME ...]

A round runs every measurement once, ours and ONNX Runtime's in turn, so that a loaded machine slows both;
printed are medians over the rounds, and the median (least to most) of the rounds' ratios ours / theirs.

latency     One thread, float against float, batch 1. A measurement is a block of runs after ten that do not
            count: `qrun bench --measure latency` and a session of ONNX Runtime (all optimizations, operands
            bound) with one thread. "wall" is the median run by the clock, "cpu" the median run by the time
            that the thread computed: with other work on the machine, trust the latter.
throughput  Samples a second: `qrun bench --measure throughput --jobs 2` against a session with two threads
            inside operators. With less than two free processors the figures say nothing.
simulation  Time of a run of the quantized container (encodings simulated in float) over the float one.
conversion  Whole processes, read to written: qconvert, and a Python process that makes a session and saves the
            optimized model. The interpreter's imports (0.1 s and more) are not counted: that process prints
            when it starts reading and when it is done.

Networks are made by make_networks.py and make_encoder.py under out/bench; those of ../shared/models are left
out, and counted, where they are missing.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import make_encoder
import make_networks
import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "out/bench"
PARTS = ("latency", "throughput", "simulation", "conversion")
MADE = (
    "light_resnet50", "light_squeezenet", "light_shufflenet", "light_densenet121", "light_inception_v1",
    "light_inception_v2", "unet",
    "acoustic", "superres", "detector", "video")
SHARED = ("mobilenet_v1_025", "ultraface_rfb_320", "tiny_llama_105", "mnist")
TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}

SAVE = """
import sys, time, onnxruntime
options = onnxruntime.SessionOptions()
options.optimized_model_filepath, options.log_severity_level = sys.argv[2], 3
options.intra_op_num_threads = 1
start = time.perf_counter()
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(time.perf_counter() - start)
"""


class Network:
    """A model file, its samples and its container."""

    def __init__(self, name, model, samples, tools):
        self.name, self.model, self.list, self.tools = name, model, samples, tools
        self.container = OUT / name / f"{name}.dlc"
        self.sessions = {}

    def convert(self, path=None):
        self.tools("qconvert", "--input_network", self.model, "--output_path", path or self.container, "--quiet")

    def quantized(self):
        path = OUT / self.name / "quantized.dlc"
        self.tools(
            "qquantize", "--input_dlc", self.container, "--input_list", self.list, "--output_dlc", path,
            "--use_per_channel_quantization", "--quiet")
        return path

    def inputs(self):
        """The samples of the list."""
        samples = []
        for line in self.list.read_text().splitlines():
            parts = (part.split(":=") for part in line.split())
            samples.append({key: np.load(self.list.parent / file) for key, file in parts})
        return samples

    def session(self, threads):
        """ONNX Runtime's session and the operands of every sample bound to it."""
        if threads not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(str(self.model), options, providers=["CPUExecutionProvider"])
            bindings = []
            for sample in self.inputs():
                binding = session.io_binding()
                for key, value in sample.items():
                    binding.bind_ortvalue_input(key, onnxruntime.OrtValue.ortvalue_from_numpy(value))
                for output in session.get_outputs():
                    binding.bind_output(output.name, "cpu")
                bindings.append(binding)
            self.sessions[threads] = session, bindings
        return self.sessions[threads]


def shared_samples(model, folder):
    """Samples of seeded numbers for a network that comes without; the list's path."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    random, lines = np.random.default_rng(7), []
    folder.mkdir(parents=True, exist_ok=True)
    for sample in range(4):
        parts = []
        for number, value in enumerate(session.get_inputs()):
            kind = TYPES[value.type]
            numbers = (
                random.normal(0, 1, value.shape) if kind == np.float32 else random.integers(0, 100, value.shape))
            np.save(folder / f"sample{sample}_{number}.npy", numbers.astype(kind))
            parts.append(f"{value.name}:=sample{sample}_{number}.npy")
        lines.append(" ".join(parts) + "\n")
    (folder / "list.txt").write_text("".join(lines))
    return folder / "list.txt"


def networks(arguments, tools):
    """The networks to measure, and the number of those that are missing."""
    result, missing = [], 0
    onnxruntime.set_default_logger_severity(3)
    wide = make_encoder.Sizes(tokens=128, hidden=768, heads=12, inner=3072, layers=1)
    for name in arguments.only or [*SHARED, "encoder", "encoder_768", *MADE]:
        folder = OUT / name
        if name.startswith("encoder"):
            sizes = wide if name == "encoder_768" else make_encoder.Sizes()
            model, samples = make_encoder.write(folder, 17, samples=4, sizes=sizes), folder / "list.txt"
        elif name in SHARED:
            model = arguments.models.resolve() / f"{name}.onnx"
            if not model.exists():
                missing += 1
                continue
            samples = shared_samples(model, folder)
        else:
            model, samples = make_networks.write(folder, name), folder / "list.txt"
        network = Network(name, model, samples, tools)
        network.convert()
        result.append(network)
    return result, missing


def blocks(session, bindings, runs):
    """Milliseconds of every run, by the clock and by this thread's time."""
    wall, cpu = [], []
    for run in range(-min(10, runs), runs):
        binding = bindings[run % len(bindings)]
        start, used = time.perf_counter_ns(), time.thread_time_ns()
        session.run_with_iobinding(binding)
        if run >= 0:
            cpu.append((time.thread_time_ns() - used) / 1e6)
            wall.append((time.perf_counter_ns() - start) / 1e6)
    return wall, cpu


def bench(tools, container, samples, part, runs, *options):
    return json.loads(tools(
        "qrun", "bench", container, "--input_list", samples, "--measure", part, "--runs", runs, "--json", *options))


def block_length(session, bindings):
    """Runs that take about 0.4 seconds."""
    start = time.perf_counter()
    for _ in range(3):
        session.run_with_iobinding(bindings[0])
    return max(5, min(400, int(0.4 * 3 / (time.perf_counter() - start))))


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def latency(found, arguments, tools):
    rows = {}
    for _ in range(arguments.rounds):
        for network in found:
            session, bindings = network.session(1)
            runs = block_length(session, bindings)
            ours = bench(tools, network.container, network.list, "latency", runs)
            wall, cpu = blocks(session, bindings, runs)
            rows.setdefault(network.name, []).append((
                ours["latency_ms"]["median"], statistics.median(wall),
                ours["latency_cpu_ms"]["median"], statistics.median(cpu)))
    print("\n| latency, one thread | ours ms | ONNX Runtime ms | ratio | ours cpu ms | theirs | ratio cpu |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, row in rows.items():
        columns = [statistics.median(column) for column in zip(*row)]
        print(
            f"| {name} | {columns[0]:.3f} | {columns[1]:.3f} | {spread([a / b for a, b, _, _ in row])} |"
            f" {columns[2]:.3f} | {columns[3]:.3f} | {spread([a / b for _, _, a, b in row])} |")


def throughput(found, arguments, tools):
    rows = {}
    for _ in range(arguments.rounds):
        for network in found:
            session, bindings = network.session(2)
            runs = 2 * block_length(session, bindings)
            ours = bench(
                tools, network.container, network.list, "throughput", runs, "--jobs", 2)["samples_per_second"]
            start = time.perf_counter()
            for run in range(runs):
                session.run_with_iobinding(bindings[run % len(bindings)])
            rows.setdefault(network.name, []).append((ours, runs / (time.perf_counter() - start)))
    print("\n| samples a second | two workers | ONNX Runtime, two threads | ratio |\n| --- | ---: | ---: | ---: |")
    for name, row in rows.items():
        columns = [statistics.median(column) for column in zip(*row)]
        print(f"| {name} | {columns[0]:.1f} | {columns[1]:.1f} | {spread([a / b for a, b in row])} |")


def simulation(found, arguments, tools):
    rows, quantized = {}, {network.name: network.quantized() for network in found}
    for _ in range(arguments.rounds):
        for network in found:
            runs = block_length(*network.session(1))
            times = [
                bench(tools, path, network.list, "latency", runs)["latency_cpu_ms"]["median"]
                for path in (quantized[network.name], network.container)]
            rows.setdefault(network.name, []).append(times)
    print("\n| cpu time of a run | simulated ms | float ms | ratio |\n| --- | ---: | ---: | ---: |")
    for name, row in rows.items():
        columns = [statistics.median(column) for column in zip(*row)]
        print(f"| {name} | {columns[0]:.3f} | {columns[1]:.3f} | {spread([a / b for a, b in row])} |")


def conversion(found, arguments, tools):
    rows = {}
    for _ in range(arguments.rounds):
        for network in found:
            start = time.perf_counter()
            network.convert(OUT / "converted.dlc")
            ours = time.perf_counter() - start
            start = time.perf_counter()
            inside = float(subprocess.run(
                [sys.executable, "-c", SAVE, network.model, OUT / "optimized.onnx"], check=True, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
            rows.setdefault(network.name, []).append((ours, inside, time.perf_counter() - start))
    print("\n| conversion | qconvert s | ONNX Runtime's save s | ratio | whole Python process s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, row in rows.items():
        columns = [statistics.median(column) for column in zip(*row)]
        print(
            f"| {name} | {columns[0]:.3f} | {columns[1]:.3f} | {spread([a / b for a, b, _ in row])} |"
            f" {columns[2]:.3f} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help="default: all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", metavar="NAME", help="a network; may be repeated")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT.parent / "shared/models", metavar="DIR")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build/release", metavar="DIR")
    arguments = parser.parse_args()

    def tools(name, *options):
        result = subprocess.run(
            [str(arguments.bin / name), *map(str, options)], text=True, capture_output=True, check=False)
        if result.returncode != 0:
            raise SystemExit(f"error: {name} ended with {result.returncode}: {result.stderr.strip()[-300:]}")
        return result.stdout

    found, missing = networks(arguments, tools)
    print(f"{arguments.rounds} rounds, {len(found)} networks" + (f", {missing} missing" if missing else ""))
    for part in arguments.parts or PARTS:
        {"latency": latency, "throughput": throughput, "simulation": simulation, "conversion": conversion}[part](
            found, arguments, tools)


if __name__ == "__main__":
    main()
