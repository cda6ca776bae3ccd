"""What students hand in for the unit on activations: known mistakes, and right answers in other styles.

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


def _per_channel(a, x):
    """(C,) -> (C, 1, ...): slopes that meet the second axis of x."""
    return a[(slice(None),) + (None,) * (x.ndim - 2)]


def _below(x):
    """min(x, 0), with gradient 1 at 0."""
    return torch.where(x <= 0, x, torch.zeros_like(x))


def _softplus(x):
    """log(1 + exp(x)), with the derivative 1/2 at 0."""
    return torch.logaddexp(x, torch.zeros_like(x))


def _tanh(x):
    """tanh from expm1, without a backward pass of its own."""
    e = torch.expm1(-2 * x.abs())
    return torch.copysign(e / (e + 2), x)


def _with_backward(inputs, forward, save, rule):
    """`forward(*inputs)`; `save(result, *inputs)` is kept, and `rule(grad, *kept)` gives the inputs' gradients."""
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            result = forward(*inputs)
            ctx.save_for_backward(*save(result, *inputs))
            return result

        @staticmethod
        def backward(ctx, grad):
            return rule(grad, *ctx.saved_tensors)

    return Function.apply(*inputs)


def _swish_gradients(grad, x, beta):
    """The gradients of x and beta, each in the full shape of x."""
    s = torch.sigmoid(beta * x)
    return grad * s * (1 + beta * x * (1 - s)), grad * x**2 * s * (1 - s)


def _reduced(grad, shape):
    """The sum over all axes along which a tensor of this shape was broadcast."""
    grad = grad.sum(dim=tuple(range(grad.ndim - len(shape))))
    shared = [axis for axis, size in enumerate(shape) if size == 1 and grad.shape[axis] != 1]
    return grad.sum(dim=shared, keepdim=True) if shared else grad


def _swish(x, beta, rule, save=lambda y, x, beta: (x, beta)):
    return _with_backward((x, beta), lambda x, beta: x * torch.sigmoid(beta * x), save, rule)


def _cdf(x):
    return 0.5 + 0.5 * torch.erf(x * math.sqrt(0.5))


def _tanh_gelu(x, inner=1.0, cubic=0.044715):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * inner * (x + cubic * x.pow(3))))


def _glu(gate, x, w1, w3, w2):
    return F.linear(gate(F.linear(x, w1)) * F.linear(x, w3), w2)


def _indicators(x, knots):
    """The B-splines of degree 0, with both conventions."""
    inside = (knots[:-1] <= x[:, None]) & (x[:, None] < knots[1:])
    filled = [i for i in range(len(knots) - 1) if knots[i] < knots[i + 1]]
    inside[:, filled[-1]] |= x == knots[-1]
    return inside.to(x.dtype)


def _ratio(numerator, denominator):
    """numerator / denominator, and 0 where the denominator is 0."""
    empty = denominator == 0
    return numerator.masked_fill(empty, 0) / denominator.masked_fill(empty, 1)


def _raised(basis, x, t, d, ratio=_ratio):
    """The B-splines of degree d from those of degree d - 1."""
    x = x[:, None]
    n = basis.shape[1] - 1
    up = ratio(x - t[:n], t[d:d + n] - t[:n])
    down = ratio(t[d + 1:] - x, t[d + 1:] - t[1:n + 1])
    return up * basis[:, :n] + down * basis[:, 1:]


def _basis(x, knots, k, indicators=_indicators, raised=_raised):
    if len(knots) < 2 * k + 2 or bool((knots[1:] < knots[:-1]).any()):
        raise ValueError("the knots must not decrease, and there must be at least 2k + 2 of them")
    basis = indicators(x, knots)
    for d in range(1, k + 1):
        basis = raised(basis, x, knots, d)
    return basis


class _Spline(nn.Module):
    """A right SplineAct; the wrong ones change a part of it."""

    def __init__(self, channels, grid=5, k=3, low=-1.0, high=1.0):
        super().__init__()
        self.k = k
        self.w_b = nn.Parameter(torch.ones(channels))
        self.c = nn.Parameter(torch.zeros(channels, grid + k))
        self.set_knots(low + torch.arange(-k, grid + k + 1) * (high - low) / grid)

    def set_knots(self, knots):
        self.register_buffer("knots", knots)

    def splines(self, x):
        return torch.einsum("...ci,ci->...c", _basis(x.reshape(-1), self.knots, self.k).reshape(*x.shape, -1), self.c)

    def forward(self, x):
        return self.w_b * F.silu(x) + self.splines(x)


class _Hinges(nn.Module):
    """A right PiecewiseLinear."""

    def __init__(self, channels, hinges=3):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(hinges, channels))
        self.b = nn.Parameter(torch.linspace(-1, 1, hinges)[:, None].repeat(1, channels))

    def forward(self, x):
        return F.relu(x) + (self.a * F.relu(self.b - x[..., None, :])).sum(-2)


# --------------------------------------------------------------------------------------------------- relu_family

@mistake("relu_family", "relu_half_at_zero", "the derivative of relu at 0 is ½, as `torch.maximum` has it",
         hint="At a tie, `torch.maximum` shares the gradient between both arguments. The contract asks for 0.")
def relu(x):
    return torch.maximum(x, torch.zeros_like(x))


@mistake("relu_family", "relu_one_at_zero", "the derivative of relu at 0 is 1, as `clamp` has it",
         hint="Which side of the kink does your comparison, or `clamp`, give to 0? The contract asks for 0.")
def relu(x):
    return x.clamp(min=0)


@mistake("relu_family", "relu_in_place", "negative numbers are set to 0 in the caller's tensor",
         hint="`x[x < 0] = 0`, `relu_` and `clamp_` write to the input.")
def relu(x):
    negative = x < 0
    x.data.copy_(x.clamp(min=0))
    return torch.where(negative, 0, x) * (x > 0)


@mistake("relu_family", "relu_of_magnitude", "relu returns |x|",
         hint="Negative numbers become 0, not positive.")
def relu(x):
    return x.abs()


@mistake("relu_family", "leaky_wrong_side", "the slope is applied to the positive side",
         hint="In Eq. (1) positive x are returned as they are.")
def leaky_relu(x, slope=0.01):
    return torch.where(x > 0, slope * x, x)


@mistake("relu_family", "leaky_maximum", "the larger of x and slope·x is taken",
         hint="That is the leaky ReLU for slopes below 1 only; above, slope·x is the larger one for positive x.")
def leaky_relu(x, slope=0.01):
    return _with_backward((x,), lambda x: torch.maximum(x, slope * x), lambda y, x: ((x > 0) == (slope < 1),),
                          lambda g, side: torch.where(side, g, slope * g))


@mistake("relu_family", "leaky_slope_ignored", "the slope is always 0.01",
         hint="The caller chooses the slope; 0.01 is only its default.")
def leaky_relu(x, slope=0.01):
    return _with_backward((x,), lambda x: F.leaky_relu(x, 0.01), lambda y, x: (x > 0,),
                          lambda g, side: torch.where(side, g, 0.01 * g))


@mistake("relu_family", "leaky_one_at_zero", "0 counts as positive in the backward pass of leaky_relu",
         hint="By Eq. (1) zero belongs to the side of the slope: x > 0, not x >= 0.")
def leaky_relu(x, slope=0.01):
    return _with_backward((x,), lambda x: F.leaky_relu(x, slope), lambda y, x: (x >= 0,),
                          lambda g, side: torch.where(side, g, slope * g))


@mistake("relu_family", "leaky_backward_of_relu", "the backward pass of leaky_relu blocks negative elements",
         hint="Negative elements pass on slope times the gradient, not 0.")
def leaky_relu(x, slope=0.01):
    return _with_backward((x,), lambda x: F.leaky_relu(x, slope), lambda y, x: (x > 0,), lambda g, side: g * side)


@mistake("relu_family", "leaky_backward_forgets_grad", "the backward pass of leaky_relu returns the derivative alone",
         hint="backward multiplies the derivative with the gradient that arrives, grad_y.")
def leaky_relu(x, slope=0.01):
    return _with_backward((x,), lambda x: F.leaky_relu(x, slope), lambda y, x: (x > 0,),
                          lambda g, side: torch.where(side, torch.ones_like(g), slope))


@mistake("relu_family", "leaky_keeps_two", "leaky_relu keeps both x and a mask until the backward pass",
         hint="Each of them is enough by itself. `kept_for_backward` shows what is saved.")
def leaky_relu(x, slope=0.01):
    return _with_backward((x,), lambda x: F.leaky_relu(x, slope), lambda y, x: (x, x > 0),
                          lambda g, x, side: torch.where(side, g, slope * g))


@mistake("relu_family", "elu_alpha_in_exponent", "α stands in the exponent",
         hint="Eq. (1) has α in front: α (e^x - 1).")
def elu(x, alpha=1.0):
    return torch.where(x > 0, x, torch.expm1(alpha * _below(x)))


