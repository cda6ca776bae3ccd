"""Checks of the transformers unit. Public ones need no reference: they state what the equations imply."""
import math

import torch
import torch.nn.functional as F
from etude.adapters import function_of
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure
from etude.properties import (
    assert_batch_independent,
    assert_equivalent,
    assert_finite_at,
    assert_gradient_consistent,
    assert_invariant,
    assert_pure,
    assert_refuses,
    assert_shape,
    assert_state_dict,
)
from etude.strategies import Cases, computed, for_all, integers, normal, value_of
from torch import nn

# ---------------------------------------------------------------------------------------------- sinusoidal_pe

PE = Cases(T=value_of("T"), d=value_of("d"), base=value_of("base"), dtype=value_of("made"),
           sizes={"T": (1, 9, 1200), "d": (1, 8, 66)},
           flags={"base": (10000.0, 50.0), "made": (torch.float64, torch.float32, torch.float16, torch.bfloat16)})
EXACT = Cases(T=value_of("T"), d=value_of("d"), base=value_of("base"), sizes={"T": (1, 9, 70), "d": (1, 8, 66)},
              flags={"base": (10000.0, 50.0)})


def table(student, case):
    """The student's encoding in float64."""
    return student.sinusoidal_pe(case.T, case.d, case.base, torch.float64)


@exercise("sinusoidal_pe")
@points(1)
@public
@for_all(case=PE)
def test_pe_shape_and_dtype(student, case):
    """The result has shape (T, d), also for odd d, and the dtype that was asked for; float32 without a word."""
    assert_shape(student.sinusoidal_pe, case, case.T, case.d, dtype=case.made)
    short = student.sinusoidal_pe(case.T, case.d)
    assert_same(short, student.sinusoidal_pe(case.T, case.d, 10000.0, torch.float32), "result with the defaults")


