"""The roofline: what each kernel reaches, under what the device was seen to do in the same session."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autograder.speed.bench import Timed
from autograder.speed.device import Ceilings

_MARKS = "osD^vPX*"
_COLOURS = ("#0b62a4", "#b5530b", "#2b7a2b", "#8a3ea0", "#a0282d", "#4a4a4a")
_NO_FLOPS = 0.01
"""FLOPs per byte at which a kernel that only moves data is drawn."""


def draw_roofline(timed: Sequence[Timed], ceilings: Mapping[str, Ceilings | None], device: str, path: Path) -> None:
    """Write the picture: FLOPs per byte against FLOP/s, the reference hollow and submissions filled.

    `path` ends in .svg or .png. What has no figures, because a call was wrong, is left out.
    """
    shown = [one for one in timed if one.measurement.figures is not None]
    fig = Figure(figsize=(9, 6), layout="constrained")
    ax = fig.subplots()
    places = [_intensity(one) for one in shown] or [1.0]
    span = np.geomspace(min(*places, 0.1) / 2, max(*places, 10.0) * 2, 200)
    known = [one for one in ceilings.values() if one is not None]
    if known:
        _draw_roof(ax, span, known)
    for index, ((exercise, workload), ones) in enumerate(_grouped(shown).items()):
        colour, mark = _COLOURS[index % len(_COLOURS)], _MARKS[index % len(_MARKS)]
        figures = [one.measurement.figures for one in ones]
        work, place = _work(ones[0]), _intensity(ones[0])
        students = [work / found.student_seconds for one, found in zip(ones, figures, strict=True) if one.student]
        ax.plot([place] * len(students), students, mark, color=colour, markersize=7, alpha=0.8, linestyle="none")
        ax.plot([place], [work / np.median([found.reference_seconds for found in figures])], mark, color=colour,
                markerfacecolor="white", markersize=11, markeredgewidth=1.8, zorder=1, linestyle="none",
                label=f"{exercise}, {workload}")
    ax.set(xscale="log", yscale="log", xlabel="FLOPs for each byte that has to be moved", ylabel="FLOP/s",
           title=f"Roofline, {device}: references hollow, submissions filled")
    ax.grid(True, which="major", color="#dddddd", linewidth=0.6)
    if shown:
        fig.legend(fontsize=8, loc="outside lower center", ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130)


def _draw_roof(ax: Axes, span: np.ndarray, ceilings: Sequence[Ceilings]) -> None:
    bandwidth = max(one.bytes_per_second for one in ceilings)
    peaks: dict[str, float] = {}
    for one in ceilings:
        for name, rate in one.flops_per_second.items():
            peaks[name] = max(rate, peaks.get(name, 0.0))
    top = max(peaks.values(), default=float("inf"))
    ax.plot(span, np.minimum(span * bandwidth, top), color="#222222", linewidth=1.5)
    ax.annotate(f"copy: {bandwidth / 1e9:,.0f} GB/s", (span[4], span[4] * bandwidth), fontsize=8, rotation=0,
                textcoords="offset points", xytext=(6, -12))
    for name, rate in peaks.items():
        ax.axhline(rate, color="#222222", linewidth=0.8, linestyle="--")
        ax.annotate(f"matmul, {name.removeprefix('torch.')}: {rate / 1e9:,.0f} GFLOP/s", (span[4], rate), fontsize=8,
                    textcoords="offset points", xytext=(4, 4))


def _grouped(timed: Sequence[Timed]) -> dict[tuple[str, str], list[Timed]]:
    found: dict[tuple[str, str], list[Timed]] = {}
    for one in timed:
        found.setdefault((one.check.exercise, one.workload.name), []).append(one)
    return found


def _work(timed: Timed) -> float:
    """FLOPs; for a kernel that only moves data as many as its place on the axis stands for."""
    return timed.workload.flops or _NO_FLOPS * timed.workload.bytes


def _intensity(timed: Timed) -> float:
    return _work(timed) / timed.workload.bytes
