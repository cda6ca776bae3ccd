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
        _one_at_a_time(self.parent)

    def from_filename(self, filename: str, resources: Any = None, **options: Any) -> Any:
        if self.parent._sanitizing:
            self.submitted = Path(filename).resolve()
            notebook = self._restored(resources["nbgrader"])
        else:
            notebook = self._sanitized
        made, resources = self.from_notebook_node(notebook, resources=resources, **options)
        if self.parent._sanitizing:
            self._sanitized = nbformat.reads(made, as_version=4)
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


def _one_at_a_time(converter: Any) -> None:
    """Let nbgrader's converter wait before it touches a submission that another process has in hand.

    Two processes that remove, copy, write and read the same files in autograded/ fail in many ways. nbgrader has no
    hook before it removes them, nor one after a failed submission is cleaned away; so these two methods are wrapped.
    """
    begin, convert_all = converter.init_destination, converter.convert_notebooks

    def begin_alone(assignment_id: str, student_id: str) -> bool:
        _hold(Path(converter._format_source(assignment_id, student_id)).resolve())
        return begin(assignment_id, student_id)

    def convert_and_let_go() -> None:
        try:
            convert_all()
        finally:
            _let_go()

    converter.init_destination, converter.convert_notebooks = begin_alone, convert_and_let_go


def _let_go() -> None:
    """What this process has in hand is done, and another may have it."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


def _hold(folder: Path) -> None:
    """Wait until no other process has this submission in hand. How ever this one ends, it lets go."""
    _let_go()
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
