"""Measure what docs/benchmarks.md records: `python -m tests.benchmarks`. Prints Markdown tables, asserts nothing."""
from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time

from tests.benchmarks import grading


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


def main() -> None:
    import torch
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release().split('-')[0]}, "
          f"Python {platform.python_version()}, torch {torch.__version__}\n")
    for row in grading.table(progress):
        print(row)
    print(f"| `autograder --help`, wall s | {help_seconds():.2f} | ≤ 0.3 |")


if __name__ == "__main__":
    main()
