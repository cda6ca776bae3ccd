"""Files: whole or absent, harmless names, readable again."""
import os
import signal
import subprocess
import sys
import time

import pytest

from autograder.errors import UsageError
from autograder.report import store
from autograder.report.store import file_name, read_reports, report_path, write_atomically
from autograder.report.writer import FORMATS, write_class_page, write_views

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


def test_an_unknown_format_is_said_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="--format pdf: no such format. There are json, text, junit"):
        write_views(build("ada", {}), tmp_path, ["pdf"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ada", "Ada Lovelace", "a.b@uni-x.edu", "josé", "x_1+2", "s"])
def test_a_harmless_name_stays(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", "/abs", "a/b", "a\\b", ".hidden", "nul\0",
                                  "x" * 500, "index.html", "a\nb", "\ud800", "\u202ea", "trailing ", "数" * 60])
def test_any_other_name_becomes_harmless_and_stays_distinct(name, tmp_path):
    safe = file_name(name)
    assert safe != name and file_name(safe) == safe and file_name(name + "!") != safe
    write_atomically(report_path(tmp_path, name, name), "x")
    assert (tmp_path / safe / f"{safe}.json").read_text() == "x"


def test_staff_files_are_closed_to_others(tmp_path):
    before = os.umask(0o022)
    try:
        html, report = write_views(build("ada", {}), tmp_path, ["html"])
        page = write_class_page([], [], tmp_path)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (html, report, page)] == [0o644, 0o640, 0o640]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_atomically(path, "old")
    monkeypatch.setattr(store.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


WRITE_FOR_EVER = """
import sys; from pathlib import Path; from autograder.report.store import write_atomically
for count in range(10**9): write_atomically(Path(sys.argv[1]), str(count % 10) * 300_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "report.json"
    for delay in (0.0, 0.013, 0.029):
        writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)])
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        text = path.read_text()
        assert len(text) == 300_000 and len(set(text)) == 1
        path.unlink()
