#!/usr/bin/env python3
"""Latency of integer execution beside ONNX Runtime's quantized (QDQ) model, one thread each.

    scripts/bench_integer.py [--bin DIR] [--folder out/bench_integer] [--rounds 7] [--json] [NETWORK ...]

NETWORK is mobilenet (mobilenet_v1_025 from ../shared/models) or resnet50 (scripts/make_networks.py). Both
sides quantize to unsigned 8-bit activations and signed 8-bit weights a channel with the same samples. Rounds
alternate, so that both see the same machine; figures are medians, the ratio is the median of the rounds'.

`pairs(folder, programs, rounds, networks)` is what other scripts call.
"""

import argparse
import json
import logging
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent / ".." / "shared" / "models"


def prepare_model(network, folder, models):
    """Folder with model.onnx and list.txt of a network; None where it is not here."""
    target = folder / network
    if network == "mobilenet":
        source = models / "mobilenet_v1_025.onnx"
        if not source.exists():
            return None
        if not (target / "model.onnx").exists():
            target.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                [sys.executable, models / "prepare.py", target, "--model", "mobilenet_v1_025", "--limit", "20"],
                check=True, stdout=subprocess.DEVNULL)
            lines = (target / "mobilenet_v1_025" / "calibration.txt").read_text()
            (target / "list.txt").write_text(lines)
            (target / "model.onnx").write_bytes(source.read_bytes())
        return target
    name = f"light_{network}"
    if not (folder / name / "model.onnx").exists():
        subprocess.run(
            [sys.executable, HERE / "make_networks.py", folder, name], check=True, stdout=subprocess.DEVNULL)
    return folder / name


def read_samples(target, shape):
    import numpy

    result = []
    for line in (target / "list.txt").read_text().split():
        path = pathlib.Path(line.split(":=")[-1])
        path = path if path.is_absolute() else target / path
        values = numpy.load(path) if path.suffix == ".npy" else numpy.fromfile(path, numpy.float32)
        result.append(values.astype(numpy.float32).reshape(shape))
    return result


def quantize_peer(target):
    """ONNX Runtime's QDQ model of a network: BatchNormalization folded, then static quantization."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    result = target / "qdq.onnx"
    if result.exists():
        return result
    model = onnx.load(target / "model.onnx")
    if model.opset_import[0].version < 13:
        model = onnx.version_converter.convert_version(model, 13)
    onnx.save(model, target / "opset13.onnx")
    quant_pre_process(str(target / "opset13.onnx"), str(target / "folded.onnx"), skip_symbolic_shape=True)
    weights = {tensor.name for tensor in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in weights)
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.samples = iter(read_samples(target, shape))

        def get_next(self):
            sample = next(self.samples, None)
            return None if sample is None else {value.name: sample}

    quantize_static(
        str(target / "folded.onnx"), str(result), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True})
    return result


def make_session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def bound_run(session, target):
    """A function of no argument that runs the model once on memory bound beforehand."""
    import onnxruntime

    value = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    binding = session.io_binding()
    binding.bind_ortvalue_input(
        value.name, onnxruntime.OrtValue.ortvalue_from_numpy(read_samples(target, shape)[0]))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def peer_milliseconds(run, runs):
    for _ in range(3):
        run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


def own_milliseconds(programs, container, target, runs):
    output = subprocess.run(
        [programs / "qrun", "bench", container, "-l", target / "list.txt", "--backend", "integer",
         "--runs", str(runs), "--json", "--jobs", "1"],
        check=True, capture_output=True, text=True).stdout
    latency = json.loads(output)["latency_ms"]
    return latency["median"], latency["min"]


def quantize_own(target, programs):
    """The container of a network: W8A8 a channel, 32-bit biases, the same samples."""
    made, quantized = target / "float.dlc", target / "int8.dlc"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([programs / "qconvert", "--input_network", target / "model.onnx", "--output_path", made], **quiet)
    subprocess.run(
        [programs / "qquantize", "--input_dlc", made, "--output_dlc", quantized, "--input_list",
         target / "list.txt", "--use_per_channel_quantization", "--bias_bitwidth", "32"], **quiet)
    return quantized


def pairs(folder, programs, rounds=7, networks=("mobilenet", "resnet50"), models=MODELS):
    """For each network a dictionary: network; ours_ms, ort_ms, ratio (ORT's time over ours), all medians of the
    rounds; ours_fastest_ms, ort_fastest_ms and their fastest_ratio, which other jobs on the machine disturb less."""
    logging.disable(logging.WARNING)
    results = []
    for network in networks:
        target = prepare_model(network, pathlib.Path(folder), models)
        if target is None:
            print(f"skipped: {network} (not in {models})", file=sys.stderr)
            continue
        container = quantize_own(target, programs)
        run = bound_run(make_session(quantize_peer(target)), target)
        runs = 200 if network == "mobilenet" else 20
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(peer_milliseconds(run, runs))
            ours.append(own_milliseconds(programs, container, target, runs))
        fastest = [min(row[1] for row in side) for side in (ours, theirs)]
        results.append({
            "network": network, "rounds": rounds,
            "ours_ms": statistics.median(row[0] for row in ours),
            "ort_ms": statistics.median(row[0] for row in theirs),
            "ratio": statistics.median(their[0] / our[0] for their, our in zip(theirs, ours)),
            "ours_fastest_ms": fastest[0], "ort_fastest_ms": fastest[1],
            "fastest_ratio": fastest[1] / fastest[0]})
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", choices=["mobilenet", "resnet50", []])
    parser.add_argument("--models", type=pathlib.Path, default=MODELS, metavar="DIR")
    parser.add_argument("--bin", type=pathlib.Path, default=HERE.parent / ".build" / "release")
    parser.add_argument("--folder", type=pathlib.Path, default=HERE.parent / "out" / "bench_integer")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = pairs(
        arguments.folder, arguments.bin, arguments.rounds, arguments.networks or ("mobilenet", "resnet50"),
        arguments.models)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    print("network    qrun integer  ONNX Runtime QDQ  times faster   fastest runs")
    for row in results:
        print(
            f"{row['network']:<10} {row['ours_ms']:>9.3f} ms {row['ort_ms']:>14.3f} ms {row['ratio']:>12.2f}x   "
            f"{row['ours_fastest_ms']:.3f} ms, {row['ort_fastest_ms']:.3f} ms: {row['fastest_ratio']:.2f}x")


if __name__ == "__main__":
    main()
