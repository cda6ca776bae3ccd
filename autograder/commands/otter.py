"""`autograder otter-run`: otter's own grading of one submission, for files that may be no notebook."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def otter_run(
    submission: Annotated[Path, typer.Argument(help="A notebook, a script, or a zip of it.")],
    autograder: Annotated[Path, typer.Option("--autograder", "-a", help="What `export otter` wrote.")],
    to: Annotated[Path, typer.Option("--output-dir", "-o", help="Gets results.json.")] = Path(),
) -> None:
    """`otter run` that leaves a results.json whatever was handed in: what is no notebook gets 0, and the reason."""
    from autograder.exports.otter_run import run_otter
    problem = run_otter(autograder, submission, to)
    if problem:
        typer.echo(f"{to / 'results.json'}: 0 points: {problem}")
