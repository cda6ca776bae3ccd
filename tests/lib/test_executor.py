"""The worker's side by itself: every request gets a reply, and nothing outlives what it is needed for."""
from __future__ import annotations

import gc
import socket
import threading
import weakref
from typing import Any

import pytest
import torch

from etude import batch, executor, wire
from etude.executor import CALL, DESCRIBE, ERROR, FREE, LOAD, MANY, NEW, OK, VJP, Executor
from etude.wire import Handle, Seed

SOURCE = """
import torch
from torch import nn
from collections import namedtuple

def double(x): return x * 2
def cube(x): return x ** 3
def number(): return 3
def nothing(*args): return None
def shout(x):
    print("loud " * 100_000)
    return x
def tree(x): return {"a": x * 2, "b": [x > 0, "text", (None, 1.5)]}
Pair = namedtuple("Pair", "left right")
def pair(x): return Pair(x, x + 1)
def key_of_int(x): return {1: x}
def keep(x, seen=[]):
    seen.append(x)
    return len(seen)
def draw(generator): return torch.randn(3, generator=generator)
def closure(x): return lambda: x
def sparse(): return torch.eye(3).to_sparse()
def meta(): return torch.zeros(3, device="meta")
def endless():
    loop = []
    loop.append(loop)
    return loop
def leave(): raise SystemExit(0)
def todo(): raise NotImplementedError
def big(): return 1 << 70
class Counter:
    def __init__(self, start): self.count = start
    def add(self, n=1):
        self.count += n
        return self.count
class Layer(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.inner = nn.Linear(n, n)
CONSTANT = 7
"""


def loaded(source: str = SOURCE) -> Executor:
    runner = Executor()
    kind, _ = ask(runner, LOAD, {"cells": [{"label": "cell 1", "source": source, "mode": "all"}]})
    assert kind == OK
    return runner


def ask(runner: Executor, kind: int, request: Any) -> tuple[int, Any]:
    kind, payload = runner.handle(kind, wire.encode(request))
    return kind, wire.decode(payload)


def call(runner: Executor, name: str, *args: Any, **more: Any) -> tuple[int, Any]:
    return ask(runner, CALL, {"name": name, "args": list(args), "kwargs": {}, **more})


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_loading_tells_errors_and_the_first_of_what_was_printed() -> None:
    source = "print('hello')\nprint('x' * 10**6)\n1 / 0"
    kind, reply = ask(Executor(), LOAD, {"cells": [{"label": "cell 4", "source": source, "mode": "all"}]})
    assert kind == OK and reply["output"].startswith("hello\nxxx") and len(reply["output"]) == executor.MAX_OUTPUT
    assert reply["errors"] == [{"label": "cell 4", "line": 3, "type": "ZeroDivisionError",
                                "message": "division by zero"}]


@pytest.mark.parametrize(("name", "kind"), [("double", "function"), ("Counter", "class"), ("Layer", "module"),
                                            ("CONSTANT", "value")])
def test_what_a_name_stands_for_is_described(name: str, kind: str) -> None:
    _, reply = ask(loaded(), DESCRIBE, {"name": name})
    assert reply["kind"] == kind and reply.get("value") == (7 if kind == "value" else None)


def test_values_trees_and_named_tuples_travel() -> None:
    runner = loaded()
    _, reply = call(runner, "tree", torch.tensor([1.0, -1.0]))
    assert reply["result"]["a"].tolist() == [2, -2]
    assert reply["result"]["b"][0].tolist() == [True, False] and reply["result"]["b"][1:] == ["text", (None, 1.5)]
    assert type(call(runner, "pair", torch.ones(1))[1]["result"]) is tuple
    assert list(call(runner, "key_of_int", torch.ones(1))[1]["result"]) == ["1"]
    assert call(runner, "number")[1] == {"result": 3} and call(runner, "nothing")[1] == {"result": None}


