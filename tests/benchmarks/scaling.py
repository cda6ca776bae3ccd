"""What grading costs as a class grows, in memory too, and what a second job gains.

`python -m tests.benchmarks.scaling`. See docs/benchmarks.md. Linux only.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.cpu import Mark, Run, descendants, run, spread
from tests.benchmarks.grading import ROOT, class_of

MIXED = ["ada", "ben", "ada", "cleo", "ada", "dan"]
"""Of the sample class: right ones, wrong ones, an unfinished one; none that waits for a time limit."""
MB = 1024
INTERVAL = 0.1


@dataclass
class Sized:
    """One run over a class of `size`."""

    size: int
    whole: Mark
    first: Mark
    """When the first report was there."""
    last: Mark
    resident: list[int] = field(default_factory=list)
    """Resident memory of the grader's own process in KiB, sampled; empty for several jobs."""
    peak: int = 0
    """The largest resident memory of that process in KiB, as the kernel noted it."""

    @property
    def one_more(self) -> Mark:
        """CPU and wall seconds of one submission after the first."""
        spent = self.last.since(self.first)
        return Mark(spent.cpu / max(self.size - 1, 1), spent.wall / max(self.size - 1, 1))


def graded(size: int, jobs: int = 1, students: Sequence[str] = MIXED) -> Sized:
    """Grade a class of this size by the command line."""
    memory = _Memory()
    with tempfile.TemporaryDirectory() as folder:
        submissions = class_of(students, size, Path(folder) / "class")
        out = Path(folder) / "out"
        done = _grade(submissions, out, jobs, _Counter(out).count, memory.sample)
        if len(done.marks) != size:
            raise RuntimeError(f"{len(done.marks)} of {size} reports are there")
    return Sized(size, done.whole, done.marks[0], done.marks[-1], memory.resident, memory.peak)


def worker_memory(size: int = 4) -> list[int]:
    """The most private memory, in KiB, that each worker of a grading was seen to have. Needs root: workers hide."""
    seen: dict[int, int] = {}

    def sample(grader: int) -> None:
        for zygote in descendants(grader):
            for worker in descendants(zygote):
                with suppress(OSError, ValueError):
                    seen[worker] = max(seen.get(worker, 0), _private(worker))
    with tempfile.TemporaryDirectory() as folder:
        _grade(class_of(MIXED, size, Path(folder) / "class"), Path(folder) / "out", 1, lambda: 0, sample)
    return sorted(seen.values())


def _grade(submissions: Path, out: Path, jobs: int, steps: Callable[[], int], sample: Callable[[int], None]) -> Run:
    done = run([sys.executable, "-m", "autograder.cli", "grade", str(submissions), "--out", str(out), "--jobs",
                str(jobs), "--format", "text"], cwd=ROOT, log=out.parent / "log", steps=steps, sample=sample)
    if done.code:
        raise RuntimeError(f"autograder grade ended with {done.code}: {(out.parent / 'log').read_text()[-500:]}")
    return done


class _Counter:
    """Counts the students' folders in the store, at intervals: a large folder takes time to list."""

    def __init__(self, out: Path):
        self._out, self._found, self._next = out, 0, 0.0

    def count(self) -> int:
        if time.monotonic() >= self._next or not self._found:
            self._next = time.monotonic() + INTERVAL
            with suppress(FileNotFoundError):
                self._found = sum(not name.startswith(".") for name in os.listdir(self._out))
        return self._found


class _Memory:
    """Samples the resident memory of a process, at intervals."""

    def __init__(self) -> None:
        self.resident: list[int] = []
        self.peak, self._next = 0, 0.0

    def sample(self, pid: int) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + INTERVAL
        with suppress(OSError, KeyError):
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            self.resident.append(int(status["VmRSS"].split()[0]))
            self.peak = max(self.peak, int(status["VmHWM"].split()[0]))


def _private(pid: int) -> int:
    """KiB that no other process shares with this one."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


# ---------------------------------------------------------------------------------------------- tables

def size_table(found: Sequence[Sized]) -> list[str]:
    rows = ["| submissions | CPU s, whole run | CPU s of one more | wall s of one more | "
            "grader's memory after a tenth, MB | at the end | peak |", "|--:|--:|--:|--:|--:|--:|--:|"]
    for one in found:
        early, late = one.resident[_place(one)], one.resident[-1]
        rows.append(f"| {one.size} | {one.whole.cpu:.1f} | {one.one_more.cpu:.2f} | {one.one_more.wall:.2f} | "
                    f"{early / MB:.0f} | {late / MB:.0f} | {one.peak / MB:.0f} |")
    return rows


def _place(one: Sized) -> int:
    """The sample taken when a tenth of the submissions were graded."""
    when = one.first.wall + (one.last.wall - one.first.wall) / 10
    return min(int(when / one.whole.wall * len(one.resident)), len(one.resident) - 1)


def memory_row(private: Sequence[int]) -> str:
    if not private:
        return "| private memory of a worker | not readable here: run this as root | ≤ 10 |"
    return (f"| private memory of a worker, MB: median, and the largest of {len(private)} | "
            f"{statistics.median(private) / MB:.1f}, {max(private) / MB:.1f} | ≤ 10 |")


def jobs_table(one: Sequence[Sized], two: Sequence[Sized]) -> list[str]:
    """`--jobs 2` against `--jobs 1`, whole runs and what comes after the first report."""
    rows = [f"| {one[0].size} submissions | `--jobs 1` | `--jobs 2` | 1 / 2 |", "|---|--:|--:|--:|"]

    def row(what: str, of: Callable[[Sized], float]) -> None:
        first, second = [of(run) for run in one], [of(run) for run in two]
        rows.append(f"| {what} | {spread(first, 1)} | {spread(second, 1)} | "
                    f"{statistics.median(first) / statistics.median(second):.2f} |")
    row("wall s, whole run (target ≥ 1.8)", lambda run: run.whole.wall)
    row("wall s after the first report", lambda run: run.last.wall - run.first.wall)
    row("CPU s, whole run", lambda run: run.whole.cpu)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100], metavar="N",
                        help="sizes of the class; 1000 takes a quarter of an hour")
    parser.add_argument("--jobs-size", type=int, default=100, metavar="N", help="submissions for --jobs 2, 0 for none")
    parser.add_argument("--repeat", type=int, default=3, metavar="R", help="runs with one job and with two, in turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    given = parser.parse_args(arguments)
    sized = [_told(f"a class of {size}", graded, size) for size in given.sizes]
    private = _told("the workers' memory", worker_memory)
    one: list[Sized] = []
    two: list[Sized] = []
    for number in range(given.repeat if given.jobs_size else 0):
        one.append(_told(f"one job, {number + 1} of {given.repeat}", graded, given.jobs_size, 1))
        two.append(_told(f"two jobs, {number + 1} of {given.repeat}", graded, given.jobs_size, 2))
    if given.json:
        value = {"sizes": [asdict(found) for found in sized], "worker_private_kib": private,
                 "one_job": [asdict(found) for found in one], "two_jobs": [asdict(found) for found in two]}
        given.json.write_text(json.dumps(value) + "\n", encoding="utf-8")
    print("\n".join([*size_table(sized), "", "| what | figure | target |", "|---|--:|---|", memory_row(private)]))
    if one:
        print("\n".join(["", *jobs_table(one, two)]))


def _told(what: str, measure: Callable, *arguments: object) -> Any:
    print(f"measuring: {what}", file=sys.stderr)
    return measure(*arguments)


if __name__ == "__main__":
    main()
