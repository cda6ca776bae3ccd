"""What a value is after the wire: the same value, the same layout, or a `WireError`."""
from __future__ import annotations

import math
import os
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etude import wire
from etude.wire import Handle, Seed, WireError, decode, encode

FLOATING = [dtype for dtype in wire.DTYPES if dtype.is_floating_point or dtype.is_complex]
HUGE = 1 << 40


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Tensors of every dtype, contiguous or transposed, sliced, expanded, with sizes 0 and 1 among them."""
    dtype = draw(st.sampled_from(wire.DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    tensor = (torch.randn(shape, generator=generator) * 3).to(dtype)
    for change in draw(st.lists(st.sampled_from(["permuted", "sliced", "expanded", "diagonal"]), max_size=2)):
        if change == "permuted":
            tensor = tensor.permute(tuple(reversed(range(tensor.ndim))))
        elif change == "sliced" and tensor.ndim:
            tensor = tensor[..., 1::2]
        elif change == "expanded" and tensor.ndim < 6:
            tensor = tensor[None].expand(draw(st.integers(1, 3)), *tensor.shape)
        elif change == "diagonal" and tensor.ndim > 1:
            tensor = tensor.diagonal()
    return tensor.requires_grad_() if dtype in FLOATING and draw(st.booleans()) else tensor


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.text() | st.binary()
    | st.sampled_from(wire.DTYPES) | st.builds(Handle, st.integers(0, 1 << 40))
    | st.builds(Seed, st.integers(0, (1 << 64) - 1)) | tensors(),
    lambda parts: st.lists(parts, max_size=3) | st.lists(parts, max_size=3).map(tuple)
    | st.dictionaries(st.text(), parts, max_size=3), max_leaves=8)


def assert_same(one: object, other: object) -> None:
    """Equal in type and value, tensors in dtype, shape, strides and `requires_grad` too; NaN equals NaN."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape, one.requires_grad) == (other.dtype, other.shape, other.requires_grad)
        assert torch.equal(one, other)
        if not one.is_contiguous():
            assert one.stride() == other.stride()
        assert one.is_contiguous() == other.is_contiguous()
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    else:
        assert one == other or one != one and other != other


@settings(max_examples=150)
@given(value=VALUES)
def test_every_value_comes_back_as_it_went(value: object) -> None:
    assert_same(decode(encode(value)), value)


BASE = torch.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("tensor", [
    BASE.permute(2, 0, 1), BASE[:, ::2], BASE[:1].expand(5, 3, 4), BASE[1:, 2], torch.tensor(3.5),
    torch.tensor(3.5).expand(2, 2), torch.empty(0, 3), torch.empty(3, 0).t(), BASE.as_strided((1, 3), (17, 2)),
    BASE.as_strided((3, 1, 2), (4, 7, 2)), BASE.diagonal(), torch.ones(()).requires_grad_(),
    torch.nn.Parameter(BASE), torch.randn(2, 3).bfloat16().t(), torch.randn(2, 3, dtype=torch.complex64).t(),
], ids=lambda tensor: f"{tuple(tensor.shape)}-{tuple(tensor.stride())}")
def test_layouts_are_kept(tensor: torch.Tensor) -> None:
    back = decode(encode(tensor))
    assert torch.equal(back, tensor) and back.dtype == tensor.dtype and back.requires_grad == tensor.requires_grad
    # Of a dimension of size 1 the stride says nothing, and a tensor that is contiguous for it comes back contiguous.
    assert back.is_contiguous() == tensor.is_contiguous()
    assert [s for n, s in zip(back.shape, back.stride(), strict=True) if n > 1 and tensor.numel()] == [
        s for n, s in zip(tensor.shape, tensor.stride(), strict=True) if n > 1 and tensor.numel()]


def test_lazy_conjugates_and_negatives_come_back_as_what_they_stand_for() -> None:
    lazy = torch.randn(3, dtype=torch.complex64).conj()
    assert torch.equal(decode(encode(lazy)), lazy) and torch.equal(decode(encode(lazy.imag)), lazy.imag)


def test_what_comes_back_shares_no_memory_with_what_was_sent() -> None:
    sent = torch.zeros(3)
    decode(encode(sent)).add_(1)
    assert sent.tolist() == [0, 0, 0]


