# %% [markdown]
# # Normalization
#
# A layer of a deep network multiplies. If every layer makes its signal a little larger, fifty layers make it
# enormous; if a little smaller, nothing arrives, and the gradients on the way back suffer the same fate. The
# scale of the weights decides which of the two happens, and it changes with every step of training: each
# layer aims at a target that the layers below keep moving.
#
# The remedy is old in statistics: **standardise**. Subtract a mean, divide by a standard deviation, and then,
# because a layer must be free to want another scale, multiply by a learned weight and add a learned bias. All
# methods of this unit do exactly that. What distinguishes them is a single question, *the mean of what?*
# Over the batch, over the features, over a plane, over a group of channels: the answer decides whether an
# example can see its neighbours, what a network forgets about its input, and where the method can be used.
#
# You will build them in six exercises, each independent of the others. The cell below an exercise checks your
# code and shows the smallest example on which it fails; the pictures after it are drawn by your own code. In a cell
# of your own, `hint("batch_norm")` gives a hint, then one more each time, and `progress()` shows what is done.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `batch_norm` | ★★ | 40 | statistics of the batch, running statistics, a layer with state |
# | `layer_norm_fwd_bwd` | ★★ | 45 | every token by itself, and a backward pass of your own |
# | `instance_norm` | ★ | 15 | every plane by itself: contrast is forgotten |
# | `group_norm` | ★★ | 25 | between the two: groups of channels |
# | `rms_norm` | ★ | 20 | no mean at all, and half precision |
# | `fold_bn` | ★★★ | 60 | normalizing weights: batch norm disappears into a convolution; spectral norm |
#
# ### Notation, and rules for every exercise
#
# $B$ examples, $C$ channels, $H \times W$ positions, $D$ features of a token. Shapes are written
# `(B, C, H, W)`; `(B, C, *)` stands for any number of further axes, also none, and `(..., D)` for any number
# of leading ones. Every size is at least 1.
#
# - `float` means float32 or float64, all arguments alike. Compute in that dtype and return it. (`rms_norm` takes
#   half precision as well.)
# - The **biased** variance divides by the number of values $n$, the **unbiased** one by $n - 1$. Normalizing
#   uses the biased one, everywhere.
# - $\varepsilon$ is added to the variance, **under** the root.
# - The mean may be a thousand times as large as the spread: $\mathbb{E}[x^2] - \mathbb{E}[x]^2$ loses all its
#   digits there.
# - Inputs may be views of other tensors with any strides. Never change them, and remember nothing between
#   calls.
# - Gradients must reach every float argument that the contract does not call a constant, *through* the
#   statistics, too.
# - `mean`, `square`, `sqrt` and the like are your tools. `F.batch_norm`, `F.layer_norm` and their relatives are
#   what you are about to build: keep them to compare your results with.

# %% role="setup"
import torch
from torch import Tensor, nn

from etude import check, hint, progress

# %% [markdown]
# The picture answers *the mean of what?* Each cube is an activation: examples to the back, channels to the
# right, positions upwards. The dark cells share **one** mean and **one** variance.

# %%
import matplotlib.pyplot as plt

from etude.plots import light

light()
torch.set_num_threads(1)  # the tensors are small: several threads would wait for each other
INK, BLUE, ORANGE, GREY = "#222222", "#3b6ea5", "#e08a1e", "#999999"


def draw_cube(ax, title, note, chosen):
    """Four channels, three examples, four positions; `chosen(c, b, p)` says which cells share their statistics."""
    sizes = (4, 3, 4)
    ax.voxels(chosen(*torch.meshgrid(*map(torch.arange, sizes), indexing="ij")).numpy(), facecolors=BLUE,
              edgecolors="white", linewidth=0.9)
    for axis in range(3):
        for one, other in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ends = [[one * sizes[axis - 2]] * 2, [other * sizes[axis - 1]] * 2]
            ends.insert(0, [0, sizes[axis]])
            ax.plot(*(ends[(i - axis) % 3] for i in range(3)), color=GREY, linewidth=0.8)
    ax.set_title(title, y=0.99)
    ax.text2D(0.5, -0.07, note, transform=ax.transAxes, ha="center", fontsize=9)
    for axis, label in ((ax.xaxis, "channels"), (ax.yaxis, "examples"), (ax.zaxis, "positions")):
        axis.set_label_text(label, fontsize=8)
        axis.labelpad = -14
        axis.set_ticks([])
        axis.pane.set_visible(False)
        axis.line.set_visible(False)
    ax.view_init(elev=22, azim=-62)
    ax.set_box_aspect((4, 3, 4), zoom=1.05)


fig, axes = plt.subplots(1, 4, figsize=(13, 3.7), subplot_kw={"projection": "3d"})
draw_cube(axes[0], "batch norm", "one channel, the whole batch", lambda c, b, p: c == 0)
draw_cube(axes[1], "layer norm, RMS norm", "all features of one token", lambda c, b, p: (b == 0) & (p == 3))
draw_cube(axes[2], "instance norm", "one channel of one example", lambda c, b, p: (b == 0) & (c == 0))
draw_cube(axes[3], "group norm", "a group of channels of one example", lambda c, b, p: (b == 0) & (c < 2))
fig.subplots_adjust(left=0, right=1, bottom=0.09, top=0.9, wspace=0)
plt.show()

