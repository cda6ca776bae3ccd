"""Check a namespace: the released checks, run on functions that live in this process, and what came of them.

The notebook, the terminal and the Validate button all come here.
"""
from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.engine import run_checks
from etude.failures import StudentStopped
from etude.outcomes import Check, Outcome
from etude.students import fingerprints
from etude.students.bar import Bar
from etude.students.explain import Calls, Example, can_be_diagnosed, example_of, property_of, why_not_run
from etude.students.findings import Diagnosis, Finding
from etude.students.released import Release
from etude.students.student import NamespaceStudent, RandomState
from etude.students.watch import TimeUp, Watch

CALL_SECONDS, EXERCISE_SECONDS = 5.0, 60.0
"""Where the release says nothing else."""
MAX_PRINTED = 2000
_NO_NAMES = ("{}_fingerprints.json was made by another version of Etude, so this card names no mistake. Get the files "
             "that came with the notebook again, or install the etude that the course asks for.")


class UnknownExercise(Exception):
    """No check is for this exercise. The message is for the student."""


@dataclass(frozen=True)
class Checked:
    """What was found out, and how long it took."""

    findings: list[Finding]
    seconds: float

    @property
    def passed(self) -> bool:
        return bool(self.findings) and all(finding.passed for finding in self.findings)


def check_namespace(namespace: Mapping[str, Any], releases: Sequence[Release], exercises: Sequence[str] = (),
                    bar: Bar | None = None, load_notes: Mapping[str, list[str]] | None = None) -> Checked:
    """Run the public checks of these exercises, of all without any, on the functions in `namespace`.

    Raises `UnknownExercise`, and `CheckFileError` for a check file that has been damaged.
    """
    started = time.perf_counter()
    findings: list[Finding] = []
    known: list[str] = []
    for release in releases:
        subject = _Subject(namespace, release, bar or Bar(), load_notes or {})

        def on_checks(checks: list[Check], subject: _Subject = subject) -> None:
            subject.total = len(checks)
        with RandomState(), subject.watch, contextlib.closing(subject):
            run_checks([release.checks], [subject], exercises=list(exercises) or None, seed=0, on_checks=on_checks)
        findings += subject.findings
        known += [*release.exercises]
    (bar or Bar()).close()
    missing = [name for name in exercises if name not in {finding.exercise for finding in findings}]
    if missing:
        raise UnknownExercise(f"No exercise is called {', '.join(missing)}"
                              + (f"; this notebook has {', '.join(known)}." if known else "."))
    return Checked(findings, time.perf_counter() - started)


class _Subject:
    """The student in this process, as the engine wants it."""

    def __init__(self, namespace: Mapping[str, Any], release: Release, bar: Bar, load_notes: Mapping[str, list[str]]):
        self._release, self._bar, self._load_notes = release, bar, load_notes
        self.watch = Watch(release.limit("call_seconds", CALL_SECONDS),
                           release.limit("exercise_seconds", EXERCISE_SECONDS), self._tell, namespace)
        self._namespace, self._student = namespace, NamespaceStudent(namespace, self.watch)
        self._done, self._doing, self._telling, self.total = 0, "", False, 0
        self._output = _Capped()
        self._redirection = contextlib.ExitStack()
        self.findings: list[Finding] = []

    def student(self, exercise: str) -> NamespaceStudent:
        self._doing = self._release.title(exercise)
        self.watch.restart()
        self._output = _Capped()
        self._redirection.enter_context(contextlib.redirect_stdout(self._output))
        self._redirection.enter_context(contextlib.redirect_stderr(self._output))
        return self._student

    def close(self) -> None:
        """What is printed goes where it went before."""
        self._redirection.close()

    def checked(self, outcome: Outcome) -> None:
        self._done += 1
        self._tell()

    def finished(self, exercise: str, outcomes: Sequence[Outcome]) -> None:
        self.close()
        self.watch.restart()  # what follows runs a few examples more: to name the mistake, to hear what they print
        examples = [Example() if outcome.passed else self._example(outcome) for outcome in outcomes]
        properties = [property_of(outcome, self._namespace, example)
                      for outcome, example in zip(outcomes, examples, strict=True)]
        failed = [outcome for outcome in outcomes if not outcome.passed]
        first = next((example for one, example in zip(outcomes, examples, strict=True) if not one.passed), Example())
        not_run = why_not_run(failed) if len(failed) == len(outcomes) else ""
        hints = len(self._release.hints(exercise))
        diagnosis, notes = self._diagnosis(exercise, outcomes)
        self.findings.append(Finding(
            exercise, self._release.title(exercise), properties, diagnosis,
            [*self._load_notes.get(exercise, []), *notes], not_run=not_run, hints=hints, label=self._release.label,
            arguments=first.arguments))

    def _diagnosis(self, exercise: str, outcomes: Sequence[Outcome]) -> tuple[Diagnosis | None, list[str]]:
        if not any(map(can_be_diagnosed, outcomes)) or any(isinstance(o.failure, StudentStopped) for o in outcomes):
            return None, []
        with contextlib.suppress(StudentStopped, TimeUp), self.watch.call("a probe"):
            try:
                return fingerprints.diagnose(exercise, self._release.fingerprints, self._namespace), []
            except fingerprints.OtherRules:
                return None, [_NO_NAMES.format(self._release.name)]
        return None, []

    def _example(self, outcome: Outcome) -> Example:
        """What the failing check gives to the student's functions and what these print: it is run once more."""
        calls, output = Calls(), _Capped()
        if can_be_diagnosed(outcome):
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                with contextlib.suppress(Exception, TimeUp):
                    outcome.replay(NamespaceStudent(self._namespace, self.watch, calls.note))
        return example_of(outcome.case, calls, output.text())

    def _tell(self) -> None:
        if self._telling:  # the clock ticks while a bar is drawn, too
            return
        self._telling = True
        try:
            self._bar.update(self._done, self.total, self._doing)
        finally:
            self._telling = False


class _Capped(io.StringIO):
    """The first part of what is printed."""

    def write(self, text: str) -> int:
        room = MAX_PRINTED - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)

    def text(self) -> str:
        more = "\n…" if self.tell() >= MAX_PRINTED else ""
        return self.getvalue().rstrip() + more
