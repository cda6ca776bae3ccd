"""The sample class gets what it has earned, is told what it did, and gets the same again."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autograder.course import Course, load_course
from autograder.report.model import Report, student_view
from autograder.submission.cells import Submission
from autograder.submission.reader import read_submissions

ROOT = Path(__file__).resolve().parents[2]
MAX = {"sdpa_masked": 12, "cross_attention": 12, "grouped_heads": 10, "additive_attention": 10,
       "sliding_window_attention": 10, "block_sparse_attention": 14, "sparsemax": 12}

# What differs from full marks: exercise -> (score, what its failed checks are said to come from). None: nothing.
EXPECTED: dict[str, dict[str, tuple[float, str | None]]] = {
    "ada": {},
    "ben": {"sdpa_masked": (6, "no_scale"), "cross_attention": (7, "scale_by_context_width"),
            "grouped_heads": (4, "groups_tiled"), "sliding_window_attention": (2, "one_too_wide"),
            "block_sparse_attention": (11, "global_rows_only")},
    "cleo": {"sdpa_masked": (7, "masked_rows_nan"), "additive_attention": (7, "weights_detached"),
             "sparsemax": (5, "threshold_detached")},
    "dan": {"cross_attention": (0, None), "sliding_window_attention": (0, None), "block_sparse_attention": (0, None),
            "sparsemax": (0, None)},
    "eva": {"grouped_heads": (0, None)},
    "finn": {"sliding_window_attention": (1, None)},
    "gus": {"sdpa_masked": (0, None)},
    "hana": {"additive_attention": (0, None)},
}


@pytest.fixture(scope="module")
def course() -> Course:
    """The course with little patience: one student's code never returns."""
    course = load_course(ROOT / "course.yml")
    limits = course.limits.model_copy(update={"call_seconds": 1.0})
    return course.model_copy(update={"limits": limits})


@pytest.fixture(scope="module")
def submissions(course: Course) -> list[Submission]:
    found, problems = read_submissions([ROOT / "tests" / "sample_class"], course)
    assert problems == []
    return found


@pytest.fixture(scope="module")
def reports(course: Course, submissions: list[Submission], graded: Callable) -> dict[str, Report]:
    return graded(course, submissions)


def lost(report: Report) -> dict[str, tuple[float, str | None]]:
    """What differs from full marks, in the form of the table."""
    found = {}
    for exercise in report.exercises:
        names = {check.diagnosis.id if check.diagnosis else None for check in exercise.checks if not check.passed}
        if exercise.score != exercise.max_score:
            found[exercise.id] = exercise.score, " and ".join(sorted(names - {None})) or None
    return found


def without_timings(report: Report) -> dict[str, Any]:
    told = json.loads(report.to_json())
    del told["provenance"]["timings"]
    return told


@pytest.mark.parametrize("student", EXPECTED)
def test_every_student_gets_the_points_and_the_diagnoses_of_the_table(reports: dict[str, Report], student: str) -> None:
    report = reports[student]
    assert {e.id: e.max_score for e in report.exercises} == MAX and report.max_score == sum(MAX.values())
    assert lost(report) == EXPECTED[student]
    assert report.score == report.max_score - sum(MAX[name] - score for name, (score, _) in EXPECTED[student].items())
    assert all(exercise.status == "graded" for exercise in report.exercises)


@pytest.mark.parametrize(("student", "exercise", "says"), [
    ("dan", "sparsemax", "Not implemented yet: the TODO is still there."), ("eva", "grouped_heads", "split_heads"),
    ("finn", "sliding_window_attention", "Your code was stopped: no answer within 1 s."),
    ("gus", "sdpa_masked", "Your code was stopped: the process ended itself (exit code 0)."),
    ("hana", "additive_attention", "Your code ran out of memory"),
    ("cleo", "sparsemax", "backward says"), ("ben", "grouped_heads", "number of the group that was read differs"),
])
def test_what_happened_is_told_in_words(reports: dict[str, Report], student: str, exercise: str, says: str) -> None:
    (result,) = [one for one in reports[student].exercises if one.id == exercise]
    assert any(says in check.message for check in result.checks if not check.passed)


def test_a_syntax_error_is_noted_with_its_line(reports: dict[str, Report]) -> None:
    (result,) = [one for one in reports["eva"].exercises if one.id == "grouped_heads"]
    (note,) = result.notes
    assert "(grouped_heads), line " in note and "SyntaxError: expected ':'" in note


def test_no_hidden_input_is_in_what_the_student_sees(reports: dict[str, Report]) -> None:
    secrets = 0
    for report in reports.values():
        view = student_view(report)
        seen = view.to_json()
        checks = [check for exercise in report.exercises for check in exercise.checks if check.counterexample]
        shown = {text for check in checks if check.public for text in texts(check)}
        for check in checks:
            for text in [] if check.public else texts(check) - shown:
                secrets += 1
                assert json.dumps(text)[1:-1] not in seen, (report.student, check.name)
        assert view.provenance == {} and view.score == report.score
    assert secrets > 20, "there was something to hide"


def texts(check: Any) -> set[str]:
    """The texts of a counterexample that would tell the inputs: the case, and tensors beyond a few digits."""
    example = check.counterexample
    return {text for text in [example.inputs, *(tensor.text for tensor in example.tensors)] if len(text) > 12}


def test_graded_again_the_report_is_the_same_to_the_byte_but_for_timings(
        course: Course, submissions: list[Submission], reports: dict[str, Report], graded: Callable) -> None:
    chosen = ("additive_attention", "sdpa_masked")
    again = graded(course, [s for s in submissions if s.student in ("cleo", "gus", "hana")], exercises=chosen)
    for student, second in again.items():
        one, two = without_timings(reports[student]), without_timings(second)
        assert [e for e in one["exercises"] if e["id"] in chosen] == two["exercises"] and len(two["exercises"]) == 2
        assert one["provenance"] == two["provenance"]


def test_another_seed_draws_other_examples_and_gives_the_same_scores(
        course: Course, submissions: list[Submission], reports: dict[str, Report], graded: Callable,
        monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("grouped_heads", "sdpa_masked", "sparsemax")
    monkeypatch.setenv("ETUDE_SEED", "another seed")
    others = graded(course, [s for s in submissions if s.student in ("ada", "ben", "cleo", "eva")], exercises=chosen)
    for student, report in others.items():
        assert lost(report) == {name: value for name, value in EXPECTED[student].items() if name in chosen}
    seeds = {report.provenance["seed_sha256"] for report in (*others.values(), *reports.values())}
    assert len(seeds) == 2 and examples(others, chosen) != examples(reports, chosen)


def examples(reports: dict[str, Report], chosen: tuple[str, ...]) -> list[str]:
    return [check.counterexample.inputs for report in reports.values() for exercise in report.exercises
            if exercise.id in chosen for check in exercise.checks if check.counterexample]
