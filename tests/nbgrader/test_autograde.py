"""`nbgrader autograde` with our engine: one run over a class of all kinds, and what nbgrader makes of it afterwards."""
from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbgrader.converters.base
import pytest
from class_of_ten import TAMPERING, cell_of
from nbgrader.converters import BaseConverter
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.utils import compute_checksum, determine_grade, is_grade, is_solution
from tiny_course import TODO, tiny_course

from autograder.errors import SandboxError
from autograder.grading.grade import grade
from autograder.nbgrader import exporter, preprocessors
from autograder.nbgrader.standby import NotGraded
from autograder.report.model import ExerciseResult
from autograder.submission.reader import read_submissions

SCRIPT = '<script>alert("grades")</script><img src=x onerror=alert(1)>'
ANSWERS: dict[str, dict[str, str]] = {
    "right": {},
    "wrong": {"scale": "def scale(x, factor):\n    return x + factor"},
    "todo": TODO,
    "leaves": {"scale": "import os\ndef scale(x, factor):\n    os._exit(0)"},
    "writes": {"center": f"def center(x):\n    raise ValueError({SCRIPT!r})"},
}
BROKEN = {"cut": '{"nbformat": 4, "cells": [', "blank": "", "picture": "\x89PNG"}


@pytest.fixture(scope="module")
def graded(directory: Any) -> Any:
    """All handed in and autograded in one run; what the run said."""
    for student, answers in ANSWERS.items():
        value = directory.filled(**answers)
        if student == "writes":
            cell_of(value, "essay")["source"] = SCRIPT
            value["cells"].append({"cell_type": "raw", "source": SCRIPT, "metadata": {"raw_mimetype": "text/html"}})
        directory.submit(student, value)
    for name, change in TAMPERING.items():
        value = directory.filled(**ANSWERS["wrong"])
        change(value)
        directory.submit(name, value)
    for student, text in BROKEN.items():
        directory.submit(student, text)
    (directory.path / "submitted" / "wrong" / "tiny" / "timestamp.txt").write_text("2026-03-02 00:00:00 UTC")
    with directory.gradebook() as book:
        book.update_or_create_assignment("tiny", duedate="2026-03-01 00:00:00")
    directory.run = directory.autograde()
    return directory


def check_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if is_grade(cell) and not is_solution(cell)]


def test_the_run_succeeds_in_one_process(graded: Any) -> None:
    assert graded.run["success"], graded.run
    assert "Traceback" not in graded.run["log"]
    assert len(preprocessors.standby._crew._members) == 1
    process = preprocessors.standby._crew._members[0].process.pid
    assert graded.autograde("right")["success"]
    assert preprocessors.standby._crew._members[0].process.pid == process


def test_grades_are_those_of_autograder_grade(graded: Any) -> None:
    submissions, problems = read_submissions([graded.path / "submitted"], graded.course)
    assert {problem.path.split("/")[-3] for problem in problems} == set(BROKEN)
    expected: dict[str, dict[str, float]] = {}

    def done(report: Any) -> None:
        expected[report.student] = {f"check_{result.id}": result.score for result in report.exercises}
    assert grade(graded.course, submissions, done) == []
    assert expected.keys() == ANSWERS.keys() | TAMPERING.keys()
    for student, scores in expected.items():
        found = graded.grades(student)
        assert {name: found[name] for name in scores} == {name: (score, False) for name, score in scores.items()}
    assert expected["right"] == {"check_scale": 4, "check_center": 2}
    assert expected["wrong"] == expected["no_grade"] == expected["duplicated"] == {"check_scale": 0, "check_center": 2}


def test_what_nbgrader_asks_of_autograded_notebooks_holds(graded: Any) -> None:
    for student in (*ANSWERS, *TAMPERING, *BROKEN):
        notebook, grades = graded.autograded(student), graded.grades(student)
        MetadataValidator().validate_nb(notebook)
        assert [cell.metadata.nbgrader.grade_id for cell in check_cells(notebook)] == [
            "check_scale", "check_center", "of_the_instructor"], student
        for cell in check_cells(notebook):
            name = cell.metadata.nbgrader.grade_id
            assert cell.metadata.nbgrader.checksum == compute_checksum(cell)
            if name != "of_the_instructor":
                assert determine_grade(cell)[0] == grades[name][0]


