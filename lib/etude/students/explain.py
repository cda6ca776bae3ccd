"""The outcome of a check -> what the card says about it. What a tensor looks like on a card is decided here."""
from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from etude.failures import CheckFailure, Difference, MissingName, StudentError, StudentStopped
from etude.observe import tensors_in
from etude.outcomes import Outcome, failure_text
from etude.strategies import Case
from etude.students.findings import Failure, Grid, Heat, Property
from etude.students.traces import shape_of, student_frames

MAX_ROWS, MAX_COLUMNS = 8, 6
"""Matrices up to this size are printed, side by side."""
MAX_HEAT = 20
"""Rows and columns of a heat map."""
MAX_INPUT = 24
"""Elements of an argument that is printed in full."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


@dataclass(frozen=True)
class Example:
    """What is known of the example that a check fails on."""

    form: str = ""
    """`B=1, T=2, seed=0`"""
    named: dict[str, Any] = field(default_factory=dict)
    """Its arguments as a person reads them, what is inside a dict by its full name."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """The same for the student to try."""
    printed: str = ""
    """What the student's code printed."""


def property_of(outcome: Outcome, namespace: Mapping[str, Any], example: Example) -> Property:
    """The property that a check stands for, and why it does not hold."""
    failure = None
    if outcome.failure is not None:
        failure = _failure(outcome, outcome.failure, namespace, example)
    return Property(outcome.check.name, outcome.check.title, failure, outcome.said)


def is_todo(outcome: Outcome) -> bool:
    """Whether the check met the skeleton's TODO; one that waits for another error has it as its context."""
    failure = outcome.failure.__context__ if isinstance(outcome.failure, CheckFailure) else outcome.failure
    return isinstance(failure, StudentError) and failure.type_name == "NotImplementedError"


def why_not_run(outcomes: Sequence[Outcome]) -> str:
    """Why none of an exercise's checks could run anything of it, if that is so."""
    failures = [outcome.failure for outcome in outcomes]
    if all(map(is_todo, outcomes)):
        return "not started: the TODO is still there"
    if isinstance(failures[0], MissingName) and all(isinstance(failure, MissingName) for failure in failures):
        return f"not run: {failures[0].message}"
    return ""


def can_be_diagnosed(outcome: Outcome) -> bool:
    """A mistake has a name only where the code ran and was wrong; what is missing or was stopped speaks for itself."""
    stopped = isinstance(outcome.failure, (StudentStopped, MissingName))
    return outcome.failure is not None and not stopped and not is_todo(outcome)


def _failure(outcome: Outcome, error: BaseException, namespace: Mapping[str, Any],
             example: Example) -> Failure:
    if is_todo(outcome):
        return Failure("Not implemented yet: the TODO is still there.")
    what, hint = _what(error, namespace)
    trace = []
    if not isinstance(error, CheckFailure):
        for frame in student_frames(error, namespace):
            trace += [frame.place, f"    {frame.line}"] if frame.line else [frame.place]
            trace += [f"    {text}" for text in frame.tensors]
    stopped = isinstance(error, StudentStopped)
    if isinstance(error, MissingName) or stopped and not trace:  # nothing was run: the example says nothing
        return Failure(what[:1].upper() + what[1:], hint=hint)
    difference = getattr(error, "difference", None)
    return Failure(what=_ADDRESS.sub("0x…", what), detail=_detail(difference), example=example.form,
                   inputs=_inputs(example.named), grids=_grids(difference), heat=_heat(outcome), trace=trace,
                   printed=example.printed, hint=hint, smallest=not stopped)


