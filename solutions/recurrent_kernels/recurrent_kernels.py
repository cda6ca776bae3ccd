# %% [markdown]
# # Recurrent kernels
#
# A recurrence takes its steps one after the other, and a GPU wants to do everything at once. Where the step is *linear*
# in the state, both can be had: steps can be joined into longer steps before anybody knows the state that they start
# from. minGRU, S4, Mamba and RetNet live on that. Here you write the recurrence as one
# [Triton](https://triton-lang.org) kernel, forward and backward, which reads each input once.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `linear_recurrence_triton` | ★★★ | 120 | an associative scan, a carry between chunks, a gradient backwards in time |
#
# ### Without a GPU
#
# You need none. On a CPU, Triton's *interpreter* runs every program of your kernel with NumPy, and `check` looks over
# its shoulder: at every address it touches, at elements that two programs use, at the values. Then the kernel is
# compiled for an H100 or H200. Only its **speed** has to wait for a GPU: those points stay *pending* until your course
# runs them. A scan is slow in the interpreter, some 0.05 ms for each element of a block, so keep your experiments
# small. How all this works: `docs/kernels.md` of the course.
#
# ### Rules for every exercise
#
# - **Destinations come first, nothing is returned.** The caller allocates them, and fills them with NaN.
# - Sequences have shape `(B, T, D)`, any strides over B and T, and a contiguous last axis: element $(i, t, j)$ of `a`
#   lies at `a + i * a.stride(0) + t * a.stride(1) + j`. States have shape `(B, D)`, any row stride. Every tensor has
#   strides of its own.
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
# ## What the recurrence costs
#
# $$ h_t = a_t \odot h_{t-1} + b_t, \qquad t = 1, \dots, T \tag{1} $$
#
# for every sequence and channel by itself: $a$ and $b$ have $BTD$ elements of $s$ bytes, and so has $h$. Whoever
# computes it must at least read $a$ and $b$ and write $h$,
#
# $$ b_{\min} = 3BTDs + BDs, \qquad f = 2BTD \;\Rightarrow\; I = \frac{f}{b_{\min}} \approx \frac{2}{3s} \tag{2} $$
#
# a sixth of an operation per byte in float32, where an H200 does fourteen in the time of one byte. The kernel is
# **bound by memory**. Two ways without a kernel of your own:
#
# - *A loop over* $t$ in PyTorch launches at least one kernel per step, and each reads the state that the last one
#   wrote: $4BTDs$ bytes, and $T$ times the few microseconds of a launch. The GPU mostly waits.
# - *Doubling* (Hillis and Steele 1986) joins every step with the one 1, 2, 4, ... before it: $\log_2 T$ rounds over
#   whole tensors. A round multiplies (two reads, one write) and multiplies and adds (three reads, one write), that is
#   $7BTDs$ bytes: $84BTDs$ for $T = 4096$, 28 times Eq. (2).
#
# A kernel keeps the state in registers, between one chunk of steps and the next. Its backward pass reads the
# incoming gradient, $a$ and $h$ and writes two gradients: $5BTDs$ bytes and $3BTD$ operations.

# %%
import matplotlib.pyplot as plt

BANDWIDTH, PEAK = 4.8e12, 67e12  # of an H200, by its data sheet: bytes/s, float32 operations/s
B, T, D, SIZE = 16, 4096, 1024, 4
WAYS = {
    "doubling, 12 rounds": (84 * B * T * D * SIZE, 3 * 12 * B * T * D),
    "a loop over t, without its launches": (4 * B * T * D * SIZE, 2 * B * T * D),
    "one kernel, forward": (3 * B * T * D * SIZE + B * D * SIZE, 2 * B * T * D),
    "one kernel, backward": (5 * B * T * D * SIZE + 2 * B * D * SIZE, 3 * B * T * D),
}
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
intensity = sorted([2.0**k for k in range(-6, 9)] + [PEAK / BANDWIDTH])
ax.loglog(intensity, [min(PEAK, i * BANDWIDTH) / 1e12 for i in intensity], color="#222222")
for (name, (moved, done)), marker in zip(WAYS.items(), "sDov", strict=True):
    least = max(moved / BANDWIDTH, done / PEAK)
    ax.plot(done / moved, done / least / 1e12, marker, label=f"{name}: {1e6 * least:.0f} µs at best")
    print(f"{name:36s} {moved / 1e6:7.0f} MB {done / 1e6:6.0f} MFLOP, at least {1e6 * least:5.0f} µs")
