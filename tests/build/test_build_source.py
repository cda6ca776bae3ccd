"""Reading the percent script: what the cells are, and one line for every rule that a script may break."""
from __future__ import annotations

import subprocess
import sys

import pytest

from autograder.errors import UsageError
from autograder.solution.percent import read_blocks
from autograder.solution.source import read_source, reference_cells, setup_sources


def test_cells_have_their_kinds_in_order(tiny):
    cells = read_source(tiny.unit.solution_path, tiny.unit.exercises)
    kinds = [(cell.kind, cell.exercise) for cell in cells]
    assert kinds == [("markdown", None), ("setup", None), ("exercise", "double"), ("given", None), ("markdown", None),
                     ("setup", None), ("exercise", "mean"), ("given", None)]


def test_a_cell_knows_its_lines(tiny):
    lines = tiny.path("solution").read_text().split("\n")
    for cell in read_source(tiny.unit.solution_path):
        assert lines[cell.line - 1].startswith("# %%")
        if cell.kind != "markdown":
            assert lines[cell.first_line - 1] == cell.source.split("\n")[0]


def test_comments_that_look_like_commands_stay_comments(tiny):
    assert "# more than a comment, but no command" in setup_sources(tiny.unit.solution_path)[0]


def test_setup_sources_are_the_setup_cells(tiny):
    first, second = setup_sources(tiny.unit.solution_path)
    assert first.startswith("import torch\n") and first.endswith("from etude import check")
    assert second == "SIZE = 3"


def test_reference_cells_run_and_hold_the_solution(tiny):
    cells = reference_cells(tiny.unit.solution_path)
    assert [label for label, _ in cells] == ["setup", "double", "setup_2", "mean"]
    assert "torch.multiply(values, weight)" in dict(cells)["double"]
    for label, source in cells:
        compile(source, label, "exec")


def test_the_graders_reader_does_without_jupytext(tiny):
    """jupytext takes longer to import than a submission takes to grade."""
    code = ("import sys; from pathlib import Path; "
            "from autograder.solution.source import reference_cells, setup_sources; "
            f"p = Path({str(tiny.path('solution'))!r}); reference_cells(p); setup_sources(p); "
            "import autograder.build.build; "
            "assert not {'jupytext', 'nbformat', 'nbgrader', 'torch'} & sys.modules.keys()")
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("text", [
    's = """\n# %% not a cell\n"""', "x = 1  # %% not a cell", "# %%timeit is no marker", "#%%\ny = 2",
    "# %% [markdown]\n\"\"\"\n# quoted\n\"\"\"", "# %% [markdown]\n# ```python\n# code\n# ```",
    "\n\n\n# %%\n\n\nx = 2\n\n\n\n", "# %%\n# %%\n#\n",
])
def test_both_readers_agree(tiny, text):
    tiny.edit("solution", "SIZE = 3", f"SIZE = 3\n{text}")
    read_source(tiny.unit.solution_path)


def test_markers_in_strings_are_text(tiny):
    tiny.edit("solution", "SIZE = 3", 'SIZE = """\n# %% exercise="no"\n"""')
    assert setup_sources(tiny.unit.solution_path)[1] == 'SIZE = """\n# %% exercise="no"\n"""'


