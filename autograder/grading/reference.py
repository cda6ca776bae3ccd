"""The reference goes through the checks first: it must pass, and what it was asked and answered serves all others."""
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from autograder.errors import AutograderError
from autograder.grading.diagnosis import Probes
from autograder.grading.evidence import few
from autograder.grading.rounding import Rounding
from autograder.remote.channel import LocalChannel, RawReply, RawRequest, Recorder
from autograder.remote.script import Script
from autograder.remote.student import RemoteStudent
from autograder.solution.material import Material
from etude.executor import FREE
from etude.outcomes import Check, Outcome, failure_text


class ReferenceSubject:
    """The reference as a student, in this process: it must pass, and what it was asked makes the probes."""

    def __init__(self, material: Material):
        self._material = material
        self._recorder: Recorder | None = None
        self._log: list[tuple[RawRequest, RawReply]] = []
        self._check = ""
        self.probes: dict[str, Probes] = {}
        self._starts: list[int] = []
        self._again: dict[str, Callable[[Any], BaseException | None]] = {}
        self.rounding = Rounding(lambda: LocalChannel(material.reference_program), self._again)
        self.scripts: dict[str, Script] = {}
        """What each check asked of the reference and what it answered, by the check's name."""
        self.to_be_run: set[str] = set()
        """Checks that say something of what they pass, and so have to run."""
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
            self.scripts[self._check] = Script([[entry for entry in log[start:end] if entry[0][0] != FREE]
                                                for start, end in pairwise([*self._starts, len(log)])])
            self._log += log
        self._recorder.clear()
        self._starts = []

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.failure is not None:
                raise AutograderError(f"{self._material.unit.checks_path}: the reference itself fails "
                                      f"{outcome.check.name} for {outcome.case}: {failure_text(outcome.failure)[0]}")
        self._keep_script()
        self._again |= {outcome.check.name: outcome.again for outcome in outcomes}
        self.to_be_run |= {outcome.check.name for outcome in outcomes if outcome.said}
        self._check = ""
        self.probes[exercise] = Probes(self._material, exercise, self._log)
        if self._material.unit.exercises[exercise].forbid:
            self.rehearsals[exercise] = few([request for request, _ in self._log])
        if exercise in self._material.unit.seeds_per_student:
            for outcome in outcomes:  # everybody is asked something else
                self.scripts.pop(outcome.check.name, None)
