"""The tests' side of the arena: start it, send it orders, notice when an attack has taken it down."""
from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autograder.report.model import Report

from .arena import SECRET_VARIABLE
from .model import Attack, Column

ROOT = Path(__file__).parents[2]
Fight = tuple[str, str, bool]
"""An attack's id, a column's name, and whether the grader's own care is taken away."""
PATIENCE = 300.0
"""Seconds for what should take less than one: a busy machine must not fail a test."""


@dataclass(frozen=True)
class Outcome:
    """What came of one attack."""

    reached: bool
    report: Report | None = None
    """The attacker's."""
    honest: tuple[float, float] | None = None
    """Points of the honest submission that was graded next, and the points there are; where all layers are on."""
    missing: list[str] = field(default_factory=list)
    """Layers that this machine does not have."""
    came_back: bool = True
    """False when the grader died of the attack or hung."""

    @property
    def passed(self) -> list[str]:
        """The checks that the attack passed."""
        checks = [check for exercise in self.report.exercises for check in exercise.checks] if self.report else []
        return [check.name for check in checks if check.passed]

    @property
    def notes(self) -> list[str]:
        """What the report says of statements that failed."""
        return [note for exercise in self.report.exercises for note in exercise.notes] if self.report else []


class Ring:
    """An arena process, started again when an attack has taken it down."""

    def __init__(self, as_nobody: bool = False):
        self.as_nobody = as_nobody
        self._known: dict[Fight, Outcome] = {}
        self._turn = threading.Lock()
        self._closing = False
        self._runner: threading.Thread | None = None
        self._start()

    def _start(self) -> None:
        secret = f"CANARY-{os.urandom(8).hex()}"
        arguments = ["--as-nobody"] if self.as_nobody else []
        # The secret is an argument, too: some attacks read the command lines of processes.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.arena", *arguments, secret], cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, SECRET_VARIABLE: secret})
        ready = self._answer()
        if ready is None:
            self._end()
            raise RuntimeError("the arena did not start; its traceback stands above")
        self.label, self.root = ready["label"], ready["uid"] == 0

    def fight(self, attack: Attack, column: Column, undo: bool = False) -> Outcome:
        """Grade an attack, and where all layers are on an honest submission after it; each only once.

        `undo` takes away what of the grader's own care the attack names.
        """
        return self._outcome((attack.id, column.name, undo))

    def run_ahead(self, fights: Sequence[Fight]) -> None:
        """Start with these fights while the tests are busy with something else."""
        def run() -> None:
            for fight in fights:
                if self._closing:
                    return
                self._outcome(fight)
                time.sleep(0.001)  # lets a test that waits for its turn have it
        self._runner = threading.Thread(target=run)
        self._runner.start()

    def _outcome(self, fight: Fight) -> Outcome:
        if fight not in self._known:
            with self._turn:
                if fight not in self._known:
                    self._known[fight] = self._fight(*fight)
        return self._known[fight]

    def _fight(self, attack: str, column: str, undo: bool) -> Outcome:
        self._process.stdin.write(json.dumps({"attack": attack, "column": column, "undo": undo}) + "\n")
        answer = self._answer()
        if answer is None:
            self._end()
            self._start()
            return Outcome(reached=True, came_back=False)
        honest = tuple(answer["honest"]) if answer["honest"] else None
        return Outcome(answer["reached"], Report.from_json(answer["report"]), honest, answer["missing"])

    def _answer(self) -> dict | None:
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        """End the arena, after the fight that it is in."""
        self._closing = True
        if self._runner is not None:
            self._runner.join()
        self._end()

    def _end(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
