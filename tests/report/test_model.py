"""The report survives its way through JSON, whatever a student put into it."""
import json

import pytest
from pydantic import ValidationError

from autograder.report.model import Difference, Report, student_view

from .hostile import ATTACKS, poisoned
from .samples import build, build_class


@pytest.mark.parametrize("report", [*build_class(), *map(poisoned, ATTACKS.values())])
def test_json_round_trip(report):
    assert Report.from_json(report.to_json()) == report


def test_json_has_the_shape_that_scripts_rely_on():
    data = json.loads(build("ada", {}).to_json())
    assert list(data) == [
        "schema", "student", "unit", "sandbox", "score", "max_score", "exercises", "notes", "provenance"]
    assert set(data["exercises"][0]) >= {"id", "score", "max_score", "status", "checks"}
    assert list(data["exercises"][0]["checks"][0]) == [
        "name", "title", "points", "score", "passed", "public", "speed", "pending", "figures", "message",
        "counterexample", "diagnosis"]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_stored_json_can_be_shown_in_a_ci_log(attack):
    text = poisoned(attack).to_json()
    assert text.isascii() and all(char.isprintable() or char == "\n" for char in text)
    assert "##[" not in text and "##vso[" not in text
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())


def test_numbers_that_json_lacks_survive():
    difference = Difference(expected_value=float("-inf"))
    assert Difference.model_validate_json(difference.model_dump_json()) == difference


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -1.0])
def test_a_score_is_a_number_of_points(score):
    report = build("ada", {})
    with pytest.raises(ValidationError):
        report.score = score


def test_a_text_that_cannot_be_encoded_does_not_stop_the_grader():
    report = build("ada", {})
    report.exercises[0].checks[0].message = "\ud800" + "x" * 10_000_000
    assert len(report.to_json()) < 200_000


def test_the_student_view_leaves_the_report_as_it_is():
    report = poisoned("secret")
    before = report.to_json()
    student_view(report)
    assert report.to_json() == before
