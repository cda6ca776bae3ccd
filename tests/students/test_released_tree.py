"""What lies in assignments/, as it lies there: no line of a solution, no hidden check, no mistake."""
from __future__ import annotations

from pathlib import Path

import pytest

from autograder.build.build import _read as read_unit
from autograder.build.leaks import Generated, check_leaks
from autograder.course import load_course
from autograder.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]

@pytest.fixture(scope="module")
def course():
    return load_course(ROOT / "course.yml")


@pytest.fixture(scope="module")
def sources(course):
    return [read_unit(unit) for unit in course.units.values()]


def files(course):
    return [Generated(path.parent.name, f"{path.parent.name}/{path.name}", path.read_text(encoding="utf-8"))
            for path in sorted((ROOT / "assignments").rglob("*"))
            if path.is_file() and path.suffix in (".ipynb", ".py", ".json") and not path.name.startswith(".")
            and ".ipynb_checkpoints" not in path.parts]


def test_the_released_tree_holds_no_secret(course, sources):
    found = files(course)
    assert {file.unit for file in found} >= set(course.units)
    check_leaks(sources, found)


@pytest.mark.parametrize("kind", ["etude", "fingerprints"])
def test_a_solution_line_in_a_released_json_would_be_found(kind, course):
    unit = next(iter(course.units.values()))
    source = read_unit(unit)
    line = next(text.strip() for cell in source.cells if cell.kind == "exercise"
                for text in cell.source.split("### BEGIN SOLUTION")[1].split("\n") if len(text.strip()) > 40)
    name = f"{unit.id}/{unit.notebook}_{kind}.json"
    with pytest.raises(UsageError, match="a line of the solution"):
        check_leaks([source], [Generated(unit.id, name, '{"hints": ["' + line.replace('"', '\\"') + '"]}')])


def test_the_names_of_hidden_checks_are_nowhere(course, sources):
    texts = "\n".join(file.text for file in files(course))
    for source in sources:
        hidden = [check.name for check in source.checks.checks if not check.public]
        assert hidden and not [name for name in hidden if name in texts]
