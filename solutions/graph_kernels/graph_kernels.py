# %% [markdown]
# # Graph kernels
#
# A layer of a graph network collects, for each node, what its neighbours have: a sum over edges, a *sparse matrix times
# a dense one*. In PyTorch that is a gather, a multiplication and a scatter, each over a tensor with one row **per
# edge**, and graphs have many more edges than nodes. Here you write it as one [Triton](https://triton-lang.org)
# kernel, which never makes that tensor.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `csr_spmm` | ★★ | 75 | rows of different length, indices from memory, empty rows, the same bits every time |
#
# ### Without a GPU
#
# You need none. On a CPU, Triton's *interpreter* runs every program of your kernel with NumPy, and `check` looks over
# its shoulder: at every address it touches, at elements that two programs use, at the values. Then the kernel is
# compiled for an H100 or H200, which tells registers and spills. Only its **speed** has to wait for a GPU:
# those points stay *pending* until your course runs them. How that works: `docs/kernels.md` of the course.
#
# ### Rules for every exercise
#
# - **Destinations come first, nothing is returned.** The caller allocates `out`, and fills it with NaN.
# - `x` and `out` have shape `(N, F)`, any row stride and a contiguous last axis: element $(i, j)$ of `x` lies at
#   `x + i * x.stride(0) + j`. Each has a stride of its own. The other tensors are contiguous.
# - `float` is float32 or float16 (on a GPU also bfloat16), all tensors alike. **Compute in float32**, whatever comes
#   in; storing rounds. Indices are int32.
# - Grids and blocks are yours to choose, and so are the kernel's arguments. Any number of launches. No PyTorch
#   operation touches the data; `torch.empty` for scratch memory is fine. Nothing waits for the GPU: no `.item()`, no
#   `.cpu()`.
# - Plain pointers only. What your code needs lies in the exercise's cell.

# %% role="setup"
import torch
from torch import Tensor

from etude import check, hint, progress
from etude.kernels import tl, triton

# %% [markdown]
# ## Compressed rows
#
# Sort the edges by the node that they lead to. Then the edges into node $i$ stand next to each other, at the places
# $p_i, \dots, p_{i+1} - 1$, and $N + 1$ row pointers $p$ say where, with $p_0 = 0$ and $p_N = E$. Edge $e$ comes from
# node $c_e$ and has weight $w_e$. This is *compressed sparse row* storage, CSR, and the product is
#
# $$ y_{ij} = \sum_{e = p_i}^{p_{i+1} - 1} w_e\, x_{c_e j}. \tag{1} $$
#
# A node without incoming edges has $p_i = p_{i+1}$: the sum is empty, and **$y_i$ is 0**. Two edges may join the same
# two nodes; both count.

# %%
import matplotlib.pyplot as plt

pointers, sources = [0, 2, 2, 3, 7], [1, 3, 0, 0, 1, 2, 3]
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained", width_ratios=[1, 2])
for i in range(4):
    for e in range(pointers[i], pointers[i + 1]):
        left.text(sources[e], i, f"$w_{e}$", ha="center", va="center")
left.set(title="the matrix", xlabel="from node", ylabel="into node", xlim=(-0.5, 3.5), ylim=(3.5, -0.5),
         xticks=range(4), yticks=range(4))
for e, source in enumerate(sources):
    right.add_patch(plt.Rectangle((e, 0), 1, 1, fill=False))
    right.text(e + 0.5, 0.5, f"{source}", ha="center", va="center")
for i in range(4):
    begin, end = pointers[i], pointers[i + 1]
    right.annotate(f"$p_{i}$ = {begin}", (begin, 1),
                   (begin - 0.8 * (i == 1), 2.2 + 0.4 * (i == 1)), ha="center", fontsize=9,
                   arrowprops={"arrowstyle": "->"})
    if begin < end:
        right.text((begin + end) / 2, -0.5, f"node {i}", ha="center", fontsize=9)
        right.plot([begin, begin], [-0.6, 1.1], color="#222222", linewidth=3)
right.annotate("$p_4$ = 7", (7, 1), (7, 2.2), ha="center", fontsize=9, arrowprops={"arrowstyle": "->"})
right.set(title="c, sorted by the node that edges lead to", xlim=(-0.5, 7.5), ylim=(-1, 3))
right.axis("off")
plt.show()

