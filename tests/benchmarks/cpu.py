"""What a command costs: CPU seconds of it and of everything that it started, also of what outlives it. Linux only.

This process becomes the one that orphans fall to (PR_SET_CHILD_SUBREAPER), so a kernel that outlives the program that
started it is still a descendant of ours. A command has ended when nothing that it started is left; then
RUSAGE_CHILDREN holds the user and system time of all of it. While it runs, the times of the living come from /proc.
"""
from __future__ import annotations

import math
import os
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from autograder.sandbox import libc

PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.01
LOOK_SECONDS = 0.2
"""How often it is looked whether a command has used up its time."""
GRACE_SECONDS = 5.0
"""What outlives its command may go on for so long; then it is killed."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Mark:
    """CPU and wall seconds since the start of a command."""

    cpu: float
    wall: float

    def since(self, other: Mark) -> Mark:
        return Mark(self.cpu - other.cpu, self.wall - other.wall)


@dataclass(frozen=True)
class Run:
    """A command that has ended. `marks`: one for each step that `steps` saw it take."""

    whole: Mark
    code: int
    stopped: bool
    marks: list[Mark] = field(default_factory=list)


def run(arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, log: Path | None = None,
        seconds: float = math.inf, cpu_seconds: float = math.inf, steps: Callable[[], int] = lambda: 0,
        sample: Callable[[int], None] | None = None) -> Run:
    """Run a command to its end, or for `seconds` of wall or CPU time at most.

    `steps` says how many steps it has taken so far, and is asked all the time: keep it cheap. `sample` gets the
    command's process id as often. Standard error goes to `log`.
    """
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    others = frozenset(descendants())  # of whoever calls this: neither counted nor waited for
    before, started = _reaped(), time.perf_counter()
    marks: list[Mark] = []
    stopped, look = False, started

    def now() -> Mark:
        living = sum(process_cpu(pid) for pid in descendants(without=others))
        return Mark(_reaped() + living - before, time.perf_counter() - started)
    with open(log or os.devnull, "wb") as errors:
        process = subprocess.Popen(arguments, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        while process.poll() is None:
            if sample:
                sample(process.pid)
            for _ in range(steps() - len(marks)):
                marks.append(now())
            if time.perf_counter() > look:
                look += LOOK_SECONDS
                stopped = now().wall > seconds or now().cpu > cpu_seconds
            if stopped:
                _kill(descendants(without=others))
            time.sleep(POLL_SECONDS)
    wall = time.perf_counter() - started
    for _ in range(steps() - len(marks)):
        marks.append(now())
    _wait_for_orphans(others)
    return Run(Mark(_reaped() - before, wall), process.returncode, stopped, marks)


def descendants(of: int | None = None, without: Collection[int] = ()) -> list[int]:
    """The living processes below one, by default below this one; not those `without`, nor what is below them."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                parents[int(name)] = int(_stat(int(name))[1])
    found, waiting = [], [of or os.getpid()]
    while waiting:
        parent = waiting.pop()
        children = [pid for pid, its in parents.items() if its == parent and pid not in without]
        found += children
        waiting += children
    return found


def process_cpu(pid: int) -> float:
    """CPU seconds of a process and of the children that it has waited for; 0 if it is gone."""
    try:
        return sum(int(ticks) for ticks in _stat(pid)[11:15]) / _TICKS
    except OSError:
        return 0.0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on: state, parent, ..."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _reaped() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _kill(pids: Collection[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait_for_orphans(others: Collection[int]) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    while left := descendants(without=others):
        for pid in left:
            with suppress(ChildProcessError):  # a child of a child: its own parent waits for it
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            _kill(left)
        time.sleep(POLL_SECONDS)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and smallest and largest in brackets."""
    if not values:
        return ""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"
