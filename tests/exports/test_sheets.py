"""`autograder export canvas | moodle`: what is written where, what is left alone, and what is refused."""
from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autograder.cli import app
from autograder.course import Course, Unit, load_course
from autograder.errors import UsageError
from autograder.exports.sheets import CANVAS, MOODLE, Filled, Lms, fill
from autograder.report.model import Report
from autograder.report.writer import write_views

CANVAS_SHEET = '''\
Student,ID,SIS User ID,SIS Login ID,Section,Tiny functions (4711),Essay (4712),Final Score
,,,,,Manual Posting,,
    Points Possible,,,,,6,10,(read only)
"Doe, Jane",101,S-1,jdoe,A,,7,70
"Roe, ""Rick""",102,S-2,rroe,A,2.50,,
"Poe, Pat",103,S-3,ppoe,B,EX,8,80
"Test, Student",104,,f00d,B,,,
'''
MOODLE_SHEET = (
    "\ufeffFirst name;Last name;ID number;Email address;Assignment: Tiny functions (Real);"
    "Assignment: Tiny functions (Percentage);Course total (Real)\r\n"
    "Jane;Doe;S-1;jane@example.org;-;-;-\r\n"
    "Rick;Roe;;rick@example.org;2,50;41,67 %;2,50\r\n"
    "Jane;Doe;S-3;other.jane@example.org;;;\r\n").encode()


def graded(**scores: float) -> list[Report]:
    return [Report(student=student.replace("_at_", "@").replace("_dot_", ".").replace("_", "-"), unit="tiny",
                   sandbox="ENFORCED", score=score, max_score=6.0, exercises=[]) for student, score in scores.items()]


def cells(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""), delimiter=delimiter))


def changed(before: str, after: str, delimiter: str = ",") -> dict[tuple[int, int], str]:
    """The cells that differ, by line and column counted from 0; nothing may be added or moved."""
    old, new = cells(before, delimiter), cells(after, delimiter)
    assert [len(row) for row in old] == [len(row) for row in new]
    return {(i, j): new[i][j] for i, row in enumerate(old) for j, cell in enumerate(row) if new[i][j] != cell}


@pytest.fixture
def unit(course: Course) -> Unit:
    return course.units["tiny"]


def canvas(unit: Unit, sheet: str = CANVAS_SHEET, reports: list[Report] | None = None, **options: object) -> Filled:
    return fill(CANVAS, sheet.encode(), "sheet.csv", unit, reports or graded(jdoe=6), **options)


# ---------------------------------------------------------------------------------------------- what is written

def test_only_the_scores_of_one_column_change(unit: Unit) -> None:
    filled = canvas(unit, reports=graded(JDoe=4.25, S_2=2.5))
    assert changed(CANVAS_SHEET, filled.text) == {(3, 5): "4.25"}
    assert (filled.written, filled.unchanged, filled.column) == (1, 1, "Tiny functions (4711)")
    assert filled.not_graded == ["line 6 (103, S-3, ppoe)", "line 7 (104, f00d)"]
    assert filled.complete


def test_a_sheet_of_moodle_keeps_its_form(unit: Unit) -> None:
    reports = graded(jane_at_example_dot_org=6, rick_at_example_dot_org=2.5, S_3=1 / 3)
    filled = fill(MOODLE, MOODLE_SHEET, "sheet.csv", unit, reports)
    assert changed(MOODLE_SHEET.decode(), filled.text, ";") == {(1, 4): "6", (3, 4): "0.333333"}
    assert filled.text.startswith("\ufeff") and filled.text.count("\r\n") == filled.text.count("\n") == 4
    assert (filled.unchanged, filled.column) == (1, "Assignment: Tiny functions (Real)")


def test_scores_that_differ_are_kept_unless_told_otherwise(unit: Unit) -> None:
    reports = graded(rroe=3, ppoe=6, jdoe=1)
    filled = canvas(unit, reports=reports)
    assert changed(CANVAS_SHEET, filled.text) == {(3, 5): "1"} and not filled.complete
    assert filled.kept == ["rroe: the sheet has 2.50, graded 3", "ppoe: the sheet has EX, graded 6"]
    filled = canvas(unit, reports=reports, overwrite=True)
    assert changed(CANVAS_SHEET, filled.text) == {(3, 5): "1", (4, 5): "3", (5, 5): "6"} and filled.complete
    assert filled.overwritten == ["rroe: the sheet has 2.50, graded 3", "ppoe: the sheet has EX, graded 6"]


