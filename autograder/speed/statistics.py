"""From seconds to a verdict: ratios of blocks, their bootstrap interval, thresholds. Pure: no clock, no process."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Verdict = Literal["pass", "fail", "inconclusive", "pending"]
UNMEASURED = "not measured"
_TOP, _BOTTOM = 0.975, 0.025


class Thresholds(Protocol):
    """What speed is worth; `autograder.course.SpeedThresholds`."""

    full: float
    zero: float
    ceiling: float
    measured: str


@dataclass(frozen=True)
class Rules:
    """How much is measured, and when a measurement counts for nothing."""

    warm_ups: int = 3
    calls: int = 15
    """Timed calls of a block."""
    pairs: int = 3
    """Pairs of blocks, reference and student, that are always measured."""
    most_pairs: int = 8
    spread: float = 0.05
    """Reference blocks that differ by more make the whole measurement inconclusive."""
    beyond: float = 1.02
    """No honest kernel gets past this many times the ceiling."""
    least_constants: float = 2.0
    """A reference that takes less than so many times the constant cost of a call cannot be timed."""
    resamples: int = 2000


@dataclass(frozen=True)
class Pair:
    """Seconds of the timed calls of a reference block and a student block, the constant cost taken off."""

    reference: tuple[float, ...]
    student: tuple[float, ...]


@dataclass(frozen=True)
class Figures:
    """What the pairs say so far."""

    ratio: float
    """The student's time over the reference's: the median over pairs of the ratio of their blocks' medians."""
    low: float
    high: float
    """The bootstrap 95 % interval of the ratio, over calls."""
    student_seconds: float
    reference_seconds: float
    spread: float
    """How much the slowest reference block is slower than the fastest."""
    fraction: float | None
    """Of the ceiling; none without one."""


@dataclass(frozen=True)
class Judgement:
    """A verdict on figures. `open`: another pair of blocks might change it."""

    verdict: Verdict
    share: float
    """Of the check's points, 0 to 1; of no meaning for what is inconclusive."""
    why: str
    open: bool = False
    suspect: bool = False
    """Faster than the device can be: for staff to look at."""


def share(ratio: float, thresholds: Thresholds) -> float:
    """All at `full` times the reference's time, nothing at `zero` times; in between, linear in the logarithm."""
    if ratio <= thresholds.full:
        return 1.0
    if ratio >= thresholds.zero:
        return 0.0
    return math.log(thresholds.zero / ratio) / math.log(thresholds.zero / thresholds.full)


def figures(pairs: Sequence[Pair], roof_seconds: float | None, rules: Rules) -> Figures:
    """The ratio with its interval, and the fraction of the ceiling, whose time for this work is `roof_seconds`."""
    student = [float(np.median(pair.student)) for pair in pairs]
    reference = [float(np.median(pair.reference)) for pair in pairs]
    low, high = _interval(pairs, rules.resamples)
    seconds = float(np.median(student))
    return Figures(ratio=float(np.median(np.divide(student, reference))), low=low, high=high, student_seconds=seconds,
                   reference_seconds=float(np.median(reference)), spread=max(reference) / min(reference) - 1,
                   fraction=None if roof_seconds is None else roof_seconds / seconds)


def _interval(pairs: Sequence[Pair], resamples: int) -> tuple[float, float]:
    """Of the median of the blocks' ratios, when the calls of each block are drawn again from that block."""
    generator = np.random.default_rng(0)  # the same figures, the same interval
    ratios = [_medians(pair.student, resamples, generator) / _medians(pair.reference, resamples, generator)
              for pair in pairs]
    found = np.quantile(np.median(ratios, axis=0), [_BOTTOM, _TOP])
    return float(found[0]), float(found[1])


def _medians(seconds: Sequence[float], resamples: int, generator: np.random.Generator) -> np.ndarray:
    drawn = generator.integers(len(seconds), size=(resamples, len(seconds)))
    return np.median(np.asarray(seconds)[drawn], axis=1)


def judge(found: Figures, pairs: int, thresholds: Thresholds, rules: Rules) -> Judgement:
    """The verdict on the figures of so many pairs. Never a fail where the machine was not steady."""
    if found.fraction is not None and found.fraction > rules.beyond:
        return Judgement("inconclusive", 0.0, f"{found.fraction:.2f} of the ceiling: faster than this device was seen "
                                              "to be; a human has to look at it", suspect=True)
    if found.spread > rules.spread:
        return Judgement("inconclusive", 0.0, f"the machine was not steady: the reference's own blocks differ by "
                                              f"{found.spread:.0%}; run it again on an idle machine")
    # A fraction of a ceiling was guessed until a run has set it: the ratio needs no calibration.
    counts = found.fraction is not None and thresholds.measured != UNMEASURED
    if counts and found.fraction >= thresholds.ceiling:
        return Judgement("pass", 1.0, f"{found.fraction:.2f} of the ceiling, where {thresholds.ceiling:g} is enough")
    straddles = any(found.low <= edge < found.high for edge in (thresholds.full, thresholds.zero))
    if straddles and pairs < rules.most_pairs:
        return Judgement("inconclusive", 0.0, "the interval holds a threshold", open=True)
    ratio = found.low if straddles else found.ratio  # what cannot be decided is decided for the student
    value = share(ratio, thresholds)
    if value == 1:
        return Judgement("pass", 1.0, f"at most {thresholds.full:g} times the reference's time")
    return Judgement("fail", value, f"{thresholds.full:g} times the reference's time gives all points, "
                                    f"{thresholds.zero:g} times none")
