"""The probes of a unit: the first call that each public check makes on each of its examples.

They are recorded by running the *released* check file against the reference, so a hidden check cannot contribute. And
because nothing was called before, nothing that the reference answered can be in them: what an object's constructor
returned is replaced by noise before the check sees it.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from autograder.grading.material import Material
from autograder.remote.channel import LocalChannel, RawReply
from autograder.remote.student import RemoteStudent
from etude import wire
from etude.engine import Outcome, run_checks
from etude.executor import CALL, NEW, OK
from etude.fingerprints import encode_probe, filled
from etude.observe import tensors_in
from etude.wire import Handle

MAX_BYTES = 6_000
MAX_CANDIDATES = 96
"""Probes of one exercise that mistakes are tried on."""
MIN_CANDIDATES = 60
"""Of one function, where an exercise asks for several."""
MAX_REFUSED = 8


def record_probes(material: Material, checks: Path) -> dict[str, list[dict[str, Any]]]:
    """Candidates by exercise, small ones first; `checks` is the released check file."""
    subject = _Recording(material, checks)
    run_checks([checks], [subject], seed=0, shrink=False)
    return {exercise: [*_chosen(channel.probes), *_distinct(channel.refused)[:MAX_REFUSED]]
            for exercise, channel in subject.channels.items()}


class _Recording:
    """The reference as a subject of the public checks, over a channel that remembers."""

    def __init__(self, material: Material, checks: Path):
        self._material, self._checks = material, checks
        self.channels: dict[str, _FirstCalls] = {}

    def student(self, exercise: str) -> RemoteStudent:
        self.channels[exercise] = _FirstCalls(self._material, self._checks)
        return RemoteStudent(self.channels[exercise])

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        """Whether the reference passes is not the build's business but `autograder verify`'s."""


class _FirstCalls(LocalChannel):
    """The reference in this process; remembers the first call of every run of a check."""

    def __init__(self, material: Material, checks: Path):
        super().__init__(material.reference_program)
        self._checks = checks
        self._made: dict[int, dict[str, Any]] = {}
        self._last: FrameType | None = None  # kept, so that no later frame can be mistaken for it
        self.probes: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        """Calls that the reference answers with an error: where a mistake is to answer at all."""

    def raw(self, kind: int, payload: bytes) -> RawReply:
        reply = super().raw(kind, payload)
        if kind == NEW and reply[0] == OK:
            request, made = wire.decode(payload), wire.decode(reply[1])
            self._made[request["handle"].id] = {key: request[key] for key in ("name", "args", "kwargs")}
            if "params" in made:
                made["params"] = {name: value.detach() for name, value in filled(made["params"]).items()}
            return OK, wire.encode(made)
        if kind == CALL:
            frame = _test_frame(self._checks)
            if frame is not None and frame is not self._last and len(payload) <= MAX_BYTES:
                self._record(wire.decode(payload), self.probes if reply[0] == OK else self.refused)
            self._last = frame
        return reply

    def _record(self, request: Mapping[str, Any], probes: list[dict[str, Any]]) -> None:
        if any(isinstance(value, Handle) for value in _leaves((request["args"], request["kwargs"]))):
            return  # it needs other objects than its own
        probe = {"args": request["args"], "kwargs": request["kwargs"]}
        if "keep" in request:
            probe["keep"] = request["keep"][0]
        if "handle" in request:
            training = (request.get("state") or {}).get("training", True)
            probe |= {"new": self._made[request["handle"].id], "method": request["method"], "training": training}
        else:
            probe |= {"name": request["name"]}
        probes.append(probe)


def _test_frame(checks: Path) -> FrameType | None:
    """The running check's frame: each run of a check has its own."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name.startswith("test") and Path(frame.f_code.co_filename).name == checks.name:
            return frame
        frame = frame.f_back
    return None


def _chosen(probes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Calls of each function in turn, evenly from all checks, small ones first, no two alike: all with gradients, and
    some as they were made, since code that writes to its inputs cannot do so where gradients are wanted.
    """
    by_target: dict[str, dict[str, dict[str, Any]]] = {}
    for probe in probes:
        target = repr((probe.get("name"), probe.get("method"), (probe.get("new") or {}).get("name")))
        by_target.setdefault(target, {}).setdefault(encode_probe(_with_gradients(probe)), probe)
    for found in by_target.values():
        most = max(MAX_CANDIDATES // len(by_target), MIN_CANDIDATES)
        stride = max(1, -(-len(found) * 4 // (most * 3)))
        chosen = sorted(list(found.items())[::stride], key=lambda item: len(item[0]))
        yield from (_with_gradients(probe) for _, probe in chosen)
        yield from (probe for _, probe in chosen[:max(1, most // 3)])


def _distinct(probes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {encode_probe(probe): probe for probe in probes}
    return [found[text] for text in sorted(found, key=len)]


def _with_gradients(probe: dict[str, Any]) -> dict[str, Any]:
    """The probe with every floating argument requiring a gradient, so that the backward pass is asked for, too."""
    copy = wire.decode(wire.encode(probe))
    for tensor in tensors_in((copy["args"], copy["kwargs"])):
        if tensor.is_floating_point():
            tensor.requires_grad_()
    return copy


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (list, tuple)):
        for item in tree:
            yield from _leaves(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _leaves(item)
    else:
        yield tree

