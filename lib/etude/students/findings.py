"""What a card shows, as plain data: strings, numbers, short lists."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Grid:
    """A small matrix as it is printed. `wrong` are the (row, column)s that are not as they should be."""

    name: str
    rows: list[list[str]]
    wrong: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Heat:
    """Where two matrices differ: 0 equal, 1 to 3 the larger the worse, 4 not finite."""

    levels: list[list[int]]
    name: str
    """Which part of which tensor it is."""
    caption: str
    """How large it is, and on which example."""

    @property
    def wrong(self) -> int:
        return sum(level > 0 for row in self.levels for level in row)

    @property
    def total(self) -> int:
        return sum(map(len, self.levels))


@dataclass(frozen=True)
class Failure:
    """Why a property does not hold."""

    what: str
    """The fact, in one sentence."""
    detail: str = ""
    """How much of it is wrong: `3 of 12 values differ; the largest error is 0.4.`"""
    example: str = ""
    """On what it fails: `B=1, T=2, seed=0`."""
    smallest: bool = True
    """It was made as small as it could be."""
    inputs: list[str] = field(default_factory=list)
    """Its arguments, `q: (1, 2) float64 = [[…]]`."""
    grids: list[Grid] = field(default_factory=list)
    heat: Heat | None = None
    trace: list[str] = field(default_factory=list)
    """The student's lines on the way to an error."""
    printed: str = ""
    """What the student's code printed on this example."""
    hint: str = ""
    """What to try next."""


@dataclass(frozen=True)
class Property:
    """One public check."""

    name: str
    title: str
    failure: Failure | None = None
    said: str = ""
    """What the check found out though it holds."""

    @property
    def holds(self) -> bool:
        return self.failure is None


@dataclass(frozen=True)
class Diagnosis:
    """A known mistake; `title` completes "This is what you get when"."""

    title: str
    hint: str = ""

    @property
    def sentence(self) -> str:
        return f"This is what you get when {self.title.rstrip('. ')}."


@dataclass(frozen=True)
class Finding:
    """What was found out about one exercise."""

    exercise: str
    title: str
    properties: list[Property]
    diagnosis: Diagnosis | None = None
    notes: list[str] = field(default_factory=list)
    """What is known about the state of the notebook: a cell edited but not run."""
    not_run: str = ""
    """Why nothing of it was run: the TODO is still there, or no cell has defined it yet."""
    label: str = ""
    """How it was checked, where that needs saying."""
    hints: int = 0
    """How many hints there are that the student has not asked for."""
    arguments: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The arguments of the first failing example, for the student to try. The one thing here that is not plain."""

    @property
    def held(self) -> int:
        return sum(one.holds for one in self.properties)

    @property
    def passed(self) -> bool:
        return bool(self.properties) and self.held == len(self.properties)
