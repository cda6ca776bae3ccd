"""A course directory for nbgrader: source/ from solutions/, release/ by nbgrader itself.

What was written is remembered by its digest, so that a file that the instructor edited is known, and never overwritten
unasked.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autograder.build.build import facts_path, fingerprints_path, released_checks_path
from autograder.build.skeleton import source_notebook
from autograder.errors import AutograderError, UsageError
from autograder.files import write_atomically

if TYPE_CHECKING:
    from autograder.course import Course, Unit

CONFIG = "nbgrader_config.py"
_MEMORY = ".etude_release.json"
_CALL = "autograder.nbgrader.config"
_CONFIG_TEXT = '''\
# nbgrader's configuration. This file is yours: `autograder release` writes it once.
from {call} import configure

c = get_config()
configure(c, course={course!r})

c.CourseDirectory.course_id = {course_id!r}
# Where `nbgrader release_assignment` puts assignments, and students' submissions come in:
# c.Exchange.root = "/srv/nbgrader/exchange"
# Late submissions: "none" costs nothing, "zero" everything; see nbgrader's documentation for plugins of your own.
# c.LateSubmissionPlugin.penalty_method = "none"
'''


def release(course: Course, units: Sequence[Unit], directory: Path, force: bool = False) -> Iterator[str]:
    """Bring the course directory up to date and say, line by line, what was done.

    Raises `UsageError`, before anything is written, if a file that was edited there would have to be overwritten.
    """
    new = {directory / CONFIG: _config(course, directory)}
    for unit in units:
        new |= _source(unit, directory)
    memory = _remembered(directory)
    edited = {path: memory.get(_name(path, directory)) == _digest(text) for path, text in new.items()
              if _is_edited(path, text, memory.get(_name(path, directory)))}
    clashes = [_name(path, directory) for path, has_old_base in edited.items() if not has_old_base]
    if clashes and not force:
        raise UsageError(f"{directory}: edited since `autograder release` wrote it, and now out of date: "
                         f"{', '.join(clashes)}; move your changes away, or overwrite them with --force")
    for path in [] if force else edited:
        yield f"kept {_name(path, directory)}, which was edited here"
        del new[path]
    for unit in units:
        yield from _release_unit(unit, directory, new, memory)


def _release_unit(unit: Unit, directory: Path, new: dict[Path, str], memory: dict[str, str]) -> Iterator[str]:
    source = directory / "source" / unit.id
    for path in [path for path in new if path.parent in (directory, source)]:
        if _bytes(path) != new[path].encode():
            write_atomically(path, new[path])
            yield f"wrote {_name(path, directory)}"
        memory[_name(path, directory)] = _digest(new[path])
    _remember(directory, memory)
    made_of, made = _digest_of_folder(source), directory / "release" / unit.id / unit.assignment_path.name
    if memory.get(f"release/{unit.id}") != made_of or not made.exists():
        _nbgrader(directory, "generate_assignment", unit.id, "--force")
        memory[f"release/{unit.id}"] = made_of
        _remember(directory, memory)
        yield f"made release/{unit.id}/ and its entry in the gradebook"


# ---------------------------------------------------------------------------------------------- the files

def _config(course: Course, directory: Path) -> str:
    course_id = re.sub(r"[^A-Za-z0-9]+", "_", course.title).strip("_").lower() or "course"
    text = _CONFIG_TEXT.format(call=_CALL, course=str(course.root / "course.yml"), course_id=course_id)
    there = _bytes(directory / CONFIG)
    # Whoever calls our configuration needs no other text of us.
    return there.decode("utf-8", "replace") if there is not None and _CALL.encode() in there else text


def _source(unit: Unit, directory: Path) -> dict[Path, str]:
    folder = directory / "source" / unit.id
    released = [released_checks_path(unit), facts_path(unit), fingerprints_path(unit)]
    if not all(path.exists() for path in released[:2]):
        raise UsageError(f"{unit.assignment_path.parent}: not built yet; run `autograder build {unit.id}`")
    return {folder / unit.assignment_path.name: source_notebook(unit),
            **{folder / path.name: path.read_text(encoding="utf-8") for path in released if path.exists()}}


def _is_edited(path: Path, text: str, remembered: str | None) -> bool:
    there = _bytes(path)
    return there is not None and there != text.encode() and remembered != hashlib.sha256(there).hexdigest()


def _remembered(directory: Path) -> dict[str, str]:
    try:
        found = json.loads((directory / _MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(directory: Path, memory: dict[str, str]) -> None:
    write_atomically(directory / _MEMORY, json.dumps(memory, indent=1, sort_keys=True) + "\n")


def _digest_of_folder(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".ipynb_checkpoints" not in path.parts)
    return _digest("".join(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files))


def _name(path: Path, directory: Path) -> str:
    return path.relative_to(directory).as_posix()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


# ---------------------------------------------------------------------------------------------- nbgrader

def _nbgrader(directory: Path, *arguments: str) -> None:
    """Run nbgrader in the course directory. Raises `AutograderError` with the last line of what it says."""
    # It starts `alembic` by name to make a gradebook.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=directory, capture_output=True,
                          text=True, env={**os.environ, "PATH": path}, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise AutograderError(f"{directory}: `nbgrader {' '.join(arguments)}` failed: {said[-1].strip()[:300]}")
