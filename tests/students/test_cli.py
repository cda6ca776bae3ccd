"""`etude check` from a terminal: exit codes, one-line errors, limits, JSON."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etude import cli

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "sample_class"


@pytest.fixture
def hand_in(tmp_path, monkeypatch):
    """`hand_in("ben")`: the path of that student's notebook, with the released files beside it."""
    monkeypatch.setattr(cli, "_limit_memory", lambda megabytes: None)  # it would stay with the tests' process

    def lay_out(name):
        for path in (ROOT / "assignments" / "attention").glob("attention_*"):
            shutil.copy(path, tmp_path)
        return Path(shutil.copy(SAMPLES / name / "attention" / "attention.ipynb", tmp_path))
    return lay_out


def test_a_right_notebook_ends_with_zero(hand_in, capsys):
    assert cli.main(["check", str(hand_in("ada")), "grouped_heads", "sparsemax"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("✓ Splitting and grouping heads (grouped_heads)") and "hint(" not in out


def test_a_known_mistake_ends_with_one_and_its_name(hand_in, capsys):
    assert cli.main(["check", str(hand_in("ben")), "sliding_window_attention"]) == 1
    assert "This is what you get when" in capsys.readouterr().out


def test_a_syntax_error_costs_its_exercise_and_is_told(hand_in, capsys):
    assert cli.main(["check", str(hand_in("eva")), "grouped_heads", "sparsemax"]) == 1
    out = capsys.readouterr().out
    assert "(grouped_heads), line 11: SyntaxError: expected ':'" in out and "✓ Sparsemax" in out


def test_cells_that_do_not_end_cost_themselves_alone(hand_in, capsys):
    path = hand_in("ada")
    facts = path.with_name("attention_etude.json")
    value = json.loads(facts.read_text())
    value["limits"]["exercise_seconds"] = 5
    facts.write_text(json.dumps(value))
    notebook = json.loads(path.read_text())
    ids = [one["metadata"].get("nbgrader", {}).get("grade_id") for one in notebook["cells"]]
    notebook["cells"][ids.index("sdpa_masked")]["source"] = ["while True:\n", "    pass\n"]
    path.write_text(json.dumps(notebook))
    assert cli.main(["check", str(path), "sdpa_masked", "grouped_heads"]) == 1
    out = capsys.readouterr().out
    assert "it did not end, and was interrupted" in out and "✓ Splitting" in out


def test_what_was_found_as_json(hand_in, capsys):
    assert cli.main(["check", "--json", str(hand_in("dan")), "sparsemax"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0] | {"text": "", "html": ""} == {
        "exercise": "sparsemax", "title": "Sparsemax", "state": "not started: the TODO is still there", "held": 0,
        "of": 5, "passed": False, "text": "", "html": ""}


BAD = {
    "no such file": (None, "no such file"),
    "no JSON": ("{", "not a notebook"),
    "no cells": ("{}", "no list of cells"),
    "a list": ("[]", "no list of cells"),
    "nesting": ("[" * 100_000, "not a notebook"),
    "not UTF-8": (b"\xff", "not a notebook"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_notebook_is_one_line_and_ends_with_two(name, tmp_path, capsys):
    content, message = BAD[name]
    path = tmp_path / "attention.ipynb"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert cli.main(["check", str(path)]) == 2
    err = capsys.readouterr().err
    assert message in err and str(path) in err and err.count("\n") == 1


def test_a_notebook_without_its_checks_and_an_unknown_exercise_end_with_two(hand_in, tmp_path, capsys):
    path = hand_in("ada")
    assert cli.main(["check", str(path), "sdpa"]) == 2
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(path, alone)
    assert cli.main(["check", str(alone / path.name)]) == 2
    err = capsys.readouterr().err
    assert "No exercise is called sdpa" in err and "keep the files that came with the notebook next to it" in err


@pytest.mark.parametrize("arguments", [[], ["check"], ["grade", "x"], ["check", "x", "--yaml"]])
def test_wrong_usage_ends_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2 and "usage: etude" in capsys.readouterr().err


def test_help_needs_neither_torch_nor_pytest():
    code = ("import sys\nfrom etude.cli import main\n"
            "try:\n    main(['check', '--help'])\nexcept SystemExit:\n    pass\n"
            "print(sorted({'torch', 'pytest', 'hypothesis', 'numpy', 'IPython'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "NOTEBOOK" in done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory limit is Linux'")
def test_what_asks_for_too_much_memory_gets_an_error_and_not_the_machine(hand_in):
    done = subprocess.run([sys.executable, "-m", "etude.cli", "check", str(hand_in("hana")), "additive_attention"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "Your code ran out of memory" in done.stdout
