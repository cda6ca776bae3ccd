"""`autograder verify`: the proof as a table, and as JSON."""
from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from autograder.course import Course
from autograder.errors import UsageError
from autograder.verify import ExerciseProof, verify


def run_verify(course: Course, units: Sequence[str], json_path: Path | None, jobs: int) -> int:
    """0 if nothing was found wrong with the grader, else 1."""
    if json_path is not None and not json_path.resolve().parent.is_dir():
        raise UsageError(f"{json_path}: there is no folder {json_path.parent}")
    proofs = list(verify(course, units, jobs, _progress))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print_table(proofs)
    if json_path is not None:
        json_path.write_text(json.dumps([proof.to_json() for proof in proofs], indent=2) + "\n", encoding="utf-8")
    return 1 if any(proof.problems for proof in proofs) else 0


def print_table(proofs: list[ExerciseProof]) -> None:
    """A line for each exercise, the totals, and what is wrong."""
    from rich.console import Console
    from rich.table import Table
    table = Table("unit", "exercise", box=None, pad_edge=False)
    for heading in ("checks", "killed", "named", "accepted", "null", "CPU s"):
        table.add_column(heading, justify="right")
    for proof in proofs:
        table.add_row(proof.unit, proof.exercise, *_cells([proof]))
    table.add_section()
    table.add_row("all", f"{len(proofs)} exercises", *_cells(proofs), style="bold")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Students are told the names of {sum(proof.named_in_notebook for proof in proofs)} of "
                  f"{sum(proof.count('mistake') for proof in proofs)} mistakes in the notebook.")
    for proof in proofs:
        for problem in proof.problems:
            console.print(f"✗ {proof.unit}.{proof.exercise}: {problem}", markup=False)
    if not any(proof.problems for proof in proofs):
        console.print("Every mistake loses points and is named, every alternative gets full marks, "
                      "nothing empty passes.")


def _cells(proofs: Sequence[ExerciseProof]) -> list[str]:
    def share(kind: str, good: str) -> str:
        return f"{sum(getattr(p, good)(kind) for p in proofs)}/{sum(p.count(kind) for p in proofs)}"
    return [str(sum(len(p.checks) for p in proofs)), share("mistake", "losing"), share("mistake", "right"),
            share("alternative", "right"), share("null", "right"), f"{sum(p.cpu_seconds for p in proofs):.2f}"]


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
