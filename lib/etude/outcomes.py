"""What came of a check for one subject, and what is said of a failure."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from etude.failures import CheckFailure, MissingName, StudentError, StudentStopped


@dataclass(frozen=True)
class Check:
    """One check as its author wrote it."""

    name: str
    title: str
    exercise: str
    points: float
    public: bool
    has_cases: bool
    speed: bool = False
    """Settled on a GPU by `autograder bench`; until then its outcome is pending."""


@dataclass(frozen=True)
class Outcome:
    """What came of one check for one subject. `case` is the failing example, as small as it could be made."""

    check: Check
    failure: BaseException | None = None
    case: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    replay: Callable[[Any], None] = field(default=lambda student: None, repr=False)
    """Runs the check once more on `case`, with another `student`."""
    found: BaseException | None = None
    """What failed before the example was made smaller: where there is more to see, and less to read."""

    again: Callable[[Any], BaseException | None] = field(default=lambda student: None, repr=False)
    """Runs the check on all its examples, with another `student`; returns the first failure."""
    said: str = ""
    """What a check that passed returned as text: a kernel's registers, say."""

    @property
    def pending(self) -> bool:
        """Neither passed nor failed: a speed check waits for `autograder bench`."""
        return self.check.speed

    @property
    def passed(self) -> bool:
        return self.failure is None and not self.pending


def failure_text(failure: BaseException) -> tuple[str, str]:
    """(what happened in one sentence, what to try next) for the exception that failed a check."""
    if isinstance(failure, CheckFailure):
        return failure.summary, failure.hint
    if isinstance(failure, StudentStopped):
        return f"Your code was stopped: {failure}.".replace("..", "."), ""
    if isinstance(failure, MissingName):
        return f"{failure.message}.", "Keep the name from the skeleton, and run the cell that defines it."
    if isinstance(failure, StudentError) and failure.type_name == "NotImplementedError":
        return "Not implemented yet: the TODO is still there.", ""
    if isinstance(failure, StudentError) and _out_of_memory(failure):
        return "Your code ran out of memory: it asked for more than the course allows.", "How large is each tensor?"
    if isinstance(failure, StudentError):
        place = f" in {failure.place}" if failure.place else ""
        line = f": `{failure.line}`" if failure.line else ""
        return f"Your code raised {failure.type_name}: {failure.message}{place}{line}.", ""
    if isinstance(failure, (AssertionError, pytest.fail.Exception)):
        return (str(failure).split("\n")[0] or "the property does not hold."), ""
    return f"What your function returned could not be used: {type(failure).__name__}: {failure}.", ""


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, StudentError) and (error.type_name == "MemoryError" or "can't allocate" in error.message)
