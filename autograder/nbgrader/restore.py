"""A submitted notebook as it should have come: the release's cells with the student's answers in them.

nbgrader finds cells by their metadata, which students can edit: a check cell that says `"grade": false` has no grade,
and one that is gone ends the grading of the whole submission. So the notebook is made anew from the course
directory's own release, and of the submission only texts are taken.
"""
from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autograder.submission.cells import valid_grade_id
from autograder.submission.notebook import read_notebook

if TYPE_CHECKING:
    from nbformat.notebooknode import NotebookNode

_PICTURE = re.compile(r"image/(png|jpeg|gif|webp)")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


@dataclass(frozen=True)
class _Raw:
    """A submitted cell. Only a cell that counts has an id."""

    kind: str
    source: str
    grade_id: str | None
    attachments: dict[str, dict[str, str]]


def restore(release: NotebookNode, data: bytes, name: str) -> NotebookNode:
    """The release with the student's answers, and their other cells after the released cell that they followed.

    Which of several cells with one id counts is decided as in grading. Raises `BadInput` for bytes that are no
    notebook.
    """
    submitted = list(_submitted(release, data, name))
    answers = {cell.grade_id: cell.source for cell in submitted if cell.grade_id}
    own: dict[str | None, list[_Raw]] = {}
    after: str | None = None
    for cell in submitted:
        if cell.grade_id:
            after = cell.grade_id
        else:
            own.setdefault(after, []).append(cell)
    notebook = copy.deepcopy(release)
    notebook.cells = list(_cells(release, answers, own))
    _name_cells(notebook)
    return notebook


def marks(cell: Any) -> dict[str, Any]:
    """nbgrader's metadata of a cell; empty for a cell that nbgrader passes over."""
    found = cell["metadata"].get("nbgrader")
    return found if isinstance(found, dict) else {}


# ---------------------------------------------------------------------------------------------- the submission

def _submitted(release: NotebookNode, data: bytes, name: str) -> Iterator[_Raw]:
    """The submitted cells that are the student's own or answer a cell of the release, or mark its place."""
    kinds = {marks(cell).get("grade_id"): cell.cell_type for cell in release.cells if marks(cell)}
    ours = {cell.source.strip() for cell in release.cells}
    counted = {cell.index: cell.grade_id for cell in read_notebook(data, name)[0]}
    # The reader has seen that it can be parsed; numbers, which may have a million digits, are not needed.
    raw_cells = json.loads(data.decode("utf-8-sig"), parse_int=lambda digits: 0)["cells"]
    last_text = {_id(raw): index for index, raw in enumerate(raw_cells, 1) if raw["cell_type"] != "code"}
    for index, raw in enumerate(raw_cells, 1):
        kind, grade_id = raw["cell_type"], _id(raw)
        if kind == "code":
            if index not in counted:
                continue  # a copy of a check cell
            grade_id = counted[index]
        elif last_text.get(grade_id) != index:
            grade_id = None
        if grade_id not in kinds or kinds[grade_id] != kind:
            grade_id = None
        source = _text(raw.get("source"))
        if kind != "code" and source.strip() not in ours:
            # Formgrader shows text as it is: a script in it would run with the grader's rights, and could set grades.
            source = _TAG.sub("&lt;", source)
        if grade_id or source.strip():
            yield _Raw(kind, source, grade_id, _pictures(raw.get("attachments")))


def _id(raw: dict[str, Any]) -> str | None:
    metadata = raw.get("metadata")
    found = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return valid_grade_id(found.get("grade_id")) if isinstance(found, dict) else None


def _text(source: Any) -> str:
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    # JSON can spell half a character, which no file can hold.
    return source.encode("utf-8", "replace").decode() if isinstance(source, str) else ""


def _pictures(attachments: Any) -> dict[str, dict[str, str]]:
    """Pictures that were pasted into a text cell, and nothing else that a page could take for more than a picture."""
    if not isinstance(attachments, dict):
        return {}
    found = {}
    for name, data in attachments.items():
        kept = {kind: value for kind, value in data.items() if _PICTURE.fullmatch(kind) and isinstance(value, str)
                and _BASE64.fullmatch(value)} if isinstance(data, dict) else {}
        if kept:
            found[_text(name)] = kept
    return found


# ---------------------------------------------------------------------------------------------- the notebook

def _cells(release: NotebookNode, answers: dict[str | None, str],
           own: dict[str | None, list[_Raw]]) -> Iterator[NotebookNode]:
    """The cells that nbgrader knows, in the release's order, with the student's others after each.

    A released cell without nbgrader's metadata, a text or a demonstration, is the student's to change or delete.
    """
    yield from map(_own_cell, own.get(None, []))
    for cell in release.cells:
        found = marks(cell)
        if not found:
            continue
        restored, grade_id = copy.deepcopy(cell), found["grade_id"]
        if found.get("solution") and grade_id in answers:
            restored.source = answers[grade_id]
        if restored.cell_type == "code":
            restored.outputs, restored.execution_count = [], None
        yield restored
        yield from map(_own_cell, own.get(grade_id, []))


def _own_cell(raw: _Raw) -> NotebookNode:
    """A new cell with the text alone: metadata and outputs may hold anything, and are shown to graders."""
    from nbformat import v4
    make = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell, "raw": v4.new_raw_cell}[raw.kind]
    cell = make(raw.source)
    if raw.attachments and raw.kind != "code":
        cell["attachments"] = raw.attachments
    return cell


def _name_cells(notebook: NotebookNode) -> None:
    """Ids that do not depend on the run; those of the release stay."""
    released = {marks(cell)["grade_id"] for cell in notebook.cells if marks(cell)}
    for number, cell in enumerate(notebook.cells, 1):
        if not marks(cell):
            cell["id"] = f"own-{number}"
            while cell["id"] in released:
                cell["id"] += "-"
