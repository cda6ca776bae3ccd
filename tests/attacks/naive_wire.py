"""The usual mistakes of whoever reads from a process that he does not trust: further negative controls."""
from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from autograder.errors import SandboxError
from autograder.sandbox.client import Limits, WorkerFailure, Zygote
from autograder.sandbox.worker import Worker
from etude import wire
from etude.executor import CALL, LOAD

from .bout import control_socket_speaks
from .model import Attack
from .prelude import NUMBERS, program
from .zygote_hooks import __file__ as HOOKS

PATIENCE = 60.0
_ARGUMENT = {"name": "f", "args": [], "kwargs": {}}


def _attacked(zygote: Zygote, attack: Attack) -> Worker:
    """A worker without any layer that has run the attack's cell; its socket is read naively from then on."""
    context = {"promise": 1 << 27, "nr": NUMBERS, "name": "etknaive"}
    worker = zygote.spawn(Limits(), layers=())
    cells = [{"label": "", "source": program(attack.source, context), "mode": "all"}]
    worker.request(LOAD, wire.encode({"cells": cells}), PATIENCE)
    worker._socket.settimeout(PATIENCE)
    worker._socket.sendall(wire.frame(CALL, wire.encode({**_ARGUMENT, "args": [torch.ones(3)]})))
    return worker


def _read(sock: socket.socket, count: int) -> bytearray:
    """Memory first, bytes later: what a reader does who believes the header."""
    data = bytearray(count)
    view, at = memoryview(data), 0
    sock.settimeout(0.3 if count > 1 << 20 else PATIENCE)
    while at < count:
        try:
            got = sock.recv_into(view[at:])
        except TimeoutError:
            break
        if not got:
            break
        at += got
    return data


def memory(zygote: Zygote, attack: Attack) -> bool:
    """a09: memory is taken for what the header promises."""
    with _attacked(zygote, attack) as worker:
        tracemalloc.start()
        _, length = wire.parse_header(bytes(_read(worker._socket, wire.HEADER.size)), 1 << 63)
        _read(worker._socket, length)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak > 64 << 20


def product(zygote: Zygote, attack: Attack) -> bool:
    """a10: a product in 64 bits says that no bytes are the right number of bytes for this shape."""
    with _attacked(zygote, attack) as worker:
        _, length = wire.parse_header(bytes(_read(worker._socket, wire.HEADER.size)), 1 << 20)
        payload = bytes(_read(worker._socket, length))
    dims = np.frombuffer(payload[-40:-8], "<u8")
    said = int.from_bytes(payload[-8:], "little")
    with np.errstate(over="ignore"):
        return int(np.prod(dims) * np.uint64(8)) == said and int(dims[0]) > 1 << 32


def desynchronised(zygote: Zygote, attack: Attack) -> bool:
    """a24: one frame is read for each request, so the second reply answers a question that was not asked yet."""
    with _attacked(zygote, attack) as worker:
        frames = []
        for _ in range(2):
            kind, length = wire.parse_header(bytes(_read(worker._socket, wire.HEADER.size)), 1 << 20)
            frames.append((kind, bytes(_read(worker._socket, length))))
    return frames[0] == frames[1]


def blocked(zygote: Zygote, attack: Attack) -> bool:
    """d15: a plain `sendall` to a process that does not read."""
    with _attacked(zygote, attack) as worker:
        worker._socket.settimeout(0.3)
        try:
            worker._socket.sendall(bytes(8 << 20))
        except TimeoutError:
            return True
    return False


def leaky_control(_: Zygote, attack: Attack) -> bool:
    """b16: a worker that still has the zygote's descriptors answers the grader in the zygote's name."""
    with Zygote(serve="zygote_hooks:leaky", extra_path=[str(Path(HOOKS).parent)]) as zygote:
        worker = zygote.spawn(Limits(), layers=())
        cells = [{"label": "", "source": program(attack.source, {"name": "etknaive"}), "mode": "all"}]
        try:
            worker.request(LOAD, wire.encode({"cells": cells}), PATIENCE)
        except WorkerFailure:
            pass  # it spoke on its own socket, too
        except SandboxError as error:
            return "etknaive" in str(error)  # the forged answer was taken for the zygote's
        return control_socket_speaks(zygote)


def shared_memory(_: Zygote, attack: Attack) -> bool:
    """a28, a29: who maps a file that its sender can still shrink dies when he reads it."""
    memory = os.memfd_create("reply")
    os.ftruncate(memory, 1 << 20)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        view = mmap.mmap(memory, 1 << 20)
        os.ftruncate(memory, 0)  # by the sender
        os._exit(view[1 << 19])
    os.close(memory)
    status = os.waitpid(pid, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS


def json_header(_: Zygote, attack: Attack) -> bool:
    """a30: a parser of JSON ends by an error of another kind than it documents."""
    try:
        json.loads("[" * 100_000)
    except RecursionError:
        return True
    return False


NAIVE: dict[str, Callable[[Zygote, Attack], bool]] = {
    "takes memory from a trusting reader": memory,
    "fools a product of machine integers": product,
    "answers before it is asked": desynchronised,
    "blocks a trusting writer": blocked,
    "speaks to the grader when descriptors leak": leaky_control,
    "kills a reader of shared memory": shared_memory,
    "breaks a reader of JSON": json_header,
}
