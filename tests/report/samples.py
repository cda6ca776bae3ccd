"""A small class with realistic failures, for the tests and for the eye: `python -m tests.report.samples DIR`."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from autograder.report.model import (
    CheckResult,
    Counterexample,
    Diagnosis,
    Difference,
    ExerciseResult,
    Report,
    TensorView,
)

# exercise id, title, then (check, title, points, public)
EXERCISES = [
    ("sdpa_masked", "Masked scaled dot-product attention", [
        ("test_values", "Values agree with the reference for any batch, heads and lengths.", 3, True),
        ("test_gradients", "Gradients agree with the reference.", 3, False),
        ("test_mask", "Masked keys have no influence on the output.", 3, True),
        ("test_fully_masked", "A query that may attend to nothing gets zeros, not NaN.", 2, False),
        ("test_large_logits", "Large logits stay finite.", 1, False)]),
    ("cross_attention", "Multi-head cross-attention", [
        ("test_values", "Values agree with the reference for any number of heads.", 4, True),
        ("test_gradients", "Gradients of every projection agree with the reference.", 4, False),
        ("test_memory_length", "Queries and memory may differ in length.", 4, True)]),
    ("grouped_heads", "Splitting and grouping heads", [
        ("test_split", "Splitting then merging heads gives the input back.", 4, True),
        ("test_grouped", "Grouped queries share keys as `repeat_interleave` does.", 6, False)]),
    ("additive_attention", "Additive attention", [
        ("test_values", "Values agree with the reference.", 5, True),
        ("test_gradients", "Gradients agree with the reference.", 5, False)]),
    ("sliding_window_attention", "Sliding-window attention", [
        ("test_band", "The Jacobian vanishes outside the window.", 5, True),
        ("test_global", "A window as long as the sequence is full attention.", 5, False)]),
    ("block_sparse_attention", "Block-sparse attention", [
        ("test_values", "Values agree with dense attention under the block mask.", 6, True),
        ("test_uneven", "The last block may be shorter than the others.", 4, False),
        ("test_speed", "Eight times fewer blocks take at most a third of the time.", 4, False)]),
    ("sparsemax", "Sparsemax", [
        ("test_simplex", "The output lies on the probability simplex.", 4, True),
        ("test_values", "Values agree with the projection onto the simplex.", 4, False),
        ("test_gradients", "Gradients agree with the Jacobian of the projection.", 4, False)]),
]

DIAGNOSES = {
    "no_scale": ("the scores are not divided by sqrt(d)",
                 "Dot products of d terms grow with sqrt(d): the softmax saturates and its gradients vanish."),
    "mask_after": ("the mask is applied after the softmax",
                   "The weights that remain no longer sum to one. Set masked scores to -inf before the softmax."),
    "nan_rows": ("a fully masked row is left to the softmax", "softmax of a row of -inf is 0/0."),
    "repeat": ("keys are repeated with `repeat` instead of `repeat_interleave`", ""),
    "off_by_one": ("the window is one position too wide on the left", ""),
    "detached": ("the threshold is detached from the graph", ""),
}


def build_class() -> list[Report]:
    """Eight submissions: perfect, nearly so, several mistakes, an exception, pending points, an empty notebook."""
    unscaled = _value_failure("no_scale", scale=1.0)
    return [
        build("ada", {}),
        build("bahar", {("sdpa_masked", "test_fully_masked"): _nan_failure()}),
        build("chidi", {("sdpa_masked", "test_values"): unscaled, ("sdpa_masked", "test_gradients"): unscaled,
                        ("cross_attention", "test_gradients"): unscaled}),
        build("dorothea", {("sdpa_masked", "test_mask"): _mask_failure(), ("grouped_heads", "test_grouped"):
                           _value_failure("repeat", scale=0.9)}),
        build("emeka", {("cross_attention", "test_values"): _shape_failure(), ("cross_attention", "test_gradients"):
                        _shape_failure(), ("cross_attention", "test_memory_length"): _shape_failure(),
                        ("sliding_window_attention", "test_band"): _large_failure()},
              notes={"cross_attention": ["The cell `cross_attention` is in the notebook twice; the last one counts."]}),
        build("fatima", {("sdpa_masked", "test_values"): unscaled, ("sdpa_masked", "test_gradients"): unscaled,
                         ("sparsemax", "test_gradients"): _value_failure("detached", scale=0.8)},
              status={"block_sparse_attention": "pending"}),
        build("gustavo", {("sparsemax", name): _exception() for name in
                          ("test_simplex", "test_values", "test_gradients")}, sandbox="ADVISORY"),
        build("hana", {(exercise, name): _unfinished() for exercise, _, checks in EXERCISES for name, *_ in checks},
              status={"block_sparse_attention": "error"}),
    ]


def build(student: str, failures: dict, *, status: dict | None = None, notes: dict | None = None,
          sandbox: str = "ENFORCED") -> Report:
    """One report: the named checks fail as given, every other check passes."""
    exercises = []
    for exercise, title, checks in EXERCISES:
        results = [_result(check, failures.get((exercise, check[0]))) for check in checks]
        exercises.append(ExerciseResult(
            id=exercise, title=title, score=sum(r.score for r in results), max_score=sum(r.points for r in results),
            status=(status or {}).get(exercise, "graded"), checks=results, notes=(notes or {}).get(exercise, [])))
    return Report(student=student, unit="attention", sandbox=sandbox, score=sum(e.score for e in exercises),
                  max_score=sum(e.max_score for e in exercises), exercises=exercises,
                  provenance={"torch": "2.13.0", "submission": "sha256:3f1c", "timings": {"total": 1.9}})


def _result(check: tuple, failure: dict | None) -> CheckResult:
    name, title, points, public = check
    return CheckResult(name=name, title=title, points=points, score=0 if failure else points, passed=not failure,
                       public=public, **(failure or {}))


def _diagnosis(key: str, certainty: str = "all probes") -> Diagnosis:
    return Diagnosis(id=key, title=DIAGNOSES[key][0], explanation=DIAGNOSES[key][1], certainty=certainty)


def _attention(scale: float, mask: np.ndarray | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    draw = np.random.default_rng(7)
    q, k, v = (draw.normal(size=(1, 1, n, 4)).round(2) for n in (3, 2, 2))
    scores = q @ k.swapaxes(-1, -2) * scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
    return {"query": q, "key": k, "value": v} | ({} if mask is None else {"mask": mask}), weights @ v


def _view(name: str, value: np.ndarray) -> TensorView:
    return TensorView(name=name, shape=list(value.shape), dtype=str(value.dtype), text=_nested(value.tolist()))


def _nested(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_nested, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def difference(expected: np.ndarray, got: np.ndarray, where: str = "output", non_finite: str = "") -> Difference:
    """The difference of two arrays of one shape, as the grader would describe it."""
    error = np.abs(expected - got)
    wrong = ~(error <= 1e-9)
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    return Difference(
        where=where, expected_shape=list(expected.shape), got_shape=list(got.shape), first_index=list(first),
        expected_value=float(expected[first]), got_value=f"{got[first]:.6g}", tolerance="1e-09",
        largest_error=f"{np.nanmax(error):.3g}", wrong_elements=int(wrong.sum()), total_elements=expected.size,
        non_finite=non_finite, expected=_view("expected", expected), got=_view("got", got))


def _value_failure(diagnosis: str, scale: float) -> dict:
    inputs, expected = _attention(0.5)
    found = difference(expected, _attention(scale)[1])
    example = Counterexample(inputs="batch 1, heads 1, queries 3, keys 2, d 4, float64, no mask, seed 17",
                             tensors=[_view(*item) for item in inputs.items()], difference=found)
    message = f"output differs at index {tuple(found.first_index)}: expected {found.expected_value:.6g}, " \
              f"got {found.got_value}."
    return {"message": message, "counterexample": example, "diagnosis": _diagnosis(diagnosis)}


def _mask_failure() -> dict:
    mask = np.array([[[[True, False], [True, True], [True, True]]]])
    inputs, expected = _attention(0.5, mask)
    got = expected.copy()
    got[0, 0, 0] *= 0.62
    example = Counterexample(inputs="batch 1, heads 1, queries 3, keys 2, d 4, float64, one key masked, seed 4",
                             tensors=[_view(*item) for item in inputs.items()], difference=difference(expected, got))
    return {"message": "output differs.\nDo the weights of each query sum to one?", "counterexample": example,
            "diagnosis": _diagnosis("mask_after")}


def _nan_failure() -> dict:
    expected = np.zeros((1, 1, 2, 3))
    got = np.full((1, 1, 2, 3), np.nan)
    got[0, 0, 1] = 0.0
    found = difference(expected, got, non_finite="It contains 3 NaN among 6 values.")
    found.largest_error = None
    return {"message": "output differs.", "diagnosis": _diagnosis("nan_rows", "this example"),
            "counterexample": Counterexample(inputs="queries 2, keys 1, d 3, nothing to attend to", difference=found)}


def _shape_failure() -> dict:
    found = Difference(where="output", expected_shape=[1, 2, 6], got_shape=[1, 3, 6])
    message = "output: expected shape (1, 2, 6), got (1, 3, 6).\nThe output has one row per query, not per key."
    return {"message": message, "counterexample": Counterexample(
        inputs="batch 1, heads 2, queries 2, memory 3, C 6, float64, seed 2", difference=found)}


def _large_failure() -> dict:
    found = Difference(where="gradient of value", first_index=[0, 3, 17, 2], expected_value=0.0, got_value="0.0132",
                       largest_error="0.0871", tolerance="1e-09", wrong_elements=64, total_elements=8192,
                       expected_shape=[1, 4, 32, 64], got_shape=[1, 4, 32, 64])
    large = [TensorView(name=name, shape=[1, 4, 32, 64], dtype="float64") for name in ("query", "key", "value")]
    return {"message": "gradient of value differs.", "diagnosis": _diagnosis("off_by_one"),
            "counterexample": Counterexample(inputs="heads 4, length 32, d 64, window 4, seed 11", tensors=large,
                                             difference=found)}


def _exception() -> dict:
    message = "RuntimeError: The size of tensor a (3) must match the size of tensor b (4)\n" \
              "  in sparsemax, line 7:  support = z > threshold.cumsum(-1)"
    return {"message": message, "counterexample": Counterexample(inputs="rows 3, columns 4, float64, seed 1")}


def _unfinished() -> dict:
    return {"message": "NotImplementedError\nThe TODO of this exercise is still open."}


if __name__ == "__main__":
    from autograder.report.writer import FORMATS, write_class_pages, write_views

    out = Path(sys.argv[1])
    for report in build_class():
        write_views(report, out, FORMATS)
    write_class_pages(build_class(), ["iris/attention.ipynb: not valid JSON (line 1, column 1)"], out)
