"""Workers take memory from pages of their own, not from holes between what they share with the zygote."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autograder.sandbox import holes, libc

pytestmark = pytest.mark.skipif(holes._clib is None, reason="only the GNU C library tells where memory is free")

BLOCKS, SIZE = 4000, 600


def _in_a_child(act: Callable[[], int]) -> int:
    """What `act` returns, in a process of its own: this one's memory stays as it is."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(act()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return int(text)


def _make_holes() -> None:
    blocks = [holes._clib.malloc(SIZE) for _ in range(2 * BLOCKS)]
    for block in blocks[::2]:
        holes._clib.free(block)


def _pages_of_new_blocks(count: int) -> int:
    """How many pages that were there before do new blocks lie on."""
    end = holes._clib.sbrk(0) - holes._clib.mallinfo2().keepcost
    addresses = [holes._clib.malloc(SIZE) for _ in range(count)]
    return len({address // 4096 for address in addresses if address < end})


def test_new_blocks_do_not_lie_in_holes() -> None:
    def act(fill: Callable[[], None]) -> int:
        _make_holes()
        fill()
        return _pages_of_new_blocks(1000)
    assert _in_a_child(lambda: act(lambda: None)) > 100  # the negative control
    assert _in_a_child(lambda: act(holes.fill_holes)) <= 1


def crumbs() -> float:
    """The part of the free bytes that is left."""
    _make_holes()
    before = holes.free_bytes()
    holes.fill_holes()
    return holes.free_bytes() / before


def test_no_free_block_is_left_but_crumbs() -> None:
    # In a new process: it has one thread, as the zygote has, and so no heap but the first one.
    found = subprocess.run([sys.executable, "-c", "import test_holes; print(test_holes.crumbs())"], check=True,
                           cwd=Path(__file__).parent, capture_output=True, text=True)
    assert float(found.stdout) <= 0.05


def test_new_objects_come_from_fresh_pools() -> None:
    """Python's own small objects, half of which are gone."""
    def act(fill: Callable[[], None]) -> int:
        objects = [bytes(200) for _ in range(2 * BLOCKS)]
        pools = {id(one) >> 14 for one in objects}
        del objects[::2]
        fill()
        return sum(id(one) >> 14 in pools for one in [bytes(200) for _ in range(1000)])
    assert _in_a_child(lambda: act(lambda: None)) > 900  # the negative control
    assert _in_a_child(lambda: act(holes.fill_holes)) < 100


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc, "LINUX", False)
    monkeypatch.setattr(holes, "_clib", holes._library())
    assert holes._clib is None
    assert holes.free_bytes() == 0
    holes.fill_holes()
    assert holes._filling
