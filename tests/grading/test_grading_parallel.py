"""What the grading processes say is handed on, and what ends them is told; they themselves are played by queues."""
from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_course import handed_in

from autograder.course import Course
from autograder.errors import AutograderError, SandboxError, UsageError
from autograder.grading import parallel
from autograder.grading.grade import Options


def collected(*results: Any, expected: int = 2, exited: tuple = (None, None)) -> list[Any]:
    waiting: queue.Queue = queue.Queue()
    for result in results:
        waiting.put(result)
    found: list[Any] = []
    parallel._collect([SimpleNamespace(exitcode=code) for code in exited], waiting, expected, found.append)
    return found


def test_reports_are_handed_on_as_they_come() -> None:
    assert collected(("report", "second"), ("report", "first")) == ["second", "first"]


@pytest.mark.parametrize(("kind", "error"), [("UsageError", UsageError), ("SandboxError", SandboxError),
                                             ("AutograderError", AutograderError), ("anything", AutograderError)])
def test_an_error_keeps_its_kind_and_so_its_exit_code(kind: str, error: type[AutograderError]) -> None:
    with pytest.raises(error, match="what happened") as caught:
        collected(("report", "first"), (kind, "what happened"))
    assert type(caught.value) is error


def test_processes_that_are_gone_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_POLL_SECONDS", 0.01)
    with pytest.raises(AutograderError, match="ended with 1 of 2 submissions ungraded; what was graded is kept"):
        collected(("report", "first"), exited=(-9, 1))


def worked(course: Course, tasks: list[Any], monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[tuple[str, Any]]:
    """What one grading process would put into its queue."""
    monkeypatch.setattr("autograder.sandbox.libc.die_with_parent", lambda parent: None)
    given, results = queue.Queue(), queue.Queue()
    for task in [*tasks, None]:
        given.put(task)
    parallel._work(str(course.root / "course.yml"), Options(**options), given, results)
    return list(results.queue)


def test_a_process_grades_until_there_is_no_more_to_do(tiny: Course, warm: None,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    results = worked(tiny, [handed_in("ann"), handed_in("bob", scale="")], monkeypatch)
    assert [(kind, report.student, report.score) for kind, report in results] == [
        ("report", "ann", 6), ("report", "bob", 2)]


@pytest.mark.parametrize(("error", "told"), [
    (SandboxError("broken"), ("SandboxError", "broken")), (UsageError("no checks"), ("UsageError", "no checks")),
    (ZeroDivisionError("odd"), ("AutograderError", "a grading process failed: ZeroDivisionError: odd")),
])
def test_what_stops_a_process_is_put_into_the_queue(tiny: Course, monkeypatch: pytest.MonkeyPatch, error: Exception,
                                                    told: tuple[str, str]) -> None:
    def stopped(*arguments: Any) -> None:
        raise error
    monkeypatch.setattr("autograder.grading.grade.grade_stream", stopped)
    assert worked(tiny, [handed_in()], monkeypatch) == [told]
