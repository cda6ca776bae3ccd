# %% [markdown]
# # Graph neural networks
#
# A molecule is atoms and bonds, a city is crossings and roads, a market is people and payments. Such data have no
# first element and no grid: an atom has two neighbours or four, and to number the atoms otherwise is not to change the
# molecule. A network for them must accept any number of neighbours and must not depend on the numbering.
#
# One idea does both. Every node sends a **message** along each of its edges; every node **gathers** what arrives with
# an operation that has no order, such as a sum; every node **updates** itself from what it gathered. All nodes share
# the weights. After one such layer a node knows its neighbours, after $k$ layers whatever is at most $k$ edges away.
# Convolution on images is the special case in which the graph is a grid and each direction has a weight of its own;
# the attention of a transformer is the one in which everybody is everybody's neighbour.
#
# You will build the family in six steps: the softmax over neighbours, graph convolution, graph attention, message
# passing in general, and two networks for graphs that live in time. Each exercise can be solved without the others.
# The cell below an exercise checks your code and shows the smallest example on which it fails; the pictures after it
# are drawn by your own code. In a cell of your own, `hint("gcn_conv")` gives a hint, then one more each time, and
# `progress()` shows what is done.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `scatter_softmax` | ★ | 20 | a softmax over groups of any size, without a loop |
# | `gcn_conv` | ★ | 25 | the graph convolution |
# | `gat_conv` | ★★ | 50 | neighbours that are not equally important, static and dynamic attention |
# | `mpnn_layer` | ★★ | 40 | the general scheme: edge features, three ways to gather, many graphs at once |
# | `gconv_gru` | ★★ | 50 | a fixed graph with signals that change in time |
# | `temporal_memory` | ★★★ | 90 | a stream of events, nodes that remember, and no look into the future |
#
# ### Notation, and rules for every exercise
#
# $N$ nodes with $F$ features each, the rows of $X \in \mathbb{R}^{N \times F}$; $E$ edges. Most graphs have few of the
# $N^2$ possible edges, so they are stored as a list: `edge_index` is `(2, E)`, its rows are **source** and
# **destination**, and a message travels from `edge_index[0, k]` to `edge_index[1, k]`. As a matrix, the graph is
# $A_{ij}$, the number of edges **from $j$ to $i$**: the destination is the row, so $A X$ sums over what arrives.
#
# - Edges are directed; an undirected edge is in the list twice, once each way. They come in any order.
# - The same edge may be listed more than once: each copy sends its own message. An edge from a node to itself is an
#   edge like any other. A node may have no edge, and **$E$ may be 0**; $N$ and all other sizes are at least 1.
# - `float` means float32 or float64, all float arguments alike. Compute in that dtype and return it; `long` is int64.
# - Weights are stored `(in, out)`, as the papers write them: $X W$ is `x @ w`.
# - Arguments may be views of other tensors with any strides. Never change them, and remember nothing between calls.
# - Gradients must reach every float argument.
# - `index_add`, `scatter_reduce` and the like are your tools. A Python loop over edges is right, too, and slow.
#   `torch_geometric` has most of what you are about to build: keep it to compare your results with.

# %% role="setup"
import math

import torch
from torch import Tensor

from etude import check, hint, progress

# %% [markdown]
# On the left one layer as node $i$ sees it: each neighbour $j$ sends a message along its edge. On the right the two
# kinds of time. A sensor network is measured at every tick, everywhere: a sequence of signals on one graph. Payments
# happen one by one: a sequence of events, each of which concerns two nodes. Blue is what is given and what comes out,
# orange what is computed.

# %%
import matplotlib.pyplot as plt
from etude.plots import BLUE, INK, ORANGE, draw_graph, light, show_maps

light()
torch.set_num_threads(1)  # the tensors are small: several threads would wait for each other
fig, axes = plt.subplots(1, 2, figsize=(13, 5.4), layout="constrained")
draw_graph(axes[0], "one layer, seen from node $i$", {
    "j1": (0, 0, "$x_{j}$", BLUE), "e1": (2.2, 0, "$e_{ij}$", BLUE), "j2": (4.4, 0, "$x_{k}$", BLUE),
    "e2": (6.6, 0, "$e_{ik}$", BLUE), "i": (9.2, 0, "$x_i$", BLUE), "m1": (1.1, 1.4, "message", ORANGE),
    "m2": (5.5, 1.4, "message", ORANGE), "sum": (3.3, 2.8, "gather", ORANGE), "u": (6.2, 4.2, "update", ORANGE),
    "out": (6.2, 5.6, "$x_i'$", BLUE),
}, {"j1": ["m1"], "e1": ["m1"], "j2": ["m2"], "e2": ["m2"], "i": ["m2", "u"], "m1": ["sum"], "m2": ["sum"],
    "sum": ["u"], "u": ["out"]}, {"sum": "sum, mean, max,\nor attention", "u": "the same weights\nfor all nodes"})
draw_graph(axes[1], "signals on a graph, and events between nodes", {
    **{f"x{t}": (2.4 * t, 0, f"$X_{t}$", BLUE) for t in (1, 2, 3)},
    **{f"h{t}": (2.4 * t, 1.4, "graph GRU", ORANGE) for t in (1, 2, 3)}, "h4": (9.4, 1.4, "$H_3$", BLUE),
    **{f"e{t}": (2.4 * t, 3.6, f"${i} \\to {j}$ at $t_{t}$", BLUE) for t, i, j in ((1, 4, 1), (2, 1, 6), (3, 2, 4))},
    **{f"s{t}": (2.4 * t, 5, text, ORANGE) for t, text in ((1, "$s_4, s_1$"), (2, "$s_1, s_6$"), (3, "$s_2, s_4$"))},
    "s": (9.4, 5, "memory", BLUE),
}, {**{f"x{t}": [f"h{t}"] for t in (1, 2, 3)}, "h1": ["h2"], "h2": ["h3"], "h3": ["h4"],
    **{f"e{t}": [f"s{t}"] for t in (1, 2, 3)}, "s1": ["s2"], "s2": ["s3"], "s3": ["s"]}, width=1.9)
plt.show()

# %% [markdown]
# ## 1. A softmax over groups  ★ · 20 minutes
#
# Attention over neighbours needs weights that are positive and sum to one *for every node*. Each edge $k$ has a score
# $s_k$ and a destination $\mathrm{dst}(k)$, and the edges into a node form a group. Veličković et al. (2018, Eq. 2)
# write
#
# $$ \alpha_k = \frac{e^{s_k}}{\sum_{l\,:\,\mathrm{dst}(l) = \mathrm{dst}(k)} e^{s_l}} \tag{1} $$
#
# Groups differ in size, so there is no axis for `torch.softmax` to run along. Two operations on lists replace the
# loop over nodes. **Gather**, `value[dst]`, gives each edge what belongs to its node; **scatter**,
# `out.index_add(0, dst, value)`, gives each node the sum of what belongs to its edges. Every exercise of this unit
# alternates between the two.
#
# *Why subtract a maximum?* $e^{s}$ overflows float32 beyond 88, and Eq. (1) is the same if all scores of a group are
# shifted by one number. Choose it well: it has to suit the *group*. If one node's scores are all a thousand below
# another's, a shift by the largest score of all leaves this node with $0/0$.
#
# *Watch for* the difference between adding and assigning: where an index occurs twice, `out[i] = v` and `out[i] += v`
# keep one of the values and lose the others.

