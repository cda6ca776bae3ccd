"""Points in time as text: ISO 8601 with the offset from UTC. A time without one means another moment elsewhere."""
from __future__ import annotations

import re
from datetime import datetime
from typing import Any

EXAMPLE = "2026-12-01T23:59:00+01:00"
_FORM = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def moment(text: str) -> datetime:
    """The moment that a text names. Raises `ValueError` saying what is wrong with it."""
    if not _FORM.fullmatch(text):
        naive = _FORM.fullmatch(text.replace(" ", "T") + "Z")
        raise ValueError("has no offset from UTC" if naive else f"expected a time as {EXAMPLE}")
    return datetime.fromisoformat(text)


def is_moment(value: Any) -> bool:
    """Whether a value of course.yml is such a text."""
    try:
        return isinstance(value, str) and moment(value) is not None
    except ValueError:
        return False
