"""A class that is graded by a grader to which everything happens; what is harmed, how often, and what is left."""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tiny_course import handed_in, notebook_of

HERE = Path(__file__).parent
POLL = 0.004
PATIENCE = 300.0
KINDS: list[dict[str, str]] = [
    {},
    {"scale": "def scale(x, factor):\n    return x + factor"},
    {},
    {"scale": "def scale(x, factor):\n    return (factor * x).detach()"},
    {"center": "def center(x):\n    return x - x.mean(0, keepdim=True)"},
    {"scale": "def scale(x, factor:\n    return x"},
    {"scale": "import os\ndef scale(x, factor):\n    os._exit(0)"},
    {"center": "def center(x):\n    raise ValueError('no idea')"},
    {"scale": "raise NotImplementedError", "center": "import numpy as np\ndef center(x):\n    return np.array([1])"},
    {"center": "def center(x):\n    return 'x' * 100_000"},
]
"""Cells of students, who hand them in by turns: right, wrong, broken, vicious."""


class Batch:
    """A folder with a course, a class and its store, and everything that is done to the grader of that class."""

    def __init__(self, folder: Path, size: int, seed: int):
        self.folder, self.dice = folder, random.Random(seed)
        self.students = [f"s{number:04}" for number in range(size)]
        self.planted: Counter[str] = Counter()
        self.stored: dict[str, tuple[int, int]] = {}
        self.graded_again: list[str] = []
        for number, student in enumerate(self.students):
            path = self.notebook(student)
            path.parent.mkdir(parents=True)
            path.write_bytes(notebook_of(handed_in(student, **KINDS[number % len(KINDS)])))

    def notebook(self, student: str) -> Path:
        return self.folder / "class" / student / "tiny" / "tiny.ipynb"

    def report(self, student: str) -> Path:
        return self.folder / "out" / student / "tiny.json"

    # ------------------------------------------------------------------------------------------ one run of the grader

    def start(self, jobs: int = 1, **faults: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "faulty_grader.py"), json.dumps(faults), "grade", "class", "--out", "out",
                   "--format", "junit", "--jobs", str(jobs)]
        # A session of its own, as in a terminal of its own: a Ctrl-C goes to all its processes.
        return subprocess.Popen(command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True)

    def end(self, grader: subprocess.Popen[str]) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of a grader; then what was stored before must be untouched."""
        out, err = grader.communicate(timeout=PATIENCE)
        self.look()
        return grader.returncode, out, err

    def look(self) -> None:
        """Note the whole reports, and those that have become another file: they were graded again."""
        for student in self.students:
            with suppress(FileNotFoundError, json.JSONDecodeError):
                json.loads(self.report(student).read_bytes())
                found = self.report(student).stat()
                mark = (found.st_ino, found.st_mtime_ns)
                if self.stored.setdefault(student, mark) != mark:
                    self.graded_again.append(student)
                    self.stored[student] = mark

    def done(self) -> int:
        """Submissions that the store knows, at a glance."""
        with suppress(FileNotFoundError):
            return len(os.listdir(self.folder / "out"))
        return 0

    def until(self, grader: subprocess.Popen[str], more: int) -> bool:
        """Wait until so many more submissions are graded and a moment beyond; whether the grader still runs then."""
        goal, deadline = self.done() + more, time.monotonic() + PATIENCE
        while grader.poll() is None and self.done() < goal and time.monotonic() < deadline:
            time.sleep(3 * POLL)
        time.sleep(self.dice.uniform(0, 0.08))
        return grader.poll() is None

    # ------------------------------------------------------------------------------------------ what is done to it

    def kill_grader(self, grader: subprocess.Popen[str], more: int) -> bool:
        if self.until(grader, more):
            self._kill("the grader killed", grader.pid)
            return True
        return False

    def interrupt(self, grader: subprocess.Popen[str], more: int) -> bool:
        if self.until(grader, more):
            os.killpg(grader.pid, signal.SIGINT)
            self.planted["Ctrl-C"] += 1
            return True
        return False

    def kill_workers(self, grader: subprocess.Popen[str], times: int, apart: int) -> None:
        """Kill workers in the middle of something, never two of one submission."""
        for _ in range(times):
            while grader.poll() is None and not self._kill("a worker killed", *workers(grader.pid)[:1]):
                time.sleep(POLL)
            self.until(grader, apart)

    def kill_zygote(self, grader: subprocess.Popen[str], more: int) -> None:
        if self.until(grader, more):
            self._kill("a zygote killed", *zygotes(grader.pid)[:1])

    def kill_grading_process(self, grader: subprocess.Popen[str], more: int) -> None:
        if self.until(grader, more):
            parents = [parent_of(pid) for pid in zygotes(grader.pid)]
            self._kill("a grading process killed", *[pid for pid in parents if pid != grader.pid][:1])

    def tear_reports(self, count: int) -> None:
        """What a power cut may do on a file system that promises nothing: reports that are cut off."""
        for student in self.dice.sample(sorted(self.stored), min(count, len(self.stored))):
            data = self.report(student).read_bytes()
            self.report(student).write_bytes(data[:self.dice.randrange(len(data) - 1)])
            del self.stored[student]
            self.planted["a report torn"] += 1

    def _kill(self, what: str, *pids: int) -> bool:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.planted[what] += 1
                return True
        return False


# ---------------------------------------------------------------------------------------------- processes, from /proc

def workers(grader: int) -> list[int]:
    """Processes that run students' code for this grader."""
    return [pid for zygote in zygotes(grader) for pid in children(zygote)]


def zygotes(grader: int) -> list[int]:
    """The grader's zygote, or those of its grading processes."""
    nearest = children(grader)
    return [pid for pid in nearest + [pid for one in nearest for pid in children(one)] if _is_zygote(pid)
            and not _is_zygote(parent_of(pid))]


def children(pid: int) -> list[int]:
    found = []
    for task in _listed(f"/proc/{pid}/task"):
        with suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def parent_of(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _is_zygote(pid: int) -> bool:
    with suppress(OSError):
        return b"autograder.sandbox.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _listed(folder: str) -> Iterator[str]:
    with suppress(OSError):
        yield from os.listdir(folder)
