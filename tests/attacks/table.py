"""Run every attack under every set of layers and print what came of it, as Markdown for docs/attacks.md.

    python -m tests.attacks.table        (a few minutes; as root, it also runs as an unprivileged user)
"""
from __future__ import annotations

import os
import platform
import sys

import torch

from autograder.sandbox import landlock
from autograder.sandbox.client import Zygote

from .catalogue import ATTACKS, GROUPS, MORE
from .harm import HARM
from .model import COLUMNS, Attack
from .naive_wire import NAIVE
from .ring import Ring
from .usual_design import UsualDesign

REACHED, STOPPED, NOT_RUN = "**reached**", "–", ""


class Table:
    """Fights, and what is counted over them."""

    def __init__(self, rings: list[Ring], usual: UsualDesign, zygote: Zygote):
        self.rings, self.usual, self.zygote = rings, usual, zygote
        self.passes = self.unfair = 0

    def rows(self, attacks: dict[str, Attack]) -> list[list[str]]:
        return [self._row(attack) for attack in attacks.values()]

    def _row(self, attack: Attack) -> list[str]:
        print(attack.id, file=sys.stderr, flush=True)
        cells = [self._cell(attack, name) for name in COLUMNS]
        stopped_by = ", ".join(sorted(attack.stopped_by))
        if not stopped_by:
            control = self._control(attack)
            stopped_by = f"architecture ({control})" if control else "architecture"
        return [attack.id, attack.title, *cells, stopped_by]

    def _cell(self, attack: Attack, column: str) -> str:
        if column not in attack.columns and not attack.stopped_by:
            return NOT_RUN
        outcomes = [ring.fight(attack, COLUMNS[column]) for ring in self.rings]
        self.passes += sum(not outcome.came_back or bool(outcome.passed) for outcome in outcomes)
        self.unfair += sum(outcome.honest is not None and len(set(outcome.honest)) > 1 for outcome in outcomes)
        users = [("root" if ring.root else "user") for ring, outcome in zip(self.rings, outcomes, strict=True)
                 if outcome.reached]
        if len(users) == len(self.rings):
            return REACHED
        return f"{REACHED} as {users[0]}" if users else STOPPED

    def _control(self, attack: Attack) -> str:
        """What shows that an attack which the architecture stops is able to do harm."""
        if attack.undo:
            outcome = self.rings[0].fight(attack, COLUMNS["all"], undo=True)
            return f"{REACHED} unless {attack.undo}" if outcome.reached else STOPPED
        if not attack.usual:
            return NOT_RUN
        suffers = self.usual.suffers(attack) if attack.usual in HARM else NAIVE[attack.usual](self.zygote, attack)
        return f"usual design: {attack.usual}" if suffers else STOPPED


def totals(rows: list[list[str]]) -> list[str]:
    """How many attacks reached their aim, for each column. Where one was left out, nothing is reached with none."""
    counts = [str(sum(row[2 + at].startswith(REACHED) for row in rows)) for at in range(len(COLUMNS))]
    return ["", f"reached, of {len(rows)}", *counts, ""]


def markdown(rows: list[list[str]], shown: bool = True) -> str:
    """The rows and their totals; the totals alone if the rows are not to be shown again."""
    head = ["id", "attack", *COLUMNS, "stopped by"]
    lines = [head, ["---"] * len(head), *(rows if shown else []), totals(rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    users = [Ring(), Ring(as_nobody=True)] if os.geteuid() == 0 else [Ring()]
    with UsualDesign() as usual, Zygote() as zygote:
        table = Table(users, usual, zygote)
        rows, more = table.rows(ATTACKS), table.rows(MORE)
    for ring in users:
        ring.close()
    kernel = ".".join(platform.release().split(".")[:2])
    print(f"Linux {kernel}, {platform.machine()}, Landlock ABI {landlock.abi()}, CPython "
          f"{platform.python_version()}, torch {torch.__version__}; "
          f"{'as root and as an unprivileged user' if len(users) == 2 else 'as an unprivileged user'}.\n")
    for group, title in GROUPS.items():
        print(f"### {group}: {title}\n\n{markdown([row for row in rows if row[0].startswith(group)])}\n")
    print(f"### All {len(rows)}\n\n{markdown(rows, shown=False)}\n")
    print(f"### Further rows, and what was found since\n\n{markdown(more)}\n")
    print(f"Attacks that got a point or took the grader down: {table.passes}. "
          f"Honest submissions graded next that lost a point: {table.unfair}.")


if __name__ == "__main__":
    main()
