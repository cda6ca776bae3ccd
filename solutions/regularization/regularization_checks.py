"""Checks of the regularization unit. Public ones need no reference: they state what the equations imply."""
import math

import torch
import torch.nn.functional as F
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure
from etude.properties import (
    assert_batch_independent,
    assert_detached,
    assert_equivalent,
    assert_eval_deterministic,
    assert_finite_at,
    assert_gradient_consistent,
    assert_invariant,
    assert_pure,
    assert_refuses,
    assert_state_dict,
    gradients,
)
from etude.strategies import Argument, Cases, computed, for_all, mask, normal, positive, value_of


def ranked(*symbols, low=None):
    """A tensor with the first `rank` of these axes: standard normal, or uniform in [low, low + 1)."""
    def make(generator, _, s):
        shape = tuple(s[symbol] for symbol in symbols)[:s["rank"]]
        if low is None:
            return torch.randn(shape, generator=generator, dtype=torch.float64)
        return torch.rand(shape, generator=generator, dtype=torch.float64) + low
    return Argument("", make, floating=True)


# ---------------------------------------------------------------------------------------------- inverted_dropout

RATES = (0.3, 0.0, 1.0, 0.75)
DROP = Cases(x=ranked("B", "T", "d"), p=value_of("p"), training=value_of("training"), u=ranked("B", "T", "d", low=0),
             sizes={"B": (1, 4), "T": (1, 5), "d": (1, 6, 70)},
             flags={"rank": (3, 1, 2), "p": RATES, "training": (True, False)})
IN_TRAINING = Cases(x=normal("B d"), p=value_of("p"), training=value_of("training"), u=positive("B d", 0, 1),
                    flags={"p": (0.25, 0.75, 0.5), "training": (True,)})
# Standard deviations that a frequency may be off: it is with probability 3e-12, and there are fewer than twenty.
SURE = 7.0


@exercise("inverted_dropout")
@points(2)
@public
@for_all(case=IN_TRAINING)
def test_dropout_keeps_and_rescales(student, case):
    """In training, elements with u < p become 0; the others, those with u = p too, are divided by 1 - p."""
    x, p, training, u = case.arguments().values()
    u = u.clone()
    u[0, 0] = p
    y = student.dropout(x, p, training, u).detach()
    dropped = u < p
    assert_same(y[dropped], torch.zeros(int(dropped.sum()), dtype=x.dtype), "output where u < p")
    assert_same(y[~dropped] * (1 - p), x[~dropped], "output times 1 - p where u >= p")


@exercise("inverted_dropout")
@points(1)
@public
@for_all(case=DROP, corners=False)
def test_dropout_evaluation(student, case):
    """In evaluation the output is x, whatever p and u are."""
    arguments = case.arguments() | {"training": False}
    assert_same(student.dropout(*arguments.values()).detach(), arguments["x"].clone(), "output in evaluation")


@exercise("inverted_dropout")
@points(1)
@public
@for_all(case=DROP, corners=False)
def test_dropout_certain(student, case):
    """For p = 1 everything is 0, the gradient too; for p = 0 nothing is."""
    for p, share in ((1.0, 0.0), (0.0, 1.0)):
        arguments = case.arguments() | {"p": p, "training": True}
        x = arguments["x"].clone().requires_grad_()
        y = student.dropout(*(arguments | {"x": x}).values())
        assert_same(y.detach(), x.detach() * share, f"output for p = {p:g}")
        if y.requires_grad:
            (found,) = torch.autograd.grad(y.sum(), x, allow_unused=True)
            assert_same(0 * x.detach() if found is None else found, torch.full_like(x, share),
                        f"gradient of the sum for p = {p:g}")


@exercise("inverted_dropout")
@points(1)
@public
@for_all(case=DROP, corners=False)
def test_dropout_gradient_consistent(student, case):
    """The gradient is that of the values: what is dropped gets none, what is kept gets 1 / (1 - p)."""
    fixed = case.arguments()
    only_x = Cases(x=ranked("B", "T", "d"), sizes=DROP.sizes, flags={"rank": (3, 1, 2)})

    def of_x(x):
        return student.dropout(x, fixed["p"], fixed["training"], fixed["u"].detach())
    assert_gradient_consistent(of_x, only_x.case(case.sizes, {"rank": case.rank}, seed=case.seed))


@exercise("inverted_dropout")
@points(1)
@public
def test_dropout_refuses(student):
    """A p below 0 or above 1 is a ValueError, for function and layer, in both modes."""
    x = torch.ones(2, 3)
    for p in (-0.1, 1.5):
        for training in (True, False):
            assert_refuses(student.dropout, x, p, training, x / 2)
        assert_refuses(student.Dropout, p, torch.Generator().manual_seed(0))


def correlation(one, other):
    """Pearson's, of two equally long samples."""
    one, other = (sample.flatten().double() - sample.double().mean() for sample in (one, other))
    return float((one * other).mean() / (one.square().mean() * other.square().mean()).sqrt())


@exercise("inverted_dropout")
@points(2)
@public
def test_dropout_layer_in_training(student):
    """Dropout: each element is dropped with probability p, by itself, anew in each call; equal seeds, equal masks."""
    for p, seed in ((0.3, 5), (0.8, 6)):
        layer = student.Dropout(p, torch.Generator().manual_seed(seed))
        x = torch.ones(400, 250, requires_grad=True)
        first, second = layer(x), layer(x)
        if first.requires_grad:
            (found,) = torch.autograd.grad(first.sum(), x)
            assert_same(found, first.detach(), "gradient for x = 1 (it has the same mask)")
        first, second = first.detach(), second.detach()
        kept = first != 0
        assert_same(first * (1 - p), kept.to(x.dtype), f"output times 1 - p for x = 1 and p = {p}")
        share = 1 - float(kept.double().mean())
        if not abs(share - p) < SURE * math.sqrt(p * (1 - p) / kept.numel()):
            raise CheckFailure(f"of {kept.numel()} elements {share:.4f} were dropped, with p = {p}.")
        again = second != 0
        for one, other, what in ((kept, again, "two calls drop the same elements"),
                                 (kept[1:], kept[:-1], "neighbouring rows are dropped alike"),
                                 (kept[:, 1:], kept[:, :-1], "neighbouring columns are dropped alike")):
            found = correlation(one, other)
            if not abs(found) < SURE / math.sqrt(one.numel()):
                raise CheckFailure(f"{what}: the correlation of their masks is {found:.3f}.",
                                   hint="Every element of every call needs a random number of its own.")
        twin = student.Dropout(p, torch.Generator().manual_seed(seed))
        assert_same(twin(x).detach(), first, "first output of a layer whose generator has the same seed")
        if torch.equal(student.Dropout(p, torch.Generator().manual_seed(seed + 1))(x).detach(), first):
            raise CheckFailure("layers whose generators have different seeds drop the same elements.",
                               hint="Draw from the generator that the layer was given.")


