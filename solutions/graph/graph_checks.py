"""Checks of the unit on graphs. Public ones need no reference: they state what the equations imply."""
import math

import torch
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure
from etude.properties import (
    assert_equivalent,
    assert_finite_at,
    assert_gradient_consistent,
    assert_pure,
    assert_refuses,
    assert_shape,
    gradients,
)
from etude.strategies import Cases, computed, for_all, integers, normal, positive, value_of

# Graphs are drawn edge by edge, so loops and repeated edges come by themselves; E may be 0.
EDGES = integers("2 E", 0, "N")
SMALL_GRAPHS = {"N": (1, 6), "E": (0, 12)}
DENSER = [{"N": 5, "E": 17}, {"N": 6, "E": 9}]


def another_order(case, arguments, *by_edge):
    """The same graph with its list of edges shuffled; `by_edge` are the arguments with a row for each edge."""
    order = torch.randperm(case.E, generator=case.generator(4))
    return {**arguments, "edge_index": arguments["edge_index"][:, order], **{n: arguments[n][order] for n in by_edge}}


def assert_unnumbered(function, case, by_node, by_edge=(), axis=0):
    """Other numbers for the nodes renumber the rows of the output, and the order of the edges does not matter."""
    arguments = case.arguments()
    before = function(*arguments.values()).detach()
    number = torch.randperm(case.N, generator=case.generator(3))  # node i is now called number[i]
    node = number.argsort()
    renamed = {**arguments, "edge_index": number[arguments["edge_index"]],
               **{n: arguments[n].index_select(arguments[n].ndim - 2, node) for n in by_node}}
    assert_same(function(*renamed.values()), before.index_select(axis, node), "output for nodes numbered otherwise")
    assert_same(function(*another_order(case, arguments, *by_edge).values()), before,
                "output for the edges in another order")


# ---------------------------------------------------------------------------------------------- scatter_softmax

SOFTMAX = Cases(s=normal("E", scale=2), dst=integers("E", 0, "N"), num_nodes=value_of("N"),
                sizes={"N": (1, 6), "E": (0, 12, 70)}, also=[{"N": 4, "E": 11}])


@exercise("scatter_softmax")
@points(1)
@public
@for_all(case=SOFTMAX)
def test_softmax_sums(student, case):
    """There is a positive weight for each edge, and the weights of the edges into a node sum to 1."""
    s, dst, _ = case.arguments().values()
    weights = assert_shape(student.scatter_softmax, case, case.E).detach()
    assert_same(weights > 0, torch.ones_like(dst, dtype=torch.bool), "where the weights are positive")
    for node in set(dst.tolist()):
        assert_same(weights[dst == node].sum(), torch.ones((), dtype=s.dtype), f"sum of the weights into node {node}")


@exercise("scatter_softmax")
@points(2)
@public
@for_all(case=Cases(a=normal("N", scale=2), b=normal("N", scale=2), sizes={"N": (1, 6)}))
def test_softmax_two_edges(student, case):
    """A node with two edges gives them the sigmoid of the difference of their scores, and a single edge gets 1."""
    a, b = case.arguments().values()
    nodes = torch.arange(case.N)
    weights = student.scatter_softmax(torch.cat([a, b, a]), torch.cat([nodes, nodes, nodes + case.N]), 2 * case.N)
    first = torch.sigmoid(a - b)
    assert_same(weights, torch.cat([first, 1 - first, torch.ones_like(a)]), "weights")


@exercise("scatter_softmax")
@points(2)
@public
@for_all(case=SOFTMAX, corners=False)
def test_softmax_shift(student, case):
    """Adding a number to all scores of one node changes nothing, even a thousand, and even if it differs by node."""
    s, dst, num_nodes = case.arguments().values()
    before = student.scatter_softmax(s, dst, num_nodes).detach()
    shift = 1000 * torch.randn(case.N, generator=case.generator(3), dtype=torch.float64)
    shift[0] = -1000.0
    assert_same(student.scatter_softmax(s + shift[dst], dst, num_nodes), before, "weights after the shift")


@exercise("scatter_softmax")
@points(1)
@public
@for_all(case=SOFTMAX, corners=False)
def test_softmax_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.scatter_softmax, case)


@exercise("scatter_softmax")
@points(3)
@for_all(case=SOFTMAX)
def test_softmax_values_and_gradients(student, reference, case):
    """Values and gradients are right for any number of edges, in any order."""
    assert_equivalent(student.scatter_softmax, reference.scatter_softmax, case)


