"""Text that others wrote, as part of a message of exactly one line."""
from __future__ import annotations


def one_line(text: str, most: int = 500) -> str:
    r"""`text` with everything that does not print, line ends and bidi marks included, written as `\n`, `\u202e`."""
    if len(text) > most:
        text = f"{text[:most * 2 // 3]}…{text[-(most // 3):]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
