"""What a notebook shows of what was built: pictures from the student's own functions, readable on any background."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import FunctionType, SimpleNamespace

import pytest
import torch

from autograder.course import load_course
from autograder.solution.source import read_source

ROOT = Path(__file__).resolve().parents[2]
COURSE = load_course(ROOT / "course.yml")


@pytest.fixture(scope="module")
def cells():
    """The attention notebook, run with the reference: of each code cell its kind, figures, and whom it called."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    unit, namespace, calls, found = COURSE.units["attention"], {"__name__": "notebook"}, Counter(), []
    with matplotlib.rc_context():
        for cell in read_source(unit.solution_path, unit.exercises):
            if cell.kind in ("setup", "given", "exercise"):
                calls.clear()
                exec(compile(cell.source, cell.kind, "exec"), namespace)
                found.append(SimpleNamespace(kind=cell.kind, defined=[], calls=set(calls),
                                             figures=[plt.figure(number) for number in plt.get_fignums()]))
                plt.close("all")
                if cell.kind == "exercise":
                    found[-1].defined = counted(namespace, calls)
    torch.set_num_threads(threads)
    return found


def counted(namespace, calls):
    """Put a counter before each function that the cell has defined; their names."""
    new = [name for name, value in namespace.items() if isinstance(value, FunctionType)
           and value.__module__ == "notebook" and not hasattr(value, "counted")]
    for name in new:
        def call(*args, _function=namespace[name], _name=name, **kwargs):
            calls[_name] += 1
            return _function(*args, **kwargs)
        call.counted = True
        namespace[name] = call
    return [name for name in new if not name.startswith("_")]


def test_a_diagram_of_the_architecture_comes_before_the_first_exercise(cells):
    before = cells[:[cell.kind for cell in cells].index("exercise")]
    (figure,) = (figure for cell in before for figure in cell.figures)
    for axes in figure.axes:
        texts = [text.get_text() for text in axes.texts]
        assert len(axes.patches) >= 8 and not axes.axison and axes.get_title()
        assert any("output" in text for text in texts), "what comes out is a box of the diagram"


def test_every_exercise_is_followed_by_a_picture_made_by_the_functions_it_asks_for(cells):
    exercises = [index for index, cell in enumerate(cells) if cell.kind == "exercise"]
    assert len(exercises) == len(COURSE.units["attention"].exercises)
    for start, end in zip(exercises, [*exercises[1:], len(cells)], strict=True):
        drawn = [cell for cell in cells[start + 1:end] if cell.figures]
        used = set().union(*(cell.calls for cell in cells[start + 1:end]))
        assert drawn and used & set(cells[start].defined), cells[start].defined
    assert cells[-1].figures and cells[-1].calls, "the notebook ends with a picture"


def test_pictures_bring_their_own_background_so_that_a_dark_theme_cannot_swallow_their_ink(cells):
    figures = [figure for cell in cells for figure in cell.figures]
    assert len(figures) >= 8
    for figure in figures:
        assert lightness(figure.get_facecolor()) > 0.95
        for axes in figure.axes:
            inks = [axes.title.get_color(), axes.xaxis.label.get_color()]
            inks += [label.get_color() for label in axes.get_xticklabels()]
            assert all(lightness(ink) < 0.2 for ink in inks), axes.get_title()


def test_lightness_tells_ink_from_paper():
    assert lightness("white") == pytest.approx(1) and lightness("black") == 0 and lightness((1, 1, 1, 0)) == 0


def lightness(colour):
    """From 0 to 1; what is transparent may lie on anything, and counts as dark."""
    from matplotlib.colors import to_rgba
    red, green, blue, alpha = to_rgba(colour)
    return alpha * (0.2126 * red + 0.7152 * green + 0.0722 * blue)
