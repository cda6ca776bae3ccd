"""`check("exercise")` in a notebook: the public checks, on the functions that the kernel holds right now."""
from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etude.failures import MissingName, StudentError


def check(*exercises: str) -> Any:
    """Run the public checks of these exercises (of the whole notebook without any) and show what came of each.

    The checks lie beside the notebook, in `<notebook>_checks.py`. Returns a card that the notebook displays. While a
    submission is graded, where no notebook is open, it does nothing.
    """
    if not _in_notebook():
        return None
    return check_namespace(sys.modules["__main__"].__dict__, exercises, Path.cwd())


def check_namespace(namespace: Mapping[str, Any], exercises: tuple[str, ...], folder: Path) -> Any:
    """The card for the functions in `namespace`, by the check files in `folder`."""
    from etude.display import Card
    from etude.engine import CheckFileError, run_checks
    files = sorted(folder.glob("*_checks.py"))
    if not files:
        return Card.message(f"There is no *_checks.py in {folder.name}/: keep the file that came with the notebook "
                            "next to it.")
    subject = _Subject(namespace)
    started = time.perf_counter()
    try:
        run_checks(files, [subject], exercises=exercises or None, seed=0)
    except CheckFileError as error:
        return Card.message(f"The checks could not be run: {error}")
    unknown = [name for name in exercises if name not in {outcome.check.exercise for outcome in subject.outcomes}]
    if unknown:
        return Card.message(f"No exercise is called {', '.join(unknown)}. Look at the name in the check cell below "
                            "the exercise.")
    return Card(subject.outcomes, time.perf_counter() - started)


class _Subject:
    def __init__(self, namespace: Mapping[str, Any]):
        self._student = NamespaceStudent(namespace)
        self.outcomes: list[Any] = []

    def student(self, exercise: str) -> NamespaceStudent:
        return self._student

    def finished(self, exercise: str, outcomes: list[Any]) -> None:
        self.outcomes += outcomes


class NamespaceStudent:
    """The notebook's own functions as `student`; what they raise is told apart from what the checks raise."""

    def __init__(self, namespace: Mapping[str, Any]):
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._namespace:
            raise MissingName("MissingName", f"the notebook defines no `{name}`")
        value = self._namespace[name]
        return _guarded(value) if callable(value) and not isinstance(value, type) else value


def _guarded(function: Callable) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except StudentError:
            raise
        except Exception as error:
            raise _student_error(error) from error
    call.__name__ = call.__qualname__ = getattr(function, "__name__", "function")
    return call


def _student_error(error: Exception) -> StudentError:
    """The error with the innermost line that the student wrote: a cell, not a library."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "ipykernel" in frame.filename or frame.filename.startswith("<")]
    place = f"line {frames[-1].lineno} of {frames[-1].name}" if frames else ""
    return StudentError(type(error).__name__, str(error)[:500], place, (frames[-1].line or "") if frames else "")


def _in_notebook() -> bool:
    # Asked of what is loaded already: importing IPython here would cost a worker half a second.
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
