"""Where reports live: `DIR/<student>/<unit>.json`, each file whole or absent, whatever kills the grader."""
from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pydantic import ValidationError

from autograder.report.model import Report
from autograder.report.text_safety import clean

GRADESCOPE_SUFFIX = ".gradescope.json"
_PLAIN_NAME = re.compile(r"[\w@+-](?:[\w.@+ -]{0,60}[\w@+-])?")
_MAX_NAME_BYTES = 150
_CLASS_PAGE = "index.html"


def report_path(out_dir: Path, student: str, unit: str) -> Path:
    """Where the report of a student's submission for a unit is kept."""
    return out_dir / file_name(student) / f"{file_name(unit)}.json"


def class_page_path(out_dir: Path) -> Path:
    """Where the staff's overview of the class is kept."""
    return out_dir / _CLASS_PAGE


def file_name(name: str) -> str:
    """The name itself if it is a harmless file name, else one that is, and that no other name shares."""
    if _PLAIN_NAME.fullmatch(name) and len(name.encode()) <= _MAX_NAME_BYTES and name.lower() != _CLASS_PAGE:
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
