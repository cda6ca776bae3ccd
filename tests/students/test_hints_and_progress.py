"""Hints come one at a time; what is done is kept in a small file, and no accident with it hurts."""
from __future__ import annotations

import json

import pytest

from etude.students import record
from etude.students.findings import Failure, Finding, Property
from etude.students.hints import next_hint
from etude.students.released import NothingReleased, Release, releases_in

HELD, FAILED = Property("a", "A."), Property("b", "B.", Failure("no"))
UNITS = {"first": {"title": "First unit", "notebook": "n", "exercises": 2},
         "second": {"title": "Second unit", "notebook": "m", "exercises": 3},
         "third": {"title": "Third unit", "notebook": "o", "exercises": 4}}


@pytest.fixture
def course(tmp_path):
    """Two units side by side, a third that the student does not have."""
    for unit, name in (("first", "n"), ("second", "m")):
        folder = tmp_path / unit
        folder.mkdir()
        exercises = {f"{name}1": {"title": "One *bold*", "hints": ["Look at `x < y`.", "Then *think*."]},
                     f"{name}2": {"title": "Two", "hints": []}}
        facts = {"unit": unit, "title": UNITS[unit]["title"], "exercises": exercises, "units": UNITS}
        (folder / f"{name}_etude.json").write_text(json.dumps(facts))
        (folder / f"{name}_checks.py").write_text("")
    return tmp_path


def overview(course, unit="first"):
    return record.overview(course / unit, releases_in(course / unit))


def test_hints_come_one_more_each_time_and_the_count_survives_the_kernel(course):
    folder, releases = course / "first", releases_in(course / "first")
    first, second, third = (next_hint(folder, releases, "n1") for _ in range(3))
    assert "hint 1 of 2" in repr(first) and "think" not in repr(first) and "once more" in repr(first)
    assert "hint 2 of 2" in repr(second) and "Look at" in repr(second) and "think" in repr(second)
    assert repr(third) == repr(second) and "last one" in repr(third)
    html = second._repr_html_()
    assert "<code>x &lt; y</code>" in html and "<em>think</em>" in html


def test_without_hints_and_for_no_exercise_that_is_said(course):
    folder, releases = course / "first", releases_in(course / "first")
    assert "no hints for Two" in repr(next_hint(folder, releases, "n2"))
    assert "No exercise is called x; this notebook has n1, n2." in repr(next_hint(folder, releases, "x"))


def test_progress_shows_the_unit_and_the_course(course):
    record.record_findings(course / "first", [Finding("n1", "One", [HELD]), Finding("n2", "Two", [HELD, FAILED])])
    record.record_findings(course / "second", [Finding("m1", "One", [HELD])])
    said = repr(overview(course))
    assert "First unit: 1 of 2 exercises hold" in said and "1 of 2 properties hold" in said
    assert "Second unit: 1 of 3 exercises" in said and "Third unit: 4 exercises, not here" in said
    for form in (overview(course)._repr_html_(), overview(course)._repr_markdown_()):
        assert "Second unit" in form and "not here" in form


def test_before_the_first_check_nothing_is_done(course):
    assert "not checked yet" in repr(overview(course)) and "0 of 2" in repr(overview(course))


def test_a_later_failure_replaces_an_earlier_success_and_hints_stay(course):
    folder = course / "first"
    record.record_hint(folder, "n1", 2)
    record.record_findings(folder, [Finding("n1", "One", [HELD])])
    record.record_findings(folder, [Finding("n1", "One", [FAILED])])
    assert record.read(folder)["n1"] | {"when": ""} == {"hints": 2, "held": 0, "of": 1, "when": "", "not_run": False}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"exercises": []}', '{"exercises": {"n1": 3}}',
                                     '{"exercises": {"n1": {"held": "x", "of": 0, "hints": "y"}}}'])
def test_a_damaged_file_is_begun_anew(content, course):
    (course / "first" / record.FILE).write_text(content)
    assert "First unit" in repr(overview(course))
    next_hint(course / "first", releases_in(course / "first"), "n1")
    record.record_findings(course / "first", [Finding("n1", "One", [HELD])])
    assert record.read(course / "first")["n1"]["held"] == 1


def test_a_folder_that_cannot_be_written_costs_the_record_alone(course, tmp_path):
    record.record_findings(tmp_path / "gone", [Finding("n1", "One", [HELD])])
    assert record.read(tmp_path / "gone") == {}


def test_a_folder_without_checks_is_told(tmp_path):
    with pytest.raises(NothingReleased, match="keep the files that came with the notebook next to it"):
        releases_in(tmp_path)


def test_of_several_notebooks_the_open_one_is_meant(course):
    (course / "first" / "z_checks.py").write_text("")
    assert [one.name for one in releases_in(course / "first")] == ["n", "z"]
    assert [one.name for one in releases_in(course / "first", course / "first" / "z.ipynb")] == ["z"]
    assert [one.name for one in releases_in(course / "first", course / "first" / "copy.ipynb")] == ["n", "z"]


def test_a_release_without_facts_says_less(tmp_path):
    release = Release(tmp_path, "n")
    assert release.title("n1") == "n1" and release.hints("n1") == [] and release.limit("call_seconds", 5) == 5
