"""Who goes through the checks after the reference: one subject for each submission."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from autograder.errors import AutograderError
from autograder.grading.assemble import exercise_result, total
from autograder.grading.evidence import MAX_FINDINGS, Suspect, called, parser, with_log, written
from autograder.grading.reference import ReferenceSubject
from autograder.grading.seeds import student_seed
from autograder.remote.channel import MAX_TEXT, Channel, LocalChannel, SealedChannel
from autograder.remote.foresight import ForesightChannel
from autograder.remote.student import RemoteStudent
from autograder.report.model import Diagnosis, ExerciseResult, Report
from autograder.solution.material import Material
from autograder.submission.cells import Submission
from autograder.submission.program import program_for
from etude.failures import MissingName, StudentError, StudentStopped
from etude.kernels import LABEL
from etude.outcomes import Check, Outcome, failure_text

OpenChannel = Callable[..., Any]
"""A program, and a worker that may run it first (or None) -> the channel to whatever runs it."""


class SubmissionSubject:
    """One program for each exercise, run where `open_channel` says; becomes a list of exercise results.

    A worker all of whose answers were right, and whose program only defines, runs the next exercise's program, too. As
    soon as a check has to be run, it runs in a worker of the exercise's own: what one exercise does is never the
    reason why another loses points, and what is said of it comes from code that has seen nothing else.
    """

    def __init__(self, material: Material, programs: Callable[[str], list[dict[str, str]]],
                 open_channel: OpenChannel, reference: ReferenceSubject | None):
        self._material, self._programs, self._open = material, programs, open_channel
        self._probes = reference.probes if reference else {}
        self._scripts = reference.scripts if reference else {}
        self._rounding = reference.rounding if reference else None
        self._to_be_run = reference.to_be_run if reference else set()
        self._channel: Any = None
        self._ahead: ForesightChannel | None = None
        self._spare: Any = None
        """A worker that may run the next program."""
        self.results: list[ExerciseResult] = []

    def program(self, exercise: str) -> list[dict[str, str]]:
        """The cells that its checks run."""
        return self._programs(exercise)

    def student(self, exercise: str) -> None:
        lent, self._spare = self._spare, None
        self._is_shared = lent is not None
        self._channel = self._open(self.program(exercise), **({"lent": lent} if lent else {}))
        self._has_seen_hidden, self._has_run_checks, self._was_right = False, False, False

    def begins(self, check: Check) -> RemoteStudent:
        script = self._scripts.get(check.name)
        can_ask_ahead = script is not None and hasattr(self._channel, "ahead")
        self._ahead = ForesightChannel(self._channel, script, self._was_right) if can_ask_ahead else None
        return RemoteStudent(self._ahead or self._channel)

    def passes(self, check: Check) -> bool:
        """Whether every answer is the reference's, but for rounding that this check does not see."""
        known = self._was_right = self._agrees(check)
        if not known:
            self._prepare_to_run(check)
        self._has_seen_hidden = self._has_seen_hidden or not check.public
        return known

    def _agrees(self, check: Check) -> bool:
        if self._ahead is None or check.name in self._to_be_run:
            return False
        try:
            agreement = self._ahead.agrees()
        except StudentStopped:  # the check itself will meet it, and say so
            return False
        if self._is_shared and self._channel.loaded.get("errors"):
            return False  # an error may be the doing of the program before
        return agreement is not None and self._rounding.is_decided(check.name, agreement)

    def _prepare_to_run(self, check: Check) -> None:
        self._has_run_checks = True
        if self._is_shared:
            self._channel.restart()
        elif check.public and self._has_seen_hidden:
            # Students read what is said of a public check: the code that says it must not have met hidden inputs.
            _close(self._channel)
        else:
            return
        self._is_shared = self._has_seen_hidden = False
        if self._ahead is not None:
            self._ahead.forget()

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        try:
            diagnoses = self._diagnoses(exercise, outcomes)
            notes = _load_notes(self._channel.loaded, exercise)
            title = self._material.unit.exercises[exercise].title
            label = LABEL if self._material.unit.triton else ""
            self.results.append(exercise_result(exercise, title, outcomes, diagnoses, notes, label))
            self.noted(self.results[-1])
            if not self._has_run_checks and (self._channel.loaded or {}).get("only_defines") is True:
                self._spare = _handed_on(self._channel)
        finally:
            _close(self._channel)

    def noted(self, result: ExerciseResult) -> None:
        """Whatever else is asked of the worker before it ends."""

    def close(self) -> None:
        """End the worker that is left."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def _diagnoses(self, exercise: str, outcomes: list[Outcome]) -> dict[str, Diagnosis]:
        wrong = [o for o in outcomes if o.failure is not None and _can_be_diagnosed(o.failure)]
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
        self._written: dict[str, list[str]] | None = None
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def wants(self, exercise: str) -> bool:
        return self.submission.only is None or exercise in self.submission.only

    def student(self, exercise: str) -> None:
        if self._written is None:
            self._read_what_is_written()
        super().student(exercise)

    def program(self, exercise: str) -> list[dict[str, str]]:
        program = super().program(exercise)
        return with_log(program) if exercise in self._rehearsals else program

    def seed(self, exercise: str) -> int | None:
        """The seed of this student's own examples, where the exercise has such."""
        own = exercise in self._material.unit.seeds_per_student
        return student_seed(self.submission.student) if own else None

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        super().finished(exercise, outcomes)
        if self.seed(exercise) is not None:
            self._confirm([outcome for outcome in outcomes if outcome.failure is not None])

    def _confirm(self, failed: Sequence[Outcome]) -> None:
        """Raise unless the reference passes where the student failed: it has not met a student's own examples yet."""
        for outcome in failed:
            try:
                outcome.replay(RemoteStudent(LocalChannel(self._material.reference_program)))
            except Exception as error:
                raise AutograderError(f"{self._material.unit.checks_path}: the reference itself fails "
                                      f"{outcome.check.name} for {outcome.case}: {failure_text(error)[0]}") from None

    def noted(self, result: ExerciseResult) -> None:
        if result.score and result.id in self._rehearsals:  # whoever has no points has got none by a forbidden call
            result.evidence = called(self._channel, self._forbidden(result.id), self._rehearsals[result.id])

    def _read_what_is_written(self) -> None:
        """Before any of the student's code runs; the worker, which has run none, may go on with it."""
        self._written = {}
        suspects = {exercise: Suspect(self._programs(exercise), self._material.contract(exercise),
                                      self._forbidden(exercise))
                    for exercise in self._rehearsals if self.wants(exercise)}
        if suspects:
            channel = self._open(parser())
            self._written = written(channel, suspects)
            self._spare = _handed_on(channel)

    def _add_written_evidence(self) -> None:
        for result in self.results:
            if result.score and result.id in self._written:
                result.evidence = [*self._written[result.id], *result.evidence][:MAX_FINDINGS]

    def _forbidden(self, exercise: str) -> list[str]:
        return self._material.unit.exercises[exercise].forbid

    def report(self, sandbox: str, provenance: dict[str, Any]) -> Report:
        self.close()
        self._add_written_evidence()
        timings = {"seconds": round(time.perf_counter() - self._started, 3),
                   "grader_cpu_seconds": round(time.process_time() - self._cpu_started, 3)}
        return Report(student=self.submission.student, unit=self.submission.unit, sandbox=sandbox,
                      score=total(self.results, "score"), max_score=total(self.results, "max_score"),
                      exercises=self.results, notes=list(self.submission.notes),
                      provenance={**provenance, "submission": self.submission.digest, "timings": timings})


def sealed_channels(zygote: Any, limits: Any, exercise_seconds: float) -> OpenChannel:
    """Channels into workers of this zygote."""
    return lambda program, lent=None: SealedChannel(program, lambda: zygote.spawn(limits), limits.call_seconds,
                                                    exercise_seconds, lent)


def _close(channel: Any) -> None:
    """End the worker behind a channel, if there is one; the next request starts another."""
    getattr(channel, "close", lambda: None)()


def _handed_on(channel: Any) -> Any:
    """The worker behind a channel, for another program; None if there is none."""
    return getattr(channel, "hand_on", lambda: None)()


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
