"""Many requests, or many replies, in one payload: a table of kinds and lengths, and then the payloads end to end.

    number of frames (uint32) | kind of each (uint8) | length of each (uint32) | payloads
"""
from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

from etude.wire import WireError

_COUNT = struct.Struct("<I")
_ENTRY = 5
"""Bytes of the table for each frame."""


def pack(frames: Sequence[tuple[int, bytes]]) -> bytes:
    """The payload that holds these (kind, payload)."""
    kinds, payloads = [kind for kind, _ in frames], [payload for _, payload in frames]
    lengths = struct.pack(f"<{len(frames)}I", *map(len, payloads))
    return b"".join((_COUNT.pack(len(frames)), bytes(kinds), lengths, *payloads))


def unpack(payload: bytes) -> list[tuple[int, bytes]]:
    """The (kind, payload) in a payload. Raises `WireError` unless the table accounts for every byte of it."""
    if len(payload) < _COUNT.size:
        raise WireError("a batch without its number of frames")
    (count,) = _COUNT.unpack_from(payload)
    start = _COUNT.size + _ENTRY * count
    if start > len(payload):
        raise WireError("a batch whose table is cut short")
    lengths = struct.unpack_from(f"<{count}I", payload, _COUNT.size + count)
    places = list(accumulate(lengths, initial=start))
    if places[-1] != len(payload):
        raise WireError("a batch whose table does not account for its bytes")
    kinds = payload[_COUNT.size:_COUNT.size + count]
    return [(kind, payload[at:end]) for kind, (at, end) in zip(kinds, pairwise(places), strict=True)]
