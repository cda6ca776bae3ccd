"""The public checks of attention.ipynb. Made by `autograder build` from the course; do not edit."""

import math

import torch
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure
from etude.properties import (
    assert_batch_independent,
    assert_gradient_consistent,
    assert_invariant,
    assert_pure,
    assert_refuses,
    assert_shape,
    gradients,
)
from etude.strategies import Cases, computed, for_all, integers, mask, normal, value_of


def nothing_kept(function, case, name, where):
    """Where `case[name]` is wholly False at `where`, outputs and their gradients are 0; no NaN anywhere."""
    def masked(*args):
        arguments = dict(zip(case.arguments(), args, strict=True))
        arguments[name] = arguments[name].clone()
        arguments[name][where] = False
        result = function(*arguments.values())
        return result[0] if isinstance(result, tuple) else result
    result, found = gradients(masked, case)
    assert_same(result[where[:1]].detach(), torch.zeros_like(result[where[:1]]), "output where nothing may be read")
    for argument, gradient in zip(case.floating(), found, strict=True):
        if not torch.isfinite(gradient).all():
            raise CheckFailure(f"the gradient of {argument} is not finite when a query may read nothing.",
                               hint="0 times NaN is NaN: a row of -inf must not reach the softmax.")


def any_keep(generator, s):
    """A mask of one of the shapes that broadcast to (B, H, T, S)."""
    shape = {"B H T S": (s["B"], s["H"], s["T"], s["S"]), "T S": (s["T"], s["S"]),
             "B 1 1 S": (s["B"], 1, 1, s["S"])}[s["keep_shape"]]
    return torch.rand(shape, generator=generator) < 0.7


SDPA = Cases(q=normal("B H T d"), k=normal("B H S d"), v=normal("B H S e"), keep=computed(any_keep),
             flags={"keep_shape": ("B H T S", "T S", "B 1 1 S")}, sizes={"S": (1, 6, 70), "T": (1, 5, 67)})


def any_keep_but_the_first(generator, s):
    """The same, where every query may read the first key: rows that keep nothing are a property of their own."""
    keep = any_keep(generator, s)
    keep[..., 0] = True
    return keep


READING = SDPA.but(keep=computed(any_keep_but_the_first))


@exercise("sdpa_masked")
@points(1)
@public
@for_all(case=SDPA, corners=False)
def test_sdpa_shape_and_dtype(student, case):
    """The output has shape (B, H, T, e) and the dtype of the inputs."""
    for one in (case, case.but(dtype=torch.float32)):
        assert_shape(student.sdpa, one, case.B, case.H, case.T, case.e)


@exercise("sdpa_masked")
@points(1)
@public
@for_all(case=SDPA)
def test_sdpa_averages_the_values(student, case):
    """Every output is a weighted average: equal values are returned as they are."""
    q, k, v, keep = case.arguments().values()
    keep = keep.clone()
    keep[..., 0] = True
    output = student.sdpa(q, k, v[:, :, :1].expand_as(v), keep)
    assert_same(output, v[:, :, :1].expand(case.B, case.H, case.T, case.e).contiguous())


@exercise("sdpa_masked")
@points(2)
@public
@for_all(case=Cases(q=normal("B H T d"), k=normal("B H 2 d"), sizes={"d": (1, 9, 70)}))
def test_sdpa_two_keys(student, case):
    """With two keys the first weight is the sigmoid of q·(k₁ - k₂) / √d."""
    q, k = case.arguments().values()
    values = torch.eye(2, dtype=q.dtype).expand(case.B, case.H, 2, 2)
    output = student.sdpa(q, k, values, torch.ones(case.T, 2, dtype=torch.bool))
    first = torch.sigmoid((q * (k[:, :, :1] - k[:, :, 1:])).sum(-1) / math.sqrt(case.d))
    assert_same(output, torch.stack([first, 1 - first], dim=-1), "weights of the two keys")


@exercise("sdpa_masked")
@points(1)
@public
@for_all(case=READING, corners=False)
def test_sdpa_masked_keys_do_not_matter(student, case):
    """Changing keys and values that are masked for every query changes nothing."""
    def change(arguments):
        hidden = ~arguments["keep"].expand(case.B, case.H, case.T, case.S).any(dim=2)[..., None]
        return {**arguments, "k": torch.where(hidden, 50.0, arguments["k"]),
                "v": torch.where(hidden, -9.0, arguments["v"])}
    assert_invariant(student.sdpa, case, change, "masked keys and values change")


