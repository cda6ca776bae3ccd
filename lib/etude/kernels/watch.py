"""A watch over Triton's interpreter: every address that a kernel touches, by which program, in a shuffled order.

The interpreter reads and writes wherever a pointer points, in the order of the program numbers. The watch stands
between it and memory: lanes outside every tensor that was passed to the launch are noted, and left out where they would
hit foreign memory; so are accesses of two programs to one element that no atomic operation orders.

It replaces five things in `triton.runtime.interpreter` while a kernel runs: the module `_interpreter`, which does the
memory operations; `GridExecutor.__call__`; `interpreter_builder.set_grid_idx`; `_get_np_dtype`; and `_patch_lang`. They
are there in Triton 3.6 and 3.9; `etude.kernels.KNOWN` keeps versions outside these out.
"""
from __future__ import annotations

import contextlib
import linecache
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

MAX_PROGRAMS = 1024
MAX_FAULTS = 6
NOBODY, MANY = -1, -2
_PLAIN, _ATOMIC = 1, 2
NO_BF16 = ("bfloat16 comes out wrong in Triton's interpreter, silently: on the CPU kernels are checked in float32 and "
           "float16. On a GPU bfloat16 works.")


class KernelRefused(Exception):
    """A launch that cannot be interpreted; the message is for the student."""


@dataclass
class Region:
    """Memory that a kernel may use: the elements of a tensor within its storage."""

    name: str
    start: int
    size: int
    """Bytes of one element."""
    allowed: np.ndarray
    """(elements,) bool."""
    memory: np.ndarray
    """The storage as unsigned integers of an element's size."""
    writer: np.ndarray = field(init=False)
    """Which program wrote the element in this launch."""
    how: np.ndarray = field(init=False)
    reader: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A new launch: what came before it is over."""
        self.writer = np.full(len(self.allowed), NOBODY, np.int32)
        self.reader = np.full(len(self.allowed), NOBODY, np.int32)
        self.how = np.zeros(len(self.allowed), np.uint8)

    def where(self, index: int) -> str:
        """An element in words, by its distance from the tensor."""
        own = np.flatnonzero(self.allowed)
        if not len(own):
            return f"`{self.name}`, which is empty"
        if index > own[-1]:
            return f"{_counted(index - own[-1], 'element')} past the end of `{self.name}`"
        if index < own[0]:
            return f"{_counted(own[0] - index, 'element')} before the start of `{self.name}`"
        return f"between two rows of `{self.name}`"


def region_of(name: str, tensor: torch.Tensor, allowed: np.ndarray | None = None) -> Region:
    """The region of a tensor; without `allowed`, its own elements."""
    storage = tensor.untyped_storage()
    raw = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    size = tensor.element_size()
    count = storage.nbytes() // size
    if allowed is None:
        own = torch.zeros(count, dtype=torch.bool)
        own.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)
        allowed = own.numpy()
    return Region(name, storage.data_ptr(), size, allowed, raw[:count * size].view(f"u{size}"))


@dataclass
class Launch:
    """A kernel's launch as the interpreter met it."""

    function: Any
    arguments: dict[str, Any]
    options: dict[str, Any]


