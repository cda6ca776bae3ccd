"""Finding submissions on disk: a file, a folder `<student>/<unit>/`, or a folder of students.

Links inside a folder are not followed: a student's `attention.ipynb` may point to a neighbour's, or to the solution.
"""
from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from autograder.submission.archive import OpenZip, members
from autograder.submission.content import MAX_FILE_BYTES
from autograder.submission.found import ARCHIVE, SUFFIXES, Found, is_clutter
from autograder.submission.problems import BadInput, Problem

MAX_DEPTH = 4
FORMS = "a notebook (.ipynb), a script (.py), a zip, or a folder of them"


def find(path: str, zips: OpenZip) -> Iterator[Found | Problem]:
    """Everything under `path` that may be a submission, in order of its name. `zips` opens what is one."""
    try:
        mode = os.stat(path).st_mode
        above, name = os.path.split(os.path.abspath(path))
        parts = (os.path.basename(above), name)
    except (OSError, ValueError) as error:
        yield BadInput(path, _missing(path, error)).problem
        return
    if path.lower().endswith(SUFFIXES):
        if stat.S_ISDIR(mode):
            yield BadInput(path, "a folder, not a notebook, in spite of its name").problem
        else:
            grandparent = os.path.basename(os.path.dirname(above))
            yield Found(path, tuple(filter(None, (grandparent, *parts))), lambda: read_file(path), named=True)
    elif not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        yield BadInput(path, "not a regular file").problem
    elif stat.S_ISDIR(mode):
        yield from _walk(path, tuple(filter(None, parts)), 0, zips)
    elif path.lower().endswith(ARCHIVE):
        yield from members(path, (name,), zips)
    else:
        yield BadInput(path, f"not a submission: expected {FORMS}").problem


def _walk(folder: str, parts: tuple[str, ...], depth: int, zips: OpenZip) -> Iterator[Found | Problem]:
    if depth > MAX_DEPTH:
        yield BadInput(folder, f"more than {MAX_DEPTH} folders deep: not searched").problem
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield BadInput(folder, f"cannot be read: {error.strerror}").problem
        return
    for entry in entries:
        if not is_clutter(entry.name):
            yield from _entry(entry, (*parts, entry.name), depth, zips)


def _entry(entry: os.DirEntry[str], parts: tuple[str, ...], depth: int,
           zips: OpenZip) -> Iterator[Found | Problem]:
    path, name = entry.path, entry.name.lower()
    may_matter = name.endswith((*SUFFIXES, ARCHIVE))
    if entry.is_symlink():
        if may_matter or os.path.isdir(path):
            yield BadInput(path, f"a link to {os.readlink(path)}: not followed; name it if it is meant").problem
    elif entry.is_dir():
        if name.endswith(SUFFIXES):
            yield BadInput(path, "a folder, not a notebook, in spite of its name").problem
        else:
            yield from _walk(path, parts, depth + 1, zips)
    elif may_matter and not entry.is_file():
        yield BadInput(path, "not a regular file").problem
    elif name.endswith(SUFFIXES):
        yield Found(path, parts, lambda: read_file(path, follow=False))
    elif name.endswith(ARCHIVE):
        yield from members(path, parts, zips)


def read_file(path: str, follow: bool = True) -> bytes:
    """The bytes of a regular file; of a larger one than may be, one byte more. Raises `BadInput`."""
    # O_NONBLOCK: opening a pipe must not wait for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadInput(path, "not a regular file")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadInput(path, f"cannot be read: {error.strerror}") from None


def _missing(path: str, error: OSError | ValueError) -> str:
    if not path:
        return "(empty path): no such file"
    if isinstance(error, FileNotFoundError):
        return f"a link to {os.readlink(path)}, which does not exist" if os.path.islink(path) else "no such file"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
