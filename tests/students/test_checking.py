"""What `check` finds out about functions in this process, and what it leaves as it was."""
from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch

from etude.check_file import CheckFileError
from etude.students import checking, watch
from etude.students.bar import Bar
from etude.students.card_text import text

HEAD = "def sdpa(q, k, v, keep):\n"
RIGHT_REST = ("    z = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])\n"
              "    z = z.masked_fill(~keep, torch.finfo(q.dtype).min)\n"
              "    return torch.softmax(z, dim=-1).masked_fill(~keep, 0) @ v\n")


def test_right_solutions_hold_everything(student):
    checked = student.check()
    assert checked.passed and len(checked.findings) == 7
    assert all(finding.title and finding.hints for finding in checked.findings)


WRONG = {  # the body of sdpa: what the card says
    "wrong scale": (RIGHT_REST.replace(" / math.sqrt(q.shape[-1])", ""),
                    ["This is what you get when the scores are not divided by √d.", "expected", "yours",
                     "Smallest example: d=2, B=1, H=1, T=1"]),
    "an error": ("    weights = torch.softmax(q @ k, dim=-1)\n    return weights @ v\n",
                 ["Your code raised RuntimeError", "cell 9 (own), line 2, in sdpa",
                  "weights = torch.softmax(q @ k, dim=-1)", "q: (1, 1, 1, 2) float64", "k: (1, 1, 1, 2) float64"]),
    "no return": ("    q @ k.transpose(-2, -1)\n", ["expected a tensor", "got None", "Try next:"]),
    "another dtype": (RIGHT_REST.replace("@ v", "@ v.float()").replace(".masked_fill(~keep, 0)", ".float()"),
                      ["expected dtype float64, got float32"]),
    "an exit": ("    raise SystemExit\n", ["Your code raised SystemExit"]),
    "the TODO": ('    raise NotImplementedError("TODO")\n', ["not started: the TODO is still there"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_solution_gets_a_card_that_says_what_and_where(name, student):
    body, phrases = WRONG[name]
    student.run(HEAD + body)
    finding = student.finding()
    card = text([finding])
    assert not finding.passed
    for phrase in phrases:
        assert phrase in card, f"{phrase!r} is not in\n{card}"
    assert "site-packages" not in card and "etude/student.py" not in card


def test_a_name_that_no_cell_defines_is_told_once_and_not_as_seven_failures(student):
    del student.namespace["sdpa"]
    finding = student.finding()
    assert finding.not_run == "not run: no cell that was run defines sdpa"
    assert text([finding]).count("sdpa_masked") < 4


def test_the_example_is_there_to_be_tried(student):
    student.run(HEAD + "    return v\n")
    arguments = student.finding().arguments
    assert list(arguments) == ["q", "k", "v", "keep"] and all(torch.is_tensor(one) for one in arguments.values())


def test_the_example_is_what_the_function_was_given_and_not_what_that_was_made_from(student):
    """The case is of float64; the check asks for float32, too, and there it fails."""
    student.run(HEAD + "    assert q.dtype is torch.float64, 'only doubles'\n" + RIGHT_REST)
    finding = student.finding()
    (failure,) = (one.failure for one in finding.properties if not one.holds)
    assert "only doubles" in failure.what and "dtype=float32" in failure.example
    assert failure.inputs[0].startswith("q: (1, 1, 1, 1) float32 = ") and failure.inputs[3].startswith("keep: ")
    assert finding.arguments["q"].dtype is torch.float32
    with pytest.raises(AssertionError, match="only doubles"):
        student.namespace["sdpa"](**finding.arguments)


def test_prints_of_the_failing_example_are_kept_and_those_of_the_others_are_not(student, capsys):
    student.run(HEAD + '    print("T is", q.shape[2])\n    return v * 0\n')
    failures = [one.failure for one in student.finding().properties if not one.holds]
    assert all(failure.printed.startswith("T is") and len(failure.printed.splitlines()) <= 3 for failure in failures)
    assert capsys.readouterr().out == ""


def test_a_flood_of_prints_is_cut(student):
    student.run(HEAD + '    print("x" * 100_000)\n    return v * 0\n')
    failure = next(one.failure for one in student.finding().properties if not one.holds)
    assert len(failure.printed) < checking.MAX_PRINTED + 10


# ---------------------------------------------------------------------------------------------- what does not end

LOOPS = {
    "plain": HEAD + "    while True:\n        pass\n",
    "swallows exceptions": HEAD + ("    while True:\n        try:\n            q = q + 1\n"
                                   "        except Exception:\n            pass\n"),
    "asleep": "import time\n" + HEAD + "    time.sleep(1000)\n",
}


@pytest.mark.parametrize("name", LOOPS)
def test_what_does_not_end_is_interrupted_and_the_rest_given_up(name, student):
    student.patience(0.3)
    student.run(LOOPS[name])
    finding = student.finding()
    said = [one.failure.what for one in finding.properties]
    assert sum("took longer than 0.3 seconds" in what for what in said) == watch.MAX_TIMEOUTS
    assert sum("not run" in what for what in said) == len(said) - watch.MAX_TIMEOUTS
    first = finding.properties[0].failure
    assert any("in sdpa" in line for line in first.trace) and "loop" in first.hint and not first.smallest


def test_a_backward_pass_that_does_not_end_is_interrupted(student):
    student.patience(1)
    student.run("class Slow(torch.autograd.Function):\n"
                "    @staticmethod\n"
                "    def forward(ctx, z):\n        return torch.softmax(z, -1)\n"
                "    @staticmethod\n"
                "    def backward(ctx, g):\n        while True:\n            pass\n"
                "def sparsemax(z):\n    return Slow.apply(z)\n")
    card = text([student.finding("sparsemax")])
    assert "the backward pass took longer than 1 second" in card and "in backward" in card


def test_an_error_in_the_backward_pass_shows_the_students_line(student):
    student.run("class Bad(torch.autograd.Function):\n"
                "    @staticmethod\n"
                "    def forward(ctx, z):\n        return torch.softmax(z, -1)\n"
                "    @staticmethod\n"
                "    def backward(ctx, g):\n        return g @ torch.ones(10_000)\n"
                "def sparsemax(z):\n    return Bad.apply(z)\n")
    card = text([student.finding("sparsemax")])
    assert "Your code raised RuntimeError" in card and "return g @ torch.ones(10_000)" in card and "g: (" in card


def test_the_stop_button_stops(student):
    student.run(HEAD + "    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        student.check("sdpa_masked")


# ---------------------------------------------------------------------------------------------- left as it was

def test_the_notebooks_random_state_and_threads_are_left_as_they_were(student):
    student.run(HEAD + "    torch.rand(3)\n    return v * 0\n")
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    threads = torch.get_num_threads()
    student.check("sdpa_masked")
    state = torch.rand(2), np.random.rand(2), random.random()
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    assert torch.equal(state[0], torch.rand(2))
    assert (state[1] == np.random.rand(2)).all() and state[2] == random.random()
    assert torch.get_num_threads() == threads


def test_the_same_functions_get_the_same_card(student):
    student.run(HEAD + "    return v * torch.rand(())\n")
    assert text([student.finding()]) == text([student.finding()])


def test_checking_leaves_no_file_behind(student):
    before = sorted(student.folder.rglob("*"))
    student.check("sdpa_masked")
    assert [path for path in sorted(student.folder.rglob("*")) if "__pycache__" not in path.parts] == before


# ---------------------------------------------------------------------------------------------- around it

def test_an_unknown_exercise_is_told_with_those_there_are(student):
    with pytest.raises(checking.UnknownExercise, match="^No exercise is called sdpa; this notebook has sdpa_masked, "):
        student.check("sdpa")


def test_a_damaged_check_file_is_told(student):
    student.release.checks.write_text("def broken(:\n")
    with pytest.raises(CheckFileError, match="attention_checks.py"):
        student.check("sdpa_masked")


def test_without_facts_and_fingerprints_the_checks_still_run(student):
    for kind in ("etude", "fingerprints"):
        (student.folder / f"attention_{kind}.json").write_text("{broken")
    student.run(HEAD + WRONG["wrong scale"][0])
    finding = student.finding()
    assert not finding.passed and finding.diagnosis is None and finding.title == "sdpa_masked"


def test_the_bar_is_told_how_far_it_is(student):
    class Seen(Bar):
        calls: list = []
        closed = 0

        def update(self, done, total, doing):
            self.calls.append((done, total, doing))

        def close(self):
            self.closed += 1
    bar = Seen()
    student.check("sdpa_masked", bar=bar)
    assert bar.calls[-1] == (7, 7, "Masked scaled dot-product attention") and bar.closed
    assert [done for done, *_ in bar.calls] == sorted(done for done, *_ in bar.calls)


def test_a_bar_that_is_slow_to_draw_is_not_drawn_within_itself(student):
    class Slow(Bar):
        depth = deepest = 0

        def update(self, done, total, doing):
            self.depth += 1
            self.deepest = max(self.deepest, self.depth)
            time.sleep(0.15)  # the clock ticks meanwhile
            self.depth -= 1
    bar = Slow()
    student.check("grouped_heads", bar=bar)
    assert bar.deepest == 1
