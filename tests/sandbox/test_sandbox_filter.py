"""The system-call filter itself, interpreted here, for both architectures on any machine."""
from __future__ import annotations

import errno
import signal
import subprocess

import pytest

from autograder.sandbox import seccomp
from autograder.sandbox.seccomp import ALLOWED, AUDIT_ARCH, LSEEK, MADVISE, TGKILL, program

MACHINES = ("x86_64", "aarch64")
PID = 4321
ALLOW, KILL = "allow", "kill"


def judge(machine: str, number: int, *args: int, arch: int | None = None) -> str | int:
    """What the filter says to a call: `ALLOW`, `KILL`, or the error number that it answers."""
    data = {0: number, 4: AUDIT_ARCH[machine] if arch is None else arch}
    for index in range(6):
        value = args[index] if index < len(args) else 0
        data[16 + 8 * index], data[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    code, at, accumulator = program(machine, PID), 0, 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at += 1
        if operation == 0x20:
            accumulator = data[constant]
        elif operation == 0x15:
            at += if_true if accumulator == constant else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= constant else if_false
        else:
            assert operation == 0x06
            return {0x7FFF0000: ALLOW, 0x80000000: KILL}.get(constant, constant & 0xFFFF)


@pytest.mark.parametrize("machine", MACHINES)
def test_exactly_the_listed_calls_are_allowed(machine: str):
    column = MACHINES.index(machine)
    listed = {numbers[column] for numbers in ALLOWED.values()} - {None}
    conditional = {MADVISE[column], LSEEK[column]}  # with all arguments zero they are harmless
    allowed = {number for number in range(1024) if judge(machine, number) == ALLOW}
    assert allowed == listed | conditional
    answers = {numbers[column]: answer for numbers, answer in seccomp.ANSWERS.values()}
    for number in set(range(1024)) - allowed:
        assert judge(machine, number) == answers.get(number, errno.EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_only_standard_input_can_be_rewound(machine: str):
    number = LSEEK[MACHINES.index(machine)]
    assert judge(machine, number, 0, 0, 0) == ALLOW
    for descriptor in (1, 2, 3, 4, 1 << 32, (1 << 64) - 1):
        assert judge(machine, number, descriptor, 0, 0) == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_kills(machine: str):
    for arch in (0, 0x40000003, *(AUDIT_ARCH[other] for other in MACHINES if other != machine)):
        assert judge(machine, 0, arch=arch) == KILL


def test_the_x32_abi_kills():
    assert judge("x86_64", 0x40000000) == judge("x86_64", 0x40000000 | 39) == judge("x86_64", 0xFFFFFFFF) == KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_a_worker_may_abort_itself_and_signal_nobody_else(machine: str):
    number = TGKILL[MACHINES.index(machine)]
    assert judge(machine, number, PID, PID, signal.SIGABRT) == ALLOW
    for args in ((PID + 1, PID + 1, signal.SIGABRT), (PID, PID, signal.SIGKILL), (PID, PID, 0), (0, 0, signal.SIGABRT),
                 (PID | 1 << 32, PID, signal.SIGABRT), (PID, PID, signal.SIGABRT | 1 << 32), (-1, -1, signal.SIGABRT)):
        assert judge(machine, number, *args) == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_advice_about_memory_may_not_destroy_it(machine: str):
    number = MADVISE[MACHINES.index(machine)]
    for advice in (0, 4, 8, 14, 25):
        assert judge(machine, number, 1 << 40, 4096, advice) == ALLOW
    for advice in (100, 101, 1 << 31, 1 << 32, -1):
        assert judge(machine, number, 1 << 40, 4096, advice) == errno.EPERM


def test_the_calls_that_matter_most_are_absent():
    for name in ("open", "openat", "openat2", "socket", "clone", "fork", "vfork", "execve", "execveat", "kill", "tkill",
                 "prctl", "ptrace", "stat", "newfstatat", "sendmsg", "recvmsg", "dup", "pidfd_getfd", "io_uring_setup",
                 "seccomp"):
        assert name not in ALLOWED


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_agree_with_the_kernels_headers(machine: str):
    answered = {name: numbers for name, (numbers, _) in seccomp.ANSWERS.items()}
    names = {**ALLOWED, "madvise": MADVISE, "tgkill": TGKILL, **answered}
    header = "asm/unistd_64.h" if machine == "x86_64" else "asm-generic/unistd.h"
    defines = "#define __BITS_PER_LONG 64\n#define __ARCH_WANT_SYS_CLONE3\n#define __SYSCALL(a, b)\n"
    source = f"{defines}#include <{header}>\n" + "".join(f"{name} __NR_{name}\n" for name in names)
    try:
        text = subprocess.run(["cc", "-E", "-P", "-"], input=source, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C preprocessor or no kernel headers here")
    words = [line.split() for line in text.splitlines() if len(line.split()) == 2]
    values = {name: int(number) for name, number in words if number.isdigit() and name in names}
    if not values:
        pytest.skip("these headers have no numbers for the architecture")
    expected = {name: numbers[MACHINES.index(machine)] for name, numbers in names.items()}
    assert values == {name: number for name, number in expected.items() if number is not None}
