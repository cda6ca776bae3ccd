"""Checks of the hybrid unit. Public ones need no reference: they state what the equations imply."""
import math

import torch
import torch.nn.functional as F
from etude.adapters import function_of
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure
from etude.properties import (
    assert_batch_independent,
    assert_detached,
    assert_equivalent,
    assert_finite_at,
    assert_gradient_consistent,
    assert_invariant,
    assert_pure,
    assert_refuses,
    assert_shape,
    assert_state_dict,
    gradients,
)
from etude.strategies import Cases, computed, for_all, mask, normal, value_of
from torch import nn

# ---------------------------------------------------------------------------------------------- film_fusion

FILM = Cases(x=normal("B C H W"), cond=normal("B D"), weight=normal("2*C D"), bias=normal("2*C"),
             sizes={"D": (1, 6, 40)}, also=[{"C": 3, "W": 3, "H": 2}, {"C": 3, "W": 2, "H": 3}])


@exercise("film_fusion")
@points(1)
@public
@for_all(case=FILM)
def test_film_identity(student, case):
    """With gamma = 1 and beta = 0 for every condition, the features come back as they are."""
    x, cond, weight, bias = case.arguments().values()
    bias = torch.tensor([1.0] * case.C + [0.0] * case.C, dtype=x.dtype)
    assert_same(student.film(x, cond, torch.zeros_like(weight), bias), x.contiguous())


@exercise("film_fusion")
@points(2)
@public
@for_all(case=FILM)
def test_film_one_condition(student, case):
    """For the j-th unit vector as condition, column j of the weight plus the bias are the factors and offsets."""
    x, _, weight, bias = case.arguments().values()
    j = case.seed % case.D
    unit = torch.zeros(case.B, case.D, dtype=x.dtype)
    unit[:, j] = 1
    both = weight[:, j] + bias
    expected = torch.stack([x[:, c] * both[c] + both[case.C + c] for c in range(case.C)], dim=1)
    assert_same(student.film(x, unit, weight, bias), expected, f"output for condition e_{j}")


@exercise("film_fusion")
@points(1)
@public
@for_all(case=FILM, corners=False)
def test_film_moves_with_the_pixels(student, case):
    """Permuting the pixels of the input permutes the output: the modulation is the same everywhere."""
    x, *rest = case.arguments().values()
    order = torch.randperm(case.H * case.W, generator=case.generator(3))
    moved = x.flatten(2)[:, :, order].reshape(x.shape)
    expected = student.film(x, *rest).detach().flatten(2)[:, :, order].reshape(x.shape)
    assert_same(student.film(moved, *rest), expected, "output for permuted pixels")


@exercise("film_fusion")
@points(1)
@public
@for_all(case=FILM, corners=False)
def test_film_examples_alone(student, case):
    """Every example has its own condition and is computed by itself."""
    assert_batch_independent(student.film, case, "x", "cond")


@exercise("film_fusion")
@points(1)
@public
@for_all(case=FILM, corners=False)
def test_film_gradient_consistent(student, case):
    """The gradient agrees with finite differences of your own function."""
    assert_gradient_consistent(student.film, case)


@exercise("film_fusion")
@points(3)
@for_all(case=FILM)
def test_film_values_and_gradients(student, reference, case):
    """Values and gradients are right for any sizes and memory layouts."""
    assert_equivalent(student.film, reference.film, case)


@exercise("film_fusion")
@points(1)
@for_all(case=FILM, corners=False)
def test_film_float32_and_purity(student, reference, case):
    """The inputs are left as they were, and float32 is kept."""
    assert_pure(student.film, case)
    assert_equivalent(student.film, reference.film, case.but(dtype=torch.float32))


# ---------------------------------------------------------------------------------------------- clip_contrastive

CLIP = Cases(img=normal("N D"), txt=normal("N D"), log_scale=normal("", scale=1.8, shift=3.0),
             sizes={"N": (1, 6, 40), "D": (2, 6, 40)}, also=[{"N": 5, "D": 5}])


@exercise("clip_contrastive")
@points(1)
@public
@for_all(case=CLIP, corners=False)
def test_clip_symmetric_and_unordered(student, case):
    """Exchanging the two sides, or permuting the pairs, does not change the loss."""
    def exchanged(arguments):
        return {"img": arguments["txt"], "txt": arguments["img"], "log_scale": arguments["log_scale"]}

    def permuted(arguments):
        order = torch.randperm(case.N, generator=case.generator(3))
        return arguments | {"img": arguments["img"][order], "txt": arguments["txt"][order]}
    assert_shape(student.clip_loss, case)
    assert_invariant(student.clip_loss, case, exchanged, "the two sides are exchanged")
    assert_invariant(student.clip_loss, case, permuted, "the pairs are permuted")


@exercise("clip_contrastive")
@points(1)
@public
@for_all(case=CLIP, corners=False)
def test_clip_directions_only(student, case):
    """Every embedding may have any length: only its direction counts."""
    def longer(arguments):
        factors = torch.rand(2, case.N, 1, generator=case.generator(3), dtype=torch.float64) + 0.5
        return arguments | {"img": factors[0] * arguments["img"], "txt": factors[1] * arguments["txt"]}
    assert_invariant(student.clip_loss, case, longer, "embeddings are made longer or shorter")


