# %% [markdown]
# # Normalization kernels
#
# PyTorch writes RMS normalization as five operations: square, mean, root, divide, multiply. On a GPU each of them is a
# **kernel** that reads its input from memory and writes its output back, and the arithmetic in between is nearly free.
# Written as *one* kernel, the row is read once, everything happens in registers, and the result is written once. Here
# you write that kernel, forward and backward, in [Triton](https://triton-lang.org): Python, compiled for the GPU.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `rms_norm_triton` | ★★★ | 120 | a fused row kernel, masks and strides, and a gradient that all rows share |
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
# - `x` has shape `(M, N)` with any row stride and its last axis is contiguous: element $(i, j)$ lies at
#   `x + i * x.stride(0) + j`. `out`, `dx` and `dy` alike, each with its own stride. $1 \le N \le 16384$.
# - `float` is float32 or float16 (on a GPU also bfloat16), all tensors alike. **Compute in float32**, whatever comes
#   in; storing rounds.
# - Grids and blocks are yours to choose, and so are the kernels' arguments. Any number of launches. No PyTorch
#   operation touches the data; `torch.empty` for scratch memory is fine.
# - Plain pointers only. What your code needs lies in the exercise's cell.

# %% role="setup"
import torch
from torch import Tensor

from etude import check, hint, progress
from etude.kernels import tl, triton

# %% [markdown]
# ## What a kernel costs
#
# A kernel that moves $b$ bytes and does $f$ floating-point operations takes at least
#
# $$ T \ge \max\left( \frac{b}{\beta},\; \frac{f}{\pi} \right) \tag{1} $$
#
# on a device with bandwidth $\beta$ and arithmetic throughput $\pi$. Their ratio decides: with the **intensity**
# $I = f / b$, the attainable throughput is $\min(\pi, I\beta)$, the *roofline*. For the forward pass on an
# $M \times N$ matrix of $s$ bytes an element,
#
# $$ b = 2MNs + Ns, \qquad f \approx 4MN \quad\Rightarrow\quad I \approx \frac{2}{s} \tag{2} $$
#
# (square, add, multiply twice), and for the backward pass, which reads $x$ and the incoming gradient and writes one,
#
# $$ b = 3MNs + 2Ns, \qquad f \approx 8MN \quad\Rightarrow\quad I \approx \frac{8}{3s}. \tag{3} $$
#
# An H200 does about 14 operations in the time in which it moves one byte. These kernels do less than one: they are
# **bound by memory**, and the only way to be fast is to move each byte once.

# %%
import matplotlib.pyplot as plt

BANDWIDTH, PEAK = 4.8e12, 67e12  # of an H200, by its data sheet: bytes/s, float32 operations/s
M, N, SIZE = 8192, 4096, 4
KERNELS = {
    "five operations, forward": (10 * M * N * SIZE, 4 * M * N),
    "fused forward": (2 * M * N * SIZE + N * SIZE, 4 * M * N),
    "fused backward": (3 * M * N * SIZE + 2 * N * SIZE, 8 * M * N),
}
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
intensity = [2.0**k for k in range(-6, 9)]
ax.loglog(intensity, [min(PEAK, i * BANDWIDTH) / 1e12 for i in intensity], color="#222222")
for (name, (moved, done)), marker in zip(KERNELS.items(), "sov", strict=True):
    least = max(moved / BANDWIDTH, done / PEAK)
    ax.plot(done / moved, done / least / 1e12, marker, label=f"{name}: {1e6 * least:.0f} µs at best")
    print(f"{name:25s} {moved / 1e6:7.0f} MB {done / 1e6:6.0f} MFLOP, at least {1e6 * least:5.0f} µs")
ax.axvline(PEAK / BANDWIDTH, color="#777777", linestyle=":", linewidth=1)
ax.text(PEAK / BANDWIDTH * 1.1, 0.2, "compute-bound →", fontsize=9)
ax.set(title=f"Roofline of an H200, {M} × {N} float32", xlabel="operations per byte", ylabel="TFLOP/s attainable")
ax.legend()
plt.show()

