"""Known mistakes are recognised by what they answer; right programs never are; and the file gives nothing away."""
from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from autograder.build.build import build, fingerprints_path, released_checks_path
from autograder.build.probes import record_probes
from autograder.build.recording import Altered, Recorder
from autograder.course import load_course
from autograder.errors import UsageError
from autograder.released_names import released_names
from autograder.solution.material import Material
from autograder.solution.source import reference_cells
from etude.cells import load_program
from etude.observe import tensors_in
from etude.students import fingerprints
from etude.students.findings import Diagnosis
from etude.students.fingerprints import decode_probe, diagnose, encode_probe, mark_of

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = ("sdpa_masked", "sparsemax")
"""Of the released unit; `autograder verify` looks at all."""


@pytest.fixture(scope="module")
def material():
    course = load_course(ROOT / "course.yml")
    return Material(course, course.units["attention"])


@pytest.fixture(scope="module")
def released(material):
    return json.loads(fingerprints_path(material.unit).read_text(encoding="utf-8"))


def namespace_of(program):
    return load_program(program).namespace


# ---------------------------------------------------------------------------------------------- the released unit

@pytest.mark.parametrize("exercise", EXERCISES)
def test_no_mistake_is_misnamed_and_most_are_named(exercise, material, released):
    mistakes = [one for one in material.variants if (one.kind, one.exercise) == ("mistake", exercise)]
    named = [diagnose(exercise, released, namespace_of(material.variant_program(one))) for one in mistakes]
    assert [found for found, one in zip(named, mistakes, strict=True)
            if found and (found.title, found.hint) != (one.title, one.hint)] == []
    assert sum(found is not None for found in named) >= 0.8 * len(mistakes)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_programs_match_nothing(exercise, material, released):
    programs = [material.reference_program]
    programs += [material.variant_program(one) for one in material.variants
                 if (one.kind, one.exercise) == ("alternative", exercise)]
    assert len(programs) > 1
    assert [diagnose(exercise, released, namespace_of(program)) for program in programs] == [None] * len(programs)


def test_nothing_of_the_mistakes_can_be_read_in_the_file(material):
    text = fingerprints_path(material.unit).read_text(encoding="utf-8")
    for one in material.variants:
        if one.kind == "mistake":
            assert one.id not in text and one.title not in text and (not one.hint or one.hint not in text)
    assert set(re.findall(r'"([a-z_]+)":', text)) - set(material.unit.exercises) == {
        "schema", "made_of", "exercises", "probes", "boxes", "box"}


def test_the_boxes_do_not_tell_their_contents_by_their_length(released):
    lengths = {len(box["box"]) for entry in released["exercises"].values() for box in entry["boxes"]}
    count = sum(len(entry["boxes"]) for entry in released["exercises"].values())
    assert len(lengths) <= 8 < count


# ---------------------------------------------------------------------------------------------- a tiny course

