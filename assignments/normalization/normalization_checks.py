"""The public checks of normalization.ipynb. Made by `autograder build` from the course; do not edit."""

import math

import torch
import torch.nn.functional as F
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure
from etude.properties import (
    assert_batch_independent,
    assert_detached,
    assert_eval_deterministic,
    assert_gradient_consistent,
    assert_invariant,
    assert_refuses,
    assert_state_dict,
    gradients,
)
from etude.strategies import Argument, Cases, for_all, normal, positive, value_of

EPS = (1e-5, 0.5)
TINY = 1e-14  # an eps that is too small to see: what holds without eps holds to nine digits


def image():
    """(B, C), (B, C, H) or (B, C, H, W) standard normal values, as the flag `rank` says."""
    def make(generator, _, s):
        shape = (s["B"], s["C"], s["H"], s["W"])[:s["rank"]]
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    return Argument("", make, floating=True)


def tokens():
    """(D,), (T, D) or (B, T, D) standard normal values, as the flag `rank` says."""
    def make(generator, _, s):
        shape = (s["B"], s["T"], s["D"])[-s["rank"]:]
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    return Argument("", make, floating=True)


def along_channels(vector, x):
    """(C,) as a tensor that broadcasts over the other axes of x (B, C, *)."""
    return vector[(None, slice(None), *[None] * (x.dim() - 2))]


def spread(values, dim):
    """(mean, biased variance) along `dim`."""
    return values.mean(dim), torch.var(values, dim, correction=0)


def all_finite(named):
    """No NaN or infinity in any of the (name, tensor) pairs."""
    for name, tensor in named:
        if not torch.isfinite(tensor).all():
            raise CheckFailure(f"{name} is not finite where all values are equal.",
                               hint="The variance is 0 there, and the slope of the root at 0 is infinite: "
                                    "eps belongs under the root.")


def batched(s):
    """The normalization has more than one value for each channel."""
    return s["B"] * math.prod((s["H"], s["W"])[:s["rank"] - 2]) > 1


BN = Cases(x=image(), w=normal("C"), b=normal("C"), running_mean=normal("C"), running_var=positive("C"),
           momentum=value_of("momentum"), eps=value_of("eps"), training=value_of("training"),
           sizes={"B": (1, 5), "C": (1, 5), "H": (1, 5, 33), "W": (1, 5)},
           flags={"rank": (4, 2, 3), "momentum": (0.1, 0.3, 0.0, 1.0), "eps": EPS, "training": (True, False)},
           legal=lambda s: not s["training"] or batched(s), also=[{"B": 1}, {"B": 2, "C": 2, "H": 1, "W": 1}])
BN_WIDE = Cases(x=image(), w=normal("C"), b=normal("C"), running_mean=normal("C"), running_var=positive("C"),
                momentum=value_of("momentum"), eps=value_of("eps"), training=value_of("training"),
                sizes={"B": (3, 6), "C": (1, 5), "H": (3, 6), "W": (3, 6)},
                flags={"rank": (4, 3), "momentum": (0.1, 0.3), "eps": EPS, "training": (True, False)})
IMAGES = Cases(x=normal("B C H W"), sizes={"B": (2, 4), "H": (1, 4), "W": (2, 5)})


@exercise("batch_norm")
@points(1)
@public
@for_all(case=BN)
def test_bn_moments_in_training(student, case):
    """In training every channel has mean b and variance w²·v / (v + eps), with the biased variance v of the batch."""
    arguments = case.arguments() | {"training": True}
    if not batched({**case.sizes, **case.flags}):
        return
    y, _, _ = student.batch_norm(*arguments.values())
    _, v = spread(arguments["x"].transpose(0, 1).flatten(1), 1)
    mean, var = spread(y.detach().transpose(0, 1).flatten(1), 1)
    assert_same(mean, arguments["b"] + 0, "mean of the channels")
    assert_same(var, arguments["w"] ** 2 * (v / (v + case.eps)), "variance of the channels")


