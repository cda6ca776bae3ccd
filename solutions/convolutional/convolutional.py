# %% [markdown]
# # Convolutional neural networks
#
# A layer that connects every pixel of a small photograph with every unit of the next layer would need billions of
# weights, and what it learned about an eye in the upper left it would have to learn again in the lower right.
# Convolution removes both problems with one idea: **look at small neighbourhoods only, and at all of them with the
# same weights**. What is left is a handful of numbers, a *kernel*, that slides over the image. If the image moves,
# the answer moves along; nothing has to be learned twice (Fukushima 1980; LeCun et al. 1998).
#
# Three tasks grew out of it, and you will meet all of them. *Recognition* asks what is in the picture: one answer for
# the image. *Detection* asks where: boxes. *Segmentation* asks for an answer at every pixel. The layers at the bottom
# are the same; what differs is how the answer is read off at the top.
#
# You will build the parts in seven steps, each independent of the others. The cell below an exercise checks your
# code and shows the smallest example on which it fails; the pictures after it are drawn by your own code. In a cell
# of your own, `hint("conv2d_forward")` gives a hint, then one more each time, and `progress()` shows what is done.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `conv2d_forward` | ★ | 30 | the layer itself: stride, padding, dilation, groups |
# | `max_pool2d_with_indices` | ★ | 25 | keeping the strongest answer, and where it was |
# | `residual_block` | ★★ | 30 | the shortcut that made networks deep |
# | `tiny_convnet` | ★★ | 30 | **recognition**: from an image of any size to scores of classes |
# | `box_iou_nms` | ★★ | 45 | **detection**: how far boxes overlap, and which of them to keep |
# | `box_codec_focal` | ★★ | 50 | how a network says "box", and a loss for very many easy examples |
# | `unet_segmentation` | ★★★ | 100 | **segmentation**: the way back to full resolution |
#
# ### Notation, and rules for every exercise
#
# $B$ images with $C$ channels of $H \times W$ pixels; shapes are written `(B, C, H, W)`. Kernels are $K \times L$,
# and $O$ is the number of output channels. Every size is at least 1 unless the contract says otherwise; rows are
# counted downwards from 0, columns to the right.
#
# - `float` means float32 or float64, all arguments alike. Compute in that dtype and return it; `long` is int64.
# - Inputs may be views of other tensors with any strides. Never change them, and remember nothing between calls
#   except in the buffers that a contract names.
# - Gradients must reach every float argument and every parameter.
# - Exercises 1, 2 and 7 forbid the library function that they are about; each contract says which. Everywhere else
#   `nn.Conv2d`, `nn.BatchNorm2d`, `F.max_pool2d` and the like are your tools.

# %% role="setup"
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etude import check, hint, progress

# %% [markdown]
# The picture shows where the exercises belong: one stack of convolutions (the *backbone*), and three ways to read an
# answer off it.

# %%
import matplotlib.pyplot as plt

from etude.plots import BLUE, GREY, INK, ORANGE, draw_graph, light, show_maps

light()
fig, ax = plt.subplots(figsize=(13, 3.4), layout="constrained")
draw_graph(ax, "one backbone, three tasks", {
    "x": (0, 0, "image", BLUE), "conv": (2.9, 0, "convolve (1)", ORANGE), "pool": (5.8, 0, "pool (2)", ORANGE),
    "block": (8.7, 0, "residual (3)", ORANGE), "h": (11.6, 0, "features", BLUE),
    "mean": (15, 1.9, "average (4)", ORANGE), "classes": (18.4, 1.9, "classes", BLUE),
    "codec": (15, 0, "decode (6)", ORANGE), "nms": (18.4, 0, "suppress (5)", ORANGE), "boxes": (21.5, 0, "boxes", BLUE),
    "up": (15, -1.9, "enlarge (7)", ORANGE), "mask": (18.4, -1.9, "classes", BLUE),
}, {"x": ["conv"], "conv": ["pool"], "pool": ["block"], "block": ["h"], "h": ["mean", "codec", "up"],
    "mean": ["classes"], "codec": ["nms"], "nms": ["boxes"], "up": ["mask"]},
    {"classes": "one answer per image", "mask": "one answer per pixel", "boxes": "some boxes"}, width=2.3, height=0.8)
for name, at in (("recognition", 1.9), ("detection", 0), ("segmentation", -1.9)):
    ax.text(16.7, at + 0.5, name, ha="center", style="italic", fontsize=9)
plt.show()

# %% [markdown]
# ## 1. Convolution  ★ · 30 minutes
#
# What the field calls a convolution is a **cross-correlation**: lay the kernel on the image, multiply what lies on
# top of each other, add up. (A mathematician's convolution would turn the kernel by 180° first. For weights that are
# learned it makes no difference, but it does for weights that you load.) With stride $s$, padding $p$ and dilation
# $d$, in the terms of Dumoulin & Visin (2016, §2 and §5.1):
#
# $$ y_{b,o,i,j} = \beta_o + \sum_{c}\sum_{k=0}^{K-1}\sum_{l=0}^{L-1} w_{o,c,k,l}\;
#    \tilde x_{b,\,c,\;s i + d k - p,\;s j + d l - p} \tag{1} $$
#
# where $\tilde x$ is $x$ inside the image and 0 outside. The padding is the same on all four sides. An output exists
# wherever the whole kernel lies in the padded image, so
#
# $$ H_o = \left\lfloor \frac{H + 2p - d(K-1) - 1}{s} \right\rfloor + 1 \tag{2} $$
#
# and likewise $W_o$ with $W$ and $L$. If the division leaves a rest, the last rows take no part.
#
# *Groups.* With $G$ groups the channels are cut into $G$ equal runs, and the outputs too: run $g$ of the outputs
# reads run $g$ of the inputs and nothing else. $G = 1$ is the ordinary layer, $G = C$ a *depthwise* one; grouped
# convolution began as a way to fit AlexNet into two GPUs (Krizhevsky et al. 2012) and is now what makes networks for
# telephones fast (Howard et al. 2017).
#
# *Watch for* which output channels belong to which group, and for code that works only if $H = W$ or $K = L$. Two
# loops over the few positions of a kernel cost nothing; loops over pixels are slow.

# %% [markdown] hints="conv2d_forward"
# 1. Fix one position (k, l) of the kernel. Which pixels of the padded image does it meet, over all outputs? They form
#    a grid that begins at (d k, d l) and has steps of s: a slice.
# 2. For that one position, Eq. (1) is a product of the matrix `w[:, :, k, l]` with the channels of the slice. Add the
#    K L products.
# 3. Where does the slice end? It has exactly Ho elements, so the last index is d k + s (Ho - 1); a slice excludes its
#    end.
# 4. For groups, give input channels, output channels and weights an axis of their own for the group, outside the
#    channels of the group, and merge it at the end.

