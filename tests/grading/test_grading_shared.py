"""One worker serves all exercises of a submission whose answers are right; nothing of one reaches another's verdict."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiny_course import RIGHT, handed_in

from autograder.course import Course
from autograder.remote.channel import SealedChannel
from autograder.report.model import Report

Grade = Callable[..., dict[str, Report]]
WRONG = {"scale": "def scale(x, factor): return (factor * x).detach()",
         "center": "def center(x): return x - x.mean(0, keepdim=True)"}


@pytest.fixture
def spawned(zygote: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The workers that a test has started."""
    workers, spawn = [], zygote.spawn
    monkeypatch.setattr(zygote, "spawn", lambda *args: workers.append(spawn(*args)) or workers[-1])
    return workers


def scores(report: Report) -> dict[str, float]:
    return {exercise.id: exercise.score for exercise in report.exercises}


@pytest.mark.parametrize(("cells", "workers"), [
    ({}, 1),
    ({"scale": WRONG["scale"]}, 3),  # one for the check that is run, one for the public check that comes before it
    ({"center": WRONG["center"]}, 2),
    ({"scale": RIGHT["scale"] + "\nprint('a demonstration')"}, 2),
    ({"scale": RIGHT["scale"] + "\ntorch.mine = 3"}, 2),
    ({"scale": RIGHT["scale"] + "\nN = torch.zeros(3)"}, 1),
], ids=["right", "the first wrong", "the last wrong", "a demonstration", "a library's attribute", "a constant"])
def test_a_worker_goes_on_as_long_as_it_answers_rightly_and_only_defines(
        tiny: Course, graded: Grade, spawned: list[Any], cells: dict[str, str], workers: int) -> None:
    graded(tiny, [handed_in(**cells)])
    assert len(spawned) <= workers
    assert all(worker._final_cpu is not None for worker in spawned), "every worker has ended"


PLANTED = {
    "a default dtype": ("    torch.set_default_dtype(torch.float64)\n",
                        "def center(x):\n    assert torch.zeros(1).dtype == torch.float32\n"
                        "    return x - x.mean(1, keepdim=True)"),
    "the random state": ("    torch.rand(3)\n",
                         "def center(x):\n    torch.manual_seed(1)\n    return x - x.mean(1, keepdim=True)"),
    "a built-in function": ("    import builtins\n    builtins.divmod = None\n",
                            "N = divmod(5, 2)\ndef center(x): return x - x.sum(1, keepdim=True) / x.shape[1]"),
    "a function of torch": ("    torch.mean = None\n",
                            "def center(x): return x - torch.mean(x, 1, keepdim=True)"),
}


@pytest.mark.parametrize(("effect", "center"), PLANTED.values(), ids=PLANTED)
def test_what_a_right_exercise_does_on_the_side_costs_no_other_a_point(tiny: Course, graded: Grade, effect: str,
                                                                       center: str) -> None:
    report = graded(tiny, [handed_in(scale=f"def scale(x, factor):\n{effect}    return x * factor", center=center)])
    assert scores(report["ann"]) == {"scale": 4, "center": 2}
    assert [exercise.notes for exercise in report["ann"].exercises] == [[], []]


TELLTALE = {"scale": "def scale(x, factor):\n    import builtins\n    builtins.SEEN = f'seen {factor}'\n"
                     "    return x * factor",
            "center": "def center(x):\n    import builtins\n"
                      "    raise ValueError(getattr(builtins, 'SEEN', 'nothing'))"}


def test_what_is_said_of_a_public_check_comes_from_code_that_has_seen_no_hidden_input(
        tiny: Course, graded: Grade, monkeypatch: pytest.MonkeyPatch) -> None:
    def message() -> str:
        return graded(tiny, [handed_in(**TELLTALE)])["ann"].exercises[1].checks[0].message
    assert "nothing" in message() and "seen" not in message()
    monkeypatch.setattr(SealedChannel, "restart", lambda self: None)
    assert "seen" in message(), "without a fresh worker it would tell"


def test_a_worker_that_dies_for_another_reason_costs_no_other_exercise(tiny: Course, graded: Grade) -> None:
    scale = ("def scale(x, factor):\n    import builtins, os\n    builtins.TIMES = getattr(builtins, 'TIMES', 0) + 1\n"
             "    return x * factor")
    center = ("def center(x):\n    import builtins, os\n    if hasattr(builtins, 'TIMES'): os._exit(0)\n"
              "    return x - x.mean(1, keepdim=True)")
    assert scores(graded(tiny, [handed_in(scale=scale, center=center)])["ann"]) == {"scale": 4, "center": 2}
