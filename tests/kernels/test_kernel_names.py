"""In the notebook, too, a kernel's mistake is named: by its destinations and by what the watch saw."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from autograder.build.build import fingerprints_path
from autograder.course import load_course
from autograder.solution.material import Material
from etude.cells import load_program
from etude.students import fingerprints
from etude.students.fingerprints import decode_probe, diagnose, mark_of

ROOT = Path(__file__).resolve().parents[2]
EXERCISE = "swiglu_triton"
"""`autograder verify` looks at all."""


@pytest.fixture(scope="module")
def material() -> Material:
    course = load_course(ROOT / "course.yml")
    return Material(course, course.units["activations_kernels"])


@pytest.fixture(scope="module")
def released(material: Material) -> dict:
    return json.loads(fingerprints_path(material.unit).read_text(encoding="utf-8"))


def names(material: Material, released: dict, kind: str) -> dict[str, str | None]:
    """What the notebook says to each variant, by the title that it has."""
    found = {}
    for one in material.variants:
        if one.kind == kind:
            said = diagnose(EXERCISE, released, load_program(material.variant_program(one)).namespace)
            found[one.title or one.id] = said.title if said else None
    return found


def test_most_mistakes_are_named_and_none_wrongly(material, released):
    found = names(material, released, "mistake")
    assert {title: said for title, said in found.items() if said not in (title, None)} == {}
    assert sum(said is not None for said in found.values()) >= 0.7 * len(found)


def test_right_kernels_are_not_named(material, released):
    alternatives = names(material, released, "alternative")
    assert len(alternatives) >= 2 and set(alternatives.values()) == {None}
    assert diagnose(EXERCISE, released, load_program(material.reference_program).namespace) is None


def test_another_rounding_of_single_precision_changes_hardly_a_name(material, released, monkeypatch):
    before = names(material, released, "mistake")
    generator = torch.Generator().manual_seed(0)

    def shaken(tree):
        if isinstance(tree, torch.Tensor) and tree.dtype is torch.float32:
            return tree * (1 + 4e-7 * (2 * torch.rand(tree.shape, generator=generator) - 1))
        return [shaken(item) for item in tree] if isinstance(tree, list) else tree
    asked = []
    monkeypatch.setattr(fingerprints, "mark_of", lambda answer: asked.append(1) or mark_of(shaken(answer)))
    after = names(material, released, "mistake")
    assert asked
    changed = {title: said for title, said in after.items() if said != before[title]}
    assert len(changed) <= 1 and set(changed.values()) <= {None}


def test_a_mistake_that_only_the_watch_sees_is_named(material, released, monkeypatch):
    """Values are right: what tells it is an access beside the tensor, which on a GPU is another's memory."""
    def said() -> str | None:
        return names(material, released, "mistake")["the loads have no mask"]
    assert said() == "the loads have no mask"
    whole = fingerprints._asked
    monkeypatch.setattr(fingerprints, "_asked", lambda *asked: {**whole(*asked), "kinds": []})
    assert said() is None


def test_kernels_that_are_only_built_are_no_probes(released):
    probes = released["exercises"][EXERCISE]["probes"].values()
    steps = [step for text in probes for step in decode_probe(text)["steps"]]
    assert steps and all(set(step) == {"kernel", "call"} and step["call"]["dry"] is False for step in steps)