# %% exercise="conv2d_forward"
def conv2d_forward(x: Tensor, w: Tensor, b: Tensor | None = None, stride: int = 1, padding: int = 0,
                   dilation: int = 1, groups: int = 1) -> Tensor:
    """Convolution (cross-correlation) of images: Dumoulin & Visin (2016), §2-4 and §5.1; our Eqs. (1)-(2).

    x         (B, C, H, W) float
    w         (O, C // groups, K, L) float; the kernel is not flipped
    b         (O,) float or None for no bias
    stride    int >= 1, in both directions; so are the next two
    padding   int >= 0: zeros on all four sides
    dilation  int >= 1: the distance between neighbouring elements of the kernel
    groups    int >= 1: output channels g*O/groups, ..., (g+1)*O/groups - 1 read the input channels
              g*C/groups, ..., (g+1)*C/groups - 1

    Returns (B, O, Ho, Wo) float with Eq. (2). Raises ValueError if `groups` does not divide C or O, or if the dilated
    kernel is larger than the padded image. Not allowed here: the library's convolutions, and unfold.
    """
    ### BEGIN SOLUTION
    (C, H, W), (outputs, _, K, L) = x.shape[1:], w.shape
    if C % groups or outputs % groups:
        raise ValueError(f"{groups} groups do not divide {C} and {outputs} channels")
    Ho = (H + 2 * padding - dilation * (K - 1) - 1) // stride + 1
    Wo = (W + 2 * padding - dilation * (L - 1) - 1) // stride + 1
    if Ho < 1 or Wo < 1:
        raise ValueError("the kernel does not fit into the padded image")
    padded = F.pad(x, (padding, padding, padding, padding)).unflatten(1, (groups, -1))
    kernel = w.unflatten(0, (groups, -1))
    y = 0
    for k in range(K):
        for m in range(L):
            rows = slice(dilation * k, dilation * k + stride * (Ho - 1) + 1, stride)
            columns = slice(dilation * m, dilation * m + stride * (Wo - 1) + 1, stride)
            y = y + torch.einsum("bgchw,goc->bgohw", padded[..., rows, columns], kernel[..., k, m])
    y = y.flatten(1, 2)
    return y if b is None else y + b[:, None, None]
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Before anyone learned kernels, people designed them. The picture below is drawn by ten lines of
# arithmetic; then your layer looks at it through four kernels. The mean blurs. The two Sobel kernels answer to edges,
# one to upright and one to lying ones, with a sign that says on which side it is bright. The last one is the Sobel
# kernel with dilation 4: the same nine weights look at a wider neighbourhood, and fine texture escapes them.

# %%
row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
picture = 0.2 + 0.3 * ((row - 24) ** 2 + (column - 22) ** 2 < 200).float()
picture += 0.4 * ((row > 36) & (row < 56) & (column > 34) & (column < 58)).float()
picture += 0.1 * (((row + column) % 4 < 2) & (row < 20) & (column > 40)).float()
sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
kernels = {"mean of 5 × 5": (torch.full((5, 5), 0.04), 2, 1), "Sobel, upright": (sobel, 1, 1),
           "Sobel, lying": (sobel.T, 1, 1), "Sobel, dilation 4": (sobel, 4, 4)}
fig, axes = plt.subplots(1, 5, figsize=(14, 3.1), layout="constrained")
axes[0].imshow(picture, cmap="gray", vmin=0, vmax=1)
axes[0].set_title("picture")
for ax, (name, (kernel, padding, dilation)) in zip(axes[1:], kernels.items(), strict=True):
    seen = conv2d_forward(picture[None, None], kernel[None, None], padding=padding, dilation=dilation)[0, 0]
    signed = "Sobel" in name
    ax.imshow(seen, cmap="PuOr" if signed else "gray", vmin=-0.6 if signed else 0, vmax=0.6 if signed else 1)
    ax.set_title(f"{name}: {tuple(seen.shape)}")
for ax in axes:
    ax.axis("off")
plt.show()

# %% [markdown]
# And the reason for it all: **if the image moves, the answer moves along**. We shift the picture and compare; away
# from the border, where zeros come into view, the difference is exactly 0. A stride breaks this: at stride 2 it holds
# only for shifts by even numbers (Zhang 2019).

