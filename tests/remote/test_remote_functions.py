"""A remote function is a function of tensors like any other: values, gradients, layouts, side effects, generators."""
from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from autograder.remote.channel import LocalChannel, Recorder
from autograder.remote.student import RemoteStudent
from etude import executor, wire
from etude.failures import MissingName, StudentError, StudentStopped
from etude.observe import observe
from etude.properties import assert_any_layout, assert_equivalent, assert_pure
from etude.strategies import Cases, normal

SOURCE = """
import math
import torch

def attention(q, k, v):
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v
def moments(x, *, power=2):
    return {"sum": (x ** power).sum(), "positive": x > 0, "count": len(x), "parts": [x.detach() * 2, x * 3]}
def strides(x): return list(x.stride()), x.is_contiguous()
def add_one_(x, bias=None):
    x += 1
    return x.clone() if bias is None else x + bias
def outer(x): return (x[:, None] * x).sum(0)
def draw(generator, n): return torch.randn(n, generator=generator), torch.rand(n, generator=generator)
def same_twice(x):
    y = x * 2
    return y, y
def detached(x): return x.detach() * 2
def nothing(x): return None
def unused(x, y): return x * 2
def empty(x): return x[:0].sum(dim=1), ()
def fails(x):
    raise ValueError(f"{len(x)} rows")
def todo(x): raise NotImplementedError
EPS = 1e-5
TABLE = torch.arange(3)
NAMES = ["a", "b"]
class Running:
    def __init__(self, start, scale=1.0):
        self.total, self.scale = start, scale
    def add(self, x):
        self.total = self.total + self.scale * x
        return self.total
    def __call__(self, x): return self.total * x
def total_of(running): return running.total
class Refusing:
    def __init__(self, n):
        if n < 1: raise ValueError("n must be positive")
"""


@pytest.fixture(params=["sealed", "local"])
def student(request: pytest.FixtureRequest) -> RemoteStudent:
    """The same program in a sealed worker, and in this process as known mistakes are run."""
    if request.param == "sealed":
        return request.getfixturevalue("sealed")(SOURCE)
    return RemoteStudent(LocalChannel([{"label": "cell 1", "source": SOURCE, "mode": "all"}]))


@pytest.fixture
def recorded() -> tuple[RemoteStudent, Recorder]:
    recorder = Recorder(LocalChannel([{"label": "cell 1", "source": SOURCE, "mode": "all"}]))
    return RemoteStudent(recorder), recorder


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v


# ---------------------------------------------------------------------------------------------- gradients

def test_gradcheck_and_gradgradcheck_pass_through_a_sealed_worker(sealed: Callable) -> None:
    student = sealed(SOURCE)
    inputs = [leaf(1, 2, 3, seed=n) for n in range(3)]
    assert gradcheck(student.attention, inputs)
    assert gradgradcheck(student.attention, inputs, nondet_tol=1e-12)


def test_gradcheck_fails_for_a_backward_pass_that_is_wrong(sealed: Callable) -> None:
    wrong = sealed("""
import torch
class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3
    @staticmethod
    def backward(ctx, g): return 2 * ctx.saved_tensors[0] ** 2 * g
def cube(x): return Cube.apply(x)
""")
    assert not gradcheck(wrong.cube, [leaf(2)], raise_exception=False)


def test_values_and_gradients_are_those_of_a_local_function(student: RemoteStudent) -> None:
    spec = Cases(q=normal("B T d"), k=normal("B S d"), v=normal("B S e"))
    for case in spec.corners():
        assert_equivalent(student.attention, reference, case)
    assert_pure(student.attention, case)
    assert_any_layout(student.attention, case)