@exercise("batch_norm")
@points(2)
@public
@for_all(case=BN_WIDE)
def test_bn_running_statistics(student, case):
    """Training moves the running mean and the running unbiased variance by the share `momentum` towards the batch's."""
    arguments = case.arguments() | {"training": True}
    _, new_mean, new_var = student.batch_norm(*arguments.values())
    values = arguments["x"].transpose(0, 1).flatten(1)
    for name, new, old, batch in (("new_mean", new_mean, arguments["running_mean"], values.mean(1)),
                                  ("new_var", new_var, arguments["running_var"], torch.var(values, 1))):
        assert_same(new.detach(), old + case.momentum * (batch - old), name)
        assert_detached((name, new))


@exercise("batch_norm")
@points(2)
@public
@for_all(case=BN, corners=False)
def test_bn_evaluation(student, case):
    """In evaluation the running mean becomes b, one running deviation more becomes w + b, and nothing is updated."""
    arguments = case.arguments() | {"training": False}
    x, w, b, mean, var = (arguments[name] for name in ("x", "w", "b", "running_mean", "running_var"))
    for steps in (0, 1):
        arguments["x"] = along_channels(mean + steps * (var + case.eps).sqrt(), x).expand_as(x)
        y, new_mean, new_var = student.batch_norm(*arguments.values())
        assert_same(y.detach(), along_channels(b + steps * w, x).expand_as(x).contiguous(),
                    "output one deviation above the mean" if steps else "output at the running mean")
    assert_same([new_mean.detach(), new_var.detach()], [mean, var], "running statistics after evaluation")


@exercise("batch_norm")
@points(1)
@public
@for_all(case=BN_WIDE, corners=False)
def test_bn_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    def output(x, w, b, running_mean, running_var, *rest):
        return student.batch_norm(x, w, b, running_mean.detach(), running_var.detach(), *rest)[0]
    fixed = Cases(x=image(), w=normal("C"), b=normal("C"), sizes=BN_WIDE.sizes, flags=BN_WIDE.flags)

    def of_three(x, w, b):
        return output(x, w, b, *list(case.arguments().values())[3:])
    assert_gradient_consistent(of_three, fixed.case(case.sizes, case.flags, seed=case.seed))


@exercise("batch_norm")
@points(1)
@public
@for_all(case=BN, corners=False)
def test_bn_constant_channel(student, case):
    """A channel in which all values are equal becomes b, with finite gradients; one single value is a ValueError."""
    arguments = case.arguments() | {"training": True}
    lonely = arguments | {"x": arguments["x"][:1].flatten(2)[..., :1] if case.rank > 2 else arguments["x"][:1]}
    assert_refuses(student.batch_norm, *lonely.values())
    x = along_channels(arguments["running_mean"], arguments["x"]).expand(3, *arguments["x"].shape[1:]).clone()
    y, _, _ = student.batch_norm(*(arguments | {"x": x.requires_grad_()}).values())
    assert_same(y.detach(), along_channels(arguments["b"], x).expand_as(x).contiguous())
    if y.requires_grad:
        cotangent = torch.randn(y.shape, generator=case.generator(), dtype=y.dtype)
        (found,) = torch.autograd.grad(y, x, cotangent, allow_unused=True)
        all_finite([("the gradient of x", x * 0 if found is None else found)])


@exercise("batch_norm")
@points(2)
@public
@for_all(case=IMAGES, corners=False)
def test_bn_module_modes(student, case):
    """BatchNorm2d: training normalizes with the batch and updates the buffers; evaluation uses and keeps them."""
    layer = student.BatchNorm2d(case.C, momentum=0.25, eps=0.01).double()
    (x,) = case.arguments().values()
    assert_state_dict(layer, {name: (case.C,) for name in ("weight", "bias", "running_mean", "running_var")})
    values = x.transpose(0, 1).flatten(1)
    mean, var = spread(values, 1)
    normalized = (x - along_channels(mean, x)) / along_channels((var + 0.01).sqrt(), x)
    assert_same(layer(x).detach(), normalized, "output of a new layer in training")
    assert_same(layer.running_mean, values.mean(1) * 0.25, "running_mean after one batch")
    assert_same(layer.running_var, 0.75 + 0.25 * torch.var(values, 1), "running_var after one batch")
    assert_detached(("running_mean", layer.running_mean), ("running_var", layer.running_var))
    assert_eval_deterministic(layer, x)
    layer.eval()
    expected = (x - along_channels(layer.running_mean, x)) / along_channels((layer.running_var + 0.01).sqrt(), x)
    assert_same(layer(x).detach(), expected, "output in evaluation")


