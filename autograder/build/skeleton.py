"""The students' notebook: the source without its solutions, as nbgrader's own preprocessors make it.

nbgrader's cells are found again by `grade_id`, in the gradebook and in every submission; ids and bytes must not
depend on when or where the notebook is built.
"""
from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from autograder.errors import UsageError
from autograder.solution.places import fault
from autograder.solution.source import BEGIN, END, SourceCell, read_source, setup_ids

if TYPE_CHECKING:
    from nbformat.notebooknode import NotebookNode

    from autograder.course import Unit

CODE_STUB = '# TODO: your code here\nraise NotImplementedError("TODO")'
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    # Without the interpreter's version, which would differ between the machines that build.
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}
MAX_CELL_ID = 64  # nbformat's limit


def build_notebook(unit: Unit) -> str:
    """The text of the unit's released `.ipynb`. The same source gives the same bytes."""
    notebook = _through_nbgrader(_assemble(unit))
    _check_skeleton(unit, notebook)
    return _text(notebook)


def source_notebook(unit: Unit) -> str:
    """The same notebook with its solutions, as nbgrader's `source/` holds it.

    `nbgrader generate_assignment` with our code stub makes `build_notebook`'s bytes of it.
    """
    return _text(_assemble(unit))


def _assemble(unit: Unit) -> NotebookNode:
    from nbformat import v4

    labels = setup_ids()
    cells = [node for cell in read_source(unit.solution_path, unit.exercises) for node in _nodes(unit, cell, labels)]
    return v4.new_notebook(cells=_with_cell_ids(cells), metadata=METADATA)


# ---------------------------------------------------------------------------------------------- cells of the source

def _nodes(unit: Unit, cell: SourceCell, labels: Iterator[str]) -> list[NotebookNode]:
    if cell.kind == "hints":
        return []  # released beside the notebook, where `hint()` finds them
    if cell.kind == "markdown":
        from nbformat import v4

        return [v4.new_markdown_cell(cell.source)]
    if cell.kind == "given":
        return [_code(cell.source, "given")]
    if cell.kind == "setup":
        return [_code(cell.source, "setup", _nbgrader(next(labels), locked=True))]
    return _exercise_nodes(unit, cell)


def _exercise_nodes(unit: Unit, cell: SourceCell) -> list[NotebookNode]:
    exercise = str(cell.exercise)
    points = float(unit.exercises[exercise].points)
    graded = _nbgrader(f"check_{exercise}", grade=True, locked=True)
    graded["points"] = int(points) if points.is_integer() else points
    return [
        _code(cell.source, "exercise", _nbgrader(exercise, solution=True)),
        _code(f'check("{exercise}")', "check", graded),
    ]


def _code(source: str, role: str, nbgrader: dict[str, Any] | None = None) -> NotebookNode:
    from nbformat import v4

    metadata: dict[str, Any] = {"etude": {"role": role}}
    if nbgrader is not None:
        metadata["nbgrader"] = nbgrader
    return v4.new_code_cell(source, metadata=metadata)


def _nbgrader(grade_id: str, **flags: bool) -> dict[str, Any]:
    plain = {"grade": False, "solution": False, "locked": False, "task": False}
    return {"schema_version": 3, "grade_id": grade_id, **plain, **flags}


# ----------------------------------------------------------------------------------------------------------- the ids

def _with_cell_ids(nodes: list[NotebookNode]) -> list[NotebookNode]:
    used: Counter[str] = Counter()
    for node in nodes:
        base = _base_id(node)
        used[base] += 1
        node["id"] = base if used[base] == 1 else f"{base}-{used[base]}"
    return nodes


def _base_id(node: NotebookNode) -> str:
    grade_id = node.metadata.get("nbgrader", {}).get("grade_id", "")
    if 0 < len(grade_id) <= MAX_CELL_ID:
        return grade_id
    digest = hashlib.sha256((grade_id or node.source).encode()).hexdigest()[:12]
    return f"{node.cell_type}-{digest}"


# ----------------------------------------------------------------------------------------------------------- nbgrader

def _through_nbgrader(notebook: NotebookNode) -> NotebookNode:
    """What `nbgrader generate_assignment` does to a notebook, in its order, without its database."""
    from nbgrader import preprocessors as nbgrader

    steps = [
        nbgrader.LockCells(),
        nbgrader.ClearSolutions(code_stub={"python": CODE_STUB}),
        nbgrader.ClearOutput(),
        nbgrader.ComputeChecksums(),
        nbgrader.CheckCellMetadata(),
    ]
    resources: dict[str, Any] = {}
    for step in steps:
        notebook, resources = step.preprocess(notebook, resources)
    return notebook


def _check_skeleton(unit: Unit, notebook: NotebookNode) -> None:
    """A solution that starts in the middle of a statement leaves a cell that is not Python."""
    for node in notebook.cells:
        if node.metadata.get("etude", {}).get("role") == "exercise":
            try:
                ast.parse(node.source)
            except SyntaxError as error:
                raise _cut_statement(unit, node.metadata.nbgrader.grade_id, error) from None


def _cut_statement(unit: Unit, exercise: str, error: SyntaxError) -> UsageError:
    line = next(cell.line for cell in read_source(unit.solution_path) 
                if cell.kind == "exercise" and cell.exercise == exercise)
    return fault(unit.solution_path, line, f"exercise {exercise} without its solution is not Python ({error.msg}); "
                                           f"let `{BEGIN}` ... `{END}` enclose whole statements")


def _text(notebook: NotebookNode) -> str:
    import nbformat

    nbformat.validate(notebook)
    text: str = nbformat.writes(notebook, version=nbformat.NO_CONVERT)
    return text if text.endswith("\n") else text + "\n"
