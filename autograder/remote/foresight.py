"""Ask ahead: the checks' requests are known from the reference's run, so they travel many in one round trip.

What a check asks does not depend on the answers while they are right: same cases, same arguments, same cotangents.
The requests that it made of the reference are its script. As long as the student's check follows the script, requests
are sent in waves ahead of need, and answered from the replies that came back. Once it leaves the script (an answer
was wrong, an example is being shrunk) every request travels by itself.

A later request of an example may hold what the reference answered to an earlier one: `f(f(x))` sends f(x). Code that
gives wrong answers must never get to read it. So a wave takes from each example its next request only, and only
where the one before it was answered as the reference answered it.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from autograder.remote.channel import RawReply, RawRequest
from etude import wire
from etude.executor import FREE
from etude.observe import tensors_in

CHUNK = 64
"""Requests in a wave: enough to make its cost small, few enough to lose little when one of them hangs."""
CHUNK_BYTES = 4 << 20
_TOLERANCE = 1e-6

Script = list[list[tuple[RawRequest, RawReply]]]
"""For each example of a check what it asked, and what the reference answered."""
Place = tuple[int, int]
"""Which example, and which of its requests."""


class ForesightChannel:
    """A channel for one check, over a sealed one that outlives it."""

    def __init__(self, channel: Any, script: Script):
        self._channel = channel
        self._script = [example for example in script if example]
        self._example, self._step = 0, 0
        self._replies: dict[Place, RawReply] = {}
        self._following = True

    def raw(self, kind: int, payload: bytes) -> RawReply:
        if self._following and kind != FREE:
            place = self._example, self._step
            self._following = self._example < len(self._script) and self._request(place) == (kind, payload)
            if self._following and place not in self._replies:
                self._following = self._ask_ahead()
            if self._following:
                self._go_on()
                return self._replies.pop(place)
        return self._channel.raw(kind, payload)

    def _request(self, place: Place) -> RawRequest:
        return self._script[place[0]][place[1]][0]

    def _go_on(self) -> None:
        self._step += 1
        if self._step == len(self._script[self._example]):
            self._example, self._step = self._example + 1, 0

    def _ask_ahead(self) -> bool:
        wave = self._wave()
        replies = self._channel.ahead([self._request(place) for place in wave])
        if replies is None:
            # A new worker has not seen the requests so far, and a vjp needs the call that it belongs to.
            for example in [*self._script[:self._example], self._script[self._example][:self._step]]:
                for request, _ in example:
                    self._channel.raw(*request)
            return False
        self._replies.update(zip(wave, replies, strict=True))
        return True

    def _wave(self) -> list[Place]:
        """The places of the requests to send: of the one that is needed, and of those that may go with it."""
        wave, size = [(self._example, self._step)], 0
        for place in self._same_step_later():
            size += len(self._request(place)[1])
            if size > CHUNK_BYTES or len(wave) == CHUNK:
                break
            wave.append(place)
        return wave

    def _same_step_later(self) -> Iterator[Place]:
        for example in range(self._example + 1, len(self._script)):
            place = example, self._step
            if self._step < len(self._script[example]) and place not in self._replies and self._is_earned(place):
                yield place

    def _is_earned(self, place: Place) -> bool:
        """Whether the request before this one was answered rightly; so were, then, those before that."""
        example, step = place
        if step == 0:
            return True
        reply = self._replies.get((example, step - 1))
        return reply is not None and _same(reply, self._script[example][step - 1][1])


def _same(one: RawReply, other: RawReply) -> bool:
    """Whether two replies say the same but for rounding."""
    if one == other:
        return True
    try:
        first, second = wire.decode(one[1]), wire.decode(other[1])
    except wire.WireError:
        return False
    pairs = list(tensors_in(first)), list(tensors_in(second))
    return one[0] == other[0] and _frame(first) == _frame(second) and all(map(_close, *pairs))


def _frame(tree: Any) -> Any:
    """What is left of a value without its tensors."""
    if isinstance(tree, torch.Tensor):
        return torch.Tensor
    if isinstance(tree, (list, tuple)):
        return [_frame(item) for item in tree]
    return {key: _frame(item) for key, item in tree.items()} if isinstance(tree, dict) else tree


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.dtype.is_floating_point:
        return torch.equal(one, other)
    return bool(torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True))
