"""One block: a fresh process, warm-ups and timed calls, each with fresh inputs, each verified in full.

A call, while the worker is held: poison the outputs, copy the inputs into the next slot but for some lines. Then the
clock starts; the lines are repaired, the worker is let go and asked; it answers; random lines of the outputs are
gathered; the clock stops and the worker is held again. Only then is everything compared: the outputs with the expected
ones, the gathered lines with the outputs, the inputs with their private masters; and when the slot comes round again,
or the block ends, the outputs with what they were.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autograder.errors import AutograderError
from autograder.sandbox.failures import WorkerFailure
from autograder.sandbox.worker import Worker
from autograder.speed.device import Clock, Device
from autograder.speed.memory import LINE, Layout, Shared
from autograder.speed.process import hold, let_go
from autograder.speed.session import Fault
from autograder.speed.statistics import Rules
from autograder.speed.worker import CALL, ERROR, OPEN, WATCHED
from etude import wire
from etude.kernels.workload import Workload

REPAIRED = 256
"""One line in so many of every input becomes right only after the clock has started."""
SAMPLES = 64
"""Lines of every output that are gathered before the clock stops."""
CACHES = 10
"""The slots together hold at least so many times the device's cache."""
LEAST_SLOTS = 3
POISON = 0xFF
"""In every byte: NaN in all floating-point types, -1 in integers."""
COMPILE_SECONDS = 120.0
Spawn = Callable[[int | None, int], Worker]
"""(descriptor of shared memory, its size) -> a fresh worker."""
Program = Sequence[dict[str, str]]


@dataclass
class _Call:
    """A call whose outputs must stay as they were found."""

    number: int
    outputs: list[Tensor]


