"""What a report in the store still says, and how it becomes a whole report again.

A result is kept with what it hangs on (`exercise_keys`), so a run grades only the exercises for which that has changed.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autograder.grading.assemble import total
from autograder.grading.exercise_keys import ExerciseKeys
from autograder.report.model import ExerciseResult, Report
from autograder.submission.cells import Submission

_OF_THE_SANDBOX = ("sandbox_layers",)


@dataclass
class Plan:
    """What becomes of submissions whose earlier reports are known."""

    kept: list[Report] = field(default_factory=list)
    """Reports that hold as they stand."""
    renewed: list[Report] = field(default_factory=list)
    """Reports whose results all hold, though something else about them has changed: the file's bytes, say."""
    rest: list[Submission] = field(default_factory=list)
    """To be graded; `only` names the exercises where some results hold."""
    partial: dict[tuple[str, str], Report] = field(default_factory=dict)
    """By student and unit, the earlier report of those of which only some exercises are to be graded."""

    orders: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    """By unit, the exercises as a report has them."""

    def add(self, submission: Submission, stored: Report | None, keys: ExerciseKeys,
            decisive: Mapping[str, Any]) -> None:
        """Decide about one submission. `stored` may be anybody's report; it counts only where its keys do."""
        if stored is None:
            self.rest.append(submission)
            return
        self.orders[submission.unit] = keys.order
        wanted = keys.of(submission)
        holding = _holding(stored, wanted, decisive)
        says = {**decisive, "submission": submission.digest, "exercises": wanted}
        if keys.order is None and len(holding) < len(wanted):
            holding = set()
        if len(holding) == len(wanted):
            same = all(stored.provenance.get(name) == value for name, value in says.items())
            if same:
                self.kept.append(stored)
            else:
                self.renewed.append(_with(stored, submission, stored.exercises, says, keys))
        elif holding:
            self.partial[submission.student, submission.unit] = stored
            self.rest.append(replace(submission, only=frozenset(wanted.keys() - holding)))
        else:
            self.rest.append(submission)


def completed(stored: Report, graded: Report, order: Iterable[str] | None) -> Report | None:
    """The report of a submission of which some exercises were graded anew: the other results come from `stored`.

    None where they were had under another sandbox, so that they cannot stand side by side.
    """
    if stored.sandbox != graded.sandbox or any(stored.provenance.get(name) != graded.provenance.get(name)
                                               for name in _OF_THE_SANDBOX):
        return None
    results = {result.id: result for result in (*stored.exercises, *graded.exercises)}
    exercises = [results[id] for id in order or ()]
    return graded.model_copy(update={"exercises": exercises, **_totals(exercises)})


def _holding(stored: Report, wanted: Mapping[str, str], decisive: Mapping[str, Any]) -> set[str]:
    """The exercises of which a report has a result that grading again could not change."""
    known = stored.provenance.get("exercises")
    # The course's files are in `decisive` as a whole; of them, an exercise has a part, which is in its key.
    same = all(stored.provenance.get(name) == value for name, value in decisive.items() if name != "checks")
    if not same or not isinstance(known, dict):
        return set()
    ids = {result.id for result in stored.exercises if result.status != "error"}
    return {id for id, key in wanted.items() if id in ids and known.get(id) == key}


def _with(stored: Report, submission: Submission, results: list[ExerciseResult], says: Mapping[str, Any],
          keys: ExerciseKeys) -> Report:
    by_id = {result.id: result for result in results}
    exercises = [by_id[id] for id in keys.order] if keys.order is not None else results
    return stored.model_copy(update={"exercises": exercises, "notes": list(submission.notes), **_totals(exercises),
                                     "provenance": {**stored.provenance, **says}})


def _totals(exercises: list[ExerciseResult]) -> dict[str, float]:
    return {"score": total(exercises, "score"), "max_score": total(exercises, "max_score")}
