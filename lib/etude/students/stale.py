"""Is what was checked what the student sees? Compare the cell in the saved notebook with the cell that was run.

Only what is known is claimed. The kernel knows what it ran and when; the file knows what was saved and when. If the
file was saved *after* the cell was run, and says something else, then the cell was edited since and not run again. If
it was saved before, nothing follows: the newer text may be in the browser only.
"""
from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """The last time that a cell was run."""

    source: str
    when: float
    """Seconds since the epoch, as files have them."""
    error: str = ""
    """The type of the error that it ended in."""


class History:
    """The last run of every cell since this began to listen, by the cell's id."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    def listen(self, shell: Any) -> None:
        """Note every cell that this IPython shell runs from now on."""
        shell.events.register("post_run_cell", self.note)

    def note(self, result: Any) -> None:
        info = getattr(result, "info", None)
        cell_id = getattr(info, "cell_id", None)
        if isinstance(cell_id, str):
            error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
            self.runs[cell_id] = Run(info.raw_cell, time.time(), type(error).__name__ if error else "")


def notes(notebook: Path | None, exercise: str, runs: Mapping[str, Run]) -> list[str]:
    """What a student should know before believing the checks of this exercise."""
    saved = saved_cell(notebook, exercise)
    if saved is None:
        return []
    cell_id, source, when = saved
    run = runs.get(cell_id)
    if run is None:
        return []
    if when > run.when and source.strip() != run.source.strip():
        return ["You edited this exercise's cell but did not run it: what was checked is the text before the edit. "
                "Run the cell, then check again."]
    if run.error:
        return [f"This exercise's cell ended in {run.error} when it was last run: what was checked is what an earlier "
                "run defined."]
    return []


def saved_cell(notebook: Path | None, exercise: str) -> tuple[str, str, float] | None:
    """(cell id, source, time of saving) of the exercise's cell in the notebook's file, if it can be told."""
    if notebook is None:
        return None
    try:
        when = os.stat(notebook).st_mtime
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            if cell["metadata"].get("nbgrader", {}).get("grade_id") == exercise and "id" in cell:
                source = cell["source"]
                return cell["id"], source if isinstance(source, str) else "".join(source), when
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
