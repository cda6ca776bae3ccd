"""The end of a run over a class: one line a student, one line an exercise, and the mistakes that several made."""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from autograder.report import wording
from autograder.report.class_stats import Mistake, UnitStats, by_unit, outline
from autograder.report.model import Report
from autograder.report.terminal_parts import bar, glyphs_of, line, sheet

if TYPE_CHECKING:
    from rich.console import Console

MAX_MISTAKES = 10


def render_summary(reports: Iterable[Report], console: Console) -> None:
    """Print what the class did, unit by unit. The reports are already cleaned for their reader."""
    for unit in by_unit(reports, outline):
        _heading(console, f"{unit.title}: {wording.counted(len(unit.reports), 'submission')}, mean "
                          f"{wording.points(unit.mean, unit.max_score)}, median {wording.number(unit.median)}")
        _students(console, unit)
        _exercises(console, unit)
        _mistakes(console, unit.mistakes[:MAX_MISTAKES])


def _heading(console: Console, text: str) -> None:
    console.print(line(console, text, "bold"))
    console.print(line(console, glyphs_of(console).rule * console.width, "dim"))


def _students(console: Console, unit: UnitStats) -> None:
    table = sheet(console, [1, None, None, None])
    for report in unit.reports:
        failed = len(wording.failed_checks(report))
        table.add_row(line(console, report.student), bar(glyphs_of(console), report.score, report.max_score),
                      line(console, wording.points(report.score, report.max_score)),
                      line(console, f"{failed} failed" if failed else "", "dim"))
    console.print(table)


def _exercises(console: Console, unit: UnitStats) -> None:
    console.print()
    table = sheet(console, [1, None, None])
    for exercise in unit.exercises.values():
        table.add_row(line(console, exercise.title), bar(glyphs_of(console), exercise.mean, 1),
                      line(console, f"{exercise.solved} of {len(exercise.fractions)} have all points", "dim"))
    console.print(table)


def _mistakes(console: Console, mistakes: list[Mistake]) -> None:
    if not mistakes:
        return
    console.print()
    console.print(line(console, "Most frequent mistakes", "bold"))
    table = sheet(console, [None, 1], "rl")
    for mistake in mistakes:
        named = f"{mistake.title} ({mistake.exercise})"
        table.add_row(line(console, f"{len(mistake.students):>2}"), line(console, named))
    console.print(table)
