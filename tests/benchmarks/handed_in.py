"""Submissions of the attention notebook whose verdict is known from how they are made."""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

from autograder.build.skeleton import CODE_STUB
from autograder.course import Course
from autograder.solution.material import Material
from autograder.solution.source import BEGIN, END, contract_of, reference_cells

UNIT = "attention"
NUMBERS = {"right": 8, "wrong": 8, "half-finished": 2, "loops in a call": 2, "loops in its cell": 1,
           "ends the process": 2, "syntax error": 1}
"""How many of each kind there are among 24."""
KINDS = tuple(NUMBERS)


@dataclass(frozen=True)
class HandedIn:
    """One submission: the source of each exercise's cell, and the exercises that must not get full marks."""

    student: str
    kind: str
    cells: dict[str, str]
    faulty: frozenset[str]

    def is_rightly_graded(self, scores: dict[str, float] | None, points: dict[str, float]) -> bool:
        """Full marks for each right exercise and for no other; `scores` by exercise, None if there is no result."""
        return scores is not None and all((scores.get(name) == points[name]) == (name not in self.faulty)
                                          for name in self.cells)


def handed_in(course: Course, number: int, kinds: Sequence[str] = KINDS) -> list[HandedIn]:
    """`number` submissions of these kinds, mixed; among 24 of all kinds as many of each as `NUMBERS` says.

    The first is a right one, if there are any: it pays for what is done once.
    """
    made = {kind: _of_kind(Material(course, course.unit(UNIT)), kind) for kind in kinds}
    return [HandedIn(f"s{index:04d}", kind, *next(made[kind])) for index, kind in
            enumerate(islice(_mixed(kinds), number))]


def _mixed(kinds: Sequence[str]) -> Iterator[str]:
    """Each kind in turn, until its number is used up; then from the start."""
    while True:
        left = {kind: NUMBERS[kind] for kind in KINDS if kind in kinds}
        while left:
            for kind in list(left):
                yield kind
                left[kind] -= 1
                if not left[kind]:
                    del left[kind]


def solutions_of(course: Course) -> dict[str, str]:
    """Exercise -> the reference's cell, without the markers."""
    unit = course.unit(UNIT)
    return {label: "\n".join(line for line in source.split("\n") if line.strip() not in (BEGIN, END))
            for label, source in reference_cells(unit.solution_path) if label in unit.exercises}


def _of_kind(material: Material, kind: str) -> Iterator[tuple[dict[str, str], frozenset[str]]]:
    right = solutions_of(material.course)
    names = list(right)

    def changed(cells: dict[str, str]) -> tuple[dict[str, str], frozenset[str]]:
        return right | cells, frozenset(cells)
    for number in count():
        chosen = names[number * 3 % len(names)]
        function = contract_of(right[chosen])[0]
        if kind == "right":  # every other one is written otherwise
            yield right | (_variants(material, right, "alternative", number // 2, names) if number % 2 else {}), \
                frozenset()
        elif kind == "wrong":  # in three exercises
            yield changed(_variants(material, right, "mistake", 5 * number,
                                    list(islice(cycle(names), number % 7, number % 7 + 6, 2))))
        elif kind == "half-finished":
            yield changed({name: CODE_STUB for name in names[number % 2::2]})
        elif kind == "loops in a call":
            yield changed({chosen: right[chosen] + f"\n\ndef {function}(*args, **kwargs):\n    while True:\n"
                                                   "        pass\n"})
        elif kind == "loops in its cell":
            yield changed({chosen: "while True:\n    pass\n\n" + right[chosen]})
        elif kind == "ends the process":
            yield changed({chosen: right[chosen] + f"\n\ndef {function}(*args, **kwargs):\n    import os\n"
                                                   "    os._exit(0)\n"})
        else:
            yield changed({chosen: right[chosen] + f"\n\ndef {function}(*args, **kwargs)\n    return args\n"})


def _variants(material: Material, right: dict[str, str], kind: str, number: int, names: Sequence[str]
              ) -> dict[str, str]:
    """Exercise -> its cell with the `number`th variant of this kind, counted round and round."""
    cells = {}
    for name in names:
        known = [one for one in material.variants if one.exercise == name and one.kind == kind]
        cells[name] = right[name] + "\n\n" + known[number % len(known)].source
    return cells


def notebook(skeleton: str, cells: dict[str, str]) -> str:
    """A released notebook with the exercises' cells filled in."""
    value = json.loads(skeleton)
    for cell in value["cells"]:
        exercise = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if exercise in cells:
            cell["source"] = cells[exercise].splitlines(keepends=True)
    return json.dumps(value, indent=1) + "\n"


def plain_source(course: Course) -> dict:
    """The notebook with its solutions and nothing else: no text, no demonstrations, no cells of ours that check.

    A grader that runs the student's whole notebook would run the demonstrations, too; ours leaves them out.
    """
    from autograder.build.skeleton import source_notebook
    value = json.loads(source_notebook(course.unit(UNIT)))
    value["cells"] = [cell for cell in value["cells"]
                      if cell["metadata"].get("etude", {}).get("role") in ("setup", "exercise")]
    for cell in value["cells"]:  # our front end loads the checks in a kernel's idle time, which would be theirs to pay
        text = "".join(cell["source"]).replace("from etude import check, hint, progress", "")
        cell["source"] = text.strip().splitlines(keepends=True)
    return value


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
