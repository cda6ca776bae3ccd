"""The guides say what is: links resolve, commands and options exist, tables agree with the code."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from guides import GUIDES, ROOT, anchors, blocks, code, links, table_rows, text_of

from autograder.cli import app
from autograder.course import Course, Exercise, Late, Limits, Policy, SpeedThresholds, Unit, load_course
from autograder.report.model import (
    CheckResult,
    Counterexample,
    Diagnosis,
    Difference,
    ExerciseResult,
    Report,
    SpeedFigures,
)
from autograder.variants import load_variants

COMMANDS = typer.main.get_command(app).commands
COURSE = load_course(ROOT / "course.yml")
MACHINES = re.compile(r"/(?:root|home|Users|work|mnt)/|localhost|\b\d+\.\d+\.\d+\.\d+\b")


def each_guide(test):
    return pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)(test)


@each_guide
def test_every_link_leads_somewhere(guide: Path):
    broken = []
    for target in links(guide.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        file = (guide.parent / name).resolve() if name else guide
        if not file.exists():
            broken.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            broken.append(f"{target}: no such heading")
    assert broken == []


@each_guide
def test_every_command_and_option_exists(guide: Path):
    wrong = []
    for line in code(guide.read_text(encoding="utf-8")):
        for name, rest in re.findall(r"(?:^|[\s/$])autograder ([a-z][a-z-]*)([^|&;>`]*)", line):
            command = COMMANDS.get(name)
            if (inner := getattr(command, "commands", None)) is not None:  # `autograder export KIND`
                kind, _, rest = rest.strip().partition(" ")
                if not kind:  # the group as such
                    continue
                name, command = f"{name} {kind}", inner.get(kind)
            if command is None:
                wrong.append(f"autograder {name}")
                continue
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            wrong += [f"autograder {name} {option}" for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", rest)
                      if option not in known]
    assert wrong == []


@each_guide
def test_every_make_target_exists(guide: Path):
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    lines = code(guide.read_text(encoding="utf-8"))
    assert {name for line in lines for name in re.findall(r"^\s*make ([a-z]+)", line)} - targets == set()


@each_guide
def test_no_guide_names_a_machine(guide: Path):
    assert MACHINES.findall(guide.read_text(encoding="utf-8")) == []


def test_every_folder_is_on_the_map():
    architecture = text_of("docs/architecture.md")
    folders = [path.parent.name for path in (ROOT / "autograder").glob("*/__init__.py")]
    assert [name for name in folders if f"{name}/" not in architecture] == []


def test_the_instructors_guide_lists_every_key_of_course_yml():
    listed = {row[0].strip("`").rpartition(".")[2] for row in table_rows(text_of("docs/instructors.md"), "key")}
    fields = [field.alias or name for model in (Course, Unit, Exercise, SpeedThresholds, Limits, Policy, Late)
              for name, field in model.model_fields.items()]
    assert set(fields) - listed == {"limits", "policy", "late", "speed"}
    assert listed - set(fields) == set()


@pytest.mark.parametrize("model", [
    Report, ExerciseResult, CheckResult, SpeedFigures, Counterexample, Difference, Diagnosis])
def test_the_report_guide_lists_every_field(model):
    first_cells = re.findall(r"^\| (`[^|]+) \|", text_of("docs/report.md"), re.MULTILINE)
    listed = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    fields = {field.alias or name for name, field in model.model_fields.items()}
    assert fields - listed == set()


def test_the_report_guides_example_is_a_report():
    (example,) = blocks(text_of("docs/report.md"), "json")
    report = Report.from_json(example)
    assert report.exercises[0].checks[0].diagnosis.id == "one_too_wide"


def test_the_readme_counts_the_courses_variants():
    kinds = [variant.kind for unit in COURSE.units.values() for variant in load_variants(unit.variants_path)]
    mistakes, alternatives = kinds.count("mistake"), kinds.count("alternative")
    assert (f"{mistakes} of {mistakes} mistakes, {alternatives} of {alternatives} alternatives"
            in text_of("README.md").replace("\n  ", " "))


def test_the_curriculum_and_the_readme_list_the_units():
    command = [sys.executable, "tests/make_curriculum.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
