"""The released part of a checks file: the checks marked `@public` and what they use, in the author's words.

Nothing is released by default: a definition is copied because a public check reaches it by name, and a public check
that could reach the reference, the variants or a file stops the build.
"""
from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Collection, Iterator
from pathlib import Path

from autograder.build.check_file import IMPORTS, CheckFile, Item, bound_name, read_checks
from autograder.build.release_rules import check_released, is_fixture, parameters
from autograder.solution.places import fault

MAX_LINE = 110
_FROM_PYTHON = frozenset(dir(builtins)) | {"__name__", "__doc__"}


def public_checks(path: Path, exercises: Collection[str] | None = None) -> str:
    """The text of the released checks file. Raises `UsageError` where something might reach students by mistake."""
    return slice_public(read_checks(path, exercises))


def slice_public(checks: CheckFile) -> str:
    """The public part of a checks file that has been read."""
    reached, names = _reach(checks)
    imports = [item for item in checks.items if isinstance(item.node, IMPORTS) and _needed(item, names)]
    for item in imports:
        check_released(checks.path, _only(item, names))
    definitions = [item for item in checks.items if item.first in reached]
    text = _header(checks.path) + _import_lines(imports, names) + _definition_lines(definitions)
    compile(text, checks.path.name, "exec", dont_inherit=True)
    return text


# ------------------------------------------------------------------------------------------ what public checks reach

def _reach(checks: CheckFile) -> tuple[set[int], set[str]]:
    """First lines of the definitions that public checks use, directly or not, and all module names used by them."""
    defined = _by_name(checks.items)
    reached: set[int] = set()
    names: set[str] = set()
    waiting = [check.item for check in checks.checks if check.public]
    while waiting:
        item = waiting.pop()
        if item.first in reached or isinstance(item.node, IMPORTS):
            continue
        reached.add(item.first)
        _check_not_hidden(checks, item)
        check_released(checks.path, item.node)
        used = _used_names(item, defined)
        names |= used
        waiting += [_definition(checks.path, item, name, defined) for name in sorted(used)
                    if name in defined or name not in _FROM_PYTHON]
    return reached, names


def _by_name(items: list[Item]) -> dict[str, list[Item]]:
    defined: dict[str, list[Item]] = {}
    for item in items:
        for name in item.names:
            defined.setdefault(name, []).append(item)
    return defined


def _definition(path: Path, user: Item, name: str, defined: dict[str, list[Item]]) -> Item:
    """The one statement that defines a name. `import a.b` and `import a.c` both define `a`, in harmony."""
    items = defined.get(name, [])
    if not items:
        raise fault(path, _line_of(user, name), f"released code uses `{name}`, which this file does not define")
    if len(items) > 1 and not all(isinstance(item.node, ast.Import) for item in items):
        lines = " and ".join(str(item.node.lineno) for item in items)
        raise fault(path, _line_of(user, name), f"`{name}` is defined more than once (lines {lines}); "
                                                "what is released needs one definition")
    return items[0]


def _line_of(item: Item, name: str) -> int:
    uses = [node.lineno for node in ast.walk(item.node) if isinstance(node, ast.Name) and node.id == name]
    return min(uses, default=item.node.lineno)


def _check_not_hidden(checks: CheckFile, item: Item) -> None:
    for check in checks.checks:
        if check.item is item and not check.public:
            raise fault(checks.path, item.node.lineno, f"a public check uses {check.name}, which is hidden; "
                                                       "move what they share into a helper")


# ------------------------------------------------------------------------------------- names that a statement uses

def _used_names(item: Item, defined: dict[str, list[Item]]) -> set[str]:
    """Names of the module that a statement looks up, and the fixtures of this file that its parameters ask for."""
    table = symtable.symtable(item.text, "checks", "exec")
    names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    names |= {name for child in table.get_children() for name in _globals(child)}
    if isinstance(item.node, ast.FunctionDef):
        names |= {name for name in parameters(item.node)
                  if any(is_fixture(other.node) for other in defined.get(name, []))}
    return names


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that a scope, or one within it, looks up in the module; its local variables are not among them."""
    yield from (symbol.get_name() for symbol in table.get_symbols() if symbol.is_global())
    for child in table.get_children():
        yield from _globals(child)


# ----------------------------------------------------------------------------------------------------- the new file

def _header(path: Path) -> str:
    notebook = path.stem.removesuffix("_checks")
    return f'"""The public checks of {notebook}.ipynb. Made by `autograder build` from the course; do not edit."""\n'


def _needed(item: Item, names: set[str]) -> bool:
    return _is_future(item.node) or not names.isdisjoint(item.names)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _only(item: Item, names: set[str]) -> ast.Import | ast.ImportFrom:
    """The import without the names that no released code uses."""
    node = item.node
    assert isinstance(node, IMPORTS)
    aliases = [alias for alias in node.names if bound_name(node, alias) in names or _is_future(node)]
    if isinstance(node, ast.Import):
        return ast.copy_location(ast.Import(aliases), node)
    return ast.copy_location(ast.ImportFrom(node.module, aliases, node.level), node)


def _import_lines(imports: list[Item], names: set[str]) -> str:
    """The imports in the author's order and groups."""
    text = ""
    group = -1
    for item in imports:
        only = _only(item, names)
        text += "\n" * (item.group != group)
        text += (item.text if len(only.names) == len(item.names) else _wrapped(only)) + "\n"
        group = item.group
    return text


def _wrapped(node: ast.Import | ast.ImportFrom) -> str:
    line = ast.unparse(node)
    if len(line) <= MAX_LINE or isinstance(node, ast.Import):
        return line
    start, names = line.split(" import ")
    return f"{start} import (\n" + "".join(f"    {name},\n" for name in names.split(", ")) + ")"


def _definition_lines(definitions: list[Item]) -> str:
    text = ""
    before: Item | None = None
    for item in definitions:
        text += _gap(before, item) + item.text + "\n"
        before = item
    return text


def _gap(before: Item | None, item: Item) -> str:
    """Two blank lines around functions and classes; constants stay together as the author had them."""
    if any(one and isinstance(one.node, ast.FunctionDef | ast.ClassDef) for one in (before, item)):
        return "\n\n"
    return "" if before and item.group == before.group else "\n"
