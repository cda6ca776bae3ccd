"""One small run of what student code does with PyTorch, in the zygote.

Libraries put off a surprising amount of work until first use: imports, code generation, choice of kernels.
A sealed worker can no longer open a file, so what is not done here would fail there.
"""
from __future__ import annotations

import io
import linecache
import os
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import einops
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from etude import batch, wire
from etude.executor import CALL, DESCRIBE, FREE, LOAD, MANY, VJP, Executor

COMPILER_USERS = ("torch.func", "torch.optim", "torch.utils.checkpoint")
"""Parts of PyTorch that import its compiler (most of a second) on first use, though they compile nothing."""
_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def run(preload: Collection[str]) -> None:
    """Warm everything; what imports the compiler only if `preload` names one of `COMPILER_USERS`."""
    replace_functions()
    layers()
    algebra()
    in_memory_files()
    if any(name in preload for name in COMPILER_USERS):
        with _compiler_cache():
            compiler_users()
    if "triton" in preload:
        from etude.kernels.launching import warm_up
        warm_up()
    sys._clear_type_cache()  # a worker would replace what is in there, and so write to the pages of names it never uses
    requests()
    torch.manual_seed(0)
    np.random.seed(0)
    linecache.clearcache()  # a worker that describes an error would look for these files, and free what it cannot find


@contextmanager
def _compiler_cache() -> Iterator[None]:
    """A folder for the compiler, which makes one though it compiles nothing; gone before the first worker."""
    variable, without = _CACHE_VARIABLE, os.environ.get(_CACHE_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[variable] = folder
        try:
            yield
        finally:
            os.environ.pop(variable) if without is None else os.environ.update({variable: without})


def replace_functions() -> None:
    """Keep PyTorch to one thread, and let it draw a seed without a file, in every worker."""
    torch.set_num_threads(1)

    def set_num_threads(count: int) -> None:
        """Stands in for PyTorch's own: a worker cannot start threads, and OpenMP would end the process."""
        warnings.warn("set_num_threads has no effect in grading: workers have one thread", stacklevel=2)

    torch.set_num_threads = torch.set_num_interop_threads = set_num_threads

    def seed() -> int:
        """Stands in for PyTorch's own, which reads a file."""
        value = int.from_bytes(os.urandom(8), "little")
        torch.manual_seed(value)
        return value

    torch.seed = torch.random.seed = seed


def layers() -> None:
    """Attention, convolution, recurrence, normalisation: forward and backward."""
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(2, 4, 8, dtype=dtype, requires_grad=True)
        attended = F.scaled_dot_product_attention(x, x, x) + (x @ x.mT).softmax(-1) @ x
        mixed = nn.Conv1d(4, 4, 3, padding=1, dtype=dtype)(attended)
        image = nn.Conv2d(4, 4, 3, padding=1, dtype=dtype)(mixed[..., None])[..., 0]
        recurrent, _ = nn.LSTM(8, 8, dtype=dtype, batch_first=True)(image)
        nn.LayerNorm(8, dtype=dtype)(recurrent).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nn.Linear(8, 8)(torch.randn(2, 8)).sum().backward()


def algebra() -> None:
    """Linear algebra, Fourier transforms, checks of gradients, einops, NumPy."""
    a = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    torch.linalg.svd(a)[1].sum().backward()
    torch.linalg.solve(a, a), torch.linalg.eigh(a @ a.mT), torch.einsum("ij,jk->ik", a, a), torch.fft.rfft(a)
    torch.func.vmap(torch.sin)(a.detach())
    torch.func.jvp(torch.sin, (a.detach(),), (a.detach(),))
    torch.autograd.gradcheck(torch.sin, (a,))  # imports sympy, as any backward with a given cotangent does
    torch.autograd.functional.jacobian(torch.sin, a)
    array = a.detach().numpy()
    for x in (a.detach(), array):
        summed = einops.reduce(einops.rearrange(x, "a (b c) -> c a b", b=2), "c a b -> a b", "sum")
        einops.repeat(summed, "a b -> a b k", k=2)
    np.linalg.svd(array), np.fft.fft(array), np.random.default_rng(0).normal(size=3), np.polynomial, np.ma
    repr(a)


def in_memory_files() -> None:
    """`torch.save` to a buffer and back; text codecs."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, buffer)
    buffer.seek(0)
    torch.load(buffer)
    for codec in ("ascii", "latin-1", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        "a".encode(codec).decode(codec)


_PROGRAM = """
import torch

class Scale(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(n))

    def forward(self, x):
        return x * self.weight

def scale(x, *, by=1.0):
    return x * by
"""
_ENOUGH = 20
"""Calls after which Python has adapted a function's code to what it meets; a worker would write to shared pages."""


def requests() -> None:
    """What a worker does for any student: a program run, a function called, a gradient asked for."""
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    call = {"name": "scale", "args": [x], "kwargs": {"by": 2.0}, "node": 1, "echo": True, "audit": True}
    vjp = {"of": 1, "cotangents": [x.detach()], "create_graph": False, "node": 2}
    made = [(DESCRIBE, {"name": "scale"}), (CALL, call), (VJP, vjp), (FREE, {"nodes": [1], "objects": []})]
    many = batch.pack([(kind, wire.encode(request)) for kind, request in made])
    for number in range(_ENOUGH):
        executor = Executor()
        executor.handle(LOAD, wire.encode({"cells": [{"label": str(number), "source": _PROGRAM, "mode": "all"}]}))
        executor.handle(MANY, many)


def compiler_users() -> None:
    """Function transforms, checkpointing, one step of the usual optimizers."""
    weight = nn.Parameter(torch.ones(3))
    torch.func.vmap(torch.func.grad(lambda row: row.square().sum()))(torch.ones(2, 3))
    torch.utils.checkpoint.checkpoint(torch.sin, weight, use_reentrant=False).sum().backward()
    for optimizer in (torch.optim.AdamW([weight]), torch.optim.SGD([weight], lr=0.1, momentum=0.9)):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
