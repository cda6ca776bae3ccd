"""Shut this process in, for good. Called in the worker before a single student byte is compiled."""
from __future__ import annotations

import os
from collections.abc import Collection

from autograder.sandbox import landlock, libc, seccomp
from autograder.sandbox.limits import Limits, apply_rlimits

ALL_LAYERS = frozenset({"rlimits", "seccomp", "landlock"})


def seal(limits: Limits, layers: Collection[str] = ALL_LAYERS, landlock_abi: int | None = None) -> list[str]:
    """Apply those of `layers` that this machine has; returns the names of those really applied.

    A layer that the machine has but that cannot be applied raises `OSError`: never half sealed by mistake.
    `landlock_abi` is what `landlock.abi()` says, for callers that asked before.
    """
    applied = []
    libc.prefer_as_oom_victim()
    libc.hide_memory()
    libc.drop_capabilities()
    if "rlimits" in layers:
        apply_rlimits(limits)
        applied.append("rlimits")
    version = landlock.abi() if landlock_abi is None else landlock_abi
    if "landlock" in layers and landlock.deny_everything(version):
        applied.append("landlock")
    # Last: it refuses the calls that set up the other layers.
    if "seccomp" in layers and seccomp.supported():
        seccomp.install(os.getpid())
        applied.append("seccomp")
    return applied
