# %% [markdown]
# # Recurrent networks
#
# Sentences, melodies and sensor readings come in any length, and what a moment means depends on what came before it.
# A feed-forward network wants inputs of one size. A recurrent network reads one element at a time and keeps a
# **state**: a vector of fixed size that has to hold whatever of the past is still needed,
#
# $$ h_t = f_\theta(x_t, h_{t-1}) \tag{1} $$
#
# The same function with the same weights $\theta$ is used at every step, so a network with a few thousand weights can
# read a text of a million characters, in memory that does not grow with it.
#
# Unrolled over $T$ steps it is a feed-forward network of $T$ layers that share their weights. That is how it is
# trained, and it is also its trouble: a gradient on its way back from step $t$ to step $s$ is multiplied by $t - s$
# Jacobian matrices. If these shrink, it vanishes, and the network cannot learn that something long ago mattered; if
# they grow, it explodes (Bengio et al. 1994). The long short-term memory was invented to let a gradient pass
# unharmed, and the idea, a sum instead of a product, has been with us ever since: residual connections, gated units
# and state-space models all have it.
#
# You will build the cells, run them over batches of sequences of different lengths, write the backward pass through
# time by hand, and end with a small language model that writes sentences of its own.
#
# Of the six exercises each can be solved without the others. The cell below an exercise checks your code and shows the
# smallest example on which it fails; the pictures after it are drawn by your own code. In a cell of your own,
# `hint("lstm_cell_step")` gives a hint, then one more each time, and `progress()` shows what is done.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `lstm_cell_step` | ★ | 20 | one step with a memory cell and three gates |
# | `gru_cell_step` | ★ | 20 | the same idea with two gates and one state |
# | `masked_rnn` | ★★ | 40 | whole sequences, and batches of different lengths |
# | `bptt_backward` | ★★★ | 90 | the backward pass through time by hand, whole and truncated |
# | `bilstm_layer` | ★★ | 60 | reading in both directions, as an `nn.Module` |
# | `char_lm_loss` | ★★ | 40 | a language model's loss, and how to write with it |
#
# ### Notation, and rules for every exercise
#
# $B$ sequences in a batch, $T$ steps, $I$ inputs, $H$ units. Shapes are written `(B, T, I)`: the batch comes first,
# then time, and positions are counted from 0. Every size is at least 1.
#
# - `float` means float32 or float64, all arguments alike. Compute in that dtype and return it; `long` means int64.
# - Weights are stored as in `nn.Linear`, `(out, in)`, so the papers' $W x$ is `x @ W.T`. The state is an argument, and
#   returned: what stands in the contract is all that a function knows.
# - Arguments may be views of other tensors with any strides. Never change them, nor a dict that holds them, and
#   remember nothing between calls.
# - Gradients must reach every float argument.
# - **Padding may hold anything**, NaN and infinity included, and must influence neither an output nor a gradient.
# - `torch.nn.RNN`, `LSTM`, `GRU` and their cells are what you are about to build: keep them to compare your results
#   with.

# %% role="setup"
import math

import torch
from torch import Tensor, nn

from etude import check, hint, progress

# %% [markdown]
# On the left a recurrent network, unrolled: one column for each step, the same weights $\theta$ in each. On the right
# the inside of the box as an LSTM has it. The memory $c$ passes through along the bottom, and all that ever happens
# to it is one product and one sum.

# %%
import matplotlib.pyplot as plt
from etude.plots import BLUE, GREY, INK, ORANGE, draw_graph, light, show_maps

light()
torch.set_num_threads(1)  # the tensors are small: several threads would wait for each other
fig, axes = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained", width_ratios=[1, 1.15])
steps = {f"x{t}": (1.8 * t, 0, f"$x_{t}$", BLUE) for t in range(1, 4)}
steps |= {f"f{t}": (1.8 * t, 1.5, r"$f_\theta$", GREY) for t in range(1, 4)}
steps |= {f"y{t}": (1.8 * t, 3, f"$h_{t}$", BLUE) for t in range(1, 4)}
draw_graph(axes[0], "one network, unrolled in time",
           steps | {"h0": (0, 1.5, "$h_0$", BLUE), "more": (7.2, 1.5, "...", "")},
           {"h0": ["f1"], "f1": ["y1", "f2"], "f2": ["y2", "f3"], "f3": ["y3", "more"],
            "x1": ["f1"], "x2": ["f2"], "x3": ["f3"]}, width=1.0)
draw_graph(axes[1], "inside an LSTM", {
    "c": (0, 0, "$c_{t-1}$", BLUE), "times": (2.2, 0, r"$\odot$", ORANGE), "plus": (4.4, 0, "+", ORANGE),
    "new": (8.8, 0, "$c_t$", BLUE), "write": (4.4, 1.2, r"$i \odot g$", ORANGE),
    "f": (2.2, 2.4, r"$\sigma$", ORANGE), "i": (3.7, 2.4, r"$\sigma$", ORANGE), "g": (5.1, 2.4, "tanh", ORANGE),
    "o": (7.2, 2.4, r"$\sigma$", ORANGE), "out": (7.2, 1.2, r"$o \odot \tanh$", ORANGE), "h": (8.8, 1.2, "$h_t$", BLUE),
    "affine": (4.4, 3.8, r"$W_{ih}\, x_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh}$", ""),
}, {"c": ["times"], "times": ["plus"], "plus": ["new", "out"], "write": ["plus"], "f": ["times"], "i": ["write"],
    "g": ["write"], "o": ["out"], "out": ["h"], "affine": ["f", "i", "g", "o"]},
    {"f": "$f$", "i": "$i$", "g": "$g$", "o": "$o$"}, width=1.15)
plt.show()

# %% [markdown]
# ## 1. One step of an LSTM  ★ · 20 minutes
#
# Hochreiter & Schmidhuber (1997) give the network a memory cell $c$ beside its output $h$, and gates that decide what
# happens to it; the forget gate was added by Gers et al. (2000). Four affine maps of the input and of the last output
# are computed at once, as the rows of one matrix of height $4H$:
#
# $$ \begin{pmatrix} a^i \\ a^f \\ a^g \\ a^o \end{pmatrix} = W_{ih}\, x_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh}
# \tag{2} $$
#
# $$ i = \sigma(a^i), \qquad f = \sigma(a^f), \qquad g = \tanh(a^g), \qquad o = \sigma(a^o) \tag{3} $$
#
# $$ c_t = f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh(c_t) \tag{4} $$
#
# The **input gate** $i$ decides how much of the candidate $g$ is written, the **forget gate** $f$ how much of the old
# memory stays, the **output gate** $o$ how much of it is shown. Along the cell the Jacobian is simply
# $\partial c_t / \partial c_{t-1} = \mathrm{diag}(f)$ (with $h_{t-1}$ held fixed): where the gate is open, a gradient
# passes as it is.
#
# *Conventions.* The four blocks of $H$ rows come in the order $i, f, g, o$. Two bias vectors do the work of one;
# libraries carry both, and so do we.