@exercise("scatter_softmax")
@points(1)
@for_all(case=SOFTMAX, corners=False)
def test_softmax_float32_and_purity(student, reference, case):
    """The input is left alone, float32 is kept and accurate, and large scores stay finite."""
    assert_pure(student.scatter_softmax, case)
    assert_equivalent(student.scatter_softmax, reference.scatter_softmax, case.but(dtype=torch.float32))
    assert_finite_at(student.scatter_softmax, case)


# ---------------------------------------------------------------------------------------------- gcn_conv

GCN = Cases(x=normal("N F"), edge_index=EDGES, w=normal("F O"), sizes={"N": (1, 6), "E": (0, 12, 70)}, also=DENSER)


@exercise("gcn_conv")
@points(1)
@public
@for_all(case=GCN)
def test_gcn_without_edges(student, case):
    """In a graph without edges every node is on its own: the output is x w."""
    x, _, w = case.arguments().values()
    output = student.gcn_conv(x, torch.zeros(2, 0, dtype=torch.long), w)
    assert_same(output, torch.einsum("nf,fo->no", x, w))


@exercise("gcn_conv")
@points(2)
@public
@for_all(case=Cases(x=normal("3 F"), w=normal("F O")))
def test_gcn_one_edge(student, case):
    """One edge from node 0 to node 1: node 1 gets x₁w/2 + x₀w/√2, and nodes 0 and 2 keep x w."""
    x, w = case.arguments().values()
    plain = torch.einsum("nf,fo->no", x, w)
    expected = torch.stack([plain[0], plain[1] / 2 + plain[0] / math.sqrt(2), plain[2]])
    assert_same(student.gcn_conv(x, torch.tensor([[0], [1]]), w), expected)


@exercise("gcn_conv")
@points(1)
@public
@for_all(case=Cases(x=normal("1 F"), w=normal("F O"), copies=value_of("copies"), loops=value_of("loops"),
                    sizes={"copies": (1, 3), "loops": (0, 2)}))
def test_gcn_counts_copies(student, case):
    """Where all nodes are equal and have equally many edges in and out, copies and loops included, nothing mixes."""
    x, w, copies, loops = case.arguments().values()
    ring = torch.tensor([[i, (i + 1) % 5] for i in range(5)] * copies + [[i, i] for i in range(5)] * loops).T
    assert_same(student.gcn_conv(x.repeat(5, 1), ring, w), torch.einsum("nf,fo->no", x, w).repeat(5, 1))


@exercise("gcn_conv")
@points(1)
@public
@for_all(case=GCN, corners=False)
def test_gcn_unnumbered(student, case):
    """The numbering of the nodes and the order of the edges do not matter."""
    assert_unnumbered(student.gcn_conv, case, ["x"])


@exercise("gcn_conv")
@points(1)
@public
@for_all(case=GCN, corners=False)
def test_gcn_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.gcn_conv, case)


@exercise("gcn_conv")
@points(3)
@for_all(case=GCN)
def test_gcn_values_and_gradients(student, reference, case):
    """Values and gradients are right for any graph: directed, with loops, repeated edges or no edge at all."""
    assert_equivalent(student.gcn_conv, reference.gcn_conv, case)


@exercise("gcn_conv")
@points(1)
@for_all(case=GCN, corners=False)
def test_gcn_dense(student, case):
    """The output is that of the dense matrices of the definition."""
    x, edge_index, w = case.arguments().values()
    matrix = torch.eye(case.N, dtype=x.dtype)
    for source, destination in edge_index.T.tolist():
        matrix[destination, source] += 1
    root = torch.diag(matrix.sum(dim=1) ** -0.5)
    assert_same(student.gcn_conv(x, edge_index, w), torch.linalg.multi_dot([root, matrix, root, x, w]))


@exercise("gcn_conv")
@points(1)
@for_all(case=GCN, corners=False)
def test_gcn_float32_and_purity(student, reference, case):
    """The inputs are left alone, and float32 is kept and accurate."""
    assert_pure(student.gcn_conv, case)
    assert_equivalent(student.gcn_conv, reference.gcn_conv, case.but(dtype=torch.float32))


# ---------------------------------------------------------------------------------------------- gat_conv

SLOPES = {"slope": (0.2, 0.7)}
GAT = Cases(x=normal("N F"), edge_index=EDGES, w=normal("F H*D"), a_src=normal("H D"), a_dst=normal("H D"),
            slope=value_of("slope"), sizes={"N": (1, 6), "E": (0, 12, 70)}, flags=SLOPES, also=DENSER)
GAT2 = Cases(x=normal("N F"), edge_index=EDGES, w_src=normal("F H*D"), w_dst=normal("F H*D"), a=normal("H D"),
             slope=value_of("slope"), sizes={"N": (1, 6), "E": (0, 12, 70)}, flags=SLOPES, also=DENSER)
