"""Cases for kernels: small sizes, values of three kinds, float32 and float16, and memory that is not contiguous.

    RMS = KernelCases(x=values("M N"), w=values("N"), eps=value_of("eps"), sizes={"M": (1, 5), "N": (1, 31, 257)},
                      flags={"eps": (1e-6, 0.5)})

Tensor arguments are inputs, the others settings. Sizes that no block divides are what masks are for, so the largest of
each is a prime or the like. What `etude.strategies` says of cases holds here, too.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from etude.strategies import Argument, Case, Cases, Sizes

REGIMES = ("normal", "shifted", "structured")
PRECISIONS = ("float32", "float16")


class KernelCases(Cases):
    """`Cases` with two more flags, `regime` (what the values look like) and `precision` (of `values`)."""

    def __init__(self, *, sizes: Mapping[str, Sequence[int]], flags: Mapping[str, Sequence[Any]] | None = None,
                 precisions: Sequence[str] = PRECISIONS, **others: Any):
        """`sizes`: (smallest, largest usual[, beyond any block]); keep it to what 64 programs do."""
        super().__init__(sizes=sizes, flags={**(flags or {}), "regime": REGIMES, "precision": precisions}, **others)


def values(dims: str, at: Callable[[Tensor, Sizes], Tensor] | None = None, spike: float = 30.0) -> Argument:
    """Floats of the case's regime and precision; `at(values, sizes)` may change them in float64 before rounding.

    `normal` is standard normal; `shifted` 10 times that plus 5; `structured` has rows of very different size, one of
    zeros, and one value as large as `spike`: from 256 on, its square is infinite in float16.
    """
    def make(g: torch.Generator, shape: tuple[int, ...], sizes: Sizes) -> Tensor:
        drawn = torch.randn(shape, generator=g, dtype=torch.float64)
        if sizes["regime"] == "shifted":
            drawn = 10 * drawn + 5
        elif sizes["regime"] == "structured" and drawn.numel():
            rows = shape[:-1] or (1,)
            drawn = drawn * (10 ** (3.5 * torch.rand((*rows, 1), generator=g, dtype=torch.float64) - 2)).reshape(
                (*shape[:-1], 1) if len(shape) > 1 else (1,))
            flat = drawn.reshape(-1, shape[-1])
            flat[0] = 0
            flat[-1, -1] = spike
            drawn = flat.reshape(shape)
        if at is not None:
            drawn = at(drawn, sizes)
        return drawn.to(precision(sizes["precision"]))
    return Argument(dims, make)


def precision(name: str) -> torch.dtype:
    """The dtype of a case's `precision`."""
    return getattr(torch, name)


def inputs_and_settings(case: Case) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The case's arguments, apart: tensors, and what is passed by keyword."""
    arguments = case.arguments()
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    if case.layout == "expanded":  # all rows are the first one; its place in memory follows from the layout
        tensors = {name: value[:1].expand_as(value).clone() if value.ndim > 1 else value
                   for name, value in tensors.items()}
    return tensors, {name: value for name, value in arguments.items() if name not in tensors}


def output_shape(dims: str, case: Case) -> tuple[int, ...]:
    """`"M N"` for a case."""
    return Argument(dims, lambda *_: None).shape({**case.sizes, **case.flags})
