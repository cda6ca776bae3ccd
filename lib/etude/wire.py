"""The wire between the grader and a student's worker: frames of tagged binary values.

A frame is a 16-byte header (magic, kind, payload length) and a payload. A payload is one value: None, bool, int,
float, str, bytes, list, tuple, dict with str keys, dtype, generator seed, handle or tensor. Tensors travel as dtype,
shape, strides and raw little-endian bytes. Nothing is ever unpickled or evaluated, and every length is compared
with its bound before memory is taken, because the sender may be hostile.
"""
from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

MAGIC = b"ETU1"
HEADER = struct.Struct("<4sB3xQ")
MAX_NDIM = 8
MAX_DEPTH = 16
MAX_ITEMS = 100_000
MAX_DIM = 1 << 40
MAX_EXPANDED = 1 << 26
"""Bytes that a payload's tensors with strides may stand for: one element that is expanded to many grows when used."""

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128,
)
_DTYPE_CODE = {dtype: code for code, dtype in enumerate(DTYPES)}
_ITEMSIZE = tuple(dtype.itemsize for dtype in DTYPES)
_I64 = struct.Struct("<q")
_U64 = struct.Struct("<Q")
_F64 = struct.Struct("<d")
_U32 = struct.Struct("<I")
_TENSOR = ord("x")
_STR = ord("s")


class WireError(Exception):
    """The bytes are not a well-formed frame or value."""


@dataclass(frozen=True)
class Handle:
    """An object that lives in the worker, named by a number."""

    id: int


@dataclass(frozen=True)
class Seed:
    """A `torch.Generator` by its seed; the receiver makes its own."""

    seed: int


# ---------------------------------------------------------------------------------------------- values to bytes

def encode(value: Any) -> bytes:
    """The payload for one value. Raises `WireError` for a type the wire does not carry."""
    parts: list[bytes] = []
    _encode(value, parts, 0)
    return b"".join(parts)


