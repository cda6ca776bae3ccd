"""`autograder grade`: read, grade, write as each report comes, and say what could not be read."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from autograder.course import Course
from autograder.errors import UsageError
from autograder.grading.grade import Options, grade
from autograder.report.model import Report
from autograder.report.writer import write_class_page, write_views
from autograder.submission.reader import read_submissions


def run_grade(course: Course, paths: Sequence[Path], *, unit: str | None, student: str | None, out: Path | None,
              formats: Sequence[str], jobs: int, fail_under: float | None, unsandboxed: bool) -> int:
    """The exit code: 0 graded, 1 `fail_under` missed, 2 something could not be read (the rest is graded)."""
    if out is None and "html" in formats:
        raise UsageError("--format html writes files: say where with --out DIR")
    if out is not None:
        _make_folder(out)
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


def _make_folder(out: Path) -> None:
    """Before anything is graded, as what is graded could not be kept."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: no folder can be made here: {error.strerror}") from None


def _finish(reports: list[Report], problems: list[str], out: Path | None, formats: Sequence[str]) -> None:
    _progress_end()
    for name in formats:
        if name == "text" or out is None:
            _print(reports, name)
    if out is not None and "html" in formats and (reports or problems):
        print(f"report: {write_class_page(reports, problems, out)}")


def _print(reports: list[Report], name: str) -> None:
    """A format on standard output: what stands there is the submission's owner's to read, but for the JSON report."""
    from autograder.report.github import render_summary
    from autograder.report.gradescope import render_gradescope
    from autograder.report.junit import render_junit
    if name == "text":
        from rich.console import Console

        from autograder.report.terminal import render_text
        render_text(reports, Console(highlight=False))
    elif name == "json":
        print(reports[0].to_json() if len(reports) == 1 else f"[{','.join(r.to_json() for r in reports)}]")
    elif name == "junit":
        print(render_junit(reports))
    else:
        render = render_summary if name == "github" else render_gradescope
        for report in reports:
            print(render(report))


def _percent(report: Report) -> float:
    return 100.0 * report.score / report.max_score if report.max_score else 100.0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and total > 1:
        print(f"\rgraded {done} of {total}", end="", file=sys.stderr, flush=True)


def _progress_end() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