LN = Cases(x=tokens(), w=normal("D"), b=normal("D"), eps=value_of("eps"),
           sizes={"B": (1, 4), "T": (1, 5), "D": (1, 6, 70)}, flags={"rank": (3, 1, 2), "eps": EPS},
           also=[{"T": 4, "D": 4}, {"B": 3, "T": 3, "D": 3}])
LN_WIDE = Cases(x=tokens(), w=normal("D"), b=normal("D"), eps=value_of("eps"),
                sizes={"B": (1, 4), "T": (1, 5), "D": (8, 16)}, flags={"rank": (3, 1, 2), "eps": EPS})


@exercise("layer_norm_fwd_bwd")
@points(1)
@public
@for_all(case=LN)
def test_ln_moments(student, case):
    """With w = 1 and b = 0 every token has mean 0 and variance v / (v + eps), with its biased variance v."""
    arguments = case.arguments()
    x, w, b, eps = arguments.values()
    y = student.layer_norm(x, torch.ones_like(w), torch.zeros_like(b), eps).detach()
    _, v = spread(x, -1)
    assert_same(spread(y, -1), (torch.zeros_like(v), v / (v + eps)), "(mean, variance)")


@exercise("layer_norm_fwd_bwd")
@points(1)
@public
@for_all(case=LN, corners=False)
def test_ln_shift_and_scale(student, case):
    """Shifting a token changes nothing; neither does scaling it, if eps is scaled by the square."""
    shift = 3 * torch.randn(1, generator=case.generator(3), dtype=torch.float64)

    def change(arguments):
        return arguments | {"x": arguments["x"] * 2.5 + shift, "eps": arguments["eps"] * 2.5 ** 2}
    assert_invariant(student.layer_norm, case, change, "x becomes 2.5·x + shift and eps becomes 2.5²·eps")


@exercise("layer_norm_fwd_bwd")
@points(1)
@public
@for_all(case=LN, corners=False)
def test_ln_tokens_are_independent(student, case):
    """Every token is computed by itself; a constant one becomes b, with finite gradients."""
    arguments = case.arguments()
    x, w, b, eps = arguments.values()
    whole = student.layer_norm(x, w, b, eps).detach().reshape(-1, case.D)
    last = x.reshape(-1, case.D)[-1]
    assert_same(student.layer_norm(last, w, b, eps).detach(), whole[-1], "the last token computed alone")

    def constant(x, w, b, eps):
        return student.layer_norm(x[..., :1].expand_as(x), w, b, eps)
    y, found = gradients(constant, case)
    assert_same(y.detach(), b.expand_as(x).contiguous(), "output for constant tokens")
    all_finite(zip(("the gradient of x", "the gradient of w", "the gradient of b"), found, strict=True))


@exercise("layer_norm_fwd_bwd")
@points(2)
@public
@for_all(case=LN_WIDE)
def test_ln_gradient_is_a_projection(student, case):
    """The gradient of x has no part along the ones, and for w = 1 none along the normalized token."""
    arguments = case.arguments()
    x, w, b, _ = arguments.values()
    for weight, directions in ((w, ("the ones",)), (torch.ones_like(w), ("the ones", "the normalized token"))):
        leaf = x.detach().clone().requires_grad_()
        y = student.layer_norm(leaf, weight, b, TINY)
        cotangent = torch.randn(x.shape, generator=case.generator(), dtype=x.dtype)
        (found,) = torch.autograd.grad(y, leaf, cotangent, allow_unused=True) if y.requires_grad else (None,)
        if found is None or not found.any():
            raise CheckFailure("no gradient arrives at x.", hint="`backward` returns one for each of x, w and b.")
        parts = {"the ones": torch.ones_like(x), "the normalized token": (y.detach() - b) / weight}
        for name in directions:
            part = (found * parts[name]).sum(-1)
            assert_same(part, torch.zeros_like(part), f"part of the gradient along {name}")