# %% [markdown]
# ## RMS normalization
#
# $$ y_{ij} = w_j\, r_i\, x_{ij}, \qquad r_i = \Big( \frac{1}{N} \sum_k x_{ik}^2 + \varepsilon \Big)^{-1/2} \tag{4} $$
#
# (Zhang and Sennrich 2019, Eq. 4). **Forward.** Rows have nothing to do with each other, so give each its own
# *program*: load the row into a block whose length is a power of two, mask what lies beyond $N$, reduce, write. Memory
# that is masked out takes part in the sum as `other`: which value changes no sum?
#
# **Backward.** With the gradient $\bar y = \partial L / \partial y$ and $\hat x_{ij} = r_i x_{ij}$,
#
# $$ \bar x_{ij} = r_i \Big( w_j \bar y_{ij} - \hat x_{ij}\, \frac{1}{N} \sum_k \hat x_{ik} w_k \bar y_{ik} \Big),
# \qquad \bar w_j = \sum_i \bar y_{ij}\, \hat x_{ij}. \tag{5} $$
#
# $\bar x$ is a matter of one row, as before. $\bar w$ is not: **every row adds to every element of it**. Programs run
# side by side in no order, so `load`, add, `store` loses what another program adds in between. There are two ways out:
# `tl.atomic_add`, after somebody has made the destination zero, or a sum in two steps without atomics:
# each of $P$ programs adds up some of the rows in registers and writes a row of a $(P, N)$ scratch matrix; a second
# launch adds those up. The second is exact to repeat, and it moves little.
#
# *Watch for* the rows' strides, which differ from tensor to tensor; for $\varepsilon$ and the mean's divisor, $N$ and
# not the length of the block; for float16, whose squares overflow at 256; and for a `dw` that is full of NaN when you
# get it.

# %% exercise="rms_norm_triton"
@triton.jit
def rms_norm_kernel(out, x, w, N, eps, out_row, x_row, BLOCK: tl.constexpr):
    """One row of Eq. (4). BLOCK is a power of two, at least N."""
    ### BEGIN SOLUTION
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < N
    value = tl.load(x + row * x_row + column, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(w + column, mask=inside, other=0.0).to(tl.float32)
    root = 1.0 / tl.sqrt(tl.sum(value * value) / N + eps)
    tl.store(out + row * out_row + column, value * root * weight, mask=inside)
    ### END SOLUTION


@triton.jit
def rms_norm_backward_kernel(dx, partial, dy, x, w, M, N, eps, dx_row, dy_row, x_row, BLOCK: tl.constexpr):
    """Rows p, p + P, p + 2P, ... of Eq. (5) for program p of P, and what they add to dw as row p of `partial`."""
    ### BEGIN SOLUTION
    first = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < N
    weight = tl.load(w + column, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for index in range(first, M, tl.num_programs(0)):
        row = tl.cast(index, tl.int64)
        value = tl.load(x + row * x_row + column, mask=inside, other=0.0).to(tl.float32)
        given = tl.load(dy + row * dy_row + column, mask=inside, other=0.0).to(tl.float32)
        root = 1.0 / tl.sqrt(tl.sum(value * value) / N + eps)
        normal = value * root
        scaled = given * weight
        shared = tl.sum(normal * scaled) / N
        tl.store(dx + row * dx_row + column, root * (scaled - normal * shared), mask=inside)
        total += given * normal
    tl.store(partial + first.to(tl.int64) * N + column, total, mask=inside)
    ### END SOLUTION


@triton.jit
def sum_rows_kernel(dw, partial, P, N, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr):
    """The column sums of `partial` (P, N), BLOCK_N columns a program."""
    ### BEGIN SOLUTION
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_N], dtype=tl.float32)
    for start in range(0, P, BLOCK_P):
        row = start + tl.arange(0, BLOCK_P)
        inside = (row[:, None] < P) & (column[None, :] < N)
        total += tl.sum(tl.load(partial + row[:, None] * N + column[None, :], mask=inside, other=0.0), axis=0)
    tl.store(dw + column, total, mask=column < N)
    ### END SOLUTION