@exercise("sinusoidal_pe")
@points(2)
@public
@for_all(case=EXACT)
def test_pe_hands_of_clocks(student, case):
    """Position 0 is 0, 1, 0, 1, ... and the two channels of a pair are a point on the unit circle."""
    pe = table(student, case)
    assert_same(pe[0], (torch.arange(case.d) % 2).double(), "encoding of position 0")
    pairs = pe[:, :case.d // 2 * 2].unflatten(1, (-1, 2))
    assert_same(pairs.norm(dim=-1), torch.ones(case.T, case.d // 2, dtype=torch.float64), "length of the pairs")


@exercise("sinusoidal_pe")
@points(2)
@public
@for_all(case=EXACT)
def test_pe_frequencies(student, case):
    """From position 0 to 1, pair i turns by the angle base^(-2i/d)."""
    wide = student.sinusoidal_pe(2, case.d, case.base, torch.float64)[1]
    expected = torch.tensor([case.base ** (-2 * i / case.d) for i in range(case.d // 2)], dtype=torch.float64)
    assert_same(torch.atan2(wide[0::2][:case.d // 2], wide[1::2]), expected, "angle between positions 0 and 1")
    if case.d % 2:
        last = math.sin(case.base ** (1 / case.d - 1))
        assert_same(wide[-1:], torch.tensor([last], dtype=torch.float64), "last channel, a sine, at position 1")


@exercise("sinusoidal_pe")
@points(1)
@public
@for_all(case=EXACT)
def test_pe_steps_are_rotations(student, case):
    """Eq. (2): the encoding of position p + k is that of p, turned by the angles of k."""
    pe = table(student, case)[:, :case.d // 2 * 2].unflatten(1, (-1, 2))
    hands = torch.complex(pe[..., 1], pe[..., 0])
    k = case.seed % case.T
    turned = hands[:case.T - k] * hands[k]
    assert_same(torch.view_as_real(hands[k:]), torch.view_as_real(turned), f"encodings from position {k} on")


@exercise("sinusoidal_pe")
@points(1)
@public
@for_all(case=Cases(d=value_of("d"), made=value_of("made"), sizes={"d": (1, 6)},
                    flags={"made": (torch.float32, torch.float16, torch.bfloat16)}))
def test_pe_far_positions(student, case):
    """At position 5000 the result is as accurate as the dtype allows: rounding comes last."""
    precise = student.sinusoidal_pe(5001, case.d, 10000.0, torch.float64)
    rounded = student.sinusoidal_pe(5001, case.d, 10000.0, case.made)
    bound = torch.finfo(case.made).eps
    error = float((rounded.double() - precise).abs().max())
    if not error <= bound:
        raise CheckFailure(f"in {case.made} an entry is off by {error:.2g}; its rounding explains {bound:.2g}.",
                           hint="In which dtype are the positions, and the angles, before the sine is taken?")


@exercise("sinusoidal_pe")
@points(3)
@for_all(case=PE)
def test_pe_values(student, reference, case):
    """Values are right for any sizes, base and dtype, and a second call gives the same."""
    assert_equivalent(student.sinusoidal_pe, reference.sinusoidal_pe, case, grad=False)
    assert_pure(student.sinusoidal_pe, case)


# ---------------------------------------------------------------------------------------------- rope

def any_positions(generator, s):
    """Positions in no order, the first one not 0, some negative."""
    return torch.randint(-20, 60, (s["T"],), generator=generator)


ROPE = Cases(x=normal("B T 2*h"), pos=computed(any_positions), base=value_of("base"),
             sizes={"T": (1, 6, 70), "h": (1, 4, 33)}, flags={"base": (10000.0, 30.0)})


def by_complex_numbers(x, pos, base):
    """Eq. (3) as a product of complex numbers."""
    half = x.shape[-1] // 2
    angle = pos[:, None] * torch.tensor([base ** (-i / half) for i in range(half)], dtype=torch.float64)
    pairs = torch.view_as_complex(x.contiguous().unflatten(-1, (half, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


@exercise("rope")
@points(1)
@public
@for_all(case=ROPE)
def test_rope_keeps_lengths(student, case):
    """Every pair (2i, 2i+1) keeps its length, and position 0 turns nothing."""
    x, pos, base = case.arguments().values()
    length = x.unflatten(-1, (-1, 2)).norm(dim=-1)
    turned = assert_shape(student.rope, case, case.B, case.T, 2 * case.h)
    assert_same(turned.detach().unflatten(-1, (-1, 2)).norm(dim=-1), length, "length of the pairs")
    assert_same(student.rope(x, torch.zeros_like(pos), base), x.contiguous(), "output at position 0")


@exercise("rope")
@points(2)
@public
@for_all(case=ROPE)
def test_rope_unit_vectors(student, case):
    """At position m the unit vector of channel 2i becomes cos(m·base^(-2i/d)) there, and the sine in channel 2i+1."""
    x, pos, base = case.arguments().values()
    d, i = 2 * case.h, case.seed % case.h
    unit = F.one_hot(torch.tensor(2 * i), d).double().expand(1, case.T, d)
    angle = torch.tensor([m * base ** (-2 * i / d) for m in pos.tolist()], dtype=torch.float64)
    expected = torch.zeros(1, case.T, d, dtype=torch.float64)
    expected[0, :, 2 * i:2 * i + 2] = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
    assert_same(student.rope(unit, pos, base), expected, f"unit vector {2 * i}")


@exercise("rope")
@points(1)
@public
@for_all(case=ROPE, corners=False)
def test_rope_relative(student, case):
    """Eq. (4): scores of queries and keys do not change when all positions are shifted by the same number."""
    x, pos, base = case.arguments().values()
    k = torch.randn(x.shape, generator=case.generator(3), dtype=x.dtype)
    scores = [student.rope(x, p, base) @ student.rope(k, p, base).transpose(1, 2) for p in (pos, pos + 17)]
    assert_same(scores[1], scores[0].detach(), "scores after a shift by 17")


@exercise("rope")
@points(1)
@public
@for_all(case=ROPE, corners=False)
def test_rope_gradient_consistent(student, case):
    """The gradient agrees with finite differences of your own function."""
    assert_gradient_consistent(student.rope, case)


@exercise("rope")
@points(1)
@public
@for_all(case=Cases(x=normal("B T 2*h"), pos=integers("T", 0, 60), sizes={"T": (1, 6)}), corners=False)
def test_rope_defaults_and_errors(student, case):
    """Without a word the base is 10000; an odd number of channels raises ValueError."""
    x, pos = case.arguments().values()
    assert_same(student.rope(x, pos), student.rope(x, pos, 10000.0).detach(), "output with the default base")
    assert_refuses(student.rope, x[..., 1:], pos)


@exercise("rope")
@points(3)
@for_all(case=ROPE)
def test_rope_values_and_gradients(student, reference, case):
    """Values and gradients are right for any sizes, positions and memory layouts."""
    assert_equivalent(student.rope, reference.rope, case)


@exercise("rope")
@points(2)
@for_all(case=ROPE, corners=False)
def test_rope_as_complex_numbers(student, case):
    """It is a product of complex numbers; inputs are left alone, examples and positions are independent."""
    assert_equivalent(student.rope, by_complex_numbers, case)
    assert_pure(student.rope, case)
    assert_batch_independent(student.rope, case, "x")


@exercise("rope")
@points(1)
@for_all(case=ROPE.but(pos=computed(lambda g, s: torch.randint(10_000_000, (s["T"],), generator=g))), corners=False)
def test_rope_float32_far_away(student, reference, case):
    """In float32 it keeps the dtype and is accurate, in the millionth position too."""
    assert_equivalent(student.rope, reference.rope, case.but(dtype=torch.float32))
    assert_finite_at(student.rope, case)


# -------------------------------------------------------------------------------------- multi_head_self_attention

MHA = Cases(x=normal("B T H*D"), w_qkv=normal("3*H*D H*D", scale=0.7), w_o=normal("H*D H*D"), n_heads=value_of("H"),
            causal=value_of("causal"), flags={"causal": (True, False)},
            sizes={"T": (1, 6, 66), "H": (1, 4), "D": (1, 3)})


def torch_mha(x, w_qkv, w_o, n_heads, causal):
    """PyTorch's own multi-head attention."""
    length, width = x.shape[1:]
    later = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
    time_first = x.transpose(0, 1)
    result, _ = F.multi_head_attention_forward(
        time_first, time_first, time_first, width, n_heads, w_qkv, None, None, None, False, 0.0, w_o, None,
        need_weights=False, attn_mask=later)
    return result.transpose(0, 1)


def causally(case):
    """The case's arguments with the causal mask."""
    return case.arguments() | {"causal": True}


@exercise("multi_head_self_attention")
@points(1)
@public
@for_all(case=MHA)
def test_mha_first_position(student, case):
    """With the causal mask position 0 can read only itself: its output is its value under w_o."""
    arguments = causally(case)
    x, w_qkv, w_o, *_ = arguments.values()
    own = F.linear(F.linear(x[:, 0], w_qkv[-case.H * case.D:]), w_o)
    assert_same(student.mha(*arguments.values())[:, 0], own, "output at position 0")


@exercise("multi_head_self_attention")
@points(1)
@public
@for_all(case=MHA)
def test_mha_prefix(student, case):
    """With the causal mask the beginning of a sequence gets what it gets alone: no one reads the future."""
    arguments = causally(case)
    n = 1 + case.seed % case.T
    whole = student.mha(*arguments.values())
    arguments["x"] = arguments["x"][:, :n]
    assert_same(student.mha(*arguments.values()), whole[:, :n].detach(), f"the first {n} positions alone")


@exercise("multi_head_self_attention")
@points(1)
@public
@for_all(case=MHA, corners=False)
def test_mha_a_set(student, case):
    """Without the mask the input is a set: permuting the positions permutes the outputs."""
    arguments = case.arguments() | {"causal": False}
    order = torch.randperm(case.T, generator=case.generator(3))
    expected = student.mha(*arguments.values())[:, order].detach()
    arguments["x"] = arguments["x"][:, order]
    assert_same(student.mha(*arguments.values()), expected, "output for permuted positions")


@exercise("multi_head_self_attention")
@points(2)
@public
@for_all(case=Cases(x=normal("B 2 H*D"), w_qk=normal("2*H*D H*D", scale=0.7), sizes={"H": (1, 4), "D": (1, 3)}))
def test_mha_two_positions(student, case):
    """With two positions and values x, each head's first weight is the sigmoid of q·(k₀ - k₁) / √D."""
    x, w_qk = case.arguments().values()
    identity = torch.eye(case.H * case.D, dtype=x.dtype)
    queries, keys = (part.unflatten(-1, (case.H, case.D)) for part in F.linear(x, w_qk).tensor_split(2, dim=-1))
    first = torch.sigmoid((queries * (keys[:, :1] - keys[:, 1:])).sum(-1, keepdim=True) / case.D ** 0.5)
    values = x.unflatten(-1, (case.H, case.D))
    mixed = first * values[:, :1] + (1 - first) * values[:, 1:]
    output = student.mha(x, torch.cat([w_qk, identity]), identity, case.H, False)
    assert_same(output, mixed.reshape(case.B, 2, -1))


@exercise("multi_head_self_attention")
@points(1)
@public
@for_all(case=MHA, corners=False)
def test_mha_gradient_and_errors(student, case):
    """The gradient agrees with finite differences; heads that do not divide C raise ValueError."""
    assert_gradient_consistent(student.mha, case)
    x, w_qkv, w_o, heads, causal = case.arguments().values()
    assert_refuses(student.mha, x, w_qkv, w_o, x.shape[-1] + 1, causal)


@exercise("multi_head_self_attention")
@points(4)
@for_all(case=MHA)
def test_mha_values_and_gradients(student, reference, case):
    """Values and gradients, those of the weights too, are right for any sizes, with and without the mask."""
    assert_equivalent(student.mha, reference.mha, case)


@exercise("multi_head_self_attention")
@points(1)
@for_all(case=MHA, corners=False)
def test_mha_as_in_torch(student, case):
    """Values and gradients are those of PyTorch's own multi-head attention; inputs are left alone."""
    assert_equivalent(student.mha, torch_mha, case)
    assert_pure(student.mha, case)


@exercise("multi_head_self_attention")
@points(1)
@for_all(case=MHA, corners=False)
def test_mha_float32(student, reference, case):
    """In float32 it keeps the dtype, is accurate, and large scores stay finite; examples are independent."""
    assert_batch_independent(student.mha, case, "x")
    assert_equivalent(student.mha, reference.mha, case.but(dtype=torch.float32))
    assert_finite_at(student.mha, case, scale=30.0)


# ---------------------------------------------------------------------------------------------- encoder_block

def one_kept(dims):
    """A mask of these sizes' names in which every row keeps at least one position."""
    def make(generator, s):
        shape = [s[name] for name in dims.split()]
        keep = torch.rand(shape, generator=generator) < 0.6
        sure = torch.randint(shape[-1], (*shape[:-1], 1), generator=generator)
        return keep.scatter(-1, sure, True)
    return computed(make)


def norm_state(name, width):
    """Weight and bias of a layer normalization."""
    return {f"{name}.weight": normal(width, scale=0.5, shift=1.0), f"{name}.bias": normal(width, scale=0.5)}


def linear_state(name, rows, columns):
    """Weight and bias of a linear layer."""
    return {f"{name}.weight": normal(f"{rows} {columns}", scale=0.7), f"{name}.bias": normal(rows, scale=0.7)}


BLOCK = Cases(state={**linear_state("qkv", "3*H*D", "H*D"), **linear_state("out", "H*D", "H*D"),
                     **linear_state("linear1", "F", "H*D"), **linear_state("linear2", "H*D", "F"),
                     **norm_state("norm1", "H*D"), **norm_state("norm2", "H*D")},
              x=normal("B T H*D", scale=2.0, shift=0.5), keep=one_kept("B T"), flags={"norm": ("pre", "post")},
              sizes={"T": (1, 6, 40), "H": (1, 3), "D": (1, 3), "F": (1, 7), "B": (1, 4)})


def block_of(notebook, case, norm=None):
    """A notebook's block as a function of its state, the input and the mask."""
    return function_of(notebook.EncoderBlock, case.H * case.D, case.H, case.F, norm or case.norm)


def zeroed(arguments, *names):
    """The arguments with these parts of the state set to 0."""
    for name in names:
        arguments["state"][name] = torch.zeros_like(arguments["state"][name])
    return arguments


def torch_block(norm):
    """PyTorch's own encoder layer as a function of our state."""
    def function(state, x, keep):
        heads, hidden = function.heads, state["linear1.bias"].shape[0]
        layer = nn.TransformerEncoderLayer(x.shape[-1], heads, hidden, 0.0, batch_first=True,
                                           norm_first=norm == "pre").double()
        names = {"qkv.weight": "self_attn.in_proj_weight", "qkv.bias": "self_attn.in_proj_bias",
                 "out.weight": "self_attn.out_proj.weight", "out.bias": "self_attn.out_proj.bias"}
        theirs = {names.get(name, name): part for name, part in state.items()}
        return torch.func.functional_call(layer, theirs, (x,), {"src_key_padding_mask": ~keep})
    return function


@exercise("encoder_block")
@points(1)
@public
@for_all(case=BLOCK, corners=False)
def test_block_contract(student, case):
    """The state_dict has the contract's keys, all trainable; impossible arguments raise ValueError."""
    width = case.H * case.D
    block = student.EncoderBlock(width, case.H, case.F, case.norm)
    assert_state_dict(block, {name: part.shape for name, part in case.arguments()["state"].items()})
    frozen = sorted(block.state_dict().keys() - {name for name, part in block.named_parameters() if part.requires_grad})
    if frozen:
        raise CheckFailure(f"no optimizer would train {', '.join(frozen)}.",
                           hint="Weights are registered as nn.Parameter, alone or inside of nn.Linear.")
    assert_refuses(student.EncoderBlock, width, width + 1, case.F)
    assert_refuses(student.EncoderBlock, width, case.H, case.F, "Post")


@exercise("encoder_block")
@points(1)
@public
@for_all(case=BLOCK, corners=False)
def test_block_pre_is_a_straight_line(student, case):
    """In pre-LN a block whose sublayers give 0 is the identity."""
    silent = zeroed(case.arguments(), "out.weight", "out.bias", "linear2.weight", "linear2.bias")
    assert_same(block_of(student, case, "pre")(*silent.values()), silent["x"].contiguous())


@exercise("encoder_block")
@points(1)
@public
@for_all(case=BLOCK, corners=False)
def test_block_post_is_normalized(student, case):
    """In post-LN every output vector is a normalized one: with norm2 undone, it has mean 0 and variance at most 1."""
    arguments = zeroed(case.arguments(), "norm2.bias")
    arguments["state"]["norm2.weight"] = torch.ones_like(arguments["state"]["norm2.weight"])
    output = block_of(student, case, "post")(*arguments.values()).detach()
    assert_same(output.mean(-1), torch.zeros(case.B, case.T, dtype=output.dtype), "mean over the channels")
    if case.H * case.D > 1 and not (0.9 < output.var(-1, unbiased=False)).any():
        raise CheckFailure("the variance over the channels is nowhere near 1.")


@exercise("encoder_block")
@points(1)
@public
@for_all(case=BLOCK, corners=False)
def test_block_feed_forward(student, case):
    """Where attention gives 0, pre-LN adds FFN(LN(x)) to x: Eqs. (7) and (9)."""
    arguments = zeroed(case.arguments(), "out.weight", "out.bias")
    x, w = arguments["x"], arguments["state"]
    normal_x = F.layer_norm(x, x.shape[-1:], w["norm2.weight"].contiguous(), w["norm2.bias"].contiguous())
    inner = F.linear(normal_x, w["linear1.weight"], w["linear1.bias"])
    added = F.linear(inner * (inner > 0), w["linear2.weight"], w["linear2.bias"])
    assert_same(block_of(student, case, "pre")(*arguments.values()), x + added)


@exercise("encoder_block")
@points(2)
@public
@for_all(case=BLOCK, corners=False)
def test_block_padding_and_order(student, case):
    """What stands in the padding changes no other output, and permuting the positions permutes the outputs."""
    block, arguments = block_of(student, case), case.arguments()
    x, keep = arguments["x"], arguments["keep"]
    before = block(*arguments.values()).detach()
    arguments["x"] = torch.where(keep[..., None], x, 7.0 - x)
    after = block(*arguments.values()).detach()
    assert_same(after[keep], before[keep], "kept positions after the padding changed")
    order = torch.randperm(case.T, generator=case.generator(3))
    arguments |= {"x": x[:, order], "keep": keep[:, order]}
    assert_same(block(*arguments.values()), before[:, order], "output for permuted positions")


DROPPING = Cases(state=BLOCK.arguments["state"], x=BLOCK.arguments["x"], keep=one_kept("B T"),
                 flags={"rate": (0.3, 0.6)}, sizes={"T": (8, 10), "H": (1, 3), "D": (4, 6), "F": (5, 9), "B": (4, 5)})


@exercise("encoder_block")
@points(2)
@public
@for_all(case=DROPPING, corners=False)
def test_block_dropout(student, case):
    """In training, each entry of a sublayer's output is dropped or divided by 1 - p; in eval mode it is left alone."""
    for other in ("linear2", "out"):
        state, x, keep = zeroed(case.arguments(), f"{other}.weight", f"{other}.bias").values()
        block = student.EncoderBlock(case.H * case.D, case.H, case.F, "pre", case.rate).double()
        block.load_state_dict(state)
        block.eval()
        added = (block(x, keep, torch.Generator().manual_seed(case.seed)) - x).detach()
        block.train()
        first, again, another = ((block(x, keep, torch.Generator().manual_seed(seed)) - x).detach()
                                 for seed in (case.seed, case.seed, case.seed + 1))
        assert_same(again, first, "output of a second call with the same seed")
        factor = first / added
        survived = factor.abs() > 1e-6
        if not survived.any() or survived.all() or torch.equal(first, another):
            raise CheckFailure(f"with dropout={case.rate} all entries are treated alike, or all seeds drop the same.")
        assert_same(first, survived * added / (1 - case.rate), "what the sublayer adds in training")


@exercise("encoder_block")
@points(1)
@public
@for_all(case=BLOCK, corners=False)
def test_block_gradient_consistent(student, case):
    """The gradient, that of the parameters too, agrees with finite differences of your own block."""
    assert_gradient_consistent(block_of(student, case), case)


@exercise("encoder_block")
@points(3)
@for_all(case=BLOCK)
def test_block_values_and_gradients(student, reference, case):
    """Values and gradients, those of all parameters too, are right for any sizes and masks, pre and post."""
    assert_equivalent(block_of(student, case), block_of(reference, case), case)


@exercise("encoder_block")
@points(1)
@for_all(case=BLOCK, corners=False)
def test_block_as_in_torch(student, case):
    """Values and gradients are those of PyTorch's own encoder layer."""
    expected = torch_block(case.norm)
    expected.heads = case.H
    assert_equivalent(block_of(student, case), expected, case)


@exercise("encoder_block")
@points(1)
@for_all(case=Cases(x=normal("B T H*D"), keep=one_kept("B T"), sizes={"T": (1, 5), "H": (1, 3), "D": (1, 3)},
                    flags={"norm": ("pre", "post"), "rate": (0.0, 0.4)}), corners=False)
def test_block_one_module(student, reference, case):
    """In eval mode a module ignores dropout, keeps nothing between calls, and works in its parameters' dtype."""
    block = student.EncoderBlock(case.H * case.D, case.H, 6, case.norm, case.rate)
    block.eval()
    assert_pure(block, case.but(dtype=torch.float32))
    block.double()
    assert_pure(block, case)
    twin = reference.EncoderBlock(case.H * case.D, case.H, 6, case.norm, case.rate).double()
    twin.load_state_dict(block.state_dict())
    twin.eval()
    assert_same(block(*case.arguments().values()), twin(*case.arguments().values()).detach())


@exercise("encoder_block")
@points(1)
def test_block_dropout_rate(student):
    """Every entry is dropped by itself, with probability p, in both sublayers."""
    width, length, rate = 16, 600, 0.2
    x = torch.randn(1, length, width, generator=torch.Generator().manual_seed(0))
    for other in ("linear2", "out"):
        block = student.EncoderBlock(width, 2, 8, "pre", rate)
        generator = torch.Generator().manual_seed(1)
        state = {name: torch.randn(part.shape, generator=generator) for name, part in block.state_dict().items()}
        state |= {name: torch.zeros_like(part) for name, part in state.items() if name.startswith(other)}
        block.load_state_dict(state)
        added = block(x, torch.ones(1, length, dtype=torch.bool), torch.Generator().manual_seed(2)) - x
        dropped = (added == 0)[0]
        share = float(dropped.double().mean())
        # Standard deviation sqrt(0.2 * 0.8 / 9600) = 0.0041; nine of them are passed by chance once in 10^18 runs.
        if abs(share - rate) > 0.037:
            raise CheckFailure(f"with p = {rate} a share of {share:.3f} of the entries was dropped.")
        alike = float((dropped.all(1) | ~dropped.any(1)).double().mean())
        # By chance 0.8^16 = 0.028 of the positions, with a standard deviation of 0.007.
        if alike > 0.1:
            raise CheckFailure(f"at {alike:.0%} of the positions all {width} entries share one fate.")


# ---------------------------------------------------------------------------------------------- kv_cache_decode

PARAMS = {"w_q": normal("G*R*2*h C", scale=0.7), "w_k": normal("G*2*h C", scale=0.7), "w_v": normal("G*2*h C"),
          "w_o": normal("C G*R*2*h")}
KV_SIZES = {"t": (0, 5, 66), "G": (1, 3), "R": (1, 3), "h": (1, 3), "C": (1, 7)}
KV = Cases(x_t=normal("B 1 C"), k=normal("B G t 2*h"), v=normal("B G t 2*h"), params=PARAMS, base=value_of("base"),
           sizes=KV_SIZES, flags={"base": (10000.0, 20.0, None)})
WHOLE = Cases(x=normal("B T C"), params=PARAMS, sizes={**KV_SIZES, "T": (1, 6), "t": (0, 0)})


def cache_of(generator, s):
    """A cache of the case's sizes."""
    shape = (s["B"], s["G"], s["t"], 2 * s["h"])
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


STEP = Cases(x_t=normal("B 1 C"), cache=computed(cache_of), params=PARAMS, base=value_of("base"),
             sizes={**KV_SIZES, "B": (1, 5)}, flags={"base": (10000.0, 20.0, None)})


def step_of(notebook):
    """A notebook's step as a function of tensors that are not in a tuple."""
    def decode_step(x_t, k, v, params, base):
        return notebook.decode_step(x_t, (k, v), params, base)
    return decode_step


def one_by_one(decode_step, x, params, base, groups, width):
    """All outputs, each from the cache that the step before has returned."""
    empty = torch.zeros(x.shape[0], groups, 0, width, dtype=x.dtype)
    cache, outputs = (empty, empty), []
    for t in range(x.shape[1]):
        y, cache = decode_step(x[:, t:t + 1], cache, params, base)
        outputs.append(y)
    return torch.cat(outputs, dim=1)


def in_heads(x, weight, width):
    """The projection of x as (B, heads, T, width)."""
    return F.linear(x, weight).unflatten(-1, (-1, width)).movedim(1, 2)


def all_at_once(q, k, v, w_o):
    """PyTorch's own causal grouped-query attention, and the last projection."""
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return F.linear(mixed.movedim(1, 2).flatten(2), w_o)


@exercise("kv_cache_decode")
@points(1)
@public
@for_all(case=KV)
def test_decode_cache_grows(student, case):
    """The new cache is the old one, unchanged, and one more position at its end; there the value is W_v x_t."""
    x, k, v, params, base = case.arguments().values()
    y, cache = student.decode_step(x, (k, v), params, base)
    if len(cache) != 2:
        raise CheckFailure(f"the cache is a pair (k, v); got {len(cache)} parts.")
    assert_same(y.shape, torch.Size([case.B, 1, case.C]), "shape of y_t")
    for name, new, old in (("keys", cache[0], k), ("values", cache[1], v)):
        assert_same(new.shape, torch.Size([case.B, case.G, case.t + 1, 2 * case.h]), f"shape of the {name}")
        assert_same(new[:, :, :case.t].detach(), old.contiguous(), f"cached {name}")
    assert_same(cache[1][:, :, case.t:], in_heads(x, params["w_v"], 2 * case.h), "the new value")


@exercise("kv_cache_decode")
@points(1)
@public
@for_all(case=KV, corners=False)
def test_decode_first_token(student, case):
    """From an empty cache a token reads itself alone: w_o of its values, each copied to the heads of its group."""
    x, k, v, params, base = case.arguments().values()
    own = in_heads(x, params["w_v"], 2 * case.h).squeeze(2)
    copies = own.unsqueeze(2).expand(-1, -1, case.R, -1).flatten(1)
    y, _ = student.decode_step(x, (k[:, :, :0], v[:, :, :0]), params, base)
    assert_same(y.squeeze(1), F.linear(copies, params["w_o"]), "output")


@exercise("kv_cache_decode")
@points(2)
@public
@for_all(case=WHOLE)
def test_decode_is_causal_attention(student, case):
    """Without rotation, step after step gives what causal grouped-query attention gives for all tokens at once."""
    x, params = case.arguments().values()
    d = 2 * case.h
    q, k, v = (in_heads(x, params[name], d) for name in ("w_q", "w_k", "w_v"))
    assert_same(one_by_one(student.decode_step, x, params, None, case.G, d), all_at_once(q, k, v, params["w_o"]),
                "outputs of all steps")


@exercise("kv_cache_decode")
@points(1)
@public
@for_all(case=KV)
def test_decode_key_is_turned(student, case):
    """The new key is W_k x_t, its first pair turned by t radians, t being the length of the cache."""
    x, k, v, params, base = case.arguments().values()
    _, (keys, _) = student.decode_step(x, (k, v), params, base)
    plain = in_heads(x, params["w_k"], 2 * case.h)[:, :, 0]
    angle = torch.tensor(0.0 if base is None else float(case.t))
    turn = torch.polar(torch.ones((), dtype=torch.float64), angle.double())
    expected = torch.view_as_real(torch.complex(plain[..., 0], plain[..., 1]) * turn)
    assert_same(keys[:, :, -1, :2], expected, "first pair of the new key")


@exercise("kv_cache_decode")
@points(2)
@public
@for_all(case=KV, corners=False)
def test_decode_symmetries(student, case):
    """The order of the cache does not matter to y_t; nor does it matter whether groups share, or own equal copies."""
    x, k, v, params, base = case.arguments().values()
    y = student.decode_step(x, (k, v), params, base)[0].detach()
    order = torch.randperm(case.t, generator=case.generator(3))
    assert_same(student.decode_step(x, (k[:, :, order], v[:, :, order]), params, base)[0], y, "y_t, cache permuted")

    def copied(rows):
        return rows.unflatten(0, (case.G, -1)).unsqueeze(1).expand(-1, case.R, -1, -1).flatten(0, 2)
    own = params | {name: copied(params[name]) for name in ("w_k", "w_v")}
    cache = tuple(part.unsqueeze(2).expand(-1, -1, case.R, -1, -1).flatten(1, 2) for part in (k, v))
    assert_same(student.decode_step(x, cache, own, base)[0], y, "y_t with keys and values of its own for each head")


@exercise("kv_cache_decode")
@points(1)
@public
@for_all(case=KV, corners=False)
def test_decode_gradient_consistent(student, case):
    """The gradient agrees with finite differences of your own step, the default of base is 10000."""
    assert_gradient_consistent(step_of(student), case)
    x, k, v, params, _ = case.arguments().values()
    assert_same(student.decode_step(x, (k, v), params)[0],
                student.decode_step(x, (k, v), params, 10000.0)[0].detach(), "y_t with the default base")


@exercise("kv_cache_decode")
@points(3)
@for_all(case=KV)
def test_decode_values_and_gradients(student, reference, case):
    """Output, cache and all gradients are right for any sizes, bases and memory layouts."""
    assert_equivalent(step_of(student), step_of(reference), case)


@exercise("kv_cache_decode")
@points(1)
@for_all(case=WHOLE, corners=False)
def test_decode_is_causal_attention_with_rotation(student, case):
    """With rotation, step after step gives what causal attention over rotated queries and keys gives."""
    x, params = case.arguments().values()
    d = 2 * case.h
    q, k, v = (in_heads(x, params[name], d) for name in ("w_q", "w_k", "w_v"))
    q, k = (by_complex_numbers(part, torch.arange(case.T), 50.0) for part in (q, k))
    assert_same(one_by_one(student.decode_step, x, params, 50.0, case.G, d), all_at_once(q, k, v, params["w_o"]),
                "outputs of all steps")


@exercise("kv_cache_decode")
@points(1)
@for_all(case=STEP, corners=False)
def test_decode_pure(student, case):
    """The given cache and params are left alone, and nothing is remembered between calls."""
    assert_pure(student.decode_step, case)


@exercise("kv_cache_decode")
@points(1)
@for_all(case=KV, corners=False)
def test_decode_float32(student, reference, case):
    """In float32 it keeps the dtype, is accurate, and large scores stay finite; examples are independent."""
    assert_batch_independent(step_of(student), case, "x_t", "k", "v")
    assert_equivalent(step_of(student), step_of(reference), case.but(dtype=torch.float32))
    assert_finite_at(step_of(student), case, scale=30.0)


# ---------------------------------------------------------------------------------------------- encoder_decoder

def attention_state(name):
    """The parameters of a multi-head attention."""
    return {f"{name}.in_proj_weight": normal("3*H*D H*D", scale=0.6),
            f"{name}.in_proj_bias": normal("3*H*D", scale=0.5), **linear_state(f"{name}.out_proj", "H*D", "H*D")}


def layer_state(name, attentions, norms):
    """The parameters of one block."""
    state = {}
    for attention in attentions:
        state |= attention_state(f"{name}.{attention}")
    state |= linear_state(f"{name}.linear1", "F", "H*D") | linear_state(f"{name}.linear2", "H*D", "F")
    for number in range(1, norms + 1):
        state |= norm_state(f"{name}.norm{number}", "H*D")
    return state


def model_state(layers):
    """The parameters of the model."""
    state = {"embed.weight": normal("V H*D", scale=0.7)}
    for n in range(layers):
        state |= layer_state(f"encoder.{n}", ["self_attn"], 2)
        state |= layer_state(f"decoder.{n}", ["self_attn", "multihead_attn"], 3)
    return state


LAYERS = 2
SEQ_STATE = model_state(LAYERS)
SEQ_SIZES = {"B": (1, 3), "S": (1, 6), "T": (1, 5), "V": (1, 7), "H": (1, 3), "D": (1, 4), "F": (1, 5)}
SEQ = Cases(state=SEQ_STATE, src=integers("B S", 0, "V"), tgt=integers("B T", 0, "V"), src_keep=one_kept("B S"),
            sizes=SEQ_SIZES, also=[{"S": 40, "T": 37}])
# A model takes milliseconds: where a few examples show the fact, there are no more.
SMALL = [SEQ.case({"B": 2, "S": 5, "T": 4, "V": 6, "H": 2, "D": 3, "F": 7}, seed=seed) for seed in range(3)]


def seq2seq_of(notebook, case):
    """A notebook's model as a function of its state, the tokens and the mask."""
    return function_of(notebook.Seq2Seq, case.V, case.H * case.D, case.H, case.F, LAYERS)


class TorchSeq2Seq(nn.Module):
    """The same model, made of PyTorch's own layers."""

    def __init__(self, vocab, width, heads, hidden, layers):
        super().__init__()
        kind = {"dim_feedforward": hidden, "dropout": 0.0, "batch_first": True}
        self.embed = nn.Embedding(vocab, width)
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(width, heads, **kind) for _ in range(layers))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(width, heads, **kind) for _ in range(layers))

    def placed(self, tokens):
        width, (_, length) = self.embed.weight.shape[1], tokens.shape
        waves = [[(math.sin, math.cos)[c % 2](t / 10000.0 ** ((c - c % 2) / width)) for c in range(width)]
                 for t in range(length)]
        return self.embed(tokens) * width ** 0.5 + torch.tensor(waves, dtype=self.embed.weight.dtype)

    def forward(self, src, tgt, src_keep):
        memory, x = self.placed(src), self.placed(tgt)
        for part in self.encoder:
            memory = part(memory, src_key_padding_mask=~src_keep)
        later = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(1)
        for part in self.decoder:
            x = part(x, memory, tgt_mask=later, memory_key_padding_mask=~src_keep)
        return F.linear(x, self.embed.weight)


def moved(after, before):
    """(T,) bool: at which positions the logits of any example have changed visibly."""
    return ((after - before).abs() > 1e-9).flatten(2).any(-1).any(0)


@exercise("encoder_decoder")
@points(1)
@public
def test_seq_contract(student):
    """The state_dict has the contract's keys and shapes, all trainable; T tokens give (B, T, V) logits."""
    case = SMALL[0]
    model = student.Seq2Seq(case.V, case.H * case.D, case.H, case.F, LAYERS)
    state, *inputs = case.arguments().values()
    assert_state_dict(model, {name: part.shape for name, part in state.items()})
    frozen = sorted(model.state_dict().keys() - {name for name, part in model.named_parameters() if part.requires_grad})
    if frozen:
        raise CheckFailure(f"no optimizer would train {', '.join(frozen)}.",
                           hint="Weights are registered as nn.Parameter, alone or inside of a module.")
    assert_same(model(*inputs).shape, torch.Size([case.B, case.T, case.V]), "shape of the logits")


@exercise("encoder_decoder")
@points(2)
@public
def test_seq_silent_sublayers(student):
    """Where all sublayers give 0, logits 0 are E·LN(√C E + PE₀) by Eq. (12), position 0 being 0, 1, 0, 1, ..."""
    for case in SMALL[:2]:
        arguments = case.arguments()
        for name, part in arguments["state"].items():
            if "out_proj" in name or "linear2" in name or ("norm" in name and "bias" in name):
                arguments["state"][name] = torch.zeros_like(part)
            elif "norm" in name:
                arguments["state"][name] = torch.ones_like(part)
        table, width = arguments["state"]["embed.weight"], case.H * case.D
        x = width ** 0.5 * table[arguments["tgt"][:, 0]] + torch.tensor([c % 2 for c in range(width)])
        for _ in range(3 * LAYERS):
            x = F.layer_norm(x, (width,))
        assert_same(seq2seq_of(student, case)(*arguments.values())[:, 0], x @ table.mT, "logits at position 0")


@exercise("encoder_decoder")
@points(2)
@public
def test_seq_target_is_causal(student):
    """Changing target token t changes the logits from t on, those at t included, and none before."""
    case = SMALL[0]
    model, arguments = seq2seq_of(student, case), case.arguments()
    before, tgt = model(*arguments.values()).detach(), arguments["tgt"]
    for t in range(case.T):
        arguments["tgt"] = tgt.clone()
        arguments["tgt"][:, t] = (tgt[:, t] + 1) % case.V
        after = model(*arguments.values()).detach()
        assert_same(moved(after, before), torch.arange(case.T) >= t, f"where the logits change with tgt[:, {t}]")


@exercise("encoder_decoder")
@points(3)
@public
def test_seq_reads_the_source(student):
    """Every kept source token changes all logits, the last one too; padding changes none."""
    case = SMALL[1]
    model, arguments = seq2seq_of(student, case), case.arguments()
    before = model(*arguments.values()).detach()
    src, keep = arguments["src"], arguments["src_keep"]
    for s in range(case.S):
        changed = src.clone()
        changed[:, s] = (src[:, s] + 1) % case.V
        after = model(*(arguments | {"src": changed}).values()).detach()
        visible = ((after - before).abs() > 1e-9).any(-1)
        assert_same(visible, keep[:, s:s + 1].expand(-1, case.T).contiguous(),
                    f"where the logits change with src[:, {s}]")


@exercise("encoder_decoder")
@points(1)
@public
def test_seq_source_has_an_order(student):
    """Reading the source backwards gives other logits: its positions count."""
    case = SMALL[2]
    arguments, model = case.arguments(), seq2seq_of(student, case)
    arguments["src"] = torch.arange(case.S).expand(case.B, -1)
    arguments["src_keep"] = torch.ones_like(arguments["src_keep"])
    before = model(*arguments.values()).detach()
    after = model(*(arguments | {"src": arguments["src"].flip(1)}).values()).detach()
    assert_same(moved(after, before), torch.ones(case.T, dtype=torch.bool), "where the logits change")


@exercise("encoder_decoder")
@points(2)
@public
def test_seq_every_example_by_itself(student):
    """Every example gets what it gets alone, and the beginning of a target what it gets without the rest."""
    for n, case in enumerate(SMALL, 1):
        model, arguments = seq2seq_of(student, case), case.arguments()
        assert_batch_independent(model, case, "src", "tgt", "src_keep")
        whole = model(*arguments.values())[:, :n].detach()
        arguments["tgt"] = arguments["tgt"][:, :n]
        assert_same(model(*arguments.values()), whole, f"logits of the first {n} tokens")


@exercise("encoder_decoder")
@points(3)
@for_all(case=SEQ)
def test_seq_values_and_gradients(student, reference, case):
    """Logits, and the gradients of all parameters, are right for any sizes and masks."""
    assert_equivalent(seq2seq_of(student, case), seq2seq_of(reference, case), case)


@exercise("encoder_decoder")
@points(1)
def test_seq_as_in_torch(student):
    """Logits and gradients are those of a model made of PyTorch's own layers."""
    for case in SMALL:
        theirs = function_of(TorchSeq2Seq, case.V, case.H * case.D, case.H, case.F, LAYERS)
        assert_equivalent(seq2seq_of(student, case), theirs, case)


TOKENS = Cases(src=integers("B S", 0, 9), tgt=integers("B T", 0, 9), src_keep=one_kept("B S"))


@exercise("encoder_decoder")
@points(1)
def test_seq_one_module(student, reference):
    """One module, of any depth, keeps nothing between calls, leaves its inputs alone, and knows train from eval."""
    for layers in (1, 3):
        case = TOKENS.case({"B": 2, "S": 5, "T": 4}, seed=layers)
        model = student.Seq2Seq(9, 8, 2, 6, layers)
        assert_same(model(*case.arguments().values()).dtype, torch.float32, "dtype of the logits")
        model.double()
        assert_pure(model, case)
        twin = reference.Seq2Seq(9, 8, 2, 6, layers).double()
        twin.load_state_dict(model.state_dict())
        expected = twin(*case.arguments().values()).detach()
        assert_same(model(*case.arguments().values()), expected, "logits in training mode")
        model.eval()
        assert_same(model(*case.arguments().values()), expected, "logits in eval mode")


# ---------------------------------------------------------------------------------------------- relative_bias_variants

ALIBI = Cases(n_heads=value_of("H"), T=value_of("T"), dtype=value_of("made"),
              sizes={"H": (1, 8, 16), "T": (1, 7, 66)}, flags={"made": (torch.float64, torch.float32)},
              also=[{"H": 2}, {"H": 4}])


def buckets_in_all(_, s):
    """The argument num_buckets: twice those of a side if there are two."""
    return s["scheme"][0] * (2 if s["two"] else 1)


def some_distances(generator, s):
    """Relative positions near 0, and some beyond the maximum."""
    near = torch.randint(-45, 46, (s["T"], s["S"]), generator=generator)
    far = torch.randint(-300, 301, (s["T"], s["S"]), generator=generator)
    return torch.where(torch.rand(near.shape, generator=generator) < 0.7, near, far)


# (buckets of a side, largest distance): no border between two buckets is so close to an integer that the rounding of
# a logarithm, in float32 or float64, decides; or it is met exactly, as by the distance 32 in (8, 256).
T5 = Cases(rel=computed(some_distances), bidirectional=value_of("two"), num_buckets=computed(buckets_in_all),
           max_distance=computed(lambda _, s: s["scheme"][1]), sizes={"T": (1, 9, 40), "S": (1, 8, 50)},
           flags={"two": (False, True), "scheme": ((32, 128), (8, 256), (5, 50), (4, 8), (3, 20), (16, 100))})
PATCHES = Cases(img=normal("B C R*p W*p"), p=value_of("p"),
                sizes={"B": (1, 3), "C": (1, 4), "R": (1, 4), "W": (1, 5), "p": (1, 4)}, also=[{"p": 16}])


def bucket_by_integers(n, buckets, furthest):
    """Eq. (16) in exact arithmetic: the largest k with (n/m)^(N-m) >= (D/m)^k."""
    m = buckets // 2
    if n < m:
        return n
    steps = buckets - m
    k = sum(n ** steps * m ** i >= furthest ** i * m ** steps for i in range(1, steps))
    return m + k


def patch_at(img, p, row, column):
    """One square of every image, as vectors."""
    return img[:, :, row * p:(row + 1) * p, column * p:(column + 1) * p].flatten(1)


@exercise("relative_bias_variants")
@points(2)
@public
@for_all(case=ALIBI)
def test_alibi_slopes(student, case):
    """alibi_bias: a step of one costs 2^(-8/H) in the first head and 2^-8 in the last, on both sides; no step, 0."""
    bias = assert_shape(student.alibi_bias, case, case.H, case.T, case.T, dtype=case.made)
    start = bias[:, 0].double()
    assert_same(start[:, 0], torch.zeros(case.H, dtype=torch.float64), "bias without a distance")
    costs = torch.tensor([2 ** (-8 * (h + 1) / case.H) for h in range(case.H)], dtype=torch.float64)
    for t in range(1, min(case.T, 4)):
        tolerance = 1e-6 if case.made is torch.float32 else None  # rounding of the float32 that was asked for
        assert_same(start[:, t], -t * costs, f"bias at distance {t}", tolerance=tolerance)


@exercise("relative_bias_variants")
@points(1)
@public
@for_all(case=ALIBI)
def test_alibi_distance_alone(student, case):
    """alibi_bias depends on the distance alone, not on the place or the side; the default dtype is float32."""
    bias = student.alibi_bias(case.H, case.T, case.made)
    assert_same(bias.transpose(1, 2).contiguous(), bias, "bias with query and key exchanged")
    assert_same(bias[:, 1:, 1:], bias[:, :-1, :-1], "bias one place further")
    assert_same(student.alibi_bias(case.H, case.T), student.alibi_bias(case.H, case.T, torch.float32),
                "bias with the default dtype")


@exercise("relative_bias_variants")
@points(2)
@public
@for_all(case=T5)
def test_buckets_grow(student, case):
    """t5_bucket: near distances one by one, then never falling, and from max_distance on the last bucket."""
    N, furthest = case.scheme
    _, two, total, _ = case.arguments().values()
    n = torch.arange(furthest + 30)
    found = student.t5_bucket(-n[None], two, total, furthest)[0]
    assert_same(found[:N // 2 + 1], n[:N // 2 + 1], "buckets of the first distances")
    if (found.diff() < 0).any():
        raise CheckFailure("a larger distance to the left has a smaller bucket.")
    assert_same(found[furthest:], torch.full((30,), N - 1), "buckets from max_distance on")


@exercise("relative_bias_variants")
@points(1)
@public
@for_all(case=T5)
def test_buckets_of_both_sides(student, case):
    """t5_bucket: keys on the right have the second half of the buckets, or, with one side only, bucket 0."""
    rel, two, total, furthest = case.arguments().values()
    left = student.t5_bucket(-rel.abs(), two, total, furthest)
    right = student.t5_bucket(rel.abs(), two, total, furthest)
    expected = torch.where(rel == 0, 0, left + total // 2) if two else torch.zeros_like(rel)
    assert_same(right, expected, "buckets of the keys on the right")


@exercise("relative_bias_variants")
@points(3)
@for_all(case=T5)
def test_bucket_values(student, reference, case):
    """t5_bucket is right for any relative positions and numbers of buckets, and leaves its input alone."""
    rel, two, total, furthest = case.arguments().values()
    N = case.scheme[0]
    expected = [[bucket_by_integers(abs(r) if two else max(-r, 0), N, furthest) + (N if two and r > 0 else 0)
                 for r in row] for row in rel.tolist()]
    assert_same(reference.t5_bucket(rel, two, total, furthest), torch.tensor(expected), "the reference")
    assert_equivalent(student.t5_bucket, reference.t5_bucket, case, grad=False)
    every = torch.arange(-furthest, furthest + 1)[None]
    assert_same(student.t5_bucket(every, two, total, furthest), reference.t5_bucket(every, two, total, furthest))
    assert_pure(student.t5_bucket, case)


@exercise("relative_bias_variants")
@points(1)
@public
@for_all(case=PATCHES)
def test_patch_places(student, case):
    """vit_patchify: patches run from left to right, then down; in each the channel varies slowest, as in flatten."""
    img, p = case.arguments().values()
    patches = assert_shape(student.vit_patchify, case, case.B, case.R * case.W, case.C * p * p)
    row, column = case.seed % case.R, (case.seed + 1) % case.W
    assert_same(patches[:, row * case.W + column].detach(), patch_at(img, p, row, column),
                f"patch in row {row} and column {column}")


@exercise("relative_bias_variants")
@points(1)
@public
@for_all(case=PATCHES)
def test_patches_and_back(student, case):
    """vit_unpatchify puts every patch back into its place."""
    img, p = case.arguments().values()
    H, W = img.shape[2:]
    patches = torch.stack([patch_at(img, p, row, column) for row in range(case.R) for column in range(case.W)], dim=1)
    assert_same(student.vit_unpatchify(patches, p, H, W), img.contiguous())


@exercise("relative_bias_variants")
@points(1)
@public
@for_all(case=PATCHES, corners=False)
def test_patches_gradient_and_errors(student, case):
    """vit_patchify: the gradient goes to where the pixels came from; patches that do not fit raise ValueError."""
    assert_gradient_consistent(student.vit_patchify, case)
    img, p = case.arguments().values()
    tall = torch.zeros(1, 2, 2 * (p + 1), 2 * (p + 1) + 1)
    assert_refuses(student.vit_patchify, tall, p + 1)
    assert_refuses(student.vit_patchify, tall.transpose(2, 3), p + 1)


@exercise("relative_bias_variants")
@points(2)
@for_all(case=PATCHES)
def test_patches_as_in_torch(student, reference, case):
    """Patches are those of F.unfold, gradients and float32 included; both ways leave their inputs alone."""
    assert_equivalent(student.vit_patchify, lambda img, p: F.unfold(img, p, stride=p).transpose(1, 2), case)
    assert_equivalent(student.vit_patchify, reference.vit_patchify, case.but(dtype=torch.float32))
    assert_pure(student.vit_patchify, case)
    back = Cases(patches=normal("B R*W C*p*p"), p=value_of("p"), H=computed(lambda _, s: s["R"] * s["p"]),
                 W=computed(lambda _, s: s["W"] * s["p"]), sizes=PATCHES.sizes)
    there = back.case(case.sizes, seed=case.seed, layout=case.layout)
    assert_equivalent(student.vit_unpatchify, reference.vit_unpatchify, there)
    assert_pure(student.vit_unpatchify, there)