COURSE = """
schema: 1
title: Tiny
units:
  tiny:
    title: Tiny
    notebook: tiny
    exercises:
      double: {title: Twice, points: 4, minutes: 5, difficulty: 1}
      pair: {title: Pair, points: 1, minutes: 5, difficulty: 1}
      layer: {title: Layer, points: 1, minutes: 5, difficulty: 1}
"""
SOLUTION = '''\
# %% role="setup"
import torch

# %% exercise="double"
def double(x, keep=None):
    """Twice x; 0 where keep is False."""
    ### BEGIN SOLUTION
    return x + x if keep is None else (x + x) * keep
    ### END SOLUTION

# %% exercise="pair"
def forward(x):
    """(x squared, a cache)."""
    ### BEGIN SOLUTION
    return x * x, x + x
    ### END SOLUTION


def backward(g, cache):
    """The gradient of x."""
    ### BEGIN SOLUTION
    return g * cache
    ### END SOLUTION

# %% exercise="layer"
class Layer(torch.nn.Module):
    """x times a learned weight."""

    def __init__(self, d):
        super().__init__()
        ### BEGIN SOLUTION
        self.weight = torch.nn.Parameter(torch.full((d,), 7.25, dtype=torch.float64))
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        return x * self.weight
        ### END SOLUTION
'''
CHECKS = '''\
import torch
from etude.adapters import opaque
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.strategies import Cases, for_all, normal

SMALL = Cases(x=normal("B d"), sizes={"B": (1, 3), "d": (2, 4)})
SECRET = Cases(x=normal("B d"), sizes={"B": (90, 95), "d": (2, 4)})


@exercise("double")
@points(2)
@public
@for_all(case=SMALL)
def test_twice_twice(student, case):
    """Twice twice is four times."""
    x, = case.arguments().values()
    once = student.double(x)
    assert_same(student.double(once), 4 * x)


@exercise("double")
@points(1)
@public
@for_all(case=SMALL)
def test_where_it_is_positive(student, case):
    """Kept where it is positive."""
    x, = case.arguments().values()
    once = student.double(x)
    assert_same(once, 2 * x)
    assert_same(student.double(x, once.detach() > 0), (2 * x).clamp(min=0))


@exercise("pair")
@points(1)
@public
@for_all(case=SMALL)
def test_the_derivative_of_the_square(student, case):
    """The derivative of x² is 2x."""
    x, = case.arguments().values()
    _, cache = opaque(student.forward, 1)(x)
    assert_same(student.backward(torch.ones_like(x), cache), 2 * x)


@exercise("double")
@points(1)
@for_all(case=SECRET)
def test_values(student, reference, case):
    """Values agree."""
    x, = case.arguments().values()
    assert_same(student.double(x), reference.double(x))


@exercise("layer")
@points(1)
@public
@for_all(case=SMALL)
def test_layer_is_linear(student, case):
    """Twice the input gives twice the output."""
    x, = case.arguments().values()
    layer = student.Layer(case.d)
    assert_same(layer(x * layer.weight.detach()) * 2, layer(2 * x * layer.weight.detach()).detach())
'''
VARIANTS = '''\
import torch

from autograder.variants import alternative, mistake


@mistake("double", "triple", "x is added once too often", hint="Twice, not three times.")
def double(x, keep=None):
    return x + x + x


@mistake("double", "large_only", "large values are kept as they are", hint="All values count.")
def double(x, keep=None):
    return torch.where(x.abs() > 1, x, x + x)


@alternative("double", "times")
def double(x, keep=None):
    return 2 * x if keep is None else 2 * x * keep


@mistake("pair", "not_chained", "the incoming gradient is ignored and the derivative squared", hint="Multiply.")
def backward(g, cache):
    return cache * cache


@mistake("layer", "squared", "the input is squared", hint="Once is enough.")
class Layer(torch.nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(d, dtype=torch.float64))

    def forward(self, x):
        return x * x * self.weight
'''


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(the unit, its fingerprints, the right namespace)."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "solutions" / "tiny").mkdir(parents=True)
    (root / "course.yml").write_text(COURSE)
    for name, text in {"tiny.py": SOLUTION, "tiny_checks.py": CHECKS, "tiny_variants.py": VARIANTS}.items():
        (root / "solutions" / "tiny" / name).write_text(text)
    course = load_course(root / "course.yml")
    build(course)
    unit = course.units["tiny"]
    cells = [{"label": label, "source": text, "mode": "all"} for label, text in reference_cells(unit.solution_path)]
    return unit, json.loads(fingerprints_path(unit).read_text()), cells


def answering(tiny, source, exercise="double"):
    _, released, cells = tiny
    return diagnose(exercise, released, namespace_of([*cells, {"label": "own", "source": source, "mode": "all"}]))


@pytest.mark.parametrize("source, title", [
    ("def double(x): return 3 * x", "x is added once too often"),
    ("def double(x): return 3 * x * (1 + 1e-13)", "x is added once too often"),  # another machine's rounding
    ("def double(y):\n    return y.where(y.abs() > 1, 2 * y)", "large values are kept as they are"),
    ("def double(x): return 2 * x", None),
    ("def double(x): return 2 * x + 0 * x.sum()", None),
    ("def double(x): return 3.001 * x", None),
    ("def double(x): return (3 * x).detach()", None),  # another mistake, with the same values
    ("def double(x): raise ValueError", None),
    ("def double(x): return 'three'", None),
    ("def double(x): return object()", None),
    ("double = 3", None),
    ("del double", None),
])
def test_a_program_is_named_by_its_answers(source, title, tiny):
    found = answering(tiny, source)
    assert (found.title if found else None) == title


