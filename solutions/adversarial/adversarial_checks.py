"""Checks of the adversarial unit. Public ones need no reference: they state what the equations imply."""
import math

import torch
from etude.adapters import function_of
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure
from etude.properties import (
    assert_any_layout,
    assert_batch_independent,
    assert_equivalent,
    assert_eval_deterministic,
    assert_finite_at,
    assert_gradient_consistent,
    assert_invariant,
    assert_pure,
    assert_refuses,
    assert_shape,
    gradients,
)
from etude.strategies import Cases, computed, for_all, integers, normal, positive, value_of

# -------------------------------------------------------------------------------------------------- gan_losses

KINDS = ("ns", "minimax", "lsgan", "hinge", "wgan")
LOSS = Cases(real=normal("N", scale=2), fake=normal("M", scale=2), kind=value_of("kind"), flags={"kind": KINDS},
             sizes={"N": (1, 6), "M": (1, 6)})


@exercise("gan_losses")
@points(2)
@public
def test_losses_undecided(student):
    """At logits of 0: 2 log 2 and log 2 (ns) or -log 2 (minimax), 1/2 and 1/2 (lsgan), 2 and 0 (hinge), 0 (wgan)."""
    zero = torch.zeros(3, dtype=torch.float64)
    log2 = math.log(2)
    for kind, d, g in (("ns", 2 * log2, log2), ("minimax", 2 * log2, -log2), ("lsgan", 0.5, 0.5), ("hinge", 2, 0),
                       ("wgan", 0, 0)):
        losses = student.gan_losses(zero, zero[:2], kind)
        assert_same(losses, (zero[0] + d, zero[0] + g), f"losses of kind {kind}")


@exercise("gan_losses")
@points(2)
@public
@for_all(case=LOSS, corners=False)
def test_losses_pull_the_right_way(student, case):
    """Between -1 and 1: a higher real logit lowers d_loss; a higher fake one raises d_loss and lowers g_loss."""
    leaves = [torch.tanh(t).requires_grad_() for t in (case.arguments()["real"], case.arguments()["fake"])]
    d_loss, g_loss = student.gan_losses(*leaves, case.kind)
    by_real, by_fake = torch.autograd.grad(d_loss, leaves, retain_graph=True)
    (forged,) = torch.autograd.grad(g_loss, leaves[1:])
    # Least squares wants fake logits at 0 and real ones at 1: of it, only what holds on both sides of 0 is asked.
    for name, which, slope in (("d_loss", "real", by_real), ("d_loss", "fake", -by_fake), ("g_loss", "fake", forged)):
        if not (slope < 0).all() and (name, which, case.kind) != ("d_loss", "fake", "lsgan"):
            way = "rise" if (name, which) == ("d_loss", "fake") else "fall"
            raise CheckFailure(f"{name} of kind {case.kind!r} does not {way} when a {which} logit rises.",
                               hint="Both losses are minimised, and positive logits mean real.")


@exercise("gan_losses")
@points(1)
@public
@for_all(case=LOSS, corners=False)
def test_losses_are_means(student, case):
    """Having every fake sample twice changes neither loss: each batch has its own mean."""
    def change(arguments):
        return arguments | {"fake": torch.cat([arguments["fake"]] * 2)}
    assert_invariant(student.gan_losses, case, change, "every fake logit is there twice")


@exercise("gan_losses")
@points(1)
@public
def test_losses_kinds(student):
    """Any other kind raises ValueError."""
    for kind in ("", "NS", "vanilla"):
        assert_refuses(student.gan_losses, torch.zeros(2), torch.zeros(2), kind)


@exercise("gan_losses")
@points(4)
@for_all(case=LOSS)
def test_losses_values_and_gradients(student, reference, case):
    """Values and gradients are right for all kinds and batches of any two sizes."""
    assert_equivalent(student.gan_losses, reference.gan_losses, case)


@exercise("gan_losses")
@points(2)
@for_all(case=LOSS, corners=False)
def test_losses_float32(student, reference, case):
    """In float32 the losses are accurate, and finite with their gradients for logits of 1000; inputs are left alone."""
    assert_equivalent(student.gan_losses, reference.gan_losses, case.but(dtype=torch.float32))
    for kind in ("ns", "minimax"):
        large = LOSS.case(case.sizes, {"kind": kind}, seed=case.seed)
        assert_finite_at(student.gan_losses, large)
        assert_equivalent(student.gan_losses, reference.gan_losses, large.but(scale=500.0))
    assert_pure(student.gan_losses, case)


# -------------------------------------------------------------------------------------------------- wgan_gp

CRITIC = {"W": normal("H C*L"), "b": normal("H"), "a": normal("H"), "c": normal("C*L")}
GP = Cases(weights=CRITIC, real=normal("B C L"), fake=normal("B C L"), eps=positive("B", 0.0, 1.0),
           sizes={"B": (1, 4), "C": (1, 3), "L": (1, 3), "H": (1, 4)})