def test_a_file_that_is_no_notebook_has_no_points_and_waits_for_a_human(graded: Any) -> None:
    for student in BROKEN:
        assert graded.grades(student)["check_scale"] == (0.0, True)
        assert "could not be read" in graded.comment(student, "scale")
        assert "could not be read" in cell_of(graded.autograded(student), "check_scale").outputs[0].data["text/html"]
    assert "was the upload cut off?" in graded.run["log"]


def test_cells_that_the_instructor_added(graded: Any) -> None:
    """An answer waits for a human, and so does a test that is not ours: nobody runs it, nobody gives it full marks."""
    test = cell_of(graded.autograded("right"), "of_the_instructor")
    assert determine_grade(test) == (7.0, 7.0), "the control: nbgrader alone gives all points"
    assert graded.grades("right")["of_the_instructor"] == (None, True)
    assert graded.grades("right")["essay"] == (0.0, False), "not answered"
    assert graded.grades("writes")["essay"] == (None, True)
    with graded.gradebook() as book:
        book.find_grade("essay", "tiny", "tiny", "writes").manual_score = 3.5
        book.db.commit()
    assert graded.autograde("writes")["success"]
    with graded.gradebook() as book:
        assert book.find_grade("essay", "tiny", "tiny", "writes").score == 3.5
        assert book.find_submission_notebook("tiny", "tiny", "writes").score == 3.5 + 4


def test_students_read_what_is_public_and_only_names_of_what_is_hidden(graded: Any) -> None:
    page = feedback(graded, "wrong")
    assert "This is what you get when the factor is added." in page
    assert "The factor itself is what ones become." in page and "Smallest failing example" in page
    assert "Values and gradients are right." in page
    assert "This property does not hold for a hidden example." in page
    for secret in ("test_scale_values_and_gradients", "assert_equivalent", "x.mean(dim=-1, keepdim=True)"):
        assert secret not in page
    assert "test_scale_values_and_gradients" in graded.course.units["tiny"].checks_path.read_text()
    comment = graded.comment("wrong", "scale")
    assert comment.startswith("0 / 4 points.") and "- The factor itself is what ones become" in comment
    assert graded.comment("right", "scale") == "4 / 4 points.\n\nEvery check holds."


def test_nothing_that_a_student_wrote_acts_on_the_page(graded: Any) -> None:
    page = feedback(graded, "writes")
    assert "alert(1)" in page, "it is shown"
    assert SCRIPT not in page and "<img src=x" not in page and "<script>alert" not in page
    from nbconvert import HTMLExporter
    from nbformat import v4
    plain, _ = HTMLExporter().from_notebook_node(v4.new_notebook(cells=[v4.new_markdown_cell(SCRIPT)]))
    assert "<script>alert" in plain, "the control: as it came, it would act"


def feedback(graded: Any, student: str) -> str:
    assert graded.api().generate_feedback("tiny", student)["success"]
    return (graded.path / "feedback" / student / "tiny" / "tiny.html").read_text(encoding="utf-8")


