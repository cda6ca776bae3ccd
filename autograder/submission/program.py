"""A submission and an exercise -> the cells that the exercise's worker runs, in order."""
from __future__ import annotations

from collections.abc import Collection, Sequence

from autograder.submission.cells import Cell, Submission


def program_for(submission: Submission, exercise_id: str, setup: Sequence[str],
                given: Collection[str] = ()) -> list[dict[str, str]]:
    """Cells `{"label", "source", "mode"}`: the setup, the student's other cells, and last the exercise's own.

    `setup` is the course's own text of the setup cells and runs as a whole, as the exercise's own cell does; of the
    other cells, the student's copy of the setup among them, only definitions are wanted (mode `definitions`). So a
    demonstration that fails, or a helper that overwrites the exercise's function, costs nothing. Check cells are left
    out, and so are cells that stand as they were released (`given`, stripped). Without a cell of its own, an
    exercise is looked for in the others.
    """
    own = [cell for cell in submission.cells if cell.grade_id == exercise_id]
    others = [cell for cell in submission.cells if cell.grade_id != exercise_id and not cell.is_check
              and cell.source.strip() and cell.source.strip() not in given]
    return [
        *({"label": "setup", "source": source, "mode": "all"} for source in setup),
        *(_step(cell, "definitions") for cell in others),
        *(_step(cell, "all") for cell in own),
    ]


def _step(cell: Cell, mode: str) -> dict[str, str]:
    name = f" ({cell.grade_id})" if cell.grade_id else ""
    return {"label": f"cell {cell.index}{name}", "source": cell.source, "mode": mode}