class Watch:
    """What a call of a student's function did to memory. `order` is the seed of the order in which programs run."""

    def __init__(self, regions: list[Region], order: int, dry: bool = False):
        self._regions = sorted(regions, key=lambda region: region.start)
        self._order, self._dry = order, dry
        self._program, self._held = 0, set()
        self._index = (0, 0, 0)
        self.launches: list[Launch] = []
        self.programs = 0
        self.faults: list[tuple[str, str]] = []
        """(kind, sentence); the kinds are `read`, `write` and `race`."""

    @property
    def kinds(self) -> list[str]:
        return sorted({kind for kind, _ in self.faults})

    # ------------------------------------------------------------------------------------------ launches

    def launch(self, executor: Any, original: Any, args: tuple, kwargs: dict) -> Any:
        """In the place of `GridExecutor.__call__`."""
        import inspect

        bound = inspect.signature(executor.fn).bind(
            *args, **{name: value for name, value in kwargs.items() if name in executor.arg_names})
        bound.apply_defaults()
        options = {name: value for name, value in kwargs.items() if name not in executor.arg_names}
        self.launches.append(Launch(executor.fn, dict(bound.arguments), options))
        if self._dry:
            return None
        self._admit(bound.arguments)
        grid = executor.grid(dict(bound.arguments)) if callable(executor.grid) else executor.grid
        self._shuffle(tuple(int(n) for n in grid))
        for region in self._regions:
            region.forget()
        return original(executor, *args, **kwargs)

    def _admit(self, arguments: dict[str, Any]) -> None:
        """Tensors that the student's function made itself are memory like the others."""
        for name, value in arguments.items():
            if not isinstance(value, torch.Tensor):
                continue
            if value.dtype is torch.bfloat16:
                raise KernelRefused(NO_BF16)
            start = value.untyped_storage().data_ptr()
            if value.numel() and start not in [region.start for region in self._regions]:
                self._regions.append(region_of(name, value))
                self._regions.sort(key=lambda region: region.start)

    def _shuffle(self, grid: tuple[int, ...]) -> None:
        self._grid = grid + (1,) * (3 - len(grid))
        total = int(np.prod(self._grid))
        self.programs += total
        if total > MAX_PROGRAMS:
            raise KernelRefused(f"the grid {grid} has {total} programs for an example this small; at most "
                                f"{MAX_PROGRAMS} are interpreted.")
        self._permutation = list(range(total))
        random.Random(self._order).shuffle(self._permutation)

    def place(self, x: int, y: int, z: int) -> tuple[int, int, int]:
        """The program that takes its turn where (x, y, z) would in order."""
        linear = self._permutation[(x * self._grid[1] + y) * self._grid[2] + z]
        self._program, self._held = linear, set()
        rest, third = divmod(linear, self._grid[2])
        self._index = (*divmod(rest, self._grid[1]), third)
        return self._index

    # ------------------------------------------------------------------------------------------ memory

    def read(self, pointers: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The lanes that may be read; notes those that lie beside a tensor, and races."""
        safe, found = self._sorted_out(pointers, mask, "read", "reads")
        for region, index, _ in found:
            writer = region.writer[index]
            if not self._held:
                bad = (writer != NOBODY) & (writer != self._program)
                if bad.any():
                    self._race(region, index[bad][0], writer[bad][0], "reads", "which program {} also writes")
            before = region.reader[index]
            region.reader[index] = np.where((before == NOBODY) | (before == self._program), self._program, MANY)
        return safe

    def write(self, pointers: np.ndarray, mask: np.ndarray, values: np.ndarray, atomic: bool = False) -> np.ndarray:
        """The lanes that may be written, noted likewise."""
        safe, found = self._sorted_out(pointers, mask, "write", "writes")
        for region, index, lanes in found:
            writer, how, reader = region.writer[index], region.how[index], region.reader[index]
            foreign = (writer != NOBODY) & (writer != self._program)
            if atomic:
                bad = foreign & (how == _PLAIN)
            else:
                new = np.broadcast_to(values, pointers.shape)[lanes]
                changed = region.memory[index] != new.view(f"u{region.size}") if new.itemsize == region.size \
                    else np.ones(len(index), bool)
                read = (reader != NOBODY) & (reader != self._program)
                bad = (foreign & ((how == _ATOMIC) | changed)) | (read & changed)
                writer = np.where(foreign, writer, reader)
                self._check_twice(region, index, new)
            if bad.any() and not self._held:
                self._race(region, index[bad][0], writer[bad][0], "writes", "which program {} also uses")
            region.writer[index] = self._program if not atomic else np.where(foreign, MANY, self._program)
            region.how[index] = _ATOMIC if atomic else _PLAIN
        return safe

    def locked(self, pointers: np.ndarray, taken: bool) -> None:
        """A lock by `atomic_cas`, given back by `atomic_xchg`: in between, accesses are in order."""
        if pointers.size == 1:
            (self._held.add if taken else self._held.discard)(int(pointers.reshape(-1)[0]))

    def _sorted_out(self, pointers: np.ndarray, mask: np.ndarray, kind: str, verb: str
                    ) -> tuple[np.ndarray, list[tuple[Region, np.ndarray, np.ndarray]]]:
        """(mask of the lanes in known memory, [(region, elements, lanes) by tensor])."""
        mask = np.broadcast_to(mask, pointers.shape)
        left, found = mask.copy(), []
        beside: list[tuple[Region, int, np.ndarray]] = []
        for region in self._regions:
            inside = left & (pointers >= region.start) & (pointers < region.start + len(region.allowed) * region.size)
            if not inside.any():
                continue
            left &= ~inside
            index = ((pointers[inside] - region.start) // region.size).astype(np.int64)
            wrong = ~region.allowed[index]
            if wrong.any():
                lanes = np.flatnonzero(inside)[wrong]
                beside.append((region, int(index[wrong][0]), lanes))
            found.append((region, index, inside))
        for region, first, lanes in beside:
            self._fault(kind, f"{verb} {region.where(first)} ({_counted(len(lanes), 'lane')}, the first is lane "
                              f"{lanes[0]} of {pointers.size})")
        if left.any():
            region, first = self._nearest(int(pointers[left][0]))
            self._fault(kind, f"{verb} {region.where(first)}" if region else f"{verb} memory of no tensor")
        return mask & ~left, found

    def _nearest(self, address: int) -> tuple[Region | None, int]:
        if not self._regions:
            return None, 0
        region = min(self._regions, key=lambda one: abs(address - one.start - len(one.allowed) * one.size // 2))
        return region, (address - region.start) // region.size

    def _check_twice(self, region: Region, index: np.ndarray, new: np.ndarray) -> None:
        """Two lanes of one store that write different values to one element."""
        if len(index) > 1:
            order = np.argsort(index, kind="stable")
            same = index[order][1:] == index[order][:-1]
            if (same & (new[order][1:] != new[order][:-1])).any():
                self._fault("race", f"writes two values to one element of `{region.name}` in one store")

    def _race(self, region: Region, index: Any, other: Any, verb: str, how: str) -> None:
        who = "another" if other == MANY else str(self._unravel(int(other)))
        self._fault("race", f"{verb} an element of `{region.name}` {how.format(who)} in the same launch, without an "
                            "atomic operation")

    def _unravel(self, linear: int) -> tuple[int, int, int]:
        rest, third = divmod(linear, self._grid[2])
        return (*divmod(rest, self._grid[1]), third)

    def _fault(self, kind: str, what: str) -> None:
        if sum(known == kind for known, _ in self.faults) < MAX_FAULTS:
            line = _kernel_line()
            self.faults.append((kind, f"program {self._index} {what}{f': `{line}`' if line else ''}."))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _kernel_line() -> str:
    """The line of the kernel that is being run."""
    frame = sys._getframe(1)
    own = os.path.dirname(__file__), "<__array_function__"
    while frame is not None:
        name = frame.f_code.co_filename
        if f"{os.sep}triton{os.sep}" not in name and not name.startswith(own):
            return linecache.getline(name, frame.f_lineno).strip()
        frame = frame.f_back
    return ""


class _Memory:
    """In the place of the module `_interpreter`: the same functions, with the watch in front of them."""

    def __init__(self, real: Any, watch: Watch):
        self._real, self._watch = real, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def load(self, pointers: np.ndarray, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        safe = self._watch.read(pointers, mask)
        found = self._real.load(pointers, safe, other, dtype)
        if np.issubdtype(dtype, np.floating):
            found = np.where(np.broadcast_to(mask, pointers.shape) & ~safe, np.array(np.nan, dtype), found)
        return found

    def store(self, pointers: np.ndarray, value: np.ndarray, mask: np.ndarray) -> Any:
        return self._real.store(pointers, value, self._watch.write(pointers, mask, value))

    def atomic_rmw(self, operation: Any, pointers: np.ndarray, value: np.ndarray, mask: np.ndarray, order: Any) -> Any:
        if operation == self._real.RMW_OP.XCHG:
            self._watch.locked(pointers, taken=False)
        safe = self._watch.write(pointers, mask, value, atomic=True)
        return self._real.atomic_rmw(operation, pointers, value, safe, order)

    def atomic_cas(self, pointers: np.ndarray, compare: np.ndarray, value: np.ndarray, order: Any) -> Any:
        safe = self._watch.write(pointers, np.ones(pointers.shape, bool), value, atomic=True)
        if not safe.all():
            raise KernelRefused("an atomic operation on memory of no tensor.")
        found = self._real.atomic_cas(pointers, compare, value, order)
        if (found == compare).all():
            self._watch.locked(pointers, taken=True)
        return found


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """While it lasts, every launch in this process goes through `watch`."""
    from triton.runtime import autotuner, interpreter

    builder, executor = interpreter.interpreter_builder, interpreter.GridExecutor
    call, real, np_dtype = executor.__call__, interpreter._interpreter, interpreter._get_np_dtype
    tune, patch = autotuner.Autotuner.run, interpreter._patch_lang
    patched: dict[Any, Any] = {}

    def patch_once(fn: Any) -> Any:
        # Triton does it anew for every call of a device function, a third of the time of a launch.
        if fn not in patched:
            patched[fn] = patch(fn)
        return patched[fn]

    def launch(self: Any, *args: Any, **kwargs: Any) -> Any:
        patched.clear()  # the launch before has undone it
        return watch.launch(self, call, args, kwargs)

    def set_grid_idx(x: int, y: int, z: int) -> None:
        type(builder).set_grid_idx(builder, *watch.place(x, y, z))

    def refusing(dtype: Any) -> Any:
        if "bf16" in str(dtype):
            raise KernelRefused(NO_BF16)
        return np_dtype(dtype)

    def first_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.configs = self.configs[:1]  # with several it would time them, on a GPU that is not there
        return tune(self, *args, **kwargs)

    executor.__call__, interpreter._patch_lang = launch, patch_once
    autotuner.Autotuner.run = first_config
    builder.set_grid_idx = set_grid_idx
    interpreter._interpreter, interpreter._get_np_dtype = _Memory(real, watch), refusing
    try:
        yield watch
    finally:
        executor.__call__, interpreter._interpreter, interpreter._get_np_dtype = call, real, np_dtype
        autotuner.Autotuner.run, interpreter._patch_lang = tune, patch
        del builder.set_grid_idx
