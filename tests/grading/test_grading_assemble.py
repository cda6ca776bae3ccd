"""Outcomes of checks become the report's models: what fits on the page, and the same text for the same code."""
from __future__ import annotations

from typing import Any

import pytest
import torch

from autograder.grading.assemble import SMALL, exercise_result, stable, tensor_view, total
from autograder.report.model import Diagnosis
from etude.compare import assert_same
from etude.failures import CheckFailure, StudentError, StudentStopped
from etude.outcomes import Check, Outcome
from etude.strategies import Cases, normal, value_of

SPEC = Cases(x=normal("B N"), big=normal("B 100"), k=value_of("N"))
CASE = SPEC.case({"B": 2, "N": 3}, seed=4, layout="strided")


def outcome(failure: BaseException | None = None, case: dict[str, Any] | None = None, *, name: str = "test_it",
            points: float = 2.0, public: bool = False) -> Outcome:
    check = Check(name, "It holds.", "one", points, public, True)
    return Outcome(check, failure, {} if case is None else case)


def difference(got: Any, expected: Any) -> CheckFailure:
    with pytest.raises(CheckFailure) as caught:
        assert_same(got, expected)
    return caught.value


def only(result: Any) -> Any:
    (check,) = result.checks
    return check


def result_of(*outcomes: Outcome, **diagnoses: Diagnosis) -> Any:
    return exercise_result("one", "First", list(outcomes), diagnoses, ["a note"])


def test_points_are_for_checks_that_passed() -> None:
    result = result_of(outcome(name="a", points=0.1), outcome(CheckFailure("no"), name="b", points=5),
                       outcome(name="c", points=0.2, public=True))
    assert (result.score, result.max_score, result.status, result.notes) == (0.3, 5.3, "graded", ["a note"])
    assert [(c.name, c.score, c.points, c.passed, c.public) for c in result.checks] == [
        ("a", 0.1, 0.1, True, False), ("b", 0, 5, False, False), ("c", 0.2, 0.2, True, True)]
    assert result.checks[0].message == "" and result.checks[0].counterexample is None


def test_totals_are_free_of_binary_fractions() -> None:
    assert total([result_of(outcome(points=0.1)) for _ in range(3)], "score") == 0.3


def test_a_diagnosis_stands_at_its_check_and_at_none_that_passed() -> None:
    diagnosis = Diagnosis(id="off", title="one is added", certainty="all probes")
    result = result_of(outcome(CheckFailure("no"), name="a"), outcome(name="b"), a=diagnosis, b=diagnosis)
    assert result.checks[0].diagnosis == diagnosis and result.checks[1].diagnosis is None


def test_the_message_is_the_fact_and_then_the_hint() -> None:
    assert only(result_of(outcome(CheckFailure("The fact.", hint="Look here.")))).message == "The fact.\nLook here."
    assert only(result_of(outcome(StudentStopped("no answer within 5 s")))).message == (
        "Your code was stopped: no answer within 5 s.")


def test_a_counterexample_is_one_line_and_the_tensors_that_are_small() -> None:
    shown = only(result_of(outcome(CheckFailure("no"), {"case": CASE, "k": 7}))).counterexample
    assert shown.inputs == "B=2, N=3, seed=4, layout=strided, k=7"
    x, big = shown.tensors
    assert (x.name, x.shape, x.dtype) == ("x", [2, 3], "float64") and x.text.count("[") == 3 and len(x.text) < 80
    assert big.text == "" and big.shape == [2, 100] and shown.difference is None
    assert only(result_of(outcome(CheckFailure("no")))).counterexample is None


def test_tensors_in_a_dict_argument_have_their_full_names() -> None:
    case = Cases(params={"w": normal("N"), "b": normal("1")}).case({"N": 2})
    shown = only(result_of(outcome(CheckFailure("no"), {"case": case}))).counterexample
    assert [(tensor.name, tensor.shape) for tensor in shown.tensors] == [("params['w']", [2]), ("params['b']", [1])]


def test_the_difference_is_told_in_numbers() -> None:
    expected = torch.arange(6.0).reshape(2, 3)
    got = expected.clone()
    got[1, 0] = 7.5
    shown = only(result_of(outcome(difference(got, expected), {"case": CASE}))).counterexample.difference
    assert (shown.where, shown.first_index, shown.expected_value, shown.got_value) == ("output", [1, 0], 3.0, "7.5")
    assert (shown.largest_error, shown.wrong_elements, shown.total_elements) == ("4.5", 1, 6)
    assert shown.expected.text == "[[0, 1, 2], [3, 4, 5]]" and shown.got.text == "[[0, 1, 2], [7.5, 4, 5]]"
    assert shown.expected_shape == shown.got_shape == [2, 3]


@pytest.mark.parametrize(("got", "expected", "value", "shown"), [
    (torch.tensor([float("nan")]), torch.tensor([1.0]), 1.0, "nan"), (torch.tensor([3]), torch.tensor([2]), 2.0, "3"),
    (torch.tensor([True]), torch.tensor([False]), 0.0, "1"), (torch.tensor([1 + 2j]), torch.tensor([1j]), None, "1+2j"),
    (torch.tensor(2.0), torch.tensor(1.0), 1.0, "2"), (torch.tensor([-float("inf")]), torch.tensor([0.0]), 0.0, "-inf"),
])
def test_a_difference_of_any_dtype_can_be_told(got: torch.Tensor, expected: torch.Tensor, value: float | None,
                                               shown: str) -> None:
    told = only(result_of(outcome(difference(got, expected)))).counterexample.difference
    assert (told.expected_value, told.got_value) == (value, shown)


@pytest.mark.parametrize(("tensor", "text"), [
    (torch.tensor(3), "3"), (torch.tensor([[0.123456, -1.0]]), "[[0.1235, -1]]"), (torch.tensor([True]), "[True]"),
    (torch.zeros(2, 0), "[[], []]"), (torch.zeros(SMALL + 1), ""), (torch.tensor([float("nan")]), "[nan]"),
    (torch.tensor([1.5], requires_grad=True), "[1.5]"), (torch.tensor([1j]), "[1j]"),
])
def test_a_tensor_is_printed_if_it_is_small(tensor: torch.Tensor, text: str) -> None:
    assert tensor_view("x", tensor).text == text


def test_addresses_do_not_differ_from_run_to_run() -> None:
    error = StudentError("TypeError", f"not {object()!r} and <Tensor at 0x7f00deadbeef>")
    message = only(result_of(outcome(error))).message
    assert "0x…" in message and "7f00deadbeef" not in message
    assert stable("0xff stays, 0x7f0012345678 goes") == "0xff stays, 0x… goes"
