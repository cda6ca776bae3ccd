"""Fill the gradebook sheet that an LMS exported: students by their ids, one column, nothing else changed.

A student is found where the name under which a submission was graded equals an id in the sheet, capitals aside. Names
of people are never compared. What cannot be placed, or would overwrite a score, is told and left alone.
"""
from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from autograder.errors import UsageError

if TYPE_CHECKING:
    from autograder.course import Unit

_DELIMITERS = ",;\t"
_CANVAS_ASSIGNMENT = re.compile(r"(?P<title>.*\S) \(\d+\)")
_MOODLE_ITEM = re.compile(r"(?:[^:]+: *)?(?P<title>.*\S) \(Real\)")
# In another language `Real` has another name.
_MOODLE_MAY_BE = re.compile(r".* \((?!Percentage|Letter)[^()]+\)")
_POINTS_ROW = "Points Possible"


@dataclass(frozen=True)
class Lms:
    """How a learning management system writes its sheet."""

    name: str
    ids: tuple[str, ...]
    empty: tuple[str, ...]
    """What stands in a cell without a score."""
    is_scores: Callable[[str], re.Match[str] | None]
    """Matches a column that takes points; its `title` is the assignment's."""
    may_be_scores: Callable[[str], object]
    """Whether a column that is named may take points, too."""


CANVAS = Lms("Canvas", ("ID", "SIS User ID", "SIS Login ID"), ("",), _CANVAS_ASSIGNMENT.fullmatch,
             _CANVAS_ASSIGNMENT.fullmatch)
MOODLE = Lms("Moodle", ("ID number", "Email address"), ("", "-"), _MOODLE_ITEM.fullmatch, _MOODLE_MAY_BE.fullmatch)


class Scored(Protocol):
    """What goes into a line: a report, with the score as it was graded, or a mark."""

    student: str
    score: float
    max_score: float


