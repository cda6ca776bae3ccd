"""Make a failing case small: few, large steps that a reader would take, in a fixed order.

hypothesis shrinks the choices behind a case, one integer at a time, at some 130 executions and half a second of CPU for
each failed check. A case knows what simpler means, so a tenth of that is enough: plain layout, first flags, every
size at its least, then size by size.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

from etude.strategies import Case

MAX_ATTEMPTS = 60


def smallest(case: Case, fails: Callable[[Case], bool]) -> None:
    """Offer simpler and simpler cases to `fails`, which says whether the check still fails and remembers the last.

    Starts from `case`, which does. Ends when no single step makes it simpler, or after `MAX_ATTEMPTS` offers.
    """
    attempts, before = 0, ""
    while repr(case) != before:
        before = repr(case)
        for alternatives in _steps(case):
            for change in alternatives(case):
                candidate = _changed(case, **change)
                if repr(candidate) == repr(case) or not candidate.spec.is_legal(candidate):
                    continue
                attempts += 1
                if attempts > MAX_ATTEMPTS:
                    return
                if fails(candidate):
                    case = candidate
                    break


def _steps(case: Case) -> Iterator[Callable[[Case], list[dict]]]:
    """What to simplify, boldest first: for each step, a function from the case so far to its alternatives."""
    spec = case.spec
    least = {symbol: bounds[0] for symbol, bounds in spec.sizes.items()}
    plain = {name: values[0] for name, values in spec.flags.items()}
    yield lambda now: [{"sizes": least, "flags": plain, "seed": 0, "layout": "contiguous"},
                       {"sizes": least, "layout": "contiguous"}]
    yield lambda now: [{"layout": "contiguous"}]
    yield lambda now: [{"flags": plain}]
    for symbol, low in least.items():
        yield lambda now, symbol=symbol, low=low: [{"sizes": {symbol: size}} for size in _smaller(low, now, symbol)]
    for name, value in plain.items():
        yield lambda now, name=name, value=value: [{"flags": {name: value}}]
    yield lambda now: [{"seed": 0}]


def _smaller(low: int, case: Case, symbol: str) -> list[int]:
    size = case.sizes[symbol]
    return [value for value in dict.fromkeys((low, low + 1, (low + size) // 2, size - 1)) if low <= value < size]


def _changed(case: Case, sizes: dict | None = None, flags: dict | None = None, **fields: object) -> Case:
    spec = case.spec
    kept = {"seed": case.seed, "layout": case.layout, "dtype": case.dtype, "scale": case.scale, **fields}
    drawn = {symbol: case.sizes[symbol] for symbol in spec.sizes}
    return spec.case({**drawn, **(sizes or {})}, {**case.flags, **(flags or {})}, **kept)
