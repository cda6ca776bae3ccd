"""What becomes of measurements in a stored report, and which thresholds a device has. No process runs here."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autograder.course import Unit
from autograder.errors import UsageError
from autograder.report.model import CheckResult, ExerciseResult, Report, student_view
from autograder.speed.bench import Timed
from autograder.speed.device import Ceilings, Device, open_device
from autograder.speed.session import Measurement
from autograder.speed.settle import pending_checks, settle
from autograder.speed.statistics import Figures, Judgement
from autograder.speed.workloads import SpeedCheck, speed_checks
from tests.speed.kernels import SOFTMAX
from tests.speed.speed_course import CHECKS, speed_course

KEY = ("softmax_into", "test_speed")
FIGURES = Figures(1.5, 1.4, 1.6, 1.5e-3, 1e-3, 0.01, 0.6)


def report() -> Report:
    checks = [CheckResult(name=name, title=name, points=3, score=0 if speed else 3, passed=not speed, public=False,
                          speed=speed, pending=speed) for name, speed in (("test_values", False), ("test_speed", True))]
    exercise = ExerciseResult(id="softmax_into", title="Softmax", score=3, max_score=6, status="pending", checks=checks)
    return Report(student="ada", unit="kernels", sandbox="ENFORCED", score=3, max_score=6, exercises=[exercise])


def timed(verdict: str, share: float, figures: Figures | None = FIGURES, counts: bool = True, suspect: bool = False,
          why: str = "a reason") -> Timed:
    judgement = Judgement(verdict, share, why, suspect=suspect)
    return Timed("ada", "kernels", SpeedCheck("test_speed", "softmax_into", "Fast", 3, [SOFTMAX]), SOFTMAX,
                 Measurement(judgement, figures), counts)


WRONG = timed("fail", 0.0, None, why="the output is wrong")


@pytest.mark.parametrize(("measured", "score", "passed"), [
    ([timed("pass", 1.0)], 3, True), ([timed("fail", 0.5)], 1.5, False), ([timed("fail", 0.0)], 0, False),
    ([timed("pass", 1.0), timed("fail", 0.25)], 0.75, False), ([WRONG], 0, False),
    ([timed("inconclusive", 0.0), WRONG], 0, False)])
def test_settled(measured, score, passed):
    found = report()
    assert settle(found, {KEY: measured}, "cpu") == 1
    check = found.exercises[0].checks[1]
    assert (check.score, check.passed, check.pending) == (score, passed, False)
    assert (found.exercises[0].status, found.exercises[0].score, found.score) == ("graded", 3 + score, 3 + score)
    assert [one.verdict for one in check.figures] == [one.measurement.judgement.verdict for one in measured]
    assert not pending_checks(found)


@pytest.mark.parametrize("measured", [
    [timed("inconclusive", 0.0)], [timed("pass", 1.0), timed("inconclusive", 0.0)], [timed("pass", 1.0, counts=False)],
    [timed("fail", 0.0, None, counts=False)], [timed("inconclusive", 0.0, suspect=True)]])
def test_what_stays_pending_costs_nothing(measured):
    found = report()
    assert settle(found, {KEY: measured}, "cpu") == 0
    check = found.exercises[0].checks[1]
    assert check.pending and not check.failed and check.score == 0 and check.message.startswith("Pending: ")
    assert found.exercises[0].status == "pending" and found.score == 3
    assert pending_checks(found) == [KEY]


def test_a_suspicion_is_for_staff_and_is_told_once():
    found, measured = report(), {KEY: [timed("inconclusive", 0.0, suspect=True, why="1.30 of the ceiling")]}
    settle(found, measured, "cpu")
    settle(found, measured, "cpu")
    assert found.exercises[0].evidence == [f"test_speed, {SOFTMAX.name}: 1.30 of the ceiling"]
    assert "1.30" not in student_view(found).exercises[0].checks[1].message


def test_what_is_settled_is_not_settled_again():
    found = report()
    settle(found, {KEY: [timed("pass", 1.0)]}, "cpu")
    before = found.to_json()
    assert settle(found, {KEY: [timed("fail", 0.0)]}, "cpu") == 0 and found.to_json() == before


# ---------------------------------------------------------------------------------------------- devices

@pytest.mark.parametrize(("name", "kind", "classes", "chosen"), [
    ("NVIDIA H200", "cuda", ("h200", "default"), "h200"), ("NVIDIA H200 NVL", "cuda", ("h200",), "h200"),
    ("NVIDIA H100 80GB HBM3", "cuda", ("h200", "default"), "default"), ("NVIDIA H2000", "cuda", ("h200",), None),
    ("cpu", "cpu", ("h200", "default"), None), ("cpu", "cpu", ("cpu", "default"), "cpu")])
def test_the_class_of_a_device(name, kind, classes, chosen):
    device = Device("cpu")
    device.name, device.kind = name, kind
    assert device.class_among(classes) == chosen


def test_the_slower_of_moving_and_computing_is_the_ceiling():
    ceilings = Ceilings(1e9, {"torch.float32": 1e10, "torch.float16": 1e12})
    work = replace(SOFTMAX, bytes=10**9, flops=10**11)
    assert ceilings.seconds(work, {torch.float32}) == pytest.approx(10.0)
    assert ceilings.seconds(work, {torch.float32, torch.float16}) == pytest.approx(1.0)
    assert ceilings.seconds(work, {torch.int64}) == pytest.approx(1.0)


def test_ceilings_are_measured_by_the_clock_that_is_given():
    class Steady:
        now = 0.0

        def __call__(self):
            self.now += 0.5
            return self.now
    found = Device("cpu").ceilings(Steady())
    assert found.bytes_per_second == 2 * (64 << 20) / 0.5
    assert found.flops_per_second == {"torch.float32": 2 * 768**3 / 0.5}


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_there_is_no_gpu_here():
    assert open_device("cuda") is None and open_device("cpu").name == "cpu"


# ---------------------------------------------------------------------------------------------- check files

def unit_with(folder, old: str = "", new: str = "") -> Unit:
    unit = speed_course(folder).units["kernels"]
    assert old in CHECKS
    unit.checks_path.write_text(CHECKS.replace(old, new) if old else CHECKS)
    return unit


def test_speed_checks_of_a_unit(tmp_path):
    (found,) = speed_checks(unit_with(tmp_path))
    assert (found.name, found.exercise, found.points) == ("test_softmax_speed", "softmax_into", 3.0)
    assert found.title.startswith("The kernel is at most") and found.workloads[0].call == "softmax_into"
    assert speed_checks(unit_with(tmp_path), ["another"]) == []
    assert speed_checks(unit_with(tmp_path, "@speed\n", "")) == []


@pytest.mark.parametrize(("old", "new", "said"), [
    ("    return [Workload(", "    1 / 0\n    return [Workload(", "test_softmax_speed: ZeroDivisionError"),
    ("    return [Workload(", "    return []\n    return [Workload(", "returns a list of"),
    ("import torch\n", "import torch\nimport nothing_like_this\n", "kernels_checks.py: ModuleNotFoundError"),
])
def test_a_broken_check_file_is_one_line(tmp_path, old, new, said):
    with pytest.raises(UsageError, match=said):
        speed_checks(unit_with(tmp_path, old, new))