PAIR = torch.tensor([[0], [1]])


@exercise("gat_conv")
@points(2)
@public
@for_all(case=GAT)
def test_gat_indifferent(student, case):
    """With score vectors of 0 a node gets the mean over the sources of its edges and itself, in both versions."""
    x, edge_index, w, a_src, _, slope = case.arguments().values()
    z = torch.einsum("nf,fo->no", x, w)
    sources = [[i] + edge_index[0][edge_index[1] == i].tolist() for i in range(case.N)]
    expected = torch.stack([z[one].mean(dim=0) for one in sources])
    none = torch.zeros(a_src.shape, dtype=x.dtype)
    assert_same(student.gat_conv(x, edge_index, w, none, none, slope), expected, "output of gat_conv")
    assert_same(student.gatv2_conv(x, edge_index, w, 2 * w, none, slope), expected, "output of gatv2_conv")


@exercise("gat_conv")
@points(2)
@public
@for_all(case=Cases(x=normal("2 F"), w=normal("F D"), a_src=normal("1 D"), a_dst=normal("1 D"),
                    slope=value_of("slope"), flags=SLOPES))
def test_gat_one_edge(student, case):
    """gat_conv: node 0 sends to node 1, whose weight for it is the sigmoid of the difference of two scores."""
    x, w, a_src, a_dst, slope = case.arguments().values()
    first, second = torch.einsum("nf,fo->no", x, w)
    ask, other, own = (a_dst[0] * second).sum(), (a_src[0] * first).sum(), (a_src[0] * second).sum()
    other, own = (torch.nn.functional.leaky_relu(ask + part, slope) for part in (other, own))
    share = torch.sigmoid(other - own)
    expected = torch.stack([first, share * first + (1 - share) * second])
    assert_same(student.gat_conv(x, PAIR, w, a_src, a_dst, slope), expected)


@exercise("gat_conv")
@points(1)
@public
@for_all(case=GAT, corners=False)
def test_gat_heads(student, case):
    """gat_conv: every head is computed by itself, from its own columns of w and its own rows of a_src and a_dst."""
    x, edge_index, w, a_src, a_dst, slope = case.arguments().values()
    together = student.gat_conv(x, edge_index, w, a_src, a_dst, slope)
    h = case.seed % case.H
    mine = slice(h * case.D, (h + 1) * case.D)
    alone = student.gat_conv(x, edge_index, w[:, mine], a_src[h:h + 1], a_dst[h:h + 1], slope)
    assert_same(together[:, mine], alone.detach(), f"columns of head {h}")


@exercise("gat_conv")
@points(1)
@public
@for_all(case=GAT2, corners=False)
def test_gatv2_heads(student, case):
    """gatv2_conv: every head is computed by itself, from its own columns of both matrices and its own row of a."""
    x, edge_index, w_src, w_dst, a, slope = case.arguments().values()
    together = student.gatv2_conv(x, edge_index, w_src, w_dst, a, slope)
    h = case.seed % case.H
    mine = slice(h * case.D, (h + 1) * case.D)
    alone = student.gatv2_conv(x, edge_index, w_src[:, mine], w_dst[:, mine], a[h:h + 1], slope)
    assert_same(together[:, mine], alone.detach(), f"columns of head {h}")


@exercise("gat_conv")
@points(2)
@public
@for_all(case=Cases(keys=normal("N"), slope=value_of("slope"), sizes={"N": (2, 6)}, flags=SLOPES))
def test_gatv2_finds_the_nearest(student, case):
    """gatv2_conv can give every node its own favourite: hidden units u and -u make a score of the distance."""
    keys, slope = case.arguments().values()
    # Features: the key, and a one-hot number that the scores ignore and that makes the weights visible.
    number = torch.eye(case.N, dtype=keys.dtype)
    x = torch.cat([keys[:, None], number], dim=1)
    w_src = torch.block_diag(torch.tensor([[1, -1]], dtype=keys.dtype), number)
    w_dst = -w_src
    w_dst[1:] = 0
    a = torch.zeros(1, case.N + 2, dtype=keys.dtype)
    a[0, :2] = -3
    everybody = torch.cartesian_prod(torch.arange(case.N), torch.arange(case.N)).T
    others = everybody[:, everybody[0] != everybody[1]]
    weights = student.gatv2_conv(x, others, w_src, w_dst, a, slope)[:, 2:]
    distance = (keys[:, None] - keys).abs()
    assert_same(weights, torch.softmax(-3 * (1 - slope) * distance, dim=1), "weights (row: who reads)")


