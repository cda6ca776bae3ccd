"""A course directory for nbgrader, of the tiny course, made once; and nbgrader run in it as formgrader runs it."""
from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_course import RIGHT, tiny_course

from autograder.build.build import build
from autograder.course import Course
from autograder.nbgrader.course_directory import release

ESSAY = {"schema_version": 3, "grade_id": "essay", "grade": True, "solution": True, "locked": False, "task": False,
         "points": 5}
UNKNOWN = {"schema_version": 3, "grade_id": "of_the_instructor", "grade": True, "solution": False, "locked": True,
           "task": False, "points": 7}


@dataclass
class Directory:
    """A course directory, and what nbgrader does in it."""

    course: Course
    path: Path

    def config(self) -> Any:
        from traitlets.config import PyFileConfigLoader
        config = PyFileConfigLoader("nbgrader_config.py", path=str(self.path)).load_config()
        config.CourseDirectory.root = str(self.path)
        return config

    def api(self) -> Any:
        """What formgrader's buttons call."""
        from nbgrader.apps import NbGraderAPI
        from nbgrader.coursedir import CourseDirectory
        config = self.config()
        return NbGraderAPI(coursedir=CourseDirectory(config=config), config=config)

    def autograde(self, student: str = "*", force: bool = True) -> dict[str, Any]:
        return self.api().autograde("tiny", student, force=force)

    def submit(self, student: str, value: Any) -> Path:
        """`value` is a notebook or a text."""
        path = self.path / "submitted" / student / "tiny" / "tiny.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    def released(self) -> dict[str, Any]:
        return json.loads((self.path / "release" / "tiny" / "tiny.ipynb").read_text(encoding="utf-8"))

    def filled(self, **answers: str) -> dict[str, Any]:
        """The released notebook with these exercise cells; those that are not named are right."""
        value = self.released()
        for cell in value["cells"]:
            grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
            cell["source"] = (RIGHT | answers).get(grade_id, cell["source"])
        return value

    def autograded(self, student: str) -> Any:
        import nbformat
        return nbformat.read(self.path / "autograded" / student / "tiny" / "tiny.ipynb", as_version=4)

    def gradebook(self) -> Any:
        from nbgrader.api import Gradebook
        return Gradebook(f"sqlite:///{self.path / 'gradebook.db'}")

    def grades(self, student: str) -> dict[str, tuple[float | None, bool]]:
        """Automatic score and whether a human is to look, by cell."""
        with self.gradebook() as book:
            found = book.find_submission_notebook("tiny", "tiny", student).grades
            return {grade.name: (grade.auto_score, grade.needs_manual_grade) for grade in found}

    def comment(self, student: str, exercise: str) -> str | None:
        with self.gradebook() as book:
            return book.find_comment(exercise, "tiny", "tiny", student).auto_comment


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The tiny course with its assignments/ as `autograder build` makes them."""
    course = tiny_course(tmp_path_factory.mktemp("course"))
    build(course)
    return course


@pytest.fixture(scope="session")
def released_once(built: Course, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course directory as `autograder release` leaves it."""
    path = tmp_path_factory.mktemp("released") / "course"
    list(release(built, [built.units["tiny"]], path))
    return path


@pytest.fixture(scope="module")
def directory(built: Course, released_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """Released, with two cells that the instructor added: an answer to be graded by hand, and a test of their own."""
    from nbformat import read, v4, write

    from autograder.nbgrader.preprocessors import standby
    path = tmp_path_factory.mktemp("nbgrader") / "course"
    shutil.copytree(released_once, path)
    source = path / "source" / "tiny" / "tiny.ipynb"
    notebook = read(source, as_version=4)
    essay, test = v4.new_markdown_cell("YOUR ANSWER HERE"), v4.new_code_cell("assert True")
    essay.metadata["nbgrader"], test.metadata["nbgrader"] = ESSAY, UNKNOWN
    notebook.cells += [essay, test]
    write(notebook, source)
    said = list(release(built, [built.units["tiny"]], path))
    assert said == ["kept source/tiny/tiny.ipynb, which was edited here",
                    "made release/tiny/ and its entry in the gradebook"]
    yield Directory(built, path)
    standby.stop()
