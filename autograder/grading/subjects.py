"""Who goes through the checks: the reference first, to give the probes, then one subject for each submission."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from autograder.errors import AutograderError
from autograder.grading.assemble import exercise_result, total
from autograder.grading.diagnosis import Probes
from autograder.grading.material import Material
from autograder.remote.channel import Channel, LocalChannel, Recorder, SealedChannel
from autograder.remote.student import RemoteStudent
from autograder.report.model import Diagnosis, ExerciseResult, Report
from autograder.submission.cells import Submission
from autograder.submission.program import program_for
from etude.engine import Outcome, failure_text
from etude.failures import MissingName, StudentError, StudentStopped

OpenChannel = Callable[[Sequence[dict[str, str]]], Any]
"""A program -> the channel to whatever runs it."""


class ReferenceSubject:
    """The reference as a student, in this process: it must pass, and what it was asked makes the probes."""

    def __init__(self, material: Material):
        self._material = material
        self._recorder: Recorder | None = None
        self.probes: dict[str, Probes] = {}

    def student(self, exercise: str) -> RemoteStudent:
        self._recorder = Recorder(LocalChannel(self._material.reference_program))
        return RemoteStudent(self._recorder)

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if not outcome.passed:
                raise AutograderError(f"{self._material.unit.checks_path}: the reference itself fails "
                                      f"{outcome.check.name} for {outcome.case}: {failure_text(outcome.failure)[0]}")
        self.probes[exercise] = Probes(self._material, exercise, self._recorder.log)


class SubmissionSubject:
    """One program for each exercise, run where `open_channel` says; becomes a list of exercise results."""

    def __init__(self, material: Material, programs: Callable[[str], list[dict[str, str]]],
                 open_channel: OpenChannel, probes: dict[str, Probes]):
        self._material, self._programs, self._open, self._probes = material, programs, open_channel, probes
        self._channel: Any = None
        self._students: list[RemoteStudent] = []
        self.results: list[ExerciseResult] = []

    def student(self, exercise: str) -> RemoteStudent:
        self._channel = self._open(self._programs(exercise))
        return RemoteStudent(self._channel)

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        try:
            diagnoses = self._diagnoses(exercise, outcomes)
            notes = _load_notes(self._channel.loaded, exercise)
        finally:
            close = getattr(self._channel, "close", None)
            if close:
                close()
        title = self._material.unit.exercises[exercise].title
        self.results.append(exercise_result(exercise, title, outcomes, diagnoses, notes))

    def _diagnoses(self, exercise: str, outcomes: list[Outcome]) -> dict[str, Diagnosis]:
        wrong = [o for o in outcomes if not o.passed and _can_be_diagnosed(o.failure)]
        probes = self._probes.get(exercise)
        if not wrong or probes is None:
            return {}
        diagnosis = probes.diagnose(self._channel)
        if diagnosis:
            return {outcome.check.name: diagnosis for outcome in wrong}
        found = {}
        for outcome in wrong:
            def run(channel: Channel, outcome: Outcome = outcome) -> None:
                outcome.replay(RemoteStudent(channel))
            one = probes.diagnose_example(run, self._channel)
            if one:
                found[outcome.check.name] = one
        return found


class GradedSubmission(SubmissionSubject):
    """A submission in sealed workers; `report()` once all its exercises are finished."""

    def __init__(self, material: Material, submission: Submission, open_channel: OpenChannel,
                 probes: dict[str, Probes]):
        super().__init__(material, lambda exercise: program_for(submission, exercise, material.setup),
                         open_channel, probes)
        self.submission = submission
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def report(self, sandbox: str, provenance: dict[str, Any]) -> Report:
        timings = {"seconds": round(time.perf_counter() - self._started, 3),
                   "grader_cpu_seconds": round(time.process_time() - self._cpu_started, 3)}
        return Report(student=self.submission.student, unit=self.submission.unit, sandbox=sandbox,
                      score=total(self.results, "score"), max_score=total(self.results, "max_score"),
                      exercises=self.results, notes=list(self.submission.notes),
                      provenance={**provenance, "submission": self.submission.digest, "timings": timings})


def sealed_channels(zygote: Any, limits: Any, exercise_seconds: float) -> OpenChannel:
    """Channels into workers of this zygote."""
    return lambda program: SealedChannel(program, lambda: zygote.spawn(limits), limits.call_seconds, exercise_seconds)


def _can_be_diagnosed(failure: BaseException | None) -> bool:
    """A mistake has a name only where the code ran and was wrong; what is missing or was stopped speaks for itself."""
    if isinstance(failure, (StudentStopped, MissingName)):
        return False
    return not (isinstance(failure, StudentError) and failure.type_name == "NotImplementedError")


def _load_notes(loaded: dict | None, exercise: str) -> list[str]:
    """The statements of the exercise's own cell that failed when it ran."""
    errors = (loaded or {}).get("errors")
    notes = []
    for error in errors if isinstance(errors, list) else []:
        label, line, kind, message = (error.get(key) for key in ("label", "line", "type", "message"))
        if isinstance(label, str) and label.endswith(f"({exercise})"):
            notes.append(f"{label}, line {line}: {kind}: {message}")
    return notes[:5]
