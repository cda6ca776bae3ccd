"""The system-call filter: a short allowlist, everything else fails with EPERM.

CPU work in PyTorch needs memory, locks, clocks and two files that are already open. It needs no path, no
socket, no process and no thread, so a worker has none of these, whatever hole it finds in the interpreter.
The filter is classic BPF, written here by hand: it is the part that everything rests on, so it should be read
in one sitting, and no library of the system is needed.
"""
from __future__ import annotations

import ctypes
import errno
import signal
import struct

from autograder.sandbox import libc

# name: (x86_64, aarch64); None where the architecture has no such call. First those that are called most.
ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "futex": (202, 98),
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226), "brk": (12, 214),
    "close": (3, 57), "getrandom": (318, 278), "getpid": (39, 172), "gettid": (186, 178),
    # Clocks and sleep. Clocks usually answer without entering the kernel, but not on every machine;
    # select and pselect6 are how Python 3.10 sleeps.
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    "clock_nanosleep": (230, 115), "select": (23, None), "pselect6": (270, 72), "restart_syscall": (219, 128),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    # The process's own signals, so that a crash is reported as what it is.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "exit_group": (231, 94),
}
MADVISE = (28, 233)
TGKILL = (234, 131)
LSEEK = (8, 62)
# Answers other than EPERM, where the C library asks in passing and then takes another way.
ANSWERS: dict[str, tuple[tuple[int, int], int]] = {
    "ioctl": ((16, 29), errno.ENOTTY),  # "is it a terminal?"
    "clone3": ((435, 435), errno.ENOSYS),  # then it tries clone, which is refused
}

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_COLUMN = {"x86_64": 0, "aarch64": 1}
_SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 1, 2
_X32_BIT = 0x40000000
_FIRST_DESTRUCTIVE_ADVICE = 100  # MADV_HWPOISON: marks physical memory as broken

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_BELOW = -1  # no instruction: `_AT_LEAST` with its branches exchanged
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, constant)"""
_PASS: Instruction = (_RETURN, 0, 0, _ALLOW)
_REFUSE: Instruction = (_RETURN, 0, 0, _ERRNO | errno.EPERM)


def supported() -> bool:
    """Whether this machine can run the filter: Linux on x86_64 or aarch64, not forbidden by a container."""
    if not libc.LINUX or libc.MACHINE not in AUDIT_ARCH:
        return False
    try:
        kill = ctypes.c_uint32(_KILL)
        return libc.syscall(_SECCOMP[libc.MACHINE], _GET_ACTION_AVAILABLE, 0, ctypes.byref(kill)) == 0
    except OSError:
        return False


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter for process `pid` on `machine`."""
    column = _COLUMN[machine]
    # A call through another ABI carries other numbers: it would be judged as another call.
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, AUDIT_ARCH[machine]), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    for numbers in ALLOWED.values():
        if numbers[column] is not None:
            code += [(_EQUAL, 0, 1, numbers[column]), _PASS]
    for numbers, answer in ANSWERS.values():
        code += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERRNO | answer)]
    code += _allow_when(MADVISE[column], [(2, _BELOW, _FIRST_DESTRUCTIVE_ADVICE)])
    # abort() of a crashing library: to itself, so that the cause of its death is told right.
    code += _allow_when(TGKILL[column], [(0, _EQUAL, pid), (2, _EQUAL, signal.SIGABRT)])
    # Only to read standard input once more: nothing, or for kernels the library that LLVM links.
    code += _allow_when(LSEEK[column], [(0, _EQUAL, 0)])
    return [*code, _REFUSE]


def _allow_when(number: int, tests: list[tuple[int, int, int]]) -> list[Instruction]:
    """Allow call `number` if every test (argument, `_EQUAL` or `_BELOW`, constant) holds, else refuse it."""
    body: list[Instruction] = []
    to_refusal = 4 * len(tests)
    for argument, comparison, constant in tests:
        low, high = 16 + 8 * argument, 20 + 8 * argument  # both architectures are little-endian
        body += [(_LOAD, 0, 0, high), (_EQUAL, 0, to_refusal - len(body) - 1, 0), (_LOAD, 0, 0, low)]
        away = to_refusal - len(body)
        body.append((_EQUAL, 0, away, constant) if comparison == _EQUAL else (_AT_LEAST, away, 0, constant))
    body += [_PASS, _REFUSE]
    return [(_EQUAL, 0, len(body), number), *body]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def install(pid: int) -> None:
    """Put the filter over this process, whose id is `pid`; it can never be taken off. Raises `OSError`."""
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program(libc.MACHINE, pid))
    filter_ = _Program(len(code) // 8, code)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    libc.syscall(_SECCOMP[libc.MACHINE], _SET_MODE_FILTER, 0, ctypes.byref(filter_))
