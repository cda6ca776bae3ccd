"""`autograder export gradescope`: the zip's two scripts in a tree like Gradescope's, as an unprivileged user.

What Gradescope's setup.sh installs with pip is simulated: the bundled package is installed, and what it depends on, and
nothing else, is linked from the environment that these tests run in.
"""
from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from autograder.cli import app
from autograder.course import Course, load_course
from autograder.errors import UsageError
from autograder.exports import gradescope, gradescope_run
from autograder.grading.grade import depends_on
from autograder.sandbox import seccomp
from autograder.solution.material import Material

ENFORCED = pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter: graded runs are refused here")
Fill = Callable[..., dict[str, Any]]
SEED = "a seed that only staff know"
NOBODY = 65534


@pytest.fixture(scope="module")
def bundle(course: Course, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gradescope") / "tiny.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETUDE_SEED", SEED)
        done = CliRunner().invoke(app, ["export", "gradescope", "tiny", "--to", str(path), "--course",
                                        str(course.root / "course.yml")])
        assert done.exit_code == 0 and "the seed of ETUDE_SEED" in done.output, done.output
    return path


def unpacked(bundle: Path, home: Path) -> Path:
    """As Gradescope unpacks it: files keep their modes, and run_autograder moves up."""
    source = home / "source"
    with zipfile.ZipFile(bundle) as archive:
        for entry in archive.infolist():
            (source / archive.extract(entry, source)).chmod(stat.S_IMODE(entry.external_attr >> 16))
    shutil.copy(source / "run_autograder", home)
    (home / "submission").mkdir()
    return home


# ---------------------------------------------------------------------------------------------- what is in it

def test_it_has_the_grader_and_one_unit_and_nothing_else_of_the_course(bundle: Path, course: Course) -> None:
    with zipfile.ZipFile(bundle) as archive:
        modes = {entry.filename: stat.S_IMODE(entry.external_attr >> 16) for entry in archive.infolist()}
        text = {name: archive.read(name).decode() for name in modes}
    top = {name for name in modes if not name.startswith(("package/", "course/"))}
    assert top == {"run_autograder", "setup.sh", "constraints.txt", "seed.txt", "crashed.json"}
    own = {name for name in modes if name.startswith("course/")}
    assert own == {"course/course.yml", *(f"course/solutions/tiny/tiny{end}" for end in
                                          (".py", "_checks.py", "_variants.py"))}
    assert not [name for name in modes if "test_" in name or "__pycache__" in name or "solutions/other" in name]
    assert "package/autograder/grading/grade.py" in modes and "package/etude/engine.py" in modes
    assert "Another unit" not in "".join(text[name] for name in own)
    assert text["seed.txt"] == SEED and [name for name in text if SEED in text[name]] == ["seed.txt"]
    assert modes["seed.txt"] == 0o400 and modes["run_autograder"] == modes["setup.sh"] == 0o755
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert not [name for name in text if str(course.root) in text[name]]


def test_the_unit_alone_gives_the_grade_that_the_course_gives(bundle: Path, course: Course, tmp_path: Path) -> None:
    alone = load_course(unpacked(bundle, tmp_path) / "source" / "course" / "course.yml")
    assert list(alone.units) == ["tiny"] and len(course.units) == 2
    parts = [depends_on(Material(one, one.units["tiny"])) for one in (course, alone)]
    assert parts[0] == parts[1]
    (alone.units["tiny"].checks_path).write_text("")
    assert depends_on(Material(load_course(alone.root / "course.yml"), alone.units["tiny"])) != parts[0]


def test_a_course_without_a_seed_gets_one(course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETUDE_SEED", raising=False)
    seeds = set()
    for number in range(2):
        assert gradescope.export_gradescope(course, "tiny", tmp_path / f"{number}.zip") is True
        with zipfile.ZipFile(tmp_path / f"{number}.zip") as archive:
            seeds.add(archive.read("seed.txt"))
    assert len(seeds) == 2 and min(map(len, seeds)) >= 40
    monkeypatch.setenv("ETUDE_SEED", " ")
    with pytest.raises(UsageError, match="set, but empty"):
        gradescope.export_gradescope(course, "tiny", tmp_path / "empty.zip")


def test_what_cannot_be_exported_is_refused(course: Course, bundle: Path, tmp_path: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(UsageError, match="there already"):
        gradescope.export_gradescope(course, "tiny", bundle)
    assert bundle.read_bytes() == before
    with pytest.raises(UsageError, match=r"other_checks\.py: no such file"):
        gradescope.export_gradescope(course, "other", tmp_path / "new.zip")
    assert not (tmp_path / "new.zip").exists()


def test_only_who_asks_for_it_gets_an_unsandboxed_grader(course: Course, bundle: Path, tmp_path: Path) -> None:
    gradescope.export_gradescope(course, "tiny", tmp_path / "new.zip", unsandboxed=True)
    scripts = []
    for path in (bundle, tmp_path / "new.zip"):
        with zipfile.ZipFile(path) as archive:
            scripts.append(archive.read("run_autograder").decode())
    assert [gradescope_run.UNSANDBOXED in script for script in scripts] == [False, True]


# ---------------------------------------------------------------------------------------------- the scripts

def stubs(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment in which these commands are scripts that note how they were called."""
    folder.mkdir()
    for name, text in scripts.items():
        path = folder / name.replace("_", "-").replace("python3", "python3.13")
        path.write_text(f"#!/bin/bash\necho {path.name} \"$@\" >> {folder}/calls\n{text}\n")
        path.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


VENV = 'if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi'


def test_setup_installs_with_constraints_and_locks_the_secrets(bundle: Path, tmp_path: Path) -> None:
    source = unpacked(bundle, tmp_path) / "source"
    environment = stubs(tmp_path / "bin", python3=VENV, id='[ "$1" = -u ] && echo 0', useradd="", chown="")
    for path in source.rglob("*"):  # as an unpacker that knows no modes leaves them
        path.chmod(0o755)
    subprocess.run(["bash", str(source / "setup.sh")], env=environment, check=True, capture_output=True, cwd="/")
    calls = (tmp_path / "bin" / "calls").read_text()
    assert f"-m venv {source}/venv" in calls
    assert f"-m pip install --no-cache-dir --constraint {source}/constraints.txt {source}/package" in calls
    assert f"chown -R etude-grader: {source}/course {source}/seed.txt" in calls
    assert stat.S_IMODE((source / "seed.txt").stat().st_mode) == 0o400
    others = [path for path in (source / "course", *(source / "course").rglob("*")) if path.stat().st_mode & 0o077]
    assert others == []


def test_root_does_not_run_the_grader_itself(bundle: Path, tmp_path: Path) -> None:
    home = unpacked(bundle, tmp_path)
    environment = stubs(tmp_path / "bin", id="echo 0", chown="", setpriv="")
    subprocess.run([str(home / "run_autograder")], env=environment, check=True, cwd="/")
    calls = (tmp_path / "bin" / "calls").read_text()
    assert "setpriv --reuid=etude-grader --regid=etude-grader --clear-groups --inh-caps=-all " \
           f"{home}/source/venv/bin/python -P -s -m autograder.exports.gradescope_run {home}" in calls
    assert calls.index(f"chown -R etude-grader: {home}/results") < calls.index("setpriv")


# ---------------------------------------------------------------------------------------------- graded for real

class Tree:
    """A tree like /autograder, and run_autograder in it, as nobody where the tests run as root."""

    def __init__(self, home: Path):
        self.home, self.log = home, ""

    def grade(self, **files: bytes) -> dict[str, Any]:
        for path in (self.home / "submission").iterdir():
            path.unlink()
        for name, data in files.items():
            (self.home / "submission" / name.replace("_ipynb", ".ipynb")).write_bytes(data)
        shutil.rmtree(self.home / "results", ignore_errors=True)
        (self.home / "results").mkdir(mode=0o700)
        if os.geteuid() == 0:
            for path in (self.home / "results", self.home / "source" / "seed.txt", self.home / "source" / "course",
                         *(self.home / "source" / "course").rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        done = subprocess.run(unprivileged([str(self.home / "run_autograder")]), capture_output=True, text=True,
                              timeout=300, cwd="/", env={"PATH": os.environ["PATH"]})
        self.log, self.code = done.stdout + done.stderr, done.returncode
        return json.loads((self.home / "results" / "results.json").read_text(encoding="utf-8"))


def unprivileged(command: list[str]) -> list[str]:
    """The command for another user, if these tests run as root; to them it may show this interpreter alone."""
    if os.geteuid() != 0:
        return command
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    python = Path(sys.base_prefix).resolve()
    closed = [folder for folder in python.parents if not folder.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return [*drop, *command]
    # Mounted for this command alone, which sees an empty folder there and the interpreter in it.
    script = (f"mount --bind {python} /mnt && mount -t tmpfs -o mode=755 tmpfs {closed[-1]} && mkdir -p {python} && "
              f'mount --bind /mnt {python} && exec "$@"')
    return ["unshare", "--mount", "bash", "-c", script, "-", *drop, *command]


def link_requirements(site: Path) -> None:
    """The distributions that pip would install beside the bundled package."""
    waiting, seen = list(gradescope.GRADING), set()
    while waiting:
        name = waiting.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform
        if found.name in seen:
            continue
        seen.add(found.name)
        waiting += [one.name for one in map(Requirement, found.requires or [])
                    if one.marker is None or one.marker.evaluate({"extra": ""})]
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
    assert "torch" in seen and not seen & {"nbgrader", "jupyterlab", "otter-grader"}


@pytest.fixture(scope="module")
def tree(bundle: Path) -> Iterator[Tree]:
    """Unpacked, with an environment of its own: the bundled package, not the one under test."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders can be entered by their owner only
    folder.chmod(0o755)
    home = unpacked(bundle, folder / "autograder")
    venv = home / "source" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(venv)], check=True)
    site = next((venv / "lib").glob("python*")) / "site-packages"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
                    "--no-compile", "--target", str(site), str(home / "source" / "package")],
                   check=True, capture_output=True)
    link_requirements(site)
    probe = subprocess.run(unprivileged([str(venv / "bin" / "python"), "-P", "-c",
                                         "import autograder; print(autograder.__file__)"]),
                           capture_output=True, text=True, cwd="/")
    if probe.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"an unprivileged user cannot use this Python here: {probe.stderr[-200:]}")
    assert probe.stdout.startswith(str(site))
    yield Tree(home)
    shutil.rmtree(folder)


