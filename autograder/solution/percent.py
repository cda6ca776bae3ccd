"""Where the cells of a percent script are: enough to run its code, and to tell lines in error messages.

jupytext is the reader of record (see `source.read_source`, which compares the two). But jupytext gives no line
numbers, and importing it takes longer than grading a submission; graders need the reference's code on every run.
"""
from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

from autograder.solution.places import fault, read_text

_MARKER = re.compile(r"#\s*%%+(?:\s+(?P<rest>.*))?$")
_OPTION = re.compile(r"""(\w+)=(?:"([^"]*)"|'([^']*)')""")


@dataclass(frozen=True)
class Block:
    """A cell as it stands in the script."""

    line: int
    """Line of its marker, counted from 1."""
    header: str
    """What follows `# %%` on the marker's line."""
    text: str
    """The lines below the marker, without blank lines around them."""
    first_line: int
    """Line of the first line of `text`."""

    @property
    def is_code(self) -> bool:
        return not self.header.startswith("[")

    @property
    def options(self) -> dict[str, str]:
        return {name: double or single for name, double, single in _OPTION.findall(self.header)}


def read_blocks(path: Path) -> list[Block]:
    """The cells of a percent script in order. Raises `UsageError` for a script that is not Python."""
    text = read_text(path)
    try:
        ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise fault(path, line, f"syntax error: {getattr(error, 'msg', error)}") from None
    lines = text.split("\n")  # as Python counts lines; splitlines() also breaks at form feeds
    markers = _markers(text)
    ends = [line - 1 for line, _ in markers[1:]] + [len(lines)]
    return [_block(lines, line, header, end) for (line, header), end in zip(markers, ends, strict=True)]


def _markers(text: str) -> list[tuple[int, str]]:
    """(line, header) of every marker. Tokens tell a marker from the same text inside a string."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        match = _MARKER.match(token.string) if token.type == tokenize.COMMENT else None
        # A comment behind code is no marker, for jupytext neither.
        if match and not token.line[: token.start[1]].strip():
            found.append((token.start[0], (match["rest"] or "").strip()))
    return found


def _block(lines: list[str], line: int, header: str, end: int) -> Block:
    start = line
    while start < end and not lines[start].strip():
        start += 1
    return Block(line, header, "\n".join(lines[start:end]).rstrip(), start + 1)