# %% exercise="lstm_cell_step"
def lstm_cell_step(x: Tensor, h: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor,
                   b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000); Eqs. (2)-(4).

    x           (B, I) float: the input x_t
    h, c        (B, H) float: the output h_{t-1} and the memory c_{t-1} of the step before
    w_ih        (4H, I) float, w_hh (4H, H) float: rows 0:H belong to i, H:2H to f, 2H:3H to g, 3H:4H to o
    b_ih, b_hh  (4H,) float, in the same order; both are added

    Returns h_t and c_t, each (B, H) float.
    """
    ### BEGIN SOLUTION
    gates = x @ w_ih.T + b_ih + h @ w_hh.T + b_hh
    i, f, g, o = gates.chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return h, c
    ### END SOLUTION

# %% [markdown] hints="lstm_cell_step"
# - Write Eq. (2) as one line first. It has the shape `(B, 4H)`.
# - `torch.chunk` cuts the last axis into four equal parts, in the order i, f, g, o.
# - Only g goes through a tanh; the three gates go through a sigmoid. The tanh of Eq. (4) is of the *new* memory.

# %% [markdown]
# **What to look at.** First a memory built by hand: one unit, weights chosen so that a pulse on *write* opens the
# input gate and a pulse on *erase* closes the forget gate. It stores what the input was at the time of writing, and
# keeps it through everything else that comes by. Second, why it can be trained: the size of
# $\partial\, (\text{state at the end}) / \partial\, (\text{state before})$, going back in time, for random weights. A
# tanh network forgets at an exponential rate. The LSTM's rate is set by the bias of its forget gate, which is why
# many implementations initialise it with 1 or more (Jozefowicz et al. 2015). It may even grow: the path through $h$ is
# still there.

# %%
value = torch.sin(torch.arange(60) / 4.0)
write, erase = torch.zeros(60), torch.zeros(60)
write[[8, 33]], erase[[24, 48]] = 1, 1
inputs = torch.stack([value, write, erase], dim=-1)
# rows: i, f, g, o; columns: value, write, erase
w_ih, b_ih = torch.tensor([[0, 20, 0], [0, 0, -20], [1, 0, 0], [0, 0, 0.0]]), torch.tensor([-10, 10, 0, 10.0])
h, c, stored = torch.zeros(1, 1), torch.zeros(1, 1), []
for x in inputs:
    h, c = lstm_cell_step(x[None], h, c, w_ih, torch.zeros(4, 1), b_ih, torch.zeros(4))
    stored.append(c.item())

fig, axes = plt.subplots(1, 2, figsize=(12, 3.4), layout="constrained")
axes[0].plot(value, color="#aaaaaa", label="value")
axes[0].plot(stored, color="#1f5fa8", linewidth=2, label="memory $c_t$")
axes[0].vlines(write.nonzero(), -1, 1, color="#2a8f4f", linestyle="--", label="write")
axes[0].vlines(erase.nonzero(), -1, 1, color="#c0392b", linestyle=":", label="erase")
axes[0].set(title="a memory made by hand", xlabel="step $t$")
axes[0].legend(fontsize=8, ncol=2)


def gradients_back(bias, T=60, H=32, inputs=4):
    """How much a loss at the end depends on c_t, for every t; `bias` None: a tanh network instead."""
    generator = torch.Generator().manual_seed(1)
    w_ih, w_hh = (0.1 * torch.randn(4 * H, n, generator=generator) for n in (inputs, H))
    h, c, states = torch.zeros(1, H), torch.zeros(1, H, requires_grad=True), []
    for _ in range(T):
        x = torch.randn(1, inputs, generator=generator)
        if bias is None:
            c = torch.tanh(x @ w_ih[:H].T + c @ w_hh[:H].T)
        else:
            h, c = lstm_cell_step(x, h, c, w_ih, w_hh, torch.zeros(4, H).index_fill(
                0, torch.tensor([1]), bias).flatten(), torch.zeros(4 * H))
        c.retain_grad()
        states.append(c)
    (c * torch.randn(1, H, generator=generator)).sum().backward()
    return [c.grad.norm() / states[-1].grad.norm() for c in reversed(states)]


for bias, style in zip((None, 0, 2, 4), [":", "-", "--", "-."], strict=True):
    name = "tanh network" if bias is None else f"LSTM, forget bias {bias}"
    axes[1].semilogy(gradients_back(bias), style, color=INK, label=name)
axes[1].set(title="gradient, so many steps back", xlabel="steps back", ylim=(1e-12, 10))
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 2. One step of a GRU  ★ · 20 minutes
#
# Cho et al. (2014) ask how much of this is needed. Their gated recurrent unit has no separate memory and two gates.
# With the three blocks of $H$ rows in the order $r, z, n$:
#
# $$ r = \sigma(W_{ir}\, x_t + b_{ir} + W_{hr}\, h_{t-1} + b_{hr}), \qquad
#    z = \sigma(W_{iz}\, x_t + b_{iz} + W_{hz}\, h_{t-1} + b_{hz}) \tag{5} $$
#
# $$ n = \tanh\bigl(W_{in}\, x_t + b_{in} + r \odot (W_{hn}\, h_{t-1} + b_{hn})\bigr), \qquad
#    h_t = (1 - z) \odot n + z \odot h_{t-1} \tag{6} $$
#
# The **update gate** $z$ couples forgetting and writing: the new state is a mixture of the old one and of the
# candidate $n$. The **reset gate** $r$ lets a candidate ignore the past.
#
# *Conventions.* Good papers and libraries disagree in two places. In the original (their Eq. 8) the reset gate acts
# *before* the matrix, $W_{hn} (r \odot h_{t-1})$. We use the form of Eq. (6), which cuDNN and PyTorch chose because
# all products with $h_{t-1}$ can then be computed at once; note that $b_{hn}$ is inside the bracket. And where we
# write $z$, Chung et al. (2014) write $1 - z$.

# %% exercise="gru_cell_step"
def gru_cell_step(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """One step of a gated recurrent unit: Cho et al. (2014), Eqs. 5-8, in cuDNN's form; our Eqs. (5)-(6).

    x           (B, I) float: the input x_t
    h           (B, H) float: the state h_{t-1}
    w_ih        (3H, I) float, w_hh (3H, H) float: rows 0:H belong to r, H:2H to z, 2H:3H to n
    b_ih, b_hh  (3H,) float, in the same order

    Returns h_t, (B, H) float. The reset gate multiplies W_hn h + b_hn, after the product; z = 1 keeps the old state.
    """
    ### BEGIN SOLUTION
    x_r, x_z, x_n = (x @ w_ih.T + b_ih).chunk(3, dim=-1)
    h_r, h_z, h_n = (h @ w_hh.T + b_hh).chunk(3, dim=-1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return (1 - z) * n + z * h
    ### END SOLUTION

# %% [markdown] hints="gru_cell_step"
# - Unlike in the LSTM you cannot add up the input's part and the state's part at once: in the candidate the reset
#   gate comes between them.
# - Compute `x @ w_ih.T + b_ih` and `h @ w_hh.T + b_hh` separately, and cut each into three.

# %% [markdown]
# **What to look at.** A GRU whose gates are held fixed by their biases is a leaky integrator: after a change of the
# input it moves to its new state with a time constant of $1/(1 - z)$ steps. On the left one unit for four biases of
# the update gate. A trained network chooses $z$ anew at every step and for every unit: on the right a unit that
# follows its input, and holds still while a second input says so.

# %%
def one_unit(inputs, w_ih, b_z):
    """The states of a GRU with one unit, no recurrent weights, and this bias of the update gate."""
    h, states = torch.zeros(1, 1), []
    for x in inputs:
        h = gru_cell_step(x[None], h, torch.tensor(w_ih), torch.zeros(3, 1), torch.tensor([0, b_z, 0]), torch.zeros(3))
        states.append(h.item())
    return states


time = torch.arange(80)
pulse, hold = ((time >= 10) & (time < 50)).float(), (time % 30 > 14).float()
fig, axes = plt.subplots(1, 2, figsize=(12, 3.2), layout="constrained")
for b_z, style in zip((-3.0, 1.0, 2.5, 4.0), ["-", "--", "-.", ":"], strict=True):
    z = 1 / (1 + math.exp(-b_z))
    states = one_unit(pulse[:, None], [[0.0], [0.0], [1.0]], b_z)  # rows: r, z, n
    axes[0].plot(states, style, color=INK, label=f"z = {z:.2f}: {1 / (1 - z):.0f} steps")
axes[0].fill_between(time, 0.8 * pulse, color="#eeeeee")
axes[0].set(title="answer to a pulse", xlabel="step $t$")
axes[0].legend(fontsize=8)
axes[1].fill_between(time, 2 * hold - 1, -1, color="#eeeeee", label="hold")
axes[1].plot(one_unit(torch.stack([torch.sin(time / 5), hold], dim=-1), [[0, 0], [0, 20.0], [1, 0]], -10.0),
             color="#1f5fa8", linewidth=2, label="$h_t$")
axes[1].set(title="hold and follow", xlabel="step $t$")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 3. Sequences of different lengths  ★★ · 40 minutes
#
# Now whole sequences. To compute many of them at once they are put into one tensor, and short ones are filled up with
# padding. Elman's (1990) network, the simplest of all, becomes for sequence $b$ of length $\ell_b$, with positions
# $t = 0, \dots, T - 1$ and $h_{-1}$ the given initial state:
#
# $$ h_t = \begin{cases}
#      \tanh(W_{ih}\, x_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh}) & t < \ell_b \\
#      h_{t-1} & t \ge \ell_b \end{cases}
#    \qquad\qquad
#    y_t = \begin{cases} h_t & t < \ell_b \\ 0 & t \ge \ell_b \end{cases} \tag{7} $$
#
# The state **freezes** at the end of its sequence, so after $T$ steps it is for all sequences what a classifier or a
# decoder wants: the state after the last *real* element. The output there is 0.
#
# *Watch for* three things. `out[:, -1]` is the last state of the longest sequences only. `lengths` come in any order,
# and the longest may be shorter than $T$. And a mask that multiplies does not stop a NaN, as $0 \cdot \mathrm{NaN}$
# is NaN, forwards and backwards: whatever is in the padding has to be replaced *before* it is computed with.

# %% exercise="masked_rnn"
def masked_rnn(x: Tensor, lengths: Tensor, h0: Tensor, params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A tanh network over padded sequences: Elman (1990); our Eq. (7).

    x        (B, T, I) float; x[b, lengths[b]:] is padding and may hold anything, NaN and infinity included
    lengths  (B,) long, 1 <= lengths[b] <= T, in any order; the longest sequence may be shorter than T
    h0       (B, H) float: the initial states
    params   dict with w_ih (H, I), w_hh (H, H), b_ih (H,), b_hh (H,), all float; do not change the dict

    Returns out (B, T, H) float, which is 0 at t >= lengths[b], and h_last (B, H) float, the state at lengths[b] - 1.
    Padding influences neither outputs nor gradients: the gradient there is 0.
    """
    ### BEGIN SOLUTION
    past = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
    x = x.masked_fill(past[..., None], 0)
    h, states = h0, []
    for t in range(x.shape[1]):
        new = torch.tanh(x[:, t] @ params["w_ih"].T + params["b_ih"] + h @ params["w_hh"].T + params["b_hh"])
        h = torch.where(past[:, t, None], h, new)
        states.append(h)
    out = torch.stack(states, dim=1).masked_fill(past[..., None], 0)
    return out, h
    ### END SOLUTION

