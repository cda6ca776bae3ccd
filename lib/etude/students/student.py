"""The notebook's own functions as the `student` of a check; what they raise is told apart from what checks raise."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FunctionType
from typing import Any

import torch

from etude.failures import MissingName, StudentError, StudentStopped
from etude.students.watch import Watch

MAX_MESSAGE = 500
OnCall = Callable[[Callable, tuple[Any, ...], dict[str, Any]], None]
"""Told of every call before it is made: the function and its arguments."""


class NamespaceStudent:
    """Attributes are the names of a namespace; functions and methods are watched, and their errors wrapped."""

    def __init__(self, namespace: Mapping[str, Any], watch: Watch, on_call: OnCall = lambda *call: None):
        self._namespace, self._watch, self._on_call = namespace, watch, on_call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._namespace:
            raise MissingName("MissingName", f"no cell that was run defines {name}")
        value = self._namespace[name]
        if isinstance(value, type):
            return self._class(value)
        return self._guarded(value, name) if callable(value) else value

    def _class(self, cls: type) -> Callable[..., Any]:
        """The class as checks use it: to make instances, whose public methods are guarded."""
        def make(*args: Any, **kwargs: Any) -> Any:
            instance = self._guarded(cls, cls.__name__)(*args, **kwargs)
            for name in _methods(cls):
                with suppress(Exception):  # an instance without room for attributes is used as it is
                    guarded = self._guarded(getattr(instance, name), f"{cls.__name__}.{name}")
                    object.__setattr__(instance, name, guarded)
            return instance
        make.__name__ = make.__qualname__ = cls.__name__
        return make

    def _guarded(self, function: Callable, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._on_call(function, args, kwargs)
            with self._watch.call(f"`{name}`"):
                try:
                    return function(*args, **kwargs)
                except (StudentError, StudentStopped):
                    raise
                except Exception as error:
                    raise StudentError(type(error).__name__, _message(error)) from error
                except (SystemExit, GeneratorExit) as error:
                    raise StudentError(type(error).__name__, _message(error)) from error
        call.__name__ = call.__qualname__ = name
        return call


def _methods(cls: type) -> list[str]:
    """The methods that the student wrote: not those of PyTorch, such as `parameters` or `train`."""
    own = [base for base in cls.__mro__ if base.__module__ == cls.__module__]
    return [name for base in own for name, value in vars(base).items()
            if isinstance(value, FunctionType) and not name.startswith("_")]


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MAX_MESSAGE]
    except Exception:
        return "(the error's message could not be read)"


class RandomState:
    """A context manager: checks draw from a fixed state, and the notebook goes on with its own."""

    def __enter__(self) -> None:
        self._state = torch.get_rng_state()
        self._threads = torch.get_num_threads()
        torch.manual_seed(0)
        torch.set_num_threads(1)  # examples are tiny: threads cost more than they save, and change rounding

    def __exit__(self, *exc: object) -> None:
        torch.set_rng_state(self._state)
        torch.set_num_threads(self._threads)
