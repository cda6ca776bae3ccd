"""What runs in a dask worker: it hands submissions to a grading process of its own, which it keeps warm.

The dask worker never grades itself: a grading process is the same as with `--jobs`, with a zygote and sealed workers
below it. So neither student code nor the seed gets into the process that talks to the network.
"""
from __future__ import annotations

import os
import subprocess
import sys
import threading
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

from autograder.cluster.order import Order, course_here, fingerprint_here
from autograder.errors import AutograderError
from autograder.grading.parallel import Crew, Member
from autograder.report.model import Report

IDLE_SECONDS = 300.0
"""After so long without an order, grading processes end: whoever sent the last may be gone without a word."""
_SEED = "ETUDE_SEED"
_START = "import sys; from autograder.cluster.worker import main; main(int(sys.argv[1]))"


def grade_chunk(order: Order) -> tuple[list[Report], list[str]]:
    """The reports of the order's submissions, and the lines about those on which the grader failed."""
    return _POOL.grade(order)


def fingerprint_of(course_path: str, units: list[str]) -> Any:
    """What this worker grades with; a line of text if it cannot."""
    return fingerprint_here(course_path, units)


def retire(run: str) -> None:
    """End the grading processes that last worked for this run; what they have in hand fails."""
    _POOL.stop(run)


class WarmCrew(Crew):
    """One grading process, started by exec: a dask worker under a nanny may have no children by multiprocessing."""

    def __init__(self, order: Order):
        self.how, self.run, self.stopped = order.how, order.run, False
        path = course_here(order.course_path)
        options = SimpleNamespace(jobs=1, exercises=order.exercises, unsandboxed=order.unsandboxed)
        super().__init__(SimpleNamespace(root=path.resolve().parent), [], options)
        self._seed = order.seed

    def grade(self, order: Order) -> tuple[list[Report], list[str]]:
        """As `grade_chunk`."""
        reports: list[Report] = []
        self._failed, self._killed = [], {}
        for submission in order.submissions:
            self.add(submission)
        return reports, self.work(reports.append)

    def interrupt(self) -> None:
        """Have the chunk in hand fail, from another thread than the one that is at it."""
        self.stopped = True
        for member in list(self._members):
            member.process.terminate()

    def _hire(self) -> Member:
        if self.stopped:
            raise AutograderError("this worker was told to stop")
        ours, theirs = Pipe()
        environment = {name: value for name, value in os.environ.items() if name != _SEED}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if self._seed is not None:
            environment[_SEED] = self._seed
        process = subprocess.Popen([sys.executable, "-c", _START, str(theirs.fileno())], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        theirs.close()
        ours.send((self._course_path, vars(self._options)))
        self._members.append(Member(_Process(process), ours))
        return self._members[-1]


class _Process:
    """A `Popen` as `multiprocessing.Process` would have it."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self._process = process
        self.terminate, self.join = process.terminate, process.wait

    @property
    def exitcode(self) -> int | None:
        return self._process.returncode


class _Pool:
    """The grading processes of this worker: as many as it has threads at work, all for the same kind of order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[WarmCrew] = []
        self._busy: set[WarmCrew] = set()
        self._timer: threading.Timer | None = None

    def grade(self, order: Order) -> tuple[list[Report], list[str]]:
        crew = self._take(order)
        try:
            found = crew.grade(order)
        except BaseException:
            self._put(crew, broken=True)
            raise
        self._put(crew)
        return found

    def stop(self, run: str) -> None:
        with self._lock:
            for crew in self._busy:
                if crew.run == run:
                    crew.interrupt()
        self._stop_idle(run)

    def _take(self, order: Order) -> WarmCrew:
        with self._lock:
            others = [crew for crew in self._idle if crew.how != order.how]
            self._idle = [crew for crew in self._idle if crew.how == order.how]
            crew = self._idle.pop() if self._idle else WarmCrew(order)
            crew.run = order.run
            self._busy.add(crew)
        for other in others:
            other.stop()
        return crew

    def _put(self, crew: WarmCrew, broken: bool = False) -> None:
        with self._lock:
            self._busy.discard(crew)
            if not broken and not crew.stopped:
                self._idle.append(crew)
                self._wait()
                return
        crew.stop()

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(IDLE_SECONDS, self._stop_idle)
        self._timer.daemon = True
        self._timer.start()

    def _stop_idle(self, run: str | None = None) -> None:
        with self._lock:
            crews = [crew for crew in self._idle if run in (None, crew.run)]
            self._idle = [crew for crew in self._idle if crew not in crews]
        for crew in crews:
            crew.stop()


_POOL = _Pool()


def main(descriptor: int) -> None:
    """The grading process."""
    from multiprocessing.connection import Connection

    from autograder.grading.grade import Options
    from autograder.grading.parallel import serve
    pipe = Connection(descriptor)
    course_path, options = pipe.recv()
    serve(course_path, Options(**options), pipe)
