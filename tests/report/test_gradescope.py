"""Gradescope's results.json."""
import json

import pytest

from autograder.report.gradescope import gradescope_result, leaderboard, render_gradescope
from autograder.report.model import Report

from .reading import Page
from .samples import EXERCISES, build, build_class

CLASS = {report.student: json.loads(render_gradescope(report)) for report in build_class()}
VISIBILITIES = {"hidden", "after_due_date", "after_published", "visible"}


def test_scores_add_up():
    for result in CLASS.values():
        assert result["score"] == sum(test["score"] for test in result["tests"])
        assert sum(test["max_score"] for test in result["tests"]) == result["extra_data"]["max_score"] == 80


def test_public_checks_are_visible_and_hidden_ones_wait():
    tests = CLASS["chidi"]["tests"]
    assert [test["visibility"] for test in tests[:2]] == ["visible", "after_published"]
    assert "batch 1, heads 1" in tests[0]["output"] and "batch 1" not in tests[1]["output"]
    assert tests[0]["status"] == "failed" and tests[2]["status"] == "passed" and tests[2]["output"] == ""
    assert {test["visibility"] for result in CLASS.values() for test in result["tests"]} <= VISIBILITIES


def test_only_the_keys_that_gradescope_knows():
    assert set(CLASS["ada"]) <= {"score", "execution_time", "output", "output_format", "visibility",
                                 "stdout_visibility", "extra_data", "tests", "leaderboard"}
    assert set(CLASS["ada"]["tests"][0]) <= {"score", "max_score", "status", "name", "name_format", "number", "output",
                                             "output_format", "tags", "visibility", "extra_data"}


def test_remarks_on_an_exercise_stand_at_the_top_and_nothing_that_is_not_published_yet():
    assert Page(CLASS["fatima"]["output"]).text.strip() == \
        "Block-sparse attention: Some points of this exercise are still pending."
    assert Page(CLASS["gustavo"]["output"]).text.strip().startswith("Graded without an enforced sandbox")
    assert Page(CLASS["chidi"]["output"]).text.strip() == "", "points of hidden checks wait for publication"


def test_outputs_are_cards_with_one_style_for_all():
    result = CLASS["chidi"]
    assert {result["output_format"]} | {test["output_format"] for test in result["tests"]} == {"html"}
    card = Page(result["tests"][0]["output"])
    assert "This is what you get when the scores are not divided by sqrt(d)." in card.text
    assert "table" in {tag for tag, _ in card.tags}, "values side by side"
    assert result["output"].count("<style>") == 1 and not [t for t in result["tests"] if "<style>" in t["output"]]


def test_what_could_not_be_read_is_said_first_and_escaped():
    report = build("ada", {}, sandbox="ADVISORY")
    page = Page(gradescope_result(report, ["<img src=x onerror=alert(1)>.ipynb: no notebook"])["output"])
    assert "img" not in {tag for tag, _ in page.tags}
    assert page.text.index("<img src=x") < page.text.index("Graded without")


def test_the_time_is_that_of_the_grading():
    report = build("ada", {}).model_copy(update={"provenance": {"timings": {"seconds": 1.25}}})
    assert gradescope_result(report)["execution_time"] == 1.25
    assert "execution_time" not in gradescope_result(report.model_copy(update={"provenance": {}}))


def with_speed(*, pending: bool, score: float) -> Report:
    """A report in which the last check of block-sparse attention is for speed."""
    report = build("ada", {})
    (exercise,) = (one for one in report.exercises if one.id == "block_sparse_attention")
    speed = exercise.checks[-1].model_copy(update={"speed": True, "pending": pending, "score": score})
    exercise.checks = [*exercise.checks[:-1], speed]
    return report


@pytest.mark.parametrize("score", [0.0, 2.5])
def test_settled_points_for_speed_are_a_row_of_the_leaderboard(score):
    title = dict((exercise, title) for exercise, title, _ in EXERCISES)["block_sparse_attention"]
    rows = [{"name": f"{title}: points for speed", "value": score, "order": "desc"}]
    settled = with_speed(pending=False, score=score)
    assert leaderboard(settled) == rows == gradescope_result(settled)["leaderboard"]


def test_points_that_are_not_settled_are_on_no_leaderboard():
    assert leaderboard(with_speed(pending=True, score=0)) == []
    assert "leaderboard" not in gradescope_result(with_speed(pending=True, score=0)) | CLASS["ada"]