# %% [markdown] hints="masked_rnn"
# - Begin without lengths: a loop over `t`, a list of states, `torch.stack(..., dim=1)` at the end.
# - `torch.arange(T) >= lengths[:, None]` has shape `(B, T)` and is True in the padding.
# - `torch.where(condition, old, new)` freezes the states whose sequence is over.
# - `masked_fill` with 0 removes a NaN, multiplication by 0 does not. Do it to `x` before the loop: `torch.where` hides
#   a NaN in the forward pass, but its gradient comes back through the branch that was not taken.

# %% [markdown]
# **What to look at.** Six sequences in one batch, and what one unit says at every step; the pale rest is 0, the
# padding. Then the damage done when padding is taken for content (which you get by telling your own function that all
# lengths are $T$): the longer the padding, the less the last state knows of its sequence, until all are the same.

# %%
generator = torch.Generator().manual_seed(2)
T, H = 24, 16
lengths = torch.tensor([20, 5, 12, 17, 2, 9])
params = {"w_ih": torch.randn(H, 3, generator=generator) / 2, "w_hh": 0.9 * torch.linalg.qr(
    torch.randn(H, H, generator=generator)).Q, "b_ih": torch.zeros(H), "b_hh": torch.zeros(H)}
x = torch.randn(6, T, 3, generator=generator)
out, h_last = masked_rnn(x, lengths, torch.zeros(6, H), params)

