"""Rows of the catalogue that are not one submission against the grader: two of them, or none, or what is shown."""
from __future__ import annotations

import gc
import os
import threading

import pytest
import torch

from autograder.course import load_course
from autograder.grading import diagnosis
from autograder.grading.grade import run_unit_checks
from autograder.grading.reference import ReferenceSubject
from autograder.grading.subjects import sealed_channels
from autograder.remote.channel import Channel, LocalChannel, RawReply, SealedChannel
from autograder.remote.student import RemoteStudent
from autograder.report.audience import for_staff, for_students
from autograder.report.model import Report, student_view
from autograder.sandbox import seccomp
from autograder.sandbox.client import Limits, Zygote
from autograder.solution.material import Material
from etude.failures import StudentStopped

from .arena import HERE
from .catalogue import ALL, OTHERS
from .model import COLUMNS
from .prelude import program
from .ring import ROOT, Ring

pytestmark = pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter: graded runs are refused here")
RING = pytest.mark.parametrize("ring", ["as_started"], indirect=True)


def sealed_cell(zygote: Zygote, source: str, seconds: float = 60.0, layers: object = None) -> SealedChannel:
    cells = [{"label": "cell 1", "source": source, "mode": "all"}]
    return SealedChannel(cells, lambda: zygote.spawn(Limits(), layers=layers), seconds, 120.0)


def report_of(ring: Ring, attack: str) -> Report:
    return ring.fight(ALL[attack], COLUMNS["all"]).report


# ---------------------------------------------------------------------------------------------- what is shown

@RING
def test_a25_nothing_that_acts_on_its_reader_is_shown(ring: Ring):
    report = report_of(ring, "a25")
    raw = report.to_json()
    assert "\\u001b" in raw and "add-mask" in raw  # the attack did say it
    assert "\x1b" not in raw
    for shown in (for_staff(report), for_students(report)):
        texts = "".join(check.message for exercise in shown.exercises for check in exercise.checks)
        assert texts and not set(texts) & {"\x1b", "\u202e"}
        assert "::add-mask" not in texts and "::error" not in texts and "##[" not in texts
        assert max(len(check.message) for exercise in shown.exercises for check in exercise.checks) < 5000


@RING
def test_b19_b23_hidden_inputs_are_not_shown_to_students(ring: Ring):
    report = report_of(ring, "b23")
    hidden = [check for check in student_view(report).exercises[0].checks if not check.public]
    assert len(hidden) == 3
    assert {check.message for check in hidden} == {"This property does not hold for a hidden example."}
    assert all(check.counterexample is None for check in hidden)
    # Negative control: staff see them.
    assert all(check.counterexample or check.message for check in report.exercises[0].checks)
    assert len({check.message for check in report.exercises[0].checks}) > 2


@RING
def test_b20_two_wrong_answers_read_the_same(ring: Ring):
    """A verdict says one bit: what students are shown of hidden checks does not depend on how wrong they are."""
    def shown(attack: str) -> list:
        checks = student_view(report_of(ring, attack)).exercises[0].checks
        return [(check.name, check.passed, check.score, check.message, check.counterexample)
                for check in checks if not check.public]

    def messages(attack: str) -> list[str]:
        return [check.message for check in report_of(ring, attack).exercises[0].checks]
    assert shown("a19") == shown("a20") == shown("a03") == shown("d12")
    assert len({tuple(messages(attack)) for attack in ("a19", "a20", "a03", "d12")}) == 4  # negative control


# ---------------------------------------------------------------------------------------------- one after another

PLANTED = "planted-" + os.urandom(8).hex()


def test_b17_a_fork_of_the_grader_would_hold_its_secrets():
    """The negative control of starting the zygote by exec: a fork finds what only this module knows."""
    gc.freeze()  # as the zygote does: it hides nothing
    pid = os.fork()
    if pid == 0:
        gc.unfreeze()
        found = any(type(thing) is dict and thing.get("PLANTED") == PLANTED for thing in gc.get_objects())
        os._exit(0 if found else 1)
    gc.unfreeze()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_b17_the_zygotes_workers_hold_none_of_it(zygote: Zygote):
    # Spelt backwards: the compiler would join its parts, and the question would find itself.
    look = ALL["b12"].source.replace("loot(", "print('-detnalp'[::-1] in ")
    for planted, seen in (("", "False"), (f"kept = [{PLANTED!r}]\n", "True")):  # the second is the negative control
        channel = sealed_cell(zygote, program(planted + look, {}))
        hasattr(RemoteStudent(channel), "anything")  # has the cell run
        assert channel.loaded["output"].strip() == seen
        channel.close()


