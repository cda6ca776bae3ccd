# %% [markdown]
# # Attention mechanisms
#
# A network that has to answer a question about a long input faces a bottleneck. The first encoder-decoder
# translators squeezed a whole sentence into one vector, and quality fell as sentences grew longer: whatever
# the answer needs must be in that vector *before* the question is known. Attention removes the bottleneck.
# The input stays available as a list of vectors, and each question decides for itself which of them to read.
#
# Think of a dictionary. An exact look-up compares a **query** with every **key** and returns the **value** of
# the one key that is equal. Attention is the differentiable version of it: every key matches to some degree,
# the degrees are made into weights that sum to one, and the answer is the weighted mean of the values.
# Because nothing in it is discrete, gradients tell the network which keys it *should* have matched.
#
# You will build the mechanism in seven steps, each independent of the others. The cell below an exercise checks
# your function and shows the smallest example on which it fails; the pictures after it are drawn by your own
# code. In a cell of your own, `hint("sdpa_masked")` gives a hint, then one more each time, and `progress()`
# shows what is done.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `sdpa_masked` | ★ | 20 | scaled dot-product attention and masks |
# | `cross_attention` | ★★ | 40 | projections, several heads, a second sequence to read from |
# | `grouped_heads` | ★★ | 30 | keys and values shared between heads |
# | `additive_attention` | ★ | 20 | the original: a small network as the score |
# | `sliding_window_attention` | ★★ | 30 | a band: linear instead of quadratic |
# | `block_sparse_attention` | ★★★ | 90 | any pattern of blocks, without ever forming the $T \times T$ matrix |
# | `sparsemax` | ★★★ | 60 | weights that are exactly zero, and a backward pass of your own |
#
# ### Notation, and rules for every exercise
#
# $B$ examples, $H$ heads, $T$ queries, $S$ keys, $d$ the width of queries and keys, $e$ the width of values.
# Shapes are written `(B, H, T, d)`; every size is at least 1.
#
# - `float` means float32 or float64, all arguments alike. Compute in that dtype and return it.
# - A mask is `bool` and **True means keep**. A query that may attend to nothing gets the answer **0**, and
#   gradients through it are **0**, not NaN.
# - Inputs may be views of other tensors with any strides. Never change them, and remember nothing between
#   calls.
# - Gradients must reach every float argument. Scores of magnitude $10^3$ and more must not overflow.
# - `torch.softmax` and everything more elementary are your tools. `F.scaled_dot_product_attention` and
#   `nn.MultiheadAttention` are what you are about to build: keep them to compare your results with.

# %% role="setup"
import math

import torch
from torch import Tensor

from etude import check, hint, progress

# %% [markdown]
# The picture shows the whole mechanism: on the left one head, on the right how several heads share the work.
# Blue is what is given and what comes out, orange what is computed, grey what is learned.

# %%
import matplotlib.pyplot as plt

from etude.plots import BLUE, GREY, INK, ORANGE, draw_graph, light, show_maps

light()
fig, axes = plt.subplots(1, 2, figsize=(11, 6), layout="constrained")
draw_graph(axes[0], "one head: scaled dot-product attention", {
    "q": (0, 0, "queries $Q$", BLUE), "k": (2.6, 0, "keys $K$", BLUE), "v": (5.2, 0, "values $V$", BLUE),
    "scores": (1.3, 1.3, r"$QK^\top / \sqrt{d}$", ORANGE), "mask": (1.3, 2.6, "mask", ORANGE),
    "softmax": (1.3, 3.9, "softmax", ORANGE), "mix": (3.25, 5.2, r"weights $\cdot\,V$", ORANGE),
    "out": (3.25, 6.5, "output", BLUE),
}, {"q": ["scores"], "k": ["scores"], "scores": ["mask"], "mask": ["softmax"], "softmax": ["mix"], "v": ["mix"],
    "mix": ["out"]},
    {"q": "$(T, d)$", "k": "$(S, d)$", "v": "$(S, e)$", "scores": "$(T, S)$", "softmax": "rows sum\nto 1",
     "out": "$(T, e)$"})
draw_graph(axes[1], "several heads, reading another sequence", {
    "x": (0, 0, "$x$", BLUE), "context": (3.3, 0, "context $y$", BLUE),
    "wq": (0, 1.3, "$W^Q$", GREY), "wk": (2.2, 1.3, "$W^K$", GREY), "wv": (4.4, 1.3, "$W^V$", GREY),
    "sq": (0, 2.6, "split", ORANGE), "sk": (2.2, 2.6, "split", ORANGE), "sv": (4.4, 2.6, "split", ORANGE),
    "heads": (2.2, 3.9, r"$H$ heads", ORANGE), "merge": (2.2, 5.2, "merge", ORANGE), "wo": (2.2, 6.5, "$W^O$", GREY),
    "out": (2.2, 7.8, "output", BLUE),
}, {"x": ["wq"], "context": ["wk", "wv"], "wq": ["sq"], "wk": ["sk"], "wv": ["sv"], "sq": ["heads"],
    "sk": ["heads"], "sv": ["heads"], "heads": ["merge"], "merge": ["wo"], "wo": ["out"]},
    {"x": "$(T, C)$", "context": "$(S, C_c)$", "sv": "$(H, S, D)$", "heads": "$(H, T, D)$", "merge": "$(T, H D)$",
     "out": "$(T, C)$"})