fig, axes = plt.subplots(1, 2, figsize=(12, 3), layout="constrained", width_ratios=[1.4, 1])
image = axes[0].imshow(out[:, :, 0], cmap="RdBu", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
axes[0].set(title="unit 0", xlabel="step $t$", ylabel="sequence")
fig.colorbar(image, ax=axes[0])
wrong = []
for padding in range(T):
    padded = torch.cat([x[:, :5], torch.zeros(6, padding, 3)], dim=1)
    right = masked_rnn(padded, torch.full((6,), 5), torch.zeros(6, H), params)[1]
    naive = masked_rnn(padded, torch.full((6,), 5 + padding), torch.zeros(6, H), params)[1]
    wrong.append([torch.pdist(right).mean().item(), torch.pdist(naive).mean().item()])
axes[1].plot([pair[0] for pair in wrong], color="#1f5fa8", label="state at length - 1")
axes[1].plot([pair[1] for pair in wrong], "--", color=INK, label="state after the padding")
axes[1].set(title="distance between last states", xlabel="steps of padding", ylim=(0, None))
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 4. Backpropagation through time  ★★★ · 90 minutes
#
# Autograd has done the backward pass so far. It holds no magic, and once you have written it yourself, vanishing
# gradients and truncation are no longer words. Take the network with one bias and no padding,
#
# $$ a_t = W x_t + U h_{t-1} + b, \qquad h_t = \tanh(a_t), \qquad t = 0, \dots, T - 1, \tag{8} $$
#
# where $h_{-1}$ is the given initial state, and a loss $\ell$ that looks at all states. Let
# $g_t = \partial \ell / \partial h_t$ be what it says about $h_t$ *directly*. But $h_t$ also acts through $h_{t+1}$;
# so the whole gradient is collected from the back (Werbos 1990). With $\alpha_t = \mathrm{d}\ell / \mathrm{d} a_t$ and
# $\alpha_T = 0$,
#
# $$ \alpha_t = \bigl(g_t + U^\top \alpha_{t+1}\bigr) \odot (1 - h_t^2) \tag{9} $$
#
# $$ \frac{\partial \ell}{\partial W} = \sum_t \alpha_t x_t^\top, \quad
#    \frac{\partial \ell}{\partial U} = \sum_t \alpha_t h_{t-1}^\top, \quad
#    \frac{\partial \ell}{\partial b} = \sum_t \alpha_t, \quad
#    \frac{\partial \ell}{\partial x_t} = W^\top \alpha_t, \quad
#    \frac{\partial \ell}{\partial h_{-1}} = U^\top \alpha_0 \tag{10} $$
#
# *Two functions.* `rnn_forward_cache` returns the states and a **cache** with what the backward pass will need.
# `rnn_backward` gets $g$ and the cache, and nothing else. The cache is your own affair: the checks only carry it from
# one function to the other. Keep nothing elsewhere, as two forward passes may come before the first backward pass.
#
# *Truncation.* Over long texts the chain is cut. Williams & Peng (1990) let each $g_t$ act back through the last $k$
# steps only, those that computed $h_t, h_{t-1}, \dots, h_{t-k+1}$. Writing $\alpha^{(t)}_s$ for the part of
# $\alpha_s$ that comes from $g_t$,
#
# $$ \alpha^{(t)}_t = g_t \odot (1 - h_t^2), \qquad
#    \alpha^{(t)}_s = U^\top \alpha^{(t)}_{s+1} \odot (1 - h_s^2) \ \text{ for } t - k < s < t, \qquad
#    \alpha_s = \sum_{t = s}^{s + k - 1} \alpha^{(t)}_s \tag{11} $$
#
# with Eq. (10) as before; to $\partial \ell / \partial h_{-1}$ contribute those $g_t$ that get to step 0, i.e.
# $t < k$. With $k \ge T$ nothing is cut. (In practice one often cuts at the multiples of $k$ instead, which is
# cheaper, but then the reach of $g_t$ depends on where $t$ lies. Not here.)
#
# Write the derivatives yourself, without autograd: it is what you compare with.

# %% exercise="bptt_backward"
def rnn_forward_cache(x: Tensor, h0: Tensor, W: Tensor, U: Tensor, b: Tensor) -> tuple[Tensor, object]:
    """A tanh network over whole sequences, our Eq. (8), and what its backward pass needs.

    x   (B, T, I) float
    h0  (B, H) float: the state before the first step
    W   (H, I) float, U (H, H) float, b (H,) float

    Returns hs (B, T, H) float, the states after each step, and a cache of your own making: any object will do.
    """
    ### BEGIN SOLUTION
    h, states = h0, []
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ W.T + h @ U.T + b)
        states.append(h)
    hs = torch.stack(states, dim=1)
    before = torch.cat([h0[:, None], hs[:, :-1]], dim=1)
    return hs, (x, before, hs, W, U)
    ### END SOLUTION


def rnn_backward(dhs: Tensor, cache: object) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Backpropagation through time: Werbos (1990); our Eqs. (9)-(10).

    dhs    (B, T, H) float: g, the gradient of the loss with respect to the states, each taken by itself
    cache  what `rnn_forward_cache` returned; it may be used more than once, so leave it as it is

    Returns dx (B, T, I), dh0 (B, H), dW (H, I), dU (H, H), db (H,), all float.
    """
    ### BEGIN SOLUTION
    x, before, hs, W, U = cache
    alpha = torch.zeros_like(dhs)
    carried = torch.zeros_like(dhs[:, 0])
    for t in reversed(range(dhs.shape[1])):
        alpha[:, t] = (dhs[:, t] + carried) * (1 - hs[:, t] ** 2)
        carried = alpha[:, t] @ U
    dW = torch.einsum("bth,bti->hi", alpha, x)
    dU = torch.einsum("bth,btj->hj", alpha, before)
    return alpha @ W, carried, dW, dU, alpha.sum(dim=(0, 1))
    ### END SOLUTION


def truncated_bptt(dhs: Tensor, cache: object, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The same with each dhs[:, t] carried back through k steps only: Williams & Peng (1990); our Eq. (11).

    dhs    (B, T, H) float
    cache  what `rnn_forward_cache` returned
    k      int >= 1; dhs[:, t] reaches x[:, s] only for t - k < s <= t, and h0 only for t < k. k >= T cuts nothing

    Returns dx (B, T, I), dh0 (B, H), dW (H, I), dU (H, H), db (H,), all float.
    """
    ### BEGIN SOLUTION
    x, before, hs, W, U = cache
    alpha = torch.zeros_like(dhs)
    dh0 = torch.zeros_like(dhs[:, 0])
    part = dhs  # part[:, s]: what dhs[:, s + j] says about the state s
    for j in range(min(k, dhs.shape[1])):
        part = part * (1 - hs[:, :hs.shape[1] - j] ** 2)
        alpha[:, :hs.shape[1] - j] += part
        part = part @ U
        dh0 = dh0 + part[:, 0]
        part = part[:, 1:]
    dW = torch.einsum("bth,bti->hi", alpha, x)
    dU = torch.einsum("bth,btj->hj", alpha, before)
    return alpha @ W, dh0, dW, dU, alpha.sum(dim=(0, 1))
    ### END SOLUTION

