"""A zip for Gradescope: the grader, one unit of the course, and the secret seed; nothing else of the course.

    run_autograder, setup.sh     what Gradescope calls; see gradescope_zip/
    course/                      course.yml with this unit alone, and its folder in solutions/
    package/                     etude and autograder, for pip
    constraints.txt              the versions to install
    seed.txt                     what the hidden examples are drawn from
    crashed.json                 the result of a grader that was killed
"""
from __future__ import annotations

import json
import os
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.errors import UsageError
from autograder.exports.gradescope_run import UNSANDBOXED, crashed

if TYPE_CHECKING:
    from autograder.course import Course, Unit

SCRIPTS = Path(__file__).parent / "gradescope_zip"
SEED_VARIABLE = "ETUDE_SEED"
# No JupyterLab, and nothing that only writes notebooks.
GRADING = ("einops", "hypothesis", "jinja2", "numpy", "pydantic", "pytest", "pyyaml", "rich", "torch",
           "torch-geometric", "typer")
"""What grading needs, as pip takes it."""
_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "etude"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = [
{needed}]

[tool.setuptools.packages.find]
include = ["autograder*", "etude*"]

[tool.setuptools.package-data]
autograder = ["report/templates/*"]
"""


def export_gradescope(course: Course, unit_id: str, to: Path, unsandboxed: bool = False) -> bool:
    """Write the zip; whether its seed is a new one, because `ETUDE_SEED` is not set.

    Raises `UsageError` if something is missing or `to` is there already: its seed may be the only copy.
    """
    unit = course.unit(unit_id)
    constraints = course.root / "constraints.txt"
    for path in (unit.solution_path, unit.checks_path, unit.variants_path, constraints):
        if not path.exists():
            raise UsageError(f"{path}: no such file")
    if to.exists():
        raise UsageError(f"{to}: is there already; delete it, or name another file")
    seed = os.environ.get(SEED_VARIABLE)
    if seed is not None and not seed.strip():
        raise UsageError(f"{SEED_VARIABLE} is set, but empty; unset it to have a seed made")
    to.parent.mkdir(parents=True, exist_ok=True)
    # The zip has the seed and the solutions: for its owner only.
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name, data, mode in _members(course, unit, unsandboxed):
                _add(archive, name, data, mode)
            _add(archive, "constraints.txt", constraints.read_bytes(), 0o644)
            _add(archive, "seed.txt", (seed or secrets.token_urlsafe(32)).encode(), 0o400)
    except BaseException:
        to.unlink()  # half a zip would pass for one
        raise
    return seed is None


def _members(course: Course, unit: Unit, unsandboxed: bool) -> Iterator[tuple[str, bytes, int]]:
    for script in ("run_autograder", "setup.sh"):
        text = (SCRIPTS / script).read_text(encoding="utf-8")
        if unsandboxed:
            text = text.replace('gradescope_run "$home"', f'gradescope_run "$home" {UNSANDBOXED}')
        yield script, text.encode(), 0o755
    yield "crashed.json", json.dumps(crashed(), indent=2).encode(), 0o644
    yield "course/course.yml", json.dumps(course_of_one(course, unit), indent=1).encode(), 0o600
    home = unit.solution_path.parent
    for path in _sources(home):
        yield f"course/solutions/{unit.id}/{path.relative_to(home).as_posix()}", path.read_bytes(), 0o600
    yield from _package()


def course_of_one(course: Course, unit: Unit) -> dict[str, Any]:
    """course.yml with this unit alone. The grade does not depend on the others."""
    value = course.model_dump(by_alias=True, mode="json")
    value["units"] = {unit.id: {**value["units"][unit.id], "prerequisites": []}}
    return value


def _package() -> Iterator[tuple[str, bytes, int]]:
    import autograder
    import etude
    for package in (autograder, etude):
        home = Path(package.__file__).parent
        for path in _sources(home):
            if SCRIPTS not in path.parents and "student_repository" not in path.parts:
                yield f"package/{home.name}/{path.relative_to(home).as_posix()}", path.read_bytes(), 0o644
    yield "package/pyproject.toml", _PYPROJECT.format(
        needed="".join(f'    "{line}",\n' for line in GRADING)).encode(), 0o644


def _sources(home: Path) -> list[Path]:
    return sorted(path for path in home.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _add(archive: zipfile.ZipFile, name: str, data: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system, entry.external_attr = 3, (0o100000 | mode) << 16  # a Unix file with this mode
    archive.writestr(entry, data)
