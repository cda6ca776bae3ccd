# %% [markdown]
# # Transformers
#
# A recurrent network reads a sentence one word at a time: the thousandth step waits for the 999 before it, and what
# the first word meant has to survive in a state of fixed size. The transformer (Vaswani et al. 2017) gives up the
# order of reading. Every position looks at every other position directly, in one step, by attention; all positions
# are computed at once, which is what parallel hardware is good at; and a path from any word to any other has length
# one, so gradients need not survive a long journey.
#
# What is lost with the loop is the *order*. Attention treats its input as a set: permute the words, and the answers
# are permuted, nothing else. So position has to be put in by hand, and a good part of this unit is about how. The
# rest is architecture: a residual stream of width $C$ that every layer reads from and writes to, attention that moves
# information *between* positions, and a small network that works *at* each position.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `sinusoidal_pe` | ★ | 15 | positions as waves, added to the input |
# | `rope` | ★ | 25 | positions as rotations of queries and keys |
# | `multi_head_self_attention` | ★★ | 40 | the layer that moves information between positions |
# | `encoder_block` | ★★ | 60 | residuals, normalization before or after, the feed-forward network, dropout |
# | `kv_cache_decode` | ★★★ | 75 | one token at a time, without computing the past again |
# | `encoder_decoder` | ★★★ | 120 | the whole of the 2017 paper's Figure 1 |
# | `relative_bias_variants` | ★★ | 60 | biases for distances, and images as sequences of patches |
#
# The cell below an exercise checks your code and shows the smallest example on which it fails; the pictures after it
# are drawn by your own code. In a cell of your own, `hint("rope")` gives a hint, then one more each time, and
# `progress()` shows what is done.
#
# ### Notation, and rules for every exercise
#
# $B$ examples, $T$ positions (counted from 0), $C$ channels, $H$ heads of width $D = C/H$. Shapes are written
# `(B, T, C)`; every size is at least 1.
#
# - `float` means float32 or float64, all arguments alike. Compute in that dtype and return it; `long` means int64.
# - Weights are stored as in `nn.Linear`, `(out, in)`, so the papers' $x W$ is `x @ w.T`.
# - A mask is `bool` and **True means keep**.
# - Arguments may be views of other tensors with any strides. Never change them, nor a dict or tuple that holds them,
#   and remember nothing between calls.
# - Gradients must reach every float argument and every parameter.
# - Exercises may use what you wrote in another one, and none has to. If that has a fault, the second one has it, too.

# %% role="setup"
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etude import check, hint, progress

# %% [markdown]
# The picture is the architecture of the paper: an encoder that reads the source, a decoder that writes the target and
# looks at the source while it does. Blue is what goes in and comes out, orange is where information moves between
# positions, grey works at each position alone. Each "add & norm" adds the layer's input to its output: the arrows
# around the layers are left out. Most of today's language models keep one half only: BERT and the vision transformer
# the left one, GPT and its relatives the right one without its middle layer.

# %%
import matplotlib.pyplot as plt

from etude.plots import BLUE, GREY, INK, ORANGE, draw_graph, light, show_maps

light()
fig, ax = plt.subplots(figsize=(10, 8), layout="constrained")
draw_graph(ax, "encoder and decoder", {
    "src": (0, 0, "source tokens", BLUE), "pe1": (0, 1.1, "embed + position", GREY),
    "self1": (0, 2.4, "self-attention", ORANGE), "norm1": (0, 3.4, "add & norm", GREY),
    "ff1": (0, 4.4, "feed-forward", GREY), "norm2": (0, 5.4, "add & norm", GREY),
    "memory": (0, 6.6, "memory", BLUE),
    "tgt": (5.2, 0, "target so far", BLUE), "pe2": (5.2, 1.1, "embed + position", GREY),
    "self2": (5.2, 2.4, "causal self-att.", ORANGE), "norm3": (5.2, 3.4, "add & norm", GREY),
    "cross": (5.2, 4.4, "cross-attention", ORANGE), "norm4": (5.2, 5.4, "add & norm", GREY),
    "ff2": (5.2, 6.4, "feed-forward", GREY), "norm5": (5.2, 7.4, "add & norm", GREY),
    "logits": (5.2, 8.6, "logits", BLUE),
}, {"src": ["pe1"], "pe1": ["self1"], "self1": ["norm1"], "norm1": ["ff1"], "ff1": ["norm2"], "norm2": ["memory"],
    "tgt": ["pe2"], "pe2": ["self2"], "self2": ["norm3"], "norm3": ["cross"], "memory": ["cross"],
    "cross": ["norm4"], "norm4": ["ff2"], "ff2": ["norm5"], "norm5": ["logits"]},
    {"src": "$(B, S)$", "norm2": "repeat $N$ times", "memory": "$(B, S, C)$: keys and values", "tgt": "$(B, T)$",
     "norm5": "repeat $N$ times", "logits": "$(B, T, V)$"}, width=2.5)
plt.show()

# %% [markdown]
# ## 1. Positions as waves  ★ · 15 minutes
#
# How should a vector of $d$ numbers say "I am at place $pos$"? One number that grows with the place would soon dwarf
# the words. The paper writes the position like the hands of a row of clocks: pair $i$ of channels is a hand that turns
# by the angle $\omega_i$ from each position to the next (Vaswani et al. 2017, §3.5):
#
# $$ PE_{pos,\, 2i} = \sin(\omega_i\, pos), \qquad PE_{pos,\, 2i+1} = \cos(\omega_i\, pos), \qquad
#    \omega_i = \texttt{base}^{-2i/d} \tag{1} $$
#
# The first hand is the fast one, with a period of $2\pi$ positions; the last one needs almost $2\pi \cdot 10\,000$.
# Together they tell positions apart at every scale, as seconds, minutes and hours do.
#
# *Why pairs?* By the addition theorems a step of $k$ positions turns every hand by a fixed angle,
#
# $$ \begin{pmatrix} PE_{pos + k,\, 2i} \\ PE_{pos + k,\, 2i+1} \end{pmatrix} =
#    \begin{pmatrix} \cos \omega_i k & \sin \omega_i k \\ -\sin \omega_i k & \cos \omega_i k \end{pmatrix}
#    \begin{pmatrix} PE_{pos,\, 2i} \\ PE_{pos,\, 2i+1} \end{pmatrix} \tag{2} $$
#
# so "three words back" is one linear map, the same everywhere, which a layer can learn.
#
# *Conventions.* Sine and cosine **alternate** as in Eq. (1); some libraries put all sines first. In the exponent
# stands $2i/d$ with the $d$ of the argument, also if $d$ is odd: then the last channel is a sine whose cosine has no
# room. Implementations that let the periods end exactly at $2\pi \cdot \texttt{base}$ exist; this is not one.
#
# *Watch for* half precision: float16 counts in steps of 2 beyond 2048, bfloat16 beyond 256. An angle that was rounded
# to a few digits before the sine was taken is worthless at large positions.

