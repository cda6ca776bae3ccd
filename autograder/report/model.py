"""The report of one graded submission: the one typed model; every output format is a view of it."""
from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TensorView(_Model):
    """A tensor of a counterexample as text. `text` is empty when the tensor is too large to print."""

    name: str
    shape: list[int]
    dtype: str
    text: str = ""


class Difference(_Model):
    """How what the student's code returned differs from what was expected."""

    where: str = ""
    """Which value: `output`, `output[1]`, `gradient of k`."""
    expected_shape: list[int] | None = None
    got_shape: list[int] | None = None
    first_index: list[int] | None = None
    """Index of the first element that is off, in row-major order."""
    expected_value: float | None = None
    got_value: str | None = None
    """The student's value there, as text: it may be nan or inf, which JSON cannot say."""
    largest_error: str | None = None
    tolerance: str | None = None
    wrong_elements: int | None = None
    total_elements: int | None = None
    non_finite: str = ""
    """A line about NaN and inf values; empty when there are none."""
    expected: TensorView | None = None
    got: TensorView | None = None


class Counterexample(_Model):
    """The smallest example found on which a check fails."""

    inputs: str
    """One line: sizes, flags and seed."""
    tensors: list[TensorView] = Field(default_factory=list)
    difference: Difference | None = None


class Diagnosis(_Model):
    """The known mistake whose behaviour the submission shows."""

    id: str
    title: str
    explanation: str = ""
    certainty: Literal["all probes", "this example"]


class CheckResult(_Model):
    name: str
    title: str
    points: float
    score: float
    passed: bool
    public: bool
    message: str = ""
    """What, where, expected, got, what to try. Empty for a check that passed."""
    counterexample: Counterexample | None = None
    diagnosis: Diagnosis | None = None


class ExerciseResult(_Model):
    id: str
    title: str
    score: float
    max_score: float
    status: Literal["graded", "pending", "error"]
    checks: list[CheckResult] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    """What staff and student should know: a cell given twice, a statement that failed when its cell ran."""


class Report(_Model):
    """The grade of one student's submission for one unit."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    student: str
    unit: str
    sandbox: Literal["ENFORCED", "ADVISORY"]
    score: float
    max_score: float
    exercises: list[ExerciseResult]
    notes: list[str] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Versions, digests and options that the grade depends on; `timings`, alone, varies from run to run."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        return cls.model_validate_json(text)


def student_view(report: Report) -> Report:
    """The report as the student may see it: a hidden check shows its title and diagnosis, never its inputs."""
    shown = report.model_copy(deep=True)
    for exercise in shown.exercises:
        for check in exercise.checks:
            if not check.public:
                check.counterexample = None
                check.message = "" if check.passed else "This property does not hold for a hidden example."
    return shown
