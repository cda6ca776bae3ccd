"""Three graders, each as its users run it, over the same submissions with the same checks and examples."""
from __future__ import annotations

import inspect
import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.build.check_file import Check, read_checks
from autograder.course import Course
from autograder.grading.grade import run_seed
from tests.benchmarks import in_kernel
from tests.benchmarks.cpu import Mark, Run, run
from tests.benchmarks.handed_in import UNIT, HandedIn, notebook, plain_source, solutions_of, write

ROOT = Path(__file__).resolve().parents[2]
CELL_SECONDS = 15
"""nbgrader's time limit for a cell. It is for what runs outside of the checks, whose calls an alarm cuts off; and the
cell that imports PyTorch must not fall to it on a busy machine."""
OTTER_SECONDS = 60
"""otter has no time limit: whoever uses it stops the command from outside, here after so much CPU time."""
Scores = dict[str, float]


@dataclass
class Graded:
    """One pass over all submissions."""

    whole: Mark
    start: Mark
    """What was spent before the first submission, or with it beyond what another of its kind costs."""
    each: dict[str, Mark]
    scores: dict[str, Scores | None] = field(default_factory=dict)
    """By student; None where the grader left no result."""


@dataclass(frozen=True)
class Bench:
    """What all graders are given."""

    course: Course
    submissions: Sequence[HandedIn]
    folder: Path

    @property
    def checks(self) -> list[Check]:
        unit = self.course.unit(UNIT)
        return read_checks(unit.checks_path, unit.exercises).checks

    def setup(self) -> str:
        """The text that defines `holds(check, namespace)` in a student's kernel."""
        limits = self.course.limits
        reference = "\n\n".join(["import math\n\nimport torch\nfrom torch import Tensor",
                                 *solutions_of(self.course).values()])
        values = (reference, self.course.unit(UNIT).checks_path.read_text(encoding="utf-8"), run_seed(),
                  limits.call_seconds, limits.exercise_seconds)
        return f"{inspect.getsource(in_kernel)}\n\nholds = make({', '.join(map(repr, values))})\n"

    def run(self, *command: str, cwd: Path, log: Path, **options: Any) -> Run:
        """A command of the environment that this runs in, to its end; see `cpu.run`."""
        # otter by its own command: `python -m otter` costs 2 s more, of memory that is given back and asked for again.
        script = [str(Path(sys.executable).parent / command[0])]
        start = [sys.executable, "-m", "autograder.cli"] if command[0] == "autograder" else script
        return run([*start, *command[1:]], cwd=cwd, log=log, env=self._environment(), **options)

    def _environment(self) -> dict[str, str]:
        """One thread for each process, which is faster for all of them here, and a home that only this run uses.

        It stays for the whole run: libraries keep caches there, and nobody shall have to fill them anew each time.
        """
        home = self.folder / "home"
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        return {**os.environ, "HOME": str(home), "TMPDIR": str(home / "tmp"), "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'lib'}",
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])}


# ---------------------------------------------------------------------------------------------- ours

class Ours:
    """`autograder grade` on a folder."""

    name = "autograder grade"

    def __init__(self, bench: Bench):
        self._bench, self._class = bench, bench.folder / "ours" / "class"
        skeleton = json.dumps(plain_source(bench.course))
        for one in bench.submissions:
            write(self._class / one.student / UNIT / f"{UNIT}.ipynb", notebook(skeleton, one.cells))

    def grade(self) -> Graded:
        out, students = self._bench.folder / "ours" / "out", [one.student for one in self._bench.submissions]
        reports = [out / student / f"{UNIT}.json" for student in students]
        done = self._bench.run("autograder", "grade", str(self._class), "--out", str(out), cwd=ROOT,
                               log=self._bench.folder / "ours" / "log", steps=_counted(reports))
        graded = _between(done.whole, [Mark(0.0, 0.0), *done.marks], self._bench.submissions)
        for student, path in zip(students, reports, strict=True):
            graded.scores[student] = None
            if path.exists():
                report = json.loads(path.read_text(encoding="utf-8"))
                graded.scores[student] = {one["id"]: one["score"] for one in report["exercises"]}
        shutil.rmtree(out)
        return graded


def _counted(paths: Sequence[Path]) -> Callable[[], int]:
    """How many of these are there, as they come in this order; only the next one is looked for."""
    there = 0

    def count() -> int:
        nonlocal there
        while there < len(paths) and paths[there].exists():
            there += 1
        return there
    return count


def _between(whole: Mark, marks: Sequence[Mark], submissions: Sequence[HandedIn]) -> Graded:
    """Each submission's part from the marks before and after it. Where the run began with the first submission, the
    start-up is what that one cost beyond another of its kind."""
    each = {one.student: after.since(before)
            for one, before, after in zip(submissions, marks, marks[1:], strict=False)}
    start = marks[0]
    first, *others = submissions
    alike = [each[one.student] for one in others if one.kind == first.kind and one.student in each]
    if alike and start.cpu == 0:
        usual = Mark(statistics.median(one.cpu for one in alike), statistics.median(one.wall for one in alike))
        start, each[first.student] = each[first.student].since(usual), usual
    return Graded(whole, start, each)


# ---------------------------------------------------------------------------------------------- nbgrader

_CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "benchmark"
c.Execute.timeout = {seconds}
"""
_HIDDEN = "### BEGIN HIDDEN TESTS\n{text}\n### END HIDDEN TESTS"


class Nbgrader:
    """`nbgrader autograde` on a class: all of its own preprocessors, a kernel for each submission."""

    name = "nbgrader autograde"

    def __init__(self, bench: Bench):
        self._bench, self._course = bench, bench.folder / "nbgrader" / "course"
        write(self._course / "nbgrader_config.py", _CONFIG.format(seconds=CELL_SECONDS))
        write(self._course / "source" / UNIT / f"{UNIT}.ipynb", self._source())
        done = bench.run("nbgrader", "generate_assignment", UNIT, cwd=self._course, log=self._course / "log")
        if done.code:
            raise RuntimeError(f"{self._course / 'log'}: nbgrader generate_assignment failed")
        skeleton = (self._course / "release" / UNIT / f"{UNIT}.ipynb").read_text(encoding="utf-8")
        for one in bench.submissions:
            write(self._course / "submitted" / one.student / UNIT / f"{UNIT}.ipynb", notebook(skeleton, one.cells))

    def _source(self) -> str:
        """The notebook with a graded cell for each check, and before them one, worth nothing, that defines them."""
        value = plain_source(self._bench.course)
        value["cells"].append(_cell("definitions_of_checks", self._bench.setup(), 0))
        for check in self._bench.checks:
            value["cells"].append(_cell(check.name, f'holds("{check.name}", globals())', check.points))
        return json.dumps(value, indent=1)

    def grade(self) -> Graded:
        folder, students = self._bench.folder / "nbgrader" / "run", [one.student for one in self._bench.submissions]
        shutil.copytree(self._course, folder)
        begun = [folder / "autograded" / student for student in students]
        done = self._bench.run("nbgrader", "autograde", UNIT, cwd=folder,
                               log=self._bench.folder / "nbgrader" / "log", steps=_counted(begun))
        graded = _between(done.whole, [*done.marks, done.whole], self._bench.submissions)
        graded.scores = {student: self._scores(folder, student) for student in students}
        shutil.rmtree(folder)
        return graded

    def _scores(self, folder: Path, student: str) -> Scores | None:
        from nbgrader.api import Gradebook
        if not (folder / "autograded" / student / UNIT / f"{UNIT}.ipynb").exists():
            return None
        with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
            grades = {grade.name: grade.auto_score
                      for grade in book.find_submission_notebook(UNIT, UNIT, student).grades}
        scores: Scores = {}
        for check in self._bench.checks:
            scores[check.exercise] = scores.get(check.exercise, 0) + (grades.get(check.name) or 0)
        return scores


def _cell(grade_id: str, text: str, points: float) -> dict[str, Any]:
    marks = {"schema_version": 3, "grade_id": grade_id, "grade": True, "solution": False, "locked": True,
             "task": False, "points": points}
    return {"cell_type": "code", "id": grade_id[:64], "execution_count": None, "outputs": [],
            "metadata": {"nbgrader": marks}, "source": _HIDDEN.format(text=text).splitlines(keepends=True)}


# ---------------------------------------------------------------------------------------------- otter

_TEST_FILE = """\
OK_FORMAT = False

from checks_in_kernel import holds
from otter.test_files import test_case

name = {exercise!r}
points = None
"""
_TEST = """

@test_case(name={check!r}, points={points!r}, hidden=True)
def check_{number}(env):
    holds({check!r}, env)
"""


class Otter:
    """`otter run` for each submission, with the zip that `otter generate` makes."""

    name = "otter run"

    def __init__(self, bench: Bench):
        self._bench, self._folder = bench, bench.folder / "otter"
        for exercise in bench.course.unit(UNIT).exercises:
            own = [check for check in bench.checks if check.exercise == exercise]
            write(self._folder / "tests" / f"{exercise}.py", _TEST_FILE.format(exercise=exercise) + "".join(
                _TEST.format(check=check.name, points=check.points, number=number)
                for number, check in enumerate(own, 1)))
        write(self._folder / "files" / "checks_in_kernel.py", bench.setup())
        done = bench.run("otter", "generate", "-t", "../tests", "-o", "../autograder.zip", "--no-requirements",
                         "--no-environment", "--no-config", "checks_in_kernel.py",
                         cwd=self._folder / "files", log=self._folder / "log")
        if done.code:
            raise RuntimeError(f"{self._folder / 'log'}: otter generate failed")
        skeleton = json.dumps(plain_source(bench.course))
        for one in bench.submissions:
            write(self._folder / "class" / one.student / f"{UNIT}.ipynb", notebook(skeleton, one.cells))

    def grade(self) -> Graded:
        graded, now = Graded(Mark(0.0, 0.0), Mark(0.0, 0.0), {}), Mark(0.0, 0.0)
        for one in self._bench.submissions:
            out = self._folder / "out"
            out.mkdir()
            done = self._bench.run("otter", "run", "--no-logo", "-a", str(self._folder / "autograder.zip"), "-o",
                                   str(out), str(self._folder / "class" / one.student / f"{UNIT}.ipynb"),
                                   cwd=out, log=self._folder / "log", cpu_seconds=OTTER_SECONDS)
            now = Mark(now.cpu + done.whole.cpu, now.wall + done.whole.wall)
            graded.each[one.student] = done.whole
            graded.scores[one.student] = None
            with suppress(FileNotFoundError):
                tests = json.loads((out / "results.json").read_text(encoding="utf-8"))["tests"]
                graded.scores[one.student] = {test["name"]: test["score"] for test in tests if "score" in test}
            shutil.rmtree(out)
        graded.whole = now
        return graded


GRADERS: dict[str, Callable[[Bench], Any]] = {"ours": Ours, "nbgrader": Nbgrader, "otter": Otter}
