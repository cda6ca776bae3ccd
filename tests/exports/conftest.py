"""The tiny course with a second unit beside it, built once; and its notebook filled in."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_course import RIGHT, tiny_course

from autograder.build.build import build
from autograder.course import Course

OTHER = """\
  other:
    title: Another unit
    notebook: other
    prerequisites: [tiny]
    exercises:
      nothing: {title: Nothing, points: 1, minutes: 5, difficulty: 1}
limits:
"""


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Built, with constraints, and with a unit and tests that nobody else may get."""
    folder = tmp_path_factory.mktemp("course")
    course = tiny_course(folder, course={"limits:\n": OTHER})
    build(course, units=["tiny"])
    for name in ("solutions/other/other.py", "tests/test_secret.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("SECRET = 1\n")
    (folder / "constraints.txt").write_text("torch==2.13.0\n")
    return course


@pytest.fixture(scope="session")
def filled() -> Callable[..., dict[str, Any]]:
    """`filled(path, scale="...")`: the notebook with these exercise cells; those that are not named are right."""
    def fill(path: Path, **answers: str) -> dict[str, Any]:
        value = json.loads(path.read_text(encoding="utf-8"))
        for cell in value["cells"]:
            grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
            cell["source"] = (RIGHT | answers).get(grade_id, cell["source"])
        return value
    return fill
