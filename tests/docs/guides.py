"""Markdown as the tests of the guides see it: headings, links, code."""
from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


def blocks(text: str, language: str | None = None) -> list[str]:
    """The fenced code blocks, of one language if it is given."""
    return [code for name, code in _BLOCK.findall(text) if language in (None, name)]


def without_blocks(text: str) -> str:
    return _BLOCK.sub("", text)


def links(text: str) -> list[str]:
    """The targets of the relative links outside code."""
    return [target for target in _LINK.findall(without_blocks(text)) if "://" not in target]


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(text: str) -> list[str]:
    """Every line of a block, and every `span`, with what the page wraps put on one line again."""
    spans = re.findall(r"`([^`]+)`", re.sub(r"\s*\n\s*", " ", without_blocks(text)))
    return [line for block in blocks(text) for line in block.splitlines()] + spans


def named_files(text: str) -> dict[str, str]:
    """Files that a page shows in full: a line that is only `path`: and then a block."""
    found = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def table_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first row begins with `heading`."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            next(lines)
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows
