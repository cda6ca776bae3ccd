"""The grader against workers that answer at random."""
from __future__ import annotations

import sys

import pytest

from . import coverage_fuzz
from .fuzz import FUZZ
from .model import COLUMNS
from .ring import Ring


@pytest.mark.parametrize("ring", ["as_started"], indirect=True)
@pytest.mark.parametrize("name", FUZZ)
def test_random_replies_cost_their_sender_his_points_and_nobody_else_anything(ring: Ring, name: str):
    outcome = ring.fight(FUZZ[name], COLUMNS["all"])
    assert outcome.came_back, "the grader died or hung"
    assert outcome.passed == []
    assert outcome.honest == (5.0, 5.0)


@pytest.mark.parametrize("target", coverage_fuzz.TARGETS)
def test_what_is_fuzzed_at_night_accepts_its_seeds_and_refuses_what_is_cut_off(target: str):
    run, seeds = coverage_fuzz.TARGETS[target]()
    for seed in seeds:
        for data in (seed, seed[:-1], seed[: len(seed) // 2], seed * 2, b""):
            run(data)


def test_what_is_fuzzed_at_night_notices_a_reader_that_breaks(monkeypatch: pytest.MonkeyPatch):
    """The negative control: anything but the reader's own error gets through."""
    run, seeds = coverage_fuzz.TARGETS["notebook"]()
    monkeypatch.setattr("autograder.submission.notebook._parsed", lambda *arguments: {}["no such key"])
    with pytest.raises(KeyError):
        run(seeds[0])


def test_without_atheris_the_night_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(sys.modules, "atheris", None)
    monkeypatch.setattr(sys, "argv", ["coverage_fuzz", "wire"])
    assert coverage_fuzz.main() == coverage_fuzz.WITHOUT
    assert "atheris is not installed" in capsys.readouterr().err
