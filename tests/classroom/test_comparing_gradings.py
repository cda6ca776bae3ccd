"""Grading again after a correction: whose score changed, by which checks, and what else could be the reason."""
from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_course import handed_in, notebook_of, tiny_course

from autograder import cli
from autograder.classroom.compare import DECISIVE, compare
from autograder.report.html import render_compare_page
from autograder.report.model import CheckResult, Diagnosis, ExerciseResult, Report

ADDED = "def scale(x, factor):\n    return x + factor"
DETACHED = "def scale(x, factor):\n    return (x * factor).detach()"
HALF = "assert_equivalent(student.scale, reference.scale, case)"
FORGIVING = "assert_same(student.scale(case.x, case.factor).detach(), case.factor * case.x)"


@pytest.fixture
def run(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autograder", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capfd.readouterr()
    return command


def test_a_corrected_check_is_seen_by_those_whom_it_touches(tmp_path: Path, run: Callable,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for student, cells in (("ann", {}), ("bob", {"scale": ADDED}), ("cem", {"scale": DETACHED})):
        path = Path("class") / student / "tiny" / "tiny.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(notebook_of(handed_in(student, **cells)))
    tiny_course(tmp_path, checks={HALF: FORGIVING.replace("case.x", "case.arguments()['x']")})
    assert run("grade", "class", "--out", "old", "--unsandboxed")[0] == 0
    tiny_course(tmp_path)
    assert run("grade", "class", "--out", "new", "--unsandboxed")[0] == 0

    code, out, err = run("compare", "old", "new")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "tiny: checks, mistakes or limits differ", "", "scores that changed: 1",
        "  cem, tiny: 6 -> 3 of 6", "    scale: 4 / 4 -> 1 / 4",
        "      test_scale_values_and_gradients: passed, 3 / 3 -> failed, 0 / 3",
        "        was: no diagnosis", "        now: the result is detached", "", "unchanged: 2"]
    assert run("compare", "old", "new", "--html", "changes.html")[1] == out
    page = Path("changes.html").read_text(encoding="utf-8")
    text = " ".join(re.sub("<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())
    assert "cem Tiny 6 → 3 / 6 (−3)" in text and "ann" not in text.split(), "only those whom it touches"
    assert "Values and gradients are right. hidden passed, 3 / 3 failed, 0 / 3: the result is detached" in text
    assert "Tiny: checks, mistakes or limits differ." in text and Path("changes.html").stat().st_mode & 0o007 == 0
    code, out, _ = run("compare", "new", "new")
    assert code == 0 and out == "tiny: nothing differs that grades depend on\n\nunchanged: 3\n"
    assert run("compare", "old", "class")[0] == 2


def report(student: str = "ann", *checks: CheckResult, status: str = "graded", **provenance: Any) -> Report:
    score, most = sum(check.score for check in checks), sum(check.points for check in checks)
    exercise = ExerciseResult(id="e", title="E", score=score, max_score=most, status=status, checks=list(checks))
    return Report(student=student, unit="u", sandbox="ENFORCED", score=score, max_score=most, exercises=[exercise],
                  provenance={"submission": "s", "checks": "c", "seed_sha256": "d", "versions": {}} | provenance)


def check(name: str = "test_a", passed: bool = True, points: float = 2, diagnosis: str = "") -> CheckResult:
    named = Diagnosis(id=diagnosis, title=f"it is {diagnosis}", certainty="all probes") if diagnosis else None
    return CheckResult(name=name, title="A", points=points, score=points * passed, passed=passed, public=True,
                       diagnosis=named)


@pytest.mark.parametrize(("old", "new", "of_score", "names"), [
    (check(), check(), None, []),
    (check(passed=False), check(), True, ["test_a"]),
    (check(points=2), check(points=3), True, ["test_a"]),
    (check(points=2, passed=False), check(points=3, passed=False), False, ["test_a"]),
    (check(), check("test_b"), False, ["test_a", "test_b"]),
    (check(passed=False, diagnosis="x"), check(passed=False, diagnosis="y"), False, ["test_a"]),
    (check(passed=False), check(passed=False, diagnosis="y"), False, ["test_a"]),
])
def test_changes_are_found_by_check(old: CheckResult, new: CheckResult, of_score: bool | None, names: list) -> None:
    found = compare([report("ann", old)], [report("ann", new)])
    assert found.complete and found.same == (of_score is None)
    assert [change.of_score for change in found.changes] == ([] if of_score is None else [of_score])
    assert [one.name for change in found.changes for exercise in change.exercises for one in exercise.checks] == names


def test_an_exercise_that_could_not_be_graded_is_a_change() -> None:
    found = compare([report("ann", check())], [report("ann", check(), status="error")])
    assert [exercise.id for change in found.changes for exercise in change.exercises] == ["e"]


@pytest.mark.parametrize("other", [{"seed_sha256": "e"}, {"versions": {"torch": "3"}}])
def test_another_seed_or_version_may_be_the_reason(other: dict) -> None:
    found = compare([report("ann", check())], [report("ann", check(), checks="c2", **other)])
    assert not found.complete and found.grounds == {"u": {"checks", *other}}
    assert compare([report("ann", check())], [report("ann", check(), checks="c2")]).complete


def test_what_has_no_counterpart_is_told(tmp_path: Path, run: Callable) -> None:
    from autograder.report.writer import write_views
    for folder, reports in (("old", [report("ann", check()), report("bob", check()), report("eve", check())]),
                            ("new", [report("ann", check(passed=False), submission="t"), report("bob", check()),
                                     report("zoe", check())])):
        for one in reports:
            write_views(one, tmp_path / folder)
    code, out, _ = run("compare", tmp_path / "old", tmp_path / "new")
    assert code == 1
    assert out.splitlines()[-4:] == [
        "unchanged: 1", "not compared, as another file was graded: ann (u)",
        "only in the old results: eve (u)", "only in the new results: zoe (u)"]


def test_a_students_text_does_not_act_on_the_terminal(tmp_path: Path, run: Callable) -> None:
    from autograder.report.writer import write_views
    hostile = check(passed=False, diagnosis="\x1b[31m\x07red")
    write_views(report("ann", check()), tmp_path / "old")
    write_views(report("ann", hostile), tmp_path / "new")
    code, out, _ = run("compare", tmp_path / "old", tmp_path / "new")
    assert code == 0 and "red" in out and "\x1b" not in out and "\x07" not in out


def test_the_page_escapes_what_students_and_others_write() -> None:
    evil = "<script>alert(1)</script>"
    one = report(evil, check(diagnosis="b", passed=False))
    other = report(evil, check(diagnosis=evil, passed=False), status="pending")
    found = compare([one, report("gone")], [other, report(evil + "2")])
    page = render_compare_page(found, evil, "new", DECISIVE)
    assert "<script" not in page and page.count("&lt;script&gt;") >= 4
    assert "The same score, said otherwise" in page and "Only before" in page and "Only after" in page
