"""Where a layer is missing, the label says what holds, official grading refuses, and every report remembers."""
from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import cache
from pathlib import Path

import pytest

from autograder.cli import main
from autograder.report.model import Report
from autograder.sandbox import client, landlock, seccomp
from autograder.sandbox.client import ALL_LAYERS, Zygote

from .ring import ROOT

COURSE = ROOT / "tests" / "attacks" / "course" / "course.yml"
Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter on this system to take away")


@pytest.fixture(scope="module")
def machines() -> Iterator[Callable[[frozenset[str]], Zygote]]:
    """A zygote as it comes up on a machine without some layers; each such machine is started once."""
    with ExitStack() as stack:
        yield cache(lambda without: stack.enter_context(Zygote(layers=ALL_LAYERS - without)))


@pytest.fixture
def command(machines: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Command:
    """Run the command line on a machine without some layers: (exit code, standard output, standard error)."""
    def run(*arguments: str, without: frozenset[str]) -> tuple[int, str, str]:
        monkeypatch.setattr(client, "Zygote", lambda preload=(), serve="": nullcontext(machines(without)))
        monkeypatch.setattr("sys.argv", ["autograder", *arguments, "--course", str(COURSE)])
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return int(end.value.code or 0), output.out, output.err
    return run


@pytest.fixture
def submission(tmp_path: Path) -> str:
    path = tmp_path / "ada" / "target" / "target.py"
    path.parent.mkdir(parents=True)
    path.write_text('# %% exercise="double"\ndef f(x): return 2 * x + 1\n')
    return str(path)


def report_in(folder: Path) -> Report:
    return Report.from_json((folder / "ada" / "target.json").read_bytes())


@pytest.mark.parametrize("without", [{"seccomp"}, ALL_LAYERS], ids=["the filter", "any layer"])
def test_without_the_filter_official_grading_refuses_and_says_what_to_do(
        command: Command, submission: str, tmp_path: Path, without: frozenset[str]):
    code, out, err = command("grade", submission, "--out", str(tmp_path / "out"), without=frozenset(without))
    assert code == 3
    assert len(err.strip().splitlines()) == 1 and "ADVISORY" in err
    assert "autograder doctor" in err and "--unsandboxed" in err
    assert not (tmp_path / "out" / "ada").exists()


def test_who_insists_gets_reports_that_say_so(command: Command, submission: str, tmp_path: Path):
    code, out, _ = command("grade", submission, "--out", str(tmp_path / "out"), "--unsandboxed", "--format", "text",
                           without=frozenset({"seccomp"}))
    report = report_in(tmp_path / "out")
    assert code == 0 and report.score == report.max_score
    assert report.sandbox == "ADVISORY" and report.provenance["unsandboxed"] is True
    assert "seccomp" not in report.provenance["sandbox_layers"]
    assert "advisory" in out.lower()


def test_where_all_holds_insisting_is_remembered_too(command: Command, submission: str, tmp_path: Path):
    code, _, _ = command("grade", submission, "--out", str(tmp_path / "out"), "--unsandboxed", without=frozenset())
    report = report_in(tmp_path / "out")
    assert (code, report.sandbox, report.provenance["unsandboxed"]) == (0, "ENFORCED", True)


def test_without_landlock_the_filter_alone_enforces_and_the_report_names_the_layers(
        command: Command, submission: str, tmp_path: Path):
    """The column `limits+seccomp` of docs/attacks.md is why: no attack reaches its aim there."""
    code, _, _ = command("grade", submission, "--out", str(tmp_path / "out"), without=frozenset({"landlock"}))
    report = report_in(tmp_path / "out")
    assert (code, report.sandbox, report.provenance["unsandboxed"]) == (0, "ENFORCED", False)
    assert sorted(report.provenance["sandbox_layers"]) == ["rlimits", "seccomp"]


def test_doctor_tells_what_was_tried_and_ends_with_3_where_grading_is_refused(command: Command):
    code, out, _ = command("doctor", without=frozenset({"seccomp"}))
    assert code == 3
    assert "ADVISORY" in out and "SUCCEEDED" in out and "--unsandboxed" in out
    code, out, _ = command("doctor", without=frozenset())
    assert code == 0
    assert "ENFORCED" in out and "SUCCEEDED" not in out
    for attempt in ("open", "socket", "fork", "kill", "exec"):
        assert attempt in out
    assert "landlock" in out or not landlock.abi()


def test_a_compiler_that_compiles_nothing_leaves_no_folder_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Row c19: the first optimizer makes a cache folder; as root it once did in the root of the file system."""
    nowhere = tmp_path / "nowhere"
    monkeypatch.setitem(client.ENVIRONMENT, "TORCHINDUCTOR_CACHE_DIR", str(nowhere))
    with Zygote(preload=["torch.optim"]):
        assert not nowhere.exists()


# ---------------------------------------------------------------------------------------------- kernels that lack it

def on_a_kernel_without(names: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tests.attacks.lesser_kernel", names, *arguments, "--course",
                           str(COURSE)], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_kernel_without_filters_is_refused(submission: str, tmp_path: Path):
    ended = on_a_kernel_without("seccomp", "grade", submission, "--out", str(tmp_path / "out"))
    assert ended.returncode == 3 and "ADVISORY" in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "out" / "ada").exists()


def test_a_kernel_without_landlock_and_user_namespaces_enforces(submission: str, tmp_path: Path):
    """The seal asks for no namespace: it holds in pods and under AppArmor, which refuse them."""
    ended = on_a_kernel_without("landlock,namespaces", "grade", submission, "--out", str(tmp_path / "out"))
    report = report_in(tmp_path / "out")
    assert ended.returncode == 0 and ended.stdout.startswith("namespaces: EPERM\n"), ended.stderr
    assert (report.sandbox, report.score) == ("ENFORCED", report.max_score)
    assert sorted(report.provenance["sandbox_layers"]) == ["rlimits", "seccomp"]
