"""Checks of the graph kernels."""
import torch

from etude.checks import exercise, points, public, speed
from etude.failures import CheckFailure
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_in_bounds, assert_kernel, assert_no_race, run_kernel
from etude.kernels.workload import Workload
from etude.strategies import computed, for_all


def _pointers(generator, sizes):
    """(N + 1,) int32 of a graph: rows at random; most edges in one row; or the first and every second row empty."""
    N, E = sizes["N"], sizes["E"]
    rows = torch.randint(0, N, (E,), generator=generator)
    if sizes["graph"] == "hub":
        rows[E // 4:] = N // 2
    elif sizes["graph"] == "gaps":
        rows = (rows // 2 * 2 + 1).clamp(max=N - 1)
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(rows, minlength=N).cumsum(0)]).int()


def _sources(generator, sizes):
    return torch.randint(0, sizes["N"], (sizes["E"],), generator=generator, dtype=torch.int32)


def _scaled(drawn, sizes):
    """Weights such that sums stay within float16."""
    return drawn / max(1.0, sizes["E"] / 16)


def graphs(**others):
    return KernelCases(**{"rowptr": computed(_pointers), "col": computed(_sources), "w": values("E", _scaled),
                          "x": values("N F"), "sizes": {"N": (1, 7, 37), "E": (0, 40, 150), "F": (1, 9, 133)},
                          "flags": {"graph": ("random", "hub", "gaps")}, "also": [{"N": 5, "E": 30, "F": 8}], **others})


def _one_heavy(drawn, _):
    drawn = 4.5e-4 + 2e-5 * torch.tanh(drawn)
    drawn[0] = 34.0
    return drawn


GRAPHS = graphs()
# One heavy edge, and many so light that float16 loses those of a block together.
LONG_ROW = graphs(w=values("E", _one_heavy), x=values("N F", lambda drawn, _: 1 + 0.01 * torch.tanh(drawn)),
                  precisions=("float16",))
def _cancelling(drawn, _):
    drawn[::2] *= 1e6
    drawn[1::2] -= drawn[:len(drawn) // 2 * 2:2]
    return drawn


# Large terms of either sign, of which little is left: another order of adding them up shows.
CANCELLING = graphs(w=values("E", _cancelling), x=values("N F", lambda drawn, _: torch.ones_like(drawn)))
OUT = {"out": "N F"}


def product(rowptr, col, w, x):
    """What is expected, in PyTorch: gather, multiply, scatter."""
    into = torch.repeat_interleave(torch.arange(x.shape[0], device=x.device), rowptr.diff())
    return torch.zeros_like(x).index_add(0, into, w[:, None] * x[col.long()])


@exercise("csr_spmm")
@points(3)
@public
@for_all(case=GRAPHS)
def test_values(student, case):
    """The product is right for any graph, shape, stride, scale and precision; rows without edges are 0."""
    assert_kernel(student.csr_spmm, case, outputs=OUT, expected=product)


@exercise("csr_spmm")
@points(1)
@public
@for_all(case=GRAPHS)
def test_stays_in_bounds(student, case):
    """The kernel touches no memory but its tensors, and writes to `out` alone."""
    assert_in_bounds(student.csr_spmm, case, outputs=OUT)


@exercise("csr_spmm")
@points(1)
@public
@for_all(case=GRAPHS, corners=False)
def test_programs_do_not_race(student, case):
    """No two programs use an element that one of them writes, unless by atomic operations."""
    assert_no_race(student.csr_spmm, case, outputs=OUT)


@exercise("csr_spmm")
@points(1)
@public
def test_same_bits(student):
    """Two runs give the same bits, in whatever order programs run."""
    case = CANCELLING.case({"N": 1, "E": 150, "F": 9})
    one, other = (run_kernel(student.csr_spmm, case, OUT, order=order)[0]["out"] for order in (1, 2))
    differs = (one != other) & ~(one.isnan() & other.isnan())
    if differs.any():
        raise CheckFailure(f"{int(differs.sum())} of {one.numel()} elements have other last bits in a second run.",
                           hint="Floating-point sums depend on the order of their terms, and atomic operations come in "
                                "any order: let one program add up all edges of a row.")


@exercise("csr_spmm")
@points(1)
@public
def test_builds_for_a_gpu(student):
    """The kernel compiles for a GPU with 128 features, in bfloat16 and float32, and nothing spills."""
    said = ""
    for dtype in (torch.bfloat16, torch.float32):
        said = assert_builds(student.csr_spmm, {"out": ((4096, 128), dtype)},
                             {"rowptr": torch.arange(0, 16 * 4097, 16, dtype=torch.int32),
                              "col": ((16 * 4096,), torch.int32), "w": ((16 * 4096,), dtype),
                              "x": ((4096, 128), dtype)}, spills=0)
    return said


@exercise("csr_spmm")
@points(1)
def test_long_row(student):
    """A row of many small terms keeps them, in half precision, too."""
    assert_kernel(student.csr_spmm, LONG_ROW.case({"N": 1, "E": 389, "F": 3}), outputs=OUT, expected=product)


@exercise("csr_spmm")
@points(2)
@for_all(case=GRAPHS, corners=False)
def test_other_graphs(student, case):
    """The product is right on other graphs."""
    assert_kernel(student.csr_spmm, case, outputs=OUT, expected=product)


@exercise("csr_spmm")
@points(3)
@speed
def test_speed():
    """The kernel is at most 1.2 times as slow as the reference, or reaches 0.8 of the bandwidth."""
    N, degree, F, size = 1_000_000, 16, 128, 4
    E = N * degree

    def draw(generator, device):
        lengths = torch.randint(0, 2 * degree + 1, (N // 2,), generator=generator, device=device)
        rowptr = torch.cat([torch.zeros_like(lengths[:1]), torch.cat([lengths, 2 * degree - lengths]).cumsum(0)]).int()
        return (rowptr, torch.randint(0, N, (E,), generator=generator, device=device, dtype=torch.int32),
                torch.randn(E, generator=generator, device=device),
                torch.randn((N, F), generator=generator, device=device))

    return [Workload("1000000 nodes, 16000000 edges, 128 features, float32", "csr_spmm", draw,
                     (((N, F), torch.float32),), lambda *inputs: (product(*inputs),), 1e-4,
                     8 * E + 4 * (N + 1) + 2 * N * F * size, 2 * E * F)]
