"""The tests' side of `usual`: start it, and ask what an attack does to the usual design."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from .harm import HARM
from .model import Attack
from .ring import ROOT
from .usual import SECRET_VARIABLE


class UsualDesign:
    """A process that grades as the usual design does, for negative controls."""

    def __init__(self) -> None:
        secret = f"CANARY-{os.urandom(8).hex()}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.usual"], cwd=ROOT, text=True, bufsize=1, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, SECRET_VARIABLE: secret})
        assert self._process.stdout.readline(), "the usual design did not start; its traceback stands above"

    def suffers(self, attack: Attack) -> bool:
        """Whether the attack does to it what `attack.usual` says."""
        harm = HARM[attack.usual]
        order: dict[str, Any] = {**asdict(harm), "source": attack.usual_source or attack.source}
        del order["shown_by"]
        return harm.shown_by(self.run(order))

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(order) + "\n")
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> UsualDesign:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
