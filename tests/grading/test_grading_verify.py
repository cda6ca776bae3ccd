"""The grader is graded: each way in which checks can be too weak or too strict is found, and a good unit has none."""
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny_course import CHECKS, tiny_course

from autograder.course import Course
from autograder.errors import AutograderError, UsageError
from autograder.grading.rounding import Rounding
from autograder.verify import verify_unit


def problems(course: Course) -> dict[str, list[str]]:
    """What is wrong, by exercise; of how long checks take, on a machine that others use too, nothing."""
    found = {proof.exercise: [p for p in proof.problems if "CPU" not in p] for proof in verify_unit(course, "tiny")}
    return {exercise: lines for exercise, lines in found.items() if lines}


def test_a_good_unit_has_no_problems_and_everything_was_tried(tiny: Course) -> None:
    seen: list[str] = []
    scale, center = verify_unit(tiny, "tiny", seen.append)
    assert problems(tiny) == {}
    assert [(v.kind, v.id, v.ok, v.score, v.diagnosed_as) for v in scale.verdicts] == [
        ("reference", "reference", True, 4, ""), ("skeleton", "skeleton", True, 0, ""),
        ("mistake", "added", True, 0, "added"), ("mistake", "detached", True, 1, "detached"),
        ("alternative", "einsum", True, 4, ""), ("null", "zeros", True, 0, ""), ("null", "input", True, 0, ""),
        ("null", "previous output", True, 0, "")]
    assert (scale.count("mistake"), scale.right("mistake"), scale.losing("mistake")) == (2, 2, 2)
    assert scale.checks == ["test_scale_of_ones", "test_scale_values_and_gradients"] and center.idle_checks == []
    assert "center: over_the_batch" in seen and "null output: zeros" in seen
    assert json.loads(json.dumps(scale.to_json()))["verdicts"][2]["failed_checks"] == scale.checks


VARIANT_OF_SCALE = '\n\n@{kind}("scale", "{id}"{title})\ndef scale(x, factor):\n    return {value}\n'


def variant(kind: str, id: str, value: str) -> str:
    return VARIANT_OF_SCALE.format(kind=kind, id=id, value=value, title=', "it is wrong"' * (kind == "mistake"))


MEANS, DIFFERENCES = CHECKS.splitlines(keepends=True)[-2:]
ALWAYS_TRUE = '\n\n@exercise("center")\n@points(1)\ndef test_idle(student):\n    """It holds."""\n'
NO_ALTERNATIVE = {'@alternative("center", "projection")\ndef center(x):\n    n = x.shape[1]\n    return x @ '
                  "(torch.eye(n, dtype=x.dtype) - 1 / n)\n": ""}

WRONG: dict[str, tuple[dict[str, Mapping[str, str] | str], str, list[str]]] = {
    "a mistake that is accepted": (
        {"variants": variant("mistake", "harmless", "factor * x * (1 + 1e-13)")}, "scale",
        ["mistake harmless gets 4 of 4 points"]),
    "two mistakes that nothing tells apart": (
        {"variants": variant("mistake", "added_too", "factor + x")}, "scale",
        ["the mistake added is diagnosed as nothing", "the mistake added_too is diagnosed as nothing"]),
    "a right solution that is rejected": (
        {"variants": variant("alternative", "rounded", "(factor * x * 2**20).round() / 2**20")}, "scale",
        ["the alternative rounded gets 1 of 4 points; it fails test_scale_values_and_gradients"]),
    "no right solution written otherwise": (
        {"variants": NO_ALTERNATIVE}, "center",
        ["no alternative: nothing shows that right code written otherwise is accepted"]),
    "a check that only looks at the shape": (
        {"checks": {MEANS: "", DIFFERENCES: "    assert result.shape == x.shape\n"}}, "center",
        ["null zeros gets 2 of 2 points", "null input gets 2 of 2 points", "null previous output gets 2 of 2",
         "mistake over_the_batch gets 2 of 2 points", "no mistake fails test_center_rows"]),
    "a check that nothing can fail": (
        {"checks": {"@points(2)": "@points(1)", DIFFERENCES: DIFFERENCES + ALWAYS_TRUE}}, "center",
        ["skeleton skeleton gets 1 of 2 points", "null zeros gets 1 of 2 points", "null input gets 1 of 2 points",
         "null previous output gets 1 of 2 points",
         "no mistake fails test_idle: nothing shows that this check can fail"]),
}


