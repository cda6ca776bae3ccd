"""Edited but not run: claimed only where the file proves it."""
from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from etude.students import stale

EDITED, FAILED = "You edited this exercise's cell", "ended in SyntaxError"


def notebook(folder, source, when):
    path = folder / "n.ipynb"
    cell = {"cell_type": "code", "id": "c1", "metadata": {"nbgrader": {"grade_id": "one"}}, "source": source}
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "metadata": {}, "source": ""}, cell]}))
    os.utime(path, (when, when))
    return path


@pytest.mark.parametrize("name, saved, saved_at, run, claim", [
    ("run as it was saved", "a = 1", 20.0, stale.Run("a = 1", 10.0), None),
    ("saved after the run, with another text", "a = 2", 20.0, stale.Run("a = 1", 10.0), EDITED),
    ("saved before the run: the newer text may be in the browser", "a = 2", 10.0, stale.Run("a = 1", 20.0), None),
    ("another blank line is no edit", "a = 1\n", 20.0, stale.Run("a = 1", 10.0), None),
    ("a list of lines", ["a = 1\n", "b = 2"], 20.0, stale.Run("a = 1\nb = 2", 10.0), None),
    ("never run in this kernel: functions may come from elsewhere", "a = 1", 20.0, None, None),
    ("its last run failed", "a = ", 10.0, stale.Run("a = ", 20.0, "SyntaxError"), FAILED),
])
def test_only_what_is_known_is_claimed(name, saved, saved_at, run, claim, tmp_path):
    found = stale.notes(notebook(tmp_path, saved, saved_at), "one", {"c1": run} if run else {})
    assert (found == []) if claim is None else (claim in found[0]), name


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cells": [1]}', '{"cells": [{"metadata": {}}]}', "\ud800"])
def test_a_file_that_is_no_notebook_proves_nothing(content, tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert stale.notes(path, "one", {"c1": stale.Run("a", 0.0)}) == []
    assert stale.notes(tmp_path / "gone.ipynb", "one", {}) == [] and stale.notes(None, "one", {}) == []


def test_the_kernels_runs_are_noted_by_cell():
    history = stale.History()
    shell = SimpleNamespace(events=SimpleNamespace(register=lambda event, function: setattr(shell, event, function)))
    history.listen(shell)
    info = SimpleNamespace(raw_cell="a = 1", cell_id="c1")
    shell.post_run_cell(SimpleNamespace(info=info, error_before_exec=None, error_in_exec=ValueError()))
    shell.post_run_cell(SimpleNamespace(info=SimpleNamespace(raw_cell="x", cell_id=None)))
    shell.post_run_cell(None)
    assert history.runs.keys() == {"c1"} and history.runs["c1"].error == "ValueError"
