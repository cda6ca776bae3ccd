"""What one worker may use, and the kernel's resource limits that hold it to that."""
from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass

MB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of one worker."""

    memory_mb: int = 2048
    """On top of what the warm zygote already has, so that it means the same for every build of PyTorch."""
    cpu_seconds: int = 60
    """Over the worker's whole life."""
    call_seconds: float = 5.0
    """Wall time until the whole reply to one request has arrived."""
    max_reply_bytes: int = 64 * MB
    open_files: int = 8
    stack_mb: int = 8


def apply_rlimits(limits: Limits) -> None:
    """Set the limits on this process, soft and hard alike, so that nothing in it can raise them again."""
    _limit("RLIMIT_AS", address_space() + limits.memory_mb * MB)
    # The soft limit's SIGXCPU names the cause; the hard one, a second later, cannot be caught.
    _limit("RLIMIT_CPU", limits.cpu_seconds, limits.cpu_seconds + 1)
    _limit("RLIMIT_STACK", limits.stack_mb * MB)
    _limit("RLIMIT_NOFILE", limits.open_files)
    for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE"):
        _limit(name, 0)


def _limit(name: str, soft: int, hard: int | None = None) -> None:
    number = getattr(resource, name, None)
    if number is None:
        return  # not on this system
    ceiling = resource.getrlimit(number)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    # macOS knows RLIMIT_AS but refuses to lower it; the label says ADVISORY there.
    with suppress(ValueError, OSError):
        resource.setrlimit(number, (soft, hard))


def address_space() -> int:
    """Bytes of address space that this process has now; 0 where /proc does not say."""
    return _statm(0)


def resident_memory() -> int:
    """Bytes of memory that this process has now; 0 where /proc does not say."""
    return _statm(1)


def _statm(field: int) -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[field]) * resource.getpagesize()
    except OSError:
        return 0
