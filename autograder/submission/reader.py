"""Paths -> submissions. The one way in: whatever is wrong with one file is a `Problem`, and the others go on."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from autograder.errors import UsageError
from autograder.one_line import one_line
from autograder.submission.archive import OpenZip
from autograder.submission.cells import Submission
from autograder.submission.choosing import choose
from autograder.submission.files import find
from autograder.submission.found import Found
from autograder.submission.matching import exercise_notes, student_of, unit_by_place, unit_of
from autograder.submission.names import checked_name
from autograder.submission.notebook import read_notebook
from autograder.submission.problems import LONGEST_PATH, BadInput, Problem
from autograder.submission.script import read_script

if TYPE_CHECKING:
    from autograder.course import Course


def read_submissions(paths: Iterable[str | os.PathLike[str]], course: Course, unit: str | None = None,
                     student: str | None = None) -> tuple[list[Submission], list[Problem]]:
    """Every submission under `paths`, in the order given, and a problem for each that cannot be read.

    A path is a notebook, a .py, a folder `<student>/<unit>/`, a folder of those, or a zip of any of these. With
    `unit`, other units' folders are passed over; other files are read as that unit. `student` overrides the name that
    the path tells. Raises `UsageError` only for an unknown `unit` or an unsafe `student`.
    """
    if unit is not None:
        course.unit(unit)
    if student is not None:
        student = checked_name(student)
    submissions: dict[tuple[str, str], Submission] = {}
    problems: list[Problem] = []
    for result in _read_all(paths, course, unit, student):
        if isinstance(result, Problem):
            problems.append(result)
            continue
        # Some file systems and login names do not tell Alice from alice: one report must not overwrite another.
        first = submissions.setdefault((result.student.casefold(), result.unit), result)
        if first is not result:
            problems.append(_given_twice(first, result))
    return list(submissions.values()), problems


def _given_twice(first: Submission, second: Submission) -> Problem:
    return BadInput(second.path, f"not graded: student '{second.student}', unit '{second.unit}' is already given by "
                                 f"{first.path}").problem


def _read_all(paths: Iterable[str | os.PathLike[str]], course: Course, unit: str | None,
              student: str | None) -> Iterator[Submission | Problem]:
    with OpenZip() as zips:
        for path in map(os.fspath, paths):
            nothing = True
            for item in choose(find(path, zips), course):
                if isinstance(item, Found) and _is_other_unit(item, course, unit):
                    continue
                nothing = False
                yield item if isinstance(item, Problem) else _read_one(item, course, unit, student)
            if nothing:
                yield BadInput(path, _nothing(course, unit)).problem


def _is_other_unit(file: Found, course: Course, unit: str | None) -> bool:
    return unit is not None and not file.named and unit_by_place(file, course) not in (unit, None)


def _nothing(course: Course, unit: str | None) -> str:
    wanted = course.units[unit] if unit else next(iter(course.units.values()))
    of_unit = f" of unit {unit}" if unit else ""
    return f"no submissions{of_unit} found; expected files like <student>/{wanted.id}/{wanted.notebook}.ipynb"


def _read_one(file: Found, course: Course, unit: str | None, student: str | None) -> Submission | Problem:
    try:
        name = student or checked_name(student_of(file, course))
        data = file.read()
        cells, notes = (read_notebook if file.is_notebook else read_script)(data, file.path)
        its_unit = course.units[unit] if unit else unit_of(file, cells, course)
        missing = exercise_notes(file, cells, its_unit, course)
    except BadInput as error:
        return error.problem
    except UsageError as error:
        return BadInput(file.path, f"{error}; rename the folder or the file").problem
    return Submission(name, its_unit.id, one_line(file.path, LONGEST_PATH), cells,
                      hashlib.sha256(data).hexdigest(), (*map(one_line, file.notes), *notes, *missing))