MARK = "    ### BEGIN SOLUTION\n"
BROKEN = {
    "unknown role": ('role="setup"', 'role="setpu"', 0, 'unknown role "setpu"; the only role is "setup"'),
    "unknown exercise": ('# %% exercise="mean"', '# %% exercise="maen"', 0, 'exercise "maen" is not in course.yml'),
    "no cell": ('# %% exercise="mean"\n' + "class Mean", '# %% [markdown]\n# no mean\n\n# %%\nclass Mean', None,
                "`### BEGIN SOLUTION` outside an exercise cell"),
    "no solution": ("    ### BEGIN SOLUTION\n    weight", "    weight", 2, "this `### END SOLUTION` has no `### BEGIN"),
    "unended": ("    ### END SOLUTION\n", "", None, "this `### BEGIN SOLUTION` has no `### END SOLUTION` in its cell"),
    "nested": ("    weight =", MARK + "    weight =", 0, "inside the solution that line"),
    "sloppy marker": ("### BEGIN SOLUTION", "# BEGIN SOLUTION", 0, "write a solution marker as `### BEGIN SOLUTION`"),
    "marker after code": ("2.0)\n", "2.0)  ### END SOLUTION\n", 0, "alone on its line"),
    "marker in text": ("# Now the mean.", "# Now ### BEGIN SOLUTION", 0, "write a solution marker as"),
    "twice": ('# %% exercise="mean"', '# %% exercise="double"', 0, 'exercise "double" already has a cell, at line 11'),
    "syntax": ("SIZE = 3", "SIZE = = 3", 0, "syntax error: invalid syntax"),
    "split statement": ("print(double", 'if SIZE:\n    # %%\n    print(double', 0,
                        "syntax error in this cell by itself"),
    "both options": ('exercise="double"', 'exercise="double" role="setup"', 0, "is not understood"),
    "unquoted": ('exercise="double"', "exercise=double", 0, "is not understood"),
    "misspelt": ('exercise="double"', 'excercise="double"', 0, "is not understood; a code cell may carry"),
    "bare word": ('role="setup"', "setup", 0, "`# %% setup` is not understood"),
    "option on text": ("[markdown]", '[markdown] role="setup"', 0, 'a markdown cell hints="<id>"'),
    "raw": ("[markdown]", "[raw]", 0, "a cell is code or markdown, not raw"),
    "form feed": ("SIZE = 3", "SIZE = '\x0c'", None, "jupytext splits the script otherwise here"),
    "before the first": ("# %% [markdown]", "import os\n# %% [markdown]", 0, "put nothing before the first"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_told_in_one_line(tiny, name):
    old, new, offset, message = BROKEN[name]
    line = tiny.edit("solution", old, new)
    with pytest.raises(UsageError) as raised:
        read_source(tiny.unit.solution_path, tiny.unit.exercises)
    text = str(raised.value)
    assert message in text and "\n" not in text
    place = text.split(": ")[0]
    assert place.startswith("solutions/tiny/tiny.py:") and str(tiny.root) not in text
    if offset is not None and name not in ("before the first", "split statement"):
        assert place == f"solutions/tiny/tiny.py:{line + offset}"


def test_an_exercise_without_markers(tiny):
    tiny.path("solution").write_text('# %% role="setup"\n# %% exercise="double"\ndouble = 2\n')
    with pytest.raises(UsageError, match=r"tiny.py:2: exercise double has no `### BEGIN SOLUTION`"):
        read_source(tiny.unit.solution_path)


def test_an_exercise_of_the_course_without_a_cell(tiny):
    text = tiny.path("solution").read_text()
    tiny.path("solution").write_text(text[: text.index('# %% exercise="mean"')])
    with pytest.raises(UsageError, match=r'tiny.py:1: exercise "mean" of course.yml has no cell; start it with'):
        read_source(tiny.unit.solution_path, tiny.unit.exercises)


def test_no_setup_cell(tiny):
    text = tiny.path("solution").read_text()
    tiny.path("solution").write_text(text.replace('# %% role="setup"', "# %%"))
    with pytest.raises(UsageError, match=r'tiny.py:1: no setup cell: start the imports with `# %% role="setup"`'):
        read_source(tiny.unit.solution_path)


def test_a_missing_script_and_a_wrong_encoding(tiny):
    tiny.path("solution").write_bytes(b"# %%\nx = '\xff'\n")
    with pytest.raises(UsageError, match=r"solutions/tiny/tiny.py: not UTF-8 at byte 10"):
        read_blocks(tiny.path("solution"))
    tiny.path("solution").unlink()
    with pytest.raises(UsageError, match=r"solutions/tiny/tiny.py: not found"):
        read_blocks(tiny.path("solution"))
