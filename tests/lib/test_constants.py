"""The examples of a check are decided by the seed and the check, whatever else this process has loaded."""
from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_runs import Subject, check_file
from hypothesis.internal.conjecture import providers

from etude import engine

CHECKS = '''
from hypothesis import settings

@exercise("one")
@points(1)
@given(number=st.integers(1_000, 1_999))
@settings(max_examples=200)
def test_number(student, number):
    """A number is drawn."""
    student.drawn.append(number)
'''


@pytest.fixture
def another_module(tmp_path: Path) -> Iterator[None]:
    """A module, of no package that is installed, with constants that the check might draw."""
    path = tmp_path / "another_module.py"
    path.write_text("NUMBERS = [1234, 1567, 1890]\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("another_module", path)
    sys.modules["another_module"] = importlib.util.module_from_spec(spec)
    yield
    del sys.modules["another_module"]


def drawn(folder: Path) -> list[int]:
    numbers: list[int] = []
    engine.run_checks([check_file(folder, CHECKS)], [Subject(drawn=numbers)], seed=5)
    assert len(numbers) == 200
    return numbers


def test_no_constant_of_a_loaded_module_becomes_an_example(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = drawn(tmp_path)
    request.getfixturevalue("another_module")
    assert drawn(tmp_path) == before


def test_hypothesis_alone_would_draw_them(tmp_path: Path, request: pytest.FixtureRequest,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    monkeypatch.setattr(engine, "none_of_loaded_modules", contextlib.nullcontext)
    before = drawn(tmp_path)
    request.getfixturevalue("another_module")
    assert drawn(tmp_path) != before


def test_hypothesis_is_itself_again_afterwards(tmp_path: Path) -> None:
    original = providers._get_local_constants
    drawn(tmp_path)
    assert providers._get_local_constants is original
