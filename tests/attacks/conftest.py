"""Arenas, one for each user, and the usual design; each starts when first asked for and serves the whole folder."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.sandbox import seccomp

from .ring import Ring
from .usual_design import UsualDesign

HERE = Path(__file__).parent
_WAITING = "test_attacks.py"
"""The file whose tests mostly wait for the rings; everything else in this folder comes before it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let this folder's other tests run while the rings are already at it: see `rings_ahead`."""
    places = [place for place, item in enumerate(items) if HERE in item.path.parents]
    ordered = sorted((items[place] for place in places), key=lambda item: item.path.name == _WAITING)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


@pytest.fixture(scope="package", autouse=True)
def rings_ahead(request: pytest.FixtureRequest) -> None:
    """Start the rings that tests will ask for, each in a thread of its own, and on what they will ask."""
    if not seccomp.supported():
        return
    for name in ("as_started", "as_nobody"):
        params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
        fights = [(one["attack"].id, one["column"].name, False) for one in params
                  if one.get("ring") == name and "column" in one]
        if fights and (name == "as_started" or os.geteuid() == 0):
            request.getfixturevalue(name).run_ahead(list(dict.fromkeys(fights)))


@pytest.fixture(scope="package")
def as_started() -> Iterator[Ring]:
    """A grader under the user that runs the tests: the worst case where that is root."""
    with Ring() as ring:
        yield ring


@pytest.fixture(scope="package")
def as_nobody() -> Iterator[Ring]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else; the tests already run unprivileged")
    with Ring(as_nobody=True) as ring:
        yield ring


@pytest.fixture(scope="package")
def usual() -> Iterator[UsualDesign]:
    with UsualDesign() as design:
        yield design


@pytest.fixture
def ring(request: pytest.FixtureRequest) -> Ring:
    """The ring whose name the test was parametrised with."""
    if not seccomp.supported():
        pytest.skip("no system-call filter on this system: graded runs are refused here")
    return request.getfixturevalue(request.param)