@ENFORCED
def test_a_submission_is_graded_and_never_learns_the_seed(tree: Tree, course: Course, filled: Fill) -> None:
    seed = tree.home / "source" / "seed.txt"
    spy = f"def center(x):\n    raise ValueError(open({str(seed)!r}).read())"
    notebook = filled(course.units["tiny"].assignment_path, center=spy)
    result = tree.grade(upload_ipynb=json.dumps(notebook).encode(), **{"notes.txt": b"ignored"})
    assert (result["score"], [test["score"] for test in result["tests"]]) == (4.0, [1, 3, 0]), tree.log
    assert [test["visibility"] for test in result["tests"]] == ["visible", "after_published", "visible"]
    assert 0 < result["execution_time"] < 300 and "leaderboard" not in result
    assert result["extra_data"] == {"unit": "tiny", "sandbox": "ENFORCED", "max_score": 6.0}
    assert "PermissionError" in result["tests"][2]["output"] and result["tests"][2]["output_format"] == "html"
    assert SEED not in json.dumps(result) + tree.log
    with pytest.raises(ValueError, match=SEED):  # the negative control: outside the sandbox its owner reads it
        scope: dict[str, Any] = {}
        exec(spy, scope)
        scope["center"](None)
    assert seed.stat().st_mode & 0o077 == 0
    assert os.geteuid() != 0 or (tree.home / "results" / "results.json").stat().st_uid == NOBODY


