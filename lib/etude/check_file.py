"""A file of checks as pytest sees it: the marks of each check, why a file cannot be used, and its imports."""
from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from etude.outcomes import Check


class CheckFileError(Exception):
    """A check file cannot be used: the course's mistake, named by file and line."""


def read_marks(item: pytest.Item) -> Check:
    written = item.obj.hypothesis.inner_test if hasattr(item.obj, "hypothesis") else item.function
    place = f"{item.path.name}:{written.__code__.co_firstlineno}: {item.name}"
    exercise, points = item.get_closest_marker("exercise"), item.get_closest_marker("points")
    title = (getattr(item.function, "__doc__", None) or "").strip().split("\n")[0]
    if exercise is None or len(exercise.args) != 1 or not isinstance(exercise.args[0], str):
        raise CheckFileError(f"{place}: no @exercise(\"…\") mark")
    if points is None or len(points.args) != 1 or not _is_positive(points.args[0]):
        raise CheckFileError(f"{place}: no @points(…) mark with a positive number")
    if not title:
        raise CheckFileError(f"{place}: no docstring; its first line is the title that students read")
    if any(item.get_closest_marker(mark) for mark in ("skip", "skipif", "xfail")):
        raise CheckFileError(f"{place}: a check may not be skipped or expected to fail")
    if inspect.iscoroutinefunction(written):
        raise CheckFileError(f"{place}: a check is a plain function, not an async one")
    public, speed = (item.get_closest_marker(mark) is not None for mark in ("public", "speed"))
    has_cases = hasattr(item.obj, "hypothesis")
    if speed and (public or has_cases or inspect.signature(item.function).parameters):
        raise CheckFileError(f"{place}: a speed check takes nothing and is not public; it returns workloads")
    return Check(item.name, title, exercise.args[0], float(points.args[0]), public, has_cases, speed)


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < float("inf")


def crash_line(report: pytest.CollectReport | pytest.TestReport) -> str:
    """`file:line: reason` from what pytest says about a check file that cannot be used."""
    if isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        return f"{path}:{line}: a check may not be skipped or expected to fail ({reason})"
    text = [line for line in report.longreprtext.splitlines() if line.strip()]
    places = [f"{match[1] or match[3]}:{match[2] or match[4]}" for match in map(_PLACE.search, text) if match]
    own = [place for place in places if report.nodeid.split("::")[0] in place]
    told = [line[2:].strip() for line in text if line.startswith("E ")] or text[-1:] or [""]
    # The last line that begins with a name and a colon: what follows it is the rest of a long message.
    reason = next((line for line in reversed(told) if re.match(r"[A-Za-z_][\w.]*: ", line)), told[-1])
    return f"{(own or places or [report.nodeid])[-1]}: {reason}"


_PLACE = re.compile(r'(\S+\.py):(\d+)|File "([^"]+)", line (\d+)')


@contextlib.contextmanager
def imported_anew(files: Sequence[Path]) -> Iterator[None]:
    """Forget the imported check files afterwards: pytest knows them by name, and the next run's may share it."""
    before = set(sys.modules)
    try:
        yield
    finally:
        paths = {str(Path(file).resolve()) for file in files}
        for name in set(sys.modules) - before:
            if str(Path(getattr(sys.modules[name], "__file__", None) or "").resolve()) in paths:
                del sys.modules[name]
