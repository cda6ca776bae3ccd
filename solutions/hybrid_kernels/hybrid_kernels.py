# %% [markdown]
# # Hybrid kernels
#
# Jamba, Zamba and their like join layers of attention with *selective state spaces*: recurrences whose decay depends on
# the input. Each channel has a state of $N$ numbers, so all states of all steps are $N$ times as large as the input
# and the output together with it are. Here you write the layer as one [Triton](https://triton-lang.org) kernel that
# keeps states in registers: they are never stored.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `selective_scan_fwd` | ★★★ | 90 | a state carried through a loop, a stable softplus, a third roof: exponentials |
#
# ### Without a GPU
#
# You need none. On a CPU, Triton's *interpreter* runs every program of your kernel with NumPy, and `check` looks over
# its shoulder: at every address it touches, at elements that two programs use, at the values. Then the kernel is
# compiled for an H100 or H200, which tells registers and spills. Only its **speed** has to wait for a GPU: those points
# stay *pending* until your course runs them. A step costs the interpreter 1 to 2 ms in each program, so keep your
# experiments short. How all this works: `docs/kernels.md` of the course.
#
# ### Rules for every exercise
#
# - **Destinations come first, nothing is returned.** The caller allocates `y`, and fills it with NaN.
# - $S$ sequences (B is taken) of $L$ steps, $D$ channels and $N$ modes. `u`, `delta` and `y` have shape `(S, L, D)`,
#   `B` and `C` `(S, L, N)`: any strides over S and L, and a contiguous last axis. `A` is `(D, N)` with any row stride.
#   Every tensor has strides of its own.
# - `float` is float32 or float16 (on a GPU also bfloat16), all tensors alike. **Compute in float32**, whatever comes
#   in; storing rounds.
# - Grids and blocks are yours to choose, and so are the kernel's arguments. Any number of launches. No PyTorch
#   operation touches the data; `torch.empty` for scratch memory is fine, but **nothing of shape (S, L, D, N)**.
# - Plain pointers only. What your code needs lies in the exercise's cell.

# %% role="setup"
import torch
from torch import Tensor

from etude import check, hint, progress
from etude.kernels import tl, triton

# %% [markdown]
# ## The layer
#
# One channel $d$ of one sequence has a state $h_t \in \mathbb{R}^N$, which begins at $h_0 = 0$. The *step size*
# $\Delta_{td}$ says how much time passes at step $t$,
#
# $$ \Delta_{td} = \operatorname{softplus}(\delta_{td}) = \log(1 + e^{\delta_{td}}), \tag{1} $$
# $$ h_{tdn} = e^{\Delta_{td} A_{dn}}\, h_{t-1,dn} + \Delta_{td}\, B_{tn}\, u_{td}, \tag{2} $$
# $$ y_{td} = \sum_{n} C_{tn}\, h_{tdn} + D_d\, u_{td}. \tag{3} $$
#
# All $A_{dn}$ are at most 0, so states decay. $B_{tn}$ says what is written into mode $n$, $C_{tn}$ what is read, for
# all channels alike; $D_d$ (`Dskip`) takes the input past the state. **The kernel gets $\delta$, not $\Delta$**:
# Eq. (1) is computed inside, once, and saves a tensor.
#
# $\delta$, $B$ and $C$ come from the input by linear layers. That is the *selection*: where $\Delta$ is near 0, time
# stands still, and a step neither writes nor forgets; where it is large, the past is gone.
#
# ## What it costs
#
# A kernel has to read $u$, $\delta$, $B$ and $C$ and to write $y$, with $s$ bytes an element:
#
# $$ b = (3SLD + 2SLN + DN + D)\,s, \qquad f = 6SLDN, \qquad e = SLDN. \tag{4} $$
#
# $f$ counts the sums and products of Eqs. (2) and (3) that every mode needs, and $e$ the exponentials (Eq. (1) adds two
# functions of that kind for each channel, whatever $N$ is). A GPU has few units for them: an H200 has 132
# multiprocessors, each with 16 results a clock cycle. At 1.755 GHz that is $3.7 \cdot 10^{12}$ a second, against
# $67 \cdot 10^{12}$ other operations: a **third roof**.
#
# In PyTorch, the decays and inputs of Eq. (2) are two tensors of $SLDN$ elements. Writing both, one perfect scan (two
# reads, one write) and reading the states for Eq. (3) moves $6SLDNs$ bytes; with Hillis and Steele's doubling the scan
# alone takes $7 \log_2 L$ passes. The picture counts *updates* of one mode in one step: each is six operations and one
# exponential.

# %%
import matplotlib.pyplot as plt

BANDWIDTH, PEAK, EXPONENTIALS = 4.8e12, 67e12, 132 * 16 * 1.755e9  # an H200: bytes/s, float32 operations/s, exp/s
S, L, D, SIZE = 8, 2048, 2048, 4


