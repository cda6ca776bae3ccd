"""The repository that students start from: notebooks, the package that they import, and workflows that check pushes."""
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import requires
from pathlib import Path

from autograder.course import Course
from autograder.errors import UsageError
from autograder.files import copied, write_atomically

TEMPLATE = Path(__file__).parent / "student_repository"
_EXTRA = re.compile(r";.*\bextra\b")


def export_repository(course: Course, units: Sequence[str], to: Path) -> list[Path]:
    """Write the repository with these units, all without any; returns the files.

    A folder that has something else in it is refused: what students have pushed there must not be overwritten.
    Raises `UsageError` for that, and where a unit has not been built.
    """
    chosen = [course.unit(name) for name in units] or list(course.units.values())
    for unit in chosen:
        if not unit.assignment_path.exists():
            raise UsageError(f"{unit.assignment_path}: no such file; run `autograder build {unit.id}` first")
    if to.exists() and any(to.iterdir()):
        raise UsageError(f"{to}: not empty; name a new folder")
    written = [*copied(TEMPLATE, to, TEMPLATE.rglob("*")), *_package(to / "etude")]
    for unit in chosen:
        home = unit.assignment_path.parent
        written += copied(home, to / "assignments" / unit.id, home.glob(f"{unit.notebook}[._]*"))
    constraints = course.root / "constraints.txt"
    if constraints.exists():
        written += copied(course.root, to, [constraints])
    else:
        write_atomically(to / "constraints.txt", "# Pin versions here, one `name==version` a line.\n")
        written.append(to / "constraints.txt")
    return written


def student_requirements() -> list[str]:
    """What students need beside `etude`, as pip takes it."""
    return [line for line in requires("etude") or [] if not _EXTRA.search(line)]


def _package(to: Path) -> Iterator[Path]:
    """`etude` without the autograder, as a folder that pip can install."""
    import etude
    source = Path(etude.__file__).parent
    yield from copied(source, to / "etude", source.rglob("*"))
    needed = "".join(f'    "{line}",\n' for line in student_requirements())
    text = ('[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n\n'
            '[project]\nname = "etude"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
            f'dependencies = [\n{needed}]\n\n[project.scripts]\netude = "etude.cli:main"\n\n'
            '[tool.setuptools.packages.find]\ninclude = ["etude*"]\n\n[tool.setuptools.data-files]\n'
            '"etc/jupyter/jupyter_server_config.d" = ["etude/jupyter_server_config.d/etude.json"]\n')
    write_atomically(to / "pyproject.toml", text)
    yield to / "pyproject.toml"