# %% exercise="scatter_softmax"
def scatter_softmax(s: Tensor, dst: Tensor, num_nodes: int) -> Tensor:
    """The softmax over the edges into each node: Veličković et al. (2018), Eq. 2; our Eq. (1).

    s          (E,) float, finite: a score for each edge; E may be 0
    dst        (E,) long in [0, num_nodes): the node that the edge leads to; in any order, not all nodes need occur
    num_nodes  int >= 1

    Returns (E,) float, in the order of `s`; for each node that occurs in `dst`, the weights of its edges sum to 1.
    Nothing is added to the denominator. Scores of any size, and groups that are far apart, give finite weights.
    """
    ### BEGIN SOLUTION
    highest = s.new_full((num_nodes,), -math.inf).scatter_reduce(0, dst, s.detach(), "amax")
    weight = torch.exp(s - highest[dst])
    total = s.new_zeros(num_nodes).index_add(0, dst, weight)
    return weight / total[dst]
    ### END SOLUTION

# %% [markdown] hints="scatter_softmax"
# - Three steps: the largest score of each node, the exponentials, and their sum for each node. The first and the last
#   go from edges to nodes (scatter), and each is followed by a step back (gather).
# - `scatter_reduce` with "amax" takes the largest value for each index. What must the result be filled with before,
#   so that scores below zero are not lost?
# - Gradients must pass through numerator and denominator. The maximum only shifts, so it may be a constant.

# %% [markdown]
# **What to look at.** Twelve edges into four nodes, in the order of the list; edges of one colour and letter share
# their destination. Above the scores, below the weights: node C has a single edge, whose weight is 1 whatever its
# score. Node D's scores are a thousand lower than drawn, and that changes nothing.

# %%
generator = torch.Generator().manual_seed(0)
dst = torch.tensor([0, 1, 3, 0, 2, 1, 0, 3, 1, 1, 0, 3])
scores = 1.5 * torch.randn(12, generator=generator)
weights = scatter_softmax(scores - 1000.0 * (dst == 3), dst, 4)
colours = ["#440154", "#21918c", "#d9a400", "#b0413e"]
fig, axes = plt.subplots(2, 1, figsize=(9, 4.4), sharex=True, layout="constrained")
axes[0].bar(range(12), scores, color=[colours[node] for node in dst])
axes[0].set(ylabel="score", title="scores (D: 1000 lower than drawn) and weights")
axes[1].bar(range(12), weights, color=[colours[node] for node in dst])
axes[1].set(ylabel="weight", ylim=(0, 1.15), xlabel="edge")
for k, node in enumerate(dst.tolist()):
    axes[1].text(k, weights[k] + 0.02, "ABCD"[node], ha="center", fontsize=9)
plt.show()
print("sums:", {letter: round(weights[dst == node].sum().item(), 6) for node, letter in enumerate("ABCD")})

# %% [markdown]
# ## 2. Graph convolution  ★ · 25 minutes
#
# Kipf & Welling (2017, Eq. 2) propose the plainest layer that works. Let every node be its own neighbour as well,
# $\tilde A = A + I$, count the neighbours, $\tilde D_{ii} = \sum_j \tilde A_{ij}$, and compute
#
# $$ Y = \tilde D^{-1/2}\, \tilde A\, \tilde D^{-1/2}\, X W, \qquad\text{that is}\qquad
#    y_i = \sum_{j} \frac{\tilde A_{ij}}{\sqrt{\tilde d_i\, \tilde d_j}}\; x_j W \tag{2} $$
#
# (the nonlinearity comes after it and is not part of the exercise).
#
# *Why the loops?* Without them a node would forget its own features at every layer.
#
# *Why the degrees?* A sum grows with the number of neighbours, and from layer to layer. Dividing by $\tilde d_i$
# gives the mean; the symmetric form shares the division between both ends, so that a node with a million followers
# shouts less loudly. On an undirected graph the matrix is symmetric and its eigenvalues lie in $(-1, 1]$: repeated
# application cannot explode.
#
# *Conventions.* The paper's graphs are undirected. For ours, $\tilde d$ counts what **arrives**, the row sums of
# $\tilde A$, at both ends of an edge. And $A + I$ is meant literally: a loop that is in the list already, or an edge
# that is listed twice, counts in addition. (`torch_geometric`'s `GCNConv` leaves a node that has a loop as it is.)
#
# *Watch for* which end of the edge is the row, and for degrees that belong to $A$ instead of $\tilde A$.

# %% exercise="gcn_conv"
def gcn_conv(x: Tensor, edge_index: Tensor, w: Tensor) -> Tensor:
    """Graph convolution: Kipf & Welling (2017), Eq. 2, without the nonlinearity; our Eq. (2).

    x           (N, F) float
    edge_index  (2, E) long in [0, N): (source, destination); repeated edges and loops count each time; E may be 0
    w           (F, O) float

    Returns (N, O) float. One loop is added for each node, whether or not it has any; degrees are those of A + I and
    count incoming edges. A node into which no edge leads returns x_i w.
    """
    ### BEGIN SOLUTION
    loops = torch.arange(x.shape[0], device=x.device).expand(2, -1)
    src, dst = torch.cat([edge_index, loops], dim=1)
    degree = x.new_zeros(x.shape[0]).index_add(0, dst, x.new_ones(dst.shape[0]))
    scale = (degree[dst] * degree[src]).rsqrt()
    messages = scale[:, None] * (x @ w)[src]
    return torch.zeros_like(x @ w).index_add(0, dst, messages)
    ### END SOLUTION

# %% [markdown] hints="gcn_conv"
# - Add the loops to the list of edges first: then everything that follows treats them like other edges.
# - The degree of a node is how often it occurs among the destinations. An edge needs the degrees of both its ends.
# - Multiply by the weights before or after the sum, as you like: both are linear.

# %% [markdown]
# **What to look at.** Two groups of 20 people, friends mostly within their group, and each with two random numbers.
# Now apply your layer with $W = I$, again and again: a node's numbers become a mean over an ever larger neighbourhood.
# After a few steps the groups have come apart although nobody was told of them: that is why graph convolution helps.
# After many steps everything lies on one line through the origin (the eigenvector of eigenvalue 1, whose entries
# are $\sqrt{\tilde d_i}$) and the groups are gone: **oversmoothing** (Li et al. 2018), the reason why such networks
# are shallow.

# %%
def two_groups(n, inside, between, generator):
    """An undirected random graph of two groups of n: edges (2, E), each in both directions, and the groups (2n,)."""
    group = torch.arange(2).repeat_interleave(n)
    chance = torch.where(group[:, None] == group, inside, between)
    pairs = (torch.rand(2 * n, 2 * n, generator=generator) < chance).triu(1).nonzero().T
    return torch.cat([pairs, pairs.flip(0)], dim=1), group


