"""`autograder export otter`: what students get runs in otter, and `otter run` grades with our engine, whatever comes.

Every attack is run on stock otter as well, where it must work: else it would show nothing about ours.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autograder.cli import app
from autograder.course import Course
from autograder.errors import UsageError
from autograder.exports import otter, otter_plugin
from autograder.exports.otter_run import run_otter
from autograder.report.model import Report
from autograder.sandbox import seccomp

pytestmark = pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter: graded runs are refused here")
Fill = Callable[..., dict[str, Any]]
WRONG = "def scale(x, factor):\n    return x + factor"


@pytest.fixture(scope="module")
def exported(course: Course, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("otter") / "tiny"
    done = CliRunner().invoke(app, ["export", "otter", "tiny", "--to", str(folder), "--course",
                                    str(course.root / "course.yml")])
    assert done.exit_code == 0 and f"otter run -a {folder}/autograder/autograder.zip" in done.output
    return folder


@pytest.fixture(scope="module")
def stock(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The students' tests as otter grades without us."""
    from otter.generate import main
    path = tmp_path_factory.mktemp("stock") / "autograder.zip"
    main(tests_dir=str(exported / "student" / "tests"), output_path=str(path), no_config=True, no_requirements=True,
         no_environment=True)
    return path


def otter_run(autograder: Path, files: dict[str, bytes], folder: Path) -> dict[str, Any]:
    """The results.json of `otter run` on a zip of these files, `{}` if it leaves none.

    Nobody else's pickles are in its temporary folder.
    """
    (folder / "tmp").mkdir(parents=True)
    with zipfile.ZipFile(folder / "submission.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    done = subprocess.run([sys.executable, "-m", "otter", "run", "--no-logo", "-a", str(autograder), "-o", str(folder),
                           str(folder / "submission.zip")], cwd=folder, capture_output=True, text=True, timeout=300,
                          env=os.environ | {"TMPDIR": str(folder / "tmp")})
    if not (folder / "results.json").exists():
        print(done.stdout, done.stderr)
        return {}
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------- what is written

def test_students_get_no_secret_and_staffs_tests_hold_only_ids(exported: Path, course: Course) -> None:
    students = "\n".join(path.read_text(encoding="utf-8") for path in (exported / "student").rglob("*")
                         if path.is_file())
    assert "BEGIN SOLUTION" not in students and "test_scale_values_and_gradients" not in students
    assert "test_scale_of_ones" in students  # public: it would be found
    assert "autograder.exports" not in students
    test = (exported / "autograder" / "tests" / "scale.py").read_text(encoding="utf-8")
    assert "holds('scale', 'test_scale_values_and_gradients')" in test and "reference" not in test
    with zipfile.ZipFile(exported / "autograder" / "autograder.zip") as archive:
        names = set(archive.namelist())
        written = json.loads(archive.read("otter_config.json"))
    assert names == {"run_autograder", "run_otter.py", "setup.sh", "environment.yml", "otter_config.json",
                     "tests/scale.py", "tests/center.py"}
    assert written == otter.configuration(course, course.units["tiny"])


def test_otter_takes_the_files_for_its_own(exported: Path) -> None:
    from otter.nbmeta_config import NBMetadataConfig
    from otter.run import AutograderConfig
    from otter.test_files import create_test_file
    written = json.loads((exported / "autograder" / "otter_config.json").read_text(encoding="utf-8"))
    assert AutograderConfig(written, require_valid_keys=True).plugins == written["plugins"]
    staff = create_test_file(str(exported / "autograder" / "tests" / "scale.py"), NBMetadataConfig())
    assert [(case.points, case.hidden) for case in staff.test_cases] == [(1.0, False), (3.0, True)]
    students = create_test_file(str(exported / "student" / "tests" / "scale.py"), NBMetadataConfig())
    assert [(case.points, case.hidden) for case in students.test_cases] == [(1.0, False)]
    with pytest.raises(ValueError, match="nonsense"):
        AutograderConfig(written | {"nonsense": 1}, require_valid_keys=True)


