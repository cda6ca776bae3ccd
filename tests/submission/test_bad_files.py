"""Each bad file gives one line that names it and the place; the submissions beside it are read all the same."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from autograder.submission import read_submissions

from .samples import attention, code, course, notebook, write


def _is_folder(path: Path) -> None:
    path.mkdir()


def _dangles(path: Path) -> None:
    path.symlink_to("nowhere")


def _link(path: Path) -> None:
    path.symlink_to(path.parents[2] / "alice/attention/attention.ipynb")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every file: run as a user to see this one refused")
    write(path).chmod(0)


def _holds(data: bytes) -> Callable[[Path], object]:
    return lambda path: write(path, data)


BAD = {
    "png": (_holds(b"\x89PNG\r\n\x1a\n"), "not a notebook: it is a PNG image"),
    "truncated": (_holds(attention()[:200]), "not a notebook: line 1 column"),
    "empty": (_holds(b""), "the file is empty"),
    "not utf-8": (_holds(attention().replace(b"torch", b"t\xf6rch")), "line 1: not UTF-8: byte 0xf6 at offset"),
    "nested": (_holds(b"[" * 100_000), "not a notebook: JSON nested too deeply"),
    "old": (_holds(b'{"nbformat": 3, "worksheets": []}'), "a notebook of format 3, which is too old"),
    "huge cell": (_holds(notebook(code("x" * 300_000, "sdpa"))), "cell 1: 292 KiB of code; at most 256 KiB are read"),
    "no exercises": (_holds(notebook(code("x = 1"))), "no exercise cells of unit attention: expected cells with"),
    "folder": (_is_folder, "a folder, not a notebook, in spite of its name"),
    "dangling link": (_dangles, "a link to nowhere"),
    "link": (_link, "a link to "),
    "pipe": (_pipe, "not a regular file"),
    "unreadable": (_unreadable, "cannot be read: Permission denied"),
}


@pytest.mark.parametrize("make, message", BAD.values(), ids=BAD.keys())
def test_one_bad_file_in_a_class_is_one_line(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    write(tmp_path / "c/alice/attention/attention.ipynb")
    write(tmp_path / "c/carol/attention/attention.ipynb")
    bad = tmp_path / "c/bad/attention/attention.ipynb"
    bad.parent.mkdir(parents=True)
    make(bad)
    submissions, problems = read_submissions([tmp_path / "c"], course())
    assert [submission.student for submission in submissions] == ["alice", "carol"]
    assert len(problems) == 1 and str(problems[0]).startswith(f"{bad}: {message}")
    assert str(problems[0]).isprintable()


@pytest.mark.parametrize("make, message", BAD.values(), ids=BAD.keys())
def test_the_same_file_named_directly_is_one_line(tmp_path: Path, make: Callable[[Path], object],
                                                  message: str) -> None:
    bad = tmp_path / "c/bad/attention/attention.ipynb"
    bad.parent.mkdir(parents=True)
    make(bad)
    good = write(tmp_path / "c/alice/attention/attention.ipynb")
    submissions, problems = read_submissions([bad, good], course())
    assert [submission.student for submission in submissions][-1:] == ["alice"]
    # A link that the user names is followed; a dangling one cannot be.
    expected = 0 if make is _link else 1
    assert len(problems) == expected and all(str(p).startswith(f"{bad}: {message}") for p in problems)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "empty")
    write(tmp_path / "notes.txt", b"hello")
    names = ["gone.ipynb", "empty", "notes.txt", "gone", "a\0b", "x" * 300]
    submissions, problems = read_submissions([tmp_path / name for name in names] + [""], course())
    assert submissions == []
    assert [problem.message for problem in problems] == [
        "no such file", "no submissions found; expected files like <student>/attention/attention.ipynb",
        "not a submission: expected a notebook (.ipynb), a script (.py), a zip, or a folder of them",
        "no such file", "cannot be read: embedded null byte", "cannot be read: File name too long",
        "(empty path): no such file"]


def test_a_folder_of_other_units_has_no_submission_of_this_one(tmp_path: Path) -> None:
    write(tmp_path / "alice/attention/attention.ipynb")
    _, problems = read_submissions([tmp_path], course(), unit="convolution")
    assert [problem.message for problem in problems] == [
        "no submissions of unit convolution found; expected files like <student>/convolution/conv.ipynb"]


def test_a_folder_too_deep_is_said_and_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "c/1/2/3/4/5/alice.ipynb")
    (tmp_path / "c/again").symlink_to(tmp_path / "c")
    _, problems = read_submissions([tmp_path / "c"], course())
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/c/1/2/3/4/5: more than 4 folders deep: not searched",
        f"{tmp_path}/c/again: a link to {tmp_path}/c: not followed; name it if it is meant"]
