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


def failing(got, expected, where="output", **options):
    with pytest.raises(CheckFailure) as raised:
        assert_same(got, expected, where)
    return Outcome(CHECK, raised.value, **options)


def shown(outcome):
    return explain.property_of(outcome, {}, explain.example_of(outcome.case, explain.Calls())).failure


def met(case, *calls):
    """The example of a check that has made these calls."""
    noted = explain.Calls()
    for function, *arguments in calls:
        noted.note(function, tuple(arguments), {})
    return explain.example_of({"case": case, "n": 3}, noted)


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


def test_an_index_follows_a_name_and_stands_apart_from_a_phrase():
    expected = torch.zeros(1, 2, 2, dtype=torch.float64)
    failure = shown(failing(expected + torch.eye(2), expected, where="output of sequence 0"))
    assert failure.grids[0].name == "output of sequence 0 at [0, :, :], expected"


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


def twice(q, scale=2):
    return q * scale


def test_of_several_calls_the_form_of_the_case_that_the_last_was_made_from_is_the_example():
    case = CASE.case({"B": 2, "d": 3})
    forms = [case, case.but(dtype=torch.float32), case.but(dtype=torch.float32, scale=1e3).but(scale=1e6)]
    for form in forms:
        example = met(case, (twice, torch.zeros(1)), (twice, form.arguments()["q"]))
        assert example.form == repr(form)[5:-1] + ", n=3"
        assert torch.equal(example.arguments["q"], form.arguments()["q"]) and example.arguments["n"] == 3
    for other in (torch.zeros(2, 3), torch.tensor(1), "text"):
        assert met(case, (twice, 1), (twice, other)).form == repr(case)[5:-1] + ", n=3"


def test_of_a_single_call_its_own_arguments_are_the_example():
    case, given = CASE.case({"B": 2, "d": 3}), torch.ones(2, 3)
    example = met(case, (twice, given, 5))
    given += 1
    assert example.arguments["q"].sum() == 6 and example.arguments["scale"] == 5, "as it was before the call"
    example = met(case, (lambda w, x: x, {"a": torch.zeros(1)}, 7))
    assert list(example.named) == ["x", "w['a']"] and list(example.arguments) == ["w", "x"]
    example = met(case, (lambda: None, given))
    assert list(example.arguments) == ["q", "n"], "the student's function has other parameters"


def test_the_example_is_named_and_small_arguments_are_printed():
    failure = shown(failing(torch.zeros(2), torch.zeros(3), case={"case": CASE.case({"B": 1, "d": 2}), "n": 3}))
    assert failure.example == "B=1, d=2, seed=0, n=3"
    assert failure.inputs == ["q: (1, 2) float64 = [[1.541, -0.2934]]"]
    large = shown(failing(torch.zeros(2), torch.zeros(3), case={"case": CASE.case({"B": 3, "d": 40})}))
    assert large.inputs == ["q: (3, 40) float64"]


def test_a_tensor_without_values_shows_its_shape():
    case = CASE.case({"B": 2, "d": 3})
    example = met(case, (twice, torch.empty(2, 3, dtype=torch.float64, device="meta"), 5))
    assert explain._inputs(example.named) == ["q: (2, 3) float64 on meta", "scale = 5"]


def test_what_is_inside_a_dict_argument_is_printed_under_its_full_name():
    case = Cases(params={"w": normal("H I"), "b": normal("H")}).case({"H": 2, "I": 1})
    one = torch.ones(2)
    inputs = shown(failing(one, 0 * one, case={"case": case})).inputs
    assert [line.partition(" = ")[0] for line in inputs] == ["params['w']: (2, 1) float64", "params['b']: (2,) float64"]


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
