"""Null solutions answer every call without computing anything, in the shapes and dtypes of right answers."""
from __future__ import annotations

import torch

from autograder.grading.nulls import NULLS, NullChannel
from autograder.remote.student import RemoteStudent
from etude.failures import StudentError

SOURCE = """
import torch
def double(x, y=None): return 2 * x
def tree(x): return {"a": [x + 1, (x > 0, 3)], "b": x.sum()}
def fails(x): raise ValueError("no")
N = 5
"""


def student(null: str) -> RemoteStudent:
    return RemoteStudent(NullChannel([{"label": "cell 1", "source": SOURCE, "mode": "all"}], null))


X, Y = torch.tensor([1.0, 2.0]), torch.tensor([7.0, 8.0])


def test_zeros() -> None:
    null = student("zeros")
    assert null.double(X).tolist() == [0, 0]
    result = null.tree(X)
    assert result["a"][0].tolist() == [0, 0] and result["a"][1][0].tolist() == [False, False] and result["a"][1][1] == 3
    assert result["b"].shape == () and result["b"] == 0


def test_the_input_of_the_same_shape_and_dtype_or_zeros() -> None:
    null = student("input")
    assert null.double(X).tolist() == [1, 2] and null.double(X, y=Y).tolist() == [7, 8]
    assert null.double(X, y=Y.double()).tolist() == [1, 2] and null.tree(X)["b"] == 0


def test_the_output_of_the_call_before() -> None:
    null = student("previous output")
    assert [null.double(X).tolist(), null.double(Y).tolist(), null.double(X).tolist()] == [[0, 0], [2, 4], [14, 16]]
    assert null.double(X[:1]).tolist() == [0], "of this shape there was none"


def test_nothing_else_is_replaced_and_no_gradient_flows() -> None:
    for name in NULLS:
        null = student(name)
        assert null.N == 5 and not null.double(X.clone().requires_grad_()).requires_grad
        try:
            null.fails(X)
        except StudentError as error:
            assert error.message == "no"
        else:
            raise AssertionError("the error was lost")
