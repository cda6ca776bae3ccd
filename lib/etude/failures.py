"""How a check fails: the fact, the place and the hint are kept apart, so that every view can show them its own way."""
from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Difference:
    """Where and how a value differs from the expected one. Tensors are kept; views decide what fits on the page."""

    where: str
    expected: torch.Tensor | None = None
    got: torch.Tensor | None = None
    first_index: tuple[int, ...] | None = None
    largest_error: float | None = None
    tolerance: float | None = None
    wrong_elements: int | None = None
    non_finite: str = ""


class CheckFailure(AssertionError):
    """A property does not hold. `summary` is the fact in one sentence, `hint` what to try next."""

    def __init__(self, summary: str, *, hint: str = "", difference: Difference | None = None):
        super().__init__(summary + (f"\n{hint}" if hint else ""))
        self.summary, self.hint, self.difference = summary, hint, difference


class StudentError(Exception):
    """The student's code raised. `type_name` and `place` are safe to show; `message` may quote hidden inputs."""

    def __init__(self, type_name: str, message: str, place: str = "", line: str = ""):
        super().__init__(f"{type_name}: {message}" + (f" ({place})" if place else ""))
        self.type_name, self.message, self.place, self.line = type_name, message, place, line


class StudentStopped(Exception):
    """The worker that ran the student's code is gone: too slow, out of memory, or it ended itself."""


class GraderFailed(BaseException):
    """The grader itself cannot go on. Not an `Exception`: no check may take it for a failure of the student's."""


class MissingName(StudentError, AttributeError):
    """The notebook defines no such function or class. An AttributeError too, so that `hasattr` says False."""
