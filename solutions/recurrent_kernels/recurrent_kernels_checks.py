"""Checks of the recurrent kernels."""
import torch

from etude.checks import exercise, points, public, speed
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race
from etude.kernels.workload import Workload
from etude.strategies import for_all

# A scan costs the interpreter 0.05 ms an element of its block, so most examples are small; T = 133 is several chunks.
SIZES = {"B": (1, 2), "T": (1, 24, 133), "D": (1, 4, 35)}


def decays(dims):
    """Between -1 and 1, as larger ones grow without bound; where values are shifted, most are 1 and forget nothing."""
    return values(dims, lambda drawn, _: torch.tanh(drawn))


RECURRENCE = KernelCases(a=decays("B T D"), b=values("B T D"), h0=values("B D"), sizes=SIZES)
# Eq. (6) is linear in h, and holds for any: there is no need for one that belongs to the rest.
GRADIENT = KernelCases(dh=values("B T D"), a=decays("B T D"), h=values("B T D"), h0=values("B D"), sizes=SIZES)
PAIRS = KernelCases(a1=values("K"), b1=values("K"), a2=values("K"), b2=values("K"), sizes={"K": (1, 5, 133)},
                    precisions=("float32",))
# A large state that forgets nothing, and additions so small that float16 loses those of 32 steps together.
LONG = KernelCases(a=values("B T D", lambda drawn, _: torch.ones_like(drawn)),
                   b=values("B T D", lambda drawn, _: 4.5e-4 + 2e-5 * torch.tanh(drawn)),
                   h0=values("B D", lambda drawn, _: 34 + torch.tanh(drawn)), sizes=SIZES, precisions=("float16",))


def recurrence(a, b, h0):
    """What is expected, in PyTorch: one step after the other."""
    states = [h0]
    for t in range(a.shape[1]):
        states.append(torch.addcmul(b[:, t], a[:, t], states[-1]))
    return torch.stack(states[1:], dim=1)


def recurrence_gradients(dh, a, h, h0):
    """Backpropagation through time, by hand."""
    arrived = torch.zeros_like(h0)
    totals = [arrived] * a.shape[1]
    for t in reversed(range(a.shape[1])):
        totals[t] = dh[:, t] + arrived
        arrived = a[:, t] * totals[t]
    db = torch.stack(totals, dim=1)
    return db * torch.cat([h0[:, None], h[:, :-1]], dim=1), db, arrived


def composed(a1, b1, a2, b2):
    """The second line of one after the other, multiplied out."""
    return a2 * a1, b1 * a2 + b2


FORWARD, BACKWARD = {"h": "B T D"}, {"da": "B T D", "db": "B T D", "dh0": "B D"}


@exercise("linear_recurrence_triton")
@points(1)
@public
@for_all(case=PAIRS, corners=False)
def test_composition(student, case):
    """Two steps after each other are one step, whatever was joined before."""
    assert_kernel(student.compose_triton, case, outputs={"a": "K", "b": "K"}, expected=composed)


@exercise("linear_recurrence_triton")
@points(2)
@public
@for_all(case=RECURRENCE)
def test_forward(student, case):
    """The states are right for any shape, stride, scale and precision."""
    assert_kernel(student.linear_recurrence_triton, case, outputs=FORWARD, expected=recurrence)


@exercise("linear_recurrence_triton")
@points(2)
@public
@for_all(case=GRADIENT)
def test_backward(student, case):
    """The backward pass gives the gradients of backpropagation through time."""
    assert_kernel(student.linear_recurrence_triton_backward, case, outputs=BACKWARD, expected=recurrence_gradients)


@exercise("linear_recurrence_triton")
@points(1)
@public
@for_all(case=RECURRENCE, corners=False)
def test_forward_stays_in_bounds(student, case):
    """The forward pass touches no memory but its tensors, and writes to `h` alone."""
    assert_in_bounds(student.linear_recurrence_triton, case, outputs=FORWARD)


