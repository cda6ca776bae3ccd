"""What students hand in for the hybrid unit: known mistakes, and right answers in other styles.

Every decorated function replaces the reference's function of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...".
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from autograder.variants import alternative, mistake

# ---------------------------------------------------------------------------------------------------- film_fusion


def _gamma_beta(cond, weight, bias):
    """Factors and offsets, each (B, C, 1, 1)."""
    both = (cond @ weight.T + bias)[..., None, None]
    half = both.shape[1] // 2
    return both[:, :half], both[:, half:]


@mistake("film_fusion", "beta_first", "the first half of the rows is used as beta and the second as gamma",
         hint="The contract has gamma in the rows 0 to C-1. Libraries differ here, so weights do not carry over.")
def film(x, cond, weight, bias):
    beta, gamma = _gamma_beta(cond, weight, bias)
    return x * gamma + beta


@mistake("film_fusion", "interleaved", "gamma and beta alternate row by row",
         hint="All of gamma comes first, then all of beta: cut the 2C numbers once, in the middle.")
def film(x, cond, weight, bias):
    both = (cond @ weight.T + bias)[..., None, None]
    return x * both[:, 0::2] + both[:, 1::2]


@mistake("film_fusion", "one_plus_gamma", "the factor is 1 + gamma",
         hint="Some programs do that so that a fresh network changes nothing. Eq. (2) multiplies by gamma itself.")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond, weight, bias)
    return x * (1 + gamma) + beta


@mistake("film_fusion", "along_the_width", "the factors meet the last axis of x instead of its channels",
         hint="Broadcasting aligns from the right: channels are axis 1, so two axes of size 1 must follow. It runs "
              "where C = W, and is wrong there.")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond, weight, bias)
    return x * gamma.transpose(1, 3) + beta.transpose(1, 3)


@mistake("film_fusion", "along_the_height", "the factors meet the rows of the picture instead of its channels",
         hint="With one axis too few behind them, C numbers line up with H. Two axes of size 1 must follow.")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond, weight, bias)
    return x * gamma.transpose(1, 2) + beta.transpose(1, 2)


@mistake("film_fusion", "condition_averaged", "the conditions of the batch are averaged",
         hint="Every example has its own gamma and beta; nothing is summed over axis 0.")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond.mean(dim=0, keepdim=True), weight, bias)
    return x * gamma + beta


@mistake("film_fusion", "bias_forgotten", "the bias b is left out",
         hint="Eq. (1) is W c + b.")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond, weight, torch.zeros_like(bias))
    return x * gamma + beta


@mistake("film_fusion", "offset_scaled_too", "beta is added before the multiplication",
         hint="Eq. (2): first the factor, then the offset; (F + beta) * gamma is something else.")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond, weight, bias)
    return (x + beta) * gamma


@mistake("film_fusion", "normalized_first", "the features are normalized over the pixels first",
         hint="In the paper a batch normalization stands before FiLM; it is not a part of Eq. (2).")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond, weight, bias)
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    return centred / (x.var(dim=(2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt() * gamma + beta


@mistake("film_fusion", "condition_detached", "no gradient reaches the condition",
         hint="The encoder of the question learns through cond: do not detach it.")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond.detach(), weight, bias)
    return x * gamma + beta


@mistake("film_fusion", "in_float64", "the result is float64 whatever the input",
         hint="The output has the dtype of the input.")
def film(x, cond, weight, bias):
    gamma, beta = _gamma_beta(cond.double(), weight.double(), bias.double())
    return x * gamma + beta


@alternative("film_fusion", "einsum")
def film(x, cond, weight, bias):
    factors, offsets = weight.tensor_split(2)
    first, last = bias.tensor_split(2)
    moved = torch.einsum("bchw,bc->bchw", x, torch.einsum("cd,bd->bc", factors, cond) + first)
    return moved + (torch.einsum("cd,bd->bc", offsets, cond) + last).reshape(*x.shape[:2], 1, 1)


@alternative("film_fusion", "example_by_example")
def film(x, cond, weight, bias):
    pictures = []
    for one, c in zip(x, cond, strict=True):
        both = weight @ c + bias
        pictures.append(torch.stack([plane * both[i] + both[len(one) + i] for i, plane in enumerate(one)]))
    return torch.stack(pictures)


# ----------------------------------------------------------------------------------------------- clip_contrastive

def _unit(rows):
    return F.normalize(rows, dim=-1)


def _both_ways(z):
    """Eq. (4) from the matrix of Eq. (3)."""
    return -(z.log_softmax(dim=0).trace() + z.log_softmax(dim=1).trace()) / (2 * len(z))


@mistake("clip_contrastive", "not_normalized", "plain dot products are used instead of cosines",
         hint="Eq. (3) divides by both lengths.")
def clip_loss(img, txt, log_scale):
    return _both_ways(log_scale.exp() * img @ txt.T)


@mistake("clip_contrastive", "normalized_over_the_batch", "the columns are normalized instead of the rows",
         hint="An embedding is a row: its length is a sum over the last axis.")
def clip_loss(img, txt, log_scale):
    return _both_ways(log_scale.exp() * F.normalize(img, dim=0) @ F.normalize(txt, dim=0).T)


@mistake("clip_contrastive", "one_side_normalized", "only the pictures' embeddings are normalized",
         hint="Eq. (3) divides by the length of v as well.")
def clip_loss(img, txt, log_scale):
    return _both_ways(log_scale.exp() * _unit(img) @ txt.T)


@mistake("clip_contrastive", "scale_not_exponentiated", "the cosines are multiplied by t instead of exp(t)",
         hint="The parameter is a logarithm, so that the factor is always positive.")
def clip_loss(img, txt, log_scale):
    return _both_ways(log_scale * _unit(img) @ _unit(txt).T)


@mistake("clip_contrastive", "divided_by_scale", "the cosines are divided by exp(t)",
         hint="A temperature divides; a scale multiplies. t is the logarithm of a scale.")
def clip_loss(img, txt, log_scale):
    return _both_ways(_unit(img) @ _unit(txt).T / log_scale.exp())


@mistake("clip_contrastive", "scale_clipped", "exp(t) is kept below 100",
         hint="Clipping t is the training loop's affair; the loss takes it as it is.")
def clip_loss(img, txt, log_scale):
    return _both_ways(log_scale.exp().clamp(max=100.0) * _unit(img) @ _unit(txt).T)


@mistake("clip_contrastive", "pictures_only", "only the pictures choose among the texts",
         hint="The second sum of Eq. (4) runs down the columns: texts choose among pictures.")
def clip_loss(img, txt, log_scale):
    return F.cross_entropy(log_scale.exp() * _unit(img) @ _unit(txt).T, torch.arange(len(img)))


@mistake("clip_contrastive", "texts_only", "only the texts choose among the pictures",
         hint="The first sum of Eq. (4) runs along the rows: pictures choose among texts.")
def clip_loss(img, txt, log_scale):
    return F.cross_entropy(log_scale.exp() * _unit(txt) @ _unit(img).T, torch.arange(len(img)))


@mistake("clip_contrastive", "directions_summed", "the losses of the two directions are added, not averaged",
         hint="The factor in front of Eq. (4) is 1 / (2N).")
def clip_loss(img, txt, log_scale):
    return 2 * _both_ways(log_scale.exp() * _unit(img) @ _unit(txt).T)


@mistake("clip_contrastive", "summed_over_pairs", "the loss is summed over the batch instead of averaged",
         hint="With reduction='sum' the step size depends on the batch: Eq. (4) divides by N.")
def clip_loss(img, txt, log_scale):
    return len(img) * _both_ways(log_scale.exp() * _unit(img) @ _unit(txt).T)


@mistake("clip_contrastive", "binary", "every entry of the matrix is a yes-or-no question of its own",
         hint="That is the sigmoid loss of SigLIP. Here one right text competes with the others in a softmax.")
def clip_loss(img, txt, log_scale):
    z = log_scale.exp() * _unit(img) @ _unit(txt).T
    return F.binary_cross_entropy_with_logits(z, torch.eye(len(z), dtype=z.dtype))


@mistake("clip_contrastive", "right_answer_left_out", "the right answer is missing from the denominator",
         hint="Both denominators of Eq. (4) sum over all N choices, the right one included.")
def clip_loss(img, txt, log_scale):
    z = log_scale.exp() * _unit(img) @ _unit(txt).T
    others = z.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e30)
    return ((others.logsumexp(0) + others.logsumexp(1)) / 2 - z.diagonal()).mean()


@mistake("clip_contrastive", "texts_detached", "no gradient reaches the texts",
         hint="Both encoders learn from this loss.")
def clip_loss(img, txt, log_scale):
    return _both_ways(log_scale.exp() * _unit(img) @ _unit(txt).detach().T)


@mistake("clip_contrastive", "scale_as_a_number", "no gradient reaches the scale",
         hint="`.item()` and `float()` make a plain number: nothing can learn through it.")
def clip_loss(img, txt, log_scale):
    return _both_ways(math.exp(log_scale.item()) * _unit(img) @ _unit(txt).T)


@mistake("clip_contrastive", "length_detached", "the lengths count as constants in the gradient",
         hint="The gradient through the norm is what makes it orthogonal to the embedding.")
def clip_loss(img, txt, log_scale):
    u, v = (rows / rows.norm(dim=-1, keepdim=True).detach() for rows in (img, txt))
    return _both_ways(log_scale.exp() * u @ v.T)


@mistake("clip_contrastive", "overflow", "the softmax is written with exp and without subtracting the maximum",
         hint="exp overflows beyond 88 in float32; logsumexp and log_softmax are safe.")
def clip_loss(img, txt, log_scale):
    z = (log_scale.exp() * _unit(img) @ _unit(txt).T).exp()
    return -((z.diagonal() / z.sum(0)).log() + (z.diagonal() / z.sum(1)).log()).mean() / 2


@alternative("clip_contrastive", "logsumexp")
def clip_loss(img, txt, log_scale):
    u, v = (rows / (rows * rows).sum(-1, keepdim=True).sqrt() for rows in (img, txt))
    z = torch.einsum("id,jd->ij", u, v) * torch.exp(log_scale)
    return ((torch.logsumexp(z, 0) + torch.logsumexp(z, 1)) / 2 - torch.diagonal(z)).mean()


@alternative("clip_contrastive", "pair_by_pair")
def clip_loss(img, txt, log_scale):
    total, n = 0, len(img)
    for i in range(n):
        to_texts = log_scale.exp() * F.cosine_similarity(img[i:i + 1], txt)
        to_pictures = log_scale.exp() * F.cosine_similarity(txt[i:i + 1], img)
        total = total - to_texts.log_softmax(0)[i] - to_pictures.log_softmax(0)[i]
    return total / (2 * n)


# ------------------------------------------------------------------------------------------ gated_cross_attention

def _heads_apart(y, heads):
    return y.reshape(*y.shape[:2], heads, y.shape[2] // heads).permute(0, 2, 1, 3)


def _weights(q, k, heads, keep, factor=1.0):
    """Attention weights (B, heads, T, S); keep broadcasts to them."""
    a, b = _heads_apart(q, heads), _heads_apart(k, heads)
    scores = factor * a @ b.mT / math.sqrt(a.shape[-1])
    return torch.where(keep, torch.softmax(torch.where(keep, scores, -1e30), -1), 0)


def _attend(q, k, v, heads, keep, factor=1.0):
    return (_weights(q, k, heads, keep, factor) @ _heads_apart(v, heads)).permute(0, 2, 1, 3).flatten(2)


def _gate():
    return nn.Parameter(torch.tensor(0.0))


class _Gated(nn.Module):
    """A right block in small methods, each of which a mistake can replace."""

    def __init__(self, width, ctx_width, heads, hidden):
        super().__init__()
        self.heads = self.checked(width, heads)
        self.make_gates()
        for name, inputs in (("q", width), ("k", ctx_width), ("v", ctx_width), ("out", width)):
            setattr(self, name, nn.Linear(inputs, width, bias=False))
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def checked(self, width, heads):
        if width % heads != 0:
            raise ValueError(heads)
        return heads

    def make_gates(self):
        self.alpha, self.beta = _gate(), _gate()

    def gate(self, number):
        return number.tanh()

    def readable(self, ctx_keep):
        return ctx_keep[:, None, None, :]

    def read(self, x, ctx, ctx_keep):
        return self.out(_attend(self.q(x), self.k(ctx), self.v(ctx), self.heads, self.readable(ctx_keep)))

    def think(self, x):
        return self.linear2(F.gelu(self.linear1(x)))

    def forward(self, x, ctx, ctx_keep):
        x = x + self.gate(self.alpha) * self.read(self.norm1(x), ctx, ctx_keep)
        return x + self.gate(self.beta) * self.think(self.norm2(x))


@mistake("gated_cross_attention", "gate_starts_open", "the gates start at 1",
         hint="A new block must not disturb the frozen model: Eqs. (5)-(6) are the identity at 0.")
def fresh_gate():
    return nn.Parameter(torch.ones(()))


@mistake("gated_cross_attention", "gate_is_no_parameter", "a fresh gate is a plain tensor",
         hint="Only an nn.Parameter is found by parameters(), saved by state_dict() and trained.")
def fresh_gate():
    return torch.zeros(())


@mistake("gated_cross_attention", "gate_per_channel", "there is a gate for every channel",
         hint="alpha and beta are one number each, of shape ().")
def fresh_gate():
    return nn.Parameter(torch.zeros(1))


@mistake("gated_cross_attention", "gates_are_buffers", "the gates are buffers of the module",
         hint="A buffer is saved, but no optimizer gets it: parameters() does not list it.")
class GatedXAttn(_Gated):
    def make_gates(self):
        self.register_buffer("alpha", torch.zeros(()))
        self.register_buffer("beta", torch.zeros(()))


@mistake("gated_cross_attention", "sigmoid_gate", "the gate is a sigmoid",
         hint="The sigmoid of 0 is one half: a new block would not be the identity. Eq. (5) has tanh.")
class GatedXAttn(_Gated):
    def gate(self, number):
        return number.sigmoid()


@mistake("gated_cross_attention", "no_tanh", "the gate is alpha itself, without tanh",
         hint="Eq. (5) multiplies by tanh(alpha), which stays between -1 and 1.")
class GatedXAttn(_Gated):
    def gate(self, number):
        return number


@mistake("gated_cross_attention", "gate_detached", "no gradient reaches the gates",
         hint="`.item()`, `.data` and `detach()` cut the gate off: it would never open.")
class GatedXAttn(_Gated):
    def gate(self, number):
        return math.tanh(number.item())


@mistake("gated_cross_attention", "gate_inside_the_softmax", "the gate multiplies the scores, before the softmax",
         hint="At 0 the softmax is then uniform, and the mean of the context is added. The gate multiplies what the "
              "sublayer adds.")
class GatedXAttn(_Gated):
    def forward(self, x, ctx, ctx_keep):
        q, k, v = self.q(self.norm1(x)), self.k(ctx), self.v(ctx)
        x = x + self.out(_attend(q, k, v, self.heads, self.readable(ctx_keep), self.gate(self.alpha)))
        return x + self.gate(self.beta) * self.think(self.norm2(x))


@mistake("gated_cross_attention", "gate_on_the_line", "the gates mix: (1 - g) x + g times the sublayer",
         hint="In Eqs. (5) and (6) x goes through whole, whatever the gate; only what is added is multiplied.")
class GatedXAttn(_Gated):
    def forward(self, x, ctx, ctx_keep):
        x = torch.lerp(x, self.read(self.norm1(x), ctx, ctx_keep), self.gate(self.alpha))
        return torch.lerp(x, self.think(self.norm2(x)), self.gate(self.beta))


@mistake("gated_cross_attention", "one_gate_for_both", "alpha gates both sublayers",
         hint="The feed-forward part has a gate of its own, beta.")
class GatedXAttn(_Gated):
    def forward(self, x, ctx, ctx_keep):
        x = x + self.gate(self.alpha) * self.read(self.norm1(x), ctx, ctx_keep)
        return x + self.gate(self.alpha) * self.think(self.norm2(x))


@mistake("gated_cross_attention", "norm_on_the_line", "the normalized x is carried on instead of x",
         hint="With `x = self.norm1(x)` the original is lost: normalize only what the sublayer reads.")
class GatedXAttn(_Gated):
    def forward(self, x, ctx, ctx_keep):
        x = self.norm1(x)
        x = x + self.gate(self.alpha) * self.read(x, ctx, ctx_keep)
        x = self.norm2(x)
        return x + self.gate(self.beta) * self.think(x)


@mistake("gated_cross_attention", "norm_missing", "the attention reads x as it is",
         hint="The queries are made of LN(x): Eq. (5).")
class GatedXAttn(_Gated):
    def forward(self, x, ctx, ctx_keep):
        x = x + self.gate(self.alpha) * self.read(x, ctx, ctx_keep)
        return x + self.gate(self.beta) * self.think(self.norm2(x))


@mistake("gated_cross_attention", "parallel", "the feed-forward part reads x, not what the attention made of it",
         hint="Eq. (6) reads h, the result of Eq. (5).")
class GatedXAttn(_Gated):
    def forward(self, x, ctx, ctx_keep):
        return (x + self.gate(self.alpha) * self.read(self.norm1(x), ctx, ctx_keep)
                + self.gate(self.beta) * self.think(self.norm2(x)))


@mistake("gated_cross_attention", "mask_inverted", "the mask is read the other way round",
         hint="In this course True means keep.")
class GatedXAttn(_Gated):
    def readable(self, ctx_keep):
        return ~ctx_keep[:, None, None, :]


@mistake("gated_cross_attention", "mask_ignored", "the whole context is read, masked or not",
         hint="Hand ctx_keep on to the attention.")
class GatedXAttn(_Gated):
    def readable(self, ctx_keep):
        return torch.ones_like(ctx_keep)[:, None, None, :]


@mistake("gated_cross_attention", "nothing_to_read_is_nan", "nothing is done about a context that is wholly masked",
         hint="A softmax over a row of -inf is NaN, and NaN survives a shut gate: 0 * NaN is NaN.")
class GatedXAttn(_Gated):
    def read(self, x, ctx, ctx_keep):
        a, b, c = (_heads_apart(y, self.heads) for y in (self.q(x), self.k(ctx), self.v(ctx)))
        scores = (a @ b.mT / math.sqrt(a.shape[-1])).masked_fill(~self.readable(ctx_keep), -math.inf)
        return self.out((scores.softmax(-1) @ c).transpose(1, 2).flatten(2))


@mistake("gated_cross_attention", "gelu_approximated", "the GELU is the approximation by tanh",
         hint="The contract asks for the exact one, the default of F.gelu.")
class GatedXAttn(_Gated):
    def think(self, x):
        return self.linear2(F.gelu(self.linear1(x), approximate="tanh"))


@mistake("gated_cross_attention", "heads_not_checked", "a number of heads that does not divide C is accepted",
         hint="The contract asks for a ValueError in the constructor.")
class GatedXAttn(_Gated):
    def checked(self, width, heads):
        return heads


@alternative("gated_cross_attention", "library_attention")
class GatedXAttn(_Gated):
    def read(self, x, ctx, ctx_keep):
        seen = ctx_keep.any(-1)
        split = [_heads_apart(y, self.heads) for y in (self.q(x), self.k(ctx), self.v(ctx))]
        keep = self.readable(ctx_keep | ~seen[:, None])
        answer = F.scaled_dot_product_attention(*split, attn_mask=keep).transpose(1, 2).flatten(2)
        return self.out(answer * seen[:, None, None])


@alternative("gated_cross_attention", "parameters_by_hand")
class GatedXAttn(nn.Module):
    def __init__(self, width, ctx_width, heads, hidden):
        super().__init__()
        if width // heads * heads < width:
            raise ValueError("heads")
        self.heads = heads
        for name in ("alpha", "beta"):
            self.register_parameter(name, _gate())
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (
            nn.Linear(inputs, width, bias=False) for inputs in (width, ctx_width, ctx_width, width))
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x, ctx, ctx_keep):
        q, k, v = self.q(self.norm1(x)), self.k(ctx), self.v(ctx)
        size = q.shape[-1] // self.heads
        heads = []
        for i in range(self.heads):
            part = slice(i * size, (i + 1) * size)
            heads.append(_attend(q[..., part], k[..., part], v[..., part], 1, ctx_keep[:, None, None]))
        h = torch.addcmul(x, self.alpha.tanh(), self.out(torch.cat(heads, dim=-1)))
        return h + (F.gelu(self.linear1(self.norm2(h))) @ self.linear2.weight.T + self.linear2.bias) * self.beta.tanh()


# -------------------------------------------------------------------------------------------- cvt_conv_projection

def _depthwise(x, kernel, stride, padding=1):
    return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])


def _affine(y, norm):
    return y * norm[0].reshape(-1, 1, 1) + norm[1].reshape(-1, 1, 1)


def _rows(y, point):
    """Pixels (B, C, H, W) under P as tokens, row by row."""
    return torch.einsum("bchw,oc->bhwo", y, point).flatten(1, 2)


def _project(x, depth, norm, point, stride):
    return _rows(_affine(_depthwise(x, depth, stride), norm), point)


def _three(x, depth, norm, point, stride, project=_project):
    strides = (1, stride, stride)
    return tuple(project(x, depth[i], norm[i], point[i], strides[i]) for i in range(3))


@mistake("cvt_conv_projection", "channels_summed", "every channel's kernel sees the sum of all channels",
         hint="Depth-wise means that channel c of the output comes from channel c of the input: groups=C.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        return _rows(_affine(F.conv2d(x.sum(1, keepdim=True), depth, stride=stride, padding=1), norm), point)
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "queries_strided", "the stride is used for the queries, too",
         hint="Every pixel asks; only keys and values are thinned out.")
def conv_qkv(x, depth, norm, point, kv_stride):
    return tuple(_project(x, depth[i], norm[i], point[i], kv_stride) for i in range(3))


@mistake("cvt_conv_projection", "stride_ignored", "keys and values have stride 1 whatever is asked for",
         hint="kv_stride is the stride of two of the three convolutions.")
def conv_qkv(x, depth, norm, point, kv_stride):
    return _three(x, depth, norm, point, 1)


@mistake("cvt_conv_projection", "no_padding", "the convolutions have no padding",
         hint="A 3 x 3 kernel without padding loses a pixel on every side.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        return _rows(_affine(_depthwise(x, depth, stride, 0), norm), point)
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "border_repeated", "the border is repeated instead of padded with zeros",
         hint="The contract has zero padding.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        return _rows(_affine(_depthwise(F.pad(x, (1, 1, 1, 1), mode="replicate"), depth, stride, 0), norm), point)
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "kernel_flipped", "the kernels are flipped",
         hint="Mathematicians flip kernels; deep learning, and F.conv2d, do not.")
def conv_qkv(x, depth, norm, point, kv_stride):
    return _three(x, depth.flip(-1, -2), norm, point, kv_stride)


@mistake("cvt_conv_projection", "pooled_instead_of_strided", "keys and values are averaged over s x s pixels",
         hint="That is another way to thin them out (PVT does it). Here the convolution itself has a stride.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        y = F.avg_pool2d(_depthwise(x, depth, 1), stride, ceil_mode=True)
        return _rows(_affine(y, norm), point)
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "norm_first", "factor and offset act before the depth-wise convolution",
         hint="Eq. (7): D, then a and b, then P. The offset is not 0 at the border, where the padding is.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        return _rows(_depthwise(_affine(x, norm), depth, stride), point)
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "norm_last", "factor and offset act after P",
         hint="Eq. (7): D, then a and b, then P. Folded into P they multiply its columns, not its rows.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        return _rows(_depthwise(x, depth, stride), point) * norm[0] + norm[1]
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "offset_forgotten", "the offset b is left out",
         hint="A batch normalization has a factor and an offset.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        return _rows(_depthwise(x, depth, stride) * norm[0, :, None, None], point)
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "offset_not_projected", "b is added behind P",
         hint="Folding: P (a y + b) = (P a) y + P b. The offset goes through P as well.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        return _rows(_depthwise(x, depth, stride) * norm[0, :, None, None], point) + norm[1]
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "p_transposed", "P is used as (in, out)",
         hint="Weights are (out, in), as in nn.Linear: y @ P.T.")
def conv_qkv(x, depth, norm, point, kv_stride):
    return _three(x, depth, norm, point.mT, kv_stride)


@mistake("cvt_conv_projection", "tokens_by_reshape", "pixels become tokens by a reshape that mixes up channels",
         hint="(B, C, H*W) has its channels first: they have to be exchanged with the tokens.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        y = _affine(_depthwise(x, depth, stride), norm)
        return y.reshape(len(y), -1, y.shape[1]) @ point.T
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "tokens_by_columns", "tokens go down the columns of the picture",
         hint="Token h*W + w: the last axis runs fastest.")
def conv_qkv(x, depth, norm, point, kv_stride):
    def project(x, depth, norm, point, stride):
        return _rows(_affine(_depthwise(x, depth, stride), norm).mT, point)
    return _three(x, depth, norm, point, kv_stride, project)


@mistake("cvt_conv_projection", "softmax_over_the_queries", "conv_attention's softmax runs over the queries",
         hint="Each query distributes a weight of 1 over the keys.")
def conv_attention(x, depth, norm, point, kv_stride, heads):
    q, k, v = (_heads_apart(y, heads) for y in _three(x, depth, norm, point, kv_stride))
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-2)
    return (weights @ v).transpose(2, 3).reshape(x.shape)


@mistake("cvt_conv_projection", "softmax_over_channels", "queries and keys are made into softmaxes over their channels",
         hint="That is a linear attention. Eq. (8) has the softmax of the scores, over the keys.")
def conv_attention(x, depth, norm, point, kv_stride, heads):
    q, k, v = (_heads_apart(y, heads) for y in _three(x, depth, norm, point, kv_stride))
    return (q.softmax(-1) @ k.softmax(-1).mT @ v / k.shape[2]).transpose(2, 3).reshape(x.shape)


@mistake("cvt_conv_projection", "scale_of_all_channels", "the scores are divided by the root of C",
         hint="The scale is the width of one head, C / heads; `attention` does it.")
def conv_attention(x, depth, norm, point, kv_stride, heads):
    q, k, v = _three(x, depth, norm, point, kv_stride)
    keep = torch.ones(1, 1, 1, k.shape[1], dtype=torch.bool)
    return _attend(q, k, v, heads, keep, heads ** -0.5).mT.reshape(x.shape)


@mistake("cvt_conv_projection", "picture_by_reshape", "tokens become a picture by a reshape that mixes up channels",
         hint="The tokens are (B, H*W, C): exchange the last two axes first, then split H and W.")
def conv_attention(x, depth, norm, point, kv_stride, heads):
    q, k, v = _three(x, depth, norm, point, kv_stride)
    return _attend(q, k, v, heads, torch.ones(1, 1, 1, k.shape[1], dtype=torch.bool)).reshape(x.shape)


@alternative("cvt_conv_projection", "one_dense_convolution")
def conv_qkv(x, depth, norm, point, kv_stride):
    strides, results = (1, kv_stride, kv_stride), []
    for D, (a, b), P, stride in zip(depth, norm, point, strides, strict=True):
        dense = torch.einsum("oc,c,cij->ocij", P, a, D[:, 0])  # all of Eq. (7) folded into one kernel
        results.append(F.conv2d(x, dense, P @ b, stride=stride, padding=1).flatten(2).mT)
    return tuple(results)


@alternative("cvt_conv_projection", "nine_shifts")
def conv_qkv(x, depth, norm, point, kv_stride):
    H, W = x.shape[2:]
    padded, results = F.pad(x, (1, 1, 1, 1)), []
    for i, stride in enumerate((1, kv_stride, kv_stride)):
        y = sum(depth[i, :, 0, r, c, None, None] * padded[:, :, r:r + H:stride, c:c + W:stride]
                for r in range(3) for c in range(3))
        results.append(_rows(_affine(y, norm[i]), point[i]))
    return tuple(results)


# -------------------------------------------------------------------------------------------------- conv_stem_vit

class _Layer(nn.Module):
    """The setup's Block, once more."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).tensor_split(3, dim=-1)
        x = x + self.out(_attend(q, k, v, self.heads, torch.ones(1, 1, 1, x.shape[1], dtype=torch.bool)))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class _ViT(nn.Module):
    """A right network in small methods, each of which a mistake can replace."""

    def __init__(self, c_in, dim, heads, depth, n_classes, grid=4):
        super().__init__()
        self.check(dim, heads)
        last = c_in
        for i, width in ((1, dim // 4), (2, dim // 2), (3, dim)):
            setattr(self, f"conv{i}", nn.Conv2d(last, width, 3, 2, 1, bias=False))
            setattr(self, f"norm{i}", nn.LayerNorm(width))
            last = width
        self.proj, self.norm, self.head = nn.Conv2d(dim, dim, 1), nn.LayerNorm(dim), nn.Linear(dim, n_classes)
        self.pos = nn.Parameter(torch.zeros(dim, grid, grid))
        self.make_cls(dim)
        self.blocks = nn.ModuleList(_Layer(dim, heads) for _ in range(depth))

    def check(self, dim, heads):
        if dim % math.lcm(4, heads):
            raise ValueError(dim)

    def make_cls(self, dim):
        self.cls = nn.Parameter(torch.zeros(dim))

    def per_pixel(self, norm, x):
        return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def step(self, conv, norm, x):
        return F.relu(self.per_pixel(norm, conv(x)))

    def stem(self, x):
        for i in (1, 2, 3):
            x = self.step(getattr(self, f"conv{i}"), getattr(self, f"norm{i}"), x)
        return self.proj(x)

    def stretched(self, h, w):
        return F.interpolate(self.pos[None], (h, w), mode="bilinear", align_corners=False)

    def placed(self, x):
        return x + self.stretched(*x.shape[2:])

    def as_tokens(self, x):
        return x.flatten(2).mT

    def with_class(self, tokens):
        return torch.cat([self.cls.expand(len(tokens), 1, -1), tokens], dim=1)

    def encode(self, tokens):
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def answer(self, tokens):
        return self.head(self.norm(tokens[:, 0]))

    def forward(self, x):
        return self.answer(self.encode(self.with_class(self.as_tokens(self.placed(self.stem(x))))))


@mistake("conv_stem_vit", "tokens_by_reshape", "the picture becomes tokens by a reshape that mixes up channels",
         hint="(B, D, h*w) has its channels first: exchange the last two axes, do not reshape.")
class ConvStemViT(_ViT):
    def as_tokens(self, x):
        return x.reshape(len(x), -1, x.shape[1])


@mistake("conv_stem_vit", "positions_transposed", "height and width are exchanged when the positions are added",
         hint="On square pictures it runs, and each token gets its mirror image's position. pos is (D, h, w).")
class ConvStemViT(_ViT):
    def placed(self, x):
        return x + self.stretched(*x.shape[:1:-1]).mT


@mistake("conv_stem_vit", "positions_flattened_transposed", "the grid is stretched to (w, h) and read row by row",
         hint="The number of tokens is right, their places are not: F.interpolate wants (height, width).")
class ConvStemViT(_ViT):
    def placed(self, x):
        return x + self.stretched(*x.shape[:1:-1]).reshape(1, *x.shape[1:])


@mistake("conv_stem_vit", "positions_of_one_size", "the grid of positions is not stretched",
         hint="It only fits pictures that give G x G tokens. Eq. (10) has positions for any size.")
class ConvStemViT(_ViT):
    def placed(self, x):
        return x + self.pos


@mistake("conv_stem_vit", "positions_from_the_corner", "the grid is repeated, not stretched, to the picture's size",
         hint="Half-way through the picture one should be half-way through the grid: interpolate.")
class ConvStemViT(_ViT):
    def placed(self, x):
        h, w = x.shape[2:]
        G = self.pos.shape[-1]
        return x + self.pos.repeat(1, -(-h // G), -(-w // G))[:, :h, :w]


@mistake("conv_stem_vit", "positions_nearest", "every token gets the nearest grid point's position",
         hint="The contract has bilinear interpolation; nearest is the default of F.interpolate.")
class ConvStemViT(_ViT):
    def stretched(self, h, w):
        return F.interpolate(self.pos[None], (h, w))


@mistake("conv_stem_vit", "corners_aligned", "the interpolation aligns the corners",
         hint="align_corners=False treats grid points as areas, as for pictures.")
class ConvStemViT(_ViT):
    def stretched(self, h, w):
        return F.interpolate(self.pos[None], (h, w), mode="bilinear", align_corners=True)


@mistake("conv_stem_vit", "positions_forgotten", "no positions are added",
         hint="Without P the transformer sees a bag of tokens.")
class ConvStemViT(_ViT):
    def placed(self, x):
        return x + 0 * self.pos.sum()


@mistake("conv_stem_vit", "class_token_at_the_end", "the class token stands at the end, and token 0 is read",
         hint="Token 0 is then the first patch. The class token comes first, or is read where it stands.")
class ConvStemViT(_ViT):
    def with_class(self, tokens):
        return torch.cat([tokens, self.cls.expand(len(tokens), 1, -1)], dim=1)


@mistake("conv_stem_vit", "tokens_averaged", "the answer is read from the mean of all tokens",
         hint="Many networks do that. Eq. (10) reads the class token.")
class ConvStemViT(_ViT):
    def answer(self, tokens):
        return self.head(self.norm(tokens.mean(dim=1)))


@mistake("conv_stem_vit", "class_token_is_no_parameter", "the class token is a buffer",
         hint="Nothing would train it: parameters() does not list buffers.")
class ConvStemViT(_ViT):
    def make_cls(self, dim):
        self.register_buffer("cls", torch.zeros(dim))


@mistake("conv_stem_vit", "normalized_over_the_picture", "channels and pixels are normalized together",
         hint="LN runs over the channels of one pixel. On (B, C, H, W), nn.GroupNorm(1, C) is something else.")
class ConvStemViT(_ViT):
    def per_pixel(self, norm, x):
        return F.group_norm(x, 1, norm.weight, norm.bias)


@mistake("conv_stem_vit", "normalized_over_the_pixels", "each channel is normalized over its pixels",
         hint="LN runs over the channels of one pixel, not over the pixels of one channel.")
class ConvStemViT(_ViT):
    def per_pixel(self, norm, x):
        spread = x.var(dim=(2, 3), keepdim=True, unbiased=False)
        y = (x - x.mean(dim=(2, 3), keepdim=True)) * (spread + 1e-5).rsqrt()
        return y * norm.weight[:, None, None] + norm.bias[:, None, None]


@mistake("conv_stem_vit", "relu_before_the_norm", "the ReLU comes before the normalization",
         hint="Eq. (9): convolution, LN, ReLU.")
class ConvStemViT(_ViT):
    def step(self, conv, norm, x):
        return self.per_pixel(norm, F.relu(conv(x)))


@mistake("conv_stem_vit", "no_relu", "the stem has no ReLU",
         hint="Three convolutions without anything between them are one convolution.")
class ConvStemViT(_ViT):
    def step(self, conv, norm, x):
        return self.per_pixel(norm, conv(x))


@mistake("conv_stem_vit", "no_final_norm", "the class token is not normalized before the head",
         hint="Pre-LN blocks leave their sum unnormalized; Eq. (10) has LN before W.")
class ConvStemViT(_ViT):
    def answer(self, tokens):
        return self.head(tokens[:, 0])


@mistake("conv_stem_vit", "one_block_for_all", "the first block is applied `depth` times",
         hint="Every layer has a block of its own: loop over them.")
class ConvStemViT(_ViT):
    def encode(self, tokens):
        for _ in self.blocks:
            tokens = self.blocks[0](tokens)
        return tokens


@mistake("conv_stem_vit", "widths_not_checked", "impossible widths are accepted",
         hint="The contract asks for a ValueError in the constructor.")
class ConvStemViT(_ViT):
    def check(self, dim, heads):
        pass


@alternative("conv_stem_vit", "methods")
class ConvStemViT(_ViT):
    pass


@alternative("conv_stem_vit", "class_token_last_and_read_there")
class ConvStemViT(_ViT):
    def with_class(self, tokens):
        return torch.cat([tokens, self.cls.repeat(len(tokens), 1)[:, None]], dim=1)

    def answer(self, tokens):
        return self.head(self.norm(tokens[:, -1]))

    def per_pixel(self, norm, x):
        centred = x - x.mean(dim=1, keepdim=True)
        y = centred / (centred.square().mean(dim=1, keepdim=True) + norm.eps).sqrt()
        return torch.einsum("bchw,c->bchw", y, norm.weight) + norm.bias[None, :, None, None]


# ------------------------------------------------------------------------------------------ transformer_xl_segment

def _past(mem, x):
    return torch.cat((mem.detach(), x), 1)


def _kept(both, mem_len):
    """The last positions, without a gradient."""
    length = both.shape[1]
    return both.narrow(1, length - min(mem_len, length), min(mem_len, length)).detach()


def _visible(T, M, ahead=0):
    """(T, M + T): query t sees columns up to M + t + ahead."""
    t, s = torch.arange(T)[:, None], torch.arange(M + T)
    return s <= t + M + ahead


def _segment(x, both, params, heads, keep, weight=lambda w: w.T):
    q, k, v = x @ weight(params["w_q"]), both @ weight(params["w_k"]), both @ weight(params["w_v"])
    return _attend(q, k, v, heads, keep) @ weight(params["w_o"])


@mistake("transformer_xl_segment", "memory_not_detached", "gradients flow into the memory",
         hint="SG in Eq. (11): detach what comes in. Otherwise training runs back through all segments.")
def txl_layer(x, mem, params, heads, mem_len):
    both = torch.cat((mem, x), 1)
    return _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1])), _kept(both, mem_len)


@mistake("transformer_xl_segment", "new_memory_not_detached", "the new memory still hangs on the graph",
         hint="SG in Eq. (12): what is remembered is detached, or every past graph stays alive.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    y = _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1]))
    return y, both[:, both.shape[1] - min(mem_len, both.shape[1]):]


@mistake("transformer_xl_segment", "segment_detached", "memory and segment are detached together",
         hint="Only the memory is; keys and values of the segment learn.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x).detach()
    return _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1])), _kept(both, mem_len)