plt.show()

# %% [markdown]
# ## 1. Scaled dot-product attention  ★ · 20 minutes
#
# With the queries as the rows of $Q \in \mathbb{R}^{T \times d}$, the keys in $K \in \mathbb{R}^{S \times d}$
# and the values in $V \in \mathbb{R}^{S \times e}$, Vaswani et al. (2017, Eq. 1) define
#
# $$ \mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V \tag{1} $$
#
# where the softmax runs over the **keys**: each query distributes a total weight of one.
#
# *Why $\sqrt d$?* If the entries of a query and a key are independent with mean 0 and variance 1, their dot
# product has variance $d$. Without the division, wide heads would start with scores so far apart that the
# softmax is almost an arg max, whose gradient is almost zero.
#
# *Masks.* Padding is not part of the sentence, and a language model must not read the future. With $M_{ts}$
# true where query $t$ may attend to key $s$, the weights become
#
# $$ A_{ts} = \frac{M_{ts}\, e^{z_{ts}}}{\sum_{s'} M_{ts'}\, e^{z_{ts'}}}, \qquad z = \frac{Q K^\top}{\sqrt d}
# \tag{2} $$
#
# so a masked key has no influence at all, not even on the denominator. A row in which everything is masked
# reads $0/0$; **we define it as 0**. The usual trick, $z_{ts} = -\infty$ where $M_{ts}$ is false, gives NaN
# there, and a NaN survives multiplication by zero: look at the gradients too.

# %% [markdown] hints="sdpa_masked"
# 1. Which axis of the scores belongs to the keys? The softmax runs along that one, and the scale comes from
#    the width of the vectors that were multiplied.
# 2. Let the mask act *before* the softmax: a masked key must not take part in the denominator. A very
#    negative finite number does that as well as minus infinity, and is never NaN.
# 3. Then look at a row in which nothing is kept. All its scores are equal, so what does the softmax give
#    there, and what does Eq. (2) ask for? The mask can act a second time, on the weights.

# %% exercise="sdpa_masked"
def sdpa(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """Masked scaled dot-product attention: Vaswani et al. (2017), Eq. 1, with the weights of our Eq. (2).

    q     (B, H, T, d) float
    k     (B, H, S, d) float
    v     (B, H, S, e) float
    keep  bool, any shape that broadcasts to (B, H, T, S); True = query t may attend to key s

    Returns (B, H, T, e) float. Where a query may attend to no key, the output is 0 and its gradients are 0.
    """
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~keep, torch.finfo(q.dtype).min)
    weights = torch.softmax(scores, dim=-1).masked_fill(~keep, 0)
    return weights @ v
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Attention returns a weighted mean of the values. If value $s$ is the $s$-th unit
# vector, the output *is* the row of weights, so the identity matrix makes the weights visible from outside.
# The rows of the second map are a triangle, the third has four empty columns and, for a query that may see
# nothing, an empty row. The last map leaves out $1/\sqrt d$ (by a query that is $\sqrt d$ times too long):
# most rows have collapsed onto one key.

# %%
generator = torch.Generator().manual_seed(0)
T, d = 16, 32
q, k = torch.randn(2, 1, 1, T, d, generator=generator)
one_hot_values = torch.eye(T).expand(1, 1, T, T)
everything = torch.ones(T, T, dtype=torch.bool)
padding = everything.clone()
padding[:, 12:] = False
padding[5] = False
show_maps([sdpa(q, k, one_hot_values, everything)[0, 0],
           sdpa(q, k, one_hot_values, everything.tril())[0, 0],
           sdpa(q, k, one_hot_values, padding)[0, 0],
           sdpa(q * math.sqrt(d), k, one_hot_values, everything)[0, 0]],
          ["no mask", "causal", "padding", r"without $1/\sqrt{d}$"], xlabel="key", ylabel="query")

# %% [markdown]
# ## 2. Cross-attention with several heads  ★★ · 40 minutes
#
# In a trained network queries, keys and values are learned projections. One softmax can only look at one
# mixture of places at a time; $H$ smaller heads look at $H$ of them for the same cost (Vaswani et al. 2017,
# §3.2.2):
#
# $$ \mathrm{MultiHead}(x, y) = \mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_H)\, W^O, \qquad
#    \mathrm{head}_i = \mathrm{Attention}(x W^Q_i,\; y W^K_i,\; y W^V_i) \tag{3} $$
#
# In *self*-attention $y = x$. In *cross*-attention (§3.2.3 there) the queries come from one sequence, such as
# the words translated so far, and the keys and values from another, such as the source sentence or the
# patches of an image. The two have different lengths $T$ and $S$, and often different widths $C$ and $C_c$.
#
# *Layout.* We store weights as `nn.Linear` does, `(out, in)`, so the paper's $x W^Q$ is `x @ wq.T`. All
# heads' projections are one matrix: with $D = C/H$, head $i$ (from 0) owns the rows $iD, \dots, (i+1)D - 1$
# of `wq`, `wk` and `wv`, and, as the heads are concatenated in that order, the columns of `wo` with the same
# numbers.
#
# *Watch for* the width in the scale (it is the width of *one head*), the axis that the padding mask belongs
# to, and code that only works when $T = S$ or $C = C_c$.

