"""Checks of the activations unit. Public ones need no reference: they state what the equations imply."""
import math

import torch
import torch.nn.functional as F
from etude.checks import exercise, points, public
from etude.compare import assert_same, assert_shape_dtype
from etude.failures import CheckFailure
from etude.properties import (
    assert_equivalent,
    assert_finite_at,
    assert_gradient_consistent,
    assert_pure,
    assert_refuses,
    assert_state_dict,
)
from etude.strategies import Argument, Cases, computed, for_all, normal, positive, value_of

# Where float32 overflows, underflows and rounds away: exp leaves it at 88.7 and -103.97, 1 + exp(-x) at 17.
EXTREME = (-1e4, -1e3, -104.0, -90.0, -17.0, 0.0, 17.0, 90.0, 104.0, 1e3, 1e4)


def away(dims, scale=1.0):
    """Normal numbers, none nearer to 0 than a thousandth: finite differences must not meet a kink."""
    def make(g, shape, sizes):
        x = torch.randn(shape, generator=g, dtype=torch.float64) * scale
        return torch.where(x < 0, x - 1e-3, x + 1e-3)
    return Argument(dims, make, floating=True)


def derivative(function, x):
    """(values, derivatives) of an elementwise function."""
    x = x.detach().clone().requires_grad_()
    y = function(x)
    assert_shape_dtype(y, tuple(x.shape), x.dtype)
    if not y.requires_grad:
        raise CheckFailure("no gradient flows from the output back to x.",
                           hint="`.detach()`, `.data` and `no_grad` cut the graph.")
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def assert_slope(function, x, expected, where):
    """The derivative of an elementwise function at x, given as numbers."""
    slope = derivative(function, torch.tensor(x, dtype=torch.float64))[1]
    assert_same(slope, torch.tensor(expected, dtype=torch.float64), f"derivative of {where}")


def assert_digits(student, name, x, expected):
    """Every element has its own digits right: small ones are not excused by large ones."""
    where = f"{name}, divided by the exact value,"
    # The quotient is formed on the student's side too: only there do wrong digits show in what the function returns.
    assert_same(student.ratio(name, x, expected), torch.ones_like(expected), where)
    got = getattr(student, name)(x)
    assert_shape_dtype(got, tuple(expected.shape), expected.dtype, name)
    assert_same(got.detach() / expected, torch.ones_like(expected), where)


def assert_extremes(function, where):
    """In float32, far-out inputs give finite values and derivatives."""
    x = torch.tensor(EXTREME, dtype=torch.float32)
    for name, found in zip(("value", "derivative"), derivative(function, x), strict=True):
        wrong = x[~torch.isfinite(found)].tolist()
        if wrong:
            raise CheckFailure(f"{where}: the {name} is not finite in float32 at x = {wrong}.",
                               hint="exp overflows beyond 88, and 0 times infinity is NaN, in the backward pass too.")


def kept(student, name, allowed, *inputs):
    """Until the backward pass, the function keeps at most `allowed` elements."""
    shapes = [shape for shapes in student.kept_for_backward(name, *inputs).values() for shape in shapes]
    elements = sum(math.prod(shape) for shape in shapes)
    if elements > allowed:
        raise CheckFailure(f"{name} keeps {elements} elements until the backward pass, in tensors of the shapes "
                           f"{', '.join(str(tuple(shape)) for shape in shapes)}; the contract allows {allowed}.",
                           hint="`ctx.save_for_backward` and attributes of ctx keep tensors; so does autograd, for "
                                "every operation that it records.")


def last_first(function, first, second):
    """Gradients when two forward passes come before two backward passes, in reverse order."""
    a, b = (x.detach().clone().requires_grad_() for x in (first, second))
    one, two = function(a), function(b)
    return [*torch.autograd.grad((two * second).sum(), b), *torch.autograd.grad((one * first).sum(), a)]


def like(case, spec, sizes, **flags):
    """The case of another specification with this one's seed and layout: the same one each time, with its memory."""
    key = ("like", spec, *flags.values())
    if key not in case.memo:
        case.memo[key] = spec.case(sizes, flags, seed=case.seed, layout=case.layout)
    return case.memo[key]


# ---------------------------------------------------------------------------------------------- relu_family

PLAIN = Cases(x=away("B T C"), sizes={"T": (1, 5, 70)})
LEAKY = Cases(x=away("B T C"), slope=value_of("slope"), flags={"slope": (0.3, 0.01, 0.0, 2.5)})
ELU = Cases(x=away("B T C"), alpha=value_of("alpha"), flags={"alpha": (1.7, 1.0, 0.4)})


def images(g, shape, sizes):
    """(B, C, H, W), or only the first 3 or 2 of these axes."""
    x = away("").make(g, shape, sizes)
    return x[(slice(None),) * sizes["rank"] + (0,) * (4 - sizes["rank"])]


PRELU = Cases(x=Argument("B C H W", images, floating=True), a=normal("C", scale=0.7, shift=0.2),
              flags={"rank": (4, 3, 2)})


@exercise("relu_family")
@points(1)
@public
@for_all(case=PLAIN, corners=False)
def test_relu_identities(student, case):
    """relu(x) - relu(-x) = x, relu is nowhere negative, and relu(c·x) = c·relu(x) for c > 0."""
    (x,) = case.arguments().values()
    y = student.relu(x)
    assert_same(y - student.relu(-x), x, "relu(x) - relu(-x)")
    assert_same(y.detach() >= 0, torch.ones(x.shape, dtype=torch.bool), "where relu(x) is at least 0")
    assert_same(student.relu(7 * x), 7 * y.detach(), "relu(7·x)")


@exercise("relu_family")
@points(2)
@public
@for_all(case=PRELU)
def test_relu_family_two_sides(student, case):
    """Positive x are returned as they are, negative ones times the slope: one for all, or one for each channel."""
    x, a = case.arguments().values()
    size = x.abs()
    slope = (0.0, 0.2, 3.0)[case.seed % 3]
    for sign, name in ((1, "positive"), (-1, "negative")):
        assert_same(student.leaky_relu(sign * size, slope), sign * size * (1 if sign > 0 else slope),
                    f"leaky_relu of {name} numbers, slope {slope},")
        channels = [sign * size[:, c] * (1 if sign > 0 else a[c]) for c in range(case.C)]
        assert_same(student.prelu(sign * size, a), torch.stack(channels, dim=1), f"prelu of {name} numbers")