def _what(error: BaseException, namespace: Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(error, (CheckFailure, StudentError, StudentStopped)):
        what, hint = failure_text(error)
        if isinstance(error, StudentStopped) and "took longer" in str(error):
            hint = "Is there a loop that does not end? The line above is where it was when it was interrupted."
        return (what[:-1] if what.endswith("..") else what), hint
    if student_frames(error, namespace):  # raised in the student's code, but not by a call: in a backward pass
        return failure_text(StudentError(type(error).__name__, str(error)[:500]))
    return failure_text(error)


# ---------------------------------------------------------------------------------------------- the example

class Calls:
    """The calls of the student's functions on one example: their last arguments, as they were before the call."""

    def __init__(self) -> None:
        self._count, self._function, self._args, self._kwargs = 0, None, (), {}

    def note(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called before each call."""
        self._count, self._function = self._count + 1, function
        self._args, self._kwargs = _copied(args), _copied(kwargs)

    def only(self) -> dict[str, Any] | None:
        """The arguments by name, if there was one call and no more."""
        if self._count != 1:
            return None
        try:
            return dict(inspect.signature(self._function).bind(*self._args, **self._kwargs).arguments)
        except (TypeError, ValueError):  # other parameters than the contract's
            return None

    def tensors(self) -> list[torch.Tensor]:
        """Those with values: what a kernel is only built for has none."""
        return [tensor for tensor in tensors_in([self._args, self._kwargs]) if not tensor.is_meta]


def example_of(case: dict[str, Any], calls: Calls, printed: str = "") -> Example:
    """The example as the student's function met it.

    A check may make arguments of its own from its case. Those of a single call tell all; before the last of several,
    the case is told in the form that this call was made from, such as float32 or a larger scale.
    """
    tensors = calls.tensors()
    case = {name: _form_of(value, tensors) if isinstance(value, Case) else value for name, value in case.items()}
    form = ", ".join(repr(value).removeprefix("Case(").removesuffix(")") if isinstance(value, Case)
                     else f"{name}={value!r}" for name, value in case.items())
    named, arguments = {}, {}
    for name, value in case.items():
        named |= value.named() if isinstance(value, Case) else {}
        arguments |= value.arguments() if isinstance(value, Case) else {name: value}
    only = calls.only()
    if only is None:
        return Example(form, named, arguments, printed)
    nested = {f"{name}[{key!r}]": part for name, value in only.items() if isinstance(value, dict)
              for key, part in value.items()}
    flat = {name: value for name, value in only.items() if not isinstance(value, dict)}
    return Example(form, flat | nested, only, printed)


def _copied(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: _copied(item) for key, item in tree.items()}
    return type(tree)(map(_copied, tree)) if type(tree) in (list, tuple) else tree


def _form_of(case: Case, tensors: Sequence[torch.Tensor]) -> Case:
    def given(form: Case) -> int:
        return sum(_same(leaf, tensor) for leaf in form.leaves(form.arguments()).values() for tensor in tensors)
    return max(_forms(case), key=given)  # of equals the first: the case itself


def _forms(case: Case) -> Iterator[Case]:
    yield case
    for form in list(case.memo.values()):
        if isinstance(form, Case):
            yield from _forms(form)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype is other.dtype and torch.equal(one, other)


def _inputs(named: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, argument in named.items():
        if isinstance(argument, torch.Tensor):
            shown = argument.numel() <= MAX_INPUT and not argument.is_meta  # which has a shape and no values
            values = f" = {_nested(argument.detach())}" if shown else ""
            lines.append(f"{name}: {shape_of(argument)}{values}")
        else:
            lines.append(_ADDRESS.sub("0x…", f"{name} = {argument!r}"[:200]))
    return lines


def _nested(tensor: torch.Tensor) -> str:
    if tensor.ndim == 0:
        return _number(tensor.item())
    return "[" + ", ".join(_nested(row) for row in tensor) + "]"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------------- the difference

def _detail(difference: Difference | None) -> str:
    if difference is None or difference.expected is None or difference.wrong_elements is None:
        return ""
    total = difference.expected.numel()
    if total == 1:  # the sentence before has said it
        return ""
    text = f"{difference.wrong_elements} of {total} values differ"
    text += "s" * (difference.wrong_elements == 1)
    if difference.largest_error and difference.expected.dtype is not torch.bool:
        text += f"; the largest error is {difference.largest_error:.3g}"
    if difference.tolerance and math.isfinite(difference.tolerance):
        text += f" (allowed: {difference.tolerance:.1g})"
    return text + "."


def _pair(difference: Difference | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, str] | None:
    """(expected, got, where they differ, which slice it is): the two last axes around the first difference."""
    if difference is None or difference.expected is None or difference.got is None or difference.first_index is None:
        return None
    expected, got, index = difference.expected.detach(), difference.got.detach(), difference.first_index
    lead = index[:-2] if expected.ndim > 2 else ()
    expected, got = expected[lead], got[lead]
    wrong = ~((got - expected).abs() <= difference.tolerance) if expected.is_floating_point() else got != expected
    at = f"[{', '.join(map(str, lead))}, :, :]" if lead else ""
    if " " in difference.where and at:  # a phrase such as "output of sequence 0", which no index can follow
        at = f" at {at}"
    shape = (1, expected.numel()) if expected.ndim < 2 else expected.shape
    return expected.reshape(shape), got.reshape(shape), wrong.reshape(shape), f"{difference.where}{at}"


def _grids(difference: Difference | None) -> list[Grid]:
    pair = _pair(difference)
    if pair is None or pair[0].numel() < 2 or pair[0].shape[0] > MAX_ROWS or pair[0].shape[1] > MAX_COLUMNS:
        return []
    expected, got, wrong, name = pair
    marked = frozenset((int(i), int(j)) for i, j in wrong.nonzero().tolist())
    return [Grid(f"{name}, expected", _rows(expected)), Grid(f"{name}, yours", _rows(got), marked)]


def _rows(matrix: torch.Tensor) -> list[list[str]]:
    return [[_number(value) for value in row] for row in matrix.tolist()]


def _heat(outcome: Outcome) -> Heat | None:
    """Of the example that failed first: it is larger than the smallest one, so a pattern shows, if there is one."""
    smallest, first = (getattr(error, "difference", None) for error in (outcome.failure, outcome.found))
    pair = _pair(first if smallest is not None and first is not None and first.where == smallest.where else smallest)
    if pair is None or min(pair[0].shape) < 2 or bool(pair[2].all()):
        return None
    expected, got, wrong, name = pair
    size = " × ".join(map(str, expected.shape))
    cut = f", of which the first {MAX_HEAT} each" if max(expected.shape) > MAX_HEAT else ""
    wrong, expected, got = (tensor[:MAX_HEAT, :MAX_HEAT] for tensor in (wrong, expected, got))
    if not wrong.any():
        return None
    errors = (got.double() - expected.double()).abs()
    largest = float(errors[torch.isfinite(errors)].max()) if bool(torch.isfinite(errors).any()) else 0.0
    levels = [[_level(bool(w), float(e), largest) for w, e in zip(*pairs, strict=True)]
              for pairs in zip(wrong.tolist(), errors.tolist(), strict=True)]
    return Heat(levels, name, f"{size}{cut}, on a larger example")


def _level(wrong: bool, error: float, largest: float) -> int:
    if not wrong:
        return 0
    if not math.isfinite(error):
        return 4
    return 3 if error > largest / 3 else 2 if error > largest / 30 else 1
