"""The web pages: feedback for one student, and for staff the class, a page for each unit.

Both are single files: no script, no font, no image from elsewhere, and a policy in the page that forbids them.
Every value goes through jinja2's autoescape; ids are counted, never made from a student's string.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from autograder.report import tensors, wording
from autograder.report.audience import for_staff, for_students
from autograder.report.class_stats import UnitStats, by_student, by_unit
from autograder.report.model import CheckResult, ExerciseResult, Report
from autograder.report.store import INDEX_PAGE, unit_page_name
from autograder.report.text_safety import clean

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_CODE_CHARACTERS, _CODE_LINES = 40_000, 1_000
_HEAT_STEPS = (0.0, 0.5, 0.8, 1.0)


def render_student_page(report: Report) -> str:
    """The feedback page that a student may read: hidden checks show their title and diagnosis only."""
    return _environment().get_template("student.html").render(report=for_students(report))


def render_exercise_card(exercise: ExerciseResult) -> str:
    """One exercise of `for_students(report)`, as a part of somebody else's page: nbgrader's feedback and formgrader."""
    return _environment().get_template("card.html").render(exercise=exercise)


def render_message_card(message: str) -> str:
    """A card that only says something."""
    return _environment().get_template("card.html").render(exercise=None, message=clean(message, 1000, 4))


def render_gradescope_test(check: CheckResult) -> str:
    """What Gradescope shows of a failed check of `for_students(report)`, beside its title and points."""
    return _environment().get_template("gradescope.html").render(check=check)


def render_gradescope_output(remarks: Sequence[str]) -> str:
    """What Gradescope shows above the checks: the style of their cards, and remarks if there are any."""
    lines = [clean(remark, 1000, 8) for remark in remarks]
    return _environment().get_template("gradescope.html").render(check=None, remarks=lines)


def class_pages(reports: list[Report], problems: list[str]) -> dict[str, str]:
    """The staff's pages by file name, with full counterexamples; `problems` says what could not be read.

    One unit is `index.html` itself; of several each has a page, and `index.html` leads to them.
    """
    units = sorted(by_unit([for_staff(report) for report in reports]), key=lambda unit: unit.title)
    lines = [clean(problem, 500, 3) for problem in problems]
    if len(units) == 1:
        return {INDEX_PAGE: _unit_page(units[0], lines)}
    index = _environment().get_template("class_index.html").render(units=units, problems=lines,
                                                                   students=by_student(units))
    return {INDEX_PAGE: index} | {unit_page_name(stats.unit): _unit_page(stats, [], several=True) for stats in units}


def render_class_page(reports: list[Report], problems: list[str]) -> str:
    """The staff's page of a class whose reports are of one unit."""
    return class_pages(reports, problems)[INDEX_PAGE]


def _unit_page(stats: UnitStats, problems: list[str], *, several: bool = False) -> str:
    return _environment().get_template("class.html").render(unit=stats, problems=problems, several=several)


def render_similar_page(title: str, found: Any, count: int, least: float) -> str:
    """The staff's page on the submissions of `count` that are alike; `found` is `classroom.similar.Similarities`."""
    return _environment().get_template("similar.html").render(title=title, found=found, count=count, least=least)


def render_compare_page(found: Any, old: str, new: str, decisive: Mapping[str, str]) -> str:
    """The staff's page on two gradings, called `old` and `new`; `found` is `classroom.compare.Comparison`.

    `decisive` says what a grade depends on, by its name in `found.grounds`.
    """
    by_kind = {kind: [change for change in found.changes if change.of_score == kind] for kind in (True, False)}
    return _environment().get_template("compare.html").render(
        found=found, old=clean(old, 200, 1), new=clean(new, 200, 1), decisive=decisive, of_score=by_kind[True],
        said_otherwise=by_kind[False])


def _code_text(text: str) -> str:
    """A piece of a student's code, whole lines and spaces at its ends kept."""
    return clean(text, _CODE_CHARACTERS, _CODE_LINES)


def heat(score: float, max_score: float) -> int:
    """How warm a cell of the class table is: 0 for no points, then under half, under 80 %, nearly all, 4 for all."""
    share = wording.fraction(score, max_score)
    return sum(share >= step for step in _HEAT_STEPS[1:]) + (share > 0)


def inline(text: str) -> Markup:
    """Escaped text, with what stands between backticks set as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # a backtick without its partner is only a backtick
        parts[-2:] = [parts[-2] + "`" + parts[-1]]
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters["inline"] = inline
    environment.filters["code"] = _code_text
    environment.globals.update(words=wording, tensors=tensors, heat=heat, page_name=unit_page_name)
    return environment
