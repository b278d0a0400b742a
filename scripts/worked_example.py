#!/usr/bin/env python3
"""The worked example of docs/worked-example.md: the digits network as float, tf and clip.

    scripts/worked_example.py [--bin DIR] [--write]

Prints accuracy and size, and the mean squared error of every layer calibrated all at once and layer by
layer. With --write the pictures of docs/images are made again from qrun compare's page. Needs the
programs and the standard library only.
"""
import argparse
import csv
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "Fixtures" / "digits"
METHODS = ["tf", "clip"]
#: Pictures: file, container, the SVG's label.
PICTURES = [
    ("layers-tf", "tf", "Signal to noise of every layer in dB"),
    ("layers-clip", "clip", "Signal to noise of every layer in dB"),
    ("clip4-tf", "tf", "Distribution of clip4_output"),
    ("clip4-clip", "clip", "Distribution of clip4_output"),
    ("clip4-clip-ordered", "clip_ordered", "Distribution of clip4_output"),
]
#: What pages give their SVGs, for files that stand alone: readable on light and dark grounds.
STYLE = (
    "<style>text{fill:#6b7683;font:11px system-ui,sans-serif}.a{fill:#4a86c8}.b{fill:#d0654d}"
    ".c{fill:#5a9367}.lb{stroke:#d0654d}.axis{stroke:#9aa6b3}.limit{stroke:#9a5fc0;stroke-dasharray:4 3}"
    ".outline{fill:none;stroke-width:1.5}</style>")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, default=ROOT / ".build" / "release", help="folder of the programs")
    parser.add_argument("--write", action="store_true", help="make the pictures of docs/images again")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{arguments.bin.resolve()}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        containers = quantize()
        print(run("qrun", "evaluate", "digits.dlc", *containers, "--input_list", DATA / "test.txt",
                  "--labels", DATA / "test_labels.txt", "--top_k", "1"))
        for name in [*METHODS, "clip_ordered"]:
            run("qrun", "compare", f"digits_{name}.dlc", "--against", "digits.dlc", "--input_list",
                DATA / "calibration.txt", "--csv", f"{name}.csv", "--html", f"{name}.html", "--quiet")
        print_errors()
        if arguments.write:
            write_pictures()


def run(*words):
    """Runs a program; its standard output."""
    done = subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def quantize():
    """Makes all containers; the names of those to evaluate."""
    run("qconvert", "--input_network", DATA / "digits.onnx", "--output_path", "digits.dlc", "--quiet")
    for method in METHODS:
        for ending, order in [("", "simultaneous"), ("_ordered", "sequential")]:
            run("qquantize", "--input_dlc", "digits.dlc", "--input_list", DATA / "calibration.txt",
                "--output_dlc", f"digits_{method}{ending}.dlc", "--act_quantizer", method,
                "--param_quantizer", method, "--bias_bitwidth", "32", "--calibration_order", order, "--quiet")
    return [f"digits_{method}{ending}.dlc" for method in METHODS for ending in ["", "_ordered"]]


def print_errors():
    """The mean squared error of every layer, by method and view."""
    tables = {}
    for method in METHODS:
        with open(f"{method}.csv", newline="") as file:
            tables[method] = {row["tensor"]: row for row in csv.DictReader(file) if row["kind"] != "parameter"}
    graph = json.loads(run("qinspect", "json", "digits.dlc"))
    made = [name for node in graph["nodes"] for name in node["outputs"]]
    names = [name for name in made if name in tables["tf"]]
    print("| layer | tf, all at once | tf, layer by layer | clip, all at once | clip, layer by layer |")
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        cells = [float(tables[method][name][f"{view}_mse"]) for method in METHODS
                 for view in ["at-once", "layer-by-layer"]]
        print(f"| {name} | " + " | ".join(f"{cell:.3g}" for cell in cells) + " |")


def write_pictures():
    """Takes pictures out of the pages and puts them into docs/images."""
    for file, name, label in PICTURES:
        page = Path(f"{name}.html").read_text()
        found = re.search(rf'<svg [^>]*aria-label="{re.escape(label)}".*?</svg>', page, re.DOTALL)
        if not found:
            raise SystemExit(f"worked_example.py: error: no picture {label!r} in {name}.html")
        svg = found.group(0)
        start = svg.index(">") + 1
        (ROOT / "docs" / "images" / f"{file}.svg").write_text(f"{svg[:start]}{STYLE}{svg[start:]}\n")


if __name__ == "__main__":
    main()
