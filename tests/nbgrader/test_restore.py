"""Whatever a student does to a notebook, nbgrader gets the release's cells with the student's answers in them."""
from __future__ import annotations

import copy
import json
from typing import Any

import nbformat
import pytest
from class_of_ten import TAMPERING, cell_of
from tiny_course import RIGHT

from autograder.nbgrader.restore import marks, restore
from autograder.submission.problems import BadInput


@pytest.fixture
def released(directory: Any) -> Any:
    return nbformat.reads(json.dumps(directory.released()), as_version=4)


def restored(released: Any, value: Any) -> Any:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    notebook = restore(released, data, "ann.ipynb")
    nbformat.validate(notebook)
    return notebook


def known(notebook: Any) -> list[tuple[dict[str, Any], str]]:
    """Metadata of the cells that nbgrader knows, and the texts that are not the student's."""
    return [(dict(marks(cell)), "" if marks(cell)["solution"] else cell.source)
            for cell in notebook.cells if marks(cell)]


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_is_undone(directory: Any, released: Any, name: str) -> None:
    value = directory.filled()
    honest = restored(released, value)
    assert known(honest) == known(released)
    before = copy.deepcopy(value)
    TAMPERING[name](value)
    assert value != before
    notebook = restored(released, value)
    assert known(notebook) == known(released)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    answers = {marks(cell)["grade_id"]: cell.source for cell in notebook.cells if marks(cell)}
    texts = [cell.source for cell in notebook.cells]
    for exercise, source in RIGHT.items():
        assert source in texts, "an answer is lost"
        assert name == "no_metadata" or answers[exercise] == source


def test_nbgraders_own_repair_does_not_do_it(directory: Any) -> None:
    """The control: without our step, `grade: false` ends the grading of the whole submission."""
    from nbgrader.preprocessors import OverwriteCells
    value = directory.filled()
    TAMPERING["no_grade"](value)
    resources = {"nbgrader": {"notebook": "tiny", "assignment": "tiny",
                              "db_url": f"sqlite:///{directory.path / 'gradebook.db'}"}}
    submitted = nbformat.reads(json.dumps(value), as_version=4)
    with pytest.raises(RuntimeError, match="Inconsistent checksums"):
        OverwriteCells().preprocess(submitted, resources)


def test_cells_of_the_students_own_stay_in_their_place(directory: Any, released: Any) -> None:
    value = directory.filled()
    index = value["cells"].index(cell_of(value, "scale"))
    picture = {"plot.png": {"image/png": "aGVsbG8=", "text/html": "<script>1</script>"}}
    value["cells"][index + 1:index + 1] = [
        {"cell_type": "code", "source": "helper = 1", "metadata": {"nbgrader": {"grade_id": "of mine"}},
         "outputs": [{"output_type": "display_data", "data": {"text/html": "<script>1</script>"}}]},
        {"cell_type": "markdown", "source": ["my ", "notes"], "metadata": {}, "attachments": picture}]
    notebook = restored(released, value)
    sources = [cell.source for cell in notebook.cells]
    at = sources.index(RIGHT["scale"])
    assert sources[at:at + 4] == [RIGHT["scale"], "helper = 1", "my notes", 'check("scale")']
    assert notebook.cells[at + 1].metadata == {} and notebook.cells[at + 1].outputs == []
    assert notebook.cells[at + 2].attachments == {"plot.png": {"image/png": "aGVsbG8="}}


def test_a_written_answer_is_kept_and_a_question_turned_into_code_is_not(directory: Any, released: Any) -> None:
    value = directory.filled()
    cell_of(value, "essay")["source"] = "Because of the variance."
    assert cell_of(restored(released, value), "essay").source == "Because of the variance."
    cell_of(value, "essay").update(cell_type="code", outputs=[], execution_count=None)
    notebook = restored(released, value)
    assert cell_of(notebook, "essay").source == "YOUR ANSWER HERE"
    assert "Because of the variance." in [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("damage", [
    b"", b"{", b"[]", b'{"nbformat": 3, "worksheets": []}', b'{"nbformat": 4, "cells": [7]}', b"\xff\xfe{}",
    b'{"nbformat": 4, "cells": [{"cell_type": "code"}]}'], ids=repr)
def test_bytes_that_are_no_notebook_are_bad_input(released: Any, damage: bytes) -> None:
    with pytest.raises(BadInput):
        restore(released, damage, "ann.ipynb")


@pytest.mark.parametrize("cell", [
    {"cell_type": "markdown"}, {"cell_type": "raw", "source": 7, "metadata": []},
    {"cell_type": "markdown", "source": "\ud800", "metadata": {"nbgrader": {"grade_id": ["essay"]}}},
    {"cell_type": "code", "source": "x", "outputs": "none", "id": 10**30, "execution_count": "1"},
    {"cell_type": "markdown", "source": "x", "attachments": {"a": 1, "b": {"image/svg+xml": "<svg/>"}}},
], ids=["bare", "raw", "surrogate", "odd fields", "attachments"])
def test_odd_cells_do_no_harm(directory: Any, released: Any, cell: dict[str, Any]) -> None:
    value = directory.filled()
    value["cells"].insert(0, cell)
    notebook = restored(released, value)
    assert known(notebook) == known(released)
    nbformat.writes(notebook).encode("utf-8")
    assert not any(cell.get("attachments") for cell in notebook.cells)
