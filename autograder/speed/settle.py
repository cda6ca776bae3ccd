"""Write what was measured into a stored report: speed checks alone, and only those that are settled."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from autograder.grading.assemble import total
from autograder.report.model import CheckResult, ExerciseResult, Report, SpeedFigures
from autograder.speed.bench import Timed

Key = tuple[str, str]
"""Exercise and check."""


def pending_checks(report: Report) -> list[Key]:
    """The checks of a report that wait for `autograder bench`."""
    return [(exercise.id, check.name) for exercise in report.exercises for check in exercise.checks if check.pending]


def settle(report: Report, measured: Mapping[Key, Sequence[Timed]], device: str) -> int:
    """Fill in every pending check that was measured with a verdict; returns how many were settled.

    What is inconclusive, suspect or without thresholds stays pending and says why. A check's score is that of its
    slowest workload.
    """
    settled = 0
    for exercise in report.exercises:
        for check in exercise.checks:
            timed = measured.get((exercise.id, check.name))
            if check.pending and timed:
                settled += _settle_check(exercise, check, timed, device)
        if exercise.status == "pending" and not any(check.pending for check in exercise.checks):
            exercise.status = "graded"
        exercise.score = total(exercise.checks, "score")
    report.score = total(report.exercises, "score")
    return settled


def _settle_check(exercise: ExerciseResult, check: CheckResult, timed: Sequence[Timed], device: str) -> bool:
    check.figures = [figures_of(one, device) for one in timed]
    judgements = [one.measurement.judgement for one in timed]
    exercise.evidence += [line for line in map(suspicion, timed) if line and line not in exercise.evidence]
    uncertain = next((one for one in timed if one.measurement.judgement.verdict == "inconclusive"), None)
    faulty = any(one.measurement.figures is None and one.measurement.judgement.verdict == "fail" for one in timed)
    uncounted = next((one for one in timed if not one.counts), None)
    open_ = uncounted or (None if faulty else uncertain)
    if open_ is not None:
        check.message = f"Pending: {why_pending(open_, device)}"
        return False
    check.pending, check.passed = False, all(one.verdict == "pass" for one in judgements)
    check.score = check.points if check.passed else round(check.points * min(one.share for one in judgements), 2)
    check.message = "\n".join(line_of(one) for one in timed)
    return True


def suspicion(timed: Timed) -> str:
    """The line for staff about figures that no honest kernel has; empty for others."""
    judgement = timed.measurement.judgement
    return f"{timed.check.name}, {timed.workload.name}: {judgement.why}" if judgement.suspect else ""


def why_pending(timed: Timed, device: str) -> str:
    """Why a measured check is not settled; for students, so without what staff have to look at."""
    judgement = timed.measurement.judgement
    if not timed.counts:
        return f"course.yml has no speed thresholds for {device}."
    if judgement.suspect:
        return "staff look at its figures."
    return f"{timed.workload.name}: {judgement.why}."


def figures_of(timed: Timed, device: str) -> SpeedFigures:
    """The report's form of a measurement."""
    found, verdict = timed.measurement.figures, timed.measurement.judgement.verdict
    figures = SpeedFigures(workload=timed.workload.name, device=device, verdict=verdict)
    if found is not None:
        figures = figures.model_copy(update={
            "seconds": found.student_seconds, "reference_seconds": found.reference_seconds, "ratio": found.ratio,
            "low": found.low, "high": found.high, "fraction": found.fraction})
    return figures


def line_of(timed: Timed) -> str:
    """A measurement as a sentence for its author."""
    found, judgement = timed.measurement.figures, timed.measurement.judgement
    if found is None:
        return f"{timed.workload.name}: {judgement.why}"
    ceiling = "" if found.fraction is None else f", {found.fraction:.0%} of the ceiling"
    return f"{timed.workload.name}: {found.ratio:.2f} times the reference's time " \
           f"({found.low:.2f} to {found.high:.2f}){ceiling}; {judgement.why}"