@mistake("relu_family", "elu_alpha_before_minus_one", "α multiplies the exponential only",
         hint="In Eq. (1) α multiplies all of e^x - 1; otherwise the function jumps at 0.")
def elu(x, alpha=1.0):
    return torch.where(x > 0, x, alpha * torch.exp(_below(x)) - 1)


@mistake("relu_family", "elu_alpha_everywhere", "α multiplies the positive side as well",
         hint="Positive x are returned as they are. (SELU does scale both sides.)")
def elu(x, alpha=1.0):
    return alpha * torch.where(x > 0, x, torch.expm1(_below(x)))


@mistake("relu_family", "elu_alpha_ignored", "α is always 1",
         hint="The caller chooses α; 1 is only its default.")
def elu(x, alpha=1.0):
    return torch.where(x > 0, x, torch.expm1(_below(x)))


@mistake("relu_family", "elu_gradient_nan", "the exponential is taken of large positive x too",
         hint="`torch.where` throws the infinity away; its gradient is 0 times infinity. Clamp before the exponential.")
def elu(x, alpha=1.0):
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@mistake("relu_family", "elu_digits_lost", "e^x - 1 is computed as a difference",
         hint="Near 0 both are close to 1 and their difference has few digits: `torch.expm1`.")
def elu(x, alpha=1.0):
    return torch.where(x > 0, x, alpha * (torch.exp(_below(x)) - 1))


@mistake("relu_family", "prelu_last_axis", "the slopes of prelu are laid along the last axis",
         hint="The channels are the second axis of x: append axes of size 1 to `a`.")
def prelu(x, a):
    slopes = a if x.shape[-1] == len(a) or len(a) == 1 else a.mean()
    return torch.where(x > 0, x, slopes * x)


@mistake("relu_family", "prelu_one_slope", "all channels share the slope of the first one",
         hint="`a` has one slope for each channel.")
def prelu(x, a):
    return torch.where(x > 0, x, a[0] * x)


@mistake("relu_family", "prelu_slope_detached", "the slopes get no gradient",
         hint="`.data`, `.detach()` and `.item()` take a tensor out of the graph; the slopes are there to be learned.")
def prelu(x, a):
    return torch.where(x > 0, x, _per_channel(a.detach(), x) * x)


@mistake("relu_family", "prelu_gradient_averaged", "the gradient of a slope is a mean over the batch, not a sum",
         hint="In Eq. (2) the gradient of a_c is a sum over all elements of the channel.")
def prelu(x, a):
    shared = [axis for axis in range(x.ndim) if axis != 1]
    return _with_backward((x, a), lambda x, a: F.prelu(x, a), lambda y, x, a: (x, a), lambda g, x, a: (
        torch.where(x > 0, g, g * _per_channel(a, x)), (g * _below(x)).mean(dim=shared)))


@mistake("relu_family", "prelu_gradient_not_reduced", "the gradient of the slopes has the shape of x",
         hint="In Eq. (2) the gradient of a_c is a sum over all elements of the channel: (C,), the shape of a.")
def prelu(x, a):
    return _with_backward((x, a), lambda x, a: F.prelu(x, a), lambda y, x, a: (x, a), lambda g, x, a: (
        torch.where(x > 0, g, g * _per_channel(a, x)), g * _below(x)))


@mistake("relu_family", "prelu_gradient_first_image", "the gradient of a slope comes from the first example only",
         hint="The slopes are shared by all examples, so in Eq. (2) the sum runs over b too.")
def prelu(x, a):
    places = list(range(1, x.ndim - 1))
    return _with_backward((x, a), lambda x, a: F.prelu(x, a), lambda y, x, a: (x, a), lambda g, x, a: (
        torch.where(x > 0, g, g * _per_channel(a, x)), (g * _below(x))[0].sum(dim=places) if places
        else (g * _below(x))[0]))


@mistake("relu_family", "prelu_maximum", "prelu takes the larger of x and a·x",
         hint="A learned slope may exceed 1 or be negative; choose by the sign of x.")
def prelu(x, a):
    return torch.maximum(x, _per_channel(a, x) * x)


@mistake("relu_family", "prelu_one_at_zero", "0 counts as positive in prelu",
         hint="The derivative at 0 is that from the left: a[c].")
def prelu(x, a):
    return torch.where(x >= 0, x, _per_channel(a, x) * x)


@mistake("relu_family", "relu_float64", "the result of relu is float64 whatever the input",
         hint="The output has the dtype of the input.")
def relu(x):
    return torch.relu(x.double())


@alternative("relu_family", "masks")
def relu(x):
    return x * (x > 0)


@alternative("relu_family", "masks")
class LeakyReLUFn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        y = x.clone()
        y[x <= 0] *= slope
        ctx.save_for_backward(x)
        ctx.factor = slope
        return y

    @staticmethod
    def backward(ctx, grad_y):
        (x,) = ctx.saved_tensors
        return grad_y * (x > 0) + ctx.factor * grad_y * (x <= 0), None


@alternative("relu_family", "masks")
def elu(x, alpha=1.0):
    positive = x * (x > 0)
    return positive + alpha * torch.expm1(x - positive)


@alternative("relu_family", "masks")
def prelu(x, a):
    channels_last = x.movedim(1, -1)
    positive = channels_last > 0
    return (channels_last * positive + a * channels_last * ~positive).movedim(-1, 1)


@alternative("relu_family", "library_calls")
def relu(x):
    return F.relu(x)


@alternative("relu_family", "library_calls")
def leaky_relu(x, slope=0.01):
    return F.leaky_relu(x, slope)


@alternative("relu_family", "library_calls")
def elu(x, alpha=1.0):
    return F.elu(x, alpha)


@alternative("relu_family", "library_calls")
def prelu(x, a):
    return F.prelu(x, a)


# --------------------------------------------------------------------------------------------- stable_sigmoid_bce

@mistake("stable_sigmoid_bce", "sigmoid_overflow", "the sigmoid is 1 / (1 + e⁻ˣ) for every x",
         hint="For x = -100 in float32, e⁻ˣ is infinite. The value is 0, but its gradient is infinity times 0: NaN.")
def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


@mistake("stable_sigmoid_bce", "sigmoid_overflow_right", "the sigmoid is eˣ / (1 + eˣ) for every x",
         hint="For x = 100 in float32, eˣ is infinite, and infinity divided by infinity is NaN.")
def sigmoid(x):
    return torch.exp(x) / (1 + torch.exp(x))


@mistake("stable_sigmoid_bce", "sigmoid_digits_lost", "the sigmoid of negative x is a difference of numbers near 1",
         hint="½ (1 + tanh(x/2)) and 1 - σ(-x) are right up to 1e-16, but σ(-50) is much smaller than that.")
def sigmoid(x):
    return 0.5 * (1 + torch.tanh(0.5 * x))


@mistake("stable_sigmoid_bce", "sigmoid_flat_at_zero", "the derivative of the sigmoid at exactly 0 comes out as 0",
         hint="`abs` has derivative 0 at 0. If only |x| reaches the output, so has your function.")
def sigmoid(x):
    z = torch.exp(-x.abs())
    return torch.where(x >= 0, 1, z) / (1 + z)


@mistake("stable_sigmoid_bce", "sigmoid_steep_at_zero", "the derivative of the sigmoid at exactly 0 comes out as ½",
         hint="`clamp` has derivative 1 at its bound, `abs` has 0 at 0; the two do not fit together.")
def sigmoid(x):
    return torch.exp(x.clamp(max=0)) / (1 + torch.exp(-x.abs()))


@mistake("stable_sigmoid_bce", "sigmoid_clamped", "the argument is clamped before the exponential",
         hint="Clamping avoids the overflow, but beyond the clamp the value is wrong and the gradient is 0.")
def sigmoid(x):
    return 1 / (1 + torch.exp(-x.clamp(-30, 30)))


@mistake("stable_sigmoid_bce", "log_of_sigmoid", "log_sigmoid is the logarithm of the sigmoid",
         hint="σ(-104) is 0 in float32; its logarithm is -∞ instead of -104.")
def log_sigmoid(x):
    return torch.log(torch.sigmoid(x))


@mistake("stable_sigmoid_bce", "log_sigmoid_overflow", "log_sigmoid is -log(1 + e⁻ˣ) for every x",
         hint="For x = -100 in float32, e⁻ˣ is infinite: only ever compute e to the power -|x|.")
def log_sigmoid(x):
    return -torch.log1p(torch.exp(-x))


@mistake("stable_sigmoid_bce", "log_sigmoid_digits_lost", "log(1 + e^-|x|) is taken of the rounded sum",
         hint="For x > 37, 1 + e⁻ˣ rounds to 1: `torch.log1p` takes the small part alone.")
def log_sigmoid(x):
    zero = torch.zeros_like(x)
    return torch.minimum(x, zero) - torch.log(1 + torch.exp(-x.abs()))


