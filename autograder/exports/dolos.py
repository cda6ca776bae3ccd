"""A folder for Dolos, <https://dolos.ugent.be>: a file for each student, and info.csv, which names them.

Dolos reads the columns `filename`, `full_name`, `labels` and `ignored`, and takes the file whose `ignored` is `true` as
the text that all were given (dodona-edu/dolos, lib/src/lib/dataset.ts).
"""
from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from autograder.files import write_atomically
from autograder.report.store import file_name

INFO = "info.csv"
_GIVEN = "given/released.py"


def export_dolos(works: Mapping[str, str], given: str, label: str, to: Path) -> Path:
    """Write `to`, from texts by student; returns the info.csv. `dolos run` takes it, or a zip of the folder."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["filename", "full_name", "labels", "ignored"])
    for student, text in works.items():
        name = f"submissions/{file_name(student)}.py"
        write_atomically(to / name, text, staff_only=True)
        writer.writerow([name, student, label, "false"])
    write_atomically(to / _GIVEN, given, staff_only=True)
    writer.writerow([_GIVEN, "", label, "true"])
    write_atomically(to / INFO, table.getvalue(), staff_only=True)
    return to / INFO