# %% [markdown] hints="bptt_backward"
# - The cache needs the inputs, the states, the initial state, W and U. Nothing else.
# - Go through time backwards with one variable `carried` of shape `(B, H)`, the bracket's second term in Eq. (9).
#   What it holds after the last round is `dh0`.
# - All batch elements share the weights: their gradients are sums over the batch and over time.
# - Truncated, the slow way: for every `t` a loop of its own over `s = t, t-1, ..., max(0, t-k+1)`. Make that right
#   first. It also works for all `t` at once: take k rounds in which everything moves one step back.

# %% [markdown]
# **What to look at.** On the left a loss that looks at the last state only, and the size of its gradient with respect
# to each input, for recurrent matrices $U$ that are $\rho$ times a rotation: below 1 it vanishes, above 1 it would
# explode if the tanh did not also shrink it. Then, from your two backward passes, who hears whom: row $t$ is a loss at
# step $t$, column $s$ the input that its gradient reaches.

# %%
generator = torch.Generator().manual_seed(3)
B, T, H = 4, 40, 24
x, h0 = 0.05 * torch.randn(B, T, 3, generator=generator), torch.zeros(B, H)
W, b = torch.randn(H, 3, generator=generator), torch.zeros(H)
rotation = torch.linalg.qr(torch.randn(H, H, generator=generator)).Q
fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for radius, style in zip((0.5, 0.8, 1.0, 1.2), ["-", "--", "-.", ":"], strict=True):
    hs, cache = rnn_forward_cache(x, h0, W, radius * rotation, b)
    dhs = torch.zeros_like(hs)
    dhs[:, -1] = torch.randn(B, H, generator=generator)
    dx = rnn_backward(dhs, cache)[0]
    ax.semilogy(dx.norm(dim=(0, 2)), style, color=INK, label=rf"$\rho$ = {radius}")
ax.set(title="gradient of a loss at the last step", xlabel="step of the input")
ax.legend(fontsize=8)
plt.show()

T = 16
hs, cache = rnn_forward_cache(x[:1, :T], h0[:1], W, rotation, b)
reach = {name: torch.zeros(T, T) for name in ("rnn_backward", "truncated, k = 8", "truncated, k = 3")}
for t in range(T):
    dhs = torch.zeros_like(hs)
    dhs[:, t] = 1
    for name, dx in zip(reach, (rnn_backward(dhs, cache)[0], truncated_bptt(dhs, cache, 8)[0],
                                truncated_bptt(dhs, cache, 3)[0]), strict=True):
        reach[name][t] = dx[0].norm(dim=-1)
show_maps([heard / reach["rnn_backward"].max() for heard in reach.values()], list(reach), xlabel="input $s$",
          ylabel="loss at $t$")

# %% [markdown]
# ## 5. Both directions, as a module  ★★ · 60 minutes
#
# Whether *lead* is a metal or a verb is often decided by what follows. Where the whole sequence is there before an
# answer is needed, Schuster & Paliwal (1997) read it twice, with separate weights: once from the left, once from the
# right, and put the two states of each position side by side:
#
# $$ \overrightarrow{h}_t = \mathrm{LSTM}(x_t, \overrightarrow{h}_{t-1}), \qquad
#    \overleftarrow{h}_t = \mathrm{LSTM}'(x_t, \overleftarrow{h}_{t+1}), \qquad
#    y_t = [\overrightarrow{h}_t ; \overleftarrow{h}_t] \tag{12} $$
#
# Both start from zero: $\overrightarrow{h}_{-1} = 0$ and, for a sequence of length $\ell$,
# $\overleftarrow{h}_{\ell} = 0$. So the second reader begins at the last *real* element of each sequence, which is at
# a different place in each row of the batch: flipping the padded tensor starts it in the padding.
#
# *A module with a contract.* This exercise is an `nn.Module`. Weights of a trained model are stored by name, and to
# exchange them the names have to agree: the module's `state_dict` must have exactly the keys of
# `nn.LSTM(I, H, bidirectional=True)`, eight parameters, so that the weights of either can be loaded into the other.
# Their initial values are up to you (customary: uniform in $\pm 1/\sqrt{H}$). You may call your `lstm_cell_step`; if it
# has a fault, this exercise then has it, too.

