# %% [markdown]
# # Transformer kernels
#
# Attention over $T$ positions makes a matrix of $T \times T$ scores for every head. Written with PyTorch's operations
# that matrix goes to memory and comes back several times, and it is memory, not arithmetic, that long sequences run
# out of. **FlashAttention** never writes it: a program keeps a few rows of the output in registers, goes through keys
# and values block by block, and corrects what it has so far whenever a larger score turns up. The result is exact. Here
# you write its forward pass in [Triton](https://triton-lang.org).
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `flash_attention_fwd` | ★★★ | 150 | a softmax that is never whole, matrix products in a kernel, causal tiles |
#
# ### Without a GPU
#
# You need none. On a CPU, Triton's *interpreter* runs every program of your kernel with NumPy, and `check` looks over
# its shoulder: at every address it touches, at elements that two programs use, at the values. Then the kernel is
# compiled for an H100 or H200, which tells registers, spills and tensor cores. Only its **speed** has to wait for a
# GPU: those points stay *pending* until your course runs them. How that works: `docs/kernels.md` of the course.
#
# ### Rules for every exercise
#
# - **Destinations come first, nothing is returned.** The caller allocates them, and fills them with NaN.
# - Tensors of shape `(B, H, T, d)` may have any strides but the last, which is 1: element $(b, h, t, c)$ of `q` lies at
#   `q + b * q.stride(0) + h * q.stride(1) + t * q.stride(2) + c`. Each tensor has strides of its own.
# - `float` is float32 or float16 (on a GPU also bfloat16), the same for all tensors marked so. **Products add up in
#   float32**, and so do sums, whatever comes in.
# - On float32, `tl.dot` takes `input_precision="ieee"`: otherwise a GPU rounds the operands to 10 bits (TF32).
# - Grids and blocks are yours to choose, and so are the kernels' arguments. Any number of launches. No PyTorch
#   operation touches the data; `torch.empty` for scratch memory is fine, but not for $T \times T$ elements.
# - Plain pointers only. What your code needs lies in the exercise's cell.

# %% role="setup"
import torch
from torch import Tensor

from etude import check, hint, progress
from etude.kernels import tl, triton

# %% [markdown]
# ## What attention costs
#
# For each of $B$ examples and $H$ heads, with $q_t, k_j, v_j \in \mathbb{R}^d$ (Vaswani et al. 2017, Eq. 1),
#
# $$ s_{tj} = \frac{\langle q_t, k_j \rangle}{\sqrt d}, \qquad p_{tj} = \frac{e^{s_{tj}}}{\sum_l e^{s_{tl}}}, \qquad
#    o_t = \sum_j p_{tj}\, v_j, \tag{1} $$
#
# where sums are over all positions, or over $j \le t$ if attention is *causal*. Two products of $2T^2d$ operations a
# head. With $s$ bytes an element, PyTorch writes the scores, reads and writes them in the softmax, and reads the
# weights:
#
# $$ f = 4BHT^2d, \qquad b_{\mathrm{eager}} = 4BHTd\,s + 4BHT^2 s. \tag{2} $$
#
# In one kernel, inputs are read and the output is written, and one float32 for each row, of which below:
#
# $$ b_{\mathrm{flash}} = 4BHTd\,s + 4BHT \quad\Rightarrow\quad I = \frac{f}{b} \approx \frac{T}{s}. \tag{3} $$
#
# An H200 does about 200 operations of its tensor cores in the time in which it moves one byte, so with $T$ in the
# thousands the kernel is **bound by arithmetic**, and the eager one by memory. There is a third limit: each score needs
# an exponential, of which a multiprocessor starts 16 a clock. $BHT^2$ exponentials against $4BHT^2d$ operations: at
# $d = 64$ both take about as long. Causal attention does half of everything, if a program leaves out the blocks
# beyond the diagonal.

# %%
import matplotlib.pyplot as plt

BANDWIDTH, PEAK = 4.8e12, 989e12  # of an H200, by its data sheet: bytes/s, bfloat16 operations/s of its tensor cores
EXPONENTIALS = 132 * 16 * 1.755e9  # multiprocessors, a clock, clocks a second
B, H, T, D, SIZE = 4, 16, 4096, 64, 2
FLOPS, TENSORS, SCORES = 4 * B * H * T * T * D, 4 * B * H * T * D * SIZE, B * H * T * T
KERNELS = {
    "one operation after the other": (TENSORS + 4 * SCORES * SIZE, FLOPS, SCORES),
    "one kernel": (TENSORS + 4 * B * H * T, FLOPS, SCORES),
    "one kernel, causal": (TENSORS + 4 * B * H * T, FLOPS / 2, SCORES / 2),
}
fig, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
intensity = sorted([PEAK / BANDWIDTH] + [2.0**k for k in range(2, 15)])
ax.loglog(intensity, [min(PEAK, i * BANDWIDTH) / 1e12 for i in intensity], color="#222222")
ax.axhline(EXPONENTIALS * 4 * D / 1e12, color="#777777", linestyle="--", linewidth=1, label=f"exponentials, d = {D}")
for (name, (moved, done, exps)), marker in zip(KERNELS.items(), "sov", strict=True):
    least = max(moved / BANDWIDTH, done / PEAK, exps / EXPONENTIALS)
    ax.plot(done / moved, done / least / 1e12, marker, label=f"{name}: {1e6 * least:.0f} µs at best")
    print(f"{name:30s} {moved / 1e6:6.0f} MB {done / 1e9:5.0f} GFLOP, at least {1e6 * least:5.0f} µs")
