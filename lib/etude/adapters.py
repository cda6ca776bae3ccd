"""Modules and pairs of functions as one plain function, so that every property of `etude.properties` applies to them.

A check that compares values and gradients needs a function of tensors. A module has its weights inside; a backward
pass written by hand is a second function that needs what the first one kept. Here both get the form `f(*tensors)`.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from etude.compare import assert_shape_dtype, describe
from etude.failures import CheckFailure
from etude.properties import assert_state_dict

Function = Callable[..., Any]


def function_of(module_class: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> Function:
    """The modules `module_class(*args, **kwargs)` as a function of their weights: `f(state, *inputs)`.

    Each call makes a new module and runs it with the tensors of `state`, a dict like its `state_dict`, in the place of
    its own; so gradients reach them. Fails if the module's `state_dict` has other keys or shapes than `state`.
    """
    def function(state: dict[str, Tensor], *inputs: Any) -> Any:
        module = module_class(*args, **kwargs)
        assert_state_dict(module, {name: value.shape for name, value in state.items()})
        return torch.func.functional_call(module, state, inputs)
    return _called(function, module_class)


def opaque(function: Function, place: int) -> Function:
    """`function`, of whose result the part at `place` is the student's own affair.

    A check may hand that part back to the student's functions, and nothing else: it may be anything, it need not
    travel (a remote one stays in its worker), and no gradient flows through it.
    """
    remote = getattr(function, "__opaque__", None)
    return remote(place) if remote is not None else function


def by_hand(forward: Function, backward: Function, *settings: Any) -> Function:
    """A function and its backward pass, written by hand, as one function whose gradients are the latter's.

    `forward(*inputs)` returns (output, cache), and `backward(cotangent, cache, *settings)` one gradient for each
    input; what the cache is only these two know.
    """
    forward = opaque(forward, 1)

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            plain = [tensor.detach() for tensor in inputs]
            result = forward(*plain)
            if not isinstance(result, (tuple, list)) or len(result) != 2 or not isinstance(result[0], Tensor):
                raise CheckFailure(f"`{_name(forward)}` returns an output and a cache; got {describe(result)}.")
            ctx.inputs, ctx.cache = plain, result[1]
            return result[0].detach()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, ...]:
            found = backward(cotangent, ctx.cache, *settings)
            if not isinstance(found, (tuple, list)) or len(found) != len(ctx.inputs):
                raise CheckFailure(f"`{_name(backward)}` returns one gradient for each of {len(ctx.inputs)} inputs; "
                                   f"got {describe(found)}.")
            for index, (grad, tensor) in enumerate(zip(found, ctx.inputs, strict=True)):
                assert_shape_dtype(grad, tuple(tensor.shape), tensor.dtype, f"`{_name(backward)}` output[{index}]")
            return tuple(found)

    return _called(lambda *inputs: ByHand.apply(*inputs), backward)


def _name(function: Function) -> str:
    return getattr(function, "__name__", "function")


def _called(function: Any, like: Function) -> Function:
    """The function under the name of what it was made of: by it, a case remembers what the reference gave."""
    function.__name__ = function.__qualname__ = _name(like)
    return function
