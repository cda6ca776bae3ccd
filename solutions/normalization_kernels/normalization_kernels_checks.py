"""Checks of the normalization kernels."""
import torch

from etude.checks import exercise, points, public, speed
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race
from etude.kernels.workload import Workload
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


@exercise("rms_norm_triton")
@points(2)
@for_all(case=RMS_BACKWARD, corners=False)
def test_both_passes_together(student, case):
    """Forward and backward agree with PyTorch on other examples."""
    assert_kernel(student.rms_norm_triton_backward, case, outputs=BACKWARD, expected=rms_norm_gradients)
    forward = RMS.case({"M": case.M, "N": case.N}, case.flags, seed=case.seed + 1, layout=case.layout)
    assert_kernel(student.rms_norm_triton, forward, outputs=FORWARD, expected=rms_norm)


def _draw(shapes, dtype):
    def make(generator, device):
        return tuple(torch.randn(shape, generator=generator, device=device, dtype=dtype) for shape in shapes)
    return make


@exercise("rms_norm_triton")
@points(3)
@speed
def test_speed():
    """Both passes are at most 1.2 times as slow as the reference, or reach 0.8 of the bandwidth."""
    M, N, size = 131072, 4096, 4
    matrix, vector = (M, N), (N,)
    return [
        Workload("forward, 131072 x 4096, float32", "rms_norm_triton", _draw([matrix, vector], torch.float32),
                 ((matrix, torch.float32),), lambda x, w, eps: (rms_norm(x, w, eps),), 1e-4,
                 2 * M * N * size + N * size, 4 * M * N, {"eps": 1e-6}),
        Workload("backward, 131072 x 4096, float32", "rms_norm_triton_backward",
                 _draw([matrix, matrix, vector], torch.float32), ((matrix, torch.float32), (vector, torch.float32)),
                 rms_norm_gradients, 1e-4, 3 * M * N * size + 2 * N * size, 8 * M * N, {"eps": 1e-6}),
    ]
