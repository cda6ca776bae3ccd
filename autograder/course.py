"""The course: course.yml as a typed model, and where the files of a unit are.

`load_course` is the way in. Whatever is wrong with the file is told in one line that names the line, the entry, what
was expected and what stands there. Only this module needs pydantic, and nothing here needs torch.
"""
from __future__ import annotations

import difflib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from autograder.course_values import (
    Attempts,
    ExerciseId,
    FileName,
    Flag,
    Hours,
    Id,
    Line,
    Module,
    Moment,
    Name,
    Positive,
    Schema,
    Share,
    Stars,
    Stem,
    Whole,
    shown,
)
from autograder.errors import UsageError
from autograder.located_yaml import Located, dotted, read_yaml
from autograder.moments import moment
from autograder.one_line import one_line

FILE_NAME = "course.yml"
MAX_BYTES = 1 << 20


# ---------------------------------------------------------------------------------------------- the model

class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SpeedThresholds(_Model):
    """What a kernel's speed is worth on one class of devices; see `autograder bench`."""

    full: Positive
    """At so many times the reference's time, or less: all points of the speed check."""
    zero: Positive
    """At so many times, or more: none; in between, by the logarithm."""
    ceiling: Share
    """The fraction of what the device was measured to do that gives all points, too."""
    measured: Line = "not measured"
    """Which run set these values."""

    @model_validator(mode="after")
    def _ordered(self) -> SpeedThresholds:
        if self.zero <= self.full:
            raise PydanticCustomError("expected", "{text}", {
                "text": f"expected zero to be larger than full, got full {self.full:g} and zero {self.zero:g}"})
        return self


class Exercise(_Model):
    """One exercise: a cell to fill, graded by its checks."""

    title: Line
    points: Positive
    minutes: Positive
    """Time that a student needs, roughly."""
    difficulty: Stars
    forbid: list[Name] = Field(default_factory=list)
    """Functions and classes that are not to be called (`scaled_dot_product_attention`). Staff are told; no points."""
    speed: dict[Id, SpeedThresholds] = Field(default_factory=dict)
    """By class of devices (`h200`), or `default` for all others."""
    _id: str = PrivateAttr("")

    @property
    def id(self) -> str:
        return self._id


class Unit(_Model):
    """An architecture family: one notebook, one nbgrader assignment."""

    title: Line
    notebook: Stem
    """Name of the notebook, without its ending."""
    exercises: Annotated[dict[ExerciseId, Exercise], Field(min_length=1)]
    prerequisites: list[Id] = Field(default_factory=list)
    """Units that a student does well to do before."""
    triton: Flag = False
    """Its exercises are Triton kernels: run in Triton's interpreter, and built for a GPU without one."""
    verify_seconds: Positive = 1.5
    """CPU time that the checks of one exercise may take on the reference, in `autograder verify`."""
    _id: str = PrivateAttr("")
    _root: Path = PrivateAttr(Path())

    @property
    def id(self) -> str:
        return self._id

    @property
    def points(self) -> float:
        return sum(exercise.points for exercise in self.exercises.values())

    def exercise_ids(self, only: str = "") -> list[str]:
        """The ids of all exercises, or just this one. Raises `UsageError` naming the nearest one."""
        if only and only not in self.exercises:
            hint = nearest(only, self.exercises) or f"; it has {', '.join(self.exercises)}"
            raise UsageError(f"unit {self.id} has no exercise {only!r}{hint}")
        return [only] if only else list(self.exercises)

    @property
    def solution_path(self) -> Path:
        """The single source: the notebook as a percent script, with its solutions."""
        return self._root / "solutions" / self.id / f"{self.notebook}.py"

    @property
    def checks_path(self) -> Path:
        return self._root / "solutions" / self.id / f"{self.notebook}_checks.py"

    @property
    def variants_path(self) -> Path:
        return self._root / "solutions" / self.id / f"{self.notebook}_variants.py"

    @property
    def assignment_path(self) -> Path:
        """The notebook that students get."""
        return self._root / "assignments" / self.id / f"{self.notebook}.ipynb"


class Limits(_Model):
    """What a student's code may use."""

    call_seconds: Positive = 5.0
    """One call of a student's function."""
    exercise_seconds: Positive = 60.0
    """All checks of one exercise of one submission."""
    memory_mb: Whole = 2048
    """Address space of a worker."""


class Late(_Model):
    """What a late submission loses."""

    per_day: Share
    """The share of its score for every day begun after the deadline."""
    grace_hours: Hours = 0.0
    """So late costs nothing; from then on, days count from the deadline."""
    most: Share = 1.0
    """Never more than this share."""


class Policy(_Model):
    """From scores to marks."""

    deadlines: dict[Id, Moment] = Field(default_factory=dict)
    """By unit."""
    late: Late | None = None
    """Without it, a late submission loses nothing."""
    attempts: Attempts = "best"
    """Which of several submissions counts: the one with the highest mark, or the one handed in last."""
    extensions: FileName | None = None
    """A CSV file beside course.yml, with the columns student, unit and until."""
    leaderboard: FileName | None = None
    """A CSV file beside course.yml, with the column student: who takes part in `autograder leaderboard`."""

    def deadline(self, unit: str) -> datetime | None:
        return moment(self.deadlines[unit]) if unit in self.deadlines else None