@exercise("relu_family")
@points(1)
@public
@for_all(case=ELU, corners=False)
def test_elu_values(student, case):
    """elu(log r) is α·(r - 1) for r < 1 and log r above, it ends at -α, and keeps its digits near 0."""
    x, alpha = case.arguments().values()
    r = torch.sigmoid(x)
    assert_same(student.elu(torch.log(r), alpha), alpha * (r - 1), "elu(log r)")
    assert_same(student.elu(x.abs(), alpha), x.abs(), "elu of positive numbers")
    assert_same(student.elu(torch.full((2,), -800.0, dtype=x.dtype), alpha),
                torch.full((2,), -alpha, dtype=x.dtype), "elu(-800)")
    tiny = -1e-9 * r
    assert_same(student.elu(tiny, alpha) / alpha, tiny, "elu near 0")
    assert_digits(student, "elu", tiny, tiny + tiny.square() / 2)


@exercise("relu_family")
@points(2)
@public
def test_relu_family_at_zero(student):
    """At exactly 0 the derivatives are those from the left: 0 for relu, the slope, α, and a of the channel."""
    assert_slope(student.relu, [0.0, -0.0, 1.0, -1.0], [0.0, 0.0, 1.0, 0.0], "relu at 0, -0, 1 and -1")
    for number in (0.3, 2.5):
        assert_slope(lambda x, s=number: student.leaky_relu(x, s), [0.0, 2.0, -2.0], [number, 1.0, number],
                     f"leaky_relu, slope {number}, at 0, 2 and -2")
        assert_slope(lambda x, s=number: student.elu(x, s), [0.0, 2.0], [number, 1.0],
                     f"elu, α = {number}, at 0 and 2")
    a = torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64)
    assert_slope(lambda x: student.prelu(x, a), [[0.0, 0.0, 0.0]], [[0.5, -2.0, 0.0]], "prelu at 0")


@exercise("relu_family")
@points(1)
@public
@for_all(case=PRELU, corners=False)
def test_prelu_gradient_consistent(student, case):
    """The gradients of prelu, those of the slopes too, agree with finite differences of your own function."""
    assert_gradient_consistent(student.prelu, case)


@exercise("relu_family")
@points(1)
@public
@for_all(case=PLAIN, corners=False)
def test_leaky_relu_memory(student, case):
    """leaky_relu keeps at most one tensor of the size of x until its backward pass."""
    (x,) = case.arguments().values()
    kept(student, "leaky_relu", x.numel(), x)


@exercise("relu_family")
@points(2)
@for_all(case=PLAIN)
def test_relu_family_values_and_gradients(student, reference, case):
    """relu, leaky_relu and elu: values and gradients are right for any shape, slope and α."""
    slope, alpha = LEAKY.flags["slope"][case.seed % 4], ELU.flags["alpha"][case.seed % 3]
    assert_equivalent(student.relu, reference.relu, case)
    assert_equivalent(student.leaky_relu, reference.leaky_relu, like(case, LEAKY, case.sizes, slope=slope))
    assert_equivalent(student.elu, reference.elu, like(case, ELU, case.sizes, alpha=alpha))
    (x,) = case.arguments().values()
    assert_same(student.leaky_relu(x), reference.leaky_relu(x), "leaky_relu with its default slope")
    assert_same(student.elu(x), reference.elu(x), "elu with its default α")


@exercise("relu_family")
@points(1)
@for_all(case=PRELU, corners=False)
def test_relu_family_oracle(student, case):
    """All four agree with the library's, values and gradients."""
    assert_equivalent(student.prelu, F.prelu, case)
    x, _ = case.arguments().values()
    for name, expected, slope in (("relu", F.relu, ()), ("leaky_relu", F.leaky_relu, (0.2,)), ("elu", F.elu, (0.6,))):
        mine, theirs = (derivative(lambda x, f=f, s=slope: f(x, *s), x) for f in (getattr(student, name), expected))
        for what, one, other in zip(("value", "derivative"), mine, theirs, strict=True):
            assert_same(one, other, f"{what} of {name}")


@exercise("relu_family")
@points(1)
@for_all(case=PRELU, corners=False)
def test_relu_family_float32(student, reference, case):
    """Inputs are left alone; in float32 the dtype is kept, and values and gradients stay finite far out."""
    sizes = {"B": case.B, "T": case.H, "C": case.C}
    for name, spec in (("relu", PLAIN), ("leaky_relu", LEAKY), ("elu", ELU)):
        own = like(case, spec, sizes)
        assert_pure(getattr(student, name), own)
        assert_equivalent(getattr(student, name), getattr(reference, name), own.but(dtype=torch.float32))
        assert_finite_at(getattr(student, name), own)
    assert_pure(student.prelu, case)
    assert_equivalent(student.prelu, reference.prelu, case.but(dtype=torch.float32))
    assert_finite_at(student.prelu, case)


# ---------------------------------------------------------------------------------------------- stable_sigmoid_bce

LOGITS = Cases(x=normal("B T", scale=3.0), sizes={"T": (1, 6, 70)})
LABELLED = Cases(x=normal("B T", scale=3.0), y=positive("B T", 0.0, 1.0), sizes={"T": (1, 6, 70)})


@exercise("stable_sigmoid_bce")
@points(1)
@public
@for_all(case=LABELLED)
def test_sigmoid_of_a_logit(student, case):
    """sigmoid(log(p / (1 - p))) = p, and log_sigmoid of it is log p."""
    _, p = case.arguments().values()
    p = 0.01 + 0.98 * p
    logit = torch.log(p) - torch.log(1 - p)
    assert_same(student.sigmoid(logit), p.contiguous(), "sigmoid of the logit of p")
    assert_same(student.log_sigmoid(logit), torch.log(p), "log_sigmoid of the logit of p")


@exercise("stable_sigmoid_bce")
@points(1)
@public
@for_all(case=LOGITS, corners=False)
def test_sigmoid_symmetry(student, case):
    """σ(x) + σ(-x) = 1, and log σ(x) - log σ(-x) = x."""
    (x,) = case.arguments().values()
    assert_same(student.sigmoid(x) + student.sigmoid(-x), torch.ones_like(x).contiguous(), "sigmoid(x) + sigmoid(-x)")
    assert_same(student.log_sigmoid(x) - student.log_sigmoid(-x), x.contiguous(), "log_sigmoid(x) - log_sigmoid(-x)")


