"""The pages: balanced, self-contained, readable by keyboard, by screen reader and in both colour schemes."""
import re
from pathlib import Path

import pytest

from autograder.report import html
from autograder.report.html import class_pages, heat, inline, render_class_page, render_student_page

from .reading import Page
from .samples import build, build_class

CLASS = build_class()
TWO_UNITS = [*CLASS, *(report.model_copy(update={"unit": "recurrent"}) for report in CLASS[:3])]
PAGES = {report.student: render_student_page(report) for report in CLASS} | {
    "class": render_class_page(CLASS, ["iris: not a notebook"]), "empty class": render_class_page([], []),
    **class_pages(TWO_UNITS, ["iris: not a notebook"])}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_balanced_and_its_headings_are_in_order(name):
    page = Page(PAGES[name])
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert ("html", {"lang": "en"}) in page.tags
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_and_allows_nothing_from_elsewhere(name):
    page = Page(PAGES[name])
    policy = next(attrs for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert not {"script", "link", "img", "iframe", "form"} & {tag for tag, _ in page.tags}
    inside = [target[1:] for target in page.attributes("href") if target.startswith("#")]
    assert set(inside) <= set(page.attributes("id"))
    assert {target for target in page.attributes("href") if not target.startswith("#")} <= set(PAGES) - {name}
    assert "url(" not in PAGES[name] and "@import" not in PAGES[name]


@pytest.mark.parametrize("name", ["chidi", "class"])
def test_what_scrolls_can_be_reached_by_keyboard(name):
    scrolling = [attrs for tag, attrs in Page(PAGES[name]).tags if attrs.get("class") == "scroll" or tag == "pre"]
    assert all(attrs.get("tabindex") == "0" for attrs in scrolling)


def test_a_student_reads_the_mistake_and_the_numbers():
    text = Page(PAGES["chidi"]).text
    assert "This is what you get when the scores are not divided by sqrt(d)." in text
    assert "output[0, 0, 0, 0]: expected -0.299933, got -0.00377103" in text
    assert "17 of 20 checks hold." in text and "Every value differs." in text


def test_differing_values_are_marked_by_more_than_colour():
    assert PAGES["dorothea"].count('<td class="off">') == 4
    assert "The values in boxes differ." in PAGES["dorothea"]


def test_a_perfect_submission_is_told_so_and_an_ungraded_one_is_not():
    assert "Every check holds. Well done." in PAGES["ada"]
    ungraded = build("x", {}, status={"sparsemax": "error"})
    ungraded.exercises[-1].checks, ungraded.exercises[-1].score = [], 0
    assert "Well done" not in render_student_page(ungraded)


def test_the_class_page_ranks_mistakes_and_names_problems():
    text = " ".join(Page(PAGES["class"]).text.split())
    assert "1 submission could not be read iris: not a notebook" in text
    ranking = text[text.index("Most frequent mistakes"):text.index("Most frequent diagnosis")]
    assert ranking.index("2the scores are not divided by sqrt(d)") < ranking.index("1a fully masked row")
    assert "chidi, fatima" in ranking
    assert "1 of 8 submissions graded without an enforced sandbox" in text


def test_the_index_leads_to_a_page_for_each_unit_and_back():
    index, unit = Page(PAGES["index.html"]), Page(PAGES["class-recurrent.html"])
    assert [target for target in index.attributes("href") if not target.startswith("#")] == [
        "class-attention.html", "class-recurrent.html"]
    assert "index.html" in unit.attributes("href") and "Submissions3" in " ".join(unit.text.split())
    text = " ".join(index.text.split())
    assert "not a notebook" in text and "not a notebook" not in unit.text
    row = text[text.index("dorothea"):text.index("emeka")]
    assert row == "dorothea 71 none ", "what a student did not hand in is not a 0"
    assert "index.html" not in Page(PAGES["class"]).attributes("href"), "a class of one unit has one page"


@pytest.mark.parametrize(("text", "expected"), [
    ("use `a < b` or `c`", "use <code>a &lt; b</code> or <code>c</code>"),
    ("a ` alone & <b>", "a ` alone &amp; &lt;b&gt;"),
    ("`a` and `b", "<code>a</code> and `b"),
    ("", ""),
])
def test_backticks_set_code(text, expected):
    assert str(inline(text)) == expected


@pytest.mark.parametrize(("score", "step"), [(0, 0), (1, 1), (5, 2), (8, 3), (9.99, 3), (10, 4)])
def test_heat_tells_nothing_and_everything_from_what_is_between(score, step):
    assert heat(score, 10) == step


def palettes() -> list[dict[str, str]]:
    css = (Path(html.__file__).parent / "templates/style.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    return [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in (light, dark)]


def luminance(colour: str) -> float:
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(palette):
    heats = [f"heat-{step}" for step in range(5)]
    pairs = [("text", back) for back in ("page", "raised", "tint", "warm", *heats)]
    pairs += [(fore, "page") for fore in ("quiet", "link", "good", "bad")] + [("quiet", "tint")]
    for fore, back in pairs:
        one, other = sorted((luminance(palette[fore]), luminance(palette[back])))
        assert (other + 0.05) / (one + 0.05) >= 4.5, (fore, back)