DATA_GIVEN = GP.but(real=computed(lambda g, s: torch.randn(s["B"], s["C"], s["L"], generator=g, dtype=torch.float64)),
                    fake=computed(lambda g, s: torch.randn(s["B"], s["C"], s["L"], generator=g, dtype=torch.float64)),
                    eps=computed(lambda g, s: torch.rand(s["B"], generator=g, dtype=torch.float64)))


def constant_data(function):
    """penalty_of_mlp with data that asks for no gradient: the contract calls it a constant."""
    return lambda weights, real, fake, eps: function(weights, real.detach(), fake.detach(), eps.detach())


def closed_form(weights, real, fake, eps):
    """The penalty of the critic of penalty_of_mlp, whose slope is known: no gradient is computed on the way."""
    share = eps.detach()[:, None]
    x = share * real.detach().flatten(1) + (1 - share) * fake.detach().flatten(1)
    bend = 1 - torch.tanh(x @ weights["W"].T + weights["b"]) ** 2
    slope = (bend * weights["a"]) @ weights["W"] + weights["c"]
    return ((slope.norm(dim=1) - 1) ** 2).mean()


def linear(weights, factor=1.0):
    """The same weights, with which the critic is factor * c . x."""
    return weights | {"a": torch.zeros_like(weights["a"]), "c": weights["c"] * factor}


@exercise("wgan_gp")
@points(2)
@public
@for_all(case=GP)
def test_penalty_of_a_linear_critic(student, case):
    """For D(x) = c · x the penalty is (|c| - 1)², whatever the samples."""
    weights, *data = case.arguments().values()
    penalty = student.penalty_of_mlp(linear(weights), *data)
    assert_same(penalty, (torch.linalg.vector_norm(weights["c"]) - 1) ** 2, "penalty")


@exercise("wgan_gp")
@points(2)
@public
@for_all(case=DATA_GIVEN, corners=False)
def test_penalty_trains_the_critic(student, case):
    """The penalty has a gradient with respect to the critic's weights, and it belongs to the values."""
    assert_gradient_consistent(student.penalty_of_mlp, case)


@exercise("wgan_gp")
@points(2)
@public
@for_all(case=GP)
def test_penalty_places(student, case):
    """eps = 1 penalises at the real samples only, eps = 0 at the fake ones, each example by its own share."""
    weights, real, fake, eps = case.arguments().values()
    ends = (eps > 0.5).to(eps.dtype)
    picked = torch.stack([r if e else f for r, f, e in zip(real, fake, ends, strict=True)])
    one = student.penalty_of_mlp(weights, real, fake, ends)
    other = student.penalty_of_mlp(weights, picked, picked, torch.full_like(eps, 0.5))
    assert_same(one, other.detach(), "penalty at the ends of the lines")


@exercise("wgan_gp")
@points(1)
@public
@for_all(case=DATA_GIVEN, corners=False)
def test_penalty_of_a_flat_critic(student, case):
    """Where the critic is flat the penalty is 1, and its gradient is finite."""
    def flat(weights, *data):
        return student.penalty_of_mlp(linear(weights, 0.0), *data)
    penalty, found = gradients(flat, case)
    assert_same(penalty, torch.ones_like(penalty), "penalty of a flat critic")
    if not all(torch.isfinite(gradient).all() for gradient in found):
        raise CheckFailure("the gradient of the penalty is not finite for a flat critic.",
                           hint="The root has an infinite slope at 0: which norms of torch know about it?")


@exercise("wgan_gp")
@points(4)
@for_all(case=GP)
def test_penalty_values_and_gradients(student, case):
    """The penalty and its gradients with respect to all weights of the critic are right."""
    assert_equivalent(constant_data(student.penalty_of_mlp), closed_form, case)


@exercise("wgan_gp")
@points(1)
@for_all(case=GP, corners=False)
def test_penalty_float32(student, reference, case):
    """In float32 it keeps the dtype; inputs are left alone; samples may have one axis or three."""
    assert_equivalent(student.penalty_of_mlp, reference.penalty_of_mlp, case.but(dtype=torch.float32))
    assert_pure(student.penalty_of_mlp, case)
    weights, real, fake, eps = case.arguments().values()
    whole = reference.penalty_of_mlp(weights, real, fake, eps).detach()
    for shape in ((case.B, case.C * case.L), (case.B, case.L, 1, case.C)):
        assert_same(student.penalty_of_mlp(weights, real.reshape(shape), fake.reshape(shape), eps), whole,
                    f"penalty for samples of shape {shape[1:]}")


# -------------------------------------------------------------------------------------------------- conditional_gan

STATE = {"embed.weight": normal("K E"), "fc1.weight": normal("H I"), "fc1.bias": normal("H"),
         "fc2.weight": normal("O H"), "fc2.bias": normal("O")}
