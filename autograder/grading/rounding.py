"""Which checks can be trusted to pass whoever gives the reference's answers but for rounding.

A check decides by what it is answered. If every answer is the reference's to the bit, it decides as for the reference,
and need not run. If they differ by rounding, it might still see that: a check may compare two answers for equality,
ask for an exact zero, read an error's message. So it is tried: the reference's own answers are disturbed by more than
what counts as rounding, and a check that then fails is run for everyone whose answers are disturbed in that way.
"""
from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from autograder.remote.channel import Channel, RawReply
from autograder.remote.script import FLOOR, ROUNDING, Agreement
from autograder.remote.student import RemoteStudent
from etude import wire
from etude.executor import OK
from etude.observe import tensors_in

EXCESS = 3.0
"""How many times more than rounding the disturbance may be."""
TRIALS = 2


@dataclass(frozen=True)
class Kept:
    """What a disturbance leaves as it is in the reference's answers."""

    zeros: bool = False
    """What is exactly zero."""
    repeats: bool = False
    """Tensors that are equal to the bit: they stay equal."""


class Rounding:
    """What is known of the checks of one unit; each is tried when it is first asked for."""

    def __init__(self, open_reference: Callable[[], Channel],
                 again: Mapping[str, Callable[[Any], BaseException | None]]):
        self._open, self._again = open_reference, again
        self._blind: dict[tuple[str, Kept], bool] = {}

    def is_decided(self, check: str, agreement: Agreement) -> bool:
        """Whether this check passes for answers that agree so with the reference's."""
        return agreement.to_the_bit or self._is_blind(check, Kept()) or self._is_blind(
            check, Kept(agreement.zeros, agreement.repeats()))

    def _is_blind(self, check: str, kept: Kept) -> bool:
        """Whether it passes however the reference's answers are disturbed, but for what is kept."""
        key = check, kept
        if key not in self._blind:
            self._blind[key] = all(
                self._again[check](RemoteStudent(Disturbed(self._open(), kept, trial))) is None
                for trial in range(TRIALS))
        return self._blind[key]


class Disturbed:
    """A channel whose numbers are off by up to `EXCESS` times what counts as rounding, and whose errors say nothing.

    What no computation changes is left alone.
    """

    def __init__(self, channel: Channel, kept: Kept, salt: int = 0):
        self._channel, self._kept = channel, kept
        self._salts = itertools.repeat(salt) if kept.repeats else itertools.count(1000 * salt)

    def raw(self, kind: int, payload: bytes) -> RawReply:
        code, data = self._channel.raw(kind, payload)
        value = wire.decode(data)
        if code != OK:
            return code, wire.encode({"type": value["type"], "message": "disturbed", "place": "", "line": ""})
        untouched = value.get("inputs_after") if isinstance(value, dict) else None
        spared = {id(tensor) for tensor in tensors_in(untouched)}
        for tensor in tensors_in(value):
            if tensor.dtype in ROUNDING and tensor.numel() and id(tensor) not in spared:
                self._disturb(tensor.detach())
        return code, wire.encode(value)

    def _disturb(self, tensor: torch.Tensor) -> None:
        data = tensor.numpy().tobytes()
        seed = int.from_bytes(hashlib.sha256(data).digest()[:6], "big") + next(self._salts)
        noise = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(seed), dtype=tensor.dtype) * 2 - 1
        noise *= EXCESS * ROUNDING[tensor.dtype] * max(float(tensor.abs().max()), FLOOR)
        changed = tensor + (noise.where(tensor != 0, 0) if self._kept.zeros else noise)
        if 0 not in tensor.stride():  # an expanded tensor has one memory for many elements: it is left as it is
            tensor.copy_(changed)
