"""Many frames in one payload: what goes in comes out, and nothing that does not add up is taken apart."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude import batch
from etude.wire import WireError

frames = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=20)


@given(frames)
def test_what_goes_in_comes_out(sent: list[tuple[int, bytes]]) -> None:
    assert batch.unpack(batch.pack(sent)) == sent


@given(frames, st.data())
def test_bytes_that_are_missing_or_too_many_are_refused(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    whole = batch.pack(sent)
    with pytest.raises(WireError):
        batch.unpack(whole[:data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(WireError):
        batch.unpack(whole + data.draw(st.binary(min_size=1, max_size=9)))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_batch_or_an_error(data: bytes) -> None:
    try:
        found = batch.unpack(data)
    except WireError:
        return
    assert batch.pack(found) == data


def test_a_number_of_frames_beyond_the_payload_takes_no_memory() -> None:
    with pytest.raises(WireError, match="table is cut short"):
        batch.unpack(b"\xff\xff\xff\xff" + bytes(100))
