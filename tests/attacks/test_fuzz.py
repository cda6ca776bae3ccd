"""The grader against workers that answer at random."""
from __future__ import annotations

import pytest

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
