"""Where the grader's own CPU time goes: a profile, added up by part of the program."""
from __future__ import annotations

import cProfile
import pstats
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTS = {
    "comparison": ("lib/etude/compare.py", "lib/etude/failures.py"),
    "case making": ("lib/etude/strategies.py",),
    "properties and check functions": ("lib/etude/properties.py", "lib/etude/observe.py", "_checks.py"),
    "engine": ("lib/etude/engine.py", "lib/etude/outcomes.py", "lib/etude/check_file.py", "lib/etude/shrink.py"),
    "pytest": ("/_pytest/", "/pluggy/"),
    "wire": ("lib/etude/wire.py",),
    "remote: calls in the autograd graph": ("autograder/remote/",),
    "sandbox: workers ordered and reaped": ("autograder/sandbox/",),
    "report": ("autograder/grading/", "autograder/report/", "autograder/submission/"),
}
OTHER = "other"
Key = tuple[str, int, str]


@contextmanager
def profiled(profile: cProfile.Profile) -> Iterator[None]:
    profile.enable()
    try:
        yield
    finally:
        profile.disable()


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """The share of each part in the profiled time.

    What belongs to no part (PyTorch, the standard library, C functions) is counted where it was called from.
    """
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    found: dict[str, float] = defaultdict(float)
    known: dict[Key, dict[str, float]] = {}

    def origin(key: Key, on_the_way: frozenset[Key]) -> dict[str, float]:
        """Part -> the share of this function's calls, by time, that comes from there."""
        part = part_of(key[0])
        if part:
            return {part: 1.0}
        if key in known:
            return known[key]
        callers = {caller: numbers[3] for caller, numbers in stats[key][4].items() if caller not in on_the_way}
        total = sum(callers.values())
        if not total:
            return {OTHER: 1.0}
        mixed: dict[str, float] = defaultdict(float)
        for caller, seconds in callers.items():
            for name, share in origin(caller, on_the_way | {key}).items():
                mixed[name] += share * seconds / total
        if not on_the_way:
            known[key] = dict(mixed)
        return mixed

    for key, (_, _, own, _, _) in stats.items():
        for name, share in origin(key, frozenset()).items():
            found[name] += own * share
    total = sum(found.values()) or 1.0
    return {name: seconds / total for name, seconds in sorted(found.items(), key=lambda item: -item[1])}


def part_of(file: str) -> str | None:
    """The part that a source file belongs to."""
    name = Path(file).as_posix()
    return next((part for part, places in PARTS.items() if any(place in name for place in places)), None)
