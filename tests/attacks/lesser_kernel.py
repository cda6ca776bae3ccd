"""Run the command line as on a kernel that lacks something: the calls for it fail as they fail there.

    python -m tests.attacks.lesser_kernel landlock,namespaces grade ...

A filter over this process and all that it starts plays the part; unlike `layers=` it leaves the grader's code alone.
"""
from __future__ import annotations

import ctypes
import errno
import struct
import sys

from autograder.sandbox import libc
from autograder.sandbox.seccomp import AUDIT_ARCH

_COLUMN = {"x86_64": 0, "aarch64": 1}
# name: (calls by number on x86_64 and aarch64), and the error that tells that the kernel has no such thing
LACKS: dict[str, tuple[list[tuple[int, int]], int]] = {
    "landlock": ([(444, 444), (445, 445), (446, 446)], errno.ENOSYS),
    "seccomp": ([(317, 277)], errno.ENOSYS),
    "namespaces": ([(272, 97), (308, 268)], errno.EPERM),  # unshare, setns; as AppArmor and most pods answer
}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def lose(names: list[str]) -> None:
    """Have this process and its children do without; for good."""
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, AUDIT_ARCH[libc.MACHINE]), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for calls, error in (LACKS[name] for name in names):
        for numbers in calls:
            code += [(_EQUAL, 0, 1, numbers[_COLUMN[libc.MACHINE]]), (_RETURN, 0, 0, _ERRNO | error)]
    code.append((_RETURN, 0, 0, _ALLOW))
    packed = b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    # By prctl, not by the call of its own, which it may be about to take away.
    filter_ = _Program(len(code), packed)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(filter_), 0, 0):
        raise OSError(ctypes.get_errno(), "no filter, no lesser kernel")


if __name__ == "__main__":
    lose(sys.argv.pop(1).split(","))
    try:
        libc.syscall({"x86_64": 272, "aarch64": 97}[libc.MACHINE], 0x10000000)  # unshare(CLONE_NEWUSER)
        print("namespaces: there")
    except OSError as refusal:
        print(f"namespaces: {errno.errorcode[refusal.errno]}")
    from autograder.cli import main
    main()