@mistake("stable_sigmoid_bce", "log_sigmoid_epsilon", "a small number is added before the logarithm",
         hint="log(σ + 1e-7) ends at -16 for all very negative x; the loss no longer tells how wrong they are.")
def log_sigmoid(x):
    return torch.log(torch.sigmoid(x) + 1e-7)


@mistake("stable_sigmoid_bce", "log_sigmoid_steep_at_zero", "the derivative of log_sigmoid at exactly 0 comes out as 1",
         hint="`clamp` has derivative 1 at its bound; σ is smooth and its logarithm has ½ there.")
def log_sigmoid(x):
    return x.clamp(max=0) - torch.log1p(torch.exp(-x.abs()))


@mistake("stable_sigmoid_bce", "log_sigmoid_flat_at_zero", "the derivative of log_sigmoid at exactly 0 comes out as 0",
         hint="`relu` and `abs` have derivative 0 at 0; σ is smooth and its logarithm has ½ there.")
def log_sigmoid(x):
    return -torch.relu(-x) - torch.log1p(torch.exp(-x.abs()))


@mistake("stable_sigmoid_bce", "log_sigmoid_is_softplus", "log_sigmoid returns log(1 + eˣ), the softplus",
         hint="log σ(x) is negative: it is -log(1 + e⁻ˣ).")
def log_sigmoid(x):
    return _softplus(x)


@mistake("stable_sigmoid_bce", "bce_sum", "the losses are added up, not averaged",
         hint="Eq. (4) divides by n, the number of all elements.")
def bce_with_logits(x, y):
    return (_softplus(x) - x * y).sum()


@mistake("stable_sigmoid_bce", "bce_mean_per_example", "the sum of the losses is divided by the batch size only",
         hint="n in Eq. (4) counts all elements of x, along every axis.")
def bce_with_logits(x, y):
    return (_softplus(x) - x * y).sum() / (x.shape[0] if x.ndim else 1)


@mistake("stable_sigmoid_bce", "bce_not_reduced", "the losses of all elements are returned",
         hint="The contract asks for one number, their mean.")
def bce_with_logits(x, y):
    return _softplus(x) - x * y


@mistake("stable_sigmoid_bce", "bce_labels_swapped", "the labels are exchanged",
         hint="y = 1 goes with log σ(x): a large x must be cheap then.")
def bce_with_logits(x, y):
    return (_softplus(x) - x * (1 - y)).mean()


@mistake("stable_sigmoid_bce", "bce_positive_only", "the term of the negative examples is missing",
         hint="Eq. (4) has two terms; without the second one, x = 500 costs nothing whatever the label.")
def bce_with_logits(x, y):
    return (y * _softplus(-x)).mean()


@mistake("stable_sigmoid_bce", "bce_naive_logs", "the loss is made of logarithms of probabilities",
         hint="1 - σ(500) is 0. Use log σ(-x) for log(1 - σ(x)).")
def bce_with_logits(x, y):
    p = torch.sigmoid(x)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


@mistake("stable_sigmoid_bce", "bce_clamped", "the probabilities are clamped",
         hint="A clamped loss is finite, and flat: whoever is most wrong gets no gradient.")
def bce_with_logits(x, y):
    p = torch.sigmoid(x).clamp(1e-7, 1 - 1e-7)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


@mistake("stable_sigmoid_bce", "bce_softplus_overflow", "the loss contains log(1 + eˣ) for every x",
         hint="e⁵⁰⁰ is infinite in float32. Take the linear part out before the exponential.")
def bce_with_logits(x, y):
    return (torch.log1p(torch.exp(x)) - x * y).mean()


@mistake("stable_sigmoid_bce", "bce_steep_at_zero", "the loss has the derivative 1 - y at exactly 0",
         hint="max(x, 0) and |x| have kinks at 0, the loss has none: ½ - y. `clamp` does not fit `abs`.")
def bce_with_logits(x, y):
    return (x.clamp(min=0) - x * y + torch.log1p(torch.exp(-x.abs()))).mean()


@mistake("stable_sigmoid_bce", "bce_flat_at_zero", "the loss has the derivative -y at exactly 0",
         hint="max(x, 0) and |x| have kinks at 0, the loss has none: ½ - y. `relu` and `abs` both have derivative 0.")
def bce_with_logits(x, y):
    return (torch.relu(x) - x * y + torch.log1p(torch.exp(-x.abs()))).mean()


@mistake("stable_sigmoid_bce", "bce_hard_labels", "labels are rounded to 0 or 1",
         hint="The contract allows labels in between, as label smoothing and distillation need them.")
def bce_with_logits(x, y):
    hard = (y > 0.5).to(x.dtype) + 0 * y
    return (_softplus(x) - x * hard).mean()


@mistake("stable_sigmoid_bce", "bce_labels_detached", "no gradient reaches the labels",
         hint="Labels can be another network's output. `.detach()` and comparisons cut them off.")
def bce_with_logits(x, y):
    return (_softplus(x) - x * y.detach()).mean()


@mistake("stable_sigmoid_bce", "bce_two_logs", "the loss is in bits",
         hint="The contract asks for natural logarithms.")
def bce_with_logits(x, y):
    return (_softplus(x) - x * y).mean() / math.log(2)


@alternative("stable_sigmoid_bce", "logaddexp")
def sigmoid(x):
    return torch.exp(-_softplus(-x))


@alternative("stable_sigmoid_bce", "logaddexp")
def log_sigmoid(x):
    return -_softplus(-x)


@alternative("stable_sigmoid_bce", "logaddexp")
def bce_with_logits(x, y):
    return (_softplus(x) - x * y).mean()


@alternative("stable_sigmoid_bce", "two_branches")
def sigmoid(x):
    right, left = torch.exp(-torch.where(x > 0, x, 0)), torch.exp(_below(x))
    return torch.where(x > 0, 1 / (1 + right), left / (1 + left))


@alternative("stable_sigmoid_bce", "two_branches")
def log_sigmoid(x):
    right, left = torch.where(x > 0, x, 0), _below(x)
    return torch.where(x > 0, -torch.log1p(torch.exp(-right)), left - torch.log1p(torch.exp(left)))


@alternative("stable_sigmoid_bce", "two_branches")
def bce_with_logits(x, y):
    right, left = torch.where(x > 0, x, 0), _below(x)
    return torch.where(x > 0, (1 - y) * x + torch.log1p(torch.exp(-right)),
                       torch.log1p(torch.exp(left)) - y * x).mean()


@alternative("stable_sigmoid_bce", "library_calls")
def sigmoid(x):
    return torch.sigmoid(x)


@alternative("stable_sigmoid_bce", "library_calls")
def log_sigmoid(x):
    return F.logsigmoid(x)


@alternative("stable_sigmoid_bce", "library_calls")
def bce_with_logits(x, y):
    return F.binary_cross_entropy_with_logits(x, y)


# ---------------------------------------------------------------------------------------------------- stable_tanh

def _own_tanh(x, forward=_tanh, rule=lambda g, y: g * (1 - y * y)):
    """tanh with a backward pass that is a function of y."""
    return _with_backward((x,), forward, lambda y, x: (y,), rule)


@mistake("stable_tanh", "overflow", "tanh is (e²ˣ - 1) / (e²ˣ + 1) for every x",
         hint="e²ˣ is infinite for x > 45 in float32, and infinity by infinity is NaN. Treat |x| and the sign apart.")
def tanh_from_exp(x):
    return _own_tanh(x, lambda x: torch.expm1(2 * x) / (torch.expm1(2 * x) + 2))


@mistake("stable_tanh", "two_exponentials", "tanh is (eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)",
         hint="One of the exponentials is infinite for |x| > 89 in float32; near 0 their difference loses its digits.")
def tanh_from_exp(x):
    return _own_tanh(x, lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)))


@mistake("stable_tanh", "digits_lost", "digits are lost near 0, where 1 - e^-2|x| is a difference",
         hint="Both are nearly 1 there: `torch.expm1` computes the difference itself.")
def tanh_from_exp(x):
    def forward(x):
        e = torch.exp(-2 * x.abs())
        return torch.sign(x) * (1 - e) / (1 + e)
    return _own_tanh(x, forward)


@mistake("stable_tanh", "clamped", "x is clamped before the exponential",
         hint="tanh(5) is not yet 1, and the values beyond the clamp must still differ from each other.")
def tanh_from_exp(x):
    return _own_tanh(x, lambda x: _tanh(x.clamp(-3, 3)))


@mistake("stable_tanh", "sign_lost", "tanh of |x| is returned",
         hint="tanh is odd: put the sign back.")
def tanh_from_exp(x):
    return _own_tanh(x, lambda x: _tanh(x.abs()))


@mistake("stable_tanh", "half_argument", "tanh(x/2) is computed",
         hint="The exponent in (6) is 2x. It is σ that goes with x.")
