"""Fill the free places between what the zygote keeps, so that workers take memory where nothing is.

A process that imported PyTorch has thousands of freed blocks all over its memory. A worker that takes one of them
writes to a page that it shared with the zygote: the kernel copies 4 KiB for a few bytes. With the holes filled, new
objects of a worker lie side by side on pages of its own. Only with the GNU C library; elsewhere nothing changes.
"""
from __future__ import annotations

import ctypes

from autograder.sandbox import libc

_LARGEST, _SMALL, _STEP = 1 << 20, 1024, 16
_POOL = 1 << 14
_POOL_HEADER = 48
_LARGEST_OBJECT = 512
"""Python's own allocator serves objects up to here, from pools of 16 KiB; larger ones come from the C library."""
_IN_ORDER = 16
_MOST = 100_000

_filling: list[bytes] = []


class _Info(ctypes.Structure):
    """`struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


def fill_holes() -> None:
    """Take every free block of this process's memory, and keep it."""
    _fill_pools()
    if _clib is not None and free_bytes():
        _fill_heap(_clib)


def free_bytes() -> int:
    """Bytes in free blocks of the C library's heap, without what is free at its end; 0 where it does not say."""
    if _clib is None:
        return 0
    info = _clib.mallinfo2()
    return info.fordblks - info.keepcost


def _fill_heap(clib: ctypes.CDLL) -> None:
    taken = 0
    for size in _sizes():
        while taken < _MOST:
            block, taken = clib.malloc(size), taken + 1
            if not block or block + size >= clib.sbrk(0) - clib.mallinfo2().keepcost - _STEP:
                clib.free(block)  # from the end of the heap: no hole is as large as this any more
                break


def _sizes() -> list[int]:
    """From large to small, so that a large hole is not cut up by small blocks."""
    halves = [_LARGEST >> shift for shift in range(8)]
    return [*halves, *range(halves[-1] - 512, _SMALL, -512), *range(_SMALL, 0, -_STEP)]


def _fill_pools() -> None:
    """Objects of every size class until they come from a fresh pool, which gives them in the order of addresses."""
    overhead = bytes(2).__sizeof__() - 2
    for size in range(-(-(overhead + 2) // _STEP) * _STEP, _LARGEST_OBJECT + 1, _STEP):
        in_order, before = 0, 0
        for _ in range(_MOST):
            _filling.append(bytes(size - overhead))
            address = id(_filling[-1])
            first, next_one = address % _POOL == _POOL_HEADER, in_order and address == before + size
            in_order, before = 1 if first else in_order + 1 if next_one else 0, address
            if in_order == _IN_ORDER:
                break


def _library() -> ctypes.CDLL | None:
    """The C library if it is GNU's, with the types of what is used here."""
    if not libc.LINUX:
        return None
    library = ctypes.CDLL(None)  # an object of this module's own: types are set on it
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _Info
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    library.sbrk.argtypes, library.sbrk.restype = [ctypes.c_ssize_t], ctypes.c_void_p
    return library


_clib = _library()