@pytest.mark.parametrize(("changes", "exercise", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_unit_is_found_and_nothing_else(tmp_path: Path, changes: dict, exercise: str,
                                                             expected: list[str]) -> None:
    found = problems(tiny_course(tmp_path, **changes))
    assert list(found) == [exercise] and len(found[exercise]) == len(expected)
    for line in expected:
        assert any(line in one for one in found[exercise]), (line, found)


TO_THE_BIT = '''

@exercise("scale")
@points(1)
@for_all(case=SCALE)
def test_scale_to_the_bit(student, reference, case):
    """The very same numbers."""
    x = torch.ones(case.B, case.N, dtype=torch.float64) / 3
    assert torch.equal(student.scale(x, case.factor), reference.scale(x, case.factor))
'''
NEARLY = variant("mistake", "nearly", "factor * x * (1 + 1e-14)")


def test_a_check_that_grading_would_wrongly_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    center = '\n\n@exercise("center")'
    course = tiny_course(tmp_path, checks={"@points(3)": "@points(2)", center: TO_THE_BIT + center}, variants=NEARLY)
    assert problems(course) == {"scale": ["the mistake nearly is diagnosed as nothing"]}  # but seen
    monkeypatch.setattr(Rounding, "is_decided", lambda self, check, agreement: True)
    assert problems(course) == {"scale": ["the mistake nearly gives the reference's answers but for rounding, yet "
                                          "fails test_scale_to_the_bit; grading would not notice"]}


REMEMBERS = '''

_tired = []

@mistake("scale", "tired", "it is wrong after the first backward pass")
def scale(x, factor):
    y = factor * x * (2.0 if _tired else 1.0)
    if y.requires_grad:
        y.register_hook(_tired.append)
    return y
'''


def test_code_that_remembers_has_to_be_seen_by_a_check_that_grading_runs(tmp_path: Path) -> None:
    """Asked ahead, all calls come before the first backward pass."""
    assert problems(tiny_course(tmp_path, variants=REMEMBERS)) == {
        "scale": ["the mistake tired gives the reference's answers but for rounding, yet fails "
                  "test_scale_values_and_gradients; grading would not notice"]}


def test_code_that_remembers_may_answer_rightly_what_it_is_asked_ahead(tmp_path: Path) -> None:
    """Then the check that it fails is not one that sees rounding; here it fails another, too."""
    also_wrong = REMEMBERS.replace("2.0 if _tired else 1.0", "2.0 if _tired or not x.requires_grad else 1.0")
    assert problems(tiny_course(tmp_path, variants=also_wrong)) == {}


def test_checks_that_take_longer_than_the_unit_allows_are_told(tmp_path: Path) -> None:
    slow = "    notebook: tiny\n    verify_seconds: 0.000001\n"
    course = tiny_course(tmp_path, course={"    notebook: tiny\n": slow})
    assert all("CPU on the reference; at most 1e-06 s" in proof.problems[-1] for proof in verify_unit(course, "tiny"))


UNUSABLE: dict[str, tuple[dict[str, Mapping[str, str] | str], type[Exception], str]] = {
    "points that do not add up": (
        {"course": {"points: 4": "points: 5"}}, UsageError,
        "tiny.scale is worth 5 points, its checks in tiny_checks.py add up to 4"),
    "an exercise without checks": (
        {"checks": {'@exercise("center")': '@exercise("scale")'}}, UsageError, "its checks in tiny_checks.py add up"),
    "checks of an unknown exercise": (
        {"checks": '\n\n@exercise("other")\n@points(1)\ndef test_other(student):\n    """It holds."""\n'}, UsageError,
        "tiny_checks.py: checks for other, which course.yml does not have in unit tiny"),
    "a variant of an unknown exercise": (
        {"variants": variant("alternative", "x", "x").replace('"scale"', '"other"')}, UsageError,
        "x names the exercise 'other', which course.yml does not have in unit tiny"),
    "a check file that is broken": ({"checks": "\n1 / 0\n"}, UsageError, "tiny_checks.py:41: ZeroDivisionError"),
    "a reference that fails its own checks": (
        {"solution": {"return factor * x": "return factor + x"}}, AutograderError,
        "the reference itself fails test_scale_of_ones for {'case': Case("),
    "a reference that does not run": (
        {"solution": {"import torch\n": "import torch\nundefined_name\n"}}, AutograderError,
        "tiny.py: reference (setup), line 2: NameError"),
}


@pytest.mark.parametrize(("changes", "error", "says"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_unit_that_cannot_be_graded_at_all_is_one_line_that_names_the_file(
        tmp_path: Path, changes: dict, error: type[Exception], says: str) -> None:
    course = tiny_course(tmp_path, **changes)
    with pytest.raises(error) as caught:
        verify_unit(course, "tiny")
    assert says in str(caught.value) and "\n" not in str(caught.value) and type(caught.value) is error


@pytest.mark.parametrize(("file", "says"), [("tiny_checks.py", "every notebook has a file of checks"),
                                            ("tiny_variants.py", "every notebook has a file of known mistakes")])
def test_a_file_that_is_missing_is_named(tmp_path: Path, file: str, says: str) -> None:
    course = tiny_course(tmp_path)
    (tmp_path / "solutions/tiny" / file).unlink()
    with pytest.raises(UsageError, match=f"{file}: no such file; {says}"):
        verify_unit(course, "tiny")


def test_a_course_that_was_not_built_is_told_so(tmp_path: Path) -> None:
    course = tiny_course(tmp_path)
    (tmp_path / "assignments/tiny/tiny.ipynb").unlink()
    with pytest.raises(UsageError, match=r"tiny.ipynb: no such file; run `autograder build` first"):
        verify_unit(course, "tiny")


def test_points_may_be_fractions(tmp_path: Path) -> None:
    course = tiny_course(tmp_path, course={"points: 4": "points: 0.3"},
                         checks={"@points(1)": "@points(0.1)", "@points(3)": "@points(0.2)"})
    assert problems(course) == {}
