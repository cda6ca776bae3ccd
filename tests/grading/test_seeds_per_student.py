"""`seed_per_student`: every student's own examples where an exercise asks for them, and the same for all elsewhere."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_course import handed_in, tiny_course

from autograder.course import Course
from autograder.errors import AutograderError, UsageError
from autograder.grading.grade import depends_on, run_unit_checks
from autograder.grading.reference import ReferenceSubject
from autograder.grading.seeds import SEED_VARIABLE, run_seed, student_seed
from autograder.grading.subjects import GradedSubmission
from autograder.remote.channel import LocalChannel, RawReply
from autograder.report.model import Report
from autograder.solution.material import Material

OWN = {"points: 2, minutes: 5, difficulty: 1": "points: 2, minutes: 5, difficulty: 1, seed_per_student: true"}
WRONG = "def center(x):\n    return x - x.mean(0, keepdim=True)"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The tiny course; in `center`, and not in `scale`, every student has own examples."""
    return tiny_course(tmp_path_factory.mktemp("own"), course=OWN)


class Listening(LocalChannel):
    """A channel that notes what it was asked, by exercise."""

    def __init__(self, program: Sequence[dict[str, str]], heard: list[bytes]):
        super().__init__(program)
        self._heard = heard

    def raw(self, kind: int, payload: bytes) -> RawReply:
        if hasattr(self, "_heard"):
            self._heard.append(payload)
        return super().raw(kind, payload)


def requests(course: Course, *students: str) -> dict[str, list[list[bytes]]]:
    """For each student, what was asked in the first exercise, and in the second."""
    material = Material(course, course.units["tiny"])
    found: dict[str, list[list[bytes]]] = {}
    reference = ReferenceSubject(material)

    def subjects() -> Any:
        yield reference
        for student in students:
            asked = found.setdefault(student, [])

            def listening(program: Sequence[dict[str, str]], asked: list[list[bytes]] = asked) -> Listening:
                asked.append([])
                return Listening(program, asked[-1])
            yield GradedSubmission(material, handed_in(student), listening, reference)
    run_unit_checks(material, subjects())
    return found


def test_examples_are_own_where_the_exercise_asks_for_it_and_nowhere_else(own: Course, tiny: Course) -> None:
    (ann, bob), (again,) = requests(own, "ann", "bob").values(), requests(own, "ann").values()
    assert ann[0] == bob[0] and ann[0], "scale: one set of examples for all"
    assert ann[1] != bob[1] and len(ann[1]) > 3, "center: everybody has own ones"
    assert ann == again, "a second grading asks the same, whoever else is graded"
    same = requests(tiny, "ann", "bob")
    assert same["ann"] == same["bob"], "the negative control: without the key nobody has own ones"


def test_own_examples_follow_from_the_secret_and_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEED_VARIABLE, "one")
    one = student_seed("ann"), student_seed("bob"), run_seed()
    assert len(set(one)) == 3 and one[0] == student_seed("ann")
    monkeypatch.setenv(SEED_VARIABLE, "two")
    assert student_seed("ann") != one[0]
    monkeypatch.setenv(SEED_VARIABLE, " ")
    with pytest.raises(UsageError, match="set, but empty"):
        student_seed("ann")


def test_a_report_says_so_and_grading_again_gives_the_same(own: Course, tiny: Course,
                                                            graded: Callable[..., dict[str, Report]]) -> None:
    students = [handed_in("ann"), handed_in("bob", center=WRONG)]
    reports, again = graded(own, students), graded(own, students[::-1])
    assert [report.score for report in reports.values()] == [6, 4]
    assert reports["ann"].provenance["seed_per_student"] == ["center"]
    for student, report in reports.items():
        timeless = [one.model_copy(update={"provenance": one.provenance | {"timings": {}}})
                    for one in (report, again[student])]
        assert timeless[0] == timeless[1]
    failed = reports["bob"].exercises[1].checks[0]
    assert failed.diagnosis and failed.diagnosis.id == "over_the_batch", "mistakes have their names all the same"
    assert "seed_per_student" not in graded(tiny, [handed_in("ann")])["ann"].provenance


def test_a_report_of_before_does_not_count_any_more(own: Course, tiny: Course) -> None:
    digests = [depends_on(Material(course, course.units["tiny"]))["checks"] for course in (own, tiny)]
    assert digests[0] != digests[1]


def test_a_whole_unit_can_ask_for_it(tmp_path: Path) -> None:
    course = tiny_course(tmp_path, course={"    notebook: tiny\n": "    notebook: tiny\n    seed_per_student: true\n"})
    assert course.units["tiny"].seeds_per_student == ["scale", "center"]


def test_a_failure_that_the_reference_shares_is_no_grade(tmp_path: Path) -> None:
    # The reference has not met a student's own examples before: here its second student is refused, whoever that is.
    checks = {"CENTER = Cases": "FIRST = []\nCENTER = Cases",
              "    (x,) = case": "    FIRST or FIRST.append(student)\n    assert student is FIRST[0]\n    (x,) = case"}
    with pytest.raises(AutograderError, match="the reference itself fails test_center_rows"):
        requests(tiny_course(tmp_path / "own", course=OWN, checks=checks), "ann")
    requests(tiny_course(tmp_path / "shared", checks=checks), "ann")  # there it passed once, on the same examples