@pytest.mark.parametrize(("name", "type_name", "says"), [
    ("missing", "MissingName", "defines no `missing`"), ("closure", "TypeError", "a value of type function"),
    ("sparse", "TypeError", "sparse"), ("meta", "TypeError", "meta"), ("big", "TypeError", "64 bits"),
    ("endless", "RecursionError", ""), ("leave", "SystemExit", "0"), ("todo", "NotImplementedError", ""),
])
def test_what_cannot_be_answered_is_an_error_reply(name: str, type_name: str, says: str) -> None:
    runner = loaded()
    kind, reply = call(runner, name, *[torch.ones(1)] * (name == "closure"))
    assert (kind, reply["type"]) == (ERROR, type_name) and says in reply["message"]
    assert call(runner, "number") == (OK, {"result": 3}), "and the executor goes on"


def test_an_error_names_the_students_line() -> None:
    _, reply = call(loaded("def f(x):\n    y = x + 1\n    return y.missing"), "f", torch.ones(2))
    assert (reply["type"], reply["place"], reply["line"]) == ("AttributeError", "cell 1, line 3", "return y.missing")


@pytest.mark.parametrize("body", [
    "__traceback__ = property(lambda self: 1 / 0)", "def __str__(self): raise SystemExit",
    "__class__ = property(leave)", "def __str__(self): return Text('x')", "__cause__ = property(leave)",
])
def test_an_exception_that_fights_back_is_an_error_reply(body: str) -> None:
    source = f"""{SOURCE}
class Text(str):
    def __getitem__(self, key): leave()
class Error(Exception):
    {body}
def fight(): raise Error()
"""
    kind, reply = call(loaded(source), "fight")
    assert (kind, reply["type"]) == (ERROR, "Error")


@pytest.mark.parametrize(("kind", "payload"), [
    (99, b"N"), (CALL, b""), (CALL, b"N"), (CALL, wire.encode({})), (VJP, wire.encode({"of": 5, "cotangents": []})),
    (NEW, wire.encode({"name": "Counter", "args": [], "kwargs": {}, "handle": Handle(1)})), (LOAD, b"N"),
    (CALL, wire.encode({"handle": Handle(9), "method": "add", "args": [], "kwargs": {}})),
    (CALL, wire.encode({"name": "nothing", "args": [Handle(9)], "kwargs": {}})),
], ids=["an unknown kind", "no payload", "no mapping", "an empty one", "no such graph", "a constructor that fails",
        "no cells", "no such object", "an argument that is gone"])
def test_a_request_that_makes_no_sense_is_an_error_reply(kind: int, payload: bytes) -> None:
    reply, answer = loaded().handle(kind, payload)
    assert reply == ERROR and wire.decode(answer)["type"]


def test_before_a_program_is_loaded_every_name_is_missing() -> None:
    assert call(Executor(), "double", 1)[1]["type"] == "MissingName"


def test_a_flood_of_output_is_dropped_and_stdout_is_as_before() -> None:
    out = executor._Capped()
    assert call(loaded(), "shout", 1)[0] == OK
    assert out.write("x" * 10**6) == 10**6 and len(out.getvalue()) == executor.MAX_OUTPUT


def test_seeds_arrive_as_generators_and_requests_keep_their_state() -> None:
    runner = loaded()
    expected = torch.randn(3, generator=torch.Generator().manual_seed(5))
    for _ in range(2):
        assert torch.equal(call(runner, "draw", Seed(5))[1]["result"], expected)
    assert [call(runner, "keep", 1)[1]["result"] for _ in range(3)] == [1, 2, 3]


def test_objects_live_until_they_are_freed() -> None:
    runner = loaded()
    assert ask(runner, NEW, {"name": "Counter", "args": [5], "kwargs": {}, "handle": Handle(1)}) == (OK, {})
    add = {"handle": Handle(1), "method": "add", "args": [], "kwargs": {"n": 2}}
    assert [ask(runner, CALL, add)[1]["result"] for _ in range(2)] == [7, 9]
    gone = weakref.ref(runner.objects[1])
    ask(runner, FREE, {"nodes": [4], "objects": [1, 2]})
    gc.collect()
    assert gone() is None and ask(runner, CALL, add)[0] == ERROR


