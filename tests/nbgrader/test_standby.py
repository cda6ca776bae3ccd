"""The grading process behind nbgrader: warm, up to date, and gone when nobody needs it."""
from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tiny_course import TODO, handed_in, tiny_course

from autograder.errors import AutograderError
from autograder.nbgrader import standby
from autograder.nbgrader.standby import Standby


def pid(process: Standby) -> int:
    assert process._crew is not None
    return process._crew._members[0].process.pid


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_stays_warm_follows_the_course_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Standby()
    try:
        course = tiny_course(tmp_path)
        assert process.grade(course, handed_in("ann")).score == 6
        first = pid(process)
        assert process.grade(course, handed_in("ben", **TODO)).score == 0
        assert pid(process) == first

        course = tiny_course(tmp_path, course={"points: 4": "points: 5"}, checks={"@points(3)": "@points(4)"})
        monkeypatch.setattr(standby, "IDLE_SECONDS", 0.2)
        assert process.grade(course, handed_in("ann")).score == 7
        second = pid(process)
        assert second != first and ended(first)
        end = time.monotonic() + 30
        while not ended(second) and time.monotonic() < end:
            time.sleep(0.05)
        assert ended(second) and process._crew is None
    finally:
        process.stop()


def test_what_the_grader_says_reaches_the_caller_and_nothing_is_left_running(tmp_path: Path) -> None:
    course, process = tiny_course(tmp_path, solution={"return factor * x": "return factor + x"}), Standby()
    with pytest.raises(AutograderError, match="the reference itself fails test_scale"):
        process.grade(course, handed_in("ann"))
    assert process._crew is None
