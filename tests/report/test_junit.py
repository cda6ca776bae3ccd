"""JUnit XML: counts add up, points travel as properties, size is capped."""
from xml.etree import ElementTree as ET

import pytest

from autograder.errors import UsageError
from autograder.report import junit
from autograder.report.junit import render_junit

from .hostile import poisoned
from .samples import build, build_class


def test_counts_and_points():
    root = ET.fromstring(render_junit(build_class()))
    assert root.attrib == {"name": "etude", "tests": "162", "failures": "36", "errors": "1", "skipped": "1"}
    suite = root.find("testsuite[@name='chidi.attention.sdpa_masked']")
    assert suite.attrib == {"name": "chidi.attention.sdpa_masked", "tests": "5", "failures": "2", "errors": "0",
                            "skipped": "0"}
    assert suite.find("properties/property[@name='points']").get("value") == "12"
    case = suite.find("testcase")
    assert case.find("properties/property[@name='points']").get("value") == "3"
    assert case.find("failure").get("message").startswith("output differs at index (0, 0, 0, 0)")
    assert "not divided by sqrt(d)" in case.find("failure").text


def test_pending_and_ungraded_exercises_are_cases_of_their_own():
    root = ET.fromstring(render_junit(build("x", {}, status={"sparsemax": "pending", "sdpa_masked": "error"})))
    assert root.find(".//testcase/skipped").get("message") == "Some points of this exercise are still pending."
    assert root.find(".//testcase/error").get("message") == "This exercise could not be graded."


def test_details_shrink_before_the_cap_is_passed(monkeypatch):
    report = poisoned("A" * 3000)
    whole = len(render_junit(report))
    monkeypatch.setattr(junit, "MAX_BYTES", whole - 1)
    assert len(render_junit(report)) < whole and ET.fromstring(render_junit(report)) is not None
    monkeypatch.setattr(junit, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match="one file per submission"):
        render_junit(report)
