"""Etude, the students' side: `from etude import check, hint, progress`."""
from __future__ import annotations

from typing import Any

__all__ = ["check", "hint", "progress"]


def __getattr__(name: str) -> Any:
    # Imported when used: a worker or a script that only names `check` does not pay for the display.
    if name in __all__:
        from etude.students import notebook
        return getattr(notebook, name)
    raise AttributeError(f"module 'etude' has no attribute {name!r}")
