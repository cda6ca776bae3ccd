"""The buffers that the trusted process shares with a worker: allocated here, seen there by handle.

Every buffer is a tensor of bytes in lines of `LINE`, the unit in which inputs are repaired and outputs sampled. On a
CPU they lie in one file in memory; on a GPU each is a block of `cudaMalloc` of its own, shared by CUDA IPC, and never
a piece of PyTorch's cache, whose segment could hold something else as well.
"""
from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from autograder.errors import AutograderError

LINE = 128
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL if hasattr(fcntl, "F_SEAL_SEAL") else 0


@dataclass(frozen=True)
class Layout:
    """Shape and dtype of a tensor that lies in a buffer."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def lines(self) -> int:
        return max(1, -(-self.bytes // LINE))

    def view(self, lines: Tensor) -> Tensor:
        """The tensor in the lines of its buffer."""
        return lines.view(-1)[:self.bytes].view(self.dtype).view(self.shape)


class Shared(Protocol):
    """Slots of buffers that both processes see; `close()` gives the memory back."""

    slots: list[list[Tensor]]
    """`slots[slot][buffer]`, (lines, LINE) uint8."""
    descriptor: int | None
    """The file to hand to the worker; None where handles are enough."""
    size: int
    """Bytes that the worker maps of the file."""

    def handles(self) -> list[list[Any]]:
        """How a worker finds each buffer."""
        ...

    def close(self) -> None: ...


class HostMemory:
    """Slots in one file in memory."""

    def __init__(self, layouts: Sequence[Layout], slots: int):
        if not hasattr(os, "memfd_create"):
            raise AutograderError("timing on a CPU shares memory by memfd_create, which only Linux has")
        lines = [layout.lines for layout in layouts]
        self.size = LINE * sum(lines) * slots
        self.descriptor = os.memfd_create("etude-speed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, self.size)
            # A worker that made the file smaller would take the pages from under the grader's feet.
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._map = mmap.mmap(self.descriptor, self.size)
        except OSError as error:
            os.close(self.descriptor)
            raise AutograderError(f"no {self.size >> 20} MiB of shared memory: {error.strerror}") from None
        pieces = torch.frombuffer(self._map, dtype=torch.uint8).view(-1, LINE).split(lines * slots)
        self.slots = [list(pieces[slot * len(lines):(slot + 1) * len(lines)]) for slot in range(slots)]

    def handles(self) -> list[list[int]]:
        """The offset of each buffer in the file."""
        start = self.slots[0][0].data_ptr()
        return [[buffer.data_ptr() - start for buffer in slot] for slot in self.slots]

    def close(self) -> None:
        self.slots = []
        os.close(self.descriptor)