@exercise("inverted_dropout")
@points(1)
@public
def test_dropout_layer_modes(student):
    """Dropout: evaluation returns x, training drops again; float64 stays float64; there is no state."""
    layer = student.Dropout(0.5, torch.Generator().manual_seed(7))
    assert_state_dict(layer, {})
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    assert_eval_deterministic(layer, x)
    layer.eval()
    assert_same(layer(x).detach(), x, "output in evaluation")
    layer.train()
    y = layer(x).detach()
    assert_same(y, 2 * x * (y != 0), "output in training, where it is not 0")
    if not 0 < int((y == 0).sum()) < y.numel():
        raise CheckFailure(f"back in training, {int((y == 0).sum())} of {y.numel()} elements were dropped at p = 0.5.")


@exercise("inverted_dropout")
@points(2)
@for_all(case=DROP)
def test_dropout_values_and_gradients(student, reference, case):
    """Values and gradients are right for any number of axes, p and memory layout."""
    assert_equivalent(student.dropout, reference.dropout, case)


@exercise("inverted_dropout")
@points(1)
@for_all(case=IN_TRAINING, corners=False)
def test_dropout_float32_and_purity(student, reference, case):
    """Inputs are left alone, and float32 stays float32."""
    assert_pure(student.dropout, case)
    assert_equivalent(student.dropout, reference.dropout, case.but(dtype=torch.float32))


# ---------------------------------------------------------------------------------------------- drop_path

PATH = Cases(x=ranked("B", "C", "T"), p=value_of("p"), keep=mask("B", keep=0.6), training=value_of("training"),
             sizes={"B": (1, 6), "C": (1, 5), "T": (1, 4)},
             flags={"rank": (3, 1, 2), "p": RATES, "training": (True, False)}, also=[{"B": 4, "C": 4, "T": 4}])
BRANCH = Cases(x=ranked("B", "C", "T"), p=value_of("p"), keep=mask("B", keep=0.6), training=value_of("training"),
               sizes={"B": (1, 6), "C": (1, 5), "T": (1, 4)},
               flags={"rank": (3, 1, 2), "p": (0.3, 0.5), "training": (True,)}, also=[{"B": 3, "C": 3, "T": 3}])


@exercise("drop_path")
@points(2)
@public
@for_all(case=BRANCH)
def test_path_all_or_nothing(student, case):
    """In training a dropped example is 0 everywhere, a kept one is divided by 1 - p everywhere."""
    x, p, keep, training = case.arguments().values()
    y = student.drop_path(x, p, keep, training).detach()
    for i in range(case.B):
        found = y[i] * (1 - p)
        if keep[i]:
            assert_same(found, x[i].clone(), f"output times 1 - p for example {i}, which is kept")
        else:
            assert_same(found, torch.zeros_like(x[i]), f"output for example {i}, which is dropped")


@exercise("drop_path")
@points(1)
@public
@for_all(case=PATH, corners=False)
def test_path_evaluation(student, case):
    """In evaluation the output is x, whatever p and the mask are."""
    arguments = case.arguments() | {"training": False}
    assert_same(student.drop_path(*arguments.values()).detach(), arguments["x"].clone(), "output in evaluation")


@exercise("drop_path")
@points(1)
@public
@for_all(case=PATH, corners=False)
def test_path_certain(student, case):
    """For p = 1 output and gradient are 0, also where the mask says keep; for p = 0 nothing is rescaled."""
    for p, share in ((1.0, 0.0), (0.0, 1.0)):
        arguments = case.arguments() | {"p": p, "keep": torch.ones(case.B, dtype=torch.bool), "training": True}
        x = arguments["x"].clone().requires_grad_()
        y = student.drop_path(*(arguments | {"x": x}).values())
        assert_same(y.detach(), x.detach() * share, f"output for p = {p:g}")
        if y.requires_grad:
            (found,) = torch.autograd.grad(y.sum(), x, allow_unused=True)
            assert_same(0 * x.detach() if found is None else found, torch.full_like(x, share),
                        f"gradient of the sum for p = {p:g}")


@exercise("drop_path")
@points(1)
@public
@for_all(case=BRANCH, corners=False)
def test_path_gradient_consistent(student, case):
    """The gradient is that of the values: dropped examples get none."""
    assert_gradient_consistent(student.drop_path, case)


@exercise("drop_path")
@points(2)
@public
@for_all(case=Cases(depth=value_of("L"), p_last=value_of("p_last"), sizes={"L": (1, 8, 50)},
                    flags={"p_last": (0.5, 0.2, 0.0, 1.0)}))
def test_drop_rates_grow_linearly(student, case):
    """drop_rates: L rates, the last of them p_last, that grow by the first one from branch to branch."""
    rates = student.drop_rates(case.L, case.p_last)
    if not isinstance(rates, (list, tuple)) or len(rates) != case.L:
        raise CheckFailure(f"a list of {case.L} rates was expected.")
    assert_same(rates[-1], case.p_last, "rate of the last branch")
    before = [0.0, *rates][:-1]
    assert_same([b - a for a, b in zip(before, rates, strict=True)], [case.p_last / case.L] * case.L,
                "growth of the rates, beginning with the first one")


