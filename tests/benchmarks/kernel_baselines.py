"""Programs to time reference kernels against: plain PyTorch, `torch.compile` of it, PyTorch's own function, a copy.

Each is a list of cells like a student's, and defines the workload's function: destinations first, nothing returned.
"""
from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder.speed.timing import Program
from etude.kernels.workload import Workload


@dataclass(frozen=True)
class Baseline:
    """How plain PyTorch computes what a kernel does."""

    functions: tuple[str, ...]
    """Of the exercise's check file, in whose terms `result` is written."""
    result: str
    """An expression for all outputs, of `inputs` and `settings`."""
    library: str = ""
    """An expression for the first outputs by a function that PyTorch has for it; empty where there is none."""
    library_outputs: int = 1


BASELINES = {
    "swiglu_triton": Baseline(("swiglu",), "(swiglu(*inputs),)", "(F.silu(inputs[0]) * inputs[1],)"),
    "swiglu_triton_backward": Baseline(("swiglu", "swiglu_gradients"), "swiglu_gradients(*inputs)"),
    "rms_norm_triton": Baseline(("rms_norm",), "(rms_norm(*inputs, **settings),)",
                                "(F.rms_norm(inputs[0], inputs[1].shape, inputs[1], settings['eps']),)"),
    "rms_norm_triton_backward": Baseline(("rms_norm", "rms_norm_gradients"),
                                         "rms_norm_gradients(*inputs, **settings)"),
    "flash_attention_fwd": Baseline(("attention",), "attention(*inputs, **settings)",
                                    "(F.scaled_dot_product_attention(*inputs, is_causal=settings['causal']),)"),
    # All heads' scores at once are 69 GB in bfloat16, and gamma rounded to it is 1.
    "linear_attention_chunked": Baseline(("retention", "_one_head_at_a_time"), "_one_head_at_a_time(*inputs)"),
    "linear_recurrence_triton": Baseline(("recurrence",), "(recurrence(*inputs),)"),
    "linear_recurrence_triton_backward": Baseline(("recurrence_gradients",), "recurrence_gradients(*inputs)"),
    "csr_spmm": Baseline(("product",), "(product(*inputs),)",
                         "(torch.sparse_csr_tensor(*inputs[:3], (len(inputs[3]),) * 2, check_invariants=False) "
                         "@ inputs[3],)"),
    "selective_scan_fwd": Baseline(("scan",), "(scan(*inputs),)"),
    "fused_ls_cross_entropy": Baseline(("ls_cross_entropy",), "ls_cross_entropy(*inputs, **settings)"),
}
"""By the name of the function that a workload calls."""

_HEAD = "import torch\nimport torch.nn.functional as F\n"
_INTO = """
def _into(*tensors, **settings):
    inputs = tensors[{outputs}:]
    for destination, result in zip(tensors, {result}):
        destination.copy_(result.reshape(destination.shape))
"""
_PLAIN = """
def {call}(*tensors, **settings):
    _into(*tensors, **settings)
"""
# One thread: the harness ends every process that a program has left running when a call is over.
_COMPILED = """
import torch._inductor.config
torch._inductor.config.compile_threads = 1
{call} = torch.compile(_into, dynamic=False)
"""
_COPY = """
_kept = []
def {call}(*tensors, **settings):
    if not _kept:
        _kept.extend(torch.zeros_like(tensor) for tensor in tensors[:{outputs}])
    for destination, source in zip(tensors, _kept):
        destination.copy_(source)
"""
_FIRST = """
import torch
_kept = []
def {name}(*tensors, **settings):
    if not _kept:
        _kept.extend(torch.empty(shape, dtype=dtype, device=tensors[0].device) for shape, dtype in {others})
    {call}(*tensors[:{outputs}], *_kept, *tensors[{outputs}:], **settings)
"""
_PADDED = """
import torch
_kernel, _padding = {call}, []
def {call}(*tensors, **settings):
    _kernel(*tensors, **settings)
    if not _padding:
        _padding.extend(torch.zeros({size}, dtype=torch.uint8, device=tensors[0].device) for _ in range(2))
    for _ in range({repeats}):
        _padding[0].copy_(_padding[1])
"""


def eager(baseline: Baseline, workload: Workload, checks: Path) -> Program:
    """Plain PyTorch, operation by operation; its results are then copied to their destinations."""
    return _cell("eager", _computing(baseline.result, workload, baseline.functions, checks)
                 + _PLAIN.format(call=workload.call))


def compiled(baseline: Baseline, workload: Workload, checks: Path) -> Program:
    """`torch.compile` of the same, which may write to the destinations at once."""
    return _cell("compiled", _computing(baseline.result, workload, baseline.functions, checks)
                 + _COMPILED.format(call=workload.call))


def library(baseline: Baseline, workload: Workload) -> Program:
    """PyTorch's own function, for a workload with the outputs that it has."""
    return _cell("library", _computing(baseline.library, workload) + _PLAIN.format(call=workload.call))


def copying(workload: Workload) -> Program:
    """Writes zeros from other memory to every destination: what plain PyTorch pays for having destinations."""
    return _cell("copy", _HEAD + _COPY.format(call=workload.call, outputs=len(workload.outputs)))


def with_first_outputs(reference: Program, workload: Workload, outputs: int, name: str) -> Program:
    """The reference as a function `name` of its first outputs only; the others are written to memory of its own."""
    others = ", ".join(f"({tuple(shape)}, {dtype})" for shape, dtype in workload.outputs[outputs:])
    source = _FIRST.format(name=name, call=workload.call, others=f"[{others}]", outputs=outputs)
    return [*reference, *_cell("reference", source)]


def padded(reference: Program, workload: Workload, size: int, repeats: int) -> Program:
    """The reference, and after it so many copies between two buffers of `size` bytes."""
    return [*reference, *_cell("padded", _PADDED.format(call=workload.call, size=size, repeats=repeats))]


def _computing(result: str, workload: Workload, functions: Collection[str] = (), checks: Path | None = None) -> str:
    taken = functions_of(checks, functions) if functions else ""
    return _HEAD + taken + _INTO.format(outputs=len(workload.outputs), result=result)


def functions_of(checks: Path, names: Collection[str]) -> str:
    """The source of these functions of a check file. Raises `ValueError` naming those that it lacks."""
    text = checks.read_text(encoding="utf-8")
    found = {node.name: ast.get_source_segment(text, node) for node in ast.parse(text).body
             if isinstance(node, ast.FunctionDef)}
    missing = sorted(set(names) - found.keys())
    if missing:
        raise ValueError(f"{checks}: no function {', '.join(missing)}; mend BASELINES in {Path(__file__).name}")
    return "\n\n".join(found[name] for name in names) + "\n"


def _cell(label: str, source: str) -> Sequence[dict[str, str]]:
    return [{"label": label, "source": source, "mode": "all"}]
