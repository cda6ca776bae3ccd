"""What the released fingerprints make of every variant: the students' side of the grader's proof."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autograder.build.build import fingerprints_path
from autograder.errors import UsageError
from autograder.solution.material import Material
from autograder.variants import Variant
from etude.cells import load_program
from etude.students.fingerprints import OtherRules, diagnose
from etude.students.released import read_json


def released_names(material: Material, exercise: str, variants: Sequence[Variant]) -> tuple[int, list[str]]:
    """(how many mistakes are named in the notebook, what is wrong: a mistake misnamed, a right program named).

    Of `variants`, those of the exercise are looked at, and the reference. Raises `UsageError` for a file that was
    made by other rules.
    """
    path = fingerprints_path(material.unit)
    try:
        return _released_names(material, exercise, variants, read_json(path))
    except OtherRules:
        raise UsageError(f"{path}: made by another version of Etude; run `autograder build` first") from None


def _released_names(material: Material, exercise: str, variants: Sequence[Variant],
                    released: dict[str, Any]) -> tuple[int, list[str]]:
    named, wrong = 0, []
    for variant in [None, *(one for one in variants if one.exercise == exercise)]:
        program = material.variant_program(variant) if variant else material.reference_program
        found = diagnose(exercise, released, load_program(program).namespace)
        if found is None:
            continue
        name = variant.id if variant else "the reference"
        if variant is None or variant.kind != "mistake" or found.title != variant.title:
            wrong.append(f"in the notebook {name} is named \"{found.title}\"")
        named += 1
    return named, wrong
