"""What a zygote does at its start when a test removes a protection from it. Not a part of the grader.

`Zygote(serve="zygote_hooks:exposed_nobody")` imports this in the zygote and asks for that name: every part of the name
is one change. The executor that workers then run is the ordinary one.
"""
from __future__ import annotations

import os
from collections.abc import Callable

from autograder.sandbox import libc
from etude.executor import serve

NOBODY = 65534


def _exposed() -> None:
    """Without what protects processes from their equals: readable memory, and root's capabilities kept."""
    libc.hide_memory = libc.drop_capabilities = libc.prefer_as_oom_victim = lambda: None
    libc.prctl(libc.PR_SET_DUMPABLE, 1)


def _nobody() -> None:
    """As an unprivileged user, also where that user could not have started this Python."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _leaky() -> None:
    """With the descriptors of the zygote left open in the workers."""
    os.dup(3)  # where the control socket is; the worker's own socket takes its place
    os.closerange = lambda *_: None


def __getattr__(name: str) -> Callable[[int], None]:
    changes = {"nobody": _nobody, "leaky": _leaky, "exposed": _exposed}
    if not set(name.split("_")) <= changes.keys():
        raise AttributeError(name)
    for change in changes:  # in this order: becoming somebody else hides the memory again
        if change in name.split("_"):
            changes[change]()
    return serve