# %%
for stride in (1, 2):
    still = conv2d_forward(picture[None, None], sobel[None, None], None, stride, 1)[0, 0]
    for shift in ((3, 5), (4, 6)):
        moved = conv2d_forward(picture.roll(shift, dims=(0, 1))[None, None], sobel[None, None], None, stride, 1)[0, 0]
        back = moved.roll((-(shift[0] // stride), -(shift[1] // stride)), dims=(0, 1))
        margin = slice(8 // stride, -8 // stride)
        print(f"stride {stride}, shift {shift}: largest difference {(back - still)[margin, margin].abs().max():.2f}")

# %% [markdown]
# ## 2. Max-pooling, and where the maximum was  ★ · 25 minutes
#
# Once a kernel has found an edge, its exact place matters less and less the further up we look. Pooling keeps, from
# each window of $K \times K$ pixels, only the strongest answer:
#
# $$ y_{b,c,i,j} = \max_{0 \le k, l < K} \tilde x_{b,\,c,\;s i + k - p,\;s j + l - p} \tag{3} $$
#
# where $\tilde x$ is $x$ inside the image and $-\infty$ outside: **padding never wins**. (Zero is not neutral here:
# an image of negative numbers would get a frame of zeros.) The output size is Eq. (2) with $d = 1$. For
# $p \le \lfloor K/2 \rfloor$ every window contains at least one real pixel.
#
# *Where* the maximum was is needed twice: by the backward pass, which sends the whole gradient to that one pixel, and
# by the *unpooling* of deconvolutional networks (Zeiler & Fergus 2014, §2.1), which puts values back to where they
# came from. We return the place as a number $r W + q$ for row $r$ and column $q$ of the image **without** padding. If
# several pixels of a window are equal, the first of them in reading order wins.
#
# *Watch for* the two places where an index has to be translated: from the window to the padded image, and from there
# to the image.

# %% [markdown] hints="max_pool2d_with_indices"
# 1. What number may you pad with so that it never wins, even if all pixels are negative?
# 2. Bring the K K elements of every window into one axis at the end, in reading order; then one maximum along that
#    axis gives values and places within the window, and the first of equals wins.
# 3. From the place within the window, get its row and column there (a division and its rest), add where the window
#    begins, subtract the padding.
# 4. If you take the values out of x at the places found, the gradient goes to exactly these pixels.

# %% exercise="max_pool2d_with_indices"
def max_pool2d_with_indices(x: Tensor, kernel_size: int, stride: int | None = None,
                            padding: int = 0) -> tuple[Tensor, Tensor]:
    """Max-pooling with the places of the maxima: Zeiler & Fergus (2014), §2.1; our Eq. (3).

    x            (B, C, H, W) float, finite
    kernel_size  int >= 1; H + 2*padding and W + 2*padding are not smaller
    stride       int >= 1; None means kernel_size
    padding      int >= 0: that many pixels on all four sides, which never win

    Returns y (B, C, Ho, Wo) float and idx (B, C, Ho, Wo) long with Eq. (2): y is the pixel idx // W, idx % W of its
    channel. Among equal pixels of a window the one with the smallest idx wins, and the gradient of y goes to it alone.
    Raises ValueError if padding > kernel_size // 2. Not allowed here: the library's pooling.
    """
    ### BEGIN SOLUTION
    stride = kernel_size if stride is None else stride
    if padding > kernel_size // 2:
        raise ValueError(f"a padding of {padding} is more than half of the kernel, {kernel_size}")
    padded = F.pad(x, (padding, padding, padding, padding), value=-math.inf)
    windows = padded.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    place = windows.argmax(dim=-1)
    Ho, Wo = place.shape[2:]
    row = place // kernel_size + stride * torch.arange(Ho, device=x.device)[:, None] - padding
    column = place % kernel_size + stride * torch.arange(Wo, device=x.device) - padding
    idx = row * x.shape[3] + column
    return x.flatten(2).gather(2, idx.flatten(2)).reshape(idx.shape), idx
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Edge strength in the picture from above, pooled with windows of 4, and put back to where the
# maxima were. What was thin stays thin: the places in `idx` keep what the size of the pooled image lost. The last
# map spreads each value over its window instead, as one must without `idx`.

# %%
def unpool(y, idx, size):
    """Zeros of this size, with the values of y where they were found."""
    return torch.zeros(*y.shape[:2], size[0] * size[1]).scatter(2, idx.flatten(2), y.flatten(2)).unflatten(2, size)


bright = sum(F.conv2d(picture[None, None], kernel[None, None], padding=1) ** 2 for kernel in (sobel, sobel.T)).sqrt()
bright[..., [0, -1], :] = bright[..., :, [0, -1]] = 0
pooled, where_from = max_pool2d_with_indices(bright, 4)
show_maps([bright[0, 0], pooled[0, 0], unpool(pooled, where_from, (64, 64))[0, 0],
           pooled[0, 0].repeat_interleave(4, 0).repeat_interleave(4, 1)],
          ["strength of edges", "pooled", "unpooled with idx", "repeated"], high=0.5)

# %% [markdown]
# ## 3. The residual block  ★★ · 30 minutes
#
# More layers should never hurt: the added ones could simply copy their input. Yet plain networks of 56 layers ended
# up *worse* than those of 20, on the training set, too. To copy is hard to learn for a stack of convolutions. He et
# al. (2016, Eqs. 1-2) let it learn the difference from a copy instead:
#
# $$ y = \mathrm{relu}\bigl( \mathcal F(x) + \mathcal S(x) \bigr), \qquad
#    \mathcal F = \mathrm{BN}_2 \circ \mathrm{conv}_2 \circ \mathrm{relu} \circ \mathrm{BN}_1 \circ \mathrm{conv}_1
# \tag{4} $$
#
# Both convolutions are $3 \times 3$ with padding 1; a stride, if any, belongs to $\mathrm{conv}_1$. The shortcut
# $\mathcal S$ is the identity where shapes allow it, that is for stride 1 and as many channels out as in. Otherwise
# it is a *projection*: a $1 \times 1$ convolution with the stride, and a batch normalization (their option B). With
# $\mathcal F = 0$ the block passes on whatever is not negative, and the gradient has a road on which nothing
# multiplies it. Goyal et al. (2017, §5.1) therefore start with $\gamma_2 = 0$ in $\mathrm{BN}_2$: the deep network
# begins as a shallow one.
#
# *No bias.* Batch normalization subtracts the mean, and with it any constant that the convolution before it has
# added. Its own $\beta$ does the work.
#
# *Watch for* the place of the last relu, for the stride (it acts once in each branch), and for `x += ...`, which
# changes the caller's tensor.

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
for ax, title, shortcut in zip(axes, ("stride 1, as many channels", "stride $s$ or other channels"),
                               ({}, {"d0": (3.4, 1.5, r"$1\times1$, stride $s$", GREY), "d1": (3.4, 2.8, "BN", GREY)}),
                               strict=True):
    first = r"$3\times3$, stride $s$" if shortcut else r"$3\times3$"
    draw_graph(ax, title, {
        "x": (0, 0, "$x$", BLUE), "c1": (0, 1.0, first, GREY), "b1": (0, 1.9, "BN", GREY),
        "r1": (0, 2.8, "relu", ORANGE), "c2": (0, 3.7, r"$3\times3$", GREY), "b2": (0, 4.6, "BN", GREY),
        "add": (0, 5.5, "+", ORANGE), "r2": (0, 6.4, "relu", ORANGE), "y": (0, 7.3, "$y$", BLUE),
        "side": (3.4, 0, "", ""), **shortcut,
    }, {"x": ["c1"], "c1": ["b1"], "b1": ["r1"], "r1": ["c2"], "c2": ["b2"], "b2": ["add"], "add": ["r2"], "r2": ["y"]},
        {"r1": r"$\mathcal{F}$"}, width=2.2)
    bend = [(1.1, 0), (3.4, 0), (3.4, 1.2)] if shortcut else [(1.1, 0), (3.4, 0), (3.4, 5.5)]
    ax.plot(*zip(*bend, strict=True), color=INK, linewidth=1)
    if shortcut:
        ax.plot([3.4, 3.4], [1.8, 2.5], color=INK, linewidth=1)
        ax.plot([3.4, 3.4], [3.1, 5.5], color=INK, linewidth=1)
    ax.annotate("", (1.1, 5.5), (3.4, 5.5), arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0})
    ax.text(3.6, 4.6, r"$\mathcal{S}$", fontsize=11)
plt.show()

# %% [markdown] hints="residual_block"
# 1. Make the layers in `__init__` under the names of the contract: an attribute `conv1` gives the key `conv1.weight`,
#    and an `nn.Sequential` called `down` gives `down.0...` and `down.1...`.
# 2. The projection is there only where it is needed. What will `forward` do where it is not?
# 3. Which of the two convolutions halves the image, and what must the shortcut do to have the same size?
# 4. The sum is formed before the last relu. Write it as a new tensor.

# %% exercise="residual_block"
class BasicBlock(nn.Module):
    """The residual block of two 3×3 convolutions: He et al. (2016), Eqs. 1-2 and §3.2-3.3; our Eq. (4).

    BasicBlock(c_in, c_out, stride=1)

    state_dict: `conv1.weight` (c_out, c_in, 3, 3), `conv2.weight` (c_out, c_out, 3, 3), and what
    `nn.BatchNorm2d(c_out)` has, under `bn1` and `bn2`. If stride != 1 or c_in != c_out, and only then, also the
    projection: `down.0.weight` (c_out, c_in, 1, 1) and a batch normalization under `down.1`. No convolution has a
    bias, all batch normalizations have PyTorch's defaults. Initial values are up to you.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        ### BEGIN SOLUTION
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        if stride != 1 or c_in != c_out:
            self.down = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out))
        else:
            self.down = nn.Identity()
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c_in, H, W) float -> (B, c_out, ceil(H/stride), ceil(W/stride)) float.

        Training and evaluation differ as `nn.BatchNorm2d` does; in training B * ceil(H/stride) * ceil(W/stride) > 1.
        """
        ### BEGIN SOLUTION
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.down(x))
        ### END SOLUTION

# %% [markdown]
# **What to look at.** We send an image through stacks of 1 to 40 fresh layers and ask how large the gradient is that
# arrives at the image. Without shortcuts, and without normalization, it falls by a constant factor with each layer;
# with your blocks it does not vanish, and with $\gamma_2 = 0$ it comes through whole, up to the relu.

# %%
generator = torch.Generator().manual_seed(1)
image, depths = torch.rand(2, 8, 12, 12, generator=generator), (1, 2, 5, 10, 20, 40)


def gradient_at_image(layers):
    x = image.clone().requires_grad_()
    y = x
    for layer in layers:
        y = layer(y)
    y.square().mean().sqrt().backward()
    return x.grad.norm().item()


def fresh_block(zero_gamma):
    block = BasicBlock(8, 8)
    if zero_gamma:
        nn.init.zeros_(block.bn2.weight)
    return block


torch.manual_seed(2)
makers = {"convolution, relu": lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
          "residual blocks": lambda: fresh_block(False), r"residual blocks, $\gamma_2 = 0$": lambda: fresh_block(True)}
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for (name, make), style in zip(makers.items(), ("o:", "s--", "D-"), strict=True):
    ax.loglog(depths, [gradient_at_image([make() for _ in range(depth)]) for depth in depths], style, color=INK,
              label=name)
ax.set(title="norm of the gradient that arrives at the image", xlabel="layers or blocks", xticks=depths,
       xticklabels=depths)
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# ## 4. Recognition  ★★ · 30 minutes
#
# A classifier turns $C \times H \times W$ numbers into one score for each class. LeNet flattened the last feature
# maps and put a fully connected layer on top (LeCun et al. 1998): that layer had most of the weights, and fixed the
# size of the image for ever. Lin et al. (2014, §3.2) average each map instead. With the features $h$ after the last
# convolution,
#
# $$ z = W\, \bar h + \beta, \qquad \bar h_c = \frac{1}{H' W'} \sum_{i,j} h_{c,i,j} \tag{5} $$
#
# so any image will do, and it does not matter where in the image a feature was found. The network of this exercise
# has two stages below that:
#
# $$ h = \mathrm{relu}\bigl(\mathrm{BN}_2(\mathrm{conv}_2(u))\bigr), \qquad
#    u = \mathrm{pool}\bigl(\mathrm{relu}(\mathrm{BN}_1(\mathrm{conv}_1(x)))\bigr) \tag{6} $$
#
# with $3 \times 3$ convolutions of padding 1, and a max-pooling with windows of $2 \times 2$, side by side.
#
# *Logits.* The output $z$ is not a probability. `F.cross_entropy` contains the softmax, and computes it together with
# the logarithm so that nothing overflows; a softmax in the network would be one too many, and the gradient of a
# confident mistake would vanish.
#
# *Watch for* shapes that happen to be right after a `view`, and for what batch normalization does in evaluation.

# %% [markdown] hints="tiny_convnet"
# 1. Write the seven steps of Eqs. (5) and (6) one below the other, with the shape after each.
# 2. The mean runs over which axes? After it, nothing knows H and W any more.
# 3. The output is the linear layer's, as it is. `F.cross_entropy` does the rest.

# %% exercise="tiny_convnet"
class TinyConvNet(nn.Module):
    """A classifier of images of any size: Lin et al. (2014), §3.2; our Eqs. (5)-(6).

    TinyConvNet(c_in, n_classes, width=8)

    state_dict: `conv1.weight` (width, c_in, 3, 3) and `conv2.weight` (2*width, width, 3, 3), without biases; batch
    normalizations with PyTorch's defaults under `bn1` and `bn2`; `fc.weight` (n_classes, 2*width) and `fc.bias`.
    Initial values are up to you.
    """

    def __init__(self, c_in: int, n_classes: int, width: int = 8):
        ### BEGIN SOLUTION
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width, n_classes)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c_in, H, W) float with any H, W >= 2 -> logits (B, n_classes) float.

        Training and evaluation differ as `nn.BatchNorm2d` does; in training B * (H//2) * (W//2) > 1.
        """
        ### BEGIN SOLUTION
        h = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        h = F.relu(self.bn2(self.conv2(h)))
        return self.fc(h.mean(dim=(2, 3)))
        ### END SOLUTION

# %% [markdown]
# **Case study: lying or upright?** Each image is noise with one bright bar somewhere in it, lying or upright. A
# linear classifier of the pixels is no better than a coin here: a bar can be anywhere, so every pixel is as bright in
# one class as in the other. Your network needs a few seconds.

# %%
def bars(n, size, generator):
    """n images of noise with one bar, and whether it is upright."""
    x = 0.5 * torch.randn(n, 1, size, size, generator=generator)
    upright = torch.randint(2, (n,), generator=generator)
    place = torch.randint(size, (n,), generator=generator)
    across = torch.arange(size) == place[:, None]
    x[:, 0] += torch.where(upright[:, None, None] == 1, across[:, None, :], across[:, :, None]).float()
    return x, upright


def train(model, steps, batch_of, generator, lr=0.02):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(steps):
        x, label = batch_of(64, generator)
        loss = F.cross_entropy(model(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    x, label = batch_of(1000, generator)
    with torch.no_grad():
        return (model(x).argmax(-1) == label).float().mean().item()


torch.manual_seed(3)
net = TinyConvNet(1, 2)
for name, model in (("linear", nn.Sequential(nn.Flatten(), nn.Linear(64, 2))), ("yours", net)):
    accuracy = train(model, 150, lambda n, g: bars(n, 8, g), torch.Generator().manual_seed(4))
    print(f"{name:7} {sum(p.numel() for p in model.parameters()):5} weights, {accuracy:.1%} of new images right")
x, label = bars(1000, 12, torch.Generator().manual_seed(5))
with torch.no_grad():
    print(f"the same network on larger images (12 × 12): {(net(x).argmax(-1) == label).float().mean():.1%}")

# %% [markdown]
# *Where did it look?* Cover a small patch of a larger image and see how the score changes (Zeiler & Fergus 2014,
# §4.2). **What to look at:** the maps are bright along the bar, where covering costs the right class most. (They are
# drawn for images of 16 × 16; the network was trained on 8 × 8.)

# %%
def occlusion(model, image, label, patch=3):
    """How much the margin of the right class falls if a patch around each pixel is set to 0."""
    H, W = image.shape[1:]
    covered = image.repeat(H * W, 1, 1, 1)
    for at in range(H * W):
        r, q = at // W, at % W
        covered[at, :, max(r - patch // 2, 0):r + patch // 2 + 1, max(q - patch // 2, 0):q + patch // 2 + 1] = 0
    with torch.no_grad():
        scores = model(torch.cat([image[None], covered]))
    margin = scores[:, label] - scores[:, 1 - label]
    return (margin[0] - margin[1:]).reshape(H, W)


x, label = bars(3, 16, torch.Generator().manual_seed(16))
maps = [picture for image, upright in zip(x, label.tolist(), strict=True)
        for picture in ((image[0] + 1) / 3, occlusion(net, image, upright))]
top = max(picture.max().item() for picture in maps[1::2])
show_maps([picture if i % 2 == 0 else picture / top for i, picture in enumerate(maps)],
          [name for kind in label.tolist() for name in (("upright" if kind else "lying"), "loss of margin")])

# %% [markdown]
# ## 5. Detection: overlap and suppression  ★★ · 45 minutes
#
# A detector answers with boxes, far too many of them: everything that it sees, it sees at several neighbouring
# places. Two functions make a list of findings out of that, and the same two say whether a finding is right.
#
# *Intersection over union.* For two boxes $a$ and $b$, given by their corners $(x_1, y_1, x_2, y_2)$,
#
# $$ \mathrm{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|}, \qquad |a \cup b| = |a| + |b| - |a \cap b| \tag{7} $$
#
# It is 1 for equal boxes, 0 for disjoint ones, and does not depend on units. The sides of the intersection are
# $\min(x_2, x_2') - \max(x_1, x_1')$ and likewise for $y$, *if* they are positive: boxes that are apart in both
# directions have two negative "sides", and a product that looks like an area. Coordinates are real numbers here, so a
# box is $x_2 - x_1$ wide. (Old code for pixels adds 1.) Where both boxes have no area, (7) reads $0/0$; **we define
# it as 0**, with gradient 0.
#
# *Non-maximum suppression* (Girshick et al. 2014, §2.2): go through the boxes from the highest score to the lowest.
# Keep a box unless it overlaps with one that has been *kept*, by more than a threshold:
#
# $$ i \text{ is kept} \iff \text{there is no kept } j \text{ before } i \text{ with } \mathrm{IoU}(i, j) > \theta
# \tag{8} $$
#
# Of equal scores, the box with the smaller index comes first. IoU equal to $\theta$ does not suppress. With several
# classes, boxes suppress only boxes of their own class: a rider does not erase the horse.
#
# *Watch for* a box that was suppressed itself: it suppresses nothing any more. And think of how many IoUs there are
# for $N$ and $M$ boxes: a matrix.

# %% [markdown] hints="box_iou_nms"
# 1. All pairs at once: give `a` an axis for the boxes of `b`, and the other way round. Maximum and minimum broadcast.
# 2. Clamp each side of the intersection by itself, before you multiply.
# 3. Where the union is 0 you divide by 0. Replace the union by 1 there, before the division: then the gradient is
#    finite, too.
# 4. Suppression is a loop over the boxes in their order, with a record of who is still alive. `argsort` has an
#    argument for what it does with equal scores.
# 5. For classes, one more condition on a pair decides whether one can suppress the other.

# %% exercise="box_iou_nms"
def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of all pairs: our Eq. (7).

    a  (N, 4) float: boxes x1, y1, x2, y2 with x2 >= x1 and y2 >= y1
    b  (M, 4) float, likewise

    Returns (N, M) float in [0, 1]; 0 (with gradients 0) where the union has no area.
    """
    ### BEGIN SOLUTION
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(dim=-1) for boxes in (a, b))
    union = area_a[:, None] + area_b - intersection
    return intersection / union.masked_fill(union == 0, 1)
    ### END SOLUTION


