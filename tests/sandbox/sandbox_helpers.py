"""Names and helpers that the sandbox's tests share."""
from __future__ import annotations

from pathlib import Path

from autograder.sandbox.client import Worker
from etude import wire

HERE = str(Path(__file__).parent)
ECHO = "sandbox_echo:serve"
RUN, ECHO_BACK = 1, 2
DONE, FAILED = 1, 2
PATIENCE = 60.0
"""Seconds for what should take milliseconds: a busy machine must not fail a test."""


def run(worker: Worker, source: str, seconds: float = PATIENCE) -> object:
    """The `result` of a program run in `worker`; its traceback fails the test."""
    kind, payload = worker.request(RUN, source.encode(), seconds)
    assert kind == DONE, payload.decode()
    return wire.decode(payload)


def attempt(worker: Worker, source: str) -> str:
    """"" if the program runs to its end, otherwise the last line of its traceback."""
    kind, payload = worker.request(RUN, source.encode(), PATIENCE)
    return "" if kind == DONE else payload.decode().strip().splitlines()[-1]


def is_running(pid: int) -> bool:
    """Whether the process is there and not only waiting to be reaped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
