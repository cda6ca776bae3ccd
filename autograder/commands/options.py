"""Options that several commands have."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

CourseOption = Annotated[Path | None, typer.Option("--course", help="course.yml; default: the nearest one upwards.")]


def load(path: Path | None) -> Any:
    """The course that the option names, or the nearest one."""
    from autograder.course import find_course, load_course
    return load_course(path or find_course(Path.cwd()))
