"""What a check asked of the reference and what that answered, and whether somebody else answers the same.

Two replies are the same if they differ by rounding only: every number within 1e-13 of the largest beside it (float64),
and whatever travels besides tensors equal; or if both are errors of one type. Whether exact zeros are kept, and whether
tensors that are the same to the bit in the reference's answers to an example (a call made twice, say) are so in the
other's, is noted: some checks see that.
"""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autograder.remote.channel import RawReply, RawRequest
from etude import wire
from etude.executor import DESCRIBE, FREE, OK
from etude.observe import tensors_in

ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-6}
"""Largest difference by dtype, relative to the largest magnitude in the tensor, that counts as rounding."""
FLOOR = 1e-3
"""Tensors all below this are compared as if this large, as `etude.compare` does."""
_CLOSE = 1e-6
_EXACT_PARTS = ("inputs_after",)
"""Parts of a reply that no computation changes: they are equal to the bit."""

Place = tuple[int, int]
"""Which example, and which of its requests."""


class Script:
    """The requests that a check made of the reference, example by example, with the reference's replies."""

    def __init__(self, examples: list[list[tuple[RawRequest, RawReply]]]):
        self.examples = [example for example in examples if example]
        self._answers: dict[Place, _Answer] = {}
        self._repeated: dict[int, set[bytes]] = {}
        self._kinds: dict[Place, bool] = {}

    def asks(self, place: Place, request: RawRequest) -> bool:
        """Whether the script goes on with this request at this place."""
        return place[0] < len(self.examples) and self.request(place) == request

    def was_answered(self, log: list[tuple[RawRequest, RawReply]]) -> bool:
        """Whether every request of the script that a check made was answered as the reference answered it."""
        agreement = Agreement(self)
        places = [(example, step) for example, requests in enumerate(self.examples) for step in range(len(requests))]
        asked = [entry for entry in log if entry[0][0] != FREE]
        return all(agreement.holds(place, reply) for place, (request, reply) in zip(places, asked, strict=False)
                   if self.request(place) == request)

    def request(self, place: Place) -> RawRequest:
        return self.examples[place[0]][place[1]][0]

    def reply(self, place: Place) -> RawReply:
        return self.examples[place[0]][place[1]][1]

    def only_asks_for_a_kind(self, place: Place) -> bool:
        """Whether the reference answered with no more than what kind of thing a name stands for."""
        if place not in self._kinds:
            self._kinds[place] = self.request(place)[0] == DESCRIBE and "value" not in self.answer(place).value
        return self._kinds[place]

    def answer(self, place: Place) -> _Answer:
        if place not in self._answers:
            self._answers[place] = _Answer(self.reply(place))
        return self._answers[place]

    def same_tensors(self, example: int) -> set[bytes]:
        """The values that come more than once among the reference's tensors of an example."""
        if example not in self._repeated:
            seen = Counter(array.tobytes() for step in range(len(self.examples[example]))
                           for array in self.answer((example, step)).arrays)
            self._repeated[example] = {data for data, count in seen.items() if count > 1}
        return self._repeated[example]


class Agreement:
    """Whether the replies to a script are the reference's; made for one check of one subject."""

    def __init__(self, script: Script):
        self._script = script
        self._verdicts: dict[Place, bool] = {}
        self._replies: dict[Place, RawReply] = {}
        self.to_the_bit = True
        """Whether every reply so far was the very same bytes."""
        self.zeros = True
        """Whether the replies so far had their zeros exactly where the reference has its own."""

    def holds(self, place: Place, reply: RawReply) -> bool:
        """Whether this reply is the reference's but for rounding. Remembered for each place."""
        if place not in self._verdicts:
            self._verdicts[place] = reply == self._script.reply(place) or self._is_near(place, reply)
            self._replies[place] = reply
        return self._verdicts[place]

    def _is_near(self, place: Place, reply: RawReply) -> bool:
        self.to_the_bit = False
        answer = self._script.answer(place)
        arrays = answer.arrays_of(reply)
        if arrays is None or not answer.is_near(arrays):
            return False
        self.zeros = self.zeros and answer.has_its_zeros(arrays)
        return True

    def earns(self, place: Place, reply: RawReply) -> bool:
        """Whether this reply is so close to the reference's that its author may be asked about the reference's."""
        if self.holds(place, reply):
            return True
        answer = self._script.answer(place)
        arrays = answer.arrays_of(reply)
        return arrays is not None and answer.is_close(arrays)

    def repeats(self) -> bool:
        """Whether tensors that are one and the same in the reference's answers to an example are so in these."""
        seen: dict[tuple[int, bytes], bytes] = {}
        for place, reply in self._replies.items():
            repeated, answer = self._script.same_tensors(place[0]), self._script.answer(place)
            if not repeated:
                continue
            for expected, got in zip(answer.arrays, answer.arrays_of(reply) or (), strict=True):
                key, data = expected.tobytes(), got.tobytes()
                if key in repeated and seen.setdefault((place[0], key), data) != data:
                    return False
        return True


