"""`autograder bench`: stored reports before and after, and what it does without a GPU."""
from __future__ import annotations

import json

import pytest
import torch

from autograder.commands.bench import run_bench
from autograder.commands.grade import run_grade
from autograder.errors import UsageError
from autograder.report.model import Report
from tests.speed.speed_course import KERNEL, handed_in, planned, speed_course

NO_GPU = not torch.cuda.is_available()


def grade(course, paths, out, formats=()):
    return run_grade(course, [paths], unit=None, student=None, out=out, formats=list(formats), jobs=1, fail_under=None,
                     unsandboxed=False, fresh=False)


def stored(out, student):
    return Report.from_json((out / student / "kernels.json").read_bytes())


def check_of(report, name="test_softmax_speed"):
    return next(check for check in report.exercises[0].checks if check.name == name)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The class as `autograder grade` leaves it; copied by each test."""
    folder = tmp_path_factory.mktemp("speed")
    submissions = handed_in(folder, fast=KERNEL.format(seconds=0.0101), middling=KERNEL.format(seconds=0.034),
                            slow=KERNEL.format(seconds=0.2), nothing=KERNEL.replace("torch.softmax(scale * x, dim=-1, "
                                                                                    "out=out)", "pass"),
                            fallen=KERNEL.replace("torch.softmax(scale * x, dim=-1, out=out)",
                                                  "out.copy_(torch.log_softmax(scale * x, dim=-1).exp())"))
    course = speed_course(folder)
    assert grade(course, submissions, folder / "results", ["html"]) == 0
    return course, submissions, folder / "results"


@pytest.fixture
def results(graded, tmp_path):
    import shutil
    return shutil.copytree(graded[2], tmp_path / "results")


@pytest.fixture
def measuring(monkeypatch, timing_zygote):
    return planned(monkeypatch, timing_zygote)


def run(graded, results, measuring, kind="cpu", **options):
    return run_bench(graded[0], [], [graded[1]], results, kind, options.get("plot"), options.get("json"), **measuring)


def test_points_are_pending_then_settled_and_nothing_else_changes(graded, results, measuring, capsys):
    before = {name: stored(results, name) for name in ("fast", "middling", "slow", "nothing", "fallen")}
    assert all(report.exercises[0].status == "pending" and report.score == 1 for report in before.values())
    assert run(graded, results, measuring) == 0
    after = {name: stored(results, name) for name in before}
    assert {name: report.score for name, report in after.items()} == pytest.approx(
        {"fast": 4, "middling": 1 + 1.53, "slow": 1, "nothing": 1, "fallen": 1}, abs=0.02)
    for name, report in after.items():
        check = check_of(report)
        assert report.exercises[0].status == "graded" and not check.pending and check.speed
        assert check.passed == (name == "fast")
        assert check_of(report, "test_rows_sum_to_one") == check_of(before[name], "test_rows_sum_to_one")
        assert report.provenance == before[name].provenance
    assert check_of(after["fast"]).figures[0].ratio == pytest.approx(1.01, rel=0.01)
    assert "NaN" in check_of(after["nothing"]).message
    assert "log_softmax was called" in check_of(after["fallen"]).message
    said = capsys.readouterr().out
    assert "1.01 x reference" in said and f"roofline: {results}" in said
    assert "<svg" in (results / "roofline.svg").read_text()
    assert "3.42 times" in (results / "middling" / "kernels.html").read_text()


def test_a_second_run_changes_no_byte(graded, results, measuring, capsys):
    run(graded, results, measuring)
    before = {path: path.read_bytes() for path in results.rglob("*.json")}
    capsys.readouterr()
    assert run(graded, results, measuring) == 0
    assert "nothing to time: no speed check is pending" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in results.rglob("*.json")} == before


def test_grading_again_keeps_what_was_settled(graded, results, measuring):
    run(graded, results, measuring)
    settled = (results / "fast" / "kernels.json").read_bytes()
    assert grade(graded[0], graded[1], results) == 0
    assert (results / "fast" / "kernels.json").read_bytes() == settled


@pytest.mark.parametrize("speed", ["{}", "{h200: {full: 1.2, zero: 10.0, ceiling: 0.9}}",
                                   "{default: {full: 1.2, zero: 10.0, ceiling: 0.9}}"])
def test_a_cpu_settles_nothing_unless_the_course_has_thresholds_for_it(graded, results, measuring, tmp_path, speed):
    course = speed_course(tmp_path / "other", speed)
    before = stored(results, "fast")
    code = run_bench(course, [], [graded[1] / "fast"], results, "cpu", None, None, **measuring)
    check = check_of(stored(results, "fast"))
    assert code == 1 and check.pending and check.score == 0
    assert check.message == "Pending: course.yml has no speed thresholds for cpu."
    assert stored(results, "fast").score == before.score


def test_another_file_than_was_graded_is_not_timed(graded, results, measuring, tmp_path, capsys):
    other = handed_in(tmp_path, fast=KERNEL.format(seconds=0.005))
    before = (results / "fast" / "kernels.json").read_bytes()
    assert run_bench(graded[0], [], [other], results, "cpu", None, None, **measuring) == 1
    assert "not the file that" in capsys.readouterr().err
    assert (results / "fast" / "kernels.json").read_bytes() == before


def test_without_submissions_the_reference_is_timed_against_itself(graded, measuring, tmp_path, capsys):
    file = tmp_path / "figures.json"
    code = run_bench(graded[0], ["kernels"], [], None, "cpu", tmp_path / "roof.png", file, **measuring)
    found = json.loads(file.read_text())
    assert code == 0 and found["device"]["device"] == "cpu"
    assert [one["ratio"] for one in found["measurements"]] == [pytest.approx(1.0)]
    assert "(reference)" in capsys.readouterr().out
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not NO_GPU, reason="is about a machine without a GPU")
def test_without_a_gpu_one_line_says_so_and_nothing_changes(graded, results, capsys):
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert run(graded, results, {}, kind="cuda") == 1
    said = capsys.readouterr()
    assert said.out.startswith("autograder bench: no GPU: ") and said.out.count("\n") == 1 and said.err == ""
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_usage_errors(graded, results, tmp_path):
    for options, said in (((None, None, results), "--results needs --submissions"),
                          (([graded[1]], None, tmp_path / "none"), "no such folder"),
                          (([graded[1]], tmp_path / "roof.txt", results), "ends in .svg or .png")):
        paths, plot, out = options
        with pytest.raises(UsageError, match=said):
            run_bench(graded[0], [], paths or [], out, "cpu", plot, None)


def test_what_cannot_be_read_is_said_and_the_rest_is_settled(graded, results, measuring, tmp_path, capsys):
    paths = [graded[1] / "fast", tmp_path / "nobody.ipynb"]
    assert run_bench(graded[0], [], paths, results, "cpu", None, None, **measuring) == 2
    assert "nobody.ipynb: no such file" in capsys.readouterr().err
    assert not check_of(stored(results, "fast")).pending
