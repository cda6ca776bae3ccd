"""Requests that are known from the reference's run travel ahead, and nothing of the reference's answers with them."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from autograder.remote.channel import LocalChannel, RawReply, RawRequest, Recorder, ask_many
from autograder.remote.foresight import ForesightChannel
from autograder.remote.script import Script
from autograder.remote.student import RemoteStudent
from etude import wire
from etude.executor import CALL, MANY
from etude.failures import StudentError

SOURCE = """
def f(x): return x * 2
def bad(x): return x.missing
def count(x): return len(x)
"""
WRONG = SOURCE.replace("x * 2", "x * 3")


def local(source: str) -> LocalChannel:
    return LocalChannel([{"label": "cell 1", "source": source, "mode": "all"}])


class Sealed:
    """Stands for a sealed channel: counts its round trips, remembers what reached it, may fail when asked ahead."""

    def __init__(self, source: str = SOURCE, fails: bool = False):
        self._channel, self._fails = local(source), fails
        self.trips: list[int] = []
        self.inputs: list[list[float]] = []

    def raw(self, kind: int, payload: bytes) -> RawReply:
        self.trips.append(kind)
        self._remember([(kind, payload)])
        return self._channel.raw(kind, payload)

    def ahead(self, requests: Sequence[RawRequest]) -> list[RawReply] | None:
        self.trips.append(MANY)
        self._remember(requests)
        return None if self._fails else ask_many(self._channel, requests)

    def _remember(self, requests: Sequence[RawRequest]) -> None:
        self.inputs += [argument.tolist() for kind, payload in requests if kind == CALL
                        for argument in wire.decode(payload)["args"]]


Check = Callable[[RemoteStudent, int], Any]


def script_of(check: Check, examples: int = 3, source: str = SOURCE) -> Script:
    """What a check asks of the reference for each example, and what that answers."""
    recorder = Recorder(local(source))
    student, script = RemoteStudent(recorder), []
    for example in range(examples):
        recorder.clear()
        check(student, example)
        script.append(recorder.log)
    return Script(script)


def run(check: Check, channel: Any, examples: int = 3) -> list[Any]:
    student = RemoteStudent(channel)
    return [check(student, example) for example in range(examples)]


def plain(student: RemoteStudent, example: int) -> list:
    """A check that asks the same whatever comes back."""
    x = torch.full((2,), float(example), requires_grad=True)
    y = student.f(x)
    y.sum().backward()
    return [y.tolist(), x.grad.tolist(), student.count(torch.zeros(example))]


def twice(student: RemoteStudent, example: int) -> list:
    """A check that asks about an answer."""
    return student.f(student.f(torch.tensor([5.0 + 2 * example]))).tolist()


@pytest.mark.parametrize("check", [plain, twice])
@pytest.mark.parametrize("source", [SOURCE, WRONG], ids=["right", "wrong"])
def test_answers_are_those_that_came_without_foresight(check: Check, source: str) -> None:
    assert run(check, ForesightChannel(Sealed(source), script_of(check))) == run(check, local(source))


def test_examples_that_follow_the_script_travel_together() -> None:
    far, near = Sealed(), Sealed()
    run(plain, ForesightChannel(far, script_of(plain, 20)), 20)
    run(plain, near, 20)
    assert set(far.trips) == {MANY} and len(far.trips) < 10 < len(near.trips)


def test_wrong_code_never_reads_what_the_reference_answered() -> None:
    right, wrong = Sealed(SOURCE), Sealed(WRONG)
    for sealed in (right, wrong):
        run(twice, ForesightChannel(sealed, script_of(twice)))
    answers = [[10.0], [14.0], [18.0]]  # the reference's own, to 5, 7 and 9
    assert all(answer in right.inputs for answer in answers), "a right submission is asked about what it answered"
    assert not any(answer in wrong.inputs for answer in answers)
    assert all([3 * x] in wrong.inputs for x in (5.0, 7.0, 9.0))


def test_what_a_name_stands_for_is_asked_together_with_what_comes_after_it() -> None:
    def counts(student: RemoteStudent, example: int) -> int:
        return student.count(torch.zeros(example))
    sealed = Sealed()
    assert run(counts, ForesightChannel(sealed, script_of(counts))) == [0, 1, 2] and sealed.trips == [MANY]


def test_a_value_of_the_reference_is_an_answer_too() -> None:
    def asks(student: RemoteStudent, example: int) -> int:
        return student.count(torch.tensor([student.limit] * (example + 1)))
    right, wrong = Sealed(SOURCE + "limit = 7.0"), Sealed(SOURCE + "limit = 1.0")
    for sealed in (right, wrong):
        run(asks, ForesightChannel(sealed, script_of(asks, source=SOURCE + "limit = 7.0")))
    assert [7.0] in right.inputs and [7.0] not in wrong.inputs and [1.0] in wrong.inputs


@pytest.mark.parametrize("other", [
    lambda student, example: [student.count(torch.zeros(1)), plain(student, example)],
    lambda student, example: [plain(student, example), plain(student, example)],
    lambda student, example: plain(student, example + 1),
    lambda student, example: student.f(torch.full((2,), float(example), requires_grad=True)).tolist(),
], ids=["at once", "after an example", "with other examples", "in the middle of one"])
def test_a_check_that_leaves_its_script_gets_the_answers_to_what_it_asks(other: Check) -> None:
    assert run(other, ForesightChannel(Sealed(), script_of(plain))) == run(other, local(SOURCE))


def test_a_check_that_goes_on_beyond_its_script_is_answered() -> None:
    assert run(plain, ForesightChannel(Sealed(), script_of(plain)), 6) == run(plain, local(SOURCE), 6)
    assert run(plain, ForesightChannel(Sealed(), Script([])), 2) == run(plain, local(SOURCE), 2)


def test_a_worker_that_does_not_get_through_is_asked_one_by_one() -> None:
    sealed = Sealed(fails=True)
    assert run(plain, ForesightChannel(sealed, script_of(plain))) == run(plain, local(SOURCE))
    assert sealed.trips[0] == MANY and MANY not in sealed.trips[1:]


def test_errors_that_come_ahead_are_raised_where_they_are_met() -> None:
    def asks(student: RemoteStudent, example: int) -> int:
        with pytest.raises(StudentError, match="AttributeError"):
            student.bad(torch.zeros(example))
        return student.count(torch.zeros(example))
    assert run(asks, ForesightChannel(Sealed(), script_of(asks))) == [0, 1, 2]
