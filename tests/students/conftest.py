"""The attention unit as a student has it: the released files in a folder, and functions in a namespace."""
from __future__ import annotations

import json
import linecache
import shutil
from pathlib import Path
from typing import Any

import pytest

from autograder.solution.source import reference_cells
from etude.cells import load_program
from etude.students.checking import Checked, check_namespace
from etude.students.released import Release

ROOT = Path(__file__).resolve().parents[2]
RELEASED = ROOT / "assignments" / "attention"
SOLUTION = ROOT / "solutions" / "attention" / "attention.py"
PATIENT = 60.0
"""Seconds for a call: honest code shall not be interrupted on a busy machine. Tests of what does not end ask for less.
"""


class Student:
    """A namespace with right solutions, a folder with the released files, and cells that replace functions."""

    def __init__(self, folder: Path):
        for path in RELEASED.glob("attention*"):
            shutil.copy(path, folder)
        self.folder = folder
        self.patience(PATIENT)
        cells = [{"label": label, "source": text, "mode": "all"} for label, text in reference_cells(SOLUTION)]
        self.namespace = load_program(cells).namespace

    def patience(self, call_seconds: float) -> None:
        """What one call may take."""
        path = self.folder / "attention_etude.json"
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts["limits"] |= {"call_seconds": call_seconds, "exercise_seconds": 20 * call_seconds}
        path.write_text(json.dumps(facts), encoding="utf-8")
        self.reread()

    def reread(self) -> None:
        """Take notice of what was changed in the released files."""
        self.release = Release(self.folder, "attention")

    def run(self, source: str, name: str = "<etude cell 9 (own)>") -> None:
        """Run a cell, as the kernel does: its lines can be looked up."""
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), self.namespace)

    def check(self, *exercises: str, **options: Any) -> Checked:
        return check_namespace(self.namespace, [self.release], exercises, **options)

    def finding(self, exercise: str = "sdpa_masked") -> Any:
        return self.check(exercise).findings[0]


@pytest.fixture
def student(tmp_path: Path) -> Student:
    return Student(tmp_path)
