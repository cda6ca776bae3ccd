"""Fuzzing by coverage, for the night: the wire decoder, the notebook reader, course.yml's reader.

    python -m tests.attacks.coverage_fuzz wire|notebook|course --seconds 600

Needs atheris, which is no dependency of the project: `pip install atheris`. What it looks for: any exception but the
reader's own, a run of more than 10 s, more than `MEMORY_MB`. Hypothesis asks the same in `make test`, by chance alone.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

MEMORY_MB = 1024
RUN_SECONDS = 10
LONGEST = 4096
ROOT = Path(__file__).parents[2]
WITHOUT = 77
"""The exit code where there is no atheris, as test runners say "skipped"."""


def wire_decoder() -> tuple[Callable[[bytes], None], list[bytes]]:
    import torch

    from etude import wire

    def run(data: bytes) -> None:
        try:
            value = wire.decode(data)
        except wire.WireError:
            return
        encoded = wire.encode(value)
        assert wire.encode(wire.decode(encoded)) == encoded
    values = [None, [1, 2.5, "x"], {"result": torch.ones(2, 3)}, torch.ones(3).expand(2, 3),
              {"kind": "module", "params": {"w": torch.zeros(2, dtype=torch.bfloat16)}}, (wire.Handle(1), wire.Seed(2)),
              [torch.float16, b"bytes", torch.eye(2).bool()]]
    return run, [wire.encode(value) for value in values]


def notebook_reader() -> tuple[Callable[[bytes], None], list[bytes]]:
    from autograder.errors import UsageError
    from autograder.submission.notebook import read_notebook

    def run(data: bytes) -> None:
        try:
            read_notebook(data, "n.ipynb")
        except UsageError as error:
            assert str(error).startswith("n.ipynb: ") and str(error).isprintable()
    seed = (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": ["a = 1"], "metadata": {"nbgrader": '
            b'{"grade_id": "x", "solution": true}}}, {"cell_type": "markdown", "source": "text"}]}')
    return run, [seed]


def course_reader() -> tuple[Callable[[bytes], None], list[bytes]]:
    from autograder.course import parse_course
    from autograder.errors import UsageError

    def run(data: bytes) -> None:
        try:
            parse_course(data, "course.yml", Path("/course"))
        except UsageError as error:
            assert str(error).startswith("course.yml:") and str(error).isprintable()
    return run, [(ROOT / "tests" / "attacks" / "course" / "course.yml").read_bytes()]


TARGETS = {"wire": wire_decoder, "notebook": notebook_reader, "course": course_reader}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print(f"not fuzzed: {options.target}: atheris is not installed (pip install atheris)", file=sys.stderr)
        return WITHOUT
    with atheris.instrument_imports(include=["autograder", "etude", "json", "yaml"]):
        run, seeds = TARGETS[options.target]()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"seed{number}").write_bytes(seed)
        # A finding is written to the current folder as crash-..., timeout-... or oom-...; the exit code is not 0.
        atheris.Setup([sys.argv[0], corpus, f"-max_total_time={options.seconds}", f"-timeout={RUN_SECONDS}",
                       f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST}"], run)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