ax.axvline(PEAK / BANDWIDTH, color="#777777", linestyle=":", linewidth=1)
ax.text(PEAK / BANDWIDTH * 1.1, 400, "compute-bound →", fontsize=9)
ax.set(title=f"Roofline of an H200, {B} × {H} heads, T = {T}, d = {D}, bfloat16", xlabel="operations per byte",
       ylabel="TFLOP/s attainable")
ax.legend(loc="lower right", fontsize=8)
plt.show()

# %% [markdown]
# ## A softmax in pieces
#
# The softmax of a row seems to need the whole row first: $e^{s}$ overflows float32 at $s = 89$, so the row's largest
# score is subtracted. But sums over *part* of a row can be carried on. For the keys seen so far keep the largest score
# $m$, the sum $l$ of $e^{s - m}$, and $a = \sum e^{s - m} v$. A block $J$ of further keys changes them to
#
# $$ m' = \max\Bigl( m,\; \max_{j \in J} s_j \Bigr), \qquad
#    l' = e^{m - m'}\, l + \sum_{j \in J} e^{s_j - m'}, \qquad
#    a' = e^{m - m'}\, a + \sum_{j \in J} e^{s_j - m'}\, v_j \tag{4} $$
#
# (Milakov and Gimelshein 2018; Dao et al. 2022, Algorithm 1), beginning with $m = -\infty$, $l = 0$, $a = 0$. All that
# was added under an old maximum shrinks by the same factor: nothing is lost, and nothing overflows. After the last
# block
#
# $$ o = \frac{a}{l}, \qquad \mathrm{lse} = m + \log l = \log \sum_j e^{s_j}. \tag{5} $$
#
# Why also `lse`? With it every weight can be had again from its score, $p_{tj} = e^{s_{tj} - \mathrm{lse}_t}$, and
# that is how the backward pass goes without the matrix, too. It also merges results over disjoint sets of keys.
#
# **Programs.** One program owns a tile of query rows of one head, and loops over the keys. Rows of different programs
# have nothing to do with each other, so nothing is shared and nothing is atomic. In the loop a block of scores is a
# product of matrices, `tl.dot(query, keys)`, where `keys` is loaded transposed, simply by its addresses; so is what the
# block adds to $a$. `tl.dot` wants every axis to be at least 16 long: pad $d$ to a power of two with zeros, which
# change no product. For half-precision inputs the weights $e^{s - m'} \le 1$ may be rounded to the inputs' dtype, so
# that tensor cores multiply them; $l$ adds them unrounded.
#
# *Watch for* keys beyond $T$ in the last block: a score of 0 is not "no score". For the diagonal: query $t$ sees key
# $t$. For causal programs, which may stop early, but not one block too early. For $m$ and $\log l$, which both belong
# to `lse`. And for thirteen strides.

# %% exercise="flash_attention_fwd"
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    """Eqs. (4) and (5) for BLOCK_T queries of one head, BLOCK_S keys at a time. BLOCK_D is a power of two, at least d.

    Program (i, j) has the rows from i * BLOCK_T of head j % H of example j // H; `x_b`, `x_h`, `x_t` are strides.
    """
    ### BEGIN SOLUTION
    first = tl.program_id(0) * BLOCK_T
    example = (tl.program_id(1) // H).to(tl.int64)
    head = (tl.program_id(1) % H).to(tl.int64)
    row = first + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    inside = (row[:, None] < T) & (column[None, :] < d)
    query = tl.load(q + example * q_b + head * q_h + row[:, None].to(tl.int64) * q_t + column[None, :],
                    mask=inside, other=0.0)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    end = T
    if CAUSAL:
        end = tl.minimum(T, first + BLOCK_T)
    for start in range(0, end, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        keys = tl.load(k + example * k_b + head * k_h + key[None, :].to(tl.int64) * k_t + column[:, None],
                       mask=(key[None, :] < T) & (column[:, None] < d), other=0.0)
        score = scale * tl.dot(query, keys, input_precision="ieee")
        seen = key[None, :] < T
        if CAUSAL:
            seen = seen & (key[None, :] <= row[:, None])
        score = tl.where(seen, score, float("-inf"))
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = tl.load(v + example * v_b + head * v_h + key[:, None].to(tl.int64) * v_t + column[None, :],
                         mask=(key[:, None] < T) & (column[None, :] < d), other=0.0)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :],
             mixed / total[:, None], mask=inside)
    tl.store(lse + example * lse_b + head * lse_h + row, largest + tl.log(total), mask=row < T)
    ### END SOLUTION