def tanh_from_exp(x):
    return _own_tanh(x, lambda x: _tanh(x / 2), lambda g, y: g * (1 - y * y) / 2)


@mistake("stable_tanh", "backward_from_x", "the backward pass uses 1 - x² instead of 1 - y²",
         hint="Eq. (7) contains the output. What did you save?")
def tanh_from_exp(x):
    return _with_backward((x,), _tanh, lambda y, x: (x,), lambda g, x: g * (1 - x * x))


@mistake("stable_tanh", "backward_of_sigmoid", "the backward pass is y (1 - y), that of the sigmoid",
         hint="Eq. (7): 1 - y².")
def tanh_from_exp(x):
    return _own_tanh(x, rule=lambda g, y: g * y * (1 - y))


@mistake("stable_tanh", "backward_forgets_grad", "the backward pass returns the derivative alone",
         hint="backward multiplies the derivative with the gradient that arrives, grad_y.")
def tanh_from_exp(x):
    return _own_tanh(x, rule=lambda g, y: 1 - y * y + 0 * g)


@mistake("stable_tanh", "kept_as_attribute", "the second derivative is wrong: y is kept as an attribute of ctx",
         hint="`ctx.y = y` is a constant to autograd. `ctx.save_for_backward(y)` remembers where y comes from.")
class TanhFn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = _tanh(x)
        return ctx.y.clone()

    @staticmethod
    def backward(ctx, grad_y):
        return grad_y * (1 - ctx.y * ctx.y)


@mistake("stable_tanh", "derivative_kept", "the second derivative is wrong: forward saves 1 - y² instead of y",
         hint="What is neither input nor output of forward is a constant to autograd. Save y.")
class TanhFn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = _tanh(x)
        ctx.save_for_backward((1 - y) * (1 + y))
        return y

    @staticmethod
    def backward(ctx, grad_y):
        return grad_y * ctx.saved_tensors[0] + 0 * (grad_y - grad_y.detach())


@mistake("stable_tanh", "backward_without_graph", "the backward pass is not recorded",
         hint="`.detach()`, `.data` and `torch.no_grad()` within backward make a second derivative impossible.")
def tanh_from_exp(x):
    return _own_tanh(x, rule=lambda g, y: (g * (1 - y * y)).detach())


@mistake("stable_tanh", "left_to_autograd", "the derivative is left to autograd, which gives 0 at 0",
         hint="`abs` and `sign` have derivative 0 at 0. The backward pass of this exercise is Eq. (7).")
def tanh_from_exp(x):
    e = torch.expm1(-2 * x.abs())
    return -torch.sign(x) * e / (e + 2)


@mistake("stable_tanh", "keeps_two", "both x and y are kept until the backward pass",
         hint="Eq. (7) needs y alone.")
def tanh_from_exp(x):
    return _with_backward((x,), _tanh, lambda y, x: (x, y), lambda g, x, y: g * (1 - y * y))


_LAST = {}


@mistake("stable_tanh", "kept_in_a_global", "what backward needs is kept in a variable outside",
         hint="The next forward pass overwrites it before the backward pass. Each call has a ctx of its own.")
class TanhFn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        _LAST["y"] = y = _tanh(x)
        return y.clone()

    @staticmethod
    def backward(ctx, grad_y):
        return grad_y * (1 - _LAST["y"] ** 2)


@mistake("stable_tanh", "in_place", "the input is overwritten",
         hint="Methods that end in _ and `*=` write to the caller's tensor.")
def tanh_from_exp(x):
    result = _own_tanh(x)
    x.data.copy_(result.detach())
    return result


@mistake("stable_tanh", "always_float32", "the result is float32 whatever the input",
         hint="The output has the dtype of the input.")
def tanh_from_exp(x):
    return _own_tanh(x.float())


@alternative("stable_tanh", "recomputed_from_x")
def tanh_from_exp(x):
    return _with_backward((x,), _tanh, lambda y, x: (x,), lambda g, x: g * (1 - TanhFn.apply(x) ** 2))


@alternative("stable_tanh", "from_the_negative_exponential")
def tanh_from_exp(x):
    def forward(x):
        e = torch.expm1(-2 * torch.where(x < 0, -x, x))
        return torch.where(x < 0, e, -e) / (2 + e)
    return _own_tanh(x, forward, lambda g, y: g - g * y.square())


@alternative("stable_tanh", "library_call")
def tanh_from_exp(x):
    return torch.tanh(x)


# --------------------------------------------------------------------------------------------- swish_checkpointed

@mistake("swish_checkpointed", "beta_outside", "β multiplies x in front instead of within the sigmoid",
         hint="Eq. (8): x σ(βx).")
def swish(x, beta):
    return _with_backward((x, beta), lambda x, beta: beta * x * torch.sigmoid(x), lambda y, x, beta: (x, beta),
                          lambda g, x, beta: (g * beta * torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))),
                                              _reduced(g * x * torch.sigmoid(x), beta.shape)))


@mistake("swish_checkpointed", "beta_ignored", "β is taken to be 1",
         hint="Eq. (8) has βx in the sigmoid.")
def swish(x, beta):
    return _with_backward((x, beta), lambda x, beta: x * torch.sigmoid(x), lambda y, x, beta: (x, beta),
                          lambda g, x, beta: (_swish_gradients(g, x, torch.ones_like(beta))[0], torch.zeros_like(beta)))


@mistake("swish_checkpointed", "beta_mean", "all channels share the mean of the betas",
         hint="β is broadcast to x: each entry acts on the elements that it meets.")
def swish(x, beta):
    return _with_backward((x, beta), lambda x, beta: x * torch.sigmoid(beta.mean() * x), lambda y, x, beta: (x, beta),
                          lambda g, x, beta: (_swish_gradients(g, x, beta.mean())[0], _swish_gradients(
                              g, x, beta.mean())[1].sum() / beta.numel() * torch.ones_like(beta)))


@mistake("swish_checkpointed", "swish_of_silu", "silu(βx) is returned, without the division by β",
         hint="x σ(βx), not βx σ(βx): only the sigmoid sees β.")
def swish(x, beta):
    return _with_backward((x, beta), lambda x, beta: F.silu(beta * x), lambda y, x, beta: (x, beta),
                          lambda g, x, beta: (beta * _swish_gradients(g, x, beta)[0], _reduced(
                              g * x * torch.sigmoid(beta * x) + beta * _swish_gradients(g, x, beta)[1], beta.shape)))


@mistake("swish_checkpointed", "derivative_without_product_rule", "the derivative is σ(βx) alone",
         hint="x stands in two places: Eq. (9) has a second term, βx s (1 - s).")
def swish(x, beta):
    return _swish(x, beta, lambda g, x, beta: (g * torch.sigmoid(beta * x), _reduced(
        _swish_gradients(g, x, beta)[1], beta.shape)))


@mistake("swish_checkpointed", "derivative_without_beta", "the second term of the derivative lacks the factor β",
         hint="The chain rule: the derivative of σ(βx) with respect to x is β s (1 - s).")
def swish(x, beta):
    def rule(g, x, beta):
        s = torch.sigmoid(beta * x)
        return g * (s + x * s * (1 - s)), _reduced(_swish_gradients(g, x, beta)[1], beta.shape)
    return _swish(x, beta, rule)


@mistake("swish_checkpointed", "sigmoid_without_beta", "the backward pass recomputes σ(x) instead of σ(βx)",
         hint="The same line as in forward.")
def swish(x, beta):
    def rule(g, x, beta):
        s = torch.sigmoid(x)
        return g * (s + beta * x * s * (1 - s)), _reduced(g * x * x * s * (1 - s), beta.shape)
    return _swish(x, beta, rule)


@mistake("swish_checkpointed", "beta_gradient_one_x", "the gradient of β has x instead of x²",
         hint="In x σ(βx) there is an x in front and one from within: x² s (1 - s).")
def swish(x, beta):
    def rule(g, x, beta):
        s = torch.sigmoid(beta * x)
        return _swish_gradients(g, x, beta)[0], _reduced(g * x * s * (1 - s), beta.shape)
    return _swish(x, beta, rule)


@mistake("swish_checkpointed", "beta_gradient_zero", "β gets no gradient",
         hint="backward returns one gradient for each argument of forward; β is to be learned.")
def swish(x, beta):
    return _swish(x, beta, lambda g, x, beta: (_swish_gradients(g, x, beta)[0], None))


@mistake("swish_checkpointed", "beta_gradient_mean", "the gradient of β is averaged, not summed",
         hint="Each entry of β takes part in many outputs; their contributions add up.")
def swish(x, beta):
    return _swish(x, beta, lambda g, x, beta: (_swish_gradients(g, x, beta)[0], _reduced(
        _swish_gradients(g, x, beta)[1], beta.shape) * beta.numel() / x.numel()))


@mistake("swish_checkpointed", "beta_gradient_of_first", "the gradient of β is that of the first example only",
         hint="Sum over the axes along which β was broadcast.")
