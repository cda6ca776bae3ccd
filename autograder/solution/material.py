"""What grading a unit needs from the course: its reference, its checks, its known mistakes. All of it is secret."""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace

from autograder.course import Course, Unit
from autograder.errors import AutograderError, UsageError
from autograder.solution.check_parts import parts_of
from autograder.solution.percent import read_blocks
from autograder.solution.source import contract_of, reference_cells, setup_sources
from autograder.variants import Variant, load_variants


@dataclass(frozen=True)
class Material:
    """One unit's secrets, loaded when first asked for."""

    course: Course
    unit: Unit

    @cached_property
    def setup(self) -> list[str]:
        return setup_sources(self.unit.solution_path)

    @cached_property
    def given(self) -> frozenset[str]:
        """The released demonstration cells: left as they were, they are not run in grading."""
        return frozenset(block.text.strip() for block in read_blocks(self.unit.solution_path)
                         if block.is_code and not block.options)

    @cached_property
    def reference_program(self) -> list[dict[str, str]]:
        """The cells of the reference, as `etude.cells.load_program` takes them."""
        return [{"label": f"reference ({label})", "source": source, "mode": "all"}
                for label, source in reference_cells(self.unit.solution_path)]

    def contract(self, exercise: str) -> list[str]:
        """The functions and classes that the reference's cell of this exercise defines."""
        cells = [cell for cell in self.reference_program if cell["label"] == f"reference ({exercise})"]
        return [name for cell in cells for name in contract_of(cell["source"])]

    @cached_property
    def reference(self) -> SimpleNamespace:
        """The reference's functions and classes, in this process."""
        from etude.cells import load_program
        program = load_program(self.reference_program)
        if program.errors:
            raise AutograderError(f"{self.unit.solution_path}: {program.errors[0]}")
        return SimpleNamespace(**{k: v for k, v in program.namespace.items() if not k.startswith("__")})

    @cached_property
    def variants(self) -> list[Variant]:
        variants = load_variants(self.unit.variants_path)
        for variant in variants:
            if variant.exercise not in self.unit.exercises:
                raise UsageError(f"{self.unit.variants_path}: {variant.id} names the exercise {variant.exercise!r}, "
                                 f"which course.yml does not have in unit {self.unit.id}")
        return variants

    def variant_program(self, variant: Variant) -> list[dict[str, str]]:
        """The reference with the variant's functions in place of its own."""
        cell = {"label": f"variant ({variant.id})", "source": variant.source, "mode": "all"}
        return [*self.reference_program, cell]

    @cached_property
    def check_parts(self) -> dict[str, str] | None:
        """Exercise -> what its checks are made of, in their order; None where that cannot be told."""
        parts = parts_of(self.unit.checks_path.read_text(encoding="utf-8"))
        return parts if parts is not None and parts.keys() == self.unit.exercises.keys() else None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of the course that decides a grade: reference, checks, mistakes, entries of course.yml."""
        entries = [[id, one.title, one.points, one.forbid] for id, one in self.unit.exercises.items()]
        found = hashlib.sha256(self.course.limits.model_dump_json().encode())
        found.update(json.dumps([self.unit.id, self.course.preload, entries]).encode())
        for path in (self.unit.solution_path, self.unit.checks_path, self.unit.variants_path):
            found.update(path.read_bytes() + b"\0")
        if self.unit.seeds_per_student:
            found.update(repr(self.unit.seeds_per_student).encode())
        return found.hexdigest()


def verify_points(material: Material, totals: dict[str, float]) -> None:
    """Raise `UsageError` unless the checks of every exercise add up to its points in course.yml."""
    for id, exercise in material.unit.exercises.items():
        found = totals.get(id, 0.0)
        if round(found - exercise.points, 6):
            raise UsageError(f"course.yml: {material.unit.id}.{id} is worth {exercise.points:g} points, its checks in "
                             f"{material.unit.checks_path.name} add up to {found:g}")
    extra = sorted(totals.keys() - material.unit.exercises.keys())
    if extra:
        raise UsageError(f"{material.unit.checks_path.name}: checks for {', '.join(extra)}, which course.yml does not "
                         f"have in unit {material.unit.id}")
