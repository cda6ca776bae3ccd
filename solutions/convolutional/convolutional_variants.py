"""What students hand in for the convolutional unit: known mistakes, and right answers in other styles.

Every decorated function replaces the reference's function of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...". The helpers are right.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from autograder.variants import alternative, mistake

# ------------------------------------------------------------------------------------------------- conv2d_forward


def _out(length, kernel, stride, padding, dilation):
    return (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _fits(x, w, stride, padding, dilation, groups):
    """The ValueErrors of the contract."""
    if x.shape[1] % groups or w.shape[0] % groups:
        raise ValueError("groups do not divide the channels")
    if min(_out(x.shape[i], w.shape[i], 1, padding, dilation) for i in (2, 3)) < 1:
        raise ValueError("the kernel does not fit")


def _conv(x, w, b, stride, padding, dilation, groups):
    _fits(x, w, stride, padding, dilation, groups)
    return F.conv2d(x, w, b, stride, padding, dilation, groups)


@mistake("conv2d_forward", "kernel_flipped", "the kernel is turned by 180°",
         hint="Eq. (1) has plus signs: element (0, 0) of the kernel meets the pixel in the upper left.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv(x, w.flip(2, 3), b, stride, padding, dilation, groups)


@mistake("conv2d_forward", "kernel_transposed", "rows and columns of the kernel are exchanged",
         hint="w[o, c, k, l]: k moves along the height, l along the width.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv(x, w.transpose(2, 3), b, stride, padding, dilation, groups)


@mistake("conv2d_forward", "one_kernel_size", "the kernel's width is taken to be its height",
         hint="K and L differ: two sizes, two loops.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv(x, w[..., :w.shape[2]], b, stride, padding, dilation, groups)


@mistake("conv2d_forward", "padding_top_left", "all the padding is put above and on the left",
         hint="`F.pad` takes (left, right, top, bottom); the padding is the same on all four sides.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    return _conv(F.pad(x, (2 * padding, 0, 2 * padding, 0)), w, b, stride, 0, dilation, groups)


@mistake("conv2d_forward", "padding_on_one_side", "the image is padded above and on the left only",
         hint="Eq. (2) has 2p: p rows above and p below.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv(F.pad(x, (padding, 0, padding, 0)), w, b, stride, 0, dilation, groups)


@mistake("conv2d_forward", "padding_replicated", "the pixels of the border are repeated into the padding",
         hint="Outside the image Eq. (1) reads zeros.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    return _conv(F.pad(x, (padding,) * 4, mode="replicate"), w, b, stride, 0, dilation, groups)


@mistake("conv2d_forward", "padding_reflected", "the image is mirrored into the padding",
         hint="Outside the image Eq. (1) reads zeros.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    return _conv(F.pad(x, (padding,) * 4, mode="reflect"), w, b, stride, 0, dilation, groups)


@mistake("conv2d_forward", "padding_grows_with_dilation", "the padding is multiplied by the dilation",
         hint="In Eq. (1) d multiplies k only; p pixels are padded whatever the dilation.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    return _conv(x, w, b, stride, padding * dilation, dilation, groups)


@mistake("conv2d_forward", "size_rounded_up", "the output size is rounded up",
         hint="An output exists only where the whole kernel lies in the padded image: Eq. (2) rounds down.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    below, right = (-(x.shape[i] + 2 * padding - dilation * (w.shape[i] - 1) - 1) % stride for i in (2, 3))
    wide = F.pad(x, (padding, padding + right, padding, padding + below))
    return _conv(wide, w, b, stride, 0, dilation, groups)


@mistake("conv2d_forward", "dilation_ignored", "the dilation is not used",
         hint="The offset of element k is d·k; the dilation also enters the output size.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    return _conv(x, w, b, stride, padding, 1, groups)


@mistake("conv2d_forward", "dilation_counts_gaps", "the dilation is taken for the number of pixels that are left out",
         hint="Neighbours are d apart, so d = 1 is the ordinary kernel.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv(x, w, b, stride, padding, dilation + 1, groups)


@mistake("conv2d_forward", "stride_of_rows_only", "the stride is used for the rows only",
         hint="The same stride holds in both directions.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv(x, w, b, (stride, 1), padding, dilation, groups)


@mistake("conv2d_forward", "input_thinned_out", "the kernel slides over every s-th pixel of the image",
         hint="The stride moves the kernel; under it all pixels count.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    return _conv(F.pad(x, (padding,) * 4)[..., ::stride, ::stride], w, b, 1, 0, dilation, groups)


@mistake("conv2d_forward", "outputs_interleaved", "the outputs of the groups are interleaved",
         hint="All outputs of group 0 come first, then all of group 1: merge the axes (group, output) in this order.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    y = _conv(x, w, None, stride, padding, dilation, groups)
    y = y.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return y if b is None else y + b[:, None, None]


@mistake("conv2d_forward", "inputs_interleaved", "group g reads every G-th input channel",
         hint="The groups are runs of neighbouring channels.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    return _conv(x.unflatten(1, (-1, groups)).transpose(1, 2).flatten(1, 2), w, b, stride, padding, dilation, groups)


@mistake("conv2d_forward", "first_group_for_all", "all groups read the inputs of the first one",
         hint="Run g of the outputs reads run g of the inputs.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    return _conv(x[:, :x.shape[1] // groups], w, b, stride, padding, dilation, 1)


@mistake("conv2d_forward", "bias_forgotten", "the bias is not added",
         hint="Eq. (1) begins with it; None means that there is none.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv(x, w, None, stride, padding, dilation, groups)


@mistake("conv2d_forward", "bias_for_each_element", "the bias is added once for each element of the kernel",
         hint="Add it after the sum over k and l, not inside.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    b = b if b is None else b * w.shape[2] * w.shape[3]
    return _conv(x, w, b, stride, padding, dilation, groups)


@mistake("conv2d_forward", "weight_detached", "the weights get no gradient",
         hint="`.detach()`, `.data` and `.item()` cut the graph.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv(x, w.detach(), b, stride, padding, dilation, groups)


@mistake("conv2d_forward", "float32_inside", "the sums are formed in float32 whatever the input",
         hint="A tensor made by `torch.zeros(...)` is float32: take the dtype of x.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    b = b if b is None else b.float()
    return _conv(x.float(), w.float(), b, stride, padding, dilation, groups).to(x.dtype)


@mistake("conv2d_forward", "image_shifted_in_place", "1 is added to the image in place, and subtracted again",
         hint="The caller's image is not yours to change, not even for a moment: x + 1 - 1 is not x.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    with torch.no_grad():
        x += 1
        x -= 1
    return _conv(x, w, b, stride, padding, dilation, groups)


@mistake("conv2d_forward", "left_over_channels", "channels that do not fit into the groups are left out",
         hint="The contract asks for a ValueError if the groups do not divide both numbers of channels.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    c, o = x.shape[1] // groups, w.shape[0] // groups
    parts = []
    for g in range(groups):
        bias = None if b is None else b[g * o:(g + 1) * o]
        parts.append(_conv(x[:, g * c:(g + 1) * c], w[g * o:(g + 1) * o, :c], bias, stride, padding, dilation, 1)
                     if c and o else x[:, :0])
    return torch.cat([part for part in parts if part.shape[1]] or [x[:, :0]], dim=1)


@mistake("conv2d_forward", "large_kernel_accepted", "a kernel that is larger than the image gives an empty output",
         hint="The contract asks for a ValueError.")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    size = [_out(x.shape[i], w.shape[i], stride, padding, dilation) for i in (2, 3)]
    if min(size) < 1:
        return x.new_zeros(x.shape[0], w.shape[0], *(max(n, 0) for n in size))
    return _conv(x, w, b, stride, padding, dilation, groups)


@alternative("conv2d_forward", "columns_and_a_product")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    (B, _, H, W), (outputs, c, K, L) = x.shape, w.shape
    rows = stride * torch.arange(_out(H, K, stride, padding, dilation))[:, None] + dilation * torch.arange(K)
    columns = stride * torch.arange(_out(W, L, stride, padding, dilation))[:, None] + dilation * torch.arange(L)
    seen = F.pad(x, (padding,) * 4)[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # (B, C, Ho, Wo, K, L)
    seen = seen.permute(0, 2, 3, 1, 4, 5).reshape(B, len(rows), len(columns), groups, 1, c * K * L)
    y = (seen @ w.reshape(groups, outputs // groups, c * K * L).transpose(1, 2)).flatten(3).permute(0, 3, 1, 2)
    return y if b is None else y + b.reshape(-1, 1, 1)


@alternative("conv2d_forward", "output_by_output")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    (_, _, H, W), (_, c, K, L) = x.shape, w.shape
    image = F.pad(x, (padding,) * 4)
    rows = []
    for i in range(0, H + 2 * padding - dilation * (K - 1), stride):
        row = []
        for j in range(0, W + 2 * padding - dilation * (L - 1), stride):
            window = image[:, :, i:i + dilation * (K - 1) + 1:dilation, j:j + dilation * (L - 1) + 1:dilation]
            parts = [(one[:, None] * kernel).sum((2, 3, 4))
                     for one, kernel in zip(window.split(c, 1), w.chunk(groups), strict=True)]
            row.append(torch.cat(parts, dim=1))
        rows.append(torch.stack(row, dim=-1))
    y = torch.stack(rows, dim=-2)
    return y if b is None else y + b[None, :, None, None]


@alternative("conv2d_forward", "strided_view")
def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    _fits(x, w, stride, padding, dilation, groups)
    (B, _, H, W), (_, c, K, L) = x.shape, w.shape
    image = F.pad(x, (padding,) * 4).contiguous().unflatten(1, (groups, c))
    size = [_out(H, K, stride, padding, dilation), _out(W, L, stride, padding, dilation)]
    steps = image.stride()
    seen = image.as_strided((B, groups, c, *size, K, L), (*steps[:3], stride * steps[3], stride * steps[4],
                                                          dilation * steps[3], dilation * steps[4]))
    y = torch.einsum("bgcijkl,gockl->bgoij", seen, w.unflatten(0, (groups, -1))).flatten(1, 2)
    return y if b is None else (y.movedim(1, -1) + b).movedim(-1, 1)


# ---------------------------------------------------------------------------------------- max_pool2d_with_indices

def _pool(x, kernel, stride, padding, fill=-math.inf, order=lambda windows: windows):
    """(y, idx) by the rules, but for what is put into the padding and how a window's elements are ordered."""
    stride = kernel if stride is None else stride
    if padding > kernel // 2:
        raise ValueError("too much padding")
    (H, W), pad = x.shape[2:], (padding,) * 4
    number = F.pad(torch.arange(H * W).reshape(1, 1, H, W), pad, value=-1)
    windows, numbers = (t.unfold(2, kernel, stride).unfold(3, kernel, stride)
                        for t in (F.pad(x, pad, value=fill), number))
    windows, numbers = order(windows).flatten(-2), order(numbers).flatten(-2)
    best = windows.argmax(-1, keepdim=True)
    idx = numbers.expand_as(windows).gather(-1, best).squeeze(-1)
    return windows.gather(-1, best).squeeze(-1), idx


