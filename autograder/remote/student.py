"""The `student` of a check: attributes are remote functions, classes and values of the student's program."""
from __future__ import annotations

import itertools
from typing import Any

import torch

from autograder.remote.channel import Channel, ask
from etude.executor import CALL, DESCRIBE, FREE, KERNEL, NEW, VJP
from etude.failures import MissingName, StudentError, StudentStopped
from etude.observe import Observation, tensors_in
from etude.wire import Handle, Seed


class RemoteStudent:
    """`student.sdpa(q, k, v)`: a call in the worker that returns a real tensor in the local autograd graph."""

    def __init__(self, channel: Channel):
        self._link = Link(channel)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self._find(name)
        if not isinstance(value, torch.Tensor):
            self.__dict__[name] = value  # the next access asks nobody
        return value

    def _find(self, name: str) -> Any:
        try:
            described = _mapping(ask(self._link.channel, DESCRIBE, {"name": name}))
        except MissingName:
            # In the grader's own words: students read them of hidden checks, too, so the worker's must not get there.
            raise MissingName("MissingName", f"the notebook defines no `{name}`") from None
        kind = described.get("kind")
        if kind == "value":
            return described.get("value")
        if kind in ("module", "class"):
            return RemoteClass(self._link, name)
        return RemoteFunction(self._link, {"name": name}, name)


class Link:
    """A channel, the numbering of what lives behind it, and the list of what may be forgotten there."""

    def __init__(self, channel: Channel):
        self.channel = channel
        self._numbers = itertools.count(1)
        self._dead_nodes: list[int] = []
        self._dead_objects: list[int] = []

    def number(self) -> int:
        return next(self._numbers)

    def forget(self, node: int | None = None, handle: int | None = None) -> None:
        """Release a node or object with the next batch; the worker's memory is the student's, so batches are small."""
        if node is not None:
            self._dead_nodes.append(node)
        if handle is not None:
            self._dead_objects.append(handle)

    def request(self, kind: int, request: Any) -> dict:
        if len(self._dead_nodes) + len(self._dead_objects) > 256:
            nodes, self._dead_nodes = self._dead_nodes, []
            objects, self._dead_objects = self._dead_objects, []
            ask(self.channel, FREE, {"nodes": nodes, "objects": objects})
        try:
            return _mapping(ask(self.channel, kind, request))
        except MissingName as error:  # only a question for a name can find it missing; this is an error of that name
            raise StudentError(error.type_name, error.message, error.place, error.line) from None


class _Node:
    """A graph kept in the worker for backward; released when the last local tensor that needs it is gone."""

    def __init__(self, link: Link):
        self.link, self.id = link, link.number()

    def __del__(self) -> None:
        self.link.forget(node=self.id)


class RemoteFunction:
    """A callable of the student's program."""

    def __init__(self, link: Link, target: dict[str, Any], name: str, state: Any = None, opaque: int | None = None):
        self._link, self._target, self._state, self._opaque = link, target, state, opaque
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(args, kwargs)["result"]

    def __observe__(self, args: tuple, kwargs: dict, audit: bool) -> Observation:
        reply = self._call(args, kwargs, echo=True, audit=audit)
        after, largest = reply.get("inputs_after"), reply.get("largest", [])
        if not isinstance(after, list) or any(type(one) is not torch.Tensor for one in after):
            raise StudentStopped("the worker sent an incomplete reply")
        if not isinstance(largest, list) or not all(type(dim) is int for dim in largest):
            raise StudentStopped("the worker sent an incomplete reply")
        return Observation(reply["result"], after, tuple(largest))

    def __kernel__(self, request: dict) -> dict:
        """The reply to a call of `etude.kernels.launching`."""
        return self._link.request(KERNEL, {**self._target, **request})

    def __opaque__(self, place: int) -> RemoteFunction:
        return RemoteFunction(self._link, self._target, self.__name__, self._state, opaque=place)

    def _call(self, args: tuple, kwargs: dict, **options: bool) -> dict:
        state = self._state() if self._state else None
        request = {**self._target, "args": list(args), "kwargs": kwargs, **options}
        if self._opaque is not None:
            kept = RemoteObject(self._link, self._link.number(), self.__name__)
            request["keep"] = [self._opaque, Handle(kept._handle)]
        if state is not None:
            request["state"] = state
        request = _sendable(request)
        inputs = list(tensors_in((state["params"] if state else (), request["args"], request["kwargs"])))
        reply, tensors = _remote(self._link, CALL, request, inputs)
        result = _refilled(reply.get("result"), iter(tensors))
        if self._opaque is not None and isinstance(result, (list, tuple)) and self._opaque < len(result):
            result = type(result)(kept if i == self._opaque else part for i, part in enumerate(result))
        return {**reply, "result": result}


class RemoteClass:
    """A class of the student's program; calling it makes an instance in the worker."""

    def __init__(self, link: Link, name: str):
        self._link, self.__name__ = link, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        handle = self._link.number()
        reply = self._link.request(NEW, {"name": self.__name__, "handle": Handle(handle),
                                         "args": list(_sendable(args)), "kwargs": _sendable(kwargs)})
        if "params" in reply:
            from autograder.remote.module import RemoteModule
            return RemoteModule(self._link, handle, self.__name__, reply)
        return RemoteObject(self._link, handle, self.__name__)