generator = torch.Generator().manual_seed(3)
edges, group = two_groups(20, 0.4, 0.02, generator)
x = torch.randn(40, 2, generator=generator)
fig, axes = plt.subplots(1, 5, figsize=(14, 3.1), layout="constrained")
done = 0
for ax, steps in zip(axes, (0, 1, 3, 8, 400), strict=True):
    while done < steps:
        x, done = gcn_conv(x, edges, torch.eye(2)), done + 1
    for value, colour, marker in ((0, "#d9a400", "o"), (1, "#440154", "^")):
        ax.scatter(*x[group == value].T, color=colour, marker=marker, s=22)
    ax.set(title=f"after {steps} steps")
    ax.axhline(0, color="#cccccc", zorder=0)
    ax.axvline(0, color="#cccccc", zorder=0)
plt.show()

# %% [markdown]
# ## 3. Graph attention  ★★ · 50 minutes
#
# Graph convolution weighs neighbours by their degrees, whatever they have to say. Veličković et al. (2018, Eqs. 1-4)
# let the features decide. With $z_i = x_i W$, cut into $H$ heads of width $D$, and with $\mathcal N_i$ the edges into
# $i$ together with one added loop, each head computes
#
# $$ s_{ij} = \mathrm{LeakyReLU}\bigl(a_{\mathrm{dst}} \cdot z_i + a_{\mathrm{src}} \cdot z_j\bigr), \qquad
#    \alpha_{ij} = \frac{e^{s_{ij}}}{\sum_{k \in \mathcal N_i} e^{s_{ik}}}, \qquad
#    y_i = \sum_{j \in \mathcal N_i} \alpha_{ij}\, z_j \tag{3} $$
#
# and the outputs of the heads stand side by side. (In the paper $a_{\mathrm{dst}}$ and $a_{\mathrm{src}}$ are the two
# halves of one vector $\mathbf a$.) The work is linear in the number of edges, as no other pairs are ever scored.
#
# *A flaw.* Brody et al. (2022) noticed what Eq. (3) cannot do. A LeakyReLU never falls, so the neighbours of $i$ are
# ranked by $a_{\mathrm{src}} \cdot z_j$ alone: in each head **every node prefers the same neighbours**. They call this
# *static* attention. Their repair moves one operation (their Eq. 7):
#
# $$ s_{ij} = a \cdot \mathrm{LeakyReLU}\bigl(x_i W_{\mathrm{dst}} + x_j W_{\mathrm{src}}\bigr), \qquad
#    y_i = \sum_{j \in \mathcal N_i} \alpha_{ij}\; x_j W_{\mathrm{src}} \tag{4} $$
#
# Now the nonlinearity stands between the two ends and the vector $a$: a small network with one hidden layer, which can
# score any pair as it likes.
#
# *Conventions.* Head $h$ owns the columns $hD, \dots, (h+1)D - 1$. As in exercise 2, one loop is added for every node,
# in addition to what the list holds, and every copy of an edge takes part. (`torch_geometric`'s `GATConv` takes the
# list's own loops out first.)
#
# *Watch for* which edges share a denominator, and for scores that are large: they must not overflow.

# %% exercise="gat_conv"
def gat_conv(x: Tensor, edge_index: Tensor, w: Tensor, a_src: Tensor, a_dst: Tensor, slope: float = 0.2) -> Tensor:
    """Graph attention with several heads: Veličković et al. (2018), Eqs. 1-4, no nonlinearity after it; our Eq. (3).

    x             (N, F) float
    edge_index    (2, E) long in [0, N): (source, destination); repeated edges and loops count each time; E may be 0
    w             (F, H*D) float; head h owns the columns h*D:(h+1)*D
    a_src, a_dst  (H, D) float: row h scores the source's, the destination's part in head h
    slope         float, 0 <= slope <= 1: of the LeakyReLU below zero

    Returns (N, H*D) float, the heads side by side. One loop is added for each node, whether or not it has any.
    """
    ### BEGIN SOLUTION
    loops = torch.arange(x.shape[0], device=x.device).expand(2, -1)
    src, dst = torch.cat([edge_index, loops], dim=1)
    z = (x @ w).unflatten(-1, a_src.shape)
    raw = (z * a_dst).sum(-1)[dst] + (z * a_src).sum(-1)[src]
    scores = torch.where(raw > 0, raw, slope * raw)
    at = dst[:, None].expand_as(scores)
    highest = torch.full_like(z[..., 0], -math.inf).scatter_reduce(0, at, scores.detach(), "amax")
    weight = torch.exp(scores - highest[dst])
    weight = weight / torch.zeros_like(z[..., 0]).index_add(0, dst, weight)[dst]
    return torch.zeros_like(z).index_add(0, dst, weight[..., None] * z[src]).flatten(1)
    ### END SOLUTION


def gatv2_conv(x: Tensor, edge_index: Tensor, w_src: Tensor, w_dst: Tensor, a: Tensor, slope: float = 0.2) -> Tensor:
    """Graph attention with dynamic scores: Brody et al. (2022), Eq. 7; our Eq. (4).

    x             (N, F) float
    edge_index    (2, E) long in [0, N), as in `gat_conv`
    w_src, w_dst  (F, H*D) float; head h owns the columns h*D:(h+1)*D
    a             (H, D) float, one row per head
    slope         float, 0 <= slope <= 1: of the LeakyReLU below zero

    Returns (N, H*D) float, the heads side by side; what is mixed are the rows of `x @ w_src`. One loop is added for
    each node, whether or not it has any.
    """
    ### BEGIN SOLUTION
    loops = torch.arange(x.shape[0], device=x.device).expand(2, -1)
    src, dst = torch.cat([edge_index, loops], dim=1)
    values, asks = (x @ w_src).unflatten(-1, a.shape), (x @ w_dst).unflatten(-1, a.shape)
    hidden = asks[dst] + values[src]
    scores = (torch.where(hidden > 0, hidden, slope * hidden) * a).sum(-1)
    at = dst[:, None].expand_as(scores)
    highest = torch.full_like(values[..., 0], -math.inf).scatter_reduce(0, at, scores.detach(), "amax")
    weight = torch.exp(scores - highest[dst])
    weight = weight / torch.zeros_like(values[..., 0]).index_add(0, dst, weight)[dst]
    return torch.zeros_like(values).index_add(0, dst, weight[..., None] * values[src]).flatten(1)
    ### END SOLUTION

# %% [markdown] hints="gat_conv"
# - Work with `(N, H, D)` for nodes, `(E, H)` for scores and weights, `(E, H, D)` for messages; the heads are merged at
#   the end. As in exercise 2, put the loops into the list first.
# - Each half of the score in Eq. (3) belongs to a node: compute it for the nodes, then gather it for the edges.
# - The softmax is that of exercise 1, with one column per head. The groups are the edges that share a *destination*.
# - For Eq. (4) the LeakyReLU comes before the product with `a`: what has the shape `(E, H, D)` at that point?

# %% [markdown]
# **Case study: looking things up** (after Brody et al. 2022, §4.1). Eight nodes each hold a key and a value, drawn
# anew in every graph; eight more nodes each ask for one of the keys. All of the first send to all of the second, and
# one layer of attention has to bring everyone the value of the key that they asked for. No ranking suits all who ask,
# so static attention cannot do it, however long it is trained: it can answer for a key or two, and guess the rest.

