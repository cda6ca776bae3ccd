"""Slicing the public checks out of a checks file: what is released, and what stops the build."""
from __future__ import annotations

import pytest

from autograder.build.check_file import read_checks
from autograder.build.public_checks import public_checks
from autograder.errors import UsageError

RELEASED = '''\
"""The public checks of tiny.ipynb. Made by `autograder build` from the course; do not edit."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.checks import exercise, points, public
from etude.compare import assert_close

TOLERANCE = 1e-9
SIZES = st.integers(1, 5)


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


@exercise("mean")
@points(2.5)
@public
def test_mean_of_ones_is_one(student):
    """The mean of ones is one."""
    assert float(student.Mean()(ones(4))) == 1
'''


def check(body="pass", marks="@public", arguments="student", name="test_extra", title='"""A title."""'):
    lines = "\n".join(f"    {line}" for line in [title, *body.split("\n")])
    return f'@exercise("mean")\n@points(1)\n{marks}\ndef {name}({arguments}):\n{lines}\n'


def test_the_release_holds_the_public_checks_and_what_they_use(tiny):
    assert public_checks(tiny.path("checks"), tiny.unit.exercises) == RELEASED


def test_the_release_is_a_checks_file_with_public_checks_only(tiny, tmp_path):
    released = tmp_path / "tiny_checks.py"
    released.write_text(RELEASED)
    assert [item.public for item in read_checks(released, tiny.unit.exercises).checks] == [True, True]


def test_a_checks_file_is_read_without_running_it(tiny):
    checks = read_checks(tiny.path("checks"), tiny.unit.exercises).checks
    assert [(one.name, one.exercise, one.points, one.public, one.title) for one in checks] == [
        ("test_ones_become_twos", "double", 1, True, "Ones become twos."),
        ("test_values_and_gradients", "double", 3, False, "Values and gradients agree with the reference."),
        ("test_mean_of_ones_is_one", "mean", 2.5, True, "The mean of ones is one.")]


def test_without_public_checks_only_the_header_is_released(tiny):
    text = tiny.path("checks").read_text()
    tiny.path("checks").write_text(text.replace("@public\n", ""))
    assert public_checks(tiny.path("checks")) == RELEASED.split("import torch")[0].rstrip() + "\n"


def test_marks_may_be_written_as_pytest_writes_them(tiny):
    tiny.add_check('import pytest\n\n\n@pytest.mark.exercise("mean")\n@pytest.mark.points(1)\n@pytest.mark.public\n'
                   'def test_extra(student):\n    """A title."""\n')
    assert "def test_extra(student):" in public_checks(tiny.path("checks"))


@pytest.mark.parametrize("body", [
    "assert HIDDEN_SIZES", "assert (lambda: HIDDEN_SIZES)()", "class A(HIDDEN_SIZES): pass",
    "assert [HIDDEN_SIZES for _ in ()]", "def inner(x=HIDDEN_SIZES): pass",
])
def test_helpers_are_found_wherever_their_name_is_used(tiny, body):
    tiny.add_check(check(body))
    assert "HIDDEN_SIZES = st.integers(90, 95)" in public_checks(tiny.path("checks"))


@pytest.mark.parametrize("body", ["HIDDEN_SIZES = 3\nassert HIDDEN_SIZES", "assert [1 for HIDDEN_SIZES in ()]",
                                  "assert student.HIDDEN_SIZES", "f = lambda HIDDEN_SIZES: HIDDEN_SIZES",
                                  "assert 'HIDDEN_SIZES'"])
def test_a_local_name_releases_nothing(tiny, body):
    tiny.add_check(check(body))
    assert "st.integers(90, 95)" not in public_checks(tiny.path("checks"))


def test_helpers_of_helpers_and_fixtures_are_released(tiny):
    tiny.add_check("import pytest\n\n\ndef base():\n    return 2\n\n\ndef helper(x=math.pi) -> float:\n"
                   "    return base()\n\n\n@pytest.fixture\ndef number():\n    return helper()\n\n\n"
                   + check("assert number", arguments="student, number"))
    text = public_checks(tiny.path("checks"))
    for part in ("import math\n", "import pytest\n", "def base():", "def helper(", "@pytest.fixture\ndef number():"):
        assert part in text


