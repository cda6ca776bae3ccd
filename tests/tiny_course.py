"""A course of one unit with two small exercises, whose parts a test replaces to make it wrong."""
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from autograder.course import Course, load_course
from autograder.submission.cells import Cell, Submission

COURSE = """\
schema: 1
title: A tiny course
units:
  tiny:
    title: Tiny functions
    notebook: tiny
    exercises:
      scale:  {title: Scaling, points: 4, minutes: 5, difficulty: 1}
      center: {title: Centring, points: 2, minutes: 5, difficulty: 1}
limits:
  call_seconds: 5
  exercise_seconds: 30
"""

SOLUTION = '''\
# %% [markdown]
# # Tiny functions

# %% role="setup"
import torch
from torch import Tensor

# %% [markdown]
# Scaling is multiplication.

# %% exercise="scale"
def scale(x: Tensor, factor: float) -> Tensor:
    """(B, N) -> (B, N), every element `factor` times as large."""
    ### BEGIN SOLUTION
    return factor * x
    ### END SOLUTION

# %% [markdown]
# Centring takes the mean off.

# %% exercise="center"
def center(x: Tensor) -> Tensor:
    """(B, N) -> (B, N) with rows of mean 0."""
    ### BEGIN SOLUTION
    return x - x.mean(dim=-1, keepdim=True)
    ### END SOLUTION
'''

CHECKS = '''\
"""Checks of the tiny functions."""
import torch
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.properties import assert_equivalent
from etude.strategies import Cases, for_all, normal, value_of

SCALE = Cases(x=normal("B N"), factor=value_of("factor"), flags={"factor": (3.0, -0.5)})
CENTER = Cases(x=normal("B N", shift=1.0))


@exercise("scale")
@points(1)
@public
@for_all(case=SCALE)
def test_scale_of_ones(student, case):
    """The factor itself is what ones become."""
    ones = torch.ones(case.B, case.N)
    assert_same(student.scale(ones, case.factor), torch.full_like(ones, case.factor))


@exercise("scale")
@points(3)
@for_all(case=SCALE)
def test_scale_values_and_gradients(student, reference, case):
    """Values and gradients are right."""
    assert_equivalent(student.scale, reference.scale, case)


@exercise("center")
@points(2)
@public
@for_all(case=CENTER)
def test_center_rows(student, case):
    """Rows have mean 0 and keep their differences."""
    (x,) = case.arguments().values()
    result = student.center(x)
    assert_same(result.mean(-1), torch.zeros(case.B, dtype=x.dtype), "means")
    assert_same(result - result[:, :1], x - x[:, :1], "differences")
'''

VARIANTS = '''\
"""What students hand in for the tiny functions."""
import torch

from autograder.variants import alternative, mistake


def _mean(x, dim):
    return x.mean(dim=dim, keepdim=True)


@mistake("scale", "added", "the factor is added", hint="Scaling multiplies.")
def scale(x, factor):
    return x + factor


@mistake("scale", "detached", "the result is detached", hint="Gradients have to reach x.")
def scale(x, factor):
    return (factor * x).detach()


@alternative("scale", "einsum")
def scale(x, factor):
    return torch.einsum("bn,->bn", x, torch.tensor(factor, dtype=x.dtype))


@mistake("center", "over_the_batch", "the mean of the batch is taken off")
def center(x):
    return x - _mean(x, 0)


@alternative("center", "projection")
def center(x):
    n = x.shape[1]
    return x @ (torch.eye(n, dtype=x.dtype) - 1 / n)
'''

RIGHT = {"scale": "def scale(x, factor):\n    return x * factor",
         "center": "def center(x):\n    return x - x.mean(1, keepdim=True)"}


TODO = {"scale": "def scale(x, factor):\n    raise NotImplementedError",
        "center": "def center(x):\n    raise NotImplementedError"}


def tiny_course(folder: Path, **changes: Mapping[str, str] | str) -> Course:
    """The course in `folder`. `checks={old: new}` replaces parts of a text, `checks="..."` adds to its end.

    The notebook for students is made by hand: building it takes seconds.
    """
    texts = {"course": COURSE, "solution": SOLUTION, "checks": CHECKS, "variants": VARIANTS}
    for name, change in changes.items():
        if isinstance(change, str):
            texts[name] += change
            continue
        for old, new in change.items():
            assert old in texts[name], f"{name} has no {old!r}"
            texts[name] = texts[name].replace(old, new)
    home = folder / "solutions" / "tiny"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "course.yml").write_text(texts["course"], encoding="utf-8")
    for name, text in (("", "solution"), ("_checks", "checks"), ("_variants", "variants")):
        (home / f"tiny{name}.py").write_text(texts[text], encoding="utf-8")
    skeleton = folder / "assignments" / "tiny" / "tiny.ipynb"
    skeleton.parent.mkdir(parents=True, exist_ok=True)
    skeleton.write_bytes(notebook_of(handed_in(**TODO)))
    return load_course(folder / "course.yml")


def handed_in(student: str = "ann", **cells: str) -> Submission:
    """A submission of these exercise cells; those that are not named are right."""
    sources = RIGHT | cells
    return Submission(student, "tiny", f"{student}/tiny/tiny.ipynb",
                      tuple(Cell(number, source, exercise) for number, (exercise, source) in
                            enumerate(sources.items(), 1)), digest="0" * 64)


def notebook_of(submission: Submission) -> bytes:
    """The same as the bytes of a notebook."""
    cells = [{"cell_type": "code", "source": cell.source, "outputs": [], "execution_count": None,
              "metadata": {"nbgrader": {"grade_id": cell.grade_id, "solution": True, "grade": False, "locked": False}}}
             for cell in submission.cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()