@exercise("clip_contrastive")
@points(2)
@public
@for_all(case=CLIP)
def test_clip_closed_forms(student, case):
    """Equal embeddings give log N; N orthogonal pairs give log(1 + (N - 1) exp(-e^t))."""
    img, txt, log_scale = case.arguments().values()
    alike = student.clip_loss(img[:1].expand_as(img), txt[:1].expand_as(txt), log_scale)
    assert_same(alike.detach(), torch.tensor(math.log(case.N), dtype=torch.float64), "loss of equal embeddings")
    eye = torch.eye(case.N, dtype=torch.float64)
    got = student.clip_loss(eye, eye, log_scale)
    expected = torch.log1p((case.N - 1) * torch.exp(-torch.exp(log_scale)))
    assert_same(got.detach(), expected, "loss of N orthogonal pairs")
    near = torch.tensor([[1.0, 0.0], [math.cos(0.1), math.sin(0.1)]], dtype=torch.float64)
    got = student.clip_loss(near, near, torch.tensor(math.log(200), dtype=torch.float64))
    expected = torch.tensor(math.log1p(math.exp(-200 * (1 - math.cos(0.1)))), dtype=torch.float64)
    assert_same(got.detach(), expected, "loss of two pairs 0.1 rad apart at a scale of 200")


@exercise("clip_contrastive")
@points(1)
@public
@for_all(case=CLIP, corners=False)
def test_clip_gradient_orthogonal(student, case):
    """The gradient is orthogonal to every embedding, as the loss depends on directions only."""
    loss, (img_grad, txt_grad, _) = gradients(student.clip_loss, case)
    img, txt, _ = case.arguments().values()
    for name, rows, grads in (("img", img, img_grad), ("txt", txt, txt_grad)):
        along = (rows * grads).sum(-1)
        assert_same(along, torch.zeros_like(along), f"gradient of {name} along {name}")


@exercise("clip_contrastive")
@points(1)
@public
@for_all(case=CLIP.but(log_scale=normal("", scale=0.5, shift=1.0)), corners=False)  # large scales bend too much
def test_clip_gradient_consistent(student, case):
    """The gradient, that of the scale too, agrees with finite differences of your own loss."""
    assert_gradient_consistent(student.clip_loss, case)


def by_double_sums(img, txt, log_scale):
    """Eqs. (3)-(4), written from the other side: the matrix as cosines, the loss as a log-softmax along both axes."""
    z = torch.exp(log_scale) * F.cosine_similarity(img[:, None], txt[None], dim=-1)
    return -(z.log_softmax(0) + z.log_softmax(1)).diagonal().mean() / 2


@exercise("clip_contrastive")
@points(4)
@for_all(case=CLIP)
def test_clip_values_and_gradients(student, case):
    """Values and gradients are right for any batch, width and scale."""
    assert_equivalent(student.clip_loss, by_double_sums, case)


@exercise("clip_contrastive")
@points(2)
@for_all(case=CLIP, corners=False)
def test_clip_float32_and_large(student, reference, case):
    """Inputs are left alone, float32 is kept, and neither long embeddings nor a large scale overflow."""
    assert_pure(student.clip_loss, case)
    assert_equivalent(student.clip_loss, reference.clip_loss, case.but(dtype=torch.float32))
    img, txt, log_scale = case.but(dtype=torch.float32).arguments().values()
    leaves = [(1e3 * img).requires_grad_(), (1e3 * txt).requires_grad_(), (0 * log_scale + 8).requires_grad_()]
    loss = student.clip_loss(*leaves)
    found = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else ()
    for name, value in zip(("loss", "gradient of img", "of txt", "of log_scale"), (loss, *found), strict=False):
        if value is not None and not torch.isfinite(value).all():
            raise CheckFailure(f"with a scale of e^8 the {name} is not finite in float32.",
                               hint="exp overflows beyond 88 in float32: log_softmax subtracts the maximum first.")


# ---------------------------------------------------------------------------------------------- gated_cross_attention

def norm_state(name, width):
    """Weight and bias of a layer normalization."""
    return {f"{name}.weight": normal(width, scale=0.5, shift=1.0), f"{name}.bias": normal(width, scale=0.5)}


def linear_state(name, rows, columns):
    """Weight and bias of a linear layer."""
    return {f"{name}.weight": normal(f"{rows} {columns}", scale=0.7), f"{name}.bias": normal(rows, scale=0.7)}


GATED = Cases(state={"alpha": normal("", shift=0.5), "beta": normal("", shift=-0.5), **norm_state("norm1", "H*D"),
                     **norm_state("norm2", "H*D"), "q.weight": normal("H*D H*D"), "k.weight": normal("H*D K"),
                     "v.weight": normal("H*D K"), "out.weight": normal("H*D H*D"),
                     **linear_state("linear1", "F", "H*D"), **linear_state("linear2", "H*D", "F")},
              x=normal("B T H*D", scale=2.0, shift=0.5), ctx=normal("B S K"), ctx_keep=mask("B S"),
              sizes={"H": (1, 3), "D": (1, 3), "T": (1, 5), "S": (1, 5, 33), "F": (1, 6)},
              also=[{"H": 2, "D": 2, "K": 4, "T": 3, "S": 3}])


def gated(notebook, case):
    """A notebook's block as a function of its state, the words, the context and its mask."""
    return function_of(notebook.GatedXAttn, case.H * case.D, case.K, case.H, case.F)


