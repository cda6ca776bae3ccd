"""The side that hands out: chunks of submissions go to the cluster's workers, reports come back and are kept at once.

A few chunks for each worker are under way at a time. What a worker had in hand when it was lost is graded by another;
the scheduler gives up on a chunk over which several were lost, and its submissions are then graded one by one with
nothing else under way, so that only the one that is to blame is set aside.
"""
from __future__ import annotations

import gc
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Any

from autograder.cluster.connect import connected
from autograder.cluster.order import Order, difference, fingerprint
from autograder.cluster.worker import fingerprint_of, grade_chunk, retire
from autograder.course import Course
from autograder.errors import AutograderError, UsageError
from autograder.grading.grade import SEED_VARIABLE, Options, depends_on
from autograder.report.model import Report
from autograder.solution.material import Material
from autograder.submission.cells import Submission

CHUNK = 8
"""Submissions that are graded in one go, at most: so many are graded again when a worker is lost."""
AHEAD = 2
"""Chunks that wait at the scheduler for each thread of the workers."""
ALONE_SECONDS = 300.0
"""How long to wait for a new worker when all are lost."""
_POLL = 2.0


Resources = Mapping[str, Mapping[str, float]]
"""By unit, what a worker must offer to get its submissions: `{"kernels": {"GPU": 1}}`."""


def grade_on_cluster(cluster: str, course: Course, submissions: Sequence[Submission], done: Callable[[Report], None],
                     options: Options, resources: Resources | None = None) -> list[str]:
    """`grade` on the workers of a cluster, an address or `slurm`; reports come in the order in which they are ready."""
    gc.enable()  # whoever paused it waited for checks to be ready, and here are none
    ordered = sorted(submissions, key=lambda submission: list(course.units).index(submission.unit))
    with connected(cluster, options.jobs) as client:
        run = _Run(client, course, sorted({one.unit for one in ordered}), done, options, resources or {})
        run.check_workers()
        return run.work(ordered)


class _Run:
    """One class on one cluster."""

    def __init__(self, client: Any, course: Course, units: list[str], done: Callable[[Report], None],
                 options: Options, resources: Resources):
        self._client, self._units, self._done, self._resources = client, units, done, resources
        self._order = Order(secrets.token_hex(8), str(course.root / "course.yml"), os.environ.get(SEED_VARIABLE),
                            options.unsandboxed, options.exercises, ())
        self._ours = fingerprint(course, units)
        self._decisive = {unit: depends_on(Material(course, course.unit(unit))) for unit in units}
        self._under_way: dict[Any, tuple[Submission, ...]] = {}
        self._suspects: list[Submission] = []
        self._failed: list[str] = []
        self._left_alone: float | None = None

    def check_workers(self) -> None:
        """Raise `UsageError` if a worker has other material, or if none offers what a unit needs."""
        try:
            found = self._client.run(fingerprint_of, self._order.course_path, self._units, on_error="return")
        except Exception as error:  # what cannot be unpickled there
            raise UsageError(f"the cluster's workers cannot grade: {_brief(error)}") from None
        for address, theirs in sorted(found.items()):
            theirs = f"{type(theirs).__name__}: {theirs}" if isinstance(theirs, BaseException) else theirs
            if what := difference(self._ours, theirs):
                raise UsageError(f"worker {address}: {what}")
        offered = [worker.get("resources") or {} for worker in self._workers().values()]
        for unit in self._units:
            needed = self._resources.get(unit, {})
            if not any(all(has.get(name, 0) >= amount for name, amount in needed.items()) for has in offered):
                raise UsageError(f"unit {unit} needs {dict(needed)}, which no worker offers; start one with "
                                 f"`dask worker ADDRESS --resources \"{_resources(needed)}\"`")

    def work(self, submissions: Sequence[Submission]) -> list[str]:
        """Until every submission has its report or a line about why not; these lines."""
        try:
            waiting = deque(self._chunks(submissions))
            while waiting or self._under_way:
                while waiting and len(self._under_way) < AHEAD * max(1, self._threads()):
                    self._submit(waiting.popleft())
                self._hear()
            suspects, self._suspects = self._suspects, []
            for one in suspects:
                self._submit((one,))
                while self._under_way:
                    self._hear(alone=True)
        finally:
            with suppress(Exception):  # whatever ended the run is what has to be told
                self._client.cancel(list(self._under_way))
                self._client.run(retire, self._order.run, on_error="ignore")
        return self._failed

    def _chunks(self, submissions: Sequence[Submission]) -> Iterator[tuple[Submission, ...]]:
        """Of one unit each, and several for each thread, so that the last ones end together."""
        size = max(1, min(CHUNK, len(submissions) // (4 * max(1, self._threads()))))
        for _, group in groupby(submissions, key=lambda submission: submission.unit):
            some = list(group)
            for start in range(0, len(some), size):
                yield tuple(some[start:start + size])

    def _submit(self, chunk: tuple[Submission, ...]) -> None:
        resources = dict(self._resources.get(chunk[0].unit, {})) or None
        future = self._client.submit(grade_chunk, replace(self._order, submissions=chunk), pure=False,
                                     resources=resources)
        self._under_way[future] = chunk

    def _hear(self, alone: bool = False) -> None:
        """Wait a moment for whatever is ready, and take it in."""
        from distributed import CancelledError, wait
        try:
            ready = wait(list(self._under_way), timeout=_POLL, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            self._still_there()
            return
        except CancelledError:
            raise ConnectionError("the cluster's scheduler is gone") from None
        self._left_alone = None
        for future in ready:
            self._take(self._under_way.pop(future), future, alone)

    def _take(self, chunk: tuple[Submission, ...], future: Any, alone: bool) -> None:
        from distributed import KilledWorker
        error = future.exception()
        if error is None:
            reports, failed = future.result()
            for report in reports:
                self._check(report)
                self._done(report)
            self._failed += failed
        elif isinstance(error, KilledWorker) and not alone:
            self._suspects += chunk
        elif isinstance(error, KilledWorker):
            self._failed.append(f"{chunk[0].path}: not graded: every worker of the cluster that graded it was lost "
                                "(killed, or its machine); what its log says last may tell why")
        elif isinstance(error, AutograderError):
            raise error
        else:
            raise AutograderError(f"a worker of the cluster failed: {_brief(error)}")

    def _check(self, report: Report) -> None:
        """Workers that came late have passed no check; what they graded with stands in the report."""
        for name, expected in self._decisive[report.unit].items():
            if report.provenance.get(name) != expected:
                raise UsageError(f"a worker of the cluster graded {report.unit} with other {name} than here; give all "
                                 "workers the same course and code")

    def _still_there(self) -> None:
        """Raise `ConnectionError` if there has long been nobody who could grade."""
        if self._client.status != "running":
            raise ConnectionError("the cluster's scheduler is gone")
        if self._workers():
            self._left_alone = None
            return
        self._left_alone = self._left_alone or time.monotonic()
        if time.monotonic() - self._left_alone > ALONE_SECONDS:
            raise ConnectionError(f"the cluster has had no worker for {ALONE_SECONDS:.0f} s")

    def _workers(self) -> dict[str, Any]:
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def _threads(self) -> int:
        return sum(worker["nthreads"] for worker in self._workers().values())


def _resources(needed: Any) -> str:
    return " ".join(f"{name}={amount:g}" for name, amount in needed.items())


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
