"""Several grading processes side by side, each with a zygote of its own.

This process hands out one submission at a time and knows who has which: one that takes long holds up one process and
nobody behind it, and what a process had in hand when it was killed is graded by another. There is a pipe to each and
no queue that they share: whoever is killed while it holds a queue's lock takes all others with it.
"""
from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from autograder.course import Course
from autograder.errors import AutograderError, SandboxError, SandboxLost, UsageError
from autograder.report.model import Report
from autograder.submission.cells import Submission

MAX_TRIES = 3
"""Grading processes that may be killed over one submission before it is set aside."""
REPORT, FAILED = "report", "failed"
_ERRORS = {error.__name__: error for error in (UsageError, SandboxError, SandboxLost)}


def grade_in_processes(course: Course, submissions: Sequence[Submission], done: Callable[[Report], None],
                       options: Any) -> list[str]:
    """`grade` in `options.jobs` processes. Reports come in the order in which they are ready."""
    crew = Crew(course, submissions, options)
    try:
        return crew.work(done)
    finally:
        crew.stop()


@dataclass(eq=False)
class Member:
    """A grading process, the way to it, and what it is at."""

    process: Any
    pipe: Connection
    in_hand: Submission | None = None


class Crew:
    """The processes, and the submissions that nobody has in hand yet."""

    def __init__(self, course: Course, submissions: Sequence[Submission], options: Any):
        self._course_path, self._options = str(course.root / "course.yml"), options
        self._waiting = deque(submissions)
        self._killed: dict[tuple[str, str], int] = {}
        self._failed: list[str] = []
        self._members: list[Member] = []

    def work(self, done: Callable[[Report], None]) -> list[str]:
        """Until every submission has its report or a line about why not; these lines."""
        while True:
            self._hand_out()
            busy = {member.pipe: member for member in self._members if member.in_hand}
            if not busy:
                return self._failed
            for pipe in wait(list(busy)):
                self._hear(busy[pipe], done)

    def add(self, submission: Submission) -> None:
        """Put one more at the end of the line; `work` then sees to it."""
        self._waiting.append(submission)

    def stop(self) -> None:
        """End all processes, whatever they are doing."""
        for member in self._members:
            self._dismiss(member)

    def _hand_out(self) -> None:
        idle = [member for member in self._members if not member.in_hand]
        while self._waiting and len(self._members) < self._options.jobs + len(idle):
            member = idle.pop() if idle else self._hire()
            submission = self._waiting.popleft()
            try:
                member.pipe.send(submission)
                member.in_hand = submission
            except OSError:  # killed while it had nothing to do
                self._waiting.appendleft(submission)
                self._dismiss(member)

    def _hire(self) -> Member:
        # Spawned, never forked: a fork would carry this process's memory, secrets and all, where nobody expects it.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(self._course_path, self._options, theirs), daemon=True)
        process.start()
        theirs.close()
        self._members.append(Member(process, ours))
        return self._members[-1]

    def _dismiss(self, member: Member) -> None:
        with suppress(ValueError):
            self._members.remove(member)
        member.process.terminate()
        member.process.join()
        member.pipe.close()

    def _hear(self, member: Member, done: Callable[[Report], None]) -> None:
        try:
            kind, value = member.pipe.recv()
        except (EOFError, OSError):
            self._dismiss(member)
            self._after_a_death(member)
            return
        if kind == REPORT:
            member.in_hand = None
            done(value)
        elif kind == FAILED:
            member.in_hand = None
            self._failed.append(value)
        else:
            raise _ERRORS.get(kind, AutograderError)(value)

    def _after_a_death(self, member: Member) -> None:
        submission = member.in_hand
        key = submission.student, submission.unit
        self._killed[key] = self._killed.get(key, 0) + 1
        if self._killed[key] < MAX_TRIES:
            self._waiting.appendleft(submission)
        else:
            self._failed.append(f"{submission.path}: not graded: {MAX_TRIES} processes that graded it were killed; "
                                f"the last ended with {member.process.exitcode}")


def serve(course_path: str, options: Any, pipe: Connection) -> None:
    """A grading process: grade what comes through the pipe until there is nobody at its other end."""
    import os
    import signal
    from pathlib import Path

    from autograder.course import load_course
    from autograder.grading.grade import grade_stream
    from autograder.sandbox.libc import die_with_parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C goes to the whole group; our parent decides what it means
    die_with_parent(os.getppid())
    try:
        grade_stream(load_course(Path(course_path)), _handed(pipe), lambda report: pipe.send((REPORT, report)),
                     options, lambda line: pipe.send((FAILED, line)))
    except AutograderError as error:
        pipe.send((type(error).__name__, str(error)))
    except EOFError:
        pass  # there is nobody left to grade for
    except Exception as error:
        pipe.send(("AutograderError", f"a grading process failed: {type(error).__name__}: {error}"))


def _handed(pipe: Connection) -> Iterator[Submission]:
    while True:
        yield pipe.recv()
