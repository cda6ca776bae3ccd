"""What a course directory's `nbgrader_config.py` calls. It runs at every nbgrader command: nothing heavy here."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from autograder.build.skeleton import CODE_STUB

_OURS = "autograder.nbgrader"
_THEIRS = "nbgrader.preprocessors"


def configure(config: Any, course: str | Path) -> None:
    """Let nbgrader release with our stub, restore what students changed, and grade in the sandbox.

    `course` is the path of course.yml.
    """
    config.ClearSolutions.code_stub = {"python": CODE_STUB}
    config.Autograde.exporter_class = f"{_OURS}.exporter.SubmissionExporter"
    config.Autograde.sanitize_preprocessors = [
        f"{_THEIRS}.{name}" for name in ("ClearOutput", "DeduplicateIds", "OverwriteCells", "CheckCellMetadata")]
    config.Autograde.autograde_preprocessors = [
        f"{_OURS}.preprocessors.SealedGrades",  # in place of Execute: nothing of a student's runs in nbgrader
        f"{_THEIRS}.SaveAutoGrades",
        f"{_OURS}.preprocessors.Explanations",  # after SaveAutoGrades, which empties the comments
        f"{_THEIRS}.AssignLatePenalties",
        f"{_THEIRS}.CheckCellMetadata",
    ]
    config.SealedGrades.course_file = str(course)
