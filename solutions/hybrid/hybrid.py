# %% [markdown]
# # Hybrid architectures
#
# Every family of networks is good at one thing because of what it takes for granted. A convolution assumes that near
# pixels belong together and that a cat is a cat wherever it sits; it learns from few pictures, and sees the whole of
# one only after many layers. Attention assumes nothing about places, reaches everywhere in one step, and pays for it:
# it needs much data, and its cost grows with the square of the length. A recurrent network assumes that the last few
# steps matter most; it is cheap, and forgets.
#
# A **hybrid** joins two of them so that the assumptions of one make up for what the other lacks. And where there are
# two kinds of data, pictures and words, there are two networks anyway, and somewhere they have to meet. So the question
# of this unit is: **where is the joint?**
#
# | exercise | | minutes | where the two meet |
# |---|---|--:|---|
# | `film_fusion` | ★ | 15 | a vector scales and shifts the channels of a picture |
# | `clip_contrastive` | ★ | 20 | only in the loss: two encoders, one space |
# | `gated_cross_attention` | ★★ | 40 | between the layers of a frozen network, through a gate that starts shut |
# | `cvt_conv_projection` | ★★ | 45 | inside attention: convolutions make queries, keys and values |
# | `conv_stem_vit` | ★★★ | 75 | one after the other: convolutions first, then a transformer |
# | `transformer_xl_segment` | ★★ | 45 | in time: attention within a segment, recurrence between segments |
# | `rnn_transformer_block` | ★★★ | 75 | inside a block: recurrence for what is near, attention for what is far |
#
# ### Notation, and rules for every exercise
#
# $B$ examples, $C$ channels, $H \times W$ pixels, sequences of $T$ and $S$ positions. Shapes are written
# `(B, C, H, W)` for pictures and `(B, T, C)` for sequences; every size is at least 1 unless the contract says
# otherwise.
#
# - `float` means float32 or float64, all arguments alike. Compute in that dtype and return it.
# - A mask is `bool` and **True means keep**.
# - Inputs may be views of other tensors with any strides. Never change them, and remember nothing between calls.
# - Gradients must reach every float argument and every parameter, unless the contract says where they stop.
# - Multi-head attention itself is another unit's subject. The next cell has it ready: `attention(q, k, v, heads, keep)`
#   takes what has been *projected* and does the rest. In a cell of your own, `hint("film_fusion")` gives a hint, then
#   one more each time, and `progress()` shows what is done.

