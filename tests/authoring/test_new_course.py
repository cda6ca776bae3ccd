"""A new course builds, verifies and grades as it is; a new exercise says what it lacks until it has it."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from autograder import cli
from autograder.authoring.course_entry import with_exercise
from autograder.authoring.new_course import TEMPLATE, new_course
from autograder.course import load_course, parse_course
from autograder.errors import UsageError
from autograder.sandbox import seccomp

RIGHT = "def tempered_softmax(scores, temperature=1.0):\n    return torch.softmax(scores / temperature, -1)"
FOLLOWED = TEMPLATE / ".github/workflows"


@pytest.fixture
def run(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """`run("build")`: exit code, standard output and standard error of the command, in this process."""
    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autograder", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capfd.readouterr()
    return command


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new course; commands run in it."""
    new_course(tmp_path / "course")
    monkeypatch.chdir(tmp_path / "course")
    return tmp_path / "course"


def hand_in(course: Path, student: str, source: str | None) -> None:
    """The released notebook in `class/<student>`, with the exercise's cell as given."""
    notebook = json.loads((course / "assignments/warm_up/warm_up.ipynb").read_text())
    for cell in notebook["cells"]:
        if source is not None and cell["metadata"].get("nbgrader", {}).get("grade_id") == "tempered_softmax":
            cell["source"] = source
    path = course / "class" / student / "warm_up" / "warm_up.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(notebook))


def test_a_new_course_builds_verifies_and_grades_at_once(tmp_path: Path, run: Callable,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("new-course", tmp_path / "mine")
    assert code == 0 and "10 files" in out
    monkeypatch.chdir(tmp_path / "mine")
    assert run("build")[0] == 0 and run("build", "--check")[0] == 0
    code, out, _ = run("verify")
    assert code == 0 and "8/8    8/8" in out and "nothing empty passes" in " ".join(out.split())
    hand_in(Path.cwd(), "ada", RIGHT)
    hand_in(Path.cwd(), "ben", RIGHT.replace("/ temperature", "* temperature"))
    hand_in(Path.cwd(), "eve", None)
    assert run("grade", "class", "--out", "results", "--unsandboxed")[0] == 0
    reports = {name: json.loads(Path(f"results/{name}/warm_up.json").read_text()) for name in ("ada", "ben", "eve")}
    assert (reports["ada"]["score"], reports["eve"]["score"]) == (10, 0)
    assert 0 < reports["ben"]["score"] < 10 and "multiplied by the temperature" in json.dumps(reports["ben"])


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, run: Callable) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = run("new-course", tmp_path)
    assert code == 2 and err == f"autograder: {tmp_path}: not empty; name a new folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert run("new-course", tmp_path / "notes.txt")[0] == 2


def test_versions_are_those_installed_here(course: Path) -> None:
    pins = dict(line.split("==") for line in (course / "constraints.txt").read_text().splitlines())
    assert pins["torch"] == version("torch").partition("+")[0] and pins["typer"] == version("typer")
    assert pins["click"] == version("click"), "what is needed by what is needed"
    assert "ruff" not in pins, "a tool of the platform's own tests"


@pytest.mark.parametrize("kind, path", [("github-workflows", FOLLOWED / "verify.yml"),
                                        ("github-workflows", FOLLOWED / "grade.yml"),
                                        ("gitlab-ci", TEMPLATE / ".gitlab-ci.yml")], ids=lambda value: Path(value).name)
def test_workflows_keep_to_their_schema(kind: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{kind}", str(path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["verify.yml", "grade.yml"])
def test_only_the_step_that_grades_can_read_the_seed(name: str) -> None:
    workflow = yaml.safe_load((FOLLOWED / name).read_text())
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert "ETUDE_SEED" not in str(job.get("env"))
    assert not any("${{" in step.get("run", "") for step in job["steps"])
    readers = [step["name"] for step in job["steps"] if "secrets.ETUDE_SEED" in str(step)]
    assert readers == (["Grade"] if name == "grade.yml" else [])


STEPS = {
    "verify.yml": {"Is what students get up to date?": 0, "Verify": 0},
    "grade.yml": {"Is the sandbox enforced?": 0, "Grade": 0, "Summary": 0},
}


@pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter: graded runs are refused here")
@pytest.mark.parametrize("name", STEPS)
def test_the_workflows_steps_run_as_they_stand(course: Path, run: Callable, name: str) -> None:
    assert run("build")[0] == 0
    hand_in(course, "ada", RIGHT)
    (course / ".venv").symlink_to(sys.prefix)
    (course / "class/ada").rename(course / "class/assignments")
    (course / "class").rename(course / "submission")
    (job,) = yaml.safe_load((course / ".github/workflows" / name).read_text())["jobs"].values()
    codes = {}
    for step in job["steps"]:
        if "run" in step and step["name"] != "Install":  # the environment is there
            environment = {"PATH": os.environ["PATH"], "HOME": str(course.parent), **job.get("env", {}),
                           "GITHUB_STEP_SUMMARY": str(course.parent / "summary.md"),
                           "ETUDE_SEED": "a secret", "STUDENT": "ada", "UNIT": "warm_up"}
            done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=course, env=environment,
                                  capture_output=True, text=True)
            codes[step["name"]] = done.returncode
            assert "a secret" not in done.stdout + done.stderr
    assert codes == STEPS[name]
    if name == "grade.yml":
        assert "10 / 10" in (course.parent / "summary.md").read_text()
        assert {path.suffix for path in (course / "results/ada").iterdir()} == {".html", ".json", ".md", ".xml"}