# %%
def lookup_graphs(n, size, generator):
    """n graphs as one: features (n*2*size, 3*size), edges (2, n*size*size), and the answers (n*size,)."""
    one_hot = torch.eye(size)
    values = torch.randint(size, (n, size), generator=generator)
    holders = torch.cat([one_hot.expand(n, -1, -1), one_hot[values], torch.zeros(n, size, size)], dim=-1)
    askers = torch.cat([torch.zeros(n, size, 2 * size), one_hot.expand(n, -1, -1)], dim=-1)
    pairs = torch.cartesian_prod(torch.arange(size), torch.arange(size, 2 * size))
    edges = (pairs + 2 * size * torch.arange(n)[:, None, None]).flatten(0, 1).T
    return torch.cat([holders, askers], dim=1).flatten(0, 1), edges, values.flatten()


def answers_of(layer, weights, x, edges, size):
    """Scores for the answers of those who ask, (n*size, size)."""
    *layer_weights, readout = weights
    return layer(x, edges, *layer_weights).unflatten(0, (-1, 2 * size))[:, size:].flatten(0, 1) @ readout


def trained(layer, shapes, size, steps=150):
    """The layer's weights after training, and its loss in each step."""
    generator = torch.Generator().manual_seed(1)
    weights = [(0.4 * torch.randn(shape, generator=generator)).requires_grad_() for shape in shapes]
    optimizer = torch.optim.Adam(weights, lr=0.02)
    losses = []
    for _ in range(steps):
        x, edges, values = lookup_graphs(16, size, generator)
        loss = torch.nn.functional.cross_entropy(answers_of(layer, weights, x, edges, size), values)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [weight.detach() for weight in weights], losses


S, D = 8, 32
static, static_losses = trained(gat_conv, [(3 * S, D), (1, D), (1, D), (D, S)], S)
dynamic, dynamic_losses = trained(gatv2_conv, [(3 * S, D), (3 * S, D), (1, D), (D, S)], S)
x, edges, values = lookup_graphs(100, S, torch.Generator().manual_seed(2))
for name, layer, weights in (("static", gat_conv, static), ("dynamic", gatv2_conv, dynamic)):
    right = (answers_of(layer, weights, x, edges, S).argmax(-1) == values).float().mean()
    print(f"{name:8s}right answers on new graphs: {right:.0%}")

# %% [markdown]
# **What to look at.** The weights of one graph, row by row for those who ask. Adding columns to $W$ that copy a
# one-hot number of the node, and zeros to $a$, makes them visible in the output. Static attention prefers the same
# holders in every row; dynamic attention has found the diagonal.

# %%
def weights_of(layer, x, edges, *weights):
    """(N, N): how much node i (row) reads from node j. The last of `weights` are the score vectors, (1, D)."""
    nodes = len(x)
    x = torch.cat([x, torch.eye(nodes)], dim=1)
    wide = []
    for weight in weights:
        if len(weight) == 1:  # a score vector: it ignores the new columns
            wide.append(torch.cat([weight, torch.zeros(1, nodes)], dim=1))
        else:
            wide.append(torch.block_diag(weight, torch.eye(nodes)))
    return layer(x, edges, *wide)[:, -nodes:]


x, edges, _ = lookup_graphs(1, S, torch.Generator().manual_seed(3))
maps = [weights_of(gat_conv, x, edges, *static[:3]), weights_of(gatv2_conv, x, edges, *dynamic[:3])]
show_maps([one[S:, :S] for one in maps], ["static, Eq. (3)", "dynamic, Eq. (4)"], xlabel="key of the holder",
          ylabel="key asked for")
fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.plot(static_losses, "--", color="#21918c", label="static")
ax.plot(dynamic_losses, color="#440154", label="dynamic")
ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
ax.legend()
plt.show()

# %% [markdown]
# ## 4. Message passing  ★★ · 40 minutes
#
# Gilmer et al. (2017, Eqs. 1-3) saw that the networks proposed for molecules were all of one kind. A layer is a
# **message** function of both ends and the edge between them, an operation $\bigoplus$ without order that gathers the
# messages, and an **update**; a **readout** turns the nodes of a graph into one vector. Ours are affine maps with a
# tanh. With $k$ running over the edges, from $\mathrm{src}(k)$ to $\mathrm{dst}(k)$,
#
# $$ m_k = \tanh\bigl([\,x_{\mathrm{dst}(k)};\; x_{\mathrm{src}(k)};\; e_k\,]\, W_{\mathrm{msg}}
#    + b_{\mathrm{msg}}\bigr), \qquad g_i = \bigoplus_{k\,:\,\mathrm{dst}(k) = i} m_k \tag{5} $$
#
# $$ x_i' = \tanh\bigl([\,x_i;\; g_i\,]\, W_{\mathrm{upd}} + b_{\mathrm{upd}}\bigr), \qquad
#    r_G = \sum_{i \in G} x_i \tag{6} $$
#
# The semicolon joins vectors. $\bigoplus$ is the sum, the mean or, for each channel by itself, the maximum; where there
# is nothing to gather, $g_i = 0$ for all three.
#
# *Why it matters which.* Xu et al. (2019) ask what each of them can tell apart. The maximum sees which messages there
# are, the mean in which proportion, the sum how many of each. Only the sum keeps everything, and a network of sums is
# as good at telling graphs apart as the classical test of Weisfeiler and Leman, and no better.
#
# *Many graphs at once* need no padding: put them side by side as one graph without edges between them, and note in a
# vector `batch` which graph each node belongs to. That is how libraries make batches.
#
# *Watch for* messages that are all negative, for nodes without messages, and for edges in any order: row $k$ of `e`
# belongs to column $k$ of `edge_index`.

# %% exercise="mpnn_layer"
def mpnn_layer(x: Tensor, edge_index: Tensor, e: Tensor, w_msg: Tensor, b_msg: Tensor, w_upd: Tensor, b_upd: Tensor,
               aggr: str) -> Tensor:
    """One layer of message passing: Gilmer et al. (2017), Eqs. 1-2; our Eqs. (5) and (6), without the readout.

    x            (N, F) float
    edge_index   (2, E) long in [0, N): (source, destination); repeated edges and loops count each time; E may be 0.
                 No loops are added.
    e            (E, G) float: the features of the edges, in the order of edge_index
    w_msg, b_msg (2F+G, M), (M,) float; the rows of w_msg meet destination, source, edge, in this order
    w_upd, b_upd (F+M, O), (O,) float; the rows of w_upd meet the node, then what it gathered
    aggr         "sum", "mean" or "max" over the edges into a node; the maximum is taken channel by channel

    Returns (N, O) float. A node into which no edge leads gathers 0. Raises ValueError for another `aggr`.
    Where two messages share the maximum, gradients are not tested.
    """
    ### BEGIN SOLUTION
    if aggr not in ("sum", "mean", "max"):
        raise ValueError(f"aggr is sum, mean or max, not {aggr!r}")
    src, dst = edge_index
    messages = torch.tanh(torch.cat([x[dst], x[src], e], dim=1) @ w_msg + b_msg)
    nothing = x.new_zeros(x.shape[0], messages.shape[1])
    gathered = nothing.scatter_reduce(0, dst[:, None].expand_as(messages), messages,
                                      "amax" if aggr == "max" else aggr, include_self=False)
    return torch.tanh(torch.cat([x, gathered], dim=1) @ w_upd + b_upd)
    ### END SOLUTION


