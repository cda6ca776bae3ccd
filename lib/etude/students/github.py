"""What GitHub Actions shows of a check: annotations on the notebook's lines, and the step summary."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from etude.students.findings import Finding

MAX_ANNOTATIONS = 10
"""GitHub shows no more of them for a step."""
_LINE = re.compile(r", line (\d+)\b")


def annotations(findings: Sequence[Finding], notebook: Path) -> list[str]:
    """An `::error` line for every property that does not hold, on the line of the notebook's file where it went wrong.

    That is the line that raised, or else the first of the exercise's cell.
    """
    text = notebook.read_text(encoding="utf-8", errors="replace")
    lines = [annotation(str(notebook), cell_line(text, finding.exercise, line), f"{finding.title}: {title}", message)
             for finding in findings if not finding.passed for title, message, line in _faults(finding)]
    return lines[:MAX_ANNOTATIONS]


def annotation(file: str, line: int, title: str, message: str) -> str:
    """The workflow command for one annotation. Nothing in the texts can end it or begin another."""
    return f"::error file={_property(file)},line={line},title={_property(title)}::{_data(message)}"


def cell_line(text: str, exercise: str, line: int = 1) -> int:
    """Where line `line` of an exercise's cell stands in the text of a notebook's file; 1 if it cannot be found.

    JupyterLab writes a cell's metadata before its source, and each line of the source on a line of its own.
    """
    lines = text.splitlines()
    mark = f'"grade_id": {json.dumps(exercise)}'
    found = next((number for number, one in enumerate(lines) if mark in one), None)
    if found is None:
        return 1
    after = range(found, len(lines))
    source = next((number for number in after if lines[number].lstrip().startswith('"source"')), None)
    return 1 if source is None else source + 1 + line


def _faults(finding: Finding) -> Iterator[tuple[str, str, int]]:
    """(title, message, line of the cell)"""
    for note in finding.notes:
        yield "your code", note, _line_in(note)
    for one in finding.properties:
        failure = one.failure
        if failure is not None and not finding.not_run:
            said = [finding.diagnosis.sentence if finding.diagnosis else "", failure.what, failure.hint]
            yield one.title, "\n".join(filter(None, said)), _line_in(failure.trace[-1] if failure.trace else "")


def _line_in(place: str) -> int:
    match = _LINE.search(place)
    return int(match[1]) if match else 1


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