@mistake("max_pool2d_with_indices", "padded_with_zeros", "the image is padded with zeros",
         hint="0 is larger than any negative pixel; pad with something that never wins.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x, kernel_size, stride, padding, fill=0.0)


@mistake("max_pool2d_with_indices", "padded_with_minus_hundred", "the image is padded with -100",
         hint="Pixels may be below that. Minus infinity is below everything.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x, kernel_size, stride, padding, fill=-100.0)


@mistake("max_pool2d_with_indices", "padding_ignored", "the image is not padded",
         hint="With a padding of p the first window begins at row -p.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    _pool(x, kernel_size, stride, padding)
    return _pool(x, kernel_size, stride, 0)


@mistake("max_pool2d_with_indices", "index_in_the_window", "idx counts within the window",
         hint="Add where the window begins: idx is a place in the image.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    y, _ = _pool(x, kernel_size, stride, padding)
    image = F.pad(x, (padding,) * 4, value=-math.inf)
    windows = image.unfold(2, kernel_size, stride or kernel_size).unfold(3, kernel_size, stride or kernel_size)
    return y, windows.flatten(-2).argmax(-1)


@mistake("max_pool2d_with_indices", "index_in_the_padded_image", "idx counts pixels of the padded image",
         hint="Rows and columns of the padding do not exist in x: subtract p from both before you count.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    y, idx = _pool(x, kernel_size, stride, padding)
    W = x.shape[3]
    return y, (idx // W + padding) * (W + 2 * padding) + idx % W + padding


@mistake("max_pool2d_with_indices", "index_times_height", "rows are counted in units of the height",
         hint="A row holds W pixels.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    y, idx = _pool(x, kernel_size, stride, padding)
    return y, idx // x.shape[3] * x.shape[2] + idx % x.shape[3]


@mistake("max_pool2d_with_indices", "index_by_columns", "idx counts down the columns",
         hint="idx is row · W + column.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    y, idx = _pool(x, kernel_size, stride, padding)
    return y, idx % x.shape[3] * x.shape[2] + idx // x.shape[3]


@mistake("max_pool2d_with_indices", "index_over_channels", "idx counts on from channel to channel",
         hint="Each channel counts its H·W pixels anew.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    y, idx = _pool(x, kernel_size, stride, padding)
    return y, idx + torch.arange(x.shape[1])[:, None, None] * x.shape[2] * x.shape[3]


@mistake("max_pool2d_with_indices", "index_int32", "idx is int32",
         hint="`long` is int64, the dtype that `gather` and `scatter` ask for.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    y, idx = _pool(x, kernel_size, stride, padding)
    return y, idx.int()


@mistake("max_pool2d_with_indices", "last_of_equals", "the last of several equal pixels wins",
         hint="`argmax` returns the first; >= in a loop, or a flipped window, returns the last.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x, kernel_size, stride, padding, order=lambda windows: windows.flip(-2, -1))


@mistake("max_pool2d_with_indices", "equals_by_columns", "of several equal pixels the one in the leftmost column wins",
         hint="Reading order goes along the rows.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x, kernel_size, stride, padding, order=lambda windows: windows.transpose(-2, -1))


@mistake("max_pool2d_with_indices", "gradient_shared", "equal pixels share the gradient",
         hint="`amax` divides the gradient among equal maxima; the contract gives all of it to the one at idx.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    _, idx = _pool(x, kernel_size, stride, padding)
    stride = stride or kernel_size
    windows = F.pad(x, (padding,) * 4, value=-math.inf).unfold(2, kernel_size, stride).unfold(3, kernel_size, stride)
    return windows.amax((-2, -1)), idx


@mistake("max_pool2d_with_indices", "detached", "no gradient flows",
         hint="`.detach()`, `.data`, `no_grad` and numpy cut the graph.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x.detach(), kernel_size, stride, padding)


@mistake("max_pool2d_with_indices", "stride_one_by_default", "the stride is 1 if none is given",
         hint="None stands for the size of the kernel: windows side by side.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x, kernel_size, stride or 1, padding)


@mistake("max_pool2d_with_indices", "stride_ignored", "the windows lie side by side, whatever the stride",
         hint="kernel_size is how large a window is, stride how far apart they begin.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x, kernel_size, None, padding)


@mistake("max_pool2d_with_indices", "size_rounded_up", "windows may stick out below and on the right",
         hint="Eq. (2) rounds down: what is left over takes no part.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    if padding > kernel_size // 2:
        raise ValueError("too much padding")
    return F.max_pool2d(x, kernel_size, stride, padding, ceil_mode=True, return_indices=True)


@mistake("max_pool2d_with_indices", "minimum", "the smallest pixel wins",
         hint="Eq. (3) is a maximum.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    y, idx = _pool(-x, kernel_size, stride, padding)
    return -y, idx


@mistake("max_pool2d_with_indices", "mean", "y is the mean of the window",
         hint="The place of the maximum is right; return the maximum itself.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    _, idx = _pool(x, kernel_size, stride, padding)
    return F.avg_pool2d(x, kernel_size, stride, padding, count_include_pad=False), idx


@mistake("max_pool2d_with_indices", "any_padding_accepted", "any padding is accepted",
         hint="With more than half a kernel some windows see padding only: the contract asks for a ValueError.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    if padding > kernel_size // 2:
        return F.pad(x, (padding,) * 4, value=-math.inf), None
    return _pool(x, kernel_size, stride, padding)


@mistake("max_pool2d_with_indices", "always_float32", "y is float32 whatever the input",
         hint="Tensors made by `torch.full(...)` are float32: take the dtype of x.")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x.float(), kernel_size, stride, padding)


@alternative("max_pool2d_with_indices", "numbered_windows")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    return _pool(x, kernel_size, stride, padding)


@alternative("max_pool2d_with_indices", "library")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    if padding > kernel_size // 2:
        raise ValueError("too much padding")
    return F.max_pool2d(x.contiguous(), kernel_size, stride, padding, return_indices=True)


@alternative("max_pool2d_with_indices", "window_by_window")
def max_pool2d_with_indices(x, kernel_size, stride=None, padding=0):
    stride = stride or kernel_size
    if padding > kernel_size // 2:
        raise ValueError("too much padding")
    (H, W), rows = x.shape[2:], []
    for top in range(-padding, H + padding - kernel_size + 1, stride):
        row = []
        for left in range(-padding, W + padding - kernel_size + 1, stride):
            lines = range(max(top, 0), min(top + kernel_size, H))
            cells = torch.tensor([r * W + q for r in lines for q in range(max(left, 0), min(left + kernel_size, W))])
            row.append(cells[x.flatten(2)[..., cells].argmax(-1)])
        rows.append(torch.stack(row, -1))
    idx = torch.stack(rows, -2)
    return torch.take_along_dim(x.flatten(2), idx.flatten(2), 2).view_as(idx), idx


# ------------------------------------------------------------------------------------------------- residual_block

class _Block(nn.Module):
    """The block by the rules, in parts that can be replaced."""

    def __init__(self, c_in, c_out, stride=1, stride1=None, stride2=1, bias=False, down=None, side=1, eps=1e-5):
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride1 or stride, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(c_out, eps=eps)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, stride2, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(c_out, eps=eps)
        if c_in != c_out or stride > 1 if down is None else down:
            self.down = nn.Sequential(nn.Conv2d(c_in, c_out, side, stride, padding=side // 2, bias=bias),
                                      nn.BatchNorm2d(c_out, eps=eps))

    def branch(self, x):
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))

    def shortcut(self, x):
        return self.down(x) if hasattr(self, "down") else x

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x))


def _thinned(x, stride, channels):
    """Every s-th pixel, and zeros in the channels that x does not have."""
    x = x[:, :channels, ::stride, ::stride]
    return torch.cat([x, x.new_zeros(len(x), channels - x.shape[1], *x.shape[2:])], dim=1)


def _by_batch(norm, h, training=True):
    """A batch normalization with the statistics of the batch, or with the running ones, whatever the mode."""
    return F.batch_norm(h, norm.running_mean, norm.running_var, norm.weight, norm.bias, training, 0.1, norm.eps)


@mistake("residual_block", "no_last_relu", "the sum is returned without a relu",
         hint="Eq. (4) has a relu around the sum.")
class BasicBlock(_Block):
    def forward(self, x):
        return self.branch(x) + self.shortcut(x)


@mistake("residual_block", "relu_before_the_sum", "the branch goes through the relu, and the sum does not",
         hint="Add first: a branch that is never negative could only make features larger.")
class BasicBlock(_Block):
    def forward(self, x):
        return F.relu(self.branch(x)) + self.shortcut(x)


@mistake("residual_block", "relu_twice", "branch and sum both go through a relu",
         hint="In Eq. (4) the branch ends with its batch normalization: it has to be able to subtract.")
class BasicBlock(_Block):
    def forward(self, x):
        return F.relu(F.relu(self.branch(x)) + self.shortcut(x))


@mistake("residual_block", "no_middle_relu", "the relu between the two convolutions is missing",
         hint="Two convolutions without anything in between are one.")
class BasicBlock(_Block):
    def branch(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))


@mistake("residual_block", "shortcut_forgotten", "the shortcut is not added",
         hint="Without S(x), Eq. (4) is a plain network.")
class BasicBlock(_Block):
    def forward(self, x):
        return F.relu(self.branch(x))


@mistake("residual_block", "norm_after_the_sum", "the second batch normalization comes after the sum",
         hint="In Eq. (4) it is the last part of the branch: it must not touch the shortcut.")
class BasicBlock(_Block):
    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))) + self.shortcut(x)))


@mistake("residual_block", "stride_in_both", "both convolutions have the stride",
         hint="The image gets smaller once: in conv1.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, stride2=stride)

    def shortcut(self, x):
        return super().shortcut(x)[..., ::self.stride, ::self.stride]


@mistake("residual_block", "stride_in_the_second", "the stride belongs to conv2 instead of conv1",
         hint="The contract puts the stride into conv1.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, stride1=1, stride2=stride)


@mistake("residual_block", "convolutions_with_bias", "the convolutions have biases",
         hint="The batch normalization behind them subtracts any constant: `bias=False`.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, bias=True)


@mistake("residual_block", "added_in_place", "the branch is added to the caller's tensor in place",
         hint="`x += out` changes the input, and autograd may need it: write out + x.")
class BasicBlock(_Block):
    def forward(self, x):
        out = self.branch(x)
        if hasattr(self, "down"):
            return F.relu(out + self.down(x))
        x += out
        return F.relu(x)


@mistake("residual_block", "relu_in_place_on_the_input", "a relu is applied to the caller's tensor in place",
         hint="`F.relu(x, inplace=True)` writes to x.")
class BasicBlock(_Block):
    def forward(self, x):
        y = super().forward(x)
        with torch.no_grad():
            x.clamp_(min=0)
        return y


@mistake("residual_block", "projection_without_norm", "the projection has no batch normalization",
         hint="The contract lists `down.1`: the projection is normalized, too.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride)
        if hasattr(self, "down"):
            self.down = nn.Sequential(self.down[0])


@mistake("residual_block", "projection_norm_unused", "the batch normalization of the projection is made, but not used",
         hint="Both parts of `down` act on x.")
class BasicBlock(_Block):
    def shortcut(self, x):
        return self.down[0](x) if hasattr(self, "down") else x


@mistake("residual_block", "one_norm_for_both", "bn1 is used after both convolutions",
         hint="The two have statistics and weights of their own: bn2 belongs to conv2.")
class BasicBlock(_Block):
    def branch(self, x):
        return self.bn1(self.conv2(F.relu(self.bn1(self.conv1(x)))))


@mistake("residual_block", "shortcut_by_slicing", "the shortcut leaves out pixels and adds channels of zeros",
         hint="That is the paper's option A; the contract asks for the projection, option B.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, down=False)

    def shortcut(self, x):
        return _thinned(x, self.stride, self.bn2.num_features)


@mistake("residual_block", "always_projected", "the shortcut is a projection even where shapes agree",
         hint="An identity needs no weights, and that is its point.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, down=True)


@mistake("residual_block", "projection_for_channels_only", "there is a projection only if the channels change",
         hint="A stride changes the size, and then an identity does not fit either.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, down=c_in != c_out)

    def shortcut(self, x):
        return self.down(x) if hasattr(self, "down") else x[..., ::self.stride, ::self.stride]


@mistake("residual_block", "projection_3x3", "the projection is a 3×3 convolution",
         hint="A 1×1 convolution mixes channels and leaves pixels alone.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, side=3)


@mistake("residual_block", "always_the_batch", "batch statistics are used in evaluation, too",
         hint="In evaluation an image's result must not depend on the others: leave the mode to nn.BatchNorm2d.")
class BasicBlock(_Block):
    def branch(self, x):
        return _by_batch(self.bn2, self.conv2(F.relu(_by_batch(self.bn1, self.conv1(x)))))


@mistake("residual_block", "never_the_batch", "running statistics are used in training, too",
         hint="Did something call `eval()` for good, or pass `training=False`?")
class BasicBlock(_Block):
    def branch(self, x):
        return _by_batch(self.bn2, self.conv2(F.relu(_by_batch(self.bn1, self.conv1(x), False))), False)


@mistake("residual_block", "branch_detached", "no gradient reaches the weights of the branch",
         hint="`.detach()` and `no_grad` cut the graph.")
class BasicBlock(_Block):
    def branch(self, x):
        return super().branch(x).detach()


@mistake("residual_block", "another_eps", "the batch normalizations have eps = 1e-3",
         hint="The contract asks for PyTorch's defaults.")
class BasicBlock(_Block):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, eps=1e-3)


@alternative("residual_block", "parts")
class BasicBlock(_Block):
    pass


@alternative("residual_block", "own_parameters")
class BasicBlock(nn.Module):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.stride = stride

        def holder(*shape):
            made = nn.Module()
            made.weight = nn.Parameter(torch.randn(shape) / math.sqrt(math.prod(shape[1:])))
            return made

        self.conv1, self.conv2 = holder(c_out, c_in, 3, 3), holder(c_out, c_out, 3, 3)
        self.bn1, self.bn2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.down = None if (c_in, stride) == (c_out, 1) else nn.ModuleList(
            [holder(c_out, c_in, 1, 1), nn.BatchNorm2d(c_out)])

    def forward(self, x):
        h = self.bn1(F.conv2d(x, self.conv1.weight, None, self.stride, 1)).clamp_min(0)
        h = self.bn2(F.conv2d(h, self.conv2.weight, None, 1, 1))
        if self.down is not None:
            convolution, norm = self.down
            x = norm(F.conv2d(x, convolution.weight, None, self.stride))
        total = h + x
        return total * (total > 0)


# --------------------------------------------------------------------------------------------------- tiny_convnet

class _Net(nn.Module):
    """The classifier by the rules, in parts that can be replaced."""

    def __init__(self, c_in, n_classes, width=8, bias=False, last=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width * last, n_classes)

    def shrunk(self, h):
        return F.max_pool2d(h, 2)

    def low(self, x):
        return F.relu(self.bn1(self.conv1(x)))

    def features(self, x):
        return F.relu(self.bn2(self.conv2(self.shrunk(self.low(x)))))

    def pooled(self, h):
        return h.mean((2, 3))

    def forward(self, x):
        return self.fc(self.pooled(self.features(x)))


@mistake("tiny_convnet", "softmax", "the output is a softmax",
         hint="Return the logits: `F.cross_entropy` contains the softmax.")
class TinyConvNet(_Net):
    def forward(self, x):
        return torch.softmax(super().forward(x), dim=-1)


@mistake("tiny_convnet", "log_softmax", "the output is a log-softmax",
         hint="Return the logits: `F.cross_entropy` contains the softmax.")
class TinyConvNet(_Net):
    def forward(self, x):
        return torch.log_softmax(super().forward(x), dim=-1)


@mistake("tiny_convnet", "relu_on_the_logits", "the logits go through a relu",
         hint="Logits may be negative; the linear layer comes last.")
class TinyConvNet(_Net):
    def forward(self, x):
        return F.relu(super().forward(x))


@mistake("tiny_convnet", "argmax", "the output is the number of the best class",
         hint="A number of a class has no gradient; return all scores.")
class TinyConvNet(_Net):
    def forward(self, x):
        return super().forward(x).argmax(-1)


@mistake("tiny_convnet", "flattened", "the maps are flattened for images of 8 × 8",
         hint="Eq. (5) averages each map; `fc.weight` has 2·width columns whatever the image.")
class TinyConvNet(_Net):
    def __init__(self, c_in, n_classes, width=8):
        super().__init__(c_in, n_classes, width, last=16)

    def pooled(self, h):
        return h.flatten(1)


@mistake("tiny_convnet", "batch_and_channels_mixed", "a view mixes the images of the batch with the channels",
         hint="`view` does not exchange axes: (B, C, ...) viewed as (C, B, ...) gives each map to another image.")
class TinyConvNet(_Net):
    def pooled(self, h):
        return h.reshape(h.shape[1], h.shape[0], -1).mean(-1).T


@mistake("tiny_convnet", "sum_of_the_maps", "the maps are summed, not averaged",
         hint="Eq. (5) divides by H'W', or larger images would get larger scores.")
class TinyConvNet(_Net):
    def pooled(self, h):
        return h.sum((2, 3))


@mistake("tiny_convnet", "maximum_of_the_maps", "the maximum of each map is taken instead of its mean",
         hint="Eq. (5) is a mean over all pixels of a map.")
class TinyConvNet(_Net):
    def pooled(self, h):
        return h.amax((2, 3))


@mistake("tiny_convnet", "one_row_only", "the mean runs over the rows, and then one column is taken",
         hint="Both axes of the image disappear: dim=(2, 3).")
class TinyConvNet(_Net):
    def pooled(self, h):
        return h.mean(2)[..., 0]


@mistake("tiny_convnet", "no_pooling", "the max-pooling between the stages is missing",
         hint="Eq. (6) has it between the first relu and the second convolution.")
class TinyConvNet(_Net):
    def shrunk(self, h):
        return h


@mistake("tiny_convnet", "average_pooling", "windows are averaged between the stages",
         hint="Eq. (6) takes the maximum of each window.")
class TinyConvNet(_Net):
    def shrunk(self, h):
        return F.avg_pool2d(h, 2)


@mistake("tiny_convnet", "overlapping_windows", "the windows of the pooling overlap",
         hint="2 × 2 windows side by side: stride 2.")
class TinyConvNet(_Net):
    def shrunk(self, h):
        return F.max_pool2d(h, 2, stride=1)


@mistake("tiny_convnet", "pooling_rounded_up", "the pooling keeps windows that stick out of the image",
         hint="Without `ceil_mode` a row or column that is left over takes no part.")
class TinyConvNet(_Net):
    def shrunk(self, h):
        return F.max_pool2d(h, 2, ceil_mode=True)


@mistake("tiny_convnet", "relu_before_norm", "the relu comes before the batch normalization",
         hint="Read Eq. (6) from the inside: convolution, normalization, relu.")
class TinyConvNet(_Net):
    def low(self, x):
        return self.bn1(F.relu(self.conv1(x)))


@mistake("tiny_convnet", "no_second_relu", "the relu after the second stage is missing",
         hint="Eq. (6) begins with a relu.")
class TinyConvNet(_Net):
    def features(self, x):
        return self.bn2(self.conv2(self.shrunk(self.low(x))))


@mistake("tiny_convnet", "no_second_norm", "the second batch normalization is not used",
         hint="A layer made in `__init__` does nothing until `forward` calls it.")
class TinyConvNet(_Net):
    def features(self, x):
        return F.relu(self.conv2(self.shrunk(self.low(x))))


@mistake("tiny_convnet", "always_the_batch", "batch statistics are used in evaluation, too",
         hint="In evaluation an image's scores must not depend on the other images.")
class TinyConvNet(_Net):
    def low(self, x):
        return F.relu(_by_batch(self.bn1, self.conv1(x)))


@mistake("tiny_convnet", "never_the_batch", "running statistics are used in training, too",
         hint="Did something call `eval()` for good, or pass `training=False`?")
class TinyConvNet(_Net):
    def low(self, x):
        return F.relu(_by_batch(self.bn1, self.conv1(x), False))


@mistake("tiny_convnet", "convolutions_with_bias", "the convolutions have biases",
         hint="The batch normalization behind them subtracts any constant: `bias=False`.")
class TinyConvNet(_Net):
    def __init__(self, c_in, n_classes, width=8):
        super().__init__(c_in, n_classes, width, bias=True)


@mistake("tiny_convnet", "width_ignored", "the width is always 8",
         hint="`width` is an argument; 8 is its default.")
class TinyConvNet(_Net):
    def __init__(self, c_in, n_classes, width=8):
        super().__init__(c_in, n_classes)


@mistake("tiny_convnet", "features_detached", "no gradient reaches the convolutions",
         hint="`.detach()` and `no_grad` cut the graph.")
class TinyConvNet(_Net):
    def features(self, x):
        return super().features(x).detach()


@mistake("tiny_convnet", "input_scaled_in_place", "the image is scaled in the caller's tensor",
         hint="`x /= ...` writes to the input. (The scale itself disappears in the first normalization, or nearly.)")
class TinyConvNet(_Net):
    def forward(self, x):
        scores = super().forward(x)
        with torch.no_grad():
            x /= x.abs().max().clamp(min=1)
        return scores


@alternative("tiny_convnet", "parts")
class TinyConvNet(_Net):
    pass


@alternative("tiny_convnet", "modules")
class TinyConvNet(nn.Module):
    def __init__(self, c_in, n_classes, width=8):
        super().__init__()
        for i, (one, other) in enumerate(((c_in, width), (width, 2 * width)), 1):
            setattr(self, f"conv{i}", nn.Conv2d(one, other, (3, 3), padding="same", bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(other))
        self.fc = nn.Linear(2 * width, n_classes)
        self.pool, self.average, self.relu = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.ReLU()

    def forward(self, x):
        for step in (self.conv1, self.bn1, self.relu, self.pool, self.conv2, self.bn2, self.relu, self.average):
            x = step(x)
        return self.fc(torch.flatten(x, start_dim=1))


# ---------------------------------------------------------------------------------------------------- box_iou_nms

def _sides(boxes):
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def _area(boxes):
    wide, tall = _sides(boxes)
    return wide * tall


def _crossing(a, b):
    """The sides of the intersections, negative where boxes are apart."""
    wide = torch.minimum(a[:, None, 2], b[:, 2]) - torch.maximum(a[:, None, 0], b[:, 0])
    tall = torch.minimum(a[:, None, 3], b[:, 3]) - torch.maximum(a[:, None, 1], b[:, 1])
    return wide, tall


def _shared(a, b):
    wide, tall = _crossing(a, b)
    return wide.clamp(min=0) * tall.clamp(min=0)


def _quotient(part, whole):
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)


def _iou(a, b):
    shared = _shared(a, b)
    return _quotient(shared, _area(a)[:, None] + _area(b) - shared)


def _greedy(suppresses, order):
    """The kept ones, one after the other."""
    keep = []
    for i in order:
        if not any(bool(suppresses[j, i]) for j in keep):
            keep.append(i)
    return torch.tensor(keep, dtype=torch.long)


def _falling(scores):
    return sorted(range(len(scores)), key=lambda i: (-scores[i].item(), i))


@mistake("box_iou_nms", "sides_not_clamped", "negative sides are multiplied with each other",
         hint="Boxes that are apart in both directions have two negative sides; clamp each of them at 0.")
def box_iou(a, b):
    wide, tall = _crossing(a, b)
    shared = wide * tall
    return _quotient(shared, _area(a)[:, None] + _area(b) - shared)


@mistake("box_iou_nms", "product_clamped", "the product of the sides is clamped instead of the sides",
         hint="Two negative sides have a positive product: clamp before you multiply.")
def box_iou(a, b):
    wide, tall = _crossing(a, b)
    shared = (wide * tall).clamp(min=0)
    return _quotient(shared, _area(a)[:, None] + _area(b) - shared)


@mistake("box_iou_nms", "one_pixel_more", "1 is added to all sides",
         hint="Coordinates are real numbers: a box from 0 to 1 is 1 wide, not 2.")
def box_iou(a, b):
    one = torch.tensor([0.0, 0, 1, 1], dtype=a.dtype)
    return _iou(a + one, b + one)


@mistake("box_iou_nms", "intersection_counted_twice", "the intersection is not subtracted from the union",
         hint="The areas of both boxes contain the intersection: Eq. (7) subtracts it once.")
def box_iou(a, b):
    return _quotient(_shared(a, b), _area(a)[:, None] + _area(b))


@mistake("box_iou_nms", "over_the_smaller_box", "the intersection is divided by the smaller of the two areas",
         hint="Eq. (7) divides by the union.")
def box_iou(a, b):
    return _quotient(_shared(a, b), torch.minimum(_area(a)[:, None], _area(b)))


@mistake("box_iou_nms", "over_the_first_box", "the intersection is divided by the area of the box of a",
         hint="Eq. (7) divides by the union.")
def box_iou(a, b):
    return _quotient(_shared(a, b), _area(a)[:, None].expand(-1, len(b)))


@mistake("box_iou_nms", "eps_in_the_union", "1e-6 is added to the union",
         hint="Small boxes exist; treat the union of 0 by itself.")
def box_iou(a, b):
    shared = _shared(a, b)
    return shared / (_area(a)[:, None] + _area(b) - shared + 1e-6)


@mistake("box_iou_nms", "transposed", "rows and columns of the matrix are exchanged",
         hint="Rows belong to a, columns to b: (N, M).")
def box_iou(a, b):
    return _iou(b, a)


@mistake("box_iou_nms", "centre_and_size", "the four numbers are read as centre and size",
         hint="They are two corners: x1, y1, x2, y2.")
def box_iou(a, b):
    return _iou(*(torch.cat([c[:, :2] - c[:, 2:] / 2, c[:, :2] + c[:, 2:] / 2], dim=1) for c in (a, b)))


@mistake("box_iou_nms", "nan_without_area", "boxes without area give NaN",
         hint="0/0: replace a union of 0 before you divide, so that the gradient is finite, too.")
def box_iou(a, b):
    shared = _shared(a, b)
    return shared / (_area(a)[:, None] + _area(b) - shared)


@mistake("box_iou_nms", "nan_removed_late", "NaN is replaced by 0 after the division",
         hint="The value is right, but the gradient still passes through 0/0: look at the gradient there.")
def box_iou(a, b):
    shared = _shared(a, b)
    union = _area(a)[:, None] + _area(b) - shared
    return torch.where(union > 0, shared / union, 0)


@mistake("box_iou_nms", "iou_detached", "no gradient flows through the IoU",
         hint="`.detach()`, `.data`, `no_grad` and numpy cut the graph.")
def box_iou(a, b):
    return _iou(a.detach(), b.detach())


@mistake("box_iou_nms", "suppressed_ones_suppress", "boxes that were suppressed themselves suppress others",
         hint="Compare with the boxes that were kept, not with all better ones.")
def nms(boxes, scores, thr):
    order = _falling(scores)
    over = _iou(boxes, boxes) > thr
    kept = [i for n, i in enumerate(order) if not any(bool(over[i, j]) for j in order[:n])]
    return torch.tensor(kept, dtype=torch.long)


@mistake("box_iou_nms", "mask_returned", "a mask is returned instead of indices",
         hint="The contract asks for the indices of the kept boxes, sorted by score.")
def nms(boxes, scores, thr):
    mask = torch.zeros(len(boxes), dtype=torch.bool)
    mask[_greedy(_iou(boxes, boxes) > thr, _falling(scores))] = True
    return mask


@mistake("box_iou_nms", "equal_iou_suppresses", "an IoU equal to the threshold suppresses",
         hint="Eq. (8) has >, not >=.")
def nms(boxes, scores, thr):
    return _greedy(_iou(boxes, boxes) >= thr, _falling(scores))


@mistake("box_iou_nms", "worst_first", "the boxes are visited from the lowest score to the highest",
         hint="`argsort` and `sort` are ascending unless told otherwise.")
def nms(boxes, scores, thr):
    return _greedy(_iou(boxes, boxes) > thr, _falling(-scores))


@mistake("box_iou_nms", "sorted_by_index", "the kept boxes are sorted by their index",
         hint="The order is that of falling scores: `nonzero` of a mask loses it.")
def nms(boxes, scores, thr):
    return _greedy(_iou(boxes, boxes) > thr, _falling(scores)).sort().values


@mistake("box_iou_nms", "indices_of_the_sorted_boxes", "the indices count in the sorted list",
         hint="After sorting, number 0 is the best box: translate back through the order.")
def nms(boxes, scores, thr):
    order = _falling(scores)
    kept = _greedy(_iou(boxes, boxes) > thr, order).tolist()
    return torch.tensor([order.index(i) for i in kept], dtype=torch.long)


@mistake("box_iou_nms", "equal_scores_backwards", "of equal scores the larger index comes first",
         hint="Flipping an ascending order flips equal scores, too; ask for a descending, stable order.")
def nms(boxes, scores, thr):
    order = sorted(range(len(scores)), key=lambda i: (scores[i].item(), i))[::-1]
    return _greedy(_iou(boxes, boxes) > thr, order)


@mistake("box_iou_nms", "classes_ignored", "boxes suppress boxes of other classes",
         hint="A pair counts only if the labels agree.")
def batched_nms(boxes, scores, labels, thr):
    return _greedy(_iou(boxes, boxes) > thr, _falling(scores))


@mistake("box_iou_nms", "class_after_class", "the kept boxes come class by class",
         hint="The order is by score over all classes.")
def batched_nms(boxes, scores, labels, thr):
    order = sorted(_falling(scores), key=lambda i: labels[i].item())
    return _greedy((_iou(boxes, boxes) > thr) & (labels[:, None] == labels), order)


@mistake("box_iou_nms", "offset_too_small", "the classes are moved apart by 10, which large boxes bridge",
         hint="If you move classes apart, move them by more than the largest coordinate.")
def batched_nms(boxes, scores, labels, thr):
    moved = boxes + 10.0 * labels[:, None]
    return _greedy(_iou(moved, moved) > thr, _falling(scores))


@mistake("box_iou_nms", "boxes_moved_in_place", "the boxes of the classes are moved apart in the caller's tensor",
         hint="`boxes += ...` writes to the input.")
def batched_nms(boxes, scores, labels, thr):
    keep = _greedy((_iou(boxes, boxes) > thr) & (labels[:, None] == labels), _falling(scores))
    boxes += labels[:, None]
    return keep


@alternative("box_iou_nms", "greedy_lists")
def box_iou(a, b):
    return _iou(a, b)


@alternative("box_iou_nms", "greedy_lists")
def nms(boxes, scores, thr):
    return _greedy(_iou(boxes, boxes) > thr, _falling(scores))


@alternative("box_iou_nms", "greedy_lists")
def batched_nms(boxes, scores, labels, thr):
    kept = [torch.tensor([], dtype=torch.long)]
    for label in labels.unique():
        (own,) = torch.nonzero(labels == label, as_tuple=True)
        kept.append(own[_greedy(_iou(boxes[own], boxes[own]) > thr, _falling(scores[own]))])
    found = torch.cat(kept).sort().values
    return found[scores[found].sort(descending=True, stable=True).indices]


@alternative("box_iou_nms", "pair_by_pair")
def box_iou(a, b):
    rows = []
    for one in a:
        row = []
        for other in b:
            sides = torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])
            shared = torch.relu(sides)[0] * torch.relu(sides)[1]
            both = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared
            row.append(shared / both if both > 0 else 0 * (one.sum() + other.sum()))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@alternative("box_iou_nms", "pair_by_pair")
def batched_nms(boxes, scores, labels, thr):
    """Classes far apart: the usual trick."""
    apart = boxes
    if len(boxes):
        apart = boxes + (labels.to(boxes.dtype) * (boxes.max() - boxes.min() + 1))[:, None]
    return _greedy(_iou(apart, apart) > thr, _falling(scores))


@alternative("box_iou_nms", "pair_by_pair")
def nms(boxes, scores, thr):
    waiting = torch.sort(scores, descending=True, stable=True).indices
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best.item())
        waiting = waiting[_iou(boxes[best][None], boxes[waiting])[0] <= thr]
    return torch.tensor(kept, dtype=torch.long)


# ------------------------------------------------------------------------------------------------ box_codec_focal

def _centred(boxes):
    """(centres, sides), each (N, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def _cornered(centre, side):
    return torch.cat([centre - side / 2, centre + side / 2], dim=1)


def _alphas(y, alpha, like):
    label = y.to(like.dtype)
    return alpha * label + (1 - alpha) * (1 - label)


def _focal(logits, y, alpha, gamma, count=None):
    """The focal loss; `count` is what the sum is divided by."""
    z = torch.where(y, logits, -logits)
    each = _alphas(y, alpha, z) * torch.exp(-gamma * F.softplus(z)) * F.softplus(-z)
    return each.sum() / (max(int(y.sum()), 1) if count is None else count)


@mistake("box_codec_focal", "ratio_inverted", "the logarithm of the inverted ratio is taken",
         hint="Eq. (9) divides the true width by the anchor's: wider boxes have positive codes.")
def encode_boxes(gt, anchors):
    (c, s), (ca, sa) = _centred(gt), _centred(anchors)
    return torch.cat([(c - ca) / sa, torch.log(sa / s)], dim=1)


@mistake("box_codec_focal", "offset_over_true_size", "offsets are divided by the size of the true box",
         hint="The anchor is the unit: when decoding, the true size is not known yet.")
def encode_boxes(gt, anchors):
    (c, s), (ca, sa) = _centred(gt), _centred(anchors)
    return torch.cat([(c - ca) / s, torch.log(s / sa)], dim=1)


@mistake("box_codec_focal", "corner_for_centre", "the offset of the upper left corners is encoded",
         hint="x and y in Eq. (9) are the centres.")
def encode_boxes(gt, anchors):
    (_, s), (_, sa) = _centred(gt), _centred(anchors)
    return torch.cat([(gt[:, :2] - anchors[:, :2]) / sa, torch.log(s / sa)], dim=1)


@mistake("box_codec_focal", "corners_as_sizes", "x2 and y2 are taken for width and height",
         hint="The boxes are given by two corners.")
def encode_boxes(gt, anchors):
    s, sa = gt[:, 2:].abs(), anchors[:, 2:].abs()
    return torch.cat([(gt[:, :2] - anchors[:, :2]) / sa, torch.log(s / sa)], dim=1)


@mistake("box_codec_focal", "no_logarithm", "the ratio of the sizes is encoded without the logarithm",
         hint="Eq. (9) takes the logarithm: equal sizes have the code 0.")
def encode_boxes(gt, anchors):
    (c, s), (ca, sa) = _centred(gt), _centred(anchors)
    return torch.cat([(c - ca) / sa, s / sa], dim=1)


@mistake("box_codec_focal", "offset_not_divided", "the offset of the centres is not divided by the anchor's size",
         hint="Eq. (9) measures offsets in sides of the anchor.")
def encode_boxes(gt, anchors):
    (c, s), (ca, sa) = _centred(gt), _centred(anchors)
    return torch.cat([c - ca, torch.log(s / sa)], dim=1)


@mistake("box_codec_focal", "library_variances", "the code is divided by 0.1 and 0.2",
         hint="Some libraries do so; Eq. (9) does not.")
def encode_boxes(gt, anchors):
    (c, s), (ca, sa) = _centred(gt), _centred(anchors)
    return torch.cat([(c - ca) / sa / 0.1, torch.log(s / sa) / 0.2], dim=1)


@mistake("box_codec_focal", "library_variances", "the code is divided by 0.1 and 0.2")
def decode_boxes(t, anchors):
    c, s = _centred(anchors)
    return _cornered(c + 0.1 * t[:, :2] * s, s * torch.exp(0.2 * t[:, 2:]))


@mistake("box_codec_focal", "anchors_detached", "no gradient reaches the anchors",
         hint="`.detach()` cuts the graph; the anchors are a float argument as well.")
def encode_boxes(gt, anchors):
    (c, s), (ca, sa) = _centred(gt), _centred(anchors.detach())
    return torch.cat([(c - ca) / sa, torch.log(s / sa)], dim=1)


@mistake("box_codec_focal", "decoded_centres", "decoding returns centres and sizes",
         hint="The result is corners: half a side to the left and half to the right of the centre.")
def decode_boxes(t, anchors):
    c, s = _centred(anchors)
    return torch.cat([c + t[:, :2] * s, s * torch.exp(t[:, 2:])], dim=1)


@mistake("box_codec_focal", "decoded_without_exp", "decoding stretches by 1 + the code instead of its exponential",
         hint="Eq. (9), solved for the width.")
def decode_boxes(t, anchors):
    c, s = _centred(anchors)
    return _cornered(c + t[:, :2] * s, s * (1 + t[:, 2:]))


@mistake("box_codec_focal", "decoded_from_corner", "the new box is placed by its corner instead of its centre",
         hint="The size changes about the centre.")
def decode_boxes(t, anchors):
    _, s = _centred(anchors)
    first = anchors[:, :2] + t[:, :2] * s
    return torch.cat([first, first + s * torch.exp(t[:, 2:])], dim=1)


@mistake("box_codec_focal", "decoded_in_new_units", "decoding measures the offset in sides of the new box",
         hint="In Eq. (9) the offset is in sides of the anchor.")
def decode_boxes(t, anchors):
    c, s = _centred(anchors)
    new = s * torch.exp(t[:, 2:])
    return _cornered(c + t[:, :2] * new, new)


@mistake("box_codec_focal", "alpha_for_all", "α weights the anchors without an object, too",
         hint="Their weight is 1 - α: Eq. (10).")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    return alpha * 2 * _focal(logits, y, 0.5, gamma)


@mistake("box_codec_focal", "alpha_exchanged", "α and 1 - α are exchanged",
         hint="α belongs to the anchors with an object.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    return _focal(logits, y, 1 - alpha, gamma)


@mistake("box_codec_focal", "alpha_ignored", "α is not used",
         hint="Eq. (11) has the weight α_t.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    return 2 * _focal(logits, y, 0.5, gamma)


@mistake("box_codec_focal", "hard_turned_down", "the power is that of p_t instead of 1 - p_t",
         hint="Easy anchors, with p_t near 1, are to be turned down.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    z = torch.where(y, logits, -logits)
    each = _alphas(y, alpha, z) * torch.exp(-gamma * F.softplus(-z)) * F.softplus(-z)
    return each.sum() / max(int(y.sum()), 1)


@mistake("box_codec_focal", "power_of_one_minus_p", "the power is (1 - p)^γ for both kinds of anchors",
         hint="1 - p_t is p where there is no object.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    z = torch.where(y, logits, -logits)
    each = _alphas(y, alpha, z) * torch.exp(-gamma * F.softplus(logits)) * F.softplus(-z)
    return each.sum() / max(int(y.sum()), 1)


@mistake("box_codec_focal", "gamma_ignored", "γ is always 2",
         hint="γ is an argument; 2 is its default.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    return _focal(logits, y, alpha, 2.0)


@mistake("box_codec_focal", "log_of_sigmoid", "the logarithm of the sigmoid is taken literally",
         hint="The sigmoid of -200 is 0 in float32, and its logarithm is not finite: there is `F.logsigmoid`.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    p = torch.sigmoid(torch.where(y, logits, -logits))
    each = -_alphas(y, alpha, p) * (1 - p) ** gamma * torch.log(p)
    return each.sum() / max(int(y.sum()), 1)


@mistake("box_codec_focal", "clamped_probability", "the probability is clamped to at least 1e-8",
         hint="That makes the loss finite but wrong, and its gradient 0, just where the mistake is largest.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    p = torch.sigmoid(torch.where(y, logits, -logits))
    rest = torch.exp(-gamma * F.softplus(torch.where(y, logits, -logits)))
    each = -_alphas(y, alpha, p) * rest * torch.log(p.clamp(min=1e-8))
    return each.sum() / max(int(y.sum()), 1)


@mistake("box_codec_focal", "power_at_zero", "the power of the sigmoid is taken: for γ < 1 its gradient is not finite",
         hint="The derivative of u^γ at 0 is infinite for γ < 1, and infinity times 0 is NaN; exp(γ log u) is safe.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    z = torch.where(y, logits, -logits)
    each = _alphas(y, alpha, z) * torch.sigmoid(-z) ** gamma * F.softplus(-z)
    return each.sum() / max(int(y.sum()), 1)


@mistake("box_codec_focal", "mean_over_anchors", "the loss is the mean over all anchors",
         hint="Eq. (11) divides by the number of anchors with an object.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    return _focal(logits, y, alpha, gamma, len(y))


@mistake("box_codec_focal", "sum_over_anchors", "the loss is the sum over all anchors",
         hint="Eq. (11) divides by the number of anchors with an object.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    return _focal(logits, y, alpha, gamma, 1)


@mistake("box_codec_focal", "no_object_no_number", "without any object the loss is divided by 0",
         hint="Eq. (11) divides by max(1, n).")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    return _focal(logits, y, alpha, gamma, y.sum())


@mistake("box_codec_focal", "focus_detached", "no gradient flows through the factor (1 - p_t)^γ",
         hint="The factor depends on the logits as well; differentiate the whole product.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    z = torch.where(y, logits, -logits)
    each = _alphas(y, alpha, z) * torch.exp(-gamma * F.softplus(z.detach())) * F.softplus(-z)
    return each.sum() / max(int(y.sum()), 1)


@mistake("box_codec_focal", "other_defaults", "the default of α is 0.5",
         hint="The signature of the contract has α = 0.25.")
def focal_loss(logits, y, alpha=0.5, gamma=2.0):
    return _focal(logits, y, alpha, gamma)


@mistake("box_codec_focal", "signs_in_place", "the signs of the logits are changed in the caller's tensor",
         hint="`logits[~y] *= -1` writes to the input.")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    loss = _focal(logits, y, alpha, gamma)
    with torch.no_grad():
        logits[~y] *= -1
    return loss


@alternative("box_codec_focal", "centred")
def encode_boxes(gt, anchors):
    (c, s), (ca, sa) = _centred(gt), _centred(anchors)
    return torch.cat([(c - ca) / sa, s.log() - sa.log()], dim=1)


@alternative("box_codec_focal", "centred")
def decode_boxes(t, anchors):
    c, s = _centred(anchors)
    return _cornered(c + t[:, :2] * s, s * torch.exp(t[:, 2:]))


@alternative("box_codec_focal", "centred")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    return _focal(logits, y, alpha, gamma)


@alternative("box_codec_focal", "number_by_number")
def encode_boxes(gt, anchors):
    x1, y1, x2, y2 = gt.unbind(1)
    ax1, ay1, ax2, ay2 = anchors.unbind(1)
    return torch.stack([0.5 * (x1 + x2 - ax1 - ax2) / (ax2 - ax1), 0.5 * (y1 + y2 - ay1 - ay2) / (ay2 - ay1),
                        torch.log((x2 - x1) / (ax2 - ax1)), torch.log((y2 - y1) / (ay2 - ay1))], dim=1)


@alternative("box_codec_focal", "number_by_number")
def focal_loss(logits, y, alpha=0.25, gamma=2.0):
    label = y.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
    rest = F.logsigmoid(logits * (1 - 2 * label))
    weight = alpha * label + (1 - alpha) * (1 - label)
    return (weight * (gamma * rest).exp() * entropy).sum() / torch.clamp(label.sum(), min=1)


# ---------------------------------------------------------------------------------------------- unet_segmentation

def _back(y, w, stride, padding, output_padding):
    """The transposed convolution by the rules."""
    if output_padding >= stride:
        raise ValueError("too much output padding")
    return F.conv_transpose2d(y, w, None, stride, padding, output_padding)


def _legal_back(stride, output_padding):
    if output_padding >= stride:
        raise ValueError("too much output padding")


def _one_hot(target, logits):
    return (target[:, None] == torch.arange(logits.shape[1])[:, None, None]).to(logits.dtype)


def _dice(p, g, eps, axes=(2, 3), power=2):
    """1 - the mean Dice coefficient, with sums over the given axes."""
    both = (p * g).sum(axes)
    return 1 - ((2 * both + eps) / ((p**power).sum(axes) + g.sum(axes) + eps)).mean()


class _Seg(nn.Module):
    """The U-Net by the rules, in parts that can be replaced."""

    def __init__(self, c_in, n_classes, width=8, depth=2):
        super().__init__()
        w = [width << i for i in range(depth + 1)]
        self.down = nn.ModuleList(self.stage(w[i - 1] if i else c_in, w[i]) for i in range(depth))
        self.bottom = self.stage(w[depth - 1], w[depth])
        self.rise = nn.ParameterList([nn.Parameter(0.3 * torch.randn(w[i + 1], w[i], 2, 2)) for i in range(depth)])
        self.up = nn.ModuleList(self.stage(2 * w[i], w[i]) for i in range(depth))
        self.head = nn.Conv2d(width, n_classes, 1)

    def stage(self, before, after):
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(),
                             nn.Conv2d(after, after, 3, padding=1), nn.ReLU())

    def accept(self, x):
        if any(n % 2 ** len(self.down) for n in x.shape[2:]):
            raise ValueError("the image cannot be halved so often")

    def shrunk(self, h):
        return F.max_pool2d(h, 2)

    def grown(self, h, w):
        return torch.einsum("bchv,cokl->bohkvl", h, w).flatten(4).flatten(2, 3)  # the stamps do not overlap

    def joined(self, here, below):
        return torch.cat([here, below], dim=1)

    def climb(self, x, i=0):
        if i == len(self.down):
            return self.bottom(x)
        here = self.down[i](x)
        below = self.climb(self.shrunk(here), i + 1)
        return self.up[i](self.joined(here, self.grown(below, self.rise[i])))

    def forward(self, x):
        self.accept(x)
        return self.head(self.climb(x))


@mistake("unet_segmentation", "size_too_large", "the result is stride - 1 too large",
         hint="The last of h stamps begins at (h - 1)·s and is K long: Eq. (14).")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    return F.pad(_back(y, w, stride, padding, output_padding), (0, stride - 1, 0, stride - 1))


@mistake("unet_segmentation", "weight_axes_exchanged", "the first axis of w is taken for the channels of the result",
         hint="w is (O, C, K, L), and y has O channels.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    return _back(y, w.transpose(0, 1), stride, padding, output_padding)


@mistake("unet_segmentation", "stamps_flipped", "the stamps are turned by 180°",
         hint="In Eq. (12) element (k, l) lands k rows below and l columns to the right of where the stamp begins.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    return _back(y, w.flip(2, 3), stride, padding, output_padding)


@mistake("unet_segmentation", "stamps_overwrite", "where stamps overlap, the later one overwrites the earlier",
         hint="They add up: += instead of =.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    _legal_back(stride, output_padding)
    (B, _, h, v), (_, C, K, L) = y.shape, w.shape
    canvas = y.new_zeros(B, C, (h - 1) * stride + K + output_padding, (v - 1) * stride + L + output_padding)
    for r in range(h):
        for q in range(v):
            stamp = torch.einsum("bo,ockl->bckl", y[:, :, r, q], w)
            canvas[:, :, r * stride:r * stride + K, q * stride:q * stride + L] = stamp
    return canvas[:, :, padding:canvas.shape[2] - padding, padding:canvas.shape[3] - padding]


@mistake("unet_segmentation", "cropped_at_top_left", "all the padding is cropped above and on the left",
         hint="A padding of p takes p rows away above and p below.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    return _back(y, w, stride, 0, output_padding)[:, :, 2 * padding:, 2 * padding:]


@mistake("unet_segmentation", "padded_instead_of_cropped", "the padding makes the result larger",
         hint="It undoes the padding of a convolution: Eq. (14) subtracts 2p.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    return F.pad(_back(y, w, stride, 0, output_padding), (padding,) * 4)


@mistake("unet_segmentation", "padding_ignored", "nothing is cropped",
         hint="Eq. (14) subtracts 2p.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    return _back(y, w, stride, 0, output_padding)


@mistake("unet_segmentation", "output_padding_ignored", "output_padding is not used",
         hint="It tells apart the sizes that a convolution rounds down to the same: Eq. (14).")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    _legal_back(stride, output_padding)
    return _back(y, w, stride, padding, 0)


@mistake("unet_segmentation", "output_padding_above", "output_padding adds rows above and columns on the left",
         hint="It adds them below and on the right.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    wide = _back(y, w, stride, 0, output_padding).roll((output_padding, output_padding), (2, 3))
    return wide[:, :, padding:wide.shape[2] - padding, padding:wide.shape[3] - padding]


@mistake("unet_segmentation", "any_output_padding", "any output_padding is accepted",
         hint="From the stride on it would be another size of y: the contract asks for a ValueError.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    if output_padding >= stride:
        return F.pad(_back(y, w, stride, padding, 0), (0, output_padding, 0, output_padding))
    return _back(y, w, stride, padding, output_padding)


@mistake("unet_segmentation", "stretched", "pixels are repeated before an ordinary convolution",
         hint="Between the pixels of y lie s - 1 zeros, not copies.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    _legal_back(stride, output_padding)
    K, L = w.shape[2:]
    wide = y.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    wide = wide[:, :, :(y.shape[2] - 1) * stride + 1, :(y.shape[3] - 1) * stride + 1]
    full = F.conv2d(wide, w.transpose(0, 1).flip(2, 3), padding=(K - 1, L - 1))
    full = F.pad(full, (0, output_padding, 0, output_padding))
    return full[:, :, padding:full.shape[2] - padding, padding:full.shape[3] - padding]


@mistake("unet_segmentation", "kernel_detached", "the kernel gets no gradient",
         hint="`.detach()`, `.data` and `no_grad` cut the graph.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    return _back(y, w.detach(), stride, padding, output_padding)


@mistake("unet_segmentation", "canvas_float32", "the result is float32 whatever the input",
         hint="`torch.zeros(...)` is float32: take the dtype of y.")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    return _back(y, w, stride, padding, output_padding).float()


@mistake("unet_segmentation", "dice_of_the_batch", "the sums run over the whole batch",
         hint="In Eq. (15) each image has coefficients of its own, so that small objects count as much as large ones.")
def dice_loss(logits, target, eps=1.0):
    return _dice(torch.softmax(logits, 1), _one_hot(target, logits), eps, axes=(0, 2, 3))


@mistake("unet_segmentation", "dice_of_all_classes", "the sums run over the classes as well",
         hint="In Eq. (15) each class has a coefficient of its own.")
def dice_loss(logits, target, eps=1.0):
    return _dice(torch.softmax(logits, 1), _one_hot(target, logits), eps, axes=(1, 2, 3))


@mistake("unet_segmentation", "dice_of_everything", "the sums run over batch, classes and pixels",
         hint="In Eq. (15) each image and class has a coefficient of its own.")
def dice_loss(logits, target, eps=1.0):
    return _dice(torch.softmax(logits, 1), _one_hot(target, logits), eps, axes=(0, 1, 2, 3))


@mistake("unet_segmentation", "dice_softmax_over_pixels", "the softmax runs over a row of pixels",
         hint="The probabilities of the classes of one pixel sum to 1.")
def dice_loss(logits, target, eps=1.0):
    return _dice(torch.softmax(logits, -1), _one_hot(target, logits), eps)


@mistake("unet_segmentation", "dice_sigmoid", "a sigmoid stands in for the softmax",
         hint="The classes exclude each other: the softmax over them.")
def dice_loss(logits, target, eps=1.0):
    return _dice(torch.sigmoid(logits), _one_hot(target, logits), eps)


@mistake("unet_segmentation", "dice_argmax", "the classes are decided before the loss",
         hint="An arg max has no gradient; the loss compares probabilities.")
def dice_loss(logits, target, eps=1.0):
    return _dice(_one_hot(logits.argmax(1), logits), _one_hot(target, logits), eps) + 0 * logits.sum()


@mistake("unet_segmentation", "dice_without_squares", "the probabilities in the denominator are not squared",
         hint="Many libraries do so; Eq. (15) has p².")
def dice_loss(logits, target, eps=1.0):
    return _dice(torch.softmax(logits, 1), _one_hot(target, logits), eps, power=1)


@mistake("unet_segmentation", "dice_coefficient", "the mean coefficient is returned, not one minus it",
         hint="A loss falls when things get better.")
def dice_loss(logits, target, eps=1.0):
    return 1 - _dice(torch.softmax(logits, 1), _one_hot(target, logits), eps)


@mistake("unet_segmentation", "dice_without_two", "the factor 2 in the numerator is missing",
         hint="With it the coefficient of equal sets is 1.")
def dice_loss(logits, target, eps=1.0):
    p, g = torch.softmax(logits, 1), _one_hot(target, logits)
    return 1 - (((p * g).sum((2, 3)) + eps) / ((p**2 + g).sum((2, 3)) + eps)).mean()


@mistake("unet_segmentation", "dice_eps_below_only", "eps is added to the denominator only",
         hint="Eq. (15) has it twice: a class that is absent and not predicted counts 1.")
def dice_loss(logits, target, eps=1.0):
    p, g = torch.softmax(logits, 1), _one_hot(target, logits)
    return 1 - (2 * (p * g).sum((2, 3)) / ((p**2 + g).sum((2, 3)) + eps)).mean()


@mistake("unet_segmentation", "dice_eps_ignored", "eps is always 1",
         hint="eps is an argument; 1 is its default.")
def dice_loss(logits, target, eps=1.0):
    return _dice(torch.softmax(logits, 1), _one_hot(target, logits), 1.0)


@mistake("unet_segmentation", "dice_present_classes", "only classes that occur in the target are averaged",
         hint="The mean in Eq. (15) runs over all B·K coefficients.")
def dice_loss(logits, target, eps=1.0):
    p, g = torch.softmax(logits, 1), _one_hot(target, logits)
    coefficient = (2 * (p * g).sum((2, 3)) + eps) / ((p**2 + g).sum((2, 3)) + eps)
    return 1 - coefficient[g.sum((2, 3)) > 0].mean()


@mistake("unet_segmentation", "skip_behind", "what comes from the way down is put behind what comes from below",
         hint="The contract puts it first; the shapes do not tell.")
class UNet(_Seg):
    def joined(self, here, below):
        return torch.cat([below, here], dim=1)


@mistake("unet_segmentation", "skip_forgotten", "zeros stand in for what was seen on the way down",
         hint="Concatenate what the stage of the same size gave, before pooling.")
class UNet(_Seg):
    def joined(self, here, below):
        return torch.cat([torch.zeros_like(here), below], dim=1)


@mistake("unet_segmentation", "skip_twice", "the stage on the way up reads the skip twice, and nothing from below",
         hint="The second half of its channels comes from the transposed convolution.")
class UNet(_Seg):
    def joined(self, here, below):
        return torch.cat([here, here], dim=1)


@mistake("unet_segmentation", "skip_after_pooling", "the skip is read after pooling, and stretched",
         hint="Keep what the stage gives before it is pooled: that is where the detail is.")
class UNet(_Seg):
    def joined(self, here, below):
        return torch.cat([self.shrunk(here).repeat_interleave(2, 2).repeat_interleave(2, 3), below], dim=1)


@mistake("unet_segmentation", "skip_detached", "no gradient flows through the skips",
         hint="`.detach()` and `.data` cut the graph; keep the tensors as they are.")
class UNet(_Seg):
    def joined(self, here, below):
        return torch.cat([here.detach(), below], dim=1)


@mistake("unet_segmentation", "nearest_neighbour", "pixels are repeated on the way up",
         hint="`rise.{i}` holds the weights of a transposed convolution with stride 2.")
class UNet(_Seg):
    def grown(self, h, w):
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :w.shape[1]]


@mistake("unet_segmentation", "rise_flipped", "the kernels of the way up are turned by 180°",
         hint="`rise.{i}` is used as `conv_transpose2d` uses w: not flipped.")
class UNet(_Seg):
    def grown(self, h, w):
        return F.conv_transpose2d(h, w.flip(2, 3), stride=2)


@mistake("unet_segmentation", "average_pooling", "windows are averaged on the way down",
         hint="The contract pools with the maximum.")
class UNet(_Seg):
    def shrunk(self, h):
        return F.avg_pool2d(h, 2)


@mistake("unet_segmentation", "stage_without_last_relu", "the stages end without a relu",
         hint="Each of the two convolutions is followed by one.")
class UNet(_Seg):
    def stage(self, before, after):
        return super().stage(before, after)[:3]


@mistake("unet_segmentation", "stage_without_first_relu", "there is no relu between the two convolutions of a stage",
         hint="Each of the two convolutions is followed by one.")
class UNet(_Seg):
    def stage(self, before, after):
        whole = super().stage(before, after)
        whole[1] = nn.Identity()
        return whole


@mistake("unet_segmentation", "relu_on_the_logits", "the logits go through a relu",
         hint="Logits may be negative: `head` comes last.")
class UNet(_Seg):
    def forward(self, x):
        return F.relu(super().forward(x))


@mistake("unet_segmentation", "softmax_in_the_network", "the output is a softmax",
         hint="Return the logits: `dice_loss` contains the softmax.")
class UNet(_Seg):
    def forward(self, x):
        return torch.softmax(super().forward(x), dim=1)


@mistake("unet_segmentation", "convolutions_without_bias", "the convolutions have no bias",
         hint="There is no normalization behind them; the contract lists a bias for every weight.")
class UNet(_Seg):
    def stage(self, before, after):
        whole = super().stage(before, after)
        for layer in (whole[0], whole[2]):
            layer.bias = None
        return whole


@mistake("unet_segmentation", "any_size_accepted", "images that cannot be halved so often are filled up with zeros",
         hint="The contract asks for a ValueError.")
class UNet(_Seg):
    def accept(self, x):
        pass

    def forward(self, x):
        H, W = x.shape[2:]
        step = 2 ** len(self.down)
        return super().forward(F.pad(x, (0, -W % step, 0, -H % step)))[:, :, :H, :W]


@mistake("unet_segmentation", "depth_ignored", "the depth is always 2",
         hint="`depth` is an argument; 2 is its default.")
class UNet(_Seg):
    def __init__(self, c_in, n_classes, width=8, depth=2):
        super().__init__(c_in, n_classes, width)


@mistake("unet_segmentation", "width_ignored", "the width is always 8",
         hint="`width` is an argument; 8 is its default.")
class UNet(_Seg):
    def __init__(self, c_in, n_classes, width=8, depth=2):
        super().__init__(c_in, n_classes, depth=depth)


@alternative("unet_segmentation", "zeros_between")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    _legal_back(stride, output_padding)
    (B, _, h, v), (K, L) = y.shape, w.shape[2:]
    wide = y.new_zeros(B, y.shape[1], (h - 1) * stride + 1, (v - 1) * stride + 1)
    wide[:, :, ::stride, ::stride] = y
    full = F.conv2d(F.pad(wide, (L - 1, L - 1 + output_padding, K - 1, K - 1 + output_padding)),
                    w.transpose(0, 1).flip(2, 3))
    return full[:, :, padding:full.shape[2] - padding, padding:full.shape[3] - padding]


@alternative("unet_segmentation", "zeros_between")
def dice_loss(logits, target, eps=1.0):
    return _dice(torch.exp(F.log_softmax(logits, 1)), _one_hot(target, logits), eps)


@alternative("unet_segmentation", "zeros_between")
class UNet(_Seg):
    pass


@alternative("unet_segmentation", "stamp_by_stamp")
def conv_transpose2d(y, w, stride=1, padding=0, output_padding=0):
    _legal_back(stride, output_padding)
    (h, v), (K, L) = y.shape[2:], w.shape[2:]
    size = (h - 1) * stride + K + output_padding, (v - 1) * stride + L + output_padding
    total = 0
    for r in range(h):
        for q in range(v):
            stamp = torch.tensordot(y[:, :, r, q], w, dims=1)
            left, top = q * stride, r * stride
            total = total + F.pad(stamp, (left, size[1] - left - L, top, size[0] - top - K))
    return total[:, :, padding:size[0] - padding, padding:size[1] - padding]


@alternative("unet_segmentation", "stamp_by_stamp")
def dice_loss(logits, target, eps=1.0):
    losses = []
    for image, labels in zip(logits.softmax(1), target, strict=True):
        for k, p in enumerate(image):
            overlap = torch.where(labels == k, p, 0).sum()
            losses.append(1 - (2 * overlap + eps) / (p.pow(2).sum() + (labels == k).sum() + eps))
    return torch.stack(losses).mean()
