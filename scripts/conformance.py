#!/usr/bin/env python3
"""Runs the official ONNX backend tests: qconvert, then qrun on both backends.

    scripts/conformance.py --bin .build/release [--tier core] [--op Conv] [--case GLOB] [--verbose]

A case passes when both backends give what it expects, compared as the official runner does
(../shared/onnx-suite/README.md). Networks are static here: where an operand that decides a shape
is an input of the model, the case is tried again with that operand as a constant, and counts as
`bound`. A model without inputs gets one that nothing reads. Prints a table of tiers and one of
operators, then how many were refused, gave other values (wrong) or ended a program abnormally
(crash); --failures FILE writes the cases that do not pass with their reasons. Exit status 0 when all
chosen cases pass, 1 otherwise. With --expect, for which tiers are chosen, 0 when nothing is wrong or
crashes and each tier passes as many cases as scripts/conformance-expected.txt says: more is an
error too until the number there is raised.
"""

import argparse
import collections
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUITE = ROOT.parent / "shared" / "onnx-suite"
EXPECTED = ROOT / "scripts" / "conformance-expected.txt"
BACKENDS = ("onednn", "reference")


class Refusal(Exception):
    """A program said no, and why."""


class Crash(Exception):
    """A program ended otherwise than by its own will, or by a fault of its own."""


