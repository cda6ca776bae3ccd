"""The clock over the student's code: it interrupts that, and nothing else."""
from __future__ import annotations

import signal
import threading
import time

import pytest

from etude.failures import StudentStopped
from etude.students.watch import TimeUp, Watch

SPIN = """
import time
def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
"""


def namespace():
    found = {}
    exec(SPIN, found)
    return found


def test_a_call_that_takes_too_long_is_cut_off_and_counted():
    watch = Watch(0.2, 60)
    with watch:
        for _ in range(2):
            with pytest.raises(StudentStopped, match="^`f` took longer than 0.2 seconds$"), watch.call("`f`"):
                namespace()["spin"](10)
        with pytest.raises(StudentStopped, match="not run, as 2 calls before it took too long"), watch.call("`f`"):
            raise AssertionError("this was to be left out")
        watch.restart()
        with watch.call("`f`"):
            pass


def test_all_calls_together_have_a_limit():
    watch = Watch(5, 0.05)
    with watch:
        time.sleep(0.1)
        with pytest.raises(StudentStopped, match="the 0.05 seconds for this exercise were used up"), watch.call("`f`"):
            pass


def test_what_is_no_ones_but_ours_may_take_its_time():
    own = namespace()
    with Watch(0.1, 60, namespace=namespace()):
        own["spin"](0.5)


def test_the_students_code_between_calls_is_cut_off_too():
    own = namespace()
    with Watch(0.2, 60, namespace=own), pytest.raises(StudentStopped, match="the backward pass took longer"):
        own["spin"](10)


def test_the_cell_that_asks_for_the_check_waits_and_is_not_cut_off():
    own = namespace()
    own["Watch"] = Watch
    exec("def check(work):\n    with Watch(0.1, 60, namespace=globals()):\n        work()\n", asker := dict(own))
    asker["check"](lambda: time.sleep(0.5))  # the asker's frame lies below, and its globals are the namespace


def test_a_loop_that_catches_everything_is_interrupted_again_and_again():
    caught = 0
    with Watch(0.1, 60) as watch, pytest.raises(StudentStopped), watch.call("`f`"):
        for _ in range(3):
            try:
                time.sleep(10)
            except BaseException:
                caught += 1
        time.sleep(10)
    assert caught == 3


def test_the_callers_signal_handler_and_timer_come_back():
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    try:
        with Watch(5, 60):
            assert signal.getsignal(signal.SIGALRM) is not before
        signal.raise_signal(signal.SIGALRM)
        assert seen == [1] and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_in_another_thread_there_is_no_clock_and_no_error():
    done = []
    thread = threading.Thread(target=lambda: [done.append(1) for _ in [0] if Watch(0.1, 60).__enter__()])
    thread.start()
    thread.join()
    assert done == [1]


def test_the_interruption_is_no_exception_that_students_catch():
    assert not issubclass(TimeUp, Exception)
