"""An otter-grader assignment of a unit: what students get, and the zip by which `otter run` grades with our engine.

    student/      the notebook with `grader.check("...")` in it, its public checks, otter's tests for students
    autograder/   tests that hold only ids, otter_config.json, autograder.zip
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.build.check_file import Check, read_checks
from autograder.errors import UsageError
from autograder.files import copied, write_atomically
from autograder.submission.cells import CHECK_PREFIX

if TYPE_CHECKING:
    from autograder.course import Course, Unit

PLUGIN = "autograder.exports.otter_plugin.SealedGrades"
# Cells with such an id are for the student's kernel only: grading leaves them out.
_OTTERS = CHECK_PREFIX + "_otter"

_HEAD = """\
OK_FORMAT = False

from otter.test_files import test_case
{imports}
name = {exercise!r}
"""
_SEALED = """

@test_case(name={title!r}, points={points!r}, hidden={hidden!r})
def check_{number}():
    holds({exercise!r}, {check!r})
"""
_PUBLIC = """

@test_case(name="Public checks", points={points!r})
def public_checks():
    from etude import check
    from IPython.display import display

    card = check({exercise!r})
    display(card)
    assert card.passed, "The card shows what does not hold."
"""


def export_otter(course: Course, unit_id: str, to: Path) -> list[Path]:
    """Write the assignment of a unit; returns the files. Raises `UsageError` if it cannot be made or `to` is in use."""
    unit = course.unit(unit_id)
    if find_spec("otter") is None:
        raise UsageError("otter-grader is not installed: pip install otter-grader")
    if not unit.assignment_path.exists():
        raise UsageError(f"{unit.assignment_path}: no such file; run `autograder build {unit.id}` first")
    if to.exists() and any(to.iterdir()):
        raise UsageError(f"{to}: not empty; name a new folder")
    checks = read_checks(unit.checks_path, unit.exercises).checks
    return [*_for_students(unit, checks, to / "student"), *_for_staff(course, unit, checks, to / "autograder")]


def _for_students(unit: Unit, checks: Sequence[Check], to: Path) -> Iterable[Path]:
    home, name = unit.assignment_path.parent, unit.assignment_path.name
    yield from copied(home, to, home.glob(f"{unit.notebook}_*"))
    write_atomically(to / name, student_notebook(unit))
    yield to / name
    for exercise in unit.exercises:
        points = sum(check.points for check in checks if check.exercise == exercise and check.public)
        text = _HEAD.format(imports="", exercise=exercise) + _PUBLIC.format(points=points, exercise=exercise)
        yield _written(to / "tests" / f"{exercise}.py", text)


def _for_staff(course: Course, unit: Unit, checks: Sequence[Check], to: Path) -> Iterable[Path]:
    for exercise in unit.exercises:
        own = [check for check in checks if check.exercise == exercise]
        imports = "\nfrom autograder.exports.otter_plugin import holds\n"
        text = _HEAD.format(imports=imports, exercise=exercise) + "".join(
            _SEALED.format(title=check.title, points=check.points, hidden=not check.public, number=number,
                           exercise=exercise, check=check.name) for number, check in enumerate(own, 1))
        yield _written(to / "tests" / f"{exercise}.py", text)
    yield _written(to / "otter_config.json", json.dumps(configuration(course, unit), indent=2) + "\n")
    yield _generate(to)


def configuration(course: Course, unit: Unit) -> dict[str, Any]:
    """otter_config.json: our plugin, and where it finds the course."""
    where = {"course": str((course.root / "course.yml").resolve()), "unit": unit.id}
    return {"plugins": [{PLUGIN: where}], "show_stdout": False, "grade_from_log": False, "pdf": False}


def _generate(to: Path) -> Path:
    """autograder.zip, by what `otter generate` calls."""
    from otter.generate import main
    # Without what happens to lie in the current folder: otter would take it for this assignment's.
    main(tests_dir=str(to / "tests"), output_path=str(to / "autograder.zip"), config=str(to / "otter_config.json"),
         no_requirements=True, no_environment=True)
    return to / "autograder.zip"


def student_notebook(unit: Unit) -> str:
    """The released notebook, with otter's cells in the place of ours."""
    import nbformat
    from nbgrader.utils import compute_checksum
    notebook = nbformat.read(unit.assignment_path, as_version=4)
    start = f'import otter\n\ngrader = otter.Notebook("{unit.assignment_path.name}")'
    notebook.cells.insert(0, _otter_cell(start, _OTTERS))
    notebook.cells.append(_otter_cell("grader.export(pdf=False)", f"{_OTTERS}_export"))
    for cell in notebook.cells:
        found = cell.metadata.get("nbgrader", {})
        if found.get("grade") and found["grade_id"].startswith(CHECK_PREFIX):
            cell.source = f'grader.check("{found["grade_id"].removeprefix(CHECK_PREFIX)}")'
        if found.get("locked"):
            found["checksum"] = compute_checksum(cell)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _otter_cell(source: str, grade_id: str) -> Any:
    from nbformat import v4
    marks = {"schema_version": 3, "grade_id": grade_id, "cell_type": "code", "grade": False, "solution": False,
             "locked": True, "task": False}
    return v4.new_code_cell(source, id=grade_id, metadata={"deletable": False, "editable": False, "nbgrader": marks})


def _written(path: Path, text: str) -> Path:
    write_atomically(path, text)
    return path
