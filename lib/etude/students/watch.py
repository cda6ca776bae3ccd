"""A clock over the student's code in this process: it interrupts what takes too long, and ticks while it waits.

The clock is a timer signal, which Python hands to the main thread between two of its instructions. So an endless loop
is ended wherever it is, a single operation of PyTorch only when it returns, and without such signals (on Windows, or
outside the main thread) nothing is: there the stop button remains.
"""
from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from etude.failures import StudentStopped

TICK_SECONDS = 0.1
MAX_TIMEOUTS = 2
"""Calls that may run into the limit before the rest of an exercise's checks are given up; the grader does the same."""


class TimeUp(BaseException):
    """Raised inside the student's code. Not an Exception: `except Exception` in an endless loop would swallow it."""


class Watch:
    """A context manager. The student's code may run for `call_seconds` at a stretch and `total_seconds` in all.

    It runs inside a `call`, and wherever a function with the globals `namespace` is running: in a backward pass.
    """

    def __init__(self, call_seconds: float, total_seconds: float, on_tick: Callable[[], None] = lambda: None,
                 namespace: Mapping[str, Any] | None = None):
        self.call_seconds, self.total_seconds, self._on_tick = call_seconds, total_seconds, on_tick
        self._namespace = namespace
        self.timeouts = 0
        self._depth = 0
        self._armed = False
        self._deadline = self._end = float("inf")
        self._base: FrameType | None = None
        self._before: tuple[Any, tuple[float, float]] | None = None

    def __enter__(self) -> Watch:
        if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
            handler = signal.signal(signal.SIGALRM, self._tick)
            self._before = handler, signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
        self._base = sys._getframe(1)
        self.restart()
        self._armed = True
        return self

    def __exit__(self, *exc: object) -> None:
        self._armed = False
        self._base = None
        if self._before is not None:
            signal.setitimer(signal.ITIMER_REAL, *self._before[1])
            signal.signal(signal.SIGALRM, self._before[0])

    def restart(self) -> None:
        """All the time is there again: another exercise begins."""
        self.timeouts = 0
        self._end = time.monotonic() + self.total_seconds
        self.step()

    def step(self) -> None:
        """Something was finished: what comes next has `call_seconds` again."""
        self._deadline = time.monotonic() + self.call_seconds

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Around one call of a student's function. Raises `StudentStopped` when it was cut off, or had no time left."""
        if self.timeouts >= MAX_TIMEOUTS:
            raise StudentStopped(f"not run, as {MAX_TIMEOUTS} calls before it took too long")
        if time.monotonic() > self._end:
            raise StudentStopped(f"the {self.total_seconds:g} seconds for this exercise were used up by earlier checks")
        self._depth += 1
        self.step()
        try:
            yield
        except TimeUp as error:
            raise self._stopped(name) from error
        finally:
            self._depth -= 1
            self.step()

    def _tick(self, signum: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        self._on_tick()
        if not self._depth and not self._is_students(frame):
            self.step()
        if time.monotonic() <= self._deadline:
            return
        # What is interrupted may catch this, and go on: then it is interrupted again, and not at once, so that a
        # `finally` can do its work.
        self._deadline = time.monotonic() + 5 * TICK_SECONDS
        if self._depth:
            raise TimeUp
        raise self._stopped("the backward pass")  # raised in the midst of a check, where it must be an Exception

    def _is_students(self, frame: FrameType | None) -> bool:
        # The cell that asked for the check is the student's, too, but it waits: it lies below where the watch began.
        while frame is not None and frame is not self._base:
            if frame.f_globals is self._namespace:
                return True
            frame = frame.f_back
        return False

    def _stopped(self, name: str) -> StudentStopped:
        self.timeouts += 1
        unit = "second" if self.call_seconds == 1 else "seconds"
        return StudentStopped(f"{name} took longer than {self.call_seconds:g} {unit}")
