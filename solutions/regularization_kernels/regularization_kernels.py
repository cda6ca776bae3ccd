# %% [markdown]
# # Regularization kernels
#
# The last layer of a language model makes a logit for each word of its vocabulary, at every position: with 8192
# positions and 128256 words that is 2 GB in bfloat16, the largest tensor of the whole step. PyTorch's cross-entropy
# makes float32 copies of it, a matrix of log-probabilities and a matrix of gradients. Here you write it as *one*
# kernel in [Triton](https://triton-lang.org) that walks over each row twice, keeps three numbers of it, and leaves
# the gradient **in the memory of the logits**. Label smoothing comes along for a single further sum.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `fused_ls_cross_entropy` | ★★★ | 150 | a softmax streamed with a running maximum, and a gradient in place |
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
# - **Destinations come first, nothing is returned.** The caller allocates `loss` and `grad`, and fills them with NaN.
# - A matrix has shape `(N, V)`, any row stride, and its last axis is contiguous: element $(i, j)$ of `logits` lies at
#   `logits + i * logits.stride(0) + j`. `grad` has a stride of its own. $N \ge 1$, $V \ge 2$, logits are finite.
# - **`grad` may be `logits` itself**, the same memory; else `logits` is left as it was. No other overlap occurs.
# - `float` is float32 or float16 (on a GPU also bfloat16), `logits` and `grad` alike. **Compute in float32**, whatever
#   comes in; storing rounds. `loss` is float32.
# - Grids and blocks are yours to choose, and so are the kernels' arguments. Any number of launches. No PyTorch
#   operation touches the data; `torch.empty` is fine for scratch memory of a few numbers a row, not for a copy of the
#   logits.
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
# throughput is $\min(\pi, I\beta)$, the *roofline*. Count for $N$ rows of $V$ logits of $s$ bytes. Whatever one does,
# each logit is read once and each gradient written once:
#
# $$ b = 2NVs, \qquad f \approx 10NV \quad\Rightarrow\quad I \approx \frac{5}{s}. \tag{2} $$
#
# The operations are those of two walks over the row: maximum, difference, exponential and two sums on the first;
# difference, exponential, product, difference, product on the second. An exponential counts as one here. The second
# walk reads the row **again**; $V = 128256$ bfloat16 numbers are 250 KB, too many for registers, but the row was read
# a moment ago, and lies in the cache if not too many rows are under way. If it does not, $b = 3NVs$. Exponentials are
# made by units of their own, 16 in each clock cycle of a multiprocessor, some $3.7 \cdot 10^{12}$ a second on an
# H200: two for each logit take two thirds of the time of the bytes of (2).
#
# Operation by operation, in float32 as one has to, PyTorch moves, in bytes for each logit of two bytes: the cast 2 +
# 4, the log-softmax 4 + 4, the mean over the classes 4, a matrix for the gradient of $\log p$ 4, the log-softmax's
# gradient 8 + 4, the cast back 4 + 2. These are 40 where (2) has 4. And *three* float32 matrices are in memory at a
# time, six times the logits themselves; **in place**, there is nothing but the logits.

# %%
import matplotlib.pyplot as plt

BANDWIDTH, PEAK = 4.8e12, 67e12  # of an H200, by its data sheet: bytes/s, float32 operations/s
N, V, SIZE = 8192, 128256, 2
KERNELS = {
    "operation by operation": (40 * N * V, 10 * N * V),
    "fused, the row read twice": (3 * N * V * SIZE, 10 * N * V),
    "fused, the second time from the cache": (2 * N * V * SIZE, 10 * N * V),
}
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
intensity = [2.0**k for k in range(-4, 9)]
ax.loglog(intensity, [min(PEAK, i * BANDWIDTH) / 1e12 for i in intensity], color="#222222")
for (name, (moved, done)), marker in zip(KERNELS.items(), "sov", strict=True):
    least = max(moved / BANDWIDTH, done / PEAK)
    ax.plot(done / moved, done / least / 1e12, marker, label=f"{name}: {1e3 * least:.2f} ms at best")
    print(f"{name:38s} {moved / 1e9:5.1f} GB {done / 1e9:4.1f} GFLOP, at least {1e3 * least:5.2f} ms")
