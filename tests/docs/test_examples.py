"""What the guides show is what happens: the small unit, the picture in the README, the table of broken submissions."""
from __future__ import annotations

import contextlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from guides import ROOT, blocks, named_files, table_rows, text_of
from rich.console import Console

from autograder import cli
from autograder.course import load_course
from autograder.grading.grade import Options, grade
from autograder.report.terminal import render_text
from autograder.submission.reader import read_submissions

COURSE = load_course(ROOT / "course.yml")


# ---------------------------------------------------------------------------------------------- the small unit

@pytest.fixture(scope="module")
def small_course(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small_course")
    for name, text in named_files(text_of("docs/authors.md")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    ran(folder, "build")
    return folder


def ran(folder: Path, *arguments: str) -> str:
    """What `autograder` prints in this folder; in this process, which has imported torch already."""
    with terminal(folder, "autograder", *arguments) as printed, pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, printed.getvalue()
    return printed.getvalue()


@contextlib.contextmanager
def terminal(folder: Path, *argv: str) -> Iterator[io.StringIO]:
    """What is printed, as by a command in this folder on a terminal of 80 columns."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        patch.setattr(sys, "argv", list(argv))
        yield printed


def test_the_small_unit_is_shown_whole(small_course):
    files = {str(path.relative_to(small_course)) for path in small_course.glob("solutions/*/*.py")}
    assert files == {f"solutions/pooling/pooling{end}.py" for end in ("", "_checks", "_variants")}
    ran(small_course, "build", "--check")


def test_the_small_unit_is_proven_as_the_guide_shows(small_course):
    printed = ran(small_course, "verify", "pooling")
    (shown,) = [block for block in blocks(text_of("docs/authors.md")) if block.startswith("$ autograder verify")]
    assert without_times(printed) == without_times(shown.partition("\n")[2])


def without_times(table: str) -> list[str]:
    return " ".join(line.rpartition(" ")[0] if line.startswith(("pooling", "all")) else line
                    for line in table.splitlines()).split()


def test_the_script_that_times_checks_times_them(small_course):
    (script,) = [block for block in blocks(text_of("docs/authors.md"), "python") if "class Timed" in block]
    with terminal(small_course) as printed:
        exec(script, {"__name__": "__main__"})
    lines = printed.getvalue().splitlines()
    assert len(lines) == 6
    assert all(" s  test_" in line for line in lines)


# ---------------------------------------------------------------------------------------------- the README's picture

def test_the_readme_shows_what_grading_prints():
    submissions, problems = read_submissions([ROOT / "tests/sample_class/ben"], COURSE)
    reports = []
    grade(COURSE, submissions, reports.append, Options(exercises=("sliding_window_attention",), unsandboxed=True))
    output = io.StringIO()
    render_text(reports, Console(file=output, width=80, color_system=None))
    (picture,) = [block for block in blocks(text_of("README.md")) if block.startswith("✗")]
    printed = [line.rstrip() for line in output.getvalue().splitlines()]
    shown = [line.rstrip() for line in picture.splitlines()]
    assert problems == []
    assert shown == printed[printed.index(shown[0]):][:len(shown)]


# ---------------------------------------------------------------------------------------------- broken submissions

def _notebook(*cells: object, version: int = 4) -> bytes:
    return json.dumps({"nbformat": version, "cells": list(cells)}).encode()


def _zip(path: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(path, _right())
    return archive.getvalue()


def _right() -> bytes:
    return (ROOT / "tests/sample_class/ada/attention/attention.ipynb").read_bytes()


BROKEN: dict[str, dict[str, bytes]] = {
    "does not exist": {},
    "is empty": {"ben.ipynb": b""},
    "is cut off": {"ben.ipynb": _right()[:3000]},
    "is no JSON": {"ben.ipynb": b"hello"},
    "is a picture, PDF, web page or UTF-16 text": {"ben.ipynb": b"%PDF-1.7"},
    "is not UTF-8": {"ben.ipynb": b'{"nbformat": 4, "cells": [{"cell_type":"code","source":"\xe9"}]}'},
    "is a notebook of format 3": {"ben.ipynb": b'{"nbformat": 3, "worksheets": []}'},
    "has a damaged cell": {"ben.ipynb": _notebook({"cell_type": "code", "source": 12})},
    "has no exercise cell and no function": {"ben/attention/attention.ipynb": _notebook()},
    "tells its unit neither by folder nor by cells": {"ben.ipynb": _notebook()},
    "is another kind of file": {"notes.txt": b"x"},
    "lies in a folder without submissions": {"class/empty/notes.txt": b"x"},
    "is a damaged zip": {"class.zip": b"PK\x03\x04 and no more"},
    "leaves its zip": {"class.zip": _zip("../zoe/attention/attention.ipynb")},
    "is a zip in a zip": {"class.zip": _zip("more.zip")},
    "is the second of one student and unit": {"class/ben/attention/attention.ipynb": _right(),
                                              "class/Ben/attention/attention.ipynb": _right()},
    "has an unusable student name": {"b?n.ipynb": _right()},
}


@pytest.mark.parametrize("row", table_rows(text_of("docs/instructors.md"), "the file"), ids=lambda row: row[0])
def test_broken_submissions_are_told_as_the_guide_says(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = BROKEN[row[0]]
    for name, data in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    path = next(iter(files), "ben.ipynb").split("/")[0]
    _, problems = read_submissions([path], COURSE)
    told = [str(problem) for problem in problems]
    beginning, _, end = row[1].strip("`").partition("…")
    assert len(told) == 1
    assert told[0].startswith(beginning) and told[0].endswith(end), told[0]


def test_the_guide_has_every_kind_of_broken_submission():
    assert {row[0] for row in table_rows(text_of("docs/instructors.md"), "the file")} == set(BROKEN)
