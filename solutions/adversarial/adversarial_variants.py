"""What students hand in for the unit on GANs: known mistakes, and right answers in other styles.

Every decorated function replaces the reference's function of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...".
"""
import torch
import torch.nn.functional as nf
from torch import nn

from autograder.variants import alternative, mistake

# ------------------------------------------------------------------------------------------------- gan_losses


def _softplus(t):
    return torch.logaddexp(t, torch.zeros_like(t))


def _losses(real, fake, kind):
    """The losses of the contract (right)."""
    if kind == "ns":
        return _softplus(-real).mean() + _softplus(fake).mean(), _softplus(-fake).mean()
    if kind == "minimax":
        return _softplus(-real).mean() + _softplus(fake).mean(), -_softplus(fake).mean()
    if kind == "lsgan":
        return ((real - 1) ** 2).mean() / 2 + (fake ** 2).mean() / 2, ((fake - 1) ** 2).mean() / 2
    if kind == "hinge":
        return nf.relu(1 - real).mean() + nf.relu(1 + fake).mean(), -fake.mean()
    if kind == "wgan":
        return -real.mean() + fake.mean(), -fake.mean()
    raise ValueError(f"unknown kind {kind}")


@mistake("gan_losses", "sigmoid_twice", "the logits go through a sigmoid before the loss, which has one of its own",
         hint="Softplus of a logit is already the logarithm of a probability. Feed it the logit itself.")
def gan_losses(real, fake, kind):
    if kind in ("ns", "minimax"):
        return _losses(torch.sigmoid(real), torch.sigmoid(fake), kind)
    return _losses(real, fake, kind)


@mistake("gan_losses", "g_sign", "the non-saturating loss wants the fakes to be recognised",
         hint="G minimises it: it has to fall when the judge takes a fake for real, at a high logit.")
def gan_losses(real, fake, kind):
    d_loss, g_loss = _losses(real, fake, kind)
    return d_loss, _softplus(fake).mean() if kind == "ns" else g_loss


@mistake("gan_losses", "wgan_g_sign", "the generator of hinge and Wasserstein minimises the mean logit",
         hint="In Eq. (4) the mean of the fake logits has a minus.")
def gan_losses(real, fake, kind):
    d_loss, g_loss = _losses(real, fake, kind)
    return d_loss, fake.mean() if kind in ("hinge", "wgan") else g_loss


@mistake("gan_losses", "hinge_margin_wrong_side", "the margins of the hinge loss lie on the wrong sides",
         hint="A real logit costs nothing from 1 upwards, a fake one from -1 downwards.")
def gan_losses(real, fake, kind):
    if kind == "hinge":
        return nf.relu(1 + real).mean() + nf.relu(1 - fake).mean(), -fake.mean()
    return _losses(real, fake, kind)


@mistake("gan_losses", "minimax_is_ns", "the kinds 'ns' and 'minimax' give the same generator loss",
         hint="Eq. (2) has two losses: they agree in direction but not in value or slope.")
def gan_losses(real, fake, kind):
    return _losses(real, fake, "ns" if kind == "minimax" else kind)


@mistake("gan_losses", "labels_swapped", "D is trained to call real samples fake",
         hint="Positive logits mean real: d_loss falls when a real logit rises.")
def gan_losses(real, fake, kind):
    return _losses(fake, real, kind)[0], _losses(real, fake, kind)[1]


@mistake("gan_losses", "mean_over_both", "d_loss averages real and fake samples in one batch, times two",
         hint="With unequal sizes, the mean of all differs from the mean of the two means.")
def gan_losses(real, fake, kind):
    if kind in ("ns", "minimax"):
        both = torch.cat([_softplus(-real), _softplus(fake)])
        return 2 * both.mean(), _losses(real, fake, kind)[1]
    return _losses(real, fake, kind)


@mistake("gan_losses", "halved", "the discriminator's cross-entropy is halved",
         hint="Eq. (1) is a sum of two means; only least squares has a factor of 1/2 here.")
def gan_losses(real, fake, kind):
    d_loss, g_loss = _losses(real, fake, kind)
    return d_loss / 2 if kind in ("ns", "minimax") else d_loss, g_loss


@mistake("gan_losses", "lsgan_without_half", "the factors 1/2 of least squares are missing",
         hint="Look at Eq. (3) once more.")
def gan_losses(real, fake, kind):
    d_loss, g_loss = _losses(real, fake, kind)
    return (2 * d_loss, 2 * g_loss) if kind == "lsgan" else (d_loss, g_loss)


@mistake("gan_losses", "log_of_sigmoid", "the logarithm of a sigmoid is taken",
         hint="The sigmoid of -200 is 0 in float32, and its logarithm is infinite.")
def gan_losses(real, fake, kind):
    if kind in ("ns", "minimax"):
        d_loss = -torch.log(torch.sigmoid(real)).mean() - torch.log(torch.sigmoid(-fake)).mean()
        log = torch.log(torch.sigmoid(-fake)) if kind == "minimax" else -torch.log(torch.sigmoid(fake))
        return d_loss, log.mean()
    return _losses(real, fake, kind)


@mistake("gan_losses", "hinge_for_g", "the generator's hinge loss has a margin as well",
         hint="Only D has margins: in Eq. (4) G minimises the negative mean, without a maximum.")
def gan_losses(real, fake, kind):
    d_loss, g_loss = _losses(real, fake, kind)
    return d_loss, nf.relu(1 - fake).mean() if kind == "hinge" else g_loss


@mistake("gan_losses", "fake_detached", "d_loss has no gradient with respect to the fake logits",
         hint="D learns from fakes by their logits. What has to be cut are the samples, by the caller.")
def gan_losses(real, fake, kind):
    return _losses(real, fake.detach(), kind)[0], _losses(real, fake, kind)[1]


@mistake("gan_losses", "unknown_kind_is_ns", "an unknown kind is taken for 'ns'",
         hint="The contract asks for a ValueError: a misspelt kind should not train for a week.")
