"""Who goes through the checks: the reference first, to give the probes, then one subject for each submission."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from autograder.errors import AutograderError
from autograder.grading.assemble import exercise_result, total
from autograder.grading.diagnosis import Probes
from autograder.grading.evidence import MAX_FINDINGS, Suspect, called, few, with_log, written
from autograder.remote.channel import MAX_TEXT, Channel, LocalChannel, RawReply, RawRequest, Recorder, SealedChannel
from autograder.remote.foresight import ForesightChannel, Script
from autograder.remote.student import RemoteStudent
from autograder.report.model import Diagnosis, ExerciseResult, Report
from autograder.solution.material import Material
from autograder.submission.cells import Submission
from autograder.submission.program import program_for
from etude.executor import FREE
from etude.failures import MissingName, StudentError, StudentStopped
from etude.outcomes import Check, Outcome, failure_text

OpenChannel = Callable[[Sequence[dict[str, str]]], Any]
"""A program -> the channel to whatever runs it."""


class ReferenceSubject:
    """The reference as a student, in this process: it must pass, and what it was asked makes the probes."""

    def __init__(self, material: Material):
        self._material = material
        self._recorder: Recorder | None = None
        self._log: list[tuple[RawRequest, RawReply]] = []
        self._check = ""
        self.probes: dict[str, Probes] = {}
        self._starts: list[int] = []
        self.scripts: dict[str, Script] = {}
        """What each check asked of the reference and what it answered, by the check's name."""
        self.rehearsals: dict[str, list[RawRequest]] = {}
        """A few requests of each exercise that forbids calls, to be made again while calls are noted."""
        self.wanted: frozenset[str] | None = None
        """The exercises that it goes through next; None for all."""

    def wants(self, exercise: str) -> bool:
        return self.wanted is None or exercise in self.wanted

    def student(self, exercise: str) -> None:
        self._recorder = Recorder(LocalChannel(self._material.reference_program))
        self._log = []

    def begins(self, check: Check) -> RemoteStudent:
        self._keep_script()
        self._check = check.name
        return RemoteStudent(self._recorder)

    def example(self) -> None:
        self._starts.append(len(self._recorder.log))

    def _keep_script(self) -> None:
        log = self._recorder.log
        if self._check:
            self.scripts[self._check] = [[entry for entry in log[start:end] if entry[0][0] != FREE]
                                         for start, end in pairwise([*self._starts, len(log)])]
            self._log += log
        self._recorder.clear()
        self._starts = []

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if not outcome.passed:
                raise AutograderError(f"{self._material.unit.checks_path}: the reference itself fails "
                                      f"{outcome.check.name} for {outcome.case}: {failure_text(outcome.failure)[0]}")
        self._keep_script()
        self._check = ""
        self.probes[exercise] = Probes(self._material, exercise, self._log)
        if self._material.unit.exercises[exercise].forbid:
            self.rehearsals[exercise] = few([request for request, _ in self._log])


class SubmissionSubject:
    """One program for each exercise, run where `open_channel` says; becomes a list of exercise results."""

    def __init__(self, material: Material, programs: Callable[[str], list[dict[str, str]]],
                 open_channel: OpenChannel, reference: ReferenceSubject | None):
        self._material, self._programs, self._open = material, programs, open_channel
        self._probes = reference.probes if reference else {}
        self._scripts = reference.scripts if reference else {}
        self._channel: Any = None
        self.results: list[ExerciseResult] = []

    def program(self, exercise: str) -> list[dict[str, str]]:
        """The cells that its checks run."""
        return self._programs(exercise)

    def student(self, exercise: str) -> None:
        self._channel = self._open(self.program(exercise))
        self._has_seen_hidden = False

    def begins(self, check: Check) -> RemoteStudent:
        if check.public and self._has_seen_hidden:
            # Students read what is said of a public check: the code that says it must not have met hidden inputs.
            _close(self._channel)
            self._has_seen_hidden = False
        self._has_seen_hidden = self._has_seen_hidden or not check.public
        script = self._scripts.get(check.name)
        if script and hasattr(self._channel, "ahead"):
            return RemoteStudent(ForesightChannel(self._channel, script))
        return RemoteStudent(self._channel)

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        try:
            diagnoses = self._diagnoses(exercise, outcomes)
            notes = _load_notes(self._channel.loaded, exercise)
            title = self._material.unit.exercises[exercise].title
            self.results.append(exercise_result(exercise, title, outcomes, diagnoses, notes))
            self.noted(self.results[-1])
        finally:
            _close(self._channel)

    def noted(self, result: ExerciseResult) -> None:
        """Whatever else is asked of the worker before it ends."""

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
                 reference: ReferenceSubject | None):
        super().__init__(material, lambda exercise: program_for(submission, exercise, material.setup, material.given),
                         open_channel, reference)
        self.submission = submission
        self._rehearsals = reference.rehearsals if reference else {}
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def wants(self, exercise: str) -> bool:
        return self.submission.only is None or exercise in self.submission.only

    def program(self, exercise: str) -> list[dict[str, str]]:
        program = super().program(exercise)
        return with_log(program) if exercise in self._rehearsals else program

    def noted(self, result: ExerciseResult) -> None:
        if result.score and result.id in self._rehearsals:  # whoever has no points has got none by a forbidden call
            result.evidence = called(self._channel, self._forbidden(result.id), self._rehearsals[result.id])

    def _add_written_evidence(self) -> None:
        suspects = {result.id: Suspect(self._programs(result.id),
                                       self._material.contract(result.id), self._forbidden(result.id))
                    for result in self.results if result.score and result.id in self._rehearsals}
        for exercise, lines in (written(self._open, suspects) if suspects else {}).items():
            result = next(result for result in self.results if result.id == exercise)
            result.evidence = [*lines, *result.evidence][:MAX_FINDINGS]

    def _forbidden(self, exercise: str) -> list[str]:
        return self._material.unit.exercises[exercise].forbid

    def report(self, sandbox: str, provenance: dict[str, Any]) -> Report:
        self._add_written_evidence()
        timings = {"seconds": round(time.perf_counter() - self._started, 3),
                   "grader_cpu_seconds": round(time.process_time() - self._cpu_started, 3)}
        return Report(student=self.submission.student, unit=self.submission.unit, sandbox=sandbox,
                      score=total(self.results, "score"), max_score=total(self.results, "max_score"),
                      exercises=self.results, notes=list(self.submission.notes),
                      provenance={**provenance, "submission": self.submission.digest, "timings": timings})


def sealed_channels(zygote: Any, limits: Any, exercise_seconds: float) -> OpenChannel:
    """Channels into workers of this zygote."""
    return lambda program: SealedChannel(program, lambda: zygote.spawn(limits), limits.call_seconds, exercise_seconds)


def _close(channel: Any) -> None:
    """End the worker behind a channel, if there is one; the next request starts another."""
    getattr(channel, "close", lambda: None)()


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
        if not isinstance(error, dict):
            continue
        label, line, kind, message = (error.get(key) for key in ("label", "line", "type", "message"))
        if isinstance(label, str) and label.endswith(f"({exercise})"):
            notes.append(f"{label}, line {line}: {kind}: {message}"[:MAX_TEXT])
    return notes[:5]
