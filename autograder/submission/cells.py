"""A submission as the rest of the grader sees it: who, which unit, and cells of text that nothing here executes."""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from autograder.submission.problems import BadInput

MAX_CELL_BYTES = 256 << 10
MAX_CODE_BYTES = 1 << 20
CHECK_PREFIX = "check_"
"""`check_<exercise>` is the grade id of the locked cell that checks an exercise."""

_GRADE_ID = re.compile(r"[A-Za-z0-9_\-]{1,100}")


@dataclass(frozen=True)
class Cell:
    """A code cell."""

    index: int
    """Its place among all cells of the notebook, text cells too, counted from 1."""
    source: str
    grade_id: str | None = None

    @property
    def is_check(self) -> bool:
        return self.grade_id is not None and self.grade_id.startswith(CHECK_PREFIX)


@dataclass(frozen=True)
class Submission:
    """What one student handed in for one unit."""

    student: str
    unit: str
    path: str
    """As the user named it, unprintable characters escaped; in a zip `class.zip!alice/attention/attention.ipynb`."""
    cells: tuple[Cell, ...]
    digest: str
    """SHA-256 of the file's bytes, in hexadecimal."""
    notes: tuple[str, ...] = ()
    """What staff and student should know: a cell missing or given twice."""
    only: frozenset[str] | None = None
    """The exercises that are to be graded; None for all of the unit."""


def valid_grade_id(value: object) -> str | None:
    """The value if it can be a grade id, else nothing: students' metadata may hold anything."""
    return value if isinstance(value, str) and _GRADE_ID.fullmatch(value) else None


def within_bounds(cells: Iterable[Cell], name: str) -> list[Cell]:
    """The cells, if none is too large for a worker to parse. Raises `BadInput` naming the first that is."""
    kept, total = [], 0
    for cell in cells:
        encoded = cell.source.encode("utf-8", "replace")
        if len(encoded) > MAX_CELL_BYTES:
            raise BadInput(name, f"cell {cell.index}: {len(encoded) >> 10} KiB of code; "
                                 f"at most {MAX_CELL_BYTES >> 10} KiB are read")
        total += len(encoded)
        # JSON can spell half a character; the worker could not be sent such text.
        kept.append(replace(cell, source=encoded.decode()))
    if total > MAX_CODE_BYTES:
        raise BadInput(name, f"{total >> 10} KiB of code in all; at most {MAX_CODE_BYTES >> 10} KiB are read")
    return kept


def without_copies(cells: list[Cell], weak: frozenset[int] = frozenset()) -> tuple[list[Cell], list[str]]:
    """Every grade id on one cell only, and a note for each id that stood on several.

    The last copy keeps the id, as nbgrader's `DeduplicateIds` chooses. `weak` are the indices of cells that nbgrader
    passes over because they are marked neither as solution nor as graded nor as locked: they keep their id only if no
    other cell has it. A copy of a check cell is dropped; other copies become cells without id.
    """
    keeper: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda cell: (cell.index not in weak, cell.index)):
        if cell.grade_id is not None:
            keeper[cell.grade_id] = cell
    kept, notes = [], []
    for cell in cells:
        chosen = keeper.get(cell.grade_id or "", cell)
        if chosen is cell:
            kept.append(cell)
            continue
        notes.append(f"cell {cell.index} and cell {chosen.index} both have the id {cell.grade_id!r}; "
                     f"cell {chosen.index} counts")
        if not cell.is_check:
            kept.append(replace(cell, grade_id=None))
    return kept, notes
