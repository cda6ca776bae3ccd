"""The files that came with a notebook: its public checks, and what the course says about it.

    attention.ipynb                  the notebook
    attention_checks.py              its public checks
    attention_etude.json             titles, hints and limits; the other units of the course
    attention_fingerprints.json      by which known mistakes are named (see `etude.students.fingerprints`)

All of them are made by `autograder build`. Only the checks are needed; without the others a card says less.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

CHECKS, FACTS, FINGERPRINTS = "_checks.py", "_etude.json", "_fingerprints.json"
FINGERPRINTS_SCHEMA = 4
"""Raised when the rules for probes, marks or locks change: files made by other rules are of no use."""


class NothingReleased(Exception):
    """There are no checks in the folder. The message is for the student."""


@dataclass(frozen=True)
class Release:
    """One released notebook, by its folder and its name without ending."""

    folder: Path
    name: str

    @property
    def checks(self) -> Path:
        return self.folder / f"{self.name}{CHECKS}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What stands in `<name>_etude.json`; empty if it is missing or damaged."""
        return read_json(self.folder / f"{self.name}{FACTS}")

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        return read_json(self.folder / f"{self.name}{FINGERPRINTS}")

    @property
    def exercises(self) -> dict[str, dict[str, Any]]:
        """What the course says about each exercise, in its order."""
        found = self.facts.get("exercises")
        return found if isinstance(found, dict) else {}

    def limit(self, name: str, default: float) -> float:
        """A limit of course.yml, in its unit."""
        value = self.facts.get("limits", {}).get(name)
        return float(value) if isinstance(value, (int, float)) else default

    @property
    def label(self) -> str:
        """How its exercises are checked, where that needs saying."""
        from etude.kernels import LABEL
        return LABEL if self.facts.get("triton") is True else ""

    def title(self, exercise: str) -> str:
        return str(self.exercises.get(exercise, {}).get("title", exercise))

    def hints(self, exercise: str) -> list[str]:
        return list(self.exercises.get(exercise, {}).get("hints", []))


def releases_in(folder: Path, notebook: Path | None = None) -> list[Release]:
    """The released notebooks of a folder; only the one that `notebook` names, if it is among them.

    Raises `NothingReleased`.
    """
    names = sorted(path.name.removesuffix(CHECKS) for path in folder.glob(f"*{CHECKS}"))
    if not names:
        raise NothingReleased(f"There is no *{CHECKS} in {folder.name or folder}/: keep the files that came with the "
                              "notebook next to it.")
    if notebook is not None and notebook.stem in names:
        names = [notebook.stem]
    return [Release(folder, name) for name in names]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no such file or no such object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
