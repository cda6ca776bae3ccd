"""Submissions in a zip. A zip is read in place, never unpacked to disk, and every number in it may be a lie.

One bad member costs that member only; what is refused: paths that leave the archive, links, encryption, zips in
zips, unusual compression, and more bytes than a class can hand in.
"""
from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from autograder.submission.content import MAX_FILE_BYTES
from autograder.submission.found import ARCHIVE, SUFFIXES, Found, is_clutter
from autograder.submission.problems import BadInput, Problem

MAX_MEMBERS = 10_000
MAX_TOTAL_BYTES = 1 << 30
MAX_RATIO = 200
MAX_INFLATED_BYTES = 128 << 20
"""All members together that shrink by more than `MAX_RATIO`: an honest output may, a bomb must."""

_CHUNK = 1 << 20
_LARGEST_READ = 4 << 20
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError,
           ValueError, OverflowError)


class _Bounded(io.FileIO):
    """A file that refuses to be read in large pieces: `zipfile` takes the directory's size from the file itself."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _LARGEST_READ:
            raise zipfile.BadZipFile("its directory is too large")
        # "All the rest" is asked for where the archive's comment may be: at most 64 KiB.
        return super().read(_LARGEST_READ if size is None or size < 0 else size)


class OpenZip:
    """The one zip that is open: a class may hand in thousands, more than a process may hold open."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._archive: zipfile.ZipFile | None = None
        self._stack = ExitStack()

    def __enter__(self) -> OpenZip:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, path: str) -> zipfile.ZipFile:
        """The zip at `path`, opened now if another one was open."""
        if self._archive is None or path != self._path:
            self._stack.close()
            self._path = self._archive = None
            file = self._stack.enter_context(_Bounded(path))
            self._archive, self._path = self._stack.enter_context(zipfile.ZipFile(file)), path
        return self._archive


@dataclass
class _Budget:
    """What the members read so far unpack to."""

    total: int = 0
    inflated: int = 0

    def fault(self, member: zipfile.ZipInfo) -> str | None:
        """Why the member must not be unpacked, or nothing; then it counts."""
        if member.file_size > MAX_FILE_BYTES:
            return f"unpacks to more than {MAX_FILE_BYTES >> 20} MiB"
        steep = member.file_size > MAX_RATIO * max(member.compress_size, 1)
        if steep and self.inflated + member.file_size > MAX_INFLATED_BYTES:
            return f"looks like a zip bomb: {member.compress_size:,} bytes unpack to {member.file_size:,}"
        if self.total + member.file_size > MAX_TOTAL_BYTES:
            return f"not read: the zip unpacks to more than {MAX_TOTAL_BYTES >> 30} GiB; give it as a folder"
        self.total += member.file_size
        self.inflated += member.file_size if steep else 0
        return None


def members(path: str, parts: tuple[str, ...], zips: OpenZip) -> Iterator[Found | Problem]:
    """The submissions in the zip at `path`. `parts`: folder names above it and its own name, which acts as a folder."""
    try:
        infos = zips.get(path).infolist()
    except _BROKEN as error:
        yield BadInput(path, f"not a readable zip: {getattr(error, 'strerror', None) or error}").problem
        return
    if len(infos) > MAX_MEMBERS:
        yield BadInput(path, f"{len(infos):,} members; at most {MAX_MEMBERS:,} are read").problem
        return
    folders = (*parts[:-1], parts[-1][:-len(ARCHIVE)])
    budget = _Budget()
    for info in sorted(infos, key=lambda info: info.orig_filename):
        yield from _member(zips, info, path, folders, budget)


def _member(zips: OpenZip, info: zipfile.ZipInfo, path: str, folders: tuple[str, ...],
            budget: _Budget) -> Iterator[Found | Problem]:
    label = f"{path}!{info.orig_filename}"
    fault = _fault(info)
    if fault:
        yield BadInput(label, fault).problem
        return
    steps = tuple(info.filename.split("/"))
    if info.is_dir() or any(map(is_clutter, steps)) or not info.filename.lower().endswith(SUFFIXES):
        return
    fault = budget.fault(info)
    yield BadInput(label, fault).problem if fault else Found(label, (*folders, *steps), _reader(zips, path, info))


def _fault(info: zipfile.ZipInfo) -> str | None:
    name = info.orig_filename
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
        return "refused: not a relative path with forward slashes"
    if any(step in ("", ".", "..") for step in name.removesuffix("/").split("/")):
        return "refused: its path has an empty step, '.' or '..'"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "refused: a link" if stat.S_ISLNK(mode) else "refused: not a regular file"
    if info.flag_bits & 0x1:
        return "refused: encrypted"
    if info.filename.lower().endswith(ARCHIVE):
        return "refused: a zip in a zip; unpack it first"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "refused: compressed by another method than deflate"
    return None


def _reader(zips: OpenZip, path: str, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            with zips.get(path).open(info) as member:
                # In pieces, and one byte further than allowed: the declared size proves nothing.
                pieces = iter(lambda: member.read(_CHUNK), b"")
                return b"".join(_at_most(pieces, MAX_FILE_BYTES))
        except _BROKEN as error:
            raise BadInput(f"{path}!{info.orig_filename}", f"cannot be unpacked: {error}") from None
    return read


def _at_most(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        limit -= len(piece)
        if limit < 0:
            return
