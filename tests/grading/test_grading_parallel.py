"""Several grading processes: each submission gets one report, whoever is slow, broken or killed; played by threads."""
from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_course import handed_in

from autograder.course import Course
from autograder.errors import AutograderError, SandboxError, SandboxLost, UsageError
from autograder.grading import parallel
from autograder.grading.grade import Options
from autograder.submission.cells import Submission

Play = Callable[[Any, Submission], None]
"""What a process does with a submission that it gets through its pipe."""


class Player:
    """A grading process that is a thread."""

    def __init__(self, play: Play, pipe: Any):
        self._pipe, self._play = pipe, play
        self.exitcode = -9
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with suppress(EOFError, OSError), self._pipe as pipe:
            while True:
                self._play(pipe, pipe.recv())

    def terminate(self) -> None:
        pass

    def join(self) -> None:
        pass


@pytest.fixture
def crew(tiny: Course, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[Any], list[str]]]:
    """`crew(play, students, jobs)`: (what was reported, lines about what was not) by processes that do `play`."""
    hired: list[Player] = []

    def hire(self: Any) -> Any:
        ours, theirs = multiprocessing.Pipe()
        hired.append(Player(self.play, theirs))
        self._members.append(parallel.Member(hired[-1], ours))
        return self._members[-1]
    monkeypatch.setattr(parallel.Crew, "_hire", hire)

    def work(play: Play, students: Sequence[str], jobs: int = 2) -> tuple[list[Any], list[str]]:
        monkeypatch.setattr(parallel.Crew, "play", staticmethod(play), raising=False)
        found: list[Any] = []
        failed = parallel.grade_in_processes(tiny, [handed_in(name) for name in students], found.append,
                                             Options(jobs=jobs))
        return found, failed
    work.hired = hired
    return work


def report(pipe: Any, submission: Submission) -> None:
    pipe.send((parallel.REPORT, submission.student))


def test_every_submission_gets_one_report(crew: Callable) -> None:
    found, failed = crew(report, "abcdefg", jobs=3)
    assert sorted(found) == list("abcdefg") and failed == []
    assert len(crew.hired) == 3


def test_one_that_takes_long_holds_up_nobody_else(crew: Callable) -> None:
    others = threading.Semaphore(0)

    def play(pipe: Any, submission: Submission) -> None:
        if submission.student == "slow":
            for _ in range(6):
                assert others.acquire(timeout=20)
        report(pipe, submission)
        others.release()
    found, _ = crew(play, ["slow", *"abcdef"])
    assert sorted(found) == [*"abcdef", "slow"] and found.index("slow") >= 5  # it may be heard beside the last one


def test_what_a_killed_process_had_in_hand_is_graded_by_another(crew: Callable) -> None:
    deaths = {"b": iter(range(2)), "d": iter(range(1))}

    def play(pipe: Any, submission: Submission) -> None:
        if next(deaths.get(submission.student, iter(())), None) is not None:
            raise EOFError  # the pipe is closed, as when the process is killed
        report(pipe, submission)
    found, failed = crew(play, "abcd")
    assert sorted(found) == list("abcd") and failed == []
    assert all(next(left, None) is None for left in deaths.values()), "three processes were to be killed"
    assert len(crew.hired) in (4, 5)  # the last one's work may go to one that is idle


def test_a_submission_over_which_process_after_process_is_killed_is_set_aside(crew: Callable) -> None:
    def play(pipe: Any, submission: Submission) -> None:
        if submission.student == "b":
            raise EOFError
        report(pipe, submission)
    found, failed = crew(play, "abc", jobs=1)
    assert found == ["a", "c"]
    assert failed == ["b/tiny/tiny.ipynb: not graded: 3 processes that graded it were killed; the last ended with -9"]


def test_a_process_that_is_killed_while_it_has_nothing_to_do_is_replaced(crew: Callable) -> None:
    first = threading.Event()

    def play(pipe: Any, submission: Submission) -> None:
        if submission.student == "a":
            report(pipe, submission)
            first.set()
            raise EOFError
        assert first.wait(20)
        time.sleep(0.05)
        report(pipe, submission)
    found, failed = crew(play, "abcd")
    assert sorted(found) == list("abcd") and failed == []


def test_what_the_grader_fails_on_is_told_and_the_others_go_on(crew: Callable) -> None:
    def play(pipe: Any, submission: Submission) -> None:
        if submission.student == "b":
            pipe.send((parallel.FAILED, "b: odd"))
        else:
            report(pipe, submission)
    assert crew(play, "abc", jobs=1) == (["a", "c"], ["b: odd"])


@pytest.mark.parametrize(("kind", "error"), [("UsageError", UsageError), ("SandboxError", SandboxError),
                                             ("SandboxLost", SandboxLost), ("AutograderError", AutograderError),
                                             ("anything", AutograderError)])
def test_an_error_keeps_its_kind_and_so_its_exit_code(crew: Callable, kind: str,
                                                      error: type[AutograderError]) -> None:
    with pytest.raises(error, match="what happened") as caught:
        crew(lambda pipe, submission: pipe.send((kind, "what happened")), "ab")
    assert type(caught.value) is error


# ---------------------------------------------------------------------------------------------- one process

def worked(course: Course, tasks: list[Any], monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[tuple[str, Any]]:
    """What one grading process would send."""
    monkeypatch.setattr("autograder.sandbox.libc.die_with_parent", lambda parent: None)
    handler = signal.getsignal(signal.SIGINT)
    waiting, sent = iter(tasks), []

    def receive() -> Any:
        for task in waiting:
            return task
        raise EOFError
    try:
        parallel.serve(str(course.root / "course.yml"), Options(**options),
                       SimpleNamespace(recv=receive, send=sent.append))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)
    return sent


def test_a_process_grades_until_there_is_nobody_left_to_grade_for(tiny: Course, warm: None,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    sent = worked(tiny, [handed_in("ann"), handed_in("bob", scale="")], monkeypatch)
    assert [(kind, report.student, report.score) for kind, report in sent] == [("report", "ann", 6),
                                                                              ("report", "bob", 2)]


@pytest.mark.parametrize(("error", "told"), [
    (SandboxError("broken"), ("SandboxError", "broken")), (UsageError("no checks"), ("UsageError", "no checks")),
    (ZeroDivisionError("odd"), ("AutograderError", "a grading process failed: ZeroDivisionError: odd")),
])
def test_what_stops_a_process_is_sent(tiny: Course, monkeypatch: pytest.MonkeyPatch, error: Exception,
                                      told: tuple[str, str]) -> None:
    def stopped(*arguments: Any) -> None:
        raise error
    monkeypatch.setattr("autograder.grading.grade.grade_stream", stopped)
    assert worked(tiny, [handed_in()], monkeypatch) == [told]