class RemoteObject:
    """An object in the worker that is no module; its methods are remote functions."""

    def __init__(self, link: Link, handle: int, name: str):
        self._link, self._handle, self._name = link, handle, name

    def __getattr__(self, method: str) -> RemoteFunction:
        if method.startswith("__"):
            raise AttributeError(method)
        return RemoteFunction(self._link, {"handle": Handle(self._handle), "method": method},
                              f"{self._name}.{method}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return RemoteFunction(self._link, {"handle": Handle(self._handle), "method": "__call__"}, self._name)(
            *args, **kwargs)

    def __del__(self) -> None:
        self._link.forget(handle=self._handle)


# ---------------------------------------------------------------------------------------------- autograd

def _remote(link: Link, kind: int, request: dict, inputs: list[torch.Tensor]) -> tuple[dict, list[torch.Tensor]]:
    """Send a request; (reply, the tensors of its result), joined to `inputs` in the autograd graph if need be."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        call = _RemoteCall(link, kind, request)
        outputs = _RemoteNode.apply(call, *inputs)
        return call.reply, list(outputs)
    with torch.no_grad():
        reply = link.request(kind, request)
    return reply, [tensor.detach() for tensor in tensors_in(reply.get("result"))]


class _RemoteCall:
    """What one node of the graph needs to know about its request; autograd passes it through untouched."""

    def __init__(self, link: Link, kind: int, request: dict):
        self.link, self.kind, self.request = link, kind, request
        self.node = _Node(link)
        self.reply: dict = {}


class _RemoteNode(torch.autograd.Function):
    """A call in the worker as one node of the local graph; its backward asks the worker for the vjp."""

    @staticmethod
    def forward(ctx: Any, call: _RemoteCall, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        call.reply = call.link.request(call.kind, {**call.request, "node": call.node.id})
        received = list(tensors_in(call.reply.get("result")))
        outputs = [tensor.detach() for tensor in received]
        ctx.mark_non_differentiable(*[output for output, tensor in zip(outputs, received, strict=True)
                                      if not tensor.requires_grad])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        ctx.call = call
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[Any, ...]:
        call, inputs = ctx.call, ctx.saved_tensors
        wanted = [tensor.requires_grad for tensor in inputs]
        request = {"of": call.node.id, "cotangents": list(cotangents), "create_graph": torch.is_grad_enabled()}
        sources = [t for t, need in zip(inputs, wanted, strict=True) if need]
        sources += [cotangent for cotangent in cotangents if cotangent is not None]
        reply, tensors = _remote(call.link, VJP, request, sources)
        grads = iter(_checked_grads(_refilled(reply.get("result"), iter(tensors)), inputs, wanted))
        return (None, *(next(grads) if need else None for need in wanted))


def _checked_grads(grads: Any, inputs: tuple, wanted: list[bool]) -> list[torch.Tensor | None]:
    """The worker's gradients, refused unless they are one tensor or None for each input, of its shape and dtype."""
    expected = [tensor for tensor, need in zip(inputs, wanted, strict=True) if need]
    if isinstance(grads, list) and not grads:
        return [None] * len(expected)
    if not isinstance(grads, list) or len(grads) != len(expected):
        raise StudentStopped("the worker sent a wrong number of gradients")
    for grad, tensor in zip(grads, expected, strict=True):
        if grad is not None and not isinstance(grad, torch.Tensor):
            raise StudentStopped("the worker sent a gradient that is no tensor")
        if grad is not None and (grad.shape != tensor.shape or grad.dtype != tensor.dtype):
            raise StudentError("RuntimeError", f"backward gave a gradient of shape {tuple(grad.shape)} and dtype "
                               f"{grad.dtype} for an input of shape {tuple(tensor.shape)} and {tensor.dtype}")
    return grads


# ---------------------------------------------------------------------------------------------- trees

def _sendable(tree: Any) -> Any:
    """Arguments as the wire carries them: a generator becomes its seed, a remote object its handle."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(_sendable(item) for item in tree)
    if isinstance(tree, dict):
        return {key: _sendable(item) for key, item in tree.items()}
    if isinstance(tree, torch.Generator):
        return Seed(tree.initial_seed())
    handle = getattr(tree, "_handle", None)
    return Handle(handle) if isinstance(handle, int) else tree


def _refilled(tree: Any, tensors: Any) -> Any:
    """The tree with its tensors replaced, in order, by those of the autograd graph."""
    if isinstance(tree, torch.Tensor):
        return next(tensors)
    if isinstance(tree, (list, tuple)):
        return type(tree)(_refilled(item, tensors) for item in tree)
    if isinstance(tree, dict):
        return {key: _refilled(item, tensors) for key, item in tree.items()}
    return tree


def _mapping(value: Any) -> dict:
    if not isinstance(value, dict):
        raise StudentStopped("the worker sent a reply of the wrong form")
    return value