def test_imports_lose_the_names_that_stay_behind(tiny):
    tiny.edit("checks", "from etude.compare import assert_close, assert_gradients",
              "import os\nfrom etude.compare import (\n    assert_close,\n    assert_gradients,\n)\n"
              "import json as j, math as m")
    text = public_checks(tiny.path("checks"))
    assert "from etude.compare import assert_close\n" in text
    assert "assert_gradients" not in text and "import os" not in text and "json" not in text


def test_a_long_import_is_wrapped(tiny):
    names = [f"assert_something_with_a_long_name_{number}" for number in range(4)]
    tiny.add_check(f"from etude.compare import (\n    {', '.join(names)}, unused)\n\n\n"
                   + check("\n".join(names)))
    wrapped = "".join(f"    {name},\n" for name in names)
    assert f"from etude.compare import (\n{wrapped})\n" in public_checks(tiny.path("checks"))


def test_comments_and_names_of_hidden_parts_stay_behind(tiny):
    tiny.add_check('# Hidden: tests the secret thing.\n' + check(marks="# secret", name="test_secret"))
    text = public_checks(tiny.path("checks"))
    assert "secret" not in text.lower() and "internal remarks" not in text and "reference" not in text


UNPUBLIC = ["@public()", "@marks.public", "@pytest.mark.public()", "@(public if SIZES else points)",
            "@pytest.mark.parametrize('x', [pytest.param(1, marks=public)])"]


@pytest.mark.parametrize("marks", UNPUBLIC)
def test_a_mark_that_is_not_literally_public_stops_the_build(tiny, marks):
    tiny.add_check(check(marks=marks))
    with pytest.raises(UsageError, match="test_extra: write the mark as `@public` and nothing else"):
        public_checks(tiny.path("checks"))


REFUSED = {
    "reference": (check("assert reference", arguments="student, reference"), 4,
                  "test_extra is released and takes `reference`"),
    "keyword reference": (check(arguments="student, *, reference"), 4, "takes `reference`"),
    "request": (check("request", arguments="student, request"), 4, "takes `request`"),
    "usefixtures": (check(marks='@public\n@pytest.mark.usefixtures("reference")'), 5, "takes `reference`"),
    "reference by fixture": ("@pytest.fixture\ndef truth(reference):\n    return reference\n\n\n"
                             + check(arguments="student, truth"), 2, "truth is released and takes `reference`"),
    "hidden check as helper": (check("test_values_and_gradients(student, None, 3)"), None,
                               "a public check uses test_values_and_gradients, which is hidden"),
    "solution import": ("from solutions.tiny import tiny\n\n\n" + check("tiny"), 1,
                        "released code imports `solutions.tiny.tiny`, which holds the solution"),
    "solution import inside": (check("import tiny"), 6, "imports `tiny`"),
    "variants import": (check("from course.tiny_variants import double"), 6, "imports `course.tiny_variants.double`"),
    "variants by from": (check("from course import other_variants"), 6, "imports `course.other_variants`"),
    "own folder": (check("from . import tiny_data"), 6, "released code imports from its own folder"),
    "variants by helper": ("def helper():\n    from tiny_variants import double\n\n\n" + check("helper()"), 2,
                           "imports `tiny_variants.double`"),
    "path to solutions": (check("torch.hub('solutions/tiny/tiny.py')"), 6, "released code names `solutions/tiny`"),
    "variants by name": (check("torch.hub(f'{student} tiny_variants')"), 6, "released code names `tiny_variants`"),
    "staff package": (check("from autograder import course"), 6, "imports `autograder`"),
    "files": (check("import os"), 6, "imports `os`; public checks neither read files nor load code"),
    "importlib": (check("import importlib.util as u"), 6, "imports `importlib`"),
    "import_module": (check("student.import_module('x')"), 6, "uses `.import_module`"),
    "globals of": (check("student.f.__globals__"), 6, "uses `.__globals__`"),
    "own file": (check("__file__"), 6, "uses `__file__`"),
    "unknown name": (check("x = 1\nassert nowhere"), 7,
                     "released code uses `nowhere`, which this file does not define"),
    "unknown in default": ("def helper(x=nowhere):\n    return x\n\n\n" + check("helper()"), 1, "uses `nowhere`"),
    "defined twice": ("SIZES = None\n\n\n" + check("SIZES"), None,
                      "`SIZES` is defined more than once (lines 14 and 50)"),
    "import and definition": ("def torch():\n    pass\n\n\n" + check("torch"), None,
                              "`torch` is defined more than once"),
    "builtin redefined twice": ("len = 1\nlen = 2\n\n\n" + check("len"), 10, "`len` is defined more than once"),
} | {name: (check(f"{name}('x')"), 6, f"released code uses `{name}`")
     for name in ("globals", "locals", "vars", "exec", "eval", "compile", "__import__", "open")}


