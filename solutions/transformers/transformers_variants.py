"""What students hand in for the unit on transformers: known mistakes, and right answers in other styles.

Every decorated function replaces the reference's function of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...".
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from autograder.variants import alternative, mistake

# ------------------------------------------------------------------------------------- helpers (all of them right)


def _waves(T, d, base, rate=None, first=0):
    """Sines and cosines of all angles, each (T, ceil(d / 2)) in float64."""
    i = torch.arange((d + 1) // 2, dtype=torch.float64)
    rate = base ** (-2 * i / d) if rate is None else rate(i)
    angle = torch.outer(torch.arange(first, T + first, dtype=torch.float64), rate)
    return torch.sin(angle), torch.cos(angle)


def _alternate(even, odd, d):
    """Columns of the two in turn, d in all."""
    return torch.stack([even, odd], dim=-1).flatten(-2)[..., :d]


def _even(d):
    if d % 2:
        raise ValueError(f"an odd number of channels: {d}")
    return d


def _angles(pos, d, base):
    i = torch.arange(_even(d) // 2, dtype=torch.float64)
    return pos.double()[:, None] / base ** (2 * i / d)


def _turn(x, angle, sign=1):
    """Neighbouring channels of x, turned by the angles (T, d/2)."""
    cos, sin = torch.cos(angle).to(x.dtype), sign * torch.sin(angle).to(x.dtype)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return _alternate(a * cos - b * sin, b * cos + a * sin, x.shape[-1])


# ------------------------------------------------------------------------------------------------- sinusoidal_pe

@mistake("sinusoidal_pe", "exponent_i_over_d", "the exponent is i/d instead of 2i/d",
         hint="Pair i has the channels 2i and 2i+1; the exponent goes from 0 to almost 1 over all channels.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*_waves(T, d, base, lambda i: base ** (-i / d)), d).to(dtype)


@mistake("sinusoidal_pe", "frequency_per_channel", "every channel has a frequency of its own",
         hint="The sine and the cosine of a pair share one frequency: the exponent of channel 2i+1 is 2i/d, too.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    c = torch.arange(d, dtype=torch.float64)
    angle = torch.arange(T, dtype=torch.float64)[:, None] * base ** (-c / d)
    return torch.where(c % 2 == 0, angle.sin(), angle.cos()).to(dtype)


@mistake("sinusoidal_pe", "sines_then_cosines", "all sines come first, then all cosines",
         hint="Some libraries do that; Eq. (1) has sine and cosine alternate.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return torch.cat(_waves(T, d, base), dim=1)[:, :d].to(dtype)


@mistake("sinusoidal_pe", "cosine_first", "the even channels are cosines and the odd ones sines",
         hint="Even channels are sines: position 0 reads 0, 1, 0, 1, ...")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*reversed(_waves(T, d, base)), d).to(dtype)


@mistake("sinusoidal_pe", "positions_from_one", "the first position is 1",
         hint="Positions are counted from 0.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*_waves(T, d, base, first=1), d).to(dtype)


@mistake("sinusoidal_pe", "odd_d_rounded_up", "for odd d the frequencies are those of d + 1 channels",
         hint="The d of the exponent is the argument's, also if the last pair is not complete.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*_waves(T, d, base, lambda i: base ** (-2 * i / (d + d % 2))), d).to(dtype)


@mistake("sinusoidal_pe", "odd_d_cut", "for odd d the last channel is missing",
         hint="An odd d has one sine more than cosines: (d + 1) // 2 of them.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*_waves(T, d, base), d // 2 * 2).to(dtype)


@mistake("sinusoidal_pe", "periods_end_at_base", "the last period is exactly 2π·base",
         hint="That is another library's convention, with the exponent i / (d/2 - 1). Eq. (1) has 2i/d.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*_waves(T, d, base, lambda i: base ** (-i / max(len(i) - 1, 1))), d).to(dtype)


@mistake("sinusoidal_pe", "angles_in_dtype", "positions and angles are computed in the dtype of the result",
         hint="float16 counts in steps of 2 beyond 2048. Compute in float64, and round the sines at the end.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    i = torch.arange((d + 1) // 2, dtype=torch.float64)
    angle = torch.arange(T).to(dtype)[:, None] * (base ** (-2 * i / d)).to(dtype)
    return _alternate(angle.sin(), angle.cos(), d)


@mistake("sinusoidal_pe", "angles_in_float32", "the angles are computed in float32 whatever the dtype",
         hint="Seven digits of an angle of 5000 leave four behind the point; use dtype=torch.float64 inside.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    i = torch.arange((d + 1) // 2)
    angle = torch.arange(T)[:, None] * torch.exp(-math.log(base) * 2 * i / d)
    return _alternate(angle.sin(), angle.cos(), d).to(dtype)


@mistake("sinusoidal_pe", "base_ignored", "the base is always 10000",
         hint="10000 is only the default of the argument base.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*_waves(T, d, 10000.0), d).to(dtype)


@mistake("sinusoidal_pe", "dtype_ignored", "the result is float32 whatever was asked for",
         hint="`dtype` says what the result is.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*_waves(T, d, base), d).float()


@mistake("sinusoidal_pe", "never_rounded", "the result stays in float64",
         hint="float64 is for the computation; convert to `dtype` at the end.")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    return _alternate(*_waves(T, d, base), d)


@alternative("sinusoidal_pe", "imaginary_part")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    rate = torch.exp(torch.arange((d + 1) // 2, dtype=torch.float64) * (-2 * math.log(base) / d))
    angle = torch.arange(T, dtype=torch.float64)[:, None] * rate
    hands = torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(hands).flip(-1).reshape(T, -1)[:, :d].to(dtype)


@alternative("sinusoidal_pe", "entry_by_entry")
def sinusoidal_pe(T, d, base=10000.0, dtype=torch.float32):
    wave = (math.sin, math.cos)
    rows = [[wave[c % 2](t / base ** ((c - c % 2) / d)) for c in range(d)] for t in range(T)]
    return torch.tensor(rows, dtype=torch.float64).to(dtype)


# ---------------------------------------------------------------------------------------------------------- rope

@mistake("rope", "half_split", "channel i is paired with channel i + d/2",
         hint="That is the Hugging Face layout. Eq. (3) turns neighbours: (0, 1), (2, 3), ...")
def rope(x, pos, base=10000.0):
    angle = _angles(pos, x.shape[-1], base)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


@mistake("rope", "left_in_halves", "neighbours are turned, and the results are put in halves",
         hint="Even and odd channels have to alternate again: stack along a new last axis, then flatten.")
def rope(x, pos, base=10000.0):
    turned = _turn(x, _angles(pos, x.shape[-1], base))
    return torch.cat([turned[..., 0::2], turned[..., 1::2]], dim=-1)


@mistake("rope", "frequency_i_over_d", "the exponent of the frequencies is i/d",
         hint="θ_i = base^(-2i/d) for pair i = 0, ..., d/2 - 1.")
def rope(x, pos, base=10000.0):
    d = _even(x.shape[-1])
    return _turn(x, pos.double()[:, None] * base ** (-torch.arange(d // 2, dtype=torch.float64) / d))


@mistake("rope", "positions_from_one", "the angles belong to the next position",
         hint="At position 0 nothing is turned.")
def rope(x, pos, base=10000.0):
    return _turn(x, _angles(pos + 1, x.shape[-1], base))


@mistake("rope", "other_direction", "the pairs are turned the other way round",
         hint="Check the signs of the two sines in Eq. (3). Both directions satisfy Eq. (4).")
def rope(x, pos, base=10000.0):
    return _turn(x, _angles(pos, x.shape[-1], base), sign=-1)


@mistake("rope", "reflection", "both sines have the same sign",
         hint="A rotation has one minus sign; with two equal signs lengths are not kept.")
def rope(x, pos, base=10000.0):
    angle = _angles(pos, x.shape[-1], base)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return _alternate(a * cos + b * sin, b * cos + a * sin, x.shape[-1])


@mistake("rope", "mirrored", "the pairs are mirrored instead of turned",
         hint="The determinant of the matrix in Eq. (3) is +1: cos² + sin². At position 0 it is the identity.")
def rope(x, pos, base=10000.0):
    angle = _angles(pos, x.shape[-1], base)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return _alternate(a * cos + b * sin, a * sin - b * cos, x.shape[-1])


@mistake("rope", "sine_and_cosine_exchanged", "sine and cosine are exchanged",
         hint="At position 0 nothing is turned: which of the two is 1 there?")
def rope(x, pos, base=10000.0):
    return _turn(x, math.pi / 2 - _angles(pos, x.shape[-1], base))


@mistake("rope", "second_half_not_updated", "the new even channels are used to compute the odd ones",
         hint="Both lines of Eq. (3) take the old x: the first result must not replace it in between.")
def rope(x, pos, base=10000.0):
    angle = _angles(pos, x.shape[-1], base)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a = x[..., 0::2] * cos - x[..., 1::2] * sin
    return _alternate(a, x[..., 1::2] * cos + a * sin, x.shape[-1])


@mistake("rope", "pos_ignored", "the positions are taken to be 0, 1, 2, ...",
         hint="`pos` says where each row stands; a text that is continued does not begin at 0.")
def rope(x, pos, base=10000.0):
    return _turn(x, _angles(torch.arange(len(pos)), x.shape[-1], base))


@mistake("rope", "base_ignored", "the base is always 10000",
         hint="10000 is only the default of the argument base.")
def rope(x, pos, base=10000.0):
    return _turn(x, _angles(pos, x.shape[-1], 10000.0))


@mistake("rope", "angles_in_float32", "the angles are computed in float32 whatever the dtype of x",
         hint="Position 100 000 times a frequency has two digits left behind the point. Compute angles in float64.")
def rope(x, pos, base=10000.0):
    i = torch.arange(_even(x.shape[-1]) // 2, dtype=torch.float32)
    return _turn(x, pos.float()[:, None] * base ** (-2 * i / x.shape[-1]))


@mistake("rope", "angles_in_the_dtype_of_x", "the angles are computed in the dtype of x",
         hint="In float32 an angle around 100 000 has two digits behind the point. Convert the sines, not the angles.")
def rope(x, pos, base=10000.0):
    i = torch.arange(_even(x.shape[-1]) // 2, dtype=x.dtype)
    return _turn(x, pos.to(x.dtype)[:, None] * base ** (-2 * i / x.shape[-1]))


@mistake("rope", "always_float64", "the float64 of the angles spreads to the output",
         hint="Convert sine and cosine to the dtype of x before you multiply.")
def rope(x, pos, base=10000.0):
    return _turn(x.double(), _angles(pos, x.shape[-1], base))


@mistake("rope", "in_place", "the channels are overwritten in the caller's tensor",
         hint="`x[..., 0::2] = ...` writes to the input.")
def rope(x, pos, base=10000.0):
    turned = _turn(x.clone(), _angles(pos, x.shape[-1], base))
    with torch.no_grad():
        if x.stride(0) or x.shape[0] == 1:
            x.copy_(turned)
    return turned


@mistake("rope", "odd_channel_left_over", "of an odd number of channels the last one is passed through",
         hint="The contract asks for a ValueError.")
def rope(x, pos, base=10000.0):
    d = x.shape[-1] // 2 * 2
    return torch.cat([_turn(x[..., :d], _angles(pos, d, base)), x[..., d:]], dim=-1)


@mistake("rope", "detached", "the result is cut out of the graph",
         hint="Only sine and cosine are constants; x needs its gradient.")
def rope(x, pos, base=10000.0):
    return _turn(x.detach(), _angles(pos, x.shape[-1], base)) + 0 * x


@alternative("rope", "complex_product")
def rope(x, pos, base=10000.0):
    angle = _angles(pos, x.shape[-1], base)
    turn = torch.complex(angle.cos().to(x.dtype), angle.sin().to(x.dtype))
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * turn).reshape(x.shape)


@alternative("rope", "matrix_per_position")
def rope(x, pos, base=10000.0):
    angle = _angles(pos, x.shape[-1], base)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    blocks = torch.stack([cos, -sin, sin, cos], dim=-1).reshape(*angle.shape, 2, 2)
    matrices = torch.stack([torch.block_diag(*row) for row in blocks])
    return torch.einsum("tij,btj->bti", matrices, x)


@alternative("rope", "with_a_rotated_copy")
def rope(x, pos, base=10000.0):
    angle = _angles(pos, x.shape[-1], base).repeat_interleave(2, dim=-1)
    a, b = x[..., 0::2], x[..., 1::2]
    quarter_turn = _alternate(-b, a, x.shape[-1])
    return x * angle.cos().to(x.dtype) + quarter_turn * angle.sin().to(x.dtype)


# ------------------------------------------------------------------------------------ multi_head_self_attention

def _width_of_head(width, heads):
    if width % heads:
        raise ValueError(f"a width of {width} cannot be shared by {heads} heads")
    return width // heads


def _split(y, heads):
    """(B, T, C) -> (B, H, T, D)."""
    return y.reshape(y.shape[0], y.shape[1], heads, _width_of_head(y.shape[2], heads)).transpose(1, 2)


def _merge(y):
    return y.transpose(1, 2).reshape(y.shape[0], y.shape[2], -1)


def _three(x, w_qkv, n_heads, bias=None):
    """The heads' queries, keys and values."""
    return [_split(part, n_heads) for part in F.linear(x, w_qkv, bias).chunk(3, dim=-1)]


