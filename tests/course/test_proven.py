"""The course itself: what is committed is what the sources make, and every unit's checks are proven."""
import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.build.build import build
from autograder.commands.verify import print_table
from autograder.course import load_course
from autograder.files import write_atomically
from autograder.verify import ExerciseProof, verify

ROOT = Path(__file__).resolve().parents[2]
COURSE = load_course(ROOT / "course.yml")
KERNEL_MISTAKES = 16
"""Of a unit of kernels every sixteenth mistake: all of them take 26 minutes of CPU time. `.ci/nightly` proves all."""


def test_assignments_are_what_the_sources_make():
    assert [str(change) for change in build(COURSE, check=True)] == []


def test_the_sample_class_is_made_from_the_released_notebook():
    command = [sys.executable, "tests/make_sample_class.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def proofs() -> list[ExerciseProof]:
    """Of the whole course. tests/conftest.py prints the table when all tests have run."""
    found = list(verify(COURSE, list(COURSE.units), jobs=os.cpu_count() or 1, every=KERNEL_MISTAKES))
    with contextlib.redirect_stdout(io.StringIO()) as table:
        print_table(found)
    (ROOT / "results").mkdir(exist_ok=True)
    write_atomically(ROOT / "results" / "proof.txt", table.getvalue())
    return found


@pytest.mark.parametrize("unit", list(COURSE.units))
def test_every_mistake_is_named_and_every_right_solution_accepted(unit: str, proofs: list[ExerciseProof]) -> None:
    own = [proof for proof in proofs if proof.unit == unit]
    assert {proof.exercise for proof in own} == set(COURSE.units[unit].exercises)
    # Time is measured by `autograder verify`; here, beside other processes, it would say more about the machine.
    passed_over = [" s CPU on the "] + ["no mistake fails "] * COURSE.units[unit].triton
    faults = {proof.exercise: [one for one in proof.problems if not any(part in one for part in passed_over)]
              for proof in own}
    assert {exercise: found for exercise, found in faults.items() if found} == {}
    for proof in own:
        assert proof.losing("mistake") == proof.count("mistake") >= (1 if COURSE.units[unit].triton else 5)
        assert proof.right("alternative") == proof.count("alternative") >= 1
        assert proof.right("null") == proof.count("null") >= 3