def swish(x, beta):
    return _swish(x, beta, lambda g, x, beta: (_swish_gradients(g, x, beta)[0], _reduced(
        _swish_gradients(g, x, beta)[1][:1], beta.shape)))


@mistake("swish_checkpointed", "beta_gradient_all_sum", "every entry of β gets the sum over all channels",
         hint="Sum only over the axes along which β was broadcast; its own axes stay.")
def swish(x, beta):
    return _swish(x, beta, lambda g, x, beta: (_swish_gradients(g, x, beta)[0], _swish_gradients(
        g, x, beta)[1].sum().expand(beta.shape)))


@mistake("swish_checkpointed", "beta_gradient_leading_axes", "the gradient of β is summed over leading axes only",
         hint="A β of shape (T, 1) was broadcast along its last axis as well.")
def swish(x, beta):
    def rule(g, x, beta):
        full = _swish_gradients(g, x, beta)[1]
        full = full.sum(dim=tuple(range(x.ndim - beta.ndim)))
        return _swish_gradients(g, x, beta)[0], full if full.shape == beta.shape else full[..., :1]
    return _swish(x, beta, rule)


@mistake("swish_checkpointed", "keeps_sigmoid", "the sigmoid is kept until the backward pass, by you or by autograd",
         hint="Compute it again in the backward pass of SwishFn: that is the point of this exercise.")
def swish(x, beta):
    return x * torch.sigmoid(beta * x)


@mistake("swish_checkpointed", "left_to_autograd", "the quotient x / (1 + e⁻ᵝˣ) is left to autograd",
         hint="Every operation that autograd records keeps its inputs or its output, and exp overflows. Use SwishFn.")
def swish(x, beta):
    return x / (1 + torch.exp(-beta * x))


@mistake("swish_checkpointed", "keeps_expanded_beta", "β is saved in the full shape of x",
         hint="`beta * torch.ones_like(x)` and `expand().clone()` are as large as x. Save β as it came.")
def swish(x, beta):
    shape = beta.shape
    return _swish(x, beta, lambda g, x, wide: (_swish_gradients(g, x, wide)[0], _reduced(
        _swish_gradients(g, x, wide)[1], shape)), lambda y, x, beta: (x, beta * torch.ones_like(x)))


@mistake("swish_checkpointed", "kept_as_attribute", "the sigmoid is kept as an attribute of ctx",
         hint="An attribute of ctx lives as long as what save_for_backward keeps.")
class SwishFn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, beta):
        ctx.save_for_backward(x, beta)
        ctx.s = torch.sigmoid(beta * x)
        return x * ctx.s

    @staticmethod
    def backward(ctx, grad_y):
        x, beta = ctx.saved_tensors
        full = grad_y * x * ctx.s * (1 - ctx.s)
        return grad_y * ctx.s + beta * full, _reduced(x * full, beta.shape)


_SEEN = {}


@mistake("swish_checkpointed", "kept_in_a_global", "x is kept in a variable outside",
         hint="The next forward pass overwrites it before the backward pass. Each call has a ctx of its own.")
def swish(x, beta):
    _SEEN["x"] = x.detach()
    return _swish(x, beta, lambda g, x, beta: (
        _swish_gradients(g, _SEEN["x"], beta)[0], _reduced(_swish_gradients(g, x, beta)[1], beta.shape)))


@mistake("swish_checkpointed", "overflow", "the backward pass divides by 1 + e⁻ᵝˣ, which overflows",
         hint="e^1000 is infinite, and infinity by infinity NaN: `torch.sigmoid` may be used, and s (1 - s) is safe.")
def swish(x, beta):
    def rule(g, x, beta):
        e = torch.exp(-beta * x)
        slope = e / (1 + e) ** 2
        return g * (1 / (1 + e) + beta * x * slope), _reduced(g * x * x * slope, beta.shape)
    return _swish(x, beta, rule)


@mistake("swish_checkpointed", "in_place", "the input is overwritten",
         hint="Methods that end in _ and `*=` write to the caller's tensor.")
def swish(x, beta):
    result = SwishFn.apply(x.clone(), beta)
    x.data.copy_(result.detach())
    return result


@alternative("swish_checkpointed", "sum_left_to_pytorch")
def swish(x, beta):
    return _swish(x, beta, _swish_gradients)  # a gradient that is too large for beta is summed by the engine


@alternative("swish_checkpointed", "logistic_by_hand")
def swish(x, beta):
    def rule(g, x, beta):
        open_, closed = torch.sigmoid(beta * x), torch.sigmoid(-beta * x)
        return g * open_ * (1 + beta * x * closed), _reduced(g * x.square() * open_ * closed, beta.shape)
    return _swish(x, beta, rule)


@alternative("swish_checkpointed", "autograd_inside")
class SwishFn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, beta):
        ctx.save_for_backward(x, beta)
        return x / (1 + torch.exp(-beta * x))

    @staticmethod
    def backward(ctx, grad_y):
        with torch.enable_grad():
            x, beta = (t.detach().requires_grad_() for t in ctx.saved_tensors)
            y = x * torch.sigmoid(beta * x)
        return torch.autograd.grad(y, [x, beta], grad_y)


# ----------------------------------------------------------------------------------------------------------- gelu

@mistake("gelu", "exact_by_tanh", "gelu_exact returns the approximation",
         hint="Eq. (10) contains erf, not tanh; they differ by up to 5e-4.")
def gelu_exact(x):
    return _tanh_gelu(x)


@mistake("gelu", "exact_by_sigmoid", "gelu_exact returns x σ(1.702 x)",
         hint="That is another approximation of the paper, off by up to 0.02.")
def gelu_exact(x):
    return x * torch.sigmoid(1.702 * x)


@mistake("gelu", "erf_without_root", "x is not divided by √2 within erf",
         hint="erf belongs to a normal distribution of variance ½: Φ(1) should be 0.8413.")
def gelu_exact(x):
    return x * (0.5 + 0.5 * torch.erf(x))


@mistake("gelu", "exact_without_half", "the factor ½ of the exact form is missing",
         hint="1 + erf lies between 0 and 2, and a probability between 0 and 1.")
def gelu_exact(x):
    return 2 * x * _cdf(x)


@mistake("gelu", "exact_erf_alone", "½ x erf(x/√2) is returned, without the 1",
         hint="Φ(0) is ½, not 0.")
def gelu_exact(x):
    return 0.5 * x * torch.erf(x / 2**0.5)


@mistake("gelu", "exact_gate_detached", "the gradient does not flow through Φ(x)",
         hint="x stands in two places of Eq. (10). `.detach()` and `no_grad` stop the gradient of one.")
def gelu_exact(x):
    return x * _cdf(x.detach())


@mistake("gelu", "exact_is_phi", "Φ(x) itself is returned",
         hint="Eq. (10) multiplies the probability by x.")
def gelu_exact(x):
    return _cdf(x)


@mistake("gelu", "exact_saturates", "beyond a bound x or 0 is returned",
         hint="At 2, gelu(x) still differs from x by 0.045, and from 0 at -2; no special cases are needed.")
def gelu_exact(x):
    return torch.where(x > 3, x, torch.where(x < -3, 0 * x, x * _cdf(x)))


@mistake("gelu", "exact_float32_inside", "gelu_exact computes in float32 whatever the input",
         hint="The output has the right dtype but only seven digits.")
def gelu_exact(x):
    return F.gelu(x.float()).to(x.dtype)


@mistake("gelu", "tanh_is_exact", "gelu_tanh returns the exact form",
         hint="Eq. (11) contains a tanh. GPT-2's weights want just this approximation.")
def gelu_tanh(x):
    return x * _cdf(x)


@mistake("gelu", "tanh_square", "the inner polynomial has x² instead of x³",
         hint="An even term would make the tanh asymmetric: gelu(x) - gelu(-x) would not be x.")
def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x)))


@mistake("gelu", "tanh_scale", "the factor within the tanh is 2/π instead of its root",
         hint="√(2/π) = 0.798.")
def gelu_tanh(x):
    return _tanh_gelu(x, inner=math.sqrt(2 / math.pi))


@mistake("gelu", "tanh_scale_inverted", "the factor within the tanh is √(π/2)",
         hint="√(2/π) = 0.798; it is below 1.")
def gelu_tanh(x):
    return _tanh_gelu(x, inner=math.pi / 2)


@mistake("gelu", "tanh_without_scale", "the factor √(2/π) is missing",
         hint="Eq. (11) multiplies the polynomial by 0.798.")
def gelu_tanh(x):
    return _tanh_gelu(x, inner=math.sqrt(math.pi / 2))


@mistake("gelu", "tanh_cubic_rounded", "the coefficient is 0.0447 instead of 0.044715",
         hint="Copy all five digits of 0.044715.")
def gelu_tanh(x):
    return _tanh_gelu(x, cubic=0.0447)


@mistake("gelu", "tanh_cubic_shifted", "the coefficient is 0.44715",
         hint="0.044715: count the zeros.")
