"""`autograder bench`: time kernels against the reference, settle pending speed points, draw the roofline."""
from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autograder.commands.options import CourseOption, load
from autograder.errors import UsageError

if TYPE_CHECKING:
    from autograder.course import Course
    from autograder.report.model import Report
    from autograder.solution.material import Material
    from autograder.speed.bench import Session, Timed
    from autograder.speed.device import Device
    from autograder.speed.workloads import SpeedCheck
    from autograder.submission.cells import Submission

DEVICES = ("cuda", "cpu")
NO_GPU = ("no GPU: PyTorch sees no CUDA device here. Nothing was changed, speed points stay pending; run the same "
          "command on a machine with one")
PENDING = 1
"""The exit code where something stays pending."""


def bench(
    units: Annotated[list[str] | None, typer.Argument(help="Units; all that have speed checks without any.")] = None,
    submissions: Annotated[list[Path] | None, typer.Option(help="What to time, as for grade; else the reference.")]
    = None,
    results: Annotated[Path | None, typer.Option(help="What grade --out wrote: settle its pending points.")] = None,
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the harness.")] = "cuda",
    plot: Annotated[Path | None, typer.Option(help="The roofline, .svg or .png; default: in the results.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything that was measured to this file.")] = None,
    unsandboxed: Annotated[bool, typer.Option(help="Time though the sandbox does not hold.")] = False,
    course: CourseOption = None,
) -> None:
    """Time kernels and settle pending speed points. Exit 0: nothing is left pending; 1: something is; 2: bad input."""
    if device not in DEVICES:
        raise UsageError(f"--device {device}: expected one of {', '.join(DEVICES)}")
    raise typer.Exit(run_bench(load(course), list(units or []), list(submissions or []), results, device, plot, json,
                               unsandboxed=unsandboxed))


def run_bench(course: Course, units: Sequence[str], paths: Sequence[Path], results: Path | None, kind: str,
              plot: Path | None, json_file: Path | None, *, unsandboxed: bool = False, **measuring: Any) -> int:
    """The exit code: 0, or 1 if points stay pending. `measuring`: rules, clock and cache_bytes, for tests."""
    from autograder.report.store import open_store
    from autograder.speed.device import open_device
    from autograder.submission.reader import read_submissions
    if results is not None and not paths:
        raise UsageError("--results needs --submissions: a report does not hold the code that is to be timed")
    if results is not None and not results.is_dir():
        raise UsageError(f"{results}: no such folder; expected what `autograder grade --out {results}` wrote")
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {plot}: expected a file that ends in .svg or .png")
    chosen = [course.unit(unit) for unit in units] or list(course.units.values())
    device = open_device(kind)
    if device is None:
        print(f"autograder bench: {NO_GPU}")
        return PENDING
    with open_store(results) if results is not None else nullcontext():
        submissions, problems = read_submissions(paths, course, unit=units[0] if len(units) == 1 else None)
        for problem in problems:
            _complain(str(problem))
        run = _Run(course, device, results, measuring, unsandboxed)
        for unit in chosen:
            of_unit = [submission for submission in submissions if submission.unit == unit.id] if paths else None
            run.unit(unit.id, of_unit, named=unit.id in units)
        run.write(plot, json_file)
    return UsageError.exit_code if problems else PENDING if run.left else 0


