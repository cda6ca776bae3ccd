"""A short version of every benchmark, in some minutes: `python -m tests.benchmarks`. Prints Markdown, asserts nothing.

`python -m tests.benchmarks.NAME` is the full one, for NAME in grading, peers, limit, scaling, students; `kernels` needs
a GPU and is no part of this.
"""
from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time

from tests.benchmarks import grading, limit, peers, scaling, students


def progress(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr)


def help_seconds(runs: int = 7) -> float:
    """Median wall seconds of `autograder --help`."""
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "autograder.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def machine() -> str:
    """Where this was measured, in a line."""
    import torch
    load = "/".join(f"{one:.1f}" for one in os.getloadavg())
    return (f"{platform.machine()}, {os.cpu_count()} CPUs, load {load}, {platform.system()} "
            f"{platform.release().split('-')[0]}, Python {platform.python_version()}, torch {torch.__version__}")


def main() -> None:
    print(f"{machine()}\n\n## Grading\n")
    for row in grading.table(progress, size=10, runs=1, rounds=3):
        print(row)
    print(f"| `autograder --help`, wall s | {help_seconds():.2f} | ≤ 0.3 |")
    if sys.platform.startswith("linux"):
        print("\n## Peers\n", flush=True)
        peers.main(["--submissions", "4", "--repeat", "1", "--kinds", "right", "wrong", "ends the process"])
        print("\n## The limit\n", flush=True)
        limit.main(["--rounds", "3"])
        print("\n## As a class grows\n", flush=True)
        scaling.main(["--sizes", "5", "20", "--jobs-size", "20", "--repeat", "1"])
    print("\n## Students' side\n", flush=True)
    students.main(runs=1)


if __name__ == "__main__":
    main()
