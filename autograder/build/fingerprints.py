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
from pathlib import Path
from typing import Any

import torch

from autograder.build.probes import record_probes
from autograder.errors import UsageError
from autograder.solution.material import Material
from autograder.variants import Variant
from etude.check_file import CheckFileError
from etude.executor import LOAD, Executor
from etude.observe import tensors_in
from etude.students.findings import Diagnosis
from etude.students.fingerprints import answers, encode_probe, in_steps, largest_log, lock, mark_of, unlock
from etude.students.released import FINGERPRINTS_SCHEMA
from etude.wire import encode

CLEAR = {torch.float64: 1e-3, torch.float32: 5e-2}
"""How wrong an answer must be, relative to the right one's largest value, to be used in a lock."""
MAX_USABLE = 12
"""Probes that are looked at for one mistake."""
SETTLED = {torch.float64: 1e-5, torch.float32: 5e-4}
"""How far from a rounding boundary, in steps, every value must be: well beyond the honest rounding error."""
SETTLED_LOG = {torch.float64: 1e-9, torch.float32: 1e-5}
"""How far from a decade's beginning, in decades, the largest value must be."""


def fingerprints(material: Material, checks_text: str, name: str, made_of: str) -> str:
    """The text of the unit's fingerprint file; `checks_text` is its released check file, called `name`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the notebook: it changes rounding
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(checks_text, encoding="utf-8")
            candidates = record_probes(material, path)
    except CheckFileError as error:
        raise UsageError(f"the public checks cannot be run: {error}") from None
    finally:
        torch.set_num_threads(threads)
    exercises = {exercise: entry for exercise in material.unit.exercises
                 if (entry := _entry(material, exercise, candidates.get(exercise, [])))["boxes"]}
    return json.dumps({"schema": FINGERPRINTS_SCHEMA, "made_of": made_of, "exercises": exercises}, indent=1) + "\n"


# ---------------------------------------------------------------------------------------------- one exercise

class _Program:
    """A program and its marks on the probes, asked for when they are needed."""

    def __init__(self, program: Sequence[dict[str, str]], probes: list[dict[str, Any]], variant: Variant | None = None):
        self.variant, self._probes = variant, probes
        self._executor = Executor()
        self._executor.handle(LOAD, encode({"cells": list(program)}))
        self._answers: dict[int, Any] = {}
        self._marks: dict[int, bytes | None] = {}

    def answer(self, index: int) -> Any:
        if index not in self._answers:
            self._answers[index] = answers(self._executor, self._probes[index])
        return self._answers[index]

    def mark(self, index: int) -> bytes | None:
        if index not in self._marks:
            answer = self.answer(index)
            self._marks[index] = None if answer is None else mark_of(answer)
        return self._marks[index]

    def diagnosis(self) -> Diagnosis:
        assert self.variant is not None
        return Diagnosis(self.variant.title, self.variant.hint)


def _entry(material: Material, exercise: str, probes: list[dict[str, Any]]) -> dict[str, Any]:
    right = _Program(material.reference_program, probes)
    variants = {kind: [_Program(material.variant_program(one), probes, one) for one in material.variants
                       if one.exercise == exercise and one.kind == kind] for kind in ("mistake", "alternative")}
    known = variants["mistake"]
    locks = {one: pairs for one in known if (pairs := _pairs(one, known, right, len(probes)))}
    boxes = _boxes(exercise, locks, known, [right, *variants["alternative"]])
    used = sorted({index for box in boxes for index in box["probes"]})
    return {"probes": {str(index): encode_probe(probes[index]) for index in used}, "boxes": boxes}


def _is_usable(one: _Program, right: _Program, index: int) -> bool:
    given, wanted = one.answer(index), right.answer(index)
    return given is not None and (wanted is None or _clearly_differ(given, wanted)) and _settled(given)


def _clearly_differ(one: Any, other: Any) -> bool:
    first, second = list(tensors_in(one)), list(tensors_in(other))
    if len(first) != len(second) or _shapes(one) != _shapes(other):
        return True
    return any(_values_differ(a.detach(), b.detach()) for a, b in zip(first, second, strict=True))


def _values_differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.is_floating_point():
        return not torch.equal(one, other)
    if one.dtype not in CLEAR:
        return False  # marks do not see the values of smaller dtypes
    if not torch.equal(torch.isfinite(one), torch.isfinite(other)):
        return True
    finite = torch.isfinite(other)
    scale = max(float(other[finite].abs().max()) if bool(finite.any()) else 0.0, 1e-3)
    return bool(((one - other)[finite].abs() > CLEAR[one.dtype] * scale).any())


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
        if tensor.dtype in SETTLED and tensor.numel():
            log = largest_log(tensor.detach())
            steps, _ = in_steps(tensor.detach())
            near_a_step = (steps - steps.floor() - 0.5).abs() < SETTLED[tensor.dtype]
            if abs(log - round(log)) < SETTLED_LOG[tensor.dtype] or bool(near_a_step.any()):
                return False
    return True


# ---------------------------------------------------------------------------------------------- choosing probes

def _pairs(one: _Program, known: list[_Program], right: _Program, count: int) -> list[tuple[int, int]]:
    """Three pairs out of three probes (one of two) on which no other mistake leaves the same two marks.

    With three, a value that is rounded the other way on one probe leaves a pair that still opens.
    """
    usable: list[int] = []
    best: list[tuple[int, int]] = []
    for index in range(count):
        if not _is_usable(one, right, index):
            continue
        usable.append(index)
        for size in (3, 2):
            # Every choice that has the new probe in it; the others have been tried.
            for chosen in itertools.combinations(usable[:-1], size - 1):
                pairs = list(itertools.combinations([*chosen, index], 2))
                if len(pairs) > len(best) and not any(_opens(other, one, pairs) for other in known if other is not one):
                    best = pairs
        if len(best) == 3 or len(usable) >= MAX_USABLE:
            break
    # A mistake that another one contains cannot be told from it by its own answers alone: see `_boxes`.
    return best or list(itertools.combinations(usable[:3], 2))


def _opens(other: _Program, one: _Program, pairs: list[tuple[int, int]]) -> bool:
    return any(other.mark(i) == one.mark(i) and other.mark(j) == one.mark(j) for i, j in pairs)


def _boxes(exercise: str, locks: dict[_Program, list[tuple[int, int]]], known: list[_Program],
           honest: list[_Program]) -> list[dict[str, Any]]:
    """The boxes in the order in which they are tried, without those that would name something wrongly.

    A mistake that opens another's lock as well is asked for first: it is the other one, and something more.
    """
    order = sorted(locks, key=lambda one: sum(_opens(other, one, locks[one]) for other in known))
    while True:
        boxes = [(one, lock(exercise, pair, (one.mark(pair[0]), one.mark(pair[1])), one.diagnosis()))
                 for one in order for pair in locks[one]]
        wrong = {found for program in [*known, *honest] if (found := _first(exercise, boxes, program)) is not None
                 and found is not program}
        if not wrong:
            return [box for _, box in boxes]
        order = [one for one in order if one not in wrong]


def _first(exercise: str, boxes: list[tuple[_Program, dict[str, Any]]], program: _Program) -> _Program | None:
    """Whose box a program opens first."""
    for one, box in boxes:
        marks = {index: program.mark(index) for index in box["probes"]}
        if unlock(exercise, box, marks):
            return one
    return None
