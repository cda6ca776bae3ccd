# %% [markdown]
# # Attention kernels
#
# Without the softmax, attention is linear in what it has seen: everything that a query can ask of its past fits into
# one $d \times d$ matrix, a *state*. Written as a recurrence it takes $T$ tiny steps in a row, which leaves a GPU idle;
# written as a matrix of scores it takes $T^2$ operations. **In chunks** it is both: matrix products within a chunk, a
# carried state from one chunk to the next. Here you write that in [Triton](https://triton-lang.org).
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `linear_attention_chunked` | ★★★ | 150 | a carried state, decay within and between chunks, two launches |
#
# ### Without a GPU
#
# You need none. On a CPU, Triton's *interpreter* runs every program of your kernel with NumPy, and `check` looks over
# its shoulder: at every address it touches, at elements that two programs use, at the values. Then the kernels are
# compiled for an H100 or H200, which tells registers, spills and tensor cores. Only **speed** has to wait for a GPU:
# those points stay *pending* until your course runs them. How that works: `docs/kernels.md` of the course.
#
# ### Rules for every exercise
#
# - **Destinations come first, nothing is returned.** The caller allocates `o`, and fills it with NaN.
# - Tensors of shape `(B, H, T, d)` may have any strides but the last, which is 1. Each has strides of its own.
# - `float` is float32 or float16 (on a GPU also bfloat16), the same for all tensors marked so. **Compute in float32**:
#   states, sums and decays, whatever comes in. Operands of `tl.dot` are float32, too: float16 is too short for a state.
# - `input_precision` of `tl.dot` is `"ieee"` where the inputs are float32. Where they are 16 bits long it may be
#   `"tf32"`, which uses tensor cores and keeps all their digits.
# - Grids and blocks are yours to choose, and so are the kernels' arguments. Any number of launches. No PyTorch
#   operation touches the data; `torch.empty` for scratch memory is fine, but not for $T \times T$ elements.
# - Plain pointers only. What your code needs lies in the exercise's cell.

# %% role="setup"
import torch
from torch import Tensor

from etude import check, hint, progress
from etude.kernels import tl, triton

# %% [markdown]
# ## Three forms of one function
#
# For every head, with a decay $0 < \gamma \le 1$ of its own, retention (Sun et al. 2023, Eq. 5) is
#
# $$ o_t = \sum_{j \le t} \gamma^{t - j}\, \langle q_t, k_j \rangle\, v_j. \tag{1} $$
#
# $\gamma = 1$ is linear attention (Katharopoulos et al. 2020) without its normalizer. As a **recurrence** over a state
# $S \in \mathbb{R}^{d \times d}$ that begins with 0,
#
# $$ S_t = \gamma S_{t-1} + k_t v_t^\top, \qquad o_t = S_t^\top q_t. \tag{2} $$
#
# **In chunks** of $C$ positions: let $S$ be the state before a chunk, and count $i = 0, \dots, C - 1$ within it. Then
#
# $$ o_i = \gamma^{i + 1} S^\top q_i + \sum_{j \le i} \gamma^{i - j}\, \langle q_i, k_j \rangle\, v_j, \tag{3} $$
#
# $$ S' = \gamma^C S + \sum_{j} \gamma^{C - 1 - j}\, k_j v_j^\top. \tag{4} $$
#
# Eq. (3) is two products for the chunk and one with the state, Eq. (4) one more:
#
# $$ f = 4BHTd\,(C / 2 + d), \qquad b = 4BHTd\,s + 8BH\, (T / C)\, d^2 \tag{5} $$
#
# with $s$ bytes an element, if states are written to memory and read again as float32. A larger chunk means fewer
# states and more operations within chunks; the quadratic form is $C = T$.

# %%
import matplotlib.pyplot as plt

BANDWIDTH, PEAK = 4.8e12, 989e12  # of an H200, by its data sheet: bytes/s, bfloat16 operations/s of its tensor cores
B, H, T, D, SIZE = 4, 16, 8192, 64, 2
TENSORS = 4 * B * H * T * D * SIZE


