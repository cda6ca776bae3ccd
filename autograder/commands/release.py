"""`autograder release`: write or update a course directory for nbgrader."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autograder.course import Course
from autograder.nbgrader.course_directory import release


def run_release(course: Course, units: Sequence[str], directory: Path, *, force: bool) -> int:
    """The exit code; every line says what was done."""
    chosen = [course.unit(name) for name in units] or list(course.units.values())
    nothing = True
    for line in release(course, chosen, directory.resolve(), force):
        nothing = False
        print(f"{directory}: {line}", flush=True)
    if nothing:
        print(f"{directory}: up to date")
    return 0