@exercise("layer_norm_fwd_bwd")
@points(1)
@public
@for_all(case=LN)
def test_ln_gradient_consistent(student, case):
    """The gradients of x, w and b agree with finite differences of your own function."""
    assert_gradient_consistent(student.layer_norm, case.but(layout="contiguous"))


INSTANCE = Cases(x=normal("B C H W"), w=normal("C"), b=normal("C"), eps=value_of("eps"),
                 sizes={"B": (1, 4), "C": (1, 5), "H": (1, 5, 33), "W": (1, 5)}, flags={"eps": EPS},
                 legal=lambda s: s["H"] * s["W"] > 1, also=[{"B": 3, "C": 3, "H": 3, "W": 3}])
INSTANCE_WIDE = Cases(x=normal("B C H W"), w=normal("C"), b=normal("C"), eps=value_of("eps"),
                      sizes={"B": (1, 4), "C": (1, 5), "H": (3, 6), "W": (4, 6)}, flags={"eps": EPS})


@exercise("instance_norm")
@points(2)
@public
@for_all(case=INSTANCE)
def test_in_moments(student, case):
    """Every plane of channel c has mean b and variance w²·v / (v + eps), with the plane's biased variance v."""
    x, w, b, eps = case.arguments().values()
    y = student.instance_norm(x, w, b, eps).detach()
    _, v = spread(x.flatten(2), -1)
    mean, var = spread(y.flatten(2), -1)
    assert_same(mean, b.expand(case.B, -1).contiguous(), "mean of the planes")
    assert_same(var, w ** 2 * v / (v + eps), "variance of the planes")


@exercise("instance_norm")
@points(1)
@public
@for_all(case=INSTANCE_WIDE, corners=False)
def test_in_contrast_is_forgotten(student, case):
    """Another brightness and contrast for every plane changes nothing (with an eps too small to see)."""
    planes = (case.B, case.C, 1, 1)
    contrast = torch.rand(planes, generator=case.generator(3), dtype=torch.float64) + 0.5
    brightness = torch.randn(planes, generator=case.generator(4), dtype=torch.float64)

    def change(arguments):
        return arguments | {"x": arguments["x"] * contrast + brightness}

    def without_eps(x, w, b, _):
        return student.instance_norm(x, w, b, TINY)
    assert_invariant(without_eps, case, change, "planes get another brightness and contrast")


@exercise("instance_norm")
@points(1)
@public
@for_all(case=INSTANCE, corners=False)
def test_in_edges(student, case):
    """Examples are independent, a constant plane becomes b with finite gradients, one position is a ValueError."""
    assert_batch_independent(student.instance_norm, case, "x")
    x, w, b, eps = case.arguments().values()
    assert_refuses(student.instance_norm, x[:, :, :1, :1], w, b, eps)

    def constant(x, w, b, eps):
        return student.instance_norm(x[:, :, :1, :1].expand_as(x), w, b, eps)
    y, found = gradients(constant, case)
    assert_same(y.detach(), along_channels(b, x).expand_as(x).contiguous(), "output for constant planes")
    all_finite(zip(("the gradient of x", "the gradient of w", "the gradient of b"), found, strict=True))


@exercise("instance_norm")
@points(1)
@public
@for_all(case=INSTANCE, corners=False)
def test_in_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.instance_norm, case.but(layout="contiguous"))


def channels():
    """(B, G*R), (B, G*R, H) or (B, G*R, H, W) standard normal values, as the flag `rank` says."""
    def make(generator, _, s):
        shape = (s["B"], s["G"] * s["R"], s["H"], s["W"])[:s["rank"]]
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    return Argument("", make, floating=True)


