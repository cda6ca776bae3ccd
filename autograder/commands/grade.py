"""`autograder grade`: read, grade, write as each report comes, and say what could not be read."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from autograder.course import Course
from autograder.errors import UsageError
from autograder.grading.grade import Options, grade
from autograder.report.model import Report
from autograder.report.writer import render, write_class_page, write_views
from autograder.submission.reader import read_submissions

CLASS_FORMATS = {"html"}
"""Formats that also have one page for the whole class."""


def run_grade(course: Course, paths: Sequence[Path], *, unit: str | None, student: str | None, out: Path | None,
              formats: Sequence[str], jobs: int, fail_under: float | None, unsandboxed: bool) -> int:
    """The exit code: 0 graded, 1 `fail_under` missed, 2 something could not be read (the rest is graded)."""
    if out is None and set(formats) & CLASS_FORMATS:
        raise UsageError("--format html writes files: say where with --out DIR")
    submissions, problems = read_submissions(paths, course, unit=unit, student=student)
    for problem in problems:
        print(f"autograder: {problem}", file=sys.stderr)
    for submission in submissions:
        for note in submission.notes:
            print(f"autograder: {submission.path}: {note}", file=sys.stderr)
    reports: list[Report] = []

    def done(report: Report) -> None:
        reports.append(report)
        if out is not None:
            write_views(report, out, formats)
        _progress(len(reports), len(submissions))

    if submissions:
        grade(course, submissions, done, Options(unsandboxed=unsandboxed, jobs=jobs))
    order = {(s.student, s.unit): index for index, s in enumerate(submissions)}
    reports.sort(key=lambda report: order[report.student, report.unit])
    _finish(reports, [str(problem) for problem in problems], out, formats)
    if problems or not submissions:
        return 2
    return 1 if fail_under is not None and any(_percent(r) < fail_under for r in reports) else 0


def _finish(reports: list[Report], problems: list[str], out: Path | None, formats: Sequence[str]) -> None:
    _progress_end()
    for name in formats:
        if name not in CLASS_FORMATS and (out is None or name == "text"):
            sys.stdout.write(render(reports, name))
    sys.stdout.flush()
    if out is not None and "html" in formats and (reports or problems):
        page = write_class_page(reports, problems, out)
        print(f"report: {page}")


def _percent(report: Report) -> float:
    return 100.0 * report.score / report.max_score if report.max_score else 100.0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and total > 1:
        print(f"\rgraded {done} of {total}", end="", file=sys.stderr, flush=True)


def _progress_end() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
