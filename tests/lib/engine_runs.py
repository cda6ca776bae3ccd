"""Small check files and subjects for the tests of the engine."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from etude.engine import run_checks
from etude.outcomes import Check, Outcome

HEAD = """\
import pytest
import torch
from hypothesis import assume, given, strategies as st
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure, StudentError, StudentStopped
from etude.properties import assert_equivalent, assert_pure
from etude.strategies import Cases, for_all, normal

SPEC = Cases(x=normal("B T"))
"""
CHECK = '@exercise("one")\n@points(1)\ndef test_it(student):\n    """It holds."""\n    '
"""What a minimal check begins with."""


class Subject:
    """A student that is an object of this process, and what came of the checks."""

    def __init__(self, **functions: Any):
        self.given = SimpleNamespace(**functions)
        self.asked: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self.finished_in_order: list[str] = []

    def student(self, exercise: str) -> Any:
        self.asked.append(exercise)
        return self.given

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        self.finished_in_order.append(exercise)
        self.outcomes |= {outcome.check.name: outcome for outcome in outcomes}

    @property
    def passed(self) -> dict[str, bool]:
        return {name: outcome.passed for name, outcome in self.outcomes.items()}

    def failure(self, name: str = "test_it") -> Any:
        return self.outcomes[name].failure


def check_file(folder: Path, source: str, name: str = "unit_checks.py") -> Path:
    path = folder / name
    path.write_text(HEAD + source, encoding="utf-8")
    return path


def run(folder: Path, source: str, *subjects: Subject, **options: Any) -> Subject:
    """Run the checks in `source` for the subjects, or for one that has no functions; the last subject."""
    subjects = subjects or (Subject(),)
    run_checks([check_file(folder, source)], subjects, **options)
    return subjects[-1]


def collected(folder: Path, source: str) -> list[Check]:
    found: list[Check] = []
    run_checks([check_file(folder, source)], [], on_checks=found.extend)
    return found


def doubling(factor: float = 2.0) -> Callable[[Any], Any]:
    return lambda x: x * factor