class Bench:
    """A workload with its buffers, ready to time one program after the other. `close()` gives the memory back."""

    def __init__(self, workload: Workload, device: Device, rules: Rules, spawn: Spawn, call_seconds: float,
                 clock: Clock = time.perf_counter, cache_bytes: int | None = None):
        self._workload, self._device, self._rules, self._spawn = workload, device, rules, spawn
        self._seconds, self._clock = call_seconds, clock
        inputs = self._drawn(0)
        self._inputs = [Layout(tuple(tensor.shape), tensor.dtype) for tensor in inputs]
        self._outputs = [Layout(tuple(shape), dtype) for shape, dtype in workload.outputs]
        layouts = [*self._outputs, *self._inputs]
        of_slot = LINE * sum(layout.lines for layout in layouts)
        cache = device.cache_bytes if cache_bytes is None else cache_bytes
        self.memory: Shared = device.memory(layouts, max(LEAST_SLOTS, -(-CACHES * cache // of_slot)))
        self.masters = [torch.zeros(layout.lines, LINE, dtype=torch.uint8, device=device.torch)
                         for layout in self._inputs]

    @property
    def types(self) -> set[torch.dtype]:
        """The dtypes of inputs and outputs."""
        return {layout.dtype for layout in (*self._inputs, *self._outputs)}

    def close(self) -> None:
        self.memory.close()

    def block(self, program: Program, seeds: Sequence[int], verify: bool = True) -> list[float]:
        """Seconds of the timed calls; the warm-ups come first and differ in nothing. Raises `Fault`.

        `verify` is off for the no-op by which the constant cost is found.
        """
        with self._spawn(self.memory.descriptor, self.memory.size) as worker:
            try:
                self._open(worker, program)
                return self._calls(worker, seeds, verify)
            except WorkerFailure as failure:
                raise Fault(f"the process was stopped: {failure}") from None

    def noted(self, program: Program, seed: int) -> Any:
        """What one call, which is not timed, calls of PyTorch; `program` ends with what notes it."""
        with self._spawn(self.memory.descriptor, self.memory.size) as worker:
            try:
                self._open(worker, program)
                for lines, layout, tensor in zip(self.memory.slots[0][len(self._outputs):], self._inputs,
                                                 self._drawn(seed), strict=True):
                    layout.view(lines).copy_(tensor)
                self._device.synchronize()
                return self._ask(worker, WATCHED, {"slot": 0}, COMPILE_SECONDS)
            except WorkerFailure as failure:
                raise Fault(f"the process was stopped: {failure}") from None

    def _open(self, worker: Worker, program: Program) -> None:
        reply = self._ask(worker, OPEN, {
            "cells": [dict(cell) for cell in program], "call": self._workload.call,
            "layouts": [[list(layout.shape), layout.dtype] for layout in (*self._outputs, *self._inputs)],
            "settings": dict(self._workload.settings), "handles": self.memory.handles(), "size": self.memory.size,
            "cuda": self._device.kind == "cuda"}, COMPILE_SECONDS)
        if not (isinstance(reply, dict) and reply.get("found") is True):
            errors = reply.get("errors") if isinstance(reply, dict) else None
            first = f": {errors[0]}" if isinstance(errors, list) and errors else ""
            raise Fault(f"the notebook defines no {self._workload.call}{first}"[:500])

    def _calls(self, worker: Worker, seeds: Sequence[int], verify: bool) -> list[float]:
        seconds: list[float] = []
        left: list[_Call | None] = [None] * len(self.memory.slots)
        hold(worker)
        for number, seed in enumerate(seeds, 1):
            slot = number % len(left)
            self._check_left(left[slot], slot)
            left[slot] = None
            inputs = self._drawn(seed)
            for layout, master, tensor in zip(self._inputs, self.masters, inputs, strict=True):
                layout.view(master).copy_(tensor)
            taken, found = self._timed(worker, slot, seed, first=number == 1)
            seconds.append(taken)
            if verify:
                self._verify(number, inputs, slot, found)
                left[slot] = _Call(number, found)
        for slot, call in enumerate(left):
            self._check_left(call, slot)
        return seconds[self._rules.warm_ups:]

    def _drawn(self, seed: int) -> tuple[Tensor, ...]:
        generator = torch.Generator(self._device.torch).manual_seed(seed)
        inputs = tuple(tensor.contiguous() for tensor in self._workload.inputs(generator, self._device.torch))
        if seed and [(tuple(t.shape), t.dtype) for t in inputs] != [(one.shape, one.dtype) for one in self._inputs]:
            raise AutograderError(f"workload {self._workload.name}: the inputs of two seeds differ in shape or dtype")
        return inputs

    def _timed(self, worker: Worker, slot: int, seed: int, first: bool) -> tuple[float, list[Tensor]]:
        """(seconds, a copy of the outputs); what was gathered before the clock stopped is the same as in the copy."""
        buffers = self.memory.slots[slot]
        outputs, shared = buffers[:len(self._outputs)], buffers[len(self._outputs):]
        chance = torch.Generator(self._device.torch).manual_seed(seed ^ 0x5EED)
        repairs = [self._some_lines(len(lines), -(-len(lines) // REPAIRED), chance) for lines in shared]
        samples = [self._some_lines(len(lines), SAMPLES, chance) for lines in outputs]
        for lines in outputs:
            lines.fill_(POISON)
        for lines, master, places in zip(shared, self.masters, repairs, strict=True):
            lines.copy_(master)
            lines.index_fill_(0, places, POISON)
        late = [master[places] for master, places in zip(self.masters, repairs, strict=True)]
        request = {"slot": slot}
        self._device.synchronize()

        started = self._clock()
        for lines, places, right in zip(shared, repairs, late, strict=True):
            lines.index_copy_(0, places, right)
        self._device.synchronize()
        let_go(worker)
        self._ask(worker, CALL, request, COMPILE_SECONDS if first else self._seconds)
        gathered = [lines.index_select(0, places) for lines, places in zip(outputs, samples, strict=True)]
        self._device.synchronize()
        taken = self._clock() - started

        hold(worker)
        found = [lines.clone() for lines in outputs]
        self._device.synchronize()
        for lines, places, at_once in zip(found, samples, gathered, strict=True):
            if not torch.equal(lines.index_select(0, places), at_once):
                raise Fault("the output was still being written after the call had returned")
        return taken, found

    def _some_lines(self, count: int, wanted: int, chance: torch.Generator) -> Tensor:
        return torch.randint(count, (min(count, wanted),), generator=chance, device=self._device.torch)

    def _verify(self, number: int, inputs: Sequence[Tensor], slot: int, found: Sequence[Tensor]) -> None:
        shared = self.memory.slots[slot][len(self._outputs):]
        for index, (lines, master) in enumerate(zip(shared, self.masters, strict=True)):
            if not torch.equal(lines, master):
                raise Fault(f"call {number} wrote to its input number {index + 1}, or past the end of another tensor")
        expected = self._workload.expected(*inputs, **self._workload.settings)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for index, (layout, lines, right) in enumerate(zip(self._outputs, found, expected, strict=True)):
            complaint = difference(layout.view(lines), right, self._workload.tolerance)
            if complaint:
                name = f"output {index + 1}" if len(expected) > 1 else "the output"
                raise Fault(f"{name} of call {number} is wrong: {complaint}")

    def _check_left(self, call: _Call | None, slot: int) -> None:
        """The outputs of the slot's last call must be what they were when it was verified."""
        for lines, was in zip(self.memory.slots[slot], call.outputs if call else (), strict=False):
            if not torch.equal(lines, was):
                raise Fault(f"the output of call {call.number} was changed after the call")

    def _ask(self, worker: Worker, kind: int, request: dict[str, Any], seconds: float) -> Any:
        status, payload = worker.request(kind, wire.encode(request), seconds)
        try:
            reply = wire.decode(payload)
        except wire.WireError as error:
            raise Fault(f"the process sent what is no answer: {error}") from None
        if status == ERROR:
            told = [reply.get(key) if isinstance(reply, dict) else "" for key in ("type", "message", "place")]
            kind_, message, place = (str(value or "")[:500] for value in told)
            raise Fault(f"{self._workload.call} raised {kind_}: {message}{f' ({place})' if place else ''}")
        return reply


def difference(got: Tensor, expected: Tensor, tolerance: float) -> str:
    """How an output differs from the expected one, or nothing. NaN where none is expected is always a difference."""
    if expected.shape != got.shape:
        raise AutograderError(f"expected() gives {tuple(expected.shape)} for an output of {tuple(got.shape)}")
    got, expected = got.double(), expected.double()
    unequal = got != expected
    if not bool(unequal.any()):
        return ""
    known = expected[torch.isfinite(expected)].abs()
    scale = float(known.max()) if known.numel() else 0.0
    error = torch.where(unequal, (got - expected).abs(), 0.0).nan_to_num(nan=float("inf"), posinf=float("inf"))
    worst = float(error.max())
    if worst <= tolerance * scale:
        return ""
    share = float((error > tolerance * scale).double().mean())
    missing = float(got.isnan().double().mean())
    nan = f", {missing:.1%} of it are NaN, as before the call" if missing else ""
    return f"off by {worst / scale if scale else worst:.2g} of its largest value (allowed {tolerance:.2g}), " \
           f"in {share:.1%} of it{nan}"
