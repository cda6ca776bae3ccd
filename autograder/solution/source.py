"""The single source of a notebook: a percent script whose marker lines say what each cell is.

Every rule that a script must keep is checked here, before anything is generated, in one line that names the place.
"""
from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autograder.solution.percent import Block, read_blocks
from autograder.solution.places import fault, read_text

BEGIN = "### BEGIN SOLUTION"
END = "### END SOLUTION"
Kind = Literal["markdown", "hints", "setup", "exercise", "given"]

TEXT = ("markdown", "hints")
"""Kinds of cells that are no code."""
# What jupytext notes about the script's layout; it says nothing about the cell.
_LAYOUT = {"lines_to_next_cell", "lines_to_end_of_cell_marker", "cell_marker"}


@dataclass(frozen=True)
class SourceCell:
    """One cell of the script, with the solution in it."""

    kind: Kind
    source: str
    line: int
    """Line of the cell's marker in the script."""
    first_line: int
    """Line of the first line of `source` in the script."""
    exercise: str | None = None
    """The exercise that a cell is, or whose hints it holds."""


def read_source(path: Path, exercises: Collection[str] | None = None) -> list[SourceCell]:
    """The cells of a notebook's script. `exercises`: the ids that course.yml gives to this notebook.

    Raises `UsageError` for the first rule that the script breaks; without `exercises`, ids are not compared.
    """
    blocks = read_blocks(path)
    cells = [_cell(path, block, cell) for block, cell in zip(blocks, _jupytext(path, blocks), strict=True)]
    for cell in cells:
        _check_markers(path, cell)
        _check_alone(path, cell)
    if not any(cell.kind == "setup" for cell in cells):
        raise fault(path, 1, 'no setup cell: start the imports with `# %% role="setup"`')
    _check_exercises(path, cells, exercises)
    return cells


def setup_sources(path: Path) -> list[str]:
    """The text of the setup cells, in order."""
    return [block.text for block in read_blocks(path) if block.is_code and "role" in block.options]


def reference_cells(path: Path) -> list[tuple[str, str]]:
    """(label, source) of the setup and exercise cells in order, solutions included. Labels are the grade ids."""
    blocks = [block for block in read_blocks(path) if block.is_code and block.options.keys() & {"role", "exercise"}]
    setup_labels = setup_ids()
    return [(block.options.get("exercise") or next(setup_labels), block.text) for block in blocks]


def setup_ids() -> Iterator[str]:
    """The grade ids of the setup cells: `setup`, `setup_2`, `setup_3`, ..."""
    yield "setup"
    number = 2
    while True:
        yield f"setup_{number}"
        number += 1


def solution_lines(cell: SourceCell) -> Iterator[tuple[int, str, bool]]:
    """(line in the script, text, whether it lies between the solution markers); the markers are left out."""
    inside = False
    for number, text in enumerate(cell.source.split("\n"), cell.first_line):
        if text.strip() in (BEGIN, END):
            inside = text.strip() == BEGIN
        else:
            yield number, text, inside


# -------------------------------------------------------------------------------------- what jupytext makes of it

def _jupytext(path: Path, blocks: list[Block]) -> list[Any]:
    import jupytext  # here, because importing it takes over a second

    # comment_magics off: jupytext would make a command of a comment that starts with "more" or "cat".
    text_format = {"extension": ".py", "format_name": "percent", "comment_magics": False}
    cells = jupytext.reads(read_text(path), fmt=text_format).cells
    for index in range(max(len(blocks), len(cells))):
        block = blocks[index] if index < len(blocks) else None
        if block is None or index >= len(cells) or not _same(block, cells[index]):
            raise fault(path, block.line if block else 1,
                        "jupytext splits the script otherwise here: start every cell with `# %%` at the line's "
                        "start, and put nothing before the first")
    return cells


def _same(block: Block, cell: Any) -> bool:
    if block.is_code != (cell.cell_type == "code"):
        return False
    return not block.is_code or block.text.strip() == cell.source.strip()


def _cell(path: Path, block: Block, cell: Any) -> SourceCell:
    if cell.cell_type not in ("code", "markdown"):
        raise fault(path, block.line, f"a cell is code or markdown, not {cell.cell_type}")
    options = {name: value for name, value in cell.metadata.items() if name not in _LAYOUT}
    source = cell.source.strip("\n") if cell.cell_type == "markdown" else block.text
    exercise = options.get("exercise") or options.get("hints")
    return SourceCell(_kind(path, block, options), source, block.line, block.first_line, exercise)


