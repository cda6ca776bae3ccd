"""Grade submissions: one warm zygote, one collection of the checks, then each submission through all of them."""
from __future__ import annotations

import hashlib
import itertools
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from autograder.course import Course
from autograder.errors import AutograderError, SandboxError, UsageError
from autograder.grading.material import Material, verify_points
from autograder.grading.subjects import GradedSubmission, ReferenceSubject, sealed_channels
from autograder.report.model import Report
from autograder.submission.cells import Submission

SEED_VARIABLE = "ETUDE_SEED"
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
          options: Options | None = None) -> None:
    """Grade every submission and hand its report to `done` as soon as it is there.

    Raises `SandboxError` when the sandbox does not hold and the options do not accept that.
    """
    options = options or Options()
    ordered = sorted(submissions, key=lambda submission: list(course.units).index(submission.unit))
    if options.jobs > 1 and len(ordered) > 1:
        from autograder.grading.parallel import grade_in_processes
        grade_in_processes(course, ordered, done, options)
    else:
        grade_stream(course, ordered, done, options)


def grade_stream(course: Course, submissions: Iterable[Submission], done: Callable[[Report], None],
                 options: Options) -> None:
    """Grade submissions as they come, in this process; those of one unit follow each other."""
    with open_zygote(course, options) as zygote:
        for unit, group in itertools.groupby(submissions, key=lambda submission: submission.unit):
            _grade_unit(Material(course, course.units[unit]), group, zygote, done, options)


@contextmanager
def open_zygote(course: Course, options: Options) -> Iterator[Any]:
    """A zygote whose label the options accept."""
    from autograder.sandbox.client import Zygote
    with Zygote(preload=course.preload) as zygote:
        if zygote.label.name != "ENFORCED" and not options.unsandboxed:
            raise SandboxError(f"the sandbox does not hold here ({zygote.label.name}): {REPEAT_HINT}")
        yield zygote


def _grade_unit(material: Material, submissions: Iterable[Submission], zygote: Any, done: Callable[[Report], None],
                options: Options) -> None:
    limits = worker_limits(material.course)
    channels = sealed_channels(zygote, limits, material.course.limits.exercise_seconds)
    provenance = provenance_of(material, zygote.label, options)
    reference = ReferenceSubject(material)

    def subjects() -> Iterator[Any]:
        yield reference
        for submission in submissions:
            subject = GradedSubmission(material, submission, channels, reference)
            yield subject
            done(subject.report(zygote.label.name, provenance))
    run_unit_checks(material, subjects(), exercises=options.exercises)


def run_unit_checks(material: Material, subjects: Iterable[Any], *, exercises: Sequence[str] | None = None,
                    shrink: bool = True) -> None:
    """The unit's checks, in the order of the file, for every subject."""
    import torch

    from etude.engine import Check, CheckFileError, run_checks
    from etude.failures import GraderFailed

    def verify(checks: list[Check]) -> None:
        totals: dict[str, float] = {}
        for check in checks:
            totals[check.exercise] = totals.get(check.exercise, 0.0) + check.points
        if exercises is None:
            verify_points(material, totals)
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


def run_seed() -> int:
    """The seed that examples are drawn from: secret in graded runs, by the environment variable ETUDE_SEED."""
    text = os.environ.get(SEED_VARIABLE, "public")
    if not text.strip():
        raise UsageError(f"{SEED_VARIABLE} is set, but empty: a secret that is missing must not pass for one. Unset it "
                         "to grade with the public seed.")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def provenance_of(material: Material, label: Any, options: Options) -> dict[str, Any]:
    """What a grade depends on, so that the same submission can be graded the same way again."""
    import hypothesis
    import numpy
    import torch

    seed = str(run_seed()).encode()
    return {
        "checks": material.digest,
        "seed_sha256": hashlib.sha256(seed).hexdigest(),
        "seed_is_public": SEED_VARIABLE not in os.environ,
        "sandbox_layers": list(label.layers),
        "unsandboxed": options.unsandboxed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "numpy": numpy.__version__, "hypothesis": hypothesis.__version__},
    }
