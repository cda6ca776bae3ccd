"""A student's own traceback: the lines that they wrote, with the shapes of the tensors on them, and nothing else."""
from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

import torch

MAX_FRAMES = 4
MAX_LINE = 160
_DOTTED = re.compile(r"(?<![\w.\"'])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Frame:
    """One line of the student's, on the way to the error."""

    place: str
    """`In [5], line 3, in sdpa`"""
    line: str
    tensors: tuple[str, ...] = ()
    """`q: (2, 3, 5, 4) float64`, for every tensor that the line names."""


def student_frames(error: BaseException, namespace: Mapping[str, Any]) -> list[Frame]:
    """The student's frames of an error and of what it was raised from, outermost first; of many, the ends."""
    seen: list[Frame] = []
    current: BaseException | None = error
    while current is not None and not seen:
        seen = [_frame(tb.tb_frame, tb.tb_lineno) for tb in _steps(current.__traceback__)
                if tb.tb_frame.f_globals is namespace]
        current = current.__cause__
    if len(seen) > MAX_FRAMES:  # a recursion without end
        left_out = Frame(f"… {len(seen) - MAX_FRAMES} more steps …", "")
        seen = [*seen[:MAX_FRAMES // 2], left_out, *seen[-MAX_FRAMES // 2:]]
    return seen


def _steps(tb: TracebackType | None) -> Iterator[TracebackType]:
    while tb is not None:
        yield tb
        tb = tb.tb_next


def _frame(frame: FrameType, number: int) -> Frame:
    code = frame.f_code
    line = traceback.FrameSummary(code.co_filename, number, code.co_name).line or ""
    function = "" if code.co_name == "<module>" else f", in {code.co_name}"
    return Frame(f"{_cell(code.co_filename)}, line {number}{function}", line.strip()[:MAX_LINE],
                 tuple(_tensors_named(line, frame)))


def _cell(filename: str) -> str:
    """What a person calls the file: `In [5]` in a notebook, `cell 9 (sdpa_masked)` from the command line."""
    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    known = ipython.compile.format_code_name(filename) if ipython is not None else None
    if known:
        return known[1].replace("In[", "In [")
    return filename.removeprefix("<etude ").removesuffix(">").rpartition("/")[2]


def _tensors_named(line: str, frame: FrameType) -> Iterator[str]:
    shown = set()
    for name in _DOTTED.findall(line.partition("#")[0]):
        # `x.shape` says that x matters, `self.weight` is a tensor of its own: the longest beginning that is a tensor.
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            value = _look_up(parts[:end], frame)
            if isinstance(value, torch.Tensor):
                text = f"{'.'.join(parts[:end])}: {shape_of(value)}"
                if text not in shown:
                    shown.add(text)
                    yield text
                break


def _look_up(path: list[str], frame: FrameType) -> Any:
    """The value of a dotted name, without running anyone's code: no property, no `__getattr__`."""
    value = frame.f_locals.get(path[0])
    for name in path[1:]:
        attributes = getattr(value, "__dict__", {})
        tables = (attributes, attributes.get("_parameters"), attributes.get("_buffers"), attributes.get("_modules"))
        value = next((table[name] for table in tables if isinstance(table, dict) and name in table), None)
    return value


def shape_of(tensor: torch.Tensor) -> str:
    """`(2, 3) float64`, and what is unusual about it: NaN, another device."""
    text = f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.device.type != "cpu":
        text += f" on {tensor.device}"
    elif tensor.dtype.is_floating_point and not bool(torch.isfinite(tensor).all()):
        text += ", not finite"
    return text
