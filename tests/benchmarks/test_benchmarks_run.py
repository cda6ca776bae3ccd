"""The benchmarks run on a tiny input, and what they promise of their figures holds: the same checks, all CPU time."""
from __future__ import annotations

import cProfile
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # `tests.benchmarks` is found from the root, wherever pytest starts

from autograder.course import Course, load_course
from autograder.grading.grade import run_seed
from autograder.sandbox import libc
from autograder.solution.material import Material
from autograder.submission.reader import read_submissions
from etude.engine import run_checks
from etude.executor import ERROR
from etude.observe import tensors_in
from etude.students.student import NamespaceStudent
from etude.students.watch import Watch
from tests.benchmarks import in_kernel, limit, parts, peers, scaling
from tests.benchmarks.cpu import Mark, spread
from tests.benchmarks.graders import ROOT, Bench, Graded
from tests.benchmarks.handed_in import KINDS, NUMBERS, UNIT, HandedIn, handed_in, plain_source, solutions_of
from tests.benchmarks.replay import Replay, record

pytestmark = pytest.mark.skipif(not libc.LINUX, reason="CPU time is counted from /proc, which only Linux has")
EXERCISE = "sdpa_masked"


@pytest.fixture(scope="module")
def course() -> Course:
    return load_course(ROOT / "course.yml")


@pytest.fixture(scope="module", autouse=True)
def marks_of_checks(pytestconfig: pytest.Config) -> None:
    """A kernel runs no pytest; this pytest would refuse the marks of a check file that is run in it."""
    for name in ("exercise", "points", "public"):
        pytestconfig.addinivalue_line("markers", f"{name}: a mark of checks")


@pytest.fixture(scope="module")
def reference(course: Course) -> Any:
    return Material(course, course.unit(UNIT)).reference


# ---------------------------------------------------------------------------------------------- the same checks

class Calls:
    """A namespace with the reference's functions that notes what they are called with."""

    def __init__(self, reference: Any):
        self.seen: list[tuple] = []
        self.namespace = {name: self._noted(value) if callable(value) else value
                          for name, value in vars(reference).items()}

    def _noted(self, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.seen.append(tuple((one.shape, one.dtype, one.stride(), one.detach().double().sum().item())
                                   for one in tensors_in(args)))
            return function(*args, **kwargs)
        return call

    # As the engine's subject:
    def student(self, exercise: str) -> NamespaceStudent:
        return NamespaceStudent(self.namespace, Watch(60, 60))

    def finished(self, exercise: str, outcomes: list) -> None:
        self.names = [outcome.check.name for outcome in outcomes]
        assert all(outcome.passed for outcome in outcomes)


def test_the_peers_kernels_see_the_very_examples_that_our_engine_draws(course: Course, reference: Any):
    checks = course.unit(UNIT).checks_path
    engine = Calls(reference)
    run_checks([checks], [engine], reference=reference, seed=run_seed(), exercises=[EXERCISE])
    text = "import torch\nfrom torch import Tensor\nimport math\n" + "\n".join(solutions_of(course).values())

    def seen(seed: int, names: Sequence[str]) -> list[tuple]:
        kernel = Calls(reference)
        holds = in_kernel.make(text, checks.read_text(encoding="utf-8"), seed, 60, 60)
        for name in names:
            holds(name, kernel.namespace)
        return kernel.seen
    threads = torch.get_num_threads()
    assert len(engine.seen) > 100 and seen(run_seed(), engine.names) == engine.seen
    first = seen(run_seed() + 1, engine.names[:1])
    torch.set_num_threads(threads)
    assert len(first) > 5 and first != engine.seen[:len(first)], "the control: from another seed come other examples"


def test_a_check_fails_in_the_kernel_where_it_ought_to(course: Course, reference: Any):
    holds = in_kernel.make("", course.unit(UNIT).checks_path.read_text(encoding="utf-8"), 0, 60, 60)
    holds("test_sdpa_two_keys", dict(vars(reference)))
    with pytest.raises(AssertionError):
        holds("test_sdpa_two_keys", {"sdpa": lambda q, k, v, keep: torch.softmax(q @ k.mT, dim=-1) @ v})


def test_the_kernels_text_stands_alone(course: Course, tmp_path: Path):
    text = Bench(course, [], tmp_path).setup()
    names: dict[str, Any] = {}
    exec(compile(text, "setup", "exec"), names)
    with pytest.raises(Exception, match="no cell that was run defines sdpa"):
        names["holds"]("test_sdpa_two_keys", {})
    sources = json.dumps(plain_source(course))
    assert "BEGIN SOLUTION" in sources and "matplotlib" not in sources and "import check" not in sources


# ---------------------------------------------------------------------------------------------- what is handed in

def test_the_class_of_24_has_every_kind_and_begins_with_a_right_one(course: Course):
    made = handed_in(course, 24)
    assert Counter(one.kind for one in made) == NUMBERS and made[0].kind == "right"
    right = made[0].cells
    for one in made:
        assert bool(one.faulty) == (one.kind != "right")
        assert all((one.cells[name] != right[name]) for name in one.faulty)
    assert [one.kind for one in handed_in(course, 3, ["syntax error"])] == ["syntax error"] * 3
    assert set(KINDS) == {one.kind for one in handed_in(course, len(KINDS))}


def test_a_verdict_is_right_only_if_each_exercise_is():
    one = HandedIn("s", "wrong", {"a": "", "b": ""}, frozenset({"b"}))
    points = {"a": 2.0, "b": 3.0}
    assert one.is_rightly_graded({"a": 2.0, "b": 1.0}, points)
    for scores in (None, {"a": 2.0, "b": 3.0}, {"a": 1.0, "b": 1.0}, {}):
        assert not one.is_rightly_graded(scores, points)


# ---------------------------------------------------------------------------------------------- CPU time

_ORPHAN = """
import resource, subprocess, sys, time
from pathlib import Path
from tests.benchmarks import cpu

cpu.GRACE_SECONDS = 100  # on a busy machine
burn = "import time\\nwhile time.process_time() < 0.4: pass"
leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
subprocess.run([sys.executable, "-c", leave])
plain = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
done = cpu.run([sys.executable, "-c", leave], cwd=Path.cwd())
looping = cpu.run([sys.executable, "-c", "while True: pass"], cwd=Path.cwd(), seconds=0.3)
print(plain, done.whole.cpu, looping.stopped, looping.code, sleeper.poll())
sleeper.kill()
"""


def test_what_outlives_a_command_is_counted_and_what_others_started_is_left_alone():
    done = subprocess.run([sys.executable, "-c", _ORPHAN], cwd=ROOT, capture_output=True, text=True, check=True)
    plain, counted, stopped, code, sleeper = done.stdout.split()
    assert float(plain) < 0.3, "the control: the child of a child that nobody waited for is not seen"
    assert float(counted) >= 0.4
    assert (stopped, code, sleeper) == ("True", "-9", "None")


def test_nbgrader_grades_one_submission(tmp_path: Path):
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.peers", "--submissions", "1", "--repeat", "1",
                           "--only", "nbgrader", "--kinds", "wrong", "--json", str(tmp_path / "all.json")],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| wrong | 1 of 1 |" in done.stdout
    one, = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["passes"]["nbgrader"]
    assert one["each"]["s0000"]["cpu"] > 0.5 and one["start"]["cpu"] > 0.5