@exercise("stable_sigmoid_bce")
@points(1)
@public
def test_sigmoid_tails(student):
    """Far out every digit counts: σ(-x) = e⁻ˣ and log σ(x) = -e⁻ˣ, and log σ(-x) = -x in float32."""
    x = torch.tensor([40.0, 55.5, 90.0, 104.0, 300.0, 650.0], dtype=torch.float64)
    assert_digits(student, "sigmoid", -x, torch.exp(-x))
    assert_digits(student, "log_sigmoid", x, -torch.exp(-x))
    x = torch.tensor([-90.0, -104.0, -1e3, -1e4])
    assert_digits(student, "log_sigmoid", x, x)


@exercise("stable_sigmoid_bce")
@points(1)
@public
def test_sigmoid_at_zero(student):
    """At exactly 0 the derivatives are ¼ and ½, and that of the loss of one example is ½ - y."""
    assert_slope(student.sigmoid, [0.0, -0.0], [0.25, 0.25], "sigmoid at 0")
    assert_slope(student.log_sigmoid, [0.0, -0.0], [0.5, 0.5], "log_sigmoid at 0")
    for label in (0.0, 0.2, 1.0):
        y = torch.tensor(label, dtype=torch.float64)
        assert_slope(lambda x, y=y: student.bce_with_logits(x, y), 0.0, 0.5 - label, f"the loss at 0, y = {label},")


@exercise("stable_sigmoid_bce")
@points(1)
@public
@for_all(case=LABELLED, corners=False)
def test_bce_linear_tail(student, case):
    """The loss is the same for (x, y) and (-x, 1 - y); confident and wrong by 500 costs 500, confident and right 0."""
    x, y = case.arguments().values()
    assert_same(student.bce_with_logits(-x, 1 - y), student.bce_with_logits(x, y).detach(), "loss of (-x, 1 - y)")
    for dtype in (torch.float64, torch.float32):
        far, ones = torch.full((case.B, case.T), 500.0, dtype=dtype), torch.ones(case.B, case.T, dtype=dtype)
        assert_same(student.bce_with_logits(far, 0 * ones), torch.tensor(500.0, dtype=dtype), "loss of x = 500, y = 0")
        assert_same(student.bce_with_logits(far, ones), torch.tensor(0.0, dtype=dtype), "loss of x = 500, y = 1")


@exercise("stable_sigmoid_bce")
@points(2)
@public
@for_all(case=LABELLED)
def test_bce_gradient(student, case):
    """The gradients of the loss are (σ(x) - y) / n with respect to x and -x / n with respect to y."""
    x, y = case.arguments().values()
    x = x.requires_grad_()
    y = y.requires_grad_()
    loss = student.bce_with_logits(x, y)
    assert_shape_dtype(loss, (), x.dtype, "loss")
    if not loss.requires_grad:
        raise CheckFailure("no gradient flows from the loss.",
                           hint="`.detach()`, `.item()` and `no_grad` cut the graph.")
    found = torch.autograd.grad(loss, [x, y], allow_unused=True)
    with torch.no_grad():
        p = (1 + torch.tanh(x / 2)) / 2
        assert_same(found[0], ((p - y) / x.numel()).contiguous(), "gradient of x")
        assert_same(found[1], (-x / x.numel()).contiguous(), "gradient of y")


@exercise("stable_sigmoid_bce")
@points(2)
@for_all(case=LABELLED)
def test_bce_values_and_gradients(student, reference, case):
    """All three: values and gradients are right for any shape and layout."""
    logits = like(case, LOGITS, case.sizes)
    assert_equivalent(student.sigmoid, reference.sigmoid, logits)
    assert_equivalent(student.log_sigmoid, reference.log_sigmoid, logits)
    assert_equivalent(student.bce_with_logits, reference.bce_with_logits, case)


@exercise("stable_sigmoid_bce")
@points(1)
@for_all(case=LABELLED, corners=False)
def test_bce_oracle(student, case):
    """All three agree with the library's, far out too."""
    far = case.but(scale=20.0)
    x, y = far.arguments().values()
    for name, expected in (("sigmoid", torch.sigmoid), ("log_sigmoid", F.logsigmoid)):
        for what, one, other in zip(("value", "derivative"), derivative(getattr(student, name), x),
                                    derivative(expected, x), strict=True):
            assert_same(one, other.contiguous(), f"{what} of {name}")
    y = (y / 20).contiguous()
    assert_same(student.bce_with_logits(x, y), F.binary_cross_entropy_with_logits(x, y), "loss")


@exercise("stable_sigmoid_bce")
@points(1)
def test_bce_far_out(student):
    """In float32, far-out logits give finite values and gradients in all three, whatever the labels."""
    assert_extremes(student.sigmoid, "sigmoid")
    assert_extremes(student.log_sigmoid, "log_sigmoid")
    for label in (0.0, 0.5, 1.0):
        assert_extremes(lambda x, y=label: x * 0 + student.bce_with_logits(x, torch.full_like(x, y)), "bce_with_logits")


@exercise("stable_sigmoid_bce")
@points(1)
@for_all(case=LABELLED, corners=False)
def test_bce_float32_and_purity(student, reference, case):
    """Inputs are left alone; in float32 the dtype is kept, and the result is accurate."""
    logits = like(case, LOGITS, case.sizes)
    for name, own in (("sigmoid", logits), ("log_sigmoid", logits), ("bce_with_logits", case)):
        assert_pure(getattr(student, name), own)
        assert_equivalent(getattr(student, name), getattr(reference, name), own.but(dtype=torch.float32))


# ---------------------------------------------------------------------------------------------- stable_tanh

TANH = Cases(x=normal("B T C", scale=1.5), sizes={"T": (1, 5, 70)})


