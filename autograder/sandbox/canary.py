"""Trusted code that runs in a sealed worker and tries to break out, to see whether the seal holds here.

Its reply has a line for each attempt, `name=outcome`. An outcome is the name of the error, or `SUCCEEDED`.
"""
from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable

from etude import wire

ATTEMPTS = ("open", "socket", "fork", "kill", "exec")
SUCCEEDED = "SUCCEEDED"
REPLY_KIND = 1


def run(fd: int) -> None:
    """Try everything in `ATTEMPTS`; `exec` last, since its success would be the end of this program."""
    wire.read_frame(fd)
    attempts: dict[str, Callable[[], None]] = {"open": _open, "socket": _socket, "fork": _fork, "kill": _kill}
    outcomes = {name: _outcome(attempt) for name, attempt in attempts.items()}
    # Sent before the attempt: if the attempt succeeds, nothing here can send any more.
    _report(fd, outcomes | {"exec": SUCCEEDED})
    refusal = _outcome(_exec)
    wire.read_frame(fd)
    _report(fd, outcomes | {"exec": refusal})


def _report(fd: int, outcomes: dict[str, str]) -> None:
    wire.write_frame(fd, REPLY_KIND, "\n".join(f"{name}={text}" for name, text in outcomes.items()).encode())


def _outcome(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return SUCCEEDED


def _open() -> None:
    os.close(os.open("/", os.O_RDONLY))


def _socket() -> None:
    # A datagram socket: Landlock alone does not stop it, so it tells the layers apart.
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _kill() -> None:
    os.kill(ZYGOTE, 0)  # signal 0 asks for permission only


def _exec() -> None:
    os.execv(sys.executable, [sys.executable, "-I", "-c", ""])


# At import, which is in the zygote: the worker can be refused even the question who its parent is.
ZYGOTE = os.getpid()