def fused(modes):
    """Bytes of Eq. (4)."""
    return (3 * S * L * D + 2 * S * L * modes + D * modes + D) * SIZE


WAYS = {
    "doubling, 11 rounds, 16 modes": (16, (7 * 11 + 3) * S * L * D * 16 * SIZE),
    "a perfect scan in memory, 16 modes": (16, 6 * S * L * D * 16 * SIZE),
    "one kernel, 1 mode": (1, fused(1)),
    "one kernel, 4 modes": (4, fused(4)),
    "one kernel, 16 modes": (16, fused(16)),
    "one kernel, 64 modes": (64, fused(64)),
}
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
roof = min(PEAK / 6, EXPONENTIALS)
intensity = sorted([2.0**k for k in range(-10, 7)] + [roof / BANDWIDTH])
ax.loglog(intensity, [min(roof, i * BANDWIDTH) / 1e12 for i in intensity], color="#222222")
ax.axhline(PEAK / 6 / 1e12, color="#777777", linestyle=":", linewidth=1)
ax.text(2.0**6, PEAK / 6 / 1e12 * 1.15, "without exponentials", ha="right", fontsize=9)
ax.text(2.0**6, roof / 1e12 * 0.4, "bound by exponentials", ha="right", fontsize=9)
for (name, (modes, moved)), marker in zip(WAYS.items(), "Dsov^P", strict=True):
    updates = S * L * D * modes
    least = max(moved / BANDWIDTH, updates / roof)
    ax.plot(updates / moved, updates / least / 1e12, marker, label=f"{name}: {1e6 * least:.0f} µs at best")
    print(f"{name:36s} {moved / 1e6:7.0f} MB {6 * updates / 1e6:7.0f} MFLOP {updates / 1e6:5.0f} M exponentials, "
          f"at least {1e6 * least:5.0f} µs")
ax.set_ylim(top=2000)
ax.set(title=f"Roofline of an H200, {S} × {L} × {D} float32", xlabel="updates per byte",
       ylabel="10¹² updates/s attainable")
ax.legend(loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# ## One kernel
#
# A program takes `BLOCK_D` channels of one sequence and goes through the steps one after the other. Its states are a
# block of modes and channels in registers; at each step it loads a vector of $u$ and of $\delta$ (channels) and one of
# $B$ and of $C$ (modes), and stores a vector of $y$. There are $S \cdot D / $`BLOCK_D` programs and no work in parallel
# over time: enough for a layer of training size, too little for one sequence and few channels.
#
# **Who holds what?** You choose the block's shape, and Triton spreads it over the lanes of the warps. It looks at how
# $A$ is loaded, whose modes are contiguous: neighbouring lanes get modes of one channel, and the sum of Eq. (3) has to
# add up between lanes, in every step. For 32 channels, 16 modes and one warp, Triton 3.9 makes eight shuffles of it,
# beside the 17 exponentials that each lane computes. "Going further" is rid of them.
#
# **Softplus.** $e^\delta$ is infinite in float32 from $\delta = 89$ on, while $\Delta$ is about 89. With
#
# $$ \log(1 + e^{\delta}) = \max(\delta, 0) + \log(1 + e^{-|\delta|}) \tag{5} $$
#
# the exponential is never above 1.
#
# *Watch for* $N$, which need not be a power of two: lanes beyond it must add nothing; for $D$, which no block need
# divide; for Eq. (3), which reads the state *after* the update; for float16, in which a state that is large loses what
# is small; and for eleven strides.

# %% exercise="selective_scan_fwd"
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    """BLOCK_D channels of one sequence, all steps: Eqs. (1) to (3)."""
    ### BEGIN SOLUTION
    batch = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    mode = tl.arange(0, BLOCK_N)
    kept, real = column < D, mode < N
    inside = real[:, None] & kept[None, :]
    rate = tl.load(A + column.to(tl.int64)[None, :] * A_row + mode[:, None], mask=inside, other=0.0).to(tl.float32)
    skip = tl.load(Dskip + column, mask=kept, other=0.0).to(tl.float32)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for index in range(0, L):
        step = tl.cast(index, tl.int64)
        value = tl.load(u + batch * u_batch + step * u_row + column, mask=kept, other=0.0).to(tl.float32)
        raw = tl.load(delta + batch * delta_batch + step * delta_row + column, mask=kept, other=0.0).to(tl.float32)
        written = tl.load(B + batch * B_batch + step * B_row + mode, mask=real, other=0.0).to(tl.float32)
        read = tl.load(C + batch * C_batch + step * C_row + mode, mask=real, other=0.0).to(tl.float32)
        size = tl.maximum(raw, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(raw)))
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)
    ### END SOLUTION


