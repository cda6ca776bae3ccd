"""The grader is graded: do the checks of a unit accept what is right, and refuse and name what is wrong?"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any

from autograder.course import Course
from autograder.errors import UsageError
from autograder.grading.assemble import total
from autograder.grading.grade import run_unit_checks
from autograder.grading.nulls import KERNEL_NULLS, NULLS, NullChannel
from autograder.grading.reference import ReferenceSubject
from autograder.grading.subjects import SubmissionSubject
from autograder.released_names import released_names
from autograder.remote.channel import LocalChannel, Recorder
from autograder.remote.foresight import ForesightChannel
from autograder.remote.student import RemoteStudent
from autograder.report.model import ExerciseResult
from autograder.solution.interpreter import expect_kernels
from autograder.solution.material import Material
from autograder.submission.cells import Submission
from autograder.submission.notebook import read_notebook
from autograder.submission.program import program_for
from autograder.variants import Variant
from etude.outcomes import Check


@dataclass
class Verdict:
    """What became of one variant of one exercise."""

    kind: str
    id: str
    ok: bool
    score: float
    max_score: float
    diagnosed_as: str = ""
    failed_checks: list[str] = field(default_factory=list)
    overlooked: list[str] = field(default_factory=list)
    """Of these, the checks that grading would not run, as every answer is the reference's but for rounding."""


@dataclass
class ExerciseProof:
    """What is known about the checks of one exercise."""

    unit: str
    exercise: str
    most_seconds: float = 1.5
    """CPU time that the checks may take on the reference: `verify_seconds` of the unit."""
    checks: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    verdicts: list[Verdict] = field(default_factory=list)
    idle_checks: list[str] = field(default_factory=list)
    """Checks that fail for no mistake: nothing shows that they can."""
    named_in_notebook: int = 0
    """Mistakes that the released fingerprints name; those that show in no answer cannot be."""
    misnamed_in_notebook: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        found = [_complaint(verdict) for verdict in self.verdicts if not verdict.ok]
        found += [f"no mistake fails {name}: nothing shows that this check can fail" for name in self.idle_checks]
        found += self.misnamed_in_notebook
        if self.cpu_seconds > self.most_seconds:
            found.append(f"its checks take {self.cpu_seconds:.2f} s CPU on the reference; at most "
                         f"{self.most_seconds:g} s")
        if not any(verdict.kind == "alternative" for verdict in self.verdicts):
            found.append("no alternative: nothing shows that right code written otherwise is accepted")
        return found

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "problems": self.problems}

    def count(self, kind: str) -> int:
        return sum(v.kind == kind for v in self.verdicts)

    def right(self, kind: str) -> int:
        """How many of this kind were judged as they should be; a mistake has to be named, too."""
        return sum(v.kind == kind and v.ok for v in self.verdicts)

    def losing(self, kind: str) -> int:
        """How many of this kind lost points."""
        return sum(v.kind == kind and v.score < v.max_score for v in self.verdicts)


def verify(course: Course, units: Sequence[str], jobs: int = 1, progress: Callable[[str], None] = lambda _: None,
           every: int = 1) -> Iterator[ExerciseProof]:
    """The proofs of units, or of single exercises by `unit.exercise`, in this order; `jobs` units side by side.

    With `every`, only each so-many-th mistake of a unit of kernels is tried: their interpreter is slow.
    """
    wanted: dict[str, list[str]] = {}
    for name in units or course.units:
        unit, _, exercise = name.partition(".")
        wanted.setdefault(unit, []).extend(course.unit(unit).exercise_ids(exercise))
    if jobs == 1 or len(wanted) == 1:
        for unit, exercises in wanted.items():
            yield from verify_unit(course, unit, progress, exercises, every)
        return
    # Spawned: whoever forks a process that has run PyTorch inherits locks that nobody will open.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {unit: pool.submit(verify_unit, course, unit, exercises=exercises, every=every)
                   for unit, exercises in wanted.items()}
        for number, (unit, proofs) in enumerate(running.items()):
            progress(f"{unit}, unit {number + 1} of {len(running)}")
            yield from proofs.result()


def verify_unit(course: Course, unit: str, progress: Callable[[str], None] = lambda _: None,
                exercises: Sequence[str] | None = None, every: int = 1) -> list[ExerciseProof]:
    """Run every variant of every exercise of a unit through its checks, in this process; nothing untrusted runs."""
    expect_kernels(course)
    material = Material(course, course.units[unit])
    proofs = {id: ExerciseProof(unit, id, material.unit.verify_seconds) for id in exercises or material.unit.exercises}
    # None for all: then their points must add up.
    some = list(proofs) if len(proofs) < len(material.unit.exercises) else None
    run_unit_checks(material, _subjects(material, proofs, progress, every), exercises=some, shrink=False)
    progress(f"{unit}: the names in the notebook")
    for proof in proofs.values():
        _find_idle(proof)
        proof.named_in_notebook, proof.misnamed_in_notebook = released_names(
            material, proof.exercise, _tried(material, every))
    return list(proofs.values())


