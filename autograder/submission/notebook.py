"""A Jupyter notebook's bytes -> its code cells. The bytes may be hostile; outputs are skipped unread.

nbformat and jupytext are not used: they take a second to import, validate far more than is needed, and raise whatever
the surprise happens to be. Here everything that can go wrong is one `BadInput`.
"""
from __future__ import annotations

import json
from typing import Any

from autograder.submission.cells import Cell, valid_grade_id, within_bounds, without_copies
from autograder.submission.content import decoded
from autograder.submission.problems import BadInput

MAX_CONTAINERS = 2_000_000
MAX_VALUES = 8_000_000
MAX_CELLS = 10_000
_RESAVE = "open it in a current JupyterLab and save it again"


def read_notebook(data: bytes, name: str) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """The code cells of a notebook called `name`, and notes about ids given twice or on text cells.

    Raises `BadInput`, a `UsageError`, whatever the bytes are; the message names `name` and the place.
    """
    raw_cells = _cells(_parsed(data, name), name)
    cells, weak, notes = [], set(), []
    for index, raw in enumerate(raw_cells, 1):
        kind, marks = _kind(raw, index, name), _marks(raw)
        grade_id = valid_grade_id(marks.get("grade_id"))
        if kind == "code":
            cells.append(Cell(index, _source(raw, index, name), grade_id))
            if not any(marks.get(flag) for flag in ("grade", "solution", "locked")):
                weak.add(index)
        elif grade_id and marks.get("cell_type") == "code":
            notes.append(f"cell {index} ({grade_id}) was made a {kind} cell: it is not run")
    kept, copies = without_copies(within_bounds(cells, name), frozenset(weak))
    return tuple(kept), tuple(notes + copies)


# ---------------------------------------------------------------------------------------------- bytes to JSON

def _parsed(data: bytes, name: str) -> Any:
    text = decoded(data, name, "a notebook")
    _refuse_floods(data, name)
    try:
        return json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        hint = "; was the upload cut off?" if cut else ""
        raise BadInput(name, f"not a notebook: {place}: {error.msg}{hint}") from None
    except RecursionError:
        raise BadInput(name, "not a notebook: JSON nested too deeply") from None


def _integer(digits: str) -> int:
    # Converting a million digits takes minutes in some Pythons and raises in others; no notebook needs them.
    return int(digits) if len(digits) < 20 else 0


def _refuse_floods(data: bytes, name: str) -> None:
    """`[[],[],[], ...]` takes 24 times its size as Python objects: 64 MiB of it could kill the grader."""
    if data.count(b"[") + data.count(b"{") <= MAX_CONTAINERS and data.count(b",") <= MAX_VALUES:
        return
    containers, commas = _outside_strings(data)
    if containers > MAX_CONTAINERS or commas > MAX_VALUES:
        raise BadInput(name, f"not a notebook: {containers:,} lists and {commas:,} commas are more than it can need")


def _outside_strings(data: bytes) -> tuple[int, int]:
    """How many brackets and commas are not part of a string, counted without parsing."""
    import numpy as np  # only for the rare notebook whose output is a flood of brackets

    text = np.frombuffer(data.replace(b"\\\\", b"").replace(b'\\"', b""), dtype=np.uint8)
    # One byte a sum is enough: only its parity counts.
    outside = np.cumsum(text == ord('"'), dtype=np.uint8) & 1 == 0
    brackets = ((text == ord("[")) | (text == ord("{"))) & outside
    return int(np.count_nonzero(brackets)), int(np.count_nonzero((text == ord(",")) & outside))


# ---------------------------------------------------------------------------------------------- JSON to cells

def _cells(notebook: Any, name: str) -> list[Any]:
    if not isinstance(notebook, dict):
        raise BadInput(name, f"not a notebook: expected a JSON object, got {_kind_of(notebook)}")
    version = notebook.get("nbformat")
    if "worksheets" in notebook or version in (1, 2, 3):
        raise BadInput(name, f"a notebook of format {_short(version)}, which is too old: {_RESAVE}")
    if version != 4:
        raise BadInput(name, f"not a notebook: expected \"nbformat\": 4, got {_short(version)}; {_RESAVE}")
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        raise BadInput(name, f"not a notebook: expected a list of cells, got {_kind_of(cells)}")
    if len(cells) > MAX_CELLS:
        raise BadInput(name, f"{len(cells):,} cells; at most {MAX_CELLS:,} are read")
    return cells


def _kind(cell: Any, index: int, name: str) -> str:
    if not isinstance(cell, dict):
        raise BadInput(name, f"cell {index}: expected a JSON object, got {_kind_of(cell)}")
    kind = cell.get("cell_type")
    if kind not in ("code", "markdown", "raw"):
        raise BadInput(name, f"cell {index}: expected a cell_type of code, markdown or raw, got {_short(kind)}")
    return kind


def _marks(cell: dict[str, Any]) -> dict[str, Any]:
    """nbgrader's metadata of a cell; empty where a student's tool left something else in its place."""
    metadata = cell.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return marks if isinstance(marks, dict) else {}


def _source(cell: dict[str, Any], index: int, name: str) -> str:
    source = cell.get("source")
    if isinstance(source, str):
        return source
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        return "".join(source)
    raise BadInput(name, f"cell {index}: source: expected text or a list of lines, got {_kind_of(source)}")


def _short(value: Any) -> str:
    return repr(value)[:40] if isinstance(value, (str, int, float)) else _kind_of(value)


def _kind_of(value: Any) -> str:
    if isinstance(value, list) and any(not isinstance(item, str) for item in value):
        return "a list"
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
