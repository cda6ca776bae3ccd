"""course.yml is read into a typed model, or refused in one line that names the line, the entry and the remedy."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.course import Course, find_course, load_course, parse_course
from autograder.errors import UsageError

ROOT = Path(__file__).parents[1]
GOOD = """\
schema: 1
title: A course
units:
  attention:
    title: Attention
    notebook: attn
    exercises:
      sdpa:  {title: Attention itself, points: 3, minutes: 10, difficulty: 1}
      heads:
        title: Heads
        points: 2.5
        minutes: 10
        difficulty: 2
limits:
  call_seconds: 2
preload: [scipy.linalg]
"""


def _parse(text: str) -> Course:
    return parse_course(text.encode(), "course.yml", Path("/course"))


def test_the_courses_own_file_loads() -> None:
    course = load_course(ROOT / "course.yml")
    assert course.root == ROOT and "attention" in course.units


def test_entries_know_their_ids_and_units_their_files() -> None:
    course = _parse(GOOD)
    unit = course.units["attention"]
    assert (unit.id, [exercise.id for exercise in unit.exercises.values()]) == ("attention", ["sdpa", "heads"])
    assert unit.points == 5.5 and unit.exercises["heads"].points == 2.5
    assert unit.solution_path == Path("/course/solutions/attention/attn.py")
    assert unit.checks_path == Path("/course/solutions/attention/attn_checks.py")
    assert unit.variants_path == Path("/course/solutions/attention/attn_variants.py")
    assert unit.assignment_path == Path("/course/assignments/attention/attn.ipynb")
    assert (course.limits.call_seconds, course.limits.exercise_seconds, course.limits.memory_mb) == (2, 60, 2048)
    assert course.preload == ["scipy.linalg"] and course.unit("attention") is unit


WRONG = {
    # in GOOD, this replaced by that, gives this line
    "points in words": ("points: 3", "points: ten",
                        "8: units.attention.exercises.sdpa.points: expected a positive number, got 'ten'"),
    "no points": ("points: 2.5", "points:", "11: units.attention.exercises.heads.points: expected a positive number, "
                                            "got nothing"),
    "zero": ("points: 2.5", "points: 0", "11: units.attention.exercises.heads.points: expected a positive number, "
                                         "got 0"),
    "true": ("points: 2.5", "points: true", "11: units.attention.exercises.heads.points: expected a positive number, "
                                            "got true"),
    "nan": ("points: 2.5", "points: .nan", "11: units.attention.exercises.heads.points: expected a positive number, "
                                           "got nan"),
    "four stars": ("difficulty: 2", "difficulty: 4",
                   "13: units.attention.exercises.heads.difficulty: expected 1, 2 or 3, got 4"),
    "typing error": ("points: 2.5", "pionts: 2.5", "11: units.attention.exercises.heads.pionts: unknown key; "
                                                   "did you mean 'points'? (and 1 more)"),
    "unknown key": ("call_seconds", "zzz", "15: limits.zzz: unknown key"),
    "unknown top key": ("limits:", "limit:", "14: limit: unknown key; did you mean 'limits'?"),
    "missing": ("    notebook: attn\n", "", "4: units.attention.notebook: missing"),
    "id given": ("        points: 2.5", "        points: 2.5\n        id: x",
                 "12: units.attention.exercises.heads.id: unknown key"),
    "no flag": ("        points: 2.5", "        points: 2.5\n        seed_per_student: 1",
                "12: units.attention.exercises.heads.seed_per_student: expected true or false, got 1"),
    "no flag of a unit": ("    notebook: attn", "    seed_per_student: all\n    notebook: attn",
                          "6: units.attention.seed_per_student: expected true or false, got 'all'"),
    "nearly a flag": ("        points: 2.5", "        points: 2.5\n        seed_per_students: true",
                      "12: units.attention.exercises.heads.seed_per_students: unknown key; did you mean "
                      "'seed_per_student'?"),
    "list for mapping": ("limits:\n  call_seconds: 2", "limits: [1]", "14: limits: expected a mapping, got a list"),
    "text for list": ("[scipy.linalg]", "scipy", "16: preload: expected a list, got 'scipy'"),
    "not a module": ("[scipy.linalg]", "\n  - scipy\n  - a-b", "18: preload[1]: expected the name of a module, got"),
    "bad id": ("sdpa:", "sd-pa:", "8: units.attention.exercises.sd-pa: expected an id of letters, digits and _, but "
                                  "not check_... or setup, got 'sd-pa'"),
    "check id": ("sdpa:", "check_sdpa:", "8: units.attention.exercises.check_sdpa: expected an id"),
    "setup id": ("sdpa:", "setup_2:", "8: units.attention.exercises.setup_2: expected an id"),
    "notebook path": ("notebook: attn", "notebook: ../attn", "6: units.attention.notebook: expected a file name"),
    "date": ("title: A course", "title: 2026-01-01", "2: title: expected a line of text, got a date (put"),
    "no units": (GOOD[GOOD.index("  attention"):GOOD.index("limits")], "  {}\n",
                 "4: units: expected at least one entry"),
    "schema": ("schema: 1", "schema: 2", "1: schema: expected 1, the version that this autograder reads, got 2"),
    "no schema": ("schema: 1\n", "", "1: schema: missing"),
    "duplicate": ("points: 2.5", "title: Again", "11: units.attention.exercises.heads.title: given twice; first on "
                                                 "line 10"),
    "number as key": ("sdpa:", "1:", "8: a key must be text: put 1 in quotes"),
    "list as key": ("title: A course", "? [a]\n: b", "2: a key must be text: not a collection"),
    "alias": ("[scipy.linalg]", "[&a scipy, *a]", "16: aliases are not used here: write out what *a stands for"),
    "tag": ("title: A course", "title: !!python/name:os.system", "2: tags are not used here: remove"),
    "merge": ("title: A course", "<<: {title: x}", "2: cannot read <<: put it in quotes"),
    "bad date": ("title: A course", "title: 2026-99-99", "2: cannot read 2026-99-99: put it in quotes"),
    "not yaml": ("[scipy.linalg]", "[scipy", "17: not YAML: "),
    "tab": ("  call_seconds", "\tcall_seconds", "15: not YAML: "),
    "two documents": ("limits:", "---\nlimits:", "14: not YAML: expected a single document"),
    "control character": ("A course", "A\x07", "2: not YAML: "),
    "deep": ("[scipy.linalg]", "[" * 3000, "16: nested more than 20 levels deep"),
    "long value": ("A course", "x" * 20_000, "2: a value is 20,000 characters long; at most 10,000 are read"),
    "key of two lines": ("limits:", '"a\\nb\\e[31m":', "14: a\\nb\\x1b[31m: unknown key"),
    "list at top": (GOOD, "- 1", "1: expected a mapping at the top, got a list"),
    "text at top": (GOOD, "hello", "1: expected a mapping at the top, got 'hello'"),
}


@pytest.mark.parametrize("before, after, line", WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_one_line_with_its_place(before: str, after: str, line: str) -> None:
    assert before in GOOD
    with pytest.raises(UsageError) as caught:
        _parse(GOOD.replace(before, after, 1))
    assert str(caught.value).startswith(f"course.yml:{line}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("data, message", [
    (b"", "the file is empty"), (b"# only a comment\n", "the file is empty"),
    (b"schema: 1\ntitle: caf\xe9\n", "not UTF-8: byte 0xe9"), (b" " * ((1 << 20) + 1), "larger than 1 MiB"),
])
def test_bytes_that_are_no_course_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "course.yml"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        load_course(path)
    assert str(caught.value).startswith(f"{path}:") and message in str(caught.value)


def test_a_bomb_of_aliases_is_refused_before_it_expands() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    with pytest.raises(UsageError, match="course.yml:2: aliases are not used here"):
        _parse("a0: &a0 [x]\n" + levels)


@pytest.mark.parametrize("name", ["gone.yml", "", "a\0b"])
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read: "):
        load_course(tmp_path / name)


def test_the_course_is_found_from_any_folder_below(tmp_path: Path) -> None:
    (tmp_path / "course.yml").write_text(GOOD)
    deep = tmp_path / "solutions" / "attention"
    deep.mkdir(parents=True)
    assert find_course(deep) == find_course(tmp_path) == (tmp_path / "course.yml").resolve()
    with pytest.raises(UsageError, match="no course.yml in .* or any folder above it"):
        find_course(Path("/"))


def test_an_unknown_unit_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown unit 'atention'; did you mean 'attention'?"):
        _parse(GOOD).unit("atention")
    with pytest.raises(UsageError, match="unknown unit 'zzz'; the course has attention"):
        _parse(GOOD).unit("zzz")


@pytest.mark.parametrize("named, fault", [
    ("atention", "the course has no unit 'atention'"),
    ("attention", "a unit is not its own prerequisite"),
])
def test_prerequisites_are_other_units_of_the_course(named: str, fault: str) -> None:
    wrong = GOOD.replace("    notebook: attn\n", f"    notebook: attn\n    prerequisites:\n    - {named}\n", 1)
    line = wrong.splitlines().index(f"    - {named}") + 1
    with pytest.raises(UsageError) as error:
        _parse(wrong)
    assert f":{line}: units.attention.prerequisites" in str(error.value) and fault in str(error.value)


def test_the_schema_for_editors_names_every_key() -> None:
    schema = Course.json_schema()
    assert set(schema["properties"]) == {"schema", "title", "units", "limits", "policy", "preload"}
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]["Exercise"]["properties"]) == {"title", "points", "minutes", "difficulty", "forbid",
                                                              "speed", "seed_per_student"}
    assert set(schema["$defs"]["Unit"]["properties"]) == {"title", "notebook", "exercises", "prerequisites", "triton",
                                                          "verify_seconds", "seed_per_student"}
    json.dumps(schema)


def test_reading_courses_and_submissions_needs_no_torch() -> None:
    assert not _imported_by("autograder.course", "autograder.submission") & {"torch", "numpy", "nbformat", "jupytext"}
    assert not _imported_by("autograder.submission") & {"pydantic", "yaml"}


def _imported_by(*modules: str) -> set[str]:
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


# ---------------------------------------------------------------------------------------------- fuzz

_KEYS = st.sampled_from("schema title units limits preload attention exercises notebook points call_seconds".split())
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | st.text(max_size=5) | st.integers(), inner,
                                                                 max_size=4), max_leaves=10)


def _loads_or_says_why(data: bytes) -> None:
    try:
        parse_course(data, "course.yml", Path("/course"))
    except UsageError as error:
        assert str(error).startswith("course.yml:") and str(error).isprintable()


@settings(max_examples=200, deadline=None, database=None)
@given(st.dictionaries(_KEYS, _VALUES) | _VALUES)
def test_any_yaml_is_read_or_refused_in_one_line(value: object) -> None:
    _loads_or_says_why(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace"))


@settings(max_examples=300, deadline=None, database=None)
@given(st.binary(max_size=40) | st.text(alphabet="{}[]:,&*!|>-?%@'\"# \n\tab1.0x_", max_size=40).map(str.encode),
       st.integers(0, len(GOOD)), st.integers(0, 40))
def test_any_bytes_are_read_or_refused_in_one_line(noise: bytes, position: int, removed: int) -> None:
    _loads_or_says_why(noise)
    _loads_or_says_why(GOOD.encode()[:position] + noise + GOOD.encode()[position + removed:])


def test_a_speed_threshold_out_of_order_is_found_by_its_line(tmp_path) -> None:
    file = tmp_path / "course.yml"
    file.write_text("schema: 1\ntitle: t\nunits:\n  k:\n    title: K\n    notebook: k\n    triton: true\n"
                    "    exercises:\n"
                    "      a:\n        {title: A, points: 1, minutes: 1, difficulty: 1,\n"
                    "         speed: {h200: {full: 3, zero: 2, ceiling: 0.5}}}\n")
    with pytest.raises(UsageError, match=r"course\.yml:11: .*speed\.h200: expected zero to be larger than full"):
        load_course(file)
    file.write_text(file.read_text().replace("zero: 2", "zero: 9, cieling: 1"))
    with pytest.raises(UsageError, match="cieling: unknown key; did you mean 'ceiling'"):
        load_course(file)
