"""What students hand in for the unit on graphs: known mistakes, and right answers in other styles.

Every decorated function replaces the reference's function of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...".
"""
import torch
import torch.nn.functional as F

from autograder.variants import alternative, mistake

# ------------------------------------------------------------------------------------- helpers (all of them right)


def _sum_at(index, values, size):
    """For each of `size` nodes the sum of the rows of `values` whose index it is."""
    out = torch.zeros((size, *values.shape[1:]), dtype=values.dtype)
    return out.index_put((index,), values, accumulate=True)


def _count(index, size, dtype):
    return torch.bincount(index, minlength=size).to(dtype)


def _max_at(index, values, size, start=float("-inf")):
    """For each node the largest of its values, column by column; `start` where it has none."""
    out = torch.full((size, *values.shape[1:]), start, dtype=values.dtype)
    at = index.reshape(-1, *[1] * (values.ndim - 1)).expand_as(values)
    return out.scatter_reduce(0, at, values, "amax")


def _weights(scores, dst, size):
    """Softmax over the edges into each node, for each column of `scores`."""
    raised = (scores - _max_at(dst, scores.detach(), size)[dst]).exp()
    return raised / _sum_at(dst, raised, size)[dst]


def _looped(edge_index, n):
    """The edges with one loop for every node behind them."""
    own = torch.arange(n)
    return torch.cat([edge_index, torch.stack([own, own])], dim=1)


def _normed_sum(features, src, dst, degree_src, degree_dst):
    """The sum over edges, divided by the roots of the two degrees."""
    scale = degree_src[src] ** -0.5 * degree_dst[dst] ** -0.5
    return _sum_at(dst, features[src] * scale[:, None], len(features))


# ------------------------------------------------------------------------------------------------ scatter_softmax

@mistake("scatter_softmax", "over_all_edges", "the softmax runs over all edges at once",
         hint="Each node has a denominator of its own: the sum over the edges that lead to it.")
def scatter_softmax(s, dst, num_nodes):
    return torch.softmax(s, dim=0)


@mistake("scatter_softmax", "no_maximum", "no maximum is subtracted",
         hint="exp overflows: beyond 88 in float32, beyond 709 in float64.")
def scatter_softmax(s, dst, num_nodes):
    raised = s.exp()
    return raised / _sum_at(dst, raised, num_nodes)[dst]


@mistake("scatter_softmax", "one_maximum", "the largest score of all nodes is subtracted, not each node's own",
         hint="A node whose scores are all far below that maximum is left with 0 / 0.")
def scatter_softmax(s, dst, num_nodes):
    raised = (s - s.max()).exp() if len(s) else s.exp()
    return raised / _sum_at(dst, raised, num_nodes)[dst]


@mistake("scatter_softmax", "maximum_from_zero", "the largest score of a node is taken to be at least 0",
         hint="What is the tensor of maxima filled with before the scores come in? Scores may all be negative.")
def scatter_softmax(s, dst, num_nodes):
    raised = (s - _max_at(dst, s.detach(), num_nodes, start=0.0)[dst]).exp()
    return raised / _sum_at(dst, raised, num_nodes)[dst]


@mistake("scatter_softmax", "denominator_detached", "no gradient passes through the denominator",
         hint="Only the maximum may be a constant. The sum depends on the scores, and Eq. (1) divides by it.")
def scatter_softmax(s, dst, num_nodes):
    raised = (s - _max_at(dst, s.detach(), num_nodes)[dst]).exp()
    return raised / _sum_at(dst, raised, num_nodes).detach()[dst]


@mistake("scatter_softmax", "detached", "the weights are cut out of the graph",
         hint="`.detach()`, `.data` and `no_grad` stop gradients; only the maximum needs none.")
def scatter_softmax(s, dst, num_nodes):
    return _weights(s.detach(), dst, num_nodes) + 0 * s


@mistake("scatter_softmax", "added_eps", "a small number is added to the denominator",
         hint="With the maximum subtracted the sum is at least 1: there is nothing to protect against.")
def scatter_softmax(s, dst, num_nodes):
    raised = (s - _max_at(dst, s.detach(), num_nodes)[dst]).exp()
    return raised / (_sum_at(dst, raised, num_nodes)[dst] + 1e-6)


@mistake("scatter_softmax", "last_edge_only", "the denominator holds only one of a node's edges",
         hint="`total[dst] += ...` writes each index once: of several values for a node the last one stays.")
def scatter_softmax(s, dst, num_nodes):
    raised = (s - _max_at(dst, s.detach(), num_nodes)[dst]).exp()
    total = torch.zeros(num_nodes, dtype=s.dtype)
    for node, value in zip(dst.tolist(), raised, strict=True):
        total = total.index_put((torch.tensor(node),), value)
    return raised / total[dst]


@mistake("scatter_softmax", "assumes_sorted", "edges of one node are taken to stand side by side",
         hint="`dst` comes in any order: a node's edges may be anywhere in the list.")
def scatter_softmax(s, dst, num_nodes):
    run = torch.unique_consecutive(dst, return_inverse=True)[1]
    return _weights(s, run, len(s) + 1)


@mistake("scatter_softmax", "mean_for_sum", "the exponentials are divided by their mean",
         hint="The weights of a node sum to the number of its edges; they should sum to 1.")
def scatter_softmax(s, dst, num_nodes):
    return _weights(s, dst, num_nodes) * _count(dst, num_nodes, s.dtype)[dst]


@mistake("scatter_softmax", "subtracted_in_place", "the maximum is subtracted from the caller's scores",
         hint="`s -= ...` writes to the input: s - ... makes a new tensor.")
def scatter_softmax(s, dst, num_nodes):
    s -= _max_at(dst, s.detach(), num_nodes)[dst]
    return s.exp() / _sum_at(dst, s.exp(), num_nodes)[dst]


@mistake("scatter_softmax", "always_float64", "the result is float64 whatever the input",
         hint="The output has the dtype of the input.")
def scatter_softmax(s, dst, num_nodes):
    return _weights(s.double(), dst, num_nodes)


@alternative("scatter_softmax", "node_by_node")
def scatter_softmax(s, dst, num_nodes):
    weights = torch.zeros_like(s)
    for node in range(num_nodes):
        mine = (dst == node).nonzero().flatten()
        weights = weights.index_copy(0, mine, torch.softmax(s[mine], dim=0))
    return weights


@alternative("scatter_softmax", "dense_matrix")
def scatter_softmax(s, dst, num_nodes):
    member = dst == torch.arange(num_nodes)[:, None]
    table = torch.where(member, s, torch.finfo(s.dtype).min)
    return (torch.softmax(table, dim=1) * member).sum(dim=0) if len(s) else s * 1


@alternative("scatter_softmax", "log_domain")
def scatter_softmax(s, dst, num_nodes):
    highest = s.new_full((num_nodes,), -torch.inf).scatter_reduce(0, dst, s.detach(), "amax")[dst]
    total = torch.zeros(num_nodes, dtype=s.dtype).scatter_add(0, dst, torch.exp(s - highest))
    return torch.exp(s - highest - total[dst].log())


# ------------------------------------------------------------------------------------------------------- gcn_conv

@mistake("gcn_conv", "no_loops", "a node does not hear itself: no loops are added",
         hint="Eq. (2) has A + I: a node's own features are part of the sum.")
def gcn_conv(x, edge_index, w):
    src, dst = edge_index
    degree = _count(dst, len(x), x.dtype).clamp(min=1)
    return _normed_sum(x @ w, src, dst, degree, degree)