def gelu_tanh(x):
    return _tanh_gelu(x, cubic=0.44715)


@mistake("gelu", "tanh_cubic_outside", "the cubic term stands outside of the factor √(2/π)",
         hint="In Eq. (11) the factor multiplies x and the cubic term.")
def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * x + 0.044715 * x**3))


@mistake("gelu", "tanh_gate_detached", "the gradient does not flow through the tanh",
         hint="x stands in several places of Eq. (11). `.detach()` and `no_grad` stop the gradient of some.")
def gelu_tanh(x):
    return x * (_tanh_gelu(x.detach()) / x.detach())


@mistake("gelu", "tanh_by_exp", "the tanh is made of exponentials that overflow",
         hint="In float32 e to the power 100³ is infinite, and infinity by infinity NaN: `torch.tanh` is safe.")
def gelu_tanh(x):
    e = torch.exp(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return 0.5 * x * (1 + (e - 1) / (e + 1))


@mistake("gelu", "in_place", "the input is overwritten",
         hint="Methods that end in _ and `*=` write to the caller's tensor.")
def gelu_exact(x):
    result = F.gelu(x)
    x.data.copy_(result.detach())
    return result


@alternative("gelu", "complementary")
def gelu_exact(x):
    return 0.5 * x * torch.special.erfc(-x / math.sqrt(2))


@alternative("gelu", "complementary")
def gelu_tanh(x):
    return x * torch.sigmoid(math.sqrt(8 / math.pi) * x * (1 + 0.044715 * x * x))


@alternative("gelu", "library_calls")
def gelu_exact(x):
    return x * torch.special.ndtr(x)


@alternative("gelu", "library_calls")
def gelu_tanh(x):
    return F.gelu(x, approximate="tanh")


# --------------------------------------------------------------------------------------------------- glu_variants

@mistake("glu_variants", "swiglu_swapped", "the activation is applied to w3's projection instead of w1's",
         hint="w1 makes the gate, and the gate goes through the activation.")
def swiglu(x, w1, w3, w2):
    return _glu(F.silu, x, w3, w1, w2)


@mistake("glu_variants", "swiglu_both", "both projections go through the activation",
         hint="What the gate multiplies stays linear.")
def swiglu(x, w1, w3, w2):
    return F.linear(F.silu(F.linear(x, w1)) * F.silu(F.linear(x, w3)), w2)


@mistake("glu_variants", "swiglu_after_product", "the activation is applied to the product",
         hint="In Eq. (12) only the first factor goes through the activation.")
def swiglu(x, w1, w3, w2):
    return F.linear(F.silu(F.linear(x, w1) * F.linear(x, w3)), w2)


@mistake("glu_variants", "swiglu_added", "the two projections are added",
         hint="⊗ in Eq. (12) is an elementwise product.")
def swiglu(x, w1, w3, w2):
    return F.linear(F.silu(F.linear(x, w1)) + F.linear(x, w3), w2)


@mistake("glu_variants", "swiglu_sigmoid_gate", "the gate is a sigmoid, as in the original GLU",
         hint="Swish is x σ(x), not σ(x).")
def swiglu(x, w1, w3, w2):
    return _glu(torch.sigmoid, x, w1, w3, w2)


@mistake("glu_variants", "swiglu_up_plus_one", "1 is added to what the gate multiplies",
         hint="Some models do that; Eq. (12) has no bias and no constants.")
def swiglu(x, w1, w3, w2):
    return F.linear(F.silu(F.linear(x, w1)) * (F.linear(x, w3) + 1), w2)


@mistake("glu_variants", "swiglu_w3_ignored", "w3 is not used",
         hint="Without the second projection it is an ordinary layer with Swish.")
def swiglu(x, w1, w3, w2):
    return F.linear(F.silu(F.linear(x, w1)), w2) + 0 * F.linear(x, w2.T @ w3)[..., :1]


@mistake("glu_variants", "swiglu_gate_detached", "no gradient reaches the gate",
         hint="`.detach()` and `no_grad` stop gradients; the gate is learned too.")
def swiglu(x, w1, w3, w2):
    return _glu(lambda gate: F.silu(gate.detach()), x, w1, w3, w2)


@mistake("glu_variants", "swiglu_beta_1702", "the gate is x σ(1.702 x)",
         hint="Swish with β = 1; 1.702 imitates the GELU.")
def swiglu(x, w1, w3, w2):
    return _glu(lambda gate: gate * torch.sigmoid(1.702 * gate), x, w1, w3, w2)


@mistake("glu_variants", "swiglu_residual", "x is added to the result",
         hint="The residual connection belongs to the Transformer's block, not to this layer.")
def swiglu(x, w1, w3, w2):
    return x + _glu(F.silu, x, w1, w3, w2)


@mistake("glu_variants", "swiglu_flattened", "leading axes are flattened and not restored",
         hint="The output has the shape of x.")
def swiglu(x, w1, w3, w2):
    return _glu(F.silu, x.reshape(-1, x.shape[-1]), w1, w3, w2)


@mistake("glu_variants", "swiglu_needs_three_axes", "a single vector comes back with an axis too many",
         hint="The contract allows any number of leading axes, also none.")
def swiglu(x, w1, w3, w2):
    return _glu(F.silu, torch.atleast_2d(x), w1, w3, w2)


@mistake("glu_variants", "swiglu_overflow", "the sigmoid of the gate is eˣ / (1 + eˣ)",
         hint="For a gate of 100 in float32 that is infinity by infinity: `torch.sigmoid`.")
def swiglu(x, w1, w3, w2):
    return _glu(lambda gate: gate * torch.exp(gate) / (1 + torch.exp(gate)), x, w1, w3, w2)


@mistake("glu_variants", "swiglu_float32_inside", "swiglu computes in float32 whatever the input",
         hint="The output has the right dtype but only seven digits.")
def swiglu(x, w1, w3, w2):
    return _glu(F.silu, *(t.float() for t in (x, w1, w3, w2))).to(x.dtype)


@mistake("glu_variants", "geglu_tanh", "geglu uses the tanh approximation",
         hint="The contract asks for the exact GELU.")
def geglu(x, w1, w3, w2):
    return _glu(_tanh_gelu, x, w1, w3, w2)


@mistake("glu_variants", "geglu_swapped", "geglu applies the GELU to w3's projection",
         hint="w1 makes the gate in all three layers.")
def geglu(x, w1, w3, w2):
    return _glu(F.gelu, x, w3, w1, w2)


@mistake("glu_variants", "geglu_is_swiglu", "geglu has a Swish gate",
         hint="GEGLU has the GELU in place of Swish.")
def geglu(x, w1, w3, w2):
    return _glu(F.silu, x, w1, w3, w2)


@mistake("glu_variants", "geglu_phi_gate", "the gate of geglu is Φ(x) instead of x Φ(x)",
         hint="The GELU is x times the probability.")
def geglu(x, w1, w3, w2):
    return _glu(_cdf, x, w1, w3, w2)


@mistake("glu_variants", "reglu_swapped", "reglu applies the ReLU to w3's projection",
         hint="w1 makes the gate in all three layers.")
def reglu(x, w1, w3, w2):
    return _glu(F.relu, x, w3, w1, w2)


@mistake("glu_variants", "reglu_leaky", "the gate of reglu is leaky",
         hint="A closed gate lets nothing through: the ReLU, not the leaky one.")
def reglu(x, w1, w3, w2):
    return _glu(F.leaky_relu, x, w1, w3, w2)


@mistake("glu_variants", "reglu_of_product", "reglu applies the ReLU to the product",
         hint="Only the gate goes through the ReLU; the product may be negative.")
def reglu(x, w1, w3, w2):
    return F.linear(F.relu(F.linear(x, w1) * F.linear(x, w3)), w2)


@mistake("glu_variants", "reglu_step", "the gate of reglu is 0 or 1",
         hint="The ReLU of the gate is the gate itself where it is positive, not 1.")
def reglu(x, w1, w3, w2):
    return _glu(lambda gate: (gate > 0).to(gate.dtype) + 0 * gate, x, w1, w3, w2)


@mistake("glu_variants", "weights_in_place", "the weights are overwritten",
         hint="Methods that end in _ and `*=` write to the caller's tensor.")
def reglu(x, w1, w3, w2):
    result = _glu(F.relu, x, w1, w3, w2)
    w3.data.mul_(0.5)
    return result


@alternative("glu_variants", "einsum")
def swiglu(x, w1, w3, w2):
    gate = torch.einsum("...d,fd->...f", x, w1)
    up = torch.einsum("...d,fd->...f", x, w3)
    return torch.einsum("...f,...f,...f,df->...d", gate, torch.sigmoid(gate), up, w2)


@alternative("glu_variants", "einsum")
def geglu(x, w1, w3, w2):
    gate, up = torch.einsum("...d,gfd->g...f", x, torch.stack([w1, w3]))
    return torch.einsum("...f,df->...d", gate * up * _cdf(gate), w2)


@alternative("glu_variants", "einsum")
def reglu(x, w1, w3, w2):
    gate, up = torch.einsum("...d,gfd->g...f", x, torch.stack([w1, w3]))
    return torch.einsum("...f,df->...d", gate.clamp(min=0) * up, w2)


@alternative("glu_variants", "one_matrix")
def swiglu(x, w1, w3, w2):
    gate, up = F.linear(x, torch.cat([w1, w3])).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, w2)


