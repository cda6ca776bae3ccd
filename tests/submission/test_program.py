"""What the worker of one exercise runs, in which order and how much of it."""
from __future__ import annotations

from autograder.submission import Submission, program_for, read_notebook

from .samples import attention, code, notebook, text


def _program(data: bytes, exercise: str, setup: tuple[str, ...] = ("import torch",)) -> list[tuple[str, str]]:
    cells, notes = read_notebook(data, "n.ipynb")
    submission = Submission("alice", "attention", "n.ipynb", cells, "", notes)
    return [(cell["label"], cell["mode"]) for cell in program_for(submission, exercise, setup)]


def test_the_exercises_own_cell_runs_last_and_as_a_whole() -> None:
    assert _program(attention(), "sdpa") == [
        ("setup", "all"), ("cell 1 (setup)", "definitions"), ("cell 5 (heads)", "definitions"),
        ("cell 3 (sdpa)", "all")]


def test_the_setup_is_the_courses_text() -> None:
    cells, notes = read_notebook(attention(), "n.ipynb")
    program = program_for(Submission("a", "attention", "n", cells, "", notes), "heads", ["import torch", "EPS = 1"])
    assert program[:2] == [{"label": "setup", "source": "import torch", "mode": "all"},
                           {"label": "setup", "source": "EPS = 1", "mode": "all"}]
    assert program[-1] == {"label": "cell 5 (heads)", "source": "def heads(x): return x", "mode": "all"}


def test_an_earlier_copy_of_the_cell_gives_definitions_only() -> None:
    data = notebook(code("a = 1", "sdpa"), text(), code("helper = 1"), code(" "), code("a = 2", "sdpa"))
    assert _program(data, "sdpa", ()) == [
        ("cell 1", "definitions"), ("cell 3", "definitions"), ("cell 5 (sdpa)", "all")]


def test_without_its_cell_an_exercise_is_looked_for_in_the_others() -> None:
    assert _program(notebook(code("def sdpa(): ...")), "sdpa") == [("setup", "all"), ("cell 1", "definitions")]
