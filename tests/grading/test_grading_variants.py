"""The file of known mistakes and alternatives is sliced into cells that run like a student's, and never run itself."""
from __future__ import annotations

from pathlib import Path

import pytest

from autograder.errors import UsageError
from autograder.variants import Variant, alternative, load_variants, mistake
from etude.cells import load_program

SOURCE = '''\
"""What students hand in."""
import functools
import math

from autograder.variants import alternative, mistake

LIMIT = 3


def _helper(x):
    return min(x, LIMIT)


@functools.cache
def _cached(x):
    return x + 1


@mistake("one", "off", "one is added", hint="Count from 0.")
def f(x):
    return _helper(x) + 1


@mistake("one", "pair", "both are doubled")
@functools.wraps(_helper)
def f(x):
    """A docstring
    of two lines."""
    return 2 * x


@mistake("one", "pair")
def g(x):
    return 2 * _cached(x)


@alternative("one", "square_root")
def f(x):
    return math.sqrt(x * x)


@mistake(exercise="two", id="kept", title="a class keeps it", hint="Do not.")
@alternative("one", "also_right")
class Counter:
    pass
'''


@pytest.fixture
def variants(tmp_path: Path) -> list[Variant]:
    return written(tmp_path, SOURCE)


def written(folder: Path, text: str) -> list[Variant]:
    path = folder / "unit_variants.py"
    path.write_text(text, encoding="utf-8")
    return load_variants(path)


def run(variant: Variant) -> dict:
    program = load_program([{"label": variant.id, "source": variant.source, "mode": "all"}])
    assert program.errors == []
    return program.namespace


def test_variants_come_in_the_order_of_the_file_with_what_their_marks_say(variants: list[Variant]) -> None:
    assert [(v.kind, v.exercise, v.id, v.title, v.hint) for v in variants] == [
        ("mistake", "one", "off", "one is added", "Count from 0."),
        ("mistake", "one", "pair", "both are doubled", ""), ("alternative", "one", "square_root", "", ""),
        ("mistake", "two", "kept", "a class keeps it", "Do not."), ("alternative", "one", "also_right", "", "")]


def test_a_variant_is_its_own_functions_the_helpers_and_the_imports_without_marks(variants: list[Variant]) -> None:
    off, pair, root, kept, _ = map(run, variants)
    assert (off["f"](1), off["f"](9), root["f"](-2)) == (2, 4, 2.0)
    assert (pair["f"](4), pair["g"](4)) == (8, 10) and pair["f"].__name__ == "_helper" and "g" not in off
    assert isinstance(kept["Counter"], type) and "f" not in kept and kept["LIMIT"] == 3
    assert hasattr(off["_cached"], "cache_info"), "decorators that are no marks stay"
    for variant in variants:
        assert "autograder" not in variant.source and "mistake" not in variant.source
        assert "What students hand in" not in variant.source


def test_a_variants_source_is_not_run_when_it_is_read(tmp_path: Path) -> None:
    assert written(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n") == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("text", "says"), [
    ("def broken(:\n", "unit_variants.py:1: invalid syntax"),
    ('@mistake("one", "x")\ndef f(): pass\n', "the mistake one/x has no title"),
    ('TITLE = "t"\n@mistake("one", "x", TITLE)\ndef f(): pass\n', "unit_variants.py:2: the arguments of a"),
    ('@mistake("one")\ndef f(): pass\n', "unit_variants.py:1: a variant needs an exercise and an id"),
    ('@alternative()\ndef f(): pass\n', "unit_variants.py:1: a variant needs an exercise and an id"),
    ('@mistake("", "x", "t")\ndef f(): pass\n', "unit_variants.py:1: a variant needs an exercise and an id"),
], ids=["syntax", "no title", "no plain strings", "no id", "nothing", "an empty exercise"])
def test_a_mark_that_is_not_understood_is_one_line_with_the_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        written(tmp_path, text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_alternative_needs_no_title_and_a_mistakes_later_function_none_either(tmp_path: Path) -> None:
    text = '@alternative("one", "x")\ndef f(): pass\n@mistake("one", "y")\ndef f(): pass\n' \
           '@mistake("one", "y", "told later", "a hint")\ndef g(): pass\n'
    assert [(v.id, v.title, v.hint) for v in written(tmp_path, text)] == [("x", "", ""), ("y", "told later", "a hint")]


def test_a_missing_file_says_what_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unit_variants.py: no such file; every notebook has a file of known mistakes"):
        load_variants(tmp_path / "unit_variants.py")


def test_the_marks_themselves_change_nothing() -> None:
    def function() -> None: ...
    assert mistake("one", "x", "t")(function) is function is alternative("one", "x")(function)
