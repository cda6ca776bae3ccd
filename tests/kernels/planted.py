"""Kernels that scale rows, `out = 2 x`: a right one, and one with each bug that a layer of checking is there for."""
from __future__ import annotations

import math

import torch

from etude.kernels import tl, triton


@triton.jit
def _double(out, x, N, out_row, x_row, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * x_row + column, mask=column < N, other=0.0)
    tl.store(out + row * out_row + column, 2 * value, mask=column < N)


@triton.jit
def _reads_beside(out, x, N, out_row, x_row, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * x_row + column)
    tl.store(out + row * out_row + column, 2 * value, mask=column < N)


@triton.jit
def _writes_beside(out, x, N, out_row, x_row, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * x_row + column, mask=column < N, other=0.0)
    tl.store(out + row * out_row + column, 2 * value)


@triton.jit
def _far_away(out, x, N, out_row, x_row, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    tl.store(out + 1_000_000_000 + column, tl.load(x + column, mask=column < N), mask=column < N)


@triton.jit
def _writes_its_input(out, x, N, out_row, x_row, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * x_row + column, mask=column < N, other=0.0)
    tl.store(out + row * out_row + column, 2 * value, mask=column < N)
    tl.store(x + row * x_row + column, 2 * value, mask=column < N)


@triton.jit
def _calls_python(out, x, N, out_row, x_row, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * x_row + column, mask=column < N, other=0.0)
    tl.store(out + row * out_row + column, _python(value), mask=column < N)


@triton.jit
def _in_bfloat16(out, x, N, out_row, x_row, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * x_row + column, mask=column < N, other=0.0).to(tl.bfloat16)
    tl.store(out + row * out_row + column, 2 * value, mask=column < N)


def _python(value):
    return value * math.sqrt(4.0)


def _launcher(kernel):
    def launch(out, x):
        M, N = x.shape
        kernel[(M,)](out, x, N, out.stride(0), x.stride(0), BLOCK=triton.next_power_of_2(N))
    return launch


doubles = _launcher(_double)
reads_beside = _launcher(_reads_beside)
writes_beside = _launcher(_writes_beside)
far_away = _launcher(_far_away)
writes_its_input = _launcher(_writes_its_input)
calls_python = _launcher(_calls_python)
in_bfloat16 = _launcher(_in_bfloat16)


def contiguous_rows(out, x):
    """Takes rows to follow each other."""
    M, N = x.shape
    _double[(M,)](out, x, N, N, N, BLOCK=triton.next_power_of_2(N))


# ------------------------------------------------------------------------------------------------ sums over all rows

@triton.jit
def _zeros(out, N, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    tl.store(out + column, tl.zeros([BLOCK], dtype=tl.float32), mask=column < N)


@triton.jit
def _race(out, x, N, x_row, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    value = tl.load(x + tl.program_id(0) * x_row + column, mask=column < N, other=0.0)
    tl.store(out + column, tl.load(out + column, mask=column < N, other=0.0) + value, mask=column < N)


@triton.jit
def _atomic(out, x, N, x_row, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    value = tl.load(x + tl.program_id(0) * x_row + column, mask=column < N, other=0.0)
    tl.atomic_add(out + column, value, mask=column < N)


@triton.jit
def _locked(out, lock, x, N, x_row, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    value = tl.load(x + tl.program_id(0) * x_row + column, mask=column < N, other=0.0)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(out + column, tl.load(out + column, mask=column < N, other=0.0) + value, mask=column < N)
    tl.atomic_xchg(lock, 0)


@triton.jit
def _last_wins(out, x, N, x_row, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    value = tl.load(x + tl.program_id(0) * x_row + column, mask=column < N, other=0.0)
    tl.store(out + column, value, mask=column < N)


def _summing(kernel, *more):
    def launch(out, x):
        M, N = x.shape
        block = triton.next_power_of_2(N)
        _zeros[(1,)](out, N, BLOCK=block)
        kernel[(M,)](out, *(make() for make in more), x, N, x.stride(0), BLOCK=block)
    return launch


sums_by_race = _summing(_race)
sums_by_atomics = _summing(_atomic)
sums_by_lock = _summing(_locked, lambda: torch.zeros(1, dtype=torch.int32))
keeps_the_last = _summing(_last_wins)


@triton.autotune([triton.Config({"BLOCK": 64}), triton.Config({"BLOCK": 128})], key=["N"])
@triton.jit
def _tuned(out, x, N, out_row, x_row, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * x_row + column, mask=column < N, other=0.0)
    tl.store(out + row * out_row + column, 2 * value, mask=column < N)


def autotuned(out, x):
    """Two configurations, of which the interpreter takes the first."""
    M, N = x.shape
    _tuned[(M,)](out, x, N, out.stride(0), x.stride(0))


@triton.jit
def _square(out, x, PRECISION: tl.constexpr):
    place = tl.arange(0, 32)[:, None] * 32 + tl.arange(0, 32)[None, :]
    value = tl.load(x + place)
    tl.store(out + place, tl.dot(value, value, input_precision=PRECISION))


def squares(out, x, precision):
    """A matrix product of 32 x 32 float32, in that precision."""
    _square[(1,)](out, x, PRECISION=precision)
