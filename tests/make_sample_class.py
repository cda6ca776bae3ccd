"""Make tests/sample_class: eight students' notebooks, each the released skeleton filled in by hand or half by hand.

    python tests/make_sample_class.py            writes the notebooks
    python tests/make_sample_class.py --check    exits with 1 if one is out of date
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLASS = ROOT / "tests" / "sample_class"
UNIT = "attention"

Edits = dict[str, list[tuple[str, str]]]
"""Exercise -> replacements in the right solution; an exercise that is not named stays a TODO."""

RIGHT: Edits = {name: [] for name in (
    "sdpa_masked", "cross_attention", "grouped_heads", "additive_attention", "sliding_window_attention",
    "block_sparse_attention", "sparsemax")}
SCALE = " / math.sqrt(q.shape[-1])"

STUDENTS: dict[str, Edits] = {
    # Everything right.
    "ada": RIGHT,
    # The usual mistakes of a first attempt.
    "ben": RIGHT | {
        "sdpa_masked": [(SCALE, "")],
        "cross_attention": [("math.sqrt(q.shape[-1])", "math.sqrt(ctx.shape[-1])")],
        "grouped_heads": [("repeat_interleave(share, dim=1)", "repeat(1, share, 1, 1)")],
        "sliding_window_attention": [("t - w < j", "t - w <= j")],
        "block_sparse_attention": [("layout[:, :n_global] = True", "pass")],
    },
    # Values right, gradients and edges wrong: what a test of values alone would accept.
    "cleo": RIGHT | {
        "sdpa_masked": [("torch.finfo(q.dtype).min", "-math.inf"), (".masked_fill(~keep, 0)", "")],
        "additive_attention": [("return context, weights", "return context, weights.detach()")],
        "sparsemax": [("return (grad_p - mean) * support", "return grad_p * support")],
    },
    # Half finished.
    "dan": {name: RIGHT[name] for name in ("sdpa_masked", "grouped_heads", "additive_attention")},
    # A syntax error in one cell costs that exercise and no other.
    "eva": RIGHT | {"grouped_heads": [("merge_heads(x: Tensor) -> Tensor:", "merge_heads(x: Tensor) -> Tensor")]},
    # A loop that never ends.
    "finn": RIGHT | {"sliding_window_attention": [("t = j[:, None]",
                                                   "t = j[:, None]\n    while w > 1:\n        t = t + 0")]},
    # Ends the process, in the hope that no news is good news.
    "gus": RIGHT | {"sdpa_masked": [("    scores = q @", "    import os\n    os._exit(0)\n    scores = q @")]},
    # Asks for more memory than there is.
    "hana": RIGHT | {"additive_attention": [("hidden = ", "table = torch.ones(10**10)\n    hidden = ")]},
}


def make() -> dict[Path, str]:
    """path -> notebook text."""
    from autograder.solution.source import BEGIN, END, reference_cells
    skeleton = (ROOT / "assignments" / UNIT / f"{UNIT}.ipynb").read_text(encoding="utf-8")
    solutions = {}
    for label, source in reference_cells(ROOT / "solutions" / UNIT / f"{UNIT}.py"):
        solutions[label] = "\n".join(line for line in source.split("\n") if line.strip() not in (BEGIN, END))
    return {CLASS / student / UNIT / f"{UNIT}.ipynb": _filled(skeleton, solutions, edits)
            for student, edits in STUDENTS.items()}


def _filled(skeleton: str, solutions: dict[str, str], edits: Edits) -> str:
    notebook = json.loads(skeleton)
    for cell in notebook["cells"]:
        exercise = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if exercise in edits:
            source = solutions[exercise]
            for old, new in edits[exercise]:
                if old not in source:
                    raise SystemExit(f"{exercise}: the solution no longer contains {old!r}")
                source = source.replace(old, new)
            cell["source"] = source.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    notebooks = make()
    stale = [path for path, text in notebooks.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run python tests/make_sample_class.py")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebooks[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
