"""A student's `nn.Module`, its parameters and buffers local, its forward in the worker."""
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from autograder.remote.student import Link, RemoteFunction
from etude.failures import StudentStopped
from etude.wire import Handle

MAX_PATH = 500
"""Characters of a parameter's name: every dot in it makes a module here."""


class RemoteModule(nn.Module):
    """Parameters are local leaves sent with each call, as `torch.func.functional_call` does, so `backward()`,
    `state_dict()`, `load_state_dict()`, `train()`, `eval()`, `named_parameters()` and optimizers work on them.
    Buffers are sent too, and updated from each reply.
    """

    def __init__(self, link: Link, handle: int, name: str, made: dict[str, Any]):
        super().__init__()
        self._link, self._handle, self._class_name = link, handle, name
        frozen = set(_strings(made.get("frozen")))
        persistent = set(_strings(made.get("persistent")))
        # Written to the dicts directly: `register_parameter` asks `hasattr`, and here every name is a remote method.
        parameters = {path: _parameter(value, path not in frozen)
                      for path, value in _tensors(made.get("params")).items()}
        self._tied = dict(_ties(made.get("tied"), parameters))
        parameters |= {path: parameters[first] for path, first in self._tied.items()}
        for path, parameter in parameters.items():
            self._owner(path)._parameters[_leaf(path)] = parameter
        for path, value in _tensors(made.get("buffers")).items():
            owner = self._owner(path)
            owner._buffers[_leaf(path)] = value
            if path not in persistent:
                owner._non_persistent_buffers_set.add(_leaf(path))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._call("forward", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_"):
                raise
            return lambda *args, **kwargs: self._call(name, args, kwargs)

    def __observe__(self, args: tuple, kwargs: dict, audit: bool) -> Any:
        return self._function("forward").__observe__(args, kwargs, audit)

    def _call(self, method: str, args: tuple, kwargs: dict) -> Any:
        reply = self._function(method)._call(args, kwargs)
        current = dict(self.named_buffers())
        for path, value in _tensors(reply.get("buffers")).items():
            if path in current:
                self._owner(path)._buffers[_leaf(path)] = value
        return reply["result"]

    def _function(self, method: str) -> RemoteFunction:
        return RemoteFunction(self._link, {"handle": Handle(self._handle), "method": method},
                              f"{self._class_name}.{method}", state=self._state)

    def _state(self) -> dict[str, Any]:
        # By name: a call looks the same whatever the order in which the parameters were registered. What the module
        # itself has tied is sent once; a caller may have put one tensor in two places.
        parameters = sorted(self.named_parameters(remove_duplicate=False))
        return {"params": {path: value for path, value in parameters if path not in self._tied},
                "buffers": {name: b.detach() for name, b in self.named_buffers(remove_duplicate=False)},
                "training": self.training}

    def _owner(self, path: str) -> nn.Module:
        """The submodule that holds `path`, made on the way: the names of `state_dict` are part of the contract."""
        module: nn.Module = self
        for part in path.split(".")[:-1]:
            if part not in module._modules:
                module._modules[part] = nn.Module()
            module = module._modules[part]
        return module

    def __del__(self) -> None:
        link, handle = self.__dict__.get("_link"), self.__dict__.get("_handle")
        if link is not None:
            link.forget(handle=handle)


def _leaf(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _tensors(value: Any) -> dict[str, torch.Tensor]:
    if not isinstance(value, dict) or not all(isinstance(item, torch.Tensor) for item in value.values()):
        raise StudentStopped("the worker sent a module's state in the wrong form")
    if any(len(path) > MAX_PATH for path in value):
        raise StudentStopped("the worker sent a module's state with a name beyond all measure")
    return value


def _parameter(value: torch.Tensor, trained: bool) -> nn.Parameter:
    if trained and not (value.is_floating_point() or value.is_complex()):
        raise StudentStopped(f"the worker sent a parameter of {value.dtype} that is to be trained")
    return nn.Parameter(value.detach(), trained)


def _ties(value: Any, parameters: dict[str, nn.Parameter]) -> list[tuple[str, str]]:
    """(name, first name) of each parameter that a module has under several names."""
    pairs = list(value.items()) if isinstance(value, dict) else []
    if not all(isinstance(first, str) and first in parameters and len(path) <= MAX_PATH for path, first in pairs):
        raise StudentStopped("the worker sent a module's state in the wrong form")
    return pairs


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
