"""Checks of the convolutional unit. Public ones need no reference: they state what the equations imply."""
import math

import torch
import torch.nn.functional as F
from etude.adapters import function_of
from etude.checks import exercise, points, public
from etude.compare import assert_same, assert_shape_dtype
from etude.failures import CheckFailure
from etude.properties import (
    assert_batch_independent,
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
from etude.strategies import Argument, Cases, computed, for_all, integers, mask, normal, positive, value_of

# ---------------------------------------------------------------------------------------------- conv2d_forward


def kernel_fits(s):
    """The dilated kernel lies within the padded image."""
    return all(s[image] + 2 * s["padding"] > s["dilation"] * (s[kernel] - 1)
               for image, kernel in (("H", "K"), ("W", "L")))


CONV_SIZES = {"K": (1, 4), "L": (1, 4), "H": (1, 8, 17), "W": (1, 8), "G": (1, 3), "c": (1, 3), "o": (1, 4)}
CONV = Cases(x=normal("B G*c H W"), w=normal("G*o c K L"), b=normal("G*o"), stride=value_of("stride"),
             padding=value_of("padding"), dilation=value_of("dilation"), groups=value_of("G"), sizes=CONV_SIZES,
             flags={"stride": (2, 1, 3), "padding": (1, 0, 3), "dilation": (2, 1, 3)}, legal=kernel_fits,
             also=[{"G": 1, "c": 3}, {"K": 3, "L": 3, "H": 6, "W": 6}])
DEPTHWISE = Cases(x=normal("B C H W"), sizes={"K": (1, 4), "L": (1, 4), "H": (1, 8), "W": (1, 8)},
                  flags={"stride": (2, 1, 3), "padding": (0,), "dilation": (2, 1, 3)}, legal=kernel_fits)


def places(length, kernel, stride, padding, dilation):
    """For every output: which pixels along one axis its window meets; those in the padding are negative or beyond."""
    starts = torch.arange(0, length + 2 * padding - dilation * (kernel - 1), stride) - padding
    return starts[:, None] + dilation * torch.arange(kernel)


@exercise("conv2d_forward")
@points(1)
@public
@for_all(case=DEPTHWISE)
def test_conv_one_pixel_kernel(student, case):
    """A kernel with a single 1, at (k, l), moves the image by d·k and d·l; then every s-th pixel is kept."""
    (x,) = case.arguments().values()
    k, m, d = case.seed % case.K, case.seed // 2 % case.L, case.dilation
    w = torch.zeros(case.C, 1, case.K, case.L, dtype=x.dtype)
    w[:, :, k, m] = 1
    moved = x[..., d * k:case.H - d * (case.K - 1 - k), d * m:case.W - d * (case.L - 1 - m)]
    got = student.conv2d_forward(x, w, None, case.stride, 0, d, case.C)
    assert_same(got, moved[..., ::case.stride, ::case.stride].contiguous(), f"output for a 1 at ({k}, {m})")


@exercise("conv2d_forward")
@points(2)
@public
@for_all(case=CONV)
def test_conv_counts_pixels(student, case):
    """With all pixels and weights 1, an output counts the pixels of its window that lie in the image."""
    x, w, _, *rest = case.arguments().values()
    inside = [((at >= 0) & (at < length)).sum(1).to(x.dtype) for at, length in (
        (places(length, kernel, *rest[:3]), length) for length, kernel in ((case.H, case.K), (case.W, case.L)))]
    expected = case.c * inside[0][:, None] * inside[1]
    got = student.conv2d_forward(torch.ones_like(x), torch.ones_like(w), None, *rest)
    assert_same(got, expected.expand(case.B, case.G * case.o, -1, -1).contiguous(), "number of pixels")


@exercise("conv2d_forward")
@points(1)
@public
@for_all(case=CONV, corners=False)
def test_conv_groups_apart(student, case):
    """Each group is a convolution of its own: of its inputs, with its weights, to its outputs."""
    x, w, b, stride, padding, dilation, groups = case.arguments().values()
    whole = student.conv2d_forward(x, w, b, stride, padding, dilation, groups)
    for g, parts in enumerate(zip(x.chunk(groups, 1), w.chunk(groups), b.chunk(groups), strict=True)):
        alone = student.conv2d_forward(*parts, stride, padding, dilation, 1)
        assert_same(whole[:, g * case.o:(g + 1) * case.o], alone.detach(), f"outputs of group {g}")


@exercise("conv2d_forward")
@points(1)
@public
@for_all(case=CONV, corners=False)
def test_conv_linear_and_bias(student, case):
    """The output is linear in x and in w, and the bias is added once to all pixels of its channel."""
    x, w, b, *rest = case.arguments().values()
    plain = student.conv2d_forward(x, w, None, *rest).detach()
    assert_same(student.conv2d_forward(x, w, b, *rest).detach(), plain + b[:, None, None], "output with a bias")
    assert_same(student.conv2d_forward(-3 * x, w, None, *rest), -3 * plain, "output for -3·x")
    assert_same(student.conv2d_forward(x, 5 * w, None, *rest), 5 * plain, "output for 5·w")


@exercise("conv2d_forward")
@points(1)
@public
@for_all(case=CONV, corners=False)
def test_conv_gradient_consistent(student, case):
    """The gradients of x, w and b agree with finite differences of your own function."""
    assert_gradient_consistent(student.conv2d_forward, case)


@exercise("conv2d_forward")
@points(1)
@public
@for_all(case=CONV, corners=False)
def test_conv_refuses(student, case):
    """ValueError when the groups do not divide the channels, or the kernel is larger than the padded image."""
    x, w, b, stride, padding, dilation, _ = case.arguments().values()
    C = x.shape[1]
    assert_refuses(student.conv2d_forward, x, w[:, :1], b, stride, padding, dilation, C + 1)
    if C > 1:
        assert_refuses(student.conv2d_forward, x, torch.ones(C + 1, 1, 1, 1, dtype=x.dtype), None, 1, 0, 1, C)
    for shape in ((case.H + 2 * padding + 1, 1), (1, case.W + 2 * padding + 1)):
        assert_refuses(student.conv2d_forward, x, torch.ones(2, C, *shape, dtype=x.dtype), None, stride, padding, 1, 1)


@exercise("conv2d_forward")
@points(3)
@for_all(case=CONV)
def test_conv_values_and_gradients(student, reference, case):
    """Values and gradients are right for any sizes, strides, paddings, dilations and groups."""
    assert_equivalent(student.conv2d_forward, reference.conv2d_forward, case)


@exercise("conv2d_forward")
@points(1)
@for_all(case=CONV, corners=False)
def test_conv_as_in_torch(student, case):
    """It does what the library's convolution does, gradients too; by default stride and dilation are 1."""
    assert_equivalent(student.conv2d_forward, F.conv2d, case)
    x, w = torch.randn(2, 2, 3, 5, 6, generator=case.generator(3), dtype=torch.float64)
    assert_same(student.conv2d_forward(x, w[:, :, :3, :2]), F.conv2d(x, w[:, :, :3, :2]), "output with the defaults")


@exercise("conv2d_forward")
@points(1)
@for_all(case=CONV, corners=False)
def test_conv_float32_and_pure(student, reference, case):
    """Inputs are left alone, every image is computed by itself, and float32 is kept."""
    assert_pure(student.conv2d_forward, case)
    assert_batch_independent(student.conv2d_forward, case, "x")
    assert_equivalent(student.conv2d_forward, reference.conv2d_forward, case.but(dtype=torch.float32))


# ---------------------------------------------------------------------------------------------- max_pool2d_with_indices

def pixels(g, shape, sizes):
    """Mostly negative numbers, so that padding with 0 shows; rounded, so that many are equal, where ties are asked."""
    x = torch.randn(shape, generator=g, dtype=torch.float64) - 1.5
    return x.round() if sizes["ties"] else x


def window_fits(s):
    """The padding is legal and the window lies within the padded image."""
    return s["padding"] <= s["K"] // 2 and min(s["H"], s["W"]) + 2 * s["padding"] >= s["K"]


POOL = Cases(x=Argument("B C H W", pixels, floating=True), kernel_size=value_of("K"), stride=value_of("stride"),
             padding=value_of("padding"), sizes={"K": (1, 4), "H": (1, 8, 17), "W": (1, 8)},
             flags={"stride": (2, None, 1, 3, 5), "padding": (1, 0, 2), "ties": (False, True)}, legal=window_fits,
             also=[{"K": 4, "H": 9, "W": 7}, {"K": 3, "H": 7, "W": 8}])


@exercise("max_pool2d_with_indices")
@points(1)
@public
@for_all(case=POOL, corners=False)
def test_pool_index_finds_the_value(student, case):
    """The pixel number idx of the channel, counted row by row, is y."""
    x = case.arguments()["x"]
    y, idx = student.max_pool2d_with_indices(*case.arguments().values())
    assert_shape_dtype(idx, tuple(y.shape), torch.int64, "idx")
    if not bool(((idx >= 0) & (idx < case.H * case.W)).all()):
        raise CheckFailure(f"idx must lie in [0, {case.H * case.W}) for an image of {case.H} by {case.W}; "
                           f"found {int(idx.min())} to {int(idx.max())}.",
                           hint="It counts pixels of one channel of the image, without its padding.")
    r, q = idx // case.W, idx % case.W
    channel = torch.arange(case.C)[:, None, None]
    assert_same(y.detach(), x[torch.arange(case.B)[:, None, None, None], channel, r, q], "y")


@exercise("max_pool2d_with_indices")
@points(2)
@public
@for_all(case=POOL)
def test_pool_order_of_the_pixels(student, case):
    """If brightness falls (or rises) in reading order, a window's first (or last) real pixel wins; so in a tie."""
    _, kernel, stride, padding = case.arguments().values()
    number = torch.arange(case.H * case.W, dtype=torch.float64).reshape(1, 1, case.H, case.W)
    at = [places(length, kernel, stride or kernel, padding, 1) for length in (case.H, case.W)]
    ends = {"first": [one[:, 0].clamp(min=0) for one in at],
            "last": [one[:, -1].clamp(max=length - 1) for one, length in zip(at, (case.H, case.W), strict=True)]}
    for name, picture, end in (("falls", -1 - number, "first"), ("rises", number - 1000, "last"),
                               ("is the same everywhere", -7 * torch.ones_like(number), "first")):
        _, idx = student.max_pool2d_with_indices(picture, kernel, stride, padding)
        expected = ends[end][0][:, None] * case.W + ends[end][1]
        assert_same(idx, expected[None, None], f"idx if the brightness {name}")


@exercise("max_pool2d_with_indices")
@points(1)
@public
@for_all(case=POOL, corners=False)
def test_pool_increasing_maps(student, case):
    """Increasing functions of the pixels change y accordingly, and idx not at all."""
    x, *rest = case.arguments().values()
    y, idx = student.max_pool2d_with_indices(x, *rest)
    for name, change in (("x - 300", lambda t: t - 300), ("exp x", torch.exp), ("8·x", lambda t: 8 * t)):
        assert_same(student.max_pool2d_with_indices(change(x), *rest), (change(y.detach()), idx),
                    f"(y, idx) for {name}")


@exercise("max_pool2d_with_indices")
@points(1)
@public
@for_all(case=POOL)
def test_pool_gradient_of_one_pixel(student, case):
    """The gradient of an output goes to the pixel at its idx, whole, and to no other; in ties, too."""
    y, idx = student.max_pool2d_with_indices(*case.arguments().values())
    (found,) = gradients(student.max_pool2d_with_indices, case)[1]
    cotangent = torch.randn(y.shape, generator=case.generator(), dtype=torch.float64)
    expected = torch.zeros(case.B, case.C, case.H * case.W, dtype=torch.float64)
    for j in range(idx.shape[2] * idx.shape[3]):
        column = idx.flatten(2)[..., j:j + 1]
        expected.scatter_add_(2, column, cotangent.flatten(2)[..., j:j + 1])
    assert_same(found, expected.reshape(case.B, case.C, case.H, case.W), "gradient of x")


@exercise("max_pool2d_with_indices")
@points(1)
@public
@for_all(case=POOL, corners=False)
def test_pool_refuses(student, case):
    """A padding of more than half of the kernel is a ValueError."""
    x, kernel, stride, _ = case.arguments().values()
    assert_refuses(student.max_pool2d_with_indices, x, kernel, stride, kernel // 2 + 1)


@exercise("max_pool2d_with_indices")
@points(2)
@for_all(case=POOL)
def test_pool_values_and_gradients(student, reference, case):
    """Values, places and gradients are right for any sizes, strides, paddings and ties."""
    assert_equivalent(student.max_pool2d_with_indices, reference.max_pool2d_with_indices, case)


def library_pool(x, kernel_size, stride, padding):
    """The library's own pooling."""
    return F.max_pool2d(x.contiguous(), kernel_size, stride, padding, return_indices=True)


@exercise("max_pool2d_with_indices")
@points(1)
@for_all(case=POOL, corners=False)
def test_pool_as_in_torch(student, case):
    """It does what the library's pooling does, gradients too; by default the windows lie side by side."""
    assert_equivalent(student.max_pool2d_with_indices, library_pool, case)
    x = case.arguments()["x"]
    kernel = min(case.K, case.H, case.W)
    assert_same(student.max_pool2d_with_indices(x, kernel), library_pool(x, kernel, None, 0), "with the defaults")


@exercise("max_pool2d_with_indices")
@points(1)
@for_all(case=POOL, corners=False)
def test_pool_float32_and_pure(student, reference, case):
    """Inputs are left alone, every image is computed by itself; float32 is kept, large numbers are no exception."""
    assert_pure(student.max_pool2d_with_indices, case)
    assert_batch_independent(student.max_pool2d_with_indices, case, "x")
    large = case.but(dtype=torch.float32, scale=1e30)
    assert_equivalent(student.max_pool2d_with_indices, reference.max_pool2d_with_indices, large)


# ---------------------------------------------------------------------------------------------- residual_block

def norm(name, channels):
    """Weight and bias of a batch normalization."""
    return {f"{name}.weight": normal(channels), f"{name}.bias": normal(channels)}


BRANCH = {"conv1.weight": normal("O I 3 3", 0.5), **norm("bn1", "O"), "conv2.weight": normal("O O 3 3", 0.5),
          **norm("bn2", "O")}
PROJECTION = {"down.0.weight": normal("O I 1 1"), **norm("down.1", "O")}


def enough(s):
    """In training, more than one value for each channel."""
    return not s["training"] or s["B"] * -(-s["H"] // s["stride"]) * -(-s["W"] // s["stride"]) > 1


IDENTITY = Cases(params=BRANCH, x=normal("B I H W"), sizes={"I": (1, 3), "H": (1, 6, 11), "W": (1, 6)},
                 derived={"O": lambda s: s["I"]}, flags={"stride": (1,), "training": (True, False)}, legal=enough)
PROJECTED = Cases(params={**BRANCH, **PROJECTION}, x=normal("B I H W"),
                  sizes={"I": (1, 3), "O": (1, 4), "H": (1, 6, 11), "W": (1, 6)},
                  flags={"stride": (2, 1, 3), "training": (True, False)},
                  legal=lambda s: enough(s) and (s["stride"], s["I"]) != (1, s["O"]), also=[{"I": 3, "O": 3}])


def with_statistics(state, case):
    """The state, and running statistics drawn for each of its batch normalizations."""
    g, full = case.generator(9), dict(state)
    for name in [key for key in state if key.endswith(".bias") and f"{key.removesuffix('.bias')}.weight" in state]:
        weight = state[f"{name.removesuffix('.bias')}.weight"]
        if weight.dim() == 1:
            mean, var = torch.randn(2, len(weight), generator=g, dtype=torch.float64)
            full[f"{name.removesuffix('.bias')}.running_mean"] = (mean / 2).to(weight.dtype)
            full[f"{name.removesuffix('.bias')}.running_var"] = (0.5 + var.abs()).to(weight.dtype)
    return full


def shapes_of(state):
    """The shapes that a state_dict with these parameters has, with the buffers of its batch normalizations."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for name in [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")]:
        shapes[f"{name}.num_batches_tracked"] = ()
    return shapes


def in_mode(make, case, training=None):
    """A module as a function of its parameters and the input, with drawn running statistics, in the case's mode."""
    def run(params, x):
        module = make()
        state = with_statistics(params, case)
        assert_state_dict(module, shapes_of(state))
        module.train(case.training if training is None else training)
        return torch.func.functional_call(module, {name: value.clone() for name, value in state.items()}, (x,))
    return run


def block_of(notebook, case, training=None):
    """A notebook's block, see in_mode."""
    return in_mode(lambda: notebook.BasicBlock(case.I, case.O, case.stride), case, training)


def loaded(module, state):
    """The module with these parameters and buffers, in float64."""
    module.double()
    assert_state_dict(module, shapes_of(state))
    module.load_state_dict({**module.state_dict(), **{name: value.detach() for name, value in state.items()}})
    return module


def assert_trained(module):
    """Every parameter would be trained."""
    frozen = sorted(name for name, part in module.named_parameters() if not part.requires_grad)
    if frozen:
        raise CheckFailure(f"no optimizer would train {', '.join(frozen)}.",
                           hint="nn.Conv2d, nn.BatchNorm2d and nn.Linear make trainable parameters by themselves.")


@exercise("residual_block")
@points(1)
@public
@for_all(case=PROJECTED, corners=False)
def test_block_contract(student, case):
    """The state_dict has the keys and shapes of the contract; a projection is there only where it is needed."""
    projected, plain = student.BasicBlock(case.I, case.O, case.stride), student.BasicBlock(case.O, case.O)
    params = case.arguments()["params"]
    assert_state_dict(projected, shapes_of(with_statistics(params, case)))
    small = IDENTITY.case({"B": 2, "I": case.O, "H": 2, "W": 2}).arguments()["params"]
    assert_state_dict(plain, shapes_of(with_statistics(small, case)))
    assert_trained(projected)


@exercise("residual_block")
@points(2)
@public
@for_all(case=IDENTITY, corners=False)
def test_block_without_branch(student, case):
    """If the weight of bn2 is 0 and its bias β, what remains is relu(x + β): in training and in evaluation."""
    params, x = case.arguments().values()
    params["bn2.weight"] = torch.zeros_like(params["bn2.weight"])
    expected = (x + params["bn2.bias"][:, None, None]).clamp(min=0)
    assert_same(block_of(student, case)(params, x).detach(), expected, "output")


@exercise("residual_block")
@points(1)
@public
@for_all(case=PROJECTED)
def test_block_projection(student, case):
    """If bn2 gives 0, what remains in evaluation is the relu of the normalized projection of every s-th pixel."""
    params, x = case.arguments().values()
    for name in ("bn2.weight", "bn2.bias"):
        params[name] = torch.zeros_like(params[name])
    state = with_statistics(params, case)
    seen = torch.einsum("bihw,oi->bohw", x[..., ::case.stride, ::case.stride], params["down.0.weight"][..., 0, 0])
    mean, var, weight, bias = (state[f"down.1.{name}"][:, None, None]
                               for name in ("running_mean", "running_var", "weight", "bias"))
    expected = ((seen - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)
    assert_same(block_of(student, case, training=False)(params, x).detach(), expected, "output")


@exercise("residual_block")
@points(1)
@public
@for_all(case=PROJECTED, corners=False)
def test_block_modes(student, case):
    """A call in training updates each batch normalization once; calls in evaluation are repeatable and update none."""
    params, x = case.arguments().values()
    if x.shape[0] * math.prod(-(-n // case.stride) for n in x.shape[2:]) == 1:
        x = x.expand(2, -1, -1, -1)
    block = loaded(student.BasicBlock(case.I, case.O, case.stride), with_statistics(params, case))
    block.train()
    block(x)
    state = block.state_dict()
    for name in ("bn1", "bn2", "down.1"):
        assert_same(int(state[f"{name}.num_batches_tracked"]), 1, f"number of batches that {name} has seen")
    assert_eval_deterministic(block, x)


@exercise("residual_block")
@points(1)
@public
@for_all(case=IDENTITY, corners=False)
def test_block_gradient_consistent(student, case):
    """The gradients agree with finite differences of your own block, and reach the weights of both convolutions."""
    block = block_of(student, case)
    assert_gradient_consistent(block, case)


@exercise("residual_block")
@points(2)
@for_all(case=IDENTITY)
def test_block_identity_values(student, reference, case):
    """With an identity shortcut, values and gradients are right in both modes."""
    assert_equivalent(block_of(student, case), block_of(reference, case), case)


@exercise("residual_block")
@points(2)
@for_all(case=PROJECTED)
def test_block_projected_values(student, reference, case):
    """With a projection, values and gradients are right in both modes, for any stride."""
    assert_equivalent(block_of(student, case), block_of(reference, case), case)


def normalized(h, state, name, training):
    """Batch normalization by its definition."""
    moments = (h.mean((0, 2, 3)), h.var((0, 2, 3), unbiased=False))
    mean, var = moments if training else (state[f"{name}.running_mean"], state[f"{name}.running_var"])
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return torch.einsum("bchw,c->bchw", h - mean[:, None, None], weight / (var + 1e-5).sqrt()) + bias[:, None, None]


def plain_block(case):
    """The block as a formula."""
    def run(params, x):
        state = with_statistics(params, case)
        out = F.conv2d(x, state["conv1.weight"], stride=case.stride, padding=1)
        out = normalized(out, state, "bn1", case.training).clamp(min=0)
        out = normalized(F.conv2d(out, state["conv2.weight"], padding=1), state, "bn2", case.training)
        if "down.0.weight" in state:
            x = normalized(F.conv2d(x, state["down.0.weight"], stride=case.stride), state, "down.1", case.training)
        return torch.where(out + x > 0, out + x, 0)
    return run


@exercise("residual_block")
@points(1)
@for_all(case=PROJECTED, corners=False)
def test_block_as_a_formula(student, case):
    """Values and gradients are those of Eq. (4), written out."""
    assert_equivalent(block_of(student, case), plain_block(case), case)


BLOCK_INPUT = Cases(x=normal("B I H W"), sizes={"B": (2, 3), "I": (1, 3), "H": (2, 5), "W": (2, 5)},
                    flags={"stride": (1, 2)})


@exercise("residual_block")
@points(1)
@for_all(case=BLOCK_INPUT, corners=False)
def test_block_one_module(student, case):
    """One block leaves its input alone and keeps nothing but its statistics; it works in float32 as in float64."""
    block = student.BasicBlock(case.I, case.I, case.stride)
    for mode in (True, False):
        block.train(mode)
        assert_pure(block, case.but(dtype=torch.float32))
    x = case.arguments()["x"]
    single = block(x.float())
    assert_same(single, block.double()(x).float(), "output in float32", tolerance=1e-4)


# ---------------------------------------------------------------------------------------------- tiny_convnet

NET_STATE = {"conv1.weight": normal("w c 3 3", 0.5), **norm("bn1", "w"), "conv2.weight": normal("2*w w 3 3", 0.5),
             **norm("bn2", "2*w"), "fc.weight": normal("n 2*w"), "fc.bias": normal("n")}
NET = Cases(params=NET_STATE, x=normal("B c H W"),
            sizes={"c": (1, 3), "w": (1, 3), "n": (1, 4), "H": (2, 7, 13), "W": (2, 7)},
            flags={"training": (True, False)},
            legal=lambda s: not s["training"] or s["B"] * (s["H"] // 2) * (s["W"] // 2) > 1)


def net_of(notebook, case, training=None):
    """A notebook's classifier, see in_mode."""
    return in_mode(lambda: notebook.TinyConvNet(case.c, case.n, case.w), case, training)


@exercise("tiny_convnet")
@points(1)
@public
@for_all(case=NET, corners=False)
def test_net_contract(student, case):
    """The state_dict has the keys and shapes of the contract; the default width is 8."""
    net = student.TinyConvNet(case.c, case.n, case.w)
    assert_state_dict(net, shapes_of(with_statistics(case.arguments()["params"], case)))
    assert_trained(net)
    assert_same(tuple(student.TinyConvNet(case.c, case.n).state_dict()["conv2.weight"].shape), (16, 8, 3, 3),
                "shape of conv2.weight by default")


@exercise("tiny_convnet")
@points(1)
@public
@for_all(case=NET, corners=False)
def test_net_gives_logits(student, case):
    """The output is the linear layer's: it is fc.bias if fc.weight is 0, and three times as large if both are."""
    params, x = case.arguments().values()
    net = net_of(student, case)
    idle = params | {"fc.weight": torch.zeros_like(params["fc.weight"])}
    assert_same(net(idle, x).detach(), params["fc.bias"].expand(case.B, -1).contiguous(), "output if fc.weight is 0")
    larger = params | {name: 3 * params[name] for name in ("fc.weight", "fc.bias")}
    assert_same(net(larger, x), 3 * net(params, x).detach(), "output if fc is three times as large")


@exercise("tiny_convnet")
@points(1)
@public
@for_all(case=NET, corners=False)
def test_net_averages(student, case):
    """If all features are equal over the image, the size of the image does not matter."""
    params, x = case.arguments().values()
    params["conv2.weight"] = torch.zeros_like(params["conv2.weight"])
    state = with_statistics(params, case)
    level = (0 - state["bn2.running_mean"]) / (state["bn2.running_var"] + 1e-5).sqrt()
    features = (level * params["bn2.weight"] + params["bn2.bias"]).clamp(min=0)
    expected = (params["fc.weight"] * features).sum(1) + params["fc.bias"]
    assert_same(net_of(student, case, training=False)(params, x).detach(), expected.expand(case.B, -1).contiguous(),
                "output if conv2 gives 0")


@exercise("tiny_convnet")
@points(1)
@public
@for_all(case=NET, corners=False)
def test_net_ignores_place(student, case):
    """In evaluation a pattern on an empty image gets the same scores if it moves by an even number of pixels."""
    params, x = case.arguments().values()
    net, scores = net_of(student, case, training=False), []
    for top, left in ((6, 6), (8, 6), (10, 12)):
        canvas = torch.zeros(case.B, case.c, case.H + 16, case.W + 18, dtype=x.dtype)
        canvas[..., top:top + case.H, left:left + case.W] = x
        scores.append(net(params, canvas).detach())
    if not torch.isfinite(scores[0]).all():
        raise CheckFailure("the scores are not finite.")
    assert_same(scores[1], scores[0], "scores after a shift by two rows")
    assert_same(scores[2], scores[0], "scores after a shift by four rows and six columns")


@exercise("tiny_convnet")
@points(1)
@public
@for_all(case=NET, corners=False)
def test_net_modes(student, case):
    """Training updates the statistics; in evaluation calls are repeatable and each image is judged by itself."""
    params, x = case.arguments().values()
    x = x.expand(max(case.B, 2), -1, -1, -1) if case.B == 1 else x
    net = loaded(student.TinyConvNet(case.c, case.n, case.w), with_statistics(params, case))
    net.train()
    net(x)
    state = net.state_dict()
    for name in ("bn1", "bn2"):
        assert_same(int(state[f"{name}.num_batches_tracked"]), 1, f"number of batches that {name} has seen")
    assert_eval_deterministic(net, x)
    net.eval()
    whole = net(x).detach()
    if not torch.isfinite(whole).all():
        raise CheckFailure("the scores are not finite.")
    for b in range(len(x)):
        assert_same(net(x[b:b + 1]), whole[b:b + 1], f"scores of image {b} alone")


@exercise("tiny_convnet")
@points(1)
@public
@for_all(case=NET, corners=False)
def test_net_gradient_consistent(student, case):
    """The gradients agree with finite differences of your own network."""
    net = net_of(student, case)
    assert_gradient_consistent(net, case)


@exercise("tiny_convnet")
@points(3)
@for_all(case=NET)
def test_net_values_and_gradients(student, reference, case):
    """Values and gradients, those of all parameters too, are right in both modes and for any size."""
    assert_equivalent(net_of(student, case), net_of(reference, case), case)


def plain_net(case):
    """The network as a formula."""
    def run(params, x):
        state = with_statistics(params, case)
        h = normalized(F.conv2d(x, state["conv1.weight"], padding=1), state, "bn1", case.training).clamp(min=0)
        h = h.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
        h = normalized(F.conv2d(h, state["conv2.weight"], padding=1), state, "bn2", case.training).clamp(min=0)
        return torch.einsum("bchw,nc->bn", h, state["fc.weight"]) / math.prod(h.shape[2:]) + state["fc.bias"]
    return run


@exercise("tiny_convnet")
@points(1)
@for_all(case=NET, corners=False)
def test_net_as_a_formula(student, case):
    """The scores are those of Eqs. (5)-(6), written out; one network leaves its input alone and keeps float32."""
    assert_equivalent(net_of(student, case), plain_net(case), case, grad=False)
    x = case.arguments()["x"]
    image = NET_INPUT.case({"B": 2, "c": case.c, "H": case.H, "W": case.W}, seed=case.seed)
    net = student.TinyConvNet(case.c, case.n, case.w)
    assert_pure(net, image.but(dtype=torch.float32))
    assert_shape_dtype(net.eval()(x.float()), (case.B, case.n), torch.float32)


NET_INPUT = Cases(x=normal("B c H W"))


# ---------------------------------------------------------------------------------------------- box_iou_nms

def boxes(dims):
    """Boxes of sides 0.5 to 6 with centres in a square of side 8: about half of the pairs overlap."""
    def make(g, shape, sizes):
        u = torch.rand((*shape[:-1], 4), generator=g, dtype=torch.float64)
        centre, half = 8 * u[..., :2], 0.25 + 2.75 * u[..., 2:]
        return torch.cat([centre - half, centre + half], dim=-1)
    return Argument(dims, make, floating=True)


def scores_of(g, shape, sizes):
    """Scores; many are equal where ties are asked."""
    scores = torch.randn(shape, generator=g, dtype=torch.float64)
    return scores.round() if sizes["ties"] else scores


IOU = Cases(a=boxes("N 4"), b=boxes("M 4"), sizes={"N": (1, 6, 40), "M": (1, 5, 40)})
NMS = Cases(boxes=boxes("N 4"), scores=Argument("N", scores_of, floating=True), thr=value_of("thr"),
            sizes={"N": (1, 12, 40)}, flags={"thr": (0.3, 0.0, 0.1, 0.7, 1.0), "ties": (False, True)},
            also=[{"N": 12}, {"N": 25}])
CLASSES = Cases(boxes=boxes("N 4"), scores=Argument("N", scores_of, floating=True), labels=integers("N", 0, 3),
                thr=value_of("thr"), sizes=NMS.sizes, flags=NMS.flags, also=[{"N": 12}, {"N": 25}])


def overlap(one, other):
    """IoU of two boxes, as Python numbers."""
    (a, b, c, d), (e, f, g, h) = one.tolist(), other.tolist()
    wide, tall = min(c, g) - max(a, e), min(d, h) - max(b, f)
    if wide <= 0 or tall <= 0:
        return 0.0
    return wide * tall / ((c - a) * (d - b) + (g - e) * (h - f) - wide * tall)


def assert_survivors(keep, boxes, scores, labels, thr):
    """`keep` is what is left: sorted by score; nobody kept is suppressed by a better one, all others are."""
    if not isinstance(keep, torch.Tensor) or keep.dim() != 1 or keep.dtype is not torch.int64:
        raise CheckFailure("the result is one tensor of indices, (K,) long.")
    kept = keep.tolist()
    if len(set(kept)) != len(kept) or not all(0 <= i < len(boxes) for i in kept):
        raise CheckFailure(f"expected different indices in [0, {len(boxes)}), got {kept}.")
    rank = {i: (-float(scores[i]), i) for i in range(len(boxes))}
    if kept != sorted(kept, key=rank.get):
        raise CheckFailure(f"the indices {kept} are not in the order of falling scores, equal scores by index.")
    for i in range(len(boxes)):
        better = [j for j in kept if rank[j] < rank[i] and labels[i] == labels[j]
                  and overlap(boxes[i], boxes[j]) > thr]
        if i in kept and better:
            raise CheckFailure(f"box {i} is kept, but overlaps with the better box {better[0]}, kept too, by "
                               f"{overlap(boxes[i], boxes[better[0]]):.4g}; the threshold is {thr:g}.")
        if i not in kept and not better:
            raise CheckFailure(f"box {i} is missing, but no better box that was kept suppresses it.",
                               hint="Boxes that were suppressed themselves suppress nothing.")


@exercise("box_iou_nms")
@points(1)
@public
@for_all(case=IOU)
def test_iou_symmetric(student, case):
    """IoU is symmetric, 1 on the diagonal, and in the shape (boxes of a, boxes of b)."""
    a, b = case.arguments().values()
    there, back = student.box_iou(a, b), student.box_iou(b, a)
    assert_shape_dtype(there, (case.N, case.M), a.dtype)
    assert_same(back, there.detach().T.contiguous(), "IoU of b and a")
    assert_same(student.box_iou(a, a).diagonal(), torch.ones(case.N, dtype=a.dtype), "IoU of a box with itself")


@exercise("box_iou_nms")
@points(2)
@public
@for_all(case=IOU, corners=False)
def test_iou_moved_boxes(student, case):
    """A box moved by a share u of its sides overlaps by v / (2 - v), v = (1 - u₁)(1 - u₂); beyond its sides, by 0."""
    a, _ = case.arguments().values()
    side = (a[:, 2:] - a[:, :2])
    for u in ((0.25, 0.0), (0.0, 0.5), (0.5, 0.75), (2.0, 0.0), (3.0, 2.5), (0.0, 1.5), (-0.5, 0.5), (-3.0, 2.0)):
        move = side * torch.tensor(u, dtype=a.dtype)
        share = math.prod(max(1 - abs(one), 0.0) for one in u)
        got = student.box_iou(a, torch.cat([a[:, :2] + move, a[:, 2:] + move], dim=1)).diagonal()
        assert_same(got, torch.full((case.N,), share / (2 - share), dtype=a.dtype), f"IoU of boxes moved by {u}")
    inner = torch.cat([a[:, :2] + 0.25 * side, a[:, 2:] - 0.25 * side], dim=1)
    assert_same(student.box_iou(a, inner).diagonal(), torch.full((case.N,), 0.25, dtype=a.dtype),
                "IoU with the inner quarter")


@exercise("box_iou_nms")
@points(1)
@public
@for_all(case=IOU, corners=False)
def test_iou_units(student, case):
    """IoU does not depend on the units: scaled by a thousandth or a thousand, and moved, it stays the same."""
    for factor, shift in ((1e-3, 0.0), (1e3, 0.0), (1.0, 5.0)):
        def change(arguments, factor=factor, shift=shift):
            return {name: factor * one + shift for name, one in arguments.items()}
        assert_invariant(student.box_iou, case, change, f"all coordinates are multiplied by {factor:g} plus {shift:g}")


@exercise("box_iou_nms")
@points(1)
@public
@for_all(case=IOU, corners=False)
def test_iou_gradient_and_no_area(student, case):
    """The gradient agrees with finite differences; boxes without area have IoU 0, with gradients that are not NaN."""
    assert_gradient_consistent(student.box_iou, case)
    a = case.arguments()["a"].contiguous()
    points_only = torch.cat([a[:, :2], a[:, :2]], dim=1).requires_grad_()
    found = student.box_iou(points_only, points_only.detach())
    assert_same(found.detach(), torch.zeros(case.N, case.N, dtype=a.dtype), "IoU of boxes without area")
    if found.requires_grad:
        (gradient,) = torch.autograd.grad(found.sum(), points_only)
        assert_same(gradient, torch.zeros_like(gradient), "gradient for boxes without area")


@exercise("box_iou_nms")
@points(2)
@public
@for_all(case=NMS)
def test_nms_survivors(student, case):
    """nms keeps the best box, and every box that no better kept box suppresses; sorted by score."""
    where, scores, thr = case.arguments().values()
    assert_survivors(student.nms(where, scores, thr), where, scores, [0] * case.N, thr)


@exercise("box_iou_nms")
@points(1)
@public
def test_nms_at_the_threshold(student):
    """An IoU equal to the threshold does not suppress; of equal scores the smaller index is first; no boxes: none."""
    where = torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 1], [10, 10, 11, 11]], dtype=torch.float64)
    scores = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    assert_same(student.nms(where, scores, 0.5), torch.tensor([1, 2, 0]), "kept at the threshold ½ with an IoU of ½")
    assert_same(student.nms(where, scores, 0.49), torch.tensor([1, 2]), "kept at the threshold 0.49 with an IoU of ½")
    assert_same(student.nms(where[[2] * 20], torch.ones(20, dtype=torch.float64), 0.5), torch.tensor([0]),
                "kept of 20 equal boxes")
    none = student.nms(where[:0], scores[:0], 0.5)
    assert_shape_dtype(none, (0,), torch.int64, "kept of no boxes")


@exercise("box_iou_nms")
@points(1)
@public
@for_all(case=CLASSES, corners=False)
def test_nms_of_classes(student, case):
    """batched_nms: boxes suppress boxes of their own class only; the order is by score over all classes."""
    where, scores, labels, thr = case.arguments().values()
    assert_survivors(student.batched_nms(where, scores, labels, thr), where, scores, labels.tolist(), thr)


@exercise("box_iou_nms")
@points(2)
@for_all(case=IOU)
def test_iou_values_and_gradients(student, reference, case):
    """IoU and its gradients are right for any number of boxes."""
    assert_equivalent(student.box_iou, reference.box_iou, case)


@exercise("box_iou_nms")
@points(2)
@for_all(case=CLASSES)
def test_nms_values(student, reference, case):
    """nms and batched_nms keep the right boxes for any number, scores, threshold and classes."""
    where, scores, labels, thr = case.arguments().values()
    assert_equivalent(student.batched_nms, reference.batched_nms, case, grad=False)
    assert_same(student.nms(where, scores, thr), reference.nms(where, scores, thr), "nms")
    far = 1e6 * where
    assert_same(student.batched_nms(far, scores, labels - 1, thr), reference.batched_nms(far, scores, labels - 1, thr),
                "batched_nms in small units")


@exercise("box_iou_nms")
@points(1)
@for_all(case=CLASSES, corners=False)
def test_boxes_float32_and_pure(student, reference, case):
    """Inputs are left alone; IoU keeps float32 and stays finite for large boxes."""
    pair = IOU.case({"N": case.N, "M": 3}, seed=case.seed, layout=case.layout)
    assert_pure(student.box_iou, pair)
    assert_pure(student.batched_nms, case)
    assert_pure(student.nms, NMS.case({"N": case.N}, {"thr": case.thr, "ties": case.ties}, seed=case.seed))
    assert_equivalent(student.box_iou, reference.box_iou, pair.but(dtype=torch.float32))
    assert_finite_at(student.box_iou, pair)


# ---------------------------------------------------------------------------------------------- box_codec_focal

ENCODE = Cases(gt=boxes("N 4"), anchors=boxes("N 4"), sizes={"N": (1, 5, 30)})
DECODE = Cases(t=normal("N 4", 0.6), anchors=boxes("N 4"), sizes={"N": (1, 5, 30)})
FOCAL = Cases(logits=normal("N", 3.0), y=mask("N", keep=0.4, empty_rows=0.2), alpha=value_of("alpha"),
              gamma=value_of("gamma"), sizes={"N": (1, 7, 40)},
              flags={"alpha": (0.25, 0.6, 0.0, 1.0), "gamma": (2.0, 0.0, 0.5, 1.0, 3.5)}, also=[{"N": 7}, {"N": 12}])


@exercise("box_codec_focal")
@points(1)
@public
@for_all(case=ENCODE)
def test_codec_round_trip(student, case):
    """Decoding undoes encoding, and the code of an anchor itself is 0."""
    gt, anchors = case.arguments().values()
    assert_same(student.encode_boxes(anchors, anchors), torch.zeros(case.N, 4, dtype=gt.dtype), "code of the anchors")
    code = student.encode_boxes(gt, anchors)
    assert_same(student.decode_boxes(code, anchors), gt.contiguous(), "decoded boxes")


@exercise("box_codec_focal")
@points(1)
@public
@for_all(case=ENCODE, corners=False)
def test_encode_units(student, case):
    """The code does not change if box and anchor move together, or are scaled together."""
    def change(arguments):
        return {name: 8 * one + torch.tensor([3.0, -5, 3, -5], dtype=one.dtype) for name, one in arguments.items()}
    assert_invariant(student.encode_boxes, case, change, "box and anchor are scaled by 8 and moved together")


@exercise("box_codec_focal")
@points(2)
@public
@for_all(case=DECODE)
def test_codec_moves_and_stretches(student, case):
    """A box moved by shares of the anchor's sides and stretched about its centre has these shares and logarithms."""
    t, anchors = case.arguments().values()
    middle = (anchors[:, [0, 1]] + anchors[:, [2, 3]]) / 2
    wide, tall = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    x, y = middle[:, 0] + t[:, 0] * wide, middle[:, 1] + t[:, 1] * tall
    a, b = wide * torch.exp(t[:, 2]), tall * torch.exp(t[:, 3])
    box = torch.stack([x - a / 2, y - b / 2, x + a / 2, y + b / 2], dim=1)
    assert_same(student.encode_boxes(box, anchors), t.contiguous(), "code")
    assert_same(student.decode_boxes(t, anchors), box, "decoded box")


@exercise("box_codec_focal")
@points(1)
@public
@for_all(case=FOCAL, corners=False)
def test_focal_without_focus(student, case):
    """For γ = 0 and α = ½ the loss is half of the summed binary cross-entropy, over the number of objects."""
    logits, y, _, _ = case.arguments().values()
    total = F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="sum")
    assert_same(student.focal_loss(logits, y, 0.5, 0.0), total / 2 / max(int(y.sum()), 1), "loss")


@exercise("box_codec_focal")
@points(2)
@public
@for_all(case=FOCAL)
def test_focal_of_equal_anchors(student, case):
    """m anchors with an object at probability p, and n without at q, cost -α(1-p)^γ log p - (n/m)(1-α) q^γ log(1-q)."""
    logits, _, alpha, gamma = case.arguments().values()
    p, q = torch.sigmoid(logits[0] / 2), torch.sigmoid(logits[-1] / 2)
    for m, n in ((3, 0), (2, 5), (1, 1), (0, 4)):
        together = torch.cat([(logits[:1] / 2).expand(m), (logits[-1:] / 2).expand(n)])
        object_cost = -alpha * (1 - p) ** gamma * torch.log(p) if m else 0
        other_cost = -(1 - alpha) * q ** gamma * torch.log(1 - q) * n / max(m, 1)
        got = student.focal_loss(together, torch.arange(m + n) < m, alpha, gamma)
        assert_same(got, object_cost + other_cost, f"loss of {m} anchors with an object and {n} without")


@exercise("box_codec_focal")
@points(1)
@public
def test_focal_far_out(student):
    """Far out, in float32, losses and gradients are finite: a logit of 1e4 costs 1e4 times α_t if wrong, 0 if right."""
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4, 200.0, -200.0])
    y = torch.tensor([True, True, False, False, True, False])
    for gamma in (0.0, 0.5, 1.0, 2.0):
        x = logits.clone().requires_grad_()
        loss = student.focal_loss(x, y, 0.3, gamma)
        assert_same(loss.detach(), torch.tensor((0.3 + 0.7) * 1e4 / 3), f"loss for γ = {gamma:g}")
        if not loss.requires_grad or not torch.isfinite(torch.autograd.grad(loss, x)[0]).all():
            raise CheckFailure(f"the gradient is missing or not finite for γ = {gamma:g} at logits of ±200 and ±10000.",
                               hint="0 times infinity is NaN: look at the logarithm, and at the power for γ < 1.")


@exercise("box_codec_focal")
@points(1)
@public
@for_all(case=FOCAL, corners=False)
def test_codec_and_focal_gradients(student, case):
    """The gradients of all three functions agree with finite differences."""
    assert_gradient_consistent(student.focal_loss, case)
    sizes = {"N": min(case.N, 4)}
    assert_gradient_consistent(student.encode_boxes, ENCODE.case(sizes, seed=case.seed))
    assert_gradient_consistent(student.decode_boxes, DECODE.case(sizes, seed=case.seed))


@exercise("box_codec_focal")
@points(2)
@for_all(case=DECODE)
def test_codec_values_and_gradients(student, reference, case):
    """Codes and boxes, and their gradients, are right."""
    assert_equivalent(student.decode_boxes, reference.decode_boxes, case)
    assert_equivalent(student.encode_boxes, reference.encode_boxes,
                      ENCODE.case({"N": case.N}, seed=case.seed, layout=case.layout))


@exercise("box_codec_focal")
@points(2)
@for_all(case=FOCAL)
def test_focal_values_and_gradients(student, reference, case):
    """The loss and its gradient are right for any α and γ, also with no object at all; α and γ have their defaults."""
    assert_equivalent(student.focal_loss, reference.focal_loss, case)
    logits, y, _, _ = case.arguments().values()
    assert_same(student.focal_loss(logits, y), reference.focal_loss(logits, y, 0.25, 2.0), "loss with the defaults")


@exercise("box_codec_focal")
@points(1)
@for_all(case=FOCAL, corners=False)
def test_codec_float32_and_pure(student, reference, case):
    """Inputs are left alone and float32 is kept."""
    for name, spec in (("encode_boxes", ENCODE), ("decode_boxes", DECODE)):
        own = spec.case({"N": min(case.N, 4)}, seed=case.seed)
        assert_pure(getattr(student, name), own)
        assert_equivalent(getattr(student, name), getattr(reference, name), own.but(dtype=torch.float32))
    assert_pure(student.focal_loss, case)
    assert_equivalent(student.focal_loss, reference.focal_loss, case.but(dtype=torch.float32))
    assert_finite_at(student.focal_loss, case)


# ---------------------------------------------------------------------------------------------- unet_segmentation

def some_image(s):
    """The result of the transposed convolution has at least one pixel, and the output padding is legal."""
    return s["output_padding"] < s["stride"] and all(
        (s[image] - 1) * s["stride"] - 2 * s["padding"] + s[kernel] + s["output_padding"] > 0
        for image, kernel in (("h", "K"), ("v", "L")))


TRANSPOSED = Cases(y=normal("B O h v"), w=normal("O C K L"), stride=value_of("stride"), padding=value_of("padding"),
                   output_padding=value_of("output_padding"),
                   sizes={"K": (1, 4), "L": (1, 4), "h": (1, 5, 11), "v": (1, 5)},
                   flags={"stride": (2, 1, 3, 5), "padding": (0, 1, 2), "output_padding": (0, 1, 2)}, legal=some_image,
                   also=[{"O": 3, "C": 3}, {"K": 3, "L": 3, "h": 4, "v": 4}])
DICE = Cases(logits=normal("B K H W", 2.0), target=integers("B H W", 0, "K"), eps=value_of("eps"),
             sizes={"K": (1, 4), "H": (1, 5, 9)}, flags={"eps": (1.0, 1e-3, 5.0)})


def length(size, kernel, stride, padding, output_padding):
    """Eq. (14)."""
    return stride * size - stride + kernel + output_padding - 2 * padding


def two_convolutions(name, before, after):
    """Weights and biases of a stage."""
    return {f"{name}.0.weight": normal(f"{after} {before} 3 3", 0.5), f"{name}.0.bias": normal(after),
            f"{name}.2.weight": normal(f"{after} {after} 3 3", 0.5), f"{name}.2.bias": normal(after)}


def unet_case(depth, widths):
    """U-Nets of this depth; the image is m by k times the smallest that can be halved so often."""
    state = two_convolutions("bottom", widths[-2], widths[-1])
    for i, (before, after, below) in enumerate(zip(["c", *widths], widths[:-1], widths[1:], strict=False)):
        state |= two_convolutions(f"down.{i}", before, after)
        state |= two_convolutions(f"up.{i}", f"2*{after}", after)
        state[f"rise.{i}"] = normal(f"{below} {after} 2 2", 0.5)
    state |= {"head.weight": normal("n w 1 1"), "head.bias": normal("n")}
    return Cases(params=state, x=normal("B c H W"),
                 sizes={"w": (1, 2), "c": (1, 3), "n": (1, 4), "B": (1, 3), "m": (1, 2, 3), "k": (1, 3)},
                 derived={"H": lambda s: s["m"] * 2**depth, "W": lambda s: s["k"] * 2**depth},
                 flags={"depth": (depth,)})


UNET1, UNET2 = unet_case(1, ["w", "2*w"]), unet_case(2, ["w", "2*w", "4*w"])


def unet_of(notebook, case):
    """A notebook's U-Net as a function of its parameters and the image."""
    return function_of(notebook.UNet, case.c, case.n, case.w, case.depth)


@exercise("unet_segmentation")
@points(1)
@public
@for_all(case=TRANSPOSED)
def test_transposed_stamps(student, case):
    """A single bright pixel becomes a copy of the kernel, at s times its place; outside of that there is nothing."""
    _, w, stride, padding, output_padding = case.arguments().values()
    r, q, o = case.seed % case.h, case.seed // 3 % case.v, case.seed % case.O
    y = torch.zeros(1, case.O, case.h, case.v, dtype=w.dtype)
    y[0, o, r, q] = 3
    H, W = (length(size, kernel, stride, padding, output_padding)
            for size, kernel in ((case.h, case.K), (case.v, case.L)))
    expected = torch.zeros(1, case.C, H, W, dtype=w.dtype)
    for k in range(max(0, padding - stride * r), min(case.K, H + padding - stride * r)):
        for m in range(max(0, padding - stride * q), min(case.L, W + padding - stride * q)):
            expected[0, :, stride * r + k - padding, stride * q + m - padding] = 3 * w[o, :, k, m]
    got = student.conv_transpose2d(y, w, stride, padding, output_padding)
    assert_same(got, expected, f"output for a single bright pixel at ({r}, {q})")


@exercise("unet_segmentation")
@points(2)
@public
@for_all(case=TRANSPOSED)
def test_transposed_is_adjoint(student, case):
    """⟨conv(x, w), y⟩ = ⟨x, conv_transpose2d(y, w)⟩ for every x; an output padding of the stride is a ValueError."""
    y, w, stride, padding, output_padding = case.arguments().values()
    back = student.conv_transpose2d(y, w, stride, padding, output_padding)
    H, W = (length(size, kernel, stride, padding, output_padding)
            for size, kernel in ((case.h, case.K), (case.v, case.L)))
    assert_shape_dtype(back, (case.B, case.C, H, W), y.dtype)
    x = torch.randn(back.shape, generator=case.generator(4), dtype=y.dtype)
    there = (F.conv2d(x, w, None, stride, padding) * y).sum()
    assert_same((back * x).sum(), there, "⟨x, conv_transpose2d(y, w)⟩")
    assert_refuses(student.conv_transpose2d, y, w, stride, 0, stride)


@exercise("unet_segmentation")
@points(1)
@public
@for_all(case=DICE)
def test_dice_undecided(student, case):
    """Where all logits are equal, D = (2n/K + ε) / (HW/K² + n + ε) for a class with n pixels of the image."""
    logits, target, eps = case.arguments().values()
    n = torch.stack([(target == k).flatten(1).sum(1) for k in range(case.K)], dim=1).to(logits.dtype)
    coefficient = (2 * n / case.K + eps) / (case.H * case.W / case.K**2 + n + eps)
    got = student.dice_loss(torch.full_like(logits, 7.0), target, eps)
    assert_same(got, 1 - coefficient.mean(), "loss")


@exercise("unet_segmentation")
@points(1)
@public
@for_all(case=DICE, corners=False)
def test_dice_limits(student, case):
    """The loss is 0 for certain, right logits, a mean over images, and does not depend on the order of the classes."""
    logits, target, eps = case.arguments().values()
    certain = torch.stack([(target == k).to(logits.dtype) * 2e3 - 1e3 for k in range(case.K)], dim=1)
    assert_same(student.dice_loss(certain, target, eps), torch.tensor(0.0, dtype=logits.dtype), "loss when right")
    whole = student.dice_loss(logits, target, eps).detach()
    back = student.dice_loss(logits.flip(1), case.K - 1 - target, eps)
    assert_same(back, whole, "loss with the classes in reverse order")
    singles = [student.dice_loss(logits[b:b + 1], target[b:b + 1], eps).detach() for b in range(case.B)]
    assert_same(sum(singles) / case.B, whole, "mean of the losses of the single images")


@exercise("unet_segmentation")
@points(1)
@public
@for_all(case=UNET2, corners=False)
def test_unet_contract(student, case):
    """The state_dict has the keys and shapes of the contract, for any depth and width; the defaults are 2 and 8."""
    for spec in (UNET1, UNET2):
        one = spec.case({name: getattr(case, name) for name in ("w", "c", "n", "B", "m", "k")})
        net = student.UNet(one.c, one.n, one.w, one.depth)
        assert_state_dict(net, {name: value.shape for name, value in one.arguments()["params"].items()})
        assert_trained(net)
    wide = UNET2.case({"w": 8, "c": 1, "n": 1, "B": 1, "m": 1, "k": 1}).arguments()["params"]
    assert_state_dict(student.UNet(1, 1), {name: value.shape for name, value in wide.items()})


@exercise("unet_segmentation")
@points(2)
@public
@for_all(case=UNET1, corners=False)
def test_unet_skips(student, case):
    """Without what comes from below, each pixel depends on the image within 4 pixels, and on its own place."""
    params, _ = case.arguments().values()
    for name, value in params.items():
        params[name] = torch.full_like(value, 4.0) if name.endswith("bias") else value.abs() / 9 + 0.02
    params["rise.0"] = torch.zeros_like(params["rise.0"])
    x = torch.rand(1, case.c, 12, 14, generator=case.generator(5), dtype=torch.float64)
    r, q = case.seed % 12, case.seed // 7 % 14
    net = unet_of(student, case)
    before = net(params, x).detach()
    assert_shape_dtype(before, (1, case.n, 12, 14), x.dtype)
    x[..., r, q] += 1
    changed = (net(params, x).detach() != before).any(1)[0]
    rows, columns = torch.arange(12), torch.arange(14)
    reach = ((rows - r).abs() <= 4)[:, None] & ((columns - q).abs() <= 4)
    assert_same(changed, reach, f"where the output changes with the pixel ({r}, {q})")


@exercise("unet_segmentation")
@points(1)
@public
@for_all(case=UNET2, corners=False)
def test_unet_logits(student, case):
    """The output is that of head, for any image that can be halved `depth` times; others are a ValueError."""
    params, x = case.arguments().values()
    net = unet_of(student, case)
    idle = params | {"head.weight": torch.zeros_like(params["head.weight"])}
    expected = params["head.bias"][:, None, None].expand(case.B, -1, case.H, case.W).contiguous()
    assert_same(net(idle, x).detach(), expected, "output if head.weight is 0")
    larger = params | {name: -2 * params[name] for name in ("head.weight", "head.bias")}
    assert_same(net(larger, x), -2 * net(params, x).detach(), "output if head is multiplied by -2")
    module = student.UNet(case.c, case.n, case.w, case.depth).double()
    for shape in ((case.H + 2, case.W), (case.H, case.W + 1)):
        assert_refuses(module, torch.zeros(1, case.c, *shape, dtype=x.dtype))


@exercise("unet_segmentation")
@points(1)
@public
@for_all(case=TRANSPOSED, corners=False)
def test_segmentation_gradients(student, case):
    """The gradients of all three parts agree with finite differences."""
    assert_gradient_consistent(student.conv_transpose2d, case)
    assert_gradient_consistent(student.dice_loss, DICE.case({"B": 2, "K": 3, "H": 3, "W": 2}, seed=case.seed))
    net = UNET1.case({"B": 1, "c": 2, "w": 2, "n": 2, "m": 1, "k": 2}, seed=case.seed)
    assert_gradient_consistent(unet_of(student, net), net)


@exercise("unet_segmentation")
@points(2)
@for_all(case=TRANSPOSED)
def test_transposed_values_and_gradients(student, case):
    """The transposed convolution is the library's, gradients too, for any sizes, strides and paddings."""
    def library(y, w, stride, padding, output_padding):
        return F.conv_transpose2d(y, w, None, stride, padding, output_padding)
    assert_equivalent(student.conv_transpose2d, library, case)


@exercise("unet_segmentation")
@points(1)
@for_all(case=DICE)
def test_dice_values_and_gradients(student, reference, case):
    """The Dice loss and its gradient are right for any number of classes and ε; ε is 1 by default."""
    assert_equivalent(student.dice_loss, reference.dice_loss, case)
    logits, target, _ = case.arguments().values()
    assert_same(student.dice_loss(logits, target), reference.dice_loss(logits, target, 1.0), "loss with the default")


@exercise("unet_segmentation")
@points(1)
@for_all(case=UNET1)
def test_unet_of_depth_one(student, reference, case):
    """With depth 1, values and gradients of all parameters are right."""
    assert_equivalent(unet_of(student, case), unet_of(reference, case), case)


def plain_unet(case):
    """The U-Net as a formula, with the library's functions."""
    def stage(x, params, name):
        for i in (0, 2):
            x = F.conv2d(x, params[f"{name}.{i}.weight"], params[f"{name}.{i}.bias"], padding=1).clamp(min=0)
        return x

    def run(params, x, level=0):
        if level == case.depth:
            return stage(x, params, "bottom")
        here = stage(x, params, f"down.{level}")
        below = run(params, here.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1)), level + 1)
        both = torch.cat([here, F.conv_transpose2d(below, params[f"rise.{level}"], stride=2)], dim=1)
        return stage(both, params, f"up.{level}")

    def whole(params, x):
        return F.conv2d(run(params, x), params["head.weight"], params["head.bias"])
    return whole


