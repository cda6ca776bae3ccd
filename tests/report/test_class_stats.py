"""What the class got wrong: mistakes by how many share them, an example without a name, checks all or none fail."""
from __future__ import annotations

import pytest

from autograder.report.class_stats import by_unit, outline
from autograder.report.html import render_class_page
from autograder.report.wording import failed_checks

from .reading import Page
from .samples import EXERCISES, build, build_class

CHECKS = [(exercise, name) for exercise, _, checks in EXERCISES for name, *_ in checks]


def text_of(page: str) -> str:
    return " ".join(Page(page).text.split())


def test_every_mistake_links_to_an_example_that_names_nobody():
    page = Page(render_class_page(build_class(), []))
    links = [target for target in page.attributes("href") if target.startswith("#m")]
    (unit,) = by_unit(build_class())
    assert links == [f"#m{number}" for number in range(1, len(unit.mistakes) + 1)] and len(links) >= 5
    assert {link[1:] for link in links} <= set(page.attributes("id"))
    text = " ".join(page.text.split())
    examples = text[text.index("An example of each, without names"):text.index("Checks Everybody fails")
                    if "Checks Everybody fails" in text else text.index("Most frequent diagnosis")]
    assert "Smallest failing example" in examples and "expected -0.299933" in examples
    assert not [report.student for report in build_class() if report.student in examples]
    assert "chidi, fatima" in text, "the table above says who, for staff"


def test_mistakes_are_ranked_by_how_many_share_them():
    (unit,) = by_unit(build_class())
    counts = [len(mistake.students) for mistake in unit.mistakes]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
    assert unit.mistakes[0].students == ["chidi", "fatima"]


def test_the_order_of_the_reports_plays_no_part_nor_does_what_is_kept_of_them():
    (unit,), (other,) = by_unit(build_class()), by_unit(reversed(build_class()))
    assert other == unit
    (kept,) = by_unit(iter(build_class()), outline)
    assert (kept.mistakes, kept.exercises) == (unit.mistakes, unit.exercises)
    assert [(one.student, one.score, len(failed_checks(one))) for one in kept.reports] == [
        (one.student, one.score, len(failed_checks(one))) for one in unit.reports]
    def size(stats):
        return sum(len(one.to_json()) for one in stats.reports)
    assert size(kept) < size(unit) / 3


def test_a_name_in_a_message_is_taken_out_of_the_example():
    failure = build_class()[2].exercises[0].checks[0].model_dump(include={"message", "diagnosis", "counterexample"})
    failure["message"] = "ValueError: Zoe was here, zoe_2 and zoetrope were not.\n  (zoe)"
    (unit,) = by_unit([build("zoe", {CHECKS[0]: failure})])
    assert unit.mistakes[0].example.message == "ValueError: … was here, zoe_2 and zoetrope were not.\n  (…)"
    assert "Zoe was here" in unit.reports[0].exercises[0].checks[0].message, "the report itself is as it was"


def test_the_example_is_the_surest_and_plainest():
    reports = build_class()
    check = reports[2].exercises[0].checks[0]
    unsure = check.model_copy(deep=True, update={"message": "unsure"})
    unsure.diagnosis.certainty = "this example"
    larger = check.model_copy(deep=True, update={"message": "larger"})
    larger.counterexample.tensors[0].text *= 2
    def report(name, found):
        return build(name, {CHECKS[0]: found.model_dump(include={"message", "diagnosis", "counterexample"})})
    (unit,) = by_unit([report("a", unsure), report("b", larger), report("c", check), report("d", larger)])
    (mistake,) = unit.mistakes
    assert mistake.example.message == check.message and len(mistake.students) == 4


@pytest.mark.parametrize(("failing", "extreme"), [((), "nobody fails"), ((0,), ""), ((0, 1), "everybody fails")])
def test_checks_that_all_or_none_fail_are_marked(failing, extreme):
    reports = [build(f"s{i}", {CHECKS[0]: {"message": "wrong"}} if i in failing else {}) for i in range(2)]
    (unit,) = by_unit(reports)
    assert unit.exercises[CHECKS[0][0]].checks[CHECKS[0][1]].extreme == extreme
    text = text_of(render_class_page(reports, []))
    assert ("Everybody fails 1 check." in text) == (extreme == "everybody fails")
    nobody = len(CHECKS) - (extreme != "nobody fails")
    assert f"Nobody fails {nobody} checks: they tell no submission" in text
    assert text.count("public nobody fails") + text.count(". nobody fails") >= nobody - 1


def test_one_submission_alone_is_not_everybody():
    (unit,) = by_unit([build("ada", {})])
    assert {check.extreme for exercise in unit.exercises.values() for check in exercise.checks.values()} == {""}
