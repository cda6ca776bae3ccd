"""`autograder compare`: what another grading of the same submissions changed."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autograder.errors import UsageError

if TYPE_CHECKING:
    from autograder.classroom.compare import Change, CheckChange, Comparison, ExerciseChange
    from autograder.report.model import CheckResult, Report

FOLDER = "What grade --out wrote"


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help=f"{FOLDER} before.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help=f"{FOLDER} after.")],
    html: Annotated[Path | None, typer.Option(help="Write the comparison to this page, too.")] = None,
) -> None:
    """Whose score changed, by which checks, between two gradings. Exit 1 if more than the checks may be the reason."""
    from autograder.classroom.compare import compare as compared
    reports, complete = [], True
    for folder in (old, new):
        found, problems = _read(folder)
        reports.append(found)
        for problem in problems:
            complete = False
            print(f"autograder: {folder}/{problem}", file=sys.stderr)
    comparison = compared(*reports)
    for line in lines(comparison):
        print(line)
    if html is not None:
        _write_page(comparison, old, new, html)
    raise typer.Exit(0 if complete and comparison.complete else 1)


def _write_page(found: Comparison, old: Path, new: Path, to: Path) -> None:
    from autograder.classroom.compare import DECISIVE
    from autograder.files import write_atomically
    from autograder.report.html import render_compare_page
    write_atomically(to, render_compare_page(found, str(old), str(new), DECISIVE), staff_only=True)


def _read(folder: Path) -> tuple[list[Report], list[str]]:
    from autograder.report.audience import for_staff
    from autograder.report.store import read_reports
    reports, problems = read_reports(folder)
    if not reports:
        raise UsageError(f"{folder}: no reports; expected what `autograder grade --out {folder}` writes")
    return [for_staff(report) for report in reports], problems


def lines(found: Comparison) -> Iterator[str]:
    """The comparison as text for staff: it names hidden checks."""
    from autograder.classroom.compare import DECISIVE
    for unit, grounds in found.grounds.items():
        named = [what for name, what in DECISIVE.items() if name in grounds]
        yield f"{unit}: {', '.join(named) + ' differ' if named else 'nothing differs that grades depend on'}"
    for of_score, title in ((True, "scores that changed"), (False, "the same score, said otherwise")):
        changes = [change for change in found.changes if change.of_score == of_score]
        if changes:
            yield f"\n{title}: {len(changes)}"
            for change in changes:
                yield from _change(change)
    yield f"\nunchanged: {found.same}"
    for keys, title in ((found.other_submission, "not compared, as another file was graded"),
                        (found.only_old, "only in the old results"), (found.only_new, "only in the new results")):
        if keys:
            yield f"{title}: {', '.join(f'{student} ({unit})' for student, unit in keys)}"


def _change(change: Change) -> Iterator[str]:
    from autograder.report.wording import number
    old, new = change.old, change.new
    yield f"  {new.student}, {new.unit}: {number(old.score)} -> {number(new.score)} of {number(new.max_score)}"
    for exercise in change.exercises:
        yield f"    {exercise.id}: {_score(exercise)}"
        for check in exercise.checks:
            yield f"      {check.name}: {_verdict(check.old)} -> {_verdict(check.new)}"
            yield from _diagnoses(check)


def _score(exercise: ExerciseChange) -> str:
    from autograder.report.wording import points
    one, other = (points(side.score, side.max_score) + (f" ({side.status})" if side.status != "graded" else "")
                  if side else "none" for side in (exercise.old, exercise.new))
    return f"{one} -> {other}"


def _verdict(check: CheckResult | None) -> str:
    from autograder.report.wording import points
    if check is None:
        return "no such check"
    said = "passed" if check.passed else "pending" if check.pending else "failed"
    return f"{said}, {points(check.score, check.points)}"


def _diagnoses(check: CheckChange) -> Iterator[str]:
    one, other = (side.diagnosis.title if side and side.diagnosis else "" for side in (check.old, check.new))
    if one != other:
        yield f"        was: {one or 'no diagnosis'}"
        yield f"        now: {other or 'no diagnosis'}"
