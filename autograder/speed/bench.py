"""Bring a submission, the reference and a device together: each speed check's workloads, timed and judged."""
from __future__ import annotations

import gc
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from autograder.course import SpeedThresholds
from autograder.errors import AutograderError
from autograder.grading.evidence import forbidden_calls, with_log
from autograder.grading.grade import Options, open_zygote
from autograder.sandbox.limits import MB, Limits
from autograder.solution.material import Material
from autograder.speed.device import CPU, Ceilings, Clock, Device
from autograder.speed.process import open_worker
from autograder.speed.session import Fault, Measurement, Role, time_kernel
from autograder.speed.statistics import Judgement, Rules
from autograder.speed.timing import COMPILE_SECONDS, Bench, Program, Spawn
from autograder.speed.workloads import SpeedCheck
from autograder.submission.cells import Submission
from autograder.submission.program import program_for
from etude.kernels.workload import Workload

SERVE = "autograder.speed.worker:serve"
LARGEST_ON_CPU = 64 << 20
"""Bytes of work; what is meant for a GPU would fill this machine's memory, and take an interpreter for ever."""
NO_THRESHOLDS = SpeedThresholds(full=1.2, zero=10.0, ceiling=1.0)
"""What figures are judged by where course.yml has none; then nothing is settled."""


@dataclass(frozen=True)
class Timed:
    """One workload of one check, for one submission."""

    student: str
    """Empty: the reference was timed against itself."""
    unit: str
    check: SpeedCheck
    workload: Workload
    measurement: Measurement
    counts: bool
    """Whether course.yml has thresholds for this device: without them points stay pending."""


@dataclass(frozen=True)
class Session:
    """What all measurements of one run share."""

    device: Device
    ceilings: Ceilings | None
    spawn: Spawn
    rules: Rules
    call_seconds: float
    clock: Clock
    cache_bytes: int | None = None
    """Instead of the device's own; tests have small working sets."""

    def time(self, material: Material, check: SpeedCheck, submission: Submission | None) -> Iterator[Timed]:
        """Every workload of a check. Without a submission the reference is timed against itself."""
        exercise = material.unit.exercises[check.exercise]
        programs: dict[Role, Program] = {"reference": material.reference_program}
        programs["student"] = programs["reference"] if submission is None else \
            program_for(submission, check.exercise, material.setup, material.given)
        name = self.device.class_among(exercise.speed)
        thresholds = exercise.speed[name] if name else NO_THRESHOLDS
        for workload in check.workloads:
            measurement = self.measure(workload, programs, thresholds, exercise.forbid if submission else ())
            yield Timed(submission.student if submission else "", material.unit.id, check, workload, measurement,
                        name is not None)

    def measure(self, workload: Workload, programs: Mapping[Role, Program], thresholds: SpeedThresholds,
                forbidden: Sequence[str] = ()) -> Measurement:
        """One workload for two programs. Raises `AutograderError` for a fault of the reference."""
        if self.device.kind == CPU and workload.bytes > LARGEST_ON_CPU:
            return Measurement(Judgement("inconclusive", 0.0, "too large for a CPU; a GPU is needed"))
        seeds = [[1 + secrets.randbits(48) for _ in range(self.rules.warm_ups + self.rules.calls)]
                 for _ in range(self.rules.most_pairs)]
        noop = [{"label": "no-op", "source": f"def {workload.call}(*args, **settings): pass", "mode": "all"}]
        bench = Bench(workload, self.device, self.rules, self.spawn, self.call_seconds, self.clock, self.cache_bytes)

        def block(role: Role, pair: int) -> Sequence[float]:
            try:
                with quiet():
                    return bench.block(noop if role == "noop" else programs[role], seeds[pair], role != "noop")
            except Fault as fault:
                if role == "student":
                    raise
                raise AutograderError(f"{workload.name}: the reference itself: {fault}") from None
        try:
            if forbidden:
                fallen = _fallen_back(bench, programs["student"], seeds[0][0], forbidden)
                if fallen:
                    return Measurement(Judgement("fail", 0.0, fallen))
            roof = self.ceilings.seconds(workload, bench.types) if self.ceilings else None
            return time_kernel(block, thresholds, roof, self.rules)
        finally:
            bench.close()


def _fallen_back(bench: Bench, program: Program, seed: int, forbidden: Sequence[str]) -> str:
    """Which forbidden function a call uses instead of a kernel of its own; empty if none was seen."""
    try:
        found = forbidden_calls(bench.noted(with_log(program), seed), forbidden)
    except Fault as fault:
        return str(fault)
    return f"speed points are for a kernel of one's own: {found[0]}" if found else ""


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection of ours while the clock runs."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def open_session(device: Device, material: Material, rules: Rules, clock: Clock,
                 cache_bytes: int | None = None, unsandboxed: bool = False) -> Iterator[Session]:
    """A session for one unit: ceilings measured, processes ready to be made.

    On a CPU student code runs sealed; with a GPU open it cannot be.
    """
    ceilings = device.ceilings(clock)
    limits = material.course.limits

    def session(spawn: Spawn) -> Session:
        return Session(device, ceilings, spawn, rules, limits.call_seconds, clock, cache_bytes)

    def of_size(size: int) -> Limits:
        calls = (rules.warm_ups + rules.calls) * limits.call_seconds
        return Limits(memory_mb=limits.memory_mb + size // MB + 1, call_seconds=limits.call_seconds,
                      cpu_seconds=int(COMPILE_SECONDS + calls), max_reply_bytes=1 * MB)
    if device.kind != CPU:
        yield session(lambda memory, size: open_worker(of_size(size), memory))
        return
    options = Options(unsandboxed=unsandboxed)
    with open_zygote(material.course, options, kernels=material.unit.triton, serve=SERVE) as zygote:
        yield session(lambda memory, size: zygote.spawn(of_size(size), memory=memory))