def load_suite(path):
    specification = importlib.util.spec_from_file_location("suite", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules["suite"] = module
    specification.loader.exec_module(module)
    return module


def run(program, *arguments):
    try:
        done = subprocess.run(
            [str(program), *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=300)
    except subprocess.TimeoutExpired:
        raise Crash(f"{program.name}: no end after 300 s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        kind = Refusal if done.returncode == 1 and lines else Crash
        raise kind(f"{program.name} ({done.returncode}): {lines[0] if lines else 'no message'}")


def with_constants(case, inputs, names, target):
    """The model with some inputs as initializers, or with an input that nothing reads."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(case / "model.onnx")
    kept = [value for value in model.graph.input if value.name not in names]
    for entry in inputs:
        if entry["name"] in names:
            array = np.load(case / entry["file"])
            model.graph.initializer.append(numpy_helper.from_array(array, entry["name"]))
    if not inputs:
        kept.append(helper.make_tensor_value_info("unused", onnx.TensorProto.FLOAT, [1]))
    del model.graph.input[:]
    model.graph.input.extend(kept)
    onnx.save(model, target)


def bindings(inputs):
    """Sets of inputs to try as constants: the lists of integers, then all but the first."""
    shapes = {e["name"] for e in inputs[1:] if e["dtype"] in ("int64", "int32") and len(e["shape"]) <= 1}
    rest = {e["name"] for e in inputs[1:]}
    return [names for names in (shapes, rest) if names]


def convert(programs, case, inputs, work):
    """Converts a case; the names of the inputs that are constants now."""
    container = work / "model.dlc"
    if not inputs:
        with_constants(case, inputs, set(), work / "model.onnx")
        run(programs / "qconvert", "-i", work / "model.onnx", "-o", container, "--quiet")
        return set()
    try:
        run(programs / "qconvert", "-i", case / "model.onnx", "-o", container, "--quiet")
        return set()
    except Refusal as refusal:
        last = refusal
    if "not supported (" in str(last):
        raise last
    for names in bindings(inputs):
        with_constants(case, inputs, names, work / "model.onnx")
        try:
            run(programs / "qconvert", "-i", work / "model.onnx", "-o", container, "--quiet")
            return names
        except Refusal as refusal:
            last = refusal
    raise last


def execute(programs, case, meta, fed, work, backend):
    """Runs a converted case; its outputs lie in `work`/backend as the suite wants them."""
    results = work / f"{backend}.results"
    run(
        programs / "qrun", "execute", work / "model.dlc", "-l", fed, "--output_dir", results,
        "--output_format", "npy", "--backend", backend, "--jobs", "1", "--quiet")
    got = work / backend / "outputs"
    got.mkdir(parents=True)
    for entry in meta["outputs"]:
        name = entry["name"].replace(":", "_").replace("/", "_")
        source = results / "Result_0" / f"{name}.npy"
        if source.exists():
            shutil.copy(source, got.parent / entry["file"])


def verdict(suite, programs, case, scratch):
    """(how it ended, inputs made constant, reason) of a case."""
    meta = json.loads((case / "case.json").read_text())
    work = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    try:
        if any("dtype" not in entry for entry in meta["inputs"] + meta["outputs"]):
            raise Refusal("sequences and optionals are not supported")
        bound = convert(programs, case, meta["inputs"], work)
        parts = []
        for entry in meta["inputs"]:
            if entry["name"] not in bound:
                name = entry["name"].replace(" ", "\\ ")
                parts.append(f"{name}:={case / entry['file']}")
        if not parts:
            np.save(work / "unused.npy", np.zeros(1, np.float32))
            parts.append(f"unused:={work / 'unused.npy'}")
        fed = work / "list.txt"
        fed.write_text(" ".join(parts) + "\n")
        for backend in BACKENDS:
            execute(programs, case, meta, fed, work, backend)
            reason = suite.check_case(str(case), str(work / backend))
            if reason:
                return "wrong", bool(bound), f"{backend}: {reason}"
        return "pass", bool(bound), ""
    except Refusal as refusal:
        return "refused", False, str(refusal)
    except Crash as crash:
        return "crash", False, str(crash)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def print_table(suite, title, groups):
    rows = [[title, "cases", "pass", "of them bound", "fail"]]
    for name in sorted(groups):
        results = groups[name]
        passed = [r for r in results if r[0] == "pass"]
        rows.append([name, len(results), len(passed), sum(r[1] for r in passed), len(results) - len(passed)])
    suite.table(rows)
    print()


def meets_expectation(by_tier, chosen):
    """Whether every tier passes the cases that it should; says which does not."""
    lines = (line.split() for line in EXPECTED.read_text().splitlines() if line.strip() and line[0] != "#")
    expected = {tier: int(count) for tier, count in lines}
    good = True
    for tier in chosen:
        passed = sum(result[0] == "pass" for result in by_tier[tier])
        if tier not in expected or passed != expected[tier]:
            good = False
            wanted = expected.get(tier, "no number")
            print(f"{tier}: {passed} cases pass, {EXPECTED.name} says {wanted}")
    return good


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="folder of the programs")
    parser.add_argument("--tier", action="append", help="default: core and transformer")
    parser.add_argument("--op", action="append")
    parser.add_argument("--case", action="append", metavar="GLOB")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--failures", type=pathlib.Path, help="file for the failed cases")
    parser.add_argument("--verbose", action="store_true", help="print the failed cases")
    parser.add_argument("--suite", type=pathlib.Path, default=SUITE, help="folder of suite.py")
    parser.add_argument("--expect", action="store_true", help="hold the numbers of passing cases to the record")
    options = parser.parse_args()
    if options.expect and (options.op or options.case):
        parser.error("--expect takes whole tiers")
    path = options.suite / "suite.py"
    if not path.exists():
        tiers = sum(line[:1].isalpha() for line in EXPECTED.read_text().splitlines())
        print(f"skipped: {tiers} (tiers of the ONNX backend tests: no {path})")
        return 0
    suite = load_suite(path)
    programs = options.bin.resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cases, scratch = folder / "cases", folder / "work"
        scratch.mkdir()
        arguments = [sys.executable, str(path), "make", str(cases)]
        tiers = options.tier or ([] if options.op or options.case else ["core", "transformer"])
        for flag, values in (("--tier", tiers), ("--op", options.op), ("--case", options.case)):
            for value in values or []:
                arguments += [flag, value]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        names = sorted(entry.name for entry in cases.iterdir() if (entry / "case.json").exists())
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(lambda name: verdict(suite, programs, cases / name, scratch), names))
        by_tier, by_operator = collections.defaultdict(list), collections.defaultdict(list)
        failures = []
        for name, result in zip(names, results):
            meta = json.loads((cases / name / "case.json").read_text())
            by_tier[meta["tier"]].append(result)
            for operator in set(meta["ops"]):
                by_operator[operator].append(result)
            if result[0] != "pass":
                failures.append(f"{name}\t{result[0]}\t{result[2]}")
    ends = collections.Counter(result[0] for result in results)
    if not options.expect:
        print_table(suite, "operator", by_operator)
    print_table(suite, "tier", by_tier)
    print(", ".join(f"{ends[kind]} {kind}" for kind in ("pass", "refused", "wrong", "crash")))
    if options.failures:
        options.failures.write_text("".join(line + "\n" for line in failures))
    if options.verbose:
        print("\n".join(failures))
    if options.expect:
        bad = [line for line in failures if line.split("\t")[1] != "refused"]
        print("".join(line + "\n" for line in bad), end="")
        return 0 if meets_expectation(by_tier, tiers) and not bad else 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