def test_an_expanded_tensor_travels_as_what_lies_in_memory() -> None:
    assert len(encode(torch.ones(1).expand(10_000))) < 100 < len(encode(torch.ones(10_000)))


class Named(tuple):
    """Stands for a namedtuple."""


@pytest.mark.parametrize(("value", "back"), [
    (np.float32(0.5), 0.5), (np.int16(-3), -3), (np.bool_(True), True), (np.longdouble(0.25), 0.25),
    (torch.Size([2, 3]), (2, 3)), (Named((1, 2)), (1, 2)), (bytearray(b"ab"), b"ab"), ("half \ud800", "half ?"),
])
def test_relatives_of_plain_values_become_plain(value: object, back: object) -> None:
    assert_same(decode(encode(value)), back)


@pytest.mark.parametrize("value", [
    1 << 63, {1: 2}, object(), {1, 2}, 1j, torch.eye(3).to_sparse(), torch.zeros(2, device="meta"),
    torch.zeros([1] * 9), torch.ones(1).expand(1 << 30), torch.uint16, torch.zeros(2, dtype=torch.uint16),
], ids=lambda value: type(value).__name__)
def test_what_the_wire_does_not_carry_is_refused(value: object) -> None:
    with pytest.raises(WireError):
        encode(value)


def test_nesting_is_bounded_on_both_sides_alike() -> None:
    deep: list = []
    for _ in range(wire.MAX_DEPTH):
        deep = [deep]
    assert_same(decode(encode(deep)), deep)
    with pytest.raises(WireError, match="nested"):
        encode([deep])
    with pytest.raises(WireError, match="nested"):
        decode(b"l" + struct.pack("<I", 1) + encode(deep))
    cycle: list = []
    cycle.append(cycle)
    with pytest.raises(WireError, match="nested"):
        encode(cycle)


# ---------------------------------------------------------------------------------------------- hostile payloads

def tensor_bytes(shape: tuple, stride: tuple | None = None, length: int | None = None, data: bytes = b"",
                 code: int = 0, flags: int | None = None, ndim: int | None = None) -> bytes:
    """A tensor's payload with any lie in its header."""
    dims = shape + (stride or ())
    header = struct.pack("<BBB", code, (stride is not None) if flags is None else flags,
                         len(shape) if ndim is None else ndim)
    return b"x" + header + struct.pack(f"<{len(dims)}qQ", *dims, len(data) if length is None else length) + data


