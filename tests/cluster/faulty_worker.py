"""Preloaded into dask workers by the tests: what happens to a worker that has a certain student's submission in hand.

`<what>_<anything>` is the student; each worker notes in $ETUDE_TEST_NOTES whom it graded.
"""
from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from autograder.cluster import worker

NOTES = Path(os.environ["ETUDE_TEST_NOTES"])
PATIENCE = 60.0


def note(name: str, text: str) -> None:
    with open(NOTES / name, "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def meets(student: str) -> None:
    what, first = student.partition("_")[0], not (NOTES / student).exists()
    note(student, str(os.getpid()))
    note("graded", f"{os.environ.get('ETUDE_TEST_NAME', '')} {student}")
    note("in the worker", " ".join(name for name in ("torch", "etude.executor", "ETUDE_SEED")
                                   if name in sys.modules or name in os.environ))
    if what == "killer" or (what == "once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "slow" and first:
        time.sleep(PATIENCE)  # until the test kills this process


def dask_setup(_: Any) -> None:
    grade = worker.WarmCrew.grade

    def noting(self: Any, order: Any) -> Any:
        for submission in order.submissions:
            meets(submission.student)
        return grade(self, order)
    worker.WarmCrew.grade = noting
