"""A kernel's PTX for an H100 or H200 (sm_90), made without a GPU, without a file and without another process.

Triton's own compiler, stopped before it would call `ptxas`: a sealed worker can do that much. Triton's library was
imported for the interpreter, though, and the interpreter leaves it patched; so what the library looked like before is
kept (`prepare`), with compiled functions in the place of interpreted ones, and put back while a kernel is compiled.
"""
from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from etude.kernels.watch import Launch

CAPABILITY = 90
PTX_VERSION = 86
"""Old enough for every ptxas that comes with Triton 3.6 to 3.9; given, so that none is asked for its version."""
_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")
_DIVISOR = 16

_views: list[tuple[Any, dict[str, Any]]] = []


def prepare() -> None:
    """Remember Triton's library as it is before the first launch; import what compiling imports. Once a process."""
    if _views:
        return
    atexit.register(_release)
    for late in ("triton.backends.nvidia.compiler", "triton.compiler.code_generator", "triton.compiler.compiler"):
        importlib.import_module(late)  # which Triton imports at first use, when a sealed worker no longer can
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction

    holders = [module for name, module in list(sys.modules.items())
               if module and (name == "triton" or name.startswith(("triton.language", "triton.experimental")))]
    holders += [value for value in vars(tl.core).values()
                if isinstance(value, type) and value.__module__ == tl.core.__name__]
    compiled = {id(value): _compiled(value) for holder in holders for value in list(vars(holder).values())
                if isinstance(value, InterpretedFunction)}

    def view(holder: Any, name: str, value: Any) -> Any:
        if isinstance(holder, type) and isinstance(value, FunctionType):  # `x.sum()`: a wrapper around `tl.sum`
            return compiled.get(id(vars(tl.standard).get(name)), value)
        return compiled.get(id(value), value)
    _views.extend((holder, {name: view(holder, name, value) for name, value in vars(holder).items()})
                  for holder in holders)


def _release() -> None:
    """At the end of a process that froze its memory: else Triton's bindings print pages about what is still there."""
    _views.clear()
    gc.unfreeze()
    gc.collect()


def ptx_of(launch: Launch) -> dict[str, Any]:
    """The PTX of a launch that the watch saw, or why there is none, as a dict that travels."""
    from triton.runtime.interpreter import InterpretedFunction

    source = next((fn for fn, rewritten in InterpretedFunction.rewritten_fn.items() if rewritten is launch.function),
                  launch.function)
    known = {"kernel": source.__name__, "warps": int(launch.options.get("num_warps", 4))}
    prepare()
    try:
        with _compiling(source.__globals__):
            return {**known, "ptx": _ptx(source, launch), "error": ""}
    except Exception as error:
        return {**known, "ptx": "", "error": f"{type(error).__name__}: {str(error)[:1500]}"}


def _ptx(source: FunctionType, launch: Launch) -> str:
    from triton._C.libtriton import ir
    from triton.compiler.compiler import ASTSource, GPUTarget, make_backend
    from triton.runtime.jit import JITFunction

    kernel = JITFunction(source)
    signature, constants, attributes = _signature(kernel, launch.arguments)
    code = ASTSource(kernel, signature, constants, attributes)
    target = GPUTarget("cuda", CAPABILITY, 32)
    backend = make_backend(target)
    wanted = {name: launch.options[name] for name in _OPTIONS if name in launch.options}
    library = _library()
    options = backend.parse_options({**wanted, "ptx_version": PTX_VERSION, "extern_libs": {"libdevice": library},
                                     **code.parse_options()})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    stages: dict[str, Any] = {}
    backend.add_stages(stages, options, code.language)
    metadata = {"target": target, **options.__dict__}
    module = code.make_ir(target, options, backend.get_codegen_implementation(options), backend.get_module_map(),
                          context)
    for name in ("ttir", "ttgir", "llir", "ptx"):
        module = stages[name](module, metadata)
    return str(module)


def link_library() -> str:
    """The path of the library that kernels are linked with: `exp`, `sqrt` and their like."""
    import triton
    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "lib" / "libdevice.10.bc")


def _library() -> str:
    """The library, or `-`, for LLVM the standard input: what a sealed worker has instead of files."""
    path = link_library()
    try:
        os.stat(path)
    except OSError:
        os.lseek(0, 0, os.SEEK_SET)
        return "-"
    return path


def _signature(kernel: Any, arguments: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any], dict[Any, Any]]:
    """Types, constants and alignments as Triton's launcher would find them for these arguments."""
    from triton.runtime.jit import mangle_type

    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or value is None or type(value) is int and value == 1:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        signature[parameter.name] = mangle_type(value)
        if hasattr(value, "data_ptr") or type(value) is int and value % _DIVISOR == 0:
            attributes[(index,)] = [["tt.divisibility", _DIVISOR]]
    return signature, constants, attributes


def _compiled(function: Any) -> Any:
    """The compiled function of an interpreted one."""
    from triton.runtime.jit import JITFunction
    return JITFunction(function.fn)


@contextlib.contextmanager
def _compiling(namespace: dict[str, Any]) -> Iterator[None]:
    """Triton's library, and the functions of `namespace`, as the compiler wants them."""
    from triton import knobs
    from triton.runtime.interpreter import InterpretedFunction

    undo: list[tuple[Any, str, Any]] = []
    kernels = {name: value for name, value in namespace.items() if isinstance(value, InterpretedFunction)}
    interpreted = knobs.runtime.interpret
    knobs.runtime.interpret = False
    try:
        for holder, view in _views:
            now = dict(vars(holder))
            for name, value in view.items():
                if now.get(name) is not value:
                    undo.append((holder, name, now.get(name)))
                    setattr(holder, name, value)
        namespace.update({name: _compiled(value) for name, value in kernels.items()})
        yield
    finally:
        knobs.runtime.interpret = interpreted
        namespace.update(kernels)
        for holder, name, value in reversed(undo):
            setattr(holder, name, value)
