"""`autograder grade`: read, keep what is graded already, grade the rest, write each report as it comes."""
from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from autograder.commands.progress import Progress
from autograder.course import Course
from autograder.errors import AutograderError, Interrupted, UsageError
from autograder.grading.exercise_keys import ExerciseKeys
from autograder.grading.grade import Options, depends_on, grade
from autograder.grading.kept import Plan, completed
from autograder.report.model import Report
from autograder.report.store import StoredReports, open_store, read_reports, stored_report
from autograder.report.writer import write_class_pages, write_views
from autograder.solution.material import Material
from autograder.submission.cells import Submission
from autograder.submission.reader import read_submissions

MOST_NAMED = 8
"""Exercises that are named in a line; of more, it is said that there are more."""
_SEARCHED = 4 << 20
"""Characters of a submission's file in which the lines of its exercises are looked for."""


def run_grade(course: Course, paths: Sequence[Path], *, unit: str | None, student: str | None, out: Path | None,
              formats: Sequence[str], jobs: int, fail_under: float | None, unsandboxed: bool, fresh: bool,
              progress: bool | None = None, cluster: str | None = None) -> int:
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
        known = out is not None and not fresh
        plan = _plan(course, submissions, out, unsandboxed) if known else Plan(rest=list(submissions))
        run = _Run(course, submissions, plan, out, formats, Progress(len(submissions), progress))
        failures = run.grade(_on(cluster), Options(unsandboxed=unsandboxed, jobs=jobs))
        reports = run.reports
        whole = StoredReports(out, ((one.student, one.unit) for one in reports)) if out is not None else reports
        for failure in failures:
            _complain(failure)
        _finish(whole, [*map(str, problems), *failures], out, formats, plan)
        if annotating:
            _annotate(whole, submissions)
    if failures:
        return AutograderError.exit_code
    if problems or not submissions:
        return UsageError.exit_code
    return 1 if fail_under is not None and any(_percent(r) < fail_under for r in reports) else 0


def _plan(course: Course, submissions: Sequence[Submission], out: Path, unsandboxed: bool) -> Plan:
    """What is in the store already, and what of it grading again could not change."""
    plan, decisive, keys = Plan(), {}, {}
    for unit in {submission.unit for submission in submissions}:
        material = Material(course, course.units[unit])
        try:
            decisive[unit] = depends_on(material)
            keys[unit] = ExerciseKeys(material)
        except (OSError, UsageError):
            continue  # a file of the course is missing or wrong: grading says so in better words
    for one in submissions:
        if one.unit in keys:
            plan.add(one, stored_report(out, one.student, one.unit, unsandboxed), keys[one.unit], decisive[one.unit])
        else:
            plan.rest.append(one)
    return plan


def _on(cluster: str | None) -> Callable[..., list[str]]:
    """What grades: processes of this machine, or those of a cluster."""
    if cluster is None:
        return grade
    from autograder.cluster.client import grade_on_cluster
    return partial(grade_on_cluster, cluster)


class _Run:
    """Grades what has no report yet and writes it; `reports` is then complete and in the submissions' order.

    If they are in the store, what is kept of them in memory is the score: a class may be large.
    """

    def __init__(self, course: Course, submissions: Sequence[Submission], plan: Plan, out: Path | None,
                 formats: Sequence[str], progress: Progress):
        self._course, self._submissions, self._plan = course, submissions, plan
        self._out, self._formats, self._progress = out, formats, progress
        self._again: list[Submission] = []
        self.reports: list[Report] = []

    def grade(self, grade: Callable[..., list[str]], options: Options) -> list[str]:
        """The lines about what could not be graded by `grade`, which is that of this machine or a cluster's."""
        failures: list[str] = []
        try:
            for report in self._plan.kept:
                self._keep(report, is_stored=True)
            for report in self._plan.renewed:
                self._keep(report)
            self._progress.kept(len(self.reports))
            if self._plan.rest:
                failures = grade(self._course, self._plan.rest, self._done, options)
            if self._again:
                failures += grade(self._course, self._again, self._done, options)
        except (OSError, KeyboardInterrupt) as error:
            raise _stopped(error, len(self.reports), len(self._submissions), self._out) from None
        finally:
            self._progress.end()
        order = {(one.student, one.unit): index for index, one in enumerate(self._submissions)}
        self.reports.sort(key=lambda report: order[report.student, report.unit])
        return failures

    def _done(self, report: Report) -> None:
        earlier = self._plan.partial.pop((report.student, report.unit), None)
        whole = completed(earlier, report, self._plan.orders[report.unit]) if earlier else report
        if whole is None:
            self._again += [replace(one, only=None) for one in self._plan.rest
                            if (one.student, one.unit) == (report.student, report.unit)]
            return
        self._keep(whole)
        self._progress.graded(whole)

    def _keep(self, report: Report, *, is_stored: bool = False) -> None:
        if self._out is not None:
            write_views(report, self._out, self._formats, is_stored=is_stored)
            report = report.model_copy(update={"exercises": [], "provenance": {}})
        self.reports.append(report)


def _stopped(error: OSError | KeyboardInterrupt, done: int, total: int, out: Path | None) -> AutograderError:
    """What ended the run before its time, and what is left of it."""
    left = f"{done} of {total} are graded and kept in {out}; the same command goes on from there" if out is not None \
        else "nothing is kept without --out DIR"
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"interrupted: {left}")
    return AutograderError(f"{error}; {left}")


def _finish(reports: Collection[Report], problems: list[str], out: Path | None, formats: Sequence[str],
            plan: Plan) -> None:
    for name in formats:
        if name == "text" or out is None:
            _print(reports, name)
    if out is None or not (len(reports) or problems):
        return
    kept = len(plan.kept) + len(plan.renewed)
    if kept:
        print(f"kept: {kept} of {len(reports)} reports, as nothing that they depend on has changed (--fresh grades "
              "everything again)")
    parts = [one for one in plan.rest if one.only is not None]
    if parts:
        exercises = sorted({f"{one.unit}.{id}" for one in parts for id in one.only})
        print(f"graded in part: {len(parts)} of {len(reports)} reports, as what changed concerns no more than "
              f"{', '.join(exercises[:MOST_NAMED])}{' and more' if len(exercises) > MOST_NAMED else ''}")
    if "html" in formats:
        stored, unreadable = read_reports(out)  # of earlier runs, too: the pages are the whole class's
        print(f"report: {write_class_pages(stored, [*problems, *unreadable], out)}")
    elif len(reports):
        print(f"reports: {out}/<student>/<unit>.json")


def _complain(line: str) -> None:
    print(f"autograder: {line}", file=sys.stderr)


def _print(reports: Collection[Report], name: str) -> None:
    """A format on standard output: what stands there is the submission's owner's to read, but for the JSON report."""
    from autograder.report.github import render_summary
    from autograder.report.gradescope import render_gradescope
    from autograder.report.junit import render_junit
    if name == "text":
        from rich.console import Console

        from autograder.report.terminal import render_text
        render_text(reports, Console(highlight=False))
    elif name == "json":
        texts = [report.to_json() for report in reports]
        print(texts[0] if len(texts) == 1 else f"[{','.join(texts)}]")
    elif name == "junit":
        print(render_junit(reports))
    else:
        render = render_summary if name == "github" else render_gradescope
        for report in reports:
            print(render(report))


def _annotate(reports: Iterable[Report], submissions: Sequence[Submission]) -> None:
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
