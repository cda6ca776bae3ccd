"""Two values are the same, or the failure says in one sentence what differs, where, and by how much."""
from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from etude.compare import TOLERANCE, assert_same, assert_shape_dtype, assert_tensor, find_difference
from etude.failures import CheckFailure

X = torch.tensor([[1.0, -2.0], [3.0, 0.25]], dtype=torch.float64)
NAN, INF = math.nan, math.inf


def changed(tensor: torch.Tensor, index: tuple, value: Any) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


SAME = {
    "the same": (X, X),
    "another order of summation": (X + 1e-13, X),
    "another layout": (X.t().contiguous().t(), X),
    "one that requires a gradient": (X.clone().requires_grad_(), X),
    "nothing at all": (torch.empty(0, 3), torch.empty(0, 3)),
    "0 that came out as rounding noise": (torch.tensor([1e-14]).double(), torch.tensor([0.0]).double()),
    "a list for a tuple": ([X, 2], (X, 2)),
    "keys in another order": ({"b": 1, "a": X}, {"a": X, "b": 1}),
    "a float by another order of summation": (0.1 + 0.2, 0.3),
    "a number as a tensor": (torch.tensor(0.5), 0.5),
    "complex numbers": (torch.polar(X.abs(), X) * (1 + 1e-13), torch.polar(X.abs(), X)),
    "float32 within its own precision": (X.float() * (1 + 1e-6), X.float()),
    "bfloat16 within its own precision": (X.bfloat16() * 1.01, X.bfloat16()),
    "None": (None, None), "a bool": (True, True), "a text": ("same", "same"),
}


@pytest.mark.parametrize(("got", "expected"), SAME.values(), ids=SAME)
def test_values_that_are_the_same(got: Any, expected: Any) -> None:
    assert_same(got, expected)


DIFFERENT = {
    "a value": (changed(X, (1, 0), 3.1), X, "output differs at index (1, 0): expected 3, got 3.1."),
    "the seventh digit": (X * (1 + 1e-8), X, "output differs at index (0, 0): expected 1, got 1.00000001."),
    "NaN": (changed(X, (0, 1), NAN), X, "at index (0, 1): expected -2, got nan. It contains 1 NaN among 4 values."),
    "inf": (changed(X, (0, 1), -INF), X, "expected -2, got -inf. It contains 1 inf among 4 values."),
    "a scalar": (torch.tensor(2.0), torch.tensor(1.0), "output differs: expected 1, got 2."),
    "shape": (X[None], X, "output: expected shape (2, 2), got (1, 2, 2)."),
    "what broadcasting would forgive": (X[:1], X[:1].expand(2, 2).contiguous(), "expected shape (2, 2), got (1, 2)."),
    "dtype": (X.float(), X, "output: expected dtype float64, got float32."),
    "bool for float": (X > 0, X, "output: expected dtype float64, got bool."),
    "no tensor": (3.0, X, "output: expected a tensor of shape (2, 2), got 3.0."),
    "None for a tensor": (None, X, "expected a tensor of shape (2, 2), got None."),
    "an index": (torch.tensor([1, 2]), torch.tensor([1, 3]), "at index (1,): expected 3, got 2."),
    "large ints": (torch.tensor([2**62]), torch.tensor([2**62 + 1]), "expected 4611686018427387905, got 4611686018"),
    "a flag": (torch.tensor([True]), torch.tensor([False]), "expected False, got True."),
    "too few": ((X,), (X, X), "output: expected 2 values, got a tuple of 1."),
    "one inside": ((X, X + 1), (X, X), "output[1] differs at index (0, 0): expected 1, got 2."),
    "a tensor for two": (X, (X, X), "output: expected 2 values, got a tensor of shape (2, 2)."),
    "keys": ({"a": X}, {"a": X, "b": X}, "output: expected a dict with the keys ['a', 'b'], got a value of type dict"),
    "in a dict": ({"a": X}, {"a": -X}, "output['a'] differs at index (0, 0): expected -1, got 1."),
    "a number": (2, 1, "output: expected 1, got 2."),
    "a float": (1.001, 1.0, "output: expected 1.0, got 1.001."),
    "a float that is NaN": (NAN, 1.0, "expected 1.0, got nan."),
    "a float that is inf for one that is": (INF, INF, "expected inf, got inf."),
    "many numbers for one": (X, 1.0, "output: expected 1.0, got a tensor of shape (2, 2)."),
    "a tensor for a text": (torch.tensor(1.0), "one", "expected 'one', got a tensor of shape ()."),
    "complex": (torch.tensor([1 + 2j]), torch.tensor([1 - 2j]), "expected 1-2j, got 1+2j."),
    "uint8 that wraps": (torch.tensor([255], dtype=torch.uint8), torch.tensor([0], dtype=torch.uint8), "got 255."),
}


