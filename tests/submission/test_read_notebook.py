"""A notebook's bytes give its code cells, or one line that names the place."""
from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.errors import UsageError
from autograder.submission import BadInput, Cell, read_notebook

from .samples import attention, code, notebook, text


def test_only_code_cells_are_kept_and_they_remember_their_place() -> None:
    cells, notes = read_notebook(notebook(text(), code("a = 1", "x"), text(), code(["b = 1\n", "c = 2"])), "n.ipynb")
    assert cells == (Cell(2, "a = 1", "x"), Cell(4, "b = 1\nc = 2", None))
    assert notes == ()


def test_a_byte_order_mark_is_tolerated() -> None:
    assert len(read_notebook(b"\xef\xbb\xbf" + attention(), "n.ipynb")[0]) == 5


@pytest.mark.parametrize("nbgrader", [
    None, 3, [], "text", {"grade_id": 7}, {"grade_id": None}, {"grade_id": ["x"]}, {"grade_id": "a b"},
    {"grade_id": ""}, {"grade_id": "x" * 101}, {"grade_id": "x\n"}, {"grade_id": "é"},
])
def test_metadata_of_a_wrong_type_is_no_id(nbgrader: object) -> None:
    cell = {**code("a = 1"), "metadata": {"nbgrader": nbgrader}}
    assert read_notebook(notebook(cell), "n.ipynb")[0][0].grade_id is None
    assert read_notebook(notebook({**cell, "metadata": nbgrader}), "n.ipynb")[0][0].grade_id is None


BAD = {
    "empty": (b"", "n.ipynb: the file is empty"),
    "blank": (b" \n\xef\xbb\xbf", "n.ipynb: the file is empty"),
    "zeros": (b"\0" * 4096, "n.ipynb: the file is empty"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "n.ipynb: not a notebook: it is a PNG image"),
    "zip": (b"PK\x03\x04....", "n.ipynb: not a notebook: it is a zip archive (name it .zip)"),
    "html": (b"\n <!DOCTYPE html><html>", "n.ipynb: not a notebook: it is an HTML page"),
    "utf-16": (attention().decode().encode("utf-16"), "n.ipynb: not a notebook: it is UTF-16 text"),
    "latin-1": (b'{\n"a": "\xe9"}', "n.ipynb: line 2: not UTF-8: byte 0xe9 at offset 8"),
    "truncated": (attention()[:-9], "n.ipynb: not a notebook: line 1 column"),
    "cut in a string": (b'{\n "cells": [{"cell_type": "co', "line 2 column 26: Unterminated string starting at; was"),
    "python": (b"import torch\n", "n.ipynb: not a notebook: line 1 column 1: Expecting value"),
    "deep list": (b"[" * 200_000, "n.ipynb: not a notebook: JSON nested too deeply"),
    "deep object": (b'{"a":' * 200_000, "n.ipynb: not a notebook: JSON nested too deeply"),
    "list": (b"[1]", "n.ipynb: not a notebook: expected a JSON object, got a list"),
    "nan": (b"NaN", "n.ipynb: not a notebook: expected a JSON object, got a number"),
    "huge number": (b"1" * 1_000_000, "n.ipynb: not a notebook: expected a JSON object, got a number"),
    "format 3": (b'{"nbformat": 3, "worksheets": []}', "n.ipynb: a notebook of format 3, which is too old: open it"),
    "format 5": (notebook(nbformat=5), 'n.ipynb: not a notebook: expected "nbformat": 4, got 5; open'),
    "no format": (b"{}", 'n.ipynb: not a notebook: expected "nbformat": 4, got nothing; open'),
    "no cells": (b'{"nbformat": 4}', "n.ipynb: not a notebook: expected a list of cells, got nothing"),
    "cells object": (notebook(cells={}), "n.ipynb: not a notebook: expected a list of cells, got an object"),
    "cell list": (notebook(text(), []), "n.ipynb: cell 2: expected a JSON object, got a list"),
    "cell type": (notebook({"cell_type": 1}), "n.ipynb: cell 1: expected a cell_type of code, markdown or raw, got 1"),
    "no source": (notebook({"cell_type": "code"}), "n.ipynb: cell 1: source: expected text or a list of lines, got n"),
    "source of numbers": (notebook(code([1])), "n.ipynb: cell 1: source: expected text or a list of lines, got a li"),
    "huge cell": (notebook(text(), code("x" * 300_000)), "n.ipynb: cell 2: 292 KiB of code; at most 256 KiB are read"),
    "huge in bytes": (notebook(code("é" * 150_000)), "n.ipynb: cell 1: 292 KiB of code; at most 256 KiB are read"),
    "much code": (notebook(*[code("x" * 250_000)] * 5), "n.ipynb: 1220 KiB of code in all; at most 1024 KiB are read"),
    "many cells": (notebook(*[text()] * 10_001), "n.ipynb: 10,001 cells; at most 10,000 are read"),
    "flood": (b"[" + b"[]," * 2_000_001, "n.ipynb: not a notebook: 2,000,002 lists and 2,000,001 commas are more"),
}


