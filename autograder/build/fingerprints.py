"""`<notebook>_fingerprints.json`: the known mistakes of a unit, locked with the marks that they leave on probes.

A mistake is released only if it can be told apart: on two probes at least its answer is clearly wrong and settled (no
value so near a rounding boundary that another machine might round it the other way), and no other mistake leaves the
same marks on both. What is made is tried at once: every mistake must open its own lock and none before it, and the
reference and every alternative must open none.
"""
from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from etude.executor import LOAD, Executor
from etude.findings import Diagnosis
from etude.fingerprints import answers, encode_probe, in_steps, largest_log, lock, mark_of, unlock
from etude.observe import tensors_in
from etude.wire import encode

from autograder.build.digest import SCHEMA
from autograder.build.probes import record_probes
from autograder.grading.material import Material
from autograder.variants import Variant

CLEAR = 1e-3
"""How wrong an answer must be, relative to the right one's largest value, to be used in a lock."""
SETTLED = 1e-5
"""How far from a rounding boundary, in steps, every value must be: a hundred times the honest rounding error."""


def fingerprints(material: Material, checks_text: str, name: str, made_of: str) -> str:
    """The text of the unit's fingerprint file; `checks_text` is its released check file, called `name`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the notebook: it changes rounding
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(checks_text, encoding="utf-8")
            candidates = record_probes(material, path)
    finally:
        torch.set_num_threads(threads)
    exercises = {exercise: entry for exercise in material.unit.exercises
                 if (entry := _entry(material, exercise, candidates.get(exercise, [])))["boxes"]}
    return json.dumps({"schema": SCHEMA, "made_of": made_of, "exercises": exercises}, indent=1) + "\n"


# ---------------------------------------------------------------------------------------------- one exercise

@dataclass
class _Known:
    """A mistake and what it answers: by probe, its mark, and whether a lock can be made of it."""

    variant: Variant
    marks: list[bytes | None]
    usable: list[bool]


def _entry(material: Material, exercise: str, probes: list[dict[str, Any]]) -> dict[str, Any]:
    right = _answers(material.reference_program, probes)
    known = [_known(material, variant, probes, right) for variant in material.variants
             if variant.exercise == exercise and variant.kind == "mistake"]
    honest = [[None if a is None else mark_of(a) for a in right]]
    honest += [_marks(material.variant_program(v), probes) for v in material.variants
               if v.exercise == exercise and v.kind == "alternative"]
    locks = [(one, pairs) for one in known if (pairs := _pairs(one, known))]
    boxes = _boxes(exercise, _most_special_first(locks, known), known, honest)
    return _compact(probes, boxes)


def _answers(program: Sequence[dict[str, str]], probes: list[dict[str, Any]]) -> list[Any]:
    executor = Executor()
    executor.handle(LOAD, encode({"cells": list(program)}))
    return [answers(executor, probe) for probe in probes]


def _marks(program: Sequence[dict[str, str]], probes: list[dict[str, Any]]) -> list[bytes | None]:
    return [None if answer is None else mark_of(answer) for answer in _answers(program, probes)]


def _known(material: Material, variant: Variant, probes: list[dict[str, Any]], right: list[Any]) -> _Known:
    given = _answers(material.variant_program(variant), probes)
    usable = [one is not None and (other is None or _clearly_differ(one, other)) and _settled(one)
              for one, other in zip(given, right, strict=True)]
    return _Known(variant, [None if one is None else mark_of(one) for one in given], usable)


def _clearly_differ(one: Any, other: Any) -> bool:
    first, second = list(tensors_in(one)), list(tensors_in(other))
    if len(first) != len(second) or _shapes(one) != _shapes(other):
        return True
    return any(_values_differ(a.detach(), b.detach()) for a, b in zip(first, second, strict=True))


def _values_differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.is_floating_point():
        return not torch.equal(one, other)
    if one.dtype is not torch.float64:
        return False  # marks do not see the values of smaller dtypes
    if not torch.equal(torch.isfinite(one), torch.isfinite(other)):
        return True
    finite = torch.isfinite(other)
    scale = max(float(other[finite].abs().max()) if bool(finite.any()) else 0.0, 1e-3)
    return bool(((one - other)[finite].abs() > CLEAR * scale).any())


def _shapes(tree: Any) -> Any:
    """The structure of an answer without its values."""
    if isinstance(tree, torch.Tensor):
        return f"{tuple(tree.shape)} {tree.dtype} {tree.requires_grad}"
    if isinstance(tree, (list, tuple)):
        return [_shapes(item) for item in tree]
    if isinstance(tree, dict):
        return {key: _shapes(item) for key, item in tree.items()}
    return type(tree).__name__


def _settled(answer: Any) -> bool:
    for tensor in tensors_in(answer):
        if tensor.dtype is torch.float64 and tensor.numel():
            log = largest_log(tensor.detach())
            steps, _ = in_steps(tensor.detach())
            if abs(log - round(log)) < 1e-9 or bool(((steps - steps.floor() - 0.5).abs() < SETTLED).any()):
                return False
    return True


# ---------------------------------------------------------------------------------------------- choosing probes

def _pairs(one: _Known, known: list[_Known]) -> list[tuple[int, int]]:
    """Three pairs out of three probes (one of two) on which no other mistake leaves the same two marks.

    With three, a value that is rounded the other way on one probe leaves a pair that still opens.
    """
    usable = [i for i, use in enumerate(one.usable) if use]
    shared = {i: sum(other is not one and other.marks[i] == one.marks[i] for other in known) for i in usable}
    ranked = sorted(usable, key=lambda i: (shared[i], i))
    for size in (3, 2):
        for chosen in itertools.islice(itertools.combinations(ranked, size), 2000):
            pairs = list(itertools.combinations(sorted(chosen), 2))
            if not any(_opens(other, one, pairs) for other in known if other is not one and other not in _twins(one, known)):
                return pairs
    return list(itertools.combinations(sorted(ranked[:3]), 2)) if len(ranked) > 1 else []


def _twins(one: _Known, known: list[_Known]) -> list[_Known]:
    return [other for other in known if other is not one and other.marks == one.marks]


def _opens(other: _Known, one: _Known, pairs: list[tuple[int, int]]) -> bool:
    return any(other.marks[i] == one.marks[i] and other.marks[j] == one.marks[j] for i, j in pairs)


def _most_special_first(locks: list, known: list[_Known]) -> list:
    """A mistake that opens another's lock as well must be asked for first: it is the other one, and something more."""
    def opened_by(entry: tuple[_Known, list[tuple[int, int]]]) -> int:
        return sum(_opens(other, *entry) for other in known)
    return sorted(locks, key=opened_by)


