"""What a check asks of a student, run by run: of the reference, and of the reference with its answers altered."""
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from autograder.remote.channel import LocalChannel, RawReply
from autograder.remote.student import RemoteStudent
from autograder.solution.material import Material
from etude import wire
from etude.executor import CALL, DESCRIBE, KERNEL, NEW, OK, VJP
from etude.students.fingerprints import filled


@dataclass
class Step:
    """A request that made an object or called a function, and the answer."""

    kind: int
    request: dict[str, Any]
    reply: dict[str, Any] | None
    """None: an error."""


@dataclass
class Run:
    """One run of a check on one example."""

    frame: FrameType
    arguments: dict[str, Any]
    steps: list[Step] = field(default_factory=list)


class Recorder(LocalChannel):
    """The reference in this process; remembers what each run of a check asked of it."""

    def __init__(self, material: Material, checks: Path):
        super().__init__(material.reference_program)
        self._checks = checks
        self.runs: list[Run] = []

    def raw(self, kind: int, payload: bytes) -> RawReply:
        status, answer = self._answer(kind, super().raw(kind, payload))
        frame = _test_frame(self._checks) if kind in (NEW, CALL, KERNEL) else None
        if frame is not None:
            if not self.runs or self.runs[-1].frame is not frame:  # a frame that is kept cannot be another's
                self.runs.append(Run(frame, _arguments(frame)))
            reply = wire.decode(answer) if status == OK else None
            self.runs[-1].steps.append(Step(kind, wire.decode(payload), reply))
        return status, answer

    def _answer(self, kind: int, reply: RawReply) -> RawReply:
        """A new module's parameters are noise by their names, before the check sees them: no one's initial values."""
        if kind != NEW or reply[0] != OK:
            return reply
        made = wire.decode(reply[1])
        if "params" in made:
            made["params"] = {name: value.detach() for name, value in filled(made["params"]).items()}
        return OK, wire.encode(made)


class Altered(Recorder):
    """The same with every answer altered; what then is sent otherwise depends on an answer."""

    def _answer(self, kind: int, reply: RawReply) -> RawReply:
        reply = super()._answer(kind, reply)
        if kind not in (CALL, VJP, DESCRIBE, KERNEL) or reply[0] != OK:
            return reply
        value = wire.decode(reply[1])
        return OK, wire.encode({key: part if key == "kind" else self._altered(part) for key, part in value.items()})

    def again(self, run: Run) -> list[Step]:
        """The steps of the same run of the same check, as far as it comes."""
        test = run.frame.f_globals.get(run.frame.f_code.co_name)
        test = test.hypothesis.inner_test if hasattr(test, "hypothesis") else test
        self.runs = []
        if getattr(test, "__code__", None) is run.frame.f_code:
            try:
                test(**{**run.arguments, "student": RemoteStudent(self)})
            except Exception:  # the check fails, as it should; what counts is what was asked before
                pass
        return self.runs[0].steps if self.runs else []

    def _altered(self, tree: Any) -> Any:
        if isinstance(tree, torch.Tensor):
            return self._tensor(tree.detach()).requires_grad_(tree.requires_grad)
        if isinstance(tree, (list, tuple)):
            return type(tree)(self._altered(item) for item in tree)
        if isinstance(tree, dict):
            return {key: self._altered(item) for key, item in tree.items()}
        return self._scalar(tree)

    def _tensor(self, like: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _scalar(self, value: Any) -> Any:
        raise NotImplementedError


class Noise(Altered):
    """Noise in the place of every answer: nothing of it is left, and the first assertion fails."""

    def __init__(self, material: Material, checks: Path):
        super().__init__(material, checks)
        self._generator = torch.Generator().manual_seed(0)

    def _tensor(self, like: torch.Tensor) -> torch.Tensor:
        if like.is_floating_point():
            return torch.randn(like.shape, generator=self._generator, dtype=torch.float64).to(like.dtype)
        bound = 2 if like.dtype is torch.bool else 7
        return torch.randint(0, bound, like.shape, generator=self._generator).to(like.dtype)

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, bool):
            return not value
        return value + 1 if isinstance(value, (int, float)) else value


class Tremor(Altered):
    """Every floating answer off by a rounding error or two: assertions hold, and no sum of answers stays the same."""

    def _tensor(self, like: torch.Tensor) -> torch.Tensor:
        return like * (1 + 4096 * torch.finfo(like.dtype).eps) if like.dtype is torch.float64 else \
            like * (1 + 4 * torch.finfo(like.dtype).eps) if like.is_floating_point() else like.clone()

    def _scalar(self, value: Any) -> Any:
        return value * (1 + 4096 * sys.float_info.epsilon) if isinstance(value, float) else value


def _test_frame(checks: Path) -> FrameType | None:
    """The running check's frame: each run of a check has its own."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name.startswith("test") and Path(frame.f_code.co_filename).name == checks.name:
            return frame
        frame = frame.f_back
    return None


def _arguments(frame: FrameType) -> dict[str, Any]:
    code = frame.f_code
    return {name: frame.f_locals[name] for name in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]}