def second_derivative(function, x):
    """The second derivative of an elementwise function."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    if not first.requires_grad:
        raise CheckFailure("the gradient cannot be differentiated again.",
                           hint="What the backward pass computes with must be recorded: save_for_backward, and torch "
                                "operations only.")
    return torch.autograd.grad(first.sum(), x)[0]


@exercise("stable_tanh")
@points(1)
@public
@for_all(case=TANH, corners=False)
def test_tanh_identities(student, case):
    """tanh is odd, lies between -1 and 1, and equals 2σ(2x) - 1."""
    (x,) = case.arguments().values()
    y = student.tanh_from_exp(x).detach()
    assert_same(student.tanh_from_exp(-x), -y, "tanh(-x)")
    assert_same(y.abs() <= 1, torch.ones(x.shape, dtype=torch.bool), "where |tanh(x)| is at most 1")
    assert_same(y, (2 * torch.sigmoid(2 * x) - 1).contiguous(), "tanh(x)")


@exercise("stable_tanh")
@points(2)
@public
def test_tanh_digits_and_extremes(student):
    """Near 0 all digits are right, tanh(x) = x - x³/3; far out it is 1 or -1, also in float32."""
    x = torch.tensor([1e-4, -1e-5, 1e-6, -1e-8, 1e-12, -1e-30], dtype=torch.float64)
    assert_digits(student, "tanh_from_exp", x, x - x**3 / 3)
    far = torch.tensor([20.0, -45.0, 90.0, -104.0, 1e3, -1e3, 1e4, -1e4])
    assert_same(student.tanh_from_exp(far), torch.sign(far), "tanh far out")
    assert_same(student.tanh_from_exp(far.double()), torch.sign(far).double(), "tanh far out")
    assert_same(student.tanh_from_exp(torch.zeros(2, 1)), torch.zeros(2, 1), "tanh(0)")


@exercise("stable_tanh")
@points(1)
@public
@for_all(case=TANH)
def test_tanh_derivative(student, case):
    """The derivative is 1 - y²; at exactly 0 it is 1."""
    (x,) = case.arguments().values()
    y, slope = derivative(student.tanh_from_exp, x)
    assert_same(slope, ((1 - y) * (1 + y)).contiguous(), "derivative")
    assert_slope(student.tanh_from_exp, [0.0, -0.0, 1e-9], [1.0, 1.0, 1.0], "tanh at 0, -0 and 1e-9")


@exercise("stable_tanh")
@points(2)
@public
@for_all(case=TANH, corners=False)
def test_tanh_second_derivative(student, case):
    """The second derivative is -2·y·(1 - y²)."""
    (x,) = case.arguments().values()
    y = student.tanh_from_exp(x).detach()
    assert_same(second_derivative(student.tanh_from_exp, x), (2 * y**3 - 2 * y).contiguous(), "second derivative")


@exercise("stable_tanh")
@points(1)
@public
@for_all(case=TANH, corners=False)
def test_tanh_memory(student, case):
    """At most one tensor of the size of x is kept until the backward pass."""
    (x,) = case.arguments().values()
    kept(student, "tanh_from_exp", x.numel(), x)


@exercise("stable_tanh")
@points(2)
@for_all(case=TANH)
def test_tanh_values_and_gradients(student, reference, case):
    """Values and gradients are right for any shape and layout."""
    assert_equivalent(student.tanh_from_exp, reference.tanh_from_exp, case)


@exercise("stable_tanh")
@points(1)
@for_all(case=TANH, corners=False)
def test_tanh_oracle(student, case):
    """Values and two derivatives agree with the library's tanh, whatever weighs them."""
    (x,) = case.arguments().values()
    weight = torch.randn(2, *x.shape, generator=case.generator(6), dtype=x.dtype)

    def twice(function):
        leaf, cotangent = x.detach().clone().requires_grad_(), weight[0].clone().requires_grad_()
        (first,) = torch.autograd.grad(function(leaf), leaf, cotangent, create_graph=True)
        return [function(leaf).detach(), first.detach(), *torch.autograd.grad(first, [leaf, cotangent], weight[1])]
    assert_same(twice(student.tanh_from_exp), twice(torch.tanh), "values and gradients")


@exercise("stable_tanh")
@points(1)
@for_all(case=TANH, corners=False)
def test_tanh_two_graphs(student, case):
    """Inputs are left alone, and two forward passes may come before the first backward pass."""
    assert_pure(student.tanh_from_exp, case)
    (first,), (second,) = case.arguments().values(), case.but(seed=case.seed + 1).arguments().values()
    assert_same(last_first(student.tanh_from_exp, first, second), last_first(torch.tanh, first, second), "gradients")


@exercise("stable_tanh")
@points(1)
@for_all(case=TANH, corners=False)
def test_tanh_float32(student, reference, case):
    """In float32 the dtype is kept, and values and gradients are accurate and stay finite far out."""
    assert_equivalent(student.tanh_from_exp, reference.tanh_from_exp, case.but(dtype=torch.float32))
    assert_finite_at(student.tanh_from_exp, case)


# ---------------------------------------------------------------------------------------------- swish_checkpointed

SWISH = Cases(x=normal("B T C", scale=2.0), beta=normal("C"), sizes={"T": (1, 5, 70)})
ONE_BETA = SWISH.but(beta=normal(""))
MIDDLE_BETA = SWISH.but(beta=normal("T 1"))


@exercise("swish_checkpointed")
@points(1)
@public
@for_all(case=SWISH, corners=False)
def test_swish_identity(student, case):
    """swish(x) - swish(-x) = x for every β."""
    x, beta = case.arguments().values()
    assert_same(student.swish(x, beta) - student.swish(-x, beta), x.contiguous(), "swish(x) - swish(-x)")


@exercise("swish_checkpointed")
@points(1)
@public
@for_all(case=Cases(x=away("B T C", 2.0)), corners=False)
def test_swish_limits(student, case):
    """For β = 0 it is x / 2, for β = 10⁶ the ReLU, for β = -10⁶ what the ReLU leaves of x."""
    (x,) = case.arguments().values()
    beta = torch.zeros(case.C, dtype=x.dtype)
    positive_part = torch.where(x > 0, x, 0).contiguous()
    assert_same(student.swish(x, beta), (x / 2).contiguous(), "swish with β = 0")
    assert_same(student.swish(x, beta + 1e6), positive_part, "swish with β = 1e6")
    assert_same(student.swish(x, beta - 1e6), x - positive_part, "swish with β = -1e6")