def with_gates(case, alpha, beta):
    """The case's arguments with these gates."""
    arguments = case.arguments()
    arguments["state"]["alpha"] = torch.full_like(arguments["state"]["alpha"], alpha)
    arguments["state"]["beta"] = torch.full_like(arguments["state"]["beta"], beta)
    return arguments


@exercise("gated_cross_attention")
@points(1)
@public
def test_gated_fresh_gate(student):
    """A fresh gate is one number, and it is shut: tanh of it is 0."""
    assert_same(torch.tanh(student.fresh_gate()).detach(), torch.zeros(()), "tanh of a fresh gate")


@exercise("gated_cross_attention")
@points(1)
@public
@for_all(case=GATED, corners=False)
def test_gated_contract(student, case):
    """The state_dict has the contract's keys, all of them trainable; heads that do not divide C raise ValueError."""
    width = case.H * case.D
    block = student.GatedXAttn(width, case.K, case.H, case.F)
    assert_state_dict(block, {name: part.shape for name, part in case.arguments()["state"].items()})
    frozen = sorted(block.state_dict().keys() - {name for name, part in block.named_parameters() if part.requires_grad})
    if frozen:
        raise CheckFailure(f"no optimizer would train {', '.join(frozen)}.",
                           hint="A gate is an nn.Parameter; a buffer is saved, but not trained.")
    assert_refuses(student.GatedXAttn, width, case.K, width + 1, case.F)


@exercise("gated_cross_attention")
@points(2)
@public
@for_all(case=GATED, corners=False)
def test_gated_shut_is_the_identity(student, case):
    """With both gates at 0 the output is x itself, and yet the gates have a gradient."""
    arguments = with_gates(case, 0.0, 0.0)
    arguments["ctx_keep"] = torch.ones_like(arguments["ctx_keep"])
    gates = [arguments["state"][name].requires_grad_() for name in ("alpha", "beta")]
    output = gated(student, case)(*arguments.values())
    assert_same(output.detach(), arguments["x"].contiguous(), "output with shut gates")
    probe = torch.randn(output.shape, generator=case.generator(3), dtype=output.dtype)
    found = torch.autograd.grad(output, gates, probe, allow_unused=True) if output.requires_grad else (None, None)
    for name, grad in zip(("alpha", "beta"), found, strict=True):
        if grad is None or not float(grad.abs()) > 0:
            raise CheckFailure(f"the gradient of {name} is 0 while its gate is shut: it would stay shut for ever.",
                               hint="The derivative of tanh at 0 is 1; what does the gate multiply?")


@exercise("gated_cross_attention")
@points(1)
@public
@for_all(case=GATED, corners=False)
def test_gated_odd_in_alpha(student, case):
    """With beta = 0, what alpha adds is proportional to tanh(alpha): -alpha adds the opposite."""
    block, alpha = gated(student, case), 0.1 + case.seed % 7 / 5
    added = []
    for value in (alpha, -alpha, 30.0):
        arguments = with_gates(case, value, 0.0)
        added.append((block(*arguments.values()) - arguments["x"]).detach())
    assert_same(added[0] + 2, 2 - added[1], "what alpha adds, plus 2")
    assert_same(added[0] + 2, math.tanh(alpha) * added[2] + 2, "what alpha adds, plus 2")


@exercise("gated_cross_attention")
@points(2)
@public
@for_all(case=GATED, corners=False)
def test_gated_context_mask(student, case):
    """Masked context does not matter; with none to read, the attention adds 0, and no gradient is NaN."""
    def change(arguments):
        return arguments | {"ctx": torch.where(arguments["ctx_keep"][..., None], arguments["ctx"], 40.0)}
    block = gated(student, case)
    assert_invariant(block, case, change, "masked positions of the context change")

    def unseen(state, x, ctx, ctx_keep):
        return block({**state, "beta": 0 * state["beta"]}, x, ctx, torch.zeros_like(ctx_keep))
    result, found = gradients(unseen, case)
    assert_same(result.detach(), case.arguments()["x"].contiguous(), "output with beta = 0 and nothing to read")
    for name, grad in zip(case.floating(), found, strict=True):
        if not torch.isfinite(grad).all():
            raise CheckFailure(f"the gradient of {name} is not finite when nothing may be read.",
                               hint="A row of -inf gives NaN; `attention` in the setup avoids it.")


@exercise("gated_cross_attention")
@points(1)
@public
@for_all(case=GATED, corners=False)
def test_gated_gradient_consistent(student, case):
    """The gradient, that of the gates too, agrees with finite differences of your own block."""
    assert_gradient_consistent(gated(student, case), case)


@exercise("gated_cross_attention")
@points(4)
@for_all(case=GATED)
def test_gated_values_and_gradients(student, reference, case):
    """Values and gradients, those of all parameters too, are right for any sizes and masks."""
    assert_equivalent(gated(student, case), gated(reference, case), case)


@exercise("gated_cross_attention")
@points(1)
@for_all(case=GATED, corners=False)
def test_gated_new_module(student, case):
    """A new module is the identity in float32, leaves its inputs alone, and keeps nothing between calls."""
    block = student.GatedXAttn(case.H * case.D, case.K, case.H, case.F)
    _, *inputs = case.but(dtype=torch.float32).arguments().values()
    assert_same(block(*inputs).detach(), inputs[0].contiguous(), "output of a new module")
    assert_pure(block, INPUTS.case({"B": case.B, "T": case.T, "S": case.S, "C": case.H * case.D, "K": case.K},
                                   seed=case.seed, dtype=torch.float32))