def chunked(C):
    """(bytes, operations) of Eq. (5)."""
    return TENSORS + 8 * B * H * (T // C) * D * D, 4 * B * H * T * D * (C // 2 + D)


KERNELS = {
    "quadratic": (TENSORS, 2 * B * H * T * T * D),
    "chunks of 16": chunked(16),
    "chunks of 64": chunked(64),
    "chunks of 256": chunked(256),
}
fig, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
intensity = sorted([PEAK / BANDWIDTH] + [2.0**k for k in range(2, 14)])
ax.loglog(intensity, [min(PEAK, i * BANDWIDTH) / 1e12 for i in intensity], color="#222222")
for (name, (moved, done)), marker in zip(KERNELS.items(), "sovD", strict=True):
    least = max(moved / BANDWIDTH, done / PEAK)
    ax.plot(done / moved, done / least / 1e12, marker, label=f"{name}: {1e6 * least:.0f} µs at best")
    print(f"{name:14s} {moved / 1e6:5.0f} MB {done / 1e9:5.0f} GFLOP, at least {1e6 * least:4.0f} µs")
ax.axvline(PEAK / BANDWIDTH, color="#777777", linestyle=":", linewidth=1)
ax.text(PEAK / BANDWIDTH * 1.1, 400, "compute-bound →", fontsize=9)
ax.set(title=f"Roofline of an H200, {B} × {H} heads, T = {T}, d = {D}, bfloat16", xlabel="operations per byte",
       ylabel="TFLOP/s attainable")
ax.legend(loc="lower right", fontsize=8)
plt.show()

# %% [markdown]
# ## Chunks on a GPU
#
# Only Eq. (4) has an order. So make two launches. The **first** goes through the chunks of a head in a loop, with the
# state in registers, and writes down the state *before* each chunk; columns of the state have nothing to do with each
# other, so several programs can share a head. The **second** has a program for each chunk, as all of them know where to
# begin. Between two launches everything that was written can be read: within one launch, a program must not wait for
# what another writes.
#
# $\gamma^n = 2^{n \log_2 \gamma}$. Tempting: divide keys by $\gamma^j$, multiply queries by $\gamma^i$, and the decay
# is gone from the scores. But $0.1^{-64}$ is no float32. Take the difference $i - j$ first.
#
# *Watch for* the exponents: $i + 1$ steps lie between the state before a chunk and position $i$. For differences
# $i - j < 0$, whose power may be infinite: infinite times 0 is NaN, but `tl.where` chooses. For the last chunk, which
# is shorter. For the state *before* the chunk and not after it. For each head's own $\gamma$. And for products in
# float16, which end at 65504.

# %% exercise="linear_attention_chunked"
@triton.jit
def carry_state_kernel(states, k, v, gamma, H, T, d, chunks, k_b, k_h, k_t, v_b, v_h, v_t, CHUNK: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr):
    """The state before each chunk, Eq. (4): `states` (B * H, chunks, d, d) float32, contiguous.

    Program (i, j) has the columns from j * BLOCK_V of head i % H of example i // H. BLOCK_D is at least d.
    """
    ### BEGIN SOLUTION
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (left[:, None] < d) & (right[None, :] < d)
    state = tl.zeros([BLOCK_D, BLOCK_V], dtype=tl.float32)
    for chunk in range(0, chunks):
        tl.store(states + (pair * chunks + chunk) * d * d + left[:, None] * d + right[None, :], state, mask=inside)
        time = (chunk * CHUNK + step).to(tl.int64)
        keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                       mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
        values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :],
                         mask=(time[:, None] < T) & (right[None, :] < d), other=0.0).to(tl.float32)
        left_over = tl.exp2(rate * (CHUNK - 1 - step))
        state = tl.exp2(rate * CHUNK) * state + tl.dot(keys * left_over[None, :], values, input_precision=PRECISION)
    ### END SOLUTION


@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    """Eq. (3) for chunk l in program (i, j, l): head i % H of example i // H, columns from j * BLOCK_V."""
    ### BEGIN SOLUTION
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = tl.exp2(rate * (step + 1))[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.where(apart >= 0, tl.exp2(rate * apart), 0.0) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)
    ### END SOLUTION


