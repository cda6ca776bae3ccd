"""Find calls that an exercise forbids in the text of a submission.

This module's text is sent to a worker and runs there: parsing what a stranger wrote has crashed interpreters. The
worker has run nothing of the student's.
"""
from __future__ import annotations

import ast
from functools import cache

import torch

from etude.cells import without_magics

_BY_NAME = ("getattr", "hasattr", "eval", "exec", "import_module", "attrgetter", "methodcaller")
"""Functions that take the name of what is used as text."""


def written_calls(cells: list, contract: list, forbidden: list) -> list:
    """[label, line, text] of every use of a forbidden name by the functions of the contract and what they call.

    Demonstrations that compare with the library's function are nobody's shortcut: only what the functions named in
    `contract` reach is looked at. A function of the student's own that bears a forbidden name is no use of it.
    """
    trees = [(cell["label"], tree) for cell in cells for tree in _parsed(cell["source"])]
    definitions = _definitions(trees)
    uses = _Uses([node for cell in cells for node in _imports(cell["source"])], definitions, forbidden)
    found, seen, waiting = [], set(), [name for name in contract if name in definitions]
    while waiting:
        name = waiting.pop()
        for label, node in definitions[name] if name not in seen else ():
            found += [[label, line, text] for line, text in uses.within(node)]
            waiting += [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and part.id in definitions]
        seen.add(name)
    return [list(one) for one in sorted({tuple(one) for one in found})]


@cache  # one after another, all exercises of a notebook ask about the same cells
def _parsed(source: str) -> list:
    try:
        return [ast.parse(without_magics(source))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


@cache
def _imports(source: str) -> list:
    return [node for tree in _parsed(source) for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))]


def _definitions(trees: list) -> dict:
    """Every name that a cell defines, with the (label, statement)s that do."""
    found: dict = {}
    for label, tree in trees:
        for statement in tree.body:
            names = [statement.name] if hasattr(statement, "name") else []
            names += [part.id for part in ast.walk(statement) if isinstance(part, ast.Name)
                      and isinstance(part.ctx, ast.Store)] if isinstance(statement, (ast.Assign, ast.AnnAssign)) else []
            for name in names:
                found.setdefault(name, []).append((label, statement))
    return found


class _Uses:
    """Knows what the cells' names stand for, and lists the forbidden uses in a statement."""

    def __init__(self, imports: list, definitions: dict, forbidden: list):
        self.forbidden = set(forbidden)
        self.own = set(definitions)
        self.methods = {name for name in forbidden if hasattr(torch.Tensor, name)}
        self.modules, self.aliases = set(), {}
        for node in imports:
            self._import(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            if isinstance(node, ast.ImportFrom) and alias.name in self.forbidden:
                self.aliases[bound] = alias.name
            else:
                self.modules.add(bound)

    def within(self, statement: ast.AST) -> list:
        """(line, text) of every forbidden use in the statement."""
        return [(node.lineno, ast.unparse(node)[:80]) for node in ast.walk(statement) if self._is_use(node)]

    def _is_use(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute) and node.attr in self.forbidden:
            root = _root(node)
            return root in self.modules or root is None or (node.attr in self.methods and root not in ("self", "cls"))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            return node.id in self.aliases or (node.id in self.forbidden and node.id not in self.own)
        if isinstance(node, ast.Call) and _last_name(node.func) in _BY_NAME:
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            return any(name in text for name in self.forbidden for text in texts)
        return False


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _last_name(node: ast.expr) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
