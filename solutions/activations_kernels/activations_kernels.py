# %% [markdown]
# # Activation kernels
#
# An activation is the cheapest thing that a network does, by its arithmetic, and one of the dearest, by the memory
# that it moves. The gate of a language model's feed-forward layer multiplies two matrices elementwise, one of them
# sent through SiLU. PyTorch does that in two operations and writes a matrix in between that nobody wants. Here you
# write it as *one* kernel, forward and backward, in [Triton](https://triton-lang.org): Python, compiled for the GPU.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `swiglu_triton` | ★★ | 75 | a fused elementwise kernel: grids, masks, strides, and a gradient that keeps nothing |
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
# - A matrix has shape `(M, F)`, any row stride, and its last axis is contiguous: element $(i, j)$ of `a` lies at
#   `a + i * a.stride(0) + j`. Every matrix has a stride of its own. $M, F \ge 1$.
# - `float` is float32 or float16 (on a GPU also bfloat16), all tensors alike. **Compute in float32**, whatever comes
#   in; storing rounds. Inputs of any magnitude give finite results wherever the true ones are finite.
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
# on a device with bandwidth $\beta$ and arithmetic throughput $\pi$. With the **intensity** $I = f / b$ the attainable
# throughput is $\min(\pi, I\beta)$, the *roofline*. Count for matrices of $M \times F$ elements of $s$ bytes. The
# fused forward pass reads two and writes one; an exponential and a division count as one operation each:
#
# $$ b = 3MFs, \qquad f \approx 6MF \quad\Rightarrow\quad I \approx \frac{2}{s}. \tag{2} $$
#
# In two operations, `silu(a)` and a product, it is $5MFs$: the matrix in between is written once and read once. The
# fused backward pass reads three matrices and writes two,
#
# $$ b = 5MFs, \qquad f \approx 13MF \quad\Rightarrow\quad I \approx \frac{13}{5s}. \tag{3} $$
#
# That it does so many operations more costs nothing: at two bytes an element it could do ten times as many before the
# arithmetic showed. So the backward pass **recomputes** $\sigma(a)$ instead of reading it from memory, where the
# forward pass would have had to keep it.

# %%
import matplotlib.pyplot as plt

BANDWIDTH, PEAK = 4.8e12, 67e12  # of an H200, by its data sheet: bytes/s, float32 operations/s
M, F, SIZE = 8192, 11008, 2
KERNELS = {
    "silu, then a product": (5 * M * F * SIZE, 6 * M * F),
    "fused forward": (3 * M * F * SIZE, 6 * M * F),
    "fused backward": (5 * M * F * SIZE, 13 * M * F),
}
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
intensity = [2.0**k for k in range(-4, 9)]
ax.loglog(intensity, [min(PEAK, i * BANDWIDTH) / 1e12 for i in intensity], color="#222222")
for (name, (moved, done)), marker in zip(KERNELS.items(), "sov", strict=True):
    least = max(moved / BANDWIDTH, done / PEAK)
    ax.plot(done / moved, done / least / 1e12, marker, label=f"{name}: {1e6 * least:.0f} µs at best")
    print(f"{name:22s} {moved / 1e6:7.0f} MB {done / 1e6:6.0f} MFLOP, at least {1e6 * least:5.0f} µs")
ax.axvline(PEAK / BANDWIDTH, color="#777777", linestyle=":", linewidth=1)
ax.text(PEAK / BANDWIDTH * 1.1, 0.5, "compute-bound →", fontsize=9)
ax.set(title=f"Roofline of an H200, {M} × {F} bfloat16", xlabel="operations per byte", ylabel="TFLOP/s attainable")
ax.legend(loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# ## SwiGLU
#
# $$ y_{ij} = \mathrm{silu}(a_{ij})\, b_{ij}, \qquad \mathrm{silu}(a) = a\,\sigma(a), \qquad
# \sigma(a) = \frac{1}{1 + e^{-a}} \tag{4} $$
#
# (Shazeer 2020, Eq. 6, without its matrix products). $a$ is the *gate*. **Forward.** Elements have nothing to do with
# each other, so any way of handing them out to programs is right; what differs is how many bytes each program moves
# and how much of the machine is busy. A grid of two axes is the plainest: a row, and a block of columns within it.
# The last block of a row reaches beyond it, unless its length divides $F$: that is what the mask is for.
#
# **Backward.** With the incoming gradient $\bar y$, and $\sigma' = \sigma(1 - \sigma)$,
#
# $$ \bar a = \bar y\, b\, \sigma(a)\, \bigl(1 + a\,(1 - \sigma(a))\bigr), \qquad
# \bar b = \bar y\,\mathrm{silu}(a). \tag{5} $$
#
# Both follow from the same three numbers, so one program computes both: as two kernels they would read $3 + 2$
# matrices in place of 3.
#
# *Watch for* which of the two is the gate; for $e^{-a}$ or $e^{a}$, of which one is infinite where $|a| > 88$, and
# $\infty / \infty$ is not 1; for the input's dtype, in which $300 \cdot 300$ is infinite and $\sigma$ loses its digits;
# and for rows that do not follow each other in memory.

# %% exercise="swiglu_triton"
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    """Eq. (4) for one block of columns of one row."""
    ### BEGIN SOLUTION
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, gate * _logistic(gate) * value, mask=inside)
    ### END SOLUTION


