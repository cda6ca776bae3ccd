"""A remote module is an `nn.Module`: whatever works with the student's class in a notebook works with it here."""
from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from autograder.remote.channel import LocalChannel
from autograder.remote.student import RemoteStudent
from etude.cells import load_program
from etude.failures import CheckFailure, StudentError
from etude.observe import observe
from etude.properties import assert_detached, assert_eval_deterministic, assert_state_dict

SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width, hidden=4, bias=True):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, hidden, bias=bias), nn.Linear(hidden, width)])
        self.inner = nn.ModuleDict({"norm": nn.LayerNorm(width)})
        self.scale = nn.Parameter(torch.full((), 0.5))
        self.fixed = nn.Parameter(torch.ones(width), requires_grad=False)
        self.register_buffer("table", torch.arange(3.0))
        self.register_buffer("cache", torch.zeros(2), persistent=False)

    def forward(self, x, *, shift=0.0):
        hidden = torch.tanh(self.layers[0](x))
        return self.inner["norm"](x + self.scale * self.layers[1](hidden)) * self.fixed + shift

    def project(self, x, power=1):
        return self.layers[0](x) ** power

    def settings(self):
        return {"training": self.training, "width": len(self.fixed)}

class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.BatchNorm1d(width, momentum=0.3)
        self.drop = nn.Dropout(0.5)
    def forward(self, x):
        return self.drop(self.norm(x))

class Tied(nn.Module):
    def __init__(self, width, frozen=False):
        super().__init__()
        self.embed = nn.Embedding(width, width)
        self.head = nn.Linear(width, width, bias=False)
        self.head.weight = self.embed.weight
        self.head.weight.requires_grad_(not frozen)
    def forward(self, index):
        return self.head(self.embed(index).tanh())

class Leaky(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.zeros(2))
    def forward(self, x):
        self.mean = 0.5 * self.mean + (x * self.w).mean(0)
        return x * self.w

class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
    def forward(self, x):
        raise RuntimeError("in forward")

def apply(module, x): return module(x)
"""
CELLS = [{"label": "cell 1", "source": SOURCE, "mode": "all"}]


@pytest.fixture(params=["sealed", "local"])
def student(request: pytest.FixtureRequest) -> RemoteStudent:
    if request.param == "sealed":
        return request.getfixturevalue("sealed")(SOURCE)
    return RemoteStudent(LocalChannel(CELLS))


def pair(student: RemoteStudent, name: str, *args: int, **kwargs: object) -> tuple[nn.Module, nn.Module]:
    """A remote module and the same class's local instance, with the same weights."""
    local = load_program(CELLS).namespace[name](*args, **kwargs)
    remote = getattr(student, name)(*args, **kwargs)
    remote.load_state_dict(local.state_dict())
    return remote, local


