"""A zygote whose workers are timed: `spawn` gives sealed workers that share memory with the test."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.speed.kernels import sealed_spawn


@pytest.fixture(scope="session")
def timing_zygote() -> Iterator[Any]:
    from autograder.sandbox.client import Zygote
    with Zygote(serve="autograder.speed.worker:serve") as zygote:
        yield zygote


@pytest.fixture(autouse=True)
def outside_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check files are read as the command reads them: no run of pytest's is there to know their marks."""
    monkeypatch.setattr(pytest.mark, "_config", None)


@pytest.fixture
def spawn(timing_zygote: Any) -> Any:
    return sealed_spawn(timing_zygote)
