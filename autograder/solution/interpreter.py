"""Units of Triton kernels: switch the interpreter on before anything of theirs is imported."""
from __future__ import annotations

import os

from autograder.course import Course, Unit
from autograder.errors import UsageError


def expect_kernels(course: Course) -> None:
    """Before anything can import Triton, as PyTorch's optimizers do: it is interpreted where the course has kernels."""
    if any(unit.triton for unit in course.units.values()):
        os.environ.setdefault("TRITON_INTERPRET", "1")


def demand_triton(unit: Unit) -> None:
    """Switch Triton's interpreter on. Raises `UsageError`, in one line, where there is no Triton."""
    from etude.kernels import NoTriton, interpret
    try:
        interpret()
    except NoTriton as error:
        raise UsageError(f"unit {unit.id} has Triton kernels: {error}") from None
