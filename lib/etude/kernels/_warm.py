"""The kernel that `warm_up` runs and builds: it uses what most kernels use."""
from __future__ import annotations

from etude.kernels import tl, triton


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _double(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + offsets, mask=offsets < n, other=0.0).to(tl.float32)
    total = tl.sum(value) + tl.reduce(value, 0, _add) * tl.exp(tl.max(value, axis=0) * 0) + 0 * tl.cdiv(n, BLOCK)
    tl.store(out + offsets, tl.where(value > 0, total, 0.0).to(out.dtype.element_ty), mask=offsets < n)


def doubled(out, x):
    """Each element of `out` becomes twice the sum of x."""
    _double[(1,)](out, x, x.numel(), BLOCK=max(16, triton.next_power_of_2(x.numel())))
