"""Ten students' notebooks of two units: the sample class, two who tampered with theirs, and easy answers elsewhere."""
from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from make_sample_class import CLASS, RIGHT, ROOT, _filled

ACTIVATIONS = {name: [] for name in ("relu_family", "stable_sigmoid_bce", "stable_tanh", "swish_checkpointed", "gelu",
                                     "glu_variants", "learnable_spline_activation")}
WRONG_RELU = {"relu_family": [("torch.where(x > 0, x, 0)", "torch.where(x > 0, x, 0.001)")]}
BY_STUDENT: dict[str, dict[str, list[tuple[str, str]]]] = {
    "ada": ACTIVATIONS,
    "ben": ACTIVATIONS | WRONG_RELU,
    "cleo": {name: [] for name in ("gelu", "glu_variants")},
    "dan": {"relu_family": []},
    "eva": WRONG_RELU,
    "finn": {"stable_tanh": []},
    "gus": {"gelu": []},
    "hana": {"glu_variants": []},
    "ivy": {"relu_family": [], "gelu": []},
    "jon": {},
}
"""Student -> exercises of unit activations, with replacements in the right solution."""


def notebook(unit: str, edits: dict[str, list[tuple[str, str]]]) -> dict[str, Any]:
    """The released notebook of a unit, filled in."""
    from autograder.solution.source import BEGIN, END, reference_cells
    skeleton = (ROOT / "assignments" / unit / f"{unit}.ipynb").read_text(encoding="utf-8")
    solutions = {label: "\n".join(line for line in source.split("\n") if line.strip() not in (BEGIN, END))
                 for label, source in reference_cells(ROOT / "solutions" / unit / f"{unit}.py")}
    return json.loads(_filled(skeleton, solutions, edits))


def attention(student: str) -> dict[str, Any]:
    if student == "ivy":
        return tampered(notebook("attention", RIGHT | {"sparsemax": []}))
    if student == "jon":
        return notebook("attention", {})
    return json.loads((CLASS / student / "attention" / "attention.ipynb").read_text(encoding="utf-8"))


def hand_in(folder: Path, unit: str, student: str) -> Path:
    """`folder/<student>/<unit>/<notebook>.ipynb`."""
    value = attention(student) if unit == "attention" else notebook(unit, BY_STUDENT[student])
    return write(folder / student / unit / f"{unit}.ipynb", value)


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


# ---------------------------------------------------------------------------------------------- tampering

def cell_of(value: dict[str, Any], grade_id: str) -> dict[str, Any]:
    return next(cell for cell in value["cells"] if _marks(cell).get("grade_id") == grade_id)


def _marks(cell: dict[str, Any]) -> dict[str, Any]:
    return cell["metadata"].get("nbgrader", {})


def _is_check(cell: dict[str, Any]) -> bool:
    return str(_marks(cell).get("grade_id", "")).startswith("check_")


def deleted(value: dict[str, Any]) -> None:
    value["cells"] = [cell for cell in value["cells"] if not _is_check(cell)]


def no_grade(value: dict[str, Any]) -> None:
    for cell in filter(_is_check, value["cells"]):
        _marks(cell)["grade"] = False


def more_points(value: dict[str, Any]) -> None:
    for cell in filter(_is_check, value["cells"]):
        _marks(cell)["points"] = 1000


def duplicated(value: dict[str, Any]) -> None:
    value["cells"] += copy.deepcopy(value["cells"])


def reordered(value: dict[str, Any]) -> None:
    value["cells"].reverse()


def other_source(value: dict[str, Any]) -> None:
    for cell in filter(_is_check, value["cells"]):
        cell["source"] = "12.0"
        cell["outputs"] = [{"output_type": "execute_result", "execution_count": 1, "metadata": {},
                            "data": {"text/plain": "12.0"}}]


def odd_metadata(value: dict[str, Any]) -> None:
    for cell in value["cells"]:
        cell["metadata"]["nbgrader"] = {**_marks(cell), "schema_version": 99, "checksum": 7, "unheard_of": []}
    value["metadata"] = {"kernelspec": 3}


def no_metadata(value: dict[str, Any]) -> None:
    for cell in value["cells"]:
        cell["metadata"] = None if cell["cell_type"] == "markdown" else {}


TAMPERING: dict[str, Callable[[dict[str, Any]], None]] = {
    function.__name__: function for function in (deleted, no_grade, more_points, duplicated, reordered, other_source,
                                                 odd_metadata, no_metadata)}


def tampered(value: dict[str, Any]) -> dict[str, Any]:
    """Several at once."""
    for change in (more_points, no_grade, reordered, other_source):
        change(value)
    cell = cell_of(value, "check_sdpa_masked")
    value["cells"].remove(cell)
    return value