@exercise("drop_path")
@points(2)
@for_all(case=PATH)
def test_path_values_and_gradients(student, reference, case):
    """Values and gradients are right for any number of axes, p and memory layout."""
    assert_equivalent(student.drop_path, reference.drop_path, case)


@exercise("drop_path")
@points(1)
@for_all(case=BRANCH, corners=False)
def test_path_float32_and_purity(student, reference, case):
    """Inputs are left alone, examples are independent, float32 is kept; a p outside [0, 1] is a ValueError."""
    assert_pure(student.drop_path, case)
    assert_batch_independent(student.drop_path, case, "x", "keep")
    assert_equivalent(student.drop_path, reference.drop_path, case.but(dtype=torch.float32))
    for p, training in ((-0.5, True), (1.25, False)):
        assert_refuses(student.drop_path, *(case.arguments() | {"p": p, "training": training}).values())


# ---------------------------------------------------------------------------------------------- adamw_step

def both_betas(_, s):
    return s["beta1"], s["beta2"]


ADAM_FLAGS = {"rank": (2, 1, 3), "t": (2, 1, 3, 1000), "lr": (0.1, 0.02), "beta1": (0.9, 0.5), "beta2": (0.99, 0.7),
              "eps": (1e-8, 0.1), "wd": (0.3, 0.0, 1.0)}
ADAM_SIZES = {"A": (1, 5), "D": (1, 6, 70), "E": (1, 3)}
ADAM = Cases(p=ranked("A", "D", "E"), g=ranked("A", "D", "E"), m=ranked("A", "D", "E"),
             v=ranked("A", "D", "E", low=0.1), t=value_of("t"), lr=value_of("lr"), betas=computed(both_betas),
             eps=value_of("eps"), wd=value_of("wd"), sizes=ADAM_SIZES, flags=ADAM_FLAGS)


@exercise("adamw_step")
@points(2)
@public
@for_all(case=ADAM, corners=False)
def test_adamw_first_step(student, case):
    """The first step without decay is -lr · g / (|g| + eps): the corrections undo the factors 1 - beta."""
    arguments = case.arguments()
    p, g = arguments["p"], arguments["g"]
    arguments |= {"m": torch.zeros_like(g), "v": torch.zeros_like(g), "t": 1, "wd": 0.0}
    new_p, new_m, new_v = student.adamw_step(*arguments.values())
    assert_same(new_m.detach(), g * (1 - case.beta1), "m' after the first step")
    assert_same(new_v.detach(), g * g * (1 - case.beta2), "v' after the first step")
    assert_same(new_p.detach() - p, -case.lr * g / (g.abs() + case.eps), "p' - p after the first step")


@exercise("adamw_step")
@points(1)
@public
@for_all(case=ADAM, corners=False)
def test_adamw_constant_gradient(student, case):
    """While the gradient stays the same, every corrected step is as long as the first one."""
    arguments = case.arguments() | {"wd": 0.0}
    p, g = arguments["p"], arguments["g"]
    m, v = torch.zeros_like(g), torch.zeros_like(g)
    for t in (1, 2, 3):
        p, m, v = (one.detach() for one in student.adamw_step(*(arguments | {"p": p, "m": m, "v": v, "t": t}).values()))
    assert_same(m, g * (1 - case.beta1 ** 3), "m after three equal gradients")
    assert_same(p - arguments["p"], -3 * case.lr * g / (g.abs() + case.eps), "change of p in three steps")


@exercise("adamw_step")
@points(2)
@public
@for_all(case=ADAM, corners=False)
def test_adamw_decay_is_decoupled(student, case):
    """Decay takes lr · wd · p off the old p and changes nothing else; with no gradient at all it is the whole step."""
    arguments = case.arguments() | {"wd": 0.3}
    p = arguments["p"]
    with_decay = student.adamw_step(*arguments.values())
    without = student.adamw_step(*(arguments | {"wd": 0.0}).values())
    assert_same(with_decay[0].detach() - without[0].detach(), -0.3 * case.lr * p, "what decay adds to the step")
    assert_same([with_decay[1].detach(), with_decay[2].detach()], [without[1].detach(), without[2].detach()],
                "(m', v') with decay")
    still = torch.zeros_like(p)
    alone, _, _ = student.adamw_step(*(arguments | {"g": still, "m": still}).values())
    assert_same(alone.detach(), p * (1 - 0.3 * case.lr), "p' if gradient and momentum are 0")


@exercise("adamw_step")
@points(1)
@public
@for_all(case=ADAM, corners=False)
def test_adamw_is_no_part_of_the_graph(student, case):
    """Nothing is changed in place, and no result requires a gradient, even if p and g do."""
    assert_pure(student.adamw_step, case)
    arguments = case.arguments()
    for name in ("p", "g", "m", "v"):
        arguments[name] = arguments[name].clone().requires_grad_()
    assert_detached(*zip(("p'", "m'", "v'"), student.adamw_step(*arguments.values()), strict=True))


ZOO = Cases(width=value_of("width"), blocks=value_of("blocks"), tied=value_of("tied"), frozen=value_of("frozen"),
            sizes={"width": (1, 3), "blocks": (1, 3)}, flags={"tied": (False, True), "frozen": (False, True)})


@exercise("adamw_step")
@points(2)
@public
@for_all(case=ZOO)
def test_decay_groups_sort_by_axes(student, case):
    """decay_param_groups: matrices decay; biases, gains and weights of normalizations do not; each is there once."""
    decay, no_decay = student.decay_param_groups(student.Zoo(case.width, case.blocks, case.tied, case.frozen))
    matrices = ["position_bias", "embedding.weight", *["conv.weight"] * (not case.frozen),
                *[f"blocks.{i}.1.weight" for i in range(case.blocks)], *["head.weight"] * (not case.tied)]
    vectors = ["gain", "temperature", *["conv.bias"] * (not case.frozen)]
    for i in range(case.blocks):
        vectors += [f"blocks.{i}.0.weight", f"blocks.{i}.0.bias", f"blocks.{i}.1.bias"]
    for title, names, expected in (("decay", decay, matrices), ("no_decay", no_decay, vectors)):
        if sorted(names) != sorted(expected):
            missing, extra = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
            raise CheckFailure(f"`{title}` lacks {missing} and has {extra} too many." if missing or extra else
                               f"`{title}` has a name twice: {sorted(names)}.",
                               hint="Two or more axes decay; a shared parameter counts once, a frozen one not at all.")


