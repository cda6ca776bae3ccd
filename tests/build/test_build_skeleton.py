"""The students' notebook: nbgrader accepts it, it holds no solution, and its bytes depend on the source alone."""
from __future__ import annotations

import json
import re

import nbformat
import pytest

from autograder.build.skeleton import CODE_STUB, build_notebook, source_notebook
from autograder.errors import UsageError


@pytest.fixture
def notebook(tiny):
    return nbformat.reads(build_notebook(tiny.unit), as_version=4)


def by_grade_id(notebook):
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}


def test_nbgrader_accepts_it(notebook):
    from nbgrader.nbgraderformat import MetadataValidator
    from nbgrader.utils import compute_checksum

    nbformat.validate(notebook)
    MetadataValidator().validate_nb(notebook)
    cells = by_grade_id(notebook)
    assert list(cells) == ["setup", "double", "check_double", "setup_2", "mean", "check_mean"]
    for cell in cells.values():
        assert compute_checksum(cell) == cell.metadata.nbgrader.checksum


def test_generate_assignment_makes_the_release_of_the_source_notebook(tiny):
    """What an instructor's `nbgrader generate_assignment` does to source/, but for its database."""
    from nbgrader import preprocessors as nbgrader

    notebook = nbformat.reads(source_notebook(tiny.unit), as_version=4)
    resources = {}
    for step in (nbgrader.LockCells(), nbgrader.ClearSolutions(code_stub={"python": CODE_STUB}),
                 nbgrader.ClearOutput(), nbgrader.CheckCellMetadata(), nbgrader.ComputeChecksums(),
                 nbgrader.ClearHiddenTests(), nbgrader.ClearMarkScheme(), nbgrader.ComputeChecksums()):
        notebook, resources = step.preprocess(notebook, resources)
    assert nbformat.writes(notebook) + "\n" == build_notebook(tiny.unit)


@pytest.mark.parametrize("grade_id, grade, solution, locked, points, editable", [
    ("setup", False, False, True, None, False),
    ("double", False, True, False, None, True),
    ("check_double", True, False, True, 4, False),
    ("check_mean", True, False, True, 2.5, False),
])
def test_nbgrader_metadata(notebook, grade_id, grade, solution, locked, points, editable):
    cell = by_grade_id(notebook)[grade_id]
    metadata = dict(cell.metadata.nbgrader)
    assert re.fullmatch("[0-9a-f]{32}", metadata.pop("checksum"))
    expected = {"schema_version": 3, "grade_id": grade_id, "grade": grade, "solution": solution, "locked": locked,
                "task": False, "cell_type": "code"}
    assert metadata == expected | ({"points": points} if points else {})
    assert cell.metadata.deletable is False
    assert cell.metadata.get("editable", True) is editable


def test_the_check_cell_stands_right_behind_its_exercise(notebook):
    ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    for exercise in ("double", "mean"):
        assert ids[ids.index(exercise) + 1] == f"check_{exercise}"
    assert by_grade_id(notebook)["check_mean"].source == 'check("mean")'


def test_roles(notebook):
    roles = [cell.metadata.get("etude", {}).get("role") for cell in notebook.cells]
    assert roles == [None, "setup", "exercise", "check", "given", None, "setup", "exercise", "check", "given"]
    assert all("nbgrader" not in cell.metadata for cell in notebook.cells
               if cell.metadata.get("etude", {}).get("role") in (None, "given"))


def test_the_stub_replaces_every_solution(notebook):
    cells = by_grade_id(notebook)
    indented = "\n".join("    " + line for line in CODE_STUB.split("\n"))
    assert cells["double"].source == ('def double(values: torch.Tensor) -> torch.Tensor:\n    """Twice the values."""\n'
                                      + indented)
    assert cells["mean"].source.count('raise NotImplementedError("TODO")') == 2
    assert "SOLUTION" not in nbformat.writes(notebook)


def test_two_builds_are_the_same_bytes(tiny):
    first = build_notebook(tiny.unit)
    assert build_notebook(tiny.unit) == first
    assert first.endswith("}\n") and "\r" not in first
    assert first == json.dumps(json.loads(first), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert "version" not in json.loads(first)["metadata"]["language_info"]


def test_cell_ids_are_valid_and_stable(tiny, notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and all(re.fullmatch("[A-Za-z0-9_-]{1,64}", name) for name in ids)
    assert ids[1:4] == ["setup", "double", "check_double"]
    assert ids[-1] == f"{ids[4]}-2"  # the same demonstration twice
    tiny.edit("solution", "# Now the mean.", "# And now the mean.")
    changed = [cell.id for cell in nbformat.reads(build_notebook(tiny.unit), as_version=4).cells]
    assert [old == new for old, new in zip(ids, changed, strict=True)].count(False) == 1


def test_a_very_long_exercise_id_keeps_its_grade_id(tiny):
    name = "x" * 64
    for path in (tiny.root / "course.yml", tiny.path("solution"), tiny.path("checks")):
        path.write_text(path.read_text().replace("double:", f"{name}:").replace('"double"', f'"{name}"'))
    cells = by_grade_id(nbformat.reads(build_notebook(tiny.unit), as_version=4))
    assert len(cells[f"check_{name}"].id) <= 64


def test_markdown_keeps_its_text(notebook):
    assert notebook.cells[0].source == '# Tiny unit\nmore heads are better than one: $\\alpha \\to "quoted"$'
    assert notebook.cells[0].metadata == {}


def test_a_solution_that_cuts_a_statement_in_two(tiny):
    line = tiny.edit("solution", "    ### BEGIN SOLUTION\n    weight = torch.full_like(values, 2.0)",
                     "    weight = torch.full_like(\n    ### BEGIN SOLUTION\n        values, 2.0)")
    with pytest.raises(UsageError, match=r"tiny.py:11: exercise double without its solution is not Python .*enclose"):
        build_notebook(tiny.unit)
    assert line == 14