def nms(boxes: Tensor, scores: Tensor, thr: float) -> Tensor:
    """Non-maximum suppression: Girshick et al. (2014), §2.2; our Eq. (8).

    boxes   (N, 4) float as above, N >= 0
    scores  (N,) float
    thr     float in [0, 1]: a kept box suppresses later ones with IoU > thr (not those with IoU == thr)

    Returns the indices of the kept boxes, (K,) long, in the order of falling scores; equal scores: smaller index first.
    """
    ### BEGIN SOLUTION
    return batched_nms(boxes, scores, torch.zeros(len(boxes), dtype=torch.long), thr)
    ### END SOLUTION


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, thr: float) -> Tensor:
    """`nms` within each class: boxes with different labels do not suppress each other.

    labels  (N,) long; boxes, scores and thr as in `nms`

    Returns the indices of all kept boxes, (K,) long, in the order of falling scores over all classes; equal scores:
    smaller index first.
    """
    ### BEGIN SOLUTION
    suppresses = (box_iou(boxes, boxes) > thr) & (labels[:, None] == labels)
    alive = torch.ones(len(boxes), dtype=torch.bool)
    keep = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if alive[i]:
            keep.append(i)
            alive &= ~suppresses[i]
    return torch.tensor(keep, dtype=torch.long)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Three objects of two classes (solid and dashed), and what a detector might say: for each of
