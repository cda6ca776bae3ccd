"""What is measured of one workload of a kernel exercise, all of it by `autograder bench`'s own session and clock."""
from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from autograder.course import SpeedThresholds
from autograder.solution.material import Material
from autograder.speed.bench import LARGEST_ON_CPU, NO_THRESHOLDS, Session
from autograder.speed.device import CPU, Clock, Device
from autograder.speed.memory import Layout
from autograder.speed.session import Measurement
from autograder.speed.timing import Program
from autograder.speed.workloads import SpeedCheck
from etude.kernels.workload import Workload
from tests.benchmarks import kernel_baselines as baselines

BASELINES, CLOCK, VERDICTS = PARTS = "baselines", "clock", "verdicts"
SELF, EAGER, COMPILED, LIBRARY, COPY = "reference", "eager", "torch.compile", "library", "copy"
NEAR = "near"
_PADDING = {CPU: 8 << 20}
_LARGEST_PADDING = 512 << 20
"""Bytes of each of the two buffers by whose copies a kernel is made slower."""


@dataclass(frozen=True)
class Timed:
    """A program at one workload, in the same pairs of blocks as the reference."""

    why: str
    """The judgement's words, or why there are no figures."""
    seconds: float | None = None
    reference_seconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    fraction: float | None = None
    verdict: str = ""

    @property
    def counts(self) -> bool:
        """Whether there are figures, and of a steady machine."""
        return self.seconds is not None and self.verdict != "inconclusive"


@dataclass
class Found:
    """The figures of one workload; empty where a part was not asked for."""

    unit: str
    exercise: str
    workload: str
    bytes_seconds: float
    """What the workload's bytes take at the measured rate of a copy."""
    roof_seconds: float
    """The same with its operations: the larger of both."""
    timed: dict[str, Timed] = field(default_factory=dict)
    direct_seconds: list[float] = field(default_factory=list)
    """The reference's calls by the device's own clock: CUDA events."""
    verdicts: dict[str, list[Timed]] = field(default_factory=dict)
    """Grade after grade, of the reference (`reference`) and of a kernel near the threshold (`near`)."""

    @property
    def bound_by_memory(self) -> bool:
        return self.bytes_seconds >= self.roof_seconds

    @property
    def bandwidth_fraction(self) -> float | None:
        """The reference's share of the measured copy bandwidth."""
        seconds = self.seconds(SELF)
        return None if seconds is None else self.bytes_seconds / seconds

    @property
    def clock_error(self) -> float | None:
        """How much longer a call takes by the harness than by the device's own clock."""
        seconds = self.seconds(SELF)
        return None if seconds is None or not self.direct_seconds \
            else seconds / statistics.median(self.direct_seconds) - 1

    def seconds(self, name: str) -> float | None:
        """A program's time, without the copy into the destinations where it makes one."""
        one = self.timed.get(name)
        if one is None or one.seconds is None:
            return None
        copy = self.timed.get(COPY)
        taken = copy.seconds if copy and copy.seconds and name in (EAGER, LIBRARY) else 0.0
        return one.seconds - taken

    def times_reference(self, name: str) -> float | None:
        """A program's time over the reference's in the same blocks."""
        one, seconds = self.timed.get(name), self.seconds(name)
        return None if seconds is None else seconds / one.reference_seconds

    def counts(self, *names: str) -> bool:
        """Whether the figures of all these programs can settle anything."""
        return all(name in self.timed and self.timed[name].counts for name in names)

    def flipped(self, kernel: str) -> int:
        """Grades whose verdict is not the most frequent one."""
        counts = Counter(one.verdict for one in self.verdicts.get(kernel, ()))
        return counts.total() - max(counts.values(), default=0)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "bandwidth_fraction": self.bandwidth_fraction, "clock_error": self.clock_error,
                "flipped": {kernel: self.flipped(kernel) for kernel in self.verdicts}}


def timed(measurement: Measurement) -> Timed:
    found, judgement = measurement.figures, measurement.judgement
    if found is None:
        return Timed(judgement.why, verdict=judgement.verdict)
    return Timed(judgement.why, found.student_seconds, found.reference_seconds, found.ratio, found.low, found.high,
                 found.spread, found.fraction, judgement.verdict)


