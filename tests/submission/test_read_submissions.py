"""Every form of a submission, and who and which unit it is for."""
from __future__ import annotations

import builtins
import hashlib
import os
from pathlib import Path

import pytest

from autograder.errors import UsageError
from autograder.submission import Problem, Submission, read_submissions

from .samples import attention, code, convolution, course, notebook, write, zipped

COURSE = course()
UNIT = "attention"


def _read(*paths: object, **options: str) -> tuple[list[Submission], list[Problem]]:
    return read_submissions([str(path) for path in paths], COURSE, **options)


def _who(*paths: object, **options: str) -> list[tuple[str, str]]:
    submissions, problems = _read(*paths, **options)
    assert not problems, [str(problem) for problem in problems]
    return [(submission.student, submission.unit) for submission in submissions]


LAYOUTS = {
    # what is on disk, what the user names, what is found
    "notebook": (["alice.ipynb"], "alice.ipynb", [("alice", UNIT)]),
    "notebook in its place": (["alice/attention/x.ipynb"], "alice/attention/x.ipynb", [("alice", UNIT)]),
    "notebook under its own name": (["alice/attention.ipynb"], "alice/attention.ipynb", [("alice", UNIT)]),
    "unit folder": (["alice/attention/attention.ipynb"], "alice/attention", [("alice", UNIT)]),
    "student folder": (["alice/attention/attention.ipynb"], "alice", [("alice", UNIT)]),
    "class": (["c/al/attention/attention.ipynb", "c/bo/attention/attention.ipynb"], "c", [("al", UNIT), ("bo", UNIT)]),
    "class without unit folders": (["c/al/attention.ipynb", "c/bo/attention.ipynb"], "c", [("al", UNIT), ("bo", UNIT)]),
    "class of files": (["c/alice.ipynb", "c/bob.ipynb"], "c", [("alice", UNIT), ("bob", UNIT)]),
    "units above students": (["c/attention/al/attention.ipynb"], "c", [("al", UNIT)]),
    "four folders deep": (["c/2026/group/al/attention/attention.ipynb"], "c", [("al", UNIT)]),
    "unit named above the argument": (["attention/c/alice.ipynb"], "attention/c", [("alice", UNIT)]),
    "checkpoints": (["al/attention/attention.ipynb", "al/attention/.ipynb_checkpoints/a.ipynb"], "al", [("al", UNIT)]),
    "a pair kept by jupytext": (["c/al.ipynb", "c/al.py"], "c", [("al", UNIT)]),
    "scratch beside": (["al/attention/attention.ipynb", "al/attention/scratch.ipynb"], "al", [("al", UNIT)]),
    "helper beside": (["c/al/attention.ipynb", "c/al/helper.py"], "c", [("al", UNIT)]),
    "another file name": (["al/attention/final.ipynb", "al/attention/tools.py"], "al", [("al", UNIT)]),
}