def _subjects(material: Material, proofs: dict[str, ExerciseProof], progress: Callable[[str], None],
              every: int) -> Iterator[Any]:
    reference = ReferenceSubject(material)
    yield reference
    progress("the reference")
    again = _TimedReference(material)
    yield again
    for result in again.results:
        proof = proofs[result.id]
        proof.checks = [check.name for check in result.checks if not check.pending]
        proof.cpu_seconds = again.cpu_seconds[result.id]
        proof.verdicts.append(_judged("reference", "reference", result, result.score == _to_be_had(result)))
    progress("the skeleton")
    released = _released(material)
    skeleton = SubmissionSubject(material,
                                 lambda exercise: program_for(released, exercise, material.setup, material.given),
                                 LocalChannel, None)
    yield skeleton
    for result in skeleton.results:
        proofs[result.id].verdicts.append(_judged("skeleton", "skeleton", result, result.score == 0))
    for variant in _tried(material, every):
        if variant.exercise not in proofs:
            continue
        progress(f"{variant.exercise}: {variant.id}")
        subject = _OneExercise(material, variant, reference)
        yield subject
        proofs[variant.exercise].verdicts.append(_verdict_on(variant, subject))
    for name in KERNEL_NULLS if material.unit.triton else NULLS:
        progress(f"null output: {name}")
        subject = SubmissionSubject(material, lambda _: material.reference_program,
                                    lambda program, name=name: NullChannel(program, name), None)
        yield subject
        for result in subject.results:
            proofs[result.id].verdicts.append(
                _judged("null", name, result, result.score < _to_be_had(result) / 2))


def _tried(material: Material, every: int) -> list[Variant]:
    mistakes = [variant for variant in material.variants if variant.kind == "mistake"]
    left_out = [v for index, v in enumerate(mistakes) if index % every] if material.unit.triton else []
    return [variant for variant in material.variants if variant not in left_out]


class _TimedReference(SubmissionSubject):
    """The reference handed in as a submission: it must get full marks, in time. Examples have been drawn before."""

    def __init__(self, material: Material):
        super().__init__(material, lambda _: material.reference_program, LocalChannel, None)
        self.cpu_seconds: dict[str, float] = {}
        self._started = 0.0

    def student(self, exercise: str) -> Any:
        self._started = time.process_time()
        return super().student(exercise)

    def finished(self, exercise: str, outcomes: list) -> None:
        self.cpu_seconds[exercise] = round(time.process_time() - self._started, 3)
        super().finished(exercise, outcomes)


class _OneExercise(SubmissionSubject):
    """A variant; only the checks of its own exercise count, the others are passed over unrun."""

    def __init__(self, material: Material, variant: Variant, reference: ReferenceSubject):
        program = material.variant_program(variant)
        super().__init__(material, lambda _: program, LocalChannel, reference)
        self._variant, self._program = variant, program
        self._believed: dict[str, list] = {}
        """What was asked and answered in each check that grading would not run."""

    def wants(self, exercise: str) -> bool:
        return exercise == self._variant.exercise

    def student(self, exercise: str) -> None:
        super().student(exercise)
        self._asked_ahead = LocalChannel(self._program)

    def begins(self, check: Check) -> RemoteStudent:
        # Asked elsewhere: code that remembers must meet in the check what the check asks, and no more.
        script = self._scripts.get(check.name)
        self._ahead = ForesightChannel(self._asked_ahead, script, self._was_right) if script else None
        self._recorder = Recorder(self._channel)
        return RemoteStudent(self._recorder)

    def passes(self, check: Check) -> bool:
        """Grading would believe the answers; here the check is run all the same, and both must come to the same."""
        if super().passes(check):
            self._believed[check.name] = self._recorder.log
        return False

    @property
    def overlooked(self) -> list[str]:
        """The checks that fail by right answers, so that grading would not have run them.

        Code that remembers may answer rightly when asked ahead and wrongly in the check: that is no belief in rounding.
        But some check has to see it in grading, too.
        """
        failed = [check.name for check in self.result.checks if not check.passed]
        believed = [name for name in failed if name in self._believed]
        return believed if believed == failed else [
            name for name in believed if self._scripts[name].was_answered(self._believed[name])]

    @property
    def result(self) -> ExerciseResult:
        return self.results[0]


def _verdict_on(variant: Variant, subject: _OneExercise) -> Verdict:
    result, is_mistake = subject.result, variant.kind == "mistake"
    verdict = _judged(variant.kind, variant.id, result, (result.score < _to_be_had(result)) == is_mistake)
    verdict.overlooked = subject.overlooked
    verdict.ok &= not verdict.overlooked and (not is_mistake or verdict.diagnosed_as == variant.id)
    return verdict


def _judged(kind: str, id: str, result: ExerciseResult, ok: bool) -> Verdict:
    names = {check.diagnosis.id for check in result.checks if check.diagnosis}
    return Verdict(kind, id, ok, result.score, _to_be_had(result), ", ".join(sorted(names)),
                   [check.name for check in result.checks if check.failed])


def _to_be_had(result: ExerciseResult) -> float:
    """The points that these checks decide on: not those that wait for `autograder bench`."""
    return total([check for check in result.checks if not check.pending], "points")


def _find_idle(proof: ExerciseProof) -> None:
    killed = {name for v in proof.verdicts if v.kind == "mistake" for name in v.failed_checks}
    proof.idle_checks = [name for name in proof.checks if name not in killed]


def _released(material: Material) -> Submission:
    """The untouched notebook that students get, handed in."""
    path = material.unit.assignment_path
    if not path.exists():
        raise UsageError(f"{path}: no such file; run `autograder build` first")
    cells, _ = read_notebook(path.read_bytes(), str(path))
    return Submission("skeleton", material.unit.id, str(path), cells, digest="")


def _complaint(verdict: Verdict) -> str:
    score = f"{verdict.score:g} of {verdict.max_score:g} points"
    if verdict.overlooked:
        return (f"the {verdict.kind} {verdict.id} gives the reference's answers but for rounding, yet fails "
                f"{', '.join(verdict.overlooked)}; grading would not notice")
    if verdict.kind == "alternative":
        return f"the alternative {verdict.id} gets {score}; it fails {', '.join(verdict.failed_checks)}"
    if verdict.kind == "mistake" and verdict.score < verdict.max_score:
        return f"the mistake {verdict.id} is diagnosed as {verdict.diagnosed_as or 'nothing'}"
    return f"{verdict.kind} {verdict.id} gets {score}"