def gan_losses(real, fake, kind):
    return _losses(real, fake, kind if kind in ("minimax", "lsgan", "hinge", "wgan") else "ns")


@alternative("gan_losses", "library_losses")
def gan_losses(real, fake, kind):
    one, zero, ones = torch.ones_like(real), torch.zeros_like(fake), torch.ones_like(fake)
    if kind in ("ns", "minimax"):
        bce = nf.binary_cross_entropy_with_logits
        return bce(real, one) + bce(fake, zero), bce(fake, ones) if kind == "ns" else -bce(fake, zero)
    if kind == "lsgan":
        return 0.5 * (nf.mse_loss(real, one) + nf.mse_loss(fake, zero)), 0.5 * nf.mse_loss(fake, ones)
    return _losses(real, fake, kind)


@alternative("gan_losses", "table_of_functions")
def gan_losses(real, fake, kind):
    sure = -nf.logsigmoid(real).mean() - nf.logsigmoid(-fake).mean()
    table = {"ns": (sure, -nf.logsigmoid(fake).mean()), "minimax": (sure, nf.logsigmoid(-fake).mean()),
             "lsgan": (((real - 1).pow(2).mean() + fake.pow(2).mean()) * 0.5, (1 - fake).pow(2).mean() * 0.5),
             "hinge": (-torch.minimum(real - 1, zero := torch.zeros_like(real[:1])).mean()
                       - torch.minimum(-fake - 1, zero).mean(), -fake.mean()),
             "wgan": (fake.mean() - real.mean(), -fake.mean())}
    if kind not in table:
        raise ValueError(kind)
    return table[kind]


# ------------------------------------------------------------------------------------------------- wgan_gp

def _between(real, fake, eps):
    share = eps.reshape(-1, *[1] * (real.dim() - 1))
    return (fake + share * (real - fake)).detach().requires_grad_()


def _slope(critic, x):
    return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]


def _norms(slope):
    return torch.linalg.vector_norm(slope.flatten(1), dim=1)


@mistake("wgan_gp", "one_eps_for_the_batch", "all examples use the eps of the first",
         hint="eps has one number for each example: give it as many axes as the samples have.")
def gradient_penalty(critic, real, fake, eps):
    return ((_norms(_slope(critic, _between(real, fake, eps[:1].expand_as(eps)))) - 1) ** 2).mean()


@mistake("wgan_gp", "swapped", "eps is the share of the fake sample",
         hint="eps = 1 is the real sample.")
def gradient_penalty(critic, real, fake, eps):
    return ((_norms(_slope(critic, _between(fake, real, eps))) - 1) ** 2).mean()


@mistake("wgan_gp", "gradient_of_the_mean", "the critic's mean is differentiated",
         hint="The mean divides every example's gradient by B. The sum leaves each as it is.")
def gradient_penalty(critic, real, fake, eps):
    x = _between(real, fake, eps)
    return ((_norms(torch.autograd.grad(critic(x).mean(), x, create_graph=True)[0]) - 1) ** 2).mean()


@mistake("wgan_gp", "no_second_graph", "the gradient is computed without a graph of its own",
         hint="The value is right, but it trains nothing: the penalty has no gradient for the critic's weights.")
def gradient_penalty(critic, real, fake, eps):
    x = _between(real, fake, eps)
    return ((_norms(torch.autograd.grad(critic(x).sum(), x)[0]) - 1) ** 2).mean()


@mistake("wgan_gp", "norm_of_the_batch", "one norm is taken over the whole batch",
         hint="Every example has a slope of its own, which should be 1.")
def gradient_penalty(critic, real, fake, eps):
    return (torch.linalg.vector_norm(_slope(critic, _between(real, fake, eps))) - 1) ** 2


@mistake("wgan_gp", "norm_of_the_last_axis", "the norm is taken over the last axis only",
         hint="All axes of an example belong to its norm: flatten them first.")
def gradient_penalty(critic, real, fake, eps):
    return ((torch.linalg.vector_norm(_slope(critic, _between(real, fake, eps)), dim=-1) - 1) ** 2).mean()


@mistake("wgan_gp", "one_sided", "only slopes above 1 are penalised",
         hint="Eq. (5) is two-sided: there is no maximum in it.")
def gradient_penalty(critic, real, fake, eps):
    return (nf.relu(_norms(_slope(critic, _between(real, fake, eps))) - 1) ** 2).mean()


@mistake("wgan_gp", "zero_centred", "the slope is pulled to 0",
         hint="That is another penalty, R1 or R2. Eq. (5) subtracts 1.")
def gradient_penalty(critic, real, fake, eps):
    return (_norms(_slope(critic, _between(real, fake, eps))) ** 2).mean()


@mistake("wgan_gp", "summed", "the penalty is summed over the batch",
         hint="A sum makes the weight of the penalty depend on the batch size.")
def gradient_penalty(critic, real, fake, eps):
    return ((_norms(_slope(critic, _between(real, fake, eps))) - 1) ** 2).sum()


@mistake("wgan_gp", "norm_squared", "the squared norm is compared with 1",
         hint="In Eq. (5) the root comes first, then 1 is subtracted, then the square.")
def gradient_penalty(critic, real, fake, eps):
    return ((_norms(_slope(critic, _between(real, fake, eps))) ** 2 - 1) ** 2).mean()


@mistake("wgan_gp", "at_the_real_samples", "the slope is measured at the real samples",
         hint="The points lie between real and fake samples; eps says where.")
def gradient_penalty(critic, real, fake, eps):
    return ((_norms(_slope(critic, real.detach().clone().requires_grad_())) - 1) ** 2).mean()


@mistake("wgan_gp", "root_at_zero", "the norm is a root of squares, whose slope is infinite at 0",
         hint="For a flat critic 0 times infinity is NaN. torch's norms have gradient 0 there.")
def gradient_penalty(critic, real, fake, eps):
    slope = _slope(critic, _between(real, fake, eps)).flatten(1)
    return (((slope ** 2).sum(dim=1).sqrt() - 1) ** 2).mean()