@exercise("swish_checkpointed")
@points(1)
@public
@for_all(case=Cases(x=away("B T"), beta=normal("")), corners=False)
def test_swish_value(student, case):
    """Where βx = log(p / (1 - p)), the output is p·x."""
    x, beta = case.arguments().values()
    p = torch.rand(x.shape, generator=case.generator(7), dtype=x.dtype) * 0.98 + 0.01
    beta = torch.log(p / (1 - p)) / x
    assert_same(student.swish(x, beta), p * x, "swish")


@exercise("swish_checkpointed")
@points(2)
@public
@for_all(case=SWISH)
def test_swish_gradient_consistent(student, case):
    """The gradients of x and of β, one β for each channel, agree with finite differences of your own function."""
    assert_gradient_consistent(student.swish, case)


@exercise("swish_checkpointed")
@points(2)
@public
@for_all(case=SWISH, corners=False)
def test_swish_memory(student, case):
    """Nothing is kept until the backward pass but x and β."""
    x, beta = case.arguments().values()
    kept(student, "swish", x.numel() + beta.numel(), x, beta)


@exercise("swish_checkpointed")
@points(2)
@for_all(case=SWISH)
def test_swish_values_and_gradients(student, reference, case):
    """Values and gradients are right for one β in each channel."""
    assert_equivalent(student.swish, reference.swish, case)


@exercise("swish_checkpointed")
@points(1)
@for_all(case=SWISH, corners=False)
def test_swish_broadcast(student, reference, case):
    """Values and gradients are right for other shapes of β: a single number, or one for each row."""
    for spec in (ONE_BETA, MIDDLE_BETA):
        assert_equivalent(student.swish, reference.swish, like(case, spec, case.sizes))


@exercise("swish_checkpointed")
@points(1)
@for_all(case=Cases(x=normal("B T C", scale=2.0), beta=away("C")), corners=False)
def test_swish_oracle(student, case):
    """It agrees with the library's silu(βx) / β, values and gradients."""
    assert_equivalent(student.swish, lambda x, beta: F.silu(beta * x) / beta, case)


@exercise("swish_checkpointed")
@points(1)
@for_all(case=SWISH, corners=False)
def test_swish_float32(student, reference, case):
    """Inputs are left alone, calls do not meet; in float32 it is accurate, and finite far out."""
    assert_pure(student.swish, case)
    assert_equivalent(student.swish, reference.swish, case.but(dtype=torch.float32))
    assert_finite_at(student.swish, case)
    (first, beta), (second, _) = case.arguments().values(), case.but(seed=case.seed + 1).arguments().values()
    assert_same(last_first(lambda x: student.swish(x, beta), first, second),
                last_first(lambda x: x * torch.sigmoid(beta * x), first, second), "gradients of two calls")


# ---------------------------------------------------------------------------------------------- gelu

GELU = Cases(x=normal("B T C", scale=1.5), sizes={"T": (1, 5, 70)})


@exercise("gelu")
@points(1)
@public
@for_all(case=GELU, corners=False)
def test_gelu_identity(student, case):
    """gelu(x) - gelu(-x) = x, in both forms."""
    (x,) = case.arguments().values()
    for name in ("gelu_exact", "gelu_tanh"):
        gelu = getattr(student, name)
        assert_same(gelu(x) - gelu(-x), x.contiguous(), f"{name}(x) - {name}(-x)")


@exercise("gelu")
@points(1)
@public
def test_gelu_normal_distribution(student):
    """gelu_exact(x) / x is the normal distribution's Φ(x): 84.1 % below 1, 97.7 % below 2, 99.9 % below 3."""
    x = torch.tensor([1.0, 2.0, 3.0, -1.0, -2.0, 0.5], dtype=torch.float64)
    phi = torch.tensor([0.8413447460685429, 0.9772498680518208, 0.9986501019683699, 0.15865525393145705,
                        0.0227501319481792, 0.6914624612740131], dtype=torch.float64)
    assert_same(student.gelu_exact(x) / x, phi, "gelu_exact(x) / x")


@exercise("gelu")
@points(1)
@public
@for_all(case=Cases(x=away("B T", 0.7)), corners=False)
def test_gelu_tanh_formula(student, case):
    """gelu_tanh hides a tanh of √(2/π)·(x + 0.044715·x³)."""
    (x,) = case.arguments().values()
    x = x.clamp(-2, 2)
    inner = torch.atanh(2 * student.gelu_tanh(x).detach() / x - 1)
    assert_same(inner, ((2 / math.pi) ** 0.5 * (1 + 0.044715 * x.square()) * x).contiguous(), "argument of the tanh")


@exercise("gelu")
@points(1)
@public
def test_gelu_forms_differ(student):
    """The two forms differ, by 4.7·10⁻⁴ at most, and are equal at 0 and far out."""
    x = torch.linspace(-5, 5, 501, dtype=torch.float64)
    distance = (student.gelu_exact(x) - student.gelu_tanh(x)).detach().abs()
    largest = float(distance.max())
    if not 4.6e-4 < largest < 4.8e-4:
        raise CheckFailure(f"between -5 and 5 gelu_exact and gelu_tanh differ by up to {largest:.2g}; it should be "
                           "4.7e-4.",
                           hint="One has an erf, the other a tanh.")
    far = torch.tensor([0.0, 60.0, -60.0], dtype=torch.float64)
    assert_same(student.gelu_exact(far), torch.tensor([0.0, 60.0, 0.0], dtype=torch.float64), "gelu_exact(0, 60, -60)")
    assert_same(student.gelu_tanh(far), torch.tensor([0.0, 60.0, 0.0], dtype=torch.float64), "gelu_tanh(0, 60, -60)")


@exercise("gelu")
@points(1)
@public
@for_all(case=GELU, corners=False)
def test_gelu_gradient_consistent(student, case):
    """The gradients of both forms agree with finite differences of your own functions."""
    assert_gradient_consistent(student.gelu_exact, case)
    assert_gradient_consistent(student.gelu_tanh, case)


@exercise("gelu")
@points(3)
@for_all(case=GELU)
def test_gelu_values_and_gradients(student, reference, case):
    """Both forms: values and gradients are right for any shape and layout."""
    assert_equivalent(student.gelu_exact, reference.gelu_exact, case)
    assert_equivalent(student.gelu_tanh, reference.gelu_tanh, case)