@exercise("adamw_step")
@points(3)
@for_all(case=ADAM)
def test_adamw_values(student, reference, case):
    """All three results are right for any t, lr, betas, eps, decay and number of axes."""
    assert_equivalent(student.adamw_step, reference.adamw_step, case, grad=False)


@exercise("adamw_step")
@points(1)
@for_all(case=ADAM, corners=False)
def test_adamw_tiny_gradients(student, reference, case):
    """With gradients around 1e-9 and eps = 1e-8, and in float32, the step is right."""
    arguments = case.arguments()
    arguments |= {"g": arguments["g"] * 1e-9, "m": arguments["m"] * 1e-9, "v": arguments["v"] * 0, "eps": 1e-8}
    assert_same(student.adamw_step(*arguments.values()), reference.adamw_step(*arguments.values()),
                "(p', m', v') for tiny gradients")
    assert_equivalent(student.adamw_step, reference.adamw_step, case.but(dtype=torch.float32))


@exercise("adamw_step")
@points(1)
@for_all(case=ADAM, corners=False)
def test_adamw_as_in_torch(student, case):
    """It does what PyTorch's AdamW does, from any state."""
    from torch.optim.adamw import adamw
    p, g, m, v, t, lr, betas, eps, wd = case.arguments().values()
    got = student.adamw_step(p, g, m, v, t, lr, betas, eps, wd)
    p, g, m, v = (one.clone(memory_format=torch.contiguous_format) for one in (p, g, m, v))
    # The optimizer's own state counts the steps that are done.
    adamw([p], [g], [m], [v], [], [torch.tensor(float(t - 1))], foreach=False, amsgrad=False, beta1=betas[0],
          beta2=betas[1], lr=lr, weight_decay=wd, eps=eps, maximize=False)
    assert_same(list(got), [p, m, v], "(p', m', v')")


@exercise("adamw_step")
@points(1)
@for_all(case=ZOO, corners=False)
def test_decay_groups_in_order(student, reference, case):
    """decay_param_groups: both lists are in the model's order."""
    makers = [(one.decay_param_groups, one.Zoo(case.width, case.blocks, case.tied, case.frozen))
              for one in (student, reference)]
    got, expected = (sort(model) for sort, model in makers)
    assert_same([list(names) for names in got], [list(names) for names in expected], "(decay, no_decay)")


# ---------------------------------------------------------------------------------------------- mixup_cutmix

def soft_labels():
    """(B, K) rows that sum to 1."""
    def make(generator, shape, _):
        rows = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.05
        return rows / rows.sum(dim=1, keepdim=True)
    return Argument("B K", make, floating=True)


def permutation(generator, s):
    return torch.randperm(s["B"], generator=generator)


def any_box(generator, s):
    """A box that may reach beyond the image, lie outside, or be empty."""
    edges = [sorted(torch.randint(-4, s[side] + 5, (2,), generator=generator).tolist()) for side in ("H", "W")]
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


MIX = Cases(x=ranked("B", "C", "H", "W"), y=soft_labels(), lam=value_of("lam"), perm=computed(permutation),
            sizes={"B": (1, 6), "C": (1, 3), "H": (1, 5), "W": (1, 4), "K": (1, 5)},
            flags={"rank": (4, 1, 2), "lam": (0.3, 1.0, 0.0, 0.75)})
CUT = Cases(x=normal("B C H W"), y=soft_labels(), box=computed(any_box), perm=computed(permutation),
            sizes={"B": (1, 5), "C": (1, 3), "H": (1, 7, 21), "W": (1, 9), "K": (1, 5)}, also=[{"H": 6, "W": 6}])
NUMBERED = Cases(box=computed(any_box), sizes={"B": (2, 5), "C": (1, 3), "H": (1, 7, 21), "W": (1, 9)})


def numbered(case):
    """Images (B, C, H, W) whose pixels are the number of their example, and the permutation to the next one."""
    numbers = torch.arange(case.B, dtype=torch.float64)
    images = numbers[:, None, None, None].expand(case.B, case.C, case.H, case.W).clone()
    return images, torch.arange(case.B).roll(1)


@exercise("mixup_cutmix")
@points(2)
@public
@for_all(case=MIX)
def test_mixup_weights(student, case):
    """mixup: example i keeps the weight lam and gets 1 - lam of example perm[i], in x and in y alike."""
    x, y, _, perm = case.arguments().values()
    for lam, order in ((1.0, torch.arange(case.B)), (0.0, perm)):
        mixed = student.mixup(x, y, lam, perm)
        assert_same([mixed[0].detach(), mixed[1].detach()], [x[order], y[order]], f"(x, y) for lam = {lam:g}")
    expected = torch.zeros(case.B, case.B, dtype=x.dtype)
    for i in range(case.B):
        expected[i, i] += case.lam
        expected[i, perm[i]] += 1 - case.lam
    one_hot = torch.eye(case.B, dtype=x.dtype)
    assert_same(list(student.mixup(one_hot, one_hot, case.lam, perm)), [expected, expected],
                "(x, y) for one-hot examples and labels")


@exercise("mixup_cutmix")
@points(2)
@public
@for_all(case=NUMBERED)
def test_cutmix_pastes_the_box(student, case):
    """cutmix: pixels inside the box are the partner's, all others the example's own."""
    images, perm = numbered(case)
    top, left, bottom, right = case.arguments()["box"]
    row, column = torch.arange(case.H)[:, None], torch.arange(case.W)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    mixed, _ = student.cutmix(images, torch.eye(case.B, dtype=images.dtype), (top, left, bottom, right), perm)
    expected = images * ~inside + images[perm] * inside
    assert_same(mixed, expected, "example that a pixel comes from")