GROUP = Cases(x=channels(), G=value_of("G"), w=normal("G*R"), b=normal("G*R"), eps=value_of("eps"),
              sizes={"B": (1, 4), "G": (1, 4), "R": (1, 4), "H": (1, 5, 33), "W": (1, 5)},
              flags={"rank": (4, 2, 3), "eps": EPS}, also=[{"G": 2, "R": 2, "B": 4, "H": 4, "W": 4}])
GROUP_WIDE = Cases(x=channels(), G=value_of("G"), w=normal("G*R"), b=normal("G*R"), eps=value_of("eps"),
                   sizes={"B": (1, 4), "G": (1, 4), "R": (1, 4), "H": (5, 7), "W": (3, 6)},
                   flags={"rank": (4, 3), "eps": EPS})


@exercise("group_norm")
@points(2)
@public
@for_all(case=GROUP)
def test_gn_moments(student, case):
    """With w = 1 and b = 0 every group of neighbours has mean 0 and variance v / (v + eps), v being biased."""
    x, G, w, b, eps = case.arguments().values()
    y = student.group_norm(x, G, torch.ones_like(w), torch.zeros_like(b), eps).detach()
    for g, (before, after) in enumerate(zip(x.chunk(G, dim=1), y.chunk(G, dim=1), strict=True)):
        _, v = spread(before.flatten(1), -1)
        assert_same(spread(after.flatten(1), -1), (torch.zeros_like(v), v / (v + eps)),
                    f"(mean, variance) of group {g}")


@exercise("group_norm")
@points(1)
@public
@for_all(case=GROUP)
def test_gn_affine_per_channel(student, case):
    """w and b belong to the channels: the output is w[c] times what w = 1, b = 0 gives, plus b[c]."""
    x, G, w, b, eps = case.arguments().values()
    plain = student.group_norm(x, G, torch.ones_like(w), torch.zeros_like(b), eps).detach()
    y = student.group_norm(x, G, w, b, eps).detach()
    assert_same(y, torch.stack([p * s + t for p, s, t in zip(plain.unbind(1), w, b, strict=True)], dim=1))


@exercise("group_norm")
@points(1)
@public
@for_all(case=GROUP_WIDE, corners=False)
def test_gn_rescaled_group(student, case):
    """Rescaling and shifting one group of one example changes nothing (with an eps too small to see)."""
    def change(arguments):
        x = arguments["x"].clone()
        first = x[0].chunk(case.G)[-1]
        first.copy_(first * 3 - 2)
        return arguments | {"x": x}

    def without_eps(x, G, w, b, _):
        return student.group_norm(x, G, w, b, TINY)
    assert_invariant(without_eps, case, change, "the last group of the first example is scaled and shifted")


@exercise("group_norm")
@points(1)
@public
@for_all(case=GROUP, corners=False)
def test_gn_edges(student, case):
    """Constant groups become b with finite gradients; a G that does not divide C is a ValueError."""
    x, G, w, b, eps = case.arguments().values()
    assert_refuses(student.group_norm, x, case.G * case.R + 1, w, b, eps)

    def constant(x, G, w, b, eps):
        return student.group_norm(x[:, :1].expand_as(x) * 0 + 2, G, w, b, eps)
    y, found = gradients(constant, case)
    assert_same(y.detach(), along_channels(b, x).expand_as(x).contiguous(), "output for constant groups")
    all_finite(zip(("the gradient of x", "the gradient of w", "the gradient of b"), found, strict=True))


@exercise("group_norm")
@points(1)
@public
@for_all(case=GROUP, corners=False)
def test_gn_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.group_norm, case.but(layout="contiguous"))


RMS = Cases(x=tokens(), w=normal("D"), eps=value_of("eps"),
            sizes={"B": (1, 4), "T": (1, 5), "D": (1, 6, 70)}, flags={"rank": (3, 1, 2), "eps": (1e-6, 0.5)},
            also=[{"T": 4, "D": 4}])


