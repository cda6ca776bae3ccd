"""From a submission to its report: notes, limits, what is the student's failure and what the grader's."""
from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_course import RIGHT, handed_in, tiny_course

from autograder.course import Course
from autograder.errors import AutograderError, SandboxError, UsageError
from autograder.grading import grade as grading
from autograder.grading.subjects import _load_notes
from autograder.report.model import Report

Grade = Callable[..., dict[str, Report]]


def scores(report: Report) -> dict[str, float]:
    return {exercise.id: exercise.score for exercise in report.exercises}


def test_a_report_names_what_the_grade_depends_on(tiny: Course, graded: Grade, zygote: Any) -> None:
    report = graded(tiny, [handed_in()])["ann"]
    assert (report.student, report.unit, report.sandbox) == ("ann", "tiny", zygote.label.name)
    assert (report.score, report.max_score, report.notes) == (6, 6, [])
    assert [(e.id, e.title, e.status) for e in report.exercises] == [
        ("scale", "Scaling", "graded"), ("center", "Centring", "graded")]
    provenance = report.provenance
    assert set(provenance) >= {"checks", "seed_sha256", "seed_is_public", "sandbox_layers", "unsandboxed", "versions",
                               "submission", "timings"}
    assert provenance["submission"] == "0" * 64 and provenance["sandbox_layers"] == list(zygote.label.layers)
    assert set(provenance["versions"]) == {"python", "torch", "numpy", "hypothesis"}
    assert set(provenance["timings"]) == {"seconds", "grader_cpu_seconds"}


def test_the_seed_is_told_by_its_digest_alone(tiny: Course, graded: Grade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETUDE_SEED", raising=False)
    public, public_seed = graded(tiny, [handed_in()])["ann"].provenance, grading.run_seed()
    monkeypatch.setenv("ETUDE_SEED", "a secret")
    secret, secret_seed = graded(tiny, [handed_in()])["ann"].provenance, grading.run_seed()
    assert (public["seed_is_public"], secret["seed_is_public"]) == (True, False) and public_seed != secret_seed
    assert secret["seed_sha256"] == hashlib.sha256(str(secret_seed).encode()).hexdigest() != public["seed_sha256"]
    assert "a secret" not in str(secret) and str(secret_seed) not in str(secret)


@pytest.mark.parametrize(("cells", "expected"), [
    ({"scale": "1 / 0\n" + RIGHT["scale"]}, {"scale": 4, "center": 2}),
    ({"scale": "def scale(x, factor) return x"}, {"scale": 0, "center": 2}),
    ({"scale": "import os\nos._exit(0)"}, {"scale": 0, "center": 2}),
    ({"scale": "raise SystemExit"}, {"scale": 0, "center": 2}),
    ({"scale": "import os\ndef scale(x, factor): os.kill(os.getpid(), 9)"}, {"scale": 0, "center": 2}),
    ({"scale": "def scale(x, factor): return scale(x, factor)"}, {"scale": 0, "center": 2}),
    ({"scale": "torch.set_default_dtype(torch.float16)\n" + RIGHT["scale"]}, {"scale": 4, "center": 2}),
    ({"center": RIGHT["center"] + "\ndef scale(x, factor): return None"}, {"scale": 4, "center": 2}),
    ({"scale": "def scale(x, factor, times=[]):\n    times.append(1)\n    return factor * x * (len(times) < 3)"},
     {"scale": 0, "center": 2}),
    ({"scale": "from numpy import *\nimport nothing_like_it\n" + RIGHT["scale"]}, {"scale": 4, "center": 2}),
], ids=["a demonstration that fails", "a syntax error", "an end while it is loaded", "SystemExit", "killed in a check",
        "endless recursion", "a changed default", "another cell that overwrites it", "state between calls", "imports"])
def test_what_one_cell_does_costs_its_own_exercise_at_most(tiny: Course, graded: Grade, cells: dict[str, str],
                                                          expected: dict[str, float]) -> None:
    assert scores(graded(tiny, [handed_in(**cells)])["ann"]) == expected


def test_statements_of_the_own_cell_that_failed_are_noted_at_its_exercise(tiny: Course, graded: Grade) -> None:
    report = graded(tiny, [handed_in(scale="1 / 0\n" + RIGHT["scale"])])["ann"]
    scale, center = report.exercises
    assert scale.notes == ["cell 1 (scale), line 1: ZeroDivisionError: division by zero"] and center.notes == []


@pytest.mark.parametrize(("loaded", "notes"), [
    (None, 0), ({}, 0), ({"errors": 3}, 0), ({"errors": [3, None, "text"]}, 0), ({"errors": [{}]}, 0),
    ({"errors": [{"label": "cell 1 (scale)", "line": [1], "type": None, "message": b"x"}]}, 1),
    ({"errors": [{"label": "cell 1 (scale)", "message": "x" * 10**6}] * 99}, 5),
    ({"errors": [{"label": "cell 1 (other)", "message": "x"}]}, 0),
], ids=["nothing", "empty", "a number", "odd errors", "an empty error", "odd fields", "a flood", "another exercise"])
def test_what_a_worker_says_about_loading_may_be_anything(loaded: Any, notes: int) -> None:
    found = _load_notes(loaded, "scale")
    assert len(found) == notes and all(len(note) <= 500 for note in found)


def test_a_hang_costs_time_in_one_exercise_and_says_so(tmp_path: Path, graded: Grade) -> None:
    course = tiny_course(tmp_path, course={"call_seconds: 5": "call_seconds: 0.5"})
    report = graded(course, [handed_in(scale="def scale(x, factor):\n    while True: pass")])["ann"]
    assert scores(report) == {"scale": 0, "center": 2}
    assert "no answer within 0.5 s" in report.exercises[0].checks[0].message


def test_a_sandbox_that_breaks_is_no_students_failure(tiny: Course, graded: Grade, zygote: Any,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise SandboxError("the sandbox's first process has ended")
    monkeypatch.setattr(zygote, "spawn", broken)
    with pytest.raises(SandboxError, match="first process has ended"):
        graded(tiny, [handed_in()])


def test_a_reference_that_fails_its_own_checks_grades_nobody(tmp_path: Path, graded: Grade) -> None:
    course = tiny_course(tmp_path, solution={"return factor * x": "return factor + x"})
    with pytest.raises(AutograderError, match="the reference itself fails test_scale_of_ones"):
        graded(course, [handed_in()])


def test_points_that_do_not_add_up_grade_nobody(tmp_path: Path, graded: Grade) -> None:
    with pytest.raises(UsageError, match="tiny.scale is worth 5 points"):
        graded(tiny_course(tmp_path, course={"points: 4": "points: 5"}), [handed_in()])


def test_one_exercise_may_be_graded_alone(tiny: Course, graded: Grade) -> None:
    report = graded(tiny, [handed_in()], exercises=("center",))["ann"]
    assert scores(report) == {"center": 2} and report.max_score == 2


def test_an_exercise_without_a_cell_is_looked_for_in_the_others(tiny: Course, graded: Grade) -> None:
    both = RIGHT["scale"] + "\n\n" + RIGHT["center"]
    assert scores(graded(tiny, [handed_in(scale=both, center="")])["ann"]) == {"scale": 4, "center": 2}
