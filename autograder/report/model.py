"""The report of one graded submission: the one typed model; every output format is a view of it."""
from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from autograder.report.text_safety import storable

SCHEMA = 1

# A student's exception text may hold lone surrogates or ten megabytes: it must not make the report impossible.
Text = Annotated[str, BeforeValidator(lambda value: storable(value) if isinstance(value, str) else value)]
Points = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, ser_json_inf_nan="strings")


class TensorView(_Model):
    """A tensor of a counterexample as text. `text` is empty when the tensor is too large to print."""

    name: Text
    shape: list[int]
    dtype: Text
    text: Text = ""


class Difference(_Model):
    """How what the student's code returned differs from what was expected."""

    where: Text = ""
    """Which value: `output`, `output[1]`, `gradient of k`."""
    expected_shape: list[int] | None = None
    got_shape: list[int] | None = None
    first_index: list[int] | None = None
    """Index of the first element that is off, in row-major order."""
    expected_value: float | None = None
    got_value: Text | None = None
    """The student's value there, as text: it may be nan or inf, which JSON cannot say."""
    largest_error: Text | None = None
    tolerance: Text | None = None
    wrong_elements: int | None = None
    total_elements: int | None = None
    non_finite: Text = ""
    """A line about NaN and inf values; empty when there are none."""
    expected: TensorView | None = None
    got: TensorView | None = None


class Counterexample(_Model):
    """The smallest example found on which a check fails."""

    inputs: Text
    """One line: sizes, flags and seed."""
    tensors: list[TensorView] = Field(default_factory=list)
    difference: Difference | None = None


class Diagnosis(_Model):
    """The known mistake whose behaviour the submission shows."""

    id: Text
    title: Text
    """Completes `This is what you get when ...`, for example `the scores are not divided by sqrt(d)`."""
    explanation: Text = ""
    certainty: Literal["all probes", "this example"]


class SpeedFigures(_Model):
    """What `autograder bench` measured of one workload."""

    workload: Text
    device: Text
    verdict: Literal["pass", "fail", "inconclusive", "pending"]
    seconds: float | None = None
    """Of a call; the median. None where a call was wrong."""
    reference_seconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    """The 95 % interval of the ratio."""
    fraction: float | None = None
    """Of the ceiling that was measured in the same session."""


class CheckResult(_Model):
    name: Text
    title: Text
    points: Points
    score: Points
    passed: bool
    public: bool
    speed: bool = False
    """Points for speed: the message holds figures, and nothing of hidden inputs."""
    pending: bool = False
    """Neither passed nor failed, until `autograder bench` settles it. The score is 0 until then."""
    figures: list[SpeedFigures] = Field(default_factory=list)
    """Of a speed check that was measured; one for each workload."""
    message: Text = ""
    """First line: what, where, expected, got. Further lines: what to try. For a check that passed, what it found out,
    usually nothing."""
    counterexample: Counterexample | None = None
    diagnosis: Diagnosis | None = None

    @property
    def failed(self) -> bool:
        """Known not to hold."""
        return not self.passed and not self.pending


class ExerciseResult(_Model):
    id: Text
    title: Text
    score: Points
    max_score: Points
    status: Literal["graded", "pending", "error"]
    label: Text = ""
    """How it was checked, where that needs saying: a kernel without a GPU."""
    checks: list[CheckResult] = Field(default_factory=list)
    notes: list[Text] = Field(default_factory=list)
    """What staff and student should know: a cell given twice, a statement that failed when its cell ran."""
    evidence: list[Text] = Field(default_factory=list)
    """For staff only: calls that the exercise forbids. They cost no points."""


class Report(_Model):
    """The grade of one student's submission for one unit."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    student: Text
    unit: Text
    sandbox: Literal["ENFORCED", "ADVISORY"]
    score: Points
    max_score: Points
    exercises: list[ExerciseResult]
    notes: list[Text] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Versions, digests and options that the grade depends on; `timings`, alone, varies from run to run."""

    model_config = ConfigDict(populate_by_name=True)

    def to_json(self) -> str:
        """The report as the store keeps it: everything, in ASCII, so that no terminal or CI log acts on it."""
        text = self.model_dump_json(by_alias=True, indent=2, ensure_ascii=True)
        # The same JSON, without the one ASCII control that it may hold raw, and without `##[...]`, a CI command.
        return text.replace("\x7f", "\\u007f").replace("##", "#\\u0023")

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """The report in a JSON text. Raises pydantic's `ValidationError` for anything else."""
        return cls.model_validate_json(text)


def student_view(report: Report) -> Report:
    """The report as the student may see it: a hidden check shows its title and diagnosis, never its inputs.

    The provenance goes too: it says how the hidden examples were drawn.
    """
    shown = report.model_copy(deep=True, update={"provenance": {}})
    for exercise in shown.exercises:
        exercise.evidence = []
        for check in exercise.checks:
            if not check.public:
                check.name = check.name.partition("[")[0]  # pytest writes parameters into the name
                check.counterexample = None
                if not check.speed:
                    check.message = "" if check.passed else _hidden_message(check.message)
    return shown


def _hidden_message(message: str) -> str:
    """What a student may read of a hidden check's failure: that nothing was there says nothing of its inputs."""
    first = message.split("\n")[0]
    if first.startswith("Not implemented yet:") or first.startswith("the notebook defines no "):
        return first
    return "This property does not hold for a hidden example."
