"""`autograder export ...`: what other tools take in."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autograder.commands.options import CourseOption, load

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write what other tools take in.")
To = Annotated[Path, typer.Option("--to", help="A new folder.")]


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
