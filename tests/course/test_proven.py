"""The course itself: what is committed is what the sources make, and every unit's checks are proven."""
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.build.build import build
from autograder.course import load_course
from autograder.verify import verify_unit

ROOT = Path(__file__).resolve().parents[2]
COURSE = load_course(ROOT / "course.yml")


def test_assignments_are_what_the_sources_make():
    assert [str(change) for change in build(COURSE, check=True)] == []


def test_the_sample_class_is_made_from_the_released_notebook():
    command = [sys.executable, "tests/make_sample_class.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("unit", list(COURSE.units))
def test_every_mistake_is_named_and_every_right_solution_accepted(unit):
    proofs = verify_unit(COURSE, unit)
    assert {proof.exercise for proof in proofs} == set(COURSE.units[unit].exercises)
    assert {proof.exercise: proof.problems for proof in proofs if proof.problems} == {}
    for proof in proofs:
        assert proof.right("mistake") == proof.count("mistake") >= 5
        assert proof.right("null") == proof.count("null") == 3
