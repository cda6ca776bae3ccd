"""Examples that depend on the seed and the check alone, not on which modules happen to be loaded."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hypothesis.internal.conjecture import providers


@contextlib.contextmanager
def none_of_loaded_modules() -> Iterator[None]:
    """One draw in twenty of hypothesis is a constant from the text of a loaded module that is not installed.

    Check files and ours are such modules: the examples of one exercise would change with a number in another's check,
    with the units that were graded before in the same process, and with the machine. In here, none is drawn.
    """
    original = getattr(providers, "_get_local_constants", None)
    if original is None:  # another version of hypothesis: tests/lib/test_constants.py says whether it matters there
        yield
        return
    providers.CONSTANTS_CACHE.cache.clear()
    providers._get_local_constants = providers.Constants
    try:
        yield
    finally:
        providers._get_local_constants = original
        providers.CONSTANTS_CACHE.cache.clear()
