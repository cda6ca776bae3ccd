"""Run a notebook's code cells so that one broken statement costs only what depends on it.

Every top-level statement is executed on its own: a demonstration that fails (a plot, a missing module) does not take
the definitions around it along. Cells that are not the exercise's own contribute definitions only.
"""
from __future__ import annotations
import __future__

import ast
import linecache
import re
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

MAX_MESSAGE = 500
SETUP = "setup"
"""The label of the notebook's own first cell."""
_FILE = "<etude "
"""What the file names of compiled cells begin with, so that a traceback tells them from libraries."""
_HELP = re.compile(r"[\w.]+\?\??")
"""IPython's `name?`. A docstring's line that asks a question is none."""
_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign)
# What the right-hand side of a kept assignment may call: constructors of constants, not training loops.
_CALLABLE_ROOTS = frozenset(
    "math torch np numpy nn F float int bool str complex tuple list dict set frozenset range len min max slice "
    "namedtuple partial functools collections TypeVar".split()
)


@dataclass(frozen=True)
class CellError:
    """A statement of a cell that failed."""

    label: str
    line: int
    type_name: str
    message: str

    def __str__(self) -> str:
        return f"{self.label}, line {self.line}: {self.type_name}: {self.message}"


@dataclass
class Program:
    """The namespace that the cells left behind, and the statements that failed on the way."""

    module: types.ModuleType
    errors: list[CellError] = field(default_factory=list)
    only_defines: bool = True
    """Whether the cells, but for the setup, do nothing but import, define and assign names."""

    @property
    def namespace(self) -> dict[str, Any]:
        return self.module.__dict__


def load_program(cells: Iterable[Mapping[str, str]], as_main: bool = False) -> Program:
    """Execute cells `{"label", "source", "mode"}` in order; mode `definitions` keeps imports, defs and constants.

    `as_main` makes the program the process's `__main__`, where dataclasses look up annotations that are strings.
    """
    program = Program(types.ModuleType("__main__"))
    if as_main:
        sys.modules["__main__"] = program.module
    for cell in cells:
        _run_cell(program, cell["label"], cell["source"], cell["mode"] == "definitions")
    return program


def _run_cell(program: Program, label: str, source: str, definitions_only: bool) -> None:
    source = without_magics(source)
    filename = f"{_FILE}{label}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    try:
        statements = _compiled(label, source, definitions_only)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        program.errors.append(CellError(label, line, type(error).__name__, _brief(getattr(error, "msg", error))))
        return
    for statement in statements:
        program.only_defines &= statement.only_defines
        _run_statement(program, label, statement)


@dataclass(frozen=True)
class _Statement:
    """One top-level statement of a cell, ready to run, or the reason why it cannot."""

    code: types.CodeType | CellError
    line: int
    only_defines: bool


@lru_cache(maxsize=128)  # all exercises of a notebook run the same setup
def _compiled(label: str, source: str, definitions_only: bool) -> list[_Statement]:
    filename = f"{_FILE}{label}>"
    tree = ast.parse(source, filename)
    flags = _future_flags(tree)
    return [_Statement(_code(label, filename, statement, flags), statement.lineno,
                       label == SETUP or _changes_nothing_else(statement))
            for statement in tree.body if not definitions_only or _is_definition(statement)]


def _code(label: str, filename: str, statement: ast.stmt, flags: int) -> types.CodeType | CellError:
    try:
        return compile(ast.Module([statement], type_ignores=[]), filename, "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # `return` outside a function, say
        return CellError(label, statement.lineno, type(error).__name__, _brief(error))


def _run_statement(program: Program, label: str, statement: _Statement) -> None:
    if isinstance(statement.code, CellError):
        program.errors.append(statement.code)
        return
    try:
        exec(statement.code, program.namespace)
    except BaseException as error:
        # BaseException: a cell may raise SystemExit or a KeyboardInterrupt of its own; neither may end the worker.
        place = place_of(error)
        line = place[1] if place and place[0] == label else statement.line
        program.errors.append(CellError(label, line, type_name(error), _brief(error)))


def _is_definition(statement: ast.stmt) -> bool:
    if isinstance(statement, _DEFINITIONS):
        return True
    if not isinstance(statement, _ASSIGNMENTS) or statement.value is None:
        return False
    return all(_root_name(call.func) in _CALLABLE_ROOTS for call in _calls(statement.value))


def _changes_nothing_else(statement: ast.stmt) -> bool:
    """Whether it touches nothing but the cells' own names: no library's attribute, no setting, nothing printed."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    stored = [part for target in targets if target is not None for part in ast.walk(target)]
    return _is_definition(statement) and not any(isinstance(part, (ast.Attribute, ast.Subscript)) for part in stored)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that evaluating an expression makes; those in the body of a lambda wait until it is called."""
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(node, ast.Lambda) or child is not node.body:
            yield from _calls(child)


def _root_name(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _future_flags(tree: ast.Module) -> int:
    names = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"
             for alias in node.names]
    features = (getattr(__future__, name, None) for name in names)
    return sum({feature.compiler_flag for feature in features if feature is not None})


def without_magics(source: str) -> str:
    """The cell without IPython's own syntax, line numbers kept: `%magic`, `!shell` and `name?` become blank."""
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        if lines[0].split()[0] not in ("%%time", "%%timeit", "%%capture", "%%prun"):
            return ""
        lines[0] = ""
    kept = ["" if line.startswith(("%", "!", "?")) or _HELP.fullmatch(line.strip()) else line for line in lines]
    return "\n".join(kept) + "\n"


def type_name(error: BaseException) -> str:
    """The name of an exception's class. Asked of `type`: a student's metaclass may answer with an error of its own."""
    return type.__dict__["__name__"].__get__(type(error))


def place_of(error: BaseException) -> tuple[str, int, str] | None:
    """(cell label, line number, line) of the innermost frame that lies in a student's cell."""
    trace = BaseException.__dict__["__traceback__"].__get__(error)  # for the same reason
    frames = [frame for frame in traceback.extract_tb(trace) if frame.filename.startswith(_FILE)]
    if not frames:
        return None
    return frames[-1].filename[len(_FILE):-1], frames[-1].lineno or 0, (frames[-1].line or "")[:200]


def _brief(error: object) -> str:
    try:
        return str(error)[:MAX_MESSAGE]
    except BaseException:  # a hostile __str__ is no reason to lose the worker
        return "(the error's message could not be read)"
