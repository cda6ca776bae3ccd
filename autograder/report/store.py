"""Where reports live: `DIR/<student>/<unit>.json`, each file whole or absent, whatever kills the grader.

A report says what it depends on, so the store needs no journal: a run that starts again keeps the reports that still
hold and has the rest graded.
"""
from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from autograder.errors import UsageError
from autograder.files import is_leftover
from autograder.report.model import Report
from autograder.report.text_safety import clean

GRADESCOPE_SUFFIX = ".gradescope.json"
_PLAIN_NAME = re.compile(r"[\w@+-](?:[\w.@+ -]{0,60}[\w@+-])?")
_MAX_NAME_BYTES = 150
INDEX_PAGE = "index.html"
"""The staff's overview of the class."""
_UNIT_PAGE_BEGINNING, _PAGE_ENDING = "class-", ".html"


def report_path(out_dir: Path, student: str, unit: str) -> Path:
    """Where the report of a student's submission for a unit is kept."""
    return out_dir / file_name(student) / f"{file_name(unit)}.json"


def unit_page_name(unit: str) -> str:
    """The file, beside `INDEX_PAGE`, of the staff's page of one unit among several."""
    return f"{_UNIT_PAGE_BEGINNING}{file_name(unit)}{_PAGE_ENDING}"


def unit_pages(out_dir: Path) -> list[Path]:
    """The pages of units that are there."""
    return sorted(out_dir.glob(f"{_UNIT_PAGE_BEGINNING}*{_PAGE_ENDING}"))


def file_name(name: str) -> str:
    """The name itself if it is a harmless file name, else one that is, and that no other name shares."""
    is_page = name.lower().endswith(_PAGE_ENDING)
    if _PLAIN_NAME.fullmatch(name) and len(name.encode()) <= _MAX_NAME_BYTES and not is_page:
        return name
    readable = re.sub(r"[^A-Za-z0-9@+-]+", "_", clean(name, 80, 1))[:40].strip("_")
    return f"{readable or 'unnamed'}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:10]}"


def read_reports(out_dir: Path) -> tuple[list[Report], list[str]]:
    """Every report kept in a folder, by student and unit, and a line for each file that is not one."""
    reports, problems = [], []
    for path in sorted(out_dir.glob("*/*.json")):
        if path.name.endswith(GRADESCOPE_SUFFIX) or path.name.startswith("."):
            continue
        try:
            reports.append(Report.from_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            problems.append(f"{path.relative_to(out_dir)}: not a report ({reason}). Delete it and grade again.")
    return reports, problems


class StoredReports(Collection[Report]):
    """Some of the reports in a folder, in the order given: each is read when it is its turn, and not kept.

    Raises `UsageError` for one that has gone since.
    """

    def __init__(self, out_dir: Path, graded: Iterable[tuple[str, str]]):
        """`graded`: students and units."""
        self._out_dir, self._graded = out_dir, list(graded)

    def __len__(self) -> int:
        return len(self._graded)

    def __contains__(self, report: object) -> bool:
        return any(one == report for one in self)

    def __iter__(self) -> Iterator[Report]:
        for student, unit in self._graded:
            path = report_path(self._out_dir, student, unit)
            try:
                yield Report.from_json(path.read_bytes())
            except (OSError, ValidationError):
                raise UsageError(f"{path}: this report was written and is gone; grade again") from None


@contextmanager
def open_store(out_dir: Path) -> Iterator[None]:
    """Make the folder if need be and hold it: two runs at once would each grade what the other has in hand.

    Raises `UsageError` if that cannot be. The kernel lets go of the folder however this process ends.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"{out_dir}: no folder can be made here: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{out_dir}: another `autograder grade` is writing here; wait for it, or give another "
                             "--out") from None
        except OSError:
            pass  # a file system that knows no locks
        for path in (*out_dir.glob(".*"), *out_dir.glob("*/.*")):
            if is_leftover(path):
                path.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def stored_report(out_dir: Path, student: str, unit: str, unsandboxed: bool) -> Report | None:
    """The report that is there, if it may be relied on at all; whether it still holds, its provenance tells.

    What was graded in a sandbox that did not hold is taken only where that is accepted, with `unsandboxed`.
    """
    try:
        report = Report.from_json(report_path(out_dir, student, unit).read_bytes())
    except (OSError, ValidationError):
        return None
    accepted = report.sandbox == "ENFORCED" or unsandboxed
    return report if accepted and (report.student, report.unit) == (student, unit) else None
