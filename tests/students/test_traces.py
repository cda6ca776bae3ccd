"""The students' own lines of a traceback, with the shapes of the tensors on them."""
from __future__ import annotations

import linecache

import pytest
import torch

from etude.students.traces import MAX_FRAMES, student_frames


def frames_of(source, call="f()"):
    """The frames of the error that `call` ends in, after `source` was run as a cell."""
    namespace = {"torch": torch}
    name = "<etude cell 3 (f)>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), namespace)
    with pytest.raises(BaseException) as raised:
        eval(call, namespace | {})  # the call's own frame has other globals, as a check has
    return student_frames(raised.value, namespace)


def test_only_the_students_lines_are_shown_with_the_shapes_on_them():
    frames = frames_of("def f():\n    q, k = torch.zeros(2, 3), torch.ones(4, 5)\n    return q @ k  # with v\n")
    assert [(frame.place, frame.line) for frame in frames] == [("cell 3 (f), line 3, in f", "return q @ k  # with v")]
    assert frames[0].tensors == ("q: (2, 3) float32", "k: (4, 5) float32")


def test_the_way_to_the_error_leads_through_the_students_functions():
    frames = frames_of("def g(x):\n    return x.reshape(7)\ndef f():\n    return g(torch.zeros(2))\n")
    assert [frame.place for frame in frames] == ["cell 3 (f), line 4, in f", "cell 3 (f), line 2, in g"]


def test_parameters_of_a_module_are_found_and_properties_are_not_run():
    source = ("class M(torch.nn.Module):\n"
              "    def __init__(self):\n        super().__init__()\n"
              "        self.weight = torch.nn.Parameter(torch.zeros(3))\n"
              "    @property\n    def trap(self):\n        raise SystemExit\n"
              "    def forward(self, x):\n        return self.weight @ x.T, self.trap\n"
              "def f():\n    return M()(torch.zeros(1, 2))\n")
    assert frames_of(source)[-1].tensors == ("self.weight: (3,) float32", "x: (1, 2) float32")


def test_what_is_unusual_about_a_tensor_is_said():
    frames = frames_of("def f():\n    x = torch.tensor([float('nan')])\n    return x @ torch.zeros(2)\n")
    assert frames[0].tensors == ("x: (1,) float32, not finite",)


def test_of_an_endless_recursion_the_ends_are_shown():
    frames = frames_of("def f():\n    return f()\n")
    assert len(frames) == MAX_FRAMES + 1 and "more steps" in frames[MAX_FRAMES // 2].place


def test_an_error_without_a_line_of_the_students_has_no_trace():
    assert frames_of("f = 1\n") == []
