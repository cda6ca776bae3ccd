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


def _all_that_is_left(self: ForesightChannel) -> list[tuple[int, int]]:
    examples = self._script.examples
    return [(example, step) for example in range(self._example, len(examples)) for step in range(len(examples[example]))
            if (example, step) >= (self._example, self._step)]


UNDO = {
    "requests travel ahead only where answers were right":
        (ForesightChannel, "_wave", lambda original: _all_that_is_left),
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