def test_the_tables_of_peers():
    submissions = [HandedIn("s0", "right", {"a": ""}, frozenset()),
                   HandedIn("s1", "ends the process", {"a": ""}, frozenset({"a"}))]

    def graded(cpu: float, scores: dict | None) -> Graded:
        each = {"s0": Mark(cpu, cpu), "s1": Mark(1.0, 1.0)}
        return Graded(Mark(cpu + 1, cpu + 1), Mark(0.0, 0.0), each, {"s0": {"a": 2.0}, "s1": scores})
    passes = {"ours": [graded(1.0, {"a": 0.0}), graded(3.0, {"a": 0.0})], "otter": [graded(40.0, None)] * 2}
    rows = peers.tables(passes, submissions, {"a": 2.0})
    assert "| CPU s of one more, right | 2.00 (1.00 to 3.00) | 40.00 (40.00 to 40.00) | 20.0 |" in rows
    assert "| rightly graded | 2 of 2 | 1 of 2 |  |" in rows
    assert "| ends the process | 1 of 1 | 0 of 1, 1 without result |" in rows
    assert len({row.count("|") for row in rows[:rows.index("")]}) == 1


# ---------------------------------------------------------------------------------------------- the limit

def test_the_replay_makes_every_call_that_the_checks_made(course: Course):
    (submission,), _ = read_submissions([limit.RIGHT], course)
    channels = record(Material(course, course.unit(UNIT)), submission, ["grouped_heads"])
    replay = Replay(channels)
    assert replay.run() > 0
    refused = sum(reply[0] == ERROR for channel in channels for _, reply in channel.log)
    assert replay.raised == refused > 0  # the contract asks for errors
    assert replay.counts["calls"] > 50 and replay.counts["backward passes"] > 10


def test_one_round_of_the_limit():
    found = limit.measure(1, 1, exercises=["sparsemax"])
    assert found.grading[0] > found.functions[0] > 0 and found.ratio > 1
    assert sum(found.shares.values()) == pytest.approx(1)
    assert "wire" in found.shares and "engine" in found.shares
    assert f"| ratio | {found.ratio:.2f} | ≤ 3 |" in limit.tables(found)


def test_time_is_charged_to_the_part_that_called(course: Course):
    from etude.strategies import Cases, normal
    cases = Cases(x=normal("B T d"))
    profile = cProfile.Profile()
    with parts.profiled(profile):
        for seed in range(200):
            cases.case({"B": 2, "T": 3, "d": 4}, seed=seed).arguments()
    shares = parts.shares(profile)
    assert shares["case making"] > 0.5 and "comparison" not in shares


# ---------------------------------------------------------------------------------------------- scaling

def test_the_tables_of_scaling():
    one = scaling.Sized(11, Mark(20.0, 20.0), Mark(5.0, 5.0), Mark(15.0, 15.0), [1024] * 10 + [2048] * 10, 3072)
    two = scaling.Sized(11, Mark(25.0, 10.0), Mark(5.0, 5.0), Mark(15.0, 8.0))
    assert scaling.size_table([one])[-1] == "| 11 | 20.0 | 1.00 | 1.00 | 1 | 2 | 3 |"
    assert scaling.jobs_table([one], [two])[2] == "| wall s, whole run (target ≥ 1.8) | 20.0 | 10.0 | 2.00 |"
    assert "5.0, 8.0" in scaling.memory_row([2048, 5120, 8192]) and "root" in scaling.memory_row([])
    assert scaling._private(os.getpid()) > 1024 if os.access(f"/proc/{os.getpid()}/smaps_rollup", os.R_OK) else True


def test_the_spread_shows_median_and_ends():
    assert spread([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)" and spread([1.0]) == "1.00" and spread([]) == ""