@exercise("gelu")
@points(1)
@for_all(case=GELU, corners=False)
def test_gelu_oracle(student, case):
    """Both forms agree with the library's, and the exact one with Φ from its own function."""
    assert_equivalent(student.gelu_exact, F.gelu, case)
    assert_equivalent(student.gelu_tanh, lambda x: F.gelu(x, approximate="tanh"), case)
    (x,) = case.arguments().values()
    assert_same(student.gelu_exact(x), (x * torch.special.ndtr(x)).contiguous())


@exercise("gelu")
@points(1)
@for_all(case=GELU, corners=False)
def test_gelu_float32(student, reference, case):
    """Inputs are left alone; in float32 the dtype is kept, and values and gradients stay finite far out."""
    for name in ("gelu_exact", "gelu_tanh"):
        assert_pure(getattr(student, name), case)
        assert_equivalent(getattr(student, name), getattr(reference, name), case.but(dtype=torch.float32))
        assert_finite_at(getattr(student, name), case)


# ---------------------------------------------------------------------------------------------- glu_variants

GLU = Cases(x=normal("B T D"), w1=normal("F D"), w3=normal("F D"), w2=normal("D F"),
            sizes={"T": (1, 4), "D": (1, 5), "F": (1, 6, 70)})
NAMES = ("swiglu", "geglu", "reglu")


@exercise("glu_variants")
@points(1)
@public
@for_all(case=GLU, corners=False)
def test_glu_bilinear(student, case):
    """For a fixed gate the layer is linear in w3, and linear in w2."""
    x, w1, w3, w2 = case.arguments().values()
    generator = case.generator(8)
    other3, other2 = (torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in (w3, w2))
    for name in NAMES:
        layer = getattr(student, name)
        both = layer(x, w1, w3, w2)
        assert_same(layer(x, w1, 2 * w3 - other3, w2), (2 * both - layer(x, w1, other3, w2)).detach(),
                    f"{name} with 2·w3 - v")
        assert_same(layer(x, w1, w3, 2 * w2 - other2), (2 * both - layer(x, w1, w3, other2)).detach(),
                    f"{name} with 2·w2 - v")
        assert_same(layer(x, 0 * w1, w3, w2), torch.zeros_like(x).contiguous(), f"{name} with a gate of 0")


@exercise("glu_variants")
@points(1)
@public
@for_all(case=GLU, corners=False)
def test_glu_hidden_order(student, case):
    """The order of the hidden units does not matter, if all three weights follow it."""
    x, w1, w3, w2 = case.arguments().values()
    order = torch.randperm(case.F, generator=case.generator(9))
    for name in NAMES:
        layer = getattr(student, name)
        assert_same(layer(x, w1[order], w3[order], w2[:, order]), layer(x, w1, w3, w2).detach(),
                    f"{name} with permuted hidden units")


@exercise("glu_variants")
@points(2)
@public
@for_all(case=Cases(u=away("B T"), g=positive("B T", 40.0, 60.0)))
def test_glu_open_and_closed(student, case):
    """A gate of +50 is open: 50 times the other projection passes. A gate of -50 is closed: nothing does."""
    u, g = case.arguments().values()
    one = torch.eye(2, dtype=u.dtype)
    out = torch.tensor([[1.0], [0.0]], dtype=u.dtype)
    for name in NAMES:
        layer = getattr(student, name)
        opened = layer(torch.stack([g, u], dim=-1), one[:1], one[1:], out)
        assert_same(opened[..., 0], (g * u).contiguous(), f"{name} with an open gate")
        closed = layer(torch.stack([-g, u], dim=-1), one[:1], one[1:], out)
        assert_same(closed[..., 0], torch.zeros_like(u).contiguous(), f"{name} with a closed gate")


@exercise("glu_variants")
@points(1)
@public
@for_all(case=GLU, corners=False)
def test_glu_any_leading_axes(student, case):
    """A single vector gives what it gives within a batch, and so does a batch with one more axis."""
    x, *weights = case.arguments().values()
    for name in NAMES:
        layer = getattr(student, name)
        whole = layer(x, *weights).detach()
        assert_same(layer(x[-1, 0], *weights), whole[-1, 0], f"{name} of one vector")
        assert_same(layer(x[None], *weights), whole[None], f"{name} with one more axis")


@exercise("glu_variants")
@points(1)
@public
@for_all(case=GLU, corners=False)
def test_glu_gradient_consistent(student, case):
    """The gradients of swiglu and geglu agree with finite differences of your own functions."""
    assert_gradient_consistent(student.swiglu, case)
    assert_gradient_consistent(student.geglu, case)


@exercise("glu_variants")
@points(2)
@for_all(case=GLU)
def test_swiglu_values_and_gradients(student, reference, case):
    """swiglu: values and all gradients are right for any sizes and layouts."""
    assert_equivalent(student.swiglu, reference.swiglu, case)


@exercise("glu_variants")
@points(2)
@for_all(case=GLU)
def test_geglu_reglu_values_and_gradients(student, reference, case):
    """geglu and reglu: values and all gradients are right for any sizes and layouts."""
    assert_equivalent(student.geglu, reference.geglu, case)
    assert_equivalent(student.reglu, reference.reglu, case)


@exercise("glu_variants")
@points(1)
@for_all(case=GLU, corners=False)
def test_glu_oracle(student, case):
    """All three agree with layers put together from the library's parts."""
    for name, activation in zip(NAMES, (F.silu, F.gelu, F.relu), strict=True):
        assert_equivalent(getattr(student, name), lambda x, w1, w3, w2, act=activation: F.linear(
            act(F.linear(x, w1)) * F.linear(x, w3), w2), case)


@exercise("glu_variants")
@points(1)
@for_all(case=GLU, corners=False)
def test_glu_float32(student, reference, case):
    """Inputs are left alone, float32 is kept and accurate, and large inputs stay finite."""
    for name in NAMES:
        layer = getattr(student, name)
        assert_pure(layer, case)
        assert_equivalent(layer, getattr(reference, name), case.but(dtype=torch.float32))
        assert_finite_at(layer, case)


# -------------------------------------------------------------------------------------- learnable_spline_activation

