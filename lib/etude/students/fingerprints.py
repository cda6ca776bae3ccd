"""Known mistakes, recognised by what they answer and not by what they are.

A *probe* is one call with fixed arguments, such as a public check makes. What a program answers to it (values,
shapes, gradients, what became of the arguments) is rounded and hashed: its *mark*. The course releases, for each
known mistake, its name locked with the marks that the mistake leaves on two probes. A program that leaves the same
marks opens the lock; nothing else does. Locks are made only from answers that are wrong, so a right program opens none.

The build (`autograder.build.fingerprints`) and the notebook run the same code below. docs/diagnosis.md says why this
gives nothing away.
"""
from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from etude import wire
from etude.cells import Program
from etude.executor import CALL, KERNEL, NEW, OK, VJP, Executor
from etude.observe import tensors_in
from etude.students.findings import Diagnosis
from etude.students.released import FINGERPRINTS_SCHEMA
from etude.students.watch import TimeUp
from etude.wire import Handle, WireError

STEP = {torch.float64: 1e-6, torch.float32: 3e-2}
"""Values are rounded to so many of the tensor's decade: coarse against rounding errors, fine against coincidence."""
FLOOR = 1e-3
"""Tensors all below this are rounded as if this large: a gradient of exactly 0 may come out as 1e-17."""
_DECADE_SHIFT = 0.137
"""Decades do not begin at 1, 2, 5 or 10, where the largest value of a tensor likes to lie."""
PART = "@"
"""The key of what stands for a part of an earlier answer."""
_PAD = 64
_ZEROS = bytes(8)
_INTERRUPTS: dict[str, type[BaseException]] = {"KeyboardInterrupt": KeyboardInterrupt, "TimeUp": TimeUp}


class OtherRules(Exception):
    """The fingerprints were made by another version of Etude: they say nothing to this one."""


# ---------------------------------------------------------------------------------------------- asking

def answers(executor: Executor, probe: Mapping[str, Any]) -> list[Any] | None:
    """What a program answers to the calls of a probe and to their backward passes. None when one of them raised.

    A probe is a list of steps. A step makes an object, `{"new": class, "args", "kwargs"}`, or makes a call, `{"name"}`
    of a function or `{"of": step, "method", "training", "dtype"}` of an object, with "args" and "kwargs"; `{"@": [step,
    ...]}` in them stands for the object of an earlier step or for that part of its result. With "keep", one part of
    the result stays with the program: it is no answer. Or it runs a kernel, `{"kernel": name, "call"}`, of whose reply
    the destinations and what the watch saw count.
    """
    found: list[Any] = []
    results: list[Any] = []
    for number, step in enumerate(probe["steps"]):
        if "kernel" in step:
            results.append(_asked(executor, KERNEL, {"name": step["kernel"], **step["call"]}))
            if results[-1] is None:
                return None
            found += [results[-1]["result"], results[-1]["kinds"]]
            continue
        try:
            request = {key: _put_in(step[key], results) for key in ("args", "kwargs")}
        except (LookupError, TypeError):
            return None
        if "new" in step:
            results.append(_asked(executor, NEW, {"name": step["new"], "handle": Handle(number), **request}))
        else:
            reply = _call(executor, step, number, request, results, found)
            results.append(reply)
        if results[-1] is None:
            return None
    return found