INPUTS = Cases(x=normal("B T C"), ctx=normal("B S K"), ctx_keep=mask("B S"))


# ---------------------------------------------------------------------------------------------- cvt_conv_projection

CVT = Cases(x=normal("B C H W"), depth=normal("3 C 1 3 3"), norm=normal("3 2 C", shift=0.5), point=normal("3 C C"),
            kv_stride=value_of("s"), sizes={"s": (1, 3), "H": (1, 6), "W": (1, 7, 17), "C": (1, 4), "B": (1, 3)},
            also=[{"H": 4, "W": 4, "s": 2}])
CVT_HEADS = Cases(x=normal("B h*d H W"), depth=normal("3 h*d 1 3 3"), norm=normal("3 2 h*d", shift=0.5),
                  point=normal("3 h*d h*d"), kv_stride=value_of("s"), heads=value_of("h"),
                  sizes={"s": (1, 3), "H": (1, 5), "W": (1, 6), "h": (1, 3), "d": (1, 3), "B": (1, 3)},
                  also=[{"H": 4, "W": 4, "s": 1}])


@exercise("cvt_conv_projection")
@points(2)
@public
@for_all(case=CVT)
def test_cvt_shapes_and_grid(student, case):
    """There are H·W queries whatever the stride, and keys and values are those of stride 1 at every s-th pixel."""
    arguments = case.arguments()
    whole = student.conv_qkv(*(arguments | {"kv_stride": 1}).values())
    strided = student.conv_qkv(*arguments.values())
    assert_same(strided[0], whole[0].detach(), "queries at this stride")
    for name, one, other in zip("kv", strided[1:], whole[1:], strict=True):
        assert_shape_of_tokens(other, case, name)
        plane = other.detach().reshape(case.B, case.H, case.W, case.C)
        assert_same(one, plane[:, ::case.s, ::case.s].flatten(1, 2), f"{name} at stride {case.s}")


def assert_shape_of_tokens(tokens, case, name):
    """At stride 1 there is one token for each pixel."""
    if tuple(tokens.shape) != (case.B, case.H * case.W, case.C):
        raise CheckFailure(f"{name} at stride 1: expected shape {(case.B, case.H * case.W, case.C)}, "
                           f"got {tuple(tokens.shape)}.", hint="A 3 x 3 kernel needs padding 1 to keep H and W.")


@exercise("cvt_conv_projection")
@points(2)
@public
@for_all(case=CVT)
def test_cvt_without_neighbours(student, case):
    """With kernels that are 1 in the middle, a = 1, b = 0 and stride 1, every token is P times its pixel."""
    x, depth, norm, point, _ = case.arguments().values()
    middle, plain = torch.zeros_like(depth), torch.zeros_like(norm)
    middle[..., 1, 1] = 1
    plain[:, 0] = 1
    got = student.conv_qkv(x, middle, plain, point, 1)
    for name, one, matrix in zip("qkv", got, point, strict=True):
        expected = torch.einsum("oc,bchw->bhwo", matrix, x).reshape(case.B, case.H * case.W, case.C)
        assert_same(one, expected, name)


@exercise("cvt_conv_projection")
@points(1)
@public
@for_all(case=CVT, corners=False)
def test_cvt_neighbours_of_a_pixel(student, case):
    """A single bright pixel in channel c shows up in that channel only, with the kernel turned round about it."""
    x, depth, _, point, _ = case.arguments().values()
    c = case.seed % case.C
    dot = torch.zeros(1, case.C, 5, 6, dtype=x.dtype)
    dot[0, c, 2, 3] = 1
    plain = torch.tensor([[1.0], [0.0]], dtype=x.dtype).expand(3, 2, case.C)
    got = student.conv_qkv(dot, depth, plain, torch.eye(case.C, dtype=x.dtype).expand_as(point), 1)
    for name, one, kernel in zip("qkv", got, depth, strict=True):
        expected = torch.zeros(5, 6, case.C, dtype=x.dtype)
        expected[1:4, 2:5, c] = kernel[c, 0].flip(0, 1)
        assert_same(one, expected.reshape(1, 30, case.C), name)


@exercise("cvt_conv_projection")
@points(1)
@public
@for_all(case=CVT_HEADS, corners=False)
def test_cvt_indifferent_keys(student, case):
    """If all keys are 0, conv_attention gives every pixel the mean of the values."""
    arguments = case.arguments()
    arguments["point"] = arguments["point"].clone()
    arguments["point"][1] = 0
    values = student.conv_qkv(*list(arguments.values())[:-1])[2].detach()
    expected = values.mean(dim=1)[..., None, None].expand_as(arguments["x"]).contiguous()
    assert_same(student.conv_attention(*arguments.values()), expected)


@exercise("cvt_conv_projection")
@points(1)
@public
@for_all(case=CVT_HEADS, corners=False)
def test_cvt_gradient_consistent(student, case):
    """The gradient, that of the weights too, agrees with finite differences of your own function."""
    assert_gradient_consistent(student.conv_attention, case)


@exercise("cvt_conv_projection")
@points(3)
@for_all(case=CVT)
def test_cvt_projection_values_and_gradients(student, reference, case):
    """conv_qkv: values and gradients are right for any sizes and strides."""
    assert_equivalent(student.conv_qkv, reference.conv_qkv, case)