def linear_attention_chunked(o: Tensor, q: Tensor, k: Tensor, v: Tensor, gamma: Tensor) -> None:
    """Fills `o` with Eq. (1), without a matrix of T x T elements.

    o       (B, H, T, d) float; NaN before the call
    q, k, v (B, H, T, d) float, 1 <= d <= 128, T < 2^22
    gamma   (H,) float32, contiguous, in (0, 1]: each head's decay
    """
    ### BEGIN SOLUTION
    B, H, T, d = q.shape
    # Without tensor cores, products of longer chunks take more registers than there are.
    length, precision = (32, "ieee") if q.dtype == torch.float32 else (64, "tf32")
    width, block, chunks = 32, max(triton.next_power_of_2(d), 16), triton.cdiv(T, length)
    states = torch.empty((B * H, chunks, d, d), dtype=torch.float32, device=q.device)
    carry_state_kernel[(B * H, triton.cdiv(d, width))](
        states, k, v, gamma, H, T, d, chunks, *k.stride()[:3], *v.stride()[:3], CHUNK=length, BLOCK_D=block,
        BLOCK_V=width, PRECISION=precision, num_warps=8)
    chunk_output_kernel[(B * H, triton.cdiv(d, width), chunks)](
        o, states, q, k, v, gamma, H, T, d, chunks, *o.stride()[:3], *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CHUNK=length, BLOCK_D=block, BLOCK_V=width, PRECISION=precision, num_warps=8)
    ### END SOLUTION

# %% [markdown] hints="linear_attention_chunked"
# - Begin with one chunk that holds everything: then there is no state, and Eq. (3) is its second term.
# - Then the first launch: store the state, load the chunk, change the state. In this order, from zeros.
# - In the state a chunk's key j has left $C - 1 - j$ steps to go, and the old state $C$. Masked keys are 0 and add
#   nothing; nobody reads the state after the last chunk.
# - Load a chunk's keys transposed, by their addresses, where the product needs them so.

# %% [markdown]
# **What to look at.** Feed a single key at $t = 8$, and ask for it ever after: what comes back is its decay, straight
# through the borders of chunks, here every 64 steps. On the right: how far outputs in chunks are from the recurrence.

# %%
q = torch.zeros(1, 3, 200, 16)
q[..., 0] = 1
k = torch.zeros_like(q)
k[:, :, 8, 0] = 1
gamma = torch.tensor([1.0, 0.99, 0.95])
o = torch.full_like(q, torch.nan)
linear_attention_chunked(o, q, k, q, gamma)
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
for head, style in enumerate(("-", "--", ":")):
    axes[0].plot(o[0, head, :, 0], style, label=f"γ = {gamma[head]:g}")
axes[0].set(title="what is left of one key", xlabel="t")
axes[0].legend(fontsize=8)
q, k, v = (torch.randn(1, 3, 200, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
linear_attention_chunked(o, q, k, v, gamma)
state, wanted = torch.zeros(1, 3, 16, 16, dtype=torch.float64), []
for t in range(200):
    state = gamma[:, None, None] * state + (k[:, :, t, :, None] * v[:, :, t, None, :]).double()
    wanted.append((q[:, :, t, None, :].double() @ state)[:, :, 0])
error = (o - torch.stack(wanted, dim=2)).abs().amax(dim=(0, 3))
for head, style in enumerate(("-", "--", ":")):
    axes[1].semilogy(error[head] + 1e-9, style)
axes[1].set(title="largest error at each t", xlabel="t")
plt.show()
print(f"largest error {error.max():.0e}, of outputs up to {o.abs().max():.0f}")

# %% [markdown]
# ## Going further
#
# - Return the state after the last, shorter chunk, and take one to begin with: then decoding can go on from there.
# - The first launch has few programs for long sequences of few heads. Sum each chunk on its own, and scan.
# - Which chunk is best for $d = 64$ by Eq. (5), if products take $f / \pi$ and memory $b / \beta$?
# - A decay that depends on the position is a gate: what replaces $\gamma^{i - j}$?
#
# ### References
#
# - Katharopoulos, Vyas, Pappas and Fleuret, *Transformers are RNNs: fast autoregressive transformers with linear
#   attention*, 2020.
# - Sun et al., *Retentive network: a successor to transformer for large language models*, 2023.
# - Yang et al., *Gated linear attention transformers with hardware-efficient training*, 2024.
