"""Gradescope's results.json."""
import json

from autograder.report.gradescope import render_gradescope

from .samples import build_class

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


def test_remarks_on_an_exercise_stand_at_the_top():
    assert CLASS["fatima"]["output"] == "Block-sparse attention: Some points of this exercise are still pending."
    assert CLASS["gustavo"]["output"].startswith("Graded without an enforced sandbox")