ax.axvline(PEAK / BANDWIDTH, color="#777777", linestyle=":", linewidth=1)
ax.text(PEAK / BANDWIDTH * 1.1, 0.2, "compute-bound →", fontsize=9)
ax.set_ylim(top=2000)
ax.set(title=f"Roofline of an H200, {B} × {T} × {D} float32", xlabel="operations per byte", ylabel="TFLOP/s attainable")
ax.legend(loc="upper left", fontsize=9)
plt.show()

# %% [markdown]
# ## Steps that can be joined
#
# A step is the map $h \mapsto a h + b$, and a pair $(a, b)$ says all about it. Two steps after each other are one:
#
# $$ (a_1, b_1) \text{ then } (a_2, b_2) \;=\; (a_1 a_2,\; a_2 b_1 + b_2). \tag{3} $$
#
# Joining is **associative**: it does not matter which neighbours are joined first. It is *not* commutative: the
# earlier step stands on the left. `tl.associative_scan((a, b), axis, compose)` uses that freedom. It returns, for every
# $t$, all steps up to $t$ joined, $(A_t, B_t)$, in $\log$ many rounds; along an axis that one thread holds, just one
# after the other. A `compose` that is right only from left to right passes the interpreter, which goes from left to
# right, and fails on a GPU: that is why it has a check of its own.
#
# **Chunks.** $T$ steps do not fit into registers. A program takes a few channels of one sequence and goes through time
# in chunks of a fixed number of steps. In a chunk, from the state $c$ before it,
#
# $$ h_t = A_t\, c + B_t, \tag{4} $$
#
# and the last $h_t$ of the chunk is the next chunk's $c$, the **carry**; the first one is $h_0$. What is the step that
# changes nothing, for lanes beyond $T$?
#
# **Backward.** With $\bar h_t$ the gradient that arrives at $h_t$ from outside, and $g_t$ all of it, by way of later
# states, too,
#
# $$ g_t = \bar h_t + a_{t+1}\, g_{t+1}, \qquad g_T = \bar h_T, \tag{5} $$
# $$ \bar b_t = g_t, \qquad \bar a_t = g_t\, h_{t-1}, \qquad \bar h_0 = a_1 g_1. \tag{6} $$
#
# Eq. (5) is Eq. (1) again, from the end to the beginning and with $a$ one step further on. `associative_scan` has
# `reverse=True`, and chunks are gone through from the last to the first.
#
# *Watch for* the carry, whose value is an element of a block (a sum in which all other lanes are 0 picks it out); for
# float16, which must not be the carry's type; for $a_{t+1}$ at the end of a chunk and at the end of the sequence, and
# $h_{t-1}$ at its beginning; and for twelve strides.

# %% exercise="linear_recurrence_triton"
@triton.jit
def compose(a1, b1, a2, b2):
    """The step (a1, b1), then the step (a2, b2), as one: Eq. (3). Returns two values."""
    ### BEGIN SOLUTION
    return a1 * a2, a2 * b1 + b2
    ### END SOLUTION


