#!/usr/bin/env python3
"""Measures size: peak memory and seconds on large models, start-up on small ones.

    scripts/size_figures.py --bin .build/release [--work FOLDER] [--check] [--only NAME ...]

Makes three models with random weights in FOLDER (default: a new folder below the current one; 16 GB have to
be free; the files are deleted afterwards):

    vgg19     light_vgg19 of make_networks.py, 575 MB in one file
    embedding a table of 2.3 GB and a head of 12 matrices of 67 MB, 3.1 GB as external data
    chain     70 matrices of 67 MB, 4.7 GB as external data: a container over 4 GB

and runs the programs on them. Peak memory is the resident set as the system counts it (wait4), mapped files
included. The time of copying is that of `cp`, alternating with qconvert, once as it is and once with the
copy flushed to the disk (`sync`), as the programs flush what they write; medians of --runs. With --check
the exit status is 1 where a figure misses its aim.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

FIGURES = []


def figure(name, value, unit, aim=None):
    """Notes and prints a figure; `aim`: what it should at most be."""
    good = aim is None or value <= aim
    FIGURES.append((name, good))
    text = f"{name:58} {value:9.3f} {unit:3}"
    print(text + ("" if aim is None else f"  aim {aim:.3f}{'' if good else '  MISSED'}"), flush=True)


# A process begins with the resident set of the one that starts it, so that has to be a small one.
STARTER = """
import os, sys, time
start = time.monotonic()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", 1, 0)])
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), time.monotonic() - start, usage.ru_maxrss * 1024, file=sys.stderr)
"""


def measured(program, *arguments):
    """Seconds and peak bytes of a program."""
    command = [shutil.which(program), *map(str, arguments)]
    done = subprocess.run([sys.executable, "-S", "-c", STARTER, *command], stderr=subprocess.PIPE, text=True)
    *messages, last = done.stderr.splitlines()
    status, seconds, memory = last.split()
    if status != "0":
        sys.exit("\n".join([" ".join(command), *messages, f"ended with {status}"]))
    return float(seconds), int(memory)


def median(runs, make):
    return statistics.median(make() for _ in range(runs))


class External:
    """A model whose weights are written to a file beside it as they are made."""

    def __init__(self, folder):
        from onnx import helper
        self.helper, self.folder, self.tensors, self.nodes = helper, folder, [], []
        folder.mkdir(parents=True)
        self.file = open(folder / "model.onnx.data", "wb")
        self.random = np.random.default_rng(3)

    def weight(self, name, rows, columns):
        from onnx import TensorProto
        start = self.file.tell()
        block = self.random.standard_normal((4096, columns), np.float32) / np.float32(np.sqrt(columns))
        for first in range(0, rows, 4096):
            # Distinct blocks from one: rolled and scaled.
            part = np.roll(block, first % 977, axis=1)[: min(4096, rows - first)]
            self.file.write((part * np.float32(1 + first % 13 / 64)).tobytes())
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[rows, columns])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "model.onnx.data"), ("offset", start), ("length", 4 * rows * columns)):
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(self.helper.make_node(kind, inputs, [output], name=f"node_{output}", **attributes))

    def save(self, inputs, output):
        import onnx
        self.file.close()
        graph = self.helper.make_graph(
            self.nodes, "large",
            [self.helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
            [self.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)], self.tensors)
        model = self.helper.make_model(graph, opset_imports=[self.helper.make_opsetid("", 17)])
        model.ir_version = 8
        path = self.folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        for name, kind, shape in inputs:
            dtype = np.float32 if kind == onnx.TensorProto.FLOAT else np.int64
            values = self.random.standard_normal(shape) if dtype == np.float32 else self.random.integers(0, 1000, shape)
            np.save(self.folder / f"{name}.npy", values.astype(dtype))
        (self.folder / "list.txt").write_text(" ".join(f"{name}:={name}.npy" for name, _, _ in inputs) + "\n")
        return path


def embedding(folder):
    from onnx import TensorProto
    net = External(folder)
    net.weight("table", 140_000, 4096)
    net.node("Gather", ["table", "ids"], "x0")
    for index in range(12):
        net.weight(f"w{index}", 4096, 4096)
        net.node("MatMul", [f"x{index}", f"w{index}"], f"m{index}")
        net.node("Relu", [f"m{index}"], f"x{index + 1}")
    return net.save([("ids", TensorProto.INT64, [1, 16])], "x12")


def chain(folder):
    from onnx import TensorProto
    net = External(folder)
    for index in range(70):
        net.weight(f"w{index}", 4096, 4096)
        net.node("MatMul", [f"x{index}", f"w{index}"], f"m{index}")
        net.node("Relu", [f"m{index}"], f"x{index + 1}")
    return net.save([("x0", TensorProto.FLOAT, [1, 4096])], "x70")


def size_of(path):
    data = path.with_suffix(".onnx.data")
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def convert(options, name, model, container):
    """Memory and time of qconvert, against copying."""
    size = size_of(model)
    files = [file for file in (model, model.with_suffix(".onnx.data")) if file.exists()]
    copies = [container.with_name(f"copy{index}") for index in range(len(files))]
    times = {"cp": [], "cp flushed": [], "qconvert": []}
    peak = 0
    for file in files:  # Warm the cache.
        with open(file, "rb") as stream:
            while stream.read(1 << 24):
                pass
    for _ in range(options.runs):
        for kind in times:
            for path in (*copies, container):
                path.unlink(missing_ok=True)
            if kind == "qconvert":
                seconds, memory = measured(options.bin / "qconvert", "-i", model, "-o", container, "--quiet")
                peak = max(peak, memory)
            else:
                seconds = 0
                for file, copy in zip(files, copies):
                    seconds += measured("cp", file, copy)[0]
                    if kind != "cp":
                        seconds += measured("sync", copy)[0]
            times[kind].append(seconds)
    for path in copies:
        path.unlink(missing_ok=True)
    cp, flushed, seconds = (statistics.median(times[kind]) for kind in times)
    figure(f"{name}: size", size / 1e9, "GB")
    figure(f"{name}: qconvert, peak memory to size", peak / size, "", 1.2)
    figure(f"{name}: cp", cp, "s")
    figure(f"{name}: cp and sync", flushed, "s")
    figure(f"{name}: qconvert", seconds, "s")
    figure(f"{name}: qconvert to cp and sync", seconds / flushed, "", 2)
    return size


def inspected(options, name, container):
    seconds, memory = zip(*(measured(options.bin / "qinspect", "info", container) for _ in range(9)))
    figure(f"{name}: qinspect info", 1000 * statistics.median(seconds), "ms", 50)
    figure(f"{name}: qinspect info, peak memory", max(memory) / 1e6, "MB", 50)


def ran(options, name, model, container, size, folder):
    seconds, memory = measured(
        options.bin / "qrun", "execute", container, "-l", model.parent / "list.txt", "--output_dir", folder / "out",
        "--jobs", "1", "--quiet")
    figure(f"{name}: qrun execute", seconds, "s")
    figure(f"{name}: qrun execute, peak memory to size", memory / size, "", 1.2)
    shutil.rmtree(folder / "out")


def quantized(options, name, model, container, size, folder):
    target = folder / "quantized.dlc"
    seconds, memory = measured(
        options.bin / "qquantize", "-i", container, "-o", target, "-l", model.parent / "list.txt", "--jobs", "1",
        "--use_per_channel_quantization", "--quiet")
    figure(f"{name}: qquantize", seconds, "s")
    figure(f"{name}: qquantize, peak memory to size", memory / size, "", 2)
    figure(f"{name}: quantized container", target.stat().st_size / 1e9, "GB")
    seconds, memory = measured(options.bin / "qinspect", "verify", target)
    figure(f"{name}: qinspect verify of it", seconds, "s")
    figure(f"{name}: qinspect verify of it, peak memory to size", memory / size, "", 1.2)
    target.unlink()


def verified(options, name, container, size):
    seconds, memory = measured(options.bin / "qinspect", "verify", container)
    figure(f"{name}: qinspect verify", seconds, "s")
    figure(f"{name}: qinspect verify, peak memory to size", memory / size, "", 1.2)


def large(options, name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    if name == "vgg19":
        import make_networks
        model = make_networks.write(folder / name, "light_vgg19", samples=1)
    else:
        model = {"embedding": embedding, "chain": chain}[name](folder / name)
    container = folder / "model.dlc"
    size = convert(options, name, model, container)
    figure(f"{name}: container", container.stat().st_size / 1e9, "GB")
    inspected(options, name, container)
    verified(options, name, container, size)
    ran(options, name, model, container, size, folder)
    quantized(options, name, model, container, size, folder)
    shutil.rmtree(folder)


def start_up(options, folder):
    folder.mkdir(parents=True, exist_ok=True)
    digits, container = ROOT / "Fixtures/digits", folder / "digits.dlc"
    quantized = folder / "digits_q.dlc"
    cases = {
        "qinspect info": (30, ["qinspect", "info", container]),
        "qconvert": (100, ["qconvert", "-i", digits / "digits.onnx", "-o", container, "--quiet"]),
        "qquantize, 1 sample": (None, ["qquantize", "-i", container, "-o", quantized, "-l", folder / "list.txt", "--quiet"]),
        "qrun execute, 1 sample": (
            None, ["qrun", "execute", container, "-l", folder / "list.txt", "--output_dir", folder / "out", "--quiet"]),
        "qconvert --help": (None, ["qconvert", "--help"]),
        "qrun --help": (None, ["qrun", "--help"]),
    }
    first = (digits / "test.txt").read_text().splitlines()[0]
    (folder / "list.txt").write_text(str(digits / first.split(":=")[-1]) + "\n")
    measured(options.bin / "qconvert", "-i", digits / "digits.onnx", "-o", container, "--quiet")
    for name, (aim, (program, *arguments)) in cases.items():
        seconds = [measured(options.bin / program, *arguments) for _ in range(20)]
        figure(f"digits: {name}, median of 20", 1000 * statistics.median(s for s, _ in seconds), "ms", aim)
    shutil.rmtree(folder)


def main():
    names = ["start", "vgg19", "embedding", "chain"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="folder of the programs")
    parser.add_argument("--work", type=pathlib.Path, default=".", help="where the folder of the models is made")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--runs", type=int, default=5, help="of cp and qconvert")
    options = parser.parse_args()
    options.bin = options.bin.resolve()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="size-figures.", dir=options.work))
    try:
        for name in options.only:
            start_up(options, folder / name) if name == "start" else large(options, name, folder / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    missed = [name for name, good in FIGURES if not good]
    print(f"{len(FIGURES)} figures, {len(missed)} missed")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
