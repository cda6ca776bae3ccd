"""One block: what the clock sees, and that every call is verified in full."""
from __future__ import annotations

import pytest
import torch

from autograder.errors import AutograderError
from autograder.sandbox.limits import Limits
from autograder.speed import process
from autograder.speed.process import open_worker
from autograder.speed.session import Fault
from autograder.speed.timing import difference
from tests.speed.kernels import RIGHT, RULES, SEEDS, SETUP, seconds_of


def test_a_right_kernel_gives_the_seconds_of_its_timed_calls(spawn):
    assert seconds_of(spawn, RIGHT) == [1.0] * RULES.calls


def test_an_open_process_gives_the_same_as_a_sealed_worker():
    spawn = lambda memory, size: open_worker(Limits(cpu_seconds=60), memory)  # noqa: E731
    assert seconds_of(spawn, RIGHT) == [1.0] * RULES.calls


@pytest.mark.parametrize(("source", "complaint"), [
    ("def softmax_into(out, x, scale): pass", "100.0% of it are NaN, as before the call"),
    ("def softmax_into(out, x, scale): out.zero_()", "output of call 1 is wrong: off by"),
    ("def softmax_into(out, x, scale): out.copy_(x)", "output of call 1 is wrong: off by"),
    ("def softmax_into(out, x, scale): torch.softmax(x, -1, out=out)", "output of call 1 is wrong: off by"),
    ("def softmax_into(out, x, scale): raise ValueError('no')", "softmax_into raised ValueError: no (cell 1, line"),
    ("import os\ndef softmax_into(out, x, scale): os._exit(0)", "the process ended itself (exit code 0)"),
    ("def other(): pass", "the notebook defines no softmax_into"),
    ("def softmax_into(out, x, scale:", "the notebook defines no softmax_into: cell 1, line"),
])
def test_a_wrong_kernel_is_a_fault_that_says_what(spawn, source, complaint):
    with pytest.raises(Fault) as fault:
        seconds_of(spawn, SETUP + source)
    assert complaint in str(fault.value)


def test_a_kernel_that_is_wrong_in_its_last_call_only_is_found(spawn):
    source = SETUP + f'''
calls = 0
def softmax_into(out, x, scale):
    global calls
    calls += 1
    torch.softmax(scale * x, -1, out=out)
    if calls == {len(SEEDS)}:
        out[-1, -1] += 0.01
'''
    with pytest.raises(Fault, match=f"output of call {len(SEEDS)} is wrong"):
        seconds_of(spawn, source)


@pytest.mark.parametrize(("got", "right"), [
    ([1.0, 2.0], ""), ([1.0, 2.0 + 1e-7], ""), ([1.0, 2.1], "off by"), ([1.0, float("nan")], "NaN"),
    ([1.0, float("inf")], "off by inf")])
def test_difference_is_relative_to_the_largest_value_and_nan_never_passes(got, right):
    found = difference(torch.tensor(got), torch.tensor([1.0, 2.0], dtype=torch.float64), 1e-6)
    assert (right in found) if right else found == ""


def test_difference_takes_expected_infinities_and_refuses_others():
    expected = torch.tensor([1.0, float("-inf")])
    assert difference(expected.clone(), expected, 1e-6) == ""
    assert difference(torch.tensor([1.0, float("inf")]), expected, 1e-6) != ""
    assert difference(torch.zeros(3), torch.zeros(3), 1e-6) == ""
    assert difference(torch.full((3,), 1e-9), torch.zeros(3), 1e-6) != ""


def test_a_process_that_cannot_start_is_the_graders_failure_in_one_line(monkeypatch):
    monkeypatch.setattr(process.sys, "executable", "/bin/false")
    with pytest.raises(AutograderError, match="a process to time could not be started: .*exit code 1"):
        open_worker(Limits(cpu_seconds=60), None)