# ---------------------------------------------------------------------------------------------- an exercise

def test_a_new_exercise_says_what_it_lacks(course: Path, run: Callable) -> None:
    before = {path: path.read_text() for path in course.rglob("warm_up*.py")}
    code, out, _ = run("new-exercise", "warm_up.twice")
    assert code == 0 and len(re.findall("^wrote ", out, re.MULTILINE)) == 4
    for path, text in before.items():
        lines = iter(path.read_text().splitlines())
        assert all(line in lines for line in text.splitlines()), "what was there is there, in its order"
    assert run("build")[0] == 0
    code, _, err = run("verify", "warm_up.twice")
    assert code == 3 and "the reference itself fails test_twice_is_pure" in err and "the TODO is still there" in err

    source = course / "solutions/warm_up/warm_up.py"
    todo = re.compile(r'raise NotImplementedError\("TODO.*"\)')
    source.write_text(todo.sub("return 2 * x", source.read_text()))
    assert run("build")[0] == 0
    code, out, _ = run("verify", "warm_up.twice")
    said = " ".join(out.split())
    assert code == 1
    assert "no mistake fails test_twice_is_pure: nothing shows that this check can fail" in said
    assert "no mistake fails test_twice_values_and_gradients" in said
    assert "no alternative: nothing shows that right code written otherwise is accepted" in said

    variants = course / "solutions/warm_up/warm_up_variants.py"
    variants.write_text(variants.read_text() + '''
@mistake("twice", "in_place", "the input is doubled in place", hint="`x *= 2` writes to the input.")
def twice(x):
    x *= 2
    return x


@mistake("twice", "thrice", "the factor is 3", hint="Two.")
def twice(x):
    return 3 * x


@alternative("twice", "sum")
def twice(x):
    return x + x
''')
    assert run("build")[0] == 0
    code, out, _ = run("verify", "warm_up.twice")
    assert code == 0, out


def test_a_new_unit_gets_its_files(course: Path, run: Callable) -> None:
    assert run("new-exercise", "second.thrice")[0] == 0
    unit = load_course(course / "course.yml").unit("second")
    assert list(unit.exercises) == ["thrice"] and unit.notebook == "second"
    assert run("build", "second")[0] == 0
    code, _, err = run("verify", "second")
    assert code == 3 and "test_thrice_is_pure" in err


@pytest.mark.parametrize("name, message", [
    ("warm_up.tempered_softmax", "unit warm_up has an exercise tempered_softmax already"),
    ("warm_up", "warm_up: expected UNIT.EXERCISE"),
    ("warm_up.two-fold", "expected an id of letters, digits and _"),
    ("warm_up.lambda", "'lambda': a keyword of Python"),
    ("../x.y", "expected"),
    ("warm_up.helper", "has a function helper already"),
])
def test_a_name_that_cannot_be_used_changes_nothing(course: Path, run: Callable, name: str, message: str) -> None:
    source = course / "solutions/warm_up/warm_up.py"
    source.write_text(source.read_text() + "\n# %%\ndef helper():\n    pass\n")
    before = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    code, _, err = run("new-exercise", name)
    assert code == 2 and message in err and len(err.splitlines()) == 1
    assert {path: path.read_bytes() for path in course.rglob("*") if path.is_file()} == before


LAYOUTS = {
    "what follows": "units:\n  a:\n    title: A\n    notebook: a\n    exercises:\n      e:\n        title: E\n        "
                    "points: 1\n        minutes: 1\n        difficulty: 1\n\n# the end\nlimits:\n  memory_mb: 100\n",
    "what comes after the exercises": "units:\n    a:\n        exercises:\n            e: {title: E, points: 1, "
                                      "minutes: 1,\n                difficulty: 1}   # easy\n        title: A\n"
                                      "        notebook: a\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_entries_are_added_where_they_belong(layout: str) -> None:
    text = "schema: 1\ntitle: T\n" + LAYOUTS[layout]
    added = with_exercise(with_exercise(text, Path("c.yml"), "a", "f"), Path("c.yml"), "b", "g")
    course = parse_course(added.encode(), "c.yml", Path())
    assert {unit: list(course.units[unit].exercises) for unit in course.units} == {"a": ["e", "f"], "b": ["g"]}
    lines = iter(added.splitlines())
    assert all(line in lines for line in text.splitlines())


def test_braces_are_not_written_into() -> None:
    text = "schema: 1\ntitle: T\nunits:\n  a:\n    exercises: {e: {title: E, points: 1, minutes: 1, difficulty: 1}}\n"
    with pytest.raises(UsageError, match=r"c.yml:5: units.a.exercises stands in braces"):
        with_exercise(text, Path("c.yml"), "a", "f")