@exercise("sdpa_masked")
@points(1)
@public
@for_all(case=SDPA, corners=False)
def test_sdpa_nothing_to_read(student, case):
    """A query that may attend to no key gets 0, and no gradient is NaN."""
    q, k, v, keep = case.arguments().values()
    keep = keep.expand(case.B, case.H, case.T, case.S).clone()
    keep[:, :, 0] = False
    leaves = [t.requires_grad_() for t in (q, k, v)]
    output = student.sdpa(*leaves, keep)
    assert_same(output[:, :, 0].detach(), torch.zeros(case.B, case.H, case.e, dtype=q.dtype),
                "output of the query that may read nothing")
    if output.requires_grad:
        for name, gradient in zip("qkv", torch.autograd.grad(output.sum(), leaves, allow_unused=True), strict=True):
            if gradient is not None and not torch.isfinite(gradient).all():
                raise CheckFailure(f"the gradient of {name} is not finite when a query may attend to no key.",
                                   hint="0 times NaN is NaN: a row of -inf must not reach the softmax.")


@exercise("sdpa_masked")
@points(1)
@public
@for_all(case=READING, corners=False)
def test_sdpa_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.sdpa, case)


@exercise("sdpa_masked")
@points(1)
@public
@for_all(case=SDPA, corners=False)
def test_sdpa_pure(student, case):
    """The inputs are left as they were, and nothing is remembered between calls."""
    assert_pure(student.sdpa, case)


CROSS = Cases(x=normal("B T H*D"), ctx=normal("B S K"), ctx_keep=mask("B S"), wq=normal("H*D H*D"),
              wk=normal("H*D K"), wv=normal("H*D K"), wo=normal("H*D H*D"), heads=value_of("H"),
              sizes={"H": (1, 4), "D": (1, 3), "S": (1, 5, 66)})


@exercise("cross_attention")
@points(2)
@public
@for_all(case=CROSS)
def test_cross_one_position(student, case):
    """With a single position to read, the output is that position under wv and wo, whatever x asks."""
    arguments = case.arguments()
    arguments |= {"ctx": arguments["ctx"][:, :1], "ctx_keep": torch.ones(case.B, 1, dtype=torch.bool)}
    read = arguments["ctx"] @ arguments["wv"].T @ arguments["wo"].T
    assert_same(student.cross_attention(*arguments.values()), read.expand(-1, case.T, -1).contiguous())


@exercise("cross_attention")
@points(1)
@public
@for_all(case=CROSS, corners=False)
def test_cross_context_order(student, case):
    """The order of the context does not matter, if its mask moves along."""
    order = torch.randperm(case.S, generator=case.generator(3))

    def permuted(arguments):
        return arguments | {"ctx": arguments["ctx"][:, order], "ctx_keep": arguments["ctx_keep"][:, order]}
    assert_invariant(student.cross_attention, case, permuted, "the context and its mask are permuted")


@exercise("cross_attention")
@points(1)
@public
@for_all(case=CROSS, corners=False)
def test_cross_queries_independent(student, case):
    """Every query is answered by itself: the others in its sequence do not matter."""
    arguments = case.arguments()
    whole = student.cross_attention(*arguments.values())
    t = case.seed % case.T
    alone = student.cross_attention(*(arguments | {"x": arguments["x"][:, t:t + 1]}).values())
    assert_same(alone, whole[:, t:t + 1].detach(), f"query {t} asked alone")


@exercise("cross_attention")
@points(1)
@public
@for_all(case=CROSS, corners=False)
def test_cross_batch_independent(student, case):
    """Every example of the batch is computed by itself, with its own context and mask."""
    assert_batch_independent(student.cross_attention, case, "x", "ctx", "ctx_keep")


@exercise("cross_attention")
@points(1)
@public
@for_all(case=CROSS, corners=False)
def test_cross_contract_edges(student, case):
    """A wholly masked context gives 0 with finite gradients; heads that do not divide C raise ValueError."""
    nothing_kept(student.cross_attention, case, "ctx_keep", (0,))
    arguments = case.arguments()
    assert_refuses(student.cross_attention, *(arguments | {"heads": case.H * case.D + 1}).values())


