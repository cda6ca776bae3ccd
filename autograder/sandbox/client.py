"""The trusted side of the sandbox: start a zygote, spawn sealed workers from it, stop both.

    with Zygote() as zygote:
        with zygote.spawn(Limits()) as worker:
            kind, payload = worker.request(CALL, wire.encode(...))

Several threads may use one zygote, each its own workers. Processes that are forked need a zygote each.
"""
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import IO, Any

from autograder.errors import SandboxError, SandboxLost
from autograder.sandbox import label as labels
from autograder.sandbox import libc
from autograder.sandbox.failures import (
    WorkerDied,
    WorkerFailure,
    WorkerOutOfMemory,
    WorkerProtocolError,
    WorkerTimeout,
)
from autograder.sandbox.limits import Limits
from autograder.sandbox.seal import ALL_LAYERS
from autograder.sandbox.worker import Worker

__all__ = [
    "ALL_LAYERS", "Limits", "Worker", "WorkerDied", "WorkerFailure", "WorkerOutOfMemory",
    "WorkerProtocolError", "WorkerTimeout", "Zygote",
]

START_SECONDS = 120.0
ANSWER_SECONDS = 30.0
_MESSAGE = 1 << 16
_ENDED = "the sandbox's first process has ended"
# macOS has no sequenced packets between local sockets; orders and answers alternate: a stream does.
_CONTROL_TYPE = socket.SOCK_SEQPACKET if libc.LINUX else socket.SOCK_STREAM
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

KERNELS = ("triton", "triton.language", "etude.kernels", "etude.kernels.launching")
"""To be preloaded where student code has Triton kernels: then the zygote has Triton's interpreter."""

# The whole environment of zygote and workers; nothing of the caller's reaches them.
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    # A set of strings has one order in every run: the same submission gets the same report. An isolated
    # interpreter (-I) would not obey; -s and the next line do the rest of what -I stands for.
    "PYTHONHASHSEED": "0",
    "PYTHONSAFEPATH": "1",
    "HOME": "/nonexistent",
    "USER": "worker",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "TORCHINDUCTOR_CACHE_DIR": "/nonexistent",  # not a folder in /tmp that everybody shares
}


TRITON_ENVIRONMENT = {"TRITON_INTERPRET": "1", "TRITON_CACHE_DIR": "/nonexistent", "TRITON_DEFAULT_FP_FUSION": "1"}


