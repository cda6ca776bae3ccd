"""A worker answers, or its end is told in plain language; either way the next one works."""
from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from collections.abc import Callable

import pytest
from sandbox_helpers import DONE, ECHO, ECHO_BACK, HERE, PATIENCE, RUN, attempt, is_running, run

from autograder.errors import SandboxError
from autograder.sandbox import libc
from autograder.sandbox.client import (
    ALL_LAYERS,
    Limits,
    Worker,
    WorkerDied,
    WorkerFailure,
    WorkerOutOfMemory,
    WorkerProtocolError,
    WorkerTimeout,
    Zygote,
)
from etude import wire


@pytest.mark.parametrize("size", [0, 1, 1 << 10, (1 << 16) - 16, 1 << 16, (5 << 20) + 3])
def test_a_payload_of_any_size_comes_back_whole(worker: Worker, size: int):
    payload = bytes(range(256)) * (size // 256 + 1)
    assert worker.request(ECHO_BACK, payload[:size], PATIENCE) == (DONE, payload[:size])


def test_one_worker_answers_many_requests_and_keeps_its_state(worker: Worker):
    run(worker, "import sys; sys.kept = []")
    for i in range(100):
        assert run(worker, f"import sys; sys.kept.append({i}); result = len(sys.kept)") == i + 1


def test_workers_share_no_state(zygote: Zygote):
    with zygote.spawn() as first, zygote.spawn() as second:
        run(first, "import torch, sys; sys.mark = 1; torch.manual_seed(5); torch.ones = None")
        assert run(second, "import torch, sys; result = hasattr(sys, 'mark') or torch.ones is None") is False


def test_every_worker_starts_from_the_same_random_state(zygote: Zygote):
    source = "import random, numpy, torch; result = [random.random(), numpy.random.rand(), torch.rand(()).item()]"
    with zygote.spawn() as first, zygote.spawn() as second:
        assert run(first, source) == run(second, source)


def test_a_worker_is_born_without_the_files_that_warnings_looked_into(worker: Worker):
    # It could not see them, and would free, page by page, what it shares with the zygote.
    assert run(worker, "import linecache; result = len(linecache.cache)") == 0


def test_several_threads_of_the_grader_may_use_one_zygote(zygote: Zygote):
    results: list[object] = []

    def use() -> None:
        for _ in range(5):
            with zygote.spawn() as worker:
                results.append(run(worker, "result = 7"))
    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [7] * 15


# source, limits, seconds, failure, what its message says
INCIDENTS: dict[str, tuple[str, Limits, float, type[WorkerFailure], str]] = {
    "endless loop": ("while True: pass", Limits(), 0.3, WorkerTimeout, "no answer within 0.3 s"),
    "sleep": ("import time; time.sleep(1000)", Limits(), 0.3, WorkerTimeout, "no answer"),
    "loop in C that holds the interpreter's lock": ("10 ** 10 ** 8", Limits(), 0.3, WorkerTimeout, "no answer"),
    "catastrophic regular expression": (
        "import re; re.match('(a*)*b', 'a' * 40)", Limits(), 0.3, WorkerTimeout, "no answer"),
    "signals ignored": (
        "import signal\nfor s in set(range(1, 32)) - {9, 19}: signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        Limits(), 0.3, WorkerTimeout, "no answer"),
    "CPU limit": ("while True: pass", Limits(cpu_seconds=1), PATIENCE, WorkerDied, "more than 1 s of CPU time"),
    "CPU limit with SIGXCPU ignored": (
        "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        Limits(cpu_seconds=1), PATIENCE, WorkerDied, "more than 1 s of CPU time"),
    "os._exit": ("import os; os._exit(0)", Limits(), PATIENCE, WorkerDied, r"ended itself \(exit code 0\)"),
    "os._exit with a code": ("import os; os._exit(7)", Limits(), PATIENCE, WorkerDied, r"ended itself \(exit code 7\)"),
    "null pointer": ("import ctypes; ctypes.string_at(0)", Limits(), PATIENCE, WorkerDied, "SIGSEGV"),
    "abort": ("import os; os.abort()", Limits(), PATIENCE, WorkerDied, "SIGABRT"),
    "recursion in C": (
        "import sys; sys.setrecursionlimit(10 ** 9)\nx = []\nfor _ in range(10 ** 6): x = [x]\nrepr(x) == repr(x)",
        Limits(), PATIENCE, WorkerDied, "SIGSEGV"),
    "socket closed": (
        "import os, time; os.close(fd); time.sleep(1000)", Limits(), PATIENCE, WorkerDied, "closed its connection"),
    "reply too long": (
        "wire.write_frame(fd, 1, bytes(2000))", Limits(max_reply_bytes=1000), PATIENCE, WorkerProtocolError,
        "2000 bytes"),
    "header that promises 8 EiB": (
        "import os; os.write(fd, wire.HEADER.pack(wire.MAGIC, 1, 1 << 63))",
        Limits(), PATIENCE, WorkerProtocolError, "at most"),
    "no frame": ("import os; os.write(fd, b'PASS' * 8)", Limits(), PATIENCE, WorkerProtocolError, "wrong magic"),
    "half a frame": (
        "import os, time; os.write(fd, wire.HEADER.pack(wire.MAGIC, 1, 50) + b'x' * 10); time.sleep(1000)",
        Limits(), 0.3, WorkerTimeout, "no answer"),
    "two replies at once": (
        "import os; os.write(fd, 2 * wire.frame(1, b'x'))", Limits(), PATIENCE, WorkerProtocolError,
        "more than one reply"),
}


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_is_told_in_plain_language_and_costs_nobody_else(zygote: Zygote, honest: Callable, name: str):
    source, limits, seconds, failure, message = INCIDENTS[name]
    if "SIG" in message and not libc.LINUX:
        pytest.skip("signal names differ here")
    with zygote.spawn(limits) as worker:
        with pytest.raises(failure, match=message):
            worker.request(RUN, f"from etude import wire\n{source}".encode(), seconds)
        with pytest.raises(ProcessLookupError):  # killed and reaped: the pid is free
            os.kill(worker.pid, 0)
        with pytest.raises(WorkerDied, match="has been stopped"):
            worker.request(RUN, b"")
    honest()


def test_a_second_reply_is_never_taken_for_the_answer_to_the_next_request(zygote: Zygote, honest: Callable):
    forge = b"from etude import wire; wire.write_frame(fd, 1, wire.encode('forged')); result = 'own'"
    with zygote.spawn() as worker:
        with pytest.raises(WorkerProtocolError, match="more than one reply"):
            # Both replies arrive together, or the first counts and the second is found before the next request.
            assert wire.decode(worker.request(RUN, forge, PATIENCE)[1]) == "forged"
            time.sleep(0.2)
            worker.request(RUN, b"result = 2", PATIENCE)
    honest()


def test_a_worker_that_does_not_read_cannot_block_the_grader(zygote: Zygote, honest: Callable):
    with zygote.spawn(Limits(call_seconds=0.3)) as worker:
        run(worker, "import sys, time; sys.modules['sandbox_echo'].wire.read_frame = lambda fd: time.sleep(1000)")
        with pytest.raises(WorkerTimeout):
            worker.request(RUN, bytes(50 << 20))
    honest()


BOMBS = {
    "tensor": "import torch; kept = [torch.ones(1 << 22) for _ in range(64)]",
    "list": "kept = []\nwhile True: kept.append(bytearray(1 << 20))",
    "shared anonymous mapping": "import mmap; m = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_memory_bomb_meets_the_address_space_limit(zygote: Zygote, honest: Callable, linux_sealed: None, name: str):
    with zygote.spawn(Limits(memory_mb=256)) as worker:
        assert re.search("MemoryError|can't allocate memory|Cannot allocate memory", attempt(worker, BOMBS[name]))
        assert run(worker, "result = 1") == 1  # the error was the student's to handle: the worker lives on
    honest()


@pytest.mark.parametrize("name", BOMBS)
def test_without_that_limit_the_watchdog_stops_it(zygote: Zygote, honest: Callable, linux_sealed: None, name: str):
    with zygote.spawn(Limits(memory_mb=256), layers=ALL_LAYERS - {"rlimits"}) as worker:
        with pytest.raises(WorkerOutOfMemory, match="more than 256 MB"):
            worker.request(RUN, (BOMBS[name] + "\nimport time; time.sleep(1000)").encode(), PATIENCE)
    honest()


def test_memory_within_the_limit_is_not_refused(zygote: Zygote):
    with zygote.spawn(Limits(memory_mb=512)) as worker:
        assert run(worker, "import torch; result = float(torch.ones(80 << 20).sum())") == 80 << 20


def test_no_descriptor_and_no_process_is_left_after_fifty_workers(zygote: Zygote):
    def descriptors(pid: int | str) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here")
    with zygote.spawn():
        pass
    root = os.geteuid() == 0  # others may not look into the zygote
    before = descriptors("self"), descriptors(zygote.pid) if root else 0
    pids = []
    for _ in range(50):
        with zygote.spawn() as worker:
            pids.append(worker.pid)
    assert before == (descriptors("self"), descriptors(zygote.pid) if root else 0)
    assert not any(is_running(pid) for pid in pids)


def test_closing_twice_does_nothing_and_cpu_time_is_known_before_and_after(zygote: Zygote):
    worker = zygote.spawn()
    run(worker, "import time\nwhile time.process_time() < 0.05: pass")
    alive = worker.cpu_seconds
    worker.close()
    worker.close()
    assert worker.cpu_seconds >= alive >= 0.04 or not libc.LINUX


# ---------------------------------------------------------------------------------------------- bad starts

def test_a_module_that_is_not_there_is_one_clear_line():
    with pytest.raises(SandboxError, match="^the sandbox could not start: .*No module named 'no_such_module'$"):
        Zygote(preload=["no_such_module"])


def test_a_python_that_cannot_start_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(SandboxError, match="^the sandbox could not start /nonexistent/python: "):
        Zygote()


def test_a_python_that_ends_at_once_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(SandboxError, match="^the sandbox could not start: the sandbox's first process has ended$"):
        Zygote()


def test_a_zygote_that_is_gone_is_a_sandbox_error_and_closes_cleanly(worker: Worker):
    with Zygote(serve=ECHO, extra_path=[HERE]) as zygote:
        worker = zygote.spawn()
        os.kill(zygote.pid, 9)
        with pytest.raises(SandboxError, match="has ended"):
            zygote.spawn()
        with pytest.raises(SandboxError, match="has ended"):
            while True:  # the kernel ends the worker a moment after its parent
                worker.request(RUN, b"result = 1", PATIENCE)


def test_a_worker_sealed_less_than_the_label_promises_is_refused(zygote: Zygote, monkeypatch: pytest.MonkeyPatch):
    promised = dataclasses.replace(zygote.label, layers=[*zygote.label.layers, "another"])
    monkeypatch.setattr(zygote, "label", promised)
    with pytest.raises(SandboxError, match="the label promises"):
        zygote.spawn()


def test_a_failure_is_never_mistaken_for_a_reply():
    assert not issubclass(WorkerFailure, SandboxError) and issubclass(WorkerDied, WorkerFailure)
    assert wire.HEADER.size == 16
