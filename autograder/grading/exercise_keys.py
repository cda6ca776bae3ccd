"""What of the course and of a submission the result of one exercise hangs on, as a digest.

Equal keys, equal results, as long as seed, versions and grader are the same: a report's provenance names these.
"""
from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autograder.solution.material import Material
from autograder.submission.cells import Submission
from autograder.submission.program import program_for

_DECISIVE = ("torch", "numpy", "hypothesis")


class ExerciseKeys:
    """The keys of a unit."""

    def __init__(self, material: Material):
        self._material = material
        unit, course = material.unit, material.course
        self._common = _digest([unit.id, unit.triton, course.limits.model_dump(mode="json"), course.preload,
                                material.reference_program])
        parts = material.check_parts
        self.order: tuple[str, ...] | None = tuple(parts) if parts is not None else None
        """The exercises as a report has them; None where the check file was not understood."""
        self._of_course = {id: self._part_of_course(id, (parts or {}).get(id)) for id in unit.exercises}

    def _part_of_course(self, exercise: str, checks: str | None) -> str:
        entry = self._material.unit.exercises[exercise]
        mistakes = [[v.id, v.title, v.hint, v.source] for v in self._material.variants
                    if v.kind == "mistake" and v.exercise == exercise]
        if checks is None:
            checks = self._material.unit.checks_path.read_text(encoding="utf-8")
        return _digest([self._common, exercise, entry.title, entry.points, entry.forbid, checks, mistakes,
                        exercise in self._material.unit.seeds_per_student])

    def of(self, submission: Submission) -> dict[str, str]:
        """Exercise -> key, for every exercise of the unit."""
        setup, given = self._material.setup, self._material.given
        digests: dict[str, str] = {}  # the programs of all exercises hold almost the same cells

        def step(cell: Mapping[str, str]) -> list[str]:
            source = cell["source"]
            if source not in digests:
                digests[source] = hashlib.sha256(source.encode("utf-8", "backslashreplace")).hexdigest()
            return [cell["label"], cell["mode"], digests[source]]
        return {exercise: _digest([part, [step(cell) for cell in program_for(submission, exercise, setup, given)]])
                for exercise, part in self._of_course.items()}


@cache
def versions() -> dict[str, str]:
    """What else a grade hangs on: the versions of what examples are drawn and computed with."""
    return {"python": platform.python_version(), **{name: version(name) for name in _DECISIVE}}


@cache
def grader_digest() -> str:
    """SHA-256 of the source of this grader: a report hangs on it as on the versions of libraries."""
    import autograder
    import etude
    found = hashlib.sha256()
    for package in (autograder, etude):
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            if "__pycache__" not in path.parts:
                found.update(f"{root.name}/{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