@exercise("gat_conv")
@points(1)
@public
@for_all(case=GAT, corners=False)
def test_gat_unnumbered(student, case):
    """The numbering of the nodes and the order of the edges do not matter, in both versions."""
    assert_unnumbered(student.gat_conv, case, ["x"])
    second = GAT2.case(case.sizes, case.flags, seed=case.seed, layout=case.layout)
    assert_unnumbered(student.gatv2_conv, second, ["x"])


@exercise("gat_conv")
@points(1)
@public
@for_all(case=GAT, corners=False)
def test_gat_gradient_consistent(student, case):
    """The gradients are those of the values: they agree with finite differences of your own functions."""
    assert_gradient_consistent(student.gat_conv, case)
    second = GAT2.case(case.sizes, case.flags, seed=case.seed, layout=case.layout)
    assert_gradient_consistent(student.gatv2_conv, second)


@exercise("gat_conv")
@points(3)
@for_all(case=GAT)
def test_gat_values_and_gradients(student, reference, case):
    """gat_conv: values and gradients are right for any graph, any number of heads and any slope."""
    assert_equivalent(student.gat_conv, reference.gat_conv, case)


@exercise("gat_conv")
@points(2)
@for_all(case=GAT2)
def test_gatv2_values_and_gradients(student, reference, case):
    """gatv2_conv: values and gradients are right for any graph, any number of heads and any slope."""
    assert_equivalent(student.gatv2_conv, reference.gatv2_conv, case)


@exercise("gat_conv")
@points(1)
@for_all(case=GAT, corners=False)
def test_gat_float32_and_purity(student, reference, case):
    """Inputs are left alone, float32 is kept and accurate, and large scores stay finite, in both versions."""
    second = GAT2.case(case.sizes, case.flags, seed=case.seed, layout=case.layout)
    for own, right, one in ((student.gat_conv, reference.gat_conv, case),
                            (student.gatv2_conv, reference.gatv2_conv, second)):
        assert_pure(own, one)
        assert_equivalent(own, right, one.but(dtype=torch.float32))
        assert_finite_at(own, one, scale=30.0)


# ---------------------------------------------------------------------------------------------- mpnn_layer

WAYS = ("sum", "mean", "max")
MPNN = Cases(x=normal("N F"), edge_index=EDGES, e=normal("E G"), w_msg=normal("I M", scale=0.5), b_msg=normal("M"),
             w_upd=normal("J O", scale=0.5), b_upd=normal("O"), aggr=value_of("aggr"),
             sizes={"N": (1, 6), "E": (0, 12, 70)}, flags={"aggr": WAYS}, also=DENSER,
             derived={"I": lambda s: 2 * s["F"] + s["G"], "J": lambda s: s["F"] + s["M"]})
READOUT = Cases(x=normal("N F"), batch=integers("N", 0, "B"), num_graphs=value_of("B"),
                sizes={"N": (1, 9, 70), "B": (1, 5)})


def untied(case):
    """The same case with messages that differ: where they are equal, the gradient of their maximum is open."""
    return case.but(layout="strided") if case.layout == "expanded" and case.aggr == "max" else case


@exercise("mpnn_layer")
@points(3)
@public
@for_all(case=Cases(edge_index=EDGES, e=normal("E G"), aggr=value_of("aggr"), flags={"aggr": WAYS},
                    sizes={"N": (1, 6), "E": (0, 12)}, also=[{"N": 3, "E": 7}]))
def test_mpnn_gathers(student, case):
    """With messages tanh(e), nodes gather their sum, mean or maximum; 0 where no edge arrives."""
    edge_index, e, aggr = case.arguments().values()
    g = case.G
    w_msg = torch.cat([torch.zeros(2, g, dtype=e.dtype), torch.eye(g, dtype=e.dtype)])
    w_upd = torch.cat([torch.zeros(1, g, dtype=e.dtype), 0.1 * torch.eye(g, dtype=e.dtype)])
    none = torch.zeros(g, dtype=e.dtype)
    output = student.mpnn_layer(torch.ones(case.N, 1, dtype=e.dtype), edge_index, e, w_msg, none, w_upd, none, aggr)
    expected = []
    for node in range(case.N):
        arrived = torch.tanh(e[edge_index[1] == node])
        ways = {"sum": arrived.sum(0), "mean": arrived.sum(0) / max(len(arrived), 1),
                "max": arrived.max(0).values if len(arrived) else none}
        expected.append(ways[aggr])
    assert_same(10 * torch.atanh(output), torch.stack(expected), f"what is gathered by {aggr}")


