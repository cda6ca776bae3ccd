# %% [markdown]
# # Activation functions
#
# A stack of linear layers is one linear layer: $W_3 W_2 W_1 x = (W_3 W_2 W_1)\, x$. What makes a network more than a
# matrix is a function between the layers that is *not* linear, applied to each number by itself. It is the smallest
# part of an architecture, one line of code, and the part that is evaluated most often. Three things about it decide
# whether the network trains:
#
# - **its derivative**, because the gradient of a loss is multiplied by it once per layer. A sigmoid never passes on
#   more than a quarter; ten layers of sigmoids leave at most a millionth. A ReLU passes on all or nothing.
# - **its arithmetic**, because $e^{x}$ leaves float32 at $x = 89$, and $1 + e^{-x}$ forgets its second term at
#   $x = 17$. An activation that is right on paper gives NaN after an hour of training.
# - **its memory**, because whatever its backward pass needs is kept until then, once per layer and example.
#
# Seven exercises, each independent of the others. The cell below an exercise checks your function and shows the
# smallest example on which it fails; the pictures after it are drawn by your own code. In a cell of your own,
# `hint("relu_family")` gives a hint, then one more each time, and `progress()` shows what is done.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `relu_family` | ★ | 25 | ReLU, leaky ReLU, PReLU, ELU; kinks, and a backward pass of your own |
# | `stable_sigmoid_bce` | ★ | 30 | sigmoid, its logarithm and cross-entropy, without overflow or lost digits |
# | `stable_tanh` | ★★ | 30 | a backward pass that can itself be differentiated |
# | `swish_checkpointed` | ★★ | 40 | a learnable shape, and memory traded for arithmetic |
# | `gelu` | ★ | 15 | the exact form and its approximation |
# | `glu_variants` | ★ | 20 | gates: one half of a layer multiplies the other |
# | `learnable_spline_activation` | ★★★ | 75 | B-splines and hinges: the activation itself is learned |
#
# ### Notation, and rules for every exercise
#
# $x$ is the input of an activation (its *pre-activation*), $y$ the output, $g = \partial \ell / \partial y$ the
# gradient that arrives from above, $\sigma$ the logistic sigmoid. Shapes are written `(B, C, ...)`; "any shape"
# includes `()`, and every size is at least 1.
#
# - `float` means float32 or float64, all arguments alike. Compute in that dtype and return it.
# - Inputs may be views of other tensors with any strides. Never change them, and remember nothing between calls.
# - Gradients must reach every float argument. Where a function has a kink, the contract says which derivative it
#   has there; where it has none, the derivative is the true one, **at exactly 0 as well**.
# - Inputs of any magnitude up to $10^4$ must give finite outputs and finite gradients, also in float32.
# - `torch.exp`, `torch.expm1`, `torch.log1p`, `torch.erf`, `torch.where` and what is as elementary are your tools.
#   An exercise is not solved by the library function that it is about (`F.gelu` in `gelu`); keep that one to compare
#   your results with. Another exercise's function may be taken from the library.

# %% role="setup"
import math

import torch
from torch import Tensor, nn

from etude import check, hint, progress


def kept_for_backward(function, *inputs: Tensor) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of the tensors that `function(*inputs)` keeps alive until its backward pass, the inputs included.

    `function` is a function of this notebook, or its name. Returns what is "saved", by `save_for_backward` or by
    autograd, and what are "attributes" of a ctx. Tensors that share their memory count once.
    """
    function = globals()[function] if isinstance(function, str) else function
    saved, attributes = {}, {}

    def pack(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function(*(leaf.detach().clone().requires_grad_() for leaf in inputs))
    nodes, seen = [result.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [parent for parent, _ in node.next_functions]
            for value in vars(node).values() if hasattr(node, "__dict__") else ():
                if isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in saved:
                    attributes[value.untyped_storage().data_ptr()] = value
    return {kind: sorted(tuple(tensor.shape) for tensor in tensors.values())
            for kind, tensors in (("saved", saved), ("attributes", attributes))}


def ratio(function, x: Tensor, exact: Tensor) -> Tensor:
    """function(x) / exact: how far from 1? `function` is a function of this notebook, or its name."""
    return (globals()[function] if isinstance(function, str) else function)(x) / exact


def initial_state(module, *args) -> dict[str, Tensor]:
    """The state_dict of a new module; `module` is a class of this notebook, or its name."""
    return dict((globals()[module] if isinstance(module, str) else module)(*args).state_dict())

# %% [markdown]
# The picture shows the functions of this unit (solid) with their derivatives (dashed), computed by PyTorch. Three
# families: what *saturates*, what has a *kink*, and what is a smooth mixture of both.

# %%
import matplotlib.pyplot as plt
import torch.nn.functional as F

plt.rcParams.update(dict.fromkeys(["figure.facecolor", "axes.facecolor", "savefig.facecolor"], "white"))
plt.rcParams.update(dict.fromkeys(["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], "black"))
torch.set_num_threads(1)  # the tensors are small: several threads would wait for each other
VIOLET, TEAL, AMBER, INK = "#440154", "#21918c", "#d9a400", "#222222"


def slope_of(function, x):
    """The derivative of an elementwise function at every element of x."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def draw_function(ax, function, title, x):
    ax.axhline(0, color="#bbbbbb", linewidth=0.7)
    ax.axvline(0, color="#bbbbbb", linewidth=0.7)
    ax.plot(x, function(x).detach(), color=VIOLET, linewidth=2, label="$f$")
    ax.plot(x, slope_of(function, x), color=AMBER, linestyle="--", linewidth=1.6, label="$f'$")
    ax.set_title(title)


x = torch.linspace(-4, 4, 800)
families = [(torch.sigmoid, "sigmoid"), (torch.tanh, "tanh"), (torch.relu, "ReLU"),
            (lambda x: F.leaky_relu(x, 0.1), "leaky ReLU, slope 0.1"), (F.elu, "ELU"), (F.silu, "Swish (SiLU)"),
            (F.gelu, "GELU"), (F.hardtanh, "piecewise linear")]
fig, axes = plt.subplots(2, 4, figsize=(12, 5), sharex=True, sharey=True, layout="constrained")
for ax, (function, title) in zip(axes.flat, families, strict=True):
    draw_function(ax, function, title, x)
axes[0, 0].set_ylim(-1.5, 2.5)
axes[0, 0].legend(loc="upper left")
plt.show()

