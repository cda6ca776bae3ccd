"""A class graded on a cluster of real processes: the same reports as here, whatever happens to its workers."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dask_cluster import Cluster, hand_in, whole

from autograder.cluster import client, connect
from autograder.course import Course, load_course
from autograder.errors import UsageError
from autograder.grading.grade import Options
from autograder.submission.reader import read_submissions

MANY = [f"s{number:02}" for number in range(10)]


def test_reports_are_those_of_this_machine_to_the_byte(cluster: Cluster, grade: Callable,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_SEED", "very secret")
    hand_in(MANY)
    monkeypatch.delenv("ETUDE_SEED")
    address = cluster.start()
    monkeypatch.setenv("ETUDE_SEED", "very secret")
    code, out, err = grade("--cluster", address)
    assert (code, err) == (0, "") and out == "reports: out/<student>/<unit>.json\n"
    assert grade(out="here")[0] == 0
    assert whole("out") == whole("here") and sorted(whole("out")) == MANY
    assert len({json.loads(report)["score"] for report in whole("out").values()}) > 2
    assert sorted(line.split()[-1] for line in cluster.noted("graded")) == MANY, "each was graded once, and there"
    # Neither what runs student code nor the seed is in the process that talks to the network.
    assert set(cluster.noted("in the worker")) == {""}
    assert "kept: 10 of 10" in grade("--cluster", "tcp://127.0.0.1:1")[1], "nothing is left to grade: nobody is asked"


def test_workers_that_are_killed_cost_nothing(cluster: Cluster, grade: Callable) -> None:
    hand_in([*MANY[:6], "once_a", "once_b", "slow_c"])
    address = cluster.start()

    def kill() -> None:
        while not cluster.noted("slow_c"):
            time.sleep(0.05)
        os.kill(int(cluster.noted("slow_c")[0]), signal.SIGKILL)
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    code, _, err = grade("--cluster", address)
    assert (code, err) == (0, "") and not killer.is_alive()
    assert len(cluster.noted("slow_c")) >= 2 and len(cluster.noted("once_a")) >= 2
    assert grade(out="here")[0] == 0
    assert whole("out") == whole("here") and len(whole("out")) == 9


def test_one_over_which_worker_after_worker_is_lost_is_set_aside(cluster: Cluster, grade: Callable) -> None:
    hand_in([*MANY[:4], "killer_x"])
    code, _, err = grade("--cluster", cluster.start())
    assert code == 3 and err.count("\n") == 1
    assert err.startswith("autograder: class/killer_x/tiny/tiny.ipynb: not graded: every worker of the cluster that")
    assert sorted(whole("out")) == MANY[:4]


def test_a_worker_with_another_course_is_refused(cluster: Cluster, grade: Callable, course: Course) -> None:
    hand_in(MANY[:1])
    shutil.copytree(course.root / "solutions", "other/solutions")
    checks = Path("other/solutions/tiny/tiny_checks.py")
    shutil.copy("course.yml", "other/course.yml")
    address = cluster.start(workers=0)
    cluster.add(ETUDE_COURSE=str(Path("other/course.yml").resolve()))
    assert grade("--cluster", address)[::2] == (0, ""), "the same course elsewhere"
    checks.write_text(checks.read_text() + "# changed\n")
    code, _, err = grade("--cluster", address, "--fresh")
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("autograder: worker tcp://127.0.0.1:")
    assert "it has not the same files of the course as this machine: expected " in err
    shutil.rmtree("other")
    code, _, err = grade("--cluster", address, "--fresh")
    assert code == 2 and "cannot grade this course" in err and "ETUDE_COURSE" in err


def test_a_report_of_a_worker_that_came_late_with_another_course_is_refused(cluster: Cluster, grade: Callable,
                                                                          course: Course,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    hand_in(MANY[:1])
    shutil.copytree(course.root / "solutions", "other/solutions")
    checks = Path("other/solutions/tiny/tiny_checks.py")
    checks.write_text(checks.read_text() + "# changed\n")
    shutil.copy("course.yml", "other/course.yml")
    address = cluster.start(workers=0)
    cluster.add(ETUDE_COURSE=str(Path("other/course.yml").resolve()))
    monkeypatch.setattr(client._Run, "check_workers", lambda self: None)
    code, _, err = grade("--cluster", address)
    assert code == 2 and "graded tiny with other checks than here" in err and whole("out") == {}


def test_what_needs_a_resource_goes_where_it_is(cluster: Cluster, course: Course) -> None:
    hand_in(MANY[:4])
    address = cluster.start(workers=0)
    cluster.add(ETUDE_TEST_NAME="plain")
    needs = {"tiny": {"GPU": 1}}
    submissions, _ = read_submissions(["class"], load_course(Path("course.yml")))
    with pytest.raises(UsageError, match="unit tiny needs {'GPU': 1}, which no worker offers; start one with"):
        client.grade_on_cluster(address, course, submissions, lambda report: None, Options(unsandboxed=True), needs)
    cluster.add(1, "--resources", "GPU=1", ETUDE_TEST_NAME="gpu")
    reports: list[Any] = []
    assert client.grade_on_cluster(address, course, submissions, reports.append, Options(unsandboxed=True), needs) == []
    assert sorted(report.student for report in reports) == MANY[:4]
    assert {line.split()[0] for line in cluster.noted("graded")} == {"gpu"}


def test_ctrl_c_leaves_a_store_to_go_on_from(cluster: Cluster, grade: Callable, tmp_path: Path) -> None:
    hand_in([*MANY[:6], "slow_z"])
    address = cluster.start()
    running = subprocess.Popen([sys.executable, "-m", "autograder.cli", "grade", "class", "--out", "out", "--format",
                                "junit", "--unsandboxed", "--cluster", address], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    deadline = time.monotonic() + 60
    while not (whole("out") and cluster.noted("slow_z")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=180)
    assert running.returncode == 130 and err.count("\n") == 1
    assert "of 7 are graded and kept in out; the same command goes on from there" in err
    before = set(whole("out"))
    assert before and "slow_z" not in before
    os.kill(int(cluster.noted("slow_z")[0]), signal.SIGKILL)
    code, out, _ = grade("--cluster", address)
    assert code == 0 and f"kept: {len(before)} of 7 reports" in out and len(whole("out")) == 7


def test_where_nobody_answers_it_is_said_in_one_line(grade: Callable, cluster: Cluster,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    hand_in(MANY[:1])
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(connect, "WORKER_SECONDS", 1)
    for address, says in (("tcp://127.0.0.1:1", "no scheduler answers there"), ("nonsense://x", "no scheduler answers"),
                          (cluster.start(workers=0), "no worker has come within 1 s")):
        code, _, err = grade("--cluster", address)
        assert code == 2 and says in err.splitlines()[-1], err
        assert "Traceback" not in err


def test_a_connection_that_anybody_can_read_is_told(capsys: pytest.CaptureFixture) -> None:
    for address in ("tcp://127.0.0.1:8786", "tls://10.0.0.1:8786", "localhost:8786", "tcp://[::1]:8786"):
        connect._warn(address)
    assert capsys.readouterr().err == ""
    connect._warn("tcp://10.0.0.1:8786")
    assert "neither encrypted nor authenticated" in capsys.readouterr().err
