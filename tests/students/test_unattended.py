"""A notebook that is run as a whole, by nbgrader or nbconvert: nobody reads cards, so what fails has to raise."""
from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbgrader.utils import determine_grade

from etude.students import notebook
from etude.students.display import Card

RELEASED = Path(__file__).resolve().parents[2] / "assignments" / "attention"
SETUP = "import math\nimport torch\nfrom etude import check"
RIGHT = ("def sdpa(q, k, v, keep):\n"
         "    z = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])\n"
         "    z = z.masked_fill(~keep, torch.finfo(q.dtype).min)\n"
         "    return torch.softmax(z, dim=-1).masked_fill(~keep, 0) @ v")
WRONG = RIGHT.replace(" / math.sqrt(q.shape[-1])", "")


def graded(exercise: str) -> nbformat.NotebookNode:
    """The check cell as the build makes it."""
    metadata = {"nbgrader": {"grade": True, "solution": False, "locked": True, "grade_id": f"check_{exercise}",
                             "points": 4, "schema_version": 3, "cell_type": "code"}}
    return nbformat.v4.new_code_cell(f'check("{exercise}")', metadata=metadata)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The check cells after nbgrader's way of running a notebook: right, wrong, not there, without the released files.

    One kernel for all of them: it is what takes the time.
    """
    folder = tmp_path_factory.mktemp("unattended")
    for path in RELEASED.glob("attention_*"):
        shutil.copy(path, folder)
    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, RIGHT, WRONG, "import os; os.chdir('/')")]
    checks = {"right": graded("sdpa_masked"), "wrong": graded("sdpa_masked"), "missing": graded("sparsemax"),
              "no files": graded("sdpa_masked")}
    right, wrong, missing, no_files = checks.values()
    made = nbformat.v4.new_notebook(cells=[*cells[:2], right, cells[2], wrong, missing, cells[3], no_files])
    NotebookClient(made, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    return checks


@pytest.mark.parametrize("name, points", [("right", 4), ("wrong", 0), ("missing", 0), ("no files", 0)])
def test_nbgraders_own_grading_gives_points_only_where_all_properties_hold(name, points, executed):
    assert determine_grade(executed[name]) == (points, 4)


def test_the_error_is_the_card_and_nothing_else(executed):
    (output,) = (one for one in executed["wrong"].outputs if one.output_type == "error")
    assert output.ename == "PropertiesFail"
    assert "This is what you get when the scores are not divided by √d." in output.evalue
    assert "\n".join(output.traceback) == output.evalue, "no frames of ours"


def test_a_card_that_is_shown_would_be_full_marks_for_nbgrader(student):
    """Why it has to raise: a cell that ends without an error, and whose result is no number, is a right one."""
    student.run(WRONG)
    card = Card([student.finding()])
    cell = graded("sdpa_masked")
    cell.outputs = [nbformat.v4.new_output("execute_result", data={"text/plain": repr(card)})]
    assert not card.passed and determine_grade(cell) == (4, 4)


@pytest.mark.parametrize("shell, unattended", [
    (SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=False)), True),
    (SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=True)), False),
    (SimpleNamespace(kernel=SimpleNamespace()), False),
    (SimpleNamespace(), False),  # IPython in a terminal
])
def test_a_person_is_there_who_can_be_asked(shell, unattended, monkeypatch):
    monkeypatch.setattr(notebook, "_shell", lambda: shell)
    assert notebook._is_unattended() is unattended