# %% exercise="bilstm_layer"
class BiLSTM(nn.Module):
    """A bidirectional LSTM over padded sequences: Schuster & Paliwal (1997); our Eqs. (2)-(4) and (12).

    state_dict, all trainable parameters, gates in the order i, f, g, o:
        weight_ih_l0 (4H, I), weight_hh_l0 (4H, H), bias_ih_l0 (4H,), bias_hh_l0 (4H,)              left to right
        weight_ih_l0_reverse, weight_hh_l0_reverse, bias_ih_l0_reverse, bias_hh_l0_reverse          right to left
    """

    def __init__(self, input_size: int, hidden_size: int):
        """input_size = I, hidden_size = H."""
        super().__init__()
        ### BEGIN SOLUTION
        shapes = {"weight_ih_l0": (4 * hidden_size, input_size), "weight_hh_l0": (4 * hidden_size, hidden_size),
                  "bias_ih_l0": (4 * hidden_size,), "bias_hh_l0": (4 * hidden_size,)}
        bound = 1 / math.sqrt(hidden_size)
        for suffix in ("", "_reverse"):
            for name, shape in shapes.items():
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))
        ### END SOLUTION

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The states of both directions at every position.

        x        (B, T, I) float; x[b, lengths[b]:] is padding and may hold anything, NaN and infinity included
        lengths  (B,) long, 1 <= lengths[b] <= T, in any order; the longest sequence may be shorter than T

        Returns (B, T, 2H) float: [..., :H] from the left, [..., H:] from the right; 0 at t >= lengths[b]. Padding
        influences neither outputs nor gradients.
        """
        ### BEGIN SOLUTION
        t = torch.arange(x.shape[1], device=x.device)
        past = t >= lengths[:, None]
        x = x.masked_fill(past[..., None], 0)
        mirror = torch.where(past, t, lengths[:, None] - 1 - t)[..., None]  # its own inverse
        from_left = self._run(x, "")
        from_right = self._run(torch.take_along_dim(x, mirror, dim=1), "_reverse")
        both = torch.cat([from_left, torch.take_along_dim(from_right, mirror, dim=1)], dim=-1)
        return both.masked_fill(past[..., None], 0)

    def _run(self, x, suffix):
        """(B, T, I) -> (B, T, H): one direction, from zero, left to right."""
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [getattr(self, name + suffix) for name in names]
        h = c = x.new_zeros(x.shape[0], weights[1].shape[1])
        states = []
        for x_t in x.unbind(dim=1):
            h, c = lstm_cell_step(x_t, h, c, *weights)
            states.append(h)
        return torch.stack(states, dim=1)
        ### END SOLUTION

# %% [markdown] hints="bilstm_layer"
# - `self.weight_ih_l0 = nn.Parameter(torch.empty(4 * H, I).uniform_(-bound, bound))` registers a parameter under its
#   name. A plain tensor, or a list of parameters, is not registered.
# - Write one direction as a method that takes `x` and the four weights, and use it twice.
# - To reverse each sequence within its length, position t of sequence b takes what stands at `lengths[b] - 1 - t`.
#   The same exchange turns the result back.
# - States begin at zero in the input's dtype: `x.new_zeros(...)`. Replace the padding before you compute with it, and
#   set the output there to 0 at the end.

# %% [markdown]
# **What to look at.** Which inputs does an output depend on? We differentiate to find out, for a sequence of length 11
# in a tensor of length 14. The first half hears what came before, the second half what comes after, and the padding
# is heard by no one. The last picture is the whole output for two sequences that are each other's mirror image, with
# the same weights in both directions: reversing time exchanges the halves.

# %%
torch.manual_seed(4)
T, H = 14, 6
layer = BiLSTM(3, H)
x = torch.randn(1, T, 3)
jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, torch.tensor([11])), x)  # (1, T, 2H, 1, T, 3)
heard = jacobian.abs().sum(dim=(0, 3, 5))  # (T, 2H, T)
show_maps([(part.sum(1) > 0).float() for part in (heard[:, :H], heard[:, H:], heard)],
          ["from the left", "from the right", "both"], xlabel="input", ylabel="output")

state = layer.state_dict()
layer.load_state_dict(state | {f"{name}_reverse": value for name, value in state.items() if "reverse" not in name})
with torch.no_grad():
    there, back = (layer(sequence, torch.tensor([T]))[0].T for sequence in (x, x.flip(1)))
show_maps([there, back], ["the sequence", "the sequence reversed"], xlabel="position",
          ylabel="unit: left | right", cmap="RdBu", low=-0.6, high=0.6)

# %% [markdown]
# ## 6. A language model's loss  ★★ · 40 minutes
#
# A language model assigns a probability to a text, one token at a time (Bengio et al. 2003; Mikolov et al. 2010):
#
# $$ p(w_0, \dots, w_{T-1}) = p(w_0) \prod_{t = 0}^{T - 2} p(w_{t+1} \mid w_0, \dots, w_t) \tag{13} $$
#
# The network reads $w_0, \dots, w_t$ and gives at position $t$ the logits $z_t$ of the **next** token. So position $t$
# is compared with token $t + 1$; the first token is never predicted, and the last position predicts nothing. With
# $N$ the number of tokens that are predicted, the padding left out,
#
# $$ \mathrm{nll} = -\frac{1}{N} \sum_{b, t \,:\, w_{b, t+1} \ne \mathrm{pad}}
#    \log \mathrm{softmax}(z_{b, t})_{w_{b, t+1}}, \qquad \mathrm{perplexity} = e^{\mathrm{nll}} \tag{14} $$
#
# The mean is over all **tokens** of the batch, not over sequences: a long sentence counts for more than a short one.
# Perplexity is the size of a die that would be as hard to predict: a model that knows nothing has perplexity $V$.
#
# *Writing.* To draw the next token from $\mathrm{softmax}(z / \tau)$ there is a neat way that needs no normalisation.
# If $G_v = -\log(-\log U_v)$ with independent $U_v$ uniform in $(0, 1)$ ("Gumbel noise"), then
#
# $$ \arg\max_v \Bigl( \frac{z_v}{\tau} + G_v \Bigr) \sim \mathrm{softmax}(z / \tau) \tag{15} $$
#
# The temperature $\tau$ makes the text bolder or duller; $\tau = 0$ is the limit, always the likeliest token.
# *Top-k* sampling first strikes out all but the $k$ largest logits, as the many unlikely tokens together are not
# unlikely. The noise is an argument here, so that you, and we, can repeat an experiment.

# %% exercise="char_lm_loss"
def lm_loss(logits: Tensor, tokens: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood per predicted token, in nats, and the perplexity: our Eq. (14).

    logits  (B, T, V) float: logits[:, t] predicts tokens[:, t + 1]; any finite values, however large
    tokens  (B, T) long in [0, V) or equal to pad_id
    pad_id  int: where tokens[:, t + 1] == pad_id nothing is predicted; it may lie outside [0, V)

    Returns nll () and perplexity () = exp(nll), both float. If nothing is predicted (T = 1, or padding only) they are
    0 and 1, with gradients 0. Gradients flow through nll; perplexity is for reading, attached or not.
    """
    ### BEGIN SOLUTION
    targets = tokens[:, 1:]
    counts = targets != pad_id
    log_p = torch.log_softmax(logits[:, :-1], dim=-1)
    log_p = log_p.gather(-1, targets.masked_fill(~counts, 0).unsqueeze(-1)).squeeze(-1)
    nll = -log_p.masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)
    return nll, nll.exp()
    ### END SOLUTION


def sample(logits: Tensor, temperature: float, top_k: int | None, gumbel: Tensor) -> Tensor:
    """The next token of each sequence, by Gumbel noise: our Eq. (15).

    logits       (B, V) float
    temperature  float >= 0; 0 takes the largest logit, whatever the noise
    top_k        int >= 1: only the top_k largest logits of a row may be drawn; None or top_k >= V: all may
    gumbel       (B, V) float: noise, added to logits / temperature

    Returns (B,) long. Among equal values any choice is right. ValueError if temperature < 0 or top_k < 1.
    """
    ### BEGIN SOLUTION
    if temperature < 0 or (top_k is not None and top_k < 1):
        raise ValueError(f"expected temperature >= 0 and top_k >= 1, got {temperature} and {top_k}")
    if temperature == 0:
        return logits.argmax(dim=-1)
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -math.inf)
    return (logits / temperature + gumbel).argmax(dim=-1)
    ### END SOLUTION

