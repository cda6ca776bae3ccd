"""`autograder build`: make assignments/ from solutions/, or say what is out of date there."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autograder.build.check_file import read_checks
from autograder.build.facts import facts
from autograder.build.leaks import Generated, Source, check_leaks
from autograder.build.public_checks import slice_public
from autograder.build.skeleton import build_notebook
from autograder.files import write_atomically
from autograder.solution.places import read_text
from autograder.solution.source import read_source

if TYPE_CHECKING:
    from autograder.course import Course, Unit

# What JupyterLab, Python, hypothesis and `etude.check` leave behind when someone works in assignments/.
_LEFTOVERS = {".ipynb_checkpoints", "__pycache__", ".hypothesis", ".pytest_cache", ".etude_progress.json"}


@dataclass(frozen=True)
class Change:
    """A file of assignments/ that is not what the sources make of it."""

    path: Path
    kind: Literal["missing", "different", "stray"]

    def __str__(self) -> str:
        says = {"missing": "is missing", "different": "is out of date", "stray": "is made by no source; delete it"}
        return f"{self.path.parent.name}/{self.path.name} {says[self.kind]}"


def build(course: Course, check: bool = False, units: Sequence[str] = ()) -> list[Change]:
    """Write what differs and return it; with `check`, only return it. Stray files are reported, never deleted.

    `units` names those that are built and looked at; none means all. Raises `UsageError`, before anything is written,
    for a source that breaks a rule and for a leak.
    """
    chosen = [course.unit(name) for name in units] or list(course.units.values())
    files = _generate(course, chosen)
    changes = [Change(path, kind) for path, text in files.items() if (kind := _state(path, text))]
    if not check:
        for change in changes:
            write_atomically(change.path, files[change.path])
    # Last, because they alone need the course's code to run, and take some seconds.
    changes += [change for unit in chosen if (change := _fingerprints(course, unit, files, check))]
    released = {*files, *map(fingerprints_path, chosen)}
    folders = [unit.assignment_path.parent for unit in chosen] if units else [course.root / "assignments"]
    return changes + [stray for folder in folders for stray in _strays(folder, released)]


def released_checks_path(unit: Unit) -> Path:
    """Where the public checks of a unit are released: next to its notebook."""
    return unit.assignment_path.with_name(f"{unit.notebook}_checks.py")


def facts_path(unit: Unit) -> Path:
    """Where titles, hints and limits are released."""
    return unit.assignment_path.with_name(f"{unit.notebook}_etude.json")


def fingerprints_path(unit: Unit) -> Path:
    """Where the unit's known mistakes are released, locked."""
    return unit.assignment_path.with_name(f"{unit.notebook}_fingerprints.json")


def _fingerprints(course: Course, unit: Unit, files: dict[Path, str], check: bool) -> Change | None:
    """Bring the fingerprints up to date. They are compared by what they were made of: their bytes hang on rounding."""
    from autograder.build.digest import made_of
    from autograder.variants import load_variants

    if not unit.variants_path.exists() or not any(one.kind == "mistake" for one in load_variants(unit.variants_path)):
        return None
    path, checks = fingerprints_path(unit), released_checks_path(unit)
    digest = made_of(unit, files[checks])
    try:
        kind = "different" if digest not in path.read_text(encoding="utf-8") else None
    except FileNotFoundError:
        kind = "missing"
    if kind and not check:
        from autograder.build.fingerprints import fingerprints
        from autograder.solution.interpreter import demand_triton
        from autograder.solution.material import Material
        if unit.triton:
            demand_triton(unit)
        write_atomically(path, fingerprints(Material(course, unit), files[checks], checks.name, digest))
    return Change(path, kind) if kind else None


def _generate(course: Course, units: Sequence[Unit]) -> dict[Path, str]:
    """The text of every file of assignments/ that follows from the sources alone, without running them."""
    sources = [_read(unit) for unit in units]
    files: dict[Path, str] = {}
    generated = []
    for unit, source in zip(units, sources, strict=True):
        made = {unit.assignment_path: build_notebook(unit), released_checks_path(unit): slice_public(source.checks),
                facts_path(unit): facts(course, unit, source.cells)}
        files |= made
        generated += [Generated(unit.id, f"{path.parent.name}/{path.name}", text) for path, text in made.items()]
    check_leaks(sources, generated)
    return files


def _read(unit: Unit) -> Source:
    # A unit without variants is `autograder verify`'s complaint, not the build's.
    variants = read_text(unit.variants_path) if unit.variants_path.exists() else ""
    return Source(unit.id, unit.solution_path, read_source(unit.solution_path, unit.exercises),
                  read_checks(unit.checks_path, unit.exercises), unit.variants_path, variants)


def _state(path: Path, text: str) -> Literal["missing", "different"] | None:
    try:
        return None if path.read_bytes() == text.encode() else "different"
    except FileNotFoundError:
        return "missing"


def _strays(folder: Path, files: dict[Path, str]) -> list[Change]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in files]
    return [Change(path, "stray") for path in found if _LEFTOVERS.isdisjoint(path.relative_to(folder).parts)]