@exercise("cvt_conv_projection")
@points(2)
@for_all(case=CVT_HEADS)
def test_cvt_attention_values_and_gradients(student, reference, case):
    """conv_attention: values and gradients are right for any sizes, strides and heads."""
    assert_equivalent(student.conv_attention, reference.conv_attention, case)


@exercise("cvt_conv_projection")
@points(1)
@for_all(case=CVT_HEADS, corners=False)
def test_cvt_float32_and_purity(student, reference, case):
    """Inputs are left alone, examples are independent, float32 is kept and large pictures stay finite."""
    assert_pure(student.conv_attention, case)
    assert_batch_independent(student.conv_attention, case, "x")
    assert_equivalent(student.conv_attention, reference.conv_attention, case.but(dtype=torch.float32))
    assert_finite_at(student.conv_attention, case, scale=30.0)


# ---------------------------------------------------------------------------------------------- conv_stem_vit

def vit_state(depth):
    """The state of a network with so many blocks; D = 4*q."""
    state = {"conv1.weight": normal("q c 3 3"), "conv2.weight": normal("2*q q 3 3"),
             "conv3.weight": normal("4*q 2*q 3 3"), **norm_state("norm1", "q"), **norm_state("norm2", "2*q"),
             **norm_state("norm3", "4*q"), "proj.weight": normal("4*q 4*q 1 1"), "proj.bias": normal("4*q"),
             "cls": normal("4*q"), "pos": normal("4*q G G"), **norm_state("norm", "4*q"),
             **linear_state("head", "n", "4*q")}
    for i in range(depth):
        state |= {**norm_state(f"blocks.{i}.norm1", "4*q"), **norm_state(f"blocks.{i}.norm2", "4*q"),
                  **linear_state(f"blocks.{i}.qkv", "12*q", "4*q"), **linear_state(f"blocks.{i}.out", "4*q", "4*q"),
                  **linear_state(f"blocks.{i}.up", "8*q", "4*q"), **linear_state(f"blocks.{i}.down", "4*q", "8*q")}
    return state


def vits(depth, **sizes):
    """Cases of networks with so many blocks."""
    return Cases(state=vit_state(depth), x=normal("B c H W"), flags={"heads": (2, 1)},
                 sizes={"q": (1, 3), "c": (1, 3), "n": (1, 4), "G": (1, 3), "B": (1, 3), "H": (1, 20), "W": (1, 30),
                        **sizes},
                 also=[{"q": 2, "G": 2, "H": 16, "W": 9}, {"q": 2, "G": 3, "H": 17, "W": 23}])


VIT, DEEP, SHALLOW = vits(1), vits(2), vits(0)
WIDE = vits(1, q=(4, 5), H=(9, 20), B=(1, 2))


def vit(notebook, case, depth=1):
    """A notebook's network as a function of its state and the picture."""
    return function_of(notebook.ConvStemViT, case.c, 4 * case.q, case.heads, depth, case.n, case.G)


@exercise("conv_stem_vit")
@points(2)
@public
@for_all(case=DEEP, corners=False)
def test_vit_contract(student, case):
    """The state_dict has the contract's keys, all trainable; impossible widths raise ValueError; the grid is 4."""
    width = 4 * case.q
    network = student.ConvStemViT(case.c, width, case.heads, 2, case.n, case.G)
    assert_state_dict(network, {name: part.shape for name, part in case.arguments()["state"].items()})
    names = {name for name, part in network.named_parameters() if part.requires_grad}
    frozen = sorted(network.state_dict().keys() - names)
    if frozen:
        raise CheckFailure(f"no optimizer would train {', '.join(frozen)}.",
                           hint="A tensor that is to be trained is registered as nn.Parameter.")
    grid = tuple(student.ConvStemViT(1, 4, 1, 0, 1).state_dict()["pos"].shape)
    if grid != (4, 4, 4):
        raise CheckFailure(f"without a word about the grid, pos of a width of 4 has shape {grid}, not (4, 4, 4).")
    assert_refuses(student.ConvStemViT, 1, 6, 2, 1, 2)
    assert_refuses(student.ConvStemViT, 1, width, width + 4, 1, 2)


@exercise("conv_stem_vit")
@points(2)
@public
@for_all(case=SHALLOW, corners=False)
def test_vit_without_blocks(student, case):
    """With depth 0 the class token meets no picture: the logits are W LN(cls) + b for every picture."""
    state, x = case.arguments().values()
    token = state["cls"] - state["cls"].mean()
    token = token / (token.square().mean() + 1e-5).sqrt() * state["norm.weight"] + state["norm.bias"]
    logits = (state["head.weight"] * token).sum(1) + state["head.bias"]
    assert_same(vit(student, case, 0)(state, x), logits.expand(case.B, case.n).contiguous())


@exercise("conv_stem_vit")
@points(1)
@public
@for_all(case=VIT, corners=False)
def test_vit_equal_positions(student, case):
    """A grid of equal positions does what the same vector in proj.bias does, for pictures of any size."""
    state, x = case.arguments().values()
    same = state["pos"][:, :1, :1]
    network = vit(student, case)
    got = network(state | {"pos": same.expand_as(state["pos"])}, x)
    moved = {"pos": torch.zeros_like(state["pos"]), "proj.bias": state["proj.bias"] + same.flatten()}
    assert_same(got, network(state | moved, x).detach(), "logits for a grid of equal positions")