@exercise("rms_norm")
@points(2)
@public
@for_all(case=RMS)
def test_rms_of_the_output(student, case):
    """With w = 1 the squares of every token have the mean r / (r + eps), r being their mean before; signs stay."""
    x, w, eps = case.arguments().values()
    y = student.rms_norm(x, torch.ones_like(w), eps).detach()
    r = x.pow(2).mean(-1)
    assert_same(y.pow(2).mean(-1), r / (r + eps), "mean square of the output")
    assert_same(y.sign(), x.sign(), "signs")


@exercise("rms_norm")
@points(1)
@public
@for_all(case=RMS, corners=False)
def test_rms_is_scale_equivariant(student, case):
    """Scaling a token by c changes nothing but its sign, if eps is scaled by c²; the others do not matter."""
    x, w, eps = case.arguments().values()
    whole = student.rms_norm(x, w, eps).detach()
    assert_same(student.rms_norm(-3 * x, w, 9 * eps).detach(), -whole, "output for -3·x and 9·eps")
    last = student.rms_norm(x.reshape(-1, case.D)[-1], w, eps).detach()
    assert_same(last, whole.reshape(-1, case.D)[-1], "the last token computed alone")


@exercise("rms_norm")
@points(1)
@public
@for_all(case=RMS, corners=False)
def test_rms_zero_token(student, case):
    """A token of zeros stays one, and gradients are finite; they agree with finite differences elsewhere."""
    def zeros(x, w, eps):
        return student.rms_norm(x * 0, w, eps)
    y, found = gradients(zeros, case)
    assert_same(y.detach(), torch.zeros_like(case.arguments()["x"]), "output for zeros")
    all_finite(zip(("the gradient of x", "the gradient of w"), found, strict=True))
    assert_gradient_consistent(student.rms_norm, case.but(layout="contiguous"))


@exercise("rms_norm")
@points(1)
@public
@for_all(case=Cases(x=normal("T D", scale=300.0), w=normal("D"), sizes={"T": (1, 4), "D": (4, 70)},
                    flags={"half": (torch.float16, torch.bfloat16)}))
def test_rms_half_is_wide_inside(student, case):
    """float16 and bfloat16 are kept; squares and sums beyond their range do no harm."""
    half = dict(zip(("x", "w"), (t.to(case.half) for t in case.arguments().values()), strict=True))
    y = student.rms_norm(half["x"], half["w"], 1e-6)
    x, w = (t.double() for t in half.values())
    assert_same(y, (x * w / x.pow(2).mean(-1, keepdim=True).sqrt()).to(half["x"].dtype))


def kernel():
    """(O, I), (O, I, K) or (O, I, K, L) standard normal values, as the flag `rank` says."""
    def make(generator, _, s):
        shape = (s["O"], s["I"], s["K"], s["L"])[:s["rank"]]
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    return Argument("", make, floating=True)


FOLD = Cases(conv_w=kernel(), conv_b=normal("O"), bn_mean=normal("O"), bn_var=positive("O"), bn_w=normal("O"),
             bn_b=normal("O"), eps=value_of("eps"), sizes={"O": (1, 5), "I": (1, 5), "K": (1, 3), "L": (1, 3)},
             flags={"rank": (4, 2, 3), "eps": EPS}, also=[{"O": 3, "I": 3}])
SPECTRAL = Cases(W=normal("O I"), u=normal("O"), n_iter=value_of("n"), sizes={"n": (1, 4), "O": (1, 6), "I": (1, 6)},
                 also=[{"O": 4, "I": 4, "n": 2}])


