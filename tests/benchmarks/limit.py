"""One grading against the limit: what calling the student's functions costs by itself.

`python -m tests.benchmarks.limit`. See docs/benchmarks.md for what is counted on either side.
"""
from __future__ import annotations

import argparse
import cProfile
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import parts
from tests.benchmarks.cpu import process_cpu, spread
from tests.benchmarks.replay import Recorded, Replay, record, wire_seconds

ROOT = Path(__file__).resolve().parents[2]
RIGHT = ROOT / "tests" / "sample_class" / "ada"
WARM_UP = 2
"""Gradings that are not counted: the first of all pay for what is done once."""


@dataclass
class Found:
    """CPU seconds, one value for each round."""

    grading: list[float] = field(default_factory=list)
    grader: list[float] = field(default_factory=list)
    """The part of `grading` in the grader's own process; the rest is the zygote's and the workers'."""
    functions: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    """Of the grader's process, by part."""
    cells: float = 0.0
    """Running the notebook's cells, once for each exercise."""
    answers: float = 0.0
    """Answering the checks' requests in this process: functions, wire and what surrounds them."""
    wire: float = 0.0

    @property
    def ratio(self) -> float:
        return statistics.median(self.grading) / statistics.median(self.functions)


def measure(rounds: int, profile_rounds: int = 2, exercises: Sequence[str] | None = None) -> Found:
    """Gradings in sealed workers and plain passes over the same calls, in turn."""
    import torch

    from autograder.course import load_course
    from autograder.grading.grade import Options, open_zygote, run_unit_checks, worker_limits
    from autograder.grading.reference import ReferenceSubject
    from autograder.grading.subjects import GradedSubmission, sealed_channels
    from autograder.solution.material import Material
    from autograder.submission.reader import read_submissions
    torch.set_num_threads(1)
    course = load_course(ROOT / "course.yml")
    material = Material(course, course.unit("attention"))
    (submission,), _ = read_submissions([RIGHT], course)
    found, profile = Found(), cProfile.Profile(time.process_time)  # waiting for a worker is none of it
    channels = record(material, submission, exercises)
    replay = Replay(channels)
    found.counts = dict(replay.counts)
    with open_zygote(course, Options(unsandboxed=True)) as zygote:
        workers = sealed_channels(zygote, worker_limits(course), course.limits.exercise_seconds)

        def subjects() -> Iterator[Any]:
            reference = ReferenceSubject(material)
            yield reference
            for number in range(WARM_UP + rounds + profile_rounds):
                own, others = _own_cpu(), process_cpu(zygote.pid)
                subject = GradedSubmission(material, submission, workers, reference)
                with parts.profiled(profile) if number >= WARM_UP + rounds else nullcontext():
                    yield subject
                subject.report(zygote.label.name, {})
                if WARM_UP <= number < WARM_UP + rounds:
                    found.grader.append(_own_cpu() - own)
                    found.grading.append(found.grader[-1] + process_cpu(zygote.pid) - others)
                    found.functions.append(replay.run())
                else:
                    replay.run()
        run_unit_checks(material, subjects(), exercises=exercises)
    found.shares = parts.shares(profile)
    _break_down(found, channels)
    return found


def of_the_class(number: int, rounds: int = 5) -> list[float]:
    """CPU seconds of the student's functions alone, for each right one of the first `number` that `peers` grades."""
    import torch

    from autograder.course import load_course
    from autograder.solution.material import Material
    from autograder.submission.reader import read_submissions
    from tests.benchmarks.handed_in import UNIT, handed_in, notebook, write
    torch.set_num_threads(1)
    course = load_course(ROOT / "course.yml")
    material = Material(course, course.unit(UNIT))
    skeleton = material.unit.assignment_path.read_text(encoding="utf-8")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for one in handed_in(course, number):
            if one.kind == "right":
                write(Path(folder) / one.student / UNIT / f"{UNIT}.ipynb", notebook(skeleton, one.cells))
        for submission in read_submissions([Path(folder)], course)[0]:
            replay = Replay(record(material, submission))
            replay.run()
            found.append(statistics.median(replay.run() for _ in range(rounds)))
    return found


def _break_down(found: Found, channels: Sequence[Recorded]) -> None:
    """What the workers do, as far as it can be done in this process."""
    again = [Recorded(channel.program) for channel in channels]
    for fresh, channel in zip(again, channels, strict=True):
        for (kind, payload), _ in channel.log:
            fresh.raw(kind, payload)
    found.cells = sum(channel.load_seconds for channel in again)
    found.answers = sum(channel.seconds for channel in again)
    found.wire = wire_seconds(channels)


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tables(found: Found) -> list[str]:
    """The ratio, and where the rest goes."""
    grading, functions = statistics.median(found.grading), statistics.median(found.functions)
    grader = statistics.median(found.grader)
    counted = ", ".join(f"{number} {what}" for what, number in found.counts.items())
    rows = ["| CPU of a right submission | s | target |", "|---|--:|---|",
            f"| one grading, sealed, warm | {spread(found.grading, 3)} | |",
            f"| the student's functions alone: {counted} | {spread(found.functions, 3)} | |",
            f"| ratio | {found.ratio:.2f} | ≤ 3 |",
            "", "| where a grading's CPU goes | s | share |", "|---|--:|--:|"]

    def row(what: str, seconds: float) -> None:
        rows.append(f"| {what} | {seconds:.3f} | {seconds / grading:.0%} |")
    row("**workers and their zygote**", grading - grader)
    row("the student's functions and their backward", functions)
    row("wire, in the worker", found.wire)
    row("the rest of answering: calls looked up, graphs kept, audits", found.answers - found.wire - functions)
    row("the notebook's cells run, for each exercise", found.cells)
    row("fork, seal, page faults, end; forbidden calls noted", grading - grader - found.answers - found.cells)
    row("**the grader's process**", grader)
    for name, share in found.shares.items():
        row(name, share * grader)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.limit", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, metavar="R", help="gradings and plain passes, in turn")
    parser.add_argument("--exercises", nargs="+", metavar="E", help="these exercises only")
    parser.add_argument("--of-the-class", type=int, metavar="N", help="the student's functions alone, of all right "
                        "submissions among the N that `peers` grades; nothing else is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    given = parser.parse_args(arguments)
    if given.of_the_class:
        alone = of_the_class(given.of_the_class)
        print(f"the student's functions alone, {len(alone)} right submissions: "
              f"{', '.join(f'{seconds:.2f}' for seconds in alone)}; mean {statistics.fmean(alone):.2f} s")
        return
    print("measuring: a grading against the student's functions alone", file=sys.stderr)
    found = measure(given.rounds, exercises=given.exercises)
    if given.json:
        given.json.write_text(json.dumps(asdict(found) | {"ratio": found.ratio}, indent=1) + "\n", encoding="utf-8")
    print("\n".join(tables(found)))


if __name__ == "__main__":
    main()
