"""Whose submission a file is, for which unit, and whether it can be graded at all."""
from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from autograder.submission.cells import Cell
from autograder.submission.found import Found
from autograder.submission.problems import BadInput

if TYPE_CHECKING:
    from autograder.course import Course, Unit

# A look at the text, no more: students' code is parsed in the sealed worker only.
_DEFINITION = re.compile(r"^[ \t]*(?:async[ \t]+def|def|class)[ \t]", re.MULTILINE)


def student_of(file: Found, course: Course) -> str:
    """`<student>/<unit>/x.ipynb`, `<student>/<notebook of a unit>.ipynb` or `<student>.ipynb`. Raises `BadInput`."""
    if file.lies_in_unit(course.units):
        return file.parts[-3]
    names = {unit.notebook for unit in course.units.values()} | course.units.keys()
    student = file.folder if file.stem in names else file.stem
    if student in names or not student:
        raise BadInput(file.path, "cannot tell whose it is: call it <student>.ipynb, or put it in a folder <student>/")
    return student


def unit_by_place(file: Found, course: Course) -> str | None:
    """The unit that the folder's or else the file's name tells."""
    by_name = (unit.id for unit in course.units.values() if file.stem in (unit.notebook, unit.id))
    return file.unit_folder(course.units) or next(by_name, None)


def unit_of(file: Found, cells: tuple[Cell, ...], course: Course) -> Unit:
    """The unit by the folder, the cells' ids, the file's name, or because there is one only. Raises `BadInput`."""
    in_folder = file.unit_folder(course.units)
    if in_folder:
        return course.units[in_folder]
    ids = {cell.grade_id for cell in cells}
    by_ids = max(course.units.values(), key=lambda unit: len(ids & unit.exercises.keys()))
    if ids & by_ids.exercises.keys() or len(course.units) == 1:
        return by_ids
    by_name = unit_by_place(file, course)
    if by_name:
        return course.units[by_name]
    raise BadInput(file.path, "cannot tell the unit: no cell has an exercise's id; name the unit, or put the file in "
                              f"a folder called like it ({_few(course.units)})")


def exercise_notes(file: Found, cells: tuple[Cell, ...], unit: Unit, course: Course) -> list[str]:
    """A note for every exercise whose cell is not there. Raises `BadInput` when there is nothing to grade."""
    ids = {cell.grade_id for cell in cells}
    if ids & unit.exercises.keys():
        return [f"cell of exercise '{exercise}' is missing; its functions are looked for in the other cells"
                for exercise in unit.exercises if exercise not in ids]
    other = next((other for other in course.units.values() if ids & other.exercises.keys()), None)
    if other is None and any(_DEFINITION.search(cell.source) for cell in cells):
        return ["no cell has the id of an exercise; all functions are looked for in all cells"]
    origin = f"these are exercises of unit {other.id}" if other else "was this made from the released notebook?"
    raise BadInput(file.path, f"no exercise cells of unit {unit.id}: expected cells with the ids "
                              f"{_few(unit.exercises)}; {origin}")


def _few(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
