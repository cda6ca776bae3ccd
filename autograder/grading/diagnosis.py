"""Name the misconception: which known mistake answers every probe exactly as the student's code does?

Probes are requests that the checks made of the reference. They are replayed on each known mistake once, and on a
submission that failed. Equal replies to all of them name the mistake. Failing that, the requests of the one example
that failed are replayed, and a mistake that alone explains that example is named with less certainty.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from autograder.remote.channel import (
    Channel,
    LocalChannel,
    RawReply,
    RawRequest,
    Recorder,
    ask_many,
)
from autograder.report.model import Diagnosis
from autograder.solution.material import Material
from autograder.variants import Variant
from etude import wire
from etude.executor import CALL, FREE, MANY, OK, VJP
from etude.failures import StudentError, StudentStopped
from etude.observe import tensors_in
from etude.wire import Handle

MAX_PROBES = 400
"""Calls that are replayed for one exercise, usually all; each comes with the backward passes that followed it."""
_CHUNK = 16


class Probes:
    """The probes of one exercise, and what the reference and every known mistake answer to them."""

    def __init__(self, material: Material, exercise: str, log: Sequence[tuple[RawRequest, RawReply]]):
        self._material, self._log = material, log
        self._mistakes = [v for v in material.variants if v.kind == "mistake" and v.exercise == exercise]
        self._channels: dict[str, LocalChannel] = {}
        self._replies: dict[str, list[Any]] = {}

    # Both are made for the first wrong submission: a class of right ones never pays for them.
    @cached_property
    def _sample(self) -> tuple[list[RawRequest], list[Any]]:
        return _sample(self._log)

    @cached_property
    def _most(self) -> int:
        return 4 * max((_size(request) for request, _ in self._log), default=0)

    @property
    def requests(self) -> list[RawRequest]:
        """What a submission is asked."""
        return self._sample[0]

    def diagnose(self, channel: Channel) -> Diagnosis | None:
        """The mistake whose replies to all probes are the student's, if there is exactly one."""
        replies = _replies(channel, self.requests)
        if replies is None or all(map(agree, replies, self._sample[1])) or not _any_result(replies):
            return None
        return _named([m for m in self._mistakes if self._matches(m, replies)], "all probes")

    def diagnose_example(self, run: Callable[[Channel], None], channel: Channel) -> Diagnosis | None:
        """The one mistake that answers as the student does on the example that `run` puts through a channel."""
        recorder = Recorder(channel)
        try:
            run(recorder)
        except StudentStopped:
            return None
        except Exception:  # the check fails, as it did before; what counts is what went over the wire
            pass
        requests = [request for request, _ in recorder.log if request[0] != FREE]
        student = [decoded(reply) for request, reply in recorder.log if request[0] != FREE]
        if any(kind == MANY for kind, _ in requests) or not _any_result(student):
            return None
        if any(_size(request) > self._most for request in requests):
            return None  # what the student's code returned was asked about, and here is no limit on time and memory
        right = _replies(LocalChannel(self._material.reference_program), requests) or []
        # Right answers that fail a check can only be wrong in how they were computed: then that has to match, too.
        how = len(right) == len(student) and all(map(agree, student, right))
        if how and list(map(_largest, right)) == list(map(_largest, student)):
            return None  # nothing that went over the wire shows what is wrong
        matching = []
        for mistake in self._mistakes:
            replies = _replies(self._open(mistake), requests) or []
            if len(replies) == len(student) and all(map(agree, student, replies)):
                if not how or [_largest(r) for r in replies] == [_largest(r) for r in student]:
                    matching.append(mistake)
        return _named(matching, "this example")

    def _matches(self, mistake: Variant, replies: Sequence[Any]) -> bool:
        """Compare with the mistake's own replies, asking for them only as far as they agree."""
        known = self._replies.setdefault(mistake.id, [])
        for start in range(0, len(replies), _CHUNK):
            if len(known) == start:
                if mistake.id not in self._channels:
                    self._channels[mistake.id] = self._open(mistake)
                chunk = self.requests[start:start + _CHUNK]
                known += _replies(self._channels[mistake.id], chunk) or [("silent",)] * len(chunk)
            if not all(map(agree, replies[start:start + _CHUNK], known[start:start + _CHUNK])):
                return False
        return True

    def _open(self, mistake: Variant) -> LocalChannel:
        return LocalChannel(self._material.variant_program(mistake))


def _size(request: RawRequest) -> int:
    """How many elements the tensors of a request have."""
    return sum(tensor.numel() for tensor in tensors_in(wire.decode(request[1])))


def _named(matching: list[Variant], certainty: str) -> Diagnosis | None:
    if len(matching) != 1:
        return None
    mistake = matching[0]
    return Diagnosis(id=mistake.id, title=mistake.title, explanation=mistake.hint, certainty=certainty)