# %% role="setup"
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etude import check, hint, progress


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, keep: Tensor | None = None) -> Tensor:
    """Multi-head attention of projected vectors: q (B, T, C), k (B, S, C), v (B, S, C) -> (B, T, C).

    Head i owns the channels i*D:(i+1)*D of each, D = C / heads. keep: bool that broadcasts to (B, heads, T, S),
    True = may be read; a query that may read nothing gets 0, with gradient 0.
    """
    q, k, v = (part.unflatten(-1, (heads, part.shape[-1] // heads)).transpose(1, 2) for part in (q, k, v))
    score = torch.einsum("bhtd,bhsd->bhts", q, k) * q.shape[-1] ** -0.5
    if keep is None:
        weight = score.softmax(-1)
    else:
        weight = score.masked_fill(~keep, torch.finfo(score.dtype).min).softmax(-1).masked_fill(~keep, 0)
    return torch.einsum("bhts,bhsd->bthd", weight, v).flatten(2)


class Block(nn.Module):
    """A pre-LN transformer block without a mask, (B, T, C) -> (B, T, C): x + attention, then x + feed-forward."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.out(attention(query, key, value, self.heads))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

# %% [markdown]
# The picture shows the seven joints in the order of the exercises. Blue is what is given and what comes out, orange
# what is computed, grey what is learned or remembered.

# %%
import matplotlib.pyplot as plt

from etude.plots import BLUE, GREY, INK, ORANGE, draw_graph, light, show_maps

light()
fig, axes = plt.subplots(2, 4, figsize=(15, 8.4), layout="constrained")
draw_graph(axes[0, 0], "1 FiLM", {
    "x": (0, 0, "features", BLUE), "c": (2.4, 0, "condition", BLUE), "f": (2.4, 1.3, r"$\gamma, \beta$", GREY),
    "mul": (0, 2.6, r"$\gamma \cdot F + \beta$", ORANGE), "out": (0, 3.9, "features", BLUE),
}, {"x": ["mul"], "c": ["f"], "f": ["mul"], "mul": ["out"]})
draw_graph(axes[0, 1], "2 CLIP", {
    "i": (0, 0, "pictures", BLUE), "t": (2.4, 0, "texts", BLUE), "ie": (0, 1.3, "encoder", GREY),
    "te": (2.4, 1.3, "encoder", GREY), "s": (1.2, 2.6, r"$N \times N$ cosines", ORANGE),
    "out": (1.2, 3.9, "loss", BLUE),
}, {"i": ["ie"], "t": ["te"], "ie": ["s"], "te": ["s"], "s": ["out"]}, width=2.1)
draw_graph(axes[0, 2], "3 gated cross-attention", {
    "x": (0, 0, "words", BLUE), "c": (2.4, 0, "picture", BLUE), "a": (2.4, 1.3, "cross-attention", ORANGE),
    "g": (2.4, 2.6, r"$\cdot \tanh \alpha$", GREY), "p": (0, 3.9, "+", ORANGE), "out": (0, 5.2, "frozen layer", GREY),
}, {"x": ["p", "a"], "c": ["a"], "a": ["g"], "g": ["p"], "p": ["out"]}, width=2.1)
draw_graph(axes[0, 3], "4 CvT", {
    "x": (1.2, 0, "picture", BLUE), "q": (-1, 1.3, "conv", GREY), "k": (1.2, 1.3, "conv /s", GREY),
    "v": (3.4, 1.3, "conv /s", GREY), "a": (1.2, 2.6, "attention", ORANGE), "out": (1.2, 3.9, "picture", BLUE),
}, {"x": ["q", "k", "v"], "q": ["a"], "k": ["a"], "v": ["a"], "a": ["out"]})
draw_graph(axes[1, 0], "5 convolutional stem", {
    "x": (0, 0, "picture", BLUE), "s": (0, 1.3, "3 convs, each /2", GREY), "t": (0, 2.6, "tokens", ORANGE),
    "c": (2.8, 2.6, "class token", GREY), "e": (1.4, 3.9, "transformer", GREY), "out": (1.4, 5.2, "logits", BLUE),
}, {"x": ["s"], "s": ["t"], "t": ["e"], "c": ["e"], "e": ["out"]}, width=2.4)
draw_graph(axes[1, 1], "6 Transformer-XL", {
    "m": (0, 0, "memory", GREY), "x": (3, 0, "segment", BLUE), "a": (3, 1.3, "causal attention", ORANGE),
    "y": (3, 2.6, "output", BLUE), "n": (0, 2.6, "next memory", GREY),
}, {"m": ["a", "n"], "x": ["a", "n"], "a": ["y"]}, width=2.2)
draw_graph(axes[1, 2], "7 R-Transformer", {
    "x": (0, 0, "sequence", BLUE), "r": (0, 1.3, "local RNN", GREY), "a": (0, 2.6, "attention", ORANGE),
    "f": (0, 3.9, "feed-forward", GREY), "out": (0, 5.2, "sequence", BLUE),
}, {"x": ["r"], "r": ["a"], "a": ["f"], "f": ["out"]}, {"r": "near", "a": "far"})
axes[1, 3].axis("off")
plt.show()

# %% [markdown]
# ## 1. FiLM: a vector speaks to a picture  ★ · 15 minutes
#
# "What colour is the cube on the left?" A network that answers questions about pictures must look at them differently
# for each question. The simplest joint is the *feature-wise linear modulation* of Perez et al. (2018, Eqs. 1-2). A
# condition vector $c$, such as an encoded question, gives one factor and one offset **for each channel**,
#
# $$ (\gamma, \beta) = W c + b \tag{1} $$
#
# $$ \mathrm{FiLM}(F)_{chw} = \gamma_c\, F_{chw} + \beta_c \tag{2} $$
#
# the same at every pixel. The picture keeps its geometry; what the condition decides is which features count:
# $\gamma_c = 0$ switches one off, a negative one turns it round. Conditional normalization, the styles of StyleGAN and
# the time step in a diffusion model all enter in this way.
#
# *Two conventions.* The first $C$ rows of $W$ and $b$ give $\gamma$, the last $C$ give $\beta$. And $\gamma$ is the
# factor itself. Some programs compute $1 + \gamma$ instead, so that a fresh network changes nothing; here the bias
# can do that.
#
# *Watch for* broadcasting: a `(B, C)` next to a `(B, C, H, W)` lines up with the wrong axes.

# %% [markdown] hints="film_fusion"
# - How many numbers does Eq. (1) give for one example, and which of them are factors?
# - Broadcasting aligns shapes from the right. Which axes of size 1 does a `(B, C)` need to meet a `(B, C, H, W)`?
# - `F.linear(cond, weight, bias)` is Eq. (1) for a whole batch.

# %% exercise="film_fusion"
def film(x: Tensor, cond: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Feature-wise linear modulation: Perez et al. (2018), Eqs. 1-2; our Eqs. (1)-(2).

    x       (B, C, H, W) float: the features
    cond    (B, D) float: one condition for each example
    weight  (2*C, D) float, bias (2*C,) float; rows 0..C-1 give gamma, rows C..2C-1 give beta

    Returns (B, C, H, W) float. gamma is the factor itself, not an addition to 1.
    """
    ### BEGIN SOLUTION
    gamma, beta = F.linear(cond, weight, bias).chunk(2, dim=-1)
    return gamma[:, :, None, None] * x + beta[:, :, None, None]
    ### END SOLUTION

# %% [markdown]
# **What to look at.** A landscape in three channels, red, green and blue, and a condition of two numbers: how late it
# is, and how much of a storm is coming. The weights below translate them into factors and offsets of the three colours.
# The same picture goes in five times. Geometry never changes, light does.

# %%
H, W = 60, 90
rows, columns = torch.meshgrid(torch.linspace(0, 1, H), torch.linspace(0, 1.5, W), indexing="ij")
hill = rows > 0.65 + 0.12 * torch.sin(5 * columns)
sun = (rows - 0.3) ** 2 + (columns - 1.1) ** 2 < 0.015
landscape = torch.stack([0.45 + 0.3 * rows, 0.65 + 0.15 * rows, 0.95 - 0.1 * rows])
landscape = torch.where(hill, torch.tensor([0.35, 0.6, 0.25])[:, None, None], landscape)
landscape = torch.where(sun, torch.tensor([1.0, 0.95, 0.6])[:, None, None], landscape)
late_and_storm = torch.tensor([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [0.0, 0.7], [0.0, 1.0]])
weight = torch.tensor([[-0.35, -0.5], [-0.75, -0.45], [-0.8, -0.45],  # late: blue goes first; storm: all of them
                       [0.15, 0.05], [0.0, 0.05], [0.1, 0.12]])
bias = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
pictures = film(landscape.expand(5, 3, H, W), late_and_storm, weight, bias)
fig, axes = plt.subplots(1, 5, figsize=(13, 2.3), layout="constrained")
for ax, picture, name in zip(axes, pictures, ["noon", "evening", "night", "clouds", "storm"], strict=True):
    ax.imshow(picture.clamp(0, 1).permute(1, 2, 0))
    ax.set_title(name)
    ax.axis("off")
plt.show()

# %% [markdown]
# ## 2. CLIP: two encoders meet in the loss  ★ · 20 minutes
#
# Radford et al. (2021) train a picture encoder and a text encoder that have nothing in common but the width $D$ of
# their outputs. A batch holds $N$ pairs. The training signal is a riddle with $N$ choices: here is a picture, which of
# these $N$ texts belongs to it? And the other way round. No labels are needed, only pairs, and afterwards any
# description serves as a classifier.
#
# With the embeddings $u_i$ of pictures and $v_j$ of texts (their Fig. 3),
#
# $$ z_{ij} = e^{t}\, \frac{u_i \cdot v_j}{\lVert u_i \rVert\, \lVert v_j \rVert} \tag{3} $$
#
# $$ \mathcal{L} = -\frac{1}{2N} \sum_{i=1}^{N} \left( \log \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}}
#    + \log \frac{e^{z_{ii}}}{\sum_j e^{z_{ji}}} \right) \tag{4} $$
#
# The cosine lies in $[-1, 1]$: without a factor, the softmax over a thousand texts would be almost flat. That factor
# is learned, and as a logarithm $t$, so that it stays positive; the paper starts it at $\log(1/0.07)$. (In training
# they keep $e^t$ below 100 by clipping $t$ outside of the loss, which we leave to the caller.)
#
# *What it pushes.* The loss depends on directions only, so its gradient is orthogonal to each embedding. In one
# direction alone, a picture must be nearest to its own text, but a text may well be nearer to another picture.
#
# *Watch for* the axis of the norm, for which of the two sums runs over which index, and for large $e^t$, where a
# softmax written with `exp` overflows.

# %% [markdown] hints="clip_contrastive"
# - The right answer to riddle i is choice i: the diagonal of the N x N matrix of Eq. (3).
# - Eq. (4) is twice the same cross-entropy. What does the second one see instead of the matrix?
# - `F.cross_entropy` and `log_softmax` subtract the largest score before they exponentiate, and `F.cross_entropy`
#   already takes the mean over the N rows.

# %% exercise="clip_contrastive"
def clip_loss(img: Tensor, txt: Tensor, log_scale: Tensor) -> Tensor:
    """The symmetric contrastive loss: Radford et al. (2021), Fig. 3; our Eqs. (3)-(4).

    img, txt   (N, D) float: row i of img belongs to row i of txt; no row is 0; any length, see Eq. (3)
    log_scale  () float: t of Eq. (3), not clipped

    Returns the loss, () float: the mean over pairs and over both directions. Gradients reach all three arguments, and
    stay finite for t up to 8 and embeddings of length 1000 in float32.
    """
    ### BEGIN SOLUTION
    img = img / img.norm(dim=-1, keepdim=True)
    txt = txt / txt.norm(dim=-1, keepdim=True)
    logits = log_scale.exp() * img @ txt.T
    pairs = torch.arange(len(img), device=img.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
    ### END SOLUTION

# %% [markdown]
# **Case study: pictures and their captions.** Four shapes in four colours make sixteen captions, such as "red bar".
# Pictures show them at random places, with noise. A small convolutional network encodes pictures, a sum of word
# vectors encodes captions, and your loss is all that connects them. A batch has one picture for each caption.
#
# **What to look at.** The matrix of cosines between sixteen new pictures and the sixteen captions: before training it
# says nothing. Afterwards the diagonal stands out. Off the diagonal, look for the pattern of half-right answers: same
# shape (blocks of four) or same colour (every fourth).

# %%
def caption_batch(generator, size=10):
    """One noisy picture (16, 3, size, size) for each caption; caption 4*s + c is shape s in colour c."""
    shapes = torch.zeros(4, 4, 4)
    shapes[0, 1] = shapes[1, :, 1] = 1  # a bar, a pole
    shapes[2] = torch.eye(4)  # a diagonal
    shapes[3, :3, :3] = 1  # a block
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.7, 0.7, 0]])
    pictures = 0.15 * torch.randn(16, 3, size, size, generator=generator)
    places = torch.randint(size - 3, (16, 2), generator=generator).tolist()
    for n, (top, left) in enumerate(places):
        pictures[n, :, top:top + 4, left:left + 4] += colours[n % 4][:, None, None] * shapes[n // 4]
    return pictures


def cosines(u, v):
    return F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).T


torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
picture_encoder = nn.Sequential(nn.Conv2d(3, 24, 4), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
                                nn.Linear(24, 16))
shape_words, colour_words = nn.Embedding(4, 16), nn.Embedding(4, 16)
log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
caption = torch.arange(16)
trained = [*picture_encoder.parameters(), *shape_words.parameters(), *colour_words.parameters(), log_scale]
optimizer = torch.optim.Adam(trained, lr=0.01)
new_pictures = torch.cat([caption_batch(generator) for _ in range(20)])


def captions():
    return shape_words(caption // 4) + colour_words(caption % 4)


def top_1():
    """The share of new pictures whose nearest caption is their own."""
    nearest = cosines(picture_encoder(new_pictures), captions()).argmax(-1)
    return (nearest == caption.repeat(20)).float().mean().item()


with torch.no_grad():
    before, chance = cosines(picture_encoder(new_pictures[:16]), captions()), top_1()
for _ in range(250):
    loss = clip_loss(picture_encoder(caption_batch(generator)), captions(), log_scale)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    after = cosines(picture_encoder(new_pictures[:16]), captions())
    print(f"nearest caption is the right one: {chance:.0%} before, {top_1():.0%} after")
show_maps([before, after], ["before", "after"], xlabel="caption", ylabel="picture", low=-1)

# %% [markdown]
# ## 3. Flamingo: a gate that starts shut  ★★ · 40 minutes
#
# Suppose you own a language model that took a year to train, and want it to see. Training it anew is out of the
# question; putting fresh random layers into it destroys it. Alayrac et al. (2022, §3.1.2 and Fig. 4) freeze the model,
# put a new block in front of some of its layers, and multiply what the block adds by a gate that is **zero at the
# start**. With words $x$ of width $C$, the picture's features $y$ (the context) of width $C_c$, and two learned
# numbers $\alpha$ and $\beta$,
#
# $$ h = x + \tanh(\alpha)\; W_o\, \mathrm{Attention}\bigl( W_q\, \mathrm{LN}_1(x),\; W_k\, y,\; W_v\, y \bigr)
# \tag{5} $$
#
# $$ \mathrm{GatedXAttn}(x, y) = h + \tanh(\beta)\; \mathrm{FFN}\bigl( \mathrm{LN}_2(h) \bigr), \qquad
#    \mathrm{FFN}(u) = W_2\, \mathrm{GELU}(W_1 u + b_1) + b_2 \tag{6} $$
#
# At $\alpha = \beta = 0$ this is the identity: the model behaves *exactly* as before. Why does it ever learn to see?
# Because the derivative with respect to the gate is not zero there:
# $\partial h / \partial \alpha = (1 - \tanh^2 \alpha)\, W_o\, \mathrm{Attention}(\dots)$. The gate moves first; the
# weights behind it get a gradient once it has opened. (If the gate *and* $W_o$ started at 0, nothing would move.)
#
# *Details.* Only $x$ and $h$ are normalized, and only on their way into the sublayers: the straight line carries $x$
# itself. The GELU is the exact one. A text without a picture has a context that is wholly masked: attention then adds
# 0, which the `attention` of the setup takes care of.
#
# *Watch for* the place of the gate, and what a parameter is: something that the optimizer must find.

# %% [markdown] hints="gated_cross_attention"
# - `torch.zeros(())` is a tensor of shape (); what turns it into something that `parameters()` lists?
# - In `forward`, write the two lines of Eqs. (5) and (6), one sublayer each, and give every `nn.Linear` and
#   `nn.LayerNorm` the name that the contract lists.
# - `attention` wants a mask that broadcasts to (B, heads, T, S). `ctx_keep` is (B, S) and belongs to the keys.

# %% exercise="gated_cross_attention"
def fresh_gate() -> nn.Parameter:
    """A gate as it is in a new block: a trainable parameter of shape () and dtype float32."""
    ### BEGIN SOLUTION
    return nn.Parameter(torch.zeros(()))
    ### END SOLUTION


class GatedXAttn(nn.Module):
    """Gated cross-attention and feed-forward: Alayrac et al. (2022), §3.1.2, Fig. 4; our Eqs. (5)-(6).

    state_dict, all trainable parameters:
        alpha (), beta (): the gates, both a fresh_gate() in a new module
        norm1.weight (C,), norm1.bias (C,), norm2.weight (C,), norm2.bias (C,): layer normalization, eps 1e-5
        q.weight (C, C), k.weight (C, Cc), v.weight (C, Cc), out.weight (C, C): no biases; heads as in `attention`
        linear1.weight (F, C), linear1.bias (F,), linear2.weight (C, F), linear2.bias (C,)
    """

    def __init__(self, width: int, ctx_width: int, heads: int, hidden: int):
        """width = C, ctx_width = Cc, hidden = F. Raises ValueError if heads does not divide width."""
        super().__init__()
        ### BEGIN SOLUTION
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.alpha, self.beta = fresh_gate(), fresh_gate()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = nn.Linear(ctx_width, width, bias=False), nn.Linear(ctx_width, width, bias=False)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        ### END SOLUTION

    def forward(self, x: Tensor, ctx: Tensor, ctx_keep: Tensor) -> Tensor:
        """x (B, T, C) float, ctx (B, S, Cc) float, ctx_keep (B, S) bool, True = may be read -> (B, T, C) float.

        Where nothing of an example's context may be read, its cross-attention adds 0, with finite gradients.
        """
        ### BEGIN SOLUTION
        read = attention(self.q(self.norm1(x)), self.k(ctx), self.v(ctx), self.heads, ctx_keep[:, None, None])
        x = x + torch.tanh(self.alpha) * self.out(read)
        inner = F.gelu(self.linear1(self.norm2(x)))
        return x + torch.tanh(self.beta) * self.linear2(inner)
        ### END SOLUTION

# %% [markdown]
# **Case study: teaching a frozen model to see.** The "language model" below is a frozen random network that maps a
# question (one of four symbols) to an answer, always the same one. Now a context comes along, four vectors of which
# the question selects one, and the answer is to be read from it. Only the gated block in front of the frozen network
# is trained.
#
# **What to look at.** At step 0 the outputs with and without the block are equal to the last bit. Then the gates open,
# in whichever direction helps, and the loss falls after them.

# %%
torch.manual_seed(1)
generator = torch.Generator().manual_seed(1)
symbols = torch.randn(4, 16)
frozen = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4)).requires_grad_(False)
block = GatedXAttn(16, 8, 2, 32)
optimizer = torch.optim.Adam(block.parameters(), lr=0.01)
all_kept = torch.ones(64, 4, dtype=torch.bool)