@ENFORCED
def test_what_cannot_be_graded_says_why(tree: Tree) -> None:
    result = tree.grade(upload_ipynb=b"%PDF-1.7")
    assert result["score"] == 0 and result["output"] == "Nothing could be graded:\nupload.ipynb: not a notebook: " \
                                                        "it is a PDF"


def test_a_grader_that_crashes_says_so(tree: Tree, course: Course, filled: Fill) -> None:
    notebook = json.dumps(filled(course.units["tiny"].assignment_path)).encode()
    solution = tree.home / "source" / "course" / "solutions" / "tiny" / "tiny.py"
    good = solution.read_text()
    try:
        solution.write_text(good.replace("return factor * x", "return factor *"))
        result = tree.grade(upload_ipynb=notebook)
    finally:
        solution.write_text(good)
    assert result["score"] == 0 and result["output"] == gradescope_run.CRASHED and result["tests"] == []
    assert "factor" not in json.dumps(result) and "tiny.py" in tree.log and result["stdout_visibility"] == "hidden"


def test_a_grader_that_is_killed_says_so_too(tree: Tree) -> None:
    python = tree.home / "source" / "venv" / "bin" / "python"
    kept = python.rename(python.with_name("kept"))
    try:
        python.write_text("#!/bin/bash\nkill -9 $$\n")
        python.chmod(0o755)
        result = tree.grade()
    finally:
        kept.rename(python)
    assert tree.code != 0 and result["output"] == gradescope_run.CRASHED and result["score"] == 0


def test_without_its_seed_nothing_is_graded(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_SEED", "of somebody else")
    home = unpacked(bundle, tmp_path)
    (home / "source" / "seed.txt").unlink()
    assert gradescope_run.run(home)["output"] == gradescope_run.CRASHED
    assert "seed.txt" in capsys.readouterr().err
