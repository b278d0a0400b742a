#!/usr/bin/env python3
"""Prints the accuracy of every calibration, schema and granularity on a trained network, beside the float network.

    scripts/calibration_table.py [--models DIR] [--bin DIR] [--weights METHOD ...] [--bits 8] [--check]

The network is mobilenet_v1_025 with 200 calibration photographs and 800 others, both by prepare.py in DIR (default:
../shared/models). Everything is derived from the statistics of one run. "agrees" counts the photographs to which the
float container gives the same class: it tells calibrations apart better than top-1, which gains by chance as well.
With --check the exit code is 1 where the best per channel stays below 440.
"""

import argparse
import json
import pathlib
import sys
import time

from checking import ROOT, Programs
from model_figures import MOBILENET, OUT, Networks, prepare

METHODS = ("min-max", "sqnr", "percentile", "mse", "entropy")
SCHEMAS = ("asymmetric", "symmetric", "unsignedsymmetric")
WANTED = 440


def rows(weights, bits):
    """Title and options of every row."""
    for per_channel in (True, False):
        for param_schema in ("symmetric",) if per_channel else ("asymmetric", "symmetric"):
            for schema in SCHEMAS:
                for act in METHODS:
                    for param in weights or METHODS:
                        title = ("per channel" if per_channel else "per tensor", param_schema, schema, act, param)
                        options = (
                            "--bias_bitwidth", "32", "--act_bitwidth", bits, "--act_quantizer_calibration", act,
                            "--act_quantizer_schema", schema, "--param_quantizer_calibration", param,
                            "--param_quantizer_schema", param_schema)
                        yield title, (*options, "--use_per_channel_quantization") if per_channel else options


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=ROOT.parent / "shared/models", metavar="DIR")
    parser.add_argument("--bin", default=ROOT / ".build/release", metavar="DIR", help="folder of the programs")
    parser.add_argument("--weights", nargs="+", choices=METHODS, help="methods of weights (default: all)")
    parser.add_argument("--bits", default="8", choices=("8", "16"), help="bits of activations")
    parser.add_argument("--check", action="store_true", help="exit code 1 where the best is too low")
    arguments = parser.parse_args()
    programs = Programs(arguments.bin)
    networks = Networks(programs, arguments.models.resolve())
    prepare(networks.models)
    float_path = networks.container(MOBILENET)
    folder = OUT / "calibrations"
    folder.mkdir(parents=True, exist_ok=True)
    stats = folder / "statistics.json"
    start = time.perf_counter()
    networks.quantize(
        MOBILENET, None, "--input_list", networks.list(MOBILENET, "calibration"), "--save_stats", stats)
    observed = time.perf_counter() - start
    table = list(rows(arguments.weights, arguments.bits))
    paths, seconds = [], []
    for title, options in table:
        path = folder / ("_".join(title).replace(" ", "_") + f"_{arguments.bits}.dlc")
        done = networks.quantize(MOBILENET, path, "--load_stats", stats, *options)
        paths.append(path)
        seconds.append(done.seconds)
    done = programs(
        "qrun", "evaluate", float_path, *paths, "--input_list", networks.list(MOBILENET, "test"),
        "--labels", networks.labels(MOBILENET), "--top_k", "1,5", "--json")
    document = json.loads(done.stdout)
    total = document["total"]
    print("| granularity | weights | activations | calibration, activations | calibration, weights | top-1 | top-5 "
          "| agrees | qquantize |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    best = 0
    titles = [("float", "", "", "", ""), *(title for title, _ in table)]
    for title, result, spent in zip(titles, document["containers"], [None, *seconds]):
        top = {entry["k"]: entry["correct"] for entry in result["top"]}
        if title[0] == "per channel":
            best = max(best, top[1])
        cost = "" if spent is None else f"{spent:.2f} s"
        print(f"| {' | '.join(title)} | {top[1]}/{total} | {top[5]}/{total} | {result['agreement']} | {cost} |")
    print(f"\nobserved in {observed:.1f} s; best per channel {best} of {total}, wanted {WANTED}")
    return 1 if arguments.check and best < WANTED else 0


if __name__ == "__main__":
    sys.exit(main())