# %% exercise="sinusoidal_pe"
def sinusoidal_pe(T: int, d: int, base: float = 10000.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sinusoidal position encoding: Vaswani et al. (2017), §3.5; our Eq. (1).

    T      int >= 1: positions 0 to T - 1
    d      int >= 1: channels; even ones are sines, odd ones cosines. Odd d is legal: the last cosine is left out
    base   float > 1
    dtype  the dtype of the result: float64, float32, float16 or bfloat16

    Returns (T, d). Angles, sines and cosines are computed in float64 and rounded once, to `dtype`, at the end.
    """
    ### BEGIN SOLUTION
    position = torch.arange(T, dtype=torch.float64)
    even = torch.arange(0, d, 2, dtype=torch.float64)
    angle = position[:, None] * base ** (-even / d)
    pe = torch.empty(T, d, dtype=torch.float64)
    pe[:, 0::2] = angle.sin()
    pe[:, 1::2] = angle[:, :d // 2].cos()
    return pe.to(dtype)
    ### END SOLUTION

# %% [markdown] hints="sinusoidal_pe"
# - The angles are an outer product of positions and frequencies: two vectors and one broadcast product.
# - `pe[:, 0::2]` is every second column from the first on; it has one more column than `pe[:, 1::2]` if d is odd.
# - Make the positions as float64 at once: what an integer range has rounded away, a later conversion does not bring
#   back.

# %% [markdown]
# **What to look at.** On the left the table: fast waves in the first channels, hardly moving ones in the last. On the
# right the dot product of the encodings of two positions. By Eq. (2) it depends on their distance alone, so every
# diagonal has one colour; and it falls off to both sides, so that near positions look alike.

# %%
pe = sinusoidal_pe(64, 32)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", width_ratios=[1.2, 1])
image = axes[0].imshow(pe.T, cmap="RdBu", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
axes[0].set(title="the encoding", xlabel="position", ylabel="channel")
fig.colorbar(image, ax=axes[0], fraction=0.046)
image = axes[1].imshow(pe @ pe.T, cmap="viridis", interpolation="nearest")
axes[1].set(title="dot products", xlabel="position", ylabel="position")
fig.colorbar(image, ax=axes[1], fraction=0.046)
plt.show()

# %% [markdown]
# ## 2. Positions as rotations  ★ · 25 minutes
#
# What is added to the input has to find its way through projections until it reaches a score. Su et al. (2021) put
# the position where it is needed: into queries and keys, and not as a sum but as a **rotation**. Each pair of
# channels is turned by an angle that grows with the position $m$ (their Eq. 15; Eq. 34 is the form to compute):
#
# $$ \begin{pmatrix} x'_{2i} \\ x'_{2i+1} \end{pmatrix} =
#    \begin{pmatrix} \cos m\theta_i & -\sin m\theta_i \\ \sin m\theta_i & \cos m\theta_i \end{pmatrix}
#    \begin{pmatrix} x_{2i} \\ x_{2i+1} \end{pmatrix}, \qquad \theta_i = \texttt{base}^{-2i/d} \tag{3} $$
#
# Rotations keep lengths, and two of them cancel up to their difference. So the score of a query at $m$ and a key at
# $n$ depends on their contents and on the distance $m - n$, and on nothing else:
#
# $$ \langle R_m q, R_n k \rangle = \langle q, R_{n - m}\, k \rangle \tag{4} $$
#
# Values are not rotated. Most of today's language models place their words in this way.
#
# *Conventions.* The paper pairs **neighbouring** channels, $(0, 1), (2, 3), \dots$, and so do we. The LLaMA weights on
# the Hugging Face hub pair channel $i$ with $i + d/2$. Both satisfy Eq. (4), and a network trains as well with either;
# but weights that were trained with one are garbage in the other.
#
# *Watch for* positions that are not $0, \dots, T-1$: in a text that is continued they begin later, in a packed batch
# they begin anew. And for large ones: an angle around 100 000, in float32, is off by up to 0.004.

# %% exercise="rope"
def rope(x: Tensor, pos: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary position embedding of neighbouring pairs of channels: Su et al. (2021), Eqs. 15, 34; our Eq. (3).

    x     (B, T, d) float, d even: queries or keys
    pos   (T,) long: the position of each row, the same in all examples; any integers, in any order
    base  float > 1

    Returns (B, T, d) float: x[:, t], turned by the position pos[t]. Angles, and their sines and cosines, are computed
    in float64 and then rounded to the dtype of x. Raises ValueError if d is odd.
    """
    ### BEGIN SOLUTION
    d = x.shape[-1]
    if d % 2:
        raise ValueError(f"channels are turned in pairs, but there are {d}")
    theta = base ** (-torch.arange(0, d, 2, dtype=torch.float64, device=x.device) / d)
    angle = pos[:, None] * theta
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2)
    ### END SOLUTION

# %% [markdown] hints="rope"
# - Write down Eq. (3) for the even and the odd channels of a row: two formulas with the same sine and cosine.
# - At the end the two results have to alternate again. What does `torch.stack` with a new last axis do, followed by
#   `flatten`?
# - A pair is also a complex number, and turning it is a multiplication by $e^{\mathrm{i} m \theta}$.

# %% [markdown]
# **What to look at.** On the left the first pair of channels of one vector at the positions 0 to 12: it walks on a
# circle. In the middle the scores of one query with one key, at all places $m$ and $n$: a function of $m - n$. On the
# right what happens to the score with growing distance if query and key are equal, on average over random vectors: it
# falls, with ripples, so that near words have an advantage from the start.

# %%
generator = torch.Generator().manual_seed(1)
q, k = torch.randn(2, 1, 1, 32, generator=generator)
places = torch.arange(40)
at_all_places = [rope(vector.expand(1, 40, 32), places)[0] for vector in (q, k)]
fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
axes[0].plot(*at_all_places[0][:13, :2].T, "o-", color="#440154")
for m in (0, 1, 2, 3):
    axes[0].annotate(f"{m}", at_all_places[0][m, :2].tolist(), textcoords="offset points", xytext=(5, 5))
axes[0].set(title="one pair, positions 0 to 12", aspect="equal")
axes[1].imshow(at_all_places[0] @ at_all_places[1].T, cmap="RdBu", interpolation="nearest")
axes[1].set(title="scores of one query and one key", xlabel="place of the key", ylabel="place of the query")
x = torch.randn(500, 1, 32, generator=generator).expand(500, 400, 32)
turned = rope(x, torch.arange(400))
axes[2].plot((turned * turned[:, :1]).sum(-1).mean(0) / 32, color="#21918c")
axes[2].axhline(0, color=INK, linewidth=0.5)
axes[2].set(title="score of equal vectors", xlabel="distance", ylabel="relative to distance 0")
plt.show()

