"""Every attack is graded, with layers and without: it gets no point, reaches nothing, and harms nobody after it."""
from __future__ import annotations

import pytest

from .catalogue import ALL, ATTACKS, GROUPS
from .harm import HARM
from .model import COLUMNS, Attack, Column
from .naive_wire import NAIVE
from .ring import Outcome, Ring
from .usual_design import UsualDesign

CHECKS = 4
RINGS = ("as_started", "as_nobody")


def fights() -> list[pytest.param]:
    """(ring, attack, column): all layers one by one for the user that runs the tests; for nobody what may differ."""
    found = []
    for ring in RINGS:
        for attack in ALL.values():
            columns = [name for name in attack.columns if "+" not in name]
            if ring == RINGS[1]:
                telling = {"all"} | ({"none"} if attack.stopped_by else set()) | attack.unprivileged
                columns = [name for name in columns if name in telling]
            found += [pytest.param(ring, attack, COLUMNS[name], id=f"{ring}-{attack.id}-{name}") for name in columns]
    return found


def fight(ring: Ring, attack: Attack, column: Column) -> Outcome:
    outcome = ring.fight(attack, column)
    if outcome.missing:
        pytest.skip(f"this machine has no {', '.join(outcome.missing)}")
    return outcome


def test_the_catalogue_is_whole():
    sizes = {group: sum(id.startswith(group) for id in ATTACKS) for group in GROUPS}
    assert sizes == {"a": 24, "b": 16, "c": 15, "d": 19}
    assert set(COLUMNS) >= {column for attack in ALL.values() for column in attack.columns}
    for attack in ATTACKS.values():
        assert attack.stopped_by or attack.usual, f"{attack.id}: nothing would show that it can reach its aim"


@pytest.mark.parametrize("ring, attack, column", fights(), indirect=["ring"])
def test_no_attack_gets_a_point_and_the_honest_submission_after_it_gets_them_all(
        ring: Ring, attack: Attack, column: Column):
    outcome = fight(ring, attack, column)
    assert outcome.came_back, "the grader died or hung"
    assert outcome.passed == [] and outcome.report.score == 0 and outcome.report.max_score > 0
    assert len(outcome.report.exercises[0].checks) == CHECKS
    if column.sealed:
        assert outcome.honest == (outcome.report.max_score, outcome.report.max_score)


@pytest.mark.parametrize("ring, attack, column", fights(), indirect=["ring"])
def test_an_attack_reaches_its_aim_only_where_no_layer_stops_it(ring: Ring, attack: Attack, column: Column):
    """The half of it that is reached is the negative control of the other half."""
    outcome = fight(ring, attack, column)
    if not attack.reached_under(column, ring.root):
        assert not outcome.reached
    elif not outcome.reached and attack.host:
        pytest.skip(f"this host refuses it to everybody ({attack.host}): no negative control")
    else:
        assert outcome.reached, f"negative control: nothing stops it here, but: {outcome.notes}"


@pytest.mark.parametrize("attack", [a for a in ALL.values() if a.usual], ids=lambda attack: attack.id)
def test_the_usual_design_suffers_what_the_architecture_stops(usual: UsualDesign, zygote, attack: Attack):
    """Negative controls of what is not reached even where no layer is left."""
    if attack.usual in HARM:
        assert usual.suffers(attack)
    else:
        assert NAIVE[attack.usual](zygote, attack)


@pytest.mark.parametrize("ring", RINGS[:1], indirect=True)
@pytest.mark.parametrize("attack", [a for a in ALL.values() if a.undo], ids=lambda attack: attack.id)
def test_without_the_graders_own_care_the_aim_is_reached(ring: Ring, attack: Attack):
    """Negative controls of what the trusted side does, sealed worker or not."""
    assert ring.fight(attack, COLUMNS["all"], undo=True).reached