@exercise("mixup_cutmix")
@points(2)
@public
@for_all(case=NUMBERED)
def test_cutmix_labels_count_pixels(student, case):
    """cutmix: a label's weight is the share of the output's pixels that come from its example."""
    images, perm = numbered(case)
    mixed, labels = student.cutmix(images, torch.eye(case.B, dtype=images.dtype), case.arguments()["box"], perm)
    shares = torch.stack([(mixed.detach() == number).double().mean(dim=(1, 2, 3)) for number in range(case.B)], dim=1)
    assert_same(labels.detach(), shares, "labels, against the shares of the pixels that were returned")


@exercise("mixup_cutmix")
@points(1)
@public
@for_all(case=CUT, corners=False)
def test_mixing_gradient_consistent(student, case):
    """The gradients are those of the values: own pixels and the partner's, and both labels, get theirs."""
    assert_gradient_consistent(student.cutmix, case)
    box = case.arguments()["box"]

    def mixed(x, y, _, perm):
        return student.mixup(x, y, 0.3 if box[0] % 2 else 0.6, perm)
    assert_gradient_consistent(mixed, case)


@exercise("mixup_cutmix")
@points(1)
@public
@for_all(case=MIX, corners=False)
def test_mixing_pure(student, case):
    """The inputs are left as they were; a lam outside [0, 1] is a ValueError."""
    assert_pure(student.mixup, case)
    cut = CUT.case(case.sizes, seed=case.seed, layout=case.layout)
    assert_pure(student.cutmix, cut)
    for lam in (-0.2, 1.5):
        assert_refuses(student.mixup, *(case.arguments() | {"lam": lam}).values())


@exercise("mixup_cutmix")
@points(1)
@for_all(case=MIX)
def test_mixup_values_and_gradients(student, reference, case):
    """mixup: values and gradients are right for any number of axes, soft labels, and any weight."""
    assert_equivalent(student.mixup, reference.mixup, case)


@exercise("mixup_cutmix")
@points(2)
@for_all(case=CUT)
def test_cutmix_values_and_gradients(student, reference, case):
    """cutmix: values and gradients are right for any sizes, boxes and permutations."""
    assert_equivalent(student.cutmix, reference.cutmix, case)


@exercise("mixup_cutmix")
@points(1)
@for_all(case=CUT, corners=False)
def test_mixing_float32(student, reference, case):
    """float32 stays float32, in examples and labels."""
    assert_equivalent(student.cutmix, reference.cutmix, case.but(dtype=torch.float32))
    x, y, _, perm = case.but(dtype=torch.float32).arguments().values()
    assert_same(student.mixup(x, y, 0.3, perm), reference.mixup(x, y, 0.3, perm), "(x, y)")


# ---------------------------------------------------------------------------------------------- paired_augment

def boxes_inside():
    """(N, 4) boxes (x0, y0, x1, y1) with an area, anywhere in the image."""
    def make(generator, shape, s):
        extent = torch.tensor([s["W"], s["H"]], dtype=torch.float64)
        low, share = torch.rand(2, shape[0], 2, generator=generator, dtype=torch.float64)
        low = 0.95 * low * extent
        return torch.cat([low, low + (0.05 + 0.9 * share) * (extent - low)], dim=1)
    return Argument("N 4", make, floating=True)


def any_crop(generator, s):
    top, left = (int(torch.randint(0, s[slack] + 1, (), generator=generator)) for slack in ("dy", "dx"))
    return top, left, s["h"], s["w"]


