"""Where there is no Triton, everything says so in one line, and nothing breaks."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autograder.course import load_course
from autograder.errors import UsageError
from autograder.solution.interpreter import demand_triton
from etude import kernels

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import importlib.metadata as metadata
real = metadata.version
def version(name):
    if name == "triton":
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
"""
NOTEBOOK = WITHOUT + """
from etude.kernels import tl, triton
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_kernel

@triton.jit
def kernel(out, x, N, BLOCK: tl.constexpr):
    raise NotImplementedError

def double(out, x):
    kernel[(1,)](out, x, 5, BLOCK=triton.next_power_of_2(5))

case = KernelCases(x=values("N"), sizes={"N": (1, 5)}).case({"N": 5})
for check in (lambda: assert_kernel(double, case, outputs={"out": "N"}, expected=lambda x: 2 * x),
              lambda: assert_builds(double, {}, {}), lambda: double(None, None)):
    try:
        check()
    except Exception as error:
        print(type(error).__name__, "|", error)
"""


def test_a_notebooks_cells_run_and_its_checks_say_how_to_install_triton():
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["CheckFailure", "CheckFailure", "NoTriton"]
    assert all("pip install 'etude[kernels]'" in line and "no kernel can be run" in line for line in lines)


def test_grading_says_it_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels, "version", lambda: None)
    unit = load_course(ROOT / "course.yml").unit("normalization_kernels")
    with pytest.raises(UsageError, match=r"^unit normalization_kernels has Triton kernels: Triton is not installed"):
        demand_triton(unit)


@pytest.mark.parametrize("found", [(3, 5), (3, 10), (4, 0)])
def test_another_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, found: tuple[int, int]):
    monkeypatch.setattr(kernels, "version", lambda: found)
    assert f"Triton {found[0]}.{found[1]} is installed; the checks know 3.6 to 3.9" in kernels.why_not()


@pytest.mark.parametrize("found", [(3, 6), (3, 7), (3, 8), (3, 9)])
def test_the_versions_in_between_are_taken(monkeypatch: pytest.MonkeyPatch, found: tuple[int, int]):
    monkeypatch.setattr(kernels, "version", lambda: found)
    assert kernels.why_not() == ""
