"""The two ways to read a report. Every view starts from one of them, so every string that it shows is clean."""
from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from autograder.report.model import Report, student_view
from autograder.report.text_safety import clean

# (characters, lines) by the name of the field; any other field is one short line.
_LIMITS = {
    "message": (4000, 40),
    "notes": (1000, 8),
    "explanation": (1000, 8),
    "inputs": (1000, 3),
    "text": (4000, 40),
    "non_finite": (400, 2),
    "title": (300, 1),
}
_SHORT_LINE = (200, 1)


def for_students(report: Report) -> Report:
    """What the student may see: public checks in full, hidden ones by title and diagnosis; every string clean."""
    return _cleaned(student_view(report))


def for_staff(report: Report) -> Report:
    """Everything, every string clean."""
    return _cleaned(report)


def _cleaned(value: Any, field: str = "") -> Any:
    if isinstance(value, str):
        return clean(value, *_LIMITS.get(field, _SHORT_LINE))
    if isinstance(value, BaseModel):
        parts = {name: _cleaned(getattr(value, name), name) for name in type(value).model_fields}
        return value.model_copy(update=parts)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, field) for item in value]
    return value
