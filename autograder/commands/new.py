"""`autograder new-course` and `autograder new-exercise`: files to begin with."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autograder.commands.options import CourseOption, load
from autograder.errors import UsageError


def new_course(directory: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Begin a course: one proven example exercise, workflows for GitHub and GitLab, pinned versions."""
    from autograder.authoring.new_course import new_course as write
    written = write(directory)
    typer.echo(f"{directory}: {len(written)} files; there, run `autograder build` and `autograder verify`")


def new_exercise(
    name: Annotated[str, typer.Argument(metavar="UNIT.EXERCISE", help="Their ids; the unit may be new.")],
    course: CourseOption = None,
) -> None:
    """Add the skeleton of an exercise to its unit's three files and to course.yml."""
    from autograder.authoring.new_exercise import new_exercise as write
    unit, dot, exercise = name.partition(".")
    if not (unit and dot and exercise):
        raise UsageError(f"{name}: expected UNIT.EXERCISE")
    for path in write(load(course), unit, exercise):
        typer.echo(f"wrote {path}")
    typer.echo(f"Fill in what says TODO, then `autograder build {unit}` and `autograder verify {name}`.")
