"""The marks that make a pytest function a check: which exercise it belongs to, what it is worth, who may see it.

    @exercise("sdpa_masked")
    @points(3)
    @public
    @for_all(case=SDPA)
    def test_rows_average_the_values(student, case):
        \"\"\"Every output row is a weighted average of the values.\"\"\"

They are pytest marks, nothing more. The docstring's first line is the title that students read. A check is hidden
unless it is marked public; a public check takes no `reference`.
"""
from __future__ import annotations

import pytest

exercise = pytest.mark.exercise
"""`@exercise("id")`: the exercise of course.yml that the check belongs to."""
points = pytest.mark.points
"""`@points(n)`: what passing is worth; the points of an exercise's checks add up to its points in course.yml."""
public = pytest.mark.public
"""`@public`: released to students, who see its examples."""
speed = pytest.mark.speed
"""`@speed`: returns `Workload`s at which a kernel is timed. Not run with the others; `autograder bench` settles it."""
