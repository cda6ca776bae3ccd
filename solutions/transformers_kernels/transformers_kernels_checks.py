"""Checks of the transformer kernels."""
import torch

from etude.checks import exercise, points, public, speed
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race
from etude.kernels.workload import Workload
from etude.strategies import for_all, value_of

OUTPUTS = {"o": "B H T d", "lse": ("B H T", torch.float32)}

# A score of 100 has an error of 1e-5 in float32 whatever the order of its sum, and its weight inherits it: so queries
# are small where keys are large, and the bound is 1e-4. In float16, weights may be rounded before the product: two
# roundings of 5e-4 each, of values that may be larger than the largest output.
TOLERANCE = {"float32": 1e-4, "float16": 3e-3}


def _smaller(q, sizes):
    return q * {"normal": 1.0, "shifted": 0.1, "structured": 0.01}[sizes["regime"]]


def _rising(k, sizes):
    """Keys that grow with their position: the largest score of a row moves from block to block, up to 200."""
    if sizes["regime"] != "normal":
        return k
    return k * torch.linspace(0, 50, k.shape[-2], dtype=k.dtype)[:, None]


FLASH = KernelCases(q=values("B H T d", at=_smaller), k=values("B H T d"), v=values("B H T d"),
                    causal=value_of("causal"), sizes={"B": (1, 2), "H": (1, 3), "T": (1, 20), "d": (1, 20, 72)},
                    flags={"causal": (True, False)}, also=[{"B": 1, "H": 1, "T": 64, "d": 16}])
LONG = KernelCases(q=values("B H T d", at=_smaller), k=values("B H T d", at=_rising), v=values("B H T d"),
                   causal=value_of("causal"), flags={"causal": (True, False)},
                   sizes={"B": (1, 1), "H": (1, 1), "T": (66, 150), "d": (3, 20)})


def attention(q, k, v, causal):
    """What is expected, in PyTorch."""
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / q.shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    return torch.softmax(scores, dim=-1) @ v, torch.logsumexp(scores, dim=-1)


@exercise("flash_attention_fwd")
@points(2)
@public
@for_all(case=FLASH)
def test_attention(student, case):
    """Output and lse are right for any shape, stride, scale and precision, causal or not."""
    assert_kernel(student.flash_attention_fwd, case, outputs=OUTPUTS, expected=attention,
                  tolerance=TOLERANCE[case.precision])


@exercise("flash_attention_fwd")
@points(2)
@public
@for_all(case=LONG, corners=False)
def test_many_blocks(student, case):
    """Both are right where the keys take several blocks and the largest score moves from one to the next."""
    assert_kernel(student.flash_attention_fwd, case, outputs=OUTPUTS, expected=attention,
                  tolerance=TOLERANCE[case.precision])


@exercise("flash_attention_fwd")
@points(1)
@public
@for_all(case=FLASH, corners=False)
def test_stays_in_bounds(student, case):
    """The kernel touches no memory but its tensors, and writes to `o` and `lse` alone."""
    assert_in_bounds(student.flash_attention_fwd, case, outputs=OUTPUTS)


@exercise("flash_attention_fwd")
@points(1)
@public
@for_all(case=LONG, corners=False)
def test_programs_do_not_race(student, case):
    """No two programs use an element that one of them writes, unless by atomic operations."""
    assert_no_race(student.flash_attention_fwd, case, outputs=OUTPUTS)


@exercise("flash_attention_fwd")
@points(1)
@public
def test_builds_for_a_gpu(student):
    """It compiles for a GPU; bfloat16 uses tensor cores and does not spill, float32 is not rounded to TF32."""
    said = []
    for dtype in (torch.bfloat16, torch.float32):
        half = dtype == torch.bfloat16
        heads = ((4, 16, 4096, 64), dtype)
        said.append(assert_builds(student.flash_attention_fwd, {"o": heads, "lse": ((4, 16, 4096), torch.float32)},
                                  {"q": heads, "k": heads, "v": heads}, spills=0 if half else None, tensor_cores=half,
                                  no_tf32=not half, causal=True))
    return " ".join(said)


@exercise("flash_attention_fwd")
@points(3)
@for_all(case=LONG, corners=False)
def test_other_examples(student, case):
    """Output and lse agree with PyTorch on other examples, short and long."""
    short = FLASH.case({"B": 2, "H": 2, "T": case.T % 23 + 1, "d": case.d}, case.flags, seed=case.seed + 1,
                       layout=case.layout)
    for one in (case, short):
        assert_kernel(student.flash_attention_fwd, one, outputs=OUTPUTS, expected=attention,
                      tolerance=TOLERANCE[one.precision])


def _one_head_at_a_time(q, k, v, causal):
    """`attention` in float32, with one head's scores in memory."""
    rows = [attention(*(x[b:b + 1, h:h + 1].float() for x in (q, k, v)), causal)
            for b in range(q.shape[0]) for h in range(q.shape[1])]
    o, lse = (torch.cat(parts).reshape(*q.shape[:2], *parts[0].shape[2:]) for parts in zip(*rows, strict=True))
    return o.to(q.dtype), lse


@exercise("flash_attention_fwd")
@points(3)
@speed
def test_speed():
    """The kernel is at most 1.2 times as slow as the reference, or reaches 0.8 of what a matrix product reaches."""
    B, H, T, d, size = 4, 16, 8192, 64, 2

    def draw(generator, device):
        return tuple(torch.randn((B, H, T, d), generator=generator, device=device, dtype=torch.bfloat16)
                     for _ in range(3))
    return [
        Workload(f"{B} x {H} x {T} x {d}, bfloat16, {name}", "flash_attention_fwd", draw,
                 (((B, H, T, d), torch.bfloat16), ((B, H, T), torch.float32)), _one_head_at_a_time, 2e-2,
                 4 * B * H * T * d * size + 4 * B * H * T, 4 * B * H * T * T * d // (2 if causal else 1),
                 {"causal": causal})
        for name, causal in (("all keys", False), ("causal", True))
    ]