def picture_batch():
    """Questions (64, 1, 16), contexts (64, 4, 8) of one-hot places and contents, answers (64,)."""
    asked = torch.randint(4, (64,), generator=generator)
    contents = torch.randint(4, (64, 4), generator=generator)
    ctx = torch.cat([torch.eye(4).expand(64, 4, 4), F.one_hot(contents, 4).float()], dim=-1)
    return symbols[asked][:, None], ctx, contents[torch.arange(64), asked]


words, ctx, _ = picture_batch()
with torch.no_grad():
    print("a fresh block changes nothing:", torch.equal(frozen(block(words, ctx, all_kept)), frozen(words)))
history = []
for _ in range(300):
    words, ctx, answers = picture_batch()
    loss = F.cross_entropy(frozen(block(words, ctx, all_kept))[:, 0], answers)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append((loss.item(), block.alpha.tanh().item(), block.beta.tanh().item()))
fig, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
losses, alphas, betas = zip(*history, strict=True)
axes[0].plot(losses, color="#440154")
axes[0].set(title="loss of the frozen model with the block", xlabel="step", ylim=(0, None))
axes[1].plot(alphas, color="#21918c", label=r"$\tanh\,\alpha$ (attention)")
axes[1].plot(betas, "--", color="#b8860b", label=r"$\tanh\,\beta$ (feed-forward)")
axes[1].set(title="the gates open", xlabel="step")
axes[1].legend()
plt.show()
print(f"loss {sum(losses[:10]) / 10:.2f} -> {sum(losses[-10:]) / 10:.3f}")

