"""Compare what a student's function returned with what was expected: structure, shape, dtype, then values.

Tolerances are relative to the largest expected magnitude, never absolute: in float64 different orders of summation
differ by less than 1e-14, so 1e-9 leaves room for every honest algorithm and for no wrong one.
"""
from __future__ import annotations

from typing import Any

import torch

from etude.failures import CheckFailure, Difference

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2,
             torch.complex128: 1e-9, torch.complex64: 1e-5}
_FLOOR = 1e-3
"""Expected values all below this are compared as if this large: a gradient of exactly 0 may come out as 1e-17."""


def assert_same(got: Any, expected: Any, where: str = "output", *, tolerance: float | None = None) -> None:
    """Raise `CheckFailure` unless `got` has the structure, shapes, dtypes and values of `expected`."""
    if isinstance(expected, torch.Tensor):
        assert_tensor(got, expected, where, tolerance=tolerance)
    elif isinstance(expected, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            raise CheckFailure(f"{where}: expected {len(expected)} values, got {describe(got)}.")
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{index}]", tolerance=tolerance)
    elif isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            raise CheckFailure(f"{where}: expected a dict with the keys {sorted(expected)}, got {describe(got)}.")
        for key, value in expected.items():
            assert_same(got[key], value, f"{where}[{key!r}]", tolerance=tolerance)
    elif not _is_value(got, expected, tolerance):
        raise CheckFailure(f"{where}: expected {expected!r}, got {describe(got)}.")


def _is_value(got: Any, expected: Any, tolerance: float | None) -> bool:
    """Whether `got` is the plain value `expected`; floats, too, may be summed in another order."""
    if isinstance(got, torch.Tensor):
        return got.numel() == 1 and _is_value(got.item(), expected, tolerance)
    if not isinstance(expected, float) or not isinstance(got, (int, float)):
        return got == expected
    relative = TOLERANCE[torch.float64] if tolerance is None else tolerance
    return abs(got - expected) <= relative * max(abs(expected), _FLOOR)


def assert_tensor(got: Any, expected: torch.Tensor, where: str, *, tolerance: float | None = None) -> None:
    """Raise `CheckFailure` unless `got` is a tensor equal to `expected`; NaN and inf are never equal to anything."""
    assert_shape_dtype(got, tuple(expected.shape), expected.dtype, where)
    if not torch.isfinite(expected).all():
        raise ValueError(f"{where}: the expected value is not finite: the check or the reference is wrong")
    got, expected = got.detach(), expected.detach()
    relative = TOLERANCE.get(expected.dtype, 0.0) if tolerance is None else tolerance
    difference = find_difference(got, expected, where, relative)
    if difference:
        raise CheckFailure(_sentence(difference), difference=difference)


def assert_shape_dtype(got: Any, shape: tuple[int, ...], dtype: torch.dtype, where: str = "output") -> None:
    """Raise `CheckFailure` unless `got` is a tensor of this shape and dtype."""
    if not isinstance(got, torch.Tensor):
        raise CheckFailure(f"{where}: expected a tensor of shape {shape}, got {describe(got)}.",
                           hint="Does every path through the function end in a return?" if got is None else "")
    if tuple(got.shape) != shape:
        raise CheckFailure(f"{where}: expected shape {shape}, got {tuple(got.shape)}.")
    if got.dtype != dtype:
        raise CheckFailure(f"{where}: expected dtype {_name(dtype)}, got {_name(got.dtype)}.",
                           hint="The output has the dtype of the input; new tensors take `dtype=x.dtype`.")


def find_difference(got: torch.Tensor, expected: torch.Tensor, where: str, relative: float) -> Difference | None:
    """Where two tensors of one shape and dtype differ by more than `relative` times the largest expected value."""
    if expected.numel() == 0:
        return None
    if not expected.dtype.is_floating_point and not expected.dtype.is_complex:
        wrong, tolerance, errors = got != expected, 0.0, (got.double() - expected.double()).abs()
    else:
        tolerance = relative * max(float(expected.abs().max()), _FLOOR)
        errors = (got - expected).abs()
        wrong = ~(errors <= tolerance)  # negated: a comparison with NaN is False
    if not bool(wrong.any()):
        return None
    finite = errors[torch.isfinite(errors)]
    first = tuple(int(i) for i in wrong.nonzero()[0])
    return Difference(where, expected, got, first, float(finite.max()) if finite.numel() else None, tolerance,
                      int(wrong.sum()), _non_finite(got))


def _sentence(difference: Difference) -> str:
    index = difference.first_index or ()
    at = f" at index {index}" if index else ""
    expected, got = _told_apart(*(tensor[index].item() for tensor in (difference.expected, difference.got)))
    text = f"{difference.where} differs{at}: expected {expected}, got {got}."
    return f"{text} {difference.non_finite}".strip()


def _told_apart(one: Any, other: Any) -> tuple[str, str]:
    """Both numbers with as many digits as it takes to see that they differ."""
    if not isinstance(one, (float, complex)):
        return str(one), str(other)
    return next((texts for texts in ((f"{one:.{n}g}", f"{other:.{n}g}") for n in (6, 12)) if texts[0] != texts[1]),
                (repr(one), repr(other)))


def _non_finite(tensor: torch.Tensor) -> str:
    if not tensor.dtype.is_floating_point:
        return ""
    nans, infs = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
    parts = [f"{count} {name}" for count, name in ((nans, "NaN"), (infs, "inf")) if count]
    return f"It contains {' and '.join(parts)} among {tensor.numel()} values." if parts else ""


def describe(value: Any) -> str:
    """A value in a few words, for a sentence."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"a value of type {type(value).__name__}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
