"""What CUDA's runtime does and PyTorch does not offer: blocks of one's own, shared between processes by handle.

Written against the documented interface; `tests/speed/test_speed_on_a_gpu.py` is what proves it, and needs a GPU.
"""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from autograder.errors import AutograderError
from autograder.speed.memory import LINE, Layout

_LAZY_PEER_ACCESS = 1
_HANDLE_BYTES = 64


class _Handle(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_byte * _HANDLE_BYTES)]


@cache
def _runtime() -> Any:
    """The runtime that PyTorch has loaded: the one whose context the buffers belong to."""
    major = (torch.version.cuda or "").partition(".")[0]
    torch.cuda.init()
    runtime = ctypes.CDLL(f"libcudart.so.{major}")
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    return runtime


def _call(name: str, *args: Any) -> None:
    code = getattr(_runtime(), name)(*args)
    if code:
        raise AutograderError(f"{name}: {_runtime().cudaGetErrorString(code).decode()}")


def tensor_at(address: int, lines: int) -> Tensor:
    """The lines of device memory that begin at an address. Nobody owns them: keep the block as long as the tensor."""
    block = type("Block", (), {"__cuda_array_interface__": {
        "shape": (lines, LINE), "typestr": "|u1", "data": (address, False), "version": 3}})()
    return torch.as_tensor(block, device="cuda")


class DeviceMemory:
    """Slots of blocks of `cudaMalloc`."""

    descriptor, size = None, 0

    def __init__(self, layouts: Sequence[Layout], slots: int):
        self._blocks: list[int] = []
        self.slots: list[list[Tensor]] = []
        try:
            for _ in range(slots):
                self.slots.append([tensor_at(self._allocate(layout.lines * LINE), layout.lines) for layout in layouts])
        except BaseException:
            self.close()
            raise

    def _allocate(self, size: int) -> int:
        address = ctypes.c_void_p()
        _call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        self._blocks.append(address.value or 0)
        return self._blocks[-1]

    def handles(self) -> list[list[bytes]]:
        """The IPC handle of each block."""
        return [[_handle(buffer.data_ptr()) for buffer in slot] for slot in self.slots]

    def close(self) -> None:
        self.slots = []
        while self._blocks:
            _call("cudaFree", ctypes.c_void_p(self._blocks.pop()))


def _handle(address: int) -> bytes:
    handle = _Handle()
    _call("cudaIpcGetMemHandle", ctypes.byref(handle), ctypes.c_void_p(address))
    return bytes(handle)


def open_handle(handle: bytes, lines: int) -> Tensor:
    """In a worker: the lines of another process's block, which stays mapped until this process ends."""
    address = ctypes.c_void_p()
    _call("cudaIpcOpenMemHandle", ctypes.byref(address), _Handle.from_buffer_copy(handle),
          ctypes.c_uint(_LAZY_PEER_ACCESS))
    return tensor_at(address.value or 0, lines)