# %% [markdown]
# ## 4. CvT: convolutions inside attention  ★★ · 45 minutes
#
# A vision transformer cuts a picture into tokens and forgets which ones were neighbours. Wu et al. (2021, §3.2) give
# the tokens their plane back whenever queries, keys and values are made: instead of a linear map of one token, a small
# convolution looks at its neighbourhood. To keep that cheap the convolution is *separable*: one $3 \times 3$ kernel
# for each channel, a batch normalization, and a linear map of the channels at each pixel. For each
# $i \in \{q, k, v\}$,
#
# $$ \mathrm{proj}_i(x) = P_i \bigl( a_i \odot (D_i * x) + b_i \bigr) \tag{7} $$
#
# where $D_i *$ convolves each channel by itself (zero padding 1), $a_i$ and $b_i$ are the factor and offset per channel
# that a batch normalization amounts to in evaluation, and $P_i$ is a $C \times C$ matrix. Then
#
# $$ Y = \mathrm{Attention}\bigl( \mathrm{proj}_q(x), \mathrm{proj}_k(x), \mathrm{proj}_v(x) \bigr) \tag{8} $$
#
# over the pixels as tokens. The convolution has a second use. With **stride** $s$ in the projections of keys and
# values there are only $\lceil H/s \rceil \lceil W/s \rceil$ of them: at $s = 2$ a quarter of the cost of attention,
# with every query still there.
#
# *The order of tokens* is row by row: pixel $(h, w)$ is token $hW + w$. As everywhere in deep learning,
# "convolution" means cross-correlation: kernels are not flipped. As Eq. (7) knows where tokens lie, CvT
# needs no position embedding.
#
# *Watch for* the layout when pixels become tokens: `(B, C, H, W)` to `(B, H*W, C)` is not a reshape.

# %% [markdown] hints="cvt_conv_projection"
# - `F.conv2d` does the whole of D * x if `groups` says that every channel has a kernel of its own.
# - a and b belong to channels: give them axes of size 1 for height and width. They come after D and before P; with
#   zero padding and an offset, that order matters at the border.
# - From (B, C, H, W), first flatten the last two axes, then exchange channels and tokens. P then acts on the last axis.
# - On the way back, exchange first and then split the tokens into H and W.

