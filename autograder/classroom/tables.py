"""CSV files that staff write: every row with its line, every mistake in one line that names it."""
from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from autograder.errors import UsageError
from autograder.moments import moment
from autograder.one_line import one_line

MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Row:
    """One row of a table, by column."""

    path: Path
    line: int
    values: dict[str, str]

    def fault(self, message: str) -> UsageError:
        return UsageError(f"{self.path}:{self.line}: {one_line(message)}")

    def moment(self, column: str) -> datetime:
        """The time in a column. Raises `UsageError` for anything else, a time without its offset included."""
        try:
            return moment(self.values[column])
        except ValueError as error:
            raise self.fault(f"{column}: {self.values[column]!r}: {error}") from None


def read_table(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The rows of a CSV file with a heading; no cell of `columns` is empty. Raises `UsageError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        heading = [cell.strip() for cell in next(reader, [])]
        known = [*columns, *optional]
        if set(columns) - set(heading) or set(heading) - set(known) or len(set(heading)) < len(heading):
            more = f", and if need be {', '.join(optional)}" if optional else ""
            raise UsageError(f"{path}:1: expected the columns {', '.join(columns)}{more}; "
                             f"got {one_line(', '.join(heading)) or 'nothing'}")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(_row(path, reader.line_num, heading, cells, columns))
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    return rows


def _row(path: Path, line: int, heading: list[str], cells: list[str], columns: Sequence[str]) -> Row:
    row = Row(path, line, dict(zip(heading, map(str.strip, cells), strict=False)))
    if len(cells) != len(heading):
        raise row.fault(f"expected {len(heading)} cells, got {len(cells)}")
    empty = [name for name in columns if not row.values[name]]
    if empty:
        raise row.fault(f"{empty[0]} is empty")
    return row