def test_the_notebook_asks_otter_and_keeps_nbgraders_ids(exported: Path, course: Course) -> None:
    from nbformat import from_dict
    from nbgrader.utils import compute_checksum
    value = json.loads((exported / "student" / "tiny.ipynb").read_text(encoding="utf-8"))
    code = {cell["id"]: from_dict(cell) for cell in value["cells"] if cell["cell_type"] == "code"}
    assert "".join(code["check_scale"]["source"]) == 'grader.check("scale")'
    released = json.loads(course.units["tiny"].assignment_path.read_text(encoding="utf-8"))
    assert [cell["id"] for cell in value["cells"]][1:-1] == [cell["id"] for cell in released["cells"]]
    for name in ("check_scale", "check_center", "setup", "check__otter"):
        code[name]["source"] = "".join(code[name]["source"])
        assert code[name].metadata.nbgrader.checksum == compute_checksum(code[name])


def test_what_cannot_be_exported_is_refused(course: Course, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not empty"):
        otter.export_otter(course, "tiny", exported)
    with pytest.raises(UsageError, match="autograder build other"):
        otter.export_otter(course, "other", tmp_path / "new")
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        otter.export_otter(course, "tinny", tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------------------------------------- otter run

def test_the_students_notebook_runs_in_stock_otter(exported: Path, stock: Path, filled: Fill, tmp_path: Path) -> None:
    notebook = filled(exported / "student" / "tiny.ipynb", center="def center(x):\n    return x - x.mean(0)")
    notebook["cells"] = notebook["cells"][:-1]  # without grader.export, which writes a zip
    files = {"tiny.ipynb": json.dumps(notebook).encode(),
             "tiny_checks.py": (exported / "student" / "tiny_checks.py").read_bytes()}
    results = otter_run(stock, files, tmp_path / "run")
    assert {test["name"]: test["score"] for test in results["tests"] if "score" in test} == {"scale": 1, "center": 0}


def attack(folder: Path, exported: Path, fill: Fill) -> dict[str, bytes]:
    """A wrong submission with everything that otter would run: each leaves a mark in `folder` where it does."""
    def touch(name: str) -> str:
        return f"open({str(folder / name)!r}, 'w').close()"

    def pickled(name: str) -> bytes:  # calls eval when it is unpickled
        return b"cbuiltins\neval\n(V" + touch(name).encode() + b"\ntR."
    notebook = fill(exported / "student" / "tiny.ipynb", scale=WRONG)
    overwrite = (f"{touch('cell')}\nimport glob\nfor path in glob.glob({str(folder / 'tmp' / '*.pkl')!r}):\n"
                 f"    open(path, 'wb').write({pickled('results')!r})")
    notebook["cells"].append({"cell_type": "code", "source": overwrite, "metadata": {}, "outputs": [],
                              "execution_count": None, "id": "mine"})
    full = "OK_FORMAT = True\ntest = {'name': 'scale', 'points': 4, 'suites': []}\n"
    return {"tiny.ipynb": json.dumps(notebook).encode(), ".OTTER_LOG": pickled("log"),
            "otter.py": touch("otter").encode(), "autograder/__init__.py": touch("autograder").encode(),
            "tests/scale.py": full.encode(), "results.pkl": pickled("results"), "extra/otter.py": b""}


MARKS = {"log", "otter", "cell", "results"}


def test_the_attacks_work_on_stock_otter(exported: Path, stock: Path, filled: Fill, tmp_path: Path) -> None:
    """The negative control of the next test."""
    folder = tmp_path / "run"
    otter_run(stock, attack(folder, exported, filled), folder)  # one of the pickles leaves it without results
    assert {path.name for path in folder.iterdir()} & MARKS == MARKS


def test_otter_run_grades_as_autograder_grade_does_and_runs_nothing(exported: Path, filled: Fill, course: Course,
                                                                     tmp_path: Path) -> None:
    folder = tmp_path / "run"
    files = attack(folder, exported, filled)
    results = otter_run(exported / "autograder" / "autograder.zip", files, folder)
    assert {path.name for path in folder.iterdir()} == {"tmp", "submission.zip", "results.json"}
    report = graded(course, files["tiny.ipynb"], tmp_path)
    expected = [(check.score, check.points) for exercise in report.exercises for check in exercise.checks]
    assert [(test["score"], test["max_score"]) for test in results["tests"]] == expected
    assert results["score"] == report.score == 2.0
    assert [test["visibility"] for test in results["tests"]] == ["visible", "after_published", "visible"]
    assert results["extra_data"]["sandbox"] == "ENFORCED"


def graded(course: Course, notebook: bytes, folder: Path) -> Report:
    from autograder.grading.grade import grade
    from autograder.submission.reader import read_submissions
    (folder / "ann.ipynb").write_bytes(notebook)
    submissions, problems = read_submissions([folder / "ann.ipynb"], course, unit="tiny")
    reports: list[Report] = []
    assert problems == [] and grade(course, submissions, reports.append) == []
    return reports[0]


# ---------------------------------------------------------------------------------------------- the plugin alone

class Results:
    """What otter hands to `after_grading`."""

    def __init__(self, total: float):
        self.total = total

    def has_catastrophic_failure(self) -> bool:
        return False

    def set_plugin_data(self, name: str, data: object) -> None:
        self.data = data


@pytest.fixture
def plugin(tmp_path: Path, course: Course, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`plugin(name, text)`: our plugin about to grade this submission, among other files; nothing is graded really."""
    def make(name: str, text: str, failures: tuple[str, ...] = ()) -> otter_plugin.SealedGrades:
        home = tmp_path / "submission"
        (home / "tests").mkdir(parents=True)
        (home / "deep").mkdir()
        (home / "deep" / "numpy.py").write_text("")
        (home / "torch.py").write_text("")
        (home / "link").symlink_to(tmp_path)
        (home / name).write_text(text)

        def grade(course: Course, submissions: list[Any], done: Callable[[Report], None], options: Any) -> list[str]:
            if not failures:
                done(Report(student="student", unit="tiny", sandbox="ENFORCED", score=1.5, max_score=6, exercises=[]))
            return list(failures)
        monkeypatch.setattr("autograder.grading.grade.grade", grade)
        where = {"course": str(course.root / "course.yml"), "unit": "tiny"}
        return otter_plugin.SealedGrades(str(home / name), {}, where)
    return make


class Config:
    grade_from_log = True


def test_when_the_kernel_starts_nothing_of_the_students_is_there(plugin: Callable[..., Any], tmp_path: Path) -> None:
    one, config = plugin("otter.py", "def scale(x, factor):\n    return x\n"), Config()
    one.before_grading(config)
    home = tmp_path / "submission"
    assert sorted(path.name for path in home.iterdir()) == ["otter.py", "tests"] and tmp_path.is_dir()
    assert config.grade_from_log is False
    assert one.before_execution("anything").cells == []
    assert [path.name for path in home.iterdir()] == ["tests"]
    one.after_grading(results := Results(1.5))
    assert results.to_gradescope_dict(config)["score"] == 1.5
    assert otter_plugin.OUTCOMES not in os.environ


def test_a_sum_of_otters_that_is_not_ours_is_no_grade(plugin: Callable[..., Any],
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    one = plugin("ann.py", "def scale(x, factor):\n    return x\n")
    one.before_execution("anything")
    with pytest.raises(otter_plugin.OtterRuntimeError, match="not about your submission"):
        one.after_grading(Results(6.0))
    assert "add up to 6, the checks to 1.5" in capsys.readouterr().err


def test_a_grader_that_fails_gives_no_grade(plugin: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    one = plugin("ann.py", "def scale(x, factor):\n    return x\n", failures=("the reference is broken",))
    with pytest.raises(otter_plugin.OtterRuntimeError) as caught:
        one.before_execution("anything")
    assert "reference" not in str(caught.value) and "the reference is broken" in capsys.readouterr().err


def test_what_cannot_be_read_gets_nothing_and_says_why(plugin: Callable[..., Any]) -> None:
    one = plugin("ann.py", "x = 1\n")
    one.before_execution("anything")
    with pytest.raises(AssertionError, match="no exercise cells of unit tiny"):
        otter_plugin.holds("scale", "test_scale_of_ones")
    one.after_grading(results := Results(0.0))
    shown = results.to_gradescope_dict(Config())
    assert shown["score"] == 0 and "no exercise cells of unit tiny" in shown["output"]


def test_a_test_that_the_course_does_not_have_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outcomes.json"
    path.write_text(json.dumps({"problem": "", "checks": {"scale": {"test_a": "", "test_b": "not so"}}}))
    monkeypatch.setenv(otter_plugin.OUTCOMES, str(path))
    otter_plugin.holds("scale", "test_a")
    with pytest.raises(AssertionError, match="not so"):
        otter_plugin.holds("scale", "test_b")
    with pytest.raises(KeyError):
        otter_plugin.holds("scale", "test_c")


# ---------------------------------------------------------------------------------------------- what is no notebook

def zipped(folder: Path, data: bytes, name: str = "tiny.ipynb") -> Path:
    path = folder / "submission.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)
    return path


UNREADABLE = {
    "cut off": (lambda good: good[:400], "not a notebook: line .*was the upload cut off"),
    "empty": (lambda good: b"", "the file is empty"),
    "a list": (lambda good: b"[]", "not a notebook: expected a JSON object, got a list"),
    "no cells": (lambda good: b"{}", 'not a notebook: expected "nbformat": 4, got nothing'),
    "a picture": (lambda good: b"\x89PNG\r\n\x1a\n", "not a notebook"),
    "another encoding": (lambda good: good[:-1] + b"\xe9}", "not UTF-8: byte 0xe9"),
    "a damaged cell": (lambda good: b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"source": 5}]}',
                       "cell 1: "),
    "another version": (lambda good: b'{"nbformat": 9, "nbformat_minor": 0, "metadata": {}, "cells": []}', "got 9")}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_notebook_gets_nothing_and_one_line(case: str, exported: Path, tmp_path: Path) -> None:
    damage, told = UNREADABLE[case]
    path = zipped(tmp_path, damage((exported / "student" / "tiny.ipynb").read_bytes()))
    done = CliRunner().invoke(app, ["otter-run", str(path), "-a", str(exported / "autograder" / "autograder.zip"), "-o",
                                    str(tmp_path / "out")])
    assert done.exit_code == 0 and len(done.output.splitlines()) == 1 and "0 points" in done.output, done.output
    result = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert result["score"] == 0 and result["tests"] == [] and result["stdout_visibility"] == "hidden"
    assert re.match(f"This submission could not be read: .*{told}", result["output"]) and "\n" not in result["output"]


def test_otter_run_itself_leaves_no_result_of_what_is_no_notebook(exported: Path, tmp_path: Path) -> None:
    """The negative control: otter reads the notebook before any plugin is asked."""
    cut = (exported / "student" / "tiny.ipynb").read_bytes()[:400]
    assert otter_run(exported / "autograder" / "autograder.zip", {"tiny.ipynb": cut}, tmp_path / "run") == {}


def test_what_otter_can_read_is_otters(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("otter.run.main", lambda submission, **more: calls.append(submission))
    notebook = exported / "student" / "tiny.ipynb"
    autograder = exported / "autograder" / "autograder.zip"
    path = zipped(tmp_path, notebook.read_bytes())
    assert run_otter(autograder, path, tmp_path) == "" and run_otter(autograder, notebook, tmp_path) == ""
    assert calls == [str(path), str(notebook)]
    path.write_bytes(path.read_bytes()[:100])
    assert "not a readable zip" in run_otter(autograder, path, tmp_path) and len(calls) == 2
    with pytest.raises(UsageError, match=r"expected the autograder\.zip that"):
        run_otter(path, notebook, tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        run_otter(autograder, tmp_path / "nothing.zip", tmp_path)