@triton.jit
def swiglu_backward_kernel(da, db, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    """Eq. (5) for one block of columns of one row."""
    ### BEGIN SOLUTION
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = _logistic(gate)
    tl.store(da + row * da_row + column, given * value * (open_ * (1.0 + gate * (1.0 - open_))), mask=inside)
    tl.store(db + row * db_row + column, given * (gate * open_), mask=inside)
    ### END SOLUTION


def swiglu_triton(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Fills `out` with Eq. (4).

    out  (M, F) float, any row stride; NaN before the call
    a    (M, F) float, any row stride: the gate, which goes through SiLU
    b    (M, F) float, any row stride: what the gate multiplies
    """
    ### BEGIN SOLUTION
    M, F = a.shape
    swiglu_kernel[(M, triton.cdiv(F, _BLOCK))](out, a, b, F, out.stride(0), a.stride(0), b.stride(0), BLOCK=_BLOCK)
    ### END SOLUTION


def swiglu_triton_backward(da: Tensor, db: Tensor, dout: Tensor, a: Tensor, b: Tensor) -> None:
    """Fills `da` and `db` with Eq. (5).

    da    (M, F) float, any row stride; NaN before the call
    db    (M, F) float, any row stride; NaN before the call
    dout  (M, F) float, any row stride: the gradient of the loss with respect to `out`
    a     (M, F) float, any row stride: the gate
    b     (M, F) float, any row stride
    """
    ### BEGIN SOLUTION
    M, F = a.shape
    swiglu_backward_kernel[(M, triton.cdiv(F, _BLOCK))](
        da, db, dout, a, b, F, da.stride(0), db.stride(0), dout.stride(0), a.stride(0), b.stride(0), BLOCK=_BLOCK)
    ### END SOLUTION


### BEGIN SOLUTION
_BLOCK = 1024  # columns of a program: with four warps, eight elements a thread


@triton.jit
def _logistic(x):
    """1 / (1 + exp(-x)), whose exponential is at most 1."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)
### END SOLUTION

# %% [markdown] hints="swiglu_triton"
# - Begin with the forward pass for contiguous tensors: `tl.program_id(0)` is the row, `tl.program_id(1)` the block of
#   columns, and `column = block * BLOCK + tl.arange(0, BLOCK)`. The grid is `(M, triton.cdiv(F, BLOCK))`. Then multiply
#   the row's number by each tensor's own `stride(0)`.
# - `mask=column < F` stands on every load and every store. Convert to float32 right after the load.
# - `tl.sigmoid`, or 1 / (1 + exp(-a)), is safe at both ends: where its exponential is infinite, it is 0.
#   exp(a) / (1 + exp(a)) is not.
# - The backward program loads three blocks, computes σ(a) once, and stores two blocks.

# %% [markdown]
# **What to look at.** Both passes of your kernel, along the gate. For large $a$ the gate is open and $b$ passes as
# $a b$; for very negative $a$ nothing passes, and no gradient either. Around $a = 2.4$ the gradient of the gate is
# *larger* than $\bar y\, b$, by up to a tenth, and below $a \approx -1.28$ it is negative: there, opening the gate
# lowers $y$.

# %%
a = torch.linspace(-8, 8, 200).repeat(3, 1)
b = torch.tensor([0.5, 1.0, 2.0])[:, None].expand(3, 200).contiguous()
y, da, db = (torch.full_like(a, torch.nan) for _ in range(3))
swiglu_triton(y, a, b)
swiglu_triton_backward(da, db, torch.ones_like(a), a, b)
fig, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
for row, style in enumerate((":", "--", "-")):
    axes[0].plot(a[row], y[row], style, color="#1b6ca8", label=f"b = {b[row, 0]:g}")
    axes[1].plot(a[row], da[row], style, color="#1b6ca8", label=f"with respect to a, b = {b[row, 0]:g}")
axes[1].plot(a[0], db[0] / 4, color="#b8860b", linewidth=1, label="with respect to b, divided by 4")
axes[1].axvline(-1.278, color="#777777", linestyle=":", linewidth=1)
axes[0].set(title="silu(a) b", xlabel="a")
axes[1].set(title="its gradients", xlabel="a")
axes[0].legend(fontsize=8)
axes[1].legend(fontsize=7)
plt.show()

# %% [markdown]
# ## Going further
#
# - The matrix product that makes $a$ and $b$ could apply the gate before it writes them. What would it save, and why
#   do the two halves have to come from the same program then?
# - Write `da` and `db` over `a` and `b`. What is the most memory that a training step needs, before and after?
# - A program could take eight rows. Does that change the bytes? What else might it change?
#
# ### References
#
# - Shazeer, *GLU variants improve Transformer*, 2020.
# - Dauphin, Fan, Auli and Grangier, *Language modeling with gated convolutional networks*, 2017.
# - Williams, Waterman and Patterson, *Roofline: an insightful visual performance model*, 2009.
# - Tillet, Kung and Cox, *Triton: an intermediate language and compiler for tiled neural network computations*, 2019.