@mistake("transformer_xl_segment", "mask_without_offset", "the mask forgets that the memory stands in front",
         hint="Query t is position M + t of [m; x]: a triangle that begins at column 0 hides most of the past.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    keep = torch.ones(x.shape[1], both.shape[1], dtype=torch.bool).tril()
    return _segment(x, both, params, heads, keep), _kept(both, mem_len)


@mistake("transformer_xl_segment", "one_position_ahead", "every position sees the next one",
         hint="Position t may read columns up to and including M + t.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    return _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1], 1)), _kept(both, mem_len)


@mistake("transformer_xl_segment", "not_itself", "no position sees itself",
         hint="Causal attention includes the position itself: column M + t.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    return _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1], -1)), _kept(both, mem_len)


@mistake("transformer_xl_segment", "not_causal", "there is no causal mask",
         hint="A position must not read what comes after it in its segment.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    return _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1], x.shape[1])), _kept(both, mem_len)


@mistake("transformer_xl_segment", "memory_not_read", "keys and values come from the segment alone",
         hint="Keys and values are made of [m; x]; only the queries are made of x.")
def txl_layer(x, mem, params, heads, mem_len):
    return _segment(x, x, params, heads, _visible(x.shape[1], 0)), _kept(_past(mem, x), mem_len)


@mistake("transformer_xl_segment", "queries_from_memory", "positions of the memory ask, too",
         hint="The memory was answered when it was a segment. The output has T positions.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    return _segment(both, both, params, heads, _visible(both.shape[1], 0)), _kept(both, mem_len)


@mistake("transformer_xl_segment", "output_remembered", "the layer's output is remembered instead of its input",
         hint="The next segment's keys are made of this layer's input. The output is the next layer's.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    y = _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1]))
    return y, _kept(_past(mem, y), mem_len)


@mistake("transformer_xl_segment", "only_the_segment_remembered", "what was in the memory before is forgotten",
         hint="If mem_len is longer than the segment, a part of the old memory stays.")
def txl_layer(x, mem, params, heads, mem_len):
    y = _segment(x, _past(mem, x), params, heads, _visible(x.shape[1], mem.shape[1]))
    return y, _kept(x, mem_len)


@mistake("transformer_xl_segment", "oldest_remembered", "the first positions of [m; x] are remembered, not the last",
         hint="What lies furthest back is forgotten first.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    return _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1])), both[:, :mem_len].detach()


@mistake("transformer_xl_segment", "zero_remembers_all", "with mem_len = 0 everything is remembered",
         hint="[-0:] is [0:], the whole sequence.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    return _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1])), both[:, -mem_len:].detach()


@mistake("transformer_xl_segment", "memory_never_grows", "the new memory is as long as the old one",
         hint="Its length is min(mem_len, M + T): from an empty memory it has to grow.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    return _segment(x, both, params, heads, _visible(x.shape[1], mem.shape[1])), _kept(both, mem.shape[1])


@mistake("transformer_xl_segment", "memory_behind", "the memory is put behind the segment",
         hint="The memory is the past: [m; x], and the last positions of it are remembered.")
def txl_layer(x, mem, params, heads, mem_len):
    T, M = x.shape[1], mem.shape[1]
    both = torch.cat((x, mem.detach()), 1)
    keep = _visible(T, M).roll(T, dims=1)
    return _segment(x, both, params, heads, keep), _kept(both, mem_len)


@mistake("transformer_xl_segment", "weights_transposed", "the weights are used as (in, out)",
         hint="They are stored as (out, in), as in nn.Linear: x @ W.T.")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    keep = _visible(x.shape[1], mem.shape[1])
    return _segment(x, both, params, heads, keep, lambda w: w), _kept(both, mem_len)


@alternative("transformer_xl_segment", "all_ask_and_the_last_answer")
def txl_layer(x, mem, params, heads, mem_len):
    both = _past(mem, x)
    y = _segment(both, both, params, heads, _visible(both.shape[1], 0))
    return y[:, mem.shape[1]:], _kept(both, mem_len)


@alternative("transformer_xl_segment", "position_by_position")
def txl_layer(x, mem, params, heads, mem_len):
    M, rows = mem.shape[1], []
    both = _past(mem, x)
    for t in range(x.shape[1]):
        rows.append(_segment(x[:, t:t + 1], both[:, :M + t + 1], params, heads, torch.tensor(True)))
    past = both.detach().unbind(1)[-mem_len:] if mem_len else ()
    return torch.cat(rows, dim=1), torch.stack(past, 1) if past else mem[:, :0].detach()


# ------------------------------------------------------------------------------------------ rnn_transformer_block

class _Local(nn.Module):
    """A right local RNN in small methods."""

    def __init__(self, width, window):
        super().__init__()
        self.window = self.checked(window)
        self.rnn = nn.GRUCell(width, width)

    def checked(self, window):
        if not window > 0:
            raise ValueError(window)
        return window

    def shifted(self, x, back):
        """The input `back` positions before each position; zero vectors before the first."""
        return torch.cat((x.new_zeros(len(x), back, x.shape[2]), x), 1)[:, :x.shape[1]]

    def steps(self, x):
        return [self.shifted(x, back) for back in reversed(range(self.window))]

    def run(self, steps):
        states = [torch.zeros_like(steps[0])]
        for step in steps:
            flat = self.rnn(step.flatten(0, 1), states[-1].flatten(0, 1))
            states.append(flat.reshape(step.shape))
        return states

    def forward(self, x):
        return self.run(self.steps(x))[-1]


@mistake("rnn_transformer_block", "state_travels", "one GRU runs over the whole sequence",
         hint="Every window starts from the state 0: what is older than w positions has no influence.")
class LocalRNN(_Local):
    def forward(self, x):
        state, states = torch.zeros_like(x[:, 0]), []
        for vector in x.unbind(1):
            state = self.rnn(vector, state)
            states.append(state)
        return torch.stack(states, dim=1)


@mistake("rnn_transformer_block", "padded_on_the_right", "the window begins at t instead of ending there",
         hint="That reads the future. The zeros belong on the left.")
class LocalRNN(_Local):
    def steps(self, x):
        return [self.shifted(x.flip(1), back).flip(1) for back in range(self.window)]


@mistake("rnn_transformer_block", "window_centred", "the window is centred at t",
         hint="Half of such a window lies in the future. It ends at t.")
class LocalRNN(_Local):
    def steps(self, x):
        right = self.window // 2
        longer = torch.cat((x, torch.zeros_like(x[:, :1]).expand(-1, right, -1)), 1)
        return [self.shifted(longer, back)[:, right:] for back in reversed(range(self.window))]


@mistake("rnn_transformer_block", "window_too_long", "the window holds one position too many",
         hint="From t-w+1 to t there are w positions.")
class LocalRNN(_Local):
    def steps(self, x):
        return [self.shifted(x, back) for back in reversed(range(self.window + 1))]


@mistake("rnn_transformer_block", "window_without_itself", "the window ends before t",
         hint="Position t itself is the last of its window.")
class LocalRNN(_Local):
    def steps(self, x):
        return [self.shifted(x, back + 1) for back in reversed(range(self.window))]


@mistake("rnn_transformer_block", "window_backwards", "the window is read from t back to t-w+1",
         hint="The GRU reads in the order of time, and position t comes last.")
class LocalRNN(_Local):
    def steps(self, x):
        return [self.shifted(x, back) for back in range(self.window)]


@mistake("rnn_transformer_block", "states_averaged", "the mean of the window's states is returned",
         hint="Eq. (13) takes the last of the w states.")
class LocalRNN(_Local):
    def forward(self, x):
        return torch.stack(self.run(self.steps(x))[1:]).mean(dim=0)


@mistake("rnn_transformer_block", "zeros_skipped", "the GRU starts at the first real position of each window",
         hint="Zero vectors stand before the sequence, and the GRU reads them: its biases make the state not 0.")
class LocalRNN(_Local):
    def forward(self, x):
        t, state = torch.arange(x.shape[1])[:, None], torch.zeros_like(x)
        for back in reversed(range(self.window)):
            new = self.rnn(self.shifted(x, back).flatten(0, 1), state.flatten(0, 1)).reshape(x.shape)
            state = torch.where(t >= back, new, state)
        return state


@mistake("rnn_transformer_block", "first_vector_repeated", "the first vector is repeated in front of the sequence",
         hint="The contract puts zero vectors there.")
class LocalRNN(_Local):
    def shifted(self, x, back):
        return torch.cat((x[:, :1].expand(-1, back, -1), x), 1)[:, :x.shape[1]]


@mistake("rnn_transformer_block", "examples_mixed", "examples and positions change places when windows become a batch",
         hint="Flatten (B, T) and split it again in the same order.")
class LocalRNN(_Local):
    def run(self, steps):
        states = super().run(steps)
        B, T = steps[0].shape[:2]
        return [state.flatten(0, 1).unflatten(0, (T, B)).transpose(0, 1) for state in states]


@mistake("rnn_transformer_block", "state_detached", "the state is detached between the steps of a window",
         hint="All w steps of a window are differentiated through; nothing stops the gradient.")
class LocalRNN(_Local):
    def run(self, steps):
        state = torch.zeros_like(steps[0])
        for step in steps:
            state = self.rnn(step.flatten(0, 1), state.detach().flatten(0, 1)).reshape(step.shape)
        return [state]


@mistake("rnn_transformer_block", "window_not_checked", "a window of 0 is accepted",
         hint="The contract asks for a ValueError.")
class LocalRNN(_Local):
    def checked(self, window):
        return window


class _RBlock(nn.Module):
    """A right block in small methods."""

    def __init__(self, width, heads, hidden, window):
        super().__init__()
        if width // heads * heads != width:
            raise ValueError(heads)
        self.heads, self.local = heads, _Local(width, window)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for i in (1, 2, 3):
            setattr(self, f"norm{i}", nn.LayerNorm(width))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def parts(self, x):
        return self.qkv(x).tensor_split(3, dim=-1)

    def visible(self, T):
        return _visible(T, 0)

    def read(self, x):
        return self.out(_attend(*self.parts(x), self.heads, self.visible(x.shape[1])))

    def active(self, x):
        return F.relu(x)

    def think(self, x):
        return self.linear2(self.active(self.linear1(x)))

    def forward(self, x):
        h = self.norm1(x + self.local(x))
        u = self.norm2(h + self.read(h))
        return self.norm3(u + self.think(u))


@mistake("rnn_transformer_block", "not_causal", "the attention is not causal",
         hint="Position t reads positions up to and including t.")
class RTransformerBlock(_RBlock):
    def visible(self, T):
        return torch.ones(T, T, dtype=torch.bool)


@mistake("rnn_transformer_block", "keys_first", "the rows of qkv are read as keys, queries, values",
         hint="The contract's order is W_q, W_k, W_v.")
class RTransformerBlock(_RBlock):
    def parts(self, x):
        k, q, v = self.qkv(x).tensor_split(3, dim=-1)
        return q, k, v


@mistake("rnn_transformer_block", "norms_in_front", "the normalizations stand in front of the sublayers",
         hint="That is pre-LN. Eq. (14) normalizes the sums.")
class RTransformerBlock(_RBlock):
    def forward(self, x):
        h = x + self.local(self.norm1(x))
        u = h + self.read(self.norm2(h))
        return u + self.think(self.norm3(u))


@mistake("rnn_transformer_block", "no_residual_around_the_rnn", "the local RNN's output replaces x",
         hint="Eq. (14): LN(x + h). All three sublayers have a residual connection.")
class RTransformerBlock(_RBlock):
    def forward(self, x):
        h = self.norm1(self.local(x))
        u = self.norm2(h + self.read(h))
        return self.norm3(u + self.think(u))


@mistake("rnn_transformer_block", "residual_from_x", "the attention's residual connection starts at x",
         hint="Each sum of Eq. (14) begins with what the sublayer has read.")
class RTransformerBlock(_RBlock):
    def forward(self, x):
        h = self.norm1(x + self.local(x))
        u = self.norm2(x + self.read(h))
        return self.norm3(u + self.think(u))


@mistake("rnn_transformer_block", "gelu", "the feed-forward part uses GELU",
         hint="Eq. (14) has max(0, ·).")
class RTransformerBlock(_RBlock):
    def active(self, x):
        return F.gelu(x)


@alternative("rnn_transformer_block", "shifted_sequences")
class LocalRNN(_Local):
    pass


@alternative("rnn_transformer_block", "gru_over_gathered_windows")
class LocalRNN(_Local):
    def forward(self, x):
        B, T, C = x.shape
        padded = torch.cat((x.new_zeros(B, self.window - 1, C), x), 1)
        windows = padded[:, torch.arange(T)[:, None] + torch.arange(self.window)].reshape(B * T, self.window, C)
        weights = [self.rnn.weight_ih, self.rnn.weight_hh, self.rnn.bias_ih, self.rnn.bias_hh]
        start = x.new_zeros(1, B * T, C)
        _, last = torch.gru(windows.contiguous(), start, weights, True, 1, 0.0, False, False, True)
        return last[0].reshape(B, T, C)


@alternative("rnn_transformer_block", "small_methods")
class RTransformerBlock(_RBlock):
    pass
