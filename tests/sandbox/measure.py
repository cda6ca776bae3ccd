"""Print the figures that docs/security.md quotes: `.venv/bin/python tests/sandbox/measure.py`."""
from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

from sandbox_helpers import ECHO, ECHO_BACK, HERE, RUN, run

from autograder.sandbox.client import ALL_LAYERS, Worker, Zygote

PRIVATE = """
result = sum(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Private_Dirty"))
"""


def milliseconds(action: Callable[[], None], times: int) -> str:
    """Median and 99th percentile of one call, in ms."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(1e3 * (time.perf_counter() - start))
    return f"median {statistics.median(taken):8.3f} ms   p99 {sorted(taken)[int(0.99 * times)]:8.3f} ms"


def main() -> None:
    start = time.perf_counter()
    with Zygote(serve=ECHO, extra_path=[HERE], preload=sys.argv[1:]) as zygote:
        seconds = time.perf_counter() - start
        print(f"zygote start                {seconds:.2f} s   {zygote.label.name} {zygote.label.layers}")

        cpu: list[float] = []

        def life() -> None:
            with zygote.spawn() as worker:
                worker.request(RUN, b"import torch; result = torch.ones(3) @ torch.ones(3)")
            cpu.append(worker.cpu_seconds)
        print(f"spawn to reap, at once      {milliseconds(life, 10)}")
        time.sleep(2)  # the zygote's idle time, in which it makes forks cheaper
        print(f"spawn to reap, later        {milliseconds(life, 100)}")
        print(f"  of it CPU of the worker   median {1e3 * statistics.median(cpu[-100:]):8.3f} ms")
        for name, layers in (("bare  ", frozenset()), ("sealed", ALL_LAYERS)):
            with zygote.spawn(layers=layers) as worker:
                print(f"round trip {name} 200 B     {milliseconds(partial(echo, worker, bytes(200)), 5000)}")
        with zygote.spawn() as worker:
            print(f"round trip sealed 16 MB     {milliseconds(partial(echo, worker, bytes(16 << 20)), 10)}")
        with zygote.spawn(layers=frozenset()) as worker:
            run(worker, "import torch; x = torch.randn(9, 9, requires_grad=True); (x @ x).softmax(-1).sum().backward()")
            private = run(worker, PRIVATE) / 1024
            print(f"private memory of a worker  {private:.1f} MB, of {zygote.resident >> 20} MB resident")


def echo(worker: Worker, payload: bytes) -> None:
    """Send `payload` there and back."""
    worker.request(ECHO_BACK, payload, 30)


if __name__ == "__main__":
    main()
