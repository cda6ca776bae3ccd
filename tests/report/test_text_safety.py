"""`clean` makes a string harmless, keeps it readable, and is fast on ten megabytes."""
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.report.text_safety import clean, shorten, storable

from .hostile import ATTACKS


@pytest.mark.parametrize(("dirty", "expected"), [
    ("plain text, naïve and 数学 and 🙂", "plain text, naïve and 数学 and 🙂"),
    ("\x1b[1;31mred\x1b[0m \x9b2Jx", "red x"),
    ("\x1b]0;title\x07a \x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\ \x1bPdcs\x1b\\b", "a link b"),
    ("\x1b]unfinished\nnext line survives", "unfinished\nnext line survives"),
    ("\x1b\x1b[31m[31m nested", "[31m nested"),
    ("a\r\nb\rc\x85d\u2028e", "a\nb\nc\nd\ne"),
    ("a\tb", "a   b"),
    ("nul\0\x08\x7fx", "nulx"),
    ("\u202eabc\u2066\u200b\u200d\ufeff\u00ad", "abc"),
    ("::error::x and std::vector and x[::2]", ": :error: :x and std: :vector and x[::2]"),
    ("##[add-mask]x ##vso[task]y ## heading", "# #[add-mask]x # #vso[task]y ## heading"),
    (":\u200b:add-mask::x #\x1b[0m#[error]", ": :add-mask: :x # #[error]"),
    ("lone \ud800 and \ufffe", "lone \ufffd and \ufffd"),
    ("z" + "\u0301" * 50, "z" + "\u0301" * 3),
])
def test_what_acts_on_a_reader_goes_and_the_rest_stays(dirty, expected):
    assert clean(dirty) == expected


def test_a_text_of_one_line_keeps_its_words():
    assert clean("two\nlines", 200, 1) == "two lines"


def test_the_cut_says_how_much_is_missing():
    text = clean("A" * 10_000, 100)
    assert text.startswith("A" * 60) and text.endswith("… (9,940 more characters)") and len(text) <= 100
    assert clean("\n".join("abcdefgh"), 100, 3) == "a\nb\nc… (10 more characters)"


@pytest.mark.parametrize("unit", ["A", "\x1b]", "\x9d", "\x1b[", "::a", "##[", "\n", "e\u0301", "\u202e"])
def test_ten_megabytes_take_no_time(unit):
    text = unit * (10_000_000 // len(unit))
    start = time.process_time()
    cleaned = clean(text, 4000, 40)
    assert time.process_time() - start < 0.5
    assert len(cleaned) <= 4000 and cleaned.count("\n") < 40 and "more characters" in cleaned


@given(st.text() | st.text(alphabet="\x1b[]:#0;mab\n\u200b\u202e") | st.sampled_from(list(ATTACKS.values())),
       st.integers(80, 300), st.integers(1, 5))
def test_cleaned_text_is_bounded_printable_and_final(text, max_chars, max_lines):
    cleaned = clean(text, max_chars, max_lines)
    assert len(cleaned) <= max_chars and cleaned.count("\n") < max_lines
    assert all(char == "\n" or unicodedata.category(char) not in {"Cc", "Cf", "Cs"} for char in cleaned)
    assert "##[" not in cleaned and not any(f"::{letter}" in cleaned for letter in "abm")
    assert clean(cleaned, max_chars, max_lines) == cleaned


@given(st.text(alphabet=st.characters(), max_size=50))
def test_stored_text_is_the_text_unless_it_cannot_be_encoded(text):
    assert storable(text) == text.encode("utf-8", "replace").decode()
    assert storable(storable(text)) == storable(text)


def test_stored_text_is_bounded():
    assert len(storable("x" * 10_000_000)) <= 20_000
    assert shorten("short", 80) == "short"
