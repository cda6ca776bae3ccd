"""The public checks of normalization_kernels.ipynb. Made by `autograder build` from the course; do not edit."""

import torch

from etude.checks import exercise, points, public
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race
from etude.strategies import for_all, value_of

EPS = (0.5, 1e-6)
RMS = KernelCases(x=values("M N", spike=300.0), w=values("N"), eps=value_of("eps"),
                  sizes={"M": (1, 5, 37), "N": (1, 31, 257)}, flags={"eps": EPS}, also=[{"M": 3, "N": 64}])
RMS_BACKWARD = KernelCases(dy=values("M N"), x=values("M N", spike=300.0), w=values("N"), eps=value_of("eps"),
                           sizes={"M": (1, 5, 37), "N": (1, 31, 257)}, flags={"eps": EPS}, also=[{"M": 3, "N": 64}],
                           # The gradient of x / |x| for one number is 0: what is left of it is rounding.
                           legal=lambda s: s["N"] > 1 or s["eps"] == 0.5)


def rms_norm(x, w, eps):
    """What is expected, in PyTorch."""
    return w * x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)


def rms_norm_gradients(dy, x, w, eps):
    """What autograd makes of it."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (x, w)]
        return torch.autograd.grad(rms_norm(*leaves, eps), leaves, dy)


FORWARD, BACKWARD = {"out": "M N"}, {"dx": "M N", "dw": "N"}


@exercise("rms_norm_triton")
@points(2)
@public
@for_all(case=RMS)
def test_forward(student, case):
    """The forward pass is right for any shape, stride, scale and precision."""
    assert_kernel(student.rms_norm_triton, case, outputs=FORWARD, expected=rms_norm)


@exercise("rms_norm_triton")
@points(2)
@public
@for_all(case=RMS_BACKWARD)
def test_backward(student, case):
    """The backward pass gives the gradients that autograd gives."""
    assert_kernel(student.rms_norm_triton_backward, case, outputs=BACKWARD, expected=rms_norm_gradients)


@exercise("rms_norm_triton")
@points(1)
@public
@for_all(case=RMS, corners=False)
def test_forward_stays_in_bounds(student, case):
    """The forward pass touches no memory but its tensors, and writes to `out` alone."""
    assert_in_bounds(student.rms_norm_triton, case, outputs=FORWARD)


@exercise("rms_norm_triton")
@points(1)
@public
@for_all(case=RMS_BACKWARD, corners=False)
def test_backward_stays_in_bounds(student, case):
    """The backward pass touches no memory but its tensors, and writes to `dx` and `dw` alone."""
    assert_in_bounds(student.rms_norm_triton_backward, case, outputs=BACKWARD)


@exercise("rms_norm_triton")
@points(1)
@public
@for_all(case=RMS_BACKWARD, corners=False)
def test_programs_do_not_race(student, case):
    """No two programs use an element that one of them writes, unless by atomic operations."""
    assert_no_race(student.rms_norm_triton_backward, case, outputs=BACKWARD)


@exercise("rms_norm_triton")
@points(1)
@public
def test_builds_for_a_gpu(student):
    """Both passes compile for a GPU at 8192 x 4096, in bfloat16 and float32, and nothing spills."""
    said = []
    for dtype in (torch.bfloat16, torch.float32):
        matrix, vector = ((8192, 4096), dtype), ((4096,), dtype)
        said = [assert_builds(student.rms_norm_triton, {"out": matrix}, {"x": matrix, "w": vector}, spills=0, eps=1e-6),
                assert_builds(student.rms_norm_triton_backward, {"dx": matrix, "dw": vector},
                              {"dy": matrix, "x": matrix, "w": vector}, spills=0, eps=1e-6)]
    return " ".join(said)
