"""Where requests go: to an executor in this process, or to a sealed worker; and how they are remembered."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from autograder.errors import AutograderError
from etude import batch, wire
from etude.executor import ERROR, LOAD, MANY, OK, Executor
from etude.failures import GraderFailed, MissingName, StudentError, StudentStopped

MAX_TIMEOUTS = 2
"""Calls of one exercise that may run into the time limit before the rest of its checks are given up."""

MAX_TEXT = 500
"""Characters of each text about an error that are taken from a worker."""

RawRequest = tuple[int, bytes]
RawReply = tuple[int, bytes]


class Channel(Protocol):
    """Carries requests to the process that holds the student's program."""

    def raw(self, kind: int, payload: bytes) -> RawReply:
        """The reply to one request; raises `StudentStopped` when there will be none."""
        ...


class LocalChannel:
    """Runs a program in this process. For trusted programs only: the reference, the known mistakes."""

    def __init__(self, program: Sequence[dict[str, str]]):
        self._executor = Executor()
        self.loaded = interpret(self.raw(LOAD, wire.encode({"cells": list(program)})))

    def raw(self, kind: int, payload: bytes) -> RawReply:
        return self._executor.handle(kind, payload)

    def ahead(self, requests: Sequence[RawRequest]) -> list[RawReply]:
        """The replies to requests made ahead of need."""
        return [self.raw(kind, payload) for kind, payload in requests]

    def close(self) -> None:
        """There is no process to end."""


class SealedChannel:
    """Runs a program in sealed workers: one for the exercise, and another when a check has cost the first its life.

    The first may be one that ran another program of the same notebook before (`lent`); `restart` ends that.

    All calls together may take `seconds`; after that, and after `MAX_TIMEOUTS` calls that were cut off, every call
    raises `StudentStopped` without being made.
    """

    def __init__(self, program: Sequence[dict[str, str]], spawn: Callable[[], Any], call_seconds: float,
                 seconds: float, lent: Any = None):
        self._load = wire.encode({"cells": list(program)})
        self._spawn, self._call_seconds, self._left, self._budget = spawn, call_seconds, seconds, seconds
        self._worker: Any = None
        self._lent = lent
        self.loaded: dict | None = None
        self._load_failure: StudentStopped | None = None
        self._timeouts = 0
        self._is_slow = False
        """Requests made ahead have run into the time limit: asked one by one, the limit is waited for once a call."""
        self.cpu_seconds = 0.0

    def raw(self, kind: int, payload: bytes) -> RawReply:
        with _told_apart():
            self._ready()
            return self._ask(kind, payload)

    def ahead(self, requests: Sequence[RawRequest]) -> list[RawReply] | None:
        """The replies to requests made ahead of need, or None if the worker did not get through them all.

        Then it is gone, and what stopped it is found by asking one by one; this attempt counts as no timeout.
        """
        with _told_apart():
            self._ready()
        if self._is_slow or self._timeouts >= MAX_TIMEOUTS or self._left <= 0:
            return None
        timeouts = self._timeouts
        try:
            with _told_apart():
                return replies_of(self._ask(MANY, batch.pack(requests)), len(requests))
        except (StudentStopped, StudentError):
            self._is_slow = self._timeouts > timeouts
            self._timeouts = timeouts
            self.close()
            return None

    def _ready(self) -> None:
        if self._load_failure is not None:
            raise self._load_failure
        if self._worker is None:
            self._demand_time()
            self._start()

    def _demand_time(self) -> None:
        if self._timeouts >= MAX_TIMEOUTS:
            raise StudentStopped(f"not run, as {MAX_TIMEOUTS} checks before it took too long")
        if self._left <= 0:
            self.close()
            raise StudentStopped(f"the {self._budget:g} seconds for this exercise were used up by earlier checks")

    def _start(self) -> None:
        self._worker, self._lent = self._lent or self._spawn(), None
        try:
            loaded = interpret(self._ask(LOAD, self._load))
            self.loaded = loaded if isinstance(loaded, dict) else {}
        except StudentStopped as error:
            # Running the cell is what stopped it: every check would meet the same end, so none tries again.
            self._load_failure = StudentStopped(f"While the notebook's cells ran: {error}")
            raise self._load_failure from None

    def restart(self) -> None:
        """Go on in a fresh worker, with all the time there was: what came of the one before counts for nothing."""
        self.close()
        self.loaded, self._load_failure, self._timeouts, self._left = None, None, 0, self._budget

    def hand_on(self) -> Any:
        """The worker, for another program; None if there is none."""
        worker, self._worker = self._worker, None
        return worker

    def _ask(self, kind: int, payload: bytes) -> RawReply:
        from autograder.sandbox.failures import WorkerFailure, WorkerTimeout
        self._demand_time()
        started = time.monotonic()
        try:
            return self._worker.request(kind, payload, min(self._call_seconds, self._left))
        except WorkerFailure as error:
            self._timeouts += isinstance(error, WorkerTimeout)
            self.close()
            raise StudentStopped(str(error)) from None
        finally:
            self._left -= time.monotonic() - started

    def close(self) -> None:
        """End the worker; the next request starts another."""
        worker, self._worker, self._lent = self._worker or self._lent, None, None
        if worker is not None:
            worker.close()
            self.cpu_seconds += getattr(worker, "cpu_seconds", 0.0) or 0.0


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    """A sandbox that breaks is the grader's failure; as an `Exception` a check would take it for the student's."""
    try:
        yield
    except AutograderError as error:
        raise GraderFailed(str(error)) from error


class Recorder:
    """A channel that remembers what went through it since the last `clear()`."""

    def __init__(self, channel: Channel):
        self.channel = channel
        self.log: list[tuple[RawRequest, RawReply]] = []

    def raw(self, kind: int, payload: bytes) -> RawReply:
        reply = self.channel.raw(kind, payload)
        self.log.append(((kind, payload), reply))
        return reply

    def clear(self) -> None:
        self.log = []


def ask(channel: Channel, kind: int, request: Any) -> Any:
    """The value that answers a request; raises `StudentError` when the student's code raised."""
    return interpret(channel.raw(kind, wire.encode(request)))


def ask_many(channel: Channel, requests: Sequence[RawRequest]) -> list[RawReply]:
    """Many requests in one round trip."""
    return replies_of(channel.raw(MANY, batch.pack(requests)), len(requests))


def replies_of(reply: RawReply, count: int) -> list[RawReply]:
    """The replies inside the reply to `MANY`, which the student's process may have made up."""
    kind, payload = reply
    if kind != OK:
        interpret(reply)
    try:
        replies = batch.unpack(payload)
    except wire.WireError as error:
        raise StudentStopped(f"the worker sent a malformed reply ({error})") from None
    if len(replies) != count:
        raise StudentStopped("the worker sent a wrong number of replies")
    return replies


def interpret(reply: RawReply) -> Any:
    """The value of a reply. Its bytes come from the student's process: anything malformed is the student's failure."""
    kind, payload = reply
    try:
        value = wire.decode(payload)
    except wire.WireError as error:
        raise StudentStopped(f"the worker sent a malformed reply ({error})") from None
    if kind == OK:
        return value
    if kind != ERROR or not isinstance(value, dict):
        raise StudentStopped("the worker sent a reply of an unknown kind")
    texts = [value.get(key) if isinstance(value.get(key), str) else "" for key in ("type", "message", "place", "line")]
    texts = [text[:MAX_TEXT] for text in texts]
    error_class = MissingName if texts[0] == "MissingName" else StudentError
    raise error_class(*texts)
