"""The probes of a unit: calls that its public checks make, with everything that a call needs before it.

They are recorded by running the *released* check file against the reference, so a hidden check cannot contribute. Nor
can an answer of the reference: every run of a check is made again with the answers altered, and only what is sent alike
is kept as it is. An argument that is a part of an earlier answer is recorded as just that, and whoever is asked puts in
their own. Whatever else depends on an answer is left out.

Altered how? First by noise, which leaves nothing of an answer, but ends at the first assertion. The calls after that
are compared with a run whose answers are off by a few rounding errors. Floating values that depend on an answer then
differ; of integers and masks only those are kept that were sent before, or belong to the check's own example.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from autograder.build.recording import Noise, Recorder, Run, Step, Tremor
from autograder.remote.student import RemoteStudent
from autograder.solution.material import Material
from etude import wire
from etude.engine import run_checks
from etude.executor import CALL, KERNEL, NEW
from etude.observe import tensors_in
from etude.outcomes import Outcome
from etude.strategies import Case
from etude.students.fingerprints import PART, encode_probe
from etude.wire import Handle

MAX_BYTES, MAX_KERNEL_BYTES = 6_000, 16_000
"""Of a probe; kernels make some mistakes only in their second block."""
MAX_CALLS = 8
"""Calls of one run of a check that are looked at."""
MAX_CANDIDATES = 96
"""Probes of one exercise that mistakes are tried on."""
MIN_CANDIDATES = 60
"""Of one function, where an exercise asks for several."""
MAX_REFUSED = 8


def record_probes(material: Material, checks: Path) -> dict[str, list[dict[str, Any]]]:
    """Candidates by exercise, small ones first; `checks` is the released check file."""
    subject = _Recording(material, checks)
    run_checks([checks], [subject], seed=0, shrink=False)
    return {exercise: list(_chosen(probes)) for exercise, probes in subject.probes.items()}


class _Recording:
    """The reference as a subject of the public checks."""

    def __init__(self, material: Material, checks: Path):
        self._material, self._checks = material, checks
        self._channel: Recorder | None = None
        self.probes: dict[str, list[dict[str, Any]]] = {}

    def student(self, exercise: str) -> RemoteStudent:
        self._channel = Recorder(self._material, self._checks)
        return RemoteStudent(self._channel)

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        """Whether the reference passes is not the build's business but `autograder verify`'s."""
        assert self._channel is not None
        noise, tremor = (altered(self._material, self._checks) for altered in (Noise, Tremor))
        self.probes[exercise] = [probe for run in self._channel.runs
                                 for probe in _probes(run, noise.again(run), tremor.again(run))]


# ---------------------------------------------------------------------------------------------- runs to probes

class _Depends(Exception):
    """An argument depends on an answer, and is no part of one."""


def _probes(run: Run, noise: list[Step], tremor: list[Step]) -> Iterator[dict[str, Any]]:
    """A probe for each of the run's first calls, as far as nothing in it depends on what was answered."""
    writer = _Writer(run, noise, tremor)
    calls = [index for index, step in enumerate(run.steps[:max(len(noise), len(tremor))]) if _is_answered(step)]
    for index in calls[:MAX_CALLS]:
        try:
            probe = writer.probe(index)
        except (_Depends, KeyError, wire.WireError):
            continue
        if len(encode_probe(probe)) <= (MAX_BYTES if run.steps[index].kind == CALL else MAX_KERNEL_BYTES):
            yield {**probe, "refused": run.steps[index].reply is None}


def _is_answered(step: Step) -> bool:
    """Whether values come of it: a kernel that is only built has none, and takes its time."""
    return step.kind == CALL or step.kind == KERNEL and not step.request["dry"]