@exercise("conv_stem_vit")
@points(2)
@public
@for_all(case=VIT, corners=False)
def test_vit_every_eighth_pixel(student, case):
    """If kernels are 0 but in the middle, only every eighth pixel counts, and without positions not their order."""
    state, _ = case.arguments().values()
    for name in ("conv1.weight", "conv2.weight", "conv3.weight"):
        kernel = torch.zeros_like(state[name])
        kernel[..., 1, 1] = state[name][..., 1, 1]
        state[name] = kernel
    state["pos"] = torch.zeros_like(state["pos"])
    x = torch.randn(1, case.c, 18, 26, generator=case.generator(3), dtype=torch.float64)  # 3 x 4 tokens
    network = vit(student, case)
    expected = network(state, x).detach()
    other = torch.randn(x.shape, generator=case.generator(4), dtype=x.dtype)
    order = torch.randperm(12, generator=case.generator(5))
    other[..., ::8, ::8] = x[..., ::8, ::8].flatten(2)[..., order].reshape(1, case.c, 3, 4)
    assert_same(network(state, other), expected, "logits after the twelve pixels that count were permuted")


@exercise("conv_stem_vit")
@points(1)
@public
@for_all(case=VIT, corners=False)
def test_vit_gradient_consistent(student, case):
    """The gradient, that of all parameters too, agrees with finite differences of your own network."""
    assert_gradient_consistent(vit(student, case), case, step=1e-7)


@exercise("conv_stem_vit")
@points(4)
@for_all(case=VIT)
def test_vit_values_and_gradients(student, reference, case):
    """Values and gradients are right for pictures, grids and heads of any size."""
    assert_equivalent(vit(student, case), vit(reference, case), case)


@exercise("conv_stem_vit")
@points(1)
@for_all(case=DEEP, corners=False)
def test_vit_two_blocks(student, reference, case):
    """With two blocks, values and gradients are right."""
    assert_equivalent(vit(student, case, 2), vit(reference, case, 2), case)


@exercise("conv_stem_vit")
@points(2)
@for_all(case=WIDE, corners=False)
def test_vit_float32_and_purity(student, reference, case):
    """Examples are independent, pictures are left alone, train and eval mode agree, and float32 is kept."""
    assert_batch_independent(vit(student, case), case, "x")
    state, x = case.but(dtype=torch.float32).arguments().values()
    network = student.ConvStemViT(case.c, 4 * case.q, case.heads, 1, case.n, case.G)
    network.load_state_dict(state)
    twin = reference.ConvStemViT(case.c, 4 * case.q, case.heads, 1, case.n, case.G)
    twin.load_state_dict(state)
    assert_pure(network, PICTURE.case({"B": case.B, "c": case.c, "H": case.H, "W": case.W}, seed=case.seed,
                                      dtype=torch.float32))
    trained, expected = network(x).detach(), twin(x).detach()
    network.eval()
    # Layer norms of few channels amplify roundings: a thousandth of the largest logit is far below any mistake.
    assert_same(trained, expected, "logits in float32", tolerance=1e-3)
    assert_same(network(x).detach(), trained, "logits in eval mode")


PICTURE = Cases(x=normal("B c H W"))


# ---------------------------------------------------------------------------------------------- transformer_xl_segment

def some_memory(generator, s):
    """A memory that is no leaf: finite differences would see through the stop of its gradient."""
    return torch.randn(s["B"], s["M"], s["h"] * s["d"], generator=generator, dtype=torch.float64)


MATRICES = {name: normal("h*d h*d") for name in ("w_q", "w_k", "w_v", "w_o")}
TXL = Cases(x=normal("B T h*d"), mem=normal("B M h*d"), params=MATRICES, heads=value_of("h"), mem_len=value_of("n"),
            sizes={"M": (0, 5), "n": (0, 9), "T": (1, 5, 33), "h": (1, 3), "d": (1, 3), "B": (1, 3)},
            also=[{"T": 4, "M": 4, "n": 4}, {"T": 2, "M": 5, "n": 4}, {"T": 3, "M": 0, "n": 2}])


@exercise("transformer_xl_segment")
@points(2)
@public
@for_all(case=TXL)
def test_txl_what_is_remembered(student, case):
    """The new memory holds the last positions of [mem; x] as they are, at most mem_len, and requires no gradient."""
    arguments = case.arguments()
    past = [*arguments["mem"].unbind(1), *arguments["x"].unbind(1)]
    past = past[max(len(past) - case.n, 0):]
    expected = torch.stack(past, dim=1) if past else torch.zeros(case.B, 0, case.h * case.d, dtype=case.dtype)
    arguments["x"].requires_grad_()
    _, memory = student.txl_layer(*arguments.values())
    assert_same(memory.detach(), expected, "new memory")
    assert_detached(("new_mem", memory))


@exercise("transformer_xl_segment")
@points(2)
@public
@for_all(case=TXL, corners=False)
def test_txl_two_segments(student, case):
    """Two segments with enough memory give what one long segment gives."""
    x, mem, params, heads, _ = case.arguments().values()
    both = torch.cat([x, x.flip(1) * 0.5], dim=1)
    nothing = mem[:, :0]
    whole, _ = student.txl_layer(both, nothing, params, heads, 0)
    first, memory = student.txl_layer(both[:, :case.T], nothing, params, heads, case.T + 1)
    second, _ = student.txl_layer(both[:, case.T:], memory.detach(), params, heads, 0)
    assert_same(first, whole[:, :case.T].detach(), "first segment")
    assert_same(second, whole[:, case.T:].detach(), "second segment")


