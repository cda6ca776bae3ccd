"""Call a destination-passing function on tensors that lie among canaries, under the watch.

The side that checks sends whole buffers; the side that runs makes the tensors, calls the function, and sends the
buffers back. In grading the two are different processes; in a notebook they are one.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from etude.failures import StudentError
from etude.kernels import has_gpu, interpreting, require
from etude.kernels.memory import Place


@dataclass(frozen=True)
class Call:
    """One call, `function(*outputs, *inputs, **settings)`, with the buffers that its tensors lie in."""

    buffers: list[Tensor]
    places: list[Place]
    """One for each buffer, in the order of the arguments."""
    settings: Mapping[str, Any]
    order: int = 0
    """Seed of the order in which programs run."""
    dry: bool = False
    """Nothing is run: the launches are built for a GPU instead. Then the tensors have no memory."""

    def request(self) -> dict[str, Any]:
        """The call as it travels."""
        buffers = [_meta(buffer) if buffer.is_meta else buffer for buffer in self.buffers]
        return {"buffers": buffers, "places": [place.to_dict() for place in self.places],
                "settings": dict(self.settings), "order": self.order, "dry": self.dry}


@dataclass(frozen=True)
class Done:
    """What came of a call."""

    buffers: list[Tensor]
    faults: list[tuple[str, str]]
    """(kind, sentence) as the watch saw it: `read`, `write` or `race`."""
    built: list[dict[str, Any]]
    """The launches of a dry call: kernel, warps, ptx or error."""


def call(function: Callable, wanted: Call) -> Done:
    """Make the call, where the function lives: here, or in its worker."""
    remote = getattr(function, "__kernel__", None)
    reply = remote(wanted.request()) if remote else run(function, wanted.request())
    return _checked(reply, wanted)


def _checked(reply: Any, wanted: Call) -> Done:
    """The reply, if it has the form that it must have; another process may have made it up."""
    from etude.failures import StudentStopped

    try:
        buffers, evidence = reply["buffers"], reply["evidence"]
        faults = [(str(kind), str(said)[:500]) for kind, said in evidence["faults"][:32]]
        built = [{"kernel": str(one["kernel"])[:100], "warps": int(one["warps"]), "ptx": str(one["ptx"]),
                  "error": str(one["error"])[:2000]} for one in evidence["built"][:16]]
        for sent, got in zip(wanted.buffers, buffers, strict=not wanted.dry):
            if type(got) is not Tensor or got.shape != sent.shape or got.dtype != sent.dtype:
                raise ValueError("another buffer came back")
    except (KeyError, TypeError, ValueError) as error:
        raise StudentStopped(f"the worker sent an incomplete reply ({type(error).__name__})") from None
    return Done(list(buffers), faults, built)


def run(function: Callable, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request in this process. Raises what the student's function raised."""
    require()
    places = [Place.from_dict(place) for place in request["places"]]
    if request["dry"]:
        return _dry(function, request, places)
    buffers = [buffer.clone() for buffer in request["buffers"]]
    if not interpreting() and has_gpu():
        return _on_gpu(function, request, places, buffers)
    from etude.kernels.watch import Watch, region_of, watching

    tensors = [place.of(buffer) for place, buffer in zip(places, buffers, strict=True)]
    regions = [region_of(place.name, buffer, place.elements(buffer.numel()).numpy())
               for place, buffer in zip(places, buffers, strict=True)]
    with watching(Watch(regions, request["order"])) as watch:
        _call(function, tensors, request["settings"])
    return _reply(places, buffers, watch.faults, watch.kinds, [])


def _dry(function: Callable, request: Mapping[str, Any], places: Sequence[Place]) -> dict[str, Any]:
    from etude.kernels.build import prepare, ptx_of
    from etude.kernels.ptxas import has_tf32
    from etude.kernels.watch import Watch, watching

    prepare()
    tensors = [torch.empty_strided(place.shape, place.stride, dtype=buffer.dtype, device="meta")
               if buffer.numel() == 0 else place.of(buffer.clone())
               for place, buffer in zip(places, request["buffers"], strict=True)]
    with watching(Watch([], 0, dry=True)) as watch:
        _call(function, tensors, request["settings"])
    seen: dict[str, dict[str, Any]] = {}
    for launch in watch.launches[:16]:
        built = ptx_of(launch)
        seen.setdefault(f"{built['kernel']} {built['warps']} {built['ptx']}", built)
    kinds = ["does not compile"] if any(built["error"] for built in seen.values()) else []
    kinds += ["TF32"] if any(has_tf32(built["ptx"]) for built in seen.values()) else []
    return _reply(places, [], [], kinds, list(seen.values()))


def _on_gpu(function: Callable, request: Mapping[str, Any], places: Sequence[Place], buffers: list[Tensor]
            ) -> dict[str, Any]:
    """On a GPU the canaries alone watch over memory."""
    there = [buffer.cuda() for buffer in buffers]
    _call(function, [place.of(buffer) for place, buffer in zip(places, there, strict=True)], request["settings"])
    torch.cuda.synchronize()
    return _reply(places, [buffer.cpu() for buffer in there], [], [], [])


def _call(function: Callable, tensors: Sequence[Tensor], settings: Mapping[str, Any]) -> None:
    """The student's function; what the interpreter wrapped is taken out of its wrapping."""
    try:
        with torch.no_grad():
            function(*tensors, **settings)
    except Exception as error:
        inner: BaseException = error
        while type(inner).__name__ in ("InterpreterError", "StudentError") and inner.__cause__ is not None:
            inner = inner.__cause__
        if inner is error:
            raise
        if isinstance(error, StudentError):  # a notebook's own function, guarded
            raise StudentError(type(inner).__name__, str(inner)[:500]) from inner
        raise inner from None


def _reply(places: Sequence[Place], buffers: list[Tensor], faults: list, kinds: list[str], built: list
           ) -> dict[str, Any]:
    outputs = [place.of(buffer).clone() for place, buffer in zip(places, buffers, strict=False) if place.output]
    # Known mistakes are recognised by `result` and `kinds`; `evidence` differs between codes that do the same.
    return {"result": outputs, "kinds": kinds, "buffers": buffers,
            "evidence": {"faults": [list(fault) for fault in faults], "built": built}}


def _meta(buffer: Tensor) -> Tensor:
    """What travels in the place of a tensor without memory: its dtype."""
    return torch.empty(0, dtype=buffer.dtype)


def warm_up() -> None:
    """Run and build one small kernel: what Triton puts off until first use, a sealed worker could not do."""
    from etude.kernels import interpret
    from etude.kernels._warm import doubled

    interpret()
    from etude.kernels.build import prepare

    prepare()
    buffers = [torch.zeros(40), torch.ones(40)]
    places = [Place("out", 4, (5,), (1,), True), Place("x", 4, (5,), (1,), False)]
    done = call(doubled, Call(buffers, places, {}))
    assert not done.faults and torch.equal(places[0].of(done.buffers[0]), torch.full((5,), 10.0)), done
    flat = [torch.empty(64, dtype=torch.float16, device="meta")] * 2
    built = call(doubled, Call(flat, [Place(name, 0, (64,), (1,), name == "out") for name in ("out", "x")], {},
                               dry=True)).built
    assert built and not built[0]["error"], built
