"""Checks of peer_tests.py on the networks that make_networks.py writes."""

import json

import make_networks
import numpy as np
from checking import agrees_with_onnx_runtime, expect

# As large as the others together, and of the same operators.
LARGE = {"light_vgg19", "light_bvlc_alexnet", "light_zfnet512"}


def check_networks(bench):
    """Networks of the field: float outputs as ONNX Runtime's, min-max quantization, layouts."""

    def converts(name):
        folder = bench.folder / f"network-{name}"
        model = make_networks.write(folder, name, samples=2 if name.startswith("light_") else 4)
        bench.programs("qconvert", "--input_network", model, "--output_path", folder / "model.dlc")
        info = json.loads(bench.programs("qinspect", "info", folder / "model.dlc", "--json").stdout)
        kinds = [operator["type"] for operator in info["operators"]]
        if name.startswith("light_"):
            expect(kinds.count("Transpose") <= 2, f"{kinds.count('Transpose')} Transposes")
        return f"{len(kinds)} operators, {kinds.count('Transpose')} of them Transpose"

    def agrees(name, backend):
        folder = bench.folder / f"network-{name}"
        results = folder / backend
        bench.programs(
            "qrun", "execute", folder / "model.dlc", "--input_list", folder / "list.txt",
            "--output_dir", results, "--backend", backend)
        return agrees_with_onnx_runtime(folder / "model.onnx", folder / "list.txt", results)

    def quantizes(name, least, *options):
        """The least cosine of an output with float's; samples are those of the calibration."""
        # Boxes come in the order of scores that are nearly equal.
        wanted = "values.raw" if name == "detector" else "*.raw"
        folder = bench.folder / f"network-{name}"
        bench.programs(
            "qquantize", "--input_dlc", folder / "model.dlc", "--input_list", folder / "list.txt",
            "--output_dlc", folder / "quantized.dlc", "--use_per_channel_quantization",
            "--use_per_row_quantization", "--bias_bitwidth", "32",
            *(options or ("--act_quantizer_calibration", "min-max")))
        results = folder / "quantized"
        bench.programs(
            "qrun", "execute", folder / "quantized.dlc", "--input_list", folder / "list.txt",
            "--output_dir", results)
        cosines = []
        for file in sorted(results.glob(f"Result_*/{wanted}")):
            a, b = (
                np.fromfile(root / file.parent.name / file.name, np.float32).astype(float)
                for root in (results, folder / "onednn"))
            cosines.append(a @ b / np.sqrt((a @ a) * (b @ b)))
        expect(cosines and min(cosines) >= least, f"cosine {min(cosines):.5f}, wanted {least}")
        return f"cosine at least {min(cosines):.6f}"

    names = [*make_networks.NETWORKS, *(f"light_{name}" for name in make_networks.LIGHT)]
    for name in names:
        if name in LARGE:
            continue
        if bench.checks.run(f"network {name}: convert", converts, name):
            # The reference is for kernels that the small networks reach; it takes minutes on the others.
            for backend in ("onednn",) if name.startswith("light_") else ("onednn", "reference"):
                bench.checks.run(f"network {name}: {backend} against ONNX Runtime", agrees, name, backend)
            if not name.startswith("light_"):
                bench.checks.run(f"network {name}: min-max 8 bits against float", quantizes, name, 0.95)
                bench.checks.run(
                    f"network {name}: all algorithms, 8 bits against float", quantizes, name, 0.95,
                    "--act_quantizer_calibration", "mse", "--apply_algorithms", "cle", "seqmse", "gptq",
                    "bias_correction")
