"""The table of marks, a CSV file: `autograder marks` writes it, a gradebook's sheet is filled from it."""
from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder.classroom.marks import Mark
from autograder.classroom.tables import Row, read_table
from autograder.report.wording import number

COLUMNS = ("student", "unit", "mark", "max", "raw", "penalty", "days_late", "submitted", "deadline", "attempt", "why")


@dataclass(frozen=True)
class MarkRow:
    """A mark as the table has it."""

    student: str
    unit: str
    score: float | None
    """The mark; nothing if there is none."""
    max_score: float | None
    why: str


def marks_table(found: Sequence[Mark]) -> str:
    """The text of the table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for mark in found:
        one = mark.marked
        if one is None:
            writer.writerow([mark.student, mark.unit, *[""] * (len(COLUMNS) - 3), mark.why])
            continue
        report = one.attempt.report
        writer.writerow([mark.student, mark.unit, f"{one.mark.normalize():f}", number(report.max_score),
                         number(report.score), f"{one.penalty.normalize():f}", one.days_late,
                         one.attempt.submitted.isoformat() if one.attempt.submitted else "",
                         one.deadline.isoformat() if one.deadline else "", one.attempt.results, mark.why])
    return out.getvalue()


def read_marks(path: Path) -> list[MarkRow]:
    """The rows of a table of marks. Raises `UsageError` for what is no number, and for a student and unit given twice.

    A mark above the maximum is somebody's bonus: it stays.
    """
    needed = ("student", "unit")
    found: dict[tuple[str, str], MarkRow] = {}
    for row in read_table(path, needed, [name for name in COLUMNS if name not in needed]):
        key = (row.values["student"], row.values["unit"])
        if key in found:
            raise row.fault(f"{key[0]}, {key[1]}: given twice")
        mark, most = _points(row, "mark"), _points(row, "max")
        if mark is not None and most is None:
            raise row.fault("max is empty")
        found[key] = MarkRow(*key, mark, most, row.values.get("why", ""))
    return list(found.values())


def _points(row: Row, column: str) -> float | None:
    text = row.values.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise row.fault(f"{column}: expected a number of points, got {text!r}")
    return value