# %% [markdown]
# ## 3. Multi-head self-attention  ★★ · 40 minutes
#
# Here the positions talk to each other. Every position makes a query, a key and a value from its own vector, and
# reads from all of them (Vaswani et al. 2017, §3.2.2; for head $i$ from 0 to $H - 1$, $D = C/H$):
#
# $$ \mathrm{head}_i = \mathrm{softmax}\!\left( \frac{Q_i K_i^\top}{\sqrt{D}} + M \right) V_i, \qquad
#    Q_i = x W^Q_i, \quad K_i = x W^K_i, \quad V_i = x W^V_i \tag{5} $$
#
# $$ \mathrm{MHA}(x) = \mathrm{Concat}(\mathrm{head}_0, \dots, \mathrm{head}_{H-1})\, W^O \tag{6} $$
#
# In a language model position $t$ predicts what comes next, so it must not see it: $M_{ts} = 0$ for $s \le t$ and
# $-\infty$ otherwise. A position does see **itself**. Then a text of $T$ words is $T$ training examples at once, as
# every prefix is computed as if it stood alone.
#
# *Layout.* One matrix `w_qkv` holds all three projections: rows 0 to $C - 1$ make the queries, the next $C$ the keys,
# the last $C$ the values. Within each, head $i$ owns the rows $iD, \dots, (i+1)D - 1$, and the same columns of `w_o`.
# (GPT-NeoX stores query, key and value of one head side by side instead.)
#
# *Watch for* reshapes that run through without an error: from `(B, T, C)` one gets to `(B, H, T, D)` in two steps, and
# to something of that shape in one. And for the width in the root: it is that of a head.

