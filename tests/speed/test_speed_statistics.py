"""The statistics of timing, on figures made up: no clock runs here."""
from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.speed.session import Fault, time_kernel
from autograder.speed.statistics import Pair, Rules, figures, judge, share

RULES = Rules(resamples=300)


@dataclass(frozen=True)
class Limits:
    """Thresholds as course.yml gives them."""

    full: float = 1.2
    zero: float = 10.0
    ceiling: float = 0.9
    measured: str = "a test"


class Machine:
    """Blocks of a machine on which the student takes `ratio` times as long, with noise of each call and block."""

    def __init__(self, ratio: float, calls: float = 0.0, blocks: float = 0.0, seed: int = 0, constant: float = 1e-5):
        self.seconds = {"noop": constant, "reference": 1e-3 + constant, "student": ratio * 1e-3 + constant}
        self.calls, self.blocks, self.random = calls, blocks, np.random.default_rng(seed)
        self.asked: list[tuple[str, int]] = []

    def __call__(self, role: str, pair: int) -> list[float]:
        self.asked.append((role, pair))
        whole = 1 + self.random.uniform(-self.blocks, self.blocks)
        return list(self.seconds[role] * whole * (1 + self.random.uniform(-self.calls, self.calls, RULES.calls)))


def measured(machine: Machine, limits: Limits | None = None, roof: float | None = None, rules: Rules = RULES):
    return time_kernel(machine, limits or Limits(), roof, rules)


# ---------------------------------------------------------------------------------------------- the score

def test_score_at_the_thresholds_and_halfway_between_them_in_logarithms():
    assert share(1.2, Limits()) == 1
    assert share(10.0, Limits()) == 0
    assert share(math.sqrt(1.2 * 10.0), Limits()) == pytest.approx(0.5)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_slower_kernel_never_scores_more(one, other):
    fast, slow = sorted((one, other))
    assert 0 <= share(slow, Limits()) <= share(fast, Limits()) <= 1


@given(st.floats(0.3, 30))
def test_without_noise_the_score_is_that_of_the_ratio(ratio):
    found = measured(Machine(ratio))
    assert found.figures.ratio == pytest.approx(ratio, rel=1e-9)
    assert found.judgement.share == pytest.approx(share(ratio, Limits()), abs=1e-9)


# ---------------------------------------------------------------------------------------------- medians and intervals

def test_one_slow_call_in_each_block_changes_nothing():
    calm = [Pair((1.0,) * 15, (1.1,) * 15)] * 3
    rare = [Pair((*(1.0,) * 14, 50.0), (*(1.1,) * 14, 90.0))] * 3
    assert figures(rare, None, RULES).ratio == figures(calm, None, RULES).ratio == pytest.approx(1.1)


def test_one_disturbed_pair_changes_nothing():
    good, bad = Pair((1.0,) * 15, (1.1,) * 15), Pair((1.0,) * 15, (3.0,) * 15)
    assert figures([good, bad, good], None, RULES).ratio == pytest.approx(1.1)


def test_the_interval_holds_the_truth_and_widens_with_the_noise():
    inside, widths = 0, {}
    for noise in (0.01, 0.1):
        found = [figures(_noisy_pairs(1.5, noise, seed), None, RULES) for seed in range(100)]
        inside += sum(one.low <= 1.5 <= one.high for one in found)
        widths[noise] = np.mean([one.high - one.low for one in found])
    assert inside >= 180  # 95 % of 200, and room for chance
    assert widths[0.1] > 5 * widths[0.01]


def _noisy_pairs(ratio: float, noise: float, seed: int) -> list[Pair]:
    random = np.random.default_rng(seed)
    return [Pair(tuple(random.normal(1, noise, 15)), tuple(ratio * random.normal(1, noise, 15))) for _ in range(3)]


def test_the_same_figures_give_the_same_interval():
    pairs = _noisy_pairs(1.3, 0.05, 1)
    assert figures(pairs, None, RULES) == figures(pairs, None, RULES)


# ---------------------------------------------------------------------------------------------- verdicts

