"""The sentences that every view shares: how a score, a difference and a diagnosis are said."""
from __future__ import annotations

from autograder.report.model import CheckResult, Difference, ExerciseResult, Report

PENDING = "Some points of this exercise are still pending."
PENDING_CHECK = "Pending: settled by `autograder bench` on a GPU; neither passed nor failed."
NOT_GRADED = "This exercise could not be graded."
ADVISORY = "Graded without an enforced sandbox: the score is advisory."


def number(value: float) -> str:
    """`12`, `2.5`: no trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def points(score: float, max_score: float) -> str:
    """`10 / 12`."""
    return f"{number(score)} / {number(max_score)}"


def fraction(score: float, max_score: float) -> float:
    """The share of the points, between 0 and 1; an exercise without points counts as solved."""
    return min(max(score / max_score, 0.0), 1.0) if max_score else 1.0


def percent(score: float, max_score: float) -> str:
    """`83 %`, rounded down: 100 % means all of it."""
    return f"{int(100 * fraction(score, max_score) + 1e-9)} %"


def counted(count: int, noun: str) -> str:
    """`1 check`, `3 checks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def dims(shape: list[int]) -> str:
    """A shape as Python writes it: `(2, 3)`, `(4,)`."""
    return str(tuple(shape))


def unit_title(unit: str) -> str:
    """`vision_models` as a heading: `Vision models`."""
    words = unit.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def passed(exercise: ExerciseResult) -> int:
    """How many checks of the exercise pass."""
    return sum(check.passed for check in exercise.checks)


def failed_checks(report: Report) -> list[tuple[ExerciseResult, CheckResult]]:
    """Every check that does not hold, with its exercise."""
    return [(exercise, check) for exercise in report.exercises for check in exercise.checks if check.failed]


def uneventful(exercise: ExerciseResult) -> bool:
    """Whether there is nothing to say about the exercise but that it is right."""
    silent = not exercise.notes and not exercise.evidence and not exercise.label
    return exercise.status == "graded" and silent and exercise.score >= exercise.max_score


def uneventful_titles(report: Report) -> list[str]:
    """The exercises with nothing to say about."""
    return [exercise.title for exercise in report.exercises if uneventful(exercise)]


def status_line(exercise: ExerciseResult) -> str:
    """What is unusual about how the exercise was graded; empty for one that was graded as usual."""
    status = {"pending": PENDING, "error": NOT_GRADED}.get(exercise.status, "")
    return " ".join(filter(None, [f"{exercise.label}." if exercise.label else "", status]))


def diagnosis_line(check: CheckResult) -> str:
    """`This is what you get when the scores are not divided by sqrt(d).` Empty without a diagnosis."""
    if check.diagnosis is None:
        return ""
    opening = "This is"
    if check.diagnosis.certainty == "this example":
        opening = "On this example, this is" if check.counterexample else "On a hidden example, this is"
    return f"{opening} what you get when {check.diagnosis.title.rstrip('. ')}."


def difference_lines(difference: Difference) -> list[str]:
    """What was expected and what came, one fact a line: the shape if it is wrong, else the values."""
    lines = [_shape_line(difference) or _value_line(difference), _error_line(difference), difference.non_finite]
    return [line for line in lines if line]


def explanation(check: CheckResult) -> list[str]:
    """Everything a failed check says, as plain lines: the mistake's name, what happened, on which input."""
    if check.pending:
        return [check.message or PENDING_CHECK]
    lines = [diagnosis_line(check)] if check.diagnosis else []
    if check.diagnosis and check.diagnosis.explanation:
        lines.append(check.diagnosis.explanation)
    lines += facts(check)
    if check.counterexample and check.counterexample.inputs:
        lines.append(f"Smallest failing example: {check.counterexample.inputs}")
    return lines


def facts(check: CheckResult) -> list[str]:
    """What happened, then what to try. A difference says the message's first line more fully."""
    message = check.message.splitlines()
    difference = check.counterexample.difference if check.counterexample else None
    lines = difference_lines(difference) if difference else []
    return lines + message[1:] if lines else message


def _shape_line(difference: Difference) -> str:
    expected, got = difference.expected_shape, difference.got_shape
    if expected is None or got is None or expected == got:
        return ""
    return f"{difference.where or 'output'}: expected shape {dims(expected)}, got {dims(got)}"


def _value_line(difference: Difference) -> str:
    if difference.expected_value is None or difference.got_value is None:
        return ""
    where = difference.where or "output"
    at = str(list(difference.first_index)) if difference.first_index else ""
    if " " in where and at:  # a phrase such as "h_last with all lengths 1", which no index can follow
        at = f" at {at}"
    return f"{where}{at}: expected {difference.expected_value:.6g}, got {difference.got_value}"


def _error_line(difference: Difference) -> str:
    parts = []
    if difference.largest_error:
        allowed = f" (tolerance {difference.tolerance})" if difference.tolerance else ""
        parts.append(f"Largest error {difference.largest_error}{allowed}")
    if difference.wrong_elements is not None and difference.total_elements:
        parts.append(f"{difference.wrong_elements:,} of {counted(difference.total_elements, 'element')} off")
    return ", ".join(parts)
