"""Every layer stops what it is there for, and without it the same attempt succeeds: the negative control."""
from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

import pytest
from sandbox_helpers import PATIENCE, RUN, attempt, run

from autograder.sandbox import landlock, libc, seccomp
from autograder.sandbox.client import ALL_LAYERS, Limits, WorkerDied, Zygote

pytestmark = [pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter on this system"),
              pytest.mark.usefixtures("linux_sealed")]

SECCOMP, LANDLOCK, RLIMITS = frozenset({"seccomp"}), frozenset({"landlock"}), frozenset({"rlimits"})

# Calls the kernel by number, so that the C library cannot refuse in the kernel's stead.
SYSCALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""

# what is tried, and the layers each of which stops it alone
ATTEMPTS: dict[str, tuple[str, frozenset[str]]] = {
    "read a file": ("open('/proc/self/status').read()", SECCOMP | LANDLOCK),
    "list a folder": ("import os; os.listdir('/')", SECCOMP | LANDLOCK),
    "look whether a file exists": ("import os; os.stat('/')", SECCOMP),
    "write a file": ("open({scratch!r} + '/drop', 'w').close()", SECCOMP | LANDLOCK),
    "write more than nothing": (
        "f = open({scratch!r} + '/drop', 'w'); f.write('x'); f.close()", SECCOMP | LANDLOCK | RLIMITS),
    "make a folder": ("import os; os.mkdir({scratch!r} + '/folder')", SECCOMP | LANDLOCK),
    "import a module that was not loaded": (
        "import importlib.machinery as m, sys; sys.meta_path[:] = [m.PathFinder]; import tabnanny",
        SECCOMP | LANDLOCK),
    "open a UDP socket": ("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", SECCOMP),
    "connect by TCP": ("import socket; socket.socket().connect(('127.0.0.1', {port}))", SECCOMP | LANDLOCK),
    "fork": ("import os\nif os.fork() == 0: os._exit(0)\nos.wait()", SECCOMP | RLIMITS),
    "start a thread": ("import threading; threading.Thread(target=print).start()", SECCOMP | RLIMITS),
    "run a program": (
        "import os\nos.execv({python!r}, [{python!r}, '-S', '-c', 'raise SystemExit(99)'])", SECCOMP | LANDLOCK),
    "signal the zygote": ("import os; os.kill({zygote}, 0)", SECCOMP | LANDLOCK),
    "signal the grader": ("import os; os.kill({grader}, 0)", SECCOMP | LANDLOCK),
    "stop itself": ("import os, signal; os.kill(os.getpid(), signal.SIGCONT)", SECCOMP),
    "rename the process": (SYSCALL + "syscall({prctl}, 15, ctypes.c_char_p(b'innocent'), 0, 0, 0)", SECCOMP),
    "become readable again": (SYSCALL + "syscall({prctl}, 4, 1, 0, 0, 0)", SECCOMP),
    "set up an io_uring": (SYSCALL + "syscall(425, 4, ctypes.create_string_buffer(120))", SECCOMP | RLIMITS),
    "leave shared memory behind": (SYSCALL + "syscall({shmget}, 0, 4096, 0o600 | 0o1000)", SECCOMP),
    "leave a key behind": (
        SYSCALL + "syscall({add_key}, b'user', b'etude-test', b'x', ctypes.c_long(1), ctypes.c_long(-2))", SECCOMP),
    "make a memory file": ("import os; os.memfd_create('x')", SECCOMP),
    "open more files": ("import os\nfor _ in range(20): os.pipe()", SECCOMP | RLIMITS),
    "take much memory": ("import mmap; mmap.mmap(-1, 1 << 30)", RLIMITS),
}

HOST_MAY_REFUSE = {"set up an io_uring", "leave a key behind", "leave shared memory behind"}
"""What containers and hardened kernels refuse to everybody: there is no negative control there."""


def numbers() -> dict[str, int]:
    x86 = libc.MACHINE == "x86_64"
    return {"prctl": 157 if x86 else 167, "shmget": 29 if x86 else 194, "add_key": 248 if x86 else 217}


@pytest.fixture
def placeholders(zygote: Zygote, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"scratch": str(tmp_path), "zygote": zygote.pid, "grader": os.getpid(), "python": sys.executable,
               "port": server.getsockname()[1], **numbers()}


def outcome(zygote: Zygote, source: str, layers: frozenset[str]) -> str:
    """What came of `source` in a worker with `layers`: "" if it succeeded, else the error."""
    with zygote.spawn(Limits(memory_mb=256, open_files=32), layers=layers) as worker:
        try:
            return attempt(worker, source)
        except WorkerDied as death:
            # Replaced by the program that it asked for: that is success. Any other death is a mistake of the test.
            assert "exit code 99" in death.reason
            return ""


