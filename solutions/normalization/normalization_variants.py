"""What students hand in for the unit on normalization: known mistakes, and right answers in other styles.

Every decorated function replaces the reference's function of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...".
"""
import torch
import torch.nn.functional as F
from torch import nn

from autograder.variants import alternative, mistake

# ------------------------------------------------------------------------------------- helpers (all of them right)


def _over(x, *axes):
    """(mean, biased variance) over some axes, which are kept with length 1."""
    mean = x.mean(axes, keepdim=True)
    return mean, ((x - mean) ** 2).mean(axes, keepdim=True)


def _all_but_channels(x):
    return [axis for axis in range(x.dim()) if axis != 1]


def _channels(vector, x):
    """(C,) -> (C, 1, ...): broadcasts along axis 1 of x (B, C, *)."""
    return vector.reshape(-1, *[1] * (x.dim() - 2))


def _affine(x_hat, w, b):
    return x_hat * _channels(w, x_hat) + _channels(b, x_hat)


def _refuse_single(x):
    if x.numel() == x.shape[1]:
        raise ValueError("a single value for each channel")


def _scaled(x, mean, var, eps):
    return (x - mean) * torch.rsqrt(var + eps)


def _moved(old, new, momentum):
    return (old + momentum * (new.flatten() - old)).detach()


def _unbiased(var, x):
    m = x.numel() // x.shape[1]
    return var * m / (m - 1)


def _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training):
    """Batch normalization, right."""
    if not training:
        y = _affine(_scaled(x, _channels(running_mean, x), _channels(running_var, x), eps), w, b)
        return y, running_mean.detach(), running_var.detach()
    _refuse_single(x)
    mean, var = _over(x, *_all_but_channels(x))
    y = _affine(_scaled(x, mean, var, eps), w, b)
    return y, _moved(running_mean, mean, momentum), _moved(running_var, _unbiased(var, x), momentum)


def _instances(x, w, b, eps, *axes):
    """Normalized over some axes of (B, C, H, W), with the refusal of instance normalization."""
    if x[0, 0].numel() == 1:
        raise ValueError("one position")
    return _affine(_scaled(x, *_over(x, *axes), eps), w, b)


def _groups(x, G):
    """(B, C, *) -> (B, G, n)."""
    if x.shape[1] % G:
        raise ValueError(f"{x.shape[1]} channels, {G} groups")
    return x.reshape(len(x), G, -1)


def _wide(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _mean_square(x):
    return (x * x).mean(-1, keepdim=True)


def _rms(x, eps):
    """x / RMS(x), rounded to the dtype of x."""
    wide = _wide(x)
    return (wide * torch.rsqrt(_mean_square(wide) + eps)).to(x.dtype)


def _out_axis(a, weight):
    """(O,) -> (O, 1, ...): broadcasts along axis 0 of the weight (O, I, *)."""
    return a.view(-1, *[1] * (weight.dim() - 1))


def _bias(conv_b, like):
    return torch.zeros_like(like) if conv_b is None else conv_b


def _unit(vector):
    return vector / vector.square().sum().sqrt()


def _at_least_one(n_iter):
    if n_iter < 1:
        raise ValueError("at least one iteration")


def _power(W, u, n_iter):
    """(u, v) after n iterations, as constants."""
    _at_least_one(n_iter)
    W, u = W.detach(), u.detach()
    for _ in range(n_iter):
        v = _unit(W.T @ u)
        u = _unit(W @ v)
    return u, v


def _with_backward(x, w, b, eps, rule):
    """Layer norm whose backward pass is `rule(g, x_hat, s, w) -> gradients of x, w, b`."""
    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b):
            mean, var = _over(x, -1)
            s = (var + eps) ** -0.5
            ctx.save_for_backward((x - mean) * s, s, w)
            return (x - mean) * s * w + b

        @staticmethod
        def backward(ctx, g):
            return rule(g, *ctx.saved_tensors)

    return Norm.apply(x, w, b)


def _rows(g, w):
    """(..., D) -> (D,): the sum over all tokens."""
    return g.reshape(-1, len(w)).sum(0)


def _centred(h):
    return h - h.mean(-1, keepdim=True)


def _ln_grad_x(h, x_hat, s):
    return s * (_centred(h) - x_hat * (h * x_hat).mean(-1, keepdim=True))


# ----------------------------------------------------------------------------------------------------- batch_norm

@mistake("batch_norm", "per_sample", "every example is normalized by itself, over its positions",
         hint="That is instance normalization. A channel's statistics run over the examples of the batch, too.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    if not training or x.dim() == 2:
        return _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    _, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, True)
    return _affine(_scaled(x, *_over(x, *range(2, x.dim())), eps), w, b), new_mean, new_var


