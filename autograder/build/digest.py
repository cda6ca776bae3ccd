"""What a unit's fingerprints depend on: while it stays the same, they need not be made again."""
from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from autograder.solution.source import reference_cells
from etude.students.released import FINGERPRINTS_SCHEMA

if TYPE_CHECKING:
    from autograder.course import Unit


def made_of(unit: Unit, checks_text: str) -> str:
    """The digest of the reference, the known mistakes and the released checks."""
    found = hashlib.sha256(f"{FINGERPRINTS_SCHEMA}\0{checks_text}\0".encode())
    for label, source in reference_cells(unit.solution_path):
        found.update(f"{label}\0{source}\0".encode())
    found.update(unit.variants_path.read_bytes())
    return found.hexdigest()
