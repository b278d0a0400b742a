#!/usr/bin/env python3
"""Runs the official ONNX backend tests: qconvert, then qrun on both backends.

    scripts/conformance.py --bin .build/release [--tier core] [--op Conv] [--case GLOB] [--verbose]
                           [--programs [N]]

Many cases a process: `qcases` does in one process what the two programs do; where it ends, it is started
again with the next case. With --programs the programs themselves run, or with --programs N for each
Nth case, in addition: both ways must end alike.

A case passes when both backends give what it expects, compared as the official runner does
(../shared/onnx-suite/README.md). Networks are static here: where an operand that decides a shape
is an input of the model, the case is tried again with that operand as a constant, at last with all
inputs as constants (`wholly`: it is then computed by the importer), and counts as `bound`. A model without inputs gets one that nothing reads.
Prints a table of operators and one of tiers, then how many were refused, gave other values (wrong)
or ended a program abnormally (crash). Exit status 0 when all chosen cases pass, 1 otherwise.

Fixtures/expected-failures.txt is a ratchet: it lists the cases that do not pass, each with the
reason. With --expect the exit status is 0 exactly when of the chosen tiers those cases fail that
are listed: a listed case that passes fails the run until its line is taken out.
"""

import argparse
import collections
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import threading

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUITE = ROOT.parent / "shared" / "onnx-suite"
EXPECTED = ROOT / "Fixtures" / "expected-failures.txt"
TIERS = ["core", "transformer", "recurrent", "quant", "vision-post"]
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


