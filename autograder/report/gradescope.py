"""Gradescope's results.json. Names are plain text; outputs are HTML made here, a student's text escaped in it.

Gradescope shows all outputs on one page, so the style of the cards is there once, in the output at the top.
"""
from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from autograder.report import wording
from autograder.report.audience import for_students
from autograder.report.html import render_gradescope_output, render_gradescope_test
from autograder.report.model import CheckResult, ExerciseResult, Report


def render_gradescope(report: Report) -> str:
    """The JSON text. Hidden checks appear when grades are published, and even then without their inputs."""
    return json.dumps(gradescope_result(report), indent=2) + "\n"


def gradescope_result(report: Report, remarks: Sequence[str] = ()) -> dict[str, Any]:
    """What results.json holds; `remarks` stand at its top, before those of the report."""
    shown = for_students(report)
    seconds = report.provenance.get("timings", {}).get("seconds")
    rows = leaderboard(shown)
    return {
        "score": shown.score,
        **({"execution_time": seconds} if seconds is not None else {}),
        "output": render_gradescope_output([*remarks, *_remarks(shown)]),
        "output_format": "html",
        "visibility": "visible",
        "stdout_visibility": "hidden",  # what the grader prints is for staff
        "extra_data": {"unit": shown.unit, "sandbox": shown.sandbox, "max_score": shown.max_score},
        "tests": [_test(exercise, check, f"{i}.{j}") for i, exercise in enumerate(shown.exercises, 1)
                  for j, check in enumerate(exercise.checks, 1)],
        **({"leaderboard": rows} if rows else {}),
    }


def leaderboard(report: Report) -> list[dict[str, Any]]:
    """A row for each exercise with points for speed, all of them settled: who has the most comes first."""
    rows = []
    for exercise in report.exercises:
        for_speed = [check for check in exercise.checks if check.speed]
        if for_speed and not any(check.pending for check in for_speed):
            rows.append({"name": f"{exercise.title}: points for speed",
                         "value": sum(check.score for check in for_speed), "order": "desc"})
    return rows


def _remarks(report: Report) -> list[str]:
    lines = [wording.ADVISORY] if report.sandbox == "ADVISORY" else []
    lines += report.notes
    for exercise in report.exercises:
        lines += [f"{exercise.title}: {note}" for note in (wording.status_line(exercise), *exercise.notes) if note]
    return lines


def _test(exercise: ExerciseResult, check: CheckResult, number: str) -> dict[str, Any]:
    # Gradescope knows passed and failed only; without a status it shows the score alone.
    status = {} if check.pending else {"status": "passed" if check.passed else "failed"}
    return {
        "score": check.score,
        "max_score": check.points,
        **status,
        "name": f"{exercise.title}: {check.title or check.name}{' (pending)' if check.pending else ''}",
        "name_format": "text",
        "number": number,
        "output": render_gradescope_test(check) if check.failed else html.escape(check.message),
        "output_format": "html",
        "tags": [exercise.id],
        "visibility": "visible" if check.public else "after_published",
    }