class _Writer:
    """Writes down the steps of a run without what was answered in it."""

    def __init__(self, run: Run, noise: list[Step], tremor: list[Step]):
        steps = self._steps = run.steps
        self._altered = [*noise, *tremor[len(noise):]]
        self._sure = len(noise)
        """So many steps are compared with noise."""
        given = [value.arguments() if isinstance(value, Case) else value for value in run.arguments.values()]
        seen = [_arguments(step) for step in steps[:self._sure]]
        self._known = {_key(tensor) for tensor in tensors_in([*given, *seen])}
        self._origin = {self._handle(step).id: index for index, step in enumerate(steps) if self._handle(step)}

    def probe(self, last: int) -> dict[str, Any]:
        """The steps up to `last` that it needs, numbered anew."""
        needed: dict[int, dict[str, Any]] = {}
        self._collect(last, needed)
        numbers = {old: new for new, old in enumerate(sorted(needed))}
        return {"steps": [_renumbered(needed[old], numbers) for old in sorted(needed)]}

    def _collect(self, index: int, needed: dict[int, dict[str, Any]]) -> None:
        if index in needed:
            return
        step, other = self._steps[index], self._altered[index]
        if step.kind != other.kind or self._target(step) != self._target(other):
            raise _Depends
        if step.kind == KERNEL:
            call = self._tree(_arguments(step), _arguments(other), index)
            needed[index] = {"kernel": step.request["name"], "call": call}
            return
        written = self._target(step)
        if "of" in written:
            written["of"] = self._origin[step.request["handle"].id]
            state = step.request.get("state") or {}
            dtypes = [value.dtype for value in state.get("params", {}).values() if value.is_floating_point()]
            written |= {"training": state.get("training", True), "dtype": dtypes[0] if dtypes else None}
        for key in ("args", "kwargs"):
            written[key] = self._tree(step.request[key], other.request[key], index)
        needed[index] = written
        for used in _uses(written):
            self._collect(used, needed)

    def _target(self, step: Step) -> dict[str, Any]:
        if step.kind == NEW:
            return {"new": step.request["name"]}
        keep = {"keep": step.request["keep"][0]} if "keep" in step.request else {}
        if "handle" in step.request:
            return {"of": -1, "method": step.request["method"], **keep}
        return {"name": step.request["name"], **keep}

    def _handle(self, step: Step) -> Handle | None:
        """The object that a step leaves behind: made, or kept for later."""
        return step.request["handle"] if step.kind == NEW else (step.request.get("keep") or [None, None])[1]

    def _tree(self, one: Any, other: Any, before: int) -> Any:
        """An argument as it is written down: as it is, or as a part of an earlier answer."""
        if isinstance(one, Handle):
            return {PART: [self._origin[one.id]]}
        if type(one) is not type(other):
            raise _Depends
        part = self._part(one, other, before)
        if part is not None:
            return {PART: part}
        if isinstance(one, (list, tuple)) and len(one) == len(other):
            return type(one)(self._tree(a, b, before) for a, b in zip(one, other, strict=True))
        if isinstance(one, dict) and one.keys() == other.keys():
            return {key: self._tree(one[key], other[key], before) for key in one}
        if _key(one) != _key(other) or before >= self._sure and not self._is_own(one):
            raise _Depends
        return one

    def _is_own(self, value: Any) -> bool:
        return not isinstance(value, torch.Tensor) or value.is_floating_point() or _key(value) in self._known

    def _part(self, one: Any, other: Any, before: int) -> list[Any] | None:
        """Where in an earlier answer this stands, in both runs; only what holds a tensor that differs is looked for."""
        if not any(True for _ in tensors_in(one)) or _key(one) == _key(other):
            return None
        for index in reversed(range(before)):
            replies = self._steps[index].reply, self._altered[index].reply
            if self._steps[index].kind == CALL and None not in replies:
                for path, value in _subtrees(replies[0]["result"]):
                    if _key(value) == _key(one) and _key(_at(replies[1]["result"], path)) == _key(other):
                        return [index, *path]
        return None


def _arguments(step: Step) -> dict[str, Any]:
    """What a step gives to what it names."""
    if step.kind == KERNEL:
        return {key: value for key, value in step.request.items() if key != "name"}
    return {key: step.request[key] for key in ("args", "kwargs")}


def _uses(tree: Any) -> Iterator[int]:
    """The steps that a written step builds on."""
    if isinstance(tree, dict):
        if PART in tree:
            yield tree[PART][0]
            return
        if "of" in tree:
            yield tree["of"]
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        for item in tree:
            yield from _uses(item)


def _renumbered(tree: Any, numbers: Mapping[int, int]) -> Any:
    if isinstance(tree, dict):
        if PART in tree:
            return {PART: [numbers[tree[PART][0]], *tree[PART][1:]]}
        return {key: numbers[item] if key == "of" else _renumbered(item, numbers) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_renumbered(item, numbers) for item in tree)
    return tree


def _subtrees(tree: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    yield path, tree
    if isinstance(tree, (list, tuple)):
        for index, item in enumerate(tree):
            yield from _subtrees(item, (*path, index))
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield from _subtrees(item, (*path, key))


def _at(tree: Any, path: tuple) -> Any:
    try:
        for step in path:
            tree = tree[step]
    except (LookupError, TypeError):
        return None
    return tree


def _key(tree: Any) -> bytes:
    """What two values share that are the same to a program: their layout and who wants a gradient are left aside."""
    return wire.encode(_plain(tree))


def _plain(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.detach().contiguous()
    if isinstance(tree, (list, tuple)):
        return [_plain(item) for item in tree]
    if isinstance(tree, dict):
        return {key: _plain(item) for key, item in tree.items()}
    return tree


# ---------------------------------------------------------------------------------------------- choosing candidates

def _chosen(probes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Calls of each function in turn, evenly from all checks, small ones first, no two alike: all with gradients, and
    some as they were made, since code that writes to its inputs cannot do so where gradients are wanted. Then calls
    that the reference refuses: where a mistake is to answer at all.
    """
    by_target: dict[str, dict[str, dict[str, Any]]] = {}
    refused: dict[str, dict[str, Any]] = {}
    for probe in probes:
        plain = {"steps": probe["steps"]}
        if probe["refused"]:
            refused[encode_probe(plain)] = plain
        else:
            last = {key: probe["steps"][-1].get(key) for key in ("name", "method", "new", "kernel")}
            by_target.setdefault(repr(last), {}).setdefault(encode_probe(_with_gradients(plain)), plain)
    for found in by_target.values():
        most = max(MAX_CANDIDATES // len(by_target), MIN_CANDIDATES)
        stride = max(1, -(-len(found) * 4 // (most * 3)))
        chosen = sorted(list(found.items())[::stride], key=lambda item: len(item[0]))
        yield from (_with_gradients(probe) for _, probe in chosen)
        yield from (probe for _, probe in chosen[:max(1, most // 3)] if "kernel" not in probe["steps"][-1])
    yield from (refused[text] for text in sorted(refused, key=len)[:MAX_REFUSED])


def _with_gradients(probe: dict[str, Any]) -> dict[str, Any]:
    """The probe with every floating argument requiring a gradient, so that the backward pass is asked for, too.

    A kernel has none of its own: such a probe stays as it is.
    """
    copy = wire.decode(wire.encode(probe))
    if "kernel" in copy["steps"][-1]:
        return copy
    for tensor in tensors_in(copy):
        if tensor.is_floating_point():
            tensor.requires_grad_()
    return copy