# them a cloud of boxes with scores, the brighter the better. On the right what your `batched_nms` keeps at three
# thresholds. A low one loses the object that stands close to another one of its class; a high one keeps doubles.

# %%
generator = torch.Generator().manual_seed(6)
objects = torch.tensor([[10.0, 12, 34, 50], [22, 14, 46, 52], [52, 20, 82, 44]])
kinds = torch.tensor([0, 0, 1])
which = torch.arange(3).repeat_interleave(14)
candidates = objects[which] + 1.8 * torch.randn(42, 4, generator=generator)
labels = kinds[which]
scores = torch.stack([box_iou(box[None], objects[i][None])[0, 0] for box, i in zip(candidates, which, strict=True)])


def draw_boxes(ax, boxes, labels, scores):
    for (x1, y1, x2, y2), label, score in zip(boxes.tolist(), labels.tolist(), scores.tolist(), strict=True):
        ax.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, linestyle="--" if label else "-",
                                   edgecolor=plt.get_cmap("viridis")(score), linewidth=1.4))
    ax.set(xlim=(0, 92), ylim=(62, 0), xticks=[], yticks=[], aspect="equal")


fig, axes = plt.subplots(1, 4, figsize=(14, 2.9), layout="constrained")
draw_boxes(axes[0], candidates, labels, scores)
axes[0].set_title(f"{len(candidates)} candidates")
for ax, thr in zip(axes[1:], (0.2, 0.5, 0.85), strict=True):
    keep = batched_nms(candidates, scores, labels, thr)
    draw_boxes(ax, candidates[keep], labels[keep], scores[keep])
    ax.set_title(f"threshold {thr}: {len(keep)} kept")
plt.show()

# %% [markdown]
# ## 6. Boxes as numbers, and a loss for easy examples  ★★ · 50 minutes
#
# A network cannot say "a box" any more than it can say "a cat": it gives numbers of about unit size. So boxes are
# described relative to **anchors**, boxes of standard sizes that stand at every place of the feature map. With
# centres $(x, y)$, widths $w$ and heights $h$ of the true box, and $(x_a, y_a, w_a, h_a)$ of the anchor, Ren et al.
# (2015, Eq. 2) use
#
# $$ t = \Bigl( \frac{x - x_a}{w_a},\; \frac{y - y_a}{h_a},\; \log\frac{w}{w_a},\; \log\frac{h}{h_a} \Bigr) \tag{9} $$
#
# Being half a width off is the same number for an ant and for an elephant, and a width can never become negative.
# (Some libraries divide the four numbers by 0.1, 0.1, 0.2, 0.2 on top. We do not.)
#
# Most of the many thousand anchors contain nothing. Each costs next to nothing in cross-entropy, but together they
# drown the few that matter. Lin et al. (2017, Eqs. 4-5) turn down the easy ones. With $p$ the sigmoid of the logit,
# $y$ whether there is an object, and
#
# $$ p_t = \begin{cases} p & y = 1 \\ 1 - p & y = 0 \end{cases}, \qquad
#    \alpha_t = \begin{cases} \alpha & y = 1 \\ 1 - \alpha & y = 0 \end{cases} \tag{10} $$
#
# the loss of one anchor, and the loss of an image with $n_+$ anchors that have $y = 1$ (their §4.1: *normalized by
# the number of anchors assigned to a ground-truth box*), are
#
# $$ \mathrm{FL}(p_t) = -\alpha_t\, (1 - p_t)^\gamma \log p_t, \qquad
#    L = \frac{1}{\max(1, n_+)} \sum_{i} \mathrm{FL}(p_{t,i}) \tag{11} $$
#
# *Numbers.* For a logit of $-200$ the sigmoid is 0 in float32, and its logarithm is minus infinity. Everything in
# (11) can be written with $\log\sigma(z)$, which `F.logsigmoid` computes without such accidents: $\log p_t =
# \log\sigma(\pm z)$, and $1 - p_t = \sigma(\mp z)$. Mind the power, too: for $\gamma < 1$ the derivative of
# $u^\gamma$ at $u = 0$ is infinite.
#
# *Watch for* corners and centres, for which of the two boxes you divide by, and for $\alpha$, which is not the same
# for both kinds of anchors.

# %% [markdown] hints="box_codec_focal"
# 1. Write one small function from corners to centre and size; both directions of the codec need it.
# 2. Decoding is Eq. (9) solved for x, y, w and h; half a width to the left of the centre is x1.
# 3. For the loss, give each logit a sign so that a large number always means "right": then `log p_t` is one call.
# 4. A number times a bool tensor is float32: convert y to the dtype of the logits first.
# 5. The power of 1 - p_t is the exponential of gamma times its logarithm: finite with finite derivatives, whatever
#    the logit.

