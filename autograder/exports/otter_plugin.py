"""Grading inside `otter run`: our engine grades, and otter's kernel gets a notebook with nothing in it.

Otter runs a submission in a kernel that holds the tests, next to whatever files came with it, and unpickles what the
kernel leaves behind. So of a submission nothing but the notebook's text is read, and nothing of it is there when the
kernel starts. Otter's tests then only look up what came of each check.
"""
from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter.plugins import AbstractOtterPlugin
from otter.run.run_autograder.utils import OtterRuntimeError

from autograder.errors import AutograderError

if TYPE_CHECKING:
    from autograder.report.model import Report

OUTCOMES = "ETUDE_OTTER_OUTCOMES"
"""The environment variable by which the tests in otter's kernel find what came of the checks."""
NOT_ABOUT_YOU = ("The grader failed; that is not about your submission, which was not graded. Please tell your "
                 "instructor.")


def holds(exercise: str, check: str) -> None:
    """What a test of otter's calls. Raises `AssertionError` if the check does not hold."""
    outcomes = json.loads(Path(os.environ[OUTCOMES]).read_text(encoding="utf-8"))
    if outcomes["problem"]:
        raise AssertionError(outcomes["problem"])
    why = outcomes["checks"][exercise][check]
    if why:
        raise AssertionError(why)


class SealedGrades(AbstractOtterPlugin):
    """Its configuration has `course`, the path of course.yml, and `unit`; `unsandboxed` where that is accepted."""

    _report: Report | None = None
    _problem = ""
    _outcomes = ""

    def before_grading(self, config: Any) -> None:
        """Remove everything that came with the submission: a log to be unpickled, modules to be imported."""
        config.grade_from_log = False
        submission = Path(self.submission_path)
        for path in submission.parent.iterdir():
            if path.name not in (submission.name, "tests"):  # otter has just put its own tests there
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def before_execution(self, submission: Any) -> Any:
        """Grade, and give otter an empty notebook to run."""
        from nbformat import v4
        try:
            self._grade()
        except Exception as error:
            print(f"autograder: {type(error).__name__}: {error}", file=sys.stderr)
            raise OtterRuntimeError(NOT_ABOUT_YOU) from error
        os.unlink(self.submission_path)  # otter has read it; as otter.py it would be imported
        descriptor, self._outcomes = tempfile.mkstemp(suffix=".json")
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"problem": self._problem, "checks": _explanations(self._report)}, file)
        os.environ[OUTCOMES] = self._outcomes
        return v4.new_notebook()

    def after_grading(self, results: Any) -> None:
        """Results for Gradescope are ours. Raises if otter's sum is another than ours."""
        os.environ.pop(OUTCOMES, None)
        os.unlink(self._outcomes)
        score = self._report.score if self._report else 0.0
        if results.has_catastrophic_failure() or abs(results.total - score) > 1e-6:
            print(f"autograder: otter's tests add up to {results.total:g}, the checks to {score:g}: has the course "
                  "changed since `autograder export otter`?", file=sys.stderr)
            raise OtterRuntimeError(NOT_ABOUT_YOU)
        shown = for_gradescope(self._report, self._problem)
        results.set_plugin_data(f"{__name__}.{type(self).__name__}", {"score": score, "problem": self._problem})
        results.to_gradescope_dict = partial(_whatever_configured, shown)

    def _grade(self) -> None:
        from autograder.course import load_course
        from autograder.grading.grade import Options, grade
        from autograder.submission.reader import read_submissions
        course, unit = load_course(Path(self.plugin_config["course"])), self.plugin_config["unit"]
        submissions, problems = read_submissions([self.submission_path], course, unit=unit, student="student")
        if problems:
            self._problem = f"This submission could not be read: {problems[0].message}"
            return
        reports: list[Report] = []
        failures = grade(course, submissions, reports.append,
                         Options(unsandboxed=bool(self.plugin_config.get("unsandboxed"))))
        if failures:
            raise AutograderError("; ".join(failures))
        (self._report,) = reports


def _explanations(report: Report | None) -> dict[str, dict[str, str]]:
    """By exercise and check: why it does not hold, as the student may read it; nothing for one that holds."""
    if report is None:
        return {}
    from autograder.report import wording
    from autograder.report.audience import for_students
    found: dict[str, dict[str, str]] = {}
    for exercise, shown in zip(report.exercises, for_students(report).exercises, strict=True):
        found[exercise.id] = {
            check.name: "" if check.passed else "\n".join(wording.explanation(seen)) or "It does not hold."
            for check, seen in zip(exercise.checks, shown.checks, strict=True)}
    return found


def for_gradescope(report: Report | None, problem: str) -> dict[str, Any]:
    """What results.json says; without a report, why there is none."""
    if report is None:
        return {"score": 0.0, "output": problem, "output_format": "text", "stdout_visibility": "hidden", "tests": []}
    from autograder.report.gradescope import render_gradescope
    return json.loads(render_gradescope(report))


def _whatever_configured(shown: dict[str, Any], config: Any) -> dict[str, Any]:
    return shown
