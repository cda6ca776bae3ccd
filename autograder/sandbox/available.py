"""The modules that student code may import in grading.

A sealed worker cannot open a file, so what is not loaded before the fork cannot be loaded at all. The zygote
loads `AVAILABLE`, what a course asks for beyond it (`preload`), and what those modules themselves load late.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

AVAILABLE: tuple[str, ...] = (
    # the standard library
    "__future__", "abc", "array", "bisect", "cmath", "collections", "collections.abc", "contextlib",
    "copy", "dataclasses", "decimal", "enum", "fractions", "functools", "gc", "heapq", "inspect", "io",
    "itertools", "json", "logging", "math", "numbers", "operator", "pprint", "random", "re", "statistics",
    "string", "struct", "sys", "textwrap", "time", "traceback", "types", "typing", "typing_extensions",
    "unicodedata", "warnings", "weakref",
    # numerical work
    "numpy", "numpy.fft", "numpy.linalg", "numpy.random", "numpy.typing",
    "torch", "torch.autograd", "torch.autograd.functional", "torch.autograd.forward_ad",
    "torch.distributions", "torch.fft", "torch.func", "torch.linalg", "torch.nn", "torch.nn.functional",
    "torch.nn.init", "torch.nn.utils", "torch.nn.utils.parametrizations", "torch.nn.utils.rnn",
    "torch.special", "torch.utils.checkpoint", "torch.utils.data", "einops", "einops.layers.torch",
    "etude", "etude.students.notebook",
)

_COMPILER = ("torch._dynamo", "torch._inductor")
_COMPILER_HINT = (
    "this course does not preload PyTorch's compiler, which torch.compile needs, and, although they compile "
    "nothing, optimizers, torch.func and torch.utils.checkpoint"
)


class Refuse:
    """The only finder of modules in a worker: says which module is missing and which ones there are.

    It is there to help. What keeps a worker from loading more is that it cannot open a file.
    """

    def __init__(self, available: Sequence[str]):
        self._available = [name for name in available if not name.startswith("_")]

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.startswith(_COMPILER):
            raise ModuleNotFoundError(f"{name!r} is not available in grading: {_COMPILER_HINT}", name=name)
        raise ModuleNotFoundError(f"{name!r} is not available in grading; {self._instead(name)}", name=name)

    def _instead(self, name: str) -> str:
        """What there is of the same package, or all packages; reports cut an error's message at 500 characters."""
        package = name.partition(".")[0]
        parts = [other for other in self._available if other.partition(".")[0] == package]
        if parts:
            return f"of {package} there are {', '.join(sorted(parts))}"
        packages = {other.partition(".")[0] for other in self._available}
        # What a notebook is about comes first: it must not be what is cut off.
        ordered = sorted(packages, key=lambda other: (other in sys.stdlib_module_names, other))
        return f"available: {' '.join(ordered)}"
