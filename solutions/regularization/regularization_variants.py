"""What students hand in for the unit on regularization: known mistakes, and right answers in other styles.

Every decorated function replaces the reference's function of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...".
"""
import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from autograder.variants import alternative, mistake

# ------------------------------------------------------------------------------------- helpers (all of them right)


def _probability(p):
    if p < 0 or p > 1:
        raise ValueError(f"{p} is no probability")
    return p


def _gain(p):
    """What survivors are multiplied by; for p = 1 there are none."""
    return 0.0 if _probability(p) == 1 else 1 / (1 - p)


def _like_examples(keep, x):
    """(B,) as (B, 1, ..., 1), to meet x."""
    return keep[(slice(None), *[None] * (x.dim() - 1))]


# ----------------------------------------------------------------------------------------------- inverted_dropout

@mistake("inverted_dropout", "not_rescaled", "the survivors are not rescaled in training",
         hint="The next layer should receive the same amount on average: divide by the probability to survive.")
def dropout(x, p, training, u):
    return x * (u >= _probability(p)) if training else x


@mistake("inverted_dropout", "scaled_at_evaluation", "training does not rescale, and evaluation multiplies by 1 - p",
         hint="This is the paper's dropout. The inverted one corrects in training and leaves evaluation alone.")
def dropout(x, p, training, u):
    return x * (u >= _probability(p)) if training else x * (1 - _probability(p))


@mistake("inverted_dropout", "rescaled_twice", "the survivors are rescaled in training, and all outputs in evaluation",
         hint="One correction is enough; evaluation returns x.")
def dropout(x, p, training, u):
    return x * (u >= p) * _gain(p) if training else x * (1 - _probability(p))


@mistake("inverted_dropout", "p_is_to_keep", "p is taken as the probability to keep",
         hint="In the paper p is the probability to keep; here, as in all libraries, it is the one to drop.")
def dropout(x, p, training, u):
    return x * (u < _probability(p)) / max(p, 1e-300) if training else x


@mistake("inverted_dropout", "keeps_the_wrong_side", "elements with u < p are the ones that are kept",
         hint="u < p happens with probability p: which of the two events has that probability?")
def dropout(x, p, training, u):
    return x * (u < p) * _gain(p) if training else x


@mistake("inverted_dropout", "divides_by_p", "the survivors are divided by p",
         hint="Divide by the probability with which an element survives.")
def dropout(x, p, training, u):
    _probability(p)
    if not training or p == 0:
        return x
    return x * (u >= p) / p * (p < 1)


@mistake("inverted_dropout", "multiplied_by_survival", "the survivors are multiplied by 1 - p",
         hint="The mean has become smaller by the factor 1 - p: multiplying makes it worse.")
def dropout(x, p, training, u):
    return x * (u >= _probability(p)) * (1 - p) if training else x


@mistake("inverted_dropout", "tie_dropped", "elements with u = p are dropped",
         hint="u can be exactly 0: with p = 0 nothing may be dropped, so equality keeps.")
def dropout(x, p, training, u):
    return x * (u > p) * _gain(p) if training else x


@mistake("inverted_dropout", "one_mask_for_all_rows", "all rows get the mask of the first one",
         hint="Every element has its own random number; do not let a row of them be broadcast.")
def dropout(x, p, training, u):
    return x * (u[:1] >= p if u.dim() > 1 else u >= p) * _gain(p) if training else x


@mistake("inverted_dropout", "first_share", "the first share p of the elements is dropped, and u is not used",
         hint="The average is right, the randomness is missing: compare u with p.")
def dropout(x, p, training, u):
    if not training:
        return x
    order = torch.arange(x.numel()).reshape(x.shape)
    return x * (order >= round(p * x.numel())) * _gain(p)


@mistake("inverted_dropout", "evaluation_forgotten", "evaluation drops like training",
         hint="`training` tells the modes apart.")
def dropout(x, p, training, u):
    return x * (u >= p) * _gain(p)


@mistake("inverted_dropout", "nan_at_one", "nothing is done about p = 1",
         hint="0 / 0 is NaN. Nobody survives p = 1, so nothing has to be divided.")
def dropout(x, p, training, u):
    return x * (u >= _probability(p)) / torch.tensor(1 - p, dtype=x.dtype) if training else x


@mistake("inverted_dropout", "nan_gradient_at_one", "for p = 1 the division happens, and its result is masked",
         hint="The values are right, but backward goes through the division: 0 times infinity is NaN.")
def dropout(x, p, training, u):
    return torch.where(u >= p, x / torch.tensor(1 - _probability(p), dtype=x.dtype), 0) if training else x


@mistake("inverted_dropout", "gradient_passes_through", "the gradient ignores the mask",
         hint="What was dropped did not act, so it gets no gradient; `.data` and `.detach()` hide the mask.")
def dropout(x, p, training, u):
    return x + (x * (u >= p) * _gain(p) - x).detach() if training else x


@mistake("inverted_dropout", "in_place", "dropped elements are set to 0 in the caller's tensor",
         hint="`x[...] = 0` and `x *= ...` write to the input.")
def dropout(x, p, training, u):
    if not training:
        return x
    gain = _gain(p)
    with torch.no_grad():
        x *= u >= p
    return x * (u >= p) * gain


@mistake("inverted_dropout", "always_float64", "the output is float64 whatever the input",
         hint="The output has the dtype of x.")
def dropout(x, p, training, u):
    return x.double() * (u >= p) * _gain(p) if training else x


@mistake("inverted_dropout", "nothing_refused", "p is not checked",
         hint="The contract asks for a ValueError outside [0, 1], in both modes.")
def dropout(x, p, training, u):
    return x * (u >= p) * (0.0 if p == 1 else 1 / (1 - p)) if training else x


@mistake("inverted_dropout", "layer_never_evaluates", "the layer drops in evaluation as well",
         hint="`self.training` follows `train()` and `eval()`.")
class Dropout(nn.Module):
    def __init__(self, p, generator):
        super().__init__()
        self.p, self.generator = _probability(p), generator

    def forward(self, x):
        return dropout(x, self.p, True, torch.rand(x.shape, generator=self.generator, dtype=x.dtype))


@mistake("inverted_dropout", "layer_same_mask_each_call", "the layer starts its generator anew for every call",
         hint="A generator remembers where it is; seed it once, when it is made.")
class Dropout(nn.Module):
    def __init__(self, p, generator):
        super().__init__()
        self.p, self.generator = _probability(p), generator

    def forward(self, x):
        self.generator.manual_seed(self.generator.initial_seed())
        return dropout(x, self.p, self.training, torch.rand(x.shape, generator=self.generator, dtype=x.dtype))


@mistake("inverted_dropout", "layer_one_row", "the layer draws one row of numbers for the whole batch",
         hint="Draw as many numbers as x has elements.")
class Dropout(nn.Module):
    def __init__(self, p, generator):
        super().__init__()
        self.p, self.generator = _probability(p), generator

    def forward(self, x):
        row = torch.rand(x.shape[-1], generator=self.generator, dtype=x.dtype)
        return dropout(x, self.p, self.training, row.expand_as(x))


@mistake("inverted_dropout", "layer_ignores_generator", "the layer draws from a generator of its own making",
         hint="The generator that the layer is given is its only source of randomness.")
class Dropout(nn.Module):
    def __init__(self, p, generator):
        super().__init__()
        self.p, self.generator = _probability(p), torch.Generator().manual_seed(0)

    def forward(self, x):
        return dropout(x, self.p, self.training, torch.rand(x.shape, generator=self.generator, dtype=x.dtype))


@mistake("inverted_dropout", "layer_normal_numbers", "the layer compares normal instead of uniform numbers with p",
         hint="`randn` is not uniform: P(u < p) = p holds for numbers that are uniform in [0, 1).")
