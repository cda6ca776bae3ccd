"""Units of Triton kernels: switch the interpreter on before anything of theirs is imported."""
from __future__ import annotations

from autograder.course import Unit
from autograder.errors import UsageError


def demand_triton(unit: Unit) -> None:
    """Switch Triton's interpreter on. Raises `UsageError`, in one line, where there is no Triton."""
    from etude.kernels import NoTriton, interpret
    try:
        interpret()
    except NoTriton as error:
        raise UsageError(f"unit {unit.id} has Triton kernels: {error}") from None
