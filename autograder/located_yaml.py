"""YAML for configuration files: plain values, the line of every entry, and none of YAML's surprises.

PyYAML alone takes the last of two equal keys without a word, expands aliases (a few lines can become gigabytes) and
forgets the lines. Here duplicate keys, aliases and tags are refused, and every entry remembers where it stood.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from autograder.errors import UsageError
from autograder.one_line import one_line

MAX_DEPTH = 20
MAX_SCALAR = 10_000
KeyPath = tuple[Any, ...]
"""Keys and list positions from the top down to an entry."""

# libyaml's parser where it is compiled in: it is ten times faster, and both report the same lines.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Located:
    """A YAML document as plain values, with the lines that its entries stood on."""

    name: str
    value: Any = None
    key_lines: dict[KeyPath, int] = field(default_factory=dict)
    value_lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath, of_key: bool = False) -> int:
        """Line of the deepest entry on `path` that exists, counted from 1."""
        lines = self.key_lines if of_key else self.value_lines
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 1)


def read_yaml(text: str, name: str) -> Located:
    """Parse `text`; `name` stands for the file in messages. Raises `UsageError` with one line."""
    located = Located(name)
    try:
        _refuse_surprises(text, name)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        _fail(name, _line_of(error, text), f"not YAML: {_what(error)}")
    if root is None:
        raise UsageError(f"{name}: the file is empty")
    located.value = _Reader(located).value(root, ())
    return located


def _refuse_surprises(text: str, name: str) -> None:
    """Look at the events alone: they come one by one, before anything is nested, expanded or converted."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            _fail(name, line, f"aliases are not used here: write out what *{event.anchor} stands for")
        if getattr(event, "tag", None) is not None:
            _fail(name, line, f"tags are not used here: remove {event.tag}")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_SCALAR:
            _fail(name, line, f"a value is {len(event.value):,} characters long; at most {MAX_SCALAR:,} are read")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            _fail(name, line, f"nested more than {MAX_DEPTH} levels deep")


class _Reader:
    """Turns composed nodes into values and notes their lines."""

    def __init__(self, located: Located):
        self.located = located
        self.scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.located.value_lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = self._key(key_node), key_node.start_mark.line + 1
            if key in mapping:
                first = self.located.key_lines[(*path, key)]
                _fail(self.located.name, line, f"{dotted((*path, key))}: given twice; first on line {first}")
            self.located.key_lines[(*path, key)] = line
            mapping[key] = self.value(value_node, (*path, key))
        return mapping

    def _key(self, node: yaml.Node) -> str:
        key = self._scalar(node) if isinstance(node, yaml.ScalarNode) else node.value
        if not isinstance(key, str):
            shown = f"put {node.value} in quotes" if isinstance(node, yaml.ScalarNode) else "not a collection"
            _fail(self.located.name, node.start_mark.line + 1, f"a key must be text: {shown}")
        return key

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, ArithmeticError):
            # 2024-99-99 looks like a date and `<<` like a merge; neither is a value.
            _fail(self.located.name, node.start_mark.line + 1, f"cannot read {node.value[:60]}: put it in quotes")


def dotted(path: KeyPath) -> str:
    """`units.attention.points`, as messages name an entry; positions in lists are `preload[0]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _line_of(error: yaml.YAMLError, text: str) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return mark.line + 1
    return text.count("\n", 0, getattr(error, "position", 0) or 0) + 1


def _what(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    # "but found another document" needs the half sentence before it.
    return f"{error.context}, {problem}" if problem.startswith("but ") else problem


def _fail(name: str, line: int, message: str) -> NoReturn:
    raise UsageError(f"{name}:{line}: {one_line(message)}") from None
