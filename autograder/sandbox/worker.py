"""One sealed worker as the trusted side sees it: a process, a socket, a deadline and a memory limit."""
from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Protocol

from autograder.errors import SandboxError
from autograder.sandbox.failures import (
    WorkerDied,
    WorkerFailure,
    WorkerOutOfMemory,
    WorkerProtocolError,
    WorkerTimeout,
)
from autograder.sandbox.limits import MB, Limits
from etude import wire

WATCH_SECONDS = 0.02
SEAL_SECONDS = 20.0
KILL_SECONDS = 20.0
EXIT_SECONDS = 2.0
_FIRST_READ = 1 << 16
_READ = 1 << 20
_PAGE = resource.getpagesize()


class Keeper(Protocol):
    """What a worker needs of its zygote: to be reaped, and to know how much memory it was born with."""

    resident: int

    def reap(self, worker: Worker) -> tuple[int, float]: ...


class Worker:
    """Made by `Zygote.spawn`. A context manager; `close()` kills and reaps it. For one thread at a time."""

    def __init__(self, zygote: Keeper, pid: int, pidfd: int | None, sock: socket.socket, limits: Limits):
        self.pid = pid
        self.limits = limits
        self.layers: list[str] = []
        self.killed_from_outside = False
        """Neither the grader nor any limit ended it, but somebody did: most likely the kernel, short of memory."""
        self._zygote = zygote
        self._pidfd = pidfd
        self._socket = sock
        self._statm: int | None = None
        self._max_resident = zygote.resident + limits.memory_mb * MB
        self._failure: WorkerFailure | None = None
        self._final_cpu: float | None = None
        sock.setblocking(False)
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable.register(sock, select.POLLOUT)

    # ------------------------------------------------------------------------------------------ requests

    def request(self, kind: int, payload: bytes, seconds: float | None = None) -> tuple[int, bytes]:
        """Send one frame and return the (kind, payload) of the one frame that answers it.

        `seconds` replaces `limits.call_seconds`. Raises a `WorkerFailure`, after which the worker is gone.
        """
        if self._final_cpu is not None:
            raise WorkerDied(f"the process has been stopped{f': {self._failure}' if self._failure else ''}")
        seconds = self.limits.call_seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        try:
            if self._readable.poll(0):  # before it was asked: a forged reply, or the end
                self._read(1, deadline)
                raise WorkerProtocolError("the process sent more than one reply")
            self._send(wire.frame(kind, payload), deadline)
            return self._receive(deadline)
        except TimeoutError:
            failure: WorkerFailure = WorkerTimeout(f"no answer within {seconds:g} s")
        except wire.WireError as error:
            failure = WorkerProtocolError(str(error))
        except WorkerFailure as error:
            failure = error
        except BaseException:
            self.close()
            raise
        raise self._stop(failure)

    def read_hello(self, seconds: float = SEAL_SECONDS) -> None:
        """Wait for the worker's first frame, which says how it was sealed."""
        try:
            _, layers = self._receive(time.monotonic() + seconds)
        except (TimeoutError, wire.WireError) as error:
            raise self._stop(WorkerProtocolError(f"no word that it is sealed ({error})")) from None
        except WorkerFailure as failure:
            raise self._stop(failure) from None
        self.layers = layers.decode().split(",") if layers else []

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view):]
            except BlockingIOError:
                self._wait(self._writable, deadline)
            except OSError:
                raise _StreamEnded from None

    def _receive(self, deadline: float) -> tuple[int, bytes]:
        data = b""
        while len(data) < wire.HEADER.size:
            data += self._read(_FIRST_READ, deadline)
        kind, length = wire.parse_header(data[:wire.HEADER.size], self.limits.max_reply_bytes)
        pieces, missing = [data[wire.HEADER.size:]], length + wire.HEADER.size - len(data)
        # Memory is taken as bytes arrive: a header that promises much costs nothing.
        while missing > 0:
            piece = self._read(min(missing, _READ), deadline)
            pieces.append(piece)
            missing -= len(piece)
        if missing < 0:
            raise WorkerProtocolError("the process sent more than one reply")
        return kind, pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, count: int, deadline: float) -> bytes:
        while True:
            self._wait(self._readable, deadline)
            try:
                piece = self._socket.recv(count)
            except BlockingIOError:
                continue
            except OSError:
                raise _StreamEnded from None
            if not piece:
                raise _StreamEnded
            return piece

    def _wait(self, poller: select.poll, deadline: float) -> None:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if poller.poll(1000 * min(left, WATCH_SECONDS)):
                return
            self._watch_memory()

    def _watch_memory(self) -> None:
        try:
            if self._statm is None:
                self._statm = os.open(f"/proc/{self.pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
            resident = int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE
        except OSError:
            return  # no /proc here, or the process has just gone; the stream will tell
        if resident > self._max_resident:
            raise WorkerOutOfMemory(f"more than {self.limits.memory_mb} MB of memory used")

    # ------------------------------------------------------------------------------------------ the end

    @property
    def cpu_seconds(self) -> float:
        """CPU time that the worker has used so far, or used in all."""
        if self._final_cpu is not None:
            return self._final_cpu
        with suppress(OSError):
            return time.clock_gettime((~self.pid << 3) | 2)  # another process's clock: clock_getcpuclockid(3)
        return 0.0

    def close(self) -> None:
        """Kill the worker and reap it. Does nothing the second time."""
        if self._final_cpu is None:
            with suppress(SandboxError):  # no zygote any more: its workers ended with it
                self._reap()

    def _stop(self, failure: WorkerFailure) -> WorkerFailure:
        """End the worker; returns the failure to raise: for an ended stream, how the process ended."""
        ended = isinstance(failure, _StreamEnded)
        # The stream ends a moment before the process does. Wait, but not for one that only closed its socket.
        alone = ended and self._has_exited(EXIT_SECONDS)
        status = self._reap()
        if ended:
            closed = "the process closed its connection to the grader"
            failure = WorkerDied(self._cause(status) if alone else closed)
        self._failure = failure
        return failure

    def _reap(self) -> int:
        self._final_cpu = 0.0
        self._kill()
        self._socket.close()
        try:
            # Before the zygote is asked, so that it never has to wait.
            self._has_exited(KILL_SECONDS)
            status, self._final_cpu = self._zygote.reap(self)
        finally:
            for fd in (self._pidfd, self._statm):
                if fd is not None:
                    os.close(fd)
            self._pidfd = self._statm = None
        return status

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:  # not reaped yet, so the pid is still this process
                os.kill(self.pid, signal.SIGKILL)

    def _has_exited(self, seconds: float) -> bool:
        if self._pidfd is None:
            return True
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(1000 * seconds))

    def _cause(self, status: int) -> str:
        if os.WIFEXITED(status):
            return f"the process ended itself (exit code {os.WEXITSTATUS(status)})"
        number = os.WTERMSIG(status)
        spent = self.cpu_seconds >= self.limits.cpu_seconds
        if number == signal.SIGXCPU or (number == signal.SIGKILL and spent):
            return f"more than {self.limits.cpu_seconds} s of CPU time used"
        self.killed_from_outside = number == signal.SIGKILL
        return _CAUSES.get(number, f"the process was killed by {_signal_name(number)}")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _StreamEnded(WorkerFailure):
    """The socket is at its end; how the process ended tells why."""


_CAUSES = {
    signal.SIGSEGV: "the process crashed (SIGSEGV): a fault in native code, or recursion without end",
    signal.SIGBUS: "the process crashed (SIGBUS): a fault in native code",
    signal.SIGFPE: "the process crashed (SIGFPE): an arithmetic fault in native code",
    signal.SIGILL: "the process crashed (SIGILL): an instruction that this processor does not have",
    signal.SIGABRT: "the process aborted itself (SIGABRT)",
    signal.SIGSYS: "the process made a forbidden system call (SIGSYS)",
    signal.SIGKILL: "the process was killed from outside; most likely the machine ran out of memory",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