@alternative("wgan_gp", "guarded_root")
def gradient_penalty(critic, real, fake, eps):
    x = torch.stack([e * r + (1 - e) * f for e, r, f in zip(eps, real, fake, strict=True)]).detach()
    x.requires_grad = True
    out = critic(x)
    (slope,) = torch.autograd.grad(out, x, torch.ones_like(out), create_graph=True, retain_graph=True)
    square = slope.reshape(len(x), -1).pow(2).sum(1)
    norm = torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0)
    return (norm - 1).pow(2).mean()


@alternative("wgan_gp", "example_by_example")
def gradient_penalty(critic, real, fake, eps):
    total = 0
    for i in range(len(real)):
        x = torch.lerp(fake[i:i + 1], real[i:i + 1], eps[i]).detach().requires_grad_()
        (slope,) = torch.autograd.grad(critic(x)[0], x, create_graph=True)
        total = total + (slope.norm() - 1) ** 2
    return total / len(real)


# ------------------------------------------------------------------------------------------------- conditional_gan

class _Cond(nn.Module):
    """The right layers, and a forward pass of its parts."""

    def __init__(self, noise, classes, embed, hidden, out):
        super().__init__()
        self.embed, self.classes = nn.Embedding(classes, embed), classes
        self.fc1, self.fc2 = nn.Linear(noise + embed, hidden), nn.Linear(hidden, out)

    def above(self, *parts):
        return self.fc2(torch.tanh(self.fc1(torch.cat(parts, dim=1))))


@mistake("conditional_gan", "condition_first", "the class comes before the noise",
         hint="The first Z columns of fc1.weight meet the noise.")
class CondG(_Cond):
    def forward(self, z, y):
        return self.above(self.embed(y), z)


@mistake("conditional_gan", "condition_dropped", "the generator ignores the class",
         hint="The second part of what enters fc1 is the vector of the class, not zeros.")
class CondG(_Cond):
    def forward(self, z, y):
        return self.above(z, 0 * self.embed(y))


@mistake("conditional_gan", "label_off_by_one", "class y gets the vector of the next class",
         hint="Labels count from 0, as the rows of the table do.")
class CondG(_Cond):
    def forward(self, z, y):
        if (y < 0).any() or (y >= self.classes).any():
            raise IndexError("label out of range")
        return self.above(z, self.embed((y + 1) % self.classes))


@mistake("conditional_gan", "first_label_for_all", "the whole batch gets the class of its first example",
         hint="Every example has a label: look at the batch axis of the vectors.")
class CondG(_Cond):
    def forward(self, z, y):
        return self.above(z, self.embed(y)[:1].expand(len(z), -1))


@mistake("conditional_gan", "relu_inside", "the hidden layer is a ReLU",
         hint="Eq. (6) has a hyperbolic tangent.")
class CondG(_Cond):
    def forward(self, z, y):
        return self.fc2(nf.relu(self.fc1(torch.cat([z, self.embed(y)], dim=1))))


@mistake("conditional_gan", "tanh_at_the_end", "the output is squashed as well",
         hint="In Eq. (6) W_2 and b_2 come last.")
class CondG(_Cond):
    def forward(self, z, y):
        return torch.tanh(self.above(z, self.embed(y)))


@mistake("conditional_gan", "single_output_squeezed", "an axis of size 1 is squeezed out of the generator's output",
         hint="With O = 1 the output is (B, 1). `squeeze()` without an axis also takes a batch of one away.")
class CondG(_Cond):
    def forward(self, z, y):
        return self.above(z, self.embed(y)).squeeze()


@mistake("conditional_gan", "table_wraps_in_g", "the generator reads its table with negative labels from the end",
         hint="Indexing a tensor with -1 gives its last row. The contract asks for an IndexError.")
class CondG(_Cond):
    def forward(self, z, y):
        return self.above(z, self.embed.weight[y])


@mistake("conditional_gan", "smoothed_labels", "the generator's vector is mixed with the mean of all vectors",
         hint="Label smoothing is a matter of D's targets, and of the real samples only.")
class CondG(_Cond):
    def forward(self, z, y):
        return self.above(z, 0.9 * self.embed(y) + 0.1 * self.embed.weight.mean(0))


def _rows(V, y):
    if ((y < 0) | (y >= len(V))).any():
        raise IndexError("a label outside the table")
    return V[y]


@mistake("conditional_gan", "projection_mean", "the inner product is divided by the number of features",
         hint="Eq. (7) has an inner product: a sum.")
def projection_logit(phi, y, V, psi, b):
    return phi @ psi + b + (_rows(V, y) * phi).mean(-1)


@mistake("conditional_gan", "projection_not_summed", "the product of V_y and phi is never summed",
         hint="A logit is one number for each example: Eq. (7) has an inner product.")
def projection_logit(phi, y, V, psi, b):
    return (phi @ psi + b)[:, None] + _rows(V, y) * phi


@mistake("conditional_gan", "projection_without_psi", "the unconditional part is missing",
         hint="Eq. (7) has three terms.")
def projection_logit(phi, y, V, psi, b):
    return (_rows(V, y) * phi).sum(-1) + b + 0 * psi.sum()


@mistake("conditional_gan", "projection_unconditional", "the judge is not told the class",
         hint="A judge that does not know the class cannot keep G from ignoring it.")
def projection_logit(phi, y, V, psi, b):
    return phi @ psi + b + 0 * _rows(V, y).sum()


@mistake("conditional_gan", "projection_all_classes", "the logits of all classes are added up",
         hint="Only the row of V of the example's own class meets its features.")
def projection_logit(phi, y, V, psi, b):
    return phi @ psi + b + (phi @ V.T).sum(-1) + 0 * _rows(V, y).sum()


@mistake("conditional_gan", "projection_wraps", "a label of -1 is read as the last class",
         hint="Indexing a tensor with -1 gives its last row. The contract asks for an IndexError.")
def projection_logit(phi, y, V, psi, b):
    return phi @ psi + b + (V[y] * phi).sum(-1)