# %% [markdown] hints="char_lm_loss"
# - `logits[:, :-1]` and `tokens[:, 1:]` stand side by side: prediction and answer.
# - `torch.log_softmax` and `gather` give one log-probability for each target. `pad_id` may be no valid index: replace
#   it by 0 before you gather, and leave these places out afterwards.
# - The log of a softmax is `-inf` once the softmax has underflowed; `log_softmax` never gets there.
# - For `top_k`, the k-th largest logit of a row is the threshold; what is below becomes minus infinity.

# %% [markdown]
# **What to look at.** One distribution at four temperatures: the bars are the softmax, the dots how often your
# `sample` drew each token in 20 000 draws. They lie on the bars, except under *top-k*, where the tail is struck out
# and the rest has its mass.

# %%
def gumbel_noise(*shape, generator=None):
    """-log(-log U), kept away from U = 0."""
    return -torch.log(-torch.log(torch.rand(*shape, generator=generator).clamp(min=1e-20)))


generator = torch.Generator().manual_seed(5)
logits = torch.tensor([2.5, 2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5])
fig, axes = plt.subplots(1, 4, figsize=(12, 2.8), layout="constrained", sharey=True)
for ax, (temperature, top_k) in zip(axes, [(0.5, None), (1.0, None), (2.0, None), (2.0, 3)], strict=True):
    drawn = sample(logits.expand(20_000, 8), temperature, top_k, gumbel_noise(20_000, 8, generator=generator))
    ax.bar(range(8), torch.softmax(logits / temperature, dim=-1), color=BLUE, edgecolor=INK)
    ax.plot(torch.bincount(drawn, minlength=8) / 20_000, "o", color="#c0392b", markersize=4)
    ax.set(title=f"temperature {temperature:g}" + (f", top {top_k}" if top_k else ""), xlabel="token")
plt.show()

# %% [markdown]
# ## Finale
#
# **A bit across the noise.** The first element of a sequence is +1 or -1, then come 14 steps of noise, then the
# question: what was it? All three networks have 16 units; the gated ones begin with their memory open, as the first
# picture advises. Over 14 steps the tanh network usually gets there, too. Try `steps = 30`. (That something learns
# does not mean that it is right: an LSTM with two of its gates exchanged learns this as well. That is what the checks
# are for.)

# %%
def recall_batch(n, steps, generator):
    """(n, steps, 2): a bit or noise, and a mark on the first element; (n,) the bits as 0 and 1."""
    bits = torch.randint(2, (n,), generator=generator)
    x = torch.zeros(n, steps, 2)
    x[:, :, 0] = torch.randn(n, steps, generator=generator)
    x[:, 0] = torch.stack([2.0 * bits - 1, torch.ones(n)], dim=-1)
    return x, bits


def uniform(*shape, generator):
    return torch.empty(*shape).uniform_(-0.25, 0.25, generator=generator).requires_grad_()


def random_cell(gates, inputs, H, generator):
    """The four weights of a cell, ready to be trained."""
    shapes = {"w_ih": (gates * H, inputs), "w_hh": (gates * H, H), "b_ih": (gates * H,), "b_hh": (gates * H,)}
    return {name: uniform(*shape, generator=generator) for name, shape in shapes.items()}


def last_state(kind, x, p):
    """(B, H): what the network knows at the end; your functions do the work."""
    h = c = torch.zeros(len(x), p["w_hh"].shape[1])
    if kind == "tanh":
        return masked_rnn(x, torch.full((len(x),), x.shape[1]), h, p)[1]
    for x_t in x.unbind(1):
        if kind == "LSTM":
            h, c = lstm_cell_step(x_t, h, c, **p)
        else:
            h = gru_cell_step(x_t, h, **p)
    return h


