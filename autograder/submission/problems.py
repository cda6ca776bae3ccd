"""What is wrong with a submission, in one line that names the file and the place."""
from __future__ import annotations

from dataclasses import dataclass

from autograder.errors import UsageError
from autograder.one_line import one_line

LONGEST_PATH = 4096


@dataclass(frozen=True)
class Problem:
    """A path that gave no submission, and why. Both strings are printable and without line ends."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class BadInput(UsageError):
    """Raised while one submission is read; `read_submissions` turns it into a `Problem` and goes on."""

    def __init__(self, path: str, message: str):
        super().__init__(path, message)
        self.problem = Problem(one_line(path, LONGEST_PATH), one_line(message))

    def __str__(self) -> str:
        return str(self.problem)
