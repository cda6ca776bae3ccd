"""`autograder grade`: read, keep what is graded already, grade the rest, write each report as it comes."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from autograder.course import Course
from autograder.errors import AutograderError, Interrupted, UsageError
from autograder.grading.grade import Options, depends_on, grade
from autograder.report.model import Report
from autograder.report.store import kept_report, open_store, read_reports
from autograder.report.writer import write_class_pages, write_views
from autograder.solution.material import Material
from autograder.submission.cells import Submission
from autograder.submission.reader import read_submissions

_SEARCHED = 4 << 20
"""Characters of a submission's file in which the lines of its exercises are looked for."""


def run_grade(course: Course, paths: Sequence[Path], *, unit: str | None, student: str | None, out: Path | None,
              formats: Sequence[str], jobs: int, fail_under: float | None, unsandboxed: bool, fresh: bool) -> int:
    """The exit code: 0 graded, 1 `fail_under` missed, 2 something could not be read, 3 the grader failed on something.

    Whatever the code, everything else is graded.
    """
    if out is None and "html" in formats:
        raise UsageError("--format html writes files: say where with --out DIR")
    annotating = "annotations" in formats  # lines on standard output, whatever else is written
    formats = [name for name in formats if name != "annotations"]
    with open_store(out) if out is not None else nullcontext():
        submissions, problems = read_submissions(paths, course, unit=unit, student=student)
        for problem in problems:
            _complain(str(problem))
        for submission in submissions:
            for note in submission.notes:
                _complain(f"{submission.path}: {note}")
        reports = _kept(course, submissions, out, unsandboxed) if out is not None and not fresh else []
        kept = len(reports)
        failures = _grade_rest(course, submissions, reports, out, formats, Options(unsandboxed=unsandboxed, jobs=jobs))
        for failure in failures:
            _complain(failure)
        _finish(reports, [*map(str, problems), *failures], out, formats, kept)
        if annotating:
            _annotate(reports, submissions)
    if failures:
        return AutograderError.exit_code
    if problems or not submissions:
        return UsageError.exit_code
    return 1 if fail_under is not None and any(_percent(r) < fail_under for r in reports) else 0


def _kept(course: Course, submissions: Sequence[Submission], out: Path, unsandboxed: bool) -> list[Report]:
    """The reports in the store that grading again could not change."""
    decisive = {}
    for unit in {submission.unit for submission in submissions}:
        try:
            decisive[unit] = depends_on(Material(course, course.units[unit]))
        except OSError:
            continue  # a file of the course is missing: grading says so in better words
    found = [kept_report(out, s.student, s.unit, {**decisive[s.unit], "submission": s.digest}, unsandboxed)
             for s in submissions if s.unit in decisive]
    return [report for report in found if report]


def _grade_rest(course: Course, submissions: Sequence[Submission], reports: list[Report], out: Path | None,
                formats: Sequence[str], options: Options) -> list[str]:
    """Grade what has no report yet; `reports` is then complete and in order. The lines about what could not be."""
    there = {(report.student, report.unit) for report in reports}
    rest = [submission for submission in submissions if (submission.student, submission.unit) not in there]

    def done(report: Report) -> None:
        if out is not None:
            write_views(report, out, formats)
        reports.append(report)
        _progress(len(reports), len(submissions))
    try:
        if out is not None:
            for report in reports:
                write_views(report, out, formats, is_stored=True)
        failures = grade(course, rest, done, options) if rest else []
    except (OSError, KeyboardInterrupt) as error:
        raise _stopped(error, len(reports), len(submissions), out) from None
    finally:
        _progress_end()
    order = {(s.student, s.unit): index for index, s in enumerate(submissions)}
    reports.sort(key=lambda report: order[report.student, report.unit])
    return failures


def _stopped(error: OSError | KeyboardInterrupt, done: int, total: int, out: Path | None) -> AutograderError:
    """What ended the run before its time, and what is left of it."""
    left = f"{done} of {total} are graded and kept in {out}; the same command goes on from there" if out is not None \
        else "nothing is kept without --out DIR"
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"interrupted: {left}")
    return AutograderError(f"{error}; {left}")


def _finish(reports: list[Report], problems: list[str], out: Path | None, formats: Sequence[str], kept: int) -> None:
    for name in formats:
        if name == "text" or out is None:
            _print(reports, name)
    if out is None or not (reports or problems):
        return
    if kept:
        print(f"kept: {kept} of {len(reports)} reports, as nothing that they depend on has changed (--fresh grades "
              "everything again)")
    if "html" in formats:
        stored, unreadable = read_reports(out)  # of earlier runs, too: the pages are the whole class's
        print(f"report: {write_class_pages(stored, [*problems, *unreadable], out)}")
    elif reports:
        print(f"reports: {out}/<student>/<unit>.json")


def _complain(line: str) -> None:
    print(f"autograder: {line}", file=sys.stderr)


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


def _annotate(reports: Sequence[Report], submissions: Sequence[Submission]) -> None:
    """Print the lines by which GitHub Actions marks the places in the submissions' files."""
    from autograder.report.github import annotations
    paths = {(submission.student, submission.unit): submission.path for submission in submissions}
    for report in reports:
        path = paths[report.student, report.unit]
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(_SEARCHED)
        except OSError:
            text = ""  # inside a zip: the annotation stands at its top
        for line in annotations(report, path, text):
            print(line)


def _percent(report: Report) -> float:
    return 100.0 * report.score / report.max_score if report.max_score else 100.0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and total > 1:
        print(f"\rgraded {done} of {total}", end="", file=sys.stderr, flush=True)


def _progress_end() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
