"""The worker may answer with anything: a check then fails by `StudentStopped` or `StudentError`, and nothing else."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.remote.channel import LocalChannel, RawReply, ask_many, interpret, replies_of
from autograder.remote.student import RemoteStudent
from etude import batch, wire
from etude.executor import CALL, DESCRIBE, ERROR, NEW, OK, VJP
from etude.failures import MissingName, StudentError, StudentStopped
from etude.observe import observe
from etude.properties import assert_equivalent, assert_no_larger, assert_pure
from etude.strategies import Cases, normal

SOURCE = """
import torch
from torch import nn
def f(x): return x * x
def two(x): return x * 2, [x.sum(), 3]
class Layer(nn.Module):
    def __init__(self, n=2):
        super().__init__()
        self.inner = nn.Linear(n, n)
        self.register_buffer("seen", torch.zeros(n))
    def forward(self, x):
        return self.inner(x)
"""
T = torch.ones(2)
REFUSALS = (StudentStopped, StudentError)


class Liar(LocalChannel):
    """Answers truly but for requests of one kind, for which `lie` makes the reply from the true one."""

    def __init__(self, kind: int, lie: Callable[[Any], Any]):
        self._lies_about, self._lie = None, lie
        super().__init__([{"label": "cell 1", "source": SOURCE, "mode": "all"}])
        self._lies_about = kind

    def raw(self, kind: int, payload: bytes) -> RawReply:
        reply = super().raw(kind, payload)
        if kind != self._lies_about:
            return reply
        lie = self._lie(wire.decode(reply[1]))
        return lie if isinstance(lie, RawBytes) else (OK, wire.encode(lie))


class RawBytes(tuple):
    """A reply of a kind and bytes that are sent as they are."""


def without(key: str) -> Callable[[dict], dict]:
    return lambda reply: {name: value for name, value in reply.items() if name != key}


def replaced(**values: Any) -> Callable[[dict], dict]:
    return lambda reply: {**reply, **values}


def use_everything(student: RemoteStudent) -> None:
    """What checks do with functions and modules, gradients of gradients included."""
    x = torch.ones(2, requires_grad=True)
    (grad,) = torch.autograd.grad(student.f(x).sum(), x, create_graph=True)
    grad.sum().backward()
    student.two(x)[0].sum().backward()
    observe(student.f, torch.ones(2), audit=True)
    module = student.Layer()
    module(x).sum().backward()
    module.state_dict()
    case = Cases(x=normal("N")).case({"N": 2})
    assert_pure(student.f, case)
    assert_equivalent(student.f, lambda x: x * x, case)
    assert_no_larger(student.f, case, 100, "the contract")


HUGE = torch.zeros(1).expand(2, 1 << 23)
FORMS = {"nothing": lambda _: None, "a number": lambda _: 3, "a list": lambda _: [T], "a tensor": lambda _: T,
         "a text": lambda _: "text", "no value": lambda _: RawBytes((OK, b"")),
         "random bytes": lambda _: RawBytes((OK, b"x" * 40)), "another kind": lambda _: RawBytes((7, b"N")),
         "an error of no form": lambda _: RawBytes((ERROR, wire.encode([1]))),
         "an error of numbers": lambda _: RawBytes((ERROR, wire.encode({"type": 1, "message": T, "place": None})))}


@pytest.mark.parametrize("kind", [CALL, VJP, NEW], ids=["call", "backward", "construct"])
@pytest.mark.parametrize("lie", FORMS.values(), ids=FORMS)
def test_a_reply_of_the_wrong_form(kind: int, lie: Callable) -> None:
    student = RemoteStudent(Liar(kind, lie))
    with pytest.raises(REFUSALS):
        use_everything(student)


def test_the_true_replies_are_believed() -> None:
    use_everything(RemoteStudent(Liar(0, lambda true: None)))


def test_a_reply_without_a_result_is_that_of_a_function_that_returns_nothing() -> None:
    assert RemoteStudent(Liar(CALL, lambda _: {})).f(T) is None


@pytest.mark.parametrize("lie", FORMS.values(), ids=FORMS)
def test_a_description_of_the_wrong_form(lie: Callable) -> None:
    with pytest.raises(REFUSALS):
        _ = RemoteStudent(Liar(DESCRIBE, lie)).f


GRADIENTS = {
    "none at all": replaced(result=None), "no list": replaced(result=T), "a tuple": replaced(result=(T,)),
    "one too many": replaced(result=[T, T]), "no tensor": replaced(result=[3]), "a text": replaced(result="grad"),
    "another shape": replaced(result=[torch.ones(3)]), "a shape that broadcasts": replaced(result=[torch.ones(1)]),
    "another dtype": replaced(result=[T.double()]), "ints": replaced(result=[T.long()]), "one inside": lambda _: {
        "result": [[T]]}, "a huge one": replaced(result=[HUGE]), "a mapping": replaced(result={"x": T}),
    "no result": without("result"),
}


@pytest.mark.parametrize("lie", GRADIENTS.values(), ids=GRADIENTS)
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_the_wrong_number_shape_or_kind(lie: Callable, create_graph: bool) -> None:
    x = torch.ones(2, requires_grad=True)
    output = RemoteStudent(Liar(VJP, lie)).f(x).sum()
    with pytest.raises(REFUSALS, match="gradient"):
        torch.autograd.grad(output, x, create_graph=create_graph)


def test_no_gradients_and_none_are_honest_answers() -> None:
    for honest in ([], [None]):
        x = torch.ones(2, requires_grad=True)
        output = RemoteStudent(Liar(VJP, replaced(result=honest))).f(x).sum()
        assert torch.autograd.grad(output, x, allow_unused=True) == (None,)


MODULES = {
    "parameters that are no mapping": replaced(params=[T]), "a parameter that is no tensor": replaced(params={"w": 3}),
    "a trained parameter of ints": replaced(params={"w": T.long()}), "parameters that are none": replaced(params=None),
    "buffers that are no mapping": replaced(buffers=T), "no buffers": without("buffers"),
    "a name of a million modules": replaced(params={"a." * 10**6 + "w": T}, tied={}),
    "a buffer of a million modules": replaced(buffers={"a." * 10**6 + "w": T}),
    "tied to what is not there": replaced(tied={"w": "v"}), "tied to a number": replaced(tied={"w": 3}),
    "tied with a name of a million modules": replaced(tied={"a." * 10**6 + "w": "inner.weight"}),
}


@pytest.mark.parametrize("lie", MODULES.values(), ids=MODULES)
def test_a_modules_state_of_the_wrong_form(lie: Callable) -> None:
    with pytest.raises(REFUSALS, match="state|parameter"):
        RemoteStudent(Liar(NEW, lie)).Layer()


@pytest.mark.parametrize("lie", [
    replaced(params={"": T, "forward": T, "_link": T, "a..b": T, "training": T}), replaced(params={"a": T, "a.b": T}),
    replaced(frozen=7), replaced(frozen=[3, "inner.weight"]), replaced(persistent=None), replaced(tied=[T]),
], ids=["odd names", "a parameter that is a module", "frozen by number", "some frozen", "none persistent", "ties"])
def test_a_module_with_odd_names_is_a_module_of_which_a_check_may_ask_anything(lie: Callable) -> None:
    module = RemoteStudent(Liar(NEW, lie)).Layer()
    try:
        module(T)
        module.eval().state_dict()
    except REFUSALS:
        pass
    assert isinstance(module, torch.nn.Module)


@pytest.mark.parametrize("buffers", [None, 3, [T], {"seen": 3}, {"seen": None}])
def test_buffers_of_the_wrong_form_after_a_call(buffers: Any) -> None:
    with pytest.raises(StudentStopped, match="state"):
        RemoteStudent(Liar(CALL, replaced(buffers=buffers))).Layer()(T)


@pytest.mark.parametrize("change", [
    {"inputs_after": None}, {"inputs_after": [3]}, {"inputs_after": T}, {"largest": T}, {"largest": ["1"]},
    {"largest": [float("nan")]}, {"largest": None}, {"largest": [True]},
], ids=repr)
def test_an_observation_of_the_wrong_form(change: dict) -> None:
    with pytest.raises(StudentStopped, match="incomplete"):
        observe(RemoteStudent(Liar(CALL, replaced(**change))).f, T, audit=True)


def test_results_that_stand_for_more_memory_than_was_sent_are_refused() -> None:
    # Nine elements that stand for 9 x 2^60: a cotangent for them would take the grader's memory.
    header = b"x" + bytes((0, 1, 2, 2))
    bomb = header + b"".join(n.to_bytes(8, "little") for n in (1 << 30, 1 << 30, 0, 0, 8)) + bytes(8)
    payload = b"d" + (1).to_bytes(4, "little") + wire.encode("result") + bomb
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(StudentStopped, match="malformed"):
        RemoteStudent(Liar(CALL, lambda _: RawBytes((OK, payload)))).f(x)


def test_an_error_reply_is_cut_to_a_readable_length() -> None:
    reply = wire.encode({key: "x" * 10**6 for key in ("type", "message", "place", "line")})
    with pytest.raises(StudentError) as caught:
        interpret((ERROR, reply))
    assert len(str(caught.value)) < 2_000 and len(caught.value.line) == 500
    with pytest.raises(MissingName):
        interpret((ERROR, wire.encode({"type": "MissingName", "message": "no `f`"})))


TWO = batch.pack([(OK, b"N"), (OK, b"NN")])


@pytest.mark.parametrize("lie", [b"", b"\2\0", b"\2\0\0\0", TWO[:-1], TWO + b"N", b"\xff" * 4 + TWO[4:], batch.pack([]),
                                 batch.pack([(OK, b"N")]), batch.pack([(OK, b"N")] * 3), wire.encode([[OK, b"N"]] * 2)],
                         ids=repr)
def test_replies_to_many_requests_of_the_wrong_number_or_form(lie: bytes) -> None:
    assert replies_of((OK, TWO), 2) == [(OK, b"N"), (OK, b"NN")]
    with pytest.raises(StudentStopped, match="malformed|wrong number"):
        replies_of((OK, lie), 2)


def test_true_replies_to_many_requests_come_back_in_order() -> None:
    channel = LocalChannel([{"label": "cell 1", "source": "a, b = 1, 2", "mode": "all"}])
    replies = ask_many(channel, [(DESCRIBE, wire.encode({"name": name})) for name in ("b", "missing", "a")])
    assert [kind for kind, _ in replies] == [OK, ERROR, OK]
    assert [wire.decode(payload).get("value") for _, payload in replies] == [2, None, 1]


@settings(max_examples=120)
@given(kind=st.sampled_from([DESCRIBE, CALL, VJP, NEW]), data=st.data())
def test_damaged_replies_never_raise_anything_else(kind: int, data: st.DataObject) -> None:
    def damaged(value: Any) -> RawBytes:
        payload = bytearray(wire.encode(value))
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at:at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        return RawBytes((OK, bytes(payload)))
    student = RemoteStudent(Liar(kind, damaged))
    x = torch.ones(2, requires_grad=True)
    try:
        result = student.two(x)
        if isinstance(result, tuple) and isinstance(result[0], torch.Tensor) and result[0].requires_grad:
            result[0].sum().backward()
        student.Layer()(T)
    except REFUSALS:
        pass
    except TypeError as error:  # what was described as a value is none to be called
        assert "not callable" in str(error)
