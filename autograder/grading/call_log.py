"""Note which of PyTorch's functions a student's code calls, however it names them.

This module's text is sent to the worker, after the student's cells, and runs there; code that wants to can blind it.
"""
from __future__ import annotations

import sys

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_MOST = 2000
_etude_seen: dict = {}
_etude_modes: list = []


def _etude_note(name: str) -> None:
    """Remember the name with the innermost line of the student's that led to it; the grader's own calls have none."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<etude cell") and len(_etude_seen) < _MOST:
            _etude_seen[name, file[len("<etude "):-1], frame.f_lineno] = None
            return
        frame = frame.f_back


class _EtudeFunctions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        _etude_note(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


class _EtudeOperations(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True, the default, imports the compiler, which a sealed worker cannot

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        _etude_note(getattr(func, "_overloadpacket", func).__name__)
        return func(*args, **(kwargs or {}))


def etude_log_start() -> None:
    """Note calls from here on."""
    for mode in (_EtudeFunctions(), _EtudeOperations()):
        mode.__enter__()
        _etude_modes.append(mode)


def etude_log_stop() -> list:
    """[name, label, line] of all that was called."""
    while _etude_modes:
        _etude_modes.pop().__exit__(None, None, None)
    return [list(key) for key in _etude_seen]