# %% [markdown]
# ## 1. The ReLU family  ★ · 25 minutes
#
# Nair & Hinton (2010) made the rectified linear unit popular; the others repair its flat half, where a unit that is
# never positive gets no gradient and so never changes again:
#
# $$ \mathrm{relu}(x) = \max(x, 0), \qquad
#    \mathrm{leaky}_s(x) = \begin{cases} x & x > 0 \\ s\,x & x \le 0 \end{cases}, \qquad
#    \mathrm{elu}_\alpha(x) = \begin{cases} x & x > 0 \\ \alpha\,(e^x - 1) & x \le 0 \end{cases} \tag{1} $$
#
# The PReLU (He et al. 2015) *learns* the slope, one number $a_c$ per channel, shared by all examples and places:
#
# $$ \mathrm{prelu}(x)_{bc\dots} = \begin{cases} x_{bc\dots} & x_{bc\dots} > 0 \\ a_c\, x_{bc\dots} & x_{bc\dots} \le 0
#    \end{cases}, \qquad
#    \frac{\partial \ell}{\partial a_c} = \sum_{b, \dots} g_{bc\dots} \min(x_{bc\dots}, 0) \tag{2} $$
#
# *At the kink.* The derivative at 0 is a matter of definition, and code that computes the same values disagrees about
# it: `torch.relu` says 0, `torch.clamp` says 1, `torch.maximum` says ½. Zeros are common: padding, dropout, the
# outputs of another ReLU. **Here the derivative at 0 is the one from the left**, as the cases of (1)
# suggest: $0$, $s$, $\alpha$ and $a_c$.
#
# *Memory.* Write the leaky ReLU as a `torch.autograd.Function`. `forward` computes the output and saves what `backward`
# needs in `ctx`; `backward` receives $g$ and returns the gradient of each argument of `forward`, `None` for the slope.
# One tensor of the size of $x$ is enough.
#
# *Watch for* the axis of the channels, which is the second one and not the last; for slopes above 1; and for $e^x$,
# which is computed for the positive elements too, even if the result is thrown away. Near 0, $e^x - 1$ subtracts two
# nearly equal numbers: `torch.expm1` does not.

# %% exercise="relu_family"
def relu(x: Tensor) -> Tensor:
    """The rectified linear unit: Nair & Hinton (2010); our Eq. (1).

    x  float, any shape

    Returns the shape of x. The derivative at 0 is 0.
    """
    ### BEGIN SOLUTION
    return torch.where(x > 0, x, 0)
    ### END SOLUTION


class LeakyReLUFn(torch.autograd.Function):
    """Eq. (1), the leaky ReLU, with a backward pass of its own that keeps at most one tensor of the size of x."""

    @staticmethod
    def forward(ctx, x: Tensor, slope: float) -> Tensor:
        """x float, any shape; slope a Python float -> y, the shape of x."""
        ### BEGIN SOLUTION
        positive = x > 0
        ctx.save_for_backward(positive)
        ctx.slope = slope
        return torch.where(positive, x, slope * x)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor, None]:
        """The gradient of the loss with respect to y -> those with respect to x and to the slope (None)."""
        ### BEGIN SOLUTION
        (positive,) = ctx.saved_tensors
        return torch.where(positive, grad_y, ctx.slope * grad_y), None
        ### END SOLUTION


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """The leaky rectified linear unit: Maas et al. (2013); our Eq. (1).

    x      float, any shape
    slope  a Python float >= 0, which may exceed 1

    Returns the shape of x. The derivative at 0 is `slope`. Until the backward pass it keeps at most one tensor with
    as many elements as x (x itself, y, or a mask), which `kept_for_backward` measures.
    """
    return LeakyReLUFn.apply(x, slope)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """The exponential linear unit: Clevert et al. (2016), §3; our Eq. (1).

    x      float, any shape
    alpha  a Python float > 0

    Returns the shape of x, for negative x near 0 with full relative precision. The derivative at 0 is `alpha`.
    """
    ### BEGIN SOLUTION
    below = torch.where(x > 0, 0, x)  # exp of a large positive x would be infinite, and 0 times infinity NaN
    return torch.where(x > 0, x, alpha * torch.expm1(below))
    ### END SOLUTION


def prelu(x: Tensor, a: Tensor) -> Tensor:
    """The rectified linear unit with learned slopes: He et al. (2015), §2.1; our Eq. (2).

    x  (B, C, ...) float: two or more axes, the channels are the second one
    a  (C,) float: the slope of each channel, of any sign

    Returns the shape of x. The derivative with respect to x at 0 is a[c].
    """
    ### BEGIN SOLUTION
    slopes = a.reshape(-1, *[1] * (x.ndim - 2))
    return torch.where(x > 0, x, slopes * x)
    ### END SOLUTION

# %% [markdown] hints="relu_family"
# - Every function here is one `torch.where` of two branches.
# - Both branches of `torch.where` are computed, and differentiated, everywhere. A gradient of 0 times infinity is NaN:
#   make the argument of the exponential harmless before you take it.
# - `x > 0` as a bool tensor is all that the backward pass of the leaky ReLU has to remember; a slope is a number and
#   goes into an attribute of `ctx`.
# - The slopes have shape `(C,)` and x has `(B, C, ...)`. How many axes of size 1 must follow the C?

# %% [markdown]
# **What to look at.** A unit *dies* when its input is negative for every example: then the ReLU passes on no gradient.
# Below, 200 single units start at biases from -6 to 6 and are trained to output 1 for random inputs. The ReLU (left)
# leaves every unit that begins too far to the left exactly where it was. The leaky one brings all of them home, slowly;
# the ELU brings those home whose exponential is not yet flat.

# %%
def train_biases(activation, steps=300, rate=0.1):
    """Gradient descent on mean (activation(x + b) - 1)^2 for many biases b at once; returns where they end."""
    x = 0.3 * torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    bias = torch.linspace(-6, 6, 200).requires_grad_()
    start = bias.detach().clone()
    for _ in range(steps):
        loss = (activation(x + bias) - 1).square().mean(dim=0).sum()
        (gradient,) = torch.autograd.grad(loss, bias)
        bias = (bias - rate * gradient).detach().requires_grad_()
    return start, bias.detach()


fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, layout="constrained")
for ax, (title, activation) in zip(axes, {"ReLU": relu, "leaky ReLU, slope 0.1": lambda x: leaky_relu(x, 0.1),
                                          "ELU": elu}.items(), strict=True):
    start, end = train_biases(activation)
    ax.plot(start, start, color="#999999", linestyle=":", label="unchanged")
    ax.plot(start, end, color=VIOLET, linewidth=2, label="after training")
    stuck = ((end - start).abs() < 1e-6).float().mean()
    ax.set(title=f"{title}: {stuck:.0%} never moved", xlabel="bias at the start")
axes[0].set_ylabel("bias at the end")
axes[0].legend(loc="upper left", fontsize=8)
plt.show()
print("the leaky ReLU of a (64, 100) tensor keeps", kept_for_backward(leaky_relu, torch.randn(64, 100)))

