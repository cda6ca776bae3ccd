"""What travels to a worker of the cluster, and what it must have in common with whoever sends it."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.course import Course, load_course
from autograder.errors import UsageError
from autograder.submission.cells import Submission

COURSE_VARIABLE = "ETUDE_COURSE"
"""In the environment of a worker: where its copy of course.yml lies, if not where the client has it."""
_NAMED = {"grader": "code of the grader", "versions": "versions of libraries", "course": "files of the course"}


@dataclass(frozen=True)
class Order:
    """Submissions of one unit to be graded in one go, with all that decides how."""

    run: str
    """Whose it is: several commands may use one cluster."""
    course_path: str
    seed: str | None
    """The text of ETUDE_SEED; None where it is not set. The only secret that travels."""
    unsandboxed: bool
    exercises: tuple[str, ...] | None
    submissions: tuple[Submission, ...]

    @property
    def how(self) -> tuple[Any, ...]:
        """Equal for orders that the same warm process can carry out."""
        return self.course_path, self.seed, self.unsandboxed, self.exercises


def course_here(course_path: str) -> Path:
    """Where this machine has the course."""
    return Path(os.environ.get(COURSE_VARIABLE) or course_path)


def fingerprint(course: Course, units: Collection[str]) -> dict[str, Any]:
    """What two machines must have in common to give the same grades in these units."""
    from autograder.grading.exercise_keys import grader_digest, versions
    from autograder.solution.material import Material
    found = hashlib.sha256()
    for unit in sorted(units):
        found.update(f"{unit}\0{Material(course, course.unit(unit)).digest}\0".encode())
    return {"grader": grader_digest(), "versions": versions(), "course": found.hexdigest()}


def fingerprint_here(course_path: str, units: Collection[str]) -> dict[str, Any] | str:
    """The fingerprint of the machine that this runs on, or a line about why there is none."""
    try:
        return fingerprint(load_course(course_here(course_path)), units)
    except (OSError, UsageError) as error:
        return str(error)


def difference(ours: dict[str, Any], theirs: Any) -> str:
    """In words, what another machine has otherwise; empty if nothing."""
    if not isinstance(theirs, dict):
        return f"it cannot grade this course: {theirs}; its environment's {COURSE_VARIABLE} may name another course.yml"
    for name, what in _NAMED.items():
        if ours[name] != theirs.get(name):
            expected, got = _shown(ours[name]), _shown(theirs.get(name))
            return f"it has not the same {what} as this machine: expected {expected}, got {got}"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return str(value)[:12]
