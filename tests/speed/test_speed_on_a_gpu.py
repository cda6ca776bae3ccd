"""What only a GPU can show. Skipped without one; `python -m pytest tests/speed/test_speed_on_a_gpu.py` runs it."""
from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from autograder.sandbox.limits import Limits
from autograder.speed.device import Device
from autograder.speed.process import open_worker
from autograder.speed.session import Fault, time_kernel
from autograder.speed.statistics import Rules
from autograder.speed.timing import Bench
from tests.speed.kernels import RIGHT, RULES, SEEDS, SETUP, SOFTMAX, program

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="needs a GPU: on one, run `python -m pytest tests/speed/test_speed_on_a_gpu.py`")

LARGE = 16384


def draw(generator, device):
    return (torch.randn(LARGE, LARGE, generator=generator, device=device),)


WORKLOAD = replace(SOFTMAX, name=f"{LARGE} x {LARGE}, float32", inputs=draw,
                   outputs=(((LARGE, LARGE), torch.float32),), bytes=8 * LARGE**2, flops=5 * LARGE**2)

SIDE_STREAM = SETUP + '''
stream = torch.cuda.Stream()
torch.cuda.synchronize = lambda *args: None
def softmax_into(out, x, scale):
    with torch.cuda.stream(stream):
        for _ in range(200):
            torch.softmax(scale * x, dim=-1, out=out)
'''
PATCHED_EVENT = SETUP + '''
class Event:
    def __init__(self, *args, **kwargs): pass
    def record(self, *args): pass
    def synchronize(self): pass
    def elapsed_time(self, other): return 0.0
torch.cuda.Event = Event
torch.cuda.synchronize = lambda *args: None
def softmax_into(out, x, scale):
    pass
'''
# The input is kept where the next call would find it, were it the same and at the same place.
CACHED_ON_DEVICE = SETUP + '''
results = {}
def softmax_into(out, x, scale):
    if x.data_ptr() not in results:
        results[x.data_ptr()] = torch.softmax(scale * x, dim=-1)
    out.copy_(results[x.data_ptr()])
'''


@pytest.fixture
def bench():
    found = Bench(WORKLOAD, Device("cuda"), RULES, lambda memory, size: open_worker(Limits(cpu_seconds=300), memory),
                  60.0)
    yield found
    found.close()


def test_a_right_kernel_is_timed(bench):
    assert min(bench.block(program(RIGHT), SEEDS)) > 0


@pytest.mark.parametrize("source", [SIDE_STREAM, PATCHED_EVENT, CACHED_ON_DEVICE],
                         ids=["side stream", "patched event", "cached on the device"])
def test_exploits_of_a_gpu(bench, source):
    with pytest.raises(Fault, match="wrong|written|changed"):
        bench.block(program(source), SEEDS)


def test_the_working_set_is_ten_times_the_cache_that_could_be_pinned(bench):
    total = sum(lines.numel() for slot in bench.memory.slots for lines in slot)
    assert total >= 10 * Device("cuda").cache_bytes


def test_the_harness_agrees_with_cuda_events():
    """Within 3 % for kernels of a millisecond and more."""
    x = torch.randn(LARGE, LARGE, device="cuda")
    out, times = torch.empty_like(x), []
    for _ in range(20):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        torch.softmax(2.0 * x, dim=-1, out=out)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    found = _self_measured()
    assert found.figures.reference_seconds == pytest.approx(sorted(times)[len(times) // 2], rel=0.03)


def test_twenty_regrades_give_one_verdict():
    assert {_self_measured().judgement.verdict for _ in range(20)} == {"pass"}


def _self_measured():
    from autograder.course import SpeedThresholds
    rules = Rules()
    bench = Bench(WORKLOAD, Device("cuda"), rules, lambda memory, size: open_worker(Limits(cpu_seconds=300), memory),
                  60.0, time.perf_counter)
    noop = program("def softmax_into(*args, **settings): pass")
    seeds = list(range(1, 1 + rules.warm_ups + rules.calls))
    try:
        return time_kernel(lambda role, pair: bench.block(noop if role == "noop" else program(RIGHT), seeds,
                                                          role != "noop"),
                           SpeedThresholds(full=1.2, zero=10.0, ceiling=0.5), None, rules)
    finally:
        bench.close()