class Zygote:
    """A warm process to fork workers from. A context manager; `close()` stops it and all its workers.

    `preload` names modules that students may import beyond `available.AVAILABLE`; those in
    `warmup.COMPILER_USERS` (`torch.optim`, ...) take most of a second more. `serve` is the worker's loop,
    `module:function`, called with a file descriptor. `layers` and `extra_path` are for tests: what to seal
    with, and where else to find modules.

    `label` says whether the seal was seen to hold. Raises `SandboxError`, in one line, if nothing can start.
    """

    def __init__(
        self,
        preload: Sequence[str] = (),
        layers: Collection[str] = ALL_LAYERS,
        serve: str = "etude.executor:serve",
        extra_path: Sequence[str] = (),
    ):
        self.layers = frozenset(layers)
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        libc.hide_memory()  # the grader: no process of this user may attach to it or read its memory
        config = {"preload": list(preload), "serve": serve, "extra_path": list(extra_path)}
        self._start(config)
        try:
            self.label = self._canary()
        except BaseException:
            self.close()
            raise

    def _start(self, config: dict[str, Any]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, _CONTROL_TYPE)
        self._control.settimeout(START_SECONDS)
        with theirs, tempfile.TemporaryFile() as errors:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-s", "-B", "-m", "autograder.sandbox.zygote"],
                    stdin=theirs, stdout=subprocess.DEVNULL, stderr=errors, close_fds=True,
                    # A session of its own: a Ctrl-C in the terminal is for the grader.
                    env=ENVIRONMENT | (TRITON_ENVIRONMENT if "triton" in config["preload"] else {}),
                    cwd="/", start_new_session=True,
                )
            except OSError as error:
                self._control.close()
                raise SandboxError(f"the sandbox could not start {sys.executable}: {error}") from None
            theirs.close()
            try:
                ready = self._exchange(config)
                self.resident = int(ready["resident"])
                self.available: tuple[str, ...] = tuple(ready["available"])
            except SandboxError as error:
                self._stop()
                # A process that ended without a word has left its reason among its last words.
                reason = _last_line(errors) if str(error) == _ENDED else ""
                kind = SandboxError if reason else type(error)
                raise kind(f"the sandbox could not start: {reason or error}") from None
            except BaseException:
                self._stop()
                raise
        self._control.settimeout(ANSWER_SECONDS)

    @property
    def pid(self) -> int:
        return self._process.pid

    def spawn(self, limits: Limits | None = None, *, layers: Collection[str] | None = None,
              memory: int | None = None) -> Worker:
        """A fresh sealed worker that has seen no student code. Close it, or use it as a context manager.

        `layers`, fewer than the zygote's, is for negative controls in tests. `memory` is the descriptor of a file in
        memory that grader and worker share; the worker finds it as `zygote.MEMORY_FD`.
        """
        expected = self.label.layers if layers is None else None
        worker = self._spawn(limits or Limits(), self.layers if layers is None else layers, canary=False,
                             memory=memory)
        if expected is not None and worker.layers != list(expected):
            worker.close()
            raise SandboxError(f"a worker was sealed with {worker.layers}; the label promises {expected}")
        return worker

    def _spawn(self, limits: Limits, layers: Collection[str], canary: bool, memory: int | None = None) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        order = {"do": "spawn", "limits": asdict(limits), "layers": sorted(layers), "canary": canary}
        try:
            with theirs:
                answer = self._exchange(order, [theirs.fileno(), *([] if memory is None else [memory])])
            worker = Worker(self, answer["pid"], answer.get("pidfd"), ours, limits)
        except BaseException:
            ours.close()
            raise
        self._workers.add(worker)
        try:
            worker.read_hello()
        except WorkerFailure as error:
            worker.close()
            kind = SandboxLost if worker.killed_from_outside else SandboxError
            raise kind(f"a worker could not be sealed: {error}") from None
        return worker

    def reap(self, worker: Worker) -> tuple[int, float]:
        """(wait status, CPU seconds) of a worker that has been killed or is dead already."""
        self._workers.discard(worker)
        answer = self._exchange({"do": "reap", "pid": worker.pid})
        return answer["status"], answer["cpu_seconds"]

    def close(self) -> None:
        """Stop the zygote and every worker that is still there."""
        for worker in list(self._workers):
            worker.close()
        self._stop()

    def _canary(self) -> labels.Label:
        with self._spawn(Limits(), self.layers, canary=True) as worker:
            try:
                report = worker.request(0, b"")[1]
            except WorkerFailure as error:
                raise SandboxLost(f"the sandbox could not be tried: {error}") from None
            try:
                report = worker.request(0, b"")[1]
            except WorkerFailure:
                pass  # it became another program: the first report says that exec succeeded
            return labels.judge(labels.parse(report), worker.layers)

    def _exchange(self, order: dict[str, Any], fds_to_send: Sequence[int] = ()) -> dict[str, Any]:
        message = json.dumps(order).encode()
        with self._lock:
            try:
                socket.send_fds(self._control, [message], list(fds_to_send))
                answer, fds, _, _ = socket.recv_fds(self._control, _MESSAGE, 1, _CLOSE_ON_EXEC)
            except TimeoutError:
                raise SandboxLost("the sandbox's first process does not answer") from None
            except OSError:
                answer = b""
        if not answer:
            raise SandboxLost(_ENDED)
        result = json.loads(answer)
        if "error" in result:
            raise SandboxError(result["error"])
        if fds:
            result["pidfd"] = fds[0]
        return result

    def _stop(self) -> None:
        self._control.close()  # the zygote ends at the end of its stream
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _last_line(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 4096))
    lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