def _past(length):
    """(T, T) bool: key s is not later than query t."""
    return torch.ones(length, length, dtype=torch.bool).tril()


def _mix(q, k, v, keep=None, scale=None):
    """Attention with a mask that keeps at least one key for every query."""
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if keep is not None:
        scores = scores.masked_fill(~keep, -math.inf)
    return torch.softmax(scores, dim=-1) @ v


def _reading(x, causal):
    return _past(x.shape[1]) if causal else None


@mistake("multi_head_self_attention", "reshaped_without_transpose", "heads are made by one reshape to (B, H, T, D)",
         hint="That cuts time into pieces. Split the channels first, (B, T, H, D), then exchange two axes.")
def mha(x, w_qkv, w_o, n_heads, causal):
    D = _width_of_head(x.shape[2], n_heads)
    q, k, v = (part.reshape(x.shape[0], n_heads, x.shape[1], D) for part in F.linear(x, w_qkv).chunk(3, dim=-1))
    return F.linear(_merge(_mix(q, k, v, _reading(x, causal))), w_o)


@mistake("multi_head_self_attention", "heads_last", "neighbouring channels go to different heads",
         hint="Head i owns the channels i·D to (i+1)·D: the last axis is (heads, D), not (D, heads).")
def mha(x, w_qkv, w_o, n_heads, causal):
    D = _width_of_head(x.shape[2], n_heads)
    q, k, v = (part.unflatten(-1, (D, n_heads)).permute(0, 3, 1, 2) for part in F.linear(x, w_qkv).chunk(3, dim=-1))
    mixed = _mix(q, k, v, _reading(x, causal))
    return F.linear(mixed.permute(0, 2, 3, 1).flatten(2), w_o)


@mistake("multi_head_self_attention", "qkv_within_heads", "query, key and value of a head stand side by side in w_qkv",
         hint="That is the layout of GPT-NeoX. Here all queries come first, then all keys, then all values.")
def mha(x, w_qkv, w_o, n_heads, causal):
    D = _width_of_head(x.shape[2], n_heads)
    q, k, v = F.linear(x, w_qkv).unflatten(-1, (n_heads, 3 * D)).transpose(1, 2).chunk(3, dim=-1)
    return F.linear(_merge(_mix(q, k, v, _reading(x, causal))), w_o)


@mistake("multi_head_self_attention", "keys_before_queries", "the rows of queries and keys are exchanged",
         hint="The contract's order is queries, keys, values.")
def mha(x, w_qkv, w_o, n_heads, causal):
    k, q, v = _three(x, w_qkv, n_heads)
    return F.linear(_merge(_mix(q, k, v, _reading(x, causal))), w_o)


@mistake("multi_head_self_attention", "no_scale", "the scores are not divided by √D",
         hint="Eq. (5) divides by the root of the width of a head.")
def mha(x, w_qkv, w_o, n_heads, causal):
    return F.linear(_merge(_mix(*_three(x, w_qkv, n_heads), _reading(x, causal), scale=1.0)), w_o)


@mistake("multi_head_self_attention", "scale_by_the_width", "the scores are divided by √C",
         hint="Queries and keys of a head have D = C / n_heads entries.")
def mha(x, w_qkv, w_o, n_heads, causal):
    return F.linear(_merge(_mix(*_three(x, w_qkv, n_heads), _reading(x, causal), scale=x.shape[-1] ** -0.5)), w_o)


@mistake("multi_head_self_attention", "does_not_see_itself", "the causal mask takes away the diagonal, too",
         hint="Position t reads 0 to t. What can position 0 read in your code?")
def mha(x, w_qkv, w_o, n_heads, causal):
    q, k, v = _three(x, w_qkv, n_heads)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones(x.shape[1], x.shape[1]).triu() == 1, -1e9)
    return F.linear(_merge(torch.softmax(scores, dim=-1) @ v), w_o)


@mistake("multi_head_self_attention", "rows_of_minus_infinity", "the diagonal is masked with -∞",
         hint="Position 0 then reads nothing, and the softmax of nothing is NaN. Spare the diagonal.")
def mha(x, w_qkv, w_o, n_heads, causal):
    keep = _past(x.shape[1]).tril(-1) if causal else None
    return F.linear(_merge(_mix(*_three(x, w_qkv, n_heads), keep)), w_o)


@mistake("multi_head_self_attention", "mask_transposed", "every position reads itself and the future",
         hint="In the scores rows are queries and columns are keys: keep the lower triangle.")