@pytest.mark.parametrize("files, named, found", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_layout_tells_student_and_unit(tmp_path: Path, files: list[str], named: str,
                                         found: list[tuple[str, str]]) -> None:
    for file in files:
        write(tmp_path / file, attention() if file.endswith(".ipynb") else b"def f(): ...")
    assert _who(tmp_path / named) == found


@pytest.mark.parametrize("files, named, found", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_zip_of_a_layout_tells_the_same(tmp_path: Path, files: list[str], named: str,
                                          found: list[tuple[str, str]]) -> None:
    members = [(file, attention() if file.endswith(".ipynb") else b"def f(): ...") for file in files]
    assert _who(zipped(tmp_path / "class.zip", *members)) == found


def test_a_zip_acts_as_the_folder_of_its_name(tmp_path: Path) -> None:
    zipped(tmp_path / "class/alice.zip", ("attention/attention.ipynb", attention()))
    zipped(tmp_path / "class/bob/attention/work.zip", ("attention.ipynb", attention()))
    assert _who(tmp_path / "class/alice.zip") == [("alice", UNIT)]
    assert sorted(_who(tmp_path / "class")) == [("alice", UNIT), ("work", UNIT)]


def test_a_submission_carries_its_path_as_named_and_the_digest_of_its_bytes(tmp_path: Path,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("class/alice/attention/attention.ipynb"))
    zipped(Path("class.zip"), ("bob/attention/attention.ipynb", attention()))
    submissions, _ = _read("class", "class.zip")
    assert [submission.path for submission in submissions] == [
        "class/alice/attention/attention.ipynb", "class.zip!bob/attention/attention.ipynb"]
    assert {submission.digest for submission in submissions} == {hashlib.sha256(attention()).hexdigest()}
    os.chdir("class/alice/attention")
    assert _who(".") == _who("attention.ipynb") == [("alice", UNIT)]


def test_a_script_with_ids_is_a_submission(tmp_path: Path) -> None:
    write(tmp_path / "alice.py", b'# %% exercise="sdpa"\ndef sdpa(): ...\n# %% exercise="heads"\ndef heads(): ...\n')
    submissions, problems = _read(tmp_path / "alice.py")
    assert not problems and submissions[0].unit == UNIT and submissions[0].notes == ()


def test_nothing_of_a_submission_is_compiled_or_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "alice.ipynb", notebook(code("raise SystemExit", "sdpa"), code("def f(:", "heads")))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a submission was compiled")

    for name in ("compile", "exec", "eval"):
        monkeypatch.setattr(builtins, name, never)
    assert _who(tmp_path / "alice.ipynb") == [("alice", UNIT)]


# ---------------------------------------------------------------------------------------------- which unit

def test_the_cells_ids_tell_the_unit_where_no_folder_does(tmp_path: Path) -> None:
    write(tmp_path / "c/alice.ipynb", convolution())
    write(tmp_path / "c/bob.ipynb")
    assert _who(tmp_path / "c") == [("alice", "convolution"), ("bob", UNIT)]


def test_one_student_hands_in_several_units(tmp_path: Path) -> None:
    write(tmp_path / "al/attention/attention.ipynb")
    write(tmp_path / "al/convolution/conv.ipynb", convolution())
    assert _who(tmp_path / "al") == [("al", UNIT), ("al", "convolution")]
    assert _who(tmp_path / "al", unit="convolution") == [("al", "convolution")]


def test_the_only_unit_of_a_course_needs_no_sign(tmp_path: Path) -> None:
    write(tmp_path / "alice.py", b"def sdpa(): ...")
    submissions, problems = _read(tmp_path / "alice.py")
    assert [problem.message for problem in problems] == [
        "cannot tell the unit: no cell has an exercise's id; name the unit, or put the file in a folder called like it "
        "(attention, convolution)"]
    single = COURSE.model_copy(update={"units": {UNIT: COURSE.units[UNIT]}})
    submissions, problems = read_submissions([tmp_path / "alice.py"], single)
    assert not problems and submissions[0].unit == UNIT
    assert submissions[0].notes == ("no cell has the id of an exercise; all functions are looked for in all cells",)


def test_the_wrong_units_notebook_is_recognised(tmp_path: Path) -> None:
    path = write(tmp_path / "al/attention/attention.ipynb", convolution())
    assert [str(problem) for problem in _read(path)[1]] == [
        f"{path}: no exercise cells of unit attention: expected cells with the ids sdpa, heads; "
        "these are exercises of unit convolution"]


def test_an_unknown_unit_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown unit 'atention'; did you mean 'attention'?"):
        _read(unit="atention")


# ---------------------------------------------------------------------------------------------- which student

def test_the_student_can_be_given(tmp_path: Path) -> None:
    assert _who(write(tmp_path / "x.ipynb"), student="Zoë") == [("Zoë", UNIT)]
    with pytest.raises(UsageError, match="student name '../x' cannot be used: it contains '/'"):
        _read(student="../x")


@pytest.mark.parametrize("name", ["a<b", "a\u202eb", "a\nb", "\udc80", "con"])
def test_an_unsafe_name_costs_that_submission_only(tmp_path: Path, name: str) -> None:
    write(tmp_path / "c" / f"{name}.ipynb")
    write(tmp_path / "c/bob.ipynb")
    submissions, problems = _read(tmp_path / "c")
    assert [submission.student for submission in submissions] == ["bob"]
    assert len(problems) == 1 and str(problems[0]).isprintable()
    assert "cannot be used" in problems[0].message and problems[0].message.endswith("rename the folder or the file")


def test_a_unit_is_no_student(tmp_path: Path) -> None:
    _, problems = _read(zipped(tmp_path / "attention.zip", ("attention.ipynb", attention())))
    assert "cannot tell whose it is" in str(problems[0])


@pytest.mark.parametrize("second", ["b/alice/attention/attention.ipynb", "b/Alice/attention/attention.ipynb"])
def test_of_two_submissions_the_first_counts_and_the_problem_names_both(tmp_path: Path, second: str) -> None:
    write(tmp_path / "a/alice/attention/attention.ipynb")
    write(tmp_path / second, notebook(code("def other(): ...", "sdpa")))
    submissions, problems = _read(tmp_path)
    assert [submission.path for submission in submissions] == [f"{tmp_path}/a/alice/attention/attention.ipynb"]
    assert len(problems) == 1 and problems[0].path == f"{tmp_path}/{second}"
    assert problems[0].message.endswith(f"is already given by {tmp_path}/a/alice/attention/attention.ipynb")


def test_files_beside_a_submission_are_noted_or_told(tmp_path: Path) -> None:
    write(tmp_path / "c/al/attention/attention.ipynb")
    write(tmp_path / "c/al/attention/scratch.ipynb")
    (tmp_path / "c/al/attention/attention_checks.py").write_text("released = True\n")
    write(tmp_path / "c/attention.ipynb")
    write(tmp_path / "c/bob.ipynb")
    submissions, problems = _read(tmp_path / "c")
    assert [(s.student, s.notes) for s in submissions] == [
        ("al", ("in the same folder and not graded: scratch.ipynb",)), ("c", ())]
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/c/bob.ipynb: not graded: attention.ipynb in the same folder is taken for the submission; "
        "give each student a folder"]


