"""Measurements as lines of a table, and as JSON."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from autograder.one_line import one_line
from autograder.speed.bench import Timed
from autograder.speed.device import Ceilings, Device
from autograder.speed.settle import figures_of

REFERENCE = "(reference)"


def row(timed: Timed) -> str:
    """Who, what and the verdict on one line; a wrong call says what was wrong instead of figures."""
    found, judgement = timed.measurement.figures, timed.measurement.judgement
    head = f"{timed.student or REFERENCE:<14} {timed.check.exercise:<24} {timed.workload.name:<34}"
    if found is None:
        return f"{head} {judgement.verdict:<12} {one_line(judgement.why)}"
    ceiling = "" if found.fraction is None else f"  {found.fraction:5.1%} of the ceiling"
    why = f"  {judgement.why}" if judgement.verdict == "inconclusive" else ""
    pending = "" if timed.counts else "  no thresholds for this device"
    return f"{head} {judgement.verdict:<12} {time_text(found.student_seconds):>9}  {found.ratio:6.2f} x reference " \
           f"[{found.low:.2f}, {found.high:.2f}]{ceiling}{why}{pending}"


def time_text(seconds: float) -> str:
    """Three digits with a fitting unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def as_json(timed: Sequence[Timed], ceilings: Mapping[str, Ceilings | None], device: Device) -> dict[str, Any]:
    """Everything that was measured, the seconds of every call included."""
    return {"schema": 1, "device": device.describe(),
            "ceilings": {unit: asdict(one) for unit, one in ceilings.items() if one is not None},
            "measurements": [_entry(one, device.name) for one in timed]}


def _entry(timed: Timed, device: str) -> dict[str, Any]:
    measurement = timed.measurement
    return {"student": timed.student, "unit": timed.unit, "exercise": timed.check.exercise, "check": timed.check.name,
            **figures_of(timed, device).model_dump(), "why": measurement.judgement.why,
            "share": measurement.judgement.share, "suspect": measurement.judgement.suspect, "counts": timed.counts,
            "bytes": timed.workload.bytes, "flops": timed.workload.flops, "constant": measurement.constant,
            "pairs": [asdict(pair) for pair in measurement.pairs]}