@exercise("mpnn_layer")
@points(2)
@public
@for_all(case=MPNN)
def test_mpnn_one_edge(student, case):
    """One edge from node 0 to node 1: the message meets w_msg as destination, source, edge; node 0 gathers 0."""
    _, _, _, w_msg, b_msg, w_upd, b_upd, aggr = case.arguments().values()
    first, second = torch.randn(2, case.F, generator=case.generator(3), dtype=torch.float64)
    e = torch.randn(1, case.G, generator=case.generator(4), dtype=torch.float64)
    parts = w_msg.split([case.F, case.F, case.G])
    message = (second @ parts[0] + first @ parts[1] + e[0] @ parts[2] + b_msg).tanh()
    kept, read = w_upd.split([case.F, case.M])
    expected = torch.stack([(first @ kept + b_upd).tanh(), (second @ kept + message @ read + b_upd).tanh()])
    pair = torch.tensor([[0], [1]])
    assert_same(student.mpnn_layer(torch.stack([first, second]), pair, e, w_msg, b_msg, w_upd, b_upd, aggr), expected)


@exercise("mpnn_layer")
@points(1)
@public
@for_all(case=MPNN, corners=False)
def test_mpnn_unnumbered(student, case):
    """The numbering of the nodes and the order of the edges, with their features, do not matter."""
    assert_unnumbered(student.mpnn_layer, case, ["x"], ["e"])


@exercise("mpnn_layer")
@points(1)
@public
@for_all(case=MPNN, corners=False)
def test_mpnn_gradient_consistent(student, case):
    """The gradient is that of the values, also where a node has no messages, and another aggr raises ValueError."""
    assert_gradient_consistent(student.mpnn_layer, untied(case))
    assert_refuses(student.mpnn_layer, *{**case.arguments(), "aggr": "median"}.values())


@exercise("mpnn_layer")
@points(2)
@public
@for_all(case=READOUT)
def test_readout_sums(student, case):
    """graph_readout sums the nodes of each graph, in whatever order they come; an empty graph gives 0."""
    x, batch, num_graphs = case.arguments().values()
    expected = torch.stack([x[batch == graph].sum(dim=0) for graph in range(num_graphs)])
    assert_same(student.graph_readout(x, batch, num_graphs), expected)


@exercise("mpnn_layer")
@points(3)
@for_all(case=MPNN)
def test_mpnn_values_and_gradients(student, reference, case):
    """mpnn_layer: values and gradients are right for any graph and for sum, mean and maximum."""
    assert_equivalent(student.mpnn_layer, reference.mpnn_layer, untied(case))


@exercise("mpnn_layer")
@points(1)
@for_all(case=READOUT, corners=False)
def test_readout_values_and_gradients(student, reference, case):
    """graph_readout: gradients are right, the inputs are left alone, and float32 is kept."""
    assert_pure(student.graph_readout, case)
    assert_equivalent(student.graph_readout, reference.graph_readout, case)
    assert_equivalent(student.graph_readout, reference.graph_readout, case.but(dtype=torch.float32))


@exercise("mpnn_layer")
@points(1)
@for_all(case=MPNN, corners=False)
def test_mpnn_float32_and_purity(student, reference, case):
    """mpnn_layer leaves its inputs alone, keeps float32, is accurate, and stays finite for large inputs."""
    assert_pure(student.mpnn_layer, case)
    assert_equivalent(student.mpnn_layer, reference.mpnn_layer, case.but(dtype=torch.float32))
    assert_finite_at(student.mpnn_layer, case)


# ---------------------------------------------------------------------------------------------- gconv_gru

PARAMS = {"theta_x": normal("3 K F H", scale=0.6), "theta_h": normal("3 K H H", scale=0.6), "b": normal("3 H")}
GRU = Cases(xs=normal("T N F"), edge_index=EDGES, edge_weight=positive("E", 0.3, 2.5), h0=normal("N H"), params=PARAMS,
            sizes={"N": (1, 5), "E": (0, 10, 60), "T": (1, 4), "K": (1, 4)},
            also=[{"N": 5, "E": 13, "K": 4}, {"N": 4, "E": 9, "K": 3, "T": 2}])


def without_graph(xs, h, params):
    """The GRU of each node by itself: only the zeroth power of the matrix is left."""
    (xr, xz, xn), (hr, hz, hn) = params["theta_x"][:, 0], params["theta_h"][:, 0]
    seen = []
    for now in xs:
        reset = torch.sigmoid(params["b"][0] + now @ xr + h @ hr)
        keep = torch.sigmoid(params["b"][1] + now @ xz + h @ hz)
        h = torch.lerp(torch.tanh(params["b"][2] + now @ xn + (reset * h) @ hn), h, keep)
        seen.append(h)
    return torch.stack(seen)


