"""A tiny course that the tests of the build bend and break."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from autograder.course import Course, Unit, load_course

COURSE = """\
schema: 1
title: Tiny
units:
  tiny:
    title: Tiny unit
    notebook: tiny
    exercises:
      double: {title: Twice, points: 4, minutes: 5, difficulty: 1}
      mean: {title: Mean, points: 2.5, minutes: 5, difficulty: 1}
"""

SOLUTION = '''\
# %% [markdown]
# # Tiny unit
# more heads are better than one: $\\alpha \\to "quoted"$

# %% role="setup"
import torch

# more than a comment, but no command
from etude import check

# %% exercise="double"
def double(values: torch.Tensor) -> torch.Tensor:
    """Twice the values."""
    ### BEGIN SOLUTION
    weight = torch.full_like(values, 2.0)
    return torch.multiply(values, weight)
    ### END SOLUTION


# %%
print(double(torch.ones(3)))

# %% [markdown]
# Now the mean.

# %% role="setup"
SIZE = 3

# %% exercise="mean"
class Mean(torch.nn.Module):
    """The mean of the last axis."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        ### BEGIN SOLUTION
        total = values.sum(dim=-1, keepdim=True)
        return total.squeeze(-1) / values.shape[-1]
        ### END SOLUTION

    def extra_repr(self) -> str:
        ### BEGIN SOLUTION
        return f"size={SIZE} of the last axis"
        ### END SOLUTION

# %%
print(double(torch.ones(3)))
'''

CHECKS = '''\
"""Checks of the tiny unit: internal remarks."""
from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.checks import exercise, points, public
from etude.compare import assert_close, assert_gradients

TOLERANCE = 1e-9
SIZES = st.integers(1, 5)

HIDDEN_SIZES = st.integers(90, 95)


def ones(size):
    return torch.ones(size, dtype=torch.float64)


# Says why this check is the first.
@exercise("double")
@points(1)
@public
@given(size=SIZES)
def test_ones_become_twos(student, size):
    """Ones become twos."""
    assert_close(student.double(ones(size)), 2 * ones(size), TOLERANCE)  # at once


@exercise("double")
@points(3)
@given(size=HIDDEN_SIZES)
def test_values_and_gradients(student, reference, size):
    """Values and gradients agree with the reference."""
    weights = torch.linspace(-math.pi, math.pi, size)
    assert_gradients(student.double, reference.double, weights)


@exercise("mean")
@points(2.5)
@public
def test_mean_of_ones_is_one(student):
    """The mean of ones is one."""
    assert float(student.Mean()(ones(4))) == 1
'''

VARIANTS = '''\
"""Mistakes and alternatives of the tiny unit."""
from __future__ import annotations

import torch


def double(values: torch.Tensor) -> torch.Tensor:
    """Squares instead of doubling, a classic."""
    return torch.pow(values, exponent=2.0)
'''


@dataclass
class Tiny:
    """A course in a folder of its own, whose files can be edited by replacing text."""

    root: Path

    @property
    def course(self) -> Course:
        return load_course(self.root / "course.yml")

    @property
    def unit(self) -> Unit:
        return self.course.units["tiny"]

    def path(self, kind: str) -> Path:
        return self.root / "solutions" / "tiny" / {"solution": "tiny.py"}.get(kind, f"tiny_{kind}.py")

    def edit(self, kind: str, old: str, new: str) -> int:
        """Replace the first `old` in a file; the line where it was."""
        text = self.path(kind).read_text()
        assert old in text, old
        self.path(kind).write_text(text.replace(old, new, 1))
        return text[: text.index(old)].count("\n") + 1

    def add_check(self, text: str) -> None:
        path = self.path("checks")
        path.write_text(path.read_text() + "\n\n" + text)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    made = Tiny(tmp_path)
    (tmp_path / "solutions" / "tiny").mkdir(parents=True)
    (tmp_path / "course.yml").write_text(COURSE)
    for kind, text in {"solution": SOLUTION, "checks": CHECKS, "variants": VARIANTS}.items():
        made.path(kind).write_text(text)
    return made
