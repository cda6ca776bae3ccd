"""Files: whole or absent, harmless names, readable again."""
import io
import os
import weakref

import pytest
from rich.console import Console

from autograder.errors import UsageError
from autograder.files import write_atomically
from autograder.report.model import Report
from autograder.report.store import StoredReports, file_name, read_reports, report_path
from autograder.report.terminal import render_text
from autograder.report.writer import FORMATS, write_class_pages, write_views

from .samples import build, build_class


def test_the_report_and_its_views_stand_together(tmp_path):
    paths = write_views(build("ada", {}), tmp_path, FORMATS)
    assert paths[-1] == report_path(tmp_path, "ada", "attention") == tmp_path / "ada/attention.json"
    assert {path.suffix for path in paths} == {".json", ".html", ".xml", ".md", ".txt"}
    assert sorted(path.name for path in (tmp_path / "ada").iterdir()) == sorted(path.name for path in paths)


def test_reports_are_read_back_and_what_is_none_is_named(tmp_path):
    reports = build_class()
    for report in reports:
        write_views(report, tmp_path, ["gradescope"])
    (tmp_path / "zoe").mkdir()
    (tmp_path / "zoe/attention.json").write_text('{"schema": 2')
    found, problems = read_reports(tmp_path)
    assert found == reports
    assert len(problems) == 1 and problems[0].startswith("zoe/attention.json: not a report (")


def test_a_class_is_printed_from_the_store_as_from_memory_and_one_report_at_a_time(tmp_path, monkeypatch):
    reports = build_class()
    for report in reports:
        write_views(report, tmp_path)
    stored = StoredReports(tmp_path, [(report.student, report.unit) for report in reversed(reports)])
    assert printed(stored) == printed(reports[::-1]) and len(stored) == len(reports)

    read, alive = [], []

    def counted(cls, text):
        report = cls.model_validate_json(text)
        read.append(weakref.ref(report))
        alive.append(sum(one() is not None for one in read))
        return report
    monkeypatch.setattr(Report, "from_json", classmethod(counted))
    printed(stored)
    assert len(alive) == 2 * len(reports) and max(alive) <= 2
    printed(list(stored))  # the negative control
    assert max(alive) == len(reports) > 2


def printed(reports):
    out = io.StringIO()
    render_text(reports, Console(file=out, width=100))
    return out.getvalue()


def test_a_report_that_has_gone_meanwhile_is_named(tmp_path):
    write_views(build("ada", {}), tmp_path)
    with pytest.raises(UsageError, match=r"ben/attention.json: this report was written and is gone; grade again"):
        list(StoredReports(tmp_path, [("ada", "attention"), ("ben", "attention")]))


def test_an_unknown_format_is_said_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="--format pdf: no such format. There are json, text, junit"):
        write_views(build("ada", {}), tmp_path, ["pdf"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ada", "Ada Lovelace", "a.b@uni-x.edu", "josé", "x_1+2", "s"])
def test_a_harmless_name_stays(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", "/abs", "a/b", "a\\b", ".hidden", "nul\0",
                                  "x" * 500, "index.html", "class-attention.html", "a\nb", "\ud800", "\u202ea",
                                  "trailing ", "数" * 60])
def test_any_other_name_becomes_harmless_and_stays_distinct(name, tmp_path):
    safe = file_name(name)
    assert safe != name and file_name(safe) == safe and file_name(name + "!") != safe
    write_atomically(report_path(tmp_path, name, name), "x")
    assert (tmp_path / safe / f"{safe}.json").read_text() == "x"


def test_staff_files_are_closed_to_others(tmp_path):
    before = os.umask(0o022)
    try:
        html, report = write_views(build("ada", {}), tmp_path, ["html"])
        page = write_class_pages([], [], tmp_path)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (html, report, page)] == [0o644, 0o640, 0o640]


def test_a_unit_that_is_gone_has_no_page_any_more(tmp_path):
    reports = [build("ada", {}), build("ada", {}).model_copy(update={"unit": "recurrent"})]
    write_class_pages(reports, [], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["class-attention.html", "class-recurrent.html",
                                                                "index.html"]
    write_class_pages(reports[:1], [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
