"""`check`, `hint` and `progress` in a notebook: on the functions that the kernel holds right now.

Importing this module in a kernel does two things beside: it begins to note which cells are run (see
`etude.students.stale`), and while the kernel has nothing else to do, it loads what the first check will need.
"""
from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etude.students.bar import Bar
from etude.students.stale import History, notes

BAR_AFTER = 1.0
"""Seconds that a check may take without a progress bar."""
_BAR_EVERY = 0.5
_history = History()


def check(*exercises: str) -> Any:
    """Run the public checks of these exercises (of the whole notebook without any) and show what came of each.

    The checks lie beside the notebook, in `<notebook>_checks.py`. Returns a card that the notebook displays. While a
    submission is graded, where no notebook is open, it does nothing. Where a notebook is run as a whole, it raises
    unless all properties hold: nbgrader gives full marks to every cell that ends without an error.
    """
    if not in_notebook():
        return None
    card = _card(exercises)
    if not card.passed and _is_unattended():
        raise PropertiesFail(repr(card))
    return card


def _card(exercises: Sequence[str]) -> Any:
    from etude.check_file import CheckFileError
    from etude.students import record
    from etude.students.checking import UnknownExercise, check_namespace
    from etude.students.display import Card, Message
    from etude.students.released import NothingReleased, releases_in
    _preparation.close()  # the first check does the rest of it
    folder, notebook = Path.cwd(), notebook_path()
    bar = _NotebookBar()
    try:
        checked = check_namespace(sys.modules["__main__"].__dict__, releases_in(folder, notebook), exercises, bar)
    except (NothingReleased, UnknownExercise) as error:
        return Message(str(error))
    except CheckFileError as error:
        return Message(f"The checks could not be run: {error}. Was the file edited? Get the released one again.")
    finally:
        bar.close()
    record.record_findings(folder, checked.findings)
    findings = [replace(one, notes=[*one.notes, *notes(notebook, one.exercise, _history.runs)])
                for one in checked.findings]
    return Card(findings, checked.seconds)


def hint(exercise: str) -> Any:
    """The next hint for an exercise: each call gives one more, from the general to the particular."""
    from etude.students.display import Message
    from etude.students.hints import next_hint
    from etude.students.released import NothingReleased, releases_in
    try:
        return next_hint(Path.cwd(), releases_in(Path.cwd(), notebook_path()), exercise)
    except NothingReleased as error:
        return Message(str(error))


def progress() -> Any:
    """What is done: the exercises of this unit, and the units of the course that lie beside it."""
    from etude.students.display import Message
    from etude.students.record import overview
    from etude.students.released import NothingReleased, releases_in
    try:
        return overview(Path.cwd(), releases_in(Path.cwd()))
    except NothingReleased as error:
        return Message(str(error))


def in_notebook() -> bool:
    # Asked of what is loaded already: importing IPython here would cost a worker half a second.
    return _shell() is not None


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def notebook_path() -> Path | None:
    """The notebook's file, where Jupyter or the editor says which one it is."""
    said = os.environ.get("JPY_SESSION_NAME") or str(getattr(_shell(), "user_ns", {}).get("__vsc_ipynb_file__", ""))
    path = Path(said) if said else None
    return path if path is not None and path.suffix == ".ipynb" and path.is_file() else None


class PropertiesFail(AssertionError):
    """Raised instead of showing a card where nobody reads cards."""

    def _render_traceback_(self) -> list[str]:  # IPython's protocol: of a card, where it was raised says nothing
        return str(self).splitlines()


def _is_unattended() -> bool:
    """Whether the notebook is run as a whole, by nbgrader or nbconvert: then nobody can be asked for input."""
    kernel = getattr(_shell(), "kernel", None)
    return kernel is not None and not getattr(kernel, "_allow_stdin", True)


class _NotebookBar(Bar):
    """A bar in the cell's output, once a check takes long; at the end one line remains of it."""

    def __init__(self) -> None:
        self._started = self._shown = time.monotonic()
        self._handle: Any = None

    def update(self, done: int, total: int, doing: str) -> None:
        now = time.monotonic()
        if now - self._started < BAR_AFTER or now - self._shown < _BAR_EVERY:
            return
        from IPython.display import display

        from etude.students.card_html import progress_html
        self._shown = now
        text = f"Checking {doing}: {done} of {total} properties"
        data = {"text/html": progress_html(done, total, doing, now - self._started), "text/plain": text}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def close(self) -> None:
        if self._handle is not None:
            seconds = f"Checked in {time.monotonic() - self._started:.1f} s."
            self._handle.update({"text/plain": seconds}, raw=True)
            self._handle = None


# ---------------------------------------------------------------------------------------------- at import

def _prepare() -> Generator[None, None, None]:
    """Load, a part at a time, what the first check needs: it takes most of a second, and people read first."""
    import pytest  # noqa: F401
    yield
    import hypothesis  # noqa: F401
    yield
    import etude.engine
    yield
    import etude.students.checking
    import etude.students.display  # noqa: F401
    yield
    import torch
    x = torch.zeros(1, requires_grad=True)
    torch.autograd.grad(x * 1, x, torch.ones(1))  # the first backward pass with a cotangent imports sympy
    yield
    from etude.students.checking import check_namespace
    from etude.students.released import releases_in
    releases = releases_in(Path.cwd(), notebook_path())
    yield
    # Nothing is defined yet, so this finds nothing out; it compiles the checks, and hypothesis finds its feet.
    check_namespace({}, releases, list(releases[0].exercises)[:1])


_preparation = _prepare()


def _between_cells(later: Callable[..., Any]) -> None:
    try:
        next(_preparation)
    except StopIteration:
        return
    except Exception:  # what could not be prepared will be said by the check that needs it
        return
    later(0.05, _between_cells, later)


def _begin() -> None:
    shell = _shell()
    if shell is None:
        return
    _history.listen(shell)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    # Not in a thread: two threads that import at once can meet modules half made. A kernel that waits for the next
    # cell waits in this loop.
    loop.call_later(0.2, _between_cells, loop.call_later)


_begin()
