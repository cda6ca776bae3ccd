"""Landlock: no file, no connection, no signal out, enforced by another part of the kernel than seccomp.

A second wall behind the first. Linux 5.13 and later; absent from gVisor and from kernels built without it.
"""
from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from autograder.sandbox import libc

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1

# The number of filesystem rights that each ABI version knows, so that all of them can be denied.
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FS_RIGHTS_LATEST = 16
_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # execute, write, read, truncate, ioctl


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("parent", ctypes.c_int32)]


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
    return allow_only(version)


def allow_only(version: int, readable: Iterable[str] = (), writable: Iterable[str] = ()) -> bool:
    """Give up every right but to read and execute what lies under some paths, and to do anything under others.

    Paths that do not exist are passed over. False where there is no Landlock.
    """
    if version < 1:
        return False
    everything = (1 << _FS_RIGHTS.get(version, _FS_RIGHTS_LATEST)) - 1
    rules = _Ruleset(fs=everything)
    size = 8
    if version >= 4:
        rules.net, size = 0b11, 16  # TCP bind and connect
    if version >= 6:
        rules.scoped, size = 0b11, 24  # abstract unix sockets and signals outside
    # A ruleset without a single rule allows nothing of what it handles.
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), size, 0)
    try:
        for paths, rights in ((readable, _EXECUTE | _READ_FILE | _READ_DIR), (writable, everything)):
            for path in paths:
                _allow(ruleset, path, rights)
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _PathBeneath(rights if os.path.isdir(path) else rights & _OF_FILES, parent)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(parent)