# %% exercise="cvt_conv_projection"
def conv_qkv(x: Tensor, depth: Tensor, norm: Tensor, point: Tensor, kv_stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Convolutional projections to queries, keys and values: Wu et al. (2021), §3.2; our Eq. (7).

    x          (B, C, H, W) float
    depth      (3, C, 1, 3, 3) float: the kernels D of q, k, v in this order, one for each channel, not flipped
    norm       (3, 2, C) float: norm[i, 0] is the factor a, norm[i, 1] the offset b
    point      (3, C, C) float: P as (out, in)
    kv_stride  int >= 1: the stride of the convolutions for k and v, in both directions; that for q is 1

    Zero padding 1 on all sides. Returns q (B, H*W, C), k and v (B, H'*W', C), tokens row by row, with
    H' = ceil(H / kv_stride) and W' likewise.
    """
    ### BEGIN SOLUTION
    tokens = []
    for i, stride in enumerate((1, kv_stride, kv_stride)):
        local = F.conv2d(x, depth[i], stride=stride, padding=1, groups=x.shape[1])
        local = norm[i, 0, :, None, None] * local + norm[i, 1, :, None, None]
        tokens.append(local.flatten(2).transpose(1, 2) @ point[i].T)
    return tuple(tokens)
    ### END SOLUTION


def conv_attention(x: Tensor, depth: Tensor, norm: Tensor, point: Tensor, kv_stride: int, heads: int) -> Tensor:
    """Multi-head attention with convolutional projections: our Eq. (8); no projection of the output.

    Arguments as in conv_qkv; heads as in `attention`, a divisor of C. Returns (B, C, H, W) float: the answer to the
    query of pixel (h, w) stands at pixel (h, w).
    """
    ### BEGIN SOLUTION
    q, k, v = conv_qkv(x, depth, norm, point, kv_stride)
    return attention(q, k, v, heads).transpose(1, 2).unflatten(2, x.shape[2:])
    ### END SOLUTION

# %% [markdown]
# **What to look at.** A picture with two crosses, two blocks, and dots of noise, in one channel. The query is the
# centre of the left cross; the maps show how strongly each pixel is read. With a kernel that is 1 in the middle,
# attention compares single pixels: everything bright looks alike. With a kernel that compares the neighbours on the
# axes with those on the diagonals, the same attention finds the *other cross*. At stride 2 the map has a quarter of
# the keys.

# %%
picture = torch.zeros(14, 20)
for top, left in ((4, 4), (8, 16)):
    picture[top - 2:top + 3, left] = picture[top, left - 2:left + 3] = 1
picture[9:13, 3:7] = picture[1:5, 12:16] = 1
picture[torch.rand(14, 20, generator=torch.Generator().manual_seed(2)) < 0.06] = 1
x = picture[None, None]
single = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
cross = torch.tensor([[-1.0, 1, -1], [1, 1, 1], [-1, 1, -1]]) / 2


def reading(kernel, stride):
    """How strongly the centre of the left cross reads each key."""
    depth = kernel.expand(3, 1, 1, 3, 3)
    q, k, _ = conv_qkv(x, depth, torch.tensor([[[1.0], [0.0]]] * 3), 2 * torch.ones(3, 1, 1), stride)
    weights = torch.softmax(q[0, 4 * 20 + 4] @ k[0].T, dim=-1)
    return (weights / weights.max()).reshape(-(-14 // stride), -(-20 // stride))


show_maps([picture, reading(single, 1), reading(cross, 1), reading(cross, 2)],
          ["picture", "linear projection", "convolutional", "stride 2"])

# %% [markdown]
# ## 5. A convolutional stem for a transformer  ★★★ · 75 minutes
#
# The first vision transformers cut a picture into patches of $16 \times 16$ pixels and multiplied each by one big
# matrix. That works, but trains badly: it wants AdamW, a long warm-up and luck with the learning rate. Xiao et al.
# (2021) replace that one layer, a thousandth of the computation, by a handful of ordinary stride-2 convolutions, and
# the same transformer behind it converges sooner, with SGD too, over a wide range of learning rates. *Early
# convolutions help transformers see better*: local structure is what convolutions learn easily, and what attention has
# to find out the hard way.
#
# Our stem has three convolutions, $3 \times 3$, stride 2, padding 1, without bias, with $D/4$, $D/2$ and $D$ channels.
# With $\mathrm{LN}$ over the **channels at each pixel**,
#
# $$ u_0 = x, \qquad u_i = \mathrm{ReLU}\bigl( \mathrm{LN}_i( \mathrm{conv}_i(u_{i-1}) ) \bigr), \quad i = 1, 2, 3
# \tag{9} $$
#
# and a $1 \times 1$ convolution makes the $h \times w$ tokens, $h = \lceil H/8 \rceil$, $w = \lceil W/8 \rceil$, so a
# picture of $H \times W$ pixels becomes about $HW/64$ of them. Then positions $P$ are added, a class token is put in
# front, and $L$ transformer blocks, which the setup has ready, do the rest (Dosovitskiy et al. 2021, Eqs. 1-4):
#
# $$ z_0 = \bigl[\, \mathrm{cls};\; \mathrm{proj}(u_3)_{1} + P_{1};\; \dots;\; \mathrm{proj}(u_3)_{hw} + P_{hw}
#    \,\bigr], \qquad z_l = \mathrm{Block}_l(z_{l-1}), \qquad y = W\, \mathrm{LN}(z_L)_{\mathrm{cls}} + b \tag{10} $$
#
# *Any resolution.* Positions are learned on a grid of $G \times G$. For a picture that gives $h \times w$ tokens the
# grid is stretched like a picture: bilinear interpolation (`align_corners=False`). So a network trained on small
# pictures reads large ones, square or not. Where $h = w = G$ nothing is changed.
#
# *Differences to the paper.* Xiao et al. normalize over the batch, and have one more convolution and tokens of 16
# pixels. Our LN keeps the examples independent.
#
# *Watch for* what `nn.LayerNorm` normalizes (the **last** axes of what it gets), for the order of height and width,
# and for where the class token goes and where the answer is read.

# %% [markdown] hints="conv_stem_vit"
# - `nn.LayerNorm(c)` needs the channels last. Move them there with `permute` or `movedim`, normalize, move them back.
# - The attributes' names make the keys: `self.blocks = nn.ModuleList(...)` gives blocks.0, blocks.1 and so on, and the
#   plain tensors cls and pos are `nn.Parameter`s.
# - `F.interpolate` wants (B, C, h, w), so give the grid a batch axis of size 1. Add the positions while the tokens are
#   still a picture: then h and w cannot be mixed up.
# - (B, D, h, w) to (B, h*w, D): flatten the last two axes, then exchange. Put the class token in front, expanded to B.

# %% exercise="conv_stem_vit"
class ConvStemViT(nn.Module):
    """A vision transformer with a convolutional stem: Xiao et al. (2021), §3-4; our Eqs. (9)-(10).

    state_dict, all trainable parameters, with D = dim and G = grid:
        conv1.weight (D/4, c_in, 3, 3), conv2.weight (D/2, D/4, 3, 3), conv3.weight (D, D/2, 3, 3): no biases
        norm1.weight, norm1.bias (D/4,); norm2.weight, norm2.bias (D/2,); norm3.weight, norm3.bias (D,)
            layer normalization over the channels of each pixel, eps 1e-5
        proj.weight (D, D, 1, 1), proj.bias (D,)
        cls (D,), pos (D, G, G)
        blocks.0.*, blocks.1.*, ...: `depth` times the setup's Block
        norm.weight (D,), norm.bias (D,); head.weight (n_classes, D), head.bias (n_classes,)
    """

    def __init__(self, c_in: int, dim: int, heads: int, depth: int, n_classes: int, grid: int = 4):
        """depth >= 0. Raises ValueError if dim is not divisible by 4 and by heads."""
        super().__init__()
        ### BEGIN SOLUTION
        if dim % 4 or dim % heads:
            raise ValueError(f"a width of {dim} is not divisible by 4 and by {heads} heads")
        widths = (c_in, dim // 4, dim // 2, dim)
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1, bias=False) for i in range(3))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for width in widths[1:])
        self.proj = nn.Conv2d(dim, dim, 1)
        self.cls = nn.Parameter(0.02 * torch.randn(dim))
        self.pos = nn.Parameter(0.02 * torch.randn(dim, grid, grid))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, n_classes)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c_in, H, W) float, H and W at least 1 -> logits (B, n_classes) float."""
        ### BEGIN SOLUTION
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            x = torch.relu(norm(conv(x).movedim(1, -1)).movedim(-1, 1))
        x = self.proj(x)
        pos = F.interpolate(self.pos[None], size=x.shape[2:], mode="bilinear", align_corners=False)
        tokens = (x + pos).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(x), 1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, 0]))
        ### END SOLUTION

