"""Grade submissions: one warm zygote, one collection of the checks, then each submission through all of them."""
from __future__ import annotations

import gc
import hashlib
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from autograder.course import Course
from autograder.errors import AutograderError, SandboxError, SandboxLost, UsageError
from autograder.grading.exercise_keys import ExerciseKeys, grader_digest, versions
from autograder.grading.reference import ReferenceSubject
from autograder.grading.seeds import SEED_VARIABLE, run_seed
from autograder.grading.subjects import GradedSubmission, sealed_channels
from autograder.report.model import Report
from autograder.solution.interpreter import demand_triton, expect_kernels
from autograder.solution.material import Material, verify_points
from autograder.submission.cells import Submission

MAX_TRIES = 3
"""How often a submission is graded before it counts as its own doing that its workers are killed from outside."""
REPEAT_HINT = "run `autograder doctor` to see what is missing, or give --unsandboxed to grade trusted code"


@dataclass(frozen=True)
class Options:
    """How to grade."""

    exercises: tuple[str, ...] | None = None
    unsandboxed: bool = False
    """Accept a sandbox that is only ADVISORY; recorded in every report."""
    jobs: int = 1
    """Processes that grade side by side."""


def grade(course: Course, submissions: Sequence[Submission], done: Callable[[Report], None],
          options: Options | None = None) -> list[str]:
    """Grade every submission and hand its report to `done` as soon as it is there.

    Returns a line for each submission on which the grader itself failed; the others are graded. Raises `SandboxError`
    when the sandbox does not hold and the options do not accept that.
    """
    options = options or Options()
    ordered = sorted(submissions, key=lambda submission: list(course.units).index(submission.unit))
    if options.jobs > 1 and len(ordered) > 1:
        from autograder.grading.parallel import grade_in_processes
        gc.enable()  # whoever paused it waited for checks to be ready, and here are none: this process hands out
        return grade_in_processes(course, ordered, done, options)
    failed: list[str] = []
    grade_stream(course, ordered, done, options, failed.append)
    return failed


def grade_stream(course: Course, submissions: Iterable[Submission], done: Callable[[Report], None],
                 options: Options, failed: Callable[[str], None]) -> None:
    """Grade submissions as they come, in this process; those of one unit should follow each other.

    `failed` gets the line about a submission on which the grader failed.
    """
    expect_kernels(course)
    line = Line(submissions)
    while line.first:
        try:
            kernels = course.units[line.first.unit].triton
            with open_zygote(course, options, kernels) as zygote:
                while line.first and course.units[line.first.unit].triton == kernels:
                    _grade_unit(Material(course, course.units[line.first.unit]), line, zygote, done, options)
        except SandboxLost:
            if not line.again():
                raise
        except (SandboxError, UsageError, OSError):
            raise  # the next one would meet the same
        except Exception as error:
            if not line.in_hand:
                raise
            failed(_failure(line.first, error))
            line.advance()


class Line:
    """Submissions as they come. What disturbed the grading of the first from outside gives it another try."""

    def __init__(self, submissions: Iterable[Submission]):
        self._coming = iter(submissions)
        self.advance()

    def advance(self) -> None:
        self.in_hand, self._tries = False, 1
        self.first = next(self._coming, None)

    def again(self) -> bool:
        """Whether the first may be graded once more; counts the tries."""
        self.in_hand, self._tries = False, self._tries + 1
        return self._tries <= MAX_TRIES


