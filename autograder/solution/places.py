"""How an error of the build names the place it is about: `solutions/attention/attention.py:12: ...`."""
from __future__ import annotations

from pathlib import Path

from autograder.errors import UsageError


def shown(path: Path) -> str:
    """The path as an author knows it: from `solutions/` on, never with the machine's folders above it."""
    parts = path.parts
    if "solutions" not in parts:
        return path.name
    start = len(parts) - 1 - parts[::-1].index("solutions")
    return "/".join(parts[start:])


def fault(path: Path, line: int, message: str) -> UsageError:
    """The error to raise about `line` of a source file."""
    return UsageError(f"{shown(path)}:{line}: {message}")


def read_text(path: Path) -> str:
    """The text of a source file; its absence and a wrong encoding are the author's to repair."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{shown(path)}: not found; course.yml names this notebook") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(path)}: not UTF-8 at byte {error.start}") from None
