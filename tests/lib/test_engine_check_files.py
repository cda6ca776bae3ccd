"""A check file that cannot be used is refused in one line that names the file and the line; nothing is graded by it."""
from __future__ import annotations

from pathlib import Path

import pytest
from engine_runs import CHECK, HEAD, Subject, check_file, run

from etude.check_file import CheckFileError
from etude.engine import run_checks

FIRST = HEAD.count("\n") + 1
"""The line on which a source begins in the file."""
GOOD = CHECK + "pass\n"

BROKEN = {
    "no exercise": (GOOD.replace('@exercise("one")\n', ""), 1, 'no @exercise("…") mark'),
    "an exercise without a name": (GOOD.replace('("one")', ""), 1, 'no @exercise("…") mark'),
    "an exercise that is a number": (GOOD.replace('"one"', "1"), 1, 'no @exercise("…") mark'),
    "no points": (GOOD.replace("@points(1)\n", ""), 1, "no @points(…) mark with a positive number"),
    "no number": (GOOD.replace("(1)", "('1')"), 1, "no @points(…) mark with a positive number"),
    "0 points": (GOOD.replace("(1)", "(0)"), 1, "no @points(…) mark with a positive number"),
    "points that are NaN": (GOOD.replace("(1)", "(float('nan'))"), 1, "no @points(…) mark with a positive number"),
    "points twice in one mark": (GOOD.replace("(1)", "(1, 2)"), 1, "no @points(…) mark with a positive number"),
    "no docstring": (GOOD.replace('    """It holds."""\n', ""), 1, "no docstring"),
    "an empty docstring": (GOOD.replace("It holds.", " "), 1, "no docstring"),
    "a skip mark": ("@pytest.mark.skip\n" + GOOD, 1, "may not be skipped"),
    "a skip mark with a condition": ("@pytest.mark.skipif(True, reason='never')\n" + GOOD, 1, "may not be skipped"),
    "expected to fail": ("@pytest.mark.xfail\n" + GOOD, 1, "may not be skipped or expected to fail"),
    "a skip inside": (CHECK + "pytest.skip('not now')\n", 5, "expected to fail (Skipped: not now)"),
    "an async check": (GOOD.replace("def ", "async def "), 1, "plain function"),
    "a syntax error": (GOOD + "def broken(:\n", 6, "SyntaxError: invalid syntax"),
    "an import error": (GOOD + "import missing_module_xyz\n", 6, "ModuleNotFoundError: No module named"),
    "an error while it is imported": (GOOD + "\nSPEC.nothing\n", 7, "AttributeError: 'Cases' object has no attribute"),
    "an unknown fixture": (GOOD.replace("student", "student, tmp"), 1, "fixture 'tmp' not found"),
    "an error in a fixture": ("@pytest.fixture\ndef odd():\n    return 1 / 0\n" + GOOD.replace("(student)", "(odd)"), 3,
                              "ZeroDivisionError"),
    "the end of the process": (CHECK + "raise SystemExit(3)\n", 5, "SystemExit: 3"),
    "cases that nobody takes": (GOOD.replace("def ", "@for_all(case=SPEC)\ndef "), 3, "InvalidArgument: "),
}


@pytest.mark.parametrize(("source", "line", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_check_file_is_named_with_its_line_and_reason(tmp_path: Path, source: str, line: int, says: str,
                                                               capfd: pytest.CaptureFixture) -> None:
    subject = Subject()
    with pytest.raises(CheckFileError) as caught:
        run(tmp_path, source, subject)
    message = str(caught.value)
    assert f"unit_checks.py:{FIRST + line - 1}: " in message and says in message and "\n" not in message
    assert subject.outcomes == {} and capfd.readouterr() == ("", "")


def test_the_same_file_without_its_mistake_runs(tmp_path: Path) -> None:
    assert run(tmp_path, GOOD).passed == {"test_it": True}


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckFileError, match="nowhere_checks.py"):
        run_checks([tmp_path / "nowhere_checks.py"], [Subject()])


def test_one_broken_file_of_two_stops_both(tmp_path: Path) -> None:
    subject = Subject()
    with pytest.raises(CheckFileError, match="b_checks.py"):
        run_checks([check_file(tmp_path, GOOD, "a_checks.py"), check_file(tmp_path, "1 / 0", "b_checks.py")], [subject])
    assert subject.asked == []


def test_a_check_that_has_parameters_is_a_check_for_each(tmp_path: Path) -> None:
    source = "@pytest.mark.parametrize('k', [1, 2])\n" + CHECK.replace("(student)", "(student, k)") + "assert k == 1\n"
    assert run(tmp_path, source).passed == {"test_it[1]": True, "test_it[2]": False}


def test_files_without_checks_leave_nothing_to_do(tmp_path: Path) -> None:
    subject = run(tmp_path, "def helper(): pass\n")
    assert subject.asked == [] and subject.outcomes == {}
