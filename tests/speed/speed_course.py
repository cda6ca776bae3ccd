"""A course of one kernel exercise with a speed check, submissions to it, and a clock that does what the code says.

A program whose text says `# takes 0.02` takes that long by `PlannedClock`, in every call and on every machine.
"""
from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from autograder.course import Course, load_course
from autograder.speed import bench
from autograder.speed.device import Ceilings
from autograder.speed.timing import Bench
from autograder.submission.cells import Cell, Submission
from tests.speed.kernels import RULES
from tests.tiny_course import notebook_of

COURSE = """\
schema: 1
title: A course of kernels
units:
  kernels:
    title: Kernels
    notebook: kernels
    exercises:
      softmax_into: {title: Softmax, points: 4, minutes: 5, difficulty: 1, forbid: [log_softmax], speed: {SPEED}}
"""
SPEED = "{cpu: {full: 1.2, zero: 10.0, ceiling: 0.9, measured: a test}}"
SOLUTION = '''\
# %% [markdown]
# # Kernels

# %% role="setup"
import torch
from torch import Tensor

# %% [markdown]
# A softmax.

# %% exercise="softmax_into"
def softmax_into(out: Tensor, x: Tensor, scale: float) -> None:
    """out (M, N) float32, x (M, N) float32; writes softmax(scale x) over rows."""
    ### BEGIN SOLUTION
    torch.softmax(scale * x, dim=-1, out=out)  # takes 0.01
    ### END SOLUTION

def softmax(x: Tensor) -> Tensor:
    """(M, N) -> (M, N)."""
    ### BEGIN SOLUTION
    return torch.softmax(x, dim=-1)
    ### END SOLUTION
'''
CHECKS = '''\
"""Checks of the kernels."""
import torch
from etude.checks import exercise, points, speed
from etude.compare import assert_same
from etude.kernels.workload import Workload

M, N = 64, 96


def draw(generator, device):
    return (torch.randn(M, N, generator=generator, device=device),)


def right(x, scale):
    return (torch.softmax(scale * x.double(), dim=-1),)


@exercise("softmax_into")
@points(1)
def test_rows_sum_to_one(student):
    """Rows sum to one."""
    assert_same(student.softmax(torch.zeros(2, 4)), torch.full((2, 4), 0.25))


@exercise("softmax_into")
@points(3)
@speed
def test_softmax_speed():
    """The kernel is at most 1.2 times as slow as the reference."""
    return [Workload("64 x 96, float32", "softmax_into", draw, (((M, N), torch.float32),), right, 1e-5,
                     bytes=8 * M * N, flops=5 * M * N, settings={"scale": 2.0})]
'''
KERNEL = '''
def softmax(x):
    return torch.softmax(x, dim=-1)

def softmax_into(out, x, scale):
    torch.softmax(scale * x, dim=-1, out=out)  # takes {seconds}
'''
VARIANTS = '"""What students hand in for the kernels."""\n'


def speed_course(folder: Path, speed: str = SPEED) -> Course:
    home = folder / "solutions" / "kernels"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "course.yml").write_text(COURSE.replace("{SPEED}", speed), encoding="utf-8")
    for name, text in (("", SOLUTION), ("_checks", CHECKS), ("_variants", VARIANTS)):
        (home / f"kernels{name}.py").write_text(text, encoding="utf-8")
    return load_course(folder / "course.yml")


def handed_in(folder: Path, **sources: str) -> Path:
    """A folder `class/<student>/kernels/kernels.ipynb` with these cells."""
    for student, source in sources.items():
        path = folder / "class" / student / "kernels" / "kernels.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(notebook_of(Submission(student, "kernels", str(path), (Cell(1, source, "softmax_into"),), "")))
    return folder / "class"


class PlannedClock:
    """Goes on at each look by what the program in hand is said to take."""

    def __init__(self) -> None:
        self.now, self.step = 0.0, 1.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    def install(self, monkeypatch: pytest.MonkeyPatch) -> PlannedClock:
        block = Bench.block

        def planned(of: Bench, program: Any, seeds: Any, verify: bool = True) -> list[float]:
            said = re.findall(r"# takes ([\d.e-]+)", program[-1]["source"])
            self.step = float(said[-1]) if said else 1e-4
            return block(of, program, seeds, verify)
        monkeypatch.setattr(Bench, "block", planned)
        return self


def planned(monkeypatch: pytest.MonkeyPatch, zygote: Any) -> dict[str, Any]:
    """What `run_bench` measures with; workers come from `zygote`, as starting one takes seconds."""
    monkeypatch.setattr(bench, "open_zygote", lambda *args, **options: nullcontext(zygote))
    monkeypatch.setattr(bench.Device, "ceilings", lambda *args: Ceilings(1e8, {"torch.float32": 1e10}))
    return {"rules": RULES, "clock": PlannedClock().install(monkeypatch), "cache_bytes": 0}