def _sample(log: Sequence[tuple[RawRequest, RawReply]]) -> tuple[list[RawRequest], list[Any]]:
    """Up to `MAX_PROBES` calls spread evenly over the log, with the vjps that belong to them; constructions all.

    Calls that hand back what an earlier one left in the worker are taken or left together with it.
    """
    kinds, chains = [kind for (kind, _), _ in log], _chains(log)
    stride = max(1, -(-sum(map(len, chains)) // MAX_PROBES))
    kept = {index for chain in chains[::stride] for index in chain}
    kept |= {index for index, kind in enumerate(kinds) if kind not in (CALL, VJP, FREE)}
    node_is_kept: dict[int, bool] = {}
    for index, ((kind, payload), _) in enumerate(log):
        if kind not in (CALL, VJP):
            continue
        request = wire.decode(payload)
        if kind == VJP and node_is_kept.get(request["of"]):
            kept.add(index)
        if request.get("node") is not None:  # every check numbers its nodes anew, so the latest owner counts
            node_is_kept[request["node"]] = index in kept
    chosen = [log[index] for index in sorted(kept)]
    return [request for request, _ in chosen], [decoded(reply) for _, reply in chosen]


def _chains(log: Sequence[tuple[RawRequest, RawReply]]) -> list[list[int]]:
    """The calls of a log by index; one that hands back what another left in the worker stands behind that one."""
    chains: list[list[int]] = []
    maker: dict[int, list[int]] = {}
    for index, ((kind, payload), _) in enumerate(log):
        if kind != CALL:
            continue
        request = wire.decode(payload)
        handed = [maker[part.id] for part in (*request["args"], *request["kwargs"].values())
                  if isinstance(part, Handle) and part.id in maker]
        if not handed:
            chains.append([])
        chain = handed[0] if handed else chains[-1]
        chain.append(index)
        if request.get("keep"):  # every check numbers its objects anew, so the latest maker counts
            maker[request["keep"][1].id] = chain
    return chains


def _replies(channel: Channel, requests: Sequence[RawRequest]) -> list[Any] | None:
    """The decoded replies, or None when the worker did not survive giving them."""
    found: list[Any] = []
    try:
        for start in range(0, len(requests), _CHUNK):
            found += [decoded(reply) for reply in ask_many(channel, requests[start:start + _CHUNK])]
    except (StudentStopped, StudentError):
        return None
    return found


def decoded(reply: RawReply) -> Any:
    """A reply as something that can be compared: its value, or the type of its error."""
    kind, payload = reply
    try:
        value = wire.decode(payload)
    except wire.WireError:
        return ("malformed",)
    if kind != OK:
        return ("error", value.get("type") if isinstance(value, dict) else "")
    if isinstance(value, dict) and "evidence" in value:
        # Of a kernel's call: codes that do the same differ in which lanes they leave a tensor by, and in their PTX.
        value = {key: part for key, part in value.items() if key not in ("buffers", "evidence")}
    return ("value", _without_initial_values(value) if isinstance(value, dict) else value)


def _without_initial_values(value: dict) -> dict:
    """A new module's reply without its initial values, which may be random, and without the order of its names."""
    if "params" not in value:
        return value
    told = {key: {name: [list(t.shape), t.dtype] for name, t in value[key].items() if isinstance(t, torch.Tensor)}
            for key in ("params", "buffers") if isinstance(value.get(key), dict)}
    names = {key: sorted(map(str, value[key])) for key in ("frozen", "persistent") if isinstance(value.get(key), list)}
    return {**value, **told, **names}


def agree(one: Any, other: Any) -> bool:
    """Two replies say the same: structure, shapes, dtypes, who requires a gradient, and values up to rounding."""
    first, second = list(tensors_in(one)), list(tensors_in(other))
    if len(first) != len(second) or _without_tensors(one) != _without_tensors(other):
        return False
    return all(_tensors_agree(a, b) for a, b in zip(first, second, strict=True))


def _tensors_agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.requires_grad != other.requires_grad:
        return False
    if not one.dtype.is_floating_point:
        return torch.equal(one, other)
    tolerance = 1e-7 if one.dtype is torch.float64 else 1e-3
    one, other = one.detach(), other.detach()
    finite = torch.isfinite(other)
    if not torch.equal(finite, torch.isfinite(one)):
        return False
    scale = float(other[finite].abs().max()) if bool(finite.any()) else 1.0
    return bool(((one - other)[finite].abs() <= tolerance * max(scale, 1e-3)).all())


def _any_result(replies: Sequence[Any]) -> bool:
    """Whether a call returned something, or a module was made: errors alone are too little to know a mistake by."""
    values = [reply[1] for reply in replies if len(reply) == 2 and reply[0] == "value"]
    return any(isinstance(value, dict) and not value.keys().isdisjoint(("result", "params")) for value in values)


def _largest(reply: Any) -> Any:
    largest = reply[1].get("largest") if reply[0] == "value" and isinstance(reply[1], dict) else None
    return largest if isinstance(largest, list) and all(type(dim) is int for dim in largest) else None


def _without_tensors(tree: Any) -> Any:
    """The structure with tensors blanked; `largest` is evidence of how, not what, and differs between equal codes."""
    if isinstance(tree, torch.Tensor):
        return "tensor"
    if isinstance(tree, (list, tuple)):
        return [_without_tensors(item) for item in tree]
    if isinstance(tree, dict):
        return {key: _without_tensors(item) for key, item in tree.items() if key != "largest"}
    return tree
