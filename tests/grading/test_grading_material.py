"""A unit's secrets, loaded once: the reference, its setup, its variants, and one digest of all that decides a grade."""
from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_course import tiny_course

from autograder.course import Course, load_course
from autograder.errors import AutograderError, UsageError
from autograder.solution.material import Material, verify_points


def material(course: Course) -> Material:
    return Material(course, course.units["tiny"])


def test_the_reference_is_the_solutions_functions(tiny: Course) -> None:
    reference = material(tiny).reference
    x = torch.tensor([[1.0, 3.0]])
    assert reference.scale(x, 2.0).tolist() == [[2, 6]] and reference.center(x).tolist() == [[-1, 1]]
    assert not any(name.startswith("__") for name in vars(reference))


def test_the_setup_is_the_courses_own_text(tiny: Course) -> None:
    (setup,) = material(tiny).setup
    assert "import torch" in setup and "def scale" not in setup


def test_a_variants_program_is_the_reference_with_its_functions_replaced(tiny: Course) -> None:
    one = material(tiny)
    assert [v.id for v in one.variants] == ["added", "detached", "einsum", "over_the_batch", "projection"]
    program = one.variant_program(one.variants[0])
    assert program[:-1] == one.reference_program and program[-1]["label"] == "variant (added)"
    assert all(cell["mode"] == "all" for cell in program)


def test_a_reference_that_does_not_run_is_the_graders_failure(tmp_path: Path) -> None:
    course = tiny_course(tmp_path, solution={"def center": "undefined_name\ndef center"})
    with pytest.raises(AutograderError, match=r"tiny.py: reference \(center\), line 1: NameError"):
        _ = material(course).reference


@pytest.mark.parametrize("name", ["tiny.py", "tiny_checks.py", "tiny_variants.py", "course.yml"])
def test_the_digest_hangs_on_everything_that_decides_a_grade(tiny: Course, tmp_path: Path, name: str) -> None:
    shutil.copytree(tiny.root, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert material(load_course(copy / "course.yml")).digest == material(tiny).digest, "nor on where the course lies"
    (path,) = copy.rglob(name)
    path.write_text(path.read_text().replace("call_seconds: 5", "call_seconds: 6") + "# changed\n")
    assert material(load_course(copy / "course.yml")).digest != material(tiny).digest


@pytest.mark.parametrize(("totals", "says"), [
    ({"scale": 4.0, "center": 2.5}, "tiny.center is worth 2 points, its checks in tiny_checks.py add up to 2.5"),
    ({"scale": 4.0}, "tiny.center is worth 2 points, its checks in tiny_checks.py add up to 0"),
    ({"scale": 4.0, "center": 2.0, "z": 1.0, "a": 1.0}, "tiny_checks.py: checks for a, z, which course.yml"),
])
def test_points_that_do_not_add_up_are_told(tiny: Course, totals: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        verify_points(material(tiny), totals)
    assert says in str(caught.value)


def test_points_that_add_up_but_for_binary_fractions_are_right(tiny: Course) -> None:
    verify_points(material(tiny), {"scale": 4.0 + 1e-12, "center": 0.1 + 0.2 + 1.7})