@pytest.mark.parametrize("name", REFUSED)
def test_a_slip_in_released_code_stops_the_build(tiny, name):
    text, offset, message = REFUSED[name]
    before = tiny.path("checks").read_text().count("\n") + 2
    tiny.add_check(text)
    with pytest.raises(UsageError) as raised:
        public_checks(tiny.path("checks"), tiny.unit.exercises)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    if offset is not None:
        assert str(raised.value).startswith(f"solutions/tiny/tiny_checks.py:{before + offset}: ")


IN_THE_CHECK = [name for name, (text, _, _) in REFUSED.items() if text.startswith("@exercise")]


@pytest.mark.parametrize("name", [name for name in IN_THE_CHECK if name != "hidden check as helper"])
def test_the_same_in_a_hidden_check_is_the_authors_business(tiny, name):
    tiny.add_check(REFUSED[name][0].replace("@public\n", ""))
    assert public_checks(tiny.path("checks"), tiny.unit.exercises) == RELEASED


BROKEN = {
    "no exercise": ("def test_x(student):\n    pass\n", 1, "test_x names no exercise; decorate it with `@exercise("),
    "exercise by name": ('@exercise(SIZES)\n@points(1)\ndef test_x(s):\n    """T."""\n', 3, "names no exercise"),
    "no points": ('@exercise("mean")\ndef test_x(s):\n    """T."""\n', 2, "test_x carries no points"),
    "zero points": ('@exercise("mean")\n@points(0)\ndef test_x(s):\n    """T."""\n', 3, "carries no points"),
    "points twice": ('@exercise("mean")\n@points(1)\n@points(1)\ndef test_x(s):\n    """T."""\n', 4, "`points` twice"),
    "no title": ('@exercise("mean")\n@points(1)\ndef test_x(s):\n    pass\n', 3, "test_x has no docstring"),
    "unknown exercise": ('@exercise("no")\n@points(1)\ndef test_x(s):\n    """T."""\n', 3, '"no" is not in course.yml'),
    "same name": (check(name="test_mean_of_ones_is_one"), 4, "is defined twice; Python would forget the one at line"),
    "star": ("from math import *\n", 1, "`import *` hides what a check uses"),
    "expression": ("print(1)\n", 1, "an expression at the top level"),
    "if": ("if SIZES:\n    x = 1\n", 1, "`if` at the top level; a checks file holds imports, functions"),
    "try": ("try:\n    import x\nexcept ImportError:\n    pass\n", 1, "`try` at the top level"),
    "augmented": ("SIZES |= SIZES\n", 1, "`+=` or the like at the top level"),
    "async": ("async def test_x(): pass\n", 1, "`async def` at the top level"),
    "attribute": ("torch.secret = 1\n", 1, "assign to plain names only"),
    "walrus": ("A = (B := 1)\n", 1, "assign to plain names only"),
    "pytestmark": ("pytestmark = [public]\n", 1, "`pytestmark` marks every check at once"),
    "public redefined": ("public = points\n", 1, "`public` is a mark's name"),
    "public renamed": ("from x import hidden as public\n", 1, "`public` is a mark's name; import `hidden` otherwise"),
    "test by assignment": ("test_x = ones\n", 1, "`test_x`: pytest would collect it"),
    "test by import": ("from x import test_x\n", 1, "`test_x`: pytest would collect it"),
    "test class": ("class TestX:\n    pass\n", 1, "class TestX: a check is a function"),
    "two statements": ("A = 1; B = 2\n", 1, "one statement per line"),
    "syntax": ("def f(:\n", 1, "syntax error: "),
    "not compilable": ("def f():\n    pass\nreturn 1\n", 3, "syntax error: 'return' outside function"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_told_in_one_line(tiny, name):
    text, offset, message = BROKEN[name]
    before = tiny.path("checks").read_text().count("\n") + 2
    tiny.add_check(text)
    with pytest.raises(UsageError) as raised:
        read_checks(tiny.path("checks"), tiny.unit.exercises)
    assert str(raised.value).startswith(f"solutions/tiny/tiny_checks.py:{before + offset}: ")
    assert message in str(raised.value) and "\n" not in str(raised.value)