def rounding_is_harmless(s):
    """No sampled point lies so close to the border of a pixel that single precision puts it on the other side."""
    for old, new in ((s["h"], s["oh"]), (s["w"], s["ow"])):
        scale = torch.tensor(old / new, dtype=torch.float32)
        found = ((torch.arange(new, dtype=torch.float32) + 0.5) * scale).floor().long()
        if not torch.equal(found, (2 * torch.arange(new) + 1) * old // (2 * new)):
            return False
    return True


AUGMENT_SIZES = {"C": (1, 3), "N": (1, 4), "h": (1, 6, 20), "w": (1, 7), "dy": (0, 4), "dx": (0, 5), "oh": (1, 8, 19),
                 "ow": (1, 9)}
DERIVED = {"H": lambda s: s["h"] + s["dy"], "W": lambda s: s["w"] + s["dx"]}


def class_map(generator, s):
    return torch.randint(0, 6, (s["H"], s["W"]), generator=generator)


AUGMENT = Cases(img=normal("C H W"), mask=computed(class_map), boxes=boxes_inside(), flip=value_of("flip"),
                crop=computed(any_crop), size=computed(lambda _, s: (s["oh"], s["ow"])), sizes=AUGMENT_SIZES,
                derived=DERIVED, flags={"flip": (False, True)}, legal=rounding_is_harmless,
                also=[{"h": 6, "w": 6, "dy": 2, "dx": 2}])


def mirrored(tensor, flip):
    """`tensor` with its columns in reverse, if `flip`."""
    columns = list(range(tensor.shape[-1]))
    return tensor[..., columns[::-1] if flip else columns]


@exercise("paired_augment")
@points(1)
@public
@for_all(case=AUGMENT, corners=False)
def test_augment_mirrors_twice(student, case):
    """Mirroring twice gives back image, mask and boxes."""
    img, mask, boxes = list(case.arguments().values())[:3]
    whole = (0, 0, case.H, case.W), (case.H, case.W)
    once = student.paired_augment(img, mask, boxes, True, *whole)
    assert_same(once[0].detach(), mirrored(img, True), "the mirrored image")
    twice = student.paired_augment(*(one.detach() for one in once[:3]), True, *whole)
    assert_same([one.detach() for one in twice[:3]], [img.clone(), mask.clone(), boxes.clone()],
                "(image, mask, boxes) after two flips")


@exercise("paired_augment")
@points(2)
@public
@for_all(case=AUGMENT)
def test_augment_window(student, case):
    """Without resizing, the crop pasted back into the mirrored image and mask changes nothing."""
    img, mask, boxes, flip, (top, left, h, w), _ = case.arguments().values()
    window, labels, _, _ = student.paired_augment(img, mask, boxes, flip, (top, left, h, w), (h, w))
    for name, part, whole in (("image", window, mirrored(img, flip)), ("mask", labels, mirrored(mask, flip))):
        assert_same(part.detach(), whole[..., top:, left:][..., :h, :w].contiguous(), f"the {name} inside the crop")


@exercise("paired_augment")
@points(3)
@public
@for_all(case=AUGMENT)
def test_augment_box_and_content_agree(student, case):
    """A box that was painted into the image and mask still frames what was painted, mirrored, cropped and enlarged."""
    generator = case.generator(4)
    x0, y0 = (int(torch.randint(0, side, (), generator=generator)) for side in (case.W, case.H))
    x1, y1 = (int(torch.randint(low + 1, side + 1, (), generator=generator))
              for low, side in ((x0, case.W), (y0, case.H)))
    mask = torch.zeros(case.H, case.W, dtype=torch.long)
    mask[y0:y1, x0:x1] = 7
    box = torch.tensor([[x0, y0, x1, y1]], dtype=torch.float64)
    crop = case.arguments()["crop"]
    for zoom in (1, 3):
        size = (zoom * case.h, zoom * case.w)
        img, labels, boxes, kept = student.paired_augment(mask[None].double(), mask, box, case.flip, crop, size)
        frame = torch.zeros(size, dtype=torch.long)
        for left, top, right, bottom in boxes.detach().round().long().tolist():
            frame[top:bottom, left:right] = 7
        assert_same(labels, frame, f"mask, against the box that was returned (zoom {zoom})")
        if zoom == 1:
            assert_same(img.detach()[0], labels.double(), "image, against the mask that was returned")
        assert_same(kept, (frame > 0).any().reshape(1), "kept")
        assert_same(boxes.detach(), boxes.detach().round(), "box, whose edges lie between pixels")


@exercise("paired_augment")
@points(1)
@public
@for_all(case=AUGMENT)
def test_augment_invents_no_labels(student, case):
    """The mask has no class that was not in the crop, and a constant image stays constant."""
    arguments = case.arguments()
    mask = 10 * arguments["mask"]
    top, left, h, w = arguments["crop"]
    img, labels, _, _ = student.paired_augment(*(arguments | {
        "img": torch.full_like(arguments["img"], 0.7), "mask": mask}).values())
    assert_same(img.detach(), torch.full((case.C, case.oh, case.ow), 0.7, dtype=img.dtype), "a constant image")
    there = set(mirrored(mask, case.flip)[top:top + h, left:left + w].flatten().tolist())
    strangers = sorted(set(labels.flatten().tolist()) - there)
    if labels.dtype != torch.long or strangers:
        raise CheckFailure(f"the mask has dtype {labels.dtype}, and classes {strangers} that are not in the crop.",
                           hint="Labels are picked, never averaged.")


@exercise("paired_augment")
@points(1)
@public
@for_all(case=AUGMENT, corners=False)
def test_augment_contract_edges(student, case):
    """No boxes at all are fine; a crop that is empty or leaves the image is a ValueError."""
    arguments = case.arguments()
    _, _, boxes, kept = student.paired_augment(*(arguments | {"boxes": arguments["boxes"][:0].clone()}).values())
    assert_same([boxes, kept], [torch.zeros(0, 4, dtype=boxes.dtype), torch.zeros(0, dtype=torch.bool)],
                "(boxes, kept) for no boxes")
    for crop in ((0, 0, 0, case.w), (0, 0, case.h, 0), (-1, 0, case.h, case.w), (0, case.dx + 1, case.h, case.w),
                 (case.dy + 1, 0, case.h, case.w), (0, -1, case.h, case.w)):
        assert_refuses(student.paired_augment, *(arguments | {"crop": crop}).values())


@exercise("paired_augment")
@points(4)
@for_all(case=AUGMENT)
def test_augment_values_and_gradients(student, reference, case):
    """All four results, and the gradients of image and boxes, are right for any geometry."""
    assert_equivalent(student.paired_augment, reference.paired_augment, case)


def hats(old, new):
    """(new, old): the weights of linear interpolation at the centres of `new` equal parts of `old` pixels."""
    at = ((torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5).clamp(0, old - 1)
    return (1 - (at[:, None] - torch.arange(old)).abs()).clamp(min=0)


@exercise("paired_augment")
@points(1)
@for_all(case=AUGMENT, corners=False)
def test_augment_interpolates_at_centres(student, case):
    """The image is interpolated linearly along rows and columns, at the centres of the new pixels."""
    img, mask, boxes, flip, (top, left, h, w), size = case.arguments().values()
    window = mirrored(img, flip)[:, top:top + h, left:left + w]
    expected = torch.einsum("ra,cab,sb->crs", hats(h, size[0]), window, hats(w, size[1]))
    assert_same(student.paired_augment(img, mask, boxes, flip, (top, left, h, w), size)[0].detach(), expected, "image")


@exercise("paired_augment")
@points(1)
@for_all(case=AUGMENT, corners=False)
def test_augment_float32_and_purity(student, reference, case):
    """Inputs are left alone, and float32 stays float32."""
    assert_pure(student.paired_augment, case)
    assert_equivalent(student.paired_augment, reference.paired_augment, case.but(dtype=torch.float32))


# ---------------------------------------------------------------------------------------------- early_stopping

def any_metrics(generator, s):
    """Quarters between -1 and 1, so that ties and steps of exactly min_delta are frequent, and a few NaN."""
    values = torch.randint(-4, 5, (s["L"],), generator=generator) / 4
    nan = torch.rand(s["L"], generator=generator) < 0.15
    return torch.where(nan, math.nan, values).tolist()


RUN = Cases(metrics=computed(any_metrics), sizes={"L": (1, 12, 40)},
            flags={"patience": (2, 1, 4), "min_delta": (0.25, 0.0, 0.5), "mode": ("min", "max")})
TREND = Cases(sizes={"L": (1, 9), "patience": (1, 4)}, flags={"mode": ("min", "max")})


def assert_restored(run, step):
    """Twice, the state was that of this step: all numbers in it are step + 1."""
    assert_same(run["restore returned"], torch.tensor([step, step]), "what restore returned, both times")
    for what in ("restored", "restored again"):
        state = {name: entry.double() for name, entry in run[what].items()}
        assert_same(state, {name: torch.full_like(entry, step + 1) for name, entry in state.items()},
                    f"state of the model, {what} (all numbers were {step + 1} at the best step)")


@exercise("early_stopping")
@points(2)
@public
@for_all(case=TREND)
def test_stopping_never_while_improving(student, case):
    """A metric that improves with every step never stops the training, and the last step is the best."""
    sign = 1.0 if case.mode == "max" else -1.0
    run = student.rehearse(student.EarlyStopping(case.patience, 0.5, case.mode), [sign * i for i in range(case.L)])
    assert_same(run["answers"], torch.tensor([False] * case.L), "answers of step")
    assert_restored(run, case.L - 1)


@exercise("early_stopping")
@points(2)
@public
@for_all(case=TREND)
def test_stopping_waits_for_its_patience(student, case):
    """After one improvement, step says stop at the patience-th step that is none: worse, equal, or NaN."""
    worse = -1.0 if case.mode == "max" else 1.0
    for later in (worse, 0.0, math.nan):
        run = student.rehearse(student.EarlyStopping(case.patience, 0.0, case.mode), [0.0] + [later] * (case.L + 3))
        assert_same(run["answers"], torch.arange(case.L + 4) >= case.patience, f"answers to 0, then {later:g}s")
        assert_restored(run, 0)


@exercise("early_stopping")
@points(1)
@public
@for_all(case=Cases(sizes={"patience": (1, 5)}, flags={"mode": ("min", "max"), "min_delta": (0.5, 0.0)}))
def test_stopping_min_delta(student, case):
    """A change by exactly min_delta is no improvement, a larger one is, measured from the last improvement."""
    sign = 1.0 if case.mode == "max" else -1.0
    delta = case.min_delta
    metrics = [sign * value for value in (0.0, delta, delta + 0.25, 2 * delta, 2 * delta + 0.25, 2 * delta + 0.5)]
    run = student.rehearse(student.EarlyStopping(case.patience, delta, case.mode), metrics)
    waited, answers = 0, []
    for one in (True, False, True, False, False, True):
        waited = 0 if one else waited + 1
        answers.append(waited >= case.patience)
    assert_same(run["answers"], torch.tensor(answers), f"answers to {metrics}")
    assert_restored(run, 5)


@exercise("early_stopping")
@points(3)
@public
def test_stopping_keeps_a_copy(student):
    """What is restored is the state of the best step, buffers too, whatever was done to the model before and after."""
    run = student.rehearse(student.EarlyStopping(2), [3.0, 1.0, 2.0, 2.0, 5.0])
    assert_same(sorted(run["restored"]), ["0.bias", "0.weight", "1.bias", "1.num_batches_tracked", "1.running_mean",
                                          "1.running_var", "1.weight"], "names of the state")
    assert_restored(run, 1)
    if run["step changed the model"]:
        raise CheckFailure("`step` changed the model.", hint="It only takes a copy; `restore` is called by the user.")
    if not run["parameters are the same objects"]:
        raise CheckFailure("`restore` put new parameters into the model.",
                           hint="The optimizer still holds the old ones: write the values into those.")


@exercise("early_stopping")
@points(2)
@public
def test_stopping_refuses(student):
    """ValueError: a patience below 1, a negative min_delta, another mode, and restoring before any improvement."""
    for arguments in ((0,), (-1,), (2, -0.5), (2, 0.0, "median"), (2, 0.0, "")):
        assert_refuses(student.EarlyStopping, *arguments)
    assert_refuses(student.rehearse, student.EarlyStopping(1), [math.nan])
    assert_refuses(student.rehearse, student.EarlyStopping(3, 0.1, "max"), [])


@exercise("early_stopping")
@points(3)
@for_all(case=RUN)
def test_stopping_any_run(student, case):
    """Answers and restored step are right for any metrics, ties and NaN among them, and any settings."""
    metrics = case.arguments()["metrics"]
    improvements = []
    answers = []
    for t, metric in enumerate(metrics):
        gain = (metric - metrics[improvements[-1]]) * (1 if case.mode == "max" else -1) if improvements else math.inf
        if not math.isnan(metric) and gain > (case.min_delta if improvements else 0):
            improvements.append(t)
        answers.append(t - (improvements[-1] if improvements else -1) >= case.patience)
    stopper = student.EarlyStopping(case.patience, case.min_delta, case.mode)
    if not improvements:
        assert_refuses(student.rehearse, stopper, metrics)
        return
    run = student.rehearse(stopper, metrics)
    assert_same(run["answers"], torch.tensor(answers), "answers of step")
    assert_restored(run, improvements[-1])


@exercise("early_stopping")
@points(1)
def test_stopping_extremes(student):
    """Infinite metrics are numbers like any other; two objects do not share anything; settings have their defaults."""
    one, other = student.EarlyStopping(2), student.EarlyStopping(patience=2, min_delta=1.0, mode="max")
    first = student.rehearse(one, [math.inf, math.inf, 5.0, -math.inf, -math.inf])
    second = student.rehearse(other, [-math.inf, 2.0, 3.0, 2.5])
    assert_same(first["answers"], torch.zeros(5, dtype=torch.bool), "answers of the first object")
    assert_restored(first, 3)
    assert_same(second["answers"], torch.tensor([False, False, False, True]), "answers of the second object")
    assert_restored(second, 1)


# ---------------------------------------------------------------------------------------------- label_smoothing_ce

def some_ignored(generator, s):
    """(N,) classes, a quarter of them replaced by ignore_index."""
    classes = torch.randint(0, s["K"], (s["N"],), generator=generator)
    return torch.where(torch.rand(s["N"], generator=generator) < 0.25, s["ignore_index"], classes)


def one_counts(generator, s):
    """The same, but the first row is not ignored."""
    y = some_ignored(generator, s)
    y[0] = 1 if s["ignore_index"] == 0 else 0
    return y


SMOOTH = Cases(logits=normal("N K"), y=computed(some_ignored), eps=value_of("eps"),
               ignore_index=value_of("ignore_index"), weight=positive("K"), sizes={"N": (1, 6, 33), "K": (1, 5, 67)},
               flags={"eps": (0.1, 0.0, 0.5, 1.0), "ignore_index": (-100, 0, 255)}, also=[{"N": 4, "K": 4}])
COUNTED = Cases(logits=normal("N K"), y=computed(one_counts), eps=value_of("eps"),
                ignore_index=value_of("ignore_index"), weight=positive("K"), sizes={"N": (1, 6, 33), "K": (2, 5, 67)},
                flags={"eps": (0.1, 0.0, 0.5, 1.0), "ignore_index": (-100, 0, 255)})


@exercise("label_smoothing_ce")
@points(2)
@public
@for_all(case=COUNTED)
def test_smoothing_uniform_logits(student, case):
    """For equal logits the loss is log K times the weights: 1 - eps of the targets', eps of the mean of all."""
    logits, y, eps, ignore, weight = case.arguments().values()
    counted = [int(label) for label in y if label != ignore]
    own = sum(float(weight[label]) for label in counted) / len(counted)
    expected = math.log(case.K) * ((1 - eps) * own + eps * float(weight.mean())) / own
    loss = student.ls_ce(0 * logits + 3, y, eps, ignore, weight)
    assert_same(loss.detach(), torch.tensor(expected, dtype=logits.dtype), "loss for equal logits")


@exercise("label_smoothing_ce")
@points(2)
@public
@for_all(case=COUNTED)
def test_smoothing_optimum(student, case):
    """For w = 1 the gradient vanishes where the softmax is q of Eq. (11); the loss is q's entropy there."""
    _, y, _, ignore, weight = case.arguments().values()
    eps = max(case.eps, 0.05)
    label = 1 if ignore == 0 else 0
    q = [eps / case.K + (1 - eps if k == label else 0) for k in range(case.K)]
    shift = torch.randn(case.N, 1, generator=case.generator(3), dtype=torch.float64)
    logits = (torch.tensor(q, dtype=torch.float64).log() + shift).requires_grad_()
    loss = student.ls_ce(logits, torch.full_like(y, label), eps, ignore, torch.ones_like(weight))
    entropy = -sum(share * math.log(share) for share in q)
    assert_same(loss.detach(), torch.tensor(entropy, dtype=torch.float64), "loss at the optimum")
    if loss.requires_grad:
        (found,) = torch.autograd.grad(loss, logits)
        assert_same(found, torch.zeros_like(found), "gradient at the optimum")


@exercise("label_smoothing_ce")
@points(1)
@public
@for_all(case=COUNTED, corners=False)
def test_smoothing_shift(student, case):
    """Adding a number to all logits of a row changes nothing, so the gradient of every row sums to 0."""
    shift = 5 * torch.randn(case.N, 1, generator=case.generator(3), dtype=torch.float64)
    assert_invariant(student.ls_ce, case, lambda arguments: arguments | {"logits": arguments["logits"] + shift},
                     "all logits of a row are shifted")
    _, found = gradients(student.ls_ce, case)
    assert_same(found[0].sum(dim=1), torch.zeros(case.N, dtype=torch.float64), "sum of each row of the gradient")


@exercise("label_smoothing_ce")
@points(1)
@public
@for_all(case=COUNTED)
def test_smoothing_ignored_rows(student, case):
    """Ignored rows could as well not be there: the loss is that of the other rows."""
    logits, y, eps, ignore, weight = case.arguments().values()
    whole = student.ls_ce(logits, y, eps, ignore, weight)
    there = [i for i in range(case.N) if int(y[i]) != ignore]
    assert_same(student.ls_ce(logits[there], y[there], eps, ignore, weight).detach(), whole.detach(),
                "loss without the ignored rows")


@exercise("label_smoothing_ce")
@points(1)
@public
@for_all(case=SMOOTH, corners=False)
def test_smoothing_everything_ignored(student, case):
    """If every row is ignored, the loss is 0 and no gradient is NaN."""
    def nothing(logits, y, eps, ignore_index, weight):
        return student.ls_ce(logits, torch.full_like(y, ignore_index), eps, ignore_index, weight)
    loss, found = gradients(nothing, case)
    assert_same(loss.detach(), torch.zeros((), dtype=torch.float64), "loss if everything is ignored")
    for name, gradient in zip(("logits", "weight"), found, strict=True):
        assert_same(gradient, torch.zeros_like(gradient), f"gradient of {name} if everything is ignored")


@exercise("label_smoothing_ce")
@points(1)
@public
@for_all(case=COUNTED, corners=False)
def test_smoothing_gradient_consistent(student, case):
    """The gradient is that of the values, for the weights of the classes too; and the inputs are left as they were."""
    assert_gradient_consistent(student.ls_ce, case)
    assert_pure(student.ls_ce, case)


@exercise("label_smoothing_ce")
@points(2)
@for_all(case=SMOOTH)
def test_smoothing_values_and_gradients(student, reference, case):
    """Values and gradients are right for any sizes, targets, eps, weights and ignore_index."""
    assert_equivalent(student.ls_ce, reference.ls_ce, case)


@exercise("label_smoothing_ce")
@points(1)
@for_all(case=COUNTED, corners=False)
def test_smoothing_as_in_torch(student, case):
    """It does what PyTorch's cross-entropy does, wherever a row counts."""
    logits, y, eps, ignore, weight = case.arguments().values()
    expected = F.cross_entropy(logits, y, weight.contiguous(), ignore_index=ignore, label_smoothing=eps)
    assert_same(student.ls_ce(logits, y, eps, ignore, weight).detach(), expected, "loss")


@exercise("label_smoothing_ce")
@points(1)
@for_all(case=COUNTED, corners=False)
def test_smoothing_float32(student, reference, case):
    """float32 stays float32, and logits around a thousand stay finite."""
    assert_equivalent(student.ls_ce, reference.ls_ce, case.but(dtype=torch.float32))
    assert_finite_at(student.ls_ce, case)