# %% [markdown]
# ## 1. Batch normalization  ★★ · 40 minutes
#
# Ioffe & Szegedy (2015, Alg. 1) standardise every channel over all $m$ values that it has in the batch, that
# is over examples and positions, and give it a weight $\gamma$ and a bias $\beta$:
#
# $$ \mu_c = \frac1m \sum_{i} x_{ic}, \qquad
#    \sigma_c^2 = \frac1m \sum_{i} (x_{ic} - \mu_c)^2, \qquad
#    y_{ic} = \gamma_c\, \frac{x_{ic} - \mu_c}{\sqrt{\sigma_c^2 + \varepsilon}} + \beta_c \tag{1} $$
#
# The mean and the variance are functions of $x$, and the gradient must know: it flows through them. That is
# what makes the method work. A gradient step that only shifts or scales the input of (1) would change nothing,
# and the gradient of (1) has no component in such a direction.
#
# *At test time* (Alg. 2) a prediction must not depend on what else is in the batch. So training keeps a
# running estimate of both statistics, with the *momentum* $\alpha$ as the weight of the **new** batch,
#
# $$ \bar\mu \leftarrow (1 - \alpha)\,\bar\mu + \alpha\,\mu, \qquad
#    \bar\sigma^2 \leftarrow (1 - \alpha)\,\bar\sigma^2 + \alpha\,\tfrac{m}{m-1}\,\sigma^2, \tag{2} $$
#
# and evaluation uses $\bar\mu$ and $\bar\sigma^2$ in (1) instead: an affine map with fixed numbers. The factor
# $m/(m-1)$ makes the *running* variance unbiased, as it estimates the variance of all data; inside the batch
# the biased one is right, as it gives variance 1.
#
# *Watch for* the two variances; for the momentum, which optimizers define the other way round; for $m = 1$,
# where the unbiased variance is $0/0$; for running statistics that carry the graph of every past batch with
# them; and for inputs with no positions, $(B, C)$, or with one axis of them, $(B, C, L)$.

# %% [markdown] hints="batch_norm"
# - The axes of the statistics are all axes but number 1, however many there are. To meet x again, a `(C,)` tensor needs
#   the shape `(1, C, 1, ...)`.
# - Training and evaluation differ in where mean and variance come from, and in nothing else: write the formula once.
# - The normalization takes the biased variance and the running statistics take the unbiased one: one follows from the
#   other by a factor. What is returned besides y is detached; what normalizes is not.
# - In the layer, assign the two returned statistics to the buffers. In evaluation they are the old ones.

# %% exercise="batch_norm"
def batch_norm(x: Tensor, w: Tensor, b: Tensor, running_mean: Tensor, running_var: Tensor,
               momentum: float = 0.1, eps: float = 1e-5, training: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalization: Ioffe & Szegedy (2015), Alg. 1 in training, Alg. 2 otherwise; our Eqs. (1)-(2).

    x             (B, C, *) float: the statistics of a channel run over all m = x.numel() / C of its values
    w, b          (C,) float: gamma and beta
    running_mean  (C,) float, a constant (no gradient is expected); not changed in place
    running_var   (C,) float >= 0, likewise
    momentum      float in [0, 1]: the weight of the new batch
    eps           float > 0, added to the variance under the root
    training      bool: normalize with the batch's statistics (True) or with the running ones (False)

    Returns y (B, C, *) float, new_mean (C,) float and new_var (C,) float. In training, y uses the biased variance,
    new_var the unbiased one, and gradients of y flow through mean and variance. Otherwise new_mean and new_var equal
    running_mean and running_var. Neither of them requires a gradient, ever.
    Raises ValueError in training if m = 1.
    """
    ### BEGIN SOLUTION
    shape = [1, -1] + [1] * (x.dim() - 2)
    if training:
        axes = [0, *range(2, x.dim())]
        m = x.numel() // x.shape[1]
        if m == 1:
            raise ValueError("one value for each channel has no variance")
        mean = x.mean(dim=axes)
        var = (x - mean.reshape(shape)).square().mean(dim=axes)
        new_mean = (1 - momentum) * running_mean + momentum * mean
        new_var = (1 - momentum) * running_var + momentum * m / (m - 1) * var
    else:
        mean, var = new_mean, new_var = running_mean, running_var
    x_hat = (x - mean.reshape(shape)) / torch.sqrt(var + eps).reshape(shape)
    y = w.reshape(shape) * x_hat + b.reshape(shape)
    return y, new_mean.detach(), new_var.detach()
    ### END SOLUTION


class BatchNorm2d(nn.Module):
    """Batch normalization as a layer that owns w, b and the running statistics.

    state_dict: parameters `weight` (C,) and `bias` (C,), at first 1 and 0; buffers `running_mean` (C,) and
    `running_var` (C,), at first 0 and 1; nothing else.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5):
        ### BEGIN SOLUTION
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) float -> (B, C, H, W) float. In training mode the buffers are updated, else left alone."""
        ### BEGIN SOLUTION
        y, self.running_mean, self.running_var = batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps, self.training)
        return y
        ### END SOLUTION

# %% [markdown]
# **What to look at.** On the left the running mean of a channel whose true mean is 3, over 100 batches of 8.
# It starts at 0 and has forgotten its start by a factor $(1-\alpha)^t$; a large momentum arrives sooner and
# trembles more. On the right one and the same example, normalized together with other examples that are drawn
# at random: its output in training depends on the company, and less so in large batches. In evaluation the
# spread is exactly 0.

# %%
generator = torch.Generator().manual_seed(0)
one, zero = torch.ones(1), torch.zeros(1)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for momentum, style in ((0.3, ":"), (0.1, "--"), (0.03, "-")):
    running, path = (zero, one), []
    for _ in range(100):
        batch = 3 + 2 * torch.randn(8, 1, generator=generator)
        running = batch_norm(batch, one, zero, *running, momentum=momentum)[1:]
        path.append(running[0].item())
    axes[0].plot(path, style, color=INK, label=f"momentum {momentum}")
axes[0].axhline(3, color=ORANGE, linewidth=1)
axes[0].set(title="running mean; the truth is 3", xlabel="batch")
axes[0].legend()

sizes, spread = (2, 4, 8, 16, 32, 64, 128), {True: [], False: []}
for size in sizes:
    for training, spreads in spread.items():
        outputs = []
        for _ in range(200):
            others = torch.randn(size - 1, 1, generator=generator)
            outputs.append(batch_norm(torch.cat([one[None], others]), one, zero, zero, one, training=training)[0][0])
        spreads.append(torch.cat(outputs).std().item())
axes[1].plot(sizes, spread[True], "o-", color=BLUE, label="training")
axes[1].plot(sizes, spread[False], "s--", color=ORANGE, label="evaluation")
axes[1].set(title="spread of one example's output over random batches", xlabel="batch size", xscale="log", xticks=sizes,
            xticklabels=sizes)
axes[1].minorticks_off()
axes[1].legend()
plt.show()

# %% [markdown]
# ## 2. Layer normalization, forward and backward  ★★ · 45 minutes
#
# A recurrent network or a transformer sees sequences of any length, often one at a time; statistics over the
# batch do not suit it. Ba, Kiros & Hinton (2016, Eqs. 3-4) turn the picture by 90 degrees: every token is
# standardised **by itself**, over its $D$ features,
#
# $$ \mu = \frac1D \sum_i x_i, \qquad \sigma^2 = \frac1D \sum_i (x_i - \mu)^2, \qquad
#    \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad y_i = w_i \hat x_i + b_i \tag{3} $$
#
# Training and evaluation are the same, and nothing is remembered.
#
# *Backward.* With $g = \partial \ell / \partial y$ and $s = 1/\sqrt{\sigma^2 + \varepsilon}$, apply the chain
# rule to (3). A change of $x_j$ moves $\hat x_i$ in three ways: directly if $i = j$, through $\mu$, and
# through $\sigma$:
#
# $$ \frac{\partial \hat x_i}{\partial x_j} = s \Bigl( \delta_{ij} - \frac1D - \frac{\hat x_i \hat x_j}{D} \Bigr)
# \tag{4} $$
#
# so that, with $h_i = w_i g_i$,
#
# $$ \frac{\partial \ell}{\partial x_j} = s \Bigl( h_j - \frac1D \sum_i h_i - \hat x_j\, \frac1D \sum_i h_i \hat x_i
#    \Bigr), \qquad \frac{\partial \ell}{\partial w_i} = \sum_{\mathrm{tokens}} g_i \hat x_i, \qquad
#    \frac{\partial \ell}{\partial b_i} = \sum_{\mathrm{tokens}} g_i \tag{5} $$
#
# Read (5) as a projection: the mean of $h$ is taken out, then its component along $\hat x$. What is left cannot
# shift the token or scale it, which would not change $y$. (A side effect: the gradient of `y.sum()` for $w = 1$
# is exactly 0. It tests nothing; use random numbers in its place.)
#
# A `torch.autograd.Function` has a `forward` that saves what `backward` needs in `ctx`, and a `backward` that
# receives $g$ and returns one gradient for each argument of `forward` after `ctx`: four, with `None` for `eps`.
#
# *Watch for* tokens that are constant ($\hat x = 0$, and the result is $b$); for any number of leading axes,
# none included; and for the state: two forward passes may come before the first backward pass.

# %% [markdown] hints="layer_norm_fwd_bwd"
# - `keepdim=True` keeps means and deviations in a shape that broadcasts against x, whatever axes lead.
# - Equations (5) need the normalized values, one factor s for each token, and w: save these three in `ctx`.
# - Compute h first. Then the gradient of x has two means, both over the last axis.
# - w and b are shared by all tokens: their gradients are sums over all leading axes. `sum(dim=())` sums over
#   *everything*; flatten the leading axes into one instead.

# %% exercise="layer_norm_fwd_bwd"
class LayerNormFn(torch.autograd.Function):
    """Eq. (3) forward, Eq. (5) backward."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, b: Tensor, eps: float) -> Tensor:
        """x (..., D) float, w (D,) float, b (D,) float -> y (..., D) float."""
        ### BEGIN SOLUTION
        centred = x - x.mean(dim=-1, keepdim=True)
        s = 1 / torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + eps)
        x_hat = centred * s
        ctx.save_for_backward(x_hat, s, w)
        return w * x_hat + b
        ### END SOLUTION

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """g (..., D) float, the gradient of the loss with respect to y -> those with respect to x, w, b; None."""
        ### BEGIN SOLUTION
        x_hat, s, w = ctx.saved_tensors
        h = w * g
        along = (h * x_hat).mean(dim=-1, keepdim=True)
        grad_x = s * (h - h.mean(dim=-1, keepdim=True) - x_hat * along)
        grad_w = (g * x_hat).reshape(-1, len(w)).sum(dim=0)
        grad_b = g.reshape(-1, len(w)).sum(dim=0)
        return grad_x, grad_w, grad_b, None
        ### END SOLUTION