ax.axvline(PEAK / BANDWIDTH, color="#777777", linestyle=":", linewidth=1)
ax.text(PEAK / BANDWIDTH * 1.1, 0.5, "compute-bound →", fontsize=9)
ax.set(title=f"Roofline of an H200, {N} × {V} bfloat16", xlabel="operations per byte", ylabel="TFLOP/s attainable")
ax.legend(loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# ## Cross-entropy with label smoothing
#
# As in the unit on regularization, but without weights of the classes. The target is mixed with the uniform
# distribution over all $V$ classes (Szegedy et al. 2016, §7), and the mean is over the rows that count:
#
# $$ q_{ij} = (1 - \varepsilon)\,[j = y_i] + \frac{\varepsilon}{V}, \qquad
# L = \frac{1}{n} \sum_{i \in I} \ell_i, \qquad \ell_i = -\sum_j q_{ij} \log p_{ij}, \qquad
# I = \{ i : y_i \ne \texttt{ignore\_index} \}, \quad n = |I| \tag{3} $$
#
# with $p_i = \mathrm{softmax}(z_i)$ of row $i$ of the logits. If every row is ignored, **we define $L = 0$**, with
# gradient 0. Nobody needs the matrices $p$ and $q$ for that. Let $m_i$ be the largest logit of the row and
# $s_i = \sum_j e^{z_{ij} - m_i}$; then $\log p_{ij} = z_{ij} - m_i - \log s_i$, and since the $q_{ij}$ add up to 1,
#
# $$ \ell_i = \log s_i + (1 - \varepsilon)\,(m_i - z_{i y_i})
# + \varepsilon \Big( m_i - \frac{1}{V} \sum_j z_{ij} \Big). \tag{4} $$
#
# A maximum, two sums and one logit of the row. A loss near 0 keeps its digits in this form: of large numbers, only
# differences are taken.
#
# **Online softmax.** $s_i$ needs $m_i$, so it seems to take one walk for the maximum and another for the sum. Milakov
# and Gimelshein (2018, Algorithm 3) do both on one walk. By blocks instead of single numbers: after a block $B$,
#
# $$ m' = \max\Big(m,\; \max_{j \in B} z_j\Big), \qquad s' = s\, e^{m - m'} + \sum_{j \in B} e^{z_j - m'}, \tag{5} $$
#
# beginning with $m = -\infty$, $s = 0$. Whenever the maximum moves, what was summed before is **rescaled**.
#
# **Gradient.** The derivative of $\log s_i + m_i$ with respect to $z_{ij}$ is $p_{ij}$, so
#
# $$ \frac{\partial L}{\partial z_{ij}}
# = \frac{1}{n} \Big( p_{ij} - (1 - \varepsilon)\,[j = y_i] - \frac{\varepsilon}{V} \Big)
# \quad (i \in I), \qquad 0 \quad (i \notin I). \tag{6} $$
#
# It needs nothing but what the first walk has found: so forward and backward are **one function**. The loss is the
# last step of the network, its incoming gradient is 1, and the gradient can be written at once; and as $z_{ij}$ is
# not needed any more when its gradient is known, it can be written *over* it (Hsu et al. 2024). But $n$ must be known
# before the first gradient is written, and $z_{i y_i}$ must be read before it is gone.
#
# **Why float32.** A sum stops growing when its terms are below half of its last digit. With 8 significant bits,
# bfloat16 cannot add 1 to 256; float16 not to 2048. A sum over 128256 words has to.
#
# **Programs.** Rows have nothing to do with each other: a program for each row, so that no other program reads what it
# overwrites. $n$ and the mean of the $\ell_i$ concern all rows; a launch before and a launch after are enough for them,
# with one program each, and repeat to the bit. Launches on one stream run one after the other.
#
# *Watch for* the last block of a row, whose masked lanes must change neither the maximum nor any of the sums; for the
# rows that are ignored, whose gradient must be *written*, and whose target is no address; for `ignore_index`, which
# may be a valid class; and for reading a logit *after* the loop that overwrites it. On a GPU the threads of one
# program do not run in step, either: read $z_{i y_i}$ **before** the first walk, whose reductions every thread has to
# wait for.

# %% exercise="fused_ls_cross_entropy"
@triton.jit
def count_kernel(count, y, N, ignore_index, BLOCK: tl.constexpr):
    """One program: n of Eq. (3), at least 1, for dividing by."""
    ### BEGIN SOLUTION
    total = tl.zeros([BLOCK], dtype=tl.int32)
    for start in range(0, N, BLOCK):
        row = start + tl.arange(0, BLOCK)
        target = tl.load(y + row, mask=row < N, other=ignore_index)
        total += (target != ignore_index).to(tl.int32)
    tl.store(count, tl.maximum(tl.sum(total), 1))
    ### END SOLUTION


@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    """One row, BLOCK logits at a time: its loss by Eqs. (4) and (5), 0 if it is ignored, its gradient by Eq. (6)."""
    ### BEGIN SOLUTION
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    target = tl.load(y + row)
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        for start in range(0, V, BLOCK):
            tl.store(grad + row * grad_row + start + lane, tl.zeros([BLOCK], dtype=tl.float32), mask=start + lane < V)
    else:
        right = tl.load(logits + row * logits_row + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, V, BLOCK):
            inside = start + lane < V
            value = tl.load(logits + row * logits_row + start + lane, mask=inside, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled * tl.exp(top - higher) + tl.sum(tl.exp(value - higher))
            plain += tl.sum(tl.where(inside, value, 0.0))
            top = higher
        tl.store(losses + row, tl.log(scaled) + (1.0 - eps) * (top - right) + eps * (top - plain / V))
        share = 1.0 / tl.load(count)
        for start in range(0, V, BLOCK):
            column = start + lane
            value = tl.load(logits + row * logits_row + column, mask=column < V, other=0.0).to(tl.float32)
            smoothed = tl.where(column == target, 1.0 - eps, 0.0) + eps / V
            tl.store(grad + row * grad_row + column, (tl.exp(value - top) / scaled - smoothed) * share,
                     mask=column < V)
    ### END SOLUTION


@triton.jit
def mean_kernel(loss, losses, count, N, BLOCK: tl.constexpr):
    """One program: the sum of `losses` (N,), divided by `count`."""
    ### BEGIN SOLUTION
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, N, BLOCK):
        row = start + tl.arange(0, BLOCK)
        total += tl.load(losses + row, mask=row < N, other=0.0)
    tl.store(loss, tl.sum(total) / tl.load(count))
    ### END SOLUTION


def fused_ls_cross_entropy(loss: Tensor, grad: Tensor, logits: Tensor, y: Tensor, eps: float,
                           ignore_index: int) -> None:
    """Fills `loss` with Eq. (3) and `grad` with its gradient, Eq. (6).

    loss          () float32; NaN before the call
    grad          (N, V) float, any row stride; NaN before the call, or the same memory as `logits`
    logits        (N, V) float, finite, any row stride; left as it was unless `grad` is the same memory
    y             (N,) int64, contiguous: a class in [0, V), or ignore_index
    eps           float in [0, 1]: the share of the uniform distribution over all V classes
    ignore_index  int, any: rows with this target do not count, even if it is a class

    If every row is ignored, the loss is 0 and so is the gradient.
    """
    ### BEGIN SOLUTION
    N, V = logits.shape
    block = min(triton.next_power_of_2(V), _LARGEST_BLOCK)
    losses = torch.empty(N, dtype=torch.float32, device=logits.device)
    count = torch.empty(1, dtype=torch.int32, device=logits.device)
    count_kernel[(1,)](count, y, N, ignore_index, BLOCK=1024)
    ls_cross_entropy_kernel[(N,)](losses, grad, logits, y, count, V, eps, ignore_index, grad.stride(0),
                                  logits.stride(0), BLOCK=block, num_warps=min(max(block // 256, 1), 16))
    mean_kernel[(1,)](loss, losses, count, N, BLOCK=1024)
    ### END SOLUTION


def fused_ls_cross_entropy_(loss: Tensor, logits: Tensor, y: Tensor, eps: float, ignore_index: int) -> None:
    """The same in place: `logits` holds its own gradient afterwards."""
    fused_ls_cross_entropy(loss, logits, logits, y, eps, ignore_index)


### BEGIN SOLUTION
_LARGEST_BLOCK = 4096  # eight elements for each of 512 threads
### END SOLUTION

# %% [markdown] hints="fused_ls_cross_entropy"
# - Begin with one block for the whole row, no ignored rows, and the loss alone; then the gradient; then the loop over
#   blocks with Eq. (5); then ignored rows. Check after each.
# - `other=float("-inf")` for masked lanes keeps them out of the maximum, and their exponential is 0. But minus infinity
#   does not belong into the plain sum of the logits: `tl.where` takes it out.
# - Three launches: one program counts the rows that count into a scratch tensor of one number; a program for each row
#   writes its loss into a scratch tensor and its gradient; one program adds up the losses and divides.
# - A plain `if` works in a kernel where the condition is one number, such as a target that was loaded. The row's
#   gradient must still be written; nothing may be read at `logits + target`.
# - In place, whatever you still need of a logit has to be in a variable before its gradient is stored: the right
#   class's logit, above all.

# %% [markdown]
# **What to look at.** On the left what your kernel has left in the memory of one row of logits: bars are its gradient,
# dots are $p - q$ over the two rows that count, computed before the logits were gone. Descent goes the other way, so
# the right class is pushed up; and so, a little, is every class that has less than $\varepsilon / V$ already. On the
# right the reason for float32: ones, added up one after the other, in three dtypes.

# %%
logits = 2 * torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
y, eps, loss = torch.tensor([4, -100, 9]), 0.1, torch.tensor(torch.nan)
p = torch.exp(logits[0]) / torch.exp(logits[0]).sum()
q = eps / 12 + (1 - eps) * (torch.arange(12) == y[0])
expected, before = (p - q) / 2, logits.data_ptr()
fused_ls_cross_entropy_(loss, logits, y, eps=eps, ignore_index=-100)
print(f"loss {loss.item():.4f}; the gradient lies where the logits were: {before == logits.data_ptr()}; "
      f"largest gradient of the ignored row: {logits[1].abs().max().item()}")
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
axes[0].bar(range(12), logits[0], color="#8f7bb3", label="your kernel")
axes[0].plot(range(12), expected, "o", color="#d9a400", markersize=5, label="(p − q) / 2")
axes[0].set(title=f"gradient of a row, right class {y[0]}", xlabel="class")
axes[0].legend(fontsize=8, loc="lower right")
terms = 4096
for dtype, style in ((torch.float32, "-"), (torch.float16, "--"), (torch.bfloat16, ":")):
    total, sums = torch.zeros((), dtype=dtype), []
    for _ in range(terms):
        total = total + 1
        sums.append(total.item())
    axes[1].loglog(range(1, terms + 1), sums, style, label=str(dtype).removeprefix("torch."))
axes[1].set(title="sum of ones", xlabel="terms")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Going further
#
# - Let the second walk go from the end of the row to its start. Why should it find more in the cache?
# - Give every lane a maximum and a sum of its own, and join them after the loop: how many reductions does that save?
# - Do not even make the logits: multiply a chunk of rows by the output matrix, take loss and gradient, multiply back,
#   and go on to the next chunk (Hsu et al. 2024 do so). What is kept in memory then?
#
# ### References
#
# - Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, *Rethinking the Inception architecture for computer vision*, 2016,
#   [arXiv:1512.00567](https://arxiv.org/abs/1512.00567): label smoothing, §7.
# - Milakov and Gimelshein, *Online normalizer calculation for softmax*, 2018,
#   [arXiv:1805.02867](https://arxiv.org/abs/1805.02867).
# - Hsu et al., *Liger Kernel: efficient Triton kernels for LLM training*, 2024,
#   [arXiv:2410.10989](https://arxiv.org/abs/2410.10989): the gradient in the memory of the logits.
# - Williams, Waterman and Patterson, *Roofline: an insightful visual performance model*, 2009.