@exercise("unet_segmentation")
@points(1)
@for_all(case=UNET2, corners=False)
def test_unet_of_depth_two(student, case):
    """With depth 2, values and gradients of all parameters are those of the U-Net written out."""
    assert_equivalent(unet_of(student, case), plain_unet(case), case)


@exercise("unet_segmentation")
@points(1)
@for_all(case=TRANSPOSED, corners=False)
def test_segmentation_float32_and_pure(student, reference, case):
    """Inputs are left alone, float32 is kept, and large logits have a finite loss."""
    assert_pure(student.conv_transpose2d, case)
    assert_batch_independent(student.conv_transpose2d, case, "y")
    assert_equivalent(student.conv_transpose2d, reference.conv_transpose2d, case.but(dtype=torch.float32))
    labelled = DICE.case({"B": case.B, "K": 3, "H": case.h, "W": case.v}, seed=case.seed)
    assert_pure(student.dice_loss, labelled)
    assert_equivalent(student.dice_loss, reference.dice_loss, labelled.but(dtype=torch.float32))
    assert_finite_at(student.dice_loss, labelled)
    image = NET_INPUT.case({"B": 2, "c": 2, "H": 4, "W": 8}, seed=case.seed).but(dtype=torch.float32)
    assert_pure(student.UNet(2, 3, 2, 2), image)
