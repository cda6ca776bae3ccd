"""Writing assignments/: only what differs, nothing half-written, and no secret among it."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.build import build as module
from autograder.build.build import build
from autograder.course import load_course
from autograder.errors import UsageError

ROOT = Path(__file__).parents[2]
RELEASED = ["tiny.ipynb", "tiny_checks.py", "tiny_etude.json"]


def files(tiny):
    return {path.name: path.read_bytes() for path in sorted((tiny.root / "assignments").rglob("*")) if path.is_file()}


def kinds(changes):
    return {change.path.name: change.kind for change in changes}


def test_the_first_build_writes_everything_and_the_second_nothing(tiny):
    assert kinds(build(tiny.course)) == dict.fromkeys(RELEASED, "missing")
    assert list(files(tiny)) == RELEASED
    assert build(tiny.course) == [] and build(tiny.course, check=True) == []


def test_a_build_elsewhere_gives_the_same_bytes(tiny, tmp_path_factory):
    build(tiny.course)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "course"
    shutil.copytree(tiny.root / "solutions", elsewhere / "solutions")
    shutil.copy(tiny.root / "course.yml", elsewhere)
    code = ("import sys; from pathlib import Path; from autograder.course import load_course; "
            "from autograder.build.build import build; build(load_course(Path(sys.argv[1])))")
    subprocess.run([sys.executable, "-c", code, str(elsewhere / "course.yml")], check=True,
                   env=os.environ | {"PYTHONHASHSEED": "7"})
    for name, content in files(tiny).items():
        assert (elsewhere / "assignments" / "tiny" / name).read_bytes() == content


def test_checking_writes_nothing_and_says_what_is_out_of_date(tiny):
    assert kinds(build(tiny.course, check=True)) == dict.fromkeys(RELEASED, "missing")
    assert not (tiny.root / "assignments").exists()
    build(tiny.course)
    before = files(tiny)
    tiny.edit("solution", "Now the mean.", "And now the mean.")
    changes = build(tiny.course, check=True)
    assert [str(change) for change in changes] == ["tiny/tiny.ipynb is out of date"]
    assert files(tiny) == before
    assert changes == build(tiny.course) and build(tiny.course, check=True) == []


def test_only_what_differs_is_written(tiny):
    build(tiny.course)
    folder = tiny.root / "assignments" / "tiny"
    os.utime(folder / "tiny_checks.py", (1, 1))
    (folder / "tiny.ipynb").write_text("{}")
    assert kinds(build(tiny.course)) == {"tiny.ipynb": "different"}
    assert (folder / "tiny_checks.py").stat().st_mtime == 1


def test_stray_files_are_reported_and_left_alone(tiny):
    build(tiny.course)
    folder = tiny.root / "assignments"
    for name in ("old/old.ipynb", "tiny/tiny_variants.py", "tiny/.ipynb_checkpoints/tiny.ipynb",
                 "tiny/__pycache__/x.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    for check in (False, True):
        changes = build(tiny.course, check=check)
        assert kinds(changes) == {"old.ipynb": "stray", "tiny_variants.py": "stray"}
    assert str(changes[0]) == "old/old.ipynb is made by no source; delete it"
    assert (folder / "old/old.ipynb").exists()


def test_a_faulty_unit_stops_the_build_before_anything_is_written(tiny):
    tiny.edit("checks", "@public\n", "@public()\n")
    with pytest.raises(UsageError):
        build(tiny.course)
    assert not (tiny.root / "assignments").exists()


def test_a_missing_checks_file_is_told(tiny):
    tiny.path("checks").unlink()
    with pytest.raises(UsageError, match="^solutions/tiny/tiny_checks.py: not found; course.yml names this notebook$"):
        build(tiny.course)


def test_variants_may_be_missing(tiny):
    tiny.path("variants").unlink()
    assert len(build(tiny.course)) == len(RELEASED)


# ---------------------------------------------------------------------------------------------------- the leak guard

LEAKS = {
    "solution in the text": ("solution", "# Now the mean.", "# Try `total = values.sum(dim=-1, keepdim=True)`.",
                             "tiny.py:35: a line of the solution is in tiny/tiny.ipynb, which students get: "
                             "total = values.sum(dim=-1, keepdim=True)"),
    "solution in a public check": ("checks", "    assert float(", "    values, weight = ones(2), 2.0\n"
                                   "    total = (torch.multiply(values, weight))\n"
                                   "    return torch.multiply(values, weight)\n    assert float(",
                                   "tiny.py:16: a line of the solution is in tiny/tiny_checks.py"),
    "quotes in JSON": ("solution", "# Now the mean.", '# return f"size={SIZE} of the last axis"',
                       "tiny.py:41: a line of the solution is in tiny/tiny.ipynb"),
    "hidden check in the text": ("solution", "# Now the mean.", "# weights = torch.linspace(-math.pi, math.pi, size)",
                                 "tiny_checks.py:38: a line of a hidden check is in tiny/tiny.ipynb"),
    "hidden check in a helper": ("checks", "    return torch.ones(size, dtype=torch.float64)",
                                 "    weights = torch.linspace(-math.pi, math.pi, size)\n    return weights", None),
    "hidden name in the text": ("solution", "# Now the mean.", "# See test_values_and_gradients.",
                                "tiny_checks.py:36: the name of the hidden check test_values_and_gradients is in "
                                "tiny/tiny.ipynb"),
    "part of a hidden name": ("solution", "# Now the mean.", "# See test_values_and_gradients_too.", None),
    "variants in the text": ("solution", "# Now the mean.", "# Not return torch.pow(values, exponent=2.0)!",
                             "tiny_variants.py:9: a line of the variants is in tiny/tiny.ipynb"),
    "variants in a title": ("checks", '"""The mean of ones is one."""', '"""Squares instead of doubling, a classic."""',
                            "tiny_variants.py:8: a line of the variants is in tiny/tiny_checks.py"),
    "shown in a plain cell": ("solution", "SIZE = 3", "SIZE = 3\ntotal = values.sum(dim=-1, keepdim=True)", None),
    "short line": ("solution", "# Now the mean.", "# size={SIZE}", None),
}


@pytest.mark.parametrize("name", LEAKS)
def test_the_leak_guard(tiny, name):
    kind, old, new, message = LEAKS[name]
    tiny.edit(kind, old, new)
    if message is None:
        build(tiny.course)
        return
    with pytest.raises(UsageError) as raised:
        build(tiny.course)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not (tiny.root / "assignments").exists()


@pytest.mark.parametrize("function, text", [
    ("build_notebook", '{"cells": [{"source": ["    return torch.multiply(values, weight)\\n"]}]}'),
    ("slice_public", '@given(size=HIDDEN_SIZES)\ndef test_values_and_gradients(student, reference, size):\n    pass\n'),
    ("slice_public", "    assert_gradients(student.double, reference.double, weights)\n"),
])
def test_the_leak_guard_does_not_trust_what_makes_the_files(tiny, monkeypatch, function, text):
    monkeypatch.setattr(module, function, lambda _: text)
    with pytest.raises(UsageError, match="which students get"):
        build(tiny.course)


def test_units_are_guarded_against_each_other(tiny):
    """A long line of one unit's solution in another unit's checks; idioms of less than 60 characters pass."""
    second = tiny.root / "solutions" / "second"
    second.mkdir()
    for kind, name in {"solution": "second.py", "checks": "second_checks.py", "variants": "second_variants.py"}.items():
        (second / name).write_text(tiny.path(kind).read_text().replace("torch.full_like(values, 2.0)", "2.0"))
    course = (tiny.root / "course.yml").read_text()
    units = course.split("units:\n")[1].replace("tiny", "second")
    (tiny.root / "course.yml").write_text(course + units)
    long = "    long = values.unsqueeze(0).expand(7, *values.shape).contiguous()\n"
    tiny.edit("solution", "    weight = torch.full", long + "    weight = torch.full")
    assert len(build(tiny.course)) == 2 * len(RELEASED)
    checks = second / "second_checks.py"
    checks.write_text(checks.read_text() + "    values = 1\n    weight = torch.full_like(values, 2.0)\n")
    build(tiny.course)
    checks.write_text(checks.read_text() + long)
    with pytest.raises(UsageError, match="tiny.py:15: a line of the solution is in second/second_checks.py"):
        build(tiny.course)


# ---------------------------------------------------------------------------------------------------- the real course

def test_the_courses_own_sources_build():
    course = load_course(ROOT / "course.yml")
    if not all(unit.checks_path.exists() for unit in course.units.values()):
        pytest.skip("a unit of the course has no checks yet")
    build(course, check=True)