SUM = {"derived": {"I": lambda s: s["Z"] + s["E"]}}
SIDES = {"Z": (1, 4), "K": (1, 4), "E": (1, 4), "H": (1, 4), "O": (1, 3), "B": (1, 5)}
COND = Cases(state=STATE, z=normal("B Z"), y=integers("B", 0, "K"), sizes=SIDES, **SUM)
PROJECT = Cases(phi=normal("B D"), y=integers("B", 0, "K"), V=normal("K D"), psi=normal("D"), b=normal(""),
                sizes={"B": (1, 5), "K": (1, 5)})


def cond_g(module_class, case):
    """The student's generator of the case's sizes, as a function of state, z and y."""
    return function_of(module_class, case.Z, case.K, case.E, case.H, case.O)


@exercise("conditional_gan")
@points(1)
@public
@for_all(case=COND, corners=False)
def test_cond_state_and_shape(student, case):
    """CondG: the state_dict has the contract's keys and shapes, and the output is (B, O), in the dtype of z."""
    for one in (case, case.but(dtype=torch.float32)):
        assert_shape(cond_g(student.CondG, one), one, case.B, case.O)


@exercise("conditional_gan")
@points(2)
@public
@for_all(case=COND, corners=False)
def test_cond_names_of_classes(student, case):
    """CondG: renumbering the classes, in the table and in the labels, changes nothing."""
    order = torch.randperm(case.K, generator=case.generator(3))

    def change(arguments):
        state = arguments["state"] | {"embed.weight": arguments["state"]["embed.weight"][order]}
        return arguments | {"state": state, "y": torch.argsort(order)[arguments["y"]]}
    assert_invariant(cond_g(student.CondG, case), case, change, "table and labels are renumbered")


@exercise("conditional_gan")
@points(2)
@public
@for_all(case=PROJECT)
def test_projection_difference(student, case):
    """projection_logit: two classes differ by the inner product of phi and the difference of their vectors."""
    phi, y, V, psi, b = case.arguments().values()
    other = (y + 1) % case.K
    got = student.projection_logit(phi, y, V, psi, b) - student.projection_logit(phi, other, V, psi, b)
    assert_same(got, torch.einsum("bd,bd->b", phi, V[y] - V[other]), "difference of the logits")


@exercise("conditional_gan")
@points(1)
@public
@for_all(case=PROJECT, corners=False)
def test_projection_rows(student, case):
    """projection_logit: with V = 0 it is psi · phi + b, and only the rows of V that occur have a gradient."""
    phi, y, V, psi, b = case.arguments().values()
    leaf = torch.zeros(V.shape, dtype=V.dtype, requires_grad=True)
    logits = student.projection_logit(phi, y, leaf, psi, b)
    assert_same(logits, torch.einsum("bd,d->b", phi, psi) + b)
    (found,) = torch.autograd.grad(logits.sum(), leaf)
    used = torch.zeros(case.K, dtype=torch.bool)
    used[y] = True
    assert_same((found != 0).any(-1), used, "rows of V that have a gradient")


@exercise("conditional_gan")
@points(1)
@public
@for_all(case=COND, corners=False)
def test_cond_unknown_labels(student, case):
    """Labels outside [0, K), negative ones too, raise IndexError."""
    z = torch.zeros(1, case.Z)
    one = torch.zeros(1)
    module = student.CondG(case.Z, case.K, case.E, case.H, case.O)
    for label in (-1, -case.K, case.K, case.K + 3):
        y = torch.tensor([label])
        assert_refuses(module, z, y, error="IndexError")
        assert_refuses(student.projection_logit, one[None], y, torch.zeros(case.K, 1), one, one[0], error="IndexError")


@exercise("conditional_gan")
@points(2)
@for_all(case=COND)
def test_cond_values_and_gradients(student, reference, case):
    """CondG: values are right, and so are the gradients of the noise, the table and all weights."""
    assert_equivalent(cond_g(student.CondG, case), cond_g(reference.CondG, case), case)


@exercise("conditional_gan")
@points(2)
@for_all(case=PROJECT)
def test_projection_values_and_gradients(student, reference, case):
    """projection_logit: values and all gradients are right."""
    assert_equivalent(student.projection_logit, reference.projection_logit, case)


@exercise("conditional_gan")
@points(1)
@for_all(case=PROJECT, corners=False)
def test_cond_float32_and_purity(student, reference, case):
    """Both keep float32, leave inputs alone and treat examples one by one; CondG does so in evaluation mode, too."""
    assert_equivalent(student.projection_logit, reference.projection_logit, case.but(dtype=torch.float32))
    assert_pure(student.projection_logit, case)
    assert_batch_independent(student.projection_logit, case, "phi", "y")
    module = student.CondG(2, case.K, 3, case.D, 2)
    z = torch.randn(case.B, 2, generator=case.generator(4))
    y = case.arguments()["y"]
    trained = module(z, y).detach()
    assert_eval_deterministic(module, z, y)
    assert_same(module.eval()(z, y), trained, "output in evaluation mode")


