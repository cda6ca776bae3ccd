"""`autograder` with faults planted in its own process: what cannot be done to it from outside without being root.

    python faulty_grader.py '{"full_after": 20, "unreadable": ["class/s7/tiny/tiny.ipynb"], "clock": 3}' grade ...

`full_after`: so many files are synced to the disk, then it is full. `unreadable`: files that cannot be opened. `clock`:
the seed of a wall clock that jumps by years, backwards and forwards.
"""
from __future__ import annotations

import errno
import json
import os
import random
import sys
import time
from typing import Any

YEARS = 10 * 365 * 86_400


def fill_disk(after: int) -> None:
    sync, left = os.fsync, after

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)
    os.fsync = fsync


def forbid(paths: list[str]) -> None:
    opens = os.open

    def open_unless(path: Any, *arguments: Any, **options: Any) -> int:
        if path in paths:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opens(path, *arguments, **options)
    os.open = open_unless


def shake_clock(seed: int) -> None:
    dice, now, now_ns = random.Random(seed), time.time, time.time_ns
    time.time = lambda: now() + dice.uniform(-YEARS, YEARS)
    time.time_ns = lambda: now_ns() + dice.randrange(-YEARS, YEARS) * 10**9


def main() -> None:
    plans = {"full_after": fill_disk, "unreadable": forbid, "clock": shake_clock}
    for name, value in json.loads(sys.argv.pop(1)).items():
        plans[name](value)
    from autograder import cli  # after the faults: modules take functions by name
    cli.main()


if __name__ == "__main__":
    main()
