"""What a call did besides returning: to its inputs, and how large its tensors grew."""
from __future__ import annotations

from typing import Any

import pytest
import torch

from etude.observe import Observation, observe, tensors_in


def test_an_observed_call_returns_what_the_call_returns() -> None:
    seen = observe(lambda x, factor: x * factor, torch.ones(2), factor=3)
    assert seen.result.tolist() == [3, 3] and [t.tolist() for t in seen.inputs_after] == [[1, 1]]
    assert seen.largest == (), "without an audit nothing is measured"


def test_a_changed_input_is_seen_as_it_is_afterwards() -> None:
    seen = observe(lambda x, y: x.add_(1) + y[0], torch.zeros(2), [torch.ones(2)])
    assert [t.tolist() for t in seen.inputs_after] == [[1, 1], [1, 1]]


@pytest.mark.parametrize(("function", "largest"), [
    (lambda x: (x @ x.T).sum(dim=0), (6, 6)),
    (lambda x: x.T.reshape(-1)[:3] * 2, (2, 6)),
    (lambda x: x.expand(1000, 6, 2)[0] + 1, (6, 2)),
    (lambda x: x[None].expand(50, 6, 2) * 1, (50, 6, 2)),
    (lambda x: torch.softmax(x @ x.T, -1).unflatten(0, (2, 3)), (6, 6)),
    (lambda x: x.sort(dim=0).values.sum(), (6, 2)),
    (lambda x: x.view(3, 4), ()),
    (lambda x: [torch.zeros(5, 5) for _ in range(3)], (5, 5)),
], ids=["an outer product", "a copy by reshape", "views are free", "what an expanded view becomes is not",
        "inside of other functions", "one of several outputs", "nothing made", "several, not their sum"])
def test_an_audit_finds_the_largest_tensor_that_memory_was_taken_for(function: Any, largest: tuple) -> None:
    assert observe(function, torch.randn(6, 2), audit=True).largest == largest


def test_an_audit_looks_into_backward_passes_of_the_function() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad((x[:, None] * x).sum(), x)[0]
    assert observe(function, torch.randn(7), audit=True).largest == (7, 7)


def test_a_function_that_can_observe_itself_is_asked_to() -> None:
    class Remote:
        def __observe__(self, args: tuple, kwargs: dict, audit: bool) -> Observation:
            return Observation((args, kwargs, audit), [], (9,))
    assert observe(Remote(), 1, audit=True, b=2) == Observation(((1,), {"b": 2}, True), [], (9,))


def test_tensors_are_found_in_the_order_of_the_wire() -> None:
    one, two, three, four = (torch.tensor(float(n)) for n in range(4))
    assert list(tensors_in({"z": [one, (two, 3, None)], "a": {"x": three}, "b": "text", "c": four})) == [
        one, two, three, four]
    assert list(tensors_in(5)) == []