@exercise("linear_recurrence_triton")
@points(1)
@public
@for_all(case=GRADIENT, corners=False)
def test_backward_stays_in_bounds(student, case):
    """The backward pass touches no memory but its tensors, and writes to the gradients alone."""
    assert_in_bounds(student.linear_recurrence_triton_backward, case, outputs=BACKWARD)


@exercise("linear_recurrence_triton")
@points(1)
@public
def test_programs_do_not_race(student):
    """No two programs use an element that one of them writes, unless by atomic operations."""
    assert_no_race(student.linear_recurrence_triton, RECURRENCE.case({"B": 2, "T": 69, "D": 3}), outputs=FORWARD)
    assert_no_race(student.linear_recurrence_triton_backward, GRADIENT.case({"B": 2, "T": 69, "D": 3}),
                   outputs=BACKWARD)


@exercise("linear_recurrence_triton")
@points(1)
@public
def test_builds_for_a_gpu(student):
    """Both passes compile for a GPU at 16 x 4096 x 1024, in bfloat16 and float32, and nothing spills."""
    said = []
    for dtype in (torch.bfloat16, torch.float32):
        sequence, state = ((16, 4096, 1024), dtype), ((16, 1024), dtype)
        said = [assert_builds(student.linear_recurrence_triton, {"h": sequence},
                              {"a": sequence, "b": sequence, "h0": state}, spills=0),
                assert_builds(student.linear_recurrence_triton_backward, {"da": sequence, "db": sequence, "dh0": state},
                              {"dh": sequence, "a": sequence, "h": sequence, "h0": state}, spills=0)]
    return " ".join(said)


@exercise("linear_recurrence_triton")
@points(1)
def test_long_memory(student):
    """A state that forgets nothing keeps small additions, in half precision, too."""
    assert_kernel(student.linear_recurrence_triton, LONG.case({"B": 1, "T": 389, "D": 3}), outputs=FORWARD,
                  expected=recurrence)


@exercise("linear_recurrence_triton")
@points(2)
@for_all(case=GRADIENT, corners=False)
def test_both_passes_together(student, case):
    """Forward and backward agree with PyTorch on other examples."""
    assert_kernel(student.linear_recurrence_triton_backward, case, outputs=BACKWARD, expected=recurrence_gradients)
    forward = RECURRENCE.case(case.sizes, case.flags, seed=case.seed + 1, layout=case.layout)
    assert_kernel(student.linear_recurrence_triton, forward, outputs=FORWARD, expected=recurrence)


def _draw(sequences, shape):
    """float32: decays between 0 and 1 are the one of `sequences` whose name is `a`; a state comes last."""
    def make(generator, device):
        made = [torch.randn(shape, generator=generator, device=device) for _ in sequences]
        made[sequences.index("a")].sigmoid_()
        return (*made, torch.randn((shape[0], shape[2]), generator=generator, device=device))
    return make


@exercise("linear_recurrence_triton")
@points(3)
@speed
def test_speed():
    """Both passes are at most 1.2 times as slow as the reference, or reach 0.8 of the bandwidth."""
    B, T, D, size = 64, 4096, 1024, 4
    sequence, state = ((B, T, D), torch.float32), ((B, D), torch.float32)
    return [
        Workload("forward, 64 x 4096 x 1024, float32", "linear_recurrence_triton", _draw(["a", "b"], (B, T, D)),
                 (sequence,), lambda a, b, h0: (recurrence(a, b, h0),), 1e-4,
                 3 * B * T * D * size + B * D * size, 2 * B * T * D),
        Workload("backward, 64 x 4096 x 1024, float32", "linear_recurrence_triton_backward",
                 _draw(["dh", "a", "h"], (B, T, D)), (sequence, sequence, state), recurrence_gradients, 1e-4,
                 5 * B * T * D * size + 2 * B * D * size, 3 * B * T * D),
    ]
