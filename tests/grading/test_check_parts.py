"""Which statements of a check file an exercise's checks can see; where that cannot be told, nothing is claimed."""
from __future__ import annotations

import pytest

from autograder.solution.check_parts import parts_of

FILE = '''
"""Checks."""
import torch
from etude.checks import exercise, points
from etude.strategies import Cases, for_all, normal

WIDTH = 3
ONE = Cases(x=normal("B N"), sizes={"N": (1, WIDTH)})
TWO = Cases(x=normal("B M"))


def helper(x):
    return inner(x)


def inner(x):
    return x + 1


@exercise("one")
@points(1)
@for_all(case=ONE)
def test_one(student, case):
    """One."""
    assert helper(case.N)


@exercise("two")
@points(1)
@for_all(case=TWO)
def test_two(student, case):
    """Two."""
    assert case.M
'''


def touched(old: str, new: str, text: str = FILE) -> set[str] | None:
    """The exercises whose parts another text changes; None if either text is not understood."""
    assert old in text
    before, after = parts_of(text), parts_of(text.replace(old, new))
    if before is None or after is None:
        return None
    return {exercise for exercise in before.keys() | after.keys() if before.get(exercise) != after.get(exercise)}


@pytest.mark.parametrize(("old", "new", "exercises"), [
    ("WIDTH = 3", "WIDTH = 4", {"one"}),
    ("return x + 1", "return x + 2", {"one"}),
    ('normal("B M")', 'normal("B M", 2.0)', {"two"}),
    ("assert case.M", "assert case.M  # positive", set()),
    ("assert case.M", "assert  case . M", set()),
    ("TWO = Cases", "torch.manual_seed(0)\nTWO = Cases", {"one", "two"}),
    ("WIDTH = 3", "WIDTH = int(torch.rand(()))", {"one", "two"}),
    ("WIDTH = 3", "WIDTH = inner(2)", {"one"}),
    ("import torch\n", "import torch\nimport math\n", set()),
    ("import torch\n", "from somewhere import *\n", {"one", "two"}),
    ("WIDTH = 3", "pytestmark = []\nWIDTH = 3", {"one", "two"}),
    ("def helper", "@torch.no_grad()\ndef helper", {"one", "two"}),
    ("def inner(x)", "def inner(x, y=torch.rand(()))", {"one", "two"}),
    ("def inner(x)", "class More:\n    pass\n\n\ndef inner(x)", {"one", "two"}),
    ("WIDTH = 3", "WIDTH = 3\nWIDTH += 1", {"one", "two"}),
    ('@exercise("two")', '@exercise("one")', {"one", "two"}),
    ("def test_two", "def test_three", {"two"}),
])
def test_a_change_touches_those_who_can_see_it(old: str, new: str, exercises: set[str]) -> None:
    assert touched(old, new) == exercises


def test_the_order_is_that_of_the_first_checks() -> None:
    assert list(parts_of(FILE)) == ["one", "two"]
    swapped = FILE.replace('"one"', '"x"').replace('"two"', '"one"').replace('"x"', '"two"')
    assert list(parts_of(swapped)) == ["two", "one"]


@pytest.mark.parametrize(("old", "new"), [
    ("def helper", "def helper(:\n\ndef other"),
    ("assert case.M", "assert globals()['WIDTH']"),
    ("assert case.M", "assert eval('WIDTH')"),
    ("assert case.M", "global WIDTH"),
    ("assert case.M", "helper.calls = 1"),
    ("assert case.M", "SEEN[1] = 2\n\n\nSEEN = {}"),
    ("assert case.M", "SEEN.append(1)\n\n\nSEEN = []"),
    ("assert case.M", "assert helper.__globals__"),
    ("def test_two", "def test_one"),
    ('@exercise("two")', "@exercise(NAME)"),
    ('@exercise("two")', "@other"),
    ('@exercise("two")\n', ""),
    ('@exercise("two")', 'class TestTwo:\n  @exercise("two")\n  def test(self):\n    pass\n\n\n@exercise("two")'),
])
def test_a_file_that_is_not_understood_has_no_parts(old: str, new: str) -> None:
    assert old in FILE and parts_of(FILE.replace(old, new)) is None


def test_what_a_function_changes_of_its_own_is_nobody_elses() -> None:
    own = FILE.replace("assert case.M", "seen = []\n    seen.append(1)\n    case.M = 2")
    assert list(parts_of(own)) == ["one", "two"]
