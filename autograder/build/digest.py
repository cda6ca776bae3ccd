"""What a unit's fingerprints depend on: while it stays the same, they need not be made again."""
from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autograder.course import Unit

SCHEMA = 1
"""Raised when the rules for probes, marks or locks change: every file is then made anew."""


def made_of(unit: Unit, checks_text: str) -> str:
    """The digest of the reference, the known mistakes and the released checks."""
    found = hashlib.sha256(f"{SCHEMA}\0{checks_text}\0".encode())
    for path in (unit.solution_path, unit.variants_path):
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()