SPLIT = Cases(x=normal("B T H*D"), heads=value_of("H"), sizes={"T": (1, 5, 65)})
GQA = Cases(q=normal("B G*R T d"), k=normal("B G S d"), v=normal("B G S e"),
            sizes={"G": (1, 4), "R": (1, 3), "S": (1, 5, 65)})


@exercise("grouped_heads")
@points(2)
@public
@for_all(case=SPLIT)
def test_split_heads_channels(student, case):
    """split_heads: head i holds the channels i·D to (i+1)·D of every position."""
    x, heads = case.arguments().values()
    split = student.split_heads(x, heads)
    assert_same(split, torch.stack(x.split(case.D, dim=-1), dim=1))


@exercise("grouped_heads")
@points(1)
@public
@for_all(case=SPLIT, corners=False)
def test_merge_heads_undoes_split(student, case):
    """merge_heads: position t gets the channels of all heads, in the order of the heads."""
    x, _ = case.arguments().values()
    heads = torch.stack(x.split(case.D, dim=-1), dim=1)
    assert_same(student.merge_heads(heads), x.contiguous())
    assert_pure(student.merge_heads, Cases(x=computed(lambda *_: heads)).case({}))


@exercise("grouped_heads")
@points(2)
@public
@for_all(case=GQA)
def test_gqa_reads_its_group(student, case):
    """gqa: head i reads group ⌊i·G/H⌋."""
    q, k, _ = case.arguments().values()
    numbers = torch.arange(case.G, dtype=q.dtype).reshape(1, -1, 1, 1).expand(case.B, case.G, case.S, 1)
    read = student.gqa(q, k, numbers)
    heads = case.G * case.R
    expected = torch.tensor([i * case.G // heads for i in range(heads)], dtype=q.dtype)
    assert_same(read, expected.reshape(1, -1, 1, 1).expand(case.B, heads, case.T, 1).contiguous(),
                "number of the group that was read")


@exercise("grouped_heads")
@points(1)
@public
@for_all(case=GQA, corners=False)
def test_grouped_heads_refuse(student, case):
    """ValueError when heads do not divide the channels, or groups do not divide the heads."""
    q, k, v = case.arguments().values()
    assert_refuses(student.split_heads, torch.zeros(2, 3, case.G * case.R, dtype=q.dtype), case.G * case.R + 1)
    groups = case.G * case.R + 1
    assert_refuses(student.gqa, q, k[:, :1].expand(-1, groups, -1, -1), v[:, :1].expand(-1, groups, -1, -1))


ADDITIVE = Cases(query=normal("B D"), keys=normal("B S E"), keep=mask("B S"), W=normal("A D"), U=normal("A E"),
                 v=normal("A"), sizes={"S": (1, 6, 70)})


@exercise("additive_attention")
@points(1)
@public
@for_all(case=ADDITIVE)
def test_additive_weights_on_the_simplex(student, case):
    """The weights are exactly 0 where masked, positive elsewhere, and sum to 1."""
    arguments = case.arguments()
    _, weights = student.bahdanau(*arguments.values())
    keep = arguments["keep"]
    assert_same(weights.sum(-1).detach(), keep.any(-1).to(weights.dtype), "sum of the weights")
    assert_same(weights.detach() > 0, keep, "where the weights are positive")


@exercise("additive_attention")
@points(2)
@public
@for_all(case=ADDITIVE)
def test_additive_indifferent_scores(student, case):
    """With v = 0 every score is the same, so the weights are uniform over the kept keys."""
    arguments = case.arguments()
    arguments["v"] = torch.zeros_like(arguments["v"])
    context, weights = student.bahdanau(*arguments.values())
    keep = arguments["keep"].to(weights.dtype)
    uniform = keep / keep.sum(-1, keepdim=True).clamp(min=1)
    assert_same(weights, uniform, "weights")
    assert_same(context, (uniform[..., None] * arguments["keys"]).sum(1), "context")


@exercise("additive_attention")
@points(1)
@public
@for_all(case=ADDITIVE)
def test_additive_context(student, case):
    """The context is the mean of the keys under the returned weights."""
    arguments = case.arguments()
    context, weights = student.bahdanau(*arguments.values())
    assert_same(context.detach(), (weights.detach()[..., None] * arguments["keys"]).sum(1), "context")


@exercise("additive_attention")
@points(1)
@public
@for_all(case=ADDITIVE, corners=False)
def test_additive_nothing_to_read(student, case):
    """Where every key is masked, weights and context are 0, and no gradient is NaN."""
    nothing_kept(student.bahdanau, case, "keep", (0,))


WINDOW = Cases(q=normal("B T d"), k=normal("B T d"), v=normal("B T e"), w=value_of("w"),
               sizes={"T": (1, 9, 70), "w": (1, 6)})


@exercise("sliding_window_attention")
@points(1)
@public
@for_all(case=WINDOW)
def test_window_of_one(student, case):
    """With w = 1 every position reads itself alone: the output is v."""
    q, k, v, _ = case.arguments().values()
    assert_same(student.window_attn(q, k, v, 1), v.contiguous())


@exercise("sliding_window_attention")
@points(2)
@public
@for_all(case=WINDOW)
def test_window_is_the_band(student, case):
    """Query t puts weight on keys t - w < j ≤ t, on all of them and on no others; the weights sum to 1."""
    q, k, _, w = case.arguments().values()
    weights = student.window_attn(q, k, torch.eye(case.T, dtype=q.dtype).expand(case.B, -1, -1), w).detach()
    band = torch.ones(case.T, case.T, dtype=torch.bool).tril().triu(1 - w)
    assert_same(weights > 0, band.expand(case.B, -1, -1).contiguous(), "where the weights are positive")
    assert_same(weights.sum(-1), torch.ones(case.B, case.T, dtype=q.dtype), "sum of the weights")


@exercise("sliding_window_attention")
@points(1)
@public
@for_all(case=WINDOW, corners=False)
def test_window_prefix(student, case):
    """A longer sequence does not change the answers that its beginning got."""
    q, k, v, w = case.arguments().values()
    n = 1 + case.seed % case.T
    whole = student.window_attn(q, k, v, w)
    assert_same(student.window_attn(q[:, :n], k[:, :n], v[:, :n], w), whole[:, :n].detach(),
                f"the first {n} positions alone")


BLOCKS = Cases(q=normal("B H T d"), k=normal("B H T d"), v=normal("B H T e"), layout=mask("H nb nb", keep=0.6),
               block=value_of("block"), sizes={"T": (1, 11, 50), "block": (1, 4), "B": (1, 3), "H": (1, 3)},
               derived={"nb": lambda s: -(-s["T"] // s["block"])}, also=[{"T": 9, "block": 4}])
BIGBIRD = Cases(nb=value_of("nb"), n_global=computed(lambda g, s: s["n_global"] % (s["nb"] + 1)),
                n_window=computed(lambda g, s: 2 * s["half"] + 1), rand_idx=integers("nb r", 0, "nb"),
                sizes={"nb": (1, 9, 40), "n_global": (0, 4), "half": (0, 3), "r": (0, 4)},
                also=[{"nb": 9, "n_global": 0, "half": 1, "r": 0}, {"nb": 9, "n_global": 1, "half": 0, "r": 3},
                      {"nb": 8, "n_global": 2, "half": 2, "r": 1}])


def expanded(layout, block, length):
    """The layout as a mask of positions, (H, T, T)."""
    rows = layout.repeat_interleave(block, dim=1)[:, :length]
    return rows.repeat_interleave(block, dim=2)[:, :, :length]


@exercise("block_sparse_attention")
@points(2)
@public
@for_all(case=BLOCKS)
def test_blocks_follow_the_layout(student, case):
    """A query puts weight on all positions of the blocks that its row keeps, and on no others; they sum to 1."""
    q, k, _, layout, block = case.arguments().values()
    identity = torch.eye(case.T, dtype=q.dtype).expand(case.B, case.H, -1, -1)
    weights = student.block_sparse(q, k, identity, layout, block).detach()
    keep = expanded(layout, block, case.T).expand(case.B, -1, -1, -1)
    assert_same(weights > 0, keep.contiguous(), "where the weights are positive")
    assert_same(weights.sum(-1), keep.any(-1).to(q.dtype), "sum of the weights")


@exercise("block_sparse_attention")
@points(1)
@public
@for_all(case=BLOCKS, corners=False)
def test_blocks_empty_row(student, case):
    """Queries whose row of the layout is empty get 0, and no gradient is NaN."""
    def first_row_empty(q, k, v, layout, block):
        layout = layout.clone()
        layout[:, 0] = False
        return student.block_sparse(q, k, v, layout, block)
    output, found = gradients(first_row_empty, case)
    first = output[:, :, :case.block].detach()
    assert_same(first, torch.zeros_like(first), "output of the queries that may read nothing")
    for name, gradient in zip(case.floating(), found, strict=True):
        if not torch.isfinite(gradient).all():
            raise CheckFailure(f"the gradient of {name} is not finite when a row of the layout is empty.")


@exercise("block_sparse_attention")
@points(2)
@public
@for_all(case=BIGBIRD)
def test_bigbird_patterns(student, case):
    """bigbird_layout keeps the global rows and columns, the window and the random blocks, and nothing else."""
    nb, n_global, n_window, rand_idx = case.arguments().values()
    expected = torch.tensor([[i < n_global or j < n_global or abs(i - j) <= n_window // 2 or j in rand_idx[i].tolist()
                              for j in range(nb)] for i in range(nb)])
    assert_same(student.bigbird_layout(nb, n_global, n_window, rand_idx), expected, "layout")


@exercise("block_sparse_attention")
@points(1)
@public
def test_bigbird_refuses_an_even_window(student):
    """bigbird_layout raises ValueError for an even window."""
    assert_refuses(student.bigbird_layout, 5, 1, 2, torch.zeros(5, 0, dtype=torch.long))


LOGITS = Cases(z=normal("L M K", scale=1.5), sizes={"K": (1, 9, 70)})


@exercise("sparsemax")
@points(1)
@public
@for_all(case=LOGITS)
def test_sparsemax_on_the_simplex(student, case):
    """The output has the shape of z, is nowhere negative, and sums to 1 along the last axis."""
    (z,) = case.arguments().values()
    p = student.sparsemax(z)
    assert_same(p >= 0, torch.ones(z.shape, dtype=torch.bool), "where the output is at least 0")
    assert_same(p.sum(-1).detach(), torch.ones(z.shape[:-1], dtype=z.dtype), "sum of the output")


@exercise("sparsemax")
@points(1)
@public
@for_all(case=LOGITS, corners=False)
def test_sparsemax_shift(student, case):
    """Adding a constant to a row changes nothing; a single vector gives what it gives as a row."""
    (z,) = case.arguments().values()
    p = student.sparsemax(z).detach()
    shift = torch.randn(z.shape[:-1], generator=case.generator(4), dtype=torch.float64)[..., None] * 5
    assert_same(student.sparsemax(z + shift), p, "output after the shift")
    assert_same(student.sparsemax(z[0, 0]), p[0, 0], "output for one vector")


@exercise("sparsemax")
@points(1)
@public
@for_all(case=LOGITS, corners=False)
def test_sparsemax_fixes_the_simplex(student, case):
    """A point of the simplex is its own projection."""
    (z,) = case.arguments().values()
    point = torch.softmax(z, dim=-1)
    assert_same(student.sparsemax(point), point)
    corner = torch.nn.functional.one_hot(z.argmax(-1), case.K).to(z.dtype)
    assert_same(student.sparsemax(corner), corner)


@exercise("sparsemax")
@points(1)
@public
@for_all(case=Cases(t=normal("N", scale=1.5), sizes={"N": (1, 9)}))
def test_sparsemax_two_scores(student, case):
    """For the scores (t, 0) the first weight is (t + 1) / 2, between 0 and 1."""
    (t,) = case.arguments().values()
    first = ((t + 1) / 2).clamp(0, 1)
    p = student.sparsemax(torch.stack([t, torch.zeros_like(t)], dim=-1))
    assert_same(p, torch.stack([first, 1 - first], dim=-1))


@exercise("sparsemax")
@points(2)
@public
@for_all(case=LOGITS, corners=False)
def test_sparsemax_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.sparsemax, case)