class Dropout(nn.Module):
    def __init__(self, p, generator):
        super().__init__()
        self.p, self.generator = _probability(p), generator

    def forward(self, x):
        return dropout(x, self.p, self.training, torch.randn(x.shape, generator=self.generator, dtype=x.dtype))


@alternative("inverted_dropout", "where_and_bernoulli")
def dropout(x, p, training, u):
    if not 0.0 <= p <= 1.0:
        raise ValueError("p")
    if not training or p == 0:
        return x.clone()
    if p == 1:
        return torch.zeros_like(x) * x
    return torch.where(u < p, 0.0, x / (1.0 - p))


@alternative("inverted_dropout", "where_and_bernoulli")
class Dropout(nn.Module):
    def __init__(self, p, generator):
        super().__init__()
        if p < 0 or p > 1:
            raise ValueError("p")
        self.p = p
        self.generator = generator

    def forward(self, x):
        if not self.training:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * keep * (1 / (1 - self.p) if self.p < 1 else 0.0)


@alternative("inverted_dropout", "masked_fill")
def dropout(x, p, training, u):
    gain = _gain(p)
    return (x * gain).masked_fill(~(u >= p), 0) if training else x * 1


# ----------------------------------------------------------------------------------------------- drop_path

@mistake("drop_path", "not_rescaled", "kept examples are not rescaled",
         hint="On average over the mask the branch should contribute as much as in evaluation.")
def drop_path(x, p, keep, training):
    return x * _like_examples(keep, x) * (_probability(p) < 1) if training else x


@mistake("drop_path", "scaled_at_evaluation", "kept examples are not rescaled, and evaluation multiplies by 1 - p",
         hint="This is the paper's rule. Eq. (2) corrects in training and leaves evaluation alone.")
def drop_path(x, p, keep, training):
    return x * _like_examples(keep, x) * (p < 1) if training else x * (1 - _probability(p))


@mistake("drop_path", "whole_batch", "one example decides for the whole batch",
         hint="Every example has its own entry in `keep`.")
def drop_path(x, p, keep, training):
    return x * keep[0] * _gain(p) if training else x


@mistake("drop_path", "mask_on_the_last_axis", "the mask is laid along the last axis",
         hint="Broadcasting aligns the last axes; `keep` belongs to the first one of x.")
def drop_path(x, p, keep, training):
    if not training:
        return x
    along = keep if keep.shape[0] == x.shape[-1] else _like_examples(keep, x)
    return x * along * _gain(p)


@mistake("drop_path", "per_element", "single elements are dropped instead of examples",
         hint="A branch is kept or dropped as a whole: that would be dropout.")
