"""What every attack may use. The attacker is assumed to know all paths, process ids and addresses: `CTX`."""
from __future__ import annotations

from typing import Any

from autograder.sandbox import libc

_NUMBERS = {
    "x86_64": {"socket": 41, "sendto": 44, "ptrace": 101, "prctl": 157, "shmget": 29, "shmctl": 31, "add_key": 248,
               "keyctl": 250, "unshare": 272, "process_vm_readv": 310, "flock": 73, "io_uring_setup": 425,
               "pidfd_open": 434, "pidfd_getfd": 438, "kill": 62, "memfd_create": 319},
    "aarch64": {"socket": 198, "sendto": 206, "ptrace": 117, "prctl": 167, "shmget": 194, "shmctl": 195,
                "add_key": 217, "keyctl": 219, "unshare": 97, "process_vm_readv": 270, "flock": 32,
                "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438, "kill": 129, "memfd_create": 279},
}
NUMBERS: dict[str, int] = _NUMBERS.get(libc.MACHINE, {})
"""System calls of this machine, for attacks that go past the C library."""
SECRET_PATTERN = r"CANARY-[0-9a-f]{16}"

PRELUDE = '''
import ctypes, os, re, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def syscall(name, *args):
    """The system call by number: the C library cannot refuse in the kernel's stead."""
    ctypes.set_errno(0)
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = libc.syscall(ctypes.c_long(CTX["nr"][name]), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def loot(data):
    """Send home every secret in the data: what a cell prints goes into the first reply."""
    data = data if isinstance(data, bytes) else str(data).encode(errors="replace")
    for found in re.findall(rb"CANARY-[0-9a-f]{16}", data):
        print(found.decode())

def reached():
    print("REACHED")

def forge(reply):
    """Have every request answered by reply(kind, payload, honest), with what the executor would say as `honest`."""
    executor = sys.modules["etude.executor"].Executor
    handle = executor.handle
    executor.handle = lambda self, kind, payload: reply(kind, payload, lambda: handle(self, kind, payload))

def f(x):
    return 3 * x
'''


def program(source: str, context: dict[str, Any]) -> str:
    """The whole cell that is handed in."""
    return f"CTX = {context!r}\n{PRELUDE}\n{source}"
