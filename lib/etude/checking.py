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

from etude import fingerprints
from etude.bar import Bar
from etude.engine import Check, Outcome, run_checks
from etude.explain import arguments_of, can_be_diagnosed, property_of, why_not_run
from etude.failures import StudentStopped
from etude.findings import Diagnosis, Finding
from etude.released import Release
from etude.student import NamespaceStudent, RandomState
from etude.watch import TimeUp, Watch

CALL_SECONDS, EXERCISE_SECONDS = 5.0, 60.0
"""Where the release says nothing else."""
MAX_PRINTED = 2000


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
        self._namespace, self._release, self._bar, self._load_notes = namespace, release, bar, load_notes
        self.watch = Watch(release.limit("call_seconds", CALL_SECONDS),
                           release.limit("exercise_seconds", EXERCISE_SECONDS), self._tell, namespace)
        self._student = NamespaceStudent(namespace, self.watch)
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

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        self.close()
        self.watch.restart()  # what follows runs a few examples more: to name the mistake, to hear what they print
        properties = [property_of(outcome, self._namespace, self._printed) for outcome in outcomes]
        failed = [outcome for outcome in outcomes if not outcome.passed]
        not_run = why_not_run(failed) if len(failed) == len(outcomes) else ""
        hints = len(self._release.hints(exercise))
        self.findings.append(Finding(
            exercise, self._release.title(exercise), properties, self._diagnosis(exercise, outcomes),
            list(self._load_notes.get(exercise, [])), not_run=not_run, hints=hints,
            arguments=arguments_of(failed[0]) if failed else {}))

    def _diagnosis(self, exercise: str, outcomes: list[Outcome]) -> Diagnosis | None:
        if not any(map(can_be_diagnosed, outcomes)) or any(isinstance(o.failure, StudentStopped) for o in outcomes):
            return None
        with contextlib.suppress(StudentStopped, TimeUp), self.watch.call("a probe"):
            return fingerprints.diagnose(exercise, self._release.fingerprints, self._namespace)
        return None

    def _printed(self, outcome: Outcome) -> str:
        """What the student's code prints on the failing example; prints of the other examples are left out."""
        if not self._output.tell() or isinstance(outcome.failure, StudentStopped):
            return ""
        output = _Capped()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            with contextlib.suppress(Exception, TimeUp):
                outcome.replay(self._student)
        return output.text()

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
