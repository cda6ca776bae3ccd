"""Several grading processes side by side, each with a zygote of its own, fed from one queue."""
from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from autograder.course import Course
from autograder.errors import AutograderError, SandboxError, UsageError
from autograder.report.model import Report
from autograder.submission.cells import Submission

_ERRORS = {"UsageError": UsageError, "SandboxError": SandboxError}
_POLL_SECONDS = 1.0


def grade_in_processes(course: Course, submissions: Sequence[Submission], done: Callable[[Report], None],
                       options: Any) -> None:
    """`grade` in `options.jobs` processes. Reports come in the order in which they are ready.

    Spawned, never forked: a fork would carry this process's memory, secrets and all, to places that do not expect it.
    """
    context = multiprocessing.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    jobs = min(options.jobs, len(submissions))
    for submission in submissions:
        tasks.put(submission)
    for _ in range(jobs):
        tasks.put(None)
    path = str(course.root / "course.yml")
    processes = [context.Process(target=_work, args=(path, options, tasks, results), daemon=True) for _ in range(jobs)]
    for process in processes:
        process.start()
    try:
        _collect(processes, results, len(submissions), done)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _collect(processes: Sequence[Any], results: Any, expected: int, done: Callable[[Report], None]) -> None:
    received = 0
    while received < expected:
        try:
            kind, value = results.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if all(process.exitcode is not None for process in processes):
                raise AutograderError(f"the grading processes ended with {expected - received} of {expected} "
                                      "submissions ungraded; what was graded is kept") from None
            continue
        if kind == "report":
            received += 1
            done(value)
        else:
            raise _ERRORS.get(kind, AutograderError)(value)


def _work(course_path: str, options: Any, tasks: Any, results: Any) -> None:
    import os
    from pathlib import Path

    from autograder.course import load_course
    from autograder.grading.grade import grade_stream
    from autograder.sandbox.libc import die_with_parent
    die_with_parent(os.getppid())
    try:
        grade_stream(load_course(Path(course_path)), _until_none(tasks), lambda r: results.put(("report", r)), options)
    except AutograderError as error:
        results.put((type(error).__name__, str(error)))
    except Exception as error:
        results.put(("AutograderError", f"a grading process failed: {type(error).__name__}: {error}"))


def _until_none(tasks: Any) -> Iterator[Submission]:
    while (task := tasks.get()) is not None:
        yield task
