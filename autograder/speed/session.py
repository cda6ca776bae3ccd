"""One kernel at one size: blocks of reference and student in turn, until there is a verdict.

The measuring itself is handed in, so that all of this runs on figures that a test made up.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from autograder.speed.statistics import Figures, Judgement, Pair, Rules, Thresholds, figures, judge

Role = Literal["noop", "reference", "student"]
Block = Callable[[Role, int], Sequence[float]]
"""`block(role, pair)`: the seconds of a block's timed calls in a fresh process. Raises `Fault`. Blocks of the same
pair get the same inputs."""
_LEAST = 1e-9


class Fault(Exception):
    """What a program did wrong while it was timed. The message is for the student."""


@dataclass(frozen=True)
class Measurement:
    """A kernel at one size, measured and judged."""

    judgement: Judgement
    figures: Figures | None = None
    """None where a call was wrong."""
    pairs: list[Pair] = field(default_factory=list)
    constant: float = 0.0
    """Seconds that a call costs without a kernel; taken off everywhere."""


def time_kernel(block: Block, thresholds: Thresholds, roof_seconds: float | None, rules: Rules) -> Measurement:
    """Measure pairs until the verdict stands or there are `rules.most_pairs`. A fault of the reference is raised."""
    constant = median(block("noop", 0))
    pairs: list[Pair] = []
    while True:
        number = len(pairs)
        # The other one begins in every second pair: a machine that warms up or slows down favours neither.
        order: tuple[Role, Role] = ("reference", "student") if number % 2 == 0 else ("student", "reference")
        seconds: dict[Role, Sequence[float]] = {}
        for role in order:
            try:
                seconds[role] = block(role, number)
            except Fault as fault:
                if role == "reference":
                    raise
                return Measurement(Judgement("fail", 0.0, str(fault)), constant=constant)
        raw = median(seconds["reference"])
        if raw < rules.least_constants * constant:
            return Measurement(Judgement("inconclusive", 0.0, f"too small to be timed here: the reference takes "
                               f"{raw:.2g} s a call, of which {constant:.2g} s are the harness"), constant=constant)
        pairs.append(Pair(_without(seconds["reference"], constant), _without(seconds["student"], constant)))
        if len(pairs) < rules.pairs:
            continue
        found = figures(pairs, roof_seconds, rules)
        judgement = judge(found, len(pairs), thresholds, rules)
        if not judgement.open:
            return Measurement(judgement, found, pairs, constant)


def _without(seconds: Sequence[float], constant: float) -> tuple[float, ...]:
    return tuple(max(value - constant, _LEAST) for value in seconds)
