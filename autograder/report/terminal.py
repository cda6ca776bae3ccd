"""Reports as text, for a terminal or a log: no colour is needed to read them, and none is used where there is none."""
from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from autograder.report import tensors, wording
from autograder.report.audience import for_staff, for_students
from autograder.report.model import CheckResult, Difference, ExerciseResult, Report
from autograder.report.terminal_parts import (
    INDENT,
    Glyphs,
    bar,
    glyphs_of,
    line,
    listed,
    matrices,
    matrices_width,
    sheet,
)

if TYPE_CHECKING:
    from rich.console import Console


def render_text(reports: Collection[Report], console: Console, *, staff: bool = False) -> None:
    """Print every report, and a summary of the class if there are several. They are gone through twice and not kept.

    Hidden checks show their title and diagnosis only, because a CI log is the student's to read; `staff` shows all.
    """
    view = for_staff if staff else for_students
    for report in reports:
        _Page(console).report(view(report))
    if len(reports) > 1:
        from autograder.report.terminal_class import render_summary

        render_summary(map(view, reports), console)


class _Page:
    """Prints one report."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.glyphs: Glyphs = glyphs_of(console)

    def report(self, report: Report) -> None:
        self._header(report)
        self.console.print(self._overview(report))
        for exercise in report.exercises:
            if not wording.uneventful(exercise):
                self._exercise(exercise)
        self.console.print()

    def _header(self, report: Report) -> None:
        score = wording.points(report.score, report.max_score)
        heading = sheet(self.console, [1, None])
        heading.add_row(line(self.console, f"{report.student}: {wording.unit_title(report.unit)}", "bold"),
                        line(self.console, f"{score} points", "bold"))
        self.console.print(heading)
        self._rule()
        if report.sandbox == "ADVISORY":
            self._say(wording.ADVISORY, "yellow")
        for note in report.notes:
            self._say(f"Note: {note}")

    def _rule(self) -> None:
        self.console.print(line(self.console, self.glyphs.rule * self.console.width, "dim"))

    def _overview(self, report: Report):
        table = sheet(self.console, [1, None, None, None])
        for exercise in report.exercises:
            checks = f"{wording.passed(exercise)} of {len(exercise.checks)} checks"
            table.add_row(line(self.console, exercise.title), bar(self.glyphs, exercise.score, exercise.max_score),
                          line(self.console, wording.points(exercise.score, exercise.max_score)),
                          line(self.console, checks if exercise.status == "graded" else exercise.status, "dim"))
        return table

    def _exercise(self, exercise: ExerciseResult) -> None:
        self.console.print()
        self._say(exercise.title, "bold")
        for note in filter(None, [wording.status_line(exercise), *exercise.notes]):
            self._say(f"Note: {note}", indent=INDENT)
        for check in exercise.checks:
            if not check.passed:
                self._check(check)
            elif check.message:
                self._say(check.message, "dim", indent=INDENT)

    def _check(self, check: CheckResult) -> None:
        hidden = "" if check.public else "  (hidden)"
        title = sheet(self.console, [None, 1, None], "llr")
        sign = (self.glyphs.pending, "bold yellow") if check.pending else (self.glyphs.failed, "bold red")
        title.add_row(line(self.console, *sign),
                      line(self.console, f"{check.title or check.name}{hidden}"),
                      line(self.console, wording.points(check.score, check.points)))
        self.console.print(title)
        if check.pending:
            self._say(wording.explanation(check)[0], indent=INDENT)
            return
        if check.diagnosis:
            self._say(wording.diagnosis_line(check), "bold", indent=INDENT)
        for fact in wording.facts(check):
            self._say(fact, indent=INDENT)
        if check.counterexample:
            if check.counterexample.difference:
                self._difference(check.counterexample.difference)
            if check.counterexample.inputs:
                self._say(f"Smallest failing example: {check.counterexample.inputs}", "dim", indent=INDENT)

    def _difference(self, difference: Difference) -> None:
        pair = tensors.side_by_side(difference)
        cells = tensors.differing(difference)
        if pair and matrices_width(pair) + INDENT <= self.console.width:
            self.console.print(matrices(self.console, pair))
        elif len(cells) > 1:
            self.console.print(listed(self.console, cells))

    def _say(self, text: str, style: str = "", indent: int = 0) -> None:
        from rich.padding import Padding

        self.console.print(Padding(line(self.console, text, style), (0, 0, 0, indent), expand=False))
