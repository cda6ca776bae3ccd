"""Small courses, notebooks and zips for the tests of this folder."""
from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from autograder.course import Course, parse_course

COURSE = b"""
schema: 1
title: Two units
units:
  attention:
    title: Attention
    notebook: attention
    exercises:
      sdpa:  {title: Attention itself, points: 3, minutes: 10, difficulty: 1}
      heads: {title: Heads, points: 2, minutes: 10, difficulty: 2}
  convolution:
    title: Convolution
    notebook: conv
    exercises:
      conv2d: {title: Convolution itself, points: 3, minutes: 10, difficulty: 1}
"""


def course() -> Course:
    return parse_course(COURSE, "course.yml", Path("course"))


def code(source: Any, grade_id: Any = None, **flags: bool) -> dict[str, Any]:
    """A code cell; with an id it is marked as a solution unless `flags` say otherwise."""
    marks = {"grade_id": grade_id, **(flags or {"solution": True, "grade": False, "locked": False})}
    metadata = {} if grade_id is None else {"nbgrader": marks}
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": [], "execution_count": None}


def text(source: str = "# Theory") -> dict[str, Any]:
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def notebook(*cells: Any, **top: Any) -> bytes:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **top}).encode()


def attention() -> bytes:
    """A complete submission for the unit `attention`."""
    return notebook(
        code("import torch", "setup", locked=True), text(),
        code("def sdpa(q, k, v): return v", "sdpa"), code("check('sdpa')", "check_sdpa", grade=True, locked=True),
        code("def heads(x): return x", "heads"), code("check('heads')", "check_heads", grade=True, locked=True),
    )


def convolution() -> bytes:
    return notebook(code("def conv2d(x, w): return x", "conv2d"))


def write(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(attention() if data is None else data)
    return path


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return write(path, buffer.getvalue())