def _call(executor: Executor, step: Mapping[str, Any], number: int, request: dict[str, Any], results: list[Any],
          found: list[Any]) -> Any:
    """Make one call and add what it answers to `found`; the result for later steps, or None when it raised."""
    request |= {"echo": True, "node": number}
    if "name" in step:
        request["name"] = step["name"]
    else:
        made = results[step["of"]]
        request |= {"handle": Handle(step["of"]), "method": step["method"]}
        if "params" in made:
            buffers = {name: _cast(value, step["dtype"]) for name, value in made["buffers"].items()}
            request["state"] = {"params": filled(made["params"], step["dtype"]), "buffers": buffers,
                                "training": step["training"]}
    if "keep" in step:
        request["keep"] = [step["keep"], Handle(number)]
    reply = _asked(executor, CALL, request)
    if reply is None:
        return None
    found += [reply["result"], reply["inputs_after"], reply.get("buffers")]
    outputs = list(tensors_in(reply["result"]))
    if any(output.requires_grad for output in outputs):
        cotangents = [_noise(f"cotangent {i}", output) if output.requires_grad else None
                      for i, output in enumerate(outputs)]
        back = _asked(executor, VJP, {"of": number, "cotangents": cotangents, "create_graph": False})
        found.append("backward raised" if back is None else back["result"])
    return {"result": reply["result"], "kept": "keep" in step}


def _put_in(tree: Any, results: list[Any]) -> Any:
    """The arguments with what earlier steps gave in the place of `{"@": [step, ...]}`."""
    if isinstance(tree, dict) and PART in tree:
        step, *path = tree[PART]
        if not path and ("result" not in results[step] or results[step]["kept"]):
            return Handle(step)
        part = results[step]["result"]
        for key in path:
            part = part[key]
        return _detached(part)
    if isinstance(tree, dict):
        return {key: _put_in(item, results) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_put_in(item, results) for item in tree)
    return tree