def mha(x, w_qkv, w_o, n_heads, causal):
    keep = _past(x.shape[1]).T if causal else None
    return F.linear(_merge(_mix(*_three(x, w_qkv, n_heads), keep)), w_o)


@mistake("multi_head_self_attention", "one_step_ahead", "every position reads the next one, too",
         hint="Position t must not see what it is to predict: the mask begins right above the diagonal.")
def mha(x, w_qkv, w_o, n_heads, causal):
    keep = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(1) if causal else None
    return F.linear(_merge(_mix(*_three(x, w_qkv, n_heads), keep)), w_o)


@mistake("multi_head_self_attention", "causal_ignored", "the mask is never applied",
         hint="Look at what `causal` is to do.")
def mha(x, w_qkv, w_o, n_heads, causal):
    _width_of_head(x.shape[2], n_heads)
    return F.linear(_merge(_mix(*_three(x, w_qkv, n_heads))), w_o)


@mistake("multi_head_self_attention", "always_causal", "the mask is always applied",
         hint="With causal=False every position reads all of them.")
def mha(x, w_qkv, w_o, n_heads, causal):
    return F.linear(_merge(_mix(*_three(x, w_qkv, n_heads), _past(x.shape[1]))), w_o)


@mistake("multi_head_self_attention", "mask_after_softmax", "the future's weights are set to 0 after the softmax",
         hint="They still take part in the denominator, so the rows sum to less than 1. Mask the scores.")
def mha(x, w_qkv, w_o, n_heads, causal):
    q, k, v = _three(x, w_qkv, n_heads)
    weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)
    return F.linear(_merge((weights.tril() if causal else weights) @ v), w_o)


@mistake("multi_head_self_attention", "merged_without_transpose", "the heads are merged by a reshape alone",
         hint="(B, H, T, D) has to become (B, T, H, D) before the last two axes are joined.")
def mha(x, w_qkv, w_o, n_heads, causal):
    return F.linear(_mix(*_three(x, w_qkv, n_heads), _reading(x, causal)).reshape(x.shape), w_o)


@mistake("multi_head_self_attention", "w_o_not_transposed", "the last projection is x @ w_o",
         hint="Weights are stored (out, in), the last one too: x @ w_o.T.")
def mha(x, w_qkv, w_o, n_heads, causal):
    return _merge(_mix(*_three(x, w_qkv, n_heads), _reading(x, causal))) @ w_o


@mistake("multi_head_self_attention", "softmax_over_queries", "the softmax runs over the queries",
         hint="Each query distributes a weight of 1 among the keys: the last axis of the scores.")
def mha(x, w_qkv, w_o, n_heads, causal):
    q, k, v = _three(x, w_qkv, n_heads)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~_past(x.shape[1]), -math.inf) if causal else scores
    return F.linear(_merge(torch.softmax(scores, dim=-2) @ v), w_o)


@mistake("multi_head_self_attention", "overflow", "the exponentials are taken of the scores as they are",
         hint="exp(100) is infinite in float32. Subtract the row's largest score first; `torch.softmax` does.")
def mha(x, w_qkv, w_o, n_heads, causal):
    q, k, v = _three(x, w_qkv, n_heads)
    weights = torch.exp(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]))
    weights = weights.tril() if causal else weights
    return F.linear(_merge(weights / weights.sum(-1, keepdim=True) @ v), w_o)


@mistake("multi_head_self_attention", "heads_unchecked", "heads that do not divide C leave channels over",
         hint="The contract asks for a ValueError.")
def mha(x, w_qkv, w_o, n_heads, causal):
    D = max(x.shape[2] // n_heads, 1)
    heads = x.shape[2] // D
    return F.linear(_merge(_mix(*_three(x, w_qkv, heads), _reading(x, causal))), w_o)


@alternative("multi_head_self_attention", "einsum")
def mha(x, w_qkv, w_o, n_heads, causal):
    D = _width_of_head(x.shape[2], n_heads)
    w_q, w_k, w_v = w_qkv.reshape(3, n_heads, D, -1)
    q, k, v = (torch.einsum("btc,hdc->bhtd", x, w) for w in (w_q, w_k, w_v))
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) * D ** -0.5
    if causal:
        scores = scores + torch.full(scores.shape[-2:], -math.inf, dtype=x.dtype).triu(1)
    mixed = torch.einsum("bhts,bhsd->bthd", torch.softmax(scores, dim=-1), v)
    return torch.einsum("bthd,ohd->bto", mixed, w_o.reshape(-1, n_heads, D))


@alternative("multi_head_self_attention", "head_by_head")
def mha(x, w_qkv, w_o, n_heads, causal):
    C = x.shape[2]
    D, output = _width_of_head(C, n_heads), 0
    for i in range(n_heads):
        own = slice(i * D, (i + 1) * D)
        q, k, v = (x @ w_qkv[start:start + C][own].T for start in (0, C, 2 * C))
        output = output + _mix(q, k, v, _reading(x, causal)) @ w_o[:, own].T
    return output


@alternative("multi_head_self_attention", "library_call")
def mha(x, w_qkv, w_o, n_heads, causal):
    return F.linear(_merge(F.scaled_dot_product_attention(*_three(x, w_qkv, n_heads), is_causal=causal)), w_o)


# ------------------------------------------------------------------------------------------------ encoder_block

class _Block(nn.Module):
    """A right block in small methods, each of which a mistake can replace."""

    def __init__(self, width, heads, hidden, norm="pre", dropout=0.0):
        super().__init__()
        _width_of_head(width, heads)
        self.check_norm(norm)
        self.heads, self.norm, self.rate = heads, norm, dropout
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def check_norm(self, norm):
        if norm not in ("pre", "post"):
            raise ValueError(norm)

    def readable(self, keep):
        return keep[:, None, None, :]

    def scale(self, D):
        return D ** -0.5

    def attention(self, x, keep):
        q, k, v = _three(x, self.qkv.weight, self.heads, self.qkv.bias)
        return self.out(_merge(_mix(q, k, v, self.readable(keep), self.scale(q.shape[-1]))))

    def activation(self, x):
        return F.relu(x)

    def feed_forward(self, x):
        return self.linear2(self.activation(self.linear1(x)))

    def drop(self, y, generator):
        if not self.training or not self.rate:
            return y
        kept = torch.rand(y.shape, generator=generator, dtype=y.dtype) < 1 - self.rate
        return kept * y / (1 - self.rate)

    def forward(self, x, keep, generator=None):
        if self.norm == "pre":
            return self.pre(x, keep, generator)
        return self.post(x, keep, generator)

    def pre(self, x, keep, generator):
        x = x + self.drop(self.attention(self.norm1(x), keep), generator)
        return x + self.drop(self.feed_forward(self.norm2(x)), generator)

    def post(self, x, keep, generator):
        x = self.norm1(x + self.drop(self.attention(x, keep), generator))
        return self.norm2(x + self.drop(self.feed_forward(x), generator))


@mistake("encoder_block", "norm_ignored_always_post", "the block is post-LN whatever `norm` says",
         hint="Eq. (9) normalizes what a sublayer reads; Eq. (8) normalizes the sum.")
class EncoderBlock(_Block):
    def pre(self, x, keep, generator):
        return self.post(x, keep, generator)


@mistake("encoder_block", "norm_ignored_always_pre", "the block is pre-LN whatever `norm` says",
         hint="With norm='post' the sums are normalized: Eq. (8).")
class EncoderBlock(_Block):
    def post(self, x, keep, generator):
        return self.pre(x, keep, generator)


@mistake("encoder_block", "norm_of_the_output", "in pre-LN the sublayers' outputs are normalized, not their inputs",
         hint="In Eq. (9) LN stands inside, around what the sublayer reads.")
class EncoderBlock(_Block):
    def pre(self, x, keep, generator):
        x = x + self.drop(self.norm1(self.attention(x, keep)), generator)
        return x + self.drop(self.norm2(self.feed_forward(x)), generator)


@mistake("encoder_block", "one_norm_for_both", "norm1 is used at both sublayers",
         hint="Each sublayer has a normalization of its own: norm1 at the attention, norm2 at the FFN.")
class EncoderBlock(_Block):
    def pre(self, x, keep, generator):
        x = x + self.drop(self.attention(self.norm1(x), keep), generator)
        return x + self.drop(self.feed_forward(self.norm1(x)), generator)

    def post(self, x, keep, generator):
        x = self.norm1(x + self.drop(self.attention(x, keep), generator))
        return self.norm1(x + self.drop(self.feed_forward(x), generator))


@mistake("encoder_block", "norms_exchanged", "norm2 stands at the attention and norm1 at the FFN",
         hint="norm1 belongs to the sublayer that comes first.")
