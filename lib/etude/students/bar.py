"""Progress of a check that takes long, as whoever shows it sees it."""
from __future__ import annotations


class Bar:
    """Where the progress of checks is told. This one tells nobody."""

    def update(self, done: int, total: int, doing: str) -> None:
        """`done` of `total` checks have run; `doing` is the title of the exercise in hand. Called often."""

    def close(self) -> None:
        """All checks have run."""