def test_a_score_of_zero_is_a_score(unit: Unit) -> None:
    assert changed(CANVAS_SHEET, canvas(unit, reports=graded(jdoe=0)).text) == {(3, 5): "0"}
    sheet = CANVAS_SHEET.replace("2.50", "0")
    assert canvas(unit, sheet, graded(rroe=1)).kept == ["rroe: the sheet has 0, graded 1"]


# ---------------------------------------------------------------------------------------------- who is who

@pytest.mark.parametrize("name", ["Doe, Jane", "Jane Doe", "Doe", "jdo", "jdoe2", "10", "A", "zoe"])
def test_nobody_is_found_by_anything_but_an_id(unit: Unit, name: str) -> None:
    report = graded(jdoe=6)[0].model_copy(update={"student": name})
    filled = canvas(unit, reports=[report])
    assert changed(CANVAS_SHEET, filled.text) == {}
    assert filled.not_in_sheet == [name] and len(filled.not_graded) == 4 and not filled.complete


def test_an_id_of_two_students_is_nobodys(unit: Unit) -> None:
    sheet = CANVAS_SHEET.replace("S-2", "101")  # Rick's number in one system is Jane's in the other
    filled = canvas(unit, sheet, [graded(x=6)[0].model_copy(update={"student": "101"})])
    assert changed(sheet, filled.text) == {}
    assert filled.not_in_sheet == ["101: several lines have this id: 4, 5"]
    filled = canvas(unit, sheet, [graded(x=6)[0].model_copy(update={"student": "101"})], by="ID")
    assert changed(sheet, filled.text) == {(3, 5): "6"}


def test_two_submissions_for_one_line_are_left_to_a_human(unit: Unit) -> None:
    filled = canvas(unit, reports=graded(jdoe=6, S_1=3, rroe=2.5))
    assert changed(CANVAS_SHEET, filled.text) == {} and filled.unchanged == 1
    assert filled.not_in_sheet == ["jdoe: line 4 (101, S-1, jdoe) fits several: jdoe, S-1",
                                   "S-1: line 4 (101, S-1, jdoe) fits several: jdoe, S-1"]


def test_any_column_can_be_named_as_that_of_ids(unit: Unit) -> None:
    sheet = MOODLE_SHEET.replace(b"ID number", b"Matrikel").replace(b"Email address", b"E-Mail")
    with pytest.raises(UsageError, match="no column 'ID number' or 'Email address'.*--by COLUMN"):
        fill(MOODLE, sheet, "sheet.csv", unit, graded(S_1=6))
    assert fill(MOODLE, sheet, "sheet.csv", unit, graded(S_1=6), by="Matrikel").written == 1


# ---------------------------------------------------------------------------------------------- which column

@pytest.mark.parametrize("title, expected", [("Tiny functions (4711)", "Tiny functions (4711)"),
                                             ("Tiny functions", "Tiny functions (4711)"),
                                             ("Essay", "Essay (4712)")])
def test_a_column_can_be_named_with_and_without_its_number(unit: Unit, title: str, expected: str) -> None:
    sheet = CANVAS_SHEET.replace(",6,10,", ",6,6,")
    assert canvas(unit, sheet, column=title).column == expected


@pytest.mark.parametrize("lms, sheet, column", [
    (CANVAS, CANVAS_SHEET.encode(), "Final Score"), (CANVAS, CANVAS_SHEET.encode(), "Student"),
    (CANVAS, CANVAS_SHEET.encode(), "ID"), (CANVAS, CANVAS_SHEET.encode(), "Tiny"),
    (MOODLE, MOODLE_SHEET, "Email address"), (MOODLE, MOODLE_SHEET, "Last name"),
    (MOODLE, MOODLE_SHEET, "Assignment: Tiny functions (Percentage)")])
def test_a_column_that_takes_no_points_is_refused(unit: Unit, lms: Lms, sheet: bytes, column: str) -> None:
    with pytest.raises(UsageError, match="no column for points"):
        fill(lms, sheet, "sheet.csv", unit, graded(S_1=6), column=column)


def test_a_column_of_a_sheet_in_another_language_can_be_named(unit: Unit) -> None:
    sheet = MOODLE_SHEET.replace(b"Assignment: Tiny functions (Real)", b"Aufgabe: Kleines (Punkte)")
    with pytest.raises(UsageError, match="no column is called like"):
        fill(MOODLE, sheet, "sheet.csv", unit, graded(S_1=6))
    filled = fill(MOODLE, sheet, "sheet.csv", unit, graded(S_1=6), column="Aufgabe: Kleines (Punkte)")
    assert changed(sheet.decode(), filled.text, ";") == {(1, 4): "6"}