@given(st.integers(0, 2**32), st.floats(0, 0.05), st.floats(0, 0.05))
def test_identical_code_never_fails_under_noise_below_five_percent(seed, calls, blocks):
    found = measured(Machine(1.0, calls, blocks, seed))
    assert found.judgement.verdict in ("pass", "inconclusive")


def test_the_test_above_can_fail():
    """Its control: 40 % slower code does not pass for identical."""
    assert measured(Machine(1.4, 0.02)).judgement.verdict == "fail"


@given(st.floats(0.055, 1.0), st.floats(0.05, 20))
def test_an_unsteady_machine_is_inconclusive_and_never_a_fail(more, ratio):
    reference = [(1.0,) * 15, (1.0 + more,) * 15, (1.0,) * 15]
    pairs = [Pair(one, tuple(ratio * value for value in one)) for one in reference]
    judgement = judge(figures(pairs, None, RULES), 3, Limits(), RULES)
    assert judgement.verdict == "inconclusive" and "not steady" in judgement.why


def test_a_clear_case_takes_three_pairs_in_which_each_side_begins_in_turn():
    machine = Machine(3.0, 0.01)
    found = measured(machine)
    assert found.judgement.verdict == "fail" and 0 < found.judgement.share < 1
    assert machine.asked == [("noop", 0), ("reference", 0), ("student", 0), ("student", 1), ("reference", 1),
                             ("reference", 2), ("student", 2)]


@pytest.mark.parametrize("edge", [1.2, 10.0])
def test_at_a_threshold_blocks_are_added_up_to_eight_pairs_and_then_the_student_is_favoured(edge):
    limits = Limits()
    found = measured(Machine(edge, 0.04, seed=3), limits)
    assert len(found.pairs) == RULES.most_pairs
    assert found.figures.low <= edge < found.figures.high
    assert found.judgement.share == share(found.figures.low, limits) > share(edge * 1.0001, limits)


def test_added_blocks_end_as_soon_as_the_interval_leaves_the_threshold():
    counts = {len(measured(Machine(1.17, 0.06, seed=seed)).pairs) for seed in range(30)}
    assert min(counts) == 3 and any(3 < count for count in counts)


def test_what_is_faster_than_the_device_is_for_staff_and_never_a_pass():
    found = measured(Machine(0.5), roof=0.6e-3)
    assert found.figures.fraction == pytest.approx(1.2)
    assert found.judgement.suspect and found.judgement.verdict == "inconclusive"
    honest = measured(Machine(0.5), roof=0.5e-3)
    assert not honest.judgement.suspect and honest.judgement.verdict == "pass"


def test_the_ceiling_gives_all_points_too_once_a_run_has_set_it():
    slow, roof = Machine(2.0), 1.9e-3
    assert measured(slow, roof=roof).judgement.verdict == "pass"
    assert measured(slow, Limits(ceiling=0.96), roof).judgement.verdict == "fail"
    assert measured(slow, Limits(measured="not measured"), roof).judgement.verdict == "fail"


def test_the_constant_cost_is_taken_off_both_sides():
    assert measured(Machine(2.0, constant=0.5e-3)).figures.ratio == pytest.approx(2.0)


def test_a_workload_that_drowns_in_the_harness_is_inconclusive():
    found = measured(Machine(2.0, constant=2e-3))
    assert found.judgement.verdict == "inconclusive" and "too small" in found.judgement.why


def test_a_students_fault_ends_the_session_and_the_references_is_raised():
    def block(role: str, pair: int) -> list[float]:
        if role == at:
            raise Fault("the output is wrong")
        return [1e-3 if role != "noop" else 1e-6] * 15
    at = "student"
    found = time_kernel(block, Limits(), None, RULES)
    assert (found.judgement.verdict, found.judgement.why) == ("fail", "the output is wrong")
    at = "reference"
    with pytest.raises(Fault):
        time_kernel(block, Limits(), None, RULES)


def test_rules_are_those_of_the_design():
    assert Rules() == replace(Rules(), warm_ups=3, calls=15, pairs=3, most_pairs=8, spread=0.05, beyond=1.02)
