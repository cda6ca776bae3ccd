"""Marks: late days to the second, extensions, attempts, and nothing guessed where something is unknown."""
from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autograder import cli
from autograder.course import Course, parse_course
from autograder.errors import UsageError
from autograder.moments import moment
from autograder.report.model import Report
from autograder.report.writer import write_views

HEAD = """\
schema: 1
title: A course
units:
  one:
    title: One
    notebook: one
    exercises:
      e: {title: E, points: 10, minutes: 1, difficulty: 1}
  two:
    title: Two
    notebook: two
    exercises:
      f: {title: F, points: 10, minutes: 1, difficulty: 1}
"""
POLICY = """\
policy:
  deadlines: {one: "2026-12-01T12:00:00+01:00"}
  late: {per_day: 0.1, grace_hours: 2, most: 0.5}
  attempts: best
  extensions: extensions.csv
"""


class Ended(dict):
    """The rows of marks.csv by student and unit, with the exit code and what was said."""

    code: int
    out: str
    err: str


@pytest.fixture
def marked(tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """`marked({"results": {"ann": 8}}, "ann,one,2026-...")`: what the command makes of scores and times."""
    monkeypatch.chdir(tmp_path)

    def command(scores: dict[str, dict[str, float]], *times: str, policy: str = POLICY, extensions: tuple = (),
                heading: str = "student,unit,submitted", unit: str = "one", submitted: str = "times.csv",
                **of_report: object) -> Ended:
        Path("course.yml").write_text(HEAD + policy)
        Path("extensions.csv").write_text("\n".join(["student,unit,until", *extensions]) + "\n")
        Path("times.csv").write_text("\n".join([heading, *times]) + "\n")
        for results, students in scores.items():
            for student, score in students.items():
                report = {"sandbox": "ENFORCED", "exercises": []} | of_report
                write_views(Report(student=student, unit=unit, score=score, max_score=10, **report), Path(results))
        given = ["--submitted", submitted] if times or submitted != "times.csv" else []
        argv = ["autograder", "marks", *scores, "--to", "marks.csv", *given]
        monkeypatch.setattr(sys, "argv", argv)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        found = Ended()
        found.code, (found.out, found.err) = ended.value.code or 0, capfd.readouterr()
        if found.code < 2:
            with open("marks.csv", newline="") as file:
                found.update({row["student"]: row for row in csv.DictReader(file)})
        return found
    return command


@pytest.mark.parametrize(("submitted", "days", "mark", "why"), [
    ("2026-12-01T12:00:00+01:00", "0", "8", "in time for the deadline"),
    ("2026-12-01T11:00:00Z", "0", "8", "in time for the deadline"),
    ("2026-12-01T12:00:00Z", "0", "8", "after the deadline, within the grace"),
    ("2026-12-01T14:00:00+01:00", "0", "8", "after the deadline, within the grace"),
    ("2026-12-01T14:00:01+01:00", "1", "7.2", "1 day after the deadline: 10 % lost"),
    ("2026-12-02T12:00:00+01:00", "1", "7.2", "1 day after the deadline: 10 % lost"),
    ("2026-12-02T12:00:00.5+01:00", "2", "6.4", "2 days after the deadline: 20 % lost"),
    ("2026-12-04T00:00:00+01:00", "3", "5.6", "3 days after the deadline: 30 % lost"),
    ("2027-01-31T12:00:00+01:00", "61", "4", "61 days after the deadline: 50 % lost"),
])
def test_days_are_counted_from_the_deadline(marked: Callable, submitted: str, days: str, mark: str, why: str) -> None:
    found = marked({"results": {"ann": 8}}, f"ann,one,{submitted}")
    row = found["ann"]
    assert found.code == 0 and (row["days_late"], row["mark"], row["raw"], row["max"]) == (days, mark, "8", "10")
    assert row["why"] == f"8 of 10 points; {why}"


def test_marks_are_rounded_once_and_exactly(marked: Callable) -> None:
    found = marked({"results": {"ann": 3.35, "bob": 2.675}}, "ann,one,2026-12-04T00:00:00+01:00",
                   "bob,one,2026-12-01T00:00:00Z")
    assert found["ann"]["penalty"] == "0.3" and found["ann"]["mark"] == "2.35"  # 2.345, and not 2.34499...
    assert found["bob"]["mark"] == "2.68"


def test_without_a_rule_for_late_ones_nothing_is_lost(marked: Callable) -> None:
    policy = 'policy:\n  deadlines: {one: "2026-12-01T12:00:00+01:00"}\n'
    row = marked({"results": {"ann": 8}}, "ann,one,2026-12-03T12:00:00Z", policy=policy)["ann"]
    assert row["mark"] == "8" and row["why"].endswith("3 days after the deadline: nothing lost")


def test_a_unit_without_a_deadline_needs_no_time(marked: Callable) -> None:
    found = marked({"results": {"ann": 8}}, unit="two")
    assert found.code == 0 and found["ann"]["mark"] == "8" and found["ann"]["why"] == "8 of 10 points"


def test_an_extension_moves_one_students_deadline(marked: Callable) -> None:
    late = "2026-12-05T12:00:00+01:00"
    names = ("ann", "bob", "cem")
    found = marked({"results": dict.fromkeys(names, 8)}, *(f"{name},one,{late}" for name in names),
                   extensions=(f"ann,one,{late}", "cem,one,2026-12-04T12:00:00+01:00"))
    assert [found[name]["mark"] for name in names] == ["8", "4.8", "7.2"]
    assert found["ann"]["why"].endswith("in time for the extension") and found["ann"]["deadline"] == late
    assert found["cem"]["why"].endswith("1 day after the extension: 10 % lost")
    assert found.out == "marks.csv: 3 marks, 2 with a penalty\n"


def test_an_extension_to_the_deadline_itself_is_one(marked: Callable) -> None:
    found = marked({"results": {"ann": 8}}, "ann,one,2026-12-01T10:00:00Z",
                   extensions=("ann,one,2026-12-01T11:00:00Z",))
    assert found.code == 0 and found["ann"]["why"].endswith("in time for the extension")


TWO = ("ann,one,2026-12-01T10:00:00+01:00,first", "ann,one,2026-12-03T12:00:00+01:00,second")
WITH_RESULTS = "student,unit,submitted,results"


@pytest.mark.parametrize(("rule", "second", "mark", "attempt"), [
    ("best", 10, "8", "second"), ("best", 8, "7", "first"), ("latest", 8, "6.4", "second"),
])
def test_the_best_or_the_latest_attempt_counts(marked: Callable, rule: str, second: float, mark: str,
                                               attempt: str) -> None:
    policy = POLICY.replace("attempts: best", f"attempts: {rule}")
    for order in (("first", "second"), ("second", "first")):
        scores = {"first": {"ann": 7}, "second": {"ann": second}}
        found = marked({name: scores[name] for name in order}, *TWO, heading=WITH_RESULTS, policy=policy)
        assert (found["ann"]["mark"], found["ann"]["attempt"]) == (mark, attempt)
        assert f"{rule} of 2 attempts" in found["ann"]["why"]


def test_what_is_unknown_is_not_guessed(marked: Callable) -> None:
    found = marked({"results": {"ann": 8, "bob": 8}}, "ann,one,2026-12-01T10:00:00+01:00",
                   "zoe,one,2026-12-01T10:00:00+01:00", extensions=("eve,one,2027-01-01T00:00:00Z",))
    assert found.code == 1 and found["ann"]["mark"] == "8"
    assert found["bob"]["mark"] == "" and found["bob"]["why"] == "no mark: no time of submission for results"
    assert found.err.splitlines() == [
        "autograder: eve, one: an extension, but no report", "autograder: zoe, one, results: handed in, but no report",
        "autograder: bob, one: no mark: no time of submission for results"]
    tie = marked({"first": {"ann": 7}, "second": {"ann": 8}}, TWO[0], TWO[0].replace("first", "second"),
                 heading=WITH_RESULTS, policy=POLICY.replace("best", "latest"))
    assert tie.code == 1 and "at the same time" in tie["ann"]["why"]


def test_what_is_odd_about_a_report_is_said(marked: Callable) -> None:
    exercise = {"id": "e", "title": "E", "score": 8, "max_score": 10, "status": "pending"}
    why = marked({"results": {"ann": 8}}, unit="two", sandbox="ADVISORY", exercises=[exercise])["ann"]["why"]
    assert why == "8 of 10 points; an exercise is pending or was not graded; graded without an enforced sandbox"


GOOD_TIME = "2026-12-01T10:00:00+01:00"
REFUSED = {
    "a naive time": (["ann,one,2026-12-01T10:00:00"], {},
                     "times.csv:2: submitted: '2026-12-01T10:00:00': has no offset"),
    "a naive time with a space": (["ann,one,2026-12-01 10:00"], {}, "has no offset from UTC"),
    "no time": (["ann,one,yesterday"], {}, "times.csv:2: submitted: 'yesterday': expected a time as 2026-12-01T"),
    "no such day": (["ann,one,2026-02-30T10:00:00Z"], {}, "times.csv:2: submitted: "),
    "a row given twice": ([f"ann,one,{GOOD_TIME}"] * 2, {}, "times.csv:3: ann, one, results: given twice"),
    "an empty cell": ([f",one,{GOOD_TIME}"], {}, "times.csv:2: student is empty"),
    "too many cells": ([f"ann,one,{GOOD_TIME},x"], {}, "times.csv:2: expected 3 cells, got 4"),
    "another column": ([f"ann,one,{GOOD_TIME}"], {"heading": "student,unit,when"}, "times.csv:1: expected the columns"),
    "other results": ([f"ann,one,{GOOD_TIME},resluts"], {"heading": WITH_RESULTS}, "'resluts' is none of results"),
    "an early extension": ([f"ann,one,{GOOD_TIME}"], {"extensions": ("ann,one,2026-12-01T10:59:59Z",)},
                           "extensions.csv:2: until 2026-12-01T10:59:59Z is before the deadline"),
    "a naive extension": ([f"ann,one,{GOOD_TIME}"], {"extensions": ("ann,one,2026-12-09T10:59:59",)}, "has no offset"),
    "an extension of nothing": ([f"ann,one,{GOOD_TIME}"], {"extensions": (f"ann,two,{GOOD_TIME}",)},
                                "extensions.csv:2: unit 'two' has no deadline to extend"),
    "an extension given twice": ([f"ann,one,{GOOD_TIME}"], {"extensions": ("ann,one,2027-01-01T00:00:00Z",) * 2},
                                 "extensions.csv:3: ann, one: given twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_table_is_refused_with_its_line(marked: Callable, case: str) -> None:
    times, options, message = REFUSED[case]
    found = marked({"results": {"ann": 8}}, *times, **options)
    assert found.code == 2 and message in found.err and len(found.err.splitlines()) == 1
    assert not Path("marks.csv").exists()


def test_several_results_need_their_column_and_to_be_different(marked: Callable) -> None:
    found = marked({"first": {"ann": 7}, "second": {"ann": 8}}, f"ann,one,{GOOD_TIME}")
    assert found.code == 2 and "times.csv:2: results is empty: which of first, second is it?" in found.err


def test_the_times_may_be_those_of_nbgrader(marked: Callable, tmp_path: Path) -> None:
    for student, text in {"ann": "2026-12-01 11:00:00.000000 UTC\n", "bob": "2026-12-01 16:30:00.123456 UTC"}.items():
        (tmp_path / "submitted" / student / "one").mkdir(parents=True)
        (tmp_path / "submitted" / student / "one/timestamp.txt").write_text(text)
    found = marked({"results": {"ann": 8, "bob": 8}}, submitted="submitted")
    assert found.code == 0 and (found["ann"]["days_late"], found["bob"]["days_late"]) == ("0", "1")
    assert marked({"first": {"ann": 7}, "second": {"ann": 8}}, submitted="submitted").code == 2
    (tmp_path / "submitted/bob/one/timestamp.txt").write_text("2026-12-01 16:30:00")
    found = marked({"results": {"ann": 8}}, submitted="submitted")
    assert found.code == 2 and "bob/one/timestamp.txt: '2026-12-01 16:30:00': " in found.err
    (tmp_path / "empty").mkdir()
    assert marked({"results": {"ann": 8}}, submitted="empty").code == 2


# ---------------------------------------------------------------------------------------------- course.yml

def course_with(policy: str) -> Course:
    return parse_course((HEAD + policy).encode(), "course.yml", Path())


def test_the_policy_is_read_and_may_be_missing() -> None:
    policy = course_with(POLICY).policy
    assert policy.deadline("one") == moment("2026-12-01T11:00:00Z") and policy.deadline("two") is None
    assert (policy.late.per_day, policy.late.grace_hours, policy.late.most) == (0.1, 2, 0.5)
    assert course_with("").policy.late is None and course_with("").policy.attempts == "best"


@pytest.mark.parametrize(("before", "after", "message"), [
    ('"2026-12-01T12:00:00+01:00"', '"2026-12-01T12:00:00"',
     "15: policy.deadlines.one: expected a time with its offset"),
    ('"2026-12-01T12:00:00+01:00"', "2026-12-01T12:00:00+01:00", "got a datetime (put it in quotes)"),
    ("{one:", "{oen:", "15: policy.deadlines.oen: the course has no unit 'oen'; did you mean 'one'?"),
    ("per_day: 0.1", "per_day: 10", "16: policy.late.per_day: expected a share, above 0 and at most 1, got 10"),
    ("per_day: 0.1, ", "", "16: policy.late.per_day: missing"),
    ("grace_hours: 2", "grace_hours: -1", "16: policy.late.grace_hours: expected a number of hours, 0 or more, got -1"),
    ("grace_hours", "grace_hour", "16: policy.late.grace_hour: unknown key; did you mean 'grace_hours'?"),
    ("most: 0.5", "most: 0", "16: policy.late.most: expected a share"),
    ("attempts: best", "attempts: first", "17: policy.attempts: expected best or latest, got 'first'"),
    ("extensions: ex", "extensions: ../ex", "18: policy.extensions: expected the name of a file beside course.yml"),
    ("attempts:", "attemps:", "17: policy.attemps: unknown key; did you mean 'attempts'?"),
])
def test_a_mistake_in_the_policy_is_told_with_its_line(before: str, after: str, message: str) -> None:
    assert before in POLICY
    with pytest.raises(UsageError) as caught:
        course_with(POLICY.replace(before, after))
    assert message in str(caught.value) and str(caught.value).startswith("course.yml:")


def test_the_schema_for_editors_has_the_policy() -> None:
    definitions = Course.json_schema()["$defs"]
    assert definitions["Policy"]["properties"]["deadlines"]["additionalProperties"]["format"] == "date-time"
    assert definitions["Late"]["required"] == ["per_day"] and definitions["Late"]["additionalProperties"] is False
