"""The memory that a kernel is given: tensors in the middle of larger buffers whose other elements are canaries.

Whoever checks owns the buffers. An input lies among NaN, so that reading beside it shows; an output among sentinels and
filled with NaN itself, so that writing beside it shows, and what is left out, too.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MARGIN = 1024
"""Elements before and after a tensor."""
SENTINEL = -7.0
_GAP = 3
"""Elements between rows that are not next to each other."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in its buffer; it travels as a dict."""

    name: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    output: bool

    def of(self, base: Tensor) -> Tensor:
        """The tensor itself, as a view of its buffer."""
        return base.as_strided(self.shape, self.stride, self.offset)

    def elements(self, count: int) -> Tensor:
        """(count,) bool: the elements of the buffer that belong to the tensor."""
        found = torch.zeros(count, dtype=torch.bool)
        found.as_strided(self.shape, self.stride, self.offset).fill_(True)
        return found

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "offset": self.offset, "shape": list(self.shape), "stride": list(self.stride),
                "output": self.output}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Place:
        return cls(value["name"], value["offset"], tuple(value["shape"]), tuple(value["stride"]), value["output"])


def strides_for(shape: Sequence[int], layout: str, output: bool) -> tuple[int, ...]:
    """Strides whose last one is 1. `strided`: a gap after each row; `expanded`: all of an input's rows are the first.

    An output of the layout `expanded` is strided: its elements are all its own.
    """
    strides, step = [], 1
    for axis, size in reversed(list(enumerate(shape))):
        strides.insert(0, step)
        step *= size
        if axis == len(shape) - 1 and layout != "contiguous" and len(shape) > 1:
            step += _GAP
    if layout == "expanded" and not output and len(shape) > 1:
        strides[0] = 0
    return tuple(strides)


def buffer(name: str, value: Tensor | None, shape: Sequence[int], dtype: torch.dtype, layout: str
           ) -> tuple[Tensor, Place]:
    """(buffer, place) of an input with these values; of an output that is poisoned where `value` is None."""
    output = value is None
    stride = strides_for(shape, layout, output)
    span = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if all(shape) else 0
    base = torch.empty(span + 2 * MARGIN, dtype=dtype).fill_(_canary(dtype, output))
    place = Place(name, MARGIN, tuple(shape), stride, output)
    if value is not None and stride and stride[0] == 0 and len(shape) > 1:
        base.as_strided(shape[1:], stride[1:], MARGIN).copy_(value[0])
    elif value is not None:
        place.of(base).copy_(value)
    else:
        place.of(base).fill_(_poison(dtype))
    return base, place


def _canary(dtype: torch.dtype, output: bool) -> float | int | bool:
    if not dtype.is_floating_point:
        return dtype is torch.bool or torch.iinfo(dtype).max // 3
    return SENTINEL if output else float("nan")


def _poison(dtype: torch.dtype) -> float | int | bool:
    return float("nan") if dtype.is_floating_point else dtype is torch.bool or torch.iinfo(dtype).max // 2


def same_bits(one: Tensor, other: Tensor) -> Tensor:
    """Elementwise: the same value, where NaN is the same as NaN."""
    return (one == other) | ((one != one) & (other != other))