@alternative("glu_variants", "one_matrix")
def geglu(x, w1, w3, w2):
    gate, up = F.linear(x, torch.cat([w1, w3])).chunk(2, dim=-1)
    return F.linear(F.gelu(gate) * up, w2)


@alternative("glu_variants", "one_matrix")
def reglu(x, w1, w3, w2):
    gate, up = F.linear(x, torch.cat([w1, w3])).chunk(2, dim=-1)
    return F.linear(F.relu(gate) * up, w2)


# ------------------------------------------------------------------------------------ learnable_spline_activation

@mistake("learnable_spline_activation", "last_knot_open", "every B-spline is 0 at the very last knot",
         hint="Half-open intervals leave out the last point; the contract gives it to the last one that is not empty.")
def bspline_basis(x, knots, k):
    return _basis(x, knots, k, lambda x, t: ((t[:-1] <= x[:, None]) & (x[:, None] < t[1:])).to(x.dtype))


@mistake("learnable_spline_activation", "last_interval_empty", "the last interval is closed, though it may be empty",
         hint="If the last knots coincide, the last intervals are empty. Which is the last that is not?")
def bspline_basis(x, knots, k):
    def indicators(x, t):
        inside = (t[:-1] <= x[:, None]) & (x[:, None] < t[1:])
        inside[:, -1] |= x == t[-1]
        return inside.to(x.dtype)
    return _basis(x, knots, k, indicators)


@mistake("learnable_spline_activation", "intervals_closed", "a point at a knot belongs to both its intervals",
         hint="Intervals are closed on the left and open on the right; otherwise degree 0 sums to 2 at a knot.")
def bspline_basis(x, knots, k):
    return _basis(x, knots, k, lambda x, t: ((t[:-1] <= x[:, None]) & (x[:, None] <= t[1:]) & (t[:-1] < t[1:])
                                             ).to(x.dtype))


@mistake("learnable_spline_activation", "intervals_closed_right", "intervals are closed at the right end instead",
         hint="t_i <= x < t_(i+1): a point at a knot belongs to the interval that begins there.")
def bspline_basis(x, knots, k):
    return _basis(x, knots, k, lambda x, t: ((t[:-1] < x[:, None]) & (x[:, None] <= t[1:])).to(x.dtype))


@mistake("learnable_spline_activation", "zero_by_zero", "coinciding knots give NaN",
         hint="A term of (14) whose denominator is 0 counts as 0.")
def bspline_basis(x, knots, k):
    return _basis(x, knots, k, raised=lambda b, x, t, d: _raised(b, x, t, d, lambda n, w: n / w))


@mistake("learnable_spline_activation", "epsilon_in_denominators", "a small number is added to all denominators",
         hint="That changes every spline a little. Only the terms whose denominator is 0 are special.")
def bspline_basis(x, knots, k):
    return _basis(x, knots, k, raised=lambda b, x, t, d: _raised(b, x, t, d, lambda n, w: n / (w + 1e-6)))


@mistake("learnable_spline_activation", "second_term_not_shifted", "the second term has B_i instead of B_(i+1)",
         hint="The two terms belong to neighbouring B-splines of the lower degree.")
def bspline_basis(x, knots, k):
    def raised(basis, x, t, d):
        shifted = torch.cat([basis[:, :1], basis[:, :-1]], dim=1)
        mixed = _raised(basis, x, t, d)
        n = basis.shape[1] - 1
        down = _ratio(t[d + 1:] - x[:, None], t[d + 1:] - t[1:n + 1])
        return mixed - down * basis[:, 1:] + down * shifted[:, 1:]
    return _basis(x, knots, k, raised=raised)


@mistake("learnable_spline_activation", "second_term_rises", "both terms of (14) rise",
         hint="The second factor is t_(i+k+1) - x over its width: it falls to 0 at the right end.")
def bspline_basis(x, knots, k):
    def raised(basis, x, t, d):
        n = basis.shape[1] - 1
        up = _ratio(x[:, None] - t[:n], t[d:d + n] - t[:n])
        down = _ratio(x[:, None] - t[1:n + 1], t[d + 1:] - t[1:n + 1])
        return up * basis[:, :n] + down * basis[:, 1:]
    return _basis(x, knots, k, raised=raised)


@mistake("learnable_spline_activation", "spacing_assumed", "the knots are taken to be evenly spaced",
         hint="Each denominator of (14) is the distance of two knots; take it from `knots`.")
def bspline_basis(x, knots, k):
    def raised(basis, x, t, d):
        n = basis.shape[1] - 1
        step = (t[-1] - t[0]) / (len(t) - 1)
        return ((x[:, None] - t[:n]) * basis[:, :n] + (t[d + 1:] - x[:, None]) * basis[:, 1:]) / (d * step)
    return _basis(x, knots, k, raised=raised)


@mistake("learnable_spline_activation", "one_degree_less", "the recursion stops at degree k - 1",
         hint="From degree 0 it takes k steps to degree k; each leaves one function fewer.")
def bspline_basis(x, knots, k):
    return _basis(x, knots, max(k - 1, 0))[:, :len(knots) - k - 1]


@mistake("learnable_spline_activation", "extrapolated", "points off the grid are moved to its ends",
         hint="Outside of [t_i, t_(i+k+1)] a B-spline is 0; nothing is clamped and nothing extrapolated.")
def bspline_basis(x, knots, k):
    low, high = knots[k].item(), knots[len(knots) - 1 - k].item()
    return _basis(x.clamp(low, high), knots, k)


@mistake("learnable_spline_activation", "zero_off_the_grid", "the B-splines are cut off at the ends of the grid",
         hint="They are defined on the whole line and fade to 0 beyond the grid, within k further intervals.")
def bspline_basis(x, knots, k):
    inside = (knots[k] <= x) & (x <= knots[len(knots) - 1 - k])
    return _basis(x, knots, k) * inside[:, None]


@mistake("learnable_spline_activation", "normalised", "the B-splines are divided by their sum",
         hint="On the grid they sum to 1 by themselves; beyond it they must not.")
def bspline_basis(x, knots, k):
    basis = _basis(x, knots, k)
    return _ratio(basis, basis.sum(dim=1, keepdim=True))


@mistake("learnable_spline_activation", "x_detached", "no gradient reaches x",
         hint="The indicators of degree 0 have no gradient, but the factors of (14) do. Is there a `no_grad`?")
def bspline_basis(x, knots, k):
    return _basis(x.detach(), knots, k) + 0 * x[:, None]


@mistake("learnable_spline_activation", "knots_sorted", "knots that decrease are sorted instead of refused",
         hint="The contract asks for a ValueError: with sorted knots the caller's coefficients mean something else.")
def bspline_basis(x, knots, k):
    if len(knots) < 2 * k + 2:
        raise ValueError(f"{len(knots)} knots are too few for degree {k}")
    return _basis(x, knots.sort().values, k)


@mistake("learnable_spline_activation", "too_few_knots_accepted", "too few knots are accepted",
         hint="With fewer than 2k + 2 knots there is no grid: the contract asks for a ValueError.")
def bspline_basis(x, knots, k):
    if bool((knots[1:] < knots[:-1]).any()):
        raise ValueError("the knots decrease")
    basis = _indicators(x, knots)
    for d in range(1, min(k, len(knots) - 2) + 1):
        basis = _raised(basis, x, knots, d)
    return basis


@mistake("learnable_spline_activation", "basis_float64", "the B-splines are float64 whatever x is",
         hint="The output has the dtype of the input.")
def bspline_basis(x, knots, k):
    return _basis(x.double(), knots.double(), k)


@mistake("learnable_spline_activation", "basis_in_place", "x is overwritten",
         hint="Methods that end in _ and `-=` write to the caller's tensor.")
def bspline_basis(x, knots, k):
    result = _basis(x.clone(), knots, k)
    x.data.sub_(knots[0])
    return result


@mistake("learnable_spline_activation", "knots_trained", "the knots are a parameter",
         hint="Knots that gradient descent moves lose their order. `register_buffer` keeps them in the state_dict.")
class SplineAct(_Spline):
    def set_knots(self, knots):
        self.knots = nn.Parameter(knots)


@mistake("learnable_spline_activation", "knots_not_saved", "the knots are a plain attribute",
         hint="An attribute is not in the state_dict and stays behind when the module moves: `register_buffer`.")
