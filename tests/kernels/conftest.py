"""Kernels need Triton; where it is missing these tests say so."""
from __future__ import annotations

import pytest

from etude.kernels import NoTriton, interpret, why_not

collect_ignore = [] if not why_not() else ["test_kernel_layers.py", "test_kernel_builds.py", "test_sealed_kernels.py"]


def pytest_configure() -> None:
    """Before any test imports Triton."""
    try:
        interpret()
    except NoTriton:
        return


@pytest.fixture(autouse=True)
def _one_thread():
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
