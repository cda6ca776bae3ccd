"""`check`, `hint` and `progress` as a cell calls them, with a stand-in for the kernel's shell."""
from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

import etude
from etude.students import notebook


@pytest.fixture
def cell(student, monkeypatch):
    """The student's folder and namespace, as a kernel has them."""
    main = ModuleType("__main__")
    main.__dict__.update(student.namespace)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.chdir(student.folder)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    shell = SimpleNamespace(user_ns={}, compile=SimpleNamespace(format_code_name=lambda name: None))
    monkeypatch.setattr(notebook, "_shell", lambda: shell)
    return main.__dict__


def test_check_shows_a_card_and_progress_remembers(cell):
    assert "all 7 public properties hold" in repr(etude.check("sdpa_masked"))
    said = repr(etude.progress())
    assert "1 of 7 exercises" in said and "7 of 7 properties hold" in said
    cell["sdpa"] = lambda q, k, v, keep: v
    assert not etude.check("sdpa_masked").passed
    assert "0 of 7 exercises" in repr(etude.progress())
    assert "hint 1 of 3" in repr(etude.hint("sdpa_masked")) and "1 hint" in repr(etude.progress())


def test_several_exercises_can_be_checked_at_once(cell):
    card = etude.check("sdpa_masked", "sparsemax")
    assert [one.exercise for one in card.findings] == ["sdpa_masked", "sparsemax"] and card.passed


@pytest.mark.parametrize("call", [lambda: etude.check("nope"), lambda: etude.hint("nope")])
def test_an_unknown_exercise_is_a_card_and_no_traceback(call, cell):
    assert "No exercise is called nope; this notebook has sdpa_masked" in repr(call())


def test_a_folder_without_the_released_files_is_a_card(cell, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    for card in (etude.check(), etude.hint("sdpa_masked"), etude.progress()):
        assert "keep the files that came with the notebook next to it" in repr(card)


def test_while_a_submission_is_graded_check_does_nothing():
    assert etude.check("sdpa_masked") is None


def test_the_open_notebook_is_known_where_the_server_says_so(cell, student, monkeypatch):
    path = student.folder / "attention.ipynb"
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    assert notebook.notebook_path() == path
    monkeypatch.setenv("JPY_SESSION_NAME", "console-1")
    assert notebook.notebook_path() is None


def test_what_the_first_check_needs_is_loaded_a_part_at_a_time(cell, monkeypatch):
    steps = []
    monkeypatch.setattr(notebook, "_preparation", notebook._prepare())
    while len(steps) < 20 and notebook._preparation.gi_frame is not None:
        notebook._between_cells(lambda *arguments: steps.append(arguments))
    assert 3 < len(steps) < 20 and all(step[1] is notebook._between_cells for step in steps)
    assert not os.path.exists(".etude_progress.json"), "preparing is no check"


def test_preparing_is_given_up_when_something_is_missing(monkeypatch):
    calls = []

    def broken():
        raise ImportError
        yield
    monkeypatch.setattr(notebook, "_preparation", broken())
    notebook._between_cells(lambda *arguments: calls.append(arguments))
    assert calls == [], "there is no next step"
