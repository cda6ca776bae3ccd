"""The text view: fits its width, needs no colour, no Unicode, and no torch."""
import subprocess
import sys

import pytest
from rich.cells import cell_len

from .samples import build_class
from .views import terminal, terminal_of

CLASS = build_class()
CHIDI = CLASS[2]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_console(width):
    assert max(map(cell_len, terminal_of(CLASS, width, staff=True).splitlines())) <= width


def test_a_failed_check_says_what_where_and_why():
    lines = [line.strip() for line in terminal(CHIDI).splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("✗"))
    assert lines[start].split() == [
        *"✗ Values agree with the reference for any batch, heads and lengths. 0 / 3".split()]
    assert lines[start + 1] == "This is what you get when the scores are not divided by sqrt(d)."
    assert lines[start + 2] == "output[0, 0, 0, 0]: expected -0.299933, got -0.00377103"
    assert lines[start + 3].startswith("Largest error 0.296 (tolerance 1e-09)")
    assert "Smallest failing example: batch 1, heads 1, queries 3" in " ".join(lines)


def test_an_index_stands_apart_from_a_phrase():
    assert "gradient of value at [0, 3, 17, 2]: expected 0, got 0.0132" in terminal_of(CLASS, 120, staff=True)


def test_small_tensors_stand_side_by_side_with_stars():
    lines = terminal(CLASS[3]).splitlines()
    row = next(line for line in lines if "-1.141" in line and "-1.84" in line and "expected" not in line)
    assert row.count("*") == 4


def test_hidden_inputs_are_for_staff():
    assert terminal(CHIDI).count("Smallest failing example") == 1
    assert terminal(CHIDI, staff=True).count("Smallest failing example") == 3


def test_colour_adds_nothing_but_colour():
    import re

    plain = re.sub(r"\x1b\[[\d;]*m", "", terminal(CHIDI, colour=True))
    assert "\x1b" not in plain and plain.split() == terminal(CHIDI).split()
    assert "\x1b" not in terminal(CHIDI)


def test_an_ascii_terminal_gets_ascii():
    text = terminal_of(CLASS, encoding="ascii")
    assert text.isascii() and "######" in text and "x  Values agree" in text


def test_a_class_ends_with_a_summary_and_one_submission_does_not():
    assert "Most frequent mistakes" in terminal_of(CLASS) and "8 submissions, mean" in terminal_of(CLASS)
    assert "Most frequent mistakes" not in terminal(CHIDI)


def test_views_need_neither_torch_nor_rich_to_be_imported():
    code = "import sys, autograder.report.writer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "rich", "jinja2"} & set(loaded)
