"""Grading with the session's zygote instead of one for each run."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tiny_course import tiny_course

from autograder.course import Course
from autograder.grading import grade as grading
from autograder.report.model import Report
from autograder.submission.cells import Submission


@pytest.fixture(scope="module")
def warm(zygote: Any) -> Iterator[None]:
    """`grade` does not start a zygote of its own."""
    if not zygote.label.enforced:
        pytest.skip(f"no enforced sandbox on this machine: {dict(zygote.label.evidence)}")

    @contextmanager
    def lend(course: Course, options: grading.Options, kernels: bool) -> Iterator[Any]:
        yield zygote
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "open_zygote", lend)
        yield


@pytest.fixture(scope="module")
def graded(warm: None) -> Callable[..., dict[str, Report]]:
    """`graded(course, submissions, ...)`: the reports by student."""
    def run(course: Course, submissions: list[Submission], **options: Any) -> dict[str, Report]:
        reports: list[Report] = []
        grading.grade(course, submissions, reports.append, grading.Options(**options))
        assert [r.student for r in reports] == [s.student for s in submissions]
        return {report.student: report for report in reports}
    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The tiny course as it should be; not to be changed."""
    return tiny_course(tmp_path_factory.mktemp("tiny"))