# -------------------------------------------------------------------------------------------------- modulated_conv2d

MOD = Cases(x=normal("B C A D"), w=normal("O C K K"), s=normal("B C"), eps=value_of("eps"),
            sizes={"B": (1, 3), "C": (1, 4), "O": (1, 4), "A": (1, 5), "D": (1, 5), "half": (0, 1)},
            derived={"K": lambda s: 2 * s["half"] + 1}, flags={"eps": (1e-8, 0.5)})


@exercise("modulated_conv2d")
@points(2)
@public
@for_all(case=MOD, corners=False)
def test_modulated_scale(student, case):
    """With eps = 0, multiplying the styles of an example by a positive number, or all weights, changes nothing."""
    factors = 0.5 + torch.rand(case.B, 1, generator=case.generator(3), dtype=torch.float64)
    for which, factor in (("s", factors), ("w", 3.0)):
        assert_invariant(lambda x, w, s, _: student.modulated_conv2d(x, w, s, 0.0), case,
                         lambda arguments, which=which, factor=factor: arguments | {which: arguments[which] * factor},
                         f"{which} is multiplied by a positive number")


@exercise("modulated_conv2d")
@points(2)
@public
@for_all(case=MOD)
def test_modulated_unit_variance(student, case):
    """With eps = 0 the kernel of each output has norm 1: white noise of variance 1 keeps its variance."""
    _, w, s, _ = case.arguments().values()
    centre = case.K // 2
    # The response to an impulse in each channel is the kernel: one image for each channel, all with one style.
    impulses = torch.zeros(case.C, case.C, case.K, case.K, dtype=w.dtype)
    impulses[torch.arange(case.C), torch.arange(case.C), centre, centre] = 1
    response = student.modulated_conv2d(impulses, w, s[:1].expand(case.C, -1), 0.0)
    energy = response.pow(2).sum(dim=(0, 2, 3))
    assert_same(energy, torch.ones_like(energy), "squared norm of the kernel of each output")


@exercise("modulated_conv2d")
@points(1)
@public
@for_all(case=MOD, corners=False)
def test_modulated_examples_apart(student, case):
    """Every example is convolved with the kernel of its own style."""
    assert_batch_independent(student.modulated_conv2d, case, "x", "s")


