"""The process that workers are forked from: PyTorch imported and warm, nothing in memory worth stealing.

It is exec'ed, never forked from the grader, and takes orders from a socket that arrives as standard input:

    configuration                       -> ready, or an error
    spawn (limits, layers) + a socket   -> the worker's pid, and a pidfd where the system has them
      and, if need be, memory to share
    reap (pid)                          -> wait status and CPU seconds

It must stay single-threaded: a fork of a process with threads can leave their locks locked for ever.
"""
from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from autograder.sandbox import canary, landlock, libc, warmup
from autograder.sandbox.available import AVAILABLE, Refuse
from autograder.sandbox.holes import fill_holes
from autograder.sandbox.hugepages import collapse_step_by_step
from autograder.sandbox.limits import Limits, resident_memory
from autograder.sandbox.seal import seal
from etude import wire

CONTROL_MESSAGE = 1 << 16
DATA_FD = 3
MEMORY_FD = 4
"""In a worker that was spawned with memory to share."""
HELLO = 0
"""Kind of the first frame on a worker's socket: the layers that were applied, joined by commas."""
_MAX_FDS = 64

Serve = Callable[[int], None]


class Zygote:
    """Serves one grader until it closes the control socket."""

    def __init__(self, control: socket.socket, config: dict[str, Any]):
        self.control = control
        self.preload = tuple(config["preload"])
        sys.path.extend(config["extra_path"])
        self.available = load_modules(self.preload)
        self.refuse = Refuse(self.available)
        warmup.run(self.preload)
        self.serve = find_function(config["serve"])
        self.landlock_abi = landlock.abi()
        self.input = _link_library() if "triton" in self.preload else os.devnull

    def loop(self) -> None:
        """Answer orders until the end of the stream; between them, make forks cheaper."""
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        chores = collapse_step_by_step()
        while True:
            while not poller.poll(0) and next(chores, "done") != "done":
                pass
            message, fds, _, _ = socket.recv_fds(self.control, CONTROL_MESSAGE, 2)
            if not message:
                return
            order = json.loads(message)
            try:
                if order["do"] == "spawn":
                    self.spawn(order, fds)
                else:
                    self.reap(order["pid"])
            except OSError as error:  # no process, no file left on this machine: that worker's problem alone
                self.reply({"error": str(error)})

    def reply(self, answer: dict[str, Any], fds: Sequence[int] = ()) -> None:
        socket.send_fds(self.control, [json.dumps(answer).encode()], list(fds))

    def spawn(self, order: dict[str, Any], fds: Sequence[int]) -> None:
        zygote = os.getpid()
        try:
            pid = os.fork()
            if pid == 0:
                self.child(zygote, order, fds)
        finally:
            for fd in fds:
                os.close(fd)
        # Opened here, where the pid cannot have been reused: only this process could reap it.
        pidfds = _pidfd(pid)
        self.reply({"pid": pid}, pidfds)
        for pidfd in pidfds:
            os.close(pidfd)

    def reap(self, pid: int) -> None:
        _, status, usage = os.wait4(pid, 0)
        self.reply({"status": status, "cpu_seconds": usage.ru_utime + usage.ru_stime})

    def child(self, zygote: int, order: dict[str, Any], fds: Sequence[int]) -> NoReturn:
        """The worker: keep one socket, and the memory to share, seal, say so, serve. Nothing of the zygote's code runs
        after that."""
        code = 70
        try:
            libc.die_with_parent(zygote)
            self.control.detach()  # its descriptor goes in the next lines; the object must not close it again
            # By way of numbers that are free: one of those that came may be where the other has to go.
            for number, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD, _MAX_FDS // 2) for fd in fds]):
                os.dup2(fd, DATA_FD + number)
            # Opened anew: workers that shared an open file would share their place in it.
            os.dup2(os.open(self.input, os.O_RDONLY), 0)
            os.closerange(DATA_FD + len(fds), _MAX_FDS)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            random.seed(0)  # Python seeds it anew in every fork; the same submission must get the same report
            sys.meta_path[:] = [self.refuse]
            serve = canary.run if order["canary"] else self.serve
            layers = seal(Limits(**order["limits"]), order["layers"], self.landlock_abi)
            wire.write_frame(DATA_FD, HELLO, ",".join(layers).encode())
            gc.enable()
            serve(DATA_FD)
            code = 0
        finally:
            os._exit(code)


def _link_library() -> str:
    """What a worker has as its standard input for Triton's compiler, as it can open no file."""
    from etude.kernels.build import link_library
    return link_library()


def find_function(name: str) -> Serve:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def load_modules(preload: Sequence[str]) -> list[str]:
    """Import what students may import; returns the names."""
    names = [*AVAILABLE, *(name for name in preload if name not in AVAILABLE)]
    for name in names:
        importlib.import_module(name)
    return names


def _pidfd(pid: int) -> list[int]:
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []  # not on this system: the grader kills by pid, which is safe until it asks to reap


def _check_single_threaded() -> None:
    if libc.LINUX:
        threads = len(os.listdir("/proc/self/task"))
        if threads != 1:
            raise RuntimeError(f"preloaded modules have started {threads - 1} threads; then no fork is safe")


def main() -> None:
    """Entry point of `python -m autograder.sandbox.zygote`."""
    # Before Python 3.11, `-m` puts the current folder there.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", "/")]
    control = socket.socket(fileno=os.dup(0))
    os.set_inheritable(control.fileno(), False)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc.hide_memory()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FDS, hard))
    gc.disable()  # until the fork: a collection would touch, and so copy, every page of every worker
    config = json.loads(control.recv(CONTROL_MESSAGE))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zygote = Zygote(control, config)
        _check_single_threaded()
    except Exception as error:
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    fill_holes()
    # From here on nobody reads what this process or a worker prints.
    os.dup2(null, 1)
    os.dup2(null, 2)
    if null > 2:
        os.close(null)
    gc.freeze()
    zygote.reply({"ready": True, "resident": resident_memory(), "available": zygote.available})
    zygote.loop()


if __name__ == "__main__":
    main()