# %% [markdown]
# **Case study: pictures of any size.** A picture shows a bright blob and a dark one. In which quarter is the
# bright one? A network is trained on three sizes in turn. Then it gets four sizes that it has never seen, for which
# the grid of positions is stretched.
#
# **What to look at.** On new sizes it is about as good as on the trained ones. The hatched bars are the same network
# with its positions erased: what it still knows comes from the zero padding, which tells the border from the middle.

# %%
def quarter_batch(n, H, W, generator):
    """Pictures (n, 1, H, W) with two blobs and a little noise; the number of the bright blob's quarter."""
    y, x = torch.rand(2, 2, n, 1, 1, generator=generator)
    rows, columns = (torch.arange(H) + 0.5)[:, None], torch.arange(W) + 0.5
    bright, dark = (torch.exp(-((rows - H * y[i]) ** 2 + (columns - W * x[i]) ** 2) / 8) for i in (0, 1))
    noise = 0.05 * torch.randn(n, H, W, generator=generator)
    return (bright - dark + noise)[:, None], (2 * (y[0] > 0.5).long() + (x[0] > 0.5).long()).flatten()


torch.manual_seed(2)
generator = torch.Generator().manual_seed(2)
model = ConvStemViT(1, 32, 2, 1, 4, grid=3)
with torch.no_grad():
    model.pos.normal_(0, 0.4)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
trained_sizes, new_sizes = ((16, 16), (24, 32), (32, 24)), ((24, 24), (32, 32), (16, 32), (40, 40))
for step in range(180):
    pictures, quarters = quarter_batch(48, *trained_sizes[step % 3], generator)
    loss = F.cross_entropy(model(pictures), quarters)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def accuracy(H, W):
    pictures, quarters = quarter_batch(400, H, W, generator)
    with torch.no_grad():
        return (model(pictures).argmax(-1) == quarters).float().mean().item()


sizes = trained_sizes + new_sizes
placed = [accuracy(*size) for size in sizes]
model.pos.data.zero_()
erased = [accuracy(*size) for size in sizes]
fig, ax = plt.subplots(figsize=(9, 2.8), layout="constrained")
for shift, values, colour, hatch, name in ((-0.2, placed, "#7fc9c4", "", "with positions"),
                                           (0.2, erased, "#e8c766", "//", "positions erased")):
    bars = ax.bar([i + shift for i in range(len(sizes))], values, 0.38, color=colour, hatch=hatch, label=name)
    ax.bar_label(bars, fmt="{:.0%}", fontsize=8)
ax.axhline(0.25, color=INK, linestyle=":")
ax.set(title="in which quarter? (dotted: guessing)", ylim=(0, 1.15), ylabel="accuracy")
ax.set_xticks(range(len(sizes)), [f"{H} x {W}" + ("\ntrained" if (H, W) in trained_sizes else "\nnew")
                                  for H, W in sizes])
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
plt.show()

# %% [markdown]
# ## 6. Transformer-XL: recurrence between segments  ★★ · 45 minutes
#
# A transformer reads segments of fixed length, and what stood before the segment does not exist for it. Dai et al.
# (2019, §3.2) borrow the idea of a recurrent network: carry a **state** from one segment to the next. The state of a
# layer is what this layer read in the past, the last vectors of its own *input*. With the memory $m$, the segment $x$
# and $[\cdot\,;\cdot]$ for one behind the other in time,
#
# $$ \tilde x = [\, \mathrm{SG}(m);\; x \,], \qquad
#    q = x W_q^\top, \quad k = \tilde x W_k^\top, \quad v = \tilde x W_v^\top \tag{11} $$
#
# $$ y = \mathrm{Attention}_{\text{causal}}(q, k, v)\, W_o^\top, \qquad
#    m' = \mathrm{SG}\bigl( \text{the last } n \text{ positions of } [\, m;\; x \,] \bigr) \tag{12} $$
#
# $\mathrm{SG}$ stops the gradient: training still costs one segment at a time, as in truncated backpropagation through
# time. But the reach grows with depth. Layer $L$ reads memories of layer $L$, which have seen memories of layer
# $L - 1$, and so on: about $n \cdot L$ positions in all.
#
# *Causal* means: position $t$ of the segment reads all of the memory, which lies in the past, and the positions up to
# and including $t$ of the segment. Only positions of the segment ask. (Our layer has no positions and no residual
# connection. The paper needs *relative* positions here, since absolute ones would collide between the segments.)
#
# *At the start* the memory is empty, $M = 0$, and grows until it holds $n$ = `mem_len` positions; `mem_len` may be 0.
#
# *Watch for* the mask, which is no longer square, for slices like `[-0:]`, and for what becomes the memory.