class EncoderBlock(_Block):
    def __init__(self, width, heads, hidden, norm="pre", dropout=0.0):
        super().__init__(width, heads, hidden, norm, dropout)

    def forward(self, x, keep, generator=None):
        def sub(name, part, y):
            return self.drop(part(y), generator)

        def attend(y):
            return self.attention(y, keep)
        if self.norm == "pre":
            x = x + sub("attention", attend, self.norm2(x))
            return x + sub("ffn", self.feed_forward, self.norm1(x))
        x = self.norm2(x + sub("attention", attend, x))
        return self.norm1(x + sub("ffn", self.feed_forward, x))


@mistake("encoder_block", "residual_from_normalized", "in pre-LN the normalized x is added, not x itself",
         hint="The sublayer reads LN(x); the sum takes x as it was. With `x = norm(x)` the original is gone.")
class EncoderBlock(_Block):
    def pre(self, x, keep, generator):
        x = self.norm1(x)
        x = x + self.drop(self.attention(x, keep), generator)
        x = self.norm2(x)
        return x + self.drop(self.feed_forward(x), generator)


@mistake("encoder_block", "ffn_without_residual", "the FFN's output replaces x instead of being added",
         hint="Both sublayers have a residual connection.")
class EncoderBlock(_Block):
    def pre(self, x, keep, generator):
        x = x + self.drop(self.attention(self.norm1(x), keep), generator)
        return self.drop(self.feed_forward(self.norm2(x)), generator)

    def post(self, x, keep, generator):
        x = self.norm1(x + self.drop(self.attention(x, keep), generator))
        return self.norm2(self.drop(self.feed_forward(x), generator))


@mistake("encoder_block", "parallel_sublayers", "both sublayers read the same input",
         hint="The FFN reads what the attention has already been added to. (Some models do it in parallel.)")
class EncoderBlock(_Block):
    def pre(self, x, keep, generator):
        return (x + self.drop(self.attention(self.norm1(x), keep), generator)
                + self.drop(self.feed_forward(self.norm2(x)), generator))


@mistake("encoder_block", "final_norm_inside", "a pre-LN block normalizes its output once more",
         hint="The final normalization belongs to the network, after the last block, not into each block.")
class EncoderBlock(_Block):
    def pre(self, x, keep, generator):
        return self.norm2(super().pre(x, keep, generator))


@mistake("encoder_block", "gelu", "the FFN uses GELU",
         hint="Eq. (7) has max(0, ·). GELU came later, with GPT and BERT.")
class EncoderBlock(_Block):
    def activation(self, x):
        return F.gelu(x)


@mistake("encoder_block", "relu_after_both", "the FFN ends with a ReLU",
         hint="Eq. (7) has one max(0, ·), between the two linear maps.")
class EncoderBlock(_Block):
    def feed_forward(self, x):
        return torch.relu(super().feed_forward(x))


@mistake("encoder_block", "keep_inverted", "the mask is read the other way round",
         hint="In this course True means keep; `nn.MultiheadAttention` has it the other way round.")
class EncoderBlock(_Block):
    def readable(self, keep):
        return ~keep[:, None, None, :]

    def attention(self, x, keep):
        q, k, v = _three(x, self.qkv.weight, self.heads, self.qkv.bias)
        scores = (q @ k.mT * self.scale(q.shape[-1])).masked_fill(~self.readable(keep), -1e9)
        return self.out(_merge(torch.softmax(scores, dim=-1) @ v))


@mistake("encoder_block", "keep_ignored", "padding is read like anything else",
         hint="`keep` is False where a position is padding: its key must get no weight.")
class EncoderBlock(_Block):
    def readable(self, keep):
        return torch.ones_like(keep)[:, None, None, :]


@mistake("encoder_block", "mask_on_queries", "the mask is laid along the queries",
         hint="The scores have the axes (B, H, query, key); padding is not to be read, so `keep` belongs to the keys.")
class EncoderBlock(_Block):
    def attention(self, x, keep):
        q, k, v = _three(x, self.qkv.weight, self.heads, self.qkv.bias)
        scores = (q @ k.mT * self.scale(q.shape[-1])).masked_fill(~keep[:, None, :, None], -1e9)
        return self.out(_merge(torch.softmax(scores, dim=-1) @ v))


@mistake("encoder_block", "padded_values_zeroed", "padded vectors are set to 0 and read all the same",
         hint="A zero vector still gets a score, and through the bias a value. Mask the scores.")
class EncoderBlock(_Block):
    def attention(self, x, keep):
        return super().attention(x * keep[..., None], torch.ones_like(keep))


@mistake("encoder_block", "scale_by_the_width", "the scores are divided by √C",
         hint="The root is that of the width of a head.")
class EncoderBlock(_Block):
    def scale(self, D):
        return (D * self.heads) ** -0.5


@mistake("encoder_block", "dropout_in_eval", "dropout acts in eval mode, too",
         hint="Look at self.training before you draw.")
class EncoderBlock(_Block):
    def drop(self, y, generator):
        if not self.rate:
            return y
        return y * (torch.rand(y.shape, generator=generator, dtype=y.dtype) >= self.rate) / (1 - self.rate)


@mistake("encoder_block", "dropout_not_rescaled", "what survives dropout is not divided by 1 - p",
         hint="Without it the expectation shrinks, and eval mode meets larger values than training.")
class EncoderBlock(_Block):
    def drop(self, y, generator):
        return super().drop(y, generator) * (1 - self.rate if self.training else 1)


@mistake("encoder_block", "dropout_divided_by_p", "what survives dropout is divided by p",
         hint="It survives with probability 1 - p, and that is what it is divided by.")
class EncoderBlock(_Block):
    def drop(self, y, generator):
        return super().drop(y, generator) * ((1 - self.rate) / self.rate if self.training and self.rate else 1)


@mistake("encoder_block", "drops_the_wrong_share", "entries are kept with probability p, and dropped otherwise",
         hint="p is the probability to be dropped: keep where a uniform number is at least p.")
class EncoderBlock(_Block):
    def drop(self, y, generator):
        if not self.training or not self.rate:
            return y
        return y * (torch.rand(y.shape, generator=generator, dtype=y.dtype) < self.rate) / (1 - self.rate)


@mistake("encoder_block", "drops_whole_vectors", "dropout takes whole positions",
         hint="Every entry is dropped or kept by itself: draw one number for each.")
class EncoderBlock(_Block):
    def drop(self, y, generator):
        if not self.training or not self.rate:
            return y
        kept = torch.rand(*y.shape[:2], 1, generator=generator, dtype=y.dtype) >= self.rate
        return y * kept / (1 - self.rate)


@mistake("encoder_block", "dropout_always_the_same", "dropout makes a generator of its own, with a fixed seed",
         hint="Draw from the generator that is given; otherwise every step drops the same entries.")
class EncoderBlock(_Block):
    def drop(self, y, generator):
        return super().drop(y, torch.Generator().manual_seed(0))


@mistake("encoder_block", "statistics_detached", "mean and variance of the normalization get no gradient",
         hint="Both depend on x, and the gradient goes through them, too.")
class EncoderBlock(_Block):
    def __init__(self, width, heads, hidden, norm="pre", dropout=0.0):
        super().__init__(width, heads, hidden, norm, dropout)
        for part in (self.norm1, self.norm2):
            part.forward = lambda x, part=part: self.normalized(x, part)

    def normalized(self, x, part):
        mean, variance = x.detach().mean(-1, keepdim=True), x.detach().var(-1, unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5) * part.weight + part.bias


@mistake("encoder_block", "ffn_not_dropped", "only the attention's output is dropped",
         hint="Dropout acts on the output of each sublayer, the FFN's too.")
class EncoderBlock(_Block):
    def pre(self, x, keep, generator):
        x = x + self.drop(self.attention(self.norm1(x), keep), generator)
        return x + self.feed_forward(self.norm2(x))


@mistake("encoder_block", "norm_unchecked", "any other `norm` is taken for post",
         hint="The contract asks for a ValueError: a misspelt option should not train another model.")
class EncoderBlock(_Block):
    def check_norm(self, norm):
        pass


@alternative("encoder_block", "in_small_methods")
class EncoderBlock(_Block):
    pass


