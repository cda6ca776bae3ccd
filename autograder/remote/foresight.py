"""Ask ahead: the checks' requests are known from the reference's run, so they travel many in one round trip.

What a check asks does not depend on the answers while they are right: same cases, same arguments, same cotangents.
The requests that it made of the reference are its script. As long as the student's check follows the script, requests
are sent in waves ahead of need, and answered from the replies that came back. Once it leaves the script (an answer
was wrong, an example is being shrunk) every request travels by itself.

A later request of an example may hold what the reference answered to an earlier one: `f(f(x))` sends f(x). Code that
gives wrong answers must never get to read it. So a wave takes from each example its next request only, and only
where the one before it was answered as the reference answered it. What a name stands for, a function or a class, is no
such answer: the question goes together with the request after it.

Where every answer is the reference's but for rounding, the check itself need not run: see `ForesightChannel.agrees`
and `autograder.grading.rounding`.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autograder.remote.channel import RawReply
from autograder.remote.script import Agreement, Place, Script
from etude.executor import FREE

CHUNK = 64
"""Most requests in a wave: enough to make its cost small, few enough to lose little when one of them hangs."""
FIRST_CHUNK = 8
"""Requests in the first wave: wrong code mostly shows itself at once, and then the rest was asked in vain."""
CHUNK_BYTES = 4 << 20


class ForesightChannel:
    """A channel for one check, over a sealed one that outlives it. `hopeful`: answers have been right so far."""

    def __init__(self, channel: Any, script: Script, hopeful: bool = False):
        self._channel = channel
        self._script = script
        self._first_chunk = CHUNK if hopeful else FIRST_CHUNK
        self.forget()

    def forget(self) -> None:
        """Begin again, in another worker."""
        self._agreement = Agreement(self._script)
        self._example, self._step = 0, 0
        self._replies: dict[Place, RawReply] = {}
        self._asked: dict[int, int] = {}
        """How many requests of an example have been made."""
        self._following = True
        self._chunk = self._first_chunk

    def agrees(self) -> Agreement | None:
        """Ask for the whole script; how the answers agree with the reference's, or None if they do not.

        What came is kept: a check that has to be run finds it here. Raises `StudentStopped` as any request does.
        """
        for example, requests in enumerate(self._script.examples):
            for step in range(len(requests)):
                self._example, self._step = place = example, step
                if place not in self._replies and not self._ask_ahead():
                    self._replies, self._following = {}, False  # asked one by one, it will show what stops it
                    return None
                if not self._agreement.holds(place, self._replies[place]):
                    self._example, self._step = 0, 0
                    return None
        self._example, self._step = 0, 0
        return self._agreement if self._replies else None

    def raw(self, kind: int, payload: bytes) -> RawReply:
        if self._following and kind != FREE:
            place = self._example, self._step
            self._following = self._script.asks(place, (kind, payload))
            if self._following and place not in self._replies and not self._ask_ahead():
                self._following = False
                self._catch_up()
            if self._following:
                self._go_on()
                return self._replies.pop(place)
        return self._channel.raw(kind, payload)

    def _go_on(self) -> None:
        self._step += 1
        if self._step == len(self._script.examples[self._example]):
            self._example, self._step = self._example + 1, 0

    def _ask_ahead(self) -> bool:
        wave = self._wave()
        replies = self._channel.ahead([self._script.request(place) for place in wave])
        if replies is None:
            return False
        self._replies.update(zip(wave, replies, strict=True))
        self._asked.update((example, step + 1) for example, step in wave)
        self._chunk = CHUNK
        return True

    def _catch_up(self) -> None:
        """Make the requests so far of a new worker, which has not seen them: a vjp needs its call."""
        examples = self._script.examples
        for example in [*examples[:self._example], examples[self._example][:self._step]]:
            for request, _ in example:
                self._channel.raw(*request)

    def _wave(self) -> list[Place]:
        """The places of the requests to send: of the one that is needed, and of those that may go with it."""
        wave: list[Place] = []
        size = 0
        for place in self._may_be_asked():
            size += len(self._script.request(place)[1])
            if wave and (size > CHUNK_BYTES or len(wave) == self._chunk):
                break
            wave.append(place)
        return wave

    def _may_be_asked(self) -> Iterator[Place]:
        yield from self._in_one_go((self._example, self._step))
        examples = self._script.examples
        for example in range(self._example + 1, len(examples)):
            place = example, self._asked.get(example, 0)
            if place[1] < len(examples[example]) and self._is_earned(place):
                yield from self._in_one_go(place)

    def _in_one_go(self, place: Place) -> Iterator[Place]:
        """A place, and the next one if this one asks only what a name stands for: no answer's value comes after it."""
        yield place
        while self._script.only_asks_for_a_kind(place) and place[1] + 1 < len(self._script.examples[place[0]]):
            place = place[0], place[1] + 1
            yield place

    def _is_earned(self, place: Place) -> bool:
        """Whether the request before this one was answered rightly; so were, then, those before that."""
        example, step = place
        if step == 0:
            return True
        before = example, step - 1
        return before in self._replies and self._agreement.earns(before, self._replies[before])
