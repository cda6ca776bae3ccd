"""Known wrong and right solutions of an exercise: what the grader itself is graded with, and what names a mistake.

    @mistake("sdpa_masked", "no_scale", "the scores are not divided by √d", hint="Eq. (1) divides before the softmax.")
    def sdpa(q, k, v, keep): ...

A variant replaces the functions of its names in the reference. Its source is sliced from the file: imports,
undecorated helpers, and its own functions, so that it runs like a student's cell.
"""
from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from autograder.errors import UsageError

F = TypeVar("F", bound=Callable)


def mistake(exercise: str, id: str, title: str = "", hint: str = "") -> Callable[[F], F]:
    """Marks a wrong solution. `title` completes "This is what you get when …". Later functions of the same
    mistake need only exercise and id."""
    return lambda function: function


def alternative(exercise: str, id: str) -> Callable[[F], F]:
    """Marks a right solution that is written otherwise; it must get full marks."""
    return lambda function: function


@dataclass(frozen=True)
class Variant:
    """One wrong or right solution, as the source of a cell that overrides the reference's functions."""

    kind: Literal["mistake", "alternative"]
    exercise: str
    id: str
    title: str
    hint: str
    source: str


def load_variants(path: Path) -> list[Variant]:
    """The variants of a `<notebook>_variants.py`, in the order of the file. The file is read, not run."""
    if not path.exists():
        raise UsageError(f"{path}: no such file; every notebook has a file of known mistakes and alternatives")
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: {error.msg}") from None
    shared, found = [], {}
    for node in tree.body:
        marks = [mark for mark in getattr(node, "decorator_list", []) if _mark_name(mark)]
        if not marks:
            if not _is_own_import(node) and not _is_docstring(node):
                shared.append(_text(text, node))
            continue
        for mark in marks:
            kind, values = _mark_name(mark), _values(path, mark)
            found.setdefault((kind, values["exercise"], values["id"]), []).append((values, _text(text, node)))
    return [_variant(path, key, parts, shared) for key, parts in found.items()]


def _variant(path: Path, key: tuple[str, str, str], parts: list[tuple[dict, str]], shared: list[str]) -> Variant:
    kind, exercise, id = key
    title = next((values["title"] for values, _ in parts if values.get("title")), "")
    if kind == "mistake" and not title:
        raise UsageError(f"{path}: the mistake {exercise}/{id} has no title")
    hint = next((values["hint"] for values, _ in parts if values.get("hint")), "")
    source = "\n\n\n".join([*shared, *(body for _, body in parts)]) + "\n"
    return Variant(kind, exercise, id, title, hint, source)


def _mark_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("mistake", "alternative"):
        return node.func.id
    return None


def _values(path: Path, mark: ast.Call) -> dict[str, str]:
    names = ("exercise", "id", "title", "hint")
    pairs = [*zip(names, mark.args, strict=False), *((keyword.arg, keyword.value) for keyword in mark.keywords)]
    try:
        values = {name: ast.literal_eval(value) for name, value in pairs}
    except ValueError:
        raise UsageError(f"{path}:{mark.lineno}: the arguments of a variant's mark are plain strings") from None
    if not values.get("exercise") or not values.get("id"):
        raise UsageError(f"{path}:{mark.lineno}: a variant needs an exercise and an id")
    return values


def _text(source: str, node: ast.stmt) -> str:
    """The statement's source without the variant marks among its decorators."""
    lines = source.splitlines()
    kept = [f"@{ast.get_source_segment(source, mark)}" for mark in getattr(node, "decorator_list", [])
            if not _mark_name(mark)]
    return "\n".join([*kept, *lines[node.lineno - 1:node.end_lineno]])


def _is_own_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "autograder.variants"


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
