"""The assertions about modules: keys and shapes, eval mode, buffers that keep no graph."""
from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from etude.failures import CheckFailure
from etude.properties import assert_detached, assert_eval_deterministic, assert_state_dict


class Norm(nn.Module):
    """A running mean, dropout and a layer; right unless told otherwise."""

    def __init__(self, mistake: str = ""):
        super().__init__()
        self.mistake = mistake
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        if self.training or self.mistake == "updates in eval":
            batch = y.mean(0)
            self.mean = 0.9 * self.mean + 0.1 * (batch if self.mistake == "keeps the graph" else batch.detach())
        if self.training or self.mistake == "drops in eval":
            y = nn.functional.dropout(y, 0.5, training=True)
        return y - self.mean


class Written(nn.Module):
    """The same keys and shapes from parameters made by hand, in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.layer = nn.Module()
        self.layer.bias = nn.Parameter(torch.zeros(2))
        self.layer.weight = nn.Parameter(torch.zeros(2, 3))


KEYS = {"layer.weight": (2, 3), "layer.bias": (2,), "mean": (2,)}
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("module", [Norm, Written])
def test_a_state_dict_of_the_contract_is_accepted_however_it_is_made(module: type) -> None:
    assert_state_dict(module(), KEYS)


@pytest.mark.parametrize(("expected", "says"), [
    (KEYS | {"scale": (1,)}, "missing scale."),
    ({"mean": (2,), "layer.weight": (2, 3)}, "Not in the contract: layer.bias."),
    (KEYS | {"layer.weight": (3, 2)}, r"state_dict\['layer.weight'\]: expected shape \(3, 2\), got \(2, 3\)."),
    (KEYS | {"mean": ()}, r"expected shape \(\), got \(2,\)"),
])
def test_another_state_dict_is_told_by_key_and_shape(expected: dict, says: str) -> None:
    with pytest.raises(CheckFailure, match=says):
        assert_state_dict(Norm(), expected)


@pytest.mark.parametrize("module", [Norm(), Norm("keeps the graph"), nn.Linear(3, 2), nn.BatchNorm1d(3),
                                    nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))], ids=lambda m: type(m).__name__)
def test_modules_that_are_still_in_eval_mode_are_accepted_and_back_in_training_afterwards(module: nn.Module) -> None:
    module(X)
    assert_eval_deterministic(module, X)
    assert module.training


@pytest.mark.parametrize(("module", "says"), [
    (Norm("drops in eval"), "two calls with the same input give different outputs"),
    (Norm("updates in eval"), "two calls with the same input"),
    (nn.BatchNorm1d(3, affine=False), ""), (nn.Dropout(0.5), ""),
])
def test_randomness_in_eval_mode_is_caught(module: nn.Module, says: str) -> None:
    if not says:  # PyTorch's own are right until their eval mode is taken from them
        module.eval = lambda: module  # type: ignore[method-assign]
        says = "different outputs|buffer"
    with pytest.raises(CheckFailure, match=says):
        assert_eval_deterministic(module, X)


def test_a_buffer_that_changes_in_eval_mode_without_a_trace_in_the_output_is_caught() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x
    with pytest.raises(CheckFailure, match="the buffer `calls` changed"):
        assert_eval_deterministic(Counting(), X)


def test_a_statistic_that_keeps_a_graph_is_caught() -> None:
    right, wrong = Norm(), Norm("keeps the graph")
    right(X), wrong(X)
    assert_detached(("mean", right.mean), ("x", X))
    assert_detached()
    with pytest.raises(CheckFailure, match="`mean` requires a gradient"):
        assert_detached(("x", X), ("mean", wrong.mean))