@exercise("transformer_xl_segment")
@points(2)
@public
@for_all(case=TXL, corners=False)
def test_txl_reads_its_memory_without_gradient(student, case):
    """The oldest remembered position changes every output, yet the gradient of the memory is 0."""
    generator, C, heads, n = case.generator(3), case.h * case.d, case.h, case.n
    mem, x = (torch.randn(case.B, length, C, generator=generator, dtype=case.dtype).requires_grad_()
              for length in (3, case.T))
    # Small weights: where the softmax saturates, a position may be read with a weight that rounds to nothing.
    params = {name: 0.3 * torch.randn(C, C, generator=generator, dtype=case.dtype) for name in MATRICES}
    y, _ = student.txl_layer(x, mem, params, heads, n)
    probe = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    grad = torch.autograd.grad(y, [x, mem], probe, allow_unused=True)[1] if y.requires_grad else None
    if grad is not None:
        assert_same(grad, torch.zeros_like(grad), "gradient of mem")
    changed = mem.detach().clone()
    changed[:, 0] += 1
    other, _ = student.txl_layer(x.detach(), changed, params, heads, n)
    still = (other - y.detach()).abs().amax(-1) == 0
    if still.any():
        t = tuple(still.nonzero()[0].tolist())
        raise CheckFailure(f"the output at {t} (example, position) does not depend on the oldest remembered position.",
                           hint="Every position of the segment may read all of the memory.")


@exercise("transformer_xl_segment")
@points(1)
@public
@for_all(case=TXL, corners=False)
def test_txl_causal(student, case):
    """Changing position t changes no output before t."""
    t = case.seed % case.T
    def change(arguments):
        x = arguments["x"].clone()
        x[:, t] += 1
        return arguments | {"x": x}
    assert_invariant(lambda *arguments: student.txl_layer(*arguments)[0][:, :t], case, change,
                     f"position {t}, which lies later, changes")


@exercise("transformer_xl_segment")
@points(1)
@public
@for_all(case=TXL.but(mem=computed(some_memory)), corners=False)
def test_txl_gradient_consistent(student, case):
    """The gradient of y, memory aside, agrees with finite differences of your own function."""
    assert_gradient_consistent(lambda *arguments: student.txl_layer(*arguments)[0], case)


@exercise("transformer_xl_segment")
@points(4)
@for_all(case=TXL)
def test_txl_values_and_gradients(student, reference, case):
    """Output, memory and gradients are right for any sizes."""
    assert_equivalent(student.txl_layer, reference.txl_layer, case)


@exercise("transformer_xl_segment")
@points(1)
@for_all(case=TXL, corners=False)
def test_txl_float32_and_purity(student, reference, case):
    """Inputs are left alone, examples are independent, float32 is kept, and large inputs stay finite."""
    assert_pure(student.txl_layer, case)
    assert_batch_independent(student.txl_layer, case, "x", "mem")
    assert_equivalent(student.txl_layer, reference.txl_layer, case.but(dtype=torch.float32))
    assert_finite_at(student.txl_layer, case, scale=30.0)


# ---------------------------------------------------------------------------------------------- rnn_transformer_block

def gru_state(prefix, width):
    """The parameters of an nn.GRUCell as wide as its input."""
    parts = {"weight_ih": f"3*{width} {width}", "weight_hh": f"3*{width} {width}", "bias_ih": f"3*{width}",
             "bias_hh": f"3*{width}"}
    return {f"{prefix}rnn.{name}": normal(dims) for name, dims in parts.items()}


LOCAL = Cases(state=gru_state("", "C"), x=normal("B T C"), flags={"window": (3, 1, 2, 6)},
              sizes={"T": (1, 6, 20), "C": (1, 4), "B": (1, 3)})
RBLOCK = Cases(state={**gru_state("local.", "h*d"), "qkv.weight": normal("3*h*d h*d"), "out.weight": normal("h*d h*d"),
                      **linear_state("linear1", "F", "h*d"), **linear_state("linear2", "h*d", "F"),
                      **norm_state("norm1", "h*d"), **norm_state("norm2", "h*d"), **norm_state("norm3", "h*d")},
               x=normal("B T h*d"), flags={"window": (2, 1, 4)},
               sizes={"T": (1, 6), "h": (1, 3), "d": (2, 4), "F": (1, 6), "B": (1, 3)})


def local_rnn(notebook, case):
    """A notebook's local RNN as a function of its state and the sequence."""
    return function_of(notebook.LocalRNN, case.C, case.window)


def r_block(notebook, case):
    """A notebook's block as a function of its state and the sequence."""
    return function_of(notebook.RTransformerBlock, case.h * case.d, case.h, case.F, case.window)


@exercise("rnn_transformer_block")
@points(1)
@public
@for_all(case=RBLOCK, corners=False)
def test_rblock_contract(student, case):
    """The state_dict has the contract's keys; impossible heads and windows raise ValueError."""
    width = case.h * case.d
    block = student.RTransformerBlock(width, case.h, case.F, case.window)
    assert_state_dict(block, {name: part.shape for name, part in case.arguments()["state"].items()})
    assert_refuses(student.RTransformerBlock, width, width + 1, case.F, case.window)
    assert_refuses(student.RTransformerBlock, width, case.h, case.F, 0)
    assert_refuses(student.LocalRNN, width, 0)


