"""The public checks of hybrid_kernels.ipynb. Made by `autograder build` from the course; do not edit."""

import torch

from etude.checks import exercise, points, public
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race
from etude.strategies import for_all

# A step costs the interpreter 1 to 2 ms a program, however many lanes there are: few steps, more channels than a block.
SIZES = {"S": (1, 2), "L": (1, 5, 37), "D": (1, 4, 35), "N": (1, 3, 11)}


def _rates(drawn, _):
    """Below zero, and not by so little that a sum over many steps leaves float16."""
    return -0.05 - drawn.abs()


def _bounded(drawn, _):
    return torch.tanh(drawn)


def _mean(drawn, sizes):
    """y is then a mean over the modes, which stays within float16."""
    return torch.tanh(drawn) / sizes["N"]


def scans(**others):
    # A spike of 200 in delta is what an exponential in float32 does not survive; its softplus is 200.
    return KernelCases(**{"u": values("S L D"), "delta": values("S L D", spike=200.0), "A": values("D N", _rates),
                          "B": values("S L N", _bounded), "C": values("S L N", _mean), "Dskip": values("D", _bounded),
                          "sizes": SIZES, **others})


SCANS = scans()
OUT = {"y": "S L D"}


def scan(u, delta, A, B, C, Dskip):
    """What is expected, in PyTorch: one step after the other."""
    size = torch.logaddexp(delta, torch.zeros_like(delta))
    state, outputs = torch.zeros_like(A), []
    for t in range(u.shape[1]):
        added = (size[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        state = torch.exp(size[:, t, :, None] * A) * state + added
        outputs.append((state * C[:, t, None, :]).sum(dim=-1) + Dskip * u[:, t])
    return torch.stack(outputs, dim=1)


@exercise("selective_scan_fwd")
@points(3)
@public
@for_all(case=SCANS)
def test_values(student, case):
    """The outputs are right for any shape, stride, scale and precision."""
    assert_kernel(student.selective_scan_fwd, case, outputs=OUT, expected=scan)


@exercise("selective_scan_fwd")
@points(2)
@public
@for_all(case=SCANS, corners=False)
def test_stays_in_bounds(student, case):
    """The kernel touches no memory but its tensors, and writes to `y` alone."""
    assert_in_bounds(student.selective_scan_fwd, case, outputs=OUT)


@exercise("selective_scan_fwd")
@points(1)
@public
def test_programs_do_not_race(student):
    """No two programs use an element that one of them writes, unless by atomic operations."""
    assert_no_race(student.selective_scan_fwd, SCANS.case({"S": 2, "L": 7, "D": 35, "N": 5}), outputs=OUT)


@exercise("selective_scan_fwd")
@points(1)
@public
def test_builds_for_a_gpu(student):
    """The kernel compiles for a GPU at 8 x 2048 x 2048 with 16 modes, in bfloat16 and float32, and nothing spills."""
    said = ""
    for dtype in (torch.bfloat16, torch.float32):
        sequence, mixing = ((8, 2048, 2048), dtype), ((8, 2048, 16), dtype)
        said = assert_builds(student.selective_scan_fwd, {"y": sequence},
                             {"u": sequence, "delta": sequence, "A": ((2048, 16), dtype), "B": mixing, "C": mixing,
                              "Dskip": ((2048,), dtype)}, spills=0)
    return said
