"""The grader that is attacked: a process of its own, which grades what it is told to and says what came of it.

    python -m tests.attacks.arena [--as-nobody]

One line of JSON in, `{"attack": "a07", "column": "all", "undo": false}`, one line out. It grades by `grade_stream`, as
`autograder grade` does; only where workers come from is replaced, so that layers can be left out.
"""
from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from autograder.course import load_course
from autograder.errors import AutograderError
from autograder.grading import grade as grading
from autograder.report.model import Report
from autograder.sandbox.client import Zygote
from autograder.sandbox.libc import hide_memory
from autograder.submission.cells import Cell, Submission
from etude import engine

from .bout import AMPLE, Bout, remember_core_dumps
from .catalogue import ALL, OTHERS
from .model import COLUMNS
from .prelude import program
from .undo import undone
from .zygote_hooks import NOBODY

HERE = Path(__file__).parent
SECRET_VARIABLE = "ETUDE_PLANTED"
HONEST = "def f(x):\n    return 2 * x + 1\n"


class Arena:
    """Grades attacks and honest submissions in turn; what `grade_stream` takes for its zygote."""

    def __init__(self, as_nobody: bool):
        self._suffix = "_nobody" if as_nobody else ""
        self.zygotes = {exposed: self._open(exposed) for exposed in (False, True)}
        self.label = self.zygotes[False].label
        self._current: list[Bout] = []
        for zygote in self.zygotes.values():
            remember_core_dumps(zygote, self._current)
        self._zygote = self.zygotes[False]
        self.secret = os.environ[SECRET_VARIABLE]
        self._report: Report | None = None

    def _open(self, exposed: bool) -> Zygote:
        name = ("exposed" if exposed else "") + self._suffix
        if not name:
            return Zygote()
        return Zygote(serve=f"zygote_hooks:{name.strip('_')}", extra_path=[str(HERE)])

    def spawn(self, limits: object) -> Any:
        """The next worker: the attacker's, or a sealed one for the honest."""
        return self._current[0].spawn() if self._current else self._zygote.spawn(AMPLE)

    def done(self, report: Report) -> None:
        self._report = report

    def submissions(self) -> Iterator[Submission]:
        """What `grade_stream` grades; between two of them, orders are read and results written."""
        if self._suffix:
            yield from self._become_nobody()
        secret_file = tempfile.TemporaryFile()  # open in the grader: some attacks are after its descriptors
        secret_file.write(self.secret.encode())
        secret_file.flush()
        print(json.dumps({"label": self.label.name, "uid": os.geteuid()}), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            attack, column = (ALL | OTHERS)[order["attack"]], COLUMNS[order["column"]]
            self._zygote = self.zygotes[column.exposed]
            bout = Bout(attack, column, self._zygote, self.secret, secret_file.fileno())
            self._current.append(bout)
            with undone(attack.undo) if order["undo"] else nullcontext():
                yield submission("attacker", program(attack.source, bout.scene.context))
            bout.report = self._report
            self._current.clear()
            reached = bout.finish()
            self._report = None
            if column.sealed:
                yield submission("honest", HONEST)
            print(json.dumps(self._result(bout, reached)), flush=True)

    def _result(self, bout: Bout, reached: bool) -> dict[str, Any]:
        honest = [self._report.score, self._report.max_score] if self._report else None
        return {"reached": reached, "report": bout.report.to_json(), "missing": sorted(bout.missing_layers),
                "honest": honest}

    def _become_nobody(self) -> Iterator[Submission]:
        # Code of the standard library that is loaded late may lie where nobody cannot read: have it loaded before.
        yield submission("wrong", program("", {}))
        yield submission("honest", HONEST)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        hide_memory()


_numbers = itertools.count()


def submission(student: str, source: str) -> Submission:
    """A submission with one cell, the exercise's."""
    return Submission(f"{student}{next(_numbers)}", "target", "memory", (Cell(1, source, "double"),), digest="0" * 64)


def refuse(line: str) -> None:
    """The grader survived a failure of its own; an attack that can cause one has still reached something."""
    raise AutograderError(line)


def main() -> None:
    engine.SHRINK_RUNS = 6  # every attack fails, and how small its counterexample gets is not what is asked here
    arena = Arena("--as-nobody" in sys.argv)
    grading.open_zygote = lambda course, options, kernels: nullcontext(arena)
    grading.grade_stream(load_course(HERE / "course" / "course.yml"), arena.submissions(), arena.done,
                         grading.Options(unsandboxed=True), refuse)
    os._exit(0)  # at once; the zygotes end when their socket does


if __name__ == "__main__":
    main()
