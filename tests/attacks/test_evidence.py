"""Group e, dodging the task: forbidden calls are reported to staff with line and name; they never cost a point."""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from autograder.course import Course, load_course
from autograder.grading import grade as grading
from autograder.grading.evidence import Suspect, called, with_log, written
from autograder.grading.subjects import ReferenceSubject
from autograder.remote.channel import RawRequest, SealedChannel
from autograder.remote.student import RemoteStudent
from autograder.report.html import render_class_page, render_student_page
from autograder.report.model import Report, student_view
from autograder.sandbox.client import Limits, Zygote
from autograder.solution.material import Material
from autograder.submission.cells import Cell, Submission
from etude import wire
from etude.executor import CALL

from .ring import ROOT

FORBIDDEN = ["scaled_dot_product_attention", "MultiheadAttention", "conv2d", "LSTM"]
SETUP = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
Open = Callable[[Sequence[dict[str, str]]], SealedChannel]


@pytest.fixture
def open_channel(zygote: Zygote) -> Open:
    return lambda program: SealedChannel(program, lambda: zygote.spawn(Limits()), 60.0, 120.0)


def program(source: str, *others: str) -> list[dict[str, str]]:
    cells = [{"label": "setup", "source": SETUP, "mode": "all"}]
    cells += [{"label": f"cell {n}", "source": other, "mode": "definitions"} for n, other in enumerate(others, 10)]
    return [*cells, {"label": "cell 3 (attend)", "source": source, "mode": "all"}]