def rms_norm_triton(out: Tensor, x: Tensor, w: Tensor, eps: float) -> None:
    """Fills `out` with Eq. (4).

    out  (M, N) float, any row stride; NaN before the call
    x    (M, N) float, any row stride
    w    (N,) float, contiguous
    eps  float > 0
    """
    ### BEGIN SOLUTION
    M, N = x.shape
    block = triton.next_power_of_2(N)
    rms_norm_kernel[(M,)](out, x, w, N, eps, out.stride(0), x.stride(0), BLOCK=block, num_warps=_warps(block))
    ### END SOLUTION


def rms_norm_triton_backward(dx: Tensor, dw: Tensor, dy: Tensor, x: Tensor, w: Tensor, eps: float) -> None:
    """Fills `dx` and `dw` with Eq. (5).

    dx   (M, N) float, any row stride; NaN before the call
    dw   (N,) float, contiguous; NaN before the call
    dy   (M, N) float, any row stride: the gradient of the loss with respect to y
    x    (M, N) float, any row stride
    w    (N,) float, contiguous
    eps  float > 0
    """
    ### BEGIN SOLUTION
    M, N = x.shape
    block, programs = triton.next_power_of_2(N), min(M, _MOST_PROGRAMS)
    partial = torch.empty((programs, N), dtype=torch.float32, device=x.device)
    rms_norm_backward_kernel[(programs,)](dx, partial, dy, x, w, M, N, eps, dx.stride(0), dy.stride(0), x.stride(0),
                                          BLOCK=block, num_warps=_warps(block))
    sum_rows_kernel[(triton.cdiv(N, 64),)](dw, partial, programs, N, BLOCK_P=32, BLOCK_N=64)
    ### END SOLUTION


### BEGIN SOLUTION
_MOST_PROGRAMS = 528  # a few for each of an H200's 132 multiprocessors


def _warps(block: int) -> int:
    """Threads enough that each holds a few elements of the row."""
    return min(max(block // 512, 1), 16)
### END SOLUTION

# %% [markdown] hints="rms_norm_triton"
# - Begin with the forward pass for contiguous tensors: one program a row, `tl.arange(0, BLOCK)` as the columns, and
#   `mask=column < N` on every load and store. Then multiply the row's number by the tensor's own `stride(0)`.
# - `other=0.0` keeps what is masked out of the sum of squares. The mean divides by N, not by BLOCK. Convert to float32
#   right after the load.
# - For the gradient of `w`, let program p of P go through the rows p, p + P, ... in a loop, add up in registers, and
#   store its sum into row p of a scratch matrix that you allocated as float32. Sum its rows in a second launch.
# - A program of the second launch owns a few columns and goes down the scratch matrix; its store needs a mask, too.

# %% [markdown]
# **What to look at.** Your kernel in the place of PyTorch's, on rows of very different size: after normalization all
# have the same, and the gradient has no part along the row itself, as making a row larger changes nothing.

# %%
x = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 1, 6)[:, None]
w = torch.ones(64)
y, dx, dw = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan), torch.full_like(w, torch.nan)
dy = torch.randn(6, 64, generator=torch.Generator().manual_seed(1))
rms_norm_triton(y, x, w, 1e-6)
rms_norm_triton_backward(dx, dw, dy, x, w, 1e-6)
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
rows = range(6)
axes[0].semilogy(rows, x.square().mean(1).sqrt(), "o--", label="x")
axes[0].semilogy(rows, y.square().mean(1).sqrt(), "s-", label="y")
axes[0].set(title="root mean square of each row", xlabel="row")
axes[0].legend()
axes[1].bar(rows, torch.nn.functional.cosine_similarity(dx, x, dim=1).abs())
axes[1].set(title="|cosine| between dx and x", xlabel="row", ylim=(0, 1))
plt.show()

# %% [markdown]
# ## Going further
#
# - A row that does not fit into registers goes through the block in pieces, twice. How many bytes does that move?
# - Save $r_i$ in the forward pass: the backward pass then reduces once instead of twice, for $4M$ bytes more.
# - Fuse the residual addition that stands before the norm in every transformer: what does it save?
#
# ### References
#
# - Zhang and Sennrich, *Root mean square layer normalization*, 2019.
# - Williams, Waterman and Patterson, *Roofline: an insightful visual performance model*, 2009.
# - Tillet, Kung and Cox, *Triton: an intermediate language and compiler for tiled neural network computations*, 2019.