def knots_of(sizes):
    """Knots at multiples of ½, by the case's kind: uniform, uneven, with repeated ends, or a double knot inside."""
    kind, count, k = sizes["kind"], sizes["G"] + 2 * sizes["k"] + 1, sizes["k"]
    steps = [1 if kind == "uniform" else (2, 1, 3, 1)[i % 4] for i in range(count - 1)]
    if kind == "repeated ends":
        steps[:k] = [0] * k
        steps[count - 1 - k:] = [0] * k
    if kind == "double inside" and len(steps) > 2:
        steps[len(steps) // 2] = 0
    return torch.tensor([-3, *steps], dtype=torch.float64).cumsum(0) / 2


def between_knots(g, shape, sizes):
    """Numbers from just before the first knot to just behind the last, none of them at a knot."""
    knots = knots_of(sizes)
    u = torch.rand(shape, generator=g, dtype=torch.float64) * float(knots[-1] - knots[0] + 2) + float(knots[0]) - 1
    cell = (2 * u).floor()
    return (cell + (2 * u - cell).clamp(0.02, 0.98)) / 2


KINDS = ("uniform", "uneven", "repeated ends", "double inside")
BASIS = Cases(x=Argument("N", between_knots, floating=True), knots=computed(lambda g, sizes: knots_of(sizes)),
              k=value_of("k"), sizes={"N": (1, 9, 70), "G": (1, 5), "k": (0, 3)}, flags={"kind": KINDS})


def on_the_grid(case):
    """(knots, points of the grid: its ends, its knots and some between)."""
    knots = knots_of({**case.sizes, **case.flags})
    grid = knots[case.k:case.k + case.G + 1]
    share = torch.rand(case.N, generator=case.generator(10), dtype=torch.float64)
    return knots, torch.cat([grid, grid[0] + share * (grid[-1] - grid[0])])


@exercise("learnable_spline_activation")
@points(1)
@public
@for_all(case=BASIS)
def test_basis_sums_to_one(student, case):
    """On the grid the B-splines are at least 0 and sum to 1, at its knots and at both ends too."""
    knots, x = on_the_grid(case)
    basis = student.bspline_basis(x, knots, case.k)
    assert_shape_dtype(basis, (len(x), case.G + case.k), x.dtype)
    if not bool((basis >= -1e-12).all()):
        raise CheckFailure(f"a B-spline is negative: {float(basis.min()):.3g}.")
    assert_same(basis.sum(dim=1), torch.ones_like(x), "sum of the B-splines")


@exercise("learnable_spline_activation")
@points(1)
@public
@for_all(case=BASIS)
def test_basis_local_support(student, case):
    """Between knots, B_i is positive from t_i to t_(i+k+1) and exactly 0 elsewhere, off the grid too."""
    x, knots, k = case.arguments().values()
    expected = (x[:, None] > knots[:-k - 1]) & (x[:, None] < knots[k + 1:])
    assert_same(student.bspline_basis(x, knots, k).detach() != 0, expected, "where the B-splines are not 0")


@exercise("learnable_spline_activation")
@points(1)
@public
@for_all(case=BASIS, corners=False)
def test_basis_reproduces_lines(student, case):
    """With means of k neighbouring knots as coefficients, a spline of degree k ≥ 1 is the identity on the grid."""
    knots, x = on_the_grid(case)
    k = max(case.k, 1)
    if k > case.k:
        knots = torch.cat([knots[:1] - 1, knots, knots[-1:] + 1])
    means = knots[1:-1].unfold(0, k, 1).mean(dim=1)
    assert_same((student.bspline_basis(x, knots, k) * means).sum(dim=1), x, "spline with the coefficients of a line")


@exercise("learnable_spline_activation")
@points(1)
@public
def test_basis_known_values(student):
    """Cubics at uniform knots are 1/6, 2/3, 1/6; with all knots at 0 and 1 they are the binomial terms of Bernstein."""
    knots = torch.arange(9, dtype=torch.float64)
    expected = torch.tensor([[1.0, 4, 1, 0, 0], [0, 1, 4, 1, 0], [0, 0, 1, 4, 1]], dtype=torch.float64) / 6
    assert_same(student.bspline_basis(torch.tensor([3.0, 4, 5], dtype=torch.float64), knots, 3), expected)
    x = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    for k in (1, 2, 3):
        ends = torch.tensor([0.0] * (k + 1) + [1.0] * (k + 1), dtype=torch.float64)
        terms = [math.comb(k, i) * x**i * (1 - x) ** (k - i) for i in range(k + 1)]
        assert_same(student.bspline_basis(x, ends, k), torch.stack(terms, dim=1), f"Bernstein polynomials, k = {k},")


@exercise("learnable_spline_activation")
@points(2)
@public
def test_learnable_start(student):
    """New modules have the contract's state: a SplineAct begins as SiLU, a PiecewiseLinear as ReLU; knots stay."""
    spline = student.SplineAct(3, grid=4, k=2, low=-2.0, high=1.0)
    assert_state_dict(spline, {"w_b": (3,), "c": (3, 6), "knots": (9,)})
    if sorted(name for name, _ in spline.named_parameters()) != ["c", "w_b"]:
        raise CheckFailure("the trained parameters of SplineAct should be w_b and c.",
                           hint="Knots that are trained lose their order: register them as a buffer.")
    start = {"w_b": torch.ones(3), "c": torch.zeros(3, 6), "knots": torch.arange(9) * 0.75 - 3.5}
    assert_same(student.initial_state("SplineAct", 3, 4, 2, -2.0, 1.0), start, "a new SplineAct's state")
    assert_same(spline.knots, start["knots"], "knots")
    x = torch.linspace(-2.9, 3.1, 12).reshape(2, 2, 3)
    assert_same(spline(x), (x * torch.sigmoid(x)), "a new SplineAct")
    assert_state_dict(student.SplineAct(2), {"w_b": (2,), "c": (2, 8), "knots": (12,)})
    hinges = student.PiecewiseLinear(3, hinges=5)
    assert_state_dict(hinges, {"a": (5, 3), "b": (5, 3)})
    start = {"a": torch.zeros(5, 3), "b": torch.tensor([-1, -0.5, 0, 0.5, 1])[:, None].repeat(1, 3)}
    assert_same(student.initial_state("PiecewiseLinear", 3, 5), start, "a new PiecewiseLinear's state")
    assert_same(hinges(x), x.clamp(min=0), "a new PiecewiseLinear")
    assert_state_dict(student.PiecewiseLinear(1), {"a": (3, 1), "b": (3, 1)})


def filled(module, generator, scale=0.5):
    """The module in float64, with random parameters."""
    module = module.double()
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale)
    return module


