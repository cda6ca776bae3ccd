"""How `nbgrader autograde` reads a submission.

nbgrader goes through every notebook twice: submitted/ is made clean and written to autograded/, which is then graded.
Before any preprocessor it reads the file with nbformat, which was not made for hostile bytes; so reading and
restoring are one step, here.
"""
from __future__ import annotations

import copy
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter

from autograder.nbgrader.preprocessors import SealedGrades, no_release, released
from autograder.nbgrader.restore import restore
from autograder.nbgrader.standby import RunStopped
from autograder.submission.files import read_file
from autograder.submission.problems import BadInput

WAIT_SECONDS = 600.0
_held: list[int] = []
"""The lock of the submission that this process has in hand."""


class SubmissionExporter(NotebookExporter):
    """Writes the restored notebook, whatever was submitted."""

    submitted: Path = Path()
    """The submitted file of the notebook in hand."""
    _sanitized: Any = None

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        # nbgrader makes its exporter before it removes, copies or writes anything of a submission.
        SealedGrades(parent=self).demand_ready(self.parent.coursedir)

    def from_filename(self, filename: str, resources: Any = None, **options: Any) -> Any:
        try:
            return self._converted(filename, resources, options)
        except BaseException:
            let_go()
            raise

    def _converted(self, filename: str, resources: Any, options: dict[str, Any]) -> Any:
        where = resources["nbgrader"]
        destination = Path(self.parent._format_dest(where["assignment"], where["student"])).resolve()
        if self.parent._sanitizing:
            self.submitted = Path(filename).resolve()
            _hold(self.submitted.parent)
            notebook = self._restored(where)
        else:
            # Not from the file: `nbgrader autograde --force` in another process may have removed it since.
            notebook = self._sanitized
        made, resources = self.from_notebook_node(notebook, resources=resources, **options)
        if self.parent._sanitizing:
            self._sanitized = nbformat.reads(made, as_version=4)
        _make_writable(destination / self.submitted.name)
        return made, resources

    def _restored(self, where: Any) -> Any:
        path = released(self.parent.coursedir, where["assignment"], where["notebook"])
        try:
            release = nbformat.read(path, as_version=4)
        except OSError as error:
            raise no_release(path, where["assignment"], error) from None
        try:
            return restore(release, read_file(str(self.submitted)), str(self.submitted))
        except BadInput:
            return copy.deepcopy(release)  # its bytes tell nothing; `SealedGrades` says why


def let_go(**_: Any) -> None:
    """A submission is done, and another process may have it. nbgrader's hook after each."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


def _hold(folder: Path) -> None:
    """Wait until no other process has this submission in hand. How ever this one ends, it lets go."""
    let_go()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _held.append(descriptor)
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise RunStopped(f"autograder: {folder}: another process has had it in hand for {WAIT_SECONDS:g} s; "
                                 "if none is grading, end the servers that did") from None
            time.sleep(0.1)
        except OSError:
            return  # a file system that knows no locks


def _make_writable(path: Path) -> None:
    """Another process may have written the notebook meanwhile, and nbgrader leaves it read-only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
