"""Sealed channels: what a worker's end costs, what time costs, what is asked ahead, and whose failure it is."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from autograder.errors import SandboxError
from autograder.remote.channel import MAX_TIMEOUTS, SealedChannel
from autograder.sandbox.failures import WorkerDied, WorkerOutOfMemory, WorkerProtocolError, WorkerTimeout
from autograder.sandbox.limits import Limits
from etude import wire
from etude.executor import CALL, ERROR, LOAD, OK, Executor
from etude.failures import GraderFailed, StudentStopped

SOURCE = "def f(x): return x * 2\ndef bad(x): return x.missing\ncalls = []\ndef count():\n    calls.append(1)\n" \
         "    return len(calls)"


def program(source: str = SOURCE) -> Sequence[dict[str, str]]:
    return [{"label": "cell 1", "source": source, "mode": "all"}]


class FakeWorker:
    """An executor in this process, behind a sandbox that fails when it is told to."""

    def __init__(self, failures: list[Exception | None]):
        self._executor, self._failures = Executor(), failures
        self.closed = False
        self.seconds: list[float] = []

    def request(self, kind: int, payload: bytes, seconds: float) -> tuple[int, bytes]:
        self.seconds.append(seconds)
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        return self._executor.handle(kind, payload)

    def close(self) -> None:
        self.closed = True


class FakeZygote:
    """Spawns fake workers; `failures` are what the requests meet, None for those that are answered."""

    def __init__(self, *failures: Exception | None):
        self.failures, self.workers = list(failures), []

    def spawn(self) -> FakeWorker:
        self.workers.append(FakeWorker(self.failures))
        return self.workers[-1]


def opened(zygote: Any, source: str = SOURCE, call_seconds: float = 5.0, seconds: float = 60.0) -> SealedChannel:
    return SealedChannel(program(source), zygote.spawn, call_seconds, seconds)


def call(name: str, *args: Any) -> tuple[int, bytes]:
    return CALL, wire.encode({"name": name, "args": list(args), "kwargs": {}})


def result(reply: tuple[int, bytes]) -> Any:
    return wire.decode(reply[1])["result"]


# ---------------------------------------------------------------------------------------------- the worker's end

@pytest.mark.parametrize("failure", [WorkerDied("it ended itself"), WorkerOutOfMemory("too much memory"),
                                     WorkerProtocolError("forged"), WorkerTimeout("no answer")])
def test_a_worker_that_fails_costs_one_call_and_is_followed_by_a_fresh_one(failure: Exception) -> None:
    zygote = FakeZygote(None, None, failure)  # the program is loaded, one call is answered, the next is not
    channel = opened(zygote)
    assert zygote.workers == [], "nothing is started before it is needed"
    assert result(channel.raw(*call("count"))) == 1
    with pytest.raises(StudentStopped, match=str(failure)):
        channel.raw(*call("count"))
    assert zygote.workers[0].closed and result(channel.raw(*call("count"))) == 1
    channel.close()
    assert [worker.closed for worker in zygote.workers] == [True, True]


def test_cells_that_stop_the_worker_are_run_once_and_every_call_meets_the_same_end() -> None:
    zygote = FakeZygote(WorkerTimeout("no answer within 5 s"))
    channel = opened(zygote)
    for _ in range(3):
        with pytest.raises(StudentStopped, match="While the notebook's cells ran: no answer within 5 s"):
            channel.raw(*call("count"))
    assert len(zygote.workers) == 1 and channel.loaded is None


def test_after_too_many_timeouts_no_call_is_made_any_more() -> None:
    zygote = FakeZygote(None, *[WorkerTimeout("no answer"), None] * MAX_TIMEOUTS)
    channel = opened(zygote)
    for _ in range(MAX_TIMEOUTS):
        with pytest.raises(StudentStopped, match="no answer"):
            channel.raw(*call("count"))
    asked = sum(len(worker.seconds) for worker in zygote.workers)
    with pytest.raises(StudentStopped, match=f"not run, as {MAX_TIMEOUTS} checks before it took too long"):
        channel.raw(*call("count"))
    assert sum(len(worker.seconds) for worker in zygote.workers) <= asked + 1, "at most the program is loaded again"


def test_all_calls_together_have_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("autograder.remote.channel.time.monotonic", lambda: now[0])
    zygote = FakeZygote()
    channel = opened(zygote, call_seconds=5.0, seconds=12.0)
    request = zygote.spawn  # every request takes four seconds by this clock

    def slow_spawn() -> FakeWorker:
        worker = request()
        ask_worker = worker.request

        def slowly(kind: int, payload: bytes, seconds: float) -> tuple[int, bytes]:
            now[0] += 4.0
            return ask_worker(kind, payload, seconds)
        worker.request = slowly
        return worker
    channel._spawn = slow_spawn
    assert result(channel.raw(*call("count"))) == 1 and result(channel.raw(*call("count"))) == 2
    with pytest.raises(StudentStopped, match="the 12 seconds for this exercise were used up by earlier checks"):
        channel.raw(*call("count"))
    assert zygote.workers[0].seconds == [5.0, 5.0, 4.0] and zygote.workers[0].closed


@pytest.mark.parametrize("reply", [wire.encode([1]), wire.encode(None), wire.encode("loaded")])
def test_a_program_that_is_loaded_with_an_odd_reply_has_no_notes(reply: bytes) -> None:
    zygote = FakeZygote()
    channel = opened(zygote)
    spawn = zygote.spawn

    def odd() -> FakeWorker:
        worker = spawn()
        worker.request = lambda kind, payload, seconds: (OK, reply) if kind == LOAD else (OK, wire.encode({}))
        return worker
    channel._spawn = odd
    channel.raw(*call("f", 1))
    assert channel.loaded == {}


@pytest.mark.parametrize("where", ["spawn", "request"])
def test_a_sandbox_that_breaks_is_no_exception_that_a_check_could_take_for_the_students(where: str) -> None:
    broken = SandboxError("the sandbox's first process has ended")
    zygote = FakeZygote(None, broken)
    channel = opened(zygote)
    if where == "spawn":
        channel._spawn = lambda: (_ for _ in ()).throw(broken)
    with pytest.raises(GraderFailed, match="first process has ended") as caught:
        channel.raw(*call("count"))
    assert caught.value.__cause__ is broken and not isinstance(caught.value, Exception)


def test_what_the_cells_printed_and_their_errors_are_kept(zygote: Any) -> None:
    source = SOURCE + "\nprint('hello')\n1 / 0"
    channel = SealedChannel(program(source), lambda: zygote.spawn(Limits()), 20.0, 60.0)
    try:
        assert result(channel.raw(*call("f", torch.ones(1)))).tolist() == [2]
        assert channel.loaded["output"] == "hello\n" and channel.loaded["errors"][0]["line"] == 8
    finally:
        channel.close()
    assert channel.cpu_seconds > 0


# ---------------------------------------------------------------------------------------------- ahead of need

def test_requests_ahead_of_need_travel_together() -> None:
    zygote = FakeZygote()
    replies = opened(zygote).ahead([call("count"), call("bad", 1), call("count")])
    assert [kind for kind, _ in replies] == [OK, ERROR, OK] and [result(replies[0]), result(replies[2])] == [1, 2]
    assert len(zygote.workers[0].seconds) == 2, "the program, and the three in one"


def test_a_worker_that_does_not_get_through_is_gone_and_that_counts_as_no_timeout() -> None:
    zygote = FakeZygote(*[None, WorkerTimeout("no answer")] * MAX_TIMEOUTS)
    channel = opened(zygote)
    assert channel.ahead([call("count")]) is None
    assert zygote.workers[-1].closed
    with pytest.raises(StudentStopped, match="no answer"):
        channel.raw(*call("count"))
    assert result(channel.raw(*call("count"))) == 1, "one time-out of those that count is left"


def test_what_ran_into_the_limit_once_is_not_asked_ahead_again() -> None:
    """Each attempt would wait for the whole limit; asked one by one, the exercise waits once for each call."""
    zygote = FakeZygote(None, WorkerTimeout("no answer"))
    channel = opened(zygote)
    assert channel.ahead([call("count")]) is None
    channel.restart()
    assert channel.ahead([call("count")]) is None
    assert len(zygote.workers[-1].seconds) == 1, "the program; the request was not made"
    assert result(channel.raw(*call("count"))) == 1


def test_a_worker_that_died_is_asked_ahead_again() -> None:
    zygote = FakeZygote(None, WorkerDied("gone"))
    channel = opened(zygote)
    assert channel.ahead([call("count")]) is None
    assert [result(reply) for reply in channel.ahead([call("count"), call("count")])] == [1, 2]


def test_a_forged_reply_to_many_requests_is_as_good_as_none() -> None:
    zygote = FakeZygote()
    channel = opened(zygote)
    channel.raw(*call("count"))
    zygote.workers[0].request = lambda kind, payload, seconds: (OK, wire.encode([[OK, b"N"]]))
    assert channel.ahead([call("count"), call("count")]) is None and zygote.workers[0].closed


def test_after_too_many_timeouts_nothing_is_asked_ahead_either() -> None:
    zygote = FakeZygote(*[None, WorkerTimeout("no answer")] * MAX_TIMEOUTS)
    channel = opened(zygote)
    for _ in range(MAX_TIMEOUTS):
        with pytest.raises(StudentStopped):
            channel.raw(*call("count"))
    with pytest.raises(StudentStopped, match="took too long"):
        channel.ahead([call("count")])
