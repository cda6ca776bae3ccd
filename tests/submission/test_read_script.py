"""A Python file is a percent script in one of three dialects, or a single cell."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.submission import BadInput, Cell, read_script


def test_the_courses_own_markers_give_the_ids() -> None:
    script = (b'# %% [markdown]\n# # Theory\n\n# %% role="setup"\nimport torch\n\n'
              b'# %% exercise="sdpa"\ndef sdpa(): ...\n')
    assert read_script(script, "a.py")[0] == (Cell(2, "import torch"), Cell(3, "def sdpa(): ...", "sdpa"))


def test_a_notebook_converted_by_jupytext_keeps_its_ids() -> None:
    script = (b"# ---\n# jupyter:\n#   jupytext:\n# ---\n\n# %% [markdown]\n# hi\n\n"
              b'# %% nbgrader={"grade_id": "sdpa", "solution": true} etude={"role": "exercise"}\ndef sdpa(): ...\n\n'
              b"# %%\n# %%time\n1 + 1\n")
    assert read_script(script, "a.py")[0] == (Cell(2, "def sdpa(): ...", "sdpa"), Cell(3, "# %%time\n1 + 1"))


@pytest.mark.parametrize("marker", ["#%%", "# %% a title", "# %%%", "# %% tags=['[markdown]']", "# %% exercise='a b'"])
def test_other_editors_markers_start_cells_without_ids(marker: str) -> None:
    cells, _ = read_script(f"x = 1\n{marker}\ny = 2\n".encode(), "a.py")
    assert cells == (Cell(1, "x = 1"), Cell(2, "y = 2"))


def test_a_plain_script_is_one_cell() -> None:
    assert read_script(b"\xef\xbb\xbfimport torch\r\n\r\ndef f():\r\n    pass\r\n", "a.py")[0] == (
        Cell(1, "import torch\n\ndef f():\n    pass"),)


def test_the_last_copy_counts_in_a_script_too() -> None:
    cells, notes = read_script(b'# %% exercise="x"\na = 1\n# %% exercise="x"\na = 2\n', "a.py")
    assert [cell.grade_id for cell in cells] == [None, "x"]
    assert notes == ("cell 1 and cell 2 both have the id 'x'; cell 2 counts",)


@pytest.mark.parametrize("data, message", [
    (b"", "a.py: the file is empty"),
    (b"x = 1\ny = '\xff'\n", "a.py: line 2: not UTF-8: byte 0xff at offset 11"),
    (b"%PDF-1.7", "a.py: not a Python script: it is a PDF"),
    (b"#" * 300_000, "a.py: cell 1: 292 KiB of code; at most 256 KiB are read"),
    (b"\n" * 300_000 + b"x", "a.py: 300,001 lines; at most 200,000 are read"),
])
def test_a_bad_script_is_one_line(data: bytes, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_script(b"x\n# %%\n" + data if data.startswith(b"##") else data, "a.py")
    assert str(caught.value).replace("cell 2", "cell 1") == message


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.sampled_from(["# %%", "# %% [markdown]", ' exercise="', 'x"', "\n", '"""', "def f(): ..."])
                | st.text(max_size=5), max_size=12))
def test_any_text_is_read(pieces: list[str]) -> None:
    try:
        read_script("".join(pieces).encode("utf-8", "replace"), "a.py")
    except BadInput as error:
        assert str(error).startswith("a.py: ")