def flash_attention_fwd(o: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> None:
    """Fills `o` with Eq. (1) and `lse` with Eq. (5), without a matrix of T x T elements.

    o       (B, H, T, d) float; NaN before the call
    lse     (B, H, T) float32, last axis contiguous: natural logarithms; NaN before the call
    q, k, v (B, H, T, d) float, B * H <= 65535, 1 <= d <= 128
    causal  bool: query t sees keys 0 to t; otherwise all
    """
    ### BEGIN SOLUTION
    B, H, T, d = q.shape
    block_t, block_s, warps = _blocks(q.dtype)
    flash_attention_kernel[(triton.cdiv(T, block_t), B * H)](
        o, lse, q, k, v, H, T, d, d**-0.5, *o.stride()[:3], *lse.stride()[:2], *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CAUSAL=causal, BLOCK_T=block_t, BLOCK_S=block_s,
        BLOCK_D=max(triton.next_power_of_2(d), 16), num_warps=warps)
    ### END SOLUTION


### BEGIN SOLUTION
def _blocks(dtype: torch.dtype) -> tuple[int, int, int]:
    """(queries, keys, warps) of a program: float32 has no tensor cores to feed, and twice the bytes to hold."""
    return (64, 32, 8) if dtype == torch.float32 else (128, 64, 8)
### END SOLUTION

# %% [markdown] hints="flash_attention_fwd"
# - Begin without `causal`, with one block that holds all keys: then Eq. (4) is an ordinary softmax. Then the loop.
# - Masks on loads keep you inside the tensors, but a masked key has score 0 and weight $e^0$. Set its score to minus
#   infinity with `tl.where`, before the maximum is taken.
# - The old sum and the old mixture shrink by the same factor, `exp(old maximum - new maximum)`, in every turn of the
#   loop. The first turn has `exp(-inf) = 0`, which is right as nothing was added before.
# - A causal program with rows up to `first + BLOCK_T - 1` needs the keys before `first + BLOCK_T`. Its last blocks lie
#   on the diagonal and need the comparison of key and row as well.
# - `tl.dot` needs operands of one dtype: convert the weights, not the sum of them.

# %% [markdown]
# **What to look at.** With random queries and keys the scores are standard normal, and $e^s$ has the mean $\sqrt e$. So
# in causal attention $\mathrm{lse}_t \approx \log(t + 1) + \tfrac12$: it counts what a query sees. On the right are the
# weights, made from your `lse` and the scores alone, as a backward pass does.

# %%
generator = torch.Generator().manual_seed(0)
q, k, v = (torch.randn(1, 2, 96, 32, generator=generator) for _ in range(3))
o, lse = torch.full_like(q, torch.nan), torch.full((1, 2, 96), torch.nan)
flash_attention_fwd(o, lse, q, k, v, causal=True)
weights = (q @ k.mT / 32**0.5 - lse[..., None]).exp().tril()
print(f"weights of a row add up to 1 within {(weights.sum(-1) - 1).abs().max():.0e}; "
      f"the output is their mixture of v within {(weights @ v - o).abs().max():.0e}")
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
axes[0].plot(lse[0].T, ".", markersize=3, label=["head 0", "head 1"])
axes[0].plot(torch.arange(1, 97).log() + 0.5, color="#222222", linewidth=1, label="log(t + 1) + 1/2")
axes[0].set(title="lse of each query", xlabel="t")
axes[0].legend(fontsize=8)
shown = axes[1].imshow(weights[0, 0, :48, :48].sqrt(), cmap="viridis")
fig.colorbar(shown, ax=axes[1], label="root of the weight")
axes[1].set(title="weights from lse, to t = 47", xlabel="key", ylabel="query")
plt.show()

# %% [markdown]
# ## Going further
#
# - $e^x = 2^{x \log_2 e}$, and the hardware only knows $2^x$: fold the constant into the scale, and keep $m$ in base 2.
#   Which of the destinations needs care then?
# - Only blocks on the diagonal need the causal comparison. Two loops, one without it: what is saved?
# - Every program reads all keys and values. How many bytes are that for tiles of 128 queries, and who serves them?
# - With few queries and many keys, as in decoding, there are too few programs: split the keys, and merge by `lse`.
# - The backward pass needs $\sum_c o_{tc}\, \bar o_{tc}$ of each row, and the weights. Which of its sums are shared?
#
# ### References
#
# - Vaswani et al., *Attention is all you need*, 2017.
# - Milakov and Gimelshein, *Online normalizer calculation for softmax*, 2018.
# - Dao, Fu, Ermon, Rudra and Ré, *FlashAttention: fast and memory-efficient exact attention with IO-awareness*, 2022.
# - Dao, *FlashAttention-2: faster attention with better parallelism and work partitioning*, 2023.
# - Williams, Waterman and Patterson, *Roofline: an insightful visual performance model*, 2009.
