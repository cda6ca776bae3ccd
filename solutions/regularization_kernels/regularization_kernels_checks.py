"""Checks of the regularization kernels."""
import torch
import torch.nn.functional as F

from etude.checks import exercise, points, public, speed
from etude.kernels.cases import KernelCases, values
from etude.kernels.launching import run
from etude.kernels.memory import Place
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race
from etude.kernels.workload import Workload
from etude.strategies import computed, for_all, value_of

OUTPUTS = {"loss": ("", torch.float32), "grad": "N V"}


def _led(drawn, sizes):
    """One logit leads each row by 1: the last of even rows, so that the maximum moves, and the first of odd ones.

    The longest rows are positive: the sum of their logits is beyond float16.
    """
    if sizes["V"] > 20_000:
        drawn = drawn.abs() + 5
    highest = drawn.amax(dim=-1) + 1
    drawn[::2, -1], drawn[1::2, 0] = highest[::2], highest[1::2]
    return drawn


def _some_ignored(generator, s):
    """(N,) classes, a quarter of them ignored; but the first row counts, and its leading class is not the right one.

    So the loss is never near 0, where what is left of it is rounding.
    """
    y = torch.randint(0, s["V"], (s["N"],), generator=generator)
    y = torch.where(torch.rand(s["N"], generator=generator) < 0.25, s["ignore_index"], y)
    if y[0] in (s["ignore_index"], s["V"] - 1):
        y[0] = 0
    return y


def _cases(y=_some_ignored, **others):
    return KernelCases(**{"logits": values("N V", _led, spike=99.0), "y": computed(y), "eps": value_of("eps"),
                          "ignore_index": value_of("ignore_index"), "sizes": {"N": (1, 5, 37), "V": (2, 67, 5003)},
                          "flags": {"eps": (0.1, 0.0, 0.5, 1.0), "ignore_index": (-100, 1, 5003)},
                          "legal": lambda s: s["N"] * s["V"] <= 30_000, **others})


SMOOTHED = _cases(also=[{"N": 4, "V": 64}])
LONG = _cases(sizes={"N": (2, 4), "V": (4097, 7001)}, also=[{"N": 2, "V": 40_009}], legal=lambda _: True,
              precisions=("float16", "float32"))
IGNORED = _cases(lambda generator, s: torch.full((s["N"],), s["ignore_index"]), sizes={"N": (1, 5), "V": (2, 67)})


def ls_cross_entropy(logits, y, eps, ignore_index):
    """What is expected: PyTorch's loss and gradient; 0 where PyTorch has 0 / 0, if every row is ignored."""
    if (y == ignore_index).all():
        return torch.zeros((), dtype=logits.dtype), torch.zeros_like(logits)
    with torch.enable_grad():
        z = logits.detach().requires_grad_()
        loss = F.cross_entropy(z, y, ignore_index=ignore_index, label_smoothing=eps)
        return loss.detach(), torch.autograd.grad(loss, z)[0]


def in_place(function):
    """`function(loss, logits, y, ...)`, which overwrites the logits, as a function (loss, grad, logits, y, ...).

    The memory of `grad` is filled with the logits and passed in their place; `logits` stay on this side.
    """
    def kernel(request):
        loss, grad, logits, y = request["buffers"]
        places = [Place.from_dict(place) for place in request["places"]]
        given = grad.clone()
        places[1].of(given).copy_(places[2].of(logits))
        sent = {**request, "buffers": [loss, given, y],
                "places": [place.to_dict() | ({"name": "logits"} if place.name == "grad" else {})
                           for place in (places[0], places[1], places[3])]}
        remote = getattr(function, "__kernel__", None)
        reply = remote(sent) if remote else run(function, sent)
        try:
            loss, grad, y = reply["buffers"]
        except (KeyError, TypeError, ValueError):  # another process may answer anything; `call` complains of it
            return reply
        return {**reply, "buffers": [loss, grad, logits, y]}

    def overwriting(*arguments, **settings):
        raise NotImplementedError("called through `__kernel__` only")
    overwriting.__kernel__ = kernel
    return overwriting


@exercise("fused_ls_cross_entropy")
@points(2)
@public
@for_all(case=SMOOTHED)
def test_loss_and_gradient(student, case):
    """Loss and gradient are right for any shape, stride, scale and precision, and the logits are left alone."""
    assert_kernel(student.fused_ls_cross_entropy, case, outputs=OUTPUTS, expected=ls_cross_entropy)


