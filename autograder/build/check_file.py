"""A checks file, read without running it: its top-level statements, and which of its functions are checks.

What this reader does not understand is an error rather than a guess: from here it is decided what students get.
"""
from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.solution.places import fault, read_text

IMPORTS = (ast.Import, ast.ImportFrom)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign)
_TEST_NAME = re.compile(r"[Tt]est")
MARKS = ("exercise", "points", "public", "speed")


@dataclass(frozen=True)
class Item:
    """A top-level statement with its decorators and the comment lines right above it."""

    node: ast.stmt
    names: tuple[str, ...]
    """The names that it defines."""
    first: int
    last: int
    group: int
    """Statements without a blank line between them have the same number."""
    text: str


@dataclass(frozen=True)
class Check:
    """A `test_*` function and its marks."""

    name: str
    exercise: str
    points: float
    public: bool
    title: str
    item: Item


@dataclass(frozen=True)
class CheckFile:
    """A checks file that keeps the rules."""

    path: Path
    items: list[Item]
    checks: list[Check]


def read_checks(path: Path, exercises: Collection[str] | None = None) -> CheckFile:
    """The checks of a file. Raises `UsageError` for the first rule it breaks; `exercises` are course.yml's ids."""
    text = read_text(path)
    try:
        compile(text, path.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise fault(path, line, f"syntax error: {getattr(error, 'msg', error)}") from None
    items = list(_items(path, text))
    checks = [_check(path, item) for item in items if is_test(item)]
    _check_distinct(path, checks)
    for check in checks:
        if exercises is not None and check.exercise not in exercises:
            raise fault(path, check.item.node.lineno, f'exercise "{check.exercise}" is not in course.yml')
    return CheckFile(path, items, checks)


def is_test(item: Item) -> bool:
    return isinstance(item.node, ast.FunctionDef) and item.node.name.startswith("test")


# ------------------------------------------------------------------------------------------------------- statements

def _items(path: Path, text: str) -> Iterator[Item]:
    lines = text.split("\n")  # as Python counts lines; splitlines() also breaks at form feeds
    body = ast.parse(text).body
    end = group = 0
    for position, node in enumerate(body):
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        last = node.end_lineno or node.lineno
        if first <= end:
            raise fault(path, first, "one statement per line, please: the release copies whole lines")
        if position or not _is_text(node):
            names = _names(path, node)
            while first - 1 > end and lines[first - 2].startswith("#") and not isinstance(node, IMPORTS):
                first -= 1
            group += not lines[first - 2].strip()
            yield Item(node, names, first, last, group, "\n".join(lines[first - 1 : last]))
        end = last


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _names(path: Path, node: ast.stmt) -> tuple[str, ...]:
    """The names that a top-level statement defines; whatever else it might do is refused."""
    if isinstance(node, IMPORTS):
        names = _imported(path, node)
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = (node.name,)
        if isinstance(node, ast.ClassDef) and _TEST_NAME.match(node.name):
            raise fault(path, node.lineno, f"class {node.name}: a check is a function `test_*` at the top level")
    elif isinstance(node, _ASSIGNMENTS):
        names = _assigned(path, node)
    else:
        raise fault(path, node.lineno, f"{_kind(node)} at the top level; a checks file holds imports, functions, "
                                       "classes and assignments to names")
    _check_names(path, node, names)
    return names


def _kind(node: ast.stmt) -> str:
    words = {"Expr": "an expression", "If": "`if`", "AsyncFunctionDef": "`async def`", "AugAssign": "`+=` or the like"}
    return words.get(type(node).__name__, f"`{type(node).__name__.lower()}`")


def _imported(path: Path, node: ast.Import | ast.ImportFrom) -> tuple[str, ...]:
    if any(alias.name == "*" for alias in node.names):
        raise fault(path, node.lineno, "`import *` hides what a check uses; import by name")
    renamed = [alias for alias in node.names if alias.asname in MARKS and alias.name != alias.asname]
    if renamed:
        raise fault(path, node.lineno, f"`{renamed[0].asname}` is a mark's name; import `{renamed[0].name}` otherwise")
    return tuple(bound_name(node, alias) for alias in node.names)


def bound_name(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """The name that `import a.b` (a), `import a as b` (b) or `from a import b` (b) defines."""
    return alias.asname or (alias.name.split(".")[0] if isinstance(node, ast.Import) else alias.name)


def _assigned(path: Path, node: ast.Assign | ast.AnnAssign) -> tuple[str, ...]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    flat = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    names = tuple(target.id for target in flat if isinstance(target, ast.Name))
    if len(names) < len(flat) or any(isinstance(part, ast.NamedExpr) for part in ast.walk(node)):
        raise fault(path, node.lineno, "at the top level, assign to plain names only")
    if "pytestmark" in names:
        raise fault(path, node.lineno, "`pytestmark` marks every check at once; mark each check by itself")
    return names


def _check_names(path: Path, node: ast.stmt, names: tuple[str, ...]) -> None:
    for name in names:
        if name in MARKS and not isinstance(node, IMPORTS):
            raise fault(path, node.lineno, f"`{name}` is a mark's name; call this otherwise")
        if name.startswith("test") and not isinstance(node, ast.FunctionDef):
            raise fault(path, node.lineno, f"`{name}`: pytest would collect it; a check is a function `test_*`")


# ------------------------------------------------------------------------------------------------------------- marks

def _check(path: Path, item: Item) -> Check:
    node = item.node
    assert isinstance(node, ast.FunctionDef)
    exercise = _argument(path, node, "exercise")
    points = _argument(path, node, "points")
    if not isinstance(exercise, str):
        raise fault(path, node.lineno, f'{node.name} names no exercise; decorate it with `@exercise("<id>")`')
    if isinstance(points, bool) or not isinstance(points, int | float) or points <= 0:
        raise fault(path, node.lineno, f"{node.name} carries no points; decorate it with `@points(<number>)`")
    title = (ast.get_docstring(node) or "").strip().split("\n")[0]
    if not title:
        raise fault(path, node.lineno, f"{node.name} has no docstring; its first line is the title that students read")
    return Check(node.name, exercise, float(points), _is_public(path, node), title, item)


def _argument(path: Path, node: ast.FunctionDef, mark: str) -> object:
    """The literal in the one decorator `@mark(literal)`, None if there is no such decorator."""
    calls = [d for d in node.decorator_list if isinstance(d, ast.Call) and _mark(d.func) == mark]
    if len(calls) > 1:
        raise fault(path, node.lineno, f"{node.name} has the mark `{mark}` twice")
    if not calls or len(calls[0].args) != 1 or calls[0].keywords or not isinstance(calls[0].args[0], ast.Constant):
        return None
    return calls[0].args[0].value


def _mark(node: ast.expr) -> str | None:
    """`x` for `x` and `pytest.mark.x`, the two ways to write a mark."""
    text = ast.unparse(node)
    name = text.removeprefix("pytest.mark.")
    return name if name in MARKS else None


def _is_public(path: Path, node: ast.FunctionDef) -> bool:
    if any(_mark(decorator) == "public" for decorator in node.decorator_list):
        return True
    for part in (part for decorator in node.decorator_list for part in ast.walk(decorator)):
        if "public" in (getattr(part, "id", ""), getattr(part, "attr", "")):
            raise fault(path, part.lineno, f"{node.name}: write the mark as `@public` and nothing else")
    return False


def _check_distinct(path: Path, checks: list[Check]) -> None:
    seen: dict[str, int] = {}
    for check in checks:
        line = check.item.node.lineno
        if check.name in seen:
            raise fault(path, line, f"{check.name} is defined twice; Python would forget the one at line "
                                    f"{seen[check.name]}")
        seen[check.name] = line
