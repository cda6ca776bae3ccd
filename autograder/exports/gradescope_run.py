"""What run_autograder starts on Gradescope: grade the one submission, and leave a results.json whatever happens."""
from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.files import write_atomically

if TYPE_CHECKING:
    from autograder.report.model import Report

UNSANDBOXED = "--unsandboxed"
CRASHED = ("The grader failed before it came to a result. That is not about your submission, which was not graded: "
           "this 0 is no grade. Please tell your instructor, who can run it again.")


def run(home: Path, unsandboxed: bool = False) -> dict[str, Any]:
    """Grade what lies in `home`/submission; what was written to `home`/results/results.json."""
    started = time.monotonic()
    try:
        result = _graded(home, unsandboxed)
    except BaseException:
        traceback.print_exc()  # into Gradescope's log, which only staff can read
        result = crashed()
    result["execution_time"] = round(time.monotonic() - started, 2)
    write_atomically(home / "results" / "results.json", json.dumps(result, indent=2) + "\n")
    return result


def crashed() -> dict[str, Any]:
    """The result that says that there is none."""
    return _message(CRASHED)


def _message(text: str) -> dict[str, Any]:
    return {"score": 0, "output": text, "output_format": "text", "visibility": "visible",
            "stdout_visibility": "hidden", "tests": []}


def _graded(home: Path, unsandboxed: bool) -> dict[str, Any]:
    from autograder.course import load_course
    from autograder.errors import AutograderError
    from autograder.grading.grade import SEED_VARIABLE, Options, grade
    from autograder.report.gradescope import gradescope_result
    from autograder.submission.reader import read_submissions
    os.environ[SEED_VARIABLE] = (home / "source" / "seed.txt").read_text(encoding="utf-8").strip()
    course = load_course(home / "source" / "course" / "course.yml")
    (unit,) = course.units
    folder = home / "submission"
    submissions, problems = read_submissions([folder], course, unit=unit, student="student")
    lines = [str(problem).replace(f"{folder}/", "") for problem in problems]
    if not submissions:
        return _message("Nothing could be graded:\n" + "\n".join(lines))
    reports: list[Report] = []
    failures = grade(course, submissions, reports.append, Options(unsandboxed=unsandboxed))
    if failures:
        raise AutograderError("\n".join(failures))
    return gradescope_result(reports[0], lines)


def main() -> None:
    arguments = sys.argv[1:]
    run(Path(arguments[0]).resolve(), unsandboxed=UNSANDBOXED in arguments[1:])


if __name__ == "__main__":
    main()
