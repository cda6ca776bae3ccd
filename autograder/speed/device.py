"""The device that is timed on: its class in course.yml, its cache, and the ceilings that are measured on it."""
from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from statistics import median
from typing import Any

import torch

from autograder.speed.memory import HostMemory, Layout, Shared
from etude.kernels.workload import Workload

DEFAULT_CLASS = "default"
CPU = "cpu"
_CPU_CACHE, _GPU_CACHE = 32 << 20, 64 << 20
_REPEATS = 15
_COPIED_BYTES = {"cpu": 64 << 20, "cuda": 4 << 30}
_MATRIX_SIZE = {"cpu": 768, "cuda": 8192}
_TYPES = {"cpu": (torch.float32,), "cuda": (torch.float32, torch.float16, torch.bfloat16)}
"""In which `torch.matmul` is timed."""
Clock = Callable[[], float]


@dataclass(frozen=True)
class Ceilings:
    """What the device was seen to do in this session."""

    bytes_per_second: float
    """Read and written, by a copy."""
    flops_per_second: dict[str, float]
    """By `torch.matmul`, for each dtype."""

    def seconds(self, workload: Workload, types: Iterable[torch.dtype]) -> float:
        """The time that no kernel for this work, on tensors of these types, can beat by much.

        The fastest of the types counts: products of float16 may well be summed up in a float32 output.
        """
        rates = [self.flops_per_second[str(name)] for name in types if str(name) in self.flops_per_second]
        compute = workload.flops / max(rates) if rates else 0.0
        return max(workload.bytes / self.bytes_per_second, compute)


class Device:
    """A CPU or an NVIDIA GPU."""

    def __init__(self, kind: str):
        self.kind = kind
        self.torch = torch.device(kind)
        if kind == "cuda":
            properties = torch.cuda.get_device_properties(0)
            self.name, self.cache_bytes = properties.name, getattr(properties, "L2_cache_size", _GPU_CACHE)
        else:
            self.name, self.cache_bytes = CPU, _CPU_CACHE

    def synchronize(self) -> None:
        """Wait for everything that this process has asked of the device."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def memory(self, layouts: Sequence[Layout], slots: int) -> Shared:
        """Buffers that a worker can share."""
        if self.kind == "cuda":
            from autograder.speed.cuda import DeviceMemory
            return DeviceMemory(layouts, slots)
        return HostMemory(layouts, slots)

    def class_among(self, classes: Iterable[str]) -> str | None:
        """Which of course.yml's classes the device belongs to: the one whose name stands in its own, else `default`.

        Only a class called `cpu` makes a CPU a device whose figures count.
        """
        classes = list(classes)
        words = re.split(r"[^a-z0-9]+", self.name.lower())
        fallback = DEFAULT_CLASS if self.kind != CPU and DEFAULT_CLASS in classes else None
        return next((name for name in classes if name.lower() in words), fallback)

    def ceilings(self, clock: Clock = time.perf_counter) -> Ceilings:
        """Measure them: a copy between two large buffers, and a product of square matrices in each dtype."""
        count = _COPIED_BYTES[self.kind]
        source = torch.ones(count, dtype=torch.uint8, device=self.torch)
        target = torch.empty_like(source)
        copy = self._seconds(partial(target.copy_, source), clock)
        del source, target
        size, rates = _MATRIX_SIZE[self.kind], {}
        for dtype in _TYPES[self.kind]:
            left = torch.ones(size, size, dtype=dtype, device=self.torch)
            rates[str(dtype)] = 2 * size**3 / self._seconds(partial(torch.matmul, left, left), clock)
        return Ceilings(2 * count / copy, rates)

    def _seconds(self, work: Callable[[], Any], clock: Clock) -> float:
        times = []
        for _ in range(_REPEATS):
            self.synchronize()
            started = clock()
            work()
            self.synchronize()
            times.append(clock() - started)
        return median(times)

    def describe(self) -> dict[str, str]:
        """What figures depend on: device, driver and versions."""
        found = {"device": self.name, "torch": torch.__version__}
        if self.kind == "cuda":
            found |= {"cuda": str(torch.version.cuda), "cache_bytes": str(self.cache_bytes),
                      "capability": self.capability, "memory_bytes": str(self.memory_bytes)}
            found |= {name: text for name, text in (("driver", driver_version()), ("triton", triton_version())) if text}
        return found

    @property
    def capability(self) -> str:
        """The compute capability of a GPU, as `9.0`."""
        properties = torch.cuda.get_device_properties(0)
        return f"{properties.major}.{properties.minor}"

    @property
    def memory_bytes(self) -> int:
        """The memory of a GPU."""
        return torch.cuda.get_device_properties(0).total_memory


def driver_version(path: str = "/proc/driver/nvidia/version") -> str:
    """The version of NVIDIA's kernel module, as `550.54.15`; empty where it is not known."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", file.readline())
    except OSError:
        return ""
    return found[1] if found else ""


def triton_version() -> str:
    """The version of Triton that is installed; empty without one."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return ""


def open_device(kind: str) -> Device | None:
    """The device, or None where this machine has no such one."""
    return None if kind == "cuda" and not torch.cuda.is_available() else Device(kind)