@triton.jit
def compose_kernel(a, b, a1, b1, a2, b2, K, BLOCK: tl.constexpr):
    """`compose` for each of K pairs of steps; given."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = lane < K
    left, left_b = tl.load(a1 + lane, mask=mask), tl.load(b1 + lane, mask=mask)
    right, right_b = tl.load(a2 + lane, mask=mask), tl.load(b2 + lane, mask=mask)
    joined, joined_b = compose(left, left_b, right, right_b)
    tl.store(a + lane, joined, mask=mask)
    tl.store(b + lane, joined_b, mask=mask)


def compose_triton(a: Tensor, b: Tensor, a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor) -> None:
    """Fills `a` and `b` with Eq. (3), element by element; all (K,) float32, contiguous. Given: the checks call it."""
    compose_kernel[(triton.cdiv(a.shape[0], 128),)](a, b, a1, b1, a2, b2, a.shape[0], BLOCK=128)


@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    """BLOCK_D channels of one sequence, BLOCK_T steps at a time: Eq. (4)."""
    ### BEGIN SOLUTION
    batch = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    lane = tl.arange(0, BLOCK_T)
    carry = tl.load(h0 + batch * h0_row + column, mask=column < D, other=0.0).to(tl.float32)
    for start in range(0, T, BLOCK_T):
        step = (start + lane).to(tl.int64)[:, None]
        inside = (step < T) & (column[None, :] < D)
        decay = tl.load(a + batch * a_batch + step * a_row + column[None, :], mask=inside, other=1.0).to(tl.float32)
        added = tl.load(b + batch * b_batch + step * b_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        product, since = tl.associative_scan((decay, added), 0, compose)
        state = product * carry[None, :] + since
        tl.store(h + batch * h_batch + step * h_row + column[None, :], state, mask=inside)
        carry = tl.sum(tl.where(lane[:, None] == BLOCK_T - 1, state, 0.0), axis=0)
    ### END SOLUTION


@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    """BLOCK_D channels of one sequence, BLOCK_T steps at a time and the last ones first: Eqs. (5) and (6)."""
    ### BEGIN SOLUTION
    batch = tl.program_id(0).to(tl.int64)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    lane = tl.arange(0, BLOCK_T)
    kept = column < D
    initial = tl.load(h0 + batch * h0_row + column, mask=kept, other=0.0).to(tl.float32)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    chunks = tl.cdiv(T, BLOCK_T)
    for done in range(0, chunks):
        step = ((chunks - 1 - done) * BLOCK_T + lane).to(tl.int64)[:, None]
        inside = (step < T) & kept
        follows = (step + 1 < T) & kept
        decay = tl.load(a + batch * a_batch + (step + 1) * a_row + column, mask=follows, other=0.0).to(tl.float32)
        given = tl.load(dh + batch * dh_batch + step * dh_row + column, mask=inside, other=0.0).to(tl.float32)
        product, since = tl.associative_scan((decay, given), 0, compose, reverse=True)
        total = product * carry + since
        before = tl.load(h + batch * h_batch + (step - 1) * h_row + column, mask=inside & (step > 0), other=0.0)
        before = tl.where(step > 0, before.to(tl.float32), initial)
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = tl.sum(tl.where(lane[:, None] == 0, total, 0.0), axis=0)[None, :]
    first = tl.load(a + batch * a_batch + column, mask=kept, other=0.0).to(tl.float32)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=kept)
    ### END SOLUTION


def linear_recurrence_triton(h: Tensor, a: Tensor, b: Tensor, h0: Tensor) -> None:
    """Fills `h` with Eq. (1): h[:, t] = a[:, t] * h[:, t - 1] + b[:, t], where h0 stands before the first step.

    h   (B, T, D) float, any strides over B and T; NaN before the call
    a   (B, T, D) float, likewise; any values
    b   (B, T, D) float, likewise
    h0  (B, D) float, any row stride

    B, T and D are at least 1.
    """
    ### BEGIN SOLUTION
    B, T, D = a.shape
    block_t, block_d = _blocks(T, D)
    linear_recurrence_kernel[(B, triton.cdiv(D, block_d))](
        h, a, b, h0, T, D, h.stride(0), h.stride(1), a.stride(0), a.stride(1), b.stride(0), b.stride(1), h0.stride(0),
        BLOCK_T=block_t, BLOCK_D=block_d, num_warps=1)
    ### END SOLUTION


def linear_recurrence_triton_backward(da: Tensor, db: Tensor, dh0: Tensor, dh: Tensor, a: Tensor, h: Tensor, h0: Tensor
                                      ) -> None:
    """Fills `da`, `db` and `dh0` with Eq. (6).

    da, db  (B, T, D) float, any strides over B and T; NaN before the call
    dh0     (B, D) float, any row stride; NaN before the call
    dh      (B, T, D) float, any strides over B and T: what arrives at h from outside
    a       (B, T, D) float, likewise
    h       (B, T, D) float, likewise: what the forward pass stored; take it as it is
    h0      (B, D) float, any row stride
    """
    ### BEGIN SOLUTION
    B, T, D = a.shape
    block_t, block_d = _blocks(T, D)
    linear_recurrence_backward_kernel[(B, triton.cdiv(D, block_d))](
        da, db, dh0, dh, a, h, h0, T, D, da.stride(0), da.stride(1), db.stride(0), db.stride(1), dh0.stride(0),
        dh.stride(0), dh.stride(1), a.stride(0), a.stride(1), h.stride(0), h.stride(1), h0.stride(0),
        BLOCK_T=block_t, BLOCK_D=block_d, num_warps=1)
    ### END SOLUTION


### BEGIN SOLUTION
def _blocks(T: int, D: int) -> tuple[int, int]:
    """One warp a program, each lane with a channel and all steps of a chunk: the scan then needs no other lane."""
    return min(triton.next_power_of_2(T), 32), min(triton.next_power_of_2(D), 32)
### END SOLUTION

# %% [markdown] hints="linear_recurrence_triton"
# - Begin with `compose`, then with sequences that fit into one chunk: a grid of sequences and blocks of channels, a
#   block of shape `(BLOCK_T, BLOCK_D)`, a scan along axis 0. Then let a loop go through the chunks.
# - Lanes beyond T must change nothing: a step with a = 1 and b = 0 leaves the state as it is.
# - In Eq. (4) the carry belongs to every step of the chunk, times the product of all decays since its beginning: that
#   is the first thing that the scan returns.
# - Of a block you can neither index nor slice: `tl.sum(tl.where(lane == last, block, 0.0), axis=0)` takes a row out.
# - Backward: load `a` one step further on, with its own mask (nothing follows the last step: 0), scan with
#   `reverse=True`, carry the first row, and count the chunks down. Before the first step stands `h0`.

# %% [markdown]
# **What to look at.** An input of one pulse, in four channels with four decays: the state forgets it as $a^t$. Below,
# the gradient of the last state with respect to $b_t$, which is $a^{T-t}$: what is forgotten forwards is not blamed
# backwards.

# %%
steps, decays = 40, torch.tensor([0.5, 0.8, 0.95, 1.0])
a, b, h0 = decays.expand(1, steps, 4).clone(), torch.zeros(1, steps, 4), torch.zeros(1, 4)
b[:, 4] = 1.0
h, da, db = (torch.full((1, steps, 4), torch.nan) for _ in range(3))
dh0, dh = torch.full((1, 4), torch.nan), torch.zeros(1, steps, 4)
dh[:, -1] = 1.0
linear_recurrence_triton(h, a, b, h0)
linear_recurrence_triton_backward(da, db, dh0, dh, a, h, h0)
fig, axes = plt.subplots(2, 1, figsize=(7, 4), layout="constrained", sharex=True)
for j, (decay, style) in enumerate(zip(decays.tolist(), ["-", "--", "-.", ":"], strict=True)):
    axes[0].plot(h[0, :, j], style, label=f"a = {decay:g}")
    axes[1].plot(db[0, :, j], style)
axes[0].set(title="state after a pulse at t = 4")
axes[0].legend(fontsize=8)
axes[1].set(title="gradient of the last state with respect to b", xlabel="t")
plt.show()

# %% [markdown]
# ## Going further
#
# - With few sequences and few channels there are few programs. Split time among programs: one launch joins each chunk
#   into one step, a second scans the chunks, a third applies Eq. (4). How many bytes does that move?
# - Compute $a$ inside the kernel, as a sigmoid of what a layer returns: which bytes are saved, and which gradient then
#   has to be computed here?
# - Store $h$ only at the chunks' ends, and compute the rest again in the backward pass.
#
# ### References
#
# - Blelloch, *Prefix sums and their applications*, 1990.
# - Hillis and Steele, *Data parallel algorithms*, 1986.
# - Martin and Cundy, *Parallelizing linear recurrent neural nets over sequence length*, 2018.
# - Gu and Dao, *Mamba: linear-time sequence modeling with selective state spaces*, 2023.