@exercise("fold_bn")
@points(2)
@public
@for_all(case=FOLD)
def test_fold_is_conv_then_bn(student, case):
    """The folded layer gives what the layer followed by the normalization gives, for any input."""
    arguments = case.arguments()
    w, b, mean, var, gain, bias, eps = arguments.values()
    apply = {2: F.linear, 3: F.conv1d, 4: F.conv2d}[case.rank]
    x = torch.randn((2, case.I, 4, 5)[:case.rank], generator=case.generator(3), dtype=torch.float64)
    for name, conv_b in (("with", b), ("without", None)):
        y = apply(x, w, conv_b)
        expected = F.batch_norm(y, mean.contiguous(), var.contiguous(), gain, bias, False, 0.0, eps)
        folded = student.fold_bn(*(arguments | {"conv_b": conv_b}).values())
        assert_same([t.dtype for t in folded], [w.dtype, w.dtype], "dtypes")
        assert_same(apply(x, *(t.detach() for t in folded)), expected, f"output of the folded layer {name} a bias")


@exercise("fold_bn")
@points(1)
@public
@for_all(case=FOLD, corners=False)
def test_fold_identity(student, case):
    """Folding a normalization that does nothing (mean 0, variance 1 - eps, weight 1, bias 0) does nothing."""
    arguments = case.arguments()
    one, zero = torch.ones(case.O, dtype=torch.float64), torch.zeros(case.O, dtype=torch.float64)
    idle = {"bn_mean": zero, "bn_var": one - case.eps, "bn_w": one, "bn_b": zero}
    folded = student.fold_bn(*(arguments | idle).values())
    assert_same(folded, (arguments["conv_w"].contiguous(), arguments["conv_b"].contiguous()), "(w', b')")


@exercise("fold_bn")
@points(1)
@public
@for_all(case=Cases(a=normal("O"), b=normal("I"), u=normal("O"), n=value_of("n"), sizes={"n": (1, 3)}))
def test_spectral_rank_one(student, case):
    """For W = a·bᵀ one step finds σ = |a||b| from any u, and the new u is ±a / |a|."""
    a, b, u, n = case.arguments().values()
    unit_a, unit_b = a / a.square().sum().sqrt(), b / b.square().sum().sqrt()
    W_bar, new_u = student.spectral_normalize(torch.outer(a, b), u, n)
    assert_same(W_bar.detach(), torch.outer(unit_a, unit_b), "W / sigma")
    assert_same(new_u.detach(), unit_a * torch.sign(unit_a @ u), "the new u")


@exercise("fold_bn")
@points(1)
@public
@for_all(case=SPECTRAL, corners=False)
def test_spectral_step_by_step(student, case):
    """n iterations are n calls with one, each with the last u; u has length 1 and does not require a gradient."""
    W, u, n = case.arguments().values()
    W_bar, new_u = student.spectral_normalize(W, u, n)
    assert_same(new_u.detach().square().sum(), torch.tensor(1.0, dtype=torch.float64), "squared length of u")
    for _ in range(n):
        step, u = student.spectral_normalize(W, u, 1)
    assert_same([W_bar.detach(), new_u.detach()], [step.detach(), u.detach()], "(W / sigma, u)")
    assert_detached(("the new u", student.spectral_normalize(W.requires_grad_(), u.detach(), n)[1]))
    assert_refuses(student.spectral_normalize, W.detach(), u.detach(), 0)


@exercise("fold_bn")
@points(1)
@public
@for_all(case=SPECTRAL, corners=False)
def test_spectral_gradient_keeps_the_scale(student, case):
    """The output does not change when W is scaled, so the gradient of W has no part along W."""
    def change(arguments):
        return arguments | {"W": 2.5 * arguments["W"]}
    assert_invariant(student.spectral_normalize, case, change, "W is scaled")
    W, u, n = case.arguments().values()
    leaf = W.clone().requires_grad_()
    W_bar, _ = student.spectral_normalize(leaf, u, n)
    if not W_bar.requires_grad:
        raise CheckFailure("no gradient arrives at W.", hint="u and v are constants, W / sigma is not.")
    cotangent = torch.randn(W.shape, generator=case.generator(), dtype=W.dtype)
    (found,) = torch.autograd.grad(W_bar, leaf, cotangent)
    scale = float(found.abs().max() * W.abs().max()) + 1
    assert_same((found * W).sum() / scale, torch.tensor(0.0, dtype=W.dtype), "part of the gradient along W")