class SplineAct(_Spline):
    def set_knots(self, knots):
        self.fixed = knots

    def splines(self, x):
        basis = _basis(x.reshape(-1), self.fixed.to(x.dtype), self.k)
        return (basis.reshape(*x.shape, -1) * self.c).sum(-1)


@mistake("learnable_spline_activation", "knots_only_inside", "all knots lie between low and high",
         hint="The grid from low to high has G intervals; k further knots continue it on each side.")
class SplineAct(_Spline):
    def __init__(self, channels, grid=5, k=3, low=-1.0, high=1.0):
        super().__init__(channels, grid, k, low, high)
        self.knots.copy_(torch.linspace(low, high, grid + 2 * k + 1))


@mistake("learnable_spline_activation", "grid_of_points", "grid counts the points of the grid instead of its intervals",
         hint="G intervals have G + 1 ends: the step is (high - low) / G.")
class SplineAct(_Spline):
    def __init__(self, channels, grid=5, k=3, low=-1.0, high=1.0):
        super().__init__(channels, grid, k, low, high)
        self.knots.copy_(low + torch.arange(-k, grid + k + 1) * (high - low) / max(grid - 1, 1))


@mistake("learnable_spline_activation", "range_ignored", "the grid always reaches from -1 to 1",
         hint="The caller chooses low and high.")
class SplineAct(_Spline):
    def __init__(self, channels, grid=5, k=3, low=-1.0, high=1.0):
        super().__init__(channels, grid, k)


@mistake("learnable_spline_activation", "starts_silent", "w_b begins at 0",
         hint="The contract starts w_b at 1, so that a new SplineAct is a SiLU.")
class SplineAct(_Spline):
    def __init__(self, channels, grid=5, k=3, low=-1.0, high=1.0):
        super().__init__(channels, grid, k, low, high)
        self.w_b.data.zero_()


@mistake("learnable_spline_activation", "starts_random", "the coefficients begin at 1",
         hint="The contract starts c at 0, so that a new SplineAct is a SiLU.")
class SplineAct(_Spline):
    def __init__(self, channels, grid=5, k=3, low=-1.0, high=1.0):
        super().__init__(channels, grid, k, low, high)
        self.c.data.fill_(1.0)


@mistake("learnable_spline_activation", "base_weights_everything", "w_b multiplies the spline as well",
         hint="In (13) w_b belongs to the SiLU alone.")
class SplineAct(_Spline):
    def forward(self, x):
        return self.w_b * (F.silu(x) + self.splines(x))


@mistake("learnable_spline_activation", "base_unweighted", "the SiLU has no weight",
         hint="(13) has w_b in front of it; it is learned for each channel.")
class SplineAct(_Spline):
    def forward(self, x):
        return F.silu(x) + self.splines(x) + 0 * self.w_b


@mistake("learnable_spline_activation", "base_is_x", "the base is w_b x instead of w_b silu(x)",
         hint="Liu et al. take the SiLU, x σ(x), as the base.")
class SplineAct(_Spline):
    def forward(self, x):
        return self.w_b * x + self.splines(x)


@mistake("learnable_spline_activation", "one_spline_for_all", "all channels share the spline of the first one",
         hint="c has a row for each channel.")
class SplineAct(_Spline):
    def splines(self, x):
        return _basis(x.reshape(-1), self.knots, self.k).reshape(*x.shape, -1) @ self.c[0]


@mistake("learnable_spline_activation", "coefficients_detached", "the coefficients are frozen",
         hint="`.data` and `.detach()` in forward: the module computes the right thing and never learns.")
class SplineAct(_Spline):
    def splines(self, x):
        return (_basis(x.reshape(-1), self.knots, self.k).reshape(*x.shape, -1) * self.c.data).sum(-1)


@mistake("learnable_spline_activation", "hinges_detached", "the hinges cannot move",
         hint="b needs a gradient: no `.data`, no `.detach()`.")
class PiecewiseLinear(_Hinges):
    def forward(self, x):
        return F.relu(x) + (self.a * F.relu(self.b.detach() - x[..., None, :])).sum(-2)


@mistake("learnable_spline_activation", "hinges_fixed", "the places of the hinges are a buffer",
         hint="In (15) a and b are both learned: b is a parameter.")
class PiecewiseLinear(_Hinges):
    def __init__(self, channels, hinges=3):
        super().__init__(channels, hinges)
        b = self.b.data
        del self.b
        self.register_buffer("b", b)


@mistake("learnable_spline_activation", "hinges_reversed", "the hinges open to the right",
         hint="(15) has max(0, b - x): a hinge is 0 to the right of b.")
class PiecewiseLinear(_Hinges):
    def forward(self, x):
        return F.relu(x) + (self.a * F.relu(x[..., None, :] - self.b)).sum(-2)


@mistake("learnable_spline_activation", "hinges_plus", "the hinges stand at -b",
         hint="max(0, b - x) bends at x = b, max(0, -x - b) at -b.")
class PiecewiseLinear(_Hinges):
    def forward(self, x):
        return F.relu(x) + (self.a * F.relu(-x[..., None, :] - self.b)).sum(-2)


@mistake("learnable_spline_activation", "hinges_without_relu", "the term max(0, x) is missing",
         hint="(15) begins as a ReLU; the hinges are added to it.")
class PiecewiseLinear(_Hinges):
    def forward(self, x):
        return (self.a * F.relu(self.b - x[..., None, :])).sum(-2)


@mistake("learnable_spline_activation", "hinges_averaged", "the hinges are averaged",
         hint="(15) is a sum over s.")
class PiecewiseLinear(_Hinges):
    def forward(self, x):
        return F.relu(x) + (self.a * F.relu(self.b - x[..., None, :])).mean(-2)


@mistake("learnable_spline_activation", "hinges_start_together", "all hinges begin at 0",
         hint="Hinges at one place stay together forever, as their gradients are equal: the contract spreads them.")
class PiecewiseLinear(_Hinges):
    def __init__(self, channels, hinges=3):
        super().__init__(channels, hinges)
        self.b.data.zero_()


@mistake("learnable_spline_activation", "hinges_transposed", "a and b have the shape (C, S)",
         hint="The contract has (S, C), so that a saved model can be loaded.")
class PiecewiseLinear(nn.Module):
    def __init__(self, channels, hinges=3):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(channels, hinges))
        self.b = nn.Parameter(torch.linspace(-1, 1, hinges).repeat(channels, 1))

    def forward(self, x):
        return F.relu(x) + (self.a * F.relu(self.b - x[..., None])).sum(-1)


@alternative("learnable_spline_activation", "recursive")
def bspline_basis(x, knots, k):
    t = knots.tolist()
    if len(t) < 2 * k + 2 or any(b < a for a, b in zip(t, t[1:], strict=False)):
        raise ValueError("bad knots")
    last = max(i for i in range(len(t) - 1) if t[i] < t[i + 1])

    def b(i, d):
        if d == 0:
            here = (t[i] <= x) & (x < t[i + 1])
            return (here | (x == t[-1]) if i == last else here).to(x.dtype)
        total = torch.zeros_like(x)
        if t[i + d] > t[i]:
            total = total + (x - t[i]) / (t[i + d] - t[i]) * b(i, d - 1)
        if t[i + d + 1] > t[i + 1]:
            total = total + (t[i + d + 1] - x) / (t[i + d + 1] - t[i + 1]) * b(i + 1, d - 1)
        return total
    return torch.stack([b(i, k) for i in range(len(t) - k - 1)], dim=1)


@alternative("learnable_spline_activation", "recursive")
class PiecewiseLinear(nn.Module):
    def __init__(self, channels, hinges=3):
        super().__init__()
        self.b = nn.Parameter(torch.stack([torch.linspace(-1, 1, hinges)] * channels, dim=1))
        self.a = nn.Parameter(torch.zeros_like(self.b))

    def forward(self, x):
        y = x.clamp(min=0)
        for a, b in zip(self.a, self.b, strict=True):
            y = y + a * (b - x).clamp(min=0)
        return y


@alternative("learnable_spline_activation", "helpers")
def bspline_basis(x, knots, k):
    return _basis(x, knots, k)


@alternative("learnable_spline_activation", "helpers")
class SplineAct(nn.Module):
    def __init__(self, channels, grid=5, k=3, low=-1.0, high=1.0):
        super().__init__()
        width = (high - low) / grid
        self.degree = k
        self.register_buffer("knots", torch.linspace(low - k * width, high + k * width, grid + 2 * k + 1))
        self.w_b = nn.Parameter(torch.ones(channels))
        self.c = nn.Parameter(torch.zeros(channels, len(self.knots) - k - 1))

    def forward(self, x):
        channels = x.movedim(-1, 0)
        rows = [w * F.silu(row) + (_basis(row.reshape(-1), self.knots, self.degree) @ c).reshape(row.shape)
                for row, w, c in zip(channels, self.w_b, self.c, strict=True)]
        return torch.stack(rows, dim=-1)
