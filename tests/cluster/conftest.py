"""A cluster for each test, and the command that grades a class on it."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_cluster import Cluster
from tiny_course import tiny_course

from autograder.course import Course


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    """The tiny course, and the working directory in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETUDE_SEED", raising=False)
    return tiny_course(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("distributed", reason="dask is not installed: the extra `cluster`")
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture
def grade(course: Course, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`grade(...)`: exit code, standard output and standard error of `autograder grade class --out out ...`."""
    from autograder import cli

    def run(*arguments: str, out: str = "out") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autograder", "grade", "class", "--out", out, "--format", "junit",
                                          "--unsandboxed", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capfd.readouterr()
    return run