@alternative("encoder_block", "with_plain_parameters")
class EncoderBlock(nn.Module):
    def __init__(self, width, heads, hidden, norm="pre", dropout=0.0):
        super().__init__()
        if norm != "pre" and norm != "post":
            raise ValueError("unknown norm")
        D = _width_of_head(width, heads)
        self.sizes, self.first, self.p = (3, heads, D), norm == "pre", dropout
        for name, rows, columns in (("qkv", 3 * width, width), ("out", width, width), ("linear1", hidden, width),
                                    ("linear2", width, hidden), ("norm1", width, None), ("norm2", width, None)):
            part = nn.Module()
            part.weight = nn.Parameter(torch.ones(rows) if columns is None else 0.1 * torch.randn(rows, columns))
            part.bias = nn.Parameter(torch.zeros(rows))
            setattr(self, name, part)

    @staticmethod
    def affine(part, x):
        return x @ part.weight.mT + part.bias

    @staticmethod
    def normalized(part, x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5) * part.weight + part.bias

    def sublayer(self, x, norm, function, generator):
        y = function(self.normalized(norm, x) if self.first else x)
        if self.training and self.p > 0:
            y = torch.where(torch.rand(y.shape, generator=generator, dtype=y.dtype) < self.p, 0, y / (1 - self.p))
        return x + y if self.first else self.normalized(norm, x + y)

    def forward(self, x, keep, generator=None):
        def attend(y):
            q, k, v = self.affine(self.qkv, y).unflatten(-1, self.sizes).unbind(2)
            scores = torch.einsum("bthd,bshd->bhts", q, k) / self.sizes[-1] ** 0.5
            scores = torch.where(keep[:, None, None], scores, torch.finfo(y.dtype).min)
            return self.affine(self.out, torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v).flatten(2))

        def think(y):
            return self.affine(self.linear2, self.affine(self.linear1, y).clamp(min=0))
        x = self.sublayer(x, self.norm1, attend, generator)
        return self.sublayer(x, self.norm2, think, generator)


# ---------------------------------------------------------------------------------------------- kv_cache_decode

def _heads(x, weight, d):
    """The projection of x as (B, heads, 1, d)."""
    return F.linear(x, weight).unflatten(-1, (-1, d)).transpose(1, 2)


def _project(x, cache, params):
    d = cache[0].shape[-1]
    return [_heads(x, params[name], d) for name in ("w_q", "w_k", "w_v")]


def _at(y, t, base):
    """y, turned as position t; None turns nothing."""
    if base is None:
        return y
    return _turn(y, _angles(torch.tensor([t]), y.shape[-1], base))


def _append(cache, k, v):
    return torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)


def _shared(y, heads):
    """(B, G, T, d) -> (B, H, T, d): every group, copied for its neighbouring heads."""
    return y.repeat_interleave(heads // y.shape[1], dim=1)


def _output(q, cache, params, copies=_shared, scale=None, keep=None):
    k, v = (copies(part, q.shape[1]) for part in cache)
    return F.linear(_merge(_mix(q, k, v, keep, scale)), params["w_o"])


@mistake("kv_cache_decode", "position_always_0", "the rotation takes every token to be the first",
         hint="The new token's position is the number of tokens in the cache.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    cache = _append(cache, _at(k, 0, base), v)
    return _output(_at(q, 0, base), cache, params), cache


@mistake("kv_cache_decode", "position_one_too_large", "the new token is turned as position t + 1",
         hint="With an empty cache the token is at position 0. Was the length taken after the new key was appended?")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2] + 1
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params), cache


