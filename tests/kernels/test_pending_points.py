"""Points for speed are pending until `autograder bench`: not failed, not passed, and visibly so in every view."""
from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from autograder.grading.assemble import exercise_result
from autograder.nbgrader.card import comment
from autograder.report.class_stats import by_unit
from autograder.report.model import Report, student_view
from autograder.report.wording import PENDING_CHECK, failed_checks
from etude.engine import run_checks
from etude.outcomes import Check, Outcome
from tests.report.views import ALL_VIEWS, STUDENT_VIEWS

CORRECT = Check("test_values", "Values are right.", "k", 10, True, False)
SPEED = Check("test_speed", "The kernel is fast.", "k", 3, False, False, speed=True)
BENCH = "autograder bench"


def _report() -> Report:
    result = exercise_result("k", "A kernel", [Outcome(CORRECT), Outcome(SPEED)], {}, [])
    return Report(student="ada", unit="kernels", sandbox="ENFORCED", score=result.score, max_score=result.max_score,
                  exercises=[result])


def test_a_pending_check_has_no_points_yet_and_has_not_failed():
    report = _report()
    exercise = report.exercises[0]
    assert (exercise.score, exercise.max_score, exercise.status) == (10, 13, "pending")
    assert [check.pending for check in exercise.checks] == [False, True]
    assert not exercise.checks[1].passed and not exercise.checks[1].failed and failed_checks(report) == []


@pytest.mark.parametrize("view", [name for name in ALL_VIEWS if name not in ("github annotations", "class page")])
def test_every_view_says_that_it_is_pending_and_who_settles_it(view):
    text = ALL_VIEWS[view](_report()).replace("\\", "")
    assert "pending" in text.lower() and BENCH in text.replace("<code>", "").replace("</code>", "")


def test_no_annotation_accuses_a_pending_check():
    assert STUDENT_VIEWS["github annotations"](_report()).strip() == ""


def test_the_class_page_counts_pending_checks_apart():
    stats = by_unit([_report(), _report()])[0].exercises["k"].checks["test_speed"]
    assert (stats.total, stats.pending, stats.extreme) == (0, 2, "")
    assert "2 pending" in ALL_VIEWS["class page"](_report()).replace("1 pending", "2 pending")


def test_junit_skips_it_with_a_reason():
    root = ET.fromstring(STUDENT_VIEWS["junit"](_report()).split("\n", 1)[1])
    skipped = root.findall(".//skipped")
    assert [one.attrib["message"] for one in skipped] == [PENDING_CHECK]
    assert (root.attrib["tests"], root.attrib["skipped"], root.attrib["failures"]) == ("2", "1", "0")


def test_gradescope_gives_it_no_verdict():
    tests = json.loads(STUDENT_VIEWS["gradescope"](_report()))["tests"]
    assert tests[0]["status"] == "passed" and "status" not in tests[1]
    assert "(pending)" in tests[1]["name"] and BENCH in tests[1]["output"]


def test_nbgrader_and_otter_say_so():
    from autograder.exports.otter_plugin import _explanations
    assert "pending" in comment(_report().exercises[0])
    assert BENCH in _explanations(_report())["k"]["test_speed"]


def test_students_read_what_came_of_it_though_the_check_is_hidden():
    report = _report()
    report.exercises[0].checks[1] = report.exercises[0].checks[1].model_copy(
        update={"pending": False, "message": "1.9 times the reference's time."})
    assert student_view(report).exercises[0].checks[1].message == "1.9 times the reference's time."


def test_the_engine_never_calls_a_speed_check(tmp_path):
    file = tmp_path / "k_checks.py"
    file.write_text("from etude.checks import exercise, points, speed\n\n\n@exercise('k')\n@points(3)\n@speed\n"
                    "def test_speed():\n    '''Fast.'''\n    raise RuntimeError('was called')\n")
    subject = _Subject()
    run_checks([file], [subject])
    (outcome,) = subject.outcomes
    assert outcome.pending and not outcome.passed and outcome.failure is None


class _Subject:
    def __init__(self):
        self.outcomes: list[Outcome] = []

    def student(self, exercise: str) -> None:
        return None

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