# %% [markdown] hints="transformer_xl_segment"
# - Queries come from x, T of them; keys and values from the memory and x together, M + T of them.
# - Query t is position M + t of the long sequence. Which columns may row t of a (T, M + T) mask keep? For M = 0 it must
#   be the usual triangle.
# - The gradient must stop at the memory that comes in *and* at the one that goes out; x itself still learns through its
#   own keys and values.
# - `y[:, -n:]` is everything when n = 0. Compute where the slice begins instead.

# %% exercise="transformer_xl_segment"
def txl_layer(x: Tensor, mem: Tensor, params: dict[str, Tensor], heads: int, mem_len: int) -> tuple[Tensor, Tensor]:
    """One layer with segment-level recurrence: Dai et al. (2019), §3.2; our Eqs. (11)-(12).

    x        (B, T, C) float: the segment
    mem      (B, M, C) float, M >= 0: what this layer read just before it; the oldest position first
    params   w_q, w_k, w_v, w_o, each (C, C) float, as (out, in), no biases
    heads    int >= 1, a divisor of C; heads as in `attention`
    mem_len  int >= 0: how many positions to remember at most, n in Eq. (12)

    Returns (y, new_mem): y (B, T, C) float, and new_mem (B, min(mem_len, M + T), C) float, the last positions of
    [mem; x]. No gradient flows into mem, and none out of new_mem.
    """
    ### BEGIN SOLUTION
    M, T = mem.shape[1], x.shape[1]
    both = torch.cat([mem.detach(), x], dim=1)
    keep = torch.ones(T, M + T, dtype=torch.bool, device=x.device).tril(diagonal=M)
    y = attention(x @ params["w_q"].T, both @ params["w_k"].T, both @ params["w_v"].T, heads, keep)
    return y @ params["w_o"].T, both[:, max(M + T - mem_len, 0):].detach()
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Which inputs does an output depend on? We run 24 positions through one, two and three layers, in
# segments of 4 with a memory of 4, change one input at a time, and mark the outputs that move. One layer reaches back
# into the previous segment; every further layer reaches one memory further, so what happened long before the segment
# still arrives. Autograd, which stops at the segment's border, would show only small triangles.

# %%
def run_segments(x, layers, segment, mem_len):
    """Stacked layers with residual connections over all segments; each layer has a memory of its own."""
    memories = [x[:, :0] for _ in layers]
    outputs = []
    for piece in x.split(segment, dim=1):
        for number, params in enumerate(layers):
            y, memories[number] = txl_layer(piece, memories[number], params, 1, mem_len)
            piece = piece + y
        outputs.append(piece)
    return torch.cat(outputs, dim=1)


generator = torch.Generator().manual_seed(3)
T, C = 24, 6
layers = [{name: 0.6 * torch.randn(C, C, generator=generator, dtype=torch.float64)
           for name in ("w_q", "w_k", "w_v", "w_o")} for _ in range(3)]
x = torch.randn(1, T, C, generator=generator, dtype=torch.float64)
changed = x + torch.eye(T, dtype=torch.float64)[:, :, None]  # as a batch: example j has position j changed
reach = [((run_segments(changed, layers[:n], 4, 4) - run_segments(x, layers[:n], 4, 4)).abs().amax(-1) > 0).T.double()
         for n in (1, 2, 3)]
show_maps(reach, ["1 layer", "2 layers", "3 layers"], xlabel="input", ylabel="output", cmap="cividis")

# %% [markdown]
# ## 7. R-Transformer: recurrence within a block  ★★★ · 75 minutes
#
# Attention sees its inputs as a set. Positions are glued on as numbers, and what "the word before" means has to be
# learned. Wang et al. (2019) put a recurrent network in front of it that does nothing but read the neighbourhood in
# order. It is *local*: for every position it starts anew and reads the last $w$ inputs,
#
# $$ h_t = \mathrm{LocalRNN}(x_{t-w+1}, \dots, x_t) \tag{13} $$
#
# the final state of a GRU whose state is 0 before $x_{t-w+1}$. Positions before the first are zero vectors; the GRU
# reads them like any other input (and, with its biases, does not ignore them). All $T$ windows are independent, so
# they run side by side: $w$ steps instead of $T$, and no gradient has to survive more than $w$ of them.
#
# What is near is in order now, and attention takes care of what is far. The block is (their §2.4; LN is the layer
# normalization over channels, attention is causal: position $t$ reads positions up to and including $t$)
#
# $$ \hat h = \mathrm{LN}_1(x + h), \qquad
#    u = \mathrm{LN}_2\bigl( \hat h + W_o\, \mathrm{Attention}(W_q \hat h, W_k \hat h, W_v \hat h) \bigr), \qquad
#    y = \mathrm{LN}_3\bigl( u + W_2 \max(0, W_1 u + b_1) + b_2 \bigr) \tag{14} $$
#
# No position embedding anywhere.
#
# *Watch for* the window, which ends **at** position $t$; for the state, which must not travel from one window to the
# next; and for the one state of $w$ that counts.

# %% [markdown] hints="rnn_transformer_block"
# - `nn.GRUCell(width, width)` has parameters with the names and shapes of the contract, and takes a batch of inputs.
# - Pad the sequence on the left with w - 1 zero vectors: then window t begins at position t of the padded sequence, and
#   `unfold` cuts out all of them.
# - Make the B*T windows one batch. Step j of the GRU reads vector j of every window.
# - For the block, write Eq. (14) line by line; a causal mask of shape (T, T) broadcasts to (B, heads, T, T).

# %% exercise="rnn_transformer_block"
class LocalRNN(nn.Module):
    """A GRU over a sliding window: Wang et al. (2019), §2.1; our Eq. (13).

    state_dict, all trainable, with C = width; gates and biases as in nn.GRUCell:
        rnn.weight_ih (3C, C), rnn.weight_hh (3C, C), rnn.bias_ih (3C,), rnn.bias_hh (3C,)
    """

    def __init__(self, width: int, window: int):
        """window = w >= 1, else ValueError."""
        super().__init__()
        ### BEGIN SOLUTION
        if window < 1:
            raise ValueError(f"a window holds at least the position itself, not {window}")
        self.window, self.rnn = window, nn.GRUCell(width, width)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) float -> (B, T, C) float: for each t the final state over the inputs t-w+1 to t."""
        ### BEGIN SOLUTION
        windows = F.pad(x, (0, 0, self.window - 1, 0)).unfold(1, self.window, 1).flatten(0, 1)
        state = torch.zeros_like(windows[..., 0])
        for j in range(self.window):
            state = self.rnn(windows[..., j], state)
        return state.unflatten(0, x.shape[:2])
        ### END SOLUTION


class RTransformerBlock(nn.Module):
    """Local RNN, causal attention, feed-forward: Wang et al. (2019), §2; our Eq. (14).

    state_dict, all trainable, with C = width and F = hidden:
        local.*: a LocalRNN
        qkv.weight (3C, C): W_q, W_k, W_v in this order; out.weight (C, C); no biases; heads as in `attention`
        linear1.weight (F, C), linear1.bias (F,), linear2.weight (C, F), linear2.bias (C,)
        norm1, norm2, norm3: each .weight (C,) and .bias (C,), eps 1e-5
    """

    def __init__(self, width: int, heads: int, hidden: int, window: int):
        """Raises ValueError if heads does not divide width, or if window < 1."""
        super().__init__()
        ### BEGIN SOLUTION
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.local = LocalRNN(width, window)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) float -> (B, T, C) float; output t depends on the inputs up to and including t."""
        ### BEGIN SOLUTION
        x = self.norm1(x + self.local(x))
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        x = self.norm2(x + self.out(attention(*self.qkv(x).chunk(3, dim=-1), self.heads, causal)))
        return self.norm3(x + self.linear2(torch.relu(self.linear1(x))))
        ### END SOLUTION