@mistake("kv_cache_decode", "query_not_rotated", "only the key is rotated",
         hint="The score depends on the distance only if both are turned, each by its own position.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    cache = _append(cache, _at(k, cache[0].shape[2], base), v)
    return _output(q, cache, params), cache


@mistake("kv_cache_decode", "values_rotated", "the values are rotated, too",
         hint="Position decides what is read, not what it says: only queries and keys are turned.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), _at(v, t, base))
    return _output(_at(q, t, base), cache, params), cache


@mistake("kv_cache_decode", "cached_keys_rotated_again", "the cached keys are taken to be unrotated",
         hint="Keys are cached as they are used. A key is turned once, when it is new.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    cache = _append(cache, k, v)
    t = cache[0].shape[2]
    turned = cache[0] if base is None else _turn(cache[0], _angles(torch.arange(t), q.shape[-1], base))
    return _output(_at(q, t - 1, base), (turned, cache[1]), params), cache


@mistake("kv_cache_decode", "halves_rotated", "channel i is paired with channel i + d/2",
         hint="Eq. (3) turns neighbours: (0, 1), (2, 3), ...")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t, d = cache[0].shape[2:]
    order = torch.arange(d).view(2, -1).T.flatten()

    def turned(y):
        return _at(y[..., order], t, base)[..., order.argsort()]
    cache = _append(cache, turned(k), v)
    return _output(turned(q), cache, params), cache


@mistake("kv_cache_decode", "base_none_ignored", "base=None is taken for 10000",
         hint="None says that there is nothing to rotate.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t, base = cache[0].shape[2], base or 10000.0
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params), cache


@mistake("kv_cache_decode", "base_ignored", "the base is always 10000",
         hint="10000 is only the default of the argument base.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t, base = cache[0].shape[2], base and 10000.0
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params), cache


@mistake("kv_cache_decode", "does_not_read_itself", "the token reads the old cache only",
         hint="Append first, then attend: a token reads itself, too. What does the first token read?")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    new = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache if t else new, params), new


@mistake("kv_cache_decode", "groups_in_turn", "the groups are repeated as 0, 1, 0, 1, ... instead of 0, 0, 1, 1, ...",
         hint="Head i reads group i·G // H: neighbours share. Look at `repeat_interleave`.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params, lambda y, heads: y.repeat(1, heads // y.shape[1], 1, 1)), cache


@mistake("kv_cache_decode", "first_group_for_all", "all heads read the first group",
         hint="That is multi-query attention, right for G = 1 only.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params, lambda y, heads: y[:, :1]), cache


@mistake("kv_cache_decode", "copies_in_the_cache", "the cache holds a copy of keys and values for every head",
         hint="Copy for the computation only: the point of the groups is a smaller cache.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    y = _output(_at(q, t, base), cache, params)
    return y, tuple(_shared(part, q.shape[1]) for part in cache)


@mistake("kv_cache_decode", "causal_mask", "a causal mask hides all but the first key",
         hint="The one query stands at the end and may read everything; the triangle's first row is for a query at 0.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params, keep=torch.ones(1, t + 1).tril() == 1), cache


@mistake("kv_cache_decode", "oldest_forgotten", "the cache keeps its length: the new token replaces the oldest",
         hint="That is a sliding window. Here the cache grows by one.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = tuple(part[:, :, min(t, 1):] for part in _append(cache, _at(k, t, base), v))
    return _output(_at(q, t, base), cache, params), cache


@mistake("kv_cache_decode", "new_token_first", "the new token stands at the front of the cache",
         hint="The new token comes last.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = tuple(part.roll(1, dims=2) for part in _append(cache, _at(k, t, base), v))
    return _output(_at(q, t, base), cache, params), cache


@mistake("kv_cache_decode", "no_scale", "the scores are not divided by √d",
         hint="Eq. (11) divides by the root of the width of a head.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params, scale=1.0), cache


@mistake("kv_cache_decode", "scale_by_the_width", "the scores are divided by √C",
         hint="The root is that of d, the width of a head; C is the width of x.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params, scale=x_t.shape[-1] ** -0.5), cache


@mistake("kv_cache_decode", "cache_detached", "the new cache is cut out of the graph",
         hint="The next steps' outputs depend on this token through the cache: their gradients, too.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    return _output(_at(q, t, base), cache, params), (cache[0].detach(), cache[1].detach())


_remembered = {}


@mistake("kv_cache_decode", "kept_outside", "the function keeps the cache itself from call to call",
         hint="State is an argument and a result. Two texts would read each other.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    kept = _remembered.get("cache")
    fits = kept is not None and kept[0].shape == cache[0].shape and kept[0].dtype == x_t.dtype
    cache = _append(kept if fits else cache, _at(k, t, base), v)
    _remembered["cache"] = tuple(part.detach()[:, :, :t] for part in cache)
    return _output(_at(q, t, base), cache, params), cache


@mistake("kv_cache_decode", "written_into_the_cache", "the new key and value are written into the caller's cache",
         hint="Texts that begin alike may share a cache: make a new tensor, with `torch.cat`.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    new = _append(cache, _at(k, t, base), v)
    y = _output(_at(q, t, base), new, params)
    with torch.no_grad():
        for part, fresh in zip(cache, new, strict=True):
            if t and part.is_contiguous():
                part[:, :, -1:] = fresh[:, :, -1:]
    return y, new


@mistake("kv_cache_decode", "params_taken_apart", "`pop` takes the weights out of the caller's dict",
         hint="Read `params[...]`; the dict belongs to the caller, who needs it for the next token.")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    y = _output(_at(q, t, base), cache, params)
    params.pop("w_q")
    return y, cache


@alternative("kv_cache_decode", "groups_as_an_axis")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    groups, t, d = cache[0].shape[1:]
    k, v = _append(cache, _at(k, t, base), v)
    q = _at(q, t, base).squeeze(2).unflatten(1, (groups, -1))
    weights = torch.softmax(torch.einsum("bgrd,bgsd->bgrs", q, k) / math.sqrt(d), dim=-1)
    mixed = torch.einsum("bgrs,bgsd->bgrd", weights, v).flatten(1)
    return (mixed @ params["w_o"].T)[:, None], (k, v)


@alternative("kv_cache_decode", "library_call")
def decode_step(x_t, cache, params, base=10000.0):
    q, k, v = _project(x_t, cache, params)
    t = cache[0].shape[2]
    cache = _append(cache, _at(k, t, base), v)
    mixed = F.scaled_dot_product_attention(_at(q, t, base), *cache, enable_gqa=True)
    return F.linear(_merge(mixed), params["w_o"]), cache


# ---------------------------------------------------------------------------------------------- encoder_decoder

class _Attention(nn.Module):
    """Multi-head attention between two sequences, with the parameters of nn.MultiheadAttention."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) / width ** 0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, context, keep):
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (_split(F.linear(y, w, b), self.heads)
                   for y, w, b in zip((x, context, context), weights, biases, strict=True))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~keep, torch.finfo(scores.dtype).min)  # a row that keeps nothing becomes a mean
        return self.out_proj(_merge(torch.softmax(scores, dim=-1) @ v))


class _Layer(nn.Module):
    """The parts of a block; what is done with them is the model's business."""

    def __init__(self, width, heads, hidden, attentions):
        super().__init__()
        for name in attentions:
            setattr(self, name, _Attention(width, heads))
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for number in range(1, len(attentions) + 2):
            setattr(self, f"norm{number}", nn.LayerNorm(width))

    def feed_forward(self, x):
        return self.linear2(F.relu(self.linear1(x)))


class _Model(nn.Module):
    """A right model in small methods, each of which a mistake can replace."""

    def __init__(self, vocab, width, heads, hidden, layers):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.encoder = nn.ModuleList([_Layer(width, heads, hidden, ["self_attn"]) for _ in range(layers)])
        self.decoder = nn.ModuleList([_Layer(width, heads, hidden, ["self_attn", "multihead_attn"])
                                      for _ in range(layers)])

    def waves(self, length):
        width = self.embed.weight.shape[1]
        return _alternate(*_waves(length, width, 10000.0), width).to(self.embed.weight.dtype)

    def scaled(self, vectors):
        return vectors * math.sqrt(vectors.shape[-1])

    def placed(self, tokens):
        return self.scaled(self.embed(tokens)) + self.waves(tokens.shape[1])

    def placed_target(self, tokens):
        return self.placed(tokens)

    def placed_source(self, tokens):
        return self.placed(tokens)

    def in_encoder(self, keep):
        return keep[:, None, None, :]

    def in_decoder(self, length):
        return _past(length)

    def across(self, keep, length):
        return keep[:, None, None, :]

    def encode_one(self, layer, s, keep):
        s = layer.norm1(s + layer.self_attn(s, s, keep))
        return layer.norm2(s + layer.feed_forward(s))

    def decode_one(self, layer, x, memory, future, keep):
        x = layer.norm1(x + layer.self_attn(x, x, future))
        x = layer.norm2(x + self.cross(layer, x, memory, keep))
        return layer.norm3(x + layer.feed_forward(x))

    def cross(self, layer, x, memory, keep):
        return layer.multihead_attn(x, memory, keep)

    def encode(self, src, keep):
        """The results of all blocks, the last one being the memory."""
        states = [self.placed_source(src)]
        for layer in self.encoder:
            states.append(self.encode_one(layer, states[-1], self.in_encoder(keep)))
        return states

    def memory_for(self, states, number):
        return states[-1]

    def logits(self, x):
        return F.linear(x, self.embed.weight)

    def forward(self, src, tgt, src_keep):
        states = self.encode(src, src_keep)
        x = self.placed_target(tgt)
        future, keep = self.in_decoder(tgt.shape[1]), self.across(src_keep, tgt.shape[1])
        for number, layer in enumerate(self.decoder):
            x = self.decode_one(layer, x, self.memory_for(states, number), future, keep)
        return self.logits(x)


@mistake("encoder_decoder", "cross_attention_causal", "target position t reads the source up to position t only",
         hint="The source is complete when the writing begins: cross-attention has the padding mask alone.")
class Seq2Seq(_Model):
    def across(self, keep, length):
        return keep[:, None, None, :] & torch.ones(length, keep.shape[1], dtype=torch.bool).tril()


@mistake("encoder_decoder", "encoder_causal", "the encoder has a causal mask",
         hint="In the encoder every position sees all others; only the decoder writes from left to right.")
class Seq2Seq(_Model):
    def in_encoder(self, keep):
        return keep[:, None, None, :] & _past(keep.shape[1])


@mistake("encoder_decoder", "decoder_sees_the_future", "the decoder's self-attention has no mask",
         hint="In training the whole target stands there; without the mask the answer can be read off.")
class Seq2Seq(_Model):
    def in_decoder(self, length):
        return torch.ones(length, length, dtype=torch.bool)


@mistake("encoder_decoder", "decoder_sees_the_next", "the decoder sees the token that it is to predict",
         hint="The mask begins right above the diagonal: logit t depends on the tokens 0 to t.")
class Seq2Seq(_Model):
    def in_decoder(self, length):
        return torch.ones(length, length, dtype=torch.bool).tril(1)


@mistake("encoder_decoder", "shifted_inside", "the module shifts the target by one itself",
         hint="The caller has shifted already: the token at position t is given to the decoder at position t.")
class Seq2Seq(_Model):
    def placed_target(self, tokens):
        return self.placed(torch.cat([tokens[:, :1], tokens[:, :-1]], dim=1))


@mistake("encoder_decoder", "decoder_mask_inverted", "a target position reads itself and what comes after it",
         hint="`nn.MultiheadAttention` drops where its mask is True: is there one `~` too many or too few?")
class Seq2Seq(_Model):
    def in_decoder(self, length):
        return _past(length).mT


@mistake("encoder_decoder", "padding_inverted", "the padding is read, and the source is not",
         hint="`nn.MultiheadAttention` drops where its mask is True; `src_keep` is True for what counts.")
class Seq2Seq(_Model):
    def in_encoder(self, keep):
        return ~keep[:, None, None, :]

    def across(self, keep, length):
        return ~keep[:, None, None, :]


@mistake("encoder_decoder", "padding_read_across", "the cross-attention reads the padding",
         hint="The padding mask has to be given twice: to the encoder, and to the cross-attention.")
class Seq2Seq(_Model):
    def across(self, keep, length):
        return torch.ones_like(keep)[:, None, None, :]


@mistake("encoder_decoder", "padding_read_in_the_encoder", "the encoder reads the padding",
         hint="The padding mask has to be given twice: to the encoder, and to the cross-attention.")
class Seq2Seq(_Model):
    def in_encoder(self, keep):
        return torch.ones_like(keep)[:, None, None, :]


@mistake("encoder_decoder", "keys_from_the_decoder", "the cross-attention reads the decoder's own sequence",
         hint="Its queries come from the decoder, keys and values from the memory.")
class Seq2Seq(_Model):
    def cross(self, layer, x, memory, keep):
        return layer.multihead_attn(x, x, _past(x.shape[1])) + 0 * memory.sum()


@mistake("encoder_decoder", "memory_is_the_embedding", "the decoder reads the embedded source, past the encoder",
         hint="The memory is what comes out of the last encoder block.")
class Seq2Seq(_Model):
    def memory_for(self, states, number):
        return states[0]


@mistake("encoder_decoder", "layer_by_layer", "decoder block n reads the output of encoder block n",
         hint="All decoder blocks read the output of the last encoder block.")
class Seq2Seq(_Model):
    def memory_for(self, states, number):
        return states[number + 1]


@mistake("encoder_decoder", "embedding_not_scaled", "the embedding is not multiplied by √C",
         hint="Look at the first factor of Eq. (12).")
class Seq2Seq(_Model):
    def scaled(self, vectors):
        return vectors


@mistake("encoder_decoder", "position_scaled_too", "embedding and position are both multiplied by √C",
         hint="In Eq. (12) the factor belongs to the embedding alone.")
class Seq2Seq(_Model):
    def waves(self, length):
        return self.scaled(super().waves(length))


@mistake("encoder_decoder", "target_without_position", "the target has no positions",
         hint="Both sides begin with Eq. (12).")
class Seq2Seq(_Model):
    def placed_target(self, tokens):
        return self.scaled(self.embed(tokens))


@mistake("encoder_decoder", "source_without_position", "the source has no positions",
         hint="Both sides begin with Eq. (12); without positions the source is a set.")
class Seq2Seq(_Model):
    def placed_source(self, tokens):
        return self.scaled(self.embed(tokens))


@mistake("encoder_decoder", "sines_then_cosines", "the position has all its sines first, then all cosines",
         hint="In Eq. (1) sine and cosine alternate.")
class Seq2Seq(_Model):
    def waves(self, length):
        width = self.embed.weight.shape[1]
        return torch.cat(_waves(length, width, 10000.0), dim=1)[:, :width].to(self.embed.weight.dtype)


@mistake("encoder_decoder", "pre_norm", "the blocks normalize what the sublayers read",
         hint="Eqs. (13) and (14) normalize the sums: post-LN.")
class Seq2Seq(_Model):
    def encode_one(self, layer, s, keep):
        y = layer.norm1(s)
        s = s + layer.self_attn(y, y, keep)
        return s + layer.feed_forward(layer.norm2(s))

    def decode_one(self, layer, x, memory, future, keep):
        y = layer.norm1(x)
        x = x + layer.self_attn(y, y, future)
        x = x + layer.multihead_attn(layer.norm2(x), memory, keep)
        return x + layer.feed_forward(layer.norm3(x))


@mistake("encoder_decoder", "cross_attention_first", "the decoder reads the memory before its own sequence",
         hint="The order of the sublayers is self-attention, cross-attention, feed-forward.")
class Seq2Seq(_Model):
    def decode_one(self, layer, x, memory, future, keep):
        x = layer.norm1(x + layer.multihead_attn(x, memory, keep))
        x = layer.norm2(x + layer.self_attn(x, x, future))
        return layer.norm3(x + layer.feed_forward(x))


@mistake("encoder_decoder", "cross_attention_not_added", "the cross-attention's output replaces x",
         hint="Every sublayer adds its output to its input.")
class Seq2Seq(_Model):
    def decode_one(self, layer, x, memory, future, keep):
        x = layer.norm1(x + layer.self_attn(x, x, future))
        x = layer.norm2(layer.multihead_attn(x, memory, keep))
        return layer.norm3(x + layer.feed_forward(x))


@mistake("encoder_decoder", "memory_detached", "no gradient flows from the decoder into the encoder",
         hint="The encoder is trained through the memory and in no other way: no detach().")
class Seq2Seq(_Model):
    def memory_for(self, states, number):
        return states[-1].detach()


@mistake("encoder_decoder", "probabilities", "the module returns probabilities",
         hint="The contract asks for logits; the softmax belongs to the loss.")
class Seq2Seq(_Model):
    def logits(self, x):
        return torch.softmax(super().logits(x), dim=-1)


@mistake("encoder_decoder", "output_of_its_own", "the output has a matrix of its own",
         hint="The logits use the embedding once more; the contract lists no further key.")
class Seq2Seq(_Model):
    def __init__(self, vocab, width, heads, hidden, layers):
        super().__init__(vocab, width, heads, hidden, layers)
        self.project = nn.Linear(width, vocab, bias=False)

    def logits(self, x):
        return self.project(x)


@alternative("encoder_decoder", "in_small_methods")
class Seq2Seq(_Model):
    pass


@alternative("encoder_decoder", "library_layers")
class Seq2Seq(nn.Module):
    def __init__(self, vocab, width, heads, hidden, layers):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        sizes = {"d_model": width, "nhead": heads, "dim_feedforward": hidden, "dropout": 0, "batch_first": True}
        self.encoder = nn.ModuleList([nn.TransformerEncoderLayer(**sizes) for _ in range(layers)])
        self.decoder = nn.ModuleList([nn.TransformerDecoderLayer(**sizes) for _ in range(layers)])

    def placed(self, tokens):
        width = self.embed.weight.shape[1]
        waves = _alternate(*_waves(tokens.shape[1], width, 10000.0), width)
        return self.embed(tokens) * width ** 0.5 + waves.to(self.embed.weight.dtype)

    def forward(self, src, tgt, src_keep):
        memory, x = self.placed(src), self.placed(tgt)
        for layer in self.encoder:
            memory = layer(memory, src_key_padding_mask=~src_keep)
        for layer in self.decoder:
            x = layer(x, memory, tgt_mask=~_past(tgt.shape[1]), memory_key_padding_mask=~src_keep)
        return x @ self.embed.weight.mT


# ----------------------------------------------------------------------------------------- relative_bias_variants

def _alibi(slopes, T, dtype):
    t = torch.arange(T)
    return slopes.to(dtype)[:, None, None] * -(t[:, None] - t).abs().to(dtype)


def _powers(H, first=1):
    return 2.0 ** (-8 * torch.arange(first, H + first, dtype=torch.float64) / H)


@mistake("relative_bias_variants", "alibi_positive", "ALiBi: distance is rewarded",
         hint="The bias is negative: what is far away costs.")
def alibi_bias(n_heads, T, dtype=torch.float32):
    return -_alibi(_powers(n_heads), T, dtype)


@mistake("relative_bias_variants", "alibi_signed", "ALiBi: the bias is -m·(t - s), which rewards the future",
         hint="Eq. (15) has the magnitude of t - s: the bias falls to both sides.")
def alibi_bias(n_heads, T, dtype=torch.float32):
    t = torch.arange(T, dtype=dtype)
    return _powers(n_heads).to(dtype)[:, None, None] * (t - t[:, None])


@mistake("relative_bias_variants", "alibi_heads_reversed", "ALiBi: the first head has the smallest slope",
         hint="h counts from 1 for the head with index 0: its slope is the largest, 2^(-8/H).")
def alibi_bias(n_heads, T, dtype=torch.float32):
    return _alibi(_powers(n_heads).flip(0), T, dtype)


@mistake("relative_bias_variants", "alibi_heads_from_0", "ALiBi: the first head has slope 1",
         hint="h begins with 1 in Eq. (15).")
def alibi_bias(n_heads, T, dtype=torch.float32):
    return _alibi(_powers(n_heads, first=0), T, dtype)


@mistake("relative_bias_variants", "alibi_fixed_ratio", "ALiBi: the slopes are 1/2, 1/4, 1/8, ... for any H",
         hint="That is right for 8 heads. The ratio of two slopes is 2^(-8/H).")
def alibi_bias(n_heads, T, dtype=torch.float32):
    return _alibi(2.0 ** -torch.arange(1, n_heads + 1, dtype=torch.float64), T, dtype)


@mistake("relative_bias_variants", "alibi_interpolated", "ALiBi: the slopes are interpolated if H is no power of two",
         hint="So does the authors' code. The contract takes the formula for every H.")
def alibi_bias(n_heads, T, dtype=torch.float32):
    below = 2 ** int(math.log2(n_heads))
    extra = _powers(2 * below)[0::2][:n_heads - below]
    return _alibi(torch.cat([_powers(below), extra]), T, dtype)


@mistake("relative_bias_variants", "alibi_masked", "ALiBi: the future gets -∞",
         hint="The causal mask is another thing, and the caller's.")
def alibi_bias(n_heads, T, dtype=torch.float32):
    return _alibi(_powers(n_heads), T, dtype).masked_fill(~_past(T), -math.inf)


@mistake("relative_bias_variants", "alibi_dtype_ignored", "ALiBi: the bias is float32 whatever was asked for",
         hint="`dtype` says what the result is.")
def alibi_bias(n_heads, T, dtype=torch.float32):
    return _alibi(_powers(n_heads), T, torch.float32)


def _coarse(n, N, D, rounded=torch.floor, m=None, cap=None):
    """Buckets of distances, N for a side."""
    m = N // 2 if m is None else m
    grown = torch.log(n.clamp(min=1).double() / m) / math.log(D / m) * (N - m)
    return torch.where(n < m, n, (m + rounded(grown).long()).clamp(max=N - 1 if cap is None else cap))


def _bucket(rel, bidirectional, num_buckets, max_distance, side=_coarse):
    N = num_buckets // 2 if bidirectional else num_buckets
    n = rel.abs() if bidirectional else (-rel).clamp(min=0)
    return side(n, N, max_distance) + (rel > 0) * (N if bidirectional else 0)


@mistake("relative_bias_variants", "bucket_sides_exchanged", "T5: keys on the left have the second half of the buckets",
         hint="rel is key minus query: it is positive for keys on the right, and these come last.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    return _bucket(-rel if bidirectional else rel, bidirectional, num_buckets, max_distance)


@mistake("relative_bias_variants", "bucket_future_for_past", "T5: with one side, the past is taken for the future",
         hint="rel is key minus query: in a causal model it is negative for what is read.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    return _bucket(rel if bidirectional else -rel, bidirectional, num_buckets, max_distance)


@mistake("relative_bias_variants", "bucket_magnitude_for_one_side", "T5: with one side, keys on the right count, too",
         hint="Without the other side n = max(-r, 0): everything on the right is in bucket 0.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    return _bucket(rel if bidirectional else -rel.abs(), bidirectional, num_buckets, max_distance)


@mistake("relative_bias_variants", "bucket_not_halved", "T5: each of two sides has all the buckets",
         hint="Two sides share them: N is num_buckets/2 in Eq. (16).")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    return _bucket(rel, bidirectional, num_buckets * (1 + bidirectional), max_distance)


@mistake("relative_bias_variants", "bucket_rounded", "T5: the logarithm is rounded to the nearest integer",
         hint="Eq. (16) rounds down.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    return _bucket(rel, bidirectional, num_buckets, max_distance, lambda n, N, D: _coarse(n, N, D, torch.round))


@mistake("relative_bias_variants", "bucket_rounded_up", "T5: the logarithm is rounded up",
         hint="Eq. (16) rounds down; on a border the two agree.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    return _bucket(rel, bidirectional, num_buckets, max_distance, lambda n, N, D: _coarse(n, N, D, torch.ceil))


@mistake("relative_bias_variants", "bucket_border_below", "T5: a distance on a border gets the lower bucket",
         hint="⌊2⌋ is 2: a border belongs to the bucket that begins there. Nothing is to be taken off before rounding.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    def below(grown):
        return torch.where(grown > 0.5, torch.ceil(grown - 1e-9) - 1, 0)
    return _bucket(rel, bidirectional, num_buckets, max_distance, lambda n, N, D: _coarse(n, N, D, below))


@mistake("relative_bias_variants", "bucket_wrong_base", "T5: the logarithm of D/m is replaced by that of D",
         hint="The coarse buckets go from m to D: the scale is ln(D/m).")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    def side(n, N, D):
        return _coarse(n, N, D * (N // 2))
    return _bucket(rel, bidirectional, num_buckets, max_distance, side)


@mistake("relative_bias_variants", "bucket_range_too_wide", "T5: the logarithm is multiplied by N instead of N - m",
         hint="N - m buckets are left when the exact ones are taken.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    def side(n, N, D):
        return _coarse(n, N, D, lambda grown: torch.floor(grown * N / (N - N // 2)))
    return _bucket(rel, bidirectional, num_buckets, max_distance, side)


@mistake("relative_bias_variants", "bucket_not_capped", "T5: beyond max_distance the buckets go on",
         hint="The last bucket is N - 1; everything farther away belongs to it.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    return _bucket(rel, bidirectional, num_buckets, max_distance, lambda n, N, D: _coarse(n, N, D, cap=10 ** 6))


@mistake("relative_bias_variants", "distance_clipped", "T5: distances are clipped, without any coarse buckets",
         hint="That is the bias of Shaw et al. (2018). Beyond m the buckets of T5 grow.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    return _bucket(rel, bidirectional, num_buckets, max_distance, lambda n, N, D: n.clamp(max=N - 1))


@mistake("relative_bias_variants", "bucket_in_place", "T5: the sign is taken off in the caller's tensor",
         hint="`abs_`, `neg_` and `clamp_` write to the input.")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    result = _bucket(rel, bidirectional, num_buckets, max_distance)
    rel.abs_()
    return result


def _squares(img, p):
    """(B, C, H/p, p, W/p, p)."""
    B, C, H, W = img.shape
    if H % p or W % p:
        raise ValueError(f"an image of {H} x {W} and patches of {p}")
    return img.reshape(B, C, H // p, p, W // p, p)


def _sequence(squares, *order):
    """Axes in this order, the first two after the batch becoming the sequence."""
    return squares.permute(0, *order).flatten(3).flatten(1, 2)


@mistake("relative_bias_variants", "patch_channels_last", "patches: the channel varies fastest within a patch",
         hint="So it is in Eq. 1 of the paper, (p, p, C); ours is (C, p, p), as in F.unfold.")
def vit_patchify(img, p):
    return _sequence(_squares(img, p), 2, 4, 3, 5, 1)


@mistake("relative_bias_variants", "patch_transposed", "patches: within a patch, rows and columns are exchanged",
         hint="The column varies fastest: row i before column j.")
def vit_patchify(img, p):
    return _sequence(_squares(img, p), 2, 4, 1, 5, 3)


@mistake("relative_bias_variants", "patches_column_by_column", "patches: the sequence runs down the columns",
         hint="From left to right, then the next row: number r·W/p + c.")
def vit_patchify(img, p):
    return _sequence(_squares(img, p), 4, 2, 1, 3, 5)


@mistake("relative_bias_variants", "patches_reshaped", "patches: one reshape does it all",
         hint="A patch is not contiguous in the image: split both axes, permute, and join then.")
def vit_patchify(img, p):
    squares = _squares(img, p)
    return squares.reshape(img.shape[0], squares.shape[2] * squares.shape[4], -1)


@mistake("relative_bias_variants", "height_and_width_exchanged", "patches: height and width are exchanged in the split",
         hint="The height is axis 2, the width axis 3. A square image does not tell.")
def vit_patchify(img, p):
    B, C, H, W = img.shape
    _squares(img, p)
    return _sequence(img.reshape(B, C, W // p, p, H // p, p), 2, 4, 1, 3, 5)


@mistake("relative_bias_variants", "rest_cut_off", "patches: what does not fill a patch is cut off",
         hint="F.unfold does so without a word; the contract asks for a ValueError.")
def vit_patchify(img, p):
    H, W = (size // p * p for size in img.shape[2:])
    return _sequence(_squares(img[:, :, :H, :W], p), 2, 4, 1, 3, 5)


@mistake("relative_bias_variants", "only_width_checked", "patches: only the width has to be a multiple of p",
         hint="p has to divide both.")
def vit_patchify(img, p):
    if img.shape[3] % p:
        raise ValueError("width")
    return _sequence(_squares(img[:, :, :img.shape[2] // p * p], p), 2, 4, 1, 3, 5)


@mistake("relative_bias_variants", "patches_detached", "patches: the result is cut out of the graph",
         hint="Copying pixels is a linear map, and gradients flow back through it.")
def vit_patchify(img, p):
    return _sequence(_squares(img.detach(), p), 2, 4, 1, 3, 5) + 0 * img.sum()


@mistake("relative_bias_variants", "unpatch_channels_last", "back: the channel is taken to vary fastest within a patch",
         hint="A patch is (C, p, p), the channel slowest.")
def vit_unpatchify(patches, p, H, W):
    squares = patches.reshape(len(patches), H // p, W // p, p, p, -1)
    return squares.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, H, W)


@mistake("relative_bias_variants", "unpatch_sides_exchanged", "back: a row is taken to have H/p patches",
         hint="A row of patches has W/p of them. A square image does not tell.")
def vit_unpatchify(patches, p, H, W):
    squares = patches.reshape(len(patches), W // p, H // p, -1, p, p)
    return squares.permute(0, 3, 2, 4, 1, 5).reshape(len(patches), -1, H, W)


@mistake("relative_bias_variants", "unpatch_without_permuting", "back: the axes of the patches are joined as they are",
         hint="Rows of patches and rows within a patch have to become neighbours before they are joined.")
def vit_unpatchify(patches, p, H, W):
    return patches.reshape(len(patches), -1, H, W)


@alternative("relative_bias_variants", "by_the_library")
def alibi_bias(n_heads, T, dtype=torch.float32):
    distance = torch.cdist(torch.arange(T, dtype=torch.float64)[:, None], torch.arange(T, dtype=torch.float64)[:, None])
    return -torch.einsum("h,ts->hts", _powers(n_heads), distance).to(dtype)


@alternative("relative_bias_variants", "by_the_library")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    N = num_buckets // 2 if bidirectional else num_buckets
    m = N // 2
    n = rel.abs() if bidirectional else torch.where(rel < 0, -rel, 0)
    grown = (torch.log(n.float() / m) / math.log(max_distance / m) * (N - m)).clamp(min=-m, max=N)
    coarse = torch.minimum(m + grown.to(torch.long), torch.tensor(N - 1))
    return torch.where(n < m, n, coarse) + bidirectional * N * (rel > 0).long()


@alternative("relative_bias_variants", "by_the_library")
def vit_patchify(img, p):
    _squares(img, p)
    return F.unfold(img, p, stride=p).transpose(1, 2)


@alternative("relative_bias_variants", "by_the_library")
def vit_unpatchify(patches, p, H, W):
    return F.fold(patches.transpose(1, 2), (H, W), p, stride=p)


@alternative("relative_bias_variants", "entry_by_entry")
def alibi_bias(n_heads, T, dtype=torch.float32):
    return torch.tensor([[[-2.0 ** (-8 * (h + 1) / n_heads) * abs(t - s) for s in range(T)] for t in range(T)]
                         for h in range(n_heads)], dtype=dtype)


@alternative("relative_bias_variants", "entry_by_entry")
def t5_bucket(rel, bidirectional, num_buckets, max_distance):
    N = num_buckets // 2 if bidirectional else num_buckets
    m = N // 2

    def one(r):
        n = abs(r) if bidirectional else max(-r, 0)
        n = n if n < m else min(N - 1, m + math.floor(math.log(n / m) / math.log(max_distance / m) * (N - m)))
        return n + N if bidirectional and r > 0 else n
    return torch.tensor([[one(r) for r in row] for row in rel.tolist()])


@alternative("relative_bias_variants", "entry_by_entry")
def vit_patchify(img, p):
    if img.shape[2] % p + img.shape[3] % p:
        raise ValueError(p)
    return torch.stack([patch.flatten(1) for row in img.split(p, dim=2) for patch in row.split(p, dim=3)], dim=1)


@alternative("relative_bias_variants", "entry_by_entry")
def vit_unpatchify(patches, p, H, W):
    squares = [patch.reshape(len(patches), -1, p, p) for patch in patches.unbind(1)]
    across = W // p
    rows = [torch.cat(squares[start:start + across], dim=3) for start in range(0, len(squares), across)]
    return torch.cat(rows, dim=2)