@mistake("conditional_gan", "projection_off_by_one", "labels are counted from 1",
         hint="The first class is 0, and its row the first one.")
def projection_logit(phi, y, V, psi, b):
    _rows(V, y)
    return phi @ psi + b + (V[y - 1] * phi).sum(-1)


@mistake("conditional_gan", "projection_without_b", "the constant is missing",
         hint="Eq. (7) has three terms, and b is one of them.")
def projection_logit(phi, y, V, psi, b):
    return phi @ psi + (_rows(V, y) * phi).sum(-1) + 0 * b


@mistake("conditional_gan", "projection_phi_detached", "the conditional part does not reach the features",
         hint="The features learn from both parts of Eq. (7).")
def projection_logit(phi, y, V, psi, b):
    return phi @ psi + b + (_rows(V, y) * phi.detach()).sum(-1)


@alternative("conditional_gan", "split_weight")
class CondG(nn.Module):
    def __init__(self, noise, classes, embed, hidden, out):
        super().__init__()
        self.noise = noise
        self.embed = nn.Embedding(classes, embed)
        self.fc1, self.fc2 = nn.Linear(noise + embed, hidden), nn.Linear(hidden, out)

    def forward(self, z, y):
        a, b = self.fc1.weight[:, :self.noise], self.fc1.weight[:, self.noise:]
        return self.fc2((z @ a.T + self.embed(y) @ b.T + self.fc1.bias).tanh())


@alternative("conditional_gan", "added_weights")
def projection_logit(phi, y, V, psi, b):
    return torch.einsum("bd,bd->b", _rows(V, y) + psi, phi) + b


@alternative("conditional_gan", "one_hot")
def projection_logit(phi, y, V, psi, b):
    if y.min() < 0 or y.max() >= V.shape[0]:
        raise IndexError("no such class")
    return torch.addmv(b, phi, psi) + (nf.one_hot(y, len(V)).to(phi.dtype) * (phi @ V.T)).sum(1)


# ------------------------------------------------------------------------------------------------- modulated_conv2d

