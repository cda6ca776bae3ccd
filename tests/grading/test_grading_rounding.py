"""Checks need not run for whoever gives the reference's answers; those that can see rounding are run all the same."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_course import CHECKS, RIGHT, handed_in, tiny_course

from autograder.course import Course
from autograder.grading import rounding
from autograder.grading.grade import run_unit_checks
from autograder.grading.reference import ReferenceSubject
from autograder.grading.rounding import Disturbed, Kept, Rounding
from autograder.grading.subjects import SubmissionSubject
from autograder.remote.channel import LocalChannel
from autograder.remote.student import RemoteStudent
from autograder.report.model import Report
from autograder.solution.material import Material
from etude import wire
from etude.failures import StudentError

Grade = Callable[..., dict[str, Report]]
EXACT = '''

@exercise("center")
@points(1)
@for_all(case=CENTER)
def test_center_halves(student, case):
    """Half the input gives exactly half the output."""
    (x,) = case.arguments().values()
    assert torch.equal(student.center(x / 2), student.center(x) / 2)
'''
SLOPPY = {"center": "def center(x):\n    y = x - x.mean(1, keepdim=True)\n    return y * (1 + 1e-14 * y.abs().max())"}


@pytest.fixture
def exact(tmp_path: Path) -> Course:
    """The tiny course with a check that compares two answers for equality."""
    return tiny_course(tmp_path, checks={"@points(2)": "@points(1)", CHECKS[-40:]: CHECKS[-40:] + EXACT})


def outcomes(course: Course, source: dict[str, str]) -> tuple[dict[str, bool], list[str]]:
    """(which checks pass, which were run) for a program in this process."""
    material = Material(course, course.unit("tiny"))
    reference, run, passed = ReferenceSubject(material), [], {}

    class Noting(SubmissionSubject):
        def passes(self, check: Any) -> bool:
            known = super().passes(check)
            run.extend([] if known else [check.name])
            return known

    def subjects() -> Any:
        yield reference
        subject = Noting(material, lambda exercise: [{"label": "cell 1", "source": "import torch\n" + source[exercise],
                                                      "mode": "all"}], LocalChannel, reference)
        yield subject
        passed.update({check.name: check.passed for result in subject.results for check in result.checks})
    run_unit_checks(material, subjects())
    return passed, run


def test_no_check_is_run_for_the_references_own_answers(tiny: Course) -> None:
    passed, run = outcomes(tiny, RIGHT)
    assert all(passed.values()) and len(passed) == 3 and run == []


def test_checks_are_run_for_other_answers(tiny: Course) -> None:
    passed, run = outcomes(tiny, {**RIGHT, "center": "def center(x): return x - 1"})
    assert run == ["test_center_rows"] == [name for name, ok in passed.items() if not ok]


def test_a_check_that_can_see_rounding_is_run_and_decides(exact: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    passed, run = outcomes(exact, {**RIGHT, **SLOPPY})
    assert run == ["test_center_halves"] and passed == {
        "test_scale_of_ones": True, "test_scale_values_and_gradients": True, "test_center_rows": True,
        "test_center_halves": False}
    # Without that trial the same answers would pass for right.
    monkeypatch.setattr(Rounding, "_is_blind", lambda self, check, kept: True)
    passed, run = outcomes(exact, {**RIGHT, **SLOPPY})
    assert run == [] and all(passed.values())


def test_sealed_grades_are_those_of_the_checks_themselves(tiny: Course, graded: Grade,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    class_of = [handed_in(), handed_in(scale="def scale(x, factor): return (factor * x).detach()"),
                handed_in(center="def center(x): return x - x.mean(0, keepdim=True)"),
                handed_in(center="def center(x): return x - x.sum(1, keepdim=True) / x.shape[1]")]

    def without_timings() -> list[dict]:
        found = [graded(tiny, [one])["ann"].model_dump() for one in class_of]
        for report in found:
            report["provenance"].pop("timings")
        return found
    short = without_timings()
    monkeypatch.setattr(SubmissionSubject, "passes", lambda self, check: False)
    assert without_timings() == short


class Given:
    """A channel that answers with this value."""

    def __init__(self, value: Any):
        self._reply = 0, wire.encode(value)

    def raw(self, kind: int, payload: bytes) -> Any:
        return self._reply


def disturbed(value: Any, kept: Kept | None = None, salt: int = 0) -> Any:
    return wire.decode(Disturbed(Given(value), kept or Kept(), salt).raw(3, b"")[1])


def test_a_disturbance_is_larger_than_rounding_and_keeps_what_it_shall() -> None:
    x = torch.tensor([0.0, 1.0, -2.0, 3.0], dtype=torch.float64)
    value = {"result": [x, x.clone(), x.to(torch.int64), 7]}
    for kept in (Kept(), Kept(zeros=True), Kept(repeats=True), Kept(zeros=True, repeats=True)):
        first, second, whole, seven = disturbed(value, kept)["result"]
        off, bound = (first - x).abs(), rounding.ROUNDING[torch.float64] * 3
        assert bound < off.max() <= rounding.EXCESS * bound
        assert (off[0] == 0) == kept.zeros and torch.equal(first, second) == kept.repeats
        assert torch.equal(whole, x.long()) and seven == 7
        assert torch.equal(first, disturbed(value, kept)["result"][0])
        assert not torch.equal(first, disturbed(value, kept, salt=1)["result"][0])


def test_inputs_that_come_back_and_expanded_memory_are_left_alone() -> None:
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    value = disturbed({"result": x.expand(3, 2), "inputs_after": [x]})
    assert torch.equal(value["result"], x.expand(3, 2)) and torch.equal(value["inputs_after"][0], x)


def test_gradients_are_disturbed_and_errors_lose_their_words(tiny: Course) -> None:
    program = [{"label": "cell 1", "source": RIGHT["scale"] + "\ndef no(x): raise ValueError(x)", "mode": "all"}]
    student = RemoteStudent(Disturbed(LocalChannel(program), Kept()))
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    student.scale(x, 3.0).sum().backward()
    assert 0 < (x.grad - 3).abs().max() < 1e-9
    with pytest.raises(StudentError, match="disturbed") as raised:
        student.no("secret")
    assert raised.value.type_name == "ValueError"
