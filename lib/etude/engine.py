"""Run checks: pytest collects them once, then every subject (a student, a known mistake) goes through all of them.

A check's examples are drawn once by hypothesis from a seed and reused for every subject, so a passing submission pays
for neither drawing nor the reference. Only a failure pays for being made small.
"""
from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings

from etude.check_file import CheckFileError, crash_line, imported_anew, read_marks
from etude.constants import none_of_loaded_modules
from etude.failures import GraderFailed, StudentStopped
from etude.outcomes import Check, Outcome
from etude.shrink import smallest
from etude.strategies import Case

SHRINK_RUNS = 60
SHRINK_SECONDS = 10.0
_PROFILE = settings(max_examples=8, deadline=None, database=None, print_blob=False, report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate, Phase.shrink),
                    verbosity=hypothesis.Verbosity.quiet)
_UNUSED_PLUGINS = ("cacheprovider", "terminal", "faulthandler", "junitxml", "pastebin", "doctest", "unittest",
                   "debugging", "stepwise", "setuponly", "setupplan", "threadexception", "unraisableexception",
                   "logging", "warnings", "capture", "legacypath", "monkeypatch", "tmpdir", "recwarn")


class Subject(Protocol):
    """Whoever is being checked.

    Five methods are optional: `wants(exercise)` may leave an exercise out, `begins(check)` is called before each check
    and gives what that one receives as `student`, `passes(check)` may know that it passes without running it,
    `example()` is called before each of its examples, and `checked(outcome)` after it.
    """

    def student(self, exercise: str) -> Any:
        """What the checks of this exercise receive as `student`."""
        ...

    def finished(self, exercise: str, outcomes: list[Outcome]) -> None:
        """Called when all checks of an exercise have run."""
        ...


def run_checks(files: Sequence[Path], subjects: Iterable[Subject], *, reference: Any = None, seed: int = 0,
               exercises: Sequence[str] | None = None, shrink: bool = True,
               on_checks: Callable[[list[Check]], None] | None = None) -> None:
    """Collect the checks in `files` once and run them for every subject, in the order of the files.

    `on_checks` gets the collected checks before the first subject. Raises `CheckFileError` for a broken check file.
    """
    session = _Session(subjects, reference, seed, exercises, shrink, on_checks)
    with _clean_environment(), imported_anew(files), none_of_loaded_modules():
        code = pytest.main([*_arguments(files)], plugins=[session])
    if session.error is not None:
        raise session.error
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise CheckFileError(f"{', '.join(map(str, files))}: pytest could not run the checks")


def _arguments(files: Sequence[Path]) -> list[str]:
    disabled = [part for name in _UNUSED_PLUGINS for part in ("-p", f"no:{name}")]
    # -c and --rootdir: no pytest.ini, conftest.py or plugin from anywhere but here takes part in grading.
    return ["-c", os.devnull, "--rootdir", str(files[0].parent), "--noconftest", "--import-mode=importlib",
            *disabled, *map(str, files)]


@contextlib.contextmanager
def _clean_environment() -> Iterator[None]:
    """pytest without what the caller's environment adds to it; hypothesis with our profile while checks are made."""
    saved = dict(os.environ)
    profile = settings.get_current_profile_name()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    settings.register_profile("etude", _PROFILE)
    settings.load_profile("etude")
    try:
        yield
    finally:
        settings.load_profile(profile)
        os.environ.clear()
        os.environ.update(saved)


