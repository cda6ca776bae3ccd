"""Gradescope's results.json. Plain text everywhere: Gradescope would render HTML and Markdown that a student wrote."""
from __future__ import annotations

import json
from typing import Any

from autograder.report import wording
from autograder.report.audience import for_students
from autograder.report.model import CheckResult, ExerciseResult, Report


def render_gradescope(report: Report) -> str:
    """The JSON text. Hidden checks appear when grades are published, and even then without their inputs."""
    shown = for_students(report)
    result = {
        "score": shown.score,
        "output": "\n".join(_remarks(shown)),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",  # what the grader prints is for staff
        "extra_data": {"unit": shown.unit, "sandbox": shown.sandbox, "max_score": shown.max_score},
        "tests": [_test(exercise, check, f"{i}.{j}") for i, exercise in enumerate(shown.exercises, 1)
                  for j, check in enumerate(exercise.checks, 1)],
    }
    return json.dumps(result, indent=2) + "\n"


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
        "output": check.message if check.passed else "\n".join(wording.explanation(check)),
        "output_format": "text",
        "tags": [exercise.id],
        "visibility": "visible" if check.public else "after_published",
    }
