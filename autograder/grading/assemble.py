"""Outcomes of checks -> the report's models. What a student's tensors and errors look like on paper is decided here."""
from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch

from autograder.report.model import CheckResult, Counterexample, Diagnosis, Difference, ExerciseResult, TensorView
from autograder.report.wording import PENDING_CHECK
from etude import failures
from etude.outcomes import Outcome, failure_text
from etude.strategies import Case

SMALL = 48
"""Tensors up to so many elements are printed in full."""


def exercise_result(id: str, title: str, outcomes: Sequence[Outcome], diagnoses: dict[str, Diagnosis],
                    notes: Sequence[str], label: str = "") -> ExerciseResult:
    """The result of one exercise; `diagnoses` by check name."""
    checks = [_check_result(outcome, diagnoses.get(outcome.check.name)) for outcome in outcomes]
    status = "pending" if any(check.pending for check in checks) else "graded"
    return ExerciseResult(id=id, title=title, score=total(checks, "score"), max_score=total(checks, "points"),
                          status=status, label=label, checks=checks, notes=list(notes))


def _check_result(outcome: Outcome, diagnosis: Diagnosis | None) -> CheckResult:
    check, failure = outcome.check, outcome.failure
    result = CheckResult(name=check.name, title=check.title, points=check.points, passed=outcome.passed,
                         score=check.points if outcome.passed else 0.0, public=check.public,
                         speed=check.speed, pending=outcome.pending)
    if outcome.pending:
        result.message = PENDING_CHECK
    elif outcome.passed:
        result.message = stable(outcome.said)
    if failure is not None:
        what, hint = failure_text(failure)
        result.message = stable(f"{what}\n{hint}".strip())
        result.counterexample = _counterexample(outcome)
        result.diagnosis = diagnosis
    return result


def _counterexample(outcome: Outcome) -> Counterexample | None:
    difference = getattr(outcome.failure, "difference", None)
    if not outcome.case:
        return Counterexample(inputs="", difference=_difference(difference)) if difference else None
    inputs, tensors = [], []
    for name, value in outcome.case.items():
        if isinstance(value, Case):
            inputs.append(repr(value).removeprefix("Case(").removesuffix(")"))
            tensors += [tensor_view(n, t) for n, t in value.named().items() if isinstance(t, torch.Tensor)]
        else:
            inputs.append(f"{name}={value!r}")
    return Counterexample(inputs=", ".join(inputs), tensors=tensors, difference=_difference(difference))


def _difference(difference: failures.Difference | None) -> Difference | None:
    if difference is None:
        return None
    expected, got, index = difference.expected, difference.got, difference.first_index
    shown = Difference(where=difference.where, non_finite=difference.non_finite,
                       largest_error=_number(difference.largest_error), tolerance=_number(difference.tolerance),
                       wrong_elements=difference.wrong_elements)
    if expected is not None and got is not None:
        shown.expected_shape, shown.got_shape = list(expected.shape), list(got.shape)
        shown.total_elements = expected.numel()
        shown.expected, shown.got = tensor_view("expected", expected), tensor_view("got", got)
        if index is not None:
            shown.first_index = list(index)
            shown.expected_value = None if expected.is_complex() else float(expected[index])
            shown.got_value = f"{got[index].item():.6g}"
    return shown


def tensor_view(name: str, tensor: torch.Tensor) -> TensorView:
    """A tensor for the page: its values if it is small, otherwise its shape and dtype alone."""
    text = _nested(tensor.detach()) if tensor.numel() <= SMALL else ""
    return TensorView(name=name, shape=list(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."), text=text)


def _nested(tensor: torch.Tensor) -> str:
    if tensor.ndim == 0:
        value = tensor.item()
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return "[" + ", ".join(_nested(row) for row in tensor) + "]"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}" if math.isfinite(value) else str(value)


def stable(text: str) -> str:
    """The text without what differs between two runs of the same code: addresses of objects."""
    return re.sub(r"0x[0-9a-fA-F]{6,}", "0x…", text)


def total(parts: Sequence[ExerciseResult | CheckResult], field: str) -> Any:
    """Sum over exercises or checks, free of binary fractions that points cannot have."""
    return round(sum(getattr(part, field) for part in parts), 6)