@pytest.mark.parametrize(("got", "expected", "says"), DIFFERENT.values(), ids=DIFFERENT)
def test_values_that_differ_are_told_in_one_sentence(got: Any, expected: Any, says: str) -> None:
    with pytest.raises(CheckFailure) as caught:
        assert_same(got, expected)
    assert says in caught.value.summary and "\n" not in caught.value.summary


def test_the_difference_keeps_what_views_show() -> None:
    got = changed(changed(X, (0, 1), -2.5), (1, 1), NAN)
    with pytest.raises(CheckFailure) as caught:
        assert_same(got, X, "gradient of q")
    difference = caught.value.difference
    assert (difference.where, difference.first_index, difference.wrong_elements) == ("gradient of q", (0, 1), 2)
    assert difference.largest_error == 0.5 and difference.tolerance == pytest.approx(3e-9)
    assert difference.expected is not None and torch.equal(difference.expected, X)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_tolerances_are_relative_to_the_largest_expected_value(dtype: torch.dtype) -> None:
    expected = torch.tensor([64.0, 1.0], dtype=dtype)
    step = 64 * TOLERANCE[dtype]
    assert_same(expected + torch.tensor([0, 0.8 * step], dtype=dtype), expected)
    with pytest.raises(CheckFailure):
        assert_same(expected + torch.tensor([0, 3 * step], dtype=dtype), expected)


def test_a_tolerance_may_be_given_but_none_forgives_nan() -> None:
    assert_same(X * 1.5, X, tolerance=0.5)
    assert_same(X * 100, torch.zeros_like(X), tolerance=INF)
    with pytest.raises(CheckFailure):
        assert_same(changed(X, (0, 0), NAN), X, tolerance=INF)


def test_tiny_expected_values_are_compared_as_if_they_were_larger() -> None:
    tiny = torch.tensor([1e-20], dtype=torch.float64)
    assert find_difference(tiny * 2, tiny, "x", 1e-9) is None
    assert find_difference(tiny + 1e-11, tiny, "x", 1e-9) is not None


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_reference_that_is_not_finite_is_the_courses_mistake_not_the_students(value: float) -> None:
    with pytest.raises(ValueError, match="the check or the reference is wrong"):
        assert_tensor(X, changed(X, (0, 0), value), "output")


def test_a_missing_return_and_a_wrong_dtype_come_with_a_hint() -> None:
    with pytest.raises(CheckFailure) as caught:
        assert_shape_dtype(None, (2,), torch.float64)
    assert "return" in caught.value.hint
    with pytest.raises(CheckFailure) as caught:
        assert_shape_dtype(torch.zeros(2), (2,), torch.float64)
    assert "dtype=x.dtype" in caught.value.hint and str(caught.value).count("\n") == 1


def test_a_long_value_is_named_by_its_type() -> None:
    with pytest.raises(CheckFailure, match="got a value of type str"):
        assert_same("x" * 1000, None)