def test_a_remote_call_can_stand_anywhere_in_a_graph(student: RemoteStudent) -> None:
    x = leaf(3, 3)
    loss = student.attention(x.tanh(), x, (2 * x)[None].expand(2, 3, 3)[1]).pow(2).sum()
    local = reference(x.tanh(), x, 2 * x).pow(2).sum()
    assert torch.allclose(*torch.autograd.grad(loss, x), *torch.autograd.grad(local, x))
    loss = student.attention(x, x, x).sum() + student.outer(x[0]).sum()
    loss.backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_third_derivatives(student: RemoteStudent) -> None:
    x = leaf(1)
    derivative = student.moments(x, power=4)["sum"]
    for expected in (4 * x ** 3, 12 * x ** 2, 24 * x):
        (derivative,) = torch.autograd.grad(derivative, x, create_graph=True)
        assert torch.allclose(derivative, expected)


def test_outputs_that_need_no_gradient_have_none(student: RemoteStudent) -> None:
    result = student.moments(leaf(3))
    assert result["sum"].requires_grad and result["parts"][1].requires_grad and result["count"] == 3
    assert not result["positive"].requires_grad and not result["parts"][0].requires_grad
    assert not student.detached(leaf(2)).requires_grad and student.nothing(leaf(2)) is None
    assert not student.attention(*(leaf(1, 2, 2).detach() for _ in range(3))).requires_grad
    with torch.no_grad():
        assert not student.same_twice(leaf(2))[0].requires_grad


def test_inputs_that_the_output_does_not_depend_on_get_none_or_zero(student: RemoteStudent) -> None:
    x, y = leaf(2), leaf(2)
    assert torch.autograd.grad(student.unused(x, y).sum(), [x, y], allow_unused=True)[1] is None
    student.unused(x, y).sum().backward()
    assert y.grad is None and x.grad.tolist() == [2, 2]


def test_one_tensor_given_or_returned_twice_counts_twice(student: RemoteStudent) -> None:
    x = leaf(2, 2)
    one, two = student.same_twice(x)
    assert torch.autograd.grad((one + 3 * two).sum(), x)[0].eq(8).all()
    (found,) = torch.autograd.grad(student.attention(x, x, x).sum(), x)
    assert torch.allclose(found, torch.autograd.grad(reference(x, x, x).sum(), x)[0])


def test_backward_may_come_twice_and_in_any_order(student: RemoteStudent) -> None:
    x, y = leaf(3, seed=1), leaf(3, seed=2)
    one, two = student.outer(x).sum(), student.outer(y).sum()
    for output, of in ((two, y), (one, x), (two, y)):
        (found,) = torch.autograd.grad(output, of, retain_graph=True)
        assert torch.allclose(found, 2 * of.sum().expand(3))


def test_results_without_tensors_or_of_size_zero_come_through(student: RemoteStudent) -> None:
    first, second = student.empty(leaf(2, 3))
    assert first.shape == (0,) and second == ()


# ---------------------------------------------------------------------------------------------- arguments

@pytest.mark.parametrize("tensor", [torch.zeros(4, 6).t(), torch.zeros(4, 6)[:, ::2], torch.zeros(1, 6).expand(4, 6),
                                    torch.zeros(4, 6, 2)[..., 0], torch.zeros(4, 6)], ids=lambda t: str(t.stride()))
def test_inputs_arrive_with_their_strides(student: RemoteStudent, tensor: torch.Tensor) -> None:
    assert student.strides(tensor) == (list(tensor.stride()), tensor.is_contiguous())
    assert student.strides(tensor.requires_grad_()) == (list(tensor.stride()), tensor.is_contiguous())


def test_edits_in_place_are_seen_by_observe_and_leave_the_callers_tensors_alone(student: RemoteStudent) -> None:
    x, bias = torch.zeros(2), torch.ones(2)
    seen = observe(student.add_one_, x, bias=bias)
    assert [t.tolist() for t in seen.inputs_after] == [[1, 1], [1, 1]] and seen.result.tolist() == [2, 2]
    assert x.tolist() == [0, 0] and observe(student.outer, bias).inputs_after[0].tolist() == [1, 1]