@exercise("gconv_gru")
@points(2)
@public
@for_all(case=GRU)
def test_gconv_without_a_graph(student, case):
    """Without edges, or with K = 1, every node has a GRU of its own, whose reset gate acts before theta_h."""
    xs, edge_index, edge_weight, h0, params = case.arguments().values()
    expected = without_graph(xs, h0, params)
    nothing = torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, dtype=xs.dtype)
    assert_same(student.gconv_gru(xs, *nothing, h0, params), expected, "output without edges")
    local = {name: value if name == "b" else value[:, :1] for name, value in params.items()}
    assert_same(student.gconv_gru(xs, edge_index, edge_weight, h0, local), expected, "output with K = 1")


@exercise("gconv_gru")
@points(2)
@public
@for_all(case=GRU)
def test_gconv_on_a_ring(student, case):
    """Around a one-way ring of equal weights the k-th power of the matrix moves a signal on by k nodes."""
    xs, _, edge_weight, h0, params = case.arguments().values()
    nodes = torch.arange(case.N)
    ring = torch.stack([nodes, nodes.roll(-1)])
    moved = torch.stack([xs[0].roll(k, dims=0) for k in range(case.K)])  # (K, N, F)
    gate, new = (torch.einsum("knf,kfh->nh", moved, params["theta_x"][i]) + params["b"][i] for i in (1, 2))
    expected = torch.sigmoid(-gate) * torch.tanh(new)
    weight = torch.full((case.N,), 2.5, dtype=xs.dtype)
    output = student.gconv_gru(xs[:1], ring, weight, torch.zeros(h0.shape, dtype=xs.dtype), params)
    assert_same(output, expected[None], "first state, from an initial state of 0")


@exercise("gconv_gru")
@points(1)
@public
@for_all(case=GRU, corners=False)
def test_gconv_in_two_parts(student, case):
    """A sequence in two parts, the second going on from the last state of the first, gives the same states."""
    xs, edge_index, edge_weight, h0, params = case.arguments().values()
    more = xs.flip(0) + 1
    whole = student.gconv_gru(torch.cat([xs, more]), edge_index, edge_weight, h0, params)
    first = student.gconv_gru(xs, edge_index, edge_weight, h0, params)
    second = student.gconv_gru(more, edge_index, edge_weight, first[-1].detach(), params)
    assert_same(whole, torch.cat([first, second]).detach(), "states of the whole sequence")


@exercise("gconv_gru")
@points(1)
@public
@for_all(case=GRU, corners=False)
def test_gconv_silent_sources(student, case):
    """A node with degree 0 has the factor 0: nobody hears it, and no value or gradient is infinite or NaN."""
    def star(xs, edge_index, edge_weight, h0, params):
        out = torch.stack([torch.zeros(case.N - 1, dtype=torch.long), torch.arange(1, case.N)])
        weight = torch.ones(case.N - 1, dtype=xs.dtype) + 0 * edge_weight.sum()
        return student.gconv_gru(xs, out, weight, h0, params)
    xs, _, _, h0, params = case.arguments().values()
    result, found = gradients(star, case)
    assert_same(result.detach(), without_graph(xs, h0, params), "output where all edges come from a node of degree 0")
    for name, gradient in zip(case.floating(), found, strict=True):
        if not torch.isfinite(gradient).all():
            raise CheckFailure(f"the gradient of {name} is not finite where a node has degree 0.",
                               hint="0 times infinity is NaN: replace the degree before the power, not after it.")


@exercise("gconv_gru")
@points(1)
@public
@for_all(case=GRU, corners=False)
def test_gconv_unnumbered(student, case):
    """The numbering of the nodes and the order of the edges, with their weights, do not matter."""
    assert_unnumbered(student.gconv_gru, case, ["xs", "h0"], ["edge_weight"], axis=1)


@exercise("gconv_gru")
@points(1)
@public
@for_all(case=GRU, corners=False)
def test_gconv_gradient_consistent(student, case):
    """The gradient is that of the values, through all steps: it agrees with finite differences of your function."""
    assert_gradient_consistent(student.gconv_gru, case)


@exercise("gconv_gru")
@points(4)
@for_all(case=GRU)
def test_gconv_values_and_gradients(student, reference, case):
    """Values and gradients, those of the edge weights too, are right for any graph and any K."""
    assert_equivalent(student.gconv_gru, reference.gconv_gru, case)