class Worker:
    """A qcases process, started again where it ends."""

    def __init__(self, program):
        self.program, self.process = program, None

    def ask(self, *fields):
        """The answer to a line, as its fields."""
        if self.process is None:
            self.process = subprocess.Popen(
                [str(self.program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            self.process.stdin.write("\t".join(map(str, fields)).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        ready, _, _ = select.select([self.process.stdout], [], [], 300)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.process.kill()
            status = self.process.wait()
            self.process = None
            raise Crash("qcases: no end after 300 s" if not ready else f"qcases ended with {status}")
        answer = line.decode(errors="replace").rstrip("\n").split("\t")
        if answer[0] == "done":
            return
        stage, kind, message = answer
        raise (Crash if kind == "internal" else Refusal)(f"{stage}: {message}")

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()


class Batch:
    """Converts and runs by qcases."""

    def __init__(self, programs):
        self.program, self.own, self.workers = programs / "qcases", threading.local(), []

    def worker(self):
        if not hasattr(self.own, "worker"):
            self.own.worker = Worker(self.program)
            self.workers.append(self.own.worker)
        return self.own.worker

    def convert(self, model, work):
        self.worker().ask(model, "-", work)

    def execute(self, fed, work):
        self.worker().ask("-", fed, work)
        return {backend: work / backend for backend in BACKENDS}

    def close(self):
        for worker in self.workers:
            worker.close()


class Programs:
    """Converts and runs by the programs themselves."""

    def __init__(self, programs):
        self.programs = programs

    def convert(self, model, work):
        run(self.programs / "qconvert", "-i", model, "-o", work / "model.dlc", "--quiet")

    def execute(self, fed, work):
        folders = {}
        for backend in BACKENDS:
            results = work / f"{backend}.results"
            run(
                self.programs / "qrun", "execute", work / "model.dlc", "-l", fed, "--output_dir", results,
                "--output_format", "npy", "--use_native_input_files", "--use_native_output_files", "--backend", backend,
                "--jobs", "1", "--quiet")
            folders[backend] = results / "Result_0"
        return folders

    def close(self):
        pass


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
    left = [entry for entry in inputs if entry["name"] not in names]
    for entry in inputs:
        if entry["name"] in names:
            array = np.load(case / entry["file"])
            model.graph.initializer.append(numpy_helper.from_array(array, entry["name"]))
    if not left:
        kept.append(helper.make_tensor_value_info("unused", onnx.TensorProto.FLOAT, [1]))
    del model.graph.input[:]
    model.graph.input.extend(kept)
    onnx.save(model, target)


def bindings(inputs):
    """Sets of inputs to try as constants: the lists of integers, all but the first, all."""
    shapes = {e["name"] for e in inputs[1:] if e["dtype"] in ("int64", "int32") and len(e["shape"]) <= 1}
    rest = {e["name"] for e in inputs[1:]}
    return [names for names in (shapes, rest, {e["name"] for e in inputs}) if names]


def convert(engine, case, inputs, work):
    """Converts a case; the names of the inputs that are constants now."""
    bound = work / "model.onnx"
    if not inputs:
        with_constants(case, inputs, set(), bound)
        engine.convert(bound, work)
        return set()
    try:
        engine.convert(case / "model.onnx", work)
        return set()
    except Refusal as refusal:
        last = refusal
    if "not supported (" in str(last):
        raise last
    for names in bindings(inputs):
        with_constants(case, inputs, names, bound)
        try:
            engine.convert(bound, work)
            return names
        except Refusal as refusal:
            last = refusal
    raise last


def verdict(suite, engine, case, scratch):
    """(how it ended, inputs made constant: 0 none, 1 some, 2 all, reason) of a case."""
    meta = json.loads((case / "case.json").read_text())
    work = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    try:
        if any("dtype" not in entry for entry in meta["inputs"] + meta["outputs"]):
            raise Refusal("sequences and optionals are not supported")
        bound = convert(engine, case, meta["inputs"], work)
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
        share = 0 if not bound else 1 if len(bound) < len(meta["inputs"]) else 2
        for backend, results in engine.execute(fed, work).items():
            # The suite wants each output under a name of its own.
            got = work / f"{backend}.got"
            (got / "outputs").mkdir(parents=True)
            for entry in meta["outputs"]:
                source = results / f"{entry['name'].replace(':', '_').replace('/', '_')}.npy"
                if source.exists():
                    source.rename(got / entry["file"])
            reason = suite.check_case(str(case), str(got))
            if reason:
                return "wrong", share, f"{backend}: {reason}"
        return "pass", share, ""
    except Refusal as refusal:
        return "refused", 0, str(refusal)
    except Crash as crash:
        return "crash", 0, str(crash)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def verdicts(suite, engine, cases, names, scratch, jobs):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda name: verdict(suite, engine, cases / name, scratch), names))
    engine.close()
    return results


def print_table(suite, title, groups):
    rows = [[title, "cases", "pass", "of them bound", "wholly", "fail"]]
    for name in sorted(groups):
        results = groups[name]
        passed = [r for r in results if r[0] == "pass"]
        rows.append([
            name, len(results), len(passed), sum(r[1] > 0 for r in passed), sum(r[1] > 1 for r in passed),
            len(results) - len(passed)])
    suite.table(rows)
    print()


def expected_failures():
    """Names of the cases that are known to fail, with the reasons."""
    result = {}
    for number, line in enumerate(EXPECTED.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, reason = line.partition(" ")
        if not reason.strip() or name in result:
            sys.exit(f"{EXPECTED.name}:{number}: a case needs a reason, and one line")
        result[name] = reason.strip()
    return result


def meets_expectation(tier_of, results, chosen):
    """Whether exactly the listed cases fail; says which do not keep to that."""
    listed = expected_failures()
    good = True
    for name, result in sorted(results.items()):
        if result[0] != "pass" and (name not in listed or result[0] == "crash"):
            good = False
            print(f"{name} fails: {result[0]}: {result[2]}")
        if result[0] == "pass" and name in listed:
            good = False
            print(f"{name} passes: take it out of {EXPECTED.name}")
    for name in sorted(listed):
        if tier_of.get(name) is None:
            good = False
            print(f"{name} of {EXPECTED.name} is no case of {', '.join(chosen)}")
    return good


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="folder of the programs")
    parser.add_argument("--tier", action="append", help="default: " + ", ".join(TIERS))
    parser.add_argument("--op", action="append")
    parser.add_argument("--case", action="append", metavar="GLOB")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--failures", type=pathlib.Path, help="file for the failed cases")
    parser.add_argument("--verbose", action="store_true", help="print the failed cases")
    parser.add_argument("--suite", type=pathlib.Path, default=SUITE, help="folder of suite.py")
    parser.add_argument("--expect", action="store_true", help="hold the failing cases to the list")
    parser.add_argument(
        "--programs", nargs="?", type=int, const=1, metavar="N", help="run qconvert and qrun themselves, or for each Nth")
    options = parser.parse_args()
    if options.expect and (options.op or options.case or options.tier):
        parser.error("--expect takes all tiers that the list is for")
    path = options.suite / "suite.py"
    if not path.exists():
        print(f"skipped: {len(TIERS)} (tiers of the ONNX backend tests: no {path})")
        return 0
    suite = load_suite(path)
    programs = options.bin.resolve()
    # Every container is flushed to its device: better to memory.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        folder = pathlib.Path(folder)
        cases, scratch = folder / "cases", folder / "work"
        scratch.mkdir()
        arguments = [sys.executable, str(path), "make", str(cases)]
        tiers = options.tier or ([] if options.op or options.case else TIERS)
        for flag, values in (("--tier", tiers), ("--op", options.op), ("--case", options.case)):
            for value in values or []:
                arguments += [flag, value]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        names = sorted(entry.name for entry in cases.iterdir() if (entry / "case.json").exists())
        engine = Programs(programs) if options.programs == 1 else Batch(programs)
        results = verdicts(suite, engine, cases, names, scratch, options.jobs)
        sample = names[::options.programs] if (options.programs or 1) > 1 else []
        differences = [
            f"{name}: {result[0]} by the programs" for name, result in
            zip(sample, verdicts(suite, Programs(programs), cases, sample, scratch, options.jobs))
            if result[0] != results[names.index(name)][0]]
        by_tier, by_operator = collections.defaultdict(list), collections.defaultdict(list)
        failures = []
        tier_of = {}
        for name, result in zip(names, results):
            meta = json.loads((cases / name / "case.json").read_text())
            tier_of[name] = meta["tier"]
            by_tier[meta["tier"]].append(result)
            for operator in set(meta["ops"]):
                by_operator[operator].append(result)
            if result[0] != "pass":
                failures.append(f"{name}\t{result[0]}\t{result[2]}")
    if differences:
        print("\n".join(differences))
        return 1
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
        return 0 if meets_expectation(tier_of, dict(zip(names, results)), tiers) else 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
