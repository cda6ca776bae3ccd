"""`autograder leaderboard`: the speed of a class, from stored reports; opt-in, under pseudonyms."""
from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autograder.commands.options import CourseOption, load
from autograder.errors import UsageError

if TYPE_CHECKING:
    from autograder.course import Course
    from autograder.speed.leaderboard import Board

KEY_VARIABLE = "ETUDE_LEADERBOARD_KEY"


def leaderboard(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="What grade --out wrote and bench has settled.")],
    unit: Annotated[str | None, typer.Option(help="One unit; default: all.")] = None,
    plot: Annotated[Path | None, typer.Option(help="The picture to write, .svg or .png.")] = None,
    course: CourseOption = None,
) -> None:
    """Who is how fast, of the students whom the file at policy.leaderboard lists. Exit 0; 1: a report is unreadable."""
    raise typer.Exit(run_leaderboard(load(course), results, unit, plot))


def run_leaderboard(course: Course, results: Path, unit: str | None, plot: Path | None) -> int:
    """The exit code: 0, or 1 if a file of the results could not be read."""
    from autograder.report.store import read_reports
    from autograder.speed.leaderboard import boards, participants, pseudonyms
    if unit is not None:
        course.unit(unit)
    if course.policy.leaderboard is None:
        raise UsageError("course.yml has no policy.leaderboard: it names the CSV file of the students who take part, "
                         "with the column student")
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {plot}: expected a file that ends in .svg or .png")
    key = os.environ.get(KEY_VARIABLE, "")
    if not key.strip():
        raise UsageError(f"{KEY_VARIABLE} is not set: pseudonyms are made with a secret key, which is kept outside the "
                         "course's repository; the same key gives the same names again")
    names = pseudonyms(participants(course.root / course.policy.leaderboard), key.encode())
    reports, problems = read_reports(results)
    if not reports:
        raise UsageError(f"{results}: no reports; expected what `autograder grade --out {results}` writes")
    for problem in problems:
        print(f"autograder: {results}/{problem}", file=sys.stderr)
    found = boards([report for report in reports if unit in (None, report.unit)], names)
    for line in lines(found):
        print(line)
    if plot is not None and found:
        from autograder.speed.leaderboard_plot import draw_boards
        draw_boards(found, plot)
        print(f"\nplot: {plot}")
    return 1 if problems else 0


def lines(found: Sequence[Board]) -> list[str]:
    """The boards as text."""
    from autograder.speed.table import time_text
    if not found:
        return ["nothing to show: nobody who takes part has settled speed results"]
    text: list[str] = []
    for board in found:
        text += [*([""] if text else []), f"{board.exercise}, {board.workload}, {board.device}"]
        for rank, entry in enumerate(board.entries, 1):
            figures = entry.figures
            ceiling = "" if figures.fraction is None else f"  {figures.fraction:6.1%} of the ceiling"
            text.append(f"{rank:>4}  {entry.pseudonym:<24} {time_text(figures.seconds):>9}  {figures.ratio:6.2f} x "
                        f"reference [{figures.low:.2f}, {figures.high:.2f}]{ceiling}")
    return text