# %% [markdown] hints="cross_attention"
# 1. Write down the shape after every step: projections, heads in an axis of their own, scores, weights, heads
#    merged. Queries have the length of `x`, keys and values that of `ctx`.
# 2. The padding mask is (B, S) and belongs to the keys. Which axes of size 1 make it fit scores of shape (B,
#    H, T, S)?
# 3. With `wq` as (out, in), `x @ wq.T` has the heads side by side in its last axis; split that axis, not the
#    sequence. The scale uses the width of *one* head.
# 4. A row in which no key is kept is treated as in the first exercise.

# %% exercise="cross_attention"
def cross_attention(x: Tensor, ctx: Tensor, ctx_keep: Tensor,
                    wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, heads: int) -> Tensor:
    """Multi-head attention from `x` to `ctx`: Vaswani et al. (2017), §3.2.2-3.2.3; our Eq. (3).

    x         (B, T, C) float: the sequence that asks
    ctx       (B, S, Cc) float: the sequence that is read
    ctx_keep  (B, S) bool, True = this position of ctx may be read
    wq        (C, C) float, wk (C, Cc) float, wv (C, Cc) float, wo (C, C) float: (out, in) as in nn.Linear, no bias
    heads     int >= 1; head i owns rows i*D:(i+1)*D of wq, wk, wv and the same columns of wo, D = C / heads

    Returns (B, T, C) float; 0 for an example whose context is wholly masked (with gradients 0).
    Raises ValueError if `heads` does not divide C.
    """
    ### BEGIN SOLUTION
    if wq.shape[0] % heads:
        raise ValueError(f"{heads} heads do not divide a width of {wq.shape[0]}")

    def split(y):  # (B, L, H*D) -> (B, H, L, D)
        return y.unflatten(-1, (heads, -1)).transpose(1, 2)

    q, k, v = split(x @ wq.T), split(ctx @ wk.T), split(ctx @ wv.T)
    drop = ~ctx_keep[:, None, None, :]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(drop, torch.finfo(x.dtype).min)
    weights = torch.softmax(scores, dim=-1).masked_fill(drop, 0)
    return (weights @ v).transpose(1, 2).flatten(2) @ wo.T
    ### END SOLUTION

# %% [markdown]
# **Case study: looking things up.** Every context below is a fresh random table of eight pairs (key symbol,
# value symbol). The queries ask for three of its keys. There is nothing to memorise, as the table changes
# with every example; the only way to answer is to compare the query with the keys and to copy the value. Your
# function learns it in a few seconds.

# %%
def lookup_batch(n, symbols=8, queries=3, generator=None):
    """Tables: one-hot pairs (n, symbols, 2*symbols); questions: one-hot (n, queries, 4*symbols); answers."""
    one_hot = torch.eye(symbols)
    keys = torch.rand(n, symbols, generator=generator).argsort(dim=1)
    values = torch.randint(symbols, (n, symbols), generator=generator)
    asked = torch.randint(symbols, (n, queries), generator=generator)
    questions = torch.zeros(n, queries, 4 * symbols)
    questions[..., :symbols] = one_hot[keys.gather(1, asked)]
    return torch.cat([one_hot[keys], one_hot[values]], dim=-1), questions, values.gather(1, asked)


generator = torch.Generator().manual_seed(1)
S, C, heads = 8, 32, 2
shapes = {"wq": (C, C), "wk": (C, 2 * S), "wv": (C, 2 * S), "wo": (C, C)}
weights = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
optimizer = torch.optim.Adam([weight.requires_grad_() for weight in weights.values()], lr=0.02)
losses = []
for _ in range(250):
    tables, questions, answers = lookup_batch(64, generator=generator)
    all_kept = torch.ones(tables.shape[:2], dtype=torch.bool)
    logits = cross_attention(questions, tables, all_kept, **weights, heads=heads)[..., :S]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

tables, questions, answers = lookup_batch(1000, generator=generator)
all_kept = torch.ones(tables.shape[:2], dtype=torch.bool)
predicted = cross_attention(questions, tables, all_kept, **weights, heads=heads)[..., :S].argmax(-1)
accuracy = (predicted == answers).float().mean()
print(f"loss {losses[0]:.2f} -> {losses[-1]:.3f}; right answers on new tables: {accuracy:.1%}")

# %% [markdown]
# To see *where* it reads, we ask the trained heads for positions instead of values: the context gets eight
# more columns with a one-hot position, which the keys ignore (zeros in `wk`) and the values are made of (an
# identity in `wv`). Rows are queries sorted by the place of their answer, so a head that has learned the
# look-up shows a diagonal. A blurred head is no harm as long as the heads together settle the answer.

