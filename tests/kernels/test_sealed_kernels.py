"""Kernels in sealed workers: the seal holds as for any other code, and kernels run, are watched and are built in it."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from autograder.remote.channel import SealedChannel
from autograder.remote.student import RemoteStudent
from autograder.sandbox.client import KERNELS, Limits, Zygote
from etude.failures import CheckFailure, StudentError
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race

PLANTED = (Path(__file__).parent / "planted.py").read_text(encoding="utf-8")
HOSTILE = '''
import os, ctypes
def opens(out, x):
    open("/etc/passwd")
def executes(out, x):
    os.execv("/bin/true", ["true"])
def forks(out, x):
    os.fork()
def seeks(out, x):
    os.lseek(3, 0, 0)
def seeks_input(out, x):
    os.lseek(0, 0, 0)
'''
ROWS = KernelCases(x=values("M N"), sizes={"M": (1, 5), "N": (1, 13)})
CASE = ROWS.case({"M": 3, "N": 5})
SAME = {"out": "M N"}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(preload=KERNELS) as one:
        yield one


@pytest.fixture(scope="module")
def student(zygote: Zygote) -> Iterator[RemoteStudent]:
    cells = [{"label": "cell 3 (k)", "source": PLANTED + HOSTILE, "mode": "all"}]
    channel = SealedChannel(cells, lambda: zygote.spawn(Limits()), 30, 120)
    yield RemoteStudent(channel)
    channel.close()


def test_the_seal_holds_for_workers_with_triton(zygote: Zygote) -> None:
    with Zygote() as plain:
        assert (zygote.label.name, zygote.label.layers) == (plain.label.name, plain.label.layers)
        assert zygote.label.evidence == plain.label.evidence


def test_a_right_kernel_passes_sealed_and_bugs_are_found(student: RemoteStudent) -> None:
    assert_kernel(student.doubles, CASE, outputs=SAME, expected=lambda x: 2 * x)
    assert_in_bounds(student.doubles, CASE, outputs=SAME)
    with pytest.raises(CheckFailure, match=r"past the end of `x`.*`value = tl\.load"):
        assert_in_bounds(student.reads_beside, ROWS.case({"M": 1, "N": 5}), outputs=SAME)
    with pytest.raises(CheckFailure, match="also writes in the same launch"):
        assert_no_race(student.sums_by_race, ROWS.case({"M": 4, "N": 5}), outputs={"out": "N"})


def test_a_kernel_is_built_in_a_worker_that_can_open_no_file_and_twice(student: RemoteStudent) -> None:
    matrix = ((512, 1000), torch.float16)
    said = [assert_builds(student.doubles, {"out": matrix}, {"x": matrix}) for _ in range(2)]
    assert said[0] == said[1] and "`_double`" in said[0]
    with pytest.raises(CheckFailure, match="does not compile for a GPU"):
        assert_builds(student.calls_python, {"out": matrix}, {"x": matrix})


@pytest.mark.parametrize("name", ["opens", "executes", "forks", "seeks"])
def test_what_the_seal_forbids_is_forbidden_in_a_kernels_function(student: RemoteStudent, name: str) -> None:
    with pytest.raises(StudentError, match="PermissionError"):
        assert_kernel(getattr(student, name), CASE, outputs=SAME, expected=lambda x: 2 * x)


def test_only_standard_input_can_be_read_again(student: RemoteStudent) -> None:
    with pytest.raises(CheckFailure, match="`out` is NaN"):  # it came back: the seek itself is let through
        assert_kernel(student.seeks_input, CASE, outputs=SAME, expected=lambda x: 2 * x)