@dataclass(frozen=True)
class _Segment:
    """Where a contiguous tensor's bytes lie in a payload."""

    start: int
    end: int
    dtype: np.dtype


class _Answer:
    """One reply of the reference, taken apart once: what is compared, where it lies, how closely."""

    def __init__(self, reply: RawReply):
        self.reply = reply
        reader = _Locating(reply[1])
        self.value = reader.value(0)
        self._segments = reader.segments if reader.all_contiguous else None
        tensors = list(tensors_in(self.value))
        exact = {id(tensor) for part in _EXACT_PARTS if isinstance(self.value, dict)
                 for tensor in tensors_in(self.value.get(part))}
        self.arrays = [_array(tensor) for tensor in tensors]
        self._bounds = [0.0 if id(tensor) in exact else _bound(tensor) for tensor in tensors]

    def arrays_of(self, reply: RawReply) -> list[np.ndarray] | None:
        """The tensors of another reply as arrays; None if it differs from this one in more than their values."""
        if reply == self.reply:
            return self.arrays
        if reply[0] != self.reply[0]:
            return None
        if reply[0] != OK:
            return [] if _error_type(reply) == _error_type(self.reply) != "" else None
        if self._segments is not None and len(reply[1]) == len(self.reply[1]):
            arrays = self._cut(reply[1])
            if arrays is not None:
                return arrays
        try:
            value = wire.decode(reply[1])
        except wire.WireError:
            return None
        if _frame(value) != _frame(self.value):
            return None
        return [_array(tensor) for tensor in tensors_in(value)]

    def _cut(self, payload: bytes) -> list[np.ndarray] | None:
        """Without decoding: the tensors' bytes from where the reference's lie, if all around them is equal."""
        at, arrays = 0, []
        for segment in self._segments or ():
            if payload[at:segment.start] != self.reply[1][at:segment.start]:
                return None
            arrays.append(np.frombuffer(payload, segment.dtype, (segment.end - segment.start) // segment.dtype.itemsize,
                                        segment.start))
            at = segment.end
        return arrays if payload[at:] == self.reply[1][at:] else None

    def is_close(self, arrays: list[np.ndarray]) -> bool:
        return all(np.allclose(got, expected, _CLOSE, _CLOSE, equal_nan=True)
                   for got, expected in zip(arrays, self.arrays, strict=True))

    def is_near(self, arrays: list[np.ndarray]) -> bool:
        return all(_near(got, expected, bound)
                   for got, expected, bound in zip(arrays, self.arrays, self._bounds, strict=True))

    def has_its_zeros(self, arrays: list[np.ndarray]) -> bool:
        return all(np.array_equal(got == 0, expected == 0)
                   for got, expected in zip(arrays, self.arrays, strict=True))


class _Locating(wire.Reader):
    """Decodes a payload and notes where its tensors' bytes lie."""

    def __init__(self, payload: bytes):
        super().__init__(payload)
        self.segments: list[_Segment] = []
        self.all_contiguous = True

    def tensor(self, depth: int) -> torch.Tensor:
        tensor = super().tensor(depth)
        array = _array(tensor)
        self.segments.append(_Segment(self.at - array.nbytes, self.at, array.dtype))
        self.all_contiguous &= tensor.is_contiguous()
        return tensor


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The values, in row-major order, as a flat array; bfloat16, which NumPy lacks, by its bits."""
    flat = tensor.detach().reshape(-1)
    return (flat.view(torch.int16) if flat.dtype is torch.bfloat16 else flat).numpy()


def _bound(tensor: torch.Tensor) -> float:
    """How far another's values may lie from these: 0 where only equality counts."""
    relative = ROUNDING.get(tensor.dtype, 0.0)
    if not relative or not tensor.numel() or not bool(torch.isfinite(tensor).all()):
        return 0.0
    return relative * max(float(tensor.detach().abs().max()), FLOOR)


def _near(got: np.ndarray, expected: np.ndarray, bound: float) -> bool:
    if not bound:
        return got.tobytes() == expected.tobytes()
    with np.errstate(invalid="ignore", over="ignore"):
        return bool((np.abs(got - expected) <= bound).all())


def _error_type(reply: RawReply) -> str:
    """The name of the exception that a reply tells of; empty for what is no such reply."""
    try:
        value = wire.decode(reply[1])
    except wire.WireError:
        return ""
    found = value.get("type") if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _frame(tree: Any) -> Any:
    """What is left of a value without its tensors' values."""
    if isinstance(tree, torch.Tensor):
        return torch.Tensor, tree.shape, tree.dtype, tree.requires_grad
    if isinstance(tree, (list, tuple)):
        return [type(tree), *map(_frame, tree)]
    if isinstance(tree, dict):
        return {key: _frame(item) for key, item in tree.items()}
    return type(tree), tree
