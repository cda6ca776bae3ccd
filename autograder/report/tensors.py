"""Small tensors, read back from their text so that a view can lay them out and mark the cells that differ.

A report keeps tensors as text (the reader is a person). The text of a small one, whether torch, numpy or plain
columns wrote it, holds exactly one number per element; when it does not, the view shows the text as it stands.
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass

from autograder.report.model import Difference, TensorView

MAX_ROWS = 12
MAX_COLUMNS = 8
MAX_LISTED = 8

_TRAILER = re.compile(r",\s*(?:dtype|device|grad_fn|requires_grad|size)=.*\Z", re.DOTALL)
_ROW_END = re.compile(r"(\]+), *(\[+)")
_NUMBER = re.compile(r"(?<![\w.])(?:True|False|[-+]?(?:nan|inf|(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?))(?![\w.])", re.I)

Index = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """A matrix (or a row, or a single value) of a tensor's elements, as printed."""

    rows: list[list[str]]
    marked: frozenset[tuple[int, int]] = frozenset()
    """Row and column of the cells that differ from the other tensor of a difference."""


@dataclass(frozen=True)
class Cell:
    """One element that differs."""

    index: Index
    expected: str
    got: str


def elements(view: TensorView | None) -> list[str] | None:
    """The printed elements in row-major order, or None if the text does not hold all of them."""
    if view is None or not view.text:
        return None
    found = _NUMBER.findall(_TRAILER.sub("", view.text))
    return found if found and len(found) == math.prod(view.shape) else None


def grid(view: TensorView | None, marked: set[Index] | frozenset[Index] = frozenset()) -> Grid | None:
    """The tensor as a small matrix, or None if it is not one. Leading dimensions of size 1 are left aside."""
    cells = elements(view)
    if view is None or cells is None:
        return None
    if any(size != 1 for size in view.shape[:-2]):
        return None
    rows, columns = ([1, 1] + list(view.shape))[-2:]
    if rows > MAX_ROWS or columns > MAX_COLUMNS:
        return None
    columnwise = [_aligned(cells[start::columns]) for start in range(columns)]
    table = [list(row) for row in zip(*columnwise, strict=True)]
    return Grid(table, frozenset(tuple([0, 0, *index][-2:]) for index in marked))


def printed(view: TensorView) -> str:
    """The text with a line for each row, as numpy prints; text that already has lines stays as it is."""
    if "\n" in view.text:
        return view.text
    return _ROW_END.sub(lambda m: f"{m[1]},\n{' ' * (len(view.shape) - len(m[2]))}{m[2]}", view.text)


def side_by_side(difference: Difference) -> tuple[Grid, Grid] | None:
    """Expected and got as two matrices with the differing cells marked, if both are small enough."""
    marked = {cell.index for cell in differing(difference)}
    expected, got = grid(difference.expected, marked), grid(difference.got, marked)
    return (expected, got) if expected and got else None


def differing(difference: Difference) -> list[Cell]:
    """The elements that are off, in row-major order, as far as the printed tensors show them."""
    expected, got = elements(difference.expected), elements(difference.got)
    if not expected or not got or difference.expected.shape != difference.got.shape:  # type: ignore[union-attr]
        return _first_only(difference)
    shape = difference.got.shape  # type: ignore[union-attr]
    tolerance = _number(difference.tolerance or "0") or 0.0
    first = tuple(difference.first_index) if difference.first_index is not None else None
    pairs = zip(map(lambda flat: _unravel(flat, shape), range(len(got))), expected, got, strict=True)
    return [Cell(i, e, g) for i, e, g in pairs if i == first or _is_off(e, g, tolerance)]


def _aligned(column: list[str]) -> list[str]:
    """The numbers padded on the right, so that points stand below points where the column is set flush right."""
    decimals = [len(cell) - cell.find(".") if "." in cell else 0 for cell in column]
    return [cell + " " * (max(decimals) - own) if cell[-1:].isdigit() or own else cell
            for cell, own in zip(column, decimals, strict=True)]


def _first_only(difference: Difference) -> list[Cell]:
    if difference.first_index is None or difference.expected_value is None or difference.got_value is None:
        return []
    return [Cell(tuple(difference.first_index), f"{difference.expected_value:.6g}", difference.got_value)]


def _unravel(flat: int, shape: list[int]) -> Index:
    index = []
    for size in reversed(shape):
        flat, remainder = divmod(flat, size)
        index.append(remainder)
    return tuple(reversed(index))


def _is_off(expected: str, got: str, tolerance: float) -> bool:
    a, b = _number(expected), _number(got)
    if a is None or b is None:
        return expected != got
    return not abs(a - b) <= tolerance  # negated: NaN and inf are never equal to anything


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
