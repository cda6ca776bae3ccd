"""What a whole class shows: how scores spread, which checks are hard, which mistakes are common."""
from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from autograder.report.model import CheckResult, ExerciseResult, Report
from autograder.report.wording import fraction, unit_title

BINS = 10
ENOUGH = 2
"""Submissions from which on "everybody" and "nobody" say something."""


@dataclass
class CheckStats:
    """One check over all submissions."""

    title: str
    public: bool
    passed: int = 0
    total: int = 0
    pending: int = 0
    """Submissions whose points for it are not settled; they are not in the total."""
    diagnoses: Counter[str] = field(default_factory=Counter)

    @property
    def commonest(self) -> tuple[str, int] | None:
        """The title of the mistake named most often here, and how often."""
        return min(self.diagnoses.items(), key=lambda item: (-item[1], item[0]), default=None)

    @property
    def extreme(self) -> str:
        """`everybody fails`, `nobody fails`, or nothing: such a check does not tell one submission from another."""
        if self.total < ENOUGH or 0 < self.passed < self.total:
            return ""
        return "nobody fails" if self.passed else "everybody fails"


@dataclass
class ExerciseStats:
    """One exercise over all submissions."""

    id: str
    title: str
    max_score: float
    fractions: list[float] = field(default_factory=list)
    checks: dict[str, CheckStats] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """The mean share of the points."""
        return statistics.fmean(self.fractions)

    @property
    def solved(self) -> int:
        """How many submissions have all the points."""
        return sum(share >= 1 for share in self.fractions)


@dataclass
class Mistake:
    """A known mistake and who made it."""

    title: str
    explanation: str
    exercise: str
    students: list[str] = field(default_factory=list)
    example: CheckResult | None = None
    """The plainest failure that shows it, without the name of the student whose it is."""


@dataclass
class UnitStats:
    """One unit: its submissions by name of student, and what they add up to."""

    unit: str
    reports: list[Report]
    exercises: dict[str, ExerciseStats] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def title(self) -> str:
        return unit_title(self.unit)

    @property
    def mean(self) -> float:
        return statistics.fmean(report.score for report in self.reports)

    @property
    def median(self) -> float:
        return statistics.median(report.score for report in self.reports)

    @property
    def max_score(self) -> float:
        return max(report.max_score for report in self.reports)

    @property
    def full_marks(self) -> int:
        return sum(report.score >= report.max_score for report in self.reports)

    @property
    def advisory(self) -> int:
        """How many submissions were graded without an enforced sandbox."""
        return sum(report.sandbox == "ADVISORY" for report in self.reports)

    @property
    def pending(self) -> int:
        """How many submissions have points for speed that are not settled."""
        return sum(any(exercise.status == "pending" for exercise in report.exercises) for report in self.reports)

    def extremes(self, extreme: str) -> list[tuple[ExerciseStats, CheckStats]]:
        """The checks that are failed by everybody, or by nobody."""
        return [(exercise, check) for exercise in self.exercises.values() for check in exercise.checks.values()
                if check.extreme == extreme]

    @property
    def histogram(self) -> list[int]:
        """Submissions by tenth of the points; full marks belong to the last."""
        shares = (fraction(report.score, report.max_score) for report in self.reports)
        counts = Counter(min(int(share * BINS + 1e-9), BINS - 1) for share in shares)
        return [counts[index] for index in range(BINS)]


def by_unit(reports: Iterable[Report], keep: Callable[[Report], Report] = lambda report: report) -> list[UnitStats]:
    """The statistics of every unit among the reports, in the order in which units come.

    Of a report there stays what `keep` makes of it. But for that order, theirs plays no part.
    """
    units: dict[str, _Counting] = {}
    for report in reports:
        units.setdefault(report.unit, _Counting(report.unit)).add(report, keep(report))
    return [counting.result() for counting in units.values()]


