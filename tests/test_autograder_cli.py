"""The command line: exit codes that scripts rely on, one line for every user's mistake, and help at once."""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tiny_course import RIGHT, handed_in, notebook_of, tiny_course

from autograder import cli
from autograder.course import Course

ROOT = Path(__file__).resolve().parents[1]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """`run("grade", ...)`: the command in this process."""
    def command(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["autograder", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err and "INTERNALERROR" not in out + err
        return Ended(ended.value.code or 0, out, err)
    return command


@pytest.fixture
def warm(zygote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands take the session's zygote instead of one of their own."""
    from autograder.grading import grade as grading
    if not zygote.label.enforced:
        pytest.skip("no enforced sandbox on this machine")

    @contextmanager
    def lend(course: Course, options: Any, kernels: bool) -> Iterator[Any]:
        yield zygote
    monkeypatch.setattr(grading, "open_zygote", lend)


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a course and a class of two; commands run in it."""
    tiny_course(tmp_path)
    half = "def scale(x, factor):\n    return x + factor"
    for student, cells in (("ann", {}), ("bob", {"scale": half})):
        path = tmp_path / "class" / student / "tiny" / "tiny.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(notebook_of(handed_in(student, **cells)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------------------------------------- grade

@pytest.mark.parametrize(("fail_under", "code"), [([], 0), (["--fail-under", 30], 0), (["--fail-under", 90], 1)])
def test_graded_is_0_whatever_the_score_and_1_where_a_bound_is_missed(course: Path, run: Callable, warm: None,
                                                                      fail_under: list, code: int) -> None:
    ended = run("grade", "class", *fail_under)
    assert ended.code == code and ended.err == ""
    assert "ann: Tiny" in ended.out and "6 / 6 points" in ended.out and "2 / 6 points" in ended.out
    assert "the factor is added" in ended.out


def test_a_submission_that_cannot_be_read_costs_itself_and_the_exit_code(course: Path, run: Callable,
                                                                         warm: None) -> None:
    (course / "class/bob/tiny/tiny.ipynb").write_text('{"cells": [\n {"cell_type": \n')
    ended = run("grade", "class", "--out", "results", "--format", "junit")
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("autograder: class/bob/tiny/tiny.ipynb") and "line 3" in line
    written = sorted(str(path.relative_to("results")) for path in Path("results").rglob("*") if path.is_file())
    assert written == ["ann/tiny.json", "ann/tiny.xml"]
    assert json.loads(Path("results/ann/tiny.json").read_text())["score"] == 6


def test_formats_go_to_standard_output_or_to_files(course: Path, run: Callable, warm: None) -> None:
    one = run("grade", "class/ann", "--format", "json")
    assert json.loads(one.out)["student"] == "ann" and one.code == 0
    both = run("grade", "class", "--format", "json")
    assert [report["score"] for report in json.loads(both.out)] == [6, 2]
    assert run("grade", "class/ann", "--format", "junit").out.startswith("<?xml")
    files = run("grade", "class", "--out", "out", "--format", "html", "--format", "github")
    assert files.out.strip() == "report: out/index.html" and Path("out/index.html").exists()
    assert {path.name for path in Path("out/bob").iterdir()} == {"tiny.json", "tiny.html", "tiny.md"}
    run("grade", "class/ann", "--out", "out", "--format", "html")
    page = Path("out/index.html").read_text()
    assert "bob" in page, "the page is of all reports that are there, not of this run's alone"
    Path("out/index.html").unlink()
    assert run("overview", "out").out == files.out and Path("out/index.html").read_text() == page
    Path("out/bob/tiny.json").write_text("{")
    torn = run("overview", "out")
    assert torn.code == 2 and torn.err.startswith("autograder: out/bob/tiny.json: not a report")
    assert "not a report" in Path("out/index.html").read_text()


def test_one_notebook_and_a_script_are_submissions_too(course: Path, run: Callable, warm: None) -> None:
    Path("hers.py").write_text(RIGHT["scale"] + "\n\n\n" + RIGHT["center"] + "\n")
    ended = run("grade", "hers.py", "--unit", "tiny", "--student", "eve", "--format", "json")
    assert ended.code == 0 and json.loads(ended.out)["student"] == "eve" and json.loads(ended.out)["score"] == 6


# ---------------------------------------------------------------------------------------------- mistakes of the user

MISTAKES: dict[str, tuple[list[str], str]] = {
    "a path that is not there": (["grade", "nowhere"], "autograder: nowhere: "),
    "an unknown format": (["grade", "class", "--format", "pdf"], "--format pdf: expected one of text, json, junit"),
    "an unknown unit": (["grade", "class", "--unit", "tinny"], "unknown unit 'tinny'; did you mean 'tiny'?"),
    "a student's name that is unsafe": (["grade", "class/ann", "--student", "../x"], "name '../x' cannot be used"),
    "a bound above 100": (["grade", "class", "--fail-under", "150"], "--fail-under 150: expected a percentage, from 0"),
    "a bound that is no number": (["grade", "class", "--fail-under", "nan"], "--fail-under nan: expected a percentage"),
    "HTML to nowhere": (["grade", "class", "--format", "html"], "say where with --out DIR"),
    "an output folder that is a file": (["grade", "class", "--out", "course.yml"], "autograder: course.yml"),
    "another course that is not there": (["grade", "class", "--course", "no.yml"], "no.yml: cannot be read"),
    "a course that is a folder": (["grade", "class", "--course", "class"], "autograder: class: cannot be read"),
    "an unknown unit to verify": (["verify", "tinny"], "unknown unit 'tinny'"),
    "JSON into a folder that is not there": (["verify", "--json", "no/such/file"], "autograder: no/such/file"),
    "an unknown course to build": (["build", "--course", "no.yml"], "no.yml: cannot be read"),
    "an empty folder": (["grade", "empty"], "autograder: empty: "),
}


@pytest.mark.parametrize(("arguments", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_line_and_2(course: Path, run: Callable, warm: None, arguments: list[str],
                                             says: str) -> None:
    Path("empty").mkdir()
    ended = run(*arguments)
    assert ended.code == 2 and says in ended.err and len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["grade"], ["grade", "class", "--jobs", "0"], ["grade", "--no-such-option"],
                                       ["no-such-command"], ["grade", "class", "--fail-under", "much"]])
def test_bad_usage_is_2_and_says_how_to_get_help(course: Path, run: Callable, arguments: list[str]) -> None:
    ended = run(*arguments)
    assert ended.code == 2 and "--help" in ended.err and ended.out == ""


def test_without_a_course_every_command_says_what_is_missing(tmp_path: Path, run: Callable,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["grade", "."], ["verify"], ["build"], ["doctor"]):
        ended = run(*arguments)
        assert ended.code == 2 and ended.err.startswith("autograder: no course.yml in ") and ended.err.count("\n") == 1


@pytest.mark.parametrize(("file", "old", "new", "says"), [
    ("course.yml", "points: 4", "points: four", "course.yml:8: units.tiny.exercises.scale.points: expected a positive"),
    ("course.yml", "points: 4", "points: 5", "tiny.scale is worth 5 points, its checks in tiny_checks.py add up to 4"),
    ("{}_checks.py", "import torch\n", "import torch\n1 / 0\n", "tiny_checks.py:3: ZeroDivisionError: division"),
    ("{}_checks.py", "@points(3)", "@points", "tiny_checks.py:22: test_scale_values_and_gradients: no @points(…) mark"),
    ("{}_variants.py", '"einsum"', '""', "tiny_variants.py:21: a variant needs an exercise and an id"),
])
def test_a_mistake_in_the_course_is_told_with_its_file_and_line(course: Path, run: Callable, warm: None, file: str,
                                                                old: str, new: str, says: str) -> None:
    path = Path(file.format("solutions/tiny/tiny"))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    ended = run("verify") if "variants" in file else run("grade", "class")
    assert ended.code == 2 and says in ended.err and ended.err.count("\n") == 1


# ---------------------------------------------------------------------------------------------- the grader's failures

def test_a_reference_that_fails_is_the_graders_failure_and_3(course: Path, run: Callable, warm: None) -> None:
    solution = Path("solutions/tiny/tiny.py")
    solution.write_text(solution.read_text().replace("return factor * x", "return factor + x"))
    ended = run("grade", "class")
    assert ended.code == 3 and ended.err.count("\n") == 1
    assert "the reference itself fails test_scale_of_ones" in ended.err


@pytest.mark.parametrize(("options", "code"), [([], 3), (["--unsandboxed"], 0)])
def test_a_sandbox_that_does_not_hold_grades_only_what_is_trusted(
        course: Path, run: Callable, zygote: Any, monkeypatch: pytest.MonkeyPatch, options: list[str],
        code: int) -> None:
    class Weak:
        """The session's zygote, as it would be where nothing seals it."""

        def __init__(self, preload: list[str], serve: str):
            self.label = type("Label", (), {"name": "ADVISORY", "layers": ()})
            self.spawn = zygote.spawn

        def __enter__(self) -> Weak:
            return self

        def __exit__(self, *error: object) -> None:
            pass
    monkeypatch.setattr("autograder.sandbox.client.Zygote", Weak)
    ended = run("grade", "class/ann", "--format", "json", *options)
    assert ended.code == code
    if code:
        assert "the sandbox does not hold here (ADVISORY): run `autograder doctor`" in ended.err and ended.out == ""
    else:
        report = json.loads(ended.out)
        assert report["sandbox"] == "ADVISORY" and report["provenance"]["unsandboxed"] is True


def test_a_full_disk_is_told_in_one_line(course: Path, run: Callable, warm: None,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device", "results/ann/tiny.json")
    monkeypatch.setattr("autograder.commands.grade.write_views", full)
    ended = run("grade", "class", "--out", "results")
    assert ended.code == 3 and "No space left on device: 'results/ann/tiny.json'" in ended.err
    assert ended.err.count("\n") == 1


def test_an_interrupt_is_130_and_no_traceback(course: Path, run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr("autograder.commands.grade.read_submissions", interrupted)
    assert run("grade", "class").code == 130


# ---------------------------------------------------------------------------------------------- verify, build, help

def test_verify_is_0_for_a_good_unit_and_writes_what_it_found(course: Path, run: Callable) -> None:
    ended = run("verify", "tiny", "--json", "proof.json")
    scale, center = json.loads(Path("proof.json").read_text())
    assert (scale["exercise"], center["problems"]) == ("scale", []) and len(scale["verdicts"]) == 8
    assert ended.code == 0 and "Every mistake loses points and is named" in ended.out and "2/2" in ended.out


def test_verify_is_1_for_a_unit_with_a_problem(course: Path, run: Callable) -> None:
    with Path("solutions/tiny/tiny_variants.py").open("a") as file:
        file.write('\n\n@mistake("scale", "harmless", "it is right")\ndef scale(x, factor):\n    return x * factor\n')
    ended = run("verify")
    assert ended.code == 1 and "✗ tiny.scale: mistake harmless gets 4 of 4 points" in ended.out
    assert "Every mistake loses points" not in ended.out


def test_build_check_is_1_until_the_course_is_built(course: Path, run: Callable) -> None:
    stale = run("build", "--check")
    assert stale.code == 1 and "assignments/tiny/tiny.ipynb is out of date" in stale.out
    assert stale.err.strip() == "run `autograder build`"
    built = run("build")
    assert built.code == 0 and "wrote tiny.ipynb" in built.out and "wrote tiny_checks.py" in built.out
    assert run("build", "--check") == Ended(0, "", "") == run("build")
    released = Path("assignments/tiny/tiny_checks.py").read_text()
    assert "test_scale_of_ones" in released and "test_scale_values_and_gradients" not in released


def test_help_needs_nothing_heavy() -> None:
    code = """
import sys
from autograder import cli
heavy = ["torch", "rich", "numpy", "hypothesis", "pytest", "nbgrader", "autograder.course", "pydantic"]
for command in ([], ["grade"], ["verify"], ["build"], ["doctor"]):
    sys.argv = ["autograder", *command, "--help"]
    try:
        cli.main()
    except SystemExit as ended:
        assert not ended.code, command
    print("loaded:", [name for name in heavy if name in sys.modules])
    heavy = heavy[:-1]  # typer itself takes pydantic for a command's arguments
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert [line for line in ended.stdout.splitlines() if line.startswith("loaded")] == ["loaded: []"] * 5
    assert "--fail-under" in ended.stdout and ended.stderr == ""
