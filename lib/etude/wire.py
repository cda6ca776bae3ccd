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
    if value is None:
        out.append(b"N")
    elif value is True:
        out.append(b"T")
    elif value is False:
        out.append(b"F")
    elif isinstance(value, torch.Tensor):
        _encode_tensor(value, out)
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise WireError("an integer that does not fit 64 bits")
        out.append(b"i" + _I64.pack(value))
    elif isinstance(value, float):
        out.append(b"f" + _F64.pack(value))
    elif isinstance(value, str):
        data = value.encode("utf-8", "replace")
        out.append(b"s" + _U32.pack(len(data)) + data)
    elif isinstance(value, (bytes, bytearray)):
        out.append(b"b" + _U32.pack(len(value)) + bytes(value))
    elif isinstance(value, (list, tuple)):
        out.append((b"l" if isinstance(value, list) else b"t") + _U32.pack(len(value)))
        for item in value:
            _encode(item, out, depth + 1)
    elif isinstance(value, dict):
        out.append(b"d" + _U32.pack(len(value)))
        for key, item in value.items():
            if not isinstance(key, str):
                raise WireError(f"a dict key of type {type(key).__name__}; only str keys travel")
            _encode(key, out, depth + 1)
            _encode(item, out, depth + 1)
    elif isinstance(value, torch.dtype):
        if value not in _DTYPE_CODE:
            raise WireError(f"dtype {value} does not travel")
        out.append(b"y" + bytes([_DTYPE_CODE[value]]))
    elif isinstance(value, Handle):
        out.append(b"h" + _I64.pack(value.id))
    elif isinstance(value, Seed):
        out.append(b"g" + _U64.pack(value.seed))
    elif isinstance(value, (np.bool_, np.integer)):
        _encode(value.item(), out, depth)
    elif isinstance(value, np.floating):
        _encode(float(value), out, depth)
    elif isinstance(value, torch.Size):
        _encode(tuple(value), out, depth)
    else:
        raise WireError(f"a value of type {type(value).__name__}")


def _encode_tensor(tensor: torch.Tensor, out: list[bytes]) -> None:
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise WireError(f"a {'nested' if tensor.is_nested else str(tensor.layout).removeprefix('torch.')} tensor")
    # as_subclass: a Tensor subclass could answer these questions with lies; the base class cannot.
    plain = tensor.detach().as_subclass(torch.Tensor).resolve_conj().resolve_neg()
    code = _DTYPE_CODE.get(plain.dtype)
    if code is None:
        raise WireError(f"a tensor of dtype {plain.dtype}")
    if plain.device.type != "cpu":
        raise WireError(f"a tensor on {plain.device}; return tensors on the CPU")
    if plain.ndim > MAX_NDIM:
        raise WireError(f"a tensor of {plain.ndim} dimensions; at most {MAX_NDIM} travel")
    shape = tuple(plain.shape)
    if plain.is_contiguous():
        stride, flat = (), plain.as_strided((plain.numel(),), (1,))
    else:  # keep the layout: code that assumes contiguous memory must meet memory that is not
        if plain.numel() * plain.itemsize > MAX_EXPANDED:
            raise WireError(f"a tensor of shape {shape} that is not contiguous, too large to travel")
        stride = plain.stride()
        span = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if plain.numel() else 0
        flat = plain.as_strided((span,), (1,))
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    flags = (1 if stride else 0) | (2 if tensor.requires_grad else 0)
    dims = shape + tuple(stride)
    out.append(bytes((_TENSOR, code, flags, len(shape))) + _DIMS[len(dims)].pack(*dims, len(data)))
    out.append(data)


# ---------------------------------------------------------------------------------------------- bytes to values

def decode(payload: bytes | memoryview) -> Any:
    """The value in a payload. Raises `WireError` for anything malformed, oversized or left over."""
    reader = _Reader(payload)
    value = reader.value(0)
    if reader.at != len(reader.data):
        raise WireError("bytes left over after the value")
    return value


class _Reader:
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
        count = self.count()
        start = self.skip(count)
        return bytes(self.data[start:start + count])

    def value(self, depth: int) -> Any:
        self.items += 1
        if depth > MAX_DEPTH or self.items > MAX_ITEMS:
            raise WireError("a value nested too deep or with too many parts")
        read = _READERS.get(self.data[self.skip(1)])
        if read is None:
            raise WireError("an unknown tag")
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
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in result:
                raise WireError("a dict key that is no str, or comes twice")
            result[key] = self.value(depth + 1)
        return result

    def dtype(self) -> int:
        code = self.data[self.skip(1)]
        if code >= len(DTYPES):
            raise WireError(f"unknown dtype code {code}")
        return code

    def tensor(self, depth: int) -> torch.Tensor:
        code = self.dtype()
        start = self.skip(2)
        flags, ndim = self.data[start], self.data[start + 1]
        if ndim > MAX_NDIM or flags > 3:
            raise WireError("a tensor header out of range")
        numbers = 2 * ndim if flags & 1 else ndim
        dims = _DIMS[numbers].unpack_from(self.data, self.skip(8 * numbers + 8))
        shape, stride, length = dims[:ndim], dims[ndim:-1], dims[-1]
        span = _span(shape, stride if flags & 1 else None)
        if length != span * _ITEMSIZE[code]:
            raise WireError("a tensor's length is not its shape times its item size")
        if flags & 1:
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
        tensor = flat.as_strided(shape, stride) if flags & 1 else flat.view(shape)
        if flags & 2 and (dtype.is_floating_point or dtype.is_complex):
            tensor.requires_grad_()
        return tensor


def _span(shape: tuple[int, ...], stride: tuple[int, ...] | None) -> int:
    """How many elements of memory a tensor covers; Python's integers do not overflow, so the product is the truth."""
    numel = extent = 1
    for dim in shape:
        numel, extent = numel * dim, extent * max(dim, 1)
        if not 0 <= dim <= MAX_DIM or extent > MAX_DIM:  # a 0 must not hide a product that overflows in torch
            raise WireError("a tensor dimension out of range")
    if any(not 0 <= step <= MAX_DIM for step in stride or ()):
        raise WireError("a tensor stride out of range")
    if stride is None or not numel:
        return numel
    return 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))


_DIMS = tuple(struct.Struct(f"<{count}qQ") for count in range(2 * MAX_NDIM + 1))
_READERS = {
    ord("N"): lambda reader, depth: None,
    ord("T"): lambda reader, depth: True,
    ord("F"): lambda reader, depth: False,
    ord("i"): _Reader.integer,
    ord("f"): _Reader.real,
    ord("s"): _Reader.text,
    ord("b"): lambda reader, depth: reader.raw(),
    ord("l"): _Reader.sequence,
    ord("t"): lambda reader, depth: tuple(reader.sequence(depth)),
    ord("d"): _Reader.mapping,
    ord("y"): lambda reader, depth: DTYPES[reader.dtype()],
    ord("h"): lambda reader, depth: Handle(reader.integer(depth)),
    ord("g"): lambda reader, depth: Seed(reader.integer(depth) % (1 << 64)),
    ord("x"): _Reader.tensor,
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