@exercise("rnn_transformer_block")
@points(2)
@public
@for_all(case=LOCAL, corners=False)
def test_local_sees_its_window(student, case):
    """The local RNN's output at t depends on the inputs t-w+1 to t, and on no other."""
    state, x = case.arguments().values()
    local, w = local_rnn(student, case), case.window
    x = torch.cat([x, x.flip(1), x[:, :1]], dim=1)
    before, j = local(state, x).detach(), case.seed % x.shape[1]
    x = x.clone()
    x[:, j] += 0.5
    moved = ((local(state, x) - before).abs().amax(dim=(0, 2)) > 0).tolist()
    expected = [j <= t < j + w for t in range(len(moved))]
    if moved != expected:
        wrong = [t for t in range(len(moved)) if moved[t] != expected[t]]
        reaches = "reaches" if moved[wrong[0]] else "does not reach"
        raise CheckFailure(f"with a window of {w}, a change of input {j} {reaches} output {wrong[0]}.",
                           hint="The window of output t ends at t and holds w positions.")


@exercise("rnn_transformer_block")
@points(2)
@public
@for_all(case=LOCAL, corners=False)
def test_local_zeros_in_front(student, case):
    """Zero vectors in front of a sequence change nothing: that is what stands before the first position anyway."""
    state, x = case.arguments().values()
    local = local_rnn(student, case)
    longer = torch.cat([torch.zeros_like(x[:, :1]).expand(-1, 2, -1), x], dim=1)
    assert_same(local(state, longer)[:, 2:], local(state, x).detach(), "output behind two zero vectors")


@exercise("rnn_transformer_block")
@points(1)
@public
@for_all(case=LOCAL, corners=False)
def test_local_one_step(student, case):
    """A window of 1 is one step of a GRU from the state 0."""
    state, x = case.arguments().values()
    ih = torch.einsum("gc,btc->btg", state["rnn.weight_ih"], x) + state["rnn.bias_ih"]
    r, z, n = ih.split(case.C, dim=-1)
    br, bz, bn = state["rnn.bias_hh"].split(case.C)
    expected = torch.sigmoid(-z - bz) * torch.tanh(n + torch.sigmoid(r + br) * bn)
    assert_same(function_of(student.LocalRNN, case.C, 1)(state, x), expected, "output with a window of 1")


@exercise("rnn_transformer_block")
@points(1)
@public
@for_all(case=RBLOCK, corners=False)
def test_rblock_causal_and_normalized(student, case):
    """The block is causal, and its output is a layer normalization: with norm3 undone, its mean is 0."""
    state, x = case.arguments().values()
    width, t = case.h * case.d, case.seed % case.T
    state |= {"norm3.weight": torch.ones(width, dtype=x.dtype), "norm3.bias": torch.zeros(width, dtype=x.dtype)}
    block = r_block(student, case)
    before = block(state, x).detach()
    assert_same(before.mean(-1), torch.zeros(case.B, case.T, dtype=x.dtype), "mean over the channels")
    x = x.clone()
    x[:, t] -= 1
    assert_same(block(state, x)[:, :t], before[:, :t], f"outputs before position {t}, which was changed,")


@exercise("rnn_transformer_block")
@points(1)
@public
@for_all(case=RBLOCK, corners=False)
def test_rblock_gradient_consistent(student, case):
    """The gradient, that of all parameters too, agrees with finite differences of your own block."""
    assert_gradient_consistent(r_block(student, case), case, step=1e-7)


def window_by_window(state, x):
    """PyTorch's own GRU, run over the window of each position by itself."""
    w, C = window_by_window.window, x.shape[2]
    gru = nn.GRU(C, C, batch_first=True).double()
    theirs = {f"{name.removeprefix('rnn.')}_l0": part.contiguous() for name, part in state.items()}
    padded = F.pad(x, (0, 0, w - 1, 0))
    last = [torch.func.functional_call(gru, theirs, (padded[:, t:t + w].contiguous(),))[1][0]
            for t in range(x.shape[1])]
    return torch.stack(last, dim=1)


@exercise("rnn_transformer_block")
@points(3)
@for_all(case=LOCAL)
def test_local_values_and_gradients(student, case):
    """LocalRNN: values and gradients, those of the parameters too, are those of a GRU over each window."""
    window_by_window.window = case.window
    assert_equivalent(local_rnn(student, case), window_by_window, case)


@exercise("rnn_transformer_block")
@points(3)
@for_all(case=RBLOCK)
def test_rblock_values_and_gradients(student, reference, case):
    """RTransformerBlock: values and gradients, those of the parameters too, are right for any sizes."""
    assert_equivalent(r_block(student, case), r_block(reference, case), case)


@exercise("rnn_transformer_block")
@points(1)
@for_all(case=RBLOCK, corners=False)
def test_rblock_float32_and_purity(student, reference, case):
    """Inputs are left alone, examples are independent, and float32 is kept."""
    assert_batch_independent(r_block(student, case), case, "x")
    block = student.RTransformerBlock(case.h * case.d, case.h, case.F, case.window)
    assert_pure(block, SEQUENCE.case({"B": case.B, "T": case.T, "C": case.h * case.d}, seed=case.seed,
                                     dtype=torch.float32))
    narrow = LOCAL.case({"B": case.B, "T": case.T, "C": case.d}, {"window": case.window}, seed=case.seed,
                        dtype=torch.float32)
    assert_equivalent(local_rnn(student, narrow), local_rnn(reference, narrow), narrow)


SEQUENCE = Cases(x=normal("B T C"))
