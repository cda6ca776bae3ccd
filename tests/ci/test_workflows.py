"""The workflow files do what they say: each `run:` step is run here, as it stands, in clean clones.

Steps that only GitHub or GitLab can run are replaced by what they amount to: a checkout is a clone, and the cache of
`.venv` is found, so that `Install` is left out as it would be there.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from autograder.sandbox import seccomp

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "autograder" / "exports" / "student_repository"
GITHUB = [ROOT / ".github/workflows/tests.yml", ROOT / ".github/workflows/grade.yml",
          TEMPLATE / ".github/workflows/checks.yml"]
GITLAB = [ROOT / ".gitlab-ci.yml", TEMPLATE / ".gitlab-ci.yml"]
ENFORCED = pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter: graded runs are refused here")


@pytest.mark.parametrize("kind, path", [*(("github-workflows", path) for path in GITHUB),
                                        *(("gitlab-ci", path) for path in GITLAB)],
                         ids=lambda value: value if isinstance(value, str) else str(value.relative_to(ROOT)))
def test_the_file_keeps_to_the_schema(kind: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{kind}", str(path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_actions_are_pinned_and_rights_are_few(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 45
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1"))
            assert "${{" not in step.get("run", ""), "an expression in a script lets its value write the script"


def test_only_the_step_that_grades_can_read_the_seed() -> None:
    jobs = yaml.safe_load(GITHUB[1].read_text(encoding="utf-8"))["jobs"]
    (job,) = jobs.values()
    assert "ETUDE_SEED" not in str(job.get("env"))
    readers = [step["name"] for step in job["steps"] if "ETUDE_SEED" in str(step.get("env"))]
    assert readers == ["Grade"]


class Runner:
    """Runs the steps of a workflow's one job in a folder, with the environment that GitHub would give."""

    def __init__(self, folder: Path, values: dict[str, str]):
        self.folder, self._values = folder, values
        self.summary = folder.parent / "summary.md"
        self.codes: dict[str, int] = {}
        self.output: dict[str, str] = {}

    def run(self, workflow: Path) -> None:
        (job,) = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
        failed = False
        for step in job["steps"]:
            if "run" not in step or "cache-hit" in step.get("if", "") or (failed and step.get("if") != "always()"):
                continue
            environment = {**job.get("env", {}), **step.get("env", {})}
            result = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=self.folder, capture_output=True, text=True,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder.parent), "GITHUB_ACTIONS": "true",
                     "GITHUB_STEP_SUMMARY": str(self.summary),
                     **{name: self._value(str(value)) for name, value in environment.items()}})
            name = step.get("name", step["run"])
            self.codes[name], self.output[name] = result.returncode, result.stdout + result.stderr
            failed = failed or result.returncode != 0

    def _value(self, text: str) -> str:
        """An expression's value: the first of its alternatives that is known."""
        def known(match: re.Match[str]) -> str:
            names = [name.strip() for name in match[1].split("||")]
            return next((self._values[name] for name in names if name in self._values), "")
        return re.sub(r"\$\{\{(.*?)\}\}", known, text)


@pytest.fixture
def student_repository(tmp_path: Path) -> Path:
    """What a student has after `git clone`, with the environment from the cache."""
    folder = tmp_path / "student"
    subprocess.run([sys.executable, "-m", "autograder.cli", "export", "repository", "attention", "--to", str(folder)],
                   cwd=ROOT, check=True, capture_output=True)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def hand_in(repository: Path, student: str) -> None:
    notebook = ROOT / "tests/sample_class" / student / "attention" / "attention.ipynb"
    shutil.copy(notebook, repository / "assignments" / "attention")


def test_a_students_repository_holds_no_solution_and_can_be_installed(student_repository: Path) -> None:
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in student_repository.rglob("*")
                     if path.is_file() and ".venv" not in path.parts)
    assert "BEGIN SOLUTION" not in text and "attention_variants" not in text and "import autograder" not in text
    wheel = subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
                            "--wheel-dir", str(student_repository / "wheel"), str(student_repository / "etude")],
                           capture_output=True, text=True)
    assert wheel.returncode == 0, wheel.stderr
    assert len(list((student_repository / "wheel").glob("etude-*.whl"))) == 1