class Course(_Model):
    """The whole of course.yml."""

    schema_: Annotated[Schema, Field(alias="schema")]
    title: Line
    units: Annotated[dict[Id, Unit], Field(min_length=1)]
    limits: Limits = Field(default_factory=Limits)
    policy: Policy = Field(default_factory=Policy)
    preload: list[Module] = Field(default_factory=list)
    """Modules beyond the standard list that students may import."""
    _root: Path = PrivateAttr(Path())

    @property
    def root(self) -> Path:
        """The folder that course.yml lies in."""
        return self._root

    @model_validator(mode="after")
    def _name_entries(self) -> Course:
        for unit_id, unit in self.units.items():
            unit._id = unit_id
            for exercise_id, exercise in unit.exercises.items():
                exercise._id = exercise_id
        return self

    def unit(self, unit_id: str) -> Unit:
        """The unit with this id. Raises `UsageError` naming the nearest one."""
        if unit_id not in self.units:
            hint = nearest(unit_id, self.units) or f"; the course has {', '.join(list(self.units)[:10])}"
            raise UsageError(f"unknown unit {unit_id!r}{hint}")
        return self.units[unit_id]

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of course.yml, by which editors complete it."""
        return cls.model_json_schema(by_alias=True)


# ---------------------------------------------------------------------------------------------- reading it

def find_course(start: Path) -> Path:
    """The course.yml in the folder `start` or the nearest folder above it."""
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise UsageError(f"no {FILE_NAME} in {start} or any folder above it")


def load_course(path: Path) -> Course:
    """The course that a course.yml describes. Raises `UsageError` with one line that names the place."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse_course(data, str(path), path.resolve().parent)


def parse_course(data: bytes, name: str, root: Path) -> Course:
    """The course in the bytes of a course.yml called `name`, whose files lie under `root`."""
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name}: larger than {MAX_BYTES >> 20} MiB; is this a course.yml?")
    try:
        located = read_yaml(data.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: not UTF-8: byte 0x{data[error.start]:02x}") from None
    if not isinstance(located.value, dict):
        raise UsageError(f"{name}:1: expected a mapping at the top, got {shown(located.value)}")
    course = _validated(located)
    _check_prerequisites(course, located)
    for unit in course.policy.deadlines.keys() - course.units.keys():
        path = ("policy", "deadlines", unit)
        raise UsageError(f"{name}:{located.line(path, True)}: {dotted(path)}: the course has no unit {unit!r}"
                         f"{nearest(unit, course.units)}")
    return _with_root(course, root)


def _check_prerequisites(course: Course, located: Located) -> None:
    for unit in course.units.values():
        for index, needed in enumerate(unit.prerequisites):
            if needed in course.units and needed != unit.id:
                continue
            path = ("units", unit.id, "prerequisites", index)
            others = course.units.keys() - {unit.id}
            fault = "a unit is not its own prerequisite" if needed == unit.id else \
                f"the course has no unit {needed!r}{nearest(needed, others)}"
            raise UsageError(f"{located.name}:{located.line(path, False)}: {dotted(path)}: {fault}")


def _with_root(course: Course, root: Path) -> Course:
    course._root = root
    for unit in course.units.values():
        unit._root = root
    return course


def _validated(located: Located) -> Course:
    try:
        return Course.model_validate(located.value)
    except ValidationError as error:
        faults = sorted((_fault(fault, located) for fault in error.errors()), key=lambda fault: fault[:2])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise UsageError(f"{located.name}:{faults[0][1]}: {one_line(faults[0][2])}{more}")


# The model that a path of keys leads to; every second key is a name that the course chose.
_MODELS = {"": Course, "limits": Limits, "policy": Policy, "policy.*": Late, "units.*": Unit,
           "units.*.exercises.*": Exercise, "units.*.exercises.*.speed.*": SpeedThresholds}
_MESSAGES = {"missing": "missing", "too_short": "expected at least one entry",
             "list_type": "expected a list, got {got}", "dict_type": "expected a mapping, got {got}",
             "model_type": "expected a mapping, got {got}"}


def _fault(error: Any, located: Located) -> tuple[bool, int, str]:
    """(sort key, line, text). Unknown keys first: a typing error also makes the key that was meant missing."""
    path, kind = tuple(step for step in error["loc"] if step != "[key]"), error["type"]
    if kind == "extra_forbidden":
        pattern = ".".join("*" if index % 2 else str(step) for index, step in enumerate(path[:-1]))
        message = "unknown key" + nearest(path[-1], _keys(_MODELS.get(pattern, Course)))
    else:
        message = _MESSAGES.get(kind, error["msg"]).replace("{got}", shown(error["input"]))
    of_key = kind in ("extra_forbidden", "missing") or error["loc"][-1] == "[key]"
    return kind != "extra_forbidden", located.line(path, of_key), f"{dotted(path)}: {message}"


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def nearest(word: str, known: Any) -> str:
    """A hint to add to a message about an unknown word: `; did you mean 'points'?`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
