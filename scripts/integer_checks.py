#!/usr/bin/env python3
"""Integer execution gives the bits of its plain reference, on whole networks and every instruction set.

    .venv/bin/python scripts/integer_checks.py --bin .build/release [--unit]

Quantizes the digits network in several ways and networks of the field (scripts/make_networks.py, seeded),
runs all tensors (`qrun execute --debug`) by `--backend integer-reference` once and by `--backend integer`
under each ONEDNN_MAX_CPU_ISA, and compares the files byte for byte. Where operators run dequantized, tensors
behind the first of them may differ between instruction sets: those before have to be equal. --unit also runs
the unit tests of integer kernels under each instruction set. Exit code 1 where a check fails.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from checking import ROOT, Checks, Failure, Programs, expect

SETS = ("ALL", "AVX512_CORE", "AVX2")
DIGITS = ROOT / "Fixtures/digits"
# Options of qquantize; each is another kind of grid.
WAYS = {
    "default": [],
    "channel": ["--use_per_channel_quantization", "--bias_bitwidth", "32"],
    "symmetric": [
        "--act_quantizer_schema", "symmetric", "--param_quantizer_schema", "symmetric", "--bias_bitwidth", "32"],
    "row": ["--use_per_channel_quantization", "--use_per_row_quantization"],
    "16 bit": ["--use_per_channel_quantization", "--bias_bitwidth", "32", "--act_bitwidth", "16"],
    "4 bit": ["--weights_bitwidth", "4", "--pack_4_bit_weights", "--bias_bitwidth", "32"],
}


def run_all(programs, container, samples, target, backend, instruction_set="ALL"):
    done = subprocess.run(
        [programs.path("qrun"), "execute", str(container), "-l", str(samples), "--output_dir", str(target), "--debug",
         "--backend", backend],
        capture_output=True, text=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": instruction_set},
        cwd=samples.parent)
    if done.returncode != 0:
        raise Failure(f"qrun ended with {done.returncode}: {done.stderr.strip()}")


def exact_tensors(programs, container):
    """Names of the operators that come before the first one that runs dequantized; None: all do."""
    document = json.loads(
        programs("qrun", "bench", container, "--backend", "integer", "--runs", "1", "--json", "--jobs", "1").stdout)
    names = []
    for step in document["steps"]:
        if step["is_dequantized"]:
            return names
        names += [step["node"], *step["fused"]]
    return None


def check(programs, container, samples, folder):
    run_all(programs, container, samples, folder / "plain", "integer-reference")
    before = exact_tensors(programs, container)
    count = 0
    for name in SETS:
        run_all(programs, container, samples, folder / name, "integer", name)
        files = sorted(path.relative_to(folder / "plain") for path in (folder / "plain").rglob("*.raw"))
        expect(files, "no results")
        different = [str(file) for file in files
                     if (folder / "plain" / file).read_bytes() != (folder / name / file).read_bytes()]
        if before is not None:
            kept = {name.replace("/", "_").replace(":", "_") for name in before}
            different = [file for file in different if pathlib.Path(file).stem in kept]
        expect(not different, f"{name}: {len(different)} of {len(files)} tensors differ, {different[:3]}")
        count = len(files)
    return f"{count} tensors" + ("" if before is None else f", those behind {len(before)} operators not compared")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=ROOT / ".build/release")
    parser.add_argument("--unit", action="store_true")
    arguments = parser.parse_args()
    programs = Programs(arguments.bin)
    checks = Checks(shorten=(f"{ROOT}/",))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def prepare(name, model, samples, options):
            target = folder / name.replace(" ", "_")
            target.mkdir()
            programs("qconvert", "--input_network", model, "--output_path", target / "float.dlc", cwd=samples.parent)
            programs(
                "qquantize", "--input_dlc", target / "float.dlc", "--output_dlc", target / "q.dlc", "--input_list",
                samples, *options, cwd=samples.parent)
            return check(programs, target / "q.dlc", samples, target)

        few = folder / "few.txt"
        few.write_text("".join(f"{DIGITS / line}\n" for line in (DIGITS / "test.txt").read_text().split()[:6]))
        for name, options in WAYS.items():
            checks.run(f"digits, {name}", prepare, f"digits {name}", DIGITS / "digits.onnx", few, options)
        networks = ("unet", "superres", "detector", "video")
        subprocess.run(
            [sys.executable, ROOT / "scripts/make_networks.py", folder / "networks", *networks, "--samples", "2"],
            check=True, stdout=subprocess.DEVNULL)
        for name in networks:
            made = folder / "networks" / name
            checks.run(name, prepare, name, made / "model.onnx", made / "list.txt", WAYS["channel"])
        encoder = folder / "encoder"
        subprocess.run(
            [sys.executable, ROOT / "scripts/make_encoder.py", encoder, "--opset", "17", "--samples", "3"], check=True,
            stdout=subprocess.DEVNULL)
        checks.run(
            "encoder", prepare, "transformer", encoder / "encoder.onnx", encoder / "list.txt",
            WAYS["row"] + ["--bias_bitwidth", "32"])
    if arguments.unit:
        for name in SETS:
            done = subprocess.run(
                ["swift", "test", "-c", "release", "-Xswiftc", "-enable-testing", "--skip-build", "--filter",
                 "IntegerTests"],
                cwd=ROOT, capture_output=True, text=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": name})
            lines = done.stdout.strip().splitlines()
            checks.report(f"unit tests, {name}", "FAIL" if done.returncode else "pass", lines[-1] if lines else "")
    sys.exit(checks.close())


if __name__ == "__main__":
    main()