@exercise("modulated_conv2d")
@points(1)
@public
@for_all(case=MOD, corners=False)
def test_modulated_single_channel(student, case):
    """A style that is 0 but for one channel reads that channel alone, by the sign of the style."""
    x, w, s, eps = case.arguments().values()
    chosen = case.seed % case.C
    only = torch.zeros_like(s)
    only[:, chosen] = torch.tensor([(-1.0) ** i for i in range(case.B)], dtype=s.dtype)
    kernels = w[:, chosen:chosen + 1] / (w[:, chosen:chosen + 1].pow(2).sum(dim=(1, 2, 3), keepdim=True) + eps) ** 0.5
    expected = torch.nn.functional.conv2d(x[:, chosen:chosen + 1], kernels, padding=case.K // 2)
    assert_same(student.modulated_conv2d(x, w, only, eps), expected * only[:, chosen, None, None, None])


@exercise("modulated_conv2d")
@points(5)
@for_all(case=MOD)
def test_modulated_values_and_gradients(student, reference, case):
    """Values and gradients of images, weights and styles are right for any sizes and memory layouts."""
    assert_equivalent(student.modulated_conv2d, reference.modulated_conv2d, case)


@exercise("modulated_conv2d")
@points(1)
@for_all(case=MOD, corners=False)
def test_modulated_float32(student, reference, case):
    """In float32 it is accurate and finite for large and vanishing styles; eps is 1e-8; inputs are left alone."""
    assert_equivalent(student.modulated_conv2d, reference.modulated_conv2d, case.but(dtype=torch.float32))
    assert_finite_at(student.modulated_conv2d, case)
    assert_pure(student.modulated_conv2d, case)
    x, w, s, _ = case.arguments().values()
    tiny = (x, w, s * 1e-4)
    assert_same(student.modulated_conv2d(*tiny), reference.modulated_conv2d(*tiny, 1e-8).detach(), "output for small s")
    nothing = student.modulated_conv2d(x, w, torch.zeros_like(s), case.eps)
    assert_same(nothing, torch.zeros_like(nothing), "output for styles of 0")


# -------------------------------------------------------------------------------------------------- stylegan_mapping

VECTORS = Cases(z=normal("B D"), eps=value_of("eps"), flags={"eps": (1e-8, 0.3)})
GROUPS = Cases(x=normal("G*M C A D"), group=value_of("G"), eps=value_of("eps"), flags={"eps": (1e-8, 0.3)},
               sizes={"G": (1, 3), "M": (1, 3), "C": (1, 3), "A": (1, 3), "D": (1, 3)})
ADAIN = Cases(x=normal("B C A D", scale=2, shift=1), ys=normal("B 2 C"), eps=value_of("eps"),
              flags={"eps": (1e-8, 0.3)}, sizes={"B": (1, 3), "A": (1, 4), "D": (1, 4)})
TRUNCATE = Cases(w=normal("B D"), w_avg=normal("D"), psi=value_of("psi"), flags={"psi": (0.5, 0.0, 1.0, -0.7, 1.8)})


@exercise("stylegan_mapping")
@points(2)
@public
@for_all(case=VECTORS)
def test_pixel_norm_mean_square(student, case):
    """pixel_norm: the mean square m of each vector becomes m / (m + eps), and its direction stays."""
    z, eps = case.arguments().values()
    normed = student.pixel_norm(z, eps)
    m = z.pow(2).sum(-1) / case.D
    assert_same(normed.pow(2).sum(-1) / case.D, m / (m + eps), "mean square")
    assert_same((normed * z).sum(-1), (normed.pow(2).sum(-1) * z.pow(2).sum(-1)).sqrt().detach(), "normed · z")


@exercise("stylegan_mapping")
@points(2)
@public
@for_all(case=GROUPS)
def test_stddev_channel(student, case):
    """minibatch_stddev: x comes first; the new channel is constant in every example, and as defined in each group."""
    x, group, eps = case.arguments().values()
    result = student.minibatch_stddev(x, group, eps)
    channel = torch.zeros(len(x), 1, case.A, case.D, dtype=x.dtype)
    for first in range(case.M):
        members = torch.stack([x[first + case.M * k].contiguous() for k in range(case.G)])
        variance = (members - members.mean(0)).pow(2).mean(0)
        channel[first::case.M] = ((variance + eps) ** 0.5).mean()
    assert_same(result.detach(), torch.cat([x, channel], 1))


@exercise("stylegan_mapping")
@points(1)
@public
@for_all(case=GROUPS, corners=False)
def test_stddev_of_equal_examples(student, case):
    """minibatch_stddev: for equal examples the channel is the root of eps, and no gradient is NaN."""
    def equal(x, group, eps):
        return student.minibatch_stddev(x[:1].expand_as(x), group, eps)
    result, (found,) = gradients(equal, case)
    assert_same(result[:, -1].detach(), torch.full_like(result[:, -1], case.eps ** 0.5), "channel for equal examples")
    if not torch.isfinite(found).all():
        raise CheckFailure("the gradient is not finite when the examples of a group are equal.",
                           hint="The root of 0 has an infinite slope: eps stands under it.")
    assert_refuses(student.minibatch_stddev, case.arguments()["x"], case.G * case.M + 1)


@exercise("stylegan_mapping")
@points(2)
@public
@for_all(case=ADAIN)
def test_adain_statistics(student, case):
    """adain: each channel of each example gets the style's bias as mean and, but for eps, its scale as deviation."""
    x, ys, eps = case.arguments().values()
    result = student.adain(x, ys, eps)
    v = x.flatten(2).var(-1, correction=0)
    assert_same(result.flatten(2).mean(-1), ys[:, 1].contiguous(), "mean of each channel")
    assert_same(result.flatten(2).var(-1, correction=0), ys[:, 0] ** 2 * v / (v + eps), "variance of each channel")


@exercise("stylegan_mapping")
@points(1)
@public
@for_all(case=TRUNCATE)
def test_truncate_ends(student, case):
    """truncate: psi = 0 gives w_avg, psi = 1 gives w, and everything between lies on the line."""
    w, w_avg, psi = case.arguments().values()
    assert_same(student.truncate(w, w_avg, 0.0), torch.stack([w_avg] * case.B), "psi = 0")
    assert_same(student.truncate(w, w_avg, 1.0), w.contiguous(), "psi = 1")
    assert_same(student.truncate(w, w_avg, psi), w * psi + w_avg * (1 - psi), "psi of the example")


@exercise("stylegan_mapping")
@points(4)
@for_all(case=GROUPS)
def test_mapping_values_and_gradients(student, reference, case):
    """All four functions have the right values and gradients."""
    assert_equivalent(student.minibatch_stddev, reference.minibatch_stddev, case)
    small = {"B": case.G, "D": case.C}
    fields = {"seed": case.seed, "layout": case.layout}
    assert_equivalent(student.pixel_norm, reference.pixel_norm, VECTORS.case(small, {"eps": case.eps}, **fields))
    adain_case = ADAIN.case({"B": case.M, "C": case.C, "A": case.A + 1, "D": case.D + 2}, {"eps": case.eps}, **fields)
    assert_equivalent(student.adain, reference.adain, adain_case)
    assert_equivalent(student.truncate, reference.truncate, TRUNCATE.case(small, {"psi": -0.7}, **fields))


@exercise("stylegan_mapping")
@points(1)
@for_all(case=GROUPS, corners=False)
def test_mapping_float32(student, reference, case):
    """They keep float32, stay finite for large inputs and leave inputs alone; eps is 1e-8 unless given."""
    small = VECTORS.case({"B": case.G, "D": case.C}, seed=case.seed)
    image = ADAIN.case({"B": case.M, "C": case.C, "A": 2, "D": 3}, seed=case.seed)
    styles = TRUNCATE.case({"B": case.G, "D": case.C}, seed=case.seed)
    for name, one in (("pixel_norm", small), ("minibatch_stddev", case), ("adain", image), ("truncate", styles)):
        theirs, right = getattr(student, name), getattr(reference, name)
        assert_equivalent(theirs, right, one.but(dtype=torch.float32))
        assert_finite_at(theirs, one)
        assert_pure(theirs, one)
    z, x, pictures = (one.arguments() for one in (small, case, image))
    assert_same(student.pixel_norm(z["z"] * 1e-4), reference.pixel_norm(z["z"] * 1e-4, 1e-8), "pixel_norm of small z")
    tiny = x["x"] * 1e-4
    assert_same(student.minibatch_stddev(tiny, case.G), reference.minibatch_stddev(tiny, case.G, 1e-8), "small x")
    tiny = pictures["x"] * 1e-4
    assert_same(student.adain(tiny, pictures["ys"]), reference.adain(tiny, pictures["ys"], 1e-8), "adain of small x")


# -------------------------------------------------------------------------------------------------- cyclegan_losses

NETWORKS = {"G": normal("d d"), "F": normal("d d"), "Da": normal("d h"), "va": normal("h"), "Db": normal("d h"),
            "vb": normal("h")}
CYCLE = Cases(weights=NETWORKS, a=normal("N d"), b=normal("M d"), lam_cyc=value_of("lam_cyc"),
              lam_id=value_of("lam_id"), sizes={"N": (1, 4), "M": (1, 4), "d": (1, 3), "h": (1, 3)},
              flags={"lam_cyc": (10.0, 0.5), "lam_id": (0.25, 3.0)})
POOL = Cases(size=value_of("P"), batches=normal("T N d"), coins=positive("T N", 0.0, 1.0), idx=computed(
    lambda g, s: torch.randint(0, max(s["P"], 1), (s["T"], s["N"]), generator=g)),
    sizes={"P": (0, 4), "T": (1, 6), "N": (1, 4), "d": (1, 2)}, also=[{"P": 2, "T": 8, "N": 3}, {"P": 0}])


@exercise("cyclegan_losses")
@points(2)
@public
@for_all(case=CYCLE, corners=False)
def test_cycle_of_identities(student, case):
    """Where G and F change nothing, cyc and id are 0; if all scores are 0, adv is 2, and the judges' losses are 1."""
    arguments = case.arguments()
    zero = {name: torch.zeros_like(arguments["weights"][name]) for name in ("G", "F", "va", "vb")}
    arguments["weights"] = arguments["weights"] | zero
    losses = student.cyclegan_of_mlps(*arguments.values())
    expected = {"adv": 2, "cyc": 0, "id": 0, "gen": 2, "d_a": 1, "d_b": 1}
    assert_same(losses, {name: torch.tensor(value, dtype=zero["G"].dtype) for name, value in expected.items()})


@exercise("cyclegan_losses")
@points(2)
@public
@for_all(case=CYCLE)
def test_cycle_swapped_domains(student, case):
    """Exchanging the two domains, with their generators and judges, exchanges d_a and d_b and nothing else."""
    w, a, b, *rest = case.arguments().values()
    swapped = {"G": w["F"], "F": w["G"], "Da": w["Db"], "va": w["vb"], "Db": w["Da"], "vb": w["va"]}
    one, other = student.cyclegan_of_mlps(w, a, b, *rest), student.cyclegan_of_mlps(swapped, b, a, *rest)
    renamed = {"d_a": "d_b", "d_b": "d_a"}
    assert_same({renamed.get(name, name): value for name, value in other.items()},
                {name: value.detach() for name, value in one.items()}, "losses after the exchange")


@exercise("cyclegan_losses")
@points(1)
@public
@for_all(case=CYCLE, corners=False)
def test_cycle_weighted_sum(student, case):
    """gen is adv + lam_cyc · cyc + lam_id · id."""
    losses = student.cyclegan_of_mlps(*case.arguments().values())
    parts = torch.stack([losses["adv"], losses["cyc"], losses["id"]]).detach()
    factors = torch.tensor([1, case.lam_cyc, case.lam_id], dtype=parts.dtype)
    assert_same(losses["gen"], parts @ factors, "gen")


def in_order(function):
    """The losses as a list: what the order of the dict is, nobody said."""
    return lambda *arguments: [loss for _, loss in sorted(function(*arguments).items())]


def gradients_of(function, case, names, losses):
    """The gradients of these losses, one after the other, with respect to these weights; 0 where there is none."""
    arguments = case.arguments()
    leaves = [arguments["weights"][name].requires_grad_() for name in names]
    result = function(*arguments.values())
    found = {}
    for loss in losses:
        if result[loss].requires_grad:
            pieces = torch.autograd.grad(result[loss], leaves, allow_unused=True, retain_graph=True)
        else:
            pieces = [None] * len(leaves)
        for name, leaf, piece in zip(names, leaves, pieces, strict=True):
            found[f"{loss} by {name}"] = torch.zeros_like(leaf) if piece is None else piece
    return found


@exercise("cyclegan_losses")
@points(1)
@public
@for_all(case=CYCLE, corners=False)
def test_cycle_judges_do_not_train_generators(student, case):
    """No gradient of d_a and d_b reaches G or F, but each reaches its own judge."""
    found = gradients_of(student.cyclegan_of_mlps, case, ("G", "F"), ("d_a", "d_b"))
    assert_same(found, {name: torch.zeros_like(value) for name, value in found.items()}, "gradient")
    for loss, mine in (("d_a", ("Da", "va")), ("d_b", ("Db", "vb"))):
        for name, gradient in gradients_of(student.cyclegan_of_mlps, case, mine, (loss,)).items():
            if not gradient.any():
                raise CheckFailure(f"the gradient of {name} is 0.", hint="The judges have to learn something.")


@exercise("cyclegan_losses")
@points(2)
@public
@for_all(case=POOL)
def test_pool_returns_what_it_has_seen(student, case):
    """ImagePool: all images are returned while it fills, only images seen so far after that, and no graph with them."""
    size, batches, coins, idx = case.arguments().values()
    answers, graph = student.rehearse_pool(size, batches, coins, idx)
    seen, shown = batches.flatten(0, 1), answers.flatten(0, 1)
    assert_same(shown[:size], seen[:size].contiguous(), "answers while the pool fills")
    for i, image in enumerate(shown):
        if not (seen[:i + 1] == image).all(-1).any():
            raise CheckFailure(f"answer {i} is none of the images that were seen so far.",
                               hint="A stored image must not change with the batch that it came from.")
        if coins.flatten()[i] <= 0.5 and not torch.equal(image, seen[i]):
            raise CheckFailure(f"answer {i} is not image {i}, though its coin is {coins.flatten()[i]:.2f}.")
    if graph:
        raise CheckFailure("an answer of the pool requires a gradient.", hint="Stored graphs are a memory leak.")


@exercise("cyclegan_losses")
@points(3)
@for_all(case=CYCLE)
def test_cycle_values_and_gradients(student, reference, case):
    """All six losses, the generators' gradients of four and the judges' gradients of two, are right."""
    arguments = case.arguments()
    expected = {name: value.detach() for name, value in reference.cyclegan_of_mlps(*arguments.values()).items()}
    assert_same(student.cyclegan_of_mlps(*arguments.values()), expected, "losses")
    for names, losses in ((("G", "F"), ("adv", "cyc", "id", "gen", "d_a", "d_b")),
                          (("Da", "va", "Db", "vb"), ("d_a", "d_b"))):
        assert_same(gradients_of(student.cyclegan_of_mlps, case, names, losses),
                    gradients_of(reference.cyclegan_of_mlps, case, names, losses), "gradient")


@exercise("cyclegan_losses")
@points(2)
@for_all(case=POOL)
def test_pool_history(student, case):
    """ImagePool: stored images are displaced in the right order, also within one batch, for any size."""
    size, batches, coins, idx = case.arguments().values()
    stored, expected = [], []
    for image, coin, place in zip(batches.flatten(0, 1), coins.flatten(), idx.flatten().tolist(), strict=True):
        if len(stored) < size:
            stored.append(image)
            expected.append(image)
        elif size > 0 and coin > 0.5:
            expected.append(stored[place])
            stored[place] = image
        else:
            expected.append(image)
    answers, _ = student.rehearse_pool(size, batches, coins, idx)
    assert_same(answers, torch.stack(expected).reshape(batches.shape), "answers of the pool")


@exercise("cyclegan_losses")
@points(1)
@for_all(case=CYCLE, corners=False)
def test_cycle_float32(student, reference, case):
    """float32 is kept, by losses and pool; inputs are left alone; two pools share nothing."""
    theirs, right = (in_order(side.cyclegan_of_mlps) for side in (student, reference))
    assert_equivalent(theirs, right, case.but(dtype=torch.float32))
    assert_pure(student.cyclegan_of_mlps, case)
    images = torch.arange(6.0).reshape(3, 2)
    always, first = torch.full((3,), 0.9), torch.zeros(3, dtype=torch.long)
    one, other = student.ImagePool(2), student.ImagePool(2)
    assert_same(one.query(images, always, first), images[[0, 1, 0]], "first query of the first pool")
    assert_same(other.query(images + 9, always, first), images[[0, 1, 0]] + 9, "first query of the second pool")
    assert_same(one.query(images - 9, always, first), torch.stack([images[2], images[0] - 9, images[1] - 9]),
                "second query of the first pool")
    # At a coin of exactly 1/2 the image is returned as it is.
    assert_same(one.query(images, always * 0 + 0.5, first), images, "answers for coins of exactly 0.5")


# -------------------------------------------------------------------------------------------------- gan_train_step

GAN = Cases(weights={"w_g": normal("d Z"), "w_d": normal("h d"), "v_d": normal("1 h")}, real=normal("T B d"),
            z_d=normal("T B Z"), z_g=normal("T M Z"), lr=value_of("lr"), flags={"lr": (0.1, 0.5)},
            sizes={"T": (1, 3), "B": (2, 5), "M": (2, 5), "d": (1, 3), "Z": (1, 3), "h": (1, 3)})


@exercise("gan_train_step")
@points(2)
@public
@for_all(case=GAN, corners=False)
def test_step_counts(student, case):
    """Each optimizer makes exactly one step, and both networks stay in training mode."""
    seen = student.rehearse_gan(*case.arguments().values())
    assert_same([seen["steps of D"], seen["steps of G"]], [case.T, case.T], "steps of D and of G")
    if not seen["still training"]:
        raise CheckFailure("a network was left in evaluation mode.")


@exercise("gan_train_step")
@points(2)
@public
@for_all(case=GAN, corners=False)
def test_step_keeps_the_generator_out(student, case):
    """The D phase leaves no gradient in G, and the losses that are returned carry no graph."""
    seen = student.rehearse_gan(*case.arguments().values())
    if seen["steps of D that found a new gradient in G"]:
        raise CheckFailure("when D makes its step, the gradient of its loss is found in G.",
                           hint="Cut the fakes of the D phase from the generator.")
    if seen["losses carry a graph"]:
        raise CheckFailure("a loss that is returned requires a gradient.",
                           hint="A list of such losses keeps all graphs of the training alive.")


@exercise("gan_train_step")
@points(2)
@public
@for_all(case=GAN)
def test_step_counts_batches(student, case):
    """Batch normalization has seen two batches in G and three in D with each step."""
    seen = student.rehearse_gan(*case.arguments().values())
    counts = [seen["G"]["1.num_batches_tracked"], seen["D"]["1.num_batches_tracked"]]
    assert_same(counts, [torch.tensor(2 * case.T), torch.tensor(3 * case.T)], "batches seen in G and in D")


@exercise("gan_train_step")
@points(2)
@public
@for_all(case=GAN, corners=False)
def test_step_of_length_zero(student, case):
    """With a learning rate of 0 no weight changes, and a D whose last layer is 0 gives losses of 2 log 2 and log 2."""
    arguments = case.arguments()
    arguments |= {"lr": 0.0}
    arguments["weights"] = arguments["weights"] | {"v_d": torch.zeros_like(arguments["weights"]["v_d"])}
    seen = student.rehearse_gan(*arguments.values())
    log2 = torch.tensor(math.log(2), dtype=torch.float64)
    assert_same(seen["losses"], [{"d_loss": 2 * log2, "g_loss": log2}] * case.T, "losses")
    weights = [seen["G"]["0.weight"], seen["D"]["0.weight"]]
    assert_same(weights, [arguments["weights"][name].contiguous() for name in ("w_g", "w_d")], "weights of G and D")


@exercise("gan_train_step")
@points(4)
@for_all(case=GAN)
def test_step_states(student, reference, case):
    """Losses, weights and buffers of both networks are right after any number of steps."""
    seen, expected = (side.rehearse_gan(*case.arguments().values()) for side in (student, reference))
    for name in ("losses", "G", "D"):
        assert_same(seen[name], expected[name], name)


@exercise("gan_train_step")
@points(2)
@for_all(case=GAN, corners=False)
def test_step_float32(student, reference, case):
    """In float32 the losses and the state stay float32; data and noise are left alone; a second run is the same."""
    narrow = case.but(dtype=torch.float32)
    seen, expected = (side.rehearse_gan(*narrow.arguments().values()) for side in (student, reference))
    # Rounding is amplified by batches that are nearly constant, whose normalization divides by a small deviation.
    assert_same(seen["losses"], expected["losses"], "losses", tolerance=1e-3)
    assert_pure(student.rehearse_gan, case)
