"""One attacking submission on its way through the grader: its workers, what it answers, and what it reached."""
from __future__ import annotations

import os
import tracemalloc
from contextlib import suppress
from typing import Any

from autograder.report.model import Report, student_view
from autograder.sandbox.client import Limits, Worker, WorkerFailure, Zygote
from autograder.sandbox.libc import PR_SET_DUMPABLE, prctl
from etude import wire
from etude.executor import DESCRIBE, LOAD

from . import aims
from .model import LIMITS, Attack, Column
from .scene import Scene

AMPLE = Limits(memory_mb=8192, cpu_seconds=600, max_reply_bytes=1 << 30, open_files=1024)
PATIENCE = 60.0


class Bout:
    """An attack under the layers of a column, on the zygote of that column."""

    def __init__(self, attack: Attack, column: Column, zygote: Zygote, secret: str, secret_fd: int):
        self.attack, self.column, self.zygote, self.secret = attack, column, zygote, secret.encode()
        self.replies: list[bytes] = []
        self.largest_reply = 0
        self.report: Report | None = None
        self.core_dumped = False
        self.missing_layers: set[str] = set()
        self._seen_live = False
        prctl(PR_SET_DUMPABLE, int(column.exposed))
        self.neighbour = self._spawn(AMPLE) if attack.aim == "neighbour" else None
        pids = {"grader": os.getpid(), "zygote": zygote.pid, "neighbour": self.neighbour.pid if self.neighbour else 0}
        self.scene = Scene(secret, pids, secret_fd)
        if attack.aim == "memory":
            tracemalloc.start()

    def spawn(self) -> Tap:
        """The worker of the attack."""
        limits = AMPLE
        if LIMITS in self.column.layers:
            limits = Limits(memory_mb=self.attack.memory_mb, cpu_seconds=self.attack.cpu_seconds)
        worker = self._spawn(limits)
        self.missing_layers = set(self.column.sandbox_layers) - set(worker.layers)
        self.pid = worker.pid
        return Tap(worker, self)

    def finish(self) -> bool:
        """Whether the attack reached its aim; called when its report is there."""
        reached = self._seen_live or aims.AFTER.get(self.attack.aim, lambda _: False)(self)
        tracemalloc.stop()
        if self._seen_live and self.attack.aim == "lock":
            self._unlock()
        if self.neighbour:
            self.neighbour.close()
        self.scene.close()
        prctl(PR_SET_DUMPABLE, 0)
        return reached

    def look_live(self) -> None:
        """Called before a worker of the attack is killed."""
        look = aims.LIVE.get(self.attack.aim)
        self._seen_live = self._seen_live or (look is not None and look(self))

    def _spawn(self, limits: Limits) -> Worker:
        if self.column.sealed:
            return self.zygote.spawn(limits)  # as in grading
        return self.zygote.spawn(limits, layers=self.column.sandbox_layers)

    # ------------------------------------------------------------------------------------------ what aims ask

    def everything_that_came_back(self) -> bytes:
        assert self.report is not None
        return b"\n".join([*self.replies, self.report.to_json().encode()])

    def student_sees(self, text: str) -> bool:
        """Whether the text stands in what students are shown of the report."""
        assert self.report is not None
        return text in student_view(self.report).to_json()

    def received_a_file(self) -> bool:
        """Whether a descriptor of the attack's has come into this process."""
        names = []
        for fd in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                names.append(os.readlink(f"/proc/self/fd/{fd}"))
        return any(self.scene.name in name for name in names)

    def neighbour_answers(self) -> bool:
        assert self.neighbour is not None
        with suppress(WorkerFailure):
            self.neighbour.request(DESCRIBE, wire.encode({"name": "f"}), PATIENCE)
            return True
        return False

    def zygote_is_poisoned(self) -> bool:
        """Whether the attack's name stands in the memory of the next student's worker."""
        reply = self._run_bare("import sys\nprint(sys.modules['autograder.sandbox.available']._COMPILER_HINT)")
        return self.scene.name.encode() in reply

    def _unlock(self) -> None:
        # A lock belongs to the open file, which the zygote has, too: it would outlive the worker.
        self._run_bare("import ctypes\nctypes.CDLL(None).flock(0, 8)")

    def _run_bare(self, source: str) -> bytes:
        with self.zygote.spawn(AMPLE, layers=()) as worker:
            cells = [{"label": "", "source": source, "mode": "all"}]
            return worker.request(LOAD, wire.encode({"cells": cells}), PATIENCE)[1]

    def control_socket_speaks(self) -> bool:
        """Whether the zygote's socket holds an answer that the grader has not asked for."""
        return control_socket_speaks(self.zygote)


def control_socket_speaks(zygote: Zygote) -> bool:
    zygote._control.setblocking(False)
    try:
        return bool(zygote._control.recv(1 << 16))
    except BlockingIOError:
        return False
    finally:
        zygote._control.settimeout(PATIENCE)


class Tap:
    """A worker whose replies are kept and whose calls end at the attack's deadline."""

    def __init__(self, worker: Worker, bout: Bout):
        self._worker, self._bout = worker, bout

    def request(self, kind: int, payload: bytes, seconds: float | None = None) -> tuple[int, bytes]:
        reply = self._worker.request(kind, payload, min(seconds or PATIENCE, self._bout.attack.seconds))
        self._bout.largest_reply = max(self._bout.largest_reply, len(reply[1]))
        self._bout.replies.append(reply[1][:1 << 20])
        return reply

    @property
    def killed_from_outside(self) -> bool:
        return self._worker.killed_from_outside

    @property
    def cpu_seconds(self) -> float:
        return self._worker.cpu_seconds

    def close(self) -> None:
        self._bout.look_live()
        self._worker.close()


def remember_core_dumps(zygote: Zygote, current: list[Bout]) -> None:
    """Have the zygote's `reap` note on the current bout whether the dead worker left a core."""
    reap = zygote.reap

    def noting(worker: Any) -> tuple[int, float]:
        status, cpu = reap(worker)
        for bout in current:
            bout.core_dumped = bout.core_dumped or (os.WIFSIGNALED(status) and os.WCOREDUMP(status))
        return status, cpu
    zygote.reap = noting