# %% [markdown]
# ## 2. Sigmoid and cross-entropy  ★ · 30 minutes
#
# A probability is made from a number by
#
# $$ \sigma(x) = \frac{1}{1 + e^{-x}} = \frac{e^{x}}{1 + e^{x}}, \qquad \sigma(x) + \sigma(-x) = 1 \tag{3} $$
#
# and trained by the log-likelihood of labels $y \in [0, 1]$ (Goodfellow et al. 2016, §6.2.2.2). With $n$ numbers in
# all,
#
# $$ \ell = -\frac1n \sum_i \bigl[\, y_i \log \sigma(x_i) + (1 - y_i) \log \sigma(-x_i) \,\bigr], \qquad
#    \frac{\partial \ell}{\partial x_i} = \frac{\sigma(x_i) - y_i}{n} \tag{4} $$
#
# *Why not* `log(sigmoid(x))`? At $x = -104$ the sigmoid is 0 in float32, its logarithm $-\infty$, and the gradient NaN:
# the network is told nothing in just the case in which it is most wrong. Yet $\log\sigma(-104)$ is nothing special, it
# is $-104$. Either form in (3) has an exponential that can overflow; choose by the sign of $x$, so that only
# $e^{-|x|} \le 1$ is ever computed:
#
# $$ \log \sigma(x) = \min(x, 0) - \log\bigl(1 + e^{-|x|}\bigr) \tag{5} $$
#
# *Digits.* $1 + e^{-|x|}$ rounds to 1 for $|x| > 37$ (17 in float32), and its logarithm to 0; `torch.log1p` takes the
# small part alone. Likewise $\sigma(-50) = 1.9 \cdot 10^{-22}$ must not come out as a difference of two numbers near 1.
#
# *Zero.* $|x|$ and $\min(x, 0)$ have a kink at 0, but $\sigma$ has none. A sum of kinks is smooth only if their
# derivatives at 0 fit together, and autograd does not know that they should: `abs` says 0, `minimum` ½, `clamp` 1.
# Zero is where every logistic regression begins.

# %% exercise="stable_sigmoid_bce"
def sigmoid(x: Tensor) -> Tensor:
    """The logistic sigmoid: Goodfellow et al. (2016), §6.2.2.2; our Eq. (3).

    x  float, any shape

    Returns the shape of x, with full relative precision for negative x too: sigmoid(-50) is 1.93e-22. The derivative
    at 0 is 1/4.
    """
    ### BEGIN SOLUTION
    zero = torch.zeros_like(x)
    return torch.exp(torch.minimum(x, zero)) / (1 + torch.exp(-x.abs()))
    ### END SOLUTION


def log_sigmoid(x: Tensor) -> Tensor:
    """The logarithm of the sigmoid: our Eq. (5).

    x  float, any shape

    Returns the shape of x, finite for every finite x, and with full relative precision for positive x too:
    log_sigmoid(50) is -1.93e-22. The derivative at 0 is 1/2.
    """
    ### BEGIN SOLUTION
    zero = torch.zeros_like(x)
    return torch.minimum(x, zero) - torch.log1p(torch.exp(-x.abs()))
    ### END SOLUTION