# ---------------------------------------------------------------------------------------------- which exercises

def test_cells_in_another_order_need_no_note(tmp_path: Path) -> None:
    write(tmp_path / "alice.ipynb", notebook(code("b", "heads"), code("a", "sdpa")))
    assert _read(tmp_path / "alice.ipynb")[0][0].notes == ()


def test_a_deleted_and_a_duplicated_cell_are_noted(tmp_path: Path) -> None:
    write(tmp_path / "alice.ipynb", notebook(code("a", "sdpa"), code("b", "sdpa")))
    assert _read(tmp_path / "alice.ipynb")[0][0].notes == (
        "cell 1 and cell 2 both have the id 'sdpa'; cell 2 counts",
        "cell of exercise 'heads' is missing; its functions are looked for in the other cells")


def test_retyped_cells_are_accepted_if_they_define_anything(tmp_path: Path) -> None:
    path = write(tmp_path / "al/attention/attention.ipynb", notebook(code("x = 1"), code("x = 1\n  class A: ...")))
    assert _read(path)[0][0].notes == ("no cell has the id of an exercise; all functions are looked for in all cells",)
    write(path, notebook(code("x = 'def'"), code("check('sdpa')", "check_sdpa")))
    assert [str(problem) for problem in _read(path)[1]] == [
        f"{path}: no exercise cells of unit attention: expected cells with the ids sdpa, heads; "
        "was this made from the released notebook?"]
