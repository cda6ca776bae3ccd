"""Every assertion of `etude.properties` accepts right code, however it is written, and catches its mutants."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from softmaxes import (
    RIGHT,
    as_if_contiguous,
    counting,
    detached,
    double_always,
    in_place,
    mean_of_the_batch_taken_off,
    no_graph,
    one_dimension_more,
    over_the_batch,
    power_ignored,
    random,
    refuses_strides,
    single_inside,
    slightly_off,
    softmax,
    sometimes_a_pair,
    unshifted,
    with_nan,
    wrong_backward,
)
from torch import Tensor

from etude.failures import CheckFailure
from etude.properties import (
    assert_any_layout,
    assert_batch_independent,
    assert_equivalent,
    assert_finite_at,
    assert_gradient_consistent,
    assert_invariant,
    assert_no_larger,
    assert_pure,
    assert_shape,
    gradients,
)
from etude.strategies import Case, Cases, computed, normal, value_of

SPEC = Cases(x=normal("B T"), w=normal("T"), power=value_of("power"), sizes={"power": (1, 3)})


def cases(**fields: Any) -> list[Case]:
    """A plain case and what is unlike it in seed and layout."""
    return [SPEC.case({"B": 3, "T": 4, "power": 2}, seed=seed, layout=layout, **fields)
            for seed, layout in enumerate(("contiguous", "strided", "expanded"))]


def refused(assertion: Callable[..., Any], function: Callable, *more: Any, **options: Any) -> str:
    """The summary of the failure in the first case that is refused; empty when all are accepted."""
    for case in cases(**options.pop("fields", {})):
        try:
            assertion(function, *more, case, **options) if more and callable(more[0]) else assertion(
                function, case, *more, **options)
        except CheckFailure as failure:
            assert failure.summary and "\n" not in failure.summary
            return failure.summary
    return ""


# ---------------------------------------------------------------------------------------------- U1, U3: equivalence

@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("function", RIGHT)
def test_right_code_is_equivalent_in_every_dtype(function: Callable, dtype: torch.dtype) -> None:
    assert refused(assert_equivalent, function, softmax, fields={"dtype": dtype}) == ""


@pytest.mark.parametrize(("function", "says"), [
    (detached, "gradient of w differs"), (no_graph, "gradient of x differs"), (wrong_backward, "gradient of x differs"),
    (over_the_batch, "output differs"), (power_ignored, "output differs"), (slightly_off, "output differs"),
    (single_inside, "output differs"), (one_dimension_more, "expected shape"), (with_nan, "1 NaN"),
    (random, "output differs"), (as_if_contiguous, "output differs"),
])
def test_a_mutant_is_not_equivalent(function: Callable, says: str) -> None:
    if function is as_if_contiguous:  # strided reads what lies between; expanded reads beyond
        case = SPEC.case({"B": 3, "T": 4, "power": 2}, layout="strided")
        with pytest.raises(CheckFailure, match=says):
            assert_equivalent(function, softmax, case)
    else:
        assert says in refused(assert_equivalent, function, softmax)


def test_without_gradients_only_values_are_compared() -> None:
    assert refused(assert_equivalent, detached, softmax, grad=False) == ""
    assert "output differs" in refused(assert_equivalent, power_ignored, softmax, grad=False)


@pytest.mark.parametrize(("function", "says"), [(double_always, "dtype"), (power_ignored, "output differs"),
                                                (one_dimension_more, "shape"), (with_nan, "NaN")])
def test_a_mutant_is_not_as_accurate_in_float32(function: Callable, says: str) -> None:
    assert says in refused(assert_equivalent, function, softmax, fields={"dtype": torch.float32})


def test_in_half_precision_sums_in_half_precision_are_refused_where_the_reference_has_none() -> None:
    spec = Cases(x=normal("N", shift=3.0))

    def running_sum(x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=x.dtype)
        for value in x:
            total = total + value
        return total
    case = spec.case({"N": 3000}, dtype=torch.float16)
    assert_equivalent(lambda x: x.float().sum().half(), torch.sum, case)
    with pytest.raises(CheckFailure):
        assert_equivalent(running_sum, torch.sum, case)


def test_another_number_of_outputs_is_refused() -> None:
    def two(x: Tensor, w: Tensor, power: int) -> tuple[Tensor, Tensor]:
        return softmax(x, w, power), w
    assert "expected 2 values" in refused(assert_equivalent, softmax, two)
    assert "expected 2 tensors, got 1" in refused(assert_equivalent, softmax, two, fields={"dtype": torch.float32})
    assert refused(assert_equivalent, two, two) == ""


def test_the_reference_is_computed_once_for_a_case_but_a_lambda_each_time() -> None:
    calls = []

    def counted(x: Tensor, w: Tensor, power: int) -> Tensor:
        calls.append(1)
        return softmax(x, w, power)
    counted.__qualname__ = "counted"
    (case, *_) = cases()
    for _ in range(3):
        assert_equivalent(softmax, counted, case)
    assert len(calls) == 1
    for factor in (1.0, 2.0):  # both lambdas have one name
        assert_equivalent(lambda *a, f=factor: f * softmax(*a), lambda *a, f=factor: f * softmax(*a), case)


def test_gradients_of_what_needs_none_are_zero() -> None:
    (case, *_) = cases()
    _, found = gradients(lambda x, w, power: w * 2, case)
    assert found[0].abs().sum() == 0 and found[1].abs().sum() > 0
    assert [g.abs().sum() for g in gradients(lambda x, w, power: 3, case)[1]] == [0, 0]


# ---------------------------------------------------------------------------------------------- U1, U2, U4

def test_shape_and_dtype() -> None:
    (case, *_) = cases()
    assert torch.equal(assert_shape(softmax, case, 3, 4), softmax(*case.arguments().values()))
    assert_shape(lambda *a: softmax(*a) > 0, case, 3, 4, dtype=torch.bool)
    assert_shape(softmax, case.but(dtype=torch.float32), 3, 4)
    for wrong, options in ((one_dimension_more, {}), (lambda *a: None, {}), (softmax, {"dtype": torch.float32})):
        with pytest.raises(CheckFailure):
            assert_shape(wrong, case, 3, 4, **options)
    with pytest.raises(CheckFailure, match="dtype"):
        assert_shape(double_always, case.but(dtype=torch.float32), 3, 4)


@pytest.mark.parametrize("function", [*RIGHT, with_nan, power_ignored])
def test_pure_functions_are_pure_whatever_they_compute(function: Callable) -> None:
    assert refused(assert_pure, function) == ""


@pytest.mark.parametrize(("function", "says"), [
    (in_place, "input `w` was changed"), (counting, "a second call"), (sometimes_a_pair, "a second call"),
    (random, "a second call"), (lambda x, w, power: x.t_() + 1 if x.stride(0) == 4 else x, "input `x` was changed"),
])
def test_an_impure_mutant_is_caught(function: Callable, says: str) -> None:
    assert says in refused(assert_pure, function)


@pytest.mark.parametrize("function", [*RIGHT, power_ignored, over_the_batch, lambda x, w, power: (x.abs(), w ** 3, 7)])
def test_gradients_that_belong_to_the_values_are_consistent(function: Callable) -> None:
    assert refused(assert_gradient_consistent, function) == ""


@pytest.mark.parametrize("function", [detached, no_graph, wrong_backward, lambda x, w, power: (x, (w * w).detach())])
def test_gradients_of_something_else_are_caught(function: Callable) -> None:
    assert "does not belong to the values" in refused(assert_gradient_consistent, function)


# ---------------------------------------------------------------------------------------------- U5, U6, U8

@pytest.mark.parametrize("function", RIGHT)
def test_elements_of_a_batch_are_independent(function: Callable) -> None:
    assert refused(assert_batch_independent, function, "x") == ""


@pytest.mark.parametrize("function", [over_the_batch, mean_of_the_batch_taken_off])
def test_a_batch_that_is_mixed_is_caught(function: Callable) -> None:
    assert "computed alone" in refused(assert_batch_independent, function, "x")


@pytest.mark.parametrize("function", RIGHT)
def test_right_code_takes_any_layout(function: Callable) -> None:
    assert refused(assert_any_layout, function) == ""


def test_code_that_assumes_contiguous_memory_is_caught() -> None:
    (case, *_) = cases()
    with pytest.raises(CheckFailure, match="strided inputs"):
        assert_any_layout(as_if_contiguous, case)
    with pytest.raises(RuntimeError, match="view"):  # raised by the student's own code, as the engine reports it
        assert_any_layout(refuses_strides, case)


@pytest.mark.parametrize("function", RIGHT)
def test_large_inputs_stay_finite(function: Callable) -> None:
    assert refused(assert_finite_at, function) == ""


@pytest.mark.parametrize(("function", "says"), [
    (unshifted, "output is not finite for inputs around 1000 in float32"),
    (lambda x, w, power: torch.where(x < 40, x.exp(), x), "gradient of x is not finite"),
])
def test_what_overflows_is_caught(function: Callable, says: str) -> None:
    assert says in refused(assert_finite_at, function)


# ---------------------------------------------------------------------------------------------- the others

def test_an_invariance_that_holds_and_one_that_does_not() -> None:
    (case, *_) = cases()

    def shifted(arguments: dict[str, Any]) -> dict[str, Any]:
        return {**arguments, "x": arguments["x"] + 3.0}
    spec = Cases(x=normal("B T"), w=computed(lambda g, s: torch.ones(())), power=value_of("power")).case(
        {"B": 3, "T": 4, "power": 2})
    assert_invariant(softmax, spec, shifted, "a constant is added")
    with pytest.raises(CheckFailure, match="^the output changes when a constant is added. output differs") as caught:
        assert_invariant(softmax, case, shifted, "a constant is added")
    assert caught.value.difference is not None
    assert_invariant(softmax, case, shifted, "a constant is added", tolerance=10.0)


def test_an_own_result_that_is_not_finite_is_the_students_mistake_not_the_checks() -> None:
    (case, *_) = cases()
    for assertion, more in ((assert_batch_independent, ["x"]), (assert_any_layout, []),
                            (assert_invariant, [lambda arguments: arguments, "nothing changes"])):
        with pytest.raises(CheckFailure, match="output is not finite"):
            assertion(with_nan, case, *more)


def test_no_tensor_may_be_larger_than_agreed() -> None:
    case = Cases(x=normal("N")).case({"N": 30})
    assert_no_larger(lambda x: (x * x).sum(), case, 30, "the contract")
    with pytest.raises(CheckFailure, match=r"creates a tensor of shape \(30, 30\), 900 elements; the contract allows"):
        assert_no_larger(lambda x: (x[:, None] * x).sum(), case, 899, "the contract")
    assert_no_larger(lambda x: (x[:, None] * x).sum(), case, 900, "the contract")
