"""Processes to be timed: the sealed worker on a CPU; where a GPU is open, one that the kernel can only limit.

CUDA needs devices, files, threads and calls that the seal refuses, and Triton runs compilers. So an open process has
an environment, a home and a session of its own, limits, and, where the kernel has Landlock, only the files that these
need: neither the course nor the results. No filter of system calls stands behind that; docs/speed.md says what follows.
"""
from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import autograder
import etude
from autograder.errors import AutograderError
from autograder.sandbox import landlock, libc
from autograder.sandbox.failures import WorkerFailure
from autograder.sandbox.limits import Limits
from autograder.sandbox.worker import Worker

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME")
_LARGEST_FILE = 256 << 20
_SYSTEM = ("/bin", "/sbin", "/usr", "/lib", "/lib32", "/lib64", "/opt", "/etc", "/sys")
_DEVICES = ("/dev", "/proc")
_STOPPED, _GONE = "T", ("Z", "X", "")
STOP_SECONDS = 5.0
START_SECONDS = 120.0
"""It imports PyTorch first."""
_children_before: dict[int, set[int]] = {}
"""For each open process that lives, the children that this one had before it."""


class OpenProcess:
    """A process that is limited, not sealed, and everything that it started; keeper of its one `Worker`."""

    resident = 4 << 30
    """What Python, PyTorch and a GPU's driver may take beyond the course's limit."""

    def __init__(self, limits: Limits, memory: int | None):
        """`memory`: descriptor of shared memory, if handles are not enough."""
        libc.hide_memory()  # no process of this user may attach to the grader or read its memory
        if libc.LINUX:  # what a worker leaves behind becomes our child, and can be ended
            libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        before = _children()
        self._home = tempfile.TemporaryDirectory(prefix="etude-speed-")
        home = self._home.name
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
            "HOME": home, "TMPDIR": home, "TRITON_CACHE_DIR": f"{home}/triton", "LANG": "C.UTF-8",
            "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        fds = [theirs.fileno(), *([] if memory is None else [memory])]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-s", "-m", "autograder.speed.worker", str(fds[0]), str(fds[-1]),
                     str(limits.cpu_seconds)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, pass_fds=fds, cwd=home, env=environment, start_new_session=True)
            except OSError as error:
                ours.close()
                raise AutograderError(f"no process to time could be started: {error}") from None
        pid = self._process.pid
        _children_before[pid] = before
        self.worker = Worker(self, pid, os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None, ours, limits)

    def reap(self, worker: Worker) -> tuple[int, float]:
        """(wait status, CPU seconds), after the process, its group and whatever else it started are gone."""
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        _, status, usage = os.wait4(worker.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        while company := _company(worker.pid):
            _end(company)
        del _children_before[worker.pid]
        self._home.cleanup()
        return status, usage.ru_utime + usage.ru_stime


def open_worker(limits: Limits, memory: int | None) -> Worker:
    """A fresh process that is limited, not sealed."""
    worker = OpenProcess(limits, memory).worker
    try:
        worker.read_hello(START_SECONDS)
    except WorkerFailure as failure:
        raise AutograderError(f"a process to time could not be started: {failure}") from None
    return worker


def limit_this_process(cpu_seconds: int) -> list[str]:
    """Limits that leave CUDA and Triton's compilers alive; returns the names of those applied.

    CPU time, size of files, no core dumps; files and TCP by Landlock, where the kernel has it.
    """
    libc.die_with_parent(os.getppid())
    for limit, value in ((resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_FSIZE, _LARGEST_FILE),
                         (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    code = [os.path.dirname(module.__file__) for module in (autograder, etude)]
    search = os.environ.get("LD_LIBRARY_PATH", "").split(":") + [os.environ.get("CUDA_HOME", "")]
    packages = [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
    readable = [*_SYSTEM, sys.prefix, sys.base_prefix, *packages, *code, *filter(None, search)]
    shut = landlock.allow_only(landlock.abi(), readable, [*_DEVICES, os.environ["HOME"]])
    return ["rlimits", *(["landlock"] if shut else [])]


def hold(worker: Worker) -> None:
    """Stop the process, and come back when it stands still: what is done now it can neither see nor disturb.

    Processes that it has started and that are still there after a call are ended: they would see and disturb instead.
    """
    with suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_SECONDS
    while state(worker.pid) not in (_STOPPED, *_GONE):
        if time.monotonic() > deadline:
            raise AutograderError(f"process {worker.pid} could not be stopped between two calls")
        select.select([], [], [], 0.0002)
    while company := _company(worker.pid):
        _end(company)


def let_go(worker: Worker) -> None:
    """Let a process that was held go on."""
    with suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGCONT)


def state(pid: int) -> str:
    """The state of a process as /proc has it: `T` is stopped; empty for one that is gone."""
    return (_stat(pid) or [""])[0]


def _stat(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none for a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _children() -> set[int]:
    """The processes whose parent this one is."""
    return {pid for pid, parent in _parents().items() if parent == os.getpid()}


def _company(pid: int) -> set[int]:
    """What an open process has started and has not ended, also what has left its group and lost its parent."""
    if pid not in _children_before:
        return set()  # a sealed worker can start nothing
    parents = _parents()
    # An orphan becomes our child, as we are its subreaper.
    found = {child for child, parent in parents.items() if parent == os.getpid()} - _children_before[pid]
    known = {pid} | found
    while more := {child for child, parent in parents.items() if parent in known} - known:
        known |= more
    return known - {pid}


def _end(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _parents() -> dict[int, int]:
    """The parent of every process that is not a zombie: those wait for their parents, and do nothing."""
    if not libc.LINUX:
        return {}
    stats = {int(name): _stat(name) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: int(fields[1]) for pid, fields in stats.items() if fields and fields[0] not in _GONE}