@dataclass(frozen=True)
class Measuring:
    """One unit's session and what is wanted of it."""

    session: Session
    material: Material
    parts: Sequence[str]
    regrades: int
    near: float
    """The slow kernel's time over what still gives all points."""
    says: Callable[[str], None]

    def found(self, check: SpeedCheck) -> Iterator[Found]:
        """The figures of every workload of a check; verdicts of the first only, as they take hours."""
        for number, workload in enumerate(check.workloads):
            inputs = workload.inputs(torch.Generator(self.session.device.torch).manual_seed(1),
                                     self.session.device.torch) if self._fits(workload) else ()
            types = {tensor.dtype for tensor in inputs} | {dtype for _, dtype in workload.outputs}
            del inputs
            _give_back(self.session.device)
            ceilings = self.session.ceilings
            found = Found(self.material.unit.id, check.exercise, workload.name,
                          workload.bytes / ceilings.bytes_per_second, ceilings.seconds(workload, types))
            found.timed[SELF] = self._time(workload, SELF, self.material.reference_program)
            if BASELINES in self.parts:
                self._against_baselines(found, workload)
            if CLOCK in self.parts and found.timed[SELF].seconds is not None:
                self.says(f"{workload.name}: by the device's own clock")
                found.direct_seconds = direct_seconds(self.session.device, self.material, workload,
                                                      self.session.rules.warm_ups, self.session.rules.calls,
                                                      self.session.clock)
            if VERDICTS in self.parts and number == 0 and found.timed[SELF].seconds is not None:
                self._again_and_again(found, check, workload)
            yield found

    def _fits(self, workload: Workload) -> bool:
        return self.session.device.kind != CPU or workload.bytes <= LARGEST_ON_CPU

    def _time(self, workload: Workload, name: str, program: Program, thresholds: SpeedThresholds = NO_THRESHOLDS,
              reference: Program | None = None) -> Timed:
        self.says(f"{workload.name}: {name}")
        programs = {"reference": reference or self.material.reference_program, "student": program}
        return timed(self.session.measure(workload, programs, thresholds))

    def _against_baselines(self, found: Found, workload: Workload) -> None:
        baseline, checks = baselines.BASELINES.get(workload.call), self.material.unit.checks_path
        if baseline is None:
            found.timed[EAGER] = Timed(f"no baseline for {workload.call}: add it to BASELINES in kernel_baselines.py")
            return
        found.timed[EAGER] = self._time(workload, EAGER, baselines.eager(baseline, workload, checks))
        found.timed[COMPILED] = self._time(workload, COMPILED, baselines.compiled(baseline, workload, checks))
        found.timed[COPY] = self._copy(workload)
        if baseline.library:
            found.timed[LIBRARY] = self._library(workload, baseline)

    def _copy(self, workload: Workload) -> Timed:
        def zeros(*inputs: torch.Tensor, **_: Any) -> tuple[torch.Tensor, ...]:
            return tuple(torch.zeros(shape, dtype=dtype, device=inputs[0].device) for shape, dtype in workload.outputs)
        program, moved = baselines.copying(workload), 2 * sum(Layout(*output).bytes for output in workload.outputs)
        return self._time(replace(workload, expected=zeros, bytes=moved, flops=0), COPY, program, reference=program)

    def _library(self, workload: Workload, baseline: baselines.Baseline) -> Timed:
        """PyTorch's function against the reference, both with the outputs that the former has."""
        count = baseline.library_outputs
        if count == len(workload.outputs):
            return self._time(workload, LIBRARY, baselines.library(baseline, workload))

        def first(*inputs: torch.Tensor, **settings: Any) -> tuple[torch.Tensor, ...]:
            return tuple(workload.expected(*inputs, **settings))[:count]
        fewer = replace(workload, call="first_outputs", outputs=workload.outputs[:count], expected=first)
        reference = baselines.with_first_outputs(self.material.reference_program, workload, count, fewer.call)
        return self._time(fewer, LIBRARY, baselines.library(baseline, fewer), reference=reference)

    def _again_and_again(self, found: Found, check: SpeedCheck, workload: Workload) -> None:
        speed = self.material.unit.exercises[check.exercise].speed
        name = self.session.device.class_among(speed)
        thresholds = speed[name] if name else NO_THRESHOLDS
        reference = self.material.reference_program
        slow = self._near(found.timed[SELF].seconds, workload, thresholds.full * self.near)
        for kernel, program in ((SELF, reference), (NEAR, slow)):
            found.verdicts[kernel] = [self._time(workload, f"{kernel}, grade {number + 1} of {self.regrades}", program,
                                                 thresholds) for number in range(self.regrades)]

    def _near(self, seconds: float, workload: Workload, wanted: float) -> Program:
        """The reference with copies behind it, so that it takes `wanted` times as long; measured once and adjusted."""
        rate = self.session.ceilings.bytes_per_second
        extra = (wanted - 1) * seconds * rate / 2
        program = self._padded(workload, extra)
        first = self._time(workload, f"{NEAR}, to find how many copies make it {wanted:.2f} times as slow", program)
        if first.ratio is not None and first.ratio > 1:
            program = self._padded(workload, extra * (wanted - 1) / (first.ratio - 1))
        return program

    def _padded(self, workload: Workload, extra: float) -> Program:
        size = max(1, min(int(extra), _PADDING.get(self.session.device.kind, _LARGEST_PADDING)))
        repeats = max(1, round(extra / size))
        return baselines.padded(self.material.reference_program, workload, max(1, int(extra / repeats)), repeats)


def direct_seconds(device: Device, material: Material, workload: Workload, warm_ups: int, calls: int,
                   clock: Clock = time.perf_counter) -> list[float]:
    """The reference's calls in this process, by CUDA events on a GPU and by `clock` on a CPU."""
    taken = _calls(device, material, workload, warm_ups + calls, clock)
    _give_back(device)
    return taken[warm_ups:]


def _calls(device: Device, material: Material, workload: Workload, count: int, clock: Clock) -> list[float]:
    inputs = workload.inputs(torch.Generator(device.torch).manual_seed(1), device.torch)
    outputs = [torch.empty(shape, dtype=dtype, device=device.torch) for shape, dtype in workload.outputs]
    function = getattr(material.reference, workload.call)
    call = partial(function, *outputs, *inputs, **workload.settings)
    return [_stopped(device, call, clock) for _ in range(count)]


def _give_back(device: Device) -> None:
    """The memory that PyTorch keeps for later: buffers and other processes need it more."""
    if device.kind != CPU:
        torch.cuda.empty_cache()


def _stopped(device: Device, call: Callable[[], None], clock: Clock) -> float:
    device.synchronize()
    if device.kind == CPU:
        started = clock()
        call()
        return clock() - started
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    device.synchronize()
    return start.elapsed_time(end) / 1000
