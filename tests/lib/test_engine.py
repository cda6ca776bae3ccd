"""Checks are collected once and run for every subject; the same subject always meets the same outcome."""
from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from engine_runs import CHECK, Subject, check_file, collected, doubling, run

from etude import engine
from etude.engine import run_checks
from etude.failures import CheckFailure, MissingName, StudentError, StudentStopped
from etude.outcomes import Check, failure_text

THREE = '''
IMPORTED.append(1)

@exercise("one")
@points(2)
@public
@for_all(case=SPEC)
def test_doubles(student, case):
    """The output is twice the input.

    More about it.
    """
    DRAWN.append(repr(case))
    (x,) = case.arguments().values()
    assert_same(student.f(x), 2 * x)

@exercise("two")
@points(1.5)
def test_name(student, reference):
    """The name is right."""
    assert student.name == reference.name, "another name"

@exercise("one")
@points(1)
@for_all(case=SPEC, corners=False)
def test_small(student, case):
    """Batches of more than two are fine."""
    assert_same(student.g(case.B), case.B)
'''


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file of three checks, and what its imports and draws left behind."""
    import builtins
    from types import SimpleNamespace
    left = SimpleNamespace(source=THREE, imported=[], drawn=[])
    monkeypatch.setattr(builtins, "IMPORTED", left.imported, raising=False)
    monkeypatch.setattr(builtins, "DRAWN", left.drawn, raising=False)
    return left


def right() -> Subject:
    return Subject(f=doubling(), g=lambda n: n, name="ann")


REFERENCE = right().given


def test_marks_and_docstrings_become_checks_in_the_order_of_exercises(tmp_path: Path, three: Any) -> None:
    assert collected(tmp_path, three.source) == [
        Check("test_doubles", "The output is twice the input.", "one", 2.0, True, True),
        Check("test_small", "Batches of more than two are fine.", "one", 1.0, False, True),
        Check("test_name", "The name is right.", "two", 1.5, False, False)]


def test_a_file_is_collected_once_and_run_for_every_subject(tmp_path: Path, three: Any) -> None:
    subjects = [right(), Subject(f=doubling(3), g=lambda n: n, name="bob"), right()]
    run(tmp_path, three.source, *subjects, reference=REFERENCE)
    assert three.imported == [1]
    assert [s.passed for s in subjects] == [
        {"test_doubles": True, "test_small": True, "test_name": True},
        {"test_doubles": False, "test_small": True, "test_name": False},
        {"test_doubles": True, "test_small": True, "test_name": True}]
    assert all(s.asked == s.finished_in_order == ["one", "two"] for s in subjects)


def test_every_subject_meets_the_same_examples_corners_first(tmp_path: Path, three: Any) -> None:
    first, second = right(), right()
    run(tmp_path, three.source, first, reference=REFERENCE)
    met = list(three.drawn)
    run(tmp_path, three.source, first, second, reference=REFERENCE)
    assert three.drawn == 3 * met and len(met) > 10 and met[0].startswith("Case(B=2, T=3")


def test_another_seed_draws_other_examples_but_the_corners(tmp_path: Path, three: Any) -> None:
    run(tmp_path, three.source, right(), reference=REFERENCE, seed=1)
    first = list(three.drawn)
    three.drawn.clear()
    run(tmp_path, three.source, right(), reference=REFERENCE, seed=2)
    assert first != three.drawn and first[:5] == three.drawn[:5]


def test_the_same_subject_has_the_same_outcome_twice_down_to_the_shrunk_example(tmp_path: Path, three: Any) -> None:
    def told(subject: Subject) -> list[tuple]:
        return [(name, repr(o.case), failure_text(o.failure) if o.failure else None)
                for name, o in subject.outcomes.items()]

    def wrong() -> Subject:
        return Subject(f=lambda x: 2 * x if len(x) < 3 else x, g=lambda n: n if n < 3 else 0, name="bob")
    one = run(tmp_path, three.source, wrong(), reference=REFERENCE, seed=5)
    two = run(tmp_path, three.source, right(), wrong(), reference=REFERENCE, seed=5)
    assert told(one) == told(two)
    assert repr(one.outcomes["test_doubles"].case["case"]) == "Case(B=3, T=1, seed=0)"
    assert one.outcomes["test_small"].case["case"].B == 3


def test_without_shrinking_the_first_failing_example_is_kept(tmp_path: Path, three: Any) -> None:
    wrong = Subject(f=doubling(3), g=lambda n: n, name="ann")
    run(tmp_path, three.source, wrong, reference=REFERENCE, shrink=False)
    assert repr(wrong.outcomes["test_doubles"].case["case"]) == three.drawn[0]


def test_exercises_can_be_chosen_for_all_and_left_out_by_one_subject(tmp_path: Path, three: Any) -> None:
    class Picky(Subject):
        def wants(self, exercise: str) -> bool:
            return exercise == "one"
    all_of_two, picky = right(), Picky(f=doubling(), g=lambda n: n)
    run(tmp_path, three.source, all_of_two, reference=REFERENCE, exercises=["two"])
    run(tmp_path, three.source, picky, right(), reference=REFERENCE)
    assert list(all_of_two.outcomes) == ["test_name"] and list(picky.outcomes) == ["test_doubles", "test_small"]


def test_a_subject_may_give_each_check_a_student_of_its_own(tmp_path: Path, three: Any) -> None:
    class Beginning(Subject):
        def begins(self, check: Check) -> Any:
            self.asked.append(check.name)
            return self.given
    subject = run(tmp_path, three.source, Beginning(**vars(REFERENCE)), reference=REFERENCE)
    assert subject.asked == ["one", "test_doubles", "test_small", "two", "test_name"] and all(subject.passed.values())


def test_a_failing_check_can_be_replayed_with_another_student(tmp_path: Path, three: Any) -> None:
    class Replaying(Subject):
        def finished(self, exercise: str, outcomes: list) -> None:
            for outcome in outcomes:
                outcome.replay(REFERENCE)
                with pytest.raises(CheckFailure if exercise == "one" else AssertionError):
                    outcome.replay(Subject(f=doubling(3), g=lambda n: -n, name="bob").given)
            super().finished(exercise, outcomes)
    subject = Replaying(f=doubling(3), g=lambda n: n - 1, name="bob")
    assert not any(run(tmp_path, three.source, subject, reference=REFERENCE).passed.values())


# ---------------------------------------------------------------------------------------------- what checks may raise

ODD = {
    "raise KeyError('odd')": "What your function returned could not be used: KeyError: 'odd'.",
    "student.missing": "What your function returned could not be used: AttributeError",
    "torch.zeros(2) @ torch.zeros(3)": "could not be used: RuntimeError",
    "1 / 0": "could not be used: ZeroDivisionError: division by zero.",
    "assert False": "assert False",
    "assert False, 'the sum is 2'": "the sum is 2",
    "assert [1, 2] == [1, 3]": "assert [1, 2] == [1, 3]",
    "pytest.fail('it does not hold')": "it does not hold",
    "with pytest.raises(ValueError): pass": "DID NOT RAISE",
    "raise AssertionError": "the property does not hold.",
    "raise CheckFailure('the fact.', hint='the hint')": "the fact.",
    "raise RecursionError": "could not be used: RecursionError",
    "raise StopIteration": "could not be used: StopIteration",
    "raise MemoryError('x')": "could not be used: MemoryError",
    "raise StudentError('TypeError', 'no', 'cell 3, line 2', 'f(1)')":
        "Your code raised TypeError: no in cell 3, line 2: `f(1)`.",
    "raise StudentStopped('no answer within 5 s')": "Your code was stopped: no answer within 5 s.",
}


@pytest.mark.parametrize(("statement", "says"), ODD.items(), ids=ODD)
def test_whatever_a_check_raises_is_its_failure_in_a_readable_sentence(tmp_path: Path, statement: str,
                                                                       says: str) -> None:
    other = CHECK.replace("test_it", "test_other") + "pass\n"
    subject = run(tmp_path, CHECK + statement + "\n\n" + other)
    what, _ = failure_text(subject.failure())
    assert what.startswith(says) or says in what
    assert subject.passed == {"test_it": False, "test_other": True}


@pytest.mark.parametrize(("failure", "what", "hint"), [
    (MissingName("MissingName", "the notebook defines no `f`"), "the notebook defines no `f`.", "Keep the name"),
    (StudentError("NotImplementedError", ""), "Not implemented yet: the TODO is still there.", ""),
    (StudentError("MemoryError", ""), "Your code ran out of memory: it asked for more", "How large"),
    (StudentError("RuntimeError", "DefaultCPUAllocator: can't allocate memory"), "Your code ran out", "How"),
    (StudentStopped("it ended."), "Your code was stopped: it ended.", ""),
    (CheckFailure("The fact.", hint="The hint."), "The fact.", "The hint."),
])
def test_a_failure_tells_the_fact_and_the_hint_apart(failure: Exception, what: str, hint: str) -> None:
    told = failure_text(failure)
    assert told[0].startswith(what) and told[1].startswith(hint) and bool(told[1]) == bool(hint)


@pytest.mark.filterwarnings("ignore:Using `assume`")
def test_an_example_that_is_assumed_away_counts_for_nothing(tmp_path: Path) -> None:
    subject = run(tmp_path, '@exercise("one")\n@points(1)\n@given(n=st.integers(0, 9))\ndef test_it(student, n):\n'
                            '    """It holds."""\n    assume(n != 0)\n    assert student.f(n)\n', Subject(f=bool))
    assert subject.passed == {"test_it": True}


def test_a_student_that_was_stopped_is_not_asked_again_to_shrink(tmp_path: Path) -> None:
    calls = []

    def stop(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        raise StudentStopped("no answer within 5 s")
    source = CHECK.replace("def ", "@for_all(case=SPEC)\ndef ").replace("(student)", "(student, case)")
    subject = run(tmp_path, source + "student.f(case.arguments()['x'])\n", Subject(f=stop))
    assert len(calls) == 1 and isinstance(subject.failure(), StudentStopped)


NUMBERS = CHECK.replace("def ", "@given(n=st.integers(0, 10**9), m=st.integers(0, 9))\ndef ").replace(
    "(student)", "(student, n, m)")


@pytest.mark.parametrize("explicit", ["", "@hypothesis.example(n=10**8, m=9)\n"])
def test_examples_that_are_no_cases_are_shrunk_by_hypothesis(tmp_path: Path, explicit: str) -> None:
    source = "import hypothesis\n" + explicit + NUMBERS + "assert student.f(n), n\n"
    subject = run(tmp_path, source, Subject(f=lambda n: n < 1000))
    assert subject.outcomes["test_it"].case == {"n": 1000, "m": 0}
    assert failure_text(subject.failure())[0].startswith("1000")


def test_shrinking_by_hypothesis_is_bounded_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(most: int) -> int:
        monkeypatch.setattr(engine, "SHRINK_RUNS", most)
        calls: list[int] = []
        run(tmp_path, NUMBERS + "assert student.f(n) < 10\n", Subject(f=lambda n: calls.append(n) or n))
        return len(calls)
    assert runs(7) - runs(0) == 7


def test_a_worker_that_was_stopped_in_one_check_leaves_the_others(tmp_path: Path, sealed: Any) -> None:
    class Sealed(Subject):
        def student(self, exercise: str) -> Any:
            return sealed("import os\ndef f(x): return x * 2 if x.shape[0] < 3 else os._exit(3)\ndef g(n): return n")
    source = THREE.replace("IMPORTED.append(1)", "").replace("DRAWN.append(repr(case))", "")
    subject = run(tmp_path, source, Sealed(), exercises=["one"])
    assert subject.passed == {"test_doubles": False, "test_small": True}
    assert "ended itself" in failure_text(subject.failure("test_doubles"))[0]


# ---------------------------------------------------------------------------------------------- the surroundings

def test_pytest_inside_pytest_leaves_the_outer_one_as_it_was(tmp_path: Path) -> None:
    environment, profile = dict(os.environ), hypothesis.settings.get_current_profile_name()
    modules, hooks = set(sys.modules), list(sys.meta_path)
    os.environ["PYTEST_ADDOPTS"] = "--no-such-option"
    try:
        assert run(tmp_path, CHECK + "assert student.f == 3\n", Subject(f=3)).passed == {"test_it": True}
        assert os.environ.pop("PYTEST_ADDOPTS") == "--no-such-option"
    finally:
        os.environ.pop("PYTEST_ADDOPTS", None)
    assert dict(os.environ) == environment and hypothesis.settings.get_current_profile_name() == profile
    assert set(sys.modules) == modules and sys.meta_path == hooks


def test_a_conftest_and_a_pytest_ini_beside_the_checks_take_no_part(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    assert run(tmp_path, CHECK + "pass\n").passed == {"test_it": True}


def test_two_files_of_one_name_are_two_files(tmp_path: Path) -> None:
    for name, body in (("a", "assert student.f == 1"), ("b", "assert student.f == 2")):
        (tmp_path / name).mkdir()
        subject = Subject(f=2)
        run_checks([check_file(tmp_path / name, CHECK + body + "\n")], [subject])
        assert subject.passed == {"test_it": name == "b"}


def test_what_a_subject_raises_ends_the_run_and_is_told(tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    def subjects() -> Iterator[Subject]:
        yield Subject()
        raise Broken
    with pytest.raises(Broken):
        run_checks([check_file(tmp_path, CHECK + "pass\n")], subjects())
