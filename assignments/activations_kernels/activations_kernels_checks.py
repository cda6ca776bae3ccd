"""The public checks of activations_kernels.ipynb. Made by `autograder build` from the course; do not edit."""

import torch

from etude.checks import exercise, points, public
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race
from etude.strategies import for_all


def _far_gates(drawn, sizes):
    """Structured: one gate far on each side. e^100 is infinite in float32, and 300 * 300 in float16."""
    if sizes["regime"] == "structured":
        drawn[-1, 0], drawn[-1, -1] = 100, -300
    return drawn


SIZES = {"M": (1, 5, 37), "F": (1, 31, 257)}
GATES = KernelCases(a=values("M F", _far_gates), b=values("M F", spike=300.0), sizes=SIZES, also=[{"M": 3, "F": 64}])
GATES_BACKWARD = KernelCases(dout=values("M F"), a=values("M F", _far_gates), b=values("M F", spike=300.0), sizes=SIZES,
                             also=[{"M": 3, "F": 64}])
FORWARD, BACKWARD = {"out": "M F"}, {"da": "M F", "db": "M F"}


def swiglu(a, b):
    """What is expected, in PyTorch."""
    return a * torch.sigmoid(a) * b


def swiglu_gradients(dout, a, b):
    """What autograd makes of it."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (a, b)]
        return torch.autograd.grad(swiglu(*leaves), leaves, dout)


@exercise("swiglu_triton")
@points(2)
@public
@for_all(case=GATES)
def test_forward(student, case):
    """The forward pass is right for any shape, stride, scale and precision."""
    assert_kernel(student.swiglu_triton, case, outputs=FORWARD, expected=swiglu)


@exercise("swiglu_triton")
@points(2)
@public
@for_all(case=GATES_BACKWARD)
def test_backward(student, case):
    """The backward pass gives the gradients that autograd gives."""
    assert_kernel(student.swiglu_triton_backward, case, outputs=BACKWARD, expected=swiglu_gradients)


@exercise("swiglu_triton")
@points(1)
@public
@for_all(case=GATES, corners=False)
def test_forward_stays_in_bounds(student, case):
    """The forward pass touches no memory but its tensors, and writes to `out` alone."""
    assert_in_bounds(student.swiglu_triton, case, outputs=FORWARD)


@exercise("swiglu_triton")
@points(1)
@public
@for_all(case=GATES_BACKWARD, corners=False)
def test_backward_stays_in_bounds(student, case):
    """The backward pass touches no memory but its tensors, and writes to `da` and `db` alone."""
    assert_in_bounds(student.swiglu_triton_backward, case, outputs=BACKWARD)


@exercise("swiglu_triton")
@points(1)
@public
@for_all(case=GATES_BACKWARD, corners=False)
def test_programs_do_not_race(student, case):
    """No two programs use an element that one of them writes, unless by atomic operations."""
    assert_no_race(student.swiglu_triton_backward, case, outputs=BACKWARD)


@exercise("swiglu_triton")
@points(1)
@public
def test_builds_for_a_gpu(student):
    """Both passes compile for a GPU at 8192 x 11008, in bfloat16 and float32, and nothing spills."""
    said = []
    for dtype in (torch.bfloat16, torch.float32):
        matrix = ((8192, 11008), dtype)
        said = [assert_builds(student.swiglu_triton, {"out": matrix}, {"a": matrix, "b": matrix}, spills=0),
                assert_builds(student.swiglu_triton_backward, {"da": matrix, "db": matrix},
                              {"dout": matrix, "a": matrix, "b": matrix}, spills=0)]
    return " ".join(said)