# %% [markdown]
# **What to look at.** On the left, which inputs an output depends on: the local RNN sees a band of $w = 4$, the whole
# block everything before. On the right the finale, a task that needs both near order and far reach: *somewhere in these
# twenty letters, does "ab" occur?* All letters are there in any case, so counting them does not help. With a window of
# 1 the block is a transformer without positions and sees a set; with a window of 2 it learns the task in seconds.

# %%
def pattern_batch(n, generator):
    """Letters (n, 20) from 0 to 3, with two 0s and two 1s in each sequence; and whether a 1 directly follows a 0."""
    letters = torch.randint(2, 4, (n, 20), generator=generator)
    answers, rows = torch.arange(n) % 2, torch.arange(n)
    first, second = (torch.rand(n, 5, generator=generator).argsort(1)[:, :2] * 4 + 1).T
    letters[rows, first], letters[rows, first + 1] = 1 - answers, answers  # "ab" or "ba"
    letters[rows, second], letters[rows, second + 1] = 1, 0  # "ba" elsewhere, in both kinds
    return letters, answers


def learn(window, steps=150):
    """Accuracy of a small network with this window on new sequences, and its losses."""
    torch.manual_seed(4)
    generator = torch.Generator().manual_seed(4)
    embed, block, head = nn.Embedding(4, 16), RTransformerBlock(16, 2, 32, window), nn.Linear(16, 2)
    parameters = [*embed.parameters(), *block.parameters(), *head.parameters()]
    optimizer, losses = torch.optim.Adam(parameters, lr=0.01), []
    for _ in range(steps):
        letters, answers = pattern_batch(64, generator)
        loss = F.cross_entropy(head(block(embed(letters))[:, -1]), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        letters, answers = pattern_batch(400, generator)
        return (head(block(embed(letters))[:, -1]).argmax(-1) == answers).float().mean().item(), losses


torch.manual_seed(5)
example = torch.randn(12, 8, dtype=torch.float64)
small = RTransformerBlock(8, 2, 16, 4).double()
fig, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained", width_ratios=[1, 1, 1.8])
for ax, function, title in ((axes[0], small.local, "local RNN, w = 4"), (axes[1], small, "the whole block")):
    jacobian = torch.autograd.functional.jacobian(lambda y, f=function: f(y[None])[0], example)  # (T, C, T, C)
    ax.imshow(jacobian.abs().sum(dim=(1, 3)) > 0, cmap="cividis", interpolation="nearest")
    ax.set(title=title, xlabel="input", ylabel="output")
for window, colour, style in ((1, "#b8860b", "--"), (2, "#440154", "-")):
    accuracy_now, losses = learn(window)
    axes[2].plot(losses, style, color=colour, label=f"window {window}: {accuracy_now:.0%} right on new sequences")
axes[2].set(title='does "ab" occur?', xlabel="step", ylabel="loss")
axes[2].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Going further
#
# - **Which condition, where?** FiLM with a condition that depends on the place, one $\gamma$ and $\beta$ for each
#   pixel, is the spatially-adaptive normalization of Park et al. (2019). What does your function need to become it?
# - **A sigmoid instead of a softmax.** Zhai et al. (2023) judge every pair by itself, which needs no sum over the
#   batch. What has to change in Eq. (4), and why do they learn an additional bias?
# - **Zero at the start.** Gates (Flamingo), a zero-initialized last layer (ControlNet, LoRA's second matrix) and
#   residual scalings (ReZero) are one idea. Find a network in which *two* zeros in a row stop learning.
# - **Convolution or attention?** Stack CvT layers with strides between them: keys and values of early layers are where
#   the cost is. Compare $H W \cdot HW/s^2$ with the cost of a convolution at the same place.
# - **Relative positions.** Dai et al. (2019, §3.3) rewrite the score as four terms in content and distance. Add them to
#   `txl_layer`. Why do absolute positions fail there?
# - **Parallel scans.** A linear recurrence needs no window to run in parallel: state space models and linear RNNs are
#   today's other way of combining recurrence and attention (Griffin, Jamba).
#
# ## References
#
# - J.-B. Alayrac et al. *Flamingo: a Visual Language Model for Few-Shot Learning.* NeurIPS 2022.
# - Z. Dai, Z. Yang, Y. Yang, J. Carbonell, Q. Le, R. Salakhutdinov. *Transformer-XL: Attentive Language Models Beyond a
#   Fixed-Length Context.* ACL 2019.
# - A. Dosovitskiy et al. *An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale.* ICLR 2021.
# - T. Park, M.-Y. Liu, T.-C. Wang, J.-Y. Zhu. *Semantic Image Synthesis with Spatially-Adaptive Normalization.* CVPR
#   2019.
# - E. Perez, F. Strub, H. de Vries, V. Dumoulin, A. Courville. *FiLM: Visual Reasoning with a General Conditioning
#   Layer.* AAAI 2018.
# - A. Radford et al. *Learning Transferable Visual Models From Natural Language Supervision.* ICML 2021.
# - Z. Wang, Y. Ma, Z. Liu, J. Tang. *R-Transformer: Recurrent Neural Network Enhanced Transformer.* 2019.
# - H. Wu et al. *CvT: Introducing Convolutions to Vision Transformers.* ICCV 2021.
# - T. Xiao, M. Singh, E. Mintun, T. Darrell, P. Dollár, R. Girshick. *Early Convolutions Help Transformers See Better.*
#   NeurIPS 2021.
# - X. Zhai, B. Mustafa, A. Kolesnikov, L. Beyer. *Sigmoid Loss for Language Image Pre-Training.* ICCV 2023.
