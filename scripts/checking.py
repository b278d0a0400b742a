"""What peer_tests.py and model_figures.py share: running programs, counting checks."""

import contextlib
import io
import os
import pathlib
import subprocess
import time
import types

import compare_ort

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Failure(Exception):
    """A check that did not hold."""


class Skip(Exception):
    """A check that could not be made here, and why."""


class Programs:
    """The four programs of one folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        missing = [n for n in ("qconvert", "qquantize", "qinspect", "qrun") if not (self.folder / n).exists()]
        if missing:
            raise SystemExit(f"error: no {', '.join(missing)} in {folder}\nhint: swift build -c release")

    def path(self, name):
        return str(self.folder / name)

    def start(self, name, *arguments, **options):
        return subprocess.Popen(
            [self.path(name), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", **options)

    def any(self, name, *arguments, cwd=None):
        """Runs a program, whatever its exit status; `seconds` is the wall time."""
        start = time.perf_counter()
        done = subprocess.run(
            [self.path(name), *map(str, arguments)],
            capture_output=True, text=True, errors="replace", cwd=cwd, timeout=600)
        done.seconds = time.perf_counter() - start
        return done

    def __call__(self, name, *arguments, cwd=None):
        """Runs a program that has to succeed."""
        done = self.any(name, *arguments, cwd=cwd)
        if done.returncode != 0:
            raise Failure(f"{name} ended with {done.returncode}: {first_error(done.stderr)}")
        return done


def first_error(text):
    """The line of a program's messages that says most."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else "no message")


def expect(condition, message):
    if not condition:
        raise Failure(message)


class Checks:
    """Counts checks and prints a line for each."""

    def __init__(self, shorten=()):
        self.passed = self.failed = self.skipped = 0
        self.shorten = shorten

    def report(self, name, verdict, note=""):
        for prefix in self.shorten:
            note = note.replace(prefix, "")
        counter = {"pass": "passed", "FAIL": "failed", "skip": "skipped"}[verdict]
        setattr(self, counter, getattr(self, counter) + 1)
        print(f"{verdict}  {name}{': ' if note else ''}{note}", flush=True)

    def outcome(self, check, *arguments):
        """Verdict and note of a check, a function that returns a note and raises Failure or Skip."""
        try:
            return "pass", check(*arguments) or ""
        except Skip as reason:
            return "skip", str(reason)
        except (Failure, compare_ort.Failure) as problem:
            return "FAIL", str(problem)
        except Exception as problem:  # A check that stumbles must not hide the others.
            return "FAIL", f"{type(problem).__name__}: {problem}"

    def run(self, name, check, *arguments):
        verdict, note = self.outcome(check, *arguments)
        self.report(name, verdict, note)
        return verdict == "pass"

    def close(self):
        """The closing line and the exit status; no checks at all is a failure."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 0 if self.failed == 0 and self.passed > 0 else 1


def agrees_with_onnx_runtime(model, input_list, output_dir, tolerance=1e-4):
    """compare_ort.py on one model; its lines about the outputs are the note."""
    printed = io.StringIO()
    arguments = types.SimpleNamespace(
        model=pathlib.Path(model), input_list=pathlib.Path(input_list),
        output_dir=pathlib.Path(output_dir), tolerance=tolerance, dim=[])
    with contextlib.redirect_stdout(printed):
        good = compare_ort.compare(arguments)
    note = "; ".join(" ".join(line.split()) for line in printed.getvalue().splitlines()[1:])
    expect(good, note)
    return note


def listed(path):
    """Absolute paths of a list with one unnamed file a line."""
    path = pathlib.Path(path)
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    return [os.path.normpath(path.parent.resolve() / line.replace("\\ ", " ")) for line in lines]


def write_list(path, files):
    """Writes a list with one file a line; spaces in names are escaped."""
    lines = (str(file).replace(" ", "\\ ") for file in files)
    pathlib.Path(path).write_text("".join(line + "\n" for line in lines))
    return path
