"""`<notebook>_etude.json`: what the student's side knows of the course: titles, hints, limits, the other units."""
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from autograder.solution.source import SourceCell, hints_of

if TYPE_CHECKING:
    from autograder.course import Course, Unit

SCHEMA = 1


def facts(course: Course, unit: Unit, cells: list[SourceCell]) -> str:
    """The text of the unit's facts. The same course gives the same bytes."""
    hints = hints_of(unit.solution_path, cells)
    limits = course.limits.model_dump(include={"call_seconds", "exercise_seconds", "memory_mb"})
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "course": course.title,
        "unit": unit.id,
        "title": unit.title,
        "limits": limits,
        "exercises": {id: {"title": one.title, "minutes": one.minutes, "difficulty": one.difficulty,
                           "hints": hints.get(id, [])} for id, one in unit.exercises.items()},
        "units": {id: {"title": one.title, "notebook": one.notebook, "exercises": len(one.exercises)}
                  for id, one in course.units.items()},
    }
    if unit.triton:
        value["triton"] = True
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
