"""Grades and comments inside `nbgrader autograde`: our engine in place of nbgrader's kernel.

nbgrader gives full marks to a check cell without output, or with one that is no number. So every check cell of ours
gets its score, or the submission gets no grade at all; and a graded cell that we know nothing of waits for a human.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution, rmtree
from traitlets import Bool, Unicode

from autograder.course import load_course
from autograder.errors import AutograderError
from autograder.nbgrader import card
from autograder.nbgrader.standby import NotGraded, RunStopped, Standby
from autograder.report.audience import for_students
from autograder.report.store import file_name
from autograder.submission.cells import CHECK_PREFIX
from autograder.submission.reader import read_submissions

if TYPE_CHECKING:
    from autograder.course import Course, Unit
    from autograder.report.model import ExerciseResult

standby = Standby()


@dataclass
class Graded:
    """What came of one notebook, from `SealedGrades` to `Explanations`."""

    results: dict[str, ExerciseResult] = field(default_factory=dict)
    """By exercise, as the student may see them."""
    problem: str = ""
    """Why the file could not be read."""


class SealedGrades(NbGraderPreprocessor):
    """Has the submission graded in the sandbox and writes score and card into its check cells."""

    course_file = Unicode(help="The course's course.yml.").tag(config=True)
    unsandboxed = Bool(False, help="Grade though the sandbox does not hold: only for code that you trust.").tag(
        config=True)

    def demand_ready(self, folders: Any) -> None:
        """Raises `RunStopped` if no submission can be graded: then nbgrader leaves earlier grades and files alone.

        `folders` is nbgrader's `CourseDirectory`; an assignment that is no unit of the course needs the course only.
        """
        try:
            course = _course(self.course_file)
            unit = course.units.get(folders.assignment_id)
            if unit:
                _demand_release(released(folders, unit.id, unit.notebook), unit.id)
                standby.demand_ready(course, unit.id, self.unsandboxed)
        except AutograderError as error:
            raise RunStopped(f"autograder: {error} (nothing was graded, and earlier grades stay)") from None

    def preprocess(self, nb: Any, resources: Any) -> Any:
        where = resources["nbgrader"]
        try:
            course = _course(self.course_file)
            unit = course.units.get(where["assignment"])
            cells = checked_cells(nb, unit) if unit and unit.notebook == where["notebook"] else {}
            graded = self._graded(course, unit, where["student"]) if cells else Graded()
        except NotGraded as error:
            self._withdraw(nb, where)
            raise NotGraded(str(error)) from None
        except AutograderError as error:
            self._withdraw(nb, where)
            self._clean_up(where)
            raise RunStopped(f"autograder: {error}") from None
        for exercise, cell in cells.items():
            _fill(cell, graded, exercise)
        resources["etude"] = graded
        return nb, resources

    def _graded(self, course: Course, unit: Unit, student: str) -> Graded:
        path = self.parent.submitted
        submissions, problems = read_submissions([path], course, unit=unit.id, student=file_name(student))
        for problem in problems:
            self.log.warning("%s", problem)
            return Graded(problem=problem.message)
        for note in submissions[0].notes:
            self.log.warning("%s: %s", path, note)
        report = for_students(standby.grade(course, submissions[0], self.unsandboxed))
        return Graded({result.id: result for result in report.exercises})

    def _withdraw(self, nb: Any, where: Any) -> None:
        """No grade may stay from an earlier submission, nor pass for one of this."""
        with Gradebook(where["db_url"]) as gradebook:
            for cell in filter(is_checked, nb.cells):
                grade = _grade(gradebook, cell, where)
                grade.auto_score, grade.needs_manual_grade = None, True
            gradebook.db.commit()

    def _clean_up(self, where: Any) -> None:
        """What nbgrader does itself after other exceptions: else the student would count as graded."""
        rmtree(self.parent.parent._format_dest(where["assignment"], where["student"]))


class Explanations(NbGraderPreprocessor):
    """A comment on every exercise, and what only a human can grade is left to one."""

    def preprocess(self, nb: Any, resources: Any) -> Any:
        where, graded = resources["nbgrader"], resources["etude"]
        with Gradebook(where["db_url"]) as gradebook:
            for cell in nb.cells:
                exercise = exercise_of(cell)
                if is_checked(cell) and (graded.problem or exercise not in graded.results):
                    grade = _grade(gradebook, cell, where)
                    grade.needs_manual_grade = True
                    if not graded.problem:
                        grade.auto_score = None
                        self.log.warning("%s: cell %r is no check of this course: it has no automatic grade",
                                         where["notebook"], cell.metadata.nbgrader.grade_id)
            for exercise, comment in card.comments(graded.results.values(), graded.problem, nb):
                found = gradebook.find_comment(exercise, where["notebook"], where["assignment"], where["student"])
                found.auto_comment = comment
            gradebook.db.commit()
        return nb, resources


def released(folders: Any, assignment: str, notebook: str) -> Path:
    """The notebook that students were given, in nbgrader's `CourseDirectory`."""
    return Path(folders.format_path(folders.release_directory, ".", assignment), f"{notebook}.ipynb").resolve()


def _demand_release(path: Path, assignment: str) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise no_release(path, assignment, error) from None


def no_release(path: Path, assignment: str, error: OSError) -> RunStopped:
    """What ends a run that lacks that notebook."""
    return RunStopped(f"autograder: {path}: {error.strerror}; make it with `nbgrader generate_assignment "
                      f"{assignment}`")


def is_checked(cell: Any) -> bool:
    """Whether nbgrader takes the cell's grade from its output."""
    return bool(cell.cell_type == "code" and is_grade(cell) and not is_solution(cell))


def exercise_of(cell: Any) -> str:
    """The exercise that a check cell checks."""
    name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
    return name.removeprefix(CHECK_PREFIX) if name.startswith(CHECK_PREFIX) else ""


def checked_cells(nb: Any, unit: Unit) -> dict[str, Any]:
    """The unit's check cells by exercise."""
    return {exercise_of(cell): cell for cell in nb.cells if is_checked(cell) and exercise_of(cell) in unit.exercises}


def _fill(cell: Any, graded: Graded, exercise: str) -> None:
    from nbformat.v4 import new_output
    result = graded.results.get(exercise)
    if result:
        points = float(cell.metadata.nbgrader["points"])
        # Who gave the cell other points in source/ wants the same share of them.
        same = points == result.max_score
        score = result.score if same else points * result.score / result.max_score
        html = card.exercise_card(result)
    else:
        score, html = 0.0, card.problem_card(graded.problem)
    cell.execution_count = 1
    cell.outputs = [new_output("execute_result", execution_count=1,
                               data={"text/plain": repr(float(score)), "text/html": html})]


def _grade(gradebook: Any, cell: Any, where: Any) -> Any:
    return gradebook.find_grade(cell.metadata.nbgrader["grade_id"], where["notebook"], where["assignment"],
                                where["student"])


@lru_cache(maxsize=4)
def _read(path: str, changed: int) -> Course:
    return load_course(Path(path))


def _course(path: str) -> Course:
    file = Path(path)
    return _read(path, file.stat().st_mtime_ns if file.exists() else 0)
