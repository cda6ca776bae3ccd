"""`autograder export ...`: what other tools take in."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autograder.commands.options import CourseOption, load

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write what other tools take in.")
To = Annotated[Path, typer.Option("--to", help="A new folder.")]
UnitArgument = Annotated[str, typer.Argument(help="The unit.")]
SheetArgument = Annotated[Path, typer.Argument(help="The gradebook's sheet, as the LMS exported it.")]
Results = Annotated[Path | None, typer.Option(help="Scores as graded: the folder that `autograder grade --out` wrote.")]
Marks = Annotated[Path | None, typer.Option(help="Marks, with penalties: the table that `autograder marks` wrote.")]
UnitOption = Annotated[str | None, typer.Option(help="The unit, if there are reports of several.")]
Column = Annotated[str | None, typer.Option(help="The column for the points, where its title is not the unit's.")]
By = Annotated[str | None, typer.Option(help="The one column of ids to find students by.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace scores in the sheet that differ.")]
NewSheet = Annotated[Path, typer.Option("--to", help="The new sheet.")]
Unsandboxed = Annotated[bool, typer.Option(help="Grade though the sandbox does not hold there.")]


@app.command()
def repository(
    to: To,
    units: Annotated[list[str] | None, typer.Argument(help="Units; all without any.")] = None,
    course: CourseOption = None,
) -> None:
    """A repository for students: notebooks, the package they import, workflows for GitHub and GitLab."""
    from autograder.exports.repository import export_repository
    written = export_repository(load(course), list(units or []), to)
    typer.echo(f"{to}: {len(written)} files; commit them, and give students a copy of the repository")


@app.command()
def otter(unit: UnitArgument, to: To, course: CourseOption = None) -> None:
    """An otter-grader assignment: student/ to hand out, autograder/autograder.zip for `otter run`."""
    from autograder.exports.otter import export_otter
    written = export_otter(load(course), unit, to)
    typer.echo(f"{to}: {len(written)} files; hand out student/, grade with "
               f"`otter run -a {to / 'autograder' / 'autograder.zip'} SUBMISSION`")


@app.command()
def gradescope(
    unit: UnitArgument,
    to: Annotated[Path, typer.Option("--to", help="The new zip.")],
    unsandboxed: Unsandboxed = False,
    course: CourseOption = None,
) -> None:
    """A zip for Gradescope's autograder. It holds solutions and the secret seed: for staff only."""
    from autograder.exports.gradescope import export_gradescope
    made = export_gradescope(load(course), unit, to, unsandboxed)
    seed = "a new seed, which is nowhere else" if made else "the seed of ETUDE_SEED"
    typer.echo(f"{to}: for staff only: it has the solutions and {seed}")


@app.command()
def canvas(sheet: SheetArgument, to: NewSheet, results: Results = None, marks: Marks = None, unit: UnitOption = None,
           column: Column = None, by: By = None, overwrite: Overwrite = False, course: CourseOption = None) -> None:
    """Fill a sheet of Canvas. Exit 1: a student has no line, or a differing score was kept."""
    _sheet("CANVAS", sheet, results, marks, to, unit, column, by, overwrite, course)


@app.command()
def moodle(sheet: SheetArgument, to: NewSheet, results: Results = None, marks: Marks = None, unit: UnitOption = None,
           column: Column = None, by: By = None, overwrite: Overwrite = False, course: CourseOption = None) -> None:
    """Fill a sheet of Moodle. Exit 1: a student has no line, or a differing score was kept."""
    _sheet("MOODLE", sheet, results, marks, to, unit, column, by, overwrite, course)


def _sheet(lms: str, sheet: Path, results: Path | None, marks: Path | None, to: Path, unit: str | None,
           column: str | None, by: str | None, overwrite: bool, course: Path | None) -> None:
    from autograder.commands.sheets import run_sheet
    from autograder.exports import sheets
    raise typer.Exit(run_sheet(load(course), getattr(sheets, lms), sheet, results=results, marks=marks, unit=unit,
                               column=column, by=by, overwrite=overwrite, to=to))
