"""`autograder overview`: the class's pages, of reports that are there."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autograder.errors import UsageError


def overview(results: Annotated[Path, typer.Argument(metavar="RESULTS", help="What grade --out wrote.")]) -> None:
    """What the class got wrong: write a page for each unit from the stored reports, and an index of them."""
    from autograder.report.store import read_reports
    from autograder.report.writer import write_class_pages
    reports, problems = read_reports(results)
    for problem in problems:
        print(f"autograder: {results}/{problem}", file=sys.stderr)
    if not reports:
        raise UsageError(f"{results}: no reports; expected what `autograder grade --out {results}` writes")
    print(f"report: {write_class_pages(reports, problems, results)}")
    raise typer.Exit(UsageError.exit_code if problems else 0)
