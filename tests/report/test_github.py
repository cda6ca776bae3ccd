"""GitHub: a summary that fits, at most ten annotations, and a guard against commands in a log."""
import re

from autograder.report import github
from autograder.report.github import annotations, guarded, render_summary

from .samples import build_class

CLASS = {report.student: report for report in build_class()}


def test_summary_names_the_mistake():
    text = render_summary(CLASS["chidi"])
    assert text.startswith("## Attention: 70 / 80 points\n")
    assert "This is what you get when the scores are not divided by sqrt\\(d\\)\\." in text
    assert "| \\[0, 0, 0, 0\\] | \\-0\\.2999 | \\-0\\.003771 |" in text


def test_summary_ends_before_the_cap(monkeypatch):
    monkeypatch.setattr(github, "MAX_BYTES", 2000)
    text = render_summary(list(CLASS.values()))
    assert len(text.encode()) <= 2000 and text.endswith("at most 1 MiB.*\n")


def test_an_annotation_has_file_title_and_message():
    first = annotations(CLASS["gustavo"], "work/a,b:c.ipynb")[0]
    assert first.startswith("::error file=work/a%2Cb%3Ac.ipynb,line=1,title=Sparsemax%3A The output lies on")
    assert "%0A  in sparsemax, line 7:  support" in first and "\n" not in first


def test_at_most_ten_annotations():
    lines = annotations(CLASS["hana"], "attention.ipynb")
    assert len(lines) == 10 and "title=11 more failed checks::" in lines[-1]
    assert annotations(CLASS["ada"], "attention.ipynb") == []


def test_the_guard_cannot_be_guessed():
    first, second = guarded("::error::x\n"), guarded("::error::x\n")
    assert first != second
    token = re.fullmatch(r"::stop-commands::(\w{32})\n::error::x\n::(\w{32})::\n", first).groups()
    assert token[0] == token[1]


NOTEBOOK = """{
 "cells": [
  {
   "metadata": {
    "nbgrader": {
     "grade_id": "sparsemax"
    }
   },
   "source": [
    "def sparsemax(z):\\n",
    "    return z\\n"
   ]
  }
 ]
}
"""


def test_an_annotation_stands_on_the_line_of_the_exercise_in_the_notebooks_file():
    lines = annotations(CLASS["gustavo"], "attention.ipynb", NOTEBOOK)
    assert lines and all(",line=10," in line for line in lines)
    assert ",line=1," in annotations(CLASS["gustavo"], "attention.ipynb", NOTEBOOK.replace("sparsemax", "other"))[0]
