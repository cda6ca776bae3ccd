"""Attack a25: strings that a student controls, in every field of a report, through every view."""
import html
import json
import os
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from .hostile import ATTACKS, poisoned
from .reading import Page
from .samples import build_class
from .views import ALL_VIEWS, terminal

GOLDEN = Path(__file__).parent / "golden"
EVERYTHING = "\n".join(ATTACKS.values())
CASES = [(view, attack) for view in ALL_VIEWS for attack in [*ATTACKS, "everything"]]


def rendered(view: str, attack: str) -> str:
    return ALL_VIEWS[view](poisoned(ATTACKS.get(attack, EVERYTHING)))


@lru_cache
def vocabulary(view: str) -> tuple[set[str], set[str]]:
    """The tags and attributes that the view uses by itself."""
    pages = [Page(ALL_VIEWS[view](report)) for report in [*build_class(), poisoned("harmless `code`")]]
    tags = [tag for page in pages for tag in page.tags]
    return {name for name, _ in tags}, {name for _, attrs in tags for name in attrs}


@pytest.mark.parametrize(("view", "attack"), CASES)
def test_nothing_acts_on_a_terminal(view, attack):
    bad = {char for char in rendered(view, attack) if char != "\n" and unicodedata.category(char) in {"Cc", "Cf", "Cs"}}
    assert not bad


@pytest.mark.parametrize(("view", "attack"), CASES)
def test_nothing_acts_on_a_ci_runner(view, attack):
    lines = rendered(view, attack).splitlines()
    assert not any("##[" in line or "##vso[" in line for line in lines)
    commands = [line for line in lines if re.match(r"\s*::[A-Za-z]", line)]
    if view == "github annotations":
        assert len(commands) == len(lines) == 3 and all(line.startswith("::error file=") for line in lines)
        assert all(line.count("::") == 2 for line in lines)
    else:
        assert not commands


@pytest.mark.parametrize("attack", [*ATTACKS, "everything"])
@pytest.mark.parametrize("view", ["html", "class page", "class index"])
def test_html_holds_no_tag_of_the_student(view, attack):
    page = Page(rendered(view, attack))
    own_tags, own_attributes = vocabulary(view)
    assert {tag for tag, _ in page.tags} <= own_tags
    assert {name for _, attrs in page.tags for name in attrs} <= own_attributes
    targets = [value for value in page.attributes("href") + page.attributes("src") if value]
    assert not any("evil" in value and not re.fullmatch(r"class-[\w@+-]+\.html", value) for value in targets)
    assert attack != "jinja" or "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize("attack", [*ATTACKS, "everything"])
def test_xml_is_well_formed_and_reads_back_the_clean_text(attack):
    root = ET.fromstring(rendered("junit", attack))
    assert len(root.findall(".//testcase/failure")) == 2
    assert root.tag == "testsuites"


@pytest.mark.parametrize("attack", [*ATTACKS, "everything"])
def test_gradescope_is_json_whose_html_holds_no_tag_of_the_student(attack):
    result = json.loads(rendered("gradescope", attack))
    assert {test["name_format"] for test in result["tests"]} == {"text"}
    outputs = [result["output"], *(test["output"] for test in result["tests"])]
    tags = [tag for output in outputs for tag in Page(output).tags]
    own_tags, own_attributes = vocabulary("html")
    assert {tag for tag, _ in tags} <= own_tags and {name for _, attrs in tags for name in attrs} <= own_attributes
    assert not {"a", "img", "script"} & {tag for tag, _ in tags}


def test_markdown_holds_no_link_image_or_tag():
    text = rendered("github summary", "markdown") + rendered("github summary", "html")
    assert not re.search(r"(?<!\\)[\[<`@$]", text.replace("|---|", ""))
    assert "https://" not in text and "http://" not in text


def test_an_annotation_escapes_what_ends_it():
    text = rendered("github annotations", "encoded command")
    assert "%250A: :error: :injected" in text.replace("%3A", ":")


def test_markup_of_rich_means_nothing():
    text = terminal(poisoned("[red]x[/red] [/] [link=y]z"), colour=False)
    assert "[red]x[/red] [/] [link=y]z" in text


@pytest.mark.parametrize("view", ALL_VIEWS)
def test_a_line_of_ten_megabytes_leaves_a_small_page(view):
    report = poisoned("A" * 10_000_000)
    assert len(ALL_VIEWS[view](report)) < 2_000_000
    if view != "json":
        assert "more characters" in html.unescape(ALL_VIEWS[view](report))


@pytest.mark.parametrize("view", ALL_VIEWS)
def test_rendered_report_is_the_golden_one(view):
    """`UPDATE_GOLDEN=1 pytest tests/report` writes them anew; read the diff before committing it."""
    path = GOLDEN / f"hostile_{view.replace(' ', '_')}.txt"
    found = re.sub("<style>.*?</style>", "<style></style>", rendered(view, "everything"), flags=re.DOTALL)
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")