@pytest.mark.parametrize("data, line", BAD.values(), ids=BAD.keys())
def test_a_bad_notebook_is_one_line_that_names_the_place(data: bytes, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_notebook(data, "n.ipynb")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("n.ipynb: ")


def test_a_file_over_the_limit_is_refused() -> None:
    with pytest.raises(BadInput, match="larger than 64 MiB; clear the outputs"):
        read_notebook(bytes((64 << 20) + 1), "n.ipynb")


def test_the_error_survives_the_way_between_processes() -> None:
    error = BadInput("n.ipynb", "cell 1: no")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "n.ipynb: cell 1: no"


@pytest.mark.parametrize("output", [b"x" * 50_000_000, rb'[[1, 2], {\"a\": \"\\\\\"}]\n' * 1_800_000],
                         ids=["text", "brackets"])
def test_50_mb_of_output_do_not_matter(output: bytes) -> None:
    stream = b'"outputs": [{"output_type": "stream", "name": "stdout", "text": "%s"}]' % output
    loud = notebook(code("a = 1")).replace(b'"outputs": []', stream)
    assert len(loud) > 49_000_000
    assert read_notebook(loud, "n.ipynb")[0] == (Cell(1, "a = 1"),)


def test_numbers_that_json_cannot_hold_do_not_matter_in_outputs() -> None:
    data = notebook(code("a = 1")).replace(b'"outputs": []', b'"outputs": [NaN, -Infinity, %s]' % (b"9" * 1_000_000))
    assert read_notebook(data, "n.ipynb")[0] == (Cell(1, "a = 1"),)


def test_half_a_character_is_replaced_because_it_cannot_be_sent_to_a_worker() -> None:
    assert read_notebook(notebook(code("'\ud800'")), "n.ipynb")[0][0].source == "'?'"


def test_a_solution_made_a_text_cell_is_noted() -> None:
    cell = {**code("def f(): pass", "x", cell_type="code", solution=True), "cell_type": "markdown"}
    assert read_notebook(notebook(cell), "n.ipynb") == ((), ("cell 1 (x) was made a markdown cell: it is not run",))


# ---------------------------------------------------------------------------------------------- duplicated ids

def test_the_last_copy_of_a_cell_counts_and_the_note_names_both() -> None:
    cells, notes = read_notebook(notebook(code("a = 1", "x"), text(), code("a = 2", "x")), "n.ipynb")
    assert cells == (Cell(1, "a = 1", None), Cell(3, "a = 2", "x"))
    assert notes == ("cell 1 and cell 3 both have the id 'x'; cell 3 counts",)


def test_a_copy_of_a_check_cell_is_dropped() -> None:
    checks = [code("check('x')", "check_x", grade=True)] * 2
    assert read_notebook(notebook(*checks), "n.ipynb")[0] == (Cell(2, "check('x')", "check_x"),)


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.booleans(), st.booleans()), max_size=6))
def test_the_copy_that_counts_is_the_one_that_nbgrader_chooses(marks: list[tuple[str, bool, bool, bool]]) -> None:
    from nbformat import from_dict
    from nbgrader.preprocessors import DeduplicateIds

    data = notebook(*(code("", i, grade=g, solution=s, locked=k, schema_version=3) for i, g, s, k in marks))
    theirs, _ = DeduplicateIds().preprocess(from_dict(json.loads(data)), {})
    chosen = {cell.metadata.nbgrader.grade_id: index for index, cell in enumerate(theirs.cells, 1)
              if cell.metadata.nbgrader and any(cell.metadata.nbgrader[k] for k in ("grade", "solution", "locked"))}
    ours = {cell.grade_id: cell.index for cell in read_notebook(data, "n.ipynb")[0] if cell.grade_id}
    assert {grade_id: ours[grade_id] for grade_id in chosen} == chosen
    assert ours.keys() == {mark[0] for mark in marks}


# ---------------------------------------------------------------------------------------------- fuzz

_word = st.text(max_size=5)
_json = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | _word,
                     lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_word, inner, max_size=4),
                     max_leaves=8)
_marks = st.fixed_dictionaries({}, optional={"grade_id": _json | st.just("x"), "solution": _json})
_cell = st.fixed_dictionaries({}, optional={
    "cell_type": st.sampled_from(["code", "markdown"]) | _json, "source": st.text() | st.lists(st.text()) | _json,
    "metadata": _json | st.fixed_dictionaries({"nbgrader": _json | _marks})})
_notebook = st.fixed_dictionaries({"nbformat": st.just(4) | _json}, optional={"cells": st.lists(_cell | _json) | _json})


def _reads_or_says_why(data: bytes) -> None:
    try:
        cells, notes = read_notebook(data, "n.ipynb")
    except UsageError as error:
        assert str(error).startswith("n.ipynb: ") and str(error).isprintable()
    else:
        assert all(cell.source.encode() is not None for cell in cells) and "\n" not in "".join(notes)


@settings(max_examples=120, deadline=None, database=None)
@given(_notebook)
def test_any_json_is_read_or_refused_in_one_line(value: object) -> None:
    _reads_or_says_why(json.dumps(value).encode())


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary(max_size=60), st.integers(0, 900), st.integers(0, 60))
def test_any_bytes_are_read_or_refused_in_one_line(noise: bytes, position: int, removed: int) -> None:
    good = attention()
    _reads_or_says_why(noise)
    _reads_or_says_why(good[:position] + noise + good[position + removed:])