def layer_norm(x: Tensor, w: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """Layer normalization over the last axis: Ba et al. (2016), Eqs. 3-4; our Eqs. (3)-(5).

    x    (..., D) float, with any number of leading axes (also none)
    w    (D,) float, b (D,) float
    eps  float > 0, added to the biased variance under the root

    Returns (..., D) float, with gradients for x, w and b. Any way of computing them is accepted.
    """
    return LayerNormFn.apply(x, w, b, eps)

# %% [markdown]
# **What to look at.** Six tokens of very different scale and offset, one per row, before and after: afterwards
# every row speaks equally loud. On the right the gradient of a random loss at one token. As it came, it had a
# part along the vector of ones and a part along $\hat x$; your backward pass removed both.

# %%
generator = torch.Generator().manual_seed(1)
D = 24
tokens = torch.randn(6, D, generator=generator) * torch.tensor([0.2, 1, 3, 0.5, 2, 1])[:, None]
tokens = (tokens + torch.tensor([0, 2, 0, -3, 1, 4.0])[:, None]).requires_grad_()
normalized = layer_norm(tokens, torch.ones(D), torch.zeros(D))
g = torch.randn(6, D, generator=generator)
(grad,) = torch.autograd.grad(normalized, tokens, g)

fig, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
for ax, matrix, title in ((axes[0], tokens, "before"), (axes[1], normalized, "after layer norm")):
    image = ax.imshow(matrix.detach(), cmap="PuOr", vmin=-6, vmax=6, aspect="auto", interpolation="nearest")
    ax.set(title=title, xlabel="feature", ylabel="token")
fig.colorbar(image, ax=axes[1])
directions = {"ones": torch.ones(D), r"$\hat x$": normalized[0].detach(),
              "random": torch.randn(D, generator=generator)}
for offset, vector, colour, label in ((-0.2, g[0], GREY, "gradient of y"), (0.2, grad[0], BLUE, "gradient of x")):
    cosines = [torch.cosine_similarity(vector, d, dim=0).item() for d in directions.values()]
    axes[2].bar([i + offset for i in range(3)], cosines, width=0.36, color=colour, edgecolor=INK, label=label)
axes[2].axhline(0, color=INK, linewidth=0.8)
axes[2].set(title="cosine with three directions", xticks=range(3), xticklabels=directions)
axes[2].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 3. Instance normalization  ★ · 15 minutes
#
# Ulyanov, Vedaldi & Lempitsky (2016, Eq. 3) wanted to paint a photograph in the style of another. The
# result should not depend on the contrast of the photograph, and batch normalization averages the contrasts of
# all of them. So they standardise every channel of **every example** by itself, over its $H \times W$ positions:
#
# $$ \mu_{bc} = \frac{1}{HW} \sum_{h,w} x_{bchw}, \qquad
#    \sigma_{bc}^2 = \frac{1}{HW} \sum_{h,w} (x_{bchw} - \mu_{bc})^2, \qquad
#    y_{bchw} = \gamma_c\, \frac{x_{bchw} - \mu_{bc}}{\sqrt{\sigma_{bc}^2 + \varepsilon}} + \beta_c \tag{6} $$
#
# Nothing else changes, and yet the meaning does: brightness and contrast of a plane are *forgotten*. That is
# right for style, and wrong where the strength of a feature says whether it is there at all.
#
# *Watch for* $\gamma$ and $\beta$, which belong to the channel and not to the example, and for a plane of one
# position: there is nothing to compare it with.

# %% [markdown] hints="instance_norm"
# - Which two axes does a plane have? The mean over them, with `keepdim=True`, is `(B, C, 1, 1)`.
# - `(C,)` broadcasts against the last axis. How many axes of size 1 must follow it to meet the channels?

# %% exercise="instance_norm"
def instance_norm(x: Tensor, w: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """Instance normalization: Ulyanov et al. (2016), Eq. 3; our Eq. (6).

    x    (B, C, H, W) float
    w    (C,) float, b (C,) float: gamma and beta
    eps  float > 0, added to the biased variance under the root

    Returns (B, C, H, W) float; always with the statistics of x itself, and nothing is remembered. A constant plane
    of channel c becomes b[c]. Raises ValueError if H * W = 1.
    """
    ### BEGIN SOLUTION
    if x.shape[2] * x.shape[3] == 1:
        raise ValueError("a plane of one position has no variance")
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    var = centred.square().mean(dim=(2, 3), keepdim=True)
    return w[:, None, None] * centred / torch.sqrt(var + eps) + b[:, None, None]
    ### END SOLUTION

# %% [markdown]
# **What to look at.** One scene, photographed four times: as it is, in fog (little contrast), at night (dark
# and dim), and with every channel lit differently. Below, each picture after your instance normalization. All
# four are the same.

# %%
rows, columns = torch.meshgrid(torch.linspace(-2, 2, 80), torch.linspace(-2, 2, 80), indexing="ij")
scene = torch.stack([(rows.square() + columns.square() < 1.2).float() + 0.3 * torch.sin(6 * columns),
                     torch.sigmoid(4 * (rows + columns)), 0.5 + 0.5 * torch.sin(5 * rows)])
scene = (scene - scene.amin()) / (scene.amax() - scene.amin())
lights = torch.tensor([[1, 1, 1], [0.25, 0.25, 0.25], [0.3, 0.3, 0.3], [0.9, 0.4, 0.6]])[:, :, None, None]
levels = torch.tensor([[0, 0, 0], [0.6, 0.6, 0.6], [0, 0, 0], [0.1, 0.0, 0.4]])[:, :, None, None]
photographs = scene * lights + levels
standardised = instance_norm(photographs, torch.full((3,), 0.22), torch.full((3,), 0.5), eps=1e-8)

fig, axes = plt.subplots(2, 4, figsize=(10, 5.2), layout="constrained")
for column, name in enumerate(["as it is", "fog", "night", "coloured light"]):
    axes[0, column].set_title(name)
    for row, images in enumerate((photographs, standardised)):
        axes[row, column].imshow(images[column].permute(1, 2, 0).clamp(0, 1))
        axes[row, column].set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("input")
axes[1, 0].set_ylabel("instance norm")
plt.show()
print(f"largest difference between the four outputs: {(standardised - standardised[:1]).abs().max():.1e}")

# %% [markdown]
# ## 4. Group normalization  ★★ · 25 minutes
#
# Large images leave room for one or two examples per device, and then the statistics of a batch are mostly
# noise. Wu & He (2018, Eq. 7) stay within the example but pool **several channels**, as the channels of
# a layer are not independent: cut them into $G$ groups of $C/G$ neighbours, and standardise each group over its
# channels *and* positions,
#
# $$ \mathcal{S}_{bg} = \Bigl\{ (c, p) : \Bigl\lfloor \frac{c}{C/G} \Bigr\rfloor = g \Bigr\}, \qquad
#    y_{bcp} = \gamma_c\, \frac{x_{bcp} - \mu_{bg}}{\sqrt{\sigma_{bg}^2 + \varepsilon}} + \beta_c
#    \quad \text{for } (c, p) \in \mathcal{S}_{bg} \tag{7} $$
#
# with $\mu_{bg}$ and $\sigma_{bg}^2$ the mean and the biased variance over $\mathcal{S}_{bg}$. The family now has
# one knob: $G = C$ is instance normalization, and $G = 1$ normalizes each example as a whole, as layer
# normalization does in a convolutional network.
#
# *Watch for* three things. Groups are made of **neighbours**: of six channels in two groups the first holds 0,
# 1, 2, not 0, 2, 4. The statistics are the group's, but $\gamma$ and $\beta$ remain the **channel's**. And there
# may be no axis of positions, one, or two.

# %% [markdown] hints="group_norm"
# - The channels of a group are neighbours in memory, and so are their positions: a reshape to three axes collects
#   everything that shares its statistics in the last one.
# - Go back to the shape of x before gamma and beta come in, as they differ within a group.
# - The layout of gamma follows from the number of axes of x.

# %% exercise="group_norm"
def group_norm(x: Tensor, G: int, w: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """Group normalization: Wu & He (2018), Eqs. 1, 2, 6 and 7; our Eq. (7).

    x    (B, C, *) float
    G    int >= 1: number of groups; group g holds the channels g*C/G:(g+1)*C/G
    w    (C,) float, b (C,) float: gamma and beta, for each channel
    eps  float > 0, added to the biased variance under the root

    Returns (B, C, *) float; a group of a single value, or of equal values, becomes b.
    Raises ValueError if G does not divide C.
    """
    ### BEGIN SOLUTION
    if x.shape[1] % G:
        raise ValueError(f"{G} groups do not divide {x.shape[1]} channels")
    groups = x.reshape(x.shape[0], G, -1)
    centred = groups - groups.mean(dim=-1, keepdim=True)
    var = centred.square().mean(dim=-1, keepdim=True)
    x_hat = (centred / torch.sqrt(var + eps)).reshape(x.shape)
    shape = [-1] + [1] * (x.dim() - 2)
    return w.reshape(shape) * x_hat + b.reshape(shape)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Eight channels of increasing strength, and what is left of the differences for every
# choice of $G$. With $G = 1$ the ramp is kept, with $G = 8$ every channel has the same strength, and between
# them the ramp starts anew in every group: within a group the channels may compete.

# %%
generator = torch.Generator().manual_seed(2)
C = 8
strength = torch.arange(1.0, C + 1)
x = torch.randn(1, C, 16, 16, generator=generator) * strength[:, None, None]
fig, axes = plt.subplots(1, 4, figsize=(12, 2.8), sharey=True, layout="constrained")
for ax, G in zip(axes, (1, 2, 4, 8), strict=True):
    y = group_norm(x, G, torch.ones(C), torch.zeros(C))
    ax.bar(range(C), y.square().mean(dim=(0, 2, 3)).sqrt(), color=BLUE, edgecolor=INK)
    for edge in range(C // G, C, C // G):
        ax.axvline(edge - 0.5, color=ORANGE, linestyle="--", linewidth=1)
    ax.set(title=f"G = {G}", xlabel="channel", xticks=range(C))
axes[0].set_ylabel("root mean square")
plt.show()

# %% [markdown]
# ## 5. RMS normalization  ★ · 20 minutes
#
# Which half of layer normalization does the work, the mean or the scale? Zhang & Sennrich (2019, Eq. 4)
# dropped the mean, and the translation models did as well, with less to compute:
#
# $$ y_i = w_i\, \frac{x_i}{\mathrm{RMS}(x)}, \qquad
#    \mathrm{RMS}(x) = \sqrt{\frac1D \sum_{i=1}^{D} x_i^2 + \varepsilon} \tag{8} $$
#
# (the $\varepsilon$ is what implementations add). Geometrically every token is moved along its own ray to the
# sphere of radius $\sqrt D$. Most large language models use (8).
#
# *Half precision.* They also train in bfloat16, which has 8 significant bits, or in float16, which ends at
# 65 504. Squares and sums are the wrong place to save: $300^2$ is already infinite in float16. The custom,
# which is our contract, is to widen a half-precision input to float32, to compute $x / \mathrm{RMS}(x)$ there,
# to round *that* to the input's dtype, and then to multiply by $w$ in the input's dtype. The two roundings are
# part of what a trained model has learned to live with, so their order matters to the last bit.
#
# *Watch for* the difference between mean and sum, for a token of zeros, and for float64, which must not be
# "widened" to float32.

# %% [markdown] hints="rms_norm"
# - Square, mean, plus eps, root, in this order, over the last axis with `keepdim=True`.
# - Two dtypes need care, the other two none: ask `x.dtype` before you convert.
# - The conversion back comes before the multiplication by w.

# %% exercise="rms_norm"
def rms_norm(x: Tensor, w: Tensor, eps: float = 1e-6) -> Tensor:
    """Root-mean-square normalization over the last axis: Zhang & Sennrich (2019), Eq. 4; our Eq. (8).

    x    (..., D) float, float16 or bfloat16, with any number of leading axes (also none)
    w    (D,), of the dtype of x
    eps  float > 0, added to the mean square under the root

    Returns (..., D) of the dtype of x; 0, with finite gradients, for a token of zeros. For float16 and bfloat16,
    x / RMS(x) is computed in float32 and rounded to the dtype of x, and that is multiplied by w in the dtype of x.
    """
    ### BEGIN SOLUTION
    half = x.dtype in (torch.float16, torch.bfloat16)
    wide = x.float() if half else x
    x_hat = wide / torch.sqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return w * x_hat.to(x.dtype)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Tokens with two features are points of the plane. RMS normalization moves each along its
# ray to the circle: the direction survives. Layer normalization first projects on the diagonal and keeps only a
# sign: with $D = 2$ there are two possible outputs. (In general it loses two dimensions of $D$, RMS normalization
# one.) On the right the error that is made if only the squares are computed in float16, and the error of your whole
# layer. Where the inputs are large, the squares are infinite (drawn as 1); where they are small, the squares lose their
# digits or are 0.

# %%
generator = torch.Generator().manual_seed(3)
points = torch.randn(60, 2, generator=generator) * torch.tensor([1.6, 0.8]) + torch.tensor([0.4, 0.5])
angles = torch.atan2(points[:, 1], points[:, 0])
on_circle = rms_norm(points, torch.ones(2))
centred = points - points.mean(dim=1, keepdim=True)
two_points = rms_norm(centred, torch.ones(2))

fig, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
for ax, cloud, title in ((axes[0], points, "tokens"), (axes[1], on_circle, "RMS norm"),
                         (axes[2], two_points, "layer norm = RMS norm\nof the centred tokens")):
    ax.scatter(*cloud.T, c=angles, cmap="twilight", edgecolor=INK, linewidth=0.4)
    ax.set(title=title, xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    ax.axhline(0, color=GREY, linewidth=0.5)
    ax.axvline(0, color=GREY, linewidth=0.5)


def relative_error(y, exact):
    return ((y.double() - exact).norm() / exact.norm()).clamp(max=1).item()


scales = 10 ** torch.linspace(-4, 4, 25)
errors = {"squares in float16": [], "yours": []}
for scale in scales:
    x = (scale * torch.randn(64, 256, generator=generator)).half()
    exact = rms_norm(x.double(), torch.ones(256).double())
    errors["squares in float16"].append(relative_error(x * x, x.double() ** 2))
    errors["yours"].append(relative_error(rms_norm(x, torch.ones(256).half()), exact))
for (name, values), style in zip(errors.items(), ("s--", "o-"), strict=True):
    axes[3].loglog(scales, values, style, color=BLUE if name == "yours" else ORANGE, label=name, markersize=4)
axes[3].set(title="relative error in float16", xlabel="size of the inputs")
axes[3].legend()
plt.show()

# %% [markdown]
# ## 6. Normalizing weights: folding and the spectral norm  ★★★ · 60 minutes
#
# *Folding.* In evaluation, batch normalization is an affine map with fixed numbers, and the convolution before
# it is linear. Two affine maps in a row are one (Jacob et al. 2018, §3.2): with
# $a_o = \gamma_o / \sqrt{\bar\sigma_o^2 + \varepsilon}$ for output channel $o$,
#
# $$ \mathrm{BN}(W * x + \beta^{\mathrm{conv}}) = W' * x + \beta', \qquad
#    W'_o = a_o W_o, \qquad \beta'_o = a_o (\beta^{\mathrm{conv}}_o - \bar\mu_o) + \beta_o \tag{9} $$
#
# The layer is gone, the function is the same. Every engine that runs trained networks does this first.
#
# *Spectral normalization.* One can also normalize the weights *while* training. The discriminator of a GAN
# should be a smooth judge: if its input moves a little, so does its verdict. A linear map $W$ stretches by at
# most its largest singular value $\sigma(W)$, and Miyato et al. (2018, Eq. 8) divide by it. A full
# decomposition in every step would be expensive; one step of the **power iteration** is enough, as $W$ changes
# slowly and the vector $u$ is kept from step to step (their Alg. 1):
#
# $$ v \leftarrow \frac{W^\top u}{\lVert W^\top u \rVert_2}, \qquad
#    u \leftarrow \frac{W v}{\lVert W v \rVert_2}, \qquad \text{then} \quad
#    \sigma = u^\top W v, \qquad \overline{W} = \frac{W}{\sigma} \tag{10} $$
#
# *What is differentiated?* $u$ and $v$ are held constant, $\sigma$ is not. At the singular vectors the derivative
# of $\sigma$ with respect to $u$ and $v$ is zero anyway, and
#
# $$ \frac{\partial \sigma}{\partial W} = u v^\top, \qquad
#    \frac{\partial \ell}{\partial W} = \frac1\sigma \Bigl( g - \langle g, \overline{W} \rangle\, u v^\top \Bigr),
#    \qquad g = \frac{\partial \ell}{\partial \overline{W}} \tag{11} $$
#
# (their Eqs. 9-12). Like every gradient of this unit, it has no part that would only change the scale.
#
# *Watch for* the axis that $a$ belongs to; for a convolution without a bias; for the mean, which is scaled,
# too; for the *order* in (10); and for $u$, which must not collect the graphs of all past steps.

# %% [markdown] hints="fold_bn"
# - Write the normalization of $W * x + \beta^{\mathrm{conv}}$ down for one output channel, and collect what
#   multiplies x.
# - The factor a is `(O,)` and belongs to axis 0 of the weight: it needs one axis of size 1 for every further one.
# - For the spectral norm, compute u and v without a graph. Then compute sigma once more from them, with one.
# - Check yourself with a matrix of rank one: a single step is exact.

# %% exercise="fold_bn"
def fold_bn(conv_w: Tensor, conv_b: Tensor | None, bn_mean: Tensor, bn_var: Tensor, bn_w: Tensor, bn_b: Tensor,
            eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Fold batch normalization in evaluation into the layer before it: Jacob et al. (2018), §3.2; our Eq. (9).

    conv_w           (O, I, *) float: weight of a convolution with any number of kernel axes; none is a linear layer
    conv_b           (O,) float, or None if the layer has no bias
    bn_mean, bn_var  (O,) float: running statistics, bn_var >= 0
    bn_w, bn_b       (O,) float: gamma and beta
    eps              float > 0, added to bn_var under the root

    Returns (w', b'): (O, I, *) float and (O,) float, such that the layer with w' and b' is the layer with conv_w
    and conv_b followed by the normalization. Gradients reach all float arguments.
    """
    ### BEGIN SOLUTION
    a = bn_w / torch.sqrt(bn_var + eps)
    if conv_b is None:
        conv_b = torch.zeros_like(bn_mean)
    return conv_w * a.reshape(-1, *[1] * (conv_w.dim() - 1)), a * (conv_b - bn_mean) + bn_b
    ### END SOLUTION


def spectral_normalize(W: Tensor, u: Tensor, n_iter: int = 1) -> tuple[Tensor, Tensor]:
    """Spectral normalization by power iteration: Miyato et al. (2018), Alg. 1; our Eqs. (10)-(11).

    W       (O, I) float
    u       (O,) float, of any length but not 0: the u of the step before; a constant, not changed in place.
            W.T @ u is not 0.
    n_iter  int >= 1: how often v and then u are computed

    Returns (W / sigma, u'): (O, I) float, with gradients for W through sigma, u and v being constants; and the last
    u, (O,) float, of length 1, which does not require a gradient. Raises ValueError if n_iter < 1.
    """
    ### BEGIN SOLUTION
    if n_iter < 1:
        raise ValueError("without an iteration there is no v")
    with torch.no_grad():
        for _ in range(n_iter):
            v = W.T @ u / (W.T @ u).norm()
            u = W @ v / (W @ v).norm()
    sigma = u @ W @ v
    return W / sigma, u
    ### END SOLUTION

# %% [markdown]
# **What to look at.** First a convolution followed by batch normalization against the folded convolution: the
# same numbers up to rounding, with one layer less. Then the power iteration: in every step the error of $u$ shrinks
# by about $(\sigma_2/\sigma_1)^2$ and that of $\sigma$ by the square of this, so a gap between the first two singular
# values decides how long it takes. On the right, the singular values of a random matrix before and after: the largest
# is 1, and the proportions are kept.

# %%
torch.manual_seed(4)
generator = torch.Generator().manual_seed(4)
conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
images = torch.randn(8, 3, 32, 32, generator=generator)
mean, bias = torch.randn(2, 16, generator=generator)
var, gain = torch.rand(2, 16, generator=generator) + 0.5
with torch.no_grad():
    expected = torch.nn.functional.batch_norm(conv(images), mean, var, gain, bias)
    folded = fold_bn(conv.weight, None, mean, var, gain, bias)
    difference = (torch.nn.functional.conv2d(images, *folded, padding=1) - expected).abs().max()
print(f"two layers against one: largest difference {difference:.1e}, outputs up to {expected.abs().max():.1f}")

fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
left, right = (torch.linalg.qr(torch.randn(n, 20, generator=generator).double()).Q for n in (30, 20))
for ratio, style in ((0.95, ":"), (0.8, "--"), (0.5, "-")):
    singular = 3 * ratio ** torch.arange(20).double()
    W = left @ torch.diag(singular) @ right.T
    u, errors = torch.randn(30, generator=generator).double(), []
    for _ in range(25):
        W_bar, u = spectral_normalize(W, u)
        errors.append(abs((W.norm() / W_bar.norm()).item() / 3 - 1))
    axes[0].semilogy(range(1, 26), errors, style, color=INK, label=rf"$\sigma_2/\sigma_1$ = {ratio}")
axes[0].set(title=r"relative error of $\sigma$", xlabel="iterations", ylim=(1e-16, 1))
axes[0].legend()
W = torch.randn(30, 20, generator=generator).double()
before = torch.linalg.svdvals(W)
after = torch.linalg.svdvals(spectral_normalize(W, torch.ones(30).double(), n_iter=200)[0])
axes[1].plot(before, "s--", color=ORANGE, label="before")
axes[1].plot(after, "o-", color=BLUE, label="after")
axes[1].axhline(1, color=GREY, linewidth=0.8)
axes[1].set(title="singular values", xlabel="index", ylim=(0, None))
axes[1].legend()
plt.show()

# %% [markdown]
# ## What it is all for
#
# The pictures below need the first, the second and the fifth exercise; nothing here is graded.
#
# **Units of measurement.** Two crescents are to be told apart. But their first coordinate came in millimetres,
# counted from a point three metres away, and the second in units of a hundred metres: a network that sees such
# numbers sees one coordinate, or none. With your `BatchNorm2d` in front it does not notice. The last row is how it
# would be used: in evaluation, one example at a time, where a batch has no variance. (At least 95 % should be right in
# all rows but the first. That it learns does not mean that all of your code is right: with the unbiased variance, or
# with the statistics detached, it learns as well. That is what the checks are for.)

# %%
def moons(n, generator):
    """(2n, 2): points on two interlocking crescents; and (2n,) labels."""
    angle = torch.pi * torch.rand(2, n, generator=generator)
    upper = torch.stack([angle[0].cos(), angle[0].sin()], dim=-1)
    lower = torch.stack([1 - angle[1].cos(), 0.5 - angle[1].sin()], dim=-1)
    points = torch.cat([upper, lower]) + 0.1 * torch.randn(2 * n, 2, generator=generator)
    return points, torch.arange(2).repeat_interleave(n)


class Normalized(nn.Module):
    """(B, C) -> (B, C): your BatchNorm2d for inputs that have no positions."""

    def __init__(self, channels):
        super().__init__()
        self.norm = BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(x[:, :, None, None]).flatten(1)


def badly_scaled(points):
    return points * torch.tensor([1000, 0.01]) + torch.tensor([3000, 0])


def learn_moons(first, steps=200):
    """A trained network that begins with the layer `first`."""
    torch.manual_seed(7)
    network = nn.Sequential(first, nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        points, labels = moons(32, generator)
        loss = nn.functional.cross_entropy(network(badly_scaled(points)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


points, labels = moons(500, torch.Generator().manual_seed(8))
plain, network = learn_moons(nn.Identity()), learn_moons(Normalized(2))
with torch.no_grad():
    answers = {
        "as it comes": plain(badly_scaled(points)),
        "batch norm, evaluation": network(badly_scaled(points)),
        "batch norm, one at a time": torch.cat([network(badly_scaled(point[None])) for point in points]),
    }
    for name, logits in answers.items():
        print(f"{name:27}{(logits.argmax(-1) == labels).float().mean():.1%} right")
    sides = torch.linspace(-1.6, 2.6, 120), torch.linspace(-1.1, 1.6, 120)
    grid = torch.stack(torch.meshgrid(*sides, indexing="xy"), dim=-1)
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
    for ax, (title, model) in zip(axes, {"as it comes": plain, "batch norm in front": network}.items(), strict=True):
        decided = model(badly_scaled(grid.flatten(0, 1))).argmax(-1).reshape(120, 120)
        ax.contourf(grid[..., 0], grid[..., 1], decided, levels=[-0.5, 0.5, 1.5], colors=[ORANGE, BLUE], alpha=0.25)
        for label, colour, marker in ((0, ORANGE, "o"), (1, BLUE, "^")):
            ax.scatter(*points[labels == label][:150].T, color=colour, marker=marker, s=9)
        ax.set(title=title, xlabel="first coordinate, before scaling")
plt.show()

# %% [markdown]
# **A signal through fifty layers.** Each layer multiplies by a random matrix, whose scale is off by a factor of
# 0.7, 1 or 1.4, and applies a ReLU. Without normalization the signal vanishes or explodes; with it, the scale of
# the weights has no effect at all, as $\mathrm{norm}(a W x) = \mathrm{norm}(W x)$.
#
# **Training from a bad start.** Networks of six layers learn to tell two interleaved spirals apart by 60 steps of
# gradient descent with momentum. Their initial weights are too small or too large by the factor on the horizontal
# axis; everything else is the same. The plain network learns at one scale only. With normalization behind every
# matrix it learns at all of them. At both ends layer and RMS normalization do a little worse, and the reason is
# worth a thought: the *function* does not depend on the scale $a$ of the weights, but its *gradient* is
# proportional to $1/a$. Small weights are moved by steps that are too long for them, large ones by steps that are
# too short.
#
# (The networks for all factors are trained side by side, along a leading axis. Their losses are added, and none
# sees another.)

# %%
def batch_norm_of_each(x):
    """Batch normalization of networks side by side, (networks, examples, features): all features are channels."""
    channels = x.shape[0] * x.shape[2]
    y = x.transpose(0, 1).flatten(1)
    y, _, _ = batch_norm(y, torch.ones(channels), torch.zeros(channels), torch.zeros(channels), torch.ones(channels))
    return y.unflatten(1, (x.shape[0], -1)).transpose(0, 1)


METHODS = {
    "none": (lambda x: x, GREY, "o:"),
    "batch norm": (batch_norm_of_each, ORANGE, "s--"),
    "layer norm": (lambda x: layer_norm(x, torch.ones(x.shape[-1]), torch.zeros(x.shape[-1])), BLUE, "^-"),
    "RMS norm": (lambda x: rms_norm(x, torch.ones(x.shape[-1])), INK, "d-."),
}


def signal_strength(norm, factor, depth=50, width=64):
    """The root mean square of the activations behind each of `depth` layers."""
    generator = torch.Generator().manual_seed(5)
    x, strengths = torch.randn(32, width, generator=generator), []
    for _ in range(depth):
        W = factor * (2 / width) ** 0.5 * torch.randn(width, width, generator=generator)
        x = torch.relu(norm(x @ W.T))
        strengths.append(x.square().mean().sqrt().item())
    return strengths


def spirals(n, generator):
    """(2n, 3): points on two interleaved spirals, with a 1 that serves as a bias; and (2n,) labels."""
    t = torch.rand(n, generator=generator).sqrt() * 2.2 * torch.pi
    arm = torch.stack([t.cos(), t.sin()], dim=-1) * t[:, None] / 4
    points = torch.cat([arm, -arm]) + 0.03 * torch.randn(2 * n, 2, generator=generator)
    return torch.nn.functional.pad(points, (0, 1), value=1.0), torch.arange(2).repeat_interleave(n)


def train(norm, factors, depth=6, width=32, steps=60):
    """Accuracies on the training set after a few steps, one for each factor on the initial weights."""
    generator = torch.Generator().manual_seed(6)
    points, labels = spirals(64, generator)
    sizes = [3] + [width] * depth
    weights = [(2 / fan_in) ** 0.5 * torch.randn(fan_in, fan_out, generator=generator) * factors[:, None, None]
               for fan_in, fan_out in zip(sizes, sizes[1:], strict=False)]
    weights.append(0.1 * torch.randn(width, 2, generator=generator).repeat(len(factors), 1, 1))
    optimizer = torch.optim.SGD([W.requires_grad_() for W in weights], lr=0.03, momentum=0.9)
    for _ in range(steps):
        x = points.expand(len(factors), -1, -1)
        for W in weights[:-1]:
            x = torch.relu(norm(x @ W))
        logits = x @ weights[-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(factors)))
        optimizer.zero_grad()
        (len(factors) * loss).backward()
        optimizer.step()
    return (logits.argmax(-1) == labels).float().mean(dim=1)


fig, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
for factor, style in ((1.4, "-"), (1.0, "--"), (0.7, ":")):
    axes[0].semilogy(signal_strength(METHODS["none"][0], factor), style, color=GREY, linewidth=2,
                     label=f"none, weights × {factor}")
for factor, style in ((1.4, "-"), (1.0, "--"), (0.7, ":")):
    axes[0].semilogy(signal_strength(METHODS["layer norm"][0], factor), style, color=BLUE,
                     label="layer norm, all three" if factor == 1.4 else None)
axes[0].set(title="strength of the signal", xlabel="layer")
axes[0].legend(fontsize=8, loc="upper left")
factors = torch.tensor([0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0])
for name, (norm, colour, style) in METHODS.items():
    axes[1].plot(factors, train(norm, factors), style, color=colour, label=name)
axes[1].set(title="accuracy after 60 steps", xlabel="initial weights too large by", xscale="log", ylim=(0.4, 1.03))
axes[1].legend(fontsize=8, loc="lower right")
plt.show()

# %% [markdown]
# ## Going further
#
# - **Why does it work?** The first explanation, that the distribution of a layer's inputs stops shifting, did
#   not survive experiments (Santurkar et al. 2018): noise added *after* the normalization does no harm. What
#   changes is the loss surface, which becomes smoother. Measure it: how far does the gradient predict the loss
#   along its own direction, with and without?
# - **Where to put it.** Before or after the residual branch? Pre-norm transformers train without a warm-up
#   (Xiong et al. 2020). Extend `signal_strength` by residual connections and compare the two.
# - **The learning rate in disguise.** A weight matrix in front of a normalization has no scale that matters;
#   weight decay on it changes the effective step size instead (van Laarhoven 2017). Plot the norm of a layer's
#   weights while `train` runs, with and without decay.
# - **A faster kernel.** RMS normalization reads its input twice and computes almost nothing. How many bytes must
#   move for a $(4096, 4096)$ activation in bfloat16, and how long does that take on your machine?
# - **No normalization at all.** Careful initial weights and scaled residual branches also train deep networks
#   (Brock et al. 2021), and an element-wise $\tanh(\alpha x)$ may do in place of layer normalization (Zhu et al.
#   2025). Add it to `METHODS`.
#
# ## References
#
# - J. Ba, J. Kiros, G. Hinton. *Layer Normalization.* 2016.
# - A. Brock, S. De, S. Smith, K. Simonyan. *High-Performance Large-Scale Image Recognition Without
#   Normalization.* ICML 2021.
# - S. Ioffe, C. Szegedy. *Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
#   Shift.* ICML 2015.
# - B. Jacob et al. *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference.*
#   CVPR 2018.
# - T. van Laarhoven. *L2 Regularization versus Batch and Weight Normalization.* 2017.
# - T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida. *Spectral Normalization for Generative Adversarial Networks.*
#   ICLR 2018.
# - S. Santurkar, D. Tsipras, A. Ilyas, A. Madry. *How Does Batch Normalization Help Optimization?* NeurIPS 2018.
# - D. Ulyanov, A. Vedaldi, V. Lempitsky. *Instance Normalization: The Missing Ingredient for Fast Stylization.*
#   2016.
# - Y. Wu, K. He. *Group Normalization.* ECCV 2018.
# - R. Xiong et al. *On Layer Normalization in the Transformer Architecture.* ICML 2020.
# - B. Zhang, R. Sennrich. *Root Mean Square Layer Normalization.* NeurIPS 2019.
# - J. Zhu, X. Chen, K. He, Y. LeCun, Z. Liu. *Transformers without Normalization.* CVPR 2025.