@exercise("fused_ls_cross_entropy")
@points(2)
@public
@for_all(case=LONG)
def test_in_place(student, case):
    """Both are right where the gradient overwrites the logits, and a row is longer than a block."""
    assert_kernel(in_place(student.fused_ls_cross_entropy_), case, outputs=OUTPUTS, expected=ls_cross_entropy)


@exercise("fused_ls_cross_entropy")
@points(1)
@public
@for_all(case=IGNORED, corners=False)
def test_everything_ignored(student, case):
    """If every row is ignored, the loss is 0, the gradient is written, as 0, and no target is taken for a class."""
    assert_in_bounds(student.fused_ls_cross_entropy, case, outputs=OUTPUTS)
    assert_kernel(student.fused_ls_cross_entropy, case, outputs=OUTPUTS, expected=ls_cross_entropy)


@exercise("fused_ls_cross_entropy")
@points(1)
@public
@for_all(case=SMOOTHED, corners=False)
def test_stays_in_bounds(student, case):
    """No memory but the tensors is touched, and only `loss` and `grad` are written to."""
    assert_in_bounds(student.fused_ls_cross_entropy, case, outputs=OUTPUTS)


@exercise("fused_ls_cross_entropy")
@points(1)
@public
@for_all(case=LONG, corners=False)
def test_programs_do_not_race(student, case):
    """In place, too, no two programs use an element that one of them writes, unless by atomic operations."""
    assert_no_race(in_place(student.fused_ls_cross_entropy_), case, outputs=OUTPUTS)


@exercise("fused_ls_cross_entropy")
@points(1)
@public
def test_builds_for_a_gpu(student):
    """It compiles for a GPU at 8192 x 128256, in bfloat16 and float32, and nothing spills."""
    said = ""
    for dtype in (torch.bfloat16, torch.float32):
        said = assert_builds(student.fused_ls_cross_entropy_,
                             {"loss": ((), torch.float32), "logits": ((8192, 128256), dtype)},
                             {"y": ((8192,), torch.int64)}, spills=0, eps=0.1, ignore_index=-100)
    return said


@exercise("fused_ls_cross_entropy")
@points(2)
@for_all(case=SMOOTHED, corners=False)
def test_other_examples(student, case):
    """Loss and gradient agree with PyTorch on other examples, in place and not, and nothing else is touched."""
    long = LONG.case({"N": 2, "V": 4097 + case.V % 3000}, case.flags, seed=case.seed + 1, layout=case.layout)
    for one in (case, long):
        overwriting = in_place(student.fused_ls_cross_entropy_)
        assert_in_bounds(overwriting, one, outputs=OUTPUTS)
        assert_kernel(overwriting, one, outputs=OUTPUTS, expected=ls_cross_entropy)
    assert_kernel(student.fused_ls_cross_entropy, long, outputs=OUTPUTS, expected=ls_cross_entropy)


def _some_rows_at_a_time(logits, y, eps, ignore_index):
    """`ls_cross_entropy` in float32, with a float32 copy of 512 rows in memory."""
    n, grad = (y != ignore_index).sum(), torch.empty_like(logits)
    total = torch.zeros((), device=logits.device)
    for rows in torch.arange(len(y), device=y.device).split(512):
        with torch.enable_grad():
            z = logits[rows].float().requires_grad_()
            loss = F.cross_entropy(z, y[rows], ignore_index=ignore_index, label_smoothing=eps, reduction="sum") / n
            grad[rows] = torch.autograd.grad(loss, z)[0].to(grad.dtype)
        total += loss.detach()
    return total, grad


@exercise("fused_ls_cross_entropy")
@points(3)
@speed
def test_speed():
    """The kernel is at most 1.2 times as slow as the reference, or reaches 0.8 of the bandwidth."""
    # Not in place: whoever times compares the inputs with what they were. The bytes are the same.
    N, V, size = 8192, 128256, 2

    def draw(generator, device):
        logits = torch.randn((N, V), generator=generator, device=device, dtype=torch.bfloat16)
        y = torch.randint(0, V, (N,), generator=generator, device=device)
        return logits, torch.where(torch.rand(N, generator=generator, device=device) < 0.1, -100, y)

    return [Workload(f"{N} x {V}, bfloat16", "fused_ls_cross_entropy", draw,
                     (((), torch.float32), ((N, V), torch.bfloat16)), _some_rows_at_a_time, 1e-2,
                     2 * N * V * size + 8 * N, 10 * N * V, {"eps": 0.1, "ignore_index": -100})]
