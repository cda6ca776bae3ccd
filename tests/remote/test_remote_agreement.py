"""Answers that are the reference's but for rounding are told from all others, and nothing is asked twice for it."""
from __future__ import annotations

import pytest
import torch
from test_remote_foresight import SOURCE, Sealed, plain, run, script_of, twice

from autograder.remote.foresight import ForesightChannel
from autograder.remote.script import Agreement, Script
from autograder.remote.student import RemoteStudent
from etude import wire
from etude.executor import MANY, OK
from etude.failures import StudentError

ROUNDED = SOURCE.replace("x * 2", "x * (2 + 4e-14)")


def single(student: RemoteStudent, example: int) -> list:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0 + example]], dtype=torch.float64, requires_grad=True)
    return student.f(x).tolist()


def pure(student: RemoteStudent, example: int) -> bool:
    x = torch.arange(1.0, 3.0 + example, dtype=torch.float64)
    return torch.equal(student.f(x), student.f(x))


@pytest.mark.parametrize(("returned", "agrees", "to_the_bit"), [
    ("x * 2", True, True),
    ("x + x", True, True),
    ("x * (2 + 4e-14)", True, False),
    ("x * (2 + 1e-10)", False, None),
    ("x * 2 + 1e-15", True, False),
    ("(x.T * (2 + 4e-14)).T.contiguous().mT.mT", True, False),
    ("(x.T * (2 + 4e-14)).T.clone(memory_format=torch.contiguous_format)", True, False),
    ("torch.stack([x, x], 2)[:, :, 0] * (2 + 4e-14)", True, False),
    ("torch.stack([x * 2, x], 2)[:, :, 0]", True, False),  # the same numbers in another layout
    ("(x * 2).detach()", False, None),
    ("(x * 2).float()", False, None),
    ("(x * 2)[None]", False, None),
    ("(x * 2, None)", False, None),
    ("x * float('nan')", False, None),
    ("x * float('inf')", False, None),
    ("x.missing", False, None),
])
def test_an_answer_agrees_if_it_differs_by_rounding_only(returned: str, agrees: bool, to_the_bit: bool | None) -> None:
    source = "import torch\n" + SOURCE.replace("x * 2", returned)
    agreement = ForesightChannel(Sealed(source), script_of(single)).agrees()
    assert (agreement is not None) == agrees
    assert agreement is None or agreement.to_the_bit == to_the_bit


@pytest.mark.parametrize(("second", "repeats"), [("x * (2 + 4e-14)", True), ("x * (2 + 5e-14)", False)])
def test_whether_tensors_repeat_that_repeat_in_the_references_answers_is_noted(second: str, repeats: bool) -> None:
    source = f"""
calls = []
def f(x):
    calls.append(1)
    return x * (2 + 4e-14) if len(calls) <= 3 else {second}
"""
    # The first calls of the three examples travel before their second ones.
    agreement = ForesightChannel(Sealed(source), script_of(pure)).agrees()
    assert agreement is not None and agreement.repeats() == repeats


def test_a_check_that_is_run_after_all_finds_what_was_answered() -> None:
    sealed = Sealed(ROUNDED)
    channel = ForesightChannel(sealed, script_of(plain))
    assert channel.agrees() is not None
    trips = len(sealed.trips)
    assert run(plain, channel) == run(plain, Sealed(ROUNDED)) and len(sealed.trips) == trips


def test_after_a_disagreement_the_check_is_answered_as_ever() -> None:
    wrong = SOURCE.replace("x * 2", "x * 2 if len(x) < 2 or x[0] < 2 else x * 3")
    channel = ForesightChannel(Sealed(wrong), script_of(plain))
    assert channel.agrees() is None
    assert run(plain, channel) == run(plain, Sealed(wrong))


def test_a_worker_that_does_not_get_through_agrees_with_nothing_and_is_asked_one_by_one() -> None:
    sealed = Sealed(fails=True)
    channel = ForesightChannel(sealed, script_of(plain))
    assert channel.agrees() is None and sealed.trips == [MANY]
    assert run(plain, channel) == run(plain, Sealed()) and MANY not in sealed.trips[1:]


def test_whoever_disagrees_has_not_read_what_the_reference_answered() -> None:
    right, wrong = Sealed(), Sealed(SOURCE.replace("x * 2", "x * 3"))
    assert ForesightChannel(right, script_of(twice)).agrees() is not None
    assert ForesightChannel(wrong, script_of(twice)).agrees() is None
    answers = [[10.0], [14.0], [18.0]]
    assert all(answer in right.inputs for answer in answers) and not any(answer in wrong.inputs for answer in answers)


def test_a_script_without_requests_says_nothing() -> None:
    assert ForesightChannel(Sealed(), Script([])).agrees() is None


@pytest.mark.parametrize("forged", [b"", b"\xff" * 40, wire.encode({"result": None}), wire.encode([1]),
                                    wire.encode({"result": torch.zeros(2)})[:-1]])
def test_forged_bytes_agree_with_nothing(forged: bytes) -> None:
    script = script_of(single)
    assert not Agreement(script).holds((0, 0), (OK, forged))
    assert Agreement(script).holds((0, 0), script.reply((0, 0)))


@pytest.mark.parametrize(("returned", "zeros"), [("x * 2 + 1e-15", False), ("x * (2 + 4e-14)", True)])
def test_whether_zeros_are_kept_is_noted(returned: str, zeros: bool) -> None:
    agreement = ForesightChannel(Sealed(SOURCE.replace("x * 2", returned)), script_of(single)).agrees()
    assert agreement is not None and agreement.zeros == zeros


@pytest.mark.parametrize(("body", "agrees"), [
    ("raise ValueError('my own words')", True), ("raise KeyError('x')", False), ("return 2", False)])
def test_errors_agree_by_their_type(body: str, agrees: bool) -> None:
    def refuses(student: RemoteStudent, example: int) -> None:
        with pytest.raises(StudentError):
            student.bad(torch.zeros(example))
    script = script_of(refuses, source=SOURCE.replace("return x.missing", "raise ValueError('no')"))
    sealed = Sealed(SOURCE.replace("return x.missing", body))
    assert (ForesightChannel(sealed, script).agrees() is not None) == agrees


def test_unchanged_inputs_are_compared_to_the_bit() -> None:
    def reply(result: float, after: float) -> tuple[int, bytes]:
        tensors = [torch.tensor([value], dtype=torch.float64) for value in (result, after)]
        return OK, wire.encode({"result": tensors[0], "inputs_after": [tensors[1]]})
    script = Script([[((3, b""), reply(1.0, 1.0))]])
    assert Agreement(script).holds((0, 0), reply(1 + 1e-14, 1.0))
    assert not Agreement(script).holds((0, 0), reply(1.0, 1 + 1e-14))