def _failure(submission: Submission, error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if isinstance(error, AutograderError) else f" ({os.path.basename(last.filename)}:{last.lineno})"
    what = str(error) if isinstance(error, AutograderError) else f"{type(error).__name__}: {error}"
    return f"{submission.path}: not graded, as the grader itself failed: {what}{place}"


@contextmanager
def open_zygote(course: Course, options: Options, kernels: bool = False,
                serve: str = "etude.executor:serve") -> Iterator[Any]:
    """A zygote whose label the options accept; with `kernels`, one that interprets Triton."""
    from autograder.sandbox.client import KERNELS, Zygote
    with Zygote(preload=[*course.preload, *(KERNELS if kernels else ())], serve=serve) as zygote:
        if zygote.label.name != "ENFORCED" and not options.unsandboxed:
            raise SandboxError(f"the sandbox does not hold here ({zygote.label.name}): {REPEAT_HINT}")
        yield zygote


def _grade_unit(material: Material, line: Line, zygote: Any, done: Callable[[Report], None],
                options: Options) -> None:
    """Grade the submissions that come first in the line, as long as they are of this unit."""
    limits = worker_limits(material.course)
    watched = _Watched(zygote)
    channels = sealed_channels(watched, limits, material.course.limits.exercise_seconds)
    provenance = provenance_of(material, zygote.label, options)
    keys = ExerciseKeys(material)
    reference = ReferenceSubject(material)

    def subjects() -> Iterator[Any]:
        prepared: frozenset[str] = frozenset()
        while line.first and line.first.unit == material.unit.id:
            missing = (line.first.only or frozenset(material.unit.exercises)) - prepared
            if missing:
                reference.wanted, prepared = missing, prepared | missing
                yield reference
                gc.freeze()  # modules, examples and expected values stay: no collection need look at them again
                gc.enable()
            line.in_hand, watched.workers = True, []
            subject = GradedSubmission(material, line.first, channels, reference)
            try:
                yield subject
                report = subject.report(zygote.label.name, {**provenance, "exercises": keys.of(line.first)})
            finally:
                subject.close()
            line.in_hand = False  # what fails from here on, as on a full disk, is not about this submission
            if any(worker.killed_from_outside for worker in watched.workers) and line.again():
                continue
            done(report)
            line.advance()
    run_unit_checks(material, subjects(), exercises=options.exercises)


class _Watched:
    """A zygote that remembers its workers."""

    def __init__(self, zygote: Any):
        self._zygote = zygote
        self.workers: list[Any] = []

    def spawn(self, limits: Any) -> Any:
        self.workers.append(self._zygote.spawn(limits))
        return self.workers[-1]


def run_unit_checks(material: Material, subjects: Iterable[Any], *, exercises: Sequence[str] | None = None,
                    shrink: bool = True) -> None:
    """The unit's checks, in the order of the file, for every subject."""
    import torch

    from etude.check_file import CheckFileError
    from etude.engine import run_checks
    from etude.failures import GraderFailed
    from etude.outcomes import Check

    def verify(checks: list[Check]) -> None:
        totals: dict[str, float] = {}
        for check in checks:
            totals[check.exercise] = totals.get(check.exercise, 0.0) + check.points
        if exercises is None:
            verify_points(material, totals)
    if material.unit.triton:
        demand_triton(material.unit)
    torch.set_num_threads(1)  # examples are tiny: threads cost more than they save, and change rounding
    if not material.unit.checks_path.exists():
        raise UsageError(f"{material.unit.checks_path}: no such file; every notebook has a file of checks")
    try:
        run_checks([material.unit.checks_path], subjects, reference=material.reference, seed=run_seed(),
                   exercises=exercises, shrink=shrink, on_checks=verify)
    except CheckFileError as error:
        raise UsageError(str(error)) from None
    except GraderFailed as error:
        raise error.__cause__ or AutograderError(str(error)) from None


def worker_limits(course: Course) -> Any:
    """The course's limits as the sandbox takes them."""
    from autograder.sandbox.limits import Limits
    own = course.limits
    return Limits(memory_mb=own.memory_mb, call_seconds=own.call_seconds,
                  cpu_seconds=int(own.exercise_seconds) + 5)


def provenance_of(material: Material, label: Any, options: Options) -> dict[str, Any]:
    """What a grade depends on, so that the same submission can be graded the same way again."""
    return {
        **depends_on(material),
        "seed_is_public": SEED_VARIABLE not in os.environ,
        "sandbox_layers": list(label.layers),
        "unsandboxed": options.unsandboxed,
        **({"seed_per_student": own} if (own := material.unit.seeds_per_student) else {}),
    }


def depends_on(material: Material) -> dict[str, Any]:
    """The part of the provenance that decides the grade of a submission; equal parts, equal grades."""
    return {
        "checks": material.digest,
        "grader": grader_digest(),
        "seed_sha256": hashlib.sha256(str(run_seed()).encode()).hexdigest(),
        "versions": versions(),
    }
