"""Submissions that are alike: what students wrote into the exercises' cells, without what all were given.

copydetect compares fingerprints of tokens: names, comments and layout do not count. The released notebook is its
boilerplate. Nothing is run; a right solution of a short exercise has few forms, so a pair is a reason to look.
"""
from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from autograder.errors import UsageError
from autograder.submission.cells import Cell, Submission

ELSEWHERE = "other cells"
"""Where code stands that no exercise's cell holds: in a script, or in a notebook that has lost its ids."""
LENGTH = 25
"""Of a fingerprint, and of the shortest copy that is found, in characters of the text that copydetect makes of code:
one for every name and string. Its own default."""
SHOWN = 200
"""Pairs whose sources are put side by side; in a class whose right solutions are all alike, there are far more."""
_FILE_NAME = "submission.py"  # tells copydetect the language


@dataclass(frozen=True)
class Work:
    """What one student wrote: the source by exercise."""

    student: str
    sources: Mapping[str, str]

    @property
    def text(self) -> str:
        return "\n\n".join(self.sources.values()) + "\n"


@dataclass(frozen=True)
class Part:
    """An exercise of a pair: both sources, cut where what is alike begins and ends, and the shares that are."""

    exercise: str
    shares: tuple[float, float]
    pieces: tuple[list[tuple[str, bool]], list[tuple[str, bool]]]


@dataclass(frozen=True)
class Pair:
    """Two students, and what share of each one's work is like the other's."""

    students: tuple[str, str]
    shares: tuple[float, float]
    parts: tuple[Part, ...]

    @property
    def share(self) -> float:
        """The larger share: who hands in one exercise of another's seven has copied all that there is."""
        return max(self.shares)


def work_of(submission: Submission, exercises: Sequence[str], given: Sequence[Cell]) -> Work:
    """The sources by exercise; what stands as it was released is left out."""
    released = {cell.source.strip() for cell in given}
    own = [cell for cell in submission.cells if not cell.is_check and cell.source.strip() not in released]
    sources = {id: "\n".join(cell.source for cell in own if cell.grade_id == id) for id in exercises}
    if not any(cell.grade_id in sources for cell in submission.cells):
        sources = {ELSEWHERE: "\n".join(cell.source for cell in own)}
    return Work(submission.student, {id: source for id, source in sources.items() if source.strip()})


@dataclass(frozen=True)
class Similarities:
    """What a comparison gave."""

    pairs: list[Pair]
    """The most alike first, at most `SHOWN`."""
    count: int
    """All of them, shown or not."""
    too_short: list[str]
    """Students who wrote too little to tell."""


def similar_pairs(works: Sequence[Work], given: Sequence[Cell], least: float) -> Similarities:
    """The pairs of which one has at least the share `least` in common with the other."""
    skeleton = "\n\n".join(cell.source for cell in given if not cell.is_check) + "\n"
    boilerplate = sorted(_fingerprint(skeleton).hashes)
    prints = {work.student: _fingerprint(work.text, boilerplate) for work in works}
    compared = sorted((work for work in works if prints[work.student].token_coverage), key=lambda work: work.student)
    alike = []
    for one, other in combinations(compared, 2):
        shares = _compared(prints[one.student], prints[other.student])[1]
        if max(shares) >= least and max(shares) > 0:
            alike.append((shares, one, other))
    alike.sort(key=lambda found: (-max(found[0]), -min(found[0])))
    pairs = [Pair((one.student, other.student), shares, tuple(_parts(one, other, boilerplate)))
             for shares, one, other in alike[:SHOWN]]
    written = {work.student for work in compared}
    return Similarities(pairs, len(alike), sorted(work.student for work in works if work.student not in written))


def _parts(one: Work, other: Work, boilerplate: Sequence[int]) -> Iterator[Part]:
    for exercise in one.sources:
        if exercise not in other.sources:
            continue
        prints = [_fingerprint(work.sources[exercise] + "\n", boilerplate) for work in (one, other)]
        overlap, shares, slices = _compared(*prints)
        if overlap:
            first, second = (_cut(printed.raw_code, found) for printed, found in zip(prints, slices, strict=True))
            yield Part(exercise, shares, (first, second))


def _cut(text: str, slices: Any) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is alike. Slices may touch or overlap."""
    alike = [False] * len(text)
    for start, end in zip(*slices.tolist(), strict=True):
        alike[int(start):int(end)] = [True] * len(alike[int(start):int(end)])
    bounds = [0, *(i for i in range(1, len(text)) if alike[i] != alike[i - 1]), len(text)]
    return [(text[start:end], alike[start]) for start, end in zip(bounds, bounds[1:], strict=False)]


def _compared(one: Any, other: Any) -> tuple[int, tuple[float, float], Any]:
    """copydetect's verdict on two fingerprints; it counts a token at the edge of a copy that coverage leaves out."""
    overlap, shares, slices = _copydetect().compare_files(one, other)
    first, second = (min(float(share), 1.0) for share in shares)
    return int(overlap), (first, second), slices


def _fingerprint(text: str, boilerplate: Sequence[int] = ()) -> Any:
    import numpy as np
    return _copydetect().CodeFingerprint(_FILE_NAME, LENGTH, 1, np.array(boilerplate), fp=io.StringIO(text))


def _copydetect() -> Any:
    try:
        import copydetect
    except ImportError:
        raise UsageError("copydetect is not installed: pip install -c constraints.txt copydetect") from None
    return copydetect