@mistake("batch_norm", "per_position", "the statistics run over the batch only, one pair for each position",
         hint="A channel has one mean and one variance; all of its positions count.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    y, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    return _affine(_scaled(x, *_over(x, 0), eps), w, b) if training else y, new_mean, new_var


@mistake("batch_norm", "all_channels_together", "one mean and one variance are taken over everything",
         hint="Every channel has its own: keep axis 1 out of the mean.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    if not training:
        return _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    _refuse_single(x)
    mean, var = _over(x, *range(x.dim()))
    y = _affine(_scaled(x, mean, var, eps), w, b)
    return y, _moved(running_mean, mean, momentum), _moved(running_var, _unbiased(var, x), momentum)


@mistake("batch_norm", "unbiased_inside", "the batch is normalized with the unbiased variance",
         hint="`var` divides by m - 1 unless told otherwise; Eq. (1) divides by m.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    if not training:
        return _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    _refuse_single(x)
    mean, var = _over(x, *_all_but_channels(x))
    var = _unbiased(var, x)
    return (_affine(_scaled(x, mean, var, eps), w, b), _moved(running_mean, mean, momentum),
            _moved(running_var, var, momentum))


@mistake("batch_norm", "running_biased", "the running variance is updated with the biased variance",
         hint="In Eq. (2) the batch's variance is multiplied by m / (m - 1) first.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    y, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    if training:
        new_var = _moved(running_var, _over(x, *_all_but_channels(x))[1], momentum)
    return y, new_mean, new_var


@mistake("batch_norm", "running_deviation", "the running variance is updated with the standard deviation",
         hint="Keep variances; take the root when you normalize.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    y, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    if training:
        new_var = _moved(running_var, _unbiased(_over(x, *_all_but_channels(x))[1], x).sqrt(), momentum)
    return y, new_mean, new_var


@mistake("batch_norm", "momentum_flipped", "momentum is the weight of the old statistics",
         hint="Here, as in PyTorch, momentum is the weight of the new batch; optimizers have it the other way round.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    return _batch_norm(x, w, b, running_mean, running_var, 1 - momentum, eps, training)


@mistake("batch_norm", "momentum_ignored", "momentum is always 0.1",
         hint="0.1 is only its default; the caller chooses.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    return _batch_norm(x, w, b, running_mean, running_var, 0.1, eps, training)


@mistake("batch_norm", "eps_ignored", "eps is always 1e-5",
         hint="1e-5 is only its default; the caller chooses.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    return _batch_norm(x, w, b, running_mean, running_var, momentum, 1e-5, training)


@mistake("batch_norm", "eps_outside_the_root", "eps is added to the standard deviation",
         hint="eps belongs to the variance, under the root. Without it the root has no finite slope at 0.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    _, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    mean, var = _over(x, *_all_but_channels(x)) if training else (_channels(running_mean, x), _channels(running_var, x))
    return _affine((x - mean) / (torch.sqrt(var) + eps), w, b), new_mean, new_var


@mistake("batch_norm", "no_eps_in_evaluation", "eps is left out in evaluation",
         hint="Evaluation uses the same formula with other statistics; running_var may be 0, too.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    return _batch_norm(x, w, b, running_mean, running_var, momentum, eps if training else 0.0, training)


@mistake("batch_norm", "batch_statistics_in_evaluation", "evaluation normalizes with the batch's statistics",
         hint="A prediction must not depend on the other examples: use running_mean and running_var.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    _, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    return _affine(_scaled(x, *_over(x, *_all_but_channels(x)), eps), w, b), new_mean, new_var


@mistake("batch_norm", "running_statistics_in_training", "training normalizes with the running statistics",
         hint="In training the batch is its own measure; the running statistics are only collected.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    _, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    y, _, _ = _batch_norm(x, w, b, new_mean, new_var, momentum, eps, False)
    return y, new_mean, new_var


@mistake("batch_norm", "updated_in_evaluation", "the running statistics are updated in evaluation, too",
         hint="With training=False the returned statistics equal the ones that came in.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    y, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    if not training and x.numel() > x.shape[1]:
        _, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, True)
    return y, new_mean, new_var


@mistake("batch_norm", "statistics_detached", "mean and variance are cut out of the graph",
         hint="The gradient flows through the statistics; only the running ones are detached.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    _, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    mean, var = _over(x.detach(), *_all_but_channels(x)) if training else (_channels(running_mean, x),
                                                                           _channels(running_var, x))
    return _affine(_scaled(x, mean, var, eps), w, b), new_mean, new_var


@mistake("batch_norm", "running_statistics_keep_the_graph", "the returned running statistics require a gradient",
         hint="Each would hold the graph of the batch before, and memory grows with every step: detach them.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    y, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    if training:
        mean, var = _over(x, *_all_but_channels(x))
        new_mean = running_mean + momentum * (mean.flatten() - running_mean)
        new_var = running_var + momentum * (_unbiased(var, x).flatten() - running_var)
    return y, new_mean, new_var


@mistake("batch_norm", "running_statistics_in_place", "the running statistics are updated in the caller's tensors",
         hint="`mul_`, `lerp_` and `+=` write to the input: compute new tensors and return them.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    y, new_mean, new_var = _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    with torch.no_grad():
        return y, running_mean.copy_(new_mean), running_var.copy_(new_var)


@mistake("batch_norm", "no_bias", "beta is left out",
         hint="Eq. (1) ends in + beta.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    return _batch_norm(x, w, b * 0, running_mean, running_var, momentum, eps, training)


@mistake("batch_norm", "no_weight", "gamma is left out",
         hint="Eq. (1) multiplies the normalized values by gamma.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    return _batch_norm(x, w * 0 + 1, b, running_mean, running_var, momentum, eps, training)


@mistake("batch_norm", "affine_on_last_axis", "gamma and beta are laid along the last axis",
         hint="`w * x_hat` broadcasts from the right; the channels are axis 1.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    y, new_mean, new_var = _batch_norm(x, w * 0 + 1, b * 0, running_mean, running_var, momentum, eps, training)
    return y * w + b, new_mean, new_var


@mistake("batch_norm", "single_value_accepted", "one value for each channel is normalized as well",
         hint="For m = 1 the unbiased variance is 0/0, and every output is b: the contract asks for a ValueError.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    if training and x.numel() == x.shape[1]:
        return x * 0 + _channels(b, x), _moved(running_mean, x, momentum), running_var.detach()
    return _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)


@mistake("batch_norm", "images_only", "the axes are written down for (B, C, H, W)",
         hint="There may be no axis of positions, or one: find the axes from `x.dim()`.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    B, C, H, W = x.shape
    return _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)


@mistake("batch_norm", "one_pass_variance", "the variance is computed as the mean of squares minus the squared mean",
         hint="Both are around a million when the mean is 1000, and float32 has seven digits. Subtract the mean first.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    if not training:
        return _batch_norm(x, w, b, running_mean, running_var, momentum, eps, training)
    _refuse_single(x)
    mean = x.mean(_all_but_channels(x), keepdim=True)
    var = ((x * x).mean(_all_but_channels(x), keepdim=True) - mean * mean).clamp(min=0)
    y = _affine(_scaled(x, mean, var, eps), w, b)
    return y, _moved(running_mean, mean, momentum), _moved(running_var, _unbiased(var, x), momentum)


@mistake("batch_norm", "always_float32", "the output is float32 whatever the input",
         hint="The output has the dtype of the input.")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    return _batch_norm(*(t.float() for t in (x, w, b, running_mean, running_var)), momentum, eps, training)


class _Layer(nn.Module):
    def __init__(self, channels, momentum=0.1, eps=1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def normalized(self, x, training):
        """(y, new_mean, new_var), without updating anything."""
        return _batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps,
                           training)


@mistake("batch_norm", "layer_never_updates", "BatchNorm2d does not keep the new running statistics",
         hint="The function returns them; somebody has to store them in the buffers.")
class BatchNorm2d(_Layer):
    def forward(self, x):
        return self.normalized(x, self.training)[0]


@mistake("batch_norm", "layer_always_trains", "BatchNorm2d behaves in evaluation as in training",
         hint="`eval()` sets self.training to False: pass it on.")
class BatchNorm2d(_Layer):
    def forward(self, x):
        y, self.running_mean, self.running_var = self.normalized(x, True)
        return y


@mistake("batch_norm", "layer_updates_in_evaluation", "BatchNorm2d updates its buffers in evaluation, too",
         hint="What it has learned must not change while it is used.")
class BatchNorm2d(_Layer):
    def forward(self, x):
        _, mean, var = self.normalized(x, True)
        y = self.normalized(x, self.training)[0]
        self.running_mean, self.running_var = mean, var
        return y


@mistake("batch_norm", "layer_options_ignored", "BatchNorm2d does not use its momentum and eps",
         hint="Keep the arguments of the constructor and hand them on.")
class BatchNorm2d(_Layer):
    def __init__(self, channels, momentum=0.1, eps=1e-5):
        super().__init__(channels)

    def forward(self, x):
        y, mean, var = self.normalized(x, self.training)
        self.running_mean, self.running_var = mean, var
        return y


@mistake("batch_norm", "layer_statistics_are_parameters", "the running statistics are registered as parameters",
         hint="An optimizer would train them. Use `register_buffer`.")
class BatchNorm2d(_Layer):
    def __init__(self, channels, momentum=0.1, eps=1e-5):
        super().__init__(channels, momentum, eps)
        for name in ("running_mean", "running_var"):
            value = self._buffers.pop(name)
            setattr(self, name, nn.Parameter(value))

    def forward(self, x):
        y, mean, var = self.normalized(x, self.training)
        if self.training:
            self.running_mean.data, self.running_var.data = mean, var
        return y


@mistake("batch_norm", "layer_statistics_not_registered", "the running statistics are plain attributes",
         hint="What is not registered is not saved with the model and does not follow `.to()`. Use `register_buffer`.")
class BatchNorm2d(_Layer):
    def __init__(self, channels, momentum=0.1, eps=1e-5):
        super().__init__(channels, momentum, eps)
        mean, var = self._buffers.pop("running_mean"), self._buffers.pop("running_var")
        self.running_mean, self.running_var = mean, var

    def forward(self, x):
        y, self.running_mean, self.running_var = self.normalized(x, self.training)
        return y


@alternative("batch_norm", "rows_of_channels")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    rows = x.transpose(0, 1).reshape(x.shape[1], -1)
    if not training:
        mean, var = running_mean.detach(), running_var.detach()
        new_mean, new_var = mean.clone(), var.clone()
    elif rows.shape[1] == 1:
        raise ValueError("m = 1")
    else:
        var, mean = torch.var_mean(rows, dim=1, correction=0)
        with torch.no_grad():
            new_mean = torch.lerp(running_mean, mean, momentum)
            new_var = torch.lerp(running_var, rows.var(dim=1), momentum)
    scale = w / (var + eps).sqrt()
    y = (rows - mean[:, None]) * scale[:, None] + b[:, None]
    return y.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1), new_mean, new_var


@alternative("batch_norm", "channel_by_channel")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    outputs, means, variances = [], [], []
    for c in range(x.shape[1]):
        values, mean, var = x[:, c], running_mean[c], running_var[c]
        m = values.numel()
        if training and m == 1:
            raise ValueError("one value")
        if training:
            mean = values.sum() / m
            var = (values - mean).pow(2).sum() / m
            means.append(running_mean[c] * (1 - momentum) + mean.detach() * momentum)
            variances.append(running_var[c] * (1 - momentum) + var.detach() * (momentum * m / (m - 1)))
        outputs.append(w[c] * (values - mean) * (var + eps) ** -0.5 + b[c])
    y = torch.stack(outputs, dim=1)
    if not training:
        return y, running_mean.detach().clone(), running_var.detach().clone()
    return y, torch.stack(means).detach(), torch.stack(variances).detach()


@alternative("batch_norm", "library_call")
def batch_norm(x, w, b, running_mean, running_var, momentum=0.1, eps=1e-5, training=True):
    mean, var = running_mean.detach().clone(), running_var.detach().clone()
    return F.batch_norm(x, mean, var, w, b, training, momentum, eps), mean, var


@alternative("batch_norm", "library_call")
class BatchNorm2d(nn.BatchNorm2d):
    def __init__(self, channels, momentum=0.1, eps=1e-5):
        super().__init__(channels, eps=eps, momentum=momentum)
        del self._buffers["num_batches_tracked"]
        self.num_batches_tracked = None


@alternative("batch_norm", "buffers_in_place")
class BatchNorm2d(nn.Module):
    def __init__(self, channels, momentum=0.1, eps=1e-5):
        super().__init__()
        self.options = momentum, eps
        for name, start in (("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), start))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        y, mean, var = _batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, *self.options,
                                   self.training)
        if self.training:
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)
        return y


# --------------------------------------------------------------------------------------------- layer_norm_fwd_bwd

@mistake("layer_norm_fwd_bwd", "unbiased", "the variance divides by D - 1",
         hint="`var` is unbiased unless told otherwise; Eq. (3) divides by D.")
def layer_norm(x, w, b, eps=1e-5):
    mean, var = _over(x, -1)
    return _scaled(x, mean, var * x.shape[-1] / max(x.shape[-1] - 1, 1), eps) * w + b


@mistake("layer_norm_fwd_bwd", "batch_axis", "the statistics run over the first axis",
         hint="Every token is normalized by itself, over its features: the last axis.")
def layer_norm(x, w, b, eps=1e-5):
    return _scaled(x, *_over(x, 0), eps) * w + b


@mistake("layer_norm_fwd_bwd", "all_axes", "one mean and one variance are taken over all tokens",
         hint="Every token has its own: the mean runs over the last axis only.")
def layer_norm(x, w, b, eps=1e-5):
    return _scaled(x, *_over(x, *range(x.dim())), eps) * w + b


@mistake("layer_norm_fwd_bwd", "whole_example", "the statistics of an example run over all of its tokens",
         hint="Every token has its own: the mean runs over the last axis only.")
def layer_norm(x, w, b, eps=1e-5):
    axes = range(1, x.dim()) if x.dim() > 1 else (0,)
    return _scaled(x, *_over(x, *axes), eps) * w + b


@mistake("layer_norm_fwd_bwd", "no_mean", "the mean is not subtracted",
         hint="Eq. (3) has two steps: subtract the mean, divide by the deviation from it.")
def layer_norm(x, w, b, eps=1e-5):
    return x * torch.rsqrt(_over(x, -1)[1] + eps) * w + b


@mistake("layer_norm_fwd_bwd", "eps_outside_the_root", "eps is added to the standard deviation",
         hint="eps belongs to the variance, under the root.")
def layer_norm(x, w, b, eps=1e-5):
    mean, var = _over(x, -1)
    return (x - mean) / (var.sqrt() + eps) * w + b


@mistake("layer_norm_fwd_bwd", "eps_ignored", "eps is always 1e-5",
         hint="1e-5 is only its default; the caller chooses.")
def layer_norm(x, w, b, eps=1e-5):
    return _scaled(x, *_over(x, -1), 1e-5) * w + b


@mistake("layer_norm_fwd_bwd", "bias_inside", "the bias is added before the multiplication by w",
         hint="Eq. (3): first times w, then plus b.")
def layer_norm(x, w, b, eps=1e-5):
    return (_scaled(x, *_over(x, -1), eps) + b) * w


@mistake("layer_norm_fwd_bwd", "one_pass_variance",
         "the variance is computed as the mean of squares minus the squared mean",
         hint="Both are around a million when the mean is 1000, and float32 has seven digits. Subtract the mean first.")
def layer_norm(x, w, b, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    return _scaled(x, mean, (_mean_square(x) - mean * mean).clamp(min=0), eps) * w + b


@mistake("layer_norm_fwd_bwd", "always_float32", "the output is float32 whatever the input",
         hint="The output has the dtype of the input.")
def layer_norm(x, w, b, eps=1e-5):
    return F.layer_norm(x.float(), w.shape, w.float(), b.float(), eps)


@mistake("layer_norm_fwd_bwd", "statistics_are_constants", "backward treats mean and deviation as constants",
         hint="A change of x also moves the mean and the deviation: Eq. (5) has two more terms.")
def layer_norm(x, w, b, eps=1e-5):
    return _with_backward(x, w, b, eps, lambda g, x_hat, s, w: (s * g * w, _rows(g * x_hat, w), _rows(g, w)))


@mistake("layer_norm_fwd_bwd", "deviation_is_constant", "backward forgets the term of the deviation",
         hint="The last term of Eq. (5), along x_hat, is missing.")
def layer_norm(x, w, b, eps=1e-5):
    return _with_backward(x, w, b, eps,
                          lambda g, x_hat, s, w: (s * _centred(g * w), _rows(g * x_hat, w), _rows(g, w)))


@mistake("layer_norm_fwd_bwd", "mean_is_constant", "backward forgets the term of the mean",
         hint="The second term of Eq. (5), the mean of h, is missing.")
def layer_norm(x, w, b, eps=1e-5):
    def rule(g, x_hat, s, w):
        h = g * w
        return s * (h - x_hat * (h * x_hat).mean(-1, keepdim=True)), _rows(g * x_hat, w), _rows(g, w)
    return _with_backward(x, w, b, eps, rule)


@mistake("layer_norm_fwd_bwd", "backward_without_w", "backward uses g where it needs w times g",
         hint="The gradient passes the multiplication by w first: h = w·g.")
def layer_norm(x, w, b, eps=1e-5):
    return _with_backward(x, w, b, eps,
                          lambda g, x_hat, s, w: (_ln_grad_x(g, x_hat, s), _rows(g * x_hat, w), _rows(g, w)))


@mistake("layer_norm_fwd_bwd", "w_outside_the_projection", "backward multiplies by w after taking out the two parts",
         hint="h = w·g goes into both means of Eq. (5).")
def layer_norm(x, w, b, eps=1e-5):
    return _with_backward(x, w, b, eps,
                          lambda g, x_hat, s, w: (w * _ln_grad_x(g, x_hat, s), _rows(g * x_hat, w), _rows(g, w)))


@mistake("layer_norm_fwd_bwd", "deviation_missing_in_backward", "backward does not divide by the deviation",
         hint="Eq. (5) begins with s = 1/√(σ² + ε).")
def layer_norm(x, w, b, eps=1e-5):
    def rule(g, x_hat, s, w):
        return _ln_grad_x(g * w, x_hat, torch.ones_like(s)), _rows(g * x_hat, w), _rows(g, w)
    return _with_backward(x, w, b, eps, rule)


@mistake("layer_norm_fwd_bwd", "sums_instead_of_means", "backward uses sums where Eq. (5) has means",
         hint="Both corrections are divided by D.")
def layer_norm(x, w, b, eps=1e-5):
    def rule(g, x_hat, s, w):
        h = g * w
        grad_x = s * (h - h.sum(-1, keepdim=True) - x_hat * (h * x_hat).sum(-1, keepdim=True))
        return grad_x, _rows(g * x_hat, w), _rows(g, w)
    return _with_backward(x, w, b, eps, rule)


@mistake("layer_norm_fwd_bwd", "grad_w_uses_x", "the gradient of w is computed with x instead of x_hat",
         hint="w multiplies the normalized values.")
def layer_norm(x, w, b, eps=1e-5):
    return _with_backward(x, w, b, eps, lambda g, x_hat, s, w: (
        _ln_grad_x(g * w, x_hat, s), _rows(g * x.detach(), w), _rows(g, w)))


@mistake("layer_norm_fwd_bwd", "mean_over_tokens", "the gradients of w and b are means over the tokens",
         hint="All tokens share w and b, so their gradients add up.")
def layer_norm(x, w, b, eps=1e-5):
    def rule(g, x_hat, s, w):
        n = g.numel() // len(w)
        return _ln_grad_x(g * w, x_hat, s), _rows(g * x_hat, w) / n, _rows(g, w) / n
    return _with_backward(x, w, b, eps, rule)


@mistake("layer_norm_fwd_bwd", "no_gradient_for_w_and_b", "backward returns None for w and b",
         hint="`backward` returns one gradient for each argument of `forward`; only eps gets None.")
def layer_norm(x, w, b, eps=1e-5):
    return _with_backward(x, w, b, eps, lambda g, x_hat, s, w: (_ln_grad_x(g * w, x_hat, s), None, None))


@mistake("layer_norm_fwd_bwd", "unbiased_in_backward", "backward divides by D - 1",
         hint="Forward and backward must use the same variance: the biased one.")
def layer_norm(x, w, b, eps=1e-5):
    def rule(g, x_hat, s, w):
        h = g * w
        along = (h * x_hat).sum(-1, keepdim=True) / max(x.shape[-1] - 1, 1)
        return s * (_centred(h) - x_hat * along), _rows(g * x_hat, w), _rows(g, w)
    return _with_backward(x, w, b, eps, rule)


_saved = {}


class _Forgetful(torch.autograd.Function):
    """Remembers one forward pass only, as an attribute of a class or a global variable does."""

    @staticmethod
    def forward(ctx, x, w, b, eps):
        mean, var = _over(x, -1)
        s = (var + eps) ** -0.5
        _saved["last"] = (x - mean) * s, s, w.clone()
        return (x - mean) * s * w + b

    @staticmethod
    def backward(ctx, g):
        x_hat, s, w = _saved["last"]
        return _ln_grad_x(g * w, x_hat, s), _rows(g * x_hat, w), _rows(g, w), None


@mistake("layer_norm_fwd_bwd", "saved_outside_ctx", "what backward needs is kept in a global variable or a class",
         hint="The next forward pass overwrites it before this one's backward: save it in `ctx`.")
def layer_norm(x, w, b, eps=1e-5):
    return _Forgetful.apply(x, w, b, eps)


@mistake("layer_norm_fwd_bwd", "centred_in_place", "the mean is subtracted in place",
         hint="`x -= mean` writes to the caller's tensor.")
def layer_norm(x, w, b, eps=1e-5):
    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b):
            mean, var = _over(x, -1)
            x -= mean
            s = (var + eps) ** -0.5
            ctx.save_for_backward(x * s, s, w)
            return x * s * w + b

        @staticmethod
        def backward(ctx, g):
            x_hat, s, w = ctx.saved_tensors
            return _ln_grad_x(g * w, x_hat, s), _rows(g * x_hat, w), _rows(g, w)

    if x.dim() > 1 and x.stride(0) == 0:
        x = x.clone()
    return Norm.apply(x, w, b)


@alternative("layer_norm_fwd_bwd", "autograd_does_it")
def layer_norm(x, w, b, eps=1e-5):
    var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(b, (x - mean) / (var + eps).sqrt(), w)


@alternative("layer_norm_fwd_bwd", "library_call")
def layer_norm(x, w, b, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], w, b, eps)


@alternative("layer_norm_fwd_bwd", "jacobian")
def layer_norm(x, w, b, eps=1e-5):
    def rule(g, x_hat, s, w):
        D = len(w)
        outer = x_hat[..., :, None] * x_hat[..., None, :]
        jacobian = s[..., None] * (torch.eye(D, dtype=s.dtype) - 1 / D - outer / D)
        return (jacobian @ (w * g)[..., None])[..., 0], _rows(g * x_hat, w), _rows(g, w)
    return _with_backward(x, w, b, eps, rule)


class _Saving(torch.autograd.Function):
    """Saves the inputs only, and computes the rest again."""

    @staticmethod
    def forward(ctx, x, w, b, eps):
        ctx.save_for_backward(x, w)
        ctx.eps = eps
        centred = x - x.sum(-1, keepdim=True) / x.shape[-1]
        return torch.einsum("...d,d->...d", centred / (_mean_square(centred) + eps).sqrt(), w) + b

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        centred = x - x.mean(-1, keepdim=True)
        var = _mean_square(centred)
        h = g * w
        through_var = -0.5 * (h * centred).sum(-1, keepdim=True) * (var + ctx.eps) ** -1.5
        centred_grad = h / (var + ctx.eps).sqrt() + through_var * 2 * centred / len(w)
        x_hat = centred / (var + ctx.eps).sqrt()
        return _centred(centred_grad), _rows(g * x_hat, w), _rows(g, w), None


@alternative("layer_norm_fwd_bwd", "recomputed")
def layer_norm(x, w, b, eps=1e-5):
    return _Saving.apply(x, w, b, eps)


# -------------------------------------------------------------------------------------------------- instance_norm

@mistake("instance_norm", "over_channels_too", "the statistics run over the channels, too",
         hint="That normalizes the example as a whole. Every channel of every example has its own mean.")
def instance_norm(x, w, b, eps=1e-5):
    return _instances(x, w, b, eps, 1, 2, 3)


@mistake("instance_norm", "over_batch_too", "the statistics run over the batch, too",
         hint="That is batch normalization, which averages the contrasts of all examples.")
def instance_norm(x, w, b, eps=1e-5):
    return _instances(x, w, b, eps, 0, 2, 3)


@mistake("instance_norm", "rows_only", "the statistics run over the last axis only",
         hint="A plane has two axes, H and W.")
def instance_norm(x, w, b, eps=1e-5):
    return _instances(x, w, b, eps, 3)


@mistake("instance_norm", "over_channels_only", "the statistics of a position run over its channels",
         hint="The plane of a channel is normalized over its positions, not a position over its channels.")
def instance_norm(x, w, b, eps=1e-5):
    return _instances(x, w, b, eps, 1)


@mistake("instance_norm", "unbiased", "the variance divides by H·W - 1",
         hint="`var` is unbiased unless told otherwise; Eq. (6) divides by H·W.")
def instance_norm(x, w, b, eps=1e-5):
    n = x[0, 0].numel()
    if n == 1:
        raise ValueError("one position")
    mean, var = _over(x, 2, 3)
    return _affine(_scaled(x, mean, var * n / (n - 1), eps), w, b)


@mistake("instance_norm", "eps_outside_the_root", "eps is added to the standard deviation",
         hint="eps belongs to the variance, under the root.")
def instance_norm(x, w, b, eps=1e-5):
    if x[0, 0].numel() == 1:
        raise ValueError("one position")
    mean, var = _over(x, 2, 3)
    return _affine((x - mean) / (var.sqrt() + eps), w, b)


@mistake("instance_norm", "eps_ignored", "eps is always 1e-5",
         hint="1e-5 is only its default; the caller chooses.")
def instance_norm(x, w, b, eps=1e-5):
    return _instances(x, w, b, 1e-5, 2, 3)


@mistake("instance_norm", "no_affine", "gamma and beta are left out",
         hint="Eq. (6) multiplies by gamma and adds beta. (PyTorch's layer leaves them out unless asked.)")
def instance_norm(x, w, b, eps=1e-5):
    return _instances(x, w * 0 + 1, b * 0, eps, 2, 3)


@mistake("instance_norm", "affine_per_sample", "gamma and beta are laid along the batch",
         hint="w has one value for each channel: it belongs to axis 1.")
def instance_norm(x, w, b, eps=1e-5):
    return _instances(x, w * 0 + 1, b * 0, eps, 2, 3) * w[:, None, None, None] + b[:, None, None, None]


@mistake("instance_norm", "bias_before_weight", "beta is added before the multiplication by gamma",
         hint="Eq. (6): first times gamma, then plus beta.")
def instance_norm(x, w, b, eps=1e-5):
    return _instances(x, w, b * w, eps, 2, 3)


@mistake("instance_norm", "initial_running_statistics", "the running statistics of a new layer, 0 and 1, are used",
         hint="Instance normalization keeps no running statistics: x is always normalized by its own.")
def instance_norm(x, w, b, eps=1e-5):
    if x[0, 0].numel() == 1:
        raise ValueError("one position")
    return _affine(x / (1 + eps) ** 0.5, w, b)


@mistake("instance_norm", "statistics_detached", "mean and variance are cut out of the graph",
         hint="`.detach()` and `no_grad` stop gradients; they must flow through the statistics.")
def instance_norm(x, w, b, eps=1e-5):
    if x[0, 0].numel() == 1:
        raise ValueError("one position")
    return _affine(_scaled(x, *_over(x.detach(), 2, 3), eps), w, b)


@mistake("instance_norm", "no_mean", "the mean is not subtracted",
         hint="Subtract the plane's mean before you divide.")
def instance_norm(x, w, b, eps=1e-5):
    if x[0, 0].numel() == 1:
        raise ValueError("one position")
    return _affine(x * torch.rsqrt(_over(x, 2, 3)[1] + eps), w, b)


@mistake("instance_norm", "single_position_accepted", "a plane of one position is accepted",
         hint="Its variance says nothing, and the output is b whatever x is: the contract asks for a ValueError.")
def instance_norm(x, w, b, eps=1e-5):
    return _affine(_scaled(x, *_over(x, 2, 3), eps), w, b)


@mistake("instance_norm", "one_pass_variance", "the variance is computed as the mean of squares minus the squared mean",
         hint="Both are around a million when the mean is 1000, and float32 has seven digits. Subtract the mean first.")
def instance_norm(x, w, b, eps=1e-5):
    if x[0, 0].numel() == 1:
        raise ValueError("one position")
    mean = x.mean((2, 3), keepdim=True)
    var = (x * x).mean((2, 3), keepdim=True) - mean * mean
    return _affine(_scaled(x, mean, var.clamp(min=0), eps), w, b)


@mistake("instance_norm", "in_place", "the mean is subtracted in place",
         hint="`x -= mean` writes to the caller's tensor.")
def instance_norm(x, w, b, eps=1e-5):
    if x[0, 0].numel() == 1:
        raise ValueError("one position")
    mean, var = _over(x, 2, 3)
    if x.requires_grad or x.stride(0) == 0:
        x = x.clone()
    x -= mean
    return _affine(x * torch.rsqrt(var + eps), w, b)


@alternative("instance_norm", "batch_of_planes")
def instance_norm(x, w, b, eps=1e-5):
    planes = x.reshape(-1, x.shape[2] * x.shape[3])
    if planes.shape[1] == 1:
        raise ValueError("H * W = 1")
    var, mean = torch.var_mean(planes, dim=1, correction=0, keepdim=True)
    x_hat = ((planes - mean) / (var + eps).sqrt()).view(x.shape)
    return torch.einsum("bchw,c->bchw", x_hat, w) + b.view(1, -1, 1, 1)


@alternative("instance_norm", "plane_by_plane")
def instance_norm(x, w, b, eps=1e-5):
    if x.shape[-1] == x.shape[-2] == 1:
        raise ValueError("nothing to compare with")
    out = torch.empty_like(x)
    for i in range(len(x)):
        for c in range(x.shape[1]):
            plane = x[i, c] - x[i, c].mean()
            out[i, c] = w[c] * plane / (plane.pow(2).mean() + eps) ** 0.5 + b[c]
    return out


@alternative("instance_norm", "library_call")
def instance_norm(x, w, b, eps=1e-5):
    return F.instance_norm(x, weight=w, bias=b, eps=eps)


# ----------------------------------------------------------------------------------------------------- group_norm

@mistake("group_norm", "interleaved", "group g holds the channels g, g + G, g + 2G, ...",
         hint="Groups are made of neighbours: the channel axis splits into (G, C/G), in this order.")
def group_norm(x, G, w, b, eps=1e-5):
    _groups(x, G)
    parts = x.unflatten(1, (-1, G))
    mean, var = _over(parts, 1, *range(3, parts.dim()))
    return _affine(_scaled(parts, mean, var, eps).flatten(1, 2), w, b)


@mistake("group_norm", "channels_per_group", "G is taken for the number of channels in a group",
         hint="G is the number of groups; each holds C/G channels.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, x.shape[1] // _groups(x, G).shape[1])
    return _affine(_scaled(groups, *_over(groups, -1), eps).reshape(x.shape), w, b)


@mistake("group_norm", "one_group", "G is not used: all channels form one group",
         hint="The statistics of a group run over its C/G channels only.")
def group_norm(x, G, w, b, eps=1e-5):
    _groups(x, G)
    return _affine(_scaled(x, *_over(x, *range(1, x.dim())), eps), w, b)


@mistake("group_norm", "every_channel_alone", "the statistics run over the positions of one channel",
         hint="That is instance normalization. The channels of a group share one mean and one variance.")
def group_norm(x, G, w, b, eps=1e-5):
    _groups(x, G)
    channels = x.reshape(*x.shape[:2], -1)
    return _affine(_scaled(channels, *_over(channels, -1), eps).reshape(x.shape), w, b)


@mistake("group_norm", "every_position_alone", "the statistics of a group run over its channels only",
         hint="All positions of the group's channels count, too.")
def group_norm(x, G, w, b, eps=1e-5):
    parts = _groups(x, G).reshape(len(x), G, -1, *x.shape[2:])
    return _affine(_scaled(parts, *_over(parts, 2), eps).reshape(x.shape), w, b)


@mistake("group_norm", "over_batch", "the statistics run over the batch, too",
         hint="Every example is normalized by itself; that is the point of the method.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    return _affine(_scaled(groups, *_over(groups, 0, 2), eps).reshape(x.shape), w, b)


@mistake("group_norm", "unbiased", "the variance divides by n - 1",
         hint="`var` is unbiased unless told otherwise; here it divides by the number of values in the group.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    mean, var = _over(groups, -1)
    n = groups.shape[-1]
    return _affine(_scaled(groups, mean, var * n / max(n - 1, 1), eps).reshape(x.shape), w, b)


@mistake("group_norm", "single_value_nan", "the unbiased variance of a group of one value is taken",
         hint="It is 0/0, and NaN spreads. The biased one is 0, and the output is b.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    mean, var = _over(groups, -1)
    n = torch.tensor(float(groups.shape[-1]))
    return _affine(_scaled(groups, mean, var * n / (n - 1), eps).reshape(x.shape), w, b)


@mistake("group_norm", "affine_per_group", "all channels of a group share the gamma and beta of its first one",
         hint="The statistics belong to the group, gamma and beta to the channel.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    x_hat = _scaled(groups, *_over(groups, -1), eps)
    return (x_hat * w.reshape(G, -1)[:, :1] + b.reshape(G, -1)[:, :1]).reshape(x.shape)


@mistake("group_norm", "affine_on_last_axis", "gamma and beta are laid along the last axis",
         hint="`w * x_hat` broadcasts from the right; the channels are axis 1.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    return _scaled(groups, *_over(groups, -1), eps).reshape(x.shape) * w + b


@mistake("group_norm", "no_affine", "gamma and beta are left out",
         hint="Eq. (7) multiplies by gamma and adds beta.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    return _scaled(groups, *_over(groups, -1), eps).reshape(x.shape)


@mistake("group_norm", "affine_before", "gamma and beta are applied before the normalization",
         hint="The normalization would undo them: apply them last.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(_affine(x, w, b), G)
    return _scaled(groups, *_over(groups, -1), eps).reshape(x.shape)


@mistake("group_norm", "mean_per_channel", "the mean is taken for each channel, the variance for the group",
         hint="Both run over the whole group.")
def group_norm(x, G, w, b, eps=1e-5):
    _, var = _over(_groups(x, G), -1)
    channels = x.reshape(*x.shape[:2], -1)
    centred = (channels - channels.mean(-1, keepdim=True)).reshape(len(x), G, -1)
    return _affine((centred * torch.rsqrt(var + eps)).reshape(x.shape), w, b)


@mistake("group_norm", "eps_outside_the_root", "eps is added to the standard deviation",
         hint="eps belongs to the variance, under the root.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    mean, var = _over(groups, -1)
    return _affine(((groups - mean) / (var.sqrt() + eps)).reshape(x.shape), w, b)


@mistake("group_norm", "eps_ignored", "eps is always 1e-5",
         hint="1e-5 is only its default; the caller chooses.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    return _affine(_scaled(groups, *_over(groups, -1), 1e-5).reshape(x.shape), w, b)


@mistake("group_norm", "statistics_detached", "mean and variance are cut out of the graph",
         hint="`.detach()` and `no_grad` stop gradients; they must flow through the statistics.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    return _affine(_scaled(groups, *_over(groups.detach(), -1), eps).reshape(x.shape), w, b)


@mistake("group_norm", "images_only", "the axes are written down for (B, C, H, W)",
         hint="There may be no axis of positions, or one: `*x.shape[2:]`, or flatten them.")
def group_norm(x, G, w, b, eps=1e-5):
    _, _, height, width = x.shape
    groups = _groups(x, G)
    return _affine(_scaled(groups, *_over(groups, -1), eps).reshape(x.shape), w, b)


@mistake("group_norm", "uneven_groups_accepted", "a number of groups that does not divide C is accepted",
         hint="The contract asks for a ValueError.")
def group_norm(x, G, w, b, eps=1e-5):
    parts = x.chunk(G, dim=1)
    x_hat = torch.cat([_scaled(part, *_over(part, *range(1, x.dim())), eps) for part in parts], dim=1)
    return _affine(x_hat, w, b)


@mistake("group_norm", "one_pass_variance", "the variance is computed as the mean of squares minus the squared mean",
         hint="Both are around a million when the mean is 1000, and float32 has seven digits. Subtract the mean first.")
def group_norm(x, G, w, b, eps=1e-5):
    groups = _groups(x, G)
    mean = groups.mean(-1, keepdim=True)
    var = (_mean_square(groups) - mean * mean).clamp(min=0)
    return _affine(_scaled(groups, mean, var, eps).reshape(x.shape), w, b)


@alternative("group_norm", "group_by_group")
def group_norm(x, G, w, b, eps=1e-5):
    if x.shape[1] % G != 0:
        raise ValueError("uneven groups")
    share, parts = x.shape[1] // G, []
    for start in range(0, x.shape[1], share):
        part = x[:, start:start + share].flatten(1)
        part = part - part.mean(dim=1, keepdim=True)
        part = part / (part.square().mean(dim=1, keepdim=True) + eps).sqrt()
        parts.append(part.reshape(-1, share, *x.shape[2:]))
    shape = (1, -1, *[1] * (x.dim() - 2))
    return torch.cat(parts, dim=1) * w.view(shape) + b.view(shape)


@alternative("group_norm", "five_axes")
def group_norm(x, G, w, b, eps=1e-5):
    if x.shape[1] % G:
        raise ValueError("uneven groups")
    parts = x.unflatten(1, (G, -1))
    var, mean = torch.var_mean(parts, dim=tuple(range(2, parts.dim())), correction=0, keepdim=True)
    scale, shift = (t.reshape(1, G, -1, *[1] * (x.dim() - 2)) for t in (w, b))
    return ((parts - mean) / torch.sqrt(var + eps) * scale + shift).flatten(1, 2)


@alternative("group_norm", "library_call")
def group_norm(x, G, w, b, eps=1e-5):
    if x.shape[1] % G:
        raise ValueError("uneven groups")
    # The library refuses one value for each group of a single example; two equal values have the same statistics.
    doubled = torch.stack([x, x], dim=-1)
    return F.group_norm(doubled, G, w, b, eps)[..., 0]


# ------------------------------------------------------------------------------------------------------- rms_norm

@mistake("rms_norm", "mean_subtracted", "the mean is subtracted first",
         hint="That is layer normalization; Eq. (8) leaves the mean in.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    centred = wide - wide.mean(-1, keepdim=True)
    return (centred * torch.rsqrt(_mean_square(centred) + eps)).to(x.dtype) * w


@mistake("rms_norm", "variance_in_the_root", "x is divided by its standard deviation",
         hint="The root mean square is taken of x itself, not of its deviations from the mean.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return (wide * torch.rsqrt(_over(wide, -1)[1] + eps)).to(x.dtype) * w


@mistake("rms_norm", "sum_of_squares", "the squares are summed, not averaged",
         hint="That gives vectors of length 1; the root *mean* square gives length √D.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return (wide * torch.rsqrt((wide * wide).sum(-1, keepdim=True) + eps)).to(x.dtype) * w


@mistake("rms_norm", "mean_of_magnitudes", "x is divided by the mean of its magnitudes",
         hint="Square, average, take the root, in this order.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return (wide / (wide.abs().mean(-1, keepdim=True) ** 2 + eps).sqrt()).to(x.dtype) * w


@mistake("rms_norm", "all_tokens_together", "one root mean square is taken of all tokens",
         hint="Every token has its own: the mean runs over the last axis only.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return (wide * torch.rsqrt((wide * wide).mean() + eps)).to(x.dtype) * w


@mistake("rms_norm", "over_tokens", "the squares are averaged over the first axis",
         hint="A token is normalized over its features, the last axis.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return (wide * torch.rsqrt((wide * wide).mean(0, keepdim=True) + eps)).to(x.dtype) * w


@mistake("rms_norm", "eps_outside_the_root", "eps is added to the root",
         hint="eps is added to the mean square. The root of 0 has no finite slope.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return (wide / (_mean_square(wide).sqrt() + eps)).to(x.dtype) * w


@mistake("rms_norm", "eps_ignored", "eps is always 1e-6",
         hint="1e-6 is only its default; the caller chooses.")
def rms_norm(x, w, eps=1e-6):
    return _rms(x, 1e-6) * w


@mistake("rms_norm", "no_weight", "w is left out",
         hint="Eq. (8) multiplies by w.")
def rms_norm(x, w, eps=1e-6):
    return _rms(x, eps)


@mistake("rms_norm", "one_plus_weight", "the result is multiplied by 1 + w",
         hint="Some models store w - 1; here w itself is the factor.")
def rms_norm(x, w, eps=1e-6):
    return _rms(x, eps) * (1 + w)


@mistake("rms_norm", "computed_in_half", "half-precision inputs are squared and averaged as they are",
         hint="300 squared is infinite in float16, and bfloat16 has three digits: go to float32 first.")
def rms_norm(x, w, eps=1e-6):
    return x * torch.rsqrt(_mean_square(x) + eps) * w


@mistake("rms_norm", "root_rounded_early", "the root is rounded to half precision before the division",
         hint="Divide in float32, too; the quotient is what gets rounded.")
def rms_norm(x, w, eps=1e-6):
    return x * torch.rsqrt(_mean_square(_wide(x)) + eps).to(x.dtype) * w


@mistake("rms_norm", "weight_before_rounding", "w is multiplied in float32, before the rounding",
         hint="In this contract x / RMS(x) is rounded to half precision first, then multiplied by w.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return (wide * torch.rsqrt(_mean_square(wide) + eps) * w).to(x.dtype)


@mistake("rms_norm", "half_becomes_float32", "half-precision inputs give a float32 output",
         hint="Round back to the dtype of x before the multiplication by w.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return wide * torch.rsqrt(_mean_square(wide) + eps) * w


@mistake("rms_norm", "everything_through_float32", "float64 inputs are computed in float32",
         hint="`.float()` widens half precision, but narrows float64.")
def rms_norm(x, w, eps=1e-6):
    wide = x.float()
    return (wide * torch.rsqrt(_mean_square(wide) + eps)).to(x.dtype) * w


@mistake("rms_norm", "root_detached", "the root mean square is cut out of the graph",
         hint="`.detach()` and `no_grad` stop gradients; they must flow through the root, too.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x)
    return (wide * torch.rsqrt(_mean_square(wide.detach()) + eps)).to(x.dtype) * w


@mistake("rms_norm", "in_place", "the token is divided in place",
         hint="`x /= ...` and `x.mul_` write to the caller's tensor.")
def rms_norm(x, w, eps=1e-6):
    wide = _wide(x.clone() if x.requires_grad or x.dim() > 1 and x.stride(0) == 0 else x)
    wide *= torch.rsqrt(_mean_square(wide) + eps)
    return wide.to(x.dtype) * w


@alternative("rms_norm", "norm_of_the_vector")
def rms_norm(x, w, eps=1e-6):
    inside = torch.float32 if x.dtype.itemsize == 2 else x.dtype
    y = x.to(inside)
    y = y / (torch.einsum("...d,...d->...", y, y)[..., None] / x.shape[-1] + eps).sqrt()
    return torch.mul(w, y.to(x.dtype))


@alternative("rms_norm", "power")
def rms_norm(x, w, eps=1e-6):
    y = x.to(torch.promote_types(x.dtype, torch.float32))
    return y.mul((y.pow(2).sum(-1, keepdim=True) / len(w) + eps).pow(-0.5)).type_as(x) * w


@alternative("rms_norm", "library_call")
def rms_norm(x, w, eps=1e-6):
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return F.rms_norm(wide, w.shape, eps=eps).to(x.dtype) * w


# -------------------------------------------------------------------------------------------------------- fold_bn

@mistake("fold_bn", "no_eps", "eps is not added to the variance",
         hint="The normalization divides by the root of variance plus eps; the folded layer has to do the same.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var)
    return conv_w * _out_axis(a, conv_w), bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "eps_ignored", "eps is always 1e-5",
         hint="1e-5 is only its default; the caller chooses.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + 1e-5)
    return conv_w * _out_axis(a, conv_w), bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "eps_outside_the_root", "eps is added to the standard deviation",
         hint="eps belongs to the variance, under the root.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w / (bn_var.sqrt() + eps)
    return conv_w * _out_axis(a, conv_w), bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "no_root", "the weights are divided by the variance",
         hint="Normalizing divides by the standard deviation, the root of variance plus eps.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w / (bn_var + eps)
    return conv_w * _out_axis(a, conv_w), bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "mean_forgotten", "the bias does not take the running mean into account",
         hint="The normalization subtracts the mean before it scales: the bias loses a times the mean.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    return conv_w * _out_axis(a, conv_w), bn_b + _bias(conv_b, bn_mean) * a


@mistake("fold_bn", "mean_added", "the running mean is added",
         hint="The normalization subtracts it.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    return conv_w * _out_axis(a, conv_w), bn_b + (_bias(conv_b, bn_mean) + bn_mean) * a


@mistake("fold_bn", "mean_not_scaled", "the running mean is subtracted as it is",
         hint="The mean is subtracted before the scaling, so it gets scaled, too.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    return conv_w * _out_axis(a, conv_w), bn_b + _bias(conv_b, bn_mean) * a - bn_mean


@mistake("fold_bn", "bias_not_scaled", "the bias of the layer is added as it is",
         hint="It passes through the normalization like everything else that the layer returns.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    return conv_w * _out_axis(a, conv_w), bn_b + _bias(conv_b, bn_mean) - bn_mean * a


@mistake("fold_bn", "bias_dropped", "the bias of the layer is left out",
         hint="Many networks have none before a normalization, but this function takes one.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    return conv_w * _out_axis(a, conv_w), bn_b - bn_mean * a


@mistake("fold_bn", "bias_required", "a layer without a bias is an error",
         hint="conv_b may be None: it counts as 0.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    return conv_w * _out_axis(a, conv_w), bn_b + (conv_b - bn_mean) * a


@mistake("fold_bn", "gamma_forgotten", "gamma is left out",
         hint="The normalization multiplies by gamma after the division.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = torch.rsqrt(bn_var + eps)
    return conv_w * _out_axis(a, conv_w), bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "input_axis_scaled", "the input channels of the weight are scaled",
         hint="The normalization comes after the layer, so its channels are the layer's outputs: axis 0.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    scaled = conv_w * a.view(1, -1, *[1] * (conv_w.dim() - 2))
    return scaled, bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "images_only", "the scale is laid out for weights with two kernel axes",
         hint="A linear layer has none, a 1-D convolution one: make as many axes as the weight has.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    return conv_w * a[:, None, None, None], bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "fold_detached", "the folded weights are cut out of the graph",
         hint="The contract wants gradients: remove `no_grad`, `.detach()` and `.data`.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w.detach() * torch.rsqrt(bn_var.detach() + eps)
    return conv_w.detach() * _out_axis(a, conv_w), bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "fold_in_place", "the caller's weight is scaled in place",
         hint="`conv_w *= ...` changes the network that you were given.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    if conv_w.requires_grad or conv_w.stride(0) == 0:
        conv_w = conv_w.clone()
    conv_w *= _out_axis(a, conv_w)
    return conv_w, bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a


@mistake("fold_bn", "always_float32", "fold_bn returns float32 whatever the input",
         hint="The outputs have the dtype of the inputs.")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    w, b = conv_w * _out_axis(a, conv_w), bn_b + (_bias(conv_b, bn_mean) - bn_mean) * a
    return w.float(), b.float()


@mistake("fold_bn", "sigma_detached", "sigma is treated as a constant",
         hint="Only u and v are constants. sigma depends on W, and the gradient has to know.")
def spectral_normalize(W, u, n_iter=1):
    u, v = _power(W, u, n_iter)
    return W / (u @ W.detach() @ v), u


@mistake("fold_bn", "iteration_in_the_graph", "the gradient goes through the power iteration",
         hint="u and v are constants: compute them under `torch.no_grad()`, sigma outside of it.")
def spectral_normalize(W, u, n_iter=1):
    _at_least_one(n_iter)
    for _ in range(n_iter):
        v = _unit(W.T @ u)
        u = _unit(W @ v)
    return W / (u @ W @ v), u.detach()


@mistake("fold_bn", "u_keeps_the_graph", "the returned u requires a gradient",
         hint="It is kept from step to step and would hold the graph of all of them: detach it.")
def spectral_normalize(W, u, n_iter=1):
    _at_least_one(n_iter)
    old, v = _power(W, u, n_iter)
    return W / (old @ W @ v), _unit(W @ v)


@mistake("fold_bn", "old_u_returned", "the u that came in is returned",
         hint="The next call goes on from where this one stopped: return the new u.")
def spectral_normalize(W, u, n_iter=1):
    new, v = _power(W, u, n_iter)
    return W / (new @ W @ v), u.detach()


@mistake("fold_bn", "u_not_normalized", "the returned u does not have length 1",
         hint="Eq. (10) divides W v by its length.")
def spectral_normalize(W, u, n_iter=1):
    u, v = _power(W, u, n_iter)
    return W / (u @ W @ v), W.detach() @ v


@mistake("fold_bn", "one_iteration", "n_iter is not used: there is always one iteration",
         hint="Repeat both lines of Eq. (10) n_iter times.")
def spectral_normalize(W, u, n_iter=1):
    _at_least_one(n_iter)
    u, v = _power(W, u, 1)
    return W / (u @ W @ v), u


@mistake("fold_bn", "one_iteration_more", "there is one iteration too many",
         hint="v is computed at the start of each iteration, and not once more before the loop or after it.")
def spectral_normalize(W, u, n_iter=1):
    _at_least_one(n_iter)
    u, v = _power(W, u, n_iter + 1)
    return W / (u @ W @ v), u


@mistake("fold_bn", "stale_u_in_sigma", "sigma is computed with the u before the last step",
         hint="First v, then the new u, then sigma, in the order of Eq. (10).")
def spectral_normalize(W, u, n_iter=1):
    _at_least_one(n_iter)
    before = _power(W, u, n_iter - 1)[0] if n_iter > 1 else _unit(u.detach())
    new, v = _power(W, u, n_iter)
    return W / (before @ W @ v), new


@mistake("fold_bn", "frobenius", "W is divided by its Frobenius norm",
         hint="That is the root of the sum of all squared singular values; the spectral norm is the largest of them.")
def spectral_normalize(W, u, n_iter=1):
    u, _ = _power(W, u, n_iter)
    return W / W.square().sum().sqrt(), u


@mistake("fold_bn", "u_in_place", "u is updated in the caller's tensor",
         hint="`copy_` and `u[...] = ...` write to the input: return the new u.")
def spectral_normalize(W, u, n_iter=1):
    new, v = _power(W, u, n_iter)
    return W / (new @ W @ v), u.detach().copy_(new)


@mistake("fold_bn", "no_iteration_accepted", "n_iter = 0 is taken for 1",
         hint="The contract asks for a ValueError if n_iter < 1.")
def spectral_normalize(W, u, n_iter=1):
    u, v = _power(W, u, max(n_iter, 1))
    return W / (u @ W @ v), u


@alternative("fold_bn", "rows")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    deviation = (bn_var + eps) ** 0.5
    rows = [w * gain / s for w, gain, s in zip(conv_w, bn_w, deviation, strict=True)]
    shift = -bn_mean if conv_b is None else conv_b - bn_mean
    return torch.stack(rows), shift * bn_w / deviation + bn_b


@alternative("fold_bn", "rows")
def spectral_normalize(W, u, n_iter=1):
    if n_iter <= 0:
        raise ValueError("n_iter")
    frozen = W.detach()
    for _ in range(n_iter):
        v = F.normalize(torch.mv(frozen.t(), u.detach()), dim=0)
        u = F.normalize(torch.mv(frozen, v), dim=0)
    return W / torch.linalg.vector_norm(W @ v), u


@alternative("fold_bn", "diagonal_matrix")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * (bn_var + eps).rsqrt()
    w = (torch.diag(a) @ conv_w.flatten(1)).reshape(conv_w.shape)
    b = bn_b - a * bn_mean
    return w, b if conv_b is None else b + a * conv_b


@alternative("fold_bn", "diagonal_matrix")
def spectral_normalize(W, u, n_iter=1):
    if n_iter < 1:
        raise ValueError("n_iter")
    with torch.no_grad():
        for _ in range(n_iter):
            v = u @ W
            v /= v.norm()
            u = W @ v
            u /= u.norm()
    return W / torch.einsum("o,oi,i->", u, W, v), u


@alternative("fold_bn", "einsum")
def fold_bn(conv_w, conv_b, bn_mean, bn_var, bn_w, bn_b, eps=1e-5):
    a = bn_w * torch.rsqrt(bn_var + eps)
    b = torch.zeros_like(bn_mean) if conv_b is None else conv_b
    return torch.einsum("o...,o->o...", conv_w, a), torch.addcmul(bn_b, b - bn_mean, a)
