"""The compute of a submission and nothing else: the calls that its checks make, recorded and made again plainly."""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from autograder.grading.grade import run_unit_checks
from autograder.grading.subjects import GradedSubmission
from autograder.remote.channel import LocalChannel, RawRequest, Recorder
from autograder.solution.material import Material
from autograder.submission.cells import Submission
from etude import wire
from etude.cells import load_program
from etude.executor import CALL, DESCRIBE, FREE, VJP
from etude.observe import tensors_in

Program = Sequence[dict[str, str]]


class Recorded(Recorder):
    """A program in this process that remembers what it was asked, and how long the answers took."""

    def __init__(self, program: Program):
        started = time.process_time()
        super().__init__(LocalChannel(program))
        self.load_seconds = time.process_time() - started
        self.program, self.loaded, self.seconds = program, self.channel.loaded, 0.0

    def raw(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        started = time.process_time()
        reply = super().raw(kind, payload)
        self.seconds += time.process_time() - started
        return reply


def record(material: Material, submission: Submission, exercises: Sequence[str] | None = None) -> list[Recorded]:
    """The channels of one grading in this process, one for each exercise, with every request of its checks.

    The requests that are made again to note forbidden calls are not among them: they are no part of a check.
    """
    channels: list[Recorded] = []

    def opened(program: Program) -> Recorded:
        channels.append(Recorded(program))
        return channels[-1]
    run_unit_checks(material, [GradedSubmission(material, submission, opened, None)], exercises=exercises)
    return channels


class Replay:
    """The calls and backward passes of some requests, ready to be made in a loop.

    Arguments are decoded before: what is left are the student's functions and `torch.autograd.grad`.
    """

    def __init__(self, channels: Sequence[Recorded]):
        self.counts: Counter[str] = Counter()
        self.raised = 0
        """Calls of the last pass that raised."""
        self._steps = [self._steps_of(channel) for channel in channels]

    def run(self) -> float:
        """CPU seconds of one pass."""
        self.raised = 0
        started = time.process_time()
        for steps in self._steps:
            nodes: dict[int, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
            for step in steps:
                step(nodes)
        return time.process_time() - started

    def _steps_of(self, channel: Recorded) -> list[Callable[[dict], None]]:
        namespace = load_program(channel.program).namespace
        steps = []
        for (kind, payload), _ in channel.log:
            request = wire.decode(payload)
            if kind == CALL and request.keys() & {"handle", "state", "keep"} or kind not in (CALL, VJP, FREE, DESCRIBE):
                raise NotImplementedError(f"only functions can be replayed, not a request with {sorted(request)}")
            if kind == CALL:
                self.counts["calls"] += 1
                steps.append(self._call(namespace[request["name"]], request))
            elif kind == VJP:
                self.counts["backward passes"] += 1
                steps.append(_backward(request))
        return steps

    def _call(self, function: Callable, request: dict[str, Any]) -> Callable[[dict], None]:
        args, kwargs, node = request["args"], request["kwargs"], request.get("node")
        inputs = list(tensors_in((args, kwargs)))

        def step(nodes: dict) -> None:
            try:
                result = function(*args, **kwargs)
            except Exception:  # where the contract asks for one
                self.raised += 1
                return
            if node is not None:
                nodes[node] = inputs, list(tensors_in(result))
        return step


def _backward(request: dict[str, Any]) -> Callable[[dict], None]:
    node, of, cotangents, create = request.get("node"), request["of"], request["cotangents"], request["create_graph"]

    def step(nodes: dict) -> None:
        inputs, outputs = nodes[of]
        pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if c is not None and o.requires_grad]
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        if pairs and wanted:
            grads = torch.autograd.grad([o for o, _ in pairs], wanted, [c for _, c in pairs], retain_graph=True,
                                        create_graph=create, allow_unused=True)
            if create and node is not None:
                nodes[node] = [*wanted, *(c for c in cotangents if c is not None)], [g for g in grads if g is not None]
    return step


def wire_seconds(channels: Sequence[Recorded], passes: int = 3) -> float:
    """CPU seconds of one pass over the worker's part of the wire: every request decoded, every reply encoded."""
    replies = [wire.decode(payload) for channel in channels for _, (_, payload) in channel.log]
    requests: list[RawRequest] = [request for channel in channels for request, _ in channel.log]
    started = time.process_time()
    for _ in range(passes):
        for (_, payload), reply in zip(requests, replies, strict=True):
            wire.decode(payload)
            wire.encode(reply)
    return (time.process_time() - started) / passes
