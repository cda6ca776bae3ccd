"""What a speed check gives: the sizes at which `autograder bench` times a kernel exercise.

    @exercise("rms_norm_triton")
    @points(3)
    @speed
    def test_rms_norm_speed():
        \"\"\"The kernel is at most 1.2 times as slow as the reference.\"\"\"
        return [Workload("8192 x 4096, float32", "rms_norm_triton", ...)]
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Workload:
    """One size at which a kernel exercise is timed."""

    name: str
    """For people: `8192 x 4096, float32`."""
    call: str
    """The destination-passing function, of the student's program and of the reference's alike; it is called as
    `call(*outputs, *inputs, **settings)` and returns nothing."""
    inputs: Callable[[torch.Generator, torch.device], tuple[Tensor, ...]]
    """`inputs(generator, device)`: fresh values on that device, drawn from the generator."""
    outputs: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    """Shape and dtype of each destination; whoever times allocates and poisons it before every call."""
    expected: Callable[..., tuple[Tensor, ...]]
    """`expected(*inputs, **settings)`: trusted results in plain PyTorch, by which every timed call is verified."""
    tolerance: float
    """Largest |got - expected| / max |expected| allowed, for each output."""
    bytes: int
    """Bytes that any implementation must move between memory and chip: every input read once, every output written."""
    flops: int
    """Floating-point operations that it must do."""
    settings: Mapping[str, int | float | bool] = field(default_factory=dict)
    """Scalars, passed by keyword."""