@mistake("gcn_conv", "degrees_without_loops", "the degrees are those of A, without the loops",
         hint="The degrees in Eq. (2) carry a tilde: they are the row sums of A + I.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    degree = _count(edge_index[1], len(x), x.dtype).clamp(min=1)
    return _normed_sum(x @ w, src, dst, degree, degree)


@mistake("gcn_conv", "mean", "the sum is divided by the degree of the destination alone",
         hint="The division is shared: the root of the degree at either end.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    return _sum_at(dst, (x @ w)[src], len(x)) / _count(dst, len(x), x.dtype)[:, None]


@mistake("gcn_conv", "plain_sum", "nothing is divided by the degrees",
         hint="(A + I) X W lacks the two matrices of degrees around it.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    return _sum_at(dst, (x @ w)[src], len(x))


@mistake("gcn_conv", "no_root", "the two degrees are multiplied, without the root",
         hint="Each end gives the power -1/2 of its degree.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    degree = _count(dst, len(x), x.dtype) ** 2
    return _normed_sum(x @ w, src, dst, degree, degree)


@mistake("gcn_conv", "outgoing_degrees", "the degrees count the edges that leave a node",
         hint="By our convention the degree counts what arrives; on an undirected graph nobody would notice.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    degree = _count(src, len(x), x.dtype)
    return _normed_sum(x @ w, src, dst, degree, degree)


@mistake("gcn_conv", "degree_of_each_end", "the source gives its outgoing degree, the destination its incoming one",
         hint="There is one matrix of degrees, on both sides of A + I: incoming degrees at both ends.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    return _normed_sum(x @ w, src, dst, _count(src, len(x), x.dtype), _count(dst, len(x), x.dtype))


@mistake("gcn_conv", "reversed", "messages travel against the direction of the edges",
         hint="edge_index[0] is where a message comes from, edge_index[1] is where it is added.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x)).flip(0)
    degree = _count(dst, len(x), x.dtype)
    return _normed_sum(x @ w, src, dst, degree, degree)


@mistake("gcn_conv", "made_undirected", "every edge is used in both directions",
         hint="Edges are directed. An undirected one is in the list twice already.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(torch.cat([edge_index, edge_index.flip(0)], dim=1), len(x))
    degree = _count(dst, len(x), x.dtype)
    return _normed_sum(x @ w, src, dst, degree, degree)


@mistake("gcn_conv", "one_message_per_node", "of all messages to a node only the last one stays",
         hint="`out[dst] = ...` and `out[dst] += ...` write each index once. What adds up instead?")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    degree = _count(dst, len(x), x.dtype)
    messages = (x @ w)[src] * (degree[src] * degree[dst]).rsqrt()[:, None]
    last = [int((dst == node).nonzero()[-1]) for node in range(len(x))]
    return messages[last]


@mistake("gcn_conv", "copies_merged", "an edge that is listed twice counts once",
         hint="A matrix filled with ones forgets the copies; entries have to be counted.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(torch.unique(edge_index, dim=1) if edge_index.numel() else edge_index, len(x))
    degree = _count(dst, len(x), x.dtype)
    return _normed_sum(x @ w, src, dst, degree, degree)


@mistake("gcn_conv", "loops_merged", "a node that has a loop does not get another one",
         hint="A + I is meant literally: the new loop comes in addition to those that are in the list.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index[:, edge_index[0] != edge_index[1]], len(x))
    degree = _count(dst, len(x), x.dtype)
    return _normed_sum(x @ w, src, dst, degree, degree)


@mistake("gcn_conv", "assumes_sorted", "the edges are taken to be sorted by destination",
         hint="The list comes in any order; cutting it into pieces by the degrees needs sorting first.")
def gcn_conv(x, edge_index, w):
    src, dst = edge_index
    count = torch.bincount(dst, minlength=len(x))
    degree = 1 + count.to(x.dtype)
    scaled = (x @ w) * degree[:, None].rsqrt()
    pieces = scaled[src].split(count.tolist())
    sums = torch.stack([one.sum(dim=0) + own for one, own in zip(pieces, scaled, strict=True)])
    return sums * degree[:, None].rsqrt()


@mistake("gcn_conv", "scaled_in_place", "the caller's features are divided by the root of the degree",
         hint="`x *= ...` and `x /= ...` write to the input.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    degree = _count(dst, len(x), x.dtype)[:, None]
    x /= degree.sqrt()
    return _sum_at(dst, (x @ w)[src], len(x)) / degree.sqrt()


@mistake("gcn_conv", "always_float64", "the result is float64 whatever the input",
         hint="The output has the dtype of the input.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    degree = _count(dst, len(x), torch.float64)
    return _normed_sum(x.double() @ w.double(), src, dst, degree, degree)


@mistake("gcn_conv", "features_detached", "no gradient reaches the features",
         hint="`.detach()`, `.data` and `no_grad` stop gradients.")
def gcn_conv(x, edge_index, w):
    src, dst = _looped(edge_index, len(x))
    degree = _count(dst, len(x), x.dtype)
    return _normed_sum(x.detach() @ w, src, dst, degree, degree) + 0 * x.sum()


@alternative("gcn_conv", "dense_matrix")
def gcn_conv(x, edge_index, w):
    n = len(x)
    adjacency = torch.zeros(n, n, dtype=x.dtype)
    for source, destination in edge_index.T.tolist():
        adjacency[destination, source] += 1
    adjacency += torch.eye(n, dtype=x.dtype)
    root = adjacency.sum(1).sqrt()
    return (adjacency / torch.outer(root, root)) @ x @ w


@alternative("gcn_conv", "edge_by_edge")
def gcn_conv(x, edge_index, w):
    pairs = edge_index.T.tolist() + [[i, i] for i in range(len(x))]
    degree = [sum(end == i for _, end in pairs) for i in range(len(x))]
    rows = [0 * row for row in x]
    for start, end in pairs:
        rows[end] = rows[end] + x[start] / (degree[start] * degree[end]) ** 0.5
    return torch.stack(rows) @ w


@alternative("gcn_conv", "sparse_matrix")
def gcn_conv(x, edge_index, w):
    degree = 1 + _count(edge_index[1], len(x), x.dtype)
    scaled = x / degree.sqrt()[:, None]
    ones = torch.ones(edge_index.shape[1], dtype=x.dtype)
    adjacency = torch.sparse_coo_tensor(edge_index.flip(0), ones, (len(x), len(x)), check_invariants=True)
    return (torch.sparse.mm(adjacency, scaled) + scaled) / degree.sqrt()[:, None] @ w


# ------------------------------------------------------------------------------------------------------- gat_conv

def _attend(values, scores, src, dst):
    """(N, H, D) values and (E, H) scores -> (N, H*D)."""
    weights = _weights(scores, dst, len(values))
    return _sum_at(dst, weights[..., None] * values[src], len(values)).flatten(1)


def _heads(x, w, like):
    return (x @ w).reshape(len(x), *like.shape)


def _static(z, src, dst, a_src, a_dst):
    """Scores before the LeakyReLU."""
    return torch.einsum("nhd,hd->nh", z, a_src)[src] + torch.einsum("nhd,hd->nh", z, a_dst)[dst]


@mistake("gat_conv", "no_leaky_relu", "gat_conv leaves out the LeakyReLU, or applies it to the weights",
         hint="Eq. (3) bends the scores before the softmax. Behind it there is nothing negative left to bend.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    return _attend(z, _static(z, src, dst, a_src, a_dst), src, dst)


@mistake("gat_conv", "relu", "gat_conv uses a ReLU, without a slope",
         hint="The score has a slope below zero; it is an argument.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    return _attend(z, torch.relu(_static(z, src, dst, a_src, a_dst)), src, dst)


@mistake("gat_conv", "slope_ignored", "gat_conv always uses a slope of 0.2",
         hint="0.2 is the default; the caller may choose another slope.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    return _attend(z, F.leaky_relu(_static(z, src, dst, a_src, a_dst), 0.2), src, dst)


@mistake("gat_conv", "ends_swapped", "gat_conv scores the source with a_dst and the destination with a_src",
         hint="a_src meets the node that sends. On symmetric graphs the swap hides well.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    return _attend(z, F.leaky_relu(_static(z, src, dst, a_dst, a_src), slope), src, dst)


@mistake("gat_conv", "outgoing_softmax", "gat_conv's weights sum to 1 over the edges that leave a node",
         hint="The one who reads distributes a total of 1: the groups of the softmax share a destination.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    weights = _weights(F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), src, len(x))
    return _sum_at(dst, weights[..., None] * z[src], len(x)).flatten(1)


@mistake("gat_conv", "softmax_over_all_edges", "gat_conv's softmax runs over all edges at once",
         hint="Each destination has a denominator of its own, in each head.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    weights = torch.softmax(F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), dim=0)
    return _sum_at(dst, weights[..., None] * z[src], len(x)).flatten(1)


@mistake("gat_conv", "softmax_over_heads", "gat_conv's softmax runs over the heads",
         hint="The axis of the heads has nothing to do with the softmax: each head has weights of its own.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    weights = torch.softmax(F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), dim=1)
    return _sum_at(dst, weights[..., None] * z[src], len(x)).flatten(1)


@mistake("gat_conv", "heads_averaged", "gat_conv averages the heads",
         hint="The heads stand side by side: the output is as wide as w.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    mixed = _attend(z, F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), src, dst)
    return mixed.reshape(z.shape).mean(dim=1)


@mistake("gat_conv", "heads_interleaved", "gat_conv takes every H-th column for a head",
         hint="Head h owns D columns that stand side by side, not every H-th one.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = (x @ w).reshape(len(x), a_src.shape[1], a_src.shape[0]).transpose(1, 2)
    mixed = _attend(z, F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), src, dst)
    return mixed.reshape(z.shape).transpose(1, 2).flatten(1)


@mistake("gat_conv", "no_loops", "no loops are added in gat_conv",
         hint="A node reads itself, too; without that a node with no edges would have nothing to read.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = edge_index
    z = _heads(x, w, a_src)
    return _attend(z, F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), src, dst)


@mistake("gat_conv", "loops_merged", "gat_conv removes the loops of the list before it adds its own",
         hint="`torch_geometric` does that. By our contract a loop in the list counts in addition.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index[:, edge_index[0] != edge_index[1]], len(x))
    z = _heads(x, w, a_src)
    return _attend(z, F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), src, dst)


def _adjacency(edge_index, n):
    """(N, N) bool: destination, source; loops included."""
    keep = torch.eye(n, dtype=torch.bool)
    keep[edge_index[1], edge_index[0]] = True
    return keep


def _dense_scores(z, a_src, a_dst, slope):
    """(destination, source, head) for all pairs."""
    parts = [torch.einsum("nhd,hd->nh", z, a) for a in (a_dst, a_src)]
    return F.leaky_relu(parts[0][:, None] + parts[1][None], slope)


@mistake("gat_conv", "masked_with_zero", "gat_conv sets the scores of pairs without an edge to 0",
         hint="exp(0) is 1: all nodes take part. What score has the exponential 0?")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    z = _heads(x, w, a_src)
    scores = _dense_scores(z, a_src, a_dst, slope) * _adjacency(edge_index, len(x))[..., None]
    return torch.einsum("ijh,jhd->ihd", torch.softmax(scores, dim=1), z).flatten(1)


@mistake("gat_conv", "copies_merged", "in gat_conv an edge that is listed twice counts once",
         hint="A mask of ones and zeros forgets the copies. Each of them takes part in the softmax.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    z = _heads(x, w, a_src)
    scores = _dense_scores(z, a_src, a_dst, slope)
    scores = scores.masked_fill(~_adjacency(edge_index, len(x))[..., None], -torch.inf)
    return torch.einsum("ijh,jhd->ihd", torch.softmax(scores, dim=1), z).flatten(1)


@mistake("gat_conv", "reversed", "in gat_conv messages travel against the direction of the edges",
         hint="edge_index[0] is where a message comes from, edge_index[1] is where it arrives.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x)).flip(0)
    z = _heads(x, w, a_src)
    return _attend(z, F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), src, dst)


@mistake("gat_conv", "no_maximum", "gat_conv subtracts no maximum in its softmax",
         hint="The exponential of a large score overflows; see exercise 1.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    raised = F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope).exp()
    mixed = _sum_at(dst, raised[..., None] * z[src], len(x))
    return (mixed / _sum_at(dst, raised, len(x))[..., None]).flatten(1)


@mistake("gat_conv", "weights_detached", "no gradient passes through gat_conv's weights",
         hint="The score vectors learn from the weights alone: only the maximum may be a constant.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    return _attend(z, F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope).detach(), src, dst)


@mistake("gat_conv", "dynamic_scores", "gat_conv applies the LeakyReLU before the score vectors",
         hint="That is the idea of Eq. (4). In Eq. (3) the two dot products come first.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    bent = F.leaky_relu(z, slope)
    return _attend(z, _static(bent, src, dst, a_src, a_dst), src, dst)


@mistake("gat_conv", "always_float64", "gat_conv's result is float64 whatever the input",
         hint="The output has the dtype of the input.")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    x, w, a_src, a_dst = (one.double() for one in (x, w, a_src, a_dst))
    src, dst = _looped(edge_index, len(x))
    z = _heads(x, w, a_src)
    return _attend(z, F.leaky_relu(_static(z, src, dst, a_src, a_dst), slope), src, dst)


def _hidden(x, src, dst, w_src, w_dst, a):
    """(E, H, D): the sum of both ends, before the LeakyReLU."""
    return _heads(x, w_src, a)[src] + _heads(x, w_dst, a)[dst]


@mistake("gat_conv", "v2_static", "gatv2_conv applies the LeakyReLU to the finished score",
         hint="That is static attention once more. In Eq. (4) the product with a comes last.")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    scores = F.leaky_relu((_hidden(x, src, dst, w_src, w_dst, a) * a).sum(-1), slope)
    return _attend(_heads(x, w_src, a), scores, src, dst)


@mistake("gat_conv", "v2_bent_apart", "gatv2_conv applies the LeakyReLU to each end by itself, and then adds",
         hint="A sum of two functions, one of each end, ranks all neighbours alike. Add first, bend then.")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    values, asks = _heads(x, w_src, a), _heads(x, w_dst, a)
    hidden = F.leaky_relu(values, slope)[src] + F.leaky_relu(asks, slope)[dst]
    return _attend(values, (hidden * a).sum(-1), src, dst)


@mistake("gat_conv", "v2_values_of_dst", "gatv2_conv mixes the rows of x @ w_dst",
         hint="What a node sends are its features as a source.")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    scores = (F.leaky_relu(_hidden(x, src, dst, w_src, w_dst, a), slope) * a).sum(-1)
    return _attend(_heads(x, w_dst, a), scores, src, dst)


@mistake("gat_conv", "v2_matrices_swapped", "gatv2_conv swaps the two matrices in the score",
         hint="w_src meets the node that sends, also in the score.")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    scores = (F.leaky_relu(_hidden(x, src, dst, w_dst, w_src, a), slope) * a).sum(-1)
    return _attend(_heads(x, w_src, a), scores, src, dst)


@mistake("gat_conv", "v2_slope_ignored", "gatv2_conv always uses a slope of 0.2",
         hint="0.2 is the default; the caller may choose another slope.")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    scores = (F.leaky_relu(_hidden(x, src, dst, w_src, w_dst, a), 0.2) * a).sum(-1)
    return _attend(_heads(x, w_src, a), scores, src, dst)


@mistake("gat_conv", "v2_no_loops", "no loops are added in gatv2_conv",
         hint="A node reads itself, too, in both versions.")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    src, dst = edge_index
    scores = (F.leaky_relu(_hidden(x, src, dst, w_src, w_dst, a), slope) * a).sum(-1)
    return _attend(_heads(x, w_src, a), scores, src, dst)


@mistake("gat_conv", "v2_score_over_heads", "gatv2_conv sums the scores of all heads",
         hint="Each head has its own row of a and its own scores.")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    src, dst = _looped(edge_index, len(x))
    scores = (F.leaky_relu(_hidden(x, src, dst, w_src, w_dst, a), slope) * a).sum((-2, -1))
    return _attend(_heads(x, w_src, a), scores[:, None], src, dst)


@mistake("gat_conv", "v2_numbered", "gatv2_conv takes the edges to be sorted by destination",
         hint="The list comes in any order; cutting it into pieces by the degrees needs sorting first.")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    src, dst = edge_index
    values = _heads(x, w_src, a)
    rows = []
    for i, sources in enumerate(src.split(torch.bincount(dst, minlength=len(x)).tolist())):
        sources = torch.cat([sources, torch.tensor([i])])
        hidden = F.leaky_relu(values[sources] + _heads(x[i:i + 1], w_dst, a), slope)
        weights = torch.softmax((hidden * a).sum(-1), dim=0)
        rows.append((weights[..., None] * values[sources]).sum(dim=0).flatten())
    return torch.stack(rows)


@alternative("gat_conv", "node_by_node")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    z = _heads(x, w, a_src)
    rows = []
    for i in range(len(x)):
        read = z[torch.cat([edge_index[0, edge_index[1] == i], torch.tensor([i])])]
        scores = (read * a_src).sum(-1) + (z[i] * a_dst).sum(-1)
        weights = torch.softmax(F.leaky_relu(scores, slope), dim=0)
        rows.append(torch.einsum("kh,khd->hd", weights, read).flatten())
    return torch.stack(rows)


@alternative("gat_conv", "node_by_node")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    values, asks = _heads(x, w_src, a), _heads(x, w_dst, a)
    rows = []
    for i in range(len(x)):
        read = values[torch.cat([edge_index[0, edge_index[1] == i], torch.tensor([i])])]
        weights = torch.softmax((F.leaky_relu(read + asks[i], slope) * a).sum(-1), dim=0)
        rows.append(torch.einsum("kh,khd->hd", weights, read).flatten())
    return torch.stack(rows)


@alternative("gat_conv", "counted_matrix")
def gat_conv(x, edge_index, w, a_src, a_dst, slope=0.2):
    n = len(x)
    src, dst = _looped(edge_index, n)
    copies = torch.bincount(dst * n + src, minlength=n * n).reshape(n, n, 1)
    z = _heads(x, w, a_src)
    logits = _dense_scores(z, a_src, a_dst, slope) + copies.to(x.dtype).log()
    return torch.einsum("ijh,jhd->ihd", torch.softmax(logits, dim=1), z).reshape(n, -1)


@alternative("gat_conv", "counted_matrix")
def gatv2_conv(x, edge_index, w_src, w_dst, a, slope=0.2):
    n = len(x)
    src, dst = _looped(edge_index, n)
    copies = torch.bincount(dst * n + src, minlength=n * n).reshape(n, n, 1)
    values = _heads(x, w_src, a)
    hidden = F.leaky_relu(_heads(x, w_dst, a)[:, None] + values[None], slope)
    logits = torch.einsum("ijhd,hd->ijh", hidden, a) + copies.to(x.dtype).log()
    return torch.einsum("ijh,jhd->ihd", torch.softmax(logits, dim=1), values).reshape(n, -1)


# ----------------------------------------------------------------------------------------------------- mpnn_layer

def _messages(x, src, dst, e, w_msg, b_msg):
    return torch.tanh(F.linear(torch.cat([x[dst], x[src], e], dim=1), w_msg.T, b_msg))


def _gathered(messages, dst, n, aggr):
    """(E, M) -> (N, M); 0 where nothing arrives."""
    if aggr == "sum":
        return _sum_at(dst, messages, n)
    count = _count(dst, n, messages.dtype)[:, None]
    if aggr == "mean":
        return _sum_at(dst, messages, n) / count.clamp(min=1)
    if aggr == "max":
        return _max_at(dst, messages, n).masked_fill(count == 0, 0)
    raise ValueError(f"no such way to gather: {aggr}")


def _updated(x, gathered, w_upd, b_upd):
    return torch.tanh(F.linear(torch.cat([x, gathered], dim=1), w_upd.T, b_upd))


@mistake("mpnn_layer", "maximum_from_zero", "the maximum of messages that are all negative is 0",
         hint="A maximum starts below everything, not at 0; only a node without messages gets 0.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    messages = _messages(x, src, dst, e, w_msg, b_msg)
    gathered = _gathered(messages, dst, len(x), aggr)
    return _updated(x, _max_at(dst, messages, len(x), start=0.0) if aggr == "max" else gathered, w_upd, b_upd)


@mistake("mpnn_layer", "mean_over_all_edges", "the mean divides by the number of all edges",
         hint="Each node divides by the number of its own messages.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    gathered = _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), "sum" if aggr == "mean" else aggr)
    return _updated(x, gathered / max(len(e), 1) if aggr == "mean" else gathered, w_upd, b_upd)


@mistake("mpnn_layer", "mean_by_outgoing", "the mean divides by the number of edges that leave a node",
         hint="Count what arrives, as for the sum.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    gathered = _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), "sum" if aggr == "mean" else aggr)
    count = _count(src, len(x), x.dtype).clamp(min=1)[:, None]
    return _updated(x, gathered / count if aggr == "mean" else gathered, w_upd, b_upd)


@mistake("mpnn_layer", "empty_maximum_infinite", "a node without messages gathers minus infinity by the maximum",
         hint="What the maximum starts from is left over where nothing arrives; the contract asks for 0.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    messages = _messages(x, src, dst, e, w_msg, b_msg)
    gathered = _max_at(dst, messages, len(x)) if aggr == "max" else _gathered(messages, dst, len(x), aggr)
    return _updated(x, gathered, w_upd, b_upd)


@mistake("mpnn_layer", "empty_mean_nan", "a node without messages gathers 0 / 0 by the mean",
         hint="The count may be 0. A count of at least 1 leaves the sum, which is 0, as it is.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    gathered = _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), "sum" if aggr == "mean" else aggr)
    return _updated(x, gathered / _count(dst, len(x), x.dtype)[:, None] if aggr == "mean" else gathered, w_upd, b_upd)


@mistake("mpnn_layer", "edges_sorted_without_features", "the edges are sorted, but their features stay as they were",
         hint="Row k of e belongs to column k of edge_index: what moves one has to move the other.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index[:, edge_index[1].argsort(stable=True)]
    return _updated(x, _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "one_message_per_node", "of several messages to a node only the last one is kept",
         hint="`out[dst] = ...` and `out[dst] += ...` write each index once.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    messages = _messages(x, src, dst, e, w_msg, b_msg)
    last = torch.full((len(x),), -1).scatter_reduce(0, dst, torch.arange(len(dst)), "amax")
    return _updated(x, _gathered(messages[last[last >= 0]], torch.where(last >= 0)[0], len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "ends_swapped", "the source stands before the destination in the message",
         hint="The rows of w_msg meet destination, source, edge, in this order.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    return _updated(x, _gathered(_messages(x, dst, src, e, w_msg, b_msg), dst, len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "reversed", "messages are gathered where they come from",
         hint="edge_index[1] is where a message arrives.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    return _updated(x, _gathered(_messages(x, src, dst, e, w_msg, b_msg), src, len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "always_sum", "messages are summed, whatever aggr says",
         hint="aggr chooses between three ways to gather.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    _gathered(e, dst, len(x), aggr)
    return _updated(x, _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), "sum"), w_upd, b_upd)


@mistake("mpnn_layer", "unknown_is_maximum", "any other value of aggr is taken for the maximum",
         hint="The contract asks for a ValueError; an `else` that catches everything hides misspelt names.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    way = aggr if aggr in ("sum", "mean") else "max"
    return _updated(x, _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), way), w_upd, b_upd)


@mistake("mpnn_layer", "whole_message_maximum", "the maximum picks the message with the largest sum",
         hint="Each channel has a maximum of its own, and they may come from different messages.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    messages = _messages(x, src, dst, e, w_msg, b_msg)
    gathered = _gathered(messages, dst, len(x), aggr)
    if aggr == "max":
        rows = []
        for node in range(len(x)):
            mine = messages[dst == node]
            rows.append(mine[mine.sum(dim=1).argmax()] if len(mine) else messages.new_zeros(messages.shape[1]))
        gathered = torch.stack(rows)
    return _updated(x, gathered, w_upd, b_upd)


@mistake("mpnn_layer", "linear_messages", "the messages go without a tanh",
         hint="Eq. (5) has a tanh around the affine map, before anything is gathered.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    messages = torch.cat([x[dst], x[src], e], dim=1) @ w_msg + b_msg
    return _updated(x, _gathered(messages, dst, len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "linear_update", "the update goes without a tanh",
         hint="Eq. (6) ends with a tanh.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    gathered = _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), aggr)
    return torch.cat([x, gathered], dim=1) @ w_upd + b_upd


@mistake("mpnn_layer", "loops_added", "every node sends itself a message",
         hint="This layer adds no loops: the update sees the node's own features anyhow.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = _looped(edge_index, len(x))
    e = torch.cat([e, torch.zeros(len(x), e.shape[1], dtype=e.dtype)])
    return _updated(x, _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "edge_features_detached", "no gradient reaches the features of the edges",
         hint="`.detach()`, `.data` and `no_grad` stop gradients.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    return _updated(x, _gathered(_messages(x, src, dst, e.detach(), w_msg, b_msg), dst, len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "assumes_sorted", "the edges are taken to be sorted by destination",
         hint="The list comes in any order; cutting it into pieces by the counts needs sorting first.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    place = dst.sort().values
    return _updated(x, _gathered(_messages(x, src, dst, e, w_msg, b_msg), place, len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "always_float64", "the result is float64 whatever the input",
         hint="The output has the dtype of the input.")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    src, dst = edge_index
    x, e, w_msg, b_msg, w_upd, b_upd = (one.double() for one in (x, e, w_msg, b_msg, w_upd, b_upd))
    return _updated(x, _gathered(_messages(x, src, dst, e, w_msg, b_msg), dst, len(x), aggr), w_upd, b_upd)


@mistake("mpnn_layer", "readout_mean", "graph_readout averages the nodes",
         hint="Eq. (6) sums: a graph of twice as many equal nodes reads twice as much.")
def graph_readout(x, batch, num_graphs):
    return _sum_at(batch, x, num_graphs) / _count(batch, num_graphs, x.dtype).clamp(min=1)[:, None]


@mistake("mpnn_layer", "readout_assumes_sorted", "graph_readout takes the nodes of a graph to stand side by side",
         hint="`batch` comes in any order.")
def graph_readout(x, batch, num_graphs):
    return torch.stack([part.sum(dim=0) for part in x.split(torch.bincount(batch, minlength=num_graphs).tolist())])


@mistake("mpnn_layer", "readout_last_node", "graph_readout keeps only the last node of each graph",
         hint="`out[batch] = ...` and `out[batch] += ...` write each index once.")
def graph_readout(x, batch, num_graphs):
    last = torch.full((num_graphs,), -1).scatter_reduce(0, batch, torch.arange(len(x)), "amax")
    return x[last] * (last >= 0)[:, None]


@mistake("mpnn_layer", "readout_counts_graphs", "graph_readout takes the number of graphs from batch",
         hint="The last graphs may have no nodes: then batch does not mention them, but num_graphs counts them.")
def graph_readout(x, batch, num_graphs):
    return _sum_at(batch, x, int(batch.max()) + 1)


@mistake("mpnn_layer", "readout_maximum", "graph_readout takes the maximum over the nodes",
         hint="Eq. (6) sums.")
def graph_readout(x, batch, num_graphs):
    return _gathered(x, batch, num_graphs, "max")


@alternative("mpnn_layer", "node_by_node")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    ways = {"sum": lambda m: m.sum(0), "mean": lambda m: m.mean(0), "max": lambda m: m.max(0).values}
    if aggr not in ways:
        raise ValueError(aggr)
    rows = []
    for node in range(len(x)):
        mine = (edge_index[1] == node).nonzero().flatten()
        both = torch.cat([x[node].expand(len(mine), -1), x[edge_index[0, mine]], e[mine]], dim=1)
        arrived = torch.tanh(both @ w_msg + b_msg)
        rows.append(ways[aggr](arrived) if len(mine) else 0 * b_msg)
    return torch.tanh(torch.hstack([x, torch.stack(rows)]) @ w_upd + b_upd)


@alternative("mpnn_layer", "node_by_node")
def graph_readout(x, batch, num_graphs):
    return torch.stack([x[batch == graph].sum(dim=0) for graph in range(num_graphs)])


@alternative("mpnn_layer", "weights_split")
def mpnn_layer(x, edge_index, e, w_msg, b_msg, w_upd, b_upd, aggr):
    own, other, edge = w_msg.split([x.shape[1], x.shape[1], e.shape[1]])
    arrived = torch.tanh((x @ own)[edge_index[1]] + (x @ other)[edge_index[0]] + torch.addmm(b_msg, e, edge))
    keep, read = w_upd.split([x.shape[1], w_msg.shape[1]])
    return torch.tanh(x @ keep + _gathered(arrived, edge_index[1], len(x), aggr) @ read + b_upd)


@alternative("mpnn_layer", "weights_split")
def graph_readout(x, batch, num_graphs):
    return torch.nn.functional.one_hot(batch, num_graphs).to(x.dtype).T @ x


# ------------------------------------------------------------------------------------------------------ gconv_gru

def _matrix(edge_index, weight, n):
    """The dense matrix of the graph: destination, source."""
    return torch.zeros(n, n, dtype=weight.dtype).index_put((edge_index[1], edge_index[0]), weight, accumulate=True)


def _power(degree):
    """degree ** -1/2, and 0 for 0."""
    return torch.where(degree > 0, degree.clamp(min=1e-30) ** -0.5, torch.zeros_like(degree))


def _normalised(matrix):
    factor = _power(matrix.sum(dim=1))
    return factor[:, None] * matrix * factor


def _star(matrix, x, theta):
    """The sum over k of matrix^k x theta_k."""
    total = x @ theta[0]
    for one in theta[1:]:
        x = matrix @ x
        total = total + x @ one
    return total


def _step(x, h, params, of_x, of_h):
    """One step of the GRU with the given convolutions of x and h."""
    (x_r, x_z, x_n), (h_r, h_z, h_n), (b_r, b_z, b_n) = params["theta_x"], params["theta_h"], params["b"]
    r = torch.sigmoid(of_x(x, x_r) + of_h(h, h_r) + b_r)
    z = torch.sigmoid(of_x(x, x_z) + of_h(h, h_z) + b_z)
    return torch.lerp(torch.tanh(of_x(x, x_n) + of_h(r * h, h_n) + b_n), h, z)


def _run(xs, h, params, of_x, of_h):
    states = []
    for x in xs:
        h = _step(x, h, params, of_x, of_h)
        states.append(h)
    return torch.stack(states)


def _with(matrix, xs, h, params, star=_star):
    def convolve(x, theta):
        return star(matrix, x, theta)
    return _run(xs, h, params, convolve, convolve)


@mistake("gconv_gru", "state_not_convolved", "the state does not mix with the neighbours' states",
         hint="Every product is replaced by a convolution, those with the state too.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    return _run(xs, h0, params, lambda x, theta: _star(matrix, x, theta), lambda h, theta: h @ theta[0])


@mistake("gconv_gru", "input_not_convolved", "the input does not mix with the neighbours' inputs",
         hint="Every product is replaced by a convolution, those with the input too.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    return _run(xs, h0, params, lambda x, theta: x @ theta[0], lambda h, theta: _star(matrix, h, theta))


@mistake("gconv_gru", "negative_matrix", "the normalised matrix has the wrong sign",
         hint="A Laplacian is I minus the matrix; Eq. (7) has the matrix itself.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    return _with(-_normalised(_matrix(edge_index, edge_weight, len(h0))), xs, h0, params)


@mistake("gconv_gru", "laplacian", "the convolution uses powers of the Laplacian",
         hint="Eq. (7) has powers of the normalised matrix, not of I minus it.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    return _with(torch.eye(len(h0), dtype=h0.dtype) - matrix, xs, h0, params)


@mistake("gconv_gru", "axes_confused", "xs is taken to be (N, T, F)",
         hint="Steps come first, then nodes. `reshape` makes the shapes fit and the numbers not.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    xs = xs.reshape(xs.shape[1], xs.shape[0], xs.shape[2]).transpose(0, 1)
    return _with(_normalised(_matrix(edge_index, edge_weight, len(h0))), xs, h0, params)


@mistake("gconv_gru", "powers_from_one", "the powers run from 1 to K",
         hint="Index 0 of theta belongs to the zeroth power: the node itself.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    return _with(matrix, xs, h0, params, lambda m, x, theta: _star(m, m @ x, theta))


@mistake("gconv_gru", "one_power_short", "the last power is left out",
         hint="There are K powers, from 0 to K - 1, one for each matrix in theta.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    return _with(matrix, xs, h0, params, lambda m, x, theta: _star(m, x, theta[:max(len(theta) - 1, 1)]))


@mistake("gconv_gru", "first_power_only", "all indices beyond 0 use the first power",
         hint="Each further index takes one more step over the edges.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    return _with(matrix, xs, h0, params, lambda m, x, theta: x @ theta[0] + m @ x @ theta[1:].sum(dim=0))


@mistake("gconv_gru", "chebyshev", "the powers are replaced by Chebyshev polynomials",
         hint="That is the basis of Seo et al.; ours, in Eq. (7), are plain powers.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    def star(m, x, theta):
        terms = [x, m @ x]
        while len(terms) < len(theta):
            terms.append(2 * m @ terms[-1] - terms[-2])
        return sum(term @ one for term, one in zip(terms, theta, strict=False))
    return _with(_normalised(_matrix(edge_index, edge_weight, len(h0))), xs, h0, params, star)


@mistake("gconv_gru", "mean", "rows are divided by the degree, instead of both ends by its root",
         hint="Eq. (7) has the power -1/2 of the degrees on both sides.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _matrix(edge_index, edge_weight, len(h0))
    return _with(_power(matrix.sum(dim=1)).square()[:, None] * matrix, xs, h0, params)


@mistake("gconv_gru", "not_normalised", "the weights are not divided by the degrees",
         hint="Eq. (7) has powers of the normalised matrix.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    return _with(_matrix(edge_index, edge_weight, len(h0)), xs, h0, params)


@mistake("gconv_gru", "weights_ignored", "the weights of the edges are not used",
         hint="edge_weight enters the matrix, and through it the degrees.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    return _with(_normalised(_matrix(edge_index, torch.ones_like(edge_weight), len(h0))), xs, h0, params)


@mistake("gconv_gru", "degrees_count_edges", "the degrees count the edges, without their weights",
         hint="A degree is the sum of the weights of the edges that arrive.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    factor = _power(_count(edge_index[1], len(h0), h0.dtype))
    return _with(factor[:, None] * _matrix(edge_index, edge_weight, len(h0)) * factor, xs, h0, params)


@mistake("gconv_gru", "outgoing_degrees", "the degrees sum over the edges that leave a node",
         hint="The degrees are the row sums of A, and rows are destinations.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _matrix(edge_index, edge_weight, len(h0))
    factor = _power(matrix.sum(dim=0))
    return _with(factor[:, None] * matrix * factor, xs, h0, params)


@mistake("gconv_gru", "reversed", "signals travel against the direction of the edges",
         hint="edge_index[1] is where a signal arrives: the row of A.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    return _with(_normalised(_matrix(edge_index.flip(0), edge_weight, len(h0))), xs, h0, params)


@mistake("gconv_gru", "loops_added", "a loop is added to every node",
         hint="The zeroth power is the node itself; Eq. (7) adds no loops.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _matrix(edge_index, edge_weight, len(h0)) + torch.eye(len(h0), dtype=h0.dtype)
    return _with(_normalised(matrix), xs, h0, params)


@mistake("gconv_gru", "degree_at_least_one", "a degree below 1 is taken to be 1",
         hint="Weights may be small, so degrees between 0 and 1 are real. Only 0 itself is special.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _matrix(edge_index, edge_weight, len(h0))
    factor = matrix.sum(dim=1).clamp(min=1) ** -0.5
    return _with(factor[:, None] * matrix * factor, xs, h0, params)


@mistake("gconv_gru", "degree_zero_infinite", "nothing is done about nodes with degree 0",
         hint="0 to the power -1/2 is infinite; the contract asks for the factor 0.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _matrix(edge_index, edge_weight, len(h0))
    factor = matrix.sum(dim=1) ** -0.5
    return _with(factor[:, None] * matrix * factor, xs, h0, params)


def _careless(xs, edge_index, edge_weight, h0, params, step):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    states, h = [], h0
    for x in xs:
        h = step(x, h, params, lambda one, theta: _star(matrix, one, theta))
        states.append(h)
    return torch.stack(states)


@mistake("gconv_gru", "reset_after", "the reset gate multiplies the convolved state",
         hint="Eq. (9) convolves r * h: the gate acts on the state itself.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    def step(x, h, params, star):
        r, z = (torch.sigmoid(star(x, params["theta_x"][i]) + star(h, params["theta_h"][i]) + params["b"][i])
                for i in (0, 1))
        n = torch.tanh(star(x, params["theta_x"][2]) + r * star(h, params["theta_h"][2]) + params["b"][2])
        return z * h + (1 - z) * n
    return _careless(xs, edge_index, edge_weight, h0, params, step)


@mistake("gconv_gru", "update_gate_swapped", "z weighs the candidate and 1 - z the old state",
         hint="In Eq. (9) a z of 1 keeps the old state.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    def step(x, h, params, star):
        new = _step(x, h, params, star, star)
        z = torch.sigmoid(star(x, params["theta_x"][1]) + star(h, params["theta_h"][1]) + params["b"][1])
        return h + (new - h) * z / (1 - z)
    return _careless(xs, edge_index, edge_weight, h0, params, step)


@mistake("gconv_gru", "gates_swapped", "the first block is taken for z and the second for r",
         hint="The blocks come in the order r, z, n.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    params = {name: value[[1, 0, 2]] for name, value in params.items()}
    return _with(_normalised(_matrix(edge_index, edge_weight, len(h0))), xs, h0, params)


@mistake("gconv_gru", "h0_ignored", "the first state is 0 instead of h0",
         hint="h0 is an argument: a sequence may go on from where another one ended.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    return _with(_normalised(_matrix(edge_index, edge_weight, len(h0))), xs, torch.zeros_like(h0), params)


@mistake("gconv_gru", "state_not_carried", "every step begins with h0",
         hint="The state after one step is what the next one begins with.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    return torch.cat([_with(matrix, x[None], h0, params) for x in xs])


@mistake("gconv_gru", "last_state_only", "only the last state is returned",
         hint="The contract asks for the states after each step.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    return _with(_normalised(_matrix(edge_index, edge_weight, len(h0))), xs, h0, params)[-1]


@mistake("gconv_gru", "state_detached", "no gradient passes from one step to the one before",
         hint="`.detach()` between the steps truncates backpropagation through time.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    return _careless(xs, edge_index, edge_weight, h0, params,
                     lambda x, h, params, star: _step(x, h if h is h0 else h.detach(), params, star, star))


_seen = {}


@mistake("gconv_gru", "matrix_remembered", "the matrix of an earlier graph with as many nodes and edges is used again",
         hint="Two graphs of one size are two graphs. Nothing may be remembered between calls.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    size = len(h0), len(edge_weight), h0.dtype
    _seen.setdefault(size, _normalised(_matrix(edge_index, edge_weight.detach(), len(h0))))
    return _with(_seen[size], xs, h0, params)


@mistake("gconv_gru", "weights_in_place", "the caller's edge weights are normalised in place",
         hint="`edge_weight *= ...` writes to the input.")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    src, dst = edge_index
    factor = _power(_sum_at(dst, edge_weight, len(h0)))
    edge_weight *= factor[dst] * factor[src]
    return _with(_matrix(edge_index, edge_weight, len(h0)), xs, h0, params)


@alternative("gconv_gru", "dense_powers")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    matrix = _normalised(_matrix(edge_index, edge_weight, len(h0)))
    powers = [torch.eye(len(h0), dtype=h0.dtype)]
    while len(powers) < params["theta_x"].shape[1]:
        powers.append(matrix @ powers[-1])
    stacked = torch.stack(powers)

    def star(x, theta):
        return torch.einsum("knm,mf,kfh->nh", stacked, x, theta)
    return _run(xs, h0, params, star, star)


@alternative("gconv_gru", "inputs_first")
def gconv_gru(xs, edge_index, edge_weight, h0, params):
    src, dst = edge_index
    factor = _power(_sum_at(dst, edge_weight, len(h0)))
    entry = factor[dst] * factor[src] * edge_weight

    def star(x, theta):  # (..., N, F)
        total = x @ theta[0]
        for one in theta[1:]:
            x = torch.zeros_like(x).index_add(-2, dst, x.index_select(-2, src) * entry[:, None])
            total = total + x @ one
        return total
    from_x = [star(xs, theta) + b for theta, b in zip(params["theta_x"], params["b"], strict=True)]
    of_r, of_z, of_n = params["theta_h"]
    h, states = h0, []
    for a_r, a_z, a_n in zip(*from_x, strict=True):
        gate = (a_z + star(h, of_z)).sigmoid()
        candidate = (a_n + star((a_r + star(h, of_r)).sigmoid() * h, of_n)).tanh()
        h = candidate + gate * (h - candidate)
        states.append(h)
    return torch.stack(states)


# ------------------------------------------------------------------------------------------------ temporal_memory

def _waves(dt, params):
    return torch.cos(torch.outer(dt, params["time_w"]) + params["time_b"])


def _gru(message, h, params):
    return torch.gru_cell(message, h, params["w_ih"], params["w_hh"], params["b_ih"], params["b_hh"])


def _sides(src, dst):
    """(node, partner, event) of every message, in the order of the events."""
    node = torch.stack([src, dst], dim=1).flatten()
    partner = torch.stack([dst, src], dim=1).flatten()
    return node, partner, torch.arange(len(src)).repeat_interleave(2)


def _message(memory, last_t, node, partner, event, t, feat, params):
    return torch.cat([memory[node], memory[partner], _waves(t[event] - last_t[node], params), feat[event]], dim=1)


def _most_recent(node, size):
    """For each node that occurs the position of its last message."""
    place = torch.full((size,), -1).scatter_reduce(0, node, torch.arange(len(node)), "amax")
    return place[place >= 0]


def _remember(memory, last_t, src, dst, t, feat, params, message=_message, choose=_most_recent, sides=_sides):
    """A batch of events; what may go wrong is passed in."""
    node, partner, event = sides(src, dst)
    chosen = choose(node, len(memory))
    node, partner, event = node[chosen], partner[chosen], event[chosen]
    new = _gru(message(memory, last_t, node, partner, event, t, feat, params), memory[node], params)
    return memory.index_put((node,), new), last_t.index_put((node,), t[event])


def _score(memory, src, dst):
    return torch.einsum("ed,ed->e", memory[src], memory[dst]) / memory.shape[1] ** 0.5


@mistake("temporal_memory", "sine", "time_encode takes the sine",
         hint="Eq. (10) has a cosine: no time at all, with phase 0, is 1.")
def time_encode(dt, w, b):
    return torch.sin(dt[:, None] * w + b)


@mistake("temporal_memory", "no_phase", "time_encode leaves out the phases",
         hint="b is added to the angle.")
def time_encode(dt, w, b):
    return torch.cos(dt[:, None] * w) + 0 * b


@mistake("temporal_memory", "phase_before_frequency", "time_encode adds the phase before it multiplies",
         hint="The angle is frequency times time, plus phase.")
def time_encode(dt, w, b):
    return torch.cos((dt[:, None] + b) * w)


@mistake("temporal_memory", "phase_outside", "time_encode adds the phase to the cosine",
         hint="The phase belongs to the angle, inside the cosine.")
def time_encode(dt, w, b):
    return torch.cos(dt[:, None] * w) + b


@mistake("temporal_memory", "absolute_time", "tgn_update encodes the time of the event",
         hint="Eq. (11) encodes the time since the node's memory last changed.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    def message(memory, last_t, node, partner, event, t, feat, params):
        return _message(memory, 0 * last_t, node, partner, event, t, feat, params)
    return _remember(memory, last_t, src, dst, t, feat, params, message=message)


@mistake("temporal_memory", "partners_time", "tgn_update encodes the time since the partner's memory last changed",
         hint="Each end has a time of its own: t minus last_t of the node that gets the message.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    def message(memory, last_t, node, partner, event, t, feat, params):
        waves = _waves(t[event] - last_t[partner], params)
        return torch.cat([memory[node], memory[partner], waves, feat[event]], dim=1)
    return _remember(memory, last_t, src, dst, t, feat, params, message=message)


@mistake("temporal_memory", "one_message_for_both", "tgn_update gives the reader the message of the writer",
         hint="In the second message of Eq. (11) the memories change places: each end comes first in its own.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    def message(memory, last_t, node, partner, event, t, feat, params):
        waves = _waves(t[event] - last_t[node], params)
        return torch.cat([memory[src[event]], memory[dst[event]], waves, feat[event]], dim=1)
    return _remember(memory, last_t, src, dst, t, feat, params, message=message)


@mistake("temporal_memory", "partner_first", "tgn_update puts the partner's memory before the node's own",
         hint="In Eq. (11) a node's own memory comes first.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    def message(memory, last_t, node, partner, event, t, feat, params):
        waves = _waves(t[event] - last_t[node], params)
        return torch.cat([memory[partner], memory[node], waves, feat[event]], dim=1)
    return _remember(memory, last_t, src, dst, t, feat, params, message=message)


@mistake("temporal_memory", "first_event", "tgn_update keeps a node's first message of the batch",
         hint="The most recent message stays; events are in ascending order of time.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    def first(node, size):
        place = torch.full((size,), len(node)).scatter_reduce(0, node, torch.arange(len(node)), "amin")
        return place[place < len(node)]
    return _remember(memory, last_t, src, dst, t, feat, params, choose=first)


@mistake("temporal_memory", "writer_only", "tgn_update remembers an event only for the one who writes",
         hint="Both ends get a message, and both update their memories.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    return _remember(memory, last_t, src, dst, t, feat, params, sides=lambda s, d: (s, d, torch.arange(len(s))))


@mistake("temporal_memory", "reader_only", "tgn_update remembers an event only for the one who reads",
         hint="Both ends get a message, and both update their memories.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    return _remember(memory, last_t, src, dst, t, feat, params, sides=lambda s, d: (d, s, torch.arange(len(s))))


@mistake("temporal_memory", "readers_win", "in tgn_update a node that writes and reads keeps what it read",
         hint="First all writers and then all readers is not the order of time: compare which event is later.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    def one_after_the_other(src, dst):
        return torch.cat([src, dst]), torch.cat([dst, src]), torch.arange(len(src)).repeat(2)
    return _remember(memory, last_t, src, dst, t, feat, params, sides=one_after_the_other)


@mistake("temporal_memory", "one_by_one", "tgn_update applies the events of a batch one after the other",
         hint="Within a batch all messages come from the memories before it, and a node keeps only the last.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    for k in range(len(src)):
        one = slice(k, k + 1)
        memory, last_t = _remember(memory, last_t, src[one], dst[one], t[one], feat[one], params)
    return memory, last_t


@mistake("temporal_memory", "mean_message", "tgn_update averages the messages of a node",
         hint="The paper offers that, too. Ours is the most recent message.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    node, partner, event = _sides(src, dst)
    messages = _message(memory, last_t, node, partner, event, t, feat, params)
    count = _count(node, len(memory), memory.dtype)
    mean = _sum_at(node, messages, len(memory)) / count.clamp(min=1)[:, None]
    _, times = _remember(memory, last_t, src, dst, t, feat, params)
    return torch.where(count[:, None] > 0, _gru(mean, memory, params), memory), times


@mistake("temporal_memory", "everybody_updated", "tgn_update also changes nodes without an event",
         hint="A GRU changes its state even for a message of zeros: leave out those who have none.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    new, times = _remember(memory, last_t, src, dst, t, feat, params)
    none = torch.zeros(len(memory), params["w_ih"].shape[1], dtype=memory.dtype)
    return torch.where((times == last_t)[:, None], _gru(none, memory, params), new), times


@mistake("temporal_memory", "last_t_kept", "tgn_update returns last_t as it was",
         hint="For the nodes of the batch, last_t becomes the time of their last event.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    return _remember(memory, last_t, src, dst, t, feat, params)[0], last_t + 0


@mistake("temporal_memory", "last_t_of_batch", "tgn_update sets last_t to the end of the batch",
         hint="Each node's last_t is the time of its own last event.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    memory, times = _remember(memory, last_t, src, dst, t, feat, params)
    return memory, torch.where(times == last_t, last_t, t[-1])


@mistake("temporal_memory", "elapsed_from_new", "tgn_update measures the time from the new last_t, so it is always 0",
         hint="The time since the last change has to be taken before last_t is renewed.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    _, times = _remember(memory, last_t, src, dst, t, feat, params)
    return _remember(memory, times, src, dst, t, feat, params)[0], times


@mistake("temporal_memory", "state_is_zero", "tgn_update's GRU starts from 0 instead of the memory",
         hint="The memory is the state of the GRU, besides being part of the message.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    node, partner, event = _sides(src, dst)
    chosen = _most_recent(node, len(memory))
    node, partner, event = node[chosen], partner[chosen], event[chosen]
    message = _message(memory, last_t, node, partner, event, t, feat, params)
    new = _gru(message, torch.zeros_like(memory[node]), params)
    return memory.index_put((node,), new), last_t.index_put((node,), t[event])


@mistake("temporal_memory", "messages_detached", "no gradient passes through tgn_update's messages",
         hint="The paper lets gradients pass through the messages: how else would the encoding of time learn?")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    def message(*arguments):
        return _message(*arguments).detach()
    return _remember(memory, last_t, src, dst, t, feat, params, message=message)


@mistake("temporal_memory", "memory_in_place", "tgn_update writes into the caller's memory",
         hint="`memory[nodes] = ...` changes the input. `index_copy` and `index_put` return a new tensor.")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    new, times = _remember(memory, last_t, src, dst, t, feat, params)
    memory[:] = new
    last_t[:] = times
    return memory, last_t


@mistake("temporal_memory", "scored_after", "tgn_stream remembers a batch before it scores it",
         hint="The score of an event must not know the event: score first, remember then.")
def tgn_stream(memory, last_t, src, dst, t, feat, batch, params):
    scores = []
    for part in torch.arange(len(t)).split(batch):
        memory, last_t = _remember(memory, last_t, src[part], dst[part], t[part], feat[part], params)
        scores.append(_score(memory, src[part], dst[part]))
    return torch.cat(scores), memory, last_t


@mistake("temporal_memory", "not_scaled", "tgn_stream's scores are not divided by √D",
         hint="Eq. (13) divides the dot product by the root of the memory's width.")
def tgn_stream(memory, last_t, src, dst, t, feat, batch, params):
    scores = []
    for part in torch.arange(len(t)).split(batch):
        scores.append((memory[src[part]] * memory[dst[part]]).sum(dim=1))
        memory, last_t = _remember(memory, last_t, src[part], dst[part], t[part], feat[part], params)
    return torch.cat(scores), memory, last_t


@mistake("temporal_memory", "one_batch", "tgn_stream takes all events as a single batch",
         hint="`batch` events at a time: later batches see what earlier ones left in the memories.")
def tgn_stream(memory, last_t, src, dst, t, feat, batch, params):
    return _score(memory, src, dst), *_remember(memory, last_t, src, dst, t, feat, params)


@mistake("temporal_memory", "batches_of_one", "tgn_stream takes every event as a batch of its own",
         hint="Scores and messages of one batch all come from the memories before the batch.")
def tgn_stream(memory, last_t, src, dst, t, feat, batch, params):
    scores = []
    for part in torch.arange(len(t)).split(1):
        scores.append(_score(memory, src[part], dst[part]))
        memory, last_t = _remember(memory, last_t, src[part], dst[part], t[part], feat[part], params)
    return torch.cat(scores), memory, last_t


@mistake("temporal_memory", "last_batch_dropped", "tgn_stream leaves out a last batch that is not full",
         hint="The number of events need not be a multiple of `batch`.")
def tgn_stream(memory, last_t, src, dst, t, feat, batch, params):
    scores = [memory[:0, 0]]
    for k in range(len(t) // batch):
        part = slice(k * batch, (k + 1) * batch)
        scores.append(_score(memory, src[part], dst[part]))
        memory, last_t = _remember(memory, last_t, src[part], dst[part], t[part], feat[part], params)
    return torch.cat(scores), memory, last_t


@mistake("temporal_memory", "memory_not_carried", "in tgn_stream every batch begins with the first memories",
         hint="A batch begins with the memories, and the times, that the batch before left.")
def tgn_stream(memory, last_t, src, dst, t, feat, batch, params):
    scores, new = [], (memory, last_t)
    for part in torch.arange(len(t)).split(batch):
        scores.append(_score(memory, src[part], dst[part]))
        new = _remember(memory, last_t, src[part], dst[part], t[part], feat[part], params)
    return torch.cat(scores), *new


@mistake("temporal_memory", "stream_detached", "in tgn_stream no gradient passes from one batch to the next",
         hint="Training code may cut the graph between batches; this function must not: gradients pass through all.")
def tgn_stream(memory, last_t, src, dst, t, feat, batch, params):
    scores = []
    for k, part in enumerate(torch.arange(len(t)).split(batch)):
        if k:
            memory = memory.detach()
        scores.append(_score(memory, src[part], dst[part]))
        memory, last_t = _remember(memory, last_t, src[part], dst[part], t[part], feat[part], params)
    return torch.cat(scores), memory, last_t


@mistake("temporal_memory", "times_in_float64", "time_encode's result is float64 whatever the input",
         hint="The output has the dtype of the input.")
def time_encode(dt, w, b):
    return torch.cos(dt.double()[:, None] * w.double() + b.double())


@alternative("temporal_memory", "event_by_event")
def time_encode(dt, w, b):
    return torch.stack([torch.cos(b + one * w) for one in dt])


@alternative("temporal_memory", "event_by_event")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    rows, times = list(memory), list(last_t)
    for k, (i, j) in enumerate(zip(src.tolist(), dst.tolist(), strict=True)):
        for own, other in [(i, j), (j, i)]:
            waves = torch.cos((t[k] - last_t[own]) * params["time_w"] + params["time_b"])
            message = torch.cat([memory[own], memory[other], waves, feat[k]])
            rows[own] = _gru(message[None], memory[own][None], params)[0]
            times[own] = t[k]
    return torch.stack(rows), torch.stack(times)


@alternative("temporal_memory", "event_by_event")
def tgn_stream(memory, last_t, src, dst, t, feat, batch, params):
    scores = []
    for start in range(0, len(t), batch):
        part = slice(start, min(start + batch, len(t)))
        scores.extend((memory[i] @ memory[j]) / memory.shape[1] ** 0.5
                      for i, j in zip(src[part].tolist(), dst[part].tolist(), strict=True))
        memory, last_t = _remember(memory, last_t, src[part], dst[part], t[part], feat[part], params)
    return torch.stack(scores), memory, last_t


@alternative("temporal_memory", "all_nodes_at_once")
def time_encode(dt, w, b):
    return torch.cos(torch.addcmul(b, dt.unsqueeze(1), w))


@alternative("temporal_memory", "all_nodes_at_once")
def tgn_update(memory, last_t, src, dst, t, feat, params):
    everyone = torch.arange(len(memory))
    present = (src == everyone[:, None]) | (dst == everyone[:, None])  # (N, E)
    event = (present * torch.arange(1, len(src) + 1)).argmax(dim=1)
    partner = torch.where(src[event] == everyone, dst[event], src[event])
    new = _gru(_message(memory, last_t, everyone, partner, event, t, feat, params), memory, params)
    some = present.any(dim=1)
    return torch.where(some[:, None], new, memory), torch.where(some, t[event], last_t)
