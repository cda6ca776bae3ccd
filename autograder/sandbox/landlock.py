"""Landlock: no file, no connection, no signal out, enforced by another part of the kernel than seccomp.

A second wall behind the first. Linux 5.13 and later; absent from gVisor and from kernels built without it.
"""
from __future__ import annotations

import ctypes
import os

from autograder.sandbox import libc

# The same numbers on every architecture.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_VERSION_FLAG = 1

# The number of filesystem rights that each ABI version knows, so that all of them can be denied.
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FS_RIGHTS_LATEST = 16


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


def abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    if not libc.LINUX:
        return 0
    try:
        return libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def deny_everything(version: int) -> bool:
    """Give up every right that Landlock `version` (from `abi()`) can take. False where there is none."""
    if version < 1:
        return False
    rules = _Ruleset(fs=(1 << _FS_RIGHTS.get(version, _FS_RIGHTS_LATEST)) - 1)
    size = 8
    if version >= 4:
        rules.net, size = 0b11, 16  # TCP bind and connect
    if version >= 6:
        rules.scoped, size = 0b11, 24  # abstract unix sockets and signals outside
    # A ruleset without a single rule allows nothing of what it handles.
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), size, 0)
    try:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True
