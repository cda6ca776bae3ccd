"""What is said while a class is graded: to whom, how often, and how long the rest takes."""
from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_course import handed_in, notebook_of, tiny_course

from autograder.commands.progress import Progress
from autograder.report.model import Report


class Stream(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def said(shown: bool | None, terminal: bool, total: int = 5, kept: int = 1, seconds: float = 10.0,
         student: str = "ann") -> str:
    """What is said of a class of which some are kept and each other one takes so long."""
    now = 0.0
    stream = Stream(terminal)
    progress = Progress(total, shown, stream, clock=lambda: now)
    progress.kept(kept)
    for _ in range(total - kept):
        now += seconds
        progress.graded(Report(student=student, unit="tiny", sandbox="ENFORCED", score=1.5, max_score=6, exercises=[]))
    progress.end()
    return stream.getvalue()


def test_a_terminal_gets_one_line_that_is_written_anew() -> None:
    text = said(None, terminal=True)
    assert "\n" not in text and text.endswith("\r\033[K")
    assert [part for part in text.split("\r\033[K") if part] == [
        "grading 4 of 5", "2 of 5: ann, tiny: 1.5 of 6", "3 of 5: ann, tiny: 1.5 of 6",
        "4 of 5, 0:10 left: ann, tiny: 1.5 of 6", "5 of 5: ann, tiny: 1.5 of 6"]


@pytest.mark.parametrize(("shown", "terminal", "total"), [
    (None, False, 5), (False, False, 5), (False, True, 5), (None, True, 1)])
def test_where_nobody_looks_nothing_is_said(shown: bool | None, terminal: bool, total: int) -> None:
    assert said(shown, terminal, total, kept=0) == ""


def test_who_asks_gets_plain_lines_where_there_is_no_terminal() -> None:
    assert said(True, terminal=False, total=2).splitlines() == ["grading 1 of 2", "2 of 2: ann, tiny: 1.5 of 6"]


@pytest.mark.parametrize(("seconds", "left"), [(0.1, "0:00"), (45, "1:30"), (4000, "2:13:20")])
def test_the_time_left(seconds: float, left: str) -> None:
    assert f"3 of 5, {left} left" in said(None, terminal=True, kept=0, seconds=seconds)


def test_a_name_does_not_write_elsewhere_and_the_line_does_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    parts = said(None, terminal=True, student="\033[31m\nred" * 40).split("\r\033[K")
    assert all(len(part) < 40 and "\033" not in part and "\n" not in part for part in parts)


def test_the_command_on_a_terminal(tmp_path: Path) -> None:
    tiny_course(tmp_path)
    for student in ("ann", "bob"):
        path = tmp_path / "class" / student / "tiny" / "tiny.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(notebook_of(handed_in(student)))
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.executable, "-m", "autograder.cli", "grade", "class", "--out", "out", "--unsandboxed"],
                          cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, timeout=120)
    os.close(theirs)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0 and b"grading" not in done.stdout
    assert "grading 2 of 2" in seen and "1 of 2: ann, tiny: 6 of 6" in seen and seen.endswith("\r\x1b[K")
