"""JUnit XML (xunit1) for GitLab, Jenkins and others: a suite per exercise, a case per check. Safe for students."""
from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from autograder.errors import UsageError
from autograder.report import wording
from autograder.report.audience import for_students
from autograder.report.model import CheckResult, ExerciseResult, Report
from autograder.report.text_safety import shorten

MAX_BYTES = 30 * 1024 * 1024
"""GitLab reads no larger file."""
_DETAIL_CHARS = (20_000, 1_000, 80)


def render_junit(reports: Report | Sequence[Report]) -> str:
    """The XML text, with its declaration. Details are shortened as far as needed to stay under `MAX_BYTES`."""
    shown = [for_students(report) for report in ([reports] if isinstance(reports, Report) else reports)]
    for max_chars in _DETAIL_CHARS:
        text = _document(shown, max_chars)
        if len(text.encode()) <= MAX_BYTES:
            return text
    raise UsageError(f"JUnit: {len(shown)} reports do not fit {MAX_BYTES >> 20} MiB. Write one file per submission.")


def _document(reports: list[Report], max_chars: int) -> str:
    suites = [_suite(report, exercise, max_chars) for report in reports for exercise in report.exercises]
    root = ET.Element("testsuites", {"name": "etude", **_counts(suites)})
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(report: Report, exercise: ExerciseResult, max_chars: int) -> ET.Element:
    name = f"{report.student}.{report.unit}.{exercise.id}"
    suite = ET.Element("testsuite", {"name": name})
    _properties(suite, student=report.student, unit=report.unit, sandbox=report.sandbox, status=exercise.status,
                points=wording.number(exercise.max_score), score=wording.number(exercise.score))
    for check in exercise.checks:
        suite.append(_case(name, check, max_chars))
    for tag, status in (("error", "error"), ("skipped", "pending")):
        if exercise.status == status and not any(check.pending for check in exercise.checks):
            case = ET.SubElement(suite, "testcase", {"classname": name, "name": exercise.title})
            ET.SubElement(case, tag, {"message": wording.status_line(exercise)})
    suite.attrib |= {"tests": str(len(suite.findall("testcase")))} | {
        plural: str(len(suite.findall(f"testcase/{tag}"))) for plural, tag in _OUTCOMES.items()}
    return suite


def _case(suite: str, check: CheckResult, max_chars: int) -> ET.Element:
    case = ET.Element("testcase", {"classname": suite, "name": check.title or check.name})
    _properties(case, check=check.name, points=wording.number(check.points), score=wording.number(check.score),
                public=str(check.public).lower())
    if check.pending:
        ET.SubElement(case, "skipped", {"message": shorten(wording.explanation(check)[0], max_chars)})
    if check.failed:
        lines = wording.explanation(check)
        message = (check.message.splitlines() or lines or ["This property does not hold."])[0]
        failure = ET.SubElement(case, "failure", {"message": shorten(message, max_chars)})
        failure.text = shorten("\n".join(lines), max_chars)
    return case


_OUTCOMES = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _counts(suites: list[ET.Element]) -> dict[str, str]:
    return {name: str(sum(int(suite.attrib[name]) for suite in suites)) for name in ("tests", *_OUTCOMES)}


def _properties(parent: ET.Element, **values: str) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": name, "value": value})