def _boxes(exercise: str, locks: list, known: list[_Known], honest: list[list[bytes | None]]) -> list[dict[str, Any]]:
    """The boxes in the order in which they are tried, without those that would name something wrongly."""
    while True:
        boxes = [(one, lock(exercise, pair, (one.marks[pair[0]], one.marks[pair[1]]),
                            Diagnosis(one.variant.title, one.variant.hint))) for one, pairs in locks for pair in pairs]
        wrong = {id(_first(exercise, boxes, other.marks)) for other in known
                 if _first(exercise, boxes, other.marks) not in (None, other)}
        wrong |= {id(found) for marks in honest if (found := _first(exercise, boxes, marks))}
        if not wrong:
            return [box for _, box in boxes]
        locks = [(one, pairs) for one, pairs in locks if id(one) not in wrong]


def _first(exercise: str, boxes: list[tuple[_Known, dict[str, Any]]], marks: list[bytes | None]) -> _Known | None:
    return next((one for one, box in boxes if unlock(exercise, box, marks)), None)


def _compact(probes: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> dict[str, Any]:
    """Only the probes that a box needs, numbered anew, and the boxes locked as before: a lock knows its numbers."""
    used = sorted({index for box in boxes for index in box["probes"]})
    return {"probes": {str(index): encode_probe(probes[index]) for index in used}, "boxes": boxes}