def _detached(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.detach()
    if isinstance(tree, dict):
        return {key: _detached(item) for key, item in tree.items()}
    return type(tree)(map(_detached, tree)) if isinstance(tree, (list, tuple)) else tree


def _asked(executor: Executor, kind: int, request: dict[str, Any]) -> Any:
    try:
        payload = wire.encode(request)
    except WireError:
        return None
    status, reply = executor.handle(kind, payload)
    value = wire.decode(reply)
    if status == OK:
        return value
    if value["type"] in _INTERRUPTS:  # an executor makes a reply of everything; these are not the program's own
        raise _INTERRUPTS[value["type"]]
    return None


def filled(params: Mapping[str, torch.Tensor], dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """Parameters with noise for values, the same for the same name and shape; in `dtype` if one is named."""
    return {name: _cast(_noise(name, value), dtype).requires_grad_(value.is_floating_point())
            for name, value in params.items()}


def _cast(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return value.detach().to(dtype) if dtype is not None and value.is_floating_point() else value.detach()


def _noise(name: str, like: torch.Tensor) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(like.shape, generator=generator, dtype=torch.float64) * 0.5).to(like.dtype)


# ---------------------------------------------------------------------------------------------- marks

def mark_of(answer: Any) -> bytes:
    """The hash of an answer: of its structure, shapes and dtypes, and of its values as far as rounding lets them be."""
    found = hashlib.sha256()
    for part in _canonical(answer):
        found.update(part)
    return found.digest()


def _canonical(tree: Any) -> Iterator[bytes]:
    if isinstance(tree, torch.Tensor):
        yield f"tensor {tuple(tree.shape)} {tree.dtype} {tree.requires_grad};".encode()
        yield from _rounded(tree.detach())
    elif isinstance(tree, (list, tuple)):
        yield f"list {len(tree)};".encode()
        for item in tree:
            yield from _canonical(item)
    elif isinstance(tree, dict):
        for key in sorted(tree):
            yield f"key {key};".encode()
            yield from _canonical(tree[key])
    elif isinstance(tree, float):
        yield from _canonical(torch.tensor(tree, dtype=torch.float64))
    else:
        yield f"{type(tree).__name__} {tree!r};".encode()


def _rounded(tensor: torch.Tensor) -> Iterator[bytes]:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        yield tensor.contiguous().to(torch.int64).numpy().tobytes()
    elif tensor.dtype in STEP:
        steps, kinds = in_steps(tensor)
        yield steps.round().to(torch.int64).contiguous().numpy().tobytes()
        yield kinds.contiguous().numpy().tobytes()
    # Values of a smaller dtype differ between machines by more than a step; that it is smaller says enough.


def in_steps(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(values in steps of rounding, 0 where not finite; which values are NaN, +inf or -inf)."""
    finite = torch.isfinite(tensor)
    kinds = torch.isnan(tensor).to(torch.int8) + 2 * torch.isposinf(tensor) + 3 * torch.isneginf(tensor)
    step = STEP[tensor.dtype] * 10.0 ** decade(tensor)
    return torch.where(finite, tensor, 0.0).double() / step, kinds.to(torch.int8)


def decade(tensor: torch.Tensor) -> int:
    """The power of ten that the tensor's largest finite value is rounded by."""
    return math.floor(largest_log(tensor))


def largest_log(tensor: torch.Tensor) -> float:
    """log10 of the largest finite value, shifted; the decade is the whole number below it."""
    finite = tensor[torch.isfinite(tensor)].abs()
    largest = max(float(finite.max()) if finite.numel() else 0.0, FLOOR)
    return math.log10(largest) + _DECADE_SHIFT


# ---------------------------------------------------------------------------------------------- locks

def lock(exercise: str, pair: tuple[int, int], marks: tuple[bytes, bytes], diagnosis: Diagnosis) -> dict[str, Any]:
    """A diagnosis that only the marks open."""
    text = json.dumps([diagnosis.title, diagnosis.hint], ensure_ascii=False).encode()
    plain = _ZEROS + text + b" " * (-len(text) % _PAD)  # its length shall not tell which one it is
    sealed = _xor(plain, _stream(exercise, pair, marks, len(plain)))
    return {"probes": list(pair), "box": base64.b64encode(sealed).decode()}


def unlock(exercise: str, box: Mapping[str, Any], marks: Mapping[int, bytes | None]) -> Diagnosis | None:
    """The diagnosis in a box, if the marks are those that it was locked with."""
    first, second = box["probes"]
    one, other = marks.get(first), marks.get(second)
    if one is None or other is None:
        return None
    sealed = base64.b64decode(box["box"])
    plain = _xor(sealed, _stream(exercise, (first, second), (one, other), len(sealed)))
    if not plain.startswith(_ZEROS):
        return None
    title, hint = json.loads(plain[len(_ZEROS):])
    return Diagnosis(title, hint)


def _stream(exercise: str, pair: tuple[int, int], marks: tuple[bytes, bytes], length: int) -> bytes:
    return hashlib.shake_256(f"etude {exercise} {pair}".encode() + marks[0] + marks[1]).digest(length)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


# ---------------------------------------------------------------------------------------------- looking up

def encode_probe(probe: Mapping[str, Any]) -> str:
    """As it is released: a kernel's buffers are canaries for the most part, so it is worth compressing."""
    return base64.b64encode(zlib.compress(wire.encode(dict(probe)), 9)).decode()


def decode_probe(text: str) -> dict[str, Any]:
    return wire.decode(zlib.decompress(base64.b64decode(text)))


def diagnose(exercise: str, released: Mapping[str, Any], namespace: Mapping[str, Any]) -> Diagnosis | None:
    """The known mistake that the functions in `namespace` make, by the released fingerprints of the exercise.

    Raises `OtherRules`.
    """
    if released and released.get("schema") != FINGERPRINTS_SCHEMA:
        raise OtherRules
    entry = released.get("exercises", {}).get(exercise)
    if not entry or not entry["boxes"]:
        return None
    executor = Executor()
    executor.program = Program(_Module(namespace))  # type: ignore[arg-type]
    marks = {}
    for index, text in entry["probes"].items():
        answer = answers(executor, decode_probe(text))
        marks[int(index)] = None if answer is None else mark_of(answer)
    return next((found for box in entry["boxes"] if (found := unlock(exercise, box, marks))), None)


class _Module:
    """A namespace in the place of the module that an executor has loaded otherwise."""

    def __init__(self, namespace: Mapping[str, Any]):
        self.__dict__ = namespace  # type: ignore[assignment]  # shared, not copied
