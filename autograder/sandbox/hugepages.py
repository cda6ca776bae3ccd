"""Back the zygote's memory with huge pages, in its idle moments, so that forks copy fewer page-table entries.

With 4 KiB pages, fork and exit of a warm PyTorch process take about 6 ms each, nearly all for page tables;
with 2 MiB pages about 2 ms each. A worker that writes still copies only the 4 KiB that it writes. Linux 6.1
and later; elsewhere the kernel declines and nothing changes.
"""
from __future__ import annotations

import ctypes
from collections.abc import Iterator

from autograder.sandbox import libc

_COLLAPSE = 25  # MADV_COLLAPSE
_HUGE = 1 << 21
_FAILURES = 8


def collapse_step_by_step() -> Iterator[None]:
    """Collapse one huge page a step (milliseconds); ends when all is done or the kernel will not do it."""
    failures = 0
    for start, end in _anonymous_memory():
        for address in range(-(-start // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE):
            if libc.advise(ctypes.c_void_p(address), _HUGE, _COLLAPSE):
                failures = 0
            else:
                failures += 1
                if failures == _FAILURES:
                    break  # nothing in this mapping, as in a reserve for an allocator
            yield


def _anonymous_memory() -> list[tuple[int, int]]:
    """(start, end) of the private writable mappings that belong to no file."""
    found = []
    try:
        with open("/proc/self/maps") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    for line in lines:
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, _, end = addresses.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found