def bce_with_logits(x: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of the labels y under the probabilities sigmoid(x): our Eq. (4).

    x  float, any shape: the logits
    y  float, the shape of x, in [0, 1]: the labels, which may lie between 0 and 1

    Returns a scalar, shape (): the mean over all elements, in natural logarithms. Gradients reach x and y.
    """
    ### BEGIN SOLUTION
    return -(y * log_sigmoid(x) + (1 - y) * log_sigmoid(-x)).mean()
    ### END SOLUTION

# %% [markdown] hints="stable_sigmoid_bce"
# - Compute $e^{-|x|}$ once: it is at most 1 and serves positive and negative x.
# - What is the derivative of your function at x = 0? Ask autograd, and compare with ¼, ½ and ½ - y.
# - `torch.minimum(x, 0)` shares the gradient at a tie equally, `abs` has gradient 0 at 0. Together they are right.
# - The loss needs the logarithm of the sigmoid at x and at -x, and nothing else.

# %% [markdown]
# **What to look at.** Left: the loss of a positive example whose logit is $x$, in float32. The textbook formula
# breaks off where the sigmoid becomes 0. The common repair, clamping the probability, ends in a plateau: a finite
# loss, and no gradient. Yours goes on as a straight line. Right: the number of correct decimal digits of
# $\log \sigma(x)$ for positive $x$.

# %%
x = torch.linspace(-130, 10, 1200)
naive = -torch.log(1 / (1 + torch.exp(-x)))
clamped = -torch.log((1 / (1 + torch.exp(-x))).clamp(1e-7, 1 - 1e-7))
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
axes[0].plot(x, -log_sigmoid(x), color=VIOLET, linewidth=4, alpha=0.5, label="yours")
axes[0].plot(x, naive, color=INK, linewidth=1.2, linestyle="--", label="log of the sigmoid")
axes[0].plot(x, clamped, color=AMBER, linewidth=1.6, linestyle="-.", label="log of the clamped sigmoid")
axes[0].set(title="loss of a positive example", xlabel="logit $x$")
axes[0].legend(fontsize=8)

x = torch.linspace(0.1, 40, 400)
exact = -torch.log1p(torch.exp(-x.double()))
for name, value, colour, style in [("yours", log_sigmoid(x), VIOLET, "-"),
                                   ("$-\\log(1 + e^{-x})$", -torch.log(1 + torch.exp(-x)), AMBER, "-.")]:
    digits = -torch.log10(((value - exact) / exact).abs().clamp(min=1e-8))
    axes[1].plot(x, digits, color=colour, linestyle=style, label=name)
axes[1].set(title="correct digits of $\\log \\sigma(x)$, float32", xlabel="$x$", ylim=(-0.2, 8.5))
axes[1].legend(fontsize=8)
plt.show()
zero = torch.zeros((), requires_grad=True)
print("derivatives at 0:", [torch.autograd.grad(f(zero), zero)[0].item() for f in (sigmoid, log_sigmoid)])

# %% [markdown]
# ## 3. Tanh, differentiable twice  ★★ · 30 minutes
#
# The hyperbolic tangent is a sigmoid stretched to $(-1, 1)$, so that its outputs have mean zero:
#
# $$ \tanh x = \frac{e^{x} - e^{-x}}{e^{x} + e^{-x}} = \frac{e^{2x} - 1}{e^{2x} + 1} = 2\,\sigma(2x) - 1 \tag{6} $$
#
# All three forms fail in floating point: the first two overflow, and near 0, where $\tanh x \approx x$, each is a
# difference of nearly equal numbers. As $\tanh$ is odd, $|x|$ and the sign can be treated apart, and with
# `torch.expm1` no digit is lost.
#
# Its derivative is a function of its own output,
#
# $$ \frac{\mathrm{d} y}{\mathrm{d} x} = 1 - y^2, \qquad
#    \frac{\mathrm{d}^2 y}{\mathrm{d} x^2} = -2\,y\,(1 - y^2) \tag{7} $$
#
# so a backward pass needs $y$ alone, which the next layer keeps anyway; $x$ can be forgotten.
#
# *Differentiating twice.* A gradient penalty, a Hessian, or a network that is fitted to a differential equation
# differentiates the gradient again. The backward pass of a `torch.autograd.Function` is then itself recorded, and
# what it computes with must know where it comes from. `ctx.save_for_backward` takes care of that for inputs and
# outputs of `forward`. A tensor that you keep as an attribute, `ctx.y = y`, is a constant to autograd: the first
# derivative is right and the second one silently wrong.
#
# *Watch for* $x = 0$: `sign` is 0 there and `abs` has derivative 0, but the derivative of $\tanh$ is 1. That your
# backward pass is (7) and not what autograd makes of $|x|$ saves you. And two forward passes may come before the first
# backward pass: what is saved belongs into `ctx`.

# %% exercise="stable_tanh"
class TanhFn(torch.autograd.Function):
    """Eq. (6) forward, Eq. (7) backward; it can be differentiated twice."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """x float, any shape -> y = tanh(x), the shape of x."""
        ### BEGIN SOLUTION
        e = torch.expm1(-2 * x.abs())  # exp(-2|x|) - 1, between -1 and 0
        y = -torch.sign(x) * e / (e + 2)
        ctx.save_for_backward(y)
        return y
        ### END SOLUTION

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> Tensor:
        """The gradient of the loss with respect to y -> the one with respect to x."""
        ### BEGIN SOLUTION
        (y,) = ctx.saved_tensors
        return grad_y * (1 - y * y)
        ### END SOLUTION


def tanh_from_exp(x: Tensor) -> Tensor:
    """The hyperbolic tangent from exponentials: our Eqs. (6)-(7).

    x  float, any shape

    Returns the shape of x, between -1 and 1, odd, with full relative precision near 0: tanh(1e-8) is 1e-8. First and
    second derivatives are right everywhere, at 0 too. Until the backward pass it keeps at most one tensor with as many
    elements as x, which `kept_for_backward` measures.
    """
    return TanhFn.apply(x)

# %% [markdown] hints="stable_tanh"
# - Divide (6) by the larger of its exponentials: what is left contains only $e^{-2|x|}$.
# - With $e = e^{-2|x|} - 1$ from `torch.expm1`, numerator and denominator are $-e$ and $e + 2$. The sign comes last.
# - Inside `forward` nothing is recorded. Save the very tensor that you return, and use only torch operations in
#   `backward`; then it can be differentiated.

# %% [markdown]
# **What to look at.** Left: your function and its first two derivatives, all from autograd. Where the second
# derivative is far from the expected curve (dotted), the saved tensor has lost its history. Right: the relative error
# near 0 in float32. The formula with $e^{2x}$ has no correct digit left at $10^{-8}$.

# %%
x = torch.linspace(-4, 4, 400).requires_grad_()
y = tanh_from_exp(x)
(first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
(second,) = torch.autograd.grad(first.sum(), x)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for values, name, colour, style in ((y, "$y$", VIOLET, "-"), (first, "$y'$", TEAL, "--"),
                                    (second, "$y''$", AMBER, "-.")):
    axes[0].plot(x.detach(), values.detach(), color=colour, linestyle=style, linewidth=2, label=name)
exact = torch.tanh(x.detach())
axes[0].plot(x.detach(), -2 * exact * (1 - exact**2), color=INK, linestyle=":", linewidth=1, label="$-2y(1 - y^2)$")
axes[0].legend(fontsize=8)
axes[0].set(title="tanh and its derivatives", xlabel="$x$")

x = torch.logspace(-9, 0, 400)
exact = torch.tanh(x.double())
for name, value, colour, style in [("yours", tanh_from_exp(x), VIOLET, "-"),
                                   ("$(e^{2x} - 1) / (e^{2x} + 1)$",
                                    (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1), AMBER, "-.")]:
    axes[1].loglog(x, ((value - exact) / exact).abs().clamp(min=1e-9), color=colour, linestyle=style, label=name)
axes[1].set(title="relative error, float32", xlabel="$x$")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 4. Swish, checkpointed  ★★ · 40 minutes
#
# Ramachandran et al. (2017) searched a space of formulas for activations that train well, and found
#
# $$ \mathrm{swish}_\beta(x) = x\, \sigma(\beta x) \tag{8} $$
#
# With $\beta = 1$ it is also called SiLU. $\beta$ moves it between $x / 2$ (at 0) and the ReLU (at $\infty$), and may
# be learned. With $s = \sigma(\beta x)$, the derivatives are
#
# $$ \frac{\partial y}{\partial x} = s + \beta x\, s (1 - s), \qquad
#    \frac{\partial y}{\partial \beta} = x^2\, s (1 - s) \tag{9} $$
#
# *Memory.* Written as `x * torch.sigmoid(beta * x)`, autograd keeps $x$ and $s$ until the backward pass, both of full
# size. In a network of a hundred such layers this is most of the memory. But $s$ is cheap to compute again from $x$ and
# $\beta$. To *recompute instead of keeping* is called checkpointing (Chen et al.
# 2016), here on the smallest scale: a `torch.autograd.Function` that saves its two inputs and nothing else.
#
# *The gradient of $\beta$.* $\beta$ is broadcast against $x$, so one entry takes part in many outputs, and its gradient
# is the **sum** over them, in the shape of $\beta$. A backward pass says so. (PyTorch is lenient: what is too large it
# sums until it fits, if the input would broadcast to it. For a $\beta$ it guesses right; for the slopes of exercise 1,
# which belong to the second axis, it would not.)
#
# *Watch for* the second term of $\partial y / \partial x$, and for everything that hides in `ctx`: an attribute that
# holds a tensor is kept in memory too.

# %% exercise="swish_checkpointed"
class SwishFn(torch.autograd.Function):
    """Eq. (8) forward, Eq. (9) backward; keeps x and beta, and computes the sigmoid again."""

    @staticmethod
    def forward(ctx, x: Tensor, beta: Tensor) -> Tensor:
        """x float, any shape; beta float, broadcasts to x -> y, the shape of x."""
        ### BEGIN SOLUTION
        ctx.save_for_backward(x, beta)
        return x * torch.sigmoid(beta * x)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the loss with respect to y -> those with respect to x and beta, in their shapes."""
        ### BEGIN SOLUTION
        x, beta = ctx.saved_tensors
        s = torch.sigmoid(beta * x)
        slope = s * (1 - s)
        grad_x = grad_y * (s + beta * x * slope)
        grad_beta = (grad_y * x.square() * slope).sum_to_size(beta.shape)
        return grad_x, grad_beta
        ### END SOLUTION


def swish(x: Tensor, beta: Tensor) -> Tensor:
    """Swish with a learnable beta: Ramachandran et al. (2017); our Eqs. (8)-(9).

    x     float, any shape
    beta  float, any shape that broadcasts to that of x, such as (), (C,) for x (..., C), or (C, 1, 1) for (B, C, H, W)

    Returns the shape of x. Gradients reach x and beta. Until the backward pass nothing is kept but x and beta, with
    x.numel() + beta.numel() elements in all, which `kept_for_backward` measures. It need not be differentiable twice.
    `torch.sigmoid` may be used.
    """
    return SwishFn.apply(x, beta)

# %% [markdown] hints="swish_checkpointed"
# - Save the two inputs and nothing else; the first thing that the backward pass does is to compute the sigmoid again.
# - Write down the gradient for each element, with the full shape of x, and only then reduce it for beta.
# - `tensor.sum_to_size(shape)` is the opposite of broadcasting to a shape.

# %% [markdown]
# **What to look at.** Left: the family, from a line to a ReLU. Note the dip: a Swish with $\beta > 0$ is not monotonic.
# Right: what ten layers keep until the backward pass, in units of the size of $x$. Yours keep their inputs, one tensor
# for each layer; left to autograd, each keeps its sigmoid as well.

# %%
x = torch.linspace(-5, 5, 500)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained", width_ratios=[1.4, 1])
for beta, style in zip([0.0, 0.5, 1.0, 2.0, 20.0], [":", "-.", "-", "--", "-"], strict=True):
    axes[0].plot(x, swish(x, torch.tensor(beta)), color=plt.cm.viridis(beta**0.5 / 5), linestyle=style,
                 label=f"$\\beta$ = {beta:g}")
axes[0].set(title="Swish", xlabel="$x$", ylim=(-1, 4))
axes[0].legend(fontsize=8)


def ten_layers(activation):
    def network(x, beta):
        for _ in range(10):
            x = activation(x, beta)
        return x
    return network


x, beta = torch.randn(64, 256), torch.ones(256)
rows = {"yours": swish, "left to autograd": lambda x, beta: x * torch.sigmoid(beta * x)}
for place, activation in enumerate(rows.values()):
    kept = sum(math.prod(shape) for shape in kept_for_backward(ten_layers(activation), x, beta)["saved"]) / x.numel()
    axes[1].barh(place, kept, color=[VIOLET, AMBER][place], hatch=["", "//"][place], edgecolor="white")
    axes[1].text(kept, place, f" {kept:.1f}", va="center")
axes[1].set(title="kept by ten layers, in tensors like $x$", yticks=[0, 1], yticklabels=rows, xlim=(0, 24))
axes[1].invert_yaxis()
plt.show()

# %% [markdown]
# ## 5. GELU  ★ · 15 minutes
#
# Dropout multiplies a unit by 0 or 1 at random. Hendrycks & Gimpel (2016) let the chance of a 1 depend on the unit
# itself: keep $x$ with the probability $\Phi(x)$ that a standard normal number is smaller. The expected result is the
# Gaussian error linear unit, the activation of BERT and GPT-2:
#
# $$ \mathrm{gelu}(x) = x\, \Phi(x) = \frac{x}{2} \left( 1 + \mathrm{erf} \frac{x}{\sqrt 2} \right) \tag{10} $$
#
# When the error function was slow, it was replaced by (their §2)
#
# $$ \mathrm{gelu}_{\tanh}(x) = \frac{x}{2} \left( 1 + \tanh\!\left( \sqrt{\tfrac{2}{\pi}}\,
#    \bigl( x + 0.044715\, x^3 \bigr) \right) \right) \tag{11} $$
#
# The two differ by less than $5 \cdot 10^{-4}$. That is too little to be seen in a loss curve and enough to make a
# model that was trained with one give other answers with the other; GPT-2's weights want (11), BERT's (10).
#
# *Watch for* $\sqrt 2$: $\mathrm{erf}$ belongs to a normal distribution with variance ½.

# %% exercise="gelu"
def gelu_exact(x: Tensor) -> Tensor:
    """The Gaussian error linear unit: Hendrycks & Gimpel (2016), §2; our Eq. (10).

    x  float, any shape

    Returns the shape of x, to the precision of its dtype relative to the largest |x|. `torch.erf` may be used.
    """
    ### BEGIN SOLUTION
    return x / 2 * (1 + torch.erf(x / math.sqrt(2)))
    ### END SOLUTION


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation of the GELU by a tanh: Hendrycks & Gimpel (2016), §2; our Eq. (11).

    x  float, any shape

    Returns the shape of x. `torch.tanh` may be used.
    """
    ### BEGIN SOLUTION
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x / 2 * (1 + torch.tanh(inner))
    ### END SOLUTION

# %% [markdown] hints="gelu"
# - Both are $x/2$ times a number between 0 and 2.
# - $\Phi(1) = 0.8413$: does your gelu_exact(1) equal that?

# %% [markdown]
# **What to look at.** Left: the GELU as an average. For each $x$, 100 random masks keep $x$ with probability
# $\Phi(x)$; the mean of what is left scatters around your function. Right: the error of the approximation, and of
# the cruder $x\, \sigma(1.702\, x)$ from the same paper, which is forty times as large.

# %%
x = torch.linspace(-3, 2, 101)
uniform = torch.rand(100, 101, generator=torch.Generator().manual_seed(1))
averages = (x * (uniform < torch.special.ndtr(x))).mean(dim=0)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
axes[0].plot(x, averages, "o", color=TEAL, markersize=3, label="mean of 100 random masks")
axes[0].plot(x, gelu_exact(x), color=VIOLET, label="gelu_exact")
axes[0].set(title="an expected dropout", xlabel="$x$")
axes[0].legend(fontsize=8)
x = torch.linspace(-5, 5, 501, dtype=torch.float64)
axes[1].semilogy(x, (gelu_tanh(x) - gelu_exact(x)).abs().clamp(min=1e-9), color=VIOLET, label="gelu_tanh")
axes[1].semilogy(x, (x * torch.sigmoid(1.702 * x) - gelu_exact(x)).abs().clamp(min=1e-9), color=AMBER, linestyle="-.",
                 label="$x\\,\\sigma(1.702\\,x)$")
axes[1].set(title="distance to gelu_exact", xlabel="$x$", ylim=(1e-7, 0.1))
axes[1].legend(fontsize=8)
plt.show()
print(f"largest error of gelu_tanh: {(gelu_tanh(x) - gelu_exact(x)).abs().max():.1e}")

# %% [markdown]
# ## 6. Gated linear units  ★ · 20 minutes
#
# An activation decides from $x$ what becomes of $x$. A *gate* decides from one projection of the input what becomes of
# another (Dauphin et al. 2017). Shazeer (2020, Eq. 6) put such gates into the feed-forward layer of the Transformer,
# and large language models have kept them there:
#
# $$ \mathrm{FFN}_{\mathrm{SwiGLU}}(x) = \bigl( \mathrm{swish}_1(x W) \otimes x V \bigr)\, W_2 \tag{12} $$
#
# $\otimes$ multiplies elementwise. $\mathrm{GEGLU}$ has the (exact) GELU in place of Swish, $\mathrm{ReGLU}$ the ReLU.
# There is no bias. We write the weights as code does, `w1` for $W^\top$ (the gate), `w3` for $V^\top$ (what passes
# through it), `w2` for $W_2^\top$, each stored `(out, in)` as in `nn.Linear`.
#
# The paper offers no explanation and attributes the success "to divine benevolence". One observation: for a fixed gate
# the layer is linear in $V$, so gradients reach $V$ without passing an activation; and a product of two projections
# makes $x_i x_j$ in one layer, for which a ReLU layer needs many units.
#
# *Watch for* which of the two projections goes through the activation; both have the same shape, and a network trains
# with either, but weights that were trained with one are useless with the other.

# %% exercise="glu_variants"
def swiglu(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor) -> Tensor:
    """The feed-forward layer with a Swish gate: Shazeer (2020), Eq. 6; our Eq. (12).

    x   (..., D) float, any number of leading axes, also none
    w1  (F, D) float: the gate, which goes through the activation
    w3  (F, D) float: what the gate multiplies
    w2  (D, F) float: back to the width of x; all weights (out, in) as in nn.Linear, no bias

    Returns (..., D) float. The library's activations may be used.
    """
    ### BEGIN SOLUTION
    gate = x @ w1.T
    return (gate * torch.sigmoid(gate) * (x @ w3.T)) @ w2.T
    ### END SOLUTION


def geglu(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor) -> Tensor:
    """The same with the exact GELU, x Phi(x), on the gate."""
    ### BEGIN SOLUTION
    gate = x @ w1.T
    return (gate * torch.special.ndtr(gate) * (x @ w3.T)) @ w2.T
    ### END SOLUTION


def reglu(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor) -> Tensor:
    """The same with the ReLU on the gate; the derivative where a gate is exactly 0 is not tested."""
    ### BEGIN SOLUTION
    return (torch.relu(x @ w1.T) * (x @ w3.T)) @ w2.T
    ### END SOLUTION

# %% [markdown] hints="glu_variants"
# - Two projections of x to width F, one product, one projection back.
# - `x @ w.T` works for any number of leading axes.

# %% [markdown]
# **What to look at.** A layer with *one* hidden unit on inputs in the plane; the gate's projection is 0 on the
# solid line, the value's on the dashed one. The gated units are nearly silent (pale) on one side of the solid line; on
# the other they change their sign across the dashed one, like half a saddle. The plain unit (right) is a single fold.

# %%
axis = torch.linspace(-3, 3, 121)
plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
w1, w3, w2 = torch.tensor([[1.0, 0.6]]), torch.tensor([[-0.5, 1.0]]), torch.tensor([[1.0], [0.0]])
units = {"SwiGLU": swiglu(plane, w1, w3, w2), "GEGLU": geglu(plane, w1, w3, w2), "ReGLU": reglu(plane, w1, w3, w2),
         "Swish alone": F.silu(plane @ w1.T) @ w2.T}
fig, axes = plt.subplots(1, 4, figsize=(13, 3.2), sharey=True, layout="constrained")
for ax, (title, value) in zip(axes, units.items(), strict=True):
    image = ax.contourf(axis, axis, value[..., 0], levels=[i - 8.5 for i in range(18)], cmap="PuOr", extend="both")
    for weight, style in ((w1, "-"), (w3, "--"))[:1 if title == "Swish alone" else 2]:
        ax.contour(axis, axis, (plane @ weight.T)[..., 0], levels=[0], colors=INK, linestyles=style)
    ax.set(title=title, aspect="equal")
fig.colorbar(image, ax=axes[-1])
plt.show()

# %% [markdown]
# ## 7. Learnable activations  ★★★ · 75 minutes
#
# Why choose a function, if it can be learned? Write it as a combination of fixed basis functions and train the
# coefficients. Two choices of a basis.
#
# **Splines.** Kolmogorov-Arnold networks (Liu et al. 2024, §2) learn each activation as a smooth base plus a spline,
#
# $$ \phi(x) = w_b\, \mathrm{silu}(x) + \sum_i c_i\, B_{i,k}(x) \tag{13} $$
#
# where the B-splines $B_{i,k}$ of degree $k$ are bumps over neighbouring knots. For non-decreasing knots
# $t_0 \le t_1 \le \dots$ they are built by the recursion of de Boor (1978) and Cox:
#
# $$ B_{i,0}(x) = \begin{cases} 1 & t_i \le x < t_{i+1} \\ 0 & \text{otherwise} \end{cases}, \qquad
#    B_{i,k}(x) = \frac{x - t_i}{t_{i+k} - t_i} B_{i,k-1}(x)
#               + \frac{t_{i+k+1} - x}{t_{i+k+1} - t_{i+1}} B_{i+1,k-1}(x) \tag{14} $$
#
# Every $B_{i,k}$ is a polynomial of degree $k$ between knots, has $k - 1$ continuous derivatives where knots are
# distinct, and is 0 outside $[t_i, t_{i+k+1}]$: a change of $c_i$ changes the function near $t_i$ and nowhere else.
# On a *grid* of $G$ intervals, continued by $k$ knots on each side, there are $G + k$ of them; on the grid, from $t_k$
# to $t_{G+k}$, they sum to 1. Outside, they fade to 0 within $k$ further intervals; nothing is extrapolated, and
# of (13) only the first term is left.
#
# *Two conventions.* Knots may coincide, which takes away a derivative there. Then (14) reads $0/0$, and **a term whose
# denominator is 0 is 0**, in values and gradients. The intervals are half open, so that no point counts twice; at the
# very last knot this would leave out the end of a grid whose last knots coincide. **A point equal to the last knot
# belongs to the last interval that is not empty.**
#
# **Hinges.** Agostinelli et al. (2015, Eq. 1) add to a ReLU $S$ hinges whose heights $a$ and places $b$ are learned
# for each channel:
#
# $$ h_c(x) = \max(0, x) + \sum_{s=1}^{S} a_{sc}\, \max(0,\, b_{sc} - x) \tag{15} $$
#
# *Watch for* the number of functions that each step of (14) leaves, one fewer than before. The knots of a spline are
# fixed here: a buffer, part of the `state_dict`, but no parameter. The hinges of (15) move: $b$ needs a gradient.

# %% exercise="learnable_spline_activation"
def bspline_basis(x: Tensor, knots: Tensor, k: int) -> Tensor:
    """The values of all B-splines of degree k: de Boor (1978); our Eq. (14).

    x      (N,) float: any numbers, inside or outside of the knots
    knots  (G + 2*k + 1,) float, non-decreasing, G >= 1, not all equal; they may coincide. No gradient is needed.
    k      int >= 0: the degree

    Returns (N, G + k) float: B_i,k(x) in column i, as defined on the whole line, with 0/0 = 0 in Eq. (14) and 0 outside
    [t_i, t_(i+k+1)]. Intervals are closed on the left and open on the right; x equal to the last knot belongs to the
    last interval that is not empty. Gradients reach x (for k >= 1); at a knot they are not tested.

    Raises ValueError if the knots decrease somewhere, or if there are fewer than 2*k + 2 of them.
    """
    ### BEGIN SOLUTION
    if len(knots) < 2 * k + 2 or (knots.diff() < 0).any():
        raise ValueError(f"degree {k} needs at least {2 * k + 2} knots, none smaller than the one before it")
    x = x.unsqueeze(-1)
    left, right = knots[:-1], knots[1:]
    closed = (right == knots[-1]) & (left < right)  # the last interval that is not empty
    basis = ((left <= x) & ((x < right) | closed & (x == right))).to(x.dtype)
    for degree in range(1, k + 1):
        width = knots[degree:] - knots[:-degree]
        inverse = torch.where(width > 0, 1 / width, 0)
        rising = (x - knots[:-degree]) * inverse
        falling = (knots[degree:] - x) * inverse
        basis = rising[:, :-1] * basis[:, :-1] + falling[:, 1:] * basis[:, 1:]
    return basis
    ### END SOLUTION


class SplineAct(nn.Module):
    """A learned activation for each channel, a spline on a uniform grid: Liu et al. (2024), §2; our Eq. (13).

    channels   int >= 1: C
    grid       int >= 1: G intervals between low and high
    k          int >= 0: the degree of the spline
    low, high  floats, low < high: the ends of the grid

    Parameters  w_b (C,), initially 1;  c (C, G + k), initially 0
    Buffer      knots (G + 2*k + 1,): t_i = low + (i - k) * (high - low) / G
    """

    def __init__(self, channels: int, grid: int = 5, k: int = 3, low: float = -1.0, high: float = 1.0):
        super().__init__()
        ### BEGIN SOLUTION
        self.k = k
        step = (high - low) / grid
        self.register_buffer("knots", low + step * torch.arange(-k, grid + k + 1))
        self.w_b = nn.Parameter(torch.ones(channels))
        self.c = nn.Parameter(torch.zeros(channels, grid + k))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) float, one or more axes -> (..., C) float: channel c has its own w_b[c] and c[c, :]."""
        ### BEGIN SOLUTION
        basis = bspline_basis(x.reshape(-1), self.knots, self.k).unflatten(0, x.shape)  # (..., C, G + k)
        return self.w_b * x * torch.sigmoid(x) + (self.c * basis).sum(dim=-1)
        ### END SOLUTION


class PiecewiseLinear(nn.Module):
    """A ReLU with learned hinges for each channel: Agostinelli et al. (2015), Eq. 1; our Eq. (15).

    channels  int >= 1: C
    hinges    int >= 1: S

    Parameters  a (S, C), initially 0;  b (S, C), initially torch.linspace(-1, 1, S) in every channel
    """

    def __init__(self, channels: int, hinges: int = 3):
        super().__init__()
        ### BEGIN SOLUTION
        self.a = nn.Parameter(torch.zeros(hinges, channels))
        self.b = nn.Parameter(torch.linspace(-1, 1, hinges).unsqueeze(-1).repeat(1, channels))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) float, one or more axes -> (..., C) float. The derivative at a hinge is not tested."""
        ### BEGIN SOLUTION
        hinges = torch.relu(self.b - x.unsqueeze(-2))  # (..., S, C)
        return torch.relu(x) + (self.a * hinges).sum(dim=-2)
        ### END SOLUTION

# %% [markdown] hints="learnable_spline_activation"
# - Degree 0 is a matrix of zeros and ones: compare `x[:, None]` with all left and all right ends of the intervals.
# - With `t[d:] - t[:-d]` you have all the denominators of one step at once. The first term of (14) uses all but the
#   last of them, the second all but the first.
# - A term whose denominator is 0 has a numerator full of zeros as well: replace its factor 1/0 by 0, once and for all,
#   before x comes into play.
# - Is $\sum_i B_i = 1$ on the whole grid, both ends included? If only the right end is missing, read the second
#   convention again.
# - A module's fixed tensors are registered with `register_buffer`: they move with `.to()` and are saved, not trained.

# %% [markdown]
# **What to look at.** Left: the eight cubic B-splines on a grid of five intervals (between the dotted lines), and
# their sum, which is 1 on the grid. Right: one function of the form (13) before and after a change of one coefficient:
# the change is local.

# %%
spline = SplineAct(1)
x = torch.linspace(-2.4, 2.4, 600)
basis = bspline_basis(x, spline.knots, spline.k)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for i in range(basis.shape[1]):
    axes[0].plot(x, basis[:, i], color=plt.cm.viridis(i / 8), linestyle=["-", "--", "-."][i % 3])
axes[0].plot(x, basis.sum(dim=1), color=INK, linewidth=2, label="sum")
axes[0].set(title="cubic B-splines", xlabel="$x$")
axes[0].legend(fontsize=8)
with torch.no_grad():
    spline.c.copy_(torch.randn(1, 8, generator=torch.Generator().manual_seed(2)))
    before = spline(x[:, None])
    spline.c[0, 4] += 1
    after = spline(x[:, None])
axes[1].plot(x, after, color=AMBER, linewidth=2, linestyle="--", label="$c_4$ raised by 1")
axes[1].plot(x, before, color=VIOLET, label="before")
axes[1].set(title="a learned activation", xlabel="$x$")
axes[1].legend(fontsize=8)
for ax in axes:
    for end in (-1, 1):
        ax.axvline(end, color="#999999", linestyle=":")
plt.show()

# %% [markdown]
# ## Finale: learning the activation
#
# A network with one hidden layer of four units has to fit a function of one variable. Same data, same width, same
# optimiser; only the activation differs. With tanh or ReLU four units make four bends. If each unit may also learn
# *how* to bend, four are plenty. (Count the parameters before you call it fair; the titles do.) The bottom row shows
# what the four activations have become.

# %%
class SmallNetwork(nn.Module):
    def __init__(self, activation, inputs=1, width=4):
        super().__init__()
        self.into, self.activation, self.out = nn.Linear(inputs, width), activation, nn.Linear(width, 1)

    def forward(self, x):
        return self.out(self.activation(self.into(x)))


class Fixed(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def fit(activation, x, y, steps=300):
    torch.manual_seed(0)
    network = SmallNetwork(activation)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(steps):
        loss = (network(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network, loss.item()


x = torch.linspace(-2, 2, 128)[:, None]
y = torch.sin(5 * x) * torch.exp(-x.square() / 2) + 0.3 * x
choices = {"tanh": Fixed(tanh_from_exp), "ReLU": Fixed(relu), "hinges": PiecewiseLinear(4, hinges=4),
           "spline": SplineAct(4, grid=6, low=-3.0, high=3.0)}
fig, axes = plt.subplots(2, 4, figsize=(13, 5), sharex="row", layout="constrained")
for (top, bottom), (name, activation) in zip(axes.T, choices.items(), strict=True):
    network, loss = fit(activation, x, y)
    top.plot(x, y, color="#999999", linewidth=3, label="target")
    top.plot(x, network(x).detach(), color=VIOLET, label="network")
    top.set_title(f"{name}: error {loss:.1g}\n{sum(p.numel() for p in network.parameters())} parameters")
    inner = torch.linspace(-4, 4, 300)[:, None].expand(-1, 4)
    for unit, style in zip(network.activation(inner).detach().T, ["-", "--", "-.", ":"], strict=True):
        bottom.plot(inner[:, 0], unit, color=TEAL, linestyle=style)
axes[0, 0].legend(fontsize=8)
axes[0, 0].set_ylabel("fit")
axes[1, 0].set_ylabel("activations")
plt.show()

# %% [markdown]
# Now a decision in the plane: two crescents, a hidden layer of four units, and your hinges. At least 97 % should come
# out right. That alone proves little, as the weights around the hinges can do the work while these stand still. So
# look at what has become of the parameters: the crosses are where the hinges of each unit began, the dots where they
# are now and how high they have grown.

# %%
def moons(n, generator):
    """(2n, 2): points on two interlocking crescents; and (2n, 1) labels, 0 or 1."""
    angle = torch.pi * torch.rand(2, n, generator=generator)
    upper = torch.stack([angle[0].cos(), angle[0].sin()], dim=-1)
    lower = torch.stack([1 - angle[1].cos(), 0.5 - angle[1].sin()], dim=-1)
    points = torch.cat([upper, lower]) + 0.1 * torch.randn(2 * n, 2, generator=generator)
    return points, torch.arange(2.0).repeat_interleave(n)[:, None]


torch.manual_seed(3)
generator = torch.Generator().manual_seed(3)
network = SmallNetwork(PiecewiseLinear(4, hinges=3), inputs=2)
began = network.activation.b.detach().clone()
optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
for _ in range(300):
    points, labels = moons(64, generator)
    loss = F.binary_cross_entropy_with_logits(network(points), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

points, labels = moons(1000, generator)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
with torch.no_grad():
    right = ((network(points) > 0) == (labels > 0)).float().mean()
    sides = torch.linspace(-1.6, 2.6, 120), torch.linspace(-1.1, 1.6, 120)
    plane = torch.stack(torch.meshgrid(*sides, indexing="xy"), dim=-1)
    axes[0].contourf(plane[..., 0], plane[..., 1], network(plane)[..., 0] > 0, levels=[-0.5, 0.5, 1.5],
                     colors=[AMBER, VIOLET], alpha=0.25)
    for label, colour, marker in ((0, AMBER, "o"), (1, VIOLET, "^")):
        axes[0].scatter(*points[labels[:, 0] == label][:150].T, color=colour, marker=marker, s=9)
    axes[0].set(title=f"{right:.1%} of new points are right")
    a, b = network.activation.a.detach(), network.activation.b.detach()
    for unit, marker in enumerate("os^d"):
        axes[1].plot(b[:, unit], a[:, unit], marker, color=TEAL, label=f"unit {unit}")
    axes[1].plot(began[:, 0], torch.zeros(3), "x", color=INK, markersize=9, label="all units, at first")
    axes[1].set(title="hinges", xlabel="place $b$", ylabel="height $a$")
    axes[1].legend(fontsize=8)
plt.show()
print(f"the hinges have moved by {(b - began).abs().mean():.2f} on average, their heights by {a.abs().mean():.2f}")

# %% [markdown]
# ## Going further
#
# - **How deep does a gradient get?** Stack 30 layers of width 100 with weights $\mathcal N(0, 1/100)$ and plot the norm
#   of the gradient at each layer, for sigmoid, tanh, ReLU and GELU. For the ReLU, replace the variance by $2/100$ (He
#   et al. 2015, §2.2). Where does the 2 come from?
# - **A cheaper mask.** The leaky ReLU needs one *bit* per element, not one byte. Eight booleans fit into a `uint8`:
#   how much slower does packing make it?
# - **Inverting instead of keeping.** A leaky ReLU with a slope above 0 can be computed in place and inverted in the
#   backward pass. Which activations of this unit have an inverse?
# - **Gates at equal cost.** Equation (12) has three matrices instead of two. Shazeer shrinks $F$ by 2/3 to compare
#   fairly. Repeat the finale with a SwiGLU layer of equal size.
# - **Adapting the grid.** A spline learns nothing where no input falls. Liu et al. (2024) move the knots to the
#   quantiles of the inputs during training and refit the coefficients by least squares. Your `bspline_basis` is the
#   design matrix that this needs.
#
# ## References
#
# - F. Agostinelli, M. Hoffman, P. Sadowski, P. Baldi. *Learning Activation Functions to Improve Deep Neural
#   Networks.* ICLR workshop 2015.
# - C. de Boor. *A Practical Guide to Splines.* Springer 1978.
# - T. Chen, B. Xu, C. Zhang, C. Guestrin. *Training Deep Nets with Sublinear Memory Cost.* 2016.
# - D.-A. Clevert, T. Unterthiner, S. Hochreiter. *Fast and Accurate Deep Network Learning by Exponential Linear
#   Units (ELUs).* ICLR 2016.
# - Y. Dauphin, A. Fan, M. Auli, D. Grangier. *Language Modeling with Gated Convolutional Networks.* ICML 2017.
# - I. Goodfellow, Y. Bengio, A. Courville. *Deep Learning.* MIT Press 2016.
# - K. He, X. Zhang, S. Ren, J. Sun. *Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
#   Classification.* ICCV 2015.
# - D. Hendrycks, K. Gimpel. *Gaussian Error Linear Units (GELUs).* 2016.
# - Z. Liu et al. *KAN: Kolmogorov-Arnold Networks.* 2024.
# - A. Maas, A. Hannun, A. Ng. *Rectifier Nonlinearities Improve Neural Network Acoustic Models.* ICML workshop 2013.
# - V. Nair, G. Hinton. *Rectified Linear Units Improve Restricted Boltzmann Machines.* ICML 2010.
# - P. Ramachandran, B. Zoph, Q. Le. *Searching for Activation Functions.* 2017.
# - N. Shazeer. *GLU Variants Improve Transformer.* 2020.
