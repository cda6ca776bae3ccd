"""The grading process behind `nbgrader autograde`: one for all students of a run, warm from the second on."""
from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

from autograder.errors import AutograderError
from autograder.grading.parallel import Crew
from autograder.submission.cells import Submission

if TYPE_CHECKING:
    from autograder.course import Course
    from autograder.report.model import Report

IDLE_SECONDS = 60.0
"""After so long without work the process ends: formgrader's server, which may have started it, runs for weeks."""


class RunStopped(SystemExit):
    """Nothing can be graded. nbgrader lets it pass, where it logs a traceback for each student otherwise."""


class NotGraded(AutograderError):
    """The grader failed on one submission; the next one may go well."""


class Standby:
    """Grades one submission at a time in a process of its own, as `autograder grade --jobs` does.

    It ends with this process, and starts anew where the course's files have changed since.
    """

    def __init__(self) -> None:
        self._crew: Crew | None = None
        self._made_of: object = None
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def grade(self, course: Course, submission: Submission, unsandboxed: bool = False) -> Report:
        """Raises `NotGraded`, or another `AutograderError` if no submission can be graded."""
        with self._lock:
            self._wait_no_more()
            if self._made_of != (made_of := (unsandboxed, _made_of(course))):
                self._stop()
            reports: list[Report] = []
            try:
                failed = self._work(course, submission, unsandboxed, reports)
            except BaseException:
                self._stop()
                raise
            self._made_of = made_of
            self._wait()
        if not reports:
            raise NotGraded(failed[-1])
        return reports[0]

    def demand_ready(self, course: Course, unit: str, unsandboxed: bool = False) -> None:
        """Raises `AutograderError` if no submission of the unit can be graded now.

        A submission without cells is graded: that needs all that any needs, the seed, the sandbox and a reference that
        holds, and what it starts is there for the next.
        """
        self.grade(course, Submission("", unit, "an empty submission", (), ""), unsandboxed)

    def stop(self) -> None:
        """End the process."""
        with self._lock:
            self._wait_no_more()
            self._stop()

    def _work(self, course: Course, submission: Submission, unsandboxed: bool, reports: list[Report]) -> list[str]:
        # In the place of `grade.Options`, whose module needs torch: two seconds that nbgrader's process has no use for.
        options = SimpleNamespace(jobs=1, exercises=None, unsandboxed=unsandboxed)
        self._crew = self._crew or Crew(course, [], options)
        self._crew.add(submission)
        with _no_main():
            return self._crew.work(reports.append)

    def _stop(self) -> None:
        if self._crew:
            self._crew.stop()
        self._crew = None

    def _wait(self) -> None:
        self._timer = threading.Timer(IDLE_SECONDS, self.stop)
        self._timer.daemon = True
        self._timer.start()

    def _wait_no_more(self) -> None:
        if self._timer:
            self._timer.cancel()


def _made_of(course: Course) -> object:
    """Changes when a file of the course does."""
    files = [course.root / "course.yml", *(course.root / "solutions").glob("*/*.py")]
    return str(course.root), sorted((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


@contextmanager
def _no_main() -> Iterator[None]:
    """A process that is spawned meanwhile does not import this program, nbgrader, which it has no need of."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
