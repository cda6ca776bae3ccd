"""An exercise's entry written into the text of a course.yml; whatever else stands there stays as it is."""
from __future__ import annotations

from pathlib import Path

import yaml

from autograder.errors import UsageError

_EXERCISE = '{{title: "TODO: the title of {id}", points: 4, minutes: 20, difficulty: 1}}'


def with_exercise(text: str, path: Path, unit: str, exercise: str) -> str:
    """The text with `units.<unit>.exercises.<exercise>`; a unit that is not there is added with it.

    The text is one that `parse_course` has read. Raises `UsageError` where the exercise is there already, or where the
    mapping that it belongs to is written in braces.
    """
    units = _child(yaml.compose(text, Loader=yaml.SafeLoader), "units")
    _refuse_braces(units, path, "units")
    entry = _child(units, unit)
    if entry is None:
        indent = " " * units.value[-1][0].start_mark.column
        lines = [f"{indent}{unit}:", f'{indent}  title: "TODO: the title of {unit}"', f"{indent}  notebook: {unit}",
                 f"{indent}  exercises:", f"{indent}    {exercise}: {_EXERCISE.format(id=exercise)}"]
        return _inserted(text, _last_line(units), lines)
    exercises = _child(entry, "exercises")
    if _child(exercises, exercise) is not None:
        raise UsageError(f"{path}: unit {unit} has an exercise {exercise} already")
    _refuse_braces(exercises, path, f"units.{unit}.exercises")
    indent = " " * exercises.value[-1][0].start_mark.column
    return _inserted(text, _last_line(exercises), [f"{indent}{exercise}: {_EXERCISE.format(id=exercise)}"])


def _child(node: yaml.MappingNode, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _refuse_braces(node: yaml.Node, path: Path, name: str) -> None:
    if node.flow_style:
        raise UsageError(f"{path}:{node.start_mark.line + 1}: {name} stands in braces; write one entry a line first")


def _last_line(node: yaml.Node) -> int:
    """The last line that an entry stands on, from 0. A mapping in block style itself ends before what follows it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(node, yaml.MappingNode) else last)
    return node.end_mark.line


def _inserted(text: str, after: int, new: list[str]) -> str:
    lines = text.splitlines()
    return "\n".join([*lines[:after + 1], *new, *lines[after + 1:]]) + "\n"
