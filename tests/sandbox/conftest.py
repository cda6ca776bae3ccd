"""One zygote for the whole folder: what a worker does must not matter to the next."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sandbox_helpers import ECHO, HERE, run

from autograder.sandbox.client import Worker, Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote(preload=["torch.optim"], serve=ECHO, extra_path=[HERE]) as zygote:
        yield zygote


@pytest.fixture
def worker(zygote: Zygote) -> Iterator[Worker]:
    with zygote.spawn() as worker:
        yield worker


@pytest.fixture
def linux_sealed(zygote: Zygote) -> None:
    """For tests of promises that are made only where the label is ENFORCED."""
    if not zygote.label.enforced:
        pytest.skip(f"no enforced sandbox on this machine: {dict(zygote.label.evidence)}")


@pytest.fixture
def honest(zygote: Zygote) -> Callable[[], None]:
    """Assert that a fresh worker of the same zygote does honest work."""
    def check() -> None:
        with zygote.spawn() as worker:
            assert run(worker, "import torch; result = float((torch.ones(3) * 2).sum())") == 6.0
    return check
