"""`autograder export canvas | moodle`: which reports go into the sheet, and what is said about it."""
from __future__ import annotations

import sys
from pathlib import Path

from autograder.course import Course, Unit
from autograder.errors import UsageError
from autograder.exports.sheets import Filled, Lms, fill_file
from autograder.report.model import Report
from autograder.report.store import read_reports
from autograder.report.wording import counted


def run_sheet(course: Course, lms: Lms, sheet: Path, *, results: Path, unit: str | None, column: str | None,
              by: str | None, overwrite: bool, to: Path) -> int:
    """The exit code: 0, or 1 if a graded student has no line or a score in the sheet differs and was kept."""
    reports, problems = read_reports(results)
    for problem in problems:
        _complain(problem)
    chosen = _unit(course, reports, unit, results)
    reports = [report for report in reports if report.unit == chosen.id]
    if not reports:
        raise UsageError(f"{results}: no reports of unit {chosen.id}")
    filled = fill_file(lms, sheet, chosen, reports, to, column=column, by=by, overwrite=overwrite)
    _tell(filled, to)
    advisory = sum(report.sandbox == "ADVISORY" for report in reports)
    if advisory:
        _complain(f"{advisory} of {len(reports)} reports are ADVISORY: graded without an enforced sandbox")
    return 0 if filled.complete and not problems else 1


def _unit(course: Course, reports: list[Report], unit: str | None, results: Path) -> Unit:
    if unit is not None:
        return course.unit(unit)
    units = sorted({report.unit for report in reports})
    if len(units) != 1:
        what = f"has reports of several units ({', '.join(units)})" if units else "has no reports"
        raise UsageError(f"{results}: {what}; name one with --unit" if units else f"{results}: {what}")
    return course.unit(units[0])


def _tell(filled: Filled, to: Path) -> None:
    unchanged = f", {filled.unchanged} were there already" if filled.unchanged else ""
    print(f"{to}: {counted(filled.written, 'score')} written to {filled.column}{unchanged}")
    for title, lines in (("graded, but not in the sheet", filled.not_in_sheet),
                         ("differing scores, kept (--overwrite replaces them)", filled.kept),
                         ("differing scores, overwritten", filled.overwritten),
                         ("in the sheet, but not graded", filled.not_graded)):
        if lines:
            print(f"{title}: {len(lines)}")
            for line in lines:
                print(f"  {line}")


def _complain(line: str) -> None:
    print(f"autograder: {line}", file=sys.stderr)
