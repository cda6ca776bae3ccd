"""Ask ahead: the checks' requests are known from the reference's run, so they travel many in one round trip.

What a check asks does not depend on the answers while they are right: same cases, same arguments, same cotangents.
The requests that it made of the reference are its script. As long as the student's check follows the script, requests
are sent in chunks ahead of need, and answered from the replies that came back. Once it leaves the script (an answer
was wrong, an example is being shrunk) every request travels by itself.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from autograder.remote.channel import RawReply, RawRequest
from etude.executor import FREE

CHUNK = 64
"""Requests in a round trip: enough to make its cost small, few enough to lose little when one of them hangs."""
CHUNK_BYTES = 4 << 20


class ForesightChannel:
    """A channel for one check, over a sealed one that outlives it."""

    def __init__(self, channel: Any, script: Sequence[RawRequest]):
        self._channel, self._script = channel, script
        self._at = 0
        self._replies: deque[RawReply] = deque()
        self._following = True

    def raw(self, kind: int, payload: bytes) -> RawReply:
        if self._following and kind != FREE:
            self._following = self._at < len(self._script) and self._script[self._at] == (kind, payload)
            if self._following and not self._replies:
                self._following = self._ask_ahead()
            if self._following:
                self._at += 1
                return self._replies.popleft()
        return self._channel.raw(kind, payload)

    def _ask_ahead(self) -> bool:
        chunk, size = [], 0
        for request in self._script[self._at:self._at + CHUNK]:
            size += len(request[1])
            if chunk and size > CHUNK_BYTES:
                break
            chunk.append(request)
        replies = self._channel.ahead(chunk)
        if replies is None:
            # A new worker has not seen the requests so far, and a vjp needs the call that it belongs to.
            for request in self._script[:self._at]:
                self._channel.raw(*request)
            return False
        self._replies.extend(replies)
        return True
