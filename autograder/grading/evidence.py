"""Did the submission call what its exercise forbids? Evidence for staff; it never decides a point.

It is found in two ways: in the text, with its line, and in what runs when the checks' requests are made once more. The
first sees the plain form only. The second also sees what was called under another name, unless the code blinds it:
a process that belongs to the student cannot testify against him.
"""
from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from autograder.grading import call_log, written_calls
from autograder.remote.channel import Channel, RawReply, RawRequest, ask_many, interpret
from etude import wire
from etude.executor import CALL, NEW
from etude.failures import StudentError, StudentStopped

CALLS_OF_EACH = 3
"""Calls of each function that are made once more while calls are noted, which slows every operation."""
MAX_FINDINGS = 20
# What the library's functions are called further down, where the name that was forbidden is gone.
_BENEATH = {"scaled_dot_product_attention": ("scaled_dot_product",), "conv1d": ("convolution",),
            "conv2d": ("convolution",), "conv3d": ("convolution",)}

Program = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Suspect:
    """An exercise that forbids calls, as one submission does it."""

    program: Program
    contract: Sequence[str]
    """The functions and classes that the exercise asks for."""
    forbidden: Sequence[str]


def parser() -> list[dict[str, str]]:
    """The program that finds forbidden names in a text."""
    return [_cell(written_calls)]


def written(channel: Channel, suspects: Mapping[str, Suspect]) -> dict[str, list[str]]:
    """For each exercise, a line for every use of a forbidden name in its text; by a worker that runs `parser()`."""
    requests = [_request("written_calls", [{"label": cell["label"], "source": cell["source"]} for cell in one.program],
                         list(one.contract), list(one.forbidden)) for one in suspects.values()]
    try:
        replies = ask_many(channel, requests)
    except (StudentError, StudentStopped):
        return {}  # the source broke the parser: it breaks the submission, too
    return {exercise: [f"{label}, line {line}: `{text}` stands in the code"
                       for label, line, text in _rows(_result(reply), (str, int, str)) if label != "setup"]
            for exercise, reply in zip(suspects, replies, strict=True)}


def with_log(program: Program) -> list[dict[str, str]]:
    """The program with what notes calls, once `called` asks for it."""
    return [*program, _cell(call_log)]


def called(channel: Channel, forbidden: Sequence[str], requests: Sequence[RawRequest]) -> list[str]:
    """A line for every place of a program `with_log` that calls what is forbidden when asked `requests` again."""
    try:
        replies = ask_many(channel, [_request("etude_log_start"), *requests, _request("etude_log_stop")])
    except (StudentError, StudentStopped):
        return []
    return forbidden_calls(_result(replies[-1]), forbidden)


def forbidden_calls(noted: Any, forbidden: Sequence[str]) -> list[str]:
    """A line for every place at which something forbidden was called, of what `etude_log_stop` gave."""
    places: dict[tuple[str, str], None] = {}
    for name, label, line in _rows(noted, (str, str, int)):
        for rule in forbidden:
            if _is(name, rule):
                places[f"{label}, line {line}", rule] = None
    return [f"{place}: {rule} was called" for place, rule in sorted(places)]


def few(requests: Sequence[RawRequest]) -> list[RawRequest]:
    """Of a log of requests: every construction, and the first calls of each function and method."""
    kept, counts = [], Counter()
    for kind, payload in requests:
        if kind == CALL:
            request = wire.decode(payload)
            target = request.get("name"), request.get("method")
            counts[target] += 1
            if counts[target] > CALLS_OF_EACH:
                continue
        if kind in (CALL, NEW):
            kept.append((kind, payload))
    return kept


def _request(name: str, *args: Any) -> RawRequest:
    return CALL, wire.encode({"name": name, "args": list(args), "kwargs": {}})


def _result(reply: RawReply) -> Any:
    try:
        value = interpret(reply)
    except (StudentError, StudentStopped):
        return None
    return value.get("result") if isinstance(value, dict) else None


@cache
def _cell(module: ModuleType) -> dict[str, str]:
    return {"label": module.__name__, "source": inspect.getsource(module), "mode": "all"}


def _rows(found: Any, types: Sequence[type]) -> Iterable[list]:
    """The rows of what the worker says that are of these types; the rest was made up by whoever owns the worker."""
    for row in found if isinstance(found, list) else []:
        if isinstance(row, list) and [type(part) for part in row] == list(types):
            yield row


def _is(name: str, rule: str) -> bool:
    """Whether a function of this name is what the rule forbids: `scaled_dot_product_attention`, or a class `LSTM`."""
    plain, wanted = name.replace("_", "").lower(), rule.replace("_", "").lower()
    if rule != rule.lower():  # a class: its module calls functions that begin like it
        return plain.removeprefix("native").startswith(wanted)
    return plain == wanted or any(part in name for part in _BENEATH.get(rule, ()))
