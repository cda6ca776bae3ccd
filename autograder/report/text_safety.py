"""Text that a student controls, made harmless for a terminal, a CI log, a web page and XML alike.

A message can carry anything: escape sequences that repaint a terminal, right-to-left overrides that reorder what a
reader sees, lines that a CI runner takes for commands (`::add-mask::`), ten megabytes of `A`. `clean` is the one
filter; `audience` runs it over every string of a report, so that no view has to remember it. Escaping for a format
(HTML, XML, Markdown, annotations) still belongs to the view, on top of this.
"""
from __future__ import annotations

import re
import unicodedata

STORED_CHARS = 20_000
"""A string longer than this is cut before it is stored in a report."""

_ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor moves
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"  # two-character escapes, and the opening of an unfinished sequence
)
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_STACKED_MARKS = re.compile(f"([{_MARKS}]{{3}})[{_MARKS}]+")
_V2_COMMAND = re.compile("::(?=[A-Za-z])")
_V1_COMMAND = re.compile(r"##(?=\w*\[)")
_DROPPED = frozenset({"Cc", "Cf"})
_REPLACED = frozenset({"Cs", "Co", "Cn"})
_ROOM_FOR_NOTE = 40


def clean(text: str, max_chars: int = 4000, max_lines: int = 40) -> str:
    """The text without anything that acts on its reader, at most `max_chars` long and `max_lines` high.

    Escape sequences, control and format characters (bidi, zero-width) go; line ends become newlines, or spaces if
    `max_lines` is 1; CI commands are broken by a space. What is cut is counted in a note at the end. `max_chars` is
    at least 80. Cleaning twice changes nothing more.
    """
    if text.isascii() and text.isprintable() and len(text) <= max_chars and not _has_command(text):
        return text
    head = text[:8 * max_chars + 1024]  # beyond this nothing can be shown: do not spend time on it
    head = _visible(_LINE_ENDS.sub("\n", _ESCAPE_SEQUENCES.sub("", head)), max_lines)
    head = _V1_COMMAND.sub("# #", _V2_COMMAND.sub(": :", head))
    return shorten(head, max_chars, max_lines, len(text) - (8 * max_chars + 1024))


def shorten(text: str, max_chars: int, max_lines: int | None = None, already_cut: int = 0) -> str:
    """The beginning of a text, with a note of how many characters are missing if any are."""
    kept = text if max_lines is None else "\n".join(text.split("\n", max_lines)[:max_lines])
    if already_cut <= 0 and kept == text and len(text) <= max_chars:
        return text
    kept = kept[:max_chars - _ROOM_FOR_NOTE]
    missing = len(text) - len(kept) + max(already_cut, 0)
    return f"{kept}… ({missing:,} more characters)"


def storable(text: str) -> str:
    """The text as a report can keep it: encodable as UTF-8 and of bounded length, otherwise untouched."""
    return shorten(text, STORED_CHARS).encode("utf-8", "replace").decode("utf-8")


def _has_command(text: str) -> bool:
    return "::" in text or "##" in text


def _visible(text: str, max_lines: int) -> str:
    text = text.expandtabs(4).replace("\n", " ") if max_lines == 1 else text.expandtabs(4)
    shown = "".join(_shown(char) for char in text)
    return _STACKED_MARKS.sub(r"\1", shown)


def _shown(char: str) -> str:
    if char == "\n":
        return char
    category = unicodedata.category(char)
    return "" if category in _DROPPED else "\ufffd" if category in _REPLACED else char
