"""The speed checks of a unit: what its check file marks `@speed`, with the workloads that each returns."""
from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from autograder.course import Unit
from autograder.errors import UsageError
from autograder.one_line import one_line
from etude.kernels.workload import Workload


@dataclass(frozen=True)
class SpeedCheck:
    """One speed check of an exercise."""

    name: str
    exercise: str
    title: str
    points: float
    workloads: Sequence[Workload]


def speed_checks(unit: Unit, exercises: Sequence[str] | None = None) -> list[SpeedCheck]:
    """The speed checks of a unit, or of some of its exercises. Raises `UsageError` for a check that gives none."""
    path = unit.checks_path
    if not path.exists():
        raise UsageError(f"{path}: no such file; every notebook has a file of checks")
    if "speed" not in path.read_text(encoding="utf-8"):
        return []  # nothing to run the file for
    found = []
    for name, function in vars(_loaded(unit)).items():
        marks = {mark.name: mark.args for mark in getattr(function, "pytestmark", [])}
        if "speed" not in marks or not callable(function):
            continue
        exercise = str(marks.get("exercise", ("",))[0])
        if exercises is not None and exercise not in exercises:
            continue
        workloads = _workloads(f"{path.name}: {name}", function)
        title = (function.__doc__ or name).strip().split("\n")[0]
        found.append(SpeedCheck(name, exercise, title, float(marks.get("points", (0,))[0]), workloads))
    return found


def _loaded(unit: Unit) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{unit.notebook}_checks", unit.checks_path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{unit.checks_path}: {type(error).__name__}: {one_line(str(error))}") from None
    return module


def _workloads(place: str, function: object) -> list[Workload]:
    try:
        found = list(function())
    except Exception as error:
        raise UsageError(f"{place}: {type(error).__name__}: {one_line(str(error))}") from None
    if not found or not all(isinstance(one, Workload) for one in found):
        raise UsageError(f"{place}: a speed check returns a list of etude.kernels.workload.Workload")
    return found