def x(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same_state(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return list(first) == list(second) and all(torch.allclose(first[key], second[key]) for key in first)


def test_the_state_dict_has_the_keys_of_nested_modules_in_their_order(student: RemoteStudent) -> None:
    remote, local = pair(student, "Block", 3)
    assert list(remote.state_dict()) == list(local.state_dict()) and same_state(remote, local)
    assert [name for name, _ in remote.named_parameters()] == [name for name, _ in local.named_parameters()]
    assert [n for n, _ in remote.named_buffers()] == ["table", "cache"] and "cache" not in remote.state_dict()
    assert_state_dict(remote, {name: value.shape for name, value in local.state_dict().items()})
    assert [n for n, p in remote.named_parameters() if not p.requires_grad] == ["fixed"]
    assert isinstance(remote, nn.Module) and list(student.Block(3, bias=False).state_dict()) != list(local.state_dict())


def test_outputs_and_gradients_are_those_of_the_local_module(student: RemoteStudent) -> None:
    remote, local = pair(student, "Block", 3, hidden=5)
    given, mine = x(4, 3).requires_grad_(), x(4, 3).requires_grad_()
    one, two = remote(given, shift=1.5), local(mine, shift=1.5)
    assert torch.allclose(one, two, atol=1e-6)
    one.square().sum().backward(), two.square().sum().backward()
    assert torch.allclose(given.grad, mine.grad, atol=1e-5)
    for (name, one), (_, two) in zip(remote.named_parameters(), local.named_parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        assert one.grad is None or torch.allclose(one.grad, two.grad, atol=1e-5), name


def test_gradcheck_and_double_backward_pass_through_a_module(student: RemoteStudent) -> None:
    remote = student.Block(2, hidden=2).double()
    inputs = [x(2, 2).double().requires_grad_(), *[p for p in remote.parameters() if p.requires_grad][:2]]
    assert gradcheck(lambda given, *_: remote(given), inputs)
    assert gradgradcheck(lambda given, *_: remote(given), inputs[:1], nondet_tol=1e-12)


def test_an_optimizer_trains_it_as_it_trains_the_local_one(student: RemoteStudent) -> None:
    remote, local = pair(student, "Block", 3)
    for module in (remote, local):
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.05)
        for step in range(4):
            optimizer.zero_grad()
            (module(x(8, 3, seed=step)) - x(8, 3, seed=step) ** 2).square().mean().backward()
            optimizer.step()
    assert same_state(remote, local) and not same_state(remote, student.Block(3))
    assert remote.fixed.tolist() == [1, 1, 1]


def test_running_statistics_follow_in_training_and_rest_in_eval(student: RemoteStudent) -> None:
    remote, local = pair(student, "Norm", 3)
    for step in range(3):
        remote(x(8, 3, seed=step)), local(x(8, 3, seed=step))
    assert same_state(remote, local) and remote.norm.num_batches_tracked == 3
    assert not torch.equal(remote(x(64, 3)), remote(x(64, 3))), "dropout is on in training"
    remote.load_state_dict(local.state_dict())
    remote.eval(), local.eval()
    assert torch.allclose(remote(x(8, 3)), local(x(8, 3)), atol=1e-6) and same_state(remote, local)
    assert_eval_deterministic(remote, x(8, 3))
    assert remote.training


def test_a_buffer_that_keeps_a_graph_shows_it(student: RemoteStudent) -> None:
    leaky, norm = student.Leaky(), student.Norm(3)
    norm(x(4, 3))
    assert_detached(*norm.named_buffers(), *leaky.named_buffers())
    leaky(x(4, 2))
    with pytest.raises(CheckFailure, match="`mean` requires a gradient"):
        assert_detached(*leaky.named_buffers())
    assert leaky(x(4, 2)).shape == (4, 2), "and it can be called again"


def test_buffers_can_be_set_from_here(student: RemoteStudent) -> None:
    norm = student.Norm(2).eval()
    norm.norm.running_mean.fill_(3.0)
    assert torch.allclose(norm(torch.full((1, 2), 3.0)), torch.zeros(1, 2))


def test_other_methods_see_the_same_parameters(student: RemoteStudent) -> None:
    remote, local = pair(student, "Block", 3)
    with torch.no_grad():
        remote.layers._modules["0"].bias.add_(1)
        local.layers[0].bias.add_(1)
    assert torch.allclose(remote.project(x(2, 3), power=2), local.project(x(2, 3), power=2), atol=1e-6)
    remote.project(x(2, 3)).sum().backward()
    assert remote.scale.grad is None and remote.get_parameter("layers.0.bias").grad.tolist() == [2] * 4
    assert remote.eval().settings() == {"training": False, "width": 3}


def test_tied_parameters_are_one_parameter(student: RemoteStudent) -> None:
    remote, local = pair(student, "Tied", 3)
    index = torch.tensor([0, 2, 2])
    assert list(remote.state_dict()) == ["embed.weight", "head.weight"] and len(list(remote.parameters())) == 1
    for module in (remote, local):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            module(index).square().sum().backward()
            optimizer.step()
    assert same_state(remote, local) and remote.embed.weight is remote.head.weight
    assert not any(p.requires_grad for p in student.Tied(3, frozen=True).parameters())


def test_modules_are_independent_of_each_other_and_travel_by_handle(student: RemoteStudent) -> None:
    one, two = student.Block(3), student.Block(3)
    assert not torch.equal(one(x(2, 3)), two(x(2, 3)))
    assert student.apply(one, x(2, 3)).shape == (2, 3)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(x(2, 3)), two(x(2, 3)))


def test_dtype_and_functional_call_work_as_on_any_module(student: RemoteStudent) -> None:
    remote, local = pair(student, "Block", 3)
    assert remote.double()(x(2, 3).double()).dtype is torch.float64 and remote.float()(x(2, 3)).dtype is torch.float32
    state = {name: value * 2 for name, value in local.state_dict().items()}
    assert torch.allclose(torch.func.functional_call(remote, state, (x(2, 3),)),
                          torch.func.functional_call(local, state, (x(2, 3),)), atol=1e-6)


def test_a_module_can_be_observed(student: RemoteStudent) -> None:
    seen = observe(student.Block(3, hidden=50), x(2, 3), audit=True)
    assert seen.result.shape == (2, 3) and seen.largest == (2, 50) and len(seen.inputs_after) == 1


def test_errors_in_a_module_are_the_students(student: RemoteStudent) -> None:
    with pytest.raises(StudentError, match="in forward"):
        student.Wrong()(x(2))
    with pytest.raises(StudentError, match="TypeError"):
        student.Block()
    with pytest.raises(StudentError, match="AttributeError"):
        student.Wrong().no_such_method()
    with pytest.raises(RuntimeError, match="size mismatch"):
        student.Block(3).load_state_dict(student.Block(4).state_dict())