@dataclass
class Filled:
    """The new sheet, and what is to be told about it."""

    text: str
    column: str
    written: int = 0
    unchanged: int = 0
    overwritten: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Scores in the sheet that differ from ours."""
    not_in_sheet: list[str] = field(default_factory=list)
    """Students who were graded and have no row, or more than one."""
    not_graded: list[str] = field(default_factory=list)
    """Rows of students without a report."""

    @property
    def complete(self) -> bool:
        return not (self.kept or self.not_in_sheet)


@dataclass(frozen=True)
class _Row:
    number: int
    cells: list[str]
    ids: tuple[str, ...]

    @property
    def called(self) -> str:
        return f"line {self.number} ({', '.join(dict.fromkeys(self.ids))})"

    def is_of(self, student: str) -> bool:
        """Whether the name under which a submission was graded is an id of this line."""
        return student.strip().casefold() in (one.casefold() for one in self.ids)


def fill(lms: Lms, data: bytes, name: str, unit: Unit, reports: Sequence[Scored], *, column: str | None = None,
         by: str | None = None, overwrite: bool = False, said: str = "graded") -> Filled:
    """The sheet `data`, called `name`, with the scores of the unit's `reports`, or marks; `said` is for what is told.

    `by` names the one column of ids to go by. Raises `UsageError` for what is no sheet of this LMS, or leaves open
    which column is meant.
    """
    sheet = _Sheet(lms, data, name, by)
    place = sheet.column_of(unit, column)
    sheet.check_points(place, reports)
    filled = Filled("", sheet.header[place])
    found: dict[int, tuple[_Row, list[Scored]]] = {}
    for report in reports:
        rows = [row for row in sheet.rows if row.is_of(report.student)]
        if len(rows) == 1:
            found.setdefault(rows[0].number, (rows[0], []))[1].append(report)
        else:
            more = f": several lines have this id: {', '.join(str(row.number) for row in rows)}" if rows else ""
            filled.not_in_sheet.append(f"{report.student}{more}")
    for row, its in found.values():
        if len(its) > 1:
            names = ", ".join(report.student for report in its)
            filled.not_in_sheet += [f"{report.student}: {row.called} fits several: {names}" for report in its]
        else:
            _write(lms, row, place, its[0], filled, overwrite, said)
    filled.not_graded = [row.called for row in sheet.rows if row.number not in found]
    filled.text = sheet.text()
    return filled


def _write(lms: Lms, row: _Row, place: int, report: Scored, filled: Filled, overwrite: bool, said: str) -> None:
    there, ours = row.cells[place].strip(), _shown(report.score)
    if there not in lms.empty:
        if _number(there) == float(ours):
            filled.unchanged += 1
            return
        line = f"{report.student}: the sheet has {there}, {said} {ours}"
        if not overwrite:
            filled.kept.append(line)
            return
        filled.overwritten.append(line)
    row.cells[place] = ours
    filled.written += 1


class _Sheet:
    def __init__(self, lms: Lms, data: bytes, name: str, by: str | None):
        self._lms, self._name = lms, name
        self._records = self._read(data)
        self.header = [title.strip() for title in self._records[0][1]]
        ids = self._id_columns(by)
        self.points: list[str] = []
        self.rows: list[_Row] = []
        for number, cells in self._records[1:]:
            if len(cells) != len(self.header):
                if any(map(str.strip, cells)):
                    self._refuse(f"line {number} has {len(cells)} columns, the first line {len(self.header)}")
                continue
            if lms is CANVAS and cells[0].strip() == _POINTS_ROW:
                self.points = cells
            known = tuple(filter(None, (cells[place].strip() for place in ids)))
            if known:
                self.rows.append(_Row(number, cells, known))

    def text(self) -> str:
        out = io.StringIO()
        csv.writer(out, delimiter=self._delimiter, lineterminator=self._line_end).writerows(
            cells for _, cells in self._records)
        return self._mark + out.getvalue()

    def _read(self, data: bytes) -> list[tuple[int, list[str]]]:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            self._refuse(f"not UTF-8; take the file as {self._lms.name} exported it")
        self._mark = "\ufeff" if data.startswith(b"\xef\xbb\xbf") else ""
        first = text.partition("\n")[0]
        self._line_end = "\r\n" if first.endswith("\r") else "\n"
        self._delimiter = max(_DELIMITERS, key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True)
        try:
            records = [(reader.line_num, cells) for cells in reader]
        except csv.Error as error:
            self._refuse(f"line {reader.line_num}: {error}")
        if len(records) < 2:
            self._refuse("it has no lines with students")
        return records

    def _id_columns(self, by: str | None) -> list[int]:
        wanted = (by,) if by else self._lms.ids
        places = [self.header.index(title) for title in wanted if title in self.header]
        if not places:
            more = "" if by else f"; is this a sheet of {self._lms.name}? --by COLUMN names another column of ids"
            self._refuse(f"no column {' or '.join(map(repr, wanted))}{more}")
        self._refuse_twins(wanted)
        return places

    def column_of(self, unit: Unit, column: str | None) -> int:
        """The place of the column for the unit's scores."""
        titles = {title: match["title"] for title in self.header if (match := self._lms.is_scores(title))}
        if column is not None:
            chosen = [column] if column in self.header else [title for title in titles if titles[title] == column]
            if not chosen or not (chosen[0] in titles or self._lms.may_be_scores(chosen[0])):
                self._refuse(f"--column {column}: no column for points; there are {_listed(titles)}")
        else:
            names = {unit.id.casefold(), unit.title.casefold()}
            chosen = [title for title, its in titles.items() if its.casefold() in names]
            if not chosen:
                self._refuse(f"no column is called like unit {unit.id} ({unit.title}): name one with --column; there "
                             f"are {_listed(titles)}")
        if len(chosen) > 1:
            self._refuse(f"several columns could be meant: {_listed(chosen)}; name one with --column")
        self._refuse_twins(chosen)
        return self.header.index(chosen[0])

    def check_points(self, place: int, reports: Sequence[Scored]) -> None:
        """Refuse a column that is worth other points: a score in it would mean something else."""
        worth = _number(self.points[place]) if self.points else None
        for report in reports:
            if worth is not None and worth != float(_shown(report.max_score)):
                self._refuse(f"{self.header[place]} is worth {_shown(worth)} points in {self._lms.name}, the unit "
                             f"{_shown(report.max_score)}; change it there and export the sheet again")

    def _refuse_twins(self, titles: Sequence[str]) -> None:
        for title in titles:
            if self.header.count(title) > 1:
                self._refuse(f"two columns are called {title}")

    def _refuse(self, why: str) -> None:
        raise UsageError(f"{self._name}: {why}")


def _listed(titles: Sequence[str] | dict[str, str]) -> str:
    return ", ".join(map(repr, titles)) or "none"


def _shown(score: float) -> str:
    return f"{score:.6f}".rstrip("0").rstrip(".")


def _number(text: str) -> float | None:
    """`8.5`; `8,5` as sheets of some languages have it; nothing for what is no number."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def fill_file(lms: Lms, sheet: Path, unit: Unit, reports: Sequence[Scored], to: Path, *, column: str | None = None,
              by: str | None = None, overwrite: bool = False, said: str = "graded") -> Filled:
    """`fill` from a file to a new one."""
    from autograder.files import write_atomically
    if to.exists():
        raise UsageError(f"{to}: is there already; name a new file")
    try:
        data = sheet.read_bytes()
    except OSError as error:
        raise UsageError(f"{sheet}: cannot be read: {error.strerror}") from None
    filled = fill(lms, data, str(sheet), unit, reports, column=column, by=by, overwrite=overwrite,
                  said=said)
    write_atomically(to, filled.text, staff_only=True)
    return filled
