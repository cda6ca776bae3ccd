"""What attacks do to the usual design: the negative controls of what the architecture stops, with no layer at all."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FLOOD = 10 << 20


@dataclass(frozen=True)
class Harm:
    """How the usual design is run, and what in its result shows that the attack got what it wanted."""

    shown_by: Callable[[dict[str, Any]], bool]
    style: str = "assert_close"
    runner: str = "pytest"
    patient: bool = True
    terminate: bool = False


def _passes(result: dict[str, Any]) -> bool:
    return result["exit"] == 0


HARM = {
    "passes": Harm(_passes),
    "passes as a script": Harm(_passes, runner="script"),
    "passes allclose": Harm(_passes, style="allclose"),
    "passes `not (error > tolerance)`": Harm(_passes, style="not greater"),
    "passes `error <= tolerance * got`": Harm(_passes, style="relative"),
    "ends the run": Harm(lambda result: result["exit"] not in (0, 1, None)),
    "is believed on stdout": Harm(lambda result: result["believed"]),
    "is unpickled": Harm(lambda result: result["dropped"], style="unpickled"),
    "leaks": Harm(lambda result: result["leaked"]),
    "hangs": Harm(lambda result: result["hung"], patient=False),
    "survives SIGTERM": Harm(lambda result: result["hung"], patient=False, terminate=True),
    "floods": Harm(lambda result: result["output_bytes"] > FLOOD),
    "kills the grader": Harm(lambda result: result["exit"] is not None and result["exit"] < 0),
}
"""On the wire instead, with a trusting reader or writer: see `naive_wire`."""