# %% exercise="box_codec_focal"
def encode_boxes(gt: Tensor, anchors: Tensor) -> Tensor:
    """Boxes relative to anchors: Ren et al. (2015), Eq. 2; our Eq. (9).

    gt, anchors  (N, 4) float: x1, y1, x2, y2 with x2 > x1 and y2 > y1; row i of one belongs to row i of the other

    Returns (N, 4) float: the four numbers of Eq. (9).
    """
    ### BEGIN SOLUTION
    size, anchor_size = gt[:, 2:] - gt[:, :2], anchors[:, 2:] - anchors[:, :2]
    centre, anchor_centre = (gt[:, :2] + gt[:, 2:]) / 2, (anchors[:, :2] + anchors[:, 2:]) / 2
    return torch.cat([(centre - anchor_centre) / anchor_size, torch.log(size / anchor_size)], dim=1)
    ### END SOLUTION


def decode_boxes(t: Tensor, anchors: Tensor) -> Tensor:
    """The boxes that `encode_boxes` describes: its inverse. t and anchors (N, 4) float -> x1, y1, x2, y2 (N, 4) float.

    Nothing is clamped: neither the exponent nor the corners.
    """
    ### BEGIN SOLUTION
    anchor_size = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + t[:, :2] * anchor_size
    half = torch.exp(t[:, 2:]) * anchor_size / 2
    return torch.cat([centre - half, centre + half], dim=1)
    ### END SOLUTION


