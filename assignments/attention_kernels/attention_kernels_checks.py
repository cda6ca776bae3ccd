"""The public checks of attention_kernels.ipynb. Made by `autograder build` from the course; do not edit."""

import torch

from etude.checks import exercise, points, public
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race
from etude.strategies import computed, for_all

OUTPUTS = {"o": "B H T d"}
# Sums of either sign leave an output that is smaller than what was added, and powers of 0.1 up to 64 lose three digits
# of the exponent: hence 1e-4. TF32 has as many digits as float16, and rounds the states once more.
TOLERANCE = {"float32": 1e-4, "float16": 4e-3}


def _smaller(q, sizes):
    """Outputs of every regime have to fit into float16."""
    return q * {"normal": 1.0, "shifted": 0.1 / sizes["d"], "structured": 0.01}[sizes["regime"]]


def _decays(generator, sizes):
    """Decays that differ from head to head; the first head's is small enough to overflow when one divides by it."""
    known = torch.tensor([0.1, 1.0, 0.97, 0.8])
    return known[torch.randint(0, 4, (sizes["H"],), generator=generator)]


LINEAR = KernelCases(q=values("B H T d", at=_smaller), k=values("B H T d"), v=values("B H T d"),
                     gamma=computed(_decays), sizes={"B": (1, 2), "H": (1, 3), "T": (1, 20), "d": (1, 20)},
                     also=[{"B": 1, "H": 1, "T": 64, "d": 40}])
LONG = KernelCases(q=values("B H T d", at=_smaller), k=values("B H T d"), v=values("B H T d"), gamma=computed(_decays),
                   sizes={"B": (1, 1), "H": (2, 2), "T": (66, 150), "d": (3, 20)})


def retention(q, k, v, gamma):
    """What is expected, in PyTorch: the quadratic form."""
    place = torch.arange(q.shape[-2], device=q.device)
    apart = place[:, None] - place
    decay = torch.where(apart < 0, 0, gamma.to(q.dtype)[:, None, None] ** apart.clamp(min=0))
    return (torch.einsum("bhtd,bhsd->bhts", q, k) * decay) @ v


@exercise("linear_attention_chunked")
@points(2)
@public
@for_all(case=LINEAR)
def test_attention(student, case):
    """The output is right for any shape, stride, decay, scale and precision."""
    assert_kernel(student.linear_attention_chunked, case, outputs=OUTPUTS, expected=retention,
                  tolerance=TOLERANCE[case.precision])


@exercise("linear_attention_chunked")
@points(2)
@public
@for_all(case=LONG, corners=False)
def test_many_chunks(student, case):
    """It is right where sequences take several chunks, the last of them shorter."""
    assert_kernel(student.linear_attention_chunked, case, outputs=OUTPUTS, expected=retention,
                  tolerance=TOLERANCE[case.precision])


@exercise("linear_attention_chunked")
@points(1)
@public
@for_all(case=LINEAR, corners=False)
def test_stays_in_bounds(student, case):
    """The kernels touch no memory but their tensors, and write to `o` alone."""
    assert_in_bounds(student.linear_attention_chunked, case, outputs=OUTPUTS)


@exercise("linear_attention_chunked")
@points(1)
@public
def test_programs_do_not_race(student):
    """No two programs use an element that one of them writes in the same launch, unless by atomic operations."""
    for seed, layout in enumerate(("contiguous", "strided")):
        case = LONG.case({"B": 1, "H": 2, "T": 150, "d": 9}, seed=seed, layout=layout)
        assert_no_race(student.linear_attention_chunked, case, outputs=OUTPUTS)


@exercise("linear_attention_chunked")
@points(1)
@public
def test_builds_for_a_gpu(student):
    """It compiles for a GPU; bfloat16 uses tensor cores and does not spill, float32 is not rounded to TF32."""
    said = []
    for dtype in (torch.bfloat16, torch.float32):
        half = dtype == torch.bfloat16
        heads = ((4, 16, 8192, 64), dtype)
        said.append(assert_builds(student.linear_attention_chunked, {"o": heads},
                                  {"q": heads, "k": heads, "v": heads, "gamma": ((16,), torch.float32)},
                                  spills=0 if half else None, tensor_cores=half, no_tf32=not half))
    return " ".join(said)