# %% [markdown]
# ## What it costs
#
# Each edge brings one row of $x$, a multiplication and an addition for each of its $F$ features, $s$ bytes each:
#
# $$ f = 2EF, \qquad b_{\max} = 8E + 4N + EFs + NFs, \qquad b_{\min} = 8E + 4N + 2NFs. \tag{2} $$
#
# $b_{\max}$ is for rows that always come from memory. A row that is still in the cache when another edge wants it is
# free, and $b_{\min}$ is what is left where each is read once; where between the two a graph lies depends on how its
# nodes are numbered. The three operations of PyTorch move about $7EFs$ bytes: gather (read and write), multiply (read
# and write), add to the destination (read, and read and write there, atomically).
#
# An H200 does about 14 float32 operations in the time of one byte. Here it is at most a few: **bound by memory** again,
# and by memory that is read in small pieces from all over the place.

# %%
BANDWIDTH, PEAK = 4.8e12, 67e12  # of an H200, by its data sheet: bytes/s, float32 operations/s
N, F, SIZE = 200_000, 128, 4
E = 16 * N
WAYS = {
    "gather, multiply, scatter": 7 * E * F * SIZE,
    "one kernel, rows from memory": 8 * E + 4 * N + (E + N) * F * SIZE,
    "one kernel, rows from the cache": 8 * E + 4 * N + 2 * N * F * SIZE,
}
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
intensity = sorted([2.0**k for k in range(-6, 9)] + [PEAK / BANDWIDTH])
ax.loglog(intensity, [min(PEAK, i * BANDWIDTH) / 1e12 for i in intensity], color="#222222")
for (name, moved), marker in zip(WAYS.items(), "sov", strict=True):
    done = 2 * E * F
    least = max(moved / BANDWIDTH, done / PEAK)
    ax.plot(done / moved, done / least / 1e12, marker, label=f"{name}: {1e6 * least:.0f} µs at best")
    print(f"{name:32s} {moved / 1e6:7.0f} MB {done / 1e6:6.0f} MFLOP, at least {1e6 * least:5.0f} µs")
ax.axvline(PEAK / BANDWIDTH, color="#777777", linestyle=":", linewidth=1)
ax.text(PEAK / BANDWIDTH * 1.1, 0.2, "compute-bound →", fontsize=9)
ax.set_ylim(top=2000)
ax.set(title=f"Roofline of an H200, {N} nodes, {E} edges, {F} features, float32", xlabel="operations per byte",
       ylabel="TFLOP/s attainable")
ax.legend(loc="upper left", fontsize=9)
plt.show()

# %% [markdown]
# ## The product
#
# **Who adds up?** With one program for each *edge*, or for each piece of the list of edges, several programs add to
# one row of the result. They need atomic operations, and somebody who makes the destination zero before; and as
# programs run in any order, and $(a + b) + c \ne a + (b + c)$ in floating point, the result has other last bits each
# time. With one program for each *row* of the result, it adds up in registers, in an order that is always the same, and
# stores once. **Your result must have the same bits in every run.**
#
# A row's edges are as many as they are: a loop goes over them, from one row pointer to the next, a block of edges at a
# time. A block of $c$ and $w$ are loads as usual, with a mask where the row ends. Then each lane has a node, and the
# rows of $x$ come as a block of *pointers*: the start of each lane's row, plus the columns.
#
# *Watch for* the two masks, of edges and of features, which meet in the load of $x$; for rows without edges, which
# have to be written, too; for the products of node numbers and strides, which pass $2^{31}$ in graphs of real size
# while `col` is int32; and for float16, in which a long sum loses its small terms.