def selective_scan_fwd(y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, Dskip: Tensor) -> None:
    """Fills `y` with Eq. (3).

    y      (S, L, D) float, any strides over S and L; NaN before the call
    u      (S, L, D) float, likewise
    delta  (S, L, D) float, likewise: before the softplus of Eq. (1), any values
    A      (D, N) float, any row stride; at most 0
    B      (S, L, N) float, any strides over S and L
    C      (S, L, N) float, likewise
    Dskip  (D,) float

    S, L, D and N are at least 1. Nothing of shape (S, L, D, N) is made.
    """
    ### BEGIN SOLUTION
    S, L, D = u.shape
    N = A.shape[1]
    block = min(triton.next_power_of_2(D), 32)
    selective_scan_kernel[(S, triton.cdiv(D, block))](
        y, u, delta, A, B, C, Dskip, L, D, N, y.stride(0), y.stride(1), u.stride(0), u.stride(1), delta.stride(0),
        delta.stride(1), A.stride(0), B.stride(0), B.stride(1), C.stride(0), C.stride(1),
        BLOCK_D=block, BLOCK_N=triton.next_power_of_2(N), num_warps=1)
    ### END SOLUTION

# %% [markdown] hints="selective_scan_fwd"
# - Begin with one mode: a vector of states, one for each channel of the block, and a loop over the steps. Load `A` and
#   `Dskip` once, before the loop.
# - Then make the state a block: channels are `[None, :]`, modes are `[:, None]`. $B$ and $C$ are vectors of modes, the
#   same for all channels.
# - A lane beyond N adds nothing if it loads $B$ as 0: its state stays 0, and so does its part of the sum.
# - Offsets are `batch * stride + step * stride + column`; `tl.cast(index, tl.int64)` makes the loop's index an int64,
#   as these products pass $2^{31}$ at real sizes.
# - The state has to be float32 from `tl.zeros` on, and everything that is loaded goes `.to(tl.float32)`.

# %% [markdown]
# **What to look at.** Noise, in which three steps matter. Both channels have the same $A$, $B$ and $C$. In the first,
# $\delta$ is small but for those three steps: it takes each of them up and holds it, and does not see the noise. In the
# second, $\delta$ is always the same, as in a linear recurrence: it can only smooth.

# %%
steps, marked = 60, [8, 25, 43]
u = torch.randn(1, steps, 1, generator=torch.Generator().manual_seed(0)).mul(0.3).repeat(1, 1, 2)
u[0, marked] = torch.tensor([1.0, -1.0, 0.5])[:, None]
delta = torch.full((1, steps, 2), -8.0)
delta[0, marked, 0] = 2.0
delta[..., 1] = -1.0
A, B = torch.full((2, 1), -2.0), torch.ones(1, steps, 1)
C, Dskip, y = torch.full((1, steps, 1), 0.47), torch.zeros(2), torch.full((1, steps, 2), torch.nan)
selective_scan_fwd(y, u, delta, A, B, C, Dskip)
fig, axes = plt.subplots(3, 1, figsize=(7, 5), layout="constrained", sharex=True, height_ratios=[2, 1, 2])
axes[0].plot(u[0, :, 0], color="#777777")
axes[0].plot(marked, u[0, marked, 0], "o", color="#222222")
axes[0].set(title="input, and the three steps that matter")
for j, (name, style) in enumerate([("selective", "-"), ("the same at every step", "--")]):
    axes[1].plot(torch.nn.functional.softplus(delta[0, :, j]), style)
    axes[2].plot(y[0, :, j], style, label=name)
axes[1].set(title="step size Δ")
axes[2].set(title="output", xlabel="t")
axes[2].legend(fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# ## Going further
#
# - $e^x = 2^{x \log_2 e}$, and it is `exp2` that the GPU has a unit for. Multiply $A$ by $\log_2 e$ before the loop:
#   what does each update save?
# - Build the states' decay rates from vectors, one mode at a time: `for n in tl.static_range(BLOCK_N)`, a load of the
#   channels' $A_{dn}$, and a `tl.where` that puts it into row $n$. No load now has modes in neighbouring lanes, and
#   with one warp of 32 channels each lane holds all modes of its channel: no shuffles. What does it cost before the
#   loop?
# - With one sequence and few channels most of the GPU has nothing to do. Split time among programs: the first launch
#   computes each piece's product of decays and its last state from 0, the second goes on from there. What does that
#   cost, in terms of Eq. (4)?
# - Mamba-2 gives all modes and channels of a head one $A$. How many exponentials are left, and which matrix products
#   does the sum over time become?
# - The backward pass needs the states, last step first. Store one in every 64 steps, and compute the others again.
#
# ### References
#
# - Gu and Dao, *Mamba: linear-time sequence modeling with selective state spaces*, 2023.
# - Dao and Gu, *Transformers are SSMs: generalized models and efficient algorithms through structured state space
#   duality*, 2024.
# - Lieber et al., *Jamba: a hybrid Transformer-Mamba language model*, 2024.
# - Hillis and Steele, *Data parallel algorithms*, 1986.
