"""`autograder grade --out DIR` run again: what still holds is kept, what does not is graded, and both are said."""
from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_course import handed_in, notebook_of, tiny_course

from autograder.commands import grade as command
from autograder.course import Course, load_course
from autograder.errors import AutograderError, Interrupted, UsageError
from autograder.grading import grade as grading
from autograder.report.model import Report

HALF = {"scale": "def scale(x, factor):\n    return x + factor"}
STUDENTS = ("ann", "bob", "cyd")
Run = Callable[..., list[str]]


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    course = tiny_course(tmp_path)
    for student in STUDENTS:
        hand_in(tmp_path, student, **HALF if student == "bob" else {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETUDE_SEED", raising=False)
    return course


@pytest.fixture
def run(course: Course, warm: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run()`: grade the class into `out`; the students whose submissions were graded."""
    def grade(formats: tuple[str, ...] = ("junit",), unsandboxed: bool = False, fresh: bool = False) -> list[str]:
        graded: list[str] = []

        def noting(given: Course, submissions: Any, done: Any, options: Any) -> list[str]:
            graded.extend(submission.student for submission in submissions)
            return grading.grade(given, submissions, done, options)
        monkeypatch.setattr(command, "grade", noting)
        code = command.run_grade(load_course(Path("course.yml")), [Path("class")], unit=None, student=None,
                                 out=Path("out"), formats=formats, jobs=1, fail_under=None, unsandboxed=unsandboxed,
                                 fresh=fresh)
        assert code == 0
        return graded
    return grade


def hand_in(folder: Path, student: str, **cells: str) -> None:
    path = folder / "class" / student / "tiny" / "tiny.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(notebook_of(handed_in(student, **cells)))


def report_of(student: str) -> Path:
    return Path("out") / student / "tiny.json"


def test_what_has_not_changed_is_graded_once(run: Run, capsys: pytest.CaptureFixture) -> None:
    assert run() == list(STUDENTS)
    assert capsys.readouterr().out == "reports: out/<student>/<unit>.json\n"
    before = [report_of(student).stat().st_ino for student in STUDENTS]
    assert run() == []
    said = capsys.readouterr().out
    assert said.startswith("kept: 3 of 3 reports") and "--fresh" in said and "reports: out/" in said
    assert [report_of(student).stat().st_ino for student in STUDENTS] == before
    assert run(fresh=True) == list(STUDENTS)
    assert "kept" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["text", "json"])
def test_what_is_in_the_store_is_not_in_memory_as_well(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    runs: list[command._Run] = []

    class _Watched(command._Run):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            runs.append(self)

    whole: list[list[Report]] = []
    monkeypatch.setattr(command, "_Run", _Watched)
    monkeypatch.setattr(command, "_finish", lambda reports, *others: whole.append(list(reports)))
    run(formats=(name,), fresh=True)
    kept = runs[0].reports
    assert [(one.student, one.exercises) for one in kept] == [(name, []) for name in STUDENTS]
    assert [(one.student, one.score) for one in whole[0]] == [(one.student, one.score) for one in kept]
    assert all(one.exercises for one in whole[0])


def _change(what: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def replace(path: str, old: str, new: str) -> None:
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new, 1))

    def other_report(**fields: Any) -> None:
        report = json.loads(report_of("bob").read_text())
        for name, value in fields.items():
            (report["provenance"] if name == "versions" else report)[name] = value
        report_of("bob").write_text(json.dumps(report))
    return {
        "the submission": lambda folder, patch: hand_in(folder, "bob"),
        "the checks": lambda folder, patch: replace("solutions/tiny/tiny_checks.py", "Values and", "All values and"),
        "the seed": lambda folder, patch: patch.setenv("ETUDE_SEED", "another"),
        "a torn report": lambda folder, patch: report_of("bob").write_text(report_of("bob").read_text()[:300]),
        "no report": lambda folder, patch: report_of("bob").unlink(),
        "another's report": lambda folder, patch: other_report(student="ann"),
        "another version of a library": lambda folder, patch: other_report(versions={"torch": "1.0"}),
        "a sandbox that did not hold": lambda folder, patch: other_report(sandbox="ADVISORY"),
    }[what]


@pytest.mark.parametrize(("what", "graded"), [
    ("the submission", ["bob"]), ("a torn report", ["bob"]), ("no report", ["bob"]), ("another's report", ["bob"]),
    ("another version of a library", ["bob"]), ("a sandbox that did not hold", ["bob"]),
    ("the checks", [*STUDENTS]), ("the seed", [*STUDENTS]),
])
def test_what_no_longer_holds_is_graded_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str,
                                              graded: list[str]) -> None:
    run()
    _change(what)(tmp_path, monkeypatch)
    assert run() == graded
    assert Report.from_json(report_of("bob").read_bytes()).score == (6 if what == "the submission" else 2)
    assert run() == []


def test_where_a_sandbox_that_does_not_hold_is_accepted_its_reports_are_kept(run: Run, tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    _change("a sandbox that did not hold")(tmp_path, monkeypatch)
    assert run(unsandboxed=True) == []


def test_views_never_tell_of_another_grade_than_the_report(run: Run, tmp_path: Path) -> None:
    run(formats=("text",))
    page = Path("out/bob/tiny.txt")
    assert "2 / 6" in page.read_text()
    assert run(formats=("junit",)) == [] and Path("out/bob/tiny.xml").exists()  # of a report that was kept
    hand_in(tmp_path, "bob")
    assert run(formats=("junit",)) == ["bob"]
    assert "6 / 6" in page.read_text()  # though it was not asked for this time


def test_two_runs_do_not_write_to_one_folder(run: Run) -> None:
    Path("out").mkdir()
    descriptor = os.open("out", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="^out: another `autograder grade` is writing here"):
        run()
    os.close(descriptor)
    assert run() == list(STUDENTS)


def test_the_beginnings_of_files_whose_writer_was_killed_are_taken_away(run: Run) -> None:
    (Path("out") / "ann").mkdir(parents=True)
    left = [Path("out/ann/.tiny.json.0123456789ab.etude-tmp"), Path("out/.index.html.0123456789ab.etude-tmp")]
    other = Path("out/ann/.hidden")
    for path in (*left, other):
        path.write_text("{")
    run()
    assert not any(path.exists() for path in left) and other.exists()


@pytest.mark.parametrize(("stop", "kind", "says"), [
    (KeyboardInterrupt(), Interrupted, "interrupted: 1 of 3 are graded and kept in out; the same command goes on"),
    (OSError(28, "No space left on device"), AutograderError, "No space left on device; 1 of 3 are graded and kept"),
])
def test_what_stops_a_run_says_what_is_kept_and_the_next_goes_on(
        run: Run, monkeypatch: pytest.MonkeyPatch, stop: BaseException, kind: type[AutograderError],
        says: str) -> None:
    writes, written = command.write_views, []

    def write(*arguments: Any, **options: Any) -> None:
        if written:
            raise stop
        written.append(writes(*arguments, **options))
    monkeypatch.setattr(command, "write_views", write)
    with pytest.raises(kind, match=says) as stopped:
        run()
    assert stopped.value.exit_code == (130 if kind is Interrupted else 3)
    monkeypatch.setattr(command, "write_views", writes)
    assert run() == ["bob", "cyd"]


# ---------------------------------------------------------------------------------------------- faults around one

class Disturbed:
    """The session's zygote, whose workers are killed from outside before a call, as often as is said."""

    def __init__(self, zygote: Any, times: int, error: BaseException | None = None):
        self._zygote, self._times, self._error = zygote, times, error
        self.label = zygote.label

    def spawn(self, limits: Any) -> Any:
        worker = self._zygote.spawn(limits)
        if self._times:
            self._times -= 1
            if self._error:
                worker.close()
                raise self._error
            os.kill(worker.pid, 9)
        return worker


@pytest.fixture
def disturbed(course: Course, zygote: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`disturbed(times, ...)`: (reports by student, lines about failures) of a class graded under disturbances."""
    from contextlib import nullcontext

    def grade(times: int, error: BaseException | None = None) -> tuple[dict[str, Report], list[str]]:
        troubled, reports = Disturbed(zygote, times, error), []
        monkeypatch.setattr(grading, "open_zygote", lambda course, options, kernels: nullcontext(troubled))
        failed = grading.grade(course, [handed_in("ann"), handed_in("bob", **HALF)], reports.append)
        return {report.student: report for report in reports}, failed
    return grade


def test_a_worker_killed_from_outside_costs_no_points(disturbed: Callable) -> None:
    quiet, _ = disturbed(0)
    for times in (1, 2):
        reports, failed = disturbed(times)
        assert failed == []
        assert [report.exercises for report in reports.values()] == [report.exercises for report in quiet.values()]


def test_one_whose_workers_are_killed_every_time_has_done_it_itself(disturbed: Callable) -> None:
    """The negative control: so it would be at the first time, if nobody tried again."""
    reports, _ = disturbed(3 * 2)  # three tries, two exercises
    assert reports["ann"].score < 6 and reports["bob"].score == 2
    assert "killed from outside" in reports["ann"].exercises[0].checks[0].message


def test_a_sandbox_that_is_lost_is_replaced(disturbed: Callable) -> None:
    from autograder.errors import SandboxLost
    reports, failed = disturbed(2, SandboxLost("the sandbox's first process has ended"))
    assert failed == [] and [report.score for report in reports.values()] == [6, 2]
    with pytest.raises(SandboxLost):
        disturbed(3, SandboxLost("the sandbox's first process has ended"))


def test_what_the_grader_fails_on_is_said_and_the_others_are_graded(disturbed: Callable,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    report = grading.GradedSubmission.report

    def fails_for_ann(self: Any, *arguments: Any) -> Report:
        if self.submission.student == "ann":
            raise KeyError("odd")
        return report(self, *arguments)
    monkeypatch.setattr(grading.GradedSubmission, "report", fails_for_ann)
    reports, failed = disturbed(0)
    assert list(reports) == ["bob"] and len(failed) == 1
    assert failed[0].startswith("ann/tiny/tiny.ipynb: not graded, as the grader itself failed: KeyError: 'odd' (test_")
