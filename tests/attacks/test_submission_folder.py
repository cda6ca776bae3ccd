"""Rows a26 and a27: files beside a submission and variables in the environment that steer Python or pytest."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.report.model import Report
from autograder.sandbox import seccomp

from .ring import ROOT
from .usual_design import UsualDesign

AUTOGRADER = Path(sys.executable).parent / "autograder"
CELL = '# %% exercise="double"\nimport torch\ndef f(x):\n    return {} * x + 1\n'
PASS_ALL = """
import pytest
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    report.outcome = "passed"
"""
LEAVE = "import os; os._exit(0)\n"
FILES = {
    "conftest.py": PASS_ALL, "pytest.ini": "[pytest]\naddopts = --collect-only\n",
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--collect-only'\n",
    **dict.fromkeys(["sitecustomize.py", "usercustomize.py", "torch.py", "etude.py", "autograder.py", "random.py",
                     "target_checks.py", "hypothesis.py"], LEAVE),
    "evil.pth": "import os; os._exit(0)\n", ".hypothesis/examples/x": "", "target_variants.py": LEAVE,
}
ENVIRONMENT = {"PYTEST_ADDOPTS": "--collect-only", "PYTEST_PLUGINS": "no_such_plugin", "PYTHONSTARTUP": "torch.py",
               "TORCH_SHOW_CPP_STACKTRACES": "1", "OMP_NUM_THREADS": "7"}


@pytest.mark.skipif(not AUTOGRADER.exists(), reason="the command `autograder` is not installed beside this Python")
@pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter: graded runs are refused here")
def test_files_beside_a_submission_and_variables_around_the_grader_change_no_verdict(tmp_path: Path):
    for student, factor in (("mallory", 3), ("plain", 3), ("honest", 2)):
        folder = tmp_path / student / "target"
        folder.mkdir(parents=True)
        (folder / "target.py").write_text(CELL.format(factor))
        for name, text in FILES.items() if student != "plain" else ():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    out = tmp_path / "out"
    done = subprocess.run(
        [AUTOGRADER, "grade", *(str(tmp_path / s / "target" / "target.py") for s in ("mallory", "plain", "honest")),
         "--course", str(ROOT / "tests/attacks/course/course.yml"), "--out", str(out), "--format", "json"],
        cwd=tmp_path / "mallory" / "target", env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reports = {student: Report.from_json((out / student / "target.json").read_bytes())
               for student in ("mallory", "plain", "honest")}
    assert reports["honest"].score == reports["honest"].max_score
    assert reports["mallory"].score == 0 and reports["mallory"].exercises == reports["plain"].exercises
    assert {report.sandbox for report in reports.values()} == {"ENFORCED"}


@pytest.mark.parametrize("name", ["conftest.py", "pytest.ini"])
def test_negative_control_the_usual_design_obeys_them(usual: UsualDesign, name: str):
    order = {"source": "", "style": "assert_close", "runner": "pytest", "patient": True}
    assert usual.run(order)["exit"] == 1
    assert usual.run({**order, "files": {name: FILES[name]}})["exit"] == 0


def test_negative_control_a_python_that_is_told_to_look_there_obeys_them(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(FILES["sitecustomize.py"])
    command = [sys.executable, "-c", "raise SystemExit(1)"]
    assert subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, cwd="/").returncode == 0
    assert subprocess.run(command, env={}, cwd="/").returncode == 1
