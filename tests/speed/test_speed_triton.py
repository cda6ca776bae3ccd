"""A Triton kernel through the whole harness: in the interpreter, sealed, at a tiny size."""
from __future__ import annotations

import pytest

from autograder.speed.bench import SERVE
from autograder.speed.session import Fault
from tests.speed.kernels import RULES, SETUP, sealed_spawn, seconds_of

pytest.importorskip("triton", reason="triton is not installed: kernels cannot be run here")

KERNEL = SETUP + '''
from etude.kernels import tl, triton

@triton.jit
def rows(out, x, scale, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    kept = columns < n
    values = tl.load(x + row * n + columns, mask=kept, other=-float("inf")) * scale
    values = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row * n + columns, values / tl.sum(values, axis=0), mask=kept)

def softmax_into(out, x, scale):
    rows[(x.shape[0],)](out, x, scale, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
'''


@pytest.fixture(scope="module")
def spawn():
    from autograder.sandbox.client import KERNELS, Zygote
    with Zygote(preload=KERNELS, serve=SERVE) as zygote:
        yield sealed_spawn(zygote)


def test_a_triton_kernel_is_timed_and_verified(spawn):
    assert seconds_of(spawn, KERNEL) == [1.0] * RULES.calls


def test_a_triton_kernel_without_its_mask_is_a_fault(spawn):
    """The store past a row's end lands in the next row, and behind the last one in another tensor."""
    with pytest.raises(Fault, match="is wrong|wrote to its input"):
        seconds_of(spawn, KERNEL.replace("axis=0), mask=kept)", "axis=0))").replace("columns < n", "columns < n + 9"))