def focal_loss(logits: Tensor, y: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The focal loss of all anchors of an image: Lin et al. (2017), Eqs. 4-5 and §4.1; our Eqs. (10)-(11).

    logits  (N,) float
    y       (N,) bool, True = there is an object
    alpha   float in [0, 1], the weight of the anchors with an object
    gamma   float >= 0

    Returns the scalar L, a float. It is finite, with finite gradients, for logits up to 1e4 in float32 and every gamma.
    """
    ### BEGIN SOLUTION
    right = torch.where(y, logits, -logits)
    positive = y.to(logits.dtype)
    weight = alpha * positive + (1 - alpha) * (1 - positive)
    loss = -weight * torch.exp(gamma * F.logsigmoid(-right)) * F.logsigmoid(right)
    return loss.sum() / y.sum().clamp(min=1)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** On the left an anchor (dashed), and the boxes that one number of $t$ makes of it, from $-1$ to
# 1: the first moves, the third stretches. In the middle the loss of one anchor against $p_t$: a larger $\gamma$
# presses down the right half, where the easy ones are. On the right ten thousand anchors without and ten with an
# object, with logits as a half-trained detector gives them: which share of the loss comes from anchors that are
# already right ($p_t > 0.9$)?

# %%
fig, axes = plt.subplots(1, 3, figsize=(13.5, 3.5), layout="constrained")
anchor = torch.tensor([[4.0, 3, 8, 5]])
for number, offset in ((0, 0.0), (2, 5.0)):
    for value in torch.linspace(-1, 1, 5).tolist():
        x1, y1, x2, y2 = decode_boxes(value * torch.eye(4)[number:number + 1], anchor)[0].tolist()
        axes[0].add_patch(plt.Rectangle((x1, y1 + offset), x2 - x1, y2 - y1, fill=False,
                                        edgecolor=plt.get_cmap("viridis")((value + 1) / 2), linewidth=2))
    axes[0].add_patch(plt.Rectangle((4, 3 + offset), 4, 2, fill=False, linestyle="--", edgecolor=INK))
    axes[0].text(6, 2.2 + offset, f"t[{number}]", ha="center")
axes[0].set(xlim=(-1, 13), ylim=(12, 1), aspect="equal", title="decoded boxes", xticks=[], yticks=[])

p = torch.linspace(0.01, 0.99, 99)
found = torch.ones(1, dtype=torch.bool)
for gamma, style in ((0.0, ":"), (0.5, "-."), (2.0, "--"), (5.0, "-")):
    curve = [focal_loss(logit[None], found, 1.0, gamma).item() for logit in torch.logit(p)]
    axes[1].plot(p, curve, style, color=INK, label=rf"$\gamma$ = {gamma:g}")
axes[1].set(title="loss of one anchor", xlabel="$p_t$", ylim=(0, 4))
axes[1].legend()

generator = torch.Generator().manual_seed(7)
logits = torch.cat([torch.randn(10_000, generator=generator) - 4, torch.randn(10, generator=generator)])
y = torch.arange(10_010) >= 10_000
easy = torch.sigmoid(torch.where(y, logits, -logits)) > 0.9
gammas = (0.0, 0.5, 1.0, 2.0, 5.0)
shares = []
for gamma in gammas:
    # The same number of objects in both sums: what is left out gets a logit at which it costs nothing.
    rest = torch.where(easy, torch.where(y, 200.0, -200.0), logits)
    shares.append(1 - (focal_loss(rest, y, gamma=gamma) / focal_loss(logits, y, gamma=gamma)).item())
axes[2].bar(range(5), shares, color=BLUE, edgecolor=INK)
axes[2].set(title="share of the loss from easy anchors", xlabel=r"$\gamma$", xticks=range(5), xticklabels=gammas,
            ylim=(0, 1))
plt.show()

# %% [markdown]
# ## 7. Segmentation: the way back up  ★★★ · 100 minutes
#
# Pooling makes features that know *what* they see, and forget *where*. A segmentation wants both: a class for every
# pixel. The U-Net (Ronneberger et al. 2015) goes down as a classifier does, then up again, and on the way up reads
# once more what it saw at the same size on the way down. You build its three parts.
#
# **Transposed convolution.** A convolution with stride makes images smaller. Each output is a weighted sum of a
# window of inputs; run the same arrows backwards, and each input pixel *stamps* a copy of the kernel, times its
# value, onto a larger image. With kernel $w_{o,c,k,l}$, stride $s$ and padding $p$,
#
# $$ x_{b,c,\,i,\,j} = \sum_{o} \sum_{\substack{u,k:\; s u + k - p = i}} \; \sum_{\substack{v,l:\; s v + l - p = j}}
#    w_{o,c,k,l}\; y_{b,o,u,v} \tag{12} $$
#
# where stamps overlap they add up (Dumoulin & Visin 2016, §4). It is the *adjoint* of convolution with the same
# weights (whence the name: as a matrix it is the transpose), and so also its backward pass:
#
# $$ \langle \mathrm{conv}(x, w),\, y \rangle = \langle x,\, \mathrm{convT}(y, w) \rangle \tag{13} $$
#
# Its size is Eq. (2) solved for $H$. Since that one rounds down, $s$ different sizes fit; `output_padding` says
# which:
#
# $$ H = (h - 1)\, s - 2p + K + \mathrm{output\_padding}, \qquad 0 \le \mathrm{output\_padding} < s \tag{14} $$
#
# **Dice loss.** Where the object is a small part of the image, "background everywhere" has a fine accuracy. The Dice
# coefficient compares overlap with size instead (Milletari et al. 2016, §3). With $p$ the softmax over the classes,
# and $g$ 1 where the target is of the class and 0 elsewhere, for each image $b$ and class $k$
#
# $$ D_{bk} = \frac{2 \sum_{i} p_{bki}\, g_{bki} + \varepsilon}{\sum_i p_{bki}^2 + \sum_i g_{bki}^2 + \varepsilon},
#    \qquad L = 1 - \frac{1}{B K} \sum_{b,k} D_{bk} \tag{15} $$
#
# where $i$ runs over the pixels of one image. (The squares are the paper's; many libraries leave them out. Some sum
# over the whole batch. We do as (15) says, and $\varepsilon$ makes a class that is absent and not predicted count 1.)
#
# **The network.** A *stage* is two $3 \times 3$ convolutions with padding 1, each followed by a relu. On the way down
# every stage is followed by a max-pooling by 2, and the channels double from stage to stage. On the way up, a
# transposed convolution with $2 \times 2$ kernels and stride 2 doubles the size and halves the channels; what the
# stage of the same size gave on the way down is put **before** it, along the channels; a stage follows. At the end, a
# $1 \times 1$ convolution gives the logits. (The original has no padding in its convolutions and crops what it
# concatenates. With padding, the output is as large as the image.)
#
# *Watch for* the layout of `w` in the transposed convolution: its first axis belongs to the *input* `y`, as the same
# array would serve the convolution from $C$ to $O$ channels. And for the order of the two parts in a concatenation:
# the shapes do not tell.

# %%
fig, ax = plt.subplots(figsize=(12, 3.2), layout="constrained")
draw_graph(ax, "U-Net of depth 2", {
    "x": (0, 0, "image", BLUE), "d0": (2.6, 0, "down.0", GREY), "d1": (5.2, -1.6, "down.1", GREY),
    "b": (7.8, -3.2, "bottom", GREY), "c1": (10.4, -1.6, "concat", ORANGE), "u1": (13, -1.6, "up.1", GREY),
    "c0": (15.6, 0, "concat", ORANGE), "u0": (18.2, 0, "up.0", GREY), "h": (20.8, 0, "head", GREY),
    "y": (23.2, 0, "logits", BLUE),
}, {"x": ["d0"], "d0": ["d1", "c0"], "d1": ["b", "c1"], "b": ["c1"], "c1": ["u1"], "u1": ["c0"], "c0": ["u0"],
    "u0": ["h"], "h": ["y"]})
for x, y, text in ((3.0, -0.95, "pool"), (5.6, -2.55, "pool"), (9.6, -2.55, "rise.1"), (14.9, -0.95, "rise.0"),
                   (9.1, 0.2, "$(w, H, W)$"), (7.8, -1.4, "$(2w, H/2, W/2)$"), (7.8, -4.1, "$(4w, H/4, W/4)$")):
    ax.text(x, y, text, ha="center", fontsize=9, color="#555555")
plt.show()

# %% [markdown] hints="unet_segmentation"
# 1. For the transposed convolution take the loops of the first exercise, and turn the assignment around: for one (k,
# l) *all* pixels of y land on a grid with steps of s. Add them there, to a canvas that is large enough for all
# stamps. 2. The padding is cropped away at the end, p on each side. `output_padding` makes the canvas larger below
# and on the right, and nothing lands there. 3. For Eq. (15): softmax over which axis, sums over which axes?
# `F.one_hot` puts the classes last. 4. In `forward`, keep what the stages on the way down give, before pooling, in a
# list. On the way up read it from the end. 5. An `nn.ParameterList` called `rise` has the keys `rise.0`, `rise.1`,
# ...; an `nn.ModuleList` of `nn.Sequential`s called `down` has `down.0.0.weight` and so on. A relu in a `Sequential`
# counts, but has no keys.

# %% exercise="unet_segmentation"
def conv_transpose2d(y: Tensor, w: Tensor, stride: int = 1, padding: int = 0, output_padding: int = 0) -> Tensor:
    """Transposed convolution: Dumoulin & Visin (2016), §4; our Eqs. (12) and (14).

    y               (B, O, h, v) float
    w               (O, C, K, L) float: the weights of a convolution from C to O channels, not flipped
    stride          int >= 1
    padding         int >= 0: so many rows and columns are left out on all four sides of the result
    output_padding  int, 0 <= output_padding < stride: so many more rows below and columns on the right

    Returns (B, C, H, W) float with Eq. (14), which is at least 1 in both directions. Raises ValueError if
    output_padding >= stride. Not allowed in this exercise: the library's transposed convolutions, and fold.
    """
    ### BEGIN SOLUTION
    if output_padding >= stride:
        raise ValueError(f"an output padding of {output_padding} needs a larger stride than {stride}")
    (B, _, h, v), (_, C, K, L) = y.shape, w.shape
    canvas = y.new_zeros(B, C, (h - 1) * stride + K + output_padding, (v - 1) * stride + L + output_padding)
    for k in range(K):
        for m in range(L):
            stamped = torch.einsum("bohw,oc->bchw", y, w[:, :, k, m])
            canvas[:, :, k:k + (h - 1) * stride + 1:stride, m:m + (v - 1) * stride + 1:stride] += stamped
    return canvas[:, :, padding:canvas.shape[2] - padding, padding:canvas.shape[3] - padding]
    ### END SOLUTION


def dice_loss(logits: Tensor, target: Tensor, eps: float = 1.0) -> Tensor:
    """Dice loss, with squares, of each image and class: Milletari et al. (2016), §3; our Eq. (15).

    logits  (B, K, H, W) float
    target  (B, H, W) long in [0, K)
    eps     float > 0

    Returns the scalar L, a float.
    """
    ### BEGIN SOLUTION
    p = torch.softmax(logits, dim=1)
    g = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(p.dtype)
    overlap = (p * g).sum(dim=(2, 3))
    size = (p.square() + g).sum(dim=(2, 3))
    return 1 - ((2 * overlap + eps) / (size + eps)).mean()
    ### END SOLUTION


class UNet(nn.Module):
    """A U-Net with padding: Ronneberger et al. (2015), §2, and the text above.

    UNet(c_in, n_classes, width=8, depth=2)

    state_dict, with i from 0 to depth - 1 and w_i = width * 2**i channels:
    `down.{i}.0.weight` (w_i, c_in if i == 0 else w_(i-1), 3, 3) and `down.{i}.2.weight` (w_i, w_i, 3, 3): the stages on
    the way down, the largest image first; `bottom.0.weight` (w_depth, w_(depth-1), 3, 3) and `bottom.2.weight`
    (w_depth, w_depth, 3, 3); `rise.{i}` (w_(i+1), w_i, 2, 2): the weights of the transposed convolutions, no bias;
    `up.{i}.0.weight` (w_i, 2*w_i, 3, 3) and `up.{i}.2.weight` (w_i, w_i, 3, 3): the stage after `rise.{i}`;
    `head.weight` (n_classes, width, 1, 1). To every `weight` belongs a `bias`. Initial values are up to you.
    """

    def __init__(self, c_in: int, n_classes: int, width: int = 8, depth: int = 2):
        ### BEGIN SOLUTION
        super().__init__()

        def stage(before, after):
            return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(),
                                 nn.Conv2d(after, after, 3, padding=1), nn.ReLU())

        widths = [width * 2**i for i in range(depth + 1)]
        above = [c_in, *widths]
        self.down = nn.ModuleList(stage(above[i], widths[i]) for i in range(depth))
        self.bottom = stage(widths[-2], widths[-1])
        self.rise = nn.ParameterList(nn.Parameter(torch.randn(2 * w, w, 2, 2) / math.sqrt(2 * w)) for w in widths[:-1])
        self.up = nn.ModuleList(stage(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(width, n_classes, 1)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c_in, H, W) float -> logits (B, n_classes, H, W) float.

        Raises ValueError if H or W is not a multiple of 2**depth.
        """
        ### BEGIN SOLUTION
        if x.shape[2] % 2**len(self.down) or x.shape[3] % 2**len(self.down):
            raise ValueError(f"an image of {tuple(x.shape[2:])} cannot be halved {len(self.down)} times")
        seen = []
        for stage in self.down:
            seen.append(stage(x))
            x = F.max_pool2d(seen[-1], 2)
        x = self.bottom(x)
        for i in reversed(range(len(self.up))):
            x = torch.cat([seen[i], conv_transpose2d(x, self.rise[i], stride=2)], dim=1)
            x = self.up[i](x)
        return self.head(x)
        ### END SOLUTION

# %% [markdown]
# **What to look at.** First the stamps. We put an image of ones through transposed convolutions with kernels of ones:
# every output says how many stamps it got. With stride 2 and $3 \times 3$ kernels some pixels get four, their
# neighbours two or one: the checkerboard that generated images were known for (Odena et al. 2016). If the stride
# divides the size of the kernel, as in our U-Net, the inside is even.

# %%
ones, titles, maps = torch.ones(1, 1, 6, 6), [], []
for K, stride in ((3, 1), (3, 2), (2, 2), (4, 2)):
    stamps = conv_transpose2d(ones, torch.ones(1, 1, K, K), stride=stride)
    maps.append(stamps[0, 0] / stamps.max())
    titles.append(f"K = {K}, s = {stride}: up to {stamps.max():.0f}")
show_maps(maps, titles)

# %% [markdown]
# **The finale: find the disc.** Images of noise in which one disc is a little brighter; the network has to say which
# pixels are in it. We train your U-Net with your loss for a few seconds, and measure the IoU of the discs that it
# finds. For comparison, the best that a threshold on the single pixels can do, found on the test images themselves:
# pixels in themselves say little.

# %%
def discs(n, size, generator):
    """n images with a disc, and which pixels belong to it."""
    at = torch.arange(float(size))
    row, column = (3 + (size - 6) * torch.rand(n, 1, 1, generator=generator) for _ in range(2))
    radius = 2.5 + 2.5 * torch.rand(n, 1, 1, generator=generator)
    inside = (at[:, None] - row) ** 2 + (at - column) ** 2 < radius**2
    x = inside + 0.7 * torch.randn(n, size, size, generator=generator)
    return x[:, None], inside.long()


def mean_iou(found, truth):
    found, truth = found.bool(), truth.bool()
    return ((found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp(min=1)).mean().item()


torch.manual_seed(8)
generator = torch.Generator().manual_seed(9)
unet, losses = UNet(1, 2), []
optimizer = torch.optim.Adam(unet.parameters(), lr=0.01)
for _ in range(150):
    x, target = discs(16, 16, generator)
    loss = dice_loss(unet(x), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

x, target = discs(300, 16, torch.Generator().manual_seed(10))
with torch.no_grad():
    found = unet(x).argmax(1)
threshold = max(mean_iou(x[:, 0] > t, target) for t in torch.linspace(0, 1.5, 16))
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; IoU of the discs: {mean_iou(found, target):.2f}, "
      f"of the best threshold: {threshold:.2f}")
show_maps([one for i in (0, 1) for one in ((x[i, 0] + 1) / 3, target[i].float(), found[i].float())],
          ["image", "truth", "your U-Net"] * 2)

# %% [markdown]
# *What do the skips do?* We take them away from the trained network, by setting those columns of the weights of
# `up.0.0` and `up.1.0` to 0 that read them, and look again. Little is left, a faint cloud in blocks of several pixels:
# the network has learned to read outlines from the skips, and what comes from below is coarse.

# %%
state = {name: value.clone() for name, value in unet.state_dict().items()}
for name in ("up.0.0.weight", "up.1.0.weight"):
    state[name][:, :state[name].shape[1] // 2] = 0
without = UNet(1, 2)
without.load_state_dict(state)
with torch.no_grad():
    scores = torch.softmax(without(x), dim=1)[:, 1]
    whole = torch.softmax(unet(x), dim=1)[:, 1]
show_maps([one for i in (0, 1) for one in (target[i].float(), whole[i], scores[i])],
          ["truth", "p with skips", "p without"] * 2)

# %% [markdown]
# ## Going further
#
# - **Fast convolution.** Your first exercise makes $K L$ passes over the image. Collect the windows into a matrix
#   (*im2col*) and multiply once; or multiply in the Fourier domain. From which kernel size on does each pay?
# - **Shift invariance, taken seriously.** Blur before every step with a stride (Zhang 2019), and repeat the
#   measurement after the first exercise.
# - **Soft suppression.** Instead of removing a box, lower its score by how much it overlaps (Bodla et al. 2017).
#   Which of the properties that the checks of exercise 5 name still hold?
# - **A loss for boxes.** IoU of disjoint boxes is 0 with gradient 0: nothing to learn from. Generalized IoU
#   (Rezatofighi et al. 2019) subtracts the empty share of the smallest box around both. Write it, and fit a box by
#   descent.
# - **Depth.** Train stacks of 4 and 20 of your residual blocks on the bars, with and without shortcuts, then with
#   $\gamma_2 = 0$ at the start.
# - **A whole detector.** Put a $1 \times 1$ convolution with five outputs per anchor on the U-Net's bottleneck: four
#   for `decode_boxes`, one for `focal_loss`, and `nms` at the end. The discs have boxes.
#
# ## References
#
# - N. Bodla, B. Singh, R. Chellappa, L. Davis. *Soft-NMS: Improving Object Detection With One Line of Code.* ICCV
#   2017.
# - V. Dumoulin, F. Visin. *A Guide to Convolution Arithmetic for Deep Learning.* 2016.
# - K. Fukushima. *Neocognitron.* Biological Cybernetics 36, 1980.
# - R. Girshick, J. Donahue, T. Darrell, J. Malik. *Rich Feature Hierarchies for Accurate Object Detection and
#   Semantic Segmentation.* CVPR 2014.
# - P. Goyal et al. *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour.* 2017.
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep Residual Learning for Image Recognition.* CVPR 2016.
# - A. Howard et al. *MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications.* 2017.
# - A. Krizhevsky, I. Sutskever, G. Hinton. *ImageNet Classification with Deep Convolutional Neural Networks.* NIPS
#   2012.
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-Based Learning Applied to Document Recognition.* Proceedings
#   of the IEEE 86, 1998.
# - M. Lin, Q. Chen, S. Yan. *Network In Network.* ICLR 2014.
# - T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár. *Focal Loss for Dense Object Detection.* ICCV 2017.
# - F. Milletari, N. Navab, S.-A. Ahmadi. *V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
#   Segmentation.* 3DV 2016.
# - A. Odena, V. Dumoulin, C. Olah. *Deconvolution and Checkerboard Artifacts.* Distill, 2016.
# - S. Ren, K. He, R. Girshick, J. Sun. *Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
#   Networks.* NIPS 2015.
# - H. Rezatofighi et al. *Generalized Intersection over Union.* CVPR 2019.
# - O. Ronneberger, P. Fischer, T. Brox. *U-Net: Convolutional Networks for Biomedical Image Segmentation.* MICCAI
#   2015.
# - M. Zeiler, R. Fergus. *Visualizing and Understanding Convolutional Networks.* ECCV 2014.
# - R. Zhang. *Making Convolutional Networks Shift-Invariant Again.* ICML 2019.
