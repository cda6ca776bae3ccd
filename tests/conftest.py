"""One warm zygote for all tests that run a program in a sealed worker, and hypothesis without clock or dice."""
from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

STARTED = time.time()
# What a shell starts in the background ignores Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TRITON_INTERPRET", "1")  # before any test makes PyTorch import Triton
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The proof of the course, if it was made in this run: what `autograder verify` would have printed."""
    proof = Path(__file__).resolve().parents[1] / "results" / "proof.txt"
    if proof.exists() and proof.stat().st_mtime >= STARTED:
        terminalreporter.write_line(proof.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One browser for all tests that look at a page: Playwright starts once in a process."""
    sys.path.insert(0, str(Path(__file__).parent / "browser"))
    from lab import ARGUMENTS, CHROMIUM, NO_CHROMIUM
    if not CHROMIUM.exists():
        pytest.skip(NO_CHROMIUM)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def zygote() -> Iterator[Any]:
    """Starts when first asked for; workers that are forked from it know nothing of each other."""
    from autograder.sandbox.client import Zygote
    with Zygote() as zygote:
        yield zygote


@pytest.fixture
def sealed(zygote: Any) -> Iterator[Callable[..., Any]]:
    """`sealed(source, ...)`: the `student` of a check whose cells these are, in a sealed worker."""
    from autograder.remote.channel import SealedChannel
    from autograder.remote.student import RemoteStudent
    from autograder.sandbox.limits import Limits
    opened = []

    def open_student(*sources: str, seconds: float = 20.0) -> RemoteStudent:
        opened.append(SealedChannel(cells(*sources), lambda: zygote.spawn(Limits()), seconds, 60.0))
        return RemoteStudent(opened[-1])
    yield open_student
    for channel in opened:
        channel.close()


def cells(*sources: str) -> Sequence[dict[str, str]]:
    """A program of whole cells."""
    return [{"label": f"cell {number}", "source": source, "mode": "all"} for number, source in enumerate(sources, 1)]
