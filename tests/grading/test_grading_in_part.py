"""A change regrades the exercises that can see it and no others, and the report is the one `--fresh` would give."""
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_course import RIGHT, handed_in, tiny_course

from autograder.classroom.compare import compare
from autograder.commands import grade as command
from autograder.course import Course, load_course
from autograder.grading import grade as grading
from autograder.grading import kept
from autograder.grading.reference import ReferenceSubject
from autograder.report.model import Report
from autograder.report.store import read_reports

STUDENTS: dict[str, dict[str, str]] = {
    "ann": {},
    "bob": {"scale": "def scale(x, factor):\n    return x + factor"},
    "cyd": {"scale": "def scale(x, factor):\n    return (x * factor).detach()",
            "center": "def center(x):\n    return y"},
}
MORE_CHECKS = """

def rows(case):
    return case.arguments()["x"]


@exercise("center")
@points(1)
@for_all(case=CENTER)
def test_center_twice(student, case):
    \"\"\"Centring twice changes nothing.\"\"\"
    once = student.center(rows(case))
    assert_same(student.center(once), once)


@exercise("center")
@points(1)
@for_all(case=SCALE.but())
def test_center_of_the_other_case(student, case):
    \"\"\"Rows have mean 0 here, too.\"\"\"
    assert_same(student.center(case.arguments()["x"]).mean(-1), torch.zeros(case.B, dtype=torch.float64))
"""
Run = Callable[..., dict[str, set[str]]]


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    course = tiny_course(tmp_path, checks=MORE_CHECKS, course={"points: 2": "points: 4, forbid: [mean]"})
    for student, cells in STUDENTS.items():
        hand_in(student, tmp_path, **cells)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETUDE_SEED", raising=False)
    return course


