"""A file that may be a submission, before it is read: where it lies, and how to get its bytes."""
from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

SUFFIXES = (".ipynb", ".py")
ARCHIVE = ".zip"
_CLUTTER = ("__pycache__", "__MACOSX")


@dataclass(frozen=True)
class Found:
    """A notebook or script, on disk or in a zip."""

    path: str
    """As the user named it; see `Submission.path`."""
    parts: tuple[str, ...]
    """Folder names from one above what the user named, then the file's name: who and which unit is told by them.

    The first part is never a unit's folder: nobody asked for what lies above."""
    read: Callable[[], bytes]
    named: bool = False
    """The user named this very file."""
    notes: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        return self.parts[-1].rpartition(".")[0]

    @property
    def is_notebook(self) -> bool:
        return self.parts[-1].lower().endswith(".ipynb")

    @property
    def folder(self) -> str:
        """The name of the folder that it lies in; empty where there is none."""
        return self.parts[-2] if len(self.parts) > 1 else ""

    def unit_folder(self, units: Container[str]) -> str | None:
        """The nearest folder above the file that is called like a unit."""
        return next((folder for folder in reversed(self.parts[1:-1]) if folder in units), None)

    def lies_in_unit(self, units: Container[str]) -> bool:
        """Whether the folder that holds the file is called like a unit."""
        return len(self.parts) > 2 and self.folder in units


def is_clutter(name: str) -> bool:
    """Checkpoints, caches and what archivers leave: never a submission, and not worth a word."""
    return name.startswith(".") or name in _CLUTTER
