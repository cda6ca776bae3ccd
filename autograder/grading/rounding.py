"""Which checks can be trusted to pass whoever gives the reference's answers but for rounding.

A check decides by what it is answered. If every answer is the reference's to the bit, it decides as for the reference,
and need not run. If they differ by rounding, it might still see that: a check may compare two answers for equality,
or take finite differences. So it is tried: the reference's own answers are disturbed by more than what counts as
rounding, and a check that then fails is run for everyone whose answers are not equal to the bit.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from autograder.remote.channel import Channel, RawReply
from autograder.remote.script import ROUNDING
from autograder.remote.student import RemoteStudent
from etude import wire
from etude.executor import OK
from etude.observe import tensors_in

EXCESS = 10.0
"""How many times more than rounding the disturbance may be."""
TRIALS = 2


class Rounding:
    """What is known of the checks of one unit; each is tried when it is first asked for."""

    def __init__(self, open_reference: Callable[[], Channel],
                 again: Mapping[str, Callable[[Any], BaseException | None]]):
        self._open, self._again = open_reference, again
        self._blind: dict[str, bool] = {}

    def is_blind(self, check: str) -> bool:
        """Whether this check passes however the reference's answers are rounded."""
        if check not in self._blind:
            self._blind[check] = all(
                self._again[check](RemoteStudent(Disturbed(self._open(), trial))) is None for trial in range(TRIALS))
        return self._blind[check]


class Disturbed:
    """A channel whose numbers are off by up to `EXCESS` times what counts as rounding; equal tensors stay equal.

    What is exactly zero stays zero, and what no computation changes is left alone.
    """

    def __init__(self, channel: Channel, salt: int = 0):
        self._channel, self._salt = channel, salt

    def raw(self, kind: int, payload: bytes) -> RawReply:
        code, data = self._channel.raw(kind, payload)
        if code != OK:
            return code, data
        value = wire.decode(data)
        untouched = value.get("inputs_after") if isinstance(value, dict) else None
        spared = {id(tensor) for tensor in tensors_in(untouched)}
        for tensor in tensors_in(value):
            if tensor.dtype in ROUNDING and tensor.numel() and id(tensor) not in spared:
                self._disturb(tensor.detach())
        return code, wire.encode(value)

    def _disturb(self, tensor: torch.Tensor) -> None:
        data = tensor.numpy().tobytes()
        seed = int.from_bytes(hashlib.sha256(data).digest()[:6], "big") + self._salt
        noise = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(seed), dtype=tensor.dtype) * 2 - 1
        noise *= EXCESS * ROUNDING[tensor.dtype] * tensor.abs().max()
        changed = tensor + noise.where(tensor != 0, 0)
        if 0 not in tensor.stride():  # an expanded tensor has one memory for many elements: it is left as it is
            tensor.copy_(changed)