def works_here(name: str, layer: str) -> bool:
    """Whether this kernel's version of the layer reaches that far."""
    if layer == "landlock":
        needed = {"connect by TCP": 4, "signal the zygote": 6, "signal the grader": 6}.get(name, 1)
        return landlock.abi() >= needed
    if layer == "rlimits" and name in ("fork", "start a thread"):
        return os.geteuid() != 0  # the kernel does not count root's processes
    return (name, layer) != ("set up an io_uring", "rlimits")  # it needs locked memory on some kernels only


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_seal_refuses_it(zygote: Zygote, placeholders: dict, name: str):
    error = outcome(zygote, ATTEMPTS[name][0].format_map(placeholders), ALL_LAYERS)
    assert error, "the attempt succeeded in a sealed worker"
    assert "SyntaxError" not in error and "NameError" not in error, error


@pytest.mark.parametrize("name", ATTEMPTS)
def test_each_of_its_layers_refuses_it_alone_and_without_them_it_succeeds(zygote: Zygote, placeholders: dict,
                                                                          name: str):
    source, stopping = ATTEMPTS[name]
    source = source.format_map(placeholders)
    control = outcome(zygote, source, ALL_LAYERS - stopping)
    if name in HOST_MAY_REFUSE and ("not permitted" in control or "not implemented" in control):
        pytest.skip(f"this host refuses it to everybody: {control}")
    assert control == "", f"negative control: without {sorted(stopping)} it must succeed, but: {control}"
    for layer in sorted(stopping):
        if works_here(name, layer):
            assert outcome(zygote, source, frozenset({layer})), f"{layer} alone did not stop it"


@pytest.mark.skipif(libc.MACHINE != "x86_64", reason="other ABIs of x86_64")
def test_a_call_through_another_abi_kills(zygote: Zygote, honest: Callable):
    x32 = SYSCALL + "result = syscall(0x40000000 | 39)"
    i386 = """
import ctypes, mmap
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))  # mov eax, getpid; int 0x80; ret
result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
"""
    for source in (x32, i386):
        with zygote.spawn() as worker, pytest.raises(WorkerDied, match="forbidden system call"):
            worker.request(RUN, source.encode(), PATIENCE)
    with zygote.spawn(layers=ALL_LAYERS - SECCOMP) as worker:
        assert "Function not implemented" in attempt(worker, x32) or attempt(worker, x32) == ""
    honest()


def test_resource_limits_are_those_asked_for_and_cannot_be_raised(zygote: Zygote):
    limits = Limits(memory_mb=100, cpu_seconds=9, open_files=20, stack_mb=4)
    source = """
import resource as r
def get(name): return list(r.getrlimit(getattr(r, "RLIMIT_" + name)))
def can_raise(name):
    try: r.setrlimit(getattr(r, "RLIMIT_" + name), (1 << 40, 1 << 40))
    except (ValueError, PermissionError): return False
    return True
names = ["CPU", "NOFILE", "STACK", "CORE", "FSIZE", "NPROC", "AS"]
result = [{n: get(n) for n in names}, [n for n in names if can_raise(n)]]
"""
    with zygote.spawn(limits, layers=RLIMITS) as worker:
        values, raisable = run(worker, source)
    assert values | {"AS": None} == {"CPU": [9, 10], "NOFILE": [20, 20], "STACK": [4 << 20] * 2, "CORE": [0, 0],
                                     "FSIZE": [0, 0], "NPROC": [0, 0], "AS": None}
    assert values["AS"][0] == values["AS"][1] < 100 << 30
    assert raisable == []  # not even under root, whose powers the worker has given up
    with zygote.spawn(limits, layers=frozenset()) as worker:
        assert run(worker, source)[0] != values


def test_a_worker_has_no_capability_and_is_the_first_to_go_when_memory_is_short(zygote: Zygote):
    source = """
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
result = [status["CapEff"].strip(), status["CapPrm"].strip(), open("/proc/self/oom_score_adj").read().strip()]
"""
    with zygote.spawn(layers=frozenset()) as worker:
        assert run(worker, source) == ["0" * 16, "0" * 16, "1000"]


def test_a_bare_worker_cannot_read_the_memory_of_zygote_or_grader(zygote: Zygote):
    """They are not dumpable: that holds even where no layer does."""
    def read(pid: int, file: str) -> str:
        return attempt(worker, f"open('/proc/{pid}/{file}', 'rb').read(0)")

    with zygote.spawn(layers=frozenset()) as worker, zygote.spawn(layers=frozenset()) as dumpable:
        for pid in (zygote.pid, os.getpid()):
            assert "Permission" in read(pid, "mem") and "Permission" in read(pid, "environ")
        assert "Permission" in read(dumpable.pid, "mem")
        run(dumpable, "import ctypes; ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)")
        assert read(dumpable.pid, "mem") == read(dumpable.pid, "environ") == ""  # negative control
