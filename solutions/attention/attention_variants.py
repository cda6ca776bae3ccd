"""What students hand in for the unit on attention: known mistakes, and right answers in other styles.

Every decorated function replaces the reference's function of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...".
"""
import math

import torch
import torch.nn.functional as F

from autograder.variants import alternative, mistake

# ------------------------------------------------------------------------------------- helpers (all of them right)


def _scores(q, k):
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def _weights(scores, keep):
    """Masked softmax over the last axis; 0 where nothing is kept."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~keep, lowest), dim=-1).masked_fill(~keep, 0)


def _attend(q, k, v, keep):
    return _weights(_scores(q, k), keep) @ v


def _share(whole, parts):
    """whole / parts, where it comes out even."""
    if whole % parts:
        raise ValueError(f"{whole} cannot be divided into {parts} equal parts")
    return whole // parts


def _split(x, heads):
    return x.reshape(*x.shape[:2], heads, _share(x.shape[-1], heads)).transpose(1, 2)


def _merge(x):
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def _cross(attend, x, ctx, wq, wk, wv, wo, heads):
    """Cross-attention with the given function of the heads' q, k and v."""
    q, k, v = (_split(F.linear(y, w), heads) for y, w in ((x, wq), (ctx, wk), (ctx, wv)))
    return F.linear(_merge(attend(q, k, v)), wo)


def _keys_only(ctx_keep):
    """(B, S) -> (B, 1, 1, S): the mask of the keys, the same for all heads and queries."""
    return ctx_keep[:, None, None, :]


def _shared(x, heads):
    """(B, G, S, d) -> (B, H, S, d): every group, copied for its H/G neighbouring heads."""
    return x.repeat_interleave(_share(heads, x.shape[1]), dim=1)


def _energies(query, keys, W, U, v):
    """The scores of additive attention, (B, S)."""
    return torch.tanh(F.linear(query, W)[:, None] + F.linear(keys, U)) @ v


def _mix(weights, keys):
    return torch.einsum("bs,bse->be", weights, keys)


def _band(length, first, last):
    """(length, length) bool: keys from `first` to `last` steps after the query (negative: before it)."""
    position = torch.arange(length)
    step = position[None, :] - position[:, None]
    return (first <= step) & (step <= last)


def _one_softmax(q, keys, values):
    """One block of queries over all of its kept blocks."""
    return torch.softmax(_scores(q, torch.cat(keys, dim=1)), dim=-1) @ torch.cat(values, dim=1)


def _by_block_rows(q, k, v, layout, block, attend=_one_softmax):
    """`attend(block of queries, kept blocks of keys, of values)` for every head and block row; 0 if none is kept."""
    heads = []
    for head, rows in enumerate(layout):
        q_blocks, k_blocks, v_blocks = (x[:, head].split(block, dim=1) for x in (q, k, v))
        outputs = []
        for queries, row in zip(q_blocks, rows, strict=True):
            kept = row.nonzero().flatten().tolist()
            keys, values = [k_blocks[j] for j in kept], [v_blocks[j] for j in kept]
            outputs.append(attend(queries, keys, values) if kept else queries[..., :1] * 0 * v[:, head, :1])
        heads.append(torch.cat(outputs, dim=1))
    return torch.stack(heads, dim=1)


def _token_mask(layout, block, length):
    """(H, nb, nb) -> (H, length, length): the mask that the layout stands for."""
    return layout.repeat_interleave(block, dim=1).repeat_interleave(block, dim=2)[:, :length, :length]


def _bigbird(window, rand_idx, n_global):
    """The union of a window, the global blocks and the random ones."""
    layout = window.clone()
    layout[:n_global] = True
    layout[:, :n_global] = True
    layout[torch.arange(len(window))[:, None], rand_idx] = True
    return layout