def test_the_column_is_not_guessed(unit: Unit) -> None:
    with pytest.raises(UsageError, match="no column is called like unit tiny .*--column; there are 'Tiny things"):
        canvas(unit, CANVAS_SHEET.replace("Tiny functions", "Tiny things"))
    twice = CANVAS_SHEET.replace("Essay (4712)", "Tiny functions (4712)")
    with pytest.raises(UsageError, match=r"several columns could be meant: .*\(4711\).*\(4712\)"):
        canvas(unit, twice)
    with pytest.raises(UsageError, match=r"several columns could be meant"):
        canvas(unit, twice, column="Tiny functions")
    named = canvas(unit, twice.replace(",6,10,", ",6,6,"), column="Tiny functions (4712)")
    assert named.column == "Tiny functions (4712)"
    with pytest.raises(UsageError, match="two columns are called"):
        canvas(unit, CANVAS_SHEET.replace("Essay (4712)", "Tiny functions (4711)"), column="Tiny functions (4711)")
    with pytest.raises(UsageError, match="two columns are called ID"):
        canvas(unit, CANVAS_SHEET.replace("Section", "ID"))


def test_a_column_of_other_points_is_refused(unit: Unit) -> None:
    with pytest.raises(UsageError, match=r"Essay \(4712\) is worth 10 points in Canvas, the unit 6"):
        canvas(unit, column="Essay")


@pytest.mark.parametrize("sheet, told", [
    (b"", "no lines with students"), (b"Student,ID\n", "no lines with students"),
    (CANVAS_SHEET.encode("utf-16"), "not UTF-8"), ("é".encode("latin-1") + CANVAS_SHEET.encode(), "not UTF-8"),
    (CANVAS_SHEET.replace(",A,,7", ",A,,7,8,9").encode(), "line 4 has 10 columns, the first line 8"),
    (CANVAS_SHEET.encode() + b'"open', "line 8: unexpected end of data"), (MOODLE_SHEET, "is this a sheet of Canvas")])