@pytest.mark.parametrize("source, named", [
    ("def backward(g, cache): return cache ** 2", True),
    ("def forward(x): return x * x, 3 * x\ndef backward(g, cache): return (cache / 3 * 2) ** 2", True),  # its own cache
    ("def forward(x): return x * x, (x, 2)\ndef backward(g, cache): return g * cache[0] * cache[1]", False),
])
def test_a_mistake_that_shows_only_in_what_follows_a_first_answer_is_named(source, named, tiny):
    found = answering(tiny, source, "pair")
    assert (found is not None) == named


def test_modules_are_recognised_whatever_they_are_initialised_with(tiny):
    source = ("class Layer(torch.nn.Module):\n    def __init__(self, d):\n        super().__init__()\n"
              "        self.weight = torch.nn.Parameter(torch.randn(d, dtype=torch.float64))\n"
              "    def forward(self, x):\n        return {}\n")
    assert answering(tiny, source.format("self.weight * x ** 2"), "layer").title == "the input is squared"
    assert answering(tiny, source.format("self.weight * x"), "layer") is None


def test_one_probe_that_rounds_otherwise_does_not_hide_a_match(tiny, monkeypatch):
    for broken in range(3):
        seen = []

        def mark(answer, broken=broken, seen=seen):
            seen.append(1)
            return mark_of(answer) if len(seen) - 1 != broken else b"rounded the other way"
        monkeypatch.setattr(fingerprints, "mark_of", mark)
        assert answering(tiny, "def double(x): return 3 * x").title == "x is added once too often"


def test_probes_hold_neither_hidden_inputs_nor_what_the_reference_answered(tiny):
    unit, released, _ = tiny
    tensors = [tensor for entry in released["exercises"].values() for text in entry["probes"].values()
               for tensor in tensors_in(decode_probe(text))]
    assert tensors and all(tensor.shape[0] < 90 for tensor in tensors if tensor.ndim == 2)
    assert all(tensor.is_floating_point() for tensor in tensors), "the mask of where double(x) is positive was recorded"
    assert not answered([decode_probe(text) for text in released["exercises"]["double"]["probes"].values()])
    # The check multiplies the layer's input by its initial weight, which in the reference is 7.25 everywhere.
    scaled = {tuple((7.25 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
                     ).flatten().tolist()) for n in range(1, 4) for d in range(2, 5) for seed in range(300)}
    layers = [decode_probe(text) for text in released["exercises"]["layer"]["probes"].values()]
    assert layers and not scaled & {tuple(x.detach().flatten().tolist()) for x in tensors_in(layers)}


def answered(probes):
    """The answers of `double` that stand in its probes: of one of their tensors, twice its value is another."""
    inputs = {tuple(tensor.flatten().tolist()) for tensor in tensors_in(probes)}
    assert inputs
    return inputs & {tuple(2 * value for value in one) for one in inputs}


def test_without_the_altered_runs_the_answers_would_stand_in_the_probes(tiny, monkeypatch):
    unit, _, _ = tiny
    material = Material(load_course(unit.solution_path.parents[2] / "course.yml"), unit)
    checks = released_checks_path(unit)
    assert not answered(record_probes(material, checks)["double"])
    monkeypatch.setattr(Altered, "_answer", Recorder._answer)
    assert answered(record_probes(material, checks)["double"])


def test_the_file_is_made_anew_only_when_what_it_depends_on_has_changed(tiny):
    unit, released, _ = tiny
    course = load_course(unit.solution_path.parents[2] / "course.yml")
    path = fingerprints_path(unit)
    path.write_text(path.read_text().replace('"schema": ', '"schema":  '))
    assert build(course, check=True) == []
    text = unit.variants_path.read_text()
    unit.variants_path.write_text(text.replace("x + x + x", "x + 2 * x"))
    assert [change.path for change in build(course, check=True)] == [path]
    unit.variants_path.write_text(text)


