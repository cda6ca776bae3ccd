"""nbgrader, otter and this grader, side by side: `python -m tests.benchmarks.peers`. See docs/benchmarks.md."""
from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from autograder.course import load_course
from tests.benchmarks.cpu import Mark, spread
from tests.benchmarks.graders import GRADERS, ROOT, Bench, Graded
from tests.benchmarks.handed_in import KINDS, UNIT, HandedIn, handed_in

Passes = dict[str, list[Graded]]
"""By grader, its passes over the same submissions."""


def measure(names: Sequence[str], submissions: Sequence[HandedIn], repeat: int, folder: Path,
            progress: Callable[[str], None]) -> Passes:
    """Every grader in turn, `repeat` times, so that a busy minute of the machine falls on all of them."""
    bench = Bench(load_course(ROOT / "course.yml"), submissions, folder)
    graders = {name: GRADERS[name](bench) for name in names}
    passes: Passes = {name: [] for name in names}
    for number in range(repeat):
        for name, grader in graders.items():
            progress(f"{grader.name}, {number + 1} of {repeat}")
            passes[name].append(grader.grade())
    return passes


def tables(passes: Passes, submissions: Sequence[HandedIn], points: dict[str, float]) -> list[str]:
    """Two Markdown tables: all submissions together, and each kind by itself."""
    names, size = list(passes), len(submissions)
    number = len(passes[names[0]])
    rows = [_row(f"{size} submissions, {number} pass{'es' * (number > 1)}", [GRADERS[name].name for name in names],
                 [f"{GRADERS[name].name} / ours" for name in names if name != "ours" and "ours" in names])]
    rows.append("|---|" + "--:|" * (rows[0].count("|") - 2))

    none = [""] * len(_ratios({name: [1.0] for name in names}))

    def figures(what: str, of: Callable[[Graded], float], digits: int = 2, compared: bool = True) -> None:
        found = {name: [of(one) for one in passes[name]] for name in names}
        rows.append(_row(what, [spread(found[name], digits) for name in names], _ratios(found) if compared else none))
    rightly = {name: [_rightly(one, submissions, points) for one in passes[name]] for name in names}
    figures("CPU s, all of them with the start-up", lambda one: one.whole.cpu, 1)
    figures("wall s, the same", lambda one: one.whole.wall, 1)
    figures("CPU s of the start-up, once in a run", lambda one: one.start.cpu, 1, compared=False)
    figures("CPU s a submission, the start-up shared", lambda one: one.whole.cpu / size)
    rows.append(_row("rightly graded", [_counts([len(one) for one in rightly[name]], size) for name in names], none))
    figures("CPU s for each that was rightly graded",
            lambda one: one.whole.cpu / max(len(_rightly(one, submissions, points)), 1))
    for kind in [kind for kind in KINDS if any(one.kind == kind for one in submissions)]:
        own = [one.student for one in submissions if one.kind == kind]
        figures(f"CPU s of one more, {kind}", lambda one, own=own: _mean(one, own).cpu)
        figures(f"wall s of one more, {kind}", lambda one, own=own: _mean(one, own).wall)
    rows += ["", _row("rightly graded, by kind", [GRADERS[name].name for name in names]), "|---|" + "--:|" * len(names)]
    for kind in [kind for kind in KINDS if any(one.kind == kind for one in submissions)]:
        own = {one.student for one in submissions if one.kind == kind}
        rows.append(_row(kind, [_verdict(passes[name], rightly[name], own) for name in names]))
    return rows


def _mean(graded: Graded, students: Sequence[str]) -> Mark:
    """What these cost on average; nothing is known of those that the grader did not get to."""
    found = [graded.each[student] for student in students if student in graded.each] or [Mark(math.nan, math.nan)]
    return Mark(statistics.fmean(one.cpu for one in found), statistics.fmean(one.wall for one in found))


def _row(*parts: str | Sequence[str]) -> str:
    cells = [cell for part in parts for cell in ([part] if isinstance(part, str) else part)]
    return f"| {' | '.join(cells)} |"


def _ratios(found: dict[str, list[float]]) -> list[str]:
    if "ours" not in found:
        return []
    ours = statistics.median(found["ours"])
    return [f"{statistics.median(values) / ours:.1f}" if ours else "" for name, values in found.items()
            if name != "ours"]


def _rightly(graded: Graded, submissions: Sequence[HandedIn], points: dict[str, float]) -> set[str]:
    return {one.student for one in submissions if one.is_rightly_graded(graded.scores[one.student], points)}


def _counts(counts: Sequence[int], size: int) -> str:
    shown = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{shown} of {size}"


def _verdict(passes: Sequence[Graded], rightly: Sequence[set[str]], own: set[str]) -> str:
    """How many of these were rightly graded, and for how many there is no result at all."""
    lost = [sum(one.scores[student] is None for student in own) for one in passes]
    text = _counts([len(found & own) for found in rightly], len(own))
    return f"{text}, {max(lost)} without result" if max(lost) else text


def as_json(passes: Passes, submissions: Sequence[HandedIn], points: dict[str, float]) -> str:
    """Everything that was measured."""
    value = {"submissions": [{"student": one.student, "kind": one.kind, "faulty": sorted(one.faulty)}
                             for one in submissions], "points": points,
             "passes": {name: [asdict(one) for one in found] for name, found in passes.items()}}
    return json.dumps(value, indent=1) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument("--submissions", type=int, default=24, metavar="N")
    parser.add_argument("--repeat", type=int, default=5, metavar="R", help="passes of each grader, in turn")
    parser.add_argument("--only", nargs="+", choices=list(GRADERS), default=list(GRADERS), help="these graders")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="these kinds of submissions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    given = parser.parse_args(arguments)
    course = load_course(ROOT / "course.yml")
    points = {name: float(exercise.points) for name, exercise in course.unit(UNIT).exercises.items()}
    submissions = handed_in(course, given.submissions, given.kinds)
    with tempfile.TemporaryDirectory() as folder:
        passes = measure(given.only, submissions, given.repeat, Path(folder).resolve(),
                         lambda what: print(f"measuring: {what}", file=sys.stderr))
    if given.json:
        given.json.write_text(as_json(passes, submissions, points), encoding="utf-8")
    print("\n".join(tables(passes, submissions, points)))


if __name__ == "__main__":
    main()
