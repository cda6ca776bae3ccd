"""The few calls into the C library that Python does not wrap. On other systems than Linux they are absent."""
from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys

LINUX = sys.platform.startswith("linux")
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_SET_CHILD_SUBREAPER = 36
_CAPABILITY_VERSION_3 = 0x20080522
_PROT_READ_WRITE, _MAP_SHARED = 3, 1

# Loaded at import, in the zygote: a sealed worker could not open the library any more.
_libc = ctypes.CDLL(None, use_errno=True) if LINUX else None


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument. Raises `OSError`, also where the call does not exist."""
    if _libc is None:
        raise OSError("prctl exists on Linux only")
    # Unused arguments must be zero, and as wide as a register: some options check them.
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def syscall(number: int, *args: object) -> int:
    """syscall(2). Raises `OSError`. Integers are passed as unsigned longs, pointers as they are."""
    if _libc is None:
        raise OSError("system calls by number exist on Linux only")
    wide = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
    return _checked(_libc.syscall(ctypes.c_long(number), *wide))


def advise(address: ctypes.c_void_p, length: int, advice: int) -> bool:
    """madvise(2); whether it was taken."""
    return _libc is not None and _libc.madvise(address, ctypes.c_size_t(length), advice) == 0


def map_shared(fd: int, length: int) -> ctypes.Array[ctypes.c_char]:
    """mmap(2) of a whole file, shared and writable. Python's own mmap asks for more than a sealed worker may do."""
    if _libc is None:
        raise OSError("memory is shared by descriptor on Linux only")
    _libc.mmap.restype = ctypes.c_void_p
    address = _libc.mmap(None, ctypes.c_size_t(length), _PROT_READ_WRITE, _MAP_SHARED, fd, ctypes.c_long(0))
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "the shared memory cannot be mapped")
    return (ctypes.c_char * length).from_address(address)


def drop_capabilities() -> None:
    """Give up every capability; a worker under root must not keep root's powers. A no-op outside Linux."""
    if _libc is None:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, nothing))


def hide_memory() -> None:
    """Let no other process of this user attach to, read or write this one (not dumpable). Linux only."""
    if LINUX:
        prctl(PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, its parent, dies. Linux only."""
    if not LINUX:
        return
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def prefer_as_oom_victim() -> None:
    """Offer this process first to the kernel's out-of-memory killer, before the grader. Linux only."""
    if not LINUX:
        return
    # /proc/self belongs to root while the process is not dumpable; no untrusted code runs yet.
    prctl(PR_SET_DUMPABLE, 1)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # a read-only /proc, as in some containers: the watchdog and RLIMIT_AS remain
    finally:
        prctl(PR_SET_DUMPABLE, 0)