def outline(report: Report) -> Report:
    """The report with its failed checks only, and of these no values: little to keep of a large class."""
    exercises = [exercise.model_copy(update={
        "evidence": [], "notes": [],
        "checks": [check.model_copy(update={"counterexample": None, "message": ""}) for check in failed]})
        for exercise in report.exercises if (failed := [check for check in exercise.checks if check.failed])]
    return report.model_copy(update={"exercises": exercises, "provenance": {}})


def by_student(units: list[UnitStats]) -> list[tuple[str, list[Report | None]]]:
    """Every student with a report for each unit, or none, in alphabetical order."""
    rows: dict[str, list[Report | None]] = {}
    for index, unit in enumerate(units):
        for report in unit.reports:
            rows.setdefault(report.student, [None] * len(units))[index] = report
    return sorted(rows.items(), key=lambda row: row[0].casefold())


class _Counting:
    """The statistics of one unit while its reports come in."""

    def __init__(self, unit: str):
        self._stats = UnitStats(unit, [])
        self._mistakes: dict[tuple[str, str], Mistake] = {}
        self._examples: dict[tuple[str, str], tuple[Any, ...]] = {}
        """How good the example of each mistake is, and whose."""

    def add(self, report: Report, kept: Report) -> None:
        self._stats.reports.append(kept)
        for exercise in report.exercises:
            _count_exercise(self._stats, exercise)
            self._count_mistakes(report.student, exercise)

    def result(self) -> UnitStats:
        stats = self._stats
        stats.reports.sort(key=lambda report: report.student.casefold())
        for mistake in self._mistakes.values():
            mistake.students.sort(key=str.casefold)
        for exercise in stats.exercises.values():
            exercise.fractions.sort()
        place = {id: index for index, id in enumerate(stats.exercises)}
        ranked = sorted(self._mistakes.items(), key=lambda item: (-len(item[1].students), place[item[0][0]], item[0]))
        stats.mistakes = [mistake for _, mistake in ranked]
        return stats

    def _count_mistakes(self, student: str, exercise: ExerciseResult) -> None:
        named = {check.diagnosis.id: check.diagnosis for check in exercise.checks if check.diagnosis}
        for name, diagnosis in named.items():
            key = exercise.id, name
            fresh = Mistake(diagnosis.title.rstrip(". "), diagnosis.explanation, exercise.title)
            mistake = self._mistakes.setdefault(key, fresh)
            mistake.students.append(student)
            shown = [check for check in exercise.checks if check.diagnosis and check.diagnosis.id == name]
            best = min(shown, key=_plainness)
            if key not in self._examples or (*_plainness(best), student) < self._examples[key]:
                self._examples[key] = *_plainness(best), student
                mistake.example = _anonymous(best, student)


def _count_exercise(stats: UnitStats, exercise: ExerciseResult) -> None:
    known = ExerciseStats(exercise.id, exercise.title, exercise.max_score)
    found = stats.exercises.setdefault(exercise.id, known)
    found.fractions.append(fraction(exercise.score, exercise.max_score))
    for check in exercise.checks:
        _count_check(found.checks.setdefault(check.name, CheckStats(check.title, check.public)), check)


def _count_check(stats: CheckStats, check: CheckResult) -> None:
    stats.pending += check.pending
    stats.total += not check.pending
    stats.passed += check.passed
    if check.diagnosis:
        stats.diagnoses[check.diagnosis.title] += 1


def _plainness(check: CheckResult) -> tuple[bool, bool, int, bool]:
    """What makes a good example, the best first: it is surely the mistake, has values, few of them, and is public."""
    found = check.counterexample
    values = sum(len(view.text) or 10**6 for view in found.tensors) if found else 0
    return check.diagnosis.certainty != "all probes", not (found and found.difference), values, not check.public


def _anonymous(check: CheckResult, student: str) -> CheckResult:
    """The check without the student's name: only the message may quote what the student wrote."""
    name = re.compile(rf"(?<!\w){re.escape(student)}(?!\w)", re.IGNORECASE)
    return check.model_copy(update={"message": name.sub("…", check.message)})
