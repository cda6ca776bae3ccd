"""`autograder similar`: which submissions of a unit are alike, as a page for staff and as a folder for Dolos."""
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

PAGE = "similar.html"


def similar(
    submissions: Annotated[list[Path], typer.Argument(help="As for grade.")],
    unit: Annotated[str, typer.Option(help="The unit whose submissions are compared.")],
    to: Annotated[Path, typer.Option(help="Gets similar.html and dolos/.")],
    least: Annotated[float, typer.Option(min=0, max=100, help="Show pairs with so many percent in common.")] = 60,
    course: CourseOption = None,
) -> None:
    """Compare what students wrote: a page for staff, and a folder for Dolos. Exit 2: something could not be read."""
    raise typer.Exit(run_similar(load(course), submissions, unit, to, least / 100))


def run_similar(course: Course, paths: Sequence[Path], unit_id: str, to: Path, least: float) -> int:
    """The exit code: 0, or 2 if something could not be read; everything else is compared."""
    from autograder.classroom.similar import similar_pairs, work_of
    from autograder.exports.dolos import export_dolos
    from autograder.files import write_atomically
    from autograder.report.html import render_similar_page
    from autograder.submission.notebook import read_notebook
    from autograder.submission.reader import read_submissions

    unit = course.unit(unit_id)
    released = unit.assignment_path
    if not released.exists():
        raise UsageError(f"{released}: no such file; run `autograder build {unit.id}` first")
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise UsageError(f"{missing}: no such file or folder; nothing was compared, and nothing written to {to}")
    given, _ = read_notebook(released.read_bytes(), str(released))
    submissions, problems = read_submissions(paths, course, unit=unit.id)
    for problem in problems:
        print(f"autograder: {problem}", file=sys.stderr)
    if not submissions:
        raise UsageError(f"no submission of unit {unit.id} could be read; nothing was written to {to}")
    works = [work_of(submission, unit.exercise_ids(), given) for submission in submissions]
    found = similar_pairs(works, given, least)
    page = render_similar_page(unit.title, found, len(works), least)
    write_atomically(to / PAGE, page, staff_only=True)
    code = "\n\n".join(cell.source for cell in given if not cell.is_check) + "\n"
    info = export_dolos({work.student: work.text for work in works}, code, unit.id, to / "dolos")
    print(f"{to / PAGE}: {found.count} of {len(works) * (len(works) - 1) // 2} pairs have {100 * least:g} % in common")
    print(f"{info}: for Dolos")
    return UsageError.exit_code if problems else 0
