"""What a hidden check was given never reaches a view that a student may see."""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.report.model import (
    CheckResult,
    Counterexample,
    Diagnosis,
    Difference,
    ExerciseResult,
    Report,
    TensorView,
)
from autograder.report.writer import FORMATS, text_file, write_views

from .views import STAFF_VIEWS, STUDENT_VIEWS

SECRET, SECRET_NUMBER = "SECRET", 31337
words = st.text(st.characters(codec="ascii", categories=["Ll", "P", "S", "Z"]), max_size=20)


def tensors(text: st.SearchStrategy[str], size: st.SearchStrategy[int]) -> st.SearchStrategy[TensorView]:
    return st.builds(TensorView, name=text, shape=st.lists(size, max_size=3), dtype=text, text=text)


def differences(text, size) -> st.SearchStrategy[Difference]:
    maybe_tensor = st.none() | tensors(text, size)
    shape = st.none() | st.lists(size, max_size=3)
    return st.builds(Difference, where=text, expected_shape=shape, got_shape=shape, first_index=shape,
                     expected_value=st.none() | size.map(float), got_value=st.none() | text,
                     largest_error=st.none() | text, tolerance=st.none() | text, wrong_elements=st.none() | size,
                     total_elements=st.none() | size, non_finite=text, expected=maybe_tensor, got=maybe_tensor)


def examples(text, size) -> st.SearchStrategy[Counterexample]:
    return st.builds(Counterexample, inputs=text, tensors=st.lists(tensors(text, size), max_size=2),
                     difference=st.none() | differences(text, size))


def checks(public: bool) -> st.SearchStrategy[CheckResult]:
    text = words if public else words.map(lambda word: f"{word}{SECRET}{word}")
    size = st.integers(0, 9) if public else st.just(SECRET_NUMBER)
    diagnosis = st.builds(Diagnosis, id=words, title=words, explanation=words,
                          certainty=st.sampled_from(["all probes", "this example"]))
    return st.builds(CheckResult, name=st.just("test_x") if public else text.map(lambda t: f"test_x[{t}]"), title=words,
                     points=st.integers(0, 5), score=st.integers(0, 5), passed=st.booleans(), public=st.just(public),
                     message=text, counterexample=st.none() | examples(text, size), diagnosis=st.none() | diagnosis)


exercises = st.builds(ExerciseResult, id=words, title=words, score=st.integers(0, 9), max_score=st.integers(0, 9),
                      status=st.sampled_from(["graded", "pending", "error"]),
                      checks=st.lists(checks(True) | checks(False), max_size=3), notes=st.lists(words, max_size=2))
reports = st.builds(Report, student=words, unit=words, sandbox=st.sampled_from(["ENFORCED", "ADVISORY"]),
                    score=st.integers(0, 99), max_score=st.integers(0, 99), exercises=st.lists(exercises, max_size=2),
                    notes=st.lists(words, max_size=1), provenance=st.just({"seed": SECRET, SECRET: SECRET_NUMBER}))


@given(reports)
@settings(max_examples=60, deadline=None)
def test_no_student_view_shows_them(report):
    for view in [*STUDENT_VIEWS.values(), text_file]:
        shown = view(report)
        assert SECRET not in shown and str(SECRET_NUMBER) not in shown


@given(reports)
@settings(max_examples=30, deadline=None)
def test_every_view_renders_whatever_the_report(report):
    for view in STAFF_VIEWS.values():
        assert view(report)
    assert Report.from_json(report.to_json()) == report


def leaky() -> Report:
    difference = Difference(where=SECRET, expected_value=SECRET_NUMBER, got_value="0")
    check = CheckResult(name=f"test_x[{SECRET}]", title="A title.", points=1, score=0, passed=False, public=False,
                        message=SECRET, counterexample=Counterexample(inputs=SECRET, difference=difference))
    exercise = ExerciseResult(id="e", title="E", score=0, max_score=1, status="graded", checks=[check])
    return Report(student="ada", unit="u", sandbox="ENFORCED", score=0, max_score=1, exercises=[exercise])


@pytest.mark.parametrize("view", STAFF_VIEWS)
def test_the_staff_sees_them(view):
    """The negative control: the secrets of these tests do reach a view that lets them through."""
    assert SECRET in STAFF_VIEWS[view](leaky()) and str(SECRET_NUMBER) in STAFF_VIEWS[view](leaky())


def test_of_the_written_files_only_the_store_holds_them(tmp_path):
    paths = write_views(leaky(), tmp_path, FORMATS)
    assert [path.name for path in paths if SECRET in path.read_text()] == ["u.json"]
    assert len(paths) == len(FORMATS)
