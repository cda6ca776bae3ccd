"""A workload for tests, kernels that do it right, and a bench that times them with a clock of the test's own."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from autograder.sandbox.limits import MB, Limits
from autograder.speed.device import Device
from autograder.speed.statistics import Rules
from autograder.speed.timing import Bench
from etude.kernels.workload import Workload

M, N = 64, 96
RULES = Rules(warm_ups=2, calls=4, resamples=100)
SEEDS = tuple(range(1001, 1001 + RULES.warm_ups + RULES.calls))
SETUP = "import torch\nfrom torch import Tensor\n"
RIGHT = SETUP + '''
def softmax_into(out, x, scale):
    torch.softmax(scale * x, dim=-1, out=out)
'''


def inputs(generator: torch.Generator, device: torch.device) -> tuple[torch.Tensor, ...]:
    return (torch.randn(M, N, generator=generator, device=device),)


def expected(x: torch.Tensor, scale: float) -> tuple[torch.Tensor, ...]:
    return (torch.softmax(scale * x.double(), dim=-1),)


SOFTMAX = Workload("64 x 96, float32", "softmax_into", inputs, (((M, N), torch.float32),), expected, 1e-5,
                   bytes=2 * M * N * 4, flops=5 * M * N, settings={"scale": 2.0})


def program(*sources: str) -> list[dict[str, str]]:
    return [{"label": f"cell {number}", "source": source, "mode": "all"} for number, source in enumerate(sources, 1)]


class Ticks:
    """A clock that goes on by one at every look: what it shows depends on no machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def sealed_spawn(zygote: Any) -> Callable[[int | None, int], Any]:
    return lambda memory, size: zygote.spawn(Limits(memory_mb=1024 + size // MB, cpu_seconds=60), memory=memory)


@contextmanager
def bench(spawn: Any, workload: Workload = SOFTMAX, clock: Callable[[], float] | None = None) -> Iterator[Bench]:
    found = Bench(workload, Device("cpu"), RULES, spawn, 20.0, clock or Ticks(), cache_bytes=0)
    try:
        yield found
    finally:
        found.close()


def seconds_of(spawn: Any, *sources: str, workload: Workload = SOFTMAX, seeds: Sequence[int] = SEEDS) -> list[float]:
    """One block of a program. Raises `Fault` for what is wrong with it."""
    with bench(spawn, workload) as found:
        return found.block(program(*sources), seeds)