# ---------------------------------------------------------------------------------------------- other versions

def of_another_version(path):
    """The file as another version made it: other rules, and probes of another form."""
    value = json.loads(path.read_text(encoding="utf-8")) | {"schema": 1}
    for entry in value["exercises"].values():
        entry["probes"] = {index: encode_probe({"name": "sdpa", "args": []}) for index in entry["probes"]}
    path.write_text(json.dumps(value), encoding="utf-8")


def test_fingerprints_of_another_version_are_told_on_the_card_and_name_nothing(student):
    wrong = "def sdpa(q, k, v, keep):\n    return v\n"
    student.run(wrong)
    assert student.finding().notes == []
    of_another_version(student.folder / "attention_fingerprints.json")
    student.reread()
    finding = student.finding()
    assert not finding.passed and finding.diagnosis is None
    assert len(finding.notes) == 1 and "made by another version of Etude" in finding.notes[0]


def test_verify_says_in_one_line_that_the_build_comes_first(tiny):
    unit, released, _ = tiny
    material = Material(load_course(unit.solution_path.parents[2] / "course.yml"), unit)
    assert released_names(material, "double", material.variants) == (2, [])
    path = fingerprints_path(unit)
    of_another_version(path)
    try:
        with pytest.raises(UsageError, match=r"^\S+tiny_fingerprints.json: made by another version of Etude; run"):
            released_names(material, "double", material.variants)
    finally:
        path.write_text(json.dumps(released), encoding="utf-8")


# ---------------------------------------------------------------------------------------------- locks

def test_a_lock_opens_with_its_marks_and_with_no_others():
    marks = {1: b"one", 4: b"four"}
    box = fingerprints.lock("ex", (1, 4), (b"one", b"four"), Diagnosis("tïtle", "hint"))
    assert fingerprints.unlock("ex", box, marks) == Diagnosis("tïtle", "hint")
    for wrong in ({1: b"one", 4: b"five"}, {1: b"four", 4: b"one"}, {1: b"one"}, {1: b"one", 4: None}):
        assert fingerprints.unlock("ex", box, wrong) is None
    assert fingerprints.unlock("another", box, marks) is None


def nearly(value):
    return value * (1 + 1e-13)


@pytest.mark.parametrize("one, other, same", [
    (torch.tensor([1 / 3, 2.0], dtype=torch.float64), nearly(torch.tensor([1 / 3, 2.0], dtype=torch.float64)), True),
    (torch.zeros(2, dtype=torch.float64), torch.full((2,), 1e-17, dtype=torch.float64), True),
    (torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64) + 1e-4, False),
    (torch.ones(2, dtype=torch.float64), torch.ones(2), False),
    (torch.tensor([1 / 3, 2.0]), torch.tensor([1 / 3, 2.0]) * (1 + 2e-6), True),  # float32: some twenty roundings
    (torch.tensor([1 / 3, 2.0]), torch.tensor([1 / 3, 2.2]), False),
    (torch.tensor([1.0, 2.0]), torch.tensor([float("nan"), 2.0]), False),
    (torch.tensor([1.0, 2.0]).half(), torch.tensor([1.0, 2.1]).half(), True),  # half precision: its shape alone
    (torch.ones(2, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64), False),
    (torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64, requires_grad=True), False),
    (torch.tensor([float("nan")]).double(), torch.tensor([float("inf")]).double(), False),
    (torch.tensor([float("inf")]).double(), torch.tensor([-float("inf")]).double(), False),
    (torch.tensor([1, 2]), torch.tensor([1, 3]), False),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ([1, 2], (1, 2), True),
    (0.1 + 0.2, 0.3, True),
    (True, 1, False),
    (None, "None", False),
])
def test_marks_see_what_matters_and_nothing_less(one, other, same):
    assert (mark_of(one) == mark_of(other)) == same