def graph_readout(x: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
    """The sum over the nodes of each graph: Xu et al. (2019), §4.2; our Eq. (6), right.

    x           (N, F) float
    batch       (N,) long in [0, num_graphs): the graph that each node belongs to, in any order
    num_graphs  int >= 1; the last graphs, too, may have no nodes

    Returns (num_graphs, F) float; 0 for a graph without nodes.
    """
    ### BEGIN SOLUTION
    return x.new_zeros(num_graphs, x.shape[1]).index_add(0, batch, x)
    ### END SOLUTION

# %% [markdown] hints="mpnn_layer"
# - All messages are one matrix product: gather both ends for every edge, and put the edge's features beside them.
# - A mean is a sum divided by a count, which may be 0. A maximum starts from nothing, not from 0: otherwise it never
#   falls below.
# - `scatter_reduce` knows all three. What does `include_self=False` do to nodes whose index does not occur?

# %% [markdown]
# **What to look at.** Five graphs; all nodes have the same feature, and all edges too. Each is read out after two of
# your layers with random weights, and the map shows how far apart two graphs are: a dark cell is a pair that the
# network cannot tell apart. The maximum and the mean see in every node of every graph the same, a neighbourhood of
# equals; what is left are the numbers of nodes, which the readout sums. The sum sees the degrees. But the ring of six
# and the two triangles are dark even so: every node has two neighbours, which have two neighbours each, and so on. No
# such layer can do better without features that break the tie (see *Going further*).

# %%
def both_ways(*pairs):
    """The undirected edges (2, E), each in both directions."""
    one_way = torch.tensor(pairs).T
    return torch.cat([one_way, one_way.flip(0)], dim=1)


graphs = {"ring": both_ways((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)),
          "triangles": both_ways((0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)),
          "path": both_ways((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)),
          "star": both_ways((0, 1), (0, 2), (0, 3), (0, 4), (0, 5)),
          "square": both_ways((0, 1), (1, 2), (2, 3), (3, 0))}
sizes = torch.tensor([int(one.max()) + 1 for one in graphs.values()])
starts = sizes.cumsum(0) - sizes
edges = torch.cat([one + start for one, start in zip(graphs.values(), starts, strict=True)], dim=1)
batch = torch.arange(5).repeat_interleave(sizes)
generator = torch.Generator().manual_seed(4)
M = 16
layers = [[0.4 * torch.randn(shape, generator=generator) for shape in ((2 * f + 1, M), (M,), (f + M, M), (M,))]
          for f in (1, M)]
maps = []
for aggr in ("sum", "mean", "max"):
    x = torch.ones(len(batch), 1)
    for layer in layers:
        x = mpnn_layer(x, edges, torch.ones(edges.shape[1], 1), *layer, aggr)
    read = graph_readout(x, batch, 5)
    maps.append(((read[:, None] - read).norm(dim=-1) + 1e-9).log10())
show_maps(maps, ["sum", "mean", "max"], low=-6, high=1, cmap="cividis", xlabel="graph", ylabel="graph")
print("graphs:", ", ".join(f"{number} {name}" for number, name in enumerate(graphs)))
print("the map shows log10 of the distance")

# %% [markdown]
# ## 5. A recurrent network on a graph  ★★ · 50 minutes
#
# Traffic sensors stand along roads: what one of them measures now, its neighbours will measure soon. Seo et al. (2018)
# and Li et al. (2018) take a recurrent network and replace **every matrix product by a graph convolution**, so that a
# state is kept for each node and mixes with its neighbours' states at each tick.
#
# The convolution reaches $K - 1$ edges far. With the weighted matrix $A_{ij}$, the sum of the weights of the edges from
# $j$ to $i$, and its row sums $d_i$,
#
# $$ \Theta \star X = \sum_{k=0}^{K-1} \hat A^k X\, \Theta_k, \qquad
#    \hat A = D^{-1/2} A\, D^{-1/2}, \qquad d_i^{-1/2} = 0 \text{ where } d_i = 0 \tag{7} $$
#
# There are no added loops: $\hat A^0 = I$ takes care of the node itself. With it, a gated recurrent unit reads
#
# $$ r = \sigma(\Theta^r_x \star X_t + \Theta^r_h \star H_{t-1} + b^r), \qquad
#    z = \sigma(\Theta^z_x \star X_t + \Theta^z_h \star H_{t-1} + b^z) \tag{8} $$
#
# $$ n = \tanh\bigl(\Theta^n_x \star X_t + \Theta^n_h \star (r \odot H_{t-1}) + b^n\bigr), \qquad
#    H_t = z \odot H_{t-1} + (1 - z) \odot n \tag{9} $$
#
# *Conventions.* The reset gate multiplies the state *before* the convolution, as in Li et al. (§2.3). (`torch.nn.GRU`
# multiplies afterwards; without a graph in between both are in use.) Powers of $\hat A$ are powers: Seo et al. use
# Chebyshev polynomials, Li et al. random walks in both directions.
#
# *Watch for* the cost: $\hat A^k X$ comes from $\hat A^{k-1} X$ by one more step over the edges, and the powers of
# $\hat A$ itself, which are no longer sparse, are never needed.

# %% exercise="gconv_gru"
def gconv_gru(xs: Tensor, edge_index: Tensor, edge_weight: Tensor, h0: Tensor, params: dict[str, Tensor]) -> Tensor:
    """A GRU with graph convolutions: Seo et al. (2018), §4; Li et al. (2018), §2.3; our Eqs. (7)-(9).

    xs           (T, N, F) float: a signal on the nodes for each of T steps
    edge_index   (2, E) long in [0, N): (source, destination); the same graph at all steps; E may be 0.
                 The weights of repeated edges add up; a loop is an edge like any other, and none is added.
    edge_weight  (E,) float > 0
    h0           (N, H) float: the state before the first step
    params       a dict of float tensors, with the three blocks in the order r, z, n:
                 "theta_x" (3, K, F, H), "theta_h" (3, K, H, H), "b" (3, H); K >= 1; index k is for the k-th power

    Returns (T, N, H) float: the states after each step. Degrees are sums of the weights of incoming edges, and a node
    with degree 0 has the factor 0 in Eq. (7).
    """
    ### BEGIN SOLUTION
    src, dst = edge_index
    degree = h0.new_zeros(h0.shape[0]).index_add(0, dst, edge_weight)
    root = torch.where(degree > 0, torch.where(degree > 0, degree, 1).rsqrt(), 0)
    entries = (root[dst] * edge_weight * root[src])[:, None]

    def convolve(x: Tensor, theta: Tensor) -> Tensor:
        total = x @ theta[0]
        for theta_k in theta[1:]:
            x = torch.zeros_like(x).index_add(0, dst, entries * x[src])
            total = total + x @ theta_k
        return total

    x_r, x_z, x_n = params["theta_x"]
    h_r, h_z, h_n = params["theta_h"]
    b_r, b_z, b_n = params["b"]
    h, states = h0, []
    for x in xs:
        r = torch.sigmoid(convolve(x, x_r) + convolve(h, h_r) + b_r)
        z = torch.sigmoid(convolve(x, x_z) + convolve(h, h_z) + b_z)
        n = torch.tanh(convolve(x, x_n) + convolve(r * h, h_n) + b_n)
        h = z * h + (1 - z) * n
        states.append(h)
    return torch.stack(states)
    ### END SOLUTION

# %% [markdown] hints="gconv_gru"
# - Write the convolution of Eq. (7) first, as a function of its own; the rest is a GRU of six calls to it.
# - The entry of the normalised matrix for one edge is its weight times a factor from either end. Where the degree is 0,
#   the power -1/2 is infinite: replace the degree before you take the root.
# - The k-th power comes from the one before by one gather, one product with the entries, and one scatter.

# %% [markdown]
# **What to look at.** A ring of 40 nodes, and a kick at node 20 in the first step. How much does each node's state
# depend on it later (the size of the derivative)? Without the neighbours ($K = 1$) the kick stays where it was. With
# $K = 2$ news travels one edge per convolution, and two per step, as $r \odot H$ is convolved after $r$ has been; with
# $K = 3$, four. Nothing travels faster: outside of the cone, drawn dashed, the derivative is exactly zero.

# %%
nodes, steps, H = 40, 8, 6
forward = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
ring = torch.cat([forward, forward.flip(0)], dim=1)


def answer_to_a_kick(K):
    """(steps, nodes): the size of the derivative of each state with respect to the input of node 20 in step 0."""
    generator = torch.Generator().manual_seed(5)
    params = {name: 0.7 * torch.randn(shape, generator=generator) for name, shape in
              (("theta_x", (3, K, 1, H)), ("theta_h", (3, K, H, H)), ("b", (3, H)))}
    h0 = torch.randn(nodes, H, generator=generator)
    xs = torch.randn(steps, nodes, 1, generator=generator)
    kick = torch.zeros_like(xs)
    kick[0, 20] = 1
    _, change = torch.func.jvp(lambda xs: gconv_gru(xs, ring, torch.ones(2 * nodes), h0, params), (xs,), (kick,))
    return change.norm(dim=-1)


fig, axes = plt.subplots(1, 3, figsize=(12, 3.2), sharey=True, layout="constrained")
for ax, K in zip(axes, (1, 2, 3), strict=True):
    reach = answer_to_a_kick(K)
    image = ax.imshow(reach.log10().clamp(min=-12), vmin=-12, vmax=0, cmap="viridis", aspect="auto",
                      interpolation="nearest")
    for side in (-1, 1):
        edge = 20 + side * (2 * (K - 1) * torch.arange(1, steps + 1) + 0.5)
        ax.plot(edge, torch.arange(steps), "--", color="white", linewidth=1)
    ax.set(title=f"K = {K}", xlabel="node", xlim=(-0.5, nodes - 0.5))
    away = (torch.arange(nodes) - 20).abs() > 2 * (K - 1) * torch.arange(1, steps + 1)[:, None]
    print(f"K = {K}: the largest derivative outside of the cone is {reach[away].max():g}")
axes[0].set_ylabel("step")
fig.colorbar(image, ax=axes, label="log10 of the derivative")
plt.show()

# %% [markdown]
# ## 6. Memory for a stream of events  ★★★ · 90 minutes
#
# Messages between people have no ticks: there is a list of events $(i, j, t, f)$, where $i$ writes to $j$ at time $t$
# with features $f$. The temporal graph network of Rossi et al. (2020, §3.1) keeps a vector $s_i$ for each node, its
# **memory**, and the time $t^-_i$ when it last changed.
#
# *Time as a vector.* A difference of times is a single number, between seconds and years. Xu et al. (2020) encode it
# by waves, with learned frequencies and phases:
#
# $$ \phi(\Delta) = \cos(\Delta\, \omega + \beta) \tag{10} $$
#
# *Messages.* An event between $i$ and $j$ makes one message for each of them, seen from its own side:
#
# $$ m_i = [\,s_i;\; s_j;\; \phi(t - t^-_i);\; f\,], \qquad m_j = [\,s_j;\; s_i;\; \phi(t - t^-_j);\; f\,] \tag{11} $$
#
# *Batches.* Events are processed a few hundred at a time. Within a batch all messages are made from the memories **as
# they were before the batch**. A node that takes part in several events has several messages; it keeps the **most
# recent** and forgets the others (the paper's "most recent message" aggregator). Then, for each node $i$ of the batch,
#
# $$ s_i \leftarrow \mathrm{GRU}(m_i, s_i), \qquad t^-_i \leftarrow t \tag{12} $$
#
# with $t$ the time of that event; all other nodes stay as they are, to the bit.
#
# *No look into the future.* The task is to foresee events: would $i$ write to $j$ now? A memory that has already seen
# the event answers brilliantly, in the experiment and nowhere else. So each batch is **scored first, with the memories
# from before it, and remembered then**. In place of the paper's embedding and decoder, ours is a dot product,
#
# $$ \ell_{ij} = \frac{s_i \cdot s_j}{\sqrt D} \tag{13} $$
#
# *Watch for* nodes that occur twice in a batch, once as the writer and once as the reader; for events at the same
# time (the later one in the list counts as more recent); and for whose $t^-$ it is.

# %% exercise="temporal_memory"
def time_encode(dt: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Time differences as vectors: Xu et al. (2020), §3.1, in the form of Rossi et al. (2020); our Eq. (10).

    dt    (E,) float
    w, b  (P,) float: frequencies and phases

    Returns (E, P) float.
    """
    ### BEGIN SOLUTION
    return torch.cos(dt[:, None] * w + b)
    ### END SOLUTION


def tgn_update(memory: Tensor, last_t: Tensor, src: Tensor, dst: Tensor, t: Tensor, feat: Tensor,
               params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """One batch of events: Rossi et al. (2020), §3.1, most recent message and GRU; our Eqs. (11) and (12).

    memory    (N, D) float, last_t (N,) float: the memories, and when each of them last changed
    src, dst  (E,) long in [0, N), E >= 1: who writes to whom; src[k] may equal dst[k], which is one message
    t         (E,) float, in ascending order, none before last_t of its nodes; of equal times, the later in the list is
              the more recent
    feat      (E, G) float
    params    a dict of float tensors: "time_w" (P,), "time_b" (P,), and a GRU as in `torch.nn.GRUCell`, with the order
              r, z, n: "w_ih" (3D, 2D+P+G), "w_hh" (3D, D), "b_ih" (3D,), "b_hh" (3D,). You may call `torch.gru_cell`.

    Returns the new memory (N, D) and last_t (N,), both float. Nodes that no event concerns keep theirs, bit for bit.
    """
    ### BEGIN SOLUTION
    nodes, events = torch.cat([src, dst]), torch.arange(len(t), device=src.device).repeat(2)
    latest = torch.full_like(last_t, -1, dtype=torch.long).scatter_reduce(0, nodes, events, "amax")
    (touched,) = torch.where(latest >= 0)
    event = latest[touched]
    partner = src[event] + dst[event] - touched
    elapsed = time_encode(t[event] - last_t[touched], params["time_w"], params["time_b"])
    message = torch.cat([memory[touched], memory[partner], elapsed, feat[event]], dim=1)
    renewed = torch.gru_cell(message, memory[touched], params["w_ih"], params["w_hh"], params["b_ih"], params["b_hh"])
    return memory.index_copy(0, touched, renewed), last_t.index_copy(0, touched, t[event])
    ### END SOLUTION


def tgn_stream(memory: Tensor, last_t: Tensor, src: Tensor, dst: Tensor, t: Tensor, feat: Tensor, batch: int,
               params: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and memories for a stream: Rossi et al. (2020), §3.2, with the dot product of our Eq. (13) as decoder.

    Arguments as in `tgn_update`, and
    batch  int >= 1: the events are processed so many at a time, in their order; the last batch may be smaller

    Returns the scores (E,) float of all events, each from the memories before its batch, and memory and last_t after
    the last batch. Gradients pass from every batch to those before it.
    """
    ### BEGIN SOLUTION
    scores = []
    for rows in torch.arange(len(t), device=src.device).split(batch):
        i, j = src[rows], dst[rows]
        scores.append((memory[i] * memory[j]).sum(dim=1) / math.sqrt(memory.shape[1]))
        memory, last_t = tgn_update(memory, last_t, i, j, t[rows], feat[rows], params)
    return torch.cat(scores), memory, last_t
    ### END SOLUTION

# %% [markdown] hints="temporal_memory"
# - List each event twice, once for either end: (node, its partner, which event). Of a node's entries only the last
#   event counts.
# - Events are in order, so the most recent one has the largest position in the list: a scatter with "amax" finds it for
#   all nodes at once.
# - Compute the messages of the nodes concerned and of nobody else, from the old memories. `index_copy` puts the new
#   rows in their place and returns a new tensor.
# - In the stream, mind the order within a batch: what may the scores know?

# %% [markdown]
# **What to look at.** On the left the code of time: differences of up to a day (in hours), sixteen frequencies from
# fast to slow. Nearby times have nearby codes, and no two times within the day share one. On the right a stream of 200
# events among 12 people, five at a time: a row is a person, and colour shows how much the memory changed in that batch.
# People 0 to 3 meet in the first half only, 8 to 11 in the second. Where a row is blank, nothing happened to that
# person, and nothing changed.

# %%
generator = torch.Generator().manual_seed(6)
P, D = 16, 8
frequencies = 2 * math.pi / torch.logspace(0, 2, P)
fig, axes = plt.subplots(1, 2, figsize=(13, 3.8), layout="constrained", width_ratios=[1, 1.6])
axes[0].imshow(time_encode(torch.linspace(0, 24, 300), frequencies, torch.zeros(P)).T, aspect="auto", cmap="viridis",
               extent=(0, 24, P - 0.5, -0.5), interpolation="nearest")
axes[0].set(title=r"$\phi(\Delta)$", xlabel=r"$\Delta$ in hours", ylabel="frequency, fast to slow")

params = {"time_w": frequencies, "time_b": torch.zeros(P)}
params |= {name: 0.4 * torch.randn(shape, generator=generator) for name, shape in
           (("w_ih", (3 * D, 2 * D + P)), ("w_hh", (3 * D, D)), ("b_ih", (3 * D,)), ("b_hh", (3 * D,)))}
late = torch.arange(200) >= 100
src, dst = torch.randint(8, (2, 200), generator=generator) + 4 * late
t = torch.rand(200, generator=generator).cumsum(0)
memory, last_t, changes = torch.zeros(12, D), torch.zeros(12), []
for rows in torch.arange(200).split(5):
    before = memory
    memory, last_t = tgn_update(memory, last_t, src[rows], dst[rows], t[rows], torch.zeros(5, 0), params)
    changes.append((memory - before).norm(dim=1))
image = axes[1].imshow(torch.stack(changes, dim=1), aspect="auto", cmap="viridis", interpolation="nearest")
axes[1].set(title="change of the memory", xlabel="batch", ylabel="person")
fig.colorbar(image, ax=axes[1])
plt.show()

# %% [markdown]
# ## Many graphs at once: batches of `torch_geometric`
#
# Molecules come by the thousand, each a small graph of its own size. There is nothing to pad: put the graphs side by
# side, renumber their nodes, and the batch is **one** graph whose parts are not joined. No edge leads from one part to
# another, so no message does, and a layer that is right for one graph is right for the batch. `torch_geometric` (Fey &
# Lenssen 2019) does the renumbering: a `Data` holds one graph, a `Batch` many, and `batch.batch` tells for each node
# which graph it belongs to.
#
# The case study: rings and chains of 3 to 9 nodes with random features of the nodes. Your `gcn_conv` and `gat_conv` run
# over a batch of all of them and over one after the other, and `torch_geometric`'s own layers get your weights.

# %%
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, GCNConv


def ring_or_chain(size, closed, generator):
    """A `Data` with `size` nodes, 4 random features each, and edges in both directions."""
    one_way = torch.stack([torch.arange(size), (torch.arange(size) + 1) % size])[:, :size if closed else size - 1]
    return Data(x=torch.randn(size, 4, generator=generator), edge_index=torch.cat([one_way, one_way.flip(0)], dim=1))


generator = torch.Generator().manual_seed(0)
graphs = [ring_or_chain(size, closed, generator) for size in range(3, 10) for closed in (True, False)]
batch = Batch.from_data_list(graphs)
print(f"{batch.num_graphs} graphs, {batch.num_nodes} nodes and {batch.num_edges} edges in one")

w = torch.randn(4, 6, generator=generator)
a_src, a_dst = torch.randn(2, 2, 3, generator=generator)
theirs = {"gcn_conv": GCNConv(4, 6, bias=False), "gat_conv": GATConv(4, 3, heads=2, bias=False)}
theirs["gcn_conv"].load_state_dict({"lin.weight": w.T})
theirs["gat_conv"].load_state_dict({"lin.weight": w.T, "att_src": a_src[None], "att_dst": a_dst[None]})
yours = {"gcn_conv": lambda x, edge_index: gcn_conv(x, edge_index, w),
         "gat_conv": lambda x, edge_index: gat_conv(x, edge_index, w, a_src, a_dst)}
for name, layer in yours.items():
    together = layer(batch.x, batch.edge_index)
    apart = torch.cat([layer(graph.x, graph.edge_index) for graph in graphs])
    with torch.no_grad():
        library = theirs[name](batch.x, batch.edge_index)
    print(f"{name}: batch and one by one differ by {(together - apart).abs().max():.0e}, "
          f"batch and torch_geometric by {(together - library).abs().max():.0e}")

# One number for each graph: the mean of its nodes, without a loop over graphs.
sums = torch.zeros(batch.num_graphs, 6).index_add(0, batch.batch, yours["gcn_conv"](batch.x, batch.edge_index))
means = sums / torch.bincount(batch.batch)[:, None]
print("a vector for each graph:", tuple(means.shape))

adjacency = torch.zeros(batch.num_nodes, batch.num_nodes)
adjacency[batch.edge_index[1], batch.edge_index[0]] = 1
fig, ax = plt.subplots(figsize=(5, 5), layout="constrained")
ax.imshow(adjacency, cmap="cividis", interpolation="nearest")
for edge in (torch.nonzero(batch.batch.diff()).flatten() + 0.5).tolist():
    ax.axhline(edge, color="#999999", linewidth=0.5)
    ax.axvline(edge, color="#999999", linewidth=0.5)
ax.set(title="the batch's adjacency: a block for each graph", xlabel="source", ylabel="destination")
plt.show()

# %% [markdown]
# *What to look at.* The differences are rounding, about 1e-7. All edges lie in the blocks on the diagonal; a ring's
# block has two corners that a chain's has not.
#
# ## Finale: one club becomes two
#
# In the 1970s a university's karate club fell out over the price of lessons and split (Zachary 1977). Who met whom
# outside of the club was known: 34 members, 78 friendships. Suppose that we know the side of four people, two for each
# camp. The members have no features at all, so everyone gets a one-hot number; all that can tell the sides of the other
# 30 are the friendships. Two of your graph convolutions, 120 steps of training, five times from new random weights:
# at least 90 % of all members should come out right each time.

# %%
import networkx

club = networkx.karate_club_graph()
one_way = torch.tensor(list(club.edges)).T
edges = torch.cat([one_way, one_way.flip(0)], dim=1)
side = torch.tensor([int(club.nodes[member]["club"] == "Officer") for member in club])
known = torch.tensor([0, 1, 32, 33])  # the instructor, a friend of his, a friend of the president, the president


def split_club(seed, hidden=8, steps=120):
    """Class scores (34, 2) after training on the four known members."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(shape, generator=generator) / shape[0]**0.5 for shape in ((34, hidden), (hidden, 2)))
    optimizer = torch.optim.Adam([first.requires_grad_(), second.requires_grad_()], lr=0.03, weight_decay=5e-3)
    for _ in range(steps):
        logits = gcn_conv(torch.tanh(gcn_conv(torch.eye(34), edges, first)), edges, second)
        loss = torch.nn.functional.cross_entropy(logits[known], side[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach()


results = [split_club(seed) for seed in range(5)]
right = [(logits.argmax(1) == side).float().mean().item() for logits in results]
print("members on their real side:", ", ".join(f"{one:.0%}" for one in right))

place = networkx.spring_layout(club, seed=1)
place = torch.tensor([list(place[member]) for member in club])
belief = torch.softmax(results[0], dim=1)[:, 1]
fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
for i, j in one_way.T.tolist():
    ax.plot(*place[[i, j]].T, color="#cccccc", linewidth=0.8, zorder=0)
for value, marker in ((0, "o"), (1, "s")):
    image = ax.scatter(*place[side == value].T, c=belief[side == value], marker=marker, s=170, cmap="cividis", vmin=0,
                       vmax=1, edgecolors=INK)
ax.scatter(*place[known].T, s=420, facecolors="none", edgecolors="#b0413e", linewidths=1.5)
ax.set(title="squares: left with the president; colour: belief; rings: known before")
ax.axis("off")
fig.colorbar(image, ax=ax, fraction=0.03)
plt.show()

# %% [markdown]
# The few who come out wrong, if any, sit between the camps. And be warned: without the loops, or without the degrees,
# the network does as well here. Training well is no proof that a layer is right, which is why no exercise is graded by
# it.
#
# ## Going further
#
# - **Beyond Weisfeiler and Leman.** Give each node a random number, or the probabilities that a random walk returns
#   to it after 2, 3, ... steps, as features, and repeat the map of exercise 4. Which of the two now tells the ring from
#   the triangles every time, and what does the other cost? (Sato et al. 2021; Dwivedi et al. 2022)
# - **Deeper without smoothing.** Keep a share $\alpha$ of the first features at every step,
#   $X \leftarrow (1 - \alpha) \hat A X + \alpha X_0$ (Gasteiger et al. 2019). What does it converge to, and where do
#   the two groups of exercise 2 end up?
# - **Bottlenecks.** The number of nodes within $k$ edges grows exponentially, the vector that has to hold their
#   messages does not (Alon & Yahav 2021). On a path of length $k$, how does $\partial x_k / \partial x_0$ shrink with
#   $k$, for each of your layers?
# - **Sampling.** On a graph of a billion edges a layer reads a few random neighbours of each node (Hamilton et al.
#   2017). For which of sum, mean and maximum is the result right on average?
# - **Stale memories.** A node that is silent for long keeps an old memory. Let it read its latest neighbours with
#   `gat_conv` before it is scored, as the embeddings of Rossi et al. (2020) do.
#
# ## References
#
# - U. Alon, E. Yahav. *On the Bottleneck of Graph Neural Networks and its Practical Implications.* ICLR 2021.
# - S. Brody, U. Alon, E. Yahav. *How Attentive are Graph Attention Networks?* ICLR 2022.
# - V. P. Dwivedi et al. *Graph Neural Networks with Learnable Structural and Positional Representations.* ICLR 2022.
# - M. Fey, J. E. Lenssen. *Fast Graph Representation Learning with PyTorch Geometric.* ICLR workshop, 2019.
# - J. Gasteiger, A. Bojchevski, S. Günnemann. *Predict then Propagate: Graph Neural Networks meet Personalized
#   PageRank.* ICLR 2019.
# - J. Gilmer, S. Schoenholz, P. Riley, O. Vinyals, G. Dahl. *Neural Message Passing for Quantum Chemistry.* ICML 2017.
# - W. Hamilton, R. Ying, J. Leskovec. *Inductive Representation Learning on Large Graphs.* NeurIPS 2017.
# - T. Kipf, M. Welling. *Semi-Supervised Classification with Graph Convolutional Networks.* ICLR 2017.
# - Q. Li, Z. Han, X.-M. Wu. *Deeper Insights into Graph Convolutional Networks for Semi-Supervised Learning.* AAAI
#   2018.
# - Y. Li, R. Yu, C. Shahabi, Y. Liu. *Diffusion Convolutional Recurrent Neural Network: Data-Driven Traffic
#   Forecasting.* ICLR 2018.
# - E. Rossi et al. *Temporal Graph Networks for Deep Learning on Dynamic Graphs.* 2020.
# - R. Sato, M. Yamada, H. Kashima. *Random Features Strengthen Graph Neural Networks.* SDM 2021.
# - Y. Seo, M. Defferrard, P. Vandergheynst, X. Bresson. *Structured Sequence Modeling with Graph Convolutional
#   Recurrent Networks.* ICONIP 2018.
# - P. Veličković et al. *Graph Attention Networks.* ICLR 2018.
# - D. Xu, C. Ruan, E. Korpeoglu, S. Kumar, K. Achan. *Inductive Representation Learning on Temporal Graphs.* ICLR 2020.
# - K. Xu, W. Hu, J. Leskovec, S. Jegelka. *How Powerful are Graph Neural Networks?* ICLR 2019.
# - W. Zachary. *An Information Flow Model for Conflict and Fission in Small Groups.* Journal of Anthropological
#   Research 33, 1977.