@pytest.fixture
def run(course: Course, warm: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run()`: grade the class into `out`; which exercises were graded of which student."""
    def grade(out: str = "out", fresh: bool = False) -> dict[str, set[str]]:
        graded: dict[str, set[str]] = {}
        report = grading.GradedSubmission.report

        def noting(self: Any, *arguments: Any) -> Report:
            graded[self.submission.student] = {result.id for result in self.results}
            return report(self, *arguments)
        with monkeypatch.context() as patch:
            patch.setattr(grading.GradedSubmission, "report", noting)
            code = command.run_grade(load_course(Path("course.yml")), [Path("class")], unit=None, student=None,
                                     out=Path(out), formats=["junit"], jobs=1, fail_under=None, unsandboxed=False,
                                     fresh=fresh)
        assert code == 0
        return graded
    return grade


def hand_in(student: str, folder: Path = Path(), more: list[dict[str, Any]] | None = None, outputs: int = 0,
            **cells: str) -> None:
    """A notebook: a cell of text, the exercises, and `more`."""
    def code(source: str, **nbgrader: Any) -> dict[str, Any]:
        return {"cell_type": "code", "source": source, "outputs": [{"n": outputs}] if outputs else [],
                "execution_count": None, "metadata": {"nbgrader": nbgrader} if nbgrader else {}}
    found = [{"cell_type": "markdown", "source": "Notes", "metadata": {}}]
    found += [code(cell.source, grade_id=cell.grade_id, solution=True, grade=False, locked=False)
              for cell in handed_in(student, **cells).cells]
    path = folder / "class" / student / "tiny" / "tiny.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": found + (more or [])}))


def change(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert text.count(old) >= 1, f"{path} has no {old!r}"
    Path(path).write_text(text.replace(old, new, 1))


def whole(folder: str) -> dict[str, dict[str, Any]]:
    """Every report in full, but for its timings."""
    found = {}
    for student in STUDENTS:
        fields = json.loads((Path(folder) / student / "tiny.json").read_bytes())
        del fields["provenance"]["timings"]
        found[student] = fields
    return found


CHECKS, SOLUTION, VARIANTS = (f"solutions/tiny/tiny{name}.py" for name in ("_checks", "", "_variants"))
ALL = {"scale", "center"}
CHANGES: dict[str, tuple[tuple[str, str, str], set[str]]] = {
    # what: (file, from, to), the exercises that can see it
    "a comment": ((CHECKS, "import torch\n", "import torch  # and nothing else\n"), set()),
    "the docstring of the file": ((CHECKS, '"""Checks of', '"""All checks of'), set()),
    "a title": ((CHECKS, "Values and gradients", "All values and gradients"), {"scale"}),
    "a check's body": ((CHECKS, "ones = torch.ones(", "ones = 1 * torch.ones("), {"scale"}),
    "points among checks": ((CHECKS, "@points(1)\n@public\n@for_all(case=SCALE)", "@points(1.0)\n@public\n"
                                     "@for_all(case=SCALE)"), {"scale"}),
    "a check of the other": ((CHECKS, "assert_same(student.center(once), once)",
                              "assert_same(student.center(once), once, 'twice')"), {"center"}),
    "a helper": ((CHECKS, 'return case.arguments()["x"]', 'return case.arguments()["x"] + 0'), {"center"}),
    "a specification of one": ((CHECKS, 'normal("B N", shift=1.0)', 'normal("B N", shift=2.0)'), {"center"}),
    "a specification of both": ((CHECKS, "(3.0, -0.5)", "(2.0, -0.5)"), ALL),
    "a statement that is no definition": ((CHECKS, "SCALE = Cases", "torch.manual_seed(3)\nSCALE = Cases"), ALL),
    "a mistake": ((VARIANTS, "Scaling multiplies.", "It multiplies."), {"scale"}),
    "a right solution": ((VARIANTS, '"bn,->bn"', '"ab,->ab"'), set()),
    "a helper of mistakes": ((VARIANTS, "def _mean(x, dim):", "def _mean(x, dim=0):"), ALL),
    "text of the notebook": ((SOLUTION, "Scaling is multiplication.", "To scale is to multiply."), set()),
    "the reference": ((SOLUTION, "return factor * x", "return x * factor"), ALL),
    "points": (("course.yml", "points: 4, minutes: 5", "points: 4.0, minutes: 5"), set()),
    "the title of an exercise": (("course.yml", "title: Scaling", "title: To scale"), {"scale"}),
    "what is forbidden": (("course.yml", "forbid: [mean]", "forbid: [sum]"), {"center"}),
    "the minutes": (("course.yml", "minutes: 5", "minutes: 6"), set()),
    "a limit": (("course.yml", "call_seconds: 5", "call_seconds: 6"), ALL),
    "what is preloaded": (("course.yml", "limits:", "preload: [fractions]\nlimits:"), ALL),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_the_course_is_graded_where_it_is_seen_and_as_if_all_were(run: Run, what: str) -> None:
    assert run() == dict.fromkeys(STUDENTS, ALL)
    (path, old, new), seen = CHANGES[what]
    change(path, old, new)
    assert run() == (dict.fromkeys(STUDENTS, seen) if seen else {})
    assert run("fresh", fresh=True) == dict.fromkeys(STUDENTS, ALL)
    assert whole("out") == whole("fresh")
    assert run() == {}


def test_the_test_above_sees_a_stale_result(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: were a changed check's result kept, reports would differ."""
    run()
    change(CHECKS, "torch.full_like(ones, case.factor)", "torch.full_like(ones, case.factor + 1)")
    monkeypatch.setattr(ReferenceSubject, "finished", lambda self, exercise, outcomes: None)
    monkeypatch.setattr(kept, "_holding", lambda stored, wanted, decisive: set(wanted))
    assert run() == {}
    run("fresh", fresh=True)
    assert whole("out") != whole("fresh")


def test_what_a_correction_changed_is_what_compare_tells(run: Run) -> None:
    from autograder.commands.compare import lines
    run("before")
    shutil.copytree("before", "out")
    change(CHECKS, "assert_equivalent(student.scale, reference.scale, case)",
           "x = case.arguments()['x']\n    assert_same(student.scale(x, case.factor).detach(), case.factor * x)")
    assert run() == dict.fromkeys(STUDENTS, {"scale"})
    told = list(lines(compare(read_reports(Path("before"))[0], read_reports(Path("out"))[0])))
    assert told[0] == "tiny: checks, mistakes or limits differ"
    assert "  cyd, tiny: 1 -> 4 of 8" in told and told[-1] == "\nunchanged: 2"


def test_the_order_of_exercises_is_that_of_the_file(run: Run) -> None:
    run()
    text = Path(CHECKS).read_text()
    head, scale = text.split('@exercise("scale")', 1)
    scale, center = scale.split('@exercise("center")', 1)
    Path(CHECKS).write_text(f'{head}@exercise("center"){center}\n\n@exercise("scale"){scale}')
    assert run() == {}
    run("fresh", fresh=True)
    assert whole("out") == whole("fresh")
    assert [one["id"] for one in whole("out")["ann"]["exercises"]] == ["center", "scale"]


@pytest.mark.parametrize(("what", "graded"), [
    ("outputs", {}), ("text", {}), ("a check cell", {}),
    ("a cell of its own", {"bob": ALL}), ("another cell", {"bob": ALL}), ("lines above", {"bob": ALL}),
])
def test_a_change_of_a_submission_is_graded_where_its_cells_are_run(run: Run, what: str,
                                                                    graded: dict[str, set[str]]) -> None:
    """Every exercise runs the definitions of all other cells, and may use them."""
    own = STUDENTS["bob"]
    check_cell = {"cell_type": "code", "source": "check('scale')", "outputs": [], "execution_count": None,
                  "metadata": {"nbgrader": {"grade_id": "check_scale", "solution": False, "grade": True,
                                            "locked": True}}}
    hand_in("bob", more=[check_cell], **own)
    run()
    if what == "outputs":
        hand_in("bob", more=[check_cell], outputs=1, **own)
    elif what == "text":
        hand_in("bob", more=[check_cell, {"cell_type": "markdown", "source": "Done", "metadata": {}}], **own)
    elif what == "a check cell":
        hand_in("bob", more=[{**check_cell, "source": "check('scale')  # again"}], **own)
    elif what == "a cell of its own":
        hand_in("bob", more=[check_cell], scale=RIGHT["scale"])
    elif what == "another cell":
        hand_in("bob", more=[check_cell, {**check_cell, "source": "import math", "metadata": {}}], **own)
    else:
        hand_in("bob", more=[check_cell], scale="\n" + own["scale"])
    assert run() == graded
    run("fresh", fresh=True)
    assert whole("out") == whole("fresh")


def test_results_of_another_sandbox_do_not_stand_beside_new_ones(run: Run) -> None:
    run()
    path = Path("out/bob/tiny.json")
    report = json.loads(path.read_bytes())
    report["provenance"]["sandbox_layers"] = ["rlimits"]
    path.write_text(json.dumps(report))
    change(CHECKS, "Values and gradients", "All values and gradients")
    assert run() == {"ann": {"scale"}, "cyd": {"scale"}, "bob": ALL}
    run("fresh", fresh=True)
    assert whole("out") == whole("fresh")


def test_what_was_graded_in_part_is_said(run: Run, capsys: pytest.CaptureFixture) -> None:
    run()
    change(CHECKS, "Values and gradients", "All values and gradients")
    hand_in("bob")
    capsys.readouterr()
    run()
    assert "graded in part: 2 of 3 reports, as what changed concerns no more than tiny.scale\n" \
        in capsys.readouterr().out
