"""The skeleton of an exercise, added to the three files of its unit and to course.yml; a new unit gets new files."""
from __future__ import annotations

import ast
import keyword
from collections.abc import Mapping
from pathlib import Path

from autograder.authoring import skeletons
from autograder.authoring.course_entry import with_exercise
from autograder.course import FILE_NAME, Course, Unit, parse_course
from autograder.errors import UsageError
from autograder.files import write_atomically


def new_exercise(course: Course, unit_id: str, exercise_id: str) -> list[Path]:
    """Write the skeleton of an exercise; returns the files that were written.

    Raises `UsageError`, before anything is written, for a name that is taken or cannot be used.
    """
    if keyword.iskeyword(exercise_id):
        raise UsageError(f"exercise {exercise_id!r}: a keyword of Python names no function")
    path = course.root / FILE_NAME
    text = with_exercise(path.read_text(encoding="utf-8-sig"), path, unit_id, exercise_id)
    # What course.yml says now is read as it will be: an id that cannot be used is told in the usual words.
    unit = parse_course(text.encode(), str(path), course.root).unit(unit_id)
    files = {path: text for path, text in _files(unit, exercise_id, unit_id in course.units).items()}
    for file, content in files.items():
        write_atomically(file, content)
    write_atomically(path, text)  # last: course.yml names no file that is not there
    return [*files, path]


def _files(unit: Unit, exercise: str, exists: bool) -> Mapping[Path, str]:
    """The text of the three files with the exercise in them."""
    parts = ((unit.solution_path, skeletons.NOTEBOOK, skeletons.EXERCISE),
             (unit.checks_path, skeletons.CHECKS, skeletons.CHECK),
             (unit.variants_path, skeletons.VARIANTS, skeletons.VARIANT))
    files = {}
    for path, head, body in parts:
        if path.exists() and not exists:
            raise UsageError(f"{path}: is there, and {FILE_NAME} has no unit {unit.id}; move it away first")
        if exists and not path.exists():
            raise UsageError(f"{path}: no such file; the unit {unit.id} needs it first")
        old = path.read_text(encoding="utf-8") if exists else head
        names = _names(old, path)
        if exists and exercise in names and path == unit.solution_path:
            raise UsageError(f"{path}: has a function {exercise} already; name the exercise otherwise")
        added = body.replace("<id>", exercise).replace("<ID>", exercise.upper())
        files[path] = _with_imports(old, names, added).rstrip("\n") + "\n\n" + added
    return files


def _names(text: str, path: Path) -> dict[str, int]:
    """What a module defines at its top, and the last line of each definition; imports under their names."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: {error.msg}") from None
    names: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names[node.name] = node.end_lineno
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0]: node.end_lineno for alias in node.names}
    return names


def _with_imports(text: str, names: Mapping[str, int], added: str) -> str:
    """The module with an import behind its others for each name that the added part needs and it lacks."""
    missing = [line for name, line in skeletons.IMPORTS.items() if name in added and name not in names]
    if not missing:
        return text
    tree = ast.parse(text)
    imports = [node.end_lineno for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    docstring = tree.body[0].end_lineno if ast.get_docstring(tree) is not None else 0
    at = max(imports, default=docstring)
    lines = text.splitlines()
    return "\n".join([*lines[:at], *dict.fromkeys(missing), *lines[at:]]) + "\n"
