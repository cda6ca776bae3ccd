"""What students hand in for the graph kernels. A variant replaces the kernel, its launcher, or both."""
import torch

from autograder.variants import alternative, mistake
from etude.kernels import tl, triton


def _fused(total, weight, value):
    """Plain Python, which a kernel cannot call on a GPU."""
    return total + tl.sum(weight[:, None] * value, axis=0)


# ------------------------------------------------------------------------------------------------ masks and strides

@mistake("csr_spmm", "store_without_mask", "the store has no mask",
         hint="A block may be longer than what is left of a row: beyond F lies the next row.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total)


@mistake("csr_spmm", "features_not_masked", "the load of x masks the edges, not the features",
         hint="Beyond F lies the next row, and behind the last row no x at all.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column >= 0)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "features_off_by_one", "the mask lets one feature too many through",
         hint="Features count from 0: the last one is F - 1.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column <= F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column <= F)


@mistake("csr_spmm", "edges_not_masked", "a block of edges runs into those of the next row",
         hint="A row ends at the next row pointer, not where the block ends.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge >= first, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge >= first, other=0.0).to(tl.float32)
        inside = (edge >= first)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "one_edge_too_many", "the mask lets the first edge of the next row through",
         hint="The next row pointer is the next row's first edge; this row ends before it.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge <= last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge <= last, other=0.0).to(tl.float32)
        inside = (edge <= last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "masked_edges_come_from_node_0", "lanes without an edge count as an edge from node 0",
         hint="`other=` is what masked lanes hold: a weight of 0 adds nothing, or mask the rows of x, too.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=1.0).to(tl.float32)
        inside = (edge >= 0)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "rows_are_contiguous", "rows are taken to follow each other, F elements apart",
         hint="The start of row i is i times the tensor's `stride(0)`.")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    csr_spmm_kernel[(N, triton.cdiv(F, 64))](out, rowptr, col, w, x, F, F, F, BLOCK_E=16, BLOCK_F=64)


@mistake("csr_spmm", "one_stride_for_both", "the row stride of x is used for out, too",
         hint="Each tensor has strides of its own.")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    csr_spmm_kernel[(N, triton.cdiv(F, 64))](out, rowptr, col, w, x, F, x.stride(0), x.stride(0), BLOCK_E=16,
                                             BLOCK_F=64)


@mistake("csr_spmm", "only_the_first_features", "only the first block of features is computed",
         hint="The grid needs as many programs along F as blocks fit, rounded up.")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    csr_spmm_kernel[(N, 1)](out, rowptr, col, w, x, F, out.stride(0), x.stride(0), BLOCK_E=16, BLOCK_F=64)


@mistake("csr_spmm", "last_row_left_out", "the last row is not computed",
         hint="There are N + 1 row pointers and N rows; each row needs a program.")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    csr_spmm_kernel[(max(N - 1, 1), triton.cdiv(F, 64))](out, rowptr, col, w, x, F, out.stride(0), x.stride(0),
                                                         BLOCK_E=16, BLOCK_F=64)


# ------------------------------------------------------------------------------------------------ the sum

@mistake("csr_spmm", "last_edge_left_out", "the last edge of each row is left out",
         hint="A row's edges go up to the one before the next row pointer, which is one past the last.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last - 1, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last - 1, other=0.0).to(tl.float32)
        inside = (edge < last - 1)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "starts_at_the_first_edge_of_all", "every row begins with the first edge of the graph",
         hint="A row's edges begin at its own row pointer.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    last = tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(0, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "only_the_first_block_of_edges", "only the first block of a row's edges is added",
         hint="Rows have any number of edges: a loop has to go over them.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, tl.minimum(last, first + 1), BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "last_block_overwrites", "a block of edges replaces the sum so far",
         hint="What earlier blocks added has to stay.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total = tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "rows_without_edges_unwritten", "rows without edges are not written",
         hint="An empty sum is 0, and the caller's out holds NaN.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=(column < F) & (first < last))


@mistake("csr_spmm", "weights_missing", "the weights are not used",
         hint="In Eq. (1) each row of x is multiplied by its edge's weight.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(value + 0 * weight[:, None], axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "weight_of_the_node", "the weight is looked up by node, not by edge",
         hint="w has one number for each edge, in the order of the edges.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + source, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "own_row_of_x", "each edge brings the row of the node that it leads to",
         hint="An edge brings what the node has that it comes from: `col` says which.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        source = source * 0 + row
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "mean_over_edges", "the sum is divided by the number of edges",
         hint="Eq. (1) is a sum; where a mean is wanted, the weights say so.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total / tl.maximum(last - first, 1), mask=column < F)


@mistake("csr_spmm", "sum_in_half", "the sum is rounded to the dtype of out after every block",
         hint="A long sum loses its small terms: keep it in float32, and let the store round.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
        total = total.to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * out_row + column, total, mask=column < F)


@mistake("csr_spmm", "python_in_the_kernel", "the kernel calls a Python function",
         hint="The interpreter runs any Python, a GPU does not: decorate the function with `@triton.jit`.")
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total = _fused(total, weight, value)
    tl.store(out + row * out_row + column, total, mask=column < F)


# ------------------------------------------------------------------------------------------------ who adds up

@triton.jit
def _part_of_row(rowptr, col, w, x, row, column, F, x_row, part, parts, BLOCK_F: tl.constexpr):
    """What every so many-th edge of a row adds."""
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for edge in range(first + part, last, parts):
        source = tl.load(col + edge).to(tl.int64)
        total += tl.load(w + edge).to(tl.float32) * tl.load(x + source * x_row + column, mask=column < F,
                                                            other=0.0).to(tl.float32)
    return total


@triton.jit
def _zero_kernel(total, F, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    tl.store(total + row * F + column, tl.zeros([BLOCK_F], dtype=tl.float32), mask=column < F)


@triton.jit
def _copy_kernel(out, total, F, out_row, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    tl.store(out + row * out_row + column, tl.load(total + row * F + column, mask=column < F, other=0.0),
             mask=column < F)


@triton.jit
def _atomic_kernel(total, rowptr, col, w, x, F, total_row, x_row, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    added = _part_of_row(rowptr, col, w, x, row, column, F, x_row, tl.program_id(2), tl.num_programs(2), BLOCK_F)
    tl.atomic_add(total + row * total_row + column, added, mask=column < F)


@triton.jit
def _racing_kernel(total, rowptr, col, w, x, F, total_row, x_row, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    added = _part_of_row(rowptr, col, w, x, row, column, F, x_row, tl.program_id(2), tl.num_programs(2), BLOCK_F)
    before = tl.load(total + row * total_row + column, mask=column < F, other=0.0)
    tl.store(total + row * total_row + column, before + added, mask=column < F)


@triton.jit
def _overwriting_kernel(total, rowptr, col, w, x, F, total_row, x_row, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    added = _part_of_row(rowptr, col, w, x, row, column, F, x_row, tl.program_id(2), tl.num_programs(2), BLOCK_F)
    tl.store(total + row * total_row + column, added, mask=column < F)


@mistake("csr_spmm", "atomic_operations", "several programs add to one row by atomic operations",
         hint="The values are right, but atomic operations come in any order, and so do the roundings: the last bits "
              "differ from run to run. One program for each row needs none.")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    grid, total = (N, triton.cdiv(F, 64)), torch.empty((N, F), dtype=torch.float32, device=x.device)
    _zero_kernel[grid](total, F, BLOCK_F=64)
    _atomic_kernel[(*grid, 4)](total, rowptr, col, w, x, F, F, x.stride(0), BLOCK_F=64)
    _copy_kernel[grid](out, total, F, out.stride(0), BLOCK_F=64)


@mistake("csr_spmm", "programs_race", "several programs add to one row without atomic operations",
         hint="Between a program's load and its store another may have stored: one program for each row needs neither.")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    grid, total = (N, triton.cdiv(F, 64)), torch.empty((N, F), dtype=torch.float32, device=x.device)
    _zero_kernel[grid](total, F, BLOCK_F=64)
    _racing_kernel[(*grid, 4)](total, rowptr, col, w, x, F, F, x.stride(0), BLOCK_F=64)
    _copy_kernel[grid](out, total, F, out.stride(0), BLOCK_F=64)


@mistake("csr_spmm", "programs_overwrite", "several programs store their part of a row, and the last one stays",
         hint="A row is the sum of all its edges.")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    _overwriting_kernel[(N, triton.cdiv(F, 64), 2)](out, rowptr, col, w, x, F, out.stride(0), x.stride(0), BLOCK_F=64)


@mistake("csr_spmm", "adds_to_what_was_there", "the sum is added to what out held before the call",
         hint="The caller's out holds NaN: a sum has to begin with zeros.")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    _racing_kernel[(N, triton.cdiv(F, 64), 1)](out, rowptr, col, w, x, F, out.stride(0), x.stride(0), BLOCK_F=64)


# ------------------------------------------------------------------------------------------------ right, otherwise

@alternative("csr_spmm", "edge_by_edge")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    _overwriting_kernel[(N, triton.cdiv(F, 32), 1)](out, rowptr, col, w, x, F, out.stride(0), x.stride(0), BLOCK_F=32,
                                                    num_warps=1)


@triton.jit
def _partial_kernel(partial, rowptr, col, w, x, N, F, x_row, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    part = tl.program_id(2)
    added = _part_of_row(rowptr, col, w, x, row, column, F, x_row, part, tl.num_programs(2), BLOCK_F)
    tl.store(partial + (part * N + row) * F + column, added, mask=column < F)


@triton.jit
def _sum_kernel(out, partial, N, F, out_row, PARTS: tl.constexpr, BLOCK_F: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for part in tl.static_range(PARTS):
        total += tl.load(partial + (part * N + row) * F + column, mask=column < F, other=0.0)
    tl.store(out + row * out_row + column, total, mask=column < F)


@alternative("csr_spmm", "rows_split_and_summed")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    grid, partial = (N, triton.cdiv(F, 64)), torch.empty((2, N, F), dtype=torch.float32, device=x.device)
    _partial_kernel[(*grid, 2)](partial, rowptr, col, w, x, N, F, x.stride(0), BLOCK_F=64)
    _sum_kernel[grid](out, partial, N, F, out.stride(0), PARTS=2, BLOCK_F=64)


@triton.jit
def _rows_kernel(out, rowptr, col, w, x, N, F, out_row, x_row, ROWS: tl.constexpr, BLOCK_F: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    first = tl.load(rowptr + row, mask=row < N, other=0)
    last = tl.load(rowptr + row + 1, mask=row < N, other=0)
    total = tl.zeros([ROWS, BLOCK_F], dtype=tl.float32)
    for turn in range(0, tl.max(last - first, axis=0)):
        edge = first + turn
        source = tl.load(col + edge, mask=edge < last, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=edge < last, other=0.0).to(tl.float32)
        inside = (edge < last)[:, None] & (column < F)[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += weight[:, None] * value
    place = out + row.to(tl.int64)[:, None] * out_row + column[None, :]
    tl.store(place, total, mask=(row < N)[:, None] & (column < F)[None, :])


@alternative("csr_spmm", "four_rows_a_program")
def csr_spmm(out, rowptr, col, w, x):
    N, F = x.shape
    _rows_kernel[(triton.cdiv(N, 4), triton.cdiv(F, 64))](out, rowptr, col, w, x, N, F, out.stride(0), x.stride(0),
                                                          ROWS=4, BLOCK_F=64)
