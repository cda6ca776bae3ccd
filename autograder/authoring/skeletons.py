"""The texts that an exercise begins with. `<id>` becomes the exercise's id, `<ID>` the same in capitals."""
from __future__ import annotations

NOTEBOOK = '''\
# %% [markdown]
# # TODO: the unit's title
#
# TODO: what the unit is about.

# %% role="setup"
import torch
from torch import Tensor

from etude import check, hint, progress
'''

EXERCISE = '''\
# %% [markdown]
# ## TODO: <id>
#
# TODO: what the exercise is about, the equation with its source, and what to watch for.

# %% exercise="<id>"
def <id>(x: Tensor) -> Tensor:
    """TODO: the contract in one line.

    x  (B, N) float

    Returns (B, N) float. TODO: masks, ties, empty input, errors.
    """
    ### BEGIN SOLUTION
    raise NotImplementedError("TODO: the reference solution of <id>")
    ### END SOLUTION

# %% [markdown] hints="<id>"
# - TODO: where to look first.
# - TODO: what to do there.
'''

CHECKS = '''\
"""Checks of the unit."""
'''

CHECK = '''\

# TODO: the arguments of <id> by name, its sizes and flags.
<ID> = Cases(x=normal("B N"), sizes={"N": (1, 5, 40)})


@exercise("<id>")
@points(1)
@public
@for_all(case=<ID>)
def test_<id>_is_pure(student, case):
    """TODO: a property that students may see, computed without the reference."""
    assert_pure(student.<id>, case)


@exercise("<id>")
@points(3)
@for_all(case=<ID>)
def test_<id>_values_and_gradients(student, reference, case):
    """Values and gradients are right for any sizes and memory layouts."""
    assert_equivalent(student.<id>, reference.<id>, case)
'''

VARIANTS = '''\
"""What students hand in for the unit."""
import torch
'''

VARIANT = '''\

# TODO: at least five mistakes of <id>, and one right solution that is written otherwise:
#
# @mistake("<id>", "an_id", "completes: this is what you get when ...", hint="Where to look.")
# def <id>(x):
#     return ...
#
# @alternative("<id>", "an_id")
# def <id>(x):
#     return ...
'''

IMPORTS = {
    "exercise": "from etude.checks import exercise, points, public",
    "points": "from etude.checks import exercise, points, public",
    "public": "from etude.checks import exercise, points, public",
    "assert_equivalent": "from etude.properties import assert_equivalent, assert_pure",
    "assert_pure": "from etude.properties import assert_equivalent, assert_pure",
    "Cases": "from etude.strategies import Cases, for_all, normal",
    "for_all": "from etude.strategies import Cases, for_all, normal",
    "normal": "from etude.strategies import Cases, for_all, normal",
    "mistake": "from autograder.variants import alternative, mistake",
    "alternative": "from autograder.variants import alternative, mistake",
}
"""What the skeletons use beyond the language, and the line that brings it."""