@exercise("gconv_gru")
@points(1)
@for_all(case=GRU, corners=False)
def test_gconv_dense(student, case):
    """The first state is that of the dense powers of the definition."""
    xs, edge_index, edge_weight, h0, params = case.arguments().values()
    matrix = torch.zeros(case.N, case.N, dtype=xs.dtype)
    for (source, destination), weight in zip(edge_index.T.tolist(), edge_weight, strict=True):
        matrix[destination, source] += weight
    degree = matrix.sum(dim=1)
    factor = torch.tensor([d ** -0.5 if d else 0.0 for d in degree.tolist()], dtype=xs.dtype)
    matrix = torch.diag(factor) @ matrix @ torch.diag(factor)
    powers = torch.stack([torch.linalg.matrix_power(matrix, k) for k in range(case.K)])

    def star(signal, theta):
        return torch.einsum("knm,mf,kfh->nh", powers, signal, theta)
    x, theta_x, theta_h, b = xs[0], params["theta_x"], params["theta_h"], params["b"]
    reset, update = (torch.sigmoid(star(x, theta_x[i]) + star(h0, theta_h[i]) + b[i]) for i in (0, 1))
    new = torch.tanh(star(x, theta_x[2]) + star(reset * h0, theta_h[2]) + b[2])
    output = student.gconv_gru(xs[:1], edge_index, edge_weight, h0, params)
    assert_same(output, (new + update * (h0 - new))[None], "first state")


@exercise("gconv_gru")
@points(1)
@for_all(case=GRU, corners=False)
def test_gconv_float32_and_purity(student, reference, case):
    """The inputs are left alone, nothing is remembered between calls, float32 is kept, large inputs stay finite."""
    assert_pure(student.gconv_gru, case)
    assert_equivalent(student.gconv_gru, reference.gconv_gru, case.but(dtype=torch.float32))
    assert_finite_at(student.gconv_gru, case, scale=30.0)


# ---------------------------------------------------------------------------------------------- temporal_memory

GRU_CELL = {"time_w": normal("P"), "time_b": normal("P"), "w_ih": normal("3*D M", scale=0.5),
            "w_hh": normal("3*D D", scale=0.5), "b_ih": normal("3*D"), "b_hh": normal("3*D")}
STATE = {"memory": normal("N D"), "last_t": positive("N", 0.0, 1.0), "src": integers("E", 0, "N"),
         "dst": integers("E", 0, "N"), "t": positive("E", 1.0, 5.0), "feat": normal("E G")}
SIZES = {"N": (1, 6), "E": (1, 9, 40)}
WIDTH = {"M": lambda s: 2 * s["D"] + s["P"] + s["G"]}
TIME = Cases(dt=normal("E", scale=4), w=normal("P"), b=normal("P"))
UPDATE = Cases(**STATE, params=GRU_CELL, sizes=SIZES, derived=WIDTH, also=[{"N": 4, "E": 8}])
STREAM = Cases(**STATE, batch=value_of("batch"), params=GRU_CELL, derived=WIDTH,
               sizes={**SIZES, "batch": (1, 4)}, also=[{"N": 3, "E": 8, "batch": 3}])


def in_order(function):
    """The function with its events' times sorted first; gradients pass through."""
    def run(memory, last_t, src, dst, t, *others):
        return function(memory, last_t, src, dst, t.sort().values, *others)
    return run


def sorted_times(generator, sizes):
    """Ascending, and some of them equal."""
    return 1 + torch.randint(2 * sizes["E"], (sizes["E"],), generator=generator).sort().values.double() / 4


@exercise("temporal_memory")
@points(1)
@public
@for_all(case=TIME, corners=False)
def test_time_encode_quarters(student, case):
    """time_encode: at frequency π/2 four quarters give 1, 0, -1, 0; a phase of -π/2 delays them by one."""
    quarters = torch.arange(4.0, dtype=torch.float64) + 4 * (case.seed % 7)
    half_pi = torch.full((2,), math.pi / 2, dtype=torch.float64)
    code = student.time_encode(quarters, half_pi, torch.tensor([0, -1], dtype=torch.float64) * half_pi)
    assert_same(code, torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=torch.float64))


