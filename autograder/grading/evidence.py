"""Did the submission call what its exercise forbids? Evidence for staff; it never decides a point.

It is found in two ways: in the text, with its line, and in what runs when the checks' requests are made once more. The
first sees the plain form only. The second also sees what was called under another name, unless the code blinds it:
a process that belongs to the student cannot testify against him.
"""
from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

from autograder.grading import call_log, written_calls
from autograder.remote.channel import Channel, RawRequest, ask, ask_many
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


def find_evidence(open_channel: Callable[[Program], Any], program: Program, contract: Sequence[str],
                  forbidden: Sequence[str], requests: Sequence[RawRequest]) -> list[str]:
    """One line for each forbidden call: where, what, and how it was found.

    `contract` names the functions that the exercise asks for, `requests` are a `few` that its checks ask of them.
    """
    written = _written(open_channel, program, contract, forbidden)
    lines = [f"{place}: `{text}` stands in the code" for place, text in written]
    lines += [f"{place}: {name} was called" for place, name in _called(open_channel, program, forbidden, requests)]
    return lines[:MAX_FINDINGS]


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


def contract_of(source: str) -> list[str]:
    """The functions and classes that a reference cell defines at the top."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in ast.parse(source).body if isinstance(node, kinds)]


def _written(open_channel: Callable[[Program], Any], program: Program, contract: Sequence[str],
             forbidden: Sequence[str]) -> list[tuple[str, str]]:
    cells = [{"label": cell["label"], "source": cell["source"]} for cell in program]
    channel = open_channel([_cell(written_calls)])
    try:
        found = _call(channel, "written_calls", cells, list(contract), list(forbidden))
    except (StudentError, StudentStopped):
        return []  # the source broke the parser: it breaks the submission, too
    finally:
        channel.close()
    return [(f"{label}, line {line}", text) for label, line, text in _rows(found, (str, int, str))
            if label != "setup"]


def _called(open_channel: Callable[[Program], Any], program: Program, forbidden: Sequence[str],
            requests: Sequence[RawRequest]) -> list[tuple[str, str]]:
    channel = open_channel([*program, _cell(call_log)])
    try:
        _call(channel, "etude_log_start")
        ask_many(channel, requests)
        found = _call(channel, "etude_log_stop")
    except (StudentError, StudentStopped):
        return []
    finally:
        channel.close()
    places: dict[tuple[str, str], None] = {}
    for name, label, line in _rows(found, (str, str, int)):
        for rule in forbidden:
            if _is(name, rule):
                places[f"{label}, line {line}", rule] = None
    return sorted(places)


def _call(channel: Channel, name: str, *args: Any) -> Any:
    reply = ask(channel, CALL, {"name": name, "args": list(args), "kwargs": {}})
    return reply.get("result") if isinstance(reply, dict) else None


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
