"""Two gradings of the same submissions: whose score changed, by which checks, and what was said before and after."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autograder.report.model import CheckResult, ExerciseResult, Report

DECISIVE = {"checks": "checks, mistakes or limits", "seed_sha256": "seed", "versions": "versions",
            "grader": "the grader's own code"}
"""What a grade depends on beside the submission, by its name in a report's provenance."""


@dataclass(frozen=True)
class CheckChange:
    """A check with another verdict, other points or another diagnosis; one side is missing where it is new or gone."""

    name: str
    old: CheckResult | None
    new: CheckResult | None


@dataclass(frozen=True)
class ExerciseChange:
    """An exercise of which something changed; one side is missing where the other has no such exercise."""

    id: str
    old: ExerciseResult | None
    new: ExerciseResult | None
    checks: tuple[CheckChange, ...]


@dataclass(frozen=True)
class Change:
    """A report that is not what it was."""

    old: Report
    new: Report
    exercises: tuple[ExerciseChange, ...]

    @property
    def of_score(self) -> bool:
        return self.old.score != self.new.score


@dataclass
class Comparison:
    """Everything that two gradings tell about each other."""

    changes: list[Change] = field(default_factory=list)
    same: int = 0
    """Reports with the same scores, verdicts and diagnoses."""
    grounds: dict[str, set[str]] = field(default_factory=dict)
    """By unit, what differs that grades depend on: keys of `DECISIVE`."""
    other_submission: list[tuple[str, str]] = field(default_factory=list)
    """Student and unit where another file was graded: a difference says nothing about the checks."""
    only_old: list[tuple[str, str]] = field(default_factory=list)
    only_new: list[tuple[str, str]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every report has its counterpart, and nothing but the checks differs."""
        others = {ground for grounds in self.grounds.values() for ground in grounds} - {"checks"}
        return not (self.other_submission or self.only_old or self.only_new or others)


def compare(old: Sequence[Report], new: Sequence[Report]) -> Comparison:
    """The comparison, by unit and student."""
    before, after = _by_key(old), _by_key(new)
    found = Comparison(only_old=sorted(before.keys() - after.keys()), only_new=sorted(after.keys() - before.keys()))
    for key in sorted(before.keys() & after.keys(), key=lambda key: (key[1], key[0].casefold(), key[0])):
        one, other = before[key], after[key]
        differing = {name for name in DECISIVE if one.provenance.get(name) != other.provenance.get(name)}
        found.grounds.setdefault(one.unit, set()).update(differing)
        if one.provenance.get("submission") != other.provenance.get("submission"):
            found.other_submission.append(key)
            continue
        exercises = tuple(_changed_exercises(one, other))
        if exercises or one.score != other.score:
            found.changes.append(Change(one, other, exercises))
        else:
            found.same += 1
    return found


def _by_key(reports: Iterable[Report]) -> dict[tuple[str, str], Report]:
    return {(report.student, report.unit): report for report in reports}


def _changed_exercises(old: Report, new: Report) -> Iterable[ExerciseChange]:
    before, after = ({exercise.id: exercise for exercise in report.exercises} for report in (old, new))
    for id in dict.fromkeys([*before, *after]):
        one, other = before.get(id), after.get(id)
        checks = tuple(_changed_checks(one, other))
        if checks or one is None or other is None or (one.score, one.status) != (other.score, other.status):
            yield ExerciseChange(id, one, other, checks)


def _changed_checks(old: ExerciseResult | None, new: ExerciseResult | None) -> Iterable[CheckChange]:
    before, after = ({check.name: check for check in exercise.checks} if exercise else {} for exercise in (old, new))
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if one is None or other is None or _said(one) != _said(other):
            yield CheckChange(name, one, other)


def _said(check: CheckResult) -> tuple[object, ...]:
    """What counts as a change: not the examples, of which another seed draws others."""
    return check.passed, check.pending, check.points, check.score, check.diagnosis and check.diagnosis.id