@exercise("temporal_memory")
@points(2)
@public
@for_all(case=UPDATE)
def test_tgn_one_event(student, case):
    """tgn_update: each end of an event gets a message seen from its own side, with its own time since last_t."""
    memory, last_t, _, _, t, feat, params = case.arguments().values()
    memory, last_t = torch.cat([memory, memory + 1]), torch.cat([last_t, last_t / 2])
    i, j = 2 * case.N - 1, 0
    # Gates of the GRU that are shut: the new memory is the candidate, tanh of an affine map of the message.
    shut = params["b_ih"].clone()
    shut[:case.D], shut[case.D:2 * case.D] = -500, -500
    weights, bias = params["w_ih"].clone(), shut[2 * case.D:]
    weights[:2 * case.D] = 0
    closed = {**params, "w_ih": weights, "b_ih": shut, "w_hh": torch.zeros(3 * case.D, case.D, dtype=t.dtype)}
    expected = memory.clone()
    for own, other in ((i, j), (j, i)):
        waves = ((t[0] - last_t[own]) * params["time_w"] + params["time_b"]).cos()
        message = torch.cat([memory[own], memory[other], waves, feat[0]])
        expected[own] = (weights[2 * case.D:] @ message + bias).tanh()
    got, times = student.tgn_update(memory, last_t, torch.tensor([i]), torch.tensor([j]), t[:1], feat[:1], closed)
    assert_same(got, expected, "memory")
    last_t[[i, j]] = t[0]
    assert_same(times, last_t, "last_t")


@exercise("temporal_memory")
@points(2)
@public
@for_all(case=UPDATE.but(t=computed(sorted_times)))
def test_tgn_most_recent(student, case):
    """tgn_update: a node ends as if its last event were the batch's only one; nodes without events keep every bit."""
    memory, last_t, src, dst, t, feat, params = case.arguments().values()
    got, times = student.tgn_update(memory, last_t, src, dst, t, feat, params)
    for node in range(case.N):
        mine = [k for k in range(case.E) if node in (src[k], dst[k])][-1:]
        if mine:
            alone, time = student.tgn_update(memory, last_t, src[mine], dst[mine], t[mine], feat[mine], params)
            assert_same(got[node], alone[node].detach(), f"memory of node {node}")
            assert_same(times[node], t[mine[0]], f"last_t of node {node}")
        elif not torch.equal(got[node], memory[node]) or times[node] != last_t[node]:
            raise CheckFailure(f"node {node} has no event, but its memory or last_t changed.")


@exercise("temporal_memory")
@points(2)
@public
@for_all(case=STREAM.but(t=computed(sorted_times)))
def test_stream_cannot_see_ahead(student, case):
    """tgn_stream: scores come from the memories before the batch, so events of it and after it change none of them."""
    memory, last_t, src, dst, t, feat, batch, params = case.arguments().values()
    scores = student.tgn_stream(memory, last_t, src, dst, t, feat, batch, params)[0]
    start = case.seed % case.E // batch * batch  # where some batch begins
    first = slice(start, start + batch)
    if start:
        memory, last_t = student.tgn_stream(memory, last_t, src[:start], dst[:start], t[:start], feat[:start], batch,
                                            params)[1:]
    products = torch.einsum("ed,ed->e", memory[src[first]], memory[dst[first]])
    assert_same(scores[first], (products / math.sqrt(case.D)).detach(), f"scores of the batch at event {start}")
    assert_same(scores.detach() * 0, torch.zeros(case.E, dtype=t.dtype), "scores times 0")


@exercise("temporal_memory")
@points(1)
@public
@for_all(case=STREAM, corners=False)
def test_tgn_gradient_consistent(student, case):
    """The gradients are those of the values, through all batches: they agree with finite differences."""
    assert_gradient_consistent(in_order(student.tgn_stream), case)


@exercise("temporal_memory")
@points(1)
@for_all(case=TIME)
def test_time_encode_values_and_gradients(student, reference, case):
    """time_encode: values and gradients are right, and float32 is kept."""
    assert_equivalent(student.time_encode, reference.time_encode, case)
    assert_equivalent(student.time_encode, reference.time_encode, case.but(dtype=torch.float32))


@exercise("temporal_memory")
@points(3)
@for_all(case=UPDATE)
def test_tgn_values_and_gradients(student, reference, case):
    """tgn_update: values and gradients, those of the times too, are right for any batch of events."""
    assert_equivalent(in_order(student.tgn_update), in_order(reference.tgn_update), case)


@exercise("temporal_memory")
@points(3)
@for_all(case=STREAM)
def test_stream_values_and_gradients(student, reference, case):
    """tgn_stream: values and gradients are right for any number of events and any size of batch."""
    assert_equivalent(in_order(student.tgn_stream), in_order(reference.tgn_stream), case)


@exercise("temporal_memory")
@points(1)
@for_all(case=STREAM.but(t=computed(sorted_times)), corners=False)
def test_tgn_float32_and_purity(student, reference, case):
    """Inputs and params are left alone, nothing is remembered between calls, and float32 is kept and accurate."""
    assert_pure(student.tgn_stream, case)
    single = STREAM.case(case.sizes, case.flags, seed=case.seed, layout=case.layout, dtype=torch.float32)
    assert_equivalent(in_order(student.tgn_stream), in_order(reference.tgn_stream), single)
