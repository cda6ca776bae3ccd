"""What of an outcome reaches the card: small tables, heat maps, sentences."""
from __future__ import annotations

import math

import pytest
import torch

from etude.compare import assert_same
from etude.failures import CheckFailure, MissingName, StudentError, StudentStopped
from etude.outcomes import Check, Outcome
from etude.strategies import Cases, normal
from etude.students import explain

CHECK = Check("test_a", "It is right.", "one", 1.0, True, True)
CASE = Cases(q=normal("B d"), sizes={"B": (1, 3), "d": (1, 40)})


def failing(got, expected, **options):
    with pytest.raises(CheckFailure) as raised:
        assert_same(got, expected)
    return Outcome(CHECK, raised.value, **options)


def shown(outcome):
    return explain.property_of(outcome, {}, "").failure


def test_small_matrices_are_printed_side_by_side_with_what_differs_marked():
    expected = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    got = expected.clone()
    got[1, 2] = 9
    failure = shown(failing(got, expected))
    assert failure.grids[0].rows == [["0", "1", "2"], ["3", "4", "5"]]
    assert failure.grids[1].rows == [["0", "1", "2"], ["3", "4", "9"]]
    assert failure.grids[1].wrong == {(1, 2)} and not failure.grids[0].wrong
    assert failure.detail == "1 of 6 values differs; the largest error is 4 (allowed: 5e-09)."


def test_of_a_larger_tensor_the_slice_with_the_first_difference_is_shown():
    expected = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    got = expected.clone()
    got[1, 2, 3, 4] = 1
    failure = shown(failing(got, expected))
    assert failure.grids[0].name == "output[1, 2, :, :], expected"
    assert failure.heat.levels == [[0] * 5] * 3 + [[0, 0, 0, 0, 3]]


def test_the_heat_map_is_of_the_larger_example_that_failed_first():
    small, large = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(30, 30, dtype=torch.float64)
    first = failing(large + torch.eye(30), large).failure
    failure = shown(failing(small + torch.eye(2), small, found=first))
    assert len(failure.heat.levels) == explain.MAX_HEAT
    assert "30 × 30, of which the first 20 each" in failure.heat.caption
    assert all(row[i] == 3 and sum(row) == 3 for i, row in enumerate(failure.heat.levels))


def test_where_everything_differs_a_heat_map_would_say_nothing():
    zeros = torch.zeros(3, 3, dtype=torch.float64)
    assert shown(failing(zeros + 1, zeros)).heat is None


def test_nan_has_a_level_of_its_own():
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    got = zeros.clone()
    got[0, 0], got[1, 1] = math.nan, 1e-3
    assert shown(failing(got, zeros)).heat.levels == [[4, 0], [0, 3]]


def test_a_wrong_shape_has_no_table():
    failure = shown(failing(torch.zeros(2), torch.zeros(3)))
    assert failure.grids == [] and failure.heat is None and "expected shape (3,), got (2,)" in failure.what


def test_the_form_of_a_case_that_was_called_with_is_the_example():
    case = CASE.case({"B": 2, "d": 3})
    forms = [case, case.but(dtype=torch.float32), case.but(dtype=torch.float32, scale=1e3).but(scale=1e6)]
    for form in forms:
        assert explain.as_called({"case": case, "n": 3}, [*form.arguments().values()]) == {"case": form, "n": 3}
    for other in ([], [torch.zeros(2, 3)], [torch.tensor(1)]):
        assert explain.as_called({"case": case}, other)["case"] is case


def test_the_example_is_named_and_small_arguments_are_printed():
    failure = shown(failing(torch.zeros(2), torch.zeros(3), case={"case": CASE.case({"B": 1, "d": 2}), "n": 3}))
    assert failure.example == "B=1, d=2, seed=0, n=3"
    assert failure.inputs == ["q: (1, 2) float64 = [[1.541, -0.2934]]"]
    large = shown(failing(torch.zeros(2), torch.zeros(3), case={"case": CASE.case({"B": 3, "d": 40})}))
    assert large.inputs == ["q: (3, 40) float64"]


def test_addresses_do_not_make_two_cards_of_one():
    error = StudentError("TypeError", "got <object at 0x7f0000001234>")
    assert shown(Outcome(CHECK, error)).what == "Your code raised TypeError: got <object at 0x…>."


@pytest.mark.parametrize("error, diagnosable, why", [
    (CheckFailure("x"), True, ""),
    (StudentError("ValueError", "x"), True, ""),
    (StudentError("NotImplementedError", "TODO"), False, "not started: the TODO is still there"),
    (MissingName("MissingName", "no cell that was run defines f"), False, "not run: no cell that was run defines f"),
    (StudentStopped("too slow"), False, ""),
])
def test_what_can_have_a_name_and_what_was_not_run(error, diagnosable, why):
    outcome = Outcome(CHECK, error)
    assert explain.can_be_diagnosed(outcome) == diagnosable
    assert explain.why_not_run([outcome, outcome]) == why
