"""Checks of the target. No wrong function passes any of them, so that one that is passed was got by fraud."""
import os

import torch
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.properties import assert_equivalent
from etude.strategies import Cases, for_all, normal

SECRET = os.environ.get("ETUDE_PLANTED", "")  # what attacks that steal are after
CASES = Cases(x=normal("N"))


@exercise("double")
@points(1)
@for_all(case=CASES)
def test_twice(student, reference, case):
    """f(f(x)) is right: what the first call returned is what the second one gets."""
    x = case.arguments()["x"]
    assert_same(student.f(student.f(x)), reference.f(reference.f(x)))


@exercise("double")
@points(2)
@for_all(case=CASES)
def test_values_and_gradients(student, reference, case):
    """Values and gradients are right."""
    assert_equivalent(student.f, reference.f, case)


@exercise("double")
@points(1)
def test_large_input(student, reference):
    """A large input is no trouble."""
    x = torch.linspace(-1, 1, 1 << 16, dtype=torch.float64)  # more bytes than a socket holds
    assert_same(student.f(x), reference.f(x))


@exercise("double")
@points(1)
@public
def test_two(student):
    """f(2) = 5."""
    assert_same(student.f(torch.full((3,), 2.0)), torch.full((3,), 5.0))
