"""Checks of the first unit."""
import torch
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.properties import assert_equivalent, assert_finite_at, assert_pure
from etude.strategies import Cases, for_all, normal, value_of

SCORES = Cases(scores=normal("B N"), temperature=value_of("temperature"), sizes={"N": (1, 5, 40)},
               flags={"temperature": (1.0, 0.5, 3.0)})


@exercise("tempered_softmax")
@points(2)
@public
@for_all(case=SCORES)
def test_weights_sum_to_one(student, case):
    """The weights of a row sum to one."""
    weights = student.tempered_softmax(*case.arguments().values())
    assert_same(weights.sum(dim=1), torch.ones(case.B, dtype=case.dtype))


@exercise("tempered_softmax")
@points(2)
@public
@for_all(case=SCORES, corners=False)
def test_ratio_of_two_weights(student, case):
    """Two weights have the ratio exp((s_i - s_j) / temperature)."""
    scores, temperature = case.arguments().values()
    weights = student.tempered_softmax(scores, temperature)
    assert_same(weights / weights[:, :1], torch.exp((scores - scores[:, :1]) / temperature))


@exercise("tempered_softmax")
@points(1)
@public
@for_all(case=SCORES, corners=False)
def test_large_scores(student, case):
    """Large scores give finite weights."""
    assert_finite_at(student.tempered_softmax, case)


@exercise("tempered_softmax")
@points(4)
@for_all(case=SCORES)
def test_values_and_gradients(student, reference, case):
    """Values and gradients are right for any sizes, temperatures and memory layouts."""
    assert_equivalent(student.tempered_softmax, reference.tempered_softmax, case)


@exercise("tempered_softmax")
@points(1)
@for_all(case=SCORES, corners=False)
def test_float32_and_purity(student, reference, case):
    """The scores are left alone, and float32 is kept."""
    assert_pure(student.tempered_softmax, case)
    assert_equivalent(student.tempered_softmax, reference.tempered_softmax, case.but(dtype=torch.float32))