def drop_path(x, p, keep, training):
    if not training:
        return x
    scattered = keep.repeat(-(-x.numel() // len(keep)))[:x.numel()].reshape(x.shape)
    return x * scattered * _gain(p)


@mistake("drop_path", "mask_inverted", "the mask is read the other way round",
         hint="In this course True means keep.")
def drop_path(x, p, keep, training):
    return x * _like_examples(~keep, x) * _gain(p) if training else x


@mistake("drop_path", "divides_by_p", "kept examples are divided by p",
         hint="Divide by the probability with which an example is kept.")
def drop_path(x, p, keep, training):
    _probability(p)
    return x * _like_examples(keep, x) * (1 / p if 0 < p < 1 else float(p == 0)) if training else x


@mistake("drop_path", "evaluation_forgotten", "evaluation drops like training",
         hint="`training` tells the modes apart.")
def drop_path(x, p, keep, training):
    return x * _like_examples(keep, x) * _gain(p)


@mistake("drop_path", "infinite_at_one", "nothing is done about p = 1",
         hint="With p = 1 every branch is dropped: the output is 0, and there is nothing to divide.")
def drop_path(x, p, keep, training):
    return x * _like_examples(keep, x) / torch.tensor(1 - _probability(p), dtype=x.dtype) if training else x


@mistake("drop_path", "rescaled_by_the_batch", "kept examples are rescaled by the share that this batch has kept",
         hint="The factor is a constant, 1 / (1 - p): with the batch's own share, examples depend on each other.")
def drop_path(x, p, keep, training):
    if not training:
        return x
    _probability(p)
    return x * _like_examples(keep, x) * (len(keep) / max(int(keep.sum()), 1)) * (p < 1)


@mistake("drop_path", "in_place", "dropped examples are set to 0 in the caller's tensor",
         hint="`x[~keep] = 0` and `x *= ...` write to the input.")
def drop_path(x, p, keep, training):
    if not training:
        return x
    gain = _gain(p)
    with torch.no_grad():
        x *= _like_examples(keep, x)
    return x * _like_examples(keep, x) * gain


@mistake("drop_path", "mask_as_float32", "the output is float32 whatever the input",
         hint="The output has the dtype of x.")
def drop_path(x, p, keep, training):
    return x.float() * _like_examples(keep, x) * _gain(p) if training else x


@mistake("drop_path", "nothing_refused", "p is not checked",
         hint="The contract asks for a ValueError outside [0, 1], in both modes.")
def drop_path(x, p, keep, training):
    return x * _like_examples(keep, x) * (0.0 if p == 1 else 1 / (1 - p)) if training else x


@mistake("drop_path", "rates_begin_at_zero", "the first branch is never dropped",
         hint="In Eq. (3) the branches are numbered from 1, and one divides by L.")
def drop_rates(depth, p_last):
    return [p_last * i / max(depth - 1, 1) for i in range(depth)]


@mistake("drop_path", "rates_one_short", "the rates are 0, ..., (L - 1) / L of p_last",
         hint="In Eq. (3) the branches are numbered from 1, so the last one gets p_last.")
def drop_rates(depth, p_last):
    return [p_last * i / depth for i in range(depth)]


@mistake("drop_path", "rates_reversed", "the early branches are dropped the most",
         hint="Early features are needed by everything that follows: the rates grow with depth.")
def drop_rates(depth, p_last):
    return [p_last * (depth - i) / depth for i in range(depth)]


@mistake("drop_path", "rates_constant", "all branches get the same rate",
         hint="Eq. (3) lets the rate grow from branch to branch.")
def drop_rates(depth, p_last):
    return [p_last] * depth


@mistake("drop_path", "rates_multiply", "the survival probabilities are multiplied from branch to branch",
         hint="Eq. (3) is linear in the number of the branch.")
def drop_rates(depth, p_last):
    return [1 - (1 - p_last) ** (i / depth) for i in range(1, depth + 1)]


@alternative("drop_path", "where_over_views")
def drop_path(x, p, keep, training):
    if p < 0 or p > 1:
        raise ValueError("p")
    if not training:
        return x
    if p == 1:
        return 0 * x
    return torch.where(keep.view([len(keep)] + [1] * (x.ndim - 1)), x / (1 - p), torch.zeros_like(x))


@alternative("drop_path", "where_over_views")
def drop_rates(depth, p_last):
    survival = [1 - level / depth * p_last for level in range(1, depth + 1)]
    return [1 - s for s in survival]


@alternative("drop_path", "example_by_example")
def drop_path(x, p, keep, training):
    gain = _gain(p)
    if not training:
        return x
    return torch.stack([one * gain if kept else 0 * one for one, kept in zip(x, keep.tolist(), strict=True)])


@alternative("drop_path", "example_by_example")
def drop_rates(depth, p_last):
    return torch.linspace(0, p_last, depth + 1, dtype=torch.float64)[1:].tolist()


# ----------------------------------------------------------------------------------------------- adamw_step

def _moments(g, m, v, betas):
    with torch.no_grad():
        return torch.lerp(g, m, betas[0]), torch.lerp(g * g, v, betas[1])


def _corrected(moment, beta, t):
    return moment / (1 - beta**t)


def _update(m, v, t, betas, eps):
    """The corrected step, without the learning rate."""
    return _corrected(m, betas[0], t) / (torch.sqrt(_corrected(v, betas[1], t)) + eps)


@mistake("adamw_step", "l2_in_the_gradient", "the decay is added to the gradient",
         hint="This is Adam with an L2 penalty: the adaptive step divides it. Eq. (5) takes the decay off p itself.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p, g = p.detach(), g.detach()
    m, v = _moments(g + wd * p, m, v, betas)
    return p - lr * _update(m, v, t, betas, eps), m, v


@mistake("adamw_step", "no_correction", "the running means are not corrected",
         hint="They begin at 0 and are too small at first: divide by 1 - β to the power of t.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    return p * (1 - lr * wd) - lr * m / (v.sqrt() + eps), m, v


@mistake("adamw_step", "only_m_corrected", "m is corrected, v is not",
         hint="Both running means begin at 0, and both are corrected.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    return p * (1 - lr * wd) - lr * _corrected(m, betas[0], t) / (v.sqrt() + eps), m, v


@mistake("adamw_step", "t_off_by_one", "the corrections use t + 1",
         hint="t is 1 for the first step, and the corrections use it as it is.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    return p * (1 - lr * wd) - lr * _update(m, v, t + 1, betas, eps), m, v


@mistake("adamw_step", "corrected_twice", "the corrected means are what is kept",
         hint="The correction is for this step only; the running means go on uncorrected.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    new_p = p * (1 - lr * wd) - lr * _update(m, v, t, betas, eps)
    return new_p, _corrected(m, betas[0], t), _corrected(v, betas[1], t)


@mistake("adamw_step", "eps_inside_the_root", "eps is added under the root",
         hint="With gradients around 1e-9 it makes all the difference: in Eq. (5) eps is added to the root.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    step = _corrected(m, betas[0], t) / torch.sqrt(_corrected(v, betas[1], t) + eps)
    return p * (1 - lr * wd) - lr * step, m, v


@mistake("adamw_step", "eps_before_the_correction", "eps is added to the root of the uncorrected v",
         hint="Eq. (5) adds eps to the root of the corrected one. (Kingma & Ba call this other variant epsilon hat.)")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    rate = lr * math.sqrt(1 - betas[1]**t) / (1 - betas[0]**t)
    return p * (1 - lr * wd) - rate * m / (v.sqrt() + eps), m, v


@mistake("adamw_step", "no_decay", "nothing decays",
         hint="The term with w in Eq. (5) is missing.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    return p - lr * _update(m, v, t, betas, eps), m, v


@mistake("adamw_step", "decay_without_lr", "the decay is not multiplied by the learning rate",
         hint="In our convention p loses lr · wd · p in a step.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    return p * (1 - wd) - lr * _update(m, v, t, betas, eps), m, v


@mistake("adamw_step", "decay_after_the_update", "the updated p decays instead of the old one",
         hint="Both terms of Eq. (5) use the old p.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, betas)
    return (p - lr * _update(m, v, t, betas, eps)) * (1 - lr * wd), m, v


@mistake("adamw_step", "betas_swapped", "the two betas are swapped",
         hint="The first of them belongs to m, the second one to v.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p, betas = p.detach(), (betas[1], betas[0])
    m, v = _moments(g, m, v, betas)
    return p * (1 - lr * wd) - lr * _update(m, v, t, betas, eps), m, v


@mistake("adamw_step", "old_m_used", "the step uses the running means from before the gradient",
         hint="Eq. (5) uses m' and v', which hold the new gradient already.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    new_m, new_v = _moments(g, m, v, betas)
    return p * (1 - lr * wd) - lr * _corrected(m.detach(), betas[0], t) / (
        _corrected(new_v, betas[1], t).sqrt() + eps), new_m, new_v


@mistake("adamw_step", "beta_flipped", "β is the weight of the new gradient",
         hint="β is the weight of what is remembered; the new gradient gets 1 - β.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p = p.detach()
    m, v = _moments(g, m, v, (1 - betas[0], 1 - betas[1]))
    return p * (1 - lr * wd) - lr * _update(m, v, t, betas, eps), m, v


@mistake("adamw_step", "graph_kept", "the new p is part of the graph of the old one",
         hint="The memory of such a training grows with every step: switch gradients off for the step.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    return p * (1 - lr * wd) - lr * _update(m, v, t, betas, eps), m, v


@mistake("adamw_step", "in_place", "m and v are updated in place",
         hint="`mul_` and `add_` change the caller's tensors; the contract asks for new ones.")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    with torch.no_grad():
        m.mul_(betas[0]).add_(g, alpha=1 - betas[0])
        v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        return p * (1 - lr * wd) - lr * _update(m, v, t, betas, eps), m.clone(), v.clone()


def _sorted(named, decays):
    named = list(named)
    return [n for n, p in named if decays(n, p)], [n for n, p in named if not decays(n, p)]


@mistake("adamw_step", "groups_by_name", "parameters without `bias` in their names decay",
         hint="Go by the number of axes: the weight of a normalization is a vector, and a bias may be a matrix.")
def decay_param_groups(model):
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return _sorted(trained, lambda n, p: "bias" not in n)


@mistake("adamw_step", "groups_frozen_too", "frozen parameters are in the lists as well",
         hint="What requires no gradient is not trained; the contract wants it in neither list.")
def decay_param_groups(model):
    return _sorted(model.named_parameters(), lambda n, p: p.dim() > 1)


@mistake("adamw_step", "groups_shared_twice", "a shared parameter is listed under each of its names",
         hint="It would be updated twice in a step: list each parameter once.")
def decay_param_groups(model):
    trained = [(n, p) for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]
    return _sorted(trained, lambda n, p: p.dim() > 1)


@mistake("adamw_step", "groups_scalar_decays", "everything that is not a vector decays, scalars too",
         hint="Two or more axes decay; a parameter without any axis does not.")
def decay_param_groups(model):
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return _sorted(trained, lambda n, p: p.dim() != 1)


@mistake("adamw_step", "groups_no_embeddings", "embeddings do not decay",
         hint="Some do it so; the rule of this exercise goes by the number of axes alone.")
def decay_param_groups(model):
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return _sorted(trained, lambda n, p: p.dim() > 1 and "embedding" not in n)


@mistake("adamw_step", "groups_alphabetical", "the lists are sorted by name",
         hint="Keep the order of `named_parameters()`.")
def decay_param_groups(model):
    trained = sorted((n, p) for n, p in model.named_parameters() if p.requires_grad)
    return _sorted(trained, lambda n, p: p.dim() > 1)


@alternative("adamw_step", "in_place_on_copies")
@torch.no_grad()
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    p, m, v = (one.detach().clone(memory_format=torch.contiguous_format) for one in (p, m, v))
    p.mul_(1 - lr * wd)
    m.lerp_(g, 1 - betas[0])
    v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    denominator = (v.sqrt() / math.sqrt(1 - betas[1]**t)).add_(eps)
    p.addcdiv_(m, denominator, value=-lr / (1 - betas[0]**t))
    return p, m, v


@alternative("adamw_step", "in_place_on_copies")
def decay_param_groups(model):
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[parameter.ndim >= 2].append(name)
    return groups[True], groups[False]


@alternative("adamw_step", "library_call")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    from torch.optim.adamw import adamw
    p, g, m, v = (one.detach().clone(memory_format=torch.contiguous_format) for one in (p, g, m, v))
    adamw([p], [g], [m], [v], [], [torch.tensor(t - 1.0)], foreach=False, amsgrad=False, beta1=betas[0],
          beta2=betas[1], lr=lr, weight_decay=wd, eps=eps, maximize=False)
    return p, m, v


@alternative("adamw_step", "detached_at_the_end")
def adamw_step(p, g, m, v, t, lr, betas, eps, wd):
    m = m + (1 - betas[0]) * (g - m)
    v = v + (1 - betas[1]) * (g ** 2 - v)
    update = _update(m, v, t, betas, eps) + wd * p
    return tuple(one.detach() for one in (p - lr * update, m, v))


# ----------------------------------------------------------------------------------------------- mixup_cutmix

def _weight(lam):
    if lam < 0 or lam > 1:
        raise ValueError(f"{lam} is no weight")
    return lam


def _mix(a, b, lam):
    return b + lam * (a - b)


def _clipped(box, height, width):
    top, left, bottom, right = box
    return (max(min(top, height), 0), max(min(left, width), 0), max(min(bottom, height), 0), max(min(right, width), 0))


def _pasted(x, source, box):
    top, left, bottom, right = box
    out = x.clone()
    out[..., top:bottom, left:right] = source[..., top:bottom, left:right]
    return out


def _own_share(box, height, width):
    top, left, bottom, right = box
    return 1 - (bottom - top) * (right - left) / (height * width)


@mistake("mixup_cutmix", "mixup_labels_not_permuted", "mixup mixes the examples and leaves the labels",
         hint="Half of Eq. (6) is about the labels: they are mixed like the examples.")
def mixup(x, y, lam, perm):
    return _mix(x, x[perm], _weight(lam)), 1 * y


@mistake("mixup_cutmix", "mixup_weights_swapped", "mixup gives lam to the partner",
         hint="lam is the weight of the example itself.")
def mixup(x, y, lam, perm):
    return _mix(x[perm], x, _weight(lam)), _mix(y[perm], y, lam)


@mistake("mixup_cutmix", "mixup_inverse_permutation", "the partners are found by the inverse permutation",
         hint="The partner of example i is example perm[i]: index with perm as it is.")
def mixup(x, y, lam, perm):
    partner = perm.argsort()
    return _mix(x, x[partner], _weight(lam)), _mix(y, y[partner], lam)


@mistake("mixup_cutmix", "mixup_flips_the_batch", "every example is mixed with its mirror image in the batch",
         hint="The caller chooses the partners: use perm.")
def mixup(x, y, lam, perm):
    return _mix(x, x.flip(0), _weight(lam)), _mix(y, y.flip(0), lam)


@mistake("mixup_cutmix", "mixup_within_the_class", "only examples of the same class are mixed",
         hint="Examples of different classes are mixed, too; the mixed labels say so.")
def mixup(x, y, lam, perm):
    alike = y.argmax(1) == y[perm].argmax(1)
    partner = torch.where(alike, perm, torch.arange(len(perm)))
    return _mix(x, x[partner], _weight(lam)), _mix(y, y[partner], lam)


@mistake("mixup_cutmix", "mixup_sequential", "an example is mixed with a partner that has been mixed already",
         hint="In a loop that writes into the batch, later examples meet changed partners; keep the sources apart.")
def mixup(x, y, lam, perm):
    xs, ys = list(x), list(y)
    for i, j in enumerate(perm.tolist()):
        xs[i], ys[i] = _mix(xs[i], xs[j], _weight(lam)), _mix(ys[i], ys[j], lam)
    return torch.stack(xs), torch.stack(ys)


@mistake("mixup_cutmix", "mixup_in_place", "mixup writes the mixture into the caller's batch",
         hint="`x *= lam` changes the caller's x, and the partner's part with it.")
def mixup(x, y, lam, perm):
    mixed = _mix(x, x[perm], _weight(lam)), _mix(y, y[perm], lam)
    with torch.no_grad():
        x *= lam
    return mixed


@mistake("mixup_cutmix", "mixup_nothing_refused", "lam is not checked",
         hint="The contract asks for a ValueError outside [0, 1].")
def mixup(x, y, lam, perm):
    return _mix(x, x[perm], lam), _mix(y, y[perm], lam)


@mistake("mixup_cutmix", "lambda_of_the_unclipped_box", "the labels count the part of the box outside the image",
         hint="Clip first: only pixels that were really pasted change the label.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    lam = _own_share(box, height, width)
    return _pasted(x, x[perm], _clipped(box, height, width)), _mix(y, y[perm], lam)


@mistake("mixup_cutmix", "box_not_clipped", "negative corners count from the end of the image",
         hint="x[..., -2:3] does not begin outside the image: clip the box before you slice.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    top, left, bottom, right = box
    out = x.clone()
    out[..., top:bottom, left:right] = x[perm][..., top:bottom, left:right]
    lam = 1 - out[0, 0, top:bottom, left:right].numel() / (height * width)
    return out, _mix(y, y[perm], lam)


@mistake("mixup_cutmix", "rows_and_columns_swapped", "rows and columns of the box are swapped",
         hint="The box is (top, left, bottom, right): the first and third number are rows.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    box = _clipped((box[1], box[0], box[3], box[2]), height, width)
    return _pasted(x, x[perm], box), _mix(y, y[perm], _own_share(box, height, width))


@mistake("mixup_cutmix", "last_row_included", "the rows and columns `bottom` and `right` are pasted as well",
         hint="The box ends before `bottom` and `right`.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    box = _clipped((box[0], box[1], box[2] + 1, box[3] + 1), height, width)
    return _pasted(x, x[perm], box), _mix(y, y[perm], _own_share(box, height, width))


@mistake("mixup_cutmix", "mask_inverted", "the example keeps the box, and the rest is the partner's",
         hint="M in Eq. (7) is 0 inside the box.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    box = _clipped(box, height, width)
    return _pasted(x[perm], x, box), _mix(y[perm], y, _own_share(box, height, width))


@mistake("mixup_cutmix", "label_weights_swapped", "the label of the example gets the share of the partner",
         hint="λ is the share of the example's own pixels, and the weight of its own label.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    box = _clipped(box, height, width)
    return _pasted(x, x[perm], box), _mix(y[perm], y, _own_share(box, height, width))


@mistake("mixup_cutmix", "cutmix_labels_not_permuted", "cutmix leaves the labels as they were",
         hint="The labels are mixed by the shares of the pixels.")
def cutmix(x, y, box, perm):
    return _pasted(x, x[perm], _clipped(box, *x.shape[-2:])), 1 * y


@mistake("mixup_cutmix", "cutmix_in_place", "cutmix pastes into the caller's images",
         hint="Paste into a copy: the caller still needs x, and so does the next example whose partner was changed.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    box = _clipped(box, height, width)
    result = _pasted(x, x[perm], box), _mix(y, y[perm], _own_share(box, height, width))
    with torch.no_grad():
        top, left, bottom, right = box
        x[..., top:bottom, left:right] *= 0
    return result


@mistake("mixup_cutmix", "only_the_first_channel", "only the first channel is pasted",
         hint="A pixel has C channels, and all of them come from the partner.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    box = _clipped(box, height, width)
    pasted = torch.cat([_pasted(x, x[perm], box)[:, :1], x[:, 1:]], dim=1)
    return pasted, _mix(y, y[perm], _own_share(box, height, width))


@mistake("mixup_cutmix", "labels_float64", "cutmix returns float64 labels whatever the input",
         hint="The output has the dtype of the input: a λ that is a float64 tensor promotes.")
def cutmix(x, y, box, perm):
    height, width = x.shape[-2:]
    box = _clipped(box, height, width)
    return _pasted(x, x[perm], box), _mix(y.double(), y[perm].double(), _own_share(box, height, width))


@alternative("mixup_cutmix", "mask_arithmetic")
def mixup(x, y, lam, perm):
    if not 0.0 <= lam <= 1.0:
        raise ValueError("lam")
    return tuple(a * lam + a.index_select(0, perm) * (1.0 - lam) for a in (x, y))


@alternative("mixup_cutmix", "mask_arithmetic")
def cutmix(x, y, box, perm):
    row = torch.arange(x.shape[2])[:, None]
    column = torch.arange(x.shape[3])
    inside = (row >= box[0]) & (row < box[2]) & (column >= box[1]) & (column < box[3])
    own = (~inside).to(x.dtype)
    lam = own.mean()
    return own * x + (1 - own) * x[perm], lam * y + (1 - lam) * y[perm]


@alternative("mixup_cutmix", "example_by_example")
def mixup(x, y, lam, perm):
    _weight(lam)
    order = perm.tolist()
    return (torch.stack([lam * x[i] + (1 - lam) * x[j] for i, j in enumerate(order)]),
            torch.stack([lam * y[i] + (1 - lam) * y[j] for i, j in enumerate(order)]))


@alternative("mixup_cutmix", "example_by_example")
def cutmix(x, y, box, perm):
    top, left, bottom, right = _clipped(box, *x.shape[-2:])
    images = []
    for i, j in enumerate(perm.tolist()):
        image = x[i].clone()
        image[:, top:bottom, left:right] = x[j, :, top:bottom, left:right]
        images.append(image)
    partner_share = (bottom - top) * (right - left) / x[0, 0].numel()
    return torch.stack(images), y * (1 - partner_share) + y[perm] * partner_share


# ----------------------------------------------------------------------------------------------- paired_augment

def _inside(crop, mask):
    y, x, h, w = crop
    if h <= 0 or w <= 0 or min(y, x) < 0 or y + h > mask.shape[0] or x + w > mask.shape[1]:
        raise ValueError("the crop is not inside the image")
    return crop


def _mirror_boxes(boxes, width):
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)


def _crop_image(img, crop, size):
    y, x, h, w = crop
    return F.interpolate(img[:, y:y + h, x:x + w].unsqueeze(0), size=tuple(size), mode="bilinear")[0]


def _centres(old, new):
    """floor((r + 1/2) old / new), exactly."""
    return [(2 * r + 1) * old // (2 * new) for r in range(new)]


def _crop_mask(mask, crop, size):
    y, x, h, w = crop
    return mask[y:y + h, x:x + w][_centres(h, size[0])][:, _centres(w, size[1])]


def _clip_boxes(boxes, crop):
    """Boxes relative to the crop, cut at its edges."""
    y, x, h, w = crop
    low = torch.zeros(4, dtype=boxes.dtype)
    high = torch.tensor([w, h, w, h], dtype=boxes.dtype)
    return torch.minimum(torch.maximum(boxes - torch.tensor([x, y, x, y], dtype=boxes.dtype), low), high)


def _scale_boxes(boxes, crop, size):
    (_, _, h, w), (new_h, new_w) = crop, size
    return boxes * torch.tensor([new_w / w, new_h / h, new_w / w, new_h / h], dtype=boxes.dtype)


def _has_area(boxes):
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _crop_boxes(boxes, crop, size):
    boxes = _scale_boxes(_clip_boxes(boxes, crop), crop, size)
    kept = _has_area(boxes)
    return boxes[kept], kept


@mistake("paired_augment", "pixel_rule_for_boxes", "boxes are mirrored by W - 1 - x",
         hint="That is the rule for the number of a pixel. A box's edge lies between pixels, and x becomes W - x.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1] - 1)
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "mask_not_mirrored", "the image and the boxes are mirrored, the mask is not",
         hint="Image, mask and boxes share one geometry: what is done to one is done to all.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, boxes = img.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "boxes_not_mirrored", "the boxes are not mirrored",
         hint="Image, mask and boxes share one geometry: what is done to one is done to all.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask = img.flip(-1), mask.flip(-1)
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "edges_not_swapped", "mirrored boxes have their right edge on the left",
         hint="The left edge of the mirrored box is made of the old right edge.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask = img.flip(-1), mask.flip(-1)
        boxes = _mirror_boxes(boxes, mask.shape[1])[:, [2, 1, 0, 3]]
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "mirrored_top_down", "the image is turned upside down",
         hint="Mirroring exchanges left and right: the last axis of image and mask.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask = img.flip(-2), mask.flip(-2)
        boxes = torch.stack([boxes[:, 0], mask.shape[0] - boxes[:, 3], boxes[:, 2], mask.shape[0] - boxes[:, 1]], dim=1)
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "cropped_before_mirrored", "the window is cut out before the image is mirrored",
         hint="The order matters: the crop's numbers count in the mirrored image.")
def paired_augment(img, mask, boxes, flip, crop, size):
    y, x, h, w = _inside(crop, mask)
    if flip:
        crop = (y, mask.shape[1] - x - w, h, w)
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "crop_of_boxes_swapped", "the boxes are moved by y along x, and by x along y",
         hint="The crop is (y, x, h, w), a box is (x, y, x, y).")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    swapped = (crop[1], crop[0], crop[2], crop[3])
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, swapped, size)


@mistake("paired_augment", "boxes_not_clipped", "boxes reach beyond the crop",
         hint="Eq. (8) clips to the window, before it scales.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    kept = _has_area(_clip_boxes(boxes, crop))
    y, x, h, w = crop
    moved = _scale_boxes(boxes - torch.tensor([x, y, x, y], dtype=boxes.dtype), crop, size)
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), moved[kept], kept


@mistake("paired_augment", "empty_boxes_kept", "boxes of which nothing is left are kept",
         hint="A box of width or height 0 frames nothing: drop it, and say so in `kept`.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    boxes = _scale_boxes(_clip_boxes(boxes, crop), crop, size)
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), boxes, torch.ones(len(boxes), dtype=torch.bool)


@mistake("paired_augment", "kept_by_centre", "boxes whose centre is outside the crop are dropped",
         hint="Some do it so; here a box stays as long as any area of it does.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    y, x, h, w = crop
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - torch.tensor([x, y], dtype=boxes.dtype)
    kept = ((centre > 0) & (centre < torch.tensor([w, h], dtype=boxes.dtype))).all(1)
    boxes = _scale_boxes(_clip_boxes(boxes, crop), crop, size)
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), boxes[kept], kept


@mistake("paired_augment", "boxes_not_scaled", "the boxes do not follow the resizing",
         hint="A crop of h × w becomes h' × w' pixels, and its boxes grow with it.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, crop[2:])


@mistake("paired_augment", "size_swapped", "x is scaled by the heights and y by the widths",
         hint="size is (h', w'): x belongs to the second number.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    boxes = _clip_boxes(boxes, crop)
    kept = _has_area(boxes)
    (_, _, h, w), (new_h, new_w) = crop, size
    ratios = torch.tensor([new_h / h, new_w / w, new_h / h, new_w / w], dtype=boxes.dtype)
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), (boxes * ratios)[kept], kept


@mistake("paired_augment", "labels_interpolated", "the labels are interpolated and rounded",
         hint="The mean of class 1 and class 3 is not class 2: a label is picked, never averaged.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    labels = _crop_image(mask[None].double(), crop, size)[0].round().long()
    return _crop_image(img, crop, size), labels, *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "nearest_by_corners", "the mask is sampled at the corners of the pixels",
         hint="Eq. (9) has r' + 1/2; the mode `nearest` of F.interpolate leaves out the half.")
def paired_augment(img, mask, boxes, flip, crop, size):
    y, x, h, w = crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    rows, columns = ([r * old // new for r in range(new)] for old, new in ((h, size[0]), (w, size[1])))
    labels = mask[y:y + h, x:x + w][rows][:, columns]
    return _crop_image(img, crop, size), labels, *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "corners_aligned", "the image is resized with aligned corners",
         hint="`align_corners=True` maps the centres of the outermost pixels onto each other; boxes scale by h'/h.")
def paired_augment(img, mask, boxes, flip, crop, size):
    y, x, h, w = crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    window = F.interpolate(img[None, :, y:y + h, x:x + w], size=tuple(size), mode="bilinear", align_corners=True)[0]
    return window, _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "image_by_nearest", "the image, too, takes the nearest pixel",
         hint="Only labels are picked; the image is interpolated.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    window = torch.stack([_crop_mask(channel, crop, size) for channel in img])
    return window, _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "crop_not_checked", "a crop that leaves the image is not refused",
         hint="Slices beyond the image are silently shorter, and negative ones count from the end: raise ValueError.")
def paired_augment(img, mask, boxes, flip, crop, size):
    y, x, h, w = crop
    y, x = max(y, 0), max(x, 0)
    crop = (y, x, max(min(h, mask.shape[0] - y), 1), max(min(w, mask.shape[1] - x), 1))
    if flip:
        img, mask, boxes = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@mistake("paired_augment", "boxes_in_place", "the caller's boxes are mirrored in place",
         hint="`boxes[:, 0] = ...` writes to the input, and overwrites what the next line needs.")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    result_of = boxes
    if flip:
        img, mask, result_of = img.flip(-1), mask.flip(-1), _mirror_boxes(boxes, mask.shape[1])
    result = _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(result_of, crop, size)
    if flip:
        with torch.no_grad():
            boxes[:, 0] = result_of[:, 0]
    return result


@alternative("paired_augment", "integer_arithmetic")
def paired_augment(img, mask, boxes, flip, crop, size):
    crop = _inside(crop, mask)
    if flip:
        img, mask, boxes = img.flip(2), mask.flip(1), _mirror_boxes(boxes, img.shape[2])
    return _crop_image(img, crop, size), _crop_mask(mask, crop, size), *_crop_boxes(boxes, crop, size)


@alternative("paired_augment", "nearest_exact_and_matrices")
def paired_augment(img, mask, boxes, flip, crop, size):
    y, x, h, w = _inside(crop, mask)

    def hat(old, new):
        at = ((torch.arange(new, dtype=img.dtype) + 0.5) * (old / new) - 0.5).clamp(0, old - 1)
        return torch.relu(1 - (at[:, None] - torch.arange(old, dtype=img.dtype)).abs())

    if flip:
        columns = torch.arange(mask.shape[1] - 1, -1, -1)
        img, mask = img[..., columns], mask[..., columns]
        boxes = mask.shape[1] * torch.tensor([1, 0, 1, 0]) + boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1])
    window = hat(h, size[0]) @ img[:, y:y + h, x:x + w] @ hat(w, size[1]).mT
    labels = F.interpolate(mask[None, None, y:y + h, x:x + w].double(), size=tuple(size), mode="nearest-exact")
    found, kept = [], []
    for x0, y0, x1, y1 in boxes.unbind(0):
        x0, x1 = ((edge - x).clamp(0, w) * size[1] / w for edge in (x0, x1))
        y0, y1 = ((edge - y).clamp(0, h) * size[0] / h for edge in (y0, y1))
        kept.append(bool(x1 > x0) and bool(y1 > y0))
        if kept[-1]:
            found.append(torch.stack([x0, y0, x1, y1]))
    boxes = torch.stack(found) if found else boxes.new_zeros(0, 4)
    return window, labels[0, 0].long(), boxes, torch.tensor(kept, dtype=torch.bool)


# ----------------------------------------------------------------------------------------------- early_stopping

def _settings(patience, min_delta, mode):
    if patience < 1 or min_delta < 0 or mode not in ("min", "max"):
        raise ValueError("settings")


def _copied(model):
    return copy.deepcopy(model.state_dict())


class _Stopping:
    """A right one, in pieces that a variant may replace."""

    def __init__(self, patience, min_delta=0.0, mode="min"):
        _settings(patience, min_delta, mode)
        self.patience, self.min_delta, self.mode = patience, min_delta, mode
        self.best, self.state, self.epoch, self.count, self.waited = None, None, None, 0, 0

    def improves(self, metric):
        if math.isnan(metric):
            return False
        if self.best is None:
            return True
        return metric < self.best - self.min_delta if self.mode == "min" else metric > self.best + self.min_delta

    def keep(self, model):
        return _copied(model)

    def over(self):
        return self.waited >= self.patience

    def step(self, metric, model):
        if self.improves(metric):
            self.best, self.epoch, self.state, self.waited = metric, self.count, self.keep(model), 0
        else:
            self.waited += 1
        self.count += 1
        return self.over()

    def restore(self, model):
        if self.state is None:
            raise ValueError("nothing to restore")
        model.load_state_dict(self.state)
        return self.epoch


@mistake("early_stopping", "reference_kept", "the state_dict is kept as it is, without a copy",
         hint="Its tensors are the model's own: the next optimizer step writes into what you believe to have saved.")
class EarlyStopping(_Stopping):
    def keep(self, model):
        return model.state_dict()


@mistake("early_stopping", "buffers_forgotten", "the parameters are restored, the buffers are not",
         hint="The running statistics of a normalization belong to the weights: `state_dict` has both.")
class EarlyStopping(_Stopping):
    def keep(self, model):
        return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def restore(self, model):
        if self.state is None:
            raise ValueError("nothing to restore")
        model.load_state_dict(self.state, strict=False)
        return self.epoch


@mistake("early_stopping", "memory_handed_out", "restoring hands the kept tensors themselves to the model",
         hint="Training that goes on after a restore then changes what is kept: copy on the way back, too.")
class EarlyStopping(_Stopping):
    def restore(self, model):
        if self.state is None:
            raise ValueError("nothing to restore")
        named = dict(model.named_parameters()) | dict(model.named_buffers())
        for name, tensor in self.state.items():
            named[name].data = tensor
        return self.epoch


@mistake("early_stopping", "new_parameters", "restoring puts new parameters into the model",
         hint="The optimizer still holds the old ones: copy the values into the parameters that are there.")
class EarlyStopping(_Stopping):
    def restore(self, model):
        if self.state is None:
            raise ValueError("nothing to restore")
        model.load_state_dict(copy.deepcopy(self.state), assign=True)
        return self.epoch


@mistake("early_stopping", "restores_at_once", "step itself restores the model when it says stop",
         hint="step only looks; whether and when to restore is up to the caller.")
class EarlyStopping(_Stopping):
    def over(self):
        return False

    def step(self, metric, model):
        super().step(metric, model)
        stop = self.waited >= self.patience
        if stop and self.state is not None:
            model.load_state_dict(self.state)
        return stop


@mistake("early_stopping", "last_instead_of_best", "the last state is kept, not that of the best step",
         hint="Copy the state when the metric has improved, and only then.")
class EarlyStopping(_Stopping):
    def step(self, metric, model):
        stop = super().step(metric, model)
        if self.state is not None:
            self.state, self.epoch = _copied(model), self.count - 1
        return stop


@mistake("early_stopping", "patience_one_more", "one step more than `patience` is waited",
         hint="step says stop at the patience-th step in a row that is no improvement.")
class EarlyStopping(_Stopping):
    def over(self):
        return self.waited > self.patience


@mistake("early_stopping", "patience_one_less", "one step less than `patience` is waited",
         hint="step says stop at the patience-th step in a row that is no improvement; the improvement does not count.")
class EarlyStopping(_Stopping):
    def over(self):
        return self.waited > 0 and self.waited + 1 >= self.patience


@mistake("early_stopping", "not_in_a_row", "an improvement does not reset the count",
         hint="Patience counts steps in a row: an improvement begins anew.")
class EarlyStopping(_Stopping):
    def step(self, metric, model):
        waited = self.waited
        super().step(metric, model)
        self.waited = max(self.waited, waited)
        return self.over()


@mistake("early_stopping", "equal_is_an_improvement", "a metric that equals the mark is an improvement",
         hint="Eq. (10) is strict: standing still is no improvement.")
class EarlyStopping(_Stopping):
    def improves(self, metric):
        if math.isnan(metric) or self.best is None:
            return not math.isnan(metric)
        return metric <= self.best - self.min_delta if self.mode == "min" else metric >= self.best + self.min_delta


@mistake("early_stopping", "min_delta_sign", "min_delta has the wrong sign",
         hint="It makes improving harder, not easier: in mode min the metric must fall below the best one minus delta.")
class EarlyStopping(_Stopping):
    def improves(self, metric):
        if math.isnan(metric) or self.best is None:
            return not math.isnan(metric)
        return metric < self.best + self.min_delta if self.mode == "min" else metric > self.best - self.min_delta


@mistake("early_stopping", "min_delta_ignored", "min_delta is not used",
         hint="An improvement by less than min_delta is none.")
class EarlyStopping(_Stopping):
    def improves(self, metric):
        if math.isnan(metric) or self.best is None:
            return not math.isnan(metric)
        return metric < self.best if self.mode == "min" else metric > self.best


@mistake("early_stopping", "mark_follows_small_steps", "the mark moves with every better metric, however little better",
         hint="E* is the metric of the last improvement: a slow but steady progress should add up to one.")
class EarlyStopping(_Stopping):
    def step(self, metric, model):
        stop = super().step(metric, model)
        if self.best is not None and not math.isnan(metric):
            self.best = min(self.best, metric) if self.mode == "min" else max(self.best, metric)
        return stop


@mistake("early_stopping", "mode_ignored", "small metrics are always good",
         hint="In mode max an accuracy is to grow.")
class EarlyStopping(_Stopping):
    def improves(self, metric):
        return not math.isnan(metric) and (self.best is None or metric < self.best - self.min_delta)


@mistake("early_stopping", "nan_improves", "a NaN counts as an improvement",
         hint="`not metric >= best` is true for NaN: write the comparison such that NaN fails it.")
class EarlyStopping(_Stopping):
    def improves(self, metric):
        if self.best is None or math.isnan(self.best):
            return True
        worse = metric >= self.best - self.min_delta if self.mode == "min" else metric <= self.best + self.min_delta
        return not worse


@mistake("early_stopping", "nan_first", "a NaN at the beginning is the best metric for ever",
         hint="Every comparison with NaN is False: do not let it become the mark to beat.")
class EarlyStopping(_Stopping):
    def improves(self, metric):
        if self.best is None:
            return True
        return metric < self.best - self.min_delta if self.mode == "min" else metric > self.best + self.min_delta


@mistake("early_stopping", "nan_not_counted", "a NaN does not use up patience",
         hint="A step with a NaN is a step without an improvement.")
class EarlyStopping(_Stopping):
    def step(self, metric, model):
        super().step(metric, model)
        if math.isnan(metric):
            self.waited -= 1
        return self.over()


@mistake("early_stopping", "starts_at_infinity", "the mark starts at infinity, and an infinite metric improves nothing",
         hint="The first metric that is a number is an improvement, whatever it is.")
class EarlyStopping(_Stopping):
    def improves(self, metric):
        best = (math.inf if self.mode == "min" else -math.inf) if self.best is None else self.best
        return metric < best - self.min_delta if self.mode == "min" else metric > best + self.min_delta


@mistake("early_stopping", "counts_from_one", "restore returns the number of the step, counted from 1",
         hint="The contract counts steps from 0.")
class EarlyStopping(_Stopping):
    def restore(self, model):
        return super().restore(model) + 1


@mistake("early_stopping", "settings_not_checked", "bad settings are not refused",
         hint="The contract names three things that are a ValueError when the object is made.")
class EarlyStopping(_Stopping):
    def __init__(self, patience, min_delta=0.0, mode="min"):
        super().__init__(max(patience, 1), abs(min_delta), "max" if mode == "max" else "min")


@mistake("early_stopping", "restores_nothing", "restoring before any improvement is not refused",
         hint="There is nothing to restore yet: raise ValueError.")
class EarlyStopping(_Stopping):
    def restore(self, model):
        if self.state is None:
            return -1
        return super().restore(model)


@alternative("early_stopping", "deepcopy")
class EarlyStopping(_Stopping):
    pass


@alternative("early_stopping", "history_of_all_metrics")
class EarlyStopping:
    def __init__(self, patience, min_delta=0.0, mode="min"):
        if patience <= 0 or min_delta < 0 or mode not in {"min", "max"}:
            raise ValueError("bad settings")
        self.patience = patience
        self.min_delta = min_delta
        self.better = (lambda a, b: a < b - min_delta) if mode == "min" else (lambda a, b: a > b + min_delta)
        self.history, self.improvements, self.saved = [], [], None

    def step(self, metric, model):
        t = len(self.history)
        self.history.append(metric)
        if metric == metric and (not self.improvements or self.better(metric, self.history[self.improvements[-1]])):
            self.improvements.append(t)
            self.saved = copy.deepcopy(model)
        return t - (self.improvements[-1] if self.improvements else -1) >= self.patience

    def restore(self, model):
        if self.saved is None:
            raise ValueError("nothing yet")
        with torch.no_grad():
            for mine, theirs in zip(model.state_dict().values(), self.saved.state_dict().values(), strict=True):
                mine.copy_(theirs)
        return self.improvements[-1]


# ----------------------------------------------------------------------------------------------- label_smoothing_ce

def _targets(y, ignore_index):
    """(which rows count, targets that are all valid classes)."""
    counts = y != ignore_index
    return counts, y.masked_fill(~counts, 0)


def _soft(target, classes, eps, dtype):
    return F.one_hot(target, classes).to(dtype) * (1 - eps) + eps / classes


def _terms(logits, target, eps, weight):
    """-w q log p, (N, K)."""
    return -weight * _soft(target, logits.shape[1], eps, logits.dtype) * torch.log_softmax(logits, dim=1)


def _mean(rows, counts, total):
    """The sum of the rows that count over `total`; 0 if none does."""
    return rows.masked_fill(~counts, 0).sum() / total.masked_fill(~counts.any(), 1)


def _total(weight, target, counts):
    return weight[target].masked_fill(~counts, 0).sum()


@mistake("label_smoothing_ce", "over_the_other_classes", "eps is shared by the K - 1 other classes",
         hint="Eq. (11) mixes with the uniform distribution over all K classes, the right one included.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    classes = logits.shape[1]
    right = F.one_hot(target, classes).to(logits.dtype)
    q = (1 - eps) * right + eps / max(classes - 1, 1) * (1 - right)
    rows = -(weight * q * torch.log_softmax(logits, dim=1)).sum(1)
    return _mean(rows, counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "target_not_reduced", "the target keeps the full 1 and eps / K is added",
         hint="The rows of q sum to 1: what the other classes get is taken from the right one.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    q = F.one_hot(target, logits.shape[1]).to(logits.dtype) + eps / logits.shape[1]
    rows = -(weight * q * torch.log_softmax(logits, dim=1)).sum(1)
    return _mean(rows, counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "eps_ignored", "nothing is smoothed",
         hint="eps is an argument: q of Eq. (11) has it.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    return _mean(_terms(logits, target, 0.0, weight).sum(1), counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "mean_over_all_rows", "the sum is divided by the weights of all rows, ignored ones too",
         hint="A batch with much padding would have a small loss: ignored rows leave the denominator as well.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    return _mean(_terms(logits, target, eps, weight).sum(1), counts, weight[target].sum())


@mistake("label_smoothing_ce", "divides_by_the_number", "the sum is divided by the number of rows that count",
         hint="Eq. (12) divides by the sum of the right classes' weights.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    return _mean(_terms(logits, target, eps, weight).sum(1), counts, counts.sum().to(logits.dtype))


@mistake("label_smoothing_ce", "divides_by_smoothed_weights", "the sum is divided by the smoothed targets' weights",
         hint="The denominator of Eq. (12) has the weights of the right classes, without smoothing.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    total = (_soft(target, logits.shape[1], eps, logits.dtype) @ weight).masked_fill(~counts, 0).sum()
    return _mean(_terms(logits, target, eps, weight).sum(1), counts, total)


@mistake("label_smoothing_ce", "weight_of_the_row", "the weight of the right class multiplies the whole row",
         hint="In Eq. (12) every term has the weight of its own class.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    rows = weight[target] * _terms(logits, target, eps, torch.ones_like(weight)).sum(1)
    return _mean(rows, counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "weights_ignored", "all classes have the same weight",
         hint="`weight` is an argument: it stands in both sums of Eq. (12).")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    same = torch.ones_like(weight)
    return _mean(_terms(logits, target, eps, same).sum(1), counts, _total(same, target, counts)) + 0 * weight.sum()


@mistake("label_smoothing_ce", "weights_detached", "the weights are cut out of the graph",
         hint="Gradients reach every float argument, so `weight` gets one, too.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    weight = weight.detach()
    return _mean(_terms(logits, target, eps, weight).sum(1), counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "sum_instead_of_mean", "the rows are added and not divided",
         hint="The denominator of Eq. (12) is missing.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    return _terms(logits, target, eps, weight).sum(1).masked_fill(~counts, 0).sum()


@mistake("label_smoothing_ce", "ignored_rows_count", "ignored rows count as rows of class 0",
         hint="Replacing the target makes it a valid index; the row must still be taken out of both sums.")
def ls_ce(logits, y, eps, ignore_index, weight):
    _, target = _targets(y, ignore_index)
    return _terms(logits, target, eps, weight).sum() / weight[target].sum()


@mistake("label_smoothing_ce", "ignored_rows_smoothed", "ignored rows still get the uniform part of the target",
         hint="An ignored row has no target at all, neither the hard part nor the uniform one.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    log_p = torch.log_softmax(logits, dim=1)
    hard = -(weight[target] * log_p.gather(1, target[:, None])[:, 0]).masked_fill(~counts, 0).sum()
    soft = -(weight * log_p).sum() / logits.shape[1]
    total = _total(weight, target, counts).masked_fill(~counts.any(), 1)
    return ((1 - eps) * hard + eps * soft) / total


@mistake("label_smoothing_ce", "always_minus_100", "only the target -100 is ignored",
         hint="The caller chooses ignore_index; -100 is merely PyTorch's default.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, -100)
    target = target.clamp(0, logits.shape[1] - 1)
    return _mean(_terms(logits, target, eps, weight).sum(1), counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "all_ignored_nan", "nothing is done about a batch in which everything is ignored",
         hint="0 / 0 is NaN, as in PyTorch; the contract asks for 0.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    rows = _terms(logits, target, eps, weight).sum(1).masked_fill(~counts, 0)
    return rows.sum() / _total(weight, target, counts)


@mistake("label_smoothing_ce", "nan_gradient", "the NaN of a wholly ignored batch is replaced in the forward pass only",
         hint="The loss is right, but backward goes through 0 / 0: avoid the NaN, don't repair it.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    rows = _terms(logits, target, eps, weight).sum(1)
    return torch.nan_to_num((rows * counts).sum() / (weight[target] * counts).sum())


@mistake("label_smoothing_ce", "softmax_over_the_batch", "the softmax runs over the rows",
         hint="Each row is a distribution over the K classes: the last axis.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    q = _soft(target, logits.shape[1], eps, logits.dtype)
    rows = -(weight * q * torch.log_softmax(logits, dim=0)).sum(1)
    return _mean(rows, counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "sigmoid", "every class has a sigmoid of its own",
         hint="One label out of K: the classes share one softmax, and shifting a row changes nothing.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    q = _soft(target, logits.shape[1], eps, logits.dtype)
    rows = -(weight * q * F.logsigmoid(logits)).sum(1)
    return _mean(rows, counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "softmax_twice", "the softmax is taken before the log-softmax",
         hint="`log_softmax` wants logits; probabilities have had their softmax already.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    rows = _terms(torch.softmax(logits, dim=1), target, eps, weight).sum(1)
    return _mean(rows, counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "log_of_softmax", "the logarithm of the softmax is taken",
         hint="A probability of 0 has the logarithm -∞: use log_softmax or logsumexp, which never form it.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    q = _soft(target, logits.shape[1], eps, logits.dtype)
    rows = -(weight * q * torch.log(torch.softmax(logits, dim=1))).sum(1)
    return _mean(rows, counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "single_precision_targets", "the smoothed targets are float32",
         hint="A bool or integer one-hot times a Python float is float32: convert it to the dtype of the logits first.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, target = _targets(y, ignore_index)
    q = (1 - eps) * F.one_hot(target, logits.shape[1]) + eps / logits.shape[1]
    rows = -(weight * q * torch.log_softmax(logits, dim=1)).sum(1)
    return _mean(rows, counts, _total(weight, target, counts))


@mistake("label_smoothing_ce", "targets_in_place", "ignored targets are replaced in the caller's tensor",
         hint="`y[~counts] = 0` writes to the input: make a new tensor.")
def ls_ce(logits, y, eps, ignore_index, weight):
    counts, _ = _targets(y, ignore_index)
    y[~counts] = 0
    return _mean(_terms(logits, y, eps, weight).sum(1), counts, _total(weight, y, counts))


@alternative("label_smoothing_ce", "hard_and_uniform_part")
def ls_ce(logits, y, eps, ignore_index, weight):
    keep = y.ne(ignore_index)
    if not keep.any():
        return 0 * (logits.sum() + weight.sum())
    logits, y = logits[keep], y[keep]
    log_p = F.log_softmax(logits, dim=-1)
    hard = -weight[y] * log_p.gather(1, y[:, None]).squeeze(1)
    uniform = -(log_p @ weight) / logits.shape[1]
    return ((1 - eps) * hard + eps * uniform).sum() / weight[y].sum()


@alternative("label_smoothing_ce", "row_by_row")
def ls_ce(logits, y, eps, ignore_index, weight):
    total, norm = 0 * logits.sum() + 0 * weight.sum(), 0.0
    for row, label in zip(logits, y.tolist(), strict=True):
        if label == ignore_index:
            continue
        log_p = row - torch.logsumexp(row, dim=0)
        q = torch.full_like(row, eps / len(row))
        q[label] += 1 - eps
        total = total - (weight * q * log_p).sum()
        norm = norm + weight[label]
    return total / norm if not isinstance(norm, float) else total


@alternative("label_smoothing_ce", "library_call")
def ls_ce(logits, y, eps, ignore_index, weight):
    if bool((y == ignore_index).all()):
        return (logits * 0).sum() + (weight * 0).sum()
    keep = (y != ignore_index).nonzero().flatten()
    log_p = torch.log_softmax(logits[keep], dim=1)
    hard = F.nll_loss(log_p, y[keep], weight, reduction="none") if not weight.requires_grad else (
        -log_p[torch.arange(len(keep)), y[keep]] * weight[y[keep]])
    return ((1 - eps) * hard - eps * (log_p * weight).mean(1)).sum() / weight[y[keep]].sum()