# %% exercise="multi_head_self_attention"
def mha(x: Tensor, w_qkv: Tensor, w_o: Tensor, n_heads: int, causal: bool) -> Tensor:
    """Multi-head self-attention, without biases: Vaswani et al. (2017), §3.2.2; our Eqs. (5)-(6).

    x        (B, T, C) float
    w_qkv    (3C, C) float: rows of the queries, of the keys, of the values; in each, head i owns rows i*D:(i+1)*D
    w_o      (C, C) float, (out, in); head i owns the columns i*D:(i+1)*D
    n_heads  int >= 1; D = C / n_heads
    causal   True: position t reads the positions 0 to t; False: it reads all

    Returns (B, T, C) float. Raises ValueError if n_heads does not divide C.
    """
    ### BEGIN SOLUTION
    B, T, C = x.shape
    if C % n_heads:
        raise ValueError(f"{n_heads} heads do not divide a width of {C}")
    q, k, v = (x @ w_qkv.T).view(B, T, 3, n_heads, C // n_heads).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-2, -1) / math.sqrt(C // n_heads)
    if causal:
        future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(diagonal=1)
        scores = scores.masked_fill(future, -math.inf)
    heads = torch.softmax(scores, dim=-1) @ v
    return heads.transpose(1, 2).reshape(B, T, C) @ w_o.T
    ### END SOLUTION

# %% [markdown] hints="multi_head_self_attention"
# - Write down the shape after every step. The last axis of the projection is (3, heads, D), in this order; time stays
#   an axis of its own.
# - `(B, T, H, D)` becomes `(B, H, T, D)` by exchanging two axes, not by a reshape; and back in the same way at the end.
# - `triu` with `diagonal=1` begins above the diagonal; without, it takes the diagonal along.
# - In matrix form, a projection with weights stored as (out, in) is `x @ w.T`, for the last one too.

# %% [markdown]
# **What to look at.** We let the layer show its weights: with values that are one-hot positions, the output *is* the
# matrix of weights. The first map is a head without, the second with the causal mask: a triangle whose rows still sum
# to one. The third shows which inputs the outputs depend on, by differentiation: nothing above the diagonal.

# %%
generator = torch.Generator().manual_seed(2)
T = 14
content = torch.randn(1, T, T, generator=generator)
w_qk = 0.6 * torch.randn(4 * T, 2 * T, generator=generator)
w_qk[:, T:] = 0  # queries and keys see the content, values (below) the one-hot position
w_v = torch.cat([torch.zeros(2 * T, T), torch.eye(T).repeat(2, 1)], dim=1)
tagged = torch.cat([content, torch.eye(T)[None]], dim=-1)
w_qkv, w_o = torch.cat([w_qk, w_v]), torch.eye(2 * T)
maps = [mha(tagged, w_qkv, w_o, 2, causal)[0, :, :T] for causal in (False, True)]
jacobian = torch.autograd.functional.jacobian(lambda x: mha(x, w_qkv, w_o, 2, True).sum(-1), tagged)
show_maps([*maps, (jacobian[0, :, 0].abs().sum(-1) > 0).float()], ["all", "causal", "depends on"],
          xlabel="position read", ylabel="position")

# %% [markdown]
# ## 4. The encoder block  ★★ · 60 minutes
#
# Around attention the paper builds a block with two sublayers: attention, and a network of two layers that is applied
# at every position by itself (§3.3 there),
#
# $$ \mathrm{FFN}(x) = \max(0,\; x W_1 + b_1)\, W_2 + b_2 \tag{7} $$
#
# Each sublayer adds its result to its input, so that information and gradients can pass by on a straight line. Where
# the normalization stands decides how straight that line is. The paper normalizes **after** the sum ("post-LN"):
#
# $$ x \leftarrow \mathrm{LN}_1\bigl(x + \mathrm{Drop}(\mathrm{MHA}(x))\bigr), \qquad
#    x \leftarrow \mathrm{LN}_2\bigl(x + \mathrm{Drop}(\mathrm{FFN}(x))\bigr) \tag{8} $$
#
# Today it mostly stands **before** the sublayer, off the line ("pre-LN"):
#
# $$ x \leftarrow x + \mathrm{Drop}\bigl(\mathrm{MHA}(\mathrm{LN}_1(x))\bigr), \qquad
#    x \leftarrow x + \mathrm{Drop}\bigl(\mathrm{FFN}(\mathrm{LN}_2(x))\bigr) \tag{9} $$
#
# Xiong et al. (2020) show why: in post-LN every gradient on its way down passes all the normalizations, and those of
# the last layers are so large at the start that training needs a slow warm-up. In pre-LN the identity goes through
# from the bottom to the top. (A whole pre-LN network then has one more normalization after its **last** block. That
# one is not part of the block.)
#
# *Dropout* acts on the output of each sublayer before it is added (§5.4 there), and nowhere else in this exercise:
# with probability $p$ an entry becomes 0, otherwise it is divided by $1 - p$, so that its expectation stays. In `eval`
# mode nothing is dropped.
#
# *Padding.* `keep` says which positions are real. The others are not to be *read*; they get some output all the same,
# at which nobody looks.
#
# *Watch for* what is added: in Eq. (9) the sublayer sees the normalized $x$, the sum takes $x$ as it was.

# %% exercise="encoder_block"
class EncoderBlock(nn.Module):
    """One block of a transformer encoder: Vaswani et al. (2017), §3.1, 3.3, 5.4; our Eq. (8) or (9).

    state_dict, all trainable parameters (attention as in our Eqs. (5)-(6), with biases):
        qkv.weight (3C, C), qkv.bias (3C,), out.weight (C, C), out.bias (C,)
            queries, keys, values in this order; head i owns rows i*D:(i+1)*D of each, and these columns of out.weight
        linear1.weight (F, C), linear1.bias (F,), linear2.weight (C, F), linear2.bias (C,)
        norm1.weight (C,), norm1.bias (C,), norm2.weight (C,), norm2.bias (C,)
            layer normalization over the channels, biased variance, eps 1e-5: norm1 at the attention, norm2 at the FFN
    """

    def __init__(self, width: int, heads: int, hidden: int, norm: str = "pre", dropout: float = 0.0):
        """width = C, heads = H, hidden = F; norm "pre" is Eq. (9), "post" Eq. (8); 0 <= dropout < 1.

        Raises ValueError if heads does not divide width, or if norm is neither "pre" nor "post".
        """
        super().__init__()
        ### BEGIN SOLUTION
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        if norm not in ("pre", "post"):
            raise ValueError(f"norm is 'pre' or 'post', not {norm!r}")
        self.heads, self.norm, self.dropout = heads, norm, dropout
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        ### END SOLUTION

    def forward(self, x: Tensor, keep: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The block's output.

        x          (B, T, C) float; positions that are not kept hold any finite values
        keep       (B, T) bool, True = this position may be read; each example keeps at least one
        generator  where dropout draws from, and from nothing else: the same seed gives the same output. Needed in
                   training mode with dropout > 0 only

        Returns (B, T, C) float. What stands at positions that are not kept influences no other position.
        """
        ### BEGIN SOLUTION
        if self.norm == "pre":
            x = x + self._drop(self._attention(self.norm1(x), keep), generator)
            return x + self._drop(self._feed_forward(self.norm2(x)), generator)
        x = self.norm1(x + self._drop(self._attention(x, keep), generator))
        return self.norm2(x + self._drop(self._feed_forward(x), generator))

    def _attention(self, x, keep):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~keep[:, None, None, :], -math.inf)
        return self.out((torch.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2))

    def _feed_forward(self, x):
        return self.linear2(torch.relu(self.linear1(x)))

    def _drop(self, y, generator):
        if not self.training or self.dropout == 0:
            return y
        chance = torch.rand(y.shape, generator=generator, dtype=y.dtype, device=y.device)
        return y * (chance >= self.dropout) / (1 - self.dropout)
        ### END SOLUTION

# %% [markdown] hints="encoder_block"
# - `nn.Linear` and `nn.LayerNorm` register their parameters as `weight` and `bias` under the attribute's name, which
#   is what the contract lists.
# - Write attention and FFN as methods, without residual and normalization. Then `forward` is Eq. (8) or Eq. (9), line
#   by line.
# - `keep` is (B, T) and belongs to the keys: which axes of size 1 make it fit scores of shape (B, H, T, T)?
# - `nn.Dropout` draws from the global state and takes no generator: compare `torch.rand(..., generator=generator)`
#   with the probability yourself, in training mode only.

# %% [markdown]
# **What to look at.** Forty blocks on top of each other, freshly initialized, and a loss at the top. The curves show
# how large the gradient is that arrives at each block's input, on its way from right to left. In post-LN less than half
# of it is left at the bottom, lost in normalizations on the way. In pre-LN nothing is lost: the straight line hands it
# on whole, and each block adds its share.

# %%
def gradient_norms(norm, depth=40, width=32):
    """The norm of the gradient at the input of each block."""
    torch.manual_seed(3)
    blocks = nn.Sequential(*(EncoderBlock(width, 4, 4 * width, norm) for _ in range(depth)))
    states = [torch.randn(4, 12, width, requires_grad=True)]
    for block in blocks:
        states.append(block(states[-1], torch.ones(4, 12, dtype=torch.bool)))
    loss = (states[-1] * torch.randn(4, 12, width)).sum() / depth
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, states[:-1])]


fig, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for norm, style, colour in (("post", "o--", "#440154"), ("pre", "s-", "#d9a400")):
    norms = gradient_norms(norm)
    ax.plot(norms, style, color=colour, markersize=3, label=f"{norm}-LN")
    print(f"{norm}-LN: the gradient at the first block is {norms[0] / norms[-1]:.2g} times that at the last one")
ax.set(title="gradients through 40 fresh blocks", xlabel="block (0 is next to the input)", ylabel="norm", ylim=(0, 2))
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## 5. Decoding with a cache  ★★★ · 75 minutes
#
# A language model writes one token at a time. Computed naively, each new token runs the whole text through the network
# again: a text of $n$ tokens costs $1 + 2 + \dots + n$ positions. But by the causal mask the past does not see the new
# token, so its keys and values are what they were: we keep them. One step with the new vector $x_t$ is
#
# $$ q_t = R_t\, W_q x_t, \qquad k_t = R_t\, W_k x_t, \qquad v_t = W_v x_t \tag{10} $$
#
# $$ y_t = W_o\, \mathrm{Concat}_i \;
#    \mathrm{softmax}\!\left( \frac{q_t^{(i)} K_{\le t}^\top}{\sqrt d} \right) V_{\le t} \tag{11} $$
#
# where $K_{\le t}$ and $V_{\le t}$ are the cached keys and values **and the new ones**, and $R_t$ is the rotation of
# Eq. (3), head by head. Keys are cached as they are used, already rotated: a rotation by a token's own position never
# has to be done again. The new token's position is the number of tokens in the cache.
#
# *Fewer keys and values.* What limits long texts is the memory of the cache. Shazeer (2019) lets all heads share one
# head of keys and values ("multi-query"); Ainslie et al. (2023) take the middle way, $G$ heads of keys and values for
# $H$ heads of queries ("grouped-query"): query head $i$ reads group $\lfloor i\, G / H \rfloor$, so neighbours share.
# The sizes of everything follow from the arguments: the cache has the shape `(B, G, t, d)`, and $H$ is the number of
# rows of $W_q$ over $d$. At the start the cache is empty, $t = 0$.
#
# *Watch for* a causal mask: one query at the end may read everything, so it needs none, and the usual triangle, cut to
# one row, hides all but the first key. And for the cache of the caller: two texts that begin alike may go on
# differently from the same cache, so a step returns a new one and leaves the old one as it is.

# %% exercise="kv_cache_decode"
def decode_step(x_t: Tensor, cache: tuple[Tensor, Tensor], params: dict[str, Tensor],
                base: float | None = 10000.0) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One step of causal grouped-query attention with a cache: Shazeer (2019), Ainslie et al. (2023); Eqs. (10)-(11).

    x_t     (B, 1, C) float: the new token's vector, at position t
    cache   (k, v), each (B, G, t, d) float, t >= 0, d even: rotated keys, and values, of the positions 0 to t - 1
    params  w_q (H*d, C), w_k (G*d, C), w_v (G*d, C), w_o (C, H*d), float, (out, in), no biases; G divides H
            head i owns the rows (of w_o: the columns) i*d:(i+1)*d; query head i reads group i*G // H
    base    of the rotation, Eq. (3), neighbouring channels in pairs; None: nothing is rotated

    Returns y_t (B, 1, C) float, and the new cache, a tuple (k, v) of shape (B, G, t + 1, d) each, the new token last.
    The given cache and params are left as they are.
    """
    ### BEGIN SOLUTION
    past_k, past_v = cache
    groups, t, d = past_k.shape[1:]

    def split(y):  # (B, 1, heads*d) -> (B, heads, 1, d)
        return y.unflatten(-1, (-1, d)).transpose(1, 2)

    q, k, v = (split(x_t @ params[name].T) for name in ("w_q", "w_k", "w_v"))
    if base is not None:
        q, k = _rotated(q, t, base), _rotated(k, t, base)
    k, v = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
    shared = q.shape[1] // groups
    scores = q @ k.repeat_interleave(shared, dim=1).transpose(-2, -1) / math.sqrt(d)
    heads = torch.softmax(scores, dim=-1) @ v.repeat_interleave(shared, dim=1)
    return heads.transpose(1, 2).flatten(2) @ params["w_o"].T, (k, v)


def _rotated(y, t, base):
    """(B, heads, 1, d), turned by Eq. (3) as position t."""
    d = y.shape[-1]
    angle = t * base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    cos, sin = angle.cos().to(y.dtype), angle.sin().to(y.dtype)
    first, second = y.unflatten(-1, (-1, 2)).unbind(dim=-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2)
    ### END SOLUTION

# %% [markdown] hints="kv_cache_decode"
# - All sizes can be read off: G, t and d from the cached keys, H from the number of rows of `w_q`.
# - Begin with `base=None`. Project, split into heads, append the new key and value behind the old ones, and only then
#   attend: a token reads itself, too.
# - Each group serves H/G neighbouring heads: (0, 0, 1, 1, ...). `repeat` gives (0, 1, 0, 1, ...), another function does
#   what is needed.
# - The new query and the new key are rotated, both as position t. The values and the cached keys are not.

# %% [markdown]
# **What to look at.** The same text, decoded with the cache and computed as a whole each time. The difference is
# rounding. On the right the vectors that have been multiplied with $W_q$, $W_k$ and $W_v$ by the time the $n$-th token
# is out, and the numbers that have to be remembered for them with 1, 2 and 8 groups.

# %%
generator = torch.Generator().manual_seed(4)
C, H, d, T = 64, 8, 8, 48


def random_params(groups):
    shapes = {"w_q": (H * d, C), "w_k": (groups * d, C), "w_v": (groups * d, C), "w_o": (C, H * d)}
    return {name: torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}


def decode(x, params, groups):
    """All outputs, one step after the other, from an empty cache; and the last cache."""
    cache = (x.new_zeros(len(x), groups, 0, d), x.new_zeros(len(x), groups, 0, d))
    outputs = []
    for t in range(x.shape[1]):
        y, cache = decode_step(x[:, t:t + 1], cache, params)
        outputs.append(y)
    return torch.cat(outputs, dim=1), cache


x = torch.randn(1, T, C, generator=generator)
params = random_params(H)
step_by_step, _ = decode(x, params, H)
q, k, v = (F.linear(x, params[name]).unflatten(-1, (H, d)).transpose(1, 2) for name in ("w_q", "w_k", "w_v"))
q, k = (rope(y.flatten(0, 1), torch.arange(T)).view_as(y) for y in (q, k))
at_once = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2) @ params["w_o"].T
print(f"largest difference between step by step and all at once: {(step_by_step - at_once).abs().max():.1e}")

n = torch.arange(1, T + 1)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
axes[0].plot(n, n * (n + 1) / 2, "--", color="#440154", label="without a cache")
axes[0].plot(n, n, color="#d9a400", label="with a cache")
axes[0].set(title="vectors projected", xlabel="tokens written")
axes[0].legend()
for groups, style in ((8, "-"), (2, "--"), (1, ":")):
    _, (k, v) = decode(x, random_params(groups), groups)
    axes[1].plot([0, T], [0, k.numel() + v.numel()], style, color="#21918c", label=f"G = {groups}")
axes[1].set(title="numbers in the cache", xlabel="tokens written")
axes[1].legend()
plt.show()

# %% [markdown]
# ## 6. Encoder and decoder  ★★★ · 120 minutes
#
# Now the whole picture from the beginning. The **encoder** reads the source, every position seeing all others; what
# it returns is called the memory. The **decoder** writes the target. Its blocks have three sublayers: causal
# self-attention over the target so far, *cross*-attention whose queries come from the decoder and whose keys and
# values come from the memory, and the feed-forward network. With the token embedding $E \in \mathbb{R}^{V \times C}$
# and Eq. (1), both sides begin with (Vaswani et al. 2017, §3.4)
#
# $$ x_t = \sqrt{C}\; E_{w_t} + PE_t \tag{12} $$
#
# then, for every block, in post-LN,
#
# $$ \text{encoder:} \quad s \leftarrow \mathrm{LN}_1(s + \mathrm{MHA}(s, s)), \quad
#    s \leftarrow \mathrm{LN}_2(s + \mathrm{FFN}(s)) \tag{13} $$
#
# $$ \text{decoder:} \quad x \leftarrow \mathrm{LN}_1(x + \mathrm{MHA}_{\text{causal}}(x, x)), \quad
#    x \leftarrow \mathrm{LN}_2(x + \mathrm{MHA}(x, s)), \quad
#    x \leftarrow \mathrm{LN}_3(x + \mathrm{FFN}(x)) \tag{14} $$
#
# where $\mathrm{MHA}(a, b)$ has its queries from $a$, keys and values from $b$, and $s$ in Eq. (14) is the output of
# the **last** encoder block, for every decoder block. The logits use the embedding once more: $z_t = E\, x_t$. One
# matrix for the source, the target and the output, as in the paper.
#
# *Training* gives the decoder the right answer, shifted by one: it reads `[start, y0, y1]` and is to say
# `[y0, y1, y2]`. The shift is the caller's business; the module maps $T$ tokens to $T$ logits, and logit $t$ depends on
# the tokens 0 to $t$.
#
# *Building blocks.* This exercise is about the wiring. You may use `nn.MultiheadAttention`, which has biases, as here
# all attention does, and whose parameters have the names that the contract asks for. But mind its masks: there **True
# means drop**, against the rest of this course. (`nn.Transformer` and its layers would be the whole answer; they are
# what you compare with.)
#
# *Watch for* which mask belongs to which attention: there are three attentions and two masks.

# %% exercise="encoder_decoder"
class Seq2Seq(nn.Module):
    """The transformer of Vaswani et al. (2017), Figure 1, in post-LN without dropout; our Eqs. (12)-(14).

    state_dict, all trainable parameters; the blocks' names are those of nn.TransformerEncoderLayer and ...DecoderLayer:
        embed.weight (V, C)                                         source, target and output; no bias at the output
        encoder.{n}.self_attn.*, .linear1.*, .linear2.*, .norm1.*, .norm2.*                       n = 0, ..., layers - 1
        decoder.{n}.self_attn.*, .multihead_attn.*, .linear1.*, .linear2.*, .norm1.*, .norm2.*, .norm3.*
    multihead_attn is the cross-attention, and norm1, norm2, norm3 stand in the order of the sublayers. The parts are
        attention  in_proj_weight (3C, C), in_proj_bias (3C,): queries, keys, values in this order; head i owns rows
                   i*D:(i+1)*D of each; out_proj.weight (C, C), out_proj.bias (C,)
        linear1    weight (F, C), bias (F,); linear2: weight (C, F), bias (C,); a ReLU between them
        norm       weight (C,), bias (C,): over the channels, biased variance, eps 1e-5. No further norm at the ends
    """

    def __init__(self, vocab: int, width: int, heads: int, hidden: int, layers: int):
        """vocab = V, width = C, heads = H (divides C), hidden = F, layers >= 1 in the encoder and in the decoder."""
        super().__init__()
        ### BEGIN SOLUTION
        self.embed = nn.Embedding(vocab, width)
        self.encoder = nn.ModuleList(self._block(width, heads, hidden, ["self_attn"]) for _ in range(layers))
        self.decoder = nn.ModuleList(self._block(width, heads, hidden, ["self_attn", "multihead_attn"])
                                     for _ in range(layers))
        ### END SOLUTION

    def forward(self, src: Tensor, tgt: Tensor, src_keep: Tensor) -> Tensor:
        """The logits of the token that follows each prefix of the target.

        src       (B, S) long in [0, V); tokens that are not kept are padding, any token
        tgt       (B, T) long in [0, V): what the decoder has been given, its start token included; all of it counts
        src_keep  (B, S) bool, True = a token of the source; each example keeps at least one

        Returns (B, T, V) float, in the dtype of the parameters. logits[:, t] depends on tgt[:, :t + 1] and on the kept
        tokens of the source, each at its own position.
        """
        ### BEGIN SOLUTION
        drop = ~src_keep
        memory = self._embedded(src)
        for block in self.encoder:
            memory = block["norm1"](memory + self._attend(block["self_attn"], memory, memory, key_padding_mask=drop))
            memory = block["norm2"](memory + self._feed_forward(block, memory))

        x = self._embedded(tgt)
        future = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool, device=tgt.device).triu(diagonal=1)
        for block in self.decoder:
            x = block["norm1"](x + self._attend(block["self_attn"], x, x, attn_mask=future))
            x = block["norm2"](x + self._attend(block["multihead_attn"], x, memory, key_padding_mask=drop))
            x = block["norm3"](x + self._feed_forward(block, x))
        return x @ self.embed.weight.T

    @staticmethod
    def _block(width, heads, hidden, attentions):
        parts = {name: nn.MultiheadAttention(width, heads, batch_first=True) for name in attentions}
        parts |= {"linear1": nn.Linear(width, hidden), "linear2": nn.Linear(hidden, width)}
        parts |= {f"norm{n}": nn.LayerNorm(width) for n in range(1, len(attentions) + 2)}
        return nn.ModuleDict(parts)

    def _embedded(self, tokens):
        width = self.embed.weight.shape[1]
        position = torch.arange(tokens.shape[1], dtype=torch.float64, device=tokens.device)
        channel = torch.arange(width, device=tokens.device)
        angle = position[:, None] * 10000.0 ** (-(channel // 2 * 2).double() / width)
        waves = torch.where(channel % 2 == 0, angle.sin(), angle.cos())
        return math.sqrt(width) * self.embed(tokens) + waves.to(self.embed.weight.dtype)

    @staticmethod
    def _attend(attention, queries, context, **masks):
        return attention(queries, context, context, need_weights=False, **masks)[0]

    @staticmethod
    def _feed_forward(block, x):
        return block["linear2"](torch.relu(block["linear1"](x)))
        ### END SOLUTION

# %% [markdown] hints="encoder_decoder"
# - `nn.ModuleList` and `nn.ModuleDict` give names like `encoder.0.self_attn`. A plain list registers nothing.
# - Write one method for Eq. (12); both sides use it. In Eq. (12) the embedding is scaled, the position is not.
# - Three attentions: in the encoder the padding of the source is masked; in the decoder's own the future; in the
#   cross-attention the padding of the source again, and never the future.
# - Run the encoder to its end before the decoder begins.

# %% [markdown]
# **What to look at.** Which source tokens, and which target tokens, do the logits depend on? We take gradients through
# a fresh module with a source of seven tokens, of which two are padding. All five others matter to every logit; of the
# target, only what has been written.

# %%
torch.manual_seed(5)
model = Seq2Seq(vocab=10, width=16, heads=2, hidden=32, layers=2)
src, tgt = torch.randint(10, (1, 7)), torch.randint(10, (1, 6))
src_keep = torch.arange(7)[None] < 5
embedded = []
handle = model.embed.register_forward_hook(lambda module, inputs, output: embedded.append(output))
logits = model(src, tgt, src_keep)
handle.remove()
touched = [torch.autograd.grad(logits[0, t].square().sum(), embedded, retain_graph=True) for t in range(6)]
show_maps([torch.stack([(row[side][0].abs().sum(-1) > 0).float() for row in touched]) for side in (0, 1)],
          ["source tokens read", "target tokens read"], xlabel="token", ylabel="logits at")

# %% [markdown]
# ## 7. Distances, and patches  ★★ · 60 minutes
#
# Three small pieces that turned the transformer into what it is used for today.
#
# **ALiBi** (Press et al. 2022, §3) needs no position vectors at all. It subtracts from each score a penalty that grows
# with the distance, with a slope of its own for each head, so that some heads look far and others near:
#
# $$ b_{h,t,s} = -m_h\, |t - s|, \qquad m_h = 2^{-8h/H}, \quad h = 1, \dots, H \tag{15} $$
#
# (The paper's model is causal, where only $s \le t$ matters. For an $H$ that is no power of two its code interpolates
# slopes; we take the formula for every $H$.) A model with this bias, trained on short texts, still works on longer
# ones.
#
# **T5** (Raffel et al. 2020, §2.1) learns a bias for each *bucket* of distances: near ones one by one, far ones in
# ranges that grow by a constant factor, everything beyond a maximum together. For a distance $n \ge 0$, with $N$
# buckets, of which the first $m = \lfloor N/2 \rfloor$ are exact, and the maximum $D$,
#
# $$ \mathrm{bucket}(n) = \begin{cases} n & n < m \\
#    \min\Bigl( N - 1,\; m + \Bigl\lfloor \dfrac{\ln (n/m)}{\ln (D/m)}\, (N - m) \Bigr\rfloor \Bigr) & n \ge m
#    \end{cases} \tag{16} $$
#
# The argument is the *relative position* $r$ = key − query. In a causal model $n = \max(-r, 0)$. In a bidirectional one
# $n = |r|$, each side has half of the buckets, $N = \texttt{num\_buckets}/2$, and those of keys on the right, $r > 0$,
# come after those on the left: $N$ is added.
#
# **Patches** make a sequence of an image (Dosovitskiy et al. 2021, Eq. 1): cut it into squares of $p \times p$ pixels,
# from left to right and from top to bottom, and make a vector of each. Within the vector the channel varies slowest,
# then the row, then the column, as in `F.unfold` and in the weights of a convolution:
#
# $$ y_{b,\; r W/p + c,\; (k p + i) p + j} = \mathrm{img}_{b,\, k,\, r p + i,\, c p + j} \tag{17} $$
#
# (Others let the channel vary fastest. A linear layer does not mind, but its weights are not exchangeable.) A
# transformer has no further idea that pixels are neighbours, and learns it.
#
# *Watch for* images that are not square: only they tell rows from columns.

# %% exercise="relative_bias_variants"
def alibi_bias(n_heads: int, T: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The bias of ALiBi: Press et al. (2022), §3; our Eq. (15), for every number of heads and without a causal mask.

    n_heads  int >= 1; the head with index i has h = i + 1 in Eq. (15)
    T        int >= 1
    dtype    float32 or float64: the dtype of the result

    Returns (n_heads, T, T): what is added to the score of query t (axis 1) and key s (axis 2).
    """
    ### BEGIN SOLUTION
    position = torch.arange(T, dtype=dtype)
    distance = (position[:, None] - position).abs()
    slopes = 2.0 ** (-8.0 * torch.arange(1, n_heads + 1, dtype=dtype) / n_heads)
    return -slopes[:, None, None] * distance
    ### END SOLUTION


def t5_bucket(rel: Tensor, bidirectional: bool, num_buckets: int, max_distance: int) -> Tensor:
    """The bucket of every relative position: Raffel et al. (2020), §2.1; our Eq. (16).

    rel            (T, S) long: position of the key minus position of the query, any integers
    bidirectional  True: both sides, num_buckets/2 each, the right ones (rel > 0) last; False: keys on the right count
                   as distance 0
    num_buckets    int, at least 2 on each side; even if bidirectional
    max_distance   int > m, the D of Eq. (16)

    Returns (T, S) long in [0, num_buckets). Eq. (16) holds in exact arithmetic; the checks use numbers at which float32
    is exact enough for the formula as it stands there.
    """
    ### BEGIN SOLUTION
    if bidirectional:
        num_buckets //= 2
        first, n = torch.where(rel > 0, num_buckets, 0), rel.abs()
    else:
        first, n = 0, (-rel).clamp(min=0)
    m = num_buckets // 2
    ratio = n.clamp(min=m).double() / m
    coarse = m + (ratio.log() / math.log(max_distance / m) * (num_buckets - m)).floor().long()
    return first + torch.where(n < m, n, coarse.clamp(max=num_buckets - 1))
    ### END SOLUTION


def vit_patchify(img: Tensor, p: int) -> Tensor:
    """Images as sequences of patches: Dosovitskiy et al. (2021), Eq. 1; our Eq. (17).

    img  (B, C, H, W) float
    p    int >= 1, the side of a patch

    Returns (B, H*W/p**2, C*p*p) float: patches row by row; in each, channel, row, column with the column fastest.
    Raises ValueError if p does not divide both H and W.
    """
    ### BEGIN SOLUTION
    H, W = img.shape[2:]
    if H % p or W % p:
        raise ValueError(f"patches of {p} do not tile an image of {H} x {W}")
    squares = img.unflatten(3, (W // p, p)).unflatten(2, (H // p, p))  # (B, C, H/p, p, W/p, p)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    ### END SOLUTION


def vit_unpatchify(patches: Tensor, p: int, H: int, W: int) -> Tensor:
    """The inverse of `vit_patchify`.

    patches  (B, H*W/p**2, C*p*p) float
    p, H, W  int >= 1: the side of a patch, height and width of the image; p divides both

    Returns (B, C, H, W) float.
    """
    ### BEGIN SOLUTION
    squares = patches.unflatten(2, (-1, p, p)).unflatten(1, (H // p, W // p))  # (B, H/p, W/p, C, p, p)
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
    ### END SOLUTION

# %% [markdown] hints="relative_bias_variants"
# - ALiBi: an outer difference of positions, its magnitude, and one slope for each head.
# - T5: first make the distance n and, for two sides, the half in which its bucket lies; Eq. (16) is then the same for
#   both cases. Where n < m the logarithm is not used, but it is computed: keep its argument positive.
# - Patches: split both axes, height into (H/p, p) and width into (W/p, p); then it is one permutation of six axes,
#   which Eq. (17) spells out. The way back is the inverse permutation.

# %% [markdown]
# **What to look at.** Above, the biases of two of eight heads, and T5's buckets of relative positions: single steps
# near the diagonal, ever wider ones away from it, another set on the other side. Below, an image, its patches in the
# order of the sequence, and the same patches put together again after the sequence has been reversed.

# %%
rel = torch.arange(60) - torch.arange(60)[:, None]
fig, axes = plt.subplots(1, 3, figsize=(11, 3.3), layout="constrained")
for ax, values, title in ((axes[0], alibi_bias(8, 60)[0], "ALiBi, head 0 (near)"),
                          (axes[1], alibi_bias(8, 60)[4], "ALiBi, head 4 (farther)"),
                          (axes[2], t5_bucket(rel, True, 32, 100), "T5 buckets")):
    image = ax.imshow(values, cmap="viridis", interpolation="nearest")
    ax.set(title=title, xlabel="key", ylabel="query")
    fig.colorbar(image, ax=ax, fraction=0.046)
plt.show()

row, column = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-2, 2, 48), indexing="ij")
picture = torch.stack([(row**2 + column**2 < 0.6).float(), (row + 1) / 2, (column + 2) / 4])[None]
patches = vit_patchify(picture, 8)
fig = plt.figure(figsize=(11, 2.8), layout="constrained")
left, middle, right = fig.subfigures(1, 3)
left.subplots().imshow(picture[0].permute(1, 2, 0))
for ax, patch in zip(middle.subplots(3, 6).flat, patches[0], strict=True):
    ax.imshow(patch.view(3, 8, 8).permute(1, 2, 0))
    ax.axis("off")
right.subplots().imshow(vit_unpatchify(patches.flip(1), 8, 24, 48)[0].permute(1, 2, 0))
for part, title in ((left, "24 x 48 pixels"), (middle, "18 patches"), (right, "the sequence reversed")):
    part.suptitle(title, fontsize=10)
plt.show()

# %% [markdown]
# ## Finale
#
# **Two steps back.** The smallest task that needs attention: say the token that stood two places ago. One layer of
# your `mha` with the sinusoidal encoding learns it in a second. (That it learns proves little: without the scale, or
# without the mask, it learns this, too. That is why the checks compare values and do not train.)

# %%
def two_back(n, length=12, vocab=8, generator=None):
    tokens = torch.randint(vocab, (n, length), generator=generator)
    return tokens, tokens.roll(2, dims=1)


generator = torch.Generator().manual_seed(6)
C, vocab, length = 32, 8, 12
shapes = {"embed": (vocab, C), "w_qkv": (3 * C, C), "w_o": (C, C), "head": (vocab, C)}
weights = {name: torch.randn(shape, generator=generator) / shape[1] ** 0.5 for name, shape in shapes.items()}
optimizer = torch.optim.Adam([weight.requires_grad_() for weight in weights.values()], lr=0.01)
position = sinusoidal_pe(length, C, base=100.0)


def copy_logits(tokens):
    x = weights["embed"][tokens] * C**0.5 + position
    return F.linear(mha(x, weights["w_qkv"], weights["w_o"], 2, True), weights["head"])


for _ in range(300):
    tokens, answer = two_back(64, generator=generator)
    loss = F.cross_entropy(copy_logits(tokens)[:, 2:].flatten(0, 1), answer[:, 2:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
tokens, answer = two_back(1000, generator=generator)
right = (copy_logits(tokens).argmax(-1) == answer)[:, 2:].float().mean()
print(f"two steps back, on new sequences: {right:.1%} right")

# %% [markdown]
# **Reversing.** The whole machine: read up to six symbols, write them in reverse. The decoder has to begin with the
# *last* kept symbol of the source and then walk backwards, so it has to find the end first. Sources of different
# lengths make that a matter of the padding mask.

# %%
START, PAD, SYMBOLS = 0, 1, 10


def reversal_batch(n, length=6, generator=None):
    """Sources of 2 to 6 symbols; the decoder's input (shifted) and its answer, PAD behind the end."""
    src = torch.randint(2, SYMBOLS, (n, length), generator=generator)
    sizes = torch.randint(2, length + 1, (n, 1), generator=generator)
    place = torch.arange(length)
    keep = place < sizes
    src = src.masked_fill(~keep, PAD)
    answer = src.gather(1, (sizes - 1 - place).clamp(min=0)).masked_fill(~keep, PAD)
    given = torch.cat([torch.full((n, 1), START), answer[:, :-1]], dim=1)
    return src, keep, given, answer


torch.manual_seed(7)
generator = torch.Generator().manual_seed(7)
model = Seq2Seq(SYMBOLS, width=32, heads=2, hidden=64, layers=1)
with torch.no_grad():
    model.embed.weight.mul_(model.embed.weight.shape[1] ** -0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
losses = []
for step in range(500):
    for group in optimizer.param_groups:
        group["lr"] = 3e-3 * min(1, (step + 1) / 50)  # post-LN wants a warm-up: section 4
    src, keep, given, answer = reversal_batch(64, generator=generator)
    loss = F.cross_entropy(model(src, given, keep).flatten(0, 1), answer.flatten(), ignore_index=PAD)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())


@torch.no_grad()
def write(model, src, keep, length=6):
    """Greedy decoding: each token is the likeliest, and given back to the decoder."""
    given = torch.full((len(src), 1), START)
    for _ in range(length):
        given = torch.cat([given, model(src, given, keep)[:, -1:].argmax(-1)], dim=1)
    return given[:, 1:]


src, keep, _, answer = reversal_batch(500, generator=generator)
written = write(model, src, keep)
right = (written == answer)[keep].float().mean()
print(f"reversing: {right:.1%} of the symbols right, written one by one")
for b in range(3):
    n = int(keep[b].sum())
    print("  source", src[b, :n].tolist(), " written", written[b, :n].tolist())
fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.semilogy(losses, color="#440154", linewidth=0.8)
ax.set(title="learning to reverse", xlabel="step", ylabel="cross-entropy")
plt.show()

# %% [markdown]
# ## Going further
#
# - **Longer than trained.** Train the first finale with `sinusoidal_pe`, with `rope` and with `alibi_bias` on sequences
#   of 12, and test on 24. Which of them still finds the place two steps back?
# - **Stretching the rotation.** A model with rotary positions can be used beyond its training length if the positions
#   are divided by a factor, or if the base is raised (Chen et al. 2023). What does the last picture of section 2 look
#   like for base 500 000?
# - **Decoding several at once.** Give `decode_step` more than one new position: then it does need a mask. That is how
#   a prompt is read, and how the guesses of a small model are verified by a large one (Leviathan et al. 2023).
# - **Without warm-up.** Put your pre-LN blocks into the second finale and drop the warm-up; then do that in post-LN.
# - **Vision transformer.** Patches, a linear layer, positions, a few encoder blocks and a mean: can it tell vertical
#   bars from horizontal ones in small images, and how many does it need to see in comparison to a convolution?
#
# ## References
#
# - J. Ainslie et al. *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints.*
#   EMNLP 2023.
# - S. Chen et al. *Extending Context Window of Large Language Models via Positional Interpolation.* 2023.
# - A. Dosovitskiy et al. *An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale.* ICLR 2021.
# - Y. Leviathan, M. Kalman, Y. Matias. *Fast Inference from Transformers via Speculative Decoding.* ICML 2023.
# - O. Press, N. Smith, M. Lewis. *Train Short, Test Long: Attention with Linear Biases Enables Input Length
#   Extrapolation.* ICLR 2022.
# - C. Raffel et al. *Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer.* JMLR 2020.
# - N. Shazeer. *Fast Transformer Decoding: One Write-Head is All You Need.* 2019.
# - J. Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding.* 2021.
# - A. Vaswani et al. *Attention Is All You Need.* NeurIPS 2017.
# - R. Xiong et al. *On Layer Normalization in the Transformer Architecture.* ICML 2020.
