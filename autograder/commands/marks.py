"""`autograder marks`: stored reports, times of submission and the policy of course.yml -> a table of marks."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autograder.commands.options import CourseOption, load
from autograder.errors import UsageError

if TYPE_CHECKING:
    from autograder.course import Course


def marks(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="What grade --out wrote, by attempt.")],
    to: Annotated[Path, typer.Option(help="The table of marks, a CSV file.")],
    submitted: Annotated[Path | None, typer.Option(
        help="CSV: student, unit, submitted; results for several. Or the folder submitted/ of nbgrader.")] = None,
    course: CourseOption = None,
) -> None:
    """Marks by the course's policy. Exit 0: all have one; 1: some have none, and the table says why."""
    raise typer.Exit(run_marks(load(course), results, submitted, to))


def run_marks(course: Course, results: Sequence[Path], submitted: Path | None, to: Path) -> int:
    """The exit code: 0, or 1 if somebody has no mark or a file of the results could not be read."""
    from autograder.classroom.marks import Attempt, marks, read_extensions, read_times
    from autograder.classroom.marks_table import marks_table
    from autograder.files import write_atomically
    from autograder.report.store import read_reports

    names = [str(path) for path in results]
    if len(set(names)) < len(names):
        raise UsageError("the same results are given twice")
    times = read_times(submitted, names) if submitted is not None else {}
    extensions = read_extensions(course)
    attempts, complaints = [], []
    for path, name in zip(results, names, strict=True):
        reports, problems = read_reports(path)
        if not reports:
            raise UsageError(f"{path}: no reports; expected what `autograder grade --out {path}` writes")
        complaints += [f"{path}/{problem}" for problem in problems]
        attempts += [Attempt(report, name, times.get((report.student, report.unit, name))) for report in reports]
    found = marks(course, attempts, extensions)
    graded = {(attempt.report.student, attempt.report.unit) for attempt in attempts}
    complaints += [f"{student}, {unit}: an extension, but no report" for student, unit in extensions
                   if (student, unit) not in graded]
    there = {(attempt.report.student, attempt.report.unit, attempt.results) for attempt in attempts}
    complaints += [f"{student}, {unit}, {name}: handed in, but no report" for student, unit, name in times
                   if (student, unit, name) not in there]
    write_atomically(to, marks_table(found), staff_only=True)
    complaints += [f"{mark.student}, {mark.unit}: {mark.why}" for mark in found if mark.marked is None]
    for line in complaints:
        print(f"autograder: {line}", file=sys.stderr)
    late = sum(mark.marked is not None and mark.marked.penalty > 0 for mark in found)
    print(f"{to}: {sum(mark.marked is not None for mark in found)} marks, {late} with a penalty")
    return 1 if complaints else 0
