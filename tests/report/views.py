"""Every view by name, as the tests meet it: a function from a report to text."""
from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from autograder.report.github import annotations, render_summary
from autograder.report.gradescope import render_gradescope
from autograder.report.html import class_pages, render_class_page, render_student_page
from autograder.report.junit import render_junit
from autograder.report.model import Report
from autograder.report.terminal import render_text


def terminal(report: Report, width: int = 80, *, staff: bool = False, colour: bool = False,
             encoding: str = "utf-8") -> str:
    """The text view of one report."""
    return terminal_of([report], width, staff=staff, colour=colour, encoding=encoding)


def terminal_of(reports: list[Report], width: int = 80, *, staff: bool = False, colour: bool = False,
                encoding: str = "utf-8") -> str:
    """The text view, as the bytes that a console of this encoding would get."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, errors="strict", newline="\n")
    console = Console(file=out, width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    render_text(reports, console, staff=staff)
    out.flush()
    return raw.getvalue().decode(encoding)


STUDENT_VIEWS: dict[str, Callable[[Report], str]] = {
    "terminal": terminal,
    "html": render_student_page,
    "junit": render_junit,
    "gradescope": render_gradescope,
    "github summary": render_summary,
    "github annotations": lambda report: "\n".join(annotations(report, "attention.ipynb")) + "\n",
}
STAFF_VIEWS: dict[str, Callable[[Report], str]] = {
    "json": Report.to_json,
    "terminal for staff": lambda report: terminal(report, staff=True),
    "class page": lambda report: render_class_page([report], [report.student]),
}
ALL_VIEWS = STUDENT_VIEWS | STAFF_VIEWS | {
    "class index": lambda report: class_pages(
        [report, report.model_copy(update={"unit": "recurrent"})], [report.student])["index.html"]}
