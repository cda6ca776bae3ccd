"""Call a function and see what it did besides returning: to its inputs, and how large its tensors grew."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Observation:
    """What a call returned, its tensor arguments afterwards, and the shape of the largest tensor it created."""

    result: Any
    inputs_after: list[torch.Tensor]
    largest: tuple[int, ...]


def observe(function: Callable, *args: Any, audit: bool = False, **kwargs: Any) -> Observation:
    """`function(*args, **kwargs)` under observation; a remote function is observed in its worker.

    `largest` is found only with `audit`, which looks at every operation and makes the call several times slower.
    """
    remote = getattr(function, "__observe__", None)
    if remote is not None:
        return remote(args, kwargs, audit)
    watch = LargestTensor()
    with watch if audit else contextlib.nullcontext():
        result = function(*args, **kwargs)
    return Observation(result, list(tensors_in((args, kwargs))), watch.largest)


def tensors_in(tree: Any) -> Iterator[torch.Tensor]:
    """The tensors of nested lists, tuples and dicts, in the order in which the wire writes them."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from tensors_in(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from tensors_in(item)


class LargestTensor(TorchDispatchMode):
    """Remembers the shape of the largest tensor that memory was taken for. Evidence: code that wants to can hide."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: tuple[int, ...] = ()
        self._numel = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True, the default, imports the compiler at the first call: that takes a second, and fails when sealed.
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten.expand.default and not func.is_view:
            for tensor in tensors_in(out):
                if tensor.numel() > self._numel:
                    self._numel, self.largest = tensor.numel(), tuple(tensor.shape)
        return out
