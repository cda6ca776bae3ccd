"""The worker's side of the wire: run a student's program, then answer requests about it.

The same executor serves a sealed worker and, in one process, the known mistakes and the reference. It holds no secret
and makes no judgement: it answers with values, and whoever asked decides what they are worth.
"""
from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from etude import batch, wire
from etude.cells import Program, load_program, place_of, type_name
from etude.observe import LargestTensor, tensors_in
from etude.wire import Handle, Seed, WireError

# Requests
LOAD, DESCRIBE, CALL, NEW, VJP, FREE, MANY, KERNEL = range(1, 9)
# Replies
OK, ERROR = 0, 255

MAX_OUTPUT = 8_192


class _Refused(Exception):
    """A request that cannot be answered as asked: the name is missing, or a result does not travel."""

    def __init__(self, type_name: str, message: str):
        super().__init__(message)
        self.type_name = type_name


class Executor:
    """Answers requests; one instance for each program. `alone`: the process is the program's own."""

    def __init__(self, alone: bool = False) -> None:
        self._alone = alone
        self.program: Program | None = None
        self.objects: dict[int, Any] = {}
        self.nodes: dict[int, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        self._handlers: dict[int, Callable[[Any], Any]] = {
            LOAD: self._load, DESCRIBE: self._describe, CALL: self._call, NEW: self._new, VJP: self._vjp,
            FREE: self._free, KERNEL: self._kernel,
        }

    def handle(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        """The reply (kind, payload) to one request. Never raises: whatever the student's code does is a reply."""
        if kind == MANY:
            return OK, batch.pack([self.handle(*request) for request in batch.unpack(payload)])
        try:
            with torch.enable_grad():  # an executor in the grader's own process may be called from a backward pass
                return OK, wire.encode(self._handlers[kind](wire.decode(payload)))
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: only a kill ends a worker
            return ERROR, wire.encode(_described(error))

    # ------------------------------------------------------------------------------------------ requests

    def _load(self, request: dict) -> dict:
        if self.program is not None:
            self._begin_again()
        output = _Capped()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            self.program = load_program(request["cells"], as_main=self._alone)
        errors = [{"label": e.label, "line": e.line, "type": e.type_name, "message": e.message}
                  for e in self.program.errors]
        return {"errors": errors, "output": output.getvalue(), "only_defines": self.program.only_defines}

    def _begin_again(self) -> None:
        """Another program of the same notebook: settings of PyTorch and NumPy as a fresh worker has them."""
        self.objects.clear()
        self.nodes.clear()
        if self._alone:
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
            torch.set_grad_enabled(True)
            torch.default_generator.manual_seed(0)  # torch.manual_seed notes the stack for devices that are not here
            np.random.seed(0)

    def _describe(self, request: dict) -> dict:
        value = self._named(request["name"])
        if isinstance(value, type):
            kind = "module" if issubclass(value, torch.nn.Module) else "class"
        elif callable(value):
            kind = "function"
        else:
            return {"kind": "value", "value": value}
        return {"kind": kind}

    def _call(self, request: dict) -> dict:
        # Numbers are used again, by every check and in replays: no graph of an earlier call may stand in for this one.
        self.nodes.pop(request.get("node"), None)
        args, kwargs = self._received(request["args"]), self._received(request["kwargs"])
        state = request.get("state")
        function = self._target(request, state)
        inputs = list(tensors_in((state["params"] if state else (), request["args"], request["kwargs"])))
        result, largest = self._run(function, args, kwargs, audit=request.get("audit", False))
        if request.get("keep"):
            result = self._without_kept(result, *request["keep"])
        reply: dict[str, Any] = {"result": _travelling(result)}
        if largest is not None:
            reply["largest"] = list(largest)
        if request.get("echo"):
            reply["inputs_after"] = [tensor.detach() for tensor in _sent_tensors(request, args, kwargs)]
        if state is not None:
            module = self.objects[request["handle"].id]
            reply["buffers"] = dict(module.named_buffers())
        self._keep_graph(request.get("node"), inputs, list(tensors_in(reply["result"])))
        return reply

    def _run(self, function: Callable, args: Any, kwargs: Any, audit: bool) -> tuple[Any, tuple | None]:
        with contextlib.redirect_stdout(_Capped()):
            if not audit:
                return function(*args, **kwargs), None
            watch = LargestTensor()
            with watch:
                result = function(*args, **kwargs)
            return result, watch.largest

    def _without_kept(self, result: Any, place: int, handle: Handle) -> Any:
        """The result with None for the part that stays here, under a handle, until it is handed back."""
        if not isinstance(result, (list, tuple)) or place >= len(result):
            return result
        self.objects[handle.id] = result[place]
        return [None if index == place else part for index, part in enumerate(result)]

    def _new(self, request: dict) -> dict:
        instance = self._named(request["name"])(*self._received(request["args"]),
                                                **self._received(request["kwargs"]))
        self.objects[request["handle"].id] = instance
        if not isinstance(instance, torch.nn.Module):
            return {}
        names = {id(p): name for name, p in instance.named_parameters()}
        return {
            "params": {name: p.detach() for name, p in instance.named_parameters()},
            "tied": {name: names[id(p)] for name, p in instance.named_parameters(remove_duplicate=False)
                     if names[id(p)] != name},
            "frozen": [name for name, p in instance.named_parameters() if not p.requires_grad],
            "buffers": dict(instance.named_buffers(remove_duplicate=False)),
            "persistent": list(instance.state_dict()),
        }

    def _vjp(self, request: dict) -> dict:
        self.nodes.pop(request.get("node"), None)
        inputs, outputs = self.nodes[request["of"]]
        cotangents = [self._received(c) for c in request["cotangents"]]
        pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad and c is not None]
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        create_graph = request["create_graph"]
        grads = torch.autograd.grad([o for o, _ in pairs], wanted, [c for _, c in pairs], retain_graph=True,
                                    create_graph=create_graph, allow_unused=True) if pairs and wanted else ()
        if create_graph:
            self._keep_graph(request.get("node"), wanted + [c for c in cotangents if c is not None],
                             [g for g in grads if g is not None])
        return {"result": [None if g is None else g if create_graph else g.detach() for g in grads]}

    def _kernel(self, request: dict) -> dict:
        from etude.kernels.launching import run  # Triton is only where a course has kernels
        with contextlib.redirect_stdout(_Capped()):
            return run(self._named(request["name"]), request)

    def _free(self, request: dict) -> None:
        for node in request["nodes"]:
            self.nodes.pop(node, None)
        for handle in request["objects"]:
            self.objects.pop(handle, None)

    # ------------------------------------------------------------------------------------------ helpers

    def _named(self, name: str) -> Any:
        if self.program is None or name not in self.program.namespace:
            raise _Refused("MissingName", f"the notebook defines no `{name}`")
        return self.program.namespace[name]

    def _target(self, request: dict, state: dict | None) -> Callable:
        if "handle" not in request:
            return self._named(request["name"])
        instance = self.objects[request["handle"].id]
        method = request["method"]
        if state is None:
            return getattr(instance, method)
        return _with_state(instance, method, state)

    def _received(self, tree: Any) -> Any:
        """Handles and seeds in a request become the objects that they stand for."""
        if isinstance(tree, (list, tuple)):
            return type(tree)(self._received(item) for item in tree)
        if isinstance(tree, dict):
            return {key: self._received(item) for key, item in tree.items()}
        if isinstance(tree, Handle):
            return self.objects[tree.id]
        if isinstance(tree, Seed):
            return torch.Generator().manual_seed(tree.seed)
        return tree

    def _keep_graph(self, node: int | None, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> None:
        if node is not None and any(output.requires_grad for output in outputs):
            self.nodes[node] = inputs, outputs


def _sent_tensors(request: dict, args: list, kwargs: dict) -> list[torch.Tensor]:
    """The tensors of the arguments as they are now, without those of objects that were here before."""
    pairs = [*zip(args, request["args"], strict=True),
             *((kwargs[name], sent) for name, sent in request["kwargs"].items())]
    return list(tensors_in([value for value, sent in pairs if not isinstance(sent, Handle)]))


def _with_state(module: torch.nn.Module, method: str, state: dict) -> Callable:
    """`module.method` with the caller's parameters, buffers and mode: the trusted side owns a module's state."""
    module.train(state["training"])
    for name, value in state["buffers"].items():
        owner, _, leaf = name.rpartition(".")
        module.get_submodule(owner)._buffers[leaf] = value

    def call(*args: Any, **kwargs: Any) -> Any:
        if method == "forward":
            return torch.func.functional_call(module, state["params"], args, kwargs)
        return torch.func.functional_call(_Method(module, method), {
            f"module.{name}": value for name, value in state["params"].items()}, args, kwargs)
    return call


class _Method(torch.nn.Module):
    """A module whose forward is a method of another, so that `functional_call` reaches it."""

    def __init__(self, module: torch.nn.Module, method: str):
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.module, self.method)(*args, **kwargs)


def _travelling(result: Any) -> Any:
    """A result as the wire carries it: subclasses and named tuples become their plain selves."""
    if isinstance(result, torch.Tensor):
        return result
    if isinstance(result, (list, tuple)):
        return (list if isinstance(result, list) else tuple)(_travelling(item) for item in result)
    if isinstance(result, dict):
        return {str(key): _travelling(item) for key, item in result.items()}
    if result is None or isinstance(result, (bool, int, float, str, torch.dtype)):
        return result
    raise _Refused("TypeError", f"returned a value of type {type(result).__name__}, which no check expects")


def _described(error: BaseException) -> dict:
    if issubclass(type(error), _Refused):  # not isinstance, which asks the error itself
        return {"type": error.type_name, "message": str(error), "place": "", "line": ""}
    if issubclass(type(error), WireError):
        return {"type": "TypeError", "message": f"returned {error}", "place": "", "line": ""}
    place = place_of(error)
    return {"type": type_name(error)[:80], "message": _message(error),
            "place": f"{place[0]}, line {place[1]}" if place else "", "line": place[2].strip() if place else ""}


def _message(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except BaseException:  # a hostile __str__ is no reason to lose the worker
        return ""


class _Capped(io.StringIO):
    """Keeps the first part of what is printed and drops the rest: a flood costs the student's time, not memory."""

    def write(self, text: str) -> int:
        room = MAX_OUTPUT - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)


def serve(fd: int) -> None:
    """Answer the requests on a stream until it ends. This is the whole life of a sealed worker."""
    executor = Executor(alone=True)
    while True:
        request = wire.read_frame(fd)
        if request is None:
            return
        wire.write_frame(fd, *executor.handle(*request))