def test_late_penalties_and_export(graded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbgrader.plugins import CsvExportPlugin
    config = graded.path / "nbgrader_config.py"
    config.write_text(config.read_text() + 'c.LateSubmissionPlugin.penalty_method = "zero"\n')
    assert graded.autograde("wrong")["success"] and graded.autograde("right")["success"]
    monkeypatch.chdir(graded.path)
    exporter = CsvExportPlugin()
    exporter.to = "grades.csv"
    with graded.gradebook() as book:
        exporter.export(book)
    header, *rows = [line.split(",") for line in (graded.path / "grades.csv").read_text().splitlines()]
    found = {row[header.index("student_id")]: [row[header.index(name)] for name in
                                               ("raw_score", "late_submission_penalty", "score")] for row in rows}
    assert found["wrong"] == ["2.0", "2.0", "0.0"] and found["right"] == ["6.0", "0.0", "6.0"]


# ---------------------------------------------------------------------------------------------- when grading fails

def test_a_sandbox_that_breaks_on_the_way_is_a_line_and_no_grade(graded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grades = preprocessors.standby.grade

    def fails(course: Any, submission: Any, unsandboxed: bool) -> Any:
        if submission.student:
            raise SandboxError("the sandbox does not hold here (ADVISORY)")
        return grades(course, submission, unsandboxed)
    graded.submit("later", graded.filled())
    monkeypatch.setattr(preprocessors.standby, "grade", fails)
    for student in ("later", "leaves"):
        said = graded.autograde(student)
        assert not said["success"] and "the sandbox does not hold here" in said["error"].splitlines()[-1]
        assert "Traceback" not in said["log"]
        assert {graded.grades(student)[name] for name in ("check_scale", "check_center")} == {(None, True)}
        assert not (graded.path / "autograded" / student / "tiny").exists()
    monkeypatch.undo()
    assert graded.autograde("later", force=False)["success"]
    assert graded.grades("later")["check_scale"] == (4.0, False)


def configured(graded: Any, line: str) -> Callable[[], str]:
    """Adds a line to the configuration; what is returned takes it away again."""
    config = graded.path / "nbgrader_config.py"
    before = config.read_text()
    config.write_text(f"{before}{line}\n")
    return lambda: config.write_text(before)


def no_seed(graded: Any, folder: Path, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("ETUDE_SEED", "")
    preprocessors.standby.stop()  # in a terminal every run has a process of its own
    return "ETUDE_SEED is set, but empty"


def no_sandbox(graded: Any, folder: Path, patch: pytest.MonkeyPatch) -> str:
    def fails(*_: Any) -> None:
        raise SandboxError("the sandbox does not hold here (ADVISORY)")
    patch.setattr(preprocessors.standby, "grade", fails)
    return "the sandbox does not hold here"


def no_course(graded: Any, folder: Path, patch: pytest.MonkeyPatch) -> str:
    configured(graded, f"c.SealedGrades.course_file = {str(folder / 'course.yml')!r}")
    return "course.yml: "


def broken_reference(graded: Any, folder: Path, patch: pytest.MonkeyPatch) -> str:
    tiny_course(folder, solution={"return factor * x": "return factor + x"})
    configured(graded, f"c.SealedGrades.course_file = {str(folder / 'course.yml')!r}")
    return "the reference itself fails test_scale"


def no_release(graded: Any, folder: Path, patch: pytest.MonkeyPatch) -> str:
    path = graded.path / "release" / "tiny" / "tiny.ipynb"
    path.rename(path.with_suffix(".away"))
    return "make it with `nbgrader generate_assignment tiny`"


@pytest.fixture
def mended(graded: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The directory; whatever a test breaks in it is mended afterwards."""
    mend, release = configured(graded, ""), graded.path / "release" / "tiny"
    yield graded
    monkeypatch.undo()
    mend()
    for away in release.glob("*.away"):
        away.rename(away.with_suffix(".ipynb"))
    preprocessors.standby.stop()


@pytest.mark.parametrize("breaks", [no_seed, no_sandbox, no_course, broken_reference, no_release])
def test_where_nothing_can_be_graded_a_forced_run_says_so_in_a_line_and_earlier_grades_stay(
        mended: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: Callable[..., str]) -> None:
    assert mended.autograde("right")["success"]
    before, notebook = mended.grades("right"), mended.path / "autograded" / "right" / "tiny" / "tiny.ipynb"
    assert before["check_scale"] == (4.0, False) and before["check_center"] == (2.0, False)
    made = notebook.read_bytes()
    complaint = breaks(mended, tmp_path, monkeypatch)
    said = mended.autograde("right")
    assert not said["success"] and complaint in said["error"].splitlines()[-1], said
    assert "Traceback" not in said.get("log", "")
    assert mended.grades("right") == before and notebook.read_bytes() == made


def test_the_command_without_a_seed_leaves_the_grade(mended: Any) -> None:
    command = [sys.executable, "-m", "nbgrader", "autograde", "tiny", "--force", "--student=right"]
    assert mended.autograde("right")["success"]
    before = mended.grades("right")
    done = subprocess.run(command, cwd=mended.path, env={**os.environ, "ETUDE_SEED": " "}, capture_output=True,
                          text=True)
    assert done.returncode == 1 and "ETUDE_SEED is set, but empty" in done.stderr.splitlines()[-1], done.stderr
    assert mended.grades("right") == before and before["check_scale"] == (4.0, False)
    done = subprocess.run(command, cwd=mended.path, env={**os.environ, "ETUDE_SEED": "one"}, capture_output=True,
                          text=True)
    assert done.returncode == 0 and "Removing existing assignment" in done.stderr, "the control: with one it is graded"


@pytest.mark.parametrize(("points", "expected"), [(2, "1.5"), (4, "3.0"), (1, "0.75")])
def test_other_points_in_the_source_are_the_same_share(points: int, expected: str) -> None:
    from nbformat import v4
    cell = v4.new_code_cell("check('center')", metadata={"nbgrader": {"points": points}})
    result = ExerciseResult(id="center", title="Centring", score=1.5, max_score=2, status="graded")
    preprocessors._fill(cell, preprocessors.Graded({"center": result}), "center")
    assert cell.outputs[0].data["text/plain"] == expected


def test_a_submission_on_which_the_grader_fails_has_no_grade_and_the_others_have(
        graded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grades = preprocessors.standby.grade

    def fails_once(course: Any, submission: Any, unsandboxed: bool) -> Any:
        if submission.student == "leaves":
            raise NotGraded("leaves: not graded, as the grader itself failed")
        return grades(course, submission, unsandboxed)
    monkeypatch.setattr(preprocessors.standby, "grade", fails_once)
    said = graded.autograde("[lr]*")  # leaves, later, reordered, right
    assert not said["success"] and "leaves: not graded, as the grader itself failed" in said["log"]
    assert graded.grades("leaves")["check_scale"] == (None, True)
    assert not (graded.path / "autograded" / "leaves" / "tiny").exists()
    assert graded.grades("right")["check_scale"] == (4.0, False)
    assert (graded.path / "autograded" / "right" / "tiny").exists()


def test_a_submission_is_let_go_however_its_grading_ended(graded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = graded.path / "submitted" / "todo" / "tiny"
    assert is_free(folder)
    monkeypatch.setattr(exporter, "WAIT_SECONDS", 0.2)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        said = graded.autograde("todo")
    finally:
        os.close(descriptor)
    assert not said["success"] and "another process has had it in hand" in said["error"]
    assert is_free(folder)
    assert (graded.path / "autograded" / "todo" / "tiny" / "tiny.ipynb").exists()  # the other process's, maybe


def test_a_submission_is_in_hand_from_before_its_files_are_removed_until_after_the_last_is_written(
        graded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = graded.path / "submitted" / "todo" / "tiny"
    seen: list[tuple[str, bool]] = []

    def watch(place: Any, name: str) -> None:
        step = getattr(place, name)

        def watched(*args: Any) -> Any:
            seen.append((name, is_free(folder)))
            return step(*args)
        monkeypatch.setattr(place, name, watched)
    for name in ("init_assignment", "convert_single_notebook", "set_permissions"):
        watch(BaseConverter, name)
    watch(nbgrader.converters.base, "rmtree")
    assert graded.autograde("todo")["success"]
    steps = ["rmtree", "init_assignment", "convert_single_notebook", "convert_single_notebook", "set_permissions"]
    assert seen == [(step, False) for step in steps]
    assert is_free(folder)

    def fails(*_: Any) -> Any:
        raise NotGraded("todo: not graded, as the grader itself failed")
    seen.clear()
    grades = preprocessors.standby.grade
    monkeypatch.setattr(preprocessors.standby, "grade",
                        lambda course, submission, *rest: (fails if submission.student else grades)(
                            course, submission, *rest))
    assert not graded.autograde("todo")["success"]
    assert seen == [(step, False) for step in [*steps[:-1], "rmtree"]]
    assert is_free(folder)
    monkeypatch.undo()
    assert graded.autograde("todo")["success"]


def is_free(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_two_runs_at_once_do_no_harm(graded: Any) -> None:
    students = ["right", "wrong", "duplicated", "todo"]
    before = {student: graded.grades(student) for student in students}
    command = [sys.executable, "-m", "nbgrader", "autograde", "tiny", "--force", "--student=[rwdt]*"]
    runs = [subprocess.Popen(command, cwd=graded.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)]
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(said)
    assert {student: graded.grades(student) for student in students} == before
    for student in students:
        cell = cell_of(graded.autograded(student), "check_scale")
        assert determine_grade(cell)[0] == before[student]["check_scale"][0]


def test_the_configuration_is_light(tmp_path: Path) -> None:
    program = ("import sys, autograder.nbgrader.config\n"
               "print(sorted({'torch', 'nbformat', 'jinja2', 'nbconvert'} & sys.modules.keys()))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