def test_an_untouched_repository_is_green(student_repository: Path) -> None:
    runner = Runner(student_repository, {})
    runner.run(student_repository / ".github/workflows/checks.yml")
    assert runner.codes == {"Check": 0} and "not begun yet" in runner.output["Check"]


def test_a_wrong_push_is_red_and_marks_the_lines(student_repository: Path) -> None:
    hand_in(student_repository, "ben")
    runner = Runner(student_repository, {})
    runner.run(student_repository / ".github/workflows/checks.yml")
    assert runner.codes == {"Check": 1}
    marks = re.findall(r"^::error file=([^,]+),line=(\d+),", runner.output["Check"], re.MULTILINE)
    assert len(marks) >= 3 and {file for file, _ in marks} == {"assignments/attention/attention.ipynb"}
    lines = (student_repository / marks[0][0]).read_text(encoding="utf-8").splitlines()
    assert "def sdpa(" in lines[int(marks[0][1]) - 1]
    assert "the scores are not divided by √d" in runner.summary.read_text(encoding="utf-8")


def test_gitlab_runs_the_same_script(student_repository: Path) -> None:
    hand_in(student_repository, "ben")
    script = yaml.safe_load(GITLAB[1].read_text(encoding="utf-8"))["checks"]["script"]
    result = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", "\n".join(script)], cwd=student_repository,
                            capture_output=True, text=True)
    assert result.returncode == 1 and "the scores are not divided by √d" in result.stdout, result.stderr


@pytest.fixture
def staff_repository(tmp_path: Path, student_repository: Path) -> Path:
    """A clean clone of the course with a student's repository checked out in it, as the workflow's steps do."""
    folder = tmp_path / "course"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            check=True, capture_output=True, text=True)
    files = listed.stdout.split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    hand_in(student_repository, "ben")
    shutil.copytree(student_repository, folder / "submission", symlinks=True)
    return folder


VALUES = {"inputs.student": "ben", "inputs.unit": "attention", "secrets.ETUDE_SEED": "a secret of the course"}


@ENFORCED
def test_a_submission_is_graded_in_the_course_repository(staff_repository: Path) -> None:
    runner = Runner(staff_repository, VALUES)
    runner.run(GITHUB[1])
    assert runner.codes == {"Is the sandbox enforced?": 0, "Grade": 0, "Summary": 0}, runner.output
    marks = re.findall(r"^::error file=([^,]+),line=(\d+),title=(.*?)::", runner.output["Grade"], re.MULTILINE)
    assert len(marks) == 10 and marks[0][0] == "submission/assignments/attention/attention.ipynb"
    assert "the scores are not divided by √d" in runner.summary.read_text(encoding="utf-8").replace("\\", "")
    kept = sorted(path.name for path in (staff_repository / "results" / "ben").iterdir())
    assert kept == ["attention.html", "attention.json", "attention.md", "attention.xml"]
    assert "a secret of the course" not in "".join(runner.output.values())


@ENFORCED
def test_too_few_points_are_red_and_still_tell_why(staff_repository: Path) -> None:
    hand_in(staff_repository / "submission", "gus")
    workflow = staff_repository / ".github/workflows/grade.yml"
    workflow.write_text(workflow.read_text(encoding="utf-8").replace('FAIL_UNDER: "50"', 'FAIL_UNDER: "100"'))
    runner = Runner(staff_repository, VALUES)
    runner.run(workflow)
    assert runner.codes == {"Is the sandbox enforced?": 0, "Grade": 1, "Summary": 0}, runner.output
    assert "the process ended itself" in runner.summary.read_text(encoding="utf-8")


def test_without_the_seed_nothing_is_graded(staff_repository: Path) -> None:
    runner = Runner(staff_repository, {**VALUES, "secrets.ETUDE_SEED": ""})
    runner.run(GITHUB[1])
    assert runner.codes["Grade"] == 3 and "ETUDE_SEED is missing" in runner.output["Grade"]
    assert not (staff_repository / "results").exists()
    assert "Nothing was graded" in runner.summary.read_text(encoding="utf-8")
