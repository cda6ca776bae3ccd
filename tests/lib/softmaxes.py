"""One function written in several right ways, and its mutants, each wrong in one way that its name tells."""
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def softmax(x: Tensor, w: Tensor, power: int) -> Tensor:
    """What the others are measured against: (B, T), (T,) -> (B, T)."""
    return torch.softmax(x * w, dim=-1) ** power


def by_hand(x: Tensor, w: Tensor, power: int) -> Tensor:
    scores = x * w
    weights = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    return (weights / weights.sum(-1, keepdim=True)).pow(power)


def by_logarithms(x: Tensor, w: Tensor, power: int) -> Tensor:
    return (power * torch.log_softmax(x * w, dim=-1)).exp()


def row_by_row(x: Tensor, w: Tensor, power: int) -> Tensor:
    return torch.stack([softmax(row, w, power) for row in x])


class WithOwnBackward(torch.autograd.Function):
    """The softmax with a backward pass by hand; `factor` 1 is right."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, factor: float) -> Tensor:
        p = torch.softmax(z, dim=-1)
        ctx.save_for_backward(p)
        ctx.factor = factor
        return p

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return ctx.factor * p * (g - (p * g).sum(-1, keepdim=True)), None


def own_backward(x: Tensor, w: Tensor, power: int, factor: float = 1.0) -> Tensor:
    return WithOwnBackward.apply(x * w, factor) ** power


RIGHT = [softmax, by_hand, by_logarithms, row_by_row, own_backward]


# What is wrong, by the name of the mistake. Values are right where the name speaks of gradients.

def unshifted(x: Tensor, w: Tensor, power: int) -> Tensor:
    weights = (x * w).exp()
    return (weights / weights.sum(-1, keepdim=True)) ** power


def detached(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x, w.detach(), power)


def no_graph(x: Tensor, w: Tensor, power: int) -> Tensor:
    with torch.no_grad():
        return softmax(x, w, power)


def wrong_backward(x: Tensor, w: Tensor, power: int) -> Tensor:
    return own_backward(x, w, power, factor=1.1)


def over_the_batch(x: Tensor, w: Tensor, power: int) -> Tensor:
    return torch.softmax(x * w, dim=0) ** power


def power_ignored(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x, w, 1)


def slightly_off(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x, w, power) * (1 + 1e-6)


def single_inside(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x.float(), w.float(), power).to(x.dtype)


def one_dimension_more(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x, w, power)[None]


def double_always(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x, w, power).double()


def with_nan(x: Tensor, w: Tensor, power: int) -> Tensor:
    result = softmax(x, w, power).clone()
    result[0, 0] = math.nan
    return result


def in_place(x: Tensor, w: Tensor, power: int) -> Tensor:
    result = softmax(x, w, power)
    w.data.mul_(1.001)
    return result


def counting(x: Tensor, w: Tensor, power: int, calls: list[int] = []) -> Tensor:  # noqa: B006
    calls.append(1)
    return softmax(x, w, power) * (1 + 1e-15 * len(calls))


def sometimes_a_pair(x: Tensor, w: Tensor, power: int, calls: list[int] = []) -> Any:  # noqa: B006
    calls.append(1)
    return softmax(x, w, power) if len(calls) % 2 else (softmax(x, w, power), w)


def random(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x, w, power) + 1e-3 * torch.rand(())


def mean_of_the_batch_taken_off(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x - x.mean(), w, power) + x.mean(0)


def as_if_contiguous(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x.as_strided(x.shape, (x.shape[1], 1)), w, power)


def refuses_strides(x: Tensor, w: Tensor, power: int) -> Tensor:
    return softmax(x.view(-1).view(x.shape), w, power)
