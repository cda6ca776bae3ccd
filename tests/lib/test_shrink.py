"""A failing case becomes one that no single step makes simpler, within a bounded number of attempts."""
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from etude import shrink
from etude.strategies import Case, Cases, normal

SPEC = Cases(x=normal("B T D"), sizes={"T": (1, 6, 70), "D": (2, 9)},
             flags={"mode": ("a", "b", "c"), "on": (False, True)})


def shrunk(fails: Callable[[Case], bool], sizes: dict | None = None, **fields: object) -> tuple[Case, int]:
    """The smallest case that was found to fail, and how many were tried."""
    start = SPEC.case({"B": 5, "T": 70, "D": 7} | (sizes or {}), {"mode": "c", "on": True},
                      **{"seed": 217, "layout": "strided", **fields})
    assert fails(start)
    best, offered = [start], []

    def remembered(case: Case) -> bool:
        offered.append(case)
        if fails(case):
            best.append(case)
        return best[-1] is case
    shrink.smallest(start, remembered)
    return best[-1], len(offered)


@pytest.mark.parametrize(("fails", "smallest"), [
    (lambda c: True, "Case(T=1, D=2, B=1, mode='a', on=False, seed=0)"),
    (lambda c: c.B >= 4, "Case(T=1, D=2, B=4, mode='a', on=False, seed=0)"),
    (lambda c: c.T > 64, "Case(T=65, D=2, B=1, mode='a', on=False, seed=0)"),
    (lambda c: c.mode != "a", "Case(T=1, D=2, B=1, mode='c', on=False, seed=0)"),
    (lambda c: c.on and c.B == 5, "Case(T=1, D=2, B=5, mode='a', on=True, seed=0)"),
    (lambda c: c.layout != "contiguous", "Case(T=1, D=2, B=1, mode='a', on=False, seed=0, layout=strided)"),
    (lambda c: c.seed == 217, "Case(T=1, D=2, B=1, mode='a', on=False, seed=217)"),
    (lambda c: c.B * c.D >= 9, "Case(T=1, D=2, B=5, mode='a', on=False, seed=0)"),
])
def test_a_case_shrinks_to_the_smallest_that_still_fails(fails: Callable, smallest: str) -> None:
    case, offered = shrunk(fails)
    assert repr(case) == smallest and offered <= shrink.MAX_ATTEMPTS


def test_what_the_check_set_itself_is_kept() -> None:
    case, _ = shrunk(lambda c: c.scale == 3.0, dtype=torch.float32, scale=3.0)
    assert (case.dtype, case.scale, case.B) == (torch.float32, 3.0, 1)


def test_illegal_cases_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SPEC, "legal", lambda s: s["B"] * s["T"] >= 10)
    case, _ = shrunk(lambda c: c.B * c.T >= 10 or pytest.fail("an illegal case was tried"))
    assert case.B * case.T == 10


def test_attempts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "MAX_ATTEMPTS", 3)
    assert shrunk(lambda c: c.seed == 217)[1] == 3