def test_a_new_module_tells_its_parameters_buffers_and_keys() -> None:
    _, reply = ask(loaded(), NEW, {"name": "Layer", "args": [2], "kwargs": {}, "handle": Handle(1)})
    assert list(reply["params"]) == reply["persistent"] == ["inner.weight", "inner.bias"]
    assert reply["frozen"] == [] and reply["buffers"] == {} == reply["tied"]


# ---------------------------------------------------------------------------------------------- graphs

def test_backward_answers_for_the_graph_that_a_call_left() -> None:
    runner = loaded()
    call(runner, "cube", leaf(1.0, 2.0), node=1)
    request = {"of": 1, "cotangents": [torch.tensor([1.0, 10.0], dtype=torch.float64)], "create_graph": False}
    for _ in range(2):  # the graph is kept: backward may come again
        assert ask(runner, VJP, request)[1]["result"][0].tolist() == [3.0, 120.0]


def test_backward_twice_goes_through_the_first_ones_graph() -> None:
    runner = loaded()
    call(runner, "cube", leaf(2.0), node=1)
    first = {"of": 1, "cotangents": [leaf(1.0)], "create_graph": True, "node": 2}
    assert ask(runner, VJP, first)[1]["result"][0].requires_grad
    second = {"of": 2, "cotangents": [leaf(1.0)], "create_graph": False}
    assert [g.tolist() for g in ask(runner, VJP, second)[1]["result"]] == [[12.0], [12.0]]  # by x, and by the cotangent


def test_a_call_whose_output_needs_no_gradient_leaves_no_graph() -> None:
    runner = loaded()
    call(runner, "double", torch.ones(2), node=1)
    call(runner, "number", node=2)
    assert runner.nodes == {}


def test_freeing_a_graph_releases_its_memory() -> None:
    runner = loaded()
    call(runner, "cube", leaf(1.0), node=1)
    alive = weakref.ref(runner.nodes[1][1][0])
    gc.collect()
    assert alive() is not None
    ask(runner, FREE, {"nodes": [1], "objects": []})
    gc.collect()
    assert alive() is None and runner.nodes == {}


def test_a_replay_that_leaves_no_graph_does_not_find_the_one_of_an_earlier_run() -> None:
    runner = loaded(SOURCE + "\nready = []\ndef sometimes(x):\n    ready.append(1)\n"
                             "    return x * 2 if len(ready) == 1 else x.detach() * 2")
    call(runner, "sometimes", leaf(1.0), node=1)
    call(runner, "sometimes", leaf(1.0), node=1)
    kind, reply = ask(runner, VJP, {"of": 1, "cotangents": [leaf(1.0).detach()], "create_graph": False})
    assert kind == ERROR and reply["type"] == "KeyError"


def test_gradients_are_on_whatever_the_caller_has_switched_off() -> None:
    with torch.no_grad():
        assert call(loaded(), "double", leaf(1.0), node=1)[1]["result"].requires_grad


# ---------------------------------------------------------------------------------------------- many, and a stream

def test_many_requests_travel_together_and_one_that_fails_costs_itself() -> None:
    calls = [{"name": name, "args": [], "kwargs": {}} for name in ("number", "leave", "number")]
    requests = [(CALL, wire.encode(call)) for call in calls]
    kind, reply = loaded().handle(MANY, batch.pack(requests))
    replies = batch.unpack(reply)
    assert kind == OK and [kind for kind, _ in replies] == [OK, ERROR, OK]
    assert wire.decode(replies[2][1]) == {"result": 3}


def test_an_executor_serves_a_stream_until_its_end() -> None:
    here, there = socket.socketpair()
    server = threading.Thread(target=executor.serve, args=(there.fileno(),))
    server.start()
    wire.write_frame(here.fileno(), DESCRIBE, wire.encode({"name": "x"}))
    kind, payload = wire.read_frame(here.fileno())
    here.close()
    server.join(10)
    there.close()
    assert kind == ERROR and wire.decode(payload)["type"] == "MissingName" and not server.is_alive()
