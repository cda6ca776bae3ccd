"""What other harnesses do, in one process: the negative control of every exploit, which must be fooled here.

The student's function and the reference share the process; inputs are drawn once; the output is an ordinary tensor;
the clock is whatever `time.perf_counter` is; the result is compared once, absolutely, when all calls have been timed.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from etude.cells import load_program
from etude.kernels.workload import Workload
from tests.speed.kernels import program

CALLS = 6
TOLERANCE = 1e-2


@dataclass
class Naive:
    """What such a harness concludes."""

    correct: bool
    seconds: list[float] = field(default_factory=list)
    namespace: dict = field(default_factory=dict)


def naive(workload: Workload, *sources: str, fresh: bool = False, check_first: bool = False,
          reuse: bool = False, expected_after: bool = False, all_at_once: bool = False) -> Naive:
    """`fresh` inputs for each call; compare the first call only; `reuse` the buffer that the reference wrote to;
    compute what is expected after the call, from the same inputs; compare every call, but when all are done."""
    namespace = load_program(program(*sources)).namespace
    function, generator = namespace[workload.call], torch.Generator().manual_seed(0)
    inputs = workload.inputs(generator, torch.device("cpu"))
    ((shape, dtype),) = workload.outputs
    (expected,) = workload.expected(*inputs, **workload.settings)
    seconds, kept, verdicts = [], [], []
    for number in range(CALLS):
        if fresh and number:
            inputs = workload.inputs(generator, torch.device("cpu"))
            (expected,) = workload.expected(*inputs, **workload.settings)
        out = torch.zeros(shape, dtype=dtype)
        if reuse:
            out.copy_(expected)  # the allocator gives the next caller what the reference has left there
        started = time.perf_counter()
        function(out, *inputs, **workload.settings)
        seconds.append(time.perf_counter() - started)
        if expected_after:
            (expected,) = workload.expected(*inputs, **workload.settings)
        kept.append((out, expected))
        if number == 0 and check_first:
            verdicts.append(_close(out, expected))
    for thread in threading.enumerate():  # in a real harness other work comes before the comparison
        if thread is not threading.current_thread() and thread.name.startswith("late"):
            thread.join()
    if not check_first:
        verdicts += [_close(out, expected) for out, expected in (kept if all_at_once else kept[-1:])]
    return Naive(all(verdicts), seconds, namespace)


def _close(out: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool(torch.all(torch.isclose(out, expected.to(out.dtype), atol=TOLERANCE, rtol=0)))


def calls_of(found: Naive, name: str = "computed") -> Sequence[int]:
    """The program's own list of the calls in which it really computed."""
    return found.namespace[name]