class _Session:
    """The pytest plugin: fixtures, the loop over subjects, and the execution of one check."""

    def __init__(self, subjects: Iterable[Subject], reference: Any, seed: int, exercises: Sequence[str] | None,
                 shrink: bool, on_checks: Callable[[list[Check]], None] | None):
        self._subjects, self._reference, self._seed = subjects, reference, seed
        self._exercises, self._shrink, self._on_checks = exercises, shrink, on_checks
        self._student: Any = None
        self._own_seed: int | None = None
        self._checks: dict[str, Check] = {}
        self._examples: dict[str, list[dict[str, Any]]] = {}
        self._outcome: Outcome | None = None
        self._said: dict[str, str] = {}
        self._example: Callable[[], None] = lambda: None
        self.error: BaseException | None = None

    @pytest.fixture
    def student(self) -> Any:
        return self._student

    @pytest.fixture
    def reference(self) -> Any:
        return self._reference

    # ------------------------------------------------------------------------------------------ hooks

    def pytest_configure(self, config: pytest.Config) -> None:
        for mark in ("exercise(id)", "points(n)", "public", "speed"):
            config.addinivalue_line("markers", mark)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and self.error is None:
            self.error = CheckFileError(crash_line(report))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        try:
            self._checks = {item.nodeid: read_marks(item) for item in items}
        except CheckFileError as error:
            self.error = error
            return
        if self._exercises is not None:
            items[:] = [item for item in items if self._checks[item.nodeid].exercise in self._exercises]
        items.sort(key=_exercise_order([self._checks[item.nodeid].exercise for item in items], self._checks))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.error is None:
            try:
                self._loop(session.items)
            except BaseException as error:  # pytest would print it and go on; the caller wants to know
                self.error = error
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.error is None and not report.passed and (report.when != "call" or self._outcome is None):
            self.error = CheckFileError(crash_line(report))

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool:
        names = pyfuncitem._fixtureinfo.argnames
        fixtures = {name: pyfuncitem.funcargs[name] for name in names}
        started = time.perf_counter()
        check = self._checks[pyfuncitem.nodeid]
        try:
            case, failure, found = self._execute(pyfuncitem, fixtures)
        except GraderFailed as error:  # before pytest makes a report of it
            self.error = error
            return True
        seconds = time.perf_counter() - started
        said = "" if failure else self._said.pop(pyfuncitem.nodeid, "")
        self._outcome = Outcome(check, failure, case, seconds, _replay(pyfuncitem, fixtures, case), found,
                                self._again(pyfuncitem, fixtures), said)
        return True

    # ------------------------------------------------------------------------------------------ the loop

    def _loop(self, items: list[pytest.Item]) -> None:
        if self._on_checks:
            self._on_checks([self._checks[item.nodeid] for item in items])
        by_exercise: dict[str, list[pytest.Item]] = {}
        # pytest tears down what the next item does not share, so it is told which one that is; after the last comes
        # the next subject's first.
        following = dict(zip(items, [*items[1:], *items[:1]], strict=True))
        for item in items:
            by_exercise.setdefault(self._checks[item.nodeid].exercise, []).append(item)
        for subject in self._subjects:
            wants = getattr(subject, "wants", lambda exercise: True)
            for exercise, group in by_exercise.items():
                if not wants(exercise):
                    continue
                # A subject may have examples of its own: `seed(exercise)`, optional too, then says from which seed.
                self._own_seed = subject.seed(exercise) if hasattr(subject, "seed") else None
                self._student = subject.student(exercise)
                outcomes = [self._run(item, following[item], subject) for item in group]
                self._student = None
                subject.finished(exercise, outcomes)

    def _run(self, item: pytest.Item, following: pytest.Item | None, subject: Subject) -> Outcome:
        check, started = self._checks[item.nodeid], time.perf_counter()
        if hasattr(subject, "begins"):
            self._student = subject.begins(check)
        if check.speed:
            outcome = Outcome(check)  # waits for `autograder bench`
        elif hasattr(subject, "passes") and subject.passes(check):
            outcome = Outcome(check, seconds=time.perf_counter() - started)
        else:
            outcome = self._run_item(item, following, subject)
        if hasattr(subject, "checked"):
            subject.checked(outcome)
        return outcome

    def _run_item(self, item: pytest.Item, following: pytest.Item | None, subject: Subject) -> Outcome:
        self._outcome = None
        self._example = getattr(subject, "example", lambda: None)
        if following is item or hasattr(subject, "passes"):
            following = None  # the last, or perhaps not run: pytest tears down all it has set up
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if self.error is not None:
            raise self.error
        assert self._outcome is not None, f"{item.nodeid} ended without an outcome"
        return self._outcome

    # ------------------------------------------------------------------------------------------ one check

    def _execute(self, item: pytest.Function, fixtures: dict[str, Any]
                 ) -> tuple[dict, BaseException | None, BaseException | None]:
        """(failing example, its failure, the failure before the example was made smaller)."""
        if not hasattr(item.obj, "hypothesis"):
            self._example()
            said: list[str] = []
            failure = _attempt(item.obj, fixtures, said)
            self._said[item.nodeid] = "".join(said)
            return {}, failure, failure
        inner = item.obj.hypothesis.inner_test
        for case in self._cases(item, fixtures):
            self._example()
            failure = _attempt(inner, {**fixtures, **case})
            if failure is not None:
                if self._shrink and not isinstance(failure, StudentStopped):
                    return *self._shrunk(item, inner, fixtures, case, failure), failure
                return case, failure, failure
        return {}, None, None

    def _again(self, item: pytest.Function, fixtures: dict[str, Any]) -> Callable[[Any], BaseException | None]:
        has_cases = hasattr(item.obj, "hypothesis")
        test = item.obj.hypothesis.inner_test if has_cases else item.obj

        def again(student: Any) -> BaseException | None:
            failures = (_attempt(test, {**fixtures, **case, "student": student})
                        for case in (self._cases(item, fixtures) if has_cases else [{}]))
            return next((failure for failure in failures if failure is not None), None)
        return again

    def _cases(self, item: pytest.Function, fixtures: dict[str, Any]) -> list[dict[str, Any]]:
        """The check's examples: its corners, then what hypothesis draws from the seed. Drawn once a session."""
        if self._own_seed is not None:
            return self._drawn(item, fixtures)
        if item.nodeid not in self._examples:
            self._examples[item.nodeid] = self._drawn(item, fixtures)
        return self._examples[item.nodeid]

    def _drawn(self, item: pytest.Function, fixtures: dict[str, Any]) -> list[dict[str, Any]]:
        drawn: list[dict[str, Any]] = []

        def collect(*args: Any, **kwargs: Any) -> None:
            drawn.append({name: value for name, value in kwargs.items() if name not in fixtures})

        self._under_hypothesis(item, collect, fixtures)
        return drawn

    def _shrunk(self, item: pytest.Function, inner: Callable, fixtures: dict[str, Any], case: dict[str, Any],
                failure: BaseException) -> tuple[dict, BaseException]:
        """The smallest failing example that can be found: of a `Case` by its own means, else by hypothesis."""
        best = [(case, failure)]
        if len(case) == 1 and isinstance(next(iter(case.values())), Case):
            self._shrink_case(inner, fixtures, best)
        else:
            self._shrink_choices(item, inner, fixtures, best)
        return best[-1]

    def _shrink_case(self, inner: Callable, fixtures: dict[str, Any], best: list[tuple[dict, BaseException]]) -> None:
        (name, case), = best[0][0].items()
        deadline = time.monotonic() + SHRINK_SECONDS

        def fails(candidate: Case) -> bool:
            error = _attempt(inner, {**fixtures, name: candidate})
            if isinstance(error, StudentStopped) or time.monotonic() > deadline:
                raise _Enough
            if error is not None:
                best.append(({name: candidate}, error))
            return error is not None

        with contextlib.suppress(_Enough):
            smallest(case, fails)

    def _shrink_choices(self, item: pytest.Function, inner: Callable, fixtures: dict[str, Any],
                        best: list[tuple[dict, BaseException]]) -> None:
        explicit = len(getattr(item.obj, "hypothesis_explicit_examples", ()))
        runs, deadline = 0, time.monotonic() + SHRINK_SECONDS

        def attempt(*args: Any, **kwargs: Any) -> None:
            nonlocal runs
            runs += 1
            if runs <= explicit:  # the corners come first and are never shrunk
                return
            if runs > explicit + SHRINK_RUNS or time.monotonic() > deadline:
                raise _Enough
            drawn = {name: value for name, value in kwargs.items() if name not in fixtures}
            error = _attempt(inner, {**fixtures, **drawn})
            if isinstance(error, StudentStopped):
                raise _Enough
            if error is not None:
                best.append((drawn, error))
                raise error

        with contextlib.suppress(_Enough, Exception):
            self._under_hypothesis(item, attempt, fixtures)

    def _under_hypothesis(self, item: pytest.Function, body: Callable, fixtures: dict[str, Any]) -> None:
        handle = item.obj.hypothesis
        original, handle.inner_test = handle.inner_test, body
        try:
            hypothesis.seed(self._seed if self._own_seed is None else self._own_seed)(item.function)
            # hypothesis inspects and may print what it is given, so it gets placeholders; `body` knows the real ones.
            item.obj(**dict.fromkeys(fixtures))
        finally:
            handle.inner_test = original


class _Enough(BaseException):
    """Ends a hypothesis run that has shrunk long enough; not an Exception, so hypothesis lets it through."""


def _replay(item: pytest.Function, fixtures: dict[str, Any], case: dict[str, Any]) -> Callable[[Any], None]:
    test = item.obj.hypothesis.inner_test if hasattr(item.obj, "hypothesis") else item.obj
    return lambda student: test(**{**fixtures, **case, "student": student})


def _attempt(test: Callable, arguments: dict[str, Any], said: list[str] | None = None) -> BaseException | None:
    try:
        result = test(**arguments)
        if said is not None and isinstance(result, str):
            said.append(result)
    except (KeyboardInterrupt, SystemExit):
        raise
    except hypothesis.errors.UnsatisfiedAssumption:
        return None
    except (Exception, pytest.fail.Exception) as error:
        return error
    return None


def _exercise_order(exercises: list[str], checks: dict[str, Check]) -> Callable[[pytest.Item], int]:
    first = {name: index for index, name in reversed(list(enumerate(exercises)))}
    return lambda item: first[checks[item.nodeid].exercise]
