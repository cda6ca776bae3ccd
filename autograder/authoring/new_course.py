"""A new course: the files of `course_template`, and the versions of what is installed here."""
from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from autograder.errors import UsageError
from autograder.files import copied, write_atomically

TEMPLATE = Path(__file__).parent / "course_template"
DISTRIBUTION = "etude"
EXTRA = "staff"


def new_course(to: Path) -> list[Path]:
    """Write a course with one example exercise into a new or empty folder; returns the files.

    Raises `UsageError` for a folder that holds something, and for a path that is no folder.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to}: {'not empty' if to.is_dir() else 'not a folder'}; name a new folder")
    written = list(copied(TEMPLATE, to, TEMPLATE.rglob("*")))
    write_atomically(to / "constraints.txt", "".join(f"{pin}\n" for pin in pinned()))
    return [*written, to / "constraints.txt"]


def pinned() -> list[str]:
    """`name==version` of everything that the autograder needs, as it is installed here."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    waiting = [(DISTRIBUTION, EXTRA)]
    while waiting:
        name, extra = waiting.pop()
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate({"extra": extra}):
                continue
            key = re.sub(r"[-_.]+", "-", needed.name).lower()
            try:
                installed = version(needed.name)
            except PackageNotFoundError:
                continue
            if key not in found:
                found[key] = f"{key}=={installed.partition('+')[0]}"  # `+cpu` is the build's, not the version's
                waiting += [(needed.name, extra) for extra in ("", *needed.extras)]
    return [found[key] for key in sorted(found)]
