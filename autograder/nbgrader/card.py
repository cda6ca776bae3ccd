"""What a student reads in nbgrader: a card as the check cell's output, and a comment on the exercise's cell.

A hidden check is there by its title and diagnosis only; a comment is Markdown, so nothing of the student's is in it.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from autograder.report import wording
from autograder.report.html import render_exercise_card, render_message_card

if TYPE_CHECKING:
    from autograder.report.model import ExerciseResult

_MOST = 5
"""Failed checks that a comment names."""


def exercise_card(result: ExerciseResult) -> str:
    """The card of one exercise, of a report that was made for students."""
    return render_exercise_card(result)


def problem_card(problem: str) -> str:
    """The card of a file that could not be read."""
    return render_message_card(f"This notebook could not be read: {problem}")


def comments(results: Iterable[ExerciseResult], problem: str, nb: Any) -> Iterator[tuple[str, str]]:
    """(exercise, comment) for every exercise that has a cell."""
    solutions = {cell.metadata.nbgrader["grade_id"] for cell in nb.cells
                 if cell.metadata.get("nbgrader", {}).get("solution")}
    for result in results:
        if result.id in solutions:
            yield result.id, comment(result)
    if problem:
        checked = [cell.metadata.nbgrader["grade_id"] for cell in nb.cells
                   if cell.metadata.get("etude", {}).get("role") == "exercise"]
        for exercise in checked:
            yield exercise, "This notebook could not be read, so there is nothing to grade; the card says why."


def comment(result: ExerciseResult) -> str:
    """Points, what does not hold, and the mistake's name; the card says the rest."""
    failed = [check for check in result.checks if check.failed]
    lines = [f"{wording.points(result.score, result.max_score)} points.", wording.status_line(result)]
    if not failed:
        lines.append("Every check holds." if wording.uneventful(result) else "")
    else:
        titles = [f"- {(check.title or check.name).rstrip('. ')}" for check in failed[:_MOST]]
        more = [f"- and {wording.counted(len(failed) - _MOST, 'more check')}"] if len(failed) > _MOST else []
        lines.append("\n".join(["What does not hold:\n", *titles, *more]))
        lines += dict.fromkeys(wording.diagnosis_line(check) for check in failed if check.diagnosis)
        lines.append("The card below the check shows an example." if any(c.counterexample for c in failed) else "")
    return _plain("\n\n".join(line for line in lines if line))


def _plain(text: str) -> str:
    """`a <b` may stand in a title; in Markdown it would begin a tag."""
    return re.sub(r"<(?=[A-Za-z/!?])", "< ", text)
