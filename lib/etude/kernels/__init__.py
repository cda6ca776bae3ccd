"""Triton kernels as exercises. Import it before Triton: `from etude.kernels import tl, triton`.

Without a GPU it switches Triton's interpreter on. Without Triton, `triton` and `tl` are placeholders, so that a
notebook still runs: a kernel can be written, and `check` says in one line what it takes to run one.
"""
from __future__ import annotations

import importlib
import os
import re
from functools import lru_cache
from importlib import metadata
from typing import Any

INTERPRET = "TRITON_INTERPRET"
KNOWN = (3, 6), (3, 9)
"""The versions whose interpreter this package knows, the first and the last."""
INSTALL = "pip install 'etude[kernels]', on Linux with an x86_64 processor"
LABEL = "CPU-checked (interpreter + bounds + race + sm_90 build)"


class NoTriton(ImportError):
    """Triton is missing, of another version, or was imported before this package. One line, for the user."""


class _Placeholder:
    """What stands for Triton where there is none: takes every use that a notebook's cells make of it, and does nothing.

    Functions that are decorated with it say what is missing when they are launched.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        def launch(*args: Any, **kwargs: Any) -> None:
            raise NoTriton(why_not())
        return launch


@lru_cache(maxsize=1)
def version() -> tuple[int, int] | None:
    """(major, minor) of the Triton that is installed, None without one."""
    try:
        found = re.match(r"(\d+)\.(\d+)", metadata.version("triton"))
    except metadata.PackageNotFoundError:
        return None
    return (int(found[1]), int(found[2])) if found else None


def why_not() -> str:
    """Why kernels cannot be run here, in one line; empty where they can."""
    found = version()
    if found is None:
        return (f"Triton is not installed, so no kernel can be run or built here: {INSTALL}. Grading runs it where "
                "Triton is installed.")
    if not KNOWN[0] <= found <= KNOWN[1]:
        return (f"Triton {'.'.join(map(str, found))} is installed; the checks know {KNOWN[0][0]}.{KNOWN[0][1]} to "
                f"{KNOWN[1][0]}.{KNOWN[1][1]}: {INSTALL}.")
    return ""


def has_gpu() -> bool:
    """Whether PyTorch finds a CUDA device."""
    import torch
    return torch.cuda.is_available()


def interpreting() -> bool:
    """Whether kernels that are decorated now will be interpreted."""
    return os.environ.get(INTERPRET, "").lower() in ("1", "true", "on")


def require() -> None:
    """Raise `NoTriton`, in one line, unless kernels can be run here."""
    if reason := why_not():
        raise NoTriton(reason)


def interpret() -> None:
    """Switch the interpreter on: for whoever grades, GPU or not. Raises `NoTriton` if Triton came first without it."""
    import sys

    require()
    if not interpreting() and "triton.language" in sys.modules:
        raise NoTriton(f"Triton was imported before its interpreter was switched on: set {INTERPRET}=1, or import "
                       "etude.kernels first.")
    os.environ[INTERPRET] = "1"


if why_not():
    triton: Any = _Placeholder()
    tl: Any = _Placeholder()


def __getattr__(name: str) -> Any:
    """`triton` and `tl`, imported when they are asked for: reading a workload needs neither."""
    if name not in ("triton", "tl"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if INTERPRET not in os.environ and not has_gpu():
        os.environ[INTERPRET] = "1"
    module = importlib.import_module("triton" if name == "triton" else "triton.language")
    if interpreting():
        from etude.kernels.build import prepare
        prepare()  # before the first launch, which leaves Triton's library changed
    globals()[name] = module
    return module
