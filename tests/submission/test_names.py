"""Students' names become folders, gradebook rows and terminal output: only harmless ones pass."""
from __future__ import annotations

import pytest

from autograder.errors import UsageError
from autograder.submission.names import checked_name


@pytest.mark.parametrize("name", [
    "alice", "Alice Liddell", "o.brien-smith_2", "a+b@uni.example", "Zoë", "李小龍", "हिन्दी", "محمد", "Łukasz", "7",
    "_x", "constance", "a" * 100,
])
def test_a_name_of_any_script_is_accepted(name: str) -> None:
    assert checked_name(name) == name


def test_two_spellings_of_one_name_become_one() -> None:
    assert checked_name("Zoe\u0308") == checked_name("Zo\u00eb")


@pytest.mark.parametrize("name, fault", [
    ("", "it is empty"), ("  ", "it is empty"),
    ("a/b", "it contains '/'"), ("a\\b", "it contains '\\\\'"), ("../x", "it contains '/'"),
    ("..", "a dot"), (".", "a dot"), (".hidden", "a dot"), ("x.", "a dot or a space"), (" x", "a dot or a space"),
    ("a\nb", "it contains U+000A"), ("a\x1b[31m", "it contains U+001B"), ("a\x00", "it contains U+0000"),
    ("a\u202eb", "it contains U+202E"), ("a\u2066b", "it contains U+2066"), ("a\u200db", "it contains U+200D"),
    ("a\udc80", "it contains U+DC80"), ("a\u00a0b", "it contains U+00A0"), ("a\u2028b", "it contains U+2028"),
    ("<b>", "it contains '<'"), ("a:b", "it contains ':'"), ("=1", "it contains '='"), ("a\U0001f600", "it contains"),
    ("\u0301a", "a combining mark"), ("a" * 101, "longer than"), ("李" * 80, "longer than"),
    ("con", "reserve"), ("NUL.txt", "reserve"), ("Com1", "reserve"),
])
def test_an_unsafe_name_is_refused_in_one_line(name: str, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_name(name)
    assert fault in str(caught.value) and str(caught.value).isprintable()