class _Run:
    """One run of the command: what was measured, and what is left."""

    def __init__(self, course: Course, device: Device, results: Path | None, measuring: dict[str, Any],
                 unsandboxed: bool):
        self._course, self._device, self._results = course, device, results
        self._measuring, self._unsandboxed = measuring, unsandboxed
        self.timed: list[Timed] = []
        self.ceilings: dict[str, Any] = {}
        self.left = 0
        """Speed checks that stay pending."""

    def unit(self, unit: str, submissions: Sequence[Submission] | None, named: bool) -> None:
        """Time the unit's speed checks for its submissions; for the reference alone if there are to be none."""
        from autograder.solution.material import Material
        from autograder.speed.bench import open_session
        from autograder.speed.statistics import Rules
        from autograder.speed.workloads import speed_checks
        material = Material(self._course, self._course.units[unit])
        checks = speed_checks(material.unit)
        if not checks:
            if named:
                print(f"{unit}: no speed checks")
            return
        work = list(self._work(checks, submissions))
        if not any(checks for _, _, checks in work):
            return
        options = {"rules": Rules(), "clock": time.perf_counter, "cache_bytes": None, **self._measuring}
        with open_session(self._device, material, unsandboxed=self._unsandboxed, **options) as session:
            self.ceilings[unit] = session.ceilings
            for submission, report, wanted in work:
                self._one(material, session, submission, report, wanted)

    def _work(self, checks: Sequence[SpeedCheck], submissions: Sequence[Submission] | None,
              ) -> Iterator[tuple[Submission | None, Report | None, list[SpeedCheck]]]:
        """Who is timed, with the report to settle and the checks that wait in it."""
        from autograder.speed.settle import pending_checks
        if submissions is None:
            yield None, None, list(checks)
            return
        for submission in submissions:
            if self._results is None:
                yield submission, None, list(checks)
                continue
            report = self._stored(submission)
            if report is None:
                continue
            waiting = set(pending_checks(report))
            yield submission, report, [check for check in checks if (check.exercise, check.name) in waiting]

    def _stored(self, submission: Submission) -> Report | None:
        from pydantic import ValidationError

        from autograder.report.model import Report
        from autograder.report.store import report_path
        path = report_path(self._results, submission.student, submission.unit)
        try:
            report = Report.from_json(path.read_bytes())
        except FileNotFoundError:
            return self._skip(f"{submission.path}: no report in {self._results}; grade it first")
        except (OSError, ValidationError) as error:
            return self._skip(f"{path}: not a report ({type(error).__name__}); delete it and grade again")
        if report.provenance.get("submission") != submission.digest:
            return self._skip(f"{submission.path}: not the file that {path} is about; grade it again first")
        return report

    def _skip(self, line: str) -> None:
        _complain(line)
        self.left += 1

    def _one(self, material: Material, session: Session, submission: Submission | None, report: Report | None,
             checks: Sequence[SpeedCheck]) -> None:
        from autograder.report.writer import write_views
        from autograder.speed.settle import settle
        from autograder.speed.table import row
        measured: dict[tuple[str, str], list[Timed]] = {}
        for check in checks:
            for timed in session.time(material, check, submission):
                measured.setdefault((check.exercise, check.name), []).append(timed)
                self.timed.append(timed)
                print(row(timed), flush=True)
        if not measured:
            return
        if report is None:
            self.left += sum(any(one.measurement.judgement.verdict == "inconclusive" for one in timed)
                             for timed in measured.values())
            return
        settled = settle(report, measured, self._device.name)
        self.left += len(measured) - settled
        write_views(report, self._results)

    def write(self, plot: Path | None, json_file: Path | None) -> None:
        """The roofline and the file of figures, and a last line."""
        from autograder.files import write_atomically
        from autograder.speed.roofline import draw_roofline
        from autograder.speed.table import as_json
        plot = plot or (self._results / "roofline.svg" if self._results is not None else None)
        if plot is not None and self.timed:
            draw_roofline(self.timed, self.ceilings, self._device.name, plot)
            print(f"roofline: {plot}")
        if json_file is not None:
            found = as_json(self.timed, self.ceilings, self._device)
            write_atomically(json_file, json.dumps(found, indent=2) + "\n", staff_only=True)
        if not self.timed:
            print("nothing to time: no speed check is pending" if self._results is not None
                  else "nothing to time: no speed checks")
        if self.left:
            print(f"left pending: {self.left}")


def _complain(line: str) -> None:
    print(f"autograder: {line}", file=sys.stderr)
