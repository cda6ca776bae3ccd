"""The figures of kernels as Markdown: a line for each workload, and what the targets ask for."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from autograder.speed.table import time_text
from tests.benchmarks.kernel_figures import COMPILED, EAGER, LIBRARY, SELF, Found

BANDWIDTH, SDPA, CLOCK = 0.8, 0.3, 0.03
"""The targets of docs/benchmarks.md."""
LEAST_SECONDS = 1e-3
"""Kernels that the clock's target is about take as long or longer."""
FLASH = "flash_attention_fwd"
NOTHING = "not measured"
_HEAD = "| workload | reference | to itself | copy bandwidth | ceiling | bound by | eager | torch.compile | library |"


def tables(found: Sequence[Found]) -> list[str]:
    """Every workload, then the targets."""
    rows = [_HEAD, "|---|--:|--:|--:|--:|---|--:|--:|--:|", *map(_row, found), ""]
    notes = [f"- {one.exercise}, {one.workload}: {name}: {timed.why}" for one in found
             for name, timed in one.timed.items() if not timed.counts]
    if notes:
        rows += ["Without figures, or with figures that settle nothing:", "", *notes, ""]
    if any(one.direct_seconds for one in found):
        rows += ["| workload | by the harness | by the device's own clock | difference |", "|---|--:|--:|--:|",
                 *(_clock_row(one) for one in found if one.direct_seconds), ""]
    if any(one.verdicts for one in found):
        rows += ["| workload | kernel | grades | verdicts | ratio, smallest to largest | flipped |",
                 "|---|---|--:|---|--:|--:|", *(row for one in found for row in _verdict_rows(one)), ""]
    return rows + targets(found)


def targets(found: Sequence[Found]) -> list[str]:
    """A line for each target: what was found, and over how much of what was asked for."""
    of_memory = [one for one in found if one.bound_by_memory]
    flash = [one for one in found if one.exercise == FLASH]
    long = [one for one in found if one.direct_seconds and (one.seconds(SELF) or 0) >= LEAST_SECONDS]
    grades = {(one.workload, kernel): one.flipped(kernel) for one in found for kernel in one.verdicts}
    return ["| target | asked | found | measured |", "|---|---|--:|--:|",
            _target("memory-bound references: least fraction of the copy bandwidth", f"≥ {BANDWIDTH}", min,
                    [one.bandwidth_fraction if one.counts(SELF) else None for one in of_memory]),
            _target("flash attention: least fraction of `scaled_dot_product_attention`", f"≥ {SDPA}", min,
                    [one.times_reference(LIBRARY) if one.counts(LIBRARY) else None for one in flash]),
            _target("reference against itself: largest distance from 1", "≤ 0.03", max,
                    [abs(one.timed[SELF].ratio - 1) if one.counts(SELF) else None for one in found]),
            _target("harness against the device's own clock, 1 ms and more: largest difference", f"≤ {CLOCK}", max,
                    [abs(one.clock_error) if one.counts(SELF) else None for one in long]),
            f"| grades whose verdict flipped | 0 | {sum(grades.values()) if grades else NOTHING} | "
            f"{len(grades)} kernels |"]


def _target(what: str, asked: str, worst: Callable[[Iterable[float]], float], values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"| {what} | {asked} | {f'{worst(known):.3f}' if known else NOTHING} | {len(known)} of {len(values)} |"


def _row(one: Found) -> str:
    timed = one.timed[SELF]
    if timed.seconds is None:
        return f"| {one.exercise}, {one.workload} | {NOTHING} |  |  |  |  |  |  |  |"
    steady = f"{timed.ratio:.3f} [{timed.low:.3f}, {timed.high:.3f}]"
    others = " | ".join(_times(one.times_reference(name)) for name in (EAGER, COMPILED, LIBRARY))
    bound = "memory" if one.bound_by_memory else "operations"
    return (f"| {one.exercise}, {one.workload} | {time_text(timed.seconds)} | {steady} | "
            f"{one.bandwidth_fraction:.2f} | {timed.fraction:.2f} | {bound} | {others} |")


def _times(value: float | None) -> str:
    return "" if value is None else f"× {value:.2f}"


def _clock_row(one: Found) -> str:
    direct = median(one.direct_seconds)
    return (f"| {one.exercise}, {one.workload} | {time_text(one.seconds(SELF))} | {time_text(direct)} | "
            f"{one.clock_error:+.1%} |")


def _verdict_rows(one: Found) -> Iterable[str]:
    for kernel, grades in one.verdicts.items():
        counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(g.verdict for g in grades).most_common())
        ratios = [grade.ratio for grade in grades if grade.ratio is not None]
        span = f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else ""
        yield (f"| {one.exercise}, {one.workload} | {kernel} | {len(grades)} | {counts} | {span} | "
               f"{one.flipped(kernel)} |")
