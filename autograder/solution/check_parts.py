"""Which statements of a check file the checks of each exercise can see, so that a correction touches no others.

What is not plainly a definition counts for every exercise, and a file that is not understood has no parts at all: then
every exercise hangs on the whole of it. Checks share no state; a file in which a function changes what another may see
is one that is not understood.
"""
from __future__ import annotations

import ast
from collections.abc import Iterator

_MARK = "exercise"
# With these, what a statement uses cannot be read off its names.
_DYNAMIC = frozenset("globals locals vars eval exec compile setattr delattr sys importlib inspect __import__ "
                     "__builtins__".split())
# What may be called while the file is imported without leaving a trace that another statement could meet.
_QUIET = frozenset("range tuple dict list set frozenset sorted zip enumerate float int str bool len min max abs "
                   "round sum slice Fraction".split())
_QUIET_METHODS = frozenset("but items keys values split join format".split())
_MUTATORS = frozenset("append extend insert pop popitem remove clear update setdefault add discard sort "
                      "reverse".split())
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parts_of(text: str) -> dict[str, str] | None:
    """Exercise -> what its checks are made of, exercises in the order of their first checks; None: not understood."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    file = _CheckFile(tree)
    if not file.is_understood():
        return None
    return {exercise: file.part(exercise) for exercise in dict.fromkeys(file.checks.values())}


class _CheckFile:
    """A parsed check file: its checks, what binds which name, and what counts for every exercise."""

    def __init__(self, tree: ast.Module):
        self.tree = tree
        self.body = [statement for statement in tree.body if not _is_text(statement)]
        self.checks: dict[ast.stmt, str] = {}
        """Check function -> its exercise."""
        self._binders: dict[str, list[ast.stmt]] = {}
        for statement in self.body:
            exercise = _exercise_of(statement)
            if exercise is not None:
                self.checks[statement] = exercise
            for name in _bound(statement):
                self._binders.setdefault(name, []).append(statement)
        self._quiet = {name for name, found in self._binders.items() if all(map(_is_of_etude, found))} | _QUIET
        self._everywhere = [one for one in self.body if one not in self.checks and not self._is_plain(one)]

    def is_understood(self) -> bool:
        """Whether the names in a statement tell what it can see."""
        marks = sum(_is_mark(node) for node in ast.walk(self.tree))
        own_names = all(len(self._binders[check.name]) == 1 for check in self.checks)
        tests = [one for one in self.body if isinstance(one, _FUNCTIONS) and one.name.startswith("test")]
        return (marks == len(self.checks) and own_names and all(test in self.checks for test in tests)
                and not any(_is_dynamic(node) for node in ast.walk(self.tree))
                and not any(self._changes_what_is_shared(one) for one in self.body if isinstance(one, _FUNCTIONS)))

    def part(self, exercise: str) -> str:
        """The statements that the checks of the exercise can see, as text without comments and layout."""
        seen: set[ast.stmt] = set()
        waiting = [*self._everywhere, *(check for check, owner in self.checks.items() if owner == exercise)]
        while waiting:
            statement = waiting.pop()
            if statement not in seen:
                seen.add(statement)
                for name in _used(statement):
                    waiting += self._binders.get(name, [])
        return "\n".join(ast.dump(statement) for statement in self.body if statement in seen)

    def _is_plain(self, statement: ast.stmt) -> bool:
        """Whether a statement does nothing but bind names, to what nobody else can meet."""
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            return all(alias.name != "*" for alias in statement.names)
        if isinstance(statement, _FUNCTIONS):
            made = [*statement.args.defaults, *filter(None, statement.args.kw_defaults)]
            return not statement.decorator_list and all(map(self._is_quiet, made))
        if isinstance(statement, ast.Assign):
            names = [name for target in statement.targets for name in _flat(target)]
            return all(isinstance(name, ast.Name) and not _has_meaning(name.id) for name in names) \
                and self._is_quiet(statement.value)
        return False

    def _is_quiet(self, value: ast.expr, within: frozenset[str] = frozenset()) -> bool:
        """Whether working out a value calls nothing but constructors: bodies of lambdas wait."""
        return all(self._is_quiet_call(call, within) for call in _calls(value))

    def _is_quiet_call(self, call: ast.Call, within: frozenset[str]) -> bool:
        if isinstance(call.func, ast.Attribute):
            return call.func.attr in _QUIET_METHODS
        if not isinstance(call.func, ast.Name):
            return False
        name = call.func.id
        if name in self._quiet or name in within:
            return True
        helpers = self._binders.get(name, [])
        return bool(helpers) and all(isinstance(one, ast.FunctionDef) and not one.decorator_list
                                     and self._is_quiet(one, within | {name}) for one in helpers)

    def _changes_what_is_shared(self, function: ast.stmt) -> bool:
        own = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
        own |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and _is_stored(node)}
        changed = [node for node in ast.walk(function)
                   if isinstance(node, (ast.Attribute, ast.Subscript)) and _is_stored(node)]
        changed += [node.func for node in ast.walk(function) if isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS]
        return any(_root(node) not in own and _root(node) in self._binders for node in changed)


def _exercise_of(statement: ast.stmt) -> str | None:
    """The exercise of a check function, if that can be read off it."""
    if not isinstance(statement, ast.FunctionDef):
        return None
    marks = [mark for mark in statement.decorator_list if _is_mark(mark)]
    if len(marks) != 1 or len(marks[0].args) != 1 or marks[0].keywords:
        return None
    argument = marks[0].args[0]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def _is_mark(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    return getattr(node.func, "id", None) == _MARK or getattr(node.func, "attr", None) == _MARK


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_of_etude(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == "etude"


def _is_dynamic(node: ast.AST) -> bool:
    return isinstance(node, ast.Global) or (isinstance(node, ast.Name) and node.id in _DYNAMIC) \
        or (isinstance(node, ast.Attribute) and node.attr in ("__globals__", "__dict__", "modules"))


def _has_meaning(name: str) -> bool:
    """Whether pytest or Python looks for a name of its own accord."""
    return name.startswith(("pytest", "__", "test", "Test"))


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top binds."""
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Name) and _is_stored(node):
            yield node.id
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name


def _used(statement: ast.stmt) -> set[str]:
    """Every name in a statement; arguments too, as pytest finds fixtures by them."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} \
        | {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(node, ast.Lambda) or child is not node.body:
            yield from _calls(child)


def _flat(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            yield from _flat(part)
    else:
        yield target


def _is_stored(node: ast.Name | ast.Attribute | ast.Subscript) -> bool:
    return isinstance(node.ctx, (ast.Store, ast.Del))


def _root(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
