"""Files that are there in full or not at all, and copies of folders."""
from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

_LEFTOVER = ".etude-tmp"


def is_leftover(path: Path) -> bool:
    """Whether the path is the beginning of a file whose writer was killed."""
    return path.name.startswith(".") and path.name.endswith(_LEFTOVER)


def write_atomically(path: Path, text: str, *, staff_only: bool = False) -> None:
    """Write a file that is there in full or not at all, even after `kill -9` or a power cut.

    Other accounts of the machine cannot read a file that is for staff only; beyond that, the umask rules.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}{_LEFTOVER}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660 if staff_only else 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def copied(source: Path, to: Path, paths: Iterable[Path]) -> Iterator[Path]:
    """Copy those of `paths` that are files from under `source` to the same places under `to`; gives the copies.

    What Python leaves behind when it has run there is left out. Modes are kept, so that scripts stay executable.
    """
    for path in sorted(paths):
        if path.is_file() and "__pycache__" not in path.parts:
            target = to / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            yield target


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # without it a power cut can undo the rename
    finally:
        os.close(descriptor)