def _kind(path: Path, block: Block, options: dict[str, Any]) -> Kind:
    if options.get("role", "setup") != "setup":
        raise fault(path, block.line, f'unknown role "{options["role"]}"; the only role is "setup"')
    code = [{}, {"role": "setup"}, {"exercise": options.get("exercise")}]
    allowed = code if block.is_code else [{}, {"hints": options.get("hints")}]
    if options not in allowed or options != block.options:
        # A misspelt option would turn an exercise into a plain cell, and release its solution.
        raise fault(path, block.line, f'`# %% {block.header}` is not understood; a code cell may carry role="setup" '
                                      'or exercise="<id>", a markdown cell hints="<id>"')
    if not block.is_code:
        return "hints" if options else "markdown"
    return "setup" if "role" in options else "exercise" if options else "given"


# ------------------------------------------------------------------------------------------ hints

_ITEM = re.compile(r"(?:[-*]|\d+\.)\s+")


def hints_of(path: Path, cells: list[SourceCell]) -> dict[str, list[str]]:
    """The hints of each exercise, in steps: the items of the list in its cell `# %% [markdown] hints="<id>"`."""
    return {str(cell.exercise): _items(path, cell) for cell in cells if cell.kind == "hints"}


def _items(path: Path, cell: SourceCell) -> list[str]:
    items: list[str] = []
    for number, line in enumerate(cell.source.split("\n"), cell.first_line):
        start = _ITEM.match(line)
        if start:
            items.append(line[start.end():].strip())
        elif items:
            items[-1] = f"{items[-1]} {line.strip()}".strip()
        elif line.strip():
            raise fault(path, number, "hints are a list: start each with `- ` or `1. `, the most general one first")
    if not items:
        raise fault(path, cell.line, f'no hints for exercise "{cell.exercise}": write a list, or delete the cell')
    return items


# ------------------------------------------------------------------------------------------ rules for single cells

def _check_markers(path: Path, cell: SourceCell) -> None:
    opened = None
    regions = 0
    for number, text in enumerate(cell.source.split("\n"), cell.first_line):
        mark = text.strip()
        if "BEGIN SOLUTION" in text or "END SOLUTION" in text:
            _check_marker(path, cell, number, mark, opened)
            regions += mark == BEGIN
            opened = number if mark == BEGIN else None
    if opened is not None:
        raise fault(path, opened, f"this `{BEGIN}` has no `{END}` in its cell")
    if cell.kind == "exercise" and not regions:
        raise fault(path, cell.line, f"exercise {cell.exercise} has no `{BEGIN}` ... `{END}`")


def _check_marker(path: Path, cell: SourceCell, number: int, mark: str, opened: int | None) -> None:
    if mark not in (BEGIN, END):
        raise fault(path, number, f"write a solution marker as `{BEGIN}` or `{END}`, alone on its line")
    if cell.kind != "exercise":
        raise fault(path, number, f'`{mark}` outside an exercise cell; start the cell with `# %% exercise="<id>"`')
    if mark == BEGIN and opened is not None:
        raise fault(path, number, f"`{BEGIN}` inside the solution that line {opened} begins")
    if mark == END and opened is None:
        raise fault(path, number, f"this `{END}` has no `{BEGIN}` in its cell")


def _check_alone(path: Path, cell: SourceCell) -> None:
    """The script may be Python as a whole where a cell by itself is not."""
    if cell.kind in TEXT:
        return
    try:
        ast.parse(cell.source)
    except SyntaxError as error:
        line = cell.first_line + (error.lineno or 1) - 1
        raise fault(path, line, f"syntax error in this cell by itself: {error.msg}") from None


# ------------------------------------------------------------------------------------------ rules for all exercises

def _check_exercises(path: Path, cells: list[SourceCell], exercises: Collection[str] | None) -> None:
    lines: dict[tuple[str, str], int] = {}
    for cell in cells:
        if cell.exercise is None:
            continue
        if exercises is not None and cell.exercise not in exercises:
            raise fault(path, cell.line, f'exercise "{cell.exercise}" is not in course.yml')
        key = cell.kind, cell.exercise
        if key in lines:
            has = "a cell" if cell.kind == "exercise" else "hints"
            raise fault(path, cell.line, f'exercise "{cell.exercise}" already has {has}, at line {lines[key]}')
        lines[key] = cell.line
    for exercise in exercises or ():
        if ("exercise", exercise) not in lines:
            raise fault(path, 1, f'exercise "{exercise}" of course.yml has no cell; '
                                 f'start it with `# %% exercise="{exercise}"`')


def contract_of(source: str) -> list[str]:
    """The functions and classes that a reference cell defines at the top."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in ast.parse(source).body if isinstance(node, kinds)]