def made(source, case):
    """The case's two modules, with random weights that follow from its seed."""
    spline = source.SplineAct(case.C, grid=case.G, k=case.k, low=case.low, high=case.low + 0.75 * case.G)
    hinges = source.PiecewiseLinear(case.C, hinges=case.S)
    return filled(spline, case.generator(11)), filled(hinges, case.generator(12))


MODULES = Cases(x=normal("T C", scale=2.0), sizes={"T": (1, 6), "G": (1, 5), "k": (0, 3), "S": (1, 4)},
                flags={"low": (-1.5, 0.25)})


def with_weights(module, x, cotangent):
    """(output, gradients of x and of every parameter by name)."""
    names = sorted(name for name, _ in module.named_parameters())
    leaves = [x.detach().requires_grad_(), *(dict(module.named_parameters())[name] for name in names)]
    y = module(leaves[0])
    assert_shape_dtype(y, tuple(x.shape), x.dtype)
    if not y.requires_grad:
        raise CheckFailure("no gradient flows from the output.", hint="`.detach()` and `no_grad` cut the graph.")
    found = torch.autograd.grad(y, leaves, cotangent, allow_unused=True)
    return y.detach(), {name: torch.zeros_like(leaf) if grad is None else grad
                        for name, leaf, grad in zip(["x", *names], leaves, found, strict=True)}


@exercise("learnable_spline_activation")
@points(1)
@public
@for_all(case=MODULES, corners=False)
def test_learnable_weights_learn(student, case):
    """A change of the parameters changes the output as their gradients say: all of them learn, the hinges too."""
    (x,) = case.arguments().values()
    for module in made(student, case):
        cotangent = torch.randn(x.shape, generator=case.generator(13), dtype=x.dtype)
        if "b" in dict(module.named_parameters()):  # no finite difference may reach across a hinge
            cotangent = cotangent * ((module.b.detach() - x.unsqueeze(-2)).abs() > 1e-4).all(dim=-2)
        _, found = with_weights(module, x, cotangent)
        named = dict(sorted(module.named_parameters()))
        generator, ends = case.generator(14), []
        directions = {name: torch.randn(p.shape, generator=generator, dtype=x.dtype) for name, p in named.items()}
        for sign in (1, -2):
            with torch.no_grad():
                for name, parameter in named.items():
                    parameter += sign * 1e-6 * directions[name]
                ends.append(float((module(x) * cotangent).sum()))
        numerical = (ends[0] - ends[1]) / 2e-6
        analytical = sum(float((found[name] * direction).sum()) for name, direction in directions.items())
        if not abs(numerical - analytical) <= 1e-4 * max(abs(numerical), abs(analytical), 1e-2):
            raise CheckFailure(f"along a random direction of {' and '.join(named)} the output changes by "
                               f"{numerical:.6g}, backward says {analytical:.6g}.",
                               hint="Is a parameter used itself, or a copy (`.data`, `.detach()`, a buffer)?")


@exercise("learnable_spline_activation")
@points(3)
@for_all(case=BASIS)
def test_basis_values_and_gradients(student, reference, case):
    """bspline_basis: values and gradients are right for any degree and for uneven or coinciding knots."""
    assert_equivalent(student.bspline_basis, reference.bspline_basis, case)
    knots = knots_of({**case.sizes, **case.flags})
    at_knots = reference.bspline_basis(knots, knots, case.k)
    assert_same(student.bspline_basis(knots, knots, case.k), at_knots, "output at the knots")


def divided_difference(t, values):
    """[t_0, ..., t_n] f of the values f(t_i), for distinct t."""
    for order in range(1, len(t)):
        values = (values[1:] - values[:-1]) / (t[order:] - t[:-order])[:, None]
    return values[0]


@exercise("learnable_spline_activation")
@points(1)
@for_all(case=BASIS.but(k=value_of("k")), corners=False)
def test_basis_oracle(student, case):
    """It agrees with divided differences of truncated powers, the older definition."""
    case = BASIS.case(case.sizes, {"kind": KINDS[case.seed % 2]}, seed=case.seed)
    x, knots, k = case.arguments().values()
    columns = []
    for i in range(case.G + k):
        t = knots[i:i + k + 2]
        above = t[:, None] - x[None, :]
        powers = torch.where(above > 0, above**k, 0)
        columns.append((t[-1] - t[0]) * divided_difference(t, powers))
    assert_same(student.bspline_basis(x, knots, k), torch.stack(columns, dim=1))


@exercise("learnable_spline_activation")
@points(2)
@for_all(case=MODULES)
def test_learnable_values_and_gradients(student, reference, case):
    """Both modules: outputs and all gradients are right for any weights, channels and shapes."""
    (x,) = case.arguments().values()
    cotangent = torch.randn(x.shape, generator=case.generator(13), dtype=x.dtype)
    if "expected" not in case.memo:
        case.memo["expected"] = [with_weights(module, x, cotangent) for module in made(reference, case)]
    for module, (output, found) in zip(made(student, case), case.memo["expected"], strict=True):
        got, got_gradients = with_weights(module, x, cotangent)
        assert_same(got, output)
        assert_same(module(x[0]), output[0], "output for one vector")
        for name, gradient in found.items():
            assert_same(got_gradients.get(name), gradient, f"gradient of {name}")


@exercise("learnable_spline_activation")
@points(1)
@for_all(case=BASIS, corners=False)
def test_basis_contract_edges(student, reference, case):
    """Inputs are left alone, float32 is kept, and knots that decrease or are too few raise ValueError."""
    assert_pure(student.bspline_basis, case)
    x, knots, k = case.but(dtype=torch.float32).arguments().values()
    basis = student.bspline_basis(x, knots.float(), k)
    assert_same(basis, reference.bspline_basis(x, knots.float(), k).detach(), "float32 output")
    assert_refuses(student.bspline_basis, x, knots.float().flip(0), k)
    assert_refuses(student.bspline_basis, x, torch.arange(2.0 * k + 1), k)
