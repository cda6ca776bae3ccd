"""A notebook's file as cells to run: for the terminal and for Validate, where no kernel holds the functions."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 64 << 20


class NotReadable(Exception):
    """The file is no notebook. The message names it."""


def read_cells(path: Path) -> list[dict[str, str]]:
    """The code cells as `etude.cells.load_program` takes them: setup and exercises whole, of the others definitions."""
    cells = []
    for number, cell in enumerate(_raw_cells(path), 1):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
        role = _text(metadata.get("etude"), "role")
        id = _text(metadata.get("nbgrader"), "grade_id")
        if role == "check" or id.startswith("check_"):
            continue
        source = cell.get("source", "")
        source = "".join(map(str, source)) if isinstance(source, list) else str(source)
        own = role in ("setup", "exercise") or bool(id)
        cells.append({"label": f"cell {number}" + (f" ({id})" if id else ""), "source": source,
                      "mode": "all" if own else "definitions"})
    return cells


def exercise_of(label: str) -> str:
    """`sdpa_masked` for `cell 9 (sdpa_masked)`."""
    return label.partition("(")[2].removesuffix(")")


def _raw_cells(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NotReadable(f"{path}: larger than {MAX_BYTES >> 20} MiB; clear the outputs and save it again")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotReadable(f"{path}: no such file") from None
    except OSError as error:
        raise NotReadable(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise NotReadable(f"{path}: not a notebook: {error}") from None
    cells = value.get("cells") if isinstance(value, dict) else None
    if not isinstance(cells, list):
        raise NotReadable(f"{path}: not a notebook of format 4: it has no list of cells")
    return cells


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
