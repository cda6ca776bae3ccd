"""Marks: what the stored scores amount to under the policy of course.yml, and why."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from autograder.classroom.tables import read_table
from autograder.course import Course, Late, nearest
from autograder.errors import UsageError
from autograder.moments import moment
from autograder.one_line import one_line
from autograder.report.model import Report
from autograder.report.wording import number

DAY = timedelta(days=1)
Key = tuple[str, str]
"""Student and unit."""


@dataclass(frozen=True)
class Attempt:
    """One graded submission: its report, the results that have it, and when it was handed in, if that is known."""

    report: Report
    results: str
    submitted: datetime | None = None


@dataclass(frozen=True)
class Marked:
    """An attempt under the policy."""

    attempt: Attempt
    deadline: datetime | None
    extended: bool
    days_late: int
    """Days begun after the deadline; 0 within the grace."""
    penalty: Decimal
    """The share of the score that is lost."""

    @property
    def mark(self) -> Decimal:
        kept = Decimal(str(self.attempt.report.score)) * (1 - self.penalty)
        return kept.quantize(Decimal("0.01"), ROUND_HALF_UP)


@dataclass(frozen=True)
class Mark:
    """A student's mark for a unit; `marked` is missing where there can be none."""

    student: str
    unit: str
    marked: Marked | None
    why: str


class Times(dict[tuple[str, str, str], datetime]):
    """When something was handed in, by student, unit and results."""


def read_times(path: Path, results: Sequence[str]) -> Times:
    """The table or folder of `--submitted`. Raises `UsageError` for a row that names no results, or some twice."""
    if path.is_dir():
        return _nbgraders_times(path, results)
    times = Times()
    for row in read_table(path, ("student", "unit", "submitted"), ("results",)):
        name = row.values.get("results", "")
        if not name and len(results) > 1:
            raise row.fault(f"results is empty: which of {', '.join(results)} is it?")
        name = name or results[0]
        if name not in results:
            raise row.fault(f"results: {name!r} is none of {', '.join(results)}")
        key = (row.values["student"], row.values["unit"], name)
        if key in times:
            raise row.fault(f"{key[0]}, {key[1]}, {name}: given twice")
        times[key] = row.moment("submitted")
    return times


def _nbgraders_times(folder: Path, results: Sequence[str]) -> Times:
    """The times in nbgrader's `submitted/<student>/<unit>/timestamp.txt`, which are in UTC."""
    if len(results) > 1:
        raise UsageError(f"{folder}: a folder has the times of one folder of results; several need a table")
    times = Times()
    for path in sorted(folder.glob("*/*/timestamp.txt")):
        text = path.read_bytes()[:100].decode("utf-8", "replace").strip()
        try:
            submitted = moment(text.replace(" UTC", "Z").replace(" ", "T"))
        except ValueError as error:
            raise UsageError(f"{path}: {one_line(text)!r}: {error}") from None
        times[path.parts[-3], path.parts[-2], results[0]] = submitted
    if not times:
        raise UsageError(f"{folder}: no times; expected nbgrader's <student>/<unit>/timestamp.txt")
    return times


def read_extensions(course: Course) -> dict[Key, datetime]:
    """The table of `policy.extensions`. Raises `UsageError` for a row that could not mean what it says."""
    if course.policy.extensions is None:
        return {}
    until: dict[Key, datetime] = {}
    for row in read_table(course.root / course.policy.extensions, ("student", "unit", "until")):
        student, unit = row.values["student"], row.values["unit"]
        deadline = course.policy.deadline(unit)
        if deadline is None:
            hint = "has no deadline to extend" if unit in course.units else f"is unknown{nearest(unit, course.units)}"
            raise row.fault(f"unit {unit!r} {hint}")
        if (student, unit) in until:
            raise row.fault(f"{student}, {unit}: given twice")
        until[student, unit] = row.moment("until")
        if until[student, unit] < deadline:
            raise row.fault(f"until {row.values['until']} is before the deadline, {deadline.isoformat()}")
    return until


def marks(course: Course, attempts: Sequence[Attempt], extensions: Mapping[Key, datetime]) -> list[Mark]:
    """A mark for every student and unit among the attempts, by unit and student."""
    grouped: dict[Key, list[Attempt]] = {}
    for attempt in attempts:
        grouped.setdefault((attempt.report.student, attempt.report.unit), []).append(attempt)
    order = {unit: index for index, unit in enumerate(course.units)}
    for _, unit in grouped:
        course.unit(unit)
    return [_mark(course, key, grouped[key], extensions.get(key))
            for key in sorted(grouped, key=lambda key: (order[key[1]], key[0].casefold(), key[0]))]


def _mark(course: Course, key: Key, attempts: list[Attempt], extension: datetime | None) -> Mark:
    regular = course.policy.deadline(key[1])
    deadline = extension or regular
    by_time = course.policy.attempts == "latest" and len(attempts) > 1
    unknown = [attempt.results for attempt in attempts if attempt.submitted is None]
    if unknown and (deadline or by_time):
        return Mark(*key, None, f"no mark: no time of submission for {', '.join(unknown)}")
    marked = [_under(course.policy.late, attempt, deadline, extension is not None) for attempt in attempts]
    if by_time:
        times = [one.attempt.submitted for one in marked]
        if len(set(times)) < len(times):
            return Mark(*key, None, "no mark: two attempts were handed in at the same time; which is the latest?")
        chosen = max(marked, key=lambda one: one.attempt.submitted)
    else:
        chosen = max(marked, key=lambda one: one.mark)  # the first of equal ones
    return Mark(*key, chosen, _why(chosen, marked, course.policy.attempts))


def _under(late: Late | None, attempt: Attempt, deadline: datetime | None, extended: bool) -> Marked:
    over = attempt.submitted - deadline if deadline and attempt.submitted else timedelta()
    grace = timedelta(hours=late.grace_hours) if late else timedelta()
    days = math.ceil(over / DAY) if over > grace else 0
    share = min(Decimal(str(late.most)), Decimal(str(late.per_day)) * days) if late else Decimal(0)
    return Marked(attempt, deadline, extended, days, share)


def _why(chosen: Marked, all_: Sequence[Marked], rule: str) -> str:
    report, parts = chosen.attempt.report, []
    parts.append(f"{number(report.score)} of {number(report.max_score)} points")
    if chosen.deadline is not None:
        kind = "the extension" if chosen.extended else "the deadline"
        over = chosen.attempt.submitted - chosen.deadline
        if over <= timedelta():
            parts.append(f"in time for {kind}")
        elif not chosen.days_late:
            parts.append(f"after {kind}, within the grace")
        else:
            lost = f"{(100 * chosen.penalty).normalize():f} % lost" if chosen.penalty else "nothing lost"
            parts.append(f"{chosen.days_late} day{'s' * (chosen.days_late > 1)} after {kind}: {lost}")
    if len(all_) > 1:
        others = ", ".join(f"{one.attempt.results}: {one.mark.normalize():f}" for one in all_ if one is not chosen)
        parts.append(f"{rule} of {len(all_)} attempts ({others})")
    if any(exercise.status != "graded" for exercise in report.exercises):
        parts.append("an exercise is pending or was not graded")
    if report.sandbox == "ADVISORY":
        parts.append("graded without an enforced sandbox")
    return "; ".join(parts)