def _apply(x, kernel):
    """Example by example: x (B, C, H, W) with kernels (B, O, C, K, K)."""
    return torch.cat([nf.conv2d(x[i:i + 1], kernel[i], padding=kernel.shape[-1] // 2) for i in range(len(x))])


def _modulated(w, s):
    return torch.einsum("ocij,bc->bocij", w, s)


def _size(kernel, eps):
    return (kernel.pow(2).sum((2, 3, 4), keepdim=True) + eps).sqrt()


@mistake("modulated_conv2d", "output_channels", "the style scales the output channels",
         hint="The style belongs to the channels that come in: the second axis of w.")
def modulated_conv2d(x, w, s, eps=1e-8):
    chosen = s[:, torch.arange(w.shape[0]) % s.shape[1]]
    kernel = torch.einsum("ocij,bo->bocij", w, chosen)
    return _apply(x, kernel / _size(kernel, eps))


@mistake("modulated_conv2d", "taps_apart", "every tap is normalised by itself",
         hint="The sum in Eq. (9) is over input channels and taps.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, kernel / (kernel.pow(2).sum(2, keepdim=True) + eps).sqrt())


@mistake("modulated_conv2d", "input_channels_apart", "the sum runs over the output channels instead of the input's",
         hint="One number for each example and output channel is what Eq. (9) divides by.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, kernel / (kernel.pow(2).sum((1, 3, 4), keepdim=True) + eps).sqrt())


@mistake("modulated_conv2d", "all_outputs_together", "all output channels share one norm",
         hint="Eq. (9) keeps the index o: each output gets variance 1 by itself.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, kernel / (kernel.pow(2).sum((1, 2, 3, 4), keepdim=True) + eps).sqrt())


@mistake("modulated_conv2d", "mean_instead_of_sum", "the squares are averaged",
         hint="Variances of independent terms add up: Eq. (9) has a sum.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, kernel / (kernel.pow(2).mean((2, 3, 4), keepdim=True) + eps).sqrt())


@mistake("modulated_conv2d", "detached", "no gradient passes the norm",
         hint="Scaling a style must not change the loss: that only comes out if the norm has its gradient.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, kernel / _size(kernel, eps).detach())


@mistake("modulated_conv2d", "not_demodulated", "the weights are modulated only",
         hint="Eq. (9) is missing.")
def modulated_conv2d(x, w, s, eps=1e-8):
    return _apply(x, _modulated(w, s))


@mistake("modulated_conv2d", "norm_before_style", "the norm is that of the weights before modulation",
         hint="In Eq. (9) the squares are those of w', which contain the style.")
def modulated_conv2d(x, w, s, eps=1e-8):
    return _apply(x, _modulated(w, s) / _size(w[None], eps))


@mistake("modulated_conv2d", "first_style_for_all", "every example gets the style of the first one",
         hint="Each example has a kernel of its own: B kernels in all.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s[:1].expand_as(s))
    return _apply(x, kernel / _size(kernel, eps))


@mistake("modulated_conv2d", "eps_outside", "eps is added to the root",
         hint="In Eq. (9) eps stands under the root.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, kernel / (_size(kernel, 0.0) + eps))


@mistake("modulated_conv2d", "eps_ignored", "eps is a constant of the code",
         hint="The caller chooses eps; 1e-8 is only its default.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, kernel / _size(kernel, 1e-8))


@mistake("modulated_conv2d", "flipped", "the kernel is flipped, as in the mathematical convolution",
         hint="The libraries' convolution is a correlation.")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, (kernel / _size(kernel, eps)).flip(-1, -2))


@mistake("modulated_conv2d", "other_default", "the default of eps is 1e-5",
         hint="The signature says 1e-8.")
def modulated_conv2d(x, w, s, eps=1e-5):
    kernel = _modulated(w, s)
    return _apply(x, kernel / _size(kernel, eps))


@alternative("modulated_conv2d", "example_by_example")
def modulated_conv2d(x, w, s, eps=1e-8):
    kernel = _modulated(w, s)
    return _apply(x, kernel * (kernel.pow(2).sum((2, 3, 4), keepdim=True) + eps).rsqrt())


@alternative("modulated_conv2d", "scaled_features")
def modulated_conv2d(x, w, s, eps=1e-8):
    plain = nf.conv2d(x * s[:, :, None, None], w, padding="same")
    square = torch.einsum("oc,bc->bo", w.pow(2).sum((2, 3)), s.pow(2))
    return plain / (square + eps).sqrt()[:, :, None, None]


# ------------------------------------------------------------------------------------------------- stylegan_mapping

@mistake("stylegan_mapping", "unit_length", "pixel_norm makes unit vectors",
         hint="Eq. (10) has the mean of the squares, not their sum: the length becomes the root of D.")
def pixel_norm(z, eps=1e-8):
    return z / (z.pow(2).sum(1, keepdim=True) + eps).sqrt()


@mistake("stylegan_mapping", "pixel_norm_over_batch", "pixel_norm averages over the batch",
         hint="Every vector is normalised by itself: the mean is over its D components.")
def pixel_norm(z, eps=1e-8):
    return z / (z.pow(2).mean(0, keepdim=True) + eps).sqrt()


@mistake("stylegan_mapping", "pixel_norm_eps_outside", "eps is added to the root in pixel_norm",
         hint="In Eq. (10) eps stands under the root.")
def pixel_norm(z, eps=1e-8):
    return z / (z.pow(2).mean(1, keepdim=True).sqrt() + eps)


@mistake("stylegan_mapping", "pixel_norm_centred", "pixel_norm subtracts the mean first",
         hint="That is layer normalization. Pixel norm only scales.")
def pixel_norm(z, eps=1e-8):
    return z / (z.var(1, keepdim=True, unbiased=False) + eps).sqrt()


def _appended(x, numbers):
    """x with numbers (B,) as a further channel."""
    return torch.cat([x, numbers[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)


def _strided(x, group):
    """(group, B // group, C, H, W): the members of a group along the first axis."""
    if x.shape[0] % group:
        raise ValueError("group does not divide the batch")
    return x.reshape(group, -1, *x.shape[1:])


@mistake("stylegan_mapping", "over_channels", "the deviation is taken over the channels of each example",
         hint="Eq. (11) compares examples with each other: the deviation is over the group.")
def minibatch_stddev(x, group, eps=1e-8):
    _strided(x, group)
    return _appended(x, (x.var(1, unbiased=False) + eps).sqrt().mean((1, 2)))


@mistake("stylegan_mapping", "unbiased", "the variance of a group of two or more is the unbiased one",
         hint="Eq. (11) divides by the size of the group, not by one less.")
def minibatch_stddev(x, group, eps=1e-8):
    y = _strided(x, group)
    return _appended(x, (y.var(0, unbiased=group > 1) + eps).sqrt().mean((1, 2, 3)).repeat(group))


@mistake("stylegan_mapping", "no_eps", "the root of the group's variance is taken without eps",
         hint="Where the examples of a group are equal the root of 0 has an infinite slope.")
def minibatch_stddev(x, group, eps=1e-8):
    return _appended(x, _strided(x, group).std(0, unbiased=False).mean((1, 2, 3)).repeat(group))


@mistake("stylegan_mapping", "neighbours", "a group consists of neighbouring examples",
         hint="Example n belongs to group n mod M: the members of a group are M apart.")
def minibatch_stddev(x, group, eps=1e-8):
    _strided(x, group)
    y = x.reshape(-1, group, *x.shape[1:])
    return _appended(x, (y.var(1, unbiased=False) + eps).sqrt().mean((1, 2, 3)).repeat_interleave(group))


@mistake("stylegan_mapping", "handed_to_neighbours", "the groups are right, but their numbers go to other examples",
         hint="Which examples is the number of group m appended to? Those with n mod M = m.")
def minibatch_stddev(x, group, eps=1e-8):
    numbers = (_strided(x, group).var(0, unbiased=False) + eps).sqrt().mean((1, 2, 3))
    return _appended(x, numbers.repeat_interleave(group))


@mistake("stylegan_mapping", "root_of_the_mean", "the variances are averaged before the root",
         hint="The mean in Eq. (11) is over deviations: the root comes first.")
def minibatch_stddev(x, group, eps=1e-8):
    y = _strided(x, group)
    return _appended(x, (y.var(0, unbiased=False).mean((1, 2, 3)) + eps).sqrt().repeat(group))


@mistake("stylegan_mapping", "one_number_for_the_batch", "all groups get the mean of all groups",
         hint="Every group has a number of its own.")
def minibatch_stddev(x, group, eps=1e-8):
    number = (_strided(x, group).var(0, unbiased=False) + eps).sqrt().mean()
    return _appended(x, number.expand(len(x)))


@mistake("stylegan_mapping", "stddev_detached", "the appended channel carries no gradient",
         hint="G learns variety by the gradient of this channel.")
def minibatch_stddev(x, group, eps=1e-8):
    y = _strided(x, group).detach()
    return _appended(x, (y.var(0, unbiased=False) + eps).sqrt().mean((1, 2, 3)).repeat(group))


def _adain(x, scale, bias, eps, dims=(2, 3), unbiased=False):
    mean, var = x.mean(dims, keepdim=True), x.var(dims, keepdim=True, unbiased=unbiased)
    return scale[:, :, None, None] * (x - mean) / (var + eps).sqrt() + bias[:, :, None, None]


@mistake("stylegan_mapping", "adain_batch_statistics", "AdaIN normalises with the statistics of the batch",
         hint="In Eq. (12) mean and variance are those of one channel of one example.")
def adain(x, ys, eps=1e-8):
    return _adain(x, ys[:, 0], ys[:, 1], eps, (0, 2, 3))


@mistake("stylegan_mapping", "adain_layer_statistics", "AdaIN normalises all channels of an example together",
         hint="In Eq. (12) every channel has its own mean and variance.")
def adain(x, ys, eps=1e-8):
    return _adain(x, ys[:, 0], ys[:, 1], eps, (1, 2, 3))


@mistake("stylegan_mapping", "adain_one_plus_scale", "1 is added to the style's scale",
         hint="Some implementations do that; the paper's Eq. 1, and our contract, do not.")
def adain(x, ys, eps=1e-8):
    return _adain(x, 1 + ys[:, 0], ys[:, 1], eps)


@mistake("stylegan_mapping", "adain_scale_and_bias_swapped", "scale and bias are exchanged",
         hint="ys[:, 0] is the scale.")
def adain(x, ys, eps=1e-8):
    return _adain(x, ys[:, 1], ys[:, 0], eps)


@mistake("stylegan_mapping", "adain_eps_outside", "eps is added to the root in AdaIN",
         hint="In Eq. (12) eps stands under the root.")
def adain(x, ys, eps=1e-8):
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    root = torch.where(var > 0, torch.where(var > 0, var, 1).sqrt(), 0)
    return ys[:, 0, :, None, None] * (x - mean) / (root + eps) + ys[:, 1, :, None, None]


@mistake("stylegan_mapping", "truncate_other_way", "psi = 1 gives the mean style",
         hint="psi is what is left of the difference to the mean: psi = 0 gives the mean.")
def truncate(w, w_avg, psi):
    return w + psi * (w_avg - w)


@mistake("stylegan_mapping", "truncate_to_zero", "styles are pulled to 0 instead of the mean style",
         hint="Eq. (13) begins with the mean of w.")
def truncate(w, w_avg, psi):
    return psi * w + 0 * w_avg


@mistake("stylegan_mapping", "truncate_clamps", "psi is clamped to [0, 1]",
         hint="Any psi is legal: -1 is the opposite style, 2 a caricature.")
def truncate(w, w_avg, psi):
    return w_avg + min(max(psi, 0.0), 1.0) * (w - w_avg)


@alternative("stylegan_mapping", "rsqrt")
def pixel_norm(z, eps=1e-8):
    return z * torch.rsqrt(torch.einsum("bd,bd->b", z, z) / z.shape[1] + eps)[:, None]


@alternative("stylegan_mapping", "rsqrt")
def minibatch_stddev(x, group, eps=1e-8):
    y = _strided(x, group)
    y = y - y.mean(dim=0)
    y = (y.square().mean(dim=0) + eps).sqrt().mean(dim=(1, 2, 3), keepdim=True)
    return torch.cat([x, y.repeat(group, 1, *x.shape[2:])], dim=1)


@alternative("stylegan_mapping", "rsqrt")
def adain(x, ys, eps=1e-8):
    return nf.instance_norm(x, eps=eps) * ys[:, 0, :, None, None] + ys[:, 1, :, None, None] if (
        x.shape[2] * x.shape[3] > 1) else 0 * x * ys[:, 0, :, None, None] + ys[:, 1, :, None, None]


@alternative("stylegan_mapping", "loops")
def minibatch_stddev(x, group, eps=1e-8):
    if len(x) % group:
        raise ValueError(f"{len(x)} examples, groups of {group}")
    count = len(x) // group
    numbers = torch.stack([(x[m::count].var(0, correction=0) + eps).sqrt().mean() for m in range(count)])
    return torch.cat([x, torch.stack([numbers[n % count] * torch.ones_like(x[n, :1]) for n in range(len(x))])], dim=1)


@alternative("stylegan_mapping", "loops")
def truncate(w, w_avg, psi):
    return w_avg + psi * (w - w_avg)


# ------------------------------------------------------------------------------------------------- cyclegan_losses

def _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, **changed):
    """The losses of the contract, but for those that are given."""
    fake_b, fake_a = G(a), F(b)
    one = {"adv": (D_b(fake_b) - 1).pow(2).mean() + (D_a(fake_a) - 1).pow(2).mean(),
           "cyc": nf.l1_loss(F(fake_b), a) + nf.l1_loss(G(fake_a), b), "id": nf.l1_loss(G(b), b) + nf.l1_loss(F(a), a),
           "d_a": (D_a(a) - 1).pow(2).mean() + D_a(fake_a.detach()).pow(2).mean(),
           "d_b": (D_b(b) - 1).pow(2).mean() + D_b(fake_b.detach()).pow(2).mean()} | changed
    return {"gen": one["adv"] + lam_cyc * one["cyc"] + lam_id * one["id"]} | one


@mistake("cyclegan_losses", "cycle_between_domains", "the round trip is compared in the other domain",
         hint="F(G(a)) is to be a. What you compare is a fake of b with a translation of it.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    wrong = nf.l1_loss(F(G(a)), G(a)) + nf.l1_loss(G(F(b)), F(b))
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, cyc=wrong)


@mistake("cyclegan_losses", "domains_crossed", "the round trip starts with the generator of the other direction",
         hint="G translates from A to B. A round trip of a is F(G(a)).")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    wrong = nf.l1_loss(G(F(a)), a) + nf.l1_loss(F(G(b)), b)
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, cyc=wrong)


@mistake("cyclegan_losses", "one_direction", "only the round trip of a is counted",
         hint="Eq. (14) has two terms.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, cyc=nf.l1_loss(F(G(a)), a))


@mistake("cyclegan_losses", "squared", "the cycle loss is a squared error",
         hint="Eq. (14) has absolute values: squares blur.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    wrong = nf.mse_loss(F(G(a)), a) + nf.mse_loss(G(F(b)), b)
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, cyc=wrong)


@mistake("cyclegan_losses", "summed_over_features", "absolute values are summed over an example",
         hint="The bars of Eq. (14) are means over all elements.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    wrong = (F(G(a)) - a).abs().flatten(1).sum(1).mean() + (G(F(b)) - b).abs().flatten(1).sum(1).mean()
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, cyc=wrong)


@mistake("cyclegan_losses", "cycle_detached", "the way back starts from a detached fake",
         hint="The cycle loss has to teach both generators: the first one by the graph of its fake.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    wrong = nf.l1_loss(F(G(a).detach()), a) + nf.l1_loss(G(F(b).detach()), b)
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, cyc=wrong)


@mistake("cyclegan_losses", "fakes_not_detached", "the judges' losses reach the generators",
         hint="In Eq. (17) the fakes are data.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, d_a=(D_a(a) - 1).pow(2).mean() + D_a(F(b)).pow(2).mean(),
                  d_b=(D_b(b) - 1).pow(2).mean() + D_b(G(a)).pow(2).mean())


@mistake("cyclegan_losses", "identity_of_the_source", "the identity loss feeds the domain that is translated",
         hint="G makes b's: what should stay as it is under G is b.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, id=nf.l1_loss(G(a), a) + nf.l1_loss(F(b), b))


@mistake("cyclegan_losses", "judges_exchanged", "the fakes of a domain go to the judge of the other one",
         hint="D_a judges what F makes.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    wrong = (D_a(G(a)) - 1).pow(2).mean() + (D_b(F(b)) - 1).pow(2).mean()
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, adv=wrong)


@mistake("cyclegan_losses", "judges_halved", "the judges' losses are halved",
         hint="The authors' code does that. Our Eq. (17) does not.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    losses = _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id)
    return losses | {"d_a": losses["d_a"] / 2, "d_b": losses["d_b"] / 2}


@mistake("cyclegan_losses", "adversarial_detached", "the adversarial loss is computed from detached fakes",
         hint="In Eq. (15) the judges are the teachers: their gradient has to reach the generators.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    wrong = (D_b(G(a).detach()) - 1).pow(2).mean() + (D_a(F(b).detach()) - 1).pow(2).mean()
    return _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id, adv=wrong)


@mistake("cyclegan_losses", "identity_weighted_by_cycle", "the identity loss is also multiplied by the cycle's weight",
         hint="The paper sets its weight to half of the other; here lam_id is the weight itself.")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    losses = _cycle(G, F, D_a, D_b, a, b, lam_cyc, lam_id)
    return losses | {"gen": losses["adv"] + lam_cyc * (losses["cyc"] + lam_id * losses["id"])}


class _Pool:
    """The right pool, whose parts the mistakes change."""

    def __init__(self, size):
        self.size, self.images = size, []

    def stored(self, image):
        return image.detach().clone()

    def answer(self, image, coin, place):
        if len(self.images) < self.size:
            self.images.append(self.stored(image))
        elif self.size > 0 and coin > 0.5:
            image, self.images[place] = self.images[place], self.stored(image)
        return image

    def query(self, imgs, coins, idx):
        answers = [self.answer(*one) for one in zip(imgs, coins.tolist(), idx.tolist(), strict=True)]
        return torch.stack([one.detach() for one in answers])


@mistake("cyclegan_losses", "pool_stores_graph", "the pool hands out images with their graphs",
         hint="A stored graph keeps a whole generator in memory: detach what comes in.")
class ImagePool(_Pool):
    def stored(self, image):
        return image.clone()

    def query(self, imgs, coins, idx):
        return torch.stack([self.answer(*one) for one in zip(imgs, coins.tolist(), idx.tolist(), strict=True)])


@mistake("cyclegan_losses", "pool_shares_memory", "the pool keeps views of the caller's batch",
         hint="`detach()` does not copy. When the batch is overwritten, so are the stored images.")
class ImagePool(_Pool):
    def stored(self, image):
        return image.detach()


@mistake("cyclegan_losses", "pool_never_replaces", "the returned image stays in the pool, and the new one is lost",
         hint="The new image takes the place of the one that is returned.")
class ImagePool(_Pool):
    def answer(self, image, coin, place):
        if len(self.images) < self.size:
            self.images.append(self.stored(image))
            return image
        return self.images[place] if self.size > 0 and coin > 0.5 else image


@mistake("cyclegan_losses", "pool_grows", "new images are appended to a full pool",
         hint="A pool holds at most `size` images: the new one takes the place of the old one.")
class ImagePool(_Pool):
    def answer(self, image, coin, place):
        if self.size == 0:
            return image
        self.images.insert(0, self.stored(image))
        if len(self.images) <= self.size:
            return image
        return self.images[place] if coin > 0.5 else image


@mistake("cyclegan_losses", "pool_coin_reversed", "stored images are returned for small coins",
         hint="coins above 0.5 ask for a stored image.")
class ImagePool(_Pool):
    def answer(self, image, coin, place):
        return super().answer(image, 1 - coin, place)


@mistake("cyclegan_losses", "pool_coin_at_half", "a coin of exactly 0.5 asks for a stored image",
         hint="The contract says coins[i] > 0.5.")
class ImagePool(_Pool):
    def answer(self, image, coin, place):
        return super().answer(image, coin + 1e-9, place)


@mistake("cyclegan_losses", "pool_stores_always", "a full pool also stores the images that it returns as they are",
         hint="With a small coin the image is returned, and the pool stays as it is.")
class ImagePool(_Pool):
    def answer(self, image, coin, place):
        if len(self.images) < self.size or self.size == 0:
            return super().answer(image, coin, place)
        old, self.images[place] = self.images[place], self.stored(image)
        return old if coin > 0.5 else image


@alternative("cyclegan_losses", "pool_of_one_tensor")
class ImagePool:
    def __init__(self, size):
        self.size, self.count, self.store = size, 0, None

    def query(self, imgs, coins, idx):
        if self.size == 0:
            return imgs.detach()
        if self.store is None:
            self.store = torch.zeros(self.size, *imgs.shape[1:], dtype=imgs.dtype)
        out = []
        for image, coin, place in zip(imgs.detach(), coins, idx, strict=True):
            if self.count < self.size:
                self.store[self.count] = image
                self.count += 1
                out.append(image)
            elif coin.item() > 0.5:
                out.append(self.store[place].clone())
                self.store[place] = image
            else:
                out.append(image)
        return torch.stack(out)


@alternative("cyclegan_losses", "library_losses")
def cyclegan_losses(G, F, D_a, D_b, a, b, lam_cyc, lam_id):
    def judged(score, target):
        return nf.mse_loss(score, torch.full_like(score, target))
    with torch.no_grad():
        made_b, made_a = G(a), F(b)
    losses = {"adv": judged(D_b(G(a)), 1.0) + judged(D_a(F(b)), 1.0),
              "cyc": nf.l1_loss(F(G(a)), a) + nf.l1_loss(G(F(b)), b), "id": nf.l1_loss(G(b), b) + nf.l1_loss(F(a), a),
              "d_a": judged(D_a(a), 1.0) + judged(D_a(made_a), 0.0),
              "d_b": judged(D_b(b), 1.0) + judged(D_b(made_b), 0.0)}
    return losses | {"gen": losses["adv"] + lam_cyc * losses["cyc"] + lam_id * losses["id"]}


# ------------------------------------------------------------------------------------------------- gan_train_step

def _update(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _d_loss(D, real, fake):
    return nf.softplus(-D(real)).mean() + nf.softplus(D(fake)).mean()


def _g_loss(D, fake):
    return nf.softplus(-D(fake)).mean()


def _pair(d_loss, g_loss):
    return {"d_loss": d_loss.detach(), "g_loss": g_loss.detach()}


@mistake("gan_train_step", "fake_not_detached", "the loss of D is backpropagated into G",
         hint="In the D phase the fakes are data. The gradient that G gets there is only thrown away, at best.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d)))
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "d_accumulates", "the gradients of D are never cleared",
         hint="Backward adds to what is there: in the next call, the gradient of the G phase.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    d_loss = _d_loss(D, real, G(z_d).detach())
    d_loss.backward()
    opt_d.step()
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "g_accumulates", "the gradients of G are never cleared",
         hint="Backward adds to what is there: each step of G repeats all earlier ones.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d).detach()))
    g_loss = _g_loss(D, G(z_g))
    g_loss.backward()
    opt_g.step()
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "d_cleared_after_its_step", "the gradients of D are cleared after its step, not before",
         hint="Then the G phase fills them again, and the next D phase adds to that.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    d_loss = _d_loss(D, real, G(z_d).detach())
    d_loss.backward()
    opt_d.step()
    opt_d.zero_grad()
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "same_fakes_twice", "the G phase uses the fakes of the D phase again",
         hint="G is called twice: with z_d, and anew with z_g.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    fake = G(z_d)
    _update(opt_d, d_loss := _d_loss(D, real, fake.detach()))
    _update(opt_g, g_loss := _g_loss(D, fake))
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "both_step_in_the_g_phase", "D makes a second step, with the generator's loss",
         hint="The gradient of the G phase passes through D, but D does not move.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d).detach()))
    opt_d.zero_grad()
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    opt_d.step()
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "d_in_eval_mode", "D is in evaluation mode while it judges for G",
         hint="Batch normalization then uses its running averages. The contract keeps both in training mode.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d).detach()))
    D.eval()
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    D.train()
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "left_in_eval_mode", "G is left in evaluation mode",
         hint="Who switches a mode switches it back; here there is no reason to switch.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    G.train()
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d).detach()))
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    G.eval()
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "losses_with_graph", "the losses are returned with their graphs",
         hint="Detach what you return.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d).detach()))
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    return {"d_loss": d_loss, "g_loss": g_loss}


@mistake("gan_train_step", "one_mixed_batch", "D judges real and fake samples in one batch",
         hint="Batch normalization then sees the mixture. The contract asks for two calls.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    fake = G(z_d).detach()
    logits = D(torch.cat([real, fake]))
    d_loss = nf.softplus(-logits[:len(real)]).mean() + nf.softplus(logits[len(real):]).mean()
    _update(opt_d, d_loss)
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "fake_judged_first", "D judges the fakes before the real samples",
         hint="The running averages remember the order: the last batch counts most.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    fake = nf.softplus(D(G(z_d).detach())).mean()
    _update(opt_d, d_loss := nf.softplus(-D(real)).mean() + fake)
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "minimax", "G minimises the saturating loss",
         hint="The kind is 'ns': the softplus of minus the logit.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d).detach()))
    _update(opt_g, g_loss := -nf.softplus(D(G(z_g))).mean())
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "g_first", "G makes its step before D",
         hint="In the G phase the judge is the D that was just updated.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    _update(opt_g, g_loss := _g_loss(D, G(z_g)))
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d).detach()))
    return _pair(d_loss, g_loss)


@mistake("gan_train_step", "g_detached", "the fakes of the G phase are detached",
         hint="G learns by the gradient that passes through D into its samples.")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    _update(opt_d, d_loss := _d_loss(D, real, G(z_d).detach()))
    _update(opt_g, g_loss := _g_loss(D, G(z_g).detach()))
    return _pair(d_loss, g_loss)


@alternative("gan_train_step", "no_grad_and_frozen_judge")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    with torch.no_grad():
        fake = G(z_d)
    opt_g.zero_grad()
    opt_d.zero_grad()
    parts = [nf.softplus(sign * score).mean() for score, sign in ((D(real), -1), (D(fake), 1))]
    for part in parts:
        part.backward()
    opt_d.step()
    for parameter in D.parameters():
        parameter.requires_grad_(False)
    g_loss = -nf.logsigmoid(D(G(z_g))).mean()
    g_loss.backward()
    opt_g.step()
    for parameter in D.parameters():
        parameter.requires_grad_(True)
    return _pair(sum(parts), g_loss)


@alternative("gan_train_step", "library_loss")
def gan_train_step(G, D, opt_g, opt_d, real, z_d, z_g):
    bce = nf.binary_cross_entropy_with_logits
    r, f = D(real), D(G(z_d).detach())
    _update(opt_d, d_loss := bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f)))
    f = D(G(z_g))
    _update(opt_g, g_loss := bce(f, torch.ones_like(f)))
    return _pair(d_loss, g_loss)