ONE = b"\0" * 8
HOSTILE = {
    "nothing at all": b"",
    "an unknown tag": b"?",
    "bytes left over": b"NN",
    "an int that is cut short": b"i\0\0",
    "a str longer than the payload": b"s\xff\xff\xff\xff",
    "a list longer than the payload": b"l\xff\xff\xff\x7fN",
    "a key twice": b"d\2\0\0\0" + encode("a") + b"N" + encode("a") + b"N",
    "a key that is no str": b"d\1\0\0\0NN",
    "an unknown dtype": b"y\x63",
    "a tensor without data": tensor_bytes((3,), length=24),
    "a tensor of half its data": tensor_bytes((3,), length=24, data=ONE),
    "data for another shape": tensor_bytes((3,), data=ONE),
    "a negative dimension": tensor_bytes((-1,), length=0),
    "two negative dimensions": tensor_bytes((-1, -1), data=ONE),
    "a huge dimension": tensor_bytes((1 << 62,), length=1 << 62),
    "a product of 2 to the 64": tensor_bytes((1 << 32, 1 << 32), length=0),
    "a product beyond 64 bits that a zero hides": tensor_bytes((HUGE, HUGE, 0)),
    "the same, zero first": tensor_bytes((0, HUGE, HUGE)),
    "the same, strided": tensor_bytes((HUGE, HUGE, 0), (1, 1, 1)),
    "a length beyond 64 bits": tensor_bytes((HUGE,), length=(1 << 64) - 1),
    "a negative stride": tensor_bytes((2,), (-1,), data=ONE),
    "a stride beyond the data": tensor_bytes((2,), (5,), data=ONE * 2),
    "strides that overflow": tensor_bytes((HUGE, 2), (HUGE, HUGE), data=ONE),
    "one element expanded to 8 TB": tensor_bytes((HUGE,), (0,), data=ONE),
    "one element expanded in 8 dimensions": tensor_bytes((HUGE,) * 8, (0,) * 8, data=ONE),
    "many expanded tensors": b"l" + struct.pack("<I", 9) + tensor_bytes((1 << 20,), (0,), data=ONE) * 9,
    "nine dimensions": tensor_bytes((1,) * 9, data=ONE),
    "a lie about the number of dimensions": tensor_bytes((1,), data=ONE, ndim=8),
    "flags out of range": tensor_bytes((1,), data=ONE, flags=4),
    "an unknown dtype of a tensor": tensor_bytes((1,), data=ONE, code=200),
    "a bool of 2": tensor_bytes((1,), data=b"\2", code=wire.DTYPES.index(torch.bool)),
    "more parts than are allowed": b"l" + struct.pack("<I", 200_000) + b"N" * 200_000,
    "deep nesting": b"l\1\0\0\0" * 100_000 + b"N",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_payload_is_refused_and_takes_no_memory(payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(payload) + 100_000


def test_an_honest_neighbour_of_each_lie_is_accepted() -> None:
    assert decode(tensor_bytes((1,), data=ONE)).tolist() == [0.0]
    assert decode(tensor_bytes((2,), (1,), data=ONE * 2)).tolist() == [0.0, 0.0]
    assert decode(tensor_bytes((1 << 10,), (0,), data=ONE)).shape == (1 << 10,)
    assert decode(tensor_bytes((0, HUGE))).shape == (0, HUGE)
    assert decode(tensor_bytes((1,), data=b"\1", code=wire.DTYPES.index(torch.bool))).tolist() == [True]
    assert decode(b"d\1\0\0\0" + encode("a") + b"N") == {"a": None}


SEEDS = [encode(value) for value in (
    {"result": [torch.randn(2, 3), BASE.permute(2, 0, 1), None, 1.5, "text", b"bytes"], "n": 3},
    (True, Handle(3), Seed(4), torch.bool, torch.tensor([True, False])), [BASE[:1].expand(4, 3, 4)])]


def answers_or_refuses(payload: bytes) -> None:
    try:
        value = decode(payload)
    except WireError:
        return
    assert_same(decode(encode(value)), value)


@settings(max_examples=300)
@given(payload=st.binary(max_size=200))
@example(payload=b"x\0\1\1" + b"\0" * 24)
def test_random_bytes_are_a_value_or_a_wire_error(payload: bytes) -> None:
    answers_or_refuses(payload)


@settings(max_examples=300)
@given(seed=st.sampled_from(SEEDS), data=st.data())
def test_a_damaged_payload_is_a_value_or_a_wire_error(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at:at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        if not damaged:
            break
    answers_or_refuses(bytes(damaged))


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_a_payload_cut_short_anywhere_is_refused(seed: bytes) -> None:
    for length in range(len(seed)):
        with pytest.raises(WireError):
            decode(seed[:length])


def test_numbers_that_no_other_number_equals_survive() -> None:
    back = decode(encode([math.nan, -0.0, math.inf, 5e-324]))
    assert math.isnan(back[0]) and math.copysign(1, back[1]) == -1 and back[2:] == [math.inf, 5e-324]


# ---------------------------------------------------------------------------------------------- frames

def through_a_pipe(data: bytes, **options: int) -> tuple[int, bytes] | None:
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        os.close(writer)
        return wire.read_frame(reader, **options)
    finally:
        os.close(reader)


def test_a_frame_comes_through_a_pipe() -> None:
    reader, writer = os.pipe()
    wire.write_frame(writer, 7, b"payload")
    assert wire.read_frame(reader) == (7, b"payload")
    os.close(writer)
    assert wire.read_frame(reader) is None
    os.close(reader)


def test_a_frame_cut_short_anywhere_is_refused_but_a_clean_end_is_none() -> None:
    whole = wire.frame(7, b"payload")
    assert through_a_pipe(b"") is None and through_a_pipe(whole) == (7, b"payload")
    for length in range(1, len(whole)):
        with pytest.raises(WireError, match="ended inside"):
            through_a_pipe(whole[:length])


def test_a_frame_that_is_none_or_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match="magic"):
        through_a_pipe(b"HTTP/1.1 200 OK.")
    with pytest.raises(WireError, match="at most 3"):
        through_a_pipe(wire.frame(1, b"1234"), max_length=3)
    with pytest.raises(WireError, match="at most"):
        through_a_pipe(wire.HEADER.pack(wire.MAGIC, 1, (1 << 64) - 1))
