"""Honest code runs sealed."""
from __future__ import annotations

import pytest
from sandbox_helpers import run
from sandbox_workloads import WITH_COMPILER, WORKLOADS

from autograder.sandbox.client import Zygote


@pytest.mark.parametrize("name", [*WORKLOADS, *WITH_COMPILER])
def test_it_runs_in_a_sealed_worker(zygote: Zygote, name: str):
    with zygote.spawn() as worker:
        run(worker, (WORKLOADS | WITH_COMPILER)[name])
