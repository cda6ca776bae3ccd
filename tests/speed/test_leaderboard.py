"""`autograder leaderboard`: only those who asked for it, and not under their names."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.commands import leaderboard as command
from autograder.course import Course
from autograder.errors import UsageError
from autograder.files import write_atomically
from autograder.report.model import CheckResult, ExerciseResult, Report, SpeedFigures
from autograder.report.store import report_path
from autograder.speed.leaderboard import pseudonyms
from tests.speed.speed_course import COURSE, SPEED, speed_course

KEY = "a key that is long enough"
STUDENTS = ("ada", "ben", "cleo", "dan")


def report(student: str, ratio: float | None, pending: bool = False, device: str = "NVIDIA H200") -> Report:
    figures = SpeedFigures(workload="8192 x 4096", device=device, verdict="pass" if ratio else "fail")
    if ratio:
        figures = SpeedFigures(workload="8192 x 4096", device=device, verdict="pass", seconds=ratio * 1e-3,
                               reference_seconds=1e-3, ratio=ratio, low=0.99 * ratio, high=1.01 * ratio, fraction=0.8)
    check = CheckResult(name="test_speed", title="Fast", points=3, score=0, passed=False, public=False, speed=True,
                        pending=pending, figures=[figures])
    exercise = ExerciseResult(id="softmax_into", title="Softmax", score=0, max_score=3, checks=[check],
                              status="pending" if pending else "graded")
    return Report(student=student, unit="kernels", sandbox="ENFORCED", score=0, max_score=3, exercises=[exercise])


@pytest.fixture
def course(tmp_path, monkeypatch) -> Course:
    monkeypatch.setenv(command.KEY_VARIABLE, KEY)
    for student, ratio in zip(STUDENTS, (2.0, 0.9, 1.5, 0.5), strict=True):
        write_atomically(report_path(tmp_path / "results", student, "kernels"), report(student, ratio).to_json())
    (tmp_path / "board.csv").write_text("student\nada\nben\ncleo\n")
    return course_with(tmp_path, "policy: {leaderboard: board.csv}\n")


def course_with(folder, policy: str) -> Course:
    from autograder.course import load_course
    speed_course(folder)
    (folder / "course.yml").write_text(COURSE.replace("{SPEED}", SPEED) + policy)
    return load_course(folder / "course.yml")


def test_participants_by_speed_and_nobodys_name(course, tmp_path, capsys):
    assert command.run_leaderboard(course, tmp_path / "results", None, tmp_path / "board.svg") == 0
    said = capsys.readouterr().out
    names = pseudonyms(("ada", "ben", "cleo"), KEY.encode())
    places = [said.index(names[student]) for student in ("ben", "cleo", "ada")]
    assert places == sorted(places)
    picture = (tmp_path / "board.svg").read_text()
    for student in STUDENTS:
        assert f" {student} " not in said and f">{student}<" not in picture
    assert pseudonyms(["dan"], KEY.encode())["dan"] not in said and "0.50 x" not in said  # dan has not asked for it


def test_what_is_pending_or_wrong_is_on_no_board(course, tmp_path, capsys):
    for student, change in (("ada", {"ratio": 0.1, "pending": True}), ("ben", {"ratio": None})):
        write_atomically(report_path(tmp_path / "results", student, "kernels"), report(student, **change).to_json())
    command.run_leaderboard(course, tmp_path / "results", "kernels", None)
    said = capsys.readouterr().out
    names = pseudonyms(("ada", "ben", "cleo"), KEY.encode())
    assert names["cleo"] in said and names["ada"] not in said and names["ben"] not in said


def test_devices_are_not_compared(course, tmp_path, capsys):
    write_atomically(report_path(tmp_path / "results", "ada", "kernels"), report("ada", 0.2, device="cpu").to_json())
    command.run_leaderboard(course, tmp_path / "results", None, None)
    said = capsys.readouterr().out
    assert said.count("softmax_into, 8192 x 4096, ") == 2 and said.count("   1  ") == 2


def test_pseudonyms_stay_with_the_key_and_differ_with_another():
    ours, other = (pseudonyms(STUDENTS, key) for key in (KEY.encode(), b"another key, long enough"))
    assert ours == pseudonyms(reversed(STUDENTS), KEY.encode())
    assert not set(ours.values()) & set(other.values())


@given(st.sets(st.text(min_size=1, max_size=8), max_size=60))
def test_no_two_students_share_a_pseudonym(students):
    names = pseudonyms(students, KEY.encode())
    assert set(names) == students and len(set(names.values())) == len(students)


def test_two_who_would_share_a_name_get_longer_numbers(monkeypatch):
    from autograder.speed import leaderboard
    name_of = leaderboard.name_of
    monkeypatch.setattr(leaderboard, "name_of",
                        lambda digest, digits: name_of(digest, digits) if digits > 4 else "same-1")
    names = pseudonyms(("ada", "ben"), KEY.encode())
    assert len(set(names.values())) == 2 and all(len(one.rpartition("-")[2]) == 6 for one in names.values())


@pytest.mark.parametrize(("key", "policy", "people", "said"), [
    ("", "policy: {leaderboard: board.csv}\n", "student\nada\n", "ETUDE_LEADERBOARD_KEY is not set"),
    ("short", "policy: {leaderboard: board.csv}\n", "student\nada\n", "at least 16"),
    (KEY, "", "student\nada\n", "course.yml has no policy.leaderboard"),
    (KEY, "policy: {leaderboard: other.csv}\n", "student\nada\n", "other.csv: cannot be read"),
    (KEY, "policy: {leaderboard: board.csv}\n", "student\nada\nada\n", "ada is listed twice"),
])
def test_what_is_missing_is_said_in_one_line(course, tmp_path, monkeypatch, key, policy, people, said):
    monkeypatch.setenv(command.KEY_VARIABLE, key)
    (tmp_path / "board.csv").write_text(people)
    with pytest.raises(UsageError, match=said):
        command.run_leaderboard(course_with(tmp_path, policy), tmp_path / "results", None, None)