def requests() -> list[RawRequest]:
    tensors = [torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    return [(CALL, wire.encode({"name": "attend", "args": tensors, "kwargs": {}}))]


def evidence(open_channel: Open, source: str, *others: str) -> list[str]:
    return collected(open_channel, program(source, *others), ["attend"], FORBIDDEN, requests())


def collected(open_channel: Open, cells: list[dict[str, str]], contract: Sequence[str], forbidden: Sequence[str],
              asked: Sequence[RawRequest]) -> list[str]:
    """What GradedSubmission collects for one exercise."""
    found = written(open_channel, {"it": Suspect(cells, contract, forbidden)}).get("it", [])
    channel = open_channel(with_log(cells))
    try:
        return found + called(channel, forbidden, asked)
    finally:
        channel.close()


# source, what stands in the evidence: of the text (second line of the cell), of what was called
DODGES = {
    "plain": ("def attend(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)\n", "text", "call"),
    "another import": ("from torch.nn.functional import scaled_dot_product_attention as s\n"
                       "def attend(q, k, v): return s(q, k, v)\n", "text", "call"),
    "an alias": ("s = F.scaled_dot_product_attention\ndef attend(q, k, v): return s(q, k, v)\n", "text", "call"),
    "through a helper": ("def attend(q, k, v): return helper(q, k, v)\n"
                         "def helper(*a): return torch.nn.functional.scaled_dot_product_attention(*a)\n",
                         "text", "call"),
    "by text": ("def attend(q, k, v):\n    return getattr(F, 'scaled_dot_product_attention')(q, k, v)\n",
                "text", "call"),
    "by assembled text": ("def attend(q, k, v):\n    return getattr(F, 'scaled_dot_' + 'product_attention')(q, k, v)\n",
                          "", "call"),
    "through torch.ops": ("def attend(q, k, v):\n    return torch.ops.aten.scaled_dot_product_attention(q, k, v)\n",
                          "text", "call"),
    "the operation beneath": (
        "def attend(q, k, v):\n    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]\n",
        "", "call"),
    "a convolution by another name": ("def attend(q, k, v):\n    return torch.convolution(q, k, None, [1, 1], [0, 0], "
                                      "[1, 1], False, [0, 0], 1)\n", "", "call"),
    "a convolution from PyTorch's own drawer": (
        "def attend(q, k, v):\n    return torch._C._VariableFunctions.conv2d(q, k)\n", "text", "call"),
    "a module": ("def attend(q, k, v):\n    return nn.MultiheadAttention(4, 1)(q[0], k[0], v[0])[0]\n",
                 "text", "call"),
    "a layer that holds it": ("def attend(q, k, v):\n    return nn.TransformerEncoderLayer(4, 1)(q[0])\n", "", "call"),
    "a recurrent module": ("def attend(q, k, v):\n    return nn.LSTM(4, 4)(q[0])[0]\n", "text", "call"),
}
_SOFTMAX = "((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v)"
HONEST = {
    "a function of his own that bears the name": (
        f"def scaled_dot_product_attention(q, k, v): return {_SOFTMAX}\n"
        "def attend(q, k, v): return scaled_dot_product_attention(q, k, v)\n"),
    "a method of his own": (
        f"class Mine(nn.Module):\n    def conv2d(self, q, k, v): return {_SOFTMAX}\n"
        "    def forward(self, *a): return self.conv2d(*a)\ndef attend(*a): return Mine()(*a)\n"),
    "a comparison beside it": (
        f"def attend(q, k, v): return {_SOFTMAX}\nx = torch.ones(1, 1, 2, 2)\n"
        "assert torch.allclose(attend(x, x, x), F.scaled_dot_product_attention(x, x, x))\n"
        "def compare(x): return F.scaled_dot_product_attention(x, x, x)\ncompare(x)\n"),
    "a comment and a docstring": (
        'def attend(q, k, v):\n    """Like F.scaled_dot_product_attention."""\n    # not nn.LSTM\n'
        f"    return {_SOFTMAX}\n"),
    "einsum": "def attend(q, k, v):\n    a = torch.einsum('bhtd,bhsd->bhts', q, k)\n    return a.softmax(-1) @ v\n",
}


@pytest.mark.parametrize("name", DODGES)
def test_a_forbidden_call_is_reported_with_its_line_and_its_name(open_channel: Open, name: str):
    source, text, call = DODGES[name]
    found = evidence(open_channel, source)
    assert any("stands in the code" in line for line in found) == bool(text), found
    assert any("was called" in line for line in found) == bool(call), found
    assert all(line.startswith("cell 3 (attend), line ") for line in found)
    assert not text or any(f"line {number}: " in line for number in (1, 2) for line in found)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_solution_is_not_reported(open_channel: Open, name: str):
    assert evidence(open_channel, HONEST[name]) == []


def test_what_other_cells_do_counts_only_if_the_exercise_uses_it(open_channel: Open):
    helper = "def helper(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)\n"
    assert evidence(open_channel, f"def attend(q, k, v): return {_SOFTMAX}\n", helper) == []
    found = evidence(open_channel, "def attend(q, k, v): return helper(q, k, v)\n", helper)
    assert found and all(line.startswith("cell 10, line 2: ") for line in found)


BLINDED = {
    "dispatch and functions switched off": """
def attend(q, k, v):
    name = "".join(["scaled_dot_", "product_attention"])
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        return torch._C._nn.__dict__[name](q, k, v)
""",
    "the log cleared": """
import gc
def attend(q, k, v):
    out = getattr(F, "scaled_dot_" + "product_attention")(q, k, v)
    for thing in gc.get_objects():
        if type(thing) is dict and any(type(key) is tuple and len(key) == 3 for key in thing): thing.clear()
    return out
""",
}


@pytest.mark.parametrize("name", BLINDED)
def test_code_that_wants_to_can_hide_its_calls(open_channel: Open, name: str):
    """Why evidence is not a boundary. If this fails one day, evidence has become better than docs/attacks.md says."""
    assert evidence(open_channel, BLINDED[name]) == []
    channel = open_channel(program(BLINDED[name]))
    q, k, v = wire.decode(requests()[0][1])["args"]
    right = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.equal(RemoteStudent(channel).attend(q, k, v), right)
    channel.close()


@pytest.mark.parametrize("source", [
    "x" + ".a" * 100_000, "(" * 5000 + ")" * 5000, "def attend(:", "while True: pass", "import os; os._exit(0)",
    "import sys\nsys.setrecursionlimit(10**9)\ndef attend(*a): return attend(*a)",
    "import torch.overrides as o\no.TorchFunctionMode.__enter__ = None\ndef attend(q, k, v): return q",
    "def etude_log_stop(): return [[1, 2, 3], 'x', ['conv2d', None, 5]]\ndef attend(q, k, v): return q",
], ids=range(8))
def test_a_source_that_fights_the_search_costs_the_search_and_nothing_else(zygote: Zygote, source: str):
    def open_channel(program: Sequence[dict[str, str]]) -> SealedChannel:
        return SealedChannel(program, lambda: zygote.spawn(Limits()), 1.0, 20.0)
    assert evidence(open_channel, source) == []


# ---------------------------------------------------------------------------------------------- in the course

@pytest.fixture(scope="module")
def course() -> Course:
    return load_course(ROOT / "course.yml")


def alternatives(course: Course) -> list[tuple[Material, Any]]:
    units = [Material(course, unit) for unit in course.units.values() if any(e.forbid for e in unit.exercises.values())]
    return [(material, variant) for material in units for variant in material.variants
            if variant.kind == "alternative" and material.unit.exercises[variant.exercise].forbid]


def student_program(material: Material, exercise: str, source: str) -> list[dict[str, str]]:
    cells = [{**cell, "label": f"cell {number}"} for number, cell in enumerate(material.reference_program, 20)]
    return [*cells, {"label": f"cell 3 ({exercise})", "source": source, "mode": "all"}]


def test_no_right_solution_of_the_course_is_reported_but_those_that_make_the_call(course: Course, open_channel: Open):
    checked = reported = 0
    for material, variant in alternatives(course):
        forbidden = material.unit.exercises[variant.exercise].forbid
        own = student_program(material, variant.exercise, variant.source)[-1:]  # the reference is tested below
        suspect = Suspect(own, material.contract(variant.exercise), forbidden)
        found = written(open_channel, {"it": suspect})["it"]
        # The file's helpers, named with an underscore, come first and serve all exercises of the unit.
        functions = re.split(r"\n(?:def|class) (?!_)", variant.source)[1:]
        calls = any(re.search(rf"\.{name}\b", text) for name in forbidden for text in functions)
        assert bool(found) == calls, f"{variant.exercise}/{variant.id}: {found}"
        checked += 1
        reported += calls
    assert checked - reported > 30
    assert reported > 10


@pytest.mark.parametrize("unit", [name for name, unit in load_course(ROOT / "course.yml").units.items()
                                  if any(exercise.forbid for exercise in unit.exercises.values())])
def test_references_call_nothing_that_is_forbidden(course: Course, open_channel: Open, unit: str):
    material = Material(course, course.units[unit])
    exercises = [id for id, exercise in material.unit.exercises.items() if exercise.forbid]
    reference = ReferenceSubject(material)
    grading.run_unit_checks(material, [reference], exercises=exercises, shrink=False)
    for exercise in exercises:
        source = next(c["source"] for c in material.reference_program if c["label"] == f"reference ({exercise})")
        assert collected(open_channel, student_program(material, exercise, source), material.contract(exercise),
                         material.unit.exercises[exercise].forbid, reference.rehearsals[exercise]) == []


def test_evidence_is_for_staff_and_costs_no_point(course: Course, zygote: Zygote, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grading, "open_zygote", lambda course, options, kernels: nullcontext(zygote))
    material = Material(course, course.units["attention"])
    (dodge,) = [v for v in material.variants if (v.exercise, v.id) == ("sdpa_masked", "library_call")]
    submission = Submission("dodger", "attention", "memory", (Cell(3, dodge.source, "sdpa_masked"),), "0" * 64)
    reports: list[Report] = []
    grading.grade(course, [submission], reports.append, grading.Options(exercises=("sdpa_masked",)))
    (exercise,) = reports[0].exercises
    assert exercise.score == exercise.max_score > 0
    assert len(exercise.evidence) == 2
    assert Report.from_json(reports[0].to_json()).exercises[0].evidence == exercise.evidence
    assert student_view(reports[0]).exercises[0].evidence == []
    assert "scaled_dot_product_attention" in render_class_page(reports, [])
    assert "scaled_dot_product_attention" not in render_student_page(reports[0])


def test_course_yml_says_what_is_wrong_with_forbid(tmp_path: Path):
    from autograder.errors import UsageError
    text = (ROOT / "tests/attacks/course/course.yml").read_text()
    (tmp_path / "course.yml").write_text(text.replace("difficulty: 1}", "difficulty: 1, forbid: [nn.LSTM]}"))
    with pytest.raises(UsageError, match=r"forbid.*expected the name of a function or a class, without its module"):
        load_course(tmp_path / "course.yml")