# %% exercise="csr_spmm"
@triton.jit
def csr_spmm_kernel(out, rowptr, col, w, x, F, out_row, x_row, BLOCK_E: tl.constexpr, BLOCK_F: tl.constexpr):
    """BLOCK_F features of one row of Eq. (1), BLOCK_E edges at a time."""
    ### BEGIN SOLUTION
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    kept = column < F
    lane = tl.arange(0, BLOCK_E)
    first, last = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    total = tl.zeros([BLOCK_F], dtype=tl.float32)
    for start in range(first, last, BLOCK_E):
        edge = start + lane
        real = edge < last
        source = tl.load(col + edge, mask=real, other=0).to(tl.int64)
        weight = tl.load(w + edge, mask=real, other=0.0).to(tl.float32)
        inside = real[:, None] & kept[None, :]
        value = tl.load(x + source[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * value, axis=0)
    tl.store(out + row * out_row + column, total, mask=kept)
    ### END SOLUTION


def csr_spmm(out: Tensor, rowptr: Tensor, col: Tensor, w: Tensor, x: Tensor) -> None:
    """Fills `out` with Eq. (1); the same bits every time.

    out     (N, F) float, any row stride; NaN before the call
    rowptr  (N + 1,) int32: from 0 to E, never falling
    col     (E,) int32 in [0, N): where edges come from; in any order within a row, and repeated ones count each
    w       (E,) float
    x       (N, F) float, any row stride

    N and F are at least 1; E may be 0. A row without edges is 0.
    """
    ### BEGIN SOLUTION
    N, F = x.shape
    block = min(triton.next_power_of_2(F), 128)
    csr_spmm_kernel[(N, triton.cdiv(F, block))](out, rowptr, col, w, x, F, out.stride(0), x.stride(0),
                                                BLOCK_E=16, BLOCK_F=block, num_warps=4 if block > 64 else 2)
    ### END SOLUTION

# %% [markdown] hints="csr_spmm"
# - Begin with one edge at a time: load `rowptr` at the row and at the row after it, loop over the numbers in between,
#   load one node and one weight, add the weight times that node's row.
# - Then take a block of edges: a mask says which of them still belong to the row. Their nodes are a vector; with
#   `[:, None]` it becomes the column of row starts, and the features are `[None, :]`.
# - Sum a block over its axis of edges in float32, and add it to what you have. Store after the loop, whether it ran
#   or not.

# %% [markdown]
# **What to look at.** Heat on a ring with one long chord: each node takes the mean of itself and of its neighbours,
# again and again, by your kernel. Heat that begins in one place spreads along the ring, and through the chord.

# %%
nodes = 24
neighbours = [sorted({i, (i - 1) % nodes, (i + 1) % nodes} | ({12} if i == 4 else {4} if i == 12 else set()))
              for i in range(nodes)]
rowptr = torch.tensor([0, *(len(some) for some in neighbours)]).cumsum(0).int()
col = torch.tensor([j for some in neighbours for j in some], dtype=torch.int32)
w = torch.tensor([1 / len(some) for some in neighbours for _ in some])
heat = [torch.zeros(nodes, 1)]
heat[0][4] = 1.0
for _ in range(12):
    heat.append(torch.full((nodes, 1), torch.nan))
    csr_spmm(heat[-1], rowptr, col, w, heat[-2])
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
image = ax.imshow(torch.cat(heat, dim=1).T.sqrt(), aspect="auto", cmap="viridis", interpolation="nearest")
fig.colorbar(image, label="square root of heat")
ax.set(title="heat on a ring, with a chord between nodes 4 and 12", xlabel="node", ylabel="step")
plt.show()

# %% [markdown]
# ## Going further
#
# - One node of a million edges keeps one program busy while all others are done. Split long rows among programs, and
#   add up in a second launch: without atomic operations, so with the same bits.
# - The gradient with respect to $x$ is the product with the transposed matrix. What has to be sorted, and when? The
#   gradient with respect to $w_e$ is a scalar product of two rows.
# - Graph attention computes $w$ as a softmax over each row. Fuse it: one pass over the edges for the largest score and
#   the sum, one for the product.
# - Number the nodes such that neighbours are close, by breadth-first search, and measure again: which of the two bounds
#   of Eq. (2) do you approach?
#
# ### References
#
# - Kipf and Welling, *Semi-supervised classification with graph convolutional networks*, 2017.
# - Yang, Buluç and Owens, *Design principles for sparse matrix multiplication on the GPU*, 2018.
# - Huang, Dai, Wang and Yang, *GE-SpMM: general-purpose sparse matrix-matrix multiplication on GPUs for graph neural
#   networks*, 2020.
