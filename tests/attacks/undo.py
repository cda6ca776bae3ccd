"""Care that the grader takes on its own side of the wire, taken away: further negative controls."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autograder.grading.subjects import SubmissionSubject
from autograder.remote.foresight import ForesightChannel


def _forgetful(begins: Callable[..., Any]) -> Callable[..., Any]:
    def begin(self: SubmissionSubject, check: Any) -> Any:
        self._has_seen_hidden = False
        return begins(self, check)
    return begin


UNDO = {
    "requests travel ahead only where answers were right":
        (ForesightChannel, "_is_earned", lambda original: lambda self, place: True),
    "public checks get a worker that has met no hidden input": (SubmissionSubject, "begins", _forgetful),
}


@contextmanager
def undone(name: str) -> Iterator[None]:
    """The grader without this care."""
    owner, attribute, change = UNDO[name]
    original = getattr(owner, attribute)
    setattr(owner, attribute, change(original))
    try:
        yield
    finally:
        setattr(owner, attribute, original)
