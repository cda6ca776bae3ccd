"""A Python file's bytes -> cells: a percent script (`# %%` starts a cell), or any script as a single cell.

Three dialects give a cell its grade id: the course's own `# %% exercise="sdpa_masked"`, the metadata that jupytext
writes for a converted notebook, `# %% nbgrader={"grade_id": "sdpa_masked", ...}`, and none at all.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from autograder.submission.cells import Cell, valid_grade_id, within_bounds, without_copies
from autograder.submission.content import decoded
from autograder.submission.problems import BadInput

MAX_LINES = 200_000
_MARKER = re.compile(r"#[ \t]*%%+(?:\s+(?P<header>.*))?$")
_TEXT_CELL = re.compile(r"[^\"'={]*\[(markdown|md|raw)\]")
_ID = re.compile(r"""\bexercise=(?:"([^"]*)"|'([^']*)')|"grade_id": ?"([^"]*)\"""")


def read_script(data: bytes, name: str) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """The code cells of a Python file called `name`, and notes about ids given twice. Raises `BadInput`."""
    # str.splitlines would also cut at form feeds and the like, which Python code may contain.
    lines = decoded(data, name, "a Python script").replace("\r\n", "\n").split("\n")
    if len(lines) > MAX_LINES:
        raise BadInput(name, f"{len(lines):,} lines; at most {MAX_LINES:,} are read")
    kept, copies = without_copies(within_bounds(_cells(lines), name))
    return tuple(kept), tuple(copies)


def _cells(lines: list[str]) -> Iterator[Cell]:
    marks = [number for number, line in enumerate(lines) if _MARKER.match(line)]
    first = marks[0] if marks else len(lines)
    head = lines[:first]
    index = 0
    if any(line.strip() and not line.startswith("#") for line in head):
        index = 1
        yield Cell(index, "\n".join(head).strip("\n"))
    for start, end in pairwise([*marks, len(lines)]):
        index += 1
        header = (_MARKER.match(lines[start])["header"] or "").strip()  # type: ignore[index]
        if not _TEXT_CELL.match(header):
            yield Cell(index, "\n".join(lines[start + 1:end]).strip("\n"), _grade_id(header))


def _grade_id(header: str) -> str | None:
    match = _ID.search(header)
    return valid_grade_id(next(group for group in match.groups() if group is not None)) if match else None
