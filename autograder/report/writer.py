"""The files of a graded submission: the report for the store, and the views that were asked for beside it.

Whatever stands here but the JSON report and the class pages may be handed to the student.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from autograder.errors import UsageError
from autograder.files import write_atomically
from autograder.report.github import render_summary
from autograder.report.gradescope import render_gradescope
from autograder.report.html import class_pages, render_student_page
from autograder.report.junit import render_junit
from autograder.report.model import Report
from autograder.report.store import GRADESCOPE_SUFFIX, INDEX_PAGE, report_path, unit_pages
from autograder.report.terminal import render_text

TEXT_WIDTH = 100


def text_file(report: Report) -> str:
    """The text view as a file: plain, `TEXT_WIDTH` wide."""
    import io

    from rich.console import Console

    out = io.StringIO()
    render_text([report], Console(file=out, width=TEXT_WIDTH, color_system=None, force_terminal=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


_VIEWS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "text": (".txt", text_file),
    "junit": (".xml", render_junit),
    "html": (".html", render_student_page),
    "gradescope": (GRADESCOPE_SUFFIX, render_gradescope),
    "github": (".md", render_summary),
}
FORMATS = ("json", *_VIEWS)
"""The names of the formats. The JSON report is always written: it is the store."""


def write_views(report: Report, out_dir: Path, formats: Iterable[str] = (), *, is_stored: bool = False) -> list[Path]:
    """Write `DIR/<student>/<unit>.json` and the asked views beside it; return the paths, the report last.

    Views that are there from an earlier run are written, too: none may tell of another grade than the report. It comes
    last because its being there means that the submission is done; if it `is_stored` already, only views are written.
    """
    asked = [name for name in dict.fromkeys(formats) if name != "json"]
    unknown = [name for name in asked if name not in _VIEWS]
    if unknown:
        raise UsageError(f"--format {unknown[0]}: no such format. There are {', '.join(FORMATS)}.")
    home = report_path(Path(out_dir), report.student, report.unit)
    places = {name: home.with_name(home.stem + suffix) for name, (suffix, _) in _VIEWS.items()}
    due = [name for name, place in places.items() if name in asked or place.exists()]
    for name in due:
        write_atomically(places[name], _VIEWS[name][1](report))
    if not is_stored:
        write_atomically(home, report.to_json() + "\n", staff_only=True)
    return [*(places[name] for name in due), home]


def write_class_pages(reports: list[Report], problems: list[str], out_dir: Path) -> Path:
    """Write the staff's overview of a class, a page for each unit, and return `DIR/index.html`, which leads to all.

    The page of a unit without reports is removed.
    """
    out_dir = Path(out_dir)
    pages = class_pages(reports, problems)
    for name, page in pages.items():
        write_atomically(out_dir / name, page, staff_only=True)
    for path in unit_pages(out_dir):
        if path.name not in pages:
            path.unlink()
    return out_dir / INDEX_PAGE