def _window(nb, n_window):
    if n_window % 2 == 0:
        raise ValueError(f"the window cannot be centred with {n_window} blocks")
    return _band(nb, -(n_window // 2), n_window // 2)


def _ranks(z):
    return torch.arange(1, z.shape[-1] + 1, dtype=z.dtype)


def _project(z):
    """Sparsemax along the last axis; autograd can differentiate it."""
    z = z - z.detach().max(dim=-1, keepdim=True).values
    ordered = torch.sort(z, dim=-1, descending=True).values
    k = ((1 - ordered.cumsum(-1)) / _ranks(z) + ordered > 0).sum(-1, keepdim=True)
    excess = torch.where(_ranks(z) <= k, ordered, 0).sum(-1, keepdim=True) - 1
    return torch.relu(z - excess / k)


def _with_backward(z, rule):
    """Sparsemax whose backward pass is `rule(p, grad_p)`."""
    class Projection(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            p = _project(z)
            ctx.save_for_backward(p)
            return p

        @staticmethod
        def backward(ctx, grad_p):
            return rule(*ctx.saved_tensors, grad_p)

    return Projection.apply(z)


# --------------------------------------------------------------------------------------------------- sdpa_masked

@mistake("sdpa_masked", "no_scale", "the scores are not divided by √d",
         hint="Eq. (1) divides the dot products by the square root of the width of queries and keys.")
def sdpa(q, k, v, keep):
    return _weights(q @ k.transpose(-2, -1), keep) @ v


@mistake("sdpa_masked", "scale_by_sqrt_keys", "the scores are divided by √S, the root of the number of keys",
         hint="The variance of a dot product grows with the width d of its vectors; which axis is that?")
def sdpa(q, k, v, keep):
    return _weights(q @ k.transpose(-2, -1) / math.sqrt(k.shape[-2]), keep) @ v


@mistake("sdpa_masked", "scale_by_d", "the scores are divided by d instead of √d",
         hint="The standard deviation of the dot product is √d; d is its variance.")
def sdpa(q, k, v, keep):
    return _weights(q @ k.transpose(-2, -1) / q.shape[-1], keep) @ v


@mistake("sdpa_masked", "scale_by_value_width", "the scores are divided by the root of the values' width e",
         hint="Values take no part in the scores; scale by the width of queries and keys.")
def sdpa(q, k, v, keep):
    return _weights(q @ k.transpose(-2, -1) / math.sqrt(v.shape[-1]), keep) @ v


@mistake("sdpa_masked", "mask_after_softmax", "the mask is applied to the weights only, after the softmax",
         hint="Masked keys still take their share of the denominator, so the rows sum to less than 1.")
def sdpa(q, k, v, keep):
    return (torch.softmax(_scores(q, k), dim=-1) * keep) @ v


@mistake("sdpa_masked", "mask_inverted", "the mask is read the other way round",
         hint="In this course True means keep. (`nn.MultiheadAttention` has it the other way round.)")
def sdpa(q, k, v, keep):
    return _attend(q, k, v, ~keep)


@mistake("sdpa_masked", "scores_times_mask", "the scores are multiplied by the mask",
         hint="A score of 0 is not a weight of 0: the exponential makes a 1 of it.")
def sdpa(q, k, v, keep):
    return torch.softmax(_scores(q, k) * keep, dim=-1).masked_fill(~keep.any(-1, keepdim=True), 0) @ v


@mistake("sdpa_masked", "fill_minus_ten", "masked scores are set to -10",
         hint="exp(-10) is small but not zero, and real scores can be below -10.")
def sdpa(q, k, v, keep):
    return torch.softmax(_scores(q, k).masked_fill(~keep, -10.0), dim=-1) @ v


@mistake("sdpa_masked", "masked_rows_average", "masked scores get a large negative number, and that is all",
         hint="Where every key is masked, all scores are equally low and the softmax returns the plain mean of v.")
def sdpa(q, k, v, keep):
    return torch.softmax(_scores(q, k).masked_fill(~keep, -1e9), dim=-1) @ v


@mistake("sdpa_masked", "masked_rows_nan", "masked scores are -∞, and nothing is done about rows of -∞ only",
         hint="The softmax of a row of -∞ is 0/0; the contract asks for 0.")
def sdpa(q, k, v, keep):
    return torch.softmax(_scores(q, k).masked_fill(~keep, -math.inf), dim=-1) @ v


@mistake("sdpa_masked", "nan_gradient", "NaN weights of fully masked rows are replaced in the forward pass only",
         hint="The output is right, but the softmax's backward pass goes through the NaN: avoid it, don't repair it.")
def sdpa(q, k, v, keep):
    bias = torch.zeros(keep.shape, dtype=q.dtype).masked_fill(~keep, -math.inf)
    return torch.nan_to_num(torch.softmax(_scores(q, k) + bias, dim=-1)) @ v


@mistake("sdpa_masked", "softmax_over_queries", "the softmax runs over the queries",
         hint="Each query distributes its weight among the keys: the last axis of the scores.")
def sdpa(q, k, v, keep):
    scores = _scores(q, k).masked_fill(~keep, torch.finfo(q.dtype).min)
    return torch.softmax(scores, dim=-2).masked_fill(~keep, 0) @ v


@mistake("sdpa_masked", "weights_detached", "the weights are cut out of the graph",
         hint="`.detach()`, `.data` and `no_grad` stop gradients; q and k must get theirs through the weights.")
def sdpa(q, k, v, keep):
    return _weights(_scores(q, k), keep).detach() @ v


@mistake("sdpa_masked", "first_mask_for_all", "every example is given the mask of the first one",
         hint="Look at how `keep` meets the batch axis when it has one.")
def sdpa(q, k, v, keep):
    return _attend(q, k, v, keep[:1] if keep.dim() == 4 else keep)


@mistake("sdpa_masked", "overflow", "the exponentials are taken of the scores as they are",
         hint="exp(1000) is infinite. Subtract the row's largest score first; `torch.softmax` does.")
def sdpa(q, k, v, keep):
    exponentials = torch.exp(_scores(q, k)) * keep
    total = exponentials.sum(-1, keepdim=True)
    return exponentials / torch.where(total > 0, total, 1) @ v


@mistake("sdpa_masked", "float32_inside", "the scores are computed in float32 whatever the input",
         hint="The output has the right dtype but only seven digits; remove the `.float()`.")
def sdpa(q, k, v, keep):
    return _weights(_scores(q.float(), k.float()), keep).to(v.dtype) @ v


@mistake("sdpa_masked", "always_float32", "the output is float32 whatever the input",
         hint="The output has the dtype of the inputs; make new tensors with `dtype=q.dtype`.")
def sdpa(q, k, v, keep):
    return _attend(q.float(), k.float(), v.float(), keep)


@mistake("sdpa_masked", "squeezed", "axes of size 1 are squeezed away",
         hint="A batch of one is still a batch: `squeeze()` without an axis removes more than you added.")
def sdpa(q, k, v, keep):
    return _attend(q, k, v, keep).squeeze()


@mistake("sdpa_masked", "mask_inverted_in_place", "the mask is negated in place",
         hint="`logical_not_` and `~keep` written back into `keep` change the caller's mask.")
def sdpa(q, k, v, keep):
    drop = keep.logical_not_()
    return _attend(q, k, v, ~drop)


@alternative("sdpa_masked", "einsum")
def sdpa(q, k, v, keep):
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) * q.shape[-1] ** -0.5
    scores = torch.where(keep, scores, -math.inf)
    weights = torch.where(keep.any(-1, keepdim=True), torch.softmax(scores, dim=-1), 0)
    return torch.einsum("bhts,bhse->bhte", weights, v)


@alternative("sdpa_masked", "log_sum_exp")
def sdpa(q, k, v, keep):
    scores = (q / math.sqrt(q.shape[-1])) @ k.mT
    scores = torch.where(keep, scores, torch.full_like(scores, torch.finfo(q.dtype).min))
    log_total = torch.logsumexp(scores, dim=-1, keepdim=True)
    return torch.where(keep, torch.exp(scores - log_total), 0) @ v


@alternative("sdpa_masked", "exponentials_by_hand")
def sdpa(q, k, v, keep):
    scores = _scores(q, k)
    highest = scores.masked_fill(~keep, -math.inf).amax(-1, keepdim=True).detach()
    highest = torch.where(highest.isinf(), 0, highest)
    exponentials = torch.exp((scores - highest).masked_fill(~keep, -math.inf))
    total = exponentials.sum(-1, keepdim=True)
    return (exponentials @ v) / total.masked_fill(total == 0, 1)


@alternative("sdpa_masked", "row_by_row")
def sdpa(q, k, v, keep):
    keep = keep.expand(*q.shape[:3], k.shape[2])
    out = q.new_zeros(*q.shape[:3], v.shape[-1])
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).reshape(-1, 3).tolist():
        kept = keep[b, h, t]
        if kept.any():
            row = k[b, h, kept] @ q[b, h, t] / math.sqrt(q.shape[-1])
            out[b, h, t] = torch.softmax(row, dim=0) @ v[b, h, kept]
    return out


@alternative("sdpa_masked", "library_call")
def sdpa(q, k, v, keep):
    keep = keep.expand(*q.shape[:3], k.shape[2])
    empty = ~keep.any(-1, keepdim=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep | empty).masked_fill(empty, 0)


# ----------------------------------------------------------------------------------------------- cross_attention

@mistake("cross_attention", "keys_from_x", "the keys are computed from x",
         hint="In cross-attention, keys and values both come from the context.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    q, k, v = (_split(F.linear(y, w), heads) for y, w in ((x, wq), (x, wk), (ctx, wv)))
    return F.linear(_merge(_attend(q, k, v, _keys_only(ctx_keep))), wo)


@mistake("cross_attention", "values_from_x", "the values are computed from x",
         hint="In cross-attention, keys and values both come from the context.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    q, k, v = (_split(F.linear(y, w), heads) for y, w in ((x, wq), (ctx, wk), (x, wv)))
    return F.linear(_merge(_attend(q, k, v, _keys_only(ctx_keep))), wo)


@mistake("cross_attention", "mask_on_queries", "the mask of the context is laid along the queries",
         hint="The scores have the axes (B, H, T, S); `ctx_keep` belongs to B and S.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    return _cross(lambda q, k, v: _attend(q, k, v, ctx_keep[:, None, :, None]), x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "context_as_long_as_x", "the context is reshaped with the length of x",
         hint="Keys and values have S positions, queries have T; this works only when the two are equal.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    B, T, C = x.shape
    q, k, v = (F.linear(y, w).reshape(B, T, heads, _share(C, heads)).transpose(1, 2)
               for y, w in ((x, wq), (ctx, wk), (ctx, wv)))
    return F.linear(_merge(_attend(q, k, v, _keys_only(ctx_keep))), wo)


@mistake("cross_attention", "first_context_for_all", "all examples read the context of the first one",
         hint="Every example of the batch has its own context and its own mask.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    ctx = ctx[:1].expand(len(x), -1, -1)
    return _cross(lambda q, k, v: _attend(q, k, v, _keys_only(ctx_keep)), x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "first_mask_for_all", "all examples share the mask of the first one",
         hint="Look at the batch axis of the mask that reaches the scores.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    return _cross(lambda q, k, v: _attend(q, k, v, _keys_only(ctx_keep[:1])), x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "scale_by_context_width", "the scores are divided by the root of the context's width",
         hint="Queries and keys have been projected to heads of width D = C / H; the scale is √D.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    def attend(q, k, v):
        return _weights(q @ k.mT / math.sqrt(ctx.shape[-1]), _keys_only(ctx_keep)) @ v
    return _cross(attend, x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "scale_by_model_width", "the scores are divided by √C, the root of the full width",
         hint="Every head takes its dot products over D = C / H channels; the scale is √D.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    def attend(q, k, v):
        return _weights(q @ k.mT / math.sqrt(x.shape[-1]), _keys_only(ctx_keep)) @ v
    return _cross(attend, x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "no_scale", "the scores are not scaled",
         hint="Each head is scaled dot-product attention, with the scale √D.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    return _cross(lambda q, k, v: _weights(q @ k.mT, _keys_only(ctx_keep)) @ v, x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "heads_interleaved", "head i is given the channels i, i + H, i + 2H, ...",
         hint="A head owns D neighbouring channels: the channel axis splits into (heads, D), in this order.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    D = _share(x.shape[-1], heads)
    q, k, v = (F.linear(y, w).unflatten(-1, (D, heads)).permute(0, 3, 1, 2)
               for y, w in ((x, wq), (ctx, wk), (ctx, wv)))
    return F.linear(_attend(q, k, v, _keys_only(ctx_keep)).permute(0, 2, 3, 1).flatten(2), wo)


@mistake("cross_attention", "split_by_view", "the heads are split by a view of (B, L, C) as (B, H, L, D)",
         hint="That view mixes positions with channels: first (B, L, H, D), then transpose.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    D = _share(x.shape[-1], heads)
    q, k, v = (F.linear(y, w).reshape(len(x), heads, y.shape[1], D) for y, w in ((x, wq), (ctx, wk), (ctx, wv)))
    return F.linear(_merge(_attend(q, k, v, _keys_only(ctx_keep))), wo)


@mistake("cross_attention", "merge_without_transpose", "the heads are merged without moving them behind the positions",
         hint="(B, H, T, D) becomes (B, T, H, D) before the last two axes are joined.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    q, k, v = (_split(F.linear(y, w), heads) for y, w in ((x, wq), (ctx, wk), (ctx, wv)))
    return F.linear(_attend(q, k, v, _keys_only(ctx_keep)).reshape(x.shape), wo)


@mistake("cross_attention", "weights_not_transposed", "wq and wo are applied as x @ w",
         hint="Weights are stored as (out, in): x @ w.T. The square ones do not complain.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    return _cross(lambda q, k, v: _attend(q, k, v, _keys_only(ctx_keep)), x, ctx, wq.T, wk, wv, wo.T, heads)


@mistake("cross_attention", "no_output_projection", "the output projection is missing",
         hint="Eq. (3) ends in a multiplication by the output matrix, which mixes the heads.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    identity = torch.eye(len(wo), dtype=wo.dtype)
    return _cross(lambda q, k, v: _attend(q, k, v, _keys_only(ctx_keep)), x, ctx, wq, wk, wv, identity, heads)


@mistake("cross_attention", "one_head", "the argument `heads` is not used: one head does it all",
         hint="Split queries, keys and values into `heads` parts that have a softmax of their own.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    _share(x.shape[-1], heads)
    return _cross(lambda q, k, v: _attend(q, k, v, _keys_only(ctx_keep)), x, ctx, wq, wk, wv, wo, 1)


@mistake("cross_attention", "mask_ignored", "the mask is not used",
         hint="Positions of the context with a False in `ctx_keep` must get weight 0.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    return _cross(lambda q, k, v: torch.softmax(_scores(q, k), -1) @ v, x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "softmax_over_queries", "the softmax runs over the queries",
         hint="The weights of one query sum to 1 over the context: the last axis of (B, H, T, S).")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    def attend(q, k, v):
        return torch.softmax(_scores(q, k), dim=-2).masked_fill(~_keys_only(ctx_keep), 0) @ v
    return _cross(attend, x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "softmax_over_batch", "the softmax runs over the examples of the batch",
         hint="It even learns the look-up task! But an example's output must not depend on the others.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    def attend(q, k, v):
        return torch.softmax(_scores(q, k), dim=0).masked_fill(~_keys_only(ctx_keep), 0) @ v
    return _cross(attend, x, ctx, wq, wk, wv, wo, heads)


@mistake("cross_attention", "masked_context_nan", "masked scores are -∞, also where a whole context is masked",
         hint="The softmax of a row of -∞ is 0/0; the contract asks for 0.")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    def attend(q, k, v):
        return torch.softmax(_scores(q, k).masked_fill(~_keys_only(ctx_keep), -math.inf), dim=-1) @ v
    return _cross(attend, x, ctx, wq, wk, wv, wo, heads)


@alternative("cross_attention", "einsum")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    C = wq.shape[0]
    D = _share(C, heads)
    q = torch.einsum("btc,hdc->bhtd", x, wq.reshape(heads, D, C))
    k = torch.einsum("bsc,hdc->bhsd", ctx, wk.reshape(heads, D, -1))
    v = torch.einsum("bsc,hdc->bhsd", ctx, wv.reshape(heads, D, -1))
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / D ** 0.5
    weights = _weights(scores, ctx_keep[:, None, None])
    return torch.einsum("bhts,bhsd,chd->btc", weights, v, wo.reshape(C, heads, D))


@alternative("cross_attention", "head_by_head")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    D = _share(wq.shape[0], heads)
    out = 0
    for rows in (slice(i * D, (i + 1) * D) for i in range(heads)):
        q, k, v = x @ wq[rows].T, ctx @ wk[rows].T, ctx @ wv[rows].T
        scores = torch.where(ctx_keep[:, None], q @ k.mT / D ** 0.5, -math.inf)
        weights = torch.where(ctx_keep.any(-1)[:, None, None], torch.softmax(scores, -1), 0)
        out = out + weights @ v @ wo[:, rows].T
    return out


@alternative("cross_attention", "library_call")
def cross_attention(x, ctx, ctx_keep, wq, wk, wv, wo, heads):
    _share(x.shape[-1], heads)
    empty = ~ctx_keep.any(-1)
    out, _ = F.multi_head_attention_forward(
        x.transpose(0, 1), ctx.transpose(0, 1), ctx.transpose(0, 1), x.shape[-1], heads, None, None, None, None,
        False, 0.0, wo, None, key_padding_mask=~ctx_keep & ~empty[:, None], need_weights=False,
        use_separate_proj_weight=True, q_proj_weight=wq, k_proj_weight=wk, v_proj_weight=wv)
    return out.transpose(0, 1).masked_fill(empty[:, None, None], 0)


# ------------------------------------------------------------------------------------------------- grouped_heads

@mistake("grouped_heads", "view_without_transpose", "heads are split and merged by a single view",
         hint="A view of (B, T, H*D) as (B, H, T, D) mixes positions with channels; undoing it hides that.")
def split_heads(x, heads):
    return x.reshape(x.shape[0], heads, x.shape[1], _share(x.shape[-1], heads))


@mistake("grouped_heads", "view_without_transpose")
def merge_heads(x):
    return x.reshape(x.shape[0], x.shape[2], -1)


@mistake("grouped_heads", "merge_without_transpose", "heads are merged without moving them behind the positions",
         hint="(B, H, T, D) becomes (B, T, H, D) before the last two axes are joined.")
def merge_heads(x):
    return x.reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


@mistake("grouped_heads", "heads_interleaved", "head i is given the channels i, i + H, i + 2H, ...",
         hint="A head owns D neighbouring channels: the channel axis splits into (heads, D), in this order.")
def split_heads(x, heads):
    return x.unflatten(-1, (_share(x.shape[-1], heads), heads)).permute(0, 3, 1, 2)


@mistake("grouped_heads", "heads_interleaved")
def merge_heads(x):
    return x.permute(0, 2, 3, 1).flatten(2)


@mistake("grouped_heads", "merge_by_view", "the heads are merged by `.view` right after a transpose",
         hint="A transposed tensor is not contiguous and has no such view: use reshape, flatten or contiguous().")
def merge_heads(x):
    return x.transpose(1, 2).view(x.shape[0], x.shape[2], -1)


@mistake("grouped_heads", "rest_dropped", "channels that do not fill a head are dropped silently",
         hint="The contract asks for a ValueError when `heads` does not divide the number of channels.")
def split_heads(x, heads):
    D = x.shape[-1] // heads
    return x[..., :heads * D].reshape(*x.shape[:2], heads, D).transpose(1, 2)


@mistake("grouped_heads", "uneven_groups", "groups are shared by unequal numbers of heads without complaint",
         hint="The contract asks for a ValueError when G does not divide H.")
def gqa(q, k, v):
    group = torch.arange(q.shape[1]) * k.shape[1] // q.shape[1]
    return torch.softmax(_scores(q, k[:, group]), dim=-1) @ v[:, group]


@mistake("grouped_heads", "groups_tiled", "the groups are repeated as 0, 1, 0, 1 instead of 0, 0, 1, 1",
         hint="`repeat` tiles the whole sequence of groups; `repeat_interleave` repeats each group in its place.")
def gqa(q, k, v):
    share = _share(q.shape[1], k.shape[1])
    k, v = k.repeat(1, share, 1, 1), v.repeat(1, share, 1, 1)
    return torch.softmax(_scores(q, k), dim=-1) @ v


@mistake("grouped_heads", "values_tiled", "keys and values are repeated in different orders",
         hint="A head reads keys and values of the same group.")
def gqa(q, k, v):
    weights = torch.softmax(_scores(q, _shared(k, q.shape[1])), dim=-1)
    return weights @ v.repeat(1, q.shape[1] // v.shape[1], 1, 1)


@mistake("grouped_heads", "first_group_for_all", "all heads read the first group",
         hint="With G > 1 groups, head i reads group floor(i G / H).")
def gqa(q, k, v):
    k, v = _shared(k, q.shape[1])[:, :1], v[:, :1]
    return torch.softmax(_scores(q, k), dim=-1) @ v


@mistake("grouped_heads", "no_scale", "the scores are not divided by √d",
         hint="Eq. (4) divides the dot products by the square root of the width d of one head.")
def gqa(q, k, v):
    return torch.softmax(q @ _shared(k, q.shape[1]).mT, dim=-1) @ _shared(v, q.shape[1])


@mistake("grouped_heads", "scale_by_all_heads", "the scores are divided by √(H d), the root of the full width",
         hint="The dot product of one head has d terms.")
def gqa(q, k, v):
    scores = _scores(q, _shared(k, q.shape[1])) / math.sqrt(q.shape[1])
    return torch.softmax(scores, dim=-1) @ _shared(v, q.shape[1])


@mistake("grouped_heads", "softmax_over_queries", "the softmax runs over the queries",
         hint="Each query distributes its weight among the keys: the last axis of the scores.")
def gqa(q, k, v):
    return torch.softmax(_scores(q, _shared(k, q.shape[1])), dim=-2) @ _shared(v, q.shape[1])


@mistake("grouped_heads", "shared_without_gradient", "the groups are copied under no_grad or detached",
         hint="The gradient of a shared key is the sum over the heads that share it; here it is nothing.")
def gqa(q, k, v):
    with torch.no_grad():
        k, v = _shared(k, q.shape[1]), _shared(v, q.shape[1])
    return torch.softmax(_scores(q, k), dim=-1) @ v


@mistake("grouped_heads", "query_scaled_in_place", "the query is scaled in place",
         hint="`q /= ...` changes the caller's tensor; write q = q / ...")
def gqa(q, k, v):
    k, v = _shared(k, q.shape[1]), _shared(v, q.shape[1])
    q /= math.sqrt(q.shape[-1])
    return torch.softmax(q @ k.mT, dim=-1) @ v


@alternative("grouped_heads", "five_axes")
def split_heads(x, heads):
    return torch.stack(x.split(_share(x.shape[-1], heads), dim=-1), dim=1)


@alternative("grouped_heads", "five_axes")
def merge_heads(x):
    return torch.cat(x.unbind(1), dim=-1)


@alternative("grouped_heads", "five_axes")
def gqa(q, k, v):
    q = q.unflatten(1, (k.shape[1], _share(q.shape[1], k.shape[1])))
    scores = torch.einsum("bgntd,bgsd->bgnts", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bgnts,bgse->bgnte", scores.softmax(-1), v).flatten(1, 2)


@alternative("grouped_heads", "library_call")
def gqa(q, k, v):
    _share(q.shape[1], k.shape[1])
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


@alternative("grouped_heads", "head_by_head")
def gqa(q, k, v):
    share = _share(q.shape[1], k.shape[1])
    rows = [torch.softmax(_scores(q[:, i], k[:, i // share]), dim=-1) @ v[:, i // share] for i in range(q.shape[1])]
    return torch.stack(rows, dim=1)


# -------------------------------------------------------------------------------------------- additive_attention

@mistake("additive_attention", "tanh_of_each", "tanh is taken of the two projections before they are added",
         hint="Then the score is a sum of a query's and a key's part, and the query's part cancels in the softmax.")
def bahdanau(query, keys, keep, W, U, v):
    scores = (torch.tanh(F.linear(query, W))[:, None] + torch.tanh(F.linear(keys, U))) @ v
    weights = _weights(scores, keep)
    return _mix(weights, keys), weights


@mistake("additive_attention", "tanh_of_score", "tanh is taken after the multiplication by v",
         hint="v weighs the units of the hidden layer: tanh first, then the product with v.")
def bahdanau(query, keys, keep, W, U, v):
    scores = torch.tanh((F.linear(query, W)[:, None] + F.linear(keys, U)) @ v)
    weights = _weights(scores, keep)
    return _mix(weights, keys), weights


@mistake("additive_attention", "no_tanh", "there is no tanh",
         hint="Without it the query's part is the same for all keys and cancels in the softmax.")
def bahdanau(query, keys, keep, W, U, v):
    weights = _weights((F.linear(query, W)[:, None] + F.linear(keys, U)) @ v, keep)
    return _mix(weights, keys), weights


@mistake("additive_attention", "softmax_over_batch", "the softmax runs over the batch",
         hint="The scores are (B, S); the weights of one example sum to 1 over its S keys.")
def bahdanau(query, keys, keep, W, U, v):
    weights = torch.softmax(_energies(query, keys, W, U, v), dim=0).masked_fill(~keep, 0)
    return _mix(weights, keys), weights


@mistake("additive_attention", "scores_times_mask", "the scores are multiplied by the mask",
         hint="A score of 0 is not a weight of 0: the exponential makes a 1 of it.")
def bahdanau(query, keys, keep, W, U, v):
    weights = torch.softmax(_energies(query, keys, W, U, v) * keep, dim=-1)
    weights = weights.masked_fill(~keep.any(-1, keepdim=True), 0)
    return _mix(weights, keys), weights


@mistake("additive_attention", "mask_after_softmax", "the mask is applied to the weights only, after the softmax",
         hint="Masked keys still take their share of the denominator, so the weights sum to less than 1.")
def bahdanau(query, keys, keep, W, U, v):
    weights = torch.softmax(_energies(query, keys, W, U, v), dim=-1) * keep
    return _mix(weights, keys), weights


@mistake("additive_attention", "unmasked_weights_returned", "the returned weights are those before the mask",
         hint="The context is right; return the weights that made it.")
def bahdanau(query, keys, keep, W, U, v):
    scores = _energies(query, keys, W, U, v)
    return _mix(_weights(scores, keep), keys), torch.softmax(scores, dim=-1)


@mistake("additive_attention", "mask_ignored", "the mask is not used",
         hint="Keys with a False in `keep` must get weight 0.")
def bahdanau(query, keys, keep, W, U, v):
    weights = torch.softmax(_energies(query, keys, W, U, v), dim=-1)
    return _mix(weights, keys), weights


@mistake("additive_attention", "keys_masked_not_scores", "masked keys are set to zero, but stay in the softmax",
         hint="A key of zeros has a score, too. Mask the scores.")
def bahdanau(query, keys, keep, W, U, v):
    keys = keys * keep[..., None]
    weights = torch.softmax(_energies(query, keys, W, U, v), dim=-1)
    return _mix(weights, keys), weights


@mistake("additive_attention", "context_of_projected_keys", "the context is a mean of the projected keys U h",
         hint="The projection serves the scores only; the context is a mean of the annotations themselves, (B, E).")
def bahdanau(query, keys, keep, W, U, v):
    weights = _weights(_energies(query, keys, W, U, v), keep)
    return _mix(weights, F.linear(keys, U)), weights


@mistake("additive_attention", "scaled", "the scores are divided by √A, as for dot products",
         hint="Eq. (5) has no scale: v is learned and tanh is bounded.")
def bahdanau(query, keys, keep, W, U, v):
    weights = _weights(_energies(query, keys, W, U, v) / math.sqrt(len(v)), keep)
    return _mix(weights, keys), weights


@mistake("additive_attention", "weights_detached", "the returned weights are detached",
         hint="Both outputs are part of the network: a loss on the weights must reach W, U and v.")
def bahdanau(query, keys, keep, W, U, v):
    weights = _weights(_energies(query, keys, W, U, v), keep)
    return _mix(weights, keys), weights.detach()


@mistake("additive_attention", "masked_rows_average", "masked scores get a large negative number, and that is all",
         hint="Where every key is masked, all scores are equally low and the weights come out uniform.")
def bahdanau(query, keys, keep, W, U, v):
    weights = torch.softmax(_energies(query, keys, W, U, v).masked_fill(~keep, -1e9), dim=-1)
    return _mix(weights, keys), weights


@mistake("additive_attention", "masked_rows_nan", "masked scores are -∞, and nothing is done about rows of -∞ only",
         hint="The softmax of a row of -∞ is 0/0; the contract asks for 0.")
def bahdanau(query, keys, keep, W, U, v):
    weights = torch.softmax(_energies(query, keys, W, U, v).masked_fill(~keep, -math.inf), dim=-1)
    return _mix(weights, keys), weights


@mistake("additive_attention", "first_query_for_all", "all examples are asked the first one's query",
         hint="The projected query is (B, A) and needs an axis for S in the middle: (B, 1, A), not (1, B, A).")
def bahdanau(query, keys, keep, W, U, v):
    weights = _weights(_energies(query[:1], keys, W, U, v), keep)
    return _mix(weights, keys), weights


@mistake("additive_attention", "keys_zeroed_in_place", "the padding is zeroed in the caller's keys",
         hint="`keys *= ...` changes the input; masking the scores makes it unnecessary.")
def bahdanau(query, keys, keep, W, U, v):
    weights = _weights(_energies(query, keys, W, U, v), keep)
    keys *= keep[..., None]
    return _mix(weights, keys), weights


@alternative("additive_attention", "einsum")
def bahdanau(query, keys, keep, W, U, v):
    hidden = torch.einsum("bd,ad->ba", query, W)[:, None] + torch.einsum("bse,ae->bsa", keys, U)
    scores = torch.einsum("bsa,a->bs", hidden.tanh(), v)
    weights = torch.where(keep, scores, -math.inf).softmax(-1)
    weights = torch.where(keep.any(-1, keepdim=True), weights, 0)
    return torch.einsum("bs,bse->be", weights, keys), weights


@alternative("additive_attention", "one_matrix")
def bahdanau(query, keys, keep, W, U, v):
    both = torch.cat([query.unsqueeze(1).expand(-1, keys.shape[1], -1), keys], dim=-1)
    scores = torch.tanh(both @ torch.cat([W, U], dim=1).T) @ v
    scores = scores.masked_fill(~keep, torch.finfo(v.dtype).min)
    weights = torch.exp(scores - scores.logsumexp(-1, keepdim=True)) * keep
    return (weights[..., None] * keys).sum(1), weights


@alternative("additive_attention", "example_by_example")
def bahdanau(query, keys, keep, W, U, v):
    contexts, rows = [], []
    for s, h, kept in zip(query, keys, keep, strict=True):
        energies = torch.stack([v @ torch.tanh(W @ s + U @ annotation) for annotation in h])
        kept_energies = energies[kept]
        row = torch.zeros_like(energies)
        row[kept] = torch.softmax(kept_energies, dim=0)
        rows.append(row)
        contexts.append(row @ h)
    return torch.stack(contexts), torch.stack(rows)


# -------------------------------------------------------------------------------------- sliding_window_attention

@mistake("sliding_window_attention", "one_too_wide", "the window holds w + 1 positions",
         hint="j > t - w is strict: w positions, the query's own among them. For w = 1 the output is v.")
def window_attn(q, k, v, w):
    return _attend(q, k, v, _band(q.shape[1], -w, 0))


@mistake("sliding_window_attention", "self_excluded", "the window ends before the query's own position",
         hint="j <= t includes t itself. For w = 1 the output is v.")
def window_attn(q, k, v, w):
    return _attend(q, k, v, _band(q.shape[1], -w, -1))


@mistake("sliding_window_attention", "two_sided", "the window reaches to both sides",
         hint="Positions after t must not influence the output at t.")
def window_attn(q, k, v, w):
    return _attend(q, k, v, _band(q.shape[1], 1 - w, w - 1))


@mistake("sliding_window_attention", "future", "the window looks into the future",
         hint="Rows are queries, columns keys: which of the two must be the larger one?")
def window_attn(q, k, v, w):
    return _attend(q, k, v, _band(q.shape[1], 0, w - 1))


@mistake("sliding_window_attention", "blocks", "positions attend within blocks of w instead of a band",
         hint="The window moves with the query; with blocks, the first position of a block reads itself alone.")
def window_attn(q, k, v, w):
    block = torch.arange(q.shape[1]) // w
    return _attend(q, k, v, (block[:, None] == block) & _band(q.shape[1], -w, 0))


@mistake("sliding_window_attention", "window_ignored", "the argument `w` is not used: all of the past is attended to",
         hint="Keys at j <= t - w are outside the window.")
def window_attn(q, k, v, w):
    return _attend(q, k, v, _band(q.shape[1], -q.shape[1], 0))


@mistake("sliding_window_attention", "no_scale", "the scores are not divided by √d",
         hint="Within the window this is scaled dot-product attention, Eq. (1).")
def window_attn(q, k, v, w):
    return _weights(q @ k.mT, _band(q.shape[1], 1 - w, 0)) @ v


@mistake("sliding_window_attention", "scores_times_mask", "the scores are multiplied by the band",
         hint="A score of 0 is not a weight of 0: the exponential makes a 1 of it.")
def window_attn(q, k, v, w):
    return torch.softmax(_scores(q, k) * _band(q.shape[1], 1 - w, 0), dim=-1) @ v


@mistake("sliding_window_attention", "mask_after_softmax", "the band is cut out of the weights, after the softmax",
         hint="Positions outside still take their share of the denominator, so the rows sum to less than 1.")
def window_attn(q, k, v, w):
    return (torch.softmax(_scores(q, k), dim=-1) * _band(q.shape[1], 1 - w, 0)) @ v


@mistake("sliding_window_attention", "softmax_over_queries", "the softmax runs over the queries",
         hint="Each query distributes its weight among the keys: the last axis of the scores.")
def window_attn(q, k, v, w):
    return _weights(_scores(q, k).mT, _band(q.shape[1], 1 - w, 0).mT).mT @ v


@mistake("sliding_window_attention", "padding_attended", "the first positions also attend to padding before the text",
         hint="After padding on the left, the padded keys have score 0 and take weight: mask them.")
def window_attn(q, k, v, w):
    k, v = (F.pad(x, (0, 0, w - 1, 0)).unfold(1, w, 1) for x in (k, v))
    weights = torch.softmax(torch.einsum("btd,btdw->btw", q, k) / math.sqrt(q.shape[-1]), dim=-1)
    return torch.einsum("btw,btew->bte", weights, v)


@mistake("sliding_window_attention", "wraps_around", "the window of the first positions continues at the end",
         hint="`torch.roll` and negative indices wrap around; before position 0 there is nothing.")
def window_attn(q, k, v, w):
    T = q.shape[1]
    step = (torch.arange(T)[:, None] - torch.arange(T)) % T
    return _attend(q, k, v, step < w)


@mistake("sliding_window_attention", "at_most_64", "the band is made once for 64 positions",
         hint="The sequence may be longer than any constant: make the mask from T.")
def window_attn(q, k, v, w):
    T = q.shape[1]
    return _attend(q, k, v, _band(64, 1 - w, 0)[:T, :T])


@mistake("sliding_window_attention", "band_remembered", "the band of an earlier call is used again for another w",
         hint="A cached mask depends on T and on w; better, keep nothing between calls.")
def window_attn(q, k, v, w):
    bands = window_attn.__dict__.setdefault("bands", {})
    T = q.shape[1]
    if T not in bands:
        bands[T] = _band(T, 1 - w, 0)
    return _attend(q, k, v, bands[T])


@mistake("sliding_window_attention", "query_scaled_in_place", "the query is scaled in place",
         hint="`q /= ...` changes the caller's tensor; write q = q / ...")
def window_attn(q, k, v, w):
    q /= math.sqrt(q.shape[-1])
    return _weights(q @ k.mT, _band(q.shape[1], 1 - w, 0)) @ v


@mistake("sliding_window_attention", "keys_detached", "keys and values are copied into the windows outside the graph",
         hint="Every key is part of up to w windows, and its gradient is the sum over them.")
def window_attn(q, k, v, w):
    k, v = torch.tensor(k.tolist(), dtype=k.dtype), torch.tensor(v.tolist(), dtype=v.dtype)
    return _attend(q, k, v, _band(q.shape[1], 1 - w, 0))


@alternative("sliding_window_attention", "unfold")
def window_attn(q, k, v, w):
    T = q.shape[1]
    w = min(w, T)
    k, v = (F.pad(x, (0, 0, w - 1, 0)).unfold(1, w, 1) for x in (k, v))
    exists = F.pad(torch.ones(T, dtype=torch.bool), (w - 1, 0)).unfold(0, w, 1)
    scores = torch.einsum("btd,btdw->btw", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("btw,btew->bte", scores.masked_fill(~exists, -math.inf).softmax(-1), v)


@alternative("sliding_window_attention", "position_by_position")
def window_attn(q, k, v, w):
    outputs = []
    for t in range(q.shape[1]):
        window = slice(max(0, t - w + 1), t + 1)
        scores = torch.einsum("bd,bjd->bj", q[:, t], k[:, window]) / math.sqrt(q.shape[-1])
        outputs.append(torch.einsum("bj,bje->be", torch.softmax(scores, dim=-1), v[:, window]))
    return torch.stack(outputs, dim=1)


@alternative("sliding_window_attention", "tril_minus_tril")
def window_attn(q, k, v, w):
    ones = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool)
    band = ones.tril() & ~ones.tril(-w)
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], attn_mask=band)[:, 0]


# ---------------------------------------------------------------------------------------- block_sparse_attention

@mistake("block_sparse_attention", "dense", "the T × T scores are formed and masked",
         hint="The result is right, but at T = 65 536 the scores of one head take 16 GiB.")
def block_sparse(q, k, v, layout, block):
    return _attend(q, k, v, _token_mask(layout, block, q.shape[2]))


@mistake("block_sparse_attention", "last_block_dropped", "a last block that is not full is left out",
         hint="There are ceil(T / block) blocks, not T // block; what is left of the output stays zero.")
def block_sparse(q, k, v, layout, block):
    whole = q.shape[2] // block
    if whole == 0:
        return torch.zeros_like(v)
    q, k, v, rest = *(x[:, :, :whole * block] for x in (q, k, v)), q.shape[2] - whole * block
    return F.pad(_by_block_rows(q, k, v, layout[:, :whole, :whole], block), (0, 0, 0, rest))


@mistake("block_sparse_attention", "padding_attended", "T is padded to whole blocks, and the padding is attended to",
         hint="Padded keys have score 0, not weight 0: mask the positions from T on.")
def block_sparse(q, k, v, layout, block):
    T = q.shape[2]
    q, k, v = (F.pad(x, (0, 0, 0, -T % block)) for x in (q, k, v))
    return _by_block_rows(q, k, v, layout, block)[:, :, :T]


@mistake("block_sparse_attention", "softmax_per_block", "every kept block has a softmax of its own",
         hint="The weights of a query sum to 1 over all kept blocks together, not once per block.")
def block_sparse(q, k, v, layout, block):
    return _by_block_rows(q, k, v, layout, block, lambda q_i, keys, values: sum(
        torch.softmax(_scores(q_i, k_j), dim=-1) @ v_j for k_j, v_j in zip(keys, values, strict=True)))


@mistake("block_sparse_attention", "mean_of_blocks", "the answers of the kept blocks are averaged",
         hint="A block with higher scores deserves more weight: the softmax runs over all kept blocks together.")
def block_sparse(q, k, v, layout, block):
    return _by_block_rows(q, k, v, layout, block, lambda q_i, keys, values: sum(
        torch.softmax(_scores(q_i, k_j), dim=-1) @ v_j for k_j, v_j in zip(keys, values, strict=True)) / len(keys))


@mistake("block_sparse_attention", "layout_transposed", "rows and columns of the layout are exchanged",
         hint="layout[h, i, j]: block i of the queries reads block j of the keys.")
def block_sparse(q, k, v, layout, block):
    return _by_block_rows(q, k, v, layout.transpose(1, 2), block)


@mistake("block_sparse_attention", "first_layout_for_all", "all heads use the layout of the first one",
         hint="`layout` has an axis for the heads.")
def block_sparse(q, k, v, layout, block):
    return _by_block_rows(q, k, v, layout[:1].expand_as(layout), block)


@mistake("block_sparse_attention", "block_from_layout", "the size of a block is taken to be T divided by their number",
         hint="The last block may be short: T = 9 in blocks of 4 is 4 + 4 + 1, not 3 + 3 + 3. Use `block`.")
def block_sparse(q, k, v, layout, block):
    return _by_block_rows(q, k, v, layout, math.ceil(q.shape[2] / layout.shape[-1]))


@mistake("block_sparse_attention", "empty_rows_nan", "a block of queries that may read nothing gives NaN",
         hint="The softmax over no key is 0/0; the contract asks for 0.")
def block_sparse(q, k, v, layout, block):
    out = _by_block_rows(q, k, v, layout, block)
    reads = layout.any(-1).repeat_interleave(block, dim=1)[:, :q.shape[2], None]
    return out.masked_fill(~reads, math.nan)


@mistake("block_sparse_attention", "no_scale", "the scores are not divided by √d",
         hint="Within the kept blocks this is scaled dot-product attention, Eq. (1).")
def block_sparse(q, k, v, layout, block):
    return _by_block_rows(q * math.sqrt(q.shape[-1]), k, v, layout, block)


@mistake("block_sparse_attention", "overflow", "exponentials are summed over the blocks without subtracting a maximum",
         hint="exp(1000) is infinite. Subtract the largest score of the row over all kept blocks.")
def block_sparse(q, k, v, layout, block):
    def attend(q_i, keys, values):
        exponentials = [torch.exp(_scores(q_i, k_j)) for k_j in keys]
        total = sum(e.sum(-1, keepdim=True) for e in exponentials)
        return sum(e @ v_j for e, v_j in zip(exponentials, values, strict=True)) / total
    return _by_block_rows(q, k, v, layout, block, attend)


@mistake("block_sparse_attention", "maximum_not_rescaled", "sums of different blocks are relative to different maxima",
         hint="If each block subtracts its own maximum, its sums must be rescaled before they are added.")
def block_sparse(q, k, v, layout, block):
    def attend(q_i, keys, values):
        scores = [_scores(q_i, k_j) for k_j in keys]
        exponentials = [torch.exp(s - s.amax(-1, keepdim=True)) for s in scores]
        total = sum(e.sum(-1, keepdim=True) for e in exponentials)
        return sum(e @ v_j for e, v_j in zip(exponentials, values, strict=True)) / total
    return _by_block_rows(q, k, v, layout, block, attend)


@mistake("block_sparse_attention", "diagonal_causal", "the block on the diagonal is masked causally",
         hint="The attention of this exercise is not causal: a kept block is read as a whole.")
def block_sparse(q, k, v, layout, block):
    position = torch.arange(q.shape[2])
    causal = (position[:, None] // block != position // block) | (position <= position[:, None])
    return _attend(q, k, v, _token_mask(layout, block, q.shape[2]) & causal)


@mistake("block_sparse_attention", "global_columns_only", "global blocks are read by all, but do not read all",
         hint="A global block has a full column and a full row.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    layout = _bigbird(_window(nb, n_window), rand_idx, 0)
    layout[:, :n_global] = True
    return layout


@mistake("block_sparse_attention", "global_rows_only", "global blocks read all, but are not read by all",
         hint="A global block has a full row and a full column.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    layout = _bigbird(_window(nb, n_window), rand_idx, 0)
    layout[:n_global] = True
    return layout


@mistake("block_sparse_attention", "window_wraps", "the window wraps around at the ends of the sequence",
         hint="`torch.roll` and negative indices wrap: the first and the last block are not neighbours.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    _window(nb, n_window)
    i = torch.arange(nb)
    window = torch.zeros(nb, nb, dtype=torch.bool)
    for step in range(-(n_window // 2), n_window // 2 + 1):
        window[i, (i + step) % nb] = True
    return _bigbird(window, rand_idx, n_global)


@mistake("block_sparse_attention", "window_on_each_side", "the window reaches n_window blocks to each side",
         hint="n_window counts all blocks of the window: (n_window - 1) / 2 to each side and the middle one.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    _window(nb, n_window)
    return _bigbird(_band(nb, -n_window, n_window), rand_idx, n_global)


@mistake("block_sparse_attention", "even_window_accepted", "a window with an even number of blocks is accepted",
         hint="It has no middle: the contract asks for a ValueError.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    return _bigbird(_band(nb, -(n_window // 2), n_window // 2), rand_idx, n_global)


@mistake("block_sparse_attention", "repeated_random_lost", "a random block that is drawn twice is not read",
         hint="How often a block is listed does not matter; compare the count with 0, not with 1.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    none = torch.zeros(nb, 0, dtype=torch.long)
    return _bigbird(_window(nb, n_window), none, n_global) | (F.one_hot(rand_idx, nb).sum(1) == 1)


@mistake("block_sparse_attention", "layout_counts", "the layout counts how often a block is listed",
         hint="A block is read or not: return a bool tensor, in which doubles count once.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    none = torch.zeros(nb, 0, dtype=torch.long)
    return _bigbird(_window(nb, n_window), none, n_global) + F.one_hot(rand_idx, nb).sum(1)


@mistake("block_sparse_attention", "random_columns", "the random blocks are entered as columns",
         hint="rand_idx[i] lists what block i reads: row i of the layout.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    none = torch.zeros(nb, 0, dtype=torch.long)
    return _bigbird(_window(nb, n_window), none, n_global) | (F.one_hot(rand_idx, nb).sum(1) > 0).T


@mistake("block_sparse_attention", "one_random_block", "only the first random block of each row is used",
         hint="rand_idx is (nb, r): r blocks for each row.")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    return _bigbird(_window(nb, n_window), rand_idx[:, :1], n_global)


@alternative("block_sparse_attention", "padded_gather")
def block_sparse(q, k, v, layout, block):
    B, H, T, d = q.shape
    nb, m = layout.shape[-1], max(int(layout.sum(-1).max()), 1)
    q, k, v = (F.pad(x, (0, 0, 0, nb * block - T)).unflatten(2, (nb, block)) for x in (q, k, v))
    kept, index = layout.to(torch.uint8).topk(m, dim=-1)
    head = torch.arange(H)[:, None, None]
    keys, values = (x[:, head, index].flatten(3, 4) for x in (k, v))
    position = (index[..., None] * block + torch.arange(block)).flatten(2)
    real = (kept.bool().repeat_interleave(block, dim=-1) & (position < T))[:, :, None]
    return _attend(q, keys, values, real).flatten(2, 3)[:, :, :T]


@alternative("block_sparse_attention", "padded_gather")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    if n_window % 2 == 0:
        raise ValueError("n_window must be odd")
    i, j = torch.meshgrid(torch.arange(nb), torch.arange(nb), indexing="ij")
    near = 2 * (i - j).abs() < n_window
    drawn = (rand_idx[:, :, None] == torch.arange(nb)).any(dim=1)
    return near | drawn | (i < n_global) | (j < n_global)


@alternative("block_sparse_attention", "online_softmax")
def block_sparse(q, k, v, layout, block):
    def attend(q_i, keys, values):
        highest = torch.full((*q_i.shape[:-1], 1), -math.inf, dtype=q_i.dtype)
        total, output = torch.zeros_like(highest), 0
        for k_j, v_j in zip(keys, values, strict=True):
            scores = _scores(q_i, k_j)
            higher = torch.maximum(highest, scores.detach().amax(-1, keepdim=True))
            rescale, exponentials = torch.exp(highest - higher), torch.exp(scores - higher)
            total = total * rescale + exponentials.sum(-1, keepdim=True)
            output = output * rescale + exponentials @ v_j
            highest = higher
        return output / total
    return _by_block_rows(q, k, v, layout, block, attend)


@alternative("block_sparse_attention", "online_softmax")
def bigbird_layout(nb, n_global, n_window, rand_idx):
    if n_window % 2 != 1:
        raise ValueError("n_window must be odd")
    layout = torch.zeros(nb, nb, dtype=torch.bool)
    for i, drawn in enumerate(rand_idx.tolist()):
        read = {*range(n_global), *range(i - n_window // 2, i + n_window // 2 + 1), *drawn}
        for j in range(nb):
            layout[i, j] = j in read or i < n_global
    return layout


@alternative("block_sparse_attention", "kept_pairs")
def block_sparse(q, k, v, layout, block):
    B, H, T, e = v.shape
    nb = layout.shape[-1]
    real = F.pad(torch.ones(T, dtype=torch.bool), (0, nb * block - T)).unflatten(0, (nb, block))
    q, k, v = (F.pad(x, (0, 0, 0, nb * block - T)).unflatten(2, (nb, block)) for x in (q, k, v))
    h, i, j = layout.nonzero(as_tuple=True)
    row = h * nb + i
    scores = _scores(q[:, h, i], k[:, h, j]).masked_fill(~real[j][:, None], -math.inf)
    highest = scores.new_full((B, H * nb, block), -math.inf)
    index = row[None, :, None].expand(B, -1, block)
    highest = highest.scatter_reduce(1, index, scores.detach().amax(-1), "amax")
    exponentials = torch.exp(scores - highest[:, row, :, None])
    total = q.new_zeros(B, H * nb, block).index_add(1, row, exponentials.sum(-1))
    output = q.new_zeros(B, H * nb, block, e).index_add(1, row, exponentials @ v[:, h, j])
    output = output / torch.where(total > 0, total, 1)[..., None]
    return output.reshape(B, H, nb * block, e)[:, :, :T]


# ----------------------------------------------------------------------------------------------------- sparsemax

@mistake("sparsemax", "ascending", "the scores are sorted in ascending order",
         hint="Eq. (9) needs the largest score first: `torch.sort` is ascending unless told otherwise.")
def sparsemax(z):
    ordered = torch.sort(z, dim=-1).values
    k = (1 + _ranks(z) * ordered > ordered.cumsum(-1)).sum(-1, keepdim=True).clamp(min=1)
    tau = (ordered.cumsum(-1).gather(-1, k - 1) - 1) / k
    return (z - tau).clamp(min=0)


@mistake("sparsemax", "support_without_rank", "the support is found by 1 + z > the sum, without the factor j",
         hint="Eq. (9) compares 1 + j z_(j) with the sum of the j largest scores.")
def sparsemax(z):
    ordered = torch.sort(z, dim=-1, descending=True).values
    k = (1 + ordered > ordered.cumsum(-1)).sum(-1, keepdim=True)
    return (z - (ordered.cumsum(-1).gather(-1, k - 1) - 1) / k).clamp(min=0)


@mistake("sparsemax", "support_too_small", "the support is one too small",
         hint="k is the largest j that passes the test, counted from 1.")
def sparsemax(z):
    z = z - z.amax(-1, keepdim=True)
    ordered = torch.sort(z, dim=-1, descending=True).values
    k = ((1 + _ranks(z) * ordered > ordered.cumsum(-1)).sum(-1, keepdim=True) - 1).clamp(min=1)
    return (z - (ordered.cumsum(-1).gather(-1, k - 1) - 1) / k).clamp(min=0)


@mistake("sparsemax", "ranks_from_zero", "the ranks j are counted from 0",
         hint="In Eq. (9) the largest score has j = 1.")
def sparsemax(z):
    z = z - z.amax(-1, keepdim=True)
    ordered = torch.sort(z, dim=-1, descending=True).values
    k = (1 + (_ranks(z) - 1) * ordered > ordered.cumsum(-1)).sum(-1, keepdim=True)
    return (z - (ordered.cumsum(-1).gather(-1, k - 1) - 1) / k).clamp(min=0)


@mistake("sparsemax", "whole_batch", "the scores are projected as one long vector",
         hint="Each row along the last axis is a distribution of its own and sums to 1.")
def sparsemax(z):
    return _project(z.reshape(-1)).reshape(z.shape)


@mistake("sparsemax", "first_axis", "the projection runs along the first axis",
         hint="The distributions lie along the last axis, however many axes there are.")
def sparsemax(z):
    return _project(z.movedim(0, -1)).movedim(-1, 0)


@mistake("sparsemax", "common_support_size", "all rows use the support size of one of them",
         hint="k differs from row to row: keep the axes when you count and when you gather.")
def sparsemax(z):
    z = z - z.amax(-1, keepdim=True)
    ordered = torch.sort(z, dim=-1, descending=True).values
    k = int((1 + _ranks(z) * ordered > ordered.cumsum(-1)).sum(-1).max())
    return (z - (ordered[..., :k].sum(-1, keepdim=True) - 1) / k).clamp(min=0)


@mistake("sparsemax", "softmax", "the softmax is computed instead",
         hint="The softmax is never exactly 0; project the scores onto the simplex.")
def sparsemax(z):
    return torch.softmax(z, dim=-1)


@mistake("sparsemax", "clipped_and_normalised", "negative scores are clipped, and the rest is divided by its sum",
         hint="The projection shifts all scores by one threshold; it does not rescale them.")
def sparsemax(z):
    p = torch.relu(z)
    total = p.sum(-1, keepdim=True)
    return torch.where(total > 0, p / torch.where(total > 0, total, 1), 1 / z.shape[-1])


@mistake("sparsemax", "few_bisections", "the threshold comes from ten steps of bisection",
         hint="Ten halvings leave an error of a thousandth; the sorted scores give the threshold exactly.")
def sparsemax(z):
    top = z.amax(-1, keepdim=True)
    low, high = top - 1, top
    for _ in range(10):
        middle = (low + high) / 2
        too_low = torch.relu(z - middle).sum(-1, keepdim=True) > 1
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    return torch.relu(z - low)


@mistake("sparsemax", "threshold_detached", "the backward pass ignores that the threshold depends on the scores",
         hint="Raising one score of the support raises tau and lowers the others: -s sᵀ / k in Eq. (10).")
def sparsemax(z):
    return _with_backward(z, lambda p, g: g * (p > 0))


@mistake("sparsemax", "softmax_backward", "the backward pass is that of the softmax",
         hint="Eq. (10) has no factor p: within the support all weights count alike.")
def sparsemax(z):
    return _with_backward(z, lambda p, g: p * (g - (p * g).sum(-1, keepdim=True)))


@mistake("sparsemax", "mean_over_all", "the backward pass divides by K instead of the size of the support",
         hint="k in Eq. (10) is the number of positive weights in the row.")
def sparsemax(z):
    return _with_backward(z, lambda p, g: (p > 0) * (g - (g * (p > 0)).mean(-1, keepdim=True)))


@mistake("sparsemax", "sum_over_all", "the backward pass subtracts the mean of all gradients, off the support as well",
         hint="The sum in Eq. (10) carries s_j: gradients at zero weights do not count.")
def sparsemax(z):
    return _with_backward(z, lambda p, g: (p > 0) * (g - g.mean(-1, keepdim=True)))


@mistake("sparsemax", "gradient_off_support", "scores with zero weight get a gradient as well",
         hint="Off the support a small change of the score changes nothing: s_i = 0 in Eq. (10).")
def sparsemax(z):
    def rule(p, g):
        support = (p > 0).to(g.dtype)
        return g - (g * support).sum(-1, keepdim=True) / support.sum(-1, keepdim=True)
    return _with_backward(z, rule)


@mistake("sparsemax", "float32_inside", "the projection is computed in float32 whatever the input",
         hint="A new tensor such as `torch.arange(...)` or `.float()` decides the dtype; take that of z.")
def sparsemax(z):
    return _project(z.float()).to(z.dtype)


@mistake("sparsemax", "shifted_in_place", "the largest score is subtracted in place",
         hint="`z -= ...` changes the caller's scores; inside `forward` nothing warns you.")
def sparsemax(z):
    class InPlace(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            z -= z.max(dim=-1, keepdim=True).values
            p = _project(z)
            ctx.save_for_backward(p > 0)
            return p

        @staticmethod
        def backward(ctx, g):
            (s,) = ctx.saved_tensors
            return s * (g - (s * g).sum(-1, keepdim=True) / s.sum(-1, keepdim=True))

    return InPlace.apply(z)


@mistake("sparsemax", "support_of_last_call", "the support is kept on the class and not in ctx",
         hint="A second forward pass overwrites it before the first backward pass; use ctx.save_for_backward.")
def sparsemax(z):
    class Forgetful(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            p = _project(z)
            sparsemax.support = p > 0
            return p

        @staticmethod
        def backward(ctx, g):
            s = sparsemax.support
            return s * (g - (s * g).sum(-1, keepdim=True) / s.sum(-1, keepdim=True))

    return Forgetful.apply(z)


@alternative("sparsemax", "autograd_through_the_sort")
def sparsemax(z):
    ordered = z.sort(dim=-1, descending=True).values
    total = ordered.cumsum(dim=-1)
    k = (1 + _ranks(z) * ordered > total).sum(dim=-1, keepdim=True)
    tau = (total.gather(-1, k - 1) - 1) / k
    return torch.maximum(z - tau, torch.zeros_like(z))


@alternative("sparsemax", "bisection")
def sparsemax(z):
    with torch.no_grad():
        top = z.amax(-1, keepdim=True)
        low, high = -torch.ones_like(top), torch.zeros_like(top)
        for _ in range(60):
            middle = (low + high) / 2
            enough = (z - top - middle).clamp(min=0).sum(-1, keepdim=True) >= 1
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        support = (z - top > low).to(z.dtype)
    size = support.sum(-1, keepdim=True)
    shifted = z - top
    tau = ((shifted * support).sum(-1, keepdim=True) - 1) / size
    return support * (shifted - tau)


@alternative("sparsemax", "shrinking_support")
def sparsemax(z):
    s = torch.ones_like(z, dtype=torch.bool)
    shifted = z - z.detach().amax(-1, keepdim=True)
    while True:
        tau = (torch.where(s, shifted, 0).sum(-1, keepdim=True) - 1) / s.sum(-1, keepdim=True)
        smaller = s & (shifted > tau)
        if torch.equal(smaller, s):
            return torch.where(s, shifted - tau, 0)
        s = smaller