def test_what_is_no_sheet_is_told_in_one_line(unit: Unit, sheet: bytes, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        fill(CANVAS, sheet, "sheet.csv", unit, graded(jdoe=6))
    assert str(caught.value).startswith("sheet.csv: ") and "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- the command

@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sheet, and a store with reports."""
    (tmp_path / "sheet.csv").write_text(CANVAS_SHEET)
    for report in graded(jdoe=6, rroe=3, zoe=2):
        write_views(report, tmp_path / "results")
    return tmp_path


def run(course: Course, folder: Path, *more: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", "canvas", str(folder / "sheet.csv"), "--results",
                                      str(folder / "results"), "--to", str(folder / "new.csv"), "--course",
                                      str(course.root / "course.yml"), *more])
    if isinstance(result.exception, UsageError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_the_command_tells_what_it_did_not_write(course: Course, folder: Path) -> None:
    code, out = run(course, folder)
    assert code == 1
    assert out.splitlines() == [
        f"{folder}/new.csv: 1 score written to Tiny functions (4711)",
        "graded, but not in the sheet: 1", "  zoe",
        "differing scores, kept (--overwrite replaces them): 1", "  rroe: the sheet has 2.50, graded 3",
        "in the sheet, but not graded: 2", "  line 6 (103, S-3, ppoe)", "  line 7 (104, f00d)"]
    assert changed(CANVAS_SHEET, (folder / "new.csv").read_text()) == {(3, 5): "6"}
    assert (folder / "sheet.csv").read_text() == CANVAS_SHEET
    assert (folder / "new.csv").stat().st_mode & 0o007 == 0


def test_the_command_never_overwrites_a_file(course: Course, folder: Path) -> None:
    (folder / "new.csv").write_text("mine")
    code, out = run(course, folder)
    assert code == 2 and "there already" in out and (folder / "new.csv").read_text() == "mine"


def test_the_command_asks_which_unit(course: Course, folder: Path) -> None:
    write_views(graded(jdoe=1)[0].model_copy(update={"unit": "other"}), folder / "results")
    code, out = run(course, folder)
    assert code == 2 and "several units (other, tiny); name one with --unit" in out
    assert run(course, folder, "--unit", "tiny", "--overwrite")[0] == 1  # zoe has no line
    assert changed(CANVAS_SHEET, (folder / "new.csv").read_text()) == {(3, 5): "6", (4, 5): "3"}


def test_the_command_is_content_when_everything_has_its_place(course: Course, folder: Path) -> None:
    (folder / "results" / "zoe" / "tiny.json").unlink()
    assert run(course, folder, "--overwrite")[0] == 0
    (folder / "new.csv").unlink()
    (folder / "results" / "zoe" / "tiny.json").write_text("{")
    code, out = run(course, folder, "--overwrite")
    assert code == 1 and "zoe/tiny.json: not a report" in out


# ---------------------------------------------------------------------------------------------- marks, not scores

POLICY = """
policy:
  deadlines: {tiny: "2026-12-01T12:00:00+01:00"}
  late: {per_day: 0.25}
"""


def with_marks(course: Course, folder: Path, *more: str) -> tuple[int, str]:
    """`autograder marks` and, of its table, `autograder export canvas`."""
    (folder / "times.csv").write_text("student,unit,submitted\njdoe,tiny,2026-12-02T11:00:00+01:00\n"
                                      "rroe,tiny,2026-12-01T11:00:00+01:00\n")
    made = CliRunner().invoke(app, ["marks", str(folder / "results"), "--submitted", str(folder / "times.csv"), "--to",
                                    str(folder / "marks.csv"), "--course", str(course.root / "course.yml")])
    assert made.exit_code == 1 and "zoe, tiny: no mark" in made.output
    argv = ["export", "canvas", str(folder / "sheet.csv"), "--marks", str(folder / "marks.csv"), "--to",
            str(folder / "new.csv"), "--course", str(course.root / "course.yml"), *more]
    done = CliRunner().invoke(app, argv)
    return done.exit_code, str(done.exception) if isinstance(done.exception, UsageError) else done.output


@pytest.fixture
def late(course: Course, tmp_path: Path) -> Course:
    """The course, with a deadline and a penalty."""
    home = tmp_path / "late"
    shutil.copytree(course.root, home)
    (home / "course.yml").write_text((home / "course.yml").read_text() + POLICY)
    return load_course(home / "course.yml")


def test_marks_are_written_with_their_penalty(late: Course, folder: Path) -> None:
    code, out = with_marks(late, folder)
    assert code == 1 and out.splitlines() == [
        f"{folder}/new.csv: 1 mark written to Tiny functions (4711)",
        "no mark, left as it is: 1", "  zoe: no mark: no time of submission for " + str(folder / "results"),
        "differing scores, kept (--overwrite replaces them): 1", "  rroe: the sheet has 2.50, marked 3",
        "in the sheet, but without a mark: 2", "  line 6 (103, S-3, ppoe)", "  line 7 (104, f00d)"]
    assert changed(CANVAS_SHEET, (folder / "new.csv").read_text()) == {(3, 5): "4.5"}, "6 points, a day late"


def test_scores_as_graded_are_never_taken_for_marks_in_silence(late: Course, course: Course, folder: Path) -> None:
    assert "without penalties: `autograder marks` makes marks" in run(late, folder)[1]
    assert changed(CANVAS_SHEET, (folder / "new.csv").read_text()) == {(3, 5): "6"}
    (folder / "new.csv").unlink()
    assert "autograder marks" not in run(course, folder)[1], "a course without deadlines has nothing to lose"


def test_it_is_either_scores_or_marks(late: Course, folder: Path) -> None:
    code, out = with_marks(late, folder, "--results", str(folder / "results"))
    assert code == 1 and out.startswith("give either --results") and not (folder / "new.csv").exists()


@pytest.mark.parametrize(("table", "told"), [
    ("student,unit,mark\njdoe,tiny,5\n", ":2: max is empty"),
    ("student,unit,mark,max\njdoe,tiny,5,6\njdoe,tiny,4,6\n", ":3: jdoe, tiny: given twice"),
    ("student,unit,mark,max\njdoe,tiny,nan,6\n", ":2: mark: expected a number of points, got 'nan'"),
    ("student,unit,mark,max\njdoe,tiny,-1,6\n", ":2: mark: expected a number of points, got '-1'"),
    ("student,grade\njdoe,5\n", ":1: expected the columns student, unit, and if need be mark")])
def test_a_table_that_is_none_of_marks_is_refused_with_its_line(course: Course, folder: Path, table: str,
                                                                told: str) -> None:
    path = folder / "marks.csv"
    path.write_text(table)
    done = CliRunner().invoke(app, ["export", "canvas", str(folder / "sheet.csv"), "--marks", str(path), "--to",
                                    str(folder / "new.csv"), "--course", str(course.root / "course.yml")])
    assert isinstance(done.exception, UsageError) and str(done.exception).startswith(f"{path}{told}")
