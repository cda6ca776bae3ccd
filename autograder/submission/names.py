"""Which student names are safe as a folder, in a gradebook, in a terminal and on a web page."""
from __future__ import annotations

import unicodedata

from autograder.errors import UsageError
from autograder.one_line import one_line

MAX_CHARS = 100
MAX_BYTES = 200
_PUNCTUATION = frozenset(" ._-+@")
_DEVICES = frozenset(["con", "prn", "aux", "nul"] + [f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)])


def checked_name(name: str) -> str:
    """The student's name in Unicode's composed form. Raises `UsageError` for a name that is not safe."""
    name = unicodedata.normalize("NFC", name) if len(name) <= 4 * MAX_CHARS else name
    fault = _fault(name)
    if fault:
        raise UsageError(f"student name '{one_line(name, 60)}' cannot be used: {fault}")
    return name


def _fault(name: str) -> str | None:
    if not name.strip():
        return "it is empty"
    bad = next((char for char in name if not _is_safe(char)), None)
    if bad is not None:
        return f"it contains {_named(bad)}; letters, digits, spaces and . _ - + @ are allowed"
    if len(name) > MAX_CHARS or len(name.encode()) > MAX_BYTES:
        return f"it is longer than {MAX_CHARS} characters or {MAX_BYTES} bytes"
    if name[0] in ". " or name[-1] in ". ":
        return "it starts or ends with a dot or a space"
    if unicodedata.category(name[0])[0] == "M":
        return "it starts with a combining mark"
    if name.split(".")[0].strip().lower() in _DEVICES:
        return "some systems reserve it for a device"
    return None


def _is_safe(char: str) -> bool:
    # Marks belong to the letters of many scripts: the vowel signs of Devanagari, Thai, Arabic.
    return char in _PUNCTUATION or unicodedata.category(char) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd")


def _named(char: str) -> str:
    return f"{char!r}" if char.isprintable() else f"U+{ord(char):04X}"
