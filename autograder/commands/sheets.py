"""`autograder export canvas | moodle`: which scores or marks go into the sheet, and what is said about it."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from autograder.classroom.marks_table import MarkRow, read_marks
from autograder.course import Course, Unit
from autograder.errors import UsageError
from autograder.exports.sheets import Filled, Lms, fill_file
from autograder.report.model import Report
from autograder.report.store import read_reports
from autograder.report.wording import counted


def run_sheet(course: Course, lms: Lms, sheet: Path, *, results: Path | None, marks: Path | None, unit: str | None,
              column: str | None, by: str | None, overwrite: bool, to: Path) -> int:
    """The exit code: 0, or 1 if a student has no line or no mark, or a score in the sheet differs and was kept."""
    if (results is None) == (marks is None):
        raise UsageError("give either --results, for scores as graded, or --marks, for what `autograder marks` made of "
                         "them")
    rows: Sequence[Report | MarkRow]
    if marks is not None:
        rows, problems, source = read_marks(marks), [], marks
    else:
        rows, problems = read_reports(results)
        source = results
    for problem in problems:
        _complain(problem)
    chosen = _unit(course, rows, unit, source)
    rows = [row for row in rows if row.unit == chosen.id]
    if not rows:
        raise UsageError(f"{source}: nothing of unit {chosen.id}")
    missing = [row for row in rows if row.score is None]
    there = [row for row in rows if row.score is not None]
    filled = fill_file(lms, sheet, chosen, there, to, column=column, by=by, overwrite=overwrite,
                       said="marked" if marks is not None else "graded")
    _tell(filled, to, missing, of_marks=marks is not None)
    if marks is None:
        _complain_of_scores(course, chosen, rows)
    return 0 if filled.complete and not problems and not missing else 1


def _unit(course: Course, rows: Sequence[Report | MarkRow], unit: str | None, source: Path) -> Unit:
    if unit is not None:
        return course.unit(unit)
    units = sorted({row.unit for row in rows})
    if len(units) != 1:
        what = f"has several units ({', '.join(units)}); name one with --unit" if units else "nothing in it"
        raise UsageError(f"{source}: {what}")
    return course.unit(units[0])


def _tell(filled: Filled, to: Path, missing: Sequence[MarkRow], *, of_marks: bool) -> None:
    noun, done, undone = ("mark", "marked", "without a mark") if of_marks else ("score", "graded", "not graded")
    unchanged = f", {filled.unchanged} were there already" if filled.unchanged else ""
    print(f"{to}: {counted(filled.written, noun)} written to {filled.column}{unchanged}")
    for title, lines in ((f"{done}, but not in the sheet", filled.not_in_sheet),
                         ("no mark, left as it is", [f"{row.student}: {row.why}" for row in missing]),
                         ("differing scores, kept (--overwrite replaces them)", filled.kept),
                         ("differing scores, overwritten", filled.overwritten),
                         (f"in the sheet, but {undone}", filled.not_graded)):
        if lines:
            print(f"{title}: {len(lines)}")
            for line in lines:
                print(f"  {line}")


def _complain_of_scores(course: Course, unit: Unit, reports: Sequence[Report]) -> None:
    """What a score as graded does not say; of a mark, the table's `why` does."""
    advisory = sum(report.sandbox == "ADVISORY" for report in reports)
    if advisory:
        _complain(f"{advisory} of {len(reports)} reports are ADVISORY: graded without an enforced sandbox")
    if course.policy.deadline(unit.id) is not None:
        _complain(f"unit {unit.id} has a deadline, and these are scores as graded, without penalties: "
                  "`autograder marks` makes marks, --marks takes them")


def _complain(line: str) -> None:
    print(f"autograder: {line}", file=sys.stderr)