steps, H, learning = 15, 16, {}
for kind, gates in (("tanh", 1), ("GRU", 3), ("LSTM", 4)):
    generator = torch.Generator().manual_seed(6)
    p = random_cell(gates, 2, H, generator)
    if gates > 1:
        p["b_ih"].data[H:2 * H] += 3  # rows H:2H: the forget gate of one, the update gate of the other
    read = uniform(H, 2, generator=generator)
    optimizer = torch.optim.Adam([*p.values(), read], lr=0.02)
    learning[kind] = []
    for _ in range(150):
        x, bits = recall_batch(64, steps, generator)
        logits = last_state(kind, x, p) @ read
        loss = nn.functional.cross_entropy(logits, bits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learning[kind].append((logits.argmax(-1) == bits).float().mean().item())
    x, bits = recall_batch(2000, steps, generator)
    accuracy = ((last_state(kind, x, p) @ read).argmax(-1) == bits).float().mean()
    print(f"{kind:5}{accuracy:.1%} of new sequences")

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for (kind, curve), style in zip(learning.items(), [":", "--", "-"], strict=True):
    ax.plot(torch.tensor(curve).unfold(0, 5, 1).mean(-1), style, color=INK, label=kind)
ax.set(title=f"recalling the first bit after {steps - 1} steps of noise", xlabel="training step", ylabel="accuracy")
ax.legend()
plt.show()

# %% [markdown]
# **A network that writes.** The sentences below come from a small grammar, so we know exactly how surprising each of
# them is: the dashed line is the perplexity per character of the best model there can be, and no model gets below it.
# The verb agrees with a noun that stands far to its left, and between the two may be another noun that tries to
# mislead it: *the birds that the cat sees sleep*.

# %%
import random

NOUNS = {"cat": "cats", "dog": "dogs", "bird": "birds", "child": "children"}
VERBS = {"sleeps": "sleep", "sings": "sing", "runs": "run"}
SEES = {"sees": "see", "knows": "know"}


def sentence(rng):
    """(a sentence of the grammar, its surprise in nats: -log of its probability)."""
    nats = 0.0

    def choose(options):
        nonlocal nats
        nats += math.log(len(options))
        return rng.choice(options)

    plural, words = choose([0, 1]), ["the"]
    words.append(choose(list(NOUNS.items()))[plural])
    if choose([False, True]):
        other = choose([0, 1])
        words += ["that", "the", choose(list(NOUNS.items()))[other], choose(list(SEES.items()))[other]]
    words.append(choose(list(VERBS.items()))[plural])
    return " ".join(words), nats


rng = random.Random(7)
corpus = [sentence(rng) for _ in range(4000)]
PAD, END = 0, 1  # END begins and ends a sentence
alphabet = ["", "|", *sorted({character for text, _ in corpus for character in text})]
number = {character: i for i, character in enumerate(alphabet)}
# After END the END that follows a sentence is certain, so all the surprise is in the sentence.
floor = math.exp(sum(nats for _, nats in corpus) / sum(len(text) + 1 for text, _ in corpus))
print(*(f"{text}   ({nats:.1f} nats)" for text, nats in corpus[:3]), sep="\n")


def batch_of(texts):
    rows = [[END, *(number[character] for character in text), END] for text in texts]
    return torch.tensor([row + [PAD] * (max(map(len, rows)) - len(row)) for row in rows])


V, H = len(alphabet), 64
generator = torch.Generator().manual_seed(8)
p, w_out = random_cell(3, V, H, generator), uniform(H, V, generator=generator)
one_hot = torch.eye(V)


def logits_of(tokens):
    h, logits = torch.zeros(len(tokens), H), []
    for x in one_hot[tokens].unbind(1):
        h = gru_cell_step(x, h, **p)
        logits.append(h @ w_out)
    return torch.stack(logits, dim=1)


optimizer = torch.optim.Adam([*p.values(), w_out], lr=0.01)
perplexities = []
for _ in range(500):
    tokens = batch_of([text for text, _ in rng.sample(corpus, 32)])
    nll, perplexity = lm_loss(logits_of(tokens), tokens, PAD)
    optimizer.zero_grad()
    nll.backward()
    optimizer.step()
    perplexities.append(perplexity.item())

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.semilogy(perplexities, color=INK, label="your model")
ax.axhline(V - 1, color="#999999", linestyle=":", label="knows nothing")
ax.axhline(floor, color="#c0392b", linestyle="--", label="knows the grammar")
ax.set(title="perplexity per character", xlabel="training step", yticks=[1, 2, 5, 10, 20],
       yticklabels=["1", "2", "5", "10", "20"])
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# And what does it write? Below, a hundred sentences at each of four temperatures, an example of each, and the share
# that the grammar allows. Low temperatures make few mistakes and repeat themselves; high ones invent, also what is
# wrong. *Top-k* takes some of the mistakes back.

# %%
import re

FORMS = [["|".join(form[i] for form in words.items()) for words in (NOUNS, VERBS, SEES)] for i in (0, 1)]
CLAUSE = "|".join(f"(?:{nouns}) (?:{sees})" for nouns, _, sees in FORMS)
GRAMMAR = re.compile("|".join(f"the (?:{nouns})(?: that the (?:{CLAUSE}))? (?:{verbs})" for nouns, verbs, _ in FORMS))


@torch.no_grad()
def write_sentences(n, temperature, top_k, generator, longest=60):
    h, token = torch.zeros(n, H), torch.full((n,), END)
    texts, going = [""] * n, [True] * n
    for _ in range(longest):
        h = gru_cell_step(one_hot[token], h, **p)
        token = sample(h @ w_out, temperature, top_k, gumbel_noise(n, V, generator=generator))
        for i, drawn in enumerate(token.tolist()):
            going[i] = going[i] and drawn not in (PAD, END)
            texts[i] += alphabet[drawn] if going[i] else ""
    return texts


for temperature, top_k in ((0.0, None), (0.5, None), (1.0, None), (1.6, None), (1.6, 4)):
    texts = write_sentences(100, temperature, top_k, torch.Generator().manual_seed(9))
    right = sum(GRAMMAR.fullmatch(text) is not None for text in texts)
    kind = f"temperature {temperature:g}" + (f", top {top_k}" if top_k else "")
    print(f"{kind:22} {right:3} % right, {len(set(texts)):3} different: {texts[0]}")

# %% [markdown]
# ## Going further
#
# - **Does it know grammar?** Compare `nll` on pairs of sentences that differ in the last verb only, with and without
#   a misleading noun in between. What happens with two clauses, which it has never seen (Linzen et al. 2016)?
# - **Exploding gradients.** Clip the norm of the gradient (Pascanu et al. 2013) and train the tanh network of the
#   finale at ten times the learning rate, with and without.
# - **Memory.** The cache of exercise 4 holds all states. Keep every tenth and compute the others anew on the way back:
#   how much time does that cost, how much memory does it save (Gruslys et al. 2016)?
# - **Parallel in time.** In Eq. (6) leave $h_{t-1}$ out of the gates. What remains is linear in $h$ and can be computed
#   for all $t$ at once by a scan (Martin & Cundy 2018; Feng et al. 2024): the way to minGRU, S4 and Mamba.
# - **Packing.** PyTorch's `pack_padded_sequence` sorts by length and computes no padding at all. When does that pay?
#
# ## References
#
# - Y. Bengio, P. Simard, P. Frasconi. *Learning Long-Term Dependencies with Gradient Descent is Difficult.* IEEE
#   Transactions on Neural Networks 5, 1994.
# - Y. Bengio, R. Ducharme, P. Vincent, C. Jauvin. *A Neural Probabilistic Language Model.* JMLR 3, 2003.
# - K. Cho et al. *Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation.*
#   EMNLP 2014.
# - J. Chung, C. Gulcehre, K. Cho, Y. Bengio. *Empirical Evaluation of Gated Recurrent Neural Networks on Sequence
#   Modeling.* 2014.
# - J. Elman. *Finding Structure in Time.* Cognitive Science 14, 1990.
# - L. Feng et al. *Were RNNs All We Needed?* 2024.
# - F. Gers, J. Schmidhuber, F. Cummins. *Learning to Forget: Continual Prediction with LSTM.* Neural Computation 12,
#   2000.
# - A. Gruslys et al. *Memory-Efficient Backpropagation Through Time.* NeurIPS 2016.
# - S. Hochreiter, J. Schmidhuber. *Long Short-Term Memory.* Neural Computation 9, 1997.
# - R. Jozefowicz, W. Zaremba, I. Sutskever. *An Empirical Exploration of Recurrent Network Architectures.* ICML 2015.
# - T. Linzen, E. Dupoux, Y. Goldberg. *Assessing the Ability of LSTMs to Learn Syntax-Sensitive Dependencies.* TACL
#   4, 2016.
# - E. Martin, C. Cundy. *Parallelizing Linear Recurrent Neural Nets Over Sequence Length.* ICLR 2018.
# - T. Mikolov et al. *Recurrent Neural Network Based Language Model.* Interspeech 2010.
# - R. Pascanu, T. Mikolov, Y. Bengio. *On the Difficulty of Training Recurrent Neural Networks.* ICML 2013.
# - M. Schuster, K. Paliwal. *Bidirectional Recurrent Neural Networks.* IEEE Transactions on Signal Processing 45,
#   1997.
# - P. Werbos. *Backpropagation Through Time: What It Does and How to Do It.* Proceedings of the IEEE 78, 1990.
# - R. Williams, J. Peng. *An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
#   Trajectories.* Neural Computation 2, 1990.