def _encode(value: Any, out: list[bytes], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise WireError(f"a value nested deeper than {MAX_DEPTH} levels")
    write = _WRITERS.get(type(value))
    if write is None:  # a subclass travels as what it is
        write = next((_WRITERS[kind] for kind in type(value).__mro__ if kind in _WRITERS), None)
        if write is None:
            raise WireError(f"a value of type {type(value).__name__}")
    write(value, out, depth)


def _encode_int(value: int, out: list[bytes], depth: int) -> None:
    if not -(1 << 63) <= value < 1 << 63:
        raise WireError("an integer that does not fit 64 bits")
    out.append(b"i" + _I64.pack(value))


def _encode_str(value: str, out: list[bytes], depth: int) -> None:
    data = value.encode("utf-8", "replace")
    out.append(b"s" + _U32.pack(len(data)) + data)


def _encode_bytes(value: bytes | bytearray, out: list[bytes], depth: int) -> None:
    out.append(b"b" + _U32.pack(len(value)) + value)


def _encode_sequence(value: list | tuple, out: list[bytes], depth: int) -> None:
    out.append((b"l" if isinstance(value, list) else b"t") + _U32.pack(len(value)))
    for item in value:
        _encode(item, out, depth + 1)


def _encode_dict(value: dict, out: list[bytes], depth: int) -> None:
    out.append(b"d" + _U32.pack(len(value)))
    for key, item in value.items():
        if not isinstance(key, str):
            raise WireError(f"a dict key of type {type(key).__name__}; only str keys travel")
        _encode_str(key, out, depth)
        _encode(item, out, depth + 1)


def _encode_dtype(value: torch.dtype, out: list[bytes], depth: int) -> None:
    if value not in _DTYPE_CODE:
        raise WireError(f"dtype {value} does not travel")
    out.append(b"y" + bytes([_DTYPE_CODE[value]]))


def _encode_tensor(tensor: torch.Tensor, out: list[bytes], depth: int) -> None:
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise WireError(f"a {'nested' if tensor.is_nested else str(tensor.layout).removeprefix('torch.')} tensor")
    plain = tensor.detach()
    if type(plain) is not torch.Tensor:  # a subclass could answer these questions with lies; the base class cannot
        plain = plain.as_subclass(torch.Tensor)
    if plain.is_complex() or plain.is_neg():
        plain = plain.resolve_conj().resolve_neg()
    code = _DTYPE_CODE.get(plain.dtype)
    if code is None:
        raise WireError(f"a tensor of dtype {plain.dtype}")
    if plain.device.type != "cpu":
        raise WireError(f"a tensor on {plain.device}; return tensors on the CPU")
    shape = tuple(plain.shape)
    if len(shape) > MAX_NDIM:
        raise WireError(f"a tensor of {len(shape)} dimensions; at most {MAX_NDIM} travel")
    if plain.is_contiguous():
        dims, flat = shape, plain
    else:  # keep the layout: code that assumes contiguous memory must meet memory that is not
        if plain.numel() * plain.itemsize > MAX_EXPANDED:
            raise WireError(f"a tensor of shape {shape} that is not contiguous, too large to travel")
        stride = plain.stride()
        span = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if plain.numel() else 0
        dims, flat = shape + stride, plain.as_strided((span,), (1,))
    if plain.dtype is torch.bfloat16:  # NumPy has none
        flat = flat.view(torch.int16)
    data = flat.numpy().tobytes()
    flags = (1 if len(dims) > len(shape) else 0) | (2 if tensor.requires_grad else 0)
    out.append(bytes((_TENSOR, code, flags, len(shape))) + _DIMS[len(dims)].pack(*dims, len(data)))
    out.append(data)


_WRITERS: dict[type, Callable[[Any, list[bytes], int], None]] = {
    type(None): lambda value, out, depth: out.append(b"N"),
    bool: lambda value, out, depth: out.append(b"T" if value else b"F"),
    torch.Tensor: _encode_tensor,
    int: _encode_int,
    float: lambda value, out, depth: out.append(b"f" + _F64.pack(value)),
    str: _encode_str,
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    list: _encode_sequence,
    tuple: _encode_sequence,
    dict: _encode_dict,
    torch.dtype: _encode_dtype,
    Handle: lambda value, out, depth: out.append(b"h" + _I64.pack(value.id)),
    Seed: lambda value, out, depth: out.append(b"g" + _U64.pack(value.seed)),
    np.bool_: lambda value, out, depth: _encode(value.item(), out, depth),
    np.integer: lambda value, out, depth: _encode_int(value.item(), out, depth),
    np.floating: lambda value, out, depth: _encode(float(value), out, depth),
}


# ---------------------------------------------------------------------------------------------- bytes to values

def decode(payload: bytes | memoryview) -> Any:
    """The value in a payload. Raises `WireError` for anything malformed, oversized or left over."""
    reader = Reader(payload)
    value = reader.value(0)
    if reader.at != len(reader.data):
        raise WireError("bytes left over after the value")
    return value


class Reader:
    """Reads one payload. Tags and struct formats work on the buffer in place: this is the grader's innermost loop."""

    def __init__(self, payload: bytes | memoryview):
        self.data = memoryview(payload)
        self.size = len(self.data)
        self.at = 0
        self.items = 0
        self.expanded = 0

    def skip(self, count: int) -> int:
        """Step over `count` bytes and return where they start; raises `WireError` when there are not so many."""
        start = self.at
        if count > self.size - start:
            raise WireError("the value is cut short")
        self.at = start + count
        return start

    def count(self) -> int:
        count = _U32.unpack_from(self.data, self.skip(4))[0]
        if count > self.size - self.at:
            raise WireError("a length beyond the end of the payload")
        return count

    def raw(self) -> bytes:
        count = self.count()  # that many bytes are there
        start, self.at = self.at, self.at + count
        return bytes(self.data[start:self.at])

    def value(self, depth: int) -> Any:
        self.items += 1
        if depth > MAX_DEPTH or self.items > MAX_ITEMS:
            raise WireError("a value nested too deep or with too many parts")
        if self.at >= self.size:
            raise WireError("the value is cut short")
        read = _READERS.get(self.data[self.at])
        if read is None:
            raise WireError("an unknown tag")
        self.at += 1
        return read(self, depth)

    def integer(self, depth: int) -> int:
        return _I64.unpack_from(self.data, self.skip(8))[0]

    def real(self, depth: int) -> float:
        return _F64.unpack_from(self.data, self.skip(8))[0]

    def text(self, depth: int) -> str:
        return self.raw().decode("utf-8", "replace")

    def sequence(self, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in range(self.count())]

    def mapping(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for _ in range(self.count()):
            self.items += 1
            if self.data[self.skip(1)] != _STR:
                raise WireError("a dict key that is no str")
            key = self.text(depth)
            if key in result:
                raise WireError("a dict key that comes twice")
            result[key] = self.value(depth + 1)
        return result

    def dtype(self) -> int:
        code = self.data[self.skip(1)]
        if code >= len(DTYPES):
            raise WireError(f"unknown dtype code {code}")
        return code

    def tensor(self, depth: int) -> torch.Tensor:
        start = self.skip(3)
        code, flags, ndim = self.data[start:start + 3]
        if code >= len(DTYPES) or ndim > MAX_NDIM or flags > 3:
            raise WireError("a tensor header out of range")
        has_stride = flags & 1
        layout = _DIMS[2 * ndim if has_stride else ndim]
        dims = layout.unpack_from(self.data, self.skip(layout.size))
        shape, stride, length = dims[:ndim], dims[ndim:-1], dims[-1]
        if length != _span(shape, stride if has_stride else None) * _ITEMSIZE[code]:
            raise WireError("a tensor's length is not its shape times its item size")
        if has_stride:
            self.expanded += math.prod(shape) * _ITEMSIZE[code]
            if self.expanded > MAX_EXPANDED:
                raise WireError("an expanded tensor too large to be used")
        start = self.skip(length)
        dtype = DTYPES[code]
        if not length:
            flat = torch.empty(0, dtype=dtype)
        else:
            data = bytearray(self.data[start:start + length])
            if dtype is torch.bool and max(data) > 1:
                raise WireError("a bool that is neither 0 nor 1")
            flat = torch.frombuffer(data, dtype=dtype)
        tensor = flat.as_strided(shape, stride) if has_stride else flat if ndim == 1 else flat.view(shape)
        if flags & 2 and (dtype.is_floating_point or dtype.is_complex):
            tensor.requires_grad_()
        return tensor


def _span(shape: tuple[int, ...], stride: tuple[int, ...] | None) -> int:
    """How many elements of memory a tensor covers; Python's integers do not overflow, so the product is the truth."""
    numel = extent = 1
    for dim in shape:
        numel *= dim
        extent *= dim or 1
        if dim < 0 or extent > MAX_DIM:  # a 0 must not hide a product that overflows in torch
            raise WireError("a tensor dimension out of range")
    if stride is None:
        return numel
    if stride and not 0 <= min(stride) <= max(stride) <= MAX_DIM:
        raise WireError("a tensor stride out of range")
    return 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if numel else 0


_DIMS = tuple(struct.Struct(f"<{count}qQ") for count in range(2 * MAX_NDIM + 1))
_READERS = {
    ord("N"): lambda reader, depth: None,
    ord("T"): lambda reader, depth: True,
    ord("F"): lambda reader, depth: False,
    ord("i"): Reader.integer,
    ord("f"): Reader.real,
    ord("s"): Reader.text,
    ord("b"): lambda reader, depth: reader.raw(),
    ord("l"): Reader.sequence,
    ord("t"): lambda reader, depth: tuple(reader.sequence(depth)),
    ord("d"): Reader.mapping,
    ord("y"): lambda reader, depth: DTYPES[reader.dtype()],
    ord("h"): lambda reader, depth: Handle(reader.integer(depth)),
    ord("g"): lambda reader, depth: Seed(reader.integer(depth) % (1 << 64)),
    ord("x"): Reader.tensor,
}


# ---------------------------------------------------------------------------------------------- frames

def frame(kind: int, payload: bytes) -> bytes:
    """Header and payload, ready to be written."""
    return HEADER.pack(MAGIC, kind, len(payload)) + payload


def parse_header(header: bytes, max_length: int) -> tuple[int, int]:
    """(kind, payload length) of a 16-byte header; raises `WireError` when it is malformed or beyond `max_length`."""
    magic, kind, length = HEADER.unpack(header)
    if magic != MAGIC:
        raise WireError("not a frame: wrong magic bytes")
    if length > max_length:
        raise WireError(f"a frame of {length} bytes; at most {max_length} are accepted here")
    return kind, length


def read_frame(fd: int, max_length: int = 1 << 32) -> tuple[int, bytes] | None:
    """Blocking read of one frame as (kind, payload); None at a clean end of the stream."""
    header = _read_exactly(fd, HEADER.size, at_start=True)
    if header is None:
        return None
    kind, length = parse_header(bytes(header), max_length)
    return kind, bytes(_read_exactly(fd, length) or b"")


def write_frame(fd: int, kind: int, payload: bytes) -> None:
    """Blocking write of one frame."""
    view = memoryview(frame(kind, payload))
    while view:
        view = view[os.write(fd, view):]


def _read_exactly(fd: int, count: int, at_start: bool = False) -> bytearray | None:
    data = bytearray()
    while len(data) < count:
        piece = os.read(fd, min(count - len(data), 1 << 20))
        if not piece:
            if at_start and not data:
                return None
            raise WireError("the stream ended inside a frame")
        data += piece
    return data
