"""The card in its three forms: they say the same, break under no text, and speak without colour."""
from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from etude.students.card_html import progress_html
from etude.students.card_text import HEAT
from etude.students.display import Card, Message
from etude.students.findings import Diagnosis, Failure, Finding, Grid, Heat, Property

HOSTILE = '</div><script>alert("1")</script>``` **[x](javascript:1)** & "q"'
FAILURE = Failure(
    what="output differs at index (0, 1): expected 1, got 2.", detail="1 of 4 values differs.", example="B=1, seed=0",
    inputs=["q: (1, 2) float64 = [[1, 2]]"],
    grids=[Grid("output, expected", [["1", "2"]]), Grid("output, yours", [["1", "9"]], frozenset({(0, 1)}))],
    heat=Heat([[0, 1], [3, 4]], "output", "2 × 2, on a larger example"), printed="shape (1, 2)",
    trace=["In [5], line 2, in f", "    return q @ k"], hint="Look at the last axis.")
PROPERTIES = [Property("test_a", "It is right."), Property("test_b", "It is kind.", FAILURE)]
FINDING = Finding("one", "The first", PROPERTIES, Diagnosis("nothing is scaled", "Divide."), ["The cell was edited."],
                  hints=2, arguments={"q": 1})
SAID = ["The first", "one", "1 of 2 properties holds", "This is what you get when nothing is scaled.", "Divide.",
        "The cell was edited.", "It is right.", "It is kind.", FAILURE.what, FAILURE.detail, "B=1, seed=0",
        "q: (1, 2) float64 = [[1, 2]]", "output, expected", "output, yours", "9", "Where it differs", "shape (1, 2)",
        "In [5], line 2, in f", "return q @ k", "Look at the last axis.", 'check("one").example', 'hint("one")']


class Reader(HTMLParser):
    """The text of a page, its tags, and whether they are balanced."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text, self.labels = [], [], "", []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.labels += [value for name, value in attributes if name == "aria-label"]
        if tag not in ("br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def forms(card):
    return {"text": repr(card), "markdown": card._repr_markdown_().replace("\\", ""),
            "html": Reader(card._repr_html_()).text}


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_every_form_says_everything(form):
    shown = forms(Card([FINDING]))[form]
    for phrase in SAID:
        assert phrase in shown, f"{phrase!r} is not in the {form}"


def hostile():
    failure = Failure(what=HOSTILE, detail=HOSTILE, example=HOSTILE, inputs=[HOSTILE], trace=[HOSTILE], printed=HOSTILE,
                      hint=HOSTILE, grids=[Grid(HOSTILE, [[HOSTILE]])], heat=Heat([[1, 0]], HOSTILE, HOSTILE))
    return Finding(HOSTILE, HOSTILE, [Property("p", HOSTILE, failure), Property("q", HOSTILE)],
                   Diagnosis(HOSTILE, HOSTILE), [HOSTILE], arguments={"x": 1}, hints=1)


def test_what_students_write_is_text_and_never_markup():
    for card in (Card([hostile()]), Card([hostile(), hostile()]), Message(HOSTILE)):
        read = Reader(card._repr_html_())
        assert "script" not in read.tags and "a" not in read.tags
    assert "script" not in Reader(progress_html(1, 2, HOSTILE, 3.0)).tags
    fences = [line for line in Card([hostile()])._repr_markdown_().splitlines() if line.strip().startswith("```")]
    assert {line.strip() for line in fences} == {"```text", "```"}
    assert fences[::2] == ["  ```text"] * (len(fences) // 2)


def test_right_and_wrong_are_words_and_signs_not_colours_alone():
    text = Reader(Card([FINDING])._repr_html_()).text
    assert "✗fails: " in text and "✓holds: " in text and "9 differs" in text
    assert all(sign in text for sign in HEAT[:2])


def test_a_picture_has_words_for_it():
    labels = Reader(Card([FINDING])._repr_html_()).labels
    assert "3 of 4 values differ: in rows all, in columns all" in labels
    assert "The first: 1 of 2 properties holds" in labels
    assert any(label.startswith("Checking x: 1 of 2") for label in Reader(progress_html(1, 2, "x", 3.0)).labels)


def test_the_style_touches_nothing_outside_of_the_card():
    style = re.search(r"<style>(.*?)</style>", Card([FINDING])._repr_html_(), re.DOTALL)[1]
    selectors = [one.strip() for rule in re.findall(r"([^{}]+)\{", style) for one in rule.split(",")]
    assert selectors and all(".etude-card" in one for one in selectors)
    assert "url(" not in style and "@import" not in style and "http" not in style


def test_among_several_exercises_those_that_hold_take_one_line():
    right = Finding("two", "The second", [Property("test_a", "It is right.")])
    card = Card([right, FINDING])
    assert repr(card).splitlines()[0] == "✓ The second (two): the public property holds"
    assert "1 of 2 exercises hold all their public properties" in Reader(card._repr_html_()).text
    assert not card.passed and Card([right]).passed and not Card([]).passed


def test_the_same_failure_is_told_once():
    again = Failure(what="raised", trace=["In [5]"])
    finding = Finding("one", "One", [Property(name, name, again) for name in "abc"])
    assert repr(Card([finding])).count("The same as above.") == 2


def test_the_card_gives_the_first_failing_example():
    assert Card([FINDING]).example == {"q": 1} and Card([]).example == {}
