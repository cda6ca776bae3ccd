"""Arenas, one for each user, and the usual design; each starts when first asked for and serves the whole session."""
from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from autograder.sandbox import seccomp

from .ring import Ring
from .usual_design import UsualDesign


@pytest.fixture(scope="session")
def as_started() -> Iterator[Ring]:
    """A grader under the user that runs the tests: the worst case where that is root."""
    with Ring() as ring:
        yield ring


@pytest.fixture(scope="session")
def as_nobody() -> Iterator[Ring]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else; the tests already run unprivileged")
    with Ring(as_nobody=True) as ring:
        yield ring


@pytest.fixture(scope="session")
def usual() -> Iterator[UsualDesign]:
    with UsualDesign() as design:
        yield design


@pytest.fixture
def ring(request: pytest.FixtureRequest) -> Ring:
    """The ring whose name the test was parametrised with."""
    if not seccomp.supported():
        pytest.skip("no system-call filter on this system: graded runs are refused here")
    return request.getfixturevalue(request.param)
