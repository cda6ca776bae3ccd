"""A mistake is named when the submission answers as it does, and when nothing else does; otherwise nothing is said."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_course import RIGHT, handed_in, tiny_course

from autograder.course import Course
from autograder.grading.diagnosis import agree, decoded
from autograder.report.model import Report
from etude import wire
from etude.executor import ERROR, OK

Grade = Callable[..., dict[str, Report]]


def diagnoses(report: Report, exercise: str = "scale") -> dict[str, tuple[str, str] | None]:
    """What each failed check of an exercise is said to come from, and how sure that is."""
    (result,) = [one for one in report.exercises if one.id == exercise]
    return {check.name: (check.diagnosis.id, check.diagnosis.certainty) if check.diagnosis else None
            for check in result.checks if not check.passed}


VALUES, ONES = "test_scale_values_and_gradients", "test_scale_of_ones"
HEAD = "def scale(x, factor):\n    "
SURE = "all probes"
HANDED_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "written otherwise, the same mistake": (HEAD + "return factor - (-x)", {
        ONES: ("added", SURE), VALUES: ("added", SURE)}),
    "a mistake of gradients alone": (HEAD + "return factor * x.data", {VALUES: ("detached", SURE)}),
    "a mistake that nobody knew": (HEAD + "return factor * x + 1e-3", {ONES: None, VALUES: None}),
    "a known mistake in large batches": (HEAD + "return factor + x if len(x) > 2 else factor * x", {
        ONES: ("added", "this example"), VALUES: ("added", "this example")}),
    "a known mistake, and sometimes an error": (HEAD + "assert x.shape[1] < 4\n    return factor + x", {
        ONES: ("added", "this example"), VALUES: ("added", "this example")}),
    "not implemented": (HEAD + "raise NotImplementedError", {ONES: None, VALUES: None}),
    "not there": ("def scales(x, factor):\n    return x", {ONES: None, VALUES: None}),
    "an error, always": (HEAD + "return factor + y", {ONES: None, VALUES: None}),
    "the end of the process": ("import os\n" + HEAD + "os._exit(0)", {ONES: None, VALUES: None}),
    "a syntax error": ("def scale(x, factor) return x", {ONES: None, VALUES: None}),
    "right": (RIGHT["scale"], {}),
}


@pytest.fixture(scope="module")
def reports(tiny: Course, graded: Grade) -> dict[str, Report]:
    return graded(tiny, [handed_in(f"s{number}", scale=source)
                         for number, (source, _) in enumerate(HANDED_IN.values())])


@pytest.mark.parametrize("number", range(len(HANDED_IN)), ids=HANDED_IN)
def test_a_mistake_is_named_only_where_the_submission_shows_it(reports: dict[str, Report], number: int) -> None:
    assert diagnoses(reports[f"s{number}"]) == list(HANDED_IN.values())[number][1]
    assert diagnoses(reports[f"s{number}"], "center") == {}


def test_a_named_mistake_comes_with_its_title_and_its_hint(reports: dict[str, Report]) -> None:
    diagnosis = reports["s0"].exercises[0].checks[0].diagnosis
    assert (diagnosis.title, diagnosis.explanation) == ("the factor is added", "Scaling multiplies.")


def test_of_two_mistakes_that_answer_alike_none_is_named(tmp_path: Path, graded: Grade) -> None:
    twin = '\n\n@mistake("scale", "twin", "the factor is added again")\ndef scale(x, factor):\n    return factor + x\n'
    source = HEAD + "return factor + x"
    report = graded(tiny_course(tmp_path, variants=twin), [handed_in("ann", scale=source)])["ann"]
    assert diagnoses(report) == {ONES: None, VALUES: None}


# ---------------------------------------------------------------------------------------------- what "alike" means

X = torch.tensor([1.0, -2.0], dtype=torch.float64)
NAN = torch.tensor([1.0, float("nan")])
ALIKE = {
    "equal": (X, X.clone()), "up to rounding": (X, X * (1 + 1e-12)), "float32 up to its rounding": (
        X.float(), X.float() * (1 + 1e-5)), "NaN at the same place": (NAN, NAN.clone()),
    "a list and a tuple": ([X, 1], (X, 1)), "errors of one type": (("error", "TypeError"), ("error", "TypeError")),
    "how, not what": ({"result": X, "largest": [3]}, {"result": X, "largest": [9]}), "complex": (X + 1j, X + 1j),
    "ints": (X.long(), X.long()),
}
UNLIKE = {
    "a value": (X, X + 1e-3), "a shape": (X, X[None]), "a dtype": (X, X.float()), "who requires a gradient": (
        X, X.clone().requires_grad_()), "NaN": (X.float(), NAN), "NaN elsewhere": (NAN, NAN.flip(0)),
    "the number": ([X], [X, X]), "a plain value": ([X, 1], [X, 2]), "a key": ({"a": X}, {"b": X}),
    "an error's type": (("error", "TypeError"), ("error", "ValueError")), "an error and a value": (
        ("error", "x"), ("value", "x")), "ints": (X.long(), X.long() + 1), "a tensor for a number": ([X[0]], [1.0]),
}


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_replies_that_say_the_same(one: Any, other: Any) -> None:
    assert agree(one, other) and agree(other, one)


@pytest.mark.parametrize(("one", "other"), UNLIKE.values(), ids=UNLIKE)
def test_replies_that_differ(one: Any, other: Any) -> None:
    assert not agree(one, other) and not agree(other, one)


def test_a_reply_is_compared_by_its_value_or_its_errors_type_and_a_forged_one_harms_nobody() -> None:
    assert decoded((OK, wire.encode({"result": 3}))) == ("value", {"result": 3})
    assert decoded((ERROR, wire.encode({"type": "ValueError", "message": "x"}))) == ("error", "ValueError")
    assert decoded((ERROR, wire.encode([1])))[0] == "error" and decoded((OK, b"?")) == ("malformed",)