def test_b21_memory_of_the_student_before_is_not_there(zygote: Zygote):
    """What one worker wrote all over its memory is in none of the memory that the next one gets."""
    # What lies after it keeps the heap's end from being given back when it is freed.
    write = "kept = [b'WMN' * 40_000 for _ in range(64)]\nlast = bytes(5_000)\nkept = None\n"
    search = """
import torch
def count():
    blocks = [torch.empty(120_000, dtype=torch.uint8) for _ in range(64)]
    return sum(bytes(block.tolist()[:3000]).count(bytes([87, 77, 78])) for block in blocks)
"""
    first = sealed_cell(zygote, write + search)
    assert RemoteStudent(first).count() > 0  # negative control: in the same worker, freed memory is found
    first.close()
    second = sealed_cell(zygote, search)
    assert RemoteStudent(second).count() == 0
    second.close()


def test_d21_set_num_threads_is_harmless(zygote: Zygote):
    source = """
import torch
{call}(2)
def work(): return float((torch.ones(300, 300) @ torch.ones(300, 300)).sum())
"""
    honest = sealed_cell(zygote, source.format(call="torch.set_num_threads"))
    assert RemoteStudent(honest).work() == 300.0 ** 3
    honest.close()
    # Negative control: PyTorch's own, which the zygote replaces, ends the process when it cannot start a thread.
    control = sealed_cell(zygote, source.format(call="torch._C.set_num_threads"))
    with pytest.raises(StudentStopped, match="ended itself"):
        RemoteStudent(control).work()
    control.close()


def test_d22_many_that_hang_keep_nobody_waiting(zygote: Zygote):
    hangs = [sealed_cell(zygote, "while True: pass", seconds=2.0) for _ in range(4)]
    stopped: list[str] = []

    def grade(channel: SealedChannel) -> None:
        try:
            RemoteStudent(channel).anything()
        except StudentStopped as error:
            stopped.append(str(error))
    threads = [threading.Thread(target=grade, args=(channel,)) for channel in hangs]
    for thread in threads:
        thread.start()
    honest = sealed_channels(zygote, Limits(call_seconds=60), 120.0)(
        [{"label": "cell 1", "source": "def f(x): return x + 1", "mode": "all"}])
    assert RemoteStudent(honest).f(1) == 2
    honest.close()
    for thread in threads:
        thread.join()
    assert len(stopped) == 4 and all("no answer within" in text for text in stopped)


@RING
def test_e8_whoever_writes_down_the_public_case_gets_the_public_point(ring: Ring):
    outcome = ring.fight(OTHERS["e08"], COLUMNS["all"])
    assert outcome.passed == ["test_two"] and outcome.report.score == 1
    assert outcome.honest == (5.0, 5.0)


def test_d26_what_a_submission_returns_is_not_computed_with_where_nothing_limits_it(monkeypatch: pytest.MonkeyPatch):
    """To name a mistake, requests are made again of the reference, in this process; answers are part of them."""
    course = load_course(HERE / "course" / "course.yml")
    reference = ReferenceSubject(Material(course, course.units["target"]))
    run_unit_checks(reference._material, [reference])
    opened: list[int] = []

    class Counted(LocalChannel):
        def raw(self, kind: int, payload: bytes) -> RawReply:
            opened.append(len(payload))
            return super().raw(kind, payload)
    monkeypatch.setattr(diagnosis, "LocalChannel", Counted)

    def ask_twice(channel: Channel) -> None:
        student = RemoteStudent(channel)
        student.f(student.f(torch.ones(3)))
    for elements, asked in ((3, True), (1 << 22, False)):
        opened.clear()
        source = f"import torch\ndef f(x): return torch.full(({elements},), 3.0)"
        channel = LocalChannel([{"label": "cell 1", "source": source, "mode": "all"}])
        reference.probes["double"].diagnose_example(ask_twice, channel)
        assert bool(opened) == asked


def test_no_check_of_the_course_can_be_talked_out_of_an_example():
    """An assumption that fails passes the example: one about what the student's code returned would be his to break."""
    for path in sorted((ROOT / "solutions").glob("*/*_checks.py")):
        assert "assume(" not in path.read_text(encoding="utf-8"), f"{path.name}: draw what is legal instead"