# %%
positions = torch.eye(S)
wk_padded = torch.cat([weights["wk"], torch.zeros(C, S)], dim=1)
wv_positions = torch.cat([torch.zeros(C, 2 * S), torch.eye(C // heads, S).repeat(heads, 1)], dim=1)
table = tables[:1]
ask_all = torch.nn.functional.pad(table[..., :S], (0, C - S))
reads = cross_attention(ask_all, torch.cat([table, positions[None]], dim=-1), all_kept[:1],
                        weights["wq"], wk_padded, wv_positions, torch.eye(C), heads)
show_maps([head[:, :S] for head in reads[0].chunk(heads, dim=-1)], [f"head {i}" for i in range(heads)],
          xlabel="position read", ylabel="position of the key asked for")

# %% [markdown]
# ## 3. Splitting and grouping heads  ★★ · 30 minutes
#
# Heads live in the channels: a vector of width $C = H D$ is the concatenation of $H$ vectors of width $D$, so
# splitting is a change of view, `(B, T, C)` to `(B, H, T, D)`. It must not mix positions with channels, and
# the tempting single `view(B, H, T, D)` does just that; it has the right shape and merging it back gives the
# right answer, too.
#
# While a language model generates, keys and values of all earlier tokens are kept:
# $2 \cdot H \cdot S \cdot d$ numbers per layer and sequence, read again for every new token. *Multi-query*
# attention (Shazeer 2019) shares one set of keys and values among all heads. *Grouped-query* attention
# (Ainslie et al. 2023) is the compromise: $G$ sets, each shared by $H/G$ neighbouring heads. Head $i$ (from
# 0) reads the group
#
# $$ g(i) = \left\lfloor \frac{i\, G}{H} \right\rfloor, \qquad
#    \mathrm{out}_i = \mathrm{softmax}\!\left(\frac{Q_i K_{g(i)}^\top}{\sqrt d}\right) V_{g(i)} \tag{4} $$
#
# so $G = H$ is ordinary and $G = 1$ multi-query attention.
#
# *Watch for* the order: heads 0, 1, 2, 3 with two groups read groups 0, 0, 1, 1, not 0, 1, 0, 1.

# %% [markdown] hints="grouped_heads"
# 1. Think of the last axis as a book of H chapters of D pages each. Splitting it is one step; bringing the
#    heads before the positions is another.
# 2. Try `x = torch.arange(12.).reshape(1, 2, 6)` with two heads, and read off which numbers each head gets.
# 3. For grouped queries, H/G neighbouring heads share one group. Is it each group that is repeated, or the
#    whole list of groups?
# 4. The `ValueError`s are part of the contract: test for a remainder before you reshape.

# %% exercise="grouped_heads"
def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, H*D) float -> (B, H, T, D) float: head i gets channels i*D:(i+1)*D, for `heads` = H >= 1.

    Raises ValueError if `heads` does not divide the number of channels.
    """
    ### BEGIN SOLUTION
    if x.shape[-1] % heads:
        raise ValueError(f"{heads} heads do not divide {x.shape[-1]} channels")
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
    ### END SOLUTION


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) float -> (B, T, H*D) float: the inverse of `split_heads`."""
    ### BEGIN SOLUTION
    return x.transpose(1, 2).flatten(2)
    ### END SOLUTION


def gqa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Grouped-query attention without a mask: Ainslie et al. (2023), §2.2; our Eq. (4).

    q  (B, H, T, d) float
    k  (B, G, S, d) float
    v  (B, G, S, e) float; head i reads group floor(i * G / H) of k and v

    Returns (B, H, T, e) float. Raises ValueError if G does not divide H.
    """
    ### BEGIN SOLUTION
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"{k.shape[1]} groups do not divide {q.shape[1]} heads")
    share = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return torch.softmax(scores, dim=-1) @ v
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Let every value of group $g$ be the $g$-th unit vector: the output of a head then shows
# which group it has read, whatever its weights. Each picture has the eight heads as rows and the groups as
# columns, and its title says what the keys and values of one layer take.

# %%
generator = torch.Generator().manual_seed(2)
H, maps, titles = 8, [], []
for G in (8, 4, 2, 1):
    q, k = torch.randn(1, H, 3, 4, generator=generator), torch.randn(1, G, 5, 4, generator=generator)
    group_vectors = torch.eye(G)[None, :, None, :].expand(1, G, 5, G)
    maps.append(gqa(q, k, group_vectors)[0, :, 0])
    titles.append(f"G = {G}: {2 * G * 4096 * 128 * 2 / 2**20:.0f} MiB")
show_maps(maps, titles, xlabel="group", ylabel="head", aspect="auto")
print("Memory for 4096 tokens, d = 128, two bytes a number")

x = torch.randn(2, 5, 24, generator=generator)
print("merging undoes splitting:", torch.equal(merge_heads(split_heads(x, 4)), x))

# %% [markdown]
# ## 4. Additive attention  ★ · 20 minutes
#
# The mechanism began with a score that is not a dot product. Bahdanau et al. (2015, §3.1 and App. A.1.2) let
# a small network with one hidden layer of width $A$ judge how well the decoder's state $s$ (the query) goes
# with each annotation $h_j$ of the source sentence (the keys, which are also the values):
#
# $$ e_j = v^\top \tanh(W s + U h_j), \qquad
#    \alpha_j = \frac{\exp(e_j)}{\sum_{k} \exp(e_k)}, \qquad c = \sum_j \alpha_j h_j \tag{5} $$
#
# Query and keys may have different widths, and $U h_j$ is computed once for all queries. With more than one
# query the hidden layer needs $T \cdot S \cdot A$ numbers where a dot product gets by with $T \cdot S$, and
# it is no matrix product; that is why dot products took over.
#
# *Watch for* the weights that you return: they are the masked ones, exactly 0 at padding, and gradients flow
# through both outputs.

# %% [markdown] hints="additive_attention"
# 1. The hidden layer needs every key together with its query: (B, A) and (B, S, A). Which axis is missing
#    from the first?
# 2. `v` turns the hidden layer into one score per key. From there on it is the masked softmax of the first
#    exercise.
# 3. Return the weights that you have used for the context, after masking: both outputs carry gradients.

# %% exercise="additive_attention"
def bahdanau(query: Tensor, keys: Tensor, keep: Tensor, W: Tensor, U: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Additive attention: Bahdanau et al. (2015), Eqs. 5-6 with the alignment model of App. A.1.2; our Eq. (5).

    query  (B, D) float: one query per example
    keys   (B, S, E) float: the annotations, which are also the values
    keep   (B, S) bool, True = may be attended to
    W      (A, D) float, U (A, E) float, v (A,) float: (out, in) as in nn.Linear, no bias

    Returns the context (B, E) float and the weights (B, S) float. The weights of masked keys are exactly 0 and the
    others sum to 1; where every key is masked, weights and context are 0 (with gradients 0).
    """
    ### BEGIN SOLUTION
    hidden = torch.tanh((query @ W.T).unsqueeze(1) + keys @ U.T)
    scores = (hidden @ v).masked_fill(~keep, torch.finfo(query.dtype).min)
    weights = torch.softmax(scores, dim=-1).masked_fill(~keep, 0)
    context = (weights.unsqueeze(1) @ keys).squeeze(1)
    return context, weights
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Two hidden units are enough for a look-up on the number line. With a key written as
# $(h, 1)$, the 1 serving as a bias, the score $a \tanh(c(s - h) + b) - a \tanh(c(s - h) - b)$ is a bump
# around $s = h$. As the query moves, the weight passes from key to key, and the context follows it in steps.
# A dot product of two numbers cannot do that: $s \cdot h$ grows with $h$ without end, so the largest key
# would win for every positive query.

# %%
places = torch.tensor([-3.0, -1.0, 0.5, 2.5])
keys = torch.stack([places, torch.ones(4)], dim=-1)
queries = torch.linspace(-3.5, 3, 200)
a, b, c = 8.0, 1.0, 1.5
context, alignment = bahdanau(queries[:, None], keys.expand(200, 4, 2), keep=torch.ones(200, 4, dtype=torch.bool),
                              W=torch.tensor([[c], [c]]), U=torch.tensor([[-c, b], [-c, -b]]), v=torch.tensor([a, -a]))
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for j, place in enumerate(places.tolist()):
    axes[0].plot(queries, alignment[:, j], color=plt.cm.viridis(j / 4), linestyle=["-", "--", "-.", ":"][j],
                 label=f"key {place:g}")
axes[0].set(title="weights", xlabel="query")
axes[0].legend(loc="center right", fontsize=8)
axes[1].plot(queries, context[:, 0], color=INK)
axes[1].hlines(places, -3.5, 3, color="#999999", linewidth=0.7)
axes[1].set(title="context: the nearest key", xlabel="query")
plt.show()

# %% [markdown]
# ## 5. Sliding-window attention  ★★ · 30 minutes
#
# Full attention compares all pairs: twice the text, four times the work. Most of what a word needs is near
# it, so let query $t$ attend only to itself and the $w - 1$ positions before it (Child et al. 2019; Beltagy
# et al. 2020, §3.1; our window looks back only, as a language model needs):
#
# $$ A_{tj} > 0 \iff t - w < j \le t \tag{6} $$
#
# Work and memory are then $T \cdot w$. What lies further back is not lost: layer by layer the information
# moves $w - 1$ positions on, so after $L$ layers a position has seen $L(w-1) + 1$ of them, just as in a
# convolutional network.
#
# *Watch for* the two ends of (6), one of which is strict; for $w = 1$, where every position reads itself
# alone; for $w \ge T$, where the band is all of the past; and for the first positions, which have fewer than
# $w$ keys. Forming all $T \times T$ scores is allowed here.

# %% [markdown] hints="sliding_window_attention"
# 1. Compare positions: with one column of t and one row of j, both conditions of Eq. (6) are elementwise.
# 2. Count on a small case: for w = 2, query 3 reads the keys 2 and 3. Does your band?
# 3. Every query reads itself, so no row is empty, and minus infinity is safe here.

# %% exercise="sliding_window_attention"
def window_attn(q: Tensor, k: Tensor, v: Tensor, w: int) -> Tensor:
    """Causal sliding-window attention: Beltagy et al. (2020), §3.1, looking back only; our Eq. (6).

    q, k  (B, T, d) float
    v     (B, T, e) float
    w     int >= 1, may exceed T; query t attends to keys j with t - w < j <= t, itself included

    Returns (B, T, e) float: softmax(q_t . k_j / sqrt(d)) over the window, times v.
    """
    ### BEGIN SOLUTION
    j = torch.arange(q.shape[1], device=q.device)
    t = j[:, None]
    window = (t - w < j) & (j <= t)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return torch.softmax(scores.masked_fill(~window, -math.inf), dim=-1) @ v
    ### END SOLUTION

# %% [markdown]
# **What to look at.** On the left the weights of one layer: a band of width 4. Then the same layer applied
# two and three times to its own output: which inputs does an output depend on? We differentiate to find out.
# Three steps of 3 positions, plus the position itself: 10.

# %%
def dependence(f, x):
    """(T, T): 1 where output t depends on input j."""
    jacobian = torch.autograd.functional.jacobian(f, x)  # (1, T, d, 1, T, d)
    return (jacobian.abs().sum(dim=(0, 2, 3, 5)) > 0).float()


generator = torch.Generator().manual_seed(3)
T, w = 20, 4
x = 0.7 * torch.randn(1, T, 6, generator=generator, dtype=torch.float64)
layers = [lambda y: window_attn(y, y, y, w)]
layers += [lambda y, below=layers[0]: layers[0](below(y))]
layers += [lambda y, below=layers[1]: layers[0](below(y))]
show_maps([window_attn(x, x, torch.eye(T, dtype=x.dtype)[None], w)[0]] + [dependence(f, x) for f in layers],
          ["weights, w = 4", "reach: 1 layer", "2 layers", "3 layers"], xlabel="input", ylabel="output")

# %% [markdown]
# ## 6. Block-sparse attention  ★★★ · 90 minutes
#
# Hardware likes dense blocks, and a band is not the only useful pattern. Cut the sequence into blocks of
# `block` positions, the last one shorter if need be: $n_b = \lceil T / \texttt{block} \rceil$. A small matrix
# for each head says which block of queries reads which blocks of keys:
#
# $$ A_{htj} > 0 \iff \mathrm{layout}_{h,\, \lfloor t/\texttt{block} \rfloor,\, \lfloor j/\texttt{block} \rfloor} = 1
# \tag{7} $$
#
# The result equals dense attention under the expanded mask. The point is to get it **without** the
# $T \times T$ matrix: at $T = 65\,536$ it would take 16 GiB per head, while a layout of 512-blocks has 16 384
# entries.
#
# BigBird (Zaheer et al. 2020, §2) composes its layout from three patterns: some **global** blocks that read
# everything and are read by everything, a **window** around the diagonal, and a few **random** blocks per
# row, which keep the path between any two positions short, as in a small-world graph.
#
# *Watch for* the softmax: it runs over all kept blocks of a row at once, not within each block. A row of the
# layout may be empty, and the last block may be short: positions beyond $T$ do not exist and must not receive
# weight.

# %% [markdown] hints="block_sparse_attention"
# 1. Begin with dense attention under the expanded mask: it is wrong only in memory, and tells you what to
#    compare with.
# 2. Go through the rows of blocks. For one row, collect the positions of its kept blocks, take those keys and
#    values, and attend with a single softmax.
# 3. The last block may be short: cut what you have expanded to T positions. A row that keeps nothing gives
#    matrices with no columns; what is their product?
# 4. For the layout, start from the window and switch on the global rows, the global columns and the random
#    blocks, one after the other.

# %% exercise="block_sparse_attention"
def block_sparse(q: Tensor, k: Tensor, v: Tensor, layout: Tensor, block: int) -> Tensor:
    """Block-sparse self-attention, not causal: Zaheer et al. (2020), §2; our Eq. (7).

    q, k    (B, H, T, d) float
    v       (B, H, T, e) float
    layout  (H, nb, nb) bool with nb = ceil(T / block): does query block i of head h read key block j?
    block   int >= 1; block i holds the positions i*block:min((i+1)*block, T)

    Returns (B, H, T, e) float; 0 (with gradients 0) for queries whose row of `layout` is all False.

    Memory: no tensor may have a query axis and a key axis of length T at once. Precisely: with at most m True entries
    in a row of `layout`, no tensor that you create (views aside) has more elements than `layout` itself or than
    2 * B * H * nb * block * max(m, 1) * max(block, d, e), whichever is larger. The grader measures it.
    """
    ### BEGIN SOLUTION
    heads = []
    for h in range(q.shape[1]):
        rows = []
        for i, kept in enumerate(layout[h]):
            queries = q[:, h, i * block:(i + 1) * block]
            columns = kept.repeat_interleave(block)[:k.shape[2]]
            scores = queries @ k[:, h][:, columns].transpose(-2, -1) / math.sqrt(q.shape[-1])
            rows.append(torch.softmax(scores, dim=-1) @ v[:, h][:, columns])
        heads.append(torch.cat(rows, dim=1))
    return torch.stack(heads, dim=1)
    ### END SOLUTION


def bigbird_layout(nb: int, n_global: int, n_window: int, rand_idx: Tensor) -> Tensor:
    """The layout of one BigBird head, (nb, nb) bool: does block i (row) read block j? Zaheer et al. (2020), §2.

    nb        int >= 1: number of blocks
    n_global  int, 0 <= n_global <= nb: the first n_global blocks read all blocks and are read by all
    n_window  int >= 1, odd: the window's blocks, centred: |i - j| <= (n_window - 1) / 2; it does not wrap around
    rand_idx  (nb, r) long in [0, nb), r >= 0: block i also reads the blocks rand_idx[i]; a block that is listed
              twice, or that i reads anyway, counts once

    Raises ValueError if n_window is even.
    """
    ### BEGIN SOLUTION
    if n_window % 2 == 0:
        raise ValueError(f"a centred window has an odd number of blocks, not {n_window}")
    i = torch.arange(nb, device=rand_idx.device)
    layout = (i[:, None] - i).abs() <= n_window // 2
    layout[:n_global] = True
    layout[:, :n_global] = True
    return layout.scatter(1, rand_idx, True)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** The three ingredients and their union, and below it the weights of one head of width 8
# on 96 positions with blocks of 8: within the kept blocks the weights vary freely, everything else is exactly
# zero. The gain is the share of the area that is dark, and it grows with $T$: a row keeps the same number of
# blocks, however many there are. (A global row does not. Implementations compute the few global rows
# separately.)

# %%
generator = torch.Generator().manual_seed(4)
nb, block = 12, 8
nothing = torch.zeros(nb, 0, dtype=torch.long)
rand_idx = torch.randint(nb, (nb, 2), generator=generator)
parts = [bigbird_layout(nb, 1, 1, nothing), bigbird_layout(nb, 0, 3, nothing), bigbird_layout(nb, 0, 1, rand_idx),
         bigbird_layout(nb, 1, 3, rand_idx)]
show_maps([part.float() for part in parts], ["global", "window", "random", "BigBird"], xlabel="key block",
          ylabel="query block", cmap="cividis")

T = nb * block
q, k = torch.randn(2, 1, 1, T, 8, generator=generator)
weights = block_sparse(q, k, torch.eye(T).expand(1, 1, T, T), parts[-1][None], block)[0, 0]
fig, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
image = ax.imshow(weights.clamp_min(1e-4).log10(), cmap="viridis", vmin=-4, vmax=0, interpolation="nearest")
ax.set(title="log10 of the weights", xlabel="key", ylabel="query")
fig.colorbar(image, ax=ax)
plt.show()
print(f"kept: {parts[-1].float().mean():.0%} of all pairs of blocks")

# %% [markdown]
# ## 7. Sparsemax  ★★★ · 60 minutes
#
# So far the sparsity came from us. A softmax never gives weight zero by itself: among thousands of irrelevant
# keys the many small weights add up. Martins & Astudillo (2016) replace it by the point of the probability
# simplex $\Delta$ that is nearest to the scores:
#
# $$ \mathrm{sparsemax}(z) = \arg\min_{p \in \Delta} \lVert p - z \rVert^2, \qquad
#    \Delta = \{ p : p_i \ge 0, \textstyle\sum_i p_i = 1 \} \tag{8} $$
#
# A projection onto a polytope often lands on a face, where some coordinates are *exactly* zero. Its closed
# form (their Prop. 1 and Alg. 1) shifts all scores by one threshold: with the scores in descending order
# $z_{(1)} \ge \dots \ge z_{(K)}$,
#
# $$ p_i = \max(z_i - \tau, 0), \qquad
#    \tau = \frac{\sum_{j \le k} z_{(j)} - 1}{k}, \qquad
#    k = \max\Bigl\{ j : 1 + j\, z_{(j)} > \sum_{l \le j} z_{(l)} \Bigr\} \tag{9} $$
#
# where $k$ is the size of the support, the number of positive weights.
#
# *Backward.* Let $s_i = 1$ on the support and 0 elsewhere. Near almost every $z$ the support does not change,
# so $p$ is linear in $z$, and its Jacobian and the gradient of a loss with $g = \partial \ell / \partial p$
# are (their §2.5)
#
# $$ J = \mathrm{diag}(s) - \frac{s s^\top}{k}, \qquad
#    \frac{\partial \ell}{\partial z_i} = s_i \Bigl( g_i - \frac{1}{k} \sum_j s_j g_j \Bigr) \tag{10} $$
#
# All you need to remember is the support. That makes a cheap backward pass, and a good occasion to write a
# `torch.autograd.Function`: `forward` computes the output and saves what `backward` needs in `ctx`;
# `backward` receives $g$ and returns $\partial \ell / \partial z$.
#
# *Watch for* equal scores (they share equally), for several leading axes, and for the state: two forward
# passes may come before the first backward pass, so what is saved must be saved in `ctx`. Shifting all scores
# of a row does not change the result; subtracting the largest first keeps digits when scores are large.

# %% [markdown] hints="sparsemax"
# 1. Sort in descending order and form the cumulative sums: then Eq. (9) is one comparison for each j.
# 2. k counts how often the condition holds; tau needs the cumulative sum *at* k, so mind that positions are
#    counted from 0.
# 3. Subtract the largest score first: the result is the same, and large scores keep their digits.
# 4. The backward pass needs the support and nothing else. On it, subtract the mean of the incoming gradient
#    over the support; off it, the gradient is zero.

# %% exercise="sparsemax"
class Sparsemax(torch.autograd.Function):
    """Eq. (9) forward, Eq. (10) backward."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        """z (..., K) float -> p (..., K) float."""
        ### BEGIN SOLUTION
        z = z - z.amax(dim=-1, keepdim=True)
        descending = z.sort(dim=-1, descending=True).values
        total = descending.cumsum(dim=-1)
        j = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype, device=z.device)
        k = (1 + j * descending > total).sum(dim=-1, keepdim=True)
        tau = (total.gather(-1, k - 1) - 1) / k
        p = (z - tau).clamp(min=0)
        ctx.save_for_backward(p > 0)
        return p
        ### END SOLUTION

    @staticmethod
    def backward(ctx, grad_p: Tensor) -> Tensor:
        """grad_p (..., K) float, the gradient of the loss with respect to p -> the one with respect to z."""
        ### BEGIN SOLUTION
        (support,) = ctx.saved_tensors
        mean = (grad_p * support).sum(dim=-1, keepdim=True) / support.sum(dim=-1, keepdim=True)
        return (grad_p - mean) * support
        ### END SOLUTION


def sparsemax(z: Tensor) -> Tensor:
    """Projection onto the simplex along the last axis: Martins & Astudillo (2016), Alg. 1; our Eqs. (8)-(9).

    z  (..., K) float, finite, K >= 1, with any number of leading axes (also none)

    Returns p (..., K) float: p >= 0, exactly 0 off the support, each row sums to 1; equal scores get equal
    weights. The gradient is Eq. (10) with the support {i : p_i > 0}; where a score equals the threshold tau
    exactly it is not defined, and not tested. Any way of computing it is accepted.
    """
    return Sparsemax.apply(z)

# %% [markdown]
# **What to look at.** On the left the weights of the scores $(t, 0.5, 0)$ as $t$ grows. The softmax (dashed)
# bends and never arrives; the sparsemax (solid) is piecewise linear, and every kink is a score entering or
# leaving the support. On the right both, for the same twelve queries and 24 keys: the sparsemax leaves a few
# keys per query.

# %%
t = torch.linspace(-2, 3, 300)
z = torch.stack([t, torch.full_like(t, 0.5), torch.zeros_like(t)], dim=-1)
colours = ["#440154", "#21918c", "#d9a400"]
fig, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained", width_ratios=[1.5, 1, 1])
for i, name in enumerate(["$t$", "0.5", "0"]):
    axes[0].plot(t, sparsemax(z)[:, i], color=colours[i], linewidth=2, label=f"score {name}")
    axes[0].plot(t, torch.softmax(z, dim=-1)[:, i], color=colours[i], linestyle="--", linewidth=1)
axes[0].set(title="sparsemax (solid), softmax (dashed)", xlabel="$t$", ylabel="weight")
axes[0].legend(fontsize=8)
scores = torch.randn(12, 24, generator=torch.Generator().manual_seed(5)) * 1.5
for ax, name, p in ((axes[1], "softmax", torch.softmax(scores, dim=-1)), (axes[2], "sparsemax", sparsemax(scores))):
    ax.imshow(p, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    ax.set(title=f"{name}: {(p > 0).sum(-1).float().mean():.1f} keys per query", xlabel="key", ylabel="query")
plt.show()

# %% [markdown]
# ## Going further
#
# - **Memory without sparsity.** The softmax can be accumulated block by block with a running maximum and a
#   running sum, so exact attention needs no $T \times T$ matrix either (Milakov & Gimelshein 2018; Dao et al.
#   2022). Can you rewrite `block_sparse` that way, so that even a full row of the layout stays small?
# - **The window, faster.** `k.unfold` gives every query its own $w$ keys: $T \cdot w$ scores instead of
#   $T^2$. What do the first $w - 1$ positions need?
# - **Between softmax and sparsemax** lies a family, the $\alpha$-entmax (Peters et al. 2019), with
#   $\alpha = 1$ and $\alpha = 2$ at its ends. A head can learn its own $\alpha$ (Correia et al. 2019).
# - **Is attention an explanation?** A map shows what was read, not what it was used for. In the case study,
#   swap the values of two positions with large and with small weights: how much does the answer change?
# - **Attention as memory.** Equation (1) is one update step of a modern Hopfield network (Ramsauer et al.
#   2021); the scale $1/\sqrt d$ plays the part of a temperature. What happens when you apply it repeatedly,
#   feeding the output back as the query?
#
# ## References
#
# - J. Ainslie et al. *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints.*
#   EMNLP 2023.
# - D. Bahdanau, K. Cho, Y. Bengio. *Neural Machine Translation by Jointly Learning to Align and Translate.*
#   ICLR 2015.
# - I. Beltagy, M. Peters, A. Cohan. *Longformer: The Long-Document Transformer.* 2020.
# - R. Child, S. Gray, A. Radford, I. Sutskever. *Generating Long Sequences with Sparse Transformers.* 2019.
# - G. Correia, V. Niculae, A. Martins. *Adaptively Sparse Transformers.* EMNLP 2019.
# - T. Dao et al. *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness.* NeurIPS 2022.
# - A. Martins, R. Astudillo. *From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label
#   Classification.* ICML 2016.
# - M. Milakov, N. Gimelshein. *Online Normalizer Calculation for Softmax.* 2018.
# - B. Peters, V. Niculae, A. Martins. *Sparse Sequence-to-Sequence Models.* ACL 2019.
# - H. Ramsauer et al. *Hopfield Networks is All You Need.* ICLR 2021.
# - N. Shazeer. *Fast Transformer Decoding: One Write-Head is All You Need.* 2019.
# - A. Vaswani et al. *Attention Is All You Need.* NeurIPS 2017.
# - M. Zaheer et al. *Big Bird: Transformers for Longer Sequences.* NeurIPS 2020.