def test_an_audit_measures_in_the_worker(student: RemoteStudent) -> None:
    assert observe(student.outer, torch.ones(7), audit=True).largest == (7, 7)


def test_generators_arrive_by_their_seed(student: RemoteStudent) -> None:
    generator = torch.Generator().manual_seed(2**64 - 5)
    expected = torch.Generator().manual_seed(2**64 - 5)
    normal_values, uniform = torch.randn(4, generator=expected), torch.rand(4, generator=expected)
    for _ in range(2):  # the worker makes its own each time
        one, two = student.draw(generator, 4)
        assert torch.equal(one, normal_values) and torch.equal(two, uniform)


def test_values_of_the_notebook_are_plain_values(student: RemoteStudent) -> None:
    assert student.EPS == 1e-5 and student.TABLE.tolist() == [0, 1, 2] and student.NAMES == ["a", "b"]


# ---------------------------------------------------------------------------------------------- objects, errors

def test_objects_keep_their_state_and_travel_by_handle(student: RemoteStudent) -> None:
    running, other = student.Running(torch.zeros(2), scale=2.0), student.Running(1)
    assert running.add(torch.ones(2)).tolist() == [2, 2] and running.add(torch.ones(2)).tolist() == [4, 4]
    assert student.total_of(running).tolist() == [4, 4] and student.total_of([running, 3][0]).tolist() == [4, 4]
    assert running(3).tolist() == [12, 12] and other.add(4) == 5


def test_gradients_flow_through_methods(student: RemoteStudent) -> None:
    x = leaf(2)
    student.Running(0.0, scale=3.0).add(x).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_what_the_students_code_raises_is_a_student_error_with_its_place(student: RemoteStudent) -> None:
    for argument in (torch.ones(2), leaf(2)):
        with pytest.raises(StudentError) as caught:
            student.fails(argument)
        assert (caught.value.type_name, caught.value.message) == ("ValueError", "2 rows")
        line = SOURCE[:SOURCE.index("raise ValueError(f")].count("\n") + 1
        assert caught.value.place == f"cell 1, line {line}" and "raise ValueError" in caught.value.line
    with pytest.raises(StudentError, match="n must be positive"):
        student.Refusing(0)
    with pytest.raises(StudentError, match="NotImplementedError"):
        student.todo(1)


def test_a_name_that_is_missing_is_an_attribute_error_too(student: RemoteStudent) -> None:
    with pytest.raises(MissingName, match="defines no `missing`"):
        _ = student.missing
    assert not hasattr(student, "missing") and hasattr(student, "outer") and not hasattr(student, "__wrapped__")
    with pytest.raises(StudentError, match="AttributeError"):
        student.Running(1).missing()


def test_a_name_is_asked_for_once_but_a_tensor_each_time(recorded: Any) -> None:
    student, recorder = recorded
    _ = student.outer, student.outer, student.EPS, student.EPS, student.TABLE, student.TABLE
    assert len(recorder.log) == 4
    recorder.clear()
    assert recorder.log == []


def test_graphs_and_objects_that_nobody_holds_any_more_are_released(recorded: Any) -> None:
    student, recorder = recorded
    runner = recorder.channel._executor
    x = leaf(2)
    kept = student.outer(x)
    for _ in range(300):
        student.outer(x)
        student.Running(1)
    gc.collect()
    student.outer(x.detach())
    freed = [wire.decode(payload) for (kind, payload), _ in recorder.log if kind == executor.FREE]
    assert freed and len(runner.nodes) + len(runner.objects) <= 260
    kept.sum().backward()
    assert x.grad is not None


def test_a_worker_that_is_gone_stops_the_call_and_the_next_has_a_new_one(sealed: Callable) -> None:
    student = sealed("import os\nn = []\ndef f(x):\n    n.append(1)\n    return len(n)\ndef leave(): os._exit(0)")
    assert (student.f(1), student.f(1)) == (1, 2)
    with pytest.raises(StudentStopped, match="ended itself"):
        student.leave()
    assert student.f(1) == 1
